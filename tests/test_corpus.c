/* Corpus files: what was written is read; whatever is cut, flipped or made up is told and never crashes. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/philox.h"
#include "model/corpus.h"
#include "scratch.h"

static const struct nssm_codec_cfg codec = {.kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = 106};

/* Three sessions: web with 5 tokens, an empty one of dns, web with n_last tokens. */
static int write_corpus(const char *path, size_t n_last, struct nssm_err *err)
{
	static struct nssm_vocab vocab;
	nssm_vocab_init(&vocab);
	assert_int_equal(nssm_vocab_add_label(&vocab, "web", err), 0);
	assert_int_equal(nssm_vocab_add_label(&vocab, "dns", err), 1);
	static struct nssm_label_stats stats[2];
	memset(stats, 0, sizeof stats);
	stats[0] = (struct nssm_label_stats){.n_sessions = 2,
	        .n_packets = 7,
	        .n_flows = 3,
	        .n_tokens = 5 + n_last,
	        .n_cut = 1,
	        .n_time_back = 2};
	stats[0].skipped[NSSM_PKT_NOT_IP] = 9;
	nssm_iat_add(&stats[0].iat, 1000);
	nssm_iat_add(&stats[0].iat, UINT64_MAX);
	stats[1].n_sessions = 1;

	struct nssm_corpus_writer *w;
	int rc = nssm_corpus_create(&w, path, &codec, err);
	if (rc != 0)
		return rc;
	const uint16_t first[5] = {vocab.label[0].id, 1, 1, 2, vocab.eot};
	struct nssm_session_info a = {
	        .first_ns = 10, .last_ns = 20, .label_idx = 0, .n_packets = 4, .n_flows = 2};
	struct nssm_session_info b = {.label_idx = 1}, c = {.label_idx = 0, .n_packets = 3, .n_flows = 1};
	rc = nssm_corpus_append(w, first, 2, err);
	if (rc == 0)
		rc = nssm_corpus_append(w, first + 2, 3, err);
	if (rc == 0)
		rc = nssm_corpus_end_session(w, &a, err);
	if (rc == 0)
		rc = nssm_corpus_end_session(w, &b, err);
	for (size_t i = 0; rc == 0 && i < n_last; i++) {
		uint16_t t = (uint16_t)(i % 200);
		rc = nssm_corpus_append(w, &t, 1, err);
	}
	if (rc == 0)
		rc = nssm_corpus_end_session(w, &c, err);
	if (rc != 0) {
		nssm_corpus_abort(&w);
		return rc;
	}
	json_t *made_by = json_pack("{s:s,s:[i,i]}", "netssm", "0", "list", 1, 2);
	rc = nssm_corpus_commit(&w, &vocab, stats, made_by, err);
	json_decref(made_by);
	assert_null(w);
	return rc;
}

static void reads_what_was_written(void **state)
{
	struct nssm_err err;
	struct nssm_corpus *c;
	const char *path = scratch("a.nssm");
	assert_int_equal(write_corpus(path, 3, &err), 0);
	for (int verify = 0; verify < 2; verify++) {
		assert_int_equal(nssm_corpus_open(&c, path, verify, &err), 0);
		assert_int_equal(nssm_corpus_n_sessions(c), 3);
		assert_int_equal(nssm_corpus_n_tokens(c), 8);
		const struct nssm_session_info *s = nssm_corpus_session(c, 0);
		assert_int_equal(s->n_tokens, 5);
		assert_int_equal(s->first_ns, 10);
		assert_int_equal(s->last_ns, 20);
		assert_int_equal(s->n_packets, 4);
		assert_int_equal(nssm_corpus_session(c, 1)->n_tokens, 0);
		assert_int_equal(nssm_corpus_session(c, 1)->label_idx, 1);
		s = nssm_corpus_session(c, 2);
		assert_int_equal(s->first_token, 5);
		assert_int_equal(s->n_flows, 1);
		for (uint32_t i = 0; i < 3; i++)
			assert_int_equal(nssm_corpus_check_session(c, i, &err), 0);
		const uint16_t want[8] = {260, 1, 1, 2, 257, 0, 1, 2};
		assert_memory_equal(nssm_corpus_tokens(c, 0), want, sizeof want);
		assert_ptr_equal(nssm_corpus_tokens(c, 2), nssm_corpus_tokens(c, 0) + 5);
		assert_int_equal(nssm_corpus_vocab(c)->n_tokens, 262);
		assert_string_equal(nssm_corpus_vocab(c)->label[1].name, "dns");
		assert_int_equal(nssm_corpus_codec(c)->pkt_len, 106);
		const struct nssm_label_stats *st = nssm_corpus_stats(c, 0);
		assert_int_equal(st->n_packets, 7);
		assert_int_equal(st->n_flows, 3);
		assert_int_equal(st->n_tokens, 8);
		assert_int_equal(st->n_cut, 1);
		assert_int_equal(st->n_time_back, 2);
		assert_int_equal(st->skipped[NSSM_PKT_NOT_IP], 9);
		assert_int_equal(st->iat.n, 2);
		assert_int_equal(st->iat.count[nssm_iat_step(1000)], 1);
		assert_int_equal(st->iat.count[255], 1);
		assert_int_equal(nssm_corpus_stats(c, 1)->n_sessions, 1);
		assert_int_equal(json_integer_value(
		                         json_array_get(json_object_get(nssm_corpus_made_by(c), "list"), 1)),
		        2);
		/* Counts 260:1 1:3 2:2 257:1 0:1 of 8. */
		double bits = 3.0 / 8 * log2(8.0 / 3) + 2.0 / 8 * 2 + 3 * (1.0 / 8 * 3);
		assert_true(fabs(nssm_corpus_unigram_bits(c) - bits) <= 1e-12);
		nssm_corpus_close(&c);
		assert_null(c);
	}
}

