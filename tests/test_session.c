/* Which packet belongs to which session: made-up conversations with the answer known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "replay/session.h"

#define NONE (-1)
#define S    1000000000ull

enum { TCP = 6, UDP = 17, ICMP = 1, SYN = 2, ACK = 16 };

/* --- the option's text --- */

static void test_parse(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t gap_ns;
	} good[] = {
	        {"gap=60s", 60 * S},
	        {"gap=60", 60 * S},
	        {"gap=500ms", S / 2},
	        {"gap=2m", 120 * S},
	        {"gap=2min", 120 * S},
	        {"gap=1.5h", 5400 * S},
	        {"gap=1d", 86400 * S},
	        {"gap=3us", 3000},
	        {"gap=1ns", 1},
	        {"gap=.25s", S / 4},
	        {"gap=3650d", 3650 * 86400 * S},
	};
	struct nssm_split_cfg c;
	struct nssm_err err;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_int_equal(nssm_split_parse(&c, good[i].text, &err), 0);
		assert_int_equal(c.kind, NSSM_SPLIT_GAP);
		assert_int_equal(c.gap_ns, good[i].gap_ns);
	}
	assert_int_equal(nssm_split_parse(&c, "file", &err), 0);
	assert_int_equal(c.kind, NSSM_SPLIT_FILE);
	assert_int_equal(nssm_split_parse(&c, "client", &err), 0);
	assert_int_equal(c.kind, NSSM_SPLIT_CLIENT);
	assert_int_equal(c.flows_max, NSSM_SPLIT_FLOWS_MAX);
	assert_int_equal(c.clients_max, NSSM_SPLIT_CLIENTS_MAX);

	static const char *const bad[] = {"", "files", "gap", "gap=", "gap=s", "gap=-5s", "gap=0",
	        "gap=0.1ns", "gap=4000d", "gap=5 s", "gap=5sec", "gap=0x10", "gap=1e3", "gap=inf", "gap=nan",
	        "gap=1.2.3s", "gap= 5s", "gap=.", "client ",
	        "gap=99999999999999999999999999999999999999999d"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct nssm_split_cfg kept = c;
		int rc = nssm_split_parse(&c, bad[i], &err);
		assert_true(rc == NSSM_EARG || rc == NSSM_ERANGE);
		assert_int_equal(err.code, rc);
		char quoted[64];
		snprintf(quoted, sizeof quoted, "\"%s\"", bad[i]);
		assert_non_null(strstr(err.msg, quoted));
		assert_memory_equal(&c, &kept, sizeof c);
	}
}

/* --- packets --- */

struct frame {
	uint8_t data[128];
	uint32_t len;
};

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Addresses are numbers: 10.0.0.0/8 + n, or 2001:db8::n. */
static struct frame make(
        int ip, int proto, uint32_t src, unsigned sport, uint32_t dst, unsigned dport, unsigned flags)
{
	struct frame f = {.len = 0};
	uint32_t l4_len = proto == TCP ? 20 : 8, l3_len = ip == 4 ? 20 : 40;
	uint8_t *l3 = f.data + 14, *l4 = l3 + l3_len;
	put16(f.data + 12, ip == 4 ? 0x0800 : 0x86dd);
	uint32_t addr[2] = {src, dst};
	for (int i = 0; i < 2; i++) {
		uint8_t *a = ip == 4 ? l3 + 12 + 4 * i : l3 + 8 + 16 * i;
		if (ip == 4) {
			put16(a, 10 << 8 | addr[i] >> 16);
			put16(a + 2, addr[i]);
		} else {
			put16(a, 0x2001);
			put16(a + 2, 0x0db8);
			put16(a + 12, addr[i] >> 16);
			put16(a + 14, addr[i]);
		}
	}
	if (ip == 4) {
		l3[0] = 0x45;
		put16(l3 + 2, l3_len + l4_len);
		l3[8] = 64;
		l3[9] = (uint8_t)proto;
	} else {
		l3[0] = 0x60;
		put16(l3 + 4, l4_len);
		l3[6] = (uint8_t)proto;
		l3[7] = 64;
	}
	put16(l4, sport);
	put16(l4 + 2, dport);
	if (proto == TCP) {
		l4[12] = 5 << 4;
		l4[13] = (uint8_t)flags;
	} else {
		put16(l4 + 4, 8);
	}
	f.len = 14 + l3_len + l4_len;
	return f;
}

