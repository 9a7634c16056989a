#include "model/vocab.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "model/jsonfile.h"

#define NO_ID      0xffff
#define MAX_LABELS (sizeof((struct nssm_vocab *)0)->label / sizeof((struct nssm_vocab *)0)->label[0])

/* The names between <| and |> that are not labels. */
static const struct {
	const char *name;
	enum nssm_token_kind kind;
} special[] = {
        {"unk", NSSM_TOK_UNK},
        {"endoftext", NSSM_TOK_EOT},
        {"padding", NSSM_TOK_PAD},
        {"pkt", NSSM_TOK_PKT},
};
#define N_SPECIAL (sizeof special / sizeof special[0])

static uint16_t *special_id(struct nssm_vocab *v, enum nssm_token_kind kind)
{
	switch (kind) {
	case NSSM_TOK_UNK:
		return &v->unk;
	case NSSM_TOK_EOT:
		return &v->eot;
	case NSSM_TOK_PAD:
		return &v->pad;
	default:
		return &v->pkt;
	}
}

/* Zeroed as a whole, so that equal tables are equal bytes. */
static void clear(struct nssm_vocab *v)
{
	memset(v, 0, sizeof *v);
	memset(v->byte_id, 0xff, sizeof v->byte_id);
	memset(v->kind, NSSM_TOK_NONE, sizeof v->kind);
	v->unk = v->eot = v->pad = v->pkt = NO_ID;
}

static void assign(struct nssm_vocab *v, uint32_t id, enum nssm_token_kind kind, uint32_t value)
{
	v->kind[id] = (uint8_t)kind;
	v->value[id] = (uint16_t)value;
	if (id >= v->n_tokens)
		v->n_tokens = id + 1;
}

void nssm_vocab_init(struct nssm_vocab *v)
{
	clear(v);
	for (uint32_t b = 0; b < 256; b++) {
		v->byte_id[b] = (uint16_t)b;
		assign(v, b, NSSM_TOK_BYTE, b);
	}
	for (uint32_t i = 0; i < N_SPECIAL; i++) {
		*special_id(v, special[i].kind) = (uint16_t)(256 + i);
		assign(v, 256 + i, special[i].kind, 0);
	}
}

/* A label's name is n bytes at name. */
static bool name_ok(const char *name, size_t n)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:+-";
	if (n < 1 || n >= NSSM_LABEL_BYTES)
		return false;
	return strspn(name, allowed) >= n;
}

static int put_label(struct nssm_vocab *v, const char *name, size_t n, uint32_t id, const char *where,
        struct nssm_err *err)
{
	if (v->n_labels >= MAX_LABELS)
		return nssm_err_set(err, NSSM_ERANGE, "%s: more than %zu labels", where, MAX_LABELS);
	uint32_t idx = v->n_labels++;
	v->label[idx].id = (uint16_t)id;
	memcpy(v->label[idx].name, name, n);
	assign(v, id, NSSM_TOK_LABEL, idx);
	return (int)idx;
}

int nssm_vocab_add_label(struct nssm_vocab *v, const char *name, struct nssm_err *err)
{
	int idx = nssm_vocab_find_label(v, name);
	if (idx >= 0)
		return idx;
	size_t n = strlen(name);
	if (!name_ok(name, n))
		return nssm_err_set(err, NSSM_EARG,
		        "label \"%s\": expected 1..%d characters of [A-Za-z0-9_.:+-]", nssm_quote(name).s,
		        NSSM_LABEL_BYTES - 1);
	for (uint32_t i = 0; i < N_SPECIAL; i++)
		if (strcmp(name, special[i].name) == 0)
			return nssm_err_set(err, NSSM_EARG,
			        "label \"%s\": <|%s|> is a special token; choose another name", name, name);
	if (v->n_tokens >= NSSM_VOCAB_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "label \"%s\": the table is full (%d tokens)", name,
		        NSSM_VOCAB_MAX);
	return put_label(v, name, n, v->n_tokens, "labels", err);
}

int nssm_vocab_find_label(const struct nssm_vocab *v, const char *name)
{
	for (uint32_t i = 0; i < v->n_labels; i++)
		if (strcmp(v->label[i].name, name) == 0)
			return (int)i;
	return -1;
}

/* 0..255 for a byte's string in decimal without leading zeros, else −1. */
static int byte_of(const char *s)
{
	int value = 0;
	size_t n = strspn(s, "0123456789");
	if (n < 1 || n > 3 || s[n] != '\0' || (s[0] == '0' && n > 1))
		return -1;
	for (size_t i = 0; i < n; i++)
		value = value * 10 + (s[i] - '0');
	return value < 256 ? value : -1;
}

