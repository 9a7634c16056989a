/* Mamba-2 against the PyTorch golden vectors, and its ways of computing the same thing against each other. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/philox.h"
#include "model/mamba2.h"

/* A model with its team and work area. */
struct rig {
	struct nssm_mamba2_cfg cfg;
	struct nssm_team *team;
	struct nssm_mamba2 *m;
	struct nssm_mamba2_work *w;
	int B, T;
	float **state;
	size_t n_params, state_floats;
};

static float *zeros(size_t n)
{
	float *p = aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64);
	assert_non_null(p);
	memset(p, 0, n * sizeof(float));
	return p;
}

static void rig_open_as(struct rig *r, const struct nssm_mamba2_cfg *cfg, const struct nssm_kernels *k, enum nssm_weights weights,
	int B, int T, bool training, size_t keep, int threads)
{
	*r = (struct rig){.cfg = *cfg, .B = B, .T = T};
	assert_int_equal(nssm_team_open(&r->team, threads, NULL), 0);
	assert_int_equal(nssm_mamba2_open(&r->m, cfg, k, weights, training, NULL), 0);
	assert_int_equal(nssm_mamba2_work_open(&r->w, r->m, B, T, training, keep, r->team, NULL), 0);
	r->n_params = nssm_mamba2_param_floats(cfg);
	r->state_floats = nssm_mamba2_state_floats(cfg);
	r->state = calloc((size_t)B, sizeof *r->state);
	for (int b = 0; b < B; b++)
		r->state[b] = zeros(r->state_floats);
}

static void rig_open(struct rig *r, const struct nssm_mamba2_cfg *cfg, const struct nssm_kernels *k, int B, int T, bool training,
	size_t keep, int threads)
{
	rig_open_as(r, cfg, k, NSSM_WEIGHTS_F32, B, T, training, keep, threads);
}

static void rig_zero_state(struct rig *r)
{
	for (int b = 0; b < r->B; b++)
		memset(r->state[b], 0, r->state_floats * sizeof(float));
}

static void rig_close(struct rig *r)
{
	for (int b = 0; b < r->B; b++)
		free(r->state[b]);
	free(r->state);
	nssm_mamba2_work_close(&r->w);
	nssm_mamba2_close(&r->m);
	nssm_team_close(&r->team);
}

/* --- golden vectors -------------------------------------------------------------------------------------------- */

struct golden {
	int32_t size[10]; /* D L expand P N K V multiple B T */
	int64_t n_params;
	const float *params, *logits, *grads;
	const int32_t *tokens, *targets, *resets;
	double loss;
};

static const uint8_t *golden_read(struct golden *g, const uint8_t *p)
{
	memcpy(g->size, p, sizeof g->size);
	p += sizeof g->size;
	memcpy(&g->n_params, p, 8);
	p += 8;
	size_t BT = (size_t)g->size[8] * (size_t)g->size[9];
	size_t Vpad = (size_t)((g->size[6] + g->size[7] - 1) / g->size[7] * g->size[7]);
	g->params = (const float *)p;
	p += 4 * (size_t)g->n_params;
	g->tokens = (const int32_t *)p;
	g->targets = g->tokens + BT;
	g->resets = g->targets + BT;
	p += 12 * BT;
	g->logits = (const float *)p;
	p += 4 * BT * Vpad;
	memcpy(&g->loss, p, 8);
	p += 8;
	g->grads = (const float *)p;
	return p + 4 * (size_t)g->n_params;
}

static void scatter(float *flat, const float *packed, const struct nssm_mamba2_cfg *cfg)
{
	struct nssm_tensor t[64];
	int n = nssm_mamba2_tensors(cfg, t);
	for (int i = 0; i < n; i++) {
		memcpy(flat + t[i].offset, packed, t[i].n * sizeof(float));
		packed += t[i].n;
	}
}

/* Largest |a−b| over a tensor, relative to the tensor's largest |b|. NaN comes out as NaN. */
static double tensor_error(const float *a, const float *b, size_t n)
{
	double worst = 0, scale = 0;
	for (size_t i = 0; i < n; i++) {
		double d = fabs((double)a[i] - (double)b[i]);
		if (!(d <= worst))
			worst = d;
		scale = fabs((double)b[i]) > scale ? fabs((double)b[i]) : scale;
	}
	return worst / (scale + 1e-12);
}

static void check_golden(const struct golden *g, const struct nssm_kernels *k, int Q, size_t keep, int threads)
{
	struct nssm_mamba2_cfg cfg;
	const int32_t *s = g->size;
	assert_int_equal(nssm_mamba2_cfg_init(&cfg, s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], Q, NULL), 0);
	int B = s[8], T = s[9], BT = B * T;
	struct rig r;
	rig_open(&r, &cfg, k, B, T, true, keep, threads);
	scatter(nssm_mamba2_params(r.m), g->params, &cfg);
	nssm_mamba2_pack(r.m, r.team);
	uint16_t *tok = calloc((size_t)BT, sizeof *tok);
	uint8_t *reset = calloc((size_t)BT, 1);
	for (int i = 0; i < BT; i++) {
		tok[i] = (uint16_t)g->tokens[i];
		reset[i] = (uint8_t)g->resets[i];
	}
	struct nssm_batch batch = {.B = B, .T = T, .token = tok, .target = g->targets, .reset = reset};
	float *logits = zeros((size_t)(BT * cfg.Vpad)), *grad = zeros(r.n_params), *want = zeros(r.n_params);
	nssm_mamba2_logits(logits, r.state, &batch, r.m, r.w);
	for (int i = 0; i < BT; i++) {
		double e = tensor_error(logits + i * cfg.Vpad, g->logits + i * cfg.Vpad, (size_t)cfg.V);
		if (!(e <= 2e-5))
			fail_msg("%s Q %d: logits of row %d differ by %g", k->name, Q, i, e);
		for (int v = cfg.V; v < cfg.Vpad; v++)
			assert_true(logits[i * cfg.Vpad + v] == -INFINITY);
	}
	double loss;
	int64_t n;
	rig_zero_state(&r);
	nssm_mamba2_backward(&loss, &n, grad, r.state, 1, &batch, r.m, r.w);
	assert_int_equal(n, BT - B); /* one position a lane is not scored */
	assert_true(fabs(loss - g->loss) <= 1e-5 * g->loss);
	scatter(want, g->grads, &cfg);
	struct nssm_tensor t[64];
	int nt = nssm_mamba2_tensors(&cfg, t);
	for (int i = 0; i < nt; i++) {
		double e = tensor_error(grad + t[i].offset, want + t[i].offset, t[i].n);
		if (!(e <= 1e-4))
			fail_msg("%s Q %d: gradient of %s differs by %g", k->name, Q, t[i].name, e);
	}
	free(tok);
	free(reset);
	free(logits);
	free(grad);
	free(want);
	rig_close(&r);
}

