/* Parsing: what is found in hand-made frames, and why not in every shortened or bent one. Checksums against
 * RFC 1071. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "frames.h"
#include "model/packet.h"

static struct nssm_hdrs h;

/* On the heap, so that a sanitizer sees any byte beyond. */
static int parse(const uint8_t *frame, uint32_t n)
{
	uint8_t *copy = malloc(n ? n : 1);
	assert_non_null(copy);
	memcpy(copy, frame, n);
	int rc = nssm_pkt_parse(&h, copy, n);
	free(copy);
	return rc;
}

static int parse_with(const uint8_t *frame, uint32_t n, uint32_t at, uint8_t value)
{
	uint8_t f[128];
	memcpy(f, frame, n);
	f[at] = value;
	return parse(f, n);
}

static void finds_headers(void **state)
{
	assert_int_equal(parse(frame_syn, sizeof frame_syn), NSSM_PKT_OK);
	assert_int_equal(h.l3_off, 14);
	assert_int_equal(h.l4_off, 34);
	assert_int_equal(h.payload_off, 74);
	assert_int_equal(h.ip_len, 60);
	assert_int_equal(h.proto, 6);
	assert_false(h.fragment);

	assert_int_equal(parse(frame_vlan_udp, sizeof frame_vlan_udp), NSSM_PKT_OK);
	assert_int_equal(h.n_vlan, 1);
	assert_int_equal(h.ethertype, 0x0800);
	assert_int_equal(h.l3_off, 18);
	assert_int_equal(h.payload_off, 46);
	assert_int_equal(h.ip_len, 33);

	assert_int_equal(parse(frame_ip6_udp, sizeof frame_ip6_udp), NSSM_PKT_OK);
	assert_int_equal(h.ip_version, 6);
	assert_int_equal(h.l4_off, 62);
	assert_int_equal(h.payload_off, 70);
	assert_int_equal(h.ip_len, 72);
}

static void every_cut_is_told(void **state)
{
	for (uint32_t n = 0; n < 74; n++)
		assert_int_equal(parse(frame_syn, n), NSSM_PKT_CUT);
	for (uint32_t n = 0; n < 46; n++)
		assert_int_equal(parse(frame_vlan_udp, n), NSSM_PKT_CUT);
	for (uint32_t n = 0; n < 70; n++)
		assert_int_equal(parse(frame_ip6_udp, n), NSSM_PKT_CUT);
	assert_int_equal(parse(frame_ip6_udp, 70), NSSM_PKT_OK);
}

static void says_why_not(void **state)
{
	const uint8_t *f = frame_syn;
	uint32_t n = sizeof frame_syn;
	assert_int_equal(parse_with(f, n, 13, 0x06), NSSM_PKT_NOT_IP);      /* ARP */
	assert_int_equal(parse_with(f, n, 12, 0x00), NSSM_PKT_NOT_IP);      /* 802.3 length */
	assert_int_equal(parse_with(f, n, 14, 0x65), NSSM_PKT_BAD_IP);      /* IPv6 under IPv4's type */
	assert_int_equal(parse_with(f, n, 14, 0x44), NSSM_PKT_BAD_IP);      /* header of 16 bytes */
	assert_int_equal(parse_with(f, n, 17, 19), NSSM_PKT_BAD_IP);        /* shorter than its header */
	assert_int_equal(parse_with(f, n, 17, 59), NSSM_PKT_BAD_TRANSPORT); /* shorter than TCP's */
	assert_int_equal(parse_with(f, n, 23, 1), NSSM_PKT_NOT_TCP_UDP);
	assert_int_equal(parse_with(f, n, 21, 1), NSSM_PKT_FRAGMENT);
	assert_int_equal(parse_with(f, n, 46, 0x40), NSSM_PKT_BAD_TRANSPORT);
	assert_int_equal(
	        parse_with(f, n, 46, 0xf0), NSSM_PKT_BAD_TRANSPORT); /* 60 bytes in an IP packet for 40 */

	assert_int_equal(parse_with(f, n, 20, 0x20), NSSM_PKT_OK); /* first fragment */
	assert_true(h.fragment);
	assert_int_equal(parse_with(f, n, 17, 0), NSSM_PKT_OK); /* segmentation offload: length 0 */
	assert_int_equal(h.ip_len, 60);

	assert_int_equal(parse_with(frame_vlan_udp, sizeof frame_vlan_udp, 43, 7), NSSM_PKT_BAD_TRANSPORT);
	assert_int_equal(parse_with(frame_ip6_udp, sizeof frame_ip6_udp, 54, 58), NSSM_PKT_NOT_TCP_UDP);
	assert_int_equal(parse_with(frame_ip6_udp, sizeof frame_ip6_udp, 19, 7), NSSM_PKT_BAD_IP);
	assert_int_equal(parse_with(frame_ip6_udp, sizeof frame_ip6_udp, 55, 255), NSSM_PKT_BAD_IP);
	for (int r = 0; r < NSSM_PKT_N_REASONS; r++) {
		assert_true(strlen(nssm_pkt_reason_name(r)) > 0);
		assert_true(strlen(nssm_pkt_reason_help(r)) > 0);
	}
	assert_string_equal(nssm_pkt_reason_name(99), "unknown");
	assert_string_equal(nssm_pkt_repair_name(-1), "unknown");
}

