/* Live streams as sinks: readers that come, go, are slow, wait for their turn; what is no address and no FIFO; stdout. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/measure.h"
#include "replay/capture.h"
#include "tests/scratch.h"
#include "tests/sink_packets.h"

/* What a reader got, and how far it was looked at. */
struct reader {
	int fd;
	bool eof;
	uint8_t *data;
	size_t len, at;
};

#define READER_BYTES (64u << 20)

static void reader_open(struct reader *r, int fd)
{
	*r = (struct reader){.fd = fd, .data = __real_malloc(READER_BYTES)};
	assert_non_null(r->data);
	assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

static void reader_close(struct reader *r)
{
	if (r->fd >= 0)
		close(r->fd);
	free(r->data);
	*r = (struct reader){.fd = -1};
}

/* All that is there now. */
static void reader_take(struct reader *r)
{
	ssize_t k;
	while ((k = read(r->fd, r->data + r->len, READER_BYTES - r->len)) > 0)
		r->len += (size_t)k;
	r->eof |= k == 0 || errno == ECONNRESET;
	assert_true(r->len < READER_BYTES);
}

/* Until len bytes are there, the stream ends or half a second has gone. */
static void reader_await(struct reader *r, size_t len)
{
	uint64_t end_ns = nssm_now_ns() + 500000000;
	reader_take(r);
	while (r->len < len && !r->eof && nssm_now_ns() < end_ns) {
		struct pollfd p = {.fd = r->fd, .events = POLLIN};
		poll(&p, 1, 50);
		reader_take(r);
	}
}

static void expect_head(struct reader *r)
{
	static const uint8_t head[24] = {0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, [18] = 4, [20] = 1};
	reader_await(r, sizeof head);
	assert_true(r->len >= sizeof head);
	assert_memory_equal(r->data, head, sizeof head);
	r->at = sizeof head;
}

/* Whether the next record is packet i, whole; it is then behind. */
static bool is_packet(struct reader *r, uint64_t i)
{
	uint8_t data[160];
	struct nssm_tx p = packet(i, data);
	if (r->len - r->at < 16 + p.len)
		return false;
	uint32_t h[4];
	memcpy(h, r->data + r->at, sizeof h);
	bool same = h[0] == p.time_ns / 1000000000 && h[1] == p.time_ns % 1000000000 / 1000 &&
	            h[2] == p.len && h[3] == p.wirelen && memcmp(r->data + r->at + 16, data, p.len) == 0;
	if (same)
		r->at += 16 + p.len;
	return same;
}

static void expect_packets(struct reader *r, uint64_t from, uint64_t to)
{
	size_t len = r->at;
	for (uint64_t i = from; i < to; i++) {
		uint8_t data[160];
		len += 16 + packet(i, data).len;
	}
	reader_await(r, len);
	for (uint64_t i = from; i < to; i++)
		assert_true(is_packet(r, i));
	assert_int_equal(r->at, r->len);
}

static void nap(int ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void tick(struct nssm_sink *s)
{
	struct nssm_err err;
	assert_int_equal(nssm_sink_tick(s, nssm_now_ns(), &err), 0);
}

/* Ticks until a reader is there, or n of them have been. */
static void await_readers(struct nssm_sink *s, uint64_t n)
{
	for (int i = 0; i < 500 && nssm_sink_stats(s)->n_readers < n; i++) {
		tick(s);
		nap(1);
	}
	assert_int_equal(nssm_sink_stats(s)->n_readers, n);
}

static void expect_counts(const struct nssm_sink *s, uint64_t handed)
{
	const struct nssm_sink_stats *st = nssm_sink_stats(s);
	assert_int_equal(st->sent + st->queued + n_dropped(s), handed);
	assert_int_equal(n_dropped(s), st->dropped[NSSM_DROP_NO_READER] + st->dropped[NSSM_DROP_TOO_LONG]);
}

static struct nssm_sink *open_listen(const char *where, bool wait)
{
	struct nssm_sink_cfg cfg = {.wait_for_reader = wait};
	struct nssm_sink *s;
	struct nssm_err err;
	int rc = nssm_sink_pcap_over_ip(&s, where, &cfg, &err);
	if (rc != 0)
		print_error("%s\n", err.msg);
	assert_int_equal(rc, 0);
	assert_true(nssm_sink_is_live(s));
	return s;
}

/* A reader's connection to a sink that listens on 127.0.0.1. rcvbuf 0: as the system has it. */
static int dial(const struct nssm_sink *s, int rcvbuf)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	a.sin_port = htons((uint16_t)atoi(strrchr(nssm_sink_name(s), ':') + 1));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	if (rcvbuf > 0)
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static void finish(struct nssm_sink **s, uint64_t handed)
{
	struct nssm_err err;
	assert_int_equal(nssm_sink_finish(*s, &err), 0);
	assert_int_equal(nssm_sink_stats(*s)->queued, 0);
	expect_counts(*s, handed);
	nssm_sink_close(s);
	assert_null(*s);
}

static void test_where(void **state)
{
	static const char *const bad[] = {"", "listen", "5000", "udp:5000",
	        "listen:", "listen:127.0.0.1:", "listen::5000", "listen:::1:5000", "listen:[::1]",
	        "listen:[::1]5000", "listen:[::1:5000", "listen:[]:5000", "listen:65536", "listen:-1",
	        "listen:5000x", "listen:0x50", "listen: 5000", "listen:999999999999999999999", "connect:5000",
	        "connect:localhost", "connect:localhost:0", "connect:localhost:", "connect::80",
	        "connect:::1:80", "connect:[::1]:99999"};
	struct nssm_sink_cfg cfg = {0};
	struct nssm_sink *s;
	struct nssm_err err;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		int rc = nssm_sink_pcap_over_ip(&s, bad[i], &cfg, &err);
		if (rc != NSSM_EARG)
			print_error("'%s' was taken\n", bad[i]);
		assert_int_equal(rc, NSSM_EARG);
		assert_null(s);
		assert_memory_equal(err.msg, bad[i], strlen(bad[i]));
		assert_non_null(strstr(err.msg, "expected"));
	}
	char long_host[600];
	memset(long_host, 'a', sizeof long_host);
	memcpy(long_host, "connect:", 8);
	strcpy(long_host + sizeof long_host - 4, ":80");
	assert_int_equal(nssm_sink_pcap_over_ip(&s, long_host, &cfg, &err), NSSM_EARG);
	assert_int_equal(nssm_sink_pcap_over_ip(&s, "connect:not a host:80", &cfg, &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "no address for 'not a host'"));

	struct nssm_sink *first = open_listen("listen:0", false);
	char at[32], where[64], reason[200];
	snprintf(at, sizeof at, "%.31s", strstr(nssm_sink_name(first), "listen:") + 7);
	snprintf(where, sizeof where, "listen:%s", at);
	snprintf(reason, sizeof reason, "%s: cannot listen at %s: Address already in use", where, at);
	assert_int_equal(nssm_sink_pcap_over_ip(&s, where, &cfg, &err), NSSM_EIO);
	assert_string_equal(err.msg, reason);
	nssm_sink_close(&first);
	/* Closed is closed: nobody listens. */
	snprintf(where, sizeof where, "connect:%s", at);
	assert_int_equal(nssm_sink_pcap_over_ip(&s, where, &cfg, &err), NSSM_EIO);
	snprintf(reason, sizeof reason, "%s: cannot connect to %s: Connection refused", where, at);
	assert_string_equal(err.msg, reason);
	assert_null(s);
}

static void test_no_reader(void **state)
{
	for (int wait = 0; wait < 2; wait++) {
		struct nssm_sink *s = open_listen("listen:127.0.0.1:0", wait);
		struct nssm_err err;
		tick(s);
		assert_int_equal(nssm_sink_ready(s), !wait);
		assert_int_equal(burst(s, 0, 100, &err), 0);
		assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_NO_READER], 100);
		finish(&s, 100);
	}
}

