/* The capture reader over captures made here, whose packets, times and sessions are known; linked with counted
 * allocations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/philox.h"
#include "replay/capture.h"
#include "replay/reader.h"
#include "tests/capture_build.h"
#include "tests/frames.h"
#include "tests/scratch.h"

#define S  1000000000ull
#define T0 (1700000000ull * S)

/* --- counted allocation (linked with --wrap) ------------------------------------------------------------------ */

static int n_allocs, fail_at; /* fail_at: the allocation that fails, from 1; 0: none */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t k);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t k);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
	return ++n_allocs == fail_at ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t k)
{
	return ++n_allocs == fail_at ? NULL : __real_calloc(n, k);
}

void *__wrap_realloc(void *p, size_t n)
{
	return ++n_allocs == fail_at ? NULL : __real_realloc(p, n);
}

/* --- captures ------------------------------------------------------------------------------------------------- */

struct frame {
	uint8_t data[2048];
	uint32_t len, wirelen;
	uint64_t ts_ns;
};

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* UDP over IPv4 from 10.0.src to 10.0.dst, behind n_vlan tags, n bytes of payload. */
static struct frame udp(uint64_t ts_ns, unsigned src, unsigned sport, unsigned dst, unsigned dport,
        uint32_t n_vlan, uint32_t n)
{
	struct frame f = {.ts_ns = ts_ns};
	uint8_t *p = f.data + 12;
	for (uint32_t i = 0; i < n_vlan; i++, p += 4)
		put16(p, 0x8100);
	put16(p, 0x0800);
	p += 2;
	p[0] = 0x45;
	put16(p + 2, 28 + n);
	p[8] = 64;
	p[9] = 17;
	put16(p + 12, 10 << 8);
	put16(p + 14, src);
	put16(p + 16, 10 << 8);
	put16(p + 18, dst);
	put16(p + 20, sport);
	put16(p + 22, dport);
	put16(p + 24, 8 + n);
	for (uint32_t i = 0; i < n; i++)
		p[28 + i] = (uint8_t)(i + 1);
	f.len = f.wirelen = (uint32_t)(p + 28 + n - f.data);
	return f;
}

static struct frame arp(uint64_t ts_ns, uint32_t len)
{
	struct frame f = {.ts_ns = ts_ns, .len = len, .wirelen = len};
	put16(f.data + 12, 0x0806);
	return f;
}

