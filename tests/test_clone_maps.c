/* Who a clone's packets are from and to: addresses, ports, MACs, tags; no two clones alike; what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/philox.h"
#include "clone_util.h"

/* --- no two alike --- */

static void flow(struct rig *r, uint32_t from, uint16_t sport, uint32_t to, uint16_t dport, bool tcp)
{
	struct frame f;
	for (int v = 4; v <= 6; v += 2) {
		uint8_t a[16], b[16];
		u_addr(a, v, from);
		u_addr(b, v, to);
		if (tcp)
			frame_tcp(&f, v, a, sport, b, dport, U_SYN, 1, 0, "", 0);
		else
			frame_udp(&f, v, a, sport, b, dport, "x", 1);
		assert_int_equal(rig_add(r, &f), 1);
	}
}

/* Clients 1-3, servers 10-13. */
static void mesh(struct rig *r)
{
	for (uint32_t c = 1; c <= 3; c++)
		for (uint32_t s = 10; s <= 13; s++) {
			flow(r, c, 40000, s, 443, true); /* one socket to many servers */
			flow(r, c, (uint16_t)(40000 + s), s, 443, true);
			flow(r, c, 40000, s, 53, false);
		}
	flow(r, 1, 40000, 2, 80, true);    /* client to client, below the range of client ports */
	flow(r, 1, 40000, 2, 20005, true); /* and in it, both ways round */
	flow(r, 2, 40000, 1, 20005, true);
	flow(r, 3, 20005, 1, 40000, true);
	flow(r, 10, 20, 1, 40001, true);   /* server to client */
	flow(r, 10, 5000, 11, 5432, true); /* server to server */
	flow(r, 11, 5000, 10, 5432, true);
}

struct key {
	uint8_t b[44];
};

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct key));
}

/* The tuple without direction. */
static struct key key_of(const struct nssm_tuple *t)
{
	struct key k = {0};
	uint8_t end[2][18];
	for (int i = 0; i < 2; i++) {
		memcpy(end[i], t->addr[i], 16);
		u_put16(end[i] + 16, t->port[i]);
	}
	int first = memcmp(end[0], end[1], 18) > 0;
	memcpy(k.b, end[first], 18);
	memcpy(k.b + 18, end[!first], 18);
	k.b[36] = t->proto;
	k.b[37] = t->ip_version;
	return k;
}

static void none_twice(const struct nssm_clone_cfg *cfg, uint64_t slots)
{
	struct rig r;
	assert_int_equal(rig_open(&r, 4 << 20, 1000), 0);
	mesh(&r);
	struct nssm_cloner *c = open_cloner(cfg);
	assert_int_equal(nssm_cloner_slots(c), slots);
	struct key *k = malloc(slots * r.tape->n_flows * sizeof *k);
	assert_non_null(k);
	size_t n = 0;
	for (uint64_t slot = 0; slot < slots; slot++) {
		struct nssm_play_id id = {.key = nssm_clone_key(1, 2, (uint32_t)slot), .slot = slot};
		for (const struct nssm_flow *f = r.tape->flows; f != NULL; f = f->next) {
			struct nssm_tuple t;
			nssm_clone_tuple(&t, c, r.tape, f, &id);
			k[n++] = key_of(&t);
			for (int i = 0; i < 2; i++) {
				uint64_t number;
				bool client = f->end[i]->role == NSSM_ROLE_CLIENT, v6 = f->ip_version == 6;
				assert_true(nssm_pool_number(
				        &number, client ? &cfg->clients[v6] : &cfg->servers[v6], t.addr[i]));
			}
			if (f->end[0]->role == NSSM_ROLE_CLIENT)
				assert_in_range(t.port[0], cfg->port_lo, cfg->port_hi);
		}
	}
	assert_int_equal(n, slots * r.tape->n_flows);
	qsort(k, n, sizeof *k, by_bytes);
	for (size_t i = 1; i < n; i++)
		if (memcmp(&k[i - 1], &k[i], sizeof *k) == 0)
			fail_msg("%zu of %zu tuples: two are the same", i, n);
	print_message("%zu tuples, none twice\n", n);
	free(k);
	nssm_cloner_close(&c);
	rig_close(&r);
}

