#include "replay/afp.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

/* A queue's receive ring. */
#define RING_BYTES  (8u << 20)
#define BLOCK_BYTES (256u << 10)
#define FRAMES_MAX  4096u

/* What may be on its way out, in the kernel's count (a short frame counts for 768 bytes). */
#define SEND_BYTES (4 << 20)

struct queue {
	int tx, rx;
	struct mmsghdr msg[NSSM_NETIF_BURST];
	struct iovec iov[NSSM_NETIF_BURST];
	uint8_t *ring;
	uint32_t next,
	        shown; /* frames of the ring: the next to be looked at; shown since the last release, before next */
	atomic_ulong too_long;
	uint64_t missed;
};

struct nssm_afp {
	struct nssm_netif netif;
	uint32_t frame_bytes, n_frames; /* of a ring */
	size_t ring_bytes;
	uint32_t n_queues;
	struct queue queue[];
};

/* --- opening --- */

static int sock_error(struct nssm_err *err, const struct nssm_afp *a, const char *what)
{
	int e = errno;
	return nssm_err_set(err, NSSM_EIO, "port af_packet:%s: %s: %s%s", a->netif.name, what, strerror(e),
	        e == EPERM || e == EACCES ? " (it needs root or CAP_NET_RAW)" : "");
}

/* protocol 0: receives nothing. */
static int bind_to(int fd, const struct nssm_afp *a, uint16_t protocol)
{
	struct sockaddr_ll to = {
	        .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = a->netif.index};
	return bind(fd, (const struct sockaddr *)&to, sizeof to);
}