/* One after another, each from its own start; a reader that left costs no error. */
static void test_readers(void **state)
{
	struct nssm_sink *s = open_listen("listen:0", true);
	struct nssm_err err;
	uint64_t n = 0;
	for (uint64_t k = 1; k <= 3; k++) {
		struct reader r;
		reader_open(&r, dial(s, 0));
		await_readers(s, k);
		assert_true(nssm_sink_ready(s));
		expect_head(&r);
		assert_int_equal(burst(s, n, n + 40, &err), 0);
		tick(s);
		expect_packets(&r, n, n + 40);
		n += 40;
		/* A byte that is older than 10 ms leaves with the burst, without a tick. */
		assert_int_equal(burst(s, n, n + 1, &err), 0);
		nap(10);
		assert_int_equal(burst(s, n + 1, n + 2, &err), 0);
		expect_packets(&r, n, n + 2);
		n += 2;
		assert_int_equal(nssm_sink_stats(s)->queued, 0);
		expect_counts(s, n);
		reader_close(&r);
		uint64_t before = nssm_sink_stats(s)->dropped[NSSM_DROP_NO_READER];
		for (int i = 0; i < 500 && nssm_sink_stats(s)->dropped[NSSM_DROP_NO_READER] == before; i++) {
			assert_int_equal(burst(s, n, n + 1, &err), 0);
			n++;
			tick(s);
			nap(1);
		}
		/* Gone is known after the first packet that came too late. */
		assert_in_range(nssm_sink_stats(s)->dropped[NSSM_DROP_NO_READER] - before, 1, 3);
		assert_true(nssm_sink_ready(s));
	}
	finish(&s, n);
}

