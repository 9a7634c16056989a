/* A port's neighbour: ARP, the addresses it owns, its gateway over IPv4. */
#include "neigh_frames.h"

#include <pthread.h>

#include "base/philox.h"

/* --- ARP --- */

static void test_arp(void **state)
{
	(void)state;
	struct nssm_neigh_cfg cfg = base_cfg();
	struct nssm_neigh *n = open_cfg(&cfg);
	struct frame f = arp_request(dut4, client4), want = arp_answer(client4, dut4, 0, NULL),
	             got = give(n, &f);
	expect(&got, &want);
	/* Padded, with what a switch left there. */
	memset(f.data + f.len, 0xee, 18);
	f.len += 18;
	got = give(n, &f);
	expect(&got, &want);
	/* To our MAC (RFC 1122's unicast poll), and a probe (RFC 5227) that has no sender. */
	f = arp_request(dut4, client4);
	memcpy(f.data, our_mac, 6);
	got = give(n, &f);
	expect(&got, &want);
	f = arp_request(no_mac, client4);
	got = give(n, &f);
	want = arp_answer(client4, no_mac, 0, NULL);
	expect(&got, &want);
	/* The edges of the pool. */
	static const struct {
		uint8_t addr[4];
		bool ours;
	} edge[] = {{{198, 18, 0, 0}, false}, {{198, 18, 0, 1}, true}, {{198, 18, 0, 254}, true},
	        {{198, 18, 0, 255}, false}, {{198, 17, 255, 255}, false}, {{198, 18, 1, 1}, false}};
	for (size_t i = 0; i < sizeof edge / sizeof edge[0]; i++) {
		f = arp_request(nobody4, edge[i].addr);
		assert_int_equal(give(n, &f).len, edge[i].ours ? 60 : 0);
	}
	const struct nssm_neigh_stats *st = nssm_neigh_stats(n);
	assert_int_equal(st->arp_requests, 10);
	assert_int_equal(st->arp_replies, 6);
	assert_int_equal(st->malformed, 0);
	nssm_neigh_close(&n);
	assert_null(n);
	nssm_neigh_close(&n);
}

static void test_arp_ignored(void **state)
{
	(void)state;
	struct nssm_neigh_cfg cfg = base_cfg();
	struct nssm_neigh *n = open_cfg(&cfg);
	/* An announcement, a reply, a frame for another station, our own frame come back. */
	struct frame f = arp_request(client4, client4);
	ignored(n, &f);
	f = arp_answer(client4, dut4, 0, NULL);
	memcpy(f.data, our_mac, 6);
	memcpy(f.data + 6, dut_mac, 6);
	ignored(n, &f);
	f = arp_request(dut4, client4);
	memcpy(f.data, dut_mac, 6);
	ignored(n, &f);
	f = arp_request(dut4, client4);
	memcpy(f.data + 6, our_mac, 6);
	ignored(n, &f);
	f = arp_request(dut4, client4);
	f.data[14 + 7] = 9; /* InARP */
	ignored(n, &f);
	assert_int_equal(nssm_neigh_stats(n)->malformed, 0);
	/* Hardware, protocol, lengths that are not Ethernet's and IPv4's, and a sender that is a group or nobody. */
	static const struct {
		uint8_t off, value;
	} wrong[] = {{1, 6}, {0, 1}, {2, 9}, {3, 6}, {4, 8}, {5, 16}, {8, 3}};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		f = arp_request(dut4, client4);
		f.data[14 + wrong[i].off] = wrong[i].value;
		bad(n, &f);
	}
	f = arp_request(dut4, client4);
	memset(f.data + 14 + 8, 0, 6);
	bad(n, &f);
	/* Cut at every byte. */
	f = arp_request(dut4, client4);
	for (f.len = 0; f.len < 42; f.len++) {
		if (f.len < 14)
			traffic(n, &f);
		else
			bad(n, &f);
	}
	assert_int_equal(nssm_neigh_stats(n)->arp_replies, 0);
	nssm_neigh_close(&n);
}

