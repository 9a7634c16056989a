/* The evaluation's arithmetic: nPrint's bits of packets made by hand, divergences worked out by hand and by SciPy, what is counted of a
 * session made by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "app/eval/divergence.h"
#include "app/eval/measures.h"
#include "app/eval/nprint.h"
#include "tests/frames.h"

/* --- nPrint --------------------------------------------------------------------------------------------------- */

static void decode(struct nssm_nprint *np, const uint8_t *frame, uint32_t n)
{
	/* Exactly n bytes, so that the sanitizer sees one more. */
	uint8_t *data = malloc(n);
	struct nssm_hdrs h;
	assert_non_null(data);
	memcpy(data, frame, n);
	int parsed = nssm_pkt_parse(&h, data, n);
	nssm_nprint(np, &h, parsed, data, n);
	free(data);
}

/* First bit of the field with this name. */
static int column(const char *name)
{
	int at = 0;
	for (int f = 0; f < nssm_nprint_n_fields; f++) {
		if (strcmp(nssm_nprint_field[f].name, name) == 0)
			return at;
		at += nssm_nprint_field[f].n_bits;
	}
	fail_msg("no field %s", name);
	return -1;
}

/* want: "0", "1" and "-" for -1. */
static void expect(const struct nssm_nprint *np, const char *name, const char *want)
{
	int at = column(name);
	for (int i = 0; want[i] != '\0'; i++)
		if (nssm_nprint_bit(np, at + i) != (want[i] == '-' ? -1 : want[i] - '0'))
			fail_msg("%s_%d: expected %c, found %d", name, i, want[i], nssm_nprint_bit(np, at + i));
}

static void expect_absent(const struct nssm_nprint *np, int first, int last)
{
	for (int b = first; b <= last; b++)
		if (nssm_nprint_bit(np, b) != -1)
			fail_msg("bit %d: expected -1, found %d", b, nssm_nprint_bit(np, b));
}

static void nprint_layout(void **state)
{
	int at = 0, header = 0;
	(void)state;
	for (int f = 0; f < nssm_nprint_n_fields; f++) {
		const char *h = nssm_nprint_header_name(header);
		if (strncmp(nssm_nprint_field[f].name, h, strlen(h)) != 0) {
			header++;
			assert_int_equal(at, 8 * nssm_nprint_at[header]);
			h = nssm_nprint_header_name(header);
		}
		assert_memory_equal(nssm_nprint_field[f].name, h, strlen(h));
		at += nssm_nprint_field[f].n_bits;
	}
	assert_int_equal(header, NSSM_NPRINT_ICMP);
	assert_int_equal(at, NSSM_NPRINT_BITS);
	assert_int_equal(column("ipv6_ver"), 480);
	assert_int_equal(column("tcp_sprt"), 480 + 320);
	assert_int_equal(column("udp_sport"), 480 + 320 + 480);
	assert_int_equal(column("icmp_type"), 480 + 320 + 480 + 64);
}

