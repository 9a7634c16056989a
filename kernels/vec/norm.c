#include "kernels/vec/vmath.h"

void VEC(rmsnorm)(float *y, size_t ldy, float *rstd, const float *x, size_t ldx, const float *w, float eps,
        int R, int D)
{
	for (int r = 0; r < R; r++, x += ldx, y += ldy) {
		vf sum = {0};
		for (int d = 0; d < D; d += VL) {
			vf v = load_n(x + d, D - d);
			sum += v * v;
		}
		float rs = 1.0f / sqrtf(hsum(sum) / (float)D + eps);
		for (int d = 0; d < D; d += VL)
			store_n(y + d, load_n(w + d, D - d) * (load_n(x + d, D - d) * rs), D - d);
		if (rstd)
			rstd[r] = rs;
	}
}

void VEC(rmsnorm_bwd)(float *dx, size_t lddx, float *dw, const float *dy, size_t lddy, const float *x,
        size_t ldx, const float *rstd, const float *w, int R, int D)
{
	for (int r = 0; r < R; r++, dx += lddx, dy += lddy, x += ldx) {
		float rs = rstd[r];
		vf sum = {0};
		for (int d = 0; d < D; d += VL)
			sum += load_n(dy + d, D - d) * load_n(w + d, D - d) * (load_n(x + d, D - d) * rs);
		float mean = hsum(sum) / (float)D;
		for (int d = 0; d < D; d += VL) {
			int left = D - d;
			vf n = load_n(x + d, left) * rs, g = load_n(dy + d, left);
			vf dg = rs * (g * load_n(w + d, left) - n * mean);
			store_n(dx + d, load_n(dx + d, left) + dg, left);
			store_n(dw + d, load_n(dw + d, left) + g * n, left);
		}
	}
}

void VEC(gated_rmsnorm)(float *out, size_t ldo, float *rstd, const float *y, size_t ldy, const float *z,
        size_t ldz, const float *w, float eps, int R, int D)
{
	for (int r = 0; r < R; r++, out += ldo, y += ldy, z += ldz) {
		vf sum = {0};
		for (int d = 0; d < D; d += VL) {
			vf zd = load_n(z + d, D - d);
			vf g = load_n(y + d, D - d) * (zd * vsigmoid(zd));
			sum += g * g;
			store_n(out + d, g, D - d);
		}
		float rs = 1.0f / sqrtf(hsum(sum) / (float)D + eps);
		for (int d = 0; d < D; d += VL)
			store_n(out + d, load_n(w + d, D - d) * (load_n(out + d, D - d) * rs), D - d);
		if (rstd)
			rstd[r] = rs;
	}
}

void VEC(gated_rmsnorm_bwd)(float *dy, size_t lddy, float *dz, size_t lddz, float *dw, const float *dout,
        size_t lddo, const float *y, size_t ldy, const float *z, size_t ldz, const float *rstd,
        const float *w, int R, int D)
{
	for (int r = 0; r < R; r++, dy += lddy, dz += lddz, dout += lddo, y += ldy, z += ldz) {
		float rs = rstd[r];
		vf sum = {0};
		for (int d = 0; d < D; d += VL) {
			vf zd = load_n(z + d, D - d);
			vf n = load_n(y + d, D - d) * (zd * vsigmoid(zd)) * rs;
			sum += load_n(dout + d, D - d) * load_n(w + d, D - d) * n;
		}
		float mean = hsum(sum) / (float)D;
		for (int d = 0; d < D; d += VL) {
			int left = D - d;
			vf zd = load_n(z + d, left), yd = load_n(y + d, left), go = load_n(dout + d, left);
			vf sig = vsigmoid(zd), silu = zd * sig;
			vf n = yd * silu * rs;
			vf dg = rs * (go * load_n(w + d, left) - n * mean);
			store_n(dw + d, load_n(dw + d, left) + go * n, left);
			store_n(dy + d, dg * silu, left);
			store_n(dz + d, dg * yd * dsilu(zd, sig), left);
		}
	}
}
