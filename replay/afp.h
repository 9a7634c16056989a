/* afp — frames to and from a kernel interface through packet(7) sockets of our own; no DPDK in here.
 * Why not: DPDK's net_af_packet polls without a limit of time when its ring is full; counts as sent what the device's queue refused,
 *          and what it was handed while the interface was down; never asks for the link; and hands over what this machine itself
 *          sends. On a veth it is also slower (0.7 to 1.05 against 1.0 to 1.5 million packets a second, interleaved).
 * Send   : sendmmsg(2), past the queueing discipline (PACKET_QDISC_BYPASS), so that a full device queue is seen here and costs no
 *          packet. Nothing waits: MSG_DONTWAIT.
 * Receive: a ring a queue (TPACKET_V2: no block has to fill up before a packet is seen), spread by a symmetric flow hash. What this
 *          machine sends is left out. Tags that the kernel took off are handed over beside the frame.
 * Needs  : CAP_NET_RAW
 * Threads: one a queue for tx and rx; up, stats and close by whoever opened it
 * Checked: tests/test_port.c (on a veth pair: both ways, tags, link down, interface deleted)                                   */
#ifndef NSSM_AFP_H
#define NSSM_AFP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/netif.h"

struct nssm_afp;
int nssm_afp_open(
	struct nssm_afp **a, const struct nssm_netif *i, uint32_t n_queues, bool promiscuous, struct nssm_err *err);
void nssm_afp_close(struct nssm_afp **a);
bool nssm_afp_up(const struct nssm_afp *a);

/* Sends some of n <= NSSM_NETIF_BURST frames, from the first on. Returns how many are done with; those whose bit is set in *refused the
 * kernel would never take. Fewer than n: the queue is full or the link down. */
uint32_t nssm_afp_tx(struct nssm_afp *a, uint32_t queue, const uint8_t *const *data, const uint32_t *len, uint32_t n, uint32_t *refused);

/* Looks at up to n frames, which stay until nssm_afp_release; those longer than the interface's MTU allows were left out and counted. */
uint32_t nssm_afp_rx(struct nssm_afp *a, uint32_t queue, struct nssm_netif_frame *f, uint32_t n);
/* Gives the ring back what nssm_afp_rx showed last. */
void nssm_afp_release(struct nssm_afp *a, uint32_t queue);

/* tx_errors: none, nssm_afp_tx told of them. */
void nssm_afp_stats(struct nssm_netif_stats *s, struct nssm_afp *a);

#endif