/* A file in the scratch folder; its path, good for the whole test. */
static char *save(const char *name, const struct frame *f, size_t n)
{
	struct nssm_capture_writer *w;
	struct nssm_err err;
	char *path = strdup(scratch(name));
	assert_int_equal(nssm_capture_create(&w, path, true, 0, &err), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(
		        nssm_capture_write(w, f[i].ts_ns, f[i].data, f[i].len, f[i].wirelen, &err), 0);
	assert_int_equal(nssm_capture_commit(&w, &err), 0);
	return path;
}

/* --- a pass, and what must hold in any ------------------------------------------------------------------------ */

#define MAX_PACKETS  5000
#define MAX_SESSIONS 2000

struct got {
	struct nssm_read_pkt p[MAX_PACKETS];
	uint64_t done_below[MAX_PACKETS + 1];
	uint32_t n;
	uint64_t first_session, n_sessions;
	int rc;
	struct nssm_err err;
};
static struct got g;

static void check_pass(const struct nssm_reader *r)
{
	static uint64_t seq[MAX_SESSIONS], start[MAX_SESSIONS], last_at[MAX_SESSIONS];
	static uint32_t label[MAX_SESSIONS];
	memset(seq, 0, sizeof seq);
	g.n_sessions = 0;
	for (uint32_t i = 0; i < g.n; i++) {
		const struct nssm_read_pkt *p = &g.p[i];
		assert_true(i == 0 ? p->t_ns == 0 : p->t_ns >= g.p[i - 1].t_ns);
		uint64_t s = p->session - g.first_session;
		assert_true(s <= g.n_sessions && s < MAX_SESSIONS);
		if (s == g.n_sessions) {
			start[s] = p->t_ns;
			label[s] = p->label_idx;
			g.n_sessions++;
		}
		assert_int_equal(p->start_ns, start[s]);
		assert_int_equal(p->label_idx, label[s]);
		assert_int_equal(p->seq, seq[s]);
		seq[s]++;
		last_at[s] = i;
		assert_true(p->len >= 14 && p->len <= p->wirelen);
		assert_true(g.done_below[i] <= p->session);
		assert_true(i == 0 || g.done_below[i] >= g.done_below[i - 1]);
	}
	/* Who was said to be done got no more. */
	for (uint32_t i = 0; i < g.n; i++)
		for (uint64_t s = 0; s < g.n_sessions; s++)
			assert_true(g.first_session + s >= g.done_below[i] || last_at[s] <= i);
	if (g.rc == 0) {
		assert_int_equal(g.done_below[g.n], g.first_session + g.n_sessions);
		assert_int_equal(nssm_reader_packets(r), g.n);
		assert_int_equal(nssm_reader_duration(r), g.n > 0 ? g.p[g.n - 1].t_ns : 0);
		assert_true(nssm_reader_counters(r)->done);
		assert_int_equal(
		        nssm_reader_counters(r)->sessions_done, nssm_reader_counters(r)->sessions_begun);
		assert_int_equal(nssm_reader_counters(r)->sessions_begun, g.first_session + g.n_sessions);
	}
}

static void pass(struct nssm_reader *r, uint64_t first_session)
{
	uint64_t before = nssm_reader_counters(r)->packets;
	g.n = 0;
	g.first_session = first_session;
	memset(&g.err, 0, sizeof g.err);
	struct nssm_read_pkt p;
	while ((g.rc = nssm_reader_next(r, &p, &g.err)) == 1) {
		assert_true(g.n < MAX_PACKETS);
		g.done_below[g.n] = nssm_reader_done_below(r);
		g.p[g.n++] = p;
	}
	g.done_below[g.n] = nssm_reader_done_below(r);
	assert_int_equal(nssm_reader_counters(r)->packets - before, g.n);
	struct nssm_err again;
	assert_int_equal(nssm_reader_next(r, &p, &again), g.rc);
	if (g.rc < 0) {
		assert_int_equal(g.err.code, g.rc);
		assert_string_equal(again.msg, g.err.msg);
	}
	check_pass(r);
}

static struct nssm_reader *open_ok(const struct nssm_reader_cfg *cfg)
{
	struct nssm_reader *r;
	struct nssm_err err;
	int rc = nssm_reader_open(&r, cfg, &err);
	if (rc != 0)
		fail_msg("%s", err.msg);
	return r;
}

/* One pass of one configuration. */
static void read_all(const struct nssm_reader_cfg *cfg)
{
	struct nssm_reader *r = open_ok(cfg);
	pass(r, 0);
	nssm_reader_close(&r);
	assert_null(r);
}

static void expect_open_error(
        const struct nssm_reader_cfg *cfg, int code, const char *part, const char *part2)
{
	struct nssm_reader *r;
	struct nssm_err err;
	assert_int_equal(nssm_reader_open(&r, cfg, &err), code);
	assert_null(r);
	if (strstr(err.msg, part) == NULL || strstr(err.msg, part2) == NULL)
		fail_msg("\"%s\" does not say \"%s\" and \"%s\"", err.msg, part, part2);
}

static void expect_times(const uint64_t *t_ns, uint32_t n)
{
	assert_int_equal(g.n, n);
	for (uint32_t i = 0; i < n; i++)
		if (g.p[i].t_ns != t_ns[i])
			fail_msg("packet %u at %llu ns, expected %llu", i, (unsigned long long)g.p[i].t_ns,
			        (unsigned long long)t_ns[i]);
}

/* --- one after the other -------------------------------------------------------------------------------------- */

static void in_sequence(void **state)
{
	const struct frame a[] = {
	        udp(T0, 1, 1, 2, 2, 0, 10), udp(T0 + 3, 1, 1, 2, 2, 0, 10), udp(T0 + 10, 1, 1, 2, 2, 0, 10)};
	const struct frame b[] = {udp(5, 1, 1, 2, 2, 0, 10)};
	const struct frame c[] = {udp(T0 - S, 1, 1, 2, 2, 0, 10), udp(T0 - S + 7, 1, 1, 2, 2, 0, 10)};
	char *path[] = {save("a.pcap", a, 3), save("empty.pcap", NULL, 0), save("b.pcap", b, 1),
	        save("c.pcap", c, 2)};
	struct nssm_reader_cfg cfg = {.path = (const char *const *)path, .n_paths = 4};
	struct nssm_reader *r = open_ok(&cfg);
	uint64_t done, total, want_total = 0;
	nssm_reader_progress(r, &done, &total);
	for (int i = 0; i < 4; i++) {
		struct stat st;
		assert_int_equal(stat(path[i], &st), 0);
		want_total += (uint64_t)st.st_size;
	}
	assert_true(done == 0 && total == want_total);
	assert_int_equal(nssm_reader_packets(r), 0);
	/* a's mean gap is 5, b's none: b starts at 10 + 5, c at 15 + 0. */
	static const uint64_t want[] = {0, 3, 10, 15, 15, 22};
	static const uint32_t label[] = {0, 0, 0, 2, 3, 3};
	for (uint64_t loop = 0; loop < 3; loop++) {
		pass(r, loop * 3);
		assert_int_equal(g.rc, 0);
		expect_times(want, 6);
		for (int i = 0; i < 6; i++) {
			assert_int_equal(g.p[i].label_idx, label[i]);
			assert_int_equal(g.p[i].shard, 0);
			/* In sequence a session is done when the next file's first packet comes. */
			assert_int_equal(g.done_below[i], g.p[i].session);
		}
		nssm_reader_progress(r, &done, &total);
		assert_true(done == want_total && total == want_total);
		struct nssm_err err;
		assert_int_equal(nssm_reader_rewind(r, &err), 0);
		assert_false(nssm_reader_counters(r)->done);
	}
	assert_int_equal(nssm_reader_counters(r)->packets, 18);
	assert_int_equal(nssm_reader_counters(r)->bytes, 18 * 52);
	/* Back from the middle: what had begun is done. */
	struct nssm_read_pkt p;
	struct nssm_err err;
	assert_int_equal(nssm_reader_next(r, &p, &err), 1);
	assert_int_equal(p.session, 9);
	assert_int_equal(nssm_reader_rewind(r, &err), 0);
	assert_int_equal(nssm_reader_done_below(r), 10);
	pass(r, 10);
	expect_times(want, 6);
	nssm_reader_close(&r);
	nssm_reader_close(&r);
	for (int i = 0; i < 4; i++)
		free(path[i]);
}

static void time_back(void **state)
{
	static const uint64_t stamp[] = {100, 200, 150, 180, 210, 10 * S, 5 * S, 5 * S + 7, 5 * S + 7, 11 * S,
	        10 * S + 5 * S, 0, 15 * S + 2};
	/* 150 and 180 wait for 200. 5 s is a clock set back by 5 s; 11 s is beyond what came before by then
	 * (10 s and 7 ns). The stamp 0 is a slip of one packet. */
	static const uint64_t want[] = {0, 100, 100, 100, 110, 10 * S - 100, 10 * S - 100, 10 * S - 93,
	        10 * S - 93, 11 * S - 100, 15 * S - 100, 15 * S - 100, 15 * S - 98};
	enum { N = sizeof stamp / sizeof *stamp };
	struct frame f[N];
	for (int i = 0; i < N; i++)
		f[i] = udp(stamp[i], 1, 1, 2, 2, 0, 10);
	const char *path = save("back.pcap", f, N);
	struct nssm_reader_cfg cfg = {.path = &path, .n_paths = 1};
	struct nssm_reader *r = open_ok(&cfg);
	pass(r, 0);
	expect_times(want, N);
	assert_int_equal(nssm_reader_time_back(r), 4);
	nssm_reader_close(&r);
	/* Stamps at the ends of what a capture can say, again and again: time does not wrap. */
	uint64_t extreme[] = {0, 4294967295 * S, 0, 4294967294 * S, 0, 4294967293 * S, 0, 5};
	for (int i = 0; i < 8; i++)
		f[i].ts_ns = extreme[i];
	char *wild[] = {save("wild.pcap", f, 8), save("wild2.pcap", f, 8), save("wild3.pcap", f, 8)};
	cfg = (struct nssm_reader_cfg){.path = (const char *const *)wild, .n_paths = 3};
	read_all(&cfg);
	assert_int_equal(g.rc, 0);
	assert_int_equal(g.n, 24);
	cfg.merge = true;
	read_all(&cfg);
	assert_int_equal(g.n, 24);
	for (int i = 0; i < 3; i++)
		free(wild[i]);
	free((char *)path);
}

/* --- merged --------------------------------------------------------------------------------------------------- */

struct stamp {
	uint64_t ns;
	uint32_t file, at;
};

static int by_time(const void *a, const void *b)
{
	const struct stamp *x = a, *y = b;
	if (x->ns != y->ns)
		return x->ns < y->ns ? -1 : 1;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->at < y->at ? -1 : 1;
}

/* Random files with many ties, against a plain sort. */
static void merged(void **state)
{
	enum { K = 7, N = 120 };
	static struct frame f[N];
	static struct stamp all[K * N];
	struct nssm_rng rng;
	nssm_rng_init(&rng, 5, 0, 0);
	char *path[K];
	size_t n = 0;
	for (uint32_t k = 0; k < K; k++) {
		uint64_t t = T0 + nssm_rng_u32(&rng) % 50;
		uint32_t n_here = k == 3 ? 0 : k == 5 ? 1 : N;
		for (uint32_t i = 0; i < n_here; i++) {
			all[n++] = (struct stamp){.ns = t, .file = k, .at = i};
			f[i] = udp(t, k + 1, i, 100, 2, 0, 10);
			t += nssm_rng_u32(&rng) % 4;
		}
		char name[32];
		snprintf(name, sizeof name, "m%u.pcap", k);
		path[k] = save(name, f, n_here);
	}
	qsort(all, n, sizeof *all, by_time);
	struct nssm_reader_cfg cfg = {.path = (const char *const *)path, .n_paths = K, .merge = true};
	struct nssm_reader *r = open_ok(&cfg);
	for (uint64_t loop = 0; loop < 2; loop++) {
		pass(r, loop * (K - 1));
		assert_int_equal(g.rc, 0);
		assert_int_equal(g.n, n);
		assert_int_equal(g.n_sessions, K - 1);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(g.p[i].t_ns, all[i].ns - all[0].ns);
			assert_int_equal(g.p[i].label_idx, all[i].file);
			assert_int_equal(g.p[i].seq, all[i].at);
		}
		struct nssm_err err;
		assert_int_equal(nssm_reader_rewind(r, &err), 0);
	}
	nssm_reader_close(&r);
	static const char *const split[] = {"gap=2ns", "client"};
	for (int k = 0; k < 2; k++) {
		struct nssm_err err;
		assert_int_equal(nssm_split_parse(&cfg.split, split[k], &err), 0);
		read_all(&cfg);
		assert_int_equal(g.n, n);
		assert_true(k == 0 ? g.n_sessions > 50 : g.n_sessions == K - 1);
	}
	for (int k = 0; k < K; k++)
		free(path[k]);
}

