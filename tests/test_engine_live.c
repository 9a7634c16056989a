/* Engines on a clock that the test moves: starvation, clones and their addresses, a bank that is too small, pauses, credits, what is
 * left; and no allocation while packets go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>

#include "base/philox.h"
#include "replay/capture.h"
#include "tests/alloc_count.h"
#include "tests/engine_fixture.h"
#include "tests/frames.h"
#include "tests/scratch.h"
#include "tests/vocab_fixture.h"

/* --- a clock ---------------------------------------------------------------------------------------------------- */

static uint64_t now_ns;

static uint64_t fake_now(void *ctx)
{
	return now_ns;
}

#define MS 1000000ull
#define S  1000000000ull

/* Turns until nothing is left to do before the clock shows `until`, moving it from one wake to the next. */
static void go_to(struct engine_fixture *x, uint64_t until)
{
	struct nssm_err err = {0};
	for (;;) {
		if (fx_turn(x, &err) != 0)
			fail_msg("%s", err.msg);
		if (x->state == NSSM_ENGINE_DONE)
			return;
		assert_int_equal(x->state, NSSM_ENGINE_WAITS);
		if (now_ns >= until)
			return;
		/* Not in one leap: what is due while the clock stands still is late by nothing. */
		uint64_t next = x->wake_ns < now_ns + 5 * MS ? x->wake_ns : now_ns + 5 * MS;
		now_ns = next <= now_ns ? now_ns + 1 : next < until ? next : until;
	}
}

static int go_to_end(struct engine_fixture *x, uint64_t most_ns)
{
	atomic_store(&x->run.source_done, true);
	go_to(x, now_ns + most_ns);
	return x->state == NSSM_ENGINE_DONE ? 0 : -1;
}

/* --- a model's sessions ------------------------------------------------------------------------------------------ */

static struct nssm_model_card card;
static struct nssm_iat_hist iat[1];
static const char *const label_name[1] = {"web"};
static const uint32_t label_idx[1] = {0};
static const double weight[1] = {1};
static const struct nssm_generator_cfg gen = {
	.seed = 9, .n_sessions = UINT64_MAX, .label_idx = label_idx, .label_weight = weight, .n_mix = 1, .sessions_per_s = 10, .n_lanes = 8};

static int setup(void **state)
{
	card.codec = (struct nssm_codec_cfg){.kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = NSSM_RAW_PKT_LEN};
	vocab_fixture(&card.vocab);
	card.iat = iat;
	for (int i = 1; i < 50; i++)
		nssm_iat_add(&iat[0], (uint64_t)i * MS);
	return scratch_open(state);
}

static struct engine_fixture model_fixture(enum nssm_play_mode mode, uint64_t n_plays)
{
	now_ns = 77 * S;
	return (struct engine_fixture){.pipe = {.card = &card, .gen = &gen, .seed = 9, .mode = mode, .n_plays = n_plays},
		.label = label_name,
		.n_labels = 1,
		.n_decodes = 64,
		.plays_max = 256,
		.keep = mode != NSSM_PLAY_ONCE,
		.clock = fake_now};
}

static void rewrite(struct engine_fixture *x, const char *clients, uint32_t sockets_max)
{
	struct nssm_err err = {0};
	struct nssm_clone_cfg *c = &x->pipe.clone;
	*c = (struct nssm_clone_cfg){
		.rewrite = true, .endpoints_max = 1, .sockets_max = sockets_max, .servers_max = 1, .port_lo = 1024, .port_hi = 65535};
	assert_int_equal(nssm_pool_add(&c->clients[0], clients, &err), 0);
	assert_int_equal(nssm_pool_add(&c->servers[0], "198.19.0.0/24", &err), 0);
}

static void open_or_fail(struct engine_fixture *x)
{
	struct nssm_err err = {0};
	if (fx_open(x, &err) != 0)
		fail_msg("%s", err.msg);
}

static void finish_or_fail(struct engine_fixture *x)
{
	struct nssm_err err = {0};
	if (fx_finish(x, &err) != 0)
		fail_msg("%s", err.msg);
}

static uint16_t *say_bytes(uint16_t *t, const uint8_t *data, uint32_t n)
{
	for (uint32_t i = 0; i < NSSM_RAW_PKT_LEN; i++)
		*t++ = card.vocab.byte_id[i < n ? data[i] : 0];
	*t++ = card.vocab.pkt;
	return t;
}

struct part {
	uint64_t session, start_ns;
	bool first;           /* the label only */
	uint32_t packets, bad; /* of a flow between two hosts of the session's own; packets that are none */
	uint32_t credit;
	enum nssm_end_reason end;
};

/* A block of the session's tokens; false: no block is free. */
static bool give(struct engine_fixture *x, const struct part *p)
{
	struct nssm_block *b = nssm_ring_get(x->back);
	if (b == NULL)
		return false;
	uint16_t *t = (uint16_t *)b->data;
	if (p->first)
		*t++ = card.vocab.label[0].id;
	for (uint32_t i = 0; i < p->packets; i++) {
		uint8_t f[74];
		memcpy(f, frame_syn, sizeof f);
		f[28] = (uint8_t)(p->session >> 8);
		f[29] = (uint8_t)p->session;
		f[33] = 7;
		f[47] = p->first && i == 0 ? 0x02 : 0x10;
		t = say_bytes(t, f, sizeof f);
	}
	for (uint32_t i = 0; i < p->bad; i++)
		t = say_bytes(t, (const uint8_t[60]){[12] = 8, [13] = 6}, 60);
	assert_true((uint8_t *)t <= b->data + sizeof b->data);
	b->kind = NSSM_BLOCK_TOKENS;
	b->n = (uint32_t)(t - (uint16_t *)b->data);
	b->session = p->session;
	b->start_ns = p->start_ns;
	b->next_start_ns = p->start_ns;
	b->label_idx = 0;
	b->seq = !p->first;
	b->credit = p->credit;
	b->end = (uint8_t)p->end;
	assert_true(nssm_ring_put(x->in, b));
	return true;
}

