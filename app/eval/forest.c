#include "app/eval/forest.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/eval/forest_impl.h"

#define ROWS_MAX   (1u << 30)
#define CHUNK_ROWS 256 /* rows of a predicting task */
#define COLUMNS_A_TASK 16 /* floats of a cache line */
#define FEW_VALUES 32
#define WEIGHT_MIN 1e-6
#define WEIGHT_MAX 1e6

struct nssm_forest {
	struct nssm_forest_cfg cfg;
	struct forest_tree *tree; /* [n_trees] */
	double *importance;       /* [n_features] */
	double *oob;              /* [n, n_classes] */
	uint32_t n_features, n_classes, n_oob;
	double oob_accuracy;
};

/* What fit needs and predict does not. */
struct fit {
	struct nssm_forest *forest;
	struct forest_data data;
	struct forest_column *column;
	double *weight, *importance; /* [n_classes]; [n_trees, n_features] */
	uint8_t *in_bag;             /* [n_trees, bag_bytes]; NULL: no bootstrap */
	size_t bag_bytes;
	struct grower *grower; /* [size of the team] */
	uint32_t n_growers;
	const float *x;
};

static int no_memory(struct nssm_err *err, uint32_t n, uint32_t n_features)
{
	return nssm_err_set(err, NSSM_ENOMEM, "forest: no memory for %u rows of %u features", n, n_features);
}

static int check_finite(const float *x, uint32_t n, uint32_t n_features, struct nssm_err *err)
{
	for (size_t i = 0; i < (size_t)n * n_features; i++)
		if (!isfinite(x[i]))
			return nssm_err_set(err, NSSM_ENUM, "forest: row %zu, feature %zu is %s; expected a finite number",
				i / n_features, i % n_features, isnan(x[i]) ? "NaN" : "infinite");
	return 0;
}

static int check_cfg(const struct nssm_forest_cfg *cfg, uint32_t n, uint32_t n_features, uint32_t n_classes, struct nssm_err *err)
{
	if (n < 1 || n > ROWS_MAX)
		return nssm_err_set(err, NSSM_EARG, "forest: %u rows; expected 1 to %u", n, ROWS_MAX);
	if (n_features < 1 || n_features > INT32_MAX)
		return nssm_err_set(err, NSSM_EARG, "forest: %u features; expected 1 to %d", n_features, INT32_MAX);
	if (n_classes < 1 || n_classes > NSSM_FOREST_CLASSES_MAX)
		return nssm_err_set(err, NSSM_EARG, "forest: %u classes; expected 1 to %u", n_classes, NSSM_FOREST_CLASSES_MAX);
	if (cfg->n_trees < 1 || cfg->n_trees > INT32_MAX)
		return nssm_err_set(err, NSSM_EARG, "forest: %u trees; expected 1 to %d", cfg->n_trees, INT32_MAX);
	if (cfg->max_bins == 1 || cfg->max_bins > NSSM_FOREST_BINS_MAX)
		return nssm_err_set(err, NSSM_EARG, "forest: %u bins; expected 2 to %u", cfg->max_bins, NSSM_FOREST_BINS_MAX);
	if (cfg->max_features > n_features)
		return nssm_err_set(err, NSSM_EARG, "forest: %u candidates a split; there are %u features", cfg->max_features, n_features);
	for (uint32_t c = 0; cfg->class_weight && c < n_classes; c++)
		if (!(cfg->class_weight[c] >= WEIGHT_MIN && cfg->class_weight[c] <= WEIGHT_MAX))
			return nssm_err_set(err, NSSM_EARG, "forest: class %u weighs %g; expected %g to %g", c, cfg->class_weight[c],
				WEIGHT_MIN, WEIGHT_MAX);
	return 0;
}

