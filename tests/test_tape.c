/* Tapes: what is stored comes back byte for byte; flows, roles and sockets are those of conversations made up here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/philox.h"
#include "replay/clone.h"
#include "tape_util.h"

#define ROOM (4u << 20)

static struct rig R;

static int setup(void **state)
{
	(void)state;
	return rig_open(&R, ROOM, 1000);
}

static int teardown(void **state)
{
	(void)state;
	/* Whatever was made, every chunk comes back. */
	nssm_tape_builder_close(&R.builder);
	uint64_t left = nssm_arena_stats(R.arena)->chunks_used;
	nssm_arena_close(&R.arena);
	return left == 0 ? 0 : -1;
}

static const uint8_t *A(uint32_t n)
{
	static uint8_t a[16][16];
	static int i;
	i = (i + 1) % 16;
	u_addr(a[i], 4, n);
	return a[i];
}

static const struct nssm_rec *add(const struct frame *f)
{
	assert_int_equal(rig_add(&R, f), 1);
	return R.tape->last;
}

static const struct nssm_rec *tcp(uint32_t from, uint16_t sport, uint32_t to, uint16_t dport, uint8_t flags)
{
	struct frame f;
	frame_tcp(&f, 4, A(from), sport, A(to), dport, flags, 1, 1, "", 0);
	return add(&f);
}

static const struct nssm_rec *udp(uint32_t from, uint16_t sport, uint32_t to, uint16_t dport)
{
	struct frame f;
	frame_udp(&f, 4, A(from), sport, A(to), dport, "0123456789abcdef", 16);
	return add(&f);
}

static bool is_end(const struct nssm_flow *f, int i, uint32_t addr, uint16_t port)
{
	return memcmp(f->end[i]->addr, A(addr), 16) == 0 && f->port[i] == port;
}

/* --- bytes --- */

static void test_bytes(void **state)
{
	(void)state;
	static const uint32_t lens[] = {0, 1, 13, 14, 60, 64, 511, 512, 513, 1514, 4095, 4096, 4097, 9014,
	        16000, 16255, 16256, 16257, 16384, 40000, 65535, 262144};
	enum { N = 200 };
	static uint8_t *kept[N], *out;
	static uint32_t len[N], zeros[N];
	struct nssm_rng rng;
	nssm_rng_init(&rng, 1, 2, 3);
	out = malloc(262144 + 1);
	assert_non_null(out);
	for (int i = 0; i < N; i++) {
		len[i] = lens[nssm_rng_below(&rng, sizeof lens / sizeof lens[0])];
		if (i % 3 != 0 && len[i] > 2000)
			len[i] = nssm_rng_below(&rng, 2000);
		zeros[i] = i % 4 == 0 ? nssm_rng_below(&rng, len[i] + 1) : 0;
		kept[i] = malloc(len[i] + 1);
		assert_non_null(kept[i]);
		nssm_rng_bytes(&rng, kept[i], len[i]);
		memset(kept[i] + len[i] - zeros[i], 0, zeros[i]);
		int rc =
		        nssm_tape_append(R.builder, R.tape, (uint64_t)i, kept[i], len[i], len[i] + 7, &R.err);
		if (rc == 0) {
			/* The arena is full: nothing has changed; what comes is as if it had not been. */
			assert_true(nssm_arena_left(R.arena) < 20);
			free(kept[i]);
			i--;
			break;
		}
		assert_int_equal(rc, 1);
		assert_int_equal(R.tape->n_packets, i + 1);
	}
	int n = 0;
	for (const struct nssm_rec *rec = R.tape->first; rec != NULL; rec = nssm_rec_next(rec), n++) {
		assert_int_equal(rec->len, len[n]);
		assert_int_equal(rec->wirelen, len[n] + 7);
		assert_int_equal(rec->t_ns, n);
		assert_true(rec->stored <= len[n] - zeros[n] &&
		            (rec->stored == 0 || kept[n][rec->stored - 1] != 0));
		out[rec->len] = 0x5a;
		nssm_rec_copy(out, rec);
		assert_memory_equal(out, kept[n], len[n]);
		assert_int_equal(out[rec->len], 0x5a);
		uint32_t head = rec->stored < NSSM_REC_HEAD ? rec->stored : NSSM_REC_HEAD;
		assert_memory_equal(nssm_rec_head(rec), kept[n], head);
	}
	assert_int_equal(n, R.tape->n_packets);
	assert_true(n >= 100);
	for (int i = 0; i < n; i++)
		free(kept[i]);
	free(out);
	uint8_t big[1] = {0};
	assert_int_equal(nssm_tape_append(R.builder, R.tape, 0, big, 262145, 0, &R.err), NSSM_ERANGE);
}

