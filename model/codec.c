#include "model/codec.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "model/codec_flow.h"
#include "model/codec_raw.h"
#include "model/flow_codec.h"
#include "model/flow_context.h"
#include "model/flow_grammar.h"

/* --- configuration -------------------------------------------------------------------------------------------- */

static const char *const kind_name[] = {"raw", "flow"};
static const char *const payload_name[] = {"none", "prefix", "full"};
static const char *const identity_name[] = {"keep", "pool"};
static const char *const fill_name[] = {"zeros", "random", "tls"};

static int find(const char *const *name, int n, const char *what)
{
	for (int i = 0; i < n; i++)
		if (strcmp(name[i], what) == 0)
			return i;
	return -1;
}

int nssm_codec_kind_find(const char *name)
{
	return find(kind_name, 2, name);
}

int nssm_payload_find(const char *name)
{
	return find(payload_name, 3, name);
}

int nssm_identity_find(const char *name)
{
	return find(identity_name, 2, name);
}

int nssm_fill_find(const char *name)
{
	return find(fill_name, 3, name);
}

const char *nssm_codec_kind_name(const struct nssm_codec_cfg *cfg)
{
	return kind_name[cfg->kind];
}

void nssm_codec_describe(char *text, size_t bytes, const struct nssm_codec_cfg *cfg)
{
	if (cfg->kind == NSSM_CODEC_RAW)
		snprintf(text, bytes, "raw, %u bytes a packet%s", cfg->pkt_len,
		        cfg->compat_paper ? ", the published preprocessor's bytes (compat paper)" : "");
	else if (cfg->payload == NSSM_PAYLOAD_PREFIX)
		snprintf(text, bytes, "flow, %u bytes of UDP payload, identity %s", cfg->prefix, identity_name[cfg->identity]);
	else
		snprintf(text, bytes, "flow, payload %s, identity %s", payload_name[cfg->payload], identity_name[cfg->identity]);
	size_t n = strlen(text);
	if (cfg->conditions > 0)
		snprintf(text + n, bytes - n, ", %u conditions", cfg->conditions);
}

json_t *nssm_codec_cfg_to_json(const struct nssm_codec_cfg *cfg)
{
	if (cfg->kind == NSSM_CODEC_RAW)
		return json_pack("{s:s, s:I, s:I, s:s}", "kind", "raw", "version", (json_int_t)cfg->version, "pkt_len",
		        (json_int_t)cfg->pkt_len, "compat", cfg->compat_paper ? "paper" : "none");
	return json_pack("{s:s, s:I, s:s, s:I, s:s, s:I}", "kind", "flow", "version", (json_int_t)cfg->version, "payload",
	        payload_name[cfg->payload], "prefix", (json_int_t)cfg->prefix, "identity", identity_name[cfg->identity],
	        "conditions", (json_int_t)cfg->conditions);
}

static int check_flow(const struct nssm_codec_cfg *cfg, const char *where, struct nssm_err *err)
{
	bool prefix = cfg->payload == NSSM_PAYLOAD_PREFIX, pool = cfg->identity == NSSM_IDENTITY_POOL;
	if (cfg->version != NSSM_FLOW_VERSION)
		return nssm_err_set(err, NSSM_EUNSUP, "%s: codec flow version %u; this version knows %d", where, cfg->version,
		        NSSM_FLOW_VERSION);
	if (prefix ? cfg->prefix < 1 || cfg->prefix > 255 : cfg->prefix != 0)
		return nssm_err_set(err, NSSM_ERANGE, "%s: codec prefix %u; expected %s", where, cfg->prefix,
		        prefix ? "1..255" : "0 unless payload is prefix");
	if (cfg->conditions != 0 && cfg->conditions != NSSM_N_CONDITIONS)
		return nssm_err_set(err, NSSM_ERANGE, "%s: codec conditions %u; expected 0 or %d", where, cfg->conditions,
		        NSSM_N_CONDITIONS);
	if (pool && (cfg->payload == NSSM_PAYLOAD_FULL || cfg->prefix > NSSM_FLOW_RUN_MAX))
		return nssm_err_set(err, NSSM_ERANGE,
		        "%s: codec identity pool: payload holds addresses (DNS, DHCP, SSDP, ...); expected payload none or a "
		        "prefix of at most %d bytes",
		        where, NSSM_FLOW_RUN_MAX);
	return 0;
}

