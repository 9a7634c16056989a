#include "model/generator.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/measure.h"
#include "base/philox.h"
#include "model/codec.h"

#define GROUP         16 /* lanes a step: as many rows as keep the kernels busy, few enough for their caches */
#define BLOCK_TOKENS  4096
#define BLOCK_PACKETS 64
#define PROGRESS_NS   100000000u
#define ALIGN_BYTES   64

/* Counted, so that a run sees a stop that came after its start whatever other runs do. */
static atomic_uint stops;

void nssm_generator_stop(void)
{
	atomic_fetch_add(&stops, 1);
}

uint32_t nssm_generator_label(const struct nssm_generator_cfg *cfg, uint64_t idx)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, cfg->seed, idx, NSSM_RNG_LABEL);
	double total = 0, sum = 0;
	for (int i = 0; i < cfg->n_mix; i++)
		total += cfg->label_weight[i];
	double u = nssm_rng_unit(&rng) * total;
	int last = 0;
	for (int i = 0; i < cfg->n_mix; i++) {
		if (!(cfg->label_weight[i] > 0))
			continue;
		last = i;
		sum += cfg->label_weight[i];
		if (u < sum)
			break;
	}
	return cfg->label_idx[last];
}

uint64_t nssm_generator_start(const struct nssm_generator_cfg *cfg, uint64_t idx, uint64_t prev_ns)
{
	if (idx == 0 || !(cfg->sessions_per_s > 0))
		return 0;
	struct nssm_rng rng;
	nssm_rng_init(&rng, cfg->seed, idx, NSSM_RNG_ARRIVAL);
	double gap_ns = -log(nssm_rng_unit(&rng)) / cfg->sessions_per_s * 1e9;
	/* 2^62 ns are 146 years: beyond it times stand still instead of wrapping. */
	const uint64_t limit = 1ull << 62;
	if (!(gap_ns < (double)limit) || prev_ns >= limit)
		return prev_ns > limit ? prev_ns : limit;
	return prev_ns + (uint64_t)llround(gap_ns);
}

struct lane {
	bool busy;
	uint64_t session, start_ns;
	uint32_t label_idx, seq;
	uint64_t n_tokens, n_pkt; /* of the session so far, prompt included */
	size_t fed;               /* prompt tokens that the model has seen */
	uint16_t next;            /* what the model is fed next */
	uint32_t n_buf, n_buf_pkt;
	int n_recent;
	struct nssm_rng rng;
	float *state;
	uint16_t *buf;    /* [BLOCK_TOKENS] not handed out yet */
	uint16_t *recent; /* [2*window]; the last n_recent, moved down when full */
	void *mask;
};

struct run {
	const struct nssm_generator_cfg *cfg;
	const struct nssm_model_card *card;
	const struct nssm_mamba2 *model;
	int V, window;
	size_t mask_bytes;
	bool pkt_closes;
	uint64_t prompt_pkt;
	unsigned stops_before;
	atomic_int code; /* first failure; every worker ends when it sees it */
	atomic_uint_fast64_t n_tokens, progress_ns;

	pthread_mutex_t lock; /* all below */
	uint64_t next, end, prev_start_ns;
	uint64_t n_done;
	uint16_t *head; /* [1 + n_prompt] first block: label, prompt */
	struct nssm_err err;
};

struct worker {
	struct run *run;
	pthread_t thread;
	struct lane *lane;
	int n_lanes, group;
	float *logits, *step_scratch, *sample_scratch;
};

static bool stopped(const struct run *r)
{
	return atomic_load(&stops) != r->stops_before;
}

/* --- handing out (under the lock) ----------------------------------------------------------------------------- */

static void emit_locked(struct run *r, const struct nssm_token_block *b)
{
	if (atomic_load(&r->code) != 0)
		return;
	int rc = r->cfg->emit(r->cfg->emit_ctx, b);
	if (rc != 0)
		atomic_store(&r->code, rc);
	r->n_done += b->end != NSSM_END_NONE && b->end != NSSM_END_STOPPED;
}

static void hand_out(struct run *r, struct lane *l, enum nssm_end_reason end)
{
	const struct nssm_token_block b = {.session = l->session,
	        .label_idx = l->label_idx,
	        .start_ns = l->start_ns,
	        .seq = l->seq++,
	        .end = end,
	        .n_tokens = l->n_buf,
	        .token = l->buf};
	pthread_mutex_lock(&r->lock);
	emit_locked(r, &b);
	pthread_mutex_unlock(&r->lock);
	l->n_buf = l->n_buf_pkt = 0;
}

