#include "app/eval/set.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "replay/labels.h"

#define NAMED_MOST 5 /* missing files that are named one by one */

/* The CSV behind what the user gave, and the folder that its files are in. */
static int find_csv(char csv[PATH_MAX], char dir[PATH_MAX], const char *flag, const char *path, struct nssm_err *err)
{
	struct stat st;
	if (stat(path, &st) != 0)
		return nssm_err_set(err, NSSM_EIO, "%s: %.300s: cannot open: %s", flag, path, strerror(errno));
	bool folder = S_ISDIR(st.st_mode);
	if ((size_t)snprintf(csv, PATH_MAX, "%s%s", path, folder ? "/labels.csv" : "") >= PATH_MAX)
		return nssm_err_set(err, NSSM_EARG, "%s: %.200s: path too long", flag, path);
	if (folder && stat(csv, &st) != 0)
		return nssm_err_set(err, NSSM_EIO, "%s: expected a labels.csv (columns File,Label) in folder %.300s, found none", flag, path);
	const char *slash = strrchr(csv, '/');
	snprintf(dir, PATH_MAX, "%.*s", slash != NULL ? (int)(slash - csv + 1) : 0, csv);
	return 0;
}

static bool wanted(const struct nssm_eval_choice *c, const struct nssm_label_row *row)
{
	bool named = c->n_only == 0;
	for (size_t i = 0; i < c->n_only && !named; i++)
		named = strcmp(c->only[i], row->label) == 0;
	return named && (c->split == NULL || strcmp(row->split, c->split) == 0);
}

static int add(struct nssm_eval_set *s, const char *dir, const struct nssm_label_row *row, void (*warn)(const char *), struct nssm_err *err)
{
	char path[PATH_MAX], msg[PATH_MAX + 160];
	struct stat st;
	if ((size_t)snprintf(path, sizeof path, "%s%s", row->file[0] == '/' ? "" : dir, row->file) >= sizeof path)
		return nssm_err_set(err, NSSM_EARG, "%s: %.200s: path too long", s->flag, row->file);
	if (stat(path, &st) != 0) {
		snprintf(msg, sizeof msg, "%s: %s: %s, left out", s->flag, path, strerror(errno));
		if (s->n_missing++ < NAMED_MOST)
			warn(msg);
		return 0;
	}
	for (size_t i = 0; i < s->n; i++) {
		const struct nssm_eval_file *f = &s->file[i];
		if (f->dev != st.st_dev || f->ino != st.st_ino)
			continue;
		if (strcmp(f->label, row->label) == 0)
			return 0;
		return nssm_err_set(err, NSSM_EARG, "%s: %.200s has the label %.64s and, as %.100s, %.64s", s->flag, path, row->label, f->path, f->label);
	}
	struct nssm_eval_file *f = &s->file[s->n];
	*f = (struct nssm_eval_file){.path = strdup(path), .label = strdup(row->label), .dev = st.st_dev, .ino = st.st_ino};
	s->n++;
	return f->path != NULL && f->label != NULL ? 0 : nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a list of captures", s->flag);
}

int nssm_eval_set_load(struct nssm_eval_set *s, const char *flag, const char *path, const struct nssm_eval_choice *choice,
	void (*warn)(const char *msg), struct nssm_err *err)
{
	char csv[PATH_MAX], dir[PATH_MAX];
	struct nssm_labels *l = NULL;
	*s = (struct nssm_eval_set){.flag = flag, .path = path};
	int rc = find_csv(csv, dir, flag, path, err);
	if (rc == 0)
		rc = nssm_labels_load(&l, csv, err);
	if (rc != 0)
		return rc;
	if (choice->split != NULL && !l->has_split)
		rc = nssm_err_set(err, NSSM_EFORMAT, "%s: %.300s: expected a column Split, as %.64s is asked for, found none", flag, csv, choice->split);
	else if ((s->file = calloc((size_t)l->n + 1, sizeof *s->file)) == NULL)
		rc = nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a list of captures", flag);
	for (uint32_t i = 0; i < l->n && rc == 0; i++)
		if (wanted(choice, &l->row[i]))
			rc = add(s, dir, &l->row[i], warn, err);
	nssm_labels_close(&l);
	if (rc == 0 && s->n == 0)
		rc = nssm_err_set(err, NSSM_EARG, "%s: %.300s: expected captures to compare%s%.64s, found none (%u of its rows name files that are not there)",
		        flag, csv, choice->split != NULL ? " with Split " : "", choice->split != NULL ? choice->split : "", (unsigned)s->n_missing);
	if (rc != 0)
		nssm_eval_set_free(s);
	return rc;
}

void nssm_eval_set_free(struct nssm_eval_set *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->file[i].path);
		free(s->file[i].label);
		free(s->file[i].problem);
	}
	free(s->file);
	*s = (struct nssm_eval_set){0};
}

size_t nssm_eval_set_overlap(const struct nssm_eval_set *a, const struct nssm_eval_set *b)
{
	size_t n = 0;
	for (size_t i = 0; i < a->n; i++)
		for (size_t j = 0; j < b->n; j++)
			n += a->file[i].dev == b->file[j].dev && a->file[i].ino == b->file[j].ino;
	return n;
}
