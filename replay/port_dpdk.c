#include "replay/port.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>

#include "base/measure.h"
#include "replay/eal_dpdk.h"
#include "replay/netif.h"
#include "replay/portclock.h"

/* Descriptors a queue, where the device takes so many. */
#define N_DESC 1024

/* An Ethernet header and two VLAN tags, beside the MTU. */
#define OVERHEAD 22

/* af_xdp has filled a queue's fill ring (4,096) and may have as many on their way out; copies for sending come from the same pool. */
#define AF_XDP_FRAMES 12288

struct nssm_port {
	struct nssm_port_info info;
	uint16_t id;
	bool vdev; /* made here */
	bool started;
	atomic_bool up;
	int netif; /* index of the kernel interface whose link counts; 0: DPDK knows the link */
	int fd;    /* a socket to ask the kernel with */
	uint32_t frame_max;
	struct rte_mempool *pool; /* received frames */
	atomic_ulong tx_errors, rx_errors;

	int time_offset; /* of the time stamp in a frame */
	uint64_t time_flag;
	struct nssm_portclock clock;
};

/* --- finding and making the device --- */

static int dpdk_error(
        struct nssm_err *err, const struct nssm_port *p, const char *what, int code, const char *said)
{
	return nssm_err_set(err, NSSM_EIO, "port %s: %s failed (%s)%s", p->info.name, what,
	        rte_strerror(code < 0 ? -code : code), said);
}

static bool find_by_name(struct nssm_port *p, const char *vdev)
{
	char name[RTE_DEV_NAME_MAX_LEN];
	snprintf(name, sizeof name, "%.*s", (int)strcspn(vdev, ","), vdev);
	return rte_eth_dev_get_port_by_name(name, &p->id) == 0;
}

static int probe(struct nssm_port *p, const struct nssm_dev *d, const char *vdev, struct nssm_err *err)
{
	char said[400];
	bool there = find_by_name(p, vdev);
	if (there && d->kind != NSSM_DEV_PCI)
		return nssm_err_set(err, NSSM_EARG, "port %s: it is open already", p->info.name);
	if (there)
		return 0;
	int rc = rte_dev_probe(vdev);
	nssm_eal_said(said, sizeof said);
	p->vdev = rc == 0 && d->kind != NSSM_DEV_PCI;
	if (rc == 0 && find_by_name(p, vdev))
		return 0;
	if (d->kind == NSSM_DEV_PCI)
		return nssm_err_set(err, NSSM_EIO,
		        "port %s: DPDK drives no such device (%s): is it bound to vfio-pci (dpdk-devbind.py "
		        "-s)?%s",
		        p->info.name, rte_strerror(-rc), said);
	return dpdk_error(err, p, "making it", rc, said);
}

/* What the kernel says of the interface that a port stands on; the MTU is its. */
static int ask_kernel(
        struct nssm_port *p, const struct nssm_dev *d, const struct nssm_port_cfg *cfg, struct nssm_err *err)
{
	struct nssm_netif i;
	int rc = nssm_netif_query(&i, d->iface, err);
	if (rc != 0)
		return rc;
	if (cfg->mtu > i.mtu)
		return nssm_err_set(err, NSSM_ERANGE,
		        "port %s: an MTU of %u is wanted, the interface has %u: ip link set dev %s mtu %u",
		        p->info.name, cfg->mtu, i.mtu, d->iface, cfg->mtu);
	p->netif = i.index;
	p->info.mtu = cfg->mtu != 0 ? cfg->mtu : i.mtu;
	p->info.line_bps = i.line_bps;
	p->info.rx_merged = i.merges;
	memcpy(p->info.mac, i.mac, 6);
	p->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		return nssm_err_set(err, NSSM_EIO, "port %s: socket: %s", p->info.name, strerror(errno));
	p->info.up = nssm_netif_up(p->fd, p->netif);
	return 0;
}

/* --- setting up --- */

