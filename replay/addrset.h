/* addrset — a set of IPv4 and IPv6 addresses of fixed size: what a port answers for when it does not rewrite.
 * Memory : all at open: twice the room, 20 bytes each. What is in stays in.
 * Threads: any number may add and ask at any time, without locks; one may wait for another's copying of 16 bytes.
 * Checked: tests/test_neigh.c                                                                               */
#ifndef NSSM_ADDRSET_H
#define NSSM_ADDRSET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define NSSM_ADDRSET_MAX (1u << 26)

struct nssm_addrset;
int nssm_addrset_open(struct nssm_addrset **s, uint32_t n_max, struct nssm_err *err);
void nssm_addrset_close(struct nssm_addrset **s);
/* addr: IPv4 in the first 4 bytes, the rest 0. False: no room (threads that add at once may go over n_max by one each). */
bool nssm_addrset_add(struct nssm_addrset *s, const uint8_t addr[16], int ip_version);
bool nssm_addrset_has(const struct nssm_addrset *s, const uint8_t addr[16], int ip_version);
/* The first that was added; NULL: none. Lives as long as the set. */
const uint8_t *nssm_addrset_first(const struct nssm_addrset *s, int ip_version);

#endif