static void vlan_stacks_are_bounded(void **state)
{
	uint8_t f[14 + 9 * 4 + 60] = {0};
	for (uint32_t tags = 0; tags <= 9; tags++) {
		memcpy(f, frame_syn, 12);
		for (uint32_t i = 0; i < tags; i++) {
			memcpy(f + 12 + 4 * i, i % 2 ? "\x88\xa8\0\1" : "\x81\0\0\1", 4);
		}
		memcpy(f + 12 + 4 * tags, frame_syn + 12, 62);
		int rc = parse(f, 74 + 4 * tags);
		assert_int_equal(rc, tags <= 8 ? NSSM_PKT_OK : NSSM_PKT_NOT_IP);
		if (rc == NSSM_PKT_OK)
			assert_int_equal(h.n_vlan, tags);
	}
}

static void ipv6_fragments_and_jumbo(void **state)
{
	uint8_t f[128];
	memcpy(f, frame_ip6_udp, sizeof frame_ip6_udp);
	f[20] = 44; /* the 8 bytes after the header are a fragment header: next 17, offset in bytes 2-3 */
	f[56] = 0;
	f[57] = 1; /* first fragment, more follow */
	assert_int_equal(parse(f, 86), NSSM_PKT_OK);
	assert_true(h.fragment);
	f[57] = 8;
	assert_int_equal(parse(f, 86), NSSM_PKT_FRAGMENT);

	memcpy(f, frame_ip6_udp, sizeof frame_ip6_udp);
	f[18] = f[19] = 0;
	memcpy(f + 54, "\x11\x00\xc2\x04\x00\x01\x00\x20", 8); /* jumbo payload, 65568 bytes */
	f[66] = f[67] = 0;
	assert_int_equal(parse(f, 86), NSSM_PKT_OK);
	assert_int_equal(h.ip_len, 40 + 65568);
	memcpy(f + 54, "\x11\x00\xc2\x04\xff\xff\xff\xff", 8);
	assert_int_equal(parse(f, 86), NSSM_PKT_OK);
	assert_true(h.ip_len == UINT32_MAX);
}

/* The definition: 16-bit words, end-around carry. */
static uint16_t slow_csum(const uint8_t *p, size_t n)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void checksums_are_right(void **state)
{
	/* RFC 1071, section 3: sum of these words is ddf2. */
	const uint8_t rfc[8] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
	assert_int_equal(nssm_csum_fold(nssm_csum_add(0, rfc, 8)), 0xffff & ~0xddf2);
	struct nssm_rng rng;
	nssm_rng_init(&rng, 3, 0, 0);
	uint8_t buf[1600];
	for (uint32_t n = 0; n < 300; n++) {
		nssm_rng_bytes(&rng, buf, sizeof buf);
		if (n % 3 == 0)
			memset(buf, n % 2 ? 0xff : 0, sizeof buf);
		uint32_t at = n % 7, len = n * 5;
		assert_int_equal(nssm_csum_fold(nssm_csum_add(0, buf + at, len)), slow_csum(buf + at, len));
		uint32_t half = len / 2 & ~1u; /* in two calls */
		uint32_t sum = nssm_csum_add(nssm_csum_add(0, buf, half), buf + half, len - half);
		assert_int_equal(nssm_csum_fold(sum), slow_csum(buf, len));
	}
	assert_int_equal(nssm_csum_l4(frame_syn + 14, 4, 6, frame_syn + 34, 40), 0x493b);
	assert_int_equal(nssm_csum_l4(frame_vlan_udp + 18, 4, 17, frame_vlan_udp + 38, 13), 0xe5b8);
	assert_int_equal(nssm_csum_l4(frame_ip6_udp + 14, 6, 17, frame_ip6_udp + 62, 24), 0x5aae);
}

