#include "replay/port_dpdk.h"

#include <stdio.h>
#include <string.h>

#include <rte_errno.h>

/* Frames that whoever polls a queue may hold. */
#define N_HELD 1024

/* A tag that is put back. */
#define TAG 4

int nssm_port_netif_open(
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
	p->info.mtu = cfg->mtu != 0 ? cfg->mtu : i.mtu;
	p->info.line_bps = i.line_bps;
	p->info.rx_merged = i.merges;
	p->info.n_queues = cfg->n_queues;
	memcpy(p->info.mac, i.mac, 6);
	p->frame_max = p->info.mtu + NSSM_NETIF_OVERHEAD;
	uint32_t room = i.mtu + NSSM_NETIF_OVERHEAD + TAG;
	p->pool = nssm_port_pool(cfg->n_queues * N_HELD, room);
	if (p->pool == NULL)
		return nssm_err_set(err, NSSM_ENOMEM,
		        "port %s: DPDK has no memory to receive %u frames of %u bytes (%s)", p->info.name,
		        cfg->n_queues * N_HELD, room, rte_strerror(rte_errno));
	if (d->kind == NSSM_DEV_AF_PACKET)
		rc = nssm_afp_open(&p->afp, &i, cfg->n_queues, cfg->promiscuous, err);
	else
		rc = nssm_xsk_open(&p->xsk, &i, cfg->n_queues, cfg->promiscuous, err);
	if (rc == 0)
		p->info.up = nssm_port_netif_up(p);
	return rc;
}

void nssm_port_netif_close(struct nssm_port *p)
{
	nssm_afp_close(&p->afp);
	nssm_xsk_close(&p->xsk);
}

bool nssm_port_netif_up(const struct nssm_port *p)
{
	return p->afp != NULL ? nssm_afp_up(p->afp) : nssm_xsk_up(p->xsk);
}

uint32_t nssm_port_netif_tx(
        struct nssm_port *p, uint32_t queue, struct rte_mbuf **m, uint32_t n, uint32_t *refused)
{
	const uint8_t *data[NSSM_NETIF_BURST];
	uint32_t len[NSSM_NETIF_BURST];
	*refused = 0;
	if (n > NSSM_NETIF_BURST)
		n = NSSM_NETIF_BURST;
	for (uint32_t i = 0; i < n; i++) {
		data[i] = rte_pktmbuf_mtod(m[i], const uint8_t *);
		len[i] = m[i]->pkt_len;
	}
	if (p->afp != NULL)
		n = nssm_afp_tx(p->afp, queue, data, len, n, refused);
	else
		n = nssm_xsk_tx(p->xsk, queue, data, len, n);
	rte_pktmbuf_free_bulk(m, n);
	return n;
}

/* Copies f, its tag put back where it stood. */
static bool copy_frame(struct rte_mbuf *m, const struct nssm_netif_frame *f)
{
	const uint32_t addrs = 12;
	uint32_t tag = f->tagged ? TAG : 0;
	uint8_t *to = rte_pktmbuf_mtod(m, uint8_t *);
	if (f->len + tag > rte_pktmbuf_tailroom(m))
		return false;
	m->data_len = (uint16_t)(f->len + tag);
	m->pkt_len = f->len + tag;
	if (!f->tagged) {
		memcpy(to, f->data, f->len);
		return true;
	}
	memcpy(to, f->data, addrs);
	to[addrs] = (uint8_t)(f->tpid >> 8);
	to[addrs + 1] = (uint8_t)f->tpid;
	to[addrs + 2] = (uint8_t)(f->tci >> 8);
	to[addrs + 3] = (uint8_t)f->tci;
	memcpy(to + addrs + TAG, f->data + addrs, f->len - addrs);
	return true;
}

uint32_t nssm_port_netif_rx(struct nssm_port *p, uint32_t queue, struct rte_mbuf **m, uint32_t n)
{
	struct nssm_netif_frame f[NSSM_NETIF_BURST];
	uint32_t kept = 0;
	if (n > NSSM_NETIF_BURST)
		n = NSSM_NETIF_BURST;
	uint32_t got = p->afp != NULL ? nssm_afp_rx(p->afp, queue, f, n) : nssm_xsk_rx(p->xsk, queue, f, n);
	/* Whoever polls gives frames back sooner or later; what comes before that is lost, and counted. */
	bool room = got > 0 && rte_pktmbuf_alloc_bulk(p->pool, m, got) == 0;
	for (uint32_t i = 0; room && i < got; i++)
		kept += copy_frame(m[kept], &f[i]);
	if (room)
		rte_pktmbuf_free_bulk(m + kept, got - kept);
	if (kept < got)
		atomic_fetch_add_explicit(&p->rx_errors, got - kept, memory_order_relaxed);
	if (p->afp != NULL)
		nssm_afp_release(p->afp, queue);
	else
		nssm_xsk_release(p->xsk, queue);
	return kept;
}

void nssm_port_netif_errors(struct nssm_port_errors *e, struct nssm_port *p)
{
	struct nssm_netif_stats s;
	if (p->afp != NULL)
		nssm_afp_stats(&s, p->afp);
	else
		nssm_xsk_stats(&s, p->xsk);
	e->tx_errors += s.tx_errors;
	e->rx_missed += s.rx_missed;
	e->rx_errors += s.rx_errors;
}
