/* Hand-made token blocks through an engine in virtual time into files that are read back; order, counts, plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/philox.h"
#include "replay/capture.h"
#include "tests/engine_fixture.h"
#include "tests/frames.h"
#include "tests/vocab_fixture.h"

/* --- a model's tokens --- */

static struct nssm_model_card card;
static struct nssm_iat_hist iat[2];
static char dir[256];

static int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, sizeof dir, "%s/test_engine.XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	memset(&card, 0, sizeof card);
	card.codec =
	        (struct nssm_codec_cfg){.kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = NSSM_RAW_PKT_LEN};
	vocab_fixture(&card.vocab);
	card.iat = iat;
	memset(iat, 0, sizeof iat);
	for (int i = 0; i < 50; i++) {
		nssm_iat_add(&iat[0], (uint64_t)i * 100000);
		nssm_iat_add(&iat[1], 0); /* label dns: packets at the same instant */
	}
	return 0;
}

static int teardown(void **state)
{
	char sub[300];
	snprintf(sub, sizeof sub, "%s/sub", dir);
	nssm_dir_remove(sub, NULL);
	return nssm_dir_remove(dir, NULL);
}

static const char *in_dir(const char *name)
{
	static char path[4][400];
	static int k;
	k = (k + 1) % 4;
	snprintf(path[k], sizeof path[k], "%s/%s", dir, name);
	return path[k];
}

struct stream {
	uint16_t token[40000];
	uint32_t n;
	enum nssm_end_reason end;
	uint32_t given; /* tokens handed out so far */
	uint32_t seq;
};

static void say(struct stream *s, uint16_t t)
{
	assert_true(s->n < 40000);
	s->token[s->n++] = t;
}

static void say_bytes(struct stream *s, const uint8_t *data, uint32_t n, uint32_t padded)
{
	for (uint32_t i = 0; i < padded; i++)
		say(s, card.vocab.byte_id[i < n ? data[i] : 0]);
}

/* A SYN from port `port`, with 100 bytes of payload that no token spells. */
static void say_syn(struct stream *s, uint16_t port)
{
	uint8_t f[74];
	memcpy(f, frame_syn, 74);
	f[17] = 160;
	f[34] = (uint8_t)(port >> 8);
	f[35] = (uint8_t)port;
	say_bytes(s, f, 74, NSSM_RAW_PKT_LEN);
	say(s, card.vocab.pkt);
}

static int give(struct engine_fixture *x, const struct nssm_generator_cfg *gen, const uint64_t *start,
        struct stream *s, uint64_t idx, uint32_t n, struct nssm_err *err)
{
	if (n > s->n - s->given)
		n = s->n - s->given;
	const struct nssm_token_block b = {.session = idx,
	        .label_idx = nssm_generator_label(gen, idx),
	        .start_ns = start[idx],
	        .seq = s->seq++,
	        .n_tokens = n,
	        .token = s->token + s->given,
	        .end = s->given + n == s->n ? s->end : NSSM_END_NONE};
	s->given += n;
	return fx_tokens(x, &b, idx + 1 < gen->n_sessions ? start[idx + 1] : UINT64_MAX, err);
}

static uint64_t read_capture(const char *path, struct nssm_pkt *pkt, uint8_t (*data)[400], uint64_t max)
{
	struct nssm_err err = {0};
	struct nssm_capture *c;
	if (nssm_capture_open(&c, path, &err) != 0)
		fail_msg("%s", err.msg);
	uint64_t n = 0;
	int rc;
	while (n < max && (rc = nssm_capture_next(c, &pkt[n], &err)) == 1) {
		memcpy(data[n], pkt[n].data, pkt[n].caplen < 400 ? pkt[n].caplen : 400);
		n++;
	}
	nssm_capture_close(&c);
	return n;
}

static const char *const label_name[2] = {"web", "dns"};

