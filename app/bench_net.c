#include "app/bench_net.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "app/progress.h"
#include "base/measure.h"
#include "base/philox.h"
#include "replay/capture.h"
#include "replay/pipeline.h"

#define RUNS        5
#define RUN_S       1.0
#define BURST       NSSM_BURST
#define TEMPLATES   20000u
#define MIX_PACKETS 1000u
#define FRAME_MAX   1518u
#define PACE_PPS    100000.0
#define WINDOWS_MAX 1024

/* What a run's process tells. */
struct result {
	double value, extra[5];
};

/* --- packets when no capture is given --- */

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* TCP over IPv4 with random payload, checksums right; a session of ten flows. */
static void make_frame(uint8_t *f, uint32_t len, uint32_t flow, bool back, struct nssm_rng *rng)
{
	nssm_rng_bytes(rng, f, len);
	static const uint8_t macs[2][6] = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}};
	memcpy(f, macs[!back], 6);
	memcpy(f + 6, macs[back], 6);
	put16(f + 12, 0x0800);
	uint8_t *ip = f + 14, *tcp = f + 34;
	static const uint8_t ip_head[10] = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6};
	memcpy(ip, ip_head, sizeof ip_head);
	put16(ip + 2, len - 14);
	put16(ip + 10, 0);
	const uint8_t client[4] = {192, 0, 2, 1}, server[4] = {198, 51, 100, (uint8_t)(1 + flow % 3)};
	memcpy(ip + 12, back ? server : client, 4);
	memcpy(ip + 16, back ? client : server, 4);
	put16(ip + 10, nssm_csum_fold(nssm_csum_add(0, ip, 20)));
	put16(tcp, back ? 443 : 40000 + flow);
	put16(tcp + 2, back ? 40000 + flow : 443);
	tcp[12] = 0x50;
	tcp[13] = 0x10;
	put16(tcp + 16, 0);
	put16(tcp + 18, 0);
	put16(tcp + 16, nssm_csum_l4(ip, 4, 6, tcp, len - 34));
}

/* mean_gap_ns 0: a microsecond each; else exponential. */
static int make_capture(const char *path, uint32_t n, uint32_t fixed_len, double mean_gap_ns, struct nssm_err *err)
{
	static const uint32_t sizes[10] = {66, 66, 66, 1514, 1514, 1514, 1514, 1090, 140, 1514};
	struct nssm_capture_writer *w;
	int rc = nssm_capture_create(&w, path, true, 0, err);
	if (rc != 0)
		return rc;
	struct nssm_rng rng;
	nssm_rng_init(&rng, 1, 0, NSSM_RNG_PAYLOAD);
	uint8_t f[FRAME_MAX];
	uint64_t t = 1000000000;
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		uint32_t len = fixed_len > 0 ? fixed_len : sizes[i % 10];
		make_frame(f, len, i % 10, i % 3 == 0, &rng);
		rc = nssm_capture_write(w, t, f, len, len, err);
		t += mean_gap_ns > 0 ? (uint64_t)(-log(nssm_rng_unit(&rng)) * mean_gap_ns) : 1000;
	}
	if (rc == 0)
		return nssm_capture_commit(&w, err);
	nssm_capture_abort(&w);
	return rc;
}

/* --- runs --- */

typedef int run_fn(struct result *r, void *ctx, struct nssm_err *err);

/* Runs fn in a child. */
static int in_child(struct result *r, run_fn *fn, void *ctx, struct nssm_err *err)
{
	int fd[2], status;
	struct {
		int rc;
		struct nssm_err err;
		struct result r;
	} told = {0};
	if (pipe(fd) != 0)
		return nssm_err_set(err, NSSM_EIO, "bench: no pipe: %s", strerror(errno));
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		close(fd[0]);
		told.rc = fn(&told.r, ctx, &told.err);
		ssize_t n = write(fd[1], &told, sizeof told);
		_exit(n == (ssize_t)sizeof told ? 0 : 1);
	}
	close(fd[1]);
	ssize_t n = pid > 0 ? read(fd[0], &told, sizeof told) : -1;
	close(fd[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || n != (ssize_t)sizeof told || !WIFEXITED(status))
		return nssm_err_set(err, NSSM_EIO, "bench: a run ended without a result");
	*r = told.r;
	if (told.rc != 0 && err != NULL)
		*err = told.err;
	return told.rc;
}

static double load_average(void)
{
	double l[1];
	return getloadavg(l, 1) == 1 ? l[0] : -1;
}

/* --- the loop that only copies and patches: what hardware and driver allow --- */

