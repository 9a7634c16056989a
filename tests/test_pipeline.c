/* Whole runs with their threads: captures and a scripted model into files and streams; ends of all kinds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/measure.h"
#include "replay/capture.h"
#include "replay/pipeline.h"
#include "tests/scratch.h"
#include "tests/scripted_model.h"

/* --- captures ------------------------------------------------------------------------------------------------- */

static glob_t samples;

static int setup(void **state)
{
	scripted_card();
	return scratch_open(state);
}

/* Nothing hangs. */
static int set_alarm(void **state)
{
	alarm(200);
	return 0;
}

static int teardown(void **state)
{
	globfree(&samples);
	return scratch_close(state);
}

static void find_samples(void)
{
	if (samples.gl_pathc == 0 && (glob("../samples/*.pcap.gz", 0, NULL, &samples) != 0 || samples.gl_pathc < 4))
		fail_msg("samples/ is not beside the working folder");
}

/* What pcap files say of packets, one line of a checksum each. */
struct packet {
	uint64_t ts_ns, sum;
	uint32_t caplen, wirelen;
};

struct packets {
	struct packet *p;
	size_t n, cap;
};

static uint64_t sum_of(const uint8_t *b, uint32_t n)
{
	uint64_t h = 1469598103934665603u; /* FNV-1a */
	for (uint32_t i = 0; i < n; i++)
		h = (h ^ b[i]) * 1099511628211u;
	return h;
}

static void read_packets(struct packets *all, const char *path)
{
	struct nssm_err err = {0};
	struct nssm_capture *c;
	struct nssm_pkt pkt;
	if (nssm_capture_open(&c, path, &err) != 0)
		fail_msg("%s", err.msg);
	int rc;
	while ((rc = nssm_capture_next(c, &pkt, &err)) == 1) {
		if (all->n == all->cap) {
			all->cap = all->cap == 0 ? 1024 : 2 * all->cap;
			all->p = realloc(all->p, all->cap * sizeof *all->p);
		}
		all->p[all->n++] = (struct packet){pkt.ts_ns, sum_of(pkt.data, pkt.caplen), pkt.caplen, pkt.wirelen};
	}
	if (rc != 0)
		fail_msg("%s: %s", path, err.msg);
	nssm_capture_close(&c);
}

static void drop_packets(struct packets *p)
{
	free(p->p);
	*p = (struct packets){0};
}

static struct nssm_pipeline_cfg base_cfg(void)
{
	return (struct nssm_pipeline_cfg){.seed = 5,
		.n_plays = 1,
		.n_loops = 1,
		.loop_gap_ns = -1,
		.rate = {.kind = NSSM_RATE_SPEED, .num = 1, .den = 1},
		.clone = {.endpoints_max = 8, .sockets_max = 64, .servers_max = 8, .port_lo = 1024, .port_hi = 65535},
		.epoch_ns = 1000};
}

static void rewrite(struct nssm_pipeline_cfg *cfg, const char *clients, const char *servers)
{
	struct nssm_err err = {0};
	cfg->clone.rewrite = true;
	if (nssm_pool_add(&cfg->clone.clients[0], clients, &err) != 0 || nssm_pool_add(&cfg->clone.servers[0], servers, &err) != 0 ||
		nssm_pool_add(&cfg->clone.clients[1], "2001:db8:1::/64", &err) != 0 ||
		nssm_pool_add(&cfg->clone.servers[1], "2001:db8:2::/64", &err) != 0)
		fail_msg("%s", err.msg);
}

/* Who looks on sees books that never have more going out than came in. */
static void look_on(void *ctx)
{
	struct nssm_stats s;
	nssm_pipeline_stats(ctx, &s);
	assert_true(s.all.sent + nssm_dropped(&s.all) <= s.all.made + NSSM_BURST);
}

