/* bf16 — the matrix product whose operands are rounded to bfloat16, in two halves: bf16.c has the loops and the
 * layout of B; how a tile is summed, and what A is turned into for it, depends on what the CPU has:
 * bf16_dot.c where it multiplies pairs of bfloat16 (vdpbf16ps), bf16_wide.c where they are widened to fp32.
 * meson.build compiles one of the two for a level.
 *
 * B    : panels of BF16_NR columns, each [ceil(K/2)][width] words; a word holds column j of rows 2k (low half) and
 *        2k+1 (high half; 0 behind the last row). The last panel is as wide as N needs, rounded up to whole vectors.
 * Strip: up to BF16_STRIP rows of A over one block of k, on the stack. Two pairs of strides, both constants, so that a
 *        tile needs one address register for A: rows as stored ([row][k]) or, where A is stored transposed, [k][row]. */
#ifndef NSSM_KERNELS_VEC_BF16_H
#define NSSM_KERNELS_VEC_BF16_H

#include "kernels/vec/vec.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

enum {
	/* avx512: 8 x 3 accumulators, 3 of B and one of A are 28 of 32 registers. Every level: B's row costs NV loads
	 * for MR·NV multiplications. */
	BF16_MR = VL == 16 ? 8 : VL == 8 ? 6 : 4,
	BF16_NV = VL == 16 ? 3 : 2,
	BF16_NR = BF16_NV * VL,
	BF16_STRIP = 16, /* rows: A's strip (8 KiB as bfloat16) and a panel of B (24 KiB) fit the first-level cache */
	BF16_PAIRS = NSSM_GEMM_KC / 2,
};

struct bf16_tile {
	float *C;
	size_t ldc;
	const uint32_t *A; /* in a strip, the tile's first row */
	bool by_k;         /* the strip is [k][row] */
	const uint32_t *B;
	int pairs, n_rows, n_cols;
	bool add;
};

/* The first m rows and kc columns of A into a strip; A stored [K,M] if transposed. Words of a strip:
 * BF16_STRIP·NSSM_GEMM_KC are enough for either file. */
void VEC(bf16_strip)(uint32_t *strip, const float *A, size_t lda, bool transposed, int m, int kc);
/* Words from one row of a strip to the next. */
size_t VEC(bf16_strip_row)(bool by_k);
void VEC(bf16_tile)(const struct bf16_tile *t);

/* --- rounding ------------------------------------------------------------------------------------------------- */

/* To bfloat16, nearest even, still in the high half of a float; the low half is noise unless masked. A NaN stays
 * one: its high half gets the quiet bit. */
INLINE vi bf16_round(vf x)
{
	vi bits = (vi)x, odd = (bits >> 16) & 1;
	return (vi)pick(x == x, (vf)(bits + 0x7fff + odd), (vf)(bits | 0x400000));
}

#ifdef __AVX512BF16__
/* Two instructions: both are rounded into one vector, low half and high half; then a word of each in turn. */
INLINE vi bf16_pair(vf even, vf odd)
{
	const __m512i in_turn = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
	        19, 3, 18, 2, 17, 1, 16, 0);
	__m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);
	return (vi)_mm512_permutexvar_epi16(in_turn, halves);
}
#else
INLINE vi bf16_pair(vf even, vf odd)
{
	return ((bf16_round(even) >> 16) & 0xffff) | (bf16_round(odd) & (int32_t)0xffff0000u);
}
#endif

typedef int32_t vi_any __attribute__((vector_size(4 * NSSM_VL), aligned(4), may_alias));

INLINE vi load_words(const uint32_t *p)
{
	return *(const vi_any *)p;
}

INLINE void store_words(uint32_t *p, vi v)
{
	*(vi_any *)p = v;
}

/* C's part of a tile from its accumulators. */
INLINE void bf16_finish(const struct bf16_tile *t, vf (*acc)[BF16_NV], const int mr, const int nv)
{
	float *c = t->C;
	if (LIKELY(t->n_cols == nv * VL)) {
		UNROLL
		for (int i = 0; i < mr; i++, c += t->ldc) {
			UNROLL
			for (int v = 0; v < nv; v++)
				store(c + v * VL, t->add ? load(c + v * VL) + acc[i][v] : acc[i][v]);
		}
		return;
	}
	UNROLL
	for (int i = 0; i < mr; i++, c += t->ldc) {
		UNROLL
		for (int v = 0; v < nv; v++) {
			int left = t->n_cols - v * VL;
			if (left > 0)
				store_n(c + v * VL, t->add ? load_n(c + v * VL, left) + acc[i][v] : acc[i][v], left);
		}
	}
}

/* A function for each number of rows, each for whole and for narrow panels and for both kinds of strip.
 * tile_of(t, mr, nv, row, col): strides of the strip in words. */
#define BF16_TILE_ROWS(mr)                                                                                   \
	static void tile_##mr(const struct bf16_tile *t)                                                     \
	{                                                                                                    \
		if (mr > BF16_MR)                                                                            \
			return;                                                                              \
		if (t->n_cols > (BF16_NV - 1) * VL) {                                                        \
			if (t->by_k)                                                                         \
				tile_of(t, mr, BF16_NV, 1, BF16_STRIP);                                      \
			else                                                                                 \
				tile_of(t, mr, BF16_NV, STRIP_ROW, 1);                                       \
		} else if (t->n_cols > VL) {                                                                 \
			if (t->by_k)                                                                         \
				tile_of(t, mr, 2, 1, BF16_STRIP);                                            \
			else                                                                                 \
				tile_of(t, mr, 2, STRIP_ROW, 1);                                             \
		} else {                                                                                     \
			if (t->by_k)                                                                         \
				tile_of(t, mr, 1, 1, BF16_STRIP);                                            \
			else                                                                                 \
				tile_of(t, mr, 1, STRIP_ROW, 1);                                             \
		}                                                                                            \
	}

#define BF16_TILES                                                                                           \
	BF16_TILE_ROWS(1) BF16_TILE_ROWS(2) BF16_TILE_ROWS(3) BF16_TILE_ROWS(4)                              \
	BF16_TILE_ROWS(5) BF16_TILE_ROWS(6) BF16_TILE_ROWS(7) BF16_TILE_ROWS(8)                              \
	size_t VEC(bf16_strip_row)(bool by_k)                                                                \
	{                                                                                                    \
		return by_k ? 1 : STRIP_ROW;                                                                 \
	}                                                                                                    \
	void VEC(bf16_tile)(const struct bf16_tile *t)                                                       \
	{                                                                                                    \
		static void (*const tiles[])(const struct bf16_tile *) = {                                   \
		        NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6, tile_7, tile_8};               \
		tiles[t->n_rows](t);                                                                         \
	}

#endif
