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

static void rig_open(struct rig *r, const struct nssm_mamba2_cfg *cfg, const struct nssm_kernels *k, int B, int T, bool training,
	size_t keep, int threads)
{
	*r = (struct rig){.cfg = *cfg, .B = B, .T = T};
	assert_int_equal(nssm_team_open(&r->team, threads, NULL), 0);
	assert_int_equal(nssm_mamba2_open(&r->m, cfg, k, training, NULL), 0);
	assert_int_equal(nssm_mamba2_work_open(&r->w, r->m, B, T, training, keep, r->team, NULL), 0);
	r->n_params = nssm_mamba2_param_floats(cfg);
	r->state_floats = nssm_mamba2_state_floats(cfg);
	r->state = calloc((size_t)B, sizeof *r->state);
	for (int b = 0; b < B; b++)
		r->state[b] = zeros(r->state_floats);
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
			nssm_mamba2_step(part + (size_t)t * V16, r.state, tok + t, 1, r.m, scratch);
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

/* A lane's bits do not depend on how many lanes step with it. */
static void test_step_lanes_are_independent(void **unused)
{
	enum { LANES = 19, STEPS = 20 };
	struct nssm_mamba2_cfg cfg;
	small_cfg(&cfg, 16);
	size_t st = nssm_mamba2_state_floats(&cfg), V16 = (size_t)cfg.Vpad;
	for (const struct nssm_kernels *const *k = nssm_kernels_list(); *k != NULL; k++) {
		struct nssm_mamba2 *m;
		assert_int_equal(nssm_mamba2_open(&m, &cfg, *k, false, NULL), 0);
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
			nssm_mamba2_step(lm, states, tok, LANES, m, s_many);
			nssm_mamba2_step(l1, &one, &tok[11], 1, m, s_one);
			assert_memory_equal(l1, lm + 11 * V16, V16 * sizeof(float));
		}
		free(many);
		free(one);
		free(lm);
		free(l1);
		free(s_many);
		free(s_one);
		nssm_mamba2_close(&m);
	}
}

struct outcome {
	double loss;
	float *grad, *state;
};

static struct outcome gradients(const struct nssm_mamba2_cfg *cfg, const struct nssm_kernels *k, int B, int T, size_t keep,
	int threads, const uint16_t *tok, const int32_t *target, const uint8_t *reset)
{
	struct rig r;
	rig_open(&r, cfg, k, B, T, true, keep, threads);
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
	enum { T = 4999, V = 50 };
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
		struct outcome a = gradients(&cfg, k, 1, T, NSSM_KEEP_BYTES, 1, tok, target, reset);
		struct outcome b = gradients(&cfg, k, 1, T, 0, 2, tok, target, reset);
		struct outcome c = gradients(&cfg, k, 1, T, NSSM_KEEP_BYTES, 3, tok, target, reset);
		assert_memory_equal(a.grad, b.grad, bytes);
		assert_memory_equal(a.grad, c.grad, bytes);
		assert_true(a.loss == b.loss && a.loss == c.loss);
		struct outcome d = gradients(&cfg, k, 2, T, NSSM_KEEP_BYTES, 2, tok, target, reset);
		check_same(&a, &d, 2, &cfg);
		struct outcome e = gradients(&cfg2, k, 1, T, NSSM_KEEP_BYTES, 2, tok, target, reset);
		check_same(&a, &e, 1, &cfg);
		struct outcome *all[] = {&a, &b, &c, &d, &e};
		for (int i = 0; i < 5; i++) {
			free(all[i]->grad);
			free(all[i]->state);
		}
	}
	free(tok);
	free(target);
	free(reset);
}

/* Along random directions, the gradient against central differences of the loss (fp32, so coarse). */
static void test_finite_differences(void **unused)
{
	enum { T = 40, V = 50, DIRECTIONS = 6 };
	struct nssm_mamba2_cfg cfg;
	small_cfg(&cfg, 16);
	uint16_t tok[T];
	int32_t target[T];
	uint8_t reset[T];
	random_rows(tok, target, reset, T, V, 21, 30);
	struct rig r;
	rig_open(&r, &cfg, nssm_kernels_get("ref"), 1, T, true, NSSM_KEEP_BYTES, 1);
	float *p = nssm_mamba2_params(r.m), *grad = zeros(r.n_params), *base = zeros(r.n_params);
	struct nssm_batch b = {.B = 1, .T = T, .token = tok, .target = target, .reset = reset};
	double loss, side[2];
	int64_t n;
	nssm_mamba2_init(p, &cfg, 22);
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
		cmocka_unit_test(test_gradient_invariance),
		cmocka_unit_test(test_finite_differences),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
