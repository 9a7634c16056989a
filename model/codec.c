#include "model/codec.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "model/codec_raw.h"

/* --- configuration -------------------------------------------------------------------------------------------- */

int nssm_codec_kind_find(const char *name)
{
	return strcmp(name, "raw") == 0 ? NSSM_CODEC_RAW : -1;
}

json_t *nssm_codec_cfg_to_json(const struct nssm_codec_cfg *cfg)
{
	return json_pack("{s:s, s:I, s:I, s:s}", "kind", "raw", "version", (json_int_t)cfg->version,
	        "pkt_len", (json_int_t)cfg->pkt_len, "compat", cfg->compat_paper ? "paper" : "none");
}

static int check_cfg(const struct nssm_codec_cfg *cfg, const char *where, struct nssm_err *err)
{
	if (cfg->kind != NSSM_CODEC_RAW)
		return nssm_err_set(err, NSSM_EUNSUP, "%s: codec kind %d; this version knows raw (0)", where,
		        (int)cfg->kind);
	if (cfg->version != 1)
		return nssm_err_set(err, NSSM_EUNSUP, "%s: codec raw version %u; this version knows 1", where,
		        cfg->version);
	if (cfg->pkt_len < NSSM_RAW_PKT_LEN_MIN || cfg->pkt_len > NSSM_RAW_PKT_LEN_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "%s: codec pkt_len %u; expected %d..%d", where,
		        cfg->pkt_len, NSSM_RAW_PKT_LEN_MIN, NSSM_RAW_PKT_LEN_MAX);
	return 0;
}

int nssm_codec_cfg_from_json(
        struct nssm_codec_cfg *cfg, const json_t *j, const char *where, struct nssm_err *err)
{
	*cfg = (struct nssm_codec_cfg){0};
	if (!json_is_object(j))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: codec: expected an object", where);
	const json_t *kind = json_object_get(j, "kind"), *compat = json_object_get(j, "compat");
	const json_t *version = json_object_get(j, "version"), *pkt_len = json_object_get(j, "pkt_len");
	if (!json_is_string(kind))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: codec.kind: expected a string", where);
	if (nssm_codec_kind_find(json_string_value(kind)) < 0)
		return nssm_err_set(err, NSSM_EUNSUP, "%s: codec.kind: \"%.40s\"; this version knows \"raw\"",
		        where, json_string_value(kind));
	const struct {
		const char *key;
		const json_t *value;
		uint32_t *out;
	} number[] = {{"version", version, &cfg->version}, {"pkt_len", pkt_len, &cfg->pkt_len}};
	for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
		if (!json_is_integer(number[i].value))
			return nssm_err_set(err, NSSM_EFORMAT, "%s: codec.%s: expected a whole number", where,
			        number[i].key);
		json_int_t v = json_integer_value(number[i].value);
		if (v < 0 || v > UINT16_MAX)
			return nssm_err_set(err, NSSM_ERANGE, "%s: codec.%s: %lld; expected 0..65535", where,
			        number[i].key, (long long)v);
		*number[i].out = (uint32_t)v;
	}
	const char *c = compat == NULL ? "none" : json_is_string(compat) ? json_string_value(compat) : "";
	if (strcmp(c, "none") != 0 && strcmp(c, "paper") != 0)
		return nssm_err_set(
		        err, NSSM_EFORMAT, "%s: codec.compat: expected \"none\" or \"paper\"", where);
	cfg->compat_paper = strcmp(c, "paper") == 0;
	return check_cfg(cfg, where, err);
}

/* --- encoder -------------------------------------------------------------------------------------------------- */

struct nssm_encoder {
	struct nssm_codec_cfg cfg;
	const struct nssm_vocab *vocab;
	uint64_t n_packets;
	uint32_t n_beyond_paper;
};

int nssm_encoder_open(struct nssm_encoder **ep, const struct nssm_codec_cfg *cfg,
        const struct nssm_vocab *vocab, struct nssm_err *err)
{
	*ep = NULL;
	int rc = check_cfg(cfg, "encoder", err);
	if (rc != 0)
		return rc;
	struct nssm_encoder *e = calloc(1, sizeof *e);
	if (e == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "encoder: no memory");
	e->cfg = *cfg;
	e->vocab = vocab;
	*ep = e;
	return 0;
}

