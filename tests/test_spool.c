/* The spool: what is put in comes out, in order, whatever was spilled; the file has no name; a full disk is
 * told. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/philox.h"
#include "replay/spool.h"
#include "scratch.h"

#define SESSIONS 500

static struct nssm_err err;

/* The i-th token of a session. */
static uint16_t token(uint32_t session, size_t i)
{
	return (uint16_t)(session * 40503u + i * 9973u);
}

struct reader {
	uint32_t session;
	size_t n, calls, stop_at;
};

static int take(void *ctx, const uint16_t *tokens, size_t n, struct nssm_err *e)
{
	struct reader *r = ctx;
	if (r->calls++ == r->stop_at)
		return nssm_err_set(e, NSSM_EINTR, "enough");
	for (size_t i = 0; i < n; i++)
		assert_int_equal(tokens[i], token(r->session, r->n + i));
	r->n += n;
	return 0;
}

static int n_files(void)
{
	DIR *d = opendir(scratch_dir);
	int n = -2; /* . and .. */
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void add(struct nssm_spool *s, uint32_t session, size_t *len, size_t n)
{
	uint16_t *t = malloc(n * sizeof *t + 1);
	assert_non_null(t);
	for (size_t i = 0; i < n; i++)
		t[i] = token(session, *len + i);
	if (nssm_spool_add(s, session, t, n, &err) != 0)
		fail_msg("%s", err.msg);
	*len += n;
	free(t);
}

static void what_goes_in_comes_out(void **state)
{
	static const size_t budget[] = {0, 1, 4096, 300000, (size_t)1 << 30};
	for (size_t k = 0; k < sizeof budget / sizeof *budget; k++) {
		struct nssm_rng rng;
		nssm_rng_init(&rng, 11, k, 0);
		struct nssm_spool *s;
		size_t len[SESSIONS] = {0}, all = 0;
		assert_int_equal(nssm_spool_open(&s, scratch("out.nssm"), budget[k], &err), 0);
		for (uint32_t i = 0; i < SESSIONS; i++)
			add(s, i, &len[i], 0); /* announced */
		for (int i = 0; i < 4000; i++) {
			uint32_t session = nssm_rng_below(&rng, SESSIONS - 1);
			add(s, session, &len[session], nssm_rng_below(&rng, 300));
		}
		/* Larger than a piece that is read or written at once, twice. */
		add(s, 3, &len[3], 100001);
		add(s, 4, &len[4], 1);
		add(s, 3, &len[3], 70000);
		for (uint32_t i = 0; i < SESSIONS; i++)
			all += len[i];
		assert_true(nssm_spool_spilled(s) <= 2 * all);
		assert_true(k < 4 ? nssm_spool_spilled(s) > all : nssm_spool_spilled(s) == 0);
		assert_int_equal(n_files(), 0);
		/* In another order, with a session that goes on after others were drained; the last one stays
		 * empty. */
		for (uint32_t i = SESSIONS; i-- > 0;) {
			if (i % 7 == 0)
				add(s, i, &len[i], 5);
			struct reader r = {.session = i, .stop_at = SIZE_MAX};
			assert_int_equal(nssm_spool_drain(s, i, take, &r, &err), 0);
			assert_int_equal(r.n, len[i]);
		}
		nssm_spool_close(&s);
		assert_null(s);
		nssm_spool_close(&s);
		assert_int_equal(n_files(), 0);
	}
}

static void who_takes_may_stop(void **state)
{
	for (size_t stop = 0; stop < 3; stop++) {
		struct nssm_spool *s;
		size_t len = 0;
		assert_int_equal(nssm_spool_open(&s, scratch("out.nssm"), 100000, &err), 0);
		add(s, 0, &len, 70000); /* two pieces of the file */
		add(s, 0, &len, 10);    /* and one in memory */
		struct reader r = {.stop_at = stop};
		assert_int_equal(nssm_spool_drain(s, 0, take, &r, &err), NSSM_EINTR);
		assert_string_equal(err.msg, "enough");
		nssm_spool_close(&s);
	}
}

static void a_folder_that_is_not_there(void **state)
{
	struct nssm_spool *s;
	uint16_t t[300] = {0};
	assert_int_equal(nssm_spool_open(&s, scratch("nowhere/out.nssm"), 100, &err), 0);
	assert_int_equal(nssm_spool_add(s, 0, t, 300, &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "nowhere/out.nssm.spool."));
	assert_non_null(strstr(err.msg, "No such file or directory"));
	nssm_spool_close(&s);
}

static void a_full_disk(void **state)
{
	struct rlimit was, small = {.rlim_cur = 200000, .rlim_max = RLIM_INFINITY};
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	small.rlim_max = was.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	struct nssm_spool *s;
	uint16_t t[1000] = {0};
	int rc = nssm_spool_open(&s, scratch("out.nssm"), 5000, &err);
	uint32_t n = 0;
	while (rc == 0 && n < 1000)
		rc = nssm_spool_add(s, n++ % 3, t, 1000, &err);
	uint64_t spilled = nssm_spool_spilled(s);
	nssm_spool_close(&s);
	setrlimit(RLIMIT_FSIZE, &was);
	assert_int_equal(rc, NSSM_EIO);
	assert_non_null(strstr(err.msg, "out.nssm.spool."));
	assert_non_null(strstr(err.msg, "cannot write at offset"));
	assert_non_null(strstr(err.msg, "File too large"));
	assert_true(spilled >= 190000 && n > 90);
	assert_int_equal(n_files(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(what_goes_in_comes_out),
	        cmocka_unit_test(who_takes_may_stop),
	        cmocka_unit_test(a_folder_that_is_not_there),
	        cmocka_unit_test(a_full_disk),
	};
	return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}