static void test_unique(void **state)
{
	(void)state;
	/* 14 addresses, 100 blocks of 16 ports, 3 clients a session. */
	struct nssm_clone_cfg cfg = {.rewrite = true,
	        .port_lo = 20000,
	        .port_hi = 21599,
	        .endpoints_max = 3,
	        .sockets_max = 16,
	        .servers_max = 4};
	pool(&cfg.clients[0], "198.18.0.0/28");
	pool(&cfg.clients[1], "2001:db8:1::/124");
	pool(&cfg.servers[0], "203.0.113.0/25");
	pool(&cfg.servers[1], "2001:db8:2::/64");
	none_twice(&cfg, 14 * 100 / 3);
	/* Several networks. */
	cfg.clients[0] = (struct nssm_pool){0};
	pool(&cfg.clients[0], "198.18.0.0/29");
	pool(&cfg.clients[0], "198.18.7.0/30");
	pool(&cfg.clients[0], "198.18.9.1");
	none_twice(&cfg, 9 * 100 / 3);
	/* One server for all: the flow's number keeps apart what goes there. */
	cfg.servers[0] = cfg.servers[1] = (struct nssm_pool){0};
	cfg.sockets_max = 90;
	cfg.port_hi = 28999;
	pool(&cfg.servers[0], "203.0.113.1");
	pool(&cfg.servers[1], "2001:db8:2::1");
	struct rig r;
	assert_int_equal(rig_open(&r, 4 << 20, 1000), 0);
	for (uint32_t c = 1; c <= 3; c++)
		for (uint32_t s = 10; s <= 13; s++)
			flow(&r, c, 40000, s, 443, true);
	struct nssm_cloner *c = open_cloner(&cfg);
	struct key k[24 * 300];
	size_t n = 0;
	for (uint64_t slot = 0; slot < 300; slot++)
		for (const struct nssm_flow *f = r.tape->flows; f != NULL; f = f->next) {
			struct nssm_tuple t;
			struct nssm_play_id id = {.key = nssm_clone_key(1, 1, (uint32_t)slot), .slot = slot};
			nssm_clone_tuple(&t, c, r.tape, f, &id);
			k[n++] = key_of(&t);
		}
	assert_int_equal(n, sizeof k / sizeof k[0]);
	qsort(k, n, sizeof *k, by_bytes);
	for (size_t i = 1; i < n; i++)
		assert_memory_not_equal(&k[i - 1], &k[i], sizeof *k);
	nssm_cloner_close(&c);
	rig_close(&r);
}

/* --- the straight path and the other one --- */

static void same_both_ways(
        const struct nssm_cloner *fast, const struct nssm_cloner *slow, struct rig *r, const struct frame *f)
{
	assert_int_equal(rig_add(r, f), 1);
	for (uint32_t i = 0; i < 50; i++) {
		struct nssm_play_id id = {.key = nssm_clone_key(3, 4, i), .slot = 7 * i};
		struct clone a = clone_checked(fast, r, r->tape->last, f, &id),
		             b = clone_one(slow, r->tape, r->tape->last, &id);
		assert_int_equal(a.len, b.len);
		assert_memory_equal(a.buf + 12, b.buf + 12, a.len - 12);
		free(a.buf);
		free(b.buf);
	}
}

