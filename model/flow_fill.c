#include "model/flow_fill.h"

#include <stdlib.h>
#include <string.h>

#include "model/packet_impl.h"

#define QUIC_ID_BYTES    8u
#define QUIC_ID_MAX      20u   /* RFC 9000, 17.2 */
#define QUIC_INITIAL_MIN 1200u /* 14.1 */
#define QUIC_LONG_MIN    64u   /* room for a long header and a tag */
#define HELLO_SID_AT     45u   /* SYN, record and handshake header, version, random, length */

int flow_fill_open(struct flow_fill *f, enum nssm_fill how)
{
	f->how = how;
	f->ports = (struct nssm_secure_ports){.learned = false};
	f->tls = how == NSSM_FILL_TLS ? calloc(NSSM_FLOW_TCP_MAX, sizeof *f->tls) : NULL;
	return how == NSSM_FILL_TLS && f->tls == NULL ? -1 : 0;
}

void flow_fill_close(struct flow_fill *f)
{
	free(f->tls);
	f->tls = NULL;
}

void flow_fill_begin(struct flow_fill *f, uint64_t seed, uint64_t session)
{
	nssm_rng_init(&f->rng, seed, session, NSSM_RNG_PAYLOAD);
	f->n_flows = 0;
}

/* Bytes of one direction of a flow: a stream beside the session's own one. */
static void bytes_at(const struct flow_fill *f, const struct flow_fill_flow *w, int dir, uint32_t off, uint8_t *dst, uint32_t n)
{
	struct nssm_rng r = f->rng;
	r.purpose |= (2 * w->number + (uint32_t)dir + 1) << 8;
	nssm_rng_bytes_at(&r, off, dst, n);
}

/* Who speaks first is the client, unless it answers or the other's port alone is a server's. */
static void begin_flow(struct flow_fill *f, unsigned slot, const struct flow_pkt *p, uint32_t len)
{
	bool udp = p->kind == FLOW_UDP, syn = !udp && (p->flags & FLOW_SYN) != 0, answers = syn && (p->flags & FLOW_ACK) != 0;
	bool there = nssm_secure_port(&f->ports, udp, p->port[1]), here = nssm_secure_port(&f->ports, udp, p->port[0]);
	struct flow_fill_flow *w = &f->flow[slot];
	*w = (struct flow_fill_flow){.number = f->n_flows++};
	w->client = answers || (!syn && here && !there);
	w->secure = f->how == NSSM_FILL_TLS && p->kind != FLOW_ECHO && (w->client == 1 ? here : there);
	w->fresh = udp ? w->client == 0 && len >= QUIC_INITIAL_MIN : syn;
	if (f->tls != NULL && p->kind == FLOW_TCP)
		f->tls[slot][0].begun = f->tls[slot][1].begun = false;
}

/* --- TLS --------------------------------------------------------------------------------------------------------- */

static void frame_tls(struct flow_fill *f, const struct flow_fill_flow *w, struct nssm_tls_stream *t, const struct flow_pkt *p, uint8_t *payload,
        uint32_t known, uint32_t len)
{
	uint32_t syn = (p->flags & FLOW_SYN) != 0;
	if (!t->begun && (syn || len > 0)) {
		nssm_tls_begin(t, p->seq + syn, p->dir == w->client, w->fresh);
		if (!t->client)
			bytes_at(f, w, w->client, HELLO_SID_AT, t->sid, sizeof t->sid);
	}
	const struct nssm_tls_segment s = {.seq = p->seq + syn,
	        .len = len,
	        .n_known = known,
	        .push = (p->flags & (FLOW_PSH | FLOW_FIN)) != 0,
	        .longest = len >= p->flow->end[p->dir].len_max};
	nssm_tls_segment(t, payload, &s);
}

static void fill_tcp(struct flow_fill *f, const struct flow_fill_flow *w, struct nssm_tls_stream *t, const struct flow_pkt *p, uint8_t *payload,
        uint32_t known, uint32_t len)
{
	const struct flow_end *e = &p->flow->end[p->dir];
	uint32_t syn = (p->flags & FLOW_SYN) != 0, off = p->seq + syn - (e->open ? e->isn : p->seq);
	if (len > known)
		bytes_at(f, w, p->dir, off + known, payload + known, len - known);
	if (w->secure)
		frame_tls(f, w, t, p, payload, known, len);
}