void nssm_encoder_close(struct nssm_encoder **e)
{
	free(*e);
	*e = NULL;
}

size_t nssm_encoder_max_tokens(const struct nssm_encoder *e)
{
	return 1 + (size_t)e->cfg.pkt_len;
}

size_t nssm_encoder_begin(struct nssm_encoder *e, uint16_t *out, uint32_t label_idx)
{
	assert(label_idx < e->vocab->n_labels);
	e->n_packets = 0;
	e->n_beyond_paper = 0;
	out[0] = e->vocab->label[label_idx].id;
	return 1;
}

size_t nssm_encoder_packet(
        struct nssm_encoder *e, uint16_t *out, const struct nssm_pkt *pkt, int *reason, uint32_t *cut)
{
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
	uint32_t n_made; /* bytes of the packet being spelled; those from pkt_len on are not kept */
	uint8_t frame[NSSM_FRAME_MAX];
};

int nssm_decoder_open(struct nssm_decoder **dp, const struct nssm_codec_cfg *cfg,
        const struct nssm_vocab *vocab, enum nssm_fill fill, struct nssm_err *err)
{
	*dp = NULL;
	int rc = check_cfg(cfg, "decoder", err);
	if (rc != 0)
		return rc;
	struct nssm_decoder *d = calloc(1, sizeof *d);
	if (d == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "decoder: no memory");
	d->cfg = *cfg;
	d->vocab = vocab;
	d->fill = fill;
	nssm_decoder_begin(d, 0, 0);
	*dp = d;
	return 0;
}

void nssm_decoder_close(struct nssm_decoder **d)
{
	free(*d);
	*d = NULL;
}

void nssm_decoder_begin(struct nssm_decoder *d, uint64_t seed, uint64_t session)
{
	nssm_rng_init(&d->rng, seed, session, NSSM_RNG_PAYLOAD);
	d->at_start = true;
	d->ended = false;
	d->stray = false;
	d->n_made = 0;
}

static void fill_random(void *ctx, uint8_t *dst, uint32_t n)
{
	nssm_rng_bytes(ctx, dst, n);
}

/* The packet spelled so far is complete. */
static enum nssm_dec_event finish(struct nssm_decoder *d, struct nssm_frame *frame)
{
	*frame = (struct nssm_frame){.data = d->frame};
	if (d->stray) {
		frame->reason = NSSM_PKT_STRAY_TOKEN;
	} else {
		uint32_t known = nssm_raw_known(d->frame, d->n_made);
		frame->reason = nssm_pkt_repair(d->frame, sizeof d->frame, known, &frame->len,
		        &frame->repaired, d->fill == NSSM_FILL_RANDOM ? fill_random : NULL, &d->rng);
		frame->n_known = known < frame->len ? known : frame->len;
	}
	d->n_made = 0;
	d->stray = false;
	return frame->reason == NSSM_PKT_OK ? NSSM_DEC_PACKET : NSSM_DEC_REJECT;
}

enum nssm_dec_event nssm_decoder_token(struct nssm_decoder *d, uint16_t token, struct nssm_frame *frame)
{
	if (d->ended)
		return NSSM_DEC_END;
	bool first = d->at_start;
	d->at_start = false;
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
	if (over || (d->n_made == 0 && !d->stray))
		return NSSM_DEC_END;
	return finish(d, frame);
}

/* --- what may come next --------------------------------------------------------------------------------------- */

size_t nssm_codec_mask_bytes(const struct nssm_codec_cfg *cfg)
{
	return 0;
}

const uint64_t *nssm_codec_mask(
        const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab, const void *state)
{
	return NULL;
}

void nssm_codec_mask_next(
        const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab, void *state, uint16_t token)
{
}

bool nssm_codec_pkt_closes(const struct nssm_codec_cfg *cfg)
{
	return cfg->kind == NSSM_CODEC_RAW;
}
