#include <string.h>

#include "model/packet.h"
#include "model/packet_impl.h"

#define ICMP_LEN 8u

/* Where the transport's checksum stands; 0: it has none that is known. */
static uint32_t csum_at(uint8_t proto, int ip_version)
{
	if (proto == PROTO_TCP)
		return 16;
	if (proto == PROTO_UDP)
		return 6;
	return (proto == PROTO_ICMP && ip_version == 4) || (proto == PROTO_ICMP6 && ip_version == 6) ? 2 : 0;
}

/* True: it was another. The field counts as 0 in the sum. */
static bool fix(uint8_t *field, uint32_t sum, const uint8_t *data, uint32_t n, bool udp)
{
	uint32_t was = get16(field);
	put16(field, 0);
	uint16_t want = nssm_csum_fold(nssm_csum_add(sum, data, n));
	put16(field, udp && want == 0 ? 0xffff : want);
	return get16(field) != was;
}

/* How much of an ICMP message of n bytes is a packet that it quotes, from its 9th byte on; 0: it is no error. What may follow the
 * packet is told by a length in words (RFC 4884, section 4). */
static uint32_t quoted_len(const uint8_t *icmp, uint32_t n, int ip_version)
{
	enum { UNREACHABLE = 3, QUENCH = 4, REDIRECT = 5, EXCEEDED = 11, PROBLEM = 12 };
	enum { UNREACHABLE6 = 1, EXCEEDED6 = 3 };
	uint8_t type = icmp[0];
	uint32_t told = 0;
	bool error;
	if (ip_version == 4) {
		bool extensible = type == UNREACHABLE || type == EXCEEDED || type == PROBLEM;
		error = extensible || type == QUENCH || type == REDIRECT;
		told = extensible ? 4u * icmp[5] : 0;
	} else {
		error = type < 128;
		told = type == UNREACHABLE6 || type == EXCEEDED6 ? 8u * icmp[4] : 0;
	}
	if (!error)
		return 0;
	return told != 0 && told < n - ICMP_LEN ? told : n - ICMP_LEN;
}

static unsigned fix_quoted(uint8_t *ip, uint32_t n);

/* data[0..n) holds the packet from h->l3_off on, whose transport begins at h->l4_off; IPv4's is found here. */
static unsigned fix_packet(struct nssm_hdrs *h, uint8_t *data, uint32_t n, bool quoted)
{
	uint8_t *l3 = data + h->l3_off;
	unsigned fixed = 0;
	if (h->ip_version == 4) {
		if (n < h->l3_off + 20u)
			return 0;
		uint32_t head = 4u * (l3[0] & 15);
		if (head < 20 || n - h->l3_off < head)
			return 0;
		fixed = fix(l3 + 10, 0, l3, head, false) ? NSSM_REPAIR_IP_CSUM : 0;
		/* The parser goes no further where it finds no TCP or UDP. */
		h->l4_off = (uint16_t)(h->l3_off + head);
		h->fragment = (get16(l3 + 6) & 0x3fff) != 0;
	}
	uint32_t at = csum_at(h->proto, h->ip_version), before = (uint32_t)h->l4_off - h->l3_off;
	if (h->ip_version == 0 || h->l4_off <= h->l3_off || h->fragment || at == 0 ||
	        h->ip_len < before + at + 2)
		return fixed;
	uint32_t l4_len = h->ip_len - before;
	/* Cut, or a length that lies: what the sum covers is not there. */
	if (n - h->l3_off < h->ip_len)
		return fixed;
	uint8_t *l4 = data + h->l4_off;
	bool udp = h->proto == PROTO_UDP, icmp = h->proto == PROTO_ICMP || h->proto == PROTO_ICMP6;
	if (udp && h->ip_version == 4 && get16(l4 + at) == 0)
		return fixed; /* none was sent */
	/* Before the sum that covers it. */
	if (icmp && !quoted && l4_len > ICMP_LEN)
		fixed |= fix_quoted(l4 + ICMP_LEN, quoted_len(l4, l4_len, h->ip_version));
	if (fix(l4 + at, csum_pseudo(l3, h->ip_version, h->proto, l4_len), l4, l4_len, udp))
		fixed |= NSSM_REPAIR_L4_CSUM;
	return fixed;
}

/* The first n bytes of a packet. Behind IPv6's extension headers nothing is looked for. */
static unsigned fix_quoted(uint8_t *ip, uint32_t n)
{
	struct nssm_hdrs h = {0};
	if (n >= 20 && ip[0] >> 4 == 4)
		h = (struct nssm_hdrs){.ip_version = 4, .proto = ip[9], .ip_len = get16(ip + 2)};
	else if (n >= IP6_LEN && ip[0] >> 4 == 6)
		h = (struct nssm_hdrs){.ip_version = 6,
		        .proto = ip[6],
		        .ip_len = IP6_LEN + get16(ip + 4),
		        .l4_off = IP6_LEN};
	return fix_packet(&h, ip, n, true);
}

unsigned nssm_pkt_fix_csums(uint8_t *frame, uint32_t len)
{
	struct nssm_hdrs h = {0};
	(void)nssm_pkt_parse(&h, frame, len);
	return fix_packet(&h, frame, len, false);
}
