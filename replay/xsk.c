#include "replay/xsk.h"

#include <assert.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/measure.h"

#ifndef SOL_XDP
#define SOL_XDP 283
#endif

/* Of a queue: frames that wait to be received or sent, each in a chunk of its own. */
#define N_RING   2048u
#define N_CHUNKS (2 * N_RING)

/* How long a burst may take to wake the kernel. */
#define KICK_NS 2000000u
#define KICKS   64

/* One of a socket's four rings, shared with the kernel: whoever produces writes the one index, the consumer the other. */
struct ring {
	_Atomic uint32_t *producer, *consumer;
	const _Atomic uint32_t *flags;
	void *desc;
	void *map;
	size_t map_bytes;
};

struct queue {
	int fd;
	uint8_t *mem; /* N_CHUNKS chunks */
	struct ring fill, done, rx, tx;
	uint32_t n_free, n_shown;
	bool stuck;            /* the last burst could not go */
	uint64_t free[N_RING]; /* chunks for sending */
	uint64_t shown[NSSM_NETIF_BURST];
	atomic_ulong lost;
};

struct nssm_xsk {
	struct nssm_netif netif;
	int ask; /* a socket to ask after the link with; AF_XDP's cannot */
	int promisc, map, prog, link;
	uint32_t chunk, n_queues;
	struct queue queue[];
};

static int sys_error(struct nssm_err *err, const struct nssm_netif *i, const char *what)
{
	int e = errno;
	return nssm_err_set(err, NSSM_EIO, "port af_xdp:%s: %s: %s%s", i->name, what, strerror(e),
	        e == EPERM || e == EACCES ? " (it needs root, or CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF)"
	                                  : "");
}

/* --- the program on the interface --- */

static int bpf(enum bpf_cmd cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof *attr);
}