/* Around the ring many times; what a reader gets, byte for byte, while it reads as fast as it is written. */
static void test_long_stream(void **state)
{
	struct nssm_sink *s = open_listen("listen:0", true);
	struct nssm_err err;
	struct reader r;
	reader_open(&r, dial(s, 0));
	await_readers(s, 1);
	expect_head(&r);
	uint64_t n = 0;
	unsigned long before = n_allocs;
	for (int k = 0; k < 160; k++) {
		assert_int_equal(burst(s, n, n + 1000, &err), 0);
		tick(s);
		while (nssm_sink_stats(s)->queued > 0) {
			reader_take(&r);
			tick(s);
		}
		n += 1000;
	}
	assert_int_equal(n_allocs, before);
	expect_packets(&r, 0, n);
	assert_true(r.len > 3 * (4u << 20));
	assert_int_equal(nssm_sink_stats(s)->sent, n);
	finish(&s, n);
	reader_take(&r);
	assert_true(r.eof);
	reader_close(&r);
}

/* Packets get lost whole: what is read are records of packets in order, as many as were counted as sent. */
static void test_slow_reader(void **state)
{
	struct nssm_sink *s = open_listen("listen:0", true);
	struct nssm_err err;
	struct reader r;
	reader_open(&r, dial(s, 8192));
	await_readers(s, 1);
	uint64_t n = 300000;
	assert_int_equal(burst(s, 0, n, &err), 0);
	uint64_t lost = nssm_sink_stats(s)->dropped[NSSM_DROP_NO_READER];
	assert_in_range(lost, 1000, n - 10000);
	/* It catches up, and the stream goes on behind the gap. */
	while (nssm_sink_stats(s)->queued > 0) {
		reader_take(&r);
		tick(s);
	}
	assert_int_equal(burst(s, n, n + 100, &err), 0);
	assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_NO_READER], lost);
	tick(s);
	while (nssm_sink_stats(s)->queued > 0) {
		reader_take(&r);
		tick(s);
	}
	uint64_t sent = nssm_sink_stats(s)->sent;
	assert_int_equal(sent, n + 100 - lost);
	finish(&s, n + 100);
	while (!r.eof)
		reader_await(&r, SIZE_MAX);
	expect_head(&r);
	uint64_t got = 0;
	for (uint64_t i = 0; i < n + 100; i++)
		got += is_packet(&r, i);
	assert_int_equal(r.at, r.len);
	assert_int_equal(got, sent);
	reader_close(&r);
}

