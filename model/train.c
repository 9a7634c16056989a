#include "model/train.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/measure.h"
#include "base/philox.h"
#include "model/train_impl.h"

#define EMA_KEEP       0.95
#define DIVERGED_NATS  2.0 /* smoothed loss this far above its best … */
#define DIVERGED_STEPS 50  /* … for so many steps in a row */
#define MEASURED_STEPS 3
#define VAL_SEED       0 /* the same sessions are validated on whatever the training's seed */
#define NO_ID          0xffff /* in a map: the card's vocabulary has no such token */

/* --- sources ------------------------------------------------------------------------------------------------ */

static void source_close(struct source *s)
{
	free(s->first);
	free(s->map);
	*s = (struct source){0};
}

/* Token ids of a corpus to ids of vocabulary v; what v lacks maps to NO_ID. */
void nssm_train_id_map(uint16_t map[NSSM_VOCAB_MAX], const struct nssm_vocab *from, const struct nssm_vocab *v)
{
	for (uint32_t id = 0; id < NSSM_VOCAB_MAX; id++)
		map[id] = NO_ID;
	for (int b = 0; b < 256; b++)
		map[from->byte_id[b]] = v->byte_id[b];
	if (from->unk != NO_ID)
		map[from->unk] = v->unk;
	map[from->eot] = v->eot;
	map[from->pad] = v->pad;
	map[from->pkt] = v->pkt;
	for (uint32_t i = 0; i < from->n_labels; i++) {
		int k = nssm_vocab_find_label(v, from->label[i].name);
		map[from->label[i].id] = k < 0 ? NO_ID : v->label[k].id;
	}
}

static int source_open(struct source *s, struct nssm_corpus *const *corpora, int n, const struct nssm_model_card *card,
	struct nssm_err *err)
{
	*s = (struct source){.corpus = corpora, .n_corpora = n, .n_conditions = card->codec.conditions,
		.unknown = card->vocab.byte_id[0]};
	s->first = calloc((size_t)n + 1, sizeof *s->first);
	s->map = calloc((size_t)n * NSSM_VOCAB_MAX, sizeof *s->map);
	if (s->first == NULL || s->map == NULL) {
		source_close(s);
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for the session list");
	}
	for (int i = 0; i < n; i++) {
		uint32_t k = nssm_corpus_n_sessions(corpora[i]);
		if (k > UINT32_MAX - s->first[i]) {
			source_close(s);
			return nssm_err_set(err, NSSM_ERANGE, "more than %" PRIu32 " sessions in all corpora", UINT32_MAX);
		}
		nssm_train_id_map(s->map + (size_t)i * NSSM_VOCAB_MAX, nssm_corpus_vocab(corpora[i]), &card->vocab);
		s->first[i + 1] = s->first[i] + k;
		for (uint32_t j = 0; j < k; j++) {
			uint64_t nt = nssm_corpus_session(corpora[i], j)->n_tokens;
			s->n_scored += nt > s->n_conditions ? nt - 1 - s->n_conditions : 0;
		}
	}
	s->n_sessions = s->first[n];
	return 0;
}

struct view {
	const uint16_t *tok, *map;
	uint64_t n;
	uint32_t n_conditions;
	uint16_t unknown;
	unsigned hidden; /* bit i: condition i reads as unknown */
};

static int source_view(const struct source *s, uint32_t session, struct view *out, struct nssm_err *err)
{
	int i = 0;
	while (session >= s->first[i + 1])
		i++;
	uint32_t j = session - s->first[i];
	int rc = nssm_corpus_check_session(s->corpus[i], j, err);
	*out = (struct view){.tok = nssm_corpus_tokens(s->corpus[i], j), .map = s->map + (size_t)i * NSSM_VOCAB_MAX,
		.n = nssm_corpus_session(s->corpus[i], j)->n_tokens, .n_conditions = s->n_conditions, .unknown = s->unknown};
	return rc;
}

