#include "model/sampler.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

static bool is_legal(const uint64_t *legal, int i)
{
	return legal == NULL || (legal[i / 64] >> (i % 64) & 1) != 0;
}

/* Illegal tokens and NaN become −inf, +inf the largest float, so that what follows needs no special cases.
 * Returns the lowest legal id. */
static int mask(float *logits, int V, const uint64_t *legal)
{
	int first = -1;
	for (int i = 0; i < V; i++) {
		bool ok = is_legal(legal, i);
		if (ok && first < 0)
			first = i;
		if (!ok || isnan(logits[i]))
			logits[i] = -INFINITY;
		else if (logits[i] > FLT_MAX)
			logits[i] = FLT_MAX;
	}
	assert(first >= 0);
	return first;
}

/* Each token of the window once, however often it was seen: `seen` is what makes that one pass. */
static void penalise(float *logits, int V, const struct nssm_sampler_cfg *cfg, const uint16_t *recent,
        int n_recent, float *seen)
{
	int n = n_recent < cfg->repetition_window ? n_recent : cfg->repetition_window;
	memset(seen, 0, (size_t)V * sizeof *seen);
	for (int k = n_recent - n; k < n_recent; k++) {
		int t = recent[k];
		if (t >= V || seen[t] != 0)
			continue;
		seen[t] = 1;
		float x = logits[t];
		x = x < 0 ? x * cfg->repetition_penalty : x / cfg->repetition_penalty;
		logits[t] = x > FLT_MAX ? FLT_MAX : x;
	}
}

static float median3(float a, float b, float c)
{
	if (a > b) {
		float t = a;
		a = b;
		b = t;
	}
	return c < a ? a : c > b ? b : c;
}

/* The largest t for which the values >= t weigh at least `need`; a value's weight is itself or, by_count, 1.
 * A quickselect: each round splits around a pivot into greater, equal, less and keeps the part where t lies.
 * v is reordered. */
static float threshold(float *v, int n, double need, bool by_count)
{
	double above = 0; /* weight of all values greater than those left */
	float least = INFINITY;
	while (n > 0) {
		float pivot = median3(v[0], v[n / 2], v[n - 1]);
		int gt = 0, lt = n;
		double w_gt = 0, w_eq = 0;
		for (int i = 0; i < lt;) {
			float x = v[i];
			double w = by_count ? 1 : x;
			if (x > pivot) {
				v[i++] = v[gt];
				v[gt++] = x;
				w_gt += w;
			} else if (x < pivot) {
				v[i] = v[--lt];
				v[lt] = x;
			} else {
				i++;
				w_eq += w;
			}
		}
		if (above + w_gt >= need) {
			n = gt;
			continue;
		}
		least = pivot;
		above += w_gt + w_eq;
		if (above >= need)
			break;
		v += lt;
		n -= lt;
	}
	return least;
}

static float keep_top_k(const float *logits, int V, int k, float *scratch)
{
	int n = 0;
	for (int i = 0; i < V; i++)
		if (logits[i] > -INFINITY)
			scratch[n++] = logits[i];
	return k < n ? threshold(scratch, n, k, true) : -INFINITY;
}

/* All values below (1 − top_p)·total/V together weigh less than what may be left out, so the threshold lies above: only the
 * rest is searched, a few of hundreds. The factor covers roundings. */
static float keep_top_p(const float *w, int V, float top_p, float *scratch)
{
	int n = 0;
	double total = 0;
	for (int i = 0; i < V; i++)
		total += w[i];
	float small = (float)(0.999 * (1 - (double)top_p) * total / V);
	for (int i = 0; i < V; i++) {
		scratch[n] = w[i];
		n += w[i] > small;
	}
	return threshold(scratch, n, top_p * total, false);
}

uint16_t nssm_sample(float *logits, int V, const struct nssm_sampler_cfg *cfg, const uint64_t *legal,
        const uint16_t *recent, int n_recent, struct nssm_rng *rng, float *scratch)
{
	assert(V > 0 && V <= 65536);
	assert(cfg->temperature >= 0 && cfg->top_k >= 0 && cfg->top_p > 0 && cfg->min_p >= 0 &&
	        cfg->min_p <= 1);
	int best = mask(logits, V, legal);
	if (cfg->repetition_penalty != 1 && n_recent > 0)
		penalise(logits, V, cfg, recent, n_recent, scratch);
	for (int i = best + 1; i < V; i++)
		if (logits[i] > logits[best])
			best = i;
	float max = logits[best];
	if (cfg->temperature == 0 || max == -INFINITY)
		return (uint16_t)best;

	/* Order by logit and by logit/temperature is the same, so top-k needs no division. */
	float least = cfg->top_k > 0 ? keep_top_k(logits, V, cfg->top_k, scratch) : -INFINITY;
	float *w = logits;
	for (int i = 0; i < V; i++)
		w[i] = logits[i] >= least ? expf((logits[i] - max) / cfg->temperature) : 0;
	/* The likeliest token weighs exactly 1, so min_p is a threshold on the weights as it stands. */
	least = cfg->top_p < 1 ? keep_top_p(w, V, cfg->top_p, scratch) : 0;
	if (least < cfg->min_p)
		least = cfg->min_p;
	double total = 0;
	for (int i = 0; i < V; i++) {
		if (w[i] < least)
			w[i] = 0;
		total += w[i];
	}
	double u = nssm_rng_unit(rng) * total, sum = 0;
	for (int i = 0; i < V; i++) {
		sum += w[i];
		if (u < sum)
			return (uint16_t)i;
	}
	return (uint16_t)best;
}
