#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/pages.h"
#include "replay/engine_priv.h"

/* --- slots: which addresses a play has ---
 * Without rewriting there is nothing to share. With it, free slots stand in a ring: the one that has been free for longest is taken,
 * as a stack does with ports in TIME_WAIT. A slot is taken with a play's first packet, so that in virtual time it does not hang on
 * how far ahead the source is. Where so many sessions are played so many times the slot is a pure function of session and clone, the
 * same for any number of engines, and live as in a file; the play of the next loop waits for the one before it if that is late. */

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

static uint64_t fixed_slot(const struct nssm_engine *e, const struct nssm_tape *t, uint32_t clone)
{
	uint64_t n_plays = engine_plays_a_loop(e);
	return t->session * n_plays + clone % n_plays;
}

bool engine_has_place(const struct nssm_engine *e, const struct nssm_tape *t, uint32_t clone)
{
	if (e->target_alive > 0 && e->n_alive >= e->target_alive)
		return false;
	if (e->slot == NULL)
		return true;
	if (!e->fixed_slots)
		return e->n_slot_free > 0;
	uint64_t slot = fixed_slot(e, t, clone);
	return (e->slot_busy[slot / 64] >> slot % 64 & 1) == 0;
}

static uint64_t slot_take(struct nssm_engine *e, const struct nssm_tape *t, uint32_t clone)
{
	if (e->slot == NULL)
		return 0;
	if (e->fixed_slots) {
		uint64_t slot = fixed_slot(e, t, clone);
		e->slot_busy[slot / 64] |= 1ull << slot % 64;
		return slot;
	}
	uint64_t slot = e->slot[e->slot_head];
	e->slot_head = e->slot_head + 1 == e->slot_cap ? 0 : e->slot_head + 1;
	e->n_slot_free--;
	return slot;
}

static void slot_put(struct nssm_engine *e, uint64_t slot)
{
	if (e->slot == NULL)
		return;
	if (e->fixed_slots) {
		e->slot_busy[slot / 64] &= ~(1ull << slot % 64);
		return;
	}
	uint64_t at = e->slot_head + e->n_slot_free++;
	e->slot[at < e->slot_cap ? at : at - e->slot_cap] = slot;
}

/* --- plays --- */

int engine_plays_open(struct nssm_engine *e, struct nssm_err *err)
{
	uint32_t n = e->cfg.plays_max;
	e->play_bytes = n * sizeof *e->play;
	e->play = nssm_pages_open(&e->play_bytes);
	e->play_rows = e->rows != NULL ? calloc(n, sizeof(struct nssm_row_seg *)) : NULL;
	e->spare_play = malloc(n * sizeof *e->spare_play);
	e->queue = malloc(n * sizeof *e->queue);
	if (e->play == NULL || e->spare_play == NULL || e->queue == NULL || (e->rows != NULL && e->play_rows == NULL))
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for %u plays", n);
	for (uint32_t i = 0; i < n; i++)
		e->spare_play[i] = n - 1 - i;
	e->n_spare = n;
	e->clones_max = is_model(e) ? n / 2 : n;
	e->id_plan = n;
	e->id_source = n + 1;
	return slots_open(e, err);
}

void engine_plays_close(struct nssm_engine *e)
{
	nssm_pages_close(e->play, e->play_bytes);
	free(e->play_rows);
	free(e->spare_play);
	free(e->queue);
	free(e->slot);
	free(e->slot_busy);
}

static void to_wheel(struct nssm_engine *e, uint32_t idx, uint64_t at_ns)
{
	struct play *p = &e->play[idx];
	p->state = PLAY_WHEEL;
	e->n_ready++;
	nssm_wheel_add(e->wheel, idx, at_ns, play_tie(p));
}

static void hold(struct nssm_engine *e, uint32_t idx, uint64_t at_ns)
{
	struct play *p = &e->play[idx];
	p->state = PLAY_HOLDS;
	nssm_wheel_add(e->wheel, idx, at_ns, play_tie(p));
}

static bool clock_runs(const struct nssm_engine *e)
{
	return !is_virtual(e) && atomic_load_explicit(&e->cfg.run->t0_ns, memory_order_relaxed) != 0;
}

bool engine_play_new(struct nssm_engine *e, struct nssm_tape *t, uint32_t clone, uint64_t at_ns, bool first, uint32_t *idx)
{
	if (e->n_spare == 0 || (!first && e->n_clones_open == e->clones_max))
		return false;
	uint32_t i = *idx = e->spare_play[--e->n_spare];
	struct play *p = &e->play[i];
	e->n_clones_open += !first;
	/* A model's session cannot start before now; a capture's keeps its place and is late. */
	uint64_t now = is_virtual(e) ? e->pos_ns : is_model(e) && clock_runs(e) ? engine_stream_now(e) : 0;
	*p = (struct play){.tape = t,
		.base_ns = at_ns < now ? now : at_ns,
		.id = {.key = nssm_clone_key(e->cfg.pipe->seed, t->session, clone)},
		.clone = clone,
		.credit = UINT32_MAX,
		.first = first,
		.state = PLAY_WAITS};
	t->n_playing++;
	if (first && begins_whole(e)) {
		hold(e, i, p->base_ns);
	} else if (t->first != NULL) {
		p->rec = t->first;
		to_wheel(e, i, play_at(p, p->rec));
	} else if (is_virtual(e) && is_model(e) && !t->finished) {
		hold(e, i, p->base_ns);
	}
	return true;
}

