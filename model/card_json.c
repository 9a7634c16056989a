#include "model/card_json.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/jsonfile.h"

#define FORMAT_VERSION 1

/* --- config.json ----------------------------------------------------------------------------- */

/* Where a value stands: for messages, "config.json: ssm_cfg.d_state". */
struct at {
	const char *path, *prefix;
	const json_t *obj;
};

/* A missing or null key gets the fallback; fallback < 0: the key must be there. */
static int get_int(int *out, struct at at, const char *key, int fallback, struct nssm_err *err)
{
	const json_t *j = json_object_get(at.obj, key);
	if ((j == NULL || json_is_null(j)) && fallback >= 0) {
		*out = fallback;
		return 0;
	}
	if (!json_is_integer(j))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: %s%s: expected an integer, found %s", at.path,
		        at.prefix, key, nssm_json_what(j));
	json_int_t v = json_integer_value(j);
	if (v < 0 || v > INT_MAX / 2)
		return nssm_err_set(err, NSSM_ERANGE, "%s: %s%s: expected 0..%d, found %" JSON_INTEGER_FORMAT,
		        at.path, at.prefix, key, INT_MAX / 2, v);
	*out = (int)v;
	return 0;
}

/* What the model cannot do unless key is missing or has the one value it can: a shown one, for the message.
 */
static int unsupported(struct at at, const char *key, const char *can, struct nssm_err *err)
{
	const json_t *j = json_object_get(at.obj, key);
	char *found = j != NULL ? json_dumps(j, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
	int rc = nssm_err_set(err, NSSM_EUNSUP, "%s: %s%s: this version can do %s only, found %s", at.path,
	        at.prefix, key, can, found != NULL ? nssm_quote(found).s : "missing");
	free(found);
	return rc;
}

static int want_int(struct at at, const char *key, int can, struct nssm_err *err)
{
	int v;
	int rc = get_int(&v, at, key, can, err);
	if (rc != 0 || v == can)
		return rc;
	char s[16];
	snprintf(s, sizeof s, "%d", can);
	return unsupported(at, key, s, err);
}

static int want_bool(struct at at, const char *key, bool can, struct nssm_err *err)
{
	const json_t *j = json_object_get(at.obj, key);
	if (j == NULL || json_is_null(j) || (json_is_boolean(j) && json_is_true(j) == can))
		return 0;
	return unsupported(at, key, can ? "true" : "false", err);
}

/* Keys of the reference's Mamba2 class beside the sizes. Those that only start or run a training are let be.
 */
static int check_ssm_keys(struct at at, struct nssm_err *err)
{
	static const char *const sizes[] = {
	        "layer", "d_state", "d_conv", "expand", "headdim", "ngroups", "chunk_size"};
	static const char *const harmless[] = {
	        "conv_init", "A_init_range", "dt_min", "dt_max", "dt_init_floor", "use_mem_eff_path"};
	static const struct {
		const char *key;
		bool can;
	} fixed[] = {{"D_has_hdim", false}, {"rmsnorm", true}, {"norm_before_gate", false}, {"bias", false},
	        {"conv_bias", true}};
	const char *key;
	json_t *j;
	json_object_foreach((json_t *)at.obj, key, j)
	{
		bool known = false;
		for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
			known = known || strcmp(key, sizes[i]) == 0;
		for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++)
			known = known || strcmp(key, harmless[i]) == 0;
		for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
			if (strcmp(key, fixed[i].key) != 0)
				continue;
			known = true;
			int rc = want_bool(at, key, fixed[i].can, err);
			if (rc != 0)
				return rc;
		}
		if (!known && !json_is_null(j))
			return nssm_err_set(err, NSSM_EUNSUP, "%s: %s%s: this version knows no such key",
			        at.path, at.prefix, nssm_quote(key).s);
	}
	return 0;
}

