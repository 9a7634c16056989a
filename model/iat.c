#include "model/iat.h"

#include <math.h>

/* 100·2^(j/8) in units of 2^−40 ns: one octave of step borders. The others are these, shifted, so that every
 * border is the same integer on every machine. */
static const uint64_t octave[8] = {
        109951162777600u,
        119902593224509u,
        130754705077944u,
        142589016969863u,
        155494425598774u,
        169567873501805u,
        184915077265323u,
        201651321644228u,
};
#define FRACTION_BITS 40u
/* 50·2^(1/16): below this a gap is nearer to "none" than to the first step. */
#define FIRST_NS 53u

/* Smallest whole ns >= 100·2^(k/8), k <= 255. */
static uint64_t border(unsigned k)
{
	unsigned shift = FRACTION_BITS - k / 8;
	return (octave[k % 8] + (UINT64_C(1) << shift) - 1) >> shift;
}

unsigned nssm_iat_step(uint64_t gap_ns)
{
	if (gap_ns < FIRST_NS)
		return 0;
	unsigned lo = 1, hi = NSSM_IAT_STEPS - 1; /* border(lo - 1) <= gap, or lo is 1 */
	while (lo < hi) {
		unsigned mid = (lo + hi + 1) / 2;
		if (border(mid - 1) <= gap_ns)
			lo = mid;
		else
			hi = mid - 1;
	}
	return lo;
}

void nssm_iat_range(unsigned step, uint64_t *lo_ns, uint64_t *hi_ns)
{
	step = step < NSSM_IAT_STEPS ? step : NSSM_IAT_STEPS - 1;
	*lo_ns = step == 0 ? 0 : border(step - 1);
	*hi_ns = step == 0 ? 1 : border(step);
}

uint64_t nssm_iat_dither(unsigned step, struct nssm_rng *rng)
{
	uint64_t lo, hi;
	nssm_iat_range(step, &lo, &hi);
	if (lo == 0)
		return 0;
	uint64_t gap = (uint64_t)((double)lo * exp2(nssm_rng_unit(rng) * log2((double)hi / (double)lo)));
	return gap < lo ? lo : gap >= hi ? hi - 1 : gap;
}

void nssm_iat_add(struct nssm_iat_hist *h, uint64_t gap_ns)
{
	h->count[nssm_iat_step(gap_ns)]++;
	h->n++;
}

uint64_t nssm_iat_draw(const struct nssm_iat_hist *h, struct nssm_rng *rng)
{
	if (h->n == 0)
		return 1000000;
	uint64_t left = (uint64_t)(nssm_rng_unit(rng) * (double)h->n);
	unsigned step = 0;
	for (unsigned k = 0; k < NSSM_IAT_STEPS; k++) {
		if (h->count[k] == 0)
			continue;
		step = k;
		if (left < h->count[k])
			break;
		left -= h->count[k];
	}
	return nssm_iat_dither(step, rng);
}
