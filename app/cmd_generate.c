/* netssm generate: which model, which labels, which prompt; the rest is play's. */
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/cmd.h"
#include "app/json_text.h"
#include "app/options.h"
#include "app/play.h"
#include "app/play_options.h"
#include "model/checkpoint.h"
#include "model/generator.h"
#include "replay/capture.h"
#include "replay/schedule.h"

#define DEFAULT_MAX_TOKENS 1000000
#define LIVE_BLOCK_PACKETS 4

struct run {
	struct nssm_conf *conf;
	char dir[PATH_MAX]; /* the checkpoint */
	struct nssm_model_card card;
	const struct nssm_kernels *kern;
	struct nssm_mamba2 *model;
	uint32_t *label_idx;
	double *label_weight;
	uint8_t condition[NSSM_N_CONDITIONS];
	uint16_t *prompt;
	uint64_t prompt_packets, prompt_skipped;
	struct nssm_generator_cfg gen;
	struct nssm_play play;
};

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
	int rc = nssm_opt_backend(r->conf, err);
	if (rc == 0)
		rc = nssm_opt_kernels(&r->kern, r->conf, err);
	if (rc == 0)
		rc = nssm_mamba2_open(&r->model, &r->card.cfg, r->kern, nssm_opt_weights(r->conf, r->kern), false, err);
	if (rc == 0)
		rc = nssm_checkpoint_load_weights(nssm_mamba2_params(r->model), &r->card, r->dir, err);
	if (rc == 0)
		nssm_mamba2_pack(r->model, NULL);
	return rc;
}

struct load {
	struct run *run;
	int rc;
	struct nssm_err err;
};

static void *load_thread(void *ctx)
{
	struct load *l = ctx;
	l->rc = load_weights(l->run, &l->err);
	return NULL;
}

