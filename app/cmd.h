/* cmd — the subcommands: one table {name, run, summary, usage, command bit}. `app/` is the only room that prints or exits. */
#ifndef NSSM_CMD_H
#define NSSM_CMD_H

#include <stdbool.h>

#include "base/err.h"
#include "conf/conf.h"

struct nssm_cmd {
	const char *name;
	const char *usage;   /* "prepare --captures DIR --labels CSV --out FILE" */
	const char *summary; /* one line */
	const char *details; /* paragraphs for `netssm CMD --help`, with an example */
	unsigned bit;        /* enum nssm_cmd_bit */
	int max_pos;         /* positionals it takes */
	bool pos_profiles;   /* they are profiles, read before the flags as those of --config are */
	/* conf is complete. Returns 0, or a negative NSSM_E* with err written (main prints it and exits 1). */
	int (*run)(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err);
};

extern const struct nssm_cmd nssm_cmd_prepare, nssm_cmd_train, nssm_cmd_generate, nssm_cmd_replay, nssm_cmd_run, nssm_cmd_info,
	nssm_cmd_bench, nssm_cmd_decode, nssm_cmd_nprint, nssm_cmd_eval;

#endif
