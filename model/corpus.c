/* Layout, little-endian. Every block starts at a multiple of 64 bytes, in this order and without anything between:
 *
 *   header    192 bytes: struct header, zeros
 *   tokens    uint16 each, session after session
 *   stripes   uint32 each: CRC-32 of every 1 MiB of the token block (the last one shorter)
 *   sessions  48 bytes each: struct nssm_session_info, in the order of their tokens
 *   counts    uint64 each: how often token id 0, 1, … occurs
 *   json      codec, tokenizer, labels (statistics, inter-arrival counts), encrypted (secure_ports.h; may be missing), made_by
 *
 * The header's CRC-32 covers the header (its own field taken as 0) and through the CRCs in it everything but the tokens,
 * which the stripes cover. */
#include "model/corpus.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "base/file.h"

#define ALIGN        64
#define STRIPE_BYTES (1u << 20)

struct block {
	uint64_t off, n; /* n: items */
	uint32_t crc, zero;
};

struct header {
	char magic[8];
	uint32_t version, crc;
	uint64_t file_len;
	struct block tokens, stripes, sessions, counts, json;
	uint64_t zero;
};
_Static_assert(sizeof(struct block) == 24 && sizeof(struct header) <= 2 * ALIGN + 32, "the file's layout");
_Static_assert(sizeof(struct nssm_session_info) == 48, "the file's layout");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "corpora are written and mapped as they lie in memory");

#define HEADER_BYTES 192

static uint32_t crc_of(const void *p, size_t n)
{
	return (uint32_t)crc32_z(0, p, n);
}

static uint32_t header_crc(struct header h)
{
	h.crc = 0;
	return crc_of(&h, sizeof h);
}

/* --- writing --------------------------------------------------------------------------------------------------- */

struct nssm_corpus_writer {
	struct nssm_outfile *of;
	struct nssm_codec_cfg codec;
	uint64_t n_tokens, session_first;
	uint32_t *stripe;
	size_t n_stripes, stripes_cap;
	uint32_t stripe_fill; /* bytes in the stripe under way, whose CRC is stripe[n_stripes−1] */
	struct nssm_session_info *session;
	size_t n_sessions, sessions_cap;
	struct nssm_secure_ports secure;
	uint64_t count[65536];
	char path[];
};

