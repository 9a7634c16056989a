#include "model/generator.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/measure.h"
#include "base/philox.h"
#include "model/codec.h"

#define GROUP         16 /* lanes a step: as many rows as keep the kernels busy, few enough for their caches */
#define STRETCH       64 /* steps of one group before the next has its turn */
#define BLOCK_TOKENS  4096
#define BLOCK_PACKETS 64
#define PROGRESS_NS   100000000u
#define ASK_NS        1000000u /* between two looks at the parked lanes */
#define ALIGN_BYTES   64
#define HUGE_BYTES    ((size_t)2 << 20)

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
	bool waits; /* may not go on */
	uint64_t session, start_ns;
	uint32_t label_idx, seq;
	uint64_t n_tokens, n_pkt; /* of the session so far, prompt included */
	size_t fed;               /* tokens of the head that the model has seen or is fed next */
	uint16_t next, context;   /* what the model is fed next */
	unsigned longest_gap;     /* of its label's captures, as a step */
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
	uint32_t block_packets;
	uint64_t prompt_pkt;
	unsigned stops_before;
	atomic_int code; /* first failure; every worker ends when it sees it */
	atomic_uint_fast64_t n_tokens, progress_ns;

	pthread_mutex_t lock; /* all below */
	uint64_t next, end, prev_start_ns;
	uint64_t n_done;
	uint16_t *head; /* [n_head] first block: label, conditions, prompt; the label is each session's */
	size_t n_head;
	struct nssm_err err;
};

struct worker {
	struct run *run;
	pthread_t thread;
	/* Each of its lanes is in one of these. At most n_lanes run; parked in the order in which they were parked. */
	struct lane **running, **parked, **idle;
	int n_lanes, n_running, n_parked, n_idle;
	uint64_t asked_ns; /* when the parked ones were last asked */
	float *logits, *step_scratch, *sample_scratch;
};

static bool stopped(const struct run *r)
{
	return atomic_load(&stops) != r->stops_before ||
	       (r->cfg->stop != NULL && __atomic_load_n(r->cfg->stop, __ATOMIC_RELAXED) != 0);
}

static bool over(const struct run *r)
{
	return stopped(r) || atomic_load(&r->code) != 0;
}