static void same_input_same_bytes(void **state)
{
	size_t n, m;
	assert_int_equal(write_corpus(scratch("a.nssm"), 100, NULL), 0);
	assert_int_equal(write_corpus(scratch("b.nssm"), 100, NULL), 0);
	char *a = scratch_read(scratch("a.nssm"), &n), *b = scratch_read(scratch("b.nssm"), &m);
	assert_int_equal(n, m);
	assert_memory_equal(a, b, n);
	struct nssm_corpus *ca, *cb;
	assert_int_equal(write_corpus(scratch("b.nssm"), 101, NULL), 0);
	assert_int_equal(nssm_corpus_open(&ca, scratch("a.nssm"), false, NULL), 0);
	assert_int_equal(nssm_corpus_open(&cb, scratch("b.nssm"), false, NULL), 0);
	assert_int_not_equal(nssm_corpus_hash(ca), nssm_corpus_hash(cb));
	nssm_corpus_close(&ca);
	nssm_corpus_close(&cb);
	free(a);
	free(b);
}

/* Opens the bytes as a corpus and, if that works, reads all tokens. Returns the first error or 0. */
static int try_bytes(const char *data, size_t n, bool verify, struct nssm_err *err)
{
	struct nssm_corpus *c;
	/* In memory: a disk takes its time for 20,000 files. */
	char path[64];
	int fd = memfd_create("corpus", MFD_CLOEXEC);
	assert_true(fd >= 0 && write(fd, data, n) == (ssize_t)n);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	*err = (struct nssm_err){0};
	int rc = nssm_corpus_open(&c, path, verify, err);
	if (rc != 0)
		assert_null(c);
	uint64_t sum = 0;
	for (uint32_t i = 0; rc == 0 && i < nssm_corpus_n_sessions(c); i++) {
		rc = nssm_corpus_check_session(c, i, err);
		for (uint64_t k = 0; rc == 0 && k < nssm_corpus_session(c, i)->n_tokens; k++)
			sum += nssm_corpus_tokens(c, i)[k];
	}
	__asm__ volatile("" : : "r"(sum));
	nssm_corpus_close(&c);
	close(fd);
	if (rc != 0)
		assert_non_null(strstr(err->msg, path));
	return rc;
}

static void every_cut_is_an_error(void **state)
{
	size_t n;
	struct nssm_err err;
	assert_int_equal(write_corpus(scratch("a.nssm"), 40, NULL), 0);
	char *data = scratch_read(scratch("a.nssm"), &n);
	assert_int_equal(try_bytes(data, n, true, &err), 0);
	for (size_t k = 0; k < n; k++)
		assert_int_not_equal(try_bytes(data, k, k % 2, &err), 0);
	char *longer = malloc(n + 1);
	memcpy(longer, data, n);
	longer[n] = 0;
	assert_int_equal(try_bytes(longer, n + 1, true, &err), NSSM_EFORMAT);
	free(longer);
	free(data);
}

