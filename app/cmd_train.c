/* netssm train */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/cmd.h"
#include "app/options.h"
#include "app/progress.h"
#include "base/file.h"
#include "base/measure.h"
#include "model/train.h"

#define DEFAULT_VALS 20 /* validations in a run, unless --val-every says otherwise */
#define LN2        0.69314718055994530942
#define LOG_HEADER "step,tokens,loss,loss_smoothed,grad_norm,lr,val_loss,seconds\n"

struct run {
	struct nssm_conf *conf;
	const char *out;
	char last[PATH_MAX], best[PATH_MAX], log_path[PATH_MAX];
	struct nssm_corpus **corpus;
	const char *const *corpus_path;
	int n_corpora;
	struct nssm_corpus *val;
	struct nssm_team *team;
	const struct nssm_kernels *kern;
	struct nssm_model_card card;
	struct nssm_trainer *t;
	FILE *log;
	struct nssm_progress bar;
	int64_t first_step, val_every; /* first_step: where this process began */
	double best_val, last_val, seconds_before, saved_s;
	int64_t since_best;
	bool saved; /* this process wrote last/ */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static int64_t opt_int(const struct run *r, enum nssm_key_id id)
{
	return nssm_conf_int(r->conf, id);
}

static float opt_float(const struct run *r, enum nssm_key_id id)
{
	return (float)nssm_conf_float(r->conf, id);
}

/* --- set-up ---------------------------------------------------------------------------------------------------- */

static int open_corpora(struct run *r, struct nssm_err *err)
{
	r->n_corpora = (int)nssm_conf_list(r->conf, NSSM_K_TRAIN_CORPUS, &r->corpus_path);
	if (r->n_corpora == 0)
		return nssm_err_set(err, NSSM_EARG, "train: --corpus is missing; `netssm prepare` makes one");
	r->corpus = calloc((size_t)r->n_corpora, sizeof *r->corpus);
	if (r->corpus == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory");
	for (int i = 0; i < r->n_corpora; i++) {
		int rc = nssm_corpus_open(&r->corpus[i], r->corpus_path[i], false, err);
		if (rc != 0)
			return rc;
	}
	const char *val = nssm_conf_str(r->conf, NSSM_K_VAL_CORPUS);
	if (val == NULL)
		return 0;
	return nssm_corpus_open(&r->val, val, false, err);
}

static int model_card(struct run *r, struct nssm_err *err)
{
	int rc = nssm_train_card(&r->card, r->corpus, r->corpus_path, r->n_corpora, err);
	if (rc != 0)
		return rc;
	rc = nssm_opt_mamba2(&r->card.cfg, r->conf, (int)r->card.vocab.n_tokens, err);
	if (rc == 0 && nssm_conf_bool(r->conf, NSSM_K_CONTEXT))
		r->card.cfg.n_context = (int)nssm_codec_n_contexts(&r->card.codec);
	r->card.cfg.n_cond = (int)r->card.codec.conditions;
	return rc;
}

/* Found out now, not at the first validation. */
static int check_val(const struct run *r, struct nssm_err *err)
{
	if (r->val == NULL)
		return 0;
	const struct nssm_vocab *v = nssm_corpus_vocab(r->val);
	for (uint32_t i = 0; i < v->n_labels; i++)
		if (nssm_corpus_stats(r->val, i)->n_sessions > 0 && nssm_vocab_find_label(&r->card.vocab, v->label[i].name) >= 0)
			return 0;
	return nssm_err_set(err, NSSM_EARG, "%s: none of its sessions has a label that %s has", nssm_conf_str(r->conf, NSSM_K_VAL_CORPUS),
		r->corpus_path[0]);
}

static enum nssm_dtype dtype_of(const char *name)
{
	return strcmp(name, "bf16") == 0 ? NSSM_BF16 : strcmp(name, "fp16") == 0 ? NSSM_F16 : NSSM_F32;
}

static int open_trainer(struct run *r, struct nssm_err *err)
{
	int rc = nssm_opt_kernels(&r->kern, r->conf, err);
	if (rc == 0)
		rc = nssm_team_open(&r->team, nssm_opt_threads(r->conf), err);
	if (rc != 0)
		return rc;
	struct nssm_train_cfg cfg = {.batch = (int)opt_int(r, NSSM_K_BATCH), .seq_tokens = (int)opt_int(r, NSSM_K_SEQ_TOKENS),
		.grad_accum = (int)opt_int(r, NSSM_K_GRAD_ACCUM), .warmup = opt_int(r, NSSM_K_WARMUP),
		.seed = (uint64_t)opt_int(r, NSSM_K_SEED), .lr = opt_float(r, NSSM_K_LR), .lr_min = opt_float(r, NSSM_K_LR_MIN),
		.weight_decay = opt_float(r, NSSM_K_WEIGHT_DECAY), .beta1 = opt_float(r, NSSM_K_BETA1),
		.beta2 = opt_float(r, NSSM_K_BETA2), .adam_eps = opt_float(r, NSSM_K_ADAM_EPS), .clip = opt_float(r, NSSM_K_CLIP),
		.condition_dropout = opt_float(r, NSSM_K_CONDITION_DROPOUT),
		.val_tokens = (uint64_t)opt_int(r, NSSM_K_VAL_TOKENS), .dtype = dtype_of(nssm_conf_str(r->conf, NSSM_K_DTYPE)),
		.precision = nssm_opt_precision(r->conf, r->kern)};
	if (cfg.lr_min > cfg.lr)
		cfg.lr_min = cfg.lr;
	return nssm_trainer_open(&r->t, &cfg, &r->card, r->corpus, r->n_corpora, r->val, r->kern, r->team, err);
}

static int init_from(struct run *r, const char *path, struct nssm_err *err)
{
	char dir[PATH_MAX];
	uint32_t n_new = 0;
	int rc = nssm_checkpoint_find(dir, path, err);
	if (rc == 0)
		rc = nssm_trainer_init_from(r->t, dir, &n_new, err);
	if (rc == 0 && n_new > 0)
		printf("weights of %s; %" PRIu32 " label%s that it lacks begin%s at random\n", dir, n_new, n_new == 1 ? "" : "s",
			n_new == 1 ? "s" : "");
	return rc;
}

/* Seconds one validation takes, about: forward only, a third of a step's work a token. */
static double validation_s(const struct run *r, double step_s)
{
	if (r->val == NULL)
		return 0;
	double n = (double)nssm_corpus_n_tokens(r->val), most = (double)opt_int(r, NSSM_K_VAL_TOKENS);
	n = most > 0 && most < n ? most : n;
	return n / (double)nssm_trainer_step_tokens(r->t) * step_s / 3;
}

/* Steps from --steps, --epochs or --minutes, in this order; one epoch if none is given. */
static int plan_steps(struct run *r, struct nssm_err *err)
{
	int64_t steps = opt_int(r, NSSM_K_STEPS);
	double minutes = nssm_conf_float(r->conf, NSSM_K_MINUTES), epochs = nssm_conf_float(r->conf, NSSM_K_EPOCHS);
	double per_step = (double)nssm_trainer_step_tokens(r->t);
	if (steps == 0 && epochs == 0 && minutes > 0) {
		double step_s, began = nssm_now_s();
		int rc = nssm_trainer_measure(r->t, &step_s, err);
		if (rc != 0)
			return rc;
		double left = minutes * 60 - (nssm_now_s() - began), val_s = validation_s(r, step_s);
		int64_t every = opt_int(r, NSSM_K_VAL_EVERY);
		if (every > 0)
			steps = (int64_t)(left / (step_s + val_s / (double)every));
		else
			steps = (int64_t)((left - DEFAULT_VALS * val_s) / step_s);
		printf("a step takes %.3f s here: %g minutes are %" PRId64 " steps\n", step_s, minutes, steps < 1 ? 1 : steps);
		if (every == 0 && left < 2 * DEFAULT_VALS * val_s)
			fprintf(stderr, "netssm: note: %d validations take about %.0f s of this time; a smaller --val-tokens or a larger "
				"--val-every leaves more for training\n", DEFAULT_VALS, DEFAULT_VALS * val_s);
	} else if (steps == 0) {
		steps = (int64_t)ceil((epochs > 0 ? epochs : 1) * (double)nssm_trainer_epoch_tokens(r->t) / per_step);
	}
	nssm_trainer_set_steps(r->t, steps < 1 ? 1 : steps);
	return 0;
}

/* Keeps the header and the rows up to a step; a run that was killed may have logged more than it saved. */
static int cut_log(const char *path, int64_t step, double *seconds, struct nssm_err *err)
{
	struct nssm_map m;
	if (access(path, F_OK) != 0)
		return 0;
	int rc = nssm_map_open(&m, path, err);
	if (rc != 0)
		return rc;
	size_t end = 0;
	for (size_t at = 0; at < m.len;) {
		const uint8_t *nl = memchr(m.data + at, '\n', m.len - at);
		char line[256];
		size_t n = nl ? (size_t)(nl - (m.data + at)) : m.len - at;
		if (nl == NULL || n >= sizeof line)
			break;
		memcpy(line, m.data + at, n);
		line[n] = '\0';
		if (at > 0 && strtoll(line, NULL, 10) > step)
			break;
		const char *comma = strrchr(line, ',');
		if (at > 0 && comma != NULL)
			*seconds = strtod(comma + 1, NULL);
		at += n + 1;
		end = at;
	}
	rc = nssm_file_write(path, m.data, end, err);
	nssm_map_close(&m);
	return rc;
}

static int resume(struct run *r, struct nssm_err *err)
{
	json_t *training = NULL, *extra = NULL;
	int64_t steps;
	int rc = nssm_checkpoint_load_training(&training, r->last, err);
	if (rc == 0)
		rc = nssm_trainer_stored_steps(training, &steps, r->last, err);
	if (rc == 0) {
		const char *level = json_string_value(json_object_get(training, "level"));
		if (level != NULL && strcmp(level, r->kern->name) != 0)
			fprintf(stderr, "netssm: note: begun at CPU level %s, resumed at %s: losses will differ in their last digits "
				"(--level %s keeps them)\n", level, r->kern->name, level);
		const char *was = nssm_trainer_stored_precision(training), *now = nssm_train_precision_name(nssm_opt_precision(r->conf, r->kern));
		if (strcmp(was, now) != 0)
			fprintf(stderr, "netssm: note: so far in precision %s, from here on in %s: losses will differ "
				"(--precision %s keeps them)\n", was, now, was);
		if (opt_int(r, NSSM_K_STEPS) > 0)
			steps = opt_int(r, NSSM_K_STEPS); /* a different count is then refused by the plan */
		nssm_trainer_set_steps(r->t, steps);
		rc = nssm_trainer_resume(r->t, r->last, &extra, err);
	}
	if (rc == 0) {
		const char *best = json_string_value(json_object_get(extra, "best_val"));
		char *end = NULL;
		r->best_val = best ? strtod(best, &end) : INFINITY;
		if (best != NULL && (end == best || *end != '\0'))
			rc = nssm_err_set(err, NSSM_EFORMAT, "%s/training.json: extra.best_val: expected a number as text", r->last);
		r->since_best = json_integer_value(json_object_get(extra, "since_best"));
		r->first_step = json_integer_value(json_object_get(json_object_get(training, "progress"), "step"));
	}
	if (rc == 0)
		rc = cut_log(r->log_path, r->first_step, &r->seconds_before, err);
	json_decref(extra);
	json_decref(training);
	return rc;
}

static int open_out(struct run *r, struct nssm_err *err)
{
	r->out = nssm_conf_str(r->conf, NSSM_K_TRAIN_OUT);
	if (r->out == NULL)
		return nssm_err_set(err, NSSM_EARG, "train: --out is missing: the folder for checkpoints and log.csv");
	if (snprintf(r->last, sizeof r->last, "%s/last", r->out) >= (int)sizeof r->last ||
		snprintf(r->best, sizeof r->best, "%s/best", r->out) >= (int)sizeof r->best ||
		snprintf(r->log_path, sizeof r->log_path, "%s/log.csv", r->out) >= (int)sizeof r->log_path)
		return nssm_err_set(err, NSSM_EARG, "--out: path too long");
	bool resuming = nssm_conf_bool(r->conf, NSSM_K_RESUME);
	struct stat st;
	if (resuming && access(r->last, F_OK) != 0)
		return nssm_err_set(err, NSSM_EARG, "%s: %s: --resume goes on with what an earlier run left there", r->last,
			strerror(errno));
	if (mkdir(r->out, 0755) != 0 && errno != EEXIST)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot create: %s", r->out, strerror(errno));
	if (stat(r->out, &st) != 0 || !S_ISDIR(st.st_mode))
		return nssm_err_set(err, NSSM_EIO, "%s: is no folder", r->out);
	if (!resuming && access(r->last, F_OK) == 0)
		return nssm_err_set(err, NSSM_EARG, "%s: holds a training already; --resume goes on with it, or name another --out",
			r->last);
	return 0;
}

static int open_log(struct run *r, struct nssm_err *err)
{
	r->log = fopen(r->log_path, r->first_step == 0 ? "w" : "a");
	/* A resumed run's log may have been deleted: then it begins anew, with the steps that come. */
	bool empty = r->log != NULL && fseek(r->log, 0, SEEK_END) == 0 && ftell(r->log) == 0;
	if (r->log == NULL || (empty && fputs(LOG_HEADER, r->log) < 0))
		return nssm_err_set(err, NSSM_EIO, "%s: cannot write: %s", r->log_path, strerror(errno));
	return 0;
}

static void describe(const struct run *r)
{
	const struct nssm_mamba2_cfg *c = &nssm_trainer_card(r->t)->cfg;
	char a[16], b[16], d[16], e[16];
	printf("model   D %d, L %d, N %d, heads %d x %d, vocabulary %d, contexts %d: %s parameters\n", c->D, c->L, c->N, c->H, c->P, c->V,
		c->n_context, nssm_human(a, (double)nssm_mamba2_param_floats(c)));
	printf("corpus  %d file%s, %s tokens to predict an epoch, unigram entropy %.3f bits\n", r->n_corpora,
		r->n_corpora == 1 ? "" : "s", nssm_human(a, (double)nssm_trainer_epoch_tokens(r->t)),
		nssm_corpus_unigram_bits(r->corpus[0]));
	double all = (double)nssm_trainer_steps(r->t) * (double)nssm_trainer_step_tokens(r->t);
	printf("plan    %s steps of %s tokens: %s tokens, %.2f epochs; %sB of memory; level %s, %s, %d thread%s\n",
		nssm_human(a, (double)nssm_trainer_steps(r->t)), nssm_human(b, (double)nssm_trainer_step_tokens(r->t)),
		nssm_human(d, all), all / (double)nssm_trainer_epoch_tokens(r->t), nssm_human(e, (double)nssm_trainer_bytes(r->t)),
		r->kern->name, nssm_train_precision_name(nssm_opt_precision(r->conf, r->kern)), nssm_team_size(r->team), nssm_team_size(r->team) == 1 ? "" : "s");
	if (r->first_step > 0)
		printf("resumed after step %" PRId64 "\n", r->first_step);
	fflush(stdout);
}

/* --- the loop -------------------------------------------------------------------------------------------------- */

static json_t *own_values(const struct run *r)
{
	char best[40];
	snprintf(best, sizeof best, "%a", r->best_val);
	return json_pack("{s:s,s:I}", "best_val", best, "since_best", (json_int_t)r->since_best);
}

static int save_last(struct run *r, struct nssm_err *err)
{
	/* The log first: were the machine to lose power, rows of steps that the checkpoint has done would never be made again. */
	if (fflush(r->log) != 0 || (fsync(fileno(r->log)) != 0 && errno != EINVAL && errno != EROFS))
		return nssm_err_set(err, NSSM_EIO, "%s: cannot sync: %s", r->log_path, strerror(errno));
	json_t *own = own_values(r);
	int rc = nssm_trainer_save(r->t, r->last, own, err);
	json_decref(own);
	r->saved_s = nssm_progress_elapsed(&r->bar);
	r->saved = r->saved || rc == 0;
	return rc;
}

static int validate(struct run *r, const struct nssm_train_stats *st, bool *stop, struct nssm_err *err)
{
	uint64_t n;
	int rc = nssm_trainer_validate(r->t, &r->last_val, &n, err);
	if (rc != 0)
		return rc;
	if (!(r->last_val < r->best_val)) {
		int64_t patience = opt_int(r, NSSM_K_PATIENCE);
		r->since_best++;
		*stop = patience > 0 && r->since_best >= patience;
		return 0;
	}
	r->best_val = r->last_val;
	r->since_best = 0;
	json_t *about = json_pack("{s:I,s:I,s:f,s:f}", "step", (json_int_t)st->step, "tokens", (json_int_t)st->tokens, "train_loss",
		st->loss_ema, "val_loss", r->last_val);
	rc = nssm_trainer_export(r->t, r->best, about, err);
	json_decref(about);
	return rc;
}

static void draw(struct run *r, const struct nssm_train_stats *st, bool force)
{
	if (!nssm_progress_due(&r->bar, force))
		return;
	char a[16];
	int64_t total = nssm_trainer_steps(r->t), here = st->step - r->first_step;
	double rate = (double)here * (double)nssm_trainer_step_tokens(r->t) / nssm_progress_elapsed(&r->bar);
	char val[48] = "";
	if (isfinite(r->last_val))
		snprintf(val, sizeof val, "  val %.3f", r->last_val / LN2);
	nssm_progress_line(&r->bar, (double)st->step / (double)total, "step %" PRId64 "/%" PRId64 "  %.3f bits/token%s  %s tokens/s",
		st->step, total, st->loss_ema / LN2, val, nssm_human(a, rate));
}

static int log_row(struct run *r, const struct nssm_train_stats *st, bool validated, struct nssm_err *err)
{
	char val[40] = "";
	if (validated)
		snprintf(val, sizeof val, "%.17g", r->last_val);
	int n = fprintf(r->log, "%" PRId64 ",%" PRIu64 ",%.17g,%.17g,%.17g,%.9g,%s,%.3f\n", st->step, st->tokens, st->loss,
		st->loss_ema, st->grad_norm, st->lr, val, r->seconds_before + nssm_progress_elapsed(&r->bar));
	if (n < 0 || fflush(r->log) != 0)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot write: %s", r->log_path, strerror(errno));
	return 0;
}

static int loop(struct run *r, struct nssm_train_stats *st, struct nssm_err *err)
{
	int64_t total = nssm_trainer_steps(r->t);
	double save_every = nssm_conf_float(r->conf, NSSM_K_SAVE_EVERY);
	bool stop = false;
	for (int64_t step = r->first_step; step < total && !stop && !interrupted; step++) {
		int rc = nssm_trainer_step(r->t, st, err);
		if (rc != 0)
			return rc;
		bool validated = r->val != NULL && (st->step % r->val_every == 0 || st->step == total);
		if (validated)
			rc = validate(r, st, &stop, err);
		if (rc == 0)
			rc = log_row(r, st, validated, err);
		if (rc == 0 && nssm_progress_elapsed(&r->bar) - r->saved_s >= save_every)
			rc = save_last(r, err);
		if (rc != 0)
			return rc;
		draw(r, st, false);
	}
	if (stop)
		printf("\nstopped early: %" PRId64 " validations without improvement\n", r->since_best);
	return 0;
}

static void report(struct run *r, const struct nssm_train_stats *st)
{
	char a[16], b[16];
	double s = nssm_progress_elapsed(&r->bar);
	double tokens = (double)(st->step - r->first_step) * (double)nssm_trainer_step_tokens(r->t);
	printf("trained to step %" PRId64 " in %s, %s tokens/s; training loss %.4f nats, %.3f bits a token\n", st->step,
		nssm_hms(a, s), nssm_human(b, tokens / s), st->loss_ema, st->loss_ema / LN2);
	if (r->val != NULL && isfinite(r->best_val)) {
		printf("validation loss %.4f nats, %.3f bits a token (unigram entropy of its corpus: %.3f bits)\n", r->best_val,
			r->best_val / LN2, nssm_corpus_unigram_bits(r->val));
		if (nssm_trainer_val_unknown(r->t) > 0)
			printf("%" PRIu32 " validation sessions left out: training has no such label\n", nssm_trainer_val_unknown(r->t));
	}
	printf("checkpoint in %s; losses in %s\n", r->val ? r->best : r->last, r->log_path);
	printf("next: netssm generate --model %s --label %s --sessions 4 --pcap-out new.pcap\n", r->out,
		nssm_trainer_card(r->t)->vocab.n_labels ? nssm_trainer_card(r->t)->vocab.label[0].name : "LABEL");
}

static int run_all(struct run *r, struct nssm_err *err)
{
	int rc;
	bool resuming = nssm_conf_bool(r->conf, NSSM_K_RESUME);
	const char *init = nssm_conf_str(r->conf, NSSM_K_INIT_FROM);
	if ((rc = open_corpora(r, err)) || (rc = model_card(r, err)) || (rc = check_val(r, err)) || (rc = open_out(r, err)) ||
		(rc = open_trainer(r, err)))
		return rc;
	if (!resuming && init != NULL && (rc = init_from(r, init, err)))
		return rc;
	rc = resuming ? resume(r, err) : plan_steps(r, err);
	if (rc != 0 || (rc = open_log(r, err)))
		return rc;
	int64_t every = opt_int(r, NSSM_K_VAL_EVERY), total = nssm_trainer_steps(r->t);
	r->val_every = every > 0 ? every : total / DEFAULT_VALS > 0 ? total / DEFAULT_VALS : 1;
	describe(r);
	if (r->first_step >= total) {
		printf("this training is finished: %" PRId64 " of %" PRId64 " steps\n", r->first_step, total);
		return 0;
	}
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	nssm_progress_init(&r->bar, nssm_conf_str(r->conf, NSSM_K_PROGRESS));
	struct nssm_train_stats st = {.step = r->first_step};
	rc = loop(r, &st, err);
	draw(r, &st, true);
	nssm_progress_end(&r->bar);
	if (rc != 0) {
		if (r->saved || resuming)
			fprintf(stderr, "netssm: the last good checkpoint is kept in %s\n", r->last);
		return rc;
	}
	rc = save_last(r, err);
	if (rc != 0)
		return rc;
	if (interrupted && st.step < total)
		return nssm_err_set(err, NSSM_EINTR, "stopped after step %" PRId64 " of %" PRId64 "; saved in %s, --resume goes on", st.step,
			total, r->last);
	report(r, &st);
	return 0;
}

static int run(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err)
{
	struct run r = {.conf = conf, .best_val = INFINITY, .last_val = NAN};
	int rc = run_all(&r, err);
	if (r.log != NULL)
		fclose(r.log); /* every row was flushed and checked */
	nssm_trainer_close(&r.t);
	nssm_model_card_free(&r.card);
	nssm_team_close(&r.team);
	for (int i = 0; r.corpus != NULL && i < r.n_corpora; i++)
		nssm_corpus_close(&r.corpus[i]);
	free(r.corpus);
	nssm_corpus_close(&r.val);
	return rc;
}

const struct nssm_cmd nssm_cmd_train = {
	.name = "train",
	.usage = "train --corpus FILE [--val FILE] --out DIR [--minutes N] [flags]",
	.summary = "train a model on a corpus",
	.details = "Writes OUT/last (everything to go on with --resume), OUT/best (the weights with\n"
	           "the lowest validation loss) and OUT/log.csv (one row a step). SIGINT saves and\n"
	           "stops. A time budget (--minutes) is turned into steps once, at the start.\n"
	           "Validation losses are those of the fp32 masters, whatever dtype best/ is stored\n"
	           "as.\n"
	           "\n"
	           "  netssm train --corpus train.nssm --val val.nssm --config conf/small.yaml \\\n"
	           "    --minutes 30 --out m\n"
	           "  netssm train --corpus train.nssm --val val.nssm --config conf/small.yaml \\\n"
	           "    --out m --resume\n",
	.bit = NSSM_CMD_TRAIN,
	.max_pos = 0,
	.run = run,
};
