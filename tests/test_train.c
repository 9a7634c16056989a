/* Training: it learns, it resumes to the same bits, it notices when it goes wrong. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/philox.h"
#include "model/codec_flow.h"
#include "model/train.h"

static char dir[] = "/tmp/nssm_train_XXXXXX";

static char *in_dir(char buf[128], const char *name)
{
	snprintf(buf, 128, "%s/%s", dir, name);
	return buf;
}

/* A corpus of made-up sessions: label k counts bytes up in steps of k+1 from a random start. Lengths vary. */
struct made {
	const char *name, *labels[3];
	int n_labels, n_sessions;
	int n_tiny;        /* the first so many hold label and end only */
	uint32_t len;      /* bytes a session; 0: 20..219 */
	uint32_t pkt_len;  /* of the codec; 0: 128 */
	bool reversed;     /* the id table runs backwards; labels must be given so that their ids ascend */
	int stray_in;      /* label index + 1 that stands in the middle of the first session */
	uint64_t seed;
};

/* The table with id i in the place of n−1−i. */
static void reverse(struct nssm_vocab *v)
{
	const struct nssm_vocab was = *v;
	uint16_t last = (uint16_t)(v->n_tokens - 1);
	for (int i = 0; i < 256; i++)
		v->byte_id[i] = (uint16_t)(last - was.byte_id[i]);
	v->unk = (uint16_t)(last - was.unk);
	v->eot = (uint16_t)(last - was.eot);
	v->pad = (uint16_t)(last - was.pad);
	v->pkt = (uint16_t)(last - was.pkt);
	for (uint32_t i = 0; i < v->n_labels; i++)
		v->label[i].id = (uint16_t)i;
	for (uint32_t id = 0; id < v->n_tokens; id++) {
		v->kind[id] = was.kind[last - id];
		v->value[id] = v->kind[id] == NSSM_TOK_LABEL ? (uint16_t)id : was.value[last - id];
	}
}

static void make_corpus(const struct made *c)
{
	char path[128];
	struct nssm_codec_cfg codec = {.kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = c->pkt_len ? c->pkt_len : 128};
	struct nssm_vocab *v = calloc(1, sizeof *v);
	struct nssm_label_stats *stats = calloc((size_t)c->n_labels, sizeof *stats);
	struct nssm_corpus_writer *w;
	struct nssm_rng rng;
	nssm_rng_init(&rng, c->seed, 0, 99);
	nssm_vocab_init(v);
	for (int i = 0; i < c->n_labels; i++)
		assert_int_equal(nssm_vocab_add_label(v, c->labels[i], NULL), i);
	if (c->reversed)
		reverse(v);
	assert_int_equal(nssm_corpus_create(&w, in_dir(path, c->name), &codec, NULL), 0);
	for (int s = 0; s < c->n_sessions; s++) {
		/* In reversed tables labels stand the other way round: session s has the same label in both. */
		uint32_t nth = (uint32_t)(s % c->n_labels), label = c->reversed ? (uint32_t)c->n_labels - 1 - nth : nth;
		uint32_t n = s < c->n_tiny ? 0 : c->len ? c->len : 20 + nssm_rng_below(&rng, 200);
		uint8_t byte = (uint8_t)nssm_rng_u32(&rng);
		assert_int_equal(nssm_corpus_append(w, &v->label[label].id, 1, NULL), 0);
		for (uint32_t i = 0; i < n; i++, byte = (uint8_t)(byte + 1 + (c->labels[label][0] - 'a'))) {
			bool stray = s == 0 && i == n / 2 && c->stray_in > 0;
			assert_int_equal(nssm_corpus_append(w, stray ? &v->label[c->stray_in - 1].id : &v->byte_id[byte], 1, NULL), 0);
		}
		assert_int_equal(nssm_corpus_append(w, &v->eot, 1, NULL), 0);
		struct nssm_session_info info = {.label_idx = label, .n_packets = 1, .n_flows = 1};
		assert_int_equal(nssm_corpus_end_session(w, &info, NULL), 0);
		stats[label].n_sessions++;
		stats[label].n_tokens += n + 2;
	}
	assert_int_equal(nssm_corpus_commit(&w, v, stats, NULL, NULL), 0);
	free(v);
	free(stats);
}

struct rig {
	struct nssm_corpus *corpus, *val;
	struct nssm_team *team;
	struct nssm_trainer *t;
	struct nssm_model_card card;
};

static const struct nssm_train_cfg base_cfg = {.batch = 3, .seq_tokens = 64, .grad_accum = 2, .steps = 60, .warmup = 5, .seed = 7,
	.lr = 1e-2f, .lr_min = 1e-4f, .weight_decay = 0.1f, .beta1 = 0.9f, .beta2 = 0.95f, .adam_eps = 1e-8f, .clip = 1};

