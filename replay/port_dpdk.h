/* port_dpdk — a port from the inside, for the two files that make one: port_dpdk.c (DPDK's devices) and port_netif_dpdk.c (kernel
 * interfaces through sockets of our own). */
#ifndef NSSM_PORT_DPDK_H
#define NSSM_PORT_DPDK_H

#include <stdatomic.h>

#include <rte_mbuf.h>

#include "replay/afp.h"
#include "replay/port.h"
#include "replay/portclock.h"
#include "replay/xsk.h"

struct nssm_port {
	struct nssm_port_info info;
	atomic_bool up;
	uint32_t frame_max;       /* longest frame that is handed to the device */
	struct rte_mempool *pool; /* of received frames */
	atomic_ulong tx_errors, rx_errors; /* seen here; the device counts its own */
	uint32_t *refused;        /* [n_queues] as nssm_port_refused has it */

	/* A kernel interface: one of these. */
	struct nssm_afp *afp;
	struct nssm_xsk *xsk;

	/* Else DPDK's device. */
	uint16_t id;
	bool is_pci, started;
	int time_offset; /* of the time stamp in a frame */
	uint64_t time_flag;
	struct nssm_portclock clock;
};

static inline bool nssm_port_is_netif(const struct nssm_port *p)
{
	return p->afp != NULL || p->xsk != NULL;
}

/* A pool of n frames to receive into, of up to bytes each; NULL and rte_errno. */
struct rte_mempool *nssm_port_pool(uint32_t n, uint32_t bytes);

int nssm_port_netif_open(
	struct nssm_port *p, const struct nssm_dev *d, const struct nssm_port_cfg *cfg, struct nssm_err *err);
void nssm_port_netif_close(struct nssm_port *p);
bool nssm_port_netif_up(const struct nssm_port *p);
/* *refused: which of those taken were not sent. */
uint32_t nssm_port_netif_tx(struct nssm_port *p, uint32_t queue, struct rte_mbuf **m, uint32_t n, uint32_t *refused);
uint32_t nssm_port_netif_rx(struct nssm_port *p, uint32_t queue, struct rte_mbuf **m, uint32_t n);
void nssm_port_netif_errors(struct nssm_port_errors *e, struct nssm_port *p);

#endif
