#include "replay/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "model/jsonfile.h"
#include "model/vocab.h"
#include "replay/labels.h"
#include "replay/reader_impl.h"

/* --- labels --------------------------------------------------------------------------------------------------- */

static bool strip(const char *name, size_t *n, const char *suffix)
{
	size_t k = strlen(suffix);
	if (*n <= k || strncasecmp(name + *n - k, suffix, k) != 0)
		return false;
	*n -= k;
	return true;
}

/* A label out of a file's name. A special token's name gets a _ in front. */
static int label_of_name(struct nssm_vocab *v, const char *path, struct nssm_err *err)
{
	const char *slash = strrchr(path, '/'), *name = strcmp(path, "-") == 0 ? "stdin" : path;
	if (slash != NULL)
		name = slash + 1;
	size_t n = strlen(name);
	strip(name, &n, ".gz");
	if (!strip(name, &n, ".pcapng") && !strip(name, &n, ".pcap"))
		strip(name, &n, ".cap");
	char label[1 + NSSM_LABEL_BYTES] = "_";
	n = n < NSSM_LABEL_BYTES - 1 ? n : NSSM_LABEL_BYTES - 2;
	memcpy(label + 1, name, n);
	for (char *c = label + 1; *c != '\0'; c++)
		if (strspn(c, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:+-") == 0)
			*c = '_';
	struct nssm_err other;
	int idx = n > 0 ? nssm_vocab_add_label(v, label + 1, &other) : -1;
	return idx >= 0 ? idx : nssm_vocab_add_label(v, label, err);
}

static int label_of(struct nssm_reader *r, struct nssm_labels *csv, const char *path, struct nssm_err *err)
{
	struct nssm_label_row *row = NULL;
	int rc = csv != NULL ? nssm_labels_find(csv, path, &row, err) : 0;
	if (rc != 0)
		return rc;
	if (row == NULL && csv != NULL && r->cfg.label == NULL)
		return nssm_err_set(
		        err, NSSM_EARG, "%s: no row in %s, and no label for all", path, r->cfg.labels_csv);
	const char *label = row != NULL ? row->label : r->cfg.label;
	struct nssm_err why;
	int idx = label != NULL ? nssm_vocab_add_label(r->labels, label, &why)
	                        : label_of_name(r->labels, path, &why);
	return idx >= 0 ? idx : nssm_err_set(err, why.code, "%.200s: %.300s", path, why.msg);
}

static int find_labels(struct nssm_reader *r, struct nssm_err *err)
{
	struct nssm_labels *csv = NULL;
	int rc = 0;
	r->labels = calloc(1, sizeof *r->labels);
	if (r->labels == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for labels");
	nssm_vocab_init(r->labels);
	if (r->cfg.labels_csv != NULL)
		rc = nssm_labels_load(&csv, r->cfg.labels_csv, err);
	for (uint32_t i = 0; rc >= 0 && i < r->cfg.n_paths; i++) {
		rc = label_of(r, csv, r->cfg.path[i], err);
		r->file[i].label_idx = (uint32_t)rc;
	}
	nssm_labels_close(&csv);
	if (rc < 0)
		return rc;
	r->label = calloc(r->labels->n_labels, sizeof *r->label);
	if (r->label == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for labels");
	for (uint32_t i = 0; i < r->labels->n_labels; i++)
		r->label[i] = r->labels->label[i].name;
	return 0;
}

/* --- opening -------------------------------------------------------------------------------------------------- */

/* What can be known of a file before its turn comes: a run does not stop halfway for a misspelt name. Pipes are left
 * alone. */
static int look_at(struct nssm_reader *r, uint32_t i, struct nssm_err *err)
{
	const char *path = r->cfg.path[i];
	struct stat st;
	if (strcmp(path, "-") == 0) {
		for (uint32_t k = 0; k < i; k++)
			if (strcmp(r->cfg.path[k], "-") == 0)
				return nssm_err_set(err, NSSM_EARG, "-: standard input is given twice");
		return 0;
	}
	if (stat(path, &st) == 0) {
		r->file[i].regular = S_ISREG(st.st_mode);
		if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
			return 0;
	}
	struct nssm_capture *c;
	struct nssm_err why;
	int rc = nssm_capture_open(&c, path, &why);
	if (rc == 0) {
		r->file[i].bytes = nssm_capture_info(c)->file_bytes;
		nssm_capture_close(&c);
	} else if (!r->cfg.keep_going || rc == NSSM_ENOMEM) {
		return nssm_err_set(err, rc, "%s", why.msg);
	}
	return 0;
}

static int compile(struct nssm_reader *r, struct nssm_err *err)
{
	if (r->cfg.filter == NULL)
		return 0;
	pcap_t *dead = pcap_open_dead(DLT_EN10MB, NSSM_CAPTURE_CAPLEN_MAX);
	if (dead == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a filter");
	int rc = 0;
	if (pcap_compile(dead, &r->filter, r->cfg.filter, 1, PCAP_NETMASK_UNKNOWN) != 0)
		rc = nssm_err_set(
		        err, NSSM_EARG, "filter \"%s\": %s", nssm_quote(r->cfg.filter).s, pcap_geterr(dead));
	else
		r->filtering = true;
	pcap_close(dead);
	return rc;
}

static int take_memory(struct nssm_reader *r, struct nssm_err *err)
{
	uint32_t n = r->cfg.n_paths;
	r->n_feeds = r->cfg.merge ? n : 1;
	r->file = calloc(n, sizeof *r->file);
	r->feed = calloc(r->n_feeds, sizeof *r->feed);
	r->heap = calloc(r->n_feeds, sizeof(struct nssm_feed *));
	if (r->cfg.pad)
		r->pad = malloc(NSSM_CAPTURE_CAPLEN_MAX);
	if (r->file == NULL || r->feed == NULL || r->heap == NULL || (r->cfg.pad && r->pad == NULL))
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for %u captures", n);
	return 0;
}

/* A pass over all files starts with the next packet. */
static void start_pass(struct nssm_reader *r)
{
	r->state = 1;
	r->next_file = 0;
	r->given = false;
	r->base_ns = r->base_at_ns = r->next_at_ns = 0;
	r->first_ns = 0;
	r->pass_packets = r->pass_last_ns = r->pass_read = 0;
	r->pass_filtered = r->pass_too_long = r->pass_no_session = 0;
	r->done_bytes = 0;
	r->counters.done = false;
}

int nssm_reader_open(struct nssm_reader **rp, const struct nssm_reader_cfg *cfg, struct nssm_err *err)
{
	*rp = NULL;
	if (cfg->n_paths == 0)
		return nssm_err_set(err, NSSM_EARG, "no captures to read");
	if (cfg->mtu_mode != NSSM_MTU_NONE && cfg->mtu == 0)
		return nssm_err_set(err, NSSM_EARG, "an MTU of 0 leaves nothing of any packet");
	struct nssm_reader *r = calloc(1, sizeof *r);
	if (r == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a reader");
	r->cfg = *cfg;
	int rc = take_memory(r, err);
	if (rc == 0)
		rc = compile(r, err);
	for (uint32_t i = 0; rc == 0 && i < cfg->n_paths; i++)
		rc = look_at(r, i, err);
	if (rc == 0)
		rc = find_labels(r, err);
	if (rc != 0) {
		nssm_reader_close(&r);
		return rc;
	}
	start_pass(r);
	*rp = r;
	return 0;
}

void nssm_reader_close(struct nssm_reader **rp)
{
	struct nssm_reader *r = *rp;
	if (r == NULL)
		return;
	for (uint32_t i = 0; r->feed != NULL && i < r->n_feeds; i++) {
		nssm_splitter_close(&r->feed[i].splitter);
		nssm_capture_close(&r->feed[i].capture);
		free(r->feed[i].session);
	}
	if (r->filtering)
		pcap_freecode(&r->filter);
	free(r->feed);
	free(r->heap);
	free(r->file);
	free(r->label);
	free(r->labels);
	free(r->pad);
	free(r);
	*rp = NULL;
}

/* --- the open captures, by time ------------------------------------------------------------------------------- */

static bool before(const struct nssm_feed *a, const struct nssm_feed *b)
{
	return a->t_ns != b->t_ns ? a->t_ns < b->t_ns : a->file < b->file;
}

static void sift_down(struct nssm_reader *r)
{
	struct nssm_feed *f = r->heap[0];
	uint32_t i = 0, kid;
	while ((kid = 2 * i + 1) < r->n_heap) {
		if (kid + 1 < r->n_heap && before(r->heap[kid + 1], r->heap[kid]))
			kid++;
		if (!before(r->heap[kid], f))
			break;
		r->heap[i] = r->heap[kid];
		i = kid;
	}
	r->heap[i] = f;
}

static void push(struct nssm_reader *r, struct nssm_feed *f)
{
	uint32_t i = r->n_heap++;
	for (; i > 0 && before(f, r->heap[(i - 1) / 2]); i = (i - 1) / 2)
		r->heap[i] = r->heap[(i - 1) / 2];
	r->heap[i] = f;
}

void nssm_reader_see_done(struct nssm_reader *r)
{
	uint64_t n = r->next_session;
	for (uint32_t i = 0; i < r->n_heap; i++)
		n = r->heap[i]->lowest < n ? r->heap[i]->lowest : n;
	r->done_below = n;
}

/* A capture gives no more: got 0, or an error, which ends the run or is counted. */
static int over(struct nssm_reader *r, struct nssm_feed *f, int got, const struct nssm_err *why)
{
	nssm_feed_close(r, f);
	if (got == 0)
		return 0;
	if (!r->cfg.keep_going || got == NSSM_ENOMEM || got == NSSM_EINTR) {
		r->last = *why;
		return got;
	}
	if (r->n_bad++ == 0)
		r->first_bad = *why;
	return 0;
}

/* Opens the next file, or all when they are merged. */
static int open_files(struct nssm_reader *r)
{
	struct nssm_err why;
	for (uint32_t i = 0; i < r->n_feeds; i++) {
		struct nssm_feed *f = &r->feed[i];
		int got = nssm_feed_open(r, f, r->next_file++, &why);
		int rc = got <= 0 ? over(r, f, got, &why) : 0;
		if (rc != 0)
			return rc;
		if (got == 1)
			push(r, f);
	}
	r->rebase = true;
	return 0;
}

/* The heap's first capture goes on to its next packet. */
static int advance(struct nssm_reader *r)
{
	struct nssm_err why;
	struct nssm_feed *f = r->heap[0];
	int got = nssm_feed_fetch(r, f, &why), rc = 0;
	if (got <= 0) {
		r->heap[0] = r->heap[--r->n_heap];
		rc = over(r, f, got, &why);
	}
	if (r->n_heap > 1)
		sift_down(r);
	if (got <= 0)
		nssm_reader_see_done(r);
	return rc;
}

/* --- packets -------------------------------------------------------------------------------------------------- */

/* A pass that gave nothing is an error that says where the packets went. */
static int say_empty(struct nssm_reader *r)
{
	char name[300];
	snprintf(name, sizeof name, "%.200s", r->cfg.path[0]);
	if (r->cfg.n_paths > 1)
		snprintf(name, sizeof name, "%.200s and %u more", r->cfg.path[0], r->cfg.n_paths - 1);
	if (r->n_bad > 0) {
		struct nssm_err why = r->first_bad;
		return nssm_err_set(&r->last, why.code, "%s: no packet to send; %.250s", name, why.msg);
	}
	if (r->pass_read == 0)
		return nssm_err_set(&r->last, NSSM_EARG, "%s: no packet to send: there is none", name);
	char filter[128] = "no filter";
	if (r->filtering)
		snprintf(filter, sizeof filter, "the filter \"%.100s\"", nssm_quote(r->cfg.filter).s);
	return nssm_err_set(&r->last, NSSM_EARG,
	        "%s: no packet to send: of %llu, %s left out %llu, the MTU %llu, and %llu belong to no "
	        "session",
	        name, (unsigned long long)r->pass_read, filter, (unsigned long long)r->pass_filtered,
	        (unsigned long long)r->pass_too_long, (unsigned long long)r->pass_no_session);
}

static int end_pass(struct nssm_reader *r)
{
	r->state = 0;
	r->counters.done = true;
	r->duration_ns = r->pass_last_ns;
	r->packets = r->pass_packets;
	return r->pass_packets == 0 && !r->limited ? say_empty(r) : 0;
}

static void close_all(struct nssm_reader *r)
{
	while (r->n_heap > 0)
		nssm_feed_close(r, r->heap[--r->n_heap]);
	nssm_reader_see_done(r);
}

/* 1; 0: the pass is over; < 0: r->last. */
static int next(struct nssm_reader *r, struct nssm_read_pkt *p)
{
	for (;;) {
		int rc = 0;
		if (r->given)
			rc = advance(r);
		r->given = false;
		while (rc == 0 && r->n_heap == 0 && r->next_file < r->cfg.n_paths)
			rc = open_files(r);
		if (rc < 0)
			return rc;
		if (r->n_heap == 0)
			return end_pass(r);
		r->given = true;
		rc = nssm_feed_give(r, r->heap[0], p, &r->last);
		if (rc != 0)
			return rc;
	}
}

int nssm_reader_next(struct nssm_reader *r, struct nssm_read_pkt *p, struct nssm_err *err)
{
	struct nssm_source_counters *c = &r->counters;
	if (r->state == 1 && r->cfg.max_packets > 0 && c->packets >= r->cfg.max_packets) {
		r->limited = true;
		close_all(r);
		end_pass(r);
	}
	if (r->state == 1) {
		int rc = next(r, p);
		if (rc == 1) {
			r->pass_packets++;
			r->pass_last_ns = p->t_ns;
			c->packets++;
			c->bytes += p->wirelen;
			return 1;
		}
		if (rc < 0) {
			close_all(r);
			r->state = rc;
		}
	}
	if (r->state < 0 && err != NULL)
		*err = r->last;
	return r->state;
}

int nssm_reader_rewind(struct nssm_reader *r, struct nssm_err *err)
{
	if (r->state < 0) {
		if (err != NULL)
			*err = r->last;
		return r->state;
	}
	for (uint32_t i = 0; i < r->cfg.n_paths; i++)
		if (!r->file[i].regular)
			return nssm_err_set(
			        err, NSSM_EUNSUP, "%s: not a file, cannot be read again", r->cfg.path[i]);
	close_all(r);
	start_pass(r);
	return r->limited;
}

/* --- what it says of itself ----------------------------------------------------------------------------------- */

uint64_t nssm_reader_done_below(const struct nssm_reader *r)
{
	return r->done_below;
}

uint64_t nssm_reader_duration(const struct nssm_reader *r)
{
	return r->duration_ns;
}

uint64_t nssm_reader_packets(const struct nssm_reader *r)
{
	return r->packets;
}

uint64_t nssm_reader_first_ns(const struct nssm_reader *r)
{
	return r->first_ns;
}

const struct nssm_source_counters *nssm_reader_counters(const struct nssm_reader *r)
{
	return &r->counters;
}

uint64_t nssm_reader_time_back(const struct nssm_reader *r)
{
	return r->time_back;
}

uint64_t nssm_reader_no_session(const struct nssm_reader *r)
{
	return r->no_session;
}

uint64_t nssm_reader_bad(const struct nssm_reader *r, struct nssm_err *first)
{
	if (r->n_bad > 0 && first != NULL)
		*first = r->first_bad;
	return r->n_bad;
}

const char *const *nssm_reader_labels(const struct nssm_reader *r, uint32_t *n)
{
	*n = r->labels->n_labels;
	return r->label;
}

void nssm_reader_progress(const struct nssm_reader *r, uint64_t *done, uint64_t *total)
{
	*done = r->done_bytes;
	*total = 0;
	for (uint32_t i = 0; i < r->n_heap; i++)
		*done += nssm_capture_info(r->heap[i]->capture)->read_bytes;
	bool known = true;
	for (uint32_t i = 0; i < r->cfg.n_paths; i++) {
		*total += r->file[i].bytes;
		known &= r->file[i].regular;
	}
	if (!known)
		*total = 0;
}
