/* labels — which capture has which label: a CSV with the columns File,Label and any others (RFC 4180: quotes,
 * doubled quotes, CRLF; UTF-8 with or without a byte order mark). Split, if there, is kept. Rows of nothing but
 * commas are none.
 * Match  : a capture is found by its path relative to the folder it was found in, as the CSV writes it; else by a
 *          row that writes only the end of that path (x.pcap for a/x.pcap) or more of it (b/a/x.pcap). Another
 *          folder's x.pcap is another capture.
 * Checked: tests/test_labels.c, tests/fuzz/fuzz_labels.c */
#ifndef NSSM_LABELS_H
#define NSSM_LABELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct nssm_label_row {
	const char *file, *label, *split; /* split "" where there is none; owned by the table */
	uint32_t line;
	bool used;
};

struct nssm_labels {
	struct nssm_label_row *row;
	uint32_t n;
	bool has_split;
	char *text;
	uint32_t *by_base; /* row numbers, sorted by base name */
	char path[];
};

int nssm_labels_load(struct nssm_labels **l, const char *path, struct nssm_err *err);
/* From memory; where is for messages. */
int nssm_labels_load_mem(
        struct nssm_labels **l, const char *data, size_t len, const char *where, struct nssm_err *err);
void nssm_labels_close(struct nssm_labels **l);
/* *row NULL: the CSV does not name this file. Error: it is named more than once with different labels or
 * splits. */
int nssm_labels_find(
        struct nssm_labels *l, const char *rel_path, struct nssm_label_row **row, struct nssm_err *err);

#endif
