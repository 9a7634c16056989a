/* Codec `flow` on sessions made for what is awkward in them: each comes back byte for byte with every configuration that keeps addresses,
 * cut at every packet and at every token; with identity pool no address is left, and what TCP says still fits together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "model/iat.h"
#include "model/packet_impl.h"
#include "tests/flow_rig.h"

#define MOST_PACKETS 3000

static struct session {
	struct nssm_pkt pkt[MOST_PACKETS];
	uint32_t n;
	uint64_t ts;
	struct nssm_rng rng;
	uint8_t *data;
	size_t n_bytes, room;
	size_t at[MOST_PACKETS];
} s;

/* --- frames ------------------------------------------------------------------------------------------------------------- */

struct spec {
	uint8_t mac[2][6], addr[2][16]; /* source, destination */
	uint8_t ver, n_tags, tag[20], ttl, tos, proto, flags, res, first_ext, icmp_type;
	uint16_t id, frag, port[2], win, urg;
	uint32_t label, seq, ack, n_ipopt, n_opt, len, trailer;
	uint8_t ipopt[64], opt[40]; /* IPv6: extension headers, first_ext the first one's number */
	uint32_t snap;              /* captured bytes; 0: all */
	uint8_t bad;                /* 1 IP checksum, 2 transport checksum, 4 it is 0, 8 only the pseudo header's, 16 IP length, 32 UDP length */
	uint8_t payload;            /* each byte of it */
};

static uint32_t below(uint32_t n)
{
	return nssm_rng_below(&s.rng, n);
}

static void push_frame(const uint8_t *f, uint32_t wirelen, uint32_t caplen)
{
	assert_true(s.n < MOST_PACKETS);
	if (s.n_bytes + caplen > s.room) {
		s.room = 2 * s.room + caplen;
		s.data = realloc(s.data, s.room);
		assert_non_null(s.data);
	}
	memcpy(s.data + s.n_bytes, f, caplen);
	s.at[s.n] = s.n_bytes;
	s.n_bytes += caplen;
	s.pkt[s.n++] = (struct nssm_pkt){.ts_ns = s.ts, .wirelen = wirelen, .caplen = caplen};
}

static uint32_t put_ip(uint8_t *o, const struct spec *p, uint32_t behind)
{
	if (p->ver == 6) {
		put32(o, 6u << 28 | (uint32_t)p->tos << 20 | p->label);
		put16(o + 4, p->n_ipopt + behind);
		o[6] = p->n_ipopt > 0 ? p->first_ext : p->proto;
		o[7] = p->ttl;
		memcpy(o + 8, p->addr, 32);
		memcpy(o + 40, p->ipopt, p->n_ipopt);
		return 40 + p->n_ipopt;
	}
	uint32_t n = 20 + p->n_ipopt;
	o[0] = (uint8_t)(0x40 | n / 4);
	o[1] = p->tos;
	put16(o + 2, (p->bad & 16) != 0 ? 0 : n + behind);
	put16(o + 4, p->id);
	put16(o + 6, p->frag);
	o[8] = p->ttl;
	o[9] = p->proto;
	memcpy(o + 12, p->addr[0], 4);
	memcpy(o + 16, p->addr[1], 4);
	memcpy(o + 20, p->ipopt, p->n_ipopt);
	put16(o + 10, nssm_csum_fold(nssm_csum_add(0, o, n)) + ((p->bad & 1) != 0 ? 7u : 0));
	return n;
}

static void put_csum(uint8_t *at, const struct spec *p, const uint8_t *l3, const uint8_t *l4, uint32_t n)
{
	bool v6 = p->ver == 6, icmp4 = p->proto == 1;
	uint32_t pseudo = icmp4 ? 0 : nssm_csum_add(n + p->proto, l3 + (v6 ? 8 : 12), v6 ? 32 : 8);
	uint16_t c = nssm_csum_fold(nssm_csum_add(pseudo, l4, n));
	if (c == 0 && p->proto == PROTO_UDP)
		c = 0xffff;
	if ((p->bad & 8) != 0)
		c = (uint16_t)~nssm_csum_fold(pseudo);
	if ((p->bad & 2) != 0)
		c = (uint16_t)(c ^ 0x0101);
	put16(at, (p->bad & 4) != 0 ? 0 : c);
}

static void push(const struct spec *p)
{
	static uint8_t f[70000];
	memcpy(f, p->mac[1], 6);
	memcpy(f + 6, p->mac[0], 6);
	memcpy(f + 12, p->tag, 4u * p->n_tags);
	uint32_t l3 = 14 + 4u * p->n_tags, hdr = p->proto == PROTO_TCP ? TCP_LEN + p->n_opt : p->proto == PROTO_UDP || p->icmp_type ? 8 : 0;
	put16(f + l3 - 2, p->ver == 6 ? 0x86dd : 0x0800);
	memset(f + l3, 0, 512);
	uint32_t l4 = l3 + put_ip(f + l3, p, hdr + p->len);
	uint8_t *o = f + l4;
	memset(o + hdr, p->payload, p->len);
	if (hdr > 0 && p->icmp_type == 0) {
		put16(o, p->port[0]);
		put16(o + 2, p->port[1]);
	}
	if (p->proto == PROTO_TCP) {
		put32(o + 4, p->seq);
		put32(o + 8, p->ack);
		o[12] = (uint8_t)(hdr / 4 << 4 | (p->res & 15));
		o[13] = p->flags;
		put16(o + 14, p->win);
		put16(o + 18, p->urg);
		memcpy(o + 20, p->opt, p->n_opt);
		put_csum(o + 16, p, f + l3, o, hdr + p->len);
	} else if (p->proto == PROTO_UDP) {
		put16(o + 4, 8 + p->len + ((p->bad & 32) != 0 ? 3 : 0));
		put_csum(o + 6, p, f + l3, o, hdr + p->len);
	} else if (p->icmp_type != 0 || hdr > 0) {
		o[0] = p->icmp_type == 255 ? 0 : p->icmp_type; /* echo reply */
		put16(o + 4, p->port[0]);
		put16(o + 6, p->port[1]);
		put_csum(o + 2, p, f + l3, o, hdr + p->len);
	}
	uint32_t end = l4 + hdr + p->len;
	memset(f + end, 0, 64);
	if (p->trailer == 60 && end < 60)
		end = 60;
	else
		for (uint32_t i = 0; i < p->trailer; i++)
			f[end++] = (uint8_t)(i + 1);
	push_frame(f, end, p->snap != 0 && p->snap < end ? p->snap : end);
}

