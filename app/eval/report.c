#include "app/eval/report.h"

#include <inttypes.h>
#include <string.h>

#include "app/json_text.h"

/* --- JSON ----------------------------------------------------------------------------------------------------- */

static json_t *figure_json(double v)
{
	return v >= 0 ? json_real(v) : json_null();
}

static json_t *figures_json(nssm_figures f)
{
	json_t *j = json_object();
	for (int d = 0; d < NSSM_N_DIVS; d++) {
		json_t *cols = json_object();
		for (int c = 0; c < NSSM_N_COLS; c++)
			json_object_set_new(cols, nssm_col_name((enum nssm_eval_column)c), figure_json(f[c][d]));
		json_object_set_new(j, nssm_div_name((enum nssm_div)d), cols);
	}
	return j;
}

static json_t *bits_json(const struct nssm_comparison *cmp)
{
	json_t *j = json_object();
	for (int c = 0; c < NSSM_N_COLS; c++) {
		json_t *col = json_object();
		for (int d = 0; d < NSSM_N_DIVS; d++) {
			json_t *v = json_array();
			for (int b = 0; b < NSSM_NPRINT_BITS; b++)
				json_array_append_new(v, figure_json(cmp->bit[b][c][d]));
			json_object_set_new(col, nssm_div_name((enum nssm_div)d), v);
		}
		json_object_set_new(j, nssm_col_name((enum nssm_eval_column)c), col);
	}
	return j;
}

/* Both sides of each comparison. */
static json_t *sides_json(const uint64_t n[NSSM_N_COLS][2])
{
	json_t *j = json_object();
	for (int c = 0; c < NSSM_N_COLS; c++)
		json_object_set_new(j, nssm_col_name((enum nssm_eval_column)c), json_pack("[o,o]", nssm_json_count(n[c][0]), nssm_json_count(n[c][1])));
	return j;
}

static json_t *comparison_json(struct nssm_comparison *cmp)
{
	json_t *measures = json_object(), *j = json_object();
	for (int m = 0; m < NSSM_N_MEASURES; m++)
		json_object_set_new(measures, nssm_measure_info[m].key, figures_json(cmp->measure[m]));
	json_object_set_new(j, "label", nssm_json_text(cmp->label));
	if (cmp->bit != NULL) {
		json_object_set_new(j, "sessions", sides_json((const uint64_t(*)[2])cmp->sessions));
		json_object_set_new(j, "packets", sides_json((const uint64_t(*)[2])cmp->packets));
	}
	json_object_set_new(j, "bits_mean", figures_json(cmp->bits_mean[NSSM_BITS_ALL]));
	json_object_set_new(j, "bits_mean_without_identifiers", figures_json(cmp->bits_mean[NSSM_BITS_NO_IDENTIFIERS]));
	json_object_set_new(j, "bits_mean_seen", figures_json(cmp->bits_mean[NSSM_BITS_SEEN]));
	json_object_set_new(j, "measures_mean", figures_json(cmp->measures_mean[NSSM_MEASURES_ALL]));
	json_object_set_new(j, "measures_mean_without_identifiers", figures_json(cmp->measures_mean[NSSM_MEASURES_NO_IDENTIFIERS]));
	json_object_set_new(j, "measures", measures);
	if (cmp->bit != NULL)
		json_object_set_new(j, "bits", bits_json(cmp));
	return j;
}

static json_t *names_json(char *const *name, uint32_t n)
{
	json_t *j = json_array();
	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(j, nssm_json_text(name[i]));
	return j;
}

static json_t *bit_names_json(void)
{
	json_t *j = json_array();
	for (int f = 0; f < nssm_nprint_n_fields; f++)
		for (int b = 0; b < nssm_nprint_field[f].n_bits; b++)
			json_array_append_new(j, json_sprintf("%s_%d", nssm_nprint_field[f].name, b));
	return j;
}

static json_t *jsd_json(nssm_figures f)
{
	json_t *j = json_object();
	for (int c = 0; c < NSSM_N_COLS; c++)
		json_object_set_new(j, nssm_col_name((enum nssm_eval_column)c), figure_json(f[c][NSSM_DIV_JSD]));
	return j;
}

/* Labels that both sides of the column have: a label with one real session has no halves. */
static uint32_t n_compared(const struct nssm_statistical *s, int col)
{
	uint32_t n = 0;
	for (uint32_t l = 0; l < s->n_labels; l++)
		n += s->label[l].packets[col][0] > 0 && s->label[l].packets[col][1] > 0;
	return n;
}

json_t *nssm_statistical_json(const struct nssm_statistical *s)
{
	json_t *n_labels = json_object();
	for (int c = 0; c < NSSM_N_COLS; c++)
		json_object_set_new(n_labels, nssm_col_name((enum nssm_eval_column)c), json_integer(n_compared(s, c)));
	json_t *labels = json_array();
	for (uint32_t l = 0; l < s->n_labels; l++)
		json_array_append_new(labels, comparison_json(&s->label[l]));
	struct nssm_comparison mean = s->mean, pooled = s->pooled;
	return json_pack("{s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "real_against", s->halves ? "halves of the real set" : "train",
	        "labels_in_mean", n_labels,
	        "jsd_bits_mean", jsd_json(mean.bits_mean[NSSM_BITS_ALL]), "jsd_bits_mean_without_identifiers",
	        jsd_json(mean.bits_mean[NSSM_BITS_NO_IDENTIFIERS]), "mean", comparison_json(&mean), "pooled", comparison_json(&pooled),
	        "labels", labels, "labels_only_real", names_json(s->only_real, s->n_only_real), "labels_only_synthetic",
	        names_json(s->only_synthetic, s->n_only_synthetic), "bit_names", bit_names_json());
}

