/* Live ports: DPDK's start, frames, and what goes in at one end comes out at the other. DPDK starts once a process, so each case is
 * a process of its own, whose terminal output is watched: there must be none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/measure.h"
#include "base/philox.h"
#include "replay/port.h"

#define SKIP 77

static int terminal = 2; /* where a case complains: its own stderr is watched */

#define CHECK(ok, ...)                                                                                       \
	do {                                                                                                 \
		if (!(ok)) {                                                                                 \
			dprintf(terminal, "%s:%d: %s: ", __FILE__, __LINE__, #ok);                           \
			dprintf(terminal, " " __VA_ARGS__);                                                  \
			dprintf(terminal, "\n");                                                             \
			_exit(1);                                                                            \
		}                                                                                            \
	} while (0)

/* AddressSanitizer's search for leaks at exit() cannot stop DPDK's threads: it writes to the terminal, or waits for ever. Default
 * options would not keep it away from whom the environment says otherwise to (ASAN_OPTIONS=detect_leaks=1). */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return 1;
}

/* --- running a case --- */

static int wait_for(pid_t pid)
{
	int status;
	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void run_case(void (*fn)(void))
{
	char text[4096] = "";
	FILE *out = tmpfile();
	assert_non_null(out);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		terminal = dup(2);
		dup2(fileno(out), 1);
		dup2(fileno(out), 2);
		alarm(60);
		fn();
		fflush(NULL);
		_exit(0);
	}
	int rc = wait_for(pid);
	rewind(out);
	text[fread(text, 1, sizeof text - 1, out)] = '\0';
	fclose(out);
	if (rc == SKIP)
		skip();
	if (rc != 0)
		fail_msg("exit status %d; it wrote \"%s\"", rc, text);
	assert_string_equal(text, "");
}

#define CASE(name)                                                                                           \
	static void test_##name(void **state)                                                                \
	{                                                                                                    \
		(void)state;                                                                                 \
		run_case(case_##name);                                                                       \
	}

/* A case's own child: ends with it, whatever happens. */
static pid_t fork_child(void)
{
	pid_t parent = getpid(), pid = fork();
	CHECK(pid >= 0);
	if (pid == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent))
		_exit(1);
	return pid;
}

/* --- helpers of the cases --- */

static struct nssm_err err;

static void eal(void)
{
	const struct nssm_eal_cfg cfg = {.mem_mb = 128};
	CHECK(nssm_eal_start(&cfg, &err) == 0, "%s", err.msg);
}

static struct nssm_dev parse(const char *text, int idx)
{
	struct nssm_dev d;
	CHECK(nssm_dev_parse(&d, text, idx, &err) == 0, "%s", err.msg);
	return d;
}

static struct nssm_port *open_port(const char *text, int idx, uint32_t n_queues, uint32_t mtu)
{
	struct nssm_port *p;
	struct nssm_dev d = parse(text, idx);
	const struct nssm_port_cfg cfg = {.n_queues = n_queues, .mtu = mtu, .promiscuous = true};
	CHECK(nssm_port_open(&p, &d, &cfg, &err) == 0, "%s", err.msg);
	CHECK(nssm_port_info(p)->n_queues == n_queues);
	return p;
}

static int open_fails(const char *text, uint32_t n_queues, uint32_t mtu, const char *expected)
{
	struct nssm_port *p;
	struct nssm_dev d = parse(text, 9);
	const struct nssm_port_cfg cfg = {.n_queues = n_queues, .mtu = mtu};
	int rc = nssm_port_open(&p, &d, &cfg, &err);
	CHECK(rc < 0 && strstr(err.msg, expected) != NULL, "%d \"%s\"", rc, err.msg);
	return rc;
}

static struct nssm_frames *open_frames(uint32_t n, uint32_t frame_max)
{
	struct nssm_frames *f;
	CHECK(nssm_frames_open(&f, n, frame_max, &err) == 0, "%s", err.msg);
	return f;
}

/* Frame i of a test: an experimental EtherType (IEEE 802, 0x88b5), its number, and bytes that depend on both. */
static void fill(uint8_t *data, uint32_t len, uint32_t i)
{
	struct nssm_rng r;
	nssm_rng_init(&r, 1, i, NSSM_RNG_PAYLOAD);
	nssm_rng_bytes(&r, data, len);
	static const uint8_t HEAD[14] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};
	memcpy(data, HEAD, sizeof HEAD);
	if (len >= 18)
		memcpy(data + 14, &i, 4);
}

static bool is_frame(const uint8_t *data, uint32_t len, uint32_t i)
{
	uint8_t want[65536];
	fill(want, len, i);
	return memcmp(data, want, len) == 0;
}

/* Lengths from the shortest frame to the longest. */
static uint32_t len_of(uint32_t i, uint32_t longest)
{
	return i % 7 == 0 ? longest : 60 + i * 37 % (longest - 60);
}

