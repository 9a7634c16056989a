/* Conditions: what is measured of hand-made sessions, and the steps. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/conditions.h"

#define US 1000ull
#define MS 1000000ull

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

static struct nssm_meter *meter(void)
{
	struct nssm_meter *m;
	struct nssm_err err;
	assert_int_equal(nssm_meter_open(&m, &err), 0);
	return m;
}

/* A TCP segment of client `c` (from == 0) or of the server, with `len` bytes that the capture did not keep. */
static void tcp_of(struct nssm_meter *m, uint64_t ns, int c, int from, unsigned flags, uint32_t seq, uint32_t ack, uint32_t len)
{
	uint8_t f[54] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0, 0x45};
	uint8_t client[4] = {192, 0, 2, (uint8_t)c}, server[4] = {198, 51, 100, 2};
	f[16] = (uint8_t)((40 + len) >> 8);
	f[17] = (uint8_t)(40 + len);
	f[22] = 64;
	f[23] = 6;
	memcpy(f + 26, from == 0 ? client : server, 4);
	memcpy(f + 30, from == 0 ? server : client, 4);
	uint16_t sport = from == 0 ? (uint16_t)(40000 + (c >> 8)) : 80, dport = from == 0 ? 80 : (uint16_t)(40000 + (c >> 8));
	f[34] = (uint8_t)(sport >> 8);
	f[35] = (uint8_t)sport;
	f[36] = (uint8_t)(dport >> 8);
	f[37] = (uint8_t)dport;
	for (int i = 0; i < 4; i++) {
		f[38 + i] = (uint8_t)(seq >> (24 - 8 * i));
		f[42 + i] = (uint8_t)(ack >> (24 - 8 * i));
	}
	f[46] = 0x50;
	f[47] = (uint8_t)flags;
	nssm_meter_packet(m, &(struct nssm_pkt){.ts_ns = ns, .wirelen = 54 + len, .caplen = 54, .data = f});
}

static void tcp(struct nssm_meter *m, uint64_t ns, int from, unsigned flags, uint32_t seq, uint32_t ack, uint32_t len)
{
	tcp_of(m, ns, 1, from, flags, seq, ack, len);
}

/* A handshake whose halves take near and far from here; then the client's next byte is 101, the server's 501. */
static uint64_t handshake(struct nssm_meter *m, uint64_t ns, uint64_t far, uint64_t near)
{
	tcp(m, ns, 0, SYN, 100, 0, 0);
	tcp(m, ns + far, 1, SYN | ACK, 500, 101, 0);
	tcp(m, ns + far + near, 0, ACK, 101, 501, 0);
	return ns + far + near;
}

static struct nssm_measures read_of(const struct nssm_meter *m)
{
	struct nssm_measures x;
	nssm_meter_read(m, &x);
	return x;
}

static void assert_near(double found, double expected, double share)
{
	if (!(fabs(found - expected) <= share * expected))
		fail_msg("found %g, expected %g within %g", found, expected, share);
}

static void round_trip(void **state)
{
	(void)state;
	/* At the client, in the middle, at the server: always 80 ms. */
	static const uint64_t far[] = {80 * MS, 50 * MS, 0};
	for (int i = 0; i < 3; i++) {
		struct nssm_meter *m = meter();
		uint64_t t = handshake(m, 5000 * MS, far[i], 80 * MS - far[i]);
		struct nssm_measures x = read_of(m);
		assert_int_equal(x.n_rtt, 1);
		assert_near(x.rtt_s, 0.08, 0.05);
		/* Data both ways, each acknowledged by itself. */
		tcp(m, t, 0, ACK | PSH, 101, 501, 100);
		tcp(m, t + far[i], 1, ACK, 501, 201, 0);
		tcp(m, t + far[i], 1, ACK | PSH, 501, 201, 1000);
		tcp(m, t + 80 * MS, 0, ACK, 201, 1501, 0);
		x = read_of(m);
		assert_int_equal(x.n_rtt, 3);
		assert_near(x.rtt_s, 0.08, 0.05);
		assert_int_equal(x.n_data, 2);
		assert_int_equal(x.n_again, 0);
		assert_int_equal(x.n_packets, 7);
		assert_int_equal(x.n_bytes, 7 * 54 + 1100);
		assert_int_equal(x.duration_ns, 160 * MS);
		uint8_t c[NSSM_N_CONDITIONS];
		nssm_conditions_of(c, &x);
		assert_int_equal(c[NSSM_COND_RTT], 34); /* 1 + 2·log2(80000) = 33.6 */
		assert_int_equal(c[NSSM_COND_LOSS], 1);
		assert_int_equal(c[NSSM_COND_THROUGHPUT], 33); /* 1478 bytes in 160 ms: 73,900 bit/s, 1 + 32.35 = 33.3 */
		assert_int_equal(c[NSSM_COND_PACKETS], 7);     /* 1 + 2·log2(7) = 6.6 */
		nssm_meter_close(&m);
	}
}