/* --- sessions ------------------------------------------------------------------------------------------------- */

static void by_gap_and_client(void **state)
{
	const struct frame f[] = {
	        arp(T0, 60),
	        udp(T0 + S, 1, 5000, 9, 53, 0, 5),
	        udp(T0 + 2 * S, 9, 53, 1, 5000, 0, 5),
	        udp(T0 + 2 * S, 2, 5000, 9, 53, 0, 5),
	        udp(T0 + 9 * S, 1, 5001, 9, 53, 0, 5),
	        udp(T0 + 9 * S, 2, 5000, 9, 53, 0, 5),
	};
	char *path[] = {save("x.pcap", f, 6), save("y.pcap", f, 6)};
	struct nssm_reader_cfg cfg = {.path = (const char *const *)path, .n_paths = 2, .n_shards = 2};
	struct nssm_err err;
	assert_int_equal(nssm_split_parse(&cfg.split, "gap=5s", &err), 0);
	read_all(&cfg);
	static const uint64_t gap[] = {0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3};
	assert_int_equal(g.n, 12);
	for (int i = 0; i < 12; i++) {
		assert_int_equal(g.p[i].session, gap[i]);
		assert_int_equal(g.p[i].shard, gap[i] % 2);
		assert_int_equal(g.done_below[i], gap[i]);
	}
	assert_int_equal(nssm_split_parse(&cfg.split, "client", &err), 0);
	struct nssm_reader *r = open_ok(&cfg);
	pass(r, 0);
	static const uint64_t client[] = {0, 0, 1, 0, 1, 2, 2, 3, 2, 3};
	static const uint64_t t[] = {0, 1, 1, 8, 8, 10, 11, 11, 18, 18};
	assert_int_equal(g.n, 10);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(g.p[i].session, client[i]);
		assert_int_equal(g.p[i].t_ns, t[i] * S);
		assert_int_equal(g.p[i].shard, client[i] % 2);
		assert_int_equal(g.done_below[i], i < 5 ? 0 : 2);
	}
	assert_int_equal(nssm_reader_no_session(r), 2);
	nssm_reader_close(&r);
	cfg.strict_order = true;
	read_all(&cfg);
	for (int i = 0; i < 10; i++)
		assert_int_equal(g.p[i].shard, 0);
	free(path[0]);
	free(path[1]);
}

