#include "replay/tape_impl.h"

#include <assert.h>

enum { PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_UDP = 17, PROTO_ICMP6 = 58 };
enum { SYN = 2, ACK = 16 };
#define RANDOM_LEN  32u
#define SID_MAX     32u
#define SID_UNKNOWN 255u
#define DNS_PORT    53u
#define DNS_LEN     12u

/* The patches of one record while they are collected. */
struct list {
	struct nssm_patch *p;
	uint32_t n;
	struct nssm_tape_builder *b;
	struct nssm_tape *t;
	const uint8_t *frame;
};

static void put(
        struct list *s, int what, uint32_t off, uint32_t n, uint32_t at, unsigned sum, const void *ref)
{
	assert(s->n < NSSM_PATCHES_MAX);
	if (off + n > UINT16_MAX)
		return;
	s->p[s->n++] = (struct nssm_patch){.off = (uint16_t)off,
	        .what = (uint8_t)what,
	        .sum = (uint8_t)sum,
	        .n = (uint16_t)n,
	        .at = (uint16_t)at,
	        .ref = ref};
}

static void put_addr(struct list *s, uint32_t off, uint32_t n, unsigned sum, const struct nssm_endpoint *e)
{
	if (e != NULL)
		put(s, NSSM_PATCH_ADDR, off, n, 0, sum, e);
}

/* Where one MAC stands; zeros and groups are nobody's. */
static void put_mac(struct list *s, uint32_t off, unsigned sum, const struct nssm_endpoint *e)
{
	static const uint8_t zeros[6];
	const uint8_t *mac = s->frame + off;
	if (e != NULL && (mac[0] & 1) == 0 && memcmp(mac, zeros, 6) != 0)
		put(s, NSSM_PATCH_MAC, off, 6, off == 0, sum, e);
}

/* --- ARP (RFC 826, 5227) --- */

/* A router asking for a host looks like a host asking for a router; by habit, routers have the first or last address. */
static bool like_router(const uint8_t *addr)
{
	return addr[3] == 1 || addr[3] == 254;
}

static void patch_arp(struct list *s, struct nssm_rec *rec)
{
	enum { SHA = 8, SPA = 14, THA = 18, TPA = 24, REQUEST = 1 };
	uint32_t l3 = rec->l3_off;
	const uint8_t *arp = s->frame + l3, *spa = arp + SPA, *tpa = arp + TPA;
	bool asks = nssm_get16(arp + 6) == REQUEST, own = memcmp(spa, tpa, 4) == 0;
	bool sender_is_client = own || (asks != (like_router(spa) && !like_router(tpa)));
	struct nssm_endpoint *sender = nssm_endpoint_named(
	        s->b, s->t, spa, 4, sender_is_client ? NSSM_ROLE_CLIENT : NSSM_ROLE_SERVER);
	bool probe = asks && nssm_get32(spa) == 0;
	struct nssm_endpoint *target = nssm_endpoint_named(
	        s->b, s->t, tpa, 4, probe || !sender_is_client ? NSSM_ROLE_CLIENT : NSSM_ROLE_SERVER);
	const struct nssm_endpoint *from = probe ? target : sender;
	put_mac(s, 6, 0, from);
	put_mac(s, 0, 0, target);
	put_mac(s, l3 + SHA, 0, from);
	put_mac(s, l3 + THA, 0, target);
	put_addr(s, l3 + SPA, 4, 0, sender);
	put_addr(s, l3 + TPA, 4, 0, target);
	rec->dir = from != NULL && from->role == NSSM_ROLE_SERVER;
}

/* --- TCP and UDP headers that are not whole, and those quoted in ICMP errors --- */

static void patch_ports(struct list *s, uint32_t l4, const struct nssm_flow *f, int dir, unsigned sum)
{
	put(s, NSSM_PATCH_PORT, l4, 2, (uint32_t)dir, sum, f);
	put(s, NSSM_PATCH_PORT, l4 + 2, 2, (uint32_t)!dir, sum, f);
}

/* Sequence numbers as far as the header goes. */
static void patch_seqs(
        struct list *s, uint32_t l4, uint32_t end, const struct nssm_flow *f, int dir, unsigned sum)
{
	if (l4 + 8 <= end)
		put(s, NSSM_PATCH_SEQ, l4 + 4, 4, (uint32_t)dir, sum, f);
	if (l4 + 14 <= end && (s->frame[l4 + 13] & ACK) != 0)
		put(s, NSSM_PATCH_SEQ, l4 + 8, 4, (uint32_t)!dir, sum, f);
}

