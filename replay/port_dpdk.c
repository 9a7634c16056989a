#include "replay/port_dpdk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf_dyn.h>

#include "base/measure.h"
#include "replay/eal_dpdk.h"

/* Descriptors a queue, where the device takes so many. */
#define N_DESC 1024

/* net_af_xdp, by its own name, keeps 4,096 frames to be received and as many on their way out. */
#define N_AF_XDP 12288

/* --- finding and making the device --- */

static int dpdk_error(
        struct nssm_err *err, const struct nssm_port *p, const char *what, int code, const char *said)
{
	return nssm_err_set(err, NSSM_EIO, "port %s: %s failed (%s)%s", p->info.name, what,
	        rte_strerror(code < 0 ? -code : code), said);
}

static bool find(uint16_t *id, const char *vdev)
{
	char name[RTE_DEV_NAME_MAX_LEN];
	snprintf(name, sizeof name, "%.*s", (int)strcspn(vdev, ","), vdev);
	return rte_eth_dev_get_port_by_name(name, id) == 0;
}

static int probe(struct nssm_port *p, const struct nssm_dev *d, struct nssm_err *err)
{
	char said[400];
	uint16_t id;
	/* EAL's start has probed the PCI devices that it was told of. */
	int rc = find(&id, d->vdev) ? 0 : rte_dev_probe(d->vdev);
	nssm_eal_said(said, sizeof said);
	if (rc == 0 && find(&id, d->vdev)) {
		struct rte_eth_dev_owner owner = {.name = "netssm"};
		if (rte_eth_dev_owner_new(&owner.id) != 0 || rte_eth_dev_owner_set(id, &owner) != 0)
			return nssm_err_set(err, NSSM_EARG, "port %s: it is open already", p->info.name);
		p->id = id;
		return 0;
	}
	if (p->is_pci)
		return nssm_err_set(err, NSSM_EIO,
		        "port %s: DPDK drives no such device (%s): is it bound to vfio-pci (dpdk-devbind.py "
		        "-s)?%s",
		        p->info.name, rte_strerror(-rc), said);
	return dpdk_error(err, p, "making it", rc, said);
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
	p->frame_max = p->info.mtu + NSSM_NETIF_OVERHEAD;
	if (p->frame_max > UINT16_MAX - RTE_PKTMBUF_HEADROOM)
		return nssm_err_set(err, NSSM_ERANGE, "port %s: an MTU of %u is more than %u", p->info.name,
		        p->info.mtu, UINT16_MAX - RTE_PKTMBUF_HEADROOM - NSSM_NETIF_OVERHEAD);
	return 0;
}

struct rte_mempool *nssm_port_pool(uint32_t n, uint32_t bytes)
{
	static atomic_uint serial;
	char name[RTE_MEMPOOL_NAMESIZE];
	if (bytes < NSSM_FRAME_SMALL)
		bytes = NSSM_FRAME_SMALL;
	if (bytes > UINT16_MAX - RTE_PKTMBUF_HEADROOM)
		bytes = UINT16_MAX - RTE_PKTMBUF_HEADROOM;
	snprintf(name, sizeof name, "netssm_port%u", atomic_fetch_add(&serial, 1));
	return rte_pktmbuf_pool_create(
	        name, n, 128, 0, (uint16_t)(RTE_PKTMBUF_HEADROOM + bytes), SOCKET_ID_ANY);
}

static int set_up_queues(struct nssm_port *p, const struct nssm_dev *d, const struct nssm_port_cfg *cfg,
        const struct rte_eth_dev_info *info, struct nssm_err *err)
{
	char said[400];
	uint16_t n_rx = N_DESC, n_tx = N_DESC;
	int rc = rte_eth_dev_adjust_nb_rx_tx_desc(p->id, &n_rx, &n_tx);
	if (rc != 0)
		return dpdk_error(err, p, "choosing descriptors", rc, nssm_eal_said(said, sizeof said));
	uint32_t n = strncmp(d->vdev, "net_af_xdp", 10) == 0 ? N_AF_XDP : n_rx + N_DESC;
	p->pool = nssm_port_pool(n * cfg->n_queues, p->frame_max);
	if (p->pool == NULL)
		return nssm_err_set(err, NSSM_ENOMEM,
		        "port %s: DPDK has no memory to receive %u frames of %u bytes (%s)", p->info.name,
		        n * cfg->n_queues, p->frame_max, rte_strerror(rte_errno));
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

static int start(struct nssm_port *p, const struct nssm_port_cfg *cfg, struct nssm_err *err)
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
	if (rte_eth_link_get_nowait(p->id, &link) == 0)
		p->info.up = link.link_status == RTE_ETH_LINK_UP;
	/* Vdevs say 10 Gbit/s, whatever stands behind them. */
	if (p->is_pci && link.link_speed != RTE_ETH_SPEED_NUM_UNKNOWN)
		p->info.line_bps = (uint64_t)link.link_speed * 1000000;
	p->info.n_queues = cfg->n_queues;
	if (p->info.send_on_time)
		set_up_time(p);
	return 0;
}

static int open_ethdev(
        struct nssm_port *p, const struct nssm_dev *d, const struct nssm_port_cfg *cfg, struct nssm_err *err)
{
	struct rte_eth_dev_info info;
	p->info.mtu = cfg->mtu;
	int rc = probe(p, d, err);
	if (rc != 0)
		return rc;
	rc = rte_eth_dev_info_get(p->id, &info);
	if (rc != 0)
		return dpdk_error(err, p, "asking what it can do", rc, "");
	rc = configure(p, cfg, &info, err);
	if (rc == 0)
		rc = set_up_queues(p, d, cfg, &info, err);
	if (rc == 0)
		rc = start(p, cfg, err);
	return rc;
}

