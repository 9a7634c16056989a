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

/* Halves are added until one lane is left: the same tree everywhere. */
INLINE float hsum(vf v)
{
	float e[NSSM_VL];
	memcpy(e, &v, sizeof e);
	for (int half = VL / 2; half; half /= 2)
		for (int i = 0; i < half; i++)
			e[i] += e[i + half];
	return e[0];
}

INLINE float hmax(vf v)
{
	float e[NSSM_VL];
	memcpy(e, &v, sizeof e);
	for (int half = VL / 2; half; half /= 2)
		for (int i = 0; i < half; i++)
			e[i] = e[i] > e[i + half] ? e[i] : e[i + half];
	return e[0];
}

#if NSSM_VL == 4
#define INTERLEAVE_LOW  0, 4, 1, 5
#define INTERLEAVE_HIGH 2, 6, 3, 7
#elif NSSM_VL == 8
#define INTERLEAVE_LOW  0, 8, 1, 9, 2, 10, 3, 11
#define INTERLEAVE_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif NSSM_VL == 16
#define INTERLEAVE_LOW  0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define INTERLEAVE_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif

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

/* Transposes a VL x VL block: log2(VL) perfect shuffles of the rows. */
INLINE void transpose_block(vf r[NSSM_VL])
{
	UNROLL
	for (int round = 1; round < VL; round *= 2) {
		vf t[NSSM_VL];
		UNROLL
		for (int i = 0; i < VL / 2; i++) {
			t[2 * i] = __builtin_shufflevector(r[i], r[i + VL / 2], INTERLEAVE_LOW);
			t[2 * i + 1] = __builtin_shufflevector(r[i], r[i + VL / 2], INTERLEAVE_HIGH);
		}
		UNROLL
		for (int i = 0; i < VL; i++)
			r[i] = t[i];
	}
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