static void nprint_tcp(void **state)
{
	struct nssm_nprint np;
	(void)state;
	decode(&np, frame_syn, sizeof frame_syn);
	expect(&np, "ipv4_ver", "0100");
	expect(&np, "ipv4_hl", "0101");
	expect(&np, "ipv4_tos", "00000000");
	expect(&np, "ipv4_tl", "0000000000111100");
	expect(&np, "ipv4_id", "0001001000110100");
	expect(&np, "ipv4_rbit", "0");
	expect(&np, "ipv4_dfbit", "1");
	expect(&np, "ipv4_mfbit", "0");
	expect(&np, "ipv4_foff", "0000000000000");
	expect(&np, "ipv4_ttl", "01000000");
	expect(&np, "ipv4_proto", "00000110");
	expect(&np, "ipv4_cksum", "0011110001010001");
	expect(&np, "ipv4_src", "11000000000000000000001000000001");
	expect(&np, "ipv4_dst", "11000110001100110110010000000010");
	expect_absent(&np, column("ipv4_opt"), 799); /* and all of IPv6 */
	expect(&np, "tcp_sprt", "0001001000110100");
	expect(&np, "tcp_dprt", "0000000001010000");
	expect(&np, "tcp_seq", "00000000000000000000000000000001");
	expect(&np, "tcp_ackn", "00000000000000000000000000000000");
	expect(&np, "tcp_doff", "1010");
	expect(&np, "tcp_res", "000");
	expect(&np, "tcp_ns", "0");
	expect(&np, "tcp_ackf", "0");
	expect(&np, "tcp_syn", "1");
	expect(&np, "tcp_fin", "0");
	expect(&np, "tcp_wsize", "1111111111111111");
	expect(&np, "tcp_cksum", "0100100100111011");
	expect(&np, "tcp_urp", "0000000000000000");
	expect(&np, "tcp_opt", "00000010000001000000010110110100"); /* MSS 1460 */
	assert_int_equal(nssm_nprint_bit(&np, column("tcp_opt") + 159), 1); /* window scale 7: the last bit */
	expect_absent(&np, column("tcp_opt") + 160, NSSM_NPRINT_BITS - 1);
	/* What follows a header of 24 bytes is payload. */
	uint8_t frame[sizeof frame_syn];
	memcpy(frame, frame_syn, sizeof frame);
	frame[46] = 0x60;
	decode(&np, frame, sizeof frame);
	expect(&np, "tcp_doff", "0110");
	expect(&np, "tcp_opt", "00000010000001000000010110110100--------");
}

static void nprint_udp(void **state)
{
	struct nssm_nprint np;
	(void)state;
	decode(&np, frame_vlan_udp, sizeof frame_vlan_udp);
	expect(&np, "ipv4_tl", "0000000000100001");
	expect(&np, "ipv4_proto", "00010001");
	expect_absent(&np, column("ipv4_opt"), column("udp_sport") - 1);
	expect(&np, "udp_sport", "0000001111101000");
	expect(&np, "udp_dport", "0000000000110101");
	expect(&np, "udp_len", "0000000000001101");
	expect(&np, "udp_cksum", "1110010110111000");
	expect_absent(&np, column("icmp_type"), NSSM_NPRINT_BITS - 1);
}

static void nprint_ipv6(void **state)
{
	struct nssm_nprint np;
	(void)state;
	decode(&np, frame_ip6_udp, sizeof frame_ip6_udp);
	expect_absent(&np, 0, 479);
	expect(&np, "ipv6_ver", "0110");
	expect(&np, "ipv6_tc", "00000000");
	expect(&np, "ipv6_fl", "00000000000000000000");
	expect(&np, "ipv6_len", "0000000000100000");
	expect(&np, "ipv6_nh", "00000000"); /* hop-by-hop */
	expect(&np, "ipv6_hl", "01000000");
	expect(&np, "ipv6_src", "00100000000000010000110110111000");
	assert_int_equal(nssm_nprint_bit(&np, column("ipv6_dst") + 126), 1);
	assert_int_equal(nssm_nprint_bit(&np, column("ipv6_dst") + 127), 0);
	expect(&np, "udp_dport", "0000000110111011");
	expect_absent(&np, column("tcp_sprt"), column("udp_sport") - 1);
	decode(&np, frame_solicit, sizeof frame_solicit); /* ICMPv6 is not nPrint's ICMP */
	expect(&np, "ipv6_nh", "00111010");
	expect_absent(&np, column("tcp_sprt"), NSSM_NPRINT_BITS - 1);
}

/* Echo request, id 0x1234, sequence 5, behind an IPv4 header with four bytes of options. */
static const uint8_t frame_echo[] = {
	2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
	0x46, 0xb8, 0, 32, 0, 1, 0x20, 0, 63, 1, 0x12, 0x34, 192, 0, 2, 1, 198, 51, 100, 2, 0x94, 4, 0, 0,
	8, 0, 0xe5, 0xc6, 0x12, 0x34, 0, 5,
};