/* Opens, runs, checks what holds at every end, closes. */
static int run_with(const struct nssm_pipeline_cfg *cfg, struct nssm_stats *s, struct nssm_err *err)
{
	struct nssm_pipeline *p = NULL;
	int rc = nssm_pipeline_open(&p, cfg, err);
	if (rc != 0) {
		assert_null(p);
		return rc;
	}
	rc = nssm_pipeline_run(p, look_on, p, err);
	nssm_pipeline_stats(p, s);
	assert_int_equal(s->all.made, s->all.sent + nssm_dropped(&s->all));
	assert_true(s->all.session_packets <= s->all.made);
	assert_int_equal(s->src.done, true);
	/* Whatever was read of captures that play once is accounted for. */
	if (cfg->reader != NULL && cfg->mode == NSSM_PLAY_ONCE)
		assert_int_equal(s->src.packets, s->all.session_packets + s->all.left);
	uint64_t sent = 0;
	for (uint32_t l = 0; l < nssm_pipeline_n_labels(p); l++) {
		struct nssm_label_stats ls;
		nssm_pipeline_label_stats(p, l, &ls);
		sent += ls.sent;
	}
	assert_true(s->all.dropped[NSSM_DROP_ERROR] > 0 || s->all.dropped[NSSM_DROP_NO_READER] > 0 || sent == s->all.sent);
	nssm_pipeline_close(&p);
	return rc;
}

static void run_well(const struct nssm_pipeline_cfg *cfg, struct nssm_stats *s)
{
	struct nssm_err err = {0};
	if (run_with(cfg, s, &err) != 0)
		fail_msg("%s", err.msg);
}

/* Packet for packet what the capture has, at the same distances from the first. */
static void same_packets(const struct packets *in, const struct packets *out, uint64_t epoch_ns)
{
	assert_int_equal(out->n, in->n);
	uint64_t before = 0;
	for (size_t i = 0; i < in->n; i++) {
		uint64_t t = in->p[i].ts_ns - in->p[0].ts_ns;
		before = t < before ? before : t; /* a stamp that goes back is raised */
		assert_int_equal(out->p[i].ts_ns - epoch_ns, before);
		assert_int_equal(out->p[i].sum, in->p[i].sum);
		assert_int_equal(out->p[i].wirelen, in->p[i].wirelen);
	}
}

static void captures_as_they_are(void **state)
{
	find_samples();
	for (size_t i = 0; i < samples.gl_pathc; i += 7) {
		const char *path[1] = {samples.gl_pathv[i]};
		const struct nssm_reader_cfg reader = {.path = path, .n_paths = 1};
		struct nssm_pipeline_cfg cfg = base_cfg();
		struct nssm_stats s;
		cfg.reader = &reader;
		cfg.pcap_out = scratch("out.pcap");
		cfg.truth = scratch("truth.csv");
		run_well(&cfg, &s);
		struct packets in = {0}, out = {0};
		read_packets(&in, path[0]);
		read_packets(&out, cfg.pcap_out);
		same_packets(&in, &out, 1000);
		assert_int_equal(s.all.sent, in.n);
		assert_int_equal(s.all.left, 0);
		drop_packets(&in);
		drop_packets(&out);
	}
}

/* One after the other; merged by time; cut into sessions: the same packets. */
static void captures_together(void **state)
{
	find_samples();
	struct packets in = {0}, out = {0};
	const char *path[4];
	for (size_t i = 0; i < 4; i++)
		read_packets(&in, path[i] = samples.gl_pathv[i * (samples.gl_pathc / 4)]);
	for (int how = 0; how < 4; how++) {
		const struct nssm_reader_cfg reader = {
			.path = path, .n_paths = 4, .merge = how == 1, .split = {.kind = how == 2 ? NSSM_SPLIT_CLIENT : NSSM_SPLIT_FILE, .flows_max = 1000, .clients_max = 1000}};
		struct nssm_pipeline_cfg cfg = base_cfg();
		struct nssm_stats s;
		cfg.reader = &reader;
		cfg.pcap_out = scratch("out.pcap");
		cfg.preload = how == 3;
		run_well(&cfg, &s);
		read_packets(&out, cfg.pcap_out);
		assert_int_equal(out.n, s.src.packets);
		/* What has no IP address is no client's. */
		assert_true(how == 2 ? out.n > in.n * 9 / 10 : out.n == in.n);
		uint64_t a = 0, b = 0;
		for (size_t i = 0; i < out.n; i++) {
			a += in.p[i].sum;
			b += out.p[i].sum;
			assert_true(i == 0 || out.p[i].ts_ns >= out.p[i - 1].ts_ns);
			if (how == 0 || how == 3)
				assert_int_equal(out.p[i].sum, in.p[i].sum);
		}
		assert_true(how == 2 || a == b);
		drop_packets(&out);
	}
	drop_packets(&in);
}