/* Sends frames first to last (excluded); a port that takes nothing for 2 s ends the test. */
static void send_frames(struct nssm_port *p, uint32_t queue, struct nssm_frames *f, uint32_t first,
        uint32_t last, uint32_t longest)
{
	uint64_t since = nssm_now_ns();
	for (uint32_t i = first; i < last;) {
		void *m[NSSM_BURST];
		uint8_t *data[NSSM_BURST];
		uint32_t len[NSSM_BURST], n = last - i < NSSM_BURST ? last - i : NSSM_BURST, done = 0;
		for (uint32_t k = 0; k < n; k++)
			len[k] = len_of(i + k, longest);
		CHECK(nssm_frames_get(f, m, data, len, n));
		for (uint32_t k = 0; k < n; k++)
			fill(data[k], len[k], i + k);
		while (done < n) {
			uint32_t took = nssm_port_tx(p, queue, m + done, n - done);
			done += took;
			if (took > 0)
				since = nssm_now_ns();
			CHECK(nssm_now_ns() - since < 2000000000u, "frame %u of %u", i + done, last);
		}
		i += n;
	}
}

/* Receives the same ones, in order; frames of others (IPv6 on a veth) are passed over. */
static void receive_frames(
        struct nssm_port *p, uint32_t queue, uint32_t first, uint32_t last, uint32_t longest)
{
	uint64_t since = nssm_now_ns();
	for (uint32_t i = first; i < last;) {
		void *m[NSSM_BURST];
		const uint8_t *data[NSSM_BURST];
		uint32_t len[NSSM_BURST];
		uint32_t n = nssm_port_rx(p, queue, m, data, len, NSSM_BURST);
		for (uint32_t k = 0; k < n; k++) {
			if (len[k] < 14 || data[k][12] != 0x88 || data[k][13] != 0xb5)
				continue;
			CHECK(i < last, "a frame too many");
			CHECK(len[k] == len_of(i, longest), "frame %u: %u bytes, not %u", i, len[k],
			        len_of(i, longest));
			CHECK(is_frame(data[k], len[k], i), "frame %u", i);
			i++;
			since = nssm_now_ns();
		}
		nssm_frames_put(NULL, m, n);
		CHECK(nssm_now_ns() - since < 2000000000u, "frame %u of %u does not come", i, last);
	}
}

/* Whether the port takes a frame. */
static bool try_one(struct nssm_port *p, struct nssm_frames *f, uint32_t len)
{
	void *m;
	uint8_t *data;
	CHECK(nssm_frames_get(f, &m, &data, &len, 1));
	fill(data, len, 0);
	if (nssm_port_tx(p, 0, &m, 1) == 1)
		return true;
	nssm_frames_put(f, &m, 1);
	return false;
}

/* --- DPDK's start --- */

static void case_start(void)
{
	cpu_set_t before, after;
	char dir[64];
	struct stat st;
	const struct nssm_eal_cfg cfg = {.mem_mb = 64};
	CHECK(sched_getaffinity(0, sizeof before, &before) == 0);
	CHECK(!nssm_eal_running());
	CHECK(nssm_eal_start(&cfg, &err) == 0, "%s", err.msg);
	CHECK(nssm_eal_running());
	CHECK(nssm_eal_start(&cfg, &err) == 0);
	CHECK(sched_getaffinity(0, sizeof after, &after) == 0 && CPU_EQUAL(&before, &after));
	snprintf(dir, sizeof dir, "/var/run/dpdk/netssm-%d", getpid());
	CHECK(stat(dir, &st) != 0, "%s is left", dir);
	CHECK(nssm_eal_thread(&err) == 0); /* the main thread is one already */
	nssm_eal_stop();
	CHECK(!nssm_eal_running());
	nssm_eal_stop();
	CHECK(nssm_eal_start(&cfg, &err) == NSSM_EUNSUP);
}
CASE(start)

static void case_start_fails(void)
{
	const struct nssm_eal_cfg cfg = {.mem_mb = 64, .extra = "  --no-such-thing  --nor-this "};
	struct nssm_frames *f;
	CHECK(nssm_eal_start(&cfg, &err) == NSSM_EIO);
	CHECK(strstr(err.msg, "DPDK: its start failed") != NULL, "%s", err.msg);
	CHECK(!nssm_eal_running());
	CHECK(nssm_frames_open(&f, 64, 1518, &err) == NSSM_EARG);
	open_fails("null", 1, 0, "DPDK was not started");
}
CASE(start_fails)