static void show_progress(struct run *r, bool last)
{
	if (r->cfg->progress == NULL)
		return;
	uint64_t now = nssm_now_ns();
	if (!last && now - atomic_load(&r->progress_ns) < PROGRESS_NS)
		return;
	/* Who finds the lock taken has something better to do than to wait for a drawing. */
	if (last)
		pthread_mutex_lock(&r->lock);
	else if (pthread_mutex_trylock(&r->lock) != 0)
		return;
	if (last || now - atomic_load(&r->progress_ns) >= PROGRESS_NS) {
		atomic_store(&r->progress_ns, now);
		r->cfg->progress(r->cfg->progress_ctx, atomic_load(&r->n_tokens), r->n_done);
	}
	pthread_mutex_unlock(&r->lock);
}

/* --- one lane ------------------------------------------------------------------------------------------------- */

static void remember(const struct run *r, struct lane *l, uint16_t token)
{
	if (r->mask_bytes > 0)
		nssm_codec_mask_next(&r->card->codec, &r->card->vocab, l->mask, token);
	if (r->window == 0)
		return;
	if (l->n_recent == 2 * r->window) {
		memcpy(l->recent, l->recent + r->window, (size_t)r->window * sizeof *l->recent);
		l->n_recent = r->window;
	}
	l->recent[l->n_recent++] = token;
}

/* Gives the lane the next session. Indices, starts and first blocks go out in one order because all three
 * happen under one lock. False: no session is left. */
static bool begin(struct run *r, struct lane *l)
{
	const struct nssm_generator_cfg *cfg = r->cfg;
	pthread_mutex_lock(&r->lock);
	if (r->next == r->end || atomic_load(&r->code) != 0) {
		pthread_mutex_unlock(&r->lock);
		return false;
	}
	uint64_t idx = r->next++;
	l->busy = true;
	l->session = idx;
	l->label_idx = nssm_generator_label(cfg, idx);
	l->start_ns = r->prev_start_ns = nssm_generator_start(cfg, idx, r->prev_start_ns);
	uint16_t label = r->card->vocab.label[l->label_idx].id;
	r->head[0] = label;
	const struct nssm_token_block b = {.session = idx,
	        .label_idx = l->label_idx,
	        .start_ns = l->start_ns,
	        .n_tokens = 1 + (uint32_t)cfg->n_prompt,
	        .token = r->head};
	emit_locked(r, &b);
	pthread_mutex_unlock(&r->lock);

	l->seq = 1;
	l->n_tokens = 1 + cfg->n_prompt;
	l->n_pkt = r->prompt_pkt;
	l->fed = 0;
	l->next = label;
	l->n_buf = l->n_buf_pkt = 0;
	l->n_recent = 0;
	nssm_rng_init(&l->rng, cfg->seed, idx, NSSM_RNG_SAMPLE);
	memset(l->state, 0, nssm_mamba2_state_floats(&r->card->cfg) * sizeof *l->state);
	if (r->mask_bytes > 0)
		memset(l->mask, 0, r->mask_bytes);
	remember(r, l, label);
	for (size_t i = 0; i < cfg->n_prompt; i++)
		remember(r, l, cfg->prompt[i]);
	return true;
}

/* Takes a sampled token into the session; says whether it was the last. */
static enum nssm_end_reason take(const struct run *r, struct lane *l, uint16_t token)
{
	const struct nssm_generator_cfg *cfg = r->cfg;
	bool is_pkt = token == r->card->vocab.pkt;
	if (is_pkt && !r->pkt_closes && cfg->max_packets > 0 && l->n_pkt == cfg->max_packets)
		return NSSM_END_PACKETS; /* this token would open one packet too many */
	l->buf[l->n_buf++] = token;
	l->n_tokens++;
	l->n_pkt += is_pkt;
	l->n_buf_pkt += is_pkt;
	l->next = token;
	remember(r, l, token);
	if (token == r->card->vocab.eot)
		return NSSM_END_EOT;
	if (r->pkt_closes && cfg->max_packets > 0 && l->n_pkt >= cfg->max_packets)
		return NSSM_END_PACKETS;
	if (cfg->max_tokens > 0 && l->n_tokens >= cfg->max_tokens)
		return NSSM_END_TOKENS;
	return NSSM_END_NONE;
}

static void advance(struct worker *w, struct lane *l, float *logits)
{
	struct run *r = w->run;
	if (l->fed < r->cfg->n_prompt) {
		l->next = r->cfg->prompt[l->fed++];
		return;
	}
	/* A NaN in the residual stream reaches every logit, so one tells. */
	if (isnan(logits[0])) {
		pthread_mutex_lock(&r->lock);
		if (atomic_load(&r->code) == 0)
			atomic_store(&r->code,
			        nssm_err_set(&r->err, NSSM_ENUM,
			                "the model's logits are NaN in session %llu after token %llu",
			                (unsigned long long)l->session, (unsigned long long)l->n_tokens));
		pthread_mutex_unlock(&r->lock);
		return;
	}
	const uint64_t *legal = nssm_codec_mask(&r->card->codec, &r->card->vocab, l->mask);
	uint16_t token = nssm_sample(
	        logits, r->V, &r->cfg->sampler, legal, l->recent, l->n_recent, &l->rng, w->sample_scratch);
	enum nssm_end_reason end = take(r, l, token);
	if (end != NSSM_END_NONE || l->n_buf == BLOCK_TOKENS || l->n_buf_pkt == BLOCK_PACKETS)
		hand_out(r, l, end);
	l->busy = end == NSSM_END_NONE;
}

