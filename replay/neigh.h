/* neigh — the link-layer neighbour of a router or host: answers ARP and Neighbor Discovery for every address that a port plays,
 * and resolves the port's gateway. Pure: frames in, frames out, time as an argument.
 * Source : RFC 826, 5227 (ARP); RFC 4861 (ND), 4862 (DAD), 4443 (ICMPv6 checksum, echo), 792, 1122 (echo), 2464 (multicast MACs)
 * Plays  : a port owns address pools (clone.h's nssm_pool) or, without rewriting, the set of source addresses seen leaving it
 *          (added with nssm_neigh_own). It answers with src_mac, also for self4, self6 and the link-local address made of src_mac;
 *          never for the gateway's own addresses. Gratuitous ARP and unsolicited advertisements are neither sent nor believed.
 *          ICMP and ICMPv6 echo requests to self4 and self6 are answered, so that a DUT can check; not those whose
 *          answer is longer than NSSM_NEIGH_OUT_BYTES, and no fragments.
 * Tags   : with n_vlan, only requests whose outer tags have the same VLAN IDs are answered; without, any. Answers carry the tags
 *          of what they answer, at most NSSM_NEIGH_TAGS_MAX.
 * Gateway: asked once a second until it answers (5 times, then every 5 s); renewed every 30 s; a MAC that changes is taken; one
 *          that no longer answers stays known, and is asked again as at first. Asked from self4/self6; without one from the
 *          first address of the pools, else from the first that was owned, else from none (an ARP probe) or the link-local address.
 * Threads: one for everything, but nssm_neigh_own, which any number may call at any time.
 * Checked: tests/test_neigh.c, tests/fuzz/fuzz_neigh.c, tests/netns/router.sh                                               */
#ifndef NSSM_NEIGH_H
#define NSSM_NEIGH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/clone.h"

#define NSSM_NEIGH_OUT_BYTES 256u /* room for one answer or question */
#define NSSM_NEIGH_TAGS_MAX  4u

struct nssm_neigh_cfg {
	uint8_t src_mac[6];
	const struct nssm_pool *pool[4]; /* borrowed; addresses that the port answers for */
	int n_pools;
	uint32_t own_max;                /* room for nssm_neigh_own (addrset.h) */
	uint8_t self4[4], self6[16];     /* zeros: none */
	uint8_t gateway4[4], gateway6[16]; /* zeros: none */
	uint16_t vlan[NSSM_VLAN_TAGS_MAX]; /* TCIs pushed on what is sent; [0] is the outer one */
	uint16_t tpid[NSSM_VLAN_TAGS_MAX]; /* 0: 0x8100, and 0x88a8 for the outer of two */
	uint32_t n_vlan;
};
struct nssm_neigh_stats {
	uint64_t arp_requests, nd_requests; /* well-formed ones that came, for whomever */
	uint64_t arp_replies, nd_replies, echo_replies, asked; /* sent */
	uint64_t malformed;                 /* ARP, ND or echo to self with lengths, checksums or fields that cannot be */
	uint64_t own_full;                  /* addresses that nssm_neigh_own had no room for, each time they came */
};

struct nssm_neigh;
int nssm_neigh_open(struct nssm_neigh **n, const struct nssm_neigh_cfg *cfg, struct nssm_err *err);
void nssm_neigh_close(struct nssm_neigh **n);
/* 4 or 16 bytes. Addresses that nobody may answer for (multicast, broadcast, unspecified, loopback, the gateway's) are passed
 * over. */
void nssm_neigh_own(struct nssm_neigh *n, const uint8_t *addr, int ip_version);
/* A received frame. Returns the length of the answer written to out [NSSM_NEIGH_OUT_BYTES], 0: none; *mine: it was ARP, ND or an
 * echo request to self (not traffic). */
uint32_t nssm_neigh_frame(struct nssm_neigh *n, const uint8_t *frame, uint32_t len, uint64_t now_ns, uint8_t *out, bool *mine);
/* What is to be sent now on its own (questions for gateways): call until it gives 0. */
uint32_t nssm_neigh_poll(struct nssm_neigh *n, uint64_t now_ns, uint8_t *out);
/* True once known; ip_version 4 or 6. */
bool nssm_neigh_gateway(const struct nssm_neigh *n, int ip_version, uint8_t mac[6]);
bool nssm_neigh_resolved(const struct nssm_neigh *n); /* all gateways that are set */
const struct nssm_neigh_stats *nssm_neigh_stats(const struct nssm_neigh *n);

#endif
