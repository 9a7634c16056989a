/* Hand-made frames for tests: bytes written out, checksums computed by scapy. */
#ifndef NSSM_TESTS_FRAMES_H
#define NSSM_TESTS_FRAMES_H

#include <stdint.h>

/* TCP SYN 192.0.2.1:4660 > 198.51.100.2:80 with MSS 1460, SACK permitted and timestamps, 74 bytes. */
static const uint8_t frame_syn[74] = {
	2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
	0x45, 0, 0, 60, 0x12, 0x34, 0x40, 0, 64, 6, 0x3c, 0x51, 192, 0, 2, 1, 198, 51, 100, 2,
	0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0xa0, 0x02, 0xff, 0xff, 0x49, 0x3b, 0, 0,
	2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7,
};

/* UDP 192.0.2.1:1000 > 198.51.100.2:53 behind a VLAN tag (id 5), payload "abcde", padded to 64 bytes with 0xee. */
static const uint8_t frame_vlan_udp[64] = {
	2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0x00, 0, 5, 0x08, 0x00,
	0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0x8e, 0x94, 192, 0, 2, 1, 198, 51, 100, 2,
	0x03, 0xe8, 0, 53, 0, 13, 0xe5, 0xb8, 'a', 'b', 'c', 'd', 'e',
	0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee,
};

/* UDP 2001:db8::1:4000 > 2001:db8::2:443 with an 8-byte hop-by-hop header, 16 bytes of payload 0..15. */
static const uint8_t frame_ip6_udp[86] = {
	2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
	0x60, 0, 0, 0, 0, 32, 0, 64, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
	0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
	17, 0, 5, 2, 0, 0, 1, 0,
	0x0f, 0xa0, 1, 0xbb, 0, 24, 0x5a, 0xae, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
};

#endif
