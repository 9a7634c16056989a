/* The first half of the `flow` codec's decoder: bytes that the grammar has found whole to absolute values. Total: whatever the grammar lets
 * through has a meaning. */
#include "model/flow_decode_impl.h"

#include <assert.h>
#include <string.h>

#include "model/flow_grammar.h"
#include "model/packet_impl.h"

/* --- reading ------------------------------------------------------------------------------------------------------------------ */

static unsigned byte(struct flow_decoder *d)
{
	assert(d->at < d->n_said);
	return d->said[d->at++];
}

static const uint8_t *bytes(struct flow_decoder *d, uint32_t n)
{
	assert(n <= d->n_said - d->at);
	const uint8_t *p = d->said + d->at;
	d->at += n;
	return p;
}

static uint32_t be(struct flow_decoder *d, int n)
{
	uint32_t v = 0;
	while (n-- > 0)
		v = v << 8 | byte(d);
	return v;
}

static uint32_t num(struct flow_decoder *d)
{
	uint32_t b = byte(d);
	if (b < 192)
		return b;
	if (b < 240)
		return 192 + ((b - 192) << 8 | byte(d));
	return b < 254 ? 12480 + ((b - 240) << 16 | be(d, 2)) : be(d, 4);
}

static uint32_t zigzag(struct flow_decoder *d)
{
	uint32_t v = num(d);
	return v >> 1 ^ -(v & 1);
}

/* --- MACs, hosts, ports -------------------------------------------------------------------------------------------------------- */

static unsigned hear_mac(struct flow_decoder *d, int ver, const uint8_t *host)
{
	struct flow_state *s = &d->state;
	unsigned b = byte(d);
	if (b < 253) {
		flow_front(&s->macs, b);
		return s->macs.slot[0];
	}
	uint8_t mac[6] = {2, 0, 0};
	if (b == 254) {
		flow_implied_mac(mac, ver, host);
	} else if (b == 253 || d->cfg.identity == NSSM_IDENTITY_KEEP) {
		memcpy(mac, bytes(d, 6), 6);
	} else {
		uint32_t n = d->first_name + ++s->n_named_macs;
		mac[3] = (uint8_t)(n >> 16);
		put16(mac + 4, n);
	}
	return flow_new_mac(s, mac);
}

/* An address for the n-th host of a class, from the ranges for private use, for benchmarks (RFC 2544), for link-local addresses, and
 * those of IPv6 for documentation (RFC 3849). */
static void name_host(uint8_t a[16], int ver, unsigned class, uint32_t n)
{
	memset(a, 0, 16);
	if (ver == 6) {
		static const uint8_t head[4][4] = {{0xfd}, {0x20, 0x01, 0x0d, 0xb8}, {0}, {0xfe, 0x80}};
		memcpy(a, head[class], 4);
		put16(a + 12, n >> 16);
		put16(a + 14, n);
		return;
	}
	static const uint8_t head[4][2] = {{192, 168}, {198, 18}, {0}, {169, 254}};
	/* Neither .0 nor .255; in the range of the class again from its beginning. */
	n %= class == FLOW_CLASS_GLOBAL ? 2 * 64000 : 64000;
	uint32_t net = n / 254;
	a[0] = head[class][0];
	a[1] = (uint8_t)(head[class][1] + (net >> 8));
	a[2] = (uint8_t)(class == FLOW_CLASS_LINK ? 1 + net % 254 : net); /* RFC 3927: neither the first 256 nor the last */
	a[3] = (uint8_t)(1 + n % 254);
}

static unsigned hear_host(struct flow_decoder *d, int ver)
{
	struct flow_state *s = &d->state;
	unsigned b = byte(d), v = ver == 6;
	if (b != 255) {
		flow_front(&s->hosts[v], b);
		return s->hosts[v].slot[0];
	}
	uint8_t addr[16] = {0};
	unsigned class = d->cfg.identity == NSSM_IDENTITY_POOL ? byte(d) : FLOW_CLASS_LITERAL;
	if (class == FLOW_CLASS_LITERAL)
		memcpy(addr, bytes(d, v ? 16 : 4), v ? 16 : 4);
	else
		name_host(addr, ver, class, d->first_name + ++s->n_named[v][class]);
	unsigned m = hear_mac(d, ver, addr), slot = flow_new_host(s, ver, addr);
	s->host[v][slot].mac_src = s->host[v][slot].mac_dst = (uint8_t)m;
	return slot;
}