static void nprint_icmp(void **state)
{
	struct nssm_nprint np;
	uint8_t frame[sizeof frame_echo];
	(void)state;
	decode(&np, frame_echo, sizeof frame_echo);
	expect(&np, "ipv4_hl", "0110");
	expect(&np, "ipv4_tos", "10111000");
	expect(&np, "ipv4_mfbit", "1");
	expect(&np, "ipv4_ttl", "00111111");
	expect(&np, "ipv4_opt", "10010100000001000000000000000000--------");
	expect_absent(&np, column("ipv6_ver"), column("icmp_type") - 1);
	expect(&np, "icmp_type", "00001000");
	expect(&np, "icmp_code", "00000000");
	expect(&np, "icmp_cksum", "1110010111000110");
	expect(&np, "icmp_roh", "00010010001101000000000000000101");
	/* A later fragment has no transport header. */
	memcpy(frame, frame_echo, sizeof frame);
	frame[21] = 1;
	decode(&np, frame, sizeof frame);
	expect(&np, "ipv4_foff", "0000000000001");
	expect_absent(&np, column("icmp_type"), NSSM_NPRINT_BITS - 1);
	frame[20] = 1, frame[21] = 0;
	decode(&np, frame, sizeof frame);
	expect(&np, "ipv4_foff", "0000100000000");
	expect_absent(&np, column("icmp_type"), NSSM_NPRINT_BITS - 1);
}

/* At every length of the capture: the bytes that are there, -1 behind them. */
static void nprint_cut(void **state)
{
	struct nssm_nprint whole, np;
	(void)state;
	decode(&whole, frame_syn, sizeof frame_syn);
	for (uint32_t n = 1; n <= sizeof frame_syn; n++) {
		decode(&np, frame_syn, n);
		for (int i = 0; i < 20; i++)
			assert_int_equal(nssm_nprint_bit(&np, 8 * i), n < 34 ? -1 : nssm_nprint_bit(&whole, 8 * i));
		for (int i = 0; i < 40; i++) {
			int b = column("tcp_sprt") + 8 * i + 5;
			assert_int_equal(nssm_nprint_bit(&np, b), 34 + i < (int)n ? nssm_nprint_bit(&whole, b) : -1);
		}
	}
}

/* --- divergences ---------------------------------------------------------------------------------------------- */

static void fill(struct nssm_tally *t, const uint64_t *pair, int n)
{
	*t = (struct nssm_tally){0};
	for (int i = 0; i < n; i++)
		assert_int_equal(nssm_tally_add(t, pair[2 * i], pair[2 * i + 1]), 0);
	nssm_tally_sort(t);
}

static void expect_near(const char *what, int i, double got, double want)
{
	if (!(fabs(got - want) <= 1e-12))
		fail_msg("%s %d: expected %.15g, found %.15g", what, i, want, got);
}

static void expect_figures(const double *got, double jsd, double tv, double hellinger, double emd, double ks)
{
	const double want[NSSM_N_DIVS] = {jsd, sqrt(jsd), tv, hellinger, emd, ks};
	for (int d = 0; d < NSSM_N_DIVS; d++)
		expect_near(nssm_div_name((enum nssm_div)d), 0, got[d], want[d]);
}

