/* neigh — the link-layer neighbour of a router or host: answers ARP and Neighbor Discovery for every address that a port plays,
 * and resolves the port's gateway. Pure: frames in, frames out, time as an argument.
 * Source : RFC 826, 5227 (ARP); RFC 4861 (ND), 4862; RFC 4443 (ICMPv6 checksum, hop limit 255)
 * Plays  : a port owns address pools (clone.h's nssm_pool) or, without rewriting, the set of source addresses seen leaving it
 *          (added with nssm_neigh_own). It answers with src_mac. Gratuitous ARP and unsolicited advertisements are not sent.
 *          ICMP and ICMPv6 echo requests to the port's own addresses (self4, self6) are answered, so that a DUT can check.
 * Gateway: asked once a second until it answers (5 times, then every 5 s); renewed every 30 s; a MAC that changes is taken.
 *          self4/self6 is the sender's address in the requests; without one: the first address of the pool.
 * Checked: tests/test_neigh.c, tests/netns/router.sh                                                                        */
#ifndef NSSM_NEIGH_H
#define NSSM_NEIGH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/clone.h"

struct nssm_neigh_cfg {
	uint8_t src_mac[6];
	const struct nssm_pool *pool[4]; /* borrowed; addresses that the port answers for */
	int n_pools;
	uint32_t own_max;                /* room for nssm_neigh_own */
	uint8_t self4[4], self6[16];     /* zeros: none */
	uint8_t gateway4[4], gateway6[16]; /* zeros: none */
	uint16_t vlan[NSSM_VLAN_TAGS_MAX]; /* TCIs pushed on what is sent; requests with the same tags are answered */
	uint32_t n_vlan;
};
struct nssm_neigh_stats { uint64_t arp_requests, arp_replies, nd_requests, nd_replies, echo_replies, asked, malformed; };

struct nssm_neigh;
int nssm_neigh_open(struct nssm_neigh **n, const struct nssm_neigh_cfg *cfg, struct nssm_err *err);
void nssm_neigh_close(struct nssm_neigh **n);
void nssm_neigh_own(struct nssm_neigh *n, const uint8_t *addr, int ip_version);
/* A received frame. Returns the length of the answer written to out [256], 0: none; *mine: it was ARP or ND (not traffic). */
uint32_t nssm_neigh_frame(struct nssm_neigh *n, const uint8_t *frame, uint32_t len, uint64_t now_ns, uint8_t *out, bool *mine);
/* What is to be sent now on its own (questions for gateways): call until it gives 0. */
uint32_t nssm_neigh_poll(struct nssm_neigh *n, uint64_t now_ns, uint8_t *out);
/* True once known; ip_version 4 or 6. */
bool nssm_neigh_gateway(const struct nssm_neigh *n, int ip_version, uint8_t mac[6]);
bool nssm_neigh_resolved(const struct nssm_neigh *n); /* all gateways that are set */
const struct nssm_neigh_stats *nssm_neigh_stats(const struct nssm_neigh *n);

#endif
