/* What came back: scripts whose counts are known, through a NAT and without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "measure_frames.h"
#include "replay/measure.h"

#define MS      1000000ull
#define TIMEOUT (100 * MS)

static struct nssm_measure *open_with(uint32_t window, bool signature, uint32_t n_labels)
{
	const struct nssm_measure_cfg cfg = {
	        .n_labels = n_labels, .window_max = window, .timeout_ns = TIMEOUT, .signature = signature};
	struct nssm_measure *m;
	struct nssm_err err;
	assert_int_equal(nssm_measure_open(&m, &cfg, &err), 0);
	return m;
}

/* On the heap at its exact size: a sanitizer sees what goes beyond it. */
static void sent(
        struct nssm_measure *m, struct frame *f, uint32_t may_overwrite, uint32_t label, uint64_t now_ns)
{
	uint8_t *copy = malloc(f->len > 0 ? f->len : 1);
	assert_non_null(copy);
	memcpy(copy, f->data, f->len);
	nssm_measure_sent(m, copy, f->len, may_overwrite, label, now_ns);
	memcpy(f->data, copy, f->len);
	free(copy);
}

static bool received(struct nssm_measure *m, const struct frame *f, uint64_t now_ns)
{
	uint8_t *copy = malloc(f->len > 0 ? f->len : 1);
	assert_non_null(copy);
	memcpy(copy, f->data, f->len);
	bool matched = nssm_measure_received(m, copy, f->len, now_ns);
	free(copy);
	return matched;
}

struct counts {
	uint64_t matched, lost, duplicate, reordered, unmatched, waiting;
};

static void expect(const struct nssm_measure *m, struct counts want)
{
	const struct nssm_measure_counters *c = nssm_measure_all(m);
	assert_int_equal(c->matched, want.matched);
	assert_int_equal(c->lost, want.lost);
	assert_int_equal(c->duplicate, want.duplicate);
	assert_int_equal(c->reordered, want.reordered);
	assert_int_equal(c->unmatched, want.unmatched);
	assert_int_equal(nssm_measure_waiting(m), want.waiting);
	assert_int_equal(c->latency.count, want.matched);
	assert_int_equal(nssm_measure_extra(m)->remembered, want.matched + want.lost + want.waiting);
}

/* --- keys --- */

/* Of every kind: what comes back changed by a NAT is known, and the one with another payload, sequence or length is not. */
static void test_nat(void **state)
{
	(void)state;
	static const struct spec specs[] = {
	        {.ip = 4, .proto = TCP, .seq = 7, .ack = 9, .flags = ACK},
	        {.ip = 4, .proto = TCP, .seq = 0xffffffff, .ack = 0xfffffff0, .flags = ACK, .n_payload = 1},
	        {.ip = 4, .proto = TCP, .flags = SYN, .n_tcp_options = 20, .n_tags = 1},
	        {.ip = 4, .proto = TCP, .flags = ACK, .n_payload = 1400, .n_options = 8, .n_tags = 2},
	        {.ip = 6, .proto = TCP, .flags = ACK, .n_payload = 63},
	        {.ip = 6, .proto = TCP, .flags = ACK | FIN, .n_payload = 64, .n_options = 16},
	        {.ip = 4, .proto = UDP},
	        {.ip = 4, .proto = UDP, .n_payload = 65, .n_tags = 2},
	        {.ip = 6, .proto = UDP, .n_payload = 1200, .n_options = 8},
	        {.ip = 4, .proto = ICMP, .flags = 8, .seq = 3, .n_payload = 56},
	        {.ip = 4, .proto = ICMP, .flags = 0, .seq = 3, .n_payload = 56},
	        {.ip = 6, .proto = ICMP6, .flags = 128, .seq = 3, .n_payload = 56},
	        {.ip = 4, .proto = GRE, .n_payload = 100},
	        {.ip = 6, .proto = GRE, .n_payload = 3},
	        {.ip = 4, .proto = UDP, .frag = 0x2000, .n_payload = 96},
	};
	for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
		struct nssm_measure *m = open_with(16, false, 1);
		struct frame f = make(&specs[i]), back = nat(&f, true), before = f, other;
		sent(m, &f, 2048, 0, MS);
		assert_memory_equal(f.data, before.data, f.len);
		struct spec s = specs[i];
		if (s.n_payload > 0) {
			s.fill++;
			other = make(&s);
			assert_false(received(m, &other, 2 * MS));
			s.fill--;
		}
		s.n_payload++;
		other = make(&s);
		assert_false(received(m, &other, 2 * MS));
		s.n_payload--;
		s.seq++;
		other = make(&s);
		uint64_t unmatched = 1 + (s.n_payload > 0);
		if (s.proto != UDP && s.proto != GRE) {
			assert_false(received(m, &other, 2 * MS));
			unmatched++;
		}
		assert_true(received(m, &back, 3 * MS));
		assert_false(received(m, &back, 3 * MS));
		assert_false(received(m, &f, 3 * MS));
		expect(m, (struct counts){.matched = 1, .duplicate = 2, .unmatched = unmatched});
		assert_int_equal(nssm_measure_all(m)->latency.min_ns, 2 * MS);
		nssm_measure_close(&m);
	}
}

