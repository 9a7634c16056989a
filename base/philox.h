/* philox — counter-based random streams; no state is shared, so any thread may own any stream.
 * Source : Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"; Philox4x32-10
 * Stream : key = seed (64 bit); counter = {block (32 bit), purpose (32 bit), session (64 bit)}
 *          so a stream is named by (seed, session, purpose) and gives 2^34 32-bit words.
 * Checked: tests/test_philox.c (known answers of the Random123 distribution)                      */
#ifndef NSSM_BASE_PHILOX_H
#define NSSM_BASE_PHILOX_H

#include <stdint.h>

enum nssm_purpose {
	NSSM_RNG_SAMPLE = 1,  /* which token comes next */
	NSSM_RNG_TIME = 2,    /* inter-arrival times */
	NSSM_RNG_PAYLOAD = 3, /* filled payload bytes */
	NSSM_RNG_CLONE = 4,
	NSSM_RNG_ARRIVAL = 5, /* session start times */
	NSSM_RNG_LABEL = 6,   /* which label a session has */
	NSSM_RNG_INIT = 7,    /* initial weights; session = tensor index */
	NSSM_RNG_ORDER = 8,   /* order of the training sessions; session = epoch */
	NSSM_RNG_CONDITION = 10, /* which conditions training hides; session = epoch << 32 | training session */
	NSSM_RNG_FOREST = 20,   /* a random forest; session = tree */
	NSSM_RNG_SPLIT = 21,    /* which sessions are held out; session = class */
	NSSM_RNG_RESAMPLE = 22, /* bootstrap intervals; session = resample */
	NSSM_RNG_HALVES = 23,   /* which half of a real set a session is in, and how its packets are shuffled; session = label, part */
	NSSM_RNG_IDENTITY = 9, /* initial sequence numbers and timestamps that no token says */
};

struct nssm_rng {
	uint64_t seed, session;
	uint32_t purpose, block;
	uint32_t out[4];
	uint32_t used; /* words of out already given; 4 = empty */
};

void nssm_philox4x32(uint32_t out[4], const uint32_t ctr[4], const uint32_t key[2]);

void nssm_rng_init(struct nssm_rng *r, uint64_t seed, uint64_t session, uint32_t purpose);
uint32_t nssm_rng_u32(struct nssm_rng *r);
/* Uniform in [0, n), n >= 1, without modulo bias. */
uint32_t nssm_rng_below(struct nssm_rng *r, uint32_t n);
/* Uniform in (0, 1): 53 bits, never 0 and never 1. */
double nssm_rng_unit(struct nssm_rng *r);
/* Standard normal, Box-Muller. */
double nssm_rng_normal(struct nssm_rng *r);
void nssm_rng_bytes(struct nssm_rng *r, void *dst, uint32_t n);
/* Bytes off, off + 1, … (modulo 2^32) of a stream's words, little-endian, wherever it stands: it does not move. */
void nssm_rng_bytes_at(const struct nssm_rng *r, uint32_t off, void *dst, uint32_t n);

#endif