static void test_paths_agree(void **state)
{
	(void)state;
	static const uint8_t times[12] = {1, 1, 8, 10, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 9},
	                     sack[20] = {1, 1, 5, 18, 0, 0, 1, 0, 0, 0, 2, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0,
	                             1},
	                     odd[12] = {1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 0};
	struct rig r;
	assert_int_equal(rig_open(&r, 4 << 20, 1000), 0);
	struct nssm_clone_cfg cfg = plain_cfg();
	struct nssm_cloner *fast = open_cloner(&cfg);
	for (int side = 0; side < 2; side++) {
		cfg.mac_base[side] = 0x020000000000;
		cfg.n_macs[side] = 5;
	}
	struct nssm_cloner *slow = open_cloner(&cfg);
	struct frame f;
	uint32_t plain = 0;
	for (int v = 4; v <= 6; v += 2) {
		uint8_t a[16], b[16], c[16], group[16] = {224, 0, 0, 251};
		u_addr(a, v, 1);
		u_addr(b, v, 2);
		u_addr(c, v, 3);
		if (v == 6)
			memcpy(group, "\xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\xfb", 16);
		const struct {
			const uint8_t *from, *to;
			uint16_t sport, dport;
			uint8_t flags;
			const uint8_t *opt;
			uint32_t n_opt;
		} tcp[] = {
		        {a, b, 40000, 80, U_SYN, times, 12},
		        {b, a, 80, 40000, U_SYN | U_ACK, times, 12},
		        {a, b, 40000, 80, U_ACK, sack, 20},
		        {b, a, 80, 40000, U_ACK, sack, 20},
		        {a, b, 40000, 80, U_RST, times, 0},
		        {a, b, 40000, 80, U_ACK, odd, 12},
		        {c, a, 40000, 22, U_SYN, times, 12},
		        {a, c, 22, 40000, U_ACK, times, 12},
		        {c, a, 40000, 20000, U_SYN, times, 0},
		        {b, a, 5000, 30000, U_SYN, times, 0},
		        {b, c, 5000, 30000, U_SYN, times, 0},
		};
		for (size_t i = 0; i < sizeof tcp / sizeof tcp[0]; i++) {
			frame_tcp_opt(&f, v, tcp[i].from, tcp[i].sport, tcp[i].to, tcp[i].dport, tcp[i].flags,
			        0xfffffff0, 0xfffffffe, tcp[i].opt, tcp[i].n_opt, "data", 4);
			same_both_ways(fast, slow, &r, &f);
			plain += (r.tape->last->flags & NSSM_REC_PLAIN) != 0;
		}
		frame_udp(&f, v, a, 4000, b, 53, "\x12\x34question....", 14);
		same_both_ways(fast, slow, &r, &f);
		frame_udp(&f, v, b, 53, a, 4000,
		        "\x12\x34"
		        "answer......",
		        14);
		same_both_ways(fast, slow, &r, &f);
		frame_udp(&f, v, b, 53, a, 4000, "odd", 3);
		same_both_ways(fast, slow, &r, &f);
		frame_udp(&f, v, a, 5353, group, 5353, "to all of them", 14);
		f.d[0] = 1;
		same_both_ways(fast, slow, &r, &f);
		assert_true((r.tape->last->flags & NSSM_REC_PLAIN) != 0);
	}
	assert_int_equal(plain, 20); /* all but the odd ones */
	nssm_cloner_close(&fast);
	nssm_cloner_close(&slow);
	rig_close(&r);
}

/* --- sums --- */

