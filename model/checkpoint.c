#include "model/checkpoint.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "model/jsonfile.h"

#define CONFIG    "config.json"
#define WEIGHTS   "model.safetensors"
#define TOKENIZER "tokenizer.json"
#define NETSSM    "netssm.json"
#define TRAINING  "training.json"
#define OPTIMIZER "optimizer.safetensors"

#define FORMAT_VERSION 1

static const char *const our_files[] = {CONFIG, WEIGHTS, TOKENIZER, NETSSM, TRAINING, OPTIMIZER};

/* Hugging Face transformers refuses files without this key. */
static const char *const metadata[] = {"format", "pt", NULL};

void nssm_model_card_free(struct nssm_model_card *card)
{
	free(card->iat);
	card->iat = NULL;
}

/* --- paths -----------------------------------------------------------------------------------------------
 */

static int join(char out[PATH_MAX], const char *dir, const char *name, struct nssm_err *err)
{
	int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);
	if (n < 0 || n >= PATH_MAX)
		return nssm_err_set(err, NSSM_EARG, "%.200s...: path too long", dir);
	return 0;
}

static bool is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

int nssm_checkpoint_find(char *out, const char *path, struct nssm_err *err)
{
	static const char *const sub[] = {".", "best", "last"};
	for (int i = 0; i < 3; i++) {
		char dir[PATH_MAX], config[PATH_MAX];
		int rc = i == 0 ? 0 : join(dir, path, sub[i], err);
		if (i == 0 && strlen(path) >= sizeof dir)
			rc = nssm_err_set(err, NSSM_EARG, "%.200s...: path too long", path);
		else if (i == 0)
			strcpy(dir, path);
		if (rc != 0 || (rc = join(config, dir, CONFIG, err)) != 0)
			return rc;
		if (is_there(config)) {
			strcpy(out, dir);
			return 0;
		}
	}
	return nssm_err_set(err, NSSM_EIO,
	        "%s: no checkpoint: expected %.100s/" CONFIG ", %.100s/best/" CONFIG " or %.100s/last/" CONFIG
	        ", found none%s",
	        path, path, path, path, is_there(path) ? "" : " (there is no such folder)");
}

/* --- config.json
 * ----------------------------------------------------------------------------------------------------- */

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

static int read_config(
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
	int D, L, V, multiple, N, K, expand, P, Q;
	if ((rc = get_int(&D, top, "d_model", -1, err)) != 0 ||
	        (rc = get_int(&L, top, "n_layer", -1, err)) != 0 ||
	        (rc = get_int(&V, top, "vocab_size", -1, err)) != 0 ||
	        (rc = get_int(&multiple, top, "pad_vocab_size_multiple", 8, err)) != 0 ||
	        (rc = get_int(&N, ssm, "d_state", 128, err)) != 0 ||
	        (rc = get_int(&K, ssm, "d_conv", 4, err)) != 0 ||
	        (rc = get_int(&expand, ssm, "expand", 2, err)) != 0 ||
	        (rc = get_int(&P, ssm, "headdim", 64, err)) != 0 ||
	        (rc = get_int(&Q, ssm, "chunk_size", 256, err)) != 0)
		return rc;
	struct nssm_err e = {0};
	rc = nssm_mamba2_cfg_init(cfg, D, L, expand, P, N, K, V, multiple, Q, &e);
	return rc == 0 ? 0 : nssm_err_set(err, rc, "%s: %.400s", path, e.msg);
}

static json_t *config_json(const struct nssm_mamba2_cfg *c)
{
	return json_pack("{s:i,s:i,s:i,s:i,s:{s:s,s:i,s:i,s:i,s:i,s:i,s:i},s:[],s:{},s:b,s:b,s:b,s:i,s:b}",
	        "d_model", c->D, "d_intermediate", 0, "n_layer", c->L, "vocab_size", c->V, "ssm_cfg", "layer",
	        "Mamba2", "d_state", c->N, "d_conv", c->K, "expand", c->E / c->D, "headdim", c->P, "ngroups",
	        c->G, "chunk_size", c->Q, "attn_layer_idx", "attn_cfg", "rms_norm", 1, "residual_in_fp32", 1,
	        "fused_add_norm", 1, "pad_vocab_size_multiple", c->vocab_multiple, "tie_embeddings", 1);
}

