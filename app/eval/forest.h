/* forest — a random forest for classification.
 * Source : Breiman 2001, "Random Forests"; CART (Breiman et al. 1984) with Gini impurity or entropy. What those leave open is as in
 *          scikit-learn's RandomForestClassifier: sqrt(features) candidates a split, drawn without replacement, and more as long as
 *          none varies in the node; split wherever a node is not pure, even for no gain; the threshold is midway between
 *          two values of the node and `x <= threshold` goes left; min_leaf counts rows, not how often the bootstrap drew them; a
 *          forest's probability is the mean of its trees', its class the likeliest (of equals the lowest).
 * Search : a column's values become ranks of 16 bits once for all trees; a node's rows are sorted by rank (insertion sort,
 *          radix sort from 64 rows on) and all boundaries are tried in one pass, O(1) a row whatever the number of classes. Exact as
 *          long as a column has no more than max_bins different values; others fall into max_bins bins of about equal
 *          numbers. Histograms of 256 bins would clear and scan bins x classes a candidate, which for the many small nodes costs more
 *          than sorting their few rows; figures in tests/forest_tool.c.
 * Random : tree i draws from the stream (seed, i, NSSM_RNG_FOREST): its bootstrap, then the candidates node by node, left
 *          before right. Equal gains: the candidate drawn first, its lowest threshold. Results depend on the seed, never on threads.
 * Out of bag: each row is judged by the trees that did not draw it.
 * Memory : fit: 2 bytes a value of X, 44 bytes a row and thread, n_trees / 8 bytes a row, 8 bytes a feature and tree; after it 12 bytes
 *          a node, 4 a leaf and class, 8 a row and class (out of bag).
 * Errors : NSSM_ENUM: a value of X is NaN or infinite (which row and feature); NSSM_EARG: no rows, features or trees, y
 *          outside [0, n_classes), weights that are not positive.
 * Checked: tests/test_forest.c, tests/forest_sklearn.py                                                                   */
#ifndef NSSM_EVAL_FOREST_H
#define NSSM_EVAL_FOREST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/team.h"

#define NSSM_FOREST_BINS_MAX    65536
#define NSSM_FOREST_CLASSES_MAX 65535

enum nssm_impurity { NSSM_GINI, NSSM_ENTROPY };

struct nssm_forest_cfg {
	uint64_t seed;
	uint32_t n_trees;
	uint32_t max_depth;        /* 0: no bound; 1: one split */
	uint32_t min_leaf;         /* rows in a leaf at least; 0 is 1 */
	uint32_t max_features;     /* candidates a split; 0: sqrt(n_features), rounded down */
	uint32_t max_bins;         /* 0: NSSM_FOREST_BINS_MAX; else at least 2 */
	enum nssm_impurity impurity;
	bool no_bootstrap;         /* every tree sees every row; nothing is out of bag */
	bool balanced;             /* a class weighs n / (classes present * its rows), times class_weight */
	const double *class_weight; /* [n_classes], each > 0; NULL: all 1. Read by fit only */
};

struct nssm_forest;

/* x [n, n_features] row-major, y [n] in [0, n_classes); both are read by fit only. A class may have no rows. */
int nssm_forest_fit(struct nssm_forest **forest, const struct nssm_forest_cfg *cfg, const float *x, const int32_t *y, uint32_t n,
	uint32_t n_features, uint32_t n_classes, struct nssm_team *team, struct nssm_err *err);
void nssm_forest_close(struct nssm_forest **forest);

/* proba [n, n_classes]; each row sums to 1. */
int nssm_forest_proba(const struct nssm_forest *forest, double *proba, const float *x, uint32_t n, struct nssm_team *team,
	struct nssm_err *err);
int nssm_forest_predict(const struct nssm_forest *forest, int32_t *y, const float *x, uint32_t n, struct nssm_team *team,
	struct nssm_err *err);

/* Mean decrease of impurity, [n_features], sums to 1 (all 0 where no tree has a split). Valid until close. */
const double *nssm_forest_importances(const struct nssm_forest *forest);
/* [n] of fit, n_classes each; rows that every tree drew are all 0. Valid until close; NULL with no_bootstrap. */
const double *nssm_forest_oob_proba(const struct nssm_forest *forest);
/* Rows that some tree did not draw; *accuracy is the share of them that is judged right, 0 where there are none. */
uint32_t nssm_forest_oob(const struct nssm_forest *forest, double *accuracy);
/* Of all trees together. */
uint64_t nssm_forest_n_nodes(const struct nssm_forest *forest);

#endif