/* A later fragment has no ports; its offset is what tells it from others. */
static void test_fragments(void **state)
{
	(void)state;
	struct nssm_measure *m = open_with(16, true, 1);
	for (uint16_t k = 1; k <= 3; k++) {
		struct spec s = {.ip = 4, .proto = UDP, .frag = (uint16_t)(0x2000 + 12 * k), .n_payload = 88};
		struct frame f = make(&s), before = f;
		sent(m, &f, 88, 0, k);
		/* No signature: its checksum is another fragment's. */
		assert_memory_equal(f.data, before.data, f.len);
	}
	for (uint16_t k = 3; k >= 1; k--) {
		struct spec s = {.ip = 4, .proto = UDP, .frag = (uint16_t)(0x2000 + 12 * k), .n_payload = 88};
		struct frame f = make(&s);
		f.data[f.l3 + 15] = 77;
		assert_true(received(m, &f, 10 + k));
	}
	expect(m, (struct counts){.matched = 3, .reordered = 2});
	nssm_measure_close(&m);
}

/* An ICMP error quotes a packet that a NAT translates: type, code and length must do. */
static void test_icmp_error(void **state)
{
	(void)state;
	struct nssm_measure *m = open_with(16, false, 1);
	struct spec s = {.ip = 4, .proto = ICMP, .flags = 3, .n_payload = 28};
	struct frame f = make(&s);
	sent(m, &f, 0, 0, 1);
	f.data[f.l4 + 8 + 15] ^= 0x55;
	assert_true(received(m, &f, 2));
	expect(m, (struct counts){.matched = 1});
	nssm_measure_close(&m);
}

