/* Options of TCP and headers of codec `flow`: from absolute values to bytes. */
#include <string.h>

#include "model/flow_state.h"
#include "model/packet_impl.h"

/* --- layouts ------------------------------------------------------------------------------------------------------ */

const char *const flow_layout[FLOW_N_LAYOUTS] = {"", "NNT", "NN1", "NN2", "NN3", "NN4", "NNTNN1", "NNTNN2", "NNTNN3",
        "MPTNW", /* Linux */
        "MNWNNP", "MNNTPEE", "MNWNNTPEE", "MNWNNTNNP", "MNWPT", "MNWNNT", "MNNPNW", "MNNP", "MNNT", "MNW", "M",
        "MPT", "MPEE", "MNNTNW", "MNNTNNP", "NNTMNWNNP", "MNWPEE", "MNNTNNPNW", "MPNNNW", "NNTNNP", "NWMNNP", "MNNPNNT"};

unsigned flow_layout_values(unsigned layout, unsigned *n_edges)
{
	unsigned n = 0;
	*n_edges = 0;
	for (const char *c = flow_layout[layout]; *c != '\0'; c++) {
		n += *c == 'M' ? 2 : *c == 'W';
		if (*c >= '1' && *c <= '4')
			*n_edges = 2u * (unsigned)(*c - '0');
	}
	return n;
}

/* The letter of the option at o, and its length; 0: none of those that layouts have. */
static char letter_of(const uint8_t *o, uint32_t left, uint32_t *len)
{
	*len = 1;
	if (o[0] <= 1)
		return o[0] == 1 ? 'N' : 'E';
	*len = left > 1 ? o[1] : 0;
	if (*len > left)
		return 0;
	switch (o[0]) {
	case 2:
		return *len == 4 ? 'M' : 0;
	case 3:
		return *len == 3 ? 'W' : 0;
	case 4:
		return *len == 2 ? 'P' : 0;
	case 5:
		return *len >= 10 && *len <= 34 && (*len - 2) % 8 == 0 ? (char)('0' + (*len - 2) / 8) : 0;
	case 8:
		return *len == 10 ? 'T' : 0;
	default:
		return 0;
	}
}

unsigned flow_layout_of(const uint8_t *opt, uint32_t n)
{
	char name[41];
	uint32_t k = 0, len;
	for (uint32_t i = 0; i < n; i += len) {
		char c = letter_of(opt + i, n - i, &len);
		/* What follows an end is not looked at by anyone, but it is there. */
		if (c == 0 || (k > 0 && name[k - 1] == 'E' && c != 'E'))
			return 255;
		name[k++] = c;
	}
	name[k] = '\0';
	for (unsigned i = 0; i < FLOW_N_LAYOUTS; i++)
		if (strcmp(name, flow_layout[i]) == 0)
			return i;
	return 255;
}

const uint8_t *flow_find_ts(const uint8_t *opt, uint32_t n)
{
	for (uint32_t i = 0, len; (len = flow_option(opt + i, n - i)) > 0; i += len)
		if (opt[i] == 8 && len == 10)
			return opt + i;
	return NULL;
}

/* --- headers ------------------------------------------------------------------------------------------------------- */

static uint32_t build_link(uint8_t *out, const struct flow_pkt *p)
{
	memcpy(out, p->eth, 12);
	/* No station sends from a group's address (IEEE 802.3, section 3.2.3): the bit is what a model got wrong, or stands in a frame that
	 * is spelled as it is. */
	if (p->kind != FLOW_ETHER)
		out[6] &= 0xfe;
	memcpy(out + 12, p->vlan.tag, sizeof p->vlan.tag);
	uint32_t at = 12 + 4u * p->vlan.n;
	put16(out + at, p->ethertype);
	return at + 2;
}

static void build_arp(uint8_t *o, const struct flow_pkt *p)
{
	static const uint8_t ethernet_ip4[6] = {0, 1, 8, 0, 6, 4};
	memcpy(o, ethernet_ip4, 6);
	put16(o + 6, p->arp_op);
	for (int i = 0; i < 2; i++) {
		memcpy(o + 8 + 10 * i, p->arp_mac[i], 6);
		memcpy(o + 14 + 10 * i, p->addr[i], 4);
	}
}

