/* iat — inter-arrival times on a log scale: one byte, 8 steps an octave from 100 ns.
 * Step   : 0 stands for 0 ns; step k >= 1 covers [100·2^((k−1)/8), 100·2^(k/8)) ns. Gaps below the first step go where they are
 *          nearer: under 50·2^(1/16) = 52.2 ns to 0, else to 1. From 361 s on it is step 255; gaps above its end (394 s) are
 *          clipped to it and counted by the caller.
 * Use    : per-label histograms for the `raw` codec, which has no time; the `flow` codec's time byte.
 * Checked: tests/test_iat.c                                                                                */
#ifndef NSSM_IAT_H
#define NSSM_IAT_H

#include <stdint.h>

#include "base/philox.h"

#define NSSM_IAT_STEPS 256

/* The step of a gap. */
unsigned nssm_iat_step(uint64_t gap_ns);
/* [lo, hi) in ns of a step; lo of step 0 is 0, hi 1. */
void nssm_iat_range(unsigned step, uint64_t *lo_ns, uint64_t *hi_ns);
/* A gap drawn inside the step, log-uniformly. */
uint64_t nssm_iat_dither(unsigned step, struct nssm_rng *rng);

struct nssm_iat_hist {
	uint64_t n; /* sum of count */
	uint64_t count[NSSM_IAT_STEPS];
};
void nssm_iat_add(struct nssm_iat_hist *h, uint64_t gap_ns);
/* A gap drawn from the histogram; 1 ms if it is empty. */
uint64_t nssm_iat_draw(const struct nssm_iat_hist *h, struct nssm_rng *rng);

#endif