static void give_session(struct engine_fixture *x, uint64_t session, uint64_t start_ns, uint32_t packets)
{
	struct nssm_err err = {0};
	const struct part p = {session, start_ns, true, packets, 0, UINT32_MAX, NSSM_END_EOT};
	while (!give(x, &p)) {
		if (fx_turn(x, &err) != 0)
			fail_msg("%s", err.msg);
		now_ns += MS;
	}
	if (fx_turn(x, &err) != 0)
		fail_msg("%s", err.msg);
}

/* Stream times of a session's packets. */
static void due_times(uint64_t *due, uint64_t session, uint64_t start_ns, uint32_t n)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, gen.seed, session, NSSM_RNG_TIME);
	for (uint32_t i = 0; i < n; i++)
		due[i] = start_ns += i == 0 ? 0 : nssm_iat_draw(&iat[0], &rng);
}

static uint32_t read_times(uint64_t *t, uint8_t (*last_addr)[2], uint32_t max, const char *path)
{
	struct nssm_err err = {0};
	struct nssm_capture *c;
	struct nssm_pkt p;
	uint32_t n = 0;
	assert_int_equal(nssm_capture_open(&c, path, &err), 0);
	while (nssm_capture_next(c, &p, &err) == 1) {
		assert_true(n < max && p.caplen >= 60);
		if (last_addr != NULL)
			memcpy(last_addr[n], p.data + 28, 2);
		t[n++] = p.ts_ns;
	}
	assert_int_equal(err.code, 0);
	nssm_capture_close(&c);
	return n;
}

/* --- starvation -------------------------------------------------------------------------------------------------- */

/* What comes too late shifts the rest of its session, and nothing else; its own gaps stay. A late beginning is no starvation. */
static void starved(void **state)
{
	enum { N = 40 };
	struct engine_fixture x = model_fixture(NSSM_PLAY_ONCE, 1);
	x.pipe.pcap_out = scratch("starved.pcap");
	open_or_fail(&x);
	const struct nssm_counters *c = nssm_engine_counters(x.engine);
	uint64_t due[2][N], t0 = now_ns, got[2 * N];
	uint8_t who[2 * N][2];
	due_times(due[0], 0, 0, N);
	due_times(due[1], 1, 0, N);
	assert_true(give(&x, &(struct part){0, 0, true, N / 2, 0, UINT32_MAX, NSSM_END_NONE}));
	assert_true(give(&x, &(struct part){1, 0, true, 0, 0, UINT32_MAX, NSSM_END_NONE}));
	go_to(&x, t0 + 2 * S);
	assert_int_equal(c->sent, N / 2);
	assert_int_equal(c->starved, 0);
	/* Session 1's first packet after 2 s, session 0's others after 3 s. */
	assert_true(give(&x, &(struct part){1, 0, false, N, 0, UINT32_MAX, NSSM_END_EOT}));
	go_to(&x, t0 + 3 * S);
	assert_int_equal(c->starved, 0);
	assert_true(give(&x, &(struct part){0, 0, false, N / 2, 0, UINT32_MAX, NSSM_END_EOT}));
	go_to(&x, t0 + 3 * S);
	assert_int_equal(c->starved, 1);
	assert_int_equal(c->starved_ns, 3 * S - due[0][N / 2]);
	assert_int_equal(go_to_end(&x, 10 * S), 0);
	assert_int_equal(c->late.max_ns, 0);
	finish_or_fail(&x);
	assert_true(c->sent == 2 * N && c->left == 0 && c->sessions_done == 2);
	fx_close(&x);
	assert_int_equal(read_times(got, who, 2 * N, scratch("starved.pcap")), 2 * N);
	uint32_t k[2] = {0, 0};
	for (uint32_t i = 0; i < 2 * N; i++) {
		int s = who[i][1];
		uint64_t shift = s == 1 ? 2 * S : k[0] < N / 2 ? 0 : 3 * S - due[0][N / 2];
		assert_int_equal(got[i] - t0, due[s][k[s]] + shift);
		k[s]++;
	}
}

/* --- clones -------------------------------------------------------------------------------------------------------- */

struct row {
	char src[40];
	uint32_t port;
	uint64_t session, clone, first, last, packets;
};

static uint32_t read_rows(struct row *r, uint32_t max, const char *path)
{
	size_t n_text;
	char *text = scratch_read(path, &n_text), *save = NULL;
	uint32_t n = 0;
	assert_non_null(text);
	for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long session, clone, s[2], ns[2], packets[2];
		struct row one;
		int k = sscanf(line, "%*[^,],%*u,%39[^,],%u,%*[^,],%*u,%*[^,],%llu,%llu,%llu.%llu,%llu.%llu,%*[^,],%*[^,],%llu,%llu", one.src,
			&one.port, &session, &clone, &s[0], &ns[0], &s[1], &ns[1], &packets[0], &packets[1]);
		if (k < 10)
			continue; /* the head; a row of which nothing was sent has no sent times, and no packets */
		assert_true(n < max);
		one.session = session;
		one.clone = clone;
		one.first = s[0] * S + ns[0];
		one.last = s[1] * S + ns[1];
		one.packets = packets[0] + packets[1];
		r[n++] = one;
	}
	free(text);
	return n;
}

