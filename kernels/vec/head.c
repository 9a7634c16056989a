#include "kernels/vec/vmath.h"

#include <assert.h>

enum { BLOCK = 4096 }; /* of sumsq */

typedef double vd __attribute__((vector_size(8 * NSSM_VL)));

/* load_n with the lanes behind the row at −infinity. */
INLINE vf load_logits(const float *p, int n)
{
	vf v = load_n(p, n);
	if (!LIKELY(n >= VL))
		for (int i = n; i < VL; i++)
			v[i] = -INFINITY;
	return v;
}

static void xent_row(float *loss, float *logits, int32_t target, float scale, int V)
{
	vf top = splat(-INFINITY), sums = {0};
	for (int v = 0; v < V; v += VL)
		top = vmax(load_logits(logits + v, V - v), top);
	float max = hmax(top), picked = logits[target];
	for (int v = 0; v < V; v += VL) {
		vf e = vexp(load_logits(logits + v, V - v) - max);
		sums += e;
		if (scale != 0)
			store_n(logits + v, e, V - v);
	}
	float sum = hsum(sums);
	*loss = logf(sum) + (max - picked);
	if (scale == 0)
		return;
	float factor = scale / sum;
	for (int v = 0; v < V; v += VL)
		store_n(logits + v, load_n(logits + v, V - v) * factor, V - v);
	logits[target] -= scale;
}

void VEC(xent)(
        float *loss, float *logits, size_t ldl, const int32_t *target, float scale, int R, int V, int Vpad)
{
	for (int r = 0; r < R; r++, logits += ldl) {
		assert(target[r] < V);
		loss[r] = 0;
		if (target[r] >= 0)
			xent_row(&loss[r], logits, target[r], scale, V);
		if (scale == 0)
			continue;
		int zero_from = target[r] >= 0 ? V : 0;
		if (zero_from < Vpad)
			memset(logits + zero_from, 0, (size_t)(Vpad - zero_from) * sizeof *logits);
	}
}

/* The compiler makes vectors of this loop by itself, square root included. */
void VEC(adamw)(float *restrict p, float *restrict m, float *restrict v, const float *restrict grad,
        float gscale, float lr, float b1, float b2, float eps, float wd, float c1, float c2, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float g = grad[i] * gscale;
		m[i] = b1 * m[i] + (1 - b1) * g;
		v[i] = b2 * v[i] + (1 - b2) * g * g;
		p[i] -= lr * (m[i] / c1 / (sqrtf(v[i] / c2) + eps) + wd * p[i]);
	}
}

double VEC(sumsq)(const float *x, size_t n)
{
	double total = 0;
	for (size_t i = 0; i < n; i += BLOCK) {
		int len = n - i < BLOCK ? (int)(n - i) : BLOCK;
		vd sums = {0};
		for (int j = 0; j < len; j += VL) {
			vd v = __builtin_convertvector(load_n(x + i + j, len - j), vd);
			sums += v * v;
		}
		double sum = 0;
		for (int l = 0; l < VL; l++)
			sum += sums[l];
		total += sum;
	}
	return total;
}
