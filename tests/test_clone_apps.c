/* What lies inside: DNS ids, TLS hellos, echoes, quoted packets, ARP, Neighbor Discovery, fragments. Each said the same by whoever
 * says it, and every checksum right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "clone_util.h"

static struct rig R;
static struct nssm_cloner *C;
static struct nssm_play_id ID;

static int setup(void **state)
{
	(void)state;
	struct nssm_clone_cfg cfg = plain_cfg();
	C = open_cloner(&cfg);
	ID = (struct nssm_play_id){.key = nssm_clone_key(5, 6, 7), .slot = 1500};
	return rig_open(&R, 4 << 20, 1000);
}

static int teardown(void **state)
{
	(void)state;
	nssm_cloner_close(&C);
	rig_close(&R);
	return 0;
}

static const uint8_t *A(int v, uint32_t n)
{
	static uint8_t a[16][16];
	static int i;
	i = (i + 1) % 16;
	u_addr(a[i], v, n);
	return a[i];
}

/* The clone of a frame, which the oracle has looked at; good until the eighth from now. */
static const uint8_t *cloned(const struct frame *f)
{
	static uint8_t out[8][4096];
	static int i;
	i = (i + 1) % 8;
	assert_int_equal(rig_add(&R, f), 1);
	struct clone k = clone_one(C, R.tape, R.tape->last, &ID);
	assert_true(k.len <= sizeof out[i]);
	memcpy(out[i], k.buf, k.len);
	free(k.buf);
	bool part = R.tape->last->patches != NULL && R.tape->last->kind == NSSM_REC_TCP &&
	            R.tape->last->app == NSSM_APP_NONE;
	assert_true(oracle_frame(f->d, f->len, out[i], k.len, 0, false, part));
	return out[i];
}

/* --- DNS --- */

static uint32_t dns(int v, bool answers, uint16_t port, uint16_t client_port, uint16_t id)
{
	uint8_t q[20] = {
	        (uint8_t)(id >> 8), (uint8_t)id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 'e', 'u', 0, 0, 1, 0, 1};
	struct frame f;
	if (answers)
		frame_udp(&f, v, A(v, 2), port, A(v, 1), client_port, q, 20);
	else
		frame_udp(&f, v, A(v, 1), client_port, A(v, 2), port, q, 20);
	return u_get16(cloned(&f) + f.l4 + 8);
}

static void test_dns(void **state)
{
	(void)state;
	for (int v = 4; v <= 6; v += 2) {
		uint32_t asked = dns(v, false, 53, 4000, 0x1234), other = dns(v, false, 53, 4001, 0x1234);
		assert_int_not_equal(asked, 0x1234);
		assert_int_equal(dns(v, true, 53, 4000, 0x1234), asked);
		assert_int_equal(dns(v, true, 53, 4001, 0x1234), other);
		assert_int_not_equal(asked, other);
		assert_int_equal(dns(v, false, 53, 4000, 0), 0);
		/* A permutation. */
		static uint8_t seen[65536];
		memset(seen, 0, sizeof seen);
		for (uint32_t id = 1; id < 65536; id += v == 4 ? 1 : 251) {
			uint32_t is = dns(v, false, 53, 4000, (uint16_t)id);
			assert_true(is != 0 && seen[is]++ == 0);
			if (id % 4096 == 1)
				nssm_tape_trim(R.builder, R.tape, R.tape->last);
		}
		assert_int_equal(
		        dns(v, false, 5353, 4000, 0x1234), 0x1234); /* mDNS answers on another flow */
		assert_int_equal(dns(v, false, 5355, 4000, 0x1234), 0x1234);
	}
}

/* --- TLS --- */

#define HELLO                                                                                                \
	5 + 4 + 2 + 32 + 1 + 32 +                                                                            \
	        10 /* record header, handshake header, version, random, session id, some more */

