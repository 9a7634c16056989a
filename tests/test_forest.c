/* test_forest — trees whose answers are known by hand, splits against trying all of them the slow way, what does not depend on
 * threads and what depends on the seed, bad input. scikit-learn's judgement is in forest_sklearn.py. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "app/eval/forest.h"
#include "base/philox.h"

#define EPS 1e-6 /* leaves are floats */

static struct nssm_team *team;

/* One tree that sees all rows and all features. */
static struct nssm_forest_cfg one_tree(void)
{
	return (struct nssm_forest_cfg){.n_trees = 1, .no_bootstrap = true};
}

static struct nssm_forest *fit(const struct nssm_forest_cfg *cfg, const float *x, const int32_t *y, uint32_t n, uint32_t nf,
	uint32_t nc)
{
	struct nssm_err err = {0};
	struct nssm_forest *f = NULL;
	struct nssm_forest_cfg c = *cfg;
	if (c.n_trees == 1 && c.max_features == 0)
		c.max_features = nf;
	if (nssm_forest_fit(&f, &c, x, y, n, nf, nc, team, &err))
		fail_msg("%s", err.msg);
	return f;
}

static int32_t class_at(const struct nssm_forest *f, float x)
{
	int32_t y = -1;
	assert_int_equal(nssm_forest_predict(f, &y, &x, 1, team, NULL), 0);
	return y;
}

static void threshold_is_midway(void **state)
{
	const float x[] = {12, 1, 10, 2, 11, 3};
	const int32_t y[] = {1, 0, 1, 0, 1, 0};
	struct nssm_forest_cfg cfg = one_tree();
	struct nssm_forest *f = fit(&cfg, x, y, 6, 1, 2);
	assert_int_equal(nssm_forest_n_nodes(f), 3);
	assert_int_equal(class_at(f, 6.5f), 0);
	assert_int_equal(class_at(f, 6.5001f), 1);
	assert_int_equal(class_at(f, -1e30f), 0);
	assert_true(nssm_forest_importances(f)[0] == 1.0);
	assert_null(nssm_forest_oob_proba(f));
	nssm_forest_close(&f);
	assert_null(f);
	nssm_forest_close(&f);
}

static void neighbouring_floats_are_told_apart(void **state)
{
	const float pair[][2] = {{1, 0}, {3e38f, 0}, {0, 0}, {-1, 0}};
	for (int k = 0; k < 4; k++) {
		float x[2] = {pair[k][0], nextafterf(pair[k][0], INFINITY)};
		const int32_t y[] = {0, 1};
		struct nssm_forest_cfg cfg = one_tree();
		struct nssm_forest *f = fit(&cfg, x, y, 2, 1, 2);
		assert_int_equal(class_at(f, x[0]), 0);
		assert_int_equal(class_at(f, x[1]), 1);
		nssm_forest_close(&f);
	}
}

/* W(1 - Gini): root 4 - 6/4 = 2.5; feature 0 first: 1.5 of it (feature 1: 1.17), then feature 1 the last 1. Entropy: 6 bits, 4 and 2. */
static void importances_by_hand(void **state)
{
	const float x[] = {0, 0, 0, 0, 1, 0, 1, 1};
	const int32_t y[] = {0, 0, 1, 2};
	for (int kind = NSSM_GINI; kind <= NSSM_ENTROPY; kind++) {
		struct nssm_forest_cfg cfg = one_tree();
		cfg.impurity = (enum nssm_impurity)kind;
		struct nssm_forest *f = fit(&cfg, x, y, 4, 2, 3);
		double expected = kind == NSSM_GINI ? 0.6 : 2.0 / 3;
		assert_true(fabs(nssm_forest_importances(f)[0] - expected) < 1e-12);
		assert_true(fabs(nssm_forest_importances(f)[1] - (1 - expected)) < 1e-12);
		assert_int_equal(nssm_forest_n_nodes(f), 5);
		nssm_forest_close(&f);
	}
}

