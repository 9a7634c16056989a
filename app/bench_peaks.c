#include "app/bench_peaks.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/measure.h"

#if defined __x86_64__
#include <immintrin.h>
#endif

#define TRIES     20
#define TRY_S     0.03 /* tries go on so long */
#define ROUNDS    20000 /* 30 to 100 µs */
#define TRY_BYTES ((size_t)2 << 20)
#define SIZE_LOG2 16 /* 64 KiB */
#define N_SIZES   13
#define THREADS   64
#define CHAINS    12 /* more than latency x instructions a cycle, and they fit the registers of every level */

/* --- compute --- */

/* Unknown to the compiler, and harmless: chains go on at the same magnitude. */
static volatile float factor = 1, summand = 1e-30f;
static volatile int byte_factor = 0x01010101;
static volatile float keep;

/* Operations of one call. */
typedef double chain_fn(void);

/* STEP(a) in CHAINS chains that stay in registers, ROUNDS times; what the compiler cannot see keeps it from doing them once. */
/* clang-format off */
#define CHAIN(TYPE, ZERO, STEP) \
	TYPE a0 = ZERO, a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0, a8 = a0, a9 = a0, a10 = a0, a11 = a0; \
	for (int r = 0; r < ROUNDS; r++) { \
		a0 = STEP(a0); a1 = STEP(a1); a2 = STEP(a2); a3 = STEP(a3); a4 = STEP(a4); a5 = STEP(a5); \
		a6 = STEP(a6); a7 = STEP(a7); a8 = STEP(a8); a9 = STEP(a9); a10 = STEP(a10); a11 = STEP(a11); \
		__asm__ volatile("" : "+x"(a0), "+x"(a1), "+x"(a2), "+x"(a3), "+x"(a4), "+x"(a5), "+x"(a6), "+x"(a7), "+x"(a8), \
			"+x"(a9), "+x"(a10), "+x"(a11)); \
	}
/* clang-format on */

#if defined __x86_64__
static double chain_sse(void)
{
	const __m128 x = _mm_set1_ps(factor), y = _mm_set1_ps(summand);
#define STEP(a) _mm_add_ps(_mm_mul_ps(a, x), y)
	CHAIN(__m128, _mm_setzero_ps(), STEP)
#undef STEP
	return 2.0 * 4 * CHAINS * ROUNDS;
}

__attribute__((target("avx2,fma"))) static double chain_avx2(void)
{
	const __m256 x = _mm256_set1_ps(factor), y = _mm256_set1_ps(summand);
#define STEP(a) _mm256_fmadd_ps(x, y, a)
	CHAIN(__m256, _mm256_setzero_ps(), STEP)
#undef STEP
	return 2.0 * 8 * CHAINS * ROUNDS;
}

__attribute__((target("avx512f"))) static double chain_avx512(void)
{
	const __m512 x = _mm512_set1_ps(factor), y = _mm512_set1_ps(summand);
#define STEP(a) _mm512_fmadd_ps(x, y, a)
	CHAIN(__m512, _mm512_setzero_ps(), STEP)
#undef STEP
	return 2.0 * 16 * CHAINS * ROUNDS;
}

__attribute__((target("avx512f,avx512bf16"))) static double chain_bf16(void)
{
	const __m512 f = _mm512_set1_ps(factor);
	const __m512bh x = _mm512_cvtne2ps_pbh(f, f);
#define STEP(a) _mm512_dpbf16_ps(a, x, x)
	CHAIN(__m512, _mm512_setzero_ps(), STEP)
#undef STEP
	return 2.0 * 32 * CHAINS * ROUNDS;
}

__attribute__((target("avx512f,avx512vnni"))) static double chain_int8(void)
{
	const __m512i x = _mm512_set1_epi32(byte_factor);
#define STEP(a) _mm512_dpbusd_epi32(a, x, x)
	CHAIN(__m512i, _mm512_setzero_si512(), STEP)
#undef STEP
	return 2.0 * 64 * CHAINS * ROUNDS;
}
#else
typedef float v4 __attribute__((vector_size(16)));
static double chain_sse(void)
{
	const v4 x = {factor, factor, factor, factor}, y = {summand, summand, summand, summand};
	v4 acc[CHAINS] = {{0}};
	for (int r = 0; r < ROUNDS; r++)
		for (int i = 0; i < CHAINS; i++)
			acc[i] = acc[i] * x + y;
	keep = acc[0][0];
	return 2.0 * 4 * CHAINS * ROUNDS;
}
#endif

static chain_fn *chain_of(const struct nssm_kernels *kern, enum nssm_weights weights)
{
#if defined __x86_64__
	if (strcmp(kern->name, "avx512bf16") == 0 && weights == NSSM_WEIGHTS_BF16)
		return chain_bf16;
	if (strcmp(kern->name, "avx512bf16") == 0 && weights == NSSM_WEIGHTS_INT8)
		return chain_int8;
	if (strncmp(kern->name, "avx512", 6) == 0)
		return chain_avx512;
	if (strcmp(kern->name, "avx2") == 0)
		return chain_avx2;
#endif
	(void)kern;
	(void)weights;
	return chain_sse;
}

/* A peak is the best of many short tries: what disturbs one only ever slows it down, and a try is over before the scheduler comes. */
static double best_rate(chain_fn *fn)
{
	double best = 0, t0 = nssm_now_s();
	for (int i = 0; i < TRIES || nssm_now_s() - t0 < TRY_S; i++) {
		double began = nssm_now_s(), n = fn(), t = nssm_now_s() - began;
		best = n / t > best ? n / t : best;
	}
	return best;
}