static void test_golden(void **state)
{
	struct nssm_map map;
	struct nssm_err err;
	if (nssm_map_open(&map, "golden/mamba2.bin", &err) != 0)
		fail_msg("%s", err.msg);
	int32_t head[2];
	memcpy(head, map.data, sizeof head);
	assert_int_equal(head[0], 0x3247414d);
	for (const struct nssm_kernels *const *k = nssm_kernels_list(); *k != NULL; k++) {
		const uint8_t *p = map.data + 8;
		for (int i = 0; i < head[1]; i++) {
			struct golden g;
			p = golden_read(&g, p);
			check_golden(&g, *k, 16, NSSM_KEEP_BYTES, 1);
			check_golden(&g, *k, 64, 0, 2);
		}
		assert_ptr_equal(p, map.data + map.len);
	}
	nssm_map_close(&map);
}

/* --- one computation, many ways ---------------------------------------------------------------------------------- */

static void small_cfg(struct nssm_mamba2_cfg *cfg, int Q)
{
	assert_int_equal(nssm_mamba2_cfg_init(cfg, 32, 2, 2, 16, 16, 4, 50, 16, Q, NULL), 0);
}

static void random_rows(uint16_t *tok, int32_t *target, uint8_t *reset, int n, int V, uint64_t seed, int border_every)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, seed, 0, 99);
	for (int i = 0; i < n; i++) {
		tok[i] = (uint16_t)nssm_rng_below(&rng, (uint32_t)V);
		target[i] = (int32_t)nssm_rng_below(&rng, (uint32_t)V);
		reset[i] = border_every > 0 && nssm_rng_below(&rng, (uint32_t)border_every) == 0;
	}
}

/* Chunked in one go, chunked in pieces of any length with the state handed over, and token by token. */
static void test_splits_and_steps(void **unused)
{
	enum { T = 300, V = 50 };
	static const int piece[] = {T, 1, 7, 16, 17, 100, 3};
	uint16_t tok[T];
	int32_t target[T];
	uint8_t reset[T];
	random_rows(tok, target, reset, T, V, 5, 0);
	struct nssm_mamba2_cfg cfg;
	small_cfg(&cfg, 32);
	size_t V16 = (size_t)cfg.Vpad;
	float *whole = zeros(T * V16), *part = zeros(T * V16), *final = zeros(nssm_mamba2_state_floats(&cfg));
	for (const struct nssm_kernels *const *k = nssm_kernels_list(); *k != NULL; k++) {
		struct rig r;
		rig_open(&r, &cfg, *k, 1, T, false, 0, 2);
		nssm_mamba2_init(nssm_mamba2_params(r.m), &cfg, 3);
		nssm_mamba2_pack(r.m, r.team);
		for (size_t i = 0; i < sizeof piece / sizeof *piece; i++) {
			rig_zero_state(&r);
			for (int t = 0; t < T; t += piece[i]) {
				int n = T - t < piece[i] ? T - t : piece[i];
				struct nssm_batch b = {.B = 1, .T = n, .token = tok + t, .target = target + t, .reset = reset + t};
				nssm_mamba2_logits(part + (size_t)t * V16, r.state, &b, r.m, r.w);
			}
			if (i == 0) {
				memcpy(whole, part, T * V16 * sizeof(float));
				memcpy(final, r.state[0], r.state_floats * sizeof(float));
			}
			for (int t = 0; t < T; t++)
				assert_true(tensor_error(part + (size_t)t * V16, whole + (size_t)t * V16, V) <= 1e-4);
			assert_true(tensor_error(r.state[0], final, r.state_floats) <= 1e-4);
		}
		rig_zero_state(&r);
		float *scratch = zeros(nssm_mamba2_step_floats(&cfg, 1));
		for (int t = 0; t < T; t++)
			nssm_mamba2_step(part + (size_t)t * V16, r.state, tok + t, NULL, 1, r.m, scratch);
		for (int t = 0; t < T; t++)
			assert_true(tensor_error(part + (size_t)t * V16, whole + (size_t)t * V16, V) <= 1e-4);
		assert_true(tensor_error(r.state[0], final, r.state_floats) <= 1e-4);
		free(scratch);
		rig_close(&r);
	}
	free(whole);
	free(part);
	free(final);
}