static void no_gain_is_split_too(void **state)
{
	const float x[] = {0, 0, 0, 1, 1, 0, 1, 1};
	const int32_t y[] = {0, 1, 1, 0};
	struct nssm_forest_cfg cfg = one_tree();
	struct nssm_forest *f = fit(&cfg, x, y, 4, 2, 2);
	int32_t got[4];
	assert_int_equal(nssm_forest_predict(f, got, x, 4, team, NULL), 0);
	assert_memory_equal(got, y, sizeof y);
	nssm_forest_close(&f);
}

static void depth_and_leaf_size_bound_the_tree(void **state)
{
	const float x[] = {0, 1, 2, 3, 4, 5, 6, 7};
	const int32_t y[] = {0, 1, 0, 1, 0, 1, 0, 1};
	struct nssm_forest_cfg cfg = one_tree();
	cfg.max_depth = 2;
	struct nssm_forest *f = fit(&cfg, x, y, 8, 1, 2);
	assert_true(nssm_forest_n_nodes(f) <= 7);
	nssm_forest_close(&f);
	cfg.max_depth = 0;
	f = fit(&cfg, x, y, 8, 1, 2);
	assert_int_equal(nssm_forest_n_nodes(f), 15);
	nssm_forest_close(&f);
	/* 3 and 5, or 4 and 4, or 5 and 3; no half can be cut again. */
	cfg.min_leaf = 3;
	f = fit(&cfg, x, y, 8, 1, 2);
	assert_int_equal(nssm_forest_n_nodes(f), 3);
	nssm_forest_close(&f);
	cfg.min_leaf = 5;
	f = fit(&cfg, x, y, 8, 1, 2);
	assert_int_equal(nssm_forest_n_nodes(f), 1);
	nssm_forest_close(&f);
	cfg.min_leaf = UINT32_MAX;
	f = fit(&cfg, x, y, 8, 1, 2);
	assert_int_equal(nssm_forest_n_nodes(f), 1);
	nssm_forest_close(&f);
}

static void proba_at(const struct nssm_forest *f, double *p, const float *x)
{
	assert_int_equal(nssm_forest_proba(f, p, x, 1, team, NULL), 0);
}

static void same_rows_of_two_classes(void **state)
{
	const float x[] = {5, 5, 5, 5};
	const int32_t y[] = {1, 2, 2, 1};
	double p[3];
	struct nssm_forest_cfg cfg = one_tree();
	struct nssm_forest *f = fit(&cfg, x, y, 4, 1, 3);
	proba_at(f, p, x);
	assert_true(p[0] == 0 && p[1] == 0.5 && p[2] == 0.5);
	assert_int_equal(class_at(f, 5), 1);
	assert_true(nssm_forest_importances(f)[0] == 0);
	nssm_forest_close(&f);
}

static void weights_move_a_leaf(void **state)
{
	const float x[] = {5, 5, 5, 5};
	const int32_t y[] = {0, 0, 0, 2};
	const double weight[] = {1, 1, 6};
	double p[3];
	struct nssm_forest_cfg cfg = one_tree();
	cfg.class_weight = weight;
	struct nssm_forest *f = fit(&cfg, x, y, 4, 1, 3);
	proba_at(f, p, x);
	assert_true(fabs(p[0] - 1.0 / 3) < EPS && p[1] == 0 && fabs(p[2] - 2.0 / 3) < EPS);
	nssm_forest_close(&f);
	cfg.class_weight = NULL;
	cfg.balanced = true;
	f = fit(&cfg, x, y, 4, 1, 3);
	proba_at(f, p, x);
	assert_true(fabs(p[0] - 0.5) < EPS && p[1] == 0 && fabs(p[2] - 0.5) < EPS);
	nssm_forest_close(&f);
}

static void constant_features_are_passed_over(void **state)
{
	float x[20 * 8] = {0};
	int32_t y[20], got[20];
	for (int i = 0; i < 20; i++) {
		x[i * 8 + 5] = (float)i;
		y[i] = i >= 7;
	}
	struct nssm_forest_cfg cfg = one_tree();
	cfg.max_features = 1;
	for (cfg.seed = 0; cfg.seed < 20; cfg.seed++) {
		struct nssm_forest *f = fit(&cfg, x, y, 20, 8, 2);
		assert_int_equal(nssm_forest_predict(f, got, x, 20, team, NULL), 0);
		assert_memory_equal(got, y, sizeof y);
		assert_true(nssm_forest_importances(f)[5] == 1);
		nssm_forest_close(&f);
	}
}

