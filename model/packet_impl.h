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
#define PROTO_TCP   6u
#define PROTO_UDP   17u
#define PROTO_ROUTE 43u
#define PROTO_FRAG  44u
#define PROTO_AH    51u
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

#endif