/* Contents are unique, since they come from one JSON object's keys. */
static int classify(struct nssm_vocab *v, const char *s, uint32_t id, const char *where, struct nssm_err *err)
{
	int byte = byte_of(s);
	if (byte >= 0) {
		v->byte_id[byte] = (uint16_t)id;
		assign(v, id, NSSM_TOK_BYTE, (uint32_t)byte);
		return 0;
	}
	size_t len = strlen(s);
	if (len < 4 || strncmp(s, "<|", 2) != 0 || strcmp(s + len - 2, "|>") != 0)
		return 0;
	const char *name = s + 2;
	size_t n = len - 4;
	for (uint32_t i = 0; i < N_SPECIAL; i++) {
		if (strlen(special[i].name) == n && strncmp(name, special[i].name, n) == 0) {
			*special_id(v, special[i].kind) = (uint16_t)id;
			assign(v, id, special[i].kind, 0);
			return 0;
		}
	}
	if (!name_ok(name, n))
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s: token %u, \"%s\": expected a label of 1..%d characters of [A-Za-z0-9_.:+-] "
		        "between <| and |>",
		        where, id, nssm_quote(s).s, NSSM_LABEL_BYTES - 1);
	int rc = put_label(v, name, n, id, where, err);
	return rc < 0 ? rc : 0;
}

static int check_id(
        const json_t *j, const char *content, const char *where, const char *key, struct nssm_err *err)
{
	struct nssm_quoted q = nssm_quote(content);
	if (!json_is_integer(j))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: %s, id of \"%s\": expected an integer, found %s",
		        where, key, q.s, nssm_json_what(j));
	if (json_integer_value(j) < 0 || json_integer_value(j) >= NSSM_VOCAB_MAX)
		return nssm_err_set(err, NSSM_ERANGE,
		        "%s: %s, id of \"%s\": expected 0..%d, found %" JSON_INTEGER_FORMAT, where, key, q.s,
		        NSSM_VOCAB_MAX - 1, json_integer_value(j));
	return 0;
}

/* Puts added_tokens into all: they must agree with what is there, and may be tokens that model.vocab lacks.
 */
static int merge_added(json_t *all, const json_t *added, const char *where, struct nssm_err *err)
{
	if (added == NULL || json_is_null(added))
		return 0;
	if (!json_is_array(added))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: added_tokens: expected an array, found %s", where,
		        nssm_json_what(added));
	size_t i;
	json_t *t;
	json_array_foreach(added, i, t)
	{
		const char *content = json_string_value(json_object_get(t, "content"));
		json_t *id = json_object_get(t, "id");
		if (content == NULL)
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s: added_tokens[%zu].content: expected a string, found %s", where, i,
			        nssm_json_what(json_object_get(t, "content")));
		int rc = check_id(id, content, where, "added_tokens", err);
		if (rc != 0)
			return rc;
		const json_t *known = json_object_get(all, content);
		if (known == NULL) {
			if (json_object_set(all, content, id) != 0)
				return nssm_err_set(
				        err, NSSM_ENOMEM, "%s: no memory for added_tokens", where);
		} else if (json_integer_value(known) != json_integer_value(id)) {
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s: added_tokens[%zu], id of \"%s\": expected %" JSON_INTEGER_FORMAT
			        " as before, found %" JSON_INTEGER_FORMAT,
			        where, i, nssm_quote(content).s, json_integer_value(known),
			        json_integer_value(id));
		}
	}
	return 0;
}

/* What a table must have to spell sessions. */
static int check_complete(struct nssm_vocab *v, const char *where, struct nssm_err *err)
{
	for (int b = 0; b < 256; b++)
		if (v->byte_id[b] == NO_ID)
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s: model.vocab: expected all bytes \"0\"..\"255\", found no \"%d\"", where,
			        b);
	for (uint32_t i = 0; i < N_SPECIAL; i++)
		if (special[i].kind != NSSM_TOK_UNK && *special_id(v, special[i].kind) == NO_ID)
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s: model.vocab: expected \"<|%s|>\", found no such token", where,
			        special[i].name);
	return 0;
}

