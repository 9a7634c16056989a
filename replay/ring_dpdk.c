#include "replay/ring.h"

#include <stdlib.h>

/* Order by C11 atomics instead of barriers: as fast, and checkers of races can follow it. */
#define RTE_USE_C11_MEM_MODEL
#include <rte_ring.h>

/* struct nssm_ring is an rte_ring: the name keeps rte_ring.h out of everybody else's files. */
static struct rte_ring *rte(struct nssm_ring *r)
{
	return (struct rte_ring *)r;
}

int nssm_ring_open(struct nssm_ring **rp, uint32_t n, struct nssm_err *err)
{
	uint32_t size = 2; /* one place stays empty */
	while (size <= n)
		size *= 2;
	size_t bytes = (size_t)rte_ring_get_memsize(size);
	struct rte_ring *r = aligned_alloc(RTE_CACHE_LINE_SIZE, bytes);
	*rp = (struct nssm_ring *)r;
	if (r == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "ring: no memory for %u entries", size);
	if (rte_ring_init(r, "netssm", size, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
		nssm_ring_close(rp);
		return nssm_err_set(err, NSSM_ENOMEM, "ring: %u entries are not possible", size);
	}
	return 0;
}

void nssm_ring_close(struct nssm_ring **rp)
{
	free(*rp);
	*rp = NULL;
}

bool nssm_ring_put(struct nssm_ring *r, void *p)
{
	return rte_ring_sp_enqueue(rte(r), p) == 0;
}

void *nssm_ring_get(struct nssm_ring *r)
{
	void *p;
	return rte_ring_sc_dequeue(rte(r), &p) == 0 ? p : NULL;
}

uint32_t nssm_ring_count(const struct nssm_ring *r)
{
	const struct rte_ring *q = (const struct rte_ring *)r;
	uint32_t in = __atomic_load_n(&q->prod.tail, __ATOMIC_ACQUIRE), out = __atomic_load_n(&q->cons.tail, __ATOMIC_ACQUIRE);
	return (in - out) & q->mask;
}

uint32_t nssm_ring_size(const struct nssm_ring *r)
{
	return rte_ring_get_capacity((const struct rte_ring *)r);
}