double nssm_peak_dot(const struct nssm_kernels *kern, enum nssm_weights weights)
{
	static struct {
		chain_fn *fn;
		double rate;
	} known[5];
	chain_fn *fn = chain_of(kern, weights);
	int i = 0;
	while (known[i].fn != NULL && known[i].fn != fn)
		i++;
	if (known[i].fn == NULL) {
		known[i].fn = fn;
		known[i].rate = best_rate(fn);
	}
	return known[i].rate;
}

/* --- memory --- */

struct stream {
	float *buf[THREADS];
	float sum[THREADS];
	size_t n; /* floats a thread */
	int rounds;
	bool update;
};

/* Sixteen sums: none waits for another. */
static float read_all(const float *p, size_t n)
{
	float acc[64] = {0}, sum = 0;
	for (size_t i = 0; i < n; i += 64)
		for (int k = 0; k < 64; k++)
			acc[k] += p[i + (size_t)k];
	for (int k = 0; k < 64; k++)
		sum += acc[k];
	return sum;
}

static void update_all(float *p, size_t n, float by)
{
	for (size_t i = 0; i < n; i++)
		p[i] *= by;
}

#if defined __x86_64__
/* The same for the compiler to make wider vectors of. */
#define WIDE __attribute__((target("avx2")))
WIDE static float read_avx2(const float *p, size_t n)
{
	__m256 a[8];
	for (int k = 0; k < 8; k++)
		a[k] = _mm256_setzero_ps();
	for (size_t i = 0; i < n; i += 64)
		for (int k = 0; k < 8; k++)
			a[k] = _mm256_add_ps(a[k], _mm256_load_ps(p + i + 8 * k));
	float out[64], sum = 0;
	memcpy(out, a, sizeof out);
	for (int k = 0; k < 64; k++)
		sum += out[k];
	return sum;
}

WIDE static void update_avx2(float *p, size_t n, float by)
{
	const __m256 x = _mm256_set1_ps(by);
	for (size_t i = 0; i < n; i += 8)
		_mm256_store_ps(p + i, _mm256_mul_ps(_mm256_load_ps(p + i), x));
}

__attribute__((target("avx512f"))) static float read_avx512(const float *p, size_t n)
{
	__m512 a[8];
	for (int k = 0; k < 8; k++)
		a[k] = _mm512_setzero_ps();
	for (size_t i = 0; i < n; i += 128)
		for (int k = 0; k < 8; k++)
			a[k] = _mm512_add_ps(a[k], _mm512_load_ps(p + i + 16 * k));
	float out[128], sum = 0;
	memcpy(out, a, sizeof out);
	for (int k = 0; k < 128; k++)
		sum += out[k];
	return sum;
}

__attribute__((target("avx512f"))) static void update_avx512(float *p, size_t n, float by)
{
	const __m512 x = _mm512_set1_ps(by);
	for (size_t i = 0; i < n; i += 16)
		_mm512_store_ps(p + i, _mm512_mul_ps(_mm512_load_ps(p + i), x));
}
#endif

static void stream_task(void *ctx, int task, int member)
{
	struct stream *s = ctx;
	float *p = s->buf[task], by = factor, sum = 0;
	(void)member;
	for (int r = 0; r < s->rounds; r++) {
#if defined __x86_64__
		if (__builtin_cpu_supports("avx512f"))
			s->update ? update_avx512(p, s->n, by) : (void)(sum += read_avx512(p, s->n));
		else if (__builtin_cpu_supports("avx2"))
			s->update ? update_avx2(p, s->n, by) : (void)(sum += read_avx2(p, s->n));
		else
#endif
			s->update ? update_all(p, s->n, by) : (void)(sum += read_all(p, s->n));
	}
	s->sum[task] = sum;
}

static double stream_rate(struct stream *s, bool update, struct nssm_team *team)
{
	int n = nssm_team_size(team);
	double bytes = (double)n * (double)s->n * sizeof(float) * (update ? 2 : 1), best = 0;
	s->update = update;
	s->rounds = 1 + (int)(TRY_BYTES / (s->n * sizeof(float)));
	double t0 = nssm_now_s();
	for (int i = 0; i < TRIES || nssm_now_s() - t0 < TRY_S; i++) {
		double began = nssm_now_s();
		nssm_team_run(team, n, stream_task, s);
		double t = nssm_now_s() - began;
		best = bytes * s->rounds / t > best ? bytes * s->rounds / t : best;
	}
	keep = s->sum[0];
	return best;
}

int nssm_peak_memory(struct nssm_bandwidth *bw, size_t bytes, struct nssm_team *team, struct nssm_err *err)
{
	static struct nssm_bandwidth known[THREADS + 1][N_SIZES];
	int n = nssm_team_size(team), k = 0;
	while (k < N_SIZES - 1 && (size_t)1 << (SIZE_LOG2 + k) < bytes)
		k++;
	size_t room = (size_t)1 << (SIZE_LOG2 + k), all = room * (size_t)n;
	if (n > THREADS)
		return nssm_err_set(err, NSSM_ERANGE, "bench: at most %d threads, found %d", THREADS, n);
	*bw = known[n][k];
	if (bw->read > 0)
		return 0;
	float *p = aligned_alloc((size_t)2 << 20, (all + ((size_t)2 << 20) - 1) >> 21 << 21);
	if (p == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "bench: no memory for buffers of %zu bytes", all);
	(void)madvise(p, all, MADV_HUGEPAGE);
	struct stream s = {.n = room / sizeof(float)};
	for (int t = 0; t < n; t++)
		s.buf[t] = p + (size_t)t * s.n;
	for (size_t i = 0; i < all / sizeof(float); i++)
		p[i] = 1;
	bw->read = stream_rate(&s, false, team);
	bw->update = stream_rate(&s, true, team);
	known[n][k] = *bw;
	free(p);
	return 0;
}