static void patch_cut(struct list *s, const struct nssm_rec *rec, const struct nssm_layout *l)
{
	if (!l->has_ports)
		return;
	patch_ports(s, l->l4_off, rec->flow, rec->dir, NSSM_SUM_L4);
	if (l->h.proto == PROTO_TCP)
		patch_seqs(s, l->l4_off, l->end, rec->flow, rec->dir, NSSM_SUM_L4);
}

/* --- ICMP errors (RFC 792, 4443) --- */

/* The quoted packet's transport header, if its flow is known. */
static void patch_quoted_l4(struct list *s, const struct nssm_layout *q)
{
	const unsigned sum = NSSM_SUM_L4 | NSSM_SUM_INNER_L4;
	uint32_t l4 = q->l4_off, n = q->end - l4;
	int dir;
	const struct nssm_row *r = nssm_table_flow(&s->b->table, s->t, &dir, q);
	if (r == NULL)
		return;
	const struct nssm_flow *f = r->obj;
	if (q->kind == NSSM_REC_ICMP) {
		put(s, NSSM_PATCH_ECHO, l4 + 4, 2, 0, sum, f);
		return;
	}
	patch_ports(s, l4, f, dir, sum);
	if (q->h.proto == PROTO_TCP) {
		bool acks = n >= 14 && (s->frame[l4 + 13] & ACK) != 0;
		patch_seqs(s, l4, q->end, f, dir, sum);
		for (uint32_t i = 0; i < 2u * q->n_sack; i++)
			put(s, NSSM_PATCH_SEQ, q->sack_off + 4 * i, 4, (uint32_t)!dir, sum, f);
		if (q->ts_off != 0) {
			put(s, NSSM_PATCH_TS, q->ts_off, 4, (uint32_t)dir, sum, f);
			if (acks)
				put(s, NSSM_PATCH_TS, q->ts_off + 4u, 4, (uint32_t)!dir, sum, f);
		}
	} else if ((f->port[0] == DNS_PORT || f->port[1] == DNS_PORT) && f->opaque == NSSM_OPAQUE_NONE &&
	           n >= 10 && nssm_get16(s->frame + l4 + 4) >= 8 + DNS_LEN) {
		put(s, NSSM_PATCH_DNS, l4 + 8, 2, 0, sum, f);
	}
}

static void patch_quoted(struct list *s, uint32_t at, uint32_t end)
{
	struct nssm_layout q;
	if (!nssm_layout_quoted(&q, s->frame, at, end))
		return;
	bool v4 = q.addr_len == 4;
	struct nssm_endpoint *e[2];
	unsigned sum = NSSM_SUM_L4 | (v4 ? NSSM_SUM_INNER_IP : 0) |
	               (q.flags & NSSM_REC_PSEUDO ? NSSM_SUM_INNER_L4 : 0);
	for (int i = 0; i < 2; i++) {
		e[i] = nssm_endpoint_named(
		        s->b, s->t, q.addr[i], q.h.ip_version, i == 0 ? NSSM_ROLE_CLIENT : NSSM_ROLE_SERVER);
		put_addr(s, (uint32_t)(q.addr[i] - s->frame), q.addr_len,
		        i == 1 && (q.flags & NSSM_REC_ROUTED) ? sum & ~NSSM_SUM_INNER_L4 : sum, e[i]);
	}
	if (v4 && e[0] != NULL)
		put(s, NSSM_PATCH_IP_ID, at + 4, 2, 0, NSSM_SUM_L4 | NSSM_SUM_INNER_IP, e[0]);
	if (q.has_ports)
		patch_quoted_l4(s, &q);
	if (q.csum_off != 0)
		put(s, NSSM_PATCH_CSUM, q.csum_off, 2, q.h.proto == PROTO_UDP, NSSM_SUM_INNER_L4, NULL);
	if (v4)
		put(s, NSSM_PATCH_CSUM, at + 10, 2, 0, NSSM_SUM_INNER_IP, NULL);
}

/* --- Neighbor Discovery (RFC 4861, section 4) --- */