static bool has_socket(pid_t pid)
{
	char path[96];
	struct stat st;
	snprintf(path, sizeof path, "/var/run/dpdk/netssm-%d/dpdk_telemetry.v2", pid);
	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* A process that is killed, one that lives on, and this one. */
static void case_telemetry(void)
{
	const struct nssm_eal_cfg cfg = {.mem_mb = 64, .telemetry = true};
	pid_t pid[2];
	char path[96];
	struct stat st;
	if (getuid() != 0) {
		dprintf(terminal, "skipped: where DPDK's sockets lie is known for root\n");
		_exit(SKIP);
	}
	for (int i = 0; i < 2; i++) {
		int ready[2];
		char c;
		CHECK(pipe(ready) == 0);
		pid[i] = fork_child();
		if (pid[i] == 0) {
			CHECK(nssm_eal_start(&cfg, &err) == 0 && write(ready[1], "x", 1) == 1, "%s", err.msg);
			pause();
		}
		CHECK(read(ready[0], &c, 1) == 1);
		CHECK(has_socket(pid[i]));
	}
	CHECK(kill(pid[0], SIGKILL) == 0 && wait_for(pid[0]) == 128 + SIGKILL);
	CHECK(nssm_eal_start(&cfg, &err) == 0, "%s", err.msg);
	CHECK(has_socket(getpid()) && has_socket(pid[1]) && !has_socket(pid[0]));
	nssm_eal_stop();
	CHECK(!has_socket(getpid()) && has_socket(pid[1]));
	snprintf(path, sizeof path, "/var/run/dpdk/netssm-%d", getpid());
	CHECK(stat(path, &st) != 0, "%s is left", path);
	CHECK(kill(pid[1], SIGKILL) == 0 && wait_for(pid[1]) == 128 + SIGKILL);
	snprintf(path, sizeof path, "/var/run/dpdk/netssm-%d/dpdk_telemetry.v2", pid[1]);
	CHECK(unlink(path) == 0);
	*strrchr(path, '/') = '\0';
	CHECK(rmdir(path) == 0);
}
CASE(telemetry)

static void case_telemetry_at_exit(void)
{
	const struct nssm_eal_cfg cfg = {.mem_mb = 64, .telemetry = true};
	char path[96];
	struct stat st;
	if (getuid() != 0) {
		dprintf(terminal, "skipped: where DPDK's sockets lie is known for root\n");
		_exit(SKIP);
	}
	pid_t pid = fork_child();
	if (pid == 0) {
		CHECK(nssm_eal_start(&cfg, &err) == 0, "%s", err.msg);
		CHECK(has_socket(getpid()));
		/* A child that ends takes nothing away. */
		pid_t child = fork_child();
		if (child == 0)
			exit(0);
		CHECK(wait_for(child) == 0);
		exit(0);
	}
	CHECK(wait_for(pid) == 0);
	snprintf(path, sizeof path, "/var/run/dpdk/netssm-%d", pid);
	CHECK(stat(path, &st) != 0, "%s is left", path);
}
CASE(telemetry_at_exit)

static void *registers(void *arg)
{
	struct nssm_err e;
	(void)arg;
	return nssm_eal_thread(&e) == 0 && nssm_eal_thread(&e) == 0 ? &terminal : NULL;
}

/* More threads than DPDK has lcores, one after the other. */
static void case_threads(void)
{
	eal();
	for (int i = 0; i < 300; i++) {
		pthread_t t;
		void *ok;
		CHECK(pthread_create(&t, NULL, registers, NULL) == 0);
		CHECK(pthread_join(t, &ok) == 0 && ok != NULL, "thread %d", i);
	}
	nssm_eal_stop();
}
CASE(threads)

/* --- frames --- */

static void case_frames(void)
{
	enum { N = 512 };
	static const uint32_t ODD[4] = {2049, 14, 2048, 9022};
	static void *m[N + 512];
	void *mixed[NSSM_BURST];
	uint8_t *data[NSSM_BURST];
	uint32_t len[NSSM_BURST], n = 0, last = 0;
	eal();
	struct nssm_frames *f = open_frames(N, 9022);
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < NSSM_BURST; i++)
			len[i] = 60 + i;
		for (n = 0; n < N && nssm_frames_get(f, &m[n], data, len, NSSM_BURST); n += NSSM_BURST)
			for (uint32_t i = 0; i < NSSM_BURST; i++)
				memset(data[i], 0xee, NSSM_FRAME_SMALL);
		CHECK(n == N, "%u of %u", n, N);
		CHECK(!nssm_frames_get(f, m + n, data, len, 1));
		/* A burst that finds one size only leaves both as they were. */
		CHECK(!nssm_frames_get(f, mixed, data, ODD, 4));
		nssm_frames_put(f, m, n);
		for (last = 0; nssm_frames_get(f, &m[last], data, (const uint32_t[]){9022}, 1); last++)
			memset(data[0], 0xdd, 9022);
		CHECK(last == 256, "%u", last);
		CHECK(!nssm_frames_get(f, mixed, data, ODD, 4));
		nssm_frames_put(f, m, last);
	}
	/* More of the small ones, of which the large ones are none. */
	CHECK(nssm_frames_more(f, 63, &err) == 0, "%s", err.msg);
	for (n = 0; nssm_frames_get(f, &m[n], data, len, 1); n++)
		memset(data[0], 0xcc, NSSM_FRAME_SMALL);
	CHECK(n == N + 63, "%u", n);
	nssm_frames_put(f, m, n);
	CHECK(nssm_frames_get(f, mixed, data, ODD, 4));
	for (int i = 0; i < 4; i++)
		memset(data[i], i, ODD[i]);
	for (int i = 0; i < 4; i++)
		CHECK(data[i][0] == i && data[i][ODD[i] - 1] == i);
	nssm_frame_set_len(mixed[0], 100);
	nssm_frame_set_len(mixed[0], 2049);
	nssm_frames_put(NULL, mixed, 4);
	CHECK(nssm_frames_get(f, mixed, data, len, 0));
	nssm_frames_close(&f);
	CHECK(f == NULL);
	nssm_frames_close(&f);
	CHECK(nssm_frames_open(&f, 1u << 20, 1518, &err) == NSSM_ENOMEM);
	CHECK(strstr(err.msg, "no memory for 1048576 of them") != NULL, "%s", err.msg);
	CHECK(nssm_frames_open(&f, 64, 65536, &err) == NSSM_ERANGE);
	nssm_eal_stop();
}
CASE(frames)

