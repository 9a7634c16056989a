/* train_state — a training's whole state in a checkpoint, and taking it up again. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/train_impl.h"

#define FORMAT  "netssm-training"
#define VERSION 1

/* Numbers go through text that gives back the same bits. */
static json_t *hex(double v)
{
	char buf[40];
	snprintf(buf, sizeof buf, "%a", v);
	return json_string(buf);
}

static json_t *num(double v)
{
	char buf[40];
	snprintf(buf, sizeof buf, fabs(v) < 0x1p53 && v == (double)(int64_t)v ? "%.0f" : "%.9g", v);
	return json_string(buf);
}

/* Everything that the course of a training depends on, as text by key. */
static json_t *plan_json(const struct nssm_trainer *t)
{
	const struct nssm_train_cfg *c = &t->cfg;
	const struct nssm_mamba2_cfg *m = &t->card.cfg;
	json_t *p = json_object();
	if (p == NULL)
		return NULL;
	char key[32], val[64];
	for (int i = 0; i < t->src.n_corpora; i++) {
		snprintf(key, sizeof key, "corpus %d (CRC-32)", i);
		snprintf(val, sizeof val, "%08" PRIx32, nssm_corpus_hash(t->src.corpus[i]));
		json_object_set_new(p, key, json_string(val));
	}
	const struct {
		const char *key;
		double v;
	} row[] = {{"model.d_model", m->D}, {"model.n_layer", m->L}, {"model.expand", m->E / m->D}, {"model.headdim", m->P},
		{"model.d_state", m->N}, {"model.d_conv", m->K}, {"model.chunk_size", m->Q}, {"vocab_size", m->V},
		{"train.batch", c->batch}, {"train.seq_tokens", c->seq_tokens}, {"train.grad_accum", c->grad_accum},
		{"train.steps", (double)c->steps}, {"train.warmup", (double)c->warmup},
		{"train.lr", (double)c->lr}, {"train.lr_min", (double)c->lr_min}, {"train.weight_decay", (double)c->weight_decay},
		{"train.beta1", (double)c->beta1}, {"train.beta2", (double)c->beta2}, {"train.adam_eps", (double)c->adam_eps},
		{"train.clip", (double)c->clip}};
	for (size_t i = 0; i < sizeof row / sizeof *row; i++)
		json_object_set_new(p, row[i].key, num(row[i].v));
	if (t->card.codec.conditions > 0)
		json_object_set_new(p, "train.condition_dropout", num((double)c->condition_dropout));
	snprintf(val, sizeof val, "%" PRIu64, c->seed);
	json_object_set_new(p, "train.seed", json_string(val));
	return p;
}

static json_t *progress_json(const struct nssm_trainer *t)
{
	json_t *lanes = json_array();
	for (int b = 0; b < t->cfg.batch; b++)
		json_array_append_new(lanes, json_pack("[I,I,I]", (json_int_t)t->lane[b].session, (json_int_t)t->lane[b].off,
			(json_int_t)t->lane[b].epoch));
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:o}", "step", (json_int_t)t->step, "tokens", (json_int_t)t->tokens,
		"sessions_started", (json_int_t)t->started, "epoch", (json_int_t)t->epoch, "order_pos", (json_int_t)t->order_pos,
		"bad_steps", (json_int_t)t->bad_steps, "loss_smoothed", hex(t->ema), "loss_smoothed_best", hex(t->best_ema),
		"loss_first", hex(t->first_loss), "lanes", lanes);
}

/* The tensors beside the weights. Masters only where the stored weights are rounded. */
static int extras(struct nssm_trainer *t, struct nssm_extra out[4], bool rounded)
{
	size_t st = (size_t)(t->state[1] - t->state[0]) * (size_t)t->cfg.batch;
	out[0] = (struct nssm_extra){"exp_avg", t->m, t->n_params};
	out[1] = (struct nssm_extra){"exp_avg_sq", t->v, t->n_params};
	out[2] = (struct nssm_extra){"lane_state", t->lane_block, st};
	out[3] = (struct nssm_extra){"master", nssm_mamba2_params(t->model), t->n_params};
	return rounded ? 4 : 3;
}