static struct engine_fixture model_fixture(const struct nssm_generator_cfg *gen)
{
	return (struct engine_fixture){.pipe = {.card = &card, .gen = gen, .seed = gen->seed, .n_plays = 1},
	        .label = label_name,
	        .n_labels = 2,
	        .n_decodes = 1};
}

static const uint32_t label_idx[2] = {0, 1};
static const double one_label[2] = {1, 0}, both[2] = {1, 1};

static void packets_times_counts(void **state)
{
	const uint64_t epoch = 1700000000000000000u, start[2] = {0};
	const struct nssm_generator_cfg gen = {
	        .seed = 9, .n_sessions = 1, .label_idx = label_idx, .label_weight = one_label, .n_mix = 2};
	static struct stream s;
	s.n = 0;
	say(&s, card.vocab.label[0].id);
	for (uint16_t p = 1; p <= 5; p++)
		say_syn(&s, p);
	say_syn(&s, 5);                   /* a flow seen before */
	say_bytes(&s, frame_syn, 30, 30); /* ends before its headers do */
	say(&s, card.vocab.pkt);
	say_bytes(&s, frame_syn, 20, 20);
	say(&s, card.vocab.pad); /* no byte */
	say_bytes(&s, frame_syn + 20, 54, 108);
	say(&s, card.vocab.pkt);
	uint8_t arp[60] = {[12] = 8, [13] = 6};
	say_bytes(&s, arp, 60, NSSM_RAW_PKT_LEN);
	say(&s, card.vocab.pkt);
	say_bytes(&s, frame_syn, 74, NSSM_RAW_PKT_LEN); /* complete, though no token closes it */
	s.end = NSSM_END_TOKENS;

	for (int ns = 0; ns < 2; ns++) {
		s.given = s.seq = 0;
		struct nssm_err err = {0};
		struct engine_fixture x = model_fixture(&gen);
		x.pipe.snaplen = 96;
		x.pipe.epoch_ns = epoch;
		x.pipe.us = !ns;
		x.pipe.pcap_out = in_dir("out.pcap");
		x.pipe.out_dir = in_dir("sub");
		if (fx_open(&x, &err) != 0)
			fail_msg("%s", err.msg);
		assert_int_equal(give(&x, &gen, start, &s, 0, 1, &err), 0);
		while (s.given < s.n)
			assert_int_equal(give(&x, &gen, start, &s, 0, 77, &err), 0);
		assert_int_equal(fx_finish(&x, &err), 0);

		const struct nssm_label_stats *st = nssm_engine_label(x.engine, 0);
		assert_int_equal(st->sessions, 1);
		assert_int_equal(st->tokens, s.n);
		assert_int_equal(st->made, 10);
		assert_int_equal(st->packets, 7);
		assert_int_equal(st->flows, 6); /* ports 1 to 5 and 4660 */
		assert_int_equal(st->bytes, 6 * 174 + 74);
		assert_int_equal(st->cut, 6);
		assert_int_equal(st->rejected[NSSM_PKT_SHORT], 1);
		assert_int_equal(st->rejected[NSSM_PKT_STRAY_TOKEN], 1);
		assert_int_equal(st->rejected[NSSM_PKT_NOT_IP], 1);
		assert_int_equal(st->sent, 7);
		assert_int_equal(
		        st->repaired[2], 6); /* the SYNs' IPv4 checksum: NSSM_REPAIR_IP_CSUM is bit 2 */
		assert_int_equal(st->repaired[0], 0);
		assert_int_equal(st->end[NSSM_END_TOKENS], 1);
		assert_int_equal(nssm_engine_label(x.engine, 1)->made, 0);
		const struct nssm_counters *c = nssm_engine_counters(x.engine);
		assert_true(c->made == 7 && c->sent == 7 && c->left == 0 && c->session_packets == 7 && c->sessions_done == 1);
		fx_close(&x);

		/* Both outputs hold the same packets at the times that the label's histogram and the
		 * session's stream give. */
		static struct nssm_pkt p[2][20];
		static uint8_t data[2][20][400];
		assert_int_equal(read_capture(in_dir("out.pcap"), p[0], data[0], 20), 7);
		assert_int_equal(read_capture(in_dir("sub/000000-web.pcap"), p[1], data[1], 20), 7);
		struct nssm_rng time;
		nssm_rng_init(&time, 9, 0, NSSM_RNG_TIME);
		uint64_t due = epoch;
		for (int i = 0; i < 7; i++) {
			assert_int_equal(p[0][i].ts_ns, ns ? due : due / 1000 * 1000);
			assert_int_equal(p[1][i].ts_ns, p[0][i].ts_ns);
			due += nssm_iat_draw(&iat[0], &time);
			assert_int_equal(p[0][i].wirelen, i < 6 ? 174 : 74);
			assert_int_equal(p[0][i].caplen, i < 6 ? 96 : 74);
			assert_memory_equal(data[0][i], data[1][i], p[0][i].caplen);
		}
		assert_memory_equal(data[0][6], frame_syn, 74);
		struct nssm_map m;
		assert_int_equal(nssm_map_open(&m, in_dir("sub/labels.csv"), &err), 0);
		const char want[] = "File,Label,Seed,Session,Packets,End\n000000-web.pcap,web,9,0,7,tokens\n";
		assert_int_equal(m.len, sizeof want - 1);
		assert_memory_equal(m.data, want, m.len);
		nssm_map_close(&m);
		assert_int_equal(nssm_dir_remove(in_dir("sub"), &err), 0);
	}
}

