#include "app/eval/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"

/* Groups numbered by first appearance, each with its class; dealt holds the groups of one class after the other, shuffled. */
struct strata {
	uint32_t *of_row;  /* [n] */
	uint32_t *dealt;   /* [n_groups] */
	uint32_t *first;   /* [n_classes + 1] into dealt */
	uint32_t n_groups;
};

struct row_key {
	uint32_t key, row;
};

static int by_key(const void *a, const void *b)
{
	const struct row_key *x = a, *y = b;
	return x->key != y->key ? (x->key > y->key) - (x->key < y->key) : (x->row > y->row) - (x->row < y->row);
}

/* dense [n]: the numbers of key, numbered anew by first appearance. Returns how many different ones, or < 0. */
static int64_t renumber(uint32_t *dense, const uint32_t *key, uint32_t n, struct nssm_err *err)
{
	struct row_key *k = malloc(((size_t)n + 1) * sizeof *k);
	uint32_t n_dense = 0;
	if (!k)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for groups of %u rows", n);
	for (uint32_t i = 0; i < n; i++)
		k[i] = (struct row_key){key ? key[i] : i, i};
	qsort(k, n, sizeof *k, by_key);
	/* First each row's group's first row, then numbers in the order of those. */
	for (uint32_t i = 0; i < n; i++)
		dense[k[i].row] = i > 0 && k[i].key == k[i - 1].key ? dense[k[i - 1].row] : k[i].row;
	free(k);
	for (uint32_t i = 0; i < n; i++)
		dense[i] = dense[i] == i ? n_dense++ : dense[dense[i]];
	return n_dense;
}

static void strata_free(struct strata *s)
{
	free(s->of_row);
	free(s->dealt);
	free(s->first);
}

/* class [n_groups]: each group's most frequent one, of equals the lowest. Rows sorted by (group, class) stand together. */
static int group_classes(uint32_t *class, const struct strata *s, const int32_t *y, uint32_t n, struct nssm_err *err)
{
	uint32_t *best = calloc((size_t)s->n_groups + 1, sizeof *best);
	struct row_key *k = malloc(((size_t)n + 1) * sizeof *k);
	int rc = 0;
	if (!best || !k) {
		rc = nssm_err_set(err, NSSM_ENOMEM, "no memory for groups of %u rows", n);
		goto out;
	}
	/* row is the class here. */
	for (uint32_t i = 0; i < n; i++)
		k[i] = (struct row_key){s->of_row[i], (uint32_t)y[i]};
	qsort(k, n, sizeof *k, by_key);
	for (uint32_t i = 0, e; i < n; i = e) {
		for (e = i + 1; e < n && k[e].key == k[i].key && k[e].row == k[i].row;)
			e++;
		if (e - i > best[k[i].key]) {
			best[k[i].key] = e - i;
			class[k[i].key] = k[i].row;
		}
	}
out:
	free(best);
	free(k);
	return rc;
}

static int strata_make(struct strata *s, const int32_t *y, const uint32_t *group, uint32_t n, uint32_t n_classes, uint64_t seed,
	struct nssm_err *err)
{
	for (uint32_t i = 0; i < n; i++)
		if (y[i] < 0 || (uint32_t)y[i] >= n_classes)
			return nssm_err_set(err, NSSM_EARG, "row %u is of class %d; expected 0 to %d", i, y[i], (int)n_classes - 1);
	uint32_t *class = malloc(((size_t)n + 1) * sizeof *class);
	s->of_row = malloc(((size_t)n + 1) * sizeof *s->of_row);
	s->dealt = malloc(((size_t)n + 1) * sizeof *s->dealt);
	s->first = calloc((size_t)n_classes + 2, sizeof *s->first);
	int64_t n_groups = NSSM_ENOMEM;
	if (!class || !s->of_row || !s->dealt || !s->first)
		nssm_err_set(err, NSSM_ENOMEM, "no memory for groups of %u rows", n);
	else
		n_groups = renumber(s->of_row, group, n, err);
	int rc = n_groups < 0 ? (int)n_groups : 0;
	if (rc == 0) {
		s->n_groups = (uint32_t)n_groups;
		rc = group_classes(class, s, y, n, err);
	}
	if (rc) {
		free(class);
		return rc;
	}
	/* Counting sort; first[c + 1] moves from the class's begin to its end. */
	for (uint32_t g = 0; g < s->n_groups; g++)
		s->first[class[g] + 2]++;
	for (uint32_t c = 0; c < n_classes; c++)
		s->first[c + 2] += s->first[c + 1];
	for (uint32_t g = 0; g < s->n_groups; g++)
		s->dealt[s->first[class[g] + 1]++] = g;
	free(class);
	for (uint32_t c = 0; c < n_classes; c++) {
		struct nssm_rng rng;
		nssm_rng_init(&rng, seed, c, NSSM_RNG_SPLIT);
		for (uint32_t i = s->first[c]; i + 1 < s->first[c + 1]; i++) {
			uint32_t k = i + nssm_rng_below(&rng, s->first[c + 1] - i), g = s->dealt[i];
			s->dealt[i] = s->dealt[k];
			s->dealt[k] = g;
		}
	}
	return 0;
}

int nssm_split_folds(uint32_t *fold, const int32_t *y, const uint32_t *group, uint32_t n, uint32_t n_classes, uint32_t k, uint64_t seed,
	struct nssm_err *err)
{
	struct strata s = {0};
	int rc = strata_make(&s, y, group, n, n_classes, seed, err);
	uint32_t *of_group = malloc(((size_t)s.n_groups + 1) * sizeof *of_group);
	if (rc == 0 && (k < 2 || k > s.n_groups))
		rc = nssm_err_set(err, NSSM_EARG, "%u folds of %u groups; expected 2 to as many as there are groups", k, s.n_groups);
	if (rc == 0 && !of_group)
		rc = nssm_err_set(err, NSSM_ENOMEM, "no memory for groups of %u rows", n);
	for (uint32_t i = 0; rc == 0 && i < s.n_groups; i++)
		of_group[s.dealt[i]] = i % k;
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		fold[i] = of_group[s.of_row[i]];
	free(of_group);
	strata_free(&s);
	return rc;
}

