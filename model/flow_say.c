/* What packets of all kinds have in common in the `flow` codec's encoder: MACs, hosts, flows, and X with what follows it. */
#include "model/flow_encode_impl.h"

#include "model/packet_impl.h"

/* --- MACs, hosts, ports -------------------------------------------------------------------------------------------------------- */

/* Group addresses are nobody's own, but for the low three bytes of a solicited node (RFC 4291, section 2.7.1): those of its address. */
static void say_group(struct out *o, const uint8_t *addr, uint32_t n)
{
	static const uint8_t node[13] = {0xff, 2, [11] = 1, 0xff}, mac[3] = {0x33, 0x33, 0xff};
	bool solicited = n == 16 ? memcmp(addr, node, 13) == 0 : n == 6 && memcmp(addr, mac, 3) == 0;
	bytes(o, addr, n);
	if (solicited)
		memset(o->b + o->n - 3, 0, 3);
}

unsigned flow_say_mac(struct flow_encoder *e, struct out *o, const uint8_t mac[6], int ver, const uint8_t *host)
{
	struct flow_state *s = &e->state;
	for (unsigned r = 0; r < s->macs.n; r++)
		if (memcmp(s->mac[s->macs.slot[r]], mac, 6) == 0) {
			byte(o, r);
			flow_front(&s->macs, r);
			return s->macs.slot[0];
		}
	uint8_t implied[6];
	if (host != NULL)
		flow_implied_mac(implied, ver, host);
	if (host != NULL && memcmp(implied, mac, 6) == 0) {
		byte(o, 254);
	} else if (e->cfg.identity == NSSM_IDENTITY_KEEP) {
		byte(o, 255);
		bytes(o, mac, 6);
	} else {
		byte(o, mac[0] & 1 ? 253 : 255);
		if (mac[0] & 1)
			say_group(o, mac, 6);
	}
	return flow_new_mac(s, mac);
}

unsigned flow_say_host(struct flow_encoder *e, struct out *o, int ver, const uint8_t *addr, const uint8_t mac[6])
{
	struct flow_state *s = &e->state;
	struct flow_list *l = &s->hosts[ver == 6];
	int known = flow_find_host(s, ver, addr);
	if (known >= 0) {
		unsigned r = flow_rank(l, (unsigned)known);
		byte(o, r);
		flow_front(l, r);
		return (unsigned)known;
	}
	byte(o, 255);
	unsigned class = flow_addr_class(ver, addr);
	if (e->cfg.identity == NSSM_IDENTITY_POOL)
		byte(o, class);
	if (e->cfg.identity == NSSM_IDENTITY_KEEP)
		bytes(o, addr, ver == 6 ? 16 : 4);
	else if (class == FLOW_CLASS_LITERAL)
		say_group(o, addr, ver == 6 ? 16 : 4);
	/* The MAC's slot is taken first: the host's fields hold it. */
	unsigned m = flow_say_mac(e, o, mac, ver, addr), slot = flow_new_host(s, ver, addr);
	s->host[ver == 6][slot].mac_src = s->host[ver == 6][slot].mac_dst = (uint8_t)m;
	return slot;
}

static void say_port(struct flow_encoder *e, struct out *o, uint16_t port)
{
	struct flow_state *s = &e->state;
	int service = flow_service_of(port);
	if (service >= 0) {
		byte(o, FLOW_SERVICE + (unsigned)service);
		return;
	}
	for (unsigned r = 0; r < s->ports.n; r++)
		if (s->port_of[s->ports.slot[r]] == port) {
			byte(o, r);
			flow_front(&s->ports, r);
			return;
		}
	byte(o, 255);
	be(o, port, 2);
	flow_new_port(s, port);
}

/* --- which flow ---------------------------------------------------------------------------------------------------------------- */

void flow_say_flow(struct flow_encoder *e, struct out *o, const struct flow *f, int dir)
{
	static const uint8_t first[3] = {0, NSSM_FLOW_CODE_UDP, NSSM_FLOW_CODE_ECHO}, far[3] = {0, 2, 0};
	static const uint16_t near[3] = {NSSM_FLOW_TCP_NEAR, NSSM_FLOW_UDP_NEAR, NSSM_FLOW_ECHO_MAX};
	struct flow_list *l = &e->state.order[f->kind];
	unsigned r = flow_rank(l, (unsigned)(f - e->state.flow));
	if (r < near[f->kind]) {
		byte(o, first[f->kind] + 2 * r + (unsigned)dir);
	} else {
		byte(o, NSSM_FLOW_CODE_FAR + far[f->kind] + (unsigned)dir);
		byte(o, r - near[f->kind]);
	}
	flow_front(l, r);
}

void flow_say_new_flow(struct flow_encoder *e, struct out *o, struct flow_pkt *p)
{
	bool echo = p->kind == FLOW_ECHO;
	byte(o, NSSM_FLOW_CODE_NEW + 2u * p->kind + (p->ver == 6));
	p->dir = 0;
	p->is_new = true;
	unsigned src = flow_say_host(e, o, p->ver, p->addr[0], p->eth + 6), dst = flow_say_host(e, o, p->ver, p->addr[1], p->eth);
	be(o, p->port[0], 2);
	if (!echo)
		say_port(e, o, p->port[1]);
	p->flow = flow_open(&e->state, p->kind, p->ver, src, p->port[0], dst, p->port[!echo]);
}