static void test_full_and_trim(void **state)
{
	(void)state;
	uint8_t frame[1514];
	memset(frame, 0x55, sizeof frame);
	frame[12] = 0x88;
	const struct nssm_rec *played = NULL;
	uint64_t n = 0, full = 0;
	/* One that plays as it comes, through 10 times the arena. */
	while (n * 1600 < 10ull * ROOM) {
		frame[20] = (uint8_t)n;
		int rc = nssm_tape_append(R.builder, R.tape, n, frame, 1514, 1514, &R.err);
		if (rc == 1) {
			n++;
			continue;
		}
		assert_int_equal(rc, 0);
		full++;
		assert_int_equal(nssm_arena_left(R.arena), 0);
		const struct nssm_rec *rec = played == NULL ? R.tape->first : nssm_rec_next(played);
		for (; rec != NULL; rec = nssm_rec_next(rec)) {
			assert_int_equal(nssm_rec_head(rec)[20], (uint8_t)rec->t_ns);
			assert_int_equal(rec->t_ns, played != NULL ? played->t_ns + 1 : 0);
			played = rec;
		}
		assert_ptr_equal(played, R.tape->last);
		nssm_tape_trim(R.builder, R.tape, played);
		assert_ptr_equal(R.tape->first, played);
		assert_true(nssm_arena_stats(R.arena)->chunks_used <= 2);
	}
	assert_true(full >= 9);
	assert_int_equal(R.tape->n_packets, n);
	nssm_tape_trim(R.builder, R.tape, NULL);
	assert_null(R.tape->first);
	assert_int_equal(nssm_arena_stats(R.arena)->chunks_used, 1); /* flows and endpoints stay */
	/* It may go on. */
	assert_int_equal(nssm_tape_append(R.builder, R.tape, 1, frame, 1514, 1514, &R.err), 1);
	assert_int_equal(R.tape->first->t_ns, n - 1); /* time does not go back */
	nssm_tape_free(R.builder, &R.tape);
	assert_null(R.tape);
	assert_int_equal(nssm_arena_stats(R.arena)->chunks_used, 0);
}

/* Growing while it is played, and when its arena is full at any point. */
static void test_growing(void **state)
{
	(void)state;
	const struct nssm_rec *first = tcp(1, 40000, 2, 80, U_SYN);
	assert_null(nssm_rec_next(first));
	const struct nssm_rec *second = tcp(2, 80, 1, 40000, U_SYN | U_ACK);
	assert_ptr_equal(nssm_rec_next(first), second);
	assert_null(nssm_rec_next(second));
	nssm_tape_finish(R.builder, R.tape);
	assert_true(R.tape->finished);
	assert_null(nssm_rec_next(second));
}

