#include "kernels/vec/vmath.h"

#include <assert.h>

enum {
	TAPS_MAX = 4,
	STRIP = 32, /* rows done before the next channels: their cache lines stay, and taps are gathered once
	               a strip */
};

struct taps {
	vf w[TAPS_MAX], bias;
};

/* The taps of n channels from c on; w is [C][K]. */
INLINE struct taps gather(const float *w, const float *bias, int c, int n, const int K)
{
	float lane[TAPS_MAX][NSSM_VL] = {{0}};
	struct taps taps;
	if (K == 4 && LIKELY(n >= VL)) {
		UNROLL
		for (int k = 0; k < 4; k++)
			taps.w[k] = load(w + (size_t)c * 4 + k * VL);
		transpose_fours(taps.w);
		taps.bias = bias ? load(bias + c) : splat(0);
		return taps;
	}
	n = n < VL ? n : VL;
	for (int i = 0; i < n; i++)
		for (int k = 0; k < K; k++)
			lane[k][i] = w[(size_t)(c + i) * K + k];
	for (int k = 0; k < K; k++)
		taps.w[k] = load(lane[k]);
	taps.bias = bias ? load_n(bias + c, n) : splat(0);
	return taps;
}

/* u of one row; window: the K rows that end with it, oldest first. */
INLINE vf pre_activation(const struct taps *taps, const vf *window, const int K)
{
	vf u = taps->bias;
	UNROLL
	for (int k = 0; k < K; k++)
		u += taps->w[k] * window[k];
	return u;
}

INLINE void shift(vf *window, const int K)
{
	UNROLL
	for (int k = 0; k + 1 < K; k++)
		window[k] = window[k + 1];
}

struct rows {
	const float *x;
	size_t ldx;
	const float *tail;
	size_t ldt;
};

/* n channels of row t; rows −(K−1)..−1 come from the tail. */
INLINE vf row(const struct rows *in, int t, int c, int n, const int K)
{
	if (t >= 0)
		return load_n(in->x + (size_t)t * in->ldx + c, n);
	return in->tail ? load_n(in->tail + (size_t)(t + K - 1) * in->ldt + c, n) : splat(0);
}

/* Forward (dy NULL): out = silu(u). Backward: out = dy ⊙ silu'(u). */
INLINE void conv(float *out, size_t ldo, const float *dy, size_t lddy, const struct rows *in, const float *w,
        const float *bias, int T, int C, const int K)
{
	for (int t0 = 0; t0 < T; t0 += STRIP)
		for (int c = 0; c < C; c += VL) {
			int n = C - c, t1 = T - t0 < STRIP ? T : t0 + STRIP;
			struct taps taps = gather(w, bias, c, n, K);
			vf window[TAPS_MAX];
			UNROLL
			for (int k = 0; k < K - 1; k++)
				window[k] = row(in, t0 - (K - 1) + k, c, n, K);
			for (int t = t0; t < t1; t++) {
				window[K - 1] = row(in, t, c, n, K);
				vf u = pre_activation(&taps, window, K), sig = vsigmoid(u);
				float *o = out + (size_t)t * ldo + c;
				if (dy)
					store_n(o, load_n(dy + (size_t)t * lddy + c, n) * dsilu(u, sig), n);
				else
					store_n(o, u * sig, n);
				shift(window, K);
			}
		}
}

/* Calls f with a constant number of taps, so that the window lies in registers. */
#define WITH_TAPS(K, f, ...)                                                                                 \
	do {                                                                                                 \
		assert((K) >= 1 && (K) <= TAPS_MAX);                                                         \
		if ((K) == 4)                                                                                \
			f(__VA_ARGS__, 4);                                                                   \
		else if ((K) == 3)                                                                           \
			f(__VA_ARGS__, 3);                                                                   \
		else if ((K) == 2)                                                                           \
			f(__VA_ARGS__, 2);                                                                   \
		else                                                                                         \
			f(__VA_ARGS__, 1);                                                                   \
	} while (0)

