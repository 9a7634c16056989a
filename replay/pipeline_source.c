#include <assert.h>
#include <string.h>
#include <time.h>

#include "base/measure.h"
#include "replay/pipeline_priv.h"

#define FLUSH_FRAMES 256u
#define FLUSH_BYTES  (64u << 10)
#define FLUSH_NS     5000000u
#define NAP_NS       200000
#define LEAD_TIGHT   64u

static void count(uint64_t *c, uint64_t n)
{
	__atomic_store_n(c, *c + n, __ATOMIC_RELAXED);
}

static void set(uint64_t *c, uint64_t v)
{
	__atomic_store_n(c, v, __ATOMIC_RELAXED);
}

static bool stopped(const struct nssm_pipeline *p)
{
	return atomic_load_explicit(&p->run.stop, memory_order_relaxed) != 0 ||
	       atomic_load_explicit(&p->engines_over, memory_order_relaxed);
}

static void nap(void)
{
	const struct timespec t = {.tv_nsec = NAP_NS};
	nanosleep(&t, NULL);
}

/* An empty block of an engine; waits while there is none. NULL: the run is over for the engines, nobody would take it. */
static struct nssm_block *get_block(struct nssm_pipeline *p, uint32_t engine)
{
	struct nssm_block *b = nssm_ring_get(p->out[engine].back);
	if (b != NULL)
		return b;
	count(&p->src.waits, 1);
	uint64_t t0 = nssm_now_ns();
	while ((b = nssm_ring_get(p->out[engine].back)) == NULL && !atomic_load(&p->engines_over) &&
		atomic_load_explicit(&p->run.stop, memory_order_relaxed) < 2)
		nap();
	count(&p->src.waits_ns, nssm_now_ns() - t0);
	return b;
}

static void put_block(struct nssm_pipeline *p, uint32_t engine, struct nssm_block *b)
{
	bool put = nssm_ring_put(p->out[engine].in, b);
	assert(put); /* it holds all blocks that there are */
	(void)put;
}

/* --- a model --- */

/* Slots of a session's engine, from the one where it is looked for first. There are twice as many as sessions that may be open, so
 * that few steps find it. */
static uint32_t credit_at(const struct nssm_pipeline *p, uint64_t session, uint32_t k)
{
	uint32_t first = (uint32_t)(session % p->n_engines) * p->n_credits;
	return first + (uint32_t)((session / p->n_engines + k) % p->n_credits);
}

static uint32_t credit_of(const struct nssm_pipeline *p, uint64_t session)
{
	for (uint32_t k = 0; k < p->n_credits; k++) {
		uint32_t i = credit_at(p, session, k);
		if (atomic_load_explicit(&p->credit[i], memory_order_acquire) == session + 1)
			return i;
	}
	return UINT32_MAX;
}

static uint32_t credit_take(struct nssm_pipeline *p, uint64_t session)
{
	for (uint32_t k = 0; k < p->n_credits; k++) {
		uint32_t i = credit_at(p, session, k);
		if (atomic_load(&p->credit[i]) != 0)
			continue;
		atomic_store_explicit(&p->credit[i], session + 1, memory_order_release);
		return i;
	}
	return UINT32_MAX;
}

bool pipeline_ready(void *ctx, uint64_t session, uint64_t packets_made)
{
	const struct nssm_pipeline *p = ctx;
	uint32_t i = credit_of(p, session);
	if (i == UINT32_MAX)
		return true;
	uint64_t word = atomic_load_explicit(&p->run.credit[i], memory_order_acquire), played = 0;
	/* Until its engine has taken the first block, the word is another session's. */
	if (word >> 32 == (session & UINT32_MAX))
		played = word & UINT32_MAX;
	uint64_t lead = p->cfg.lead_packets > 0 ? p->cfg.lead_packets : LEAD_PACKETS;
	if (atomic_load_explicit(&p->run.tight[session % p->n_engines], memory_order_relaxed) && lead > LEAD_TIGHT)
		lead = LEAD_TIGHT;
	return packets_made < played + lead;
}