/* --- conversations ---------------------------------------------------------------------------------------------------------- */

struct conv {
	struct spec end[2]; /* what each sends */
	uint32_t nxt[2], ts[2], echo[2]; /* echo: the last timestamp heard */
	bool with_ts;
};

static void address(uint8_t a[16], int ver, uint32_t host)
{
	memset(a, 0, 16);
	if (ver == 6) {
		put32(a, 0x20010470);
		put32(a + 8, 0xfeed0000 + host);
		put32(a + 12, 0xbeef0000 + host);
	} else {
		put32(a, (host & 1 ? 0x5bc60000u : 0x0a4d0000u) + 0x1101 + host);
	}
}

static struct conv conv(int ver, uint32_t a, uint32_t b, uint16_t port)
{
	struct conv c = {.with_ts = true};
	const uint32_t host[2] = {a, b};
	for (int d = 0; d < 2; d++) {
		struct spec *p = &c.end[d];
		*p = (struct spec){.ver = (uint8_t)ver, .ttl = d ? 57 : 64, .proto = PROTO_TCP, .win = (uint16_t)(500 + d), .frag = 0x4000};
		for (int k = 0; k < 2; k++) {
			put32(p->mac[k], 0xd8cb8a00);
			put16(p->mac[k] + 4, 0x7100 + host[k ^ d]);
			address(p->addr[k], ver, host[k ^ d]);
			p->port[k] = (k ^ d) != 0 ? 443 : port;
		}
		p->id = ver == 4 ? (uint16_t)below(65536) : 0;
		c.nxt[d] = nssm_rng_u32(&s.rng);
		c.ts[d] = nssm_rng_u32(&s.rng);
	}
	return c;
}

/* The packet that comes next that way; the caller may change it before it is pushed. */
static struct spec next(struct conv *c, int dir, uint8_t flags, uint32_t len)
{
	struct spec *p = &c->end[dir], r;
	uint64_t gap = 1000 + below(3000000);
	s.ts += gap;
	p->id = p->ver == 4 ? (uint16_t)(p->id + 1) : 0;
	p->seq = c->nxt[dir];
	p->flags = flags;
	p->ack = (flags & 0x10) != 0 ? c->nxt[!dir] : 0;
	p->len = len;
	c->nxt[dir] += len + ((flags & 2) != 0) + ((flags & 1) != 0);
	c->ts[dir] += (uint32_t)(gap / 1000000);
	r = *p;
	static const uint8_t syn[20] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7}, nnt[4] = {1, 1, 8, 10};
	if (c->with_ts && (flags & 4) == 0) {
		bool open = (flags & 2) != 0;
		r.n_opt = open ? 20 : 12;
		memcpy(r.opt, open ? syn : nnt, open ? 20 : 4);
		put32(r.opt + (open ? 8 : 4), c->ts[dir]);
		put32(r.opt + (open ? 12 : 8), (flags & 0x10) != 0 ? c->echo[dir] : 0);
		c->echo[!dir] = c->ts[dir];
	}
	return r;
}

static void say(struct conv *c, int dir, uint8_t flags, uint32_t len)
{
	struct spec p = next(c, dir, flags, len);
	push(&p);
}

static void shake(struct conv *c)
{
	say(c, 0, 0x02, 0);
	say(c, 1, 0x12, 0);
	say(c, 0, 0x10, 0);
}

/* --- sessions ------------------------------------------------------------------------------------------------------------------ */

static void plain(void)
{
	for (int ver = 4; ver <= 6; ver += 2) {
		struct conv c = conv(ver, 1, 2, 40000);
		shake(&c);
		for (int i = 0; i < 10; i++) {
			say(&c, 0, 0x18, 100 + 7 * (uint32_t)i);
			say(&c, 1, 0x10, 0);
			say(&c, 1, 0x10, 1448);
			say(&c, 1, 0x18, below(1448));
			say(&c, 0, 0x10, 0);
		}
		say(&c, 0, 0x11, 0);
		say(&c, 1, 0x11, 0);
		say(&c, 0, 0x10, 0);
	}
}

static void retransmitted(void)
{
	struct conv c = conv(4, 1, 2, 40000);
	shake(&c);
	uint32_t sent[100];
	for (uint32_t i = 0; i < 100; i++) {
		struct spec p = next(&c, 1, 0x10, 1000);
		sent[i] = p.seq;
		if (i % 5 != 3)
			push(&p);
		p.seq = sent[below(i + 1)]; /* whole, overlapping at either side, out of order */
		p.seq += i % 3 == 0 ? 0 : i % 3 == 1 ? 300 : (uint32_t)-300;
		p.len = i % 4 == 0 ? 1400 : 1000;
		if (i % 2 == 0)
			push(&p);
		struct spec a = next(&c, 0, 0x10, 0);
		a.ack = sent[below(i + 1)] + (i % 7 == 0 ? 500 : 1000);
		push(&a);
	}
}

