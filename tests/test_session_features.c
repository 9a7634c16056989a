/* test_session_features — a session of six packets whose figures were worked out by hand; other names and times for the same
 * session; sessions with next to nothing in them. features_numpy.py does the same on captures. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "app/eval/session_features.h"
#include "replay/capture.h"
#include "tests/frames.h"

enum { FIN = 1, SYN = 2, PSH = 8, ACK = 16, MS = 1000000 };
enum { FRAME_MAX = 128, FEATURES_MAX = 512 };

struct name {
	uint8_t host;
	uint16_t port;
};

/* TCP or UDP over IPv4 with n bytes of payload; checksums are left 0. Returns its length. */
static uint32_t frame(uint8_t *out, uint8_t proto, struct name from, struct name to, uint8_t flags, uint8_t n)
{
	uint32_t l4 = proto == 6 ? 20 : 8, len = 34 + l4 + n;
	memset(out, 0, FRAME_MAX);
	out[5] = to.host;
	out[11] = from.host;
	out[12] = 8;
	uint8_t *ip = out + 14;
	ip[0] = 0x45;
	ip[3] = (uint8_t)(20 + l4 + n);
	ip[8] = 64;
	ip[9] = proto;
	ip[12] = ip[16] = 10;
	ip[15] = from.host;
	ip[19] = to.host;
	uint8_t *t = ip + 20;
	t[0] = (uint8_t)(from.port >> 8);
	t[1] = (uint8_t)from.port;
	t[2] = (uint8_t)(to.port >> 8);
	t[3] = (uint8_t)to.port;
	if (proto == 6) {
		t[12] = 0x50;
		t[13] = flags;
	} else {
		t[5] = (uint8_t)(8 + n);
	}
	return len;
}

static void add(struct nssm_features *f, uint64_t t_ns, const uint8_t *data, uint32_t len)
{
	struct nssm_err err;
	if (nssm_features_add(f, t_ns, data, len, len, &err))
		fail_msg("%s", err.msg);
}

/* Client a, servers b (TCP 80) and c (UDP 53), which answers before it is asked. */
static void six_packets(struct nssm_features *f, float *row, struct name a, uint8_t b, uint8_t c, uint64_t t0)
{
	uint8_t p[FRAME_MAX], arp[42] = {0};
	struct name web = {b, 80}, dns = {c, 53};
	arp[12] = 8;
	arp[13] = 6;
	add(f, t0, p, frame(p, 6, a, web, SYN, 0));
	add(f, t0 + 100 * MS, p, frame(p, 6, web, a, SYN | ACK, 0));
	add(f, t0 + 200 * MS, p, frame(p, 6, a, web, PSH | ACK, 10));
	add(f, t0 + 300 * MS, p, frame(p, 17, dns, a, 0, 8));
	add(f, t0 + 2300ull * MS, p, frame(p, 6, web, a, FIN | ACK, 0));
	add(f, t0 + 2300ull * MS, arp, sizeof arp);
	assert_int_equal(nssm_features_end(f, row, NULL), 0);
}

static void is(const float *row, const char *name, double want)
{
	int32_t i = nssm_feature_find(name);
	if (i < 0 || !(fabs((double)row[i] - want) <= 1e-6 * (1 + fabs(want))))
		fail_msg("%s: %g, expected %g", name, i < 0 ? NAN : (double)row[i], want);
}

