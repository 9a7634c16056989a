/* TLS streams whose bytes are not known: whatever segments come in whatever order, what they hold is one sequence of records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "model/packet_impl.h"
#include "model/secure_ports.h"
#include "model/tls_records.h"

#define STREAM_MAX 400000u
#define FIRST      0xfffff000u /* sequence numbers wrap early */

static struct nssm_tls_stream stream;
static uint8_t wire[STREAM_MAX], seen[STREAM_MAX]; /* what was sent; which of it */
static uint32_t n_wire;

static void begin(bool client, bool fresh)
{
	memset(seen, 0, sizeof seen);
	n_wire = 0;
	memset(&stream, 0xee, sizeof stream);
	memset(stream.sid, 0x51, sizeof stream.sid);
	nssm_tls_begin(&stream, FIRST, client, fresh);
}

/* Bytes at..at+len of the stream go out; what went out before must be the same. */
static void send(uint32_t at, uint32_t len, bool push, bool longest)
{
	static uint8_t payload[70000];
	struct nssm_rng r;
	nssm_rng_init(&r, 1, 2, NSSM_RNG_PAYLOAD);
	nssm_rng_bytes_at(&r, at, payload, len);
	payload[len] = 0xa5;
	const struct nssm_tls_segment s = {.seq = FIRST + at, .len = len, .push = push, .longest = longest};
	nssm_tls_segment(&stream, payload, &s);
	assert_int_equal(payload[len], 0xa5);
	for (uint32_t i = 0; i < len; i++) {
		if (seen[at + i])
			assert_int_equal(wire[at + i], payload[i]);
		wire[at + i] = payload[i];
		seen[at + i] = 1;
	}
	n_wire = at + len > n_wire ? at + len : n_wire;
}

struct found {
	uint32_t n, rest; /* records; bytes of the last one that are still to come */
	uint8_t type[4];  /* of the first */
	uint32_t len[4], longest;
};

static struct found read_records(void)
{
	struct found f = {0};
	uint32_t at = 0;
	for (; at + 5 <= n_wire; at += 5 + get16(wire + at + 3)) {
		assert_true(nssm_tls_header(wire + at));
		assert_in_range(5 + get16(wire + at + 3), 6, NSSM_TLS_RECORD_MAX);
		if (f.n < 4) {
			f.type[f.n] = wire[at];
			f.len[f.n] = 5 + get16(wire + at + 3);
		}
		f.longest = 5 + get16(wire + at + 3) > f.longest ? 5 + get16(wire + at + 3) : f.longest;
		f.n++;
	}
	f.rest = at - n_wire;
	return f;
}

static void a_handshake_looks_like_one(void **state)
{
	begin(true, true);
	send(0, 517, true, true);
	send(517, 64, true, false);
	send(581, 100, true, false);
	struct found f = read_records();
	assert_int_equal(f.n, 4);
	assert_memory_equal(f.type, ((uint8_t[]){22, 20, 23, 23}), 4);
	assert_memory_equal(f.len, ((uint32_t[]){517, 6, 58, 100}), sizeof f.len);
	assert_memory_equal(wire, ((uint8_t[]){22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}), 11);

	begin(false, true);
	send(0, 1448, false, true);
	send(1448, 700, true, false);
	f = read_records();
	assert_memory_equal(f.type, ((uint8_t[]){22, 20, 23, 23}), 4);
	assert_memory_equal(f.len, ((uint32_t[]){127, 6, 1315, 700}), sizeof f.len);
	assert_int_equal(wire[5], 2);
	for (int i = 0; i < 32; i++)
		assert_int_equal(wire[44 + i], 0x51);

	begin(true, false); /* seen from the middle on */
	send(0, 517, true, true);
	f = read_records();
	assert_int_equal(f.type[0], 23);
}

/* Of each length that has room for it, a hello whose own lengths add up. */
static void check_hello(bool client, uint32_t len)
{
	uint32_t at = 5, end = len;
	assert_int_equal(wire[at], client ? 1 : 2);
	assert_int_equal(wire[at + 1], 0);
	assert_int_equal(get16(wire + at + 2), len - 9);
	at += 4 + 2 + 32;
	assert_in_range(wire[at], 0, 32);
	at += 1u + wire[at];
	if (client) {
		at += 2 + get16(wire + at);
		assert_int_equal(wire[at], 1);
	} else {
		at += 2;
	}
	at += client ? 2 : 1;
	assert_true(at <= end);
	if (at == end)
		return;
	assert_int_equal(get16(wire + at), end - at - 2);
	for (at += 2; at < end; at += 4 + get16(wire + at + 2))
		assert_true(at + 4 <= end);
	assert_int_equal(at, end);
}

