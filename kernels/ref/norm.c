#include "kernels/ref/ref.h"

#include <math.h>

static float sigmoid(float x)
{
	return 1.0f / (1.0f + expf(-x));
}

void nssm_ref_rmsnorm(float *y, size_t ldy, float *rstd, const float *x, size_t ldx, const float *w,
        float eps, int R, int D)
{
	for (int r = 0; r < R; r++, x += ldx, y += ldy) {
		double sum = 0;
		for (int d = 0; d < D; d++)
			sum += (double)x[d] * x[d];
		float rs = (float)(1 / sqrt(sum / D + eps));
		for (int d = 0; d < D; d++)
			y[d] = w[d] * (x[d] * rs);
		if (rstd)
			rstd[r] = rs;
	}
}

void nssm_ref_rmsnorm_bwd(float *dx, size_t lddx, float *dw, const float *dy, size_t lddy, const float *x,
        size_t ldx, const float *rstd, const float *w, int R, int D)
{
	for (int r = 0; r < R; r++, dx += lddx, dy += lddy, x += ldx) {
		double sum = 0;
		for (int d = 0; d < D; d++)
			sum += (double)(dy[d] * w[d]) * (x[d] * rstd[r]);
		float mean = (float)(sum / D);
		for (int d = 0; d < D; d++) {
			float n = x[d] * rstd[r];
			dx[d] += rstd[r] * (dy[d] * w[d] - n * mean);
			dw[d] += dy[d] * n;
		}
	}
}

void nssm_ref_gated_rmsnorm(float *out, size_t ldo, float *rstd, const float *y, size_t ldy, const float *z,
        size_t ldz, const float *w, float eps, int R, int D)
{
	for (int r = 0; r < R; r++, out += ldo, y += ldy, z += ldz) {
		double sum = 0;
		for (int d = 0; d < D; d++) {
			float g = y[d] * (z[d] * sigmoid(z[d]));
			sum += (double)g * g;
		}
		float rs = (float)(1 / sqrt(sum / D + eps));
		for (int d = 0; d < D; d++)
			out[d] = w[d] * (y[d] * (z[d] * sigmoid(z[d])) * rs);
		if (rstd)
			rstd[r] = rs;
	}
}

/* With n = g·rstd: dg = rstd·(dout⊙w − n·mean(dout⊙w⊙n)) as in rmsnorm; then dy = dg⊙silu(z) and
 * dz = dg⊙y⊙silu'(z), silu'(z) = σ·(1 + z·(1−σ)). */
void nssm_ref_gated_rmsnorm_bwd(float *dy, size_t lddy, float *dz, size_t lddz, float *dw, const float *dout,
        size_t lddo, const float *y, size_t ldy, const float *z, size_t ldz, const float *rstd,
        const float *w, int R, int D)
{
	for (int r = 0; r < R; r++, dy += lddy, dz += lddz, dout += lddo, y += ldy, z += ldz) {
		double sum = 0;
		for (int d = 0; d < D; d++) {
			float n = y[d] * (z[d] * sigmoid(z[d])) * rstd[r];
			sum += (double)(dout[d] * w[d]) * n;
		}
		float mean = (float)(sum / D);
		for (int d = 0; d < D; d++) {
			float zd = z[d], sig = sigmoid(zd), silu = zd * sig;
			float n = y[d] * silu * rstd[r];
			float dg = rstd[r] * (dout[d] * w[d] - n * mean);
			dw[d] += dout[d] * n;
			dy[d] = dg * silu;
			dz[d] = dg * y[d] * (sig * (1 + zd * (1 - sig)));
		}
	}
}