int nssm_codec_cfg_check(const struct nssm_codec_cfg *cfg, const char *where, struct nssm_err *err)
{
	if (cfg->kind == NSSM_CODEC_FLOW)
		return check_flow(cfg, where, err);
	if (cfg->kind != NSSM_CODEC_RAW)
		return nssm_err_set(err, NSSM_EUNSUP, "%s: codec kind %d; this version knows raw (0) and flow (1)", where, (int)cfg->kind);
	if (cfg->version != 1)
		return nssm_err_set(err, NSSM_EUNSUP, "%s: codec raw version %u; this version knows 1", where, cfg->version);
	if (cfg->conditions != 0)
		return nssm_err_set(err, NSSM_ERANGE, "%s: codec raw has no conditions, found %u", where, cfg->conditions);
	if (cfg->pkt_len < NSSM_RAW_PKT_LEN_MIN || cfg->pkt_len > NSSM_RAW_PKT_LEN_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "%s: codec pkt_len %u; expected %d..%d", where, cfg->pkt_len,
		        NSSM_RAW_PKT_LEN_MIN, NSSM_RAW_PKT_LEN_MAX);
	return 0;
}

static int get_number(uint32_t *out, const json_t *j, const char *key, const char *where, struct nssm_err *err)
{
	const json_t *value = json_object_get(j, key);
	if (!json_is_integer(value))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: codec.%s: expected a whole number", where, key);
	json_int_t v = json_integer_value(value);
	if (v < 0 || v > UINT16_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "%s: codec.%s: %lld; expected 0..65535", where, key, (long long)v);
	*out = (uint32_t)v;
	return 0;
}

/* One of n words; a key that is not there is the first where it may be left out. */
static int get_word(int *out, const json_t *j, const char *key, const char *const *word, int n, bool may_lack, const char *where,
        struct nssm_err *err)
{
	const json_t *value = json_object_get(j, key);
	const char *text = json_is_string(value) ? json_string_value(value) : value == NULL && may_lack ? word[0] : "";
	*out = find(word, n, text);
	if (*out < 0)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: codec.%s: expected \"%s\", \"%s\"%s%s%s", where, key, word[0], word[1],
		        n > 2 ? " or \"" : "", n > 2 ? word[2] : "", n > 2 ? "\"" : "");
	return 0;
}

static int flow_from_json(struct nssm_codec_cfg *cfg, const json_t *j, const char *where, struct nssm_err *err)
{
	int payload = 0, identity = 0;
	int rc = get_word(&payload, j, "payload", payload_name, 3, false, where, err);
	if (rc == 0)
		rc = get_number(&cfg->prefix, j, "prefix", where, err);
	if (rc == 0)
		rc = get_word(&identity, j, "identity", identity_name, 2, false, where, err);
	if (rc == 0 && json_object_get(j, "conditions") != NULL)
		rc = get_number(&cfg->conditions, j, "conditions", where, err);
	cfg->payload = (enum nssm_payload)payload;
	cfg->identity = (enum nssm_identity)identity;
	return rc;
}

static int raw_from_json(struct nssm_codec_cfg *cfg, const json_t *j, const char *where, struct nssm_err *err)
{
	static const char *const compat_name[] = {"none", "paper"};
	int compat = 0;
	int rc = get_number(&cfg->pkt_len, j, "pkt_len", where, err);
	if (rc == 0)
		rc = get_word(&compat, j, "compat", compat_name, 2, true, where, err);
	cfg->compat_paper = compat == 1;
	return rc;
}

int nssm_codec_cfg_from_json(struct nssm_codec_cfg *cfg, const json_t *j, const char *where, struct nssm_err *err)
{
	*cfg = (struct nssm_codec_cfg){0};
	if (!json_is_object(j))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: codec: expected an object", where);
	const json_t *kind = json_object_get(j, "kind");
	if (!json_is_string(kind))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: codec.kind: expected a string", where);
	int k = nssm_codec_kind_find(json_string_value(kind));
	if (k < 0)
		return nssm_err_set(err, NSSM_EUNSUP, "%s: codec.kind: \"%.40s\"; this version knows \"raw\" and \"flow\"", where,
		        json_string_value(kind));
	cfg->kind = (enum nssm_codec_kind)k;
	int rc = get_number(&cfg->version, j, "version", where, err);
	if (rc == 0)
		rc = cfg->kind == NSSM_CODEC_RAW ? raw_from_json(cfg, j, where, err) : flow_from_json(cfg, j, where, err);
	return rc != 0 ? rc : nssm_codec_cfg_check(cfg, where, err);
}