static void divergence_by_hand(void **state)
{
	/* a: 0 and 4, half each; b: 0 a quarter, 4 three quarters. m = 3/8, 5/8. */
	static const uint64_t a[] = {4, 2, 0, 2}, b[] = {0, 1, 4, 3}, far[] = {10, 7}, one[] = {0, 5};
	struct nssm_tally ta, tb, tf, to, empty = {0};
	double out[NSSM_N_DIVS];
	(void)state;
	fill(&ta, a, 2);
	fill(&tb, b, 2);
	fill(&tf, far, 1);
	fill(&to, one, 1);
	double jsd = (0.5 * log2(4.0 / 3) + 0.5 * log2(0.8) + 0.25 * log2(2.0 / 3) + 0.75 * log2(1.2)) / 2;
	double h = sqrt((pow(sqrt(0.5) - 0.5, 2) + pow(sqrt(0.5) - sqrt(0.75), 2)) / 2);
	nssm_diverge(out, &ta, &tb, true);
	expect_figures(out, jsd, 0.25, h, 0.25, 0.25);
	nssm_diverge(out, &tb, &ta, true); /* neither side comes first */
	expect_figures(out, jsd, 0.25, h, 0.25, 0.25);
	nssm_diverge(out, &ta, &ta, true);
	expect_figures(out, 0, 0, 0, 0, 0);
	nssm_diverge(out, &to, &to, true); /* no range */
	expect_figures(out, 0, 0, 0, 0, 0);
	nssm_diverge(out, &ta, &tf, true); /* disjoint: 0, 4 | 10. EMD: (4 * 0.5 + 6) / 10 */
	expect_figures(out, 1, 1, 1, 0.8, 1);
	nssm_diverge(out, &to, &tf, true);
	expect_figures(out, 1, 1, 1, 1, 1);
	nssm_diverge(out, &ta, &tb, false); /* no order: no EMD, no KS */
	expect_near("jsd", 0, out[NSSM_DIV_JSD], jsd);
	assert_true(out[NSSM_DIV_EMD] == NSSM_DIV_NONE && out[NSSM_DIV_KS] == NSSM_DIV_NONE);
	nssm_diverge(out, &ta, &empty, true);
	expect_figures(out, 1, 1, 1, 1, 1);
	nssm_diverge(out, &empty, &empty, true);
	for (int d = 0; d < NSSM_N_DIVS; d++)
		assert_true(out[d] == NSSM_DIV_NONE);
	static const uint64_t x[3] = {2, 1, 1}, y[3] = {0, 2, 2};
	nssm_diverge_counts(out, x, y, 3); /* F 1/2 3/4 1, G 0 1/2 1 */
	expect_near("tv", 0, out[NSSM_DIV_TV], 0.5);
	expect_near("emd", 0, out[NSSM_DIV_EMD], (0.5 + 0.25) / 2);
	expect_near("ks", 0, out[NSSM_DIV_KS], 0.5);
	nssm_tally_free(&ta);
	nssm_tally_free(&tb);
	nssm_tally_free(&tf);
	nssm_tally_free(&to);
}

static void divergence_golden(void **state)
{
	FILE *f = fopen("golden/divergence.txt", "r");
	static char line[16384];
	struct nssm_tally t[2] = {0};
	int n = 0;
	(void)state;
	assert_non_null(f);
	while (fgets(line, sizeof line, f) != NULL) {
		char *p = line + 1, *end;
		if (line[0] != '=') {
			struct nssm_tally *side = &t[line[0] - 'a'];
			while (*p == ' ') {
				uint64_t v = strtoull(p, &end, 10), k = strtoull(end + 1, &p, 10);
				assert_int_equal(nssm_tally_add(side, v, k), 0);
			}
			nssm_tally_sort(side);
			continue;
		}
		double out[NSSM_N_DIVS];
		nssm_diverge(out, &t[0], &t[1], true);
		for (int d = 0; d < NSSM_N_DIVS; d++, p = end)
			expect_near(nssm_div_name((enum nssm_div)d), n, out[d], strtod(p, &end));
		nssm_tally_free(&t[0]);
		nssm_tally_free(&t[1]);
		n++;
	}
	fclose(f);
	assert_true(n >= 20);
}

/* --- measures ------------------------------------------------------------------------------------------------- */

