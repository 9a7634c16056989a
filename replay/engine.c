#include "replay/engine.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

#include "base/measure.h"
#include "replay/engine_priv.h"

#define TICK_NS        2000000u /* sinks are looked after this often */
#define FLUSH_NS       1000000000u
#define GAP_NS         5000u    /* no two readings of the clock are further apart, unless the thread was not running */
#define GAUGE_TURNS    64u
#define VIRTUAL_BURSTS 64       /* a turn in virtual time */

uint64_t engine_now(const struct nssm_engine *e)
{
	uint64_t t0 = atomic_load_explicit(&e->cfg.run->t0_ns, memory_order_relaxed), now = e->cfg.clock(e->cfg.clock_ctx);
	return t0 == 0 || now < t0 ? 0 : now - t0;
}

/* The clock is read again and again while nothing is to be done: a long time between two readings is time that something else had the
 * CPU. The report shows how much was lost so. */
void engine_watch_gap(struct nssm_engine *e, uint64_t now_ns)
{
	if (e->idle_ns != 0 && now_ns - e->idle_ns > GAP_NS)
		count(&e->n.lost_ns, now_ns - e->idle_ns);
	e->idle_ns = now_ns;
}

uint64_t engine_stream_now(const struct nssm_engine *e)
{
	uint64_t now = nssm_sched_stream_at(&e->sched, e->paused_since != 0 ? e->paused_since : engine_now(e));
	return now > e->pos_ns ? now : e->pos_ns;
}

/* --- open, close --- */