static uint16_t hear_port(struct flow_decoder *d)
{
	struct flow_state *s = &d->state;
	unsigned b = byte(d);
	if (b != 255 && b >= FLOW_SERVICE)
		return flow_service[b - FLOW_SERVICE];
	if (b != 255) {
		flow_front(&s->ports, b);
		return s->port_of[s->ports.slot[0]];
	}
	uint16_t port = (uint16_t)be(d, 2);
	flow_new_port(s, port);
	return port;
}

/* --- X ------------------------------------------------------------------------------------------------------------------------- */

static void options_of(struct flow_decoder *d, struct flow_pkt *p, unsigned layout)
{
	uint8_t *o = d->opt;
	uint8_t *edge[8];
	unsigned n_edges = 0;
	for (const char *c = flow_layout[layout]; *c != '\0'; c++) {
		static const uint8_t kind_of['W' - 'M' + 1] = {['M' - 'M'] = 2, ['W' - 'M'] = 3, ['P' - 'M'] = 4, ['T' - 'M'] = 8};
		if (*c == 'N' || *c == 'E') {
			*o++ = *c == 'N';
			continue;
		}
		unsigned len = *c == 'M' ? 4 : *c == 'W' ? 3 : *c == 'P' ? 2 : *c == 'T' ? 10 : 2u + 8u * (unsigned)(*c - '0');
		o[0] = *c < 'M' ? 5 : kind_of[*c - 'M'];
		o[1] = (uint8_t)len;
		if (*c == 'M' || *c == 'W')
			memcpy(o + 2, bytes(d, len - 2), len - 2);
		for (unsigned k = 2; *c < 'M' && k < len; k += 4)
			edge[n_edges++] = o + k;
		o += len;
	}
	uint32_t v = p->ack;
	for (unsigned i = 0; i < n_edges; i++) {
		unsigned code = byte(d);
		v = code == 255 ? v + zigzag(d) : flow_edge(p->flow, p->dir, code, i % 2 != 0);
		put32(edge[i], v);
	}
	p->n_opt = (uint32_t)(o - d->opt);
	p->opt = d->opt;
}

static void hear_options(struct flow_decoder *d, struct flow_pkt *p, struct extra *x)
{
	x->layout = byte(d);
	if (x->layout != 255) {
		options_of(d, p, x->layout);
		return;
	}
	p->n_opt = 4 * byte(d);
	memcpy(d->opt, bytes(d, p->n_opt), p->n_opt);
	p->opt = d->opt;
}

static void hear_ipopt(struct flow_decoder *d, struct flow_pkt *p)
{
	uint32_t n = 4 * byte(d);
	uint8_t first = (uint8_t)byte(d);
	const uint8_t *b = bytes(d, n);
	if (p->ver == 6) {
		n &= ~7u;
		d->ipopt[0] = first;
		memcpy(d->ipopt + 1, b, n);
		p->n_ipopt = n > 0 ? n + 1 : 0;
	} else {
		n = least(n, 40);
		memcpy(d->ipopt, b, n);
		p->n_ipopt = n;
	}
	p->ipopt = d->ipopt;
}

static void hear_iph(struct flow_decoder *d, struct flow_pkt *p, struct extra *x)
{
	x->iph = (uint8_t)byte(d);
	if (x->iph & 1)
		p->ttl = (uint8_t)byte(d);
	if (x->iph & 2)
		p->tos = (uint8_t)byte(d);
	if (x->iph & 4)
		p->df = !p->df;
	if (x->iph & 8)
		p->label = be(d, 3) & 0xfffff;
	if (x->iph & 16)
		hear_ipopt(d, p);
}

static void hear_cap(struct flow_decoder *d, struct flow_pkt *p, struct extra *x)
{
	x->cap = (uint8_t)byte(d);
	if (x->cap & 2) {
		x->trailer = num(d);
		p->n_trailer = byte(d);
		p->trailer = bytes(d, p->n_trailer);
	}
	if (x->cap & 4)
		x->wlen = num(d);
	if (x->cap & 8) {
		x->clen = num(d);
		d->state.snap = x->clen - 1; /* 0: all */
	}
	if (x->cap & 16)
		x->pav = num(d);
}