/* The same sessions, handed out as `lanes` lanes would, give the same bytes. */
static void any_interleaving(void **state)
{
	enum { N = 30 };
	const struct nssm_generator_cfg gen = {.seed = 9,
	        .n_sessions = N,
	        .label_idx = label_idx,
	        .label_weight = both,
	        .n_mix = 2,
	        .sessions_per_s = 20};
	static struct stream s[N];
	uint64_t start[N], t = 0;
	struct nssm_rng rng;
	nssm_rng_init(&rng, 6, 0, NSSM_RNG_SAMPLE);
	uint64_t n_good = 0;
	for (uint64_t i = 0; i < N; i++) {
		t = start[i] = nssm_generator_start(&gen, i, t);
		s[i].n = 0;
		s[i].end = NSSM_END_EOT;
		say(&s[i], card.vocab.label[nssm_generator_label(&gen, i)].id);
		for (uint32_t k = nssm_rng_below(&rng, 40); k > 0; k--, n_good++)
			say_syn(&s[i], (uint16_t)k);
		say(&s[i], card.vocab.eot);
	}
	struct nssm_map first = {0};
	static const uint32_t lanes[] = {1, 2, 7, 30};
	for (size_t l = 0; l < 4; l++) {
		char name[40];
		snprintf(name, sizeof name, "lanes%u.pcap", lanes[l]);
		struct nssm_err err = {0};
		struct engine_fixture x = model_fixture(&gen);
		x.pipe.fill = NSSM_FILL_RANDOM;
		x.pipe.pcap_out = in_dir(name);
		x.n_decodes = N;
		assert_int_equal(fx_open(&x, &err), 0);
		uint64_t open[N], next = 0;
		uint32_t n_open = 0;
		for (int i = 0; i < N; i++)
			s[i].given = s[i].seq = 0;
		while (next < N || n_open > 0) {
			while (next < N && n_open < lanes[l]) {
				assert_int_equal(give(&x, &gen, start, &s[next], next, 1, &err), 0);
				open[n_open++] = next++;
			}
			uint32_t k = nssm_rng_below(&rng, n_open);
			struct stream *one = &s[open[k]];
			assert_int_equal(give(&x, &gen, start, one, open[k], 1 + nssm_rng_below(&rng, 500), &err), 0);
			if (one->given == one->n)
				open[k] = open[--n_open];
		}
		assert_int_equal(fx_finish(&x, &err), 0);
		const struct nssm_counters *c = nssm_engine_counters(x.engine);
		assert_true(c->sent == n_good && c->made == n_good && c->sessions_done == N && c->left == 0);
		fx_close(&x);
		struct nssm_map m;
		assert_int_equal(nssm_map_open(&m, in_dir(name), &err), 0);
		assert_int_equal(m.len, 24 + n_good * (16 + 174));
		if (l == 0) {
			first = m;
			continue;
		}
		assert_int_equal(m.len, first.len);
		assert_memory_equal(m.data, first.data, m.len);
		nssm_map_close(&m);
	}
	nssm_map_close(&first);
	static struct nssm_pkt p[N * 40];
	static uint8_t data[N * 40][400];
	assert_int_equal(read_capture(in_dir("lanes1.pcap"), p, data, N * 40), n_good);
	for (uint64_t i = 1; i < n_good; i++)
		assert_true(p[i].ts_ns >= p[i - 1].ts_ns);
	/* Random fill: no two packets have the same payload. */
	for (uint64_t i = 1; i < n_good; i++)
		assert_memory_not_equal(data[i] + 74, data[i - 1] + 74, 100);
}