/* DPDK's start sleeps most of its time; the weights are read and packed meanwhile. */
static int load_beside_ports(struct run *r, struct nssm_err *err)
{
	struct load l = {.run = r};
	pthread_t thread;
	if (r->play.cfg.live.dev[0] == NULL || pthread_create(&thread, NULL, load_thread, &l) != 0)
		return load_weights(r, err);
	int rc = nssm_pipeline_prepare(&r->play.cfg, err);
	pthread_join(thread, NULL);
	if (rc == 0 && l.rc != 0 && err != NULL)
		*err = l.err;
	return rc != 0 ? rc : l.rc;
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
	nssm_encoder_begin(enc, out, r->label_idx[0], r->condition);
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

/* "2%" or "0.02". */
static int parse_share(double *v, const char *text, const char *where, struct nssm_err *err)
{
	char *end;
	*v = strtod(text, &end);
	bool percent = end != text && *end == '%';
	if (percent)
		*v /= 100;
	if (end == text || end[percent] != '\0' || !(*v >= 0 && *v <= 1))
		return nssm_err_set(err, NSSM_EARG, "%s: expected a share, 2%% or 0.02, found \"%.40s\"", where, text);
	return 0;
}

static int parse_condition(double *v, const struct run *r, enum nssm_condition c, enum nssm_key_id key, struct nssm_err *err)
{
	char said[NSSM_FLAG_BYTES];
	nssm_conf_said(said, r->conf, key);
	struct nssm_rate rate;
	int rc;
	switch (c) {
	case NSSM_COND_LOSS:
		return parse_share(v, nssm_conf_str(r->conf, key), said, err);
	case NSSM_COND_THROUGHPUT:
		rc = nssm_rate_parse(&rate, nssm_conf_str(r->conf, key), said, err);
		if (rc == 0 && rate.kind != NSSM_RATE_BPS_L2)
			rc = nssm_err_set(err, NSSM_EARG, "%s: expected bits a second, as 5Mbps, found \"%.40s\"", said,
			        nssm_conf_str(r->conf, key));
		*v = rc == 0 ? (double)rate.num / (double)rate.den : 0;
		return rc;
	case NSSM_COND_PACKETS:
		*v = (double)nssm_conf_int(r->conf, key);
		return 0;
	default:
		*v = nssm_conf_float(r->conf, key);
		return 0;
	}
}

/* What the sessions are to be like; what is not given is unknown. */
static int choose_conditions(struct run *r, struct nssm_err *err)
{
	static const enum nssm_key_id key[NSSM_N_CONDITIONS] = {[NSSM_COND_RTT] = NSSM_K_GEN_RTT, [NSSM_COND_LOSS] = NSSM_K_GEN_LOSS,
	        [NSSM_COND_THROUGHPUT] = NSSM_K_GEN_THROUGHPUT, [NSSM_COND_DURATION] = NSSM_K_GEN_SESSION_SECONDS,
	        [NSSM_COND_PACKETS] = NSSM_K_GEN_SESSION_PACKETS};
	for (int c = 0; c < NSSM_N_CONDITIONS; c++) {
		if (!nssm_conf_is_set(r->conf, key[c]))
			continue;
		char said[NSSM_FLAG_BYTES];
		if (r->card.codec.conditions == 0)
			return nssm_err_set(err, NSSM_EARG,
			        "%s: %s was trained without conditions (netssm prepare --conditions), so it cannot be asked for this",
			        nssm_conf_said(said, r->conf, key[c]), r->dir);
		double v;
		int rc = parse_condition(&v, r, (enum nssm_condition)c, key[c], err);
		if (rc != 0)
			return rc;
		r->condition[c] = nssm_condition_step((enum nssm_condition)c, v);
	}
	r->gen.conditions = r->condition;
	return 0;
}

/* {"rtt": 0.0927, …}: what the steps of those that were given stand for. */
static json_t *conditions_json(const struct run *r)
{
	json_t *j = json_object();
	for (int c = 0; j != NULL && c < NSSM_N_CONDITIONS; c++)
		if (r->condition[c] > 0)
			json_object_set_new(j, nssm_condition_name((enum nssm_condition)c),
			        json_real(nssm_condition_value((enum nssm_condition)c, r->condition[c])));
	return j;
}

/* Lanes' threads and lcores that spin do not go well on one CPU. */
static int generator_threads(const struct run *r)
{
	const struct nssm_pipeline_cfg *p = &r->play.cfg;
	int n = nssm_opt_threads(r->conf);
	if (nssm_conf_int(r->conf, NSSM_K_THREADS) == 0 && p->live.dev[0] != NULL)
		n -= p->n_engines > 0 ? (int)p->n_engines : 1;
	return n > 0 ? n : 1;
}

static void generator_options(struct run *r)
{
	const struct nssm_conf *c = r->conf;
	struct nssm_generator_cfg *g = &r->gen;
	g->seed = (uint64_t)nssm_conf_int(c, NSSM_K_GEN_SEED);
	g->n_sessions = (uint64_t)nssm_conf_int(c, NSSM_K_SESSIONS);
	if (g->n_sessions == 0)
		g->n_sessions = UINT64_MAX;
	g->max_packets = (uint64_t)nssm_conf_int(c, NSSM_K_GEN_PACKETS);
	g->min_packets = (uint64_t)nssm_conf_int(c, NSSM_K_GEN_MIN_PACKETS);
	g->max_tokens = (uint64_t)nssm_conf_int(c, NSSM_K_GEN_TOKENS);
	if (g->max_tokens == 0)
		g->max_tokens = DEFAULT_MAX_TOKENS;
	g->sessions_per_s = nssm_conf_float(c, NSSM_K_ARRIVALS);
	g->n_lanes = (int)nssm_conf_int(c, NSSM_K_LANES);
	if (nssm_play_is_live(&r->play.cfg)) {
		/* A wire waits for the first packets; and sessions that are far ahead of it make room for others. */
		g->block_packets = LIVE_BLOCK_PACKETS;
		g->n_parked_max = g->n_lanes;
	}
	g->n_threads = generator_threads(r);
	g->mask = strcmp(nssm_conf_str(c, NSSM_K_MASK), "full") == 0 ? NSSM_MASK_FULL : NSSM_MASK_CLEAN;
	g->sampler = (struct nssm_sampler_cfg){.temperature = (float)nssm_conf_float(c, NSSM_K_TEMPERATURE),
	        .top_k = (int)nssm_conf_int(c, NSSM_K_TOP_K),
	        .top_p = (float)nssm_conf_float(c, NSSM_K_TOP_P),
	        .min_p = (float)nssm_conf_float(c, NSSM_K_MIN_P),
	        .repetition_penalty = (float)nssm_conf_float(c, NSSM_K_REPETITION_PENALTY),
	        .repetition_window = (int)nssm_conf_int(c, NSSM_K_REPETITION_WINDOW)};
}

/* --- the command ---------------------------------------------------------------------------------------------- */

static int list_labels(const struct run *r)
{
	for (uint32_t l = 0; l < r->card.vocab.n_labels; l++)
		puts(r->card.vocab.label[l].name);
	return 0;
}

/* After the weights are read: only then the hash is known. */
static void hand_over(struct run *r)
{
	struct nssm_pipeline_cfg *c = &r->play.cfg;
	c->card = &r->card;
	c->model = r->model;
	c->gen = &r->gen;
	c->close = nssm_conf_bool(r->conf, NSSM_K_CLOSE);
	c->source_name = r->dir;
	c->seed = r->gen.seed;
	char hash[20];
	snprintf(hash, sizeof hash, "%016" PRIx64, r->card.hash);
	r->play.source = json_pack("{ss so ss ss ss so so}", "kind", "model", "path", nssm_json_text(r->dir),
	        "hash", hash, "level", r->kern->name, "weights", nssm_weights_name(nssm_opt_weights(r->conf, r->kern)), "first_session", nssm_json_count(r->gen.first_session),
	        "codec", nssm_codec_cfg_to_json(&r->card.codec));
	if (r->card.codec.conditions > 0)
		json_object_set_new(r->play.source, "conditions", conditions_json(r));
}

static int generate(struct run *r, struct nssm_err *err)
{
	int rc = open_model(r, err);
	if (rc == 0 && nssm_conf_bool(r->conf, NSSM_K_LIST_LABELS))
		return list_labels(r);
	if (rc != 0 || (rc = nssm_play_init(&r->play, r->conf, &nssm_cmd_generate, true, err)))
		return rc;
	generator_options(r);
	if ((rc = nssm_opt_fill(&r->play.cfg.fill, r->conf, NSSM_K_PAYLOAD, &r->card.codec, &r->card.secure, r->dir, err)))
		return rc;
	if ((rc = choose_labels(r, err)) || (rc = choose_conditions(r, err)) || (rc = load_prompt(r, err)) ||
	        (rc = load_beside_ports(r, err)))
		return rc;
	hand_over(r);
	if (r->gen.n_prompt > 0)
		fprintf(r->play.report,
		        "prompt: %" PRIu64 " packets, %zu tokens (%" PRIu64 " packets passed over)\n",
		        r->prompt_packets, r->gen.n_prompt, r->prompt_skipped);
	fflush(r->play.report);
	return nssm_play_run(&r->play, err);
}

static int run(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err)
{
	struct run r = {.conf = conf};
	int rc = generate(&r, err);
	nssm_play_free(&r.play);
	nssm_mamba2_close(&r.model);
	nssm_model_card_free(&r.card);
	free(r.label_idx);
	free(r.label_weight);
	free(r.prompt);
	return rc;
}

const struct nssm_cmd nssm_cmd_generate = {
        .name = "generate",
        .usage = "generate --model DIR (--pcap-out FILE | --port DEV | …)",
        .summary = "make new sessions with a model, into files or onto a wire",
        .details = "Sessions start as a Poisson process (--sessions-per-s) and go on until the\n"
                   "model ends them or a limit does (--packets, --tokens). --pcap-out writes all\n"
                   "of them into one capture in time order, --out-dir one capture a session and a\n"
                   "labels.csv that `netssm prepare` reads, --port sends them as they are made.\n"
                   "\n"
                   "Into files the same model, seed, --level and --weights give the same bytes,\n"
                   "whatever --lanes and --threads are. --lanes sessions are made side by side:\n"
                   "more lanes, more tokens a second, until the state no longer fits the caches.\n"
                   "--weights auto is int8 where the CPU has AVX-512 with VNNI (it cost the model\n"
                   "that comes along 0.03 % of loss), f32 elsewhere: name one of them for the same\n"
                   "bytes on other machines.\n"
                   "\n"
                   "--label web:3,dns:1 draws each session's label with these weights; without\n"
                   "--label a model that knows only one takes that. What the model spells and is\n"
                   "no packet is counted by reason and not sent; headers that are almost right\n"
                   "are repaired, and that is counted too.\n"
                   "\n"
                   "A model of sessions that were measured (prepare --conditions) can be asked for\n"
                   "--rtt, --loss, --throughput, --session-seconds and --session-packets. They are\n"
                   "known to it in half octaves and followed as well as it has learned to.\n"
                   "\n"
                   "A model makes thousands of packets a second, a wire takes millions: --clones,\n"
                   "--flows-per-second and --concurrency play finished sessions again, each time as\n"
                   "a new one with addresses, ports and numbers of its own. Such clones do not\n"
                   "react: what ends connections itself (a proxy, SYN cookies) breaks them.\n"
                   "\n"
                   "^C: sessions that have begun go into files to their end, live output sends what\n"
                   "is due; a second ^C stops at once, a third ends the process. The exit status is\n"
                   "130 then.\n"
                   "\n"
                   "Examples:\n"
                   "  netssm generate --model runs/iot --label hue-bridge --sessions 20 \\\n"
                   "    --packets 500 --pcap-out new.pcap\n"
                   "  netssm generate --model runs/iot --label hue-bridge --sessions 0 \\\n"
                   "    --concurrency 1000 --rate 50kpps --port af_packet:veth0 --duration 60s",
        .bit = NSSM_CMD_GENERATE,
        .max_pos = 0,
        .run = run,
};
