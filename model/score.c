#include "model/score.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/mamba2_impl.h"
#include "model/train_impl.h"

#define LANES 16
#define NO_ID 0xffff

struct lane_at {
	const uint16_t *token; /* NULL: no session */
	uint64_t n, at;
	float *state;
	void *walk; /* the codec's automaton, which tells the context; NULL: the model has none */
};

struct scorer {
	const struct nssm_model_card *card;
	struct nssm_corpus *corpus;
	const char *where;
	uint16_t map[NSSM_VOCAB_MAX];
	uint32_t next;
	struct lane_at lane[LANES];
	struct nssm_score *sum;
};

static int token_of(const struct scorer *s, const struct lane_at *l, uint64_t at, uint16_t *out, struct nssm_err *err)
{
	*out = s->map[l->token[at]];
	if (*out != NO_ID)
		return 0;
	return nssm_err_set(err, NSSM_EFORMAT,
		"%s: a session's token %" PRIu64 " is id %u: no byte, special token or label that the model knows", s->where, at,
		l->token[at]);
}

/* What the session is known to be like as a whole: its condition bytes. */
static void tell(const struct scorer *s, struct lane_at *l)
{
	uint8_t cond[NSSM_N_CONDITIONS] = {0};
	for (int i = 0; i < s->card->cfg.n_cond && i < NSSM_N_CONDITIONS; i++) {
		uint16_t id = s->map[l->token[1 + i]];
		if (id != NO_ID && s->card->vocab.kind[id] == NSSM_TOK_BYTE)
			cond[i] = (uint8_t)s->card->vocab.value[id];
	}
	nssm_mamba2_tell(l->state, &s->card->cfg, cond);
}

/* Gives an idle lane the next session that has something to predict. */
static int begin(struct scorer *s, struct lane_at *l, struct nssm_err *err)
{
	while (l->token == NULL && s->next < nssm_corpus_n_sessions(s->corpus)) {
		uint32_t idx = s->next++;
		int rc = nssm_corpus_check_session(s->corpus, idx, err);
		if (rc != 0)
			return rc;
		const uint16_t *token = nssm_corpus_tokens(s->corpus, idx);
		uint64_t n = nssm_corpus_session(s->corpus, idx)->n_tokens;
		bool known = n == 0 || s->map[token[0]] != NO_ID;
		s->sum->n_unknown += !known;
		if (!known || n <= 1 + s->card->codec.conditions)
			continue;
		*l = (struct lane_at){.token = token, .n = n, .state = l->state, .walk = l->walk};
		memset(l->state, 0, nssm_mamba2_state_floats(&s->card->cfg) * sizeof *l->state);
		tell(s, l);
		if (l->walk != NULL)
			memset(l->walk, 0, nssm_codec_mask_bytes(&s->card->codec));
		s->sum->n_sessions++;
	}
	return 0;
}

/* −ln of the softmax of one logit. */
static double loss_of(const float *logits, int V, int target)
{
	double max = logits[0], sum = 0;
	for (int v = 1; v < V; v++)
		max = logits[v] > max ? logits[v] : max;
	for (int v = 0; v < V; v++)
		sum += exp(logits[v] - max);
	return log(sum) + max - logits[target];
}

/* One token on every lane that has a session. Returns how many had, or an error. */
static int step(struct scorer *s, const struct nssm_mamba2 *m, float *logits, float *scratch, struct nssm_err *err)
{
	float *state[LANES];
	uint16_t token[LANES], target[LANES], context[LANES] = {0};
	struct lane_at *busy[LANES];
	int n = 0, rc;
	for (int i = 0; i < LANES; i++) {
		struct lane_at *l = &s->lane[i];
		if ((rc = begin(s, l, err)) != 0)
			return rc;
		if (l->token == NULL)
			continue;
		if ((rc = token_of(s, l, l->at, &token[n], err)) != 0 || (rc = token_of(s, l, l->at + 1, &target[n], err)) != 0)
			return rc;
		if (l->walk != NULL) {
			nssm_codec_mask_next(&s->card->codec, &s->card->vocab, l->walk, token[n]);
			context[n] = (uint16_t)nssm_codec_context(&s->card->codec, l->walk);
		}
		state[n] = l->state;
		busy[n++] = l;
	}
	if (n == 0)
		return 0;
	nssm_mamba2_step(logits, state, token, context, n, m, scratch);
	for (int i = 0; i < n; i++) {
		struct lane_at *l = busy[i];
		if (l->at >= s->card->codec.conditions) {
			s->sum->nats += loss_of(logits + (size_t)i * (size_t)s->card->cfg.Vpad, s->card->cfg.V, target[i]);
			s->sum->n_scored++;
		}
		if (++l->at + 1 == l->n)
			l->token = NULL;
	}
	return n;
}

int nssm_score(struct nssm_score *out, const struct nssm_mamba2 *m, const struct nssm_model_card *card,
	struct nssm_corpus *corpus, const char *where, struct nssm_err *err)
{
	*out = (struct nssm_score){0};
	if (!nssm_codec_cfg_same(nssm_corpus_codec(corpus), &card->codec)) {
		char a[160], b[160];
		nssm_codec_describe(a, sizeof a, nssm_corpus_codec(corpus));
		nssm_codec_describe(b, sizeof b, &card->codec);
		return nssm_err_set(err, NSSM_EARG, "%s: its codec is %s; the model's is %s", where, a, b);
	}
	size_t st = nssm_round_up(nssm_mamba2_state_floats(&card->cfg), 16), step_floats = nssm_mamba2_step_floats(&card->cfg, LANES);
	size_t walk = card->cfg.n_context > 0 ? nssm_round_up(nssm_codec_mask_bytes(&card->codec), 64) : 0;
	size_t bytes = LANES * walk + (LANES * st + LANES * (size_t)card->cfg.Vpad + nssm_round_up(step_floats, 16)) * sizeof(float);
	struct scorer *s = calloc(1, sizeof *s);
	float *block = nssm_block_alloc(bytes);
	int rc = s == NULL || block == NULL ? nssm_err_set(err, NSSM_ENOMEM, "no memory to score %s", where) : 0;
	if (rc == 0) {
		s->card = card;
		s->corpus = corpus;
		s->where = where;
		s->sum = out;
		nssm_train_id_map(s->map, nssm_corpus_vocab(corpus), &card->vocab);
		for (int i = 0; i < LANES; i++)
			s->lane[i].state = block + (size_t)i * st;
		for (size_t i = 0; walk > 0 && i < LANES; i++)
			s->lane[i].walk = (char *)block + bytes - (LANES - i) * walk;
		float *scratch = block + LANES * st, *logits = scratch + nssm_round_up(step_floats, 16);
		while ((rc = step(s, m, logits, scratch, err)) > 0)
			;
	}
	nssm_block_free(block, bytes);
	free(s);
	if (rc == 0 && out->n_scored == 0)
		rc = nssm_err_set(err, NSSM_EARG, "%s: has no session with a label that the model knows", where);
	out->nats /= out->n_scored > 0 ? (double)out->n_scored : 1;
	return rc;
}