/* No two plays that are alive at a time have a client's address and port in common; none more alive than `most`. */
static void check_rows(const struct row *r, uint32_t n, uint32_t most)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t alive = 1;
		for (uint32_t k = 0; k < n; k++) {
			if (k == i || (r[k].session == r[i].session && r[k].clone == r[i].clone))
				continue;
			/* At the moment in which i begins. */
			bool overlap = r[k].first <= r[i].first && r[i].first < r[k].last;
			alive += overlap;
			if (overlap && r[k].port == r[i].port && strcmp(r[k].src, r[i].src) == 0)
				fail_msg("session %llu clone %llu and session %llu clone %llu are both %s:%u", (unsigned long long)r[i].session,
					(unsigned long long)r[i].clone, (unsigned long long)r[k].session, (unsigned long long)r[k].clone, r[i].src,
					r[i].port);
		}
		assert_true(alive <= most);
	}
}

static struct row rows[40000];

/* Each session N times, with few plays and few addresses: all of them, in the end. */
static void counted_clones(void **state)
{
	enum { SESSIONS = 30, CLONES = 9, N = 20 };
	static const struct {
		const char *clients;
		uint32_t sockets_max, plays_max, most;
	} how[] = {{"198.18.0.0/16", 1, 256, 1000}, {"198.18.0.0/16", 1, 40, 40}, {"198.18.0.1", 12000, 256, 5}, {"198.18.0.1", 60000, 16, 1}};
	for (size_t h = 0; h < sizeof how / sizeof *how; h++) {
		for (int virtual = 0; virtual < 2; virtual++) {
			struct engine_fixture x = model_fixture(NSSM_PLAY_COUNT, CLONES);
			rewrite(&x, how[h].clients, how[h].sockets_max);
			/* In virtual time those that wait stand between the source and the time that would end their waiting. */
			x.plays_max = virtual && how[h].plays_max < 2 * SESSIONS + 2 ? 2 * SESSIONS + 2 : how[h].plays_max;
			x.clock = virtual ? NULL : fake_now;
			x.pipe.pcap_out = scratch("clones.pcap");
			x.pipe.truth = scratch("clones.csv");
			open_or_fail(&x);
			const struct nssm_counters *c = nssm_engine_counters(x.engine);
			for (uint64_t s = 0; s < SESSIONS; s++)
				give_session(&x, s, s * 100 * MS, N);
			if (!virtual)
				assert_int_equal(go_to_end(&x, 2000ul * S), 0);
			finish_or_fail(&x);
			assert_int_equal(c->sent, SESSIONS * CLONES * N);
			assert_int_equal(c->made, c->sent);
			assert_int_equal(c->session_packets, SESSIONS * N);
			assert_int_equal(c->clones_begun, SESSIONS * (CLONES - 1));
			assert_int_equal(c->clones_done, c->clones_begun);
			assert_true(c->clones_alive == 0 && c->clones_waiting == 0 && c->left == 0);
			assert_int_equal(c->flows_begun, SESSIONS * CLONES);
			assert_true(virtual || c->late.max_ns == 0);
			fx_close(&x);
			uint32_t n = read_rows(rows, 40000, scratch("clones.csv"));
			assert_int_equal(n, SESSIONS * CLONES);
			for (uint32_t i = 0; i < n; i++)
				assert_int_equal(rows[i].packets, N);
			check_rows(rows, n, how[h].most);
		}
	}
}

/* So many alive at any time once there is something to clone, and never more; sessions that come wait for their turn. */
static void concurrency(void **state)
{
	enum { SESSIONS = 12, N = 15, ALIVE = 5 };
	struct engine_fixture x = model_fixture(NSSM_PLAY_CONCURRENCY, ALIVE);
	struct nssm_err err = {0};
	rewrite(&x, "198.18.0.1", 12000);
	x.pipe.pcap_out = scratch("alive.pcap");
	x.pipe.truth = scratch("alive.csv");
	x.pipe.duration_ns = 60ul * S;
	open_or_fail(&x);
	const struct nssm_counters *c = nssm_engine_counters(x.engine);
	for (uint64_t s = 0; s < SESSIONS; s++)
		give_session(&x, s, 0, N);
	atomic_store(&x.run.source_done, true);
	uint64_t full = 0, looks = 0;
	while (x.state != NSSM_ENGINE_DONE) {
		if (fx_turn(&x, &err) != 0)
			fail_msg("%s", err.msg);
		assert_true(c->clones_alive <= ALIVE);
		full += c->clones_alive == ALIVE;
		looks++;
		now_ns += MS;
	}
	assert_true(full > looks * 9 / 10);
	assert_true(c->sessions_done == SESSIONS && c->bank_sessions == SESSIONS);
	finish_or_fail(&x);
	assert_int_equal(c->made, c->sent);
	assert_true(c->clones_begun > 100);
	fx_close(&x);
	check_rows(rows, read_rows(rows, 40000, scratch("alive.csv")), ALIVE);
}

