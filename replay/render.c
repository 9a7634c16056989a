#include "replay/render.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/philox.h"
#include "model/codec.h"
#include "model/iat.h"
#include "replay/capture.h"

#define DUE_MAX_NS (1ull << 62) /* 146 years: sums stop here instead of wrapping */

/* Flows of one session as 64-bit hashes: two of n flows share one with probability n^2/2^65. 0 stands for an
 * empty place. */
struct flow_set {
	uint64_t *slot;
	size_t n, cap; /* cap: power of two, or 0 */
};

struct session {
	uint64_t idx, last_ns, n_packets;
	uint32_t label_idx;
	bool has_frame;
	struct nssm_decoder *dec;
	struct nssm_rng time;
	struct nssm_merge_lane *lane; /* for the file in time order */
	struct nssm_pktq q;           /* for the folder */
	struct flow_set flows;
	struct session *spare;
};

struct row {
	uint32_t label_idx;
	enum nssm_end_reason end; /* NONE: never began */
	uint64_t n_packets;
};

struct nssm_render {
	struct nssm_render_cfg cfg;
	struct session **open; /* ascending by index */
	size_t n_open, cap_open;
	struct session *spare;
	uint64_t next_idx; /* of the session that begins next */
	struct nssm_merge *merge;
	struct nssm_capture_writer *writer;
	struct row *row; /* [cap_row], by index from first_session on */
	size_t cap_row;
	uint64_t n_merged, n_folder;     /* packets written */
	struct nssm_render_stats *stats; /* [n_labels] */
	struct nssm_err err;
	uint8_t frame[NSSM_FRAME_MAX];
};

/* --- flows ---------------------------------------------------------------------------------------------------- */

static uint64_t hash_bytes(const void *data, size_t n)
{
	/* FNV-1a, then mixed so that the low bits serve as an index. */
	const uint8_t *p = data;
	uint64_t h = 0xcbf29ce484222325u;
	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15u;
	h ^= h >> 29;
	return h == 0 ? 1 : h;
}

static bool insert(struct flow_set *f, uint64_t h)
{
	size_t i = h & (f->cap - 1);
	while (f->slot[i] != 0 && f->slot[i] != h)
		i = (i + 1) & (f->cap - 1);
	bool is_new = f->slot[i] == 0;
	f->slot[i] = h;
	f->n += is_new;
	return is_new;
}

