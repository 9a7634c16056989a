/* netssm info: what a corpus, a checkpoint or a capture is. Everything shown is gathered into one JSON object
 * first, so that --json and the text cannot differ. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <jansson.h>

#include "app/cmd.h"
#include "app/conditions_table.h"
#include "app/corpus_table.h"
#include "app/json_text.h"
#include "app/options.h"
#include "app/progress.h"
#include "app/weights_loss.h"
#include "base/file.h"
#include "model/checkpoint.h"
#include "model/corpus.h"
#include "replay/capture.h"
#include "replay/flowset.h"

static int print_json(const json_t *j, struct nssm_err *err)
{
	char *text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
	if (text == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "info: no memory for the output");
	puts(text);
	free(text);
	return 0;
}

static json_t *skipped_json(const uint64_t skipped[NSSM_PKT_N_REASONS])
{
	json_t *j = json_object();
	for (int i = 1; i < NSSM_PKT_N_REASONS; i++)
		if (skipped[i] > 0)
			json_object_set_new(j, nssm_pkt_reason_name(i), nssm_json_count(skipped[i]));
	return j;
}

static void print_codec(const struct nssm_codec_cfg *cfg)
{
	char text[160];
	nssm_codec_describe(text, sizeof text, cfg);
	printf("codec    %s; version %" PRIu32 "\n", text, cfg->version);
}

/* A port with the flows that it was learned of: "443 (37 of 38 flows)". */
static void print_secure(const struct nssm_secure_ports *p)
{
	if (!p->learned) {
		puts("ports    which are encrypted was not learned: " NSSM_SECURE_WELL_KNOWN " count");
		return;
	}
	for (int udp = 0; udp < 2; udp++) {
		const char *sep = "";
		printf("%s ", udp ? "; QUIC" : "ports    TLS");
		for (uint32_t i = 0; i < p->n; i++) {
			const struct nssm_secure_port *r = &p->port[i];
			if (r->udp != udp)
				continue;
			uint64_t of = (uint64_t)r->n_secure + r->n_other;
			printf("%s%s%u (%" PRIu32 " of %" PRIu64 " flows)", sep, r->n_secure > r->n_other ? "" : "not ", r->port, r->n_secure, of);
			sep = ", ";
		}
		if (*sep == '\0')
			printf("none");
	}
	putchar('\n');
}

/* The members of an object in one line: netssm 0.1.0, split train. */
static void print_members(const char *title, const json_t *object)
{
	const char *key, *sep = "";
	json_t *v;
	printf("%s", title);
	json_object_foreach((json_t *)object, key, v)
	{
		char *text = json_is_string(v) ? NULL : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
		const char *shown = text != NULL ? text : json_is_string(v) ? json_string_value(v) : "?";
		printf("%s%s %s", sep, key, shown);
		sep = ", ";
		free(text);
	}
	putchar('\n');
}

static json_t *secure_json(const struct nssm_secure_ports *p)
{
	return p->learned ? nssm_secure_to_json(p) : NULL;
}

/* --- corpus --------------------------------------------------------------------------------------------------- */

static json_t *corpus_json(const char *path, const struct nssm_corpus *c, bool verified)
{
	const struct nssm_vocab *v = nssm_corpus_vocab(c);
	json_t *labels = json_array(), *conditions = nssm_conditions_json(c);
	uint64_t n_packets = 0, n_flows = 0;
	for (uint32_t i = 0; i < v->n_labels; i++) {
		const struct nssm_label_stats *s = nssm_corpus_stats(c, i);
		json_array_append_new(labels,
		        json_pack("{s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:O*}", "label", v->label[i].name, "sessions",
		                nssm_json_count(s->n_sessions), "packets", nssm_json_count(s->n_packets),
		                "flows", nssm_json_count(s->n_flows), "tokens", nssm_json_count(s->n_tokens),
		                "cut", nssm_json_count(s->n_cut), "time_back",
		                nssm_json_count(s->n_time_back), "skipped", skipped_json(s->skipped), "conditions", json_array_get(conditions, i)));
		n_packets += s->n_packets;
		n_flows += s->n_flows;
	}
	json_decref(conditions);
	char hash[16];
	snprintf(hash, sizeof hash, "%08" PRIx32, nssm_corpus_hash(c));
	return json_pack("{s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:f,s:s,s:b,s:o,s:o*,s:O*}", "kind", "corpus", "path",
	        nssm_json_text(path), "codec", nssm_codec_cfg_to_json(nssm_corpus_codec(c)), "vocabulary",
	        nssm_json_count(v->n_tokens), "sessions", nssm_json_count(nssm_corpus_n_sessions(c)),
	        "packets", nssm_json_count(n_packets), "flows", nssm_json_count(n_flows), "tokens",
	        nssm_json_count(nssm_corpus_n_tokens(c)), "unigram_bits", nssm_corpus_unigram_bits(c), "hash",
	        hash, "verified", verified, "labels", labels, "encrypted", secure_json(nssm_corpus_secure(c)), "made_by",
	        nssm_corpus_made_by(c));
}