static void flow_keys_have_no_direction(void **state)
{
	struct nssm_flow_key a, b;
	uint8_t back[74];
	memcpy(back, frame_syn, 74);
	memcpy(back + 26, frame_syn + 30, 4);
	memcpy(back + 30, frame_syn + 26, 4);
	memcpy(back + 34, frame_syn + 36, 2);
	memcpy(back + 36, frame_syn + 34, 2);
	assert_int_equal(parse(frame_syn, 74), NSSM_PKT_OK);
	int from = nssm_flow_key(&a, &h, frame_syn);
	assert_int_equal(parse(back, 74), NSSM_PKT_OK);
	assert_int_equal(nssm_flow_key(&b, &h, back), !from);
	assert_memory_equal(&a, &b, sizeof a);
	assert_int_equal(a.port[from], 4660);
	assert_int_equal(a.port[!from], 80);
	back[37]++;
	assert_int_equal(parse(back, 74), NSSM_PKT_OK);
	nssm_flow_key(&b, &h, back);
	assert_memory_not_equal(&a, &b, sizeof a);
}

static void random_bytes_stay_inside(void **state)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 11, 0, 0);
	int taken = 0;
	for (int i = 0; i < 200000; i++) {
		uint8_t f[86];
		uint32_t kind = nssm_rng_below(&rng, 3);
		const uint8_t *base = kind == 0 ? frame_syn : kind == 1 ? frame_vlan_udp : frame_ip6_udp;
		uint32_t n = kind == 0 ? 74 : kind == 1 ? 64 : 86;
		memcpy(f, base, n);
		for (uint32_t k = nssm_rng_below(&rng, 8); k > 0; k--)
			f[nssm_rng_below(&rng, n)] = (uint8_t)nssm_rng_u32(&rng);
		n = nssm_rng_below(&rng, 4) ? n : nssm_rng_below(&rng, n);
		if (parse(f, n) == NSSM_PKT_OK) {
			taken++;
			assert_true(h.l3_off < h.l4_off && h.l4_off < h.payload_off && h.payload_off <= n);
			assert_true(h.ip_len >= (uint32_t)h.payload_off - h.l3_off);
		}
	}
	assert_true(taken > 1000);
}

/* Every good frame stays; every spoilt checksum comes back, whatever else is around it. */
static void checksums_are_put_right(void **state)
{
	static const struct {
		const uint8_t *frame;
		uint32_t len, ip_at, l4_at, end; /* end: of the IP packet; padding may follow */
	} c[] = {{frame_syn, sizeof frame_syn, 24, 50, 74},
	        {frame_vlan_udp, sizeof frame_vlan_udp, 28, 44, 51},
	        {frame_ip6_udp, sizeof frame_ip6_udp, 0, 68, 86},
	        {frame_solicit, sizeof frame_solicit, 0, 56, 86},
	        {frame_advert, sizeof frame_advert, 0, 56, 86}};
	for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
		uint8_t f[100];
		memcpy(f, c[i].frame, c[i].len);
		assert_int_equal(nssm_pkt_fix_csums(f, c[i].len), 0);
		f[c[i].l4_at + 1] ^= 0x55;
		assert_int_equal(nssm_pkt_fix_csums(f, c[i].len), NSSM_REPAIR_L4_CSUM);
		assert_memory_equal(f, c[i].frame, c[i].len);
		if (c[i].ip_at != 0) {
			f[c[i].ip_at] ^= 0x80;
			assert_int_equal(nssm_pkt_fix_csums(f, c[i].len), NSSM_REPAIR_IP_CSUM);
			assert_memory_equal(f, c[i].frame, c[i].len);
		}
		/* Cut: the transport's sum cannot be known; nothing behind the cut is read. */
		for (uint32_t n = 0; n < c[i].end; n++) {
			uint8_t *cut = malloc(n > 0 ? n : 1);
			assert_non_null(cut);
			memcpy(cut, c[i].frame, n);
			if (n > c[i].l4_at + 1)
				cut[c[i].l4_at] ^= 1;
			assert_int_equal(nssm_pkt_fix_csums(cut, n) & NSSM_REPAIR_L4_CSUM, 0);
			free(cut);
		}
	}
	/* UDP over IPv4 may go without; an ICMP echo: type 8, all else 0, so that the sum is ~0x0800. */
	uint8_t f[64];
	memcpy(f, frame_vlan_udp, sizeof frame_vlan_udp);
	f[44] = f[45] = 0;
	assert_int_equal(nssm_pkt_fix_csums(f, sizeof frame_vlan_udp), 0);
	uint8_t echo[42] = {[12] = 8, [14] = 0x45, [17] = 28, [22] = 64, [23] = 1, [26] = 10, [30] = 11, [34] = 8};
	assert_int_equal(nssm_pkt_fix_csums(echo, sizeof echo), NSSM_REPAIR_IP_CSUM | NSSM_REPAIR_L4_CSUM);
	assert_true(echo[36] == 0xf7 && echo[37] == 0xff);
	assert_int_equal(nssm_pkt_fix_csums(echo, sizeof echo), 0);
	echo[20] = 0x20; /* a fragment's sum covers what is elsewhere */
	echo[36] = 0;
	assert_int_equal(nssm_pkt_fix_csums(echo, sizeof echo), NSSM_REPAIR_IP_CSUM);
}

