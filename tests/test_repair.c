/* Repair: properties over random frames, and with an argument the survivors as a pcap for check_repair.py
 * (tshark). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "frames.h"
#include "model/codec.h"
#include "model/packet.h"

#define KNOWN_MAX 256

static uint32_t below(struct nssm_rng *r, uint32_t n)
{
	return nssm_rng_below(r, n);
}

static void put_kind_length(struct nssm_rng *r, uint8_t *o, uint32_t n)
{
	static const uint8_t kinds[] = {0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 19, 27, 28, 29, 30,
	        30, 30, 34, 68, 76, 78, 82, 130, 131, 133, 134, 136, 137, 148, 25, 253, 254};
	static const uint8_t lengths[] = {2, 3, 4, 6, 8, 10, 12, 16, 18, 20, 26, 34, 7, 11};
	for (uint32_t i = 0; i < n;) {
		o[i] = kinds[below(r, sizeof kinds)];
		if (o[i] <= 1) {
			i++;
			continue;
		}
		if (i + 1 < n)
			o[i + 1] = below(r, 8) ? lengths[below(r, sizeof lengths)] : (uint8_t)below(r, 256);
		i += i + 1 < n && o[i + 1] >= 2 ? o[i + 1] : 2;
	}
}

/* What a model half-way trained might say: headers with the right look and some bytes wrong. */
static uint32_t plausible(struct nssm_rng *r, uint8_t *f)
{
	nssm_rng_bytes(r, f, KNOWN_MAX);
	uint32_t off = 12, tags = below(r, 8) ? 0 : below(r, 3);
	for (uint32_t i = 0; i < tags; i++, off += 4)
		memcpy(f + off, i % 2 ? "\x88\xa8" : "\x81\x00", 2);
	bool v6 = below(r, 3) == 0;
	memcpy(f + off, v6 ? "\x86\xdd" : "\x08\x00", 2);
	off += 2;
	uint8_t proto = below(r, 2) ? 6 : 17, *ip = f + off;
	if (v6) {
		static const uint8_t ext[] = {0, 43, 44, 51, 60};
		ip[0] = 0x60 | (ip[0] & 15);
		ip[4] &= below(r, 4) ? 7 : 255;
		uint8_t *next = ip + 6;
		off += 40;
		for (uint32_t k = below(r, 3) ? 0 : below(r, 3); k > 0; k--) {
			*next = ext[below(r, sizeof ext)];
			if (*next == 0 && next != ip + 6)
				*next = 60;
			next = f + off;
			f[off + 1] = *next == 51 ? 4 : (uint8_t)below(r, 3);
			put_kind_length(r, f + off + 2, 6);
			off += *next == 51 ? 24 : (f[off + 1] + 1u) * 8;
		}
		*next = proto;
	} else {
		uint32_t words = below(r, 4) ? 5 : 5 + below(r, 11);
		ip[0] = (uint8_t)(0x40 | words);
		ip[2] &= below(r, 4) ? 7 : 255;
		if (below(r, 4)) {
			ip[6] &= 0x40;
			ip[7] = 0;
		}
		ip[9] = proto;
		put_kind_length(r, ip + 20, words * 4 - 20);
		off += words * 4;
	}
	if (off + 64 < KNOWN_MAX && proto == 6) {
		uint32_t words = below(r, 16) ? 5 + below(r, 11) : below(r, 16);
		f[off + 12] = (uint8_t)(words << 4 | (f[off + 12] & 15));
		if (words > 5)
			put_kind_length(r, f + off + 20, words * 4 - 20);
	} else if (off + 8 < KNOWN_MAX && below(r, 4) == 0) {
		f[off + 6] = f[off + 7] = 0;
	}
	uint32_t n = below(r, 3) ? 128 : below(r, KNOWN_MAX + 1);
	for (uint32_t k = below(r, 3) ? 0 : below(r, 6); k > 0; k--)
		f[below(r, KNOWN_MAX)] = (uint8_t)nssm_rng_u32(r);
	return n;
}

static void fill(void *ctx, uint8_t *dst, uint32_t n)
{
	nssm_rng_bytes(ctx, dst, n);
}

