/* Captures made by hand go in; packets, counters and errors must be what their bytes say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/philox.h"
#include "tests/capture_read.h"

/* --- samples --- */

enum { N_PLAIN = 7, N_SAMPLES = 2 * N_PLAIN };
static struct build samples[N_SAMPLES];
static uint64_t sample_ts[N_SAMPLES][3];

static void sample_pcap(int i, bool big, bool ns)
{
	build_pcap(&samples[i], big, ns, 262144, ETH);
	for (uint32_t k = 0; k < 3; k++) {
		uint32_t frac = ns ? 999999999 - k : 999999 - k;
		build_record(&samples[i], S0 + k, frac, frame_bytes[k], FRAME_CAP[k], FRAME_WIRE[k]);
		sample_ts[i][k] = (uint64_t)(S0 + k) * 1000000000 + (uint64_t)frac * (ns ? 1 : 1000);
	}
}

/* Interfaces in µs and ns: packet 1 is of the second one. */
static void sample_pcapng(int i, bool big)
{
	uint64_t us = (uint64_t)S0 * 1000000 + 123456, ns = (uint64_t)S0 * 1000000000 + 123456789;
	struct build *b = &samples[i];
	build_section(b, big);
	build_iface(b, ETH, 262144, 6, false, 0);
	build_iface(b, ETH, 262144, 9, false, 0);
	build_epb(b, 0, us, frame_bytes[0], FRAME_CAP[0], FRAME_WIRE[0]);
	build_epb(b, 1, ns, frame_bytes[1], FRAME_CAP[1], FRAME_WIRE[1]);
	build_epb(b, 0, us + 1, frame_bytes[2], FRAME_CAP[2], FRAME_WIRE[2]);
	sample_ts[i][0] = us * 1000;
	sample_ts[i][1] = ns;
	sample_ts[i][2] = (us + 1) * 1000;
}

/* 2^-10 s. */
static void sample_pcapng_binary(int i)
{
	struct build *b = &samples[i];
	build_section(b, false);
	build_iface(b, ETH, 0, 0x8a, false, 0);
	for (uint32_t k = 0; k < 3; k++) {
		build_epb(
		        b, 0, (uint64_t)S0 * 1024 + 1 + 511 * k, frame_bytes[k], FRAME_CAP[k], FRAME_WIRE[k]);
		sample_ts[i][k] = (uint64_t)S0 * 1000000000 + (uint64_t)(1 + 511 * k) * 1000000000 / 1024;
	}
}

static int make_samples(void **state)
{
	make_frames(state);
	sample_pcap(0, false, false);
	sample_pcap(1, false, true);
	sample_pcap(2, true, false);
	sample_pcap(3, true, true);
	sample_pcapng(4, false);
	sample_pcapng(5, true);
	sample_pcapng_binary(6);
	for (int i = 0; i < N_PLAIN; i++) {
		samples[N_PLAIN + i] = build_gz(&samples[i]);
		memcpy(sample_ts[N_PLAIN + i], sample_ts[i], sizeof sample_ts[i]);
	}
	return 0;
}

static int free_samples(void **state)
{
	(void)state;
	for (int i = 0; i < N_SAMPLES; i++)
		build_free(&samples[i]);
	return 0;
}

static void expect_sample(const struct got *g, int i, size_t n)
{
	assert_int_equal(g->n, n);
	for (size_t k = 0; k < n; k++)
		expect_packet(g, k, sample_ts[i][k], frame_bytes[k], FRAME_CAP[k], FRAME_WIRE[k]);
}

static void test_samples(void **state)
{
	(void)state;
	for (int i = 0; i < N_SAMPLES; i++) {
		struct got g;
		read_build(&g, &samples[i]);
		assert_int_equal(g.rc, 0);
		expect_sample(&g, i, 3);
		assert_int_equal(g.info.link_type, ETH);
		assert_int_equal(g.info.snaplen, 262144);
		assert_int_equal(g.info.gz, i >= N_PLAIN);
		/* Sample 6: 2^-10 s is 976,562.5 ns. */
		int plain = i % N_PLAIN;
		assert_int_equal(g.info.ns, plain == 1 || plain >= 3);
		assert_int_equal(g.info.file_bytes, samples[i].len);
		assert_int_equal(g.info.read_bytes, samples[i].len);
		assert_int_equal(g.info.n_bytes, 60 + 77 + 96);
		assert_int_equal(g.info.n_normalised + g.info.n_short_link + g.info.n_wirelen_raised, 0);
		assert_int_equal(g.info.n_bad_time, 0);
	}
}

