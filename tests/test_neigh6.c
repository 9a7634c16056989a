/* A port's neighbour: Neighbor Discovery, echo, its gateway over IPv6. */
#include "neigh_frames.h"

#include "frames.h"

/* --- Neighbor Discovery --- */

static struct frame nd_answer(
        const uint8_t *target, const uint8_t *dst, const uint8_t *dst_mac, uint8_t flags)
{
	struct frame f = link(dst_mac, our_mac, 0, NULL, 0x86dd);
	uint8_t body[32] = {136, 0, 0, 0, flags};
	memcpy(body + 8, target, 16);
	body[24] = 2;
	body[25] = 1;
	memcpy(body + 26, our_mac, 6);
	add_icmp6(&f, target, dst, 255, body, 32);
	return f;
}

static void test_nd(void **state)
{
	(void)state;
	struct nssm_neigh_cfg cfg = base_cfg();
	struct nssm_neigh *n = open_cfg(&cfg);
	struct frame known = {.len = 0}, want = {.len = 0};
	add(&known, frame_solicit, sizeof frame_solicit);
	add(&want, frame_advert, sizeof frame_advert);
	struct frame got = give(n, &known);
	expect(&got, &want);
	/* To the group and to the address itself; with and without the sender's MAC, which may be another than the frame's. */
	const uint8_t option_mac[6] = {2, 0, 0, 0, 0, 0xcc};
	for (int i = 0; i < 6; i++) {
		const uint8_t *mac = i % 3 == 0 ? dut_mac : i % 3 == 1 ? NULL : option_mac;
		struct frame f = solicit(dut6, client6, mac, i >= 3);
		want = nd_answer(client6, dut6, mac != NULL ? mac : dut_mac, 0x60);
		got = give(n, &f);
		expect(&got, &want);
	}
	/* Behind VLAN tags, and with padding. */
	const uint16_t tci[2] = {100, 200};
	struct frame tagged = link(our_mac, dut_mac, 2, tci, 0x86dd),
	             plain = solicit(dut6, client6, dut_mac, true);
	add(&tagged, plain.data + 14, plain.len - 14);
	memset(tagged.data + tagged.len, 0xee, 9);
	tagged.len += 9;
	got = give(n, &tagged);
	want = nd_answer(client6, dut6, dut_mac, 0x60);
	assert_int_equal(got.len, want.len + 8);
	assert_memory_equal(got.data + 12, tagged.data + 12, 10);
	assert_memory_equal(got.data + 22, want.data + 14, want.len - 14);
	/* A DAD probe (RFC 4862): to all nodes, not as an answer to one. */
	static const uint8_t all_nodes[16] = {0xff, 2, [15] = 1}, all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
	struct frame f = solicit(none6, client6, NULL, false);
	got = give(n, &f);
	want = nd_answer(client6, all_nodes, all_nodes_mac, 0x20);
	expect(&got, &want);
	/* Our link-local address. */
	const uint8_t local[16] = {0xfe, 0x80, [8] = 0, 0, 0, 0xff, 0xfe, 0, 0, 0xaa};
	f = solicit(dut6, local, dut_mac, false);
	got = give(n, &f);
	want = nd_answer(local, dut6, dut_mac, 0x60);
	expect(&got, &want);
	const struct nssm_neigh_stats *st = nssm_neigh_stats(n);
	assert_int_equal(st->nd_requests, 10);
	assert_int_equal(st->nd_replies, 10);
	f = solicit(dut6, nobody6, dut_mac, false);
	ignored(n, &f);
	assert_int_equal(st->nd_requests, 11);
	assert_int_equal(st->malformed, 0);
	nssm_neigh_close(&n);
}

