#include "app/conditions_table.h"

#include <inttypes.h>
#include <stdlib.h>

#include "app/progress.h"

struct counts {
	uint32_t n[NSSM_N_CONDITIONS][256];
};

static void count_sessions(struct counts *counts, const struct nssm_corpus *c)
{
	const struct nssm_vocab *v = nssm_corpus_vocab(c);
	for (uint32_t s = 0; s < nssm_corpus_n_sessions(c); s++) {
		const struct nssm_session_info *info = nssm_corpus_session(c, s);
		if (info->n_tokens < 1 + NSSM_N_CONDITIONS)
			continue;
		/* Tokens that nobody has checked yet. */
		const uint16_t *t = nssm_corpus_tokens(c, s) + 1;
		for (int i = 0; i < NSSM_N_CONDITIONS; i++)
			if (t[i] < v->n_tokens && v->kind[t[i]] == NSSM_TOK_BYTE)
				counts[info->label_idx].n[i][v->value[t[i]]]++;
	}
}

/* The n-th smallest known step, n from 0. */
static uint8_t nth(const uint32_t count[256], uint64_t n)
{
	int step = 1;
	while (step < 255 && n >= count[step])
		n -= count[step++];
	return (uint8_t)step;
}

static json_t *distribution(enum nssm_condition c, const uint32_t count[256])
{
	uint64_t known = 0;
	for (int s = 1; s < 256; s++)
		known += count[s];
	if (known == 0)
		return json_pack("{s:i}", "known", 0);
	return json_pack("{s:I,s:f,s:f,s:f}", "known", (json_int_t)known, "min", nssm_condition_value(c, nth(count, 0)), "median",
	        nssm_condition_value(c, nth(count, (known - 1) / 2)), "max", nssm_condition_value(c, nth(count, known - 1)));
}

json_t *nssm_conditions_json(const struct nssm_corpus *c)
{
	uint32_t n_labels = nssm_corpus_vocab(c)->n_labels;
	struct counts *counts = nssm_corpus_codec(c)->conditions > 0 ? calloc(n_labels + 1, sizeof *counts) : NULL;
	if (counts == NULL)
		return NULL;
	count_sessions(counts, c);
	json_t *labels = json_array();
	for (uint32_t l = 0; l < n_labels; l++) {
		json_t *of_label = json_object();
		for (int i = 0; i < NSSM_N_CONDITIONS; i++)
			json_object_set_new(of_label, nssm_condition_name((enum nssm_condition)i),
			        distribution((enum nssm_condition)i, counts[l].n[i]));
		json_array_append_new(labels, of_label);
	}
	free(counts);
	return labels;
}

char *nssm_condition_text(char buf[32], enum nssm_condition c, double v)
{
	char number[16];
	switch (c) {
	case NSSM_COND_RTT:
	case NSSM_COND_DURATION:
		if (v < 1e-3)
			snprintf(buf, 32, "%.3g us", v * 1e6);
		else if (v < 1)
			snprintf(buf, 32, "%.3g ms", v * 1e3);
		else
			snprintf(buf, 32, v < 1000 ? "%.3g s" : "%.0f s", v);
		break;
	case NSSM_COND_LOSS:
		snprintf(buf, 32, "%.2g %%", v * 100);
		break;
	case NSSM_COND_THROUGHPUT:
		snprintf(buf, 32, "%sbit/s", nssm_human(number, v));
		break;
	default:
		snprintf(buf, 32, "%.0f", v);
	}
	return buf;
}

void nssm_conditions_table(FILE *out, const struct nssm_corpus *c, const json_t *conditions)
{
	static const char *const key[] = {"min", "median", "max"};
	fprintf(out, "\n%-20s %-10s %8s %12s %12s %12s\n", "label", "measure", "sessions", key[0], key[1], key[2]);
	size_t l;
	json_t *of_label;
	json_array_foreach((json_t *)conditions, l, of_label)
	{
		for (int i = 0; i < NSSM_N_CONDITIONS; i++) {
			const char *name = nssm_condition_name((enum nssm_condition)i);
			const json_t *d = json_object_get(of_label, name);
			json_int_t known = json_integer_value(json_object_get(d, "known"));
			fprintf(out, "%-20s %-10s %8" JSON_INTEGER_FORMAT, i == 0 ? nssm_corpus_vocab(c)->label[l].name : "", name, known);
			char text[32];
			for (int k = 0; k < 3 && known > 0; k++)
				fprintf(out, " %12s",
				        nssm_condition_text(text, (enum nssm_condition)i, json_real_value(json_object_get(d, key[k]))));
			fputc('\n', out);
		}
	}
}