static void make_hello(uint8_t h[HELLO], int kind, uint8_t random, uint8_t sid)
{
	memset(h, 0x77, HELLO);
	memcpy(h, (uint8_t[]){22, 3, 1, 0, HELLO - 5, (uint8_t)kind, 0, 0, HELLO - 9, 3, 3}, 11);
	memset(h + 11, random, 32);
	h[43] = 32;
	memset(h + 44, sid, 32);
}

static const uint8_t *segment(int from, uint16_t port, uint32_t seq, const void *data, uint32_t n)
{
	struct frame f;
	if (from == 0)
		frame_tcp(&f, 4, A(4, 1), port, A(4, 2), 443, U_ACK | U_PSH, seq, 1, data, n);
	else
		frame_tcp(&f, 4, A(4, 2), 443, A(4, 1), port, U_ACK | U_PSH, seq, 1, data, n);
	return cloned(&f) + f.l4 + 20;
}

static void test_tls(void **state)
{
	(void)state;
	uint8_t h[HELLO], at_6[6 + HELLO] = {20, 3, 3, 0, 1, 1};
	make_hello(h, 1, 0x11, 0x22);
	const uint8_t *client = segment(0, 4000, 100, h, HELLO);
	assert_memory_equal(client, h, 11);
	assert_memory_not_equal(client + 11, h + 11, 32);
	assert_int_equal(client[43], 32);
	assert_memory_not_equal(client + 44, h + 44, 32);
	assert_memory_equal(client + 76, h + 76, HELLO - 76);
	assert_int_equal(R.tape->last->app, NSSM_APP_TLS_CLIENT_HELLO);

	/* The server echoes the session id, behind a ChangeCipherSpec, so that everything lies at odd places. */
	make_hello(h, 2, 0x11, 0x22);
	h[5 + 4] = 3;
	memcpy(at_6 + 6, h, HELLO);
	const uint8_t *server = segment(1, 4000, 900, at_6, sizeof at_6);
	assert_memory_equal(server + 6 + 44, client + 44, 32);
	assert_memory_not_equal(server + 6 + 11, client + 11, 32);
	assert_int_equal(R.tape->last->app, NSSM_APP_TLS_SERVER_HELLO);
	assert_int_equal(R.tape->last->app_off, 54 + 6);

	/* Another flow resumes it: the id is what it became on the first, the random is not. */
	make_hello(h, 1, 0x11, 0x22);
	const uint8_t *again = segment(0, 4001, 1, h, HELLO);
	assert_memory_equal(again + 44, client + 44, 32);
	assert_memory_not_equal(again + 11, client + 11, 32);

	/* HelloRetryRequest is known by its random; the second ClientHello repeats the first one's. */
	static const uint8_t retry[32] = {0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
	        0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e,
	        0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};
	make_hello(h, 2, 0, 0x22);
	memcpy(h + 11, retry, 32);
	const uint8_t *asks = segment(1, 4001, 1, h, HELLO);
	assert_memory_equal(asks + 11, retry, 32);
	assert_memory_equal(asks + 44, client + 44, 32);
	make_hello(h, 1, 0x11, 0x22);
	assert_memory_equal(segment(0, 4001, 1 + HELLO, h, HELLO) + 11, again + 11, 65);

	/* What a server says of a downgrade stays (RFC 8446, section 4.1.3). */
	make_hello(h, 2, 0x33, 0x22);
	memcpy(h + 11 + 24, "DOWNGRD\1", 8);
	const uint8_t *down = segment(1, 4001, 1 + HELLO, h, HELLO);
	assert_memory_equal(down + 11 + 24, "DOWNGRD\1", 8);
	assert_memory_not_equal(down + 11, h + 11, 24);
}

