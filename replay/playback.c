#include "replay/playback.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/philox.h"
#include "model/iat.h"

/* A frame in the temporary file: this, then its captured bytes. */
struct spilled {
	uint64_t time_ns, at_token;
	uint32_t len, caplen, n_known, repaired;
};

/* A session that is open. */
struct stream {
	struct nssm_decoder *dec; /* NULL: its frames lie in the temporary file */
	struct nssm_playback_packet pkt; /* the next to be given; from the file: without its data */
	const uint16_t *token, *end;
	bool ended, has_frame, has_packet;
	struct nssm_rng time;
	uint64_t off, off_end; /* in the file: behind pkt's head; behind the last frame */
};

struct nssm_playback {
	struct nssm_corpus *c;
	struct nssm_playback_cfg cfg;
	struct nssm_playback_sums sums;
	const struct nssm_session_info **todo; /* by first_ns, then number */
	uint32_t n_todo, at;
	struct stream **heap; /* the next packet in front */
	uint32_t n_heap, n_decoders;
	size_t heap_cap;
	struct stream *idle[NSSM_PLAYBACK_OPEN_MAX + 1]; /* with a decoder, for the next session */
	uint32_t n_idle;
	bool given; /* heap[0] holds what the last call gave */
	struct nssm_err first_err; /* code != 0: the error that stays */
	FILE *spill;
	uint64_t spill_end;
	uint8_t *frame; /* of NSSM_FRAME_MAX bytes: a spilled one */
};

static uint32_t session_of(const struct nssm_playback *p, const struct nssm_session_info *s)
{
	return (uint32_t)(s - nssm_corpus_session(p->c, 0));
}

/* --- one session ---------------------------------------------------------------------------------------------- */

static void reject(struct nssm_playback *p, const struct stream *s, const struct nssm_frame *f)
{
	assert(f->reason > NSSM_PKT_OK && f->reason < NSSM_PKT_N_REASONS);
	struct nssm_playback_place here = {s->pkt.session, f->at_token}, *first = &p->sums.first[f->reason];
	if (p->sums.rejected[f->reason]++ == 0 || here.session < first->session ||
	        (here.session == first->session && here.token < first->token))
		*first = here;
}

static void wait_gap(const struct nssm_playback *p, struct stream *s, bool is_packet)
{
	const struct nssm_frame *f = &s->pkt.frame;
	uint64_t gap = 0;
	if (s->has_frame && f->has_gap)
		gap = f->gap_ns;
	else if (s->has_packet && is_packet && !f->has_gap)
		gap = p->cfg.has_gap ? p->cfg.gap_ns
		                     : nssm_iat_draw(&nssm_corpus_stats(p->c, s->pkt.label_idx)->iat, &s->time);
	s->pkt.time_ns = gap > UINT64_MAX - s->pkt.time_ns ? UINT64_MAX : s->pkt.time_ns + gap;
	s->has_frame = true;
	s->has_packet |= is_packet;
}

/* True: a packet in s->pkt. */
static bool decode_next(struct nssm_playback *p, struct stream *s)
{
	struct nssm_frame *f = &s->pkt.frame;
	uint16_t eot = nssm_corpus_vocab(p->c)->eot;
	while (!s->ended) {
		enum nssm_dec_event ev;
		if (s->token < s->end) {
			uint16_t token = *s->token++;
			ev = nssm_decoder_token(s->dec, token, f);
			p->sums.n_tokens++;
			if (token == eot) {
				p->sums.n_after_end += (uint64_t)(s->end - s->token);
				s->token = s->end;
			}
		} else {
			ev = nssm_decoder_flush(s->dec, f);
			s->ended = true;
		}
		if (ev != NSSM_DEC_PACKET && ev != NSSM_DEC_REJECT)
			continue;
		wait_gap(p, s, ev == NSSM_DEC_PACKET);
		if (ev == NSSM_DEC_REJECT) {
			reject(p, s, f);
			continue;
		}
		p->sums.n_packets++;
		for (int b = 0; b < NSSM_REPAIR_N_BITS; b++)
			p->sums.repaired[b] += f->repaired >> b & 1;
		return true;
	}
	return false;
}

