#include "model/flow_state.h"

#include <math.h>

#include "model/iat.h"
#include "model/packet_impl.h"

#define CLOCK_MAX (1ull << 62)

static const uint16_t list_max[FLOW_N_KINDS] = {NSSM_FLOW_TCP_MAX, NSSM_FLOW_UDP_MAX, NSSM_FLOW_ECHO_MAX};
static const uint16_t first_slot[FLOW_N_KINDS] = {0, NSSM_FLOW_TCP_MAX, NSSM_FLOW_TCP_MAX + NSSM_FLOW_UDP_MAX};
static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* Ticks of timestamp clocks in ns: 1 ms, 4 ms, 10 ms, 100 ms, 500 ms; and the geometric means between neighbours. */
static const uint64_t period_ns[] = {1000000, 4000000, 10000000, 100000000, 500000000};
static const uint64_t period_below[] = {2000000, 6324555, 31622777, 223606798};
#define N_BELOW (sizeof period_below / sizeof *period_below)
/* A period is not told from less. */
#define PERIOD_LEAST_NS 50000000u

void flow_state_begin(struct flow_state *s, const struct nssm_codec_cfg *cfg)
{
	/* Tables of slots are written before they are read. */
	memset(s, 0, offsetof(struct flow_state, mac));
	s->cfg = cfg;
	s->snap = UINT32_MAX;
}

uint64_t flow_gap_mean(unsigned step, unsigned gapx)
{
	uint64_t lo, hi;
	nssm_iat_range(step, &lo, &hi);
	if (gapx == 0)
		return step == 0 ? 0 : lo + (hi - lo) / 2 - (hi - lo) / 46; /* of 2^(1/8): 0.4783 of the way */
	double ns = (double)lo * exp2((gapx + 0.5) / 8);
	return ns < (double)CLOCK_MAX ? (uint64_t)ns : CLOCK_MAX;
}

void flow_gap_code(uint64_t gap_ns, uint8_t *step, uint8_t *gapx)
{
	uint64_t lo, hi;
	*step = (uint8_t)nssm_iat_step(gap_ns);
	*gapx = 0;
	nssm_iat_range(255, &lo, &hi);
	if (gap_ns >= hi)
		*gapx = (uint8_t)fmin(255, floor(8 * log2((double)gap_ns / (double)lo)));
}

enum flow_class flow_addr_class(int ver, const uint8_t *a)
{
	static const uint8_t none[16];
	if (ver == 6) {
		if (a[0] == 0xff || memcmp(a, none, 15) == 0)
			return FLOW_CLASS_LITERAL;
		if (a[0] == 0xfe && a[1] >> 6 == 2)
			return FLOW_CLASS_LINK;
		return (a[0] & 0xfe) == 0xfc ? FLOW_CLASS_LOCAL : FLOW_CLASS_GLOBAL;
	}
	if (a[0] >= 224 || a[0] == 127 || a[0] == 0)
		return FLOW_CLASS_LITERAL;
	if (a[0] == 169 && a[1] == 254)
		return FLOW_CLASS_LINK;
	bool local = a[0] == 10 || (a[0] == 172 && a[1] >> 4 == 1) || (a[0] == 192 && a[1] == 168) || (a[0] == 100 && a[1] >> 6 == 1);
	return local ? FLOW_CLASS_LOCAL : FLOW_CLASS_GLOBAL;
}

void flow_clock(struct flow_state *s, unsigned step, unsigned gapx)
{
	uint64_t gap = flow_gap_mean(step, gapx);
	s->now_ns = gap > CLOCK_MAX - s->now_ns ? CLOCK_MAX : s->now_ns + gap;
}

/* --- hosts, MACs, ports ---------------------------------------------------------------------------------------- */

/* The slot that a list's next newcomer gets, in front. */
static unsigned take_slot(struct flow_list *l, unsigned max, unsigned first)
{
	if (l->n < max) {
		l->slot[l->n] = (uint16_t)(first + l->n);
		l->n++;
	}
	flow_front(l, l->n - 1u);
	return l->slot[0];
}