/* --- a model -------------------------------------------------------------------------------------------------- */

enum way { ONCE, CLONES, CLONES_FEW_PLAYS, CLONES_FEW_SLOTS, RATE, CONCURRENCY, CONCURRENCY_SMALL_BANK, N_WAYS };

static struct nssm_pipeline_cfg model_cfg(enum way way, const struct nssm_generator_cfg *gen)
{
	struct nssm_pipeline_cfg cfg = base_cfg();
	cfg.card = &card;
	cfg.gen = gen;
	cfg.seed = gen->seed;
	cfg.fill = NSSM_FILL_RANDOM;
	cfg.plays_max = 4096;
	if (way != ONCE)
		rewrite(&cfg, way == CLONES_FEW_SLOTS ? "198.18.0.1/32" : "198.18.0.0/16", "198.19.0.0/16");
	if (way >= CLONES && way <= CLONES_FEW_SLOTS) {
		cfg.mode = NSSM_PLAY_COUNT;
		cfg.n_plays = 5;
		cfg.plays_max = way == CLONES_FEW_PLAYS ? 200 : 4096;
		cfg.clone.sockets_max = way == CLONES_FEW_SLOTS ? 2048 : 64;
		cfg.clone.endpoints_max = way == CLONES_FEW_SLOTS ? 1 : 8;
	} else if (way == RATE) {
		cfg.mode = NSSM_PLAY_RATE;
		cfg.flows_per_s = 500;
		cfg.duration_ns = 1500000000;
	} else if (way >= CONCURRENCY) {
		cfg.mode = NSSM_PLAY_CONCURRENCY;
		cfg.n_plays = 7;
		cfg.max_packets = 5000;
		cfg.arena_bytes = way == CONCURRENCY_SMALL_BANK ? 20000 : 0;
	}
	return cfg;
}

/* Same seed, same bytes: whatever the lanes, the threads and how fast they are, and what the sessions become. */
static void any_lanes_any_threads(void **state)
{
	static const int lanes[] = {1, 3, 16, 16}, threads[] = {1, 1, 1, 2};
	for (enum way way = ONCE; way < N_WAYS; way++) {
		char *first[2] = {NULL, NULL};
		size_t n_first[2] = {0, 0};
		for (int i = 0; i < 4; i++) {
			struct nssm_generator_cfg gen = scripted_gen(60, lanes[i], threads[i]);
			struct nssm_pipeline_cfg cfg = model_cfg(way, &gen);
			struct nssm_stats s;
			gen.n_mix = way >= CONCURRENCY ? 1 : 2; /* sessions of no duration are replaced at once, for ever */
			cfg.pcap_out = scratch("model.pcap");
			cfg.truth = scratch("model.csv");
			run_well(&cfg, &s);
			assert_int_equal(s.all.sent, s.all.made);
			if (way <= CLONES_FEW_SLOTS) {
				assert_int_equal(s.all.session_packets, s.src.packets);
				assert_int_equal(s.all.sent, (way == ONCE ? 1 : 5) * s.src.packets);
				assert_int_equal(s.all.clones_begun, way == ONCE ? 0 : 240);
				assert_int_equal(s.all.clones_done, s.all.clones_begun);
				assert_int_equal(s.all.left, 0);
			}
			assert_true(way != CONCURRENCY_SMALL_BANK || s.all.bank_evicted > 0);
			assert_true(way < RATE || s.all.clones_begun > 10);
			for (int k = 0; k < 2; k++) {
				size_t n;
				char *data = scratch_read(k == 0 ? cfg.pcap_out : cfg.truth, &n);
				assert_non_null(data);
				if (i == 0) {
					first[k] = data;
					n_first[k] = n;
					continue;
				}
				if (n != n_first[k] || memcmp(data, first[k], n) != 0)
					fail_msg("way %d, %s: %d lanes and %d threads give other bytes", way, k == 0 ? "pcap" : "truth",
						lanes[i], threads[i]);
				free(data);
			}
		}
		free(first[0]);
		free(first[1]);
	}
}

