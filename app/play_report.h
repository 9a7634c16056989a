/* play_report — a run's end, for people and for programs. */
#ifndef NSSM_PLAY_REPORT_H
#define NSSM_PLAY_REPORT_H

#include "app/play.h"

/* How a run ended. */
enum nssm_play_end { NSSM_PLAY_COMPLETE, NSSM_PLAY_STOPPED, NSSM_PLAY_FAILED };

struct nssm_play_result {
	enum nssm_play_end end;
	const char *why;                 /* of STOPPED and FAILED: the message; else NULL */
	struct nssm_pipeline *pipeline;  /* for its labels */
	const struct nssm_stats *stats;
};

/* A row a label, then what became of all packets, how fast it was, how late, and what came back. */
void nssm_play_report(FILE *f, const struct nssm_play *p, const struct nssm_play_result *r);
/* What is needed to make the same packets again, and what came out; nothing to do without --manifest. */
int nssm_play_manifest(const struct nssm_play *p, const struct nssm_play_result *r, struct nssm_err *err);
/* --stats-json. */
int nssm_play_stats_json(const struct nssm_play *p, const struct nssm_play_result *r, struct nssm_err *err);

#endif