static int check_supported(struct at top, struct at ssm, struct nssm_err *err)
{
	int rc;
	/* The reference takes Mamba1 where the key is missing. */
	const char *layer = json_string_value(json_object_get(ssm.obj, "layer"));
	if (layer == NULL || strcmp(layer, "Mamba2") != 0)
		return unsupported(ssm, "layer", "\"Mamba2\"", err);
	const json_t *attn = json_object_get(top.obj, "attn_layer_idx");
	if (attn != NULL && !json_is_null(attn) && !(json_is_array(attn) && json_array_size(attn) == 0))
		return unsupported(top, "attn_layer_idx", "[]", err);
	if ((rc = want_int(top, "d_intermediate", 0, err)) != 0 ||
	        (rc = want_int(ssm, "ngroups", 1, err)) != 0 ||
	        (rc = want_bool(top, "rms_norm", true, err)) != 0 ||
	        (rc = want_bool(top, "tie_embeddings", true, err)) != 0)
		return rc;
	return check_ssm_keys(ssm, err);
}

int nssm_card_read_config(
        struct nssm_mamba2_cfg *cfg, const json_t *root, const char *path, struct nssm_err *err)
{
	const json_t *sub = json_object_get(root, "ssm_cfg");
	if (sub != NULL && !json_is_object(sub))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: ssm_cfg: expected an object, found %s", path,
		        nssm_json_what(sub));
	struct at top = {path, "", root}, ssm = {path, "ssm_cfg.", sub};
	int rc = check_supported(top, ssm, err);
	if (rc != 0)
		return rc;
	/* Defaults: MambaConfig and Mamba2 of the reference. */
	int D, L, V, multiple, N, K, expand, P, Q, n_context;
	if ((rc = get_int(&D, top, "d_model", -1, err)) != 0 ||
	        (rc = get_int(&L, top, "n_layer", -1, err)) != 0 ||
	        (rc = get_int(&V, top, "vocab_size", -1, err)) != 0 ||
	        (rc = get_int(&multiple, top, "pad_vocab_size_multiple", 8, err)) != 0 ||
	        (rc = get_int(&n_context, top, "n_context", 0, err)) != 0 ||
	        (rc = get_int(&N, ssm, "d_state", 128, err)) != 0 ||
	        (rc = get_int(&K, ssm, "d_conv", 4, err)) != 0 ||
	        (rc = get_int(&expand, ssm, "expand", 2, err)) != 0 ||
	        (rc = get_int(&P, ssm, "headdim", 64, err)) != 0 ||
	        (rc = get_int(&Q, ssm, "chunk_size", 256, err)) != 0)
		return rc;
	struct nssm_err e = {0};
	rc = nssm_mamba2_cfg_init(cfg, D, L, expand, P, N, K, V, multiple, Q, &e);
	if (rc == 0 && n_context > NSSM_CONTEXT_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "%s: n_context: expected 0..%d, found %d", path, NSSM_CONTEXT_MAX, n_context);
	cfg->n_context = n_context;
	return rc == 0 ? 0 : nssm_err_set(err, rc, "%s: %.400s", path, e.msg);
}

json_t *nssm_card_config_json(const struct nssm_mamba2_cfg *c)
{
	json_t *j = json_pack("{s:i,s:i,s:i,s:i,s:{s:s,s:i,s:i,s:i,s:i,s:i,s:i},s:[],s:{},s:b,s:b,s:b,s:i,s:b}",
	        "d_model", c->D, "d_intermediate", 0, "n_layer", c->L, "vocab_size", c->V, "ssm_cfg", "layer",
	        "Mamba2", "d_state", c->N, "d_conv", c->K, "expand", c->E / c->D, "headdim", c->P, "ngroups",
	        c->G, "chunk_size", c->Q, "attn_layer_idx", "attn_cfg", "rms_norm", 1, "residual_in_fp32", 1,
	        "fused_add_norm", 1, "pad_vocab_size_multiple", c->vocab_multiple, "tie_embeddings", 1);
	/* Not the reference's: only where there is one. */
	if (j != NULL && c->n_context > 0 && json_object_set_new(j, "n_context", json_integer(c->n_context)) != 0) {
		json_decref(j);
		return NULL;
	}
	return j;
}

/* --- netssm.json ----------------------------------------------------------------------------- */