/* A hello sent again in pieces, wherever they are cut, gives the same bytes. */
static void test_tls_pieces(void **state)
{
	(void)state;
	uint8_t h[HELLO];
	make_hello(h, 1, 0x11, 0x22);
	uint8_t whole[HELLO];
	memcpy(whole, segment(0, 4000, 0xffffffe0, h, HELLO), HELLO); /* across the wrap */
	for (uint32_t cut = 1; cut < HELLO; cut++) {
		assert_memory_equal(segment(0, 4000, 0xffffffe0, h, cut), whole, cut);
		assert_memory_equal(
		        segment(0, 4000, 0xffffffe0 + cut, h + cut, HELLO - cut), whole + cut, HELLO - cut);
		nssm_tape_trim(R.builder, R.tape, R.tape->last);
	}
	/* Cut from the first time on, once the record's head is whole. */
	for (uint32_t cut = 11; cut < HELLO; cut++) {
		uint8_t got[HELLO];
		uint16_t port = (uint16_t)(6000 + cut);
		memcpy(got, segment(0, port, 7, h, cut), cut);
		memcpy(got + cut, segment(0, port, 7 + cut, h + cut, HELLO - cut), HELLO - cut);
		if (memcmp(got + 44, whole + 44, HELLO - 44) != 0)
			fail_msg("cut at %u", cut);
		assert_memory_equal(segment(0, port, 7, h, HELLO), got, HELLO);
	}
	/* What comes later is left alone, also what looks like a hello inside of other data. */
	uint8_t data[HELLO + 1] = {'x'};
	memcpy(data + 1, h, HELLO);
	assert_memory_equal(segment(0, 4000, 5000, data, sizeof data), data, sizeof data);
	uint8_t finished[20] = {22, 3, 3, 0, 15, 20};
	assert_memory_equal(segment(0, 4000, 9000, finished, 20), finished, 20);
}

/* --- ICMP --- */

static void test_echo(void **state)
{
	(void)state;
	for (int v = 4; v <= 6; v += 2) {
		uint8_t body[12] = {0x12, 0x34, 0, 7, 'p', 'i', 'n', 'g', 1, 2, 3, 4};
		struct frame ask, answer;
		frame_icmp(&ask, v, A(v, 1), A(v, 2), v == 4 ? 8 : 128, 0, body, 12);
		frame_icmp(&answer, v, A(v, 2), A(v, 1), v == 4 ? 0 : 129, 0, body, 12);
		const uint8_t *a = cloned(&ask), *b = cloned(&answer);
		assert_in_range(u_get16(a + ask.l4 + 4), 10000, 59999);
		assert_memory_equal(a + ask.l4 + 4, b + ask.l4 + 4, 12);
		assert_memory_equal(a + ask.l4 + 6, body + 2, 10);
		uint32_t n = v == 4 ? 4 : 16;
		const uint8_t *from = a + ask.l4 - 2 * n, *back = b + ask.l4 - 2 * n;
		assert_memory_equal(from, back + n, n);
		assert_memory_equal(from + n, back, n);
	}
}

/* An error quotes a packet of the session: what it quotes is what the packet became. */
static void quotes(int v, const struct frame *inner, const uint8_t *inner_clone, uint32_t n)
{
	uint8_t body[4 + 1500] = {0};
	struct frame f;
	memcpy(body + 4, inner->d + inner->l3, n);
	frame_icmp(&f, v, A(v, 9), A(v, 1), v == 4 ? 11 : 3, 0, body, 4 + n);
	const uint8_t *got = cloned(&f) + f.l4 + 8;
	if (memcmp(got, inner_clone + inner->l3, n) != 0)
		for (uint32_t i = 0; i < n; i++)
			if (got[i] != inner_clone[inner->l3 + i])
				fail_msg("IPv%d protocol %u, %u bytes quoted: byte %u is %02x, not %02x", v,
				        inner->proto, n, i, got[i], inner_clone[inner->l3 + i]);
}

