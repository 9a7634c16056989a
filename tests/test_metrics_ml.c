/* test_metrics_ml — figures counted by hand; splits that keep groups together, whatever the seed; rows that are the same. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "app/eval/metrics.h"
#include "base/philox.h"

#define near(a, b) assert_true(fabs((a) - (b)) < 1e-12)

static void scores_by_hand(void **state)
{
	/* Class 2 is never predicted, 3 never true, 4 neither. */
	const int32_t y[] = {0, 0, 0, 0, 1, 1, 2}, p[] = {0, 0, 0, 1, 1, 3, 0};
	uint64_t counts[25];
	struct nssm_class_score s[5];
	double accuracy;
	assert_int_equal(nssm_confusion(counts, y, p, 7, 5, NULL), 0);
	assert_int_equal(counts[0 * 5 + 0], 3);
	assert_int_equal(counts[0 * 5 + 1], 1);
	assert_int_equal(counts[1 * 5 + 3], 1);
	assert_int_equal(counts[2 * 5 + 0], 1);
	double macro = nssm_class_scores(s, &accuracy, counts, 5);
	near(accuracy, 4.0 / 7);
	near(s[0].precision, 0.75);
	near(s[0].recall, 0.75);
	near(s[0].f1, 0.75);
	near(s[1].precision, 0.5);
	near(s[1].recall, 0.5);
	near(s[2].precision, 0);
	assert_int_equal(s[2].n_predicted, 0);
	assert_int_equal(s[3].n_true, 0);
	assert_int_equal(s[3].n_predicted, 1);
	near(macro, (0.75 + 0.5) / 4);
	assert_int_equal(nssm_confusion(counts, y, p, 0, 5, NULL), 0);
	near(nssm_class_scores(s, &accuracy, counts, 5), 0);
	near(accuracy, 0);
	struct nssm_err err;
	assert_int_equal(nssm_confusion(counts, y, p, 7, 3, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "row 5: class 3; expected 0 to 2"));
}

static void auc_by_hand(void **state)
{
	double auc;
	struct nssm_err err;
	const double score[] = {0.1, 0.4, 0.35, 0.8}, tie[] = {1, 1, 1, 2, 2};
	const bool pos[] = {false, false, true, true}, tie_pos[] = {false, true, false, true, false};
	assert_int_equal(nssm_roc_auc(&auc, score, pos, 4, NULL), 0);
	near(auc, 0.75);
	/* Of 6 pairs: the 1 against 1, 1, 2 wins half, half, 0; the 2 wins 1, 1, half. */
	assert_int_equal(nssm_roc_auc(&auc, tie, tie_pos, 5, NULL), 0);
	near(auc, 3.5 / 6);
	const double same[] = {3, 3, 3, 3}, inf[] = {-INFINITY, -INFINITY, INFINITY, INFINITY};
	assert_int_equal(nssm_roc_auc(&auc, same, pos, 4, NULL), 0);
	near(auc, 0.5);
	assert_int_equal(nssm_roc_auc(&auc, inf, pos, 4, NULL), 0);
	near(auc, 1);
	assert_int_equal(nssm_roc_auc(&auc, score, pos, 2, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "none of 2 rows"));
	assert_int_equal(nssm_roc_auc(&auc, score, pos + 2, 2, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "all of 2 rows"));
	assert_int_equal(nssm_roc_auc(&auc, score, pos, 0, &err), NSSM_EARG);
	const double bad[] = {0, NAN, 1, 2};
	assert_int_equal(nssm_roc_auc(&auc, bad, pos, 4, &err), NSSM_ENUM);
	assert_non_null(strstr(err.msg, "row 1"));
}

static double mean(void *ctx, const uint32_t *idx, uint32_t n)
{
	const double *x = ctx;
	double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += x[idx[i]];
	return sum / n;
}

static double only_both(void *ctx, const uint32_t *idx, uint32_t n)
{
	bool zero = false, one = false;
	for (uint32_t i = 0; i < n; i++) {
		zero |= idx[i] == 0;
		one |= idx[i] == 1;
	}
	return zero && one ? 1 : NAN;
}