/* Neither remembered nor counted: what is not IP, Neighbor Discovery, and headers that are cut or wrong. */
static void test_no_key(void **state)
{
	(void)state;
	struct nssm_measure *m = open_with(16, true, 1);
	struct spec s = {.ip = 4, .proto = UDP, .n_payload = 40};
	struct frame f = make(&s);
	put16(f.data + 12, 0x0806);
	sent(m, &f, 40, 0, 1);
	assert_false(received(m, &f, 1));
	s = (struct spec){.ip = 6, .proto = ICMP6, .flags = 135, .n_payload = 16};
	f = make(&s);
	sent(m, &f, 0, 0, 1);
	assert_false(received(m, &f, 1));
	/* What stays on its link, and what is next to it. */
	static const struct {
		int ip;
		bool key;
		uint8_t src[2], dst[4];
	} scope[] = {
	        {4, false, {10, 0}, {255, 255, 255, 255}},
	        {4, true, {10, 0}, {255, 255, 255, 254}},
	        {4, false, {10, 0}, {224, 0, 0, 251}},
	        {4, true, {10, 0}, {224, 0, 1, 251}},
	        {4, true, {10, 0}, {239, 255, 255, 250}},
	        {4, false, {169, 254}, {10, 0, 0, 1}},
	        {4, false, {10, 0}, {169, 254, 1, 1}},
	        {4, true, {169, 253}, {169, 255, 1, 1}},
	        {6, false, {0x20, 1}, {0xff, 0x02}},
	        {6, false, {0x20, 1}, {0xff, 0x11}},
	        {6, true, {0x20, 1}, {0xff, 0x05}},
	        {6, false, {0xfe, 0x80}, {0x20, 1}},
	        {6, false, {0x20, 1}, {0xfe, 0xbf}},
	        {6, true, {0xfe, 0xc0}, {0xfe, 0x7f}},
	};
	uint64_t n = 0;
	for (size_t i = 0; i < sizeof scope / sizeof scope[0]; i++) {
		s = (struct spec){.ip = scope[i].ip, .proto = UDP, .n_payload = 40};
		f = make(&s);
		memcpy(f.data + (s.ip == 4 ? 26 : 22), scope[i].src, 2);
		memcpy(f.data + (s.ip == 4 ? 30 : 38), scope[i].dst, s.ip == 4 ? 4 : 2);
		sent(m, &f, 0, 0, 1);
		assert_int_equal(received(m, &f, 1), scope[i].key);
		n += scope[i].key;
	}
	static const struct {
		uint8_t off, value;
	} wrong[] = {{14, 0x44}, {14, 0x55}, {17, 19}, {14 + 20 + 12, 0x40}, {14 + 20 + 12, 0xf0}};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		s = (struct spec){.ip = 4, .proto = TCP, .flags = ACK};
		f = make(&s);
		f.data[wrong[i].off] = wrong[i].value;
		sent(m, &f, 0, 0, 1);
		assert_false(received(m, &f, 1));
	}
	expect(m, (struct counts){.matched = n});
	/* Cut at every byte: known from the end of the transport header on. */
	static const struct spec whole[] = {
	        {.ip = 4, .proto = TCP, .flags = ACK, .n_payload = 30, .n_tcp_options = 12},
	        {.ip = 6, .proto = UDP, .n_payload = 30, .n_options = 16, .n_tags = 1},
	        {.ip = 4, .proto = ICMP, .flags = 8, .n_payload = 30}};
	for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
		f = make(&whole[i]);
		uint32_t len = f.len;
		for (f.len = 0; f.len < len; f.len++) {
			struct frame before = f;
			sent(m, &f, f.len, 0, 1);
			assert_memory_equal(f.data, before.data, f.len);
			bool key = f.len >= f.l4 + f.hdr;
			n += key;
			assert_int_equal(received(m, &f, 1), key);
		}
	}
	expect(m, (struct counts){.matched = n});
	nssm_measure_close(&m);
}

/* --- the signature --- */

/* The checksum field as it should be, from scratch. */
static unsigned right_sum(const struct frame *f)
{
	return nssm_csum_l4(f->data + f->l3, f->ip, (uint8_t)f->proto, f->data + f->l4, f->ip_end - f->l4);
}

static uint8_t *sum_field(struct frame *f)
{
	return f->data + f->l4 + (f->proto == TCP ? 16 : 6);
}

/* Sums are equal mod 65535. */
static unsigned minus(unsigned a, unsigned b)
{
	return (a % 65535 + 65535 - b % 65535) % 65535;
}