static bool condition_rows; /* models have rows for their conditions, as cmd_train makes them */

/* Everything but the trainer. */
static void rig_prepare(struct rig *r, const char *corpus, const char *val, int threads, int vocab_multiple)
{
	struct nssm_err err = {0};
	char path[128], vpath[128];
	const char *paths[] = {in_dir(path, corpus)};
	*r = (struct rig){0};
	if (nssm_corpus_open(&r->corpus, paths[0], true, &err) != 0)
		fail_msg("%s", err.msg);
	if (val != NULL && nssm_corpus_open(&r->val, in_dir(vpath, val), true, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(nssm_team_open(&r->team, threads, NULL), 0);
	assert_int_equal(nssm_train_card(&r->card, &r->corpus, paths, 1, &err), 0);
	assert_int_equal(nssm_mamba2_cfg_init(&r->card.cfg, 16, 2, 2, 16, 16, 4, (int)r->card.vocab.n_tokens, vocab_multiple, 16, &err), 0);
	r->card.cfg.n_context = (int)nssm_codec_n_contexts(&r->card.codec);
	if (condition_rows)
		r->card.cfg.n_cond = (int)r->card.codec.conditions;
}

static int rig_trainer(struct rig *r, const struct nssm_train_cfg *cfg, struct nssm_err *err)
{
	return nssm_trainer_open(&r->t, cfg, &r->card, &r->corpus, 1, r->val, nssm_kernels_get(NULL), r->team, err);
}

static void rig_open(struct rig *r, const struct nssm_train_cfg *cfg, const char *corpus, const char *val, int threads)
{
	struct nssm_err err = {0};
	rig_prepare(r, corpus, val, threads, 16);
	if (rig_trainer(r, cfg, &err) != 0)
		fail_msg("%s", err.msg);
}

static void rig_close(struct rig *r)
{
	nssm_trainer_close(&r->t);
	nssm_model_card_free(&r->card);
	nssm_team_close(&r->team);
	nssm_corpus_close(&r->corpus);
	nssm_corpus_close(&r->val);
}

static struct nssm_train_stats must_step(struct rig *r)
{
	struct nssm_train_stats st;
	struct nssm_err err = {0};
	if (nssm_trainer_step(r->t, &st, &err) != 0)
		fail_msg("%s", err.msg);
	return st;
}

static void test_learns(void **unused)
{
	enum { STEPS = 120 };
	struct rig r;
	struct nssm_train_cfg cfg = base_cfg;
	cfg.steps = STEPS;
	cfg.lr = 3e-2f;
	rig_open(&r, &cfg, "a.nssm", "b.nssm", 2);
	struct nssm_train_stats st = {0};
	double first = 0, val0, val1;
	uint64_t n, want = 0;
	assert_int_equal(nssm_trainer_validate(r.t, &val0, &n, NULL), 0);
	assert_true(fabs(val0 - log(262)) < 0.3); /* untrained: every token alike */
	for (int i = 0; i < STEPS; i++) {
		st = must_step(&r);
		first = i == 0 ? st.loss : first;
	}
	assert_int_equal(st.step, STEPS);
	/* The start and the length are random, the rest follows from the label: learned means far below the start. */
	assert_true(st.loss_ema < 0.5 * first);
	assert_int_equal(nssm_trainer_validate(r.t, &val1, &n, NULL), 0);
	assert_true(val1 < 0.5 * val0);
	/* b.nssm numbers its labels the other way round and has one that training lacks; of the others every token but the
	 * label is predicted, once. */
	assert_int_equal(nssm_trainer_val_unknown(r.t), 10);
	for (uint32_t i = 0; i < nssm_corpus_n_sessions(r.val); i++) {
		const struct nssm_session_info *s = nssm_corpus_session(r.val, i);
		want += s->label_idx == 2 ? 0 : s->n_tokens - 1; /* "c" */
	}
	assert_int_equal(n, want);
	rig_close(&r);
}

static void test_resume_gives_the_same_bits(void **unused)
{
	enum { STEPS = 16, SAVED = 7 };
	char ckpt[128];
	double want[STEPS];
	/* How the first half stores its weights and how the second half does is not part of the plan. */
	static const enum nssm_dtype dtype[][2] = {{NSSM_F32, NSSM_F32}, {NSSM_BF16, NSSM_BF16}, {NSSM_BF16, NSSM_F32},
		{NSSM_F32, NSSM_BF16}};
	for (size_t d = 0; d < sizeof dtype / sizeof *dtype; d++) {
		struct nssm_train_cfg cfg = base_cfg;
		cfg.dtype = dtype[d][0];
		struct rig r;
		rig_open(&r, &cfg, "a.nssm", NULL, 1);
		for (int i = 0; i < STEPS; i++) {
			if (i == SAVED) {
				json_t *own = json_pack("{s:i}", "mine", 42);
				assert_int_equal(nssm_trainer_save(r.t, in_dir(ckpt, "ckpt"), own, NULL), 0);
				json_decref(own);
			}
			want[i] = must_step(&r).loss;
		}
		rig_close(&r);
		cfg.dtype = dtype[d][1];
		rig_open(&r, &cfg, "a.nssm", NULL, 2); /* another number of threads changes nothing */
		struct nssm_err err;
		json_t *own = NULL;
		if (nssm_trainer_resume(r.t, ckpt, &own, &err) != 0)
			fail_msg("%s", err.msg);
		assert_int_equal(json_integer_value(json_object_get(own, "mine")), 42);
		json_decref(own);
		for (int i = SAVED; i < STEPS; i++)
			assert_true(must_step(&r).loss == want[i]);
		rig_close(&r);
	}
}

/* In bf16, too, a run resumes to the same bits, with any number of threads; in the other precision it goes on with losses that are
 * its own, and its checkpoint says which it was. */
static void test_resume_in_another_precision(void **unused)
{
	enum { STEPS = 12, SAVED = 5 };
	static const enum nssm_weights precision[][2] = {{NSSM_WEIGHTS_BF16, NSSM_WEIGHTS_BF16},
		{NSSM_WEIGHTS_F32, NSSM_WEIGHTS_BF16}, {NSSM_WEIGHTS_BF16, NSSM_WEIGHTS_F32}};
	char ckpt[128];
	double want[STEPS];
	for (size_t p = 0; p < sizeof precision / sizeof *precision; p++) {
		struct nssm_train_cfg cfg = base_cfg;
		struct rig r;
		json_t *training;
		cfg.precision = precision[p][0];
		rig_open(&r, &cfg, "a.nssm", NULL, 1);
		for (int i = 0; i < STEPS; i++) {
			if (i == SAVED)
				assert_int_equal(nssm_trainer_save(r.t, in_dir(ckpt, "ckpt"), NULL, NULL), 0);
			want[i] = must_step(&r).loss;
		}
		rig_close(&r);
		assert_int_equal(nssm_checkpoint_load_training(&training, ckpt, NULL), 0);
		assert_string_equal(nssm_trainer_stored_precision(training), nssm_train_precision_name(precision[p][0]));
		json_decref(training);
		cfg.precision = precision[p][1];
		rig_open(&r, &cfg, "a.nssm", NULL, 2);
		assert_int_equal(nssm_trainer_resume(r.t, ckpt, NULL, NULL), 0);
		for (int i = SAVED; i < STEPS; i++) {
			double loss = must_step(&r).loss;
			if (precision[p][0] == precision[p][1])
				assert_true(loss == want[i]);
			else
				assert_true(loss != want[i] && fabs(loss - want[i]) < 0.02 * want[i]);
		}
		rig_close(&r);
	}
}

static void moves_nothing(const char *corpus, const char *val)
{
	double want[6], loss, s = 0;
	uint64_t n;
	struct rig r;
	rig_open(&r, &base_cfg, corpus, val, 2);
	for (int i = 0; i < 6; i++)
		want[i] = must_step(&r).loss;
	rig_close(&r);
	rig_open(&r, &base_cfg, corpus, val, 2);
	for (int i = 0; i < 6; i++) {
		if (i % 3 == 0)
			assert_int_equal(nssm_trainer_measure(r.t, &s, NULL), 0);
		if (i % 2 == 0)
			assert_int_equal(nssm_trainer_validate(r.t, &loss, &n, NULL), 0);
		assert_true(s > 0);
		assert_true(must_step(&r).loss == want[i]);
	}
	rig_close(&r);
}

static void test_another_plan_is_refused(void **unused)
{
	struct rig r;
	char ckpt[128];
	struct nssm_err err;
	rig_open(&r, &base_cfg, "a.nssm", NULL, 1);
	must_step(&r);
	assert_int_equal(nssm_trainer_save(r.t, in_dir(ckpt, "plan"), NULL, NULL), 0);
	rig_close(&r);
	struct nssm_train_cfg cfg = base_cfg;
	cfg.lr = 2e-2f;
	rig_open(&r, &cfg, "a.nssm", NULL, 1);
	assert_int_equal(nssm_trainer_resume(r.t, ckpt, NULL, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "train.lr"));
	rig_close(&r);
	rig_open(&r, &base_cfg, "b.nssm", NULL, 1);
	assert_int_equal(nssm_trainer_resume(r.t, ckpt, NULL, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "corpus"));
	rig_close(&r);
}

/* Doubles hold 53 bits; a seed has 64. */
static void test_seeds_are_told_apart(void **unused)
{
	struct nssm_train_cfg cfg = base_cfg;
	struct nssm_err err = {0};
	struct rig r;
	char ckpt[128];
	double loss[3];
	static const uint64_t seed[3] = {7, 7 + (1ull << 32), 1ull << 60};
	for (int i = 0; i < 3; i++) {
		cfg.seed = seed[i];
		rig_open(&r, &cfg, "a.nssm", NULL, 1);
		loss[i] = must_step(&r).loss;
		assert_int_equal(nssm_trainer_save(r.t, in_dir(ckpt, "seed"), NULL, NULL), 0);
		rig_close(&r);
	}
	assert_true(loss[0] != loss[1] && loss[1] != loss[2]);
	cfg.seed++;
	rig_open(&r, &cfg, "a.nssm", NULL, 1);
	assert_int_equal(nssm_trainer_resume(r.t, ckpt, NULL, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "train.seed"));
	rig_close(&r);
}

static void test_nonsense_is_noticed(void **unused)
{
	struct rig r;
	struct nssm_train_cfg cfg = base_cfg;
	struct nssm_train_stats st;
	struct nssm_err err = {0};
	rig_open(&r, &cfg, "a.nssm", NULL, 1);
	must_step(&r);
	size_t n;
	float *p = nssm_trainer_params(r.t, &n);
	p[3] = NAN; /* the embedding of a byte that occurs */
	for (int i = 0; i < 3; i++)
		for (size_t k = 0; k < n; k++)
			p[k] = k % 7 == 0 ? NAN : p[k];
	int rc = 0;
	for (int i = 0; i < 3 && rc == 0; i++)
		rc = nssm_trainer_step(r.t, &st, &err); /* packed weights take the NaN in with the first step */
	assert_int_equal(rc, NSSM_ENUM);
	assert_non_null(strstr(err.msg, "not finite"));
	rig_close(&r);

	cfg.lr = 10;
	cfg.clip = 0;
	cfg.batch = cfg.grad_accum = 1;
	cfg.seq_tokens = 32;
	cfg.warmup = 0;
	cfg.steps = 400;
	rig_open(&r, &cfg, "a.nssm", NULL, 1);
	rc = 0;
	for (int i = 0; i < 400 && rc == 0; i++)
		rc = nssm_trainer_step(r.t, &st, &err);
	assert_int_equal(rc, NSSM_ENUM);
	rig_close(&r);
}

/* Sessions of two tokens: more borders than a segment takes are spread out with padding that scores nothing, and every
 * prediction of the corpus is still made once an epoch. */
static void test_tiny_sessions_are_all_seen(void **unused)
{
	struct rig r;
	struct nssm_train_cfg cfg = base_cfg;
	cfg.batch = 2;
	cfg.grad_accum = 1;
	rig_open(&r, &cfg, "tiny.nssm", NULL, 1);
	uint64_t epoch = nssm_trainer_epoch_tokens(r.t), before = 0;
	struct nssm_train_stats st = {0};
	while (st.epoch < 1.0) {
		before = st.tokens;
		st = must_step(&r);
	}
	assert_true(st.tokens >= epoch && before <= epoch);
	rig_close(&r);
}

/* One session of 100 predictions: 16 epochs of it are 25 rows of 64, to the token. */
static void test_every_token_counts_once(void **unused)
{
	struct rig r;
	struct nssm_train_cfg cfg = base_cfg;
	cfg.batch = cfg.grad_accum = 1;
	rig_open(&r, &cfg, "one.nssm", NULL, 1);
	assert_int_equal(nssm_trainer_epoch_tokens(r.t), 100);
	struct nssm_train_stats st = {0};
	for (int i = 0; i < 25; i++)
		st = must_step(&r);
	assert_int_equal(st.tokens, 1600);
	assert_true(st.epoch == 16);
	rig_close(&r);
}

/* Sessions that are all alike: however much padding lies between them, the mean gradient is the same. */
static void test_padding_does_not_shrink_steps(void **unused)
{
	double norm[2];
	for (int i = 0; i < 2; i++) {
		struct rig r;
		struct nssm_train_cfg cfg = base_cfg;
		cfg.batch = i + 1;
		cfg.seq_tokens = i == 0 ? 16 : 64; /* 1 of 16 and 3 of 64 positions are scored */
		rig_open(&r, &cfg, "alike.nssm", NULL, 1);
		struct nssm_train_stats st = must_step(&r);
		assert_int_equal(st.tokens, i == 0 ? 2 : 12);
		norm[i] = st.grad_norm;
		rig_close(&r);
	}
	assert_true(fabs(norm[0] - norm[1]) <= 1e-4 * norm[0]);
}

static void test_learning_rate(void **unused)
{
	static const struct {
		int64_t steps, warmup;
		int n;
		double want[3]; /* the first ones: parts of (lr − lr_min) above lr_min */
	} c[] = {{1, 5, 1, {1}}, {2, 5, 2, {1, 0}}, {3, 0, 3, {1, 0.5, 0}}, {9, 5, 2, {1, 0.9619397662556434}}, {10, 5, 3, {1, 1, 0.9619397662556434}}};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct nssm_train_cfg cfg = base_cfg;
		cfg.batch = cfg.grad_accum = 1;
		cfg.seq_tokens = 16;
		cfg.steps = c[i].steps;
		cfg.warmup = c[i].warmup;
		struct rig r;
		rig_open(&r, &cfg, "a.nssm", NULL, 1);
		double lr = 0;
		for (int k = 0; k < c[i].steps; k++) {
			lr = must_step(&r).lr;
			if (k < c[i].n)
				assert_true(fabs(lr - (double)cfg.lr_min - c[i].want[k] * (double)(cfg.lr - cfg.lr_min)) <= 1e-8);
		}
		if (c[i].steps > 1)
			assert_true(fabs(lr - (double)cfg.lr_min) <= 1e-8);
		rig_close(&r);
	}
	struct nssm_train_cfg cfg = base_cfg;
	cfg.steps = 30;
	struct rig r;
	rig_open(&r, &cfg, "a.nssm", NULL, 1);
	for (int k = 1; k <= 3; k++) /* a tenth of 30 */
		assert_true(fabs(must_step(&r).lr - k * (double)cfg.lr / 3) <= 1e-8);
	rig_close(&r);
}

/* The weights after one step. */
static float *stepped(const struct nssm_train_cfg *cfg, struct nssm_train_stats *st, float **before, size_t *n)
{
	struct rig r;
	rig_open(&r, cfg, "a.nssm", NULL, 1);
	float *p = nssm_trainer_params(r.t, n), *after = malloc(*n * sizeof *after);
	*before = malloc(*n * sizeof **before);
	memcpy(*before, p, *n * sizeof *p);
	*st = must_step(&r);
	memcpy(after, p, *n * sizeof *p);
	rig_close(&r);
	return after;
}

/* Decay moves matrices by lr·wd·p and nothing else at all. */
static void test_decay_is_for_matrices(void **unused)
{
	static const char *const decays[] = {"embedding.weight", "in_proj.weight", "conv1d.weight", "out_proj.weight"};
	struct nssm_train_cfg cfg = base_cfg;
	struct nssm_train_stats st;
	struct rig r;
	struct nssm_tensor t[64];
	float *p0, *p0_too;
	size_t n;
	cfg.steps = 1;
	cfg.weight_decay = 0;
	float *without = stepped(&cfg, &st, &p0, &n);
	cfg.weight_decay = 0.5f;
	float *with = stepped(&cfg, &st, &p0_too, &n);
	assert_memory_equal(p0, p0_too, n * sizeof *p0);
	rig_prepare(&r, "a.nssm", NULL, 1, 16);
	int nt = nssm_mamba2_tensors(&r.card.cfg, t);
	rig_close(&r);
	for (int i = 0; i < nt; i++) {
		bool decay = false;
		for (int k = 0; k < 4; k++)
			decay = decay || strstr(t[i].name, decays[k]) != NULL;
		for (size_t j = t[i].offset; j < t[i].offset + t[i].n; j++) {
			double want = decay ? (double)without[j] - st.lr * 0.5 * (double)p0[j] : (double)without[j];
			if (!(fabs((double)with[j] - want) <= (decay ? 1e-6 : 0)))
				fail_msg("%s[%zu]: %.9g, expected %.9g", t[i].name, j - t[i].offset, (double)with[j], want);
		}
	}
	free(without);
	free(with);
	free(p0);
	free(p0_too);
}

/* Without moments and with an epsilon far above the gradient a step is −lr·g: its length says what was clipped. */
static void test_clip_is_on_the_global_norm(void **unused)
{
	struct nssm_train_cfg cfg = base_cfg;
	cfg.steps = 1;
	cfg.weight_decay = cfg.beta1 = cfg.beta2 = 0;
	cfg.adam_eps = 1;
	cfg.lr = cfg.lr_min = 1;
	static const float clip[] = {1e-3f, 3e-3f};
	for (int i = 0; i < 2; i++) {
		cfg.clip = clip[i];
		struct nssm_train_stats st;
		size_t n;
		float *before, *after = stepped(&cfg, &st, &before, &n);
		double sum = 0;
		for (size_t j = 0; j < n; j++)
			sum += ((double)after[j] - (double)before[j]) * ((double)after[j] - (double)before[j]);
		assert_true(st.grad_norm > 10 * (double)clip[i]);
		assert_true(fabs(sqrt(sum) - (double)clip[i]) <= 0.01 * (double)clip[i]);
		free(before);
		free(after);
	}
}

/* Ids are data: a corpus in a reversed table holds the same sessions. */
static void test_other_id_tables_mean_the_same(void **unused)
{
	double loss[2];
	uint64_t n[2];
	for (int i = 0; i < 2; i++) {
		struct rig r;
		rig_open(&r, &base_cfg, "a.nssm", i == 0 ? "a.nssm" : "reversed.nssm", 1);
		must_step(&r);
		assert_int_equal(nssm_trainer_validate(r.t, &loss[i], &n[i], NULL), 0);
		rig_close(&r);
	}
	assert_int_equal(n[0], n[1]);
	assert_true(loss[0] == loss[1]);
}

static void test_another_codec_is_refused(void **unused)
{
	struct rig r;
	struct nssm_err err = {0};
	rig_prepare(&r, "a.nssm", "short.nssm", 1, 16);
	assert_int_equal(rig_trainer(&r, &base_cfg, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "106"));
	assert_non_null(r.card.iat); /* still the caller's, who frees it */
	char p0[128], p1[128];
	const char *paths[] = {in_dir(p0, "a.nssm"), in_dir(p1, "short.nssm")};
	struct nssm_corpus *both[] = {r.corpus, r.val};
	struct nssm_model_card card;
	assert_int_equal(nssm_train_card(&card, both, paths, 2, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "short.nssm"));
	assert_non_null(strstr(err.msg, "106"));
	rig_close(&r);
}

/* Sessions of n bytes that only the first condition foretells, one of eight; some stand where packets begin, so that contexts differ. */
static void make_conditioned(const char *name, int n_sessions, int n_bytes, uint64_t seed)
{
	char path[128];
	struct nssm_codec_cfg codec = {.kind = NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .conditions = NSSM_N_CONDITIONS};
	struct nssm_vocab *v = calloc(1, sizeof *v);
	struct nssm_label_stats stats = {.n_sessions = (uint64_t)n_sessions};
	struct nssm_corpus_writer *w;
	struct nssm_rng rng;
	nssm_rng_init(&rng, seed, 0, 99);
	nssm_vocab_init(v);
	assert_int_equal(nssm_vocab_add_label(v, "a", NULL), 0);
	assert_int_equal(nssm_corpus_create(&w, in_dir(path, name), &codec, NULL), 0);
	for (int s = 0; s < n_sessions; s++) {
		uint8_t cond[NSSM_N_CONDITIONS];
		uint16_t t[NSSM_CODEC_HEAD_MAX + 128];
		for (int i = 0; i < NSSM_N_CONDITIONS; i++)
			cond[i] = (uint8_t)(1 + nssm_rng_below(&rng, 8));
		size_t n = nssm_codec_head(t, &codec, v, 0, cond);
		for (int i = 0; i < n_bytes; i++)
			t[n++] = i % 3 == 2 ? v->pkt : v->byte_id[100 + cond[0]];
		t[n++] = v->eot;
		assert_int_equal(nssm_corpus_append(w, t, n, NULL), 0);
		struct nssm_session_info info = {.n_packets = 1, .n_flows = 1};
		assert_int_equal(nssm_corpus_end_session(w, &info, NULL), 0);
		stats.n_tokens += n;
	}
	assert_int_equal(nssm_corpus_commit(&w, v, &stats, NULL, NULL), 0);
	free(v);
}

/* Conditions are told and not predicted; hidden in as many sessions as asked; validation sees them all. */
static void test_conditions_are_hidden_now_and_then(void **unused)
{
	enum { STEPS = 300, LAST = 100 };
	static const struct {
		float dropout;
		double lo, hi; /* of ln 8 / 2, all that the condition tells */
	} row[] = {{0, 0, 0.15}, {0.3f, 0.2, 0.45}, {1, 0.95, 1.3}};
	make_conditioned("cond.nssm", 64, 1, 5);
	for (size_t both = 0; both < 2 * sizeof row / sizeof *row; both++) {
		size_t k = both / 2;
		condition_rows = both % 2 == 1;
		struct nssm_train_cfg cfg = base_cfg;
		cfg.steps = STEPS;
		cfg.lr = 2e-2f;
		cfg.condition_dropout = row[k].dropout;
		struct rig r;
		rig_open(&r, &cfg, "cond.nssm", "cond.nssm", 1);
		assert_int_equal(nssm_trainer_epoch_tokens(r.t), 2 * 64);
		double loss = 0, val;
		uint64_t n;
		for (int i = 0; i < STEPS; i++) {
			double l = must_step(&r).loss;
			loss += i >= STEPS - LAST ? l / LAST / (log(8) / 2) : 0;
		}
		if (!(loss >= row[k].lo && loss <= row[k].hi))
			fail_msg("dropout %g: loss %g of what the condition tells; expected %g..%g", (double)row[k].dropout, loss, row[k].lo,
				row[k].hi);
		assert_int_equal(nssm_trainer_validate(r.t, &val, &n, NULL), 0);
		assert_int_equal(n, 2 * 64);
		assert_true(k == 2 ? val > 0.8 * log(8) / 2 : val < 0.15 * log(8) / 2);
		rig_close(&r);
	}
	condition_rows = false;
}

static void test_measuring_and_validating_move_nothing(void **unused)
{
	moves_nothing("a.nssm", "b.nssm");
	make_conditioned("cond.nssm", 7, 100, 8); /* with contexts, cut anywhere */
	moves_nothing("cond.nssm", "cond.nssm");
}

/* What is hidden hangs on the session and the epoch that it began in, not on where a run was taken up. */
static void test_hidden_conditions_resume(void **unused)
{
	enum { STEPS = 12 };
	char ckpt[128];
	make_conditioned("cond.nssm", 4, 34, 6);
	struct nssm_train_cfg cfg = base_cfg;
	cfg.seq_tokens = 61; /* of sessions of 40: 40 + 21, 19 + 40 + 2: a piece ends between conditions */
	cfg.grad_accum = 1;
	cfg.condition_dropout = 0.5f;
	condition_rows = true;
	double want[STEPS];
	struct rig r;
	rig_open(&r, &cfg, "cond.nssm", NULL, 1);
	for (int i = 0; i < STEPS; i++) {
		char name[16];
		snprintf(name, sizeof name, "cond%d", i);
		assert_int_equal(nssm_trainer_save(r.t, in_dir(ckpt, name), NULL, NULL), 0);
		want[i] = must_step(&r).loss;
	}
	rig_close(&r);
	for (int from = 1; from < STEPS; from++) {
		char name[16];
		struct nssm_err err = {0};
		snprintf(name, sizeof name, "cond%d", from);
		rig_open(&r, &cfg, "cond.nssm", NULL, 1);
		if (nssm_trainer_resume(r.t, in_dir(ckpt, name), NULL, &err) != 0)
			fail_msg("%s", err.msg);
		for (int i = from; i < STEPS; i++)
			assert_true(must_step(&r).loss == want[i]);
		rig_close(&r);
	}
	cfg.condition_dropout = 0.4f;
	struct nssm_err err = {0};
	rig_open(&r, &cfg, "cond.nssm", NULL, 1);
	assert_int_equal(nssm_trainer_resume(r.t, ckpt, NULL, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "condition_dropout"));
	rig_close(&r);
	condition_rows = false;
}

/* A label that training lacks, in the middle of a session where no label belongs. */
static void test_unknown_tokens_are_an_error(void **unused)
{
	struct rig r;
	struct nssm_err err = {0};
	double loss;
	uint64_t n;
	rig_open(&r, &base_cfg, "a.nssm", "stray.nssm", 1);
	assert_int_equal(nssm_trainer_validate(r.t, &loss, &n, &err), NSSM_EFORMAT);
	assert_non_null(strstr(err.msg, "id 262"));
	rig_close(&r);
}

/* Another checkpoint as a start: its labels stand in another order, or one is missing and the vocabulary is padded otherwise. */
static void test_weights_of_another_training(void **unused)
{
	static const struct {
		const char *corpus;
		int multiple;
		uint32_t n_new;
	} c[] = {{"a.nssm", 16, 0}, {"reversed.nssm", 1, 0}, {"b.nssm", 1, 1}};
	struct rig r;
	char ckpt[128];
	struct nssm_err err = {0};
	struct nssm_train_cfg cfg = base_cfg;
	double want, got;
	uint64_t n;
	rig_open(&r, &cfg, "ba.nssm", "a.nssm", 1);
	for (int i = 0; i < 3; i++)
		must_step(&r);
	assert_int_equal(nssm_trainer_validate(r.t, &want, &n, NULL), 0);
	assert_int_equal(nssm_trainer_export(r.t, in_dir(ckpt, "start"), NULL, NULL), 0);
	float *trained = nssm_trainer_params(r.t, NULL);
	const struct nssm_vocab v = nssm_trainer_card(r.t)->vocab;
	cfg.seed = 99;
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct rig s;
		uint32_t n_new = 77;
		rig_prepare(&s, c[i].corpus, "a.nssm", 1, c[i].multiple);
		assert_int_equal(rig_trainer(&s, &cfg, &err), 0);
		if (nssm_trainer_init_from(s.t, ckpt, &n_new, &err) != 0)
			fail_msg("%s", err.msg);
		assert_int_equal(n_new, c[i].n_new);
		const struct nssm_model_card *card = nssm_trainer_card(s.t);
		const float *p = nssm_trainer_params(s.t, NULL);
		size_t D = (size_t)card->cfg.D;
		for (int k = 0; k < 2; k++) {
			const char *name = k ? "b" : "a";
			size_t to = card->vocab.label[nssm_vocab_find_label(&card->vocab, name)].id;
			size_t from = v.label[nssm_vocab_find_label(&v, name)].id;
			assert_memory_equal(p + to * D, trained + from * D, D * sizeof *p);
		}
		assert_int_equal(nssm_trainer_validate(s.t, &got, &n, NULL), 0);
		if (n_new == 0)
			assert_true(fabs(got - want) <= 1e-5 * want);
		rig_close(&s);
	}
	struct rig s;
	rig_prepare(&s, "a.nssm", NULL, 1, 16);
	assert_int_equal(nssm_mamba2_cfg_init(&s.card.cfg, 32, 2, 1, 16, 16, 4, (int)s.card.vocab.n_tokens, 16, 16, &err), 0);
	assert_int_equal(rig_trainer(&s, &cfg, &err), 0);
	uint32_t n_new;
	assert_int_equal(nssm_trainer_init_from(s.t, ckpt, &n_new, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "d_model"));
	rig_close(&s);
	rig_close(&r);
}

