#include <assert.h>
#include <string.h>

#include "replay/engine_priv.h"
#include "replay/folder.h"

#define BLOCKS_A_TURN 4

/* --- sessions whose blocks still come --- */

static uint32_t stream_at(const struct nssm_engine *e, uint64_t session)
{
	return (uint32_t)((session * 0x9e3779b97f4a7c15u) >> 32) & e->stream_mask;
}

struct stream *engine_stream(struct nssm_engine *e, uint64_t session)
{
	for (uint32_t i = stream_at(e, session); e->stream[i].tape != NULL; i = (i + 1) & e->stream_mask)
		if (e->stream[i].tape->session == session)
			return &e->stream[i];
	return NULL;
}

static struct stream *stream_add(struct nssm_engine *e, struct nssm_tape *t)
{
	uint32_t i = stream_at(e, t->session);
	while (e->stream[i].tape != NULL)
		i = (i + 1) & e->stream_mask;
	e->stream[i] = (struct stream){.tape = t, .play = NO_PLAY};
	e->n_streams++;
	return &e->stream[i];
}

static void stream_drop(struct nssm_engine *e, uint64_t session)
{
	struct stream *s = engine_stream(e, session);
	if (s->decode != NULL)
		e->decode[e->n_decode++] = s->decode;
	uint32_t hole = (uint32_t)(s - e->stream), i = hole;
	e->stream[hole].tape = NULL;
	e->n_streams--;
	/* What stood behind the hole only because of it moves up. */
	for (;;) {
		i = (i + 1) & e->stream_mask;
		if (e->stream[i].tape == NULL)
			return;
		uint32_t home = stream_at(e, e->stream[i].tape->session);
		if (((i - home) & e->stream_mask) >= ((i - hole) & e->stream_mask)) {
			e->stream[hole] = e->stream[i];
			e->stream[i].tape = NULL;
			hole = i;
		}
	}
}

/* True: the session has a tape, a first play (unless captures are kept) and a place. False: try again when something ended. */
static bool begin(struct nssm_engine *e, uint64_t session, uint32_t label_idx, uint64_t start_ns, struct stream **out)
{
	bool model = is_model(e), plays = model || !e->cfg.keep;
	if (2 * (e->n_streams + 1) > e->stream_mask + 1 || (plays && e->n_spare == 0) || (model && e->n_decode == 0))
		return false;
	struct nssm_tape *t = nssm_tape_begin(e->builder, session, label_idx, start_ns);
	if (t == NULL && engine_evict(e))
		t = nssm_tape_begin(e->builder, session, label_idx, start_ns);
	if (t == NULL)
		return false;
	t->stays = e->cfg.keep;
	t->streams = !e->cfg.keep && e->cfg.folder == NULL;
	uint32_t idx = NO_PLAY;
	if (plays && !engine_play_new(e, t, 0, start_ns, true, &idx))
		assert(!"a play is spare");
	struct stream *s = stream_add(e, t);
	s->play = idx;
	if (model) {
		s->decode = e->decode[--e->n_decode];
		nssm_decode_begin(s->decode, e->cfg.pipe->gen->seed, session, label_idx);
	}
	count(&e->label[label_idx].sessions, 1);
	count(&e->n.sessions_begun, 1);
	*out = s;
	return true;
}

/* No more packets come for this session. */
static int finish(struct nssm_engine *e, uint64_t session, enum nssm_end_reason end, struct nssm_err *err)
{
	struct stream *s = engine_stream(e, session);
	struct nssm_tape *t = s->tape;
	uint32_t idx = s->play;
	nssm_tape_finish(e->builder, t);
	stream_drop(e, session);
	struct nssm_label_stats *l = &e->label[t->label_idx];
	count(&l->end[end], 1);
	count(&l->flows, t->n_flows);
	count(&e->n.sessions_done, 1);
	count(&e->n.session_flows, t->n_flows);
	count(&e->n.untracked, t->n_untracked);
	for (const struct nssm_flow *f = t->flows; f != NULL; f = f->next)
		count(&e->n.opaque_flows, f->opaque != NSSM_OPAQUE_NONE);
	int rc = 0;
	if (e->cfg.folder != NULL)
		rc = nssm_folder_session(e->cfg.folder, t, end, err);
	if (rc == 0 && t->stays && !begins_whole(e))
		rc = engine_keep(e, t, idx != NO_PLAY ? e->play[idx].base_ns : 0, err);
	if (rc == 0 && idx != NO_PLAY && e->play[idx].state == PLAY_WAITS) {
		engine_play_wake(e, idx);
		if (e->play[idx].state == PLAY_ENDS && e->play[idx].staged == 0)
			rc = engine_play_end(e, idx, true, err);
	}
	return rc;
}

