/* merge against an oracle that sorts everything, and hand-made token blocks through render into files that
 * are read back. */
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
#include "replay/merge.h"
#include "replay/render.h"
#include "tests/frames.h"
#include "tests/vocab_fixture.h"

/* --- queue
 * -------------------------------------------------------------------------------------------------------------
 */

static void queue_keeps_bytes(void **state)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 3, 0, NSSM_RNG_SAMPLE);
	static uint8_t ring[64][300], frame[NSSM_FRAME_MAX];
	static uint32_t len[64];
	struct nssm_pktq q = {0};
	uint64_t in = 0, out = 0;
	while (out < 20000) {
		if (in - out < 64 && nssm_rng_below(&rng, 2)) {
			uint8_t *p = ring[in % 64];
			uint32_t n = len[in % 64] = nssm_rng_below(&rng, 300);
			uint32_t zeros = nssm_rng_below(&rng, 3) == 0 ? nssm_rng_below(&rng, n + 1) : 0;
			nssm_rng_bytes(&rng, p, n);
			memset(p + n - zeros, 0, zeros);
			const struct nssm_out_pkt pkt = {.due_ns = in, .len = n, .wirelen = n + 7, .data = p};
			assert_int_equal(nssm_pktq_push(&q, &pkt, NULL), 0);
			in++;
		} else if (q.n > 0) {
			struct nssm_out_pkt pkt;
			assert_int_equal(nssm_pktq_due(&q), out);
			nssm_pktq_pop(&q, &pkt, frame);
			assert_true(
			        pkt.due_ns == out && pkt.len == len[out % 64] && pkt.wirelen == pkt.len + 7);
			assert_memory_equal(pkt.data, ring[out % 64], pkt.len);
			out++;
		}
	}
	/* At most 63 packets were held, and memory did not grow beyond a few times that. */
	assert_true(q.cap <= 4 * 64 * 330);
	nssm_pktq_free(&q);
}

/* --- merge
 * ---------------------------------------------------------------------------------------------------------------
 */

enum { S = 40, PER = 30 };

struct key {
	uint64_t due, session;
	uint32_t seq;
};

struct seen {
	struct key key[S * PER];
	size_t n;
};

static int see(void *ctx, const struct nssm_out_pkt *p, struct nssm_err *err)
{
	struct seen *s = ctx;
	uint32_t seq;
	assert_int_equal(p->len, 4);
	memcpy(&seq, p->data, 4);
	s->key[s->n++] = (struct key){p->due_ns, p->session, seq};
	return 0;
}