bool nssm_codec_cfg_same(const struct nssm_codec_cfg *a, const struct nssm_codec_cfg *b)
{
	return a->kind == b->kind && a->version == b->version && a->pkt_len == b->pkt_len && a->compat_paper == b->compat_paper &&
	       a->payload == b->payload && a->prefix == b->prefix && a->identity == b->identity && a->conditions == b->conditions;
}

size_t nssm_codec_head(uint16_t *out, const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab, uint32_t label_idx,
        const uint8_t *conditions)
{
	assert(label_idx < vocab->n_labels);
	out[0] = vocab->label[label_idx].id;
	for (uint32_t i = 0; i < cfg->conditions; i++)
		out[1 + i] = vocab->byte_id[conditions != NULL ? conditions[i] : 0];
	return 1 + cfg->conditions;
}

/* --- encoder -------------------------------------------------------------------------------------------------- */

struct nssm_encoder {
	struct nssm_codec_cfg cfg;
	const struct nssm_vocab *vocab;
	uint64_t n_packets;
	uint32_t n_beyond_paper;
	struct flow_encoder *flow;
	uint8_t *said; /* flow: a packet's bytes */
};

int nssm_encoder_open(struct nssm_encoder **ep, const struct nssm_codec_cfg *cfg,
        const struct nssm_vocab *vocab, struct nssm_err *err)
{
	*ep = NULL;
	int rc = nssm_codec_cfg_check(cfg, "encoder", err);
	if (rc != 0)
		return rc;
	struct nssm_encoder *e = calloc(1, sizeof *e);
	if (e == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "encoder: no memory");
	e->cfg = *cfg;
	e->vocab = vocab;
	if (cfg->kind == NSSM_CODEC_FLOW) {
		e->flow = flow_encoder_open(cfg);
		e->said = malloc(nssm_encoder_max_tokens(e));
	}
	if (cfg->kind == NSSM_CODEC_FLOW && (e->flow == NULL || e->said == NULL)) {
		nssm_encoder_close(&e);
		return nssm_err_set(err, NSSM_ENOMEM, "encoder: no memory");
	}
	*ep = e;
	return 0;
}

void nssm_encoder_close(struct nssm_encoder **ep)
{
	struct nssm_encoder *e = *ep;
	*ep = NULL;
	if (e == NULL)
		return;
	flow_encoder_close(e->flow);
	free(e->said);
	free(e);
}

size_t nssm_encoder_max_tokens(const struct nssm_encoder *e)
{
	if (e->cfg.kind == NSSM_CODEC_RAW)
		return 1 + (size_t)e->cfg.pkt_len;
	return 1 + FLOW_SAID_MAX + (e->cfg.payload == NSSM_PAYLOAD_FULL ? NSSM_CODEC_CAPLEN_MAX : 0);
}

size_t nssm_encoder_begin(struct nssm_encoder *e, uint16_t *out, uint32_t label_idx, const uint8_t *conditions)
{
	e->n_packets = 0;
	e->n_beyond_paper = 0;
	if (e->flow != NULL)
		flow_encoder_begin(e->flow);
	return nssm_codec_head(out, &e->cfg, e->vocab, label_idx, conditions);
}

static size_t flow_packet(struct nssm_encoder *e, uint16_t *out, const struct nssm_pkt *pkt)
{
	assert(pkt->caplen <= NSSM_CODEC_CAPLEN_MAX);
	size_t n = flow_encode(e->flow, e->said, pkt);
	out[0] = e->vocab->pkt;
	for (size_t i = 0; i < n; i++)
		out[1 + i] = e->vocab->byte_id[e->said[i]];
	return 1 + n;
}