/* Rows add up to what was sent, in packets and bytes. */
static void truth_adds_up(void **state)
{
	const struct nssm_generator_cfg gen = scripted_gen(60, 8, 2);
	struct nssm_pipeline_cfg cfg = model_cfg(CLONES, &gen);
	struct nssm_stats s;
	cfg.pcap_out = scratch("t.pcap");
	cfg.truth = scratch("t.csv");
	run_well(&cfg, &s);
	size_t n;
	char *text = scratch_read(cfg.truth, &n), *save = NULL;
	uint64_t packets = 0, bytes = 0, rows = 0;
	for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		char *p = line;
		for (int comma = 0; comma < 13; comma++)
			p = strchr(p, ',') + 1;
		unsigned long long v[5];
		if (sscanf(p, "%llu,%llu,%llu,%llu,%llu,complete", &v[0], &v[1], &v[2], &v[3], &v[4]) != 5)
			continue; /* the head */
		packets += v[0] + v[1];
		bytes += v[2] + v[3];
		rows++;
	}
	free(text);
	assert_int_equal(packets, s.all.sent);
	assert_int_equal(bytes, s.all.sent_bytes);
	assert_int_equal(rows, s.all.flows_begun);
}

/* --- ends ----------------------------------------------------------------------------------------------------- */

struct stopper {
	struct nssm_pipeline *volatile *p;
	uint64_t after_ns[2]; /* first stage, second; 0: not that */
	atomic_bool over;
};

static void nap(uint64_t ns)
{
	nanosleep(&(struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)}, NULL);
}

static void *stop_after(void *ctx)
{
	struct stopper *s = ctx;
	for (int stage = 0; stage < 2; stage++) {
		if (s->after_ns[stage] == 0)
			continue;
		nap(s->after_ns[stage]);
		if (!atomic_load(&s->over))
			nssm_pipeline_stop(*s->p, stage == 1);
	}
	return NULL;
}

/* A run that another thread stops. */
static int run_stopped(const struct nssm_pipeline_cfg *cfg, uint64_t first_ns, uint64_t second_ns, struct nssm_stats *s)
{
	struct nssm_err err = {0};
	struct nssm_pipeline *p;
	if (nssm_pipeline_open(&p, cfg, &err) != 0)
		fail_msg("%s", err.msg);
	struct stopper stopper = {.p = (struct nssm_pipeline *volatile *)&p, .after_ns = {first_ns, second_ns}};
	pthread_t t;
	assert_int_equal(pthread_create(&t, NULL, stop_after, &stopper), 0);
	int rc = nssm_pipeline_run(p, look_on, p, &err);
	atomic_store(&stopper.over, true);
	pthread_join(t, NULL);
	nssm_pipeline_stats(p, s);
	assert_int_equal(s->all.made, s->all.sent + nssm_dropped(&s->all));
	if (cfg->reader != NULL && cfg->mode == NSSM_PLAY_ONCE)
		assert_int_equal(s->src.packets, s->all.session_packets + s->all.left);
	nssm_pipeline_close(&p);
	return rc;
}

static uint64_t random_ns(struct nssm_rng *rng, uint32_t below_us)
{
	return 1000ull * (1 + nssm_rng_below(rng, below_us));
}

