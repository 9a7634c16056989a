#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

/* The nearest bfloat16, halves to even, as a float. */
static float rounded(float x)
{
	uint32_t bits;
	if (isnan(x))
		return x;
	memcpy(&bits, &x, sizeof bits);
	bits += 0x7fff + (bits >> 16 & 1);
	bits &= 0xffff0000u;
	memcpy(&x, &bits, sizeof x);
	return x;
}

size_t nssm_ref_bf16_pack_floats(int K, int N)
{
	return nssm_ref_pack_floats(K, N);
}

void nssm_ref_bf16_pack(float *dst, const float *B, size_t ldb, bool transposed, int K, int N)
{
	nssm_ref_pack(dst, B, ldb, transposed, K, N);
	for (size_t i = 0; i < (size_t)K * N; i++)
		dst[i] = rounded(dst[i]);
}

/* Element (i, k) of A is A[i*a_row + k*a_col]; B is [K,N] without gaps. */
static void product(float *C, size_t ldc, const float *A, size_t a_row, size_t a_col, const float *B, bool accumulate,
        int M, int N, int K)
{
	for (int i = 0; i < M; i++)
		for (int j = 0; j < N; j++) {
			float *c = &C[(size_t)i * ldc + j], total = accumulate ? *c : 0;
			for (int k0 = 0; k0 < K; k0 += NSSM_GEMM_KC) {
				int k1 = K - k0 < NSSM_GEMM_KC ? K : k0 + NSSM_GEMM_KC;
				float sum = 0;
				for (int k = k0; k < k1; k++)
					sum += rounded(A[(size_t)i * a_row + (size_t)k * a_col]) * B[(size_t)k * N + j];
				total += sum;
			}
			*c = total;
		}
}

void nssm_ref_bf16_gemm_packed(float *C, size_t ldc, const float *A, size_t lda, const float *packed, bool accumulate,
        int M, int N, int K)
{
	product(C, ldc, A, lda, 1, packed, accumulate, M, N, K);
}

size_t nssm_ref_bf16_gemm_scratch_floats(int M, int N, int K)
{
	(void)M;
	return nssm_ref_bf16_pack_floats(K, N);
}

void nssm_ref_bf16_gemm(float *C, size_t ldc, const float *A, size_t lda, bool a_transposed, const float *B,
        size_t ldb, bool b_transposed, bool accumulate, int M, int N, int K, float *scratch)
{
	nssm_ref_bf16_pack(scratch, B, ldb, b_transposed, K, N);
	product(C, ldc, A, a_transposed ? 1 : lda, a_transposed ? lda : 1, scratch, accumulate, M, N, K);
}