static void every_flipped_bit_is_an_error(void **state)
{
	size_t n;
	struct nssm_err err;
	assert_int_equal(write_corpus(scratch("a.nssm"), 40, NULL), 0);
	char *data = scratch_read(scratch("a.nssm"), &n);
	struct nssm_rng rng;
	nssm_rng_init(&rng, 17, 0, 0);
	for (size_t k = 0; k < n; k++) {
		char bit = (char)(1 << nssm_rng_below(&rng, 8));
		data[k] ^= bit;
		assert_int_not_equal(try_bytes(data, n, k % 2, &err), 0);
		data[k] ^= bit;
	}
	free(data);
}

/* A header whose checksum is right, so that what it says is what is checked. */
static void seal(char *data)
{
	memset(data + 12, 0, 4);
	uint32_t crc = (uint32_t)crc32_z(0, (const Bytef *)data, 152);
	memcpy(data + 12, &crc, 4);
}

static void lying_headers_are_told(void **state)
{
	size_t n;
	struct nssm_err err;
	assert_int_equal(write_corpus(scratch("a.nssm"), 40, NULL), 0);
	char *good = scratch_read(scratch("a.nssm"), &n), *data = malloc(n);
	memcpy(data, good, n);
	seal(data);
	assert_memory_equal(data, good, n); /* seal does what the writer does */
	struct nssm_rng rng;
	nssm_rng_init(&rng, 19, 0, 0);
	static const uint64_t odd[] = {0, 1, 63, 64, 192, 1u << 20, UINT32_MAX, UINT64_MAX / 48,
	        UINT64_MAX / 2, UINT64_MAX - 63, UINT64_MAX};
	for (int i = 0; i < 3000; i++) {
		memcpy(data, good, n);
		uint32_t at = 16 + 8 * nssm_rng_below(&rng, 17);
		uint64_t v;
		memcpy(&v, data + at, 8);
		uint64_t was = v;
		uint32_t how = nssm_rng_below(&rng, 3);
		v = how == 0   ? odd[nssm_rng_below(&rng, sizeof odd / sizeof *odd)]
		    : how == 1 ? v + nssm_rng_below(&rng, 200) - 100
		               : v ^ (UINT64_C(1) << nssm_rng_below(&rng, 64));
		if (v == was)
			continue;
		memcpy(data + at, &v, 8);
		seal(data);
		/* The token block's own checksum and the words behind CRCs are the only ones that mean
		 * nothing. */
		bool unused = at == 40 || at == 144 || ((at - 24) % 24 == 16 && (uint32_t)v == (uint32_t)was);
		if (!unused)
			assert_int_not_equal(try_bytes(data, n, true, &err), 0);
		else
			try_bytes(data, n, true, &err);
	}
	memcpy(data, good, n);
	data[8] = 2;
	seal(data);
	assert_int_equal(try_bytes(data, n, true, &err), NSSM_EUNSUP);
	assert_non_null(strstr(err.msg, "version 2"));
	assert_non_null(strstr(err.msg, "version 1"));
	memcpy(data, "\xd4\xc3\xb2\xa1", 4);
	assert_int_equal(try_bytes(data, n, true, &err), NSSM_EFORMAT);
	assert_int_equal(try_bytes(data, 0, true, &err), NSSM_EFORMAT);
	free(data);
	free(good);
}

/* Where a block lies: its number in the header. */
static char *block(char *data, int idx, uint64_t *n)
{
	uint64_t off;
	memcpy(&off, data + 24 + 24 * idx, 8);
	memcpy(n, data + 24 + 24 * idx + 8, 8);
	return data + off;
}

static void reseal_block(char *data, int idx, size_t each)
{
	uint64_t n;
	const char *b = block(data, idx, &n);
	uint32_t crc = (uint32_t)crc32_z(0, (const Bytef *)b, n * each);
	memcpy(data + 24 + 24 * idx + 16, &crc, 4);
	seal(data);
}

