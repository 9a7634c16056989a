/* gemm — the micro-kernel and the loops around it, after Van Zee & van de Geijn 2015 (BLIS).
 *
 * C is cut into tiles of up to MR rows and NR columns that live in registers while k runs through one block
 * of NSSM_GEMM_KC. A tile with fewer rows or columns is the same code with other constants, so an element's
 * sum is the same chain of fused multiply-adds wherever the element stands. B lies in panels of NR columns,
 * [K][NR] each; the last panel is as wide as N needs, rounded up to whole vectors. */
#include "kernels/vec/vec.h"

enum {
	/* Accumulators, B's row and A's element fill the registers. avx512 would have room for 14 rows, but
	 * A's rows need an address register each; measured, 8 is best. */
	MR = VL == 16  ? 8
	     : VL == 8 ? 6
	               : 4,
	NV = 2, /* vectors across a tile */
	NR = NV * VL,
	NC = 512, /* columns of B that stay in the second-level cache while A passes: NC·KC floats = 512 KiB
	           */
	AHEAD = 16,   /* rows of B that are fetched ahead: the second-level cache's latency, measured */
	LINE = 16,    /* floats in a cache line */
	MC_TILES = 8, /* tiles of A packed at a time: whole lines of a transposed A are used */
};

_Static_assert(NC % NR == 0, "a block of columns is whole panels");

static int min(int a, int b)
{
	return a < b ? a : b;
}

static int round_up(int n, int unit)
{
	return (n + unit - 1) / unit * unit;
}

/* --- one tile ------------------------------------------------------------------------------------------------- */

struct tile {
	float *C;
	size_t ldc;
	const float *A;
	size_t a_row, a_col;
	const float *B;
	size_t ldb;
	int K, n_rows, n_cols;
	bool add;
};

INLINE void tile_of(const struct tile *t, const int mr, const int nv, size_t a_row, size_t a_col)
{
	vf acc[MR][NV] = {0};
	const float *a = t->A, *b = t->B;
	size_t ldb = t->ldb;
	for (int k = t->K; k > 0; k--, a += a_col, b += ldb) {
		vf bv[NV];
		UNROLL
		for (int v = 0; v < nv; v++)
			bv[v] = load(b + v * VL);
		UNROLL
		for (int n = 0; n < nv * VL; n += LINE)
			__builtin_prefetch(b + AHEAD * ldb + n);
		UNROLL
		for (int i = 0; i < mr; i++) {
			vf ai = splat(a[(size_t)i * a_row]);
			UNROLL
			for (int v = 0; v < nv; v++)
				acc[i][v] += ai * bv[v];
		}
	}
	float *c = t->C;
	if (LIKELY(t->n_cols == nv * VL)) {
		UNROLL
		for (int i = 0; i < mr; i++, c += t->ldc)
			UNROLL
		for (int v = 0; v < nv; v++)
			store(c + v * VL, t->add ? load(c + v * VL) + acc[i][v] : acc[i][v]);
		return;
	}
	float edge[MR][NV * VL];
	UNROLL
	for (int i = 0; i < mr; i++)
		UNROLL
	for (int v = 0; v < nv; v++)
		store(&edge[i][v * VL], acc[i][v]);
	for (int i = 0; i < mr; i++, c += t->ldc)
		for (int j = 0; j < t->n_cols; j++)
			c[j] = t->add ? c[j] + edge[i][j] : edge[i][j];
}

/* A tile of one row count, for both widths and both layouts of A: rows apart (A as stored) or columns apart
 * (A packed or stored transposed). One of the two strides is a constant 1. */
#define TILE_ROWS(mr)                                                                                        \
	static void tile_##mr(const struct tile *t)                                                          \
	{                                                                                                    \
		if (mr > MR)                                                                                 \
			return;                                                                              \
		if (t->n_cols > VL) {                                                                        \
			if (t->a_col == 1)                                                                   \
				tile_of(t, mr, NV, t->a_row, 1);                                             \
			else                                                                                 \
				tile_of(t, mr, NV, 1, t->a_col);                                             \
		} else {                                                                                     \
			if (t->a_col == 1)                                                                   \
				tile_of(t, mr, 1, t->a_row, 1);                                              \
			else                                                                                 \
				tile_of(t, mr, 1, 1, t->a_col);                                              \
		}                                                                                            \
	}

