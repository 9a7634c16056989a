/* The `flow` codec's encoder: a frame to absolute values, and those to the bytes that the state does not foretell. */
#include "model/flow_encode_impl.h"

#include <stdlib.h>

#include "model/flow_grammar.h"
#include "model/packet_impl.h"

/* --- TCP ------------------------------------------------------------------------------------------------------------------------- */

/* Both are what the other is, whatever their timestamps say. */
static bool same_options(const uint8_t *a, uint32_t n_a, const uint8_t *b, uint32_t n_b)
{
	uint8_t x[40], y[40];
	if (n_a != n_b)
		return false;
	if (n_a == 0)
		return true;
	memcpy(x, a, n_a);
	memcpy(y, b, n_a);
	const uint8_t *tx = flow_find_ts(x, n_a), *ty = flow_find_ts(y, n_a);
	if (tx != NULL && ty != NULL && tx - x == ty - y) {
		memset(x + (tx - x) + 2, 0, 8);
		memset(y + (ty - y) + 2, 0, 8);
	}
	return memcmp(x, y, n_a) == 0;
}

static void expect_options(struct flow_encoder *e, struct extra *x, const struct flow_pkt *p)
{
	static const uint8_t nnt[4] = {1, 1, 8, 10};
	unsigned next = flow_next_layout(p->flow, p->dir, p->flags);
	const struct flow_host *h = &e->state.host[p->ver == 6][p->flow->host[p->dir]];
	bool answer = (p->flags & FLOW_ACK) != 0, same;
	if (next == 255)
		same = same_options(p->opt, p->n_opt, h->syn_opt[answer], h->n_syn_opt[answer]);
	else
		same = next == 1 ? p->n_opt == 12 && memcmp(p->opt, nnt, 4) == 0 : p->n_opt == 0;
	if (same)
		return;
	x->x |= 8;
	x->layout = flow_layout_of(p->opt, p->n_opt);
}

static void expect_seq(struct flow_encoder *e, struct extra *x, const struct flow_pkt *p, unsigned kind)
{
	const struct flow_end *end = &p->flow->end[p->dir];
	bool keep = e->cfg.identity == NSSM_IDENTITY_KEEP;
	uint32_t next = flow_next_seq(p->flow, p->dir);
	if (p->is_new || (kind == FLOW_TOP_SYNACK && (keep || !end->open)))
		return;
	if (kind == FLOW_TOP_SYNACK || (kind == FLOW_TOP_SYN && end->open))
		next = end->isn;
	if (p->seq == next)
		return;
	x->x |= 1;
	if (p->seq == next - 1) {
		x->seq_code = 0;
		return;
	}
	unsigned n = end->n_segs < FLOW_SEGS ? end->n_segs : FLOW_SEGS;
	for (unsigned k = 1; k <= n; k++)
		if (p->seq == flow_seg_begin(end, k)) {
			x->seq_code = (uint8_t)k;
			return;
		}
	bool ahead = (int32_t)(p->seq - next) > 0;
	x->seq_code = ahead ? 102 : 103;
	x->seq_diff = ahead ? p->seq - next : next - p->seq;
}

/* The shortest way to say flags and length; *len: how the length is said. */
static unsigned top_kind(const struct flow_encoder *e, const struct flow_pkt *p, enum flow_len *len)
{
	const struct flow_end *end = &p->flow->end[p->dir];
	bool full = e->cfg.payload == NSSM_PAYLOAD_FULL;
	enum flow_len may[3] = {FLOW_LEN_SAID, FLOW_LEN_SAID, FLOW_LEN_SAID};
	if (p->len == 0)
		may[0] = may[1] = may[2] = FLOW_LEN_0;
	else if (!full && p->len == end->len_last)
		may[0] = FLOW_LEN_LAST;
	if (!full && p->len > 0 && p->len == end->len_max)
		may[1] = FLOW_LEN_MAX;
	for (int i = 0; i < 3; i++)
		for (unsigned k = 0; k < FLOW_TOP_FLAGS; k++)
			if (flow_top[k].flags == p->flags && flow_top[k].len == may[i]) {
				*len = may[i];
				return k;
			}
	*len = p->len == 0 ? FLOW_LEN_0 : FLOW_LEN_SAID;
	return p->len == 0 ? FLOW_TOP_FLAGS : FLOW_TOP_FLAGS + 1;
}