static void test_many_tapes(void **state)
{
	(void)state;
	struct nssm_tape *t[64];
	t[0] = R.tape;
	for (int i = 1; i < 64; i++) {
		t[i] = nssm_tape_begin(R.builder, (uint64_t)i, 3, 1000);
		assert_non_null(t[i]);
		assert_int_equal(t[i]->session, i);
		assert_int_equal(t[i]->start_ns, 1000);
	}
	assert_null(nssm_tape_begin(R.builder, 99, 0, 0));
	/* The same addresses everywhere: each tape has its own. */
	struct frame f;
	frame_tcp(&f, 4, A(1), 40000, A(2), 80, U_SYN, 1, 0, "", 0);
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 64; i++)
			assert_int_equal(nssm_tape_append(R.builder, t[i], 0, f.d, f.len, f.len, &R.err), 1);
	for (int i = 0; i < 64; i++) {
		assert_int_equal(t[i]->n_flows, 1);
		assert_int_equal(t[i]->n_endpoints, 2);
		assert_int_equal(t[i]->flows->n_packets[0], 3);
		if (i % 2)
			nssm_tape_finish(R.builder, t[i]);
	}
	for (int i = 0; i < 64; i += 3)
		nssm_tape_free(R.builder, &t[i]);
	assert_non_null(R.tape = nssm_tape_begin(R.builder, 7, 0, 0));
	assert_int_equal(R.tape->n_packets, 0);
}

/* --- flows --- */

static void test_tcp_flow(void **state)
{
	(void)state;
	const struct nssm_rec *syn = tcp(1, 40000, 2, 80, U_SYN),
	                      *answer = tcp(2, 80, 1, 40000, U_SYN | U_ACK);
	const struct nssm_flow *f = syn->flow;
	assert_true(f != NULL && answer->flow == f);
	assert_int_equal(syn->dir, 0);
	assert_int_equal(answer->dir, 1);
	assert_true(is_end(f, 0, 1, 40000) && is_end(f, 1, 2, 80));
	assert_int_equal(f->proto, U_TCP);
	assert_int_equal(f->tcp_seen, 3);
	assert_int_equal(f->end[0]->role, NSSM_ROLE_CLIENT);
	assert_int_equal(f->end[1]->role, NSSM_ROLE_SERVER);
	static const uint8_t mac[6] = {0x00, 0xaa, 0xbb, 0xcc, 0xdd, 0xee};
	assert_memory_equal(f->end[0]->mac, mac, 6);
	assert_int_equal(syn->kind, NSSM_REC_TCP);
	assert_int_equal(syn->l3_off, 14);
	assert_int_equal(syn->l4_off, 34);
	assert_int_equal(syn->payload_off, 54);
	assert_int_equal(f->n_packets[0], 1);
	assert_int_equal(f->n_packets[1], 1);
	assert_int_equal(f->n_bytes[0], 54);

	/* Closed from both sides, the same ports again: another flow of the same socket. */
	tcp(1, 40000, 2, 80, U_FIN | U_ACK);
	assert_int_equal(f->tcp_seen, 7);
	assert_ptr_equal(tcp(1, 40000, 2, 80, U_SYN)->flow, f); /* one side only: the same */
	tcp(2, 80, 1, 40000, U_FIN | U_ACK);
	assert_int_equal(f->tcp_seen, 15);
	assert_ptr_equal(tcp(1, 40000, 2, 80, U_ACK)->flow, f);
	struct frame next;
	frame_tcp(&next, 4, A(1), 40000, A(2), 80, U_SYN, 7, 0, "", 0);
	const struct nssm_rec *again = add(&next);
	assert_ptr_not_equal(again->flow, f);
	assert_ptr_equal(again->flow, f->next);
	assert_int_equal(again->flow->idx, 1);
	assert_int_equal(again->flow->socket[0], f->socket[0]);
	assert_ptr_equal(again->flow->end[0], f->end[0]);
	assert_ptr_equal(tcp(2, 80, 1, 40000, U_RST)->flow, again->flow);
	assert_ptr_equal(add(&next)->flow, again->flow); /* tried again */
	assert_int_equal(R.tape->n_flows, 2);
	/* One that was there before the capture. */
	const struct nssm_rec *old = tcp(7, 7000, 8, 8000, U_ACK);
	const struct nssm_rec *anew = tcp(8, 8000, 7, 7000, U_SYN);
	assert_ptr_not_equal(anew->flow, old->flow);
	assert_true(is_end(anew->flow, 0, 8, 8000) && anew->dir == 0);
	assert_ptr_equal(tcp(8, 8000, 7, 7000, U_SYN)->flow, anew->flow);
	assert_int_equal(R.tape->n_flows, 4);
	/* After a reset, and opened from the other side. */
	const struct nssm_rec *back = tcp(2, 80, 1, 40000, U_SYN);
	assert_int_equal(back->dir, 0);
	assert_true(is_end(back->flow, 0, 2, 80) && is_end(back->flow, 1, 1, 40000));
	assert_int_equal(R.tape->n_flows, 5);
	assert_int_equal(R.tape->n_endpoints, 4);
}

