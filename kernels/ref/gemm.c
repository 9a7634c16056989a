#include "kernels/ref/ref.h"

#define NB 64 /* columns summed side by side; no part of the result's definition */

size_t nssm_ref_pack_floats(int K, int N)
{
	return (size_t)K * (size_t)N;
}

void nssm_ref_pack(float *dst, const float *B, size_t ldb, bool transposed, int K, int N)
{
	for (int k = 0; k < K; k++)
		for (int n = 0; n < N; n++)
			dst[(size_t)k * N + n] = transposed ? B[(size_t)n * ldb + k] : B[(size_t)k * ldb + n];
}

/* Element (i, k) of A is A[i*a_row + k*a_col]; B is [K,N] without gaps. */
static void gemm(float *C, size_t ldc, const float *A, size_t a_row, size_t a_col, const float *B,
        bool accumulate, int M, int N, int K)
{
	for (int i = 0; i < M; i++)
		for (int j0 = 0; j0 < N; j0 += NB) {
			int nb = N - j0 < NB ? N - j0 : NB;
			float *c = C + (size_t)i * ldc + j0;
			for (int k0 = 0; k0 < K; k0 += NSSM_GEMM_KC) {
				int k1 = K - k0 < NSSM_GEMM_KC ? K : k0 + NSSM_GEMM_KC;
				float acc[NB] = {0};
				for (int k = k0; k < k1; k++) {
					float a = A[(size_t)i * a_row + (size_t)k * a_col];
					for (int j = 0; j < nb; j++)
						acc[j] += a * B[(size_t)k * N + j0 + j];
				}
				for (int j = 0; j < nb; j++)
					c[j] = k0 || accumulate ? c[j] + acc[j] : acc[j];
			}
		}
}

void nssm_ref_gemm_packed(float *C, size_t ldc, const float *A, size_t lda, const float *packed,
        bool accumulate, int M, int N, int K)
{
	gemm(C, ldc, A, lda, 1, packed, accumulate, M, N, K);
}

size_t nssm_ref_gemm_scratch_floats(int M, int N, int K)
{
	(void)M;
	return nssm_ref_pack_floats(K, N);
}

void nssm_ref_gemm(float *C, size_t ldc, const float *A, size_t lda, bool a_transposed, const float *B,
        size_t ldb, bool b_transposed, bool accumulate, int M, int N, int K, float *scratch)
{
	nssm_ref_pack(scratch, B, ldb, b_transposed, K, N);
	gemm(C, ldc, A, a_transposed ? 1 : lda, a_transposed ? lda : 1, scratch, accumulate, M, N, K);
}