/* clang-format off */
TILE_ROWS(1) TILE_ROWS(2) TILE_ROWS(3) TILE_ROWS(4) TILE_ROWS(5) TILE_ROWS(6) TILE_ROWS(7) TILE_ROWS(8)
        /* clang-format on */

        static void (*const tiles[])(const struct tile *) = {
                NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6, tile_7, tile_8};
_Static_assert(MR < sizeof tiles / sizeof *tiles, "a tile for every row count");

/* Rows are shared out evenly, so that 16 rows are 8 + 8 and not 12 + 4. */
static int rows_per_tile(int M)
{
	int n_tiles = (M + MR - 1) / MR;
	return (M + n_tiles - 1) / n_tiles;
}

/* --- packed B ------------------------------------------------------------------------------------------------- */

size_t VEC(pack_floats)(int K, int N)
{
	return (size_t)K * (size_t)round_up(N, VL);
}

/* Width of the panel that starts at column j. */
static int panel_width(int j, int N)
{
	return min(NR, round_up(N - j, VL));
}

void VEC(pack)(float *dst, const float *B, size_t ldb, bool transposed, int K, int N)
{
	for (int j = 0; j < N; j += NR) {
		int width = panel_width(j, N), n = min(NR, N - j);
		if (transposed)
			VEC(transpose)(dst, (size_t)width, B + (size_t)j * ldb, ldb, n, K, width);
		else
			for (int k = 0; k < K; k++)
				for (int v = 0; v < width; v += VL)
					store(dst + (size_t)k * width + v,
					        load_n(B + (size_t)k * ldb + j + v, n - v > 0 ? n - v : 0));
		dst += (size_t)K * width;
	}
}

/* Every row of A times the columns [j0, j1) of packed B, over the block of k that starts at k0. t: A, C and K
 * of the block; its rows of A stay in the first-level cache while the panels of B pass. */
static void block(struct tile t, const float *packed, int j0, int j1, int k0, int M, int N, int K)
{
	int rows = rows_per_tile(M);
	const float *A = t.A;
	float *C = t.C;
	for (int i = 0; i < M; i += rows) {
		t.n_rows = min(rows, M - i);
		t.A = A + (size_t)i * t.a_row;
		for (int j = j0; j < j1; j += NR) {
			int width = panel_width(j, N);
			t.n_cols = min(NR, N - j);
			t.B = packed + (size_t)j * K + (size_t)k0 * width;
			t.ldb = (size_t)width;
			t.C = C + (size_t)i * t.ldc + j;
			tiles[t.n_rows](&t);
		}
	}
}

void VEC(gemm_packed)(float *C, size_t ldc, const float *A, size_t lda, const float *packed, bool accumulate,
        int M, int N, int K)
{
	for (int k0 = 0; k0 < K; k0 += NSSM_GEMM_KC) {
		struct tile t = {.C = C,
		        .ldc = ldc,
		        .A = A + k0,
		        .a_row = lda,
		        .a_col = 1,
		        .K = min(NSSM_GEMM_KC, K - k0),
		        .add = accumulate || k0};
		for (int j = 0; j < N; j += NC)
			block(t, packed, j, min(j + NC, N), k0, M, N, K);
	}
}

/* --- both operands as stored ---------------------------------------------------------------------------------- */

size_t VEC(gemm_scratch_floats)(int M, int N, int K)
{
	size_t packed_A = (size_t)min(K, NSSM_GEMM_KC) * (size_t)min(M, MC_TILES * MR);
	return VEC(pack_floats)(K, N) + packed_A;
}

/* The block of k that starts at k0, A stored [K,M]: MC_TILES tiles of A are copied to one tile behind the
 * other, [k][rows] each, because rows of A that lie a power of two apart would evict each other. */
