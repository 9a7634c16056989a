/* The evaluation's arithmetic: nPrint's bits of packets made by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(nprint_layout),
	        cmocka_unit_test(nprint_tcp),
	        cmocka_unit_test(nprint_udp),
	        cmocka_unit_test(nprint_ipv6),
	        cmocka_unit_test(nprint_icmp),
	        cmocka_unit_test(nprint_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