/* At any moment, gently and at once: the run ends, files are whole, nothing is lost from the books. */
static void stopped_at_any_time(void **state)
{
	find_samples();
	struct nssm_rng rng;
	nssm_rng_init(&rng, 17, 0, NSSM_RNG_SAMPLE);
	const char *path[3] = {samples.gl_pathv[0], samples.gl_pathv[1], samples.gl_pathv[2]};
	const struct nssm_reader_cfg reader = {.path = path, .n_paths = 3, .split = {.kind = NSSM_SPLIT_CLIENT, .flows_max = 1000, .clients_max = 1000}};
	for (int i = 0; i < 36; i++) {
		const struct nssm_generator_cfg gen = scripted_gen(UINT64_MAX, 1 + i % 9, 1 + i % 2);
		struct nssm_pipeline_cfg cfg = i % 3 == 2 ? base_cfg() : model_cfg((enum way)(i / 3 % 4), &gen);
		if (i % 3 == 2) {
			cfg.reader = &reader;
			cfg.n_loops = 0;
			cfg.max_packets = UINT64_MAX; /* a file's loops want an end */
			cfg.mode = i % 2 == 0 ? NSSM_PLAY_ONCE : NSSM_PLAY_COUNT;
			cfg.n_plays = 3;
		}
		cfg.pcap_out = scratch("stopped.pcap");
		cfg.truth = scratch("stopped.csv");
		unlink(cfg.pcap_out);
		struct nssm_stats s;
		uint64_t first = i % 4 == 3 ? 0 : random_ns(&rng, 60000), second = i % 4 == 0 ? 0 : random_ns(&rng, 30000);
		int rc = run_stopped(&cfg, first, second, &s);
		assert_int_equal(rc, NSSM_EINTR);
		struct packets out = {0};
		read_packets(&out, cfg.pcap_out);
		assert_int_equal(out.n, s.all.sent);
		/* Gently: what a model began is there to its end. */
		if (second == 0 && cfg.card != NULL && cfg.mode == NSSM_PLAY_ONCE)
			assert_int_equal(s.all.sent, s.src.packets);
		drop_packets(&out);
	}
}

static void make_whole(void)
{
	find_samples();
	const char *path[1] = {samples.gl_pathv[3]};
	const struct nssm_reader_cfg reader = {.path = path, .n_paths = 1};
	struct nssm_pipeline_cfg cfg = base_cfg();
	struct nssm_stats s;
	cfg.reader = &reader;
	cfg.pcap_out = scratch("whole.pcap");
	run_well(&cfg, &s);
}

/* A capture that breaks in its midst is written as far as it goes. */
static void broken_source(void **state)
{
	make_whole();
	struct packets whole = {0}, out = {0};
	size_t n;
	struct nssm_stats s;
	read_packets(&whole, scratch("whole.pcap"));
	char *data = scratch_read(scratch("whole.pcap"), &n);
	scratch_write(scratch("cut.pcap"), data, n - 7);
	free(data);
	const char *path[2] = {scratch("cut.pcap"), samples.gl_pathv[4]};
	const struct nssm_reader_cfg reader = {.path = path, .n_paths = 2};
	struct nssm_pipeline_cfg cfg = base_cfg();
	cfg.reader = &reader;
	cfg.pcap_out = scratch("out.pcap");
	struct nssm_err err = {0};
	assert_int_equal(run_with(&cfg, &s, &err), NSSM_EFORMAT);
	assert_non_null(strstr(err.msg, "cut.pcap"));
	read_packets(&out, cfg.pcap_out);
	whole.n--;
	same_packets(&whole, &out, 1000);
	/* Kept: nothing of it is played, and the file that was there stays. */
	cfg.mode = NSSM_PLAY_COUNT;
	cfg.n_plays = 3;
	scratch_write(scratch("out.pcap"), "old", 3);
	assert_int_equal(run_with(&cfg, &s, &err), NSSM_EFORMAT);
	assert_int_equal(s.all.sent, 0);
	data = scratch_read(scratch("out.pcap"), &n);
	assert_int_equal(n, 3);
	free(data);
	drop_packets(&whole);
	drop_packets(&out);
}

