#include "kernels/vec/vec.h"

void VEC(transpose)(float *dst, size_t ldd, const float *src, size_t lds, int n_rows, int n_cols, int pad)
{
	for (int c = 0; c < n_cols; c += VL)
		for (int r = 0; r < pad; r += VL) {
			vf block[NSSM_VL] = {0};
			for (int i = 0; i < VL && r + i < n_rows; i++)
				block[i] = load_n(src + (size_t)(r + i) * lds + c, n_cols - c);
			transpose_block(block);
			for (int i = 0; i < VL && c + i < n_cols; i++)
				store_n(dst + (size_t)(c + i) * ldd + r, block[i], pad - r);
		}
}
