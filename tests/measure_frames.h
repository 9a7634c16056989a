/* What test_measure.c, test_measure_ring.c and bench_measure.c share: frames with right checksums, and a NAT. */
#ifndef NSSM_TESTS_MEASURE_FRAMES_H
#define NSSM_TESTS_MEASURE_FRAMES_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "model/packet.h"

enum { TCP = 6, UDP = 17, ICMP = 1, ICMP6 = 58, GRE = 47 };
enum { FIN = 1, SYN = 2, ACK = 16 };

struct frame {
	uint8_t data[2048];
	uint32_t len, l3, l4, hdr; /* offsets of the IP and transport headers; the latter's length */
	uint32_t ip_end;
	int ip, proto;
};

/* What a frame is made of. */
struct spec {
	int ip, proto;       /* ip: 4 or 6 */
	uint32_t n_payload;
	uint32_t seq, ack;   /* TCP; ICMP: seq */
	uint8_t flags;       /* TCP; ICMP: type */
	uint8_t fill;        /* first byte of the payload */
	uint16_t id;         /* IPv4 */
	uint16_t sport, dport; /* 0: 40000, 443; ICMP: sport is the identifier */
	uint8_t src, dst;    /* last byte of the address; 0: 1, 2 */
	uint32_t n_tags, n_options; /* VLAN tags; bytes of IPv4 options or of an IPv6 hop-by-hop header, a multiple of 8 */
	uint32_t n_tcp_options;
	uint16_t frag;       /* IPv4 flags and offset */
};

static inline void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static inline unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

/* Writes the checksums that the frame should have. keep_none: UDP's 0 stays. */
static inline void sum_frame(struct frame *f, bool keep_none)
{
	uint8_t *ip = f->data + f->l3, *l4 = f->data + f->l4;
	uint32_t n = f->ip_end - f->l4;
	if (f->ip == 4) {
		put16(ip + 10, 0);
		put16(ip + 10, nssm_csum_fold(nssm_csum_add(0, ip, f->l4 - f->l3)));
	}
	if (f->proto == TCP || f->proto == UDP) {
		uint8_t *c = l4 + (f->proto == TCP ? 16 : 6);
		if (!(keep_none && f->proto == UDP && get16(c) == 0))
			put16(c, nssm_csum_l4(ip, f->ip, (uint8_t)f->proto, l4, n));
	} else if (f->proto == ICMP || f->proto == ICMP6) {
		put16(l4 + 2, 0);
		uint32_t sum = f->proto == ICMP ? 0 : nssm_csum_add(ICMP6 + n, ip + 8, 32);
		put16(l4 + 2, nssm_csum_fold(nssm_csum_add(sum, l4, n)));
	}
}

static inline void make_ip(struct frame *f, const struct spec *s, uint32_t n_l4)
{
	uint8_t *ip = f->data + f->l3, src = s->src != 0 ? s->src : 1, dst = s->dst != 0 ? s->dst : 2;
	if (s->ip == 4) {
		ip[0] = (uint8_t)(0x45 + s->n_options / 4);
		put16(ip + 2, 20 + s->n_options + n_l4);
		put16(ip + 4, s->id);
		put16(ip + 6, s->frag);
		ip[8] = 64;
		ip[9] = (uint8_t)s->proto;
		memcpy(ip + 12, (uint8_t[]){10, 0, 0, src, 10, 0, 1, dst}, 8);
		memset(ip + 20, 1, s->n_options);
		f->l4 = f->l3 + 20 + s->n_options;
		return;
	}
	ip[0] = 0x60;
	put16(ip + 4, s->n_options + n_l4);
	ip[6] = s->n_options > 0 ? 0 : (uint8_t)s->proto;
	ip[7] = 64;
	memcpy(ip + 8, (uint8_t[16]){0x20, 1, 0x0d, 0xb8, [15] = src}, 16);
	memcpy(ip + 24, (uint8_t[16]){0x20, 1, 0x0d, 0xb9, [15] = dst}, 16);
	if (s->n_options > 0) {
		memset(ip + 40, 0, s->n_options);
		ip[40] = (uint8_t)s->proto;
		ip[41] = (uint8_t)(s->n_options / 8 - 1);
	}
	f->l4 = f->l3 + 40 + s->n_options;
}

