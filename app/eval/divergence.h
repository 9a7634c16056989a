/* divergence — how far two empirical distributions are apart.
 * tally  : values and how often each was seen.
 * Source : p and q are shares of the two sides, m their mean, F and G the cumulative shares in the order of the values.
 *          JSD        (sum p log2(p/m) + sum q log2(q/m)) / 2       Lin 1991; base 2: 0 where equal, 1 where disjoint
 *          JSD_SQRT   its square root, which is a metric            Endres, Schindelin 2003
 *          TV         sum |p − q| / 2
 *          HELLINGER  sqrt(sum (sqrt p − sqrt q)^2 / 2)
 *          EMD        area between F and G over the range of all values of both sides: 0..1   (1-D Wasserstein distance, normalised)
 *          KS         max |F − G|
 * None   : NSSM_DIV_NONE where both sides are empty, and for EMD and KS of values that have no order. One side empty: 1, as disjoint.
 * Checked: tests/test_eval.c, by hand and against tests/golden/divergence.txt (SciPy)                                           */
#ifndef NSSM_EVAL_DIVERGENCE_H
#define NSSM_EVAL_DIVERGENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum nssm_div { NSSM_DIV_JSD, NSSM_DIV_JSD_SQRT, NSSM_DIV_TV, NSSM_DIV_HELLINGER, NSSM_DIV_EMD, NSSM_DIV_KS, NSSM_N_DIVS };
#define NSSM_DIV_NONE (-1.0)
/* "jsd", "jsd_sqrt", … */
const char *nssm_div_name(enum nssm_div d);

struct nssm_tally_row {
	uint64_t value, n; /* n 0: free */
};
/* All zeros: empty. */
struct nssm_tally {
	struct nssm_tally_row *row; /* a hash table; after sort [0, n_values) in ascending order of value */
	size_t n_values, cap;
	uint64_t total;
	bool sorted;
};
/* n more of this value, n >= 1. NSSM_ENOMEM: nothing changed. Not after sort. */
int nssm_tally_add(struct nssm_tally *t, uint64_t value, uint64_t n);
/* All of from, in whatever state it is. */
int nssm_tally_merge(struct nssm_tally *t, const struct nssm_tally *from);
void nssm_tally_sort(struct nssm_tally *t);
void nssm_tally_free(struct nssm_tally *t);

/* a and b sorted. */
void nssm_diverge(double out[NSSM_N_DIVS], const struct nssm_tally *a, const struct nssm_tally *b, bool is_ordered);
/* Of k values 0 … k−1, seen a[i] and b[i] times. */
void nssm_diverge_counts(double out[NSSM_N_DIVS], const uint64_t *a, const uint64_t *b, int k);

#endif
