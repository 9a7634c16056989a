/* control — a Unix socket (mode 0600) through which a run is steered while it goes.
 * Protocol: a line in, a line out; every answer is one JSON object: {"ok":true,...} or {"ok":false,"error":"..."}.
 *   rate WHAT      as --rate           pause | resume
 *   stop           drains what is due, then ends; "stop now": ends at once
 *   stats          {"ok":true,"stats":{...}}: everything, as nssm_stats_json has it
 *   help           the commands
 * Clients: 16 at once, one more is told so and dropped; a line is at most 256 bytes, the rest of a longer one is thrown away; a
 *          client is asked for its next line when its last answer is away, and dropped if it reads nothing for 1 s. What a client
 *          sent before it went away is done all the same. A last line may lack its newline.
 * File   : listens before it is there under its name, with mode 0600 from its first moment. A stale socket file (nobody listens) is
 *          replaced, a live one or another kind of file is an error. Removed at close if it is still this one. The path has at
 *          most NSSM_CONTROL_PATH_MAX bytes.
 * Threads: one of its own; handle and stats are called from it, one call at a time.
 * Checked: tests/test_control.c                                                                                            */
#ifndef NSSM_CONTROL_H
#define NSSM_CONTROL_H

#include "base/err.h"
#include "replay/metrics.h"
#include "replay/schedule.h"

#define NSSM_CONTROL_PATH_MAX 95 /* sun_path less ".tmp." and a PID */

enum nssm_control_what { NSSM_CONTROL_RATE, NSSM_CONTROL_PAUSE, NSSM_CONTROL_RESUME, NSSM_CONTROL_STOP, NSSM_CONTROL_STOP_NOW };
struct nssm_control_cfg {
	const char *path; /* of this call only; the rest is used until close */
	/* Does it, or says why not. rate: for RATE, else NULL. */
	int (*handle)(void *ctx, enum nssm_control_what what, const struct nssm_rate *rate, struct nssm_err *err);
	nssm_stats_fn *stats;
	void *ctx;
};
struct nssm_control;
int nssm_control_open(struct nssm_control **c, const struct nssm_control_cfg *cfg, struct nssm_err *err);
void nssm_control_close(struct nssm_control **c);

#endif