static void one_class_and_one_row(void **state)
{
	const float x[] = {1, 2, 3};
	const int32_t y[] = {1, 1, 1};
	double p[2], accuracy;
	struct nssm_forest_cfg cfg = {.n_trees = 20};
	struct nssm_forest *f = fit(&cfg, x, y, 3, 1, 2);
	proba_at(f, p, x);
	assert_true(p[0] == 0 && p[1] == 1);
	assert_int_equal(nssm_forest_oob(f, &accuracy), 3);
	assert_true(accuracy == 1);
	nssm_forest_close(&f);
	f = fit(&cfg, x, y, 1, 1, 2);
	proba_at(f, p, x);
	assert_true(p[1] == 1);
	assert_int_equal(nssm_forest_oob(f, &accuracy), 0);
	assert_true(accuracy == 0);
	assert_int_equal(nssm_forest_predict(f, NULL, NULL, 0, team, NULL), 0);
	nssm_forest_close(&f);
}

static void refuse(struct nssm_forest_cfg cfg, const float *x, const int32_t *y, uint32_t n, uint32_t nf, uint32_t nc, int code,
	const char *says)
{
	struct nssm_err err = {0};
	struct nssm_forest *f = NULL;
	assert_int_equal(nssm_forest_fit(&f, &cfg, x, y, n, nf, nc, team, &err), code);
	assert_null(f);
	if (!strstr(err.msg, says))
		fail_msg("'%s' does not say '%s'", err.msg, says);
}

static void bad_input_is_refused(void **state)
{
	float x[] = {1, 2, 3, 4};
	int32_t y[] = {0, 1};
	double weight[] = {1, 0};
	struct nssm_err err;
	struct nssm_forest_cfg cfg = {.n_trees = 3};
	refuse(cfg, x, y, 0, 2, 2, NSSM_EARG, "0 rows");
	refuse(cfg, x, y, 2, 0, 2, NSSM_EARG, "0 features");
	refuse(cfg, x, y, 2, 2, 0, NSSM_EARG, "0 classes");
	refuse(cfg, x, y, 2, 2, 1, NSSM_EARG, "row 1 is of class 1");
	y[0] = -1;
	refuse(cfg, x, y, 2, 2, 2, NSSM_EARG, "row 0 is of class -1");
	y[0] = 0;
	refuse((struct nssm_forest_cfg){0}, x, y, 2, 2, 2, NSSM_EARG, "0 trees");
	refuse((struct nssm_forest_cfg){.n_trees = 1, .max_bins = 1}, x, y, 2, 2, 2, NSSM_EARG, "1 bins");
	refuse((struct nssm_forest_cfg){.n_trees = 1, .max_features = 3}, x, y, 2, 2, 2, NSSM_EARG, "3 candidates");
	refuse((struct nssm_forest_cfg){.n_trees = 1, .class_weight = weight}, x, y, 2, 2, 2, NSSM_EARG, "class 1 weighs 0");
	weight[1] = NAN;
	refuse((struct nssm_forest_cfg){.n_trees = 1, .class_weight = weight}, x, y, 2, 2, 2, NSSM_EARG, "class 1 weighs");
	struct nssm_forest *f = fit(&cfg, x, y, 2, 2, 2);
	x[3] = NAN;
	refuse(cfg, x, y, 2, 2, 2, NSSM_ENUM, "row 1, feature 1 is NaN");
	double p[4];
	assert_int_equal(nssm_forest_proba(f, p, x, 2, team, &err), NSSM_ENUM);
	assert_non_null(strstr(err.msg, "row 1, feature 1 is NaN"));
	x[3] = -INFINITY;
	refuse(cfg, x, y, 2, 2, 2, NSSM_ENUM, "row 1, feature 1 is infinite");
	assert_int_equal(nssm_forest_predict(f, y, x, 2, team, &err), NSSM_ENUM);
	nssm_forest_close(&f);
}

