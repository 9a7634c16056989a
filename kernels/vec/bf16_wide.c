/* For CPUs that have no arithmetic on bfloat16: a word of B is widened to two floats, a shift and a mask for BF16_MR
 * multiplications each. A strip holds floats, rounded to bfloat16. */
#include "kernels/vec/bf16.h"

enum { STRIP_ROW = NSSM_GEMM_KC };

#define HIGH (int32_t)0xffff0000u

INLINE float strip_at(const uint32_t *p)
{
	float x;
	memcpy(&x, p, sizeof x);
	return x;
}

INLINE void tile_of(const struct bf16_tile *t, const int mr, const int nv, const size_t row, const size_t col)
{
	vf acc[BF16_MR][BF16_NV] = {0};
	const uint32_t *a = t->A, *b = t->B;
	for (int k = t->pairs; k > 0; k--, a += 2 * col, b += nv * VL) {
		vf even[BF16_NV], odd[BF16_NV];
		UNROLL
		for (int v = 0; v < nv; v++) {
			vi pair = load_words(b + v * VL);
			even[v] = (vf)(pair << 16);
			odd[v] = (vf)(pair & HIGH);
		}
		UNROLL
		for (int i = 0; i < mr; i++) {
			vf a0 = splat(strip_at(a + (size_t)i * row)), a1 = splat(strip_at(a + (size_t)i * row + col));
			UNROLL
			for (int v = 0; v < nv; v++) {
				acc[i][v] += a0 * even[v];
				acc[i][v] += a1 * odd[v];
			}
		}
	}
	bf16_finish(t, acc, mr, nv);
}

/* clang-format off */
BF16_TILES
/* clang-format on */

void VEC(bf16_strip)(uint32_t *strip, const float *A, size_t lda, bool transposed, int m, int kc)
{
	int n_rows = transposed ? kc : m, n_cols = transposed ? m : kc;
	size_t step = transposed ? BF16_STRIP : STRIP_ROW;
	for (int r = 0; r < n_rows; r++, A += lda, strip += step)
		for (int c = 0; c < n_cols; c += VL)
			store_words(strip + c, bf16_round(load_n(A + c, n_cols - c)) & HIGH);
	/* the other half of the last pair; where rows are kept, load_n left zeros there */
	if (transposed && kc % 2 != 0)
		memset(strip, 0, BF16_STRIP * sizeof *strip);
}
