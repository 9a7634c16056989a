/* Capture files as sinks: what stands in them against what was handed over, growing in place, disks and folders that fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/capture_read.h"
#include "tests/scratch.h"
#include "tests/sink_packets.h"
#include "version.h"

typedef int open_fn(struct nssm_sink **, const char *, const struct nssm_sink_cfg *, struct nssm_err *);
static open_fn *const open_sink[2] = {nssm_sink_pcap, nssm_sink_pcapng};
static const char *const kind_name[2] = {"pcap", "pcapng"};

static struct got got;

/* The file holds packets [0, n), as packet() makes them. */
static void expect_file(const char *path, uint64_t n, uint32_t snaplen, bool us)
{
	read_path(&got, path);
	assert_int_equal(got.rc, 0);
	assert_int_equal(got.n, n);
	for (uint64_t i = 0; i < n && i < BUILD_PACKETS_MAX; i++) {
		uint8_t data[160];
		struct nssm_tx p = packet(i, data);
		expect_packet(&got, i, us ? p.time_ns / 1000 * 1000 : p.time_ns, data,
		        snaplen != 0 && p.len > snaplen ? snaplen : p.len, p.wirelen);
	}
}

static void test_whole(void **state)
{
	for (int kind = 0; kind < 2; kind++) {
		for (int variant = 0; variant < 4; variant++) {
			bool us = kind == 0 && variant % 2 == 1;
			uint32_t snaplen = variant >= 2 ? 70 : 0;
			struct nssm_sink_cfg cfg = {.us = us, .snaplen = snaplen};
			const char *path = scratch("whole");
			struct nssm_sink *s;
			struct nssm_err err;
			assert_int_equal(open_sink[kind](&s, path, &cfg, &err), 0);
			assert_memory_equal(nssm_sink_name(s), kind_name[kind], strlen(kind_name[kind]));
			assert_non_null(strstr(nssm_sink_name(s), path));
			assert_true(nssm_sink_ready(s));
			assert_false(nssm_sink_is_live(s));
			assert_int_equal(burst(s, 0, 5000, &err), 0);
			assert_int_equal(nssm_sink_tick(s, 5, &err), 0);
			/* Not there before it is whole. */
			assert_int_not_equal(access(path, F_OK), 0);
			assert_int_equal(nssm_sink_finish(s, &err), 0);
			uint64_t wire = 0, cut = 0;
			for (uint64_t i = 0; i < 5000; i++) {
				uint8_t data[160];
				struct nssm_tx p = packet(i, data);
				wire += p.wirelen;
				cut += snaplen != 0 && p.len > snaplen;
			}
			const struct nssm_sink_stats *st = nssm_sink_stats(s);
			assert_int_equal(st->sent, 5000);
			assert_int_equal(st->bytes, wire);
			assert_int_equal(st->cut, cut);
			assert_int_equal(n_dropped(s), 0);
			nssm_sink_close(&s);
			assert_null(s);
			expect_file(path, 5000, snaplen, us);
			assert_int_equal(unlink(path), 0);
		}
	}
	struct nssm_sink *none = NULL;
	nssm_sink_close(&none);
}

