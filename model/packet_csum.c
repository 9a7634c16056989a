#include <string.h>

#include "model/packet.h"
#include "model/packet_impl.h"

enum { PROTO_ICMP = 1, PROTO_ICMP6 = 58 };

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

static uint32_t pseudo_header(const struct nssm_hdrs *h, const uint8_t *l3, uint32_t l4_len)
{
	if (h->proto == PROTO_ICMP)
		return 0;
	uint32_t sum = h->ip_version == 4 ? nssm_csum_add(0, l3 + 12, 8) : nssm_csum_add(0, l3 + 8, 32);
	return sum + h->proto + (l4_len >> 16) + (l4_len & 0xffff);
}

unsigned nssm_pkt_fix_csums(uint8_t *frame, uint32_t len)
{
	struct nssm_hdrs h = {0};
	unsigned fixed = 0;
	(void)nssm_pkt_parse(&h, frame, len);
	uint8_t *l3 = frame + h.l3_off;
	if (h.ip_version == 4) {
		if (len < h.l3_off + 20u)
			return 0;
		uint32_t head = 4u * (l3[0] & 15);
		if (head < 20 || len - h.l3_off < head)
			return 0;
		fixed = fix(l3 + 10, 0, l3, head, false) ? NSSM_REPAIR_IP_CSUM : 0;
		/* The parser goes no further where it finds no TCP or UDP. */
		h.l4_off = (uint16_t)(h.l3_off + head);
		h.fragment = (get16(l3 + 6) & 0x3fff) != 0;
	}
	uint32_t at = csum_at(h.proto, h.ip_version), before = (uint32_t)h.l4_off - h.l3_off;
	if (h.ip_version == 0 || h.l4_off <= h.l3_off || h.fragment || at == 0 || h.ip_len < before + at + 2)
		return fixed;
	uint32_t l4_len = h.ip_len - before;
	/* Cut, or a length that lies: what the sum covers is not there. */
	if (len - h.l3_off < h.ip_len)
		return fixed;
	uint8_t *l4 = frame + h.l4_off;
	bool udp = h.proto == PROTO_UDP;
	if (udp && h.ip_version == 4 && get16(l4 + at) == 0)
		return fixed; /* none was sent */
	if (fix(l4 + at, pseudo_header(&h, l3, l4_len), l4, l4_len, udp))
		fixed |= NSSM_REPAIR_L4_CSUM;
	return fixed;
}