static void wraps(void)
{
	struct conv c = conv(4, 1, 2, 40000);
	for (int d = 0; d < 2; d++) {
		c.nxt[d] = 0u - 5000 - (uint32_t)d;
		c.ts[d] = 0u - 20;
		c.end[d].id = 65530;
	}
	shake(&c);
	for (int i = 0; i < 40; i++) {
		say(&c, i % 2, 0x18, 700);
		say(&c, i % 2, 0x10, 1);
		say(&c, 1 - i % 2, 0x10, 0);
	}
}

static void odd_states(void)
{
	struct conv c = conv(4, 1, 2, 40000);
	say(&c, 0, 0x02, 0); /* both at once */
	say(&c, 1, 0x02, 0);
	struct spec p = next(&c, 0, 0x12, 0);
	p.seq--;
	push(&p);
	c.nxt[0]--;
	p = next(&c, 1, 0x12, 0);
	p.seq--;
	push(&p);
	c.nxt[1]--;
	say(&c, 0, 0x10, 0);
	for (int i = 0; i < 5; i++) { /* zero window, probes, keep-alives */
		p = next(&c, 1, 0x10, 0);
		p.win = 0;
		push(&p);
		p = next(&c, 0, 0x10, (uint32_t)i % 2);
		p.seq--;
		push(&p);
		c.nxt[0] -= (uint32_t)i % 2;
	}
	say(&c, 0, 0x04, 0);
	say(&c, 1, 0x14, 0);
	say(&c, 1, 0x10, 10); /* goes on after RST */
	c = conv(4, 1, 3, 40001); /* half open: it was there before */
	for (int i = 0; i < 6; i++)
		say(&c, i % 2, i % 3 == 0 ? 0x18 : 0x10, 50);
	static const uint8_t flags[] = {0x00, 0x01, 0x03, 0x06, 0x07, 0x29, 0x3f, 0xff, 0xc2, 0x52, 0x08, 0x20, 0x02, 0x12};
	for (unsigned i = 0; i < sizeof flags; i++) { /* flags that nobody sends, with and without bytes; of new flows, too */
		say(&c, (int)i % 2, flags[i], i % 3);
		struct conv n = conv(i % 2 ? 6 : 4, 1, 4, (uint16_t)(41000 + i));
		say(&n, 0, flags[i], 4 - i % 4);
		p = next(&n, 1, flags[i], 0);
		p.ack = below(5);
		push(&p);
	}
}

static void reused_ports(void)
{
	for (int i = 0; i < 6; i++) {
		struct conv c = conv(i % 3 == 2 ? 6 : 4, 1, 2, 40000);
		shake(&c);
		say(&c, 0, 0x18, 30);
		say(&c, 0, 0x02, 0); /* of the same ends, while open; sent again */
		struct spec p = next(&c, 0, 0x02, 0);
		p.seq--;
		push(&p);
		if (i % 2 == 0) {
			say(&c, 0, 0x11, 0);
			say(&c, 1, 0x11, 0);
		} else {
			say(&c, 1, 0x04, 0);
		}
		struct conv back = conv(4, 2, 1, 443); /* the other way round */
		back.end[0].port[1] = back.end[1].port[0] = 40000;
		shake(&back);
	}
	struct conv self = conv(4, 1, 1, 443); /* with itself */
	shake(&self);
	self.end[0].proto = self.end[1].proto = PROTO_UDP;
	for (int i = 0; i < 4; i++)
		say(&self, i % 2, 0, 5);
}

static void fragments(void)
{
	for (int i = 0; i < 30; i++) {
		struct conv c = conv(i % 4 == 3 ? 6 : 4, 1, 2, 40000);
		c.with_ts = false;
		struct spec p = next(&c, i % 2, 0x18, 64);
		static const uint16_t frag[] = {0x2000, 0x0008, 0x2009, 0x6000, 0x8000, 0xc000, 0x1fff, 0};
		p.frag = frag[i % 8];
		p.proto = i % 3 == 0 ? PROTO_UDP : i % 3 == 1 ? PROTO_TCP : 1;
		if (p.ver == 6) {
			p.first_ext = PROTO_FRAG;
			p.n_ipopt = 8;
			p.ipopt[0] = p.proto;
			p.ipopt[3] = (uint8_t)(i & 1);
		}
		push(&p);
	}
}

static void tags(void)
{
	static const uint8_t tag[20] = {0x88, 0xa8, 0x20, 5, 0x81, 0, 0, 6, 0x91, 0, 0xff, 0xff, 0x81, 0, 0, 8, 0x81, 0, 0, 9};
	struct conv c = conv(4, 1, 2, 40000), u = conv(6, 1, 2, 40001);
	u.end[0].proto = u.end[1].proto = PROTO_UDP;
	for (int i = 0; i < 36; i++) {
		struct conv *x = i % 4 == 3 ? &u : &c;
		struct spec *e = &x->end[i % 2];
		if (i % 3 == 0) {
			e->n_tags = (uint8_t)(i / 3 % 6);
			memcpy(e->tag, tag, sizeof tag);
			e->tag[3] = (uint8_t)(i / 12);
		}
		say(x, i % 2, i == 0 ? 0x02 : 0x10, (uint32_t)i);
	}
}

