#include "replay/labels.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define MAX_COLUMNS 256

/* One record of the CSV: fields are cut out of text in place. */
struct cursor {
	char *at, *end;
	uint32_t line;
};

/* Reads a field and what ends it: ',' or '\n' or '\0' (end of text). NULL: a quote is not closed. */
static char *field(struct cursor *c, char *sep)
{
	char *from = c->at, *to = c->at;
	if (c->at < c->end && *c->at == '"') {
		for (c->at++;;) {
			if (c->at == c->end)
				return NULL;
			if (*c->at == '"') {
				if (c->at + 1 == c->end || c->at[1] != '"')
					break;
				c->at++;
			}
			c->line += *c->at == '\n';
			*to++ = *c->at++;
		}
		c->at++;
	}
	while (c->at < c->end && *c->at != ',' && *c->at != '\n')
		*to++ = *c->at++;
	*sep = c->at < c->end ? *c->at++ : '\0';
	if (*sep != ',' && to > from && to[-1] == '\r')
		to--;
	*to = '\0';
	return from;
}

static int record(struct cursor *c, char *out[MAX_COLUMNS], int *n, const char *path, struct nssm_err *err)
{
	char sep = ',';
	for (*n = 0; sep == ',';) {
		if (*n == MAX_COLUMNS)
			return nssm_err_set(err, NSSM_EFORMAT, "%s:%u: more than %d columns", path, c->line, MAX_COLUMNS);
		uint32_t line = c->line;
		out[*n] = field(c, &sep);
		if (out[(*n)++] == NULL)
			return nssm_err_set(err, NSSM_EFORMAT, "%s:%u: a quote is opened and never closed", path, line);
	}
	c->line++;
	return 0;
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static int by_path(const void *a, const void *b, void *ctx)
{
	const struct nssm_labels *l = ctx;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int c = strcmp(l->row[x].file, l->row[y].file);
	return c ? c : (x > y) - (x < y);
}

static int by_base(const void *a, const void *b, void *ctx)
{
	const struct nssm_labels *l = ctx;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int c = strcmp(base_of(l->row[x].file), base_of(l->row[y].file));
	return c ? c : (x > y) - (x < y);
}

static int column(char *const *head, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(head[i], name) == 0)
			return i;
	return -1;
}

static int read_rows(struct nssm_labels *l, struct cursor *c, struct nssm_err *err)
{
	char *f[MAX_COLUMNS];
	int n, rc = record(c, f, &n, l->path, err);
	if (rc != 0)
		return rc;
	int file = column(f, n, "File"), label = column(f, n, "Label"), split = column(f, n, "Split");
	if (file < 0 || label < 0)
		return nssm_err_set(err, NSSM_EFORMAT, "%s:1: expected a header with the columns File and Label, found '%.80s'", l->path,
			n > 0 ? f[0] : "");
	l->has_split = split >= 0;
	while (c->at < c->end) {
		uint32_t line = c->line;
		rc = record(c, f, &n, l->path, err);
		if (rc != 0)
			return rc;
		if (n == 1 && f[0][0] == '\0')
			continue; /* an empty line */
		if (n <= file || n <= label || n <= split)
			return nssm_err_set(err, NSSM_EFORMAT, "%s:%u: %d columns, expected as many as the header has", l->path, line, n);
		l->row[l->n++] = (struct nssm_label_row){.file = f[file], .label = f[label], .split = split >= 0 ? f[split] : "",
			.line = line};
	}
	return 0;
}

static int load(struct nssm_labels *l, const struct nssm_map *m, struct nssm_err *err)
{
	size_t skip = m->len >= 3 && memcmp(m->data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0, lines = 1;
	if (memchr(m->data, '\0', m->len) != NULL)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: holds a zero byte: no CSV", l->path);
	for (size_t i = 0; i < m->len; i++)
		lines += m->data[i] == '\n';
	l->text = malloc(m->len + 1);
	l->row = calloc(lines, sizeof *l->row);
	l->by_path = calloc(lines, sizeof *l->by_path);
	l->by_base = calloc(lines, sizeof *l->by_base);
	if (!l->text || !l->row || !l->by_path || !l->by_base)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for %zu rows", l->path, lines);
	memcpy(l->text, m->data, m->len);
	l->text[m->len] = '\0';
	struct cursor c = {.at = l->text + skip, .end = l->text + m->len, .line = 1};
	int rc = read_rows(l, &c, err);
	for (uint32_t i = 0; i < l->n; i++)
		l->by_path[i] = l->by_base[i] = i;
	qsort_r(l->by_path, l->n, sizeof *l->by_path, by_path, l);
	qsort_r(l->by_base, l->n, sizeof *l->by_base, by_base, l);
	return rc;
}

int nssm_labels_load(struct nssm_labels **lp, const char *path, struct nssm_err *err)
{
	*lp = NULL;
	struct nssm_map m;
	int rc = nssm_map_open(&m, path, err);
	if (rc != 0)
		return rc;
	struct nssm_labels *l = calloc(1, sizeof *l + strlen(path) + 1);
	if (l == NULL) {
		nssm_map_close(&m);
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory", path);
	}
	strcpy(l->path, path);
	rc = m.len == 0 ? nssm_err_set(err, NSSM_EFORMAT, "%s: empty; expected a CSV with the columns File,Label", path)
			: load(l, &m, err);
	nssm_map_close(&m);
	if (rc != 0)
		nssm_labels_close(&l);
	*lp = l;
	return rc;
}

void nssm_labels_close(struct nssm_labels **lp)
{
	struct nssm_labels *l = *lp;
	if (l == NULL)
		return;
	free(l->row);
	free(l->text);
	free(l->by_path);
	free(l->by_base);
	free(l);
	*lp = NULL;
}

/* First entry of a sorted index whose key is not below name. */
static uint32_t lower_bound(const struct nssm_labels *l, const uint32_t *idx, bool base, const char *name)
{
	uint32_t lo = 0, hi = l->n;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const char *f = l->row[idx[mid]].file;
		if (strcmp(base ? base_of(f) : f, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int match(struct nssm_labels *l, const uint32_t *idx, bool base, const char *name, struct nssm_label_row **row,
	struct nssm_err *err)
{
	*row = NULL;
	for (uint32_t i = lower_bound(l, idx, base, name); i < l->n; i++) {
		struct nssm_label_row *r = &l->row[idx[i]];
		if (strcmp(base ? base_of(r->file) : r->file, name) != 0)
			break;
		if (*row != NULL && (strcmp((*row)->label, r->label) != 0 || strcmp((*row)->split, r->split) != 0))
			return nssm_err_set(err, NSSM_EFORMAT, "%s:%u: %s: labelled %s,%s here and %s,%s in line %u", l->path, r->line, name,
				r->label, r->split, (*row)->label, (*row)->split, (*row)->line);
		if (*row == NULL)
			*row = r;
		r->used = true;
	}
	return 0;
}

int nssm_labels_find(struct nssm_labels *l, const char *rel_path, struct nssm_label_row **row, struct nssm_err *err)
{
	int rc = match(l, l->by_path, false, rel_path, row, err);
	return rc != 0 || *row != NULL ? rc : match(l, l->by_base, true, base_of(rel_path), row, err);
}