static void test_initiator(void **state)
{
	(void)state;
	/* Begun in the middle: the SYN with ACK tells, then the ports, then who was first. */
	assert_true(is_end(tcp(1, 443, 2, 444, U_SYN | U_ACK)->flow, 0, 2, 444));
	assert_true(is_end(tcp(3, 443, 4, 50000, U_ACK)->flow, 0, 4, 50000));
	assert_true(is_end(tcp(5, 50000, 6, 443, U_ACK)->flow, 0, 5, 50000));
	assert_true(is_end(tcp(7, 50000, 8, 50001, U_ACK)->flow, 0, 7, 50000));
	assert_true(is_end(tcp(9, 53, 10, 443, U_ACK)->flow, 0, 9, 53));
	assert_true(is_end(udp(11, 53, 12, 5000)->flow, 0, 12, 5000));
	assert_true(is_end(udp(13, 67, 14, 68)->flow, 0, 14, 68)); /* DHCP: the router is no client */
	assert_int_equal(udp(14, 5000, 13, 53)->flow->port_rule[1], NSSM_PORT_KEPT);
	const struct nssm_rec *r = udp(11, 53, 12, 5000);
	assert_int_equal(r->dir, 1);
	assert_int_equal(r->kind, NSSM_REC_UDP);
	/* Once decided, it stays. */
	assert_true(is_end(tcp(7, 50000, 8, 50001, U_SYN | U_ACK)->flow, 0, 7, 50000));
}

static void test_roles_and_sockets(void **state)
{
	(void)state;
	struct nssm_flow *a = tcp(1, 1000, 2, 80, U_SYN)->flow, *b = tcp(1, 1001, 2, 80, U_SYN)->flow,
	                 *c = udp(1, 1001, 3, 53)->flow, *d = tcp(1, 1000, 3, 80, U_SYN)->flow,
	                 *e = tcp(2, 5000, 4, 25, U_SYN)->flow, *g = tcp(4, 6000, 1, 22, U_SYN)->flow,
	                 *h = tcp(5, 7000, 1, 8080, U_SYN)->flow;
	assert_int_equal(a->socket[0], 0);
	assert_int_equal(b->socket[0], 1);
	assert_int_equal(c->socket[0], 2); /* a protocol's own */
	assert_int_equal(d->socket[0], 0);
	assert_int_equal(a->end[0]->n_sockets, 5); /* 22 and 8080 too, which others connect to */
	assert_int_equal(R.tape->max_sockets, 5);
	for (uint16_t port = 5001; port < 5006; port++)
		tcp(2, port, 4, 25, U_SYN);
	assert_int_equal(R.tape->max_sockets, 6); /* a server that opens flows has its block, too */
	assert_int_equal(e->end[0]->role, NSSM_ROLE_SERVER); /* by its first flow */
	assert_int_equal(e->end[1]->role, NSSM_ROLE_SERVER);
	assert_int_equal(e->port_rule[0], NSSM_PORT_SERVER);
	assert_int_equal(g->port_rule[0], NSSM_PORT_KEPT);
	assert_int_equal(g->port_rule[1], NSSM_PORT_CLIENT); /* the only client's */
	assert_int_equal(h->port_rule[0], NSSM_PORT_CLIENT);
	assert_int_equal(h->port_rule[1], NSSM_PORT_IN_RANGE);
	assert_int_equal(a->end[1]->idx, 0);
	assert_int_equal(c->end[1]->idx, 1);
	assert_int_equal(e->end[1]->idx, 2);
	assert_int_equal(h->end[0]->idx, 1);
	assert_int_equal(R.tape->n_clients[0], 2);
	assert_int_equal(R.tape->n_servers[0], 3);
	assert_int_equal(R.tape->n_endpoints, 5);
}

