/* sampler — from logits to a token.
 * Order  : codec mask, repetition penalty, temperature, top-k, top-p, min-p, then one uniform number.
 *          Same meaning as Hugging Face transformers' logits processors; ties at a threshold are kept.
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

/* Scratch: V floats. logits [V] are overwritten. legal: bit set over V or NULL. recent: the last n_recent tokens. */
uint16_t nssm_sample(float *logits, int V, const struct nssm_sampler_cfg *cfg, const uint64_t *legal,
	const uint16_t *recent, int n_recent, struct nssm_rng *rng, float *scratch);

#endif