/* The chain behind a place moves up into it, so it is looked at until it is empty. */
int engine_end_streams(struct nssm_engine *e, struct nssm_err *err)
{
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && e->n_streams > 0 && i <= e->stream_mask; i++)
		while (rc == 0 && e->stream[i].tape != NULL)
			rc = finish(e, e->stream[i].tape->session, NSSM_END_STOPPED, err);
	return rc;
}

/* Without rewriting a port answers for the addresses that it has seen in what it sends. */
static void learn_endpoints(struct nssm_engine *e, struct stream *s)
{
	if (e->cfg.neigh == NULL || e->cfg.pipe->clone.rewrite || !e->cfg.pipe->live.answer || s->n_known == s->tape->n_endpoints)
		return;
	uint32_t i = 0;
	for (const struct nssm_endpoint *ep = s->tape->endpoints; ep != NULL; ep = ep->next) {
		if (i++ < s->n_known || ep->role == NSSM_ROLE_FIXED)
			continue;
		struct nssm_neigh *n = e->cfg.neigh[ep->role == NSSM_ROLE_SERVER && e->cfg.n_ports > 1];
		if (n != NULL)
			nssm_neigh_own(n, ep->addr, ep->ip_version);
	}
	s->n_known = s->tape->n_endpoints;
}

/* 1: appended; 0: full. */
static int append(struct nssm_engine *e, struct stream *s, uint64_t t_ns, const uint8_t *frame, uint32_t len, uint32_t wirelen,
	struct nssm_err *err)
{
	for (;;) {
		int rc = nssm_tape_append(e->builder, s->tape, t_ns, frame, len, wirelen, err);
		if (rc != 0) {
			if (rc > 0)
				learn_endpoints(e, s);
			if (rc > 0 && s->play != NO_PLAY && e->play[s->play].state == PLAY_WAITS)
				engine_play_wake(e, s->play);
			return rc;
		}
		if (!engine_evict(e))
			return 0;
	}
}

/* --- blocks --- */

/* The slot may still be that of a session whose tokens ended while its packets play on. */
static void own_credit(struct nssm_engine *e, uint32_t idx, const struct nssm_block *b)
{
	if (b->credit == UINT32_MAX)
		return;
	uint32_t *owner = &e->credit_owner[b->credit];
	if (*owner != NO_PLAY)
		e->play[*owner].credit = UINT32_MAX;
	*owner = idx;
	e->play[idx].credit = b->credit;
	e->credit_seen[b->credit] = 0;
	engine_tell_credit(e, &e->play[idx]);
}

void engine_tell_credit(struct nssm_engine *e, const struct play *p)
{
	if (p->credit == UINT32_MAX)
		return;
	uint32_t ahead = (uint32_t)(p->tape->n_packets - p->n_done);
	atomic_store_explicit(&e->cfg.run->credit[p->credit],
		p->tape->session << 32 | (uint32_t)(e->credit_seen[p->credit] - ahead), memory_order_release);
}

/* A block of a session whose tokens are all decoded: packets that were no good will never be played, and must not count as ahead. */
static void see_block(struct nssm_engine *e, const struct stream *s, const struct nssm_block *b)
{
	const struct play *p = &e->play[s->play];
	if (p->credit == UINT32_MAX)
		return;
	const uint16_t *token = (const uint16_t *)b->data;
	uint32_t n = 0;
	for (uint32_t i = 0; i < b->n; i++)
		n += token[i] == e->cfg.pipe->card->vocab.pkt;
	e->credit_seen[p->credit] += n;
	engine_tell_credit(e, p);
}

static int take_tokens(struct nssm_engine *e, struct nssm_block *b, struct nssm_err *err)
{
	struct stream *s = engine_stream(e, b->session);
	if (s == NULL) {
		assert(b->seq == 0);
		if (!begin(e, b->session, b->label_idx, b->start_ns, &s))
			return 0;
		own_credit(e, s->play, b);
		e->source_ns = b->next_start_ns;
	}
	const uint16_t *tokens = (const uint16_t *)b->data, *at = tokens + e->block_pos, *end = tokens + b->n;
	struct nssm_label_stats *l = &e->label[b->label_idx];
	bool close = e->cfg.pipe->close && (b->end == NSSM_END_PACKETS || b->end == NSSM_END_TOKENS);
	for (;;) {
		if (!e->has_frame) {
			int got = nssm_decode_next(s->decode, &at, end, &e->frame, &e->frame_t_ns, l);
			e->block_pos = (uint32_t)(at - tokens);
			if (got == 0 && b->end != NSSM_END_NONE)
				got = nssm_decode_flush(s->decode, close, &e->frame, &e->frame_t_ns, l);
			if (got == 0)
				break;
			e->has_frame = true;
		}
		int rc = append(e, s, e->frame_t_ns, e->frame.data, e->frame.len, e->frame.len, err);
		if (rc <= 0)
			return rc;
		e->has_frame = false;
	}
	see_block(e, s, b);
	if (b->end != NSSM_END_NONE) {
		int rc = finish(e, b->session, (enum nssm_end_reason)b->end, err);
		if (rc != 0)
			return rc;
	}
	return 1;
}

