/* vec — one source for the levels generic, avx2 and avx512: vectors of NSSM_VL floats in the compiler's
 * vector extension. meson.build compiles this folder once a level, with NSSM_LEVEL (its name) and NSSM_VL
 * set.
 *
 * Functions that another file of the folder needs are named by VEC(); everything else is static, because code
 * compiled for one level must never be linked into another.
 * A row's tail is loaded into a vector padded with zeros and goes through the same instructions as the rest,
 * so a value does not depend on where in a vector it stands. */
#ifndef NSSM_KERNELS_VEC_H
#define NSSM_KERNELS_VEC_H

#include <math.h>
#include <string.h>

#include "kernels/ops.h"

#define VEC_PASTE_(level, name) nssm_##level##_##name
#define VEC_PASTE(level, name)  VEC_PASTE_(level, name)
#define VEC(name)               VEC_PASTE(NSSM_LEVEL, name)

#define X(op) NSSM_KERNEL_DECLARE(op, VEC(op));
NSSM_KERNEL_OPS(X)
#undef X

enum { VL = NSSM_VL };

typedef float vf __attribute__((vector_size(4 * NSSM_VL)));
typedef int32_t vi __attribute__((vector_size(4 * NSSM_VL)));
typedef float vf_any __attribute__((vector_size(4 * NSSM_VL), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))
/* Before a loop over registers, whose bounds are constants: arrays of vectors are registers only when it is
 * gone. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define LIKELY(cond) __builtin_expect(!!(cond), 1)

/* --- loads and stores ----------------------------------------------------------------------------------------- */

INLINE vf splat(float x)
{
	return x - (vf){0};
}

/* A value that is used several times stays in a register: without this the compiler reads it from memory for each use,
 * and loads become the bottleneck. */
INLINE vf in_register(vf v)
{
#ifdef __x86_64__
	__asm__("" : "+v"(v));
#endif
	return v;
}

INLINE vf load(const float *p)
{
	return *(const vf_any *)p;
}

INLINE void store(float *p, vf v)
{
	*(vf_any *)p = v;
}

/* The first n floats, zeros behind them; n may be VL or more. */
INLINE vf load_n(const float *p, int n)
{
	if (LIKELY(n >= VL))
		return load(p);
	vf v = {0};
	memcpy(&v, p, (size_t)n * sizeof *p);
	return v;
}

INLINE void store_n(float *p, vf v, int n)
{
	if (LIKELY(n >= VL))
		store(p, v);
	else
		memcpy(p, &v, (size_t)n * sizeof *p);
}

/* --- inside a vector ------------------------------------------------------------------------------------------ */

