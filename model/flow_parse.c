/* A frame to absolute values: the first half of the `flow` codec's encoder. */
#include "model/flow_parse.h"

#include <string.h>

#include "model/flow_grammar.h"
#include "model/packet_impl.h"

/* Literal bytes behind a header: of a protocol that has messages of its own, of another, of a frame that is no IP. */
#define LIT_ICMP  128u
#define LIT_IP    64u
#define LIT_FRAME 16u
#define TRAILER_BYTES 64u

/* --- from the frame to values ---------------------------------------------------------------------------------------------- */

struct view {
	const uint8_t *d; /* headers, zero-extended if need be */
	uint32_t have;    /* bytes at d */
	uint32_t l3;
};

static bool is_tag(uint32_t type)
{
	return type == 0x8100 || type == 0x88a8 || type == 0x9100;
}

static void parse_link(struct flow_pkt *p, struct view *v)
{
	uint32_t at = 12;
	memcpy(p->eth, v->d, 12);
	while (p->vlan.n < 4 && is_tag(get16(v->d + at)) && at + 6 <= v->have) {
		memcpy(p->vlan.tag + 4 * p->vlan.n++, v->d + at, 4);
		at += 4;
	}
	p->ethertype = (uint16_t)get16(v->d + at);
	v->l3 = at + 2;
}

/* What the capture cut before the Ethernet type, or inside of TCP's options, is taken for zeros. */
#define CUT_MAX (14u + 16 + IP6_LEN + 60)

static void extend(struct flow_parser *e, struct view *v)
{
	memcpy(e->hdr, v->d, v->have);
	memset(e->hdr + v->have, 0, CUT_MAX + 60);
	v->d = e->hdr;
	v->have = v->have < 14 ? 14 : v->have;
}

static void extend_options(const struct flow_pkt *p, struct view *v)
{
	const uint8_t *ip = v->d + v->l3;
	bool tcp4 = p->ethertype == 0x0800 && ip[9] == PROTO_TCP, tcp6 = p->ethertype == 0x86dd && ip[6] == PROTO_TCP;
	uint32_t l4 = v->l3 + (tcp6 ? IP6_LEN : (ip[0] & 15u) * 4);
	if ((tcp4 || tcp6) && l4 <= CUT_MAX - 60 && v->have >= l4 + TCP_LEN && v->have < l4 + (v->d[l4 + 12] >> 4) * 4u)
		v->have = l4 + (v->d[l4 + 12] >> 4) * 4u;
}

static bool parse_arp(struct flow_pkt *p, const struct view *v)
{
	const uint8_t *o = v->d + v->l3;
	if (v->have < v->l3 + 28 || memcmp(o, "\0\1\10\0\6\4", 6) != 0)
		return false;
	p->kind = FLOW_ARP;
	p->ver = 4;
	p->arp_op = (uint16_t)get16(o + 6);
	for (int i = 0; i < 2; i++) {
		memcpy(p->arp_mac[i], o + 8 + 10 * i, 6);
		p->addr[i] = o + 14 + 10 * i;
	}
	return true;
}

/* *l4: where the transport begins; *end: of the IP packet, as far as its own length can be true. */
static bool parse_ip4(struct flow_pkt *p, const struct view *v, uint32_t *l4)
{
	const uint8_t *o = v->d + v->l3;
	if (v->have < v->l3 + 20 || o[0] >> 4 != 4 || (o[0] & 15) < 5)
		return false;
	uint32_t hlen = (o[0] & 15u) * 4, frag = get16(o + 6);
	if (v->have < v->l3 + hlen)
		return false;
	*l4 = v->l3 + hlen;
	p->ver = 4;
	p->tos = o[1];
	p->ip_len = (uint16_t)get16(o + 2);
	p->ipid = (uint16_t)get16(o + 4);
	p->frag = (uint16_t)frag;
	p->df = (frag & 0x4000) != 0;
	p->res |= (uint8_t)(frag >> 8 & 0x80);
	p->ttl = o[8];
	p->proto = o[9];
	p->ip_csum = (uint16_t)get16(o + 10);
	p->addr[0] = o + 12;
	p->addr[1] = o + 16;
	p->ipopt = o + 20;
	p->n_ipopt = hlen - 20;
	/* A header whose sum is right adds up to nothing. */
	p->ip_csum_bad = nssm_csum_fold(nssm_csum_add(0, o, hlen)) != 0 || p->ip_csum == 0xffff;
	return true;
}