static int open_tx(struct nssm_afp *a, struct queue *q, struct nssm_err *err)
{
	const int yes = 1, bytes = SEND_BYTES;
	q->tx = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (q->tx < 0)
		return sock_error(err, a, "socket");
	if (setsockopt(q->tx, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes) != 0)
		return sock_error(err, a, "PACKET_QDISC_BYPASS");
	/* Beyond the limit for everyone where that is allowed. */
	if (setsockopt(q->tx, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0)
		setsockopt(q->tx, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
	if (bind_to(q->tx, a, 0) != 0)
		return sock_error(err, a, "bind");
	for (uint32_t i = 0; i < NSSM_NETIF_BURST; i++)
		q->msg[i].msg_hdr = (struct msghdr){.msg_iov = &q->iov[i], .msg_iovlen = 1};
	return 0;
}

/* group: of the queues, made by the first of them. */
static int join(struct nssm_afp *a, struct queue *q, int *group, struct nssm_err *err)
{
	uint32_t type = PACKET_FANOUT_HASH;
	socklen_t len = sizeof *group;
	if (q == a->queue)
		type |= PACKET_FANOUT_FLAG_UNIQUEID;
	int arg = (int)((uint32_t)(*group & 0xffff) | type << 16);
	if (setsockopt(q->rx, SOL_PACKET, PACKET_FANOUT, &arg, sizeof arg) != 0 ||
	        getsockopt(q->rx, SOL_PACKET, PACKET_FANOUT, group, &len) != 0)
		return sock_error(err, a, "PACKET_FANOUT");
	return 0;
}

static int open_rx(struct nssm_afp *a, struct queue *q, bool promiscuous, int *group, struct nssm_err *err)
{
	const int version = TPACKET_V2, yes = 1;
	const struct tpacket_req ring = {
	        .tp_block_size = a->frame_bytes > BLOCK_BYTES ? a->frame_bytes : BLOCK_BYTES,
	        .tp_block_nr = (unsigned)(a->ring_bytes / BLOCK_BYTES),
	        .tp_frame_size = a->frame_bytes,
	        .tp_frame_nr = a->n_frames};
	const struct packet_mreq all = {.mr_ifindex = a->netif.index, .mr_type = PACKET_MR_PROMISC};
	q->rx = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (q->rx < 0)
		return sock_error(err, a, "socket");
	if (setsockopt(q->rx, SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0)
		return sock_error(err, a, "PACKET_VERSION");
	/* Linux before 4.20 has no such option; nssm_afp_rx looks too. */
	setsockopt(q->rx, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof yes);
	if (setsockopt(q->rx, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) != 0)
		return sock_error(err, a, "a receive ring");
	void *map = mmap(NULL, a->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, q->rx, 0);
	if (map == MAP_FAILED)
		return sock_error(err, a, "mapping the receive ring");
	q->ring = map;
	if (bind_to(q->rx, a, ETH_P_ALL) != 0)
		return sock_error(err, a, "bind");
	/* Ends with the socket, however this process ends. */
	if (promiscuous && setsockopt(q->rx, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) != 0)
		return sock_error(err, a, "promiscuous mode");
	return a->n_queues > 1 ? join(a, q, group, err) : 0;
}

/* Until it has joined the others each queue sees everything. */
static void forget(struct nssm_afp *a, uint32_t queue)
{
	struct nssm_netif_frame f[NSSM_NETIF_BURST];
	for (uint32_t i = 0; i < a->n_frames && nssm_afp_rx(a, queue, f, NSSM_NETIF_BURST) > 0;
	        i += NSSM_NETIF_BURST)
		nssm_afp_release(a, queue);
	nssm_afp_release(a, queue);
}

int nssm_afp_open(struct nssm_afp **out, const struct nssm_netif *i, uint32_t n_queues, bool promiscuous,
        struct nssm_err *err)
{
	assert(n_queues >= 1);
	struct nssm_afp *a = calloc(1, sizeof *a + n_queues * sizeof a->queue[0]);
	if (a == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "port af_packet:%s: no memory", i->name);
	int rc = 0, group = 0;
	a->netif = *i;
	a->n_queues = n_queues;
	/* The next power of two, so that frames fill their blocks. The kernel keeps 16 bytes before the MAC header at least. */
	a->frame_bytes = 2048;
	while (a->frame_bytes < TPACKET2_HDRLEN + 64 + i->mtu + NSSM_NETIF_OVERHEAD)
		a->frame_bytes *= 2;
	a->n_frames = RING_BYTES / a->frame_bytes < FRAMES_MAX ? RING_BYTES / a->frame_bytes : FRAMES_MAX;
	a->ring_bytes = (size_t)a->n_frames * a->frame_bytes;
	for (uint32_t q = 0; q < n_queues; q++)
		a->queue[q].tx = a->queue[q].rx = -1;
	for (uint32_t q = 0; q < n_queues && rc == 0; q++) {
		rc = open_tx(a, &a->queue[q], err);
		if (rc == 0)
			rc = open_rx(a, &a->queue[q], promiscuous, &group, err);
	}
	for (uint32_t q = 0; q < n_queues && rc == 0; q++)
		forget(a, q);
	if (rc != 0)
		nssm_afp_close(&a);
	else
		*out = a;
	return rc;
}

void nssm_afp_close(struct nssm_afp **a)
{
	if (*a == NULL)
		return;
	for (uint32_t i = 0; i < (*a)->n_queues; i++) {
		struct queue *q = &(*a)->queue[i];
		if (q->ring != NULL)
			munmap(q->ring, (*a)->ring_bytes);
		if (q->rx >= 0)
			close(q->rx);
		if (q->tx >= 0)
			close(q->tx);
	}
	free(*a);
	*a = NULL;
}

bool nssm_afp_up(const struct nssm_afp *a)
{
	return nssm_netif_up(a->queue[0].tx, a->netif.index);
}

/* --- sending --- */

uint32_t nssm_afp_tx(struct nssm_afp *a, uint32_t queue, const uint8_t *const *data, const uint32_t *len,
        uint32_t n, uint32_t *refused)
{
	struct queue *q = &a->queue[queue];
	uint32_t done = 0;
	assert(n <= NSSM_NETIF_BURST);
	*refused = 0;
	for (uint32_t i = 0; i < n; i++)
		q->iov[i] = (struct iovec){.iov_base = (void *)(uintptr_t)data[i], .iov_len = len[i]};
	while (done < n) {
		int sent = sendmmsg(q->tx, q->msg + done, n - done, MSG_DONTWAIT);
		if (sent > 0) {
			done += (uint32_t)sent;
			continue;
		}
		/* EAGAIN: as much is on its way as may be. ENOBUFS: the device's queue is full. */
		if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == EINTR ||
		        errno == ENETDOWN || errno == ENXIO || errno == ENODEV)
			break;
		/* EMSGSIZE (two tags on a frame of full length), EINVAL: this one will not go, ever. */
		*refused |= 1u << done++;
	}
	return done;
}

/* --- receiving --- */

static struct tpacket2_hdr *slot(const struct nssm_afp *a, const struct queue *q, uint32_t i)
{
	return (struct tpacket2_hdr *)(void *)(q->ring + (size_t)(i % a->n_frames) * a->frame_bytes);
}

/* The kernel is not out to harm us, but the ring is memory that both write. */
static bool look(
        const struct nssm_afp *a, struct nssm_netif_frame *f, const struct tpacket2_hdr *h, bool *too_long)
{
	const struct sockaddr_ll *from =
	        (const void *)((const uint8_t *)h + TPACKET_ALIGN(sizeof(struct tpacket2_hdr)));
	if (from->sll_pkttype == PACKET_OUTGOING)
		return false;
	*too_long = h->tp_snaplen != h->tp_len || h->tp_mac > a->frame_bytes ||
	            h->tp_snaplen > a->frame_bytes - h->tp_mac ||
	            h->tp_snaplen > a->netif.mtu + NSSM_NETIF_OVERHEAD;
	if (*too_long || h->tp_snaplen < ETH_HLEN)
		return false;
	f->data = (const uint8_t *)h + h->tp_mac;
	f->len = h->tp_snaplen;
	f->tagged = (h->tp_status & TP_STATUS_VLAN_VALID) != 0;
	f->tci = h->tp_vlan_tci;
	f->tpid = (h->tp_status & TP_STATUS_VLAN_TPID_VALID) != 0 ? h->tp_vlan_tpid : ETH_P_8021Q;
	return true;
}

uint32_t nssm_afp_rx(struct nssm_afp *a, uint32_t queue, struct nssm_netif_frame *f, uint32_t n)
{
	struct queue *q = &a->queue[queue];
	uint32_t got = 0;
	while (got < n && q->shown < a->n_frames) {
		struct tpacket2_hdr *h = slot(a, q, q->next);
		bool too_long = false;
		if ((__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) == 0)
			break;
		got += look(a, &f[got], h, &too_long);
		if (too_long)
			atomic_fetch_add_explicit(&q->too_long, 1, memory_order_relaxed);
		q->next = (q->next + 1) % a->n_frames;
		q->shown++;
	}
	return got;
}

void nssm_afp_release(struct nssm_afp *a, uint32_t queue)
{
	struct queue *q = &a->queue[queue];
	for (; q->shown > 0; q->shown--) {
		struct tpacket2_hdr *h = slot(a, q, q->next + a->n_frames - q->shown);
		__atomic_store_n(&h->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
	}
}

void nssm_afp_stats(struct nssm_netif_stats *s, struct nssm_afp *a)
{
	*s = (struct nssm_netif_stats){0};
	for (uint32_t i = 0; i < a->n_queues; i++) {
		struct queue *q = &a->queue[i];
		struct tpacket_stats k;
		socklen_t len = sizeof k;
		/* Reading them clears them. */
		if (getsockopt(q->rx, SOL_PACKET, PACKET_STATISTICS, &k, &len) == 0)
			q->missed += k.tp_drops;
		s->rx_missed += q->missed;
		s->rx_errors += atomic_load_explicit(&q->too_long, memory_order_relaxed);
	}
}