static void block_transposed(struct tile t, float *packed_A, const float *packed, int k0, int M, int N, int K)
{
	int rows = rows_per_tile(M), m_step = rows * MC_TILES;
	const float *A = t.A;
	float *C = t.C;
	size_t lda = t.a_col;
	for (int i0 = 0; i0 < M; i0 += m_step) {
		int m = min(m_step, M - i0);
		for (int k = 0; k < t.K; k++)
			for (int i = 0; i < m; i += rows) {
				int n = min(rows, m - i);
				float *dst = packed_A + (size_t)i * t.K + (size_t)k * n;
				const float *src = A + (size_t)k * lda + i0 + i;
				if (LIKELY(n == MR))
					memcpy(dst, src, MR * sizeof *dst);
				else
					memcpy(dst, src, (size_t)n * sizeof *dst);
			}
		for (int j = 0; j < N; j += NC)
			for (int i = 0; i < m; i += rows) {
				struct tile sub = t;
				int n = min(rows, m - i);
				sub.A = packed_A + (size_t)i * t.K;
				sub.a_col = (size_t)n;
				sub.C = C + (size_t)(i0 + i) * t.ldc;
				block(sub, packed, j, min(j + NC, N), k0, n, N, K);
			}
	}
}

void VEC(gemm)(float *C, size_t ldc, const float *A, size_t lda, bool a_transposed, const float *B,
        size_t ldb, bool b_transposed, bool accumulate, int M, int N, int K, float *scratch)
{
	float *packed_A = scratch + VEC(pack_floats)(K, N);
	VEC(pack)(scratch, B, ldb, b_transposed, K, N);
	if (!a_transposed) {
		VEC(gemm_packed)(C, ldc, A, lda, scratch, accumulate, M, N, K);
		return;
	}
	for (int k0 = 0; k0 < K; k0 += NSSM_GEMM_KC) {
		struct tile t = {.C = C,
		        .ldc = ldc,
		        .A = A + (size_t)k0 * lda,
		        .a_row = 1,
		        .a_col = lda,
		        .K = min(NSSM_GEMM_KC, K - k0),
		        .add = accumulate || k0};
		block_transposed(t, packed_A, scratch, k0, M, N, K);
	}
}

void VEC(gemm_in_place)(float *C, size_t ldc, const float *A, size_t a_row, size_t a_col, const float *B,
        size_t ldb, bool accumulate, int M, int N, int K, enum vec_part part)
{
	float edge[NSSM_GEMM_KC * NSSM_VL]; /* the last columns of B where they are no whole vector */
	int rows = rows_per_tile(M), n_whole = N / VL * VL;
	for (int k0 = 0; k0 < K; k0 += NSSM_GEMM_KC) {
		int kc = min(NSSM_GEMM_KC, K - k0);
		for (int k = 0; k < kc && n_whole < N; k++)
			store(edge + k * VL, load_n(B + (size_t)(k0 + k) * ldb + n_whole, N - n_whole));
		for (int i = 0; i < M; i += rows) {
			int m = min(rows, M - i), n = part == VEC_COLS_UP_TO_ROW ? min(N, round_up(i + m, VL)) : N;
			int k_from = part == VEC_K_FROM_ROW && i > k0 ? min(i - k0, kc) : 0;
			int k_to = part == VEC_K_UP_TO_ROW ? min(i + m - k0, kc) : kc;
			struct tile t = {.ldc = ldc,
			        .a_row = a_row,
			        .a_col = a_col,
			        .n_rows = m,
			        .K = k_to > k_from ? k_to - k_from : 0,
			        .add = accumulate || k0};
			t.A = A + (size_t)i * a_row + (size_t)(k0 + k_from) * a_col;
			int whole_to = min(n, n_whole);
			for (int j = 0; j < n; j += j < whole_to ? min(NR, whole_to - j) : VL) {
				bool whole = j < whole_to;
				t.n_cols = whole ? min(NR, whole_to - j) : N - j;
				t.ldb = whole ? ldb : VL;
				t.B = whole ? B + (size_t)(k0 + k_from) * ldb + j : edge + k_from * VL;
				t.C = C + (size_t)i * ldc + j;
				tiles[m](&t);
			}
		}
	}
}