static uint32_t get32(const char *p)
{
	const uint8_t *u = (const uint8_t *)p;
	return (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

static uint32_t get16(const char *p)
{
	return get32(p) & 0xffff;
}

/* The value of an option among those of [p, end), and its length; NULL if it is not there. */
static const char *option(const char *p, const char *end, uint32_t code, uint32_t *n)
{
	for (; p + 4 <= end && get16(p) != 0; p += 4 + (*n + 3) / 4 * 4) {
		*n = get16(p + 2);
		if (get16(p) == code)
			return p + 4;
	}
	return NULL;
}

static void expect_option(const char *p, const char *end, uint32_t code, const char *value, size_t len)
{
	uint32_t n;
	const char *v = option(p, end, code, &n);
	assert_non_null(v);
	assert_int_equal(n, len);
	assert_memory_equal(v, value, n);
}

static void expect_note(const char *block, uint64_t i)
{
	static const char *const label[3] = {"label=web ", "label=dns ", ""};
	char note[128];
	int n = snprintf(note, sizeof note, "%ssession=%llu clone=%u dir=%s", label[i % 3],
	        (unsigned long long)(i / 4), (unsigned)(i % 5), i % 2 == 0 ? "client" : "server");
	const char *opt = block + 28 + (get32(block + 20) + 3) / 4 * 4, *end = block + get32(block + 4) - 4;
	expect_option(opt, end, 1, note, (size_t)n);
	expect_option(opt, end, 2, i % 2 == 0 ? "\2\0\0\0" : "\1\0\0\0", 4);
}

static void write_noted(const char *path, uint64_t n)
{
	static const char *const label[2] = {"web", "dns"};
	struct nssm_sink_cfg cfg = {.label = label, .n_labels = 2, .comments = true};
	struct nssm_sink *s;
	struct nssm_err err;
	assert_int_equal(nssm_sink_pcapng(&s, path, &cfg, &err), 0);
	assert_int_equal(burst(s, 0, n, &err), 0);
	uint8_t *big = calloc(1, NSSM_CAPTURE_CAPLEN_MAX + 1);
	struct nssm_tx jumbo = {.data = big,
	        .len = NSSM_CAPTURE_CAPLEN_MAX + 1,
	        .wirelen = NSSM_CAPTURE_CAPLEN_MAX + 1,
	        .time_ns = T0_NS};
	assert_int_equal(nssm_sink_burst(s, &jumbo, 1, &err), 0);
	free(big);
	assert_int_equal(nssm_sink_finish(s, &err), 0);
	assert_int_equal(nssm_sink_stats(s)->sent, n);
	assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_TOO_LONG], 1);
	nssm_sink_close(&s);
}

/* Block by block: lengths at both ends, who wrote it, a comment a packet, statistics at the end. */
static void test_pcapng_blocks(void **state)
{
	const char *path = scratch("noted.pcapng");
	write_noted(path, 200);
	expect_file(path, 200, 0, false);
	size_t len;
	char *data = scratch_read(path, &len);
	uint64_t n = 0;
	uint32_t last = 0;
	for (size_t at = 0; at < len; at += get32(data + at + 4)) {
		assert_true(len - at >= 12);
		const char *block = data + at;
		uint32_t size = get32(block + 4);
		assert_true(size >= 12 && size % 4 == 0 && size <= len - at);
		assert_int_equal(get32(block + size - 4), size);
		last = get32(block);
		if (at == 0) {
			assert_int_equal(last, 0x0a0d0d0a);
			uint32_t n_hardware;
			assert_non_null(option(block + 24, block + size - 4, 2, &n_hardware));
			assert_true(n_hardware > 0);
			expect_option(block + 24, block + size - 4, 3, "linux", 5);
			expect_option(block + 24, block + size - 4, 4, "netssm " NSSM_VERSION,
			        strlen("netssm " NSSM_VERSION));
		} else if (last == 1) {
			assert_int_equal(n, 0);
			assert_int_equal(get32(block + 12), NSSM_CAPTURE_CAPLEN_MAX);
			expect_option(block + 16, block + size - 4, 9, "\x09", 1);
		} else if (last == 6) {
			expect_note(block, n++);
		} else {
			assert_int_equal(last, 5);
			assert_int_equal(at + size, len);
			uint64_t end_ns = T0_NS + 199 * 1000123ull;
			char v[8];
			uint32_t words[2] = {(uint32_t)(end_ns >> 32), (uint32_t)end_ns};
			memcpy(v, words, 8);
			expect_option(block + 20, block + size - 4, 3, v, 8);
			expect_option(block + 20, block + size - 4, 4, "\xc9\0\0\0\0\0\0", 8);
			expect_option(block + 20, block + size - 4, 5, "\x01\0\0\0\0\0\0", 8);
			expect_option(block + 20, block + size - 4, 8, "\xc8\0\0\0\0\0\0", 8);
		}
	}
	assert_int_equal(n, 200);
	assert_int_equal(last, 5);
	/* The same packets, the same bytes. */
	const char *again_path = scratch("again.pcapng");
	write_noted(again_path, 200);
	size_t again_len;
	char *again = scratch_read(again_path, &again_len);
	assert_int_equal(again_len, len);
	assert_memory_equal(again, data, len);
	free(again);
	free(data);
}