static int check_y(const int32_t *y, uint32_t n, uint32_t n_classes, struct nssm_err *err)
{
	for (uint32_t i = 0; i < n; i++)
		if (y[i] < 0 || (uint32_t)y[i] >= n_classes)
			return nssm_err_set(err, NSSM_EARG, "forest: row %u is of class %d; expected 0 to %u", i, y[i], n_classes - 1);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

/* lo and hi of v's ranks, v sorted: a rank a value if they fit, else values that follow one another share one. */
static void make_ranks(struct forest_column *col, const float *v, uint32_t n, uint32_t max_bins)
{
	uint32_t n_distinct = 1, bin = 0;
	for (uint32_t i = 1; i < n; i++)
		n_distinct += v[i] != v[i - 1];
	col->n_codes = 0;
	for (uint32_t i = 0, k; i < n; i = k) {
		for (k = i + 1; k < n && v[k] == v[i];)
			k++;
		uint32_t b = (uint32_t)((uint64_t)i * max_bins / n);
		if (i == 0 || n_distinct <= max_bins || b != bin) {
			bin = b;
			col->lo[col->n_codes++] = v[i];
		}
		col->hi[col->n_codes - 1] = v[i];
	}
}

/* The different values of x into v, sorted, if they are no more than max <= FEW_VALUES (else 0): bits and counts need no sort of
 * all rows. */
static uint32_t few_values(float *v, const float *x, uint32_t n, uint32_t max)
{
	uint32_t n_values = 0, k = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (n_values > 0 && x[i] == v[k]) /* as the row before */
			continue;
		for (k = 0; k < n_values && v[k] != x[i];)
			k++;
		if (k < n_values)
			continue;
		if (n_values == max)
			return 0;
		v[n_values++] = x[i];
	}
	qsort(v, n_values, sizeof *v, by_value);
	return n_values;
}

/* v: room for n floats. */
static void encode_column(struct forest_column *col, const float *x, float *v, uint32_t n, uint32_t max_bins)
{
	uint32_t n_values = few_values(v, x, n, max_bins < FEW_VALUES ? max_bins : FEW_VALUES);
	if (n_values == 0) {
		n_values = n;
		memcpy(v, x, n * sizeof *v);
		qsort(v, n, sizeof *v, by_value);
	}
	uint32_t cap = n_values < max_bins ? n_values : max_bins;
	col->code = malloc(n * sizeof *col->code);
	col->lo = malloc(cap * sizeof *col->lo);
	col->hi = malloc(cap * sizeof *col->hi);
	if (!col->code || !col->lo || !col->hi) {
		col->failed = true;
		return;
	}
	make_ranks(col, v, n_values, max_bins);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t a = 0, b = col->n_codes - 1;
		while (a < b) {
			uint32_t mid = (a + b) / 2;
			if (col->hi[mid] < x[i])
				a = mid + 1;
			else
				b = mid;
		}
		col->code[i] = (uint16_t)a;
	}
}

/* Neighbouring columns, because their values share cache lines. */
static void encode_columns(void *ctx, int task, int member)
{
	struct fit *f = ctx;
	uint32_t n = f->data.n, nf = f->data.n_features;
	/* Not used before the trees; 8 bytes a row hold a float. */
	float *v = (float *)f->grower[member].sorted, *x = (float *)f->grower[member].spare;
	for (uint32_t k = (uint32_t)task * COLUMNS_A_TASK; k < nf && k < ((uint32_t)task + 1) * COLUMNS_A_TASK; k++) {
		for (uint32_t i = 0; i < n; i++)
			x[i] = f->x[(size_t)i * nf + k];
		encode_column(&f->column[k], x, v, n, f->data.cfg.max_bins);
	}
}

static void grow_tree(void *ctx, int task, int member)
{
	struct fit *f = ctx;
	nssm_forest_grow(&f->forest->tree[task], f->in_bag ? f->in_bag + (size_t)task * f->bag_bytes : NULL,
		f->importance + (size_t)task * f->data.n_features, &f->grower[member], &f->data, (uint32_t)task);
}

