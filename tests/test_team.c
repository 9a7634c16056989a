/* test_team — every task of every run exactly once, whatever the number of threads, runs and pauses between
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#include "kernels/team.h"

enum { MAX_TASKS = 33 };

struct job {
	atomic_int done[MAX_TASKS];
	atomic_int busy[8]; /* a member number must never be in use twice at a time */
	atomic_int wrong;
	int n_tasks, n_members;
};

static void task(void *ctx, int idx, int member)
{
	struct job *job = ctx;
	if (idx < 0 || idx >= job->n_tasks || member < 0 || member >= job->n_members) {
		atomic_fetch_add(&job->wrong, 1);
		return;
	}
	if (atomic_fetch_add(&job->busy[member], 1) != 0)
		atomic_fetch_add(&job->wrong, 1);
	atomic_fetch_add(&job->done[idx], 1);
	atomic_fetch_sub(&job->busy[member], 1);
}

static void exactly_once(void **state)
{
	(void)state;
	for (int n_threads = 1; n_threads <= 3; n_threads++) {
		struct nssm_team *team;
		struct nssm_err err;
		assert_int_equal(nssm_team_open(&team, n_threads, &err), 0);
		assert_int_equal(nssm_team_size(team), n_threads);
		for (int run = 0; run < 10000; run++) {
			struct job job; /* on the stack and new each time: a late member would write into a
			                   dead one */
			memset(&job, 0, sizeof job);
			job.n_tasks = run % MAX_TASKS;
			job.n_members = n_threads;
			nssm_team_run(team, job.n_tasks, task, &job);
			assert_int_equal(atomic_load(&job.wrong), 0);
			for (int i = 0; i < job.n_tasks; i++)
				assert_int_equal(atomic_load(&job.done[i]), 1);
			if (run % 1000 == 0) /* long enough that the members sleep */
				nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
		}
		nssm_team_close(&team);
		assert_null(team);
	}
}

static void add(void *ctx, int idx, int member)
{
	double *out = ctx;
	(void)member;
	for (int i = 0; i < 1000; i++)
		out[idx] += 1.0 / (idx + i + 1);
}

static void same_result(void **state)
{
	double expected[64], found[64];
	(void)state;
	for (int n_threads = 1; n_threads <= 3; n_threads++) {
		struct nssm_team *team;
		assert_int_equal(nssm_team_open(&team, n_threads, NULL), 0);
		memset(found, 0, sizeof found);
		nssm_team_run(team, 64, add, found);
		if (n_threads == 1)
			memcpy(expected, found, sizeof expected);
		assert_memory_equal(found, expected, sizeof expected);
		nssm_team_close(&team);
	}
}

/* Processor time, not wall-clock: members that spun on would use far more than a tenth of a second in half a
 * one. */
static void idle_members_sleep(void **state)
{
	struct nssm_team *team;
	double out[64] = {0};
	struct rusage before, after;
	(void)state;
	assert_int_equal(nssm_team_open(&team, 3, NULL), 0);
	nssm_team_run(team, 64, add, out);
	getrusage(RUSAGE_SELF, &before);
	nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
	getrusage(RUSAGE_SELF, &after);
	int64_t us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * INT64_C(1000000) +
	             after.ru_utime.tv_usec - before.ru_utime.tv_usec;
	if (!(us <= 100000))
		fail_msg("three idle threads used %lld us of processor time in half a second", (long long)us);
	nssm_team_close(&team);
}

static void refuses(void **state)
{
	struct nssm_team *team;
	struct nssm_err err;
	(void)state;
	assert_int_equal(nssm_team_open(&team, 0, &err), NSSM_ERANGE);
	assert_null(team);
	assert_non_null(strstr(err.msg, "found 0"));
	assert_int_equal(nssm_team_open(&team, 1000000, &err), NSSM_ERANGE);
	nssm_team_close(&team);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(exactly_once), cmocka_unit_test(same_result),
	        cmocka_unit_test(idle_members_sleep), cmocka_unit_test(refuses)};
	return cmocka_run_group_tests_name("team", tests, NULL, NULL);
}