static int configure(struct nssm_port *p, const struct nssm_port_cfg *cfg, struct rte_eth_dev_info *info,
        struct nssm_err *err)
{
	struct rte_eth_conf conf = {0};
	char said[400];
	uint16_t n = (uint16_t)cfg->n_queues;
	uint32_t n_most =
	        info->max_rx_queues < info->max_tx_queues ? info->max_rx_queues : info->max_tx_queues;
	if (cfg->n_queues > n_most)
		return nssm_err_set(err, NSSM_EUNSUP, "port %s: %u queues are wanted, the device has %u",
		        p->info.name, cfg->n_queues, n_most);
	if (p->info.mtu != 0 && (p->info.mtu > info->max_mtu || p->info.mtu < info->min_mtu))
		return nssm_err_set(err, NSSM_ERANGE, "port %s: an MTU of %u; the driver takes %u to %u",
		        p->info.name, p->info.mtu, info->min_mtu, info->max_mtu);
	conf.rxmode.mtu = p->info.mtu;
	if (cfg->timestamps && (info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP) != 0) {
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP;
		p->info.send_on_time = true;
	}
	/* Any split among the queues will do: an engine looks at what comes, whoever it is for. */
	if (n > 1 && (info->flow_type_rss_offloads & RTE_ETH_RSS_IP) != 0) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
		        info->flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
	}
	int rc = rte_eth_dev_configure(p->id, n, n, &conf);
	if (rc != 0)
		return dpdk_error(err, p, "configuring it", rc, nssm_eal_said(said, sizeof said));
	uint16_t mtu;
	if (p->info.mtu == 0 && rte_eth_dev_get_mtu(p->id, &mtu) == 0)
		p->info.mtu = mtu;
	p->frame_max = p->info.mtu + OVERHEAD;
	return 0;
}

static int set_up_queues(struct nssm_port *p, const struct nssm_dev *d, const struct nssm_port_cfg *cfg,
        const struct rte_eth_dev_info *info, struct nssm_err *err)
{
	char name[RTE_MEMPOOL_NAMESIZE], said[400];
	uint16_t n_rx = N_DESC, n_tx = N_DESC;
	int rc = rte_eth_dev_adjust_nb_rx_tx_desc(p->id, &n_rx, &n_tx);
	if (rc != 0)
		return dpdk_error(err, p, "choosing descriptors", rc, nssm_eal_said(said, sizeof said));
	uint32_t n = d->kind == NSSM_DEV_AF_XDP ? AF_XDP_FRAMES : n_rx + N_DESC;
	uint32_t room = p->frame_max > NSSM_FRAME_SMALL ? p->frame_max : NSSM_FRAME_SMALL;
	if (room + RTE_PKTMBUF_HEADROOM > UINT16_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "port %s: an MTU of %u is more than %u", p->info.name,
		        p->info.mtu, UINT16_MAX - RTE_PKTMBUF_HEADROOM - OVERHEAD);
	snprintf(name, sizeof name, "netssm_port%u", p->id);
	p->pool = rte_pktmbuf_pool_create(
	        name, n * cfg->n_queues, 128, 0, (uint16_t)(RTE_PKTMBUF_HEADROOM + room), SOCKET_ID_ANY);
	if (p->pool == NULL)
		return nssm_err_set(err, NSSM_ENOMEM,
		        "port %s: DPDK has no memory to receive %u frames of %u bytes (%s)", p->info.name,
		        n * cfg->n_queues, room, rte_strerror(rte_errno));
	struct rte_eth_txconf tx = info->default_txconf;
	if (p->info.send_on_time)
		tx.offloads |= RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP;
	for (uint16_t q = 0; q < cfg->n_queues; q++) {
		rc = rte_eth_rx_queue_setup(p->id, q, n_rx, SOCKET_ID_ANY, NULL, p->pool);
		if (rc == 0)
			rc = rte_eth_tx_queue_setup(p->id, q, n_tx, SOCKET_ID_ANY, &tx);
		if (rc != 0)
			return dpdk_error(err, p, "setting a queue up", rc, nssm_eal_said(said, sizeof said));
	}
	return 0;
}

static bool sample_clock(struct nssm_port *p)
{
	uint64_t ticks, before = nssm_now_ns();
	if (rte_eth_read_clock(p->id, &ticks) != 0)
		return false;
	return nssm_portclock_sample(&p->clock, before + (nssm_now_ns() - before) / 2, ticks);
}

/* The device said that it sends on time stamps; that needs the field in a frame, and its clock. */
static void set_up_time(struct nssm_port *p)
{
	const struct timespec wait = {.tv_nsec = 2 * PORTCLOCK_MIN_NS};
	nssm_portclock_init(&p->clock);
	bool ok = rte_mbuf_dyn_tx_timestamp_register(&p->time_offset, &p->time_flag) == 0;
	if (ok && !sample_clock(p)) {
		nanosleep(&wait, NULL);
		ok = sample_clock(p);
	}
	p->info.send_on_time = ok;
}

