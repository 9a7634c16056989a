/* Log-linear histograms: where a value goes, what comes back, sums and differences, and a reader beside the writer. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "replay/hist.h"

#define LAST (NSSM_HIST_BUCKETS - 1)

static void test_buckets(void **unused)
{
	/* Each bucket begins where the one before it ends, and holds its ends. */
	assert_int_equal(nssm_hist_floor(0), 0);
	for (uint32_t b = 0; b < LAST; b++) {
		uint64_t lo = nssm_hist_floor(b), end = nssm_hist_floor(b + 1);
		assert_true(lo < end);
		assert_int_equal(nssm_hist_bucket(lo), b);
		assert_int_equal(nssm_hist_bucket(end - 1), b);
		assert_true(end - lo == 1 || (end - lo) * 32 <= lo);
	}
	for (uint64_t v = 0; v < 64; v++)
		assert_int_equal(nssm_hist_bucket(v), v);
	assert_int_equal(nssm_hist_floor(LAST), 1ull << 40);
	assert_int_equal(nssm_hist_bucket((1ull << 40) - 1), LAST - 1);
	assert_int_equal(nssm_hist_bucket(1ull << 40), LAST);
	assert_int_equal(nssm_hist_bucket(1ull << 63), LAST);
	assert_int_equal(nssm_hist_bucket(UINT64_MAX), LAST);
}

static void test_empty_and_one(void **unused)
{
	struct nssm_hist h;
	memset(&h, 0xa5, sizeof h);
	nssm_hist_clear(&h);
	assert_int_equal(nssm_hist_quantile(&h, 0), 0);
	assert_int_equal(nssm_hist_quantile(&h, 1), 0);
	assert_true(nssm_hist_mean(&h) == 0);
	static const uint64_t value[] = {0, 1, 31, 32, 63, 64, 65, 1000003, 1ull << 40, UINT64_MAX};
	for (size_t i = 0; i < sizeof value / sizeof *value; i++) {
		nssm_hist_clear(&h);
		nssm_hist_add(&h, value[i]);
		/* Minimum and maximum leave no other choice. */
		for (double q = 0; q <= 1; q += 0.25)
			assert_true(nssm_hist_quantile(&h, q) == value[i]);
		assert_int_equal(h.count, 1);
		assert_true(h.min_ns == value[i] && h.max_ns == value[i] && h.sum_ns == value[i]);
	}
	nssm_hist_add(&h, 5);
	assert_true(h.sum_ns == UINT64_MAX);
	assert_int_equal(nssm_hist_quantile(&h, 0.5), 5);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* Against the sorted values, over ten decades. */
static void test_quantiles(void **unused)
{
	enum { N = 20000 };
	static uint64_t v[N];
	static const double q[] = {0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1};
	struct nssm_hist h = {0};
	struct nssm_rng rng;
	nssm_rng_init(&rng, 3, 0, 99);
	double sum = 0;
	for (int i = 0; i < N; i++) {
		v[i] = (uint64_t)exp(nssm_rng_unit(&rng) * 25) - 1;
		sum += (double)v[i];
		nssm_hist_add(&h, v[i]);
	}
	qsort(v, N, sizeof *v, by_value);
	for (size_t i = 0; i < sizeof q / sizeof *q; i++) {
		double rank = ceil(q[i] * N);
		uint64_t want = v[rank < 1 ? 0 : (size_t)rank - 1], got = nssm_hist_quantile(&h, q[i]);
		assert_true(fabs((double)got - (double)want) <= (double)want / 32);
	}
	assert_true(nssm_hist_quantile(&h, 0) == v[0]);
	assert_true(nssm_hist_quantile(&h, 1) == v[N - 1]);
	assert_true(fabs(nssm_hist_mean(&h) - sum / N) <= 1e-9 * sum / N);
}

static void test_merge_and_since(void **unused)
{
	struct nssm_hist part[3] = {0}, all = {0}, sum = {0}, was, diff, second = {0};
	struct nssm_rng rng;
	nssm_rng_init(&rng, 4, 0, 99);
	for (int i = 0; i < 30000; i++) {
		uint64_t v = nssm_rng_u32(&rng) >> nssm_rng_below(&rng, 32);
		nssm_hist_add(&part[i % 3], v + 7);
		nssm_hist_add(&all, v + 7);
	}
	for (int i = 0; i < 3; i++)
		nssm_hist_merge(&sum, &part[i]);
	assert_memory_equal(&sum, &all, sizeof sum);
	struct nssm_hist none = {0};
	nssm_hist_merge(&sum, &none);
	assert_memory_equal(&sum, &all, sizeof sum);

	/* Inside the old bounds: those of the buckets. Outside: exact. */
	was = all;
	for (uint64_t v = 1000; v <= 2000; v += 10) {
		nssm_hist_add(&all, v);
		nssm_hist_add(&second, v);
	}
	nssm_hist_since(&diff, &all, &was);
	assert_memory_equal(diff.bucket, second.bucket, sizeof diff.bucket);
	assert_true(diff.count == second.count && diff.sum_ns == second.sum_ns);
	assert_int_equal(diff.min_ns, 992);
	assert_int_equal(diff.max_ns, 2015);
	nssm_hist_add(&all, 3);
	nssm_hist_add(&all, 1ull << 45);
	nssm_hist_since(&diff, &all, &was);
	assert_int_equal(diff.min_ns, 3);
	assert_true(diff.max_ns == 1ull << 45);
	nssm_hist_since(&was, &all, &was); /* in place */
	assert_memory_equal(&was, &diff, sizeof was);
	nssm_hist_since(&diff, &all, &all);
	assert_memory_equal(&diff, &none, sizeof diff);
	/* From nothing: the whole. */
	nssm_hist_since(&diff, &all, &none);
	assert_memory_equal(&diff, &all, sizeof diff);
}

enum { ADDS = 2000000 };
static struct nssm_hist shared;

static void *writer(void *arg)
{
	for (uint32_t i = 0; i < ADDS; i++)
		nssm_hist_add(&shared, i % 5000);
	return NULL;
}

/* What a reader sees beside the writer only grows, and its percentiles are values that were added (run under TSan: no race). */
static void test_reader_beside_writer(void **unused)
{
	pthread_t t;
	assert_int_equal(pthread_create(&t, NULL, writer, NULL), 0);
	uint64_t last = 0;
	do {
		struct nssm_hist seen = {0};
		nssm_hist_merge(&seen, &shared);
		assert_true(seen.count >= last);
		assert_true(nssm_hist_quantile(&shared, 0.99) < 5000);
		last = seen.count;
	} while (last < ADDS);
	pthread_join(t, NULL);
	assert_int_equal(shared.count, ADDS);
	assert_int_equal(shared.max_ns, 4999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_buckets),
	        cmocka_unit_test(test_empty_and_one),
	        cmocka_unit_test(test_quantiles),
	        cmocka_unit_test(test_merge_and_since),
	        cmocka_unit_test(test_reader_beside_writer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