static int grow(struct flow_set *f, struct nssm_err *err)
{
	struct flow_set old = *f;
	size_t cap = old.cap == 0 ? 64 : 2 * old.cap;
	uint64_t *slot = calloc(cap, sizeof *slot);
	if (slot == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory to count more than %zu flows", old.n);
	*f = (struct flow_set){.slot = slot, .cap = cap};
	for (size_t i = 0; i < old.cap; i++)
		if (old.slot[i] != 0)
			insert(f, old.slot[i]);
	free(old.slot);
	return 0;
}

static int count_flow(
        struct session *s, struct nssm_render_stats *st, const struct nssm_frame *frame, struct nssm_err *err)
{
	struct nssm_hdrs h;
	struct nssm_flow_key key;
	memset(&key, 0, sizeof key);
	if (nssm_pkt_parse(&h, frame->data, frame->len) != NSSM_PKT_OK)
		return 0;
	nssm_flow_key(&key, &h, frame->data);
	if (2 * s->flows.n >= s->flows.cap) {
		int rc = grow(&s->flows, err);
		if (rc != 0)
			return rc;
	}
	st->flows += insert(&s->flows, hash_bytes(&key, sizeof key));
	return 0;
}

/* --- sessions ------------------------------------------------------------------------------------------------- */

static void free_session(struct session *s)
{
	nssm_decoder_close(&s->dec);
	nssm_pktq_free(&s->q);
	free(s->flows.slot);
	free(s);
}

static int no_memory(struct nssm_err *err, const char *what, size_t n)
{
	return nssm_err_set(err, NSSM_ENOMEM, "no memory for %zu %s", n, what);
}

/* A session from the pool, or a new one with its decoder. */
static struct session *get_session(struct nssm_render *r, struct nssm_err *err)
{
	struct session *s = r->spare;
	if (s != NULL) {
		r->spare = s->spare;
		s->spare = NULL;
		return s;
	}
	s = calloc(1, sizeof *s);
	if (s == NULL) {
		no_memory(err, "open sessions", r->n_open + 1);
		return NULL;
	}
	const struct nssm_model_card *card = r->cfg.card;
	if (nssm_decoder_open(&s->dec, &card->codec, &card->vocab, r->cfg.fill, err) != 0) {
		free(s);
		return NULL;
	}
	return s;
}

static int begin(struct nssm_render *r, const struct nssm_token_block *b, struct nssm_err *err)
{
	const struct nssm_generator_cfg *gen = r->cfg.gen;
	assert(b->session == r->next_idx && b->session - gen->first_session < gen->n_sessions);
	if (r->n_open == r->cap_open) {
		size_t cap = r->cap_open == 0 ? 64 : 2 * r->cap_open;
		struct session **open = realloc(r->open, cap * sizeof(struct session *));
		if (open == NULL)
			return no_memory(err, "open sessions", cap);
		r->open = open;
		r->cap_open = cap;
	}
	size_t i = b->session - gen->first_session;
	if (r->cfg.out_dir != NULL && i >= r->cap_row) {
		size_t cap = r->cap_row == 0 ? 1024 : 2 * r->cap_row;
		struct row *row = realloc(r->row, cap * sizeof *row);
		if (row == NULL)
			return no_memory(err, "rows of labels.csv", cap);
		memset(row + r->cap_row, 0, (cap - r->cap_row) * sizeof *row);
		r->row = row;
		r->cap_row = cap;
	}
	struct session *s = get_session(r, err);
	if (s == NULL)
		return err->code;
	s->idx = b->session;
	s->last_ns = b->start_ns;
	s->label_idx = b->label_idx;
	s->n_packets = 0;
	s->has_frame = false;
	s->flows.n = 0;
	if (s->flows.cap > 0)
		memset(s->flows.slot, 0, s->flows.cap * sizeof *s->flows.slot);
	nssm_rng_init(&s->time, gen->seed, s->idx, NSSM_RNG_TIME);
	nssm_decoder_begin(s->dec, gen->seed, s->idx);
	r->open[r->n_open++] = s;
	r->next_idx++;
	r->stats[s->label_idx].sessions++;
	if (r->merge == NULL)
		return 0;
	s->lane = nssm_merge_begin(r->merge, s->idx, b->start_ns, err);
	if (s->lane == NULL)
		return err->code;
	bool last = r->next_idx - gen->first_session == gen->n_sessions;
	nssm_merge_next_start(
	        r->merge, last ? UINT64_MAX : nssm_generator_start(gen, r->next_idx, b->start_ns));
	return 0;
}

/* Where an open session stands in the list. */
static size_t find(const struct nssm_render *r, uint64_t idx)
{
	size_t lo = 0, hi = r->n_open;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (r->open[mid]->idx < idx)
			lo = mid + 1;
		else
			hi = mid;
	}
	assert(lo < r->n_open && r->open[lo]->idx == idx);
	return lo;
}

static int write_packet(struct nssm_render *r, struct nssm_capture_writer *w, const struct nssm_out_pkt *p,
        struct nssm_err *err)
{
	return nssm_capture_write(w, r->cfg.epoch_ns + p->due_ns, p->data, p->len, p->wirelen, err);
}

static int write_merged(void *ctx, const struct nssm_out_pkt *p, struct nssm_err *err)
{
	struct nssm_render *r = ctx;
	int rc = write_packet(r, r->writer, p, err);
	r->n_merged += rc == 0;
	return rc;
}

/* What labels.csv and the file's own place are named by. */
static void file_name(char *out, size_t n, const struct nssm_render *r, uint64_t idx, uint32_t label_idx)
{
	snprintf(out, n, "%06" PRIu64 "-%s.pcap", idx, r->cfg.card->vocab.label[label_idx].name);
}

