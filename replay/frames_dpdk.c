#include "replay/port.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <rte_errno.h>
#include <rte_mbuf.h>

/* Frames that a thread keeps at hand, of each size. */
#define CACHE_SMALL 256
#define CACHE_LARGE 32

/* Of the larger size there is an eighth as many, at least this many, and of the largest no more. */
#define N_LARGE_MIN 256
#define LARGE_BIG   16384

struct nssm_frames {
	struct rte_mempool *small, *large; /* large: NULL if frame_max is small */
	_Atomic(struct rte_mempool *) more; /* small ones, too; NULL until nssm_frames_more */
	uint32_t frame_max;
};

static struct rte_mempool *new_pool(uint32_t n, uint32_t cache, uint32_t bytes)
{
	static atomic_uint serial;
	char name[RTE_MEMPOOL_NAMESIZE];
	snprintf(name, sizeof name, "netssm_frames%u", atomic_fetch_add(&serial, 1));
	while (cache > 0 && cache * 3 / 2 > n)
		cache /= 2;
	return rte_pktmbuf_pool_create(
	        name, n, cache, 0, (uint16_t)(RTE_PKTMBUF_HEADROOM + bytes), SOCKET_ID_ANY);
}

int nssm_frames_open(struct nssm_frames **out, uint32_t n, uint32_t frame_max, struct nssm_err *err)
{
	if (!nssm_eal_running())
		return nssm_err_set(err, NSSM_EARG, "frames: DPDK was not started");
	if (n < NSSM_BURST || frame_max > UINT16_MAX - RTE_PKTMBUF_HEADROOM)
		return nssm_err_set(err, NSSM_ERANGE,
		        "frames: %u of up to %u bytes; at least %d, of up to %u", n, frame_max, NSSM_BURST,
		        UINT16_MAX - RTE_PKTMBUF_HEADROOM);
	struct nssm_frames *f = calloc(1, sizeof *f);
	if (f == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "frames: no memory");
	f->frame_max = frame_max;
	f->small = new_pool(n, CACHE_SMALL, NSSM_FRAME_SMALL);
	if (f->small == NULL)
		goto fail;
	if (frame_max > NSSM_FRAME_SMALL) {
		n = frame_max > LARGE_BIG || n / 8 < N_LARGE_MIN ? N_LARGE_MIN : n / 8;
		f->large = new_pool(n, CACHE_LARGE, frame_max);
		if (f->large == NULL)
			goto fail;
	}
	*out = f;
	return 0;
fail:
	nssm_err_set(err, NSSM_ENOMEM, "frames: DPDK has no memory for %u of them, up to %u bytes each (%s)",
	        n, f->small == NULL ? NSSM_FRAME_SMALL : frame_max, rte_strerror(rte_errno));
	nssm_frames_close(&f);
	return NSSM_ENOMEM;
}

int nssm_frames_more(struct nssm_frames *f, uint32_t n, struct nssm_err *err)
{
	assert(atomic_load(&f->more) == NULL);
	struct rte_mempool *pool = new_pool(n, CACHE_SMALL, NSSM_FRAME_SMALL);
	if (pool == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "frames: DPDK has no memory for %u more of them, up to %u bytes each (%s)", n,
		        NSSM_FRAME_SMALL, rte_strerror(rte_errno));
	atomic_store(&f->more, pool);
	return 0;
}

static void free_pool(struct rte_mempool *pool)
{
	if (pool != NULL && rte_mempool_full(pool))
		rte_mempool_free(pool);
}

void nssm_frames_close(struct nssm_frames **f)
{
	if (*f == NULL)
		return;
	free_pool((*f)->small);
	free_pool((*f)->large);
	free_pool((*f)->more);
	free(*f);
	*f = NULL;
}

/* A frame that a pool gives has one reference and one segment (rte_mbuf_raw_alloc says so); the fields that sending looks at are all in
 * its first cache line, and with no flags set it looks at no more. */
static inline void hand_out(struct rte_mbuf *m, uint8_t **data, uint32_t len)
{
	m->data_off = RTE_PKTMBUF_HEADROOM;
	m->ol_flags = 0;
	m->data_len = (uint16_t)len;
	m->pkt_len = len;
	*data = rte_pktmbuf_mtod(m, uint8_t *);
}

static inline bool get_small(struct nssm_frames *f, void **m, uint32_t n)
{
	if (likely(rte_mempool_get_bulk(f->small, m, n) == 0))
		return true;
	struct rte_mempool *more = atomic_load_explicit(&f->more, memory_order_acquire);
	return more != NULL && rte_mempool_get_bulk(more, m, n) == 0;
}

static bool get_mixed(struct nssm_frames *f, void **m, uint8_t **data, const uint32_t *len, uint32_t n)
{
	void *small[NSSM_BURST], *large[NSSM_BURST];
	uint32_t n_large = 0;
	for (uint32_t i = 0; i < n; i++) {
		assert(len[i] <= f->frame_max);
		n_large += len[i] > NSSM_FRAME_SMALL;
	}
	if (rte_mempool_get_bulk(f->large, large, n_large) != 0)
		return false;
	if (n > n_large && !get_small(f, small, n - n_large)) {
		rte_mempool_put_bulk(f->large, large, n_large);
		return false;
	}
	void **s = small, **l = large;
	for (uint32_t i = 0; i < n; i++) {
		m[i] = len[i] > NSSM_FRAME_SMALL ? *l++ : *s++;
		hand_out(m[i], &data[i], len[i]);
	}
	return true;
}

bool nssm_frames_get(struct nssm_frames *f, void **m, uint8_t **data, const uint32_t *len, uint32_t n)
{
	uint32_t longest = 0;
	assert(n <= NSSM_BURST);
	for (uint32_t i = 0; i < n; i++)
		longest = len[i] > longest ? len[i] : longest;
	if (longest > NSSM_FRAME_SMALL)
		return get_mixed(f, m, data, len, n);
	if (n == 0)
		return true;
	if (!get_small(f, m, n))
		return false;
	for (uint32_t i = 0; i < n; i++)
		hand_out(m[i], &data[i], len[i]);
	return true;
}

void nssm_frames_put(struct nssm_frames *f, void **m, uint32_t n)
{
	(void)f; /* a frame knows its pool */
	rte_pktmbuf_free_bulk((struct rte_mbuf **)m, n);
}

void nssm_frame_set_len(void *m, uint32_t len)
{
	struct rte_mbuf *b = m;
	assert(len <= rte_pktmbuf_tailroom(b) + b->data_len);
	b->data_len = (uint16_t)len;
	b->pkt_len = len;
}
