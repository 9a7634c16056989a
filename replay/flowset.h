/* flowset — counts different flows without keeping them: a growing table of 64-bit keyed hashes of (session, flow).
 * Two flows of one hash count as one: among n of them by chance n^2 / 2^65 (10^7: 3 in 10^6). The key is random, so that no
 * capture can be made whose flows all fall together; the count does not depend on it.
 * Checked: tests/test_ingest.c                                                                                         */
#ifndef NSSM_FLOWSET_H
#define NSSM_FLOWSET_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/packet.h"

/* All zeros: an empty set. */
struct nssm_flow_set {
	uint64_t *slot; /* 0: free */
	size_t n, cap;
	uint64_t key[2];
};

/* 1: not seen before, 0: seen, < 0: no memory. */
int nssm_flow_set_add(struct nssm_flow_set *s, uint32_t session, const struct nssm_flow_key *flow, struct nssm_err *err);
/* Forgets all flows; a table far too large for what it held is freed, so that clearing often costs little. */
void nssm_flow_set_clear(struct nssm_flow_set *s);
void nssm_flow_set_free(struct nssm_flow_set *s);

#endif
