#include "replay/labels.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/jsonfile.h"

#define MAX_COLUMNS 256

/* Where the columns are; split −1: nowhere. */
struct columns {
	int n, file, label, split;
};

/* One record of the CSV: fields are cut out of text in place. */
struct cursor {
	char *at, *end;
	uint32_t line;
};

/* Reads a field and what ends it: ',' or '\n' or '\0' (end of text). NULL: *why. */
static char *field(struct cursor *c, char *sep, const char **why)
{
	char *from = c->at, *to = c->at;
	bool quoted = c->at < c->end && *c->at == '"';
	if (quoted) {
		*why = "a quote is opened and never closed";
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
	char *plain = c->at;
	while (c->at < c->end && *c->at != ',' && *c->at != '\n')
		c->at++;
	size_t n = (size_t)(c->at - plain);
	*sep = c->at < c->end ? *c->at++ : '\0';
	if (*sep != ',' && n > 0 && plain[n - 1] == '\r')
		n--;
	*why = "a quoted field goes on after its closing quote";
	if (quoted && n > 0)
		return NULL;
	memmove(to, plain, n);
	to[n] = '\0';
	return from;
}

static int record(struct cursor *c, char *out[MAX_COLUMNS], int *n, const char *path, struct nssm_err *err)
{
	char sep = ',';
	for (*n = 0; sep == ',';) {
		if (*n == MAX_COLUMNS)
			return nssm_err_set(
			        err, NSSM_EFORMAT, "%s:%u: more than %d columns", path, c->line, MAX_COLUMNS);
		uint32_t line = c->line;
		const char *why;
		out[*n] = field(c, &sep, &why);
		if (out[(*n)++] == NULL)
			return nssm_err_set(err, NSSM_EFORMAT, "%s:%u: column %d: %s", path, line, *n, why);
	}
	c->line++;
	return 0;
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* By base name, shorter paths first (so that a base name alone is the first of its kind). */
static int compare(const char *a, const char *b)
{
	size_t n = strlen(a), k = strlen(b);
	int c = strcmp(base_of(a), base_of(b));
	return c ? c : n != k ? (n > k) - (n < k) : strcmp(a, b);
}

static int by_base(const void *a, const void *b, void *ctx)
{
	const struct nssm_labels *l = ctx;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int c = compare(l->row[x].file, l->row[y].file);
	return c ? c : (x > y) - (x < y);
}

/* The header's column of that name; −1: none, −2: more than one. */
static int column(char *const *head, int n, const char *name)
{
	int at = -1;
	for (int i = 0; i < n; i++)
		if (strcmp(head[i], name) == 0)
			at = at == -1 ? i : -2;
	return at;
}

static int read_header(struct nssm_labels *l, struct columns *col, struct cursor *c, struct nssm_err *err)
{
	char *f[MAX_COLUMNS];
	int rc = record(c, f, &col->n, l->path, err);
	if (rc != 0)
		return rc;
	col->file = column(f, col->n, "File");
	col->label = column(f, col->n, "Label");
	col->split = column(f, col->n, "Split");
	if (col->file == -2 || col->label == -2 || col->split == -2)
		return nssm_err_set(err, NSSM_EFORMAT, "%s:1: the column %s is there twice", l->path,
		        col->file == -2    ? "File"
		        : col->label == -2 ? "Label"
		                           : "Split");
	if (col->file < 0 || col->label < 0)
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s:1: expected a header with the columns File and Label, found %d columns, the "
		        "first \"%s\"",
		        l->path, col->n, nssm_quote(f[0]).s);
	l->has_split = col->split >= 0;
	return 0;
}

/* A spreadsheet leaves rows of nothing but commas. */
static bool all_empty(char *const *f, int n)
{
	for (int i = 0; i < n; i++)
		if (f[i][0] != '\0')
			return false;
	return true;
}

static int read_rows(struct nssm_labels *l, struct cursor *c, struct nssm_err *err)
{
	char *f[MAX_COLUMNS];
	struct columns col;
	int n, rc = read_header(l, &col, c, err);
	while (rc == 0 && c->at < c->end) {
		uint32_t line = c->line;
		rc = record(c, f, &n, l->path, err);
		if (rc != 0)
			return rc;
		if (all_empty(f, n))
			continue;
		/* A comma too many means that a name with a comma was not quoted: its parts are not a label.
		 */
		if (n <= col.file || n <= col.label || n <= col.split ||
		        (n > col.n && !all_empty(f + col.n, n - col.n)))
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s:%u: %d columns, expected as many as the header has: %d", l->path, line, n,
			        col.n);
		while (strncmp(f[col.file], "./", 2) == 0)
			f[col.file] += 2;
		if (f[col.file][0] == '\0')
			return nssm_err_set(
			        err, NSSM_EFORMAT, "%s:%u: the column File is empty", l->path, line);
		l->row[l->n++] = (struct nssm_label_row){.file = f[col.file],
		        .label = f[col.label],
		        .split = col.split >= 0 ? f[col.split] : "",
		        .line = line};
	}
	return rc;
}

