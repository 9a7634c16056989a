/* netssm eval: is the synthetic traffic as good as real? */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "app/cmd.h"
#include "app/eval/report.h"
#include "app/options.h"
#include "app/progress.h"
#include "base/file.h"
#include "version.h"

#define NAMED_MOST 5 /* broken captures that are named one by one */

struct job {
	const struct nssm_conf *conf;
	struct nssm_eval_set real, synthetic, train;
	bool with_train;
	struct nssm_progress bar;
	struct nssm_statistical stat;
};

static void warn(const char *msg)
{
	fprintf(stderr, "netssm: %s\n", msg);
}

static void progress(void *ctx, uint64_t files, uint64_t of, uint64_t packets)
{
	struct job *j = ctx;
	char a[16];
	if (nssm_progress_due(&j->bar, false))
		nssm_progress_line(&j->bar, (double)files / (double)of, "%" PRIu64 " of %" PRIu64 " captures  %s packets", files, of,
		        nssm_human(a, (double)packets));
}

/* --- what is compared ----------------------------------------------------------------------------------------- */

static int load_sets(struct job *j, struct nssm_err *err)
{
	const char *real = nssm_conf_str(j->conf, NSSM_K_EVAL_REAL), *synthetic = nssm_conf_str(j->conf, NSSM_K_EVAL_SYNTHETIC);
	const char *train = nssm_conf_str(j->conf, NSSM_K_EVAL_TRAIN), *train_split = nssm_conf_str(j->conf, NSSM_K_EVAL_TRAIN_SPLIT);
	struct nssm_eval_choice choice = {.split = nssm_conf_str(j->conf, NSSM_K_EVAL_SPLIT)};
	choice.n_only = nssm_conf_list(j->conf, NSSM_K_EVAL_ONLY, &choice.only);
	if (real == NULL || synthetic == NULL)
		return nssm_err_set(err, NSSM_EARG, "%s: expected a folder with a labels.csv, or a CSV with the columns File,Label; found none",
		        real == NULL ? "--real" : "--synthetic");
	int rc = nssm_eval_set_load(&j->real, "--real", real, &choice, warn, err);
	choice.split = NULL;
	if (rc == 0)
		rc = nssm_eval_set_load(&j->synthetic, "--synthetic", synthetic, &choice, warn, err);
	j->with_train = train != NULL || train_split != NULL;
	if (rc != 0 || !j->with_train)
		return rc;
	choice.split = train_split;
	rc = nssm_eval_set_load(&j->train, "--train", train != NULL ? train : real, &choice, warn, err);
	size_t twice = rc == 0 ? nssm_eval_set_overlap(&j->real, &j->train) : 0;
	if (twice > 0)
		fprintf(stderr, "netssm: --train: %zu of the real set's %zu captures are in the training set, too: real against real will look too near\n",
		        twice, j->real.n);
	return rc;
}

static void tell_broken(const struct nssm_eval_set *s)
{
	size_t n = 0;
	for (size_t i = 0; i < s->n; i++)
		if (s->file[i].problem != NULL && n++ < NAMED_MOST)
			fprintf(stderr, "netssm: %s: %s\n", s->flag, s->file[i].problem);
	if (n > 0)
		fprintf(stderr, "netssm: %s: %zu of %zu captures broken: what came before counts\n", s->flag, n, s->n);
	if (s->n_missing > 0)
		fprintf(stderr, "netssm: %s: %" PRIu32 " captures are not there\n", s->flag, s->n_missing);
}

/* --- out ------------------------------------------------------------------------------------------------------ */

static int write_json(const struct job *j, const char *path, struct nssm_err *err)
{
	json_t *all = json_pack("{s:s,s:o,s:o,s:o,s:o*,s:o}", "made_by", "netssm " NSSM_VERSION, "seed",
	        json_integer(nssm_conf_int(j->conf, NSSM_K_EVAL_SEED)), "real", nssm_eval_set_json(&j->real), "synthetic",
	        nssm_eval_set_json(&j->synthetic), "train", j->with_train ? nssm_eval_set_json(&j->train) : NULL, "statistical",
	        nssm_statistical_json(&j->stat));
	char *text = all != NULL ? json_dumps(all, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9)) : NULL;
	json_decref(all);
	if (text == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for the report", path);
	int rc = 0;
	if (strcmp(path, "-") == 0)
		puts(text);
	else
		rc = nssm_file_write(path, text, strlen(text), err);
	free(text);
	return rc;
}

static int evaluate(struct job *j, struct nssm_err *err)
{
	const char *json = nssm_conf_str(j->conf, NSSM_K_EVAL_JSON);
	struct nssm_statistical_cfg cfg = {.real = &j->real, .synthetic = &j->synthetic, .train = j->with_train ? &j->train : NULL,
		.seed = (uint64_t)nssm_conf_int(j->conf, NSSM_K_EVAL_SEED), .n_threads = nssm_opt_threads(j->conf), .progress = progress, .ctx = j};
	nssm_progress_init(&j->bar, nssm_conf_str(j->conf, NSSM_K_PROGRESS));
	int rc = nssm_statistical_run(&j->stat, &cfg, err);
	nssm_progress_end(&j->bar);
	tell_broken(&j->real);
	tell_broken(&j->synthetic);
	tell_broken(&j->train);
	if (rc != 0)
		return rc;
	if (json == NULL || strcmp(json, "-") != 0)
		nssm_statistical_table(stdout, &j->stat);
	return json != NULL ? write_json(j, json, err) : 0;
}

static int run(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err)
{
	struct job j = {.conf = conf};
	(void)pos, (void)n_pos;
	int rc = load_sets(&j, err);
	if (rc == 0)
		rc = evaluate(&j, err);
	nssm_statistical_free(&j.stat);
	nssm_eval_set_free(&j.real);
	nssm_eval_set_free(&j.synthetic);
	nssm_eval_set_free(&j.train);
	return rc;
}

const struct nssm_cmd nssm_cmd_eval = {
        .name = "eval",
        .usage = "eval --real DIR|CSV --synthetic DIR|CSV [--train DIR|CSV] [flags]",
        .summary = "measure how near synthetic captures come to real ones",
        .details = "A set is a folder with a labels.csv, as generate --out-dir writes, or a CSV with\n"
                   "the columns File,Label; a capture is a session. Compared label by label: every\n"
                   "bit of the headers as nPrint has them, header fields, sizes, inter-arrival\n"
                   "times, directions, flows and sessions, by Jensen-Shannon divergence (base 2)\n"
                   "and its root, total variation, Hellinger, earth mover's (over the range) and\n"
                   "Kolmogorov-Smirnov distance: 0 is alike, 1 is nothing in common.\n"
                   "Beside each figure stands what real traffic reaches against real traffic\n"
                   "(--train against --real; without it, halves of --real), and what real packets\n"
                   "reach once they are shuffled.\n"
                   "The table shows means; --json has every figure.\n"
                   "\n"
                   "  netssm eval --real labels.csv --split val --train-split train \\\n"
                   "    --synthetic made/ --json eval.json\n",
        .bit = NSSM_CMD_EVAL,
        .max_pos = 0,
        .run = run,
};