static bool is_ext(uint8_t proto)
{
	return proto == PROTO_HBH || proto == PROTO_ROUTE || proto == PROTO_DEST;
}

static bool parse_ip6(struct flow_parser *e, struct flow_pkt *p, const struct view *v, uint32_t *l4)
{
	const uint8_t *o = v->d + v->l3;
	if (v->have < v->l3 + IP6_LEN || o[0] >> 4 != 6)
		return false;
	uint32_t first = get32(o), n = 0;
	p->ver = 6;
	p->tos = (uint8_t)(first >> 20);
	p->label = first & 0xfffff;
	p->ip_len = (uint16_t)get16(o + 4);
	p->proto = o[6];
	p->ttl = o[7];
	p->addr[0] = o + 8;
	p->addr[1] = o + 24;
	while (is_ext(p->proto)) {
		const uint8_t *x = o + IP6_LEN + n;
		if (v->have < v->l3 + IP6_LEN + n + 8)
			return false;
		uint32_t len = (x[1] + 1u) * 8;
		if (n + len >= FLOW_IPOPT_MAX - 4 || v->have < v->l3 + IP6_LEN + n + len)
			return false;
		p->proto = x[0];
		n += len;
	}
	if (n > 0) {
		e->ext[0] = o[6];
		memcpy(e->ext + 1, o + IP6_LEN, n);
		p->ipopt = e->ext;
		p->n_ipopt = n + 1;
	}
	*l4 = v->l3 + IP6_LEN + n;
	return true;
}

/* The transport header; false: none that there is a rule for. */
static bool parse_l4(struct flow_pkt *p, const struct view *v, uint32_t l4, uint32_t *hdr)
{
	const uint8_t *o = v->d + l4;
	uint32_t have = v->have - l4;
	if (p->proto == PROTO_TCP && have >= TCP_LEN) {
		uint32_t hlen = (o[12] >> 4) * 4u;
		if (hlen < TCP_LEN || hlen > have)
			return false;
		p->kind = FLOW_TCP;
		p->seq = get32(o + 4);
		p->ack = get32(o + 8);
		p->res |= o[12] & 0x0f;
		p->flags = o[13];
		p->win = (uint16_t)get16(o + 14);
		p->l4_csum = (uint16_t)get16(o + 16);
		p->urg = (uint16_t)get16(o + 18);
		p->opt = o + 20;
		p->n_opt = hlen - 20;
		*hdr = hlen;
	} else if (p->proto == PROTO_UDP && have >= UDP_LEN) {
		p->kind = FLOW_UDP;
		p->udp_len = (uint16_t)get16(o + 4);
		p->l4_csum = (uint16_t)get16(o + 6);
		*hdr = UDP_LEN;
	} else if (p->proto == (p->ver == 4 ? PROTO_ICMP : PROTO_ICMP6) && have >= 8 && o[1] == 0) {
		unsigned request = p->ver == 4 ? 8 : 128, reply = p->ver == 4 ? 0 : 129;
		if (o[0] != request && o[0] != reply)
			return false;
		p->kind = FLOW_ECHO;
		p->dir = o[0] == reply;
		p->l4_csum = (uint16_t)get16(o + 2);
		p->port[0] = (uint16_t)get16(o + 4);
		p->port[1] = (uint16_t)get16(o + 6);
		*hdr = 8;
		return true;
	} else {
		return false;
	}
	p->port[0] = (uint16_t)get16(o);
	p->port[1] = (uint16_t)get16(o + 2);
	return true;
}

/* Length on the wire behind `hdr` bytes from l3 on, from the IP header's own length where that can be. */
static void parse_len(struct flow_pkt *p, uint32_t l3, uint32_t hdr)
{
	uint32_t said = p->ver == 4 ? p->ip_len : IP6_LEN + p->ip_len;
	p->ip_len_bad = said < hdr || (p->ver == 6 && p->ip_len == 0);
	if (!p->ip_len_bad)
		p->len = said - hdr;
	else
		p->len = p->wirelen > l3 + hdr ? p->wirelen - l3 - hdr : 0;
}

