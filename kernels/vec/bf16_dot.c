/* For CPUs with AVX512_BF16: a lane of a vector multiplies a pair of bfloat16 with a pair and adds both products to
 * an fp32 sum. It takes subnormal operands for 0. A strip holds pairs, as B does. */
#include "kernels/vec/bf16.h"

enum {
	STRIP_ROW = BF16_PAIRS,
	AHEAD = 32, /* rows of B that are fetched ahead, 6 KiB: the third-level cache's latency, measured */
};

INLINE void tile_of(const struct bf16_tile *t, const int mr, const int nv, const size_t row, const size_t col)
{
	__m512 acc[BF16_MR][BF16_NV];
	UNROLL
	for (int i = 0; i < mr; i++)
		UNROLL
	for (int v = 0; v < nv; v++)
		acc[i][v] = _mm512_setzero_ps();
	const uint32_t *a = t->A, *b = t->B;
	for (int k = t->pairs; k > 0; k--, a += col, b += nv * VL) {
		__m512bh bv[BF16_NV];
		UNROLL
		for (int v = 0; v < nv; v++)
			bv[v] = (__m512bh)load_words(b + v * VL);
		UNROLL
		for (int v = 0; v < nv; v++)
			__builtin_prefetch(b + (AHEAD * nv + v) * VL);
		UNROLL
		for (int i = 0; i < mr; i++) {
			__m512bh ai = (__m512bh)_mm512_set1_epi32((int)a[(size_t)i * row]);
			UNROLL
			for (int v = 0; v < nv; v++)
				acc[i][v] = _mm512_dpbf16_ps(acc[i][v], ai, bv[v]);
		}
	}
	bf16_finish(t, (vf(*)[BF16_NV])acc, mr, nv);
}

/* clang-format off */
BF16_TILES
/* clang-format on */

void VEC(bf16_strip)(uint32_t *strip, const float *A, size_t lda, bool transposed, int m, int kc)
{
	if (!transposed) {
		for (int i = 0; i < m; i++, A += lda, strip += STRIP_ROW)
			for (int k = 0; k < kc; k += 2 * VL) {
				vf low = load_n(A + k, kc - k);
				vf high = kc - k > VL ? load_n(A + k + VL, kc - k - VL) : splat(0);
				store_words(strip + k / 2, (vi)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
			}
		return;
	}
	for (int k = 0; k < kc; k += 2, A += 2 * lda, strip += BF16_STRIP)
		store_words(strip, bf16_pair(load_n(A, m), k + 1 < kc ? load_n(A + lda, m) : splat(0)));
}