/* A label as long as can be is cut between characters, and the block stays whole. */
static void test_long_label(void **state)
{
	char name[2001];
	for (int i = 0; i < 2000; i += 2)
		memcpy(name + i, "é", 2);
	name[2000] = '\0';
	for (int shift = 0; shift < 2; shift++) {
		/* An odd number of bytes before the first é moves the border into a character. */
		char text[2002];
		snprintf(text, sizeof text, "%s%.1990s", shift ? "x" : "", name);
		const char *label[1] = {text};
		struct nssm_sink_cfg cfg = {.label = label, .n_labels = 1, .comments = true};
		struct nssm_sink *s;
		struct nssm_err err;
		const char *path = scratch("long.pcapng");
		assert_int_equal(nssm_sink_pcapng(&s, path, &cfg, &err), 0);
		uint8_t bytes[160];
		struct nssm_tx p = packet(0, bytes);
		p.session = UINT64_MAX;
		p.clone = UINT32_MAX;
		assert_int_equal(nssm_sink_burst(s, &p, 1, &err), 0);
		assert_int_equal(nssm_sink_finish(s, &err), 0);
		nssm_sink_close(&s);
		expect_file(path, 1, 0, false);
		size_t len;
		char *data = scratch_read(path, &len);
		size_t kept = shift ? 255 : 256;
		char expected[512];
		snprintf(expected, sizeof expected,
		        "label=%.*s session=18446744073709551615 clone=4294967295 dir=client", (int)kept,
		        text);
		assert_non_null(memmem(data, len, expected, strlen(expected)));
		free(data);
	}
}

/* Readable from the start, up to date after a second, and after a kill what was flushed is there in whole records. */
static void test_in_place(void **state)
{
	for (int kind = 0; kind < 2; kind++) {
		const char *path = scratch("grows");
		scratch_write(path, "something old and longer than a head", 36);
		struct nssm_sink_cfg cfg = {.in_place = true};
		struct nssm_sink *s;
		struct nssm_err err;
		assert_int_equal(open_sink[kind](&s, path, &cfg, &err), 0);
		expect_file(path, 0, 0, false);
		assert_int_equal(nssm_sink_tick(s, 7000000000u, &err), 0);
		assert_int_equal(burst(s, 0, 50, &err), 0);
		assert_int_equal(nssm_sink_tick(s, 7999999999u, &err), 0);
		expect_file(path, 0, 0, false);
		assert_int_equal(nssm_sink_tick(s, 8000000000u, &err), 0);
		expect_file(path, 50, 0, false);
		/* More than the buffer: written in between, ends of packets are ends of the file. */
		assert_int_equal(burst(s, 50, 30000, &err), 0);
		read_path(&got, path);
		assert_int_equal(got.rc, 0);
		assert_in_range(got.n, 15000, 29999);
		assert_int_equal(nssm_sink_finish(s, &err), 0);
		nssm_sink_close(&s);
		expect_file(path, 30000, 0, false);
	}
}