static void hear_link(struct flow_decoder *d, struct flow_link *l, struct extra *x)
{
	static const uint16_t tpid[3] = {0x8100, 0x88a8, 0x9100};
	x->link = (uint8_t)byte(d);
	if (x->link & 1)
		l->smac = (uint8_t)hear_mac(d, 0, NULL);
	if (x->link & 2)
		l->dmac = (uint8_t)hear_mac(d, 0, NULL);
	if ((x->link & 4) == 0)
		return;
	l->vlan.n = (uint8_t)byte(d);
	for (unsigned i = 0; i < l->vlan.n; i++) {
		put16(l->vlan.tag + 4 * i, tpid[byte(d)]);
		memcpy(l->vlan.tag + 4 * i + 2, bytes(d, 2), 2);
	}
}

static void hear_bad(struct flow_decoder *d, struct flow_pkt *p, struct extra *x)
{
	x->bad = (uint8_t)byte(d);
	p->ip_csum_bad = x->bad & 1;
	if (x->bad & 1)
		p->ip_csum = (uint16_t)be(d, 2);
	if (x->bad & 2)
		p->l4_csum = (uint16_t)be(d, 2);
	if (x->bad & (2 | 4 | 8))
		p->l4_mode = x->bad & 2 ? FLOW_CSUM_LITERAL : x->bad & 4 ? FLOW_CSUM_PARTIAL : FLOW_CSUM_ZERO;
	p->ip_len_bad = (x->bad & 16) != 0;
	if (x->bad & 16)
		p->ip_len = (uint16_t)be(d, 2);
	p->udp_len_bad = (x->bad & 32) != 0;
	if (x->bad & 32)
		p->udp_len = (uint16_t)be(d, 2);
	if (x->bad & 64)
		p->urg = (uint16_t)be(d, 2);
	if (x->bad & 128)
		p->res = (uint8_t)byte(d);
}

static void hear_extra(struct flow_decoder *d, struct flow_pkt *p, struct extra *x, struct flow_link *link)
{
	struct flow_state *s = &d->state;
	x->x = (uint8_t)byte(d);
	if (p->kind == FLOW_TCP && (x->x & 1) != 0) {
		x->seq_code = (uint8_t)byte(d);
		if (x->seq_code > 100)
			x->seq_diff = num(d);
	}
	if (x->x & 2) {
		x->ecr_code = (uint8_t)byte(d);
		if (x->ecr_code == 4)
			x->tse = zigzag(d);
		else
			p->flow->end[p->dir].ecr_mode = x->ecr_code;
	}
	if (x->x & 4) {
		x->id_code = (uint8_t)byte(d);
		if (x->id_code >= 63)
			x->id = (uint16_t)(x->id_code == 63 ? be(d, 2) : (x->id_code - 64u) << 8 | byte(d));
	}
	if (x->x & 8)
		hear_options(d, p, x);
	if (x->x & 16)
		hear_iph(d, p, x);
	if (x->x & 32)
		hear_cap(d, p, x);
	if (x->x & 64)
		hear_link(d, link, x);
	if (x->cap & 1)
		s->mac_pads[link->smac] = !s->mac_pads[link->smac];
	if (x->x & 128)
		hear_bad(d, p, x);
}

static uint16_t ipid_of(struct flow_decoder *d, struct flow_pkt *p, const struct extra *x)
{
	struct flow_state *s = &d->state;
	const struct flow_end *e = &p->flow->end[p->dir];
	if (p->ver != 4)
		return 0;
	if ((x->x & 4) == 0)
		return flow_next_ipid(s, p->flow, p->dir, e->id_mode);
	if (x->id_code >= 63)
		return x->id;
	if (x->id_code > 2)
		return (uint16_t)(flow_next_ipid(s, p->flow, p->dir, e->id_mode) - (e->id_mode != 2) + x->id_code - 1);
	uint16_t id = flow_next_ipid(s, p->flow, p->dir, x->id_code);
	flow_said_id_mode(s, p, x->id_code);
	return id;
}