/* --- netssm.json
 * ------------------------------------------------------------------------------------------------------ */

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

static int read_netssm(
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
	if ((rc = nssm_codec_cfg_from_json(&card->codec, codec, path, err)) != 0)
		return rc;
	json_t *iat = json_object_get(root, "iat"), *j;
	if (iat != NULL && !json_is_object(iat))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: iat: expected an object, found %s", path,
		        nssm_json_what(iat));
	const char *label;
	json_object_foreach(iat, label, j)
	{
		int idx = nssm_vocab_find_label(&card->vocab, label);
		if (idx < 0)
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s: iat: expected labels of " TOKENIZER ", found \"%s\"", path,
			        nssm_quote(label).s);
		if ((rc = read_hist(&card->iat[idx], j, path, label, err)) != 0)
			return rc;
	}
	return 0;
}

static json_t *netssm_json(const struct nssm_model_card *card)
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
	return json_pack("{s:s,s:i,s:o,s:o}", "format", "netssm", "version", FORMAT_VERSION, "codec",
	        nssm_codec_cfg_to_json(&card->codec), "iat", iat);
}

/* --- the card --------------------------------------------------------------------------------------------
 */

static int load_config(struct nssm_model_card *card, const char *dir, struct nssm_err *err)
{
	char path[PATH_MAX];
	json_t *root;
	int rc;
	if ((rc = join(path, dir, CONFIG, err)) != 0 || (rc = nssm_json_load(&root, path, err)) != 0)
		return rc;
	rc = read_config(&card->cfg, root, path, err);
	json_decref(root);
	return rc;
}

static int load_vocab(struct nssm_model_card *card, const char *dir, struct nssm_err *err)
{
	char path[PATH_MAX];
	int rc;
	if ((rc = join(path, dir, TOKENIZER, err)) != 0 ||
	        (rc = nssm_vocab_load(&card->vocab, path, err)) != 0)
		return rc;
	int n = (int)card->vocab.n_tokens;
	if (n > card->cfg.Vpad)
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s: expected ids below %d (vocab_size of " CONFIG " padded), found %d", path,
		        card->cfg.Vpad, n - 1);
	if (n > card->cfg.V)
		card->cfg.V = n;
	return 0;
}

static int load_netssm(struct nssm_model_card *card, const char *dir, struct nssm_err *err)
{
	char path[PATH_MAX];
	json_t *root;
	int rc = join(path, dir, NETSSM, err);
	if (rc != 0)
		return rc;
	card->iat = calloc((size_t)card->vocab.n_labels + 1, sizeof *card->iat);
	if (card->iat == NULL)
		return nssm_err_set(
		        err, NSSM_ENOMEM, "%s: no memory for %u labels", path, card->vocab.n_labels);
	if (!is_there(path)) {
		card->codec = (struct nssm_codec_cfg){.kind = NSSM_CODEC_RAW,
		        .version = 1,
		        .pkt_len = NSSM_RAW_PKT_LEN,
		        .compat_paper = true};
		return 0;
	}
	if ((rc = nssm_json_load(&root, path, err)) != 0)
		return rc;
	rc = read_netssm(card, root, path, err);
	json_decref(root);
	return rc;
}

int nssm_checkpoint_load_card(struct nssm_model_card *card, const char *dir, struct nssm_err *err)
{
	int rc;
	memset(card, 0, sizeof *card);
	if ((rc = load_config(card, dir, err)) != 0 || (rc = load_vocab(card, dir, err)) != 0 ||
	        (rc = load_netssm(card, dir, err)) != 0)
		nssm_model_card_free(card);
	return rc;
}

/* --- weights ---------------------------------------------------------------------------------------------
 */

static struct nssm_tensor *tensor_list(int *n, const struct nssm_mamba2_cfg *cfg)
{
	*n = nssm_mamba2_tensors(cfg, NULL);
	struct nssm_tensor *t = calloc((size_t)*n, sizeof *t);
	if (t != NULL)
		nssm_mamba2_tensors(cfg, t);
	return t;
}