static void test_empty_corpus_is_refused(void **unused)
{
	struct rig r;
	struct nssm_err err = {0};
	rig_prepare(&r, "none.nssm", NULL, 1, 16);
	assert_int_equal(rig_trainer(&r, &base_cfg, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "nothing to learn"));
	rig_close(&r);
}

static int setup(void **unused)
{
	static const struct made all[] = {
		{.name = "a.nssm", .labels = {"a", "b"}, .n_labels = 2, .n_sessions = 40, .seed = 1},
		{.name = "b.nssm", .labels = {"b", "a", "c"}, .n_labels = 3, .n_sessions = 30, .seed = 2},
		{.name = "ba.nssm", .labels = {"b", "a"}, .n_labels = 2, .n_sessions = 20, .seed = 5},
		{.name = "tiny.nssm", .labels = {"a", "b"}, .n_labels = 2, .n_sessions = 500, .n_tiny = 490, .seed = 3},
		{.name = "alike.nssm", .labels = {"a"}, .n_labels = 1, .n_sessions = 9, .n_tiny = 9},
		{.name = "one.nssm", .labels = {"a"}, .n_labels = 1, .n_sessions = 1, .len = 99, .seed = 4},
		{.name = "reversed.nssm", .labels = {"b", "a"}, .n_labels = 2, .n_sessions = 40, .reversed = true, .seed = 1},
		{.name = "short.nssm", .labels = {"a", "b"}, .n_labels = 2, .n_sessions = 2, .pkt_len = 106},
		{.name = "stray.nssm", .labels = {"a", "b", "c"}, .n_labels = 3, .n_sessions = 2, .stray_in = 3},
		{.name = "none.nssm", .labels = {"a"}, .n_labels = 1},
	};
	if (mkdtemp(dir) == NULL)
		return -1;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		make_corpus(&all[i]);
	return 0;
}

