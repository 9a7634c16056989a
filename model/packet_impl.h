/* packet_impl — numbers and byte order that packet.c and packet_repair.c share. Not for others. */
#ifndef NSSM_PACKET_IMPL_H
#define NSSM_PACKET_IMPL_H

#include "model/packet.h"

#define ETH_LEN 14u
#define IP6_LEN 40u
#define UDP_LEN 8u
#define TCP_LEN 20u

/* IP protocol numbers */
#define PROTO_HBH   0u
#define PROTO_ICMP  1u
#define PROTO_TCP   6u
#define PROTO_UDP   17u
#define PROTO_ROUTE 43u
#define PROTO_FRAG  44u
#define PROTO_AH    51u
#define PROTO_ICMP6 58u
#define PROTO_DEST  60u

/* Big-endian, unaligned. */
static inline uint32_t get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t get32(const uint8_t *p)
{
	return get16(p) << 16 | get16(p + 2);
}

static inline void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

/* What a transport checksum takes in of the IP header at l3; ICMP takes in nothing (RFC 792). */
static inline uint32_t csum_pseudo(const uint8_t *l3, int ip_version, uint8_t proto, uint32_t l4_len)
{
	if (ip_version == 4 && proto == PROTO_ICMP)
		return 0;
	uint32_t sum = ip_version == 4 ? nssm_csum_add(0, l3 + 12, 8) : nssm_csum_add(0, l3 + 8, 32);
	return sum + proto + (l4_len >> 16) + (l4_len & 0xffff);
}

#endif
