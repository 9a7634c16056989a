/* What test_neigh.c and test_neigh6.c share: questions as routers ask them, byte by byte, and a neighbour to ask. */
#ifndef NSSM_TESTS_NEIGH_FRAMES_H
#define NSSM_TESTS_NEIGH_FRAMES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "model/packet.h"
#include "replay/neigh.h"

#define S 1000000000ull

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 0xaa}, dut_mac[6] = {2, 0, 0, 0, 0, 0xbb};
static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, no_mac[6];
static const uint8_t dut4[4] = {198, 18, 0, 1}, client4[4] = {198, 18, 0, 77}, nobody4[4] = {198, 19, 0, 1};
#define IP6(a, b) {0x20, 1, 0x0d, 0xb8, 0, a, 0, 0, 0, 0, 0, 0, 0, 0, 0, b}
static const uint8_t dut6[16] = IP6(1, 1), client6[16] = IP6(1, 77), nobody6[16] = IP6(2, 1), none6[16];

struct frame {
	uint8_t data[2048];
	uint32_t len;
};

static inline void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static inline void add(struct frame *f, const void *p, uint32_t n)
{
	memcpy(f->data + f->len, p, n);
	f->len += n;
}

static inline struct frame link(
        const uint8_t *dst, const uint8_t *src, uint32_t n_tags, const uint16_t *tci, unsigned type)
{
	struct frame f = {.len = 0};
	uint8_t two[2];
	add(&f, dst, 6);
	add(&f, src, 6);
	for (uint32_t i = 0; i < n_tags; i++) {
		put16(two, i + 1 < n_tags ? 0x88a8 : 0x8100);
		add(&f, two, 2);
		put16(two, tci[i]);
		add(&f, two, 2);
	}
	put16(two, type);
	add(&f, two, 2);
	return f;
}

static inline void add_arp(struct frame *f, int op, const uint8_t *sha, const uint8_t *spa, const uint8_t *tha,
        const uint8_t *tpa)
{
	const uint8_t begin[8] = {0, 1, 8, 0, 6, 4, 0, (uint8_t)op};
	add(f, begin, 8);
	add(f, sha, 6);
	add(f, spa, 4);
	add(f, tha, 6);
	add(f, tpa, 4);
}

static inline struct frame arp_request(const uint8_t *spa, const uint8_t *tpa)
{
	struct frame f = link(broadcast, dut_mac, 0, NULL, 0x0806);
	add_arp(&f, 1, dut_mac, spa, no_mac, tpa);
	return f;
}

/* The ICMPv6 checksum of the packet at l3, as the sender would write it. */
static inline void sum6(uint8_t *ip)
{
	uint8_t *icmp = ip + 40;
	uint32_t len = get16(ip + 4);
	put16(icmp + 2, 0);
	put16(icmp + 2, nssm_csum_fold(nssm_csum_add(nssm_csum_add(58 + len, ip + 8, 32), icmp, len)));
}

static inline void add_icmp6(
        struct frame *f, const uint8_t *src, const uint8_t *dst, uint8_t hop, const void *body, uint32_t n)
{
	uint8_t ip[8] = {0x60, 0, 0, 0, 0, 0, 58, hop};
	put16(ip + 4, n);
	uint32_t l3 = f->len;
	add(f, ip, 8);
	add(f, src, 16);
	add(f, dst, 16);
	add(f, body, n);
	sum6(f->data + l3);
}

