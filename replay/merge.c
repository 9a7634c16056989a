#include "replay/merge.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "model/codec.h"

/* What stands before a packet's bytes in a queue. */
struct record {
	uint64_t due_ns;
	uint32_t stored, len, wirelen;
};

/* --- queue
 * --------------------------------------------------------------------------------------------------------------
 */

static int make_room(struct nssm_pktq *q, size_t need, struct nssm_err *err)
{
	if (q->cap - q->tail >= need)
		return 0;
	/* Moving down is paid for by the bytes taken since the last move. */
	size_t used = q->tail - q->head;
	if (q->head > 0 && q->head >= used) {
		memmove(q->buf, q->buf + q->head, used);
		q->head = 0;
		q->tail = used;
		if (q->cap - q->tail >= need)
			return 0;
	}
	size_t cap = q->cap < 4096 ? 4096 : q->cap;
	while (cap - q->tail < need) {
		if (cap > SIZE_MAX / 2)
			return nssm_err_set(err, NSSM_ENOMEM,
			        "packets of one session: no memory for %zu bytes more", need);
		cap *= 2;
	}
	uint8_t *buf = realloc(q->buf, cap);
	if (buf == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "packets of one session: no memory for %zu bytes", cap);
	q->buf = buf;
	q->cap = cap;
	return 0;
}

int nssm_pktq_push(struct nssm_pktq *q, const struct nssm_out_pkt *pkt, struct nssm_err *err)
{
	assert(pkt->len <= NSSM_FRAME_MAX && pkt->wirelen >= pkt->len);
	struct record r = {
	        .due_ns = pkt->due_ns, .stored = pkt->len, .len = pkt->len, .wirelen = pkt->wirelen};
	while (r.stored > 0 && pkt->data[r.stored - 1] == 0)
		r.stored--;
	int rc = make_room(q, sizeof r + r.stored, err);
	if (rc != 0)
		return rc;
	memcpy(q->buf + q->tail, &r, sizeof r);
	if (r.stored > 0)
		memcpy(q->buf + q->tail + sizeof r, pkt->data, r.stored);
	q->tail += sizeof r + r.stored;
	q->n++;
	return 0;
}

static struct record first(const struct nssm_pktq *q)
{
	assert(q->n > 0);
	struct record r;
	memcpy(&r, q->buf + q->head, sizeof r);
	return r;
}

uint64_t nssm_pktq_due(const struct nssm_pktq *q)
{
	return first(q).due_ns;
}

void nssm_pktq_pop(struct nssm_pktq *q, struct nssm_out_pkt *pkt, uint8_t *frame)
{
	struct record r = first(q);
	memcpy(frame, q->buf + q->head + sizeof r, r.stored);
	memset(frame + r.stored, 0, r.len - r.stored);
	*pkt = (struct nssm_out_pkt){.due_ns = r.due_ns, .len = r.len, .wirelen = r.wirelen, .data = frame};
	q->head += sizeof r + r.stored;
	if (--q->n == 0)
		q->head = q->tail = 0;
}

void nssm_pktq_free(struct nssm_pktq *q)
{
	free(q->buf);
	*q = (struct nssm_pktq){0};
}

/* --- merge
 * ---------------------------------------------------------------------------------------------------------------
 */

struct nssm_merge_lane {
	uint64_t key_ns; /* due time of the first packet held, or of the last one given: where it stands in
	                    the heap */
	uint64_t session, last_ns;
	bool ended;
	size_t pos; /* in the heap */
	struct nssm_pktq q;
	struct nssm_merge_lane *spare; /* next in the list of unused ones */
};

struct nssm_merge {
	nssm_out_fn *out;
	void *ctx;
	struct nssm_merge_lane **heap;
	size_t n, cap;
	struct nssm_merge_lane *spare;
	uint64_t next_session, next_start_ns; /* what begins next */
	struct nssm_merge_held held;
	uint8_t frame[NSSM_FRAME_MAX];
};

static bool before(const struct nssm_merge_lane *a, const struct nssm_merge_lane *b)
{
	return a->key_ns != b->key_ns ? a->key_ns < b->key_ns : a->session < b->session;
}

static void put(struct nssm_merge *m, size_t pos, struct nssm_merge_lane *l)
{
	m->heap[pos] = l;
	l->pos = pos;
}

static void sift_up(struct nssm_merge *m, struct nssm_merge_lane *l)
{
	size_t i = l->pos;
	for (; i > 0 && before(l, m->heap[(i - 1) / 2]); i = (i - 1) / 2)
		put(m, i, m->heap[(i - 1) / 2]);
	put(m, i, l);
}

static void sift_down(struct nssm_merge *m, struct nssm_merge_lane *l)
{
	size_t i = l->pos;
	for (;;) {
		size_t c = 2 * i + 1;
		if (c >= m->n)
			break;
		if (c + 1 < m->n && before(m->heap[c + 1], m->heap[c]))
			c++;
		if (!before(m->heap[c], l))
			break;
		put(m, i, m->heap[c]);
		i = c;
	}
	put(m, i, l);
}