/* A reader that takes nothing costs finish two seconds; what it did not take is counted. */
static void test_stuck_reader(void **state)
{
	struct nssm_sink *s = open_listen("listen:0", true);
	struct nssm_err err;
	int fd = dial(s, 4096);
	await_readers(s, 1);
	uint64_t n = 0;
	while (nssm_sink_stats(s)->dropped[NSSM_DROP_NO_READER] == 0) {
		assert_int_equal(burst(s, n, n + 1000, &err), 0);
		n += 1000;
		tick(s);
	}
	assert_true(nssm_sink_stats(s)->queued > 10000);
	uint64_t start_ns = nssm_now_ns();
	finish(&s, n);
	assert_in_range(nssm_now_ns() - start_ns, 1900000000u, 5000000000u);
	close(fd);
}

/* The second waits its turn. One that sends no more is kept while it is alone, and gives way to the next. */
static void test_turns(void **state)
{
	struct nssm_sink *s = open_listen("listen:0", true);
	struct nssm_err err;
	struct reader r[3];
	reader_open(&r[0], dial(s, 0));
	await_readers(s, 1);
	expect_head(&r[0]);
	reader_open(&r[1], dial(s, 0));
	assert_int_equal(burst(s, 0, 10, &err), 0);
	tick(s);
	expect_packets(&r[0], 0, 10);
	reader_take(&r[1]);
	assert_int_equal(r[1].len, 0);
	assert_false(r[1].eof);
	assert_int_equal(nssm_sink_stats(s)->n_readers, 1);

	/* Chatter from a reader is thrown away. */
	char noise[10000] = {0};
	assert_true(write(r[0].fd, noise, sizeof noise) > 0);
	tick(s);
	reader_close(&r[0]);
	await_readers(s, 2);
	expect_head(&r[1]);
	assert_int_equal(shutdown(r[1].fd, SHUT_WR), 0);
	nap(5);
	for (int i = 0; i < 5; i++)
		tick(s);
	assert_int_equal(burst(s, 10, 20, &err), 0);
	tick(s);
	expect_packets(&r[1], 10, 20);

	reader_open(&r[2], dial(s, 0));
	await_readers(s, 3);
	reader_await(&r[1], SIZE_MAX);
	assert_true(r[1].eof);
	expect_head(&r[2]);
	assert_int_equal(burst(s, 20, 30, &err), 0);
	finish(&s, 30);
	expect_packets(&r[2], 20, 30);
	reader_await(&r[2], SIZE_MAX);
	assert_true(r[2].eof);
	reader_close(&r[1]);
	reader_close(&r[2]);
}

/* A reader that has stopped reading keeps its place while it is alone, and loses it after five seconds to one that waits. */
static void test_stalled(void **state)
{
	struct nssm_sink *s = open_listen("listen:0", true);
	struct nssm_err err;
	int stuck = dial(s, 4096);
	await_readers(s, 1);
	struct reader r;
	reader_open(&r, dial(s, 0));
	uint64_t n = 0, start_ns = nssm_now_ns();
	while (nssm_sink_stats(s)->n_readers == 1 && nssm_now_ns() - start_ns < 8000000000u) {
		assert_int_equal(burst(s, n, n + 1000, &err), 0);
		n += 1000;
		tick(s);
		nap(5);
	}
	assert_in_range(nssm_now_ns() - start_ns, 5000000000u, 8000000000u);
	expect_head(&r);
	assert_int_equal(burst(s, n, n + 10, &err), 0);
	tick(s);
	expect_packets(&r, n, n + 10);
	expect_counts(s, n + 10);
	finish(&s, n + 10);
	close(stuck);
	reader_close(&r);
}