static int emit(void *ctx, const struct nssm_token_block *tb)
{
	struct nssm_pipeline *p = ctx;
	uint32_t engine = (uint32_t)(tb->session % p->n_engines), done = 0;
	uint32_t credit = tb->seq == 0 ? credit_take(p, tb->session) : UINT32_MAX;
	const struct nssm_generator_cfg *gen = &p->gen;
	if (tb->seq == 0)
		count(&p->src.sessions_begun, 1);
	uint64_t next = UINT64_MAX;
	if (tb->seq == 0 && (gen->n_sessions == UINT64_MAX || tb->session + 1 - gen->first_session < gen->n_sessions))
		next = nssm_generator_start(gen, tb->session + 1, tb->start_ns);
	do {
		struct nssm_block *b = get_block(p, engine);
		if (b == NULL)
			return NSSM_EINTR;
		uint32_t n = tb->n_tokens - done, most = NSSM_BLOCK_BYTES / sizeof *tb->token;
		n = n < most ? n : most;
		bool last = done + n == tb->n_tokens;
		b->kind = NSSM_BLOCK_TOKENS;
		b->n = n;
		b->session = tb->session;
		b->start_ns = tb->start_ns;
		b->next_start_ns = next;
		b->label_idx = tb->label_idx;
		b->seq = tb->seq == 0 && done == 0 ? 0 : 1;
		b->credit = credit;
		b->end = last ? (uint8_t)tb->end : NSSM_END_NONE;
		memcpy(b->data, tb->token + done, n * sizeof *tb->token);
		done += n;
		put_block(p, engine, b);
	} while (done < tb->n_tokens);
	if (tb->end != NSSM_END_NONE) {
		count(&p->src.sessions_done, 1);
		uint32_t i = credit_of(p, tb->session);
		if (i != UINT32_MAX)
			atomic_store_explicit(&p->credit[i], 0, memory_order_release);
	}
	return 0;
}

static void progress(void *ctx, uint64_t n_tokens, uint64_t sessions_done)
{
	struct nssm_pipeline *p = ctx;
	set(&p->src.tokens, n_tokens);
}

static int run_model(struct nssm_pipeline *p, struct nssm_err *err)
{
	p->gen = *p->cfg.gen;
	p->gen.emit = emit;
	p->gen.emit_ctx = p;
	p->gen.progress = progress;
	p->gen.progress_ctx = p;
	p->gen.stop = &p->generator_stop;
	p->gen.n_parkings = &p->src.parked;
	if (p->n_credits > 0) {
		p->gen.ready = pipeline_ready;
		p->gen.ready_ctx = p;
	}
	return nssm_generator_run(&p->gen, p->cfg.card, p->cfg.model, err);
}

/* --- captures --- */

static struct nssm_block *filling(struct nssm_pipeline *p, uint32_t engine)
{
	struct lane_out *o = &p->out[engine];
	if (o->filling == NULL && (o->filling = get_block(p, engine)) != NULL) {
		struct nssm_block *b = o->filling;
		b->kind = NSSM_BLOCK_FRAMES;
		b->n = b->used = 0;
		b->sessions_total = 0;
	}
	return o->filling;
}

/* Every engine is told how far the stream is. */
static bool flush(struct nssm_pipeline *p, uint64_t stream_ns, uint64_t done_below, bool all)
{
	for (uint32_t e = 0; e < p->n_engines; e++) {
		if (!all && p->out[e].filling == NULL)
			continue;
		struct nssm_block *b = filling(p, e);
		if (b == NULL)
			return false;
		b->stream_ns = stream_ns;
		b->done_below = done_below;
		put_block(p, e, b);
		p->out[e].filling = NULL;
	}
	return true;
}

static bool add_frame(struct nssm_pipeline *p, uint32_t engine, const struct nssm_read_pkt *k, uint64_t shift_ns)
{
	struct nssm_block *b = filling(p, engine);
	if (b == NULL)
		return false;
	struct nssm_block_frame f = {.session = k->session,
		.start_ns = k->start_ns + shift_ns,
		.t_ns = k->t_ns + shift_ns,
		.label_idx = k->label_idx,
		.len = k->len,
		.wirelen = k->wirelen};
	memcpy(b->data + b->used, &f, sizeof f);
	uint8_t *frame = b->data + b->used + sizeof f;
	memcpy(frame, k->data, k->len);
	if (p->cfg.fix_checksums && nssm_pkt_fix_csums(frame, k->len) != 0)
		count(&p->src.repaired, 1);
	b->used += (uint32_t)sizeof f + ((k->len + 7) & ~7u);
	b->n++;
	return true;
}

/* The reader's own counters are its thread's. */
static void publish(struct nssm_pipeline *p)
{
	const struct nssm_source_counters *r = nssm_reader_counters(p->reader);
	set(&p->src.packets, r->packets);
	set(&p->src.bytes, r->bytes);
	set(&p->src.filtered, r->filtered);
	set(&p->src.too_long, r->too_long);
	set(&p->src.truncated, r->truncated);
	set(&p->src.sessions_begun, r->sessions_begun);
	set(&p->src.sessions_done, r->sessions_done);
	set(&p->time_back, nssm_reader_time_back(p->reader));
}

static bool hand_out(struct nssm_pipeline *p)
{
	publish(p);
	return flush(p, p->read_ns, nssm_reader_done_below(p->reader), p->n_engines > 1);
}