static unsigned addr_hash(int ver, const uint8_t *addr, unsigned buckets)
{
	uint64_t a = 0, b = 0;
	if (ver == 4) {
		a = get32(addr);
	} else {
		memcpy(&a, addr, 8);
		memcpy(&b, addr + 8, 8);
	}
	return (unsigned)(((a ^ (b * 0x9e3779b97f4a7c15u)) * 0x9e3779b97f4a7c15u) >> 40) & (buckets - 1);
}

static unsigned addr_bytes(int ver)
{
	return ver == 6 ? 16 : 4;
}

int flow_find_host(const struct flow_state *s, int ver, const uint8_t *addr)
{
	unsigned v = ver == 6;
	for (unsigned i = s->host_bucket[v][addr_hash(ver, addr, HOST_BUCKETS)]; i != 0; i = s->host[v][i - 1].chain)
		if (memcmp(s->host[v][i - 1].addr, addr, addr_bytes(ver)) == 0)
			return (int)i - 1;
	return -1;
}

static void unlink_host(struct flow_state *s, unsigned v, unsigned slot)
{
	uint16_t *p = &s->host_bucket[v][addr_hash(v ? 6 : 4, s->host[v][slot].addr, HOST_BUCKETS)];
	while (*p != 0 && *p != slot + 1)
		p = &s->host[v][*p - 1].chain;
	if (*p != 0)
		*p = s->host[v][slot].chain;
}

static unsigned key_bucket(uint64_t key)
{
	return (unsigned)((key * 0x9e3779b97f4a7c15u) >> 48) & (FLOW_BUCKETS - 1);
}

static void hide_flow(struct flow_state *s, struct flow *f)
{
	if (f->key == 0)
		return;
	uint16_t *p = &s->bucket[key_bucket(f->key)];
	while (&s->flow[*p - 1] != f)
		p = &s->flow[*p - 1].chain;
	*p = f->chain;
	f->key = 0;
}

static void hide_flows_of(struct flow_state *s, int ver, unsigned slot)
{
	for (int k = 0; k < FLOW_N_KINDS; k++)
		for (unsigned i = 0; i < s->order[k].n; i++) {
			struct flow *f = &s->flow[s->order[k].slot[i]];
			if (f->ver == ver && (f->host[0] == slot || f->host[1] == slot))
				hide_flow(s, f);
		}
}

unsigned flow_new_host(struct flow_state *s, int ver, const uint8_t *addr)
{
	unsigned v = ver == 6;
	bool full = s->hosts[v].n == NSSM_FLOW_HOSTS_MAX;
	unsigned slot = take_slot(&s->hosts[v], NSSM_FLOW_HOSTS_MAX, 0);
	struct flow_host *h = &s->host[v][slot];
	if (full) {
		hide_flows_of(s, ver, slot);
		unlink_host(s, v, slot);
	}
	*h = (struct flow_host){.ttl = 64, .df = true, .id_mode = 1};
	/* Until it has sent one, a SYN is foretold to be what Linux sends on Ethernet. */
	static const uint8_t opt[20] = {2, 4, 5, 0xb4, 4, 2, 8, 10, [16] = 1, 3, 3, 7};
	for (int answer = 0; answer < 2; answer++) {
		h->n_syn_opt[answer] = sizeof opt;
		memcpy(h->syn_opt[answer], opt, sizeof opt);
		put16(h->syn_opt[answer] + 2, ver == 6 ? 1440 : 1460);
		h->syn_win[answer] = answer ? (ver == 6 ? 64704 : 65160) : (ver == 6 ? 64800 : 64240);
	}
	memcpy(h->addr, addr, addr_bytes(ver));
	uint16_t *bucket = &s->host_bucket[v][addr_hash(ver, addr, HOST_BUCKETS)];
	h->chain = *bucket;
	*bucket = (uint16_t)(slot + 1);
	return slot;
}

unsigned flow_new_mac(struct flow_state *s, const uint8_t mac[6])
{
	unsigned slot = take_slot(&s->macs, NSSM_FLOW_MACS_MAX, 0);
	memcpy(s->mac[slot], mac, 6);
	s->mac_pads[slot] = false;
	return slot;
}

