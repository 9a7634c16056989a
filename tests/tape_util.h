/* tape_util — for the tests of arena, tape and clone: frames made by hand with right checksums, a plain reading of frames that shares
 * nothing with what is tested, and captures from a folder. */
#ifndef NSSM_TESTS_TAPE_UTIL_H
#define NSSM_TESTS_TAPE_UTIL_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "replay/capture.h"
#include "replay/tape.h"

enum { U_ICMP = 1, U_TCP = 6, U_UDP = 17, U_ICMP6 = 58 };
enum { U_FIN = 1, U_SYN = 2, U_RST = 4, U_PSH = 8, U_ACK = 16 };

static inline void u_put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline void u_put32(uint8_t *p, uint32_t v)
{
	u_put16(p, v >> 16);
	u_put16(p + 2, v & 0xffff);
}
static inline uint32_t u_get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}
static inline uint32_t u_get32(const uint8_t *p)
{
	return u_get16(p) << 16 | u_get16(p + 2);
}

/* Sum of big-endian words modulo 65535: 0 over anything that holds its own right checksum. */
static inline uint32_t u_sum(uint32_t sum, const uint8_t *p, size_t n)
{
	uint64_t s = sum;
	for (size_t i = 0; i < n; i++)
		s += (uint64_t)p[i] << (i & 1 ? 0 : 8);
	return (uint32_t)(s % 65535);
}

/* --- frames by hand --- */

struct frame {
	uint8_t d[4096];
	uint32_t len;
	uint32_t l3, l4; /* where they begin */
	int v;
	uint8_t proto;
};

/* An address by number: 10.0.0.n or fd00::n. */
static inline void u_addr(uint8_t a[16], int v, uint32_t n)
{
	memset(a, 0, 16);
	if (v == 4) {
		u_put32(a, 0x0a000000 + n);
	} else {
		a[0] = 0xfd;
		u_put32(a + 12, n);
	}
}

static inline void frame_begin(struct frame *f, int v, const uint8_t *src, const uint8_t *dst, int n_vlan)
{
	memset(f, 0, sizeof *f);
	f->v = v;
	memcpy(f->d, "\x00\x11\x22\x33\x44\x55\x00\xaa\xbb\xcc\xdd\xee", 12);
	uint32_t at = 12;
	for (int i = 0; i < n_vlan; i++, at += 4) {
		u_put16(f->d + at, i == 0 && n_vlan > 1 ? 0x88a8 : 0x8100);
		u_put16(f->d + at + 2, 100u + (uint32_t)i);
	}
	u_put16(f->d + at, v == 4 ? 0x0800 : 0x86dd);
	f->l3 = at + 2;
	uint8_t *ip = f->d + f->l3;
	if (v == 4) {
		ip[0] = 0x45;
		u_put16(ip + 4, 0x1234);
		ip[8] = 64;
		memcpy(ip + 12, src, 4);
		memcpy(ip + 16, dst, 4);
		f->l4 = f->l3 + 20;
	} else {
		ip[0] = 0x60;
		ip[7] = 64;
		memcpy(ip + 8, src, 16);
		memcpy(ip + 24, dst, 16);
		f->l4 = f->l3 + 40;
	}
	f->len = f->l4;
}

static inline void frame_add(struct frame *f, const void *p, uint32_t n)
{
	memcpy(f->d + f->len, p, n);
	f->len += n;
}

/* Lengths and checksums. */
static inline void frame_end(struct frame *f, uint8_t proto)
{
	uint8_t *ip = f->d + f->l3, *l4 = f->d + f->l4;
	uint32_t n = f->len - f->l4, alen = f->v == 4 ? 4 : 16;
	f->proto = proto;
	if (f->v == 4) {
		ip[9] = proto;
		u_put16(ip + 2, f->len - f->l3);
		u_put16(ip + 10, 0);
		u_put16(ip + 10, 65535 - u_sum(0, ip, f->l4 - f->l3));
	} else {
		if (f->l4 == f->l3 + 40)
			ip[6] = proto;
		u_put16(ip + 4, f->len - f->l3 - 40);
	}
	uint32_t field = proto == U_TCP ? 16 : proto == U_UDP ? 6 : 2;
	if (proto == U_UDP)
		u_put16(l4 + 4, n);
	if (proto != U_TCP && proto != U_UDP && proto != U_ICMP && proto != U_ICMP6)
		return;
	u_put16(l4 + field, 0);
	uint32_t sum = proto == U_ICMP ? 0 : u_sum(proto + n, ip + (f->v == 4 ? 12 : 8), 2 * alen);
	sum = 65535 - u_sum(sum, l4, n);
	u_put16(l4 + field, sum == 65535 && proto != U_UDP ? 0 : sum);
}

