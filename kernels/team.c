/* How it works: `left` is the number of tasks not yet claimed; claiming is a compare-and-swap from l to l−1
 * and gives task n_tasks−l. Whoever claims a task knows that the run cannot end before it has done that task,
 * so fn, ctx and n_tasks may be read after the claim and a member that comes late, from whatever run it slept
 * through, harms nothing. The caller never waits for a member that has no task. */
#include "kernels/team.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/measure.h"

#define SPIN_NS      8000 /* longer than the gap between two runs of a step, shorter than a sleep is worth */
#define MAX_THREADS  1024
#define LINE         64
#define SPINS_A_LOOK 16 /* pauses between two looks at the clock */

struct member {
	struct nssm_team *team;
	pthread_t thread;
	int idx;
};

struct nssm_team {
	_Alignas(LINE) atomic_int left;       /* tasks not yet claimed */
	_Alignas(LINE) atomic_int unfinished; /* tasks not yet done */
	_Alignas(LINE) atomic_uint run_count; /* changes with every run and when the team closes */
	atomic_int n_sleeping;                /* members asleep or about to be */
	atomic_bool caller_sleeps, closing;
	int n_tasks;
	void (*fn)(void *ctx, int task, int member);
	void *ctx;
	int n_threads, n_started;
	pthread_mutex_t lock; /* for sleeping only */
	pthread_cond_t work, done;
	struct member *members;
};

static void cpu_pause(void)
{
#if defined __x86_64__ || defined __i386__
	__builtin_ia32_pause();
#elif defined __aarch64__
	__asm__ volatile("yield");
#endif
}

static void work_off(struct nssm_team *t, int member)
{
	int left = atomic_load(&t->left);
	while (left > 0) {
		if (!atomic_compare_exchange_weak(&t->left, &left, left - 1))
			continue;
		t->fn(t->ctx, t->n_tasks - left, member);
		if (atomic_fetch_sub(&t->unfinished, 1) == 1 && atomic_load(&t->caller_sleeps)) {
			pthread_mutex_lock(&t->lock);
			pthread_cond_signal(&t->done);
			pthread_mutex_unlock(&t->lock);
		}
		left = atomic_load(&t->left);
	}
}

/* Returns when a run after `seen` has begun or the team closes. n_sleeping is raised before run_count is
 * looked at, and run() raises run_count before it looks at n_sleeping: one of the two sees the other. */
static void wait_for_run(struct nssm_team *t, unsigned seen)
{
	for (uint64_t until = nssm_now_ns() + SPIN_NS; nssm_now_ns() < until;)
		for (int i = 0; i < SPINS_A_LOOK; i++) {
			if (atomic_load(&t->run_count) != seen)
				return;
			cpu_pause();
		}
	atomic_fetch_add(&t->n_sleeping, 1);
	pthread_mutex_lock(&t->lock);
	while (atomic_load(&t->run_count) == seen)
		pthread_cond_wait(&t->work, &t->lock);
	pthread_mutex_unlock(&t->lock);
	atomic_fetch_sub(&t->n_sleeping, 1);
}

static void *member_main(void *arg)
{
	struct member *m = arg;
	struct nssm_team *t = m->team;
	for (;;) {
		unsigned seen = atomic_load(&t->run_count);
		if (atomic_load(&t->closing))
			return NULL;
		work_off(t, m->idx);
		wait_for_run(t, seen);
	}
}

static void wake(struct nssm_team *t, int n_useful)
{
	atomic_fetch_add(&t->run_count, 1);
	if (atomic_load(&t->n_sleeping) == 0)
		return;
	pthread_mutex_lock(&t->lock);
	if (n_useful == 1)
		pthread_cond_signal(&t->work);
	else
		pthread_cond_broadcast(&t->work);
	pthread_mutex_unlock(&t->lock);
}

static void wait_until_done(struct nssm_team *t)
{
	for (uint64_t until = nssm_now_ns() + SPIN_NS; nssm_now_ns() < until;)
		for (int i = 0; i < SPINS_A_LOOK; i++) {
			if (atomic_load(&t->unfinished) == 0)
				return;
			cpu_pause();
		}
	pthread_mutex_lock(&t->lock);
	atomic_store(&t->caller_sleeps, true);
	while (atomic_load(&t->unfinished) != 0)
		pthread_cond_wait(&t->done, &t->lock);
	atomic_store(&t->caller_sleeps, false);
	pthread_mutex_unlock(&t->lock);
}

void nssm_team_run(struct nssm_team *t, int n_tasks, void (*fn)(void *ctx, int task, int member), void *ctx)
{
	assert(n_tasks >= 0);
	if (t->n_threads == 1 || n_tasks <= 1) {
		for (int i = 0; i < n_tasks; i++)
			fn(ctx, i, 0);
		return;
	}
	t->fn = fn;
	t->ctx = ctx;
	t->n_tasks = n_tasks;
	atomic_store(&t->unfinished, n_tasks);
	atomic_store(&t->left, n_tasks);
	wake(t, n_tasks - 1);
	work_off(t, 0);
	wait_until_done(t);
}

int nssm_team_size(const struct nssm_team *team)
{
	return team->n_threads;
}

int nssm_team_open(struct nssm_team **team, int n_threads, struct nssm_err *err)
{
	*team = NULL;
	if (n_threads < 1 || n_threads > MAX_THREADS)
		return nssm_err_set(
		        err, NSSM_ERANGE, "threads: expected 1 to %d, found %d", MAX_THREADS, n_threads);
	struct nssm_team *t = aligned_alloc(LINE, sizeof *t);
	if (!t)
		return nssm_err_set(err, NSSM_ENOMEM, "a team of %d threads: out of memory", n_threads);
	memset(t, 0, sizeof *t);
	t->n_threads = n_threads;
	t->members = calloc((size_t)n_threads, sizeof *t->members);
	if (!t->members) {
		free(t);
		return nssm_err_set(err, NSSM_ENOMEM, "a team of %d threads: out of memory", n_threads);
	}
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->work, NULL);
	pthread_cond_init(&t->done, NULL);
	for (int i = 1; i < n_threads; i++) {
		struct member *m = &t->members[i];
		*m = (struct member){.team = t, .idx = i};
		int rc = pthread_create(&m->thread, NULL, member_main, m);
		if (rc) {
			nssm_team_close(&t);
			return nssm_err_set(
			        err, NSSM_ENOMEM, "thread %d of %d: %s", i, n_threads, strerror(rc));
		}
		t->n_started++;
	}
	*team = t;
	return 0;
}

void nssm_team_close(struct nssm_team **team)
{
	struct nssm_team *t = *team;
	if (!t)
		return;
	atomic_store(&t->closing, true);
	wake(t, t->n_threads);
	for (int i = 1; i <= t->n_started; i++)
		pthread_join(t->members[i].thread, NULL);
	pthread_cond_destroy(&t->done);
	pthread_cond_destroy(&t->work);
	pthread_mutex_destroy(&t->lock);
	free(t->members);
	free(t);
	*team = NULL;
}