/* return bpf_redirect_map(&map, ctx->rx_queue_index, XDP_PASS): to the socket in the map's entry, or on to the kernel. */
static int load_program(struct nssm_xsk *x, struct nssm_err *err)
{
	union bpf_attr map = {
	        .map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = x->n_queues};
	x->map = bpf(BPF_MAP_CREATE, &map);
	if (x->map < 0)
		return sys_error(err, &x->netif, "a map of sockets");
	const struct bpf_insn code[] = {
	        /* r2 = ctx->rx_queue_index */
	        {.code = BPF_LDX | BPF_MEM | BPF_W,
	                .dst_reg = BPF_REG_2,
	                .src_reg = BPF_REG_1,
	                .off = offsetof(struct xdp_md, rx_queue_index)},
	        /* r1 = map, in two halves */
	        {.code = BPF_LD | BPF_IMM | BPF_DW,
	                .dst_reg = BPF_REG_1,
	                .src_reg = BPF_PSEUDO_MAP_FD,
	                .imm = x->map},
	        {.code = 0},
	        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = XDP_PASS},
	        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
	        {.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr prog = {.prog_type = BPF_PROG_TYPE_XDP,
	        .insns = (uintptr_t)code,
	        .insn_cnt = sizeof code / sizeof code[0],
	        .license = (uintptr_t) "BSD"};
	x->prog = bpf(BPF_PROG_LOAD, &prog);
	return x->prog >= 0 ? 0 : sys_error(err, &x->netif, "loading an XDP program");
}

/* By a link, that the kernel takes off with its last descriptor. In the driver where that can; else (SKB mode) behind it. */
static int attach_program(struct nssm_xsk *x, struct nssm_err *err)
{
	union bpf_attr link = {.link_create = {.prog_fd = (uint32_t)x->prog,
	                               .target_ifindex = (uint32_t)x->netif.index,
	                               .attach_type = BPF_XDP,
	                               .flags = XDP_FLAGS_DRV_MODE}};
	x->link = bpf(BPF_LINK_CREATE, &link);
	if (x->link < 0 && errno != EBUSY && errno != EEXIST) {
		link.link_create.flags = XDP_FLAGS_SKB_MODE;
		x->link = bpf(BPF_LINK_CREATE, &link);
	}
	if (x->link >= 0)
		return 0;
	if (errno == EBUSY || errno == EEXIST)
		return nssm_err_set(err, NSSM_EIO,
		        "port af_xdp:%s: there is an XDP program on it already: ip link set dev %s xdp off",
		        x->netif.name, x->netif.name);
	return sys_error(err, &x->netif, "attaching an XDP program");
}

/* --- a queue's socket --- */

static int map_ring(const struct nssm_xsk *x, struct queue *q, struct ring *r,
        const struct xdp_ring_offset *o, size_t desc_bytes, off_t at, struct nssm_err *err)
{
	r->map_bytes = o->desc + N_RING * desc_bytes;
	void *map = mmap(NULL, r->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, q->fd, at);
	if (map == MAP_FAILED)
		return sys_error(err, &x->netif, "mapping a ring");
	r->map = map;
	r->producer = (void *)((uint8_t *)map + o->producer);
	r->consumer = (void *)((uint8_t *)map + o->consumer);
	r->flags = (void *)((uint8_t *)map + o->flags);
	r->desc = (uint8_t *)map + o->desc;
	return 0;
}

static int map_rings(const struct nssm_xsk *x, struct queue *q, struct nssm_err *err)
{
	struct xdp_mmap_offsets o;
	socklen_t len = sizeof o;
	memset(&o, 0, sizeof o);
	if (getsockopt(q->fd, SOL_XDP, XDP_MMAP_OFFSETS, &o, &len) != 0)
		return sys_error(err, &x->netif, "XDP_MMAP_OFFSETS");
	int rc = map_ring(x, q, &q->rx, &o.rx, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING, err);
	if (rc == 0)
		rc = map_ring(x, q, &q->tx, &o.tx, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING, err);
	if (rc == 0)
		rc = map_ring(x, q, &q->fill, &o.fr, sizeof(uint64_t), (off_t)XDP_UMEM_PGOFF_FILL_RING, err);
	if (rc == 0)
		rc = map_ring(
		        x, q, &q->done, &o.cr, sizeof(uint64_t), (off_t)XDP_UMEM_PGOFF_COMPLETION_RING, err);
	return rc;
}

static int share_memory(const struct nssm_xsk *x, struct queue *q, struct nssm_err *err)
{
	static const int OPTIONS[] = {XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING, XDP_TX_RING};
	const uint32_t n = N_RING;
	const size_t bytes = (size_t)N_CHUNKS * x->chunk;
	void *mem =
	        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (mem == MAP_FAILED)
		return sys_error(err, &x->netif, "memory for frames");
	q->mem = mem;
	const struct xdp_umem_reg reg = {.addr = (uintptr_t)mem, .len = bytes, .chunk_size = x->chunk};
	if (setsockopt(q->fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg) != 0)
		return sys_error(err, &x->netif, "sharing memory with the kernel (ulimit -l?)");
	for (size_t i = 0; i < sizeof OPTIONS / sizeof OPTIONS[0]; i++)
		if (setsockopt(q->fd, SOL_XDP, OPTIONS[i], &n, sizeof n) != 0)
			return sys_error(err, &x->netif, "a ring");
	return map_rings(x, q, err);
}

/* A socket that was closed keeps its queue until the kernel has tidied up behind it: a moment. */
static int bind_queue(const struct queue *q, const struct sockaddr_xdp *to)
{
	const struct timespec wait = {.tv_nsec = 10000000};
	int rc = bind(q->fd, (const struct sockaddr *)to, sizeof *to);
	for (int i = 0; i < 100 && rc != 0 && errno == EBUSY; i++) {
		nanosleep(&wait, NULL);
		rc = bind(q->fd, (const struct sockaddr *)to, sizeof *to);
	}
	return rc;
}

static int open_queue(struct nssm_xsk *x, uint32_t idx, struct nssm_err *err)
{
	struct queue *q = &x->queue[idx];
	/* The kernel takes zero-copy where the driver has it. */
	const struct sockaddr_xdp to = {.sxdp_family = AF_XDP,
	        .sxdp_flags = XDP_USE_NEED_WAKEUP,
	        .sxdp_ifindex = (uint32_t)x->netif.index,
	        .sxdp_queue_id = idx};
	q->fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (q->fd < 0)
		return sys_error(err, &x->netif, "socket");
	int rc = share_memory(x, q, err);
	if (rc != 0)
		return rc;
	uint64_t *fill = q->fill.desc;
	for (uint32_t i = 0; i < N_RING; i++) {
		fill[i] = (uint64_t)i * x->chunk;
		q->free[i] = (uint64_t)(N_RING + i) * x->chunk;
	}
	q->n_free = N_RING;
	atomic_store_explicit(q->fill.producer, N_RING, memory_order_release);
	if (bind_queue(q, &to) != 0)
		return sys_error(err, &x->netif,
		        errno == EBUSY ? "bind, another AF_XDP socket has this queue" : "bind");
	union bpf_attr entry = {.map_fd = (uint32_t)x->map,
	        .key = (uintptr_t)&idx,
	        .value = (uintptr_t)&q->fd,
	        .flags = BPF_ANY};
	return bpf(BPF_MAP_UPDATE_ELEM, &entry) == 0
	               ? 0
	               : sys_error(err, &x->netif, "entering a socket in the map");
}

int nssm_xsk_open(struct nssm_xsk **out, const struct nssm_netif *i, uint32_t n_queues, bool promiscuous,
        struct nssm_err *err)
{
	assert(n_queues >= 1);
	if (n_queues > i->n_queues)
		return nssm_err_set(err, NSSM_EUNSUP,
		        "port af_xdp:%s: %u queues are wanted, the interface has %u (ethtool -L %s combined "
		        "%u)",
		        i->name, n_queues, i->n_queues, i->name, n_queues);
	if (i->mtu > NSSM_XSK_MTU_MAX)
		return nssm_err_set(err, NSSM_EUNSUP,
		        "port af_xdp:%s: its MTU of %u is more than %d: ip link set dev %s mtu %d, or use "
		        "af_packet:%s",
		        i->name, i->mtu, NSSM_XSK_MTU_MAX, i->name, NSSM_XSK_MTU_MAX, i->name);
	struct nssm_xsk *x = calloc(1, sizeof *x + n_queues * sizeof x->queue[0]);
	if (x == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "port af_xdp:%s: no memory", i->name);
	x->netif = *i;
	x->n_queues = n_queues;
	x->chunk = i->mtu + NSSM_NETIF_OVERHEAD + XDP_PACKET_HEADROOM <= 2048 ? 2048 : 4096;
	x->ask = x->promisc = x->map = x->prog = x->link = -1;
	for (uint32_t q = 0; q < n_queues; q++)
		x->queue[q].fd = -1;
	x->ask = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc = x->ask < 0 ? sys_error(err, i, "socket") : load_program(x, err);
	if (rc == 0)
		rc = attach_program(x, err);
	for (uint32_t q = 0; q < n_queues && rc == 0; q++)
		rc = open_queue(x, q, err);
	if (rc == 0 && promiscuous) {
		x->promisc = nssm_netif_promiscuous(i->index);
		if (x->promisc < 0)
			rc = sys_error(err, i, "promiscuous mode");
	}
	if (rc != 0)
		nssm_xsk_close(&x);
	else
		*out = x;
	return rc;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void nssm_xsk_close(struct nssm_xsk **xsk)
{
	struct nssm_xsk *x = *xsk;
	if (x == NULL)
		return;
	/* First, so that nothing is on its way to a socket any more. */
	close_fd(x->link);
	for (uint32_t i = 0; i < x->n_queues; i++) {
		struct queue *q = &x->queue[i];
		const struct ring *rings[] = {&q->fill, &q->done, &q->rx, &q->tx};
		close_fd(q->fd);
		for (size_t r = 0; r < 4; r++)
			if (rings[r]->map != NULL)
				munmap(rings[r]->map, rings[r]->map_bytes);
		if (q->mem != NULL)
			munmap(q->mem, (size_t)N_CHUNKS * x->chunk);
	}
	close_fd(x->prog);
	close_fd(x->map);
	close_fd(x->promisc);
	close_fd(x->ask);
	free(x);
	*xsk = NULL;
}

bool nssm_xsk_up(const struct nssm_xsk *x)
{
	return nssm_netif_up(x->ask, x->netif.index);
}

/* --- sending --- */

/* Takes back the chunks of what was sent. */
static void reclaim(struct queue *q)
{
	const uint64_t *desc = q->done.desc;
	uint32_t at = atomic_load_explicit(q->done.consumer, memory_order_relaxed);
	uint32_t end = atomic_load_explicit(q->done.producer, memory_order_acquire);
	while (at != end && q->n_free < N_RING)
		q->free[q->n_free++] = desc[at++ % N_RING];
	atomic_store_explicit(q->done.consumer, at, memory_order_release);
}

static uint32_t waiting(const struct queue *q)
{
	return atomic_load_explicit(q->tx.producer, memory_order_relaxed) -
	       atomic_load_explicit(q->tx.consumer, memory_order_acquire);
}

/* Without zero-copy, the kernel sends 32 frames or so a call, and stops at one that the device threw away (EBUSY): its queue
 * is full, or it has no carrier. False if the interface is down, without carrier or gone. */
static bool kick(const struct nssm_xsk *x, struct queue *q)
{
	uint64_t end_ns = 0;
	bool threw_away = false;
	for (int i = 0; i < KICKS && waiting(q) > 0; i++) {
		if ((atomic_load_explicit(q->tx.flags, memory_order_relaxed) & XDP_RING_NEED_WAKEUP) == 0)
			break;
		if (sendto(q->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0) {
			if (errno == EBUSY) {
				atomic_fetch_add_explicit(&q->lost, 1, memory_order_relaxed);
				threw_away = true;
			} else if (errno != EAGAIN && errno != EINTR)
				return false; /* ENETDOWN, ENXIO */
		}
		reclaim(q);
		uint64_t now = i > 0 ? nssm_now_ns() : 0;
		if (i == 1)
			end_ns = now + KICK_NS;
		if (i > 1 && now > end_ns)
			break;
	}
	return !threw_away || nssm_xsk_up(x);
}

uint32_t nssm_xsk_tx(
        struct nssm_xsk *x, uint32_t queue, const uint8_t *const *data, const uint32_t *len, uint32_t n)
{
	struct queue *q = &x->queue[queue];
	struct xdp_desc *desc = q->tx.desc;
	assert(n <= NSSM_NETIF_BURST);
	reclaim(q);
	/* Nothing new behind what could not go, so that an interface that is down costs a burst at most. */
	if (q->stuck && (!nssm_xsk_up(x) || !kick(x, q)))
		return 0;
	uint32_t at = atomic_load_explicit(q->tx.producer, memory_order_relaxed);
	uint32_t room = N_RING - waiting(q);
	if (room > q->n_free)
		room = q->n_free;
	if (n > room)
		n = room;
	for (uint32_t i = 0; i < n; i++) {
		assert(len[i] <= x->chunk);
		uint64_t chunk = q->free[--q->n_free];
		memcpy(q->mem + chunk, data[i], len[i]);
		desc[at++ % N_RING] = (struct xdp_desc){.addr = chunk, .len = len[i]};
	}
	atomic_store_explicit(q->tx.producer, at, memory_order_release);
	q->stuck = !kick(x, q);
	return n;
}

/* --- receiving --- */

uint32_t nssm_xsk_rx(struct nssm_xsk *x, uint32_t queue, struct nssm_netif_frame *f, uint32_t n)
{
	struct queue *q = &x->queue[queue];
	const struct xdp_desc *desc = q->rx.desc;
	const uint64_t bytes = (uint64_t)N_CHUNKS * x->chunk;
	uint32_t at = atomic_load_explicit(q->rx.consumer, memory_order_relaxed), got = 0;
	uint32_t end = atomic_load_explicit(q->rx.producer, memory_order_acquire);
	while (at != end && got < n && q->n_shown < NSSM_NETIF_BURST) {
		const struct xdp_desc d = desc[at++ % N_RING];
		q->shown[q->n_shown++] = d.addr & ~(uint64_t)(x->chunk - 1);
		if (d.addr < bytes && d.len <= x->chunk - d.addr % x->chunk && d.len >= ETH_HLEN)
			f[got++] = (struct nssm_netif_frame){.data = q->mem + d.addr, .len = d.len};
	}
	atomic_store_explicit(q->rx.consumer, at, memory_order_release);
	/* A driver that ran out of chunks to fill asks to be told of new ones. */
	if (got == 0 &&
	        (atomic_load_explicit(q->fill.flags, memory_order_relaxed) & XDP_RING_NEED_WAKEUP) != 0)
		recvfrom(q->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
	return got;
}

void nssm_xsk_release(struct nssm_xsk *x, uint32_t queue)
{
	struct queue *q = &x->queue[queue];
	uint64_t *desc = q->fill.desc;
	uint32_t at = atomic_load_explicit(q->fill.producer, memory_order_relaxed);
	/* There are no more chunks for receiving than the ring has entries. */
	while (q->n_shown > 0)
		desc[at++ % N_RING] = q->shown[--q->n_shown];
	atomic_store_explicit(q->fill.producer, at, memory_order_release);
}

void nssm_xsk_stats(struct nssm_netif_stats *s, struct nssm_xsk *x)
{
	bool up = nssm_xsk_up(x);
	*s = (struct nssm_netif_stats){0};
	for (uint32_t i = 0; i < x->n_queues; i++) {
		const struct queue *q = &x->queue[i];
		struct xdp_statistics k;
		socklen_t len = sizeof k;
		memset(&k, 0, sizeof k);
		s->tx_errors += atomic_load_explicit(&q->lost, memory_order_relaxed) + (up ? 0 : waiting(q));
		if (getsockopt(q->fd, SOL_XDP, XDP_STATISTICS, &k, &len) != 0)
			continue;
		s->tx_errors += k.tx_invalid_descs;
		s->rx_errors += k.rx_invalid_descs;
		s->rx_missed += k.rx_dropped + k.rx_ring_full + k.rx_fill_ring_empty_descs;
	}
}