/* A model that breaks leaves sessions without an end: the run ends all the same, and no file. */
static void broken_model(void **state)
{
	for (enum way way = ONCE; way < N_WAYS; way++) {
		const struct nssm_generator_cfg gen = scripted_gen(1000, 8, 2);
		struct nssm_pipeline_cfg cfg = model_cfg(way, &gen);
		struct nssm_stats s;
		struct nssm_err err = {0};
		cfg.max_packets = 0;
		cfg.duration_ns = way >= RATE ? 3600000000000 : 0;
		cfg.pcap_out = scratch("nan.pcap");
		model_nan_after = 40000;
		assert_int_equal(run_with(&cfg, &s, &err), NSSM_ENUM);
		model_nan_after = 0;
		assert_non_null(strstr(err.msg, "NaN"));
		assert_int_equal(access(cfg.pcap_out, F_OK), -1);
		/* The step that resets the count. */
		float logits[272], lane[512] = {0}, *st = lane, scratch_f[1];
		uint16_t token = card.vocab.label[0].id;
		nssm_mamba2_step(logits, &st, &token, NULL, 1, NULL, scratch_f);
	}
}

static void broken_output(void **state)
{
	const struct nssm_generator_cfg gen = scripted_gen(100000, 8, 1);
	struct nssm_pipeline_cfg cfg = model_cfg(ONCE, &gen);
	struct nssm_stats s;
	struct nssm_err err = {0};
	cfg.pcap_out = "/dev/full";
	assert_int_equal(run_with(&cfg, &s, &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "/dev/full"));
	assert_int_equal(s.all.sent, 0);
	/* A file that may not grow. */
	struct rlimit before, small;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = 200000;
	void (*was)(int) = signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	cfg.pcap_out = scratch("small.pcap");
	cfg.arena_bytes = 64 << 20; /* no spill */
	int rc = run_with(&cfg, &s, &err);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, was);
	assert_int_equal(rc, NSSM_EIO);
	assert_int_equal(s.all.sent, 0);
	assert_int_equal(access(cfg.pcap_out, F_OK), -1);
}

static void limits(void **state)
{
	const struct nssm_generator_cfg gen = scripted_gen(UINT64_MAX, 8, 2);
	for (int by_time = 0; by_time < 2; by_time++) {
		struct nssm_pipeline_cfg cfg = model_cfg(ONCE, &gen);
		struct nssm_stats s;
		struct packets out = {0};
		cfg.pcap_out = scratch("limit.pcap");
		cfg.max_packets = by_time ? 0 : 777;
		cfg.duration_ns = by_time ? 500000000 : 0;
		run_well(&cfg, &s);
		read_packets(&out, cfg.pcap_out);
		assert_int_equal(out.n, s.all.sent);
		assert_true(by_time ? out.n > 100 : out.n == 777);
		assert_true(out.p[out.n - 1].ts_ns < 1000 + (by_time ? 500000000u : UINT64_MAX / 2));
		assert_true(s.all.left > 0);
		drop_packets(&out);
	}
}

static void wrong_options(void **state)
{
	find_samples();
	const char *path[1] = {samples.gl_pathv[0]};
	const struct nssm_reader_cfg reader = {.path = path, .n_paths = 1};
	const struct nssm_generator_cfg gen = scripted_gen(10, 2, 1);
	struct nssm_stats s;
	struct nssm_pipeline_cfg cfg = base_cfg();
	struct nssm_err err = {0};
	cfg.reader = &reader;
	assert_int_equal(run_with(&cfg, &s, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "nowhere"));
	cfg.pcap_out = scratch("never.pcap");
	cfg.n_loops = 0;
	assert_int_equal(run_with(&cfg, &s, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "--duration"));
	cfg = model_cfg(CONCURRENCY, &gen);
	cfg.pcap_out = scratch("never.pcap");
	cfg.n_plays = 100000;
	cfg.plays_max = 0;
	cfg.clone.endpoints_max = 1000;
	assert_int_equal(run_with(&cfg, &s, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "--clients"));
	assert_int_equal(access(cfg.pcap_out, F_OK), -1);
}

/* More sessions at a time than there is room for: an error, not a wait for ever. */
static void no_room(void **state)
{
	struct nssm_generator_cfg gen = scripted_gen(300, 4, 1);
	struct nssm_pipeline_cfg cfg = model_cfg(ONCE, &gen);
	struct nssm_stats s;
	struct nssm_err err = {0};
	gen.sessions_per_s = 0; /* all at time 0: nothing goes out before the last one has begun */
	cfg.pcap_out = scratch("never.pcap");
	cfg.plays_max = 100;
	assert_int_equal(run_with(&cfg, &s, &err), NSSM_ERANGE);
	assert_non_null(strstr(err.msg, "no room"));
	assert_int_equal(access(cfg.pcap_out, F_OK), -1);
}

