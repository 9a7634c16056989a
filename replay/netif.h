/* netif — what the kernel says of one of its interfaces.
 * Checked: tests/test_port.c (on a veth pair)                                                                               */
#ifndef NSSM_NETIF_H
#define NSSM_NETIF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

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
/* Up and with a carrier. fd: any socket. By index, so that a name given to another interface means nothing. */
bool nssm_netif_up(int fd, int index);

#endif