int nssm_trainer_save(struct nssm_trainer *t, const char *dir, const json_t *extra_json, struct nssm_err *err)
{
	json_t *plan = plan_json(t), *progress = progress_json(t);
	bool rounded = t->cfg.dtype != NSSM_F32;
	json_t *root = json_pack("{s:s,s:i,s:s,s:s,s:b,s:o*,s:o*}", "format", FORMAT, "version", VERSION, "level", t->kern->name,
		"precision", nssm_train_precision_name(t->cfg.precision), "masters", rounded, "plan", plan, "progress", progress);
	if (root == NULL || plan == NULL || progress == NULL) {
		json_decref(root);
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for training.json", dir);
	}
	if (extra_json != NULL)
		json_object_set(root, "extra", (json_t *)extra_json);
	struct nssm_extra ex[4];
	int n = extras(t, ex, rounded);
	int rc = nssm_checkpoint_save(dir, &t->card, nssm_mamba2_params(t->model), t->cfg.dtype, root, ex, n, err);
	json_decref(root);
	return rc;
}

int nssm_trainer_export(struct nssm_trainer *t, const char *dir, const json_t *about, struct nssm_err *err)
{
	return nssm_checkpoint_save(dir, &t->card, nssm_mamba2_params(t->model), t->cfg.dtype, about, NULL, 0, err);
}

