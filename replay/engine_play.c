#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "replay/engine_priv.h"

#define NS_PER_S 1000000000.0

/* --- slots: which addresses a play has ---
 * Without rewriting there is nothing to share. With it, free slots stand in a ring: the one that has been free for longest is taken,
 * as a stack does with ports in TIME_WAIT. Where captures are played a known number of times the slot is a pure function of session
 * and clone, the same for any number of engines; a play of the next loop starts a whole period after the one before it and no session
 * is longer than the period, so the two are never alive together. */

static uint64_t total_slots(const struct nssm_engine *e)
{
	return e->cfg.cloner != NULL ? nssm_cloner_slots(e->cfg.cloner) : UINT64_MAX;
}

static int slots_open(struct nssm_engine *e, struct nssm_err *err)
{
	uint64_t all = total_slots(e);
	if (all == UINT64_MAX)
		return 0;
	uint64_t n = all / e->cfg.n_engines, most = 2ull * e->cfg.plays_max;
	if (n == 0)
		return nssm_err_set(err, NSSM_EARG,
			"--clients and --client-ports have room for %llu sessions at a time, and there are %u lcores: give larger pools",
			(unsigned long long)all, e->cfg.n_engines);
	e->slot_cap = n < most ? n : most;
	e->slot = malloc(e->slot_cap * sizeof *e->slot);
	if (e->slot == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for %llu address slots", (unsigned long long)e->slot_cap);
	for (uint64_t i = 0; i < e->slot_cap; i++)
		e->slot[i] = i * e->cfg.n_engines + e->cfg.idx;
	e->n_slot_free = e->slot_cap;
	return 0;
}

static bool slot_take(struct nssm_engine *e, const struct nssm_tape *t, uint32_t clone, uint64_t *slot)
{
	*slot = 0;
	if (e->slot == NULL)
		return true;
	if (e->fixed_slots) {
		*slot = t->session * e->cfg.pipe->n_plays + clone % e->cfg.pipe->n_plays;
		return true;
	}
	if (e->n_slot_free == 0)
		return false;
	*slot = e->slot[e->slot_head];
	e->slot_head = e->slot_head + 1 == e->slot_cap ? 0 : e->slot_head + 1;
	e->n_slot_free--;
	return true;
}

static void slot_put(struct nssm_engine *e, uint64_t slot)
{
	if (e->slot == NULL || e->fixed_slots)
		return;
	uint64_t at = e->slot_head + e->n_slot_free++;
	e->slot[at < e->slot_cap ? at : at - e->slot_cap] = slot;
}

/* --- plays --- */

int engine_plays_open(struct nssm_engine *e, struct nssm_err *err)
{
	uint32_t n = e->cfg.plays_max;
	e->play = aligned_alloc(sizeof *e->play, n * sizeof *e->play);
	if (e->play != NULL)
		memset(e->play, 0, n * sizeof *e->play);
	e->play_rows = e->rows != NULL ? calloc(n, sizeof(struct nssm_row_seg *)) : NULL;
	e->spare_play = malloc(n * sizeof *e->spare_play);
	e->kept = e->cfg.keep ? calloc(e->cfg.tapes_max, sizeof *e->kept) : NULL;
	if (e->play == NULL || e->spare_play == NULL || (e->rows != NULL && e->play_rows == NULL) || (e->cfg.keep && e->kept == NULL))
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for %u plays", n);
	for (uint32_t i = 0; i < n; i++)
		e->spare_play[i] = n - 1 - i;
	e->n_spare = n;
	e->id_plan = n;
	e->id_source = n + 1;
	nssm_rng_init(&e->plan_rng, e->cfg.pipe->seed, e->cfg.idx, NSSM_RNG_CLONE);
	return slots_open(e, err);
}

void engine_plays_close(struct nssm_engine *e)
{
	free(e->play);
	free(e->play_rows);
	free(e->spare_play);
	free(e->kept);
	free(e->start);
	free(e->slot);
}

static bool folds(const struct nssm_engine *e, const struct nssm_tape *t)
{
	const struct nssm_clone_cfg *c = &e->cfg.pipe->clone;
	for (int v = 0; v < 2; v++)
		if (t->n_clients[v] > c->endpoints_max || t->n_servers[v] > c->servers_max)
			return true;
	return t->max_sockets > c->sockets_max;
}

bool engine_play_begin(struct nssm_engine *e, struct nssm_tape *t, uint32_t clone, uint64_t at_ns, bool first, uint32_t *idx)
{
	if (e->n_spare == 0)
		return false;
	uint64_t slot;
	if (!slot_take(e, t, clone, &slot))
		return false;
	uint32_t i = *idx = e->spare_play[--e->n_spare];
	struct play *p = &e->play[i];
	/* A model's session cannot start before now; a capture's keeps its place and is late. */
	if (!is_virtual(e) && e->began && is_model(e)) {
		uint64_t now = engine_stream_now(e);
		at_ns = at_ns < now ? now : at_ns;
	}
	*p = (struct play){.tape = t,
		.base_ns = at_ns,
		.id = {.key = nssm_clone_key(e->cfg.pipe->seed, t->session, clone), .slot = slot},
		.clone = clone,
		.credit = UINT32_MAX,
		.first = first,
		.state = PLAY_WAITS};
	t->n_playing++;
	e->n_alive++;
	if (clone > 0)
		count(&e->n.clones_begun, 1);
	set(&e->n.clones_alive, e->n_alive);
	count(&e->n.folded, e->slot != NULL && folds(e, t));
	if (t->first != NULL) {
		p->rec = t->first;
		p->state = PLAY_WHEEL;
		nssm_wheel_add(e->wheel, i, play_at(p, p->rec), play_tie(p));
	} else if (is_virtual(e) && is_model(e) && !t->finished) {
		p->state = PLAY_HOLDS;
		nssm_wheel_add(e->wheel, i, p->base_ns, play_tie(p));
	}
	return true;
}

/* The record of at_ns may have come too late. A model's session goes on from now; a capture's times stay, and what is late goes out at
 * once until it has caught up: there the time without a packet to send is counted. Returns when the record plays. */
static uint64_t starved(struct nssm_engine *e, struct play *p, uint64_t at_ns)
{
	uint64_t now = engine_stream_now(e), from = is_model(e) || e->starved_to_ns < at_ns ? at_ns : e->starved_to_ns;
	if (at_ns >= now)
		return at_ns;
	count(&e->n.starved, 1);
	count(&e->n.starved_ns, now - from);
	e->starved_to_ns = now;
	if (!is_model(e))
		return at_ns;
	p->base_ns += now - at_ns;
	return now;
}

void engine_play_wake(struct nssm_engine *e, uint32_t idx)
{
	struct play *p = &e->play[idx];
	assert(p->state == PLAY_WAITS);
	const struct nssm_rec *rec = p->last != NULL ? nssm_rec_next(p->last) : p->tape->first;
	if (rec == NULL) {
		if (p->tape->finished)
			p->state = PLAY_ENDS;
		return;
	}
	uint64_t at = play_at(p, rec);
	if (!is_virtual(e) && e->began)
		at = starved(e, p, at);
	p->rec = rec;
	p->state = PLAY_WHEEL;
	nssm_wheel_add(e->wheel, idx, at, play_tie(p));
}

void engine_play_advance(struct nssm_engine *e, uint32_t idx, const struct nssm_rec *rec)
{
	struct play *p = &e->play[idx];
	p->last = rec;
	p->rec = nssm_rec_next(rec);
	if (p->rec != NULL) {
		nssm_wheel_add(e->wheel, idx, play_at(p, p->rec), play_tie(p));
	} else if (p->tape->finished) {
		p->state = PLAY_ENDS;
	} else if (is_virtual(e) && is_model(e)) {
		p->state = PLAY_HOLDS;
		nssm_wheel_add(e->wheel, idx, play_at(p, rec), play_tie(p));
	} else {
		p->state = PLAY_WAITS;
	}
}

/* One row a flow that had packets due. */
static int truth(struct nssm_engine *e, uint32_t idx, bool complete, struct nssm_err *err)
{
	const struct play *p = &e->play[idx];
	int rc = 0;
	bool lock = e->cfg.n_engines > 1;
	if (lock)
		pthread_mutex_lock(&e->cfg.run->lock);
	for (const struct nssm_flow *f = p->tape->flows; rc == 0 && f != NULL; f = f->next) {
		struct nssm_flow_row *r = nssm_rows_get(e->rows, &e->play_rows[idx], f->idx);
		if (r == NULL || r->due == 0)
			continue;
		uint64_t sent = r->packets[0] + r->packets[1];
		struct nssm_truth_row row = {.label_idx = p->tape->label_idx,
			.clone = p->clone,
			.session = p->tape->session,
			.first_due_ns = r->first_due_ns,
			.last_due_ns = r->last_due_ns,
			.first_sent_ns = sent > 0 ? r->first_sent_ns : 0,
			.last_sent_ns = r->last_sent_ns,
			.packets = {r->packets[0], r->packets[1]},
			.bytes = {r->bytes[0], r->bytes[1]},
			.dropped = r->dropped,
			.complete = complete || r->due == f->n_packets[0] + f->n_packets[1]};
		nssm_clone_tuple(&row.tuple, e->cfg.cloner, p->tape, f, &p->id);
		rc = nssm_truth_row(e->cfg.truth, &row, err);
	}
	if (lock)
		pthread_mutex_unlock(&e->cfg.run->lock);
	return rc;
}

static void plan_retry(struct nssm_engine *e)
{
	if (!e->plan_waits)
		return;
	e->plan_waits = false;
	set(&e->n.clones_waiting, 0);
	uint64_t at = e->plan_next_ns > e->pos_ns ? e->plan_next_ns : e->pos_ns;
	nssm_wheel_add(e->wheel, e->id_plan, at, 0);
	e->plan_in_wheel = true;
}

int engine_play_end(struct nssm_engine *e, uint32_t idx, bool complete, struct nssm_err *err)
{
	struct play *p = &e->play[idx];
	struct nssm_tape *t = p->tape;
	int rc = 0;
	assert(p->state != PLAY_FREE && p->staged == 0);
	if (e->cfg.truth != NULL) {
		rc = truth(e, idx, complete, err);
		nssm_rows_put(e->rows, &e->play_rows[idx]);
	}
	slot_put(e, p->id.slot);
	if (p->clone > 0)
		count(&e->n.clones_done, 1);
	p->state = PLAY_FREE;
	p->tape = NULL;
	e->spare_play[e->n_spare++] = idx;
	e->n_alive--;
	set(&e->n.clones_alive, e->n_alive);
	t->n_playing--;
	if (!e->cfg.keep && t->n_playing == 0 && t->finished)
		nssm_tape_free(e->builder, &t);
	plan_retry(e);
	return rc;
}

/* --- what is kept --- */

static void stats_of_kept(struct nssm_engine *e)
{
	set(&e->n.bank_sessions, e->n_kept);
}

int engine_keep(struct nssm_engine *e, struct nssm_tape *t, struct nssm_err *err)
{
	const struct nssm_pipeline_cfg *pipe = e->cfg.pipe;
	/* What has no packet is no session to play again. */
	if (t->n_packets == 0 || e->n_kept == e->cfg.tapes_max) {
		if (t->n_playing == 0)
			nssm_tape_free(e->builder, &t);
		return 0;
	}
	bool first_plays = is_model(e);
	e->kept[e->n_kept++] = (struct kept){.tape = t, .n_clones = first_plays ? 1 : 0, .age = e->next_age++};
	e->mean_flows_sum += t->n_flows > 0 ? t->n_flows : 1;
	e->mean_ns_sum += t->duration_ns;
	count(&e->n.bank_bytes, t->n_bytes);
	stats_of_kept(e);
	if (!is_model(e))
		return 0;
	if (pipe->mode == NSSM_PLAY_COUNT) {
		struct nssm_rng rng;
		nssm_rng_init(&rng, pipe->seed, t->session, NSSM_RNG_CLONE);
		uint64_t from = t->start_ns + t->duration_ns;
		for (uint64_t c = 1; c < pipe->n_plays && !e->plan_over; c++) {
			double u = nssm_rng_unit(&rng);
			uint64_t late = pipe->phase == NSSM_PHASE_LOCKED ? 0 : (uint64_t)(u * (double)(t->duration_ns + 1));
			uint32_t idx;
			if (!engine_play_begin(e, t, (uint32_t)c, from + late, false, &idx)) {
				count(&e->n.clones_waiting, 1);
				continue;
			}
			e->kept[e->n_kept - 1].n_clones++;
		}
	} else if (!e->plan_ready) {
		return engine_plan(e, err);
	}
	return 0;
}

bool engine_evict(struct nssm_engine *e)
{
	if (!is_model(e) || e->n_kept == 0)
		return false;
	uint32_t best = UINT32_MAX;
	for (uint32_t i = 0; i < e->n_kept; i++)
		if (e->kept[i].tape->n_playing == 0 && (best == UINT32_MAX || e->kept[i].age < e->kept[best].age))
			best = i;
	if (best == UINT32_MAX)
		return false;
	struct nssm_tape *t = e->kept[best].tape;
	e->mean_flows_sum -= t->n_flows > 0 ? t->n_flows : 1;
	e->mean_ns_sum -= t->duration_ns;
	set(&e->n.bank_bytes, e->n.bank_bytes - t->n_bytes);
	nssm_tape_free(e->builder, &t);
	e->kept[best] = e->kept[--e->n_kept];
	count(&e->n.bank_evicted, 1);
	stats_of_kept(e);
	return true;
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

static int plan_count(struct nssm_engine *e, struct nssm_err *err)
{
	const struct nssm_pipeline_cfg *pipe = e->cfg.pipe;
	uint64_t n_plays = pipe->mode == NSSM_PLAY_COUNT ? pipe->n_plays : 1;
	if (n_plays > UINT32_MAX / (e->n_kept > 0 ? e->n_kept : 1))
		return nssm_err_set(err, NSSM_ERANGE, "%u sessions played %llu times each: more than 2^32 plays", e->n_kept,
			(unsigned long long)n_plays);
	e->n_start = e->n_kept * n_plays;
	e->start = malloc((e->n_start > 0 ? e->n_start : 1) * sizeof *e->start);
	if (e->start == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory to plan %llu plays", (unsigned long long)e->n_start);
	/* A period holds the gap to the next loop, so that a start can fall into it, too. */
	uint64_t period = e->loop_period_ns + loop_gap(e), at = 0;
	bool uniform = pipe->phase == NSSM_PHASE_UNIFORM && n_plays > 1, poisson = pipe->phase == NSSM_PHASE_POISSON && n_plays > 1;
	uint64_t i = 0;
	for (uint32_t k = 0; k < e->n_kept; k++) {
		struct nssm_rng rng;
		nssm_rng_init(&rng, pipe->seed, e->kept[k].tape->session, NSSM_RNG_CLONE);
		for (uint64_t c = 0; c < n_plays; c++) {
			uint64_t start = e->kept[k].tape->start_ns;
			if (uniform && period > 0)
				start = (start + (uint64_t)(nssm_rng_unit(&rng) * (double)period)) % period;
			e->start[i++] = (struct start){start, k, (uint32_t)c};
		}
	}
	if (poisson) {
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
	} else {
		qsort(e->start, e->n_start, sizeof *e->start, by_start);
	}
	uint64_t slots = total_slots(e);
	e->fixed_slots = e->slot != NULL && !poisson && e->sessions_total > 0 && e->sessions_total <= slots / n_plays;
	if (e->n_start > 0)
		e->plan_next_ns = e->start[0].at_ns;
	return 0;
}

/* Some of the plays that shall be alive start within the mean duration, so that they do not march in step. */
static int plan_concurrency(struct nssm_engine *e, struct nssm_err *err)
{
	uint64_t n = e->cfg.pipe->n_plays / e->cfg.n_engines + (e->cfg.idx < e->cfg.pipe->n_plays % e->cfg.n_engines);
	if (n > e->cfg.plays_max)
		return nssm_err_set(err, NSSM_ERANGE, "%llu sessions at a time: this run has room for %u", (unsigned long long)n,
			e->cfg.plays_max);
	if (e->slot != NULL && n > e->slot_cap)
		return nssm_err_set(err, NSSM_EARG,
			"--concurrency %llu: --clients and --client-ports have room for %llu sessions at a time: give larger pools",
			(unsigned long long)e->cfg.pipe->n_plays, (unsigned long long)nssm_cloner_slots(e->cfg.cloner));
	e->target_alive = n;
	double mean = e->n_kept > 0 ? (double)e->mean_ns_sum / e->n_kept : 0;
	e->start_every_ns = n > 0 && e->cfg.pipe->phase != NSSM_PHASE_LOCKED ? mean / (double)n : 0;
	return 0;
}

static double rate_gap_ns(struct nssm_engine *e)
{
	double flows = e->n_kept > 0 ? (double)e->mean_flows_sum / e->n_kept : 1;
	double mean = NS_PER_S * flows * e->cfg.n_engines / e->cfg.pipe->flows_per_s;
	return e->cfg.pipe->phase == NSSM_PHASE_LOCKED ? mean : exponential(&e->plan_rng, mean);
}

int engine_plan(struct nssm_engine *e, struct nssm_err *err)
{
	int rc = 0;
	e->plan_ready = true;
	if (!is_model(e)) {
		qsort(e->kept, e->n_kept, sizeof *e->kept, by_tape);
		if (e->n_kept == 0)
			e->plan_over = true;
	}
	e->plan_next_ns = e->pos_ns;
	if (!e->plan_over && e->cfg.pipe->mode == NSSM_PLAY_CONCURRENCY)
		rc = plan_concurrency(e, err);
	else if (!e->plan_over && e->cfg.pipe->mode != NSSM_PLAY_RATE)
		rc = plan_count(e, err);
	if (rc != 0 || e->plan_over)
		return rc;
	nssm_wheel_add(e->wheel, e->id_plan, e->plan_next_ns, 0);
	e->plan_in_wheel = true;
	return 0;
}

/* False: nothing was free. */
static bool begin_kept(struct nssm_engine *e, uint32_t kept_idx, uint32_t clone)
{
	struct kept *k = &e->kept[kept_idx];
	uint32_t idx;
	if (!engine_play_begin(e, k->tape, clone, e->plan_next_ns > e->pos_ns ? e->plan_next_ns : e->pos_ns, k->n_clones == 0, &idx)) {
		e->plan_waits = true;
		count(&e->n.clones_waiting, 1);
		return false;
	}
	k->n_clones++;
	return true;
}

static void next_planned(struct nssm_engine *e)
{
	const struct nssm_pipeline_cfg *pipe = e->cfg.pipe;
	const struct start *s = &e->start[e->next_start];
	uint64_t plays = pipe->mode == NSSM_PLAY_COUNT ? pipe->n_plays : 1;
	if (!begin_kept(e, s->kept_idx, (uint32_t)(s->clone + e->loop * plays)))
		return;
	if (++e->next_start == e->n_start) {
		e->next_start = 0;
		e->loop++;
		if (pipe->n_loops > 0 && e->loop == pipe->n_loops) {
			e->plan_over = true;
			return;
		}
	}
	uint64_t base = nssm_loop_start(e->loop, e->loop_period_ns, loop_gap(e));
	uint64_t at = base + e->start[e->next_start].at_ns;
	e->plan_next_ns = at < base ? NSSM_STREAM_MAX_NS : at;
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
	if (e->start != NULL) {
		next_planned(e);
	} else {
		uint32_t k = nssm_rng_below(&e->plan_rng, e->n_kept);
		bool rate = e->cfg.pipe->mode == NSSM_PLAY_RATE;
		if (!rate && e->n_alive >= e->target_alive) {
			/* The end of a play wakes it. */
			e->plan_waits = true;
			return 0;
		}
		if (begin_kept(e, k, e->kept[k].n_clones))
			e->plan_next_ns = add_ns(e->plan_next_ns > e->pos_ns ? e->plan_next_ns : e->pos_ns,
				rate ? rate_gap_ns(e) : e->n_begun_at_first < e->target_alive ? e->start_every_ns : 0);
		e->n_begun_at_first++;
	}
	if (!e->plan_over && !e->plan_waits) {
		nssm_wheel_add(e->wheel, e->id_plan, e->plan_next_ns, 0);
		e->plan_in_wheel = true;
	}
	return 0;
}
