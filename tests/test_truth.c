/* truth: SHA-1 and Community ID against published answers, rows as text, files whole and in place, a full disk.
 * usage: test_truth [--write FILE N SEED]: N random rows into FILE, and what they were made of to standard output, for truth.py;
 *        test_truth --ids: flows from standard input ("proto src sport dst dport"), their IDs to standard output */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/philox.h"
#include "base/sha1.h"
#include "replay/truth.h"
#include "scratch.h"

static void hex(char out[2 * NSSM_SHA1_BYTES + 1], const uint8_t in[NSSM_SHA1_BYTES])
{
	for (int i = 0; i < NSSM_SHA1_BYTES; i++)
		snprintf(out + 2 * i, 3, "%02x", in[i]);
}

/* FIPS 180's examples (appendix A of 180-2), and the empty message. */
static void sha1_known(void **state)
{
	static const struct {
		const char *text, *digest;
	} want[] = {
	        {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
	        {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
	        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	                "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
	};
	uint8_t digest[NSSM_SHA1_BYTES];
	char text[2 * NSSM_SHA1_BYTES + 1];
	for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
		nssm_sha1(digest, want[i].text, strlen(want[i].text));
		hex(text, digest);
		assert_string_equal(text, want[i].digest);
	}
	nssm_sha1(digest, NULL, 0);
	hex(text, digest);
	assert_string_equal(text, want[0].digest);
	char *million = malloc(1000000);
	assert_non_null(million);
	memset(million, 'a', 1000000);
	nssm_sha1(digest, million, 1000000);
	hex(text, digest);
	assert_string_equal(text, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
	/* Every way in which the padding falls: the digest of the digests, from an independent implementation
	 * (Python: sha1(b"".join(sha1(b"a" * n).digest() for n in range(200)))). */
	uint8_t all[200 * NSSM_SHA1_BYTES];
	for (size_t n = 0; n < 200; n++)
		nssm_sha1(all + n * NSSM_SHA1_BYTES, million, n);
	nssm_sha1(digest, all, sizeof all);
	hex(text, digest);
	assert_string_equal(text, "8a18f04bac7c86cfcffa6a93e5cb21ae0159deac");
	free(million);
}

static struct nssm_tuple tuple(int proto, const char *src, unsigned sport, const char *dst, unsigned dport)
{
	struct nssm_tuple t = {.proto = (uint8_t)proto, .port = {(uint16_t)sport, (uint16_t)dport}};
	t.ip_version = strchr(src, ':') != NULL ? 6 : 4;
	int family = t.ip_version == 6 ? AF_INET6 : AF_INET;
	if (inet_pton(family, src, t.addr[0]) != 1 || inet_pton(family, dst, t.addr[1]) != 1)
		abort();
	return t;
}

/* The specification's baseline (community-id-spec, baseline_deflt.json) and its reference implementation's tests
 * (pycommunityid, communityid_test.py). */
static void community_id(void **state)
{
	static const struct {
		int proto;
		const char *src;
		unsigned sport;
		const char *dst;
		unsigned dport;
		const char *id;
	} want[] = {
	        {6, "128.232.110.120", 34855, "66.35.250.204", 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
	        {6, "66.35.250.204", 80, "128.232.110.120", 34855, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
	        {6, "10.0.0.1", 10, "10.0.0.2", 11569, "1:SXBGMX1lBOwhhoDrZynfROxnhnM="},
	        {6, "2001:470:e5bf:dead:4957:2174:e82c:4887", 63943, "2607:f8b0:400c:c03::1a", 25,
	                "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="},
	        {6, "2607:f8b0:400c:c03::1a", 25, "2001:470:e5bf:dead:4957:2174:e82c:4887", 63943,
	                "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="},
	        {17, "192.168.1.52", 54585, "8.8.8.8", 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="},
	        {17, "8.8.8.8", 53, "192.168.1.52", 54585, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="},
	        {132, "192.168.170.8", 7, "192.168.170.56", 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="},
	        {132, "192.168.170.8", 7, "192.168.170.56", 80, "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ="},
	        {132, "192.168.170.56", 80, "192.168.170.8", 7, "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ="},
	        {1, "192.168.0.89", 8, "192.168.0.1", 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="},
	        {1, "192.168.0.1", 0, "192.168.0.89", 8, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="},
	        {1, "192.168.0.1", 0, "192.168.0.89", 20, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="},
	        {1, "192.168.0.89", 20, "192.168.0.1", 0, "1:3o2RFccXzUgjl7zDpqmY7yJi8rI="},
	        {1, "192.168.0.89", 20, "192.168.0.1", 1, "1:tz/fHIDUHs19NkixVVoOZywde+I="},
	        {1, "10.0.0.1", 11, "10.0.0.2", 0, "1:YHxtAirCG//0OzkcVAukqKQN9xM="},
	        {58, "fe80::200:86ff:fe05:80da", 135, "fe80::260:97ff:fe07:69ea", 0,
	                "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="},
	        {58, "fe80::260:97ff:fe07:69ea", 136, "fe80::200:86ff:fe05:80da", 0,
	                "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="},
	        {58, "fe80::260:97ff:fe07:69ea", 135, "fe80::200:86ff:fe05:80da", 136,
	                "1:zavyT/cezQr1fmImYCwYnMXbgck="},
	        {58, "3ffe:501:1800:2345::2", 3, "3ffe:507:0:1:200:86ff:fe05:80da", 0,
	                "1:2ObVBgIn28oZvibYZhZMBgh7WdQ="},
	        {58, "3ffe:501:410:0:2c0:dfff:fe47:33e", 1, "3ffe:507:0:1:200:86ff:fe05:80da", 4,
	                "1:hLZd0XGWojozrvxqE0dWB1iM6R0="},
	        {58, "3ffe:507:0:1:260:97ff:fe07:69ea", 3, "3ffe:507:0:1:200:86ff:fe05:80da", 0,
	                "1:NdobDX8PQNJbAyfkWxhtL2Pqp5w="},
	        {58, "3ffe:507:0:1:200:86ff:fe05:80da", 3, "3ffe:507:0:1:260:97ff:fe07:69ea", 0,
	                "1:/OGBt9BN1ofenrmSPWYicpij2Vc="},
	        {58, "3ffe:507:0:1:200:86ff:fe05:80da", 128, "3ffe:501:0:1001::2", 0,
	                "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="},
	        {58, "3ffe:501:0:1001::2", 129, "3ffe:507:0:1:200:86ff:fe05:80da", 0,
	                "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="},
	        {58, "fe80::200:86ff:fe05:80da", 133, "ff02::2", 0, "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0="},
	        {58, "fe80::260:97ff:fe07:69ea", 134, "ff02::1", 0, "1:pkvHqCL88/tg1k4cPigmZXUtL00="},
	        {46, "10.1.12.1", 0, "10.1.12.2", 0, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="},
	        {46, "10.1.24.4", 0, "10.1.12.1", 0, "1:/nQI4Rh/TtY3mf0R2gJFBkVlgS4="},
	        {46, "10.1.12.1", 0, "10.1.24.4", 0, "1:/nQI4Rh/TtY3mf0R2gJFBkVlgS4="},
	};
	char id[NSSM_COMMUNITY_ID_BYTES];
	for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
		struct nssm_tuple t =
		        tuple(want[i].proto, want[i].src, want[i].sport, want[i].dst, want[i].dport);
		nssm_community_id(id, &t);
		assert_string_equal(id, want[i].id);
	}
}

static const char HEAD[] = "community_id,proto,src_ip,src_port,dst_ip,dst_port,label,session,clone,first_due,"
                           "last_due,first_sent,last_sent,packets_fwd,packets_rev,bytes_fwd,bytes_rev,"
                           "dropped,state\n";
static const char *const labels[] = {"web", "a,b \"c\"\nd", "", "\xc3\xa9t\xc3\xa9"};
#define N_LABELS (sizeof labels / sizeof labels[0])

static void rows(void **state)
{
	for (int in_place = 0; in_place < 2; in_place++) {
		const char *path = scratch(in_place ? "in_place.csv" : "whole.csv");
		struct nssm_truth *t;
		struct nssm_err err;
		assert_int_equal(nssm_truth_open(&t, path, labels, N_LABELS, in_place, &err), 0);
		struct nssm_truth_row row = {.tuple = tuple(6, "128.232.110.120", 34855, "66.35.250.204", 80),
		        .session = 3,
		        .clone = 7,
		        .first_due_ns = 1700000000000000001,
		        .last_due_ns = 1700000001500000000,
		        .first_sent_ns = 1700000000000000301,
		        .last_sent_ns = 1700000001500000999,
		        .packets = {10, 12},
		        .bytes = {1000, 15000},
		        .complete = true};
		assert_int_equal(nssm_truth_row(t, &row, &err), 0);
		row = (struct nssm_truth_row){.tuple = tuple(58, "fe80::1", 128, "::ffff:1.2.3.4", 0),
		        .label_idx = 1,
		        .session = UINT64_MAX,
		        .clone = UINT32_MAX,
		        .first_due_ns = 999999999,
		        .last_due_ns = UINT64_MAX,
		        .dropped = UINT64_MAX};
		assert_int_equal(nssm_truth_row(t, &row, &err), 0);
		row.tuple = tuple(47, "0.0.0.0", 0, "255.255.255.255", 0);
		row.label_idx = N_LABELS;
		assert_int_equal(nssm_truth_row(t, &row, &err), 0);
		assert_int_equal(nssm_truth_rows(t), 3);
		if (in_place) {
			/* Killed now, the file would hold the columns' names and what was flushed. */
			size_t n;
			char *text = scratch_read(path, &n);
			assert_string_equal(text, HEAD);
			free(text);
			assert_int_equal(nssm_truth_flush(t, &err), 0);
		} else {
			assert_int_equal(access(path, F_OK), -1);
			assert_int_equal(nssm_truth_finish(t, &err), 0);
		}
		size_t n;
		char *text = scratch_read(path, &n), want[2048], id[2][NSSM_COMMUNITY_ID_BYTES];
		struct nssm_tuple odd[2] = {tuple(58, "fe80::1", 128, "::ffff:1.2.3.4", 0), row.tuple};
		nssm_community_id(id[0], &odd[0]);
		nssm_community_id(id[1], &odd[1]);
		snprintf(want, sizeof want,
		        "%s1:LQU9qZlK+B5F3KDmev6m5PMibrg=,6,128.232.110.120,34855,66.35.250.204,80,web,3,7,"
		        "1700000000.000000001,1700000001.500000000,1700000000.000000301,1700000001.500000999,"
		        "10,12,1000,15000,0,complete\n"
		        "%s,58,fe80::1,128,::ffff:1.2.3.4,0,\"a,b "
		        "\"\"c\"\"\nd\",18446744073709551615,4294967295,"
		        "0.999999999,18446744073.709551615,,,0,0,0,0,18446744073709551615,cut\n"
		        "%s,47,0.0.0.0,0,255.255.255.255,0,,18446744073709551615,4294967295,"
		        "0.999999999,18446744073.709551615,,,0,0,0,0,18446744073709551615,cut\n",
		        HEAD, id[0], id[1]);
		assert_string_equal(text, want);
		free(text);
		if (in_place)
			assert_int_equal(nssm_truth_finish(t, &err), 0);
		nssm_truth_close(&t);
		assert_null(t);
		nssm_truth_close(&t);
	}
}

/* What was there before stays until a whole file takes its place; in place it goes at once. */
static void before(void **state)
{
	const char *path = scratch("before.csv");
	struct nssm_err err;
	struct nssm_truth *t;
	size_t n;
	scratch_write(path, "old", 3);
	assert_int_equal(nssm_truth_open(&t, path, NULL, 0, false, &err), 0);
	nssm_truth_close(&t);
	char *text = scratch_read(path, &n);
	assert_string_equal(text, "old");
	free(text);
	assert_int_equal(nssm_truth_open(&t, path, NULL, 0, true, &err), 0);
	nssm_truth_close(&t);
	text = scratch_read(path, &n);
	assert_string_equal(text, HEAD);
	free(text);
}

static void refused(void **state)
{
	struct nssm_truth *t;
	struct nssm_err err;
	const char *fifo = scratch("fifo"), *folder = scratch("folder"), *missing = scratch("no/such.csv");
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(mkdir(folder, 0700), 0);
	const char *const bad[] = {folder, missing, fifo};
	for (int in_place = 0; in_place < 2; in_place++)
		for (size_t i = 0; i < (in_place ? 2 : 3); i++) { /* in place, pipes are taken */
			assert_int_equal(nssm_truth_open(&t, bad[i], NULL, 0, in_place, &err), NSSM_EIO);
			assert_null(t);
			assert_non_null(strstr(err.msg, bad[i]));
		}
	char *label = malloc(5001);
	memset(label, 'x', 5000);
	label[5000] = '\0';
	const char *const long_label[] = {"ok", label};
	assert_int_equal(nssm_truth_open(&t, scratch("l.csv"), long_label, 2, true, &err), NSSM_ERANGE);
	assert_non_null(strstr(err.msg, "label 1"));
	label[4096] = '\0';
	memset(label, '"', 4096);
	assert_int_equal(nssm_truth_open(&t, scratch("l.csv"), long_label, 2, true, &err), 0);
	struct nssm_truth_row row = {.tuple = tuple(6, "1.2.3.4", 1, "5.6.7.8", 2), .label_idx = 1};
	for (int i = 0; i < 200; i++) /* more than the buffer */
		assert_int_equal(nssm_truth_row(t, &row, &err), 0);
	assert_int_equal(nssm_truth_finish(t, &err), 0);
	nssm_truth_close(&t);
	struct stat st;
	assert_int_equal(stat(scratch("l.csv"), &st), 0);
	assert_true(st.st_size > 200 * 8194);
	free(label);
}

/* A file size limit stands for a full disk: the write that crosses it is short, the next one fails. */
static void full(void **state)
{
	struct rlimit old, small;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 3000001;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
	const char *path = scratch("full.csv");
	struct nssm_truth *t;
	struct nssm_err err = {0};
	assert_int_equal(nssm_truth_open(&t, path, labels, N_LABELS, true, &err), 0);
	struct nssm_truth_row row = {.tuple = tuple(6, "1.2.3.4", 1, "5.6.7.8", 2), .label_idx = 1};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	int rc = 0, n = 0;
	for (; n < 100000 && rc == 0; n++)
		rc = nssm_truth_row(t, &row, &err);
	assert_int_equal(rc, NSSM_EIO);
	assert_non_null(strstr(err.msg, "full.csv: cannot write at offset "));
	struct nssm_err again = {0};
	assert_int_equal(nssm_truth_row(t, &row, &again), NSSM_EIO);
	assert_string_equal(again.msg, err.msg);
	assert_int_equal(nssm_truth_flush(t, NULL), NSSM_EIO);
	assert_int_equal(nssm_truth_finish(t, &again), NSSM_EIO);
	nssm_truth_close(&t);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, handler);
	size_t len;
	char *text = scratch_read(path, &len);
	assert_true(len > 1900000 && len <= 3000001);
	assert_memory_equal(text, HEAD, sizeof HEAD - 1);
	assert_memory_equal(text + len - 5, ",cut\n", 5);
	free(text);
}

/* Killed wherever it is, within a write too: whole rows, and at most the beginning of one more. */
static void killed(void **state)
{
	for (int k = 0; k < 20; k++) {
		const char *path = scratch("killed.csv");
		scratch_write(path, "", 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct nssm_truth *t;
			struct nssm_err err;
			if (nssm_truth_open(&t, path, labels, N_LABELS, true, &err) != 0)
				_exit(1);
			struct nssm_truth_row row = {.tuple = tuple(6, "1.2.3.4", 1, "5.6.7.8", 2)};
			for (uint64_t i = 0; i < 100000; i++) {
				row.session = i;
				if (nssm_truth_row(t, &row, &err) != 0 ||
				        (i % 100 == 0 && nssm_truth_flush(t, &err) != 0))
					_exit(1);
			}
			for (;;)
				pause();
		}
		/* Each time a little further on. */
		struct stat st = {0};
		for (int i = 0; i < 100000 && stat(path, &st) == 0 && st.st_size <= k * 100000; i++)
			usleep(100);
		assert_int_equal(kill(pid, SIGKILL), 0);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		size_t len;
		char *text = scratch_read(path, &len), want[512];
		assert_true(len > (size_t)k * 100000 && len >= sizeof HEAD - 1);
		assert_memory_equal(text, HEAD, sizeof HEAD - 1);
		struct nssm_tuple t = tuple(6, "1.2.3.4", 1, "5.6.7.8", 2);
		char id[NSSM_COMMUNITY_ID_BYTES];
		nssm_community_id(id, &t);
		size_t at = sizeof HEAD - 1;
		for (uint64_t i = 0; at < len; i++) {
			size_t n = (size_t)snprintf(want, sizeof want,
			        "%s,6,1.2.3.4,1,5.6.7.8,2,web,%" PRIu64
			        ",0,0.000000000,0.000000000,,,0,0,0,0,0,cut\n",
			        id, i);
			size_t here = len - at < n ? len - at : n; /* less: the last one */
			assert_memory_equal(text + at, want, here);
			at += here;
		}
		free(text);
	}
}

/* --- for truth.py --- */

static void random_row(struct nssm_truth_row *row, struct nssm_rng *rng)
{
	static const uint8_t proto[] = {6, 17, 1, 58, 132, 47, 46, 0, 255};
	*row = (struct nssm_truth_row){0};
	nssm_rng_bytes(rng, row, sizeof *row);
	struct nssm_tuple *t = &row->tuple;
	t->ip_version = nssm_rng_below(rng, 2) != 0 ? 4 : 6;
	t->proto = proto[nssm_rng_below(rng, sizeof proto)];
	for (int i = 0; i < 2; i++) {
		if (t->proto == 1 || t->proto == 58) /* type, code */
			t->port[i] &= i == 0 ? 0xff : 3;
		/* Runs of zeros are where IPv6 text is decided. */
		for (int k = 0; k < 16; k += 2)
			if (nssm_rng_below(rng, 2) != 0)
				t->addr[i][k] = t->addr[i][k + 1] = 0;
		if (nssm_rng_below(rng, 16) == 0)
			memcpy(t->addr[i], (uint8_t[16]){[10] = 255, [11] = 255}, 12);
		if (t->ip_version == 4)
			memset(t->addr[i] + 4, 0, 12);
	}
	if (nssm_rng_below(rng, 8) == 0)
		memcpy(t->addr[1], t->addr[0], 16);
	row->label_idx = nssm_rng_below(rng, N_LABELS + 1);
	if (nssm_rng_below(rng, 8) == 0)
		row->packets[0] = row->packets[1] = 0;
	row->complete = nssm_rng_below(rng, 2) != 0;
}

static void print_hex(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		printf("%02x", p[i]);
	putchar(' ');
}

static int write_random(const char *path, const char *n_text, const char *seed_text)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, strtoull(seed_text, NULL, 10), 0, 0);
	struct nssm_truth *t;
	struct nssm_err err;
	int rc = nssm_truth_open(&t, path, labels, N_LABELS, false, &err);
	for (uint64_t i = 0, n = strtoull(n_text, NULL, 10); i < n && rc == 0; i++) {
		struct nssm_truth_row r;
		random_row(&r, &rng);
		rc = nssm_truth_row(t, &r, &err);
		size_t len = r.tuple.ip_version == 4 ? 4 : 16;
		printf("%u ", r.tuple.proto);
		print_hex(r.tuple.addr[0], len);
		print_hex(r.tuple.addr[1], len);
		print_hex((const uint8_t *)(r.label_idx < N_LABELS ? labels[r.label_idx] : ""),
		        r.label_idx < N_LABELS ? strlen(labels[r.label_idx]) : 0);
		printf("%u %u %u %d", r.tuple.port[0], r.tuple.port[1], r.clone, r.complete);
		uint64_t v[] = {r.session, r.first_due_ns, r.last_due_ns, r.first_sent_ns, r.last_sent_ns,
		        r.packets[0], r.packets[1], r.bytes[0], r.bytes[1], r.dropped};
		for (size_t k = 0; k < sizeof v / sizeof v[0]; k++)
			printf(" %" PRIu64, v[k]);
		putchar('\n');
	}
	if (rc == 0)
		rc = nssm_truth_finish(t, &err);
	if (rc != 0)
		fprintf(stderr, "%s\n", err.msg);
	nssm_truth_close(&t);
	return rc != 0;
}

static int print_ids(void)
{
	int proto;
	unsigned sport, dport;
	char src[64], dst[64], id[NSSM_COMMUNITY_ID_BYTES];
	while (scanf("%d %63s %u %63s %u", &proto, src, &sport, dst, &dport) == 5) {
		struct nssm_tuple t = tuple(proto, src, sport, dst, dport);
		nssm_community_id(id, &t);
		puts(id);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "--write") == 0)
		return write_random(argv[2], argv[3], argv[4]);
	if (argc == 2 && strcmp(argv[1], "--ids") == 0)
		return print_ids();
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(sha1_known),
	        cmocka_unit_test(community_id),
	        cmocka_unit_test(rows),
	        cmocka_unit_test(before),
	        cmocka_unit_test(refused),
	        cmocka_unit_test(full),
	        cmocka_unit_test(killed),
	};
	return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}