static int load(struct nssm_labels *l, const char *data, size_t len, struct nssm_err *err)
{
	if (len == 0)
		return nssm_err_set(
		        err, NSSM_EFORMAT, "%s: empty; expected a CSV with the columns File,Label", l->path);
	if (memchr(data, '\0', len) != NULL)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: holds a zero byte: no CSV", l->path);
	size_t skip = len >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0, lines = 1;
	for (size_t i = 0; i < len; i++)
		lines += data[i] == '\n';
	if (lines > UINT32_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "%s: more than %u lines", l->path, UINT32_MAX);
	l->text = malloc(len + 1);
	l->row = calloc(lines, sizeof *l->row);
	l->by_base = calloc(lines, sizeof *l->by_base);
	if (!l->text || !l->row || !l->by_base)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for %zu rows", l->path, lines);
	memcpy(l->text, data, len);
	l->text[len] = '\0';
	struct cursor c = {.at = l->text + skip, .end = l->text + len, .line = 1};
	int rc = read_rows(l, &c, err);
	for (uint32_t i = 0; i < l->n; i++)
		l->by_base[i] = i;
	qsort_r(l->by_base, l->n, sizeof *l->by_base, by_base, l);
	return rc;
}

int nssm_labels_load_mem(
        struct nssm_labels **lp, const char *data, size_t len, const char *where, struct nssm_err *err)
{
	struct nssm_labels *l = *lp = calloc(1, sizeof *l + strlen(where) + 1);
	if (l == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory", where);
	strcpy(l->path, where);
	int rc = load(l, data, len, err);
	if (rc != 0)
		nssm_labels_close(lp);
	return rc;
}

int nssm_labels_load(struct nssm_labels **lp, const char *path, struct nssm_err *err)
{
	*lp = NULL;
	struct nssm_map m;
	int rc = nssm_map_open(&m, path, err);
	if (rc != 0)
		return rc;
	rc = nssm_labels_load_mem(lp, (const char *)m.data, m.len, path, err);
	nssm_map_close(&m);
	return rc;
}

void nssm_labels_close(struct nssm_labels **lp)
{
	struct nssm_labels *l = *lp;
	if (l == NULL)
		return;
	free(l->row);
	free(l->text);
	free(l->by_base);
	free(l);
	*lp = NULL;
}

/* First entry of the index that is not below this path. */
static uint32_t lower_bound(const struct nssm_labels *l, const char *path)
{
	uint32_t lo = 0, hi = l->n;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (compare(l->row[l->by_base[mid]].file, path) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* One path is the end of the other, whole components. */
static bool ends_alike(const char *a, const char *b)
{
	size_t n = strlen(a), k = strlen(b);
	if (n < k) {
		const char *shorter = a;
		a = b;
		b = shorter;
		n = strlen(a);
		k = strlen(b);
	}
	return strcmp(a + n - k, b) == 0 && (n == k || a[n - k - 1] == '/');
}

/* Of the rows from an index entry on, with this base name: those that write the path so (whole), or end
 * alike. */
static int match(struct nssm_labels *l, uint32_t from, bool whole, const char *path,
        struct nssm_label_row **row, struct nssm_err *err)
{
	const char *base = base_of(path);
	*row = NULL;
	for (uint32_t i = from; i < l->n; i++) {
		struct nssm_label_row *r = &l->row[l->by_base[i]];
		if (strcmp(whole ? r->file : base_of(r->file), whole ? path : base) != 0)
			break;
		if (!ends_alike(r->file, path))
			continue;
		if (*row != NULL &&
		        (strcmp((*row)->label, r->label) != 0 || strcmp((*row)->split, r->split) != 0))
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s:%u: %s: labelled \"%s,%s\" here and \"%s,%s\" in line %u", l->path,
			        r->line, nssm_quote(path).s, nssm_quote(r->label).s, nssm_quote(r->split).s,
			        nssm_quote((*row)->label).s, nssm_quote((*row)->split).s, (*row)->line);
		if (*row == NULL)
			*row = r;
		r->used = true;
	}
	return 0;
}

int nssm_labels_find(
        struct nssm_labels *l, const char *rel_path, struct nssm_label_row **row, struct nssm_err *err)
{
	while (strncmp(rel_path, "./", 2) == 0)
		rel_path += 2;
	int rc = match(l, lower_bound(l, rel_path), true, rel_path, row, err);
	if (rc != 0 || *row != NULL)
		return rc;
	return match(l, lower_bound(l, base_of(rel_path)), false, rel_path, row, err);
}