/* ACK's code; 253, 254: *diff follows. */
static unsigned ack_code(const struct flow_pkt *p, uint32_t next, uint32_t *diff)
{
	const struct flow_end *end = &p->flow->end[p->dir], *peer = &p->flow->end[!p->dir];
	unsigned open = peer->n_segs - peer->n_acked;
	if (end->has_ack && p->ack == end->ack)
		return 0;
	for (unsigned k = 1; k <= open && k <= 100; k++)
		if (p->ack == flow_ack_of(p->flow, p->dir, k))
			return k;
	bool beyond = (int32_t)(p->ack - next) > 0;
	*diff = beyond ? p->ack - next : next - p->ack;
	return beyond ? 253 : 254;
}

static void expect_ecr(struct extra *x, const struct flow_pkt *p, uint32_t ecr)
{
	if (ecr == flow_next_ecr(p->flow, p->dir, p->ack, p->flow->end[p->dir].ecr_mode))
		return;
	x->x |= 2;
	for (x->ecr_code = 0; x->ecr_code < 4; x->ecr_code++)
		if (ecr == flow_next_ecr(p->flow, p->dir, p->ack, x->ecr_code))
			return;
	x->tse = flow_next_ecr(p->flow, p->dir, p->ack, 0) - ecr;
}

static void say_win(struct out *o, uint16_t win, uint16_t last)
{
	int more = win - last;
	if (more >= -100 && more <= 100) {
		byte(o, (unsigned)(more < 0 ? more + 100 : more + 99));
	} else if (win < 55 * 256) {
		byte(o, 200 + win / 256u);
		byte(o, win);
	} else {
		byte(o, 255);
		be(o, win, 2);
	}
}

static void say_tcp(struct flow_encoder *e, struct out *o, struct flow_pkt *p, struct extra *x)
{
	struct flow_state *s = &e->state;
	const struct flow_end *end = &p->flow->end[p->dir];
	const struct flow_host *h = &s->host[p->ver == 6][p->flow->host[p->dir]];
	bool keep = e->cfg.identity == NSSM_IDENTITY_KEEP;
	enum flow_len len;
	unsigned kind = top_kind(e, p, &len);
	uint32_t next = flow_next_ack(p->flow, p->dir, p->flags), ack_diff = 0;
	bool ack = !p->is_new && p->ack != next;
	unsigned code = ack ? ack_code(p, next, &ack_diff) : 0;
	bool syn_ack = (p->flags & (FLOW_SYN | FLOW_ACK)) == (FLOW_SYN | FLOW_ACK);
	uint16_t last_win = end->sent ? end->win : h->syn_win[syn_ack];
	bool win = p->win != last_win;
	const uint8_t *ts = flow_find_ts(p->opt, p->n_opt);
	expect_options(e, x, p);
	if ((x->x & 8) != 0 && x->layout == 255)
		ts = NULL;
	uint32_t beyond = ts != NULL && (end->has_ts || keep) ? get32(ts + 2) - flow_next_ts(s, p->flow, p->dir) : 0;
	if (ts != NULL) {
		expect_ecr(x, p, get32(ts + 6));
	}
	expect_seq(e, x, p, kind);
	byte(o, kind << 4 | (unsigned)ack << 3 | (unsigned)win << 2 | (beyond != 0) << 1 | (x->x != 0));
	if (kind >= FLOW_TOP_FLAGS)
		byte(o, p->flags);
	if (len == FLOW_LEN_SAID)
		num(o, p->len);
	if (keep && (p->is_new || kind == FLOW_TOP_SYNACK))
		be(o, p->seq, 4);
	if (keep && p->is_new && kind != FLOW_TOP_SYN)
		be(o, p->ack, 4);
	if (ack) {
		byte(o, code);
		if (code > 100)
			num(o, ack_diff);
	}
	if (win)
		say_win(o, p->win, last_win);
	if (beyond != 0)
		zigzag(o, beyond);
}