static void hellos_have_any_length(void **state)
{
	for (uint32_t len = 6; len < 2000; len++) {
		begin(true, true);
		send(0, len, true, true);
		assert_int_equal(wire[0], len < 50 ? 23 : 22);
		if (len >= 50)
			check_hello(true, len);
		assert_int_equal(read_records().rest, 0);
		begin(false, true);
		send(0, len, true, true);
		assert_int_equal(wire[0], len < 47 ? 23 : 22);
		if (len >= 47)
			check_hello(false, len < 139 ? len : 127);
		assert_int_equal(read_records().rest, 0);
	}
	begin(true, true);
	send(0, 65000, true, true);
	assert_int_equal(get16(wire + 3), 16384);
	check_hello(true, 16389);
}

/* Flights of full segments that end with PSH in a shorter one: records end where they do. */
static void records_end_with_flights(void **state)
{
	uint32_t at = 0, n_open = 0;
	begin(false, true);
	for (uint32_t flight = 0; flight < 60; flight++) {
		for (uint32_t i = 0; i < flight % 4; i++, at += 1448)
			send(at, 1448, false, true);
		send(at, 100 + flight, true, false);
		at += 100 + flight;
		n_open += read_records().rest > 0;
	}
	assert_int_equal(n_open, 0);
	/* A flight without end has records of several segments. */
	begin(false, true);
	for (at = 0; at < 200 * 1448; at += 1448)
		send(at, 1448, false, true);
	assert_in_range(read_records().longest, 8 * 1448, NSSM_TLS_RECORD_MAX);
	assert_in_range(read_records().n, 30, 100);
}

/* Segments of any length, out of order, sent again in other pieces, holes filled late. */
static void any_order_is_one_stream(void **state)
{
	struct nssm_rng r;
	nssm_rng_init(&r, 77, 0, NSSM_RNG_SAMPLE);
	for (int round = 0; round < 400; round++) {
		begin(round & 1, round & 2);
		uint32_t at = 0, mss = 1 + nssm_rng_below(&r, round % 5 == 0 ? 20 : 3000), held = 0, held_len = 0;
		while (at < 60000) {
			uint32_t len = nssm_rng_below(&r, 3) ? mss : 1 + nssm_rng_below(&r, mss), what = nssm_rng_below(&r, 10);
			if (what == 0 && held_len == 0) { /* lost, or late */
				held = at;
				held_len = len;
			} else if (what == 1 && at > 0 && held_len == 0) { /* again, in pieces of its own */
				uint32_t back = nssm_rng_below(&r, at < 3 * mss ? at : 3 * mss) + 1;
				send(at - back, 1 + nssm_rng_below(&r, back), false, false);
				continue;
			} else {
				send(at, len, nssm_rng_below(&r, 4) == 0, len == mss);
			}
			if (held_len > 0 && held + held_len <= at && nssm_rng_below(&r, 3) == 0) {
				uint32_t half = nssm_rng_below(&r, held_len + 1);
				if (half > 0)
					send(held, half, false, false);
				if (half < held_len)
					send(held + half, held_len - half, true, false);
				held_len = 0;
			}
			at += len;
		}
		if (held_len > 0 && held < n_wire)
			send(held, held_len, true, false);
		for (uint32_t i = 0; i < n_wire; i++)
			assert_true(seen[i]);
		read_records();
	}
}

/* Known bytes are followed where they hold a header; where they hold none the rest is left alone. */
static void what_is_known_is_followed(void **state)
{
	uint8_t payload[1000] = {23, 3, 3, 3, 0xe8 - 5}, again[1000];
	const struct nssm_tls_segment s = {.seq = FIRST, .len = 600, .n_known = 20, .push = true, .longest = true},
	                              next = {.seq = FIRST + 600, .len = 500, .n_known = 10, .push = true};
	begin(true, true);
	nssm_tls_segment(&stream, payload, &s);
	assert_int_equal(stream.next, FIRST + 1000);
	for (int i = 5; i < 600; i++)
		assert_int_equal(payload[i], 0);
	memset(payload, 0x77, sizeof payload);
	nssm_tls_segment(&stream, payload, &next);
	assert_int_equal(payload[399], 0x77);
	assert_memory_equal(payload + 400, ((uint8_t[]){23, 3, 3, 0, 95}), 5);
	begin(true, true);
	memset(payload, 0x77, sizeof payload);
	memcpy(again, payload, sizeof again);
	nssm_tls_segment(&stream, payload, &s);
	nssm_tls_segment(&stream, payload, &next);
	assert_memory_equal(payload, again, sizeof again);
	/* Behind a hole that nothing can be known of. */
	begin(true, true);
	const struct nssm_tls_segment far = {.seq = FIRST + (1u << 30), .len = 600, .push = true};
	nssm_tls_segment(&stream, payload, &far);
	assert_memory_equal(payload, ((uint8_t[]){23, 3, 3, 2, 0x53}), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_handshake_looks_like_one),
	        cmocka_unit_test(hellos_have_any_length),
	        cmocka_unit_test(records_end_with_flights),
	        cmocka_unit_test(any_order_is_one_stream),
	        cmocka_unit_test(what_is_known_is_followed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