static void log_bins(void **state)
{
	static const uint64_t first[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32};
	(void)state;
	for (uint64_t b = 0; b + 1 < sizeof first / sizeof *first; b++)
		for (uint64_t v = first[b]; v < first[b + 1]; v++)
			assert_int_equal(nssm_log_bin(v), b);
	assert_int_equal(nssm_log_bin(UINT64_MAX), 4 * 62 + 3);
}

/* want: pairs of value (LOG: in its unit) and count. */
static void expect_tally(struct nssm_counts *c, enum nssm_measure m, const uint64_t *want, size_t n)
{
	struct nssm_tally *t = &c->tally[m];
	nssm_tally_sort(t);
	if (t->n_values != n)
		fail_msg("%s: expected %zu values, found %zu", nssm_measure_info[m].key, n, t->n_values);
	for (size_t i = 0; i < n; i++) {
		uint64_t v = nssm_measure_info[m].bins == NSSM_BINS_LOG ? nssm_log_bin(want[2 * i]) : want[2 * i];
		if (t->row[i].value != v || t->row[i].n != want[2 * i + 1])
			fail_msg("%s: expected %ju %ju times, found %ju %ju times", nssm_measure_info[m].key, (uintmax_t)v, (uintmax_t)want[2 * i + 1],
			        (uintmax_t)t->row[i].value, (uintmax_t)t->row[i].n);
	}
}
#define EXPECT_TALLY(c, m, ...) \
	do { \
		static const uint64_t want_[] = {__VA_ARGS__}; \
		expect_tally(c, m, want_, sizeof want_ / sizeof *want_ / 2); \
	} while (0)

/* Flow 7 from 0 to 500 us, flow 9 from 100 us to 200 us inside of it, flow 5 one packet at the end, one packet of none. */
static void session_by_hand(void **state)
{
	static const struct nssm_record r[] = {
	        {0, 7, 60, 1}, {100000, 9, 70, 0}, {100000, 7, 60, 0}, {200000, 9, 90, 1}, {300000, 0, 42, 0}, {500000, 7, 1000, 1}, {1500000, 5, 80, 0}};
	struct nssm_counts c = {0};
	struct nssm_err err;
	(void)state;
	assert_int_equal(nssm_counts_session(&c, r, 7, &err), 0);
	EXPECT_TALLY(&c, NSSM_M_SIZE, 42, 1, 60, 2, 70, 1, 80, 1, 90, 1, 1000, 1);
	EXPECT_TALLY(&c, NSSM_M_IAT, 0, 1, 100, 3, 200, 1, 1000, 1);
	EXPECT_TALLY(&c, NSSM_M_FLOW_IAT, 100, 2, 400, 1);
	EXPECT_TALLY(&c, NSSM_M_DIRECTION, 0, 4, 1, 2);
	EXPECT_TALLY(&c, NSSM_M_FLOW_PACKETS, 1, 1, 2, 1, 3, 1);
	EXPECT_TALLY(&c, NSSM_M_FLOW_DURATION, 0, 1, 100, 1, 500, 1);
	EXPECT_TALLY(&c, NSSM_M_FLOW_BYTES, 80, 1, 160, 1, 1120, 1);
	EXPECT_TALLY(&c, NSSM_M_FLOWS_PER_SESSION, 3, 1);
	EXPECT_TALLY(&c, NSSM_M_CONCURRENCY, 1, 4, 2, 3);
	EXPECT_TALLY(&c, NSSM_M_SESSION_PACKETS, 7, 1);
	EXPECT_TALLY(&c, NSSM_M_SESSION_DURATION, 1500, 1);
	assert_int_equal(c.n_sessions, 1);
	nssm_counts_free(&c);
}