/* Many keys, so that every number wraps somewhere; and UDP's sum, which may never come out as 0. */
static void test_sums(void **state)
{
	(void)state;
	struct rig r;
	assert_int_equal(rig_open(&r, 4 << 20, 1000), 0);
	struct nssm_clone_cfg cfg = plain_cfg();
	struct nssm_cloner *c = open_cloner(&cfg);
	struct frame f;
	static const uint8_t times[12] = {1, 1, 8, 10, 0x80, 0, 0, 0, 0xc0, 0, 0, 0};
	frame_tcp_opt(&f, 4, A4(1), 40000, A4(2), 80, U_ACK, 0x80000000, 0xc0000000, times, 12, "odd", 3);
	assert_int_equal(rig_add(&r, &f), 1);
	for (uint32_t i = 0; i < 20000; i++) {
		struct nssm_play_id id = {.key = nssm_clone_key(1, 1, i), .slot = i % 20000};
		free(clone_checked(c, &r, r.tape->last, &f, &id).buf);
	}
	frame_udp(&f, 4, A4(1), 40000, A4(2), 53, "\x12\x34question....", 14);
	assert_int_equal(rig_add(&r, &f), 1);
	uint8_t dst[256];
	uint32_t wirelen, all_ones = 0;
	for (uint32_t i = 0; i < 400000; i++) {
		struct nssm_play_id id = {.key = nssm_clone_key(1, 1, i), .slot = i % 50000};
		assert_int_equal(nssm_clone_write(c, dst, &wirelen, r.tape, r.tape->last, &id), f.len);
		assert_int_not_equal(u_get16(dst + 40), 0);
		if (u_get16(dst + 40) == 0xffff) {
			all_ones++;
			assert_true(oracle_frame(f.d, f.len, dst, f.len, 0, false, false));
		}
	}
	assert_true(all_ones >= 1);
	/* None stays none; a wrong one stays as wrong, 0 and 0xffff included. */
	for (uint32_t i = 0; i < 65536; i += i < 3 || i > 65530 ? 1 : 97) {
		u_put16(f.d + 40, i);
		assert_int_equal(rig_add(&r, &f), 1);
		struct nssm_play_id id = {.key = nssm_clone_key(2, 2, i), .slot = i % 50000};
		struct clone k = clone_checked(c, &r, r.tape->last, &f, &id);
		assert_int_equal(u_get16(k.buf + 40) == 0, i == 0);
		free(k.buf);
		u_put16(f.d + 24, i); /* IPv4's */
	}
	nssm_cloner_close(&c);
	rig_close(&r);
}

/* Each bit of what is added is as often 1 as 0, over clones and over flows. */
static void test_random(void **state)
{
	(void)state;
	struct rig r;
	assert_int_equal(rig_open(&r, 8 << 20, 4000), 0);
	struct nssm_clone_cfg cfg = plain_cfg();
	cfg.sockets_max = 2000;
	struct nssm_cloner *c = open_cloner(&cfg);
	enum { N = 1000 };
	struct frame f;
	for (uint16_t i = 0; i < N; i++) {
		frame_tcp(&f, 4, A4(1), (uint16_t)(10000 + i), A4(2), 80, U_ACK, 0, 0, "", 0);
		assert_int_equal(rig_add(&r, &f), 1);
	}
	for (int over_flows = 0; over_flows < 2; over_flows++) {
		uint32_t ones[2][32] = {0}, ids[16] = {0}, wirelen;
		const struct nssm_rec *rec = r.tape->first;
		for (uint32_t i = 0; i < N; i++) {
			uint8_t dst[256];
			struct nssm_play_id id = {.key = nssm_clone_key(9, 9, over_flows ? 1 : i), .slot = 0};
			nssm_clone_write(c, dst, &wirelen, r.tape, rec, &id);
			for (int bit = 0; bit < 32; bit++)
				for (int k = 0; k < 2; k++)
					ones[k][bit] += u_get32(dst + 38 + 4 * k) >> bit & 1;
			for (int bit = 0; bit < 16; bit++)
				ids[bit] += u_get16(dst + 18) >> bit & 1;
			if (over_flows)
				rec = nssm_rec_next(rec);
		}
		for (int k = 0; k < 2; k++)
			for (int bit = 0; bit < 32; bit++)
				assert_in_range(ones[k][bit], 400, 600);
		for (int bit = 1; bit < 16; bit++)
			assert_true(over_flows ? ids[bit] == 0 || ids[bit] == N
			                       : ids[bit] > 400 && ids[bit] < 600);
	}
	assert_true(nssm_clone_key(1, 2, 3) == nssm_clone_key(1, 2, 3));
	assert_true(nssm_clone_key(1, 2, 3) != nssm_clone_key(1, 2, 4) &&
	            nssm_clone_key(1, 2, 3) != nssm_clone_key(1, 3, 3) &&
	            nssm_clone_key(1, 2, 3) != nssm_clone_key(2, 2, 3));
	nssm_cloner_close(&c);
	rig_close(&r);
}

/* --- MACs and tags --- */

