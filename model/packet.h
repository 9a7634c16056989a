/* packet — one captured or generated frame: where its headers are, what its checksums should be, and repair.
 * Every byte is hostile. No function reads beyond caplen.
 * Source : RFC 791, 793/9293, 768, 8200, 2675 (jumbo payload), 1071 (checksum), IEEE 802.1Q
 * Checked: tests/test_packet.c, tests/test_repair.c with tests/check_repair.py (tshark), tests/fuzz/fuzz_tokens.c  */
#ifndef NSSM_PACKET_H
#define NSSM_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A packet as it was on the wire, from its Ethernet header on. data is borrowed until the next call of who gave it. */
struct nssm_pkt {
	uint64_t ts_ns;   /* since the epoch; captures in µs are multiplied */
	uint32_t wirelen; /* bytes on the wire, without FCS */
	uint32_t caplen;  /* bytes at data, <= wirelen unless the capture lies (then wirelen is raised) */
	const uint8_t *data;
};

/* Why a packet is not something a codec takes, or what a generated packet lacked. Each has a counter and a name. */
enum nssm_pkt_reason {
	NSSM_PKT_OK = 0,
	NSSM_PKT_NOT_IP,          /* ARP, LLDP, … */
	NSSM_PKT_NOT_TCP_UDP,     /* ICMP, IGMP, … */
	NSSM_PKT_FRAGMENT,        /* a later IP fragment: no transport header */
	NSSM_PKT_CUT,             /* the capture ends inside a header */
	NSSM_PKT_BAD_IP,          /* version, IHL or total length that cannot be */
	NSSM_PKT_BAD_TRANSPORT,   /* TCP data offset < 5 or beyond the packet; UDP length < 8 */
	NSSM_PKT_STRAY_TOKEN,     /* generated: a special token inside a packet's bytes */
	NSSM_PKT_SHORT,           /* generated: ended before its headers did */
	NSSM_PKT_NO_SESSION,      /* of a client beyond those that are told apart */
	NSSM_PKT_BAD_TOKEN,       /* generated: a token that the codec's grammar does not allow there */
	NSSM_PKT_ESCAPED,         /* generated: spelled byte by byte, with no rule that makes its headers good ones */
	NSSM_PKT_N_REASONS
};
const char *nssm_pkt_reason_name(int reason);
/* One line for people: what the reason means. */
const char *nssm_pkt_reason_help(int reason);

/* Where things are. Offsets from the frame's first byte. */
struct nssm_hdrs {
	uint16_t ethertype;  /* after VLAN tags */
	uint8_t n_vlan;      /* 802.1Q / 802.1ad tags */
	uint8_t ip_version;  /* 4, 6 or 0 */
	uint8_t proto;       /* IP protocol of the transport header (IPv6: after extension headers) */
	bool fragment;       /* fragment offset != 0 or more fragments */
	uint16_t l3_off, l4_off, payload_off; /* payload_off: end of the transport header */
	uint32_t ip_len;     /* bytes from l3_off to the end of the IP packet, by the header's own length field; where that is 0
	                        (segmentation offload): to the end of what was captured */
};

/* Finds the headers of an Ethernet frame: VLAN tags, IPv4 with options, IPv6 with extension headers, TCP, UDP.
 * Returns NSSM_PKT_OK when the transport header is TCP or UDP and is there whole, else why not; h is filled as far as
 * it went. */
int nssm_pkt_parse(struct nssm_hdrs *h, const uint8_t *data, uint32_t caplen);
/* The same for a frame that a model made and nobody has repaired: length fields are not compared, a fragment is taken for a
 * whole packet. NSSM_PKT_OK: [0, payload_off) are its headers. */
int nssm_pkt_walk(struct nssm_hdrs *h, const uint8_t *data, uint32_t n);

/* RFC 1071 sum of big-endian words over n bytes (odd tail padded with zero), not inverted, added to sum. */
uint32_t nssm_csum_add(uint32_t sum, const void *data, size_t n);
/* Carries added, then inverted: the number that a header's checksum field holds. */
uint16_t nssm_csum_fold(uint32_t sum);
/* TCP/UDP checksum incl. pseudo header over l4[0..l4_len), the checksum field counted as 0. UDP's 0 becomes 0xffff.
 * l3: the IP header; l4 holds its transport's header at least. */
uint16_t nssm_csum_l4(const uint8_t *l3, int ip_version, uint8_t proto, const uint8_t *l4, size_t l4_len);

/* What nssm_pkt_repair changed; bits. */
enum nssm_pkt_repair_bit {
	NSSM_REPAIR_IP_LEN = 1 << 0,      /* total length did not hold the headers */
	NSSM_REPAIR_UDP_LEN = 1 << 1,
	NSSM_REPAIR_IP_CSUM = 1 << 2,
	NSSM_REPAIR_L4_CSUM = 1 << 3,     /* nearly always, as payload is filled: not counted as a defect */
	NSSM_REPAIR_IP_OPTIONS = 1 << 4,  /* malformed option list: the rest became padding (also in IPv6 extension headers) */
	NSSM_REPAIR_TCP_OPTIONS = 1 << 5,
	NSSM_REPAIR_FRAGMENT = 1 << 6,    /* fragment bits cleared */
	NSSM_REPAIR_TCP_FLAGS = 1 << 7,   /* reserved bits cleared (TCP's and IPv4's) */
	NSSM_REPAIR_SRC_MAC = 1 << 8,     /* a source that is a group address became an individual one */
	NSSM_REPAIR_N_BITS = 9
};
const char *nssm_pkt_repair_name(int bit_idx);

/* Makes a generated frame valid in place. frame[0..n_known) are the bytes that the model made; the frame is extended to
 * the length its IP header says (at most cap bytes), the new bytes taken from fill (NULL: zeros).
 * In: n_known <= cap bytes. Out: *frame_len (may be below n_known); *repaired bits. Returns NSSM_PKT_OK or why this is not a
 * packet: the frame is then in an undefined state.
 * After it: lengths agree, header lengths and option lists are well-formed, IPv4/TCP/UDP checksums are right; UDP over IPv4
 * without a checksum (0) stays so. */
int nssm_pkt_repair(uint8_t *frame, uint32_t cap, uint32_t n_known, uint32_t *frame_len, unsigned *repaired,
	void (*fill)(void *ctx, uint8_t *dst, uint32_t n), void *fill_ctx);

/* Puts the checksums of a captured frame right: IPv4's header, TCP, UDP, ICMP, ICMPv6, in the packet that an ICMP error quotes, too.
 * What the capture or the quotation cut, fragments and UDP over IPv4 without a checksum stay as they are. Returns what was wrong: NSSM_REPAIR_IP_CSUM, NSSM_REPAIR_L4_CSUM. */
unsigned nssm_pkt_fix_csums(uint8_t *frame, uint32_t len);

/* A flow's identity without direction: the smaller (address, port) first. For counting flows. */
struct nssm_flow_key {
	uint8_t addr[2][16];
	uint16_t port[2];
	uint8_t proto, ip_version;
};
/* Returns 0 or 1: which end of the key sent this packet. Only for packets that parse gave NSSM_PKT_OK. */
int nssm_flow_key(struct nssm_flow_key *key, const struct nssm_hdrs *h, const uint8_t *data);

#endif
