#include "replay/hist.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define LAST     (NSSM_HIST_BUCKETS - 1)
#define SUB_BITS 5

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void store(uint64_t *p, uint64_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static uint64_t add_sat(uint64_t a, uint64_t b)
{
	uint64_t sum;
	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

uint32_t nssm_hist_bucket(uint64_t ns)
{
	/* With 32 or'ed in, the values below it go the way of the first octave, whose step is 1 as well. */
	uint32_t shift = 63u - (uint32_t)__builtin_clzll(ns | NSSM_HIST_SUB) - SUB_BITS;
	uint64_t b = NSSM_HIST_SUB * shift + (ns >> shift);
	return b < LAST ? (uint32_t)b : LAST;
}

uint64_t nssm_hist_floor(uint32_t bucket)
{
	assert(bucket < NSSM_HIST_BUCKETS);
	if (bucket < 2 * NSSM_HIST_SUB)
		return bucket;
	return (uint64_t)(NSSM_HIST_SUB + bucket % NSSM_HIST_SUB) << (bucket / NSSM_HIST_SUB - 1);
}

void nssm_hist_clear(struct nssm_hist *h)
{
	memset(h, 0, sizeof *h);
}

void nssm_hist_add(struct nssm_hist *h, uint64_t ns)
{
	uint64_t *b = &h->bucket[nssm_hist_bucket(ns)];
	store(b, *b + 1);
	store(&h->sum_ns, add_sat(h->sum_ns, ns));
	if (ns > h->max_ns)
		store(&h->max_ns, ns);
	if (ns < h->min_ns || h->count == 0)
		store(&h->min_ns, ns);
	store(&h->count, h->count + 1);
}

void nssm_hist_merge(struct nssm_hist *into, const struct nssm_hist *from)
{
	uint64_t n = 0, min = load(&from->min_ns), max = load(&from->max_ns);
	for (uint32_t i = 0; i < NSSM_HIST_BUCKETS; i++) {
		uint64_t k = load(&from->bucket[i]);
		into->bucket[i] += k;
		n += k;
	}
	if (n == 0)
		return;
	if (into->count == 0 || min < into->min_ns)
		into->min_ns = min;
	if (max > into->max_ns)
		into->max_ns = max;
	into->count += n;
	into->sum_ns = add_sat(into->sum_ns, load(&from->sum_ns));
}

void nssm_hist_since(struct nssm_hist *out, const struct nssm_hist *now, const struct nssm_hist *before)
{
	uint64_t n = 0, sum = load(&now->sum_ns), min = load(&now->min_ns), max = load(&now->max_ns);
	bool new_max = before->count == 0 || max > before->max_ns;
	bool new_min = before->count == 0 || min < before->min_ns;
	uint32_t lo = LAST, hi = 0;
	sum -= before->sum_ns;
	for (uint32_t i = 0; i < NSSM_HIST_BUCKETS; i++) {
		uint64_t k = load(&now->bucket[i]) - before->bucket[i];
		out->bucket[i] = k;
		n += k;
		if (k > 0) {
			lo = i < lo ? i : lo;
			hi = i;
		}
	}
	out->count = n;
	out->sum_ns = n > 0 ? sum : 0;
	out->min_ns = out->max_ns = 0;
	if (n == 0)
		return;
	uint64_t floor = nssm_hist_floor(lo), ceil = hi < LAST ? nssm_hist_floor(hi + 1) - 1 : max;
	out->min_ns = new_min || floor < min ? min : floor;
	out->max_ns = new_max || ceil > max ? max : ceil;
}

uint64_t nssm_hist_quantile(const struct nssm_hist *h, double q)
{
	assert(q >= 0 && q <= 1);
	uint64_t n = 0, seen = 0, min = load(&h->min_ns), max = load(&h->max_ns);
	for (uint32_t i = 0; i < NSSM_HIST_BUCKETS; i++)
		n += load(&h->bucket[i]);
	double rank = ceil(q * (double)n);
	if (n == 0)
		return 0;
	if (rank < 1 || q == 0)
		return min;
	for (uint32_t i = 0; i < LAST && q < 1; i++) {
		seen += load(&h->bucket[i]);
		if ((double)seen >= rank) {
			uint64_t lo = nssm_hist_floor(i), mid = lo + (nssm_hist_floor(i + 1) - lo - 1) / 2;
			return mid < min ? min : mid > max ? max : mid;
		}
	}
	return max;
}

double nssm_hist_mean(const struct nssm_hist *h)
{
	uint64_t n = load(&h->count);
	return n > 0 ? (double)load(&h->sum_ns) / (double)n : 0;
}