static int compare_plan(const struct nssm_trainer *t, const json_t *stored, const char *dir, struct nssm_err *err)
{
	json_t *plan = plan_json(t);
	if (plan == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory to compare plans", dir);
	const char *key;
	json_t *v;
	int rc = 0;
	json_object_foreach(plan, key, v)
	{
		const char *was = json_string_value(json_object_get(stored, key));
		if (rc == 0 && (was == NULL || strcmp(was, json_string_value(v)) != 0))
			rc = nssm_err_set(err, NSSM_EARG, "%s/training.json: this training was begun with %s %s, now it is %s; "
				"resume with the same settings, or start anew with --init", dir, key, was ? was : "(unset)",
				json_string_value(v));
	}
	if (rc == 0 && json_object_size(plan) != json_object_size(stored))
		rc = nssm_err_set(err, NSSM_EARG, "%s/training.json: this training was begun with more corpora", dir);
	json_decref(plan);
	return rc;
}

static int get_int(const json_t *o, const char *key, int64_t lo, int64_t hi, int64_t *out, const char *dir, struct nssm_err *err)
{
	const json_t *v = json_object_get(o, key);
	if (!json_is_integer(v) || json_integer_value(v) < lo || json_integer_value(v) > hi)
		return nssm_err_set(err, NSSM_EFORMAT, "%s/training.json: progress.%s: expected an integer %" PRId64 "..%" PRId64, dir,
			key, lo, hi);
	*out = json_integer_value(v);
	return 0;
}

static int get_hex(const json_t *o, const char *key, double *out, const char *dir, struct nssm_err *err)
{
	const char *s = json_string_value(json_object_get(o, key));
	char *end = NULL;
	*out = s ? strtod(s, &end) : 0;
	if (s == NULL || end == s || *end != '\0')
		return nssm_err_set(err, NSSM_EFORMAT, "%s/training.json: progress.%s: expected a number as text", dir, key);
	return 0;
}

static int take_lanes(struct nssm_trainer *t, const json_t *lanes, const char *dir, struct nssm_err *err)
{
	if (!json_is_array(lanes) || json_array_size(lanes) != (size_t)t->cfg.batch)
		return nssm_err_set(err, NSSM_EFORMAT, "%s/training.json: progress.lanes: expected %d lanes", dir, t->cfg.batch);
	for (int b = 0; b < t->cfg.batch; b++) {
		const json_t *e = json_array_get(lanes, (size_t)b), *s = json_array_get(e, 0), *o = json_array_get(e, 1), *k = json_array_get(e, 2);
		if (!json_is_integer(s) || !json_is_integer(o) || json_integer_value(s) < -1 ||
			json_integer_value(s) >= (json_int_t)t->src.n_sessions || json_integer_value(o) < 0 ||
			(k != NULL && (!json_is_integer(k) || json_integer_value(k) < 0)))
			return nssm_err_set(err, NSSM_EFORMAT, "%s/training.json: progress.lanes[%d]: expected [session, offset, epoch] in "
				"the corpus", dir, b);
		t->lane[b] = (struct lane){.session = json_integer_value(s), .off = (uint64_t)json_integer_value(o),
			.epoch = (uint64_t)json_integer_value(k)}; /* not there: from before there were conditions, which need it */
	}
	return 0;
}

static int take_progress(struct nssm_trainer *t, const json_t *p, const char *dir, struct nssm_err *err)
{
	int64_t tokens = 0, started = 0, epoch = 0, pos = 0;
	int rc;
	if ((rc = get_int(p, "step", 0, t->cfg.steps, &t->step, dir, err)) ||
		(rc = get_int(p, "tokens", 0, INT64_MAX, &tokens, dir, err)) ||
		(rc = get_int(p, "sessions_started", 0, INT64_MAX, &started, dir, err)) ||
		(rc = get_int(p, "epoch", 0, INT64_MAX, &epoch, dir, err)) ||
		(rc = get_int(p, "order_pos", 0, t->src.n_sessions, &pos, dir, err)) ||
		(rc = get_int(p, "bad_steps", 0, INT64_MAX, &t->bad_steps, dir, err)) ||
		(rc = get_hex(p, "loss_smoothed", &t->ema, dir, err)) ||
		(rc = get_hex(p, "loss_smoothed_best", &t->best_ema, dir, err)) ||
		(rc = get_hex(p, "loss_first", &t->first_loss, dir, err)) ||
		(rc = take_lanes(t, json_object_get(p, "lanes"), dir, err)))
		return rc;
	t->tokens = (uint64_t)tokens;
	t->started = (uint64_t)started;
	t->epoch = (uint64_t)epoch;
	t->order_pos = (uint64_t)pos;
	nssm_trainer_shuffle(t);
	return 0;
}

const char *nssm_train_precision_name(enum nssm_weights precision)
{
	return precision == NSSM_WEIGHTS_BF16 ? "bf16" : "fp32";
}

const char *nssm_trainer_stored_precision(const json_t *training)
{
	const char *name = json_string_value(json_object_get(training, "precision"));
	return name ? name : nssm_train_precision_name(NSSM_WEIGHTS_F32);
}

int nssm_trainer_stored_steps(const json_t *training, int64_t *steps, const char *dir, struct nssm_err *err)
{
	const char *s = json_string_value(json_object_get(json_object_get(training, "plan"), "train.steps"));
	char *end = NULL;
	double v = s ? strtod(s, &end) : 0;
	if (s == NULL || *end != '\0' || !(v >= 1 && v <= 1e15))
		return nssm_err_set(err, NSSM_EFORMAT, "%s/training.json: plan.train.steps: expected a number of steps", dir);
	*steps = (int64_t)v;
	return 0;
}

int nssm_trainer_resume(struct nssm_trainer *t, const char *dir, json_t **extra_json, struct nssm_err *err)
{
	json_t *root = NULL;
	int rc = nssm_checkpoint_load_training(&root, dir, err);
	if (rc != 0)
		return rc;
	const char *format = json_string_value(json_object_get(root, "format"));
	json_int_t version = json_integer_value(json_object_get(root, "version"));
	if (format == NULL || strcmp(format, FORMAT) != 0 || version != VERSION)
		rc = nssm_err_set(err, NSSM_EFORMAT, "%s/training.json: expected format " FORMAT " version %d, found %s version %lld",
			dir, VERSION, format ? format : "(none)", (long long)version);
	if (rc == 0)
		rc = compare_plan(t, json_object_get(root, "plan"), dir, err);
	if (rc == 0)
		rc = take_progress(t, json_object_get(root, "progress"), dir, err);
	/* What was stored decides, not how this run will store: rounded weights would be taken for the masters. */
	const json_t *masters = json_object_get(root, "masters");
	bool rounded = masters ? json_is_true(masters) : t->cfg.dtype != NSSM_F32;
	struct nssm_extra ex[4];
	if (rc == 0)
		rc = nssm_checkpoint_load_weights(nssm_mamba2_params(t->model), &t->card, dir, err);
	if (rc == 0) /* after the weights: masters overwrite what was rounded */
		rc = nssm_checkpoint_load_extra(dir, ex, extras(t, ex, rounded), err);
	if (rc == 0)
		nssm_mamba2_pack(t->model, t->team);
	if (extra_json != NULL)
		*extra_json = rc == 0 ? json_incref(json_object_get(root, "extra")) : NULL;
	json_decref(root);
	return rc;
}

/* --- weights of another training ------------------------------------------------------------------------------- */

static int same_sizes(const struct nssm_model_card *a, const struct nssm_model_card *b, const char *dir, struct nssm_err *err)
{
	const struct {
		const char *name;
		int found, want;
	} row[] = {{"d_model", a->cfg.D, b->cfg.D}, {"n_layer", a->cfg.L, b->cfg.L}, {"expand", a->cfg.E / a->cfg.D, b->cfg.E / b->cfg.D},
		{"headdim", a->cfg.P, b->cfg.P}, {"n_context", a->cfg.n_context, b->cfg.n_context}, {"d_state", a->cfg.N, b->cfg.N}, {"d_conv", a->cfg.K, b->cfg.K}};
	for (size_t i = 0; i < sizeof row / sizeof *row; i++)
		if (row[i].found != row[i].want)
			return nssm_err_set(err, NSSM_EARG, "%s/config.json: %s: this training has %d, found %d", dir, row[i].name,
				row[i].want, row[i].found);
	/* Another packet length or end is a thing to learn; another token layout makes the weights meaningless. */
	if (a->codec.kind != b->codec.kind || a->codec.version != b->codec.version)
		return nssm_err_set(err, NSSM_EARG, "%s/netssm.json: its codec is another kind or version than this training's", dir);
	return 0;
}

static void take_weights(struct nssm_trainer *t, const float *from, const struct nssm_model_card *card,
	const struct nssm_tensor *tensor, uint32_t *n_new)
{
	float *to = nssm_mamba2_params(t->model);
	size_t D = (size_t)card->cfg.D;
	uint16_t map[NSSM_VOCAB_MAX];
	nssm_train_id_map(map, &t->card.vocab, &card->vocab);
	*n_new = 0;
	for (uint32_t id = 0; id < t->card.vocab.n_tokens; id++)
		if (map[id] != 0xffff)
			memcpy(to + t->tensor[0].offset + id * D, from + tensor[0].offset + map[id] * D, D * sizeof *to);
		else
			*n_new += t->card.vocab.kind[id] == NSSM_TOK_LABEL;
	int n = nssm_mamba2_tensors(&card->cfg, NULL);
	for (int i = 1; i < t->n_tensors && i < n; i++) /* the last: condition rows, which one of them may lack */
		memcpy(to + t->tensor[i].offset, from + tensor[i].offset, tensor[i].n * sizeof *to);
}

int nssm_trainer_init_from(struct nssm_trainer *t, const char *dir, uint32_t *n_new, struct nssm_err *err)
{
	struct nssm_model_card card;
	int rc = nssm_checkpoint_load_card(&card, dir, err);
	if (rc != 0)
		return rc;
	rc = same_sizes(&card, &t->card, dir, err);
	struct nssm_tensor *tensor = calloc((size_t)nssm_mamba2_tensors(&card.cfg, NULL), sizeof *tensor);
	float *from = rc == 0 ? calloc(nssm_mamba2_param_floats(&card.cfg), sizeof *from) : NULL;
	if (rc == 0 && (tensor == NULL || from == NULL))
		rc = nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for its weights", dir);
	if (rc == 0)
		rc = nssm_checkpoint_load_weights(from, &card, dir, err);
	if (rc == 0) {
		nssm_mamba2_tensors(&card.cfg, tensor);
		take_weights(t, from, &card, tensor, n_new);
	}
	free(from);
	free(tensor);
	nssm_model_card_free(&card);
	return rc;
}
