#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "replay/capture.h"
#include "replay/engine_priv.h"

/* Frames are written this long before they are due, and no longer: a session that begins now may be due earlier. */
#define HORIZON_NS 50000u
/* A transmit queue that takes nothing for this long is full, and what was due is dropped; at top speed, where there is no schedule to
 * keep, after the longer time. */
#define STUCK_NS     10000000u
#define STUCK_TOP_NS 1000000000u
/* Room that nssm_clone_write may use behind a frame. */
#define SLACK_BYTES 64u
#define RUN_PACKETS NSSM_BURST
/* Begins of plays and packets that are taken before what was taken goes out. */
#define TAKES_MAX   (4u * NSSM_BURST)

int engine_out_open(struct nssm_engine *e, struct nssm_err *err)
{
	e->own_frame_bytes = (NSSM_CAPTURE_CAPLEN_MAX + 4 * NSSM_VLAN_TAGS_MAX + SLACK_BYTES + 63) & ~63u;
	e->own = aligned_alloc(64, (size_t)NSSM_BURST * e->own_frame_bytes);
	if (e->own == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for frames");
	for (uint32_t i = 0; i < NSSM_BURST; i++)
		e->own_free[i] = (uint8_t)i;
	e->n_own_free = NSSM_BURST;
	return 0;
}

void engine_out_close(struct nssm_engine *e)
{
	for (uint32_t i = 0; i < e->n_rendered; i++)
		if (e->staged[i].frame != NULL)
			nssm_frames_put(e->cfg.frames, &e->staged[i].frame, 1);
	free(e->own);
}

/* --- from the wheel to the staging area --- */

/* Which side of the wire a packet comes from: its sender's role, or what its receiver is not. */
static uint8_t side_of(const struct nssm_rec *rec)
{
	const struct nssm_flow *f = rec->flow;
	if (f == NULL)
		return rec->dir;
	uint8_t from = f->end[rec->dir]->role, to = f->end[!rec->dir]->role;
	if (from != NSSM_ROLE_FIXED)
		return from == NSSM_ROLE_SERVER;
	return to != NSSM_ROLE_FIXED ? to == NSSM_ROLE_CLIENT : rec->dir;
}

/* The time may not go beyond what the source has told. True: it has told more by now. */
static bool source_moves(struct nssm_engine *e, uint64_t at_ns)
{
	bool done = atomic_load_explicit(&e->cfg.run->source_done, memory_order_acquire) && engine_in_idle(e);
	if (!done && e->source_ns <= at_ns)
		return false;
	nssm_wheel_pop(e->wheel);
	e->source_in_wheel = !done && e->source_ns != UINT64_MAX;
	if (e->source_in_wheel)
		nssm_wheel_add(e->wheel, e->id_source, e->source_ns, source_tie(e));
	return true;
}

/* A play without a record stands in the wheel for the time that its session has reached. */
static int held_moves(struct nssm_engine *e, uint32_t idx, uint64_t at_ns, bool *moves, struct nssm_err *err)
{
	struct play *p = &e->play[idx];
	struct nssm_tape *t = p->tape;
	const struct nssm_rec *rec = p->last != NULL ? nssm_rec_next(p->last) : t->first;
	*moves = t->finished || (rec != NULL && !begins_whole(e));
	if (!*moves)
		return 0;
	nssm_wheel_pop(e->wheel);
	e->pos_ns = at_ns > e->pos_ns ? at_ns : e->pos_ns;
	if (rec == NULL) {
		p->state = PLAY_ENDS;
		e->ended_one = true;
	} else {
		p->rec = rec;
		p->state = PLAY_WHEEL;
		e->n_ready++;
		nssm_wheel_add(e->wheel, idx, play_at(p, rec), play_tie(p));
	}
	int rc = begins_whole(e) ? engine_keep(e, t, p->base_ns, err) : 0;
	return rc == 0 && p->state == PLAY_ENDS && p->staged == 0 ? engine_play_end(e, idx, true, err) : rc;
}

/* The limit of packets is one of the run's. */
static bool limit_allows(struct nssm_engine *e)
{
	uint64_t max = e->cfg.pipe->max_packets;
	if (max == 0)
		return true;
	uint64_t taken = e->cfg.n_engines > 1 ? atomic_fetch_add_explicit(&e->cfg.run->n_taken, 1, memory_order_relaxed) : e->n_taken;
	e->over |= taken >= max;
	return taken < max;
}

static void stage(struct nssm_engine *e, uint32_t idx, const struct nssm_rec *rec, uint64_t due_ns)
{
	struct play *p = &e->play[idx];
	e->staged[e->n_staged++] = (struct staged){.due_ns = due_ns,
		.rec = rec,
		.play = idx,
		.port = e->cfg.n_ports > 1 ? side_of(rec) : 0};
	p->staged++;
	e->n_taken++;
}

/* At top speed no packet has a time of its own, and where sessions are cloned without end their order to each other has no meaning: a
 * play then gives up to a burst of packets in a row, which spares the wheel and the caches. */
static uint32_t run_length(const struct nssm_engine *e)
{
	enum nssm_play_mode mode = e->cfg.pipe->mode;
	bool free_order = mode == NSSM_PLAY_CONCURRENCY || mode == NSSM_PLAY_RATE;
	return free_order && !is_virtual(e) && e->sched.rate.kind == NSSM_RATE_TOP && !e->sched.capped ? RUN_PACKETS : 1;
}

/* Whether it is time for what stands at at_ns of the stream. */
static bool is_due(struct nssm_engine *e, uint64_t at_ns, uint64_t now_ns, uint64_t *wake_ns)
{
	uint64_t due = nssm_sched_peek(&e->sched, at_ns), duration = e->cfg.pipe->duration_ns;
	if (duration > 0 && due >= duration && (is_virtual(e) || now_ns + HORIZON_NS >= duration)) {
		e->over = true;
		return false;
	}
	if (is_virtual(e) || due <= now_ns + HORIZON_NS)
		return true;
	*wake_ns = due - HORIZON_NS;
	return false;
}

/* Of the frame as it leaves, tags included. A port sends no more than there is of a frame; a file says how long it was. */
static uint32_t rate_len(const struct nssm_engine *e, const struct nssm_rec *rec)
{
	const struct nssm_clone_cfg *c = &e->cfg.pipe->clone;
	uint32_t len = e->cfg.n_ports > 0 ? rec->len : rec->wirelen;
	return len + 4 * c->n_tags - (c->strip_tags ? 4u * rec->n_vlan : 0);
}

static uint32_t left_len(const struct nssm_engine *e, const struct staged *s)
{
	return e->cfg.n_ports > 0 ? s->len : s->wirelen;
}

static void take_packets(struct nssm_engine *e, uint32_t idx)
{
	const struct nssm_rec *rec = e->play[idx].rec;
	nssm_wheel_pop(e->wheel);
	stage(e, idx, rec, nssm_sched_next(&e->sched, e->pos_ns, rate_len(e, rec)));
	for (uint32_t run = run_length(e); --run > 0 && e->n_staged < NSSM_BURST;) {
		const struct nssm_rec *next = nssm_rec_next(rec);
		if (next == NULL || !limit_allows(e))
			break;
		rec = next;
		stage(e, idx, rec, nssm_sched_next(&e->sched, e->pos_ns, rate_len(e, rec)));
	}
	engine_play_advance(e, idx, rec);
}

/* False: nothing more is to be taken now; *wake_ns says until when. */
static bool take_one(struct nssm_engine *e, uint64_t now_ns, uint64_t *wake_ns, struct nssm_err *err, int *rc)
{
	uint32_t idx;
	uint64_t at;
	if (!nssm_wheel_peek(e->wheel, &idx, &at))
		return false;
	if (idx == e->id_source)
		return source_moves(e, at);
	if (idx != e->id_plan && e->play[idx].rec == NULL) {
		bool moves;
		*rc = held_moves(e, idx, at, &moves, err);
		return *rc == 0 && moves;
	}
	if (!is_due(e, at, now_ns, wake_ns))
		return false;
	e->pos_ns = at > e->pos_ns ? at : e->pos_ns;
	if (idx == e->id_plan) {
		nssm_wheel_pop(e->wheel);
		*rc = engine_plan_next(e, err);
		return *rc == 0;
	}
	if (!e->play[idx].begun && !engine_play_begin(e, idx))
		return true;
	if (!limit_allows(e))
		return false;
	take_packets(e, idx);
	return true;
}

/* Plays that come next are fetched while the burst before them is on its way, and then their records. */
static void fetch_plays(struct nssm_engine *e)
{
	e->n_soon = nssm_wheel_ahead(e->wheel, e->soon, SOON);
	for (uint32_t i = 0; i < e->n_soon; i++)
		if (e->soon[i] < e->cfg.plays_max)
			__builtin_prefetch(&e->play[e->soon[i]], 1);
}

static void fetch_records(const struct nssm_engine *e)
{
	for (uint32_t i = 0; i < e->n_soon; i++) {
		const struct nssm_rec *rec = e->soon[i] < e->cfg.plays_max ? e->play[e->soon[i]].rec : NULL;
		if (rec == NULL)
			continue;
		__builtin_prefetch(rec);
		__builtin_prefetch(nssm_rec_head(rec));
	}
}

static int gather(struct nssm_engine *e, uint64_t now_ns, uint64_t *wake_ns, struct nssm_err *err)
{
	int rc = 0;
	fetch_records(e);
	e->ended_one = false;
	for (uint32_t i = 0; i < TAKES_MAX && e->n_staged < NSSM_BURST && !e->over && !(e->ended_one && is_virtual(e)); i++)
		if (!take_one(e, now_ns, wake_ns, err, &rc))
			break;
	fetch_plays(e);
	return rc;
}

/* --- frames --- */

static void drop(struct staged *s, enum nssm_drop reason)
{
	s->outcome = (uint8_t)(STAGED_DROPPED + reason);
}

/* Memory for what has been taken from the wheel and not been written yet. False: the pool is empty. */
static bool find_room(struct nssm_engine *e)
{
	void *m[NSSM_BURST];
	uint8_t *data[NSSM_BURST];
	uint32_t len[NSSM_BURST], who[NSSM_BURST], n = 0;
	for (uint32_t i = e->n_rendered; i < e->n_staged; i++) {
		struct staged *s = &e->staged[i];
		/* A record that is too long for every port gets memory of the engine's own: the sinks may take it. */
		if (e->cfg.n_ports == 0 || s->rec->len > e->cfg.frame_max)
			continue;
		len[n] = nssm_clone_len_max(s->rec) + SLACK_BYTES;
		who[n++] = i;
	}
	if (n > 0 && !nssm_frames_get(e->cfg.frames, m, data, len, n))
		return false;
	for (uint32_t k = 0; k < n; k++) {
		e->staged[who[k]].frame = m[k];
		e->staged[who[k]].data = data[k];
	}
	for (uint32_t i = e->n_rendered; i < e->n_staged; i++) {
		struct staged *s = &e->staged[i];
		if (s->frame != NULL)
			continue;
		s->own = e->own_free[--e->n_own_free];
		s->data = e->own + (size_t)s->own * e->own_frame_bytes;
	}
	return true;
}

/* An MTU counts neither the Ethernet header nor VLAN tags. */
static bool too_long(const struct nssm_engine *e, const struct staged *s)
{
	uint32_t link = 14;
	if (s->frame == NULL || s->len > e->cfg.frame_max)
		return true;
	while (s->len > link + e->cfg.mtu[s->port]) {
		unsigned type = (unsigned)s->data[link - 2] << 8 | s->data[link - 1];
		if (type != 0x8100 && type != 0x88a8 && type != 0x9100)
			return true;
		link += 4;
	}
	return false;
}

static void render(struct nssm_engine *e)
{
	if (e->n_rendered == e->n_staged || !find_room(e))
		return;
	for (; e->n_rendered < e->n_staged; e->n_rendered++) {
		struct staged *s = &e->staged[e->n_rendered];
		const struct play *p = &e->play[s->play];
		s->len = nssm_clone_write(e->cfg.cloner, s->data, &s->wirelen, p->tape, s->rec, &p->id);
		if (e->cfg.n_ports == 0)
			continue;
		if (too_long(e, s))
			drop(s, NSSM_DROP_TOO_LONG);
		else
			nssm_frame_set_len(s->frame, s->len);
	}
}

/* --- to sinks and ports --- */

static uint64_t epoch(const struct nssm_engine *e, uint64_t ns)
{
	return e->cfg.run->wall_ns + (is_virtual(e) ? 0 : atomic_load_explicit(&e->cfg.run->t0_ns, memory_order_relaxed)) + ns;
}

/* Bytes at the end of a frame that may be written over by a signature: the transport payload, but for what a model spells of UDP's. */
static uint32_t free_bytes(const struct nssm_engine *e, const struct staged *s)
{
	const struct nssm_rec *rec = s->rec;
	uint32_t keep = is_model(e) && rec->kind == NSSM_REC_UDP ? 12 : 0;
	if ((rec->kind != NSSM_REC_TCP && rec->kind != NSSM_REC_UDP) || rec->payload_off == 0 || rec->wirelen != rec->len ||
		rec->len < rec->payload_off + keep)
		return 0;
	return rec->len - rec->payload_off - keep;
}

/* Without ports the first sink decides what was sent. What it dropped are the last of the burst: that is where its room ended. What a
 * stream still holds counts as sent; the pipeline puts it right at the end if the reader never took it. */
static void outcome_by_sink(struct staged *s, uint32_t n, const struct nssm_sink_stats *before, const struct nssm_sink_stats *after)
{
	uint32_t i = n;
	for (int r = 0; r < NSSM_DROP_N; r++)
		for (uint64_t k = after->dropped[r] - before->dropped[r]; i > 0 && k > 0; k--)
			drop(&s[--i], (enum nssm_drop)r);
	while (i > 0)
		s[--i].outcome = STAGED_SENT;
}

static int to_sinks(struct nssm_engine *e, uint32_t n_due, uint64_t now_ns, struct nssm_err *err)
{
	uint32_t n = n_due - e->n_handed;
	struct staged *s = &e->staged[e->n_handed];
	e->n_handed = n_due;
	if (e->cfg.n_ports == 0 && e->cfg.n_sinks == 0)
		for (uint32_t i = 0; i < n; i++)
			s[i].outcome = STAGED_SENT;
	if (e->cfg.n_sinks == 0)
		return 0;
	struct nssm_tx tx[NSSM_BURST];
	for (uint32_t i = 0; i < n; i++) {
		const struct play *p = &e->play[s[i].play];
		tx[i] = (struct nssm_tx){.data = s[i].data,
			.len = s[i].len,
			.wirelen = s[i].wirelen,
			.due_ns = s[i].due_ns,
			.time_ns = epoch(e, is_virtual(e) ? s[i].due_ns : now_ns),
			.session = p->tape->session,
			.clone = p->clone,
			.label_idx = p->tape->label_idx,
			.dir = s[i].rec->dir,
			.port = s[i].port};
	}
	int rc = 0;
	bool lock = e->cfg.n_engines > 1;
	if (lock)
		pthread_mutex_lock(&e->cfg.run->lock);
	for (uint32_t k = 0; rc == 0 && k < e->cfg.n_sinks; k++) {
		struct nssm_sink_stats before = *nssm_sink_stats(e->cfg.sink[k]);
		rc = nssm_sink_burst(e->cfg.sink[k], tx, n, err);
		if (k == 0 && e->cfg.n_ports == 0)
			outcome_by_sink(s, n, &before, nssm_sink_stats(e->cfg.sink[k]));
	}
	if (lock)
		pthread_mutex_unlock(&e->cfg.run->lock);
	return rc;
}

/* The port took it and could not send it; the frame is not ours any more. */
static void refuse(struct nssm_engine *e, struct staged *s)
{
	drop(s, NSSM_DROP_ERROR);
	s->frame = NULL;
	if (e->cfg.measure != NULL)
		nssm_measure_unsent(e->cfg.measure, s->data, s->len);
}

enum took { TOOK_ALL, TOOK_SOME, TOOK_NONE, NOTHING_OFFERED };

static enum took to_port(struct nssm_engine *e, uint32_t port, uint32_t n_due)
{
	void *m[NSSM_BURST];
	uint32_t who[NSSM_BURST], n = 0;
	uint64_t t0 = atomic_load_explicit(&e->cfg.run->t0_ns, memory_order_relaxed);
	for (uint32_t i = 0; i < n_due; i++) {
		if (e->staged[i].port != port || e->staged[i].outcome != STAGED_WAITS)
			continue;
		m[n] = e->staged[i].frame;
		if (e->cfg.send_on_time)
			nssm_frame_set_time(e->cfg.port[port], m[n], e->staged[i].due_ns + t0);
		who[n++] = i;
	}
	if (n == 0)
		return NOTHING_OFFERED;
	uint32_t taken = nssm_port_tx(e->cfg.port[port], e->cfg.queue, m, n);
	for (uint32_t k = 0; k < taken; k++)
		e->staged[who[k]].outcome = STAGED_SENT;
	uint32_t refused = nssm_port_refused(e->cfg.port[port], e->cfg.queue);
	for (; refused != 0; refused &= refused - 1)
		refuse(e, &e->staged[who[__builtin_ctz(refused)]]);
	return taken == n ? TOOK_ALL : taken > 0 ? TOOK_SOME : TOOK_NONE;
}

static void drop_waiting(struct nssm_engine *e, uint32_t port, uint32_t n_due, enum nssm_drop reason)
{
	for (uint32_t i = 0; i < n_due; i++)
		if (e->staged[i].port == port && e->staged[i].outcome == STAGED_WAITS)
			drop(&e->staged[i], reason);
}

/* While a port is stuck, what becomes due is dropped at once and the schedule kept; at top speed a burst every STUCK_NS, for all would
 * be gone before the queue moves again. */
static void to_ports(struct nssm_engine *e, uint32_t n_due, uint64_t now_ns)
{
	bool top = e->sched.rate.kind == NSSM_RATE_TOP && !e->sched.capped;
	uint64_t patience = top ? STUCK_TOP_NS : STUCK_NS;
	for (uint32_t port = 0; port < e->cfg.n_ports; port++) {
		uint64_t *since = &e->stuck_since[port];
		enum took took = to_port(e, port, n_due);
		if (took == TOOK_ALL || took == TOOK_SOME)
			*since = 0;
		if (took != TOOK_NONE)
			continue;
		if (!atomic_load_explicit(&e->cfg.run->port_up[port], memory_order_relaxed)) {
			drop_waiting(e, port, n_due, NSSM_DROP_LINK);
		} else if (*since == 0) {
			*since = now_ns > 0 ? now_ns : 1;
		} else if (now_ns - *since > patience) {
			drop_waiting(e, port, n_due, NSSM_DROP_QUEUE);
			*since = top ? now_ns - (STUCK_TOP_NS - STUCK_NS) : *since;
		}
	}
}

static void measure(struct nssm_engine *e, uint32_t n_due, uint64_t now_ns)
{
	for (uint32_t i = e->n_handed; e->cfg.measure != NULL && i < n_due; i++) {
		struct staged *s = &e->staged[i];
		if (s->outcome == STAGED_WAITS)
			nssm_measure_sent(e->cfg.measure, s->data, s->len, free_bytes(e, s), e->play[s->play].tape->label_idx,
				e->cfg.clock(e->cfg.clock_ctx));
	}
}

/* --- what became of them --- */

struct tally {
	uint64_t sent, bytes, session_packets, flows;
	uint64_t port_sent[NSSM_PORTS_MAX], port_bytes[NSSM_PORTS_MAX], dropped[NSSM_DROP_N];
};

static void count_row(struct nssm_engine *e, const struct staged *s, uint64_t sent_ns)
{
	const struct nssm_flow *f = s->rec->flow;
	if (e->rows == NULL || f == NULL)
		return;
	struct nssm_flow_row *r = nssm_rows_get(e->rows, &e->play_rows[s->play], f->idx);
	if (r == NULL) {
		count(&e->n.truth_lost, 1);
		return;
	}
	uint64_t due = epoch(e, s->due_ns);
	if (r->due++ == 0)
		r->first_due_ns = due;
	r->last_due_ns = due;
	if (s->outcome != STAGED_SENT) {
		r->dropped++;
		return;
	}
	if (r->packets[0] + r->packets[1] == 0)
		r->first_sent_ns = sent_ns;
	r->last_sent_ns = sent_ns;
	r->packets[s->rec->dir]++;
	r->bytes[s->rec->dir] += left_len(e, s);
}

static uintptr_t chunk_of(const struct nssm_rec *rec)
{
	return (uintptr_t)rec / NSSM_CHUNK_BYTES;
}

static int settle(struct nssm_engine *e, struct staged *s, uint64_t now_ns, struct tally *t, struct nssm_err *err)
{
	struct play *p = &e->play[s->play];
	struct nssm_label_stats *l = &e->label[p->tape->label_idx];
	uint64_t sent_at = is_virtual(e) ? s->due_ns : now_ns;
	if (s->outcome == STAGED_SENT) {
		t->sent++;
		t->bytes += left_len(e, s);
		t->port_sent[s->port]++;
		t->port_bytes[s->port] += left_len(e, s);
		count(&l->sent, 1);
		count(&l->sent_bytes, left_len(e, s));
		count(&l->cut, e->cfg.pipe->snaplen > 0 && s->len > e->cfg.pipe->snaplen);
		/* At top speed nothing has a time to be late for, unless a cap gives it one. */
		if (e->sched.rate.kind != NSSM_RATE_TOP || e->sched.capped)
			nssm_hist_add(&e->n.late, sent_at > s->due_ns ? sent_at - s->due_ns : 0);
	} else {
		t->dropped[s->outcome - STAGED_DROPPED]++;
		if (s->frame != NULL) {
			if (e->cfg.measure != NULL)
				nssm_measure_unsent(e->cfg.measure, s->data, s->len);
			nssm_frames_put(e->cfg.frames, &s->frame, 1);
		}
	}
	if (s->data != NULL && s->data >= e->own && s->data < e->own + (size_t)NSSM_BURST * e->own_frame_bytes)
		e->own_free[e->n_own_free++] = s->own;
	t->session_packets += p->first;
	t->flows += (s->rec->flags & NSSM_REC_OPENS) != 0;
	count_row(e, s, epoch(e, sent_at));
	p->staged--;
	p->n_done++;
	if (p->credit != UINT32_MAX)
		engine_tell_credit(e, p);
	if (p->staged > 0)
		return 0;
	if (p->state == PLAY_ENDS)
		return engine_play_end(e, s->play, true, err);
	/* Nothing of it is staged any more, on any port: what lies before its last packet has been sent. */
	if (p->tape->streams && chunk_of(p->tape->first) != chunk_of(p->last))
		nssm_tape_trim(e->builder, p->tape, p->last);
	return 0;
}

static int settle_all(struct nssm_engine *e, uint32_t n_due, uint64_t now_ns, struct nssm_err *err)
{
	struct tally t = {0};
	uint32_t kept = 0;
	int rc = 0;
	for (uint32_t i = 0; i < n_due; i++) {
		if (e->staged[i].outcome == STAGED_WAITS) {
			if (kept != i)
				e->staged[kept] = e->staged[i];
			kept++;
			continue;
		}
		int code = settle(e, &e->staged[i], now_ns, &t, err);
		rc = rc != 0 ? rc : code;
	}
	uint32_t gone = n_due - kept;
	memmove(&e->staged[kept], &e->staged[n_due], (e->n_staged - n_due) * sizeof *e->staged);
	e->n_staged -= gone;
	e->n_rendered -= gone;
	e->n_handed -= gone;
	uint64_t dropped = 0;
	for (int r = 0; r < NSSM_DROP_N; r++) {
		if (t.dropped[r] > 0)
			count(&e->n.dropped[r], t.dropped[r]);
		dropped += t.dropped[r];
	}
	count(&e->n.made, t.sent + dropped);
	count(&e->n.sent, t.sent);
	count(&e->n.sent_bytes, t.bytes);
	count(&e->n.session_packets, t.session_packets);
	count(&e->n.flows_begun, t.flows);
	for (uint32_t p = 0; p < e->cfg.n_ports; p++) {
		count(&e->n.port_sent[p], t.port_sent[p]);
		count(&e->n.port_bytes[p], t.port_bytes[p]);
	}
	return rc;
}

static bool readers_there(struct nssm_engine *e)
{
	bool all = true, lock = e->cfg.n_engines > 1;
	if (lock)
		pthread_mutex_lock(&e->cfg.run->lock);
	for (uint32_t k = 0; k < e->cfg.n_sinks; k++)
		all &= nssm_sink_ready(e->cfg.sink[k]);
	if (lock)
		pthread_mutex_unlock(&e->cfg.run->lock);
	return all;
}

/* The clock begins with the first packet that could go. */
static bool clock_goes(struct nssm_engine *e)
{
	struct nssm_run *run = e->cfg.run;
	if (e->began)
		return true;
	bool planned = !e->cfg.keep || is_model(e) || e->plan_ready;
	if (!planned || nssm_wheel_count(e->wheel) == 0 || !atomic_load(&run->net_ready))
		return false;
	if (e->cfg.pipe->wait_for_reader && !readers_there(e))
		return false;
	if (!is_virtual(e)) {
		uint_fast64_t unset = 0;
		atomic_compare_exchange_strong(&run->t0_ns, &unset, e->cfg.clock(e->cfg.clock_ctx));
	}
	e->began = true;
	return true;
}

/* Frames that are written wait here for their time, which is near; a wire is to see them to the tenth of a microsecond. What comes
 * back must be looked at meanwhile if it is measured. */
static uint64_t until_due(struct nssm_engine *e)
{
	uint64_t now = engine_now(e);
	if (e->cfg.n_ports > 0)
		engine_watch_gap(e, now);
	/* A device that sends on time stamps gets what is due soon, and waits itself. */
	if (e->cfg.send_on_time)
		return now + HORIZON_NS;
	if (e->n_rendered == 0 || e->cfg.n_ports == 0 || e->cfg.measure != NULL || e->staged[0].due_ns > now + HORIZON_NS)
		return now;
	while (now < e->staged[0].due_ns) {
		now = engine_now(e);
		engine_watch_gap(e, now);
	}
	return now;
}

int engine_out(struct nssm_engine *e, bool *worked, uint64_t *wake_ns, struct nssm_err *err)
{
	*worked = false;
	if (!clock_goes(e))
		return 0;
	uint64_t now = is_virtual(e) ? UINT64_MAX : engine_now(e);
	int rc = gather(e, now, wake_ns, err);
	if (rc != 0)
		return rc;
	render(e);
	if (!is_virtual(e))
		now = until_due(e);
	uint32_t n_due = 0;
	while (n_due < e->n_rendered && e->staged[n_due].due_ns <= now)
		n_due++;
	if (n_due < e->n_rendered)
		*wake_ns = e->staged[n_due].due_ns;
	if (n_due == 0)
		return 0;
	*worked = true;
	measure(e, n_due, now);
	rc = to_sinks(e, n_due, now, err);
	to_ports(e, n_due, now);
	if (rc != 0) /* the sink is broken: what it was handed is settled, then the run ends */
		for (uint32_t i = 0; i < n_due; i++)
			if (e->staged[i].outcome == STAGED_WAITS)
				drop(&e->staged[i], NSSM_DROP_ERROR);
	int code = settle_all(e, n_due, now, rc != 0 ? NULL : err);
	return rc != 0 ? rc : code;
}