static inline const uint8_t *solicited_node(const uint8_t *addr)
{
	static uint8_t a[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
	memcpy(a + 13, addr + 13, 3);
	return a;
}

/* A solicitation; mac NULL: without the option. unicast: to the target itself. */
static inline struct frame solicit(const uint8_t *src, const uint8_t *target, const uint8_t *mac, bool unicast)
{
	const uint8_t group_mac[6] = {0x33, 0x33, 0xff, target[13], target[14], target[15]};
	uint8_t body[32] = {135};
	memcpy(body + 8, target, 16);
	body[24] = 1;
	body[25] = 1;
	if (mac != NULL)
		memcpy(body + 26, mac, 6);
	struct frame f = link(unicast ? our_mac : group_mac, dut_mac, 0, NULL, 0x86dd);
	add_icmp6(&f, src, unicast ? target : solicited_node(target), 255, body, mac != NULL ? 32 : 24);
	return f;
}

static inline struct frame advert(const uint8_t *target, const uint8_t *dst, uint8_t flags, const uint8_t *mac)
{
	uint8_t body[32] = {136, 0, 0, 0, flags};
	memcpy(body + 8, target, 16);
	body[24] = 2;
	body[25] = 1;
	if (mac != NULL)
		memcpy(body + 26, mac, 6);
	struct frame f = link(our_mac, dut_mac, 0, NULL, 0x86dd);
	add_icmp6(&f, target, dst, 255, body, mac != NULL ? 32 : 24);
	return f;
}

static inline struct nssm_neigh_cfg base_cfg(void)
{
	static struct nssm_pool pool[2];
	struct nssm_err err;
	memset(pool, 0, sizeof pool);
	assert_int_equal(nssm_pool_add(&pool[0], "198.18.0.0/24", &err), 0);
	assert_int_equal(nssm_pool_add(&pool[1], "2001:db8:1::/48", &err), 0);
	struct nssm_neigh_cfg cfg = {.pool = {&pool[0], &pool[1]}, .n_pools = 2};
	memcpy(cfg.src_mac, our_mac, 6);
	return cfg;
}

static inline struct nssm_neigh *open_cfg(const struct nssm_neigh_cfg *cfg)
{
	struct nssm_neigh *n;
	struct nssm_err err;
	assert_int_equal(nssm_neigh_open(&n, cfg, &err), 0);
	return n;
}

/* On the heap at its exact size: a sanitizer sees reads beyond it. */
static inline struct frame give_at(struct nssm_neigh *n, const struct frame *f, uint64_t now_ns, bool *mine)
{
	struct frame answer = {.len = 0};
	uint8_t *copy = malloc(f->len > 0 ? f->len : 1), *out = malloc(NSSM_NEIGH_OUT_BYTES);
	assert_non_null(copy);
	assert_non_null(out);
	memcpy(copy, f->data, f->len);
	answer.len = nssm_neigh_frame(n, copy, f->len, now_ns, out, mine);
	assert_true(answer.len == 0 || (answer.len >= 60 && answer.len <= NSSM_NEIGH_OUT_BYTES));
	memcpy(answer.data, out, answer.len);
	free(copy);
	free(out);
	return answer;
}

static inline struct frame give(struct nssm_neigh *n, const struct frame *f)
{
	bool mine = false;
	struct frame answer = give_at(n, f, 0, &mine);
	assert_true(mine);
	return answer;
}

/* Not answered, but taken for ARP or ND. */
static inline void ignored(struct nssm_neigh *n, const struct frame *f)
{
	assert_int_equal(give(n, f).len, 0);
}

/* Left to others. */
static inline void traffic(struct nssm_neigh *n, const struct frame *f)
{
	bool mine = true;
	assert_int_equal(give_at(n, f, 0, &mine).len, 0);
	assert_false(mine);
}

static inline void bad(struct nssm_neigh *n, const struct frame *f)
{
	uint64_t before = nssm_neigh_stats(n)->malformed;
	ignored(n, f);
	assert_int_equal(nssm_neigh_stats(n)->malformed, before + 1);
}

static inline void expect(const struct frame *got, const struct frame *want)
{
	assert_int_equal(got->len, want->len < 60 ? 60 : want->len);
	assert_memory_equal(got->data, want->data, got->len);
}

static inline struct frame arp_answer(
        const uint8_t *addr, const uint8_t *asked_by, uint32_t n_tags, const uint16_t *tci)
{
	struct frame f = link(dut_mac, our_mac, n_tags, tci, 0x0806);
	add_arp(&f, 2, our_mac, addr, dut_mac, asked_by);
	return f;
}

/* Polls: the length of what is sent, which must be want where it is not 0. */
static inline void polled(struct nssm_neigh *n, uint64_t now_ns, const struct frame *want)
{
	struct frame got;
	got.len = nssm_neigh_poll(n, now_ns, got.data);
	if (want == NULL)
		assert_int_equal(got.len, 0);
	else
		expect(&got, want);
}

static inline struct frame arp_question(const uint8_t *from)
{
	struct frame f = link(broadcast, our_mac, 0, NULL, 0x0806);
	add_arp(&f, 1, our_mac, from, no_mac, dut4);
	return f;
}

#endif
