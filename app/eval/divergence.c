#include "app/eval/divergence.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

const char *nssm_div_name(enum nssm_div d)
{
	static const char *const name[NSSM_N_DIVS] = {"jsd", "jsd_sqrt", "tv", "hellinger", "emd", "ks"};
	return name[d];
}

/* --- tally ---------------------------------------------------------------------------------------------------- */

/* splitmix64's finaliser. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static struct nssm_tally_row *slot(struct nssm_tally_row *row, size_t cap, uint64_t value)
{
	size_t i = mix(value) & (cap - 1);
	while (row[i].n != 0 && row[i].value != value)
		i = (i + 1) & (cap - 1);
	return &row[i];
}

static int grow(struct nssm_tally *t)
{
	size_t cap = t->cap != 0 ? 2 * t->cap : 16;
	struct nssm_tally_row *row = calloc(cap, sizeof *row);
	if (row == NULL)
		return NSSM_ENOMEM;
	for (size_t i = 0; i < t->cap; i++)
		if (t->row[i].n != 0)
			*slot(row, cap, t->row[i].value) = t->row[i];
	free(t->row);
	t->row = row;
	t->cap = cap;
	return 0;
}

int nssm_tally_add(struct nssm_tally *t, uint64_t value, uint64_t n)
{
	assert(!t->sorted && n > 0);
	if (2 * (t->n_values + 1) > t->cap && grow(t) != 0)
		return NSSM_ENOMEM;
	struct nssm_tally_row *r = slot(t->row, t->cap, value);
	t->n_values += r->n == 0;
	r->value = value;
	r->n += n;
	t->total += n;
	return 0;
}

int nssm_tally_merge(struct nssm_tally *t, const struct nssm_tally *from)
{
	size_t n = from->sorted ? from->n_values : from->cap;
	for (size_t i = 0; i < n; i++)
		if (from->row[i].n != 0 && nssm_tally_add(t, from->row[i].value, from->row[i].n) != 0)
			return NSSM_ENOMEM;
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = ((const struct nssm_tally_row *)a)->value, y = ((const struct nssm_tally_row *)b)->value;
	return (x > y) - (x < y);
}

void nssm_tally_sort(struct nssm_tally *t)
{
	if (t->sorted)
		return;
	size_t n = 0;
	for (size_t i = 0; i < t->cap; i++)
		if (t->row[i].n != 0)
			t->row[n++] = t->row[i];
	if (n > 0)
		qsort(t->row, n, sizeof *t->row, by_value);
	t->sorted = true;
}

void nssm_tally_free(struct nssm_tally *t)
{
	free(t->row);
	*t = (struct nssm_tally){0};
}

/* --- divergences ---------------------------------------------------------------------------------------------- */

struct sums {
	double na, nb; /* of each side */
	double jsd, tv, hellinger, area, ks, F, G;
	uint64_t first, last;
	bool begun;
};

/* Values in ascending order; a + b > 0. */
static void step(struct sums *s, uint64_t value, uint64_t a, uint64_t b)
{
	double p = (double)a / s->na, q = (double)b / s->nb, m = (p + q) / 2, d = sqrt(p) - sqrt(q);
	if (!s->begun)
		s->first = value;
	else
		s->area += fabs(s->F - s->G) * (double)(value - s->last);
	s->begun = true;
	s->last = value;
	if (a > 0)
		s->jsd += p * log2(p / m) / 2;
	if (b > 0)
		s->jsd += q * log2(q / m) / 2;
	s->tv += fabs(p - q) / 2;
	s->hellinger += d * d / 2;
	s->F += p;
	s->G += q;
	s->ks = fmax(s->ks, fabs(s->F - s->G));
}

/* Rounding puts nothing outside of [0, 1]. */
static double within(double v)
{
	return v < 0 ? 0 : v > 1 ? 1 : v;
}

static void finish(double out[NSSM_N_DIVS], const struct sums *s, bool is_ordered)
{
	double range = (double)(s->last - s->first);
	out[NSSM_DIV_JSD] = within(s->jsd);
	out[NSSM_DIV_JSD_SQRT] = sqrt(within(s->jsd));
	out[NSSM_DIV_TV] = within(s->tv);
	out[NSSM_DIV_HELLINGER] = sqrt(within(s->hellinger));
	out[NSSM_DIV_EMD] = !is_ordered ? NSSM_DIV_NONE : range > 0 ? within(s->area / range) : 0;
	out[NSSM_DIV_KS] = !is_ordered ? NSSM_DIV_NONE : within(s->ks);
}

/* Where a side is empty there is nothing to sum. */
static bool one_is_empty(double out[NSSM_N_DIVS], uint64_t na, uint64_t nb, bool is_ordered)
{
	if (na > 0 && nb > 0)
		return false;
	for (int d = 0; d < NSSM_N_DIVS; d++)
		out[d] = (na == 0 && nb == 0) || (!is_ordered && d >= NSSM_DIV_EMD) ? NSSM_DIV_NONE : 1;
	return true;
}

void nssm_diverge(double out[NSSM_N_DIVS], const struct nssm_tally *a, const struct nssm_tally *b, bool is_ordered)
{
	struct sums s = {.na = (double)a->total, .nb = (double)b->total};
	assert((a->sorted || a->total == 0) && (b->sorted || b->total == 0));
	if (one_is_empty(out, a->total, b->total, is_ordered))
		return;
	for (size_t i = 0, j = 0; i < a->n_values || j < b->n_values;) {
		bool in_a = i < a->n_values && (j == b->n_values || a->row[i].value <= b->row[j].value);
		bool in_b = j < b->n_values && (i == a->n_values || b->row[j].value <= a->row[i].value);
		uint64_t value = in_a ? a->row[i].value : b->row[j].value;
		step(&s, value, in_a ? a->row[i].n : 0, in_b ? b->row[j].n : 0);
		i += in_a;
		j += in_b;
	}
	finish(out, &s, is_ordered);
}

void nssm_diverge_counts(double out[NSSM_N_DIVS], const uint64_t *a, const uint64_t *b, int k)
{
	uint64_t na = 0, nb = 0;
	for (int i = 0; i < k; i++) {
		na += a[i];
		nb += b[i];
	}
	struct sums s = {.na = (double)na, .nb = (double)nb};
	if (one_is_empty(out, na, nb, true))
		return;
	for (int i = 0; i < k; i++)
		if (a[i] + b[i] > 0)
			step(&s, (uint64_t)i, a[i], b[i]);
	finish(out, &s, true);
}
