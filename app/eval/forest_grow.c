#include "app/eval/forest_impl.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"

#define RADIX_FROM 64 /* rows; below, insertion sort is faster than clearing the counters */

struct split {
	int32_t feature;
	float threshold;
	uint32_t code; /* ranks up to this one go left */
	double score;
};

static uint32_t item_class(uint64_t item)
{
	return (uint32_t)(item >> 32) & 0xffff;
}

static double item_weight(uint64_t item, const double *weight)
{
	return (double)(uint32_t)item * weight[item_class(item)];
}

static double xlogx(double x)
{
	return x > 0 ? x * log2(x) : 0;
}

/* Purity of one side: W (1 - impurity), but for a constant that both sides of every split share. sum is of c^2 (Gini) or of
 * c log c (entropy) over the classes' weights c. */
static double purity(enum nssm_impurity impurity, double sum, double w)
{
	return impurity == NSSM_GINI ? sum / w : sum - xlogx(w);
}

static double term(enum nssm_impurity impurity, double c)
{
	return impurity == NSSM_GINI ? c * c : xlogx(c);
}

static void insertion_sort(uint64_t *a, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++) {
		uint64_t v = a[i];
		uint32_t k = i;
		for (; k > 0 && a[k - 1] >> 48 > v >> 48; k--)
			a[k] = a[k - 1];
		a[k] = v;
	}
}

static void radix_pass(uint64_t *to, const uint64_t *from, uint32_t n, int shift)
{
	uint32_t at[256] = {0};
	for (uint32_t i = 0; i < n; i++)
		at[from[i] >> shift & 255]++;
	for (uint32_t i = 0, sum = 0; i < 256; i++) {
		uint32_t k = at[i];
		at[i] = sum;
		sum += k;
	}
	for (uint32_t i = 0; i < n; i++)
		to[at[from[i] >> shift & 255]++] = from[i];
}

/* Sorts a by rank, where all ranks differ from one another in the bits of `differ` only; the result is what is returned, a or spare. */
static uint64_t *sort_by_rank(uint64_t *a, uint64_t *spare, uint32_t n, uint32_t differ)
{
	if (n < RADIX_FROM) {
		insertion_sort(a, n);
		return a;
	}
	for (int shift = 0; shift < 16; shift += 8) {
		if ((differ >> shift & 255) == 0)
			continue;
		radix_pass(spare, a, n, 48 + shift);
		uint64_t *t = a;
		a = spare;
		spare = t;
	}
	return a;
}

/* Between two neighbouring values, so that a goes left and b does not, in float too. */
static float between(float a, float b)
{
	float t = a / 2 + b / 2;
	return t >= a && t < b ? t : a;
}

/* Tries all boundaries of n rows sorted by rank. */
static void scan(struct split *best, const struct forest_data *d, struct grower *g, const uint64_t *row, uint32_t n,
	uint32_t feature, double node_sum, double node_w)
{
	enum nssm_impurity kind = d->cfg.impurity;
	uint32_t min_leaf = d->cfg.min_leaf;
	double sl = 0, sr = node_sum, wl = 0, wr = node_w;
	memset(g->left, 0, d->n_classes * sizeof *g->left);
	memcpy(g->right, g->total, d->n_classes * sizeof *g->right);
	for (uint32_t i = 0; i + 1 < n; i++) {
		uint32_t c = item_class(row[i]);
		double w = item_weight(row[i], d->weight);
		double l = g->left[c], r = g->right[c];
		if (kind == NSSM_GINI) {
			sl += w * (2 * l + w);
			sr -= w * (2 * r - w);
		} else {
			sl += xlogx(l + w) - xlogx(l);
			sr += xlogx(r - w) - xlogx(r);
		}
		g->left[c] = l + w;
		g->right[c] = r - w;
		wl += w;
		wr -= w;
		if (row[i] >> 48 == row[i + 1] >> 48 || i + 1 < min_leaf || n - i - 1 < min_leaf)
			continue;
		if (!(wr > 0)) /* rounded away: the rows left weigh nothing beside the others */
			continue;
		double score = purity(kind, sl, wl) + purity(kind, sr, wr);
		if (best->feature >= 0 && !(score > best->score))
			continue;
		uint32_t a = (uint32_t)(row[i] >> 48), b = (uint32_t)(row[i + 1] >> 48);
		const struct forest_column *col = &d->column[feature];
		*best = (struct split){(int32_t)feature, between(col->hi[a], col->lo[b]), a, score};
	}
}

/* Draws candidates until max_features are seen, and on until one varies among the node's rows. */
static void find_split(struct split *best, const struct forest_data *d, struct grower *g, uint32_t from, uint32_t n,
	struct nssm_rng *rng, double node_sum, double node_w)
{
	bool varies = false;
	best->feature = -1;
	for (uint32_t i = 0; i < d->n_features && (i < d->cfg.max_features || !varies); i++) {
		uint32_t k = i + nssm_rng_below(rng, d->n_features - i), feature = g->feature[k];
		g->feature[k] = g->feature[i];
		g->feature[i] = feature;
		const struct forest_column *col = &d->column[feature];
		if (col->n_codes < 2)
			continue;
		uint32_t first = col->code[g->row[from]], differ = 0;
		for (uint32_t j = 0; j < n; j++) {
			uint32_t code = col->code[g->row[from + j]];
			differ |= code ^ first;
			g->sorted[j] = (uint64_t)code << 48 | g->item[from + j];
		}
		if (differ == 0)
			continue;
		varies = true;
		const uint64_t *row = sort_by_rank(g->sorted, g->spare, n, differ);
		scan(best, d, g, row, n, feature, node_sum, node_w);
	}
}

