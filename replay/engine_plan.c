#include <math.h>
#include <stdlib.h>

#include "replay/engine_priv.h"

#define NS_PER_S 1000000000.0

/* Sessions of a single packet end when they begin: without a gap their stream would not get on. */
#define START_GAP_NS  100.0
/* Shares of what is kept that may be on its way out, and still playing. */
#define LEAVING_SHARE 4u

uint64_t engine_plays_a_loop(const struct nssm_engine *e)
{
	return e->cfg.pipe->mode == NSSM_PLAY_COUNT ? e->cfg.pipe->n_plays : 1;
}

/* Where each play's slot is known beforehand. */
static int fix_slots(struct nssm_engine *e, uint64_t n_sessions, struct nssm_err *err)
{
	uint64_t n_plays = engine_plays_a_loop(e);
	if (e->slot == NULL || n_sessions == 0 || n_sessions > nssm_cloner_slots(e->cfg.cloner) / n_plays)
		return 0;
	uint64_t n = n_sessions * n_plays;
	e->slot_busy = calloc(n / 64 + 1, sizeof *e->slot_busy);
	if (e->slot_busy == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for %llu address slots", (unsigned long long)n);
	e->fixed_slots = true;
	return 0;
}

int engine_plan_open(struct nssm_engine *e, struct nssm_err *err)
{
	const struct nssm_pipeline_cfg *pipe = e->cfg.pipe;
	nssm_rng_init(&e->plan_rng, pipe->seed, e->cfg.idx, NSSM_RNG_CLONE);
	/* Nothing is planned where each session plays once, as it comes, and where a model's clones follow their session. */
	e->plan_over = !e->cfg.keep || (is_model(e) && pipe->mode == NSSM_PLAY_COUNT);
	if (pipe->mode == NSSM_PLAY_CONCURRENCY) {
		uint32_t n = e->cfg.n_engines;
		e->target_alive = pipe->n_plays / n + (e->cfg.idx < pipe->n_plays % n);
		if (e->target_alive == 0)
			return nssm_err_set(err, NSSM_EARG, "--concurrency %llu: expected at least one for each of %u lcores",
				(unsigned long long)pipe->n_plays, n);
		if (e->target_alive > e->clones_max)
			return nssm_err_set(err, NSSM_ERANGE, "--concurrency %llu: this run has room for %u on each of %u lcores",
				(unsigned long long)pipe->n_plays, e->clones_max, n);
		if (e->slot != NULL && e->target_alive > e->slot_cap)
			return nssm_err_set(err, NSSM_EARG,
				"--concurrency %llu: --clients and --client-ports have room for %llu sessions at a time: give larger pools",
				(unsigned long long)pipe->n_plays, (unsigned long long)nssm_cloner_slots(e->cfg.cloner));
	}
	/* Which session comes first hangs on the machine where they are made and sent at the same time. */
	bool counted = pipe->mode == NSSM_PLAY_ONCE || pipe->mode == NSSM_PLAY_COUNT;
	uint64_t n = is_model(e) ? pipe->gen->n_sessions : 0, first = is_model(e) ? pipe->gen->first_session : 0;
	int rc = n < UINT64_MAX - first && counted ? fix_slots(e, n > 0 ? first + n : 0, err) : 0;
	if (rc != 0 || !e->cfg.keep)
		return rc;
	e->kept = malloc(e->cfg.tapes_max * sizeof *e->kept);
	if (is_model(e) && pipe->mode == NSSM_PLAY_COUNT)
		e->pending = malloc(e->cfg.tapes_max * sizeof *e->pending);
	if (e->kept == NULL || (is_model(e) && pipe->mode == NSSM_PLAY_COUNT && e->pending == NULL))
		return nssm_err_set(err, NSSM_ENOMEM, "no memory to keep %u sessions", e->cfg.tapes_max);
	return 0;
}

void engine_plan_close(struct nssm_engine *e)
{
	free(e->kept);
	free(e->pending);
	free(e->start);
}

/* --- what is kept --- */

static uint32_t ring_at(const struct nssm_engine *e, uint32_t head, uint32_t i)
{
	uint32_t at = head + i;
	return at < e->cfg.tapes_max ? at : at - e->cfg.tapes_max;
}

static struct kept *kept_at(struct nssm_engine *e, uint32_t i)
{
	return &e->kept[ring_at(e, e->kept_head, i)];
}

/* The oldest one is not played again; it goes when nothing plays it. True: now. */
static bool evict_oldest(struct nssm_engine *e)
{
	struct nssm_tape *t = kept_at(e, 0)->tape;
	e->kept_head = ring_at(e, e->kept_head, 1);
	e->n_kept--;
	e->mean_flows_sum -= t->n_flows > 0 ? t->n_flows : 1;
	e->mean_ns_sum -= t->duration_ns;
	set(&e->n.bank_sessions, e->n_kept);
	set(&e->n.bank_bytes, e->n.bank_bytes - t->n_bytes);
	count(&e->n.bank_evicted, 1);
	t->stays = false;
	t->leaves = true;
	e->n_leaving++;
	bool now = t->n_playing == 0;
	if (now)
		engine_tape_unused(e, t);
	return now;
}

bool engine_evict(struct nssm_engine *e)
{
	if (!is_model(e))
		return false;
	while (e->n_kept > 0 && e->n_leaving <= e->n_kept / LEAVING_SHARE)
		if (evict_oldest(e))
			return true;
	return false;
}

/* So much is free that what comes in finds room while those that leave still play. In virtual time memory has no end, but the bank
 * has; and what it holds must not hang on when which block came. */
static void make_room(struct nssm_engine *e)
{
	const struct nssm_arena_stats *a = nssm_arena_stats(e->arena);
	if (is_virtual(e)) {
		while (e->n_kept > 1 && (e->n.bank_bytes > e->cfg.arena.bytes || e->n_kept > e->cfg.tapes_max / 2))
			evict_oldest(e);
		return;
	}
	while (e->n_kept > 1 && nssm_arena_left(e->arena) < a->chunks / 4 && engine_evict(e))
		;
}

static void add_pending(struct nssm_engine *e, struct nssm_tape *t, uint64_t base_ns)
{
	t->n_playing++;
	e->pending[ring_at(e, e->pending_head, e->n_pending++)] =
	        (struct pending){.tape = t, .from_ns = base_ns + t->duration_ns, .next = 1};
	count(&e->n.clones_waiting, e->cfg.pipe->n_plays - 1);
}

static void pending_over(struct nssm_engine *e)
{
	struct nssm_tape *t = e->pending[e->pending_head].tape;
	e->pending_head = ring_at(e, e->pending_head, 1);
	e->n_pending--;
	t->stays = false;
	if (--t->n_playing == 0)
		engine_tape_unused(e, t);
}

/* Clones of a session that the model has finished, as many as there are plays for. */
static void begin_pending(struct nssm_engine *e)
{
	const struct nssm_pipeline_cfg *pipe = e->cfg.pipe;
	while (e->n_pending > 0) {
		struct pending *w = &e->pending[e->pending_head];
		for (; w->next < pipe->n_plays; w->next++) {
			/* Which part of its duration after its end: 53 bits of a clone's key. */
			double u = (double)(nssm_clone_key(pipe->seed, w->tape->session, (uint32_t)w->next) >> 11) * 0x1p-53;
			uint64_t late = pipe->phase == NSSM_PHASE_LOCKED ? 0 : (uint64_t)(u * (double)w->tape->duration_ns);
			uint32_t idx;
			if (!engine_play_new(e, w->tape, (uint32_t)w->next, w->from_ns + late, false, &idx))
				return;
			set(&e->n.clones_waiting, e->n.clones_waiting - 1);
		}
		pending_over(e);
	}
}

int engine_keep(struct nssm_engine *e, struct nssm_tape *t, uint64_t base_ns, struct nssm_err *err)
{
	bool counted = is_model(e) && e->cfg.pipe->mode == NSSM_PLAY_COUNT;
	/* What has no packet is no session to play again. */
	if (t->n_packets == 0 || (counted && e->cfg.pipe->n_plays < 2)) {
		t->stays = false;
		if (t->n_playing == 0)
			engine_tape_unused(e, t);
		return 0;
	}
	if (counted) {
		add_pending(e, t, base_ns);
		begin_pending(e);
		return 0;
	}
	/* There are no more tapes than the ring has places. */
	e->kept[ring_at(e, e->kept_head, e->n_kept++)] = (struct kept){.tape = t, .n_clones = is_model(e)};
	e->mean_flows_sum += t->n_flows > 0 ? t->n_flows : 1;
	e->mean_ns_sum += t->duration_ns;
	count(&e->n.bank_bytes, t->n_bytes);
	set(&e->n.bank_sessions, e->n_kept);
	if (!is_model(e))
		return 0;
	make_room(e);
	return e->plan_ready || e->plan_over ? 0 : engine_plan(e, err);
}

/* --- the plan --- */

static double exponential(struct nssm_rng *rng, double mean)
{
	return -log(nssm_rng_unit(rng)) * mean;
}

static uint64_t add_ns(uint64_t a, double b)
{
	double most = (double)(NSSM_STREAM_MAX_NS - (a < NSSM_STREAM_MAX_NS ? a : NSSM_STREAM_MAX_NS));
	return b >= most ? NSSM_STREAM_MAX_NS : a + (uint64_t)(b + 0.5);
}

static int by_start(const void *a, const void *b)
{
	const struct start *x = a, *y = b;
	if (x->at_ns != y->at_ns)
		return x->at_ns < y->at_ns ? -1 : 1;
	if (x->kept_idx != y->kept_idx)
		return x->kept_idx < y->kept_idx ? -1 : 1;
	return x->clone < y->clone ? -1 : x->clone > y->clone;
}

/* Kept sessions may have come in another order; theirs is by number. */
static int by_tape(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;
	return x->tape->session < y->tape->session ? -1 : x->tape->session > y->tape->session;
}

static uint64_t loop_gap(const struct nssm_engine *e)
{
	if (e->cfg.pipe->loop_gap_ns >= 0)
		return (uint64_t)e->cfg.pipe->loop_gap_ns;
	return e->loop_packets > 1 ? e->loop_period_ns / (e->loop_packets - 1) : 0;
}

/* The session's number and the clone's say when it starts in the period. */
static void start_in_period(struct nssm_engine *e, uint64_t n_plays, uint64_t period)
{
	bool uniform = e->cfg.pipe->phase == NSSM_PHASE_UNIFORM && n_plays > 1 && period > 0;
	uint64_t i = 0;
	for (uint32_t k = 0; k < e->n_kept; k++) {
		struct nssm_rng rng;
		const struct nssm_tape *t = kept_at(e, k)->tape;
		nssm_rng_init(&rng, e->cfg.pipe->seed, t->session, NSSM_RNG_CLONE);
		for (uint64_t c = 0; c < n_plays; c++) {
			uint64_t start = t->start_ns;
			if (uniform)
				start = (start + (uint64_t)(nssm_rng_unit(&rng) * (double)period)) % period;
			e->start[i++] = (struct start){start, k, (uint32_t)c};
		}
	}
	qsort(e->start, e->n_start, sizeof *e->start, by_start);
}

static void start_at_random(struct nssm_engine *e, uint64_t n_plays, uint64_t period)
{
	uint64_t i = 0, at = 0;
	for (uint32_t k = 0; k < e->n_kept; k++)
		for (uint64_t c = 0; c < n_plays; c++)
			e->start[i++] = (struct start){0, k, (uint32_t)c};
	for (uint64_t j = e->n_start; j > 1; j--) {
		uint64_t other = nssm_rng_below(&e->plan_rng, (uint32_t)j);
		struct start s = e->start[j - 1];
		e->start[j - 1] = e->start[other];
		e->start[other] = s;
	}
	for (uint64_t j = 0; j < e->n_start; j++) {
		at = j == 0 ? 0 : add_ns(at, exponential(&e->plan_rng, (double)period / (double)e->n_start));
		e->start[j].at_ns = at;
	}
	if (at > e->loop_period_ns)
		e->loop_period_ns = at;
}

static int plan_count(struct nssm_engine *e, struct nssm_err *err)
{
	uint64_t n_plays = engine_plays_a_loop(e);
	if (n_plays > UINT32_MAX / (e->n_kept > 0 ? e->n_kept : 1))
		return nssm_err_set(err, NSSM_ERANGE, "%u sessions played %llu times each: more than 2^32 plays", e->n_kept,
			(unsigned long long)n_plays);
	e->n_start = e->n_kept * n_plays;
	e->start = malloc((e->n_start > 0 ? e->n_start : 1) * sizeof *e->start);
	if (e->start == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory to plan %llu plays", (unsigned long long)e->n_start);
	/* A period holds the gap to the next loop, so that a start can fall into it, too. */
	uint64_t period = e->loop_period_ns + loop_gap(e);
	int rc = 0;
	if (e->cfg.pipe->phase == NSSM_PHASE_POISSON && n_plays > 1) {
		start_at_random(e, n_plays, period);
	} else {
		start_in_period(e, n_plays, period);
		rc = fix_slots(e, e->sessions_total, err);
	}
	if (e->n_start > 0)
		e->plan_next_ns = e->start[0].at_ns;
	return rc;
}

/* Some of the plays that shall be alive start within the mean duration, so that they do not march in step. */
static void plan_concurrency(struct nssm_engine *e)
{
	double mean = e->n_kept > 0 ? (double)e->mean_ns_sum / e->n_kept : 0;
	e->start_every_ns = e->cfg.pipe->phase != NSSM_PHASE_LOCKED ? mean / (double)e->target_alive : 0;
}

static double rate_gap_ns(struct nssm_engine *e)
{
	double flows = e->n_kept > 0 ? (double)e->mean_flows_sum / e->n_kept : 1;
	double mean = NS_PER_S * flows * e->cfg.n_engines / e->cfg.pipe->flows_per_s;
	return e->cfg.pipe->phase == NSSM_PHASE_LOCKED ? mean : exponential(&e->plan_rng, mean);
}

static uint64_t plan_time(const struct nssm_engine *e)
{
	return e->plan_next_ns > e->pos_ns ? e->plan_next_ns : e->pos_ns;
}

static void plan_to_wheel(struct nssm_engine *e)
{
	nssm_wheel_add(e->wheel, e->id_plan, plan_time(e), 0);
	e->plan_in_wheel = true;
}

int engine_plan(struct nssm_engine *e, struct nssm_err *err)
{
	int rc = 0;
	e->plan_ready = true;
	if (!is_model(e)) {
		if (e->n_kept > 0)
			qsort(e->kept, e->n_kept, sizeof *e->kept, by_tape);
		/* Of a capture that broke nothing is cloned or looped. */
		e->plan_over |= e->n_kept == 0 || atomic_load_explicit(&e->cfg.run->source_failed, memory_order_relaxed);
	}
	e->plan_next_ns = is_virtual(e) ? e->pos_ns : engine_stream_now(e);
	if (!e->plan_over && e->cfg.pipe->mode == NSSM_PLAY_CONCURRENCY)
		plan_concurrency(e);
	else if (!e->plan_over && e->cfg.pipe->mode != NSSM_PLAY_RATE)
		rc = plan_count(e, err);
	if (rc == 0 && !e->plan_over)
		plan_to_wheel(e);
	return rc;
}

/* False: nothing was free; the next play that ends tries again. */
static bool begin_kept(struct nssm_engine *e, struct kept *k, uint32_t clone)
{
	uint32_t idx;
	if (!engine_has_place(e, k->tape, clone) || !engine_play_new(e, k->tape, clone, plan_time(e), k->n_clones == 0, &idx)) {
		e->plan_waits = true;
		count(&e->n.clones_waiting, 1);
		return false;
	}
	(void)engine_play_begin(e, idx);
	k->n_clones++;
	return true;
}

static void next_planned(struct nssm_engine *e)
{
	const struct start *s = &e->start[e->next_start];
	if (!begin_kept(e, kept_at(e, s->kept_idx), (uint32_t)(s->clone + e->loop * engine_plays_a_loop(e))))
		return;
	if (++e->next_start == e->n_start) {
		e->next_start = 0;
		e->loop++;
		if (e->cfg.pipe->n_loops > 0 && e->loop == e->cfg.pipe->n_loops) {
			e->plan_over = true;
			return;
		}
	}
	uint64_t base = nssm_loop_start(e->loop, e->loop_period_ns, loop_gap(e));
	uint64_t at = base + e->start[e->next_start].at_ns;
	e->plan_next_ns = at < base ? NSSM_STREAM_MAX_NS : at;
}

/* Which of those kept is drawn when there is a place, so that it depends on the number of the play and not on how often it was tried. */
static void next_drawn(struct nssm_engine *e)
{
	if (e->target_alive > 0 && e->n_alive >= e->target_alive) {
		e->plan_waits = true;
		return;
	}
	if (!e->has_drawn)
		e->drawn = nssm_rng_u32(&e->plan_rng);
	e->has_drawn = true;
	struct kept *k = kept_at(e, (uint32_t)((uint64_t)e->drawn * e->n_kept >> 32));
	uint64_t at = plan_time(e);
	if (!begin_kept(e, k, k->n_clones))
		return;
	e->has_drawn = false;
	if (e->cfg.pipe->mode == NSSM_PLAY_RATE)
		e->plan_next_ns = add_ns(at, rate_gap_ns(e));
	else if (e->n_begun_at_first < e->target_alive)
		e->plan_next_ns = add_ns(at, e->start_every_ns);
	else
		e->plan_next_ns = add_ns(at, START_GAP_NS);
	e->n_begun_at_first++;
}

int engine_plan_next(struct nssm_engine *e, struct nssm_err *err)
{
	e->plan_in_wheel = false;
	if (e->plan_over)
		return 0;
	if (e->n_kept == 0) { /* all were forgotten: with the next session it goes on */
		e->plan_ready = false;
		return 0;
	}
	if (e->start != NULL)
		next_planned(e);
	else
		next_drawn(e);
	if (!e->plan_over && !e->plan_waits)
		plan_to_wheel(e);
	return 0;
}

void engine_plan_retry(struct nssm_engine *e)
{
	begin_pending(e);
	if (!e->plan_waits)
		return;
	e->plan_waits = false;
	set(&e->n.clones_waiting, e->n_queue);
	if (!e->plan_over)
		plan_to_wheel(e);
}

/* Captures: what is still planned, if that has an end; what was read, if there is no plan yet. */
static uint64_t left_of_captures(struct nssm_engine *e)
{
	uint64_t all = 0;
	for (uint32_t i = 0; i < e->n_kept; i++)
		all += kept_at(e, i)->tape->n_packets;
	if (!e->plan_ready || e->start == NULL)
		return e->plan_ready ? 0 : all;
	if (e->cfg.pipe->n_loops == 0)
		return 0;
	uint64_t left = (e->cfg.pipe->n_loops - e->loop) * engine_plays_a_loop(e) * all;
	for (uint64_t i = 0; i < e->next_start; i++)
		left -= kept_at(e, e->start[i].kept_idx)->tape->n_packets;
	return left;
}

uint64_t engine_plan_stop(struct nssm_engine *e)
{
	uint64_t left = 0;
	for (; e->n_pending > 0; pending_over(e)) {
		const struct pending *w = &e->pending[e->pending_head];
		left += (e->cfg.pipe->n_plays - w->next) * w->tape->n_packets;
	}
	if (e->cfg.keep && !is_model(e) && !e->plan_over)
		left += left_of_captures(e);
	e->plan_over = true;
	set(&e->n.clones_waiting, e->n_queue);
	return left;
}