static void test_quoted(void **state)
{
	(void)state;
	static const uint8_t opt[24] = {
	        1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 5, 10, 0, 0, 1, 0, 0, 0, 2, 0};
	for (int v = 4; v <= 6; v += 2) {
		uint32_t ip = v == 4 ? 20 : 40;
		struct frame f;
		frame_tcp_opt(&f, v, A(v, 1), 40000, A(v, 2), 80, U_ACK, 1000, 2000, opt, 24, "request", 7);
		uint8_t clone[256];
		memcpy(clone, cloned(&f), f.len);
		for (uint32_t n = ip; n <= f.len - f.l3; n++) {
			/* Half a number is not rewritten; the acknowledgement moves once the flags are there; and a
			 * checksum without the options that it covers cannot know that they have moved. */
			uint32_t l4 = n - ip;
			bool whole = l4 == 0 || l4 == 4 || l4 == 8 || l4 == 14 || l4 >= 44;
			if (whole)
				quotes(v, &f, clone, n);
		}
		frame_udp(&f, v, A(v, 1), 40000, A(v, 2), 53, "\x12\x34\1\0\0\1\0\0\0\0\0\0", 12);
		memcpy(clone, cloned(&f), f.len);
		for (uint32_t l4 = 0; l4 <= 20; l4 += l4 < 8 ? 4 : 2)
			if (l4 != 8) /* the checksum without the id that it covers */
				quotes(v, &f, clone, ip + l4);
		frame_icmp(&f, v, A(v, 1), A(v, 2), v == 4 ? 8 : 128, 0, "\x55\x66\0\1ping", 8);
		memcpy(clone, cloned(&f), f.len);
		quotes(v, &f, clone, ip);
		quotes(v, &f, clone, ip + 8);
		quotes(v, &f, clone, ip + 12);
	}
}

/* A redirect names a router; whom nobody has heard of is no reason to give an address away. */
static void test_redirect(void **state)
{
	(void)state;
	struct frame inner, f;
	frame_udp(&inner, 4, A(4, 1), 40000, A(4, 77), 9999, "x", 1);
	uint8_t body[4 + 28];
	memcpy(body, A(4, 33), 4);
	memcpy(body + 4, inner.d + inner.l3, 28);
	frame_icmp(&f, 4, A(4, 9), A(4, 1), 5, 1, body, sizeof body);
	const uint8_t *b = cloned(&f);
	for (uint32_t at = f.l3; at + 4 <= f.len; at++)
		assert_int_not_equal(b[at], 10); /* none of 10.0.0.x is left */
	/* Its words agree with what comes later. */
	uint8_t router[4], far[4];
	memcpy(router, b + f.l4 + 4, 4);
	memcpy(far, b + f.l4 + 8 + 16, 4);
	frame_udp(&f, 4, A(4, 1), 40000, A(4, 33), 53, "x", 1);
	assert_memory_equal(cloned(&f) + 30, router, 4);
	frame_udp(&f, 4, A(4, 1), 40000, A(4, 77), 9999, "x", 1);
	assert_memory_equal(cloned(&f) + 30, far, 4);
}

/* --- ARP and Neighbor Discovery --- */

