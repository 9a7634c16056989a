/* forest_tool — app/eval's forest from files, for forest_sklearn.py; not installed.
 *   fit TREES SEED TRAIN TEST        CSVs of numbers, the class last, no header: prints the out-of-bag accuracy and which share of
 *                                    rows it is of; importances; then a row of probabilities for each row of TEST
 *   metrics CLASSES ROWS             a CSV of predicted class, score, class: prints accuracy, macro F1, ROC-AUC of class 1, the accuracy's
 *                                    95 % interval; then precision, recall, F1 of each class
 *   features CAPTURE...              names, then a row of features for each capture
 *   bench ROWS FEATURES TREES BINS THREADS    time to fit and predict 10 classes; a timing, no test
 * 10,000 x 100, 100 trees, CPU seconds: all splits 3.3, 256 bins 2.9; scikit-learn 1.2 about 11.                        */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/eval/session_features.h"
#include "app/eval/forest.h"
#include "app/eval/metrics.h"
#include "base/measure.h"
#include "base/philox.h"

struct table {
	float *x;
	int32_t *y;
	uint32_t n, n_features;
};

static int die(const char *what, const char *more)
{
	fprintf(stderr, "forest_tool: %s: %s\n", what, more);
	exit(1);
}

static void *need(void *p)
{
	if (!p)
		die("memory", "none left");
	return p;
}

static struct table read_table(const char *path)
{
	struct table t = {0};
	size_t line_cap = 0, n_values = 0;
	char *line = NULL;
	FILE *file = fopen(path, "r");
	if (!file)
		die(path, "cannot be read");
	while (getline(&line, &line_cap, file) > 0) {
		uint32_t k = 0;
		char *at = line, *end;
		if (t.n == 0)
			for (const char *c = line; *c; c++)
				t.n_features += *c == ',';
		t.x = need(realloc(t.x, (n_values + t.n_features) * sizeof *t.x));
		t.y = need(realloc(t.y, (t.n + 1) * sizeof *t.y));
		for (; k < t.n_features; k++, at = end + 1) {
			t.x[n_values + k] = strtof(at, &end);
			if (end == at || *end != ',')
				die(path, "a row without enough numbers");
		}
		t.y[t.n++] = atoi(at);
		n_values += t.n_features;
	}
	free(line);
	fclose(file);
	return t;
}

static int fit(struct nssm_forest_cfg *cfg, const char *train_path, const char *test_path)
{
	struct nssm_err err;
	struct nssm_team *team;
	struct nssm_forest *f;
	struct table train = read_table(train_path), test = read_table(test_path);
	uint32_t n_classes = 1;
	double accuracy;
	for (uint32_t i = 0; i < train.n; i++)
		n_classes = (uint32_t)train.y[i] >= n_classes ? (uint32_t)train.y[i] + 1 : n_classes;
	if (train.n_features != test.n_features)
		die(test_path, "another number of features");
	if (nssm_team_open(&team, 2, &err)
		|| nssm_forest_fit(&f, cfg, train.x, train.y, train.n, train.n_features, n_classes, team, &err))
		die("fit", err.msg);
	uint32_t n_oob = nssm_forest_oob(f, &accuracy);
	printf("%.17g,%.17g\n", accuracy, (double)n_oob / train.n);
	for (uint32_t i = 0; i < train.n_features; i++)
		printf("%.17g%c", nssm_forest_importances(f)[i], i + 1 < train.n_features ? ',' : '\n');
	double *p = need(malloc((size_t)test.n * n_classes * sizeof *p));
	if (nssm_forest_proba(f, p, test.x, test.n, team, &err))
		die("predict", err.msg);
	for (uint32_t i = 0; i < test.n * n_classes; i++)
		printf("%.9g%c", p[i], i % n_classes + 1 < n_classes ? ',' : '\n');
	nssm_forest_close(&f);
	nssm_team_close(&team);
	free(p);
	free(train.x);
	free(train.y);
	free(test.x);
	free(test.y);
	return 0;
}

static double hit_rate(void *ctx, const uint32_t *idx, uint32_t n)
{
	const struct table *t = ctx;
	uint32_t right = 0;
	for (uint32_t i = 0; i < n; i++)
		right += (int32_t)t->x[idx[i] * 2] == t->y[idx[i]];
	return (double)right / n;
}