static inline struct frame make(const struct spec *s)
{
	struct frame f = {.ip = s->ip, .proto = s->proto, .l3 = 14 + 4 * s->n_tags};
	memcpy(f.data, (uint8_t[]){2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}, 12);
	for (uint32_t i = 0; i < s->n_tags; i++) {
		put16(f.data + 12 + 4 * i, 0x8100);
		put16(f.data + 14 + 4 * i, 100 + i);
	}
	put16(f.data + f.l3 - 2, s->ip == 4 ? 0x0800 : 0x86dd);
	f.hdr = s->proto == TCP ? 20 + s->n_tcp_options : s->proto == GRE ? 0 : 8;
	make_ip(&f, s, f.hdr + s->n_payload);
	uint8_t *l4 = f.data + f.l4;
	unsigned sport = s->sport != 0 ? s->sport : 40000, dport = s->dport != 0 ? s->dport : 443;
	if (s->proto == TCP) {
		put32(l4 + 4, s->seq);
		put32(l4 + 8, s->ack);
		l4[12] = (uint8_t)(f.hdr / 4 << 4);
		l4[13] = s->flags;
		put16(l4 + 14, 1000);
		memset(l4 + 20, 1, s->n_tcp_options);
	} else if (s->proto == UDP) {
		put16(l4 + 4, 8 + s->n_payload);
	} else if (s->proto == ICMP || s->proto == ICMP6) {
		l4[0] = s->flags;
		put16(l4 + 4, sport);
		put16(l4 + 6, s->seq);
	}
	if (s->proto == TCP || s->proto == UDP) {
		put16(l4, sport);
		put16(l4 + 2, dport);
	}
	for (uint32_t i = 0; i < s->n_payload; i++)
		l4[f.hdr + i] = (uint8_t)(s->fill + i * 7);
	f.ip_end = f.len = f.l4 + f.hdr + s->n_payload;
	assert(f.len <= sizeof f.data);
	sum_frame(&f, false);
	return f;
}

/* What a router with NAT makes of it: other MACs, no VLAN tags, TTL, DSCP, source address and port, ICMP identifier, checksums, and
 * with new_id the IPv4 ID; padded to 60 bytes. */
static inline struct frame nat(const struct frame *in, bool new_id)
{
	struct frame f = *in;
	uint32_t tags = in->l3 - 14;
	memmove(f.data + 14, in->data + in->l3, in->len - in->l3);
	memmove(f.data + 12, in->data + in->l3 - 2, 2);
	f.l3 -= tags;
	f.l4 -= tags;
	f.ip_end -= tags;
	f.len -= tags;
	memcpy(f.data, (uint8_t[]){2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8}, 12);
	uint8_t *ip = f.data + f.l3, *l4 = f.data + f.l4;
	if (f.ip == 4) {
		ip[1] = 0x28;
		ip[8]--;
		memcpy(ip + 12, (uint8_t[]){203, 0, 113, 7}, 4);
		if (new_id)
			put16(ip + 4, get16(ip + 4) * 40503u + 17);
	} else {
		ip[1] |= 0x80;
		ip[7]--;
		memcpy(ip + 8, (uint8_t[16]){0x20, 1, 0x0d, 0xba, [15] = 7}, 16);
	}
	if (f.proto == TCP || f.proto == UDP)
		put16(l4, get16(l4) ^ 0x1234);
	else if ((f.proto == ICMP && (l4[0] == 8 || l4[0] == 0)) || (f.proto == ICMP6 && l4[0] >= 128))
		put16(l4 + 4, get16(l4 + 4) ^ 0x1234);
	sum_frame(&f, true);
	if (f.len < 60) {
		memset(f.data + f.len, 0, 60 - f.len);
		f.len = 60;
	}
	return f;
}

#endif