static bool ready(const struct run *r, const struct lane *l)
{
	return r->cfg->ready == NULL || r->cfg->ready(r->cfg->ready_ctx, l->session, l->n_pkt);
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

/* Of each token that the model is fed next. */
static void remember(const struct run *r, struct lane *l, uint16_t token)
{
	if (r->mask_bytes > 0)
		nssm_codec_mask_next(&r->card->codec, &r->card->vocab, l->mask, token);
	if (r->card->cfg.n_context > 0)
		l->context = (uint16_t)nssm_codec_context(&r->card->codec, l->mask);
	if (r->window == 0)
		return;
	if (l->n_recent == 2 * r->window) {
		memcpy(l->recent, l->recent + r->window, (size_t)r->window * sizeof *l->recent);
		l->n_recent = r->window;
	}
	l->recent[l->n_recent++] = token;
}

/* The longest step between two packets that training saw under a label; 255: none is known. An untrained choice among what follows the
 * longest step of all would be a silence of hours. */
static unsigned longest_gap(const struct nssm_model_card *card, uint32_t label_idx)
{
	const struct nssm_iat_hist *h = card->iat != NULL ? &card->iat[label_idx] : NULL;
	if (h == NULL || h->n == 0)
		return NSSM_IAT_STEPS - 1;
	unsigned step = NSSM_IAT_STEPS - 1;
	while (step > 0 && h->count[step] == 0)
		step--;
	return step;
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
	l->longest_gap = longest_gap(r->card, l->label_idx);
	l->start_ns = r->prev_start_ns = nssm_generator_start(cfg, idx, r->prev_start_ns);
	uint16_t label = r->card->vocab.label[l->label_idx].id;
	r->head[0] = label;
	const struct nssm_token_block b = {.session = idx,
	        .label_idx = l->label_idx,
	        .start_ns = l->start_ns,
	        .n_tokens = (uint32_t)r->n_head,
	        .token = r->head};
	emit_locked(r, &b);
	pthread_mutex_unlock(&r->lock);

	l->seq = 1;
	l->n_tokens = r->n_head;
	l->n_pkt = r->prompt_pkt;
	l->fed = 1;
	l->next = label;
	l->n_buf = l->n_buf_pkt = 0;
	l->n_recent = 0;
	nssm_rng_init(&l->rng, cfg->seed, idx, NSSM_RNG_SAMPLE);
	memset(l->state, 0, nssm_mamba2_state_floats(&r->card->cfg) * sizeof *l->state);
	if (cfg->conditions != NULL)
		nssm_mamba2_tell(l->state, &r->card->cfg, cfg->conditions);
	if (r->mask_bytes > 0)
		memset(l->mask, 0, r->mask_bytes);
	remember(r, l, label);
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
	if (l->fed < r->n_head) {
		l->next = r->head[l->fed++];
		remember(r, l, l->next);
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
	uint64_t legal[NSSM_MASK_WORDS];
	bool some = nssm_codec_mask(legal, &r->card->codec, &r->card->vocab, r->cfg->mask, l->mask);
	if (l->n_pkt < r->cfg->min_packets) {
		if (!some)
			memset(legal, 0xff, sizeof legal);
		legal[r->card->vocab.eot / 64] &= ~(1ull << r->card->vocab.eot % 64);
		some = true;
	}
	if (some && r->cfg->mask == NSSM_MASK_CLEAN)
		nssm_codec_mask_gap(legal, &r->card->codec, &r->card->vocab, l->mask, l->longest_gap);
	uint16_t token = nssm_sample(logits, r->V, &r->cfg->sampler, some ? legal : NULL, l->recent, l->n_recent, &l->rng,
	        w->sample_scratch);
	enum nssm_end_reason end = take(r, l, token);
	if (end != NSSM_END_NONE || l->n_buf == BLOCK_TOKENS || l->n_buf_pkt == r->block_packets) {
		hand_out(r, l, end);
		l->waits = end == NSSM_END_NONE && !ready(r, l);
	}
	l->busy = end == NSSM_END_NONE;
}

/* --- workers -------------------------------------------------------------------------------------------------- */

static void step_group(struct worker *w, struct lane *const *lane, int n)
{
	struct run *r = w->run;
	float *state[GROUP];
	uint16_t token[GROUP], context[GROUP];
	for (int i = 0; i < n; i++) {
		state[i] = lane[i]->state;
		token[i] = lane[i]->next;
		context[i] = lane[i]->context;
	}
	nssm_mamba2_step(w->logits, state, token, context, n, r->model, w->step_scratch);
	for (int i = 0; i < n; i++)
		advance(w, lane[i], w->logits + (size_t)i * r->card->cfg.Vpad);
	atomic_fetch_add(&r->n_tokens, (uint_fast64_t)n);
	show_progress(r, false);
}

static void park(struct worker *w, struct lane *l)
{
	l->waits = false;
	w->parked[w->n_parked++] = l;
	if (w->run->cfg->n_parkings != NULL)
		__atomic_fetch_add(w->run->cfg->n_parkings, 1, __ATOMIC_RELAXED);
}

/* Parked lanes that may go on take free places, who waits longest first. */
static void unpark(struct worker *w)
{
	uint64_t now = nssm_now_ns();
	if (now - w->asked_ns < ASK_NS)
		return;
	w->asked_ns = now;
	int n = 0;
	for (int i = 0; i < w->n_parked; i++) {
		struct lane *l = w->parked[i];
		if (w->n_running < w->n_lanes && ready(w->run, l))
			w->running[w->n_running++] = l;
		else
			w->parked[n++] = l;
	}
	w->n_parked = n;
}

/* Fills the free places. False: this worker has no session any more. */
static bool fill(struct worker *w)
{
	if (w->n_parked > 0 && w->n_running < w->n_lanes)
		unpark(w);
	while (w->n_running < w->n_lanes && w->n_idle > 0) {
		struct lane *l = w->idle[w->n_idle - 1];
		if (!begin(w->run, l))
			break;
		w->n_idle--;
		if (ready(w->run, l))
			w->running[w->n_running++] = l;
		else
			park(w, l);
	}
	return w->n_running + w->n_parked > 0;
}

static bool all_go_on(struct lane *const *lane, int n)
{
	for (int i = 0; i < n; i++)
		if (!lane[i]->busy || lane[i]->waits)
			return false;
	return true;
}

/* Tokens for each lane that runs, in groups of about the same size. Where there are several, a group has STRETCH steps at
 * once, or until one of its lanes ends or has to wait: the states of a group (8 MiB for `small`) are then fetched from memory
 * once a stretch, and not for every token. */
static void step_all(struct worker *w)
{
	int n_groups = (w->n_running + GROUP - 1) / GROUP, group = (w->n_running + n_groups - 1) / n_groups;
	int stretch = n_groups > 1 ? STRETCH : 1;
	for (int i = 0; i < w->n_running; i += group) {
		int n_lanes = w->n_running - i < group ? w->n_running - i : group;
		for (int s = 0; s < stretch && !over(w->run); s++) {
			step_group(w, w->running + i, n_lanes);
			if (!all_go_on(w->running + i, n_lanes))
				break;
		}
	}
	int n = 0;
	for (int i = 0; i < w->n_running; i++) {
		struct lane *l = w->running[i];
		if (!l->busy)
			w->idle[w->n_idle++] = l;
		else if (l->waits)
			park(w, l);
		else
			w->running[n++] = l;
	}
	w->n_running = n;
}

/* Lanes never wait for those of another worker. */
static void *work(void *arg)
{
	struct worker *w = arg;
	struct run *r = w->run;
	while (!over(r) && fill(w)) {
		if (w->n_running > 0) {
			step_all(w);
		} else {
			nanosleep(&(struct timespec){.tv_nsec = ASK_NS}, NULL);
			show_progress(r, false);
		}
	}
	for (int i = 0; i < w->n_running; i++)
		hand_out(r, w->running[i], NSSM_END_STOPPED);
	for (int i = 0; i < w->n_parked; i++)
		hand_out(r, w->parked[i], NSSM_END_STOPPED);
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

/* The share of worker t of n. */
static int share(int total, int t, int n)
{
	return (int)((long long)total * (t + 1) / n - (long long)total * t / n);
}

static struct lane *cut_lane(struct cut *c, const struct run *r)
{
	struct lane *at = cut(c, 1, sizeof *at);
	struct lane l = {.state = cut(c, nssm_mamba2_state_floats(&r->card->cfg), sizeof *l.state),
	        .buf = cut(c, BLOCK_TOKENS, sizeof *l.buf),
	        .recent = cut(c, 2 * (size_t)r->window, sizeof *l.recent),
	        .mask = cut(c, r->mask_bytes, 1)};
	if (at != NULL)
		*at = l;
	return at;
}

static void cut_worker(struct cut *c, struct run *r, struct worker *at, int n_lanes, int n_parked)
{
	const struct nssm_mamba2_cfg *m = &r->card->cfg;
	int n_all = n_lanes + n_parked, group = n_lanes < GROUP ? n_lanes : GROUP;
	struct worker w = {.run = r, .n_lanes = n_lanes, .n_idle = n_all};
	w.running = cut(c, (size_t)n_lanes, sizeof *w.running);
	w.parked = cut(c, (size_t)n_all, sizeof *w.parked);
	w.idle = cut(c, (size_t)n_all, sizeof *w.idle);
	w.logits = cut(c, (size_t)group * (size_t)m->Vpad, sizeof *w.logits);
	w.step_scratch = cut(c, nssm_mamba2_step_floats(m, group), sizeof *w.step_scratch);
	w.sample_scratch = cut(c, (size_t)r->V, sizeof *w.sample_scratch);
	for (int i = 0; i < n_all; i++) {
		struct lane *l = cut_lane(c, r);
		if (l != NULL)
			w.idle[i] = l;
	}
	if (c->base != NULL)
		*at = w;
}

static size_t lay_out(
        uint8_t *base, struct run *r, struct worker **workers, int n_threads, int n_lanes, int n_parked)
{
	struct cut c = {.base = base};
	struct worker *ws = cut(&c, (size_t)n_threads, sizeof *ws);
	r->head = cut(&c, NSSM_CODEC_HEAD_MAX + r->cfg->n_prompt, sizeof *r->head);
	for (int t = 0; t < n_threads; t++)
		cut_worker(&c, r, base == NULL ? NULL : &ws[t], share(n_lanes, t, n_threads),
		        share(n_parked, t, n_threads));
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
	assert(cfg->n_parked_max >= 0 && cfg->n_parked_max <= INT_MAX - cfg->n_lanes);
	if (cfg->n_sessions != UINT64_MAX && cfg->n_sessions > UINT64_MAX - cfg->first_session)
		return nssm_err_set(err, NSSM_EARG, "sessions %llu from index %llu on: too many",
		        (unsigned long long)cfg->n_sessions, (unsigned long long)cfg->first_session);
	for (int i = 0; i < cfg->n_mix; i++)
		assert(cfg->label_idx[i] < v->n_labels);
	for (size_t i = 0; i < cfg->n_prompt; i++) {
		assert(cfg->prompt[i] < v->n_tokens);
		r->prompt_pkt += cfg->prompt[i] == v->pkt;
	}
	r->n_head = 1 + r->card->codec.conditions + cfg->n_prompt;
	if (cfg->n_prompt > UINT32_MAX / 2 || (cfg->max_tokens > 0 && r->n_head >= cfg->max_tokens))
		return nssm_err_set(err, NSSM_EARG,
		        "label%s and prompt are %zu tokens; a session may have %llu",
		        r->card->codec.conditions > 0 ? ", conditions" : "", r->n_head, (unsigned long long)cfg->max_tokens);
	bool in_packet = r->pkt_closes && cfg->n_prompt > 0 && cfg->prompt[cfg->n_prompt - 1] != v->pkt;
	uint64_t has = r->prompt_pkt + in_packet;
	if (cfg->max_packets > 0 &&
	        (has > cfg->max_packets || (has == cfg->max_packets && r->pkt_closes && !in_packet)))
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
	        .block_packets = cfg->block_packets > 0 ? cfg->block_packets : BLOCK_PACKETS,
	        .stops_before = atomic_load(&stops),
	        .next = cfg->first_session,
	        .end = cfg->n_sessions == UINT64_MAX ? UINT64_MAX : cfg->first_session + cfg->n_sessions};
	int rc = check(&r, err);
	if (rc != 0 || cfg->n_sessions == 0)
		return rc;
	for (uint64_t i = 0; i < cfg->first_session && cfg->sessions_per_s > 0; i++)
		r.prev_start_ns = nssm_generator_start(cfg, i, r.prev_start_ns);

	int n_lanes = cfg->n_sessions < (uint64_t)cfg->n_lanes ? (int)cfg->n_sessions : cfg->n_lanes;
	int n_threads = cfg->n_threads < n_lanes ? cfg->n_threads : n_lanes;
	int n_parked = cfg->ready != NULL ? cfg->n_parked_max : 0;
	if (cfg->n_sessions - (uint64_t)n_lanes < (uint64_t)n_parked)
		n_parked = (int)(cfg->n_sessions - (uint64_t)n_lanes);
	struct worker *w;
	size_t bytes = lay_out(NULL, &r, &w, n_threads, n_lanes, n_parked);
	/* Lanes begin with their states zeroed: in pages of 2 MB that is a first touch a lane or less instead of a hundred. */
	size_t align = bytes >= HUGE_BYTES ? HUGE_BYTES : ALIGN_BYTES, room = (bytes + align - 1) / align * align;
	uint8_t *block = aligned_alloc(align, room);
	if (block != NULL && align == HUGE_BYTES)
		(void)madvise(block, room, MADV_HUGEPAGE);
	if (block == NULL)
		return nssm_err_set(
		        err, NSSM_ENOMEM, "%d lanes need %zu bytes: no memory", n_lanes + n_parked, bytes);
	lay_out(block, &r, &w, n_threads, n_lanes, n_parked);
	size_t n_before = nssm_codec_head(r.head, &card->codec, &card->vocab, cfg->label_idx[0], cfg->conditions);
	if (cfg->n_prompt > 0)
		memcpy(r.head + n_before, cfg->prompt, cfg->n_prompt * sizeof *cfg->prompt);
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
	if (rc == 0 && cfg->n_sessions == UINT64_MAX)
		rc = nssm_err_set(
		        err, NSSM_EINTR, "stopped after %llu sessions", (unsigned long long)r.n_done);
	else if (rc == 0 && r.n_done < cfg->n_sessions)
		rc = nssm_err_set(err, NSSM_EINTR, "stopped after %llu of %llu sessions",
		        (unsigned long long)r.n_done, (unsigned long long)cfg->n_sessions);
	pthread_mutex_destroy(&r.lock);
	free(block);
	return rc;
}