static void failures(void **state)
{
	struct nssm_err err = {0};
	const struct nssm_generator_cfg gen = {
	        .seed = 9, .n_sessions = 1, .label_idx = label_idx, .label_weight = one_label, .n_mix = 2};
	struct engine_fixture x = model_fixture(&gen);
	x.pipe.out_dir = in_dir("sub");
	assert_int_equal(mkdir(in_dir("sub"), 0777), 0);
	assert_int_equal(fx_open(&x, &err), 0); /* empty: fine */
	fx_close(&x);
	assert_int_equal(nssm_file_write(in_dir("sub/old"), "x", 1, &err), 0);
	x = model_fixture(&gen);
	x.pipe.out_dir = in_dir("sub");
	assert_int_equal(fx_open(&x, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "old"));
	fx_close(&x);
	x = model_fixture(&gen);
	x.pipe.out_dir = in_dir("no/such/folder");
	assert_int_equal(fx_open(&x, &err), NSSM_EIO);
	fx_close(&x);

	/* A time that a pcap cannot hold: the engine says so, and no file is left. */
	x = model_fixture(&gen);
	x.pipe.pcap_out = in_dir("late.pcap");
	x.pipe.epoch_ns = 1ull << 61;
	assert_int_equal(fx_open(&x, &err), 0);
	const uint64_t start[2] = {1ull << 62};
	static struct stream s;
	s.n = s.given = s.seq = 0;
	s.end = NSSM_END_EOT;
	say(&s, card.vocab.label[0].id);
	say_syn(&s, 1);
	say(&s, card.vocab.eot);
	int rc = 0;
	while (rc == 0 && s.given < s.n)
		rc = give(&x, &gen, start, &s, 0, 50, &err);
	assert_int_equal(fx_finish(&x, &err), NSSM_ERANGE);
	fx_close(&x);
	assert_int_equal(access(in_dir("late.pcap"), F_OK), -1);
}

/* --- captures --- */

struct shot {
	uint64_t session, start, t;
	uint32_t id; /* in the frame: which packet this is */
};

/* A UDP packet between two hosts of its session, with its number as payload. */
static uint32_t shot_frame(uint8_t f[64], const struct shot *s)
{
	memset(f, 0, 64);
	memcpy(f, "\2\0\0\0\0\2\2\0\0\0\0\1\x08\0\x45\0\0\x20\0\0\x40\0\x40\x11", 24);
	f[27] = 1; /* 0.x.y.1: no special address */
	f[26] = 10;
	f[28] = (uint8_t)(s->session >> 8);
	f[29] = (uint8_t)s->session;
	f[30] = 11;
	f[33] = 9;
	uint16_t sum = nssm_csum_fold(nssm_csum_add(0, f + 14, 20));
	f[24] = (uint8_t)(sum >> 8);
	f[25] = (uint8_t)sum;
	f[34] = 0x9c;
	f[36] = 0x30;
	f[39] = 12;
	memcpy(f + 42, &s->id, 4);
	return 46;
}