/* A lane's bits do not depend on how many lanes step with it, nor on its place among them. */
static void lanes_are_independent(const struct nssm_kernels *k, enum nssm_weights weights)
{
	enum { LANES = 19, STEPS = 20 };
	struct nssm_mamba2_cfg cfg;
	small_cfg(&cfg, 16);
	size_t st = nssm_mamba2_state_floats(&cfg), V16 = (size_t)cfg.Vpad;
	struct nssm_mamba2 *m;
	assert_int_equal(nssm_mamba2_open(&m, &cfg, k, weights, false, NULL), 0);
	nssm_mamba2_init(nssm_mamba2_params(m), &cfg, 4);
	nssm_mamba2_pack(m, NULL);
	float *many = zeros(LANES * st), *one = zeros(st), *lm = zeros(LANES * V16), *l1 = zeros(V16);
	float *s_many = zeros(nssm_mamba2_step_floats(&cfg, LANES)), *s_one = zeros(nssm_mamba2_step_floats(&cfg, 1));
	float *states[LANES];
	for (int i = 0; i < LANES; i++)
		states[i] = many + (size_t)i * st;
	for (int t = 0; t < STEPS; t++) {
		uint16_t tok[LANES];
		for (int i = 0; i < LANES; i++)
			tok[i] = (uint16_t)((i * 7 + t * 3) % cfg.V);
		nssm_mamba2_step(lm, states, tok, NULL, LANES, m, s_many);
		nssm_mamba2_step(l1, &one, &tok[11], NULL, 1, m, s_one);
		assert_memory_equal(l1, lm + 11 * V16, V16 * sizeof(float));
		assert_memory_equal(one, states[11], st * sizeof(float));
	}
	free(many);
	free(one);
	free(lm);
	free(l1);
	free(s_many);
	free(s_one);
	nssm_mamba2_close(&m);
}

static void test_step_lanes_are_independent(void **unused)
{
	(void)unused;
	for (const struct nssm_kernels *const *k = nssm_kernels_list(); *k != NULL; k++)
		for (int weights = 0; weights < NSSM_N_WEIGHTS; weights++)
			lanes_are_independent(*k, (enum nssm_weights)weights);
}

/* The logits of a sequence, stepped token by token, and those that forward gives after its last token. */
static void follow(float *logits, float *last, const struct nssm_mamba2_cfg *cfg, const struct nssm_kernels *k,
	enum nssm_weights weights, const uint16_t *tok, int T)
{
	struct rig r;
	rig_open_as(&r, cfg, k, weights, 1, T, false, 0, 1);
	nssm_mamba2_init(nssm_mamba2_params(r.m), cfg, 9);
	nssm_mamba2_pack(r.m, NULL);
	float *scratch = zeros(nssm_mamba2_step_floats(cfg, 1));
	for (int t = 0; t < T; t++)
		nssm_mamba2_step(logits + (size_t)t * (size_t)cfg->Vpad, r.state, tok + t, NULL, 1, r.m, scratch);
	rig_zero_state(&r);
	int32_t *none = malloc((size_t)T * sizeof *none);
	uint8_t *reset = calloc((size_t)T, 1);
	for (int t = 0; t < T; t++)
		none[t] = -1;
	double loss;
	int64_t n;
	struct nssm_batch b = {.B = 1, .T = T, .token = tok, .target = none, .reset = reset};
	nssm_mamba2_forward(&loss, &n, last, r.state, &b, r.m, r.w);
	free(none);
	free(reset);
	free(scratch);
	rig_close(&r);
}

/* Rounded weights move the logits a little, and do move them; stepping and whole sequences agree on them. */
static void test_weight_types(void **unused)
{
	enum { T = 60 };
	/* of the logits' norm; 8 bits of mantissa in weights and activations of 2 layers, 7 bits of the largest */
	static const double off_most[NSSM_N_WEIGHTS] = {1e-6, 2e-2, 8e-2};
	struct nssm_mamba2_cfg cfg;
	(void)unused;
	small_cfg(&cfg, 16);
	uint16_t tok[T];
	int32_t target[T];
	uint8_t reset[T];
	random_rows(tok, target, reset, T, cfg.V, 9, 0);
	size_t V16 = (size_t)cfg.Vpad, V = (size_t)cfg.V;
	float *f32 = zeros(T * V16), *other = zeros(T * V16), *last = zeros(V16);
	for (const struct nssm_kernels *const *k = nssm_kernels_list(); *k != NULL; k++)
		for (int weights = 0; weights < NSSM_N_WEIGHTS; weights++) {
			follow(weights == 0 ? f32 : other, last, &cfg, *k, (enum nssm_weights)weights, tok, T);
			const float *got = weights == 0 ? f32 : other;
			double off = tensor_error(got + (T - 1) * V16, f32 + (T - 1) * V16, V);
			if (!(off <= off_most[weights]) || (weights != 0 && !(off > 1e-5)))
				fail_msg("%s, weights %s: logits off by %g", (*k)->name, nssm_weights_name((enum nssm_weights)weights), off);
			double apart = tensor_error(last, got + (T - 1) * V16, V);
			if (!(apart <= (weights == 0 ? 1e-4 : off_most[weights] / 2)))
				fail_msg("%s, weights %s: forward and step differ by %g", (*k)->name,
					nssm_weights_name((enum nssm_weights)weights), apart);
		}
	free(f32);
	free(other);
	free(last);
}

struct outcome {
	double loss;
	float *grad, *state;
};

static struct outcome gradients(enum nssm_weights precision, const struct nssm_mamba2_cfg *cfg, const struct nssm_kernels *k, int B,
	int T, size_t keep, int threads, const uint16_t *tok, const int32_t *target, const uint8_t *reset)
{
	struct rig r;
	rig_open_as(&r, cfg, k, precision, B, T, true, keep, threads);
	nssm_mamba2_init(nssm_mamba2_params(r.m), cfg, 6);
	nssm_mamba2_pack(r.m, r.team);
	struct outcome o = {.grad = zeros(r.n_params), .state = zeros(r.state_floats)};
	struct nssm_batch b = {.B = B, .T = T, .token = tok, .target = target, .reset = reset};
	int64_t n;
	nssm_mamba2_backward(&o.loss, &n, o.grad, r.state, 1, &b, r.m, r.w);
	memcpy(o.state, r.state[0], r.state_floats * sizeof(float));
	rig_close(&r);
	return o;
}

static void outcome_free(struct outcome *o)
{
	free(o->grad);
	free(o->state);
}