static void bootstrap_knows_its_spread(void **state)
{
	enum { N = 400 };
	static double x[N];
	static uint32_t group[N];
	struct nssm_rng rng;
	struct nssm_interval a, b, c, g;
	nssm_rng_init(&rng, 1, 0, 0);
	for (uint32_t i = 0; i < N; i++) {
		/* 20 groups whose rows are all the same: as much as 20 rows, not 400. */
		group[i] = 1000 - i % 20;
		x[i] = i < 20 ? nssm_rng_normal(&rng) : x[i - 20];
	}
	assert_int_equal(nssm_bootstrap(&a, mean, x, NULL, N, 2000, 0.95, 7, NULL), 0);
	assert_int_equal(nssm_bootstrap(&b, mean, x, NULL, N, 2000, 0.95, 7, NULL), 0);
	assert_int_equal(nssm_bootstrap(&c, mean, x, NULL, N, 2000, 0.95, 8, NULL), 0);
	assert_int_equal(nssm_bootstrap(&g, mean, x, group, N, 2000, 0.95, 7, NULL), 0);
	assert_true(a.lo == b.lo && a.hi == b.hi && a.lo != c.lo);
	assert_true(a.lo < a.value && a.value < a.hi && a.n_used == 2000);
	/* The mean's distribution is nearly normal: 1.96 standard errors on either side. */
	double sq = 0, upper, lower;
	for (uint32_t i = 0; i < N; i++)
		sq += (x[i] - a.value) * (x[i] - a.value);
	upper = (a.hi - a.value) / (sqrt(sq) / N);
	lower = (a.value - a.lo) / (sqrt(sq) / N);
	assert_true(fabs(upper - 1.96) < 0.15 && fabs(lower - 1.96) < 0.15);
	double ratio = (g.hi - g.lo) / (a.hi - a.lo);
	assert_true(ratio > 0.9 * sqrt(20) && ratio < 1.1 * sqrt(20));
	/* Both of two rows are drawn half the time. */
	assert_int_equal(nssm_bootstrap(&a, only_both, NULL, NULL, 2, 1000, 0.5, 1, NULL), 0);
	assert_true(a.n_used > 420 && a.n_used < 580 && a.lo == 1 && a.hi == 1);
	struct nssm_err err;
	assert_int_equal(nssm_bootstrap(&a, only_both, NULL, NULL, 1, 10, 0.5, 1, &err), NSSM_ENUM);
	assert_int_equal(nssm_bootstrap(&a, mean, x, NULL, 0, 10, 0.5, 1, &err), NSSM_EARG);
	assert_int_equal(nssm_bootstrap(&a, mean, x, NULL, 5, 0, 0.5, 1, &err), NSSM_EARG);
	assert_int_equal(nssm_bootstrap(&a, mean, x, NULL, 5, 10, 1, 1, &err), NSSM_EARG);
}

/* 5 classes of 12, 9, 3, 1 and 0 groups of 1 to 4 rows, shuffled. */
enum { GROUPS = 25, CLASSES = 5 };
static uint32_t make_rows(int32_t *y, uint32_t *group, uint32_t cap)
{
	const uint32_t upto[CLASSES] = {12, 21, 24, 25, 25};
	struct nssm_rng rng;
	uint32_t n = 0;
	for (uint32_t g = 0; g < GROUPS; g++) {
		int32_t class = 0;
		while (g >= upto[class])
			class++;
		for (uint32_t k = 0; k < 1 + g % 4; k++, n++) {
			assert_true(n < cap);
			y[n] = class;
			group[n] = g * 77 % 31;
		}
	}
	nssm_rng_init(&rng, 3, 0, 0);
	for (uint32_t i = 0; i + 1 < n; i++) {
		uint32_t k = i + nssm_rng_below(&rng, n - i), g = group[i];
		int32_t c = y[i];
		y[i] = y[k];
		group[i] = group[k];
		y[k] = c;
		group[k] = g;
	}
	return n;
}

static void folds_are_even_and_whole(void **state)
{
	enum { K = 4, CAP = 200 };
	int32_t y[CAP];
	uint32_t group[CAP], fold[CAP], first[CAP], n = make_rows(y, group, CAP);
	bool differs = false;
	for (uint64_t seed = 0; seed < 30; seed++) {
		uint32_t of_group[31], count[CLASSES][K] = {{0}}, all[K] = {0};
		memset(of_group, 0xff, sizeof of_group);
		assert_int_equal(nssm_split_folds(fold, y, group, n, CLASSES, K, seed, NULL), 0);
		for (uint32_t i = 0; i < n; i++) {
			assert_true(fold[i] < K);
			if (of_group[group[i]] == UINT32_MAX) {
				count[y[i]][fold[i]]++;
				all[fold[i]]++;
			}
			assert_true(of_group[group[i]] == UINT32_MAX || of_group[group[i]] == fold[i]);
			of_group[group[i]] = fold[i];
		}
		for (uint32_t k = 0; k < K; k++) {
			assert_int_equal(count[0][k], 3);
			assert_true(count[1][k] == 2 || count[1][k] == 3);
			assert_true(all[k] == 6 || all[k] == 7);
		}
		if (seed == 0)
			memcpy(first, fold, sizeof first);
		differs |= memcmp(first, fold, n * sizeof *fold) != 0;
	}
	assert_true(differs);
	assert_int_equal(nssm_split_folds(fold, y, group, n, CLASSES, K, 0, NULL), 0);
	assert_memory_equal(first, fold, n * sizeof *fold);
	struct nssm_err err;
	assert_int_equal(nssm_split_folds(fold, y, group, n, CLASSES, 26, 0, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "26 folds of 25 groups"));
	assert_int_equal(nssm_split_folds(fold, y, group, n, CLASSES, 1, 0, &err), NSSM_EARG);
	assert_int_equal(nssm_split_folds(fold, y, group, 0, CLASSES, 2, 0, &err), NSSM_EARG);
	assert_int_equal(nssm_split_folds(fold, y, group, n, 2, K, 0, &err), NSSM_EARG);
}