static void test_signature(void **state)
{
	(void)state;
	for (uint32_t n_payload = 24; n_payload < 90; n_payload++) {
		for (int k = 0; k < 8; k++) {
			struct spec s = {.ip = k % 2 == 0 ? 4 : 6,
			        .proto = k % 4 < 2 ? TCP : UDP,
			        .flags = ACK,
			        .n_payload = n_payload,
			        .fill = (uint8_t)(k * 31),
			        .n_tcp_options = n_payload % 3 * 4,
			        .n_options = n_payload % 2 * 8};
			struct nssm_measure *m = open_with(16, true, 3);
			struct frame f = make(&s), before = f;
			/* One wrong checksum stays as wrong as it was. */
			unsigned off_by = k >= 4 ? 0x1234 : 0;
			put16(sum_field(&f), minus(get16(sum_field(&f)), off_by) == 0
			                             ? 0xffff
			                             : minus(get16(sum_field(&f)), off_by));
			sent(m, &f, 24, 2, 0x0102030405060708);
			const uint8_t want[24] = {'n', 'S', 'S', 'm', 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
			        2, 3, 4, 5, 6, 7, 8};
			assert_memory_equal(f.data + f.len - 24, want, 24);
			assert_int_equal(minus(right_sum(&f), get16(sum_field(&f))), off_by);
			if (off_by == 0)
				assert_int_equal(right_sum(&f), get16(sum_field(&f)));
			/* Nothing else changed. */
			put16(sum_field(&f), get16(sum_field(&before)));
			assert_memory_equal(f.data, before.data, f.len - 24);
			struct frame back = nat(&f, true);
			assert_true(received(m, &back, 0x0102030405060708 + 5));
			assert_int_equal(nssm_measure_label(m, 2)->matched, 1);
			assert_int_equal(nssm_measure_label(m, 2)->latency.max_ns, 5);
			assert_int_equal(nssm_measure_label(m, 0)->matched, 0);
			assert_int_equal(nssm_measure_extra(m)->marked, 1);
			nssm_measure_close(&m);
		}
	}
}

/* Where there is no room the frame stays as it is, and is matched by its headers. */
static void test_signature_no_room(void **state)
{
	(void)state;
	enum { PADDED = 1, CUT, UDP_SHORT, NO_IP_LEN };
	static const struct {
		int proto, what;
		uint32_t n_payload, may_overwrite;
		bool marked;
	} c[] = {
	        {TCP, 0, 24, 24, true},
	        {TCP, 0, 24, 23, false},
	        {TCP, 0, 23, 200, false},
	        {TCP, 0, 0, 200, false},
	        {UDP, 0, 100, 24, true},
	        {UDP, 0, 100, 0, false},
	        {UDP, 0, 23, 23, false},
	        {ICMP, 0, 100, 100, false},
	        {GRE, 0, 100, 100, false},
	        {UDP, PADDED, 100, 28, true},
	        {UDP, PADDED, 100, 27, false},
	        {UDP, CUT, 100, 100, false},
	        {TCP, CUT, 100, 100, false},
	        {UDP, UDP_SHORT, 100, 100, false},
	        {TCP, NO_IP_LEN, 100, 100, false},
	};
	for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
		struct nssm_measure *m = open_with(16, true, 1);
		struct spec s = {.ip = 4, .proto = c[i].proto, .flags = 8, .n_payload = c[i].n_payload};
		struct frame f = make(&s);
		if (c[i].what == PADDED)
			f.len += 4;
		if (c[i].what == CUT)
			f.len -= 1;
		if (c[i].what == UDP_SHORT)
			put16(f.data + f.l4 + 4, 100);
		if (c[i].what == NO_IP_LEN)
			put16(f.data + f.l3 + 2, 0);
		struct frame before = f;
		sent(m, &f, c[i].may_overwrite, 0, MS);
		assert_int_equal(memcmp(before.data, f.data, f.len) != 0, c[i].marked);
		assert_int_equal(nssm_measure_extra(m)->marked, c[i].marked);
		assert_true(received(m, &f, 2 * MS));
		assert_false(received(m, &f, 2 * MS));
		expect(m, (struct counts){.matched = 1, .duplicate = 1});
		nssm_measure_close(&m);
	}
}

