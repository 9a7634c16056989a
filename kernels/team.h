/* team — a fixed set of threads that run one task list after another: the only threads the model uses.
 * The caller is member 0 and works too. Tasks are numbered; which thread runs which task is not defined, so a
 * task must write only what is its own, and then results do not depend on the number of threads. run()
 * returns when all tasks are done; between two runs members spin shortly, then sleep. */
#ifndef NSSM_KERNELS_TEAM_H
#define NSSM_KERNELS_TEAM_H

#include "base/err.h"

struct nssm_team;

/* n_threads >= 1 (1: everything runs in the caller). */
int nssm_team_open(struct nssm_team **team, int n_threads, struct nssm_err *err);
void nssm_team_close(struct nssm_team **team);
int nssm_team_size(const struct nssm_team *team);
/* Runs fn(ctx, task, member) for every task in [0, n_tasks); member in [0, size) is for scratch memory only.
 */
void nssm_team_run(
        struct nssm_team *team, int n_tasks, void (*fn)(void *ctx, int task, int member), void *ctx);

#endif