static int start(struct nssm_playback *p, struct stream *s, const struct nssm_session_info *info, struct nssm_err *err)
{
	uint32_t idx = session_of(p, info);
	int rc = nssm_corpus_check_session(p->c, idx, err);
	if (rc != 0)
		return rc;
	struct nssm_decoder *dec = s->dec;
	*s = (struct stream){.dec = dec, .token = nssm_corpus_tokens(p->c, idx)};
	s->end = s->token + info->n_tokens;
	s->pkt = (struct nssm_playback_packet){
	        .time_ns = info->first_ns, .session = idx, .label_idx = info->label_idx};
	nssm_decoder_begin(dec, p->cfg.seed, idx);
	nssm_rng_init(&s->time, p->cfg.seed, idx, NSSM_RNG_TIME);
	return 0;
}

/* --- the temporary file --------------------------------------------------------------------------------------- */

static int spill_error(const struct nssm_playback *p, const char *what, struct nssm_err *err)
{
	return nssm_err_set(err, NSSM_EIO, "temporary file in %.300s: cannot %s: %s", p->cfg.spill_dir, what,
	        strerror(errno != 0 ? errno : EIO));
}

static int open_spill(struct nssm_playback *p, struct nssm_err *err)
{
	char path[PATH_MAX];
	if (p->spill != NULL)
		return 0;
	if ((size_t)snprintf(path, sizeof path, "%s/.netssm-spill-XXXXXX", p->cfg.spill_dir) >= sizeof path)
		return nssm_err_set(err, NSSM_EARG, "%.300s: the folder's name is too long", p->cfg.spill_dir);
	int fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		(void)unlink(path);
	p->spill = fd >= 0 ? fdopen(fd, "w+b") : NULL;
	if (p->spill == NULL) {
		int rc = spill_error(p, "make it", err);
		if (fd >= 0)
			close(fd);
		return rc;
	}
	return 0;
}

static int read_at(struct nssm_playback *p, void *out, size_t n, uint64_t off, struct nssm_err *err)
{
	for (uint8_t *to = out; n > 0;) {
		errno = 0;
		ssize_t k = pread(fileno(p->spill), to, n, (off_t)off);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return spill_error(p, "read it", err);
		to += k;
		n -= (size_t)k;
		off += (uint64_t)k;
	}
	return 0;
}

/* 1: a head in s->pkt; 0: that was the last; < 0: error. */
static int spilled_next(struct nssm_playback *p, struct stream *s, struct nssm_err *err)
{
	struct spilled head;
	s->off += s->has_packet ? s->pkt.frame.caplen : 0;
	if (s->off == s->off_end)
		return 0;
	int rc = read_at(p, &head, sizeof head, s->off, err);
	if (rc != 0)
		return rc;
	s->off += sizeof head;
	s->has_packet = true;
	s->pkt.time_ns = head.time_ns;
	s->pkt.frame = (struct nssm_frame){.len = head.len,
	        .caplen = head.caplen,
	        .n_known = head.n_known,
	        .repaired = head.repaired,
	        .at_token = head.at_token};
	return 1;
}

/* Decodes s to its end. What reads it from the file is *to. */
static int spill(struct nssm_playback *p, struct stream *to, struct stream *s, struct nssm_err *err)
{
	int rc = open_spill(p, err);
	if (rc != 0)
		return rc;
	*to = (struct stream){.pkt = s->pkt, .off = p->spill_end};
	while (decode_next(p, s)) {
		const struct nssm_frame *f = &s->pkt.frame;
		struct spilled head = {.time_ns = s->pkt.time_ns,
		        .at_token = f->at_token,
		        .len = f->len,
		        .caplen = f->caplen,
		        .n_known = f->n_known,
		        .repaired = f->repaired};
		if (fwrite(&head, sizeof head, 1, p->spill) != 1 ||
		        fwrite(f->data, 1, f->caplen, p->spill) != f->caplen)
			return spill_error(p, "write it", err);
		p->spill_end += sizeof head + f->caplen;
	}
	if (fflush(p->spill) != 0)
		return spill_error(p, "write it", err);
	to->off_end = p->spill_end;
	p->sums.n_spilled++;
	p->sums.spilled_bytes += to->off_end - to->off;
	return 0;
}