static void is_macs(const struct nssm_cloner *c, const struct rig *r, const struct nssm_rec *rec,
        uint64_t slot, uint64_t to, uint64_t from)
{
	struct nssm_play_id id = {.key = nssm_clone_key(1, 1, 1), .slot = slot};
	struct clone k = clone_one(c, r->tape, rec, &id);
	uint64_t got[2] = {(uint64_t)u_get16(k.buf) << 32 | u_get32(k.buf + 2),
	        (uint64_t)u_get16(k.buf + 6) << 32 | u_get32(k.buf + 8)};
	assert_int_equal(got[0], to);
	assert_int_equal(got[1], from);
	free(k.buf);
}

static void test_macs(void **state)
{
	(void)state;
	struct rig r;
	assert_int_equal(rig_open(&r, 4 << 20, 100), 0);
	struct frame f;
	frame_tcp(&f, 4, A4(1), 40000, A4(2), 80, U_SYN, 1, 0, "", 0);
	assert_int_equal(rig_add(&r, &f), 1);
	const struct nssm_rec *there = r.tape->last;
	frame_tcp(&f, 4, A4(2), 80, A4(1), 40000, U_ACK, 1, 0, "", 0);
	assert_int_equal(rig_add(&r, &f), 1);
	const struct nssm_rec *back = r.tape->last;
	frame_udp(&f, 4, A4(1), 5353, (const uint8_t[]){224, 0, 0, 251}, 5353, "x", 1);
	memcpy(f.d, "\x01\x00\x5e\x00\x00\xfb", 6);
	assert_int_equal(rig_add(&r, &f), 1);
	const struct nssm_rec *group = r.tape->last;
	uint8_t lldp[60] = {0x01, 0x80, 0xc2, 0, 0, 0x0e, 0, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x88, 0xcc};
	assert_int_equal(nssm_tape_append(r.builder, r.tape, 0, lldp, 60, 60, &r.err), 1);
	const struct nssm_rec *other = r.tape->last;
	enum { CAPTURED_TO = 0x1122, CLIENT = 0x020000, SERVER = 0x020001 };
	const uint64_t to = 0x001122334455, from = 0x00aabbccddee, mdns = 0x01005e0000fb,
	               lldp_to = 0x0180c200000e;

	struct nssm_clone_cfg cfg = plain_cfg();
	struct nssm_cloner *c = open_cloner(&cfg);
	is_macs(c, &r, there, 0, (uint64_t)SERVER << 24, (uint64_t)CLIENT << 24);
	is_macs(c, &r, there, 5, (uint64_t)SERVER << 24 | 5 * 256, (uint64_t)CLIENT << 24 | 5 * 64);
	is_macs(c, &r, back, 5, (uint64_t)CLIENT << 24 | 5 * 64, (uint64_t)SERVER << 24 | 5 * 256);
	is_macs(c, &r, group, 5, mdns, (uint64_t)CLIENT << 24 | 5 * 64);
	is_macs(c, &r, other, 5, lldp_to, (uint64_t)CLIENT << 24 | 5 * 64); /* no host's own goes out */
	static const uint8_t hop[2][6] = {{6, 1, 1, 1, 1, 1}, {6, 2, 2, 2, 2, 2}};
	nssm_cloner_set_next_hop(c, 0, hop[0]);
	is_macs(c, &r, there, 0, 0x060101010101, (uint64_t)CLIENT << 24);
	is_macs(c, &r, back, 0, (uint64_t)CLIENT << 24, (uint64_t)SERVER << 24);
	is_macs(c, &r, group, 0, mdns, (uint64_t)CLIENT << 24);
	nssm_cloner_set_next_hop(c, 1, hop[1]);
	is_macs(c, &r, back, 0, 0x060202020202, (uint64_t)SERVER << 24);
	nssm_cloner_close(&c);

	cfg.n_macs[0] = 1;
	cfg.mac_base[0] = 0x0a0000000007;
	cfg.n_macs[1] = 100;
	cfg.mac_base[1] = 0x0a00000000ff;
	c = open_cloner(&cfg);
	is_macs(c, &r, there, 5, 0x0a00000000ff + 5 * 256 % 100, 0x0a0000000007);
	is_macs(c, &r, back, 5, 0x0a0000000007, 0x0a00000000ff + 5 * 256 % 100);
	nssm_cloner_close(&c);

	/* Without rewriting: as captured, but for what is asked. */
	struct nssm_clone_cfg none = {0};
	c = open_cloner(&none);
	is_macs(c, &r, there, 5, to, from);
	nssm_cloner_set_next_hop(c, 0, hop[0]);
	is_macs(c, &r, there, 5, 0x060101010101, from);
	is_macs(c, &r, back, 5, to, from);
	is_macs(c, &r, group, 5, mdns, from);
	nssm_cloner_close(&c);
	none.n_macs[0] = 1;
	none.mac_base[0] = 0x0a0000000007;
	c = open_cloner(&none);
	is_macs(c, &r, there, 5, to, 0x0a0000000007);
	is_macs(c, &r, other, 5, lldp_to, 0x0a0000000007);
	nssm_cloner_close(&c);
	rig_close(&r);
}