static int grow(void **p, size_t *cap, size_t each, const char *path, struct nssm_err *err)
{
	size_t to = *cap ? *cap * 2 : 64;
	void *q = to > SIZE_MAX / each ? NULL : realloc(*p, to * each);
	if (q == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a table of %zu rows", path, to);
	*p = q;
	*cap = to;
	return 0;
}

int nssm_corpus_create(struct nssm_corpus_writer **wp, const char *path, const struct nssm_codec_cfg *codec,
	struct nssm_err *err)
{
	*wp = NULL;
	struct nssm_corpus_writer *w = calloc(1, sizeof *w + strlen(path) + 1);
	if (w == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a corpus writer", path);
	strcpy(w->path, path);
	w->codec = *codec;
	int rc = nssm_outfile_open(&w->of, path, err);
	static const uint8_t blank[HEADER_BYTES];
	if (rc == 0)
		rc = nssm_outfile_write(w->of, blank, sizeof blank, err);
	if (rc != 0)
		nssm_corpus_abort(&w);
	*wp = w;
	return rc;
}

void nssm_corpus_abort(struct nssm_corpus_writer **wp)
{
	struct nssm_corpus_writer *w = *wp;
	if (w == NULL)
		return;
	nssm_outfile_abort(&w->of);
	free(w->stripe);
	free(w->session);
	free(w);
	*wp = NULL;
}

static int add_to_stripes(struct nssm_corpus_writer *w, const uint8_t *p, size_t n, struct nssm_err *err)
{
	while (n > 0) {
		if (w->stripe_fill == 0) {
			if (w->n_stripes == w->stripes_cap) {
				int rc = grow((void **)&w->stripe, &w->stripes_cap, sizeof *w->stripe, w->path, err);
				if (rc != 0)
					return rc;
			}
			w->stripe[w->n_stripes++] = 0;
		}
		size_t room = STRIPE_BYTES - w->stripe_fill, k = n < room ? n : room;
		uint32_t *crc = &w->stripe[w->n_stripes - 1];
		*crc = (uint32_t)crc32_z(*crc, p, k);
		w->stripe_fill = (uint32_t)((w->stripe_fill + k) % STRIPE_BYTES);
		p += k;
		n -= k;
	}
	return 0;
}

int nssm_corpus_append(struct nssm_corpus_writer *w, const uint16_t *tokens, size_t n, struct nssm_err *err)
{
	for (size_t i = 0; i < n; i++)
		w->count[tokens[i]]++;
	w->n_tokens += n;
	int rc = add_to_stripes(w, (const uint8_t *)tokens, n * sizeof *tokens, err);
	return rc != 0 ? rc : nssm_outfile_write(w->of, tokens, n * sizeof *tokens, err);
}

int nssm_corpus_end_session(struct nssm_corpus_writer *w, struct nssm_session_info *info, struct nssm_err *err)
{
	if (w->n_sessions == UINT32_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "%s: more than %" PRIu32 " sessions", w->path, UINT32_MAX);
	if (w->n_sessions == w->sessions_cap) {
		int rc = grow((void **)&w->session, &w->sessions_cap, sizeof *w->session, w->path, err);
		if (rc != 0)
			return rc;
	}
	info->first_token = w->session_first;
	info->n_tokens = w->n_tokens - w->session_first;
	w->session_first = w->n_tokens;
	w->session[w->n_sessions++] = *info;
	return 0;
}

void nssm_corpus_set_secure(struct nssm_corpus_writer *w, const struct nssm_secure_ports *ports)
{
	w->secure = *ports;
}

static json_t *u64_array(const uint64_t *v, size_t n)
{
	json_t *a = json_array();
	while (n > 0 && v[n - 1] == 0)
		n--;
	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, json_integer((json_int_t)v[i]));
	return a;
}

static json_t *label_json(const char *name, const struct nssm_label_stats *s)
{
	json_t *skipped = json_object();
	for (int i = 1; i < NSSM_PKT_N_REASONS; i++)
		if (s->skipped[i] > 0)
			json_object_set_new(skipped, nssm_pkt_reason_name(i), json_integer((json_int_t)s->skipped[i]));
	return json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "label", name, "sessions", (json_int_t)s->n_sessions, "packets",
		(json_int_t)s->n_packets, "flows", (json_int_t)s->n_flows, "tokens", (json_int_t)s->n_tokens, "cut",
		(json_int_t)s->n_cut, "time_back", (json_int_t)s->n_time_back, "skipped", skipped, "iat",
		u64_array(s->iat.count, NSSM_IAT_STEPS));
}

static char *json_block(const struct nssm_corpus_writer *w, const struct nssm_vocab *vocab, const struct nssm_label_stats *stats,
	const json_t *made_by)
{
	json_t *labels = json_array();
	for (uint32_t i = 0; i < vocab->n_labels; i++)
		json_array_append_new(labels, label_json(vocab->label[i].name, &stats[i]));
	json_t *root = json_pack("{s:o,s:o,s:o}", "codec", nssm_codec_cfg_to_json(&w->codec), "tokenizer", nssm_vocab_to_json(vocab),
		"labels", labels);
	if (root != NULL && w->secure.learned)
		json_object_set_new(root, "encrypted", nssm_secure_to_json(&w->secure));
	if (root != NULL && made_by != NULL)
		json_object_set(root, "made_by", (json_t *)made_by);
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	return text;
}

static int put_block(struct nssm_corpus_writer *w, struct block *b, const void *data, size_t n, size_t each, struct nssm_err *err)
{
	static const uint8_t pad[ALIGN];
	int rc = nssm_outfile_write(w->of, pad, (ALIGN - nssm_outfile_tell(w->of) % ALIGN) % ALIGN, err);
	*b = (struct block){.off = nssm_outfile_tell(w->of), .n = n, .crc = crc_of(data, n * each)};
	return rc != 0 ? rc : nssm_outfile_write(w->of, data, n * each, err);
}