/* --- TCP -------------------------------------------------------------------------------------------------------------------------- */

static uint32_t seq_of(struct flow_decoder *d, const struct flow_pkt *p, unsigned kind, const struct extra *x)
{
	const struct flow_end *end = &p->flow->end[p->dir];
	bool keep = d->cfg.identity == NSSM_IDENTITY_KEEP;
	uint32_t next = flow_next_seq(p->flow, p->dir);
	if (!keep && (p->is_new || (kind == FLOW_TOP_SYNACK && !end->open)))
		next = nssm_rng_u32(&d->identity);
	else if ((kind == FLOW_TOP_SYNACK || kind == FLOW_TOP_SYN) && end->open)
		next = end->isn;
	if ((x->x & 1) == 0)
		return next;
	switch (x->seq_code) {
	case 0:
		return next - 1;
	case 102:
		return next + x->seq_diff;
	case 103:
		return next - x->seq_diff;
	default:
		return flow_seg_begin(end, x->seq_code);
	}
}

/* Timestamps go where the options have room for them, unless they were spelled as they are. */
static void stamp(struct flow_decoder *d, struct flow_pkt *p, uint32_t beyond, const struct extra *x)
{
	const struct flow_end *end = &p->flow->end[p->dir];
	const uint8_t *ts = flow_find_ts(p->opt, p->n_opt);
	if (ts == NULL || ((x->x & 8) != 0 && x->layout == 255))
		return;
	uint32_t val = flow_next_ts(&d->state, p->flow, p->dir) + beyond;
	uint32_t ecr = flow_next_ecr(p->flow, p->dir, p->ack, x->ecr_code == 4 ? 0 : end->ecr_mode) - x->tse;
	if (!end->has_ts && d->cfg.identity == NSSM_IDENTITY_POOL)
		val = nssm_rng_u32(&d->identity) >> 1;
	uint8_t *o = d->opt + (ts - p->opt);
	put32(o + 2, val);
	put32(o + 6, ecr);
}

static void foretold_options(struct flow_decoder *d, struct flow_pkt *p)
{
	unsigned next = flow_next_layout(p->flow, p->dir, p->flags);
	const struct flow_host *h = &d->state.host[p->ver == 6][p->flow->host[p->dir]];
	bool answer = (p->flags & FLOW_ACK) != 0;
	if (next != 255) {
		options_of(d, p, next);
		return;
	}
	p->n_opt = h->n_syn_opt[answer];
	memcpy(d->opt, h->syn_opt[answer], p->n_opt);
	p->opt = d->opt;
}

static uint16_t hear_win(struct flow_decoder *d, uint16_t last)
{
	unsigned b = byte(d);
	if (b < 200)
		return (uint16_t)(last + (int)b - (b < 100 ? 100 : 99));
	return b == 255 ? (uint16_t)be(d, 2) : (uint16_t)((b - 200) << 8 | byte(d));
}

static void hear_tcp(struct flow_decoder *d, struct flow_pkt *p, struct extra *x)
{
	struct flow_state *s = &d->state;
	struct flow_end *end = &p->flow->end[p->dir];
	const struct flow_host *h = &s->host[p->ver == 6][p->flow->host[p->dir]];
	bool keep = d->cfg.identity == NSSM_IDENTITY_KEEP;
	unsigned top = byte(d), kind = top >> 4, ack_code = 0;
	uint32_t ack_diff = 0, beyond = 0, seq0 = 0, ack0 = 0;
	p->flags = kind >= FLOW_TOP_FLAGS ? (uint8_t)byte(d) : flow_top[kind].flags;
	if (flow_top[kind].len == FLOW_LEN_SAID)
		p->len = num(d);
	else
		p->len = flow_top[kind].len == FLOW_LEN_LAST  ? end->len_last
		         : flow_top[kind].len == FLOW_LEN_MAX ? end->len_max
		                                              : 0;
	bool seq_said = keep && (p->is_new || kind == FLOW_TOP_SYNACK), ack_said = keep && p->is_new && kind != FLOW_TOP_SYN;
	if (seq_said)
		seq0 = be(d, 4);
	if (ack_said)
		ack0 = be(d, 4);
	if (top & 8) {
		ack_code = byte(d);
		if (ack_code > 100)
			ack_diff = num(d);
	}
	bool syn_ack = (p->flags & (FLOW_SYN | FLOW_ACK)) == (FLOW_SYN | FLOW_ACK);
	p->win = end->sent ? end->win : h->syn_win[syn_ack];
	if (top & 4)
		p->win = hear_win(d, p->win);
	if (top & 2)
		beyond = zigzag(d);
	/* The acknowledgement before X: SACK edges are told from it. */
	uint32_t next = flow_next_ack(p->flow, p->dir, p->flags);
	if (ack_said)
		next = ack0;
	else if (p->is_new && kind != FLOW_TOP_SYN && (p->flags & FLOW_ACK) != 0)
		next = nssm_rng_u32(&d->identity);
	p->ack = (top & 8) == 0      ? next
	         : ack_code <= 100   ? flow_ack_of(p->flow, p->dir, ack_code)
	         : ack_code == 253 ? next + ack_diff
	                             : next - ack_diff;
	if (top & 1)
		hear_extra(d, p, x, &end->link);
	if ((x->x & 8) == 0)
		foretold_options(d, p);
	stamp(d, p, beyond, x);
	p->seq = seq_said ? seq0 : seq_of(d, p, kind, x);
}