static int fill(struct nssm_vocab *v, json_t *all, const char *where, struct nssm_err *err)
{
	const char *by_id[NSSM_VOCAB_MAX] = {0};
	const char *content;
	json_t *j;
	json_object_foreach(all, content, j)
	{
		int rc = check_id(j, content, where, "model.vocab", err);
		if (rc != 0)
			return rc;
		const char **slot = &by_id[json_integer_value(j)];
		if (*slot != NULL)
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s: model.vocab: expected one token an id, found \"%s\" and \"%s\" with "
			        "%" JSON_INTEGER_FORMAT,
			        where, nssm_quote(*slot).s, nssm_quote(content).s, json_integer_value(j));
		*slot = content;
	}
	for (uint32_t id = 0; id < NSSM_VOCAB_MAX; id++) {
		int rc = by_id[id] != NULL ? classify(v, by_id[id], id, where, err) : 0;
		if (rc != 0)
			return rc;
	}
	return check_complete(v, where, err);
}

int nssm_vocab_from_json(struct nssm_vocab *v, const json_t *root, const char *where, struct nssm_err *err)
{
	clear(v);
	const json_t *model = json_object_get(root, "model");
	if (!json_is_object(model))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: model: expected an object, found %s", where,
		        nssm_json_what(model));
	const char *type = json_string_value(json_object_get(model, "type"));
	if (type == NULL)
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s: model.type: expected \"WordLevel\" or \"BPE\", found %s", where,
		        nssm_json_what(json_object_get(model, "type")));
	if (strcmp(type, "WordLevel") != 0 && strcmp(type, "BPE") != 0)
		return nssm_err_set(err, NSSM_EUNSUP,
		        "%s: model.type: expected \"WordLevel\" or \"BPE\", found \"%s\"", where,
		        nssm_quote(type).s);
	json_t *vocab = json_object_get(model, "vocab");
	if (!json_is_object(vocab))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: model.vocab: expected an object, found %s", where,
		        nssm_json_what(vocab));
	json_t *all = json_copy(vocab);
	if (all == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for the vocabulary", where);
	int rc = merge_added(all, json_object_get(root, "added_tokens"), where, err);
	if (rc == 0)
		rc = fill(v, all, where, err);
	json_decref(all);
	return rc;
}

/* The string of a token that is not NSSM_TOK_NONE. */
static void spell(char out[NSSM_LABEL_BYTES + 4], const struct nssm_vocab *v, uint32_t id)
{
	const char *name = NULL;
	if (v->kind[id] == NSSM_TOK_LABEL)
		name = v->label[v->value[id]].name;
	for (uint32_t i = 0; i < N_SPECIAL; i++)
		if (special[i].kind == v->kind[id])
			name = special[i].name;
	if (name != NULL)
		snprintf(out, NSSM_LABEL_BYTES + 4, "<|%s|>", name);
	else
		snprintf(out, NSSM_LABEL_BYTES + 4, "%u", v->value[id]);
}

json_t *nssm_vocab_to_json(const struct nssm_vocab *v)
{
	json_t *vocab = json_object(), *added = json_array();
	bool ok = vocab != NULL && added != NULL;
	for (uint32_t id = 0; ok && id < v->n_tokens; id++) {
		if (v->kind[id] == NSSM_TOK_NONE)
			continue;
		char s[NSSM_LABEL_BYTES + 4];
		spell(s, v, id);
		ok = json_object_set_new(vocab, s, json_integer(id)) == 0;
		if (ok && v->kind[id] != NSSM_TOK_BYTE)
			ok = json_array_append_new(
			             added, json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", (int)id,
			                            "content", s, "single_word", 0, "lstrip", 0, "rstrip", 0,
			                            "normalized", 0, "special", 1)) == 0;
	}
	if (!ok) {
		json_decref(vocab);
		json_decref(added);
		return NULL;
	}
	/* json_pack's "o" takes the references, also when it fails. */
	return json_pack("{s:s,s:n,s:n,s:o,s:n,s:{s:s},s:n,s:n,s:{s:s,s:o,s:s}}", "version", "1.0",
	        "truncation", "padding", "added_tokens", added, "normalizer", "pre_tokenizer", "type",
	        "WhitespaceSplit", "post_processor", "decoder", "model", "type", "WordLevel", "vocab", vocab,
	        "unk_token", "<|unk|>");
}

int nssm_vocab_load(struct nssm_vocab *v, const char *path, struct nssm_err *err)
{
	json_t *root;
	int rc = nssm_json_load(&root, path, err);
	if (rc != 0)
		return rc;
	rc = nssm_vocab_from_json(v, root, path, err);
	json_decref(root);
	return rc;
}

int nssm_vocab_save(const struct nssm_vocab *v, const char *path, struct nssm_err *err)
{
	json_t *root = nssm_vocab_to_json(v);
	if (root == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for the vocabulary", path);
	int rc = nssm_json_save(root, path, err);
	json_decref(root);
	return rc;
}