static void test_too_long(void **state)
{
	struct nssm_sink *s = open_listen("listen:0", true);
	struct nssm_err err;
	struct reader r;
	reader_open(&r, dial(s, 0));
	await_readers(s, 1);
	uint8_t *big = calloc(1, NSSM_CAPTURE_CAPLEN_MAX + 1);
	struct nssm_tx p[2] = {{.data = big,
	                               .len = NSSM_CAPTURE_CAPLEN_MAX + 1,
	                               .wirelen = NSSM_CAPTURE_CAPLEN_MAX + 1,
	                               .time_ns = T0_NS},
	        {.data = big, .len = NSSM_CAPTURE_CAPLEN_MAX, .wirelen = UINT32_MAX, .time_ns = T0_NS}};
	assert_int_equal(nssm_sink_burst(s, p, 2, &err), 0);
	assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_TOO_LONG], 1);
	expect_head(&r);
	while (nssm_sink_stats(s)->queued > 0) {
		tick(s);
		reader_take(&r);
	}
	reader_await(&r, 24 + 16 + NSSM_CAPTURE_CAPLEN_MAX);
	assert_int_equal(r.len, 24 + 16 + NSSM_CAPTURE_CAPLEN_MAX);
	/* Beyond 2106. */
	p[1].time_ns = 4294967296000000000u;
	assert_int_equal(nssm_sink_burst(s, p, 2, &err), NSSM_ERANGE);
	assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_TOO_LONG], 2);
	assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_ERROR], 1);
	assert_int_equal(nssm_sink_finish(s, &err), NSSM_ERANGE);
	nssm_sink_close(&s);
	free(big);
	reader_close(&r);
}

static void test_fifo(void **state)
{
	const char *path = scratch("fifo");
	struct nssm_sink_cfg cfg = {.wait_for_reader = true};
	struct nssm_sink *s;
	struct nssm_err err;
	assert_int_equal(nssm_sink_fifo(&s, path, &cfg, &err), 0);
	tick(s);
	assert_false(nssm_sink_ready(s));
	assert_int_equal(burst(s, 0, 10, &err), 0);
	uint64_t n = 10;
	for (uint64_t k = 1; k <= 2; k++) {
		struct reader r;
		reader_open(&r, open(path, O_RDONLY | O_NONBLOCK));
		await_readers(s, k);
		assert_true(nssm_sink_ready(s));
		expect_head(&r);
		assert_int_equal(burst(s, n, n + 20, &err), 0);
		tick(s);
		expect_packets(&r, n, n + 20);
		n += 20;
		reader_close(&r);
		tick(s);
		assert_int_equal(burst(s, n, n + 5, &err), 0);
		n += 5;
		assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_NO_READER], 10 + 5 * k);
	}
	/* Taken away now: nobody can come, which ends nothing. */
	assert_int_equal(unlink(path), 0);
	tick(s);
	finish(&s, n);

	/* Taken away before anybody came: waiting would be for ever. */
	assert_int_equal(nssm_sink_fifo(&s, path, &cfg, &err), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(nssm_sink_tick(s, 1, &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, path));
	assert_int_equal(burst(s, 0, 3, &err), NSSM_EIO);
	assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_ERROR], 3);
	nssm_sink_close(&s);
	scratch_write(path, "file", 4);
	assert_int_equal(nssm_sink_fifo(&s, path, &cfg, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "fifo: is a regular file, expected a FIFO"));
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(nssm_sink_fifo(&s, scratch_dir, &cfg, &err), NSSM_EARG);
	assert_int_equal(nssm_sink_fifo(&s, "/nonexistent/fifo", &cfg, &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "/nonexistent/fifo"));
	assert_null(s);
}

/* A sink on stdout, which is fd meanwhile. */
static int open_stdout(struct nssm_sink **s, int fd, struct nssm_err *err)
{
	struct nssm_sink_cfg cfg = {.wait_for_reader = true};
	fflush(stdout);
	int old = dup(STDOUT_FILENO);
	dup2(fd, STDOUT_FILENO);
	int rc = nssm_sink_fifo(s, "-", &cfg, err);
	dup2(old, STDOUT_FILENO);
	close(old);
	return rc;
}