/* The session of a frame, or NONE. */
static int give(struct nssm_splitter *s, const struct frame *f, uint64_t ts_ns)
{
	struct nssm_pkt pkt = {.ts_ns = ts_ns, .wirelen = f->len, .caplen = f->len};
	/* On the heap at its exact size: a sanitizer sees reads beyond it. */
	uint8_t *copy = malloc(f->len);
	assert_non_null(copy);
	memcpy(copy, f->data, f->len);
	pkt.data = copy;
	uint32_t session = 12345678;
	struct nssm_err err;
	int rc = nssm_splitter_packet(s, &pkt, &session, &err);
	free(copy);
	assert_true(rc == 0 || rc == 1);
	if (rc == 0)
		return NONE;
	assert_true(session < nssm_splitter_n_sessions(s));
	assert_true(session >= nssm_splitter_n_done(s));
	return (int)session;
}

static struct nssm_splitter *open_text(const char *text)
{
	struct nssm_split_cfg cfg;
	struct nssm_splitter *s;
	struct nssm_err err;
	assert_int_equal(nssm_split_parse(&cfg, text, &err), 0);
	assert_int_equal(nssm_splitter_open(&s, &cfg, &err), 0);
	return s;
}

static int tcp(
        struct nssm_splitter *s, uint32_t src, unsigned sport, uint32_t dst, unsigned dport, unsigned flags)
{
	struct frame f = make(4, TCP, src, sport, dst, dport, flags);
	return give(s, &f, 0);
}

static int udp(struct nssm_splitter *s, uint32_t src, unsigned sport, uint32_t dst, unsigned dport)
{
	struct frame f = make(4, UDP, src, sport, dst, dport, 0);
	return give(s, &f, 0);
}

/* --- file and gap --- */

static void test_file(void **state)
{
	(void)state;
	struct nssm_splitter *s = open_text("file");
	struct frame f = make(4, ICMP, 1, 0, 2, 0, 0), none = {.len = 14};
	assert_int_equal(nssm_splitter_n_sessions(s), 0);
	assert_int_equal(give(s, &f, 0), 0);
	assert_int_equal(give(s, &none, 10 * 86400 * S), 0);
	assert_int_equal(nssm_splitter_n_done(s), 0);
	nssm_splitter_end(s);
	assert_int_equal(nssm_splitter_n_done(s), 1);
	assert_int_equal(nssm_splitter_counts(s)->n_packets, 2);
	nssm_splitter_close(&s);
	assert_null(s);
	nssm_splitter_close(&s);
}

static void test_gap(void **state)
{
	(void)state;
	struct nssm_splitter *s = open_text("gap=1s");
	static const struct {
		uint64_t ns;
		int session;
	} packets[] = {
	        {5 * S, 0},
	        {6 * S, 0},     /* a gap of just TIME is none */
	        {7 * S + 1, 1}, /* 1 ns more is */
	        {6 * S, 1},     /* back */
	        {7 * S, 1},     /* counted from the packet before */
	        {100 * S, 2},
	        {101 * S, 2},
	        {UINT64_MAX, 3},
	        {0, 3},
	};
	struct frame f = make(4, UDP, 1, 1, 2, 2, 0);
	for (size_t i = 0; i < sizeof packets / sizeof packets[0]; i++) {
		assert_int_equal(give(s, &f, packets[i].ns), packets[i].session);
		/* All sessions before are finished. */
		assert_int_equal(nssm_splitter_n_done(s), packets[i].session);
	}
	assert_int_equal(nssm_splitter_counts(s)->n_time_back, 2);
	nssm_splitter_end(s);
	assert_int_equal(nssm_splitter_n_done(s), 4);
	nssm_splitter_close(&s);

	s = open_text("gap=1s");
	nssm_splitter_end(s);
	assert_int_equal(nssm_splitter_n_done(s), 0);
	nssm_splitter_close(&s);
}

/* --- client --- */