static void test_arp(void **state)
{
	(void)state;
	struct frame f = {.len = 42};
	memcpy(f.d,
	        "\xff\xff\xff\xff\xff\xff\x00\xaa\xbb\xcc\xdd\xee\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01",
	        22);
	memcpy(f.d + 22, f.d + 6, 6);
	memcpy(f.d + 28, A(4, 5), 4);
	memcpy(f.d + 38, A(4, 2), 4);
	const uint8_t *ask = cloned(&f);
	assert_memory_equal(ask, f.d, 6);
	assert_memory_equal(ask + 6, ask + 22, 6);
	assert_memory_equal(ask + 32, "\0\0\0\0\0\0", 6);
	memcpy(f.d, "\x00\xaa\xbb\xcc\xdd\xee\x00\x11\x22\x33\x44\x55", 12);
	f.d[21] = 2;
	memcpy(f.d + 22, f.d + 6, 6);
	memcpy(f.d + 28, A(4, 2), 4);
	memcpy(f.d + 32, f.d, 6);
	memcpy(f.d + 38, A(4, 5), 4);
	const uint8_t *answer = cloned(&f);
	assert_memory_equal(answer, ask + 6, 6);
	assert_memory_equal(answer + 28, ask + 38, 4);
	assert_memory_equal(answer + 38, ask + 28, 4);
	assert_memory_equal(answer + 32, answer, 6);
	assert_memory_equal(answer + 22, answer + 6, 6);
	/* As IP has them. */
	frame_tcp(&f, 4, A(4, 5), 40000, A(4, 2), 80, U_SYN, 1, 0, "", 0);
	const uint8_t *syn = cloned(&f);
	assert_memory_equal(syn + 26, ask + 28, 4);
	assert_memory_equal(syn + 30, ask + 38, 4);
	assert_memory_equal(syn, answer + 22, 6);
	assert_memory_equal(syn + 6, ask + 22, 6);
}

static void test_neighbours(void **state)
{
	(void)state;
	static const uint8_t group[16] = {0xff, 2, [11] = 1, 0xff, 0, 0, 2};
	uint8_t body[4 + 16 + 8] = {0};
	struct frame f;
	memcpy(body + 4, A(6, 2), 16);
	memcpy(body + 20, "\x01\x01\x00\xaa\xbb\xcc\xdd\xee", 8);
	frame_icmp(&f, 6, A(6, 1), group, 135, 0, body, sizeof body);
	memcpy(f.d, "\x33\x33\xff\0\0\2", 6);
	const uint8_t *ask = cloned(&f);
	assert_memory_equal(ask + 38, group, 16);
	assert_memory_equal(ask + f.l4 + 8 + 16 + 2, ask + 6, 6); /* the sender's own MAC */
	memcpy(body, "\x60\0\0\0", 4);
	memcpy(body + 20, "\x02\x01\x00\x11\x22\x33\x44\x55", 8);
	frame_icmp(&f, 6, A(6, 2), A(6, 1), 136, 0, body, sizeof body);
	memcpy(f.d, "\x00\xaa\xbb\xcc\xdd\xee\x00\x11\x22\x33\x44\x55", 12);
	const uint8_t *answer = cloned(&f);
	assert_memory_equal(answer + f.l4 + 8, ask + f.l4 + 8, 16); /* the same target */
	assert_memory_equal(answer + f.l4 + 8, answer + 22, 16);    /* who answers */
	assert_memory_equal(answer + f.l4 + 8 + 16 + 2, answer + 6, 6);
}

/* --- fragments --- */

static void test_fragments(void **state)
{
	(void)state;
	/* A datagram in three pieces: put together again, its checksum is right. */
	struct frame whole;
	uint8_t data[60];
	for (int i = 0; i < 60; i++)
		data[i] = (uint8_t)(7 * i + 1);
	frame_udp(&whole, 4, A(4, 1), 4000, A(4, 2), 53, data, 60);
	uint8_t back[68];
	uint32_t id = 0;
	for (uint32_t i = 0; i < 3; i++) {
		struct frame f;
		uint32_t at = 24 * i, n = i < 2 ? 24 : 20;
		frame_begin(&f, 4, A(4, 1), A(4, 2), 0);
		frame_add(&f, whole.d + whole.l4 + at, n);
		frame_end(&f, 0);
		f.d[f.l3 + 9] = U_UDP;
		u_put16(f.d + f.l3 + 4, 0x4321);
		u_put16(f.d + f.l3 + 6, at / 8 | (i < 2 ? 0x2000 : 0));
		u_put16(f.d + f.l3 + 10, 0);
		u_put16(f.d + f.l3 + 10, 65535 - u_sum(0, f.d + f.l3, 20));
		const uint8_t *b = cloned(&f);
		assert_int_equal(u_sum(0, b + f.l3, 20), 0);
		assert_memory_equal(b + f.l3 + 12, ((uint8_t[]){198, 18}), 2);
		if (i > 0)
			assert_int_equal(u_get16(b + f.l3 + 4), id);
		id = u_get16(b + f.l3 + 4);
		memcpy(back + at, b + f.l4, n);
		memcpy(whole.d + 26, b + 26, 8);
		assert_true(R.tape->last->flow == R.tape->flows && R.tape->n_flows == 1);
	}
	assert_int_not_equal(id, 0x4321);
	assert_int_equal(u_sum(u_sum(U_UDP + 68, whole.d + 26, 8), back, 68), 0);
}

