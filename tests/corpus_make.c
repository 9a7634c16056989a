/* Makes a corpus for tests with any codec that the library has.
 *   corpus_make OUT CODEC-JSON CAPTURE=LABEL…   each capture is a session
 *   corpus_make OUT CODEC-JSON -                sessions from stdin, a line each: LABEL FIRST_NS TOKEN…; a token is a byte's value, pkt,
 *                                               eot, unk, or =LABEL */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/corpus.h"
#include "replay/capture.h"

static struct nssm_vocab vocab;
static struct nssm_label_stats stats[64];
static struct nssm_corpus_writer *w;
static struct nssm_err err;

static void check(int rc)
{
	if (rc < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
}

static uint32_t label_of(const char *name)
{
	int idx = nssm_vocab_add_label(&vocab, name, &err);
	check(idx);
	if (idx >= 64)
		exit(1);
	return (uint32_t)idx;
}

static void end_session(struct nssm_session_info *info, uint64_t n_tokens)
{
	stats[info->label_idx].n_sessions++;
	stats[info->label_idx].n_packets += info->n_packets;
	stats[info->label_idx].n_tokens += n_tokens;
	check(nssm_corpus_end_session(w, info, &err));
}

static void capture(struct nssm_encoder *e, const char *path, uint32_t label)
{
	struct nssm_capture *c;
	struct nssm_pkt pkt;
	struct nssm_session_info info = {.label_idx = label};
	uint16_t *out = calloc(nssm_encoder_max_tokens(e), sizeof *out);
	if (out == NULL)
		exit(1);
	check(nssm_capture_open(&c, path, &err));
	size_t n = nssm_encoder_begin(e, out, label, NULL), total = n;
	check(nssm_corpus_append(w, out, n, &err));
	int rc;
	while ((rc = nssm_capture_next(c, &pkt, &err)) == 1) {
		int reason;
		uint32_t cut;
		n = nssm_encoder_packet(e, out, &pkt, &reason, &cut);
		if (reason != NSSM_PKT_OK)
			continue;
		if (info.n_packets++ == 0)
			info.first_ns = pkt.ts_ns;
		else
			nssm_iat_add(&stats[label].iat, pkt.ts_ns > info.last_ns ? pkt.ts_ns - info.last_ns : 0);
		info.last_ns = pkt.ts_ns;
		total += n;
		check(nssm_corpus_append(w, out, n, &err));
	}
	check(rc);
	n = nssm_encoder_end(e, out);
	check(nssm_corpus_append(w, out, n, &err));
	end_session(&info, total + n);
	nssm_capture_close(&c);
	free(out);
}

static void text_line(char *line)
{
	uint64_t n = 0;
	char *save, *label = strtok_r(line, " \n", &save), *first = label != NULL ? strtok_r(NULL, " \n", &save) : NULL;
	if (first == NULL)
		return;
	struct nssm_session_info info = {.label_idx = label_of(label), .n_packets = 1, .first_ns = strtoull(first, NULL, 10)};
	info.last_ns = info.first_ns;
	for (char *t; (t = strtok_r(NULL, " \n", &save)) != NULL; n++) {
		uint16_t id = strcmp(t, "pkt") == 0   ? vocab.pkt
		              : strcmp(t, "eot") == 0 ? vocab.eot
		              : strcmp(t, "unk") == 0 ? vocab.unk
		              : t[0] == '='           ? vocab.label[label_of(t + 1)].id
		                                      : vocab.byte_id[strtoul(t, NULL, 10) & 255];
		check(nssm_corpus_append(w, &id, 1, &err));
	}
	end_session(&info, n);
}

int main(int argc, char **argv)
{
	struct nssm_codec_cfg cfg;
	if (argc < 4) {
		fprintf(stderr, "usage: corpus_make OUT CODEC-JSON CAPTURE=LABEL…|-\n");
		return 2;
	}
	json_t *j = json_loads(argv[2], 0, NULL);
	if (j == NULL)
		return 2;
	check(nssm_codec_cfg_from_json(&cfg, j, "the command line", &err));
	json_decref(j);
	nssm_vocab_init(&vocab);
	check(nssm_corpus_create(&w, argv[1], &cfg, &err));
	if (strcmp(argv[3], "-") == 0) {
		char *line = NULL;
		size_t cap = 0;
		while (getline(&line, &cap, stdin) > 0)
			text_line(line);
		free(line);
	} else {
		struct nssm_encoder *e;
		for (int i = 3; i < argc; i++)
			if (strchr(argv[i], '=') != NULL)
				label_of(strrchr(argv[i], '=') + 1);
		check(nssm_encoder_open(&e, &cfg, &vocab, &err));
		for (int i = 3; i < argc; i++) {
			char *eq = strrchr(argv[i], '=');
			if (eq == NULL)
				return 2;
			*eq = '\0';
			capture(e, argv[i], label_of(eq + 1));
		}
		nssm_encoder_close(&e);
	}
	check(nssm_corpus_commit(&w, &vocab, stats, NULL, &err));
	return 0;
}