INLINE vf pick(vi mask, vf yes, vf no)
{
	return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

INLINE vf vmax(vf a, vf b)
{
	return pick(a > b, a, b);
}

/* Permutations of two vectors, each one instruction: words or pairs of words of both in turn, from the low or the high
 * half of each 128 bits; and every second 128 bits, from the first or the second on. ROTATE: by half a vector. */
#if NSSM_VL == 4
#define WORDS_LOW   0, 4, 1, 5
#define WORDS_HIGH  2, 6, 3, 7
#define PAIRS_LOW   0, 1, 4, 5
#define PAIRS_HIGH  2, 3, 6, 7
#elif NSSM_VL == 8
#define WORDS_LOW   0, 8, 1, 9, 4, 12, 5, 13
#define WORDS_HIGH  2, 10, 3, 11, 6, 14, 7, 15
#define PAIRS_LOW   0, 1, 8, 9, 4, 5, 12, 13
#define PAIRS_HIGH  2, 3, 10, 11, 6, 7, 14, 15
#define LANES_EVEN  0, 1, 2, 3, 8, 9, 10, 11
#define LANES_ODD   4, 5, 6, 7, 12, 13, 14, 15
#elif NSSM_VL == 16
#define WORDS_LOW   0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define WORDS_HIGH  2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define PAIRS_LOW   0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define PAIRS_HIGH  2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define LANES_EVEN  0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define LANES_ODD   4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31
#endif

/* Halves are added until one lane is left: the same tree everywhere. */
#define SWAPPED(v, half) __builtin_shuffle(v, lane_numbers() ^ (half))

INLINE vi lane_numbers(void)
{
	vi v;
	for (int l = 0; l < VL; l++)
		v[l] = l;
	return v;
}

INLINE float hsum(vf v)
{
	UNROLL
	for (int half = VL / 2; half; half /= 2)
		v += SWAPPED(v, half);
	return v[0];
}

INLINE float hmax(vf v)
{
	UNROLL
	for (int half = VL / 2; half; half /= 2)
		v = vmax(v, SWAPPED(v, half));
	return v[0];
}

#if NSSM_VL == 4
#define EVEN 0, 2, 4, 6
#define ODD  1, 3, 5, 7
#elif NSSM_VL == 8
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD  1, 3, 5, 7, 9, 11, 13, 15
#elif NSSM_VL == 16
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD  1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#endif

/* r: VL rows of 4 floats, one behind the other; becomes their 4 columns. */
INLINE void transpose_fours(vf r[4])
{
	vf even_low = __builtin_shufflevector(r[0], r[1], EVEN), even_high = __builtin_shufflevector(r[2], r[3], EVEN);
	vf odd_low = __builtin_shufflevector(r[0], r[1], ODD), odd_high = __builtin_shufflevector(r[2], r[3], ODD);
	r[0] = __builtin_shufflevector(even_low, even_high, EVEN);
	r[1] = __builtin_shufflevector(odd_low, odd_high, EVEN);
	r[2] = __builtin_shufflevector(even_low, even_high, ODD);
	r[3] = __builtin_shufflevector(odd_low, odd_high, ODD);
}

/* Transposes a VL x VL block: 4 x 4 words inside every 128 bits, then the 128-bit lanes among each other. */
INLINE void transpose_block(vf r[NSSM_VL])
{
	UNROLL
	for (int i = 0; i < VL; i += 4) {
		vf a = __builtin_shufflevector(r[i], r[i + 1], WORDS_LOW), b = __builtin_shufflevector(r[i], r[i + 1], WORDS_HIGH);
		vf c = __builtin_shufflevector(r[i + 2], r[i + 3], WORDS_LOW), d = __builtin_shufflevector(r[i + 2], r[i + 3], WORDS_HIGH);
		r[i] = __builtin_shufflevector(a, c, PAIRS_LOW);
		r[i + 1] = __builtin_shufflevector(a, c, PAIRS_HIGH);
		r[i + 2] = __builtin_shufflevector(b, d, PAIRS_LOW);
		r[i + 3] = __builtin_shufflevector(b, d, PAIRS_HIGH);
	}
#if NSSM_VL == 8
	UNROLL
	for (int k = 0; k < 4; k++) {
		vf a = r[k], b = r[k + 4];
		r[k] = __builtin_shufflevector(a, b, LANES_EVEN);
		r[k + 4] = __builtin_shufflevector(a, b, LANES_ODD);
	}
#elif NSSM_VL == 16
	UNROLL
	for (int k = 0; k < 4; k++) {
		vf a = __builtin_shufflevector(r[k], r[k + 4], LANES_EVEN), b = __builtin_shufflevector(r[k], r[k + 4], LANES_ODD);
		vf c = __builtin_shufflevector(r[k + 8], r[k + 12], LANES_EVEN), d = __builtin_shufflevector(r[k + 8], r[k + 12], LANES_ODD);
		r[k] = __builtin_shufflevector(a, c, LANES_EVEN);
		r[k + 8] = __builtin_shufflevector(a, c, LANES_ODD);
		r[k + 4] = __builtin_shufflevector(b, d, LANES_EVEN);
		r[k + 12] = __builtin_shufflevector(b, d, LANES_ODD);
	}
#endif
}

/* --- products used inside other operations -------------------------------------------------------------------- */

/* dst [n_cols,n_rows] (stride ldd) = transpose of src [n_rows,n_cols]; columns of dst up to `pad` are set to
 * 0. */
void VEC(transpose)(float *dst, size_t ldd, const float *src, size_t lds, int n_rows, int n_cols, int pad);

/* Which part of a product is wanted: only k <= i counts (A is lower triangular), only k >= i (upper), or only
 * columns j <= i of C are needed (others are left alone or set to anything). */
enum vec_part { VEC_ALL, VEC_K_UP_TO_ROW, VEC_K_FROM_ROW, VEC_COLS_UP_TO_ROW };

/* C = A·B or C += A·B with operands read where they lie: A(i,k) = A[i*a_row + k*a_col], one of the two being
 * 1; B [K,N] with stride ldb. For matrices that fit in the second-level cache. */
void VEC(gemm_in_place)(float *C, size_t ldc, const float *A, size_t a_row, size_t a_col, const float *B,
        size_t ldb, bool accumulate, int M, int N, int K, enum vec_part part);

#endif