size_t nssm_encoder_packet(
        struct nssm_encoder *e, uint16_t *out, const struct nssm_pkt *pkt, int *reason, uint32_t *cut)
{
	if (e->cfg.kind == NSSM_CODEC_FLOW) {
		*reason = NSSM_PKT_OK;
		*cut = 0;
		return flow_packet(e, out, pkt);
	}
	uint8_t bytes[NSSM_RAW_PKT_LEN_MAX];
	bool beyond_paper;
	*reason = nssm_raw_spell(bytes, &e->cfg, pkt, cut, &beyond_paper);
	if (*reason != NSSM_PKT_OK)
		return 0;
	e->n_beyond_paper += beyond_paper;
	size_t n = 0;
	if (e->n_packets++ > 0)
		out[n++] = e->vocab->pkt;
	for (uint32_t i = 0; i < e->cfg.pkt_len; i++)
		out[n++] = e->vocab->byte_id[bytes[i]];
	return n;
}

size_t nssm_encoder_end(struct nssm_encoder *e, uint16_t *out)
{
	if (e->cfg.compat_paper)
		return 0;
	out[0] = e->vocab->eot;
	return 1;
}

uint64_t nssm_encoder_n_time_back(const struct nssm_encoder *e)
{
	return e->flow != NULL ? flow_encoder_time_back(e->flow) : 0;
}

uint32_t nssm_encoder_n_beyond_paper(const struct nssm_encoder *e)
{
	return e->n_beyond_paper;
}

/* --- decoder -------------------------------------------------------------------------------------------------- */

struct nssm_decoder {
	struct nssm_codec_cfg cfg;
	const struct nssm_vocab *vocab;
	enum nssm_fill fill;
	struct nssm_rng rng;
	bool at_start, ended, stray;
	uint32_t n_conditions; /* still to come */
	uint32_t n_made; /* bytes of the packet being spelled; those from pkt_len on are not kept */
	uint64_t n_tokens;
	struct flow_decoder *flow;
	uint8_t frame[NSSM_FRAME_MAX]; /* raw */
};

int nssm_decoder_open(struct nssm_decoder **dp, const struct nssm_codec_cfg *cfg,
        const struct nssm_vocab *vocab, enum nssm_fill fill, struct nssm_err *err)
{
	*dp = NULL;
	int rc = nssm_codec_cfg_check(cfg, "decoder", err);
	if (rc != 0)
		return rc;
	if (cfg->kind == NSSM_CODEC_RAW && fill == NSSM_FILL_TLS)
		return nssm_err_set(err, NSSM_EUNSUP, "payload tls: codec raw knows no flows whose records could go on; expected zeros or random");
	struct nssm_decoder *d = calloc(1, sizeof *d);
	if (d == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "decoder: no memory");
	d->cfg = *cfg;
	d->vocab = vocab;
	d->fill = fill;
	if (cfg->kind == NSSM_CODEC_FLOW && (d->flow = flow_decoder_open(cfg, fill)) == NULL) {
		free(d);
		return nssm_err_set(err, NSSM_ENOMEM, "decoder: no memory");
	}
	nssm_decoder_begin(d, 0, 0);
	*dp = d;
	return 0;
}

void nssm_decoder_close(struct nssm_decoder **d)
{
	if (*d != NULL)
		flow_decoder_close((*d)->flow);
	free(*d);
	*d = NULL;
}

void nssm_decoder_secure(struct nssm_decoder *d, const struct nssm_secure_ports *ports)
{
	if (d->flow != NULL)
		flow_decoder_secure(d->flow, ports);
}

void nssm_decoder_begin(struct nssm_decoder *d, uint64_t seed, uint64_t session)
{
	nssm_rng_init(&d->rng, seed, session, NSSM_RNG_PAYLOAD);
	d->at_start = true;
	d->ended = false;
	d->stray = false;
	d->n_made = 0;
	d->n_tokens = 0;
	d->n_conditions = d->cfg.conditions;
	if (d->flow != NULL)
		flow_decoder_begin(d->flow, seed, session);
}

static void fill_random(void *ctx, uint8_t *dst, uint32_t n)
{
	nssm_rng_bytes(ctx, dst, n);
}

/* The packet spelled so far is complete. */
static enum nssm_dec_event finish(struct nssm_decoder *d, struct nssm_frame *frame)
{
	*frame = (struct nssm_frame){.data = d->frame, .at_token = d->n_tokens};
	if (d->stray) {
		frame->reason = NSSM_PKT_STRAY_TOKEN;
	} else {
		uint32_t known = nssm_raw_known(d->frame, d->n_made);
		frame->reason = nssm_pkt_repair(d->frame, sizeof d->frame, known, &frame->len,
		        &frame->repaired, d->fill == NSSM_FILL_RANDOM ? fill_random : NULL, &d->rng);
		frame->n_known = known < frame->len ? known : frame->len;
		frame->caplen = frame->len;
	}
	d->n_made = 0;
	d->stray = false;
	return frame->reason == NSSM_PKT_OK ? NSSM_DEC_PACKET : NSSM_DEC_REJECT;
}