int nssm_corpus_commit(struct nssm_corpus_writer **wp, const struct nssm_vocab *vocab, const struct nssm_label_stats *stats,
	const json_t *made_by, struct nssm_err *err)
{
	struct nssm_corpus_writer *w = *wp;
	assert(w->session_first == w->n_tokens); /* the last session was ended */
	struct header h = {.magic = NSSM_CORPUS_MAGIC, .version = NSSM_CORPUS_VERSION, .tokens = {.off = HEADER_BYTES, .n = w->n_tokens}};
	char *json = json_block(w, vocab, stats, made_by);
	int rc = json ? 0 : nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for the statistics", w->path);
	if (rc == 0)
		rc = put_block(w, &h.stripes, w->stripe, w->n_stripes, sizeof *w->stripe, err);
	if (rc == 0)
		rc = put_block(w, &h.sessions, w->session, w->n_sessions, sizeof *w->session, err);
	if (rc == 0)
		rc = put_block(w, &h.counts, w->count, vocab->n_tokens, sizeof *w->count, err);
	if (rc == 0)
		rc = put_block(w, &h.json, json, strlen(json), 1, err);
	free(json);
	if (rc == 0) {
		h.file_len = nssm_outfile_tell(w->of);
		h.crc = header_crc(h);
		rc = nssm_outfile_patch(w->of, 0, &h, sizeof h, err);
	}
	if (rc == 0)
		rc = nssm_outfile_commit(&w->of, err);
	nssm_corpus_abort(wp);
	return rc;
}

/* --- reading --------------------------------------------------------------------------------------------------- */

struct nssm_corpus {
	struct nssm_map map;
	struct header h;
	const uint16_t *token;
	const uint32_t *stripe;
	const struct nssm_session_info *session;
	const uint64_t *count;
	uint8_t *stripe_ok; /* [stripes] checked and right */
	struct nssm_vocab vocab;
	struct nssm_codec_cfg codec;
	struct nssm_secure_ports secure;
	struct nssm_label_stats *stats; /* [vocab.n_labels] */
	json_t *root;
	char path[];
};

static const void *block_at(const struct nssm_corpus *c, const struct block *b)
{
	return c->map.data + b->off;
}

/* A block lies behind the one before it, in the file, with the CRC that the header says. */
static int check_block(const struct nssm_corpus *c, const struct block *b, const char *name, size_t each, uint64_t *end, bool crc,
	struct nssm_err *err)
{
	uint64_t len = c->map.len, want = (*end + ALIGN - 1) / ALIGN * ALIGN;
	if (b->off != want || b->off > len || b->n > (len - b->off) / each)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: offset %zu: block %s: expected it at %" PRIu64 " inside %" PRIu64 " bytes, "
			"found offset %" PRIu64 ", %" PRIu64 " items of %zu bytes", c->path, (size_t)((const char *)b - (const char *)&c->h),
			name, want, len, b->off, b->n, each);
	/* No CRC covers what lies between blocks. */
	for (uint64_t i = *end; i < want; i++)
		if (c->map.data[i] != 0)
			return nssm_err_set(err, NSSM_EFORMAT, "%s: offset %" PRIu64 ": expected 0 before block %s, found %u: the file is "
				"damaged", c->path, i, name, c->map.data[i]);
	*end = b->off + b->n * each;
	uint32_t found = crc ? crc_of(block_at(c, b), b->n * each) : 0;
	if (crc && found != b->crc)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: offset %" PRIu64 ": block %s: expected CRC-32 %08" PRIx32 ", found %08" PRIx32
			": the file is damaged", c->path, b->off, name, b->crc, found);
	return 0;
}