static int info_corpus(const char *path, bool as_json, bool verify, struct nssm_err *err)
{
	struct nssm_corpus *c;
	int rc = nssm_corpus_open(&c, path, verify, err);
	if (rc != 0)
		return rc;
	if (as_json) {
		json_t *j = corpus_json(path, c, verify);
		rc = print_json(j, err);
		json_decref(j);
	} else {
		printf("corpus   %s (%08" PRIx32 ")\n", path, nssm_corpus_hash(c));
		print_codec(nssm_corpus_codec(c));
		print_secure(nssm_corpus_secure(c));
		if (nssm_corpus_made_by(c) != NULL)
			print_members("made by  ", nssm_corpus_made_by(c));
		printf("holds    %" PRIu32 " sessions, %" PRIu64 " tokens of a vocabulary of %" PRIu32 "\n\n",
		        nssm_corpus_n_sessions(c), nssm_corpus_n_tokens(c), nssm_corpus_vocab(c)->n_tokens);
		nssm_corpus_table(stdout, c);
		json_t *conditions = nssm_conditions_json(c);
		if (conditions != NULL)
			nssm_conditions_table(stdout, c, conditions);
		json_decref(conditions);
		if (verify)
			puts("verified: every checksum is right");
	}
	nssm_corpus_close(&c);
	return rc;
}

/* --- checkpoint ----------------------------------------------------------------------------------------------- */

/* How the weights are stored, and how many they are; with verify every one of them is read. */
static int look_at_weights(struct nssm_model_card *card, const char *dir, bool verify, uint64_t *n_params,
        const char **dtype, struct nssm_err *err)
{
	char path[PATH_MAX];
	if ((size_t)snprintf(path, sizeof path, "%s/model.safetensors", dir) >= sizeof path)
		return nssm_err_set(err, NSSM_EARG, "%.200s: path too long", dir);
	struct nssm_st_file *f;
	int rc = nssm_st_open(&f, path, err);
	if (rc != 0)
		return rc;
	*dtype = nssm_st_count(f) > 0 ? nssm_dtype_name((enum nssm_dtype)nssm_st_at(f, 0)->dtype) : "none";
	for (int i = 0; i < nssm_st_count(f); i++)
		if (nssm_st_at(f, i)->dtype != nssm_st_at(f, 0)->dtype)
			*dtype = "mixed";
	nssm_st_close(&f);

	int n = nssm_mamba2_tensors(&card->cfg, NULL);
	struct nssm_tensor *t = calloc((size_t)n, sizeof *t);
	float *params = verify ? malloc(nssm_mamba2_param_floats(&card->cfg) * sizeof *params) : NULL;
	if (t == NULL || (verify && params == NULL))
		rc = nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for %zu weights", dir,
		        nssm_mamba2_param_floats(&card->cfg));
	*n_params = 0;
	if (rc == 0) {
		nssm_mamba2_tensors(&card->cfg, t);
		for (int i = 0; i < n; i++)
			*n_params += t[i].n;
		if (verify)
			rc = nssm_checkpoint_load_weights(params, card, dir, err);
	}
	free(params);
	free(t);
	return rc;
}