static int tables_open(struct nssm_engine *e, struct nssm_err *err)
{
	uint32_t n = 1024;
	while (n < 2 * e->cfg.tapes_max && n < 1u << 30)
		n *= 2;
	e->stream_mask = n - 1;
	e->stream = calloc(n, sizeof *e->stream);
	e->label = calloc(e->cfg.n_labels > 0 ? e->cfg.n_labels : 1, sizeof *e->label);
	e->decode = calloc(e->cfg.n_decodes > 0 ? e->cfg.n_decodes : 1, sizeof *e->decode);
	uint32_t n_credits = e->cfg.n_credits > 0 ? e->cfg.n_credits : 1;
	e->credit_owner = malloc(n_credits * sizeof *e->credit_owner);
	e->credit_seen = calloc(n_credits, sizeof *e->credit_seen);
	if (e->stream == NULL || e->label == NULL || e->decode == NULL || e->credit_owner == NULL || e->credit_seen == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for %u sessions at a time", n);
	for (uint32_t i = 0; i < e->cfg.n_credits; i++)
		e->credit_owner[i] = NO_PLAY;
	int rc = 0;
	while (rc == 0 && e->n_decode < e->cfg.n_decodes) {
		rc = nssm_decode_open(&e->decode[e->n_decode], e->cfg.pipe->card, e->cfg.pipe->fill, e->cfg.pipe->gen->mask, err);
		e->n_decode += rc == 0;
	}
	return rc;
}

int nssm_engine_open(struct nssm_engine **ep, const struct nssm_engine_cfg *cfg, struct nssm_err *err)
{
	assert(cfg->plays_max >= 1 && cfg->plays_max < UINT32_MAX - 2 && cfg->tapes_max >= 1);
	struct nssm_engine *e = calloc(1, sizeof *e);
	*ep = e;
	if (e == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for an engine");
	e->cfg = *cfg;
	e->sched = cfg->sched;
	const struct nssm_tape_cfg tape = {.tapes_max = cfg->tapes_max,
		.flows_max = cfg->flows_max,
		.client_nets = cfg->pipe->client_nets,
		.server_nets = cfg->pipe->server_nets};
	int rc = nssm_sched_init(&e->sched, &cfg->pipe->rate, err);
	if (rc == 0)
		rc = tables_open(e, err);
	if (rc == 0)
		rc = nssm_arena_open(&e->arena, &cfg->arena, err);
	if (rc == 0)
		rc = nssm_tape_builder_open(&e->builder, e->arena, &tape, err);
	if (rc == 0)
		rc = nssm_wheel_open(&e->wheel, cfg->plays_max + 2, err);
	const struct nssm_arena_cfg rows = {.bytes = cfg->arena.bytes, .lazy = cfg->arena.lazy};
	if (rc == 0 && cfg->truth != NULL)
		rc = nssm_rows_open(&e->rows, &rows, err);
	if (rc == 0)
		rc = engine_plays_open(e, err);
	if (rc == 0)
		rc = engine_plan_open(e, err);
	if (rc == 0)
		rc = engine_out_open(e, err);
	if (rc != 0) {
		nssm_engine_close(ep);
		return rc;
	}
	if (is_virtual(e) && (is_model(e) || !cfg->keep)) {
		nssm_wheel_add(e->wheel, e->id_source, 0, source_tie(e));
		e->source_in_wheel = true;
	}
	return 0;
}

void nssm_engine_close(struct nssm_engine **ep)
{
	struct nssm_engine *e = *ep;
	if (e == NULL)
		return;
	engine_out_close(e);
	engine_plan_close(e);
	engine_plays_close(e);
	for (uint32_t i = 0; e->n_streams > 0 && i <= e->stream_mask; i++)
		if (e->stream[i].tape != NULL)
			nssm_decode_close(&e->stream[i].decode);
	for (uint32_t i = 0; i < e->n_decode; i++)
		nssm_decode_close(&e->decode[i]);
	nssm_rows_close(&e->rows);
	nssm_wheel_close(&e->wheel);
	nssm_tape_builder_close(&e->builder);
	nssm_arena_close(&e->arena);
	free(e->stream);
	free(e->label);
	free(e->decode);
	free(e->credit_owner);
	free(e->credit_seen);
	free(e);
	*ep = NULL;
}

bool nssm_engine_touch(struct nssm_engine *e)
{
	return nssm_arena_touch(e->arena, &e->touched) || (e->rows != NULL && nssm_rows_touch(e->rows, &e->rows_touched));
}

/* --- the turn --- */

static void resume(struct nssm_engine *e, uint64_t now)
{
	uint64_t by = now - e->paused_since;
	e->paused_since = 0;
	nssm_sched_shift(&e->sched, by);
	/* What a port has been offered stays late. */
	for (uint32_t i = e->n_handed; i < e->n_staged; i++)
		e->staged[i].due_ns += by;
}

/* A pause moves everything that is still to come; a new rate holds from now on. */
static int steer(struct nssm_engine *e, bool *paused, struct nssm_err *err)
{
	struct nssm_run *run = e->cfg.run;
	/* What is under way at the end is not held up. */
	*paused = !is_virtual(e) && !e->over && atomic_load_explicit(&run->paused_at, memory_order_relaxed) != 0;
	if (is_virtual(e) || !e->began)
		return 0;
	uint64_t now = engine_now(e), duration = e->cfg.pipe->duration_ns;
	if (duration > 0 && now >= duration)
		e->over = true; /* also if no packet comes */
	if (*paused && e->paused_since == 0)
		e->paused_since = now > 0 ? now : 1;
	if (!*paused && e->paused_since != 0)
		resume(e, now);
	unsigned version = atomic_load_explicit(&run->rate_version, memory_order_acquire);
	if (*paused || version == e->rate_version)
		return 0;
	e->rate_version = version;
	pthread_mutex_lock(&run->lock);
	struct nssm_rate rate = run->rate;
	pthread_mutex_unlock(&run->lock);
	return nssm_sched_change(&e->sched, &rate, now, e->pos_ns, err);
}

static void lock_outputs(struct nssm_engine *e)
{
	if (e->cfg.n_engines > 1)
		pthread_mutex_lock(&e->cfg.run->lock);
}

static void unlock_outputs(struct nssm_engine *e)
{
	if (e->cfg.n_engines > 1)
		pthread_mutex_unlock(&e->cfg.run->lock);
}

static int tick_outputs(struct nssm_engine *e, struct nssm_err *err)
{
	if (e->cfg.idx != 0 || (e->cfg.n_sinks == 0 && e->cfg.truth == NULL))
		return 0;
	uint64_t now = nssm_now_ns();
	if (now < e->next_tick_ns)
		return 0;
	e->next_tick_ns = now + TICK_NS;
	int rc = 0;
	lock_outputs(e);
	for (uint32_t i = 0; rc == 0 && i < e->cfg.n_sinks; i++)
		rc = nssm_sink_tick(e->cfg.sink[i], now, err);
	if (rc == 0 && e->cfg.truth != NULL && !is_virtual(e) && now >= e->next_flush_ns) {
		e->next_flush_ns = now + FLUSH_NS;
		rc = nssm_truth_flush(e->cfg.truth, err);
	}
	unlock_outputs(e);
	return rc;
}

/* A session that is not playing yet gets little further ahead when this is set, so that those that play find room. */
static bool is_tight(const struct nssm_engine *e)
{
	uint32_t own = e->cfg.plays_max - e->clones_max, n = e->cfg.plays_max - e->n_spare - e->n_clones_open;
	return nssm_arena_left(e->arena) < nssm_arena_stats(e->arena)->chunks / 8 || n > own - own / 4;
}

static void gauges(struct nssm_engine *e)
{
	const struct nssm_arena_stats *a = nssm_arena_stats(e->arena);
	set(&e->n.arena_used, a->chunks_used * NSSM_CHUNK_BYTES);
	set(&e->n.arena_bytes, a->chunks * NSSM_CHUNK_BYTES);
	set(&e->n.spilled_bytes, a->spill_used_max);
	set(&e->n.ring_used, nssm_ring_count(e->cfg.in));
	set(&e->n.ring_size, nssm_ring_size(e->cfg.in));
	if (e->cfg.run->tight != NULL)
		atomic_store_explicit(&e->cfg.run->tight[e->cfg.idx], is_tight(e), memory_order_relaxed);
}

static bool no_plays(const struct nssm_engine *e)
{
	return e->n_spare == e->cfg.plays_max && e->n_pending == 0;
}

/* After the source's end, when its last block has been taken. */
static int source_ended(struct nssm_engine *e, struct nssm_err *err)
{
	int rc = engine_end_streams(e, err);
	if (rc == 0 && e->cfg.keep && !is_model(e) && !e->plan_ready)
		return engine_plan(e, err);
	/* A plan that waits for a session to keep waits for nothing now. */
	if (e->cfg.keep && is_model(e) && e->n_kept == 0 && no_plays(e))
		e->plan_over = true;
	return rc;
}

static bool stop_asked(struct nssm_engine *e)
{
	int stop = atomic_load_explicit(&e->cfg.run->stop, memory_order_relaxed);
	if (stop == 0)
		return false;
	/* What a model has begun is written to its end, in virtual time; a wire does not wait for that. */
	if (stop > 1 || !is_virtual(e) || !is_model(e))
		e->over = true;
	else
		e->left += engine_plan_stop(e);
	return stop > 1;
}

/* A limit that other engines reached. */
static bool limit_reached(const struct nssm_engine *e)
{
	uint64_t max = e->cfg.pipe->max_packets;
	return max > 0 && e->cfg.n_engines > 1 && atomic_load_explicit(&e->cfg.run->n_taken, memory_order_relaxed) >= max;
}

int nssm_engine_turn(
        struct nssm_engine *e, enum nssm_engine_state *state, uint64_t *wake_ns, struct nssm_err *err)
{
	bool paused, worked = false, now = stop_asked(e);
	/* Asked before the ring is looked at: what was put in before it said so is seen. */
	bool source_done = atomic_load_explicit(&e->cfg.run->source_done, memory_order_acquire);
	*wake_ns = UINT64_MAX;
	e->over |= limit_reached(e);
	int rc = steer(e, &paused, err);
	if (rc == 0 && !e->over)
		rc = engine_take_blocks(e, err);
	if (rc == 0 && !e->over && source_done && engine_in_idle(e))
		rc = source_ended(e, err);
	engine_net_poll(e);
	int bursts = is_virtual(e) ? VIRTUAL_BURSTS : 1;
	for (int i = 0; rc == 0 && !paused && !now && i < bursts; i++) {
		rc = engine_out(e, &worked, wake_ns, err);
		if (!worked)
			break;
	}
	if (worked)
		e->idle_ns = 0;
	if (rc == 0 && !e->over)
		rc = engine_check_stuck(e, worked, err);
	if (rc == 0)
		rc = tick_outputs(e, err);
	if (rc != 0)
		return rc;
	bool played = source_done && engine_in_idle(e) && e->plan_over && no_plays(e);
	bool ended = e->over ? now || e->n_staged == 0 : played && e->n_staged == 0;
	*state = ended ? NSSM_ENGINE_DONE : worked ? NSSM_ENGINE_GOES : NSSM_ENGINE_WAITS;
	if (e->n_turns++ % GAUGE_TURNS == 0 || *state != NSSM_ENGINE_GOES)
		gauges(e);
	if (*wake_ns != UINT64_MAX && !is_virtual(e))
		*wake_ns += atomic_load_explicit(&e->cfg.run->t0_ns, memory_order_relaxed);
	return 0;
}

/* --- at the end --- */

void nssm_engine_note_cpu(struct nssm_engine *e)
{
	struct timespec t;
	if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0)
		set(&e->n.cpu_ns, (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec);
}

/* Blocks that nobody will play: the source must not wait for them. */
static void discard_blocks(struct nssm_engine *e)
{
	/* Of the one in hand some frames have been taken. */
	uint32_t taken = e->block != NULL ? e->block_n : 0;
	for (; e->block != NULL || (e->block = nssm_ring_get(e->cfg.in)) != NULL; taken = 0) {
		if (e->block->kind == NSSM_BLOCK_FRAMES)
			e->left += e->block->n - taken;
		(void)nssm_ring_put(e->cfg.back, e->block);
		e->block = NULL;
	}
}

int nssm_engine_listen(struct nssm_engine *e, struct nssm_err *err)
{
	discard_blocks(e);
	engine_net_poll(e);
	return tick_outputs(e, err);
}

/* Which place a play has does not show in the order of the rows. */
static int by_session(const void *a, const void *b, void *plays)
{
	const struct play *x = (struct play *)plays + *(const uint32_t *)a, *y = (struct play *)plays + *(const uint32_t *)b;
	if (x->tape->session != y->tape->session)
		return x->tape->session < y->tape->session ? -1 : 1;
	return x->clone < y->clone ? -1 : x->clone > y->clone;
}

int nssm_engine_finish(struct nssm_engine *e, struct nssm_err *err)
{
	int rc = 0;
	e->closing = true;
	discard_blocks(e);
	uint64_t left = e->left + e->has_frame + engine_plan_stop(e);
	/* Sessions that did not come to their end. Captures that are kept are not played while they are read. */
	for (uint32_t i = 0; e->n_streams > 0 && i <= e->stream_mask; i++) {
		const struct nssm_tape *t = e->stream[i].tape;
		if (t == NULL)
			continue;
		left += e->stream[i].play == NO_PLAY ? t->n_packets : 0;
		count(&e->label[t->label_idx].flows, t->n_flows);
		count(&e->n.session_flows, t->n_flows);
	}
	uint32_t n = 0, *open = e->queue; /* nobody waits any more */
	for (uint32_t i = 0; i < e->cfg.plays_max; i++)
		if (e->play[i].state != PLAY_FREE)
			open[n++] = i;
	qsort_r(open, n, sizeof *open, by_session, e->play);
	for (uint32_t i = 0; i < n; i++) {
		struct play *p = &e->play[open[i]];
		left += p->tape->n_packets - p->n_done;
		p->staged = 0;
		int code = engine_play_end(e, open[i], false, err);
		rc = rc != 0 ? rc : code;
	}
	set(&e->n.left, left);
	return rc;
}

void nssm_engine_unsent(struct nssm_engine *e, const uint64_t n[NSSM_DROP_N], uint64_t bytes)
{
	for (int r = 0; r < NSSM_DROP_N; r++) {
		set(&e->n.sent, e->n.sent - n[r]);
		count(&e->n.dropped[r], n[r]);
	}
	set(&e->n.sent_bytes, e->n.sent_bytes - bytes);
}

const struct nssm_counters *nssm_engine_counters(const struct nssm_engine *e)
{
	return &e->n;
}

const struct nssm_label_stats *nssm_engine_label(const struct nssm_engine *e, uint32_t label_idx)
{
	return &e->label[label_idx];
}