/* --- UDP, echo ------------------------------------------------------------------------------------------------------------------- */

/* The longest run of bytes that are the reference's; r, 0: none. */
static unsigned best_run(const struct flow_pkt *p, const uint8_t *ref, unsigned n_ref, unsigned *from, unsigned *n)
{
	static const struct {
		uint8_t begin, first; /* first: r of one byte from there */
	} start[4] = {{0, 1}, {1, 13}, {2, 24}, {4, 34}};
	unsigned best = 0, most = p->n_prefix < NSSM_FLOW_RUN_MAX ? p->n_prefix : NSSM_FLOW_RUN_MAX;
	*from = *n = 0;
	for (unsigned k = 0; k < 4; k++) {
		unsigned f = start[k].begin, i = f;
		while (i < most && p->prefix[i] == (i < n_ref ? ref[i] : 0))
			i++;
		if (i <= f + *n)
			continue;
		best = start[k].first + i - f - 1;
		*from = f;
		*n = i - f;
	}
	return best;
}

static void say_udp(struct flow_encoder *e, struct out *o, struct flow_pkt *p, const struct extra *x, unsigned *from, unsigned *n)
{
	const struct flow_end *end = &p->flow->end[p->dir], *peer = &p->flow->end[!p->dir];
	bool full = e->cfg.payload == NSSM_PAYLOAD_FULL;
	uint32_t prefix = e->cfg.payload == NSSM_PAYLOAD_PREFIX ? e->cfg.prefix : 0;
	bool long_enough = end->sent && !full && p->len >= prefix;
	unsigned m = long_enough && p->len == end->len_last ? 1 : long_enough && p->len == end->len_max ? 2 : 0;
	const struct flow_end *ref = end->sent ? end : peer;
	unsigned r = e->cfg.payload == NSSM_PAYLOAD_NONE ? 0 : best_run(p, ref->prefix, ref->n_prefix, from, n);
	byte(o, 6 * r + 2 * m + (x->x != 0));
	if (m == 0)
		num(o, p->len);
}

static void say_echo(struct flow_encoder *e, struct out *o, struct flow_pkt *p, const struct extra *x)
{
	bool len = e->cfg.payload == NSSM_PAYLOAD_FULL || p->len != flow_next_echo_len(p->flow, p->dir);
	bool seq = p->port[1] != flow_next_echo_seq(p->flow, p->dir);
	byte(o, (unsigned)seq << 2 | (unsigned)len << 1 | (x->x != 0));
	if (len)
		num(o, p->len);
	if (seq)
		be(o, p->port[1], 2);
}

/* --- a packet ---------------------------------------------------------------------------------------------------------------------- */