static void test_kill(void **state)
{
	for (int kind = 0; kind < 2; kind++) {
		const char *path = scratch("killed");
		int ends[2];
		assert_int_equal(pipe(ends), 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct nssm_sink_cfg cfg = {.in_place = true};
			struct nssm_sink *s;
			struct nssm_err err;
			if (open_sink[kind](&s, path, &cfg, &err) != 0 || burst(s, 0, 40000, &err) != 0 ||
			        nssm_sink_tick(s, 1, &err) != 0 || burst(s, 40000, 41000, &err) != 0 ||
			        write(ends[1], "x", 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
		char c;
		assert_int_equal(read(ends[0], &c, 1), 1);
		assert_int_equal(kill(pid, SIGKILL), 0);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		close(ends[0]);
		close(ends[1]);
		expect_file(path, 40000, 0, false);
	}
}

/* Killed wherever it is, within a write too: whole records, and at most the beginning of one more. */
static void test_kill_anywhere(void **state)
{
	enum { N = 90000 };
	for (int k = 0; k < 10; k++) {
		const char *path = scratch("killed");
		scratch_write(path, "", 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct nssm_sink_cfg cfg = {.in_place = true};
			struct nssm_sink *s;
			struct nssm_err err;
			if (nssm_sink_pcap(&s, path, &cfg, &err) != 0)
				_exit(1);
			(void)burst(s, 0, N, &err);
			for (;;)
				pause();
		}
		/* Each time a little further on. */
		struct stat st = {0};
		for (int i = 0; i < 100000 && stat(path, &st) == 0 && st.st_size <= k * (1 << 20); i++)
			usleep(100);
		assert_int_equal(kill(pid, SIGKILL), 0);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		size_t len, at = 24;
		char *data = scratch_read(path, &len);
		assert_true(len >= 24 && len > (size_t)k << 20);
		for (uint64_t i = 0; i < N && at < len; i++) {
			uint8_t bytes[160];
			struct nssm_tx p = packet(i, bytes);
			if (len - at < 16 + p.len)
				break;
			assert_int_equal(get32(data + at + 8), p.len);
			assert_memory_equal(data + at + 16, bytes, p.len);
			at += 16 + p.len;
		}
		assert_true(len - at < 16 + 160);
		free(data);
	}
}

/* Without finish: nothing under either name; in place, what was taken. */
static void test_no_finish(void **state)
{
	for (int in_place = 0; in_place < 2; in_place++) {
		const char *path = scratch("unfinished");
		struct nssm_sink_cfg cfg = {.in_place = in_place};
		struct nssm_sink *s;
		struct nssm_err err;
		assert_int_equal(nssm_sink_pcap(&s, path, &cfg, &err), 0);
		assert_int_equal(burst(s, 0, 60, &err), 0);
		nssm_sink_close(&s);
		if (in_place)
			expect_file(path, 60, 0, false);
		else
			assert_int_not_equal(access(path, F_OK), 0);
		char tmp[PATH_MAX + 32];
		snprintf(tmp, sizeof tmp, "%s.tmp.%ld", path, (long)getpid());
		assert_int_not_equal(access(tmp, F_OK), 0);
	}
}

/* pcap ends in 2106: the packet ends the run, and what came before it is kept where the file grows in place. */
static void test_late(void **state)
{
	for (int kind = 0; kind < 2; kind++) {
		const char *path = scratch("late");
		struct nssm_sink_cfg cfg = {.in_place = true};
		struct nssm_sink *s;
		struct nssm_err err;
		assert_int_equal(open_sink[kind](&s, path, &cfg, &err), 0);
		assert_int_equal(burst(s, 0, 10, &err), 0);
		uint8_t data[2][160];
		struct nssm_tx p[2] = {packet(10, data[0]), packet(11, data[1])};
		p[0].time_ns = 4294967296000000000u;
		int rc = nssm_sink_burst(s, p, 2, &err);
		if (kind == 0) {
			assert_int_equal(rc, NSSM_ERANGE);
			assert_non_null(strstr(err.msg, "packet 11: "));
			assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_ERROR], 2);
			assert_int_equal(nssm_sink_stats(s)->sent, 10);
			/* It stays, and counts go on. */
			struct nssm_err again;
			assert_int_equal(burst(s, 0, 5, &again), NSSM_ERANGE);
			assert_string_equal(again.msg, err.msg);
			assert_int_equal(nssm_sink_tick(s, 9, &again), NSSM_ERANGE);
			assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_ERROR], 7);
			assert_int_equal(nssm_sink_finish(s, &again), NSSM_ERANGE);
			nssm_sink_close(&s);
			expect_file(path, 10, 0, false);
			continue;
		}
		assert_int_equal(rc, 0);
		assert_int_equal(nssm_sink_finish(s, &err), 0);
		nssm_sink_close(&s);
		read_path(&got, path);
		assert_int_equal(got.rc, 0);
		assert_int_equal(got.n, 12);
		assert_int_equal(got.pkt[10].ts_ns, 4294967296000000000u);
	}
}