static int check_header(struct nssm_corpus *c, struct nssm_err *err)
{
	if (c->map.len < HEADER_BYTES)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: %zu bytes: too short for a corpus (header: %d bytes)", c->path, c->map.len,
			HEADER_BYTES);
	memcpy(&c->h, c->map.data, sizeof c->h);
	struct header *h = &c->h;
	if (memcmp(h->magic, NSSM_CORPUS_MAGIC, sizeof h->magic) != 0)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: offset 0: expected \"" NSSM_CORPUS_MAGIC "\": not a netssm corpus", c->path);
	if (h->version != NSSM_CORPUS_VERSION)
		return nssm_err_set(err, NSSM_EUNSUP, "%s: offset 8: corpus version %" PRIu32 ", this program reads version %d: make it "
			"again with netssm prepare", c->path, h->version, NSSM_CORPUS_VERSION);
	if (h->crc != header_crc(*h))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: offset 12: header: expected CRC-32 %08" PRIx32 ", found %08" PRIx32
			": the file is damaged", c->path, h->crc, header_crc(*h));
	if (h->file_len != c->map.len)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: %zu bytes, its header says %" PRIu64 ": the file is cut or was added to",
			c->path, c->map.len, h->file_len);
	uint64_t end = sizeof *h;
	int rc;
	if ((rc = check_block(c, &h->tokens, "tokens", sizeof(uint16_t), &end, false, err)) ||
		(rc = check_block(c, &h->stripes, "stripes", sizeof(uint32_t), &end, true, err)) ||
		(rc = check_block(c, &h->sessions, "sessions", sizeof(struct nssm_session_info), &end, true, err)) ||
		(rc = check_block(c, &h->counts, "counts", sizeof(uint64_t), &end, true, err)) ||
		(rc = check_block(c, &h->json, "json", 1, &end, true, err)))
		return rc;
	uint64_t stripes = (h->tokens.n * sizeof(uint16_t) + STRIPE_BYTES - 1) / STRIPE_BYTES;
	if (end != c->map.len || h->stripes.n != stripes || h->sessions.n > UINT32_MAX)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: header: blocks end at %" PRIu64 " of %zu bytes, %" PRIu64 " of %" PRIu64
			" stripes, %" PRIu64 " sessions", c->path, end, c->map.len, h->stripes.n, stripes, h->sessions.n);
	return 0;
}

static int read_u64(const json_t *o, const char *key, uint64_t *out, const char *where, struct nssm_err *err)
{
	const json_t *v = json_object_get(o, key);
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: %s: expected a count", where, key);
	*out = (uint64_t)json_integer_value(v);
	return 0;
}

static int read_label(struct nssm_label_stats *s, const json_t *o, const char *name, const char *path, struct nssm_err *err)
{
	char where[512];
	snprintf(where, sizeof where, "%.400s: json: labels[%s]", path, name);
	const char *found = json_string_value(json_object_get(o, "label"));
	if (found == NULL || strcmp(found, name) != 0)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: expected this label, found %s", where, found ? found : "none");
	int rc;
	if ((rc = read_u64(o, "sessions", &s->n_sessions, where, err)) || (rc = read_u64(o, "packets", &s->n_packets, where, err)) ||
		(rc = read_u64(o, "flows", &s->n_flows, where, err)) || (rc = read_u64(o, "tokens", &s->n_tokens, where, err)) ||
		(rc = read_u64(o, "cut", &s->n_cut, where, err)) || (rc = read_u64(o, "time_back", &s->n_time_back, where, err)))
		return rc;
	const json_t *skipped = json_object_get(o, "skipped"), *iat = json_object_get(o, "iat");
	for (int i = 1; i < NSSM_PKT_N_REASONS; i++)
		if (json_object_get(skipped, nssm_pkt_reason_name(i)) != NULL &&
			(rc = read_u64(skipped, nssm_pkt_reason_name(i), &s->skipped[i], where, err)))
			return rc;
	if (!json_is_array(iat) || json_array_size(iat) > NSSM_IAT_STEPS)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: iat: expected at most %d counts", where, NSSM_IAT_STEPS);
	for (size_t i = 0; i < json_array_size(iat); i++) {
		const json_t *v = json_array_get(iat, i);
		if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT64_MAX / NSSM_IAT_STEPS)
			return nssm_err_set(err, NSSM_EFORMAT, "%s: iat[%zu]: expected a count", where, i);
		s->iat.count[i] = (uint64_t)json_integer_value(v);
		s->iat.n += s->iat.count[i];
	}
	return 0;
}

