/* The kept set is read back from the logits, which the sampler leaves as the weights it drew from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "model/sampler.h"

#define V_MAX 300

static const struct nssm_sampler_cfg plain = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};

static uint16_t sample(
        float *logits, int V, struct nssm_sampler_cfg cfg, const uint64_t *legal, struct nssm_rng *rng)
{
	float scratch[V_MAX];
	return nssm_sample(logits, V, &cfg, legal, NULL, 0, rng, scratch);
}

/* Checks that exactly the ids in `kept` (a string of digits) are left. */
static void expect_kept(const float *in, int V, struct nssm_sampler_cfg cfg, const char *kept)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 1, 2, NSSM_RNG_SAMPLE);
	float w[V_MAX];
	memcpy(w, in, (size_t)V * sizeof *w);
	uint16_t t = sample(w, V, cfg, NULL, &rng);
	assert_true(w[t] > 0);
	for (int i = 0; i < V; i++) {
		bool want = strchr(kept, '0' + i) != NULL;
		if ((w[i] > 0) != want)
			fail_msg("token %d: weight %g, want %s", i, (double)w[i], want ? "kept" : "dropped");
	}
}

static void filters_by_hand(void **state)
{
	/* Probabilities 0.4, 0.3, 0.2, 0.1 at ids 2, 0, 3, 1. */
	const float p[4] = {logf(0.3f), logf(0.1f), logf(0.4f), logf(0.2f)};
	struct nssm_sampler_cfg c = plain;
	expect_kept(p, 4, c, "0123");
	c.top_k = 2;
	expect_kept(p, 4, c, "02");
	c.top_k = 4;
	expect_kept(p, 4, c, "0123");
	c.top_k = 100;
	expect_kept(p, 4, c, "0123");
	c = plain;
	c.top_p = 0.65f; /* 0.4 is not enough, 0.4 + 0.3 is */
	expect_kept(p, 4, c, "02");
	c.top_p = 0.39f;
	expect_kept(p, 4, c, "2");
	c.top_p = 1e-6f;
	expect_kept(p, 4, c, "2");
	c.top_p = 0.95f;
	expect_kept(p, 4, c, "0123");
	c = plain;
	c.min_p = 0.6f; /* of 0.4: 0.24 */
	expect_kept(p, 4, c, "02");
	c.min_p = 1;
	expect_kept(p, 4, c, "2");
	/* top-p weighs what top-k left: 0.4/0.9 + 0.3/0.9 = 0.78 reaches 0.75, of all it would be 0.7. */
	c = plain;
	c.top_k = 3;
	c.top_p = 0.75f;
	expect_kept(p, 4, c, "02");
	c.top_k = 0;
	expect_kept(p, 4, c, "023");
	/* Temperature comes before top-p: at 1/2 the weights are 16:9:4:1 of 30, so 16/30 reaches 0.5. */
	c = plain;
	c.temperature = 0.5f;
	c.top_p = 0.5f;
	expect_kept(p, 4, c, "2");
	c.temperature = 1;
	expect_kept(p, 4, c, "02");
}

static void ties_are_kept(void **state)
{
	const float l[5] = {2, 3, 2, 1, 2};
	struct nssm_sampler_cfg c = plain;
	c.top_k = 2;
	expect_kept(l, 5, c, "0124");
	c.top_k = 1;
	expect_kept(l, 5, c, "1");
	const float same[4] = {1, 1, 1, 1};
	expect_kept(same, 4, c, "0123");
	c = plain;
	c.top_p = 0.3f;
	expect_kept(same, 4, c, "0123");
	c = plain;
	c.min_p = 1;
	expect_kept(same, 4, c, "0123");
}

static void greedy(void **state)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 1, 2, NSSM_RNG_SAMPLE);
	struct nssm_sampler_cfg c = plain;
	c.temperature = 0;
	float l[5] = {1, 7, 3, 7, 2};
	assert_int_equal(sample(l, 5, c, NULL, &rng), 1);
	const uint64_t legal = 1u << 4 | 1u << 2;
	float m[5] = {1, 7, 3, 7, 2};
	assert_int_equal(sample(m, 5, c, &legal, &rng), 2);
	assert_int_equal(rng.block, 0); /* no random number was used */
}