static void shape_text(char out[128], const uint64_t *dim, int n)
{
	size_t at = 0;
	out[0] = '\0';
	for (int i = 0; i < n && at < 100; i++)
		at += (size_t)snprintf(
		        out + at, 128 - at, "%s%llu", i ? "x" : "", (unsigned long long)dim[i]);
}

/* The embedding (t is the first tensor) may have the vocabulary's own rows only. */
static int check_shape(const struct nssm_tensor *t, bool embedding, const struct nssm_st_view *v, int V,
        const char *path, struct nssm_err *err)
{
	bool same = v->n_dims == t->n_dims;
	uint64_t dim[3];
	for (int i = 0; i < t->n_dims; i++) {
		dim[i] = (uint64_t)t->dim[i];
		same = same && (v->dim[i] == dim[i] || (embedding && i == 0 && v->dim[0] == (uint64_t)V));
	}
	if (same)
		return 0;
	char want[128], found[128];
	shape_text(want, dim, t->n_dims);
	shape_text(found, v->dim, v->n_dims);
	return nssm_err_set(err, NSSM_EFORMAT, "%s: tensor \"%s\": expected shape %s, found %s", path,
	        t->name, want, found);
}

/* Whatever stands in the file beside the model's tensors: the tied output matrix, or something unknown. */
static int check_others(const struct nssm_st_file *f, const struct nssm_tensor *t, int n, const char *path,
        struct nssm_err *err)
{
	const struct nssm_st_view *emb = nssm_st_find(f, t[0].name),
	                          *head = nssm_st_find(f, "lm_head.weight");
	size_t size = emb->dtype == NSSM_F32 ? 4 : 2;
	if (head != NULL && (head->dtype != emb->dtype || head->n != emb->n ||
	                            memcmp(head->data, emb->data, emb->n * size) != 0))
		return nssm_err_set(err, NSSM_EUNSUP,
		        "%s: tensor \"lm_head.weight\": expected the same bytes as \"%s\" (tied), found "
		        "others",
		        path, t[0].name);
	if (nssm_st_count(f) == n + (head != NULL))
		return 0;
	for (int i = 0; i < nssm_st_count(f); i++) {
		const struct nssm_st_view *v = nssm_st_at(f, i);
		bool known = v == head;
		for (int k = 0; !known && k < n; k++)
			known = strcmp(v->name, t[k].name) == 0;
		if (!known)
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s: tensor \"%s\": expected the model's %d tensors only", path,
			        nssm_quote(v->name).s, n);
	}
	assert(!"names are unique, so one of them is unknown");
	return 0;
}

static int read_tensors(float *params, const struct nssm_st_file *f, const struct nssm_tensor *t, int n,
        int V, const char *path, struct nssm_err *err)
{
	for (int i = 0; i < n; i++) {
		const struct nssm_st_view *v = nssm_st_find(f, t[i].name);
		if (v == NULL)
			return nssm_err_set(err, NSSM_EFORMAT, "%s: tensor \"%s\": missing among %d", path,
			        t[i].name, nssm_st_count(f));
		int rc = check_shape(&t[i], i == 0, v, V, path, err);
		if (rc != 0)
			return rc;
	}
	int rc = check_others(f, t, n, path, err);
	for (int i = 0; rc == 0 && i < n; i++)
		nssm_st_to_f32(params + t[i].offset, nssm_st_find(f, t[i].name));
	return rc;
}