static uint32_t l4_bytes(const struct flow_pkt *p)
{
	return p->kind == FLOW_TCP ? TCP_LEN + p->n_opt : p->kind == FLOW_OTHER ? 0 : 8;
}

static uint32_t build_ip4(uint8_t *o, const struct flow_pkt *p, uint32_t behind)
{
	uint32_t hlen = 20 + p->n_ipopt;
	o[0] = (uint8_t)(0x40 | hlen / 4);
	o[1] = p->tos;
	put16(o + 2, p->ip_len_bad ? p->ip_len : hlen + behind);
	put16(o + 4, p->ipid);
	put16(o + 6, p->kind == FLOW_OTHER ? p->frag : (uint32_t)p->df << 14 | (uint32_t)(p->res & 0x80) << 8);
	o[8] = p->ttl;
	o[9] = p->proto;
	put16(o + 10, 0);
	memcpy(o + 12, p->addr[0], 4);
	memcpy(o + 16, p->addr[1], 4);
	if (p->n_ipopt > 0)
		memcpy(o + 20, p->ipopt, p->n_ipopt);
	put16(o + 10, p->ip_csum_bad ? p->ip_csum : nssm_csum_fold(nssm_csum_add(0, o, hlen)));
	return hlen;
}

static uint32_t build_ip6(uint8_t *o, const struct flow_pkt *p, uint32_t behind)
{
	uint32_t ext = p->n_ipopt > 0 ? p->n_ipopt - 1 : 0;
	put32(o, 6u << 28 | (uint32_t)p->tos << 20 | (p->label & 0xfffff));
	put16(o + 4, p->ip_len_bad ? p->ip_len : ext + behind);
	o[6] = p->n_ipopt > 0 ? p->ipopt[0] : p->proto;
	o[7] = p->ttl;
	memcpy(o + 8, p->addr[0], 16);
	memcpy(o + 24, p->addr[1], 16);
	if (ext > 0)
		memcpy(o + IP6_LEN, p->ipopt + 1, ext);
	return IP6_LEN + ext;
}

static void build_l4(uint8_t *o, const struct flow_pkt *p, struct flow_built *b)
{
	uint16_t csum = p->l4_mode == FLOW_CSUM_LITERAL ? p->l4_csum : 0;
	if (p->kind == FLOW_ECHO) {
		o[0] = p->ver == 4 ? (p->dir == 0 ? 8 : 0) : p->dir == 0 ? 128 : 129;
		o[1] = 0;
		put16(o + 2, csum);
		put16(o + 4, p->port[0]);
		put16(o + 6, p->port[1]);
		b->csum = b->l4 + 2;
		return;
	}
	put16(o, p->port[0]);
	put16(o + 2, p->port[1]);
	if (p->kind == FLOW_UDP) {
		put16(o + 4, p->udp_len_bad ? p->udp_len : 8 + p->len);
		put16(o + 6, csum);
		b->csum = b->l4 + 6;
		return;
	}
	put32(o + 4, p->seq);
	put32(o + 8, p->ack);
	o[12] = (uint8_t)((TCP_LEN + p->n_opt) / 4 << 4 | (p->res & 0x0f));
	o[13] = p->flags;
	put16(o + 14, p->win);
	put16(o + 16, csum);
	put16(o + 18, p->urg);
	if (p->n_opt > 0)
		memcpy(o + 20, p->opt, p->n_opt);
	b->csum = b->l4 + 16;
}

void flow_build(uint8_t *out, const struct flow_pkt *p, struct flow_built *b)
{
	*b = (struct flow_built){.l3 = build_link(out, p)};
	uint32_t at = b->l3;
	if (p->kind == FLOW_ARP) {
		build_arp(out + at, p);
		b->hdr = b->payload = b->end = at + 28;
		return;
	}
	if (p->kind != FLOW_ETHER) {
		uint32_t behind = l4_bytes(p) + p->len;
		at += p->ver == 4 ? build_ip4(out + at, p, behind) : build_ip6(out + at, p, behind);
	}
	b->payload = at;
	if (p->kind == FLOW_ETHER || p->kind == FLOW_OTHER) {
		if (p->n_lit > 0)
			memcpy(out + at, p->lit, p->n_lit);
		b->hdr = at + p->n_lit;
	} else {
		b->l4 = at;
		build_l4(out + at, p, b);
		b->hdr = b->payload = at + l4_bytes(p);
	}
	b->end = b->payload + p->len;
}