static json_t *card_json(const char *dir, const struct nssm_model_card *card, uint64_t n_params,
        const char *dtype, bool verified, const json_t *training)
{
	const struct nssm_mamba2_cfg *m = &card->cfg;
	json_t *labels = json_array();
	for (uint32_t i = 0; i < card->vocab.n_labels; i++)
		json_array_append_new(
		        labels, json_pack("{s:s,s:o}", "label", card->vocab.label[i].name, "gaps",
		                        nssm_json_count(card->iat != NULL ? card->iat[i].n : 0)));
	json_t *j = json_pack("{s:s,s:o,s:o,s:s,s:o,s:o,s:o,s:b,s:o*}", "kind", "checkpoint", "path",
	        nssm_json_text(dir), "parameters", nssm_json_count(n_params), "dtype", dtype, "model",
	        json_pack("{s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i}", "d_model", m->D, "n_layer", m->L, "expand",
	                m->E / m->D, "headdim", m->P, "d_state", m->N, "d_conv", m->K, "chunk_size", m->Q,
	                "vocab_size", m->V, "padded_vocab_size", m->Vpad, "n_context", m->n_context),
	        "codec", nssm_codec_cfg_to_json(&card->codec), "labels", labels, "verified", verified, "encrypted", secure_json(&card->secure));
	if (verified) {
		char hash[20];
		snprintf(hash, sizeof hash, "%016" PRIx64, card->hash);
		json_object_set_new(j, "hash", json_string(hash));
	}
	json_t *progress = json_object_get(training, "progress");
	if (progress != NULL)
		json_object_set_new(j, "training",
		        json_pack("{s:O*,s:O*}", "step", json_object_get(progress, "step"), "tokens",
		                json_object_get(progress, "tokens")));
	return j;
}

static void print_card(const char *dir, const struct nssm_model_card *card, uint64_t n_params,
        const char *dtype, const json_t *j)
{
	const struct nssm_mamba2_cfg *m = &card->cfg;
	char a[16], b[16];
	printf("checkpoint %s\n", dir);
	printf("model    Mamba-2, d_model %d, n_layer %d, inner width %d, heads %d x %d, d_state %d, d_conv "
	       "%d, chunk %d\n",
	        m->D, m->L, m->E, m->H, m->P, m->N, m->K, m->Q);
	printf("weights  %s parameters (%" PRIu64 ") stored as %s; state of a session %sB\n",
	        nssm_human(a, (double)n_params), n_params, dtype,
	        nssm_human(b, 4.0 * (double)nssm_mamba2_state_floats(m)));
	print_codec(&card->codec);
	print_secure(&card->secure);
	printf("tokens   %" PRIu32 " (padded to %d)", card->vocab.n_tokens, m->Vpad);
	if (m->n_context > 0)
		printf(", beside each one of %d contexts", m->n_context);
	printf("\n");
	if (json_object_get(j, "training") != NULL)
		print_members("training ", json_object_get(j, "training"));
	printf("labels   %" PRIu32 "\n", card->vocab.n_labels);
	for (uint32_t i = 0; i < card->vocab.n_labels; i++)
		printf("  %-24s %12" PRIu64 " inter-arrival times seen\n", card->vocab.label[i].name,
		        card->iat != NULL ? card->iat[i].n : 0);
	if (json_is_true(json_object_get(j, "verified")))
		printf("verified: every weight is there (%s)\n",
		        json_string_value(json_object_get(j, "hash")));
	if (json_object_get(j, "loss") != NULL)
		nssm_weights_loss_print(json_object_get(j, "loss"));
}

/* The losses over the corpus that --loss names go into j. */
static int add_loss(json_t *j, struct nssm_model_card *card, const char *dir, const struct nssm_conf *conf, struct nssm_err *err)
{
	const char *corpus = nssm_conf_str(conf, NSSM_K_INFO_LOSS);
	const struct nssm_kernels *kern;
	json_t *loss;
	if (corpus == NULL)
		return 0;
	int rc = nssm_opt_kernels(&kern, conf, err);
	if (rc == 0)
		rc = nssm_weights_loss(&loss, card, dir, corpus, kern, err);
	if (rc == 0)
		json_object_set_new(j, "loss", loss);
	return rc;
}