static bool is_bound(const struct build *b, size_t at)
{
	for (size_t i = 0; i < b->n_bounds; i++)
		if (b->bounds[i] == at)
			return true;
	return false;
}

/* Cut at every byte: the packets before the cut, then the end if the cut is between blocks, else an error
 * that counts. */
static void test_cut_everywhere(void **state)
{
	(void)state;
	for (int i = 0; i < N_SAMPLES; i++) {
		const struct build *b = &samples[i];
		for (size_t at = 0; at < b->len; at++) {
			struct got g;
			read_bytes(&g, b->data, at);
			if (b->gz) {
				assert_true(g.rc < 0);
				expect_sample(&g, i, g.n);
				continue;
			}
			size_t n = 0;
			while (n < b->n_packets && b->ends[n] <= at)
				n++;
			expect_sample(&g, i, n);
			assert_int_equal(g.rc == 0, is_bound(b, at));
			if (g.opened && g.rc < 0) {
				char want[64];
				/* The block that is cut starts where the last one ended. */
				size_t from = 0;
				for (size_t k = 0; k < b->n_bounds && b->bounds[k] <= at; k++)
					from = b->bounds[k];
				snprintf(want, sizeof want, "packet %zu at offset %zu: ", n + 1, from);
				/* An error in an interface block is met on the way from the packet before. */
				if (g.n > 0)
					assert_non_null(strstr(g.err.msg, want));
			}
		}
	}
}

static void test_bit_flips(void **state)
{
	(void)state;
	struct nssm_rng rng;
	nssm_rng_init(&rng, 20260101, 0, 1);
	for (int i = 0; i < N_SAMPLES; i++) {
		const struct build *b = &samples[i];
		uint8_t *copy = malloc(b->len);
		assert_non_null(copy);
		size_t n_bad = 0;
		for (int k = 0; k < 2000; k++) {
			memcpy(copy, b->data, b->len);
			for (uint32_t flips = 1 + nssm_rng_below(&rng, 4); flips > 0; flips--)
				copy[nssm_rng_below(&rng, (uint32_t)b->len)] ^=
				        (uint8_t)(1 << nssm_rng_below(&rng, 8));
			struct got g;
			read_bytes(&g, copy, b->len);
			n_bad += g.rc < 0;
			/* 16 bytes are the least a packet takes; a broken gz gives no bytes out of thin air
			 * either. */
			if (!b->gz)
				assert_true(g.n <= b->len / 16);
		}
		/* Some flips break the format, or nothing was flipped. */
		assert_true(n_bad > 100);
		free(copy);
	}
}

/* --- link types --- */

#define HOST "\x02\0\0\0\0\x01"
#define PEER "\x02\0\0\0\0\x02"
#define MAC  "\xaa\xbb\xcc\xdd\xee\xff"