static void test_fixed(void **state)
{
	(void)state;
	static const uint8_t fixed4[][4] = {{224, 0, 0, 251}, {239, 255, 255, 250}, {255, 255, 255, 255},
	        {0, 0, 0, 0}, {127, 0, 0, 1}},
	                     fixed6[][16] = {{0xff, 2, [15] = 1}, {[15] = 1}, {0}};
	struct frame f;
	for (size_t i = 0; i < 5; i++) {
		frame_udp(&f, 4, A(1), 2000, fixed4[i], 1900, "x", 1);
		const struct nssm_flow *flow = add(&f)->flow;
		assert_int_equal(flow->end[0]->role, NSSM_ROLE_CLIENT);
		assert_int_equal(flow->end[1]->role, NSSM_ROLE_FIXED);
	}
	uint8_t src[16];
	u_addr(src, 6, 5);
	for (size_t i = 0; i < 3; i++) {
		frame_udp(&f, 6, src, 2000, fixed6[i], 1900, "x", 1);
		assert_int_equal(add(&f)->flow->end[1]->role, NSSM_ROLE_FIXED);
	}
	/* A subnet's broadcast address, told by the MAC; without it, an address like any other. */
	frame_udp(&f, 4, A(1), 137, A(255), 137, "x", 1);
	memset(f.d, 0xff, 6);
	assert_int_equal(add(&f)->flow->end[1]->role, NSSM_ROLE_FIXED);
	frame_udp(&f, 4, A(1), 137, A(511), 137, "x", 1);
	assert_int_equal(add(&f)->flow->end[1]->role, NSSM_ROLE_SERVER);
	assert_int_equal(R.tape->n_clients[0], 1);
	assert_int_equal(R.tape->n_clients[1], 1);
	assert_int_equal(R.tape->n_fixed, 9);
}

static void test_icmp(void **state)
{
	(void)state;
	struct frame f;
	uint8_t echo[8] = {0x12, 0x34, 0, 1, 'p', 'i', 'n', 'g'};
	frame_icmp(&f, 4, A(1), A(2), 8, 0, echo, 8);
	struct nssm_flow *a = add(&f)->flow;
	frame_icmp(&f, 4, A(2), A(1), 0, 0, echo, 8);
	const struct nssm_rec *answer = add(&f);
	assert_ptr_equal(answer->flow, a);
	assert_int_equal(answer->dir, 1);
	assert_true(is_end(a, 0, 1, 0x1234) && is_end(a, 1, 2, 0x1234));
	assert_int_equal(a->icmp_type, 8);
	echo[1] = 0x35;
	frame_icmp(&f, 4, A(2), A(1), 0, 0, echo, 8); /* an answer without its question */
	struct nssm_flow *b = add(&f)->flow;
	assert_ptr_not_equal(b, a);
	assert_true(is_end(b, 0, 1, 0x1235));
	assert_int_equal(b->icmp_type, 0);
	frame_icmp(&f, 4, A(2), A(1), 3, 1, echo, 8);
	struct nssm_flow *c = add(&f)->flow;
	assert_true(is_end(c, 0, 2, 0) && is_end(c, 1, 1, 0));
	assert_int_equal(c->icmp_code, 1);
	assert_int_equal(add(&f)->kind, NSSM_REC_ICMP);

	/* Whom a server pings is no server for that. */
	frame_icmp(&f, 4, A(4), A(3), 8, 0, echo, 8);
	struct nssm_endpoint *const *pinged = add(&f)->flow->end;
	assert_int_equal(pinged[1]->role, NSSM_ROLE_SERVER);
	const struct nssm_flow *d = udp(3, 1000, 4, 53)->flow;
	assert_int_equal(d->end[0]->role, NSSM_ROLE_CLIENT);
	assert_int_equal(d->end[1]->role, NSSM_ROLE_SERVER);
}

