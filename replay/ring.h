/* ring — one producer, one consumer, no lock: DPDK's rte_ring in memory of our own, so that it works without EAL.
 * Every pointer put in comes out once, in order. Neither call waits.                                                     */
#ifndef NSSM_RING_H
#define NSSM_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct nssm_ring;
/* n: at least this many pointers fit. */
int nssm_ring_open(struct nssm_ring **r, uint32_t n, struct nssm_err *err);
void nssm_ring_close(struct nssm_ring **r);
bool nssm_ring_put(struct nssm_ring *r, void *p); /* false: full */
void *nssm_ring_get(struct nssm_ring *r);         /* NULL: empty */
uint32_t nssm_ring_count(const struct nssm_ring *r);
uint32_t nssm_ring_size(const struct nssm_ring *r);

#endif