void VEC(conv_silu)(float *y, size_t ldy, const float *x, size_t ldx, const float *tail, size_t ldt,
        const float *w, const float *bias, int T, int C, int K)
{
	const struct rows in = {x, ldx, tail, ldt};
	WITH_TAPS(K, conv, y, ldy, NULL, 0, &in, w, bias, T, C);
}

void VEC(conv_silu_bwd_pre)(float *du, size_t lddu, const float *dy, size_t lddy, const float *x, size_t ldx,
        const float *tail, size_t ldt, const float *w, const float *bias, int T, int C, int K)
{
	const struct rows in = {x, ldx, tail, ldt};
	WITH_TAPS(K, conv, du, lddu, dy, lddy, &in, w, bias, T, C);
}

INLINE void bwd(float *dx, size_t lddx, float *dw, float *dbias, const float *du, size_t lddu, int n_after,
        const struct rows *in, const float *w, int T, int C, const int K)
{
	for (int t0 = 0; t0 < T; t0 += STRIP)
		for (int c = 0; c < C; c += VL) {
			int n = C - c, t1 = T - t0 < STRIP ? T : t0 + STRIP;
			struct taps taps = gather(w, NULL, c, n, K);
			vf xs[TAPS_MAX], dus[TAPS_MAX], dws[TAPS_MAX], db = {0};
			UNROLL
			for (int k = 0; k < K; k++)
				dws[k] = splat(0);
			UNROLL
			for (int k = 0; k < K - 1; k++) {
				xs[k] = row(in, t0 - (K - 1) + k, c, n, K);
				dus[k] = t0 + k < T + n_after ? load_n(du + (size_t)(t0 + k) * lddu + c, n)
				                              : splat(0);
			}
			for (int t = t0; t < t1; t++) {
				int last = t + K - 1; /* the last row that looked at row t */
				xs[K - 1] = row(in, t, c, n, K);
				dus[K - 1] = last < T + n_after ? load_n(du + (size_t)last * lddu + c, n)
				                                : splat(0);
				vf sum = taps.w[0] * dus[K - 1];
				UNROLL
				for (int k = 1; k < K; k++)
					sum += taps.w[k] * dus[K - 1 - k];
				store_n(dx + (size_t)t * lddx + c, sum, n);
				UNROLL
				for (int k = 0; k < K; k++)
					dws[k] += dus[0] * xs[k];
				db += dus[0];
				shift(xs, K);
				shift(dus, K);
			}
			store_n(dbias + c, load_n(dbias + c, n) + db, n);
			for (int k = 0; k < K; k++)
				for (int i = 0; i < VL && i < n; i++)
					dw[(size_t)(c + i) * K + k] += dws[k][i];
		}
}

void VEC(conv_bwd)(float *dx, size_t lddx, float *dw, float *dbias, const float *du, size_t lddu, int n_after,
        const float *x, size_t ldx, const float *tail, size_t ldt, const float *w, int T, int C, int K)
{
	const struct rows in = {x, ldx, tail, ldt};
	WITH_TAPS(K, bwd, dx, lddx, dw, dbias, du, lddu, n_after, &in, w, T, C);
}

INLINE void step(float *y, size_t ldy, float *const *state, const float *x, size_t ldx, const float *w,
        const float *bias, int R, int C, const int K)
{
	for (int c = 0; c < C; c += VL) {
		int n = C - c;
		struct taps taps = gather(w, bias, c, n, K);
		for (int r = 0; r < R; r++) {
			float *st = state[r] + c;
			vf window[TAPS_MAX];
			UNROLL
			for (int k = 0; k < K - 1; k++)
				window[k] = load_n(st + (size_t)k * C, n);
			window[K - 1] = load_n(x + (size_t)r * ldx + c, n);
			vf u = pre_activation(&taps, window, K);
			UNROLL
			for (int k = 0; k < K - 1; k++)
				store_n(st + (size_t)k * C, window[k + 1], n);
			store_n(y + (size_t)r * ldy + c, u * vsigmoid(u), n);
		}
	}
}

void VEC(conv_silu_step)(float *y, size_t ldy, float *const *state, const float *x, size_t ldx,
        const float *w, const float *bias, int R, int C, int K)
{
	WITH_TAPS(K, step, y, ldy, state, x, ldx, w, bias, R, C);
}