static void fx_shots(struct engine_fixture *x, const struct shot *s, uint32_t n, uint64_t done_below, bool last)
{
	struct nssm_err err = {0};
	struct nssm_block *b = fx_block(x, &err);
	assert_non_null(b);
	b->kind = NSSM_BLOCK_FRAMES;
	b->n = n;
	b->used = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t f[64];
		struct nssm_block_frame h = {.session = s[i].session, .start_ns = s[i].start, .t_ns = s[i].t, .label_idx = 0};
		h.len = h.wirelen = shot_frame(f, &s[i]);
		memcpy(b->data + b->used, &h, sizeof h);
		memcpy(b->data + b->used + sizeof h, f, h.len);
		b->used += (uint32_t)sizeof h + ((h.len + 7) & ~7u);
	}
	b->stream_ns = last ? UINT64_MAX : s[n - 1].t;
	b->done_below = done_below;
	b->sessions_total = last ? done_below : 0;
	b->loop_period_ns = last ? s[n - 1].t : 0;
	b->loop_packets = last ? n : 0;
	nssm_ring_put(x->in, b);
	if (fx_turn(x, &err) != 0)
		fail_msg("%s", err.msg);
}

static struct engine_fixture shots_fixture(void)
{
	return (struct engine_fixture){.pipe = {.reader = (const struct nssm_reader_cfg *)1, .seed = 3, .n_plays = 1, .n_loops = 1, .loop_gap_ns = -1},
	        .label = label_name,
	        .n_labels = 1};
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

struct got {
	uint64_t t;
	uint32_t id;
};

static uint32_t read_shots(const char *path, struct got *g, uint32_t max)
{
	struct nssm_err err = {0};
	struct nssm_capture *c;
	struct nssm_pkt p;
	uint32_t n = 0;
	assert_int_equal(nssm_capture_open(&c, path, &err), 0);
	while (nssm_capture_next(c, &p, &err) == 1) {
		assert_true(n < max && p.caplen == 46);
		memcpy(&g[n].id, p.data + 42, 4);
		g[n++].t = p.ts_ns;
	}
	assert_int_equal(err.code, 0);
	nssm_capture_close(&c);
	return n;
}

enum { SHOTS = 3000, SHOT_SESSIONS = 40 };
static struct shot shot[SHOTS];
static struct got got[20 * SHOTS];

/* Sessions overlap; gaps of 0 are frequent. */
static void make_shots(uint32_t n)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 11, n, NSSM_RNG_SAMPLE);
	uint64_t start[SHOT_SESSIONS], t = 0;
	uint32_t begun = 0;
	for (uint32_t i = 0; i < n; i++) {
		t += i == 0 || nssm_rng_below(&rng, 3) == 0 ? 0 : nssm_rng_below(&rng, 1000000);
		uint32_t s = begun < SHOT_SESSIONS && i * SHOT_SESSIONS / n >= begun ? begun++ : nssm_rng_below(&rng, begun);
		shot[i] = (struct shot){.session = s, .t = t, .id = i};
	}
	for (uint32_t i = 0; i < n; i++)
		start[shot[n - 1 - i].session] = shot[n - 1 - i].t;
	for (uint32_t i = 0; i < n; i++)
		shot[i].start = start[shot[i].session];
}