static void worked_out_by_hand(void **state)
{
	static const struct {
		const char *name;
		double value;
	} want[] = {
		{"packets", 6}, {"bytes", 318}, {"duration", 2.3}, {"packets_per_s", 6 / 2.3}, {"bytes_per_s", 318 / 2.3},
		{"share_fwd", 0.4}, {"share_fwd_bytes", 118.0 / 276}, {"share_tcp", 4.0 / 6}, {"share_udp", 1.0 / 6},
		{"share_arp", 1.0 / 6}, {"share_not_ip", 0}, {"share_icmp", 0}, {"share_unreadable", 0}, {"share_ip6", 0},
		{"tcp_syn", 0.25}, {"tcp_synack", 0.25}, {"tcp_fin", 0.25}, {"tcp_psh", 0.25}, {"tcp_ack", 0.75}, {"tcp_rst", 0},
		{"tcp_empty", 0.75}, {"flows", 2}, {"flows_tcp", 1}, {"flows_udp", 1}, {"flows_one_way", 0.5},
		{"flows_one_packet", 0.5}, {"flows_alive_max", 2}, {"flows_per_s", 2 / 2.3}, {"bursts", 2},
		/* 42 50 54 54 54 64 */
		{"size_mean", 53}, {"size_sd", 6.50640709864771 /* sqrt(254 / 6) */}, {"size_min", 42}, {"size_q10", 46},
		{"size_q25", 51}, {"size_q50", 54}, {"size_q75", 54}, {"size_q90", 59}, {"size_max", 64},
		{"size_fwd_mean", 59}, {"size_fwd_max", 64}, {"size_rev_mean", 158.0 / 3}, {"size_rev_min", 50},
		/* 0.1 0.1 0.1 2 0 */
		{"iat_mean", 0.46}, {"iat_q50", 0.1}, {"iat_max", 2}, {"iat_min", 0}, {"iat_fwd_mean", 0.2}, {"iat_fwd_sd", 0},
		{"iat_rev_mean", 1.1}, {"iat_rev_max", 2}, {"iat_flow_mean", 2.3 / 3}, {"iat_flow_max", 2.1},
		{"flow_packets_mean", 2.5}, {"flow_packets_max", 4}, {"flow_bytes_min", 50}, {"flow_bytes_max", 226},
		{"flow_duration_min", 0}, {"flow_duration_max", 2.3}, {"flow_start_gap_mean", 0.3}, {"flow_start_gap_max", 0.3},
		{"burst_packets_min", 2}, {"burst_packets_max", 4}, {"burst_bytes_min", 96}, {"burst_bytes_max", 222},
		{"burst_duration_min", 0}, {"burst_duration_max", 0.3}, {"burst_gap_mean", 2}, {"run_packets_mean", 1.25},
		{"run_packets_max", 2},
	};
	struct nssm_features *f;
	float row[FEATURES_MAX];
	assert_true(nssm_feature_count() <= FEATURES_MAX);
	assert_int_equal(nssm_features_open(&f, NULL), 0);
	six_packets(f, row, (struct name){1, 40000}, 2, 3, 0);
	for (size_t i = 0; i < sizeof want / sizeof *want; i++)
		is(row, want[i].name, want[i].value);
	nssm_features_close(&f);
	nssm_features_close(&f);
}

/* Other hosts, in another order, other ports, another day, and with the struct's memory of the session before. */
static void knows_no_identity(void **state)
{
	struct nssm_features *f;
	float a[FEATURES_MAX], b[FEATURES_MAX];
	uint8_t p[FRAME_MAX];
	assert_int_equal(nssm_features_open(&f, NULL), 0);
	six_packets(f, a, (struct name){1, 40000}, 2, 3, 0);
	six_packets(f, b, (struct name){200, 65000}, 9, 7, 1ull << 40);
	assert_memory_equal(a, b, nssm_feature_count() * sizeof *a);
	/* But a packet more is seen. */
	add(f, 0, p, frame(p, 17, (struct name){1, 2000}, (struct name){2, 53}, 0, 0));
	six_packets(f, b, (struct name){1, 40000}, 2, 3, 0);
	assert_memory_not_equal(a, b, nssm_feature_count() * sizeof *a);
	nssm_features_close(&f);
}

static void all_finite(const float *row)
{
	for (uint32_t i = 0; i < nssm_feature_count(); i++)
		if (!isfinite(row[i]))
			fail_msg("%s is %g", nssm_feature_name(i), (double)row[i]);
}