static void shards(void **state)
{
	enum { FLOWS = 60 };
	static struct frame f[3 * FLOWS + 4];
	size_t n = 0;
	for (unsigned i = 0; i < FLOWS; i++) {
		f[n++] = udp(T0, i / 4, 1000 + i, 200, 53, i % 3, 20);
		f[n++] = udp(T0, 200, 53, i / 4, 1000 + i, 0, 4);
		f[n++] = udp(T0, i / 4, 1000 + i, 200, 53, 0, 900);
	}
	/* The parts of a packet, both ways round, and what has no address. */
	f[n] = udp(T0, 7, 1, 8, 2, 0, 64);
	put16(f[n++].data + 14 + 6, 0x2000);
	f[n] = udp(T0, 7, 3, 8, 4, 0, 64);
	put16(f[n++].data + 14 + 6, 8);
	f[n] = udp(T0, 8, 5, 7, 6, 0, 64);
	put16(f[n++].data + 14 + 6, 16);
	f[n++] = arp(T0, 42);
	const char *path = save("shards.pcap", f, n);
	struct nssm_reader_cfg cfg = {.path = &path, .n_paths = 1};
	for (uint32_t k = 2; k <= 7; k++) {
		cfg.n_shards = k;
		read_all(&cfg);
		assert_int_equal(g.n, n);
		assert_int_equal(g.n_sessions, k);
		uint64_t session_of[7];
		uint32_t per_shard[7] = {0};
		for (size_t i = 0; i < n; i++) {
			assert_true(g.p[i].shard < k);
			if (per_shard[g.p[i].shard]++ == 0)
				session_of[g.p[i].shard] = g.p[i].session;
			assert_int_equal(session_of[g.p[i].shard], g.p[i].session);
			if (i < 3 * FLOWS)
				assert_int_equal(g.p[i].shard, g.p[i / 3 * 3].shard);
		}
		assert_int_equal(g.p[n - 4].shard, g.p[n - 3].shard);
		assert_int_equal(g.p[n - 3].shard, g.p[n - 2].shard);
		assert_int_equal(g.p[n - 1].shard, 0);
		for (uint32_t i = 0; i < k; i++)
			assert_true(per_shard[i] >= 3 * FLOWS / k / 4);
		cfg.strict_order = true;
		read_all(&cfg);
		assert_int_equal(g.n_sessions, 1);
		cfg.strict_order = false;
	}
	free((char *)path);
}

/* --- what is left out, cut, filled ---------------------------------------------------------------------------- */