void flow_new_port(struct flow_state *s, uint16_t port)
{
	s->port_of[take_slot(&s->ports, NSSM_FLOW_PORTS_MAX, 0)] = port;
}

void flow_implied_mac(uint8_t mac[6], int ver, const uint8_t *addr)
{
	static const uint8_t group4[3] = {0x01, 0x00, 0x5e};
	if (ver == 6) {
		mac[0] = mac[1] = addr[0] == 0xff ? 0x33 : 0x02;
		memcpy(mac + 2, addr + 12, 4);
	} else if (addr[0] >> 4 == 14) { /* RFC 1112, section 6.4 */
		memcpy(mac, group4, 3);
		memcpy(mac + 3, addr + 1, 3);
		mac[3] &= 0x7f;
	} else if (memcmp(addr, broadcast, 4) == 0) {
		memcpy(mac, broadcast, 6);
	} else {
		mac[0] = 0x02;
		mac[1] = 0;
		memcpy(mac + 2, addr, 4);
	}
}

/* --- flows ------------------------------------------------------------------------------------------------------ */

uint64_t flow_key(int kind, int ver, unsigned src, uint16_t sport, unsigned dst, uint16_t dport)
{
	uint64_t a = (uint64_t)src << 16 | sport, b = (uint64_t)dst << 16 | dport;
	if (a > b) {
		uint64_t t = a;
		a = b;
		b = t;
	}
	return 1ull << 63 | (uint64_t)kind << 52 | (uint64_t)(ver == 6) << 51 | a << 24 | b;
}

struct flow *flow_find(struct flow_state *s, uint64_t key)
{
	for (unsigned i = s->bucket[key_bucket(key)]; i != 0; i = s->flow[i - 1].chain)
		if (s->flow[i - 1].key == key)
			return &s->flow[i - 1];
	return NULL;
}

static void begin_end(struct flow_end *e, const struct flow_host *from, const struct flow_host *to)
{
	memset(e, 0, offsetof(struct flow_end, seg));
	e->ttl = from->ttl;
	e->tos = from->tos;
	e->df = from->df;
	e->id_mode = from->id_mode;
	e->period = from->period;
	e->link = (struct flow_link){.smac = from->mac_src, .dmac = to->mac_dst, .vlan = from->vlan};
}

struct flow *flow_open(
        struct flow_state *s, int kind, int ver, unsigned src, uint16_t sport, unsigned dst, uint16_t dport)
{
	uint64_t key = flow_key(kind, ver, src, sport, dst, dport);
	struct flow *old = flow_find(s, key);
	if (old != NULL)
		hide_flow(s, old);
	struct flow_list *l = &s->order[kind];
	bool full = l->n == list_max[kind];
	unsigned slot = take_slot(l, list_max[kind], first_slot[kind]);
	struct flow *f = &s->flow[slot];
	if (full)
		hide_flow(s, f);
	const struct flow_host *h = s->host[ver == 6], *a = &h[src], *b = &h[dst];
	f->key = key;
	f->kind = (uint8_t)kind;
	f->ver = (uint8_t)ver;
	f->host[0] = (uint8_t)src;
	f->host[1] = (uint8_t)dst;
	memcpy(f->addr[0], a->addr, 16);
	memcpy(f->addr[1], b->addr, 16);
	f->port[0] = sport;
	f->port[1] = dport;
	f->closed = f->torn = false;
	f->fins = 0;
	begin_end(&f->end[0], a, b);
	begin_end(&f->end[1], b, a);
	uint16_t *bucket = &s->bucket[key_bucket(key)];
	f->chain = *bucket;
	*bucket = (uint16_t)(slot + 1);
	return f;
}

struct flow *flow_of(struct flow_state *s, struct flow_pkt *p)
{
	int src = flow_find_host(s, p->ver, p->addr[0]), dst = src < 0 ? -1 : flow_find_host(s, p->ver, p->addr[1]);
	if (dst < 0)
		return NULL;
	bool echo = p->kind == FLOW_ECHO;
	struct flow *f = flow_find(s, flow_key(p->kind, p->ver, (unsigned)src, p->port[0], (unsigned)dst, p->port[!echo]));
	if (f == NULL)
		return NULL;
	int dir = f->host[0] != src || f->port[0] != p->port[0] ||
	          (f->host[1] == src && f->port[1] == p->port[0] && p->dir == 1);
	if (echo)
		return dir == p->dir ? f : NULL;
	p->dir = (uint8_t)dir;
	bool syn = p->kind == FLOW_TCP && (p->flags & (FLOW_SYN | FLOW_ACK)) == FLOW_SYN;
	bool anew = syn && (f->closed || (f->end[dir].open && f->end[dir].isn != p->seq));
	return anew ? NULL : f;
}