static const struct link_case {
	uint32_t linktype;
	const char *in; /* link header and the first bytes of what it carries */
	uint32_t in_len, hdr_len;
	const char *eth; /* the Ethernet header that must come out */
	bool no_type;
} LINK_CASES[] = {
        /* clang-format off */
	/* Cooked v1: type, ARPHRD, address length, address[8], protocol. */
	{113, "\0\0\0\1\0\6" MAC "\0\0\x08\0\x45", 17, 16, HOST MAC "\x08\0", false},
	{113, "\0\4\0\1\0\6" MAC "\0\0\x86\xdd\x60", 17, 16, MAC HOST "\x86\xdd", false},
	{113, "\0\4\x03\x04\0\0\0\0\0\0\0\0\0\0\x08\0\x45", 17, 16, PEER HOST "\x08\0", false},
	{113, "\0\0\0\1\0\6" MAC "\0\0\x81\0\0\7\x08\0", 20, 16, HOST MAC "\x81\0", false},
	{113, "\0\0\0\1\0\6" MAC "\0\0\0\4\x42", 17, 16, HOST MAC "\xff\xff", true},
	{113, "\0\0\0\1\0\6" MAC "\0\0\5\xff\x42", 17, 16, HOST MAC "\xff\xff", true},
	{113, "\0\0\0\1\0\6" MAC "\0\0\6\0\x42", 17, 16, HOST MAC "\6\0", false},
	{113, "\0\0\x03\x38\0\0\0\0\0\0\0\0\0\0\x08\0\x45", 17, 16, HOST PEER "\xff\xff", true}, /* netlink */
	/* Cooked v2: protocol, reserved, interface[4], ARPHRD, type, address length, address[8]. */
	{276, "\x08\0\0\0\0\0\0\2\0\1\0\6" MAC "\0\0\x45", 21, 20, HOST MAC "\x08\0", false},
	{276, "\x86\xdd\0\0\0\0\0\2\0\1\4\6" MAC "\0\0\x60", 21, 20, MAC HOST "\x86\xdd", false},
	{101, "\x45\1\2", 3, 0, HOST PEER "\x08\0", false},
	{101, "\x60\1\2", 3, 0, HOST PEER "\x86\xdd", false},
	{101, "\x55\1\2", 3, 0, HOST PEER "\xff\xff", true},
	{12, "\x45\1\2", 3, 0, HOST PEER "\x08\0", false},
	{14, "\x60\1\2", 3, 0, HOST PEER "\x86\xdd", false},
	{228, "\x45\1\2", 3, 0, HOST PEER "\x08\0", false},
	{229, "\x60\1\2", 3, 0, HOST PEER "\x86\xdd", false},
	{0, "\2\0\0\0\x45", 5, 4, HOST PEER "\x08\0", false},
	{0, "\0\0\0\2\x45", 5, 4, HOST PEER "\x08\0", false},
	{0, "\x1e\0\0\0\x60", 5, 4, HOST PEER "\x86\xdd", false},
	{0, "\0\0\0\x1c\x60", 5, 4, HOST PEER "\x86\xdd", false},
	{0, "\1\2\3\4\x45", 5, 4, HOST PEER "\xff\xff", true},
	{108, "\0\0\0\2\x45", 5, 4, HOST PEER "\x08\0", false},
	{108, "\0\0\0\x18\x60", 5, 4, HOST PEER "\x86\xdd", false},
	{108, "\0\0\0\7\x60", 5, 4, HOST PEER "\xff\xff", true},
        /* clang-format on */
};

/* Each link type: the frame that comes out, its lengths, and at every shorter length a skip that is counted.
 */
static void test_link_types(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof LINK_CASES / sizeof LINK_CASES[0]; i++) {
		const struct link_case *l = &LINK_CASES[i];
		struct build b;
		build_pcap(&b, false, false, 65535, l->linktype);
		uint32_t least = l->hdr_len > 0 ? l->hdr_len : 1;
		for (uint32_t cap = 0; cap < least; cap++)
			build_record(&b, S0, 0, l->in, cap, 1000);
		build_record(&b, S0, 1, l->in, l->in_len, 1000);
		build_record(&b, S0, 2, l->in, l->in_len, UINT32_MAX);
		struct got g;
		read_build(&g, &b);
		assert_int_equal(g.rc, 0);
		assert_int_equal(g.n, 2);
		uint32_t carried = l->in_len - l->hdr_len;
		uint8_t want[64];
		memcpy(want, l->eth, 14);
		memcpy(want + 14, l->in + l->hdr_len, carried);
		expect_packet(
		        &g, 0, (uint64_t)S0 * 1000000000 + 1000, want, 14 + carried, 1000 - l->hdr_len + 14);
		uint64_t wire = (uint64_t)UINT32_MAX - l->hdr_len + 14;
		assert_int_equal(g.pkt[1].wirelen, wire < UINT32_MAX ? wire : UINT32_MAX);
		assert_int_equal(g.info.link_type, l->linktype == 12 ? 101 : l->linktype);
		assert_int_equal(g.info.n_short_link, least);
		assert_int_equal(g.info.n_normalised, 2);
		assert_int_equal(g.info.n_no_ethertype, l->no_type ? 2 : 0);
		build_free(&b);
	}
}