static int by_key(const void *a, const void *b)
{
	const struct key *x = a, *y = b;
	if (x->due != y->due)
		return x->due < y->due ? -1 : 1;
	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* How many of `all` (sorted) an omniscient merge would have let out: those before what any open or future
 * session may still give. */
static size_t may_be_out(const struct key *all, const int *pushed, const bool *ended, int begun,
        const uint64_t *start, uint64_t (*due)[PER])
{
	struct key bar = {UINT64_MAX, UINT64_MAX, 0};
	for (int s = 0; s < begun; s++) {
		struct key b = {
		        pushed[s] > 0 ? due[s][pushed[s] - 1] : start[s], (uint64_t)s, (uint32_t)pushed[s]};
		if (!ended[s] && by_key(&b, &bar) < 0)
			bar = b;
	}
	if (begun < S) {
		struct key b = {start[begun], (uint64_t)begun, 0};
		if (by_key(&b, &bar) < 0)
			bar = b;
	}
	size_t n = 0;
	while (n < S * PER && by_key(&all[n], &bar) < 0)
		n++;
	return n;
}

static void merge_is_a_sort(void **state)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 4, 0, NSSM_RNG_SAMPLE);
	for (int round = 0; round < 60; round++) {
		/* Coarse times, so that many are equal; every third round all sessions start at once. */
		static uint64_t start[S], due[S][PER];
		static struct key all[S * PER];
		uint64_t t = 0;
		size_t n = 0;
		for (int s = 0; s < S; s++) {
			start[s] = t;
			uint64_t d = t;
			for (int k = 0; k < PER; k++) {
				due[s][k] = d;
				all[n++] = (struct key){d, (uint64_t)s, (uint32_t)k};
				d += nssm_rng_below(&rng, 4) * nssm_rng_below(&rng, 3);
			}
			t += round % 3 == 0 ? 0 : nssm_rng_below(&rng, 20);
		}
		qsort(all, n, sizeof *all, by_key);

		static struct seen out;
		out.n = 0;
		struct nssm_merge *m;
		assert_int_equal(nssm_merge_open(&m, see, &out, NULL), 0);
		struct nssm_merge_lane *lane[S];
		int pushed[S] = {0}, begun = 0, n_ended = 0, max_open = 1 + (int)nssm_rng_below(&rng, 12);
		bool ended[S] = {false};
		while (n_ended < S) {
			if (begun < S && begun - n_ended < max_open) {
				lane[begun] = nssm_merge_begin(m, (uint64_t)begun, start[begun], NULL);
				assert_non_null(lane[begun]);
				begun++;
				nssm_merge_next_start(m, begun < S ? start[begun] : UINT64_MAX);
			}
			int s = (int)nssm_rng_below(&rng, (uint32_t)begun);
			for (uint32_t k = nssm_rng_below(&rng, 6); k > 0 && pushed[s] < PER; k--) {
				uint32_t seq = (uint32_t)pushed[s];
				const struct nssm_out_pkt p = {.due_ns = due[s][seq],
				        .len = 4,
				        .wirelen = 4,
				        .data = (const uint8_t *)&seq};
				assert_int_equal(nssm_merge_push(m, lane[s], &p, NULL), 0);
				pushed[s]++;
			}
			if (pushed[s] == PER && !ended[s]) {
				nssm_merge_end(m, lane[s]);
				ended[s] = true;
				n_ended++;
			}
			assert_int_equal(nssm_merge_release(m, NULL), 0);
			assert_int_equal(out.n, may_be_out(all, pushed, ended, begun, start, due));
			size_t n_pushed = 0;
			for (int i = 0; i < begun; i++)
				n_pushed += (size_t)pushed[i];
			assert_int_equal(nssm_merge_held(m).packets, n_pushed - out.n);
		}
		assert_int_equal(out.n, n);
		assert_int_equal(nssm_merge_held(m).bytes, 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(by_key(&out.key[i], &all[i]), 0);
		nssm_merge_close(&m);
	}
}

/* --- render
 * --------------------------------------------------------------------------------------------------------------
 */

static struct nssm_model_card card;
static struct nssm_iat_hist iat[2];
static char dir[256];

static int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, sizeof dir, "%s/test_render.XXXXXX", tmp != NULL ? tmp : "/tmp");
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

static int give(struct nssm_render *r, const struct nssm_generator_cfg *gen, const uint64_t *start,
        struct stream *s, uint64_t idx, uint32_t n)
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
	return nssm_render_emit(r, &b);
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

static const uint32_t label_idx[2] = {0, 1};
static const double one_label[2] = {1, 0}, both[2] = {1, 1};