static inline void frame_tcp_opt(struct frame *f, int v, const uint8_t *src, uint16_t sport, const uint8_t *dst, uint16_t dport,
	uint8_t flags, uint32_t seq, uint32_t ack, const void *opt, uint32_t n_opt, const void *data, uint32_t n)
{
	frame_begin(f, v, src, dst, 0);
	uint8_t h[20] = {0};
	u_put16(h, sport);
	u_put16(h + 2, dport);
	u_put32(h + 4, seq);
	u_put32(h + 8, ack);
	h[12] = (uint8_t)((20 + n_opt) / 4 << 4);
	h[13] = flags;
	u_put16(h + 14, 0x7210);
	frame_add(f, h, 20);
	frame_add(f, opt, n_opt);
	frame_add(f, data, n);
	frame_end(f, U_TCP);
}

static inline void frame_tcp(struct frame *f, int v, const uint8_t *src, uint16_t sport, const uint8_t *dst, uint16_t dport,
	uint8_t flags, uint32_t seq, uint32_t ack, const void *data, uint32_t n)
{
	frame_tcp_opt(f, v, src, sport, dst, dport, flags, seq, ack, "", 0, data, n);
}

static inline void frame_udp(struct frame *f, int v, const uint8_t *src, uint16_t sport, const uint8_t *dst, uint16_t dport,
	const void *data, uint32_t n)
{
	frame_begin(f, v, src, dst, 0);
	uint8_t h[8] = {0};
	u_put16(h, sport);
	u_put16(h + 2, dport);
	frame_add(f, h, 8);
	frame_add(f, data, n);
	frame_end(f, U_UDP);
}

static inline void frame_icmp(
	struct frame *f, int v, const uint8_t *src, const uint8_t *dst, uint8_t type, uint8_t code, const void *rest, uint32_t n)
{
	frame_begin(f, v, src, dst, 0);
	uint8_t h[4] = {type, code, 0, 0};
	frame_add(f, h, 4);
	frame_add(f, rest, n);
	frame_end(f, v == 4 ? U_ICMP : U_ICMP6);
}

/* --- tapes --- */

struct rig {
	struct nssm_arena *arena;
	struct nssm_tape_builder *builder;
	struct nssm_tape *tape;
	struct nssm_err err;
};

static inline int rig_open(struct rig *r, size_t bytes, uint32_t flows_max)
{
	*r = (struct rig){0};
	struct nssm_arena_cfg a = {.bytes = bytes};
	struct nssm_tape_cfg t = {.tapes_max = 64, .flows_max = flows_max};
	int rc = nssm_arena_open(&r->arena, &a, &r->err);
	if (rc == 0)
		rc = nssm_tape_builder_open(&r->builder, r->arena, &t, &r->err);
	if (rc == 0)
		r->tape = nssm_tape_begin(r->builder, 1, 0, 0);
	return rc;
}
static inline void rig_close(struct rig *r)
{
	nssm_tape_builder_close(&r->builder);
	nssm_arena_close(&r->arena);
}
static inline int rig_add(struct rig *r, const struct frame *f)
{
	return nssm_tape_append(r->builder, r->tape, 0, f->d, f->len, f->len, &r->err);
}

/* --- captures of a folder --- */

/* Calls each with every packet of every capture under the folder that can be read; begin before each file. Returns files read. */
static inline int u_each_capture(const char *folder, void (*begin)(void *ctx, const char *path),
	void (*each)(void *ctx, const struct nssm_pkt *pkt), void (*end)(void *ctx), void *ctx)
{
	struct dirent **names;
	int n = scandir(folder, &names, NULL, alphasort), files = 0;
	for (int i = 0; i < n; i++) {
		char path[4096];
		struct stat st;
		bool hidden = names[i]->d_name[0] == '.' ||
			      snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name) >= (int)sizeof path;
		free(names[i]);
		if (hidden || stat(path, &st) != 0)
			continue;
		if (S_ISDIR(st.st_mode)) {
			files += u_each_capture(path, begin, each, end, ctx);
			continue;
		}
		struct nssm_capture *c;
		struct nssm_pkt pkt;
		if (strstr(path, ".pcap") == NULL || nssm_capture_open(&c, path, NULL) != 0)
			continue;
		begin(ctx, path);
		while (nssm_capture_next(c, &pkt, NULL) == 1)
			each(ctx, &pkt);
		end(ctx);
		nssm_capture_close(&c);
		files++;
	}
	if (n >= 0)
		free(names);
	return files;
}

#endif