json_t *nssm_eval_set_json(const struct nssm_eval_set *s)
{
	json_t *broken = json_array();
	for (size_t i = 0; i < s->n; i++)
		if (s->file[i].problem != NULL)
			json_array_append_new(broken, json_pack("{s:o,s:o}", "file", nssm_json_text(s->file[i].path), "problem", nssm_json_text(s->file[i].problem)));
	return json_pack("{s:o,s:o,s:o,s:o}", "path", nssm_json_text(s->path), "captures", nssm_json_count(s->n), "missing",
	        nssm_json_count(s->n_missing), "broken", broken);
}

/* --- table ---------------------------------------------------------------------------------------------------- */

static void print_figure(FILE *out, int width, double v)
{
	if (v >= 0)
		fprintf(out, " %*.4f", width, v);
	else
		fprintf(out, " %*s", width, "-");
}

static void print_cols(FILE *out, nssm_figures f, enum nssm_div d)
{
	fputc(' ', out);
	for (int c = 0; c < NSSM_N_COLS; c++)
		print_figure(out, 9, f[c][d]);
}

static void print_bits(FILE *out, const struct nssm_comparison *cmp)
{
	struct nssm_comparison c = *cmp;
	fprintf(out, "%-20.20s", c.label);
	if (c.bit != NULL)
		fprintf(out, " %6" PRIu64 " %6" PRIu64, c.sessions[NSSM_COL_SYNTHETIC][0], c.sessions[NSSM_COL_SYNTHETIC][1]);
	else
		fprintf(out, " %6s %6s", "", "");
	print_cols(out, c.bits_mean[NSSM_BITS_ALL], NSSM_DIV_JSD);
	print_cols(out, c.bits_mean[NSSM_BITS_NO_IDENTIFIERS], NSSM_DIV_JSD);
	fputc('\n', out);
}

static void print_names(FILE *out, const char *what, char *const *name, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		fprintf(out, "%s%s", i == 0 ? what : ", ", name[i]);
	if (n > 0)
		fputc('\n', out);
}

void nssm_statistical_table(FILE *out, const struct nssm_statistical *s)
{
	struct nssm_comparison mean = s->mean;
	fprintf(out, "Against real traffic (0: distributed alike, 1: nothing in common): synthetic; real (%s);\n"
	             "shuffled: real packets without their order.\n\n",
	        s->halves ? "one half of the sessions against the other" : "the training set against the real one");
	fprintf(out, "%-20s %13s  %29s  %29s\n", "bits of headers,", "sessions", "JSD, mean of 1408 bits", "without identifiers");
	fprintf(out, "%-20s %6s %6s ", "by label", "synth.", "real");
	for (int i = 0; i < 2; i++)
		fprintf(out, " %9s %9s %9s%s", "synthetic", "real", "shuffled", i == 0 ? " " : "\n");
	for (uint32_t l = 0; l < s->n_labels; l++)
		print_bits(out, &s->label[l]);
	print_bits(out, &s->mean);
	print_bits(out, &s->pooled);
	fprintf(out, "\n%-20s %29s  %29s\n", "measures,", "JSD", "KS");
	fprintf(out, "%-20s", "mean of labels");
	for (int i = 0; i < 2; i++)
		fprintf(out, "  %9s %9s %9s", "synthetic", "real", "shuffled");
	fputc('\n', out);
	for (int m = 0; m < NSSM_N_MEASURES + NSSM_N_MEASURES_MEANS; m++) {
		static const char *const means[] = {"mean", "without ports"};
		bool one = m < NSSM_N_MEASURES;
		fprintf(out, "%-19s", one ? nssm_measure_info[m].key : means[m - NSSM_N_MEASURES]);
		print_cols(out, one ? mean.measure[m] : mean.measures_mean[m - NSSM_N_MEASURES], NSSM_DIV_JSD);
		print_cols(out, one ? mean.measure[m] : mean.measures_mean[m - NSSM_N_MEASURES], NSSM_DIV_KS);
		fputc('\n', out);
	}
	if (n_compared(s, NSSM_COL_REAL) < s->n_labels)
		fprintf(out, "\n-: %" PRIu32 " of %" PRIu32 " labels have no two real sides; means of real and shuffled are over the others\n",
		        s->n_labels - n_compared(s, NSSM_COL_REAL), s->n_labels);
	print_names(out, "\nnot compared, as the synthetic set has none: ", s->only_real, s->n_only_real);
	print_names(out, "\nnot compared, as the real set has none: ", s->only_synthetic, s->n_only_synthetic);
}