static const float *leaf_of(const struct nssm_forest *f, const struct forest_tree *t, const float *x)
{
	const struct forest_node *node = t->node;
	while (node->feature >= 0)
		node = &t->node[node->child + !(x[node->feature] <= node->threshold)];
	return t->leaf + (size_t)node->child * f->n_classes;
}

static uint32_t likeliest(const double *p, uint32_t n)
{
	uint32_t best = 0;
	for (uint32_t c = 1; c < n; c++)
		if (p[c] > p[best])
			best = c;
	return best;
}

/* Mean over the trees in their order; in_bag: without those that drew the row. False: there is no tree. */
static bool row_proba(const struct nssm_forest *f, double *p, const float *x, const uint8_t *in_bag, size_t bag_bytes, uint32_t row)
{
	uint32_t n_trees = 0;
	memset(p, 0, f->n_classes * sizeof *p);
	for (uint32_t t = 0; t < f->cfg.n_trees; t++) {
		if (in_bag && in_bag[t * bag_bytes + row / 8] >> row % 8 & 1)
			continue;
		const float *leaf = leaf_of(f, &f->tree[t], x);
		for (uint32_t c = 0; c < f->n_classes; c++)
			p[c] += (double)leaf[c];
		n_trees++;
	}
	for (uint32_t c = 0; c < f->n_classes && n_trees; c++)
		p[c] /= n_trees;
	return n_trees > 0;
}

static void judge_oob(void *ctx, int task, int member)
{
	struct fit *f = ctx;
	uint32_t from = (uint32_t)task * CHUNK_ROWS, to = f->data.n - from < CHUNK_ROWS ? f->data.n : from + CHUNK_ROWS;
	for (uint32_t i = from; i < to; i++)
		row_proba(f->forest, f->forest->oob + (size_t)i * f->data.n_classes, f->x + (size_t)i * f->data.n_features, f->in_bag,
			f->bag_bytes, i);
}

static void fit_free(struct fit *f)
{
	for (uint32_t i = 0; f->column && i < f->data.n_features; i++) {
		free(f->column[i].code);
		free(f->column[i].lo);
		free(f->column[i].hi);
	}
	for (uint32_t i = 0; f->grower && i < f->n_growers; i++) {
		struct grower *g = &f->grower[i];
		void *block[] = {g->row, g->item, g->sorted, g->spare, g->drawn, g->stack, g->feature, g->total, g->left, g->right};
		for (uint32_t k = 0; k < sizeof block / sizeof *block; k++)
			free(block[k]);
	}
	free(f->column);
	free(f->grower);
	free(f->weight);
	free(f->importance);
	free(f->in_bag);
}

static bool grower_alloc(struct grower *g, uint32_t n, uint32_t n_features, uint32_t n_classes)
{
	g->row = calloc(n, sizeof *g->row);
	g->item = calloc(n, sizeof *g->item);
	g->sorted = calloc(n, sizeof *g->sorted);
	g->spare = calloc(n, sizeof *g->spare);
	g->drawn = calloc(n, sizeof *g->drawn);
	g->stack = calloc((size_t)n + 1, sizeof *g->stack);
	g->feature = calloc(n_features, sizeof *g->feature);
	g->total = calloc(n_classes, sizeof *g->total);
	g->left = calloc(n_classes, sizeof *g->left);
	g->right = calloc(n_classes, sizeof *g->right);
	return g->row && g->item && g->sorted && g->spare && g->drawn && g->stack && g->feature && g->total && g->left && g->right;
}