static int start(struct nssm_port *p, const struct nssm_dev *d, const struct nssm_port_cfg *cfg,
        const struct rte_eth_dev_info *info, struct nssm_err *err)
{
	char said[400];
	int rc = rte_eth_dev_start(p->id);
	if (rc != 0)
		return dpdk_error(err, p, "starting it", rc, nssm_eal_said(said, sizeof said));
	p->started = true;
	/* A device that cannot see everything has nothing else to see (null, ring, memif). */
	rc = cfg->promiscuous ? rte_eth_promiscuous_enable(p->id) : 0;
	if (rc != 0 && rc != -ENOTSUP)
		return dpdk_error(err, p, "promiscuous mode", rc, nssm_eal_said(said, sizeof said));
	struct rte_ether_addr mac;
	if (rte_eth_macaddr_get(p->id, &mac) == 0)
		memcpy(p->info.mac, mac.addr_bytes, 6);
	struct rte_eth_link link = {0};
	if (p->netif == 0 && rte_eth_link_get_nowait(p->id, &link) == 0)
		p->info.up = link.link_status == RTE_ETH_LINK_UP;
	/* Vdevs say 10 Gbit/s, whatever stands behind them. */
	if (d->kind == NSSM_DEV_PCI && link.link_speed != RTE_ETH_SPEED_NUM_UNKNOWN)
		p->info.line_bps = (uint64_t)link.link_speed * 1000000;
	p->info.n_queues = cfg->n_queues;
	if (p->info.send_on_time)
		set_up_time(p);
	atomic_store(&p->up, p->info.up);
	return 0;
}

static int open_ethdev(
        struct nssm_port *p, const struct nssm_dev *d, const struct nssm_port_cfg *cfg, struct nssm_err *err)
{
	char vdev[sizeof d->vdev + 64];
	struct rte_eth_dev_info info;
	p->info.mtu = cfg->mtu;
	snprintf(vdev, sizeof vdev, "%s", d->vdev);
	int rc = d->kind == NSSM_DEV_AF_XDP ? ask_kernel(p, d, cfg, err) : 0;
	if (rc == 0 && d->kind == NSSM_DEV_AF_XDP)
		snprintf(vdev, sizeof vdev, "%s,queue_count=%u", d->vdev, cfg->n_queues);
	if (rc == 0)
		rc = probe(p, d, vdev, err);
	if (rc != 0)
		return rc;
	rc = rte_eth_dev_info_get(p->id, &info);
	if (rc != 0)
		return dpdk_error(err, p, "asking what it can do", rc, "");
	rc = configure(p, cfg, &info, err);
	if (rc == 0)
		rc = set_up_queues(p, d, cfg, &info, err);
	if (rc == 0)
		rc = start(p, d, cfg, &info, err);
	return rc;
}

/* For people: what they wrote, more or less. */
static void name_port(struct nssm_port *p, const struct nssm_dev *d)
{
	const char *kind = d->kind == NSSM_DEV_AF_XDP ? "af_xdp:" : d->kind == NSSM_DEV_TAP ? "tap:" : "";
	if (kind[0] != '\0')
		snprintf(p->info.name, sizeof p->info.name, "%s%.48s", kind, d->iface);
	else if (d->kind == NSSM_DEV_NULL || d->kind == NSSM_DEV_RING)
		snprintf(p->info.name, sizeof p->info.name, "%s", d->kind == NSSM_DEV_NULL ? "null" : "ring");
	else
		snprintf(p->info.name, sizeof p->info.name, "%.63s", d->vdev);
}

int nssm_port_open(struct nssm_port **out, const struct nssm_dev *d, const struct nssm_port_cfg *cfg,
        struct nssm_err *err)
{
	assert(cfg->n_queues >= 1 && cfg->n_queues <= UINT16_MAX);
	struct nssm_port *p = calloc(1, sizeof *p);
	if (p == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "port %s: no memory", d->vdev);
	p->fd = -1;
	p->id = RTE_MAX_ETHPORTS;
	name_port(p, d);
	int rc;
	if (!nssm_eal_running())
		rc = nssm_err_set(err, NSSM_EARG, "port %s: DPDK was not started", p->info.name);
	else {
		nssm_eal_hush();
		rc = open_ethdev(p, d, cfg, err);
		nssm_eal_hush_end();
	}
	if (rc != 0)
		nssm_port_close(&p);
	else
		*out = p;
	return rc;
}