static void test_too_long(void **state)
{
	uint8_t *big = calloc(1, NSSM_CAPTURE_CAPLEN_MAX + 1);
	for (int kind = 0; kind < 2; kind++) {
		const char *path = scratch("jumbo");
		struct nssm_sink_cfg cfg = {0};
		struct nssm_sink *s;
		struct nssm_err err;
		assert_int_equal(open_sink[kind](&s, path, &cfg, &err), 0);
		struct nssm_tx p[3];
		for (uint32_t i = 0; i < 3; i++)
			p[i] = (struct nssm_tx){.data = big,
			        .len = NSSM_CAPTURE_CAPLEN_MAX + (i == 1),
			        .wirelen = UINT32_MAX,
			        .time_ns = T0_NS + i};
		/* Larger than the buffer together: still whole. */
		for (int k = 0; k < 5; k++)
			assert_int_equal(nssm_sink_burst(s, p, 3, &err), 0);
		assert_int_equal(nssm_sink_finish(s, &err), 0);
		assert_int_equal(nssm_sink_stats(s)->sent, 10);
		assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_TOO_LONG], 5);
		nssm_sink_close(&s);
		read_path(&got, path);
		assert_int_equal(got.rc, 0);
		assert_int_equal(got.n, 10);
		assert_int_equal(got.pkt[9].caplen, NSSM_CAPTURE_CAPLEN_MAX);
		assert_int_equal(got.pkt[9].ts_ns, T0_NS + 2);
	}
	free(big);
}

/* A disk that is full after 3 MiB. 0: the error came once, named the file and where, and every packet is accounted for. */
static int fill_disk(int kind, const char *path, bool in_place, int report)
{
	signal(SIGXFSZ, SIG_IGN);
	struct rlimit lim = {.rlim_cur = 3 << 20, .rlim_max = 3 << 20};
	struct nssm_sink_cfg cfg = {.in_place = in_place};
	struct nssm_sink *s;
	struct nssm_err err = {0};
	if (setrlimit(RLIMIT_FSIZE, &lim) != 0 || open_sink[kind](&s, path, &cfg, &err) != 0)
		return 2;
	int rc = burst(s, 0, 64000, &err);
	if (rc != NSSM_EIO || strstr(err.msg, path) == NULL || strstr(err.msg, "offset") == NULL)
		return 3;
	if (nssm_sink_finish(s, &err) != NSSM_EIO)
		return 4;
	const struct nssm_sink_stats *st = nssm_sink_stats(s);
	if (st->dropped[NSSM_DROP_ERROR] == 0 || st->dropped[NSSM_DROP_ERROR] != n_dropped(s))
		return 5;
	uint64_t counts[2] = {st->sent, st->sent + n_dropped(s)};
	nssm_sink_close(&s);
	return write(report, counts, sizeof counts) == sizeof counts ? 0 : 6;
}

static void test_disk_full(void **state)
{
	for (int kind = 0; kind < 4; kind++) {
		bool in_place = kind >= 2;
		const char *path = scratch("full");
		scratch_write(path, "old", 3);
		int ends[2];
		assert_int_equal(pipe(ends), 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			_exit(fill_disk(kind % 2, path, in_place, ends[1]));
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
		uint64_t counts[2]; /* sent, handed over */
		assert_int_equal(read(ends[0], counts, sizeof counts), sizeof counts);
		close(ends[0]);
		close(ends[1]);
		/* Bursts of 32 until the error came. */
		assert_in_range(counts[1], counts[0] + 1, 63999);
		assert_int_equal(counts[1] % NSSM_BURST, 0);
		if (in_place) {
			assert_true(counts[0] > 10000);
			expect_file(path, counts[0], 0, false);
		} else {
			assert_int_equal(counts[0], 0);
			size_t n;
			char *old = scratch_read(path, &n);
			assert_string_equal(old, "old");
			free(old);
		}
	}
}

static void test_full_device(void **state)
{
	if (access("/dev/full", W_OK) != 0) {
		skip();
		return;
	}
	struct nssm_sink_cfg cfg = {0};
	struct nssm_sink *s;
	struct nssm_err err;
	assert_int_equal(nssm_sink_pcap(&s, "/dev/full", &cfg, &err), 0);
	assert_int_equal(burst(s, 0, 10, &err), 0);
	assert_int_equal(nssm_sink_finish(s, &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "/dev/full: cannot write at offset 0: No space left"));
	assert_int_equal(nssm_sink_stats(s)->sent, 0);
	assert_int_equal(nssm_sink_stats(s)->bytes, 0);
	assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_ERROR], 10);
	nssm_sink_close(&s);
	/* One that grows in place says so at once. */
	cfg.in_place = true;
	assert_int_equal(nssm_sink_pcapng(&s, "/dev/full", &cfg, &err), NSSM_EIO);
	assert_null(s);
}