/* --- UDP, echo ---------------------------------------------------------------------------------------------------------------------- */

static void hear_udp(struct flow_decoder *d, struct flow_pkt *p, struct extra *x)
{
	struct flow_end *end = &p->flow->end[p->dir];
	const struct flow_end *peer = &p->flow->end[!p->dir], *ref = end->sent ? end : peer;
	unsigned op = byte(d), m = op % 6 / 2, from, run;
	bool said = m == 0;
	flow_run(op / 6, &from, &run);
	p->len = said ? num(d) : m == 1 ? end->len_last : end->len_max;
	if (op % 2 != 0)
		hear_extra(d, p, x, &end->link);
	if (x->x & 1)
		end->no_csum = !end->no_csum;
	if (end->no_csum && p->ver == 4 && p->l4_mode == FLOW_CSUM_RIGHT)
		p->l4_mode = FLOW_CSUM_ZERO;
	uint32_t n = flow_payload_kept(&d->cfg, FLOW_UDP, said ? p->len : UINT32_MAX, x->cap & 16 ? x->pav : UINT32_MAX);
	uint32_t to = least(from + run, n);
	for (uint32_t i = 0; i < n; i++)
		d->prefix[i] = i >= from && i < to ? (i < ref->n_prefix ? ref->prefix[i] : 0) : (uint8_t)byte(d);
	p->prefix = d->prefix;
	p->n_prefix = n;
	p->len = p->len < p->n_prefix ? p->n_prefix : p->len;
}

static void hear_payload(struct flow_decoder *d, struct flow_pkt *p, const struct extra *x)
{
	uint32_t n = flow_payload_kept(&d->cfg, p->kind, p->len, x->cap & 16 ? x->pav : UINT32_MAX);
	p->prefix = bytes(d, n);
	p->n_prefix = n;
}

static void hear_echo(struct flow_decoder *d, struct flow_pkt *p, struct extra *x)
{
	unsigned op = byte(d);
	p->port[0] = p->flow->port[0];
	p->len = op & 2 ? num(d) : flow_next_echo_len(p->flow, p->dir);
	p->port[1] = op & 4 ? (uint16_t)be(d, 2) : flow_next_echo_seq(p->flow, p->dir);
	if (op & 1)
		hear_extra(d, p, x, &p->flow->end[p->dir].link);
}

/* --- a packet ------------------------------------------------------------------------------------------------------------------------- */

