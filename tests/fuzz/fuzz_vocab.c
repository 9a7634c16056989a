/* Any bytes as tokenizer.json: refused with a message, or a table whose parts agree and that survives being written. */
#include <stdlib.h>
#include <string.h>

#include "model/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static void check(const struct nssm_vocab *v)
{
	require(v->n_tokens > 0 && v->n_tokens <= NSSM_VOCAB_MAX);
	require(v->kind[v->n_tokens - 1] != NSSM_TOK_NONE);
	for (int b = 0; b < 256; b++)
		require(v->kind[v->byte_id[b]] == NSSM_TOK_BYTE && v->value[v->byte_id[b]] == b);
	require(v->kind[v->eot] == NSSM_TOK_EOT && v->kind[v->pad] == NSSM_TOK_PAD && v->kind[v->pkt] == NSSM_TOK_PKT);
	require(v->unk == 0xffff || v->kind[v->unk] == NSSM_TOK_UNK);
	for (uint32_t i = 0; i < v->n_labels; i++) {
		require(v->kind[v->label[i].id] == NSSM_TOK_LABEL && v->value[v->label[i].id] == i);
		require(i == 0 || v->label[i - 1].id < v->label[i].id);
		require(nssm_vocab_find_label(v, v->label[i].name) == (int)i);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct nssm_vocab v, again;
	struct nssm_err err = {0};
	json_t *j = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	if (j == NULL)
		return 0;
	int rc = nssm_vocab_from_json(&v, j, "fuzz", &err);
	json_decref(j);
	if (rc != 0) {
		require(rc < 0 && rc == err.code && strncmp(err.msg, "fuzz: ", 6) == 0);
		return 0;
	}
	check(&v);
	j = nssm_vocab_to_json(&v);
	require(j != NULL && nssm_vocab_from_json(&again, j, "again", &err) == 0);
	json_decref(j);
	require(memcmp(&v, &again, sizeof v) == 0);
	return 0;
}