static void literal(struct flow_parser *e, struct flow_pkt *p, const struct nssm_pkt *in, uint32_t at, uint32_t most)
{
	uint32_t have = in->caplen > at ? in->caplen - at : 0;
	if (e->cfg->payload == NSSM_PAYLOAD_FULL)
		most = UINT32_MAX;
	p->lit = in->data + at;
	p->n_lit = e->cfg->identity == NSSM_IDENTITY_POOL ? 0 : have < most ? have : most;
	p->n_lit = p->n_lit < p->len ? p->n_lit : p->len;
}

/* A checksum of what was cut by the capture is taken for right; not so where the wire had no more. */
static void check_l4(struct flow_pkt *p, const struct view *v, uint32_t l4, uint32_t payload, uint32_t hdr, const struct nssm_pkt *in)
{
	uint32_t n = hdr + p->len;
	if (in->caplen < l4 + n || in->caplen < payload) {
		bool cut = in->caplen < in->wirelen;
		p->l4_mode = p->l4_csum == 0 && p->kind == FLOW_UDP ? FLOW_CSUM_ZERO : cut ? FLOW_CSUM_RIGHT : FLOW_CSUM_LITERAL;
		return;
	}
	const uint8_t *o = in->data + l4;
	uint32_t pseudo = csum_pseudo(v->d + v->l3, p->ver, p->proto, n);
	if (p->l4_csum == 0 && p->kind == FLOW_UDP) {
		p->l4_mode = FLOW_CSUM_ZERO;
	} else if (nssm_csum_fold(nssm_csum_add(pseudo, o, n)) == 0 && (p->kind == FLOW_UDP || p->l4_csum != 0xffff)) {
		p->l4_mode = FLOW_CSUM_RIGHT;
	} else if (p->l4_csum == 0) {
		p->l4_mode = FLOW_CSUM_ZERO;
	} else {
		p->l4_mode = nssm_csum_fold(pseudo) + (uint32_t)p->l4_csum == 0xffff ? FLOW_CSUM_PARTIAL : FLOW_CSUM_LITERAL;
	}
}

static bool parse_ip(struct flow_parser *e, struct flow_pkt *p, struct view *v, const struct nssm_pkt *in)
{
	uint32_t l4 = 0, hdr = 0;
	if (p->ethertype == 0x0800 ? !parse_ip4(p, v, &l4) : !parse_ip6(e, p, v, &l4))
		return false;
	bool fragment = p->ver == 4 && (p->frag & 0x3fff) != 0;
	if (!fragment && parse_l4(p, v, l4, &hdr) && !(p->kind == FLOW_ECHO && p->dir == 1 && flow_of(e->state, p) == NULL)) {
		parse_len(p, v->l3, l4 + hdr - v->l3);
		p->udp_len_bad = p->kind == FLOW_UDP && p->udp_len != (uint16_t)(8 + p->len);
		check_l4(p, v, l4, l4 + hdr, hdr, in);
		uint32_t at = l4 + hdr, have = in->caplen > at ? in->caplen - at : 0;
		p->prefix = in->data + at;
		p->n_prefix = flow_payload_kept(e->cfg, p->kind, p->len, have);
		return true;
	}
	p->kind = FLOW_OTHER;
	p->dir = 0;
	p->res = 0;
	parse_len(p, v->l3, l4 - v->l3);
	bool later = fragment && (p->frag & 0x1fff) != 0;
	literal(e, p, in, l4, later ? 0 : p->proto == PROTO_ICMP || p->proto == PROTO_ICMP6 || p->proto == 2 ? LIT_ICMP : LIT_IP);
	return true;
}

/* What is left of the frame behind the IP packet. */
static void parse_trailer(const struct flow_parser *e, struct flow_pkt *p, const struct nssm_pkt *in, uint32_t end)
{
	uint32_t most = e->cfg->payload == NSSM_PAYLOAD_FULL ? NSSM_FLOW_TRAILER_MAX : TRAILER_BYTES;
	/* Padding may hold what was in the buffer before. */
	if (in->wirelen <= end || e->cfg->identity == NSSM_IDENTITY_POOL)
		return;
	p->n_trailer = in->caplen > end ? in->caplen - end : 0;
	p->n_trailer = p->n_trailer < most ? p->n_trailer : most;
	p->trailer = in->data + end;
}

