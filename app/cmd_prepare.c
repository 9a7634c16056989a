/* netssm prepare */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "app/cmd.h"
#include "app/corpus_table.h"
#include "app/progress.h"
#include "model/codec_flow.h"
#include "replay/ingest.h"
#include "version.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static int show(void *ctx, uint64_t bytes, uint64_t total, uint64_t packets)
{
	struct nssm_progress *p = ctx;
	if (nssm_progress_due(p, false)) {
		char a[16], b[16];
		double s = nssm_progress_elapsed(p);
		nssm_progress_line(p, total ? (double)bytes / (double)total : -1,
		        "%sB  %s packets  %.0f MB/s", nssm_human(a, (double)bytes),
		        nssm_human(b, (double)packets), (double)bytes / 1e6 / (s > 0 ? s : 1));
	}
	return interrupted;
}

static void tell(void *ctx, const char *msg)
{
	nssm_progress_end(ctx);
	fputs("netssm: warning: ", stderr);
	/* A file's name may hold what a terminal would obey. */
	for (; *msg != '\0'; msg++)
		fputc((unsigned char)*msg < 0x20 || *msg == 0x7f ? '?' : *msg, stderr);
	fputc('\n', stderr);
}

static void count(const char *what, uint64_t n)
{
	if (n > 0)
		printf("%s: %" PRIu64 "\n", what, n);
}

static int report(const struct nssm_ingest_report *r, const char *out, double seconds, struct nssm_err *err)
{
	struct nssm_corpus *c;
	int rc = nssm_corpus_open(&c, out, false, err);
	if (rc != 0)
		return rc;
	nssm_corpus_table(stdout, c);
	printf("captures read: %" PRIu32 ", %.1f MB in %.2f s (%.0f MB/s)\n", r->n_files,
	        (double)r->n_bytes / 1e6, seconds, (double)r->n_bytes / 1e6 / (seconds > 0 ? seconds : 1e-9));
	count("captures that end in an error (see above; what came before it is kept)", r->n_bad_files);
	count("captures without a row in the labels, not read", r->n_no_row);
	count("captures of another split or label, not read", r->n_other_split);
	count("captures found under a second name, read once", r->n_twice);
	count("rows of the labels without a capture", r->n_rows_unused);
	count("sessions without a packet that the codec takes, not written", r->n_empty_sessions);
	count("sessions on which the published preprocessor fails, taken here by its rule",
	        r->n_beyond_paper);
	count("packets whose link header was replaced by an Ethernet header", r->n_normalised);
	count("packets shorter than their link header, skipped", r->n_short_link);
	count("packets captured longer than their stated length, raised", r->n_wirelen_raised);
	count("packets with a time stamp that cannot be, clamped", r->n_bad_time);
	count("packets of no client's session, skipped",
	        r->split.n_unassigned + r->split.n_not_ip + r->split.n_over);
	count("flows forgotten while their capture went on", r->split.n_evicted);
	count("bytes of open sessions held in a temporary file", r->spilled_bytes);
	printf("corpus: %s, %" PRIu32 " sessions, %" PRIu64 " tokens\n", out, nssm_corpus_n_sessions(c),
	        nssm_corpus_n_tokens(c));
	nssm_corpus_close(&c);
	return 0;
}

/* What is given for the other codec would have no effect, which is not what was meant. */
static int codec(struct nssm_codec_cfg *c, const struct nssm_conf *conf, struct nssm_err *err)
{
	static const enum nssm_key_id of_raw[] = {NSSM_K_PKT_LEN, NSSM_K_COMPAT},
	                           of_flow[] = {NSSM_K_KEPT_PAYLOAD, NSSM_K_PREFIX, NSSM_K_IDENTITY, NSSM_K_CONDITIONS};
	*c = (struct nssm_codec_cfg){
	        .kind = (enum nssm_codec_kind)nssm_codec_kind_find(nssm_conf_str(conf, NSSM_K_CODEC)), .version = 1};
	bool raw = c->kind == NSSM_CODEC_RAW;
	for (size_t i = 0; i < (raw ? sizeof of_flow / sizeof *of_flow : sizeof of_raw / sizeof *of_raw); i++) {
		enum nssm_key_id key = raw ? of_flow[i] : of_raw[i];
		char flag[NSSM_FLAG_BYTES];
		if (nssm_conf_is_set(conf, key))
			return nssm_err_set(err, NSSM_EARG, "prepare: %s: codec %s has no such thing; it is for codec %s",
			        nssm_conf_said(flag, conf, key), nssm_codec_kind_name(c), raw ? "flow" : "raw");
	}
	if (raw) {
		c->pkt_len = (uint32_t)nssm_conf_int(conf, NSSM_K_PKT_LEN);
		c->compat_paper = strcmp(nssm_conf_str(conf, NSSM_K_COMPAT), "paper") == 0;
	} else {
		c->version = NSSM_FLOW_VERSION;
		c->payload = (enum nssm_payload)nssm_payload_find(nssm_conf_str(conf, NSSM_K_KEPT_PAYLOAD));
		c->prefix = c->payload == NSSM_PAYLOAD_PREFIX ? (uint32_t)nssm_conf_int(conf, NSSM_K_PREFIX) : 0;
		c->identity = (enum nssm_identity)nssm_identity_find(nssm_conf_str(conf, NSSM_K_IDENTITY));
		c->conditions = nssm_conf_bool(conf, NSSM_K_CONDITIONS) ? NSSM_N_CONDITIONS : 0;
	}
	return nssm_codec_cfg_check(c, "prepare", err);
}

