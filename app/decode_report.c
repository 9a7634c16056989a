#include "app/decode_report.h"

#include <inttypes.h>
#include <stdlib.h>

#include <jansson.h>

#include "app/json_text.h"
#include "app/progress.h"

/* Where the times come from. */
static const char *times(const struct nssm_decode_result *r, const struct nssm_corpus *c)
{
	return nssm_corpus_codec(c)->kind != NSSM_CODEC_RAW ? "codec" : r->fixed_gap ? "fixed" : "drawn";
}

static struct nssm_decode_label total(const struct nssm_decode_result *r, const struct nssm_corpus *c)
{
	struct nssm_decode_label t = {0};
	for (uint32_t i = 0; i < nssm_corpus_vocab(c)->n_labels; i++) {
		t.n_sessions += r->label[i].n_sessions;
		t.n_packets += r->label[i].n_packets;
		t.wire_bytes += r->label[i].wire_bytes;
		t.captured_bytes += r->label[i].captured_bytes;
	}
	return t;
}

/* --- text ----------------------------------------------------------------------------------------------------- */

static void row(FILE *out, const char *name, const struct nssm_decode_label *l)
{
	fprintf(out, "%-20s %9" PRIu64 " %10" PRIu64 " %14" PRIu64 " %14" PRIu64 "\n", name, l->n_sessions, l->n_packets,
	        l->wire_bytes, l->captured_bytes);
}

static void table(FILE *out, const struct nssm_decode_result *r, const struct nssm_corpus *c)
{
	const struct nssm_vocab *v = nssm_corpus_vocab(c);
	uint32_t shown = 0;
	fprintf(out, "%-20s %9s %10s %14s %14s\n", "label", "sessions", "packets", "wire bytes", "captured");
	for (uint32_t i = 0; i < v->n_labels; i++) {
		if (r->label[i].n_sessions > 0) {
			row(out, v->label[i].name, &r->label[i]);
			shown++;
		}
	}
	struct nssm_decode_label t = total(r, c);
	if (shown != 1)
		row(out, "total", &t);
}

static void rejects(FILE *out, const struct nssm_playback_sums *s)
{
	for (int i = 1; i < NSSM_PKT_N_REASONS; i++)
		if (s->rejected[i] > 0)
			fprintf(out, "rejected: %s %" PRIu64 ", first in session %" PRIu32 " at token %" PRIu64 " (%s)\n",
			        nssm_pkt_reason_name(i), s->rejected[i], s->first[i].session, s->first[i].token,
			        nssm_pkt_reason_help(i));
	const char *sep = "repaired: ";
	for (int b = 0; b < NSSM_REPAIR_N_BITS; b++) {
		/* Nearly always, as payload is filled: no defect. */
		if (s->repaired[b] > 0 && 1u << b != NSSM_REPAIR_L4_CSUM) {
			fprintf(out, "%s%s %" PRIu64, sep, nssm_pkt_repair_name(b), s->repaired[b]);
			sep = ", ";
		}
	}
	if (sep[0] == ',')
		fputc('\n', out);
}

void nssm_decode_report_text(FILE *out, const struct nssm_decode_result *r, const struct nssm_corpus *c)
{
	const struct nssm_playback_sums *s = r->sums;
	char codec[128], took[16];
	nssm_codec_describe(codec, sizeof codec, nssm_corpus_codec(c));
	table(out, r, c);
	fprintf(out, "codec: %s; times: %s\n", codec,
	        nssm_corpus_codec(c)->kind != NSSM_CODEC_RAW ? "the codec's"
	        : r->fixed_gap                               ? "--gap"
	                                                     : "drawn from the labels' inter-arrival times");
	rejects(out, s);
	if (s->n_after_end > 0)
		fprintf(out, "tokens behind the end of their session, passed over: %" PRIu64 "\n", s->n_after_end);
	if (r->n_too_late > 0)
		fprintf(out, "packets later than 2106, for which a pcap has no time, left out: %" PRIu64 " (--pcapng-out has)\n",
		        r->n_too_late);
	if (s->n_spilled > 0)
		fprintf(out, "more than %d sessions at a time: %" PRIu64 " waited in a temporary file (%.1f MB)\n",
		        NSSM_PLAYBACK_OPEN_MAX, s->n_spilled, (double)s->spilled_bytes / 1e6);
	if (r->limited)
		fprintf(out, "ended by --limit\n");
	fprintf(out, "wrote %" PRIu64 " packets of %" PRIu64 " sessions to %s in %s\n", r->n_packets, total(r, c).n_sessions,
	        r->out, nssm_hms(took, r->seconds));
}