static void penalty(void **state)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 1, 2, NSSM_RNG_SAMPLE);
	struct nssm_sampler_cfg c = plain;
	c.temperature = 0;
	c.repetition_penalty = 2;
	c.repetition_window = 4;
	float scratch[5];
	/* The window is the last four: 0, 3, 3, 1; the 2 before it does not count, a second 3 does not
	 * either, 9 is no id. */
	const uint16_t recent[] = {2, 0, 3, 3, 1};
	float l[5] = {4, -1, 3, 2, -8};
	assert_int_equal(nssm_sample(l, 5, &c, NULL, recent, 5, &rng, scratch), 2);
	const float want[5] = {2, -2, 3, 1, -8};
	assert_memory_equal(l, want, sizeof want);
	const uint16_t odd[] = {9, 65535, 2};
	float k[5] = {4, -1, 5, 2, -8};
	assert_int_equal(nssm_sample(k, 5, &c, NULL, odd, 3, &rng, scratch), 0);
	/* Window 0 and penalty 1: nothing happens. */
	c.repetition_window = 0;
	float z[3] = {1, 2, 3};
	assert_int_equal(nssm_sample(z, 3, &c, NULL, recent, 5, &rng, scratch), 2);
	assert_true(z[0] == 1 && z[1] == 2 && z[2] == 3);
}

static void odd_logits(void **state)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 1, 2, NSSM_RNG_SAMPLE);
	float a[3] = {NAN, NAN, NAN};
	assert_int_equal(sample(a, 3, plain, NULL, &rng), 0);
	const uint64_t legal = 6;
	float b[3] = {5, -INFINITY, -INFINITY};
	assert_int_equal(sample(b, 3, plain, &legal, &rng), 1);
	float d[3] = {NAN, 1, -INFINITY};
	assert_int_equal(sample(d, 3, plain, NULL, &rng), 1);
	float e[3] = {FLT_MAX, INFINITY, -FLT_MAX};
	for (int i = 0; i < 50; i++) {
		float f[3];
		memcpy(f, e, sizeof f);
		assert_true(sample(f, 3, plain, NULL, &rng) < 2);
	}
	struct nssm_sampler_cfg cold = plain;
	cold.temperature = 1e-30f;
	float g[3] = {1, 1.5f, 1.25f};
	assert_int_equal(sample(g, 3, cold, NULL, &rng), 1);
	float one[1] = {-3};
	assert_int_equal(sample(one, 1, plain, NULL, &rng), 0);
}

/* --- the same filters by sorting, the way transformers does it ------------------------------------------------ */

static int descending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return x > y ? -1 : x < y;
}

static void reference(
        bool *kept, const float *logits, int V, const struct nssm_sampler_cfg *c, const uint64_t *legal)
{
	float sorted[V_MAX], max = -INFINITY;
	int n = 0;
	for (int i = 0; i < V; i++) {
		kept[i] = legal == NULL || (legal[i / 64] >> (i % 64) & 1);
		if (kept[i]) {
			sorted[n++] = logits[i];
			max = fmaxf(max, logits[i]);
		}
	}
	qsort(sorted, (size_t)n, sizeof *sorted, descending);
	if (c->top_k > 0 && c->top_k < n)
		for (int i = 0; i < V; i++)
			kept[i] = kept[i] && logits[i] >= sorted[c->top_k - 1];
	float w[V_MAX];
	n = 0;
	double total = 0;
	for (int i = 0; i < V; i++) {
		w[i] = kept[i] ? expf((logits[i] - max) / c->temperature) : 0;
		if (kept[i])
			sorted[n++] = w[i];
		total += w[i];
	}
	qsort(sorted, (size_t)n, sizeof *sorted, descending);
	if (c->top_p < 1) {
		double sum = 0;
		int k = 0;
		while (k < n && sum < c->top_p * total)
			sum += sorted[k++];
		for (int i = 0; i < V; i++)
			kept[i] = kept[i] && w[i] >= sorted[k - 1];
	}
	for (int i = 0; i < V; i++)
		kept[i] = kept[i] && w[i] > 0 && w[i] >= c->min_p;
}

