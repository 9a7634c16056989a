/* netif — what the kernel says of one of its interfaces, and what those who send and receive there (afp, xsk) have in common.
 * Checked: tests/test_port.c (on a veth pair)                                                                               */
#ifndef NSSM_NETIF_H
#define NSSM_NETIF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define NSSM_NETIF_BURST    32
#define NSSM_NETIF_OVERHEAD 22 /* bytes of a frame beside the MTU: an Ethernet header and two VLAN tags */

struct nssm_netif {
	char name[16];
	int index;
	uint8_t mac[6];
	uint32_t mtu;
	uint64_t line_bps; /* 0: unknown, or none: an interface that stands on no device (veth says 10 Gbit/s of itself) */
	uint32_t n_queues; /* combined channels, as ethtool -l says; at least 1 */
	bool merges;       /* GRO or LRO is on */
};

/* NSSM_EIO if there is no such interface, NSSM_EUNSUP if its frames are no Ethernet frames. */
int nssm_netif_query(struct nssm_netif *i, const char *name, struct nssm_err *err);
/* Up and with a carrier. fd: an AF_INET or AF_PACKET socket. By index, so that a name given to another interface means nothing. */
bool nssm_netif_up(int fd, int index);
/* A socket that keeps the interface promiscuous as long as it is open, or -1 and errno. */
int nssm_netif_promiscuous(int index);

/* A received frame. */
struct nssm_netif_frame {
	const uint8_t *data; /* until it is released */
	uint32_t len;        /* >= 14 */
	bool tagged;         /* a VLAN tag of these two stood after the addresses */
	uint16_t tpid, tci;
};
struct nssm_netif_stats { uint64_t tx_errors, rx_missed, rx_errors; };

#endif
