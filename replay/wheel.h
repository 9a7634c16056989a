/* wheel — which of many cursors is due next: a hierarchical timing wheel. O(1) to insert; what comes out is in the total order
 * (due, tie, id), exactly, not only to the width of a tick.
 * Source : Varghese & Lauck 1987, "Hashed and hierarchical timing wheels", scheme 7.
 * Layout : a cursor is an entry of 24 bytes {due, tie, id} that moves; nothing is looked up by id, so no move is a cache miss of
 *          its own. Ticks of 2^9 ns; six levels of 2048 slots whose widths are 2^9, 2^19 .. 2^59 ns. 1024 slots of a level
 *          make one slot of the next, so a level holds the wheel's present stretch and the one after it. A slot is a list of
 *          256-byte blocks of 10 entries from a pool.
 *          Ticks that have come due are gathered, sorted and given out one by one, some 32 entries ahead. What is added in or
 *          before the gathered ticks goes into a 4-ary heap beside them: O(log n) at worst, even if everything is due at 0.
 *          The next stretch's entries move down a few blocks for each ticks' gathering, so no add, peek or pop has a whole
 *          stretch to move unless nearly all that is due lies in it after a silence.
 * Memory : all at open, mapped and touched (huge pages where the system has them); nothing afterwards. Blocks: n entries in at
 *          most S = 5*2048+32 slots, each slot with at most one block that is not full, and one block being emptied:
 *          min(n, S) + (n - min(n, S))/10 + 2. With the gathered entries and the heap 74 bytes a cursor, and up to 2.5 MB.
 * Threads: one.
 * Checked: tests/test_wheel.c (against a sorted model, random and adversarial); timed by tests/bench_wheel.c               */
#ifndef NSSM_WHEEL_H
#define NSSM_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct nssm_wheel;
/* n_max >= 1: cursors at one time, and their ids are below it. */
int nssm_wheel_open(struct nssm_wheel **w, uint32_t n_max, struct nssm_err *err);
void nssm_wheel_close(struct nssm_wheel **w);
/* id is not in the wheel. Any due will do. A due before the one given out last is allowed: it comes out next, ordered by
 * (due, tie) among those. */
void nssm_wheel_add(struct nssm_wheel *w, uint32_t id, uint64_t due_ns, uint64_t tie);
/* The first one, left where it is; false: empty. */
bool nssm_wheel_peek(struct nssm_wheel *w, uint32_t *id, uint64_t *due_ns);
/* Takes the first one out: what peek showed, unless an add since then came before it. Not on an empty wheel. */
void nssm_wheel_pop(struct nssm_wheel *w);
/* Up to n of those that come soon after the first, for prefetching, nearly in their order; returns how many are known without
 * emptying another slot. After a peek. */
uint32_t nssm_wheel_ahead(const struct nssm_wheel *w, uint32_t *ids, uint32_t n);
uint32_t nssm_wheel_count(const struct nssm_wheel *w);

#endif