static void test_signature_udp_none(void **state)
{
	(void)state;
	struct nssm_measure *m = open_with(16, true, 1);
	struct spec s = {.ip = 4, .proto = UDP, .n_payload = 50};
	struct frame f = make(&s);
	put16(sum_field(&f), 0);
	sent(m, &f, 50, 0, MS);
	assert_int_equal(nssm_measure_extra(m)->marked, 1);
	assert_int_equal(get16(sum_field(&f)), 0);
	assert_true(received(m, &f, 2 * MS));
	/* A checksum that comes out as 0 is written as 0xffff: look for one by the send time. */
	int seen = 0;
	for (uint64_t t = 0; t < 70000 && seen == 0; t++) {
		f = make(&s);
		sent(m, &f, 50, 0, t);
		assert_int_not_equal(get16(sum_field(&f)), 0);
		seen = get16(sum_field(&f)) == 0xffff;
	}
	assert_int_equal(seen, 1);
	assert_int_equal(right_sum(&f), 0xffff);
	nssm_measure_close(&m);
}

/* Payloads that look like signatures: of an earlier run, replayed as they were; made up by somebody. */
static void test_signature_foreign(void **state)
{
	(void)state;
	struct nssm_measure *a = open_with(16, true, 1), *b = open_with(16, true, 1);
	struct spec s = {.ip = 4, .proto = UDP, .n_payload = 50};
	struct frame f = make(&s), g;
	sent(a, &f, 50, 0, MS);
	g = f;
	sent(b, &g, 0, 0, 5 * MS);
	assert_memory_equal(f.data, g.data, f.len);
	assert_true(received(b, &g, 6 * MS));
	assert_false(received(b, &g, 6 * MS));
	nssm_measure_unsent(b, g.data, g.len);
	expect(b, (struct counts){.matched = 1, .duplicate = 1});
	sent(b, &g, 0, 0, 7 * MS);
	nssm_measure_unsent(b, g.data, g.len);
	expect(b, (struct counts){.matched = 1, .duplicate = 1});
	/* Ours, but for one field. */
	for (uint32_t i = 0; i < 24; i++) {
		g = f;
		g.data[g.len - 24 + i] ^= 1;
		assert_false(received(a, &g, 2 * MS));
	}
	assert_true(received(a, &f, 2 * MS));
	expect(a, (struct counts){.matched = 1, .unmatched = 24});
	nssm_measure_close(&a);
	nssm_measure_close(&b);
}

/* --- loss, duplicates, order --- */

static struct frame numbered(uint32_t i)
{
	struct spec s = {
	        .ip = 4, .proto = TCP, .flags = ACK, .seq = i * 1448, .n_payload = 100, .id = (uint16_t)i};
	return make(&s);
}

/* 100 frames; every tenth lost, every seventh of those that come twice, 21 behind 24: with and without signature. */
static void test_script(void **state)
{
	(void)state;
	for (int signature = 0; signature < 2; signature++) {
		struct nssm_measure *m = open_with(256, signature != 0, 2);
		struct frame f[100];
		for (uint32_t i = 0; i < 100; i++) {
			f[i] = numbered(i);
			sent(m, &f[i], 100, i % 2, i * MS / 10);
		}
		expect(m, (struct counts){.waiting = 100});
		static const uint32_t late[] = {22, 23, 24, 21};
		struct counts want = {0};
		for (uint32_t k = 0; k < 100; k++) {
			uint32_t i = k >= 21 && k <= 24 ? late[k - 21] : k;
			if (i % 10 == 0)
				continue;
			struct frame back = nat(&f[i], i % 3 == 0);
			assert_true(received(m, &back, i * MS / 10 + 2 * MS));
			want.matched++;
			if (want.matched % 7 == 0) {
				assert_false(received(m, &back, 20 * MS));
				want.duplicate++;
			}
		}
		/* 21 came behind 22, 23 and 24; label 1 has 21 and 23 of them. */
		want.reordered = 1;
		want.waiting = 10;
		assert_int_equal(want.matched, 90);
		assert_int_equal(want.duplicate, 12);
		expect(m, want);
		nssm_measure_expire(m, TIMEOUT - 1);
		expect(m, want);
		nssm_measure_expire(m, TIMEOUT);
		want.waiting--;
		want.lost++;
		expect(m, want);
		nssm_measure_expire(m, TIMEOUT + 90 * MS / 10 - 1);
		want.waiting = 1;
		want.lost = 9;
		expect(m, want);
		nssm_measure_expire(m, UINT64_MAX);
		want.waiting = 0;
		want.lost = 10;
		expect(m, want);
		const struct nssm_measure_counters *even = nssm_measure_label(m, 0),
		                                   *odd = nssm_measure_label(m, 1);
		assert_int_equal(even->lost, 10);
		assert_int_equal(even->matched, 40);
		assert_int_equal(odd->matched, 50);
		assert_int_equal(even->reordered + odd->reordered, 1);
		assert_int_equal(odd->reordered, 1);
		assert_int_equal(even->duplicate + odd->duplicate, 12);
		/* One that was lost comes after all, and again. */
		assert_true(received(m, &f[50], 300 * MS));
		assert_false(received(m, &f[50], 300 * MS));
		want.lost--;
		want.matched++;
		want.duplicate++;
		want.reordered++;
		expect(m, want);
		assert_int_equal(nssm_measure_extra(m)->late, 1);
		assert_int_equal(nssm_measure_all(m)->latency.max_ns, 295 * MS);
		assert_int_equal(even->lost, 9);
		nssm_measure_close(&m);
	}
}