static void say_known(struct flow_encoder *e, struct out *o, struct flow_pkt *p, const struct flow_built *b)
{
	struct flow_state *s = &e->state;
	struct flow *f = flow_of(s, p);
	p->flow = f;
	if (f != NULL)
		flow_say_flow(e, o, f, p->dir);
	else
		flow_say_new_flow(e, o, p);
	struct flow_end *end = &p->flow->end[p->dir];
	struct extra x = {.x = 0};
	unsigned from = 0, n = 0;
	/* UDP without a checksum stays so: RFC 768; over IPv6 it is a defect. */
	bool none = p->kind == FLOW_UDP && p->ver == 4 && p->l4_mode == FLOW_CSUM_ZERO;
	if (p->kind == FLOW_UDP && none != end->no_csum)
		x.x |= 1;
	flow_expect_iph(&x, p, end->ttl, end->tos, end->df, end->label);
	flow_expect_ipid(&x, s, p, end);
	flow_expect_bad(&x, p, none);
	flow_expect_link(&x, s, p, &end->link);
	flow_expect_cap(e, &x, p, b->end, flow_payload_kept(&e->cfg, p->kind, p->len, UINT32_MAX));
	if (p->kind == FLOW_TCP)
		say_tcp(e, o, p, &x);
	else if (p->kind == FLOW_UDP)
		say_udp(e, o, p, &x, &from, &n);
	else
		say_echo(e, o, p, &x);
	if (x.x != 0)
		flow_say_extra(e, o, &x, p, &end->link, b->end);
	if (p->kind == FLOW_UDP)
		end->no_csum = none;
	flow_said_link(s, p, x.link);
	bytes(o, p->prefix, from < p->n_prefix ? from : p->n_prefix);
	if (from + n < p->n_prefix)
		bytes(o, p->prefix + from + n, p->n_prefix - from - n);
	flow_update(s, p);
}

static void say_arp(struct flow_encoder *e, struct out *o, struct flow_pkt *p, const struct flow_built *b)
{
	static const uint8_t none[6], all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	struct flow_state *s = &e->state;
	struct out refs = {.b = e->arp};
	unsigned src = flow_say_host(e, &refs, 4, p->addr[0], p->arp_mac[0]), dst = flow_say_host(e, &refs, 4, p->addr[1], p->eth);
	struct flow_host *a = &s->host[0][src], *t = &s->host[0][dst];
	bool request = p->arp_op == 1, plain = p->arp_op == 1 || p->arp_op == 2;
	unsigned op = plain ? p->arp_op : 0;
	struct out macs = {.b = e->arp + 64};
	if (memcmp(p->arp_mac[0], s->mac[a->mac_src], 6) != 0) {
		op |= 16;
		a->mac_src = a->mac_dst = (uint8_t)flow_say_mac(e, &macs, p->arp_mac[0], 0, NULL);
	}
	if (memcmp(p->arp_mac[1], request ? none : s->mac[t->mac_dst], 6) != 0) {
		op |= 4;
		flow_say_mac(e, &macs, p->arp_mac[1], 0, NULL);
	}
	if (memcmp(p->eth, request ? all : s->mac[t->mac_dst], 6) != 0) {
		op |= 8;
		flow_say_mac(e, &macs, p->eth, 0, NULL);
	}
	struct extra x = {.x = 0};
	struct flow_link link = {.smac = a->mac_src, .dmac = a->mac_src, .vlan = a->vlan};
	flow_expect_link(&x, s, p, &link);
	x.link &= ~2;
	x.x = x.link != 0 ? 64 : 0;
	flow_expect_cap(e, &x, p, b->end, 0);
	byte(o, NSSM_FLOW_CODE_ARP);
	byte(o, op | (x.x != 0) << 5);
	if (!plain)
		be(o, p->arp_op, 2);
	bytes(o, refs.b, refs.n);
	bytes(o, macs.b, macs.n);
	if (x.x != 0)
		flow_say_extra(e, o, &x, p, &link, b->end);
	a->vlan = link.vlan;
}