static void test_ethernet_short(void **state)
{
	(void)state;
	struct build b;
	build_pcap(&b, false, false, 65535, ETH);
	for (uint32_t cap = 0; cap <= 15; cap++)
		build_record(&b, S0, 0, frame_bytes[0], cap, 60);
	struct got g;
	read_build(&g, &b);
	assert_int_equal(g.rc, 0);
	assert_int_equal(g.n, 2);
	assert_int_equal(g.info.n_short_link, 14);
	expect_packet(&g, 0, (uint64_t)S0 * 1000000000, frame_bytes[0], 14, 60);
	build_free(&b);
}

/* The header announces two 16-bit words of FCS: no part of the packet, captured or not. */
static void test_fcs(void **state)
{
	(void)state;
	struct build b;
	build_pcap(&b, false, false, 65535, ETH | 0x04000000 | 2u << 28);
	build_record(&b, S0, 0, frame_bytes[0], 64, 64);
	build_record(&b, S0, 0, frame_bytes[1], 62, 64);
	build_record(&b, S0, 0, frame_bytes[2], 50, 64);
	struct got g;
	read_build(&g, &b);
	assert_int_equal(g.rc, 0);
	expect_packet(&g, 0, (uint64_t)S0 * 1000000000, frame_bytes[0], 60, 60);
	expect_packet(&g, 1, (uint64_t)S0 * 1000000000, frame_bytes[1], 60, 60);
	expect_packet(&g, 2, (uint64_t)S0 * 1000000000, frame_bytes[2], 50, 60);
	build_free(&b);
}

static void test_refused_links(void **state)
{
	(void)state;
	static const struct {
		uint32_t linktype;
		const char *name;
	} cases[] = {{105, "105 (IEEE802_11)"}, {147, "147 ("}, {9, "9 (PPP)"}, {60000, "60000 (unknown)"}};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct build b;
		build_pcap(&b, false, false, 65535, cases[i].linktype);
		struct got g;
		read_build(&g, &b);
		assert_int_equal(g.rc, NSSM_EUNSUP);
		assert_non_null(strstr(g.err.msg, cases[i].name));
		assert_non_null(
		        strstr(g.err.msg, "Ethernet (1), Linux cooked v1 (113), Linux cooked v2 (276), "));
		assert_non_null(strstr(g.err.msg, "null (0), loopback (108)"));
		build_free(&b);
	}
}

/* --- fields that lie --- */

static void test_lying_fields(void **state)
{
	(void)state;
	for (int big = 0; big < 2; big++) {
		struct build b;
		build_pcap(&b, big, false, 20, ETH); /* a snaplen that no packet keeps to */
		build_record(&b, S0, 1, frame_bytes[0], 60, 40);
		build_record(&b, S0, 1000000, frame_bytes[0], 60, 60);
		build_record(&b, S0, 0xffffffff, frame_bytes[0], 60, 60);
		build_record(&b, 0xffffffff, 999999, frame_bytes[0], 60, 60); /* 2106, unsigned */
		struct got g;
		read_build(&g, &b);
		assert_int_equal(g.rc, 0);
		assert_int_equal(g.info.snaplen, 20);
		expect_packet(&g, 0, (uint64_t)S0 * 1000000000 + 1000, frame_bytes[0], 60, 60);
		expect_packet(&g, 1, (uint64_t)S0 * 1000000000 + 999999999, frame_bytes[0], 60, 60);
		expect_packet(&g, 2, (uint64_t)S0 * 1000000000 + 999999999, frame_bytes[0], 60, 60);
		expect_packet(&g, 3, 4294967295u * 1000000000ull + 999999000, frame_bytes[0], 60, 60);
		assert_int_equal(g.info.n_wirelen_raised, 1);
		assert_int_equal(g.info.n_bad_time, 2);
		build_free(&b);
	}
}

