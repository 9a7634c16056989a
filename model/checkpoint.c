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
#include "model/card_json.h"
#include "model/jsonfile.h"

#define CONFIG    "config.json"
#define WEIGHTS   "model.safetensors"
#define TOKENIZER "tokenizer.json"
#define NETSSM    "netssm.json"
#define TRAINING  "training.json"
#define OPTIMIZER "optimizer.safetensors"

static const char *const our_files[] = {CONFIG, WEIGHTS, TOKENIZER, NETSSM, TRAINING, OPTIMIZER};

/* Hugging Face transformers refuses files without this key. */
static const char *const metadata[] = {"format", "pt", NULL};

void nssm_model_card_free(struct nssm_model_card *card)
{
	free(card->iat);
	card->iat = NULL;
}

/* --- paths ----------------------------------------------------------------------------------- */

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

/* --- the card -------------------------------------------------------------------------------- */

static int load_config(struct nssm_model_card *card, const char *dir, struct nssm_err *err)
{
	char path[PATH_MAX];
	json_t *root;
	int rc;
	if ((rc = join(path, dir, CONFIG, err)) != 0 || (rc = nssm_json_load(&root, path, err)) != 0)
		return rc;
	rc = nssm_card_read_config(&card->cfg, root, path, err);
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
	rc = nssm_card_read_netssm(card, root, path, err);
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

/* --- weights --------------------------------------------------------------------------------- */

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

/* --- saving ---------------------------------------------------------------------------------- */

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
	        (rc = save_json_new(nssm_card_config_json(&card->cfg), path, err)) != 0)
		return rc;
	if ((rc = join(path, tmp, TOKENIZER, err)) != 0 ||
	        (rc = nssm_vocab_save(&card->vocab, path, err)) != 0)
		return rc;
	if ((rc = join(path, tmp, NETSSM, err)) != 0 ||
	        (rc = save_json_new(nssm_card_netssm_json(card), path, err)) != 0)
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

/* --- training state -------------------------------------------------------------------------- */

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