static void filtered(void **state)
{
	const struct frame f[] = {arp(T0, 60), udp(T0 + 5, 1, 1, 2, 53, 0, 5),
	        udp(T0 + 6, 1, 1, 2, 80, 0, 500), udp(T0 + 8, 2, 53, 1, 1, 1, 5)};
	char *path[] = {save("f.pcap", f, 4), save("f2.pcap", f, 1)};
	struct nssm_reader_cfg cfg = {
	        .path = (const char *const *)path, .n_paths = 2, .filter = "udp port 53"};
	struct nssm_reader *r = open_ok(&cfg);
	pass(r, 0);
	assert_int_equal(g.n, 1);
	assert_int_equal(nssm_reader_counters(r)->filtered, 4);
	nssm_reader_close(&r);
	cfg.filter = "udp port 53 or (vlan and udp)";
	read_all(&cfg);
	static const uint64_t t[] = {0, 3};
	expect_times(t, 2);
	cfg.filter = "greater 500";
	read_all(&cfg);
	assert_int_equal(g.n, 1);
	cfg.filter = "";
	read_all(&cfg);
	assert_int_equal(g.n, 5);

	cfg.filter = "icmp6";
	read_all(&cfg);
	assert_int_equal(g.rc, NSSM_EARG);
	assert_non_null(strstr(g.err.msg, "f.pcap and 1 more: no packet to send"));
	assert_non_null(strstr(g.err.msg, "the filter \"icmp6\" left out 5"));
	cfg.filter = "udp prot 53";
	expect_open_error(&cfg, NSSM_EARG, "filter \"udp prot 53\": ", "syntax error");
	cfg.filter = "wlan type mgt";
	expect_open_error(&cfg, NSSM_EARG, "filter \"wlan type mgt\": ", "802.11");
	free(path[0]);
	free(path[1]);
}

static void mtu(void **state)
{
	const struct frame f[] = {
	        udp(T0, 1, 1, 2, 2, 0, 72),     /* 100 bytes of IP */
	        udp(T0 + 1, 1, 1, 2, 2, 0, 73), /* 101 */
	        udp(T0 + 2, 1, 1, 2, 2, 2, 72), /* two tags do not count */
	        udp(T0 + 3, 1, 1, 2, 2, 2, 73),
	        arp(T0 + 4, 114),
	        arp(T0 + 5, 115),
	        udp(T0 + 6, 1, 1, 2, 2, 0, 1400),
	        arp(T0 + 7, 14),
	        arp(T0 + 8, 20),
	};
	struct frame cut = udp(T0 + 9, 1, 1, 2, 2, 0, 1400);
	cut.len = 60;
	struct frame all[10];
	memcpy(all, f, sizeof f);
	all[9] = cut;
	const char *path = save("mtu.pcap", all, 10);
	struct nssm_reader_cfg cfg = {.path = &path, .n_paths = 1, .mtu = 100, .mtu_mode = NSSM_MTU_TRUNCATE};
	struct nssm_reader *r = open_ok(&cfg);
	pass(r, 0);
	static const uint32_t wire[] = {114, 114, 122, 122, 114, 114, 114, 14, 20, 114};
	assert_int_equal(g.n, 10);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(g.p[i].wirelen, wire[i]);
		assert_int_equal(g.p[i].len, i == 9 ? 60 : wire[i]);
	}
	assert_int_equal(nssm_reader_counters(r)->truncated, 5);
	assert_int_equal(nssm_reader_counters(r)->too_long, 0);
	nssm_reader_close(&r);
	cfg.pad = true;
	read_all(&cfg);
	for (int i = 0; i < 10; i++)
		assert_int_equal(g.p[i].len, wire[i]);
	cfg.pad = false;
	cfg.mtu_mode = NSSM_MTU_DROP;
	r = open_ok(&cfg);
	pass(r, 0);
	static const uint64_t kept[] = {0, 2, 4, 7, 8};
	expect_times(kept, 5);
	assert_int_equal(nssm_reader_counters(r)->too_long, 5);
	nssm_reader_close(&r);
	cfg.mtu = 5;
	cfg.filter = "udp";
	read_all(&cfg);
	assert_int_equal(g.rc, NSSM_EARG);
	assert_non_null(strstr(g.err.msg, "the filter \"udp\" left out 6, the MTU 4,"));
	cfg.mtu = 0;
	expect_open_error(&cfg, NSSM_EARG, "MTU", "0");
	free((char *)path);
}

static void made_whole(void **state)
{
	struct frame f[] = {udp(T0, 1, 1, 2, 2, 0, 100), udp(T0, 1, 1, 2, 2, 0, 100),
	        udp(T0, 1, 1, 2, 2, 0, 10), udp(T0, 1, 1, 2, 2, 0, 10)};
	f[0].len = 50;
	f[1].len = 60;
	f[3].wirelen = 0xfffffff0;
	const char *path = save("cut.pcap", f, 4);
	struct nssm_reader_cfg cfg = {.path = &path, .n_paths = 1};
	for (int pad = 0; pad < 2; pad++) {
		cfg.pad = pad != 0;
		struct nssm_reader *r = open_ok(&cfg);
		struct nssm_read_pkt p;
		struct nssm_err err;
		for (int i = 0; i < 4; i++) {
			assert_int_equal(nssm_reader_next(r, &p, &err), 1);
			assert_int_equal(p.wirelen, f[i].wirelen);
			uint32_t want = !pad ? f[i].len : i == 3 ? NSSM_CAPTURE_CAPLEN_MAX : f[i].wirelen;
			assert_int_equal(p.len, want);
			assert_memory_equal(p.data, f[i].data, f[i].len);
			for (uint32_t k = f[i].len; k < p.len; k++)
				assert_int_equal(p.data[k], 0);
		}
		assert_int_equal(nssm_reader_next(r, &p, &err), 0);
		nssm_reader_close(&r);
	}
	free((char *)path);
}