static void patch_nd(struct list *s, const struct nssm_rec *rec, const struct nssm_layout *l)
{
	enum { SOLICIT_ROUTER = 133, ADVERTISE_ROUTER, SOLICIT, ADVERTISE, REDIRECT };
	static const uint8_t options_at[5] = {8, 16, 24, 24, 40};
	enum { SOURCE_MAC = 1, TARGET_MAC = 2 };
	uint32_t l4 = l->l4_off, at = l4 + options_at[l->icmp_type - SOLICIT_ROUTER];
	if (at > l->end)
		return;
	const struct nssm_endpoint *source = rec->flow->end[rec->dir], *target = NULL;
	if (source->role == NSSM_ROLE_FIXED)
		source = NULL;
	if (l->icmp_type >= SOLICIT) {
		/* A host that has no address yet asks whether someone has the one it wants. */
		int role = source == NULL ? NSSM_ROLE_CLIENT : NSSM_ROLE_SERVER;
		target = nssm_endpoint_named(s->b, s->t, s->frame + l4 + 8, 6, role);
		put_addr(s, l4 + 8, 16, NSSM_SUM_L4, target);
	}
	if (l->icmp_type == REDIRECT)
		put_addr(s, l4 + 24, 16, NSSM_SUM_L4,
		        nssm_endpoint_named(s->b, s->t, s->frame + l4 + 24, 6, NSSM_ROLE_SERVER));
	for (unsigned k = 0; k < 4 && at + 8 <= l->end && s->frame[at + 1] != 0; k++) {
		if (s->frame[at] == SOURCE_MAC && s->frame[at + 1] == 1)
			put_mac(s, at + 2, NSSM_SUM_L4, source);
		if (s->frame[at] == TARGET_MAC && s->frame[at + 1] == 1)
			put_mac(s, at + 2, NSSM_SUM_L4, target);
		at += 8u * s->frame[at + 1];
	}
}

static void patch_icmp(struct list *s, const struct nssm_rec *rec, const struct nssm_layout *l)
{
	uint32_t l4 = l->l4_off;
	uint8_t type = l->icmp_type;
	bool v4 = l->addr_len == 4;
	if (l->has_ports)
		put(s, NSSM_PATCH_ECHO, l4 + 4, 2, 0, NSSM_SUM_L4, rec->flow);
	else if (v4 && type == 5 && l4 + 8 <= l->end)
		put_addr(s, l4 + 4, 4, NSSM_SUM_L4,
		        nssm_endpoint_named(s->b, s->t, s->frame + l4 + 4, 4, NSSM_ROLE_SERVER));
	if (v4 ? type == 3 || type == 4 || type == 5 || type == 11 || type == 12 : type < 128)
		patch_quoted(s, l4 + 8, l->end);
	else if (!v4 && type >= 133 && type <= 137)
		patch_nd(s, rec, l);
}

/* --- TLS hellos (RFC 5246, section 7.4.1; RFC 8446, sections 4.1.2 and 4.1.3) --- */

/* A hello at the front of a segment or after a few whole records (a ChangeCipherSpec often comes first). *at: its random. */
static int find_hello(uint32_t *at, const uint8_t *p, uint32_t n)
{
	enum { CHANGE_CIPHER = 20, HANDSHAKE = 22, APPLICATION = 23, CLIENT_HELLO = 1, SERVER_HELLO = 2 };
	uint32_t off = 0;
	for (unsigned k = 0; k < 4 && n >= 11 && off <= n - 11; k++) {
		const uint8_t *r = p + off;
		if (r[0] < CHANGE_CIPHER || r[0] > APPLICATION || r[1] != 3)
			break;
		if (r[0] == HANDSHAKE && (r[5] == CLIENT_HELLO || r[5] == SERVER_HELLO) && r[9] == 3) {
			*at = off + 11;
			return r[5] == CLIENT_HELLO ? NSSM_APP_TLS_CLIENT_HELLO : NSSM_APP_TLS_SERVER_HELLO;
		}
		off += 5 + nssm_get16(r + 3);
	}
	return NSSM_APP_NONE;
}

/* How much of a random is random, by as much of it as is there: HelloRetryRequest has a magic value, and a server that was asked for
 * less than it can do says so in the last 8 bytes (RFC 8446, section 4.1.3). */
static uint8_t random_bytes(const uint8_t *random, uint32_t n)
{
	static const uint8_t retry[32] = {0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
	        0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e,
	        0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};
	if (n >= 8 && memcmp(random, retry, n < 32 ? n : 32) == 0)
		return 0;
	return n >= 32 && memcmp(random + 24, "DOWNGRD", 7) == 0 && random[31] <= 1 ? 24 : 32;
}

static uint32_t data_seq(const struct nssm_layout *l, const uint8_t *frame)
{
	return nssm_get32(frame + l->l4_off + 4) + ((l->tcp_flags & SYN) != 0);
}