static void sessions_and_tokens_must_fit(void **state)
{
	size_t n;
	uint64_t items;
	struct nssm_err err;
	assert_int_equal(write_corpus(scratch("a.nssm"), 40, NULL), 0);
	char *good = scratch_read(scratch("a.nssm"), &n), *data = malloc(n);
	static const struct {
		size_t at;
		uint64_t v;
	} bent[] = {{0, 1}, {8, 4}, {8, 6}, {8, UINT64_MAX}, {32, 2}, {48 + 0, 4}, {96 + 8, 39}, {96 + 8, 41},
	        {96 + 32, UINT32_MAX}};
	for (size_t i = 0; i < sizeof bent / sizeof *bent; i++) {
		memcpy(data, good, n);
		memcpy(block(data, 2, &items) + bent[i].at, &bent[i].v, bent[i].at % 48 == 32 ? 4 : 8);
		assert_int_equal(items, 3);
		reseal_block(data, 2, 48);
		assert_int_equal(try_bytes(data, n, false, &err), NSSM_EFORMAT);
		assert_non_null(strstr(err.msg, "session"));
	}
	/* A token beyond the tokenizer, with every checksum right. */
	memcpy(data, good, n);
	uint16_t token = 262;
	char *tokens = block(data, 0, &items);
	memcpy(tokens + 6, &token, 2);
	uint32_t crc = (uint32_t)crc32_z(0, (const Bytef *)tokens, items * 2);
	memcpy(block(data, 1, &items), &crc, 4);
	reseal_block(data, 1, 4);
	assert_int_equal(try_bytes(data, n, true, &err), NSSM_EFORMAT);
	assert_non_null(strstr(err.msg, "262"));
	/* JSON of the right checksum that is none, or lacks a key. */
	memcpy(data, good, n);
	char *json = block(data, 4, &items);
	char *key = memmem(json, items, "\"sessions\"", 10);
	assert_non_null(key);
	key[1] = 'S';
	reseal_block(data, 4, 1);
	assert_int_equal(try_bytes(data, n, false, &err), NSSM_EFORMAT);
	assert_non_null(strstr(err.msg, "sessions"));
	json[0] = '[';
	reseal_block(data, 4, 1);
	assert_int_equal(try_bytes(data, n, false, &err), NSSM_EFORMAT);
	free(data);
	free(good);
}

static void tokens_are_checked_where_they_are_used(void **state)
{
	struct nssm_err err;
	struct nssm_corpus *c;
	const char *path = scratch("big.nssm");
	assert_int_equal(write_corpus(path, 1200000, &err), 0); /* three stripes */
	FILE *f = fopen(path, "r+b");
	assert_non_null(f);
	fseek(f, 192 + 3 * 1048576 / 2 / 2 * 2, SEEK_SET); /* in the second stripe */
	fputc(0x77, f);
	fclose(f);
	assert_int_equal(nssm_corpus_open(&c, path, true, &err), NSSM_EFORMAT);
	assert_int_equal(nssm_corpus_open(&c, path, false, &err), 0);
	assert_int_equal(nssm_corpus_check_session(c, 0, &err), 0);
	assert_int_equal(nssm_corpus_check_session(c, 2, &err), NSSM_EFORMAT);
	assert_non_null(strstr(err.msg, "offset 1048768"));
	nssm_corpus_close(&c);
	assert_int_equal(nssm_corpus_open(&c, scratch("missing.nssm"), false, &err), NSSM_EIO);
}

/* In a child: files may not grow beyond a limit, as on a full disk. */
static void a_full_disk_leaves_the_old_file(void **state)
{
	const char *path = scratch("full.nssm");
	assert_int_equal(write_corpus(path, 10, NULL), 0);
	size_t n, m;
	char *before = scratch_read(path, &n);
	for (rlim_t limit = 100; limit < 2600000; limit *= 3) {
		pid_t pid = fork();
		if (pid == 0) {
			signal(SIGXFSZ, SIG_IGN);
			setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, limit});
			struct nssm_err err;
			int rc = write_corpus(path, 1200000, &err);
			_exit(rc == NSSM_EIO && strstr(err.msg, "full.nssm") != NULL ? 0 : 1);
		}
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		char *after = scratch_read(path, &m);
		assert_int_equal(n, m);
		assert_memory_equal(before, after, n);
		free(after);
		char tmp[PATH_MAX];
		snprintf(tmp, sizeof tmp, "%s.tmp.%ld", path, (long)pid);
		assert_int_not_equal(access(tmp, F_OK), 0);
	}
	free(before);
	/* A writer that gives up leaves nothing either. */
	struct nssm_corpus_writer *w;
	assert_int_equal(nssm_corpus_create(&w, scratch("gone.nssm"), &codec, NULL), 0);
	nssm_corpus_abort(&w);
	nssm_corpus_abort(&w);
	assert_int_not_equal(access(scratch("gone.nssm"), F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(reads_what_was_written),
	        cmocka_unit_test(same_input_same_bytes),
	        cmocka_unit_test(every_cut_is_an_error),
	        cmocka_unit_test(every_flipped_bit_is_an_error),
	        cmocka_unit_test(lying_headers_are_told),
	        cmocka_unit_test(sessions_and_tokens_must_fit),
	        cmocka_unit_test(tokens_are_checked_where_they_are_used),
	        cmocka_unit_test(a_full_disk_leaves_the_old_file),
	};
	return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}