/* --- devices without a kernel --- */

struct sender {
	struct nssm_port *p;
	uint32_t queue;
	bool ok;
};

/* An engine's thread: its own frames, its own queue. */
static void *sends(void *arg)
{
	struct sender *s = arg;
	struct nssm_err e;
	if (nssm_eal_thread(&e) != 0)
		return NULL;
	struct nssm_frames *f = open_frames(1024, 1518);
	send_frames(s->p, s->queue, f, 0, 10000, 1514);
	/* The port still has none of them. */
	uint32_t n = 0, len[NSSM_BURST];
	void *m[1024];
	uint8_t *data[NSSM_BURST];
	for (uint32_t i = 0; i < NSSM_BURST; i++)
		len[i] = 1514;
	while (n < 1024 && nssm_frames_get(f, m + n, data, len, NSSM_BURST))
		n += NSSM_BURST;
	s->ok = n == 1024;
	nssm_frames_put(f, m, n);
	nssm_frames_close(&f);
	return NULL;
}

static void case_null(void)
{
	pthread_t t[2];
	struct sender s[2];
	void *m[2];
	uint8_t *data[2];
	const uint8_t *got;
	uint32_t len;
	struct nssm_port_errors e;
	eal();
	struct nssm_port *p = open_port("null", 0, 2, 0);
	CHECK(nssm_port_info(p)->up && nssm_port_link(p));
	CHECK(nssm_port_info(p)->line_bps == 0);
	CHECK(nssm_port_info(p)->mtu == 1500);
	CHECK(!nssm_port_info(p)->send_on_time);
	CHECK(strcmp(nssm_port_info(p)->name, "null") == 0);
	for (uint32_t i = 0; i < 2; i++) {
		s[i] = (struct sender){p, i, false};
		CHECK(pthread_create(&t[i], NULL, sends, &s[i]) == 0);
	}
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(t[i], NULL) == 0 && s[i].ok);
	CHECK(nssm_port_rx(p, 0, m, &got, &len, 1) == 0);
	/* Too long for the port: taken, counted, given back. */
	struct nssm_frames *f = open_frames(64, 4000);
	for (int i = 0; i < 1000; i++) {
		CHECK(nssm_frames_get(f, m, data, (const uint32_t[]){1523, 1522}, 2));
		CHECK(nssm_port_tx(p, 0, m, 2) == 2);
		CHECK(nssm_frames_get(f, m, data, (const uint32_t[]){1522, 4000}, 2));
		CHECK(nssm_port_tx(p, 0, m, 2) == 1);
		CHECK(nssm_port_tx(p, 0, m + 1, 1) == 1);
	}
	nssm_port_errors(&e, p);
	CHECK(e.tx_errors == 2000, "%lu", (unsigned long)e.tx_errors);
	CHECK(e.rx_missed == 0 && e.rx_errors == 0);
	nssm_port_close(&p);
	CHECK(p == NULL);
	nssm_port_close(&p);
	/* The same again, with long packets. */
	p = open_port("null", 0, 1, 9000);
	CHECK(nssm_port_info(p)->mtu == 9000);
	send_frames(p, 0, f, 0, 10, 4000);
	nssm_port_close(&p);
	nssm_frames_close(&f);
	nssm_eal_stop();
}
CASE(null)