static int by_time_session(const void *a, const void *b)
{
	const struct shot *x = a, *y = b;
	if (x->t != y->t)
		return x->t < y->t ? -1 : 1;
	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static void give_shots(struct engine_fixture *x, uint32_t n, uint32_t a_block)
{
	for (uint32_t i = 0; i < n; i += a_block) {
		uint32_t k = n - i < a_block ? n - i : a_block;
		fx_shots(x, shot + i, k, i + k == n ? SHOT_SESSIONS : 0, i + k == n);
	}
}

/* A capture comes out as it went in: every packet once, at its own time; at equal times by session. Also out of memory that holds a
 * small part of it. */
static void captures_in_order(void **state)
{
	make_shots(SHOTS);
	for (int spill = 0; spill < 2; spill++) {
		struct engine_fixture x = shots_fixture();
		x.pipe.pcap_out = in_dir("shots.pcap");
		x.pipe.epoch_ns = 1000;
		x.arena.bytes = spill ? 1 : 8u << 20;
		x.arena.spill_dir = spill ? dir : NULL;
		open_or_fail(&x);
		give_shots(&x, SHOTS, SHOTS); /* one block: order at equal times does not hang on where a block ends */
		finish_or_fail(&x);
		const struct nssm_counters *c = nssm_engine_counters(x.engine);
		assert_true(c->made == SHOTS && c->sent == SHOTS && c->left == 0);
		assert_true(c->sessions_begun == SHOT_SESSIONS && c->sessions_done == SHOT_SESSIONS);
		assert_true(!spill || c->spilled_bytes > 0);
		fx_close(&x);
		assert_int_equal(read_shots(in_dir("shots.pcap"), got, SHOTS), SHOTS);
		static struct shot sorted[SHOTS];
		memcpy(sorted, shot, sizeof sorted);
		qsort(sorted, SHOTS, sizeof *sorted, by_time_session);
		for (uint32_t i = 0; i < SHOTS; i++) {
			assert_int_equal(got[i].id, sorted[i].id);
			assert_int_equal(got[i].t, 1000 + sorted[i].t);
		}
	}
}

/* Loops repeat the capture's own gaps; between two stands the mean gap, or what was asked for. */
static void loops(void **state)
{
	enum { N = 200, LOOPS = 7 };
	make_shots(N);
	for (int given = 0; given < 2; given++) {
		struct engine_fixture x = shots_fixture();
		x.pipe.pcap_out = in_dir("loops.pcap");
		x.pipe.n_loops = LOOPS;
		x.pipe.loop_gap_ns = given ? 12345 : -1;
		x.keep = true;
		open_or_fail(&x);
		give_shots(&x, N, N);
		finish_or_fail(&x);
		assert_int_equal(nssm_engine_counters(x.engine)->left, 0);
		fx_close(&x);
		assert_int_equal(read_shots(in_dir("loops.pcap"), got, LOOPS * N), LOOPS * N);
		uint64_t period = shot[N - 1].t + (given ? 12345 : shot[N - 1].t / (N - 1));
		static struct shot sorted[N];
		memcpy(sorted, shot, sizeof sorted);
		qsort(sorted, N, sizeof *sorted, by_time_session);
		for (uint32_t i = 0; i < LOOPS * N; i++) {
			assert_int_equal(got[i].id, sorted[i % N].id);
			assert_int_equal(got[i].t, i / N * period + sorted[i % N].t);
		}
	}
}

/* Every session's packets N times, whatever the phase; all starts in the period; a play's own gaps as they were. */
static void counted_plays(void **state)
{
	enum { N = 150, PLAYS = 9 };
	make_shots(N);
	static const enum nssm_phase phase[] = {NSSM_PHASE_LOCKED, NSSM_PHASE_UNIFORM, NSSM_PHASE_POISSON};
	for (size_t k = 0; k < 3; k++) {
		struct engine_fixture x = shots_fixture();
		x.pipe.pcap_out = in_dir("plays.pcap");
		x.pipe.mode = NSSM_PLAY_COUNT;
		x.pipe.n_plays = PLAYS;
		x.pipe.phase = phase[k];
		x.keep = true;
		open_or_fail(&x);
		give_shots(&x, N, N);
		finish_or_fail(&x);
		const struct nssm_counters *c = nssm_engine_counters(x.engine);
		assert_true(c->made == PLAYS * N && c->sent == c->made && c->left == 0 && c->session_packets == N);
		assert_true(c->clones_begun == (PLAYS - 1) * SHOT_SESSIONS && c->clones_done == c->clones_begun && c->clones_alive == 0);
		fx_close(&x);
		assert_int_equal(read_shots(in_dir("plays.pcap"), got, PLAYS * N), PLAYS * N);
		uint32_t seen[N] = {0};
		bool moved = false;
		for (uint32_t i = 0; i < PLAYS * N; i++) {
			assert_true(got[i].id < N && (i == 0 || got[i].t >= got[i - 1].t));
			seen[got[i].id]++;
			moved |= got[i].t != shot[got[i].id].t;
		}
		for (uint32_t i = 0; i < N; i++)
			assert_int_equal(seen[i], PLAYS);
		assert_true(moved == (phase[k] != NSSM_PHASE_LOCKED));
	}
}

/* What a limit cuts off is left: nothing is lost. */
static void limits(void **state)
{
	enum { N = 300 };
	make_shots(N);
	for (int by_time = 0; by_time < 2; by_time++) {
		struct engine_fixture x = shots_fixture();
		x.pipe.pcap_out = in_dir("limit.pcap");
		x.pipe.max_packets = by_time ? 0 : 77;
		x.pipe.duration_ns = by_time ? shot[N / 2].t : 0;
		open_or_fail(&x);
		give_shots(&x, N, N);
		finish_or_fail(&x);
		uint64_t want = 77;
		for (uint32_t i = 0; by_time && i < N; i++)
			want = shot[i].t < shot[N / 2].t ? i + 1 : want;
		const struct nssm_counters *c = nssm_engine_counters(x.engine);
		assert_int_equal(c->sent, want);
		assert_int_equal(c->made, want);
		assert_int_equal(c->left, N - want);
		fx_close(&x);
		assert_int_equal(read_shots(in_dir("limit.pcap"), got, N), want);
	}
}

static void too_small_a_bank(void **state)
{
	make_shots(SHOTS);
	struct engine_fixture x = shots_fixture();
	struct nssm_err err = {0};
	x.pipe.pcap_out = in_dir("bank.pcap");
	x.keep = true;
	x.arena.bytes = 1;
	open_or_fail(&x);
	struct nssm_block *b = fx_block(&x, &err);
	assert_non_null(b);
	nssm_ring_put(x.back, b);
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < SHOTS; i += 100) {
		b = nssm_ring_get(x.back);
		if (b == NULL)
			break;
		nssm_ring_put(x.back, b);
		uint64_t before = nssm_engine_counters(x.engine)->sessions_begun;
		b = nssm_ring_get(x.back);
		b->kind = NSSM_BLOCK_FRAMES;
		b->n = 0;
		b->used = 0;
		for (uint32_t k = 0; k < 100; k++) {
			struct nssm_block_frame h = {.session = shot[i + k].session, .start_ns = shot[i + k].start, .t_ns = shot[i + k].t};
			h.len = h.wirelen = shot_frame(b->data + b->used + sizeof h, &shot[i + k]);
			memcpy(b->data + b->used, &h, sizeof h);
			b->used += (uint32_t)sizeof h + ((h.len + 7) & ~7u);
			b->n++;
		}
		b->stream_ns = shot[i + 99].t;
		b->done_below = 0;
		b->sessions_total = 0;
		nssm_ring_put(x.in, b);
		rc = fx_turn(&x, &err);
		assert_true(nssm_engine_counters(x.engine)->sessions_begun >= before);
	}
	assert_int_equal(rc, NSSM_ENOMEM);
	assert_non_null(strstr(err.msg, "--bank"));
	fx_close(&x);
}