static void one_half_is_none(void **state)
{
	(void)state;
	struct nssm_meter *m = meter();
	tcp(m, 0, 1, ACK, 1000, 7, 500);
	tcp(m, 10 * US, 0, ACK, 7, 1500, 0);
	tcp(m, 20 * US, 1, ACK, 1500, 7, 500);
	tcp(m, 30 * US, 0, ACK, 7, 2000, 0);
	struct nssm_measures x = read_of(m);
	assert_int_equal(x.n_rtt, 0);
	uint8_t c[NSSM_N_CONDITIONS];
	nssm_conditions_of(c, &x);
	assert_int_equal(c[NSSM_COND_RTT], 0);
	nssm_meter_close(&m);
}

static void sent_again(void **state)
{
	(void)state;
	struct nssm_meter *m = meter();
	uint64_t t = handshake(m, 0, 10 * MS, 0);
	uint64_t before = read_of(m).n_rtt;
	/* Four segments; the second is lost behind the capture and comes again; Karn: its acknowledgement gives no time. */
	for (uint32_t i = 0; i < 4; i++)
		tcp(m, t, 1, ACK, 501 + 1000 * i, 101, 1000);
	tcp(m, t, 0, ACK, 101, 1501, 0);
	assert_int_equal(read_of(m).n_rtt, before + 1);
	tcp(m, t + 1 * MS, 0, ACK, 101, 1501, 0);
	tcp(m, t + 12 * MS, 1, ACK, 1501, 101, 1000);
	tcp(m, t + 12 * MS, 0, ACK, 101, 4501, 0);
	struct nssm_measures x = read_of(m);
	assert_int_equal(x.n_data, 5);
	assert_int_equal(x.n_again, 1);
	assert_int_equal(x.n_rtt, before + 1);
	/* What is sent afterwards gives times again. */
	tcp(m, t + 20 * MS, 1, ACK, 4501, 101, 1000);
	tcp(m, t + 20 * MS, 0, ACK, 101, 5501, 0);
	assert_int_equal(read_of(m).n_rtt, before + 2);
	/* Half of it again, and half new. */
	tcp(m, t + 30 * MS, 1, ACK, 5001, 101, 1000);
	assert_int_equal(read_of(m).n_again, 2);
	/* A keep-alive is neither. */
	tcp(m, t + 40 * MS, 1, ACK, 6000, 101, 1);
	tcp(m, t + 50 * MS, 1, ACK, 6000, 101, 0);
	assert_int_equal(read_of(m).n_data, 7);
	assert_int_equal(read_of(m).n_again, 2);
	nssm_meter_close(&m);
}

/* Lost before the capture: only the gap shows. It is a loss when it is filled late, else another order. */
static void gaps(void **state)
{
	(void)state;
	struct nssm_meter *m = meter();
	uint64_t t = handshake(m, 0, 10 * MS, 0);
	tcp(m, t, 1, ACK, 501, 101, 1000);
	tcp(m, t, 1, ACK, 2501, 101, 1000);
	tcp(m, t + 1 * MS, 1, ACK, 1501, 101, 1000); /* reordered */
	assert_int_equal(read_of(m).n_again, 0);
	tcp(m, t + 2 * MS, 1, ACK, 5501, 101, 1000); /* 3501..5500 is missing */
	tcp(m, t + 9 * MS, 1, ACK, 3501, 101, 1000);
	assert_int_equal(read_of(m).n_again, 1);
	tcp(m, t + 9 * MS, 1, ACK, 4501, 101, 1000);
	assert_int_equal(read_of(m).n_again, 2);
	assert_int_equal(read_of(m).n_data, 6);
	tcp(m, t + 9 * MS, 1, ACK, 4501, 101, 1000); /* now it was there */
	assert_int_equal(read_of(m).n_again, 3);
	/* The middle of a gap leaves its two ends open. */
	tcp(m, t + 20 * MS, 1, ACK, 9501, 101, 1000); /* 6501..9500 */
	tcp(m, t + 21 * MS, 1, ACK, 7501, 101, 1000);
	tcp(m, t + 21 * MS, 1, ACK, 6501, 101, 1000);
	tcp(m, t + 21 * MS, 1, ACK, 8501, 101, 1000);
	assert_int_equal(read_of(m).n_again, 3);
	nssm_meter_close(&m);
}