/* --- what differs from what was foretold ------------------------------------------------------------------------------------------ */

void flow_expect_iph(struct extra *x, const struct flow_pkt *p, uint8_t ttl, uint8_t tos, bool df, uint32_t label)
{
	x->iph |= p->ttl != ttl ? 1 : 0;
	x->iph |= p->tos != tos ? 2 : 0;
	x->iph |= p->ver == 4 && p->kind != FLOW_OTHER && p->df != df ? 4 : 0;
	x->iph |= p->ver == 6 && p->label != label ? 8 : 0;
	x->iph |= p->n_ipopt > 0 ? 16 : 0;
	x->x |= x->iph != 0 ? 16 : 0;
}

void flow_expect_ipid(struct extra *x, const struct flow_state *s, const struct flow_pkt *p, const struct flow_end *end)
{
	if (p->ver != 4 || p->ipid == flow_next_ipid(s, p->flow, p->dir, end->id_mode))
		return;
	x->x |= 4;
	x->id_code = 255;
	for (int m = 0; m < 3; m++)
		if (p->ipid == flow_next_ipid(s, p->flow, p->dir, m)) {
			x->id_code = (uint8_t)m;
			return;
		}
	uint16_t stood = (uint16_t)(flow_next_ipid(s, p->flow, p->dir, end->id_mode) - (end->id_mode != 2));
	uint16_t ahead = (uint16_t)(p->ipid - stood);
	if (ahead >= 2 && ahead <= 61)
		x->id_code = (uint8_t)(ahead + 1);
}

void flow_expect_bad(struct extra *x, const struct flow_pkt *p, bool no_csum)
{
	bool zero = p->l4_mode == FLOW_CSUM_ZERO && !no_csum;
	x->bad = (uint8_t)(p->ip_csum_bad | (p->l4_mode == FLOW_CSUM_LITERAL) << 1 | (p->l4_mode == FLOW_CSUM_PARTIAL) << 2 | zero << 3 |
	                   p->ip_len_bad << 4 | p->udp_len_bad << 5 | (p->urg != 0) << 6 | (p->res != 0) << 7);
	x->x |= x->bad != 0 ? 128 : 0;
}

static bool same_vlan(const struct flow_vlan *a, const struct flow_vlan *b)
{
	return a->n == b->n && memcmp(a->tag, b->tag, 4u * a->n) == 0;
}

void flow_expect_link(struct extra *x, const struct flow_state *s, const struct flow_pkt *p, const struct flow_link *l)
{
	x->link |= memcmp(p->eth + 6, s->mac[l->smac], 6) != 0;
	x->link |= memcmp(p->eth, s->mac[l->dmac], 6) != 0 ? 2 : 0;
	x->link |= !same_vlan(&p->vlan, &l->vlan) ? 4 : 0;
	x->x |= x->link != 0 ? 64 : 0;
}

/* Wire and captured length. Knows the source MAC's slot only after LINK was said: pads are those of the MAC itself. */
void flow_expect_cap(struct flow_encoder *e, struct extra *x, const struct flow_pkt *p, uint32_t end, uint32_t most_kept)
{
	const struct flow_state *s = &e->state;
	bool pads = false;
	for (unsigned r = 0; r < s->macs.n; r++)
		if (memcmp(s->mac[s->macs.slot[r]], p->eth + 6, 6) == 0) {
			pads = s->mac_pads[s->macs.slot[r]];
			break;
		}
	bool zeros = true;
	for (uint32_t i = 0; i < p->n_trailer; i++)
		zeros &= p->trailer[i] == 0;
	if (end < 60 && (p->wirelen == end || (p->wirelen == 60 && zeros)))
		x->cap |= (p->wirelen == 60) != pads;
	else if (p->wirelen > end)
		x->cap |= 2;
	else if (p->wirelen < end)
		x->cap |= 4;
	if (p->caplen != (p->wirelen < s->snap ? p->wirelen : s->snap))
		x->cap |= 8;
	if (p->n_prefix < most_kept) {
		x->cap |= 16;
		x->pav = p->n_prefix;
	}
	x->x |= x->cap != 0 ? 32 : 0;
}

/* The code of a SACK's edge, 255: none. */
static unsigned edge_code(const struct flow *f, int dir, uint32_t edge, bool end)
{
	const struct flow_end *e = &f->end[dir], *peer = &f->end[!dir];
	unsigned n = peer->n_segs < FLOW_SEGS ? peer->n_segs : FLOW_SEGS;
	for (unsigned k = 0; k <= n; k++)
		if (edge == flow_edge(f, dir, k, end))
			return k;
	for (unsigned k = FLOW_EDGE_LAST; k < FLOW_EDGE_LAST + e->n_sack; k++)
		if (edge == flow_edge(f, dir, k, end))
			return k;
	return 255;
}