static void check_same(const struct outcome *a, const struct outcome *b, double factor, const struct nssm_mamba2_cfg *cfg)
{
	struct nssm_tensor t[64];
	int nt = nssm_mamba2_tensors(cfg, t);
	assert_true(fabs(b->loss - factor * a->loss) <= 1e-6 * fabs(b->loss));
	for (int i = 0; i < nt; i++) {
		float *want = zeros(t[i].n);
		for (size_t j = 0; j < t[i].n; j++)
			want[j] = (float)(factor * (double)a->grad[t[i].offset + j]);
		double e = tensor_error(b->grad + t[i].offset, want, t[i].n);
		if (!(e <= 2e-4))
			fail_msg("gradient of %s differs by %g", t[i].name, e);
		free(want);
	}
	assert_true(tensor_error(b->state, a->state, nssm_mamba2_state_floats(cfg)) <= 1e-4);
}

/* Several segments, session borders at any place: kept or recomputed activations and 1 or 2 or 3 threads give the same bits;
 * another segmentation (two equal lanes) and another chunk length give the same numbers. */
static void test_gradient_invariance(void **unused)
{
	enum { T = 2300, V = 50 };
	struct nssm_mamba2_cfg cfg, cfg2;
	small_cfg(&cfg, 64);
	small_cfg(&cfg2, 16);
	uint16_t *tok = calloc(2 * T, sizeof *tok);
	int32_t *target = calloc(2 * T, sizeof *target);
	uint8_t *reset = calloc(2 * T, 1);
	size_t bytes = nssm_mamba2_param_floats(&cfg) * sizeof(float);
	for (int border_every = 0; border_every <= 100; border_every += 100) {
		random_rows(tok, target, reset, T, V, 8, border_every);
		memcpy(tok + T, tok, T * sizeof *tok);
		memcpy(target + T, target, T * sizeof *target);
		memcpy(reset + T, reset, T);
		const struct nssm_kernels *k = nssm_kernels_get(NULL);
		const enum nssm_weights fp32 = NSSM_WEIGHTS_F32, bf16 = NSSM_WEIGHTS_BF16;
		struct outcome a = gradients(bf16, &cfg, k, 1, T, NSSM_KEEP_BYTES, 1, tok, target, reset);
		struct outcome b = gradients(bf16, &cfg, k, 1, T, 0, 2, tok, target, reset);
		struct outcome c = gradients(bf16, &cfg, k, 1, T, NSSM_KEEP_BYTES, 3, tok, target, reset);
		assert_memory_equal(a.grad, b.grad, bytes);
		assert_memory_equal(a.grad, c.grad, bytes);
		assert_true(a.loss == b.loss && a.loss == c.loss);
		outcome_free(&a);
		outcome_free(&b);
		outcome_free(&c);
		a = gradients(fp32, &cfg, k, 1, T, NSSM_KEEP_BYTES, 1, tok, target, reset);
		b = gradients(fp32, &cfg, k, 1, T, 0, 2, tok, target, reset);
		c = gradients(fp32, &cfg, k, 1, T, NSSM_KEEP_BYTES, 3, tok, target, reset);
		assert_memory_equal(a.grad, b.grad, bytes);
		assert_memory_equal(a.grad, c.grad, bytes);
		assert_true(a.loss == b.loss && a.loss == c.loss);
		struct outcome d = gradients(fp32, &cfg, k, 2, T, NSSM_KEEP_BYTES, 2, tok, target, reset);
		check_same(&a, &d, 2, &cfg);
		struct outcome e = gradients(fp32, &cfg2, k, 1, T, NSSM_KEEP_BYTES, 2, tok, target, reset);
		check_same(&a, &e, 1, &cfg);
		struct outcome *all[] = {&a, &b, &c, &d, &e};
		for (int i = 0; i < 5; i++)
			outcome_free(all[i]);
	}
	free(tok);
	free(target);
	free(reset);
}

/* Of two conditions, the second unknown in the second half. */
static void conditions_at(uint8_t *cond, int T)
{
	for (int t = 0; t < T; t++) {
		cond[2 * t] = t < T / 3 ? 7 : 255;
		cond[2 * t + 1] = t < T / 2 ? 7 : 0;
	}
}

/* What is known of a sequence reaches each of its tokens, told to the steps or with the batch, whole or in pieces; unknown is as if the model
 * had no conditions. */