/* Rows of noise with a class that depends a little on two features; levels > 0: values are 0 to levels - 1. */
static void noise(float *x, int32_t *y, uint32_t n, uint32_t nf, uint32_t nc, uint32_t levels, uint64_t seed)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, seed, 0, 0);
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < nf; k++)
			x[i * nf + k] = levels ? (float)nssm_rng_below(&rng, levels) : (float)nssm_rng_normal(&rng);
		y[i] = (int32_t)nssm_rng_below(&rng, nc);
		if (x[i * nf] > 0.5f * (float)levels && nssm_rng_below(&rng, 3) > 0)
			y[i] = 0;
		if (x[i * nf + 1] > 0.7f * (float)levels && nssm_rng_below(&rng, 3) > 0)
			y[i] = (int32_t)nc - 1;
	}
}

static double slow_purity(const float *x, const int32_t *y, uint32_t n, uint32_t nf, uint32_t nc, uint32_t k, float t, bool left,
	const double *weight, enum nssm_impurity kind, double *c)
{
	double w = 0, sum = 0;
	memset(c, 0, nc * sizeof *c);
	for (uint32_t i = 0; i < n; i++)
		if ((x[i * nf + k] <= t) == left)
			c[y[i]] += weight[y[i]];
	for (uint32_t i = 0; i < nc; i++)
		w += c[i];
	for (uint32_t i = 0; i < nc; i++)
		if (c[i] > 0)
			sum += kind == NSSM_GINI ? c[i] * c[i] / w : c[i] * log2(c[i] / w);
	for (uint32_t i = 0; i < nc && w > 0; i++)
		c[i] /= w;
	return w > 0 ? sum : -INFINITY;
}

/* A tree of one split against all splits, each counted anew. */
static void split_is_the_best_of_all(void **state)
{
	enum { NF = 4, NC = 3, N_MAX = 700 };
	static float x[N_MAX * NF];
	static int32_t y[N_MAX];
	const double weight[NC] = {1, 2.5, 0.75};
	const uint32_t size[] = {40, 63, 64, 65, 300, N_MAX}, levels[] = {0, 3, 20};
	for (uint32_t run = 0; run < 36; run++) {
		uint32_t n = size[run % 6];
		enum nssm_impurity kind = run / 18 ? NSSM_ENTROPY : NSSM_GINI;
		noise(x, y, n, NF, NC, levels[run / 6 % 3], 100 + run);
		double best = -INFINITY, c[NC], left[NC], right[NC], p[NC];
		uint32_t at_k = 0;
		float at = 0;
		for (uint32_t i = 0; i < n * NF; i++) {
			double s = slow_purity(x, y, n, NF, NC, i % NF, x[i], true, weight, kind, c)
				+ slow_purity(x, y, n, NF, NC, i % NF, x[i], false, weight, kind, c);
			if (s > best + 1e-9) {
				best = s;
				at = x[i];
				at_k = i % NF;
			}
		}
		slow_purity(x, y, n, NF, NC, at_k, at, true, weight, kind, left);
		slow_purity(x, y, n, NF, NC, at_k, at, false, weight, kind, right);
		struct nssm_forest_cfg cfg = one_tree();
		cfg.max_depth = 1;
		cfg.impurity = kind;
		cfg.class_weight = weight;
		struct nssm_forest *f = fit(&cfg, x, y, n, NF, NC);
		for (uint32_t i = 0; i < n; i++) {
			proba_at(f, p, x + i * NF);
			const double *want = x[i * NF + at_k] <= at ? left : right;
			for (uint32_t k = 0; k < NC; k++)
				if (!(fabs(p[k] - want[k]) < EPS))
					fail_msg("run %u, row %u, class %u: %g, expected %g", run, i, k, p[k], want[k]);
		}
		nssm_forest_close(&f);
	}
}

static void bins_hold_equal_numbers(void **state)
{
	enum { N = 1000 };
	static float x[N];
	static int32_t y[N];
	for (int i = 0; i < N; i++) {
		x[i] = expf((float)i / 50);
		y[i] = i >= 333;
	}
	struct nssm_forest_cfg cfg = one_tree();
	cfg.max_bins = 10;
	cfg.max_depth = 1;
	struct nssm_forest *f = fit(&cfg, x, y, N, 1, 2);
	/* The nearest bound is 300; between 299 and 300. */
	assert_true(class_at(f, x[299]) == 0 && class_at(f, x[300]) == 1);
	nssm_forest_close(&f);
	cfg.max_bins = 0;
	f = fit(&cfg, x, y, N, 1, 2);
	assert_true(class_at(f, x[332]) == 0 && class_at(f, x[333]) == 1);
	nssm_forest_close(&f);
}