static int read_json(struct nssm_corpus *c, struct nssm_err *err)
{
	json_error_t je;
	char where[512];
	snprintf(where, sizeof where, "%.480s: json", c->path);
	c->root = json_loadb(block_at(c, &c->h.json), c->h.json.n, JSON_REJECT_DUPLICATES, &je);
	if (c->root == NULL)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: offset %" PRIu64 ": json, byte %d: %s", c->path, c->h.json.off, je.position,
			je.text);
	int rc = nssm_codec_cfg_from_json(&c->codec, json_object_get(c->root, "codec"), where, err);
	if (rc == 0)
		rc = nssm_vocab_from_json(&c->vocab, json_object_get(c->root, "tokenizer"), where, err);
	if (rc == 0)
		rc = nssm_secure_from_json(&c->secure, json_object_get(c->root, "encrypted"), where, err);
	if (rc != 0)
		return rc;
	const json_t *labels = json_object_get(c->root, "labels");
	if (!json_is_array(labels) || json_array_size(labels) != c->vocab.n_labels)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: labels: expected %" PRIu32 " of them", where, c->vocab.n_labels);
	if (c->h.counts.n != c->vocab.n_tokens)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: block counts: expected %" PRIu32 " items, one a token, found %" PRIu64,
			c->path, c->vocab.n_tokens, c->h.counts.n);
	c->stats = calloc(c->vocab.n_labels ? c->vocab.n_labels : 1, sizeof *c->stats);
	if (c->stats == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for statistics", c->path);
	for (uint32_t i = 0; rc == 0 && i < c->vocab.n_labels; i++)
		rc = read_label(&c->stats[i], json_array_get(labels, i), c->vocab.label[i].name, c->path, err);
	return rc;
}

static int check_sessions(const struct nssm_corpus *c, struct nssm_err *err)
{
	uint64_t at = 0, n = c->h.tokens.n;
	for (uint32_t i = 0; i < c->h.sessions.n; i++) {
		const struct nssm_session_info *s = &c->session[i];
		if (s->first_token != at || s->n_tokens > n - at || s->label_idx >= c->vocab.n_labels)
			return nssm_err_set(err, NSSM_EFORMAT, "%s: offset %" PRIu64 ": session %" PRIu32 ": expected its tokens from %" PRIu64
				" on and a label below %" PRIu32 ", found token %" PRIu64 " + %" PRIu64 ", label %" PRIu32, c->path,
				c->h.sessions.off + i * sizeof *s, i, at, c->vocab.n_labels, s->first_token, s->n_tokens, s->label_idx);
		at += s->n_tokens;
	}
	if (at != n)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: sessions hold %" PRIu64 " tokens, the file %" PRIu64, c->path, at, n);
	return 0;
}

static int check_stripe(struct nssm_corpus *c, uint64_t i, struct nssm_err *err)
{
	if (c->stripe_ok[i])
		return 0;
	uint64_t per = STRIPE_BYTES / sizeof(uint16_t), from = i * per, left = c->h.tokens.n - from, n = left < per ? left : per;
	const uint16_t *t = c->token + from;
	uint32_t found = crc_of(t, n * sizeof *t);
	if (found != c->stripe[i])
		return nssm_err_set(err, NSSM_EFORMAT, "%s: offset %" PRIu64 ": tokens: expected CRC-32 %08" PRIx32 ", found %08" PRIx32
			": the file is damaged", c->path, c->h.tokens.off + from * sizeof *t, c->stripe[i], found);
	for (uint64_t k = 0; k < n; k++)
		if (t[k] >= c->vocab.n_tokens)
			return nssm_err_set(err, NSSM_EFORMAT, "%s: offset %" PRIu64 ": token %u; the tokenizer has %" PRIu32, c->path,
				c->h.tokens.off + (from + k) * sizeof *t, t[k], c->vocab.n_tokens);
	c->stripe_ok[i] = 1;
	return 0;
}