int nssm_checkpoint_load_weights(
        float *params, struct nssm_model_card *card, const char *dir, struct nssm_err *err)
{
	char path[PATH_MAX], torch[PATH_MAX];
	struct nssm_st_file *f;
	int rc, n;
	if ((rc = join(path, dir, WEIGHTS, err)) != 0 ||
	        (rc = join(torch, dir, "pytorch_model.bin", err)) != 0)
		return rc;
	if (!is_there(path) && is_there(torch))
		return nssm_err_set(err, NSSM_EUNSUP,
		        "%s: expected " WEIGHTS " beside it; scripts/convert_checkpoint.py makes one", torch);
	if ((rc = nssm_st_open(&f, path, err)) != 0)
		return rc;
	struct nssm_tensor *t = tensor_list(&n, &card->cfg);
	/* Rows of padding and the floats between tensors are zero. */
	memset(params, 0, nssm_mamba2_param_floats(&card->cfg) * sizeof *params);
	if (t == NULL)
		rc = nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for %d tensors", path, n);
	else
		rc = read_tensors(params, f, t, n, card->cfg.V, path, err);
	if (rc == 0)
		card->hash = nssm_st_hash(f);
	free(t);
	nssm_st_close(&f);
	return rc;
}

/* --- saving ----------------------------------------------------------------------------------------------
 */

static int save_weights(const char *path, const struct nssm_mamba2_cfg *cfg, const float *params,
        enum nssm_dtype dtype, struct nssm_err *err)
{
	int n, rc;
	struct nssm_tensor *t = tensor_list(&n, cfg);
	struct nssm_st_out *out = t != NULL ? calloc((size_t)n, sizeof *out) : NULL;
	if (out == NULL) {
		free(t);
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for %d tensors", path, n);
	}
	for (int i = 0; i < n; i++) {
		out[i] = (struct nssm_st_out){
		        .name = t[i].name, .n_dims = t[i].n_dims, .data = params + t[i].offset};
		for (int d = 0; d < t[i].n_dims; d++)
			out[i].dim[d] = (uint64_t)t[i].dim[d];
	}
	rc = nssm_st_write(path, out, n, dtype, metadata, err);
	free(out);
	free(t);
	return rc;
}