/* --- many sessions -------------------------------------------------------------------------------------------- */

static bool before(const struct stream *a, const struct stream *b)
{
	return a->pkt.time_ns != b->pkt.time_ns ? a->pkt.time_ns < b->pkt.time_ns : a->pkt.session < b->pkt.session;
}

static void sift_down(struct nssm_playback *p)
{
	struct stream **h = p->heap, *s = h[0];
	uint32_t i = 0, k;
	while ((k = 2 * i + 1) < p->n_heap) {
		k += k + 1 < p->n_heap && before(h[k + 1], h[k]);
		if (!before(h[k], s))
			break;
		h[i] = h[k];
		i = k;
	}
	h[i] = s;
}

static int push(struct nssm_playback *p, struct stream *s, struct nssm_err *err)
{
	if (p->n_heap == p->heap_cap) {
		size_t cap = p->heap_cap == 0 ? 2 * NSSM_PLAYBACK_OPEN_MAX : 2 * p->heap_cap;
		struct stream **h = realloc(p->heap, cap * sizeof(*h));
		if (h == NULL)
			return nssm_err_set(err, NSSM_ENOMEM, "no memory for %zu sessions at a time", cap);
		p->heap = h;
		p->heap_cap = cap;
	}
	uint32_t i = p->n_heap++;
	for (; i > 0 && before(s, p->heap[(i - 1) / 2]); i = (i - 1) / 2)
		p->heap[i] = p->heap[(i - 1) / 2];
	p->heap[i] = s;
	return 0;
}

static void put_away(struct nssm_playback *p, struct stream *s)
{
	if (s->dec != NULL) {
		assert(p->n_idle < NSSM_PLAYBACK_OPEN_MAX + 1);
		p->idle[p->n_idle++] = s;
	} else {
		free(s);
	}
}