/* A frame of one direction that overtakes one of the other is no reordering. Flows are told apart by 16 bits of a random
 * hash: once in 65,536 times two are one. So it is enough if one in three tries says so. */
static void test_order_by_flow(void **state)
{
	(void)state;
	bool apart = false;
	for (int try = 0; try < 3 && !apart; try++) {
		struct nssm_measure *m = open_with(16, false, 1);
		struct spec up = {.ip = 4, .proto = UDP, .n_payload = 5}, down = {.ip = 4,
		                                                                  .proto = UDP,
		                                                                  .n_payload = 6,
		                                                                  .src = 2,
		                                                                  .dst = 1,
		                                                                  .sport = 443,
		                                                                  .dport = 40000};
		struct frame a = make(&up), b = make(&down);
		sent(m, &a, 0, 0, 1);
		sent(m, &b, 0, 0, 2);
		assert_true(received(m, &b, 3));
		assert_true(received(m, &a, 4));
		apart = nssm_measure_all(m)->reordered == 0;
		nssm_measure_close(&m);
	}
	assert_true(apart);
}

/* Frames that are the same to the byte but for the IPv4 ID: counts are right whatever comes back; with the ID so are times. */
static void test_same(void **state)
{
	(void)state;
	for (int new_id = 0; new_id < 2; new_id++) {
		struct nssm_measure *m = open_with(64, false, 1);
		struct frame f[6];
		for (uint16_t i = 0; i < 6; i++) {
			struct spec s = {.ip = 4,
			        .proto = TCP,
			        .flags = ACK,
			        .seq = 5,
			        .ack = 6,
			        .id = (uint16_t)(900 + i)};
			f[i] = make(&s);
			sent(m, &f[i], 0, 0, i * MS);
		}
		/* 0 and 3 are lost, 4 comes twice. */
		static const int comes[] = {1, 2, 4, 4, 5};
		for (size_t k = 0; k < 5; k++) {
			struct frame back = nat(&f[comes[k]], new_id != 0);
			assert_true(received(m, &back, (uint64_t)comes[k] * MS + 7));
		}
		/* The second 4 was taken for one of those that wait: nothing tells them apart. */
		expect(m, (struct counts){.matched = 5, .waiting = 1, .reordered = new_id != 0 ? 0 : 1});
		if (new_id == 0)
			assert_int_equal(nssm_measure_all(m)->latency.min_ns, 7);
		nssm_measure_expire(m, UINT64_MAX);
		struct frame back = nat(&f[5], true);
		assert_true(received(m, &back, 9 * MS));
		assert_false(received(m, &back, 9 * MS));
		assert_int_equal(nssm_measure_all(m)->lost, 0);
		assert_int_equal(nssm_measure_all(m)->duplicate, 1);
		assert_int_equal(nssm_measure_extra(m)->late, 1);
		nssm_measure_close(&m);
	}
}