int nssm_merge_open(struct nssm_merge **mp, nssm_out_fn *out, void *ctx, struct nssm_err *err)
{
	*mp = NULL;
	struct nssm_merge *m = calloc(1, sizeof *m);
	if (m == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "merge: no memory for %zu bytes", sizeof *m);
	m->out = out;
	m->ctx = ctx;
	*mp = m;
	return 0;
}

void nssm_merge_close(struct nssm_merge **mp)
{
	struct nssm_merge *m = *mp;
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->n; i++) {
		nssm_pktq_free(&m->heap[i]->q);
		free(m->heap[i]);
	}
	while (m->spare != NULL) {
		struct nssm_merge_lane *l = m->spare;
		m->spare = l->spare;
		nssm_pktq_free(&l->q);
		free(l);
	}
	free(m->heap);
	free(m);
	*mp = NULL;
}

struct nssm_merge_lane *nssm_merge_begin(
        struct nssm_merge *m, uint64_t session, uint64_t start_ns, struct nssm_err *err)
{
	assert(session >= m->next_session && start_ns >= m->next_start_ns);
	if (m->n == m->cap) {
		size_t cap = m->cap == 0 ? 64 : 2 * m->cap;
		struct nssm_merge_lane **heap = realloc(m->heap, cap * sizeof(struct nssm_merge_lane *));
		if (heap == NULL) {
			nssm_err_set(err, NSSM_ENOMEM, "merge: no memory for %zu open sessions", cap);
			return NULL;
		}
		m->heap = heap;
		m->cap = cap;
	}
	struct nssm_merge_lane *l = m->spare;
	if (l != NULL) {
		m->spare = l->spare;
	} else if ((l = calloc(1, sizeof *l)) == NULL) {
		nssm_err_set(err, NSSM_ENOMEM, "merge: no memory for %zu bytes", sizeof *l);
		return NULL;
	}
	*l = (struct nssm_merge_lane){
	        .key_ns = start_ns, .session = session, .last_ns = start_ns, .pos = m->n++, .q = l->q};
	sift_up(m, l);
	m->next_session = session + 1;
	m->next_start_ns = start_ns;
	return l;
}

int nssm_merge_push(
        struct nssm_merge *m, struct nssm_merge_lane *l, const struct nssm_out_pkt *pkt, struct nssm_err *err)
{
	assert(!l->ended && pkt->due_ns >= l->last_ns);
	size_t bytes = l->q.tail - l->q.head;
	int rc = nssm_pktq_push(&l->q, pkt, err);
	if (rc != 0)
		return rc;
	l->last_ns = pkt->due_ns;
	if (l->q.n == 1) {
		l->key_ns = pkt->due_ns;
		sift_down(m, l);
	}
	m->held.packets++;
	m->held.bytes += l->q.tail - l->q.head - bytes;
	if (m->held.packets > m->held.max_packets)
		m->held.max_packets = m->held.packets;
	if (m->held.bytes > m->held.max_bytes)
		m->held.max_bytes = m->held.bytes;
	return 0;
}

void nssm_merge_end(struct nssm_merge *m, struct nssm_merge_lane *l)
{
	l->ended = true;
}

void nssm_merge_next_start(struct nssm_merge *m, uint64_t start_ns)
{
	assert(start_ns >= m->next_start_ns);
	m->next_start_ns = start_ns;
}

static void remove_first(struct nssm_merge *m)
{
	struct nssm_merge_lane *l = m->heap[0], *last = m->heap[--m->n];
	if (m->n > 0) {
		last->pos = 0;
		sift_down(m, last);
	}
	l->spare = m->spare;
	m->spare = l;
}

int nssm_merge_release(struct nssm_merge *m, struct nssm_err *err)
{
	while (m->n > 0) {
		struct nssm_merge_lane *l = m->heap[0];
		if (l->q.n == 0) {
			if (!l->ended)
				return 0;
			remove_first(m);
			continue;
		}
		/* At equal times the session that is still to begin has the higher index, so it does not hold
		 * this one up. */
		if (l->key_ns > m->next_start_ns)
			return 0;
		struct nssm_out_pkt pkt;
		size_t bytes = l->q.tail - l->q.head;
		nssm_pktq_pop(&l->q, &pkt, m->frame);
		pkt.session = l->session;
		m->held.packets--;
		m->held.bytes -= bytes - (l->q.tail - l->q.head);
		l->key_ns = l->q.n > 0 ? nssm_pktq_due(&l->q) : l->last_ns;
		sift_down(m, l);
		int rc = m->out(m->ctx, &pkt, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

struct nssm_merge_held nssm_merge_held(const struct nssm_merge *m)
{
	return m->held;
}