static int take_frames(struct nssm_engine *e, struct nssm_block *b, struct nssm_err *err)
{
	for (; e->block_n < b->n; e->block_n++) {
		const struct nssm_block_frame *f = (const struct nssm_block_frame *)(b->data + e->block_pos);
		struct stream *s = engine_stream(e, f->session);
		if (s == NULL && !begin(e, f->session, f->label_idx, f->start_ns, &s))
			return 0;
		int rc = append(e, s, f->t_ns - f->start_ns, (const uint8_t *)(f + 1), f->len, f->wirelen, err);
		if (rc <= 0)
			return rc;
		struct nssm_label_stats *l = &e->label[f->label_idx];
		count(&l->made, 1);
		count(&l->packets, 1);
		count(&l->bytes, f->wirelen);
		e->block_pos += (uint32_t)sizeof *f + ((f->len + 7) & ~7u);
	}
	for (; e->done_below < b->done_below; e->done_below++) {
		if (engine_stream(e, e->done_below) == NULL)
			continue;
		int rc = finish(e, e->done_below, NSSM_END_EOT, err);
		if (rc != 0)
			return rc;
	}
	e->source_ns = b->stream_ns;
	if (b->sessions_total > 0) {
		e->sessions_total = b->sessions_total;
		e->loop_period_ns = b->loop_period_ns;
		e->loop_packets = b->loop_packets;
	}
	return 1;
}

/* --- no room --- */

static int no_room(const struct nssm_engine *e, struct nssm_err *err)
{
	unsigned long long n = e->n_streams;
	if (e->n_queue > 0)
		return nssm_err_set(err, NSSM_EARG,
			"%llu sessions are open at a time, and --clients and --client-ports have addresses for fewer: give larger pools", n);
	if (nssm_arena_left(e->arena) > 0)
		return nssm_err_set(err, NSSM_ERANGE,
			"%llu sessions are open at a time, and %llu plays of sessions: this run has no room for more", n,
			(unsigned long long)(e->cfg.plays_max - e->n_spare));
	return nssm_err_set(err, NSSM_ENOMEM,
		"the memory for packets (%zu MB) is full at %llu sessions and no packet is on its way out: give more with --bank, or play fewer captures",
		e->cfg.arena.bytes / 1000000, (unsigned long long)e->n.sessions_begun);
}

/* Sessions that are open are played without being kept: what was sent of them goes. */
static bool give_up_keeping(struct nssm_engine *e)
{
	bool any = false;
	for (uint32_t i = 0; i <= e->stream_mask && is_model(e) && e->cfg.folder == NULL; i++) {
		struct nssm_tape *t = e->stream[i].tape;
		if (t == NULL || !t->stays)
			continue;
		t->stays = false;
		t->streams = any = true;
		const struct play *p = &e->play[e->stream[i].play];
		if (p->last != NULL && p->staged == 0)
			nssm_tape_trim(e->builder, t, p->last);
	}
	return any;
}

/* What would make room: a packet that goes out, a tape that leaves. In virtual time packets may stand behind what the block in hand
 * would tell; then nothing moves any more. */
int engine_check_stuck(struct nssm_engine *e, bool worked, struct nssm_err *err)
{
	if (!e->stuck || worked || e->n_staged > 0) {
		e->n_stuck = 0;
		return 0;
	}
	bool moves = is_virtual(e) ? e->n_stuck++ < 2 : e->n_ready > 0 || e->n_leaving > 0;
	if (moves || (!is_virtual(e) && give_up_keeping(e)))
		return 0;
	return no_room(e, err);
}

int engine_take_blocks(struct nssm_engine *e, struct nssm_err *err)
{
	for (int i = 0; i < BLOCKS_A_TURN; i++) {
		if (e->block == NULL) {
			e->block = nssm_ring_get(e->cfg.in);
			if (e->block == NULL)
				return 0;
			e->idle_ns = 0;
		}
		int rc = e->block->kind == NSSM_BLOCK_TOKENS ? take_tokens(e, e->block, err) : take_frames(e, e->block, err);
		if (rc < 0)
			return rc;
		e->stuck = rc == 0;
		if (rc == 0)
			return 0;
		bool back = nssm_ring_put(e->cfg.back, e->block);
		assert(back); /* the ring back holds all blocks there are */
		(void)back;
		e->block = NULL;
		e->block_pos = e->block_n = 0;
	}
	return 0;
}

bool engine_in_idle(const struct nssm_engine *e)
{
	return e->block == NULL && nssm_ring_count(e->cfg.in) == 0;
}