static void test_conditions(void **unused)
{
	enum { T = 150, V = 50 };
	uint16_t tok[T];
	int32_t target[T];
	uint8_t reset[T], cond[2 * T], unknown[2 * T] = {0};
	random_rows(tok, target, reset, T, V, 31, 0);
	for (int t = 0; t < T; t++) {
		cond[2 * t] = 200;
		cond[2 * t + 1] = 3;
	}
	struct nssm_mamba2_cfg cfg, plain;
	small_cfg(&plain, 32);
	cfg = plain;
	cfg.n_cond = 2;
	size_t V16 = (size_t)cfg.Vpad;
	float *told = zeros(T * V16), *part = zeros(T * V16), *without = zeros(T * V16);
	struct rig r, p;
	rig_open(&p, &plain, nssm_kernels_get(NULL), 1, T, false, 0, 1);
	rig_open(&r, &cfg, nssm_kernels_get(NULL), 1, T, false, 0, 1);
	assert_int_equal(nssm_mamba2_tensors(&cfg, NULL), nssm_mamba2_tensors(&plain, NULL) + 1);
	nssm_mamba2_init(nssm_mamba2_params(p.m), &plain, 3);
	nssm_mamba2_init(nssm_mamba2_params(r.m), &cfg, 3);
	struct nssm_rng rng;
	nssm_rng_init(&rng, 5, 5, 99);
	for (size_t i = p.n_params; i < r.n_params; i++)
		nssm_mamba2_params(r.m)[i] = (float)nssm_rng_normal(&rng) * 0.1f;
	nssm_mamba2_pack(p.m, NULL);
	nssm_mamba2_pack(r.m, NULL);
	struct nssm_batch b = {.B = 1, .T = T, .token = tok, .target = target, .reset = reset};
	nssm_mamba2_logits(without, p.state, &b, p.m, p.w);
	b.cond = unknown;
	nssm_mamba2_logits(part, r.state, &b, r.m, r.w);
	assert_memory_equal(part, without, T * V16 * sizeof(float));
	rig_zero_state(&r);
	b.cond = cond;
	nssm_mamba2_logits(told, r.state, &b, r.m, r.w);
	for (int t = 0; t < T; t++)
		assert_true(tensor_error(told + (size_t)t * V16, without + (size_t)t * V16, V) > 1e-3);
	rig_zero_state(&r);
	for (int t = 0; t < T; t += 50) {
		b = (struct nssm_batch){.B = 1, .T = 50, .token = tok + t, .target = target + t, .reset = reset + t, .cond = cond};
		nssm_mamba2_logits(part + (size_t)t * V16, r.state, &b, r.m, r.w);
	}
	for (int t = 0; t < T; t++)
		assert_true(tensor_error(part + (size_t)t * V16, told + (size_t)t * V16, V) <= 1e-4);
	rig_zero_state(&r);
	nssm_mamba2_tell(r.state[0], &cfg, cond);
	float *scratch = zeros(nssm_mamba2_step_floats(&cfg, 1));
	for (int t = 0; t < T; t++) {
		nssm_mamba2_step(part, r.state, tok + t, NULL, 1, r.m, scratch);
		assert_true(tensor_error(part, told + (size_t)t * V16, V) <= 1e-4);
	}
	free(scratch);
	free(told);
	free(part);
	free(without);
	rig_close(&p);
	rig_close(&r);
}

/* |a − b| over |b|, both as vectors. */
static double vector_error(const float *a, const float *b, size_t n)
{
	double d = 0, m = 0;
	for (size_t i = 0; i < n; i++) {
		d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
		m += (double)b[i] * (double)b[i];
	}
	return sqrt(d / (m + 1e-300));
}

/* The gradient of products of bfloat16 is fp32's but for rounding: a factor is off by 2^-9 at most, 2^-9/sqrt(3) in the mean, and
 * signs are random, so a tensor's gradient is off by a few times that (measured: 0.5 to 0.8 %; where it has a number a head, and
 * each is a sum of thousands that cancel, up to 7 %). Levels differ by less (0.08 %): they round the same numbers, but for those
 * that lie between two and were not the same to the last bit. */
static void test_bf16_gradients(void **unused)
{
	enum { T = 300, V = 50, B = 2 };
	struct nssm_mamba2_cfg cfg;
	small_cfg(&cfg, 64);
	uint16_t tok[B * T];
	int32_t target[B * T];
	uint8_t reset[B * T];
	random_rows(tok, target, reset, B * T, V, 31, 100);
	struct nssm_tensor t[64];
	int nt = nssm_mamba2_tensors(&cfg, t);
	struct outcome fp32 = gradients(NSSM_WEIGHTS_F32, &cfg, nssm_kernels_get("ref"), B, T, NSSM_KEEP_BYTES, 1, tok, target, reset);
	struct outcome ref = gradients(NSSM_WEIGHTS_BF16, &cfg, nssm_kernels_get("ref"), B, T, NSSM_KEEP_BYTES, 1, tok, target, reset);
	for (const struct nssm_kernels *const *k = nssm_kernels_list(); *k != NULL; k++) {
		struct outcome bf16 = gradients(NSSM_WEIGHTS_BF16, &cfg, *k, B, T, NSSM_KEEP_BYTES, 2, tok, target, reset);
		double worst = 0, off_ref = 0;
		for (int i = 0; i < nt; i++) {
			size_t o = t[i].offset;
			double e = vector_error(bf16.grad + o, fp32.grad + o, t[i].n), f = vector_error(bf16.grad + o, ref.grad + o, t[i].n);
			double most = t[i].n > (size_t)cfg.H ? 0.012 : 0.1;
			if (!(e > 1e-4 && e <= most))
				fail_msg("%s: gradient of %s is off fp32's by %g: expected rounding to bfloat16", (*k)->name, t[i].name, e);
			if (!(f <= 0.003))
				fail_msg("%s: gradient of %s is off ref's by %g", (*k)->name, t[i].name, f);
			worst = e > worst ? e : worst;
			off_ref = f > off_ref ? f : off_ref;
		}
		assert_true(fabs(bf16.loss - fp32.loss) <= 1e-3 * fp32.loss);
		print_message("%s: a tensor's gradient in bf16 is off fp32's by %.2g at most, off ref's in bf16 by %.2g; loss by %.2g\n",
			(*k)->name, worst, off_ref, fabs(bf16.loss - fp32.loss) / fp32.loss);
		outcome_free(&bf16);
	}
	outcome_free(&fp32);
	outcome_free(&ref);
}