static void headers(void)
{
	struct conv c = conv(6, 1, 2, 40000), v = conv(4, 1, 2, 40000);
	static const uint8_t ext[3][24] = {{PROTO_TCP, 0, 1, 4, 0, 0, 0, 0},
	        {PROTO_DEST, 0, 5, 2, 0, 0, 0, 0, PROTO_ROUTE, 0, 1, 4, 0, 0, 0, 0, PROTO_TCP, 0, 4, 0, 0, 0, 0, 0},
	        {PROTO_TCP, 1, 4, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}};
	for (int i = 0; i < 40; i++) {
		struct spec p = next(&c, i % 2, i == 0 ? 0x02 : 0x18, 9);
		if (i % 2 == 0) {
			p.first_ext = i % 3 == 1 ? PROTO_HBH : PROTO_DEST;
			p.n_ipopt = i % 3 == 0 ? 8 : i % 3 == 1 ? 24 : 16;
			memcpy(p.ipopt, ext[i % 3], 24);
		}
		p.label = i % 5 == 0 ? below(1 << 20) : p.label;
		p.tos = (uint8_t)(i % 7 == 0 ? 0xb8 : 0);
		push(&p);
		p = next(&v, i % 2, i == 0 ? 0x02 : 0x18, 9);
		p.n_ipopt = i % 4 == 1 ? 4 : i % 4 == 2 ? 40 : 0; /* router alert; any bytes */
		static const uint8_t alert[4] = {0x94, 4, 0, 0};
		memcpy(p.ipopt, alert, 4);
		for (uint32_t k = 4; k < p.n_ipopt; k++)
			p.ipopt[k] = (uint8_t)below(256);
		p.ttl = (uint8_t)(i % 6 == 0 ? 0 : 64);
		p.res = (uint8_t)(i % 9 == 0 ? 5 : 0);
		p.urg = (uint16_t)(i % 10 == 0 ? 77 : 0);
		push(&p);
	}
}