static void limit(void **state)
{
	struct frame f[10];
	for (int i = 0; i < 10; i++)
		f[i] = udp(T0 + (uint64_t)i, 1, 1, 2, 2, 0, 10);
	char *path[] = {save("l1.pcap", f, 10), save("l2.pcap", f, 10)};
	struct nssm_reader_cfg cfg = {
	        .path = (const char *const *)path, .n_paths = 2, .merge = true, .max_packets = 25};
	struct nssm_reader *r = open_ok(&cfg);
	struct nssm_err err;
	pass(r, 0);
	assert_int_equal(g.n, 20);
	assert_int_equal(nssm_reader_rewind(r, &err), 0);
	pass(r, 2);
	assert_int_equal(g.n, 5);
	assert_int_equal(nssm_reader_duration(r), 2);
	assert_int_equal(nssm_reader_rewind(r, &err), 1);
	pass(r, 4);
	assert_int_equal(g.rc, 0);
	assert_int_equal(g.n, 0);
	nssm_reader_close(&r);
	free(path[0]);
	free(path[1]);
}

/* --- labels --------------------------------------------------------------------------------------------------- */

static void expect_labels(
        const struct nssm_reader_cfg *cfg, const char *const *want, uint32_t n_want, const uint32_t *idx)
{
	struct nssm_reader *r = open_ok(cfg);
	uint32_t n;
	const char *const *label = nssm_reader_labels(r, &n);
	assert_int_equal(n, n_want);
	for (uint32_t i = 0; i < n; i++)
		assert_string_equal(label[i], want[i]);
	pass(r, 0);
	assert_int_equal(g.n, cfg->n_paths);
	for (uint32_t i = 0; i < g.n; i++)
		assert_int_equal(g.p[i].label_idx, idx[i]);
	nssm_reader_close(&r);
}

static void labelled(void **state)
{
	const struct frame f = udp(T0, 1, 1, 2, 2, 0, 10);
	static const char *const name[] = {"web-01.pcap", "my web (1).PCAPNG", "unk.pcap.gz", "x.y.cap",
	        "plain", "web-01.cap", "été.pcap",
	        "0123456789012345678901234567890123456789012345678901234567890123456789.pcap"};
	static const char *const want[] = {"web-01", "my_web__1_", "_unk", "x.y", "plain", "__t__",
	        "01234567890123456789012345678901234567890123456789012345678901"};
	static const uint32_t idx[] = {0, 1, 2, 3, 4, 0, 5, 6};
	enum { N = 8 };
	char *path[N];
	for (int i = 0; i < N; i++)
		path[i] = save(name[i], &f, 1);
	struct nssm_reader_cfg cfg = {.path = (const char *const *)path, .n_paths = N};
	expect_labels(&cfg, want, 7, idx);

	static const char *const one[] = {"all"};
	static const uint32_t zero[N] = {0};
	cfg.label = "all";
	expect_labels(&cfg, one, 1, zero);
	cfg.label = "two words";
	expect_open_error(&cfg, NSSM_EARG, "web-01.pcap", "two words");

	const char csv[] = "File,Label\nweb-01.pcap,web\nx.y.cap,dns\n";
	scratch_write(scratch("labels.csv"), csv, sizeof csv - 1);
	cfg.labels_csv = scratch("labels.csv");
	cfg.label = "rest";
	static const char *const mixed[] = {"web", "rest", "dns"};
	static const uint32_t mixed_idx[N] = {0, 1, 1, 2, 1, 1, 1, 1};
	expect_labels(&cfg, mixed, 3, mixed_idx);
	cfg.label = NULL;
	expect_open_error(&cfg, NSSM_EARG, "my web (1).PCAPNG: no row in ", "labels.csv");
	cfg.labels_csv = scratch("none.csv");
	expect_open_error(&cfg, NSSM_EIO, "none.csv", "No such file");
	for (int i = 0; i < N; i++)
		free(path[i]);
}

/* --- broken captures ------------------------------------------------------------------------------------------ */