static void same_as_sorting(void **state)
{
	struct nssm_rng rng, draw;
	nssm_rng_init(&rng, 77, 0, NSSM_RNG_SAMPLE);
	nssm_rng_init(&draw, 78, 0, NSSM_RNG_SAMPLE);
	for (int k = 0; k < 20000; k++) {
		int V = 1 + (int)nssm_rng_below(&rng, V_MAX);
		struct nssm_sampler_cfg c = plain;
		if (nssm_rng_below(&rng, 2))
			c.top_k = (int)nssm_rng_below(&rng, (uint32_t)V + 10);
		if (nssm_rng_below(&rng, 2))
			c.top_p = (float)nssm_rng_unit(&rng);
		if (nssm_rng_below(&rng, 2))
			c.min_p = (float)pow(nssm_rng_unit(&rng), 3);
		c.temperature = (float)(0.2 + 2 * nssm_rng_unit(&rng));
		/* Every other round on a coarse grid, so that there are ties. */
		double spread = 5 * nssm_rng_unit(&rng);
		bool grid = nssm_rng_below(&rng, 2) != 0;
		float logits[V_MAX];
		for (int i = 0; i < V; i++) {
			double x = spread * nssm_rng_normal(&rng);
			logits[i] = (float)(grid ? round(x) : x);
		}
		uint64_t mask[(V_MAX + 63) / 64] = {0};
		const uint64_t *legal = nssm_rng_below(&rng, 2) ? mask : NULL;
		for (int i = 0; i < V; i++)
			if (nssm_rng_below(&rng, 3) == 0)
				mask[i / 64] |= 1ull << (i % 64);
		uint32_t sure = nssm_rng_below(&rng, (uint32_t)V);
		mask[sure / 64] |= 1ull << (sure % 64);

		bool kept[V_MAX];
		reference(kept, logits, V, &c, legal);
		uint16_t t = sample(logits, V, c, legal, &draw);
		assert_true(t < V && kept[t]);
		for (int i = 0; i < V; i++)
			if ((logits[i] > 0) != kept[i])
				fail_msg("round %d, V %d, top_k %d, top_p %g, min_p %g: token %d: weight %g, "
				         "reference %d",
				        k, V, c.top_k, (double)c.top_p, (double)c.min_p, i, (double)logits[i],
				        kept[i]);
	}
}

static void chi_square(void **state)
{
	enum { V = 40, N = 100000 };
	struct nssm_rng rng;
	nssm_rng_init(&rng, 5, 0, NSSM_RNG_SAMPLE);
	float logits[V];
	double p[V], total = 0;
	for (int i = 0; i < V; i++)
		logits[i] = (float)nssm_rng_normal(&rng);
	const float T = 1.7f;
	for (int i = 0; i < V; i++)
		total += p[i] = exp((double)logits[i] / (double)T);
	int seen[V] = {0};
	struct nssm_sampler_cfg c = plain;
	c.temperature = T;
	for (int k = 0; k < N; k++) {
		float w[V];
		memcpy(w, logits, sizeof w);
		seen[sample(w, V, c, NULL, &rng)]++;
	}
	double chi2 = 0;
	for (int i = 0; i < V; i++) {
		double want = N * p[i] / total;
		chi2 += (seen[i] - want) * (seen[i] - want) / want;
	}
	/* 39 degrees of freedom: 1 in 10,000 above 79.5, 1 in 10,000 below 14.2. The seed is fixed. */
	if (!(chi2 > 14.2 && chi2 < 79.5))
		fail_msg("chi-square %g with 39 degrees of freedom", chi2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(filters_by_hand),
	        cmocka_unit_test(ties_are_kept),
	        cmocka_unit_test(greedy),
	        cmocka_unit_test(penalty),
	        cmocka_unit_test(odd_logits),
	        cmocka_unit_test(same_as_sorting),
	        cmocka_unit_test(chi_square),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