static void seed_decides_and_threads_do_not(void **state)
{
	enum { N = 900, NF = 9, NC = 4 };
	static float x[N * NF];
	static int32_t y[N];
	static double p[4][N * NC], oob[N * NC];
	double importance[NF], accuracy[4];
	noise(x, y, N, NF, NC, 0, 7);
	const int threads[] = {1, 2, 5, 2};
	for (int k = 0; k < 4; k++) {
		struct nssm_team *t;
		struct nssm_forest *f;
		struct nssm_forest_cfg cfg = {.n_trees = 17, .seed = k == 3 ? 2 : 1};
		assert_int_equal(nssm_team_open(&t, threads[k], NULL), 0);
		assert_int_equal(nssm_forest_fit(&f, &cfg, x, y, N, NF, NC, t, NULL), 0);
		assert_int_equal(nssm_forest_proba(f, p[k], x, N, t, NULL), 0);
		nssm_forest_oob(f, &accuracy[k]);
		if (k == 0) {
			memcpy(oob, nssm_forest_oob_proba(f), sizeof oob);
			memcpy(importance, nssm_forest_importances(f), sizeof importance);
		}
		bool same = k < 3;
		assert_int_equal(memcmp(p[k], p[0], sizeof *p) == 0, same);
		assert_int_equal(memcmp(nssm_forest_oob_proba(f), oob, sizeof oob) == 0, same);
		assert_int_equal(memcmp(nssm_forest_importances(f), importance, sizeof importance) == 0, same);
		if (same)
			assert_true(accuracy[k] == accuracy[0]);
		nssm_forest_close(&f);
		nssm_team_close(&t);
	}
}

/* Nobody can learn coin tosses: out of bag says so, although the rows themselves are known by heart. */
static void oob_is_honest(void **state)
{
	enum { N = 2000, NF = 5 };
	static float x[N * NF];
	static int32_t y[N], got[N];
	struct nssm_rng rng;
	noise(x, y, N, NF, 2, 0, 3);
	nssm_rng_init(&rng, 4, 0, 0);
	uint32_t right = 0;
	double accuracy;
	for (int i = 0; i < N; i++)
		y[i] = (int32_t)nssm_rng_below(&rng, 2);
	struct nssm_forest_cfg cfg = {.n_trees = 60, .seed = 5};
	struct nssm_forest *f = fit(&cfg, x, y, N, NF, 2);
	assert_int_equal(nssm_forest_predict(f, got, x, N, team, NULL), 0);
	for (int i = 0; i < N; i++)
		right += got[i] == y[i];
	assert_true(right > 0.99 * N);
	assert_int_equal(nssm_forest_oob(f, &accuracy), N);
	/* 5 standard deviations of N tosses. */
	assert_true(fabs(accuracy - 0.5) < 0.056);
	nssm_forest_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threshold_is_midway),
		cmocka_unit_test(neighbouring_floats_are_told_apart),
		cmocka_unit_test(importances_by_hand),
		cmocka_unit_test(no_gain_is_split_too),
		cmocka_unit_test(depth_and_leaf_size_bound_the_tree),
		cmocka_unit_test(same_rows_of_two_classes),
		cmocka_unit_test(weights_move_a_leaf),
		cmocka_unit_test(constant_features_are_passed_over),
		cmocka_unit_test(one_class_and_one_row),
		cmocka_unit_test(bad_input_is_refused),
		cmocka_unit_test(split_is_the_best_of_all),
		cmocka_unit_test(bins_hold_equal_numbers),
		cmocka_unit_test(seed_decides_and_threads_do_not),
		cmocka_unit_test(oob_is_honest),
	};
	if (nssm_team_open(&team, 2, NULL))
		return 1;
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	nssm_team_close(&team);
	return rc;
}