static void packets_by_hand(void **state)
{
	const struct nssm_pkt syn = {.wirelen = 74, .caplen = sizeof frame_syn, .data = frame_syn},
	                      udp = {.wirelen = 64, .caplen = sizeof frame_vlan_udp, .data = frame_vlan_udp},
	                      six = {.wirelen = 86, .caplen = sizeof frame_ip6_udp, .data = frame_ip6_udp};
	struct nssm_counts c = {0}, sum = {0};
	struct nssm_record r;
	struct nssm_err err;
	uint64_t n[3];
	(void)state;
	assert_int_equal(nssm_counts_packet(&c, &r, &syn, &err), 0);
	assert_true(r.flow != 0 && r.size == 74);
	assert_int_equal(nssm_counts_packet(&c, &r, &udp, &err), 0);
	assert_int_equal(nssm_counts_packet(&sum, &r, &six, &err), 0);
	assert_int_equal(nssm_counts_merge(&sum, &c, true, &err), 0);
	assert_int_equal(sum.n_packets, 3);
	nssm_counts_bit(n, &sum, column("ipv4_dfbit"));
	assert_true(n[0] == 1 && n[1] == 1 && n[2] == 1);
	nssm_counts_bit(n, &sum, column("tcp_syn"));
	assert_true(n[0] == 2 && n[1] == 0 && n[2] == 1);
	EXPECT_TALLY(&sum, NSSM_M_ETHERTYPE, 0x0800, 2, 0x86dd, 1);
	EXPECT_TALLY(&sum, NSSM_M_IP_LENGTH, 33, 1, 60, 1, 72, 1);
	EXPECT_TALLY(&sum, NSSM_M_IP_TTL, 64, 3);
	EXPECT_TALLY(&sum, NSSM_M_IP_PROTO, 6, 1, 17, 2);
	EXPECT_TALLY(&sum, NSSM_M_IP_FLAGS, 0, 1, 2, 1);
	EXPECT_TALLY(&sum, NSSM_M_TCP_SRC_PORT, 4660, 1);
	EXPECT_TALLY(&sum, NSSM_M_TCP_DST_PORT, 80, 1);
	EXPECT_TALLY(&sum, NSSM_M_TCP_FLAGS, 2, 1);
	EXPECT_TALLY(&sum, NSSM_M_TCP_WINDOW, 65535, 1);
	EXPECT_TALLY(&sum, NSSM_M_TCP_HEADER_LENGTH, 40, 1);
	assert_int_equal(sum.tally[NSSM_M_TCP_OPTIONS].total, 1);
	EXPECT_TALLY(&sum, NSSM_M_UDP_SRC_PORT, 1000, 1, 4000, 1);
	EXPECT_TALLY(&sum, NSSM_M_UDP_DST_PORT, 53, 1, 443, 1);
	EXPECT_TALLY(&sum, NSSM_M_UDP_LENGTH, 13, 1, 24, 1);
	nssm_counts_free(&c);
	nssm_counts_free(&sum);
	/* NS is a flag, the three bits before it are none. */
	uint8_t frame[sizeof frame_syn];
	memcpy(frame, frame_syn, sizeof frame);
	frame[46] = 0xaf;
	const struct nssm_pkt odd = {.wirelen = 74, .caplen = sizeof frame, .data = frame};
	assert_int_equal(nssm_counts_packet(&c, &r, &odd, &err), 0);
	EXPECT_TALLY(&c, NSSM_M_TCP_FLAGS, 0x102, 1);
	nssm_counts_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(nprint_layout),
	        cmocka_unit_test(nprint_tcp),
	        cmocka_unit_test(nprint_udp),
	        cmocka_unit_test(nprint_ipv6),
	        cmocka_unit_test(nprint_icmp),
	        cmocka_unit_test(nprint_cut),
	        cmocka_unit_test(divergence_by_hand),
	        cmocka_unit_test(divergence_golden),
	        cmocka_unit_test(log_bins),
	        cmocka_unit_test(session_by_hand),
	        cmocka_unit_test(packets_by_hand),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