static int info_checkpoint(const char *path, bool as_json, bool verify, const struct nssm_conf *conf, struct nssm_err *err)
{
	char dir[PATH_MAX];
	struct nssm_model_card card;
	int rc = nssm_checkpoint_find(dir, path, err);
	if (rc == 0)
		rc = nssm_checkpoint_load_card(&card, dir, err);
	if (rc != 0)
		return rc;
	uint64_t n_params = 0;
	const char *dtype = "";
	rc = look_at_weights(&card, dir, verify, &n_params, &dtype, err);
	if (rc == 0) {
		json_t *training = NULL;
		if (nssm_checkpoint_load_training(&training, dir, NULL) != 0)
			training = NULL; /* made elsewhere, or for generating only */
		json_t *j = card_json(dir, &card, n_params, dtype, verify, training);
		rc = add_loss(j, &card, dir, conf, err);
		if (rc == 0 && as_json)
			rc = print_json(j, err);
		else if (rc == 0)
			print_card(dir, &card, n_params, dtype, j);
		json_decref(j);
		json_decref(training);
	}
	nssm_model_card_free(&card);
	return rc;
}

/* --- capture -------------------------------------------------------------------------------------------------- */

struct capture_sums {
	uint64_t n_packets, cap_bytes, wire_bytes, first_ns, last_ns, n_time_back, n_tcp, n_udp, n_cut_short;
	uint64_t skipped[NSSM_PKT_N_REASONS];
	struct nssm_flow_set flows;
	struct nssm_meter *meter;
};

static int sum_packet(
        struct capture_sums *s, const struct nssm_pkt *pkt, uint64_t *prev_ns, struct nssm_err *err)
{
	if (s->n_packets == 0 || pkt->ts_ns < s->first_ns)
		s->first_ns = pkt->ts_ns;
	if (s->n_packets == 0 || pkt->ts_ns > s->last_ns)
		s->last_ns = pkt->ts_ns;
	s->n_time_back += s->n_packets > 0 && pkt->ts_ns < *prev_ns;
	*prev_ns = pkt->ts_ns;
	nssm_meter_packet(s->meter, pkt);
	s->n_packets++;
	s->cap_bytes += pkt->caplen;
	s->wire_bytes += pkt->wirelen;
	s->n_cut_short += pkt->caplen < pkt->wirelen;
	struct nssm_hdrs h;
	int why = nssm_pkt_parse(&h, pkt->data, pkt->caplen);
	if (why != NSSM_PKT_OK) {
		s->skipped[why]++;
		return 0;
	}
	s->n_tcp += h.proto == 6;
	s->n_udp += h.proto == 17;
	struct nssm_flow_key key;
	nssm_flow_key(&key, &h, pkt->data);
	int rc = nssm_flow_set_add(&s->flows, 0, &key, err);
	return rc < 0 ? rc : 0;
}

static void utc(char out[40], uint64_t ns)
{
	time_t s = (time_t)(ns / 1000000000u);
	struct tm tm;
	char date[24] = "?";
	if (gmtime_r(&s, &tm) != NULL)
		strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, 40, "%s.%09uZ", date, (unsigned)(ns % 1000000000u));
}

/* The whole capture as one session, exact; null where it is unknown. */
static json_t *measures_json(const struct nssm_meter *meter)
{
	struct nssm_measures m;
	nssm_meter_read(meter, &m);
	return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o}", "rtt_s", m.n_rtt > 0 ? json_real(m.rtt_s) : json_null(), "rtt_times",
	        nssm_json_count(m.n_rtt), "loss", m.n_data > 0 ? json_real((double)m.n_again / (double)m.n_data) : json_null(),
	        "data_segments", nssm_json_count(m.n_data), "sent_again", nssm_json_count(m.n_again), "throughput_bps",
	        m.duration_ns > 0 ? json_real(8e9 * (double)m.n_bytes / (double)m.duration_ns) : json_null());
}

static void print_measures(const struct nssm_meter *meter)
{
	struct nssm_measures m;
	char text[32];
	nssm_meter_read(meter, &m);
	printf("measures");
	if (m.duration_ns > 0)
		printf(" %s", nssm_condition_text(text, NSSM_COND_THROUGHPUT, 8e9 * (double)m.n_bytes / (double)m.duration_ns));
	if (m.n_data > 0)
		printf("%s %s of %" PRIu64 " TCP segments with data sent again", m.duration_ns > 0 ? "," : "",
		        nssm_condition_text(text, NSSM_COND_LOSS, (double)m.n_again / (double)m.n_data), m.n_data);
	if (m.n_rtt > 0)
		printf(", round trip %s (median of %" PRIu64 ")", nssm_condition_text(text, NSSM_COND_RTT, m.rtt_s), m.n_rtt);
	putchar('\n');
}