/* pcapng reaches further than ns in 64 bits do, both ways. */
static void test_far_times(void **state)
{
	(void)state;
	struct build b;
	build_section(&b, false);
	build_iface(&b, ETH, 0, 9, true, -100);
	build_iface(&b, ETH, 0, 0, true, INT64_MAX - 5);
	build_iface(&b, ETH, 0, 0, false, 0);
	build_epb(&b, 0, 99999999999, frame_bytes[0], 60, 60);
	build_epb(&b, 0, 100000000007, frame_bytes[0], 60, 60);
	build_epb(&b, 1, 4, frame_bytes[0], 60, 60);
	build_epb(&b, 2, 9223372035, frame_bytes[0], 60, 60);
	build_epb(&b, 2, 9223372036, frame_bytes[0], 60, 60);
	struct got g;
	read_build(&g, &b);
	assert_int_equal(g.rc, 0);
	assert_int_equal(g.n, 5);
	static const uint64_t want[] = {0, 7, 9223372035000000000, 9223372035000000000, 9223372035000000000};
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(g.pkt[i].ts_ns, want[i]);
	assert_int_equal(g.info.n_bad_time, 3);
	build_free(&b);
}

static void test_too_long(void **state)
{
	(void)state;
	uint8_t *big = calloc(1, NSSM_CAPTURE_CAPLEN_MAX + 1);
	assert_non_null(big);
	struct build b;
	build_pcap(&b, false, false, 0, ETH);
	build_record(&b, S0, 0, big, NSSM_CAPTURE_CAPLEN_MAX, NSSM_CAPTURE_CAPLEN_MAX);
	build_record(&b, S0, 0, big, NSSM_CAPTURE_CAPLEN_MAX + 1, NSSM_CAPTURE_CAPLEN_MAX + 1);
	struct got g;
	read_build(&g, &b);
	assert_int_equal(g.rc, NSSM_EFORMAT);
	assert_int_equal(g.n, 1);
	assert_int_equal(g.pkt[0].caplen, NSSM_CAPTURE_CAPLEN_MAX);
	assert_non_null(strstr(g.err.msg, "packet 2 at offset 262184: "));
	assert_non_null(strstr(g.err.msg, "262145"));
	build_free(&b);
	free(big);
}

static void test_mixed_links(void **state)
{
	(void)state;
	struct build b;
	build_section(&b, true);
	build_iface(&b, ETH, 0, -1, false, 0);
	build_epb(&b, 0, 5, frame_bytes[0], 60, 60);
	build_iface(&b, 113, 0, -1, false, 0);
	build_epb(&b, 1, 5, frame_bytes[0], 60, 60);
	struct got g;
	read_build(&g, &b);
	assert_int_equal(g.rc, NSSM_EFORMAT);
	assert_int_equal(g.n, 1);
	assert_non_null(strstr(g.err.msg, "packet 2 at offset 140: "));
	assert_non_null(strstr(g.err.msg, "type 113"));
	build_free(&b);
}

/* --- gz
 * ----------------------------------------------------------------------------------------------------------
 */

static void test_gz_broken(void **state)
{
	(void)state;
	struct build z = build_gz(&samples[0]);
	/* The CRC in the trailer. */
	z.data[z.len - 6] ^= 1;
	struct got g;
	read_build(&g, &z);
	assert_int_equal(g.rc, NSSM_EFORMAT);
	assert_non_null(strstr(g.err.msg, "gz stream broken"));
	z.data[z.len - 6] ^= 1;
	/* Cut in the trailer: all packets were there, and yet it is no whole file. */
	read_bytes(&g, z.data, z.len - 1);
	assert_int_equal(g.rc, NSSM_EFORMAT);
	assert_int_equal(g.n, 3);
	assert_non_null(strstr(g.err.msg, "packet 4 at offset"));
	assert_non_null(strstr(g.err.msg, "ends too early"));
	build_free(&z);
}

/* gzip files may be put one behind the other. */
static void test_gz_members(void **state)
{
	(void)state;
	struct build head = samples[0], tail = samples[0];
	head.len = samples[0].ends[0];
	tail.data += head.len;
	tail.len -= head.len;
	struct build a = build_gz(&head), b = build_gz(&tail);
	build_bytes(&a, b.data, b.len);
	struct got g;
	read_build(&g, &a);
	assert_int_equal(g.rc, 0);
	expect_sample(&g, 0, 3);
	build_free(&a);
	build_free(&b);
}