static void test_tags(void **state)
{
	(void)state;
	const uint16_t tci[5] = {0x6064, 0x00c8, 7, 8, 9}, other[2] = {0x6065, 0x00c8},
	               prio[2] = {0x8064, 0xe0c8};
	for (uint32_t n_vlan = 0; n_vlan <= 2; n_vlan++) {
		struct nssm_neigh_cfg cfg = base_cfg();
		cfg.n_vlan = n_vlan;
		memcpy(cfg.vlan, tci, sizeof cfg.vlan);
		struct nssm_neigh *n = open_cfg(&cfg);
		for (uint32_t n_tags = 0; n_tags <= 5; n_tags++) {
			for (int k = 0; k < 3; k++) {
				const uint16_t *t = k == 0 ? tci : k == 1 ? other : prio;
				if (k > 0 && n_tags > 2)
					continue;
				struct frame f = link(broadcast, dut_mac, n_tags, t, 0x0806);
				add_arp(&f, 1, dut_mac, dut4, no_mac, client4);
				if (n_tags > NSSM_NEIGH_TAGS_MAX) {
					traffic(n, &f);
					continue;
				}
				struct frame got = give(n, &f), want = arp_answer(client4, dut4, n_tags, t);
				/* The same VLAN IDs, whatever the priority; the answer has the question's. */
				if (n_tags >= n_vlan && (k != 1 || n_vlan == 0))
					expect(&got, &want);
				else
					assert_int_equal(got.len, 0);
			}
		}
		nssm_neigh_close(&n);
	}
	/* A tag cut off. */
	struct nssm_neigh_cfg cfg = base_cfg();
	struct nssm_neigh *n = open_cfg(&cfg);
	struct frame f = link(broadcast, dut_mac, 2, tci, 0x0806);
	for (f.len = 14; f.len < 22; f.len++)
		traffic(n, &f);
	nssm_neigh_close(&n);
}

/* --- owned addresses --- */

static void test_own(void **state)
{
	(void)state;
	struct nssm_neigh_cfg cfg = base_cfg();
	cfg.n_pools = 0;
	cfg.own_max = 4;
	memcpy(cfg.gateway4, dut4, 4);
	memcpy(cfg.gateway6, dut6, 16);
	struct nssm_neigh *n = open_cfg(&cfg);
	struct frame f4 = arp_request(nobody4, client4), f6 = solicit(nobody6, client6, dut_mac, false);
	ignored(n, &f4);
	ignored(n, &f6);
	for (int i = 0; i < 3; i++) {
		nssm_neigh_own(n, client4, 4);
		nssm_neigh_own(n, client6, 6);
	}
	assert_true(give(n, &f4).len > 0);
	assert_true(give(n, &f6).len > 0);
	/* An IPv6 address that begins like the IPv4 one is another. */
	const uint8_t like[16] = {198, 18, 0, 77};
	f6 = solicit(nobody6, like, dut_mac, false);
	ignored(n, &f6);
	/* Never these. */
	static const uint8_t never4[][4] = {
	        {0}, {0, 1, 2, 3}, {127, 0, 0, 1}, {224, 0, 0, 1}, {255, 255, 255, 255}, {198, 18, 0, 1}};
	static const uint8_t never6[][16] = {{0}, {[15] = 1}, {0xff, 2, [15] = 1}, IP6(1, 1)};
	for (size_t i = 0; i < sizeof never4 / sizeof never4[0]; i++) {
		nssm_neigh_own(n, never4[i], 4);
		f4 = arp_request(nobody4, never4[i]);
		ignored(n, &f4);
	}
	for (size_t i = 0; i < sizeof never6 / sizeof never6[0]; i++) {
		nssm_neigh_own(n, never6[i], 6);
		if (never6[i][0] == 0xff)
			continue; /* no target of a solicitation */
		f6 = solicit(nobody6, never6[i], dut_mac, false);
		ignored(n, &f6);
	}
	/* Two places are left. */
	assert_int_equal(nssm_neigh_stats(n)->own_full, 0);
	for (uint8_t i = 1; i <= 4; i++) {
		const uint8_t a[4] = {10, 0, 0, i};
		nssm_neigh_own(n, a, 4);
		nssm_neigh_own(n, client4, 4);
		f4 = arp_request(nobody4, a);
		assert_int_equal(give(n, &f4).len > 0, i <= 2);
	}
	assert_int_equal(nssm_neigh_stats(n)->own_full, 2);
	nssm_neigh_close(&n);

	cfg.own_max = 0;
	n = open_cfg(&cfg);
	nssm_neigh_own(n, client4, 4);
	assert_int_equal(nssm_neigh_stats(n)->own_full, 1);
	f4 = arp_request(nobody4, client4);
	ignored(n, &f4);
	nssm_neigh_close(&n);
}