static void hear_known(struct flow_decoder *d, struct flow_pkt *p, unsigned code, struct extra *x)
{
	struct flow_state *s = &d->state;
	if (code >= NSSM_FLOW_CODE_NEW) {
		p->kind = (uint8_t)((code - NSSM_FLOW_CODE_NEW) / 2);
		p->ver = (code - NSSM_FLOW_CODE_NEW) & 1 ? 6 : 4;
		p->is_new = true;
		unsigned src = hear_host(d, p->ver), dst = hear_host(d, p->ver);
		uint16_t sport = (uint16_t)be(d, 2), dport = p->kind == FLOW_ECHO ? sport : hear_port(d);
		p->flow = flow_open(s, p->kind, p->ver, src, sport, dst, dport);
	} else {
		unsigned rank;
		p->dir = code & 1;
		if (code >= NSSM_FLOW_CODE_FAR) {
			p->kind = code < NSSM_FLOW_CODE_FAR + 2 ? FLOW_TCP : FLOW_UDP;
			rank = byte(d) + (p->kind == FLOW_TCP ? NSSM_FLOW_TCP_NEAR : NSSM_FLOW_UDP_NEAR);
		} else {
			p->kind = code < NSSM_FLOW_CODE_UDP ? FLOW_TCP : code < NSSM_FLOW_CODE_ECHO ? FLOW_UDP : FLOW_ECHO;
			rank = (code - (code < NSSM_FLOW_CODE_UDP ? 0 : code < NSSM_FLOW_CODE_ECHO ? NSSM_FLOW_CODE_UDP : NSSM_FLOW_CODE_ECHO)) / 2;
		}
		assert(rank < s->order[p->kind].n);
		flow_front(&s->order[p->kind], rank);
		p->flow = &s->flow[s->order[p->kind].slot[0]];
		p->ver = p->flow->ver;
	}
	const struct flow *f = p->flow;
	const struct flow_end *end = &f->end[p->dir];
	p->addr[0] = f->addr[p->dir];
	p->addr[1] = f->addr[!p->dir];
	p->port[0] = f->port[p->dir];
	p->port[1] = f->port[!p->dir];
	p->ttl = end->ttl;
	p->tos = end->tos;
	p->df = end->df;
	p->label = p->ver == 6 ? end->label : 0;
	p->proto = p->kind == FLOW_TCP ? PROTO_TCP : p->kind == FLOW_UDP ? PROTO_UDP : p->ver == 4 ? PROTO_ICMP : PROTO_ICMP6;
	if (p->kind == FLOW_TCP)
		hear_tcp(d, p, x);
	else if (p->kind == FLOW_UDP)
		hear_udp(d, p, x);
	else
		hear_echo(d, p, x);
	p->ipid = ipid_of(d, p, x);
	p->vlan = end->link.vlan;
	memcpy(p->eth, s->mac[end->link.dmac], 6);
	memcpy(p->eth + 6, s->mac[end->link.smac], 6);
	x->smac = end->link.smac;
	p->ethertype = p->ver == 4 ? 0x0800 : 0x86dd;
	flow_said_link(s, p, x->link);
}

static void hear_arp(struct flow_decoder *d, struct flow_pkt *p, struct extra *x)
{
	struct flow_state *s = &d->state;
	unsigned op = byte(d);
	p->ver = 4;
	p->ethertype = 0x0806;
	p->arp_op = (uint16_t)((op & 3) == 1 || (op & 3) == 2 ? op & 3 : be(d, 2));
	bool request = p->arp_op == 1;
	unsigned src = hear_host(d, 4), dst = hear_host(d, 4);
	struct flow_host *a = &s->host[0][src], *t = &s->host[0][dst];
	memcpy(d->addr[0], a->addr, 4);
	memcpy(d->addr[1], t->addr, 4);
	p->addr[0] = d->addr[0];
	p->addr[1] = d->addr[1];
	if (op & 16)
		a->mac_src = a->mac_dst = (uint8_t)hear_mac(d, 0, NULL);
	memcpy(p->arp_mac[0], s->mac[a->mac_src], 6);
	memset(p->arp_mac[1], 0, 6);
	memset(p->eth, 0xff, 6);
	if (!request) {
		memcpy(p->arp_mac[1], s->mac[t->mac_dst], 6);
		memcpy(p->eth, s->mac[t->mac_dst], 6);
	}
	if (op & 4)
		memcpy(p->arp_mac[1], s->mac[hear_mac(d, 0, NULL)], 6);
	if (op & 8)
		memcpy(p->eth, s->mac[hear_mac(d, 0, NULL)], 6);
	struct flow_link link = {.smac = a->mac_src, .dmac = a->mac_src, .vlan = a->vlan};
	if (op & 32)
		hear_extra(d, p, x, &link);
	memcpy(p->eth + 6, s->mac[link.smac], 6);
	x->smac = link.smac;
	p->vlan = a->vlan = link.vlan;
	if (x->link & 2)
		memcpy(p->eth, s->mac[link.dmac], 6);
}

