#include "app/eval/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"

int nssm_confusion(uint64_t *counts, const int32_t *y, const int32_t *predicted, uint32_t n, uint32_t n_classes, struct nssm_err *err)
{
	memset(counts, 0, (size_t)n_classes * n_classes * sizeof *counts);
	for (uint32_t i = 0; i < n; i++) {
		int32_t bad = y[i] < 0 || (uint32_t)y[i] >= n_classes ? y[i] : predicted[i];
		if (bad < 0 || (uint32_t)bad >= n_classes)
			return nssm_err_set(err, NSSM_EARG, "row %u: class %d; expected 0 to %d", i, bad, (int)n_classes - 1);
		counts[(size_t)y[i] * n_classes + (uint32_t)predicted[i]]++;
	}
	return 0;
}

double nssm_class_scores(struct nssm_class_score *class, double *accuracy, const uint64_t *counts, uint32_t n_classes)
{
	uint64_t all = 0, right = 0;
	uint32_t occur = 0;
	double f1 = 0;
	for (uint32_t c = 0; c < n_classes; c++) {
		struct nssm_class_score *s = &class[c];
		*s = (struct nssm_class_score){0};
		for (uint32_t k = 0; k < n_classes; k++) {
			s->n_true += counts[(size_t)c * n_classes + k];
			s->n_predicted += counts[(size_t)k * n_classes + c];
		}
		uint64_t hit = counts[(size_t)c * n_classes + c];
		s->precision = s->n_predicted ? (double)hit / (double)s->n_predicted : 0;
		s->recall = s->n_true ? (double)hit / (double)s->n_true : 0;
		s->f1 = hit ? 2.0 * (double)hit / (double)(s->n_true + s->n_predicted) : 0;
		all += s->n_true;
		right += hit;
		occur += s->n_true + s->n_predicted > 0;
		f1 += s->f1;
	}
	*accuracy = all ? (double)right / (double)all : 0;
	return occur ? f1 / occur : 0;
}

struct scored {
	double score;
	bool positive;
};

static int by_score(const void *a, const void *b)
{
	double x = ((const struct scored *)a)->score, y = ((const struct scored *)b)->score;
	return (x > y) - (x < y);
}

int nssm_roc_auc(double *auc, const double *score, const bool *positive, uint32_t n, struct nssm_err *err)
{
	uint64_t n_pos = 0, n_neg = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (isnan(score[i]))
			return nssm_err_set(err, NSSM_ENUM, "ROC-AUC: the score of row %u is NaN", i);
		n_pos += positive[i];
	}
	if (n_pos == 0 || n_pos == n)
		return nssm_err_set(err, NSSM_EARG, "ROC-AUC: %s of %u rows are positive; expected both kinds", n_pos ? "all" : "none", n);
	struct scored *s = malloc(n * sizeof *s);
	if (!s)
		return nssm_err_set(err, NSSM_ENOMEM, "ROC-AUC: no memory for %u rows", n);
	for (uint32_t i = 0; i < n; i++)
		s[i] = (struct scored){score[i], positive[i]};
	qsort(s, n, sizeof *s, by_score);
	/* Twice the pairs won, so that halves are whole numbers; 2 n^2 / 4 fits 64 bits. */
	uint64_t won2 = 0;
	for (uint32_t i = 0, k; i < n; i = k) {
		uint64_t pos = 0, neg = 0;
		for (k = i; k < n && s[k].score == s[i].score; k++) {
			pos += s[k].positive;
			neg += !s[k].positive;
		}
		won2 += pos * (2 * n_neg + neg);
		n_neg += neg;
	}
	free(s);
	*auc = (double)won2 / 2 / (double)n_pos / (double)n_neg;
	return 0;
}