/* A capture cut at every byte, between two that are whole. */
static void broken(void **state)
{
	const struct frame whole[] = {udp(T0, 1, 1, 2, 2, 0, 10), udp(T0 + 100, 1, 1, 2, 2, 0, 10)};
	struct build b;
	build_pcap(&b, false, true, 65535, 1);
	for (uint32_t i = 0; i < 3; i++)
		build_record(&b, T0 / S, 10 * i, frame_syn, sizeof frame_syn, sizeof frame_syn);
	char *path[] = {save("w1.pcap", whole, 2), strdup(scratch("broken.pcap")), save("w2.pcap", whole, 2)};
	struct nssm_reader_cfg cfg = {.path = (const char *const *)path, .n_paths = 3};
	for (size_t cut = 24; cut < b.len; cut += cut < 60 ? 1 : 7) {
		scratch_write(path[1], b.data, cut);
		uint32_t n = 0;
		bool clean = cut == 24;
		for (size_t i = 0; i < b.n_packets; i++) {
			n += b.ends[i] <= cut;
			clean |= b.ends[i] == cut;
		}
		for (int merge = 0; merge < 2; merge++) {
			cfg.merge = merge != 0;
			cfg.keep_going = false;
			read_all(&cfg);
			assert_int_equal(g.rc, clean ? 0 : NSSM_EFORMAT);
			if (!clean) {
				assert_non_null(strstr(g.err.msg, "broken.pcap: packet "));
				/* Merged, the run ends when the packet after the broken file's last is due:
				 * w1's first, the broken one's first, w2's first, its second. */
				static const uint32_t in_merge[] = {0, 2, 4};
				assert_int_equal(g.n, merge == 0 ? 2 + n : in_merge[n]);
			}
			cfg.keep_going = true;
			struct nssm_reader *r = open_ok(&cfg);
			pass(r, 0);
			assert_int_equal(g.rc, 0);
			assert_int_equal(g.n, 4 + n);
			struct nssm_err first = {0};
			assert_int_equal(nssm_reader_bad(r, &first), !clean);
			assert_true(clean || strstr(first.msg, "broken.pcap") != NULL);
			struct nssm_err err;
			assert_int_equal(nssm_reader_rewind(r, &err), 0);
			pass(r, g.n_sessions);
			assert_int_equal(g.n, 4 + n);
			assert_int_equal(nssm_reader_bad(r, NULL), 2 * !clean);
			nssm_reader_close(&r);
		}
	}
	/* After an error there is no way back. */
	cfg.keep_going = cfg.merge = false;
	struct nssm_reader *r = open_ok(&cfg);
	pass(r, 0);
	assert_int_equal(g.rc, NSSM_EFORMAT);
	struct nssm_err err;
	assert_int_equal(nssm_reader_rewind(r, &err), NSSM_EFORMAT);
	assert_string_equal(err.msg, g.err.msg);
	nssm_reader_close(&r);
	build_free(&b);
	for (int i = 0; i < 3; i++)
		free(path[i]);
}

static void not_there(void **state)
{
	const struct frame f = udp(T0, 1, 1, 2, 2, 0, 10);
	scratch_write(scratch("noise.pcap"), "this is no capture, whatever its name may say", 45);
	char *path[] = {save("there.pcap", &f, 1), NULL};
	struct nssm_reader_cfg cfg = {.path = (const char *const *)path, .n_paths = 2};
	const struct {
		const char *path;
		int code;
		const char *says;
	} bad[] = {{scratch("missing.pcap"), NSSM_EIO, "No such file"},
	        {scratch_dir, NSSM_EIO, "is a folder"}, {scratch("noise.pcap"), NSSM_EFORMAT, "noise.pcap"}};
	for (size_t i = 0; i < 3; i++) {
		path[1] = (char *)bad[i].path;
		cfg.n_paths = 2;
		cfg.keep_going = false;
		expect_open_error(&cfg, bad[i].code, bad[i].path, bad[i].says);
		cfg.keep_going = true;
		struct nssm_reader *r = open_ok(&cfg);
		pass(r, 0);
		assert_true(g.rc == 0 && g.n == 1);
		struct nssm_err first;
		assert_int_equal(nssm_reader_bad(r, &first), 1);
		assert_non_null(strstr(first.msg, bad[i].says));
		nssm_reader_close(&r);
		/* Nothing else there: then it is an error all the same. */
		cfg.path = (const char *const *)path + 1;
		cfg.n_paths = 1;
		read_all(&cfg);
		assert_int_equal(g.rc, bad[i].code);
		assert_non_null(strstr(g.err.msg, bad[i].says));
		cfg.path = (const char *const *)path;
	}
	cfg.n_paths = 0;
	expect_open_error(&cfg, NSSM_EARG, "no captures", "");
	char *empty[] = {save("e1.pcap", NULL, 0), save("e2.pcap", NULL, 0)};
	cfg = (struct nssm_reader_cfg){.path = (const char *const *)empty, .n_paths = 2};
	for (int merge = 0; merge < 2; merge++) {
		cfg.merge = merge != 0;
		read_all(&cfg);
		assert_int_equal(g.rc, NSSM_EARG);
		assert_non_null(strstr(g.err.msg, "e1.pcap and 1 more: no packet to send: there is none"));
	}
	free(empty[0]);
	free(empty[1]);
	free(path[0]);
}

/* --- pipes ---------------------------------------------------------------------------------------------------- */

struct feeder {
	char *to;
	const char *from;
};

static void *feed(void *arg)
{
	const struct feeder *f = arg;
	size_t n;
	char *data = scratch_read(f->from, &n);
	int fd = open(f->to, O_WRONLY | O_CLOEXEC);
	for (size_t at = 0; at < n;) {
		ssize_t k = write(fd, data + at, n - at < 100 ? n - at : 100);
		if (k <= 0)
			break;
		at += (size_t)k;
	}
	close(fd);
	free(data);
	return NULL;
}

