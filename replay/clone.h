/* clone — a session sent again as a new one: own addresses, ports, MACs, ISNs, TCP timestamps, IP IDs, DNS ids, TLS randoms and
 * session ids; both directions coherent; checksums updated incrementally.
 * Source : RFC 1624 eqn. 3 (HC' = ~(~HC + ~m + m')); a 32-bit field to which a constant is added changes the sum by that constant
 *          mod 65535, and by one less where it wraps, since 2^32 = 1 (mod 65535).
 * Unique : a play occupies one slot; no two plays that are alive share one (the engine's duty). Slot s owns the addresses
 *          numbered u = s*endpoints_max + idx; number u is address u mod A of the pool (A addresses) and port block u div A,
 *          blocks of sockets_max ports from port_lo on. So flows of different slots never share (client address, client port),
 *          whatever the servers are. capacity = A * floor((port_hi-port_lo+1) / sockets_max) / endpoints_max, for IPv4 and IPv6
 *          each. Endpoints and sockets beyond these maxima fold onto the slot's own (counted by the engine from the tape).
 *          Clients' and servers' pools share no address.
 * Ports  : a client's port goes into its slot's block, also where a server opens the flow to it. Between two clients the one that
 *          is connected to keeps its port if it lies outside the range of client ports. A server that opens a flow to another
 *          server gets a port of the block that its own number has: unique as long as the servers' pool has as many addresses
 *          as the slots have servers, over the number of blocks. All other ports stay. Echo identifiers go as client ports do.
 *          Flows without ports (tunnels, ICMP errors, later fragments) have their addresses mapped only.
 * Servers: server idx of slot s is address (s*servers_max + idx) mod A of the servers' pool; server ports stay. If the pool is
 *          smaller than servers_max, the flow's number in the tape takes the place of the socket's.
 * Keys   : everything random (ISN, TS, IP ID, DNS id, TLS) is a mix of `key` and the flow's number; key = (seed, session, clone).
 *          IP IDs: of the sender, so that fragments stay together; IP IDs and DNS ids of 0 stay 0. TLS session ids: of the
 *          session, so that resumption on another flow stays one. TLS: hellos in the first records of a TCP segment, and what is
 *          sent again of them; HelloRetryRequest's random and a downgrade sentinel stay.
 * Not    : opaque flows (tape.h) get new addresses in their headers, and nothing inside. ARP: sender and target addresses are
 *          mapped. ICMP errors: the quoted packet is mapped too, as far as it is quoted. ND: targets, and link-layer addresses
 *          in options. DNS over TCP, mDNS and LLMNR keep their ids. Packets without a flow are sent as they are but for MAC and
 *          VLAN. A checksum that was wrong stays as wrong; UDP's 0 (none) stays 0 and nothing else becomes 0. TCP/UDP checksums
 *          of packets cut by the capture are updated as if whole. Tunnels, routing headers: nothing inside.
 * MACs   : of endpoints as below; groups stay; who is no endpoint of the flow (multicast's, DHCP's, not IP at all) has the MAC of the
 *          slot's first client or server, so that no captured MAC of a host is sent when rewriting.
 * Speed  : tests/bench_clone.c
 * Checked: tests/test_clone.c, test_clone_maps.c, test_clone_apps.c, tests/clones.py (tcptrace, tshark), tests/fuzz/fuzz_tape.c                                     */
#ifndef NSSM_CLONE_H
#define NSSM_CLONE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/tape.h"

#define NSSM_POOL_NETS_MAX 64
#define NSSM_VLAN_TAGS_MAX 2

/* Addresses numbered from 0: a list of networks, one after the other. The network and broadcast address of an IPv4 network
 * shorter than /31 are left out; of IPv6 networks the first address; no network counts for more than 2^32. */
struct nssm_pool {
	uint8_t ip_version;
	uint32_t n_nets;
	uint64_t n_addrs;
	struct {
		uint8_t base[16];  /* the address of number first; IPv4: the first 4 bytes */
		uint64_t first, n; /* numbers first .. first+n-1 */
	} net[NSSM_POOL_NETS_MAX];
};
/* Adds "198.18.0.0/16", "2001:db8::/48" or a single address; the IP version must be the pool's (0: becomes it). Refused: host
 * bits set, addresses that no host has (multicast, broadcast, unspecified), and those that the pool has already. */
