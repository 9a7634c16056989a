/* sampler — from logits to a token.
 * Order  : codec mask, repetition penalty, temperature, top-k, top-p, min-p, then one uniform number (greedy: none).
 *          Same meaning as Hugging Face transformers' logits processors: the penalty divides positive logits and
 *          multiplies negative ones, once a token; top-p weighs what top-k left. Ties at a threshold are all kept (top-k 2
 *          of {3, 2, 2} keeps three), so a result never depends on the order of a sort.
 * Sums   : in double, in an order that depends on the logits only; the exponential is libm's.
 * Bad in : NaN counts as -infinity, +infinity as FLT_MAX. Legal tokens that are all -infinity: the lowest legal id.
 *          A mask without a legal token is a programmer's error.
 * Source : repetition penalty Keskar et al. 2019; top-p Holtzman et al. 2020; min-p Nguyen et al. 2024.
 * Checked: tests/test_sampler.c (known answers, chi-square against the exact distribution)                        */
#ifndef NSSM_SAMPLER_H
#define NSSM_SAMPLER_H

#include <stdint.h>

#include "base/philox.h"

struct nssm_sampler_cfg {
	float temperature;        /* > 0; 0: greedy (lowest id wins ties) */
	int top_k;                /* 0: off */
	float top_p;              /* 1: off */
	float min_p;              /* 0: off */
	float repetition_penalty; /* 1: off; over the last repetition_window tokens */
	int repetition_window;
};

/* Scratch: V floats. logits [V] are overwritten; afterwards they hold the weights drawn from (greedy: the penalised logits).
 * legal: bit set over V or NULL. recent: the session's last n_recent tokens, oldest first; ids >= V are passed over. */
uint16_t nssm_sample(float *logits, int V, const struct nssm_sampler_cfg *cfg, const uint64_t *legal,
	const uint16_t *recent, int n_recent, struct nssm_rng *rng, float *scratch);

#endif