/* Checks what the header promises of a repaired frame. */
static void check_valid(const uint8_t *f, uint32_t len)
{
	struct nssm_hdrs h;
	assert_int_equal(nssm_pkt_parse(&h, f, len), NSSM_PKT_OK);
	assert_false(h.fragment);
	assert_int_equal(h.l3_off + h.ip_len, len);
	const uint8_t *ip = f + h.l3_off, *l4 = f + h.l4_off;
	if (h.ip_version == 4)
		assert_int_equal(nssm_csum_fold(nssm_csum_add(0, ip, h.l4_off - h.l3_off)), 0);
	uint32_t l4_len = len - h.l4_off;
	const uint8_t *field = l4 + (h.proto == 17 ? 6 : 16);
	uint32_t csum = (uint32_t)field[0] << 8 | field[1];
	if (h.proto == 17)
		assert_int_equal(l4[4] << 8 | l4[5], l4_len);
	if (h.proto != 17 || h.ip_version == 6 || csum != 0)
		assert_int_equal(csum, nssm_csum_l4(ip, h.ip_version, h.proto, l4, l4_len));
}

static uint8_t frame[NSSM_FRAME_MAX], again[NSSM_FRAME_MAX];

static void random_frames_become_valid(void **state)
{
	struct nssm_rng r;
	nssm_rng_init(&r, 42, 0, 0);
	uint32_t ok = 0, by_reason[NSSM_PKT_N_REASONS] = {0};
	unsigned seen = 0;
	for (int i = 0; i < 60000; i++) {
		uint32_t n = plausible(&r, frame), len, len2;
		uint32_t cap = below(&r, 8) ? NSSM_FRAME_MAX : n + below(&r, 2000);
		unsigned bits, bits2;
		int rc = nssm_pkt_repair(frame, cap, n, &len, &bits, fill, &r);
		by_reason[rc]++;
		if (rc != NSSM_PKT_OK)
			continue;
		ok++;
		seen |= bits;
		assert_true(len <= cap);
		check_valid(frame, len);
		/* What is valid stays as it is. */
		memcpy(again, frame, len);
		assert_int_equal(
		        nssm_pkt_repair(again, NSSM_FRAME_MAX, len, &len2, &bits2, NULL, NULL), NSSM_PKT_OK);
		assert_int_equal(len2, len);
		assert_int_equal(bits2, 0);
		assert_memory_equal(again, frame, len);
	}
	assert_true(ok > 20000);
	assert_int_equal(seen, (1u << NSSM_REPAIR_N_BITS) - 1);
	for (int k = 0; k < NSSM_PKT_N_REASONS; k++)
		if (k != NSSM_PKT_BAD_TOKEN && k != NSSM_PKT_ESCAPED && k != NSSM_PKT_STRAY_TOKEN && k != NSSM_PKT_FRAGMENT && k != NSSM_PKT_CUT &&
			k != NSSM_PKT_NO_SESSION)
			assert_true(by_reason[k] > 0);
	assert_int_equal(by_reason[NSSM_PKT_FRAGMENT] + by_reason[NSSM_PKT_CUT], 0);
}