static void case_ring(void)
{
	eal();
	struct nssm_frames *f = open_frames(2048, 9022);
	struct nssm_port *p = open_port("ring", 0, 2, 9000), *other = open_port("ring", 1, 1, 0);
	for (uint32_t i = 0; i < 20; i++) {
		send_frames(p, i & 1, f, 1000 * i, 1000 * i + 200, 9022);
		receive_frames(p, i & 1, 1000 * i, 1000 * i + 200, 9022);
	}
	send_frames(other, 0, f, 0, 500, 1514);
	receive_frames(other, 0, 0, 500, 1514);
	/* A full queue takes what it can and leaves the rest. */
	uint32_t len[NSSM_BURST], n = 0, took = NSSM_BURST;
	for (uint32_t i = 0; i < NSSM_BURST; i++)
		len[i] = 60;
	while (took == NSSM_BURST) {
		void *m[NSSM_BURST];
		uint8_t *data[NSSM_BURST];
		CHECK(nssm_frames_get(f, m, data, len, NSSM_BURST));
		took = nssm_port_tx(other, 0, m, NSSM_BURST);
		nssm_frames_put(f, m + took, NSSM_BURST - took);
		n += took;
	}
	CHECK(n >= 1000 && n < 2048, "%u", n);
	/* Not in this order; but it must not go wrong. */
	nssm_frames_close(&f);
	nssm_port_close(&p);
	nssm_port_close(&other);
	nssm_eal_stop();
}
CASE(ring)

static void case_open_fails(void)
{
	eal();
	open_fails("null", 2000, 0, "2000 queues are wanted");
	open_fails("null", 1, 65500, "an MTU of 65500");
	open_fails("net_nosuch0", 1, 0, "port net_nosuch0");
	open_fails("net_null0,nokey=1", 1, 0, "port net_null0,nokey=1: making it failed");
	open_fails("0000:fe:1f.7", 1, 0, "port 0000:fe:1f.7: DPDK drives no such device");
	open_fails("af_xdp:nosuch0", 1, 0, "nosuch0");
	struct nssm_port *p = open_port("null", 9, 1, 0);
	open_fails("null", 1, 0, "it is open already");
	nssm_port_close(&p);
	p = open_port("null", 9, 1, 0);
	nssm_port_close(&p);
	nssm_eal_stop();
}
CASE(open_fails)

/* --- two processes --- */

/* The other side: sends back what comes until the first frame says that it was the last. */
static void memif_server(const char *dev, int ready)
{
	eal();
	struct nssm_frames *f = open_frames(2048, 1522);
	struct nssm_port *p = open_port(dev, 0, 1, 0);
	CHECK(write(ready, "x", 1) == 1);
	for (uint64_t since = nssm_now_ns(); !nssm_port_link(p); usleep(1000))
		CHECK(nssm_now_ns() - since < 10000000000u, "nobody connects");
	for (uint32_t i = 0; i < 20; i++) {
		receive_frames(p, 0, 500 * i, 500 * i + 500, 1514);
		send_frames(p, 0, f, 500 * i, 500 * i + 500, 1514);
	}
	pause(); /* until it is killed */
}

static void case_memif(void)
{
	char dir[] = "/tmp/test_port.XXXXXX", path[64], server[96], client[96];
	int ready[2];
	char c;
	CHECK(mkdtemp(dir) != NULL);
	snprintf(path, sizeof path, "%s/memif", dir);
	snprintf(server, sizeof server, "memif:role=server,id=7,socket=%s", path);
	snprintf(client, sizeof client, "memif:id=7,socket=%s", path);
	CHECK(pipe(ready) == 0);
	pid_t pid = fork_child();
	if (pid == 0)
		memif_server(server, ready[1]);
	close(ready[1]);
	CHECK(read(ready[0], &c, 1) == 1);
	eal();
	struct nssm_frames *f = open_frames(2048, 1522);
	struct nssm_port *p = open_port(client, 0, 1, 0);
	for (uint64_t since = nssm_now_ns(); !nssm_port_link(p); usleep(1000))
		CHECK(nssm_now_ns() - since < 10000000000u, "the server does not answer");
	for (uint32_t i = 0; i < 20; i++) {
		send_frames(p, 0, f, 500 * i, 500 * i + 500, 1514);
		receive_frames(p, 0, 500 * i, 500 * i + 500, 1514);
	}
	/* The other side goes away in the middle. */
	CHECK(kill(pid, SIGKILL) == 0 && wait_for(pid) == 128 + SIGKILL);
	for (uint64_t since = nssm_now_ns(); nssm_port_link(p); usleep(1000)) {
		try_one(p, f, 60);
		CHECK(nssm_now_ns() - since < 10000000000u, "the link stays up");
	}
	CHECK(!try_one(p, f, 60));
	nssm_port_close(&p);
	nssm_frames_close(&f);
	nssm_eal_stop();
	unlink(path);
	CHECK(rmdir(dir) == 0);
}
CASE(memif)

