#include "kernels/ref/ref.h"

#include <math.h>

static float sigmoid(float x)
{
	return 1.0f / (1.0f + expf(-x));
}

/* Row t of the input, where rows −(K−1)..−1 come from the tail. */
static float input(const float *x, size_t ldx, const float *tail, size_t ldt, int t, int c, int K)
{
	if (t >= 0)
		return x[(size_t)t * ldx + c];
	return tail ? tail[(size_t)(t + K - 1) * ldt + c] : 0;
}

/* u_t[c]: the bias first, then the taps from the oldest row to the current one. */
static float pre_activation(const float *x, size_t ldx, const float *tail, size_t ldt, const float *w,
        const float *bias, int t, int c, int K)
{
	float u = bias[c];
	for (int k = 0; k < K; k++)
		u += w[c * K + k] * input(x, ldx, tail, ldt, t - (K - 1) + k, c, K);
	return u;
}

void nssm_ref_conv_silu(float *y, size_t ldy, const float *x, size_t ldx, const float *tail, size_t ldt,
        const float *w, const float *bias, int T, int C, int K)
{
	for (int t = 0; t < T; t++)
		for (int c = 0; c < C; c++) {
			float u = pre_activation(x, ldx, tail, ldt, w, bias, t, c, K);
			y[(size_t)t * ldy + c] = u * sigmoid(u);
		}
}

void nssm_ref_conv_silu_bwd_pre(float *du, size_t lddu, const float *dy, size_t lddy, const float *x,
        size_t ldx, const float *tail, size_t ldt, const float *w, const float *bias, int T, int C, int K)
{
	for (int t = 0; t < T; t++)
		for (int c = 0; c < C; c++) {
			float u = pre_activation(x, ldx, tail, ldt, w, bias, t, c, K), sig = sigmoid(u);
			du[(size_t)t * lddu + c] = dy[(size_t)t * lddy + c] * (sig * (1 + u * (1 - sig)));
		}
}

void nssm_ref_conv_bwd(float *dx, size_t lddx, float *dw, float *dbias, const float *du, size_t lddu,
        int n_after, const float *x, size_t ldx, const float *tail, size_t ldt, const float *w, int T, int C,
        int K)
{
	for (int c = 0; c < C; c++) {
		double db = 0;
		for (int t = 0; t < T; t++) {
			float sum = 0;
			for (int k = 0; k < K; k++) {
				int after = t + K - 1 - k; /* the row whose tap k looked at row t */
				if (after < T + n_after)
					sum += w[c * K + k] * du[(size_t)after * lddu + c];
			}
			dx[(size_t)t * lddx + c] = sum;
			db += du[(size_t)t * lddu + c];
		}
		dbias[c] += (float)db;
		for (int k = 0; k < K; k++) {
			double sum = 0;
			for (int t = 0; t < T; t++)
				sum += (double)du[(size_t)t * lddu + c] *
				       input(x, ldx, tail, ldt, t - (K - 1) + k, c, K);
			dw[c * K + k] += (float)sum;
		}
	}
}

void nssm_ref_conv_silu_step(float *y, size_t ldy, float *const *state, const float *x, size_t ldx,
        const float *w, const float *bias, int R, int C, int K)
{
	for (int r = 0; r < R; r++, y += ldy, x += ldx)
		for (int c = 0; c < C; c++) {
			float *st = state[r] + c, now = x[c], u = bias[c];
			for (int k = 0; k < K - 1; k++)
				u += w[c * K + k] * st[(size_t)k * C];
			u += w[c * K + K - 1] * now;
			for (int k = 0; k + 1 < K - 1; k++)
				st[(size_t)k * C] = st[(size_t)(k + 1) * C];
			if (K > 1)
				st[(size_t)(K - 2) * C] = now;
			y[c] = u * sigmoid(u);
		}
}