static void test_tags(void **state)
{
	(void)state;
	for (int had = 0; had <= 3; had++)
		for (uint32_t push = 0; push <= 2; push++)
			for (int strip = 0; strip < 2; strip++)
				for (int rewrite = 0; rewrite < 2; rewrite++) {
					struct rig r;
					assert_int_equal(rig_open(&r, 1 << 20, 100), 0);
					struct frame f;
					frame_begin(&f, 4, A4(1), A4(2), had);
					frame_add(&f,
					        "\x9c\x40\x00\x50\0\0\0\1\0\0\0\0\x50\x02\x10\0\0\0\0\0", 20);
					frame_end(&f, U_TCP);
					assert_int_equal(nssm_tape_append(r.builder, r.tape, 0, f.d, f.len,
					                         f.len + 100, &r.err),
					        1);
					struct nssm_clone_cfg cfg = plain_cfg();
					cfg.rewrite = rewrite;
					cfg.strip_tags = strip;
					cfg.n_tags = push;
					cfg.tag[0] = (struct nssm_vlan_tag){0x88a8, 0x2007};
					cfg.tag[1] = (struct nssm_vlan_tag){0x8100, 0x0008};
					struct nssm_cloner *c = open_cloner(&cfg);
					struct nssm_play_id id = {.key = nssm_clone_key(1, 1, 1), .slot = 3};
					struct clone k = clone_one(c, r.tape, r.tape->last, &id);
					assert_true(oracle_frame(
					        f.d, f.len, k.buf, k.len, 4 * (int)push, strip, false));
					static const uint8_t tags[8] = {
					        0x88, 0xa8, 0x20, 0x07, 0x81, 0, 0, 8};
					assert_memory_equal(k.buf + 12, tags, 4 * push);
					assert_int_equal(k.wirelen, k.len + 100);
					uint32_t at = 12 + 4 * push, kept = strip ? 0 : 4 * (uint32_t)had;
					assert_memory_equal(k.buf + at, f.d + 12, kept);
					assert_int_equal(u_get16(k.buf + at + kept), 0x0800);
					if (!rewrite)
						assert_memory_equal(k.buf, f.d, 12);
					free(k.buf);
					/* Cut anywhere. */
					for (uint32_t n = 0; n < f.len; n++) {
						assert_int_equal(nssm_tape_append(r.builder, r.tape, 0, f.d,
						                         n, f.len, &r.err),
						        1);
						k = clone_one(c, r.tape, r.tape->last, &id);
						assert_true(oracle_frame(
						        f.d, n, k.buf, k.len, 4 * (int)push, strip, false));
						free(k.buf);
					}
					nssm_cloner_close(&c);
					rig_close(&r);
				}
}

/* --- what is not there, and what is refused --- */

