#include "app/eval/statistical.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "kernels/team.h"
#include "replay/capture.h"

/* What is counted apart. Without a training set the real one's halves are BASE and TEST. */
enum group { SYNTHETIC, TEST, BASE, SHUFFLED, N_GROUPS };

struct records {
	struct nssm_record *r;
	size_t n, cap;
};

struct task {
	struct nssm_eval_file *file;
	enum group group;
	struct records records; /* kept of BASE, to be shuffled */
	struct nssm_err err;    /* what ends the run */
};

struct run {
	const struct nssm_statistical_cfg *cfg;
	char **label; /* of all sets, sorted; borrowed */
	uint32_t n_labels;
	struct task *task;
	size_t n_tasks;
	struct nssm_counts *counts; /* [member][group][label] */
	atomic_uint_fast64_t n_files, n_packets;
};

const char *nssm_col_name(enum nssm_eval_column c)
{
	static const char *const name[NSSM_N_COLS] = {"synthetic", "real", "shuffled"};
	return name[c];
}

static struct nssm_counts *counts_of(const struct run *run, int member, enum group g, uint32_t label)
{
	return &run->counts[((size_t)member * N_GROUPS + g) * run->n_labels + label];
}

/* --- reading -------------------------------------------------------------------------------------------------- */

static int keep(struct records *k, const struct nssm_record *r, struct nssm_err *err)
{
	if (k->n == k->cap) {
		size_t cap = k->cap != 0 ? 2 * k->cap : 256;
		struct nssm_record *p = realloc(k->r, cap * sizeof *p);
		if (p == NULL)
			return nssm_err_set(err, NSSM_ENOMEM, "eval: no memory for %zu packets of a session", cap);
		k->r = p;
		k->cap = cap;
	}
	k->r[k->n++] = *r;
	return 0;
}

#define CLOCK_SET_NS 1000000000u /* as in replay/reader.h */

/* Times never go back; a stamp far before its predecessor's is a clock that was set, and the gaps behind it stay. */
static uint64_t session_time(uint64_t last_ns, uint64_t ts_ns, uint64_t *shift_ns)
{
	uint64_t t = ts_ns + *shift_ns;
	if (t >= last_ns)
		return t;
	if (last_ns - t > CLOCK_SET_NS)
		*shift_ns += last_ns - t;
	return last_ns;
}

/* < 0: out of memory. What is wrong with the capture goes to its file. */
static int read_file(struct run *run, struct task *t, int member, struct nssm_err *err)
{
	struct nssm_counts *c = counts_of(run, member, t->group, t->file->label_idx);
	struct nssm_capture *cap;
	struct nssm_pkt pkt;
	struct nssm_record r = {0};
	struct nssm_err why;
	uint64_t shift_ns = 0;
	int rc = 0, got = nssm_capture_open(&cap, t->file->path, &why);
	if (got == 0) {
		while (rc == 0 && (got = nssm_capture_next(cap, &pkt, &why)) > 0) {
			rc = nssm_counts_packet(c, &r, &pkt, err);
			r.t_ns = session_time(r.t_ns, pkt.ts_ns, &shift_ns);
			if (rc == 0)
				rc = keep(&t->records, &r, err);
			if (t->records.n % 4096 == 0)
				atomic_fetch_add(&run->n_packets, 4096);
			if (member == 0 && t->records.n % 4096 == 0)
				run->cfg->progress(run->cfg->ctx, atomic_load(&run->n_files), run->n_tasks, atomic_load(&run->n_packets));
		}
		nssm_capture_close(&cap);
	}
	if (got < 0 && (t->file->problem = strdup(why.msg)) == NULL)
		rc = nssm_err_set(err, NSSM_ENOMEM, "eval: no memory");
	atomic_fetch_add(&run->n_packets, t->records.n % 4096);
	return rc == 0 && t->records.n > 0 ? nssm_counts_session(c, t->records.r, t->records.n, err) : rc;
}