struct templates {
	uint32_t n;
	uint32_t len[TEMPLATES];
	uint8_t (*data)[FRAME_MAX + 2];
};

static int read_templates(struct templates *t, const char *const *captures, size_t n, struct nssm_err *err)
{
	t->data = calloc(TEMPLATES, sizeof *t->data);
	if (t->data == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "bench: no memory for %u packets", TEMPLATES);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct nssm_capture *c;
		struct nssm_pkt p;
		rc = nssm_capture_open(&c, captures[i], err);
		while (rc == 0 && t->n < TEMPLATES && (rc = nssm_capture_next(c, &p, err)) == 1) {
			rc = 0;
			if (p.caplen > FRAME_MAX || p.caplen < 54)
				continue;
			memcpy(t->data[t->n], p.data, p.caplen);
			t->len[t->n++] = p.caplen;
		}
		rc = rc > 0 ? 0 : rc;
		nssm_capture_close(&c);
	}
	if (rc == 0 && t->n == 0)
		rc = nssm_err_set(err, NSSM_EARG, "bench: no packet of 54 to %u bytes in these captures", FRAME_MAX);
	return rc;
}

/* RFC 1624, equation 3, for a 32-bit field. */
static uint16_t csum_update(uint16_t c, uint32_t old, uint32_t new)
{
	uint32_t s = (uint16_t)~c;
	s += (uint32_t)(uint16_t)~(old & 0xffff) + (uint16_t)~(old >> 16) + (new & 0xffff) + (new >> 16);
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

static uint32_t swap_field(uint8_t *p, uint32_t new)
{
	uint32_t old;
	memcpy(&old, p, 4);
	memcpy(p, &new, 4);
	return old;
}

/* As if every packet were TCP over IPv4 without options: addresses, ports, seq, ack and both checksums. */
static void patch(uint8_t *p, uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	uint32_t src = (uint32_t)*x, dst = (uint32_t)(*x >> 32), fresh[5] = {src, dst, src ^ dst, src + 1, dst + 1};
	static const uint32_t at[5] = {26, 30, 34, 38, 42};
	uint16_t ip_sum, tcp_sum;
	memcpy(&ip_sum, p + 24, 2);
	memcpy(&tcp_sum, p + 50, 2);
	memcpy(p, "\2\0\0\0\0\1\2\0\0\0\0\2", 12);
	for (int i = 0; i < 5; i++) {
		uint32_t old = swap_field(p + at[i], fresh[i]);
		tcp_sum = csum_update(tcp_sum, old, fresh[i]);
		if (i < 2)
			ip_sum = csum_update(ip_sum, old, fresh[i]);
	}
	memcpy(p + 24, &ip_sum, 2);
	memcpy(p + 50, &tcp_sum, 2);
}

static double cpu_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int bare_loop(struct nssm_port *port, struct nssm_frames *frames, const struct templates *t, struct result *r, struct nssm_err *err)
{
	uint64_t x = 88172645463325252u, n = 0, bytes = 0;
	uint32_t k = 0;
	double t0 = nssm_now_s(), c0 = cpu_s(), s;
	do {
		for (int turn = 0; turn < 256; turn++) {
			void *m[BURST];
			uint8_t *data[BURST];
			uint32_t len[BURST];
			for (uint32_t i = 0; i < BURST; i++)
				len[i] = t->len[(k + i) % t->n];
			if (!nssm_frames_get(frames, m, data, len, BURST))
				return nssm_err_set(err, NSSM_ENOMEM, "bench: the frame pool is empty");
			for (uint32_t i = 0; i < BURST; i++, k = k + 1 == t->n ? 0 : k + 1) {
				memcpy(data[i], t->data[k], len[i]);
				patch(data[i], &x);
				nssm_frame_set_len(m[i], len[i]);
				bytes += len[i];
			}
			uint32_t sent = nssm_port_tx(port, 0, m, BURST);
			if (sent < BURST)
				nssm_frames_put(frames, m + sent, BURST - sent);
			n += sent;
		}
		s = nssm_now_s() - t0;
	} while (s < RUN_S);
	r->value = (double)n / (cpu_s() - c0);
	r->extra[0] = (double)bytes / (double)n;
	r->extra[2] = (double)n / s;
	return 0;
}

struct wire {
	const char *const *captures;
	size_t n_captures;
	uint64_t alive;
	const char *out;
};

static int bare(struct result *r, void *ctx, struct nssm_err *err)
{
	const struct wire *w = ctx;
	static struct templates t;
	struct nssm_dev dev;
	struct nssm_port *port = NULL;
	struct nssm_frames *frames = NULL;
	int rc = read_templates(&t, w->captures, w->n_captures, err);
	if (rc == 0)
		rc = nssm_dev_parse(&dev, "null", 0, err);
	if (rc == 0)
		rc = nssm_eal_start(&(struct nssm_eal_cfg){.dev = &dev, .n_dev = 1}, err);
	if (rc == 0)
		rc = nssm_port_open(&port, &dev, &(struct nssm_port_cfg){.n_queues = 1}, err);
	if (rc == 0)
		rc = nssm_frames_open(&frames, 8191, 2048, err);
	if (rc == 0)
		rc = nssm_eal_thread(err);
	return rc != 0 ? rc : bare_loop(port, frames, &t, r, err);
}

/* --- the whole pipeline --- */

static int add_pools(struct nssm_clone_cfg *c, struct nssm_err *err)
{
	/* The ranges for benchmarks (RFC 2544, 5180), and a wide one, so that a million sessions have addresses of their own. */
	int rc = nssm_pool_add(&c->clients[0], "16.0.0.0/8", err);
	if (rc == 0)
		rc = nssm_pool_add(&c->servers[0], "198.18.0.0/15", err);
	if (rc == 0)
		rc = nssm_pool_add(&c->clients[1], "2001:2:0:1::/64", err);
	if (rc == 0)
		rc = nssm_pool_add(&c->servers[1], "2001:2:0:2::/64", err);
	c->rewrite = true;
	c->port_lo = 1024;
	c->port_hi = 65535;
	c->endpoints_max = 8;
	c->sockets_max = 512;
	c->servers_max = 64;
	return rc;
}

static struct nssm_pipeline_cfg base_cfg(const struct nssm_reader_cfg *reader)
{
	return (struct nssm_pipeline_cfg){.reader = reader,
		.source_name = "bench",
		.seed = 1,
		.n_plays = 1,
		.n_loops = 1,
		.loop_gap_ns = -1,
		.rate = {.kind = NSSM_RATE_TOP, .num = 1, .den = 1}};
}

static int run_pipeline(struct nssm_pipeline_cfg *cfg, struct nssm_stats *s, void (*tick)(void *), void *ctx, struct nssm_pipeline **out,
	struct nssm_err *err)
{
	int rc = nssm_pipeline_open(out, cfg, err);
	if (rc == 0)
		rc = nssm_pipeline_run(*out, tick, ctx, err);
	if (rc == 0)
		nssm_pipeline_stats(*out, s);
	if (rc == 0 && s->all.made != s->all.sent + nssm_dropped(&s->all))
		rc = nssm_err_set(err, NSSM_ENUM, "bench: made %llu, sent %llu, dropped %llu: these do not add up",
			(unsigned long long)s->all.made, (unsigned long long)s->all.sent, (unsigned long long)nssm_dropped(&s->all));
	return rc;
}

static int whole(struct result *r, void *ctx, struct nssm_err *err)
{
	const struct wire *w = ctx;
	struct nssm_split_cfg split = {.kind = NSSM_SPLIT_FILE, .flows_max = NSSM_SPLIT_FLOWS_MAX, .clients_max = NSSM_SPLIT_CLIENTS_MAX};
	struct nssm_reader_cfg reader = {.path = w->captures, .n_paths = (uint32_t)w->n_captures, .split = split};
	struct nssm_pipeline_cfg cfg = base_cfg(&reader);
	cfg.mode = NSSM_PLAY_CONCURRENCY;
	cfg.n_plays = w->alive;
	cfg.live.dev[0] = "null";
	cfg.live.mem_mb = 256;
	cfg.duration_ns = (uint64_t)(RUN_S * 1e9);
	struct nssm_stats s;
	struct nssm_pipeline *p;
	/* Top speed has no due times to stop at: the clock does. */
	cfg.max_packets = 0;
	int rc = add_pools(&cfg.clone, err);
	if (rc == 0)
		rc = run_pipeline(&cfg, &s, NULL, NULL, &p, err);
	if (rc != 0)
		return rc;
	r->value = (double)s.all.sent / ((double)s.all.cpu_ns / 1e9);
	r->extra[0] = (double)s.all.sent_bytes / (double)s.all.sent;
	r->extra[2] = (double)s.all.sent / s.elapsed_s;
	r->extra[1] = (double)s.all.clones_alive;
	return 0;
}

static int file_out(struct result *r, void *ctx, struct nssm_err *err)
{
	const struct wire *w = ctx;
	struct nssm_split_cfg split = {.kind = NSSM_SPLIT_FILE, .flows_max = NSSM_SPLIT_FLOWS_MAX, .clients_max = NSSM_SPLIT_CLIENTS_MAX};
	struct nssm_reader_cfg reader = {.path = w->captures, .n_paths = (uint32_t)w->n_captures, .split = split};
	struct nssm_pipeline_cfg cfg = base_cfg(&reader);
	cfg.mode = NSSM_PLAY_CONCURRENCY;
	cfg.n_plays = w->alive;
	cfg.rate = (struct nssm_rate){.kind = NSSM_RATE_SPEED, .num = 1, .den = 1};
	cfg.max_packets = 2000000;
	cfg.pcap_out = w->out;
	struct nssm_stats s;
	struct nssm_pipeline *p;
	struct stat st;
	int rc = add_pools(&cfg.clone, err);
	double t0 = nssm_now_s();
	if (rc == 0)
		rc = run_pipeline(&cfg, &s, NULL, NULL, &p, err);
	double t = nssm_now_s() - t0;
	if (rc == 0 && stat(w->out, &st) != 0)
		rc = nssm_err_set(err, NSSM_EIO, "%s: %s", w->out, strerror(errno));
	unlink(w->out);
	if (rc != 0)
		return rc;
	r->value = (double)st.st_size / t;
	r->extra[0] = (double)s.all.sent / t;
	return 0;
}

/* --- pace --- */

struct windows {
	struct nssm_pipeline *p;
	struct nssm_stats before, now;
	struct nssm_hist quiet; /* lateness in windows that lost little */
	uint32_t n, n_quiet;
	double t;
};

static void window(void *ctx)
{
	struct windows *w = ctx;
	static struct nssm_hist since;
	nssm_pipeline_stats(w->p, &w->now);
	double t = nssm_now_s(), lost = (double)(w->now.all.lost_ns - w->before.all.lost_ns) / 1e9;
	/* An engine that has been off its CPU for the whole window does not know yet. */
	double sent = (double)(w->now.all.sent - w->before.all.sent);
	if (w->before.all.sent > 0) {
		w->n++;
		if (lost < 0.02 * (t - w->t) && sent > 0.9 * PACE_PPS * (t - w->t)) {
			nssm_hist_since(&since, &w->now.all.late, &w->before.all.late);
			nssm_hist_merge(&w->quiet, &since);
			w->n_quiet++;
		}
	}
	w->before = w->now;
	w->t = t;
}

static int pace(struct result *r, void *ctx, struct nssm_err *err)
{
	const struct wire *w = ctx;
	struct nssm_split_cfg split = {.kind = NSSM_SPLIT_FILE, .flows_max = NSSM_SPLIT_FLOWS_MAX, .clients_max = NSSM_SPLIT_CLIENTS_MAX};
	struct nssm_reader_cfg reader = {.path = w->captures, .n_paths = (uint32_t)w->n_captures, .split = split};
	struct nssm_pipeline_cfg cfg = base_cfg(&reader);
	cfg.rate = (struct nssm_rate){.kind = NSSM_RATE_SPEED, .num = 1, .den = 1};
	cfg.mode = NSSM_PLAY_COUNT;
	cfg.n_loops = 0;
	cfg.live.dev[0] = "null";
	cfg.duration_ns = 3000000000u;
	static struct windows win;
	int rc = nssm_pipeline_open(&win.p, &cfg, err);
	if (rc == 0)
		rc = nssm_pipeline_run(win.p, window, &win, err);
	if (rc != 0)
		return rc;
	static struct nssm_stats s;
	nssm_pipeline_stats(win.p, &s);
	r->value = (double)nssm_hist_quantile(&win.quiet, 0.5);
	r->extra[0] = (double)nssm_hist_quantile(&win.quiet, 0.99);
	r->extra[1] = win.n_quiet;
	r->extra[2] = win.n;
	r->extra[3] = (double)nssm_hist_quantile(&s.all.late, 0.99);
	r->extra[4] = (double)s.all.sent / s.elapsed_s;
	return 0;
}

/* --- what is printed --- */

static void print_rate(const char *what, double *v, const char *unit, double base)
{
	char lo[16], mid[16], hi[16];
	double m = nssm_median(v, RUNS);
	printf("%-34s %10s%s   (%s..%s)", what, nssm_human(mid, m), unit, nssm_human(lo, v[0]), nssm_human(hi, v[RUNS - 1]));
	if (base > 0)
		printf("   %.2f of the bare loop", m / base);
	putchar('\n');
	fflush(stdout);
}

/* The captures that are given, or one that is made. */
static int choose(const char **path, char *made, size_t made_bytes, const char *const *captures, size_t n, uint32_t n_packets, uint32_t len,
	double gap_ns, struct wire *w, struct nssm_err *err)
{
	w->captures = captures;
	w->n_captures = n;
	made[0] = '\0';
	if (n > 0)
		return 0;
	const char *tmp = getenv("TMPDIR");
	snprintf(made, made_bytes, "%s/netssm-bench-%ld.pcap", tmp != NULL ? tmp : "/tmp", (long)getpid());
	*path = made;
	w->captures = path;
	w->n_captures = 1;
	return make_capture(made, n_packets, len, gap_ns, err);
}

int nssm_bench_wire(const char *const *captures, size_t n, struct nssm_err *err)
{
	struct wire w = {0};
	const char *path;
	char made[256];
	static const struct {
		const char *what;
		run_fn *fn;
		uint64_t alive;
	} kind[3] = {{"bare loop: copy and patch", bare, 0},
		{"pipeline, 1,000 sessions alive", whole, 1000},
		{"pipeline, 1,000,000 sessions alive", whole, 1000000}};
	double cpu[3][RUNS], wall[3][RUNS], base = 0;
	struct result r = {0};
	int rc = choose(&path, made, sizeof made, captures, n, MIX_PACKETS, 0, 0, &w, err);
	for (int i = 0; rc == 0 && i < RUNS; i++) {
		for (int k = 0; rc == 0 && k < 3; k++) {
			w.alive = kind[k].alive;
			rc = in_child(&r, kind[k].fn, &w, err);
			cpu[k][i] = r.value;
			wall[k][i] = r.extra[2];
		}
	}
	if (made[0] != '\0')
		unlink(made);
	if (rc != 0)
		return rc;
	printf("one lcore into net_null, %d runs each in turn, %.0f bytes a packet, load average %.2f\n"
	       "in a second of the lcore's CPU time (in a second of the clock, with what else runs here)\n",
		RUNS, r.extra[0], load_average());
	for (int k = 0; k < 3; k++) {
		char mid[16];
		double m = nssm_median(wall[k], RUNS);
		print_rate(kind[k].what, cpu[k], "packets", base);
		printf("%34s (%s packets)\n", "", nssm_human(mid, m));
		base = k == 0 ? nssm_median(cpu[0], RUNS) : base;
	}
	return 0;
}

int nssm_bench_pace(struct nssm_err *err)
{
	struct wire w = {0};
	const char *path;
	char made[256];
	int rc = choose(&path, made, sizeof made, NULL, 0, 200000, 128, 1e9 / PACE_PPS, &w, err);
	for (int i = 0; rc == 0 && i < RUNS; i++) {
		struct result r;
		rc = in_child(&r, pace, &w, err);
		if (rc == 0 && r.extra[1] > 0)
			printf("%.1f kpps, exponential gaps: p50 %.0f ns, p99 %.0f ns late in %.0f of %.0f windows with less than 2 %% of the time lost; p99 of all %.0f ns\n",
				r.extra[4] / 1e3, r.value, r.extra[0], r.extra[1], r.extra[2], r.extra[3]);
		else if (rc == 0)
			printf("%.1f kpps, exponential gaps: each of %.0f windows lost 2 %% of the time or more to other work; p99 of all %.0f ns late\n",
				r.extra[4] / 1e3, r.extra[2], r.extra[3]);
		fflush(stdout);
	}
	printf("load average %.2f\n", load_average());
	unlink(made);
	return rc;
}

int nssm_bench_pcap(const char *const *captures, size_t n, const char *dir, struct nssm_err *err)
{
	struct wire w = {.alive = 1000};
	const char *path;
	char made[256], out[300];
	double v[RUNS], pps[RUNS];
	int rc = choose(&path, made, sizeof made, captures, n, MIX_PACKETS, 0, 0, &w, err);
	snprintf(out, sizeof out, "%.200s/netssm-bench-out-%ld.pcap", dir, (long)getpid());
	w.out = out;
	for (int i = 0; rc == 0 && i < RUNS; i++) {
		struct result r;
		rc = in_child(&r, file_out, &w, err);
		v[i] = r.value;
		pps[i] = r.extra[0];
	}
	if (made[0] != '\0')
		unlink(made);
	if (rc != 0)
		return rc;
	printf("clones to a pcap in %s, one lcore, load average %.2f\n", dir, load_average());
	print_rate("bytes", v, "B/s", 0);
	print_rate("packets", pps, "pps", 0);
	return 0;
}