static json_t *capture_json(const char *path, const struct nssm_capture_info *i, const struct capture_sums *s)
{
	char first[40], last[40];
	utc(first, s->first_ns);
	utc(last, s->last_ns);
	json_t *j = json_pack("{s:s,s:o,s:s,s:i,s:o,s:b,s:b,s:o,s:o,s:o,s:o}", "kind", "capture", "path",
	        nssm_json_text(path), "link", i->link_name, "link_type", i->link_type, "snaplen",
	        nssm_json_count(i->snaplen), "ns", i->ns, "gz", i->gz, "file_bytes",
	        nssm_json_count(i->file_bytes), "packets", nssm_json_count(s->n_packets), "captured_bytes",
	        nssm_json_count(s->cap_bytes), "wire_bytes", nssm_json_count(s->wire_bytes));
	if (s->n_packets > 0) {
		json_object_set_new(j, "first", json_string(first));
		json_object_set_new(j, "last", json_string(last));
		json_object_set_new(j, "duration_s", json_real((double)(s->last_ns - s->first_ns) / 1e9));
	}
	const struct {
		const char *key;
		uint64_t v;
	} row[] = {{"flows", s->flows.n}, {"tcp", s->n_tcp}, {"udp", s->n_udp},
	        {"shorter_than_wire", s->n_cut_short}, {"time_back", s->n_time_back},
	        {"normalised", i->n_normalised}, {"short_link", i->n_short_link},
	        {"wirelen_raised", i->n_wirelen_raised}, {"bad_time", i->n_bad_time}};
	for (size_t k = 0; k < sizeof row / sizeof *row; k++)
		json_object_set_new(j, row[k].key, nssm_json_count(row[k].v));
	json_object_set_new(j, "skipped", skipped_json(s->skipped));
	json_object_set_new(j, "measures", measures_json(s->meter));
	return j;
}

static void print_some(const char *what, uint64_t n)
{
	if (n > 0)
		printf("  %-16s %" PRIu64 "\n", what, n);
}

static void print_capture(const char *path, const struct nssm_capture_info *i, const struct capture_sums *s)
{
	char first[40], last[40], a[16];
	utc(first, s->first_ns);
	utc(last, s->last_ns);
	printf("capture  %s\n", path);
	printf("link     %s (%d), snaplen %" PRIu32 ", time in %s%s\n", i->link_name, i->link_type,
	        i->snaplen, i->ns ? "ns" : "us", i->gz ? ", gz" : "");
	printf("packets  %" PRIu64 ", %sB on the wire", s->n_packets, nssm_human(a, (double)s->wire_bytes));
	printf(", %sB captured, %" PRIu64 " of them cut short\n", nssm_human(a, (double)s->cap_bytes),
	        s->n_cut_short);
	if (s->n_packets > 0)
		printf("time     %s to %s, %.6f s\n", first, last, (double)(s->last_ns - s->first_ns) / 1e9);
	printf("flows    %zu\n", s->flows.n);
	print_measures(s->meter);
	printf("taken by codec raw: %" PRIu64 " TCP, %" PRIu64 " UDP; skipped:\n", s->n_tcp, s->n_udp);
	uint64_t skipped = 0;
	for (int k = 1; k < NSSM_PKT_N_REASONS; k++) {
		skipped += s->skipped[k];
		if (s->skipped[k] > 0)
			printf("  %-16s %" PRIu64 "  %s\n", nssm_pkt_reason_name(k), s->skipped[k],
			        nssm_pkt_reason_help(k));
	}
	if (skipped == 0)
		puts("  none");
	if (s->n_time_back + i->n_normalised + i->n_short_link + i->n_wirelen_raised + i->n_bad_time > 0)
		puts("odd:");
	print_some("time goes back", s->n_time_back);
	print_some("link replaced", i->n_normalised);
	print_some("short link", i->n_short_link);
	print_some("length raised", i->n_wirelen_raised);
	print_some("bad time", i->n_bad_time);
}