static void begin(struct nssm_engine *e, struct play *p)
{
	p->id.slot = slot_take(e, p->tape, p->clone);
	p->begun = 1;
	e->n_alive++;
	set(&e->n.clones_alive, e->n_alive);
	count(&e->n.clones_begun, p->clone > 0);
}

bool engine_play_begin(struct nssm_engine *e, uint32_t idx)
{
	struct play *p = &e->play[idx];
	if (engine_has_place(e, p->tape, p->clone)) {
		begin(e, p);
		return true;
	}
	uint32_t at = e->queue_head + e->n_queue++;
	e->queue[at < e->cfg.plays_max ? at : at - e->cfg.plays_max] = idx;
	nssm_wheel_pop(e->wheel);
	e->n_ready--;
	p->state = PLAY_QUEUED;
	count(&e->n.clones_waiting, 1);
	return false;
}

/* Those that have waited for longest have the places that became free; all their packets are that much later. */
static void leave_queue(struct nssm_engine *e)
{
	while (e->n_queue > 0) {
		uint32_t idx = e->queue[e->queue_head];
		struct play *p = &e->play[idx];
		if (!engine_has_place(e, p->tape, p->clone))
			return;
		e->queue_head = e->queue_head + 1 == e->cfg.plays_max ? 0 : e->queue_head + 1;
		e->n_queue--;
		set(&e->n.clones_waiting, e->n.clones_waiting - 1);
		begin(e, p);
		uint64_t at = play_at(p, p->rec), now = is_virtual(e) ? e->pos_ns : engine_stream_now(e);
		if (at < now) {
			p->base_ns += now - at;
			at = now;
		}
		to_wheel(e, idx, at);
	}
}

/* The record of at_ns may have come too late. A model's session goes on from now; a capture's times stay, and what is late goes out at
 * once until it has caught up: there the time without a packet to send is counted. Returns when the record plays. */
static uint64_t starved(struct nssm_engine *e, struct play *p, uint64_t at_ns)
{
	uint64_t now = engine_stream_now(e), from = is_model(e) || e->starved_to_ns < at_ns ? at_ns : e->starved_to_ns;
	if (at_ns >= now)
		return at_ns;
	/* A model's session starts when its first packet is there: before that nothing was missing. */
	if (p->last != NULL || !is_model(e)) {
		count(&e->n.starved, 1);
		count(&e->n.starved_ns, now - from);
		e->starved_to_ns = now;
	}
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
	if (clock_runs(e))
		at = starved(e, p, at);
	p->rec = rec;
	to_wheel(e, idx, at);
}

void engine_play_advance(struct nssm_engine *e, uint32_t idx, const struct nssm_rec *rec)
{
	struct play *p = &e->play[idx];
	p->last = rec;
	p->rec = nssm_rec_next(rec);
	if (p->rec != NULL) {
		nssm_wheel_add(e->wheel, idx, play_at(p, p->rec), play_tie(p));
		return;
	}
	e->n_ready--;
	if (p->tape->finished) {
		p->state = PLAY_ENDS;
		e->ended_one = true;
	} else if (is_virtual(e) && is_model(e)) {
		hold(e, idx, play_at(p, rec));
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
		const struct nssm_flow_row *r = nssm_rows_find(e->play_rows[idx], f->idx);
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
		/* The identifier of an echo stands for its ports in the tape; a Community ID has type and code there. */
		if (f->proto == (f->ip_version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
			row.tuple.port[0] = f->icmp_type;
			row.tuple.port[1] = f->icmp_code;
		}
		rc = nssm_truth_row(e->cfg.truth, &row, err);
	}
	if (lock)
		pthread_mutex_unlock(&e->cfg.run->lock);
	return rc;
}

static bool folds(const struct nssm_engine *e, const struct nssm_tape *t)
{
	const struct nssm_clone_cfg *c = &e->cfg.pipe->clone;
	for (int v = 0; v < 2; v++)
		if (t->n_clients[v] > c->endpoints_max || t->n_servers[v] > c->servers_max)
			return true;
	return t->max_sockets > c->sockets_max;
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
	if (p->begun) {
		slot_put(e, p->id.slot);
		e->n_alive--;
		set(&e->n.clones_alive, e->n_alive);
		count(&e->n.clones_done, p->clone > 0);
		count(&e->n.folded, e->slot != NULL && folds(e, t));
	}
	if (p->credit != UINT32_MAX)
		e->credit_owner[p->credit] = NO_PLAY;
	e->n_clones_open -= !p->first;
	p->state = PLAY_FREE;
	p->tape = NULL;
	e->spare_play[e->n_spare++] = idx;
	if (--t->n_playing == 0)
		engine_tape_unused(e, t);
	if (!e->closing) {
		leave_queue(e);
		engine_plan_retry(e);
	}
	return rc;
}

void engine_tape_unused(struct nssm_engine *e, struct nssm_tape *t)
{
	if (t->stays || !t->finished)
		return;
	e->n_leaving -= t->leaves;
	nssm_tape_free(e->builder, &t);
}
