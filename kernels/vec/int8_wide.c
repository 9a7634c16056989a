/* For CPUs without VNNI: bytes of B are widened to floats. Sums of a block stay below 2^24, so fp32 holds them exactly
 * and they are the same numbers as with VNNI. A strip holds floats. */
#include "kernels/vec/int8.h"

_Static_assert(127 * 127 * NSSM_INT8_KC < 1 << 24, "an fp32 sum of a block is exact");

enum { STRIP_ROW = NSSM_INT8_KC };

INLINE void tile_of(const struct int8_tile *t, const int mr, const int nv)
{
	vf acc[INT8_MR][INT8_NV] = {0};
	const float *a = t->A;
	const uint32_t *b = t->B;
	for (int k = t->words; k > 0; k--, a += 4, b += nv * VL) {
		vi words[INT8_NV];
		UNROLL
		for (int v = 0; v < nv; v++)
			memcpy(&words[v], b + v * VL, sizeof words[v]);
		UNROLL
		for (int q = 0; q < 4; q++) {
			vf bv[INT8_NV];
			UNROLL
			for (int v = 0; v < nv; v++)
				bv[v] = __builtin_convertvector((words[v] << (24 - 8 * q)) >> 24, vf);
			UNROLL
			for (int i = 0; i < mr; i++) {
				UNROLL
				for (int v = 0; v < nv; v++)
					acc[i][v] += a[i * STRIP_ROW + q] * bv[v];
			}
		}
	}
	int8_finish(t, acc, mr, nv);
}

/* clang-format off */
INT8_TILES
/* clang-format on */

size_t VEC(int8_strip_row)(void)
{
	return STRIP_ROW * sizeof(float);
}

void VEC(int8_strip)(void *strip, const float *A, size_t lda, const float *inv, int m, int kc)
{
	float *row = strip;
	for (int i = 0; i < m; i++, A += lda, row += STRIP_ROW)
		for (int k = 0; k < kc; k += VL)
			store(row + k, __builtin_convertvector(int8_quantise(load_n(A + k, kc - k), inv[i]), vf));
}