/* --- what is foretold -------------------------------------------------------------------------------------------- */

uint32_t flow_next_seq(const struct flow *f, int dir)
{
	const struct flow_end *e = &f->end[dir], *peer = &f->end[!dir];
	return e->open ? e->nxt : peer->has_ack ? peer->ack : 0;
}

uint32_t flow_next_ack(const struct flow *f, int dir, uint8_t flags)
{
	const struct flow_end *e = &f->end[dir], *peer = &f->end[!dir];
	if ((flags & FLOW_ACK) == 0)
		return 0;
	return peer->open ? peer->nxt : e->has_ack ? e->ack : 0;
}

uint32_t flow_next_ts(const struct flow_state *s, const struct flow *f, int dir)
{
	const struct flow_end *e = &f->end[dir];
	const struct flow_host *h = &s->host[f->ver == 6][f->host[dir]];
	if (e->has_ts)
		return e->ts_val + (uint32_t)((s->now_ns - e->ts_ns) / period_ns[e->period]);
	return h->has_ts ? h->tsval + (uint32_t)((s->now_ns - h->ts_ns) / period_ns[h->period]) : 0;
}

uint32_t flow_next_ecr(const struct flow *f, int dir, uint32_t ack, unsigned mode)
{
	const struct flow_end *e = &f->end[dir], *peer = &f->end[!dir];
	uint32_t latest = peer->has_ts ? peer->tsval : 0;
	if (mode == 0 || !e->has_ts)
		return latest;
	uint32_t k = peer->n_acked, ecr = e->tsecr;
	for (; mode > 1 && k < peer->n_segs && (int32_t)(peer->seg[k % FLOW_SEGS].end - ack) <= 0; k++) {
		ecr = peer->seg[k % FLOW_SEGS].tsval;
		if (mode == 2)
			break;
	}
	return ecr;
}

uint16_t flow_next_ipid(const struct flow_state *s, const struct flow *f, int dir, int mode)
{
	const struct flow_end *e = &f->end[dir];
	uint16_t with_host = (uint16_t)(s->host[0][f->host[dir]].ipid + 1);
	switch (mode) {
	case 0:
		return e->sent ? (uint16_t)(e->ipid + 1) : with_host;
	case 1:
		return with_host;
	default:
		return e->sent ? e->ipid : 0;
	}
}

unsigned flow_next_layout(const struct flow *f, int dir, uint8_t flags)
{
	const struct flow_end *e = &f->end[dir], *peer = &f->end[!dir];
	if ((flags & FLOW_SYN) != 0)
		return 255;
	if ((flags & FLOW_RST) != 0)
		return 0;
	if (e->plain != 0)
		return e->plain == 2;
	return (e->syn_ts && peer->syn_ts) || peer->plain == 2;
}

uint32_t flow_seg_begin(const struct flow_end *e, unsigned k)
{
	unsigned known = e->n_segs < FLOW_SEGS ? e->n_segs : FLOW_SEGS;
	if (known == 0)
		return e->nxt;
	return e->seg[(e->n_segs - (k < known ? k : known)) % FLOW_SEGS].begin;
}

uint32_t flow_seg_end(const struct flow_end *e, unsigned k)
{
	unsigned known = e->n_segs < FLOW_SEGS ? e->n_segs : FLOW_SEGS;
	if (known == 0)
		return e->nxt;
	return e->seg[(e->n_segs - (k < known ? k : known)) % FLOW_SEGS].end;
}