static void test_fragments(void **state)
{
	(void)state;
	/* Two datagrams at once, their later fragments crosswise; and one whose first never came. */
	const struct nssm_flow *flow[2];
	struct frame f;
	for (uint32_t i = 0; i < 2; i++) {
		frame_udp(&f, 4, A(1), (uint16_t)(1000 + i), A(2), 53, "first fragment..", 16);
		u_put16(f.d + 18, 77 + i);
		u_put16(f.d + 20, 0x2000);
		const struct nssm_rec *r = add(&f);
		assert_int_equal(r->kind, NSSM_REC_UDP);
		flow[i] = r->flow;
	}
	for (uint32_t i = 3; i-- > 0;) {
		frame_udp(&f, 4, A(1), 9, A(2), 9, "later fragment..", 16);
		u_put16(f.d + 18, 77 + i);
		u_put16(f.d + 20, 3);
		const struct nssm_rec *r = add(&f);
		assert_int_equal(r->kind, NSSM_REC_FRAGMENT);
		if (i < 2)
			assert_ptr_equal(r->flow, flow[i]);
		else
			assert_true(is_end(r->flow, 0, 1, 0) && is_end(r->flow, 1, 2, 0));
	}
	assert_int_equal(R.tape->n_flows, 3);
}

static void test_opaque(void **state)
{
	(void)state;
	assert_int_equal(tcp(1, 1000, 2, 21, U_SYN)->flow->opaque, NSSM_OPAQUE_FTP);
	assert_int_equal(tcp(1, 1000, 2, 554, U_SYN)->flow->opaque, NSSM_OPAQUE_RTSP);
	assert_int_equal(udp(1, 1000, 2, 5060)->flow->opaque, NSSM_OPAQUE_SIP);
	assert_int_equal(udp(1, 1000, 2, 443)->flow->opaque, NSSM_OPAQUE_NONE);
	static const struct {
		uint8_t head[7];
		int opaque;
	} quic[] = {
	        {{0xc3, 0, 0, 0, 1, 8, 1}, NSSM_OPAQUE_QUIC},
	        {{0xd3, 0x6b, 0x33, 0x43, 0xcf, 8, 1}, NSSM_OPAQUE_QUIC},
	        {{0xc3, 0xff, 0, 0, 29, 8, 1}, NSSM_OPAQUE_QUIC},
	        {{0xd3, 0, 0, 0, 1, 8, 1}, NSSM_OPAQUE_NONE}, /* 0-RTT */
	        {{0x43, 0, 0, 0, 1, 8, 1}, NSSM_OPAQUE_NONE}, /* short header */
	        {{0xc3, 1, 2, 3, 4, 8, 1}, NSSM_OPAQUE_NONE}, /* no version there is */
	};
	for (size_t i = 0; i < sizeof quic / sizeof quic[0]; i++) {
		struct frame f;
		frame_udp(&f, 4, A(1), (uint16_t)(3000 + i), A(2), 443, quic[i].head, 7);
		assert_int_equal(add(&f)->flow->opaque, quic[i].opaque);
	}
	for (int i = 0; i < NSSM_OPAQUE_N; i++)
		assert_true(strlen(nssm_opaque_name(i)) > 0);
}

