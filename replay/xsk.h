/* xsk — frames to and from a kernel interface through AF_XDP sockets of our own; no DPDK, libbpf or libxdp in here.
 * Source : Linux, Documentation/networking/af_xdp.rst; needs Linux 5.9 (an XDP program that goes with the process)
 * Why not: DPDK's net_af_xdp asks the kernel again and again, without end, while a device takes nothing (a call was seen to last
 *          154 ms when the interface was set down), waits up to a second in its receive call, counts frames that it did not take as
 *          lost, and a kill leaves its program on the interface.
 * Queues : queue q is the device's queue q. All that arrives there comes here and not to the kernel; what arrives at a device's
 *          further queues goes on to the kernel (ethtool -L IFACE combined N).
 * Send   : frames are copied into memory shared with the kernel; it is woken once a burst, and again while that helps, 2 ms at most.
 *          Without zero-copy (veth) the kernel sends within that call; what the device then throws away is counted. Of what was
 *          taken when the link went down a burst stays, as in any NIC, and goes when the link is up again.
 * Receive: tags that a NIC takes off (ethtool -K IFACE rxvlan off) are lost: XDP does not hand them over.
 * Needs  : root, or CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF; n_queues no more than the interface has
 * Threads: one a queue for tx and rx; up, stats and close by whoever opened it
 * Checked: tests/test_port.c (on a veth pair: both ways, link down, interface deleted)                                          */
#ifndef NSSM_XSK_H
#define NSSM_XSK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/netif.h"

#define NSSM_XSK_MTU_MAX 3818 /* with two VLAN tags in a page, behind XDP's 256 bytes */

struct nssm_xsk;
int nssm_xsk_open(
	struct nssm_xsk **x, const struct nssm_netif *i, uint32_t n_queues, bool promiscuous, struct nssm_err *err);
void nssm_xsk_close(struct nssm_xsk **x);
bool nssm_xsk_up(const struct nssm_xsk *x);

/* Takes some of n <= NSSM_NETIF_BURST frames, from the first on, and returns how many. */
uint32_t nssm_xsk_tx(struct nssm_xsk *x, uint32_t queue, const uint8_t *const *data, const uint32_t *len, uint32_t n);
/* Looks at up to n <= NSSM_NETIF_BURST frames; they stay until nssm_xsk_release. */
uint32_t nssm_xsk_rx(struct nssm_xsk *x, uint32_t queue, struct nssm_netif_frame *f, uint32_t n);
void nssm_xsk_release(struct nssm_xsk *x, uint32_t queue);
/* tx_errors: thrown away by the device, and what waits to be sent while the link is down. */
void nssm_xsk_stats(struct nssm_netif_stats *s, struct nssm_xsk *x);

#endif