int nssm_pool_add(struct nssm_pool *p, const char *text, struct nssm_err *err);
/* Takes an address out again (a router's own, say); false: it has none such, or no room for another gap. */
bool nssm_pool_remove(struct nssm_pool *p, const uint8_t *addr);
void nssm_pool_addr(uint8_t addr[16], const struct nssm_pool *p, uint64_t number);
/* The other way round; false: none of the pool's. addr has the pool's IP version: 4 or 16 bytes. */
bool nssm_pool_number(uint64_t *number, const struct nssm_pool *p, const uint8_t *addr);
/* Whether an address is in both. */
bool nssm_pool_overlap(const struct nssm_pool *a, const struct nssm_pool *b);

struct nssm_vlan_tag { uint16_t tpid, tci; };

struct nssm_clone_cfg {
	bool rewrite;                       /* false: addresses, ports and numbers stay; MACs and VLAN tags are set all the same */
	struct nssm_pool clients[2], servers[2]; /* IPv4, IPv6 */
	uint16_t port_lo, port_hi;          /* of clients */
	uint32_t endpoints_max, sockets_max, servers_max;
	/* MACs: of clients (0) and servers (1). n_macs 0: with rewrite, 02:00:00 (clients) or 02:00:01 (servers) and the address
	 * number's low 24 bits; without, as captured. 1: this one for all (a port's own, or the gateway's). More: base + number. */
	uint64_t mac_base[2], n_macs[2];
	/* For live ports in front of a router: destination MAC of packets that leave the client side (0) and the server side (1);
	 * zero: by the rule above. */
	uint8_t next_hop[2][6];
	uint32_t n_tags;                    /* VLAN tags pushed in front of those that there are; tag[0] is the outer one */
	struct nssm_vlan_tag tag[NSSM_VLAN_TAGS_MAX];
	bool strip_tags;                    /* those of the capture are taken away first */
};

struct nssm_cloner;
int nssm_cloner_open(struct nssm_cloner **c, const struct nssm_clone_cfg *cfg, struct nssm_err *err);
void nssm_cloner_close(struct nssm_cloner **c);
/* Gateways are resolved after the start. */
void nssm_cloner_set_next_hop(struct nssm_cloner *c, int side, const uint8_t mac[6]);
/* Slots that exist: the smaller capacity of those IP versions whose pools are not empty; UINT64_MAX without rewriting. */
uint64_t nssm_cloner_slots(const struct nssm_cloner *c);

struct nssm_play_id {
	uint64_t key;   /* nssm_clone_key */
	uint64_t slot;  /* below nssm_cloner_slots */
};
uint64_t nssm_clone_key(uint64_t seed, uint64_t session, uint32_t clone);

/* Longest frame that nssm_clone_write makes of a record. */
static inline uint32_t nssm_clone_len_max(const struct nssm_rec *rec) { return rec->len + 4 * NSSM_VLAN_TAGS_MAX; }
/* Writes the frame into dst (room for nssm_clone_len_max + 64 bytes) and returns its length; *wirelen is its wire length. */
uint32_t nssm_clone_write(const struct nssm_cloner *c, uint8_t *dst, uint32_t *wirelen, const struct nssm_tape *t,
	const struct nssm_rec *rec, const struct nssm_play_id *id);

/* For records that are written soon: plays take turns, so no two in a row lie together in memory. The first one some six packets
 * ahead, the second, which looks into the record, two ahead. Worth a tenth of the time in cache, half of it beyond. */
static inline void nssm_clone_prefetch(const struct nssm_rec *rec)
{
	for (uint32_t i = 0; i < 256; i += 64)
		__builtin_prefetch((const char *)rec + i);
}
static inline void nssm_clone_prefetch_rest(const struct nssm_rec *rec)
{
	for (uint32_t i = 192; i < rec->stored && i < 2048; i += 64)
		__builtin_prefetch((const char *)(rec + 1) + i);
}

/* A flow's ends as sent. */
struct nssm_tuple {
	uint8_t addr[2][16]; /* [0] the initiator */
	uint16_t port[2];
	uint8_t proto, ip_version;
};
void nssm_clone_tuple(struct nssm_tuple *tuple, const struct nssm_cloner *c, const struct nssm_tape *t, const struct nssm_flow *f,
	const struct nssm_play_id *id);

#endif