/* --- kernel interfaces, in a network namespace that ends with the process --- */

static void run(const char *cmd)
{
	CHECK(system(cmd) == 0, "%s", cmd);
}

/* A pair n0, n1, up, on which the kernel says nothing of its own accord. */
static void in_namespace(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) {
		dprintf(terminal, "skipped: making a network namespace needs root\n");
		_exit(SKIP);
	}
	run("ip link add n0 type veth peer name n1 && "
	    "for i in n0 n1; do echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6 && ip link set $i up; done");
}

static void exchange(struct nssm_port *to, struct nssm_port *from, struct nssm_frames *f, uint32_t longest)
{
	for (uint32_t i = 0; i < 30; i++) {
		send_frames(to, 0, f, 100 * i, 100 * i + 100, longest);
		receive_frames(from, 0, 100 * i, 100 * i + 100, longest);
	}
}

static uint32_t count_frames(struct nssm_port *p, uint32_t queue, uint32_t ms)
{
	uint32_t total = 0;
	for (uint64_t end = nssm_now_ns() + ms * 1000000ull; nssm_now_ns() < end;) {
		void *m[NSSM_BURST];
		const uint8_t *data[NSSM_BURST];
		uint32_t len[NSSM_BURST], n = nssm_port_rx(p, queue, m, data, len, NSSM_BURST);
		nssm_frames_put(NULL, m, n);
		total += n;
	}
	return total;
}

/* Waits until the link is as wanted, and sends meanwhile: no call may hang, and with the link down nothing is taken. */
static void await_link(struct nssm_port *p, struct nssm_frames *f, bool up)
{
	uint64_t since = nssm_now_ns(), longest = 0;
	while (nssm_port_link(p) != up) {
		uint64_t t = nssm_now_ns();
		try_one(p, f, 60);
		t = nssm_now_ns() - t;
		longest = t > longest ? t : longest;
		CHECK(nssm_now_ns() - since < 5000000000u, "the link does not go %s", up ? "up" : "down");
	}
	/* 10 ms is what is promised; a busy machine may hold us up for longer. */
	CHECK(longest < 1000000000u, "a call took %lu ns", (unsigned long)longest);
	CHECK(up || !try_one(p, f, 60));
}

static void link_faults(const char *kind, uint32_t longest)
{
	char dev[32];
	snprintf(dev, sizeof dev, "%s:n0", kind);
	struct nssm_frames *f = open_frames(2048, 9022);
	struct nssm_port *p = open_port(dev, 0, 1, 0);
	snprintf(dev, sizeof dev, "%s:n1", kind);
	struct nssm_port *other = open_port(dev, 1, 1, 0);
	exchange(p, other, f, longest);
	exchange(other, p, f, longest);
	/* The other end, this end, and both again. */
	run("ip link set n1 down");
	await_link(p, f, false);
	run("ip link set n1 up");
	await_link(p, f, true);
	run("ip link set n0 down");
	for (int i = 0; i < 100; i++)
		try_one(p, f, 60); /* before anybody asked for the link */
	await_link(p, f, false);
	run("ip link set n0 up");
	await_link(p, f, true);
	await_link(other, f, true);
	/* What was kept while the link was down goes now. */
	try_one(p, f, 60);
	try_one(other, f, 60);
	count_frames(p, 0, 50);
	count_frames(other, 0, 50);
	exchange(p, other, f, longest);
	exchange(other, p, f, longest);
	run("ip link del n0");
	for (int i = 0; i < 100; i++)
		try_one(p, f, 60);
	await_link(p, f, false);
	await_link(other, f, false);
	CHECK(count_frames(p, 0, 10) == 0);
	/* The name comes back, the interface does not. */
	run("ip link add n0 type veth peer name n1 && ip link set n0 up && ip link set n1 up");
	await_link(p, f, false);
	struct nssm_port_errors e;
	nssm_port_errors(&e, p);
	nssm_port_close(&p);
	nssm_port_close(&other);
	nssm_frames_close(&f);
}

static void case_af_packet_faults(void)
{
	in_namespace();
	eal();
	link_faults("af_packet", 1514);
	nssm_eal_stop();
}
CASE(af_packet_faults)

