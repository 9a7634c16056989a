/* needs — how many addresses and ports the sessions of captures take, found by reading them once before the run: with these maxima no
 * clone has to fold two of its clients, servers or sockets onto one (clone.h: endpoints_max, sockets_max, servers_max).
 * Sessions and roles are those of reader.h and tape.h. For files, not for pipes. What does not fit into the memory given is not
 * counted: the run, which has no more, could not keep it either.
 * Checked: tests/test_needs.c                                                                                               */
#ifndef NSSM_NEEDS_H
#define NSSM_NEEDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/clone.h"
#include "replay/reader.h"

/* The largest of any session; at least 1 each. */
struct nssm_needs {
	uint32_t endpoints; /* client addresses of one IP version */
	uint32_t sockets;   /* ports of one client address */
	uint32_t servers;   /* server addresses of one IP version */
};
/* client_nets, server_nets: [2] (IPv4, IPv6), or NULL. bytes: 0: 256 MiB. Errors are the reader's. */
int nssm_needs_count(struct nssm_needs *n, const struct nssm_reader_cfg *cfg, const struct nssm_pool *client_nets,
	const struct nssm_pool *server_nets, size_t bytes, struct nssm_err *err);

#endif