/* An ICMP error that quotes the first n bytes of the packet in inner[14..): its length. */
static uint32_t error_about(uint8_t f[160], const uint8_t *inner, uint32_t n)
{
	bool v6 = inner[14] >> 4 == 6;
	uint32_t l4 = v6 ? 54 : 34;
	memset(f, 0, 160);
	memcpy(f, inner, l4); /* an IP header like that of the packet */
	if (v6) {
		f[18] = 0;
		f[19] = (uint8_t)(8 + n);
		f[20] = 58;
	} else {
		f[16] = 0;
		f[17] = (uint8_t)(20 + 8 + n);
		f[23] = 1;
	}
	f[l4] = v6 ? 1 : 3;
	memcpy(f + l4 + 8, inner + 14, n);
	return l4 + 8 + n;
}

/* The sender of an error quotes what it got; where that came from itself, offloading had left its sum for later. */
static void quoted_checksums_are_put_right(void **state)
{
	static const struct {
		const uint8_t *frame;
		uint32_t len, csum_at;        /* of the packet */
		uint32_t l4, length_at, unit; /* of the error: its ICMP header, RFC 4884's length in it */
	} c[] = {{frame_syn, 74, 50, 34, 5, 4}, {frame_solicit, 86, 56, 54, 4, 8}};
	for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
		uint8_t f[160], good[160];
		uint32_t n = c[i].len - 14, at = c[i].l4 + 8 + c[i].csum_at - 14;
		uint32_t len = error_about(f, c[i].frame, n);
		assert_int_not_equal(nssm_pkt_fix_csums(f, len), 0);
		assert_memory_equal(f + c[i].l4 + 8, c[i].frame + 14, n);
		memcpy(good, f, len);
		assert_int_equal(nssm_pkt_fix_csums(f, len), 0);
		f[at] ^= 0x55;
		assert_int_equal(nssm_pkt_fix_csums(f, len), NSSM_REPAIR_L4_CSUM);
		assert_memory_equal(f, good, len);
		/* Behind a packet that is there whole may stand more. */
		f[c[i].l4 + c[i].length_at] = (uint8_t)((n + c[i].unit - 1) / c[i].unit);
		f[at] ^= 0x55;
		assert_int_equal(nssm_pkt_fix_csums(f, len), NSSM_REPAIR_L4_CSUM);
		assert_int_equal(f[at], good[at]);
		/* One that is cut, by that length or by the error's end, keeps what it has; only the error's own sum covers it. */
		f[c[i].l4 + c[i].length_at] = (uint8_t)((n - 1) / c[i].unit);
		f[at] ^= 0x55;
		assert_int_equal(nssm_pkt_fix_csums(f, len), NSSM_REPAIR_L4_CSUM);
		assert_int_equal(f[at], good[at] ^ 0x55);
		assert_int_equal(nssm_pkt_fix_csums(f, len), 0);
		for (uint32_t k = 0; k < n; k++) {
			uint32_t cut = error_about(f, c[i].frame, k);
			uint8_t *heap = malloc(cut);
			assert_non_null(heap);
			if (at + 1 < cut)
				f[at] ^= 0x55;
			memcpy(heap, f, cut);
			(void)nssm_pkt_fix_csums(heap, cut);
			assert_int_equal(nssm_pkt_fix_csums(heap, cut), 0);
			assert_memory_equal(heap + c[i].l4 + 8, f + c[i].l4 + 8, k);
			free(heap);
		}
	}
	/* IPv4's header has a sum of its own. */
	uint8_t f[160];
	uint32_t len = error_about(f, frame_syn, 20);
	f[42 + 10] ^= 0x80;
	assert_int_not_equal(nssm_pkt_fix_csums(f, len) & NSSM_REPAIR_IP_CSUM, 0);
	assert_memory_equal(f + 42, frame_syn + 14, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(finds_headers),
	        cmocka_unit_test(every_cut_is_told),
	        cmocka_unit_test(says_why_not),
	        cmocka_unit_test(vlan_stacks_are_bounded),
	        cmocka_unit_test(ipv6_fragments_and_jumbo),
	        cmocka_unit_test(checksums_are_right),
	        cmocka_unit_test(flow_keys_have_no_direction),
	        cmocka_unit_test(random_bytes_stay_inside),
	        cmocka_unit_test(checksums_are_put_right),
	        cmocka_unit_test(quoted_checksums_are_put_right),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