/* Paths that are none: a folder, a folder that is not there, one that goes away while the file is written. */
static void test_bad_path(void **state)
{
	struct nssm_sink *s;
	struct nssm_err err;
	for (int in_place = 0; in_place < 2; in_place++) {
		struct nssm_sink_cfg cfg = {.in_place = in_place};
		assert_int_equal(nssm_sink_pcap(&s, scratch_dir, &cfg, &err), NSSM_EIO);
		assert_non_null(strstr(err.msg, scratch_dir));
		assert_non_null(strstr(err.msg, in_place ? "Is a directory" : "is a folder"));
		assert_null(s);
		assert_int_equal(nssm_sink_pcapng(&s, "/nonexistent/x.pcapng", &cfg, &err), NSSM_EIO);
		assert_non_null(strstr(err.msg, "/nonexistent/x.pcapng"));
		assert_null(s);

		const char *dir = scratch("goes");
		assert_int_equal(mkdir(dir, 0700), 0);
		char path[PATH_MAX + 16], tmp[PATH_MAX + 48];
		snprintf(path, sizeof path, "%s/x.pcap", dir);
		snprintf(tmp, sizeof tmp, "%s.tmp.%ld", path, (long)getpid());
		assert_int_equal(nssm_sink_pcap(&s, path, &cfg, &err), 0);
		assert_int_equal(burst(s, 0, 10, &err), 0);
		assert_int_equal(unlink(in_place ? path : tmp), 0);
		assert_int_equal(rmdir(dir), 0);
		assert_int_equal(nssm_sink_finish(s, &err), NSSM_EIO);
		assert_non_null(strstr(err.msg, path));
		assert_non_null(strstr(err.msg, in_place ? "removed while it was written" : "rename"));
		assert_int_equal(nssm_sink_stats(s)->sent, 0);
		assert_int_equal(nssm_sink_stats(s)->dropped[NSSM_DROP_ERROR], 10);
		nssm_sink_close(&s);
	}
}

static void test_no_allocation(void **state)
{
	static const char *const label[2] = {"web", "dns"};
	for (int kind = 0; kind < 4; kind++) {
		struct nssm_sink_cfg cfg = {
		        .label = label, .n_labels = 2, .comments = true, .in_place = kind >= 2};
		struct nssm_sink *s;
		struct nssm_err err;
		assert_int_equal(open_sink[kind % 2](&s, scratch("still"), &cfg, &err), 0);
		unsigned long before = n_allocs;
		assert_true(before > 0);
		assert_int_equal(burst(s, 0, 20000, &err), 0);
		assert_int_equal(nssm_sink_tick(s, 1, &err), 0);
		assert_int_equal(burst(s, 20000, 40000, &err), 0);
		assert_int_equal(nssm_sink_finish(s, &err), 0);
		assert_int_equal(n_allocs, before);
		nssm_sink_close(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_whole),
	        cmocka_unit_test(test_pcapng_blocks),
	        cmocka_unit_test(test_long_label),
	        cmocka_unit_test(test_in_place),
	        cmocka_unit_test(test_kill),
	        cmocka_unit_test(test_kill_anywhere),
	        cmocka_unit_test(test_no_finish),
	        cmocka_unit_test(test_late),
	        cmocka_unit_test(test_too_long),
	        cmocka_unit_test(test_disk_full),
	        cmocka_unit_test(test_full_device),
	        cmocka_unit_test(test_bad_path),
	        cmocka_unit_test(test_no_allocation),
	};
	return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}
