/* Chunks: given out once, given back, spilled to a file that may be bounded or full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "replay/arena.h"
#include "scratch.h"

#define N 40

static struct nssm_arena *open_arena(size_t bytes, const char *dir, uint64_t spill_bytes)
{
	struct nssm_arena_cfg cfg = {.bytes = bytes, .spill_dir = dir, .spill_bytes = spill_bytes};
	struct nssm_arena *a;
	struct nssm_err err = {0};
	if (nssm_arena_open(&a, &cfg, &err) != 0)
		fail_msg("%s", err.msg);
	return a;
}

/* Takes n chunks, each aligned, none twice, and writes all of each. */
static void take(struct nssm_arena *a, uint8_t **chunk, int n)
{
	struct nssm_err err = {0};
	for (int i = 0; i < n; i++) {
		chunk[i] = nssm_arena_get(a, &err);
		assert_non_null(chunk[i]);
		assert_int_equal((uintptr_t)chunk[i] % NSSM_CHUNK_BYTES, 0);
		memset(chunk[i], i + 1, NSSM_CHUNK_BYTES);
	}
}

static void holds(uint8_t *const *chunk, int n)
{
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < NSSM_CHUNK_BYTES; k += 511)
			assert_int_equal(chunk[i][k], i + 1);
}

static void test_memory(void **state)
{
	(void)state;
	/* 39 chunks and a byte are 40. */
	struct nssm_arena *a = open_arena(39 * (size_t)NSSM_CHUNK_BYTES + 1, NULL, 0);
	const struct nssm_arena_stats *s = nssm_arena_stats(a);
	struct nssm_err err = {0};
	uint8_t *chunk[N];
	assert_int_equal(s->chunks, N);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(nssm_arena_left(a), N);
		take(a, chunk, N);
		holds(chunk, N);
		assert_int_equal(nssm_arena_left(a), 0);
		assert_null(nssm_arena_get(a, &err));
		assert_int_equal(err.code, 0);
		assert_int_equal(s->chunks_used, N);
		nssm_arena_cold(a, chunk[3]); /* memory stays */
		holds(chunk, N);
		for (int i = 0; i < N; i++)
			nssm_arena_put(a, chunk[i]);
	}
	assert_int_equal(s->chunks_used, 0);
	assert_int_equal(s->chunks_used_max, N);
	assert_int_equal(s->spill_used_max, 0);
	nssm_arena_close(&a);
	assert_null(a);
	nssm_arena_close(&a);
}

/* Pages that are asked for while the arena is in use: what is in them stays, and all of them come. */
static void test_touch(void **state)
{
	(void)state;
	struct nssm_arena_cfg cfg = {.bytes = 5u << 20, .lazy = true};
	struct nssm_arena *a;
	struct nssm_err err = {0};
	assert_int_equal(nssm_arena_open(&a, &cfg, &err), 0);
	uint8_t *chunk[N];
	take(a, chunk, N);
	size_t at = 0, n = 0;
	while (nssm_arena_touch(a, &at))
		n++;
	assert_true(n == 0 || (n == 3 && at == 5u << 20)); /* a kernel that is too old refuses */
	holds(chunk, N);
	assert_false(nssm_arena_touch(a, &at));
	nssm_arena_close(&a);
}

static int files_in(const char *dir)
{
	DIR *d = opendir(dir);
	assert_non_null(d);
	int n = 0;
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
	closedir(d);
	return n;
}

static void test_spill(void **state)
{
	(void)state;
	const char *dir = scratch_dir;
	enum { MEMORY = 4, BOUND = 2100 }; /* more than two of the file's segments */
	struct nssm_arena *a = open_arena(MEMORY * NSSM_CHUNK_BYTES, dir, (uint64_t)BOUND * NSSM_CHUNK_BYTES);
	assert_int_equal(files_in(dir), 0); /* it has no name */
	const struct nssm_arena_stats *s = nssm_arena_stats(a);
	static uint8_t *chunk[MEMORY + BOUND];
	take(a, chunk, MEMORY + BOUND);
	assert_int_equal(s->chunks_used, MEMORY);
	assert_int_equal(s->spill_used, (uint64_t)BOUND * NSSM_CHUNK_BYTES);
	struct nssm_err err = {0};
	assert_null(nssm_arena_get(a, &err));
	assert_int_equal(err.code, 0);
	for (int i = 0; i < MEMORY + BOUND; i++)
		nssm_arena_cold(a, chunk[i]);
	for (int i = 0; i < MEMORY + BOUND; i++)
		for (size_t k = 0; k < NSSM_CHUNK_BYTES; k += 4095)
			assert_int_equal(chunk[i][k], (uint8_t)(i + 1));
	/* What is given back is given out again, memory first. */
	nssm_arena_put(a, chunk[1]);
	nssm_arena_put(a, chunk[MEMORY + 1000]);
	assert_int_equal(nssm_arena_left(a), 1);
	assert_ptr_equal(nssm_arena_get(a, &err), chunk[1]);
	assert_ptr_equal(nssm_arena_get(a, &err), chunk[MEMORY + 1000]);
	assert_null(nssm_arena_get(a, &err));
	assert_int_equal(s->spill_used_max, (uint64_t)BOUND * NSSM_CHUNK_BYTES);
	nssm_arena_close(&a);
}

/* A disk without room is an error with the reason, not a signal, and what there is stays good. */
static void test_spill_full(void **state)
{
	(void)state;
	const char *dir = scratch_dir;
	struct nssm_arena *a = open_arena(NSSM_CHUNK_BYTES, dir, 0);
	uint8_t *chunk[N];
	take(a, chunk, N);
	struct rlimit was, tight = {0};
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	tight.rlim_max = was.rlim_max;
	tight.rlim_cur = 20 << 20;
	void (*on)(int) = signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	struct nssm_err err = {0};
	int n = N;
	while (n < 100000 && nssm_arena_get(a, &err) != NULL)
		n++;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	signal(SIGXFSZ, on);
	assert_int_equal(n, 1 + 1024); /* one segment of 16 MiB */
	assert_int_equal(err.code, NSSM_EIO);
	assert_non_null(strstr(err.msg, dir));
	holds(chunk, N);
	/* Room has come: it goes on. */
	assert_non_null(nssm_arena_get(a, &err));
	nssm_arena_close(&a);
}

static void test_bad(void **state)
{
	(void)state;
	struct nssm_arena *a = NULL;
	struct nssm_err err = {0};
	struct nssm_arena_cfg none = {.bytes = 1, .spill_dir = "/nonexistent/folder"},
	                      huge = {.bytes = SIZE_MAX - 5};
	assert_int_equal(nssm_arena_open(&a, &none, &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "/nonexistent/folder"));
	assert_int_equal(nssm_arena_open(&a, &huge, &err), NSSM_ENOMEM);
	huge.bytes = (size_t)1 << 60;
	assert_int_equal(nssm_arena_open(&a, &huge, &err), NSSM_ENOMEM);
	assert_null(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_memory),
	        cmocka_unit_test(test_touch),
	        cmocka_unit_test_setup_teardown(test_spill, scratch_open, scratch_close),
	        cmocka_unit_test_setup_teardown(test_spill_full, scratch_open, scratch_close),
	        cmocka_unit_test(test_bad),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
