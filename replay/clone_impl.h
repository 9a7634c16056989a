/* clone_impl — what clone*.c share. Not for others. */
#ifndef NSSM_CLONE_IMPL_H
#define NSSM_CLONE_IMPL_H

#include "replay/clone.h"
#include "replay/tape_impl.h"

/* A pool as the packet loop wants it, and the MACs that go with its addresses. A cache line. */
struct nssm_side {
	uint64_t n;        /* addresses; 0: those of the capture stay */
	uint64_t inverse;  /* floor((2^64-1) / n) */
	uint64_t per_slot;
	uint64_t base_lo;  /* first address of the first network: IPv4 whole, IPv6 the last 8 bytes; host order */
	uint64_t base_hi;  /* IPv6: the first 8 bytes as they lie */
	uint64_t spare;
	uint64_t mac_base, mac_mask; /* MAC: base + (number & mask), unless there is a number of them to count round */
};
_Static_assert(sizeof(struct nssm_side) == 64, "a side is a cache line");

struct nssm_cloner {
	struct nssm_side side[2][4]; /* [IPv4, IPv6][enum nssm_role]; that of FIXED addresses has n = 0 */
	bool fast[2];         /* there are clients and servers, MACs by base and mask */
	bool many_nets[2];    /* more than one network in either pool: a side's base does not say it all */
	bool ports_by_flow[2]; /* the servers' pool is smaller than what a session may have */
	bool rewrite;
	bool set_macs;
	bool has_hop[2];
	bool strip;
	uint32_t tag_bytes;
	uint32_t port_lo, sockets_max;
	uint64_t hop[2];
	uint8_t tags[4 * NSSM_VLAN_TAGS_MAX];
	uint64_t n_slots;
	struct nssm_clone_cfg cfg;
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

/* What is random about a play's flow. Two rounds: the key is random already. */
static inline uint64_t nssm_flow_random(uint64_t key, uint32_t flow_idx)
{
	uint64_t x = (key ^ ((uint64_t)flow_idx + 1)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 32) * 0x94d049bb133111ebu;
	return x ^ x >> 32;
}
enum { NSSM_RANDOM_DNS = 1, NSSM_RANDOM_TLS, NSSM_RANDOM_SID = 1 << 16 };
static inline uint64_t nssm_purpose(uint64_t x, uint64_t purpose)
{
	return nssm_mix(x ^ purpose * 0xd1342543de82ef95u);
}
/* For timestamps: one round, as both halves of a flow's number are random already. */
static inline uint64_t nssm_ts_random(uint64_t flow_random)
{
	uint64_t x = (flow_random ^ flow_random >> 32) * 0xd1342543de82ef95u;
	return x ^ x >> 32;
}

/* What is added to a 16-bit identifier; not 0. */
static inline uint32_t nssm_id_offset(uint64_t random)
{
	return (uint32_t)(random >> 48) | 1;
}
/* Ones' complement addition: 1..65535 are permuted and 0, which stands for none, stays. */
static inline uint32_t nssm_id_add(uint32_t id, uint32_t offset)
{
	uint32_t s = id + offset;
	return id == 0 ? 0 : (s & 0xffff) + (s >> 16);
}
static inline uint32_t nssm_ip_id_offset(uint64_t key, uint32_t role, uint32_t idx)
{
	return nssm_id_offset((key ^ ((uint64_t)idx << 2 | role)) * 0xd1342543de82ef95u);
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
	const struct nssm_side *s = &c->side[v6][role];
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
	if (rule == NSSM_PORT_KEPT || c->side[v6][NSSM_ROLE_CLIENT].n + (rule == NSSM_PORT_SERVER ? c->side[v6][NSSM_ROLE_SERVER].n : 0) == 0)
		return (uint16_t)port;
	if (rule == NSSM_PORT_IN_RANGE && (port < c->cfg.port_lo || port > c->cfg.port_hi))
		return (uint16_t)port;
	uint32_t socket = c->ports_by_flow[v6] ? f->idx : f->socket[i];
	return (uint16_t)(c->port_lo + block * c->sockets_max + nssm_below(socket, c->sockets_max));
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
	return c->side[v6][role].n != 0;
}

/* The address of a role's number: 4 or 16 bytes. */
void nssm_clone_addr(uint8_t *addr, const struct nssm_cloner *c, bool v6, uint32_t role, uint64_t number);

static inline uint64_t nssm_mac_value(const uint8_t mac[6])
{
	return (uint64_t)nssm_get16(mac) << 32 | nssm_get32(mac + 2);
}
/* 48 bits. captured: what the frame says. */
uint64_t nssm_clone_mac(const struct nssm_cloner *c, uint32_t role, uint64_t number, uint64_t captured);

/* The echo identifier of a flow: the port of whichever end's is mapped. */
static inline uint16_t nssm_map_echo(const struct nssm_flow *f, const struct nssm_mapped m[2])
{
	return f->port_rule[0] != NSSM_PORT_KEPT ? m[0].port : m[1].port;
}

/* A record's patches, on the frame in dst; shift: how far what lies behind the MACs has moved. macs_only: addresses and numbers
 * stay. Returns what the packet's own checksum has to take. */
uint32_t nssm_clone_patch(const struct nssm_cloner *c, uint8_t *dst, int shift, const struct nssm_rec *rec,
	const struct nssm_play_id *id, bool macs_only);

/* --- checksums: ones' complement sums of big-endian 16-bit words, carries not yet added --- */

/* A half added to its own rotation: what is carried out of the lower sum is just what the upper one lacks. */
static inline uint16_t nssm_sum_fold(uint64_t s)
{
	uint32_t t = (uint32_t)((s + (s << 32 | s >> 32)) >> 32);
	return (uint16_t)((t + (t << 16 | t >> 16)) >> 16);
}
/* RFC 1624, equation 3: sum holds the new words and the complements of the old ones. */
static inline void nssm_sum_apply(uint8_t *csum, uint16_t was, uint64_t sum, bool udp)
{
	if (udp && was == 0)
		return; /* none (RFC 768) */
	uint16_t is = (uint16_t)~nssm_sum_fold(sum + (uint16_t)~was);
	if (udp && is == 0)
		is = 0xffff;
	is = __builtin_bswap16(is);
	memcpy(csum, &is, 2);
}
static inline uint32_t nssm_get_be16(const uint8_t *p)
{
	uint16_t w;
	memcpy(&w, p, 2);
	return __builtin_bswap16(w);
}
static inline uint32_t nssm_get_be32(const uint8_t *p)
{
	uint32_t w;
	memcpy(&w, p, 4);
	return __builtin_bswap32(w);
}
static inline void nssm_put16(uint8_t *p, uint32_t v)
{
	uint16_t w = __builtin_bswap16((uint16_t)v);
	memcpy(p, &w, 2);
}
static inline void nssm_put64(uint8_t *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, 8);
}
static inline void nssm_put32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, 4);
}

#endif
