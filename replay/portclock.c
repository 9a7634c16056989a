#include "replay/portclock.h"

#include <math.h>
#include <string.h>

void nssm_portclock_init(struct nssm_portclock *c)
{
	memset(c, 0, sizeof *c);
}

bool nssm_portclock_sample(struct nssm_portclock *c, uint64_t ns, uint64_t ticks)
{
	unsigned n = atomic_load_explicit(&c->n, memory_order_relaxed);
	const struct nssm_portclock_map *last = &c->map[(n - 1) % 4];
	if (c->first.ns == 0 || ticks < c->first.ticks || (n > 0 && ticks < last->ticks)) {
		c->first = (struct nssm_portclock_map){.ns = ns, .ticks = ticks};
		return n > 0;
	}
	if (ns < c->first.ns + PORTCLOCK_MIN_NS || ticks == c->first.ticks)
		return n > 0;
	c->map[n % 4] = (struct nssm_portclock_map){
	        ns, ticks, (double)(ticks - c->first.ticks) / (double)(ns - c->first.ns)};
	/* n wraps after 13 years of 10 samples a second. */
	atomic_store_explicit(&c->n, n + 1, memory_order_release);
	return true;
}

uint64_t nssm_portclock_ticks(const struct nssm_portclock *c, uint64_t due_ns)
{
	unsigned n = atomic_load_explicit(&c->n, memory_order_acquire);
	const struct nssm_portclock_map *m = &c->map[(n - 1) % 4];
	/* The distance to the last sample is small, so that a double holds it to the tick. */
	double ticks = (double)(int64_t)(due_ns - m->ns) * m->ticks_per_ns;
	return m->ticks + (uint64_t)llrint(ticks);
}
