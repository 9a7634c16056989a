#include "app/corpus_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void add(struct nssm_label_stats *to, const struct nssm_label_stats *s)
{
	to->n_sessions += s->n_sessions;
	to->n_packets += s->n_packets;
	to->n_flows += s->n_flows;
	to->n_tokens += s->n_tokens;
	to->n_cut += s->n_cut;
	to->n_time_back += s->n_time_back;
	for (int i = 0; i < NSSM_PKT_N_REASONS; i++)
		to->skipped[i] += s->skipped[i];
}

static void row(FILE *out, const char *name, const struct nssm_label_stats *s)
{
	uint64_t skipped = 0;
	for (int i = 1; i < NSSM_PKT_N_REASONS; i++)
		skipped += s->skipped[i];
	fprintf(out, "%-20s %9" PRIu64 " %10" PRIu64 " %8" PRIu64 " %12" PRIu64 " %8.2f %6" PRIu64 " %9" PRIu64 "  ", name, s->n_sessions,
		s->n_packets, s->n_flows, s->n_tokens, s->n_packets > 0 ? (double)s->n_tokens / (double)s->n_packets : 0.0, s->n_cut, skipped);
	const char *sep = "";
	for (int i = 1; i < NSSM_PKT_N_REASONS; i++)
		if (s->skipped[i] > 0) {
			fprintf(out, "%s%s %" PRIu64, sep, nssm_pkt_reason_name(i), s->skipped[i]);
			sep = ", ";
		}
	fputc('\n', out);
}

void nssm_corpus_table(FILE *out, const struct nssm_corpus *c)
{
	const struct nssm_vocab *v = nssm_corpus_vocab(c);
	struct nssm_label_stats *total = calloc(1, sizeof *total);
	fprintf(out, "%-20s %9s %10s %8s %12s %8s %6s %9s  %s\n", "label", "sessions", "packets", "flows", "tokens", "tok/pkt", "cut", "skipped",
		"skipped by reason");
	for (uint32_t i = 0; i < v->n_labels; i++) {
		row(out, v->label[i].name, nssm_corpus_stats(c, i));
		if (total != NULL)
			add(total, nssm_corpus_stats(c, i));
	}
	if (total != NULL && v->n_labels > 1)
		row(out, "total", total);
	if (total != NULL && total->n_time_back > 0)
		fprintf(out, "%" PRIu64 " packets are stamped before the one they follow; order was kept\n", total->n_time_back);
	free(total);
	fprintf(out, "unigram entropy: %.3f bits a token\n", nssm_corpus_unigram_bits(c));
}
