#include "kernels/ref/ref.h"

#include <math.h>

/* Scale of n elements `step` apart; a NaN or an infinity among them makes it one. */
static float scale_of(const float *x, size_t step, int n)
{
	float top = 0;
	for (int k = 0; k < n; k++) {
		float v = fabsf(x[(size_t)k * step]);
		if (isnan(v))
			return v;
		top = v > top ? v : top;
	}
	return isfinite(top) ? top / 127 : NAN;
}

static float quantised(float x, float scale)
{
	return scale > 0 && isfinite(scale) ? rintf(x / scale) : 0;
}

/* Quantised B [K,N], then the scales of its columns. */
size_t nssm_ref_int8_pack_floats(int K, int N)
{
	return (size_t)K * (size_t)N + (size_t)N;
}

void nssm_ref_int8_pack(float *dst, const float *B, size_t ldb, bool transposed, int K, int N)
{
	size_t row = transposed ? 1 : ldb, col = transposed ? ldb : 1;
	for (int n = 0; n < N; n++) {
		float scale = scale_of(B + (size_t)n * col, row, K);
		dst[(size_t)K * N + n] = scale;
		for (int k = 0; k < K; k++)
			dst[(size_t)k * N + n] = quantised(B[(size_t)k * row + (size_t)n * col], scale);
	}
}

void nssm_ref_int8_gemm_packed(float *C, size_t ldc, const float *A, size_t lda, const float *packed, bool accumulate,
        int M, int N, int K)
{
	const float *B_scale = packed + (size_t)K * N;
	for (int i = 0; i < M; i++, A += lda, C += ldc) {
		float A_scale = scale_of(A, 1, K);
		for (int j = 0; j < N; j++) {
			float total = accumulate ? C[j] : 0;
			for (int k0 = 0; k0 < K; k0 += NSSM_INT8_KC) {
				int k1 = K - k0 < NSSM_INT8_KC ? K : k0 + NSSM_INT8_KC;
				int32_t sum = 0;
				for (int k = k0; k < k1; k++)
					sum += (int32_t)quantised(A[k], A_scale) * (int32_t)packed[(size_t)k * N + j];
				total += (float)sum * (A_scale * B_scale[j]);
			}
			C[j] = total;
		}
	}
}