/* Along random directions, the gradient against central differences of the loss (fp32, so coarse). */
static void test_finite_differences(void **unused)
{
	enum { T = 40, V = 50, DIRECTIONS = 6 };
	struct nssm_mamba2_cfg cfg;
	small_cfg(&cfg, 16);
	cfg.n_cond = 2;
	uint16_t tok[T];
	int32_t target[T];
	uint8_t reset[T];
	random_rows(tok, target, reset, T, V, 21, 30);
	struct rig r;
	rig_open(&r, &cfg, nssm_kernels_get("ref"), 1, T, true, NSSM_KEEP_BYTES, 1);
	float *p = nssm_mamba2_params(r.m), *grad = zeros(r.n_params), *base = zeros(r.n_params);
	uint8_t cond[2 * T];
	conditions_at(cond, T);
	struct nssm_batch b = {.B = 1, .T = T, .token = tok, .target = target, .reset = reset, .cond = cond};
	double loss, side[2];
	int64_t n;
	nssm_mamba2_init(p, &cfg, 22);
	struct nssm_rng some;
	nssm_rng_init(&some, 24, 0, 99);
	for (size_t i = r.n_params - 2 * 256 * (size_t)cfg.D; i < r.n_params; i++) /* of conditions: they begin as zeros */
		p[i] = (float)nssm_rng_normal(&some) * 0.1f;
	memcpy(base, p, r.n_params * sizeof(float));
	nssm_mamba2_pack(r.m, NULL);
	nssm_mamba2_backward(&loss, &n, grad, r.state, 1, &b, r.m, r.w);
	for (int d = 0; d < DIRECTIONS; d++) {
		struct nssm_rng rng;
		nssm_rng_init(&rng, 23, (uint64_t)d, 99);
		double want = 0, eps = 1e-3;
		float *dir = zeros(r.n_params);
		for (size_t i = 0; i < r.n_params; i++) {
			dir[i] = (float)nssm_rng_normal(&rng) * 0.1f;
			want += (double)dir[i] * (double)grad[i];
		}
		for (int s = 0; s < 2; s++) {
			for (size_t i = 0; i < r.n_params; i++)
				p[i] = base[i] + (float)((s ? eps : -eps) * (double)dir[i]);
			nssm_mamba2_pack(r.m, NULL);
			rig_zero_state(&r);
			nssm_mamba2_forward(&side[s], &n, NULL, r.state, &b, r.m, r.w);
		}
		double got = (side[1] - side[0]) / (2 * eps);
		if (!(fabs(got - want) <= 0.02 * fabs(want) + 0.02))
			fail_msg("direction %d: gradient says %g, differences say %g", d, want, got);
		free(dir);
	}
	free(grad);
	free(base);
	rig_close(&r);
}

/* --- awkward sizes against the recurrence in double precision ----------------------------------------------------- */

struct odd {
	int D, L, expand, P, N, K, V, multiple, Q, B, T;
	int T_open; /* the work area's T; the batch may be shorter */
	bool warm;  /* state from an earlier piece */
};
static const struct odd odd[] = {
	{16, 1, 1, 16, 16, 2, 2, 1, 16, 1, 1, 1, false},        /* one of everything */
	{16, 2, 2, 16, 32, 4, 51, 1, 16, 2, 2, 2, true},        /* T < K−1, odd V, N != P */
	{16, 2, 1, 16, 16, 4, 50, 16, 16, 3, 1, 40, true},      /* one token in a work area for more */
	{48, 1, 2, 32, 16, 4, 263, 1, 32, 3, 77, 100, true},    /* three heads, batch shorter than the work area */
	{16, 2, 5, 16, 48, 2, 17, 8, 16, 2, 31, 31, true},      /* five heads, K 2 */
	{16, 1, 6, 16, 16, 3, 272, 16, 48, 1, 49, 49, false},   /* V = Vpad, Q+1 */
	{32, 1, 3, 96, 16, 4, 259, 1, 16, 1, 15, 15, true},     /* P 96, Q−1 */
	{16, 1, 1, 16, 16, 4, 20, 1, 16, 129, 33, 33, true},    /* B > 2048/Q: a chunk is a segment; the last has 1 token */
	{16, 2, 1, 16, 16, 4, 20, 7, 16, 129, 18, 40, true},    /* … 2 tokens, fewer than K−1 */
	{16, 1, 1, 16, 16, 3, 20, 1, 32, 65, 37, 37, false},    /* … 5 */
	{16, 1, 2, 32, 16, 2, 9, 1, 64, 2, 1100, 1100, true},   /* segments of 1024 */
	{16, 3, 2, 32, 16, 3, 33, 1, 256, 1, 300, 300, false},  /* the longest chunk */
};

/* Largest n·d of a layer in the table above, for the recurrence's arrays. */
enum { MAX_Z = 1024, MAX_V = 272 };

static double silu(double x)
{
	return x / (1 + exp(-x));
}

static double mean_square(const double *x, int n)
{
	double s = 0;
	for (int i = 0; i < n; i++)
		s += x[i] * x[i];
	return s / n;
}

/* One token through one layer; st: S [H][N][P] and the last K−1 rows before the convolution. */
static void layer_in_double(double *r, double *st, const struct nssm_mamba2_cfg *c, const struct nssm_tensor *t, const double *p)
{
	const double *norm = p + t[0].offset, *dt_bias = p + t[1].offset, *A_log = p + t[2].offset, *Dskip = p + t[3].offset,
		     *W = p + t[4].offset, *conv = p + t[5].offset, *bias = p + t[6].offset, *gnorm = p + t[7].offset,
		     *Wo = p + t[8].offset;
	int C = c->E + 2 * c->N, Z = c->E + C + c->H;
	double zx[MAX_Z], xc[MAX_Z], g[MAX_Z], *rows = st + (size_t)c->H * c->N * c->P;
	assert_true(Z <= MAX_Z);
	double scale = 1 / sqrt(mean_square(r, c->D) + 1e-5);
	for (int z = 0; z < Z; z++) {
		zx[z] = 0;
		for (int d = 0; d < c->D; d++)
			zx[z] += W[z * c->D + d] * r[d] * scale * norm[d];
	}
	for (int i = 0; i < C; i++) {
		double u = bias[i] + conv[i * c->K + c->K - 1] * zx[c->E + i];
		for (int k = 0; k < c->K - 1; k++)
			u += conv[i * c->K + k] * rows[k * C + i];
		xc[i] = silu(u);
	}
	memmove(rows, rows + C, (size_t)(c->K - 2) * (size_t)C * sizeof *rows);
	memcpy(rows + (c->K - 2) * C, zx + c->E, (size_t)C * sizeof *rows);
	for (int h = 0; h < c->H; h++) {
		double raw = zx[c->E + C + h] + dt_bias[h], dt = raw > 20 ? raw : log1p(exp(raw)), decay = exp(-dt * exp(A_log[h]));
		for (int q = 0; q < c->P; q++) {
			double x = xc[h * c->P + q], y = Dskip[h] * x;
			for (int n = 0; n < c->N; n++) {
				double *S = &st[((size_t)h * c->N + n) * c->P + q];
				*S = decay * *S + dt * x * xc[c->E + n];
				y += xc[c->E + c->N + n] * *S;
			}
			g[h * c->P + q] = y * silu(zx[h * c->P + q]);
		}
	}
	scale = 1 / sqrt(mean_square(g, c->E) + 1e-5);
	for (int d = 0; d < c->D; d++)
		for (int e = 0; e < c->E; e++)
			r[d] += Wo[d * c->E + e] * g[e] * scale * gnorm[e];
}

