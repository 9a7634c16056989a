/* What forest.c (fit, predict) and forest_grow.c (one tree) share. */
#ifndef NSSM_EVAL_FOREST_IMPL_H
#define NSSM_EVAL_FOREST_IMPL_H

#include "app/eval/forest.h"

struct forest_node {
	int32_t feature; /* -1: a leaf */
	float threshold;
	uint32_t child; /* left; right is the next one. Leaf: which row of tree.leaf */
};

struct forest_tree {
	struct forest_node *node;
	float *leaf; /* [n_leaves, n_classes] */
	uint32_t n_nodes, n_leaves, cap_nodes, cap_leaves;
	bool failed; /* no memory */
};

/* A column as ranks. lo and hi: the smallest and largest value of a rank; equal unless the column was binned. */
struct forest_column {
	uint16_t *code; /* [n] */
	float *lo, *hi; /* [n_codes] */
	uint32_t n_codes;
	bool failed;
};

/* What all trees read. */
struct forest_data {
	struct nssm_forest_cfg cfg;
	const struct forest_column *column;
	const int32_t *y;
	const double *weight; /* [n_classes] */
	uint32_t n, n_features, n_classes;
};

/* One thread's scratch. */
struct grow_range {
	uint32_t node, from, to, depth;
};
struct grower {
	uint32_t *row;              /* [n] rows of this tree, those of a node side by side */
	uint64_t *item;             /* [n] class << 32 | times drawn, of the row at the same place */
	uint64_t *sorted, *spare;   /* [n] rank << 48 | item */
	uint32_t *drawn;            /* [n] times that the bootstrap drew a row */
	struct grow_range *stack;   /* [n + 1] */
	uint32_t *feature;          /* [n_features] in an order that changes with every draw */
	double *total, *left, *right; /* [n_classes] weights of a node and of its halves */
};

/* in_bag: [(n + 7) / 8] bits, NULL without bootstrap. importance: [n_features], zeros on entry. */
void nssm_forest_grow(struct forest_tree *tree, uint8_t *in_bag, double *importance, struct grower *g,
	const struct forest_data *d, uint32_t tree_idx);

#endif