static void one_task(void *ctx, int idx, int member)
{
	struct run *run = ctx;
	struct task *t = &run->task[idx];
	if (read_file(run, t, member, &t->err) != 0)
		return;
	if (t->group != BASE) {
		free(t->records.r);
		t->records = (struct records){0};
	}
	atomic_fetch_add(&run->n_files, 1);
	if (member == 0)
		run->cfg->progress(run->cfg->ctx, atomic_load(&run->n_files), run->n_tasks, atomic_load(&run->n_packets));
}

/* --- labels and halves ---------------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static uint32_t label_idx(const struct run *run, char *label)
{
	char **at = bsearch(&label, run->label, run->n_labels, sizeof *run->label, by_text);
	return (uint32_t)(at - run->label);
}

static int find_labels(struct run *run, struct nssm_err *err)
{
	struct nssm_eval_set *set[] = {run->cfg->real, run->cfg->synthetic, run->cfg->train};
	size_t n = 0;
	for (int s = 0; s < 3; s++)
		n += set[s] != NULL ? set[s]->n : 0;
	run->label = calloc(n, sizeof *run->label);
	run->task = calloc(n, sizeof *run->task);
	if (run->label == NULL || run->task == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "eval: no memory for %zu captures", n);
	n = 0;
	for (int s = 0; s < 3; s++)
		for (size_t i = 0; set[s] != NULL && i < set[s]->n; i++)
			run->label[n++] = set[s]->file[i].label;
	qsort(run->label, n, sizeof *run->label, by_text);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || strcmp(run->label[i], run->label[run->n_labels - 1]) != 0)
			run->label[run->n_labels++] = run->label[i];
	static const enum group group[] = {TEST, SYNTHETIC, BASE};
	for (int s = 0; s < 3; s++)
		for (size_t i = 0; set[s] != NULL && i < set[s]->n; i++) {
			set[s]->file[i].label_idx = label_idx(run, set[s]->file[i].label);
			run->task[run->n_tasks++] = (struct task){.file = &set[s]->file[i], .group = group[s]};
		}
	return 0;
}

/* A stream of its own for each label, whatever other labels there are. */
static void label_stream(struct nssm_rng *rng, const struct run *run, uint32_t label, uint32_t part)
{
	uint64_t h = 0xcbf29ce484222325u;
	for (const char *p = run->label[label]; *p != '\0'; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3u;
	nssm_rng_init(rng, run->cfg->seed, h ^ part, NSSM_RNG_HALVES);
}

/* The larger half of each label's real sessions becomes TEST. */
static int draw_halves(struct run *run, struct nssm_err *err)
{
	size_t *idx = calloc(run->n_tasks, sizeof *idx);
	if (idx == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "eval: no memory for %zu captures", run->n_tasks);
	for (uint32_t l = 0; l < run->n_labels; l++) {
		struct nssm_rng rng;
		size_t n = 0;
		label_stream(&rng, run, l, 0);
		for (size_t i = 0; i < run->n_tasks; i++)
			if (run->task[i].group == TEST && run->task[i].file->label_idx == l)
				idx[n++] = i;
		for (size_t i = 0; i < n / 2; i++) {
			size_t j = i + nssm_rng_below(&rng, (uint32_t)(n - i)), t = idx[i];
			idx[i] = idx[j];
			idx[j] = t;
			run->task[idx[i]].group = BASE;
		}
	}
	free(idx);
	return 0;
}

/* --- shuffling ------------------------------------------------------------------------------------------------ */

static void swap_packets(struct nssm_record *a, struct nssm_record *b)
{
	struct nssm_record t = *a;
	a->flow = b->flow, a->size = b->size, a->end = b->end;
	b->flow = t.flow, b->size = t.size, b->end = t.end;
}

/* The packets of BASE change places, the places stay. */
static int shuffle_label(struct run *run, uint32_t label, struct nssm_err *err)
{
	struct nssm_counts *c = counts_of(run, 0, SHUFFLED, label);
	struct nssm_record **place;
	struct nssm_rng rng;
	size_t n = 0;
	for (size_t i = 0; i < run->n_tasks; i++)
		n += run->task[i].file->label_idx == label ? run->task[i].records.n : 0;
	if ((place = calloc(n + 1, sizeof *place)) == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "eval: no memory to shuffle %zu packets", n);
	n = 0;
	for (size_t i = 0; i < run->n_tasks; i++)
		for (size_t k = 0; run->task[i].file->label_idx == label && k < run->task[i].records.n; k++)
			place[n++] = &run->task[i].records.r[k];
	label_stream(&rng, run, label, 1);
	for (size_t i = n; i > 1; i--)
		swap_packets(place[i - 1], place[nssm_rng_below(&rng, (uint32_t)i)]);
	free(place);
	int rc = nssm_counts_merge(c, counts_of(run, 0, BASE, label), true, err);
	for (size_t i = 0; i < run->n_tasks && rc == 0; i++)
		if (run->task[i].file->label_idx == label && run->task[i].records.n > 0)
			rc = nssm_counts_session(c, run->task[i].records.r, run->task[i].records.n, err);
	return rc;
}

/* --- comparing ------------------------------------------------------------------------------------------------ */

/* Both sides of each column. */
struct sides {
	struct nssm_counts *a[NSSM_N_COLS], *b[NSSM_N_COLS];
};

/* Of the figures that there are. */
struct mean {
	double sum[NSSM_N_COLS][NSSM_N_DIVS];
	uint32_t n[NSSM_N_COLS][NSSM_N_DIVS];
};

static void mean_add(struct mean *m, int col, const double figure[NSSM_N_DIVS])
{
	for (int d = 0; d < NSSM_N_DIVS; d++)
		if (figure[d] >= 0) {
			m->sum[col][d] += figure[d];
			m->n[col][d]++;
		}
}

static void mean_get(nssm_figures out, const struct mean *m)
{
	for (int c = 0; c < NSSM_N_COLS; c++)
		for (int d = 0; d < NSSM_N_DIVS; d++)
			out[c][d] = m->n[c][d] > 0 ? m->sum[c][d] / m->n[c][d] : NSSM_DIV_NONE;
}

static void none(double figure[NSSM_N_DIVS])
{
	for (int d = 0; d < NSSM_N_DIVS; d++)
		figure[d] = NSSM_DIV_NONE;
}

static void compare_bits(struct nssm_comparison *cmp, const struct sides *s)
{
	struct mean mean[NSSM_N_BITS_MEANS] = {0};
	int bit = 0;
	for (int f = 0; f < nssm_nprint_n_fields; f++) {
		for (int end = bit + nssm_nprint_field[f].n_bits; bit < end; bit++) {
			for (int c = 0; c < NSSM_N_COLS; c++) {
				uint64_t a[3], b[3];
				nssm_counts_bit(a, s->a[c], bit);
				nssm_counts_bit(b, s->b[c], bit);
				double *out = cmp->bit[bit][c];
				if (cmp->packets[c][0] == 0 || cmp->packets[c][1] == 0)
					none(out);
				else
					nssm_diverge_counts(out, a, b, 3);
				mean_add(&mean[NSSM_BITS_ALL], c, out);
				if (!nssm_nprint_field[f].is_identifier)
					mean_add(&mean[NSSM_BITS_NO_IDENTIFIERS], c, out);
				if (a[1] + a[2] + b[1] + b[2] > 0)
					mean_add(&mean[NSSM_BITS_SEEN], c, out);
			}
		}
	}
	for (int k = 0; k < NSSM_N_BITS_MEANS; k++)
		mean_get(cmp->bits_mean[k], &mean[k]);
}

static void compare_measures(struct nssm_comparison *cmp, const struct sides *s)
{
	struct mean mean[NSSM_N_MEASURES_MEANS] = {0};
	for (int m = 0; m < NSSM_N_MEASURES; m++) {
		const struct nssm_measure_info *info = &nssm_measure_info[m];
		for (int c = 0; c < NSSM_N_COLS; c++) {
			nssm_tally_sort(&s->a[c]->tally[m]);
			nssm_tally_sort(&s->b[c]->tally[m]);
			double *out = cmp->measure[m][c];
			if (cmp->packets[c][0] == 0 || cmp->packets[c][1] == 0)
				none(out);
			else
				nssm_diverge(out, &s->a[c]->tally[m], &s->b[c]->tally[m], info->bins != NSSM_BINS_CATEGORY);
			mean_add(&mean[NSSM_MEASURES_ALL], c, out);
			if (!info->is_identifier)
				mean_add(&mean[NSSM_MEASURES_NO_IDENTIFIERS], c, out);
		}
	}
	for (int k = 0; k < NSSM_N_MEASURES_MEANS; k++)
		mean_get(cmp->measures_mean[k], &mean[k]);
}

static int compare(struct nssm_comparison *cmp, const struct sides *s, const char *label, struct nssm_err *err)
{
	cmp->label = label;
	for (int c = 0; c < NSSM_N_COLS; c++) {
		cmp->sessions[c][0] = s->a[c]->n_sessions, cmp->sessions[c][1] = s->b[c]->n_sessions;
		cmp->packets[c][0] = s->a[c]->n_packets, cmp->packets[c][1] = s->b[c]->n_packets;
	}
	if ((cmp->bit = calloc(NSSM_NPRINT_BITS, sizeof *cmp->bit)) == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "eval: no memory for the figures of %s", label);
	compare_bits(cmp, s);
	compare_measures(cmp, s);
	return 0;
}

static void mean_of_labels(struct nssm_statistical *s)
{
	/* All figures lie one behind the other in nssm_comparison: measure, bits_mean, measures_mean. */
	enum { N = NSSM_N_MEASURES + NSSM_N_BITS_MEANS + NSSM_N_MEASURES_MEANS };
	for (int i = 0; i < N; i++) {
		struct mean m = {0};
		nssm_figures *out = NULL;
		for (uint32_t l = 0; l <= s->n_labels; l++) {
			struct nssm_comparison *c = l < s->n_labels ? &s->label[l] : &s->mean;
			int k = i - NSSM_N_MEASURES;
			out = k < 0 ? &c->measure[i] : k < NSSM_N_BITS_MEANS ? &c->bits_mean[k] : &c->measures_mean[k - NSSM_N_BITS_MEANS];
			for (int col = 0; col < NSSM_N_COLS && l < s->n_labels; col++)
				mean_add(&m, col, (*out)[col]);
		}
		mean_get(*out, &m);
	}
	s->mean.label = "mean of labels";
}

/* The real set whole, and with halves its parts too, are in the same counts only after they are put together. */
static int compare_label(struct nssm_statistical *s, struct run *run, struct nssm_counts all[N_GROUPS + 1], uint32_t label, struct nssm_err *err)
{
	struct nssm_counts whole = {0};
	struct nssm_counts *g[N_GROUPS];
	int rc = 0;
	for (int i = 0; i < N_GROUPS; i++)
		g[i] = counts_of(run, 0, (enum group)i, label);
	rc = nssm_counts_merge(&whole, g[TEST], false, err);
	if (rc == 0 && s->halves)
		rc = nssm_counts_merge(&whole, g[BASE], false, err);
	for (int i = 0; i < N_GROUPS && rc == 0; i++)
		rc = nssm_counts_merge(&all[i], g[i], false, err);
	if (rc == 0)
		rc = nssm_counts_merge(&all[N_GROUPS], &whole, false, err);
	if (rc == 0) {
		struct sides sides = {{g[SYNTHETIC], g[BASE], g[SHUFFLED]}, {&whole, g[TEST], g[TEST]}};
		rc = compare(&s->label[s->n_labels++], &sides, run->label[label], err);
	}
	nssm_counts_free(&whole);
	return rc;
}

static int compare_all(struct nssm_statistical *s, struct run *run, struct nssm_err *err)
{
	struct nssm_counts all[N_GROUPS + 1] = {0};
	int rc = 0;
	s->label = calloc(run->n_labels, sizeof *s->label);
	s->only_real = calloc(run->n_labels, sizeof *s->only_real);
	s->only_synthetic = calloc(run->n_labels, sizeof *s->only_synthetic);
	if (s->label == NULL || s->only_real == NULL || s->only_synthetic == NULL)
		rc = nssm_err_set(err, NSSM_ENOMEM, "eval: no memory for %u labels", (unsigned)run->n_labels);
	for (uint32_t l = 0; l < run->n_labels && rc == 0; l++) {
		bool real = counts_of(run, 0, TEST, l)->n_packets > 0, synthetic = counts_of(run, 0, SYNTHETIC, l)->n_packets > 0;
		if (real && synthetic)
			rc = compare_label(s, run, all, l, err);
		else if (real)
			s->only_real[s->n_only_real++] = run->label[l];
		else if (synthetic)
			s->only_synthetic[s->n_only_synthetic++] = run->label[l];
	}
	if (rc == 0 && s->n_labels == 0)
		rc = nssm_err_set(err, NSSM_EARG, "--synthetic: expected packets under a label that the real set has (%.64s …), found none (%.64s …)",
		        s->n_only_real > 0 ? s->only_real[0] : "none with packets",
		        s->n_only_synthetic > 0 ? s->only_synthetic[0] : "none with packets");
	if (rc == 0) {
		struct sides sides = {{&all[SYNTHETIC], &all[BASE], &all[SHUFFLED]}, {&all[N_GROUPS], &all[TEST], &all[TEST]}};
		rc = compare(&s->pooled, &sides, "all", err);
	}
	if (rc == 0)
		mean_of_labels(s);
	for (int i = 0; i <= N_GROUPS; i++)
		nssm_counts_free(&all[i]);
	return rc;
}

/* --- the whole ------------------------------------------------------------------------------------------------ */

static int read_all(struct run *run, struct nssm_err *err)
{
	struct nssm_team *team;
	int rc = nssm_team_open(&team, run->cfg->n_threads, err);
	if (rc != 0)
		return rc;
	int size = nssm_team_size(team);
	run->counts = calloc((size_t)size * N_GROUPS * run->n_labels, sizeof *run->counts);
	if (run->counts == NULL)
		rc = nssm_err_set(err, NSSM_ENOMEM, "eval: no memory for counts of %u labels", (unsigned)run->n_labels);
	else
		nssm_team_run(team, (int)run->n_tasks, one_task, run);
	nssm_team_close(&team);
	for (size_t i = 0; i < run->n_tasks && rc == 0; i++)
		if (run->task[i].err.code != 0) {
			*err = run->task[i].err;
			rc = err->code;
		}
	for (int m = 1; m < size && run->counts != NULL; m++)
		for (uint32_t i = 0; i < N_GROUPS * run->n_labels; i++) {
			struct nssm_counts *from = &run->counts[(size_t)m * N_GROUPS * run->n_labels + i];
			if (rc == 0)
				rc = nssm_counts_merge(&run->counts[i], from, false, err);
			nssm_counts_free(from);
		}
	return rc;
}

int nssm_statistical_run(struct nssm_statistical *s, const struct nssm_statistical_cfg *cfg, struct nssm_err *err)
{
	struct run run = {.cfg = cfg};
	*s = (struct nssm_statistical){.halves = cfg->train == NULL};
	int rc = find_labels(&run, err);
	if (rc == 0 && s->halves)
		rc = draw_halves(&run, err);
	if (rc == 0)
		rc = read_all(&run, err);
	for (uint32_t l = 0; l < run.n_labels && rc == 0; l++)
		rc = shuffle_label(&run, l, err);
	if (rc == 0)
		rc = compare_all(s, &run, err);
	for (uint32_t i = 0; run.counts != NULL && i < N_GROUPS * run.n_labels; i++)
		nssm_counts_free(&run.counts[i]);
	for (size_t i = 0; i < run.n_tasks; i++)
		free(run.task[i].records.r);
	free(run.counts);
	free(run.task);
	free(run.label);
	if (rc != 0)
		nssm_statistical_free(s);
	return rc;
}

void nssm_statistical_free(struct nssm_statistical *s)
{
	for (uint32_t l = 0; s->label != NULL && l < s->n_labels; l++)
		free(s->label[l].bit);
	free(s->label);
	free(s->pooled.bit);
	free(s->only_real);
	free(s->only_synthetic);
	*s = (struct nssm_statistical){0};
}