/* --- the card of a training ------------------------------------------------------------------------------------ */

static int codec_differs(const char *what, const struct nssm_codec_cfg *found, const struct nssm_codec_cfg *want,
	struct nssm_err *err)
{
	json_t *f = nssm_codec_cfg_to_json(found), *w = nssm_codec_cfg_to_json(want);
	char *ft = f ? json_dumps(f, JSON_COMPACT) : NULL, *wt = w ? json_dumps(w, JSON_COMPACT) : NULL;
	int rc = nssm_err_set(err, NSSM_EARG, "%s: its codec differs: expected %s, found %s", what, wt ? wt : "another", ft ? ft : "?");
	free(ft);
	free(wt);
	json_decref(f);
	json_decref(w);
	return rc;
}

int nssm_train_card(struct nssm_model_card *card, struct nssm_corpus *const *corpora, const char *const *paths, int n,
	struct nssm_err *err)
{
	assert(n >= 1);
	*card = (struct nssm_model_card){.codec = *nssm_corpus_codec(corpora[0]), .vocab = *nssm_corpus_vocab(corpora[0])};
	for (int i = 1; i < n; i++) {
		const struct nssm_vocab *v = nssm_corpus_vocab(corpora[i]);
		if (!nssm_codec_cfg_same(&card->codec, nssm_corpus_codec(corpora[i])))
			return codec_differs(paths[i], nssm_corpus_codec(corpora[i]), &card->codec, err);
		for (uint32_t k = 0; k < v->n_labels; k++) {
			int rc = nssm_vocab_add_label(&card->vocab, v->label[k].name, err);
			if (rc < 0)
				return rc;
		}
	}
	card->iat = calloc(card->vocab.n_labels ? card->vocab.n_labels : 1, sizeof *card->iat);
	if (card->iat == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for inter-arrival histograms");
	for (int i = 0; i < n; i++) {
		const struct nssm_vocab *v = nssm_corpus_vocab(corpora[i]);
		nssm_secure_merge(&card->secure, nssm_corpus_secure(corpora[i]));
		for (uint32_t k = 0; k < v->n_labels; k++) {
			int to = nssm_vocab_find_label(&card->vocab, v->label[k].name);
			const struct nssm_iat_hist *h = &nssm_corpus_stats(corpora[i], k)->iat;
			assert(to >= 0);
			card->iat[to].n += h->n;
			for (int s = 0; s < NSSM_IAT_STEPS; s++)
				card->iat[to].count[s] += h->count[s];
		}
	}
	return 0;
}

/* --- open and close -------------------------------------------------------------------------------------------- */

static size_t aligned(size_t n)
{
	return (n + 15) / 16 * 16;
}

static int alloc_all(struct nssm_trainer *t, struct nssm_err *err)
{
	size_t B = (size_t)t->cfg.batch, BT = B * (size_t)t->cfg.seq_tokens, st = aligned(nssm_mamba2_state_floats(&t->card.cfg));
	size_t n = aligned(t->n_params), total = (3 * n + 2 * B * st) * sizeof(float);
	t->block = aligned_alloc(64, total);
	t->token = calloc(BT, sizeof *t->token);
	t->context = calloc(BT, sizeof *t->context);
	t->walk_bytes = t->card.cfg.n_context > 0 ? nssm_codec_mask_bytes(&t->card.codec) : 0;
	t->walk = calloc(2 * B, t->walk_bytes + 1);
	t->target = calloc(BT, sizeof *t->target);
	t->reset = calloc(BT, 1);
	t->cond = calloc(BT * (size_t)t->card.cfg.n_cond + 1, 1);
	t->lane = calloc(B, sizeof *t->lane);
	t->state = calloc(2 * B, sizeof *t->state);
	t->order = calloc(t->src.n_sessions, sizeof *t->order);
	t->val_order = calloc(t->val.n_sessions + 1, sizeof *t->val_order);
	t->n_tensors = nssm_mamba2_tensors(&t->card.cfg, NULL);
	t->tensor = calloc((size_t)t->n_tensors, sizeof *t->tensor);
	if (!t->val_order || !t->tensor || !t->block || !t->token || !t->context || !t->cond || !t->walk || !t->target || !t->reset || !t->lane || !t->state || !t->order)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for gradients and optimizer state (%zu MiB)", total >> 20);
	nssm_mamba2_tensors(&t->card.cfg, t->tensor);
	t->block_bytes = total;
	memset(t->block, 0, total);
	t->grad = t->block;
	t->m = t->grad + n;
	t->v = t->m + n;
	t->lane_block = t->v + n;
	for (size_t b = 0; b < 2 * B; b++)
		t->state[b] = t->lane_block + b * st;
	for (size_t b = 0; b < B; b++)
		t->lane[b].session = -1;
	return 0;
}

static void permute(uint32_t *order, uint32_t n, uint64_t seed, uint64_t stream)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, seed, stream, NSSM_RNG_ORDER);
	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	for (uint32_t i = n; i > 1; i--) {
		uint32_t j = nssm_rng_below(&rng, i), x = order[i - 1];
		order[i - 1] = order[j];
		order[j] = x;
	}
}

