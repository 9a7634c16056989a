#include "kernels/vec/bf16.h"

enum {
	NC = 1024 / BF16_NR * BF16_NR, /* columns of B that stay in the second-level cache while A passes:
	                                  NC·KC halves are 512 KiB */
};

static int min(int a, int b)
{
	return a < b ? a : b;
}

static int round_up(int n, int unit)
{
	return (n + unit - 1) / unit * unit;
}

static int n_pairs(int K)
{
	return (K + 1) / 2;
}

/* Width of the panel that starts at column j. */
static int panel_width(int j, int N)
{
	return min(BF16_NR, round_up(N - j, VL));
}

size_t VEC(bf16_pack_floats)(int K, int N)
{
	return (size_t)n_pairs(K) * (size_t)round_up(N, VL);
}

/* One panel from B as stored [K,N]. */
static void pack_rows(uint32_t *dst, const float *B, size_t ldb, int K, int n, int width)
{
	for (int k = 0; k < K; k += 2, dst += width)
		for (int v = 0; v < width; v += VL) {
			const float *b = B + (size_t)k * ldb + v;
			int left = n - v > 0 ? n - v : 0;
			vf odd = k + 1 < K ? load_n(b + ldb, left) : splat(0);
			store_words(dst + v, bf16_pair(load_n(b, left), odd));
		}
}

/* One panel from B as stored [N,K], by blocks of k on the stack. */
static void pack_columns(uint32_t *dst, const float *B, size_t ldb, int K, int n, int width)
{
	_Alignas(64) float rows[64 * BF16_NR];
	for (int k0 = 0; k0 < K; k0 += 64) {
		int kc = min(64, K - k0);
		VEC(transpose)(rows, (size_t)width, B + k0, ldb, n, kc, width);
		pack_rows(dst + (size_t)k0 / 2 * (size_t)width, rows, (size_t)width, kc, width, width);
	}
}

void VEC(bf16_pack)(float *dst, const float *B, size_t ldb, bool transposed, int K, int N)
{
	uint32_t *words = (uint32_t *)(void *)dst;
	for (int j = 0; j < N; j += BF16_NR) {
		int width = panel_width(j, N), n = min(BF16_NR, N - j);
		if (transposed)
			pack_columns(words, B + (size_t)j * ldb, ldb, K, n, width);
		else
			pack_rows(words, B + j, ldb, K, n, width);
		words += (size_t)n_pairs(K) * (size_t)width;
	}
}

/* m rows of a strip times the columns [j0, j1) of packed B, over the block of k that starts at k0. A panel of B is
 * read once for all tiles of the strip. t: C, add, by_k and pairs of the block. */
static void strip_times_panels(
        struct bf16_tile t, const uint32_t *strip, const uint32_t *packed, int j0, int j1, int k0, int m, int N, int K)
{
	int n_tiles = (m + BF16_MR - 1) / BF16_MR, rows = (m + n_tiles - 1) / n_tiles;
	size_t row = VEC(bf16_strip_row)(t.by_k);
	float *C = t.C;
	for (int j = j0; j < j1; j += BF16_NR) {
		size_t width = (size_t)panel_width(j, N);
		t.n_cols = min(BF16_NR, N - j);
		t.B = packed + (size_t)j * (size_t)n_pairs(K) + (size_t)k0 / 2 * width;
		for (int i = 0; i < m; i += rows) {
			t.n_rows = min(rows, m - i);
			t.A = strip + (size_t)i * row;
			t.C = C + (size_t)i * t.ldc + j;
			VEC(bf16_tile)(&t);
		}
	}
}

static void product(float *C, size_t ldc, const float *A, size_t lda, bool a_transposed, const float *packed,
        bool accumulate, int M, int N, int K)
{
	_Alignas(64) uint32_t strip[BF16_STRIP * NSSM_GEMM_KC];
	const uint32_t *words = (const uint32_t *)(const void *)packed;
	for (int k0 = 0; k0 < K; k0 += NSSM_GEMM_KC)
		for (int j = 0; j < N; j += NC)
			for (int i = 0; i < M; i += BF16_STRIP) {
				int m = min(BF16_STRIP, M - i), kc = min(NSSM_GEMM_KC, K - k0);
				struct bf16_tile t = {.C = C + (size_t)i * ldc,
				        .ldc = ldc,
				        .by_k = a_transposed,
				        .pairs = n_pairs(kc),
				        .add = accumulate || k0};
				const float *a = A + (a_transposed ? (size_t)k0 * lda + i : (size_t)i * lda + k0);
				VEC(bf16_strip)(strip, a, lda, a_transposed, m, kc);
				strip_times_panels(t, strip, words, j, min(j + NC, N), k0, m, N, K);
			}
}

void VEC(bf16_gemm_packed)(float *C, size_t ldc, const float *A, size_t lda, const float *packed, bool accumulate,
        int M, int N, int K)
{
	product(C, ldc, A, lda, false, packed, accumulate, M, N, K);
}

size_t VEC(bf16_gemm_scratch_floats)(int M, int N, int K)
{
	(void)M;
	return VEC(bf16_pack_floats)(K, N);
}

void VEC(bf16_gemm)(float *C, size_t ldc, const float *A, size_t lda, bool a_transposed, const float *B, size_t ldb,
        bool b_transposed, bool accumulate, int M, int N, int K, float *scratch)
{
	VEC(bf16_pack)(scratch, B, ldb, b_transposed, K, N);
	product(C, ldc, A, lda, a_transposed, scratch, accumulate, M, N, K);
}