static void numbers_wrap(void **state)
{
	(void)state;
	struct nssm_meter *m = meter();
	tcp(m, 0, 0, SYN, 0xfffffff0u, 0, 0);
	tcp(m, 10 * MS, 1, SYN | ACK, 0xffffff00u, 0xfffffff1u, 0);
	tcp(m, 10 * MS, 0, ACK, 0xfffffff1u, 0xffffff01u, 0);
	for (uint32_t i = 0; i < 8; i++) {
		tcp(m, (11 + i) * MS, 1, ACK, 0xffffff01u + 100 * i, 0xfffffff1u, 100);
		tcp(m, (11 + i) * MS, 0, ACK, 0xfffffff1u, 0xffffff01u + 100 * (i + 1), 0);
	}
	tcp(m, 30 * MS, 1, ACK, 0xffffff01u, 0xfffffff1u, 100);
	struct nssm_measures x = read_of(m);
	assert_int_equal(x.n_rtt, 9);
	assert_int_equal(x.n_data, 9);
	assert_int_equal(x.n_again, 1);
	assert_near(x.rtt_s, 0.01, 0.05);
	nssm_meter_close(&m);
}

/* The same ports again: a new connection's numbers are no retransmission. */
static void ports_used_again(void **state)
{
	(void)state;
	struct nssm_meter *m = meter();
	uint64_t t = handshake(m, 0, 10 * MS, 0);
	tcp(m, t, 0, ACK, 101, 501, 300);
	tcp(m, t + 1 * MS, 0, RST, 401, 0, 0);
	tcp(m, t + 100 * MS, 0, SYN, 0x80000000u, 0, 0);
	tcp(m, t + 120 * MS, 1, SYN | ACK, 0x70000000u, 0x80000001u, 0);
	tcp(m, t + 120 * MS, 0, ACK, 0x80000001u, 0x70000001u, 0);
	tcp(m, t + 120 * MS, 0, ACK, 0x80000001u, 0x70000001u, 300);
	struct nssm_measures x = read_of(m);
	assert_int_equal(x.n_rtt, 2);
	assert_int_equal(x.n_data, 2);
	assert_int_equal(x.n_again, 0);
	/* Something of an older one comes in between; the server's numbers are far below it. */
	nssm_meter_begin(m);
	tcp(m, 0, 0, SYN, 100, 0, 0);
	tcp(m, 1 * MS, 1, ACK | PSH, 0xe0000000u, 7, 200);
	tcp(m, 1 * MS, 0, RST, 7, 0, 0);
	tcp(m, 1000 * MS, 0, SYN, 100, 0, 0);
	tcp(m, 1010 * MS, 1, SYN | ACK, 0x80000000u, 101, 0);
	tcp(m, 1010 * MS, 0, ACK, 101, 0x80000001u, 0);
	tcp(m, 1011 * MS, 1, ACK, 0x80000001u, 101, 300);
	tcp(m, 1011 * MS, 0, ACK, 101, 0x8000012du, 0);
	x = read_of(m);
	assert_int_equal(x.n_data, 2);
	assert_int_equal(x.n_again, 0);
	assert_true(x.n_rtt == 0); /* the SYN came twice: no half of it is known */
	nssm_meter_close(&m);
}

