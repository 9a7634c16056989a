/* hist — log-linear histograms of times: 32 buckets an octave from 1 ns to 2^40 ns (18 min), so that a percentile is at most 3 %
 * off; they add up, over lcores and runs. Zero is a bucket of its own. Plain memory, no allocation; one writer, others may read
 * (relaxed) and see counts that are a little old.
 * Checked: tests/test_hist.c                                                                                               */
#ifndef NSSM_HIST_H
#define NSSM_HIST_H

#include <stdint.h>

#define NSSM_HIST_SUB     32u
#define NSSM_HIST_BUCKETS (1u + 32u + 35u * 32u) /* 0; 1..32 exactly; octaves from 2^5 on; the last holds what is above */

struct nssm_hist {
	uint64_t count, sum_ns, min_ns, max_ns;
	uint64_t bucket[NSSM_HIST_BUCKETS];
};
void nssm_hist_clear(struct nssm_hist *h);
void nssm_hist_add(struct nssm_hist *h, uint64_t ns);
void nssm_hist_merge(struct nssm_hist *into, const struct nssm_hist *from);
/* What was added since an earlier copy. */
void nssm_hist_since(struct nssm_hist *out, const struct nssm_hist *now, const struct nssm_hist *before);
/* q in [0,1]; 0 if empty. The exact maximum for q = 1. */
uint64_t nssm_hist_quantile(const struct nssm_hist *h, double q);
double nssm_hist_mean(const struct nssm_hist *h);
uint32_t nssm_hist_bucket(uint64_t ns);
/* Smallest value of a bucket. */
uint64_t nssm_hist_floor(uint32_t bucket);

#endif