/* --- workers -------------------------------------------------------------------------------------------------- */

static bool step_group(struct worker *w, struct lane *lane, int n_lanes)
{
	struct run *r = w->run;
	struct lane *active[GROUP];
	float *state[GROUP];
	uint16_t token[GROUP];
	int n = 0;
	for (int i = 0; i < n_lanes; i++) {
		if (!lane[i].busy && !begin(r, &lane[i]))
			continue;
		active[n] = &lane[i];
		state[n] = lane[i].state;
		token[n++] = lane[i].next;
	}
	if (n == 0)
		return false;
	nssm_mamba2_step(w->logits, state, token, n, r->model, w->step_scratch);
	for (int i = 0; i < n; i++)
		advance(w, active[i], w->logits + (size_t)i * r->card->cfg.Vpad);
	atomic_fetch_add(&r->n_tokens, (uint_fast64_t)n);
	show_progress(r, false);
	return true;
}

/* Lanes never wait for those of another worker. */
static void *work(void *arg)
{
	struct worker *w = arg;
	struct run *r = w->run;
	bool any = true;
	while (any) {
		any = false;
		for (int first = 0; first < w->n_lanes; first += w->group) {
			if (stopped(r) || atomic_load(&r->code) != 0) {
				any = false;
				break;
			}
			int n = w->n_lanes - first;
			any |= step_group(w, w->lane + first, n < w->group ? n : w->group);
		}
	}
	for (int i = 0; i < w->n_lanes; i++)
		if (w->lane[i].busy)
			hand_out(r, &w->lane[i], NSSM_END_STOPPED);
	return NULL;
}