int nssm_split_holdout(bool *held_out, const int32_t *y, const uint32_t *group, uint32_t n, uint32_t n_classes, double share, uint64_t seed,
	struct nssm_err *err)
{
	struct strata s = {0};
	if (!(share > 0 && share < 1))
		return nssm_err_set(err, NSSM_EARG, "a share of %g to hold out; expected between 0 and 1", share);
	int rc = strata_make(&s, y, group, n, n_classes, seed, err);
	bool *of_group = calloc((size_t)s.n_groups + 1, sizeof *of_group);
	if (rc == 0 && !of_group)
		rc = nssm_err_set(err, NSSM_ENOMEM, "no memory for groups of %u rows", n);
	for (uint32_t c = 0; rc == 0 && c < n_classes; c++) {
		uint32_t size = s.first[c + 1] - s.first[c], take = (uint32_t)floor(share * size + 0.5);
		if (size >= 2 && take == 0)
			take = 1;
		if (take >= size)
			take = size ? size - 1 : 0;
		for (uint32_t i = 0; i < take; i++)
			of_group[s.dealt[s.first[c] + i]] = true;
	}
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		held_out[i] = of_group[s.of_row[i]];
	free(of_group);
	strata_free(&s);
	return rc;
}

/* A set of rows that are known by what they hold: open addressing, hashes of 64 bits, compared value by value. */
struct row_set {
	uint32_t *slot; /* row + 1; 0: free */
	size_t mask;
	const float *x;
	uint32_t n_features;
};

static uint64_t row_hash(const float *x, uint32_t n_features)
{
	uint64_t h = 0x9e3779b97f4a7c15;
	for (uint32_t i = 0; i < n_features; i++) {
		float v = x[i] + 0.0f; /* -0 becomes 0 */
		uint32_t bits;
		memcpy(&bits, &v, sizeof bits);
		h = (h ^ bits) * 0xff51afd7ed558ccd;
		h ^= h >> 32;
	}
	return h;
}

static bool row_set_open(struct row_set *s, const float *x, uint32_t n, uint32_t n_features)
{
	size_t cap = 16;
	while (cap < (size_t)n * 2)
		cap *= 2;
	*s = (struct row_set){calloc(cap, sizeof *s->slot), cap - 1, x, n_features};
	return s->slot != NULL;
}

/* The slot where a row like v is, or where it would be. */
static uint32_t *row_set_find(const struct row_set *s, const float *v)
{
	for (size_t at = row_hash(v, s->n_features) & s->mask;; at = (at + 1) & s->mask) {
		if (s->slot[at] == 0)
			return &s->slot[at];
		const float *there = s->x + (size_t)(s->slot[at] - 1) * s->n_features;
		uint32_t i = 0;
		while (i < s->n_features && there[i] == v[i])
			i++;
		if (i == s->n_features)
			return &s->slot[at];
	}
}

static uint32_t root_of(uint32_t *parent, uint32_t g)
{
	while (parent[g] != g) {
		parent[g] = parent[parent[g]];
		g = parent[g];
	}
	return g;
}

int64_t nssm_group_identical(uint32_t *merged, const float *x, const uint32_t *group, uint32_t n, uint32_t n_features,
	struct nssm_err *err)
{
	struct row_set set;
	uint32_t *parent = malloc(((size_t)n + 1) * sizeof *parent);
	int64_t rc;
	if (!row_set_open(&set, x, n, n_features) || !parent) {
		rc = nssm_err_set(err, NSSM_ENOMEM, "no memory to compare %u rows", n);
		goto out;
	}
	if ((rc = renumber(merged, group, n, err)) < 0)
		goto out;
	for (uint32_t i = 0; i < n; i++)
		parent[i] = i;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t *slot = row_set_find(&set, x + (size_t)i * n_features);
		if (*slot == 0) {
			*slot = i + 1;
			continue;
		}
		uint32_t a = root_of(parent, merged[*slot - 1]), b = root_of(parent, merged[i]);
		/* The lower is the one that appeared first. */
		parent[a > b ? a : b] = a > b ? b : a;
	}
	for (uint32_t i = 0; i < n; i++)
		merged[i] = root_of(parent, merged[i]);
	/* parent is free to hold the old numbers while they are numbered anew. */
	memcpy(parent, merged, n * sizeof *parent);
	rc = renumber(merged, parent, n, err);
out:
	free(set.slot);
	free(parent);
	return rc;
}

int64_t nssm_drop_known(bool *keep, const float *x, uint32_t n, const float *train, uint32_t n_train, uint32_t n_features,
	struct nssm_err *err)
{
	struct row_set set;
	int64_t n_known = 0;
	if (!row_set_open(&set, train, n_train, n_features))
		return nssm_err_set(err, NSSM_ENOMEM, "no memory to compare %u rows", n_train);
	for (uint32_t i = 0; i < n_train; i++) {
		uint32_t *slot = row_set_find(&set, train + (size_t)i * n_features);
		if (*slot == 0)
			*slot = i + 1;
	}
	for (uint32_t i = 0; i < n; i++) {
		keep[i] = *row_set_find(&set, x + (size_t)i * n_features) == 0;
		n_known += !keep[i];
	}
	free(set.slot);
	return n_known;
}
