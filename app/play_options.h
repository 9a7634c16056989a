/* play_options — the keys that generate, replay and run share (output, live, clone, net) as the pipeline wants them, and what makes
 * no sense together said before anything is opened. Source, seed and fill are the commands' own.
 * Errors : NSSM_EARG, or what the replay library says; every message names the flag, or the profile's key that gave the value.
 * Checked: tests/test_play.c, tests/play_cli.py                                                                             */
#ifndef NSSM_PLAY_OPTIONS_H
#define NSSM_PLAY_OPTIONS_H

#include <stdbool.h>

#include "base/err.h"
#include "conf/conf.h"
#include "replay/pipeline.h"

/* Seconds, 0 to 1e9, in ns. */
uint64_t nssm_play_ns(double seconds);

/* Fills in all but the source; what cfg points to is conf's. model: plays of a model get the room
 * that 0 stands for; of captures 0 stays, since they can be counted. cmd begins messages ("replay"). */
int nssm_play_options(struct nssm_pipeline_cfg *cfg, const struct nssm_conf *conf, const char *cmd, bool model, struct nssm_err *err);
/* With the source filled in, too: a run that never ends may not write files only. */
int nssm_play_check(const struct nssm_pipeline_cfg *cfg, const char *cmd, struct nssm_err *err);
/* Whether the run keeps the wall clock's time: ports and streams do, files alone do not (pipeline.h). */
bool nssm_play_is_live(const struct nssm_pipeline_cfg *cfg);
/* Whether files are to have the captures' own time: cfg->epoch_ns is replay's to fill in then. */
bool nssm_play_starts_original(const struct nssm_conf *conf);
/* Whether something that is no text for people goes to stdout. */
bool nssm_play_takes_stdout(const struct nssm_conf *conf);

#endif