static void test_arp(void **state)
{
	(void)state;
	uint8_t arp[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1,
	        2, 0, 0, 0, 0, 9};
	memcpy(arp + 28, A(9), 4);
	memcpy(arp + 38, A(1), 4);
	assert_int_equal(nssm_tape_append(R.builder, R.tape, 0, arp, 42, 42, &R.err), 1);
	assert_int_equal(R.tape->last->kind, NSSM_REC_ARP);
	assert_int_equal(R.tape->last->dir, 0);
	assert_null(R.tape->last->flow);
	assert_int_equal(R.tape->n_clients[0], 1);
	assert_int_equal(R.tape->n_servers[0], 1);
	/* A router asking for a host: the other way round. The guess about 9 stands, since it asked. */
	memcpy(arp + 28, A(1), 4);
	memcpy(arp + 38, A(7), 4);
	assert_int_equal(nssm_tape_append(R.builder, R.tape, 0, arp, 42, 42, &R.err), 1);
	assert_int_equal(R.tape->last->dir, 1);
	assert_int_equal(R.tape->n_clients[0], 2);
	/* What flows show is believed, not the guess. */
	const struct nssm_flow *f = tcp(7, 40000, 1, 80, U_SYN)->flow, *g = tcp(8, 1, 9, 80, U_SYN)->flow;
	assert_int_equal(f->end[0]->role, NSSM_ROLE_CLIENT);
	assert_int_equal(f->end[0]->idx, 1);
	assert_int_equal(f->end[1]->role, NSSM_ROLE_SERVER);
	assert_int_equal(g->end[1]->role, NSSM_ROLE_SERVER);
	assert_int_equal(R.tape->n_servers[0], 2);
	assert_int_equal(R.tape->n_endpoints, 5); /* 9 twice */
}

/* What the table does not hold plays, but is not rewritten. */
static void test_untracked(void **state)
{
	(void)state;
	struct rig r;
	assert_int_equal(rig_open(&r, ROOM, 10), 0);
	struct frame f;
	uint32_t tracked = 0;
	for (uint32_t i = 0; i < 100; i++) {
		frame_udp(&f, 4, A(1), (uint16_t)(1000 + i), A(2), 53, "x", 1);
		assert_int_equal(rig_add(&r, &f), 1);
		tracked += r.tape->last->flow != NULL;
		frame_icmp(&f, 4, A(50 + i), A(60 + i), 3, 0, "\0\0\0\0\x45xxxxxxxxxxxxxxxxxxxxxxx", 28);
		assert_int_equal(rig_add(&r, &f), 1);
	}
	/* Two endpoints and a flow, then 2 flows left of 10 for each ICMP: the sum is what counts. */
	assert_int_equal(r.tape->n_flows + r.tape->n_endpoints, 10);
	assert_true(tracked >= 1);
	assert_int_equal(r.tape->n_untracked + tracked, 200 - (r.tape->n_flows - tracked));
	/* Finished tapes leave the table. */
	nssm_tape_finish(r.builder, r.tape);
	r.tape = nssm_tape_begin(r.builder, 2, 0, 0);
	frame_udp(&f, 4, A(1), 1000, A(2), 53, "x", 1);
	assert_int_equal(rig_add(&r, &f), 1);
	assert_non_null(r.tape->last->flow);
	rig_close(&r);
}

/* --- odd frames --- */

static void test_vlan_and_v6(void **state)
{
	(void)state;
	struct frame f;
	uint8_t a[16], b[16];
	u_addr(a, 6, 1);
	u_addr(b, 6, 2);
	frame_begin(&f, 6, a, b, 2);
	/* hop-by-hop, then destination options */
	static const uint8_t ext[16] = {60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0};
	f.d[f.l3 + 6] = 0;
	frame_add(&f, ext, 16);
	f.l4 = f.len;
	frame_add(&f, "\x10\x00\x00\x35\0\0\0\0question....", 20);
	frame_end(&f, U_UDP);
	const struct nssm_rec *r = add(&f);
	assert_int_equal(r->n_vlan, 2);
	assert_int_equal(r->l3_off, 22);
	assert_int_equal(r->l4_off, 22 + 40 + 16);
	assert_int_equal(r->kind, NSSM_REC_UDP);
	assert_int_equal(r->app, NSSM_APP_DNS);
	assert_int_equal(r->app_off, r->l4_off + 8);
	assert_true(r->flow->port[0] == 0x1000 && r->flow->port[1] == 53);
}