static int write_session(struct nssm_render *r, struct session *s, struct nssm_err *err)
{
	char name[NSSM_LABEL_BYTES + 32], path[PATH_MAX];
	file_name(name, sizeof name, r, s->idx, s->label_idx);
	int n = snprintf(path, sizeof path, "%s/%s", r->cfg.out_dir, name);
	if (n < 0 || (size_t)n >= sizeof path)
		return nssm_err_set(err, NSSM_EARG, "%.200s…/%s: path too long", r->cfg.out_dir, name);
	struct nssm_capture_writer *w;
	int rc = nssm_capture_create(&w, path, !r->cfg.us, r->cfg.snaplen, err);
	if (rc != 0)
		return rc;
	while (rc == 0 && s->q.n > 0) {
		struct nssm_out_pkt p;
		nssm_pktq_pop(&s->q, &p, r->frame);
		p.session = s->idx;
		rc = write_packet(r, w, &p, err);
		r->n_folder += rc == 0;
	}
	if (rc != 0) {
		nssm_capture_abort(&w);
		return rc;
	}
	return nssm_capture_commit(&w, err);
}

static int end(struct nssm_render *r, size_t at, enum nssm_end_reason why, struct nssm_err *err)
{
	struct session *s = r->open[at];
	r->stats[s->label_idx].end[why]++;
	if (r->merge != NULL)
		nssm_merge_end(r->merge, s->lane);
	int rc = 0;
	if (r->cfg.out_dir != NULL) {
		rc = write_session(r, s, err);
		if (rc == 0)
			r->row[s->idx - r->cfg.gen->first_session] = (struct row){
			        .label_idx = s->label_idx, .end = why, .n_packets = s->n_packets};
	}
	r->n_open--;
	memmove(r->open + at, r->open + at + 1, (r->n_open - at) * sizeof(struct session *));
	s->lane = NULL;
	s->spare = r->spare;
	r->spare = s;
	return rc;
}

/* --- frames
 * -----------------------------------------------------------------------------------------------------------
 */

static void wait_gap(struct nssm_render *r, struct session *s, const struct nssm_frame *f, bool is_packet)
{
	const struct nssm_model_card *card = r->cfg.card;
	uint64_t gap = 0;
	if (s->has_frame && f->has_gap)
		gap = f->gap_ns;
	else if (s->n_packets > 0 && is_packet && card->iat != NULL)
		gap = nssm_iat_draw(&card->iat[s->label_idx], &s->time);
	if (s->last_ns < DUE_MAX_NS)
		s->last_ns = gap > DUE_MAX_NS - s->last_ns ? DUE_MAX_NS : s->last_ns + gap;
	s->has_frame = true;
}

static int take_frame(struct nssm_render *r, struct session *s, enum nssm_dec_event ev,
        const struct nssm_frame *f, struct nssm_err *err)
{
	struct nssm_render_stats *st = &r->stats[s->label_idx];
	st->made++;
	wait_gap(r, s, f, ev == NSSM_DEC_PACKET);
	if (ev == NSSM_DEC_REJECT) {
		assert(f->reason > NSSM_PKT_OK && f->reason < NSSM_PKT_N_REASONS);
		st->rejected[f->reason]++;
		return 0;
	}
	struct nssm_out_pkt p = {
	        .due_ns = s->last_ns, .session = s->idx, .len = f->len, .wirelen = f->len, .data = f->data};
	if (r->cfg.snaplen > 0 && p.len > r->cfg.snaplen)
		p.len = r->cfg.snaplen;
	st->packets++;
	st->bytes += f->len;
	st->cut += p.len < f->len;
	for (int b = 0; b < NSSM_REPAIR_N_BITS; b++)
		st->repaired[b] += f->repaired >> b & 1;
	if (st->last_ns < p.due_ns)
		st->last_ns = p.due_ns;
	s->n_packets++;
	int rc = count_flow(s, st, f, err);
	if (rc == 0 && r->merge != NULL)
		rc = nssm_merge_push(r->merge, s->lane, &p, err);
	if (rc == 0 && r->cfg.out_dir != NULL)
		rc = nssm_pktq_push(&s->q, &p, err);
	return rc;
}

