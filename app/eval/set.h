/* set — captures with labels, a session a file: what is compared.
 * Path   : a folder with a labels.csv in it, as `generate --out-dir` writes, or a CSV as replay/labels.h reads it. Files are
 *          relative to the folder that the CSV is in.
 * Errors : no CSV, nothing chosen, a file under two labels. A file that is not there is reported and counted, and the others go on.
 * Checked: tests/eval_cli.py                                                                                        */
#ifndef NSSM_EVAL_SET_H
#define NSSM_EVAL_SET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct nssm_eval_file {
	char *path, *label;
	uint32_t label_idx; /* the caller's */
	char *problem;      /* how reading it ended early; NULL: it did not */
	dev_t dev;
	ino_t ino;
};

struct nssm_eval_set {
	const char *flag, *path;
	struct nssm_eval_file *file;
	size_t n;
	uint32_t n_missing;
};

struct nssm_eval_choice {
	const char *split;       /* NULL: all */
	const char *const *only; /* labels; n_only 0: all */
	size_t n_only;
};
/* flag begins messages. warn: one line for the user. */
int nssm_eval_set_load(struct nssm_eval_set *s, const char *flag, const char *path, const struct nssm_eval_choice *choice,
	void (*warn)(const char *msg), struct nssm_err *err);
void nssm_eval_set_free(struct nssm_eval_set *s);
/* Captures that both hold. */
size_t nssm_eval_set_overlap(const struct nssm_eval_set *a, const struct nssm_eval_set *b);

#endif
