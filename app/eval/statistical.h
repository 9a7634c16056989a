/* statistical — is the synthetic traffic distributed as the real? Every measure of measures.h and every bit of nprint.h, per
 * label and over all labels, in three comparisons:
 *   SYNTHETIC  the synthetic set against the real one.
 *   REAL       real against real: the training set against the real set or, without one, two halves of the real set's
 *              sessions (per label, drawn with the seed; none for a label with one session).
 *   SHUFFLED   the first side of REAL with its packets shuffled over all places that its sessions of a label have (each place keeps
 *              its session and time), against the second: what a generator reaches that knows packets but no order. Where order
 *              does not matter it equals REAL.
 * Labels : those that the real and the synthetic set share; others are listed. all.mean averages the labels' figures, all.pooled
 *          takes their packets together.
 * Means  : over bits: all, those without identifiers, those that a packet of either side has; over measures: all, and without
 *          identifiers. A figure that does not exist (NSSM_DIV_NONE) is in no mean.
 * Broken : a capture that ends in an error gives what came before it; its file has the problem.
 * Times  : a stamp before its predecessor's counts as equal to it; more than 1 s before is a clock that was set, and gaps stay.
 * Result : depends on the sets and the seed, not on threads.
 * Checked: tests/test_eval.c, tests/eval_cli.py                                                                         */
#ifndef NSSM_EVAL_STATISTICAL_H
#define NSSM_EVAL_STATISTICAL_H

#include <stdbool.h>
#include <stdint.h>

#include "app/eval/divergence.h"
#include "app/eval/measures.h"
#include "app/eval/set.h"
#include "base/err.h"

enum nssm_eval_column { NSSM_COL_SYNTHETIC, NSSM_COL_REAL, NSSM_COL_SHUFFLED, NSSM_N_COLS };
/* "synthetic", "real", "shuffled" */
const char *nssm_col_name(enum nssm_eval_column c);

enum nssm_bits_mean { NSSM_BITS_ALL, NSSM_BITS_NO_IDENTIFIERS, NSSM_BITS_SEEN, NSSM_N_BITS_MEANS };
enum nssm_measures_mean { NSSM_MEASURES_ALL, NSSM_MEASURES_NO_IDENTIFIERS, NSSM_N_MEASURES_MEANS };

typedef double nssm_figures[NSSM_N_COLS][NSSM_N_DIVS];

/* Of one label, or of all. */
struct nssm_comparison {
	const char *label;
	uint64_t sessions[NSSM_N_COLS][2], packets[NSSM_N_COLS][2]; /* of both sides of each column */
	nssm_figures measure[NSSM_N_MEASURES], bits_mean[NSSM_N_BITS_MEANS], measures_mean[NSSM_N_MEASURES_MEANS];
	nssm_figures *bit; /* [NSSM_NPRINT_BITS]; NULL in the mean of labels */
};

struct nssm_statistical {
	uint32_t n_labels; /* compared */
	struct nssm_comparison *label, pooled, mean;
	char **only_real, **only_synthetic; /* labels that are not compared */
	uint32_t n_only_real, n_only_synthetic;
	bool halves; /* REAL is halves of the real set */
};

struct nssm_statistical_cfg {
	struct nssm_eval_set *real, *synthetic, *train; /* train NULL: halves; their files get label_idx and problem */
	uint64_t seed;
	int n_threads;
	/* By one thread, now and then. */
	void (*progress)(void *ctx, uint64_t files, uint64_t of, uint64_t packets);
	void *ctx;
};
/* Labels in s are the sets': they must live as long. */
int nssm_statistical_run(struct nssm_statistical *s, const struct nssm_statistical_cfg *cfg, struct nssm_err *err);
void nssm_statistical_free(struct nssm_statistical *s);

#endif