static enum nssm_dec_event reject(struct nssm_decoder *d, struct nssm_frame *frame, int reason)
{
	*frame = (struct nssm_frame){.data = d->frame, .reason = reason, .at_token = d->n_tokens};
	return NSSM_DEC_REJECT;
}

/* A packet that cannot be is over where that shows; what follows it up to the next <|pkt|> is passed over with it. */
static enum nssm_dec_event flow_token(struct nssm_decoder *d, uint16_t token, bool first, struct nssm_frame *frame)
{
	bool within = flow_decoder_within(d->flow) && !d->stray;
	bool lacks = d->n_conditions > 0 && !d->stray;
	switch (token < d->vocab->n_tokens ? d->vocab->kind[token] : NSSM_TOK_NONE) {
	case NSSM_TOK_BYTE:
		if (d->stray)
			return NSSM_DEC_NONE;
		if (lacks && !first) {
			d->n_conditions--;
			return NSSM_DEC_NONE;
		}
		if (within) {
			enum flow_gram_event ev = flow_decoder_byte(d->flow, (uint8_t)d->vocab->value[token], frame);
			if (ev == FLOW_GRAM_MORE)
				return NSSM_DEC_NONE;
			frame->at_token = d->n_tokens;
			if (ev == FLOW_GRAM_WHOLE)
				return NSSM_DEC_PACKET;
		}
		d->stray = true;
		return reject(d, frame, NSSM_PKT_BAD_TOKEN);
	case NSSM_TOK_PKT:
		d->stray = false;
		d->n_conditions = 0;
		flow_decoder_packet(d->flow);
		return within || lacks ? reject(d, frame, NSSM_PKT_SHORT) : NSSM_DEC_NONE;
	case NSSM_TOK_EOT:
		d->ended = true;
		return within || lacks ? reject(d, frame, NSSM_PKT_SHORT) : NSSM_DEC_END;
	default:
		if ((first && d->vocab->kind[token] == NSSM_TOK_LABEL) || d->stray)
			return NSSM_DEC_NONE;
		d->stray = true;
		return reject(d, frame, NSSM_PKT_STRAY_TOKEN);
	}
}

enum nssm_dec_event nssm_decoder_token(struct nssm_decoder *d, uint16_t token, struct nssm_frame *frame)
{
	if (d->ended)
		return NSSM_DEC_END;
	bool first = d->at_start;
	d->at_start = false;
	d->n_tokens++;
	if (d->flow != NULL)
		return flow_token(d, token, first, frame);
	switch (token < d->vocab->n_tokens ? d->vocab->kind[token] : NSSM_TOK_NONE) {
	case NSSM_TOK_BYTE:
		/* A packet that runs on is what its first pkt_len bytes say. */
		if (d->n_made < d->cfg.pkt_len)
			d->frame[d->n_made++] = (uint8_t)d->vocab->value[token];
		return NSSM_DEC_NONE;
	case NSSM_TOK_PKT:
		return finish(d, frame);
	case NSSM_TOK_EOT:
		return nssm_decoder_flush(d, frame);
	case NSSM_TOK_LABEL:
		d->stray |= !first;
		return NSSM_DEC_NONE;
	default:
		d->stray = true;
		return NSSM_DEC_NONE;
	}
}

enum nssm_dec_event nssm_decoder_flush(struct nssm_decoder *d, struct nssm_frame *frame)
{
	bool over = d->ended;
	d->ended = true;
	if (d->flow != NULL)
		return !over && flow_decoder_within(d->flow) && !d->stray ? reject(d, frame, NSSM_PKT_SHORT) : NSSM_DEC_END;
	if (over || (d->n_made == 0 && !d->stray))
		return NSSM_DEC_END;
	return finish(d, frame);
}

enum nssm_dec_event nssm_decoder_teardown(struct nssm_decoder *d, struct nssm_frame *frame)
{
	d->ended = true;
	if (d->flow == NULL || !flow_decoder_teardown(d->flow, frame))
		return NSSM_DEC_END;
	frame->at_token = d->n_tokens;
	return NSSM_DEC_PACKET;
}