/* What the user says of one end holds for it, and against it for the other. */
static void test_told(void **state)
{
	(void)state;
	for (int server = 0; server < 2; server++) {
		struct nssm_pool nets[2] = {{0}}, none[2] = {{0}};
		assert_int_equal(nssm_pool_add(&nets[0], "10.0.0.1", &R.err), 0);
		nssm_tape_builder_close(&R.builder);
		struct nssm_tape_cfg cfg = {.tapes_max = 1,
		        .flows_max = 100,
		        .client_nets = server ? none : nets,
		        .server_nets = server ? nets : none};
		assert_int_equal(nssm_tape_builder_open(&R.builder, R.arena, &cfg, &R.err), 0);
		R.tape = nssm_tape_begin(R.builder, 1, 0, 0);
		int told = server ? NSSM_ROLE_SERVER : NSSM_ROLE_CLIENT,
		    other = server ? NSSM_ROLE_CLIENT : NSSM_ROLE_SERVER;
		const struct nssm_flow *out = tcp(1, 40000, 2, 80, U_SYN)->flow,
		                       *in = tcp(3, 40000, 1, 80, U_SYN)->flow;
		assert_true(is_end(out, 0, 1, 40000) && is_end(in, 0, 3, 40000));
		assert_int_equal(out->end[0]->role, told);
		assert_int_equal(out->end[1]->role, other);
		assert_int_equal(in->end[0]->role, other);
		assert_int_equal(in->end[1]->role, told);
		assert_int_equal(tcp(4, 40000, 5, 80, U_SYN)->flow->end[0]->role, NSSM_ROLE_CLIENT);
	}
}

/* Every cut of some frames: parsed as far as they go, ends known as soon as the IP header is whole. */
static void test_cut(void **state)
{
	(void)state;
	struct frame f;
	for (int v = 4; v <= 6; v += 2) {
		uint8_t a[16], b[16];
		u_addr(a, v, 100);
		u_addr(b, v, 101);
		frame_tcp(&f, v, a, 40000, b, 443, U_ACK, 5, 6, "payload", 7);
		uint32_t ip = f.l4 - f.l3;
		for (uint32_t n = 0; n <= f.len; n++) {
			uint8_t *d = malloc(n + (n == 0));
			assert_non_null(d);
			memcpy(d, f.d, n);
			assert_int_equal(nssm_tape_append(R.builder, R.tape, 0, d, n, f.len, &R.err), 1);
			const struct nssm_rec *r = R.tape->last;
			free(d);
			assert_int_equal(r->flow != NULL, n >= 14 + ip);
			assert_int_equal(r->kind == NSSM_REC_TCP, n >= 14 + ip + 20);
			if (n >= 14 + ip + 4)
				assert_true(r->flow->port[0] == 40000 && r->flow->port[1] == 443);
		}
	}
	/* Two flows with ports, two for what ends before them. */
	assert_int_equal(R.tape->n_flows, 4);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	        T(test_bytes),
	        T(test_full_and_trim),
	        T(test_growing),
	        T(test_many_tapes),
	        T(test_tcp_flow),
	        T(test_initiator),
	        T(test_roles_and_sockets),
	        T(test_fixed),
	        T(test_icmp),
	        T(test_fragments),
	        T(test_opaque),
	        T(test_arp),
	        T(test_untracked),
	        T(test_vlan_and_v6),
	        T(test_told),
	        T(test_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