static int settings(struct nssm_ingest_cfg *cfg, struct nssm_conf *conf, struct nssm_err *err)
{
	cfg->n_captures = nssm_conf_list(conf, NSSM_K_CAPTURES, &cfg->captures);
	cfg->labels = nssm_conf_str(conf, NSSM_K_LABELS);
	cfg->label = nssm_conf_str(conf, NSSM_K_PREP_LABEL);
	cfg->split = nssm_conf_str(conf, NSSM_K_SPLIT);
	cfg->n_only = nssm_conf_list(conf, NSSM_K_ONLY, &cfg->only);
	cfg->out = nssm_conf_str(conf, NSSM_K_CORPUS_OUT);
	cfg->strict = nssm_conf_bool(conf, NSSM_K_STRICT);
	if (cfg->n_captures == 0)
		return nssm_err_set(
		        err, NSSM_EARG, "prepare: --captures is missing: a folder or a capture file");
	if ((cfg->labels == NULL) == (cfg->label == NULL))
		return nssm_err_set(err, NSSM_EARG,
		        "prepare: give either --labels CSV (columns File,Label) or one --label for all");
	if (cfg->out == NULL)
		return nssm_err_set(
		        err, NSSM_EARG, "prepare: --out is missing: the corpus to write (*.nssm)");
	int rc = codec(&cfg->codec, conf, err);
	return rc != 0 ? rc : nssm_split_parse(&cfg->session_split, nssm_conf_str(conf, NSSM_K_SESSION_SPLIT), err);
}

static int run(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err)
{
	struct nssm_progress bar;
	struct nssm_ingest_cfg cfg = {.warn = tell, .progress = show, .ctx = &bar};
	int rc = settings(&cfg, conf, err);
	if (rc != 0)
		return rc;
	json_t *made_by = json_pack("{s:s,s:s,s:s*,s:s*,s:s*}", "netssm", NSSM_VERSION, "session_split",
	        nssm_conf_str(conf, NSSM_K_SESSION_SPLIT), "labels", cfg.labels, "label", cfg.label, "split",
	        cfg.split);
	cfg.made_by = made_by;
	/* The second signal ends the program at once: a read from a pipe may wait for ever. */
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	nssm_progress_init(&bar, nssm_conf_str(conf, NSSM_K_PROGRESS));
	struct nssm_ingest_report r;
	rc = nssm_ingest(&cfg, &r, err);
	double seconds = nssm_progress_elapsed(&bar);
	nssm_progress_end(&bar);
	json_decref(made_by);
	return rc != 0 ? rc : report(&r, cfg.out, seconds, err);
}

const struct nssm_cmd nssm_cmd_prepare = {
        .name = "prepare",
        .usage = "prepare --captures DIR --labels CSV --out FILE",
        .summary = "turn captures into a corpus of tokens",
        .details = "Reads pcap and pcapng (also .gz), cuts them into sessions, spells their packets\n"
                   "as tokens and writes one corpus file. Labels come from a CSV with the columns\n"
                   "File,Label, or one --label is given to all. With --split only the rows with this\n"
                   "value in the column Split are taken. What was skipped is counted by reason.\n"
                   "\n"
                   "  netssm prepare --captures samples --labels samples/labels.csv --split train \\\n"
                   "    --out train.nssm\n"
                   "  netssm prepare --captures office.pcapng --label office \\\n"
                   "    --session-split client --out office.nssm\n",
        .bit = NSSM_CMD_PREPARE,
        .max_pos = 0,
        .run = run,
};