static void changes_no_more_than_it_must(void **state)
{
	uint32_t len;
	unsigned bits;
	static const struct {
		uint32_t at;
		uint8_t value;
		unsigned bits; /* beside the checksums that follow from the change */
	} bent[] = {
	        {6, 3, NSSM_REPAIR_SRC_MAC},       /* source is a group */
	        {17, 39, NSSM_REPAIR_IP_LEN},      /* total length under the headers' */
	        {20, 0x60, NSSM_REPAIR_FRAGMENT},  /* more fragments */
	        {20, 0xc0, NSSM_REPAIR_TCP_FLAGS}, /* IPv4's reserved bit */
	        {46, 0xa4, NSSM_REPAIR_TCP_FLAGS}, /* TCP's */
	        {55, 0, NSSM_REPAIR_TCP_OPTIONS},  /* MSS of length 0 */
	        {55, 5, NSSM_REPAIR_TCP_OPTIONS},  /* MSS of length 5 */
	        {61, 40, NSSM_REPAIR_TCP_OPTIONS}, /* timestamps beyond the header */
	};
	const unsigned sums = NSSM_REPAIR_IP_CSUM | NSSM_REPAIR_L4_CSUM;
	for (size_t i = 0; i < sizeof bent / sizeof *bent; i++) {
		memcpy(frame, frame_syn, 74);
		frame[bent[i].at] = bent[i].value;
		assert_int_equal(
		        nssm_pkt_repair(frame, NSSM_FRAME_MAX, 74, &len, &bits, NULL, NULL), NSSM_PKT_OK);
		assert_int_equal(bits & ~sums, bent[i].bits);
		assert_int_equal(len, 74);
		check_valid(frame, len);
	}
	/* The option list from the bad one on is end-of-list, what stood before it stays. */
	memcpy(frame, frame_syn, 74);
	frame[61] = 40;
	assert_int_equal(nssm_pkt_repair(frame, NSSM_FRAME_MAX, 74, &len, &bits, NULL, NULL), NSSM_PKT_OK);
	assert_memory_equal(frame + 54, frame_syn + 54, 6);
	for (int i = 60; i < 74; i++)
		assert_int_equal(frame[i], 0);
	/* Nothing wrong, nothing done; Ethernet padding goes. */
	memcpy(frame, frame_vlan_udp, 64);
	assert_int_equal(nssm_pkt_repair(frame, NSSM_FRAME_MAX, 64, &len, &bits, NULL, NULL), NSSM_PKT_OK);
	assert_int_equal(bits, 0);
	assert_int_equal(len, 51);
	assert_memory_equal(frame, frame_vlan_udp, 51);
	/* UDP without a checksum stays without over IPv4, not over IPv6. */
	frame[44] = frame[45] = 0;
	assert_int_equal(nssm_pkt_repair(frame, NSSM_FRAME_MAX, 51, &len, &bits, NULL, NULL), NSSM_PKT_OK);
	assert_int_equal(bits, 0);
	memcpy(frame, frame_ip6_udp, 86);
	frame[68] = frame[69] = 0;
	assert_int_equal(nssm_pkt_repair(frame, NSSM_FRAME_MAX, 86, &len, &bits, NULL, NULL), NSSM_PKT_OK);
	assert_int_equal(bits, NSSM_REPAIR_L4_CSUM);
	assert_memory_equal(frame, frame_ip6_udp, 86);
}

static void says_why_it_cannot(void **state)
{
	static const struct {
		uint32_t at;
		uint8_t value;
		int reason;
	} bent[] = {
	        {13, 0x06, NSSM_PKT_NOT_IP},
	        {14, 0x65, NSSM_PKT_BAD_IP},
	        {14, 0x43, NSSM_PKT_BAD_IP},
	        {14, 0x4f, NSSM_PKT_SHORT},
	        {23, 1, NSSM_PKT_NOT_TCP_UDP},
	        {46, 0x40, NSSM_PKT_BAD_TRANSPORT},
	        {46, 0xf0, NSSM_PKT_SHORT},
	};
	uint32_t len;
	unsigned bits;
	for (size_t i = 0; i < sizeof bent / sizeof *bent; i++) {
		memcpy(frame, frame_syn, 74);
		frame[bent[i].at] = bent[i].value;
		assert_int_equal(
		        nssm_pkt_repair(frame, NSSM_FRAME_MAX, 74, &len, &bits, NULL, NULL), bent[i].reason);
	}
	for (uint32_t n = 0; n < 74; n++) {
		memcpy(frame, frame_syn, 74);
		assert_int_equal(
		        nssm_pkt_repair(frame, NSSM_FRAME_MAX, n, &len, &bits, NULL, NULL), NSSM_PKT_SHORT);
	}
}

static void put32(FILE *f, uint32_t v)
{
	fwrite(&v, 4, 1, f);
}

/* Classic pcap, this machine's byte order: what test_capture does not have to be trusted for. */
static int write_pcap(const char *path, uint32_t n_frames)
{
	FILE *f = fopen(path, "wb");
	if (f == NULL)
		return 1;
	const uint32_t head[6] = {0xa1b2c3d4, 2 | 4 << 16, 0, 0, 262144, 1};
	fwrite(head, sizeof head, 1, f);
	struct nssm_rng r;
	nssm_rng_init(&r, 43, 0, 0);
	for (uint32_t k = 0; k < n_frames;) {
		uint32_t n = plausible(&r, frame), len;
		unsigned bits;
		if (nssm_pkt_repair(frame, 4096, n, &len, &bits, below(&r, 2) ? fill : NULL, &r) !=
		        NSSM_PKT_OK)
			continue;
		put32(f, ++k);
		put32(f, 0);
		put32(f, len);
		put32(f, len);
		fwrite(frame, len, 1, f);
	}
	return fclose(f) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (argc == 3)
		return write_pcap(argv[1], (uint32_t)atoi(argv[2]));
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(random_frames_become_valid),
	        cmocka_unit_test(changes_no_more_than_it_must),
	        cmocka_unit_test(says_why_it_cannot),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