/* --- what may come next --------------------------------------------------------------------------------------- */

/* The automaton, and what beside it tells where a token stands. */
struct flow_lane {
	struct flow_gram gram;
	struct flow_memory memory;
};

size_t nssm_codec_mask_bytes(const struct nssm_codec_cfg *cfg)
{
	return cfg->kind == NSSM_CODEC_FLOW ? sizeof(struct flow_lane) : 0;
}

static void set(uint64_t *legal, uint32_t id)
{
	legal[id / 64] |= 1ull << id % 64;
}

bool nssm_codec_mask(uint64_t legal[NSSM_MASK_WORDS], const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab,
        enum nssm_mask mask, const void *state)
{
	if (cfg->kind == NSSM_CODEC_RAW)
		return false;
	const struct flow_gram *g = &((const struct flow_lane *)state)->gram;
	memset(legal, 0, (vocab->n_tokens + 63) / 64 * sizeof *legal);
	if (!g->begun) {
		for (uint32_t i = 0; i < vocab->n_labels; i++)
			set(legal, vocab->label[i].id);
	} else if (g->conditions == 0 && flow_gram_between(g)) {
		set(legal, vocab->pkt);
		set(legal, vocab->eot);
	} else {
		uint64_t byte[4] = {~0ull, ~0ull, ~0ull, ~0ull}; /* a condition: unknown, or any step */
		if (g->conditions == 0)
			flow_gram_legal(byte, g, cfg, mask == NSSM_MASK_CLEAN);
		for (uint32_t w = 0; w < 4; w++)
			for (uint64_t m = byte[w]; m != 0; m &= m - 1)
				set(legal, vocab->byte_id[64 * w + (uint32_t)__builtin_ctzll(m)]);
	}
	return true;
}

void nssm_codec_mask_next(const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab, void *state, uint16_t token)
{
	if (cfg->kind == NSSM_CODEC_RAW)
		return;
	struct flow_lane *lane = state;
	struct flow_gram *g = &lane->gram;
	if (!g->begun) {
		flow_gram_begin(g);
		flow_memory_begin(&lane->memory);
		g->begun = 1;
		g->conditions = (uint8_t)cfg->conditions;
		if (vocab->kind[token] == NSSM_TOK_LABEL)
			return;
	}
	/* A prompt may hold anything: what cannot be ends where the decoder ends it. */
	if (vocab->kind[token] == NSSM_TOK_PKT) {
		g->conditions = 0;
		flow_gram_packet(g);
	} else if (vocab->kind[token] == NSSM_TOK_BYTE && g->conditions > 0) {
		g->conditions--;
	} else if (!flow_gram_between(g)) {
		bool byte = vocab->kind[token] == NSSM_TOK_BYTE;
		if (byte)
			flow_memory_byte(&lane->memory, g, (uint8_t)vocab->value[token]);
		if (!byte || flow_gram_byte(g, cfg, (uint8_t)vocab->value[token]) == FLOW_GRAM_ILLEGAL)
			g->field = F_N_FIELDS;
	}
}

void nssm_codec_mask_gap(uint64_t legal[NSSM_MASK_WORDS], const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab,
        const void *state, unsigned most_step)
{
	if (cfg->kind != NSSM_CODEC_FLOW)
		return;
	const struct flow_gram *g = &((const struct flow_lane *)state)->gram;
	if (!g->begun || g->conditions > 0 || g->field != F_GAP)
		return;
	for (unsigned b = most_step + 1; b < 256; b++)
		legal[vocab->byte_id[b] / 64] &= ~(1ull << vocab->byte_id[b] % 64);
}

unsigned nssm_codec_n_contexts(const struct nssm_codec_cfg *cfg)
{
	return cfg->kind == NSSM_CODEC_FLOW ? flow_n_contexts() : 0;
}

unsigned nssm_codec_context(const struct nssm_codec_cfg *cfg, const void *state)
{
	const struct flow_lane *lane = state;
	return cfg->kind == NSSM_CODEC_FLOW ? flow_context(&lane->memory, &lane->gram, cfg) : 0;
}

bool nssm_codec_pkt_closes(const struct nssm_codec_cfg *cfg)
{
	return cfg->kind == NSSM_CODEC_RAW;
}