static double loss_in_double(const struct nssm_mamba2_cfg *c, const struct nssm_tensor *t, const double *p, const struct nssm_batch *b,
	float *const *state)
{
	size_t st_n = nssm_mamba2_state_floats(c), per_layer = st_n / (size_t)c->L;
	double *st = calloc(st_n, sizeof *st), r[MAX_Z], loss = 0;
	const double *E = p + t[0].offset, *nf = p + t[1 + 9 * c->L].offset, *X = c->n_context > 0 ? p + t[2 + 9 * c->L].offset : NULL;
	for (int lane = 0; lane < b->B; lane++) {
		for (size_t i = 0; i < st_n; i++)
			st[i] = state[lane][i];
		for (int i = lane * b->T; i < (lane + 1) * b->T; i++) {
			if (b->reset[i])
				memset(st, 0, st_n * sizeof *st);
			for (int d = 0; d < c->D; d++)
				r[d] = E[b->token[i] * c->D + d] + (X != NULL ? X[b->context[i] * c->D + d] : 0);
			for (int l = 0; l < c->L; l++)
				layer_in_double(r, st + (size_t)l * per_layer, c, t + 1 + 9 * l, p);
			if (b->target[i] < 0)
				continue;
			double scale = 1 / sqrt(mean_square(r, c->D) + 1e-5), logit[MAX_V], top = -INFINITY, sum = 0;
			for (int v = 0; v < c->V; v++) {
				logit[v] = 0;
				for (int d = 0; d < c->D; d++)
					logit[v] += E[v * c->D + d] * nf[d] * r[d] * scale;
				top = fmax(top, logit[v]);
			}
			for (int v = 0; v < c->V; v++)
				sum += exp(logit[v] - top);
			loss += log(sum) + top - logit[b->target[i]];
		}
	}
	free(st);
	return loss;
}

/* Unscored positions, the first among them; one border a segment at most, at its start or end in some lanes. */
static void odd_rows(uint16_t *tok, int32_t *target, uint8_t *reset, const struct odd *o, int S)
{
	random_rows(tok, target, reset, o->B * o->T, o->V, 31, 0);
	for (int b = 0; b < o->B; b++) {
		for (int t = 0; t < o->T; t++)
			if (t % 7 == b % 7)
				target[b * o->T + t] = -1;
		for (int s = 0; s < o->T; s += S) {
			int at = s + (b % 3 == 0 ? 0 : b % 3 == 1 ? S - 1 : (5 * b + s) % S);
			if (at < o->T && (s / S + b) % 4 != 3)
				reset[b * o->T + at] = 1;
		}
	}
	if (o->B * o->T == 1)
		target[0] = 1;
}

/* Chunked, and token by token, on up to three lanes. */
static void odd_logits(struct rig *r, const struct nssm_batch *b, float *const *before)
{
	size_t V = (size_t)r->cfg.Vpad, n = (size_t)b->B * (size_t)b->T;
	float *chunked = zeros(n * V), *one = zeros(V), *scratch = zeros(nssm_mamba2_step_floats(&r->cfg, 1));
	float *st = zeros(r->state_floats);
	for (int lane = 0; lane < b->B; lane++)
		memcpy(r->state[lane], before[lane], r->state_floats * sizeof *st);
	nssm_mamba2_logits(chunked, r->state, b, r->m, r->w);
	for (int lane = 0; lane < b->B && lane < 3; lane++) {
		memcpy(st, before[lane], r->state_floats * sizeof *st);
		for (int t = 0; t < b->T; t++) {
			int i = lane * b->T + t;
			if (b->reset[i])
				memset(st, 0, r->state_floats * sizeof *st);
			nssm_mamba2_step(one, &st, &b->token[i], b->context + i, 1, r->m, scratch);
			double e = tensor_error(chunked + (size_t)i * V, one, (size_t)r->cfg.V);
			if (!(e <= 1e-4))
				fail_msg("lane %d, token %d: chunked and stepped logits differ by %g", lane, t, e);
		}
		assert_true(tensor_error(r->state[lane], st, r->state_floats) <= 1e-4);
	}
	free(chunked);
	free(one);
	free(scratch);
	free(st);
}

enum { DIRS = 2, N_CONTEXT = 37 };

/* What the recurrence says: the loss, and its derivatives along directions in which every tensor counts the same. */
struct oracle {
	double loss, along[DIRS], *dir[DIRS];
};

static double norm_of(const float *v, size_t n)
{
	double s = 0;
	for (size_t i = 0; i < n; i++)
		s += (double)v[i] * (double)v[i];
	return sqrt(s);
}