/* [from, to) of the hello's bytes, counted from its random, as far as they are in the segment. */
static void put_part(struct list *s, int what, int64_t random_at, uint32_t from, uint32_t to,
        uint32_t payload, uint32_t n, uint32_t dir, const void *ref)
{
	int64_t a = random_at + from, z = random_at + to;
	uint32_t skip = 0;
	if (a < 0) {
		skip = (uint32_t)(-a);
		a = 0;
	}
	if (z > n)
		z = n;
	if (a < z)
		put(s, what, payload + (uint32_t)a, (uint32_t)(z - a), dir << 8 | skip, NSSM_SUM_L4, ref);
}

/* Repeated segments may be cut differently, so what is rewritten goes by sequence numbers. */
static void patch_tls(struct list *s, struct nssm_rec *rec, const struct nssm_layout *l)
{
	uint32_t payload = l->h.payload_off, n = l->end - payload, at;
	const uint8_t *p = s->frame + payload;
	struct nssm_flow *f = rec->flow;
	uint8_t d = rec->dir;
	int app = find_hello(&at, p, n);
	if (app != NSSM_APP_NONE && payload + at <= UINT16_MAX) {
		rec->app = (uint8_t)app;
		rec->app_off = (uint16_t)(payload + at - 11);
		f->hello[d] = true;
		f->hello_seq[d] = data_seq(l, s->frame) + at;
		f->hello_random[d] = at < n ? random_bytes(p + at, n - at) : RANDOM_LEN;
		f->hello_sid[d] = SID_UNKNOWN;
	}
	if (!f->hello[d])
		return;
	int64_t random_at = (int32_t)(f->hello_seq[d] - data_seq(l, s->frame)),
	        sid_at = random_at + RANDOM_LEN;
	if (f->hello_sid[d] == SID_UNKNOWN && sid_at >= 0 && sid_at < n)
		f->hello_sid[d] = p[sid_at] <= SID_MAX ? p[sid_at] : 0;
	put_part(s, NSSM_PATCH_RANDOM, random_at, 0, f->hello_random[d], payload, n, d, f);
	if (f->hello_sid[d] != SID_UNKNOWN)
		put_part(s, NSSM_PATCH_SID, random_at, RANDOM_LEN + 1, RANDOM_LEN + 1u + f->hello_sid[d],
		        payload, n, 0, NULL);
}

static bool wants_tls(const struct nssm_layout *l, const struct nssm_flow *f, int dir, const uint8_t *frame)
{
	uint32_t payload = l->h.payload_off, n = l->end > payload ? l->end - payload : 0, at;
	if (n == 0)
		return false;
	if (f != NULL && f->hello[dir]) {
		int32_t to = (int32_t)(f->hello_seq[dir] - data_seq(l, frame));
		if (to < (int64_t)n && to > -(int32_t)(RANDOM_LEN + 1 + SID_MAX))
			return true;
	}
	return find_hello(&at, frame + payload, n) != NSSM_APP_NONE;
}

/* --- all of them --- */

bool nssm_patch_wanted(const struct nssm_layout *l, const struct nssm_flow *f, int dir, const uint8_t *frame)
{
	return l->kind == NSSM_REC_ARP || l->kind == NSSM_REC_ICMP || l->cut ||
	       (l->kind == NSSM_REC_TCP && wants_tls(l, f, dir, frame));
}

uint32_t nssm_patch_make(struct nssm_patch *p, struct nssm_rec *rec, struct nssm_tape_builder *b,
        struct nssm_tape *t, const struct nssm_layout *l, const uint8_t *frame)
{
	struct list s = {.p = p, .b = b, .t = t, .frame = frame};
	const struct nssm_flow *f = rec->flow;
	if (l->kind == NSSM_REC_ARP)
		patch_arp(&s, rec);
	else if (f == NULL)
		return 0;
	else if (l->cut)
		patch_cut(&s, rec, l);
	else if (l->kind == NSSM_REC_ICMP)
		patch_icmp(&s, rec, l);
	else if (l->kind == NSSM_REC_TCP && f->opaque == NSSM_OPAQUE_NONE && wants_tls(l, f, rec->dir, frame))
		patch_tls(&s, rec, l);
	/* UDP from or to port 53 only: over mDNS and LLMNR the answer to a group's question comes on another flow, which does not
	 * know what the id became. */
	else if (l->kind == NSSM_REC_UDP && f->opaque == NSSM_OPAQUE_NONE &&
	         (f->port[0] == DNS_PORT || f->port[1] == DNS_PORT) && l->end >= l->h.payload_off + DNS_LEN) {
		rec->app = NSSM_APP_DNS;
		rec->app_off = l->h.payload_off;
	}
	return s.n;
}