/* As it stands in the frame, behind addresses and VLAN tags: for all that there is no other rule for. */
static void as_frame(struct flow_parser *e, struct flow_pkt *p, const struct view *v, const struct nssm_pkt *in)
{
	bool ip = p->ethertype == 0x0800 || p->ethertype == 0x86dd || p->ethertype == 0x0806;
	struct flow_pkt q = {.kind = FLOW_ETHER, .step = p->step, .gapx = p->gapx, .vlan = p->vlan, .ethertype = p->ethertype,
	        .wirelen = p->wirelen, .caplen = p->caplen};
	memcpy(q.eth, p->eth, 12);
	q.len = in->wirelen > v->l3 ? in->wirelen - v->l3 : 0;
	literal(e, &q, in, v->l3, ip ? NSSM_FLOW_LIT_MAX : LIT_FRAME);
	*p = q;
}

/* Whether the values say all that stands in the headers. */
static bool says_all(struct flow_parser *e, const struct flow_pkt *p, const struct view *v, struct flow_built *b)
{
	flow_build(e->built, p, b);
	if (b->hdr > v->have)
		return false;
	if (b->csum != 0 && p->l4_mode != FLOW_CSUM_LITERAL)
		memcpy(e->built + b->csum, v->d + b->csum, 2);
	return memcmp(e->built, v->d, b->hdr) == 0;
}

/* What may hold addresses. */
static void blank(struct flow_parser *e, struct flow_pkt *p)
{
	if (p->n_ipopt > 0) {
		memset(e->blank, p->ver == 4 ? 1 : 0, p->n_ipopt);
		/* Extension headers stay where they are, with nothing but padding in them. */
		if (p->ver == 6)
			e->blank[0] = PROTO_DEST;
		for (uint32_t i = 1, len; p->ver == 6 && i < p->n_ipopt; i += len) {
			len = (p->ipopt[i + 1] + 1u) * 8;
			e->blank[i] = i + len < p->n_ipopt ? PROTO_DEST : p->proto;
			e->blank[i + 1] = p->ipopt[i + 1];
		}
		p->ipopt = e->blank;
	}
	if (p->kind != FLOW_TCP || p->n_opt == 0 || flow_layout_of(p->opt, p->n_opt) != 255)
		return;
	uint8_t *o = e->blank + FLOW_IPOPT_MAX;
	memcpy(o, p->opt, p->n_opt);
	uint32_t i = 0;
	for (uint32_t len; (len = flow_option(o + i, p->n_opt - i)) > 0; i += len) {
		/* Of MPTCP only ADD_ADDR (RFC 8684, section 3.4.1). Options that are not known may hold the address a proxy was asked from. */
		bool multipath = o[i] == 30 && len > 4, known = o[i] <= 5 || o[i] == 8 || o[i] == 30;
		if (multipath && o[i + 2] >> 4 == 3)
			memset(o + i + 4, 0, len - 4);
		else if (!known)
			memset(o + i + 2, 0, len - 2);
	}
	/* What stands behind the list's end, or has no length. */
	if (i + 2 < p->n_opt)
		memset(o + i + 2, 0, p->n_opt - i - 2);
	p->opt = o;
}

/* Values that the tokens of a new flow have no place for. */
static bool unsayable(const struct flow_parser *e, const struct flow_pkt *p)
{
	bool keep = e->cfg->identity == NSSM_IDENTITY_KEEP;
	return p->kind == FLOW_TCP && p->flags == FLOW_SYN && p->len == 0 && keep && p->ack != 0;
}

void flow_parse(struct flow_parser *e, struct flow_pkt *p, struct flow_built *b, const struct nssm_pkt *in)
{
	struct view v = {.d = in->data, .have = in->caplen};
	p->wirelen = in->wirelen;
	p->caplen = in->caplen;
	if (v.have < 14 || (v.have < in->wirelen && v.have < CUT_MAX))
		extend(e, &v);
	parse_link(p, &v);
	if (v.d == e->hdr)
		extend_options(p, &v);
	bool ip = p->ethertype == 0x0800 || p->ethertype == 0x86dd;
	bool ok = p->ethertype == 0x0806 ? parse_arp(p, &v) : ip && parse_ip(e, p, &v, in);
	if (!ok || unsayable(e, p) || !says_all(e, p, &v, b)) {
		as_frame(e, p, &v, in);
		flow_build(e->built, p, b);
	}
	parse_trailer(e, p, in, b->end);
	if (e->cfg->identity == NSSM_IDENTITY_POOL)
		blank(e, p);
}