enum { MANY = 20000, THREADS = 4 };

static void address(uint8_t a[16], uint32_t i)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 5, i, 1);
	nssm_rng_bytes(&rng, a, 16);
	a[0] = 0x20;
}

static void *own_many(void *arg)
{
	struct nssm_neigh *n = arg;
	for (uint32_t i = 0; i < MANY; i++) {
		uint8_t a[16];
		address(a, i);
		nssm_neigh_own(n, a, 6);
		nssm_neigh_own(n, a, 4);
	}
	return NULL;
}

/* Threads that add the same addresses, while another asks. */
static void test_own_threads(void **state)
{
	(void)state;
	struct nssm_neigh_cfg cfg = base_cfg();
	cfg.n_pools = 0;
	cfg.own_max = 2 * MANY;
	struct nssm_neigh *n = open_cfg(&cfg);
	pthread_t t[THREADS];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, own_many, n), 0);
	uint8_t a[16];
	for (uint32_t i = 0; i < MANY; i += 100) {
		address(a, i);
		struct frame f = solicit(nobody6, a, dut_mac, false);
		give(n, &f);
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_int_equal(nssm_neigh_stats(n)->own_full, 0);
	for (uint32_t i = 0; i < 2 * MANY; i++) {
		address(a, i);
		struct frame f = solicit(nobody6, a, dut_mac, false);
		assert_int_equal(give(n, &f).len > 0, i < MANY);
	}
	nssm_neigh_close(&n);
}

/* --- the gateway --- */

static void test_gateway4(void **state)
{
	(void)state;
	struct nssm_neigh_cfg cfg = base_cfg();
	memcpy(cfg.gateway4, dut4, 4);
	struct nssm_neigh *n = open_cfg(&cfg);
	/* The pool's first address is the gateway's: the second asks. It is not answered for either. */
	const uint8_t second[4] = {198, 18, 0, 2};
	struct frame q = arp_question(second), f = arp_request(client4, dut4);
	ignored(n, &f);
	assert_false(nssm_neigh_resolved(n));
	static const uint64_t asked_s[] = {0, 1, 2, 3, 4, 9, 14, 19};
	for (size_t i = 0; i < sizeof asked_s / sizeof asked_s[0]; i++) {
		uint64_t t = 7 * S + asked_s[i] * S;
		if (i > 0)
			polled(n, t - 1, NULL);
		polled(n, t, &q);
		polled(n, t, NULL);
	}
	/* Answers of others, to others, and one that nobody asked for. */
	bool mine;
	uint8_t mac[6];
	struct frame answer = link(our_mac, dut_mac, 0, NULL, 0x0806), wrong = answer;
	add_arp(&answer, 2, dut_mac, dut4, our_mac, second);
	add_arp(&wrong, 2, dut_mac, nobody4, our_mac, second);
	ignored(n, &wrong);
	wrong.len = 14;
	add_arp(&wrong, 2, dut_mac, dut4, dut_mac, second);
	ignored(n, &wrong);
	wrong = link(broadcast, dut_mac, 0, NULL, 0x0806);
	add_arp(&wrong, 2, dut_mac, dut4, our_mac, second);
	ignored(n, &wrong);
	wrong.len = 14;
	add_arp(&wrong, 2, broadcast, dut4, our_mac, second);
	bad(n, &wrong);
	assert_false(nssm_neigh_gateway(n, 4, mac));
	give_at(n, &answer, 30 * S, &mine);
	assert_true(mine);
	assert_true(nssm_neigh_gateway(n, 4, mac));
	assert_memory_equal(mac, dut_mac, 6);
	assert_true(nssm_neigh_resolved(n));
	/* Renewed after 30 s; a MAC that changes is taken. */
	polled(n, 60 * S - 1, NULL);
	polled(n, 60 * S, &q);
	answer.data[14 + 13] = 0xbc;
	give_at(n, &answer, 60 * S + 1000, &mine);
	assert_true(nssm_neigh_gateway(n, 4, mac));
	assert_int_equal(mac[5], 0xbc);
	polled(n, 90 * S, NULL);
	/* No answer: it stays known, and is asked as at first. */
	for (size_t i = 0; i < sizeof asked_s / sizeof asked_s[0]; i++)
		polled(n, 100 * S + asked_s[i] * S, &q);
	assert_true(nssm_neigh_gateway(n, 4, mac));
	assert_int_equal(nssm_neigh_stats(n)->asked, 17);
	assert_false(nssm_neigh_gateway(n, 6, mac));
	nssm_neigh_close(&n);
}