static int take_block(struct nssm_render *r, const struct nssm_token_block *b, struct nssm_err *err)
{
	int rc = b->seq == 0 ? begin(r, b, err) : 0;
	if (rc != 0)
		return rc;
	size_t at = find(r, b->session);
	struct session *s = r->open[at];
	r->stats[s->label_idx].tokens += b->n_tokens;
	struct nssm_frame f;
	for (uint32_t i = 0; rc == 0 && i < b->n_tokens; i++) {
		enum nssm_dec_event ev = nssm_decoder_token(s->dec, b->token[i], &f);
		if (ev == NSSM_DEC_PACKET || ev == NSSM_DEC_REJECT)
			rc = take_frame(r, s, ev, &f, err);
	}
	if (rc != 0 || b->end == NSSM_END_NONE)
		return rc;
	enum nssm_dec_event ev;
	while (rc == 0 && ((ev = nssm_decoder_flush(s->dec, &f)) == NSSM_DEC_PACKET || ev == NSSM_DEC_REJECT))
		rc = take_frame(r, s, ev, &f, err);
	return rc != 0 ? rc : end(r, at, b->end, err);
}

int nssm_render_emit(void *ctx, const struct nssm_token_block *block)
{
	struct nssm_render *r = ctx;
	if (r->err.code != 0)
		return r->err.code;
	int rc = take_block(r, block, &r->err);
	if (rc == 0 && r->merge != NULL)
		rc = nssm_merge_release(r->merge, &r->err);
	return rc;
}

const struct nssm_err *nssm_render_error(const struct nssm_render *r)
{
	return &r->err;
}

/* --- open, finish --------------------------------------------------------------------------------------------- */

