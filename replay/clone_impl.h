/* clone_impl — what clone*.c share. Not for others. */
#ifndef NSSM_CLONE_IMPL_H
#define NSSM_CLONE_IMPL_H

#include "replay/clone.h"
#include "replay/tape_impl.h"

/* A pool as the packet loop wants it. */
struct nssm_side {
	uint64_t n;       /* addresses; 0: those of the capture stay */
	uint64_t inverse; /* floor((2^64-1) / n) */
	uint64_t per_slot;
	bool one_net;
	uint32_t base4;   /* one_net: host order */
	uint64_t base_hi, base_lo; /* one_net, IPv6: the first 8 bytes as they lie, the last 8 in host order */
	const struct nssm_pool *pool;
};

struct nssm_cloner {
	struct nssm_clone_cfg cfg;
	struct nssm_side side[2][2]; /* [IPv4, IPv6][clients, servers] */
	bool ports_by_flow[2];       /* the servers' pool is smaller than what a session may have */
	uint32_t n_blocks;
	uint64_t n_slots;
	bool set_macs;
	bool has_hop[2];
	uint64_t hop[2];
	uint32_t tag_bytes;
	uint8_t tags[4 * NSSM_VLAN_TAGS_MAX];
};

/* A flow's end as sent. */
struct nssm_mapped {
	uint64_t number; /* of the address in its pool */
	uint32_t block;  /* of ports */
	uint16_t port;   /* host order */
};

/* The finaliser of splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t nssm_mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* What is random about a play: one number a purpose. */
static inline uint64_t nssm_flow_random(uint64_t key, uint32_t flow_idx)
{
	return nssm_mix(key + (flow_idx + 1u) * 0x9e3779b97f4a7c15u);
}
enum { NSSM_RANDOM_TS = 1, NSSM_RANDOM_DNS, NSSM_RANDOM_TLS, NSSM_RANDOM_IP_ID = 1 << 16, NSSM_RANDOM_SID };
static inline uint64_t nssm_purpose(uint64_t x, uint64_t purpose)
{
	return nssm_mix(x ^ purpose * 0xd1342543de82ef95u);
}

/* What is added to a 16-bit identifier: 1 to 65534. */
static inline uint32_t nssm_id_offset(uint64_t random)
{
	return 1 + (uint32_t)((random >> 48) * 65534 >> 16);
}
/* Ones' complement addition: 1..65535 are permuted and 0, which stands for none, stays. */
static inline uint32_t nssm_id_add(uint32_t id, uint32_t offset)
{
	uint32_t s = id + offset;
	return id == 0 ? 0 : (s & 0xffff) + (s >> 16);
}
static inline uint32_t nssm_ip_id_offset(uint64_t key, uint32_t role, uint32_t idx)
{
	return nssm_id_offset(nssm_purpose(key, NSSM_RANDOM_IP_ID + ((uint64_t)idx << 8 | role) * 4));
}

__extension__ typedef unsigned __int128 nssm_u128;

/* u div n, u mod n. u * inverse >> 64 is the quotient or one less. */
static inline uint64_t nssm_divide(uint64_t *rest, const struct nssm_side *s, uint64_t u)
{
	uint64_t q = (uint64_t)((nssm_u128)u * s->inverse >> 64), r = u - q * s->n;
	bool more = r >= s->n;
	*rest = more ? r - s->n : r;
	return q + more;
}

static inline uint32_t nssm_below(uint32_t idx, uint32_t max)
{
	return __builtin_expect(idx < max, 1) ? idx : idx % max;
}

/* Number and port block of an endpoint. */
static inline void nssm_map_endpoint(struct nssm_mapped *m, const struct nssm_cloner *c, bool v6, uint32_t role, uint32_t idx,
	uint64_t slot)
{
	const struct nssm_side *s = &c->side[v6][role == NSSM_ROLE_SERVER];
	uint64_t u = slot * s->per_slot + nssm_below(idx, (uint32_t)s->per_slot);
	m->number = u;
	m->block = (uint32_t)u;
	if (s->n != 0)
		m->block = (uint32_t)nssm_divide(&m->number, s, u);
}