static void say_other(struct flow_encoder *e, struct out *o, struct flow_pkt *p, const struct flow_built *b)
{
	struct flow_state *s = &e->state;
	byte(o, NSSM_FLOW_CODE_OTHER + (p->ver == 6));
	unsigned src = flow_say_host(e, o, p->ver, p->addr[0], p->eth + 6), dst = flow_say_host(e, o, p->ver, p->addr[1], p->eth);
	struct flow_host *a = &s->host[p->ver == 6][src], *t = &s->host[p->ver == 6][dst];
	byte(o, p->proto);
	struct extra x = {.x = 0};
	struct flow_link link = {.smac = a->mac_src, .dmac = t->mac_dst, .vlan = a->vlan};
	flow_expect_iph(&x, p, a->ttl, a->tos, a->df, 0);
	if (p->ver == 4 && p->ipid != (uint16_t)(a->ipid + 1)) {
		x.x |= 4;
		x.id_code = 255;
	}
	flow_expect_bad(&x, p, false);
	flow_expect_link(&x, s, p, &link);
	flow_expect_cap(e, &x, p, b->end, 0);
	bool frag = p->ver == 4 && p->frag != (uint16_t)(a->df << 14);
	byte(o, (unsigned)frag << 1 | (x.x != 0));
	if (frag)
		be(o, p->frag, 2);
	num(o, p->len);
	if (x.x != 0)
		flow_say_extra(e, o, &x, p, &link, b->end);
	flow_said_host_link(a, t, &link, x.link);
	num(o, p->n_lit);
	bytes(o, p->lit, p->n_lit);
	if (p->ver == 4)
		a->ipid = p->ipid;
}

static void say_frame(struct flow_encoder *e, struct out *o, struct flow_pkt *p, const struct flow_built *b)
{
	byte(o, NSSM_FLOW_CODE_ETHER);
	be(o, p->ethertype, 2);
	struct flow_link link = {.smac = (uint8_t)flow_say_mac(e, o, p->eth + 6, 0, NULL)};
	link.dmac = (uint8_t)flow_say_mac(e, o, p->eth, 0, NULL);
	struct extra x = {.x = 0};
	x.link = p->vlan.n > 0 ? 4 : 0;
	x.x = x.link != 0 ? 64 : 0;
	flow_expect_cap(e, &x, p, b->end, 0);
	byte(o, x.x != 0);
	num(o, p->len);
	if (x.x != 0)
		flow_say_extra(e, o, &x, p, &link, b->end);
	num(o, p->n_lit);
	bytes(o, p->lit, p->n_lit);
}

size_t flow_encode(struct flow_encoder *e, uint8_t *bytes_out, const struct nssm_pkt *in)
{
	struct flow_pkt p = {0};
	struct flow_built b;
	uint64_t gap = 0;
	if (e->begun && in->ts_ns >= e->last_ns)
		gap = in->ts_ns - e->last_ns;
	e->n_time_back += e->begun && in->ts_ns < e->last_ns;
	e->begun = true;
	e->last_ns = in->ts_ns;
	flow_gap_code(gap, &p.step, &p.gapx);
	flow_parse(&e->parser, &p, &b, in);
	struct out o = {.b = bytes_out};
	byte(&o, p.step);
	if (p.step == 255)
		byte(&o, p.gapx);
	flow_clock(&e->state, p.step, p.gapx);
	switch (p.kind) {
	case FLOW_ARP:
		say_arp(e, &o, &p, &b);
		break;
	case FLOW_OTHER:
		say_other(e, &o, &p, &b);
		break;
	case FLOW_ETHER:
		say_frame(e, &o, &p, &b);
		break;
	default:
		say_known(e, &o, &p, &b);
	}
	return o.n;
}

struct flow_encoder *flow_encoder_open(const struct nssm_codec_cfg *cfg)
{
	struct flow_encoder *e = malloc(sizeof *e);
	if (e != NULL) {
		e->cfg = *cfg;
		e->parser.cfg = &e->cfg;
		e->parser.state = &e->state;
		flow_encoder_begin(e);
	}
	return e;
}

void flow_encoder_begin(struct flow_encoder *e)
{
	flow_state_begin(&e->state, &e->cfg);
	e->begun = false;
	e->n_time_back = 0;
}

uint64_t flow_encoder_time_back(const struct flow_encoder *e)
{
	return e->n_time_back;
}

void flow_encoder_close(struct flow_encoder *e)
{
	free(e);
}