/* A frame of len bytes with n tags (802.1ad outside, 802.1Q inside) comes out as it went in. */
static void tagged(struct nssm_port *to, struct nssm_port *from, struct nssm_frames *f, uint32_t len, int n)
{
	static const uint8_t TAGS[8] = {0x88, 0xa8, 0x2f, 0xfe, 0x81, 0x00, 0x60, 0x07};
	uint8_t want[1522], *data;
	const uint8_t *got;
	void *m;
	fill(want, len, 1);
	memcpy(want + 12, TAGS + 8 - 4 * n, 4 * (size_t)n);
	memcpy(want + 12 + 4 * n, (const uint8_t[]){0x88, 0xb5}, 2);
	CHECK(nssm_frames_get(f, &m, &data, &len, 1));
	memcpy(data, want, len);
	CHECK(nssm_port_tx(to, 0, &m, 1) == 1);
	uint32_t got_len;
	for (uint64_t since = nssm_now_ns(); nssm_port_rx(from, 0, &m, &got, &got_len, 1) == 0;)
		CHECK(nssm_now_ns() - since < 2000000000u, "%d tags, %u bytes", n, len);
	CHECK(got_len == len && memcmp(got, want, len) == 0, "%d tags, %u bytes", n, len);
	nssm_frames_put(NULL, &m, 1);
}

static void case_af_packet(void)
{
	struct nssm_port_errors e;
	in_namespace();
	eal();
	open_fails("af_packet:nosuch0", 1, 0, "interface nosuch0: there is none of this name");
	open_fails("af_packet:n0", 1, 1501,
	        "an MTU of 1501 is wanted, the interface has 1500: ip link set dev n0 mtu 1501");
	struct nssm_frames *f = open_frames(2048, 9022);
	struct nssm_port *p = open_port("af_packet:n0", 0, 1, 0), *other = open_port("af_packet:n1", 1, 1, 0);
	const struct nssm_port_info *info = nssm_port_info(p);
	CHECK(info->up && info->mtu == 1500 && info->line_bps == 0 && !info->rx_merged);
	CHECK(strcmp(info->name, "af_packet:n0") == 0);
	CHECK((info->mac[0] & 2) != 0 && memcmp(info->mac, nssm_port_info(other)->mac, 6) != 0);
	exchange(p, other, f, 1514);
	for (int n = 1; n <= 2; n++) {
		tagged(p, other, f, 64, n);
		tagged(other, p, f, 1400, n);
	}
	tagged(p, other, f, 1518, 1);
	/* The kernel lets one tag go beyond the MTU, not two: taken, counted, and the next goes. */
	CHECK(try_one(p, f, 1522));
	exchange(p, other, f, 1514);
	nssm_port_errors(&e, p);
	CHECK(e.tx_errors == 1, "%lu", (unsigned long)e.tx_errors);
	/* What this machine itself sends on n0 comes to n1 only. */
	CHECK(count_frames(p, 0, 20) == 0);
	run("ip addr add 192.0.2.1/24 dev n0");
	const struct sockaddr_in to = {
	        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(0xc0000202)}};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(fd >= 0 && sendto(fd, "x", 1, 0, (const struct sockaddr *)&to, sizeof to) == 1);
	close(fd);
	CHECK(count_frames(p, 0, 20) == 0);
	CHECK(count_frames(other, 0, 20) >= 1);
	nssm_port_errors(&e, other);
	CHECK(e.rx_missed == 0 && e.rx_errors == 0);
	run("ip -d link show n0 | grep -q 'promiscuity 1'");
	nssm_port_close(&p);
	run("ip -d link show n0 | grep -q 'promiscuity 0'");
	nssm_port_close(&other);

	run("ip link set n0 mtu 9000 && ip link set n1 mtu 9000");
	p = open_port("af_packet:n0", 0, 2, 9000);
	other = open_port("af_packet:n1", 1, 1, 0);
	CHECK(nssm_port_info(other)->mtu == 9000);
	exchange(p, other, f, 9014);
	/* Of two queues each frame comes to one. */
	send_frames(other, 0, f, 0, 200, 9014);
	uint32_t n = count_frames(p, 0, 50) + count_frames(p, 1, 50);
	CHECK(n == 200, "%u", n);
	nssm_port_close(&p);
	nssm_port_close(&other);
	nssm_frames_close(&f);
	nssm_eal_stop();
}
CASE(af_packet)

static void case_af_packet_not_root(void)
{
	in_namespace();
	eal();
	CHECK(setresuid(65534, 65534, 65534) == 0);
	open_fails("af_packet:n0", 1, 0, "it needs root or CAP_NET_RAW");
	open_fails("af_xdp:n0", 1, 0, "CAP_NET_ADMIN");
}
CASE(af_packet_not_root)

static bool has_af_xdp(void)
{
	struct nssm_port *p;
	struct nssm_dev d = parse("af_xdp:n0", 0);
	const struct nssm_port_cfg cfg = {.n_queues = 1};
	if (nssm_port_open(&p, &d, &cfg, &err) != 0) {
		dprintf(terminal, "skipped: %s\n", err.msg);
		return false;
	}
	nssm_port_close(&p);
	return true;
}

static void case_af_xdp_faults(void)
{
	in_namespace();
	eal();
	if (!has_af_xdp())
		_exit(SKIP);
	link_faults("af_xdp", 1514);
	nssm_eal_stop();
}
CASE(af_xdp_faults)