/* A pool that is empty leaves those addresses as they are. */
static void test_no_pool(void **state)
{
	(void)state;
	struct rig r;
	assert_int_equal(rig_open(&r, 1 << 20, 100), 0);
	struct nssm_clone_cfg cfg = plain_cfg();
	memset(&cfg.servers[0], 0, sizeof cfg.servers[0]);
	memset(&cfg.clients[1], 0, sizeof cfg.clients[1]);
	memset(&cfg.servers[1], 0, sizeof cfg.servers[1]);
	struct nssm_cloner *c = open_cloner(&cfg);
	struct frame f;
	struct nssm_play_id id = {.key = nssm_clone_key(1, 1, 1), .slot = 3};
	uint8_t a[16], b[16];
	u_addr(a, 6, 1);
	u_addr(b, 6, 2);
	frame_tcp(&f, 6, a, 40000, b, 80, U_SYN, 1, 0, "", 0);
	assert_int_equal(rig_add(&r, &f), 1);
	struct clone k = clone_checked(c, &r, r.tape->last, &f, &id);
	assert_memory_equal(k.buf + 22, f.d + 22, 32 + 4); /* addresses and ports */
	assert_memory_not_equal(k.buf + 58, f.d + 58, 4);  /* numbers all the same */
	free(k.buf);
	frame_tcp(&f, 4, A4(1), 40000, A4(2), 80, U_SYN, 1, 0, "", 0);
	assert_int_equal(rig_add(&r, &f), 1);
	k = clone_checked(c, &r, r.tape->last, &f, &id);
	assert_memory_equal(k.buf + 26, ((uint8_t[]){198, 18, 0, 193, 10, 0, 0, 2}), 8);
	free(k.buf);
	nssm_cloner_close(&c);
	rig_close(&r);
}

static void test_refused(void **state)
{
	(void)state;
	struct nssm_clone_cfg good = plain_cfg(), bad[12];
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		bad[i] = good;
	bad[0].port_lo = 0;
	bad[1].port_hi = bad[1].port_lo - 1;
	bad[2].endpoints_max = 0;
	bad[3].sockets_max = 50001;
	bad[4].n_tags = 3;
	bad[5].servers[0] = good.clients[0];
	bad[6].clients[0] = good.clients[1];
	bad[7].mac_base[0] = 0x010000000000;
	bad[7].n_macs[0] = 1;
	bad[8].mac_base[1] = 0xfeffffffffff;
	bad[8].n_macs[1] = 2;
	bad[9].mac_base[1] = (uint64_t)1 << 48;
	bad[9].n_macs[1] = 1;
	memset(&bad[10].clients[0], 0, sizeof bad[10].clients[0]);
	pool(&bad[10].clients[0], "198.18.0.1");
	bad[10].sockets_max = 25001;
	bad[11].servers_max = 0;
	static const char *const why[] = {"from 0", "from 10000 to 9999", "at least one", "only 50000 ports",
	        "at most 2", "share addresses", "holds IPv6", "hosts", "hosts", "hosts", "hold no session",
	        "at least one"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct nssm_cloner *c = NULL;
		struct nssm_err err = {0};
		int rc = nssm_cloner_open(&c, &bad[i], &err);
		if (rc >= 0 || rc != err.code || strstr(err.msg, why[i]) == NULL || c != NULL)
			fail_msg("%zu: %d %s", i, rc, err.msg);
	}
	/* Slots: the smaller of both versions; without rewriting there is no end of them. */
	struct nssm_cloner *c = open_cloner(&good);
	assert_int_equal(nssm_cloner_slots(c), 65534ull * 100 / 64);
	nssm_cloner_close(&c);
	memset(&good.clients[0], 0, sizeof good.clients[0]);
	c = open_cloner(&good);
	assert_int_equal(nssm_cloner_slots(c), (1ull << 32) * 100 / 64);
	nssm_cloner_close(&c);
	good.rewrite = false;
	c = open_cloner(&good);
	assert_true(nssm_cloner_slots(c) == UINT64_MAX);
	nssm_cloner_close(&c);
	nssm_cloner_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_unique),
	        cmocka_unit_test(test_paths_agree),
	        cmocka_unit_test(test_sums),
	        cmocka_unit_test(test_random),
	        cmocka_unit_test(test_macs),
	        cmocka_unit_test(test_tags),
	        cmocka_unit_test(test_no_pool),
	        cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