static void packets_times_counts(void **state)
{
	const uint64_t epoch = 1700000000000000000u, start[1] = {0};
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
		struct nssm_render *r;
		const struct nssm_render_cfg cfg = {.card = &card,
		        .gen = &gen,
		        .snaplen = 96,
		        .epoch_ns = epoch,
		        .us = !ns,
		        .pcap_out = in_dir("out.pcap"),
		        .out_dir = in_dir("sub")};
		if (nssm_render_open(&r, &cfg, &err) != 0)
			fail_msg("%s", err.msg);
		assert_int_equal(give(r, &gen, start, &s, 0, 1), 0);
		while (s.given < s.n)
			assert_int_equal(give(r, &gen, start, &s, 0, 77), 0);
		assert_int_equal(nssm_render_finish(r, &err), 0);

		const struct nssm_render_stats *st = nssm_render_label_stats(r, 0);
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
		assert_int_equal(nssm_render_rejected(st), 3);
		assert_int_equal(
		        st->repaired[2], 6); /* the SYNs' IPv4 checksum: NSSM_REPAIR_IP_CSUM is bit 2 */
		assert_int_equal(st->repaired[0], 0);
		assert_int_equal(st->end[NSSM_END_TOKENS], 1);
		assert_int_equal(nssm_render_label_stats(r, 1)->made, 0);
		struct nssm_render_stats all = nssm_render_total(r);
		assert_memory_equal(&all, st, sizeof all);
		nssm_render_close(&r);

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
		struct nssm_render *r;
		const struct nssm_render_cfg cfg = {
		        .card = &card, .gen = &gen, .fill = NSSM_FILL_RANDOM, .pcap_out = in_dir(name)};
		assert_int_equal(nssm_render_open(&r, &cfg, &err), 0);
		uint64_t open[N], next = 0;
		uint32_t n_open = 0;
		for (int i = 0; i < N; i++)
			s[i].given = s[i].seq = 0;
		while (next < N || n_open > 0) {
			while (next < N && n_open < lanes[l]) {
				assert_int_equal(give(r, &gen, start, &s[next], next, 1), 0);
				open[n_open++] = next++;
			}
			uint32_t k = nssm_rng_below(&rng, n_open);
			struct stream *x = &s[open[k]];
			assert_int_equal(give(r, &gen, start, x, open[k], 1 + nssm_rng_below(&rng, 500)), 0);
			if (x->given == x->n)
				open[k] = open[--n_open];
		}
		assert_int_equal(nssm_render_finish(r, &err), 0);
		struct nssm_render_stats st = nssm_render_total(r);
		assert_true(st.packets == n_good && st.made == n_good && st.end[NSSM_END_EOT] == N);
		/* One lane: a session is held back only by itself and the next one's start. */
		if (lanes[l] == 1)
			assert_true(nssm_render_held(r).max_packets < n_good / 2);
		nssm_render_close(&r);
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
	struct nssm_generator_cfg gen = {
	        .seed = 9, .n_sessions = 1, .label_idx = label_idx, .label_weight = one_label, .n_mix = 2};
	struct nssm_render *r;
	struct nssm_render_cfg cfg = {.card = &card, .gen = &gen, .out_dir = in_dir("sub")};
	assert_int_equal(mkdir(in_dir("sub"), 0777), 0);
	assert_int_equal(nssm_render_open(&r, &cfg, &err), 0); /* empty: fine */
	nssm_render_close(&r);
	assert_int_equal(nssm_file_write(in_dir("sub/old"), "x", 1, &err), 0);
	assert_int_equal(nssm_render_open(&r, &cfg, &err), NSSM_EARG);
	assert_null(r);
	assert_non_null(strstr(err.msg, "old"));
	cfg.out_dir = in_dir("no/such/folder");
	assert_int_equal(nssm_render_open(&r, &cfg, &err), NSSM_EIO);
	cfg.out_dir = NULL;
	cfg.pcap_out = in_dir("no/such/file");
	assert_int_equal(nssm_render_open(&r, &cfg, &err), NSSM_EIO);
	nssm_render_close(&r); /* NULL */

	/* A time that a pcap cannot hold: emit says so, finish says it again, and no file is left. */
	cfg.pcap_out = in_dir("late.pcap");
	cfg.epoch_ns = 1ull << 61;
	assert_int_equal(nssm_render_open(&r, &cfg, &err), 0);
	const uint64_t start[1] = {1ull << 62};
	static struct stream s;
	s.n = s.given = s.seq = 0;
	s.end = NSSM_END_EOT;
	say(&s, card.vocab.label[0].id);
	say_syn(&s, 1);
	say(&s, card.vocab.eot);
	int rc = 0;
	while (rc == 0 && s.given < s.n)
		rc = give(r, &gen, start, &s, 0, 50);
	assert_int_equal(rc, NSSM_ERANGE);
	assert_int_equal(nssm_render_error(r)->code, NSSM_ERANGE);
	assert_int_equal(nssm_render_finish(r, &err), NSSM_ERANGE);
	nssm_render_close(&r);
	assert_int_equal(access(in_dir("late.pcap"), F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(queue_keeps_bytes),
	        cmocka_unit_test(merge_is_a_sort),
	        cmocka_unit_test_setup_teardown(packets_times_counts, setup, teardown),
	        cmocka_unit_test_setup_teardown(any_interleaving, setup, teardown),
	        cmocka_unit_test_setup_teardown(failures, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