/* Who asks: self, the pool's first, the first that was owned, nobody. */
static void test_asker(void **state)
{
	(void)state;
	const uint8_t self[4] = {192, 0, 2, 1}, gateway[4] = {192, 0, 2, 254};
	for (int i = 0; i < 4; i++) {
		struct nssm_neigh_cfg cfg = base_cfg();
		cfg.own_max = 10;
		memcpy(cfg.gateway4, gateway, 4);
		if (i == 0)
			memcpy(cfg.self4, self, 4);
		if (i > 1)
			cfg.n_pools = 0;
		struct nssm_neigh *n = open_cfg(&cfg);
		if (i <= 2) {
			nssm_neigh_own(n, gateway, 4);
			nssm_neigh_own(n, client6, 6);
			nssm_neigh_own(n, client4, 4);
			nssm_neigh_own(n, nobody4, 4);
		}
		struct frame q = link(broadcast, our_mac, 0, NULL, 0x0806);
		add_arp(&q, 1, our_mac,
		        i == 0   ? self
		        : i == 1 ? dut4
		        : i == 2 ? client4
		                 : no_mac,
		        no_mac, gateway);
		polled(n, 0, &q);
		nssm_neigh_close(&n);
	}
	/* With tags. */
	for (int i = 0; i < 3; i++) {
		struct nssm_neigh_cfg cfg = base_cfg();
		memcpy(cfg.gateway4, gateway, 4);
		memcpy(cfg.self4, self, 4);
		cfg.n_vlan = i == 0 ? 1 : 2;
		cfg.vlan[0] = 0x2005;
		cfg.vlan[1] = 6;
		cfg.tpid[0] = i == 2 ? 0x9100 : 0;
		struct nssm_neigh *n = open_cfg(&cfg);
		struct frame q = link(broadcast, our_mac, cfg.n_vlan, cfg.vlan, 0x0806);
		add_arp(&q, 1, our_mac, self, no_mac, gateway);
		if (i == 2)
			put16(q.data + 12, 0x9100);
		polled(n, 0, &q);
		nssm_neigh_close(&n);
	}
}

static void test_open(void **state)
{
	(void)state;
	struct nssm_err err;
	for (int i = 0; i < 8; i++) {
		struct nssm_neigh_cfg cfg = base_cfg();
		struct nssm_neigh *n;
		switch (i) {
		case 0:
			memset(cfg.src_mac, 0, 6);
			break;
		case 1:
			memset(cfg.src_mac, 0xff, 6);
			break;
		case 2:
			memcpy(cfg.gateway4, (const uint8_t[]){224, 0, 0, 1}, 4);
			break;
		case 3:
			memcpy(cfg.gateway4, dut4, 4), memcpy(cfg.self4, dut4, 4);
			break;
		case 4:
			cfg.gateway6[0] = 0xff;
			break;
		case 5:
			memcpy(cfg.gateway6, dut6, 16), memcpy(cfg.self6, dut6, 16);
			break;
		case 6:
			cfg.own_max = (1u << 26) + 1;
			break;
		default:
			cfg.own_max = UINT32_MAX;
			break;
		}
		int rc = nssm_neigh_open(&n, &cfg, &err);
		assert_int_equal(rc, i < 6 ? NSSM_EARG : NSSM_ERANGE);
		assert_int_equal(err.code, rc);
		assert_null(n);
	}
	struct nssm_neigh_cfg cfg = base_cfg();
	struct nssm_neigh *n = open_cfg(&cfg);
	polled(n, 0, NULL);
	assert_true(nssm_neigh_resolved(n));
	nssm_neigh_close(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_open),
	        cmocka_unit_test(test_arp),
	        cmocka_unit_test(test_arp_ignored),
	        cmocka_unit_test(test_tags),
	        cmocka_unit_test(test_own),
	        cmocka_unit_test(test_own_threads),
	        cmocka_unit_test(test_gateway4),
	        cmocka_unit_test(test_asker),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