static int by_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Between the two nearest order statistics (type 7, NumPy's). */
static double percentile(const double *sorted, uint32_t n, double q)
{
	double at = q * (n - 1), low = floor(at);
	uint32_t i = (uint32_t)low;
	return i + 1 < n ? sorted[i] + (at - low) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

/* Rows by group: order [n], those of the group g at [first[g], first[g + 1]); first has room for n + 1. */
struct groups {
	uint32_t *order, *first, n;
};

struct keyed {
	uint32_t group, row;
};

static int by_group(const void *a, const void *b)
{
	const struct keyed *x = a, *y = b;
	return x->group != y->group ? (x->group > y->group) - (x->group < y->group) : (x->row > y->row) - (x->row < y->row);
}

static int groups_make(struct groups *g, const uint32_t *group, uint32_t n, struct nssm_err *err)
{
	struct keyed *k = malloc(((size_t)n + 1) * sizeof *k);
	g->order = malloc(((size_t)n + 1) * sizeof *g->order);
	g->first = malloc(((size_t)n + 1) * sizeof *g->first);
	g->n = 0;
	if (!k || !g->order || !g->first) {
		free(k);
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for groups of %u rows", n);
	}
	for (uint32_t i = 0; i < n; i++)
		k[i] = (struct keyed){group ? group[i] : i, i};
	qsort(k, n, sizeof *k, by_group);
	for (uint32_t i = 0; i < n; i++) {
		if (i == 0 || k[i].group != k[i - 1].group)
			g->first[g->n++] = i;
		g->order[i] = k[i].row;
	}
	g->first[g->n] = n;
	free(k);
	return 0;
}

static void groups_free(struct groups *g)
{
	free(g->order);
	free(g->first);
}

/* Figures of the resamples into figure; returns how many have one, or < 0. */
static int64_t resample(double *figure, nssm_statistic *stat, void *ctx, const struct groups *g, uint32_t n, uint32_t n_resamples,
	uint64_t seed)
{
	uint32_t cap = n, n_used = 0, *idx = malloc((size_t)cap * sizeof *idx);
	for (uint32_t r = 0; idx && r < n_resamples; r++) {
		struct nssm_rng rng;
		uint32_t m = 0;
		nssm_rng_init(&rng, seed, r, NSSM_RNG_RESAMPLE);
		for (uint32_t i = 0; i < g->n; i++) {
			uint32_t k = nssm_rng_below(&rng, g->n), size = g->first[k + 1] - g->first[k];
			/* Large groups drawn often are more rows than there were. */
			if (size > UINT32_MAX / 2 - m)
				break;
			if (m + size > cap) {
				cap = 2 * (m + size);
				uint32_t *grown = realloc(idx, (size_t)cap * sizeof *idx);
				if (!grown) {
					free(idx);
					return NSSM_ENOMEM;
				}
				idx = grown;
			}
			memcpy(idx + m, g->order + g->first[k], size * sizeof *idx);
			m += size;
		}
		double v = stat(ctx, idx, m);
		if (!isnan(v))
			figure[n_used++] = v;
	}
	if (!idx)
		return NSSM_ENOMEM;
	free(idx);
	return n_used;
}

int nssm_bootstrap(struct nssm_interval *interval, nssm_statistic *stat, void *ctx, const uint32_t *group, uint32_t n,
	uint32_t n_resamples, double level, uint64_t seed, struct nssm_err *err)
{
	if (n < 1 || n_resamples < 1 || !(level > 0 && level < 1))
		return nssm_err_set(err, NSSM_EARG, "bootstrap: %u rows, %u resamples, level %g; expected rows, resamples, a level in (0, 1)",
			n, n_resamples, level);
	struct groups g = {0};
	int rc = groups_make(&g, group, n, err);
	double *figure = malloc(n_resamples * sizeof *figure);
	int64_t n_used = 0;
	if (rc == 0 && !figure)
		rc = nssm_err_set(err, NSSM_ENOMEM, "bootstrap: no memory for %u resamples", n_resamples);
	if (rc)
		goto out;
	interval->value = stat(ctx, g.order, n);
	if (isnan(interval->value)) {
		rc = nssm_err_set(err, NSSM_ENUM, "bootstrap: the %u rows have no figure", n);
		goto out;
	}
	n_used = resample(figure, stat, ctx, &g, n, n_resamples, seed);
	if (n_used <= 0) {
		rc = n_used < 0 ? nssm_err_set(err, NSSM_ENOMEM, "bootstrap: no memory for resamples of %u rows", n)
			: nssm_err_set(err, NSSM_ENUM, "bootstrap: none of %u resamples has a figure", n_resamples);
		goto out;
	}
	interval->n_used = (uint32_t)n_used;
	qsort(figure, interval->n_used, sizeof *figure, by_double);
	interval->lo = percentile(figure, interval->n_used, (1 - level) / 2);
	interval->hi = percentile(figure, interval->n_used, (1 + level) / 2);
out:
	groups_free(&g);
	free(figure);
	return rc;
}