static size_t round_up(size_t bytes)
{
	return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* All memory of a run is one block, cut in two passes: the first, with base NULL, only measures. */
struct cut {
	uint8_t *base;
	size_t used;
};

static void *cut(struct cut *c, size_t n, size_t each)
{
	size_t bytes = round_up(n * each);
	void *p = c->base == NULL ? NULL : c->base + c->used;
	c->used += bytes;
	return p;
}

static size_t lay_out(uint8_t *base, struct run *r, struct worker **workers, int n_threads, int n_lanes)
{
	const struct nssm_mamba2_cfg *m = &r->card->cfg;
	struct cut c = {.base = base};
	size_t state_floats = nssm_mamba2_state_floats(m);
	struct worker *ws = cut(&c, (size_t)n_threads, sizeof *ws);
	struct lane *lanes = cut(&c, (size_t)n_lanes, sizeof *lanes);
	uint16_t *head = cut(&c, 1 + r->cfg->n_prompt, sizeof *head);
	if (base != NULL)
		r->head = head;
	for (int i = 0; i < n_lanes; i++) {
		struct lane l = {.state = cut(&c, state_floats, sizeof *l.state),
		        .buf = cut(&c, BLOCK_TOKENS, sizeof *l.buf),
		        .recent = cut(&c, 2 * (size_t)r->window, sizeof *l.recent),
		        .mask = cut(&c, r->mask_bytes, 1)};
		if (base != NULL)
			lanes[i] = l;
	}
	for (int t = 0; t < n_threads; t++) {
		int first = (int)((long long)n_lanes * t / n_threads),
		    after = (int)((long long)n_lanes * (t + 1) / n_threads);
		int n = after - first, n_groups = (n + GROUP - 1) / GROUP;
		struct worker w = {.run = r, .n_lanes = n, .group = (n + n_groups - 1) / n_groups};
		w.logits = cut(&c, (size_t)w.group * (size_t)m->Vpad, sizeof *w.logits);
		w.step_scratch = cut(&c, nssm_mamba2_step_floats(m, w.group), sizeof *w.step_scratch);
		w.sample_scratch = cut(&c, (size_t)r->V, sizeof *w.sample_scratch);
		if (base != NULL) {
			w.lane = lanes + first;
			ws[t] = w;
		}
	}
	*workers = ws;
	return c.used;
}

static int check(struct run *r, struct nssm_err *err)
{
	const struct nssm_generator_cfg *cfg = r->cfg;
	const struct nssm_vocab *v = &r->card->vocab;
	assert(cfg->n_lanes >= 1 && cfg->n_threads >= 1 && cfg->n_mix >= 1 && cfg->emit != NULL);
	if (v->n_tokens > (uint32_t)r->card->cfg.V)
		return nssm_err_set(err, NSSM_EFORMAT, "the tokenizer has %u tokens, the model only %d",
		        v->n_tokens, r->card->cfg.V);
	if (cfg->n_sessions > UINT64_MAX - cfg->first_session)
		return nssm_err_set(err, NSSM_EARG, "sessions %llu from index %llu on: too many",
		        (unsigned long long)cfg->n_sessions, (unsigned long long)cfg->first_session);
	for (int i = 0; i < cfg->n_mix; i++)
		assert(cfg->label_idx[i] < v->n_labels);
	for (size_t i = 0; i < cfg->n_prompt; i++) {
		assert(cfg->prompt[i] < v->n_tokens);
		r->prompt_pkt += cfg->prompt[i] == v->pkt;
	}
	if (cfg->n_prompt > UINT32_MAX / 2 || (cfg->max_tokens > 0 && cfg->n_prompt + 1 >= cfg->max_tokens))
		return nssm_err_set(err, NSSM_EARG,
		        "label and prompt are %zu tokens; a session may have %llu", cfg->n_prompt + 1,
		        (unsigned long long)cfg->max_tokens);
	bool in_packet = r->pkt_closes && cfg->n_prompt > 0 && cfg->prompt[cfg->n_prompt - 1] != v->pkt;
	uint64_t has = r->prompt_pkt + in_packet;
	if (cfg->max_packets > 0 && (has > cfg->max_packets || (has == cfg->max_packets && r->pkt_closes && !in_packet)))
		return nssm_err_set(err, NSSM_EARG,
		        "the prompt has %llu packets, a session may have %llu: nothing is left to generate",
		        (unsigned long long)has, (unsigned long long)cfg->max_packets);
	return 0;
}

int nssm_generator_run(const struct nssm_generator_cfg *cfg, const struct nssm_model_card *card,
        const struct nssm_mamba2 *model, struct nssm_err *err)
{
	struct run r = {.cfg = cfg,
	        .card = card,
	        .model = model,
	        .V = (int)card->vocab.n_tokens,
	        .window = cfg->sampler.repetition_penalty != 1 ? cfg->sampler.repetition_window : 0,
	        .mask_bytes = nssm_codec_mask_bytes(&card->codec),
	        .pkt_closes = nssm_codec_pkt_closes(&card->codec),
	        .stops_before = atomic_load(&stops),
	        .next = cfg->first_session,
	        .end = cfg->first_session + cfg->n_sessions};
	int rc = check(&r, err);
	if (rc != 0 || cfg->n_sessions == 0)
		return rc;
	for (uint64_t i = 0; i < cfg->first_session; i++)
		r.prev_start_ns = nssm_generator_start(cfg, i, r.prev_start_ns);

	int n_lanes = cfg->n_sessions < (uint64_t)cfg->n_lanes ? (int)cfg->n_sessions : cfg->n_lanes;
	int n_threads = cfg->n_threads < n_lanes ? cfg->n_threads : n_lanes;
	struct worker *w;
	size_t bytes = lay_out(NULL, &r, &w, n_threads, n_lanes);
	uint8_t *block = aligned_alloc(ALIGN_BYTES, bytes);
	if (block == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%d lanes need %zu bytes: no memory", n_lanes, bytes);
	lay_out(block, &r, &w, n_threads, n_lanes);
	if (cfg->n_prompt > 0)
		memcpy(r.head + 1, cfg->prompt, cfg->n_prompt * sizeof *cfg->prompt);
	pthread_mutex_init(&r.lock, NULL);
	atomic_store(&r.progress_ns, nssm_now_ns());

	int started = 1;
	while (started < n_threads && pthread_create(&w[started].thread, NULL, work, &w[started]) == 0)
		started++;
	if (started < n_threads) {
		pthread_mutex_lock(&r.lock);
		atomic_store(&r.code, nssm_err_set(&r.err, NSSM_ENOMEM, "cannot start thread %d of %d",
		                              started + 1, n_threads));
		pthread_mutex_unlock(&r.lock);
	}
	work(&w[0]);
	for (int t = 1; t < started; t++)
		pthread_join(w[t].thread, NULL);

	show_progress(&r, true);
	rc = atomic_load(&r.code);
	if (rc != 0 && r.err.code != 0 && err != NULL)
		*err = r.err;
	if (rc == 0 && r.n_done < cfg->n_sessions)
		rc = nssm_err_set(err, NSSM_EINTR, "stopped after %llu of %llu sessions",
		        (unsigned long long)r.n_done, (unsigned long long)cfg->n_sessions);
	pthread_mutex_destroy(&r.lock);
	free(block);
	return rc;
}
