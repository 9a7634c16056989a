/* play — what generate, replay and run have in common: a source and the shared keys become a pipeline, which is run under the eyes of
 * the view, the metrics page, the control socket and the signals; then the report, the manifest and the figures as JSON.
 * Signals: the first SIGINT or SIGTERM drains, the second stops at once, the third ends the process.
 * stdout : the report, unless packets or JSON go there; then stderr.
 * Files  : manifest and JSON are written at the end, after a failure too: they say how it ended.
 * Checked: tests/test_play.c, tests/play_cli.py, tests/generate_valid.py                                                    */
#ifndef NSSM_PLAY_H
#define NSSM_PLAY_H

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>

#include "app/cmd.h"
#include "replay/pipeline.h"

struct nssm_play {
	const struct nssm_conf *conf;
	const struct nssm_cmd *cmd;       /* whose options the manifest lists; its name begins messages */
	struct nssm_pipeline_cfg cfg;     /* as nssm_play_options leaves it, with the source filled in */
	json_t *source;                   /* of the manifest: model or captures; owned */
	FILE *report;
};

/* Reads the shared keys; the source is the caller's to fill in. */
int nssm_play_init(struct nssm_play *p, const struct nssm_conf *conf, const struct nssm_cmd *cmd, bool model, struct nssm_err *err);
/* 0; NSSM_EINTR if a signal ended it; else what failed. */
int nssm_play_run(struct nssm_play *p, struct nssm_err *err);
void nssm_play_free(struct nssm_play *p);

#endif
