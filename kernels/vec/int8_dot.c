/* For CPUs with AVX512_VNNI: a lane of a vector multiplies four unsigned with four signed bytes and adds the products
 * to an int32. A strip holds bytes. */
#include <immintrin.h>

#include "kernels/vec/int8.h"

enum {
	STRIP_ROW = NSSM_INT8_KC / 4, /* in words */
	AHEAD = 32, /* rows of B that are fetched ahead, 6 KiB: the third-level cache's latency, measured */
};

/* The intrinsic makes GCC 12 copy every sum to and fro (the instruction overwrites its operand), and 24 of them no longer
 * fit the registers: 309 GF/s instead of 739 at 16 x 1160 x 256. */
INLINE __m512i dot(__m512i sum, __m512i a, __m512i b)
{
	__asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
	return sum;
}

INLINE void tile_of(const struct int8_tile *t, const int mr, const int nv)
{
	__m512i acc[INT8_MR][INT8_NV];
	UNROLL
	for (int v = 0; v < nv; v++) {
		UNROLL
		for (int i = 0; i < mr; i++)
			acc[i][v] = _mm512_loadu_si512(t->offset + v * VL);
	}
	const uint32_t *a = t->A, *b = t->B;
	for (int k = t->words; k > 0; k--, a++, b += nv * VL) {
		__m512i bv[INT8_NV];
		UNROLL
		for (int v = 0; v < nv; v++)
			bv[v] = _mm512_loadu_si512(b + v * VL);
		UNROLL
		for (int v = 0; v < nv; v++)
			__builtin_prefetch(b + (AHEAD * nv + v) * VL);
		UNROLL
		for (int i = 0; i < mr; i++) {
			__m512i ai = _mm512_set1_epi32((int)a[i * STRIP_ROW]);
			UNROLL
			for (int v = 0; v < nv; v++)
				acc[i][v] = dot(acc[i][v], ai, bv[v]);
		}
	}
	vf sum[INT8_MR][INT8_NV];
	UNROLL
	for (int i = 0; i < mr; i++) {
		UNROLL
		for (int v = 0; v < nv; v++)
			sum[i][v] = (vf)_mm512_cvtepi32_ps(acc[i][v]);
	}
	int8_finish(t, sum, mr, nv);
}

/* clang-format off */
INT8_TILES
/* clang-format on */

size_t VEC(int8_strip_row)(void)
{
	return STRIP_ROW * sizeof(uint32_t);
}

void VEC(int8_strip)(void *strip, const float *A, size_t lda, const float *inv, int m, int kc)
{
	uint8_t *row = strip;
	for (int i = 0; i < m; i++, A += lda, row += NSSM_INT8_KC)
		for (int k = 0; k < kc; k += VL) {
			vi q = int8_quantise(load_n(A + k, kc - k), inv[i]) + 128;
			_mm_storeu_si128((__m128i *)(void *)(row + k), _mm512_cvtepi32_epi8((__m512i)q));
		}
}