static bool fit_alloc(struct fit *f)
{
	const struct forest_data *d = &f->data;
	struct nssm_forest *forest = f->forest;
	forest->tree = calloc(d->cfg.n_trees, sizeof *forest->tree);
	forest->importance = calloc(d->n_features, sizeof *forest->importance);
	f->column = calloc(d->n_features, sizeof *f->column);
	f->weight = calloc(d->n_classes, sizeof *f->weight);
	f->importance = calloc((size_t)d->cfg.n_trees * d->n_features, sizeof *f->importance);
	f->grower = calloc(f->n_growers, sizeof *f->grower);
	bool ok = forest->tree && forest->importance && f->column && f->weight && f->importance && f->grower;
	if (!d->cfg.no_bootstrap) {
		f->bag_bytes = ((size_t)d->n + 7) / 8;
		f->in_bag = calloc(d->cfg.n_trees, f->bag_bytes);
		forest->oob = calloc((size_t)d->n * d->n_classes, sizeof *forest->oob);
		ok = ok && f->in_bag && forest->oob;
	}
	for (uint32_t i = 0; ok && i < f->n_growers; i++)
		ok = grower_alloc(&f->grower[i], d->n, d->n_features, d->n_classes);
	return ok;
}

static bool weigh_classes(struct fit *f)
{
	const struct forest_data *d = &f->data;
	uint32_t *rows = calloc(d->n_classes, sizeof *rows), present = 0;
	if (!rows)
		return false;
	for (uint32_t i = 0; i < d->n; i++)
		present += rows[d->y[i]]++ == 0;
	for (uint32_t c = 0; c < d->n_classes; c++) {
		f->weight[c] = d->cfg.class_weight ? d->cfg.class_weight[c] : 1;
		if (d->cfg.balanced && rows[c] > 0)
			f->weight[c] *= (double)d->n / ((double)present * rows[c]);
	}
	free(rows);
	return true;
}

/* Trees in their order, so that sums of doubles do not depend on which was ready first. */
static void sum_up(struct fit *f)
{
	struct nssm_forest *forest = f->forest;
	uint32_t nf = f->data.n_features, right = 0;
	double all = 0;
	for (uint32_t t = 0; t < forest->cfg.n_trees; t++)
		for (uint32_t i = 0; i < nf; i++)
			forest->importance[i] += f->importance[(size_t)t * nf + i];
	for (uint32_t i = 0; i < nf; i++)
		all += forest->importance[i];
	for (uint32_t i = 0; i < nf && all > 0; i++)
		forest->importance[i] /= all;
	for (uint32_t i = 0; forest->oob && i < f->data.n; i++) {
		const double *p = forest->oob + (size_t)i * forest->n_classes;
		uint32_t c = likeliest(p, forest->n_classes);
		forest->n_oob += p[c] > 0;
		right += p[c] > 0 && c == (uint32_t)f->data.y[i];
	}
	forest->oob_accuracy = forest->n_oob ? (double)right / forest->n_oob : 0;
}

static int fit_run(struct fit *f, struct nssm_team *team, struct nssm_err *err)
{
	const struct forest_data *d = &f->data;
	if (!fit_alloc(f) || !weigh_classes(f))
		return no_memory(err, d->n, d->n_features);
	f->data.column = f->column;
	f->data.weight = f->weight;
	nssm_team_run(team, (int)((d->n_features - 1) / COLUMNS_A_TASK + 1), encode_columns, f);
	for (uint32_t i = 0; i < d->n_features; i++)
		if (f->column[i].failed)
			return no_memory(err, d->n, d->n_features);
	nssm_team_run(team, (int)d->cfg.n_trees, grow_tree, f);
	for (uint32_t t = 0; t < d->cfg.n_trees; t++)
		if (f->forest->tree[t].failed)
			return no_memory(err, d->n, d->n_features);
	if (f->in_bag)
		nssm_team_run(team, (int)((d->n + CHUNK_ROWS - 1) / CHUNK_ROWS), judge_oob, f);
	sum_up(f);
	return 0;
}