/* Flows a second: the number asked for, give or take what chance allows. */
static void rate(void **state)
{
	enum { SECONDS = 40, RATE = 50 };
	for (int locked = 0; locked < 2; locked++) {
		struct engine_fixture x = model_fixture(NSSM_PLAY_RATE, 1);
		rewrite(&x, "198.18.0.0/16", 1);
		x.pipe.pcap_out = scratch("rate.pcap");
		x.pipe.flows_per_s = RATE;
		x.pipe.phase = locked ? NSSM_PHASE_LOCKED : NSSM_PHASE_POISSON;
		x.pipe.duration_ns = (uint64_t)SECONDS * S;
		open_or_fail(&x);
		const struct nssm_counters *c = nssm_engine_counters(x.engine);
		for (uint64_t s = 0; s < 10; s++)
			give_session(&x, s, 0, 10);
		atomic_store(&x.run.source_done, true);
		go_to(&x, now_ns + SECONDS * S + 100 * MS);
		assert_int_equal(x.state, NSSM_ENGINE_DONE);
		finish_or_fail(&x);
		double want = SECONDS * RATE, tolerance = locked ? 3 : 5 * 45;
		assert_true((double)c->clones_begun > want - tolerance && (double)c->clones_begun < want + tolerance);
		fx_close(&x);
	}
}

/* --- memory -------------------------------------------------------------------------------------------------------- */

/* Many more sessions than the bank holds, all played; those that are kept go when they must, even if they are always playing. */
static void small_bank(void **state)
{
	enum { SESSIONS = 300, N = 30 };
	struct engine_fixture x = model_fixture(NSSM_PLAY_CONCURRENCY, 60);
	rewrite(&x, "198.18.0.0/16", 1);
	x.pipe.pcap_out = scratch("bank.pcap");
	x.arena.bytes = 24 * NSSM_CHUNK_BYTES;
	x.pipe.duration_ns = 3600ul * S;
	open_or_fail(&x);
	const struct nssm_counters *c = nssm_engine_counters(x.engine);
	struct nssm_err err = {0};
	for (uint64_t s = 0; s < SESSIONS; s++) {
		const struct part p = {s, 0, true, N, 0, UINT32_MAX, NSSM_END_EOT};
		while (!give(&x, &p)) {
			if (fx_turn(&x, &err) != 0)
				fail_msg("%s", err.msg);
			now_ns += 10 * MS;
			assert_true(now_ns < 3600ul * S);
		}
	}
	atomic_store(&x.run.source_done, true);
	while (c->sessions_done < SESSIONS) {
		go_to(&x, now_ns + 10 * MS);
		assert_true(now_ns < 3600ul * S);
	}
	assert_true(c->bank_evicted >= SESSIONS - 24 && c->bank_sessions >= 1);
	assert_true(c->clones_alive <= 60 && c->clones_begun > 0);
	atomic_store(&x.run.stop, 1);
	go_to(&x, now_ns + S);
	assert_int_equal(x.state, NSSM_ENGINE_DONE);
	finish_or_fail(&x);
	assert_int_equal(c->made, c->sent);
	fx_close(&x);
}

/* A session that is larger than all memory is played, and not kept. */
static void large_session(void **state)
{
	enum { PARTS = 400, N = 40 };
	struct engine_fixture x = model_fixture(NSSM_PLAY_CONCURRENCY, 3);
	x.pipe.pcap_out = scratch("large.pcap");
	x.arena.bytes = 4 * NSSM_CHUNK_BYTES;
	open_or_fail(&x);
	const struct nssm_counters *c = nssm_engine_counters(x.engine);
	struct nssm_err err = {0};
	for (uint32_t k = 0; k < PARTS; k++) {
		const struct part p = {0, 0, k == 0, N, 0, UINT32_MAX, k + 1 == PARTS ? NSSM_END_EOT : NSSM_END_NONE};
		while (!give(&x, &p)) {
			if (fx_turn(&x, &err) != 0)
				fail_msg("%s", err.msg);
			now_ns += 10 * MS;
		}
	}
	assert_int_equal(go_to_end(&x, 3600ul * S), 0);
	finish_or_fail(&x);
	assert_true(c->sent == PARTS * N && c->left == 0 && c->bank_sessions == 0);
	fx_close(&x);
}

/* --- captures -------------------------------------------------------------------------------------------------------- */

static struct engine_fixture capture_fixture(enum nssm_play_mode mode, uint64_t n_plays)
{
	now_ns = 77 * S;
	return (struct engine_fixture){.pipe = {.reader = (const struct nssm_reader_cfg *)1, .seed = 3, .mode = mode, .n_plays = n_plays, .n_loops = 1, .loop_gap_ns = -1},
		.label = label_name,
		.n_labels = 1,
		.keep = mode != NSSM_PLAY_ONCE,
		.clock = fake_now};
}

