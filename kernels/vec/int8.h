/* int8 — the matrix product of quantised operands, in two halves, as bf16.h: int8.c has the loops and the layout of B;
 * int8_dot.c sums a tile with vpdpbusd, int8_wide.c with fp32 multiplications where the CPU has none.
 *
 * B    : panels of INT8_NR columns. A panel: scale [width] (fp32), offset [blocks][width] (int32), then
 *        [ceil(K/4)][width] words of four signed bytes, rows 4k.. (lowest byte first, 0 behind the last row).
 *        A block is NSSM_INT8_KC rows. The last panel is as wide as N needs, rounded up to whole vectors.
 * Strip: up to INT8_STRIP quantised rows of A over one block of k, [row][k] with a constant stride. vpdpbusd wants its
 *        first operand unsigned, so 128 is added there, and offset = −128·Σ_k b takes it away: sums start from it. */
#ifndef NSSM_KERNELS_VEC_INT8_H
#define NSSM_KERNELS_VEC_INT8_H

#include "kernels/vec/vec.h"

enum {
	INT8_MR = VL == 16 ? 8 : VL == 8 ? 6 : 4,
	INT8_NV = VL == 16 ? 3 : 2, /* 8 x 3 sums, 3 of B and one of A are 28 of 32 registers */
	INT8_NR = INT8_NV * VL,
	INT8_STRIP = 16,
};

struct int8_tile {
	float *C;
	size_t ldc;
	const void *A; /* in a strip, the tile's first row */
	const uint32_t *B;
	const int32_t *offset;
	const float *scale, *row_scale;
	int words, n_rows, n_cols;
	bool add;
};

/* m rows of A, kc columns, into a strip: q = nearest(x·inv[row]). Bytes of a strip: INT8_STRIP·NSSM_INT8_KC·4 are
 * enough for either file. */
void VEC(int8_strip)(void *strip, const float *A, size_t lda, const float *inv, int m, int kc);
/* Bytes from one row of a strip to the next. */
size_t VEC(int8_strip_row)(void);
void VEC(int8_tile)(const struct int8_tile *t);

/* x·inv rounded to an integer: adding 1.5·2^23 leaves it in the low bits of the sum. */
INLINE vi int8_quantise(vf x, float inv)
{
	const vf magic = splat(12582912.0f);
	return (vi)(x * inv + magic) - (vi)magic;
}

/* C's part of a tile from its sums, whole numbers. */
INLINE void int8_finish(const struct int8_tile *t, vf (*sum)[INT8_NV], const int mr, const int nv)
{
	float *c = t->C;
	UNROLL
	for (int i = 0; i < mr; i++, c += t->ldc) {
		UNROLL
		for (int v = 0; v < nv; v++) {
			int left = t->n_cols - v * VL;
			vf x = sum[i][v] * (t->row_scale[i] * load(t->scale + v * VL));
			if (left > 0)
				store_n(c + v * VL, t->add ? load_n(c + v * VL, left) + x : x, left);
		}
	}
}

/* A function for each number of rows, each for every width. tile_of(t, mr, nv) */
#define INT8_TILE_ROWS(mr)                                                                                   \
	static void tile_##mr(const struct int8_tile *t)                                                     \
	{                                                                                                    \
		if (mr > INT8_MR)                                                                            \
			return;                                                                              \
		if (t->n_cols > (INT8_NV - 1) * VL)                                                          \
			tile_of(t, mr, INT8_NV);                                                             \
		else if (t->n_cols > VL)                                                                     \
			tile_of(t, mr, 2);                                                                   \
		else                                                                                         \
			tile_of(t, mr, 1);                                                                   \
	}

#define INT8_TILES                                                                                           \
	INT8_TILE_ROWS(1) INT8_TILE_ROWS(2) INT8_TILE_ROWS(3) INT8_TILE_ROWS(4)                              \
	INT8_TILE_ROWS(5) INT8_TILE_ROWS(6) INT8_TILE_ROWS(7) INT8_TILE_ROWS(8)                              \
	void VEC(int8_tile)(const struct int8_tile *t)                                                       \
	{                                                                                                    \
		static void (*const tiles[])(const struct int8_tile *) = {                                   \
		        NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6, tile_7, tile_8};               \
		tiles[t->n_rows](t);                                                                         \
	}

#endif