/* --- live ------------------------------------------------------------------------------------------------------ */

struct fifo_reader {
	const char *path;
	uint64_t bytes, last_ns;
	bool stalls; /* opens it and reads nothing */
	atomic_bool stop;
};

static void *read_fifo(void *ctx)
{
	struct fifo_reader *r = ctx;
	int fd;
	while ((fd = open(r->path, O_RDONLY | O_NONBLOCK)) < 0)
		nap(1000000);
	char buf[65536];
	while (!atomic_load(&r->stop)) {
		ssize_t n = r->stalls ? -1 : read(fd, buf, sizeof buf);
		if (n > 0) {
			r->bytes += (uint64_t)n;
			r->last_ns = nssm_now_ns();
		} else if (n == 0 && r->bytes > 0) {
			break;
		} else {
			nap(500000);
		}
	}
	close(fd);
	return NULL;
}

/* Ten times as fast, by the wall clock. */
static void live_at_ten_times(void **state)
{
	find_samples();
	struct packets in = {0};
	const char *path[1] = {samples.gl_pathv[0]};
	uint64_t span = 0;
	for (size_t i = 0; i < samples.gl_pathc && !(span > 2000000000u && span < 40000000000u); i++) {
		drop_packets(&in);
		read_packets(&in, path[0] = samples.gl_pathv[i]);
		span = in.p[in.n - 1].ts_ns - in.p[0].ts_ns;
	}
	const struct nssm_reader_cfg reader = {.path = path, .n_paths = 1};
	struct nssm_pipeline_cfg cfg = base_cfg();
	struct fifo_reader r = {.path = scratch("live.fifo")};
	struct nssm_stats s;
	struct nssm_err err = {0};
	cfg.reader = &reader;
	cfg.fifo = r.path;
	cfg.truth = scratch("live.csv");
	cfg.rate.num = 10;
	cfg.wait_for_reader = true;
	pthread_t t;
	assert_int_equal(pthread_create(&t, NULL, read_fifo, &r), 0);
	uint64_t before = nssm_now_ns();
	if (run_with(&cfg, &s, &err) != 0)
		fail_msg("%s", err.msg);
	uint64_t took = nssm_now_ns() - before;
	atomic_store(&r.stop, true);
	pthread_join(t, NULL);
	uint64_t want = 24;
	for (size_t i = 0; i < in.n; i++)
		want += 16 + in.p[i].caplen;
	assert_int_equal(r.bytes, want);
	assert_int_equal(s.all.sent, in.n);
	/* Not before its time; how long after it is the machine's business. */
	assert_true(took >= span / 10);
	assert_true(s.elapsed_s >= (double)(span / 10) / 1e9);
	drop_packets(&in);
}