void nssm_port_close(struct nssm_port **port)
{
	struct nssm_port *p = *port;
	if (p == NULL)
		return;
	atomic_store(&p->up, false);
	if (p->id != RTE_MAX_ETHPORTS) {
		struct rte_eth_dev_info info;
		nssm_eal_hush();
		bool known = rte_eth_dev_info_get(p->id, &info) == 0;
		if (p->started)
			rte_eth_dev_stop(p->id);
		if (p->vdev && known)
			rte_dev_remove(info.device);
		else
			rte_eth_dev_close(p->id);
		nssm_eal_hush_end();
	}
	rte_mempool_free(p->pool);
	if (p->fd >= 0)
		close(p->fd);
	free(p);
	*port = NULL;
}

const struct nssm_port_info *nssm_port_info(const struct nssm_port *p)
{
	return &p->info;
}

bool nssm_port_link(struct nssm_port *p)
{
	struct rte_eth_link link = {0};
	bool up = p->netif != 0
	                  ? nssm_netif_up(p->fd, p->netif)
	                  : rte_eth_link_get_nowait(p->id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
	atomic_store_explicit(&p->up, up, memory_order_relaxed);
	if (p->info.send_on_time)
		sample_clock(p);
	return up;
}

/* --- the data path --- */

/* Frames before the first that is too long; one at the front is given back and counted. */
static uint32_t sendable(struct nssm_port *p, struct rte_mbuf **m, uint32_t n, uint32_t *n_bad)
{
	uint32_t i = 0;
	while (*n_bad < n && m[*n_bad]->pkt_len > p->frame_max)
		rte_pktmbuf_free(m[(*n_bad)++]);
	if (*n_bad > 0)
		atomic_fetch_add_explicit(&p->tx_errors, *n_bad, memory_order_relaxed);
	m += *n_bad;
	n -= *n_bad;
	while (i < n && m[i]->pkt_len <= p->frame_max)
		i++;
	return i;
}

uint32_t nssm_port_tx(struct nssm_port *p, uint32_t queue, void **handles, uint32_t n)
{
	struct rte_mbuf **m = (struct rte_mbuf **)handles;
	uint32_t n_bad = 0;
	if (!atomic_load_explicit(&p->up, memory_order_relaxed))
		return 0;
	n = sendable(p, m, n, &n_bad);
	return n_bad + (n > 0 ? rte_eth_tx_burst(p->id, (uint16_t)queue, m + n_bad, (uint16_t)n) : 0);
}

void nssm_frame_set_time(const struct nssm_port *p, void *m, uint64_t due_ns)
{
	struct rte_mbuf *b = m;
	assert(p->info.send_on_time);
	*RTE_MBUF_DYNFIELD(b, p->time_offset, rte_mbuf_timestamp_t *) =
	        nssm_portclock_ticks(&p->clock, due_ns);
	b->ol_flags |= p->time_flag;
}

uint32_t nssm_port_rx(
        struct nssm_port *p, uint32_t queue, void **handles, const uint8_t **data, uint32_t *len, uint32_t n)
{
	struct rte_mbuf **m = (struct rte_mbuf **)handles;
	uint32_t got = rte_eth_rx_burst(p->id, (uint16_t)queue, m, (uint16_t)n), kept = 0;
	for (uint32_t i = 0; i < got; i++) {
		/* memif gives a frame in pieces if the other side sent it so. */
		if (m[i]->nb_segs > 1 && rte_pktmbuf_linearize(m[i]) != 0) {
			rte_pktmbuf_free(m[i]);
			atomic_fetch_add_explicit(&p->rx_errors, 1, memory_order_relaxed);
			continue;
		}
		m[kept] = m[i];
		data[kept] = rte_pktmbuf_mtod(m[i], const uint8_t *);
		len[kept++] = m[i]->pkt_len;
	}
	return kept;
}

void nssm_port_errors(struct nssm_port_errors *e, struct nssm_port *p)
{
	struct rte_eth_stats s;
	*e = (struct nssm_port_errors){.tx_errors = p->tx_errors, .rx_errors = p->rx_errors};
	if (rte_eth_stats_get(p->id, &s) != 0)
		return;
	e->tx_errors += s.oerrors;
	e->rx_missed += s.imissed + s.rx_nombuf;
	e->rx_errors += s.ierrors;
}