static int read_hist(
        struct nssm_iat_hist *h, const json_t *j, const char *path, const char *label, struct nssm_err *err)
{
	if (!json_is_array(j) || json_array_size(j) != NSSM_IAT_STEPS)
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s: iat.%s: expected an array of %d counts, found %s of %zu", path, label,
		        NSSM_IAT_STEPS, nssm_json_what(j), json_array_size(j));
	for (size_t i = 0; i < NSSM_IAT_STEPS; i++) {
		const json_t *c = json_array_get(j, i);
		if (!json_is_integer(c) || json_integer_value(c) < 0)
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s: iat.%s[%zu]: expected a count from 0 on, found %s", path, label, i,
			        json_is_integer(c) ? "a negative one" : nssm_json_what(c));
		h->count[i] = (uint64_t)json_integer_value(c);
		if (__builtin_add_overflow(h->n, h->count[i], &h->n))
			return nssm_err_set(
			        err, NSSM_ERANGE, "%s: iat.%s: the counts' sum exceeds 2^64", path, label);
	}
	return 0;
}

int nssm_card_read_netssm(
        struct nssm_model_card *card, const json_t *root, const char *path, struct nssm_err *err)
{
	const char *format = json_string_value(json_object_get(root, "format"));
	if (format == NULL || strcmp(format, "netssm") != 0)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: format: expected \"netssm\", found %s", path,
		        format != NULL ? nssm_quote(format).s
		                       : nssm_json_what(json_object_get(root, "format")));
	struct at top = {path, "", root};
	int version;
	int rc = get_int(&version, top, "version", -1, err);
	if (rc != 0)
		return rc;
	if (version != FORMAT_VERSION)
		return nssm_err_set(err, NSSM_EUNSUP, "%s: version: expected %d, found %d", path,
		        FORMAT_VERSION, version);
	const json_t *codec = json_object_get(root, "codec");
	if (!json_is_object(codec))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: codec: expected an object, found %s", path,
		        nssm_json_what(codec));
	if ((rc = nssm_codec_cfg_from_json(&card->codec, codec, path, err)) != 0 ||
	        (rc = nssm_secure_from_json(&card->secure, json_object_get(root, "encrypted"), path, err)) != 0)
		return rc;
	if (card->cfg.n_context > 0 && card->cfg.n_context != (int)nssm_codec_n_contexts(&card->codec))
		return nssm_err_set(err, NSSM_EUNSUP, "%s: its codec gives %u contexts, config.json: n_context is %d", path,
		        nssm_codec_n_contexts(&card->codec), card->cfg.n_context);
	json_t *iat = json_object_get(root, "iat"), *j;
	card->cfg.n_cond = json_is_true(json_object_get(root, "condition_rows")) ? (int)card->codec.conditions : 0;
	if (iat != NULL && !json_is_object(iat))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: iat: expected an object, found %s", path,
		        nssm_json_what(iat));
	const char *label;
	json_object_foreach(iat, label, j)
	{
		int idx = nssm_vocab_find_label(&card->vocab, label);
		if (idx < 0)
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s: iat: expected labels of tokenizer.json, found \"%s\"", path,
			        nssm_quote(label).s);
		if ((rc = read_hist(&card->iat[idx], j, path, label, err)) != 0)
			return rc;
	}
	return 0;
}

json_t *nssm_card_netssm_json(const struct nssm_model_card *card)
{
	json_t *iat = json_object();
	int rc = iat == NULL ? -1 : 0;
	for (uint32_t l = 0; rc == 0 && card->iat != NULL && l < card->vocab.n_labels; l++) {
		json_t *a = json_array();
		for (int i = 0; rc == 0 && i < NSSM_IAT_STEPS; i++)
			rc = json_array_append_new(a, json_integer((json_int_t)card->iat[l].count[i]));
		rc = json_object_set_new(iat, card->vocab.label[l].name, a) != 0 ? -1 : rc;
	}
	if (rc != 0) {
		json_decref(iat);
		return NULL;
	}
	return json_pack("{s:s,s:i,s:o,s:o,s:b,s:o*}", "format", "netssm", "version", FORMAT_VERSION, "codec",
	        nssm_codec_cfg_to_json(&card->codec), "iat", iat, "condition_rows", card->cfg.n_cond > 0, "encrypted",
	        card->secure.learned ? nssm_secure_to_json(&card->secure) : NULL);
}
