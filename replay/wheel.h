/* wheel — which of many cursors is due next: a hierarchical timing wheel. O(1) to insert; what comes out is in the total order
 * (due, tie), exactly, not only to the width of a tick.
 * Layout : cursors are numbers below n_max; their due and tie stand in arrays of the wheel. Slots of ticks (2^10 ns) in levels of
 *          256; a slot is a list of cache-line blocks of numbers, so that emptying one is no chain of cache misses. The slot
 *          that has come due is gathered, sorted and given out one by one.
 * Memory : all at open; nothing afterwards.
 * Checked: tests/test_wheel.c (against a sorted list, random and adversarial)                                               */
#ifndef NSSM_WHEEL_H
#define NSSM_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct nssm_wheel;
int nssm_wheel_open(struct nssm_wheel **w, uint32_t n_max, struct nssm_err *err);
void nssm_wheel_close(struct nssm_wheel **w);
/* id is not in the wheel. A due before the one given out last is allowed: it comes out next, ordered by (due, tie) among those. */
void nssm_wheel_add(struct nssm_wheel *w, uint32_t id, uint64_t due_ns, uint64_t tie);
/* The first one, left where it is; false: empty. */
bool nssm_wheel_peek(struct nssm_wheel *w, uint32_t *id, uint64_t *due_ns);
/* Takes out what peek showed. */
void nssm_wheel_pop(struct nssm_wheel *w);
/* Up to n of those that come after the first, for prefetching; returns how many are known without emptying another slot. */
uint32_t nssm_wheel_ahead(const struct nssm_wheel *w, uint32_t *ids, uint32_t n);
uint32_t nssm_wheel_count(const struct nssm_wheel *w);

#endif