static int open_all(struct nssm_corpus *c, bool verify, struct nssm_err *err)
{
	int rc = nssm_map_open(&c->map, c->path, err);
	if (rc == 0)
		rc = check_header(c, err);
	if (rc != 0)
		return rc;
	c->token = block_at(c, &c->h.tokens);
	c->stripe = block_at(c, &c->h.stripes);
	c->session = block_at(c, &c->h.sessions);
	c->count = block_at(c, &c->h.counts);
	c->stripe_ok = calloc(c->h.stripes.n ? c->h.stripes.n : 1, 1);
	if (c->stripe_ok == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory", c->path);
	if ((rc = read_json(c, err)) || (rc = check_sessions(c, err)))
		return rc;
	for (uint64_t i = 0; verify && rc == 0 && i < c->h.stripes.n; i++)
		rc = check_stripe(c, i, err);
	return rc;
}

int nssm_corpus_open(struct nssm_corpus **cp, const char *path, bool verify, struct nssm_err *err)
{
	*cp = NULL;
	struct nssm_corpus *c = calloc(1, sizeof *c + strlen(path) + 1);
	if (c == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory", path);
	strcpy(c->path, path);
	int rc = open_all(c, verify, err);
	if (rc != 0)
		nssm_corpus_close(&c);
	*cp = c;
	return rc;
}

void nssm_corpus_close(struct nssm_corpus **cp)
{
	struct nssm_corpus *c = *cp;
	if (c == NULL)
		return;
	nssm_map_close(&c->map);
	free(c->stripe_ok);
	free(c->stats);
	json_decref(c->root);
	free(c);
	*cp = NULL;
}

uint32_t nssm_corpus_n_sessions(const struct nssm_corpus *c)
{
	return (uint32_t)c->h.sessions.n;
}

uint64_t nssm_corpus_n_tokens(const struct nssm_corpus *c)
{
	return c->h.tokens.n;
}

const struct nssm_session_info *nssm_corpus_session(const struct nssm_corpus *c, uint32_t idx)
{
	assert(idx < c->h.sessions.n);
	return &c->session[idx];
}

const uint16_t *nssm_corpus_tokens(const struct nssm_corpus *c, uint32_t idx)
{
	return c->token + nssm_corpus_session(c, idx)->first_token;
}

int nssm_corpus_check_session(struct nssm_corpus *c, uint32_t idx, struct nssm_err *err)
{
	const struct nssm_session_info *s = nssm_corpus_session(c, idx);
	if (s->n_tokens == 0)
		return 0;
	uint64_t per = STRIPE_BYTES / sizeof(uint16_t), last = (s->first_token + s->n_tokens - 1) / per;
	int rc = 0;
	for (uint64_t i = s->first_token / per; rc == 0 && i <= last; i++)
		rc = check_stripe(c, i, err);
	return rc;
}

const struct nssm_vocab *nssm_corpus_vocab(const struct nssm_corpus *c)
{
	return &c->vocab;
}

const struct nssm_codec_cfg *nssm_corpus_codec(const struct nssm_corpus *c)
{
	return &c->codec;
}

const struct nssm_label_stats *nssm_corpus_stats(const struct nssm_corpus *c, uint32_t label_idx)
{
	assert(label_idx < c->vocab.n_labels);
	return &c->stats[label_idx];
}

const struct nssm_secure_ports *nssm_corpus_secure(const struct nssm_corpus *c)
{
	return &c->secure;
}

const json_t *nssm_corpus_made_by(const struct nssm_corpus *c)
{
	return json_object_get(c->root, "made_by");
}

uint32_t nssm_corpus_hash(const struct nssm_corpus *c)
{
	/* The stripes' CRC stands in the header, so this covers the tokens too. */
	return c->h.crc;
}

double nssm_corpus_unigram_bits(const struct nssm_corpus *c)
{
	double bits = 0, n = (double)c->h.tokens.n;
	for (uint64_t i = 0; i < c->h.counts.n; i++)
		if (c->count[i] > 0)
			bits -= (double)c->count[i] / n * log2((double)c->count[i] / n);
	return bits;
}