uint32_t flow_edge(const struct flow *f, int dir, unsigned code, bool end)
{
	const struct flow_end *e = &f->end[dir], *peer = &f->end[!dir];
	if (code >= FLOW_EDGE_LAST && code - FLOW_EDGE_LAST < e->n_sack)
		return e->sack[code - FLOW_EDGE_LAST];
	if (code == 0 || code >= FLOW_EDGE_LAST)
		return peer->nxt;
	return end ? flow_seg_end(peer, code) : flow_seg_begin(peer, code);
}

uint32_t flow_ack_of(const struct flow *f, int dir, unsigned k)
{
	const struct flow_end *e = &f->end[dir], *peer = &f->end[!dir];
	unsigned open = peer->n_segs - peer->n_acked;
	return k == 0 || open == 0 ? e->ack : peer->seg[(peer->n_acked + (k < open ? k : open) - 1) % FLOW_SEGS].end;
}

/* --- what is known after a packet ---------------------------------------------------------------------------------- */

static bool after(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

static void push_segment(struct flow_end *e, uint32_t begin, uint32_t end, uint32_t tsval)
{
	e->seg[e->n_segs % FLOW_SEGS].tsval = tsval;
	e->seg[e->n_segs % FLOW_SEGS].begin = begin;
	e->seg[e->n_segs % FLOW_SEGS].end = end;
	e->n_segs++;
	if (e->n_segs - e->n_acked > FLOW_SEGS)
		e->n_acked = e->n_segs - FLOW_SEGS;
}

/* Steps of time are coarse: an anchor that still foretells holds, so that parts of a tick add up. */
static void update_ts(struct flow_state *s, const struct flow_pkt *p, struct flow_host *h, struct flow_end *e, const uint8_t *ts)
{
	uint32_t val = get32(ts + 2);
	if (!e->has_ts || val != flow_next_ts(s, p->flow, p->dir)) {
		e->ts_val = val;
		e->ts_ns = s->now_ns;
	}
	uint64_t elapsed = s->now_ns - e->ref_ns;
	if (e->has_ts && after(val, e->ref_val) && elapsed >= PERIOD_LEAST_NS) {
		uint64_t period = elapsed / (val - e->ref_val);
		uint8_t k = 0;
		while (k < N_BELOW && period >= period_below[k])
			k++;
		if (k != e->period) {
			e->ts_val = val;
			e->ts_ns = s->now_ns;
		}
		h->period = e->period = k;
	}
	if (!e->has_ts || elapsed >= PERIOD_LEAST_NS) {
		e->ref_ns = s->now_ns;
		e->ref_val = val;
	}
	e->has_ts = h->has_ts = true;
	e->tsval = h->tsval = val;
	e->tsecr = get32(ts + 6);
	h->ts_ns = s->now_ns;
}

static void update_sack(struct flow_end *e, const uint8_t *opt, uint32_t n)
{
	for (uint32_t i = 0, len; (len = flow_option(opt + i, n - i)) > 0; i += len) {
		if (opt[i] != 5 || len < 10 || len > 34)
			continue;
		e->n_sack = (uint8_t)((len - 2) / 8 * 2);
		for (uint32_t k = 0; k < e->n_sack; k++)
			e->sack[k] = get32(opt + i + 2 + 4 * k);
		return;
	}
}

static void update_options(struct flow_state *s, const struct flow_pkt *p, struct flow_host *h, struct flow_end *e)
{
	const uint8_t *ts = p->n_opt >= 12 ? flow_find_ts(p->opt, p->n_opt) : NULL;
	if (ts != NULL)
		update_ts(s, p, h, e, ts);
	if (p->n_opt >= 12)
		update_sack(e, p->opt, p->n_opt);
	if ((p->flags & FLOW_SYN) != 0) {
		bool answer = (p->flags & FLOW_ACK) != 0;
		e->syn_ts = ts != NULL;
		h->syn_win[answer] = p->win;
		h->n_syn_opt[answer] = (uint8_t)p->n_opt;
		memcpy(h->syn_opt[answer], p->opt, p->n_opt);
	} else if ((p->flags & FLOW_RST) == 0) {
		e->plain = ts != NULL ? 2 : 1;
	}
}

static void update_tcp(struct flow_state *s, const struct flow_pkt *p, struct flow_host *h)
{
	struct flow *f = p->flow;
	struct flow_end *e = &f->end[p->dir], *peer = &f->end[!p->dir];
	uint32_t syn = (p->flags & FLOW_SYN) != 0, fin = (p->flags & FLOW_FIN) != 0;
	bool rst = (p->flags & FLOW_RST) != 0;
	uint32_t end = p->seq + p->len + syn + fin;
	update_options(s, p, h, e);
	if (!e->open) {
		e->open = true;
		e->isn = e->nxt = p->seq;
	}
	if (end != p->seq && after(end, e->nxt))
		push_segment(e, p->seq, end, e->tsval);
	if (after(end, e->nxt) && !rst)
		e->nxt = end;
	if ((p->flags & FLOW_ACK) != 0) {
		e->has_ack = true;
		e->ack = p->ack;
		while (peer->n_acked < peer->n_segs && !after(peer->seg[peer->n_acked % FLOW_SEGS].end, p->ack))
			peer->n_acked++;
	}
	f->fins |= (uint8_t)(fin << p->dir);
	f->closed |= rst || f->fins == 3;
	e->win = p->win;
}

uint32_t flow_next_echo_len(const struct flow *f, int dir)
{
	const struct flow_end *e = &f->end[dir], *peer = &f->end[!dir];
	return dir == 1 && peer->sent ? peer->len_last : e->len_last;
}

uint16_t flow_next_echo_seq(const struct flow *f, int dir)
{
	const struct flow_end *e = &f->end[dir], *peer = &f->end[!dir];
	return dir == 1 && peer->sent ? peer->echo_seq : (uint16_t)(e->echo_seq + 1);
}

void flow_said_id_mode(struct flow_state *s, const struct flow_pkt *p, unsigned mode)
{
	if (p->flow == NULL)
		return;
	p->flow->end[p->dir].id_mode = (uint8_t)mode;
	s->host[p->ver == 6][p->flow->host[p->dir]].id_mode = (uint8_t)mode;
}

void flow_said_host_link(struct flow_host *src, struct flow_host *dst, const struct flow_link *l, unsigned bits)
{
	if (bits & 1)
		src->mac_src = l->smac;
	if (bits & 2)
		dst->mac_dst = l->dmac;
	if (bits & 4)
		src->vlan = l->vlan;
}

void flow_said_link(struct flow_state *s, const struct flow_pkt *p, unsigned bits)
{
	struct flow_host *h = s->host[p->ver == 6];
	const struct flow *f = p->flow;
	flow_said_host_link(&h[f->host[p->dir]], &h[f->host[!p->dir]], &f->end[p->dir].link, bits);
}

static void update_flow(struct flow_state *s, const struct flow_pkt *p)
{
	struct flow *f = p->flow;
	struct flow_end *e = &f->end[p->dir];
	struct flow_host *h = &s->host[p->ver == 6][f->host[p->dir]];
	if (p->kind == FLOW_TCP)
		update_tcp(s, p, h);
	else if (p->kind == FLOW_ECHO)
		e->echo_seq = p->port[1];
	if (p->len > 0 || p->kind != FLOW_TCP) {
		e->len_last = p->len;
		e->len_max = p->len > e->len_max ? p->len : e->len_max;
	}
	if (p->kind == FLOW_UDP && s->cfg->payload != NSSM_PAYLOAD_NONE) {
		e->n_prefix = (uint8_t)(p->n_prefix < NSSM_FLOW_RUN_MAX ? p->n_prefix : NSSM_FLOW_RUN_MAX);
		memcpy(e->prefix, p->prefix, e->n_prefix);
	}
	e->ttl = p->ttl;
	e->tos = p->tos;
	e->label = p->label;
	e->df = p->df;
	/* What goes to a group has a life of its own. */
	if (flow_addr_class(p->ver, f->addr[!p->dir]) != FLOW_CLASS_LITERAL) {
		h->ttl = p->ttl;
		h->tos = p->tos;
		h->df = p->df;
	}
	if (p->ver == 4)
		h->ipid = e->ipid = p->ipid;
	e->sent = true;
}

void flow_update(struct flow_state *s, const struct flow_pkt *p)
{
	if (p->flow != NULL)
		update_flow(s, p);
}