static void case_af_xdp(void)
{
	in_namespace();
	eal();
	if (!has_af_xdp())
		_exit(SKIP);
	open_fails("af_xdp:n0", 2, 0, "2 queues are wanted, the interface has 1 (ethtool -L n0 combined 2)");
	struct nssm_frames *f = open_frames(2048, 9022);
	struct nssm_port *p = open_port("af_xdp:n0", 0, 1, 0), *other = open_port("af_packet:n1", 1, 1, 0);
	CHECK(nssm_port_info(p)->up && nssm_port_info(p)->mtu == 1500);
	open_fails("af_xdp:n0", 1, 0, "there is an XDP program on it already: ip link set dev n0 xdp off");
	exchange(p, other, f, 1514);
	exchange(other, p, f, 1514);
	tagged(p, other, f, 1400, 1);
	tagged(p, other, f, 1400, 2);
	/* More than its rings hold. */
	send_frames(p, 0, f, 0, 20000, 1514);
	struct nssm_port_errors e;
	nssm_port_errors(&e, p);
	CHECK(e.tx_errors == 0, "%lu", (unsigned long)e.tx_errors);
	nssm_port_close(&p);
	nssm_port_close(&other);
	run("ip link set n0 mtu 9000 && ip link set n1 mtu 9000");
	open_fails("af_xdp:n0", 1, 0, "or use af_packet:n0");
	run("ip link set n0 mtu 3400 && ip link set n1 mtu 3400");
	p = open_port("af_xdp:n0", 0, 1, 0);
	other = open_port("af_packet:n1", 1, 1, 0);
	exchange(p, other, f, 3414);
	exchange(other, p, f, 3414);
	nssm_port_close(&p);
	nssm_port_close(&other);
	nssm_frames_close(&f);
	nssm_eal_stop();
}
CASE(af_xdp)

/* A process that is killed leaves no XDP program, and the next one can have the interface. */
static void case_af_xdp_killed(void)
{
	int ready[2];
	char c;
	in_namespace();
	CHECK(pipe(ready) == 0);
	pid_t pid = fork_child();
	if (pid == 0) {
		eal();
		if (!has_af_xdp())
			_exit(SKIP);
		open_port("af_xdp:n0", 0, 1, 0);
		CHECK(system("ip -d link show n0 | grep -q xdp") == 0);
		CHECK(write(ready[1], "x", 1) == 1);
		pause();
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) == 1)
		CHECK(kill(pid, SIGKILL) == 0);
	int rc = wait_for(pid);
	if (rc == SKIP)
		_exit(SKIP);
	CHECK(rc == 128 + SIGKILL, "%d", rc);
	for (int i = 0; system("ip -d link show n0 | grep -q xdp") == 0; i++) {
		CHECK(i < 200, "the program stays");
		usleep(10000);
	}
	eal();
	struct nssm_port *p = open_port("af_xdp:n0", 0, 1, 0);
	nssm_port_close(&p);
	nssm_eal_stop();
}
CASE(af_xdp_killed)

static void case_tap(void)
{
	in_namespace();
	eal();
	struct nssm_frames *f = open_frames(2048, 1522);
	struct nssm_port *p = open_port("tap:t0", 0, 1, 0);
	run("echo 1 >/proc/sys/net/ipv6/conf/t0/disable_ipv6 && ip link set t0 up");
	struct nssm_port *other = open_port("af_packet:t0", 1, 1, 0);
	await_link(p, f, true);
	CHECK(nssm_port_info(p)->line_bps == 0);
	count_frames(other, 0, 20);
	exchange(p, other, f, 1514);
	exchange(other, p, f, 1514);
	nssm_port_close(&other);
	nssm_port_close(&p);
	CHECK(system("ip link show t0 2>/dev/null") != 0, "t0 is left");
	nssm_frames_close(&f);
	nssm_eal_stop();
}
CASE(tap)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_start),
	        cmocka_unit_test(test_start_fails),
	        cmocka_unit_test(test_telemetry),
	        cmocka_unit_test(test_telemetry_at_exit),
	        cmocka_unit_test(test_threads),
	        cmocka_unit_test(test_frames),
	        cmocka_unit_test(test_null),
	        cmocka_unit_test(test_ring),
	        cmocka_unit_test(test_open_fails),
	        cmocka_unit_test(test_memif),
	        cmocka_unit_test(test_af_packet),
	        cmocka_unit_test(test_af_packet_faults),
	        cmocka_unit_test(test_af_packet_not_root),
	        cmocka_unit_test(test_af_xdp),
	        cmocka_unit_test(test_af_xdp_faults),
	        cmocka_unit_test(test_af_xdp_killed),
	        cmocka_unit_test(test_tap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