/* n frames of `len` bytes, sessions in turn, gap_ns between them; the stream goes to the last one, or its end. */
static bool give_frames(struct engine_fixture *x, uint64_t *t, uint32_t n, uint32_t n_sessions, uint32_t len, uint64_t gap_ns, bool last)
{
	struct nssm_block *b = nssm_ring_get(x->back);
	if (b == NULL)
		return false;
	b->kind = NSSM_BLOCK_FRAMES;
	b->n = n;
	b->used = 0;
	for (uint32_t i = 0; i < n; i++) {
		const struct nssm_block_frame h = {.session = i % n_sessions, .t_ns = *t, .len = len, .wirelen = len};
		uint8_t *f = b->data + b->used + sizeof h;
		memcpy(b->data + b->used, &h, sizeof h);
		memset(f, 0xa5, len);
		memcpy(f, frame_syn, 74);
		f[16] = (uint8_t)((len - 14) >> 8);
		f[17] = (uint8_t)(len - 14);
		f[29] = (uint8_t)h.session;
		b->used += (uint32_t)sizeof h + ((len + 7) & ~7u);
		*t += gap_ns;
	}
	b->stream_ns = last ? UINT64_MAX : *t - gap_ns;
	b->done_below = last ? n_sessions : 0;
	b->sessions_total = b->done_below;
	b->loop_period_ns = *t - gap_ns;
	b->loop_packets = n;
	assert_true(nssm_ring_put(x->in, b));
	return true;
}

/* What does not fit waits until packets have left. */
static void more_than_memory(void **state)
{
	enum { BLOCKS = 60, N = 100 };
	struct engine_fixture x = capture_fixture(NSSM_PLAY_ONCE, 1);
	struct nssm_err err = {0};
	x.pipe.pcap_out = scratch("more.pcap");
	x.arena.bytes = 8 * NSSM_CHUNK_BYTES;
	open_or_fail(&x);
	const struct nssm_counters *c = nssm_engine_counters(x.engine);
	uint64_t t = 0;
	for (int i = 0; i < BLOCKS; i++)
		while (!give_frames(&x, &t, N, 2, 1000, MS, i + 1 == BLOCKS)) {
			if (fx_turn(&x, &err) != 0)
				fail_msg("%s", err.msg);
			now_ns += MS;
		}
	assert_int_equal(go_to_end(&x, 100 * S), 0);
	finish_or_fail(&x);
	assert_true(c->sent == BLOCKS * N && c->left == 0);
	fx_close(&x);
}

/* Open sessions take all memory there is, and nothing is on its way: an error, not a wait for ever. */
static void no_memory(void **state)
{
	for (int virtual = 0; virtual < 2; virtual++) {
		struct engine_fixture x = capture_fixture(NSSM_PLAY_ONCE, 1);
		struct nssm_err err = {0};
		x.pipe.pcap_out = scratch("none.pcap");
		x.arena.bytes = 8 * NSSM_CHUNK_BYTES;
		x.clock = virtual ? NULL : fake_now;
		open_or_fail(&x);
		uint64_t t = 0;
		assert_true(give_frames(&x, &t, 20, 20, 100, MS, false));
		for (int i = 0; i < 1000 && x.rc == 0; i++) {
			fx_turn(&x, &err);
			now_ns += MS;
		}
		assert_int_equal(x.rc, NSSM_ENOMEM);
		assert_non_null(strstr(err.msg, "--bank"));
		const struct nssm_counters *c = nssm_engine_counters(x.engine);
		assert_int_equal(nssm_engine_finish(x.engine, &err), 0);
		assert_int_equal(c->sent + c->left, 20);
		fx_close(&x);
	}
}

/* Stopped in the midst, at once or not: what did not go is left, to the packet. */
static void stopped(void **state)
{
	enum { N = 200 };
	for (int mode = 0; mode < 3; mode++) {
		for (int stop = 1; stop <= 2; stop++) {
			struct engine_fixture x = capture_fixture(mode == 0 ? NSSM_PLAY_ONCE : NSSM_PLAY_COUNT, 4);
			x.pipe.n_loops = mode == 2 ? 3 : 1;
			x.pipe.pcap_out = scratch("stop.pcap");
			open_or_fail(&x);
			const struct nssm_counters *c = nssm_engine_counters(x.engine);
			uint64_t t = 0;
			for (int i = 0; i < 10; i++)
				assert_true(give_frames(&x, &t, N, 4, 100, MS, i == 9));
			atomic_store(&x.run.source_done, true);
			go_to(&x, now_ns + 1234 * MS);
			uint64_t sent = c->sent;
			assert_true(sent > 500);
			atomic_store(&x.run.stop, stop);
			go_to(&x, now_ns + 100 * MS);
			assert_int_equal(x.state, NSSM_ENGINE_DONE);
			assert_true(c->sent < sent + 2 * NSSM_BURST);
			finish_or_fail(&x);
			static const uint64_t plays[3] = {1, 4, 12};
			assert_int_equal(c->made, c->sent);
			assert_int_equal(c->made + c->left, plays[mode] * 10 * N);
			fx_close(&x);
		}
	}
}

/* --- steering -------------------------------------------------------------------------------------------------------- */