/* One row a flow and play; packets and bytes add up to what was sent. */
static void truth_adds_up(void **state)
{
	enum { N = 400, PLAYS = 3 };
	make_shots(N);
	struct engine_fixture x = shots_fixture();
	x.pipe.pcap_out = in_dir("truth.pcap");
	x.pipe.truth = in_dir("truth.csv");
	x.pipe.mode = NSSM_PLAY_COUNT;
	x.pipe.n_plays = PLAYS;
	x.keep = true;
	open_or_fail(&x);
	give_shots(&x, N, N);
	finish_or_fail(&x);
	fx_close(&x);
	FILE *f = fopen(in_dir("truth.csv"), "r");
	assert_non_null(f);
	char line[1024];
	uint64_t rows = 0, packets = 0, bytes = 0;
	assert_non_null(fgets(line, sizeof line, f));
	while (fgets(line, sizeof line, f) != NULL) {
		unsigned long long fwd, rev, b_fwd, b_rev, dropped;
		char *p = line;
		for (int comma = 0; comma < 13; comma++)
			p = strchr(p, ',') + 1;
		assert_int_equal(sscanf(p, "%llu,%llu,%llu,%llu,%llu,complete", &fwd, &rev, &b_fwd, &b_rev, &dropped), 5);
		assert_non_null(strstr(p, ",complete"));
		assert_int_equal(dropped, 0);
		packets += fwd + rev;
		bytes += b_fwd + b_rev;
		rows++;
	}
	fclose(f);
	assert_int_equal(rows, PLAYS * SHOT_SESSIONS);
	assert_int_equal(packets, PLAYS * N);
	assert_int_equal(bytes, (uint64_t)PLAYS * N * 46);
}

