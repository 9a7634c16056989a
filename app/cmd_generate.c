/* netssm generate */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "app/cmd.h"
#include "app/options.h"
#include "app/progress.h"
#include "base/file.h"
#include "model/checkpoint.h"
#include "model/generator.h"
#include "replay/capture.h"
#include "replay/render.h"
#include "version.h"

#define DEFAULT_START      "2026-01-01T00:00:00Z"
#define DEFAULT_MAX_TOKENS 1000000

struct run {
	struct nssm_conf *conf;
	char dir[PATH_MAX]; /* the checkpoint */
	struct nssm_model_card card;
	const struct nssm_kernels *kern;
	struct nssm_mamba2 *model;
	uint32_t *label_idx;
	double *label_weight;
	uint16_t *prompt;
	uint64_t prompt_packets, prompt_skipped;
	struct nssm_generator_cfg gen;
	const char *pcap_out, *out_dir;
	struct nssm_render *render;
	struct nssm_progress bar;
	uint64_t n_tokens, n_done;
	FILE *report; /* stdout, unless the capture goes there */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
	nssm_generator_stop();
}

/* --- labels --------------------------------------------------------------------------------------------------- */

static int unknown_label(const struct run *r, const char *what, size_t n, struct nssm_err *err)
{
	const struct nssm_vocab *v = &r->card.vocab;
	char known[320] = "";
	size_t used = 0;
	uint32_t i = 0;
	for (; i < v->n_labels; i++) {
		int k = snprintf(
		        known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", v->label[i].name);
		if (k < 0 || (size_t)k >= sizeof known - used - 24)
			break;
		used += (size_t)k;
	}
	known[used] = '\0';
	if (i < v->n_labels)
		snprintf(known + used, sizeof known - used, " … (%u in all)", v->n_labels);
	if (what == NULL)
		return nssm_err_set(
		        err, NSSM_EARG, "generate: --label is missing; this model knows: %s", known);
	return nssm_err_set(err, NSSM_EARG, "--label: expected a label that the model knows (%s), found %.*s",
	        known, (int)(n < 64 ? n : 64), what);
}

/* Colons may be part of a label's name, so the whole is tried first. */
static int add_label(struct run *r, const char *text, size_t n, struct nssm_err *err)
{
	char name[NSSM_LABEL_BYTES + 32];
	if (n >= sizeof name)
		return unknown_label(r, text, n, err);
	memcpy(name, text, n);
	name[n] = '\0';
	double weight = 1;
	int idx = nssm_vocab_find_label(&r->card.vocab, name);
	char *colon = strrchr(name, ':');
	if (idx < 0 && colon != NULL) {
		char *end;
		weight = strtod(colon + 1, &end);
		if (end == colon + 1 || *end != '\0' || !(weight > 0 && weight <= 1e9))
			return nssm_err_set(err, NSSM_EARG,
			        "--label %s: expected a weight above 0 after the colon, found %s", name,
			        colon + 1);
		*colon = '\0';
		idx = nssm_vocab_find_label(&r->card.vocab, name);
	}
	if (idx < 0)
		return unknown_label(r, text, n, err);
	size_t k = (size_t)r->gen.n_mix + 1;
	uint32_t *idxs = realloc(r->label_idx, k * sizeof *idxs);
	r->label_idx = idxs != NULL ? idxs : r->label_idx;
	double *weights = realloc(r->label_weight, k * sizeof *weights);
	r->label_weight = weights != NULL ? weights : r->label_weight;
	if (idxs == NULL || weights == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "--label: no memory");
	idxs[k - 1] = (uint32_t)idx;
	weights[k - 1] = weight;
	r->gen.n_mix++;
	return 0;
}

static int choose_labels(struct run *r, struct nssm_err *err)
{
	const char *const *item;
	size_t n = nssm_conf_list(r->conf, NSSM_K_GEN_LABEL, &item);
	for (size_t i = 0; i < n; i++) {
		for (const char *s = item[i]; s != NULL;) {
			const char *comma = strchr(s, ',');
			int rc = add_label(r, s, comma != NULL ? (size_t)(comma - s) : strlen(s), err);
			if (rc != 0)
				return rc;
			s = comma != NULL ? comma + 1 : NULL;
		}
	}
	const struct nssm_vocab *v = &r->card.vocab;
	if (r->gen.n_mix == 0 && v->n_labels == 0)
		return nssm_err_set(
		        err, NSSM_EUNSUP, "%s/tokenizer.json: has no label to start a session with", r->dir);
	if (r->gen.n_mix == 0 && v->n_labels > 1)
		return unknown_label(r, NULL, 0, err);
	if (r->gen.n_mix == 0) {
		int rc = add_label(r, v->label[0].name, strlen(v->label[0].name), err);
		if (rc != 0)
			return rc;
	}
	r->gen.label_idx = r->label_idx;
	r->gen.label_weight = r->label_weight;
	return 0;
}

/* --- options -------------------------------------------------------------------------------------------------- */

static int bad_start(const char *text, struct nssm_err *err)
{
	return nssm_err_set(err, NSSM_EARG,
	        "--start: expected seconds since 1970 or YYYY-MM-DDTHH:MM:SSZ, before 2106; found %.64s",
	        text);
}

static int parse_start(uint64_t *ns, const char *text, struct nssm_err *err)
{
	struct tm tm = {0}, back;
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	uint64_t s, frac = 0;
	if (end != NULL) {
		struct tm given = tm;
		time_t t = timegm(&tm);
		/* A 31 February is what it is not after the conversion. */
		if (*end != '\0' || t < 0 || gmtime_r(&t, &back) == NULL || back.tm_mday != given.tm_mday)
			return bad_start(text, err);
		s = (uint64_t)t;
	} else {
		char *p;
		errno = 0;
		s = strtoull(text, &p, 10);
		if (text[0] < '0' || text[0] > '9' || errno != 0)
			return bad_start(text, err);
		if (*p == '.')
			for (uint64_t unit = 100000000; *++p >= '0' && *p <= '9'; unit /= 10)
				frac += unit * (uint64_t)(*p - '0');
		if (*p != '\0')
			return bad_start(text, err);
	}
	if (s > UINT32_MAX)
		return bad_start(text, err);
	*ns = s * 1000000000u + frac;
	return 0;
}

static int open_model(struct run *r, struct nssm_err *err)
{
	const char *path = nssm_conf_str(r->conf, NSSM_K_GEN_MODEL);
	if (path == NULL)
		return nssm_err_set(
		        err, NSSM_EARG, "generate: --model is missing: a folder that `netssm train` made");
	int rc = nssm_checkpoint_find(r->dir, path, err);
	return rc != 0 ? rc : nssm_checkpoint_load_card(&r->card, r->dir, err);
}

static int load_weights(struct run *r, struct nssm_err *err)
{
	int rc = nssm_opt_kernels(&r->kern, r->conf, err);
	if (rc == 0)
		rc = nssm_mamba2_open(&r->model, &r->card.cfg, r->kern, false, err);
	if (rc == 0)
		rc = nssm_checkpoint_load_weights(nssm_mamba2_params(r->model), &r->card, r->dir, err);
	if (rc == 0)
		nssm_mamba2_pack(r->model, NULL);
	return rc;
}

/* The first packets of a capture that the codec takes, as tokens without label and end. */
static int encode_prompt(struct run *r, struct nssm_capture *cap, struct nssm_encoder *enc, const char *path,
        struct nssm_err *err)
{
	uint64_t want = (uint64_t)nssm_conf_int(r->conf, NSSM_K_PROMPT_PACKETS);
	size_t most = nssm_encoder_max_tokens(enc), n = 0, room = 0;
	uint16_t *out = calloc(most, sizeof *out);
	if (out == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for its tokens", path);
	nssm_encoder_begin(enc, out, r->label_idx[0]);
	struct nssm_pkt pkt;
	int rc = 1;
	while (r->prompt_packets < want && (rc = nssm_capture_next(cap, &pkt, err)) == 1) {
		int reason;
		uint32_t cut;
		size_t k = nssm_encoder_packet(enc, out, &pkt, &reason, &cut);
		if (reason != NSSM_PKT_OK) {
			r->prompt_skipped++;
			continue;
		}
		if (room - n < k + 1) {
			room = 2 * room + k + 1;
			uint16_t *p = realloc(r->prompt, room * sizeof *p);
			if (p == NULL) {
				rc = nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for its tokens", path);
				break;
			}
			r->prompt = p;
		}
		memcpy(r->prompt + n, out, k * sizeof *out);
		n += k;
		r->prompt_packets++;
	}
	free(out);
	if (rc < 0)
		return rc;
	if (n == 0)
		return nssm_err_set(
		        err, NSSM_EARG, "%s: no packet in it that the codec takes (TCP or UDP)", path);
	/* Closed, or the model would have to say where the last packet ends. */
	if (nssm_codec_pkt_closes(&r->card.codec))
		r->prompt[n++] = r->card.vocab.pkt;
	r->gen.prompt = r->prompt;
	r->gen.n_prompt = n;
	return 0;
}

static int load_prompt(struct run *r, struct nssm_err *err)
{
	const char *path = nssm_conf_str(r->conf, NSSM_K_PROMPT);
	if (path == NULL)
		return 0;
	struct nssm_capture *cap = NULL;
	struct nssm_encoder *enc = NULL;
	int rc = nssm_capture_open(&cap, path, err);
	if (rc == 0)
		rc = nssm_encoder_open(&enc, &r->card.codec, &r->card.vocab, err);
	if (rc == 0)
		rc = encode_prompt(r, cap, enc, path, err);
	nssm_encoder_close(&enc);
	nssm_capture_close(&cap);
	return rc;
}

static void show_progress(void *ctx, uint64_t n_tokens, uint64_t n_done)
{
	struct run *r = ctx;
	r->n_tokens = n_tokens;
	r->n_done = n_done;
	/* A signal between the options and the generator's start is not lost, only late. */
	if (interrupted)
		nssm_generator_stop();
	if (!nssm_progress_due(&r->bar, false))
		return;
	/* Each limit gives a least share of the work; the greatest of them is the closest. */
	struct nssm_render_stats t = nssm_render_total(r->render);
	double n = (double)r->gen.n_sessions, done = (double)n_done / n, share;
	if (r->gen.max_packets > 0 && (share = (double)t.made / (n * (double)r->gen.max_packets)) > done)
		done = share;
	if (r->gen.max_tokens > 0 && (share = (double)t.tokens / (n * (double)r->gen.max_tokens)) > done)
		done = share;
	double s = nssm_progress_elapsed(&r->bar);
	char a[16], b[16], c[16];
	nssm_progress_line(&r->bar, done < 1 ? done : 1,
	        "%" PRIu64 "/%" PRIu64 " sessions, %s packets, %s/s, %s tokens/s", n_done, r->gen.n_sessions,
	        nssm_human(a, (double)t.packets), nssm_human(b, (double)t.packets / s),
	        nssm_human(c, (double)n_tokens / s));
}

static void generator_options(struct run *r)
{
	const struct nssm_conf *c = r->conf;
	struct nssm_generator_cfg *g = &r->gen;
	g->seed = (uint64_t)nssm_conf_int(c, NSSM_K_GEN_SEED);
	g->n_sessions = (uint64_t)nssm_conf_int(c, NSSM_K_SESSIONS);
	g->max_packets = (uint64_t)nssm_conf_int(c, NSSM_K_GEN_PACKETS);
	g->max_tokens = (uint64_t)nssm_conf_int(c, NSSM_K_GEN_TOKENS);
	if (g->max_tokens == 0)
		g->max_tokens = DEFAULT_MAX_TOKENS;
	g->sessions_per_s = nssm_conf_float(c, NSSM_K_ARRIVALS);
	g->n_lanes = (int)nssm_conf_int(c, NSSM_K_LANES);
	g->n_threads = nssm_opt_threads(c);
	g->sampler = (struct nssm_sampler_cfg){.temperature = (float)nssm_conf_float(c, NSSM_K_TEMPERATURE),
	        .top_k = (int)nssm_conf_int(c, NSSM_K_TOP_K),
	        .top_p = (float)nssm_conf_float(c, NSSM_K_TOP_P),
	        .min_p = (float)nssm_conf_float(c, NSSM_K_MIN_P),
	        .repetition_penalty = (float)nssm_conf_float(c, NSSM_K_REPETITION_PENALTY),
	        .repetition_window = (int)nssm_conf_int(c, NSSM_K_REPETITION_WINDOW)};
	g->progress = show_progress;
	g->progress_ctx = r;
}

static int open_output(struct run *r, struct nssm_err *err)
{
	const char *start = nssm_conf_str(r->conf, NSSM_K_START_TIME);
	struct nssm_render_cfg cfg = {.card = &r->card,
	        .gen = &r->gen,
	        .fill = strcmp(nssm_conf_str(r->conf, NSSM_K_PAYLOAD), "random") == 0 ? NSSM_FILL_RANDOM
	                                                                              : NSSM_FILL_ZERO,
	        .snaplen = (uint32_t)nssm_conf_int(r->conf, NSSM_K_SNAPLEN),
	        .us = nssm_conf_bool(r->conf, NSSM_K_PCAP_US),
	        .pcap_out = r->pcap_out,
	        .out_dir = r->out_dir};
	int rc = parse_start(&cfg.epoch_ns, start != NULL ? start : DEFAULT_START, err);
	if (rc == 0)
		rc = nssm_render_open(&r->render, &cfg, err);
	r->gen.emit = nssm_render_emit;
	r->gen.emit_ctx = r->render;
	return rc;
}

/* --- at the end ----------------------------------------------------------------------------------------------- */

static void print_row(FILE *f, const char *name, const struct nssm_render_stats *s)
{
	fprintf(f, "%-24s %9" PRIu64 " %10" PRIu64 " %10" PRIu64 " %9" PRIu64 " %10.1f\n", name, s->sessions,
	        s->packets, nssm_render_rejected(s), s->flows,
	        s->sessions > 0 ? (double)s->packets / (double)s->sessions : 0);
}

/* "rejected: short 3, not_ip 1": the counts that are not 0; nothing if all are. */
static void print_counts(FILE *f, const char *what, const uint64_t *count, int n, const char *(*name)(int))
{
	bool any = false;
	for (int i = 0; i < n; i++) {
		if (count[i] == 0)
			continue;
		fprintf(f, "%s%s %" PRIu64, any ? ", " : what, name(i), count[i]);
		any = true;
	}
	if (any)
		fputc('\n', f);
}

static const char *end_name(int end)
{
	return nssm_end_name((enum nssm_end_reason)end);
}

static void report(const struct run *r, double seconds)
{
	FILE *f = r->report;
	struct nssm_render_stats t = nssm_render_total(r->render);
	fprintf(f, "%-24s %9s %10s %10s %9s %10s\n", "label", "sessions", "packets", "rejected", "flows",
	        "pkts/sess");
	uint32_t shown = 0;
	for (uint32_t l = 0; l < r->card.vocab.n_labels; l++) {
		const struct nssm_render_stats *s = nssm_render_label_stats(r->render, l);
		if (s->sessions == 0)
			continue;
		print_row(f, r->card.vocab.label[l].name, s);
		shown++;
	}
	if (shown != 1)
		print_row(f, "all", &t);
	/* Transport checksums follow the filled payload, so correcting them is no sign of anything. */
	struct nssm_render_stats defects = t;
	for (int b = 0; b < NSSM_REPAIR_N_BITS; b++)
		if (1 << b == NSSM_REPAIR_L4_CSUM)
			defects.repaired[b] = 0;
	print_counts(f, "rejected: ", t.rejected, NSSM_PKT_N_REASONS, nssm_pkt_reason_name);
	print_counts(f, "repaired: ", defects.repaired, NSSM_REPAIR_N_BITS, nssm_pkt_repair_name);
	print_counts(f, "sessions ended by: ", t.end, NSSM_END_N, end_name);
	char a[16], b[16], c[16];
	fprintf(f,
	        "made %" PRIu64 " = written %" PRIu64 " + rejected %" PRIu64
	        "; in %s: %s tokens/s, %s packets/s\n",
	        t.made, t.packets, nssm_render_rejected(&t), nssm_hms(a, seconds),
	        nssm_human(b, (double)r->n_tokens / seconds), nssm_human(c, (double)t.packets / seconds));
	if (r->pcap_out != NULL)
		fprintf(f, "wrote %" PRIu64 " packets of %" PRIu64 " sessions to %s\n", t.packets, t.sessions,
		        strcmp(r->pcap_out, "-") == 0 ? "stdout" : r->pcap_out);
	if (r->out_dir != NULL)
		fprintf(f,
		        "wrote %" PRIu64 " packets of %" PRIu64 " sessions to %s/*.pcap, with labels.csv\n",
		        t.packets, t.sessions, r->out_dir);
}

static json_t *option(const struct nssm_conf *c, enum nssm_key_id id)
{
	const char *const *item;
	size_t n;
	json_t *list;
	switch (nssm_conf_key(id)->type) {
	case NSSM_T_BOOL:
		return json_boolean(nssm_conf_bool(c, id));
	case NSSM_T_INT:
		return json_integer(nssm_conf_int(c, id));
	case NSSM_T_FLOAT:
	case NSSM_T_TIME:
		return json_real(nssm_conf_float(c, id));
	case NSSM_T_LIST:
		list = json_array();
		n = nssm_conf_list(c, id, &item);
		for (size_t i = 0; i < n; i++)
			json_array_append_new(list, json_string(item[i]));
		return list;
	case NSSM_T_STR:
	case NSSM_T_ENUM:
		break;
	}
	const char *s = nssm_conf_str(c, id);
	return s != NULL ? json_string(s) : json_null();
}

static json_t *counts(const uint64_t *count, int n, const char *(*name)(int))
{
	json_t *o = json_object();
	for (int i = 0; i < n; i++)
		if (count[i] > 0)
			json_object_set_new(o, name(i), json_integer((json_int_t)count[i]));
	return o;
}

static json_t *figures(const struct nssm_render_stats *s)
{
	return json_pack("{sI sI sI sI sI sI sI so so so}", "sessions", (json_int_t)s->sessions, "packets",
	        (json_int_t)s->packets, "made", (json_int_t)s->made, "bytes", (json_int_t)s->bytes,
	        "cut_by_snaplen", (json_int_t)s->cut, "flows", (json_int_t)s->flows, "tokens",
	        (json_int_t)s->tokens, "rejected",
	        counts(s->rejected, NSSM_PKT_N_REASONS, nssm_pkt_reason_name), "repaired",
	        counts(s->repaired, NSSM_REPAIR_N_BITS, nssm_pkt_repair_name), "ended_by",
	        counts(s->end, NSSM_END_N, end_name));
}

/* What is needed to make the same packets again, and what came out. */
static int write_manifest(const struct run *r, bool complete, struct nssm_err *err)
{
	const char *path = nssm_conf_str(r->conf, NSSM_K_MANIFEST);
	if (path == NULL)
		return 0;
	char hash[20];
	snprintf(hash, sizeof hash, "%016" PRIx64, r->card.hash);
	struct nssm_render_stats t = nssm_render_total(r->render);
	json_t *options = json_object(), *labels = json_object();
	for (int id = 0; id < NSSM_N_KEYS; id++) {
		const struct nssm_key *k = nssm_conf_key((enum nssm_key_id)id);
		if (k->cmds & NSSM_CMD_GENERATE)
			json_object_set_new(options, k->name, option(r->conf, (enum nssm_key_id)id));
	}
	for (uint32_t l = 0; l < r->card.vocab.n_labels; l++) {
		const struct nssm_render_stats *s = nssm_render_label_stats(r->render, l);
		if (s->sessions > 0)
			json_object_set_new(labels, r->card.vocab.label[l].name, figures(s));
	}
	json_t *root = json_pack("{ss ss ss ss sI sI sb so so so so}", "netssm", NSSM_VERSION, "model",
	        r->dir, "model_hash", hash, "level", r->kern->name, "seed", (json_int_t)r->gen.seed,
	        "first_session", (json_int_t)r->gen.first_session, "complete", (int)complete, "codec",
	        nssm_codec_cfg_to_json(&r->card.codec), "options", options, "all", figures(&t), "labels",
	        labels);
	char *text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
	json_decref(root);
	if (text == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for the manifest", path);
	int rc = nssm_file_write(path, text, strlen(text), err);
	free(text);
	return rc;
}

/* --- the command ---------------------------------------------------------------------------------------------- */

static int list_labels(const struct run *r)
{
	for (uint32_t l = 0; l < r->card.vocab.n_labels; l++)
		puts(r->card.vocab.label[l].name);
	return 0;
}

static void watch_signals(void)
{
	/* The second ^C is not ours any more: it ends a program that does not come to an end. */
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

static int generate(struct run *r, struct nssm_err *err)
{
	r->pcap_out = nssm_conf_str(r->conf, NSSM_K_PCAP_OUT);
	r->out_dir = nssm_conf_str(r->conf, NSSM_K_OUT_DIR);
	r->report = r->pcap_out != NULL && strcmp(r->pcap_out, "-") == 0 ? stderr : stdout;
	int rc = open_model(r, err);
	if (rc == 0 && nssm_conf_bool(r->conf, NSSM_K_LIST_LABELS))
		return list_labels(r);
	if (rc == 0 && r->pcap_out == NULL && r->out_dir == NULL)
		rc = nssm_err_set(err, NSSM_EARG, "generate: --pcap-out FILE or --out-dir DIR is missing");
	generator_options(r);
	if (rc != 0 || (rc = choose_labels(r, err)) || (rc = load_prompt(r, err)) ||
	        (rc = load_weights(r, err)) || (rc = open_output(r, err)))
		return rc;
	if (r->gen.n_prompt > 0)
		fprintf(r->report,
		        "prompt: %" PRIu64 " packets, %zu tokens (%" PRIu64 " packets passed over)\n",
		        r->prompt_packets, r->gen.n_prompt, r->prompt_skipped);
	fflush(r->report);
	watch_signals();
	nssm_progress_init(&r->bar, nssm_conf_str(r->conf, NSSM_K_PROGRESS));
	int run_rc = nssm_generator_run(&r->gen, &r->card, r->model, err);
	double seconds = nssm_progress_elapsed(&r->bar);
	nssm_progress_end(&r->bar);
	if (run_rc != 0 && run_rc != NSSM_EINTR) {
		if (nssm_render_error(r->render)->code != 0)
			*err = *nssm_render_error(r->render);
		return run_rc;
	}
	struct nssm_err why = *err;
	rc = nssm_render_finish(r->render, err);
	if (rc == 0)
		rc = write_manifest(r, run_rc == 0, err);
	if (rc != 0)
		return rc;
	report(r, seconds);
	if (run_rc != 0)
		return nssm_err_set(err, NSSM_EINTR, "%s; what was made until then is written", why.msg);
	return 0;
}

static int run(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err)
{
	struct run r = {.conf = conf};
	int rc = generate(&r, err);
	nssm_render_close(&r.render);
	nssm_mamba2_close(&r.model);
	nssm_model_card_free(&r.card);
	free(r.label_idx);
	free(r.label_weight);
	free(r.prompt);
	return rc;
}

const struct nssm_cmd nssm_cmd_generate = {
        .name = "generate",
        .usage = "generate --model DIR --label LABEL --sessions N (--pcap-out FILE | --out-dir DIR)",
        .summary = "make new sessions with a trained model and write them as captures",
        .details = "Sessions start as a Poisson process (--sessions-per-s) and go on until the\n"
                   "model ends them or a limit does (--packets, --tokens). --pcap-out writes all\n"
                   "of them into one capture in time order, --out-dir one capture a session and a\n"
                   "labels.csv that `netssm prepare` reads.\n"
                   "\n"
                   "The same model, seed and --level give the same bytes, whatever --lanes and\n"
                   "--threads are. --lanes sessions are made side by side: more lanes, more tokens\n"
                   "a second, until the state no longer fits the caches.\n"
                   "\n"
                   "--label web:3,dns:1 draws each session's label with these weights; without\n"
                   "--label a model that knows only one takes that. What the model spells and is\n"
                   "no packet is counted by reason and not written; headers that are almost right\n"
                   "are repaired, and that is counted too.\n"
                   "\n"
                   "^C stops: packets made so far are written, the exit status is 130. A second ^C\n"
                   "stops at once and writes nothing.\n"
                   "\n"
                   "Example:\n"
                   "  netssm generate --model runs/iot --label hue-bridge --sessions 20 \\\n"
                   "    --packets 500 --pcap-out new.pcap",
        .bit = NSSM_CMD_GENERATE,
        .max_pos = 0,
        .run = run,
};
