#include "kernels/vec/int8.h"

static int min(int a, int b)
{
	return a < b ? a : b;
}

static int up(int n, int unit)
{
	return (n + unit - 1) / unit;
}

static int panel_width(int j, int N)
{
	return min(INT8_NR, up(N - j, VL) * VL);
}

/* Floats and words above one column of a panel. */
static size_t panel_height(int K)
{
	return 1 + (size_t)up(K, NSSM_INT8_KC) + (size_t)up(K, 4);
}

size_t VEC(int8_pack_floats)(int K, int N)
{
	return (size_t)up(N, VL) * VL * panel_height(K);
}

/* The largest magnitude of n elements, as bits: so compared, a NaN is larger than all numbers. */
static int32_t top_of(const float *x, size_t step, int n)
{
	int32_t top = 0, bits;
	for (int k = 0; k < n; k++, x += step) {
		memcpy(&bits, x, sizeof bits);
		bits &= 0x7fffffff;
		top = bits > top ? bits : top;
	}
	return top;
}

/* What a step stands for, and its inverse; an infinity or a NaN makes every product of the row or column NaN. */
static float scale_of(float top, float *inv)
{
	*inv = top > 0 && isfinite(top) ? 127 / top : 0;
	return isfinite(top) ? top / 127 : NAN;
}

static float as_float(int32_t bits)
{
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

/* Column c of a panel from a column of B whose elements lie `step` apart. */
static void pack_column(float *panel, int c, size_t width, const float *b, size_t step, int K)
{
	int n_blocks = up(K, NSSM_INT8_KC);
	int32_t *offset = (int32_t *)(void *)(panel + width) + c;
	uint32_t *words = (uint32_t *)(void *)(panel + width * (size_t)(1 + n_blocks)) + c;
	float inv;
	panel[c] = scale_of(as_float(top_of(b, step, K)), &inv);
	for (int k0 = 0; k0 < K; k0 += NSSM_INT8_KC, offset += width) {
		int32_t sum = 0, end = min(K, k0 + NSSM_INT8_KC);
		for (int k = k0; k < end; k += 4, words += width) {
			uint32_t word = 0;
			for (int i = 0; i < 4 && k + i < end; i++) {
				int32_t q = (int32_t)lrintf(inv > 0 ? b[(size_t)(k + i) * step] * inv : 0);
				word |= (uint32_t)(uint8_t)q << 8 * i;
				sum += q;
			}
			*words = word;
		}
		*offset = -128 * sum;
	}
}

void VEC(int8_pack)(float *dst, const float *B, size_t ldb, bool transposed, int K, int N)
{
	for (int j = 0; j < N; j += INT8_NR) {
		size_t width = (size_t)panel_width(j, N), n = width * panel_height(K);
		memset(dst, 0, n * sizeof *dst);
		for (int c = 0; c < min(INT8_NR, N - j); c++)
			if (transposed)
				pack_column(dst, c, width, B + (size_t)(j + c) * ldb, 1, K);
			else
				pack_column(dst, c, width, B + j + c, ldb, K);
		dst += n;
	}
}

/* One block of k: m rows of a strip times all of packed B. t: C, add, row_scale and words. */
static void strip_times_panels(struct int8_tile t, const uint8_t *strip, const float *packed, int block, int m, int N, int K)
{
	int n_tiles = up(m, INT8_MR), rows = up(m, n_tiles), n_blocks = up(K, NSSM_INT8_KC);
	float *C = t.C;
	const float *row_scale = t.row_scale;
	for (int j = 0; j < N; j += INT8_NR) {
		size_t width = (size_t)panel_width(j, N), first = (size_t)(1 + n_blocks + block * (NSSM_INT8_KC / 4));
		t.n_cols = min(INT8_NR, N - j);
		t.scale = packed;
		t.offset = (const int32_t *)(const void *)(packed + width * (size_t)(1 + block));
		t.B = (const uint32_t *)(const void *)(packed + width * first);
		for (int i = 0; i < m; i += rows) {
			t.n_rows = min(rows, m - i);
			t.A = strip + (size_t)i * VEC(int8_strip_row)();
			t.C = C + (size_t)i * t.ldc + j;
			t.row_scale = row_scale + i;
			VEC(int8_tile)(&t);
		}
		packed += width * panel_height(K);
	}
}

static float row_top(const float *x, int n)
{
	vi top = {0};
	for (int k = 0; k < n; k += VL) {
		vi bits = (vi)load_n(x + k, n - k) & 0x7fffffff, more = bits > top;
		top = (bits & more) | (top & ~more);
	}
	int32_t most = 0;
	for (int i = 0; i < VL; i++)
		most = top[i] > most ? top[i] : most;
	return as_float(most);
}

void VEC(int8_gemm_packed)(float *C, size_t ldc, const float *A, size_t lda, const float *packed, bool accumulate,
        int M, int N, int K)
{
	_Alignas(64) uint8_t strip[INT8_STRIP * NSSM_INT8_KC * sizeof(float)];
	float row_scale[INT8_STRIP], inv[INT8_STRIP];
	for (int i = 0; i < M; i += INT8_STRIP) {
		int m = min(INT8_STRIP, M - i);
		const float *a = A + (size_t)i * lda;
		for (int r = 0; r < m; r++)
			row_scale[r] = scale_of(row_top(a + (size_t)r * lda, K), &inv[r]);
		for (int k0 = 0; k0 < K; k0 += NSSM_INT8_KC) {
			int kc = min(NSSM_INT8_KC, K - k0);
			struct int8_tile t = {.C = C + (size_t)i * ldc,
			        .ldc = ldc,
			        .row_scale = row_scale,
			        .words = up(kc, 4),
			        .add = accumulate || k0};
			VEC(int8_strip)(strip, a + k0, lda, inv, m, kc);
			strip_times_panels(t, strip, packed, k0 / NSSM_INT8_KC, m, N, K);
		}
	}
}