static int with_decoder(struct nssm_playback *p, struct stream **sp, struct nssm_err *err)
{
	if (p->n_idle > 0) {
		*sp = p->idle[--p->n_idle];
		return 0;
	}
	struct stream *s = *sp = calloc(1, sizeof *s);
	if (s == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a session");
	int rc = nssm_decoder_open(
	        &s->dec, nssm_corpus_codec(p->c), nssm_corpus_vocab(p->c), p->cfg.fill, err);
	if (rc != 0) {
		free(s);
		return rc;
	}
	nssm_decoder_secure(s->dec, nssm_corpus_secure(p->c));
	p->n_decoders++;
	return 0;
}

/* 1: *out with its first packet; 0: it has none; < 0: error. */
static int open_decoded(struct nssm_playback *p, struct stream *s, struct stream **out, struct nssm_err *err)
{
	int rc;
	struct stream *file;
	*out = s;
	if (p->n_decoders - p->n_idle <= NSSM_PLAYBACK_OPEN_MAX)
		return decode_next(p, s);
	*out = file = calloc(1, sizeof *file);
	if (file == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a session");
	if ((rc = spill(p, file, s, err)) == 0)
		rc = spilled_next(p, file, err);
	if (rc <= 0)
		free(file);
	return rc;
}

/* Into the heap, if there is a packet. */
static int open_session(struct nssm_playback *p, const struct nssm_session_info *info, struct nssm_err *err)
{
	struct stream *s, *first;
	int rc = with_decoder(p, &s, err);
	if (rc != 0)
		return rc;
	rc = start(p, s, info, err);
	if (rc == 0)
		rc = open_decoded(p, s, &first, err);
	if (rc <= 0 || first != s)
		put_away(p, s);
	if (rc <= 0)
		return rc;
	rc = push(p, first, err);
	if (rc != 0)
		put_away(p, first);
	return rc;
}

static void drop_first(struct nssm_playback *p)
{
	put_away(p, p->heap[0]);
	p->heap[0] = p->heap[--p->n_heap];
	if (p->n_heap > 0)
		sift_down(p);
}

/* The packet that was given makes room for its session's next. */
static int go_on(struct nssm_playback *p, struct nssm_err *err)
{
	struct stream *s = p->heap[0];
	int rc = s->dec != NULL ? decode_next(p, s) : spilled_next(p, s, err);
	p->given = false;
	if (rc > 0)
		sift_down(p);
	else
		drop_first(p);
	return rc < 0 ? rc : 0;
}

static int next(struct nssm_playback *p, struct nssm_playback_packet *pkt, struct nssm_err *err)
{
	int rc = p->given ? go_on(p, err) : 0;
	while (rc == 0 && p->at < p->n_todo &&
	        (p->n_heap == 0 || p->todo[p->at]->first_ns <= p->heap[0]->pkt.time_ns))
		rc = open_session(p, p->todo[p->at++], err);
	if (rc != 0 || p->n_heap == 0)
		return rc;
	struct stream *s = p->heap[0];
	if (s->dec == NULL) {
		rc = read_at(p, p->frame, s->pkt.frame.caplen, s->off, err);
		if (rc != 0)
			return rc;
		s->pkt.frame.data = p->frame;
	}
	p->given = true;
	*pkt = s->pkt;
	return 1;
}

int nssm_playback_next(struct nssm_playback *p, struct nssm_playback_packet *pkt, struct nssm_err *err)
{
	if (p->first_err.code != 0) {
		*err = p->first_err;
		return p->first_err.code;
	}
	int rc = next(p, pkt, err);
	if (rc < 0)
		p->first_err = *err;
	return rc;
}

/* --- begin and end -------------------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
	const struct nssm_session_info *x = *(const struct nssm_session_info *const *)a,
	                               *y = *(const struct nssm_session_info *const *)b;
	if (x->first_ns != y->first_ns)
		return x->first_ns < y->first_ns ? -1 : 1;
	return x < y ? -1 : x > y; /* they stand in one table */
}

static void drop_all(struct nssm_playback *p)
{
	while (p->n_heap > 0)
		put_away(p, p->heap[--p->n_heap]);
	free(p->todo);
	p->todo = NULL;
	p->n_todo = p->at = 0;
	p->given = false;
	p->first_err.code = 0;
}

int nssm_playback_open(struct nssm_playback **pp, struct nssm_corpus *c, const struct nssm_playback_cfg *cfg,
        struct nssm_err *err)
{
	struct nssm_playback *p = *pp = calloc(1, sizeof *p);
	if (p == NULL || (p->frame = malloc(NSSM_FRAME_MAX)) == NULL) {
		nssm_playback_close(pp);
		return nssm_err_set(err, NSSM_ENOMEM, "no memory to play a corpus back");
	}
	p->c = c;
	p->cfg = *cfg;
	return 0;
}

void nssm_playback_close(struct nssm_playback **pp)
{
	struct nssm_playback *p = *pp;
	if (p == NULL)
		return;
	drop_all(p);
	while (p->n_idle > 0) {
		struct stream *s = p->idle[--p->n_idle];
		nssm_decoder_close(&s->dec);
		free(s);
	}
	if (p->spill != NULL)
		fclose(p->spill);
	free(p->heap);
	free(p->frame);
	free(p);
	*pp = NULL;
}

int nssm_playback_begin(struct nssm_playback *p, const uint32_t *session, uint32_t n, struct nssm_err *err)
{
	drop_all(p);
	p->todo = malloc(((size_t)n + 1) * sizeof(*p->todo));
	if (p->todo == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for %u sessions", n);
	for (uint32_t i = 0; i < n; i++)
		p->todo[i] = nssm_corpus_session(p->c, session[i]);
	qsort(p->todo, n, sizeof(*p->todo), by_time);
	p->n_todo = n;
	return 0;
}

const struct nssm_playback_sums *nssm_playback_sums(const struct nssm_playback *p)
{
	return &p->sums;
}