static int teardown(void **unused)
{
	char cmd[128];
	snprintf(cmd, sizeof cmd, "rm -r %s", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_learns),
		cmocka_unit_test(test_resume_gives_the_same_bits),
		cmocka_unit_test(test_resume_in_another_precision),
		cmocka_unit_test(test_conditions_are_hidden_now_and_then),
		cmocka_unit_test(test_hidden_conditions_resume),
		cmocka_unit_test(test_measuring_and_validating_move_nothing),
		cmocka_unit_test(test_another_plan_is_refused),
		cmocka_unit_test(test_seeds_are_told_apart),
		cmocka_unit_test(test_nonsense_is_noticed),
		cmocka_unit_test(test_tiny_sessions_are_all_seen),
		cmocka_unit_test(test_every_token_counts_once),
		cmocka_unit_test(test_padding_does_not_shrink_steps),
		cmocka_unit_test(test_learning_rate),
		cmocka_unit_test(test_decay_is_for_matrices),
		cmocka_unit_test(test_clip_is_on_the_global_norm),
		cmocka_unit_test(test_other_id_tables_mean_the_same),
		cmocka_unit_test(test_another_codec_is_refused),
		cmocka_unit_test(test_unknown_tokens_are_an_error),
		cmocka_unit_test(test_weights_of_another_training),
		cmocka_unit_test(test_empty_corpus_is_refused),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