/* Late ones of a key: each takes one back, no more than were lost. */
static void test_late(void **state)
{
	(void)state;
	struct nssm_measure *m = open_with(64, false, 1);
	struct spec s = {.ip = 6, .proto = UDP, .n_payload = 9};
	struct frame f = make(&s);
	for (int i = 0; i < 5; i++)
		sent(m, &f, 0, 0, (uint64_t)i);
	assert_true(received(m, &f, 50));
	nssm_measure_expire(m, TIMEOUT + 2);
	expect(m, (struct counts){.matched = 1, .lost = 2, .waiting = 2});
	sent(m, &f, 0, 0, TIMEOUT + 3);
	/* Those that wait come first, then the lost ones, then there are duplicates. */
	for (int i = 0; i < 3; i++)
		assert_true(received(m, &f, TIMEOUT + 4));
	expect(m, (struct counts){.matched = 4, .lost = 2});
	sent(m, &f, 0, 0, TIMEOUT + 5);
	nssm_measure_expire(m, UINT64_MAX);
	expect(m, (struct counts){.matched = 4, .lost = 3});
	for (int i = 0; i < 3; i++)
		assert_true(received(m, &f, TIMEOUT + 6));
	assert_false(received(m, &f, TIMEOUT + 7));
	/* Least late first: the two others are behind their time. */
	expect(m, (struct counts){.matched = 7, .duplicate = 1, .reordered = 2});
	assert_int_equal(nssm_measure_extra(m)->late, 3);
	nssm_measure_close(&m);
}

static void test_overflow(void **state)
{
	(void)state;
	struct nssm_measure *m = open_with(5, false, 1);
	struct frame f[12];
	for (uint32_t i = 0; i < 12; i++)
		f[i] = numbered(i);
	for (uint32_t i = 0; i < 7; i++)
		sent(m, &f[i], 0, 0, i);
	expect(m, (struct counts){.lost = 2, .waiting = 5});
	assert_int_equal(nssm_measure_extra(m)->overflow, 2);
	/* What has been pushed out is not known any more. */
	assert_false(received(m, &f[0], 10));
	assert_true(received(m, &f[2], 10));
	assert_true(received(m, &f[4], 10));
	expect(m, (struct counts){.matched = 2, .lost = 2, .unmatched = 1, .waiting = 3});
	/* 2 leaves without loss, 3 is pushed out after its time: lost, but not for want of room. */
	sent(m, &f[7], 0, 0, TIMEOUT);
	expect(m, (struct counts){.matched = 2, .lost = 2, .unmatched = 1, .waiting = 4});
	sent(m, &f[8], 0, 0, TIMEOUT + 3);
	expect(m, (struct counts){.matched = 2, .lost = 3, .unmatched = 1, .waiting = 4});
	assert_int_equal(nssm_measure_extra(m)->overflow, 2);
	assert_false(received(m, &f[2], TIMEOUT + 4));
	assert_false(received(m, &f[4], TIMEOUT + 4));
	expect(m, (struct counts){.matched = 2, .lost = 3, .unmatched = 2, .duplicate = 1, .waiting = 4});
	nssm_measure_close(&m);

	/* The same frame over and over. */
	m = open_with(5, false, 1);
	for (uint32_t i = 0; i < 12; i++)
		sent(m, &f[0], 0, 0, i);
	expect(m, (struct counts){.lost = 7, .waiting = 5});
	for (uint32_t i = 0; i < 5; i++)
		assert_true(received(m, &f[0], 20));
	assert_false(received(m, &f[0], 20));
	expect(m, (struct counts){.matched = 5, .lost = 7, .duplicate = 1});
	assert_int_equal(nssm_measure_all(m)->latency.max_ns, 13);
	nssm_measure_close(&m);
}