/* A live model with a slow step, an early end of patience: both stages, rates and pauses in between. */
static void live_steered(void **state)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 23, 0, NSSM_RNG_SAMPLE);
	for (int i = 0; i < 12; i++) {
		struct nssm_generator_cfg gen = scripted_gen(UINT64_MAX, 6, 2);
		struct nssm_pipeline_cfg cfg = model_cfg((enum way[]){ONCE, CLONES, RATE, CONCURRENCY}[i % 4], &gen);
		struct fifo_reader r = {.path = scratch("steer.fifo"), .stalls = i % 3 == 2};
		gen.n_parked_max = i % 2 * 6;
		cfg.fifo = r.path;
		cfg.duration_ns = cfg.max_packets = 0;
		cfg.lead_packets = i % 5 == 0 ? 8 : 0;
		cfg.truth = scratch("steer.csv");
		model_slow_ns = i % 2 == 0 ? 20000 : 0;
		pthread_t t, stopping;
		assert_int_equal(pthread_create(&t, NULL, read_fifo, &r), 0);
		struct nssm_err err = {0};
		struct nssm_pipeline *p;
		if (nssm_pipeline_open(&p, &cfg, &err) != 0)
			fail_msg("%s", err.msg);
		struct stopper stopper = {.p = (struct nssm_pipeline *volatile *)&p,
			.after_ns = {100000000 + random_ns(&rng, 200000), i % 2 == 0 ? 0 : random_ns(&rng, 20000)}};
		struct nssm_rate rate = {.kind = NSSM_RATE_PPS, .num = 20000, .den = 1}, wrong = {.kind = NSSM_RATE_PERCENT, .num = 1, .den = 2};
		if (i % 3 == 0)
			assert_int_equal(nssm_pipeline_pause(p, true, &err), 0);
		assert_int_equal(pthread_create(&stopping, NULL, stop_after, &stopper), 0);
		if (i % 3 == 1)
			assert_int_equal(nssm_pipeline_set_rate(p, &rate, &err), 0);
		assert_int_equal(nssm_pipeline_set_rate(p, &wrong, &err), NSSM_EARG);
		assert_int_equal(nssm_pipeline_run(p, look_on, p, &err), NSSM_EINTR);
		atomic_store(&stopper.over, true);
		pthread_join(stopping, NULL);
		struct nssm_stats s;
		nssm_pipeline_stats(p, &s);
		assert_int_equal(s.all.made, s.all.sent + nssm_dropped(&s.all));
		assert_true(i % 3 != 0 || s.all.made == 0); /* it was paused all the time */
		nssm_pipeline_close(&p);
		atomic_store(&r.stop, true);
		pthread_join(t, NULL);
		model_slow_ns = 0;
	}
}

/* A pipe that never gives anything holds up no stop, and none that gives some the packets that it gave. */
static void silent_pipe(void **state)
{
	make_whole();
	for (int some = 0; some < 2; some++) {
		const char *fifo = scratch("in.fifo");
		unlink(fifo);
		assert_int_equal(mkfifo(fifo, 0600), 0);
		int fd = open(fifo, O_RDWR); /* a writer that stays */
		assert_true(fd >= 0);
		if (some) {
			size_t n;
			char *data = scratch_read(scratch("whole.pcap"), &n);
			assert_non_null(data);
			assert_true(write(fd, data, 4000) == 4000);
			free(data);
		}
		const struct nssm_reader_cfg reader = {.path = &fifo, .n_paths = 1};
		struct nssm_pipeline_cfg cfg = base_cfg();
		struct nssm_stats s;
		cfg.reader = &reader;
		cfg.pcap_out = scratch("some.pcap");
		cfg.rate.kind = NSSM_RATE_TOP;
		uint64_t before = nssm_now_ns();
		assert_int_equal(run_stopped(&cfg, 300000000, 0, &s), NSSM_EINTR);
		assert_true(nssm_now_ns() - before < 10000000000u);
		assert_true(some ? s.src.packets > 5 : s.src.packets == 0);
		close(fd);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup(captures_as_they_are, set_alarm),
	        cmocka_unit_test_setup(captures_together, set_alarm),
	        cmocka_unit_test_setup(any_lanes_any_threads, set_alarm),
	        cmocka_unit_test_setup(truth_adds_up, set_alarm),
	        cmocka_unit_test_setup(stopped_at_any_time, set_alarm),
	        cmocka_unit_test_setup(broken_source, set_alarm),
	        cmocka_unit_test_setup(broken_model, set_alarm),
	        cmocka_unit_test_setup(broken_output, set_alarm),
	        cmocka_unit_test_setup(limits, set_alarm),
	        cmocka_unit_test_setup(wrong_options, set_alarm),
	        cmocka_unit_test_setup(no_room, set_alarm),
	        cmocka_unit_test_setup(live_at_ten_times, set_alarm),
	        cmocka_unit_test_setup(live_steered, set_alarm),
	        cmocka_unit_test_setup(silent_pipe, set_alarm),
	};
	cmocka_set_test_filter(getenv("TEST_FILTER"));
	return cmocka_run_group_tests(tests, setup, teardown);
}