/* --- JSON ----------------------------------------------------------------------------------------------------- */

static json_t *rejected_json(const struct nssm_playback_sums *s)
{
	json_t *j = json_object();
	for (int i = 1; i < NSSM_PKT_N_REASONS; i++)
		if (s->rejected[i] > 0)
			json_object_set_new(j, nssm_pkt_reason_name(i),
			        json_pack("{s:o,s:o,s:o}", "packets", nssm_json_count(s->rejected[i]), "first_session",
			                nssm_json_count(s->first[i].session), "first_token",
			                nssm_json_count(s->first[i].token)));
	return j;
}

static json_t *repaired_json(const struct nssm_playback_sums *s)
{
	json_t *j = json_object();
	for (int b = 0; b < NSSM_REPAIR_N_BITS; b++)
		if (s->repaired[b] > 0)
			json_object_set_new(j, nssm_pkt_repair_name(b), nssm_json_count(s->repaired[b]));
	return j;
}

static json_t *label_json(const char *name, const struct nssm_decode_label *l)
{
	json_t *j = json_object();
	if (name != NULL)
		json_object_set_new(j, "label", json_string(name));
	json_object_set_new(j, "sessions", nssm_json_count(l->n_sessions));
	json_object_set_new(j, "packets", nssm_json_count(l->n_packets));
	json_object_set_new(j, "wire_bytes", nssm_json_count(l->wire_bytes));
	json_object_set_new(j, "captured_bytes", nssm_json_count(l->captured_bytes));
	return j;
}

int nssm_decode_report_json(const struct nssm_decode_result *r, const struct nssm_corpus *c, struct nssm_err *err)
{
	const struct nssm_vocab *v = nssm_corpus_vocab(c);
	const struct nssm_playback_sums *s = r->sums;
	struct nssm_decode_label t = total(r, c);
	json_t *labels = json_array(), *j = label_json(NULL, &t);
	for (uint32_t i = 0; i < v->n_labels; i++)
		if (r->label[i].n_sessions > 0)
			json_array_append_new(labels, label_json(v->label[i].name, &r->label[i]));
	json_object_set_new(j, "corpus", nssm_json_text(r->corpus));
	json_object_set_new(j, "out", nssm_json_text(r->out));
	json_object_set_new(j, "codec", nssm_codec_cfg_to_json(nssm_corpus_codec(c)));
	json_object_set_new(j, "times", json_string(times(r, c)));
	json_object_set_new(j, "tokens", nssm_json_count(s->n_tokens));
	json_object_set_new(j, "rejected", rejected_json(s));
	json_object_set_new(j, "repaired", repaired_json(s));
	json_object_set_new(j, "tokens_after_end", nssm_json_count(s->n_after_end));
	json_object_set_new(j, "too_late", nssm_json_count(r->n_too_late));
	json_object_set_new(j, "spilled_sessions", nssm_json_count(s->n_spilled));
	json_object_set_new(j, "spilled_bytes", nssm_json_count(s->spilled_bytes));
	json_object_set_new(j, "complete", json_boolean(!r->limited && !r->stopped));
	json_object_set_new(j, "labels", labels);
	char *text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	json_decref(j);
	if (text == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "decode: no memory for the summary");
	puts(text);
	free(text);
	return 0;
}
