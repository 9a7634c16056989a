/* ingest — captures to a corpus: finds files and their labels, cuts sessions, encodes, counts.
 * Memory : one row a session; one row a flow of the sessions that are open; with session split `client`, where many sessions
 *          are open at once, and with conditions, which stand before a session's packets and are known after them, their tokens
 *          up to NSSM_SPOOL_BYTES, beyond that in an unlinked temporary file beside the corpus. Never a capture, never all
 *          tokens.
 * Ports  : which of the captures' server ports are encrypted is learned and kept (secure_ports.h).
 * Codec  : with conditions each session is measured (conditions.h), of the packets that the codec takes.
 * Broken : a capture that ends in an error gives what came before it; the error is reported and counted, and the run goes on;
 *          strict: it ends the run, and nothing is written.
 * Paper  : sessions on which the published preprocessor fails (one packet; an empty UDP payload) are taken by its rule and
 *          counted.
 * Out    : whole or not there. A file that is there and is no corpus is not written over.
 * Checked: tests/test_ingest.c, tests/prepare_cli.py, tests/prepare_memory.py, tests/check_raw_codec.py */
#ifndef NSSM_INGEST_H
#define NSSM_INGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"
#include "model/codec.h"
#include "replay/session.h"

#define NSSM_SPOOL_BYTES (256u << 20)

struct nssm_ingest_report {
	uint32_t n_files;                      /* captures read, those included that were refused at once */
	uint32_t n_bad_files;                  /* captures ended by an error, and links to nothing */
	uint32_t n_twice;                      /* captures found again under another name: read once */
	uint32_t n_no_row;                     /* captures without a row in the CSV: not read */
	uint32_t n_other_split;                /* captures of another split or label: not read */
	uint32_t n_rows_unused;                /* rows whose capture was not found */
	uint64_t n_bytes;                      /* of capture files read */
	uint64_t n_sessions, n_empty_sessions; /* empty: no packet that the codec takes, not written */
	uint64_t n_beyond_paper; /* compat paper: sessions on which the published preprocessor fails */
	uint64_t n_normalised, n_short_link, n_wirelen_raised, n_bad_time; /* as in capture.h, summed */
	struct nssm_split_counts split;                                    /* summed */
	uint64_t spilled_bytes;
};

struct nssm_ingest_cfg {
	const char *const *captures; /* folders and files; "-" is stdin */
	size_t n_captures;
	const char *labels; /* CSV, or NULL */
	const char *label;  /* one for all, or NULL; exactly one of the two */
	const char *split;  /* NULL: all */
	const char *const *only;
	size_t n_only;
	struct nssm_split_cfg session_split;
	struct nssm_codec_cfg codec;
	const char *out;
	const json_t *made_by; /* kept in the corpus */
	size_t spool_bytes;    /* 0: NSSM_SPOOL_BYTES */
	bool strict;           /* a broken capture ends the run */
	/* Something to tell the user, one line: a broken capture, a row without a file. */
	void (*warn)(void *ctx, const char *msg);
	/* Between packets now and then; bytes of all chosen files. Non-zero: stop (NSSM_EINTR), nothing is
	 * written. */
	int (*progress)(void *ctx, uint64_t bytes, uint64_t total_bytes, uint64_t packets);
	void *ctx;
};

int nssm_ingest(const struct nssm_ingest_cfg *cfg, struct nssm_ingest_report *report, struct nssm_err *err);

#endif