/* Old files among new ones would pass for this run's. */
static int make_folder(const char *path, struct nssm_err *err)
{
	if (mkdir(path, 0777) == 0)
		return 0;
	if (errno != EEXIST)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot make the folder: %s", path, strerror(errno));
	DIR *d = opendir(path);
	if (d == NULL)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot list: %s", path, strerror(errno));
	int rc = 0;
	struct dirent *e;
	while (rc == 0 && (e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			rc = nssm_err_set(err, NSSM_EARG,
			        "%s: expected an empty or new folder, found %s in it", path, e->d_name);
	closedir(d);
	return rc;
}

int nssm_render_open(struct nssm_render **rp, const struct nssm_render_cfg *cfg, struct nssm_err *err)
{
	*rp = NULL;
	struct nssm_err own = {0};
	err = err != NULL ? err : &own;
	struct nssm_render *r = calloc(1, sizeof *r);
	if (r == NULL)
		return no_memory(err, "bytes", sizeof *r);
	assert(cfg->epoch_ns <=
	        DUE_MAX_NS); /* so that times do not wrap; the writer refuses what its format cannot say */
	r->cfg = *cfg;
	r->next_idx = cfg->gen->first_session;
	uint32_t n_labels = cfg->card->vocab.n_labels;
	r->stats = calloc(n_labels > 0 ? n_labels : 1, sizeof *r->stats);
	int rc = r->stats == NULL ? no_memory(err, "labels", n_labels) : 0;
	if (rc == 0 && cfg->out_dir != NULL)
		rc = make_folder(cfg->out_dir, err);
	if (rc == 0 && cfg->pcap_out != NULL)
		rc = nssm_merge_open(&r->merge, write_merged, r, err);
	if (rc == 0 && cfg->pcap_out != NULL)
		rc = nssm_capture_create(&r->writer, cfg->pcap_out, !cfg->us, cfg->snaplen, err);
	if (rc != 0)
		nssm_render_close(&r);
	*rp = r;
	return rc;
}

static int write_labels(struct nssm_render *r, struct nssm_err *err)
{
	char path[PATH_MAX], name[NSSM_LABEL_BYTES + 32], line[2 * NSSM_LABEL_BYTES + 160];
	int n = snprintf(path, sizeof path, "%s/labels.csv", r->cfg.out_dir);
	if (n < 0 || (size_t)n >= sizeof path)
		return nssm_err_set(err, NSSM_EARG, "%.200s…: path too long", r->cfg.out_dir);
	struct nssm_outfile *of;
	int rc = nssm_outfile_open(&of, path, err);
	if (rc != 0)
		return rc;
	static const char head[] = "File,Label,Seed,Session,Packets,End\n";
	(void)nssm_outfile_write(of, head, sizeof head - 1, err); /* the first error is what commit returns */
	const struct nssm_generator_cfg *gen = r->cfg.gen;
	for (uint64_t idx = gen->first_session; idx < r->next_idx; idx++) {
		const struct row *row = &r->row[idx - gen->first_session];
		file_name(name, sizeof name, r, idx, row->label_idx);
		n = snprintf(line, sizeof line, "%s,%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%s\n", name,
		        r->cfg.card->vocab.label[row->label_idx].name, gen->seed, idx, row->n_packets,
		        nssm_end_name(row->end));
		assert(n > 0 && (size_t)n < sizeof line);
		(void)nssm_outfile_write(of, line, (size_t)n, err);
	}
	return nssm_outfile_commit(&of, err);
}

int nssm_render_finish(struct nssm_render *r, struct nssm_err *err)
{
	if (r->err.code != 0) {
		if (err != NULL)
			*err = r->err;
		return r->err.code;
	}
	assert(r->n_open == 0);
	struct nssm_render_stats all = nssm_render_total(r);
	int rc = 0;
	if (r->merge != NULL) {
		nssm_merge_next_start(r->merge, UINT64_MAX);
		rc = nssm_merge_release(r->merge, err);
		if (rc == 0)
			rc = nssm_capture_commit(&r->writer, err);
		if (rc != 0)
			return rc;
		assert(r->n_merged == all.packets);
	}
	if (r->cfg.out_dir != NULL) {
		rc = write_labels(r, err);
		assert(r->n_folder == all.packets);
	}
	assert(all.made == all.packets + nssm_render_rejected(&all));
	return rc;
}

void nssm_render_close(struct nssm_render **rp)
{
	struct nssm_render *r = *rp;
	if (r == NULL)
		return;
	for (size_t i = 0; i < r->n_open; i++)
		free_session(r->open[i]);
	while (r->spare != NULL) {
		struct session *s = r->spare;
		r->spare = s->spare;
		free_session(s);
	}
	if (r->writer != NULL)
		nssm_capture_abort(&r->writer);
	nssm_merge_close(&r->merge);
	free(r->open);
	free(r->row);
	free(r->stats);
	free(r);
	*rp = NULL;
}

/* --- figures
 * -----------------------------------------------------------------------------------------------------------
 */

const struct nssm_render_stats *nssm_render_label_stats(const struct nssm_render *r, uint32_t label_idx)
{
	return &r->stats[label_idx];
}

struct nssm_render_stats nssm_render_total(const struct nssm_render *r)
{
	struct nssm_render_stats t = {0};
	for (uint32_t l = 0; l < r->cfg.card->vocab.n_labels; l++) {
		const struct nssm_render_stats *s = &r->stats[l];
		t.sessions += s->sessions;
		t.flows += s->flows;
		t.tokens += s->tokens;
		t.made += s->made;
		t.packets += s->packets;
		t.bytes += s->bytes;
		t.cut += s->cut;
		for (int i = 0; i < NSSM_PKT_N_REASONS; i++)
			t.rejected[i] += s->rejected[i];
		for (int i = 0; i < NSSM_REPAIR_N_BITS; i++)
			t.repaired[i] += s->repaired[i];
		for (int i = 0; i < NSSM_END_N; i++)
			t.end[i] += s->end[i];
		if (t.last_ns < s->last_ns)
			t.last_ns = s->last_ns;
	}
	return t;
}

uint64_t nssm_render_rejected(const struct nssm_render_stats *s)
{
	uint64_t n = 0;
	for (int i = 0; i < NSSM_PKT_N_REASONS; i++)
		n += s->rejected[i];
	return n;
}

struct nssm_merge_held nssm_render_held(const struct nssm_render *r)
{
	return r->merge != NULL ? nssm_merge_held(r->merge) : (struct nssm_merge_held){0};
}