static void tcp_options(void)
{
	static const uint8_t opt[][41] = {
	        {12, 30, 12, 0, 0x81, 1, 2, 3, 4, 5, 6, 7, 8},                  /* MP_CAPABLE */
	        {16, 30, 16, 0x30, 1, 10, 77, 0x11, 2, 1, 2, 3, 4, 5, 6, 7, 8}, /* ADD_ADDR */
	        {20, 30, 20, 0x20, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
	        {8, 253, 8, 10, 77, 0x11, 2, 5, 6}, {8, 1, 0, 10, 77, 0x11, 2}, {8, 99, 1, 10, 77, 0x11, 2}, {4, 254, 0, 1, 2}, {4, 5, 99, 1, 2}, {4, 3, 3, 7, 0}, {4, 0, 0, 0, 0}, {4, 0, 7, 7, 7},
	        {4, 1, 1, 1, 1}, {8, 2, 4, 5, 0xb4, 4, 2, 0, 0}, {12, 34, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {20, 19, 18, 9, 9, 9},
	        {12, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1}, {40, 1}, {12, 1, 1, 5, 10}, {20, 1, 1, 5, 18}, {28, 1, 1, 5, 26}, {36, 1, 1, 5, 34},
	        {24, 1, 1, 8, 10, 9, 9, 9, 9, 8, 8, 8, 8, 1, 1, 5, 10}, {12, 1, 1, 5, 10, 0, 0, 0, 1, 255, 255, 255, 255}};
	struct conv c = conv(4, 1, 2, 40000);
	shake(&c);
	for (int round = 0; round < 4; round++)
		for (unsigned i = 0; i < sizeof opt / sizeof *opt; i++) {
			struct spec p = next(&c, (int)(i + (unsigned)round) % 2, i % 5 == 4 ? 0x12 : 0x10, i % 2 ? 100 : 0);
			p.n_opt = opt[i][0];
			memcpy(p.opt, opt[i] + 1, 40);
			/* SACK edges of what the peer sent, and of what it did not. */
			for (uint32_t k = 4; round > 0 && p.opt[0] == 1 && p.opt[2] == 5 && k < p.n_opt; k += 4)
				put32(p.opt + k, c.nxt[!((i + (unsigned)round) % 2)] - 100 * below(6));
			push(&p);
		}
}

static void many_flows(void)
{
	static struct conv c[1000];
	for (uint32_t i = 0; i < 1000; i++) {
		c[i] = conv(i % 5 == 0 ? 6 : 4, 1 + i % 3, 10 + i % 7, (uint16_t)(20000 + i));
		c[i].end[0].proto = c[i].end[1].proto = i % 2 ? PROTO_TCP : PROTO_UDP;
		c[i].end[0].port[1] = c[i].end[1].port[0] = (uint16_t)(80 + i % 90);
		if (i % 50 == 7) {
			for (int d = 0; d < 2; d++) {
				c[i].end[d].proto = i % 5 == 0 ? 58 : 1;
				c[i].end[d].icmp_type = i % 5 == 0 ? (uint8_t)(128 + d) : d ? 255 : 8;
				c[i].end[d].port[0] = (uint16_t)i;
				c[i].end[d].port[1] = 1;
			}
		}
		say(&c[i], 0, 0x02, 8);
		struct conv *x = &c[below(i + 1)];
		say(x, (int)below(2), 0x10, below(1000));
		x->end[0].port[1] += x->end[0].icmp_type != 0;
	}
}

static void many_hosts(void)
{
	for (uint32_t i = 0; i < 700; i++) {
		uint32_t a = i < 400 ? i : below(400), b = i % 3 == 0 ? 500 : below(400);
		struct conv c = conv(i % 2 ? 6 : 4, a, b, (uint16_t)(30000 + i % 40));
		c.end[0].proto = i % 3 == 1 ? PROTO_UDP : PROTO_TCP;
		say(&c, 0, 0x10, 20);
		c.end[1].proto = c.end[0].proto;
		say(&c, 1, 0x10, 20);
	}
}

static void times(void)
{
	struct conv c = conv(4, 1, 2, 40000);
	shake(&c);
	static const uint64_t gap[] = {0, 1, 99, 100, 1000000, 3600000000000, 604800000000000, 31536000000000000, 394000000000, 360000000000};
	for (int i = 0; i < 60; i++) {
		say(&c, i % 2, 0x10, 5);
		s.ts += gap[i % 10];
		if (i % 7 == 6)
			s.ts -= s.ts / 2; /* back */
	}
	s.ts = UINT64_MAX - 10000000;
	say(&c, 0, 0x10, 5);
	s.ts = 0;
	say(&c, 0, 0x10, 5);
}

static void defects(void)
{
	struct conv c[3] = {conv(4, 1, 2, 40000), conv(6, 1, 2, 40001), conv(4, 1, 2, 40002)};
	c[2].end[0].proto = c[2].end[1].proto = PROTO_UDP;
	for (uint32_t i = 0; i < 300; i++) {
		struct spec p = next(&c[i % 3], (int)below(2), 0x18, below(3) == 0 ? 0 : below(200));
		static const uint8_t bad[] = {0, 1, 2, 4, 8, 16, 32, 3, 17, 34};
		p.bad = bad[below(10)];
		p.trailer = below(4) == 0 ? below(100) : below(3) == 0 ? 60 : 0;
		if (p.bad == 0 && below(3) == 0)
			p.snap = below(2) ? 64 : 1 + below(80);
		push(&p);
	}
}

static void put_arp(uint8_t *o, uint16_t op, const uint8_t *mac, const uint8_t *addr, const uint8_t *tmac, const uint8_t *taddr)
{
	static const uint8_t head[6] = {0, 1, 8, 0, 6, 4};
	memcpy(o, head, 6);
	put16(o + 6, op);
	memcpy(o + 8, mac, 6);
	memcpy(o + 14, addr, 4);
	memcpy(o + 18, tmac, 6);
	memcpy(o + 24, taddr, 4);
}

static void arp(void)
{
	uint8_t f[1600] = {0};
	for (uint32_t i = 0; i < 60; i++) {
		struct conv c = conv(4, i % 5, 5 + i % 3, 1);
		static const uint8_t zero[6], all[6] = {255, 255, 255, 255, 255, 255};
		const uint8_t *mac = c.end[0].mac[0], *peer = c.end[0].mac[1], *own = c.end[0].addr[0], *other = c.end[0].addr[1];
		uint16_t op = (uint16_t)(i % 11 == 0 ? below(9) : 1 + i % 2);
		memcpy(f, i % 3 == 0 ? all : peer, 6);
		memcpy(f + 6, i % 13 == 0 ? peer : mac, 6);
		put16(f + 12, i % 17 == 0 ? 0x8035 : 0x0806);
		put_arp(f + 14, op, i % 7 == 0 ? all : mac, own, i % 4 == 0 ? peer : i % 4 == 1 ? all : zero, i % 5 == 0 ? own : other);
		f[14] = i % 19 == 18; /* of another kind of network */
		s.ts += below(1000000);
		push_frame(f, i % 2 ? 60 : 42, i % 2 ? 60 : 42);
	}
}

static void messages(void)
{
	uint8_t f[1600];
	for (uint32_t i = 0; i < 200; i++) {
		struct conv c = conv(i % 2 ? 6 : 4, 1 + i % 3, 4, (uint16_t)(i % 4));
		struct spec p = next(&c, 0, 0, 28 + below(60));
		uint32_t at = s.n;
		/* A packet, then an error that quotes it; IGMP, GRE, ESP, SCTP; what is no IP; any bytes; cut anywhere. */
		push(&p);
		memset(f, 0, sizeof f);
		memcpy(f, c.end[1].mac[1], 12);
		if (i % 4 < 2) {
			p = c.end[1];
			p.proto = p.ver == 4 ? 1 : 58;
			p.icmp_type = (uint8_t)(p.ver == 4 ? 3 + i % 10 : 1 + below(127)); /* no echo: its payload is not kept */
			p.len = 40 + below(300);
			push(&p);
			uint8_t *own = s.data + s.at[s.n - 1] + 14 + (p.ver == 4 ? 20 : 40) + 8;
			memcpy(own, s.data + s.at[at] + 14, 40);
			put16(own - 6, 0);
			struct spec sum = p;
			put_csum(own - 6, &sum, s.data + s.at[s.n - 1] + 14, own - 8, 8 + p.len);
		} else if (i % 4 == 2) {
			static const uint8_t proto[] = {2, 47, 50, 132, 4, 41, 51, 255, 0};
			p.proto = proto[below(9)];
			p.len = below(200);
			push(&p);
		} else {
			static const uint16_t type[] = {0x88cc, 0x0027, 0x8864, 0x8100, 0x0800, 0x86dd, 0x0806, 0x88a8, 0x6003};
			uint32_t n = 12 + below(16);
			put16(f + 12, type[below(9)]);
			push_frame(f, n, n);
			n = below(120);
			for (uint32_t k = 14; k < 14 + n; k++)
				f[k] = below(3) ? 0x45 : (uint8_t)below(256);
			push_frame(f, 14 + n, below(2) ? below(15 + n) : 14 + n);
		}
	}
}

static void groups(void)
{
	static const uint8_t group4[4][4] = {{224, 0, 0, 251}, {239, 255, 255, 250}, {255, 255, 255, 255}, {10, 77, 255, 255}};
	static const uint8_t mac4[4][6] = {{1, 0, 0x5e, 0, 0, 251}, {1, 0, 0x5e, 0x7f, 255, 250}, {255, 255, 255, 255, 255, 255},
	        {255, 255, 255, 255, 255, 255}};
	for (uint32_t i = 0; i < 120; i++) {
		struct conv c = conv(i % 3 == 2 ? 6 : 4, 1 + i % 2, 9, 5353);
		struct spec p = next(&c, 0, 0, i % 5 ? 30 + i % 3 : below(12));
		p.proto = PROTO_UDP;
		p.ttl = 255;
		p.bad = i % 9 == 8 ? 4 : 0;
		memset(p.addr[1], 0, 16);
		if (p.ver == 6) {
			p.addr[1][0] = 0xff;
			p.addr[1][1] = 2;
			p.addr[1][15] = 0xfb;
			static const uint8_t node[5] = {1, 0xff, 0xab, 0xcd, 0xef};
			if (i % 2 == 0)
				memcpy(p.addr[1] + 11, node, 5);
			p.mac[1][0] = p.mac[1][1] = 0x33;
			memcpy(p.mac[1] + 2, i % 7 == 0 ? node + 1 : p.addr[1] + 12, 4);
		} else {
			memcpy(p.addr[1], group4[i % 4], 4);
			memcpy(p.mac[1], mac4[i % 4], 6);
		}
		push(&p);
	}
}

static const struct {
	const char *name;
	void (*make)(void);
} session_of[] = {{"plain", plain}, {"retransmitted", retransmitted}, {"wraps", wraps}, {"odd states", odd_states}, {"reused ports", reused_ports},
        {"fragments", fragments}, {"tags", tags}, {"headers", headers}, {"TCP options", tcp_options}, {"many flows", many_flows},
        {"many hosts", many_hosts}, {"times", times}, {"defects", defects}, {"ARP", arp}, {"messages", messages}, {"groups", groups}};
#define N_SESSIONS (sizeof session_of / sizeof *session_of)

static void make(size_t k, uint64_t seed)
{
	s.n = 0;
	s.n_bytes = 0;
	s.ts = 1700000000000000000;
	nssm_rng_init(&s.rng, seed, k, NSSM_RNG_SAMPLE);
	session_of[k].make();
	for (uint32_t i = 0; i < s.n; i++)
		s.pkt[i].data = s.data + s.at[i];
}

/* --- there and back ---------------------------------------------------------------------------------------------------------------- */

static struct {
	uint16_t *token;
	size_t n, room, first[MOST_PACKETS + 1];
} t;

static void encode(struct flow_rig *r)
{
	size_t most = nssm_encoder_max_tokens(r->enc);
	uint64_t back = 0;
	t.n = 0;
	for (uint32_t i = 0; i <= s.n; i++) {
		if (t.n + most + 1 > t.room) {
			t.room = 2 * t.room + most + 1;
			t.token = realloc(t.token, t.room * sizeof *t.token);
			assert_non_null(t.token);
		}
		if (i == 0)
			t.n = nssm_encoder_begin(r->enc, t.token, 0, NULL);
		t.first[i] = t.n;
		if (i == s.n)
			break;
		int reason;
		uint32_t cut;
		uint8_t *copy = malloc(s.pkt[i].caplen + (s.pkt[i].caplen == 0)); /* with nothing behind it */
		assert_non_null(copy);
		memcpy(copy, s.pkt[i].data, s.pkt[i].caplen);
		struct nssm_pkt p = s.pkt[i];
		p.data = copy;
		t.n += nssm_encoder_packet(r->enc, t.token + t.n, &p, &reason, &cut);
		free(copy);
		assert_int_equal(reason, NSSM_PKT_OK);
		back += i > 0 && s.pkt[i].ts_ns < s.pkt[i - 1].ts_ns;
	}
	assert_int_equal(nssm_encoder_n_time_back(r->enc), back);
	t.n += nssm_encoder_end(r->enc, t.token + t.n);
}

/* The transport checksum of a frame that the capture cut is taken for right, wherever it ends. */
static bool of_cut_csum(const struct nssm_pkt *p, uint32_t i)
{
	uint32_t l3 = 14, type = p->caplen >= 14 ? get16(p->data + 12) : 0;
	while (l3 + 6 <= p->caplen && (type == 0x8100 || type == 0x88a8 || type == 0x9100) && l3 < 30) {
		type = get16(p->data + l3 + 2);
		l3 += 4;
	}
	if (p->caplen >= p->wirelen || l3 + 20 > p->caplen || (type != 0x0800 && type != 0x86dd))
		return false;
	uint32_t l4 = l3 + (type == 0x0800 ? (p->data[l3] & 15u) * 4 : 40), proto = p->data[l3 + (type == 0x0800 ? 9 : 6)];
	uint32_t at = l4 + (proto == PROTO_TCP ? 16u : proto == PROTO_UDP ? 6u : 2u);
	return i == at || i == at + 1;
}

static uint64_t step_of(uint64_t gap)
{
	uint64_t lo, hi;
	nssm_iat_range(255, &lo, &hi);
	return gap < hi ? nssm_iat_step(gap) : 255;
}

static void same(const char *name, const struct flow_rig *r, uint32_t i, const struct nssm_frame *f)
{
	const struct nssm_pkt *p = &s.pkt[i];
	if (f->len != p->wirelen || f->caplen != p->caplen)
		fail_msg("%s: packet %u: %u bytes, %u captured; expected %u, %u", name, i, f->len, f->caplen, p->wirelen, p->caplen);
	uint64_t before = i > 0 ? s.pkt[i - 1].ts_ns : p->ts_ns, gap = p->ts_ns > before ? p->ts_ns - before : 0;
	gap = gap < 1ull << 62 ? gap : 1ull << 62; /* 146 years */
	uint64_t got = step_of(f->gap_ns), want = step_of(gap);
	if (got != want || (want == 255 && ((double)f->gap_ns < 0.91 * (double)gap || (double)f->gap_ns > 1.1 * (double)gap)))
		fail_msg("%s: packet %u: gap %llu, expected %llu", name, i, (unsigned long long)f->gap_ns, (unsigned long long)gap);
	if (r->cfg.identity == NSSM_IDENTITY_POOL)
		return;
	/* Payload is zeros, so that nothing is lost where it is not kept; but for literal bytes beyond the most that are kept. */
	bool full = r->cfg.payload == NSSM_PAYLOAD_FULL;
	uint32_t n = full && f->n_known == f->len ? p->caplen : f->n_known < p->caplen ? f->n_known : p->caplen;
	for (uint32_t k = 0; k < n; k++)
		if (f->data[k] != p->data[k] && !of_cut_csum(p, k))
			fail_msg("%s, payload %d: packet %u: byte %u of %u: %02x, expected %02x", name, (int)r->cfg.payload, i, k, n, f->data[k],
			        p->data[k]);
}

static void comes_back(void **state)
{
	(void)state;
	for (unsigned c = 0; c < FLOW_RIG_CFGS; c++) {
		struct flow_rig r;
		struct nssm_frame f;
		flow_rig_open(&r, &flow_rig_cfg[c]);
		for (uint64_t k = 0; k < 3 * N_SESSIONS; k++) {
			size_t which = k % N_SESSIONS;
			make(which, k / N_SESSIONS);
			encode(&r);
			nssm_decoder_begin(r.dec, k, 1);
			assert_int_equal(nssm_decoder_token(r.dec, t.token[0], &f), NSSM_DEC_NONE);
			for (uint32_t i = 0; i < s.n; i++) {
				for (size_t j = t.first[i]; j < t.first[i + 1]; j++)
					if (nssm_decoder_token(r.dec, t.token[j], &f) != (j + 1 < t.first[i + 1] ? NSSM_DEC_NONE : NSSM_DEC_PACKET))
						fail_msg("%s: packet %u: token %zu of %zu: reason %d", session_of[which].name, i, j - t.first[i],
						        t.first[i + 1] - t.first[i], f.reason);
				assert_int_equal(f.at_token, t.first[i + 1]);
				same(session_of[which].name, &r, i, &f);
			}
			assert_int_equal(nssm_decoder_token(r.dec, t.token[t.n - 1], &f), NSSM_DEC_END);
		}
		flow_rig_close(&r);
	}
}

/* The tokens end after n of them. */
static void end_after(struct flow_rig *r, size_t n, bool at_border)
{
	struct nssm_frame f;
	uint32_t got = 0;
	nssm_decoder_begin(r->dec, 1, 1);
	for (size_t j = 0; j < n; j++) {
		enum nssm_dec_event ev = nssm_decoder_token(r->dec, t.token[j], &f);
		assert_true(ev == NSSM_DEC_NONE || ev == NSSM_DEC_PACKET);
		got += ev == NSSM_DEC_PACKET;
	}
	enum nssm_dec_event ev = nssm_decoder_flush(r->dec, &f);
	assert_int_equal(ev, at_border ? NSSM_DEC_END : NSSM_DEC_REJECT);
	if (!at_border)
		assert_true(f.reason == NSSM_PKT_SHORT && f.at_token == n);
	assert_true(at_border ? t.first[got] == n : t.first[got] < n && n < t.first[got + 1]);
	assert_int_equal(nssm_decoder_flush(r->dec, &f), NSSM_DEC_END);
}

static void cut_anywhere(void **state)
{
	(void)state;
	static const unsigned cfgs[] = {1, 6};
	for (unsigned c = 0; c < 2; c++) {
		struct flow_rig r;
		flow_rig_open(&r, &flow_rig_cfg[cfgs[c]]);
		for (size_t k = 0; k < N_SESSIONS; k++) {
			make(k, 9);
			s.n = s.n < 40 ? s.n : 40;
			encode(&r);
			uint32_t i = 0;
			for (size_t n = 1; n < t.n && n < 900; n++) {
				while (t.first[i] < n)
					i++;
				end_after(&r, n, t.first[i] == n);
			}
			/* Every packet of the rest lacks its last token: it is rejected, the next one begins. */
			struct nssm_frame f;
			nssm_decoder_begin(r.dec, 1, 1);
			uint32_t rejected = 0;
			for (uint32_t j = 0; j < s.n; j++)
				for (size_t n = t.first[j]; n + 1 < t.first[j + 1]; n++) {
					enum nssm_dec_event ev = nssm_decoder_token(r.dec, t.token[n], &f);
					rejected += ev == NSSM_DEC_REJECT && f.reason == NSSM_PKT_SHORT && n == t.first[j];
				}
			assert_true(rejected > 0);
		}
		flow_rig_close(&r);
	}
}

/* --- identity ------------------------------------------------------------------------------------------------------------------------ */

/* Whether a run of n bytes stands anywhere in the tokens, or in a frame. */
static bool in_tokens(const struct flow_rig *r, const uint8_t *run, size_t n)
{
	for (size_t j = 0; j + n <= t.n; j++) {
		size_t k = 0;
		while (k < n && t.token[j + k] == r->vocab.byte_id[run[k]])
			k++;
		if (k == n)
			return true;
	}
	return false;
}

static bool in_frame(const struct nssm_frame *f, const uint8_t *run, size_t n)
{
	for (size_t j = 0; j + n <= f->len; j++)
		if (memcmp(f->data + j, run, n) == 0)
			return true;
	return false;
}

static void no_address_left(void **state)
{
	(void)state;
	static const char *const of[] = {"plain", "ARP", "messages", "TCP options", "fragments", "headers", "groups", "defects", NULL};
	for (unsigned c = 5; c < 7; c++) {
		struct flow_rig r;
		struct nssm_frame f;
		flow_rig_open(&r, &flow_rig_cfg[c]);
		for (size_t k = 0; k < N_SESSIONS; k++) {
			const char *const *name = of;
			while (*name != NULL && strcmp(*name, session_of[k].name) != 0)
				name++;
			if (*name == NULL)
				continue;
			make(k, 2);
			/* What an old buffer holds behind short frames. */
			for (uint32_t i = 0; i < s.n; i += 9)
				if (s.pkt[i].caplen == s.pkt[i].wirelen && s.pkt[i].caplen == 60)
					address(s.data + s.at[i] + 43, 4, 1);
			encode(&r);
			static const uint8_t node[4] = {0xff, 0xab, 0xcd, 0xef};
			assert_false(in_tokens(&r, node, 4));
			uint8_t run[10][3][16];
			for (uint32_t h = 0; h < 10; h++) {
				address(run[h][0], 4, h);
				address(run[h][1], 6, h);
				put32(run[h][2], 0xd8cb8a00);
				put16(run[h][2] + 4, 0x7100 + h);
				static const size_t n[3] = {4, 16, 6};
				for (int w = 0; w < 3; w++)
					if (in_tokens(&r, run[h][w], n[w]))
						fail_msg("%s: host %u's %zu bytes are in the tokens", session_of[k].name, h, n[w]);
			}
			nssm_decoder_begin(r.dec, 7, 7);
			for (size_t j = 0; j < t.n; j++)
				if (nssm_decoder_token(r.dec, t.token[j], &f) == NSSM_DEC_PACKET)
					for (uint32_t h = 0; h < 10; h++)
						if (in_frame(&f, run[h][0], 4) || in_frame(&f, run[h][1], 16) || in_frame(&f, run[h][2], 6))
							fail_msg("%s: host %u is in a frame, token %zu", session_of[k].name, h, j);
		}
		flow_rig_close(&r);
	}
}

/* In pool every number of a flow's end is off by the same amount: what it says of itself, and what the peer acknowledges and echoes. */
static void tcp_fits_together(void **state)
{
	(void)state;
	static const char *const of[] = {"plain", "retransmitted", "wraps", NULL};
	for (unsigned c = 5; c < 7; c++) {
		struct flow_rig r;
		struct nssm_frame f;
		flow_rig_open(&r, &flow_rig_cfg[c]);
		for (size_t k = 0; of[k] != NULL; k++) {
			size_t which = 0;
			while (strcmp(session_of[which].name, of[k]) != 0)
				which++;
			make(which, 3);
			encode(&r);
			nssm_decoder_begin(r.dec, 8, 8);
			struct {
				bool known;
				uint32_t seq, ts;
			} off[2][2] = {{{0}}};
			uint32_t i = 0, drawn = 0;
			for (size_t j = 0; j < t.n; j++) {
				if (nssm_decoder_token(r.dec, t.token[j], &f) != NSSM_DEC_PACKET)
					continue;
				const struct nssm_pkt *p = &s.pkt[i++];
				bool v6 = get16(p->data + 12) == 0x86dd;
				const uint8_t *was = p->data + (v6 ? 54 : 34), *is = f.data + (v6 ? 54 : 34);
				bool syn = (was[13] & 2) != 0;
				int dir = get16(was) == 443;
				uint32_t ts = syn ? 28 : 24;
				uint32_t seq = get32(is + 4) - get32(was + 4), val = get32(is + ts) - get32(was + ts);
				if (!off[v6][dir].known) {
					off[v6][dir].known = true;
					off[v6][dir].seq = seq;
					off[v6][dir].ts = val;
					drawn += seq != 0;
				}
				assert_int_equal(seq, off[v6][dir].seq);
				assert_int_equal(val, off[v6][dir].ts);
				if ((was[13] & 0x10) == 0)
					continue;
				assert_int_equal(get32(is + 8) - get32(was + 8), off[v6][!dir].seq);
				assert_int_equal(get32(is + ts + 4) - get32(was + ts + 4), off[v6][!dir].ts);
			}
			assert_int_equal(i, s.n);
			assert_true(drawn > 0);
		}
		flow_rig_close(&r);
	}
}

static int done(void **state)
{
	(void)state;
	free(s.data);
	free(t.token);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(comes_back),
	        cmocka_unit_test(cut_anywhere),
	        cmocka_unit_test(no_address_left),
	        cmocka_unit_test(tcp_fits_together),
	};
	return cmocka_run_group_tests_name("flow_sessions", tests, NULL, done);
}