static int info_capture(const char *path, bool as_json, struct nssm_err *err)
{
	struct nssm_capture *c;
	struct capture_sums s = {0};
	int rc = nssm_meter_open(&s.meter, err);
	if (rc == 0)
		rc = nssm_capture_open(&c, path, err);
	if (rc != 0) {
		nssm_meter_close(&s.meter);
		return rc;
	}
	struct nssm_pkt pkt;
	uint64_t prev_ns = 0;
	while ((rc = nssm_capture_next(c, &pkt, err)) > 0)
		if ((rc = sum_packet(&s, &pkt, &prev_ns, err)) < 0)
			break;
	/* What came before an error is shown all the same; the error then ends the command. */
	if (rc == 0 || s.n_packets > 0) {
		if (as_json) {
			json_t *j = capture_json(path, nssm_capture_info(c), &s);
			if (rc < 0)
				json_object_set_new(j, "error", json_string(err->msg));
			struct nssm_err late;
			int printed = print_json(j, &late);
			if (rc == 0 && printed != 0)
				rc = nssm_err_set(err, printed, "%s", late.msg);
			json_decref(j);
		} else {
			print_capture(path, nssm_capture_info(c), &s);
		}
	}
	nssm_flow_set_free(&s.flows);
	nssm_meter_close(&s.meter);
	nssm_capture_close(&c);
	return rc;
}

/* --- which of them -------------------------------------------------------------------------------------------- */

static int run(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err)
{
	if (n_pos != 1)
		return nssm_err_set(err, NSSM_EARG, "info: name one corpus, checkpoint folder or capture");
	bool as_json = nssm_conf_bool(conf, NSSM_K_JSON), verify = nssm_conf_bool(conf, NSSM_K_VERIFY);
	struct stat st;
	if (stat(pos[0], &st) == 0 && S_ISDIR(st.st_mode))
		return info_checkpoint(pos[0], as_json, verify, conf, err);
	if (nssm_conf_str(conf, NSSM_K_INFO_LOSS) != NULL)
		return nssm_err_set(err, NSSM_EARG, "info --loss: measures a checkpoint; %.200s is no folder", pos[0]);
	char magic[8] = {0};
	FILE *f = strcmp(pos[0], "-") != 0 && stat(pos[0], &st) == 0 && S_ISREG(st.st_mode)
	                  ? fopen(pos[0], "rb")
	                  : NULL;
	size_t got = f != NULL ? fread(magic, 1, sizeof magic, f) : 0;
	if (f != NULL)
		fclose(f);
	size_t n = strlen(pos[0]);
	/* By content; a damaged corpus still says in its name what it was meant to be. */
	bool named = n > 5 && strcmp(pos[0] + n - 5, ".nssm") == 0;
	if (named || (got == sizeof magic && memcmp(magic, "NSSMCORP", sizeof magic) == 0))
		return info_corpus(pos[0], as_json, verify, err);
	return info_capture(pos[0], as_json, err);
}

const struct nssm_cmd nssm_cmd_info = {
        .name = "info",
        .usage = "info FILE|DIR [--json] [--verify] [--loss CORPUS]",
        .summary = "say what a corpus, a checkpoint or a capture holds",
        .details = "A corpus (*.nssm): codec, which server ports speak TLS or QUIC, labels with\n"
                   "sessions, packets and flows, what was skipped and why, unigram entropy; what its\n"
                   "sessions were like, if they were measured (prepare --conditions).\n"
                   "A checkpoint folder, or a training's folder: sizes, number and type of weights,\n"
                   "labels, codec, which server ports speak TLS or QUIC.\n"
                   "A capture (pcap, pcapng, also .gz; - is stdin): link type, packets, bytes, time\n"
                   "span, flows, throughput, loss and round trip, what codec raw skips.\n"
                   "--verify reads a corpus or a checkpoint to its last byte and checks every\n"
                   "checksum.\n"
                   "--loss CORPUS scores a checkpoint over the sessions of a corpus by the steps\n"
                   "that generate, once for each type of --weights: what rounding costs.\n"
                   "\n"
                   "  netssm info train.nssm --verify\n"
                   "  netssm info run/best --json\n"
                   "  netssm info run/best --loss val.nssm\n",
        .bit = NSSM_CMD_INFO,
        .max_pos = 1,
        .run = run,
};