static void pauses(void **state)
{
	enum { N = 1000 };
	struct engine_fixture x = capture_fixture(NSSM_PLAY_ONCE, 1);
	x.pipe.pcap_out = scratch("pause.pcap");
	open_or_fail(&x);
	const struct nssm_counters *c = nssm_engine_counters(x.engine);
	uint64_t t = 0, got[N];
	assert_true(give_frames(&x, &t, N, 3, 100, 20000, true));
	atomic_store(&x.run.source_done, true);
	/* Before the first packet: nothing goes, and the clock does not begin. */
	atomic_store(&x.run.paused_at, 1);
	go_to(&x, now_ns + S);
	assert_int_equal(c->made, 0);
	atomic_store(&x.run.paused_at, 0);
	uint64_t t0 = now_ns;
	/* In between, where packets of the next 50 us are written already. */
	go_to(&x, t0 + 5 * MS + 3000);
	uint64_t sent = c->sent;
	assert_int_equal(sent, 1 + 5 * MS / 20000);
	atomic_store(&x.run.paused_at, 1);
	go_to(&x, now_ns + 2 * S);
	assert_int_equal(c->sent, sent);
	atomic_store(&x.run.paused_at, 0);
	/* Twice as fast from the 10th ms of the stream on. */
	go_to(&x, t0 + 2 * S + 10 * MS);
	x.run.rate.num = 2;
	atomic_store(&x.run.rate_version, 1);
	assert_int_equal(go_to_end(&x, S), 0);
	assert_int_equal(c->late.max_ns, 0);
	finish_or_fail(&x);
	fx_close(&x);
	assert_int_equal(read_times(got, NULL, N, scratch("pause.pcap")), N);
	/* The new rate holds from the last packet on that was written when it came: less than 50 us ahead. */
	uint64_t last = got[N - 1] - t0 - 2 * S, from = 2 * last - 20000ull * (N - 1);
	assert_in_range(from, 10 * MS, 10 * MS + 50000);
	for (uint32_t i = 0; i < N; i++) {
		uint64_t at = 20000ull * i, want = at <= from ? at : from + (at - from) / 2;
		assert_int_equal(got[i] - t0 - (i < sent ? 0 : 2 * S), want);
	}
}

/* A stop within a pause ends the run. */
static void stopped_while_paused(void **state)
{
	for (int begun = 0; begun < 2; begun++) {
		struct engine_fixture x = capture_fixture(NSSM_PLAY_ONCE, 1);
		x.pipe.pcap_out = scratch("pause.pcap");
		open_or_fail(&x);
		const struct nssm_counters *c = nssm_engine_counters(x.engine);
		uint64_t t = 0;
		assert_true(give_frames(&x, &t, 1000, 3, 100, 20000, true));
		if (begun)
			go_to(&x, now_ns + 5 * MS + 3000);
		atomic_store(&x.run.paused_at, 1);
		go_to(&x, now_ns + S);
		atomic_store(&x.run.stop, 1);
		go_to(&x, now_ns + 100 * MS);
		assert_int_equal(x.state, NSSM_ENGINE_DONE);
		finish_or_fail(&x);
		assert_int_equal(c->made + c->left, 1000);
		fx_close(&x);
	}
}

/* A model's session that is paused is not starved by that. */
static void paused_model(void **state)
{
	enum { N = 20 };
	struct engine_fixture x = model_fixture(NSSM_PLAY_ONCE, 1);
	x.pipe.pcap_out = scratch("paused.pcap");
	open_or_fail(&x);
	const struct nssm_counters *c = nssm_engine_counters(x.engine);
	uint64_t due[N], t0 = now_ns;
	due_times(due, 0, 0, N);
	assert_true(give(&x, &(struct part){0, 0, true, N / 2, 0, UINT32_MAX, NSSM_END_NONE}));
	go_to(&x, t0 + due[N / 2 - 1]);
	assert_int_equal(c->sent, N / 2);
	atomic_store(&x.run.paused_at, 1);
	go_to(&x, now_ns + 5 * S);
	assert_true(give(&x, &(struct part){0, 0, false, N / 2, 0, UINT32_MAX, NSSM_END_EOT}));
	go_to(&x, now_ns + 5 * S);
	atomic_store(&x.run.paused_at, 0);
	assert_int_equal(go_to_end(&x, 10 * S), 0);
	assert_int_equal(c->starved, 0);
	assert_int_equal(now_ns - t0, 10 * S + due[N - 1]);
	finish_or_fail(&x);
	fx_close(&x);
}

/* Time is over though no packet comes. */
static void duration_without_packets(void **state)
{
	struct engine_fixture x = capture_fixture(NSSM_PLAY_ONCE, 1);
	x.pipe.pcap_out = scratch("idle.pcap");
	x.pipe.duration_ns = 3 * S;
	open_or_fail(&x);
	uint64_t t = 0;
	assert_true(give_frames(&x, &t, 10, 1, 100, MS, false));
	go_to(&x, now_ns + 2900 * MS);
	assert_int_equal(x.state, NSSM_ENGINE_WAITS);
	go_to(&x, now_ns + 200 * MS);
	assert_int_equal(x.state, NSSM_ENGINE_DONE);
	finish_or_fail(&x);
	fx_close(&x);
}

/* --- credits --------------------------------------------------------------------------------------------------------- */

static uint32_t told(const struct engine_fixture *x, uint32_t slot, uint64_t session)
{
	uint64_t word = atomic_load(&x->run.credit[slot]);
	assert_int_equal(word >> 32, session);
	return (uint32_t)word;
}