static void test_nd_malformed(void **state)
{
	(void)state;
	struct nssm_neigh_cfg cfg = base_cfg();
	struct nssm_neigh *n = open_cfg(&cfg);
	/* Checksum, hop limit, code. */
	struct frame f = solicit(dut6, client6, dut_mac, false);
	f.data[14 + 40 + 20] ^= 1;
	bad(n, &f);
	f = solicit(dut6, client6, dut_mac, false);
	f.data[14 + 7] = 254;
	bad(n, &f);
	f = solicit(dut6, client6, dut_mac, false);
	f.data[14 + 41] = 1;
	sum6(f.data + 14);
	bad(n, &f);
	/* A payload length beyond the frame, or below the message. */
	f = solicit(dut6, client6, dut_mac, false);
	put16(f.data + 14 + 4, 33);
	bad(n, &f);
	put16(f.data + 14 + 4, 23);
	sum6(f.data + 14);
	bad(n, &f);
	/* Options of no length, beyond the end, and a MAC that is a group's. */
	static const uint8_t option[][2] = {{1, 0}, {1, 2}, {1, 255}, {14, 0}};
	for (size_t i = 0; i < sizeof option / sizeof option[0]; i++) {
		f = solicit(dut6, client6, dut_mac, false);
		memcpy(f.data + 14 + 64, option[i], 2);
		sum6(f.data + 14);
		bad(n, &f);
	}
	f = solicit(dut6, client6, broadcast, false);
	bad(n, &f);
	/* One byte of an option. */
	f = solicit(dut6, client6, dut_mac, false);
	put16(f.data + 14 + 4, 25);
	sum6(f.data + 14);
	bad(n, &f);
	/* A probe with a MAC or to the address itself; groups as target and as sender. */
	f = solicit(none6, client6, dut_mac, false);
	bad(n, &f);
	f = solicit(none6, client6, NULL, true);
	bad(n, &f);
	const uint8_t group[16] = {0xff, 2, [15] = 5};
	f = solicit(dut6, group, dut_mac, false);
	bad(n, &f);
	f = solicit(group, client6, dut_mac, false);
	bad(n, &f);
	assert_int_equal(nssm_neigh_stats(n)->nd_requests, 0);
	/* Unknown options are walked over: one of three units in front. */
	uint8_t body[24 + 24 + 8] = {135};
	memcpy(body + 8, client6, 16);
	body[24] = 200;
	body[25] = 3;
	body[48] = 1;
	body[49] = 1;
	memcpy(body + 50, dut_mac, 6);
	f = link(our_mac, dut_mac, 0, NULL, 0x86dd);
	add_icmp6(&f, dut6, client6, 255, body, sizeof body);
	assert_true(give(n, &f).len > 0);
	/* Cut at every byte. */
	f = solicit(dut6, client6, dut_mac, false);
	uint32_t whole = f.len;
	for (f.len = 0; f.len < whole; f.len++) {
		if (f.len < 14 + 40 + 4)
			traffic(n, &f);
		else
			bad(n, &f);
	}
	/* Router solicitation, advertisement, redirect: nothing to do. */
	for (uint8_t type = 133; type <= 137; type++) {
		if (type == 135 || type == 136)
			continue;
		f = solicit(dut6, client6, dut_mac, false);
		f.data[14 + 40] = type;
		ignored(n, &f);
	}
	/* Others are traffic: MLD, an extension header in front. */
	f = solicit(dut6, client6, dut_mac, false);
	f.data[14 + 40] = 143;
	traffic(n, &f);
	f = solicit(dut6, client6, dut_mac, false);
	f.data[14 + 6] = 0;
	traffic(n, &f);
	nssm_neigh_close(&n);
}

/* --- echo --- */

static struct frame ping4(const uint8_t *src, const uint8_t *dst, uint32_t n_data)
{
	struct frame f = link(our_mac, dut_mac, 0, NULL, 0x0800);
	uint8_t ip[20] = {0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, 1};
	put16(ip + 2, 28 + n_data);
	memcpy(ip + 12, src, 4);
	memcpy(ip + 16, dst, 4);
	put16(ip + 10, nssm_csum_fold(nssm_csum_add(0, ip, 20)));
	add(&f, ip, 20);
	uint8_t icmp[1500] = {8, 0, 0, 0, 0xab, 0xcd, 0, 1};
	for (uint32_t i = 0; i < n_data; i++)
		icmp[8 + i] = (uint8_t)i;
	put16(icmp + 2, nssm_csum_fold(nssm_csum_add(0, icmp, 8 + n_data)));
	add(&f, icmp, 8 + n_data);
	return f;
}