static int save_extra(const char *path, const struct nssm_extra *extra, int n, struct nssm_err *err)
{
	struct nssm_st_out *out = calloc((size_t)n, sizeof *out);
	if (out == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for %d tensors", path, n);
	for (int i = 0; i < n; i++)
		out[i] = (struct nssm_st_out){
		        .name = extra[i].name, .n_dims = 1, .dim = {extra[i].n}, .data = extra[i].data};
	int rc = nssm_st_write(path, out, n, NSSM_F32, metadata, err);
	free(out);
	return rc;
}

static int save_json_new(json_t *j, const char *path, struct nssm_err *err)
{
	if (j == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory to write JSON", path);
	int rc = nssm_json_save(j, path, err);
	json_decref(j);
	return rc;
}

/* All files into tmp; each is synced, and the folder after each. */
static int save_files(const char *tmp, const struct nssm_model_card *card, const float *params,
        enum nssm_dtype dtype, const json_t *training, const struct nssm_extra *extra, int n_extra,
        struct nssm_err *err)
{
	char path[PATH_MAX];
	int rc;
	if ((rc = join(path, tmp, CONFIG, err)) != 0 ||
	        (rc = save_json_new(config_json(&card->cfg), path, err)) != 0)
		return rc;
	if ((rc = join(path, tmp, TOKENIZER, err)) != 0 ||
	        (rc = nssm_vocab_save(&card->vocab, path, err)) != 0)
		return rc;
	if ((rc = join(path, tmp, NETSSM, err)) != 0 ||
	        (rc = save_json_new(netssm_json(card), path, err)) != 0)
		return rc;
	if ((rc = join(path, tmp, WEIGHTS, err)) != 0 ||
	        (rc = save_weights(path, &card->cfg, params, dtype, err)) != 0)
		return rc;
	if (training != NULL && ((rc = join(path, tmp, TRAINING, err)) != 0 ||
	                                (rc = nssm_json_save(training, path, err)) != 0))
		return rc;
	if (n_extra > 0 && ((rc = join(path, tmp, OPTIMIZER, err)) != 0 ||
	                           (rc = save_extra(path, extra, n_extra, err)) != 0))
		return rc;
	return 0;
}

/* Replacing a folder deletes what it holds, so it may hold a checkpoint only. Names with a leading dot are
 * the file system's or a desktop's, and temporary files are what a killed writer left. */
static int check_ours(const char *dir, struct nssm_err *err)
{
	DIR *d = opendir(dir);
	if (d == NULL)
		return errno == ENOENT
		               ? 0
		               : nssm_err_set(err, NSSM_EIO, "%s: cannot list: %s", dir, strerror(errno));
	int rc = 0;
	struct dirent *e;
	while (rc == 0 && (e = readdir(d)) != NULL) {
		bool ours = e->d_name[0] == '.' || strstr(e->d_name, ".tmp.") != NULL;
		for (size_t i = 0; i < sizeof our_files / sizeof our_files[0]; i++)
			ours = ours || strcmp(e->d_name, our_files[i]) == 0;
		if (!ours)
			rc = nssm_err_set(err, NSSM_EARG,
			        "%s: expected an empty folder or a checkpoint to replace, found %s in it, "
			        "which would be deleted",
			        dir, e->d_name);
	}
	closedir(d);
	return rc;
}

int nssm_checkpoint_save(const char *dir, const struct nssm_model_card *card, const float *params,
        enum nssm_dtype dtype, const json_t *training, const struct nssm_extra *extra, int n_extra,
        struct nssm_err *err)
{
	char path[PATH_MAX], tmp[PATH_MAX];
	size_t len = strlen(dir);
	while (len > 1 && dir[len - 1] == '/')
		len--;
	int n = snprintf(path, sizeof path, "%.*s", (int)(len < PATH_MAX ? len : PATH_MAX), dir);
	int k = snprintf(tmp, sizeof tmp, "%s.tmp.%ld", path, (long)getpid());
	if (len == 0 || n >= PATH_MAX || k >= PATH_MAX)
		return nssm_err_set(err, NSSM_EARG, "%.200s: expected a folder's name of 1..%d bytes", dir,
		        PATH_MAX - 20);
	if ((int)card->vocab.n_tokens > card->cfg.Vpad)
		return nssm_err_set(err, NSSM_EARG,
		        "%s: the tokenizer's %u tokens do not fit the model's %d rows", path,
		        card->vocab.n_tokens, card->cfg.Vpad);
	int rc;
	if ((rc = check_ours(path, err)) != 0 || (rc = nssm_dir_remove(tmp, err)) != 0)
		return rc;
	if (mkdir(tmp, 0755) != 0)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot make the folder: %s", tmp, strerror(errno));
	rc = save_files(tmp, card, params, dtype, training, extra, n_extra, err);
	if (rc == 0)
		rc = nssm_dir_replace(tmp, path, err);
	if (rc != 0)
		(void)nssm_dir_remove(tmp, NULL);
	return rc;
}

/* --- training state
 * -------------------------------------------------------------------------------------------------------- */

int nssm_checkpoint_load_training(json_t **training, const char *dir, struct nssm_err *err)
{
	char path[PATH_MAX];
	*training = NULL;
	int rc = join(path, dir, TRAINING, err);
	return rc != 0 ? rc : nssm_json_load(training, path, err);
}

int nssm_checkpoint_load_extra(
        const char *dir, const struct nssm_extra *extra, int n_extra, struct nssm_err *err)
{
	char path[PATH_MAX];
	struct nssm_st_file *f;
	int rc;
	if ((rc = join(path, dir, OPTIMIZER, err)) != 0 || (rc = nssm_st_open(&f, path, err)) != 0)
		return rc;
	for (int i = 0; rc == 0 && i < n_extra; i++) {
		const struct nssm_st_view *v = nssm_st_find(f, extra[i].name);
		if (v == NULL)
			rc = nssm_err_set(err, NSSM_EFORMAT, "%s: tensor \"%s\": missing among %d", path,
			        extra[i].name, nssm_st_count(f));
		else if (v->dtype != NSSM_F32 || v->n_dims != 1 || v->n != extra[i].n)
			rc = nssm_err_set(err, NSSM_EFORMAT,
			        "%s: tensor \"%s\": expected %zu fp32 values, found %llu of %s", path,
			        extra[i].name, extra[i].n, (unsigned long long)v->n,
			        nssm_dtype_name((enum nssm_dtype)v->dtype));
		else
			nssm_st_to_f32(extra[i].data, v);
	}
	nssm_st_close(&f);
	return rc;
}