static void holdout_is_stratified(void **state)
{
	enum { CAP = 200 };
	const uint32_t expected[CLASSES] = {3, 2, 1, 0, 0};
	int32_t y[CAP];
	uint32_t group[CAP], n = make_rows(y, group, CAP);
	bool held[CAP];
	for (uint64_t seed = 0; seed < 10; seed++) {
		uint32_t count[CLASSES] = {0};
		int seen[31] = {0};
		assert_int_equal(nssm_split_holdout(held, y, group, n, CLASSES, 0.25, seed, NULL), 0);
		for (uint32_t i = 0; i < n; i++) {
			int state_now = held[i] ? 2 : 1;
			if (seen[group[i]] == 0)
				count[y[i]] += held[i];
			assert_true(seen[group[i]] == 0 || seen[group[i]] == state_now);
			seen[group[i]] = state_now;
		}
		assert_memory_equal(count, expected, sizeof count);
	}
	/* Never none, never all of two or more. */
	uint32_t held_of[CLASSES] = {0}, seen[31] = {0};
	assert_int_equal(nssm_split_holdout(held, y, group, n, CLASSES, 0.01, 1, NULL), 0);
	for (uint32_t i = 0; i < n; i++)
		held_of[y[i]] += held[i] && seen[group[i]]++ == 0;
	assert_true(held_of[0] == 1 && held_of[1] == 1 && held_of[2] == 1 && held_of[3] == 0);
	assert_int_equal(nssm_split_holdout(held, y, group, n, CLASSES, 0.999, 1, NULL), 0);
	for (uint32_t i = 0, some = 0; i <= n; i++) {
		if (i == n)
			assert_true(some);
		else
			some |= y[i] == 2 && !held[i];
	}
	struct nssm_err err;
	assert_int_equal(nssm_split_holdout(held, y, group, n, CLASSES, 1, 1, &err), NSSM_EARG);
	assert_int_equal(nssm_split_holdout(held, y, group, n, CLASSES, NAN, 1, &err), NSSM_EARG);
}

/* A group with rows of several classes is of the most frequent one. */
static void mixed_groups_have_one_class(void **state)
{
	const int32_t y[] = {1, 0, 1, 0, 1, 1, 1, 0};
	const uint32_t group[] = {5, 5, 5, 6, 7, 7, 8, 8};
	bool held[8];
	for (uint64_t seed = 0; seed < 20; seed++) {
		/* Class 1: groups 5, 7; class 0: 6, 8 (as often, the lower). One of each is held out. */
		assert_int_equal(nssm_split_holdout(held, y, group, 8, 2, 0.5, seed, NULL), 0);
		assert_true(held[0] != held[4] && held[3] != held[6] && held[0] == held[2] && held[6] == held[7]);
	}
}

static void identical_rows_stay_together(void **state)
{
	const float x[][2] = {{1, 2}, {3, 4}, {0, 5}, {1, 2}, {-0.0f, 5}, {7, 8}, {3, 4}, {9, 9}};
	/* 10 = {0, 1}, 20 = {2, 3}, 30 = {4}, 40 = {5, 6}, 50 = {7}: 10-20 by (1,2), 20-30 by (0,5), 10-40 by (3,4). */
	const uint32_t group[] = {10, 10, 20, 20, 30, 40, 40, 50}, expected[] = {0, 0, 0, 0, 0, 0, 0, 1};
	uint32_t merged[8];
	assert_int_equal(nssm_group_identical(merged, &x[0][0], group, 8, 2, NULL), 2);
	assert_memory_equal(merged, expected, sizeof expected);
	const uint32_t alone[] = {0, 1, 2, 0, 2, 3, 1, 4};
	assert_int_equal(nssm_group_identical(merged, &x[0][0], NULL, 8, 2, NULL), 5);
	assert_memory_equal(merged, alone, sizeof alone);
	assert_int_equal(nssm_group_identical(merged, NULL, NULL, 0, 2, NULL), 0);
}

static void known_rows_are_dropped(void **state)
{
	const float train[][2] = {{1, 2}, {0, 3}, {1, 2}}, x[][2] = {{1, 2}, {2, 1}, {-0.0f, 3}, {1, 3}};
	const bool expected[] = {false, true, false, true};
	bool keep[4];
	assert_int_equal(nssm_drop_known(keep, &x[0][0], 4, &train[0][0], 3, 2, NULL), 2);
	assert_memory_equal(keep, expected, sizeof keep);
	assert_int_equal(nssm_drop_known(keep, &x[0][0], 4, NULL, 0, 2, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scores_by_hand),
		cmocka_unit_test(auc_by_hand),
		cmocka_unit_test(bootstrap_knows_its_spread),
		cmocka_unit_test(folds_are_even_and_whole),
		cmocka_unit_test(holdout_is_stratified),
		cmocka_unit_test(mixed_groups_have_one_class),
		cmocka_unit_test(identical_rows_stay_together),
		cmocka_unit_test(known_rows_are_dropped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