static void test_echo4(void **state)
{
	(void)state;
	struct nssm_neigh_cfg cfg = base_cfg();
	const uint8_t self[4] = {198, 18, 0, 9};
	memcpy(cfg.self4, self, 4);
	struct nssm_neigh *n = open_cfg(&cfg);
	for (uint32_t len = 0; len <= 300; len += len < 4 ? 1 : 53) {
		struct frame f = ping4(dut4, self, len), got = give(n, &f);
		if (14 + 28 + len > NSSM_NEIGH_OUT_BYTES) {
			assert_int_equal(got.len, 0);
			continue;
		}
		assert_int_equal(got.len, 42 + len < 60 ? 60 : 42 + len);
		assert_memory_equal(got.data, dut_mac, 6);
		assert_memory_equal(got.data + 6, our_mac, 6);
		const uint8_t *ip = got.data + 14;
		assert_int_equal(get16(ip + 2), 28 + len);
		assert_int_equal(nssm_csum_fold(nssm_csum_add(0, ip, 20)), 0);
		assert_int_equal(nssm_csum_fold(nssm_csum_add(0, ip + 20, 8 + len)), 0);
		assert_memory_equal(ip + 12, self, 4);
		assert_memory_equal(ip + 16, dut4, 4);
		assert_int_equal(ip[20], 0);
		assert_memory_equal(ip + 24, f.data + 14 + 24, 4 + len);
	}
	/* Other addresses of ours, other types, fragments: traffic. */
	struct frame f = ping4(dut4, client4, 8);
	traffic(n, &f);
	f = ping4(dut4, self, 8);
	f.data[14 + 20] = 0;
	traffic(n, &f);
	f = ping4(dut4, self, 8);
	f.data[14 + 6] = 0x20;
	traffic(n, &f);
	f.data[14 + 9] = 17;
	traffic(n, &f);
	/* Checksums, lengths, a sender that is a group. */
	f = ping4(dut4, self, 8);
	f.data[14 + 30] ^= 1;
	bad(n, &f);
	f = ping4(dut4, self, 8);
	f.data[14 + 11] ^= 1;
	bad(n, &f);
	for (unsigned total = 0; total < 70; total++) {
		if (total >= 28 && total <= 36)
			continue;
		f = ping4(dut4, self, 8);
		put16(f.data + 14 + 2, total);
		put16(f.data + 14 + 10, 0);
		put16(f.data + 14 + 10, nssm_csum_fold(nssm_csum_add(0, f.data + 14, 20)));
		bad(n, &f);
	}
	f = ping4(broadcast, self, 8);
	bad(n, &f);
	f = ping4(dut4, self, 8);
	memcpy(f.data, dut_mac, 6);
	ignored(n, &f);
	f = ping4(dut4, self, 8);
	uint32_t whole = f.len;
	for (f.len = 14; f.len < whole; f.len++) {
		if (f.len < 14 + 28)
			traffic(n, &f);
		else
			bad(n, &f);
	}
	nssm_neigh_close(&n);
}

static void test_echo6(void **state)
{
	(void)state;
	struct nssm_neigh_cfg cfg = base_cfg();
	const uint8_t self[16] = IP6(1, 9);
	memcpy(cfg.self6, self, 16);
	struct nssm_neigh *n = open_cfg(&cfg);
	uint8_t body[300] = {128, 0, 0, 0, 0xab, 0xcd, 0, 1};
	for (uint32_t len = 8; len <= 300; len += len < 12 ? 1 : 64) {
		struct frame f = link(our_mac, dut_mac, 0, NULL, 0x86dd);
		add_icmp6(&f, dut6, self, 3, body, len);
		struct frame got = give(n, &f);
		if (54 + len > NSSM_NEIGH_OUT_BYTES) {
			assert_int_equal(got.len, 0);
			continue;
		}
		body[0] = 129;
		struct frame want = link(dut_mac, our_mac, 0, NULL, 0x86dd);
		add_icmp6(&want, self, dut6, 64, body, len);
		body[0] = 128;
		expect(&got, &want);
	}
	struct frame f = link(our_mac, dut_mac, 0, NULL, 0x86dd);
	add_icmp6(&f, dut6, client6, 3, body, 16);
	traffic(n, &f);
	f.len = 14;
	add_icmp6(&f, none6, self, 3, body, 16);
	bad(n, &f);
	f.len = 14;
	add_icmp6(&f, dut6, self, 3, body, 7);
	bad(n, &f);
	f.len = 14;
	add_icmp6(&f, dut6, self, 3, body, 16);
	f.data[60] ^= 4;
	bad(n, &f);
	nssm_neigh_close(&n);
}

