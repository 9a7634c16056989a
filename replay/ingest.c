#include "replay/ingest.h"

#include <assert.h>
#include <errno.h>
#include <fts.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "model/corpus.h"
#include "model/jsonfile.h"
#include "replay/capture.h"
#include "replay/flowset.h"
#include "replay/labels.h"
#include "replay/spool.h"

#define NAMED_MOST     5    /* files that a warning names one by one */
#define PROGRESS_EVERY 4096 /* packets */

/* A capture that was chosen. */
struct job {
	char *path;
	uint32_t label_idx;
	uint64_t bytes;
	dev_t dev;
	ino_t ino; /* of regular files, else 0 */
};

/* A session that still gets packets. */
struct open_session {
	struct nssm_encoder *enc;
	struct nssm_meter *meter; /* NULL: the codec has no conditions */
	struct nssm_session_info info;
	uint64_t prev_ns;
};

struct ingest {
	const struct nssm_ingest_cfg *cfg;
	struct nssm_ingest_report *rep;
	struct nssm_labels *labels;
	struct job *job;
	size_t n_jobs, jobs_cap;
	uint64_t total_bytes, done_bytes, n_packets;
	struct nssm_vocab *vocab;
	struct nssm_label_stats *stats; /* [NSSM_VOCAB_MAX] */
	struct nssm_corpus_writer *w;
	/* the capture being read */
	uint32_t label_idx;
	struct nssm_splitter *splitter;
	struct nssm_spool *spool;
	struct open_session *open;
	uint32_t first_open, n_open, open_cap; /* sessions first_open .. first_open+n_open−1 */
	struct nssm_flow_set flows;            /* of the sessions that are open */
	struct nssm_secure_learner *secure;
	uint16_t *tokens;
};