/* --- a clock of our own --- */

struct fake_clock {
	uint64_t now;
};

static uint64_t fake_now(void *ctx)
{
	return ((struct fake_clock *)ctx)->now;
}

/* At twice the speed every packet goes out at its due time when the clock stands there, and not before. */
static void live_at_twice_the_speed(void **state)
{
	enum { N = 500 };
	make_shots(N);
	struct fake_clock clock = {.now = 1000000000};
	struct engine_fixture x = shots_fixture();
	x.pipe.pcap_out = in_dir("live.pcap");
	x.pipe.rate = (struct nssm_rate){.kind = NSSM_RATE_SPEED, .num = 2, .den = 1};
	x.clock = fake_now;
	x.clock_ctx = &clock;
	open_or_fail(&x);
	give_shots(&x, N, N);
	atomic_store(&x.run.source_done, true);
	struct nssm_err err = {0};
	const struct nssm_counters *c = nssm_engine_counters(x.engine);
	uint64_t sent = 0, t0 = clock.now;
	while (x.state != NSSM_ENGINE_DONE) {
		assert_int_equal(fx_turn(&x, &err), 0);
		while (sent < N && shot[sent].t / 2 <= clock.now - t0)
			sent++;
		assert_int_equal(c->sent, sent);
		/* To the next packet's time, and just before it. */
		if (sent < N)
			clock.now = clock.now + 1 < t0 + shot[sent].t / 2 ? t0 + shot[sent].t / 2 - 1 : t0 + shot[sent].t / 2;
	}
	assert_int_equal(c->sent, N);
	assert_int_equal(c->late.max_ns, 0);
	finish_or_fail(&x);
	fx_close(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(packets_times_counts, setup, teardown),
	        cmocka_unit_test_setup_teardown(any_interleaving, setup, teardown),
	        cmocka_unit_test_setup_teardown(failures, setup, teardown),
	        cmocka_unit_test_setup_teardown(captures_in_order, setup, teardown),
	        cmocka_unit_test_setup_teardown(loops, setup, teardown),
	        cmocka_unit_test_setup_teardown(counted_plays, setup, teardown),
	        cmocka_unit_test_setup_teardown(limits, setup, teardown),
	        cmocka_unit_test_setup_teardown(too_small_a_bank, setup, teardown),
	        cmocka_unit_test_setup_teardown(truth_adds_up, setup, teardown),
	        cmocka_unit_test_setup_teardown(live_at_twice_the_speed, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