int nssm_forest_fit(struct nssm_forest **forest, const struct nssm_forest_cfg *cfg, const float *x, const int32_t *y, uint32_t n,
	uint32_t n_features, uint32_t n_classes, struct nssm_team *team, struct nssm_err *err)
{
	int rc;
	if ((rc = check_cfg(cfg, n, n_features, n_classes, err)) || (rc = check_y(y, n, n_classes, err))
		|| (rc = check_finite(x, n, n_features, err)))
		return rc;
	struct nssm_forest *f = calloc(1, sizeof *f);
	if (!f)
		return no_memory(err, n, n_features);
	f->cfg = *cfg;
	f->cfg.min_leaf = cfg->min_leaf ? cfg->min_leaf : 1;
	f->cfg.max_bins = cfg->max_bins ? cfg->max_bins : NSSM_FOREST_BINS_MAX;
	f->cfg.max_features = cfg->max_features ? cfg->max_features : (uint32_t)sqrt(n_features);
	f->n_features = n_features;
	f->n_classes = n_classes;
	struct fit fit = {.forest = f, .x = x, .n_growers = (uint32_t)nssm_team_size(team),
		.data = {.cfg = f->cfg, .y = y, .n = n, .n_features = n_features, .n_classes = n_classes}};
	rc = fit_run(&fit, team, err);
	fit_free(&fit);
	f->cfg.class_weight = NULL;
	if (rc)
		nssm_forest_close(&f);
	else
		*forest = f;
	return rc;
}

void nssm_forest_close(struct nssm_forest **forest)
{
	struct nssm_forest *f = *forest;
	if (!f)
		return;
	for (uint32_t t = 0; f->tree && t < f->cfg.n_trees; t++) {
		free(f->tree[t].node);
		free(f->tree[t].leaf);
	}
	free(f->tree);
	free(f->importance);
	free(f->oob);
	free(f);
	*forest = NULL;
}

struct judge {
	const struct nssm_forest *forest;
	const float *x;
	double *proba;
	uint32_t n;
};

static void judge_rows(void *ctx, int task, int member)
{
	struct judge *j = ctx;
	uint32_t from = (uint32_t)task * CHUNK_ROWS, to = j->n - from < CHUNK_ROWS ? j->n : from + CHUNK_ROWS;
	for (uint32_t i = from; i < to; i++)
		row_proba(j->forest, j->proba + (size_t)i * j->forest->n_classes, j->x + (size_t)i * j->forest->n_features, NULL, 0, i);
}

int nssm_forest_proba(const struct nssm_forest *forest, double *proba, const float *x, uint32_t n, struct nssm_team *team,
	struct nssm_err *err)
{
	int rc = check_finite(x, n, forest->n_features, err);
	if (rc)
		return rc;
	if (n > ROWS_MAX)
		return nssm_err_set(err, NSSM_EARG, "forest: %u rows; expected %u at most", n, ROWS_MAX);
	struct judge j = {forest, x, proba, n};
	if (n > 0)
		nssm_team_run(team, (int)((n + CHUNK_ROWS - 1) / CHUNK_ROWS), judge_rows, &j);
	return 0;
}

int nssm_forest_predict(const struct nssm_forest *forest, int32_t *y, const float *x, uint32_t n, struct nssm_team *team,
	struct nssm_err *err)
{
	double *p = calloc((size_t)n * forest->n_classes + 1, sizeof *p);
	if (!p)
		return no_memory(err, n, forest->n_features);
	int rc = nssm_forest_proba(forest, p, x, n, team, err);
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		y[i] = (int32_t)likeliest(p + (size_t)i * forest->n_classes, forest->n_classes);
	free(p);
	return rc;
}

const double *nssm_forest_importances(const struct nssm_forest *forest)
{
	return forest->importance;
}

const double *nssm_forest_oob_proba(const struct nssm_forest *forest)
{
	return forest->oob;
}

uint32_t nssm_forest_oob(const struct nssm_forest *forest, double *accuracy)
{
	*accuracy = forest->oob_accuracy;
	return forest->n_oob;
}

uint64_t nssm_forest_n_nodes(const struct nssm_forest *forest)
{
	uint64_t n = 0;
	for (uint32_t t = 0; t < forest->cfg.n_trees; t++)
		n += forest->tree[t].n_nodes;
	return n;
}