static inline uint16_t nssm_map_port(const struct nssm_cloner *c, const struct nssm_flow *f, int i, uint32_t block)
{
	uint32_t port = f->port[i];
	uint8_t rule = f->port_rule[i];
	bool v6 = f->ip_version == 6;
	if (rule == NSSM_PORT_KEPT || c->side[v6][rule == NSSM_PORT_SERVER].n + c->side[v6][0].n == 0)
		return (uint16_t)port;
	if (rule == NSSM_PORT_IN_RANGE && (port < c->cfg.port_lo || port > c->cfg.port_hi))
		return (uint16_t)port;
	uint32_t socket = c->ports_by_flow[v6] ? f->idx : f->socket[i];
	return (uint16_t)(c->cfg.port_lo + nssm_below(block, c->n_blocks) * c->cfg.sockets_max + nssm_below(socket, c->cfg.sockets_max));
}

/* Both ends. */
static inline void nssm_map_flow(struct nssm_mapped m[2], const struct nssm_cloner *c, const struct nssm_flow *f, uint64_t slot)
{
	for (int i = 0; i < 2; i++) {
		nssm_map_endpoint(&m[i], c, f->ip_version == 6, f->end_role[i], f->end_idx[i], slot);
		m[i].port = nssm_map_port(c, f, i, m[i].block);
	}
}

static inline bool nssm_is_mapped(const struct nssm_cloner *c, bool v6, uint32_t role)
{
	return role != NSSM_ROLE_FIXED && c->side[v6][role == NSSM_ROLE_SERVER].n != 0;
}

/* 4 or 16 bytes. */
void nssm_side_addr(uint8_t *addr, const struct nssm_side *s, bool v6, uint64_t number);

/* 48 bits. captured: what the frame says. */
uint64_t nssm_clone_mac(const struct nssm_cloner *c, uint32_t role, uint64_t number, uint64_t captured);

/* The echo identifier of a flow: the port of whichever end's is mapped. */
static inline uint16_t nssm_map_echo(const struct nssm_flow *f, const struct nssm_mapped m[2])
{
	return f->port_rule[0] != NSSM_PORT_KEPT ? m[0].port : m[1].port;
}

/* A record's patches, on the frame in dst; shift: how far what lies behind the MACs has moved. macs_only: addresses and numbers
 * stay. Returns what the packet's own checksum has to take: a ones' complement sum in the machine's byte order. */
uint32_t nssm_clone_patch(const struct nssm_cloner *c, uint8_t *dst, int shift, const struct nssm_rec *rec,
	const struct nssm_play_id *id, bool macs_only);

/* --- checksums: sums of words in the machine's byte order (RFC 1071, section 2 (B)) --- */

static inline uint32_t nssm_sum_fold(uint64_t s)
{
	s = (s & 0xffffffffu) + (s >> 32);
	s = (s & 0xffff) + (s >> 16 & 0xffff) + (s >> 32);
	s = (s & 0xffff) + (s >> 16);
	return (uint32_t)((s & 0xffff) + (s >> 16));
}
/* RFC 1624, equation 3: sum holds the new words and the complements of the old ones. */
static inline void nssm_sum_apply(uint8_t *csum, uint64_t sum, bool udp)
{
	uint16_t was, is;
	memcpy(&was, csum, 2);
	if (udp && was == 0)
		return; /* none (RFC 768) */
	is = (uint16_t)~nssm_sum_fold(sum + (uint16_t)~was);
	if (udp && is == 0)
		is = 0xffff;
	memcpy(csum, &is, 2);
}
static inline void nssm_put16(uint8_t *p, uint32_t v)
{
	uint16_t w = __builtin_bswap16((uint16_t)v);
	memcpy(p, &w, 2);
}
static inline void nssm_put32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, 4);
}

#endif
