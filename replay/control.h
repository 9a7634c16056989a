/* control — a Unix socket (mode 0600) through which a run is steered while it goes.
 * Protocol: a line in, a line out; every answer is one JSON object: {"ok":true,...} or {"ok":false,"error":"..."}.
 *   rate WHAT      as --rate           pause | resume
 *   stop           drains what is due, then ends; "stop now": ends at once
 *   stats          everything (stats.h) as JSON
 *   help           the commands
 * Several clients at once; a line is at most 256 bytes; a client that does not read is dropped after 1 s. A stale socket file
 * (nobody listens) is replaced, a live one or another kind of file is an error. The file is removed at close.
 * Threads: one of its own; handle is called from it, one call at a time.
 * Checked: tests/test_control.c                                                                                            */
#ifndef NSSM_CONTROL_H
#define NSSM_CONTROL_H

#include "base/err.h"
#include "replay/metrics.h"
#include "replay/schedule.h"

enum nssm_control_what { NSSM_CONTROL_RATE, NSSM_CONTROL_PAUSE, NSSM_CONTROL_RESUME, NSSM_CONTROL_STOP, NSSM_CONTROL_STOP_NOW };
struct nssm_control_cfg {
	const char *path;
	/* Does it, or says why not. rate: for RATE, else NULL. */
	int (*handle)(void *ctx, enum nssm_control_what what, const struct nssm_rate *rate, struct nssm_err *err);
	nssm_stats_fn *stats;
	void *ctx;
};
struct nssm_control;
int nssm_control_open(struct nssm_control **c, const struct nssm_control_cfg *cfg, struct nssm_err *err);
void nssm_control_close(struct nssm_control **c);

#endif
