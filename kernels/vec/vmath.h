/* vmath — e^x, ln(1+e^x) and what is made of them, on vectors.
 * Source : polynomials and the split of ln 2 from the Cephes library (S. Moshier), expf and logf.
 * Errors : e^x within 2 ulp over the whole range, subnormal results and overflow to infinity included; a NaN
 * stays one. Checked: tests/kern_check.c through the operations that use them. */
#ifndef NSSM_KERNELS_VMATH_H
#define NSSM_KERNELS_VMATH_H

#include "kernels/vec/vec.h"

#define LN2_HIGH 0.693359375f /* few bits: n·LN2_HIGH is exact */
#define LN2_LOW  -2.12194440e-4f

/* e^x = p·2^n; returns p. */
INLINE vf vexp_parts(vf x, vi *n_out)
{
	/* n = round(x/ln 2): adding 1.5·2^23 leaves the integer in the low bits of the sum. */
	const vf magic = splat(12582912.0f);
	vf t = x * 1.44269504088896341f + magic, n = t - magic;
	vi ni = (vi)t - (vi)magic;
	vf r = x - n * LN2_HIGH - n * LN2_LOW;
	vf p = splat(1.9875691500e-4f);
	p = p * r + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	*n_out = ni;
	return p * (r * r) + r + 1.0f;
}

INLINE vf vexp(vf x)
{
	/* Beyond these the result is 0 or infinity anyway; the comparison lets a NaN through. */
	x = pick(x < splat(-104.0f), splat(-104.0f), x);
	x = pick(x > splat(89.0f), splat(89.0f), x);
	vi ni;
	vf p = vexp_parts(x, &ni);
	/* 2^n in two factors: n runs from -150 to 128, an exponent field only from -126 to 127. */
	vi half = ni >> 1;
	return p * (vf)((half + 127) << 23) * (vf)((ni - half + 127) << 23);
}

/* Below −87 it is e^{-87}, 1.6e-38: what it multiplies is as good as 0 either way, and 2^n needs one factor only. */
INLINE vf vsigmoid(vf x)
{
	vf y = pick(x < splat(-87.0f), splat(87.0f), -x);
	y = pick(y < splat(-87.0f), splat(-87.0f), y);
	vi ni;
	vf p = vexp_parts(y, &ni);
	return 1.0f / (1.0f + p * (vf)((ni + 127) << 23));
}

/* d/du of u·σ(u), given σ(u). */
INLINE vf dsilu(vf u, vf sig)
{
	return sig * (1.0f + u * (1.0f - sig));
}

/* ln x for normal x > 0. */
INLINE vf vlog(vf x)
{
	const vi sqrt_half = (vi)splat(0.70710678118654752f);
	vi i = (vi)x - sqrt_half;
	vf e = __builtin_convertvector(i >> 23, vf);
	vf f = (vf)((i & 0x7fffff) + sqrt_half) - 1.0f; /* mantissa − 1, from √½−1 to √2−1 */
	vf p = splat(7.0376836292e-2f);
	p = p * f - 1.1514610310e-1f;
	p = p * f + 1.1676998740e-1f;
	p = p * f - 1.2420140846e-1f;
	p = p * f + 1.4249322787e-1f;
	p = p * f - 1.6668057665e-1f;
	p = p * f + 2.0000714765e-1f;
	p = p * f - 2.4999993993e-1f;
	p = p * f + 3.3333331174e-1f;
	vf z = f * f;
	return f + (p * f * z + e * LN2_LOW - 0.5f * z) + e * LN2_HIGH;
}

/* ln(1 + e^x), x itself above 20. u = 1 + e^x loses low bits of e^x; the quotient puts them back. */
INLINE vf vsoftplus(vf x)
{
	vf t = vexp(pick(x > 20.0f, splat(20.0f), x));
	vf u = 1.0f + t;
	return pick(x > 20.0f, x, vlog(u) + (t - (u - 1.0f)) / u);
}

#endif