int pipeline_source_idle(void *ctx)
{
	struct nssm_pipeline *p = ctx;
	publish(p);
	return stopped(p) || !flush(p, p->read_ns, nssm_reader_done_below(p->reader), false);
}

/* One pass over all captures. 0: done, 1: stopped. */
static int pass(struct nssm_pipeline *p, uint64_t *n_sessions, struct nssm_err *err)
{
	struct nssm_read_pkt k;
	uint64_t flushed = nssm_now_ns(), now = flushed;
	uint32_t n = 0;
	int rc;
	while ((rc = nssm_reader_next(p->reader, &k, err)) == 1) {
		p->n_unplaced = 1;
		if (stopped(p))
			return 1;
		uint32_t engine = (uint32_t)((p->cfg.reader->n_shards > 1 ? k.shard : k.session) % p->n_engines);
		struct nssm_block *b = p->out[engine].filling;
		if (b != NULL && b->used + sizeof(struct nssm_block_frame) + k.len + 8 > NSSM_BLOCK_BYTES && !hand_out(p))
			return 1;
		if (!add_frame(p, engine, &k, p->shift_ns))
			return 1;
		p->n_unplaced = 0;
		p->read_ns = k.t_ns + p->shift_ns;
		*n_sessions = k.session + 1 > *n_sessions ? k.session + 1 : *n_sessions;
		b = p->out[engine].filling;
		if ((++n & 15) == 0)
			now = nssm_now_ns();
		if (b->n < FLUSH_FRAMES && b->used < FLUSH_BYTES && now - flushed < FLUSH_NS)
			continue;
		if (!hand_out(p))
			return 1;
		flushed = now;
	}
	return rc;
}

/* The last word: nothing comes any more, and what it came to. */
static void end_captures(struct nssm_pipeline *p, uint64_t n_sessions, uint64_t duration, uint64_t packets)
{
	publish(p);
	for (uint32_t e = 0; e < p->n_engines; e++) {
		struct nssm_block *b = filling(p, e);
		if (b == NULL)
			return;
		b->stream_ns = UINT64_MAX;
		b->done_below = n_sessions;
		b->sessions_total = n_sessions;
		b->loop_period_ns = duration;
		b->loop_packets = packets;
		put_block(p, e, b);
		p->out[e].filling = NULL;
	}
}

static int run_captures(struct nssm_pipeline *p, struct nssm_err *err)
{
	const struct nssm_pipeline_cfg *c = &p->cfg;
	uint64_t n_loops = p->keep ? 1 : c->n_loops, n_sessions = 0, duration = 0, packets = 0;
	int rc = 0;
	for (uint64_t loop = 0; rc == 0 && (n_loops == 0 || loop < n_loops); loop++) {
		if (loop > 0 && (rc = nssm_reader_rewind(p->reader, err)) != 0) {
			rc = rc > 0 ? 0 : rc; /* the limit of packets is reached */
			break;
		}
		rc = pass(p, &n_sessions, err);
		duration = nssm_reader_duration(p->reader);
		packets = nssm_reader_packets(p->reader);
		uint64_t gap = c->loop_gap_ns >= 0 ? (uint64_t)c->loop_gap_ns : packets > 1 ? duration / (packets - 1) : 0;
		p->shift_ns = nssm_loop_start(loop + 1, duration, gap);
		if (p->shift_ns > NSSM_STREAM_MAX_NS)
			break; /* a file's virtual time ends; 146 years of packets are enough */
	}
	if (rc > 0 || rc == NSSM_EINTR) {
		publish(p);
		return nssm_err_set(err, NSSM_EINTR, "stopped after %llu packets were read",
			(unsigned long long)nssm_reader_counters(p->reader)->packets);
	}
	if (rc < 0)
		atomic_store_explicit(&p->run.source_failed, true, memory_order_relaxed);
	end_captures(p, n_sessions, duration, packets);
	return rc;
}

void *pipeline_source(void *ctx)
{
	struct nssm_pipeline *p = ctx;
	sched_setaffinity(0, sizeof p->cpus_rest, &p->cpus_rest);
	int rc = p->cfg.card != NULL ? run_model(p, &p->source_err) : run_captures(p, &p->source_err);
	p->source_code = rc;
	/* Sessions of a model that broke have no end; what is kept of others is not played for ever without it. */
	if (p->cfg.card != NULL && rc != 0 && rc != NSSM_EINTR)
		pipeline_raise_stop(p, 2);
	__atomic_store_n(&p->src.done, true, __ATOMIC_RELAXED);
	atomic_store_explicit(&p->run.source_done, true, memory_order_release);
	return NULL;
}