/* More flows than the table holds, more under way than a flow keeps, time that goes back: it goes on, and counts what it can. */
static void bounded(void **state)
{
	(void)state;
	struct nssm_meter *m = meter();
	uint64_t n = 0;
	for (int round = 0; round < 2; round++)
		for (int c = 0; c < 20000; c++) {
			tcp_of(m, 1000 * US * n, c, 0, ACK, 1, 1, 10);
			n++;
		}
	struct nssm_measures x = read_of(m);
	assert_int_equal(x.n_packets, n);
	assert_int_equal(x.n_data, n);
	assert_int_equal(x.n_again, 0); /* each was forgotten by the time it came again */
	nssm_meter_begin(m);
	x = read_of(m);
	assert_int_equal(x.n_packets, 0);
	uint8_t c[NSSM_N_CONDITIONS] = {9, 9, 9, 9, 9};
	nssm_conditions_of(c, &x);
	for (int i = 0; i < NSSM_N_CONDITIONS; i++)
		assert_int_equal(c[i], 0);
	uint64_t t = handshake(m, 100 * MS, 10 * MS, 0);
	for (uint32_t i = 0; i < 1000; i++)
		tcp(m, t, 1, ACK, 501 + 100 * i, 101, 100);
	for (uint32_t i = 0; i < 1000; i++)
		tcp(m, t + 1 * MS, 0, ACK, 101, 601 + 100 * i, 0);
	tcp(m, 0, 1, ACK, 501 + 100000, 101, 100);
	x = read_of(m);
	assert_int_equal(x.n_rtt, 33);
	assert_int_equal(x.duration_ns, 11 * MS);
	nssm_meter_close(&m);
}

/* Nothing but UDP: what TCP tells is unknown. A single packet has no throughput. */
static void without_tcp(void **state)
{
	(void)state;
	struct nssm_meter *m = meter();
	static const uint8_t udp[42] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1,
	        198, 51, 100, 2, 3, 0xe8, 0, 53, 0, 8, 0, 0};
	struct nssm_measures x;
	uint8_t c[NSSM_N_CONDITIONS];
	nssm_meter_packet(m, &(struct nssm_pkt){.ts_ns = 7, .wirelen = 60, .caplen = 42, .data = udp});
	nssm_meter_read(m, &x);
	nssm_conditions_of(c, &x);
	const uint8_t one[NSSM_N_CONDITIONS] = {0, 0, 0, 1, 1};
	assert_memory_equal(c, one, sizeof one);
	nssm_meter_packet(m, &(struct nssm_pkt){.ts_ns = 7 + 1000 * MS, .wirelen = 65, .caplen = 42, .data = udp});
	nssm_meter_read(m, &x);
	nssm_conditions_of(c, &x);
	const uint8_t two[NSSM_N_CONDITIONS] = {0, 0, 21, 41, 3}; /* 1000 bit/s, 10⁶ µs, 2 packets */
	assert_memory_equal(c, two, sizeof two);
	nssm_meter_close(&m);
}

static void steps(void **state)
{
	(void)state;
	for (int c = 0; c < NSSM_N_CONDITIONS; c++) {
		assert_int_equal(nssm_condition_step((enum nssm_condition)c, 0), 1);
		assert_int_equal(nssm_condition_step((enum nssm_condition)c, 1e300), 255);
		for (int s = 1; s < 256; s++)
			assert_int_equal(nssm_condition_step((enum nssm_condition)c, nssm_condition_value((enum nssm_condition)c, (uint8_t)s)),
			        s);
	}
	assert_int_equal(nssm_condition_step(NSSM_COND_LOSS, 1e-9), 2);
	assert_int_equal(nssm_condition_step(NSSM_COND_LOSS, 0.02), 24); /* 2 + 2·log2(2000) = 23.9 */
	assert_int_equal(nssm_condition_step(NSSM_COND_RTT, 1e-9), 1);
	assert_int_equal(nssm_condition_step(NSSM_COND_RTT, 2e-6), 3);
	assert_int_equal(nssm_condition_step(NSSM_COND_THROUGHPUT, 5e6), 46); /* 1 + 44.5 */
	assert_near(nssm_condition_value(NSSM_COND_RTT, 34), 0.0927, 0.001);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(round_trip),
	        cmocka_unit_test(one_half_is_none),
	        cmocka_unit_test(sent_again),
	        cmocka_unit_test(gaps),
	        cmocka_unit_test(numbers_wrap),
	        cmocka_unit_test(ports_used_again),
	        cmocka_unit_test(bounded),
	        cmocka_unit_test(without_tcp),
	        cmocka_unit_test(steps),
	};
	return cmocka_run_group_tests_name("conditions", tests, NULL, NULL);
}