static int metrics(uint32_t n_classes, const char *path)
{
	struct nssm_err err;
	struct table t = read_table(path);
	int32_t *predicted = need(malloc(t.n * sizeof *predicted));
	double *score = need(malloc(t.n * sizeof *score)), accuracy, auc;
	bool *positive = need(malloc(t.n * sizeof *positive));
	uint64_t *counts = need(malloc((size_t)n_classes * n_classes * sizeof *counts));
	struct nssm_class_score *class = need(malloc(n_classes * sizeof *class));
	struct nssm_interval interval;
	if (t.n_features != 2)
		die(path, "expected two numbers and a class");
	for (uint32_t i = 0; i < t.n; i++) {
		predicted[i] = (int32_t)t.x[i * 2];
		score[i] = (double)t.x[i * 2 + 1];
		positive[i] = t.y[i] == 1;
	}
	if (nssm_confusion(counts, t.y, predicted, t.n, n_classes, &err) || nssm_roc_auc(&auc, score, positive, t.n, &err)
		|| nssm_bootstrap(&interval, hit_rate, &t, NULL, t.n, 4000, 0.95, 1, &err))
		die(path, err.msg);
	double macro = nssm_class_scores(class, &accuracy, counts, n_classes);
	printf("%.17g,%.17g,%.17g,%.17g,%.17g\n", accuracy, macro, auc, interval.lo, interval.hi);
	for (uint32_t c = 0; c < n_classes; c++)
		printf("%.17g,%.17g,%.17g\n", class[c].precision, class[c].recall, class[c].f1);
	free(predicted);
	free(score);
	free(positive);
	free(counts);
	free(class);
	free(t.x);
	free(t.y);
	return 0;
}

static int features(int n, char **path)
{
	struct nssm_err err;
	struct nssm_features *f;
	uint32_t nf = nssm_feature_count();
	float *row = need(malloc(nf * sizeof *row));
	for (uint32_t i = 0; i < nf; i++)
		printf("%s%c", nssm_feature_name(i), i + 1 < nf ? ',' : '\n');
	if (nssm_features_open(&f, &err))
		die("features", err.msg);
	for (int k = 0; k < n; k++) {
		if (nssm_features_capture(f, row, path[k], &err))
			die("features", err.msg);
		for (uint32_t i = 0; i < nf; i++)
			printf("%.9g%c", (double)row[i], i + 1 < nf ? ',' : '\n');
	}
	nssm_features_close(&f);
	free(row);
	return 0;
}

/* Ten overlapping clouds: a tenth of the features say something. */
static int bench(uint32_t n, uint32_t n_features, uint32_t n_trees, uint32_t max_bins, int threads)
{
	struct nssm_err err;
	struct nssm_team *team;
	struct nssm_forest *f;
	struct nssm_forest_cfg cfg = {.n_trees = n_trees, .max_bins = max_bins, .seed = 1};
	float *x = need(malloc((size_t)n * n_features * sizeof *x));
	int32_t *y = need(malloc(n * sizeof *y));
	struct nssm_rng rng;
	double accuracy;
	nssm_rng_init(&rng, 1, 0, 0);
	for (uint32_t i = 0; i < n; i++) {
		y[i] = (int32_t)nssm_rng_below(&rng, 10);
		for (uint32_t k = 0; k < n_features; k++)
			x[(size_t)i * n_features + k] = (float)(nssm_rng_normal(&rng) + (k % 10 ? 0 : (double)((uint32_t)y[i] * (k / 10 + 1) % 7) / 2));
	}
	if (nssm_team_open(&team, threads, &err))
		die("bench", err.msg);
	uint64_t t0 = nssm_now_ns();
	if (nssm_forest_fit(&f, &cfg, x, y, n, n_features, 10, team, &err))
		die("bench", err.msg);
	uint64_t t1 = nssm_now_ns();
	if (nssm_forest_predict(f, y, x, n, team, &err))
		die("bench", err.msg);
	uint64_t t2 = nssm_now_ns();
	nssm_forest_oob(f, &accuracy);
	printf("fit %.2f s, predict %.3f s, %" PRIu64 " nodes, out of bag %.4f\n", (double)(t1 - t0) / 1e9, (double)(t2 - t1) / 1e9,
		nssm_forest_n_nodes(f), accuracy);
	nssm_forest_close(&f);
	nssm_team_close(&team);
	free(x);
	free(y);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "fit") == 0) {
		struct nssm_forest_cfg cfg = {.n_trees = (uint32_t)atoi(argv[2]), .seed = strtoull(argv[3], NULL, 10)};
		return fit(&cfg, argv[4], argv[5]);
	}
	if (argc > 2 && strcmp(argv[1], "features") == 0)
		return features(argc - 2, argv + 2);
	if (argc == 4 && strcmp(argv[1], "metrics") == 0)
		return metrics((uint32_t)atoi(argv[2]), argv[3]);
	if (argc == 7 && strcmp(argv[1], "bench") == 0)
		return bench((uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3]), (uint32_t)atoi(argv[4]), (uint32_t)atoi(argv[5]), atoi(argv[6]));
	fprintf(stderr, "usage: forest_tool fit TREES SEED TRAIN TEST | metrics CLASSES ROWS | features CAPTURE... | bench ROWS FEATURES TREES BINS THREADS\n");
	return 2;
}
