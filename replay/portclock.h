/* portclock — a NIC's clock, in ticks of unknown length, beside nssm_now_ns(): when is what, for sending on time stamps.
 * Needs  : samples of both clocks taken at the same moment, the first two at least PORTCLOCK_MIN_NS apart
 * Threads: one that samples; any number that convert (they see the newest whole mapping)
 * Bound  : a sample that comes late by d shifts what is converted by d; the rate is taken over all the time since the first
 *          sample, so that it gets better with every one.
 * Checked: tests/test_dev.c                                                                                                */
#ifndef NSSM_PORTCLOCK_H
#define NSSM_PORTCLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PORTCLOCK_MIN_NS 10000000u

struct nssm_portclock_map {
	uint64_t ns, ticks; /* the same moment */
	double ticks_per_ns;
};
struct nssm_portclock {
	struct nssm_portclock_map first;
	struct nssm_portclock_map map[4];
	atomic_uint n; /* mappings made so far; the newest is map[(n-1)%4] */
};

void nssm_portclock_init(struct nssm_portclock *c);
/* True if conversions can be made from now on. A clock that went back starts anew. */
bool nssm_portclock_sample(struct nssm_portclock *c, uint64_t ns, uint64_t ticks);
/* After a sample returned true. due_ns may lie before or after the samples. */
uint64_t nssm_portclock_ticks(const struct nssm_portclock *c, uint64_t due_ns);

#endif