static void warn(const struct ingest *in, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void warn(const struct ingest *in, const char *fmt, ...)
{
	if (in->cfg->warn == NULL)
		return;
	char msg[768];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	in->cfg->warn(in->cfg->ctx, msg);
}

/* --- which captures --- */

static bool is_capture_name(const char *name)
{
	static const char *const ext[] = {".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz", ".cap.gz"};
	size_t n = strlen(name);
	for (size_t i = 0; i < sizeof ext / sizeof *ext; i++) {
		size_t k = strlen(ext[i]);
		if (n > k && strcasecmp(name + n - k, ext[i]) == 0)
			return true;
	}
	return false;
}

static bool wanted(const struct nssm_ingest_cfg *cfg, const char *label)
{
	for (size_t i = 0; i < cfg->n_only; i++)
		if (strcmp(cfg->only[i], label) == 0)
			return true;
	return cfg->n_only == 0;
}

static int add_job(
        struct ingest *in, const char *path, const char *label, const struct stat *st, struct nssm_err *err)
{
	if (in->n_jobs == in->jobs_cap) {
		size_t cap = in->jobs_cap ? in->jobs_cap * 2 : 64;
		struct job *j = realloc(in->job, cap * sizeof *j);
		if (j == NULL)
			return nssm_err_set(err, NSSM_ENOMEM, "no memory for a list of %zu captures", cap);
		in->job = j;
		in->jobs_cap = cap;
	}
	int label_idx = nssm_vocab_add_label(in->vocab, label, err);
	if (label_idx < 0) {
		struct nssm_err why = *err;
		return nssm_err_set(err, why.code, "%.256s: %.240s", path, why.msg);
	}
	struct job *j = &in->job[in->n_jobs];
	*j = (struct job){.path = strdup(path), .label_idx = (uint32_t)label_idx};
	if (j->path == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory", path);
	if (S_ISREG(st->st_mode)) {
		j->bytes = (uint64_t)st->st_size;
		j->dev = st->st_dev;
		j->ino = st->st_ino;
	}
	in->n_jobs++;
	return 0;
}

/* rel: the path as a CSV would write it. */
static int choose(
        struct ingest *in, const char *path, const char *rel, const struct stat *st, struct nssm_err *err)
{
	const struct nssm_ingest_cfg *cfg = in->cfg;
	if (in->labels == NULL)
		return add_job(in, path, cfg->label, st, err);
	struct nssm_label_row *row;
	int rc = nssm_labels_find(in->labels, rel, &row, err);
	if (rc != 0)
		return rc;
	if (row == NULL) {
		if (in->rep->n_no_row++ < NAMED_MOST)
			warn(in, "%s: no row in %s, not read", path, cfg->labels);
		return 0;
	}
	if ((cfg->split != NULL && strcmp(row->split, cfg->split) != 0) || !wanted(cfg, row->label)) {
		in->rep->n_other_split++;
		return 0;
	}
	return add_job(in, path, row->label, st, err);
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* A folder that cannot be listed may hold most of what was asked for: an error. One file is a warning. */
static int entry(struct ingest *in, const FTSENT *e, size_t skip, struct nssm_err *err)
{
	const char *rel = e->fts_path + skip;
	while (*rel == '/')
		rel++;
	switch (e->fts_info) {
	case FTS_F:
		return is_capture_name(e->fts_name) ? choose(in, e->fts_path, rel, e->fts_statp, err) : 0;
	case FTS_DNR:
	case FTS_ERR:
		return nssm_err_set(
		        err, NSSM_EIO, "%s: cannot read: %s", e->fts_path, strerror(e->fts_errno));
	case FTS_NS:
	case FTS_SLNONE:
		if (is_capture_name(e->fts_name)) {
			in->rep->n_bad_files++;
			warn(in, "%s: %s", e->fts_path,
			        e->fts_info == FTS_NS ? strerror(e->fts_errno)
			                              : "a symbolic link to nothing, not read");
		}
		return 0;
	case FTS_DC:
		warn(in, "%s: a symbolic link to a folder that holds it, not followed", e->fts_path);
		return 0;
	default:
		return 0;
	}
}

static int walk(struct ingest *in, const char *root, struct nssm_err *err)
{
	struct stat st = {0};
	if (strcmp(root, "-") == 0) /* standard input */
		return choose(in, root, root, &st, err);
	if (stat(root, &st) != 0)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot open: %s", root, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return choose(in, root, root, &st, err);
	char *paths[] = {(char *)root, NULL};
	FTS *fts = fts_open(paths, FTS_LOGICAL | FTS_NOCHDIR, by_name);
	if (fts == NULL)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot list: %s", root, strerror(errno));
	int rc = 0;
	FTSENT *e = NULL;
	while (rc == 0 && (errno = 0, e = fts_read(fts)) != NULL)
		rc = entry(in, e, strlen(root), err);
	if (rc == 0 && errno != 0)
		rc = nssm_err_set(err, NSSM_EIO, "%s: cannot list: %s", root, strerror(errno));
	fts_close(fts);
	return rc;
}

static int by_file(const void *a, const void *b, void *ctx)
{
	const struct ingest *in = ctx;
	size_t x = *(const size_t *)a, y = *(const size_t *)b;
	const struct job *p = &in->job[x], *q = &in->job[y];
	if (p->dev != q->dev)
		return p->dev < q->dev ? -1 : 1;
	if (p->ino != q->ino)
		return p->ino < q->ino ? -1 : 1;
	return (x > y) - (x < y);
}

/* A file that was found twice (a folder and a file in it, a link beside its target) is read once. */
static int drop_twice(struct ingest *in, struct nssm_err *err)
{
	size_t *idx = calloc(in->n_jobs + 1, sizeof *idx);
	if (idx == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a list of %zu captures", in->n_jobs);
	for (size_t i = 0; i < in->n_jobs; i++)
		idx[i] = i;
	qsort_r(idx, in->n_jobs, sizeof *idx, by_file, in);
	int rc = 0;
	for (size_t i = 1, first = 0; rc == 0 && i < in->n_jobs; i++) {
		struct job *a = &in->job[idx[first]], *b = &in->job[idx[i]];
		if (a->ino == 0 || a->dev != b->dev || a->ino != b->ino) {
			first = i;
			continue;
		}
		if (a->label_idx != b->label_idx)
			rc = nssm_err_set(err, NSSM_EARG,
			        "%.200s, labelled %s, and %.200s, labelled %s, are the same file", a->path,
			        in->vocab->label[a->label_idx].name, b->path,
			        in->vocab->label[b->label_idx].name);
		else if (in->rep->n_twice++ < NAMED_MOST)
			warn(in, "%s: the same file as %s, read once", b->path, a->path);
		free(b->path);
		b->path = NULL;
	}
	free(idx);
	size_t n = 0;
	for (size_t i = 0; i < in->n_jobs; i++)
		if (in->job[i].path != NULL)
			in->job[n++] = in->job[i];
	in->n_jobs = n;
	return rc;
}

/* Nothing that was not written by this program is written over: an --out that names a capture or the CSV. */
static int check_out(const struct ingest *in, struct nssm_err *err)
{
	char head[sizeof NSSM_CORPUS_MAGIC - 1];
	struct stat st;
	if (stat(in->cfg->out, &st) != 0 || !S_ISREG(st.st_mode))
		return 0; /* not there, or writing will say */
	FILE *f = fopen(in->cfg->out, "rbe");
	if (f == NULL)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot open: %s", in->cfg->out, strerror(errno));
	size_t n = fread(head, 1, sizeof head, f);
	fclose(f);
	if (n > 0 && (n < sizeof head || memcmp(head, NSSM_CORPUS_MAGIC, sizeof head) != 0))
		return nssm_err_set(
		        err, NSSM_EARG, "%s: exists and is no corpus: not written over", in->cfg->out);
	return 0;
}

/* A label that was asked for and that no row has is a misspelt one. */
static int check_only(const struct ingest *in, struct nssm_err *err)
{
	const struct nssm_ingest_cfg *cfg = in->cfg;
	if (cfg->n_only > 0 && in->labels == NULL)
		return nssm_err_set(
		        err, NSSM_EARG, "prepare: --only %.100s needs a CSV of labels", cfg->only[0]);
	for (size_t k = 0; k < cfg->n_only; k++) {
		uint32_t i = 0;
		while (i < in->labels->n && strcmp(in->labels->row[i].label, cfg->only[k]) != 0)
			i++;
		if (i == in->labels->n)
			return nssm_err_set(err, NSSM_EARG, "%s: no row has the label \"%.100s\" (--only)",
			        cfg->labels, cfg->only[k]);
	}
	return 0;
}

static void warn_unused_rows(struct ingest *in)
{
	for (uint32_t i = 0; in->labels != NULL && i < in->labels->n; i++) {
		const struct nssm_label_row *r = &in->labels->row[i];
		bool meant = (in->cfg->split == NULL || strcmp(r->split, in->cfg->split) == 0) &&
		             wanted(in->cfg, r->label);
		if (r->used || !meant)
			continue;
		if (in->rep->n_rows_unused++ < NAMED_MOST)
			warn(in, "%s:%u: %s: no such capture was found", in->cfg->labels, r->line,
			        nssm_quote(r->file).s);
	}
}

static int find_captures(struct ingest *in, struct nssm_err *err)
{
	const struct nssm_ingest_cfg *cfg = in->cfg;
	int rc = 0;
	if (cfg->labels != NULL && (rc = nssm_labels_load(&in->labels, cfg->labels, err)))
		return rc;
	if (cfg->split != NULL && (in->labels == NULL || !in->labels->has_split))
		return nssm_err_set(err, NSSM_EARG,
		        "%s: --split %s needs a CSV of labels with the column Split",
		        cfg->labels ? cfg->labels : "prepare", cfg->split);
	rc = check_only(in, err);
	for (size_t i = 0; rc == 0 && i < cfg->n_captures; i++)
		rc = walk(in, cfg->captures[i], err);
	if (rc == 0)
		rc = drop_twice(in, err);
	if (rc != 0)
		return rc;
	warn_unused_rows(in);
	for (size_t i = 0; i < in->n_jobs; i++)
		in->total_bytes += in->job[i].bytes;
	if (in->n_jobs == 0)
		return nssm_err_set(err, NSSM_EARG,
		        "no captures to read: %u found without a row in the CSV, %u of another split or "
		        "label; "
		        "folders are searched for .pcap .pcapng .cap and the same with .gz",
		        in->rep->n_no_row, in->rep->n_other_split);
	return 0;
}

/* --- sessions --- */

static int append(void *ctx, const uint16_t *tokens, size_t n, struct nssm_err *err)
{
	return nssm_corpus_append(ctx, tokens, n, err);
}

/* One session open at a time goes straight into the corpus; many at once wait in the spool, and so does one whose conditions stand
 * before its packets and are known after them. */
static bool needs_spool(const struct ingest *in)
{
	return in->cfg->session_split.kind == NSSM_SPLIT_CLIENT || in->cfg->codec.conditions > 0;
}

static void free_session(struct open_session *o)
{
	nssm_encoder_close(&o->enc);
	nssm_meter_close(&o->meter);
}

static int put(struct ingest *in, uint32_t session, size_t n, struct nssm_err *err)
{
	if (in->spool != NULL)
		return nssm_spool_add(in->spool, session, in->tokens, n, err);
	return nssm_corpus_append(in->w, in->tokens, n, err);
}

static int open_sessions(struct ingest *in, uint32_t session, struct nssm_err *err)
{
	while (in->first_open + in->n_open <= session) {
		if (in->n_open == in->open_cap) {
			uint32_t cap = in->open_cap ? in->open_cap * 2 : 16;
			struct open_session *o = realloc(in->open, cap * sizeof *o);
			if (o == NULL)
				return nssm_err_set(err, NSSM_ENOMEM, "no memory for %u open sessions", cap);
			in->open = o;
			in->open_cap = cap;
		}
		struct open_session *o = &in->open[in->n_open];
		*o = (struct open_session){.info.label_idx = in->label_idx};
		int rc = nssm_encoder_open(&o->enc, &in->cfg->codec, in->vocab, err);
		if (rc == 0 && in->cfg->codec.conditions > 0)
			rc = nssm_meter_open(&o->meter, err);
		if (rc != 0) {
			free_session(o);
			return rc;
		}
		in->n_open++;
		if (in->spool != NULL &&
		        (rc = nssm_spool_add(in->spool, in->first_open + in->n_open - 1, in->tokens, 0, err)))
			return rc;
	}
	return 0;
}

static int put_conditions(struct ingest *in, const struct open_session *o, struct nssm_err *err)
{
	uint8_t step[NSSM_N_CONDITIONS];
	struct nssm_measures m;
	nssm_meter_read(o->meter, &m);
	nssm_conditions_of(step, &m);
	uint16_t head[NSSM_CODEC_HEAD_MAX];
	return nssm_corpus_append(in->w, head, nssm_codec_head(head, &in->cfg->codec, in->vocab, in->label_idx, step), err);
}

static int close_session(struct ingest *in, uint32_t session, struct open_session *o, struct nssm_err *err)
{
	struct nssm_label_stats *st = &in->stats[in->label_idx];
	int rc = 0;
	if (o->info.n_packets == 0) {
		in->rep->n_empty_sessions++;
	} else {
		rc = put(in, session, nssm_encoder_end(o->enc, in->tokens), err);
		if (rc == 0 && o->meter != NULL)
			rc = put_conditions(in, o, err);
		if (rc == 0 && in->spool != NULL)
			rc = nssm_spool_drain(in->spool, session, append, in->w, err);
		if (rc == 0)
			rc = nssm_corpus_end_session(in->w, &o->info, err);
		/* The published preprocessor rejects captures of one packet, and crashes at what the encoder
		 * counted. */
		bool beyond = o->info.n_packets < 2 || nssm_encoder_n_beyond_paper(o->enc) > 0;
		in->rep->n_beyond_paper += in->cfg->codec.compat_paper && beyond;
		in->rep->n_sessions++;
		st->n_sessions++;
		st->n_packets += o->info.n_packets;
		st->n_flows += o->info.n_flows;
		st->n_tokens += o->info.n_tokens;
	}
	free_session(o);
	return rc;
}

static int close_sessions(struct ingest *in, uint32_t n_done, struct nssm_err *err)
{
	uint32_t n = n_done - in->first_open;
	n = n < in->n_open ? n : in->n_open;
	int rc = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (rc == 0)
			rc = close_session(in, in->first_open + i, &in->open[i], err);
		else
			free_session(&in->open[i]);
	}
	if (n == 0)
		return rc;
	memmove(in->open, in->open + n, (in->n_open - n) * sizeof *in->open);
	in->first_open += n;
	in->n_open -= n;
	/* Sessions that follow one another: the one just begun has no packet yet. */
	if (in->cfg->session_split.kind != NSSM_SPLIT_CLIENT)
		nssm_flow_set_clear(&in->flows);
	return rc;
}

static int take_packet(struct ingest *in, uint32_t session, const struct nssm_pkt *pkt, struct nssm_err *err)
{
	struct open_session *o = &in->open[session - in->first_open];
	struct nssm_label_stats *st = &in->stats[in->label_idx];
	/* The label comes with the first packet that is taken, so that an empty session leaves nothing; with conditions when it is over. */
	size_t lead = o->info.n_packets == 0 ? nssm_encoder_begin(o->enc, in->tokens, in->label_idx, NULL) : 0;
	if (o->meter != NULL)
		lead = 0;
	int reason;
	uint32_t cut;
	size_t n = nssm_encoder_packet(o->enc, in->tokens + lead, pkt, &reason, &cut);
	if (n == 0) {
		st->skipped[reason]++;
		return 0;
	}
	if (o->info.n_packets == UINT32_MAX)
		return nssm_err_set(err, NSSM_ERANGE,
		        "a session of more than %u packets; --session-split makes smaller ones", UINT32_MAX);
	if (o->meter != NULL)
		nssm_meter_packet(o->meter, pkt);
	st->n_cut += cut > 0;
	if (o->info.n_packets == 0)
		o->info.first_ns = pkt->ts_ns;
	else if (pkt->ts_ns >= o->prev_ns)
		nssm_iat_add(&st->iat, pkt->ts_ns - o->prev_ns);
	else
		st->n_time_back++;
	o->prev_ns = o->info.last_ns = pkt->ts_ns;
	o->info.n_packets++;
	struct nssm_hdrs h;
	struct nssm_flow_key key;
	if (nssm_pkt_parse(&h, pkt->data, pkt->caplen) == NSSM_PKT_OK) {
		nssm_flow_key(&key, &h, pkt->data);
		int fresh = nssm_flow_set_add(&in->flows, session, &key, err);
		if (fresh < 0)
			return fresh;
		o->info.n_flows += (uint32_t)fresh;
		nssm_secure_learn(in->secure, session, &key, fresh, &h, pkt);
	}
	return put(in, session, lead + n, err);
}

/* --- captures --- */

static int stopped(struct ingest *in, uint64_t bytes, struct nssm_err *err)
{
	if (in->cfg->progress == NULL ||
	        in->cfg->progress(in->cfg->ctx, bytes, in->total_bytes, in->n_packets) == 0)
		return 0;
	return nssm_err_set(err, NSSM_EINTR, "stopped; nothing was written");
}

static int read_packet(struct ingest *in, const struct nssm_pkt *pkt, struct nssm_err *err)
{
	uint32_t session;
	int rc = nssm_splitter_packet(in->splitter, pkt, &session, err);
	if (rc < 0)
		return rc;
	if (rc == 0) {
		struct nssm_hdrs h;
		int why = nssm_pkt_parse(&h, pkt->data, pkt->caplen);
		in->stats[in->label_idx].skipped[why != NSSM_PKT_OK ? why : NSSM_PKT_NO_SESSION]++;
		return 0;
	}
	rc = open_sessions(in, session, err);
	if (rc == 0)
		rc = close_sessions(in, nssm_splitter_n_done(in->splitter), err);
	return rc == 0 ? take_packet(in, session, pkt, err) : rc;
}

static int read_packets(struct ingest *in, struct nssm_capture *c, struct nssm_err *err)
{
	const struct nssm_capture_info *info = nssm_capture_info(c);
	struct nssm_pkt pkt;
	struct nssm_err bad;
	int rc = 0, got = 1;
	while (rc == 0 && (got = nssm_capture_next(c, &pkt, &bad)) > 0) {
		rc = read_packet(in, &pkt, err);
		if (rc == 0 && ++in->n_packets % PROGRESS_EVERY == 0)
			rc = stopped(in, in->done_bytes + info->read_bytes, err);
	}
	if (rc == 0 && got < 0) {
		in->rep->n_bad_files++;
		if (in->cfg->strict)
			return nssm_err_set(err, bad.code, "%s", bad.msg);
		warn(in, "%s; the %llu packets before it are kept", bad.msg,
		        (unsigned long long)info->n_packets);
	}
	return rc;
}

static void add_counts(struct nssm_split_counts *to, const struct nssm_split_counts *c)
{
	to->n_packets += c->n_packets;
	to->n_time_back += c->n_time_back;
	to->n_not_ip += c->n_not_ip;
	to->n_unassigned += c->n_unassigned;
	to->n_over += c->n_over;
	to->n_flows += c->n_flows;
	to->n_evicted += c->n_evicted;
}

static int read_capture(struct ingest *in, const struct job *job, struct nssm_err *err)
{
	struct nssm_ingest_report *rep = in->rep;
	struct nssm_capture *c = NULL;
	struct nssm_err bad;
	rep->n_files++;
	if (nssm_capture_open(&c, job->path, &bad) != 0) {
		rep->n_bad_files++;
		if (in->cfg->strict)
			return nssm_err_set(err, bad.code, "%s", bad.msg);
		warn(in, "%s", bad.msg);
		in->done_bytes += job->bytes;
		return 0;
	}
	in->label_idx = job->label_idx;
	in->first_open = in->n_open = 0;
	nssm_flow_set_clear(&in->flows);
	nssm_secure_learner_clear(in->secure);
	int rc = nssm_splitter_open(&in->splitter, &in->cfg->session_split, err);
	if (rc == 0 && needs_spool(in))
		rc = nssm_spool_open(&in->spool, in->cfg->out,
		        in->cfg->spool_bytes ? in->cfg->spool_bytes : NSSM_SPOOL_BYTES, err);
	if (rc == 0)
		rc = read_packets(in, c, err);
	if (rc == 0) {
		nssm_splitter_end(in->splitter);
		rc = close_sessions(in, nssm_splitter_n_sessions(in->splitter), err);
		add_counts(&rep->split, nssm_splitter_counts(in->splitter));
	}
	const struct nssm_capture_info *info = nssm_capture_info(c);
	rep->n_bytes += info->read_bytes > 0 ? info->read_bytes : info->n_bytes; /* of a pipe: its packets */
	rep->n_normalised += info->n_normalised;
	rep->n_short_link += info->n_short_link;
	rep->n_wirelen_raised += info->n_wirelen_raised;
	rep->n_bad_time += info->n_bad_time;
	if (in->spool != NULL)
		rep->spilled_bytes += nssm_spool_spilled(in->spool);
	for (uint32_t i = 0; i < in->n_open; i++)
		free_session(&in->open[i]);
	in->n_open = 0;
	nssm_spool_close(&in->spool);
	nssm_splitter_close(&in->splitter);
	nssm_capture_close(&c);
	in->done_bytes += job->bytes;
	return rc == 0 ? stopped(in, in->done_bytes, err) : rc;
}

static int alloc_all(struct ingest *in, struct nssm_err *err)
{
	in->vocab = calloc(1, sizeof *in->vocab);
	in->stats = calloc(NSSM_VOCAB_MAX, sizeof *in->stats);
	if (in->vocab == NULL || in->stats == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for label statistics");
	nssm_vocab_init(in->vocab);
	return nssm_secure_learner_open(&in->secure, err);
}

/* A label whose token is in the vocabulary and that no session teaches. */
static void warn_empty_labels(struct ingest *in)
{
	for (uint32_t i = 0; i < in->vocab->n_labels; i++)
		if (in->stats[i].n_sessions == 0)
			warn(in, "label %s: none of its captures holds a packet that the codec takes",
			        in->vocab->label[i].name);
}

static int run(struct ingest *in, struct nssm_err *err)
{
	struct nssm_encoder *probe = NULL;
	int rc = alloc_all(in, err);
	if (rc == 0)
		rc = check_out(in, err);
	if (rc == 0)
		rc = find_captures(in, err);
	if (rc == 0)
		rc = nssm_encoder_open(&probe, &in->cfg->codec, in->vocab, err);
	if (rc != 0)
		return rc;
	in->tokens = calloc(2 * nssm_encoder_max_tokens(probe) + NSSM_CODEC_HEAD_MAX + 1, sizeof *in->tokens);
	nssm_encoder_close(&probe);
	if (in->tokens == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a packet's tokens");
	rc = nssm_corpus_create(&in->w, in->cfg->out, &in->cfg->codec, err);
	for (size_t i = 0; rc == 0 && i < in->n_jobs; i++)
		rc = read_capture(in, &in->job[i], err);
	if (rc == 0 && in->rep->n_sessions == 0)
		rc = nssm_err_set(err, NSSM_EARG,
		        "%zu captures hold no packet that the codec takes: nothing was written", in->n_jobs);
	if (rc == 0)
		warn_empty_labels(in);
	struct nssm_secure_ports ports;
	nssm_secure_learned(&ports, in->secure);
	if (in->w != NULL)
		nssm_corpus_set_secure(in->w, &ports);
	if (rc == 0)
		rc = nssm_corpus_commit(&in->w, in->vocab, in->stats, in->cfg->made_by, err);
	return rc;
}

int nssm_ingest(const struct nssm_ingest_cfg *cfg, struct nssm_ingest_report *report, struct nssm_err *err)
{
	assert((cfg->labels == NULL) != (cfg->label == NULL));
	*report = (struct nssm_ingest_report){0};
	struct ingest in = {.cfg = cfg, .rep = report};
	int rc = run(&in, err);
	nssm_corpus_abort(&in.w);
	nssm_labels_close(&in.labels);
	for (size_t i = 0; i < in.n_jobs; i++)
		free(in.job[i].path);
	free(in.job);
	free(in.vocab);
	free(in.stats);
	free(in.open);
	nssm_flow_set_free(&in.flows);
	nssm_secure_learner_close(&in.secure);
	free(in.tokens);
	return rc;
}