static void test_client_rules(void **state)
{
	(void)state;
	struct nssm_splitter *s = open_text("client");
	/* The SYN's sender, whatever the ports; both directions, several flows, one session. */
	assert_int_equal(tcp(s, 1, 80, 2, 5000, SYN), 0);
	assert_int_equal(tcp(s, 2, 5000, 1, 80, SYN | ACK), 0);
	assert_int_equal(tcp(s, 1, 5555, 3, 6666, SYN), 0);
	assert_int_equal(tcp(s, 3, 6666, 1, 5555, ACK), 0);
	/* A SYN/ACK seen first: its receiver. */
	assert_int_equal(tcp(s, 3, 40000, 4, 41000, SYN | ACK), 1);
	assert_int_equal(tcp(s, 4, 41000, 3, 40000, ACK), 1);
	/* No SYN: the end that has no server's port, though the server speaks first. */
	assert_int_equal(tcp(s, 9, 443, 5, 50000, ACK), 2);
	assert_int_equal(udp(s, 9, 51820, 5, 50001), 2);
	assert_int_equal(udp(s, 5, 50001, 9, 51820), 2);
	/* Both or neither: who speaks first. */
	assert_int_equal(udp(s, 6, 123, 9, 123), 3);
	assert_int_equal(udp(s, 9, 123, 6, 123), 3);
	assert_int_equal(udp(s, 7, 20000, 6, 30000), 4);
	assert_int_equal(udp(s, 6, 30000, 7, 20000), 4);
	/* The edge of the known ports. */
	assert_int_equal(udp(s, 9, 1023, 8, 1024), 5);
	assert_int_equal(udp(s, 8, 50000, 9, 53), 5);
	/* The same ports over TCP are another flow. */
	assert_int_equal(tcp(s, 6, 30000, 7, 20000, ACK), 3);
	/* A flow's ports used again the other way round. */
	assert_int_equal(tcp(s, 6, 30000, 7, 20000, SYN), 3);
	assert_int_equal(tcp(s, 7, 20000, 6, 30000, SYN), 4);
	assert_int_equal(tcp(s, 6, 30000, 7, 20000, ACK), 4);
	/* IPv6 addresses are other clients. */
	struct frame f = make(6, UDP, 1, 5000, 2, 53, 0);
	assert_int_equal(give(s, &f, 0), 6);
	f = make(6, UDP, 2, 53, 1, 5000, 0);
	assert_int_equal(give(s, &f, 0), 6);
	assert_int_equal(nssm_splitter_n_sessions(s), 7);
	assert_int_equal(nssm_splitter_n_done(s), 0);
	assert_int_equal(nssm_splitter_counts(s)->n_flows, 11);
	nssm_splitter_end(s);
	assert_int_equal(nssm_splitter_n_done(s), 7);
	nssm_splitter_close(&s);
}

static void test_client_others(void **state)
{
	(void)state;
	struct nssm_splitter *s = open_text("client");
	struct frame ping = make(4, ICMP, 1, 0, 2, 0, 0), pong = make(4, ICMP, 2, 0, 1, 0, 0);
	/* No client yet. */
	assert_int_equal(give(s, &ping, 0), NONE);
	assert_int_equal(tcp(s, 1, 5000, 2, 80, SYN), 0);
	assert_int_equal(give(s, &ping, 0), 0);
	assert_int_equal(give(s, &pong, 0), 0);
	/* Both ends are clients: the source's. */
	assert_int_equal(tcp(s, 2, 5000, 9, 80, SYN), 1);
	assert_int_equal(give(s, &ping, 0), 0);
	assert_int_equal(give(s, &pong, 0), 1);
	/* A later fragment, and a transport header cut at every byte. */
	struct frame frag = make(4, UDP, 9, 53, 1, 5000, 0);
	put16(frag.data + 14 + 6, 100);
	assert_int_equal(give(s, &frag, 0), 0);
	struct frame cut = make(4, TCP, 1, 5001, 2, 80, SYN);
	uint32_t whole = cut.len;
	uint64_t before = nssm_splitter_counts(s)->n_flows;
	for (cut.len = 0; cut.len < whole; cut.len++) {
		int want = cut.len >= 14 + 20 ? 0 : NONE;
		assert_int_equal(give(s, &cut, 0), want);
	}
	assert_int_equal(nssm_splitter_counts(s)->n_flows, before);
	/* Not IP. */
	uint64_t not_ip = nssm_splitter_counts(s)->n_not_ip;
	struct frame arp = make(4, UDP, 1, 5000, 2, 80, 0);
	put16(arp.data + 12, 0x0806);
	assert_int_equal(give(s, &arp, 0), NONE);
	assert_int_equal(nssm_splitter_counts(s)->n_not_ip, not_ip + 1);
	const struct nssm_split_counts *c = nssm_splitter_counts(s);
	assert_int_equal(c->n_packets, 2 + 6 + 1 + whole);
	assert_int_equal(c->n_not_ip + c->n_unassigned, 1 + 34 + 1);
	nssm_splitter_close(&s);
}