static void test_unsent(void **state)
{
	(void)state;
	for (int signature = 0; signature < 2; signature++) {
		struct nssm_measure *m = open_with(64, signature != 0, 1);
		struct frame same[4], f[4];
		for (uint32_t i = 0; i < 4; i++) {
			f[i] = numbered(i);
			same[i] = numbered(1000);
			sent(m, &f[i], 100, 0, i);
			sent(m, &same[i], 100, 0, i);
		}
		for (uint32_t i = 2; i < 4; i++) {
			nssm_measure_unsent(m, f[i].data, f[i].len);
			nssm_measure_unsent(m, same[i].data, same[i].len);
		}
		expect(m, (struct counts){.waiting = 4});
		assert_int_equal(nssm_measure_extra(m)->marked, signature != 0 ? 4 : 0);
		for (uint32_t i = 0; i < 2; i++) {
			assert_true(received(m, &f[i], 10));
			assert_true(received(m, &same[i], 10));
		}
		expect(m, (struct counts){.matched = 4, .reordered = 0});
		assert_int_equal(nssm_measure_all(m)->latency.min_ns, 9);
		assert_int_equal(nssm_measure_all(m)->latency.max_ns, 10);
		/* What is not remembered cannot be taken back. */
		struct frame other = numbered(77);
		nssm_measure_unsent(m, other.data, other.len);
		nssm_measure_unsent(m, f[0].data, f[0].len);
		nssm_measure_unsent(m, f[0].data, 5);
		nssm_measure_expire(m, UINT64_MAX);
		expect(m, (struct counts){.matched = 4});
		nssm_measure_close(&m);
	}
}

static void test_open(void **state)
{
	(void)state;
	struct nssm_measure *m;
	struct nssm_err err;
	struct nssm_measure_cfg cfg = {.n_labels = NSSM_MEASURE_LABELS_MAX + 1};
	assert_int_equal(nssm_measure_open(&m, &cfg, &err), NSSM_ERANGE);
	assert_null(m);
	cfg = (struct nssm_measure_cfg){.window_max = NSSM_MEASURE_WINDOW_MAX + 1};
	assert_int_equal(nssm_measure_open(&m, &cfg, &err), NSSM_ERANGE);
	assert_int_equal(err.code, NSSM_ERANGE);
	/* The defaults; a timeout without end. */
	for (int i = 0; i < 2; i++) {
		cfg = (struct nssm_measure_cfg){.timeout_ns = i == 0 ? 0 : UINT64_MAX};
		assert_int_equal(nssm_measure_open(&m, &cfg, &err), 0);
		struct frame f = numbered(1);
		sent(m, &f, 0, 0, 5);
		nssm_measure_expire(m, 2000000004);
		expect(m, (struct counts){.waiting = 1});
		nssm_measure_expire(m, 2000000005);
		expect(m, i == 0 ? (struct counts){.lost = 1} : (struct counts){.waiting = 1});
		nssm_measure_expire(m, UINT64_MAX);
		expect(m, (struct counts){.lost = 1});
		/* A clock that is behind gives 0. */
		sent(m, &f, 0, 0, 100);
		assert_true(received(m, &f, 99));
		assert_int_equal(nssm_measure_all(m)->latency.max_ns, 0);
		nssm_measure_close(&m);
		assert_null(m);
		nssm_measure_close(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_open),
	        cmocka_unit_test(test_nat),
	        cmocka_unit_test(test_fragments),
	        cmocka_unit_test(test_icmp_error),
	        cmocka_unit_test(test_no_key),
	        cmocka_unit_test(test_signature),
	        cmocka_unit_test(test_signature_no_room),
	        cmocka_unit_test(test_signature_udp_none),
	        cmocka_unit_test(test_signature_foreign),
	        cmocka_unit_test(test_script),
	        cmocka_unit_test(test_order_by_flow),
	        cmocka_unit_test(test_same),
	        cmocka_unit_test(test_late),
	        cmocka_unit_test(test_overflow),
	        cmocka_unit_test(test_unsent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