/* Those that go left first; returns how many they are. */
static uint32_t partition(struct grower *g, const struct forest_column *col, uint32_t code, uint32_t from, uint32_t to)
{
	uint32_t a = from, b = to;
	while (a < b) {
		if (col->code[g->row[a]] <= code) {
			a++;
			continue;
		}
		b--;
		uint32_t row = g->row[a];
		uint64_t item = g->item[a];
		g->row[a] = g->row[b];
		g->item[a] = g->item[b];
		g->row[b] = row;
		g->item[b] = item;
	}
	return a - from;
}

static bool room(struct forest_tree *t, uint32_t n_classes)
{
	if (t->n_nodes + 2 > t->cap_nodes) {
		uint32_t cap = t->cap_nodes ? t->cap_nodes * 2 : 64;
		struct forest_node *node = realloc(t->node, cap * sizeof *node);
		if (!node)
			return false;
		t->node = node;
		t->cap_nodes = cap;
	}
	if (t->n_leaves + 1 > t->cap_leaves) {
		uint32_t cap = t->cap_leaves ? t->cap_leaves * 2 : 32;
		float *leaf = realloc(t->leaf, (size_t)cap * n_classes * sizeof *leaf);
		if (!leaf)
			return false;
		t->leaf = leaf;
		t->cap_leaves = cap;
	}
	return true;
}

/* The tree's rows, with how often they were drawn; returns how many different ones. */
static uint32_t draw_rows(struct grower *g, const struct forest_data *d, uint8_t *in_bag, struct nssm_rng *rng)
{
	uint32_t m = 0;
	if (in_bag) {
		memset(g->drawn, 0, d->n * sizeof *g->drawn);
		for (uint32_t i = 0; i < d->n; i++)
			g->drawn[nssm_rng_below(rng, d->n)]++;
	}
	for (uint32_t i = 0; i < d->n; i++) {
		uint32_t times = in_bag ? g->drawn[i] : 1;
		if (times == 0)
			continue;
		if (in_bag)
			in_bag[i / 8] |= (uint8_t)(1u << i % 8);
		g->row[m] = i;
		g->item[m] = (uint64_t)(uint32_t)d->y[i] << 32 | times;
		m++;
	}
	return m;
}

static void make_leaf(struct forest_tree *t, uint32_t node, const struct grower *g, uint32_t n_classes, double w)
{
	float *leaf = t->leaf + (size_t)t->n_leaves * n_classes;
	for (uint32_t c = 0; c < n_classes; c++)
		leaf[c] = (float)(g->total[c] / w);
	t->node[node] = (struct forest_node){-1, 0, t->n_leaves++};
}

/* Splits the node of range r, or makes it a leaf. False: no memory. */
static bool grow_node(struct forest_tree *t, double *importance, struct grower *g, const struct forest_data *d,
	struct nssm_rng *rng, struct grow_range r, uint32_t *n_stack)
{
	uint32_t n = r.to - r.from;
	double w = 0, sum = 0;
	bool pure = true;
	memset(g->total, 0, d->n_classes * sizeof *g->total);
	for (uint32_t i = r.from; i < r.to; i++) {
		g->total[item_class(g->item[i])] += item_weight(g->item[i], d->weight);
		pure &= item_class(g->item[i]) == item_class(g->item[r.from]);
	}
	for (uint32_t c = 0; c < d->n_classes; c++) {
		w += g->total[c];
		sum += term(d->cfg.impurity, g->total[c]);
	}
	if (!room(t, d->n_classes))
		return false;
	struct split best = {.feature = -1};
	/* Halved, because twice a min_leaf of 32 bits need not fit. */
	if (!pure && n / 2 >= d->cfg.min_leaf && (d->cfg.max_depth == 0 || r.depth < d->cfg.max_depth))
		find_split(&best, d, g, r.from, n, rng, sum, w);
	if (best.feature < 0) {
		make_leaf(t, r.node, g, d->n_classes, w);
		return true;
	}
	double gain = best.score - purity(d->cfg.impurity, sum, w);
	importance[best.feature] += gain > 0 ? gain : 0;
	uint32_t mid = r.from + partition(g, &d->column[best.feature], best.code, r.from, r.to), child = t->n_nodes;
	assert(mid > r.from && mid < r.to);
	t->node[r.node] = (struct forest_node){best.feature, best.threshold, child};
	t->n_nodes += 2;
	g->stack[(*n_stack)++] = (struct grow_range){child + 1, mid, r.to, r.depth + 1};
	g->stack[(*n_stack)++] = (struct grow_range){child, r.from, mid, r.depth + 1};
	return true;
}

void nssm_forest_grow(struct forest_tree *tree, uint8_t *in_bag, double *importance, struct grower *g,
	const struct forest_data *d, uint32_t tree_idx)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, d->cfg.seed, tree_idx, NSSM_RNG_FOREST);
	/* A thread's last tree must leave no trace. */
	for (uint32_t i = 0; i < d->n_features; i++)
		g->feature[i] = i;
	uint32_t n = draw_rows(g, d, in_bag, &rng), n_stack = 0;
	g->stack[n_stack++] = (struct grow_range){0, 0, n, 0};
	tree->n_nodes = 1;
	while (n_stack > 0 && !tree->failed)
		tree->failed = !grow_node(tree, importance, g, d, &rng, g->stack[--n_stack], &n_stack);
	double all = 0;
	for (uint32_t i = 0; i < d->n_features; i++)
		all += importance[i];
	for (uint32_t i = 0; i < d->n_features && all > 0; i++)
		importance[i] /= all;
}