/* --- the gateway --- */

static void test_gateway6(void **state)
{
	(void)state;
	struct nssm_neigh_cfg cfg = base_cfg();
	const uint8_t router[16] = {0xfe, 0x80, [15] = 1}, self[16] = IP6(1, 9);
	memcpy(cfg.gateway6, router, 16);
	memcpy(cfg.self6, self, 16);
	memcpy(cfg.gateway4, dut4, 4);
	struct nssm_neigh *n = open_cfg(&cfg);
	struct frame q4 = arp_question((const uint8_t[]){198, 18, 0, 2}),
	             q = solicit(self, router, our_mac, false);
	memcpy(q.data + 6, our_mac, 6);
	polled(n, 0, &q4);
	polled(n, 0, &q);
	polled(n, 0, NULL);
	polled(n, S, &q4);
	polled(n, S, &q);
	/* Not asked for, not the gateway's, malformed, without a MAC. */
	uint8_t mac[6];
	struct frame f = advert(router, self, 0x20, dut_mac);
	ignored(n, &f);
	f = advert(client6, self, 0x60, dut_mac);
	ignored(n, &f);
	f = advert(router, self, 0x60, NULL);
	ignored(n, &f);
	f = advert(router, (const uint8_t[16]){0xff, 2, [15] = 1}, 0x60, dut_mac);
	bad(n, &f);
	f = advert(router, self, 0x60, broadcast);
	bad(n, &f);
	f = advert(router, self, 0x60, dut_mac);
	f.data[14 + 7] = 64;
	bad(n, &f);
	assert_false(nssm_neigh_gateway(n, 6, mac));
	f = advert(router, self, 0x60, dut_mac);
	ignored(n, &f);
	assert_true(nssm_neigh_gateway(n, 6, mac));
	assert_memory_equal(mac, dut_mac, 6);
	assert_false(nssm_neigh_resolved(n));
	/* Renewed, by an advertisement that need not name the MAC (RFC 4861, section 7.2.4). */
	polled(n, 30 * S - 1, &q4);
	polled(n, 30 * S - 1, NULL);
	polled(n, 30 * S, &q);
	bool mine;
	f = advert(router, self, 0x60, NULL);
	give_at(n, &f, 30 * S + 5, &mine);
	polled(n, 60 * S + 4, &q4);
	polled(n, 60 * S + 4, NULL);
	polled(n, 60 * S + 5, &q);
	assert_true(nssm_neigh_gateway(n, 6, mac));
	assert_memory_equal(mac, dut_mac, 6);
	nssm_neigh_close(&n);

	/* Without an address: the link-local one. */
	cfg.n_pools = 0;
	memset(cfg.self6, 0, 16);
	memset(cfg.gateway4, 0, 4);
	n = open_cfg(&cfg);
	const uint8_t local[16] = {0xfe, 0x80, [8] = 0, 0, 0, 0xff, 0xfe, 0, 0, 0xaa};
	q = solicit(local, router, our_mac, false);
	memcpy(q.data + 6, our_mac, 6);
	polled(n, 0, &q);
	f = advert(router, local, 0x60, dut_mac);
	ignored(n, &f);
	assert_true(nssm_neigh_resolved(n));
	nssm_neigh_close(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_nd),
	        cmocka_unit_test(test_nd_malformed),
	        cmocka_unit_test(test_echo4),
	        cmocka_unit_test(test_echo6),
	        cmocka_unit_test(test_gateway6),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
