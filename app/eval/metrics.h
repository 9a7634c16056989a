/* metrics — how well classes are told apart, how sure that is, and which rows are held out.
 * Undefined values (a class that nobody predicted has no precision) are 0 and marked, as scikit-learn has them; never NaN.
 * Random : everything that draws does so from (seed, its own purpose); threads play no part.
 * Checked: tests/test_metrics_ml.c (by hand), tests/forest_sklearn.py (scikit-learn)                                     */
#ifndef NSSM_EVAL_METRICS_H
#define NSSM_EVAL_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* counts [n_classes, n_classes]: row true class, column what was predicted. NSSM_EARG: a class outside [0, n_classes). */
int nssm_confusion(uint64_t *counts, const int32_t *y, const int32_t *predicted, uint32_t n, uint32_t n_classes, struct nssm_err *err);

struct nssm_class_score {
	double precision, recall, f1;
	uint64_t n_true, n_predicted; /* precision is undefined where n_predicted is 0, recall where n_true is */
};
/* class [n_classes]; *accuracy 0 where there are no rows. Returns the macro F1: the mean over the classes that occur, in y or among
 * what was predicted (0: none does). */
double nssm_class_scores(struct nssm_class_score *class, double *accuracy, const uint64_t *counts, uint32_t n_classes);

/* Area under the ROC curve: how likely a positive row has a higher score than a negative one; equal scores count half.
 * NSSM_EARG: all rows of one kind; NSSM_ENUM: a score is NaN. */
int nssm_roc_auc(double *auc, const double *score, const bool *positive, uint32_t n, struct nssm_err *err);

/* A figure of the rows idx[0 .. n), which may repeat; NaN where it has none (an AUC of one class). */
typedef double nssm_statistic(void *ctx, const uint32_t *idx, uint32_t n);
struct nssm_interval {
	double value, lo, hi; /* of the rows themselves; the percentiles */
	uint32_t n_used;      /* resamples that had a figure */
};
/* Percentile bootstrap: n_resamples draws of n groups with replacement, the level's middle share of the figures. group [n] keeps
 * together what is not independent (a session's rows), NULL: each row by itself; numbers need not follow one another.
 * NSSM_EARG: no rows, a level outside (0, 1), no resamples; NSSM_ENUM: the rows themselves, or every resample, have no figure. */
int nssm_bootstrap(struct nssm_interval *interval, nssm_statistic *stat, void *ctx, const uint32_t *group, uint32_t n,
	uint32_t n_resamples, double level, uint64_t seed, struct nssm_err *err);

/* k folds: groups stay whole, each class's groups (a group is of its most frequent class) are dealt out evenly in random order, and the
 * next class begins with the fold after the last one dealt to, so folds' sizes differ by one group at most. A class with fewer than k
 * groups is missing from some folds. NSSM_EARG: k below 2 or above the number of groups, a class outside [0, n_classes). */
int nssm_split_folds(uint32_t *fold, const int32_t *y, const uint32_t *group, uint32_t n, uint32_t n_classes, uint32_t k, uint64_t seed,
	struct nssm_err *err);
/* Holds out `share` of each class's groups, rounded to the nearest, but where a class has two groups or more neither none nor all;
 * a class with one is not held out. */
int nssm_split_holdout(bool *held_out, const int32_t *y, const uint32_t *group, uint32_t n, uint32_t n_classes, double share, uint64_t seed,
	struct nssm_err *err);

/* Rows that are the same in every feature (-0 is 0). merged [n]: group numbers such that groups with a row in common are one, numbered
 * by first appearance: splits of them never have a row on both sides. Returns the number of groups, or < 0. */
int64_t nssm_group_identical(uint32_t *merged, const float *x, const uint32_t *group, uint32_t n, uint32_t n_features,
	struct nssm_err *err);
/* keep[i]: row i of x is none of train's. Returns how many are, or < 0. */
int64_t nssm_drop_known(bool *keep, const float *x, uint32_t n, const float *train, uint32_t n_train, uint32_t n_features,
	struct nssm_err *err);

#endif