static void say_options(struct out *o, const struct flow_pkt *p, unsigned layout)
{
	uint32_t before = p->ack;
	byte(o, layout);
	if (layout == 255) {
		byte(o, p->n_opt / 4);
		bytes(o, p->opt, p->n_opt);
		return;
	}
	uint32_t len;
	for (uint32_t i = 0; (len = flow_option(p->opt + i, p->n_opt - i)) > 0; i += len) {
		const uint8_t *opt = p->opt + i;
		if (opt[0] == 2)
			bytes(o, opt + 2, 2);
		else if (opt[0] == 3)
			byte(o, opt[2]);
	}
	for (uint32_t i = 0; (len = flow_option(p->opt + i, p->n_opt - i)) > 0; i += len) {
		const uint8_t *opt = p->opt + i;
		for (uint32_t k = 2; opt[0] == 5 && k < opt[1]; k += 4) {
			uint32_t edge = get32(opt + k);
			unsigned code = edge_code(p->flow, p->dir, edge, (k - 2) % 8 == 4);
			byte(o, code);
			if (code == 255)
				zigzag(o, edge - before);
			before = edge;
		}
	}
}

/* code 255: as it is. */
static void say_ipid(struct out *o, unsigned code, uint16_t id)
{
	if (code < 63) {
		byte(o, code);
	} else if (id < 192 * 256) {
		byte(o, 64 + id / 256u);
		byte(o, id);
	} else {
		byte(o, 63);
		be(o, id, 2);
	}
}

void flow_say_extra(struct flow_encoder *e, struct out *o, const struct extra *x, const struct flow_pkt *p, struct flow_link *link,
        uint32_t end)
{
	struct flow_state *s = &e->state;
	byte(o, x->x);
	if (p->kind == FLOW_TCP && (x->x & 1) != 0) {
		byte(o, x->seq_code);
		if (x->seq_code > 100)
			num(o, x->seq_diff);
	}
	if ((x->x & 2) != 0) {
		byte(o, x->ecr_code);
		if (x->ecr_code == 4)
			zigzag(o, x->tse);
		else
			p->flow->end[p->dir].ecr_mode = x->ecr_code;
	}
	if ((x->x & 4) != 0) {
		say_ipid(o, x->id_code, p->ipid);
		if (x->id_code < 3)
			flow_said_id_mode(s, p, x->id_code);
	}
	if ((x->x & 8) != 0)
		say_options(o, p, x->layout);
	if ((x->x & 16) != 0) {
		byte(o, x->iph);
		if (x->iph & 1)
			byte(o, p->ttl);
		if (x->iph & 2)
			byte(o, p->tos);
		if (x->iph & 8)
			be(o, p->label, 3);
		if (x->iph & 16) {
			uint32_t n = p->ver == 6 ? p->n_ipopt - 1 : p->n_ipopt;
			byte(o, n / 4);
			byte(o, p->ver == 6 ? p->ipopt[0] : 0);
			bytes(o, p->ver == 6 ? p->ipopt + 1 : p->ipopt, n);
		}
	}
	if ((x->x & 32) != 0) {
		byte(o, x->cap);
		if (x->cap & 2) {
			num(o, p->wirelen - end);
			byte(o, p->n_trailer);
			bytes(o, p->trailer, p->n_trailer);
		}
		if (x->cap & 4)
			num(o, p->wirelen);
		if (x->cap & 8) {
			num(o, p->caplen < p->wirelen ? p->caplen + 1 : 0);
			s->snap = p->caplen < p->wirelen ? p->caplen : UINT32_MAX;
		}
		if (x->cap & 16)
			num(o, x->pav);
	}
	if ((x->x & 64) != 0) {
		byte(o, x->link);
		if (x->link & 1)
			link->smac = (uint8_t)flow_say_mac(e, o, p->eth + 6, 0, NULL);
		if (x->link & 2)
			link->dmac = (uint8_t)flow_say_mac(e, o, p->eth, 0, NULL);
		if (x->link & 4) {
			link->vlan = p->vlan;
			byte(o, p->vlan.n);
			for (unsigned i = 0; i < p->vlan.n; i++) {
				const uint8_t *t = p->vlan.tag + 4 * i;
				byte(o, get16(t) == 0x8100 ? 0 : get16(t) == 0x88a8 ? 1 : 2);
				bytes(o, t + 2, 2);
			}
		}
	}
	if (x->cap & 1)
		s->mac_pads[link->smac] = !s->mac_pads[link->smac];
	if ((x->x & 128) != 0) {
		byte(o, x->bad);
		if (x->bad & 1)
			be(o, p->ip_csum, 2);
		if (x->bad & 2)
			be(o, p->l4_csum, 2);
		if (x->bad & 16)
			be(o, p->ip_len, 2);
		if (x->bad & 32)
			be(o, p->udp_len, 2);
		if (x->bad & 64)
			be(o, p->urg, 2);
		if (x->bad & 128)
			byte(o, p->res);
	}
}