/* The flow unseen for longest goes, and only that one. */
static void test_eviction(void **state)
{
	(void)state;
	struct nssm_split_cfg cfg = {.kind = NSSM_SPLIT_CLIENT, .flows_max = 3, .clients_max = 100};
	struct nssm_splitter *s;
	struct nssm_err err;
	assert_int_equal(nssm_splitter_open(&s, &cfg, &err), 0);
	/* Clients 1 to 3 by their SYNs; without those the ports would make 11 to 13 the clients. */
	for (uint32_t i = 1; i <= 3; i++)
		assert_int_equal(tcp(s, i, 80, 10 + i, 5000, SYN), i - 1);
	assert_int_equal(tcp(s, 1, 80, 11, 5000, ACK), 0);
	assert_int_equal(tcp(s, 4, 80, 14, 5000, SYN), 3); /* 2 is forgotten */
	assert_int_equal(nssm_splitter_counts(s)->n_evicted, 1);
	assert_int_equal(tcp(s, 1, 80, 11, 5000, ACK), 0);
	assert_int_equal(tcp(s, 3, 80, 13, 5000, ACK), 2);
	assert_int_equal(
	        tcp(s, 2, 80, 12, 5000, ACK), 4); /* decided anew: the end without port 80; 4 is forgotten */
	assert_int_equal(nssm_splitter_counts(s)->n_evicted, 2);
	assert_int_equal(tcp(s, 1, 80, 11, 5000, ACK), 0);
	assert_int_equal(tcp(s, 3, 80, 13, 5000, ACK), 2);
	assert_int_equal(nssm_splitter_counts(s)->n_evicted, 2);
	nssm_splitter_close(&s);
}

static void test_too_many_clients(void **state)
{
	(void)state;
	struct nssm_split_cfg cfg = {.kind = NSSM_SPLIT_CLIENT, .flows_max = 1, .clients_max = 2};
	struct nssm_splitter *s;
	struct nssm_err err;
	assert_int_equal(nssm_splitter_open(&s, &cfg, &err), 0);
	assert_int_equal(udp(s, 1, 5000, 9, 53), 0);
	assert_int_equal(udp(s, 2, 5000, 9, 53), 1);
	assert_int_equal(udp(s, 3, 5000, 9, 53), NONE);
	assert_int_equal(udp(s, 9, 53, 1, 5000), 0);
	assert_int_equal(nssm_splitter_counts(s)->n_over, 1);
	assert_int_equal(nssm_splitter_n_sessions(s), 2);
	nssm_splitter_close(&s);
}

/* Thousands of clients and flows, packets in any order, against the plain answer: the client is known from
 * how each flow was made, sessions are numbered by first appearance. Twice: the same sessions. */
static void test_many(void **state)
{
	(void)state;
	enum { N_CLIENTS = 3000, N_PACKETS = 60000 };
	int *want = malloc(N_CLIENTS * sizeof *want);
	assert_non_null(want);
	for (int round = 0; round < 2; round++) {
		struct nssm_splitter *s = open_text("client");
		struct nssm_rng rng;
		nssm_rng_init(&rng, 7, 0, 1);
		for (int i = 0; i < N_CLIENTS; i++)
			want[i] = NONE;
		int n_sessions = 0;
		for (int i = 0; i < N_PACKETS; i++) {
			uint32_t client = nssm_rng_below(&rng, N_CLIENTS),
			         server = 100000 + nssm_rng_below(&rng, 5);
			unsigned port = 20000 + nssm_rng_below(&rng, 4), down = nssm_rng_below(&rng, 2);
			int ip = client % 2 != 0 ? 6 : 4, proto = nssm_rng_below(&rng, 2) != 0 ? TCP : UDP;
			struct frame f = down != 0 ? make(ip, proto, server, 443, client, port, ACK)
			                           : make(ip, proto, client, port, server, 443, ACK);
			if (want[client] == NONE)
				want[client] = n_sessions++;
			assert_int_equal(give(s, &f, 0), want[client]);
		}
		assert_int_equal(nssm_splitter_n_sessions(s), n_sessions);
		assert_int_equal(nssm_splitter_counts(s)->n_evicted, 0);
		assert_true(nssm_splitter_counts(s)->n_flows > 30000);
		nssm_splitter_close(&s);
	}
	free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_parse),
	        cmocka_unit_test(test_file),
	        cmocka_unit_test(test_gap),
	        cmocka_unit_test(test_client_rules),
	        cmocka_unit_test(test_client_others),
	        cmocka_unit_test(test_eviction),
	        cmocka_unit_test(test_too_many_clients),
	        cmocka_unit_test(test_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