/* --- QUIC -------------------------------------------------------------------------------------------------------- */

/* A header that is read where it is known and written where it is not. */
struct quic {
	uint8_t *p;
	uint32_t at, known, len;
};

static unsigned octet(struct quic *q, unsigned v)
{
	if (q->at >= q->len)
		return v;
	uint8_t *b = &q->p[q->at++];
	if (q->at > q->known)
		*b = (uint8_t)v;
	return *b;
}

/* A connection id with its length; false: there is none that long. */
static bool identifier(struct quic *q, unsigned n, const uint8_t id[QUIC_ID_MAX])
{
	n = octet(q, n);
	for (unsigned i = 0; i < n && n <= QUIC_ID_MAX; i++)
		octet(q, id[i]);
	return n <= QUIC_ID_MAX;
}

/* RFC 9000, 17.2; what a known header says that this does not know is left alone. */
static void long_header(struct quic *q, unsigned first, const uint8_t *to, unsigned n_to, const uint8_t *from, unsigned n_from)
{
	uint32_t version = 0;
	for (int i = 0; i < 4; i++)
		version = version << 8 | octet(q, i == 3);
	if (version != 1 || !identifier(q, n_to, to) || !identifier(q, n_from, from))
		return;
	unsigned type = first >> 4 & 3; /* Initial, 0-RTT, Handshake, Retry */
	if (type == 3 || (type == 0 && octet(q, 0) != 0 /* token */) || q->at + 2 > q->len)
		return;
	uint32_t rest = q->len - q->at - 2;
	if (rest < 1u << 14) {
		octet(q, 0x40 | rest >> 8);
		octet(q, rest & 255);
	}
}

static void fill_quic(struct flow_fill *f, struct flow_fill_flow *w, const struct flow_pkt *p, uint8_t *payload, uint32_t known, uint32_t len)
{
	bool client = p->dir == w->client;
	uint8_t id[2][QUIC_ID_MAX]; /* that the client chose for the server at first; the server's own */
	uint8_t n = w->sent[p->dir];
	w->sent[p->dir] = n < 2 ? n + 1 : 2;
	if (len == 0)
		return;
	bytes_at(f, w, w->client, 0, id[0], QUIC_ID_MAX);
	bytes_at(f, w, !w->client, 0, id[1], QUIC_ID_MAX);
	struct quic q = {payload, 0, known, len};
	bool is_long = w->fresh && len >= QUIC_LONG_MIN && (n == 0 || (n == 1 && len >= QUIC_INITIAL_MIN));
	/* What header protection covers stays random: of a long header four bits, of a short one five and the spin bit. */
	unsigned r = payload[0], first = octet(&q, is_long ? (n == 0 ? 0xc0 : 0xe0) | (r & 15) : 0x40 | (r & 0x3f));
	/* The client has no id, unless a known header says how long it is. */
	if ((first & 0x80) != 0)
		long_header(&q, first, id[client && n > 0], client ? QUIC_ID_BYTES : 0, id[!client], client ? 0 : QUIC_ID_BYTES);
	else if (known == 0 && client)
		for (unsigned i = 0; i < QUIC_ID_BYTES; i++)
			octet(&q, id[1][i]);
}

void flow_fill_packet(struct flow_fill *f, const struct flow_state *s, const struct flow_pkt *p, uint8_t *payload, uint32_t known, uint32_t len)
{
	if (f->how == NSSM_FILL_ZERO) {
		memset(payload + known, 0, len - known);
		return;
	}
	unsigned slot = p->flow != NULL ? (unsigned)(p->flow - s->flow) : 0;
	if (p->is_new)
		begin_flow(f, slot, p, len);
	if (p->kind == FLOW_TCP) {
		fill_tcp(f, &f->flow[slot], f->tls != NULL ? &f->tls[slot][p->dir] : NULL, p, payload, known, len);
		return;
	}
	nssm_rng_bytes(&f->rng, payload + known, len - known);
	if (p->kind == FLOW_UDP && f->flow[slot].secure)
		fill_quic(f, &f->flow[slot], p, payload, known, len);
}
