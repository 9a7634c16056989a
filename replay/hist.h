/* hist — log-linear histograms of times: 32 buckets an octave up to 2^40 ns (18 min), so that a percentile is at most 3 % off;
 * they add up, over lcores and runs. All zeros is an empty histogram. Plain memory, no allocation.
 * Bucket : v in 0..31 has its own; from 2^5 on, bucket 32*(e-5) + (v >> (e-5)) with e = floor(log2 v); the last one holds 2^40 and
 *          above.
 * Threads: one writer; others may read at any time (all is loaded and stored relaxed) and see counts that are a little old. A
 *          reader's total is the sum of the buckets it saw.
 * Checked: tests/test_hist.c                                                                                               */
#ifndef NSSM_HIST_H
#define NSSM_HIST_H

#include <stdint.h>

#define NSSM_HIST_SUB     32u
#define NSSM_HIST_BUCKETS (1u + 32u + 35u * 32u) /* 32 below 2^5, 35 octaves of 32, and what is above */

struct nssm_hist {
	uint64_t count, sum_ns; /* the sum stops at UINT64_MAX */
	uint64_t min_ns, max_ns; /* 0 if empty */
	uint64_t bucket[NSSM_HIST_BUCKETS];
};
void nssm_hist_clear(struct nssm_hist *h);
void nssm_hist_add(struct nssm_hist *h, uint64_t ns);
/* into is the caller's alone; from may be being written to. */
void nssm_hist_merge(struct nssm_hist *into, const struct nssm_hist *from);
/* What was added since an earlier copy of the same histogram. Its minimum and maximum are exact if they are also the whole's,
 * else the bounds of their buckets. out may be now or before. */
void nssm_hist_since(struct nssm_hist *out, const struct nssm_hist *now, const struct nssm_hist *before);
/* The value at rank ceil(q*count), q in [0,1]: the middle of its bucket, never outside minimum and maximum, which are what q = 0
 * and q = 1 give; 0 if empty. In the last bucket: the maximum. */
uint64_t nssm_hist_quantile(const struct nssm_hist *h, double q);
/* 0 if empty. */
double nssm_hist_mean(const struct nssm_hist *h);
uint32_t nssm_hist_bucket(uint64_t ns);
/* Smallest value of a bucket. */
uint64_t nssm_hist_floor(uint32_t bucket);

#endif
