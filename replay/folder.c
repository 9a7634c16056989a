#include "replay/folder.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "model/vocab.h"
#include "replay/capture.h"
#include "replay/decode.h"

struct entry {
	uint64_t session, n_packets;
	uint32_t label_idx;
	uint8_t end;
};

struct nssm_folder {
	struct nssm_folder_cfg cfg;
	char path[PATH_MAX];
	struct entry *entry;
	size_t n, cap;
	uint64_t n_packets;
	uint8_t *frame;
	bool made; /* by this run, and there is nothing whole in it yet */
};

int nssm_folder_open(struct nssm_folder **fp, const struct nssm_folder_cfg *cfg, struct nssm_err *err)
{
	struct nssm_folder *f = calloc(1, sizeof *f);
	*fp = f;
	if (f == NULL || (f->frame = malloc(NSSM_CAPTURE_CAPLEN_MAX)) == NULL) {
		nssm_folder_close(fp);
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory", cfg->path);
	}
	f->cfg = *cfg;
	int rc = 0;
	if ((size_t)snprintf(f->path, sizeof f->path, "%s", cfg->path) >= sizeof f->path)
		rc = nssm_err_set(err, NSSM_EARG, "%.200s…: path too long", cfg->path);
	if (rc == 0)
		rc = nssm_dir_make(f->path, &f->made, err);
	if (rc != 0)
		nssm_folder_close(fp);
	return rc;
}

static void file_name(char *out, size_t n, const struct nssm_folder *f, uint64_t session, uint32_t label_idx)
{
	snprintf(out, n, "%06" PRIu64 "-%s.pcap", session, f->cfg.label[label_idx]);
}

static int remember(struct nssm_folder *f, const struct entry *e, struct nssm_err *err)
{
	if (f->n == f->cap) {
		size_t cap = f->cap == 0 ? 1024 : 2 * f->cap;
		struct entry *p = realloc(f->entry, cap * sizeof *p);
		if (p == NULL)
			return nssm_err_set(
			        err, NSSM_ENOMEM, "%s: no memory for %zu rows of labels.csv", f->path, cap);
		f->entry = p;
		f->cap = cap;
	}
	f->entry[f->n++] = *e;
	return 0;
}

int nssm_folder_session(
        struct nssm_folder *f, const struct nssm_tape *t, enum nssm_end_reason end, struct nssm_err *err)
{
	assert(t->finished && t->label_idx < f->cfg.n_labels);
	char name[NSSM_LABEL_BYTES + 32], path[PATH_MAX];
	file_name(name, sizeof name, f, t->session, t->label_idx);
	int n = snprintf(path, sizeof path, "%s/%s", f->path, name);
	if (n < 0 || (size_t)n >= sizeof path)
		return nssm_err_set(err, NSSM_EARG, "%.200s…/%s: path too long", f->path, name);
	struct nssm_capture_writer *w;
	int rc = nssm_capture_create(&w, path, !f->cfg.us, f->cfg.snaplen, err);
	if (rc != 0)
		return rc;
	for (const struct nssm_rec *r = t->first; rc == 0 && r != NULL; r = nssm_rec_next(r)) {
		nssm_rec_copy(f->frame, r);
		rc = nssm_capture_write(
		        w, f->cfg.epoch_ns + t->start_ns + r->t_ns, f->frame, r->len, r->wirelen, err);
		f->n_packets += rc == 0;
	}
	if (rc != 0) {
		nssm_capture_abort(&w);
		return rc;
	}
	rc = nssm_capture_commit(&w, err);
	f->made &= rc != 0;
	const struct entry e = {t->session, t->n_packets, t->label_idx, (uint8_t)end};
	return rc != 0 ? rc : remember(f, &e, err);
}

uint64_t nssm_folder_packets(const struct nssm_folder *f)
{
	return f->n_packets;
}

static int by_session(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	return x->session < y->session ? -1 : x->session > y->session;
}

int nssm_folder_finish(struct nssm_folder *f, struct nssm_err *err)
{
	char path[PATH_MAX], name[NSSM_LABEL_BYTES + 32], line[2 * NSSM_LABEL_BYTES + 160];
	int n = snprintf(path, sizeof path, "%s/labels.csv", f->path);
	if (n < 0 || (size_t)n >= sizeof path)
		return nssm_err_set(err, NSSM_EARG, "%.200s…: path too long", f->path);
	if (f->n > 0)
		qsort(f->entry, f->n, sizeof *f->entry, by_session);
	struct nssm_outfile *of;
	int rc = nssm_outfile_open(&of, path, err);
	if (rc != 0)
		return rc;
	static const char head[] = "File,Label,Seed,Session,Packets,End\n";
	(void)nssm_outfile_write(of, head, sizeof head - 1, err); /* the first error is what commit returns */
	for (size_t i = 0; i < f->n; i++) {
		const struct entry *e = &f->entry[i];
		file_name(name, sizeof name, f, e->session, e->label_idx);
		n = snprintf(line, sizeof line, "%s,%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%s\n", name,
		        f->cfg.label[e->label_idx], f->cfg.seed, e->session, e->n_packets,
		        nssm_end_name((enum nssm_end_reason)e->end));
		assert(n > 0 && (size_t)n < sizeof line);
		(void)nssm_outfile_write(of, line, (size_t)n, err);
	}
	rc = nssm_outfile_commit(&of, err);
	f->made &= rc != 0;
	return rc;
}

void nssm_folder_close(struct nssm_folder **fp)
{
	if (*fp == NULL)
		return;
	if ((*fp)->made)
		rmdir((*fp)->path);
	free((*fp)->entry);
	free((*fp)->frame);
	free(*fp);
	*fp = NULL;
}
