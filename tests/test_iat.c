/* Inter-arrival steps: borders against the formula, every gap inside its step's range, draws that follow a
 * histogram. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/iat.h"

static void borders_follow_the_formula(void **state)
{
	uint64_t lo, hi, before = 100;
	nssm_iat_range(0, &lo, &hi);
	assert_int_equal(lo, 0);
	assert_int_equal(hi, 1);
	for (unsigned k = 1; k < NSSM_IAT_STEPS; k++) {
		nssm_iat_range(k, &lo, &hi);
		assert_int_equal(lo, before); /* no gap, no overlap */
		assert_true(hi > lo);
		double want = 100 * exp2(k / 8.0);
		assert_true(fabs((double)hi - want) <= 1 + 1e-12 * want);
		before = hi;
	}
	nssm_iat_range(9, &lo, &hi); /* one octave up: exactly 200 */
	assert_int_equal(lo, 200);
}

static void a_gap_lies_in_its_step(void **state)
{
	for (unsigned k = 1; k < NSSM_IAT_STEPS; k++) {
		uint64_t lo, hi;
		nssm_iat_range(k, &lo, &hi);
		assert_int_equal(nssm_iat_step(lo), k);
		assert_int_equal(nssm_iat_step(hi - 1), k);
	}
	assert_int_equal(nssm_iat_step(0), 0);
	assert_int_equal(nssm_iat_step(52), 0);
	assert_int_equal(nssm_iat_step(53), 1);
	assert_int_equal(nssm_iat_step(99), 1);
	assert_int_equal(nssm_iat_step(UINT64_MAX), 255);
}

static void dither_stays_inside_and_spreads(void **state)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 7, 0, NSSM_RNG_TIME);
	for (unsigned k = 0; k < NSSM_IAT_STEPS; k++)
		for (int i = 0; i < 50; i++)
			assert_int_equal(nssm_iat_step(nssm_iat_dither(k, &rng)), k);
	/* Log-uniform: half of the draws under the step's geometric mean. */
	uint64_t lo, hi;
	nssm_iat_range(120, &lo, &hi);
	double mid = sqrt((double)lo * (double)hi);
	int below = 0;
	for (int i = 0; i < 10000; i++)
		below += (double)nssm_iat_dither(120, &rng) < mid;
	assert_true(below > 4800 && below < 5200);
}

static void draws_follow_the_histogram(void **state)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 1, 2, NSSM_RNG_TIME);
	struct nssm_iat_hist h = {0};
	assert_int_equal(nssm_iat_draw(&h, &rng), 1000000);
	for (int i = 0; i < 30; i++)
		nssm_iat_add(&h, 0);
	for (int i = 0; i < 70; i++)
		nssm_iat_add(&h, 5000000);
	assert_int_equal(h.n, 100);
	int zero = 0;
	for (int i = 0; i < 10000; i++) {
		uint64_t gap = nssm_iat_draw(&h, &rng);
		assert_true(gap == 0 || nssm_iat_step(gap) == nssm_iat_step(5000000));
		zero += gap == 0;
	}
	assert_true(zero > 2800 && zero < 3200);
	/* A histogram that lies about its sum gives a step that it holds. */
	h.n = UINT64_MAX;
	assert_int_equal(nssm_iat_step(nssm_iat_draw(&h, &rng)), nssm_iat_step(5000000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(borders_follow_the_formula),
	        cmocka_unit_test(a_gap_lies_in_its_step),
	        cmocka_unit_test(dither_stays_inside_and_spreads),
	        cmocka_unit_test(draws_follow_the_histogram),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