/* The generator learns of every packet, good or not, whatever else used the slot or the play before. */
static void credits(void **state)
{
	struct engine_fixture x = model_fixture(NSSM_PLAY_ONCE, 1);
	atomic_uint_fast64_t credit[4] = {0};
	x.pipe.pcap_out = scratch("credit.pcap");
	x.run.credit = credit;
	x.n_credits = 4;
	open_or_fail(&x);
	/* Session 0 has slot 0 and the first play; it ends. */
	assert_true(give(&x, &(struct part){0, 0, true, 5, 7, 0, NSSM_END_EOT}));
	go_to(&x, now_ns + 5 * S);
	assert_int_equal(told(&x, 0, 0), 12);
	/* Session 1 has its play, and slot 1; then session 2 gets slot 0. */
	assert_true(give(&x, &(struct part){1, 5 * S, true, 4, 0, 1, NSSM_END_NONE}));
	assert_true(give(&x, &(struct part){2, 5 * S, true, 3, 2, 0, NSSM_END_NONE}));
	go_to(&x, now_ns + 5 * S);
	assert_int_equal(told(&x, 1, 1), 4);
	assert_int_equal(told(&x, 0, 2), 5);
	/* Nothing but what is no packet. */
	assert_true(give(&x, &(struct part){1, 5 * S, false, 0, 30, UINT32_MAX, NSSM_END_NONE}));
	go_to(&x, now_ns + 10 * MS);
	assert_int_equal(told(&x, 1, 1), 34);
	/* What is ahead of the wire is not told. */
	assert_true(give(&x, &(struct part){1, 5 * S, false, 20, 0, UINT32_MAX, NSSM_END_EOT}));
	go_to(&x, now_ns);
	assert_in_range(told(&x, 1, 1), 34, 50);
	/* Slot 1 goes to session 3 while session 1 still plays. */
	assert_true(give(&x, &(struct part){3, 5 * S, true, 0, 0, 1, NSSM_END_NONE}));
	go_to(&x, now_ns + 5 * S);
	assert_int_equal(told(&x, 1, 3), 0);
	assert_int_equal(go_to_end(&x, 20 * S), 0);
	assert_int_equal(told(&x, 1, 3), 0);
	finish_or_fail(&x);
	const struct nssm_counters *c = nssm_engine_counters(x.engine);
	assert_true(c->sent == 5 + 24 + 3 && c->left == 0);
	fx_close(&x);
}

/* --- order ----------------------------------------------------------------------------------------------------------- */

struct shot {
	uint64_t t;
	uint32_t session, id;
};

