/* The random streams: Random123's known answers, and what the header promises of a stream. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"

static void test_known_answers(void **unused)
{
	/* philox4x32-10 of the Random123 distribution's kat_vectors */
	static const struct {
		uint32_t ctr[4], key[2], out[4];
	} kat[] = {
		{{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
			{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
			{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	};
	for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
		uint32_t out[4];
		nssm_philox4x32(out, kat[i].ctr, kat[i].key);
		assert_memory_equal(out, kat[i].out, sizeof out);
	}
}

/* Words come block by block, counter {block, purpose, session}, key seed. */
static void test_stream_layout(void **unused)
{
	uint64_t seed = 0x1122334455667788, session = 0x99aabbccddeeff00;
	uint32_t key[2] = {0x55667788, 0x11223344}, out[4];
	struct nssm_rng r;
	nssm_rng_init(&r, seed, session, NSSM_RNG_TIME);
	for (uint32_t block = 0; block < 3; block++) {
		uint32_t ctr[4] = {block, NSSM_RNG_TIME, 0xddeeff00, 0x99aabbcc};
		nssm_philox4x32(out, ctr, key);
		for (int i = 0; i < 4; i++)
			assert_int_equal(nssm_rng_u32(&r), out[i]);
	}
}

static void test_streams_differ(void **unused)
{
	uint32_t first[3];
	struct nssm_rng r;
	nssm_rng_init(&r, 1, 2, 3);
	uint32_t base = nssm_rng_u32(&r);
	nssm_rng_init(&r, 2, 2, 3);
	first[0] = nssm_rng_u32(&r);
	nssm_rng_init(&r, 1, 3, 3);
	first[1] = nssm_rng_u32(&r);
	nssm_rng_init(&r, 1, 2, 4);
	first[2] = nssm_rng_u32(&r);
	for (int i = 0; i < 3; i++)
		assert_int_not_equal(base, first[i]);
}

static void test_below_is_even(void **unused)
{
	enum { N = 7, DRAWS = 70000 };
	uint32_t count[N] = {0};
	struct nssm_rng r;
	nssm_rng_init(&r, 5, 0, 99);
	for (int i = 0; i < DRAWS; i++) {
		uint32_t v = nssm_rng_below(&r, N);
		assert_true(v < N);
		count[v]++;
	}
	double chi2 = 0;
	for (int i = 0; i < N; i++)
		chi2 += pow((double)count[i] - DRAWS / N, 2) / (DRAWS / N);
	assert_true(chi2 <= 22.5); /* 6 degrees of freedom: once in a thousand, and the seed is fixed */
	assert_int_equal(nssm_rng_below(&r, 1), 0);
}

static void test_unit_and_normal(void **unused)
{
	enum { DRAWS = 100000 };
	struct nssm_rng r;
	double sum = 0, nsum = 0, nsq = 0;
	nssm_rng_init(&r, 6, 0, 99);
	for (int i = 0; i < DRAWS; i++) {
		double u = nssm_rng_unit(&r), n = nssm_rng_normal(&r);
		assert_true(u > 0 && u < 1);
		sum += u;
		nsum += n;
		nsq += n * n;
	}
	assert_true(fabs(sum / DRAWS - 0.5) <= 0.005);
	assert_true(fabs(nsum / DRAWS) <= 0.015);
	assert_true(fabs(nsq / DRAWS - 1) <= 0.02);
}

/* Bytes are the words' bytes; a last word is used up even where only a part of it is asked for. */
static void test_bytes(void **unused)
{
	struct nssm_rng a, b;
	uint8_t got[11], guard = 0xa5;
	nssm_rng_init(&a, 7, 8, NSSM_RNG_PAYLOAD);
	nssm_rng_init(&b, 7, 8, NSSM_RNG_PAYLOAD);
	got[10] = guard;
	nssm_rng_bytes(&a, got, 10);
	uint32_t want[3] = {nssm_rng_u32(&b), nssm_rng_u32(&b), nssm_rng_u32(&b)};
	assert_memory_equal(got, want, 10);
	assert_int_equal(got[10], guard);
	assert_int_equal(nssm_rng_u32(&a), nssm_rng_u32(&b));
}

/* Wherever one begins, a stream's bytes are the same; behind 2^32 they begin anew. */
static void test_bytes_at(void **unused)
{
	struct nssm_rng r;
	uint8_t all[200], got[200];
	nssm_rng_init(&r, 7, 8, NSSM_RNG_PAYLOAD);
	nssm_rng_bytes(&r, all, sizeof all);
	for (uint32_t from = 0; from < 40; from++)
		for (uint32_t n = 0; n < 60; n++) {
			memset(got, 0xa5, sizeof got);
			nssm_rng_bytes_at(&r, from, got, n);
			assert_memory_equal(got, all + from, n);
			assert_int_equal(got[n], 0xa5);
		}
	nssm_rng_bytes_at(&r, (uint32_t)-21, got, 121);
	assert_memory_equal(got + 21, all, 100);
	nssm_rng_bytes_at(&r, (uint32_t)-5, all, 5);
	assert_memory_equal(got + 16, all, 5);
	struct nssm_rng same;
	nssm_rng_init(&same, 7, 8, NSSM_RNG_PAYLOAD);
	for (int i = 0; i < 50; i++)
		nssm_rng_u32(&same);
	assert_memory_equal(&r, &same, sizeof r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_answers),
		cmocka_unit_test(test_stream_layout),
		cmocka_unit_test(test_streams_differ),
		cmocka_unit_test(test_below_is_even),
		cmocka_unit_test(test_unit_and_normal),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_bytes_at),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