static void next_to_nothing(void **state)
{
	struct nssm_features *f;
	struct nssm_err err = {0};
	float row[FEATURES_MAX];
	uint8_t p[FRAME_MAX];
	assert_int_equal(nssm_features_open(&f, NULL), 0);
	assert_int_equal(nssm_features_end(f, row, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "without packets"));
	/* One byte of what may have been a frame. */
	add(f, 5, (const uint8_t[]){1}, 1);
	assert_int_equal(nssm_features_end(f, row, NULL), 0);
	all_finite(row);
	is(row, "packets", 1);
	is(row, "duration", 0);
	is(row, "packets_per_s", 0);
	is(row, "flows", 0);
	is(row, "iat_mean", 0);
	is(row, "bursts", 1);
	/* Time that runs backwards stands still; an IPv6 and a VLAN packet; one whose header was cut. */
	add(f, 1000 * MS, frame_ip6_udp, sizeof frame_ip6_udp);
	add(f, 0, frame_vlan_udp, sizeof frame_vlan_udp);
	add(f, 1500 * MS, p, frame(p, 6, (struct name){1, 5}, (struct name){2, 6}, ACK, 0) - 1);
	add(f, 1500 * MS, frame_solicit, sizeof frame_solicit);
	assert_int_equal(nssm_features_end(f, row, NULL), 0);
	all_finite(row);
	is(row, "duration", 0.5);
	is(row, "share_ip6", 0.5);
	is(row, "share_udp", 0.5);
	is(row, "share_unreadable", 0.25);
	is(row, "share_icmp6", 0.25);
	is(row, "tcp_ack", 0);
	nssm_features_close(&f);
}

static void many_flows(void **state)
{
	enum { FLOWS = 5000 };
	struct nssm_features *f;
	float row[FEATURES_MAX];
	uint8_t p[FRAME_MAX];
	assert_int_equal(nssm_features_open(&f, NULL), 0);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < FLOWS; i++)
			add(f, (uint64_t)(round * FLOWS + i) * MS, p,
				frame(p, 17, (struct name){1, (uint16_t)(10000 + i)}, (struct name){2, 53}, 0, 4));
	assert_int_equal(nssm_features_end(f, row, NULL), 0);
	is(row, "flows", FLOWS);
	is(row, "flow_packets_min", 2);
	is(row, "flow_packets_max", 2);
	is(row, "flow_duration_sd", 0);
	is(row, "flow_duration_mean", 5);
	is(row, "flows_alive_max", FLOWS);
	is(row, "flows_one_way", 1);
	is(row, "share_fwd", 1);
	nssm_features_close(&f);
}

static void a_capture_is_its_packets(void **state)
{
	static const char path[] = "../samples/web-001.pcap.gz";
	struct nssm_features *f;
	struct nssm_capture *c;
	struct nssm_pkt p;
	struct nssm_err err = {0};
	float row[FEATURES_MAX], by_packet[FEATURES_MAX];
	assert_int_equal(nssm_features_open(&f, NULL), 0);
	assert_int_equal(nssm_features_capture(f, row, path, &err), 0);
	assert_int_equal(nssm_capture_open(&c, path, &err), 0);
	while (nssm_capture_next(c, &p, &err) == 1)
		assert_int_equal(nssm_features_add(f, p.ts_ns, p.data, p.caplen, p.wirelen, &err), 0);
	nssm_capture_close(&c);
	assert_int_equal(nssm_features_end(f, by_packet, NULL), 0);
	assert_memory_equal(row, by_packet, nssm_feature_count() * sizeof *row);
	assert_true(nssm_features_capture(f, row, "no/such.pcap", &err) < 0);
	assert_non_null(strstr(err.msg, "no/such.pcap"));
	assert_int_equal(nssm_features_end(f, row, &err), NSSM_EARG);
	nssm_features_close(&f);
}

static void names_are_unique(void **state)
{
	for (uint32_t i = 0; i < nssm_feature_count(); i++)
		assert_int_equal(nssm_feature_find(nssm_feature_name(i)), i);
	assert_int_equal(nssm_feature_find("src_ip"), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(worked_out_by_hand),
		cmocka_unit_test(knows_no_identity),
		cmocka_unit_test(next_to_nothing),
		cmocka_unit_test(many_flows),
		cmocka_unit_test(a_capture_is_its_packets),
		cmocka_unit_test(names_are_unique),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