/* A few kilobytes of gz hold more interfaces than are kept. */
static void test_iface_bomb(void **state)
{
	(void)state;
	for (int big = 0; big < 2; big++) {
		struct build b;
		build_section(&b, big);
		for (uint32_t i = 0; i < NSSM_CAPTURE_IFACES_MAX + 10; i++) {
			b.n_bounds = 0;
			build_iface(&b, ETH, 0, -1, false, 0);
		}
		struct build z = build_gz(&b);
		assert_true(z.len < 40000);
		struct got g;
		read_build(&g, &z);
		assert_int_equal(g.rc, NSSM_EFORMAT);
		assert_non_null(strstr(g.err.msg, "more than 262144 interfaces"));
		build_free(&b);
		build_free(&z);
	}
}

/* --- where captures come from --- */

static void test_stdin(void **state)
{
	(void)state;
	char path[64];
	int fd = build_memfd(samples[1].data, samples[1].len, path), old = dup(STDIN_FILENO);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_true(dup2(fd, STDIN_FILENO) == STDIN_FILENO);
	struct got g;
	read_path(&g, "-");
	dup2(old, STDIN_FILENO);
	close(old);
	close(fd);
	assert_int_equal(g.rc, 0);
	expect_sample(&g, 1, 3);
}

static void test_fifo(void **state)
{
	(void)state;
	char path[PATH_MAX];
	in_dir(path, "fifo");
	assert_int_equal(mkfifo(path, 0600), 0);
	for (int i = 1; i < N_SAMPLES; i += N_PLAIN) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			int fd = open(path, O_WRONLY);
			bool ok = fd >= 0;
			/* In pieces, so that the reader must put blocks together. */
			for (size_t at = 0; ok && at < samples[i].len; at++)
				ok = write(fd, samples[i].data + at, 1) == 1;
			_exit(ok ? 0 : 1);
		}
		struct got g;
		read_path(&g, path);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		assert_int_equal(g.rc, 0);
		expect_sample(&g, i, 3);
		assert_int_equal(g.info.read_bytes, 0);
	}
	assert_int_equal(unlink(path), 0);
}

static void test_open_errors(void **state)
{
	(void)state;
	struct got g;
	read_path(&g, "/nonexistent/x.pcap");
	assert_int_equal(g.rc, NSSM_EIO);
	assert_string_equal(g.err.msg, "/nonexistent/x.pcap: cannot open: No such file or directory");
	read_path(&g, tmp_dir);
	assert_int_equal(g.rc, NSSM_EIO);
	assert_non_null(strstr(g.err.msg, "folder"));
	read_bytes(&g, "not a capture, but long enough to be one", 40);
	assert_int_equal(g.rc, NSSM_EFORMAT);
	/* The message keeps a long path's tail and has room for the reason. */
	char path[1024];
	memset(path, 'd', sizeof path);
	strcpy(path + 900, "/tail.pcap");
	read_path(&g, path);
	assert_int_equal(g.rc, NSSM_EIO);
	assert_non_null(strstr(g.err.msg, "/tail.pcap: cannot open: File name too long"));
}

static int setup(void **state)
{
	return make_samples(state) != 0 || make_dir(state) != 0;
}

static int teardown(void **state)
{
	return free_samples(state) != 0 || remove_dir(state) != 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_samples),
	        cmocka_unit_test(test_cut_everywhere),
	        cmocka_unit_test(test_bit_flips),
	        cmocka_unit_test(test_link_types),
	        cmocka_unit_test(test_ethernet_short),
	        cmocka_unit_test(test_fcs),
	        cmocka_unit_test(test_refused_links),
	        cmocka_unit_test(test_lying_fields),
	        cmocka_unit_test(test_far_times),
	        cmocka_unit_test(test_too_long),
	        cmocka_unit_test(test_mixed_links),
	        cmocka_unit_test(test_gz_broken),
	        cmocka_unit_test(test_gz_members),
	        cmocka_unit_test(test_iface_bomb),
	        cmocka_unit_test(test_stdin),
	        cmocka_unit_test(test_fifo),
	        cmocka_unit_test(test_open_errors),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
