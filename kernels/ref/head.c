#include "kernels/ref/ref.h"

#include <assert.h>
#include <math.h>

#define BLOCK 4096 /* of sumsq */

void nssm_ref_xent(
        float *loss, float *logits, size_t ldl, const int32_t *target, float scale, int R, int V, int Vpad)
{
	for (int r = 0; r < R; r++, logits += ldl) {
		bool scored = target[r] >= 0;
		assert(target[r] < V);
		float max = logits[0];
		for (int v = 1; v < V; v++)
			max = logits[v] > max ? logits[v] : max;
		double sum = 0;
		for (int v = 0; v < V; v++)
			sum += expf(logits[v] - max);
		loss[r] = scored ? (float)(log(sum) + max - logits[target[r]]) : 0;
		if (scale == 0)
			continue;
		for (int v = 0; v < V; v++)
			logits[v] =
			        scored ? (float)(expf(logits[v] - max) / sum - (v == target[r])) * scale : 0;
		for (int v = V; v < Vpad; v++)
			logits[v] = 0;
	}
}

void nssm_ref_adamw(float *p, float *m, float *v, const float *grad, float gscale, float lr, float b1,
        float b2, float eps, float wd, float c1, float c2, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float g = grad[i] * gscale;
		m[i] = b1 * m[i] + (1 - b1) * g;
		v[i] = b2 * v[i] + (1 - b2) * g * g;
		p[i] -= lr * (m[i] / c1 / (sqrtf(v[i] / c2) + eps) + wd * p[i]);
	}
}

double nssm_ref_sumsq(const float *x, size_t n)
{
	double total = 0;
	for (size_t i = 0; i < n; i += BLOCK) {
		size_t end = n - i < BLOCK ? n : i + BLOCK;
		double sum = 0;
		for (size_t j = i; j < end; j++)
			sum += (double)x[j] * x[j];
		total += sum;
	}
	return total;
}