static void hear_literal(struct flow_decoder *d, struct flow_pkt *p)
{
	p->n_lit = num(d);
	p->lit = bytes(d, p->n_lit);
	p->n_lit = least(p->n_lit, NSSM_CODEC_CAPLEN_MAX);
	p->len = p->len < p->n_lit ? p->n_lit : p->len;
}

static void hear_other(struct flow_decoder *d, struct flow_pkt *p, int ver, struct extra *x)
{
	struct flow_state *s = &d->state;
	p->ver = (uint8_t)ver;
	p->ethertype = ver == 4 ? 0x0800 : 0x86dd;
	unsigned src = hear_host(d, ver), dst = hear_host(d, ver), v = ver == 6;
	struct flow_host *a = &s->host[v][src], *t = &s->host[v][dst];
	memcpy(d->addr[0], a->addr, 16);
	memcpy(d->addr[1], t->addr, 16);
	p->addr[0] = d->addr[0];
	p->addr[1] = d->addr[1];
	p->proto = (uint8_t)byte(d);
	unsigned op = byte(d);
	p->ttl = a->ttl;
	p->tos = a->tos;
	p->df = a->df;
	p->frag = op & 2 ? (uint16_t)be(d, 2) : (uint16_t)(a->df << 14);
	p->len = num(d);
	struct flow_link link = {.smac = a->mac_src, .dmac = t->mac_dst, .vlan = a->vlan};
	if (op & 1)
		hear_extra(d, p, x, &link);
	p->ipid = (uint16_t)((x->x & 4) == 0 || x->id_code <= 2 ? a->ipid + 1
	                     : x->id_code >= 63                 ? x->id
	                                                        : a->ipid + x->id_code - 1);
	memcpy(p->eth, s->mac[link.dmac], 6);
	memcpy(p->eth + 6, s->mac[link.smac], 6);
	x->smac = link.smac;
	p->vlan = link.vlan;
	flow_said_host_link(a, t, &link, x->link);
	hear_literal(d, p);
	if (ver == 4)
		a->ipid = p->ipid;
}

static void hear_frame(struct flow_decoder *d, struct flow_pkt *p, struct extra *x)
{
	p->ethertype = (uint16_t)be(d, 2);
	struct flow_link link = {.smac = (uint8_t)hear_mac(d, 0, NULL)};
	link.dmac = (uint8_t)hear_mac(d, 0, NULL);
	unsigned op = byte(d);
	p->len = num(d);
	if (op & 1)
		hear_extra(d, p, x, &link);
	memcpy(p->eth, d->state.mac[link.dmac], 6);
	memcpy(p->eth + 6, d->state.mac[link.smac], 6);
	x->smac = link.smac;
	p->vlan = link.vlan;
	hear_literal(d, p);
}

void flow_hear(struct flow_decoder *d, struct flow_pkt *p, struct extra *x)
{
	*p = (struct flow_pkt){.opt = d->opt, .prefix = d->prefix};
	*x = (struct extra){.x = 0};
	d->at = 0;
	p->step = (uint8_t)byte(d);
	p->gapx = p->step == 255 ? (uint8_t)byte(d) : 0;
	flow_clock(&d->state, p->step, p->gapx);
	unsigned code = byte(d);
	if (code < NSSM_FLOW_CODE_ARP) {
		hear_known(d, p, code, x);
		if (p->kind != FLOW_UDP)
			hear_payload(d, p, x);
	} else if (code == NSSM_FLOW_CODE_ARP) {
		p->kind = FLOW_ARP;
		hear_arp(d, p, x);
	} else if (code < NSSM_FLOW_CODE_ETHER) {
		p->kind = FLOW_OTHER;
		hear_other(d, p, code == NSSM_FLOW_CODE_OTHER ? 4 : 6, x);
	} else {
		p->kind = FLOW_ETHER;
		hear_frame(d, p, x);
	}
	assert(d->at == d->n_said);
}