static void test_stdout(void **state)
{
	struct nssm_sink *s;
	struct nssm_err err;
	int ends[2];
	/* A pipe, then a socket: neither blocks, and neither has its flags changed for those who share it. */
	for (int kind = 0; kind < 2; kind++) {
		assert_int_equal(kind == 0 ? pipe(ends) : socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
		assert_int_equal(open_stdout(&s, ends[1], &err), 0);
		assert_string_equal(nssm_sink_name(s), "fifo stdout");
		assert_true(nssm_sink_ready(s));
		assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
		close(ends[1]);
		assert_int_equal(burst(s, 0, 100000, &err), 0);
		assert_true(nssm_sink_stats(s)->dropped[NSSM_DROP_NO_READER] > 10000);
		expect_counts(s, 100000);
		struct reader r;
		reader_open(&r, ends[0]);
		while (nssm_sink_stats(s)->queued > 0) {
			reader_take(&r);
			tick(s);
		}
		uint64_t sent = nssm_sink_stats(s)->sent, got = 0;
		finish(&s, 100000);
		reader_await(&r, SIZE_MAX);
		assert_true(r.eof);
		expect_head(&r);
		for (uint64_t i = 0; i < 100000; i++)
			got += is_packet(&r, i);
		assert_int_equal(r.at, r.len);
		assert_int_equal(got, sent);
		reader_close(&r);
	}
	/* Nobody reads it any more. */
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(open_stdout(&s, ends[1], &err), 0);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(burst(s, 0, 10, &err), 0);
	tick(s);
	assert_int_equal(burst(s, 10, 20, &err), 0);
	assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_NO_READER], 20);
	finish(&s, 20);
	/* A terminal is not for bytes. */
	int pty = posix_openpt(O_RDWR | O_NOCTTY);
	if (pty >= 0 && grantpt(pty) == 0 && unlockpt(pty) == 0) {
		int tty = open(ptsname(pty), O_RDWR | O_NOCTTY);
		assert_int_equal(open_stdout(&s, tty, &err), NSSM_EARG);
		assert_non_null(strstr(err.msg, "stdout is a terminal"));
		assert_null(s);
		close(tty);
	}
	if (pty >= 0)
		close(pty);
}

/* stdout that is a device: what cannot be written is an error, and every packet is accounted for. */
static void test_stdout_full(void **state)
{
	int fd = open("/dev/full", O_WRONLY);
	if (fd < 0) {
		skip();
		return;
	}
	struct nssm_sink *s;
	struct nssm_err err;
	assert_int_equal(open_stdout(&s, fd, &err), 0);
	close(fd);
	assert_int_equal(burst(s, 0, 10, &err), NSSM_EIO);
	assert_string_equal(err.msg, "stdout: cannot write at offset 0: No space left on device");
	assert_int_equal(nssm_sink_finish(s, &err), NSSM_EIO);
	assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_ERROR], 10);
	assert_int_equal(nssm_sink_stats(s)->queued, 0);
	nssm_sink_close(&s);
}

static int setup(void **state)
{
	signal(SIGPIPE, SIG_IGN);
	return scratch_open(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_where),
	        cmocka_unit_test(test_no_reader),
	        cmocka_unit_test(test_readers),
	        cmocka_unit_test(test_long_stream),
	        cmocka_unit_test(test_slow_reader),
	        cmocka_unit_test(test_stuck_reader),
	        cmocka_unit_test(test_turns),
	        cmocka_unit_test(test_stalled),
	        cmocka_unit_test(test_too_long),
	        cmocka_unit_test(test_fifo),
	        cmocka_unit_test(test_stdout),
	        cmocka_unit_test(test_stdout_full),
	};
	return cmocka_run_group_tests(tests, setup, scratch_close);
}
