/* decode_report — what `netssm decode` wrote, as text and as JSON. */
#ifndef NSSM_DECODE_REPORT_H
#define NSSM_DECODE_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "model/corpus.h"
#include "replay/playback.h"

/* What was written of a label. */
struct nssm_decode_label {
	uint64_t n_sessions, n_packets, wire_bytes, captured_bytes;
};

struct nssm_decode_result {
	const char *corpus, *out; /* paths */
	bool out_is_folder;
	uint32_t n_sessions;      /* that were asked for */
	uint64_t n_packets;       /* written */
	uint64_t n_too_late;      /* not written: a pcap has no time for them */
	bool fixed_gap;           /* --gap */
	bool limited, stopped;    /* --limit, a signal */
	double seconds;
	struct nssm_decode_label *label; /* [n_labels] */
	const struct nssm_playback_sums *sums;
};

void nssm_decode_report_text(FILE *out, const struct nssm_decode_result *r, const struct nssm_corpus *c);
/* To stdout. */
int nssm_decode_report_json(const struct nssm_decode_result *r, const struct nssm_corpus *c, struct nssm_err *err);

#endif