/* --- what is left as it is --- */

static void test_opaque(void **state)
{
	(void)state;
	struct frame f;
	static const char ftp[] = "227 Entering Passive Mode (10,0,0,2,200,13)\r\n";
	frame_tcp(&f, 4, A(4, 2), 21, A(4, 1), 40000, U_ACK, 1, 1, ftp, sizeof ftp - 1);
	const uint8_t *b = cloned(&f);
	assert_memory_equal(b + 54, ftp, sizeof ftp - 1);
	assert_memory_equal(b + 26, ((uint8_t[]){198, 19}), 2);
	assert_int_equal(R.tape->last->flow->opaque, NSSM_OPAQUE_FTP);
	uint8_t quic[30] = {0xc3, 0, 0, 0, 1, 8, 1};
	frame_udp(&f, 4, A(4, 1), 40001, A(4, 2), 443, quic, 30);
	b = cloned(&f);
	assert_memory_equal(b + 42, quic, 30);
	assert_memory_equal(b + 26, ((uint8_t[]){198, 18}), 2);
	/* Those without ports have their addresses mapped and nothing else. */
	frame_begin(&f, 4, A(4, 1), A(4, 2), 0);
	frame_add(&f, "\0\0\x08\0some tunnel", 15);
	frame_end(&f, 47);
	b = cloned(&f);
	assert_memory_equal(b + 34, f.d + 34, 15);
	assert_memory_equal(b + 26, ((uint8_t[]){198, 18}), 2);
}

/* An address in a routing header is the one that the checksum counts (RFC 8200, section 8.1). */
static void test_routed(void **state)
{
	(void)state;
	struct frame f;
	frame_begin(&f, 6, A(6, 1), A(6, 2), 0);
	uint8_t route[24] = {17, 2, 0, 1};
	memcpy(route + 8, A(6, 3), 16);
	f.d[f.l3 + 6] = 43;
	frame_add(&f, route, 24);
	f.l4 = f.len;
	frame_add(&f, "\x10\x00\x00\x50\0\0\0\0question....", 20);
	frame_end(&f, U_UDP);
	/* Right by the last address. */
	uint8_t pseudo[32];
	memcpy(pseudo, f.d + f.l3 + 8, 16);
	memcpy(pseudo + 16, route + 8, 16);
	u_put16(f.d + f.l4 + 6, 0);
	u_put16(f.d + f.l4 + 6, 65535 - u_sum(u_sum(U_UDP + 20, pseudo, 32), f.d + f.l4, 20));
	const uint8_t *b = cloned(&f);
	memcpy(pseudo, b + f.l3 + 8, 16);
	assert_int_equal(u_sum(u_sum(U_UDP + 20, pseudo, 32), b + f.l4, 20), 0);
	assert_memory_equal(b + f.l3 + 8, "\x20\x01\x0d\xb8\0\1", 6);
	assert_memory_equal(b + f.l3 + 24, "\x20\x01\x0d\xb8\0\2", 6);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	        T(test_dns),
	        T(test_tls),
	        T(test_tls_pieces),
	        T(test_echo),
	        T(test_quoted),
	        T(test_redirect),
	        T(test_arp),
	        T(test_neighbours),
	        T(test_fragments),
	        T(test_opaque),
	        T(test_routed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