static void ask_oracle(struct oracle *o, const struct nssm_mamba2_cfg *c, const float *params, const float *grad,
	const struct nssm_batch *batch, float *const *before)
{
	struct nssm_tensor t[64];
	int nt = nssm_mamba2_tensors(c, t);
	size_t n = nssm_mamba2_param_floats(c);
	double *p = calloc(n, sizeof *p), all = norm_of(grad, n);
	for (size_t j = 0; j < n; j++)
		p[j] = params[j];
	o->loss = loss_in_double(c, t, p, batch, before);
	for (int d = 0; d < DIRS; d++) {
		struct nssm_rng rng;
		nssm_rng_init(&rng, 43, (uint64_t)d, 99);
		o->dir[d] = calloc(n, sizeof(double));
		double longest = 0, side[2];
		for (int i = 0; i < nt; i++) {
			double own = norm_of(grad + t[i].offset, t[i].n);
			for (size_t j = t[i].offset; j < t[i].offset + t[i].n; j++) {
				o->dir[d][j] = nssm_rng_normal(&rng) / fmax(own, 1e-3 * all);
				longest = fmax(longest, fabs(o->dir[d][j]));
			}
		}
		for (int k = 0; k < 2; k++) {
			for (size_t j = 0; j < n; j++)
				p[j] = params[j] + (k ? 2e-4 : -2e-4) / longest * o->dir[d][j];
			side[k] = loss_in_double(c, t, p, batch, before);
		}
		o->along[d] = (side[1] - side[0]) / 4e-4 * longest;
	}
	free(p);
}

static void odd_one(const struct odd *o)
{
	struct nssm_mamba2_cfg c;
	assert_int_equal(nssm_mamba2_cfg_init(&c, o->D, o->L, o->expand, o->P, o->N, o->K, o->V, o->multiple, o->Q, NULL), 0);
	c.n_context = (o - odd) % 2 == 0 ? N_CONTEXT : 0; /* every second size has a context embedding */
	size_t n_par = nssm_mamba2_param_floats(&c), BT = (size_t)o->B * (size_t)o->T;
	float **before = calloc((size_t)o->B, sizeof *before);
	uint16_t *tok = calloc(BT, sizeof *tok), *context = calloc(BT, sizeof *context);
	int32_t *target = calloc(BT, sizeof *target);
	uint8_t *reset = calloc(BT, 1);
	for (size_t i = 0; i < BT; i++)
		context[i] = (uint16_t)(i * i % N_CONTEXT);
	struct nssm_batch batch = {.B = o->B, .T = o->T, .token = tok, .context = context, .target = target, .reset = reset};
	struct oracle oracle = {0};
	for (const struct nssm_kernels *const *k = nssm_kernels_list(); *k != NULL; k++) {
		struct rig r;
		rig_open(&r, &c, *k, o->B, o->T_open, true, o->B % 2 ? 0 : NSSM_KEEP_BYTES, 2);
		nssm_mamba2_init(nssm_mamba2_params(r.m), &c, 41);
		nssm_mamba2_pack(r.m, r.team);
		double loss;
		int64_t n;
		bool first = before[0] == NULL;
		if (first) {
			odd_rows(tok, target, reset, o, nssm_mamba2_seg_tokens(r.w));
			if (o->warm)
				nssm_mamba2_forward(&loss, &n, NULL, r.state, &batch, r.m, r.w);
		}
		for (int b = 0; b < o->B; b++) {
			before[b] = first ? zeros(r.state_floats) : before[b];
			memcpy(first ? before[b] : r.state[b], first ? r.state[b] : before[b], r.state_floats * sizeof(float));
		}
		float *grad = zeros(n_par);
		nssm_mamba2_backward(&loss, &n, grad, r.state, 1, &batch, r.m, r.w);
		if (first)
			ask_oracle(&oracle, &c, nssm_mamba2_params(r.m), grad, &batch, before);
		if (!(fabs(loss - oracle.loss) <= 1e-5 * oracle.loss))
			fail_msg("%s, size %td: loss %.9g, in double %.9g", (*k)->name, o - odd, loss, oracle.loss);
		for (int d = 0; d < DIRS; d++) {
			double got = 0;
			for (size_t j = 0; j < n_par; j++)
				got += oracle.dir[d][j] * (double)grad[j];
			/* A tensor adds about 1 to the sum. */
			if (!(fabs(got - oracle.along[d]) <= 3e-3))
				fail_msg("%s, size %td: the gradient says %g, differences in double %g", (*k)->name, o - odd, got,
					oracle.along[d]);
		}
		for (size_t i = (size_t)c.V * (size_t)c.D; i < (size_t)c.Vpad * (size_t)c.D; i++)
			assert_true(grad[i] == 0); /* rows of padding do not learn */
		odd_logits(&r, &batch, before);
		free(grad);
		rig_close(&r);
	}
	for (int d = 0; d < DIRS; d++)
		free(oracle.dir[d]);
	for (int b = 0; b < o->B; b++)
		free(before[b]);
	free(before);
	free(tok);
	free(context);
	free(target);
	free(reset);
}

static void test_awkward_sizes(void **unused)
{
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
		odd_one(&odd[i]);
}

static void test_config_is_checked(void **unused)
{
	struct nssm_mamba2_cfg cfg;
	struct nssm_err err;
	assert_int_equal(nssm_mamba2_cfg_init(&cfg, 100, 2, 2, 16, 16, 4, 50, 16, 64, &err), NSSM_ERANGE);
	assert_non_null(strstr(err.msg, "d_model"));
	assert_int_equal(nssm_mamba2_cfg_init(&cfg, 48, 2, 1, 64, 16, 4, 50, 16, 64, &err), NSSM_ERANGE);
	assert_non_null(strstr(err.msg, "headdim"));
	assert_int_equal(nssm_mamba2_cfg_init(&cfg, 768, 24, 2, 64, 128, 4, 271, 16, 256, &err), 0);
	assert_int_equal(cfg.Vpad, 272);
	/* 90.6 M parameters: the published size of this configuration */
	assert_in_range(nssm_mamba2_param_floats(&cfg), 90500000, 90700000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config_is_checked),
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_splits_and_steps),
		cmocka_unit_test(test_step_lanes_are_independent),
		cmocka_unit_test(test_weight_types),
		cmocka_unit_test(test_gradient_invariance),
		cmocka_unit_test(test_bf16_gradients),
		cmocka_unit_test(test_awkward_sizes),
		cmocka_unit_test(test_conditions),
		cmocka_unit_test(test_finite_differences),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