/* For people: what they wrote, more or less. */
static void name_port(struct nssm_port *p, const struct nssm_dev *d)
{
	char *name = p->info.name;
	const size_t cap = sizeof p->info.name;
	switch (d->kind) {
	case NSSM_DEV_NULL:
	case NSSM_DEV_RING:
		snprintf(name, cap, "%s", d->kind == NSSM_DEV_NULL ? "null" : "ring");
		break;
	case NSSM_DEV_TAP:
		snprintf(name, cap, "tap:%.58s", d->iface);
		break;
	case NSSM_DEV_MEMIF:
		snprintf(name, cap, "memif:%.57s", d->vdev + strcspn(d->vdev, ",") + 1);
		break;
	case NSSM_DEV_PCI:
	case NSSM_DEV_AF_PACKET:
	case NSSM_DEV_AF_XDP:
	case NSSM_DEV_RAW:
		snprintf(name, cap, "%.63s", d->vdev);
		break;
	}
}

int nssm_port_open(struct nssm_port **out, const struct nssm_dev *d, const struct nssm_port_cfg *cfg,
        struct nssm_err *err)
{
	assert(cfg->n_queues >= 1 && cfg->n_queues <= UINT16_MAX);
	struct nssm_port *p = calloc(1, sizeof *p);
	if (p == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "port %s: no memory", d->vdev);
	p->id = RTE_MAX_ETHPORTS;
	p->refused = calloc(cfg->n_queues, sizeof *p->refused);
	if (p->refused == NULL) {
		free(p);
		return nssm_err_set(err, NSSM_ENOMEM, "port %s: no memory", d->vdev);
	}
	p->is_pci = d->kind == NSSM_DEV_PCI;
	name_port(p, d);
	int rc;
	if (!nssm_eal_running())
		rc = nssm_err_set(err, NSSM_EARG, "port %s: DPDK was not started", p->info.name);
	else {
		nssm_eal_hush();
		bool netif = d->kind == NSSM_DEV_AF_PACKET || d->kind == NSSM_DEV_AF_XDP;
		rc = netif ? nssm_port_netif_open(p, d, cfg, err) : open_ethdev(p, d, cfg, err);
		nssm_eal_hush_end();
	}
	atomic_store(&p->up, p->info.up);
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
		if (!p->is_pci && known)
			rte_dev_remove(info.device);
		else
			rte_eth_dev_close(p->id);
		nssm_eal_hush_end();
	}
	nssm_port_netif_close(p);
	rte_mempool_free(p->pool);
	free(p->refused);
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
	bool up;
	if (nssm_port_is_netif(p))
		up = nssm_port_netif_up(p);
	else
		up = rte_eth_link_get_nowait(p->id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
	atomic_store_explicit(&p->up, up, memory_order_relaxed);
	if (p->info.send_on_time)
		sample_clock(p);
	return up;
}

/* --- the data path --- */

/* Frames before the first that is too long; those at the front are given back and counted. */
static uint32_t sendable(struct nssm_port *p, struct rte_mbuf **m, uint32_t n, uint32_t *n_bad)
{
	uint32_t i = 0;
	while (*n_bad < n && m[*n_bad]->pkt_len > p->frame_max)
		rte_pktmbuf_free(m[(*n_bad)++]);
	m += *n_bad;
	n -= *n_bad;
	while (i < n && m[i]->pkt_len <= p->frame_max)
		i++;
	return i;
}

uint32_t nssm_port_tx(struct nssm_port *p, uint32_t queue, void **handles, uint32_t n)
{
	struct rte_mbuf **m = (struct rte_mbuf **)handles;
	uint32_t n_bad = 0, refused = 0, taken;
	p->refused[queue] = 0;
	if (n > NSSM_BURST)
		n = NSSM_BURST;
	if (!atomic_load_explicit(&p->up, memory_order_relaxed))
		return 0;
	n = sendable(p, m, n, &n_bad);
	if (nssm_port_is_netif(p))
		taken = nssm_port_netif_tx(p, queue, m + n_bad, n, &refused);
	else
		taken = rte_eth_tx_burst(p->id, (uint16_t)queue, m + n_bad, (uint16_t)n);
	if (__builtin_expect(n_bad == 0 && refused == 0, 1))
		return taken;
	p->refused[queue] = (uint32_t)((uint64_t)refused << n_bad | ((1ull << n_bad) - 1));
	atomic_fetch_add_explicit(
	        &p->tx_errors, (unsigned long)__builtin_popcount(p->refused[queue]), memory_order_relaxed);
	return n_bad + taken;
}

uint32_t nssm_port_refused(const struct nssm_port *p, uint32_t queue)
{
	return p->refused[queue];
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
	uint32_t got, kept = 0;
	if (nssm_port_is_netif(p))
		got = nssm_port_netif_rx(p, queue, m, n);
	else
		got = rte_eth_rx_burst(p->id, (uint16_t)queue, m, (uint16_t)n);
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
	if (nssm_port_is_netif(p)) {
		nssm_port_netif_errors(e, p);
		return;
	}
	if (rte_eth_stats_get(p->id, &s) != 0)
		return;
	/* Most vdevs count as errors what they left with the caller. */
	if (p->is_pci)
		e->tx_errors += s.oerrors;
	e->rx_missed += s.imissed + s.rx_nombuf;
	e->rx_errors += s.ierrors;
}