void nssm_trainer_shuffle(struct nssm_trainer *t)
{
	permute(t->order, t->src.n_sessions, t->cfg.seed, t->epoch);
}

int nssm_trainer_open(struct nssm_trainer **tp, const struct nssm_train_cfg *cfg, struct nssm_model_card *card,
	struct nssm_corpus *const *corpora, int n_corpora, struct nssm_corpus *val, const struct nssm_kernels *kern,
	struct nssm_team *team, struct nssm_err *err)
{
	*tp = NULL;
	struct nssm_trainer *t = calloc(1, sizeof *t);
	if (t == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a trainer");
	t->cfg = *cfg;
	t->card = *card;
	t->kern = kern;
	t->team = team;
	t->val_corpus = val;
	t->n_params = nssm_mamba2_param_floats(&card->cfg);
	int rc = source_open(&t->src, corpora, n_corpora, card, err);
	if (rc == 0 && t->src.n_scored == 0)
		rc = nssm_err_set(err, NSSM_EARG, "the corpus holds no session of two or more tokens: nothing to learn");
	/* The same bytes mean something else in another codec: a loss over them would look like a figure and be none. */
	if (rc == 0 && val != NULL && !nssm_codec_cfg_same(&card->codec, nssm_corpus_codec(val)))
		rc = codec_differs("the validation corpus", nssm_corpus_codec(val), &card->codec, err);
	if (rc == 0 && val != NULL)
		rc = source_open(&t->val, &t->val_corpus, 1, card, err);
	if (rc == 0)
		rc = nssm_mamba2_open(&t->model, &card->cfg, kern, cfg->precision, true, err);
	if (rc == 0)
		rc = nssm_mamba2_work_open(&t->work, t->model, cfg->batch, cfg->seq_tokens, true, NSSM_KEEP_BYTES, team, err);
	if (rc == 0)
		rc = alloc_all(t, err);
	if (rc != 0) {
		t->card.iat = NULL; /* stays the caller's */
		nssm_trainer_close(&t);
		return rc;
	}
	nssm_mamba2_init(nssm_mamba2_params(t->model), &card->cfg, cfg->seed);
	nssm_trainer_shuffle(t);
	permute(t->val_order, t->val.n_sessions, VAL_SEED, 0);
	*card = (struct nssm_model_card){0};
	*tp = t;
	return 0;
}

void nssm_trainer_close(struct nssm_trainer **tp)
{
	struct nssm_trainer *t = *tp;
	if (t == NULL)
		return;
	nssm_mamba2_work_close(&t->work);
	nssm_mamba2_close(&t->model);
	source_close(&t->src);
	source_close(&t->val);
	nssm_model_card_free(&t->card);
	free(t->block);
	free(t->token);
	free(t->context);
	free(t->walk);
	free(t->target);
	free(t->reset);
	free(t->cond);
	free(t->lane);
	free(t->state);
	free(t->order);
	free(t->tensor);
	free(t->val_order);
	free(t);
	*tp = NULL;
}

const struct nssm_model_card *nssm_trainer_card(const struct nssm_trainer *t)
{
	return &t->card;
}

float *nssm_trainer_params(struct nssm_trainer *t, size_t *n)
{
	if (n != NULL)
		*n = t->n_params;
	return nssm_mamba2_params(t->model);
}

uint64_t nssm_trainer_step_tokens(const struct nssm_trainer *t)
{
	return (uint64_t)t->cfg.batch * (uint64_t)t->cfg.seq_tokens * (uint64_t)t->cfg.grad_accum;
}

uint64_t nssm_trainer_epoch_tokens(const struct nssm_trainer *t)
{
	return t->src.n_scored;
}

size_t nssm_trainer_bytes(const struct nssm_trainer *t)
{
	return t->block_bytes + nssm_mamba2_bytes(t->model) +
		nssm_mamba2_work_bytes(t->model, t->cfg.batch, t->cfg.seq_tokens, true, NSSM_KEEP_BYTES, nssm_team_size(t->team));
}

uint32_t nssm_trainer_val_unknown(const struct nssm_trainer *t)
{
	return t->val_unknown;
}

void nssm_trainer_set_steps(struct nssm_trainer *t, int64_t steps)
{
	t->cfg.steps = steps;
}

int64_t nssm_trainer_steps(const struct nssm_trainer *t)
{
	return t->cfg.steps;
}

/* --- batches --------------------------------------------------------------------------------------------------- */

/* The next session in the order that has something to predict. */
static uint32_t next_session(struct nssm_trainer *t)
{
	if (t->order_pos == t->src.n_sessions) {
		t->order_pos = 0;
		t->epoch++;
		nssm_trainer_shuffle(t);
	}
	t->started++;
	return t->order[t->order_pos++];
}

/* A lane's row of the batch. */
struct row {
	uint16_t *token, *context;
	int32_t *target;
	uint8_t *reset, *walk;
};

/* walk: of training's lanes (0) or of validation's (1). */
static struct row row_of_lane(const struct nssm_trainer *t, int b, int walk)
{
	size_t at = (size_t)b * (size_t)t->cfg.seq_tokens;
	size_t lane = (size_t)walk * (size_t)t->cfg.batch + (size_t)b;
	return (struct row){.token = t->token + at, .context = t->context + at, .target = t->target + at, .reset = t->reset + at,
		.walk = t->walk + lane * t->walk_bytes};
}

/* Moves the lane's automaton on, through the token at off; what stands after it. */
static uint16_t context_after(const struct nssm_trainer *t, uint8_t *walk, const struct view *v, struct lane *ln)
{
	if (t->walk_bytes == 0)
		return 0;
	if (ln->walked == 0)
		memset(walk, 0, t->walk_bytes);
	for (; ln->walked <= ln->off; ln->walked++) { /* more than one step: resumed in the middle of a session */
		uint16_t token = v->map[v->tok[ln->walked]];
		if (token != NO_ID)
			nssm_codec_mask_next(&t->card.codec, &t->card.vocab, walk, token);
	}
	return (uint16_t)nssm_codec_context(&t->card.codec, walk);
}

/* Fills [at, T) of a row from one session's tokens, as far as they go. Returns where it stopped, or an error at a token
 * that means nothing in the card's vocabulary. */
static int fill_session(const struct nssm_trainer *t, const struct row *r, int at, int T, const struct view *v, struct lane *ln,
	struct nssm_err *err)
{
	for (; at < T && ln->off + 1 < v->n; at++, ln->off++) {
		uint16_t now = v->map[v->tok[ln->off]], next = v->map[v->tok[ln->off + 1]];
		if (now == NO_ID || next == NO_ID)
			return nssm_err_set(err, NSSM_EFORMAT, "a session's token %" PRIu64 " is id %u of its corpus's tokenizer: no byte, "
				"special token or label that this training knows", ln->off + (now != NO_ID), v->tok[ln->off + (now != NO_ID)]);
		bool told = ln->off >= 1 && ln->off <= v->n_conditions;
		r->token[at] = told && (v->hidden >> (ln->off - 1) & 1) != 0 ? v->unknown : now;
		r->context[at] = context_after(t, r->walk, v, ln);
		r->target[at] = ln->off < v->n_conditions ? -1 : next;
		r->reset[at] = ln->off == 0;
	}
	return at;
}

/* True if another session may start at `at` without too many borders in its segment (mamba2.h). */
static bool border_allowed(const struct nssm_trainer *t, const uint8_t *reset, int at)
{
	int S = nssm_mamba2_seg_tokens(t->work), n = 0;
	for (int i = at / S * S; i < at; i++)
		n += reset[i];
	return n < nssm_mamba2_max_borders(S);
}

/* Positions that score nothing and start nothing. */
static int fill_padding(const struct nssm_trainer *t, const struct row *r, int at, int T)
{
	int S = nssm_mamba2_seg_tokens(t->work), end = (at / S + 1) * S;
	for (; at < end && at < T; at++) {
		r->token[at] = t->card.vocab.pad;
		r->context[at] = 0;
		r->target[at] = -1;
		r->reset[at] = 0;
	}
	return at;
}

/* Which conditions of a session are hidden, whenever it is asked. Of `most` of the sessions most are, of the others few; the mean
 * is p: p·(HIDE_MOST + (1 − HIDE_MOST)·p) + (1 − p)·(1 − HIDE_MOST)·p. */
#define HIDE_MOST 0.8
static unsigned hidden_conditions(const struct nssm_trainer *t, const struct lane *ln)
{
	double p = (double)t->cfg.condition_dropout;
	struct nssm_rng rng;
	nssm_rng_init(&rng, t->cfg.seed, ln->epoch << 32 | (uint64_t)ln->session, NSSM_RNG_CONDITION);
	bool most = nssm_rng_unit(&rng) < p;
	double share = (most ? HIDE_MOST : 0) + (1 - HIDE_MOST) * p;
	unsigned hidden = 0;
	for (uint32_t i = 0; i < t->src.n_conditions; i++)
		hidden |= (unsigned)(nssm_rng_unit(&rng) < share) << i;
	return hidden;
}

/* Positions [from, to) of lane b belong to this session. */
static void tell_conditions(struct nssm_trainer *t, int b, int from, int to, const struct view *v)
{
	size_t n = (size_t)t->card.cfg.n_cond;
	uint8_t known[NSSM_N_CONDITIONS] = {0};
	assert(n <= NSSM_N_CONDITIONS);
	for (size_t i = 0; i < n && i + 1 < v->n; i++) {
		uint16_t id = v->map[v->tok[i + 1]];
		if (id != NO_ID && (v->hidden >> i & 1) == 0 && t->card.vocab.kind[id] == NSSM_TOK_BYTE)
			known[i] = (uint8_t)t->card.vocab.value[id];
	}
	for (int at = from; n > 0 && at < to; at++)
		memcpy(t->cond + ((size_t)b * (size_t)t->cfg.seq_tokens + (size_t)at) * n, known, n);
}

static int train_batch(struct nssm_trainer *t, struct nssm_err *err)
{
	int T = t->cfg.seq_tokens;
	for (int b = 0; b < t->cfg.batch; b++) {
		struct row row = row_of_lane(t, b, 0);
		struct lane *ln = &t->lane[b];
		for (int at = 0; at < T;) {
			struct view v = {0};
			if (ln->session >= 0) {
				int rc = source_view(&t->src, (uint32_t)ln->session, &v, err);
				if (rc != 0)
					return rc;
				v.hidden = hidden_conditions(t, ln);
				int from = at;
				at = fill_session(t, &row, at, T, &v, ln, err);
				if (at < 0)
					return at;
				tell_conditions(t, b, from, at, &v);
			}
			if (at == T)
				break;
			if (!border_allowed(t, row.reset, at)) {
				at = fill_padding(t, &row, at, T);
				continue;
			}
			*ln = (struct lane){.session = next_session(t)};
			ln->epoch = t->epoch; /* which next_session may have moved on */
		}
	}
	return 0;
}

static struct nssm_batch batch_of(const struct nssm_trainer *t)
{
	return (struct nssm_batch){.B = t->cfg.batch, .T = t->cfg.seq_tokens, .token = t->token, .context = t->context,
		.target = t->target, .reset = t->reset, .cond = t->card.cfg.n_cond > 0 ? t->cond : NULL};
}

/* --- one step -------------------------------------------------------------------------------------------------- */

static double learning_rate(const struct nssm_train_cfg *c, int64_t step)
{
	int64_t warm = c->warmup < c->steps / 10 ? c->warmup : c->steps / 10;
	if (step < warm)
		return (double)c->lr * (double)(step + 1) / (double)warm;
	double at = c->steps > warm + 1 ? (double)(step - warm) / (double)(c->steps - warm - 1) : 0; /* one step: at the peak */
	at = at > 1 ? 1 : at;
	return (double)c->lr_min + 0.5 * (double)(c->lr - c->lr_min) * (1 + cos(3.14159265358979323846 * at));
}

/* Gradient of one optimizer step into t->grad. */
static int gradient(struct nssm_trainer *t, float *const *state, double *loss, uint64_t *scored, struct nssm_err *err)
{
	memset(t->grad, 0, t->n_params * sizeof(float));
	float scale = (float)(1.0 / (double)nssm_trainer_step_tokens(t));
	*loss = 0;
	*scored = 0;
	for (int i = 0; i < t->cfg.grad_accum; i++) {
		int rc = train_batch(t, err);
		if (rc != 0)
			return rc;
		struct nssm_batch batch = batch_of(t);
		double sum;
		int64_t n;
		nssm_mamba2_backward(&sum, &n, t->grad, state, scale, &batch, t->model, t->work);
		*loss += sum;
		*scored += (uint64_t)n;
	}
	*loss /= *scored ? (double)*scored : 1;
	return 0;
}

struct update {
	struct nssm_trainer *t;
	float gscale, lr, c1, c2;
};

static void update_tensor(void *ctx, int i, int member)
{
	struct update *u = ctx;
	struct nssm_trainer *t = u->t;
	const struct nssm_train_cfg *c = &t->cfg;
	size_t o = t->tensor[i].offset;
	t->kern->adamw(nssm_mamba2_params(t->model) + o, t->m + o, t->v + o, t->grad + o, u->gscale, u->lr, c->beta1, c->beta2,
		c->adam_eps, t->tensor[i].decay ? c->weight_decay : 0, u->c1, u->c2, t->tensor[i].n);
}

static void apply(struct nssm_trainer *t, float gscale, float lr)
{
	double k = (double)(t->step + 1);
	struct update u = {.t = t, .gscale = gscale, .lr = lr, .c1 = (float)(1 - pow((double)t->cfg.beta1, k)),
		.c2 = (float)(1 - pow((double)t->cfg.beta2, k))};
	nssm_team_run(t->team, t->n_tensors, update_tensor, &u);
	nssm_mamba2_pack(t->model, t->team);
}

static int check_divergence(struct nssm_trainer *t, double loss, struct nssm_err *err)
{
	if (t->step == 0) {
		t->first_loss = t->ema = t->best_ema = loss;
		return 0;
	}
	t->ema = EMA_KEEP * t->ema + (1 - EMA_KEEP) * loss;
	if (t->ema < t->best_ema)
		t->best_ema = t->ema;
	t->bad_steps = t->ema > t->best_ema + DIVERGED_NATS ? t->bad_steps + 1 : 0;
	if (t->bad_steps < DIVERGED_STEPS)
		return 0;
	return nssm_err_set(err, NSSM_ENUM,
		"step %" PRId64 ": the loss diverged: smoothed %.3f nats, its best was %.3f, %d steps in a row more than %.0f above; "
		"try a lower train.lr", t->step + 1, t->ema, t->best_ema, DIVERGED_STEPS, DIVERGED_NATS);
}

int nssm_trainer_step(struct nssm_trainer *t, struct nssm_train_stats *st, struct nssm_err *err)
{
	assert(t->cfg.steps > 0);
	if (t->step == 0)
		nssm_mamba2_pack(t->model, t->team);
	double loss;
	uint64_t scored;
	int rc = gradient(t, t->state, &loss, &scored, err);
	if (rc != 0)
		return rc;
	/* The gradient was scaled by all positions; padding among them (sessions of few tokens) must not make steps smaller. */
	double mean = scored ? (double)nssm_trainer_step_tokens(t) / (double)scored : 1;
	double norm = mean * sqrt(t->kern->sumsq(t->grad, t->n_params));
	if (!isfinite(loss) || !isfinite(norm))
		return nssm_err_set(err, NSSM_ENUM, "step %" PRId64 ": loss %g, gradient norm %g: not finite; try a lower train.lr",
			t->step + 1, loss, norm);
	rc = check_divergence(t, loss, err);
	if (rc != 0)
		return rc;
	double lr = learning_rate(&t->cfg, t->step);
	double clip = t->cfg.clip > 0 && norm > (double)t->cfg.clip ? (double)t->cfg.clip / norm : 1;
	apply(t, (float)(clip * mean), (float)lr);
	t->step++;
	t->tokens += scored;
	*st = (struct nssm_train_stats){.step = t->step, .tokens = t->tokens, .loss = loss, .loss_ema = t->ema, .grad_norm = norm,
		.lr = lr, .epoch = (double)t->started / t->src.n_sessions};
	return 0;
}

int nssm_trainer_measure(struct nssm_trainer *t, double *step_s, struct nssm_err *err)
{
	/* What a step would move is put back: lanes, order and counts. Weights do not move, scan states are the spare ones. */
	size_t B = (size_t)t->cfg.batch, st = nssm_mamba2_state_floats(&t->card.cfg);
	struct lane *lane = malloc(B * sizeof *lane);
	if (lane == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory to measure a step");
	memcpy(lane, t->lane, B * sizeof *lane);
	uint64_t epoch = t->epoch, pos = t->order_pos, started = t->started;
	double took[MEASURED_STEPS];
	int rc = 0;
	nssm_mamba2_pack(t->model, t->team);
	for (size_t b = 0; b < B; b++)
		memcpy(t->state[B + b], t->state[b], st * sizeof(float));
	for (int i = -1; rc == 0 && i < MEASURED_STEPS; i++) { /* the first one touches the memory and is not counted */
		double t0 = nssm_now_s(), loss;
		uint64_t scored;
		rc = gradient(t, t->state + B, &loss, &scored, err);
		nssm_mamba2_pack(t->model, t->team);
		if (i >= 0)
			took[i] = nssm_now_s() - t0;
	}
	memcpy(t->lane, lane, B * sizeof *lane);
	for (size_t b = 0; b < B; b++)
		t->lane[b].walked = 0; /* the automata went on: they begin anew */
	free(lane);
	t->started = started;
	t->order_pos = pos;
	if (t->epoch != epoch) {
		t->epoch = epoch;
		nssm_trainer_shuffle(t);
	}
	if (rc == 0) {
		*step_s = nssm_median(took, MEASURED_STEPS);
	}
	return rc;
}

/* --- validation ------------------------------------------------------------------------------------------------ */

struct val_walk {
	uint32_t next;
	uint64_t budget; /* scored tokens still to be handed out */
};

/* Opens the next validation session that training knows the label of. false: there is none. */
static int val_next(struct nssm_trainer *t, struct val_walk *w, struct lane *ln, struct nssm_err *err)
{
	while (w->next < t->val.n_sessions) {
		struct view v;
		int rc = source_view(&t->val, t->val_order[w->next++], &v, err);
		if (rc != 0)
			return rc;
		bool known = v.n == 0 || v.map[v.tok[0]] != NO_ID;
		t->val_unknown += !known;
		if (known && v.n > 1 + v.n_conditions) {
			*ln = (struct lane){.session = t->val_order[w->next - 1]};
			return 1;
		}
	}
	ln->session = -1;
	return 0;
}

/* Fills lane b of a validation batch; rows beyond what there is are padding. Returns scored positions or an error. */
static int64_t val_lane(struct nssm_trainer *t, struct val_walk *w, struct lane *ln, int b, struct nssm_err *err)
{
	int T = t->cfg.seq_tokens;
	struct row row = row_of_lane(t, b, 1);
	int64_t scored = 0;
	for (int at = 0; at < T;) {
		if (ln->session >= 0 && w->budget > 0) {
			struct view v;
			int rc = source_view(&t->val, (uint32_t)ln->session, &v, err);
			if (rc != 0)
				return rc;
			int room = T - at, end = w->budget < (uint64_t)room ? at + (int)w->budget : T;
			int stop = fill_session(t, &row, at, end, &v, ln, err);
			if (stop < 0)
				return stop;
			tell_conditions(t, b, at, stop, &v);
			scored += stop - at;
			w->budget -= (uint64_t)(stop - at);
			at = stop;
			if (at == T || w->budget == 0)
				continue;
		}
		int rc = w->budget > 0 && border_allowed(t, row.reset, at) ? val_next(t, w, ln, err) : 0;
		if (rc < 0)
			return rc;
		if (rc == 0)
			at = fill_padding(t, &row, at, T);
	}
	return scored;
}

int nssm_trainer_validate(struct nssm_trainer *t, double *loss, uint64_t *n_scored, struct nssm_err *err)
{
	assert(t->val_corpus != NULL);
	size_t B = (size_t)t->cfg.batch, st = nssm_mamba2_state_floats(&t->card.cfg);
	struct lane *lane = calloc(B, sizeof *lane);
	if (lane == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory to validate");
	for (size_t b = 0; b < B; b++) {
		lane[b].session = -1;
		memset(t->state[B + b], 0, st * sizeof(float));
	}
	struct val_walk w = {.budget = t->cfg.val_tokens ? t->cfg.val_tokens : UINT64_MAX};
	t->val_unknown = 0;
	double sum = 0;
	uint64_t n = 0;
	int rc = 0;
	if (t->step == 0)
		nssm_mamba2_pack(t->model, t->team);
	while (rc == 0) {
		int64_t filled = 0;
		for (int b = 0; rc == 0 && b < t->cfg.batch; b++) {
			int64_t k = val_lane(t, &w, &lane[b], b, err);
			rc = k < 0 ? (int)k : 0;
			filled += k;
		}
		if (rc != 0 || filled == 0)
			break;
		struct nssm_batch batch = batch_of(t);
		double s;
		int64_t k;
		nssm_mamba2_forward(&s, &k, NULL, t->state + B, &batch, t->model, t->work);
		sum += s;
		n += (uint64_t)k;
	}
	free(lane);
	if (rc != 0)
		return rc;
	if (n == 0)
		return nssm_err_set(err, NSSM_EARG, "the validation corpus has no session with a label that training knows");
	*loss = sum / (double)n;
	*n_scored = n;
	return 0;
}