static void pipes(void **state)
{
	const struct frame f[] = {udp(T0, 1, 1, 2, 2, 0, 900), udp(T0 + 9, 1, 1, 2, 2, 0, 900)};
	char *path = save("whole.pcap", f, 2), *fifo = strdup(scratch("fifo.pcap"));
	assert_int_equal(mkfifo(fifo, 0600), 0);
	int kept = dup(STDIN_FILENO);
	for (int by_stdin = 0; by_stdin < 2; by_stdin++) {
		for (int merge = 0; merge < 2; merge++) {
			const char *files[] = {path, by_stdin ? "-" : fifo};
			struct nssm_reader_cfg cfg = {.path = files, .n_paths = 2, .merge = merge != 0};
			struct feeder feeder = {.to = fifo, .from = path};
			pthread_t t;
			assert_int_equal(pthread_create(&t, NULL, feed, &feeder), 0);
			if (by_stdin) {
				int fd = open(fifo, O_RDONLY | O_CLOEXEC);
				assert_int_equal(dup2(fd, STDIN_FILENO), STDIN_FILENO);
				close(fd);
			}
			struct nssm_reader *r = open_ok(&cfg);
			uint64_t done, total;
			nssm_reader_progress(r, &done, &total);
			assert_int_equal(total, 0);
			uint32_t n;
			assert_string_equal(nssm_reader_labels(r, &n)[1], by_stdin ? "stdin" : "fifo");
			pass(r, 0);
			assert_int_equal(g.rc, 0);
			assert_int_equal(g.n, 4);
			pthread_join(t, NULL);
			struct nssm_err err;
			assert_int_equal(nssm_reader_rewind(r, &err), NSSM_EUNSUP);
			assert_non_null(strstr(err.msg, files[1]));
			nssm_reader_close(&r);
		}
	}
	assert_int_equal(dup2(kept, STDIN_FILENO), STDIN_FILENO);
	close(kept);
	const char *twice[] = {"-", path, "-"};
	struct nssm_reader_cfg cfg = {.path = twice, .n_paths = 3};
	expect_open_error(&cfg, NSSM_EARG, "standard input", "twice");
	free(path);
	free(fifo);
}

/* --- memory --------------------------------------------------------------------------------------------------- */

static void nothing_allocated_a_packet(void **state)
{
	enum { N = 1000 };
	static struct frame f[N];
	for (unsigned i = 0; i < N; i++)
		f[i] = udp(T0 + i, i, i, 2, 2, 0, 10);
	char *path[] = {save("n1.pcap", f, N), save("n2.pcap", f, N)};
	static const char *const split[] = {"file", "gap=1ns"};
	for (int k = 0; k < 4; k++) {
		struct nssm_reader_cfg cfg = {.path = (const char *const *)path,
		        .n_paths = 2,
		        .merge = (k & 1) != 0,
		        .filter = "udp",
		        .pad = true,
		        .n_shards = 4};
		struct nssm_err err;
		assert_int_equal(nssm_split_parse(&cfg.split, split[k / 2], &err), 0);
		int before = n_allocs;
		struct nssm_reader *r = open_ok(&cfg);
		struct nssm_read_pkt p;
		assert_int_equal(nssm_reader_next(r, &p, &err), 1);
		assert_true(n_allocs > before);
		/* Merged, the second file's session table comes with its first packet. */
		assert_int_equal(nssm_reader_next(r, &p, &err), 1);
		for (uint32_t i = 0; i < 8; i++)
			assert_int_equal(nssm_reader_next(r, &p, &err), 1);
		before = n_allocs;
		for (int i = 0; i < N - 20; i++)
			assert_int_equal(nssm_reader_next(r, &p, &err), 1);
		assert_int_equal(n_allocs, before);
		nssm_reader_close(&r);
	}
	free(path[0]);
	free(path[1]);
}

/* Each allocation fails in turn: an error that says so, and nothing is left behind (a sanitizer looks). */
static void no_memory(void **state)
{
	const struct frame f[] = {udp(T0, 1, 1, 2, 2, 0, 10), udp(T0 + 9, 3, 1, 2, 2, 0, 10)};
	char *path[] = {save("o1.pcap", f, 2), save("o2.pcap", f, 2)};
	scratch_write(scratch("o.csv"), "File,Label\no1.pcap,a\no2.pcap,b\n", 31);
	struct nssm_reader_cfg cfg = {.path = (const char *const *)path,
	        .n_paths = 2,
	        .filter = "udp",
	        .pad = true,
	        .labels_csv = scratch("o.csv"),
	        .keep_going = true};
	struct nssm_err err;
	assert_int_equal(nssm_split_parse(&cfg.split, "client", &err), 0);
	for (int merge = 0; merge < 2; merge++) {
		cfg.merge = merge != 0;
		int k = 1;
		for (bool failed = true; failed; k++) {
			n_allocs = 0;
			fail_at = k;
			struct nssm_reader *r;
			struct nssm_read_pkt p;
			int rc = nssm_reader_open(&r, &cfg, &err);
			while (rc == 0 && (rc = nssm_reader_next(r, &p, &err)) == 1)
				rc = 0;
			failed = n_allocs >= k;
			fail_at = 0;
			nssm_reader_close(&r);
			assert_true(failed ? rc == NSSM_ENOMEM : rc == 0);
		}
		assert_true(k > 10);
	}
	free(path[0]);
	free(path[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(in_sequence),
	        cmocka_unit_test(time_back),
	        cmocka_unit_test(merged),
	        cmocka_unit_test(by_gap_and_client),
	        cmocka_unit_test(shards),
	        cmocka_unit_test(filtered),
	        cmocka_unit_test(mtu),
	        cmocka_unit_test(made_whole),
	        cmocka_unit_test(limit),
	        cmocka_unit_test(labelled),
	        cmocka_unit_test(broken),
	        cmocka_unit_test(not_there),
	        cmocka_unit_test(pipes),
	        cmocka_unit_test(nothing_allocated_a_packet),
	        cmocka_unit_test(no_memory),
	};
	return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}
