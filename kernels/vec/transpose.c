#include "kernels/vec/vec.h"

/* Loops over a constant number of rows, so that the block lies in registers. */
INLINE void whole_block(float *dst, size_t ldd, const float *src, size_t lds)
{
	vf block[NSSM_VL];
	UNROLL
	for (int i = 0; i < VL; i++)
		block[i] = load(src + (size_t)i * lds);
	transpose_block(block);
	UNROLL
	for (int i = 0; i < VL; i++)
		store(dst + (size_t)i * ldd, block[i]);
}

static void part_of_block(float *dst, size_t ldd, const float *src, size_t lds, int n_rows, int n_cols, int pad)
{
	vf block[NSSM_VL] = {0};
	for (int i = 0; i < VL && i < n_rows; i++)
		block[i] = load_n(src + (size_t)i * lds, n_cols);
	transpose_block(block);
	for (int i = 0; i < VL && i < n_cols; i++)
		store_n(dst + (size_t)i * ldd, block[i], pad);
}

void VEC(transpose)(float *dst, size_t ldd, const float *src, size_t lds, int n_rows, int n_cols, int pad)
{
	for (int c = 0; c < n_cols; c += VL)
		for (int r = 0; r < pad; r += VL) {
			float *to = dst + (size_t)c * ldd + r;
			const float *from = src + (size_t)r * lds + c;
			if (LIKELY(r + VL <= n_rows && c + VL <= n_cols))
				whole_block(to, ldd, from, lds);
			else
				part_of_block(to, ldd, from, lds, n_rows - r, n_cols - c, pad - r);
		}
}