static int by_order(const void *a, const void *b)
{
	const struct shot *x = a, *y = b;
	if (x->t != y->t)
		return x->t < y->t ? -1 : 1;
	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* Into a file: (due, session), wherever blocks end; times that are equal are frequent. */
static void order_of_frames(void **state)
{
	enum { N = 4000, SESSIONS = 25 };
	static struct shot shot[N];
	struct nssm_rng rng;
	nssm_rng_init(&rng, 31, 0, NSSM_RNG_SAMPLE);
	for (int round = 0; round < 12; round++) {
		uint64_t t = 0, start[SESSIONS];
		memset(start, 0xff, sizeof start);
		for (uint32_t i = 0; i < N; i++) {
			t += nssm_rng_below(&rng, 4) == 0 ? nssm_rng_below(&rng, 3) : 0;
			shot[i] = (struct shot){t, nssm_rng_below(&rng, i < SESSIONS ? i + 1 : SESSIONS), i};
			/* Sessions are numbered as they begin. */
			if (i < SESSIONS)
				shot[i].session = i;
			if (start[shot[i].session] == UINT64_MAX)
				start[shot[i].session] = t;
		}
		struct engine_fixture x = capture_fixture(NSSM_PLAY_ONCE, 1);
		struct nssm_err err = {0};
		x.clock = NULL;
		x.pipe.pcap_out = scratch("order.pcap");
		open_or_fail(&x);
		for (uint32_t i = 0; i < N;) {
			uint32_t n = 1 + nssm_rng_below(&rng, round < 6 ? 5 : 200);
			n = n < N - i ? n : N - i;
			struct nssm_block *b = fx_block(&x, &err);
			assert_non_null(b);
			b->kind = NSSM_BLOCK_FRAMES;
			b->n = n;
			b->used = 0;
			for (uint32_t k = 0; k < n; k++, i++) {
				const struct nssm_block_frame h = {
					.session = shot[i].session, .start_ns = start[shot[i].session], .t_ns = shot[i].t, .len = 74, .wirelen = 74};
				uint8_t *f = b->data + b->used + sizeof h;
				memcpy(b->data + b->used, &h, sizeof h);
				memcpy(f, frame_syn, 74);
				memcpy(f + 6, &shot[i].id, 4);
				b->used += (uint32_t)sizeof h + 80;
			}
			b->stream_ns = i == N ? UINT64_MAX : shot[i - 1].t;
			b->done_below = i == N ? SESSIONS : 0;
			b->sessions_total = 0;
			assert_true(nssm_ring_put(x.in, b));
			if (nssm_rng_below(&rng, 2) == 0)
				assert_int_equal(fx_turn(&x, &err), 0);
		}
		finish_or_fail(&x);
		fx_close(&x);
		qsort(shot, N, sizeof *shot, by_order);
		struct nssm_capture *c;
		struct nssm_pkt p;
		assert_int_equal(nssm_capture_open(&c, scratch("order.pcap"), &err), 0);
		for (uint32_t i = 0; i < N; i++) {
			uint32_t id;
			assert_int_equal(nssm_capture_next(c, &p, &err), 1);
			memcpy(&id, p.data + 6, 4);
			assert_int_equal(id, shot[i].id);
		}
		nssm_capture_close(&c);
	}
}

/* The same of a model's sessions, whose blocks come in any order that a generator may have. */
static void order_of_tokens(void **state)
{
	enum { SESSIONS = 40, N = 24 };
	struct nssm_rng rng;
	nssm_rng_init(&rng, 37, 0, NSSM_RNG_SAMPLE);
	for (int round = 0; round < 6; round++) {
		struct engine_fixture x = model_fixture(NSSM_PLAY_ONCE, 1);
		struct nssm_err err = {0};
		x.clock = NULL;
		x.pipe.pcap_out = scratch("tokens.pcap");
		open_or_fail(&x);
		uint64_t start[SESSIONS + 1], next = 0;
		uint32_t given[SESSIONS] = {0}, n_over = 0, lanes = 1 + nssm_rng_below(&rng, SESSIONS);
		start[0] = 0;
		for (uint32_t s = 1; s <= SESSIONS; s++)
			start[s] = start[s - 1] + (nssm_rng_below(&rng, 2) == 0 ? 0 : nssm_rng_below(&rng, 40) * MS);
		while (n_over < SESSIONS) {
			uint64_t s = next;
			bool begins = next < SESSIONS && next - n_over < lanes;
			if (begins)
				next++;
			else
				do
					s = nssm_rng_below(&rng, (uint32_t)next);
				while (given[s] == N);
			uint32_t n = begins ? 0 : 1 + nssm_rng_below(&rng, 5);
			n = n < N - given[s] ? n : N - given[s];
			given[s] += n;
			n_over += given[s] == N;
			struct part p = {s, start[s], begins, n, 0, UINT32_MAX, given[s] == N ? NSSM_END_EOT : NSSM_END_NONE};
			while (!give(&x, &p))
				assert_int_equal(fx_turn(&x, &err), 0);
			if (nssm_rng_below(&rng, 2) == 0)
				assert_int_equal(fx_turn(&x, &err), 0);
		}
		finish_or_fail(&x);
		fx_close(&x);
		static uint64_t t[SESSIONS * N];
		static uint8_t who[SESSIONS * N][2];
		assert_int_equal(read_times(t, who, SESSIONS * N, scratch("tokens.pcap")), SESSIONS * N);
		uint32_t k[SESSIONS] = {0};
		for (uint32_t i = 0; i < SESSIONS * N; i++) {
			uint64_t due[N];
			uint32_t s = who[i][1];
			due_times(due, s, start[s], N);
			assert_int_equal(t[i], due[k[s]++]);
			assert_true(i == 0 || t[i - 1] < t[i] || (t[i - 1] == t[i] && who[i - 1][1] <= s));
		}
	}
}

/* --- no allocation --------------------------------------------------------------------------------------------------- */

static void no_allocation(void **state)
{
	static const enum nssm_play_mode mode[] = {NSSM_PLAY_ONCE, NSSM_PLAY_COUNT, NSSM_PLAY_RATE, NSSM_PLAY_CONCURRENCY};
	for (int m = 0; m < 4; m++) {
		for (int virtual = 0; virtual < 2; virtual++) {
			struct engine_fixture x = model_fixture(mode[m], 3);
			rewrite(&x, "198.18.0.0/16", 4);
			x.pipe.flows_per_s = 20;
			x.pipe.max_packets = 4000;
			x.pipe.pcap_out = scratch("alloc.pcap");
			x.pipe.truth = scratch("alloc.csv");
			x.clock = virtual ? NULL : fake_now;
			x.arena.bytes = 400 * NSSM_CHUNK_BYTES;
			open_or_fail(&x);
			uint64_t before = n_allocs;
			for (uint64_t s = 0; s < 150; s++)
				give_session(&x, s, s * 10 * MS, 20);
			atomic_store(&x.run.source_done, true);
			struct nssm_err err = {0};
			while (x.state != NSSM_ENGINE_DONE) {
				assert_int_equal(fx_turn(&x, &err), 0);
				now_ns += MS;
			}
			assert_int_equal(nssm_engine_finish(x.engine, &err), 0);
			assert_int_equal(n_allocs, before);
			assert_true(nssm_engine_counters(x.engine)->sent >= 3000);
			fx_close(&x);
		}
	}
	/* Captures that are kept: their plan is one allocation, before the first packet. */
	struct engine_fixture x = capture_fixture(NSSM_PLAY_COUNT, 20);
	x.pipe.pcap_out = scratch("alloc.pcap");
	open_or_fail(&x);
	uint64_t t = 0;
	assert_true(give_frames(&x, &t, 200, 5, 100, MS, true));
	atomic_store(&x.run.source_done, true);
	struct nssm_err err = {0};
	assert_int_equal(fx_turn(&x, &err), 0);
	uint64_t before = n_allocs;
	assert_int_equal(go_to_end(&x, 100 * S), 0);
	assert_int_equal(n_allocs, before);
	assert_int_equal(nssm_engine_counters(x.engine)->sent, 4000);
	fx_close(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(starved),
	        cmocka_unit_test(counted_clones),
	        cmocka_unit_test(concurrency),
	        cmocka_unit_test(rate),
	        cmocka_unit_test(small_bank),
	        cmocka_unit_test(large_session),
	        cmocka_unit_test(more_than_memory),
	        cmocka_unit_test(no_memory),
	        cmocka_unit_test(stopped),
	        cmocka_unit_test(pauses),
	        cmocka_unit_test(stopped_while_paused),
	        cmocka_unit_test(paused_model),
	        cmocka_unit_test(duration_without_packets),
	        cmocka_unit_test(credits),
	        cmocka_unit_test(order_of_frames),
	        cmocka_unit_test(order_of_tokens),
	        cmocka_unit_test(no_allocation),
	};
	cmocka_set_test_filter(getenv("TEST_FILTER"));
	return cmocka_run_group_tests(tests, setup, scratch_close);
}
