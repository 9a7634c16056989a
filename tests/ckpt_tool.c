/* ckpt_tool — a test's helper:
 *   ckpt_tool make DIR DTYPE SEED [LABEL…]   saves a small model with random weights (DTYPE fp32, bf16, fp16)
 *                                   that knows these labels (none given: web)
 *   ckpt_tool copy DIR OUT DTYPE    loads a checkpoint and saves it again
 *   ckpt_tool logits DIR TOKEN…     loads a checkpoint, feeds the tokens, prints each row of logits as %.9g numbers */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/checkpoint.h"

static int die(const struct nssm_err *err)
{
	fprintf(stderr, "ckpt_tool: %s\n", err->msg);
	return 1;
}

static enum nssm_dtype dtype_of(const char *name)
{
	return strcmp(name, "bf16") == 0 ? NSSM_BF16 : strcmp(name, "fp16") == 0 ? NSSM_F16 : NSSM_F32;
}

static int make(const char *dir, const char *dtype, uint64_t seed, char **label, int n_labels)
{
	struct nssm_err err = {0};
	struct nssm_model_card card = {.codec = {.kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = 128}};
	nssm_vocab_init(&card.vocab);
	for (int i = 0; i < n_labels || i == 0; i++)
		if (nssm_vocab_add_label(&card.vocab, n_labels > 0 ? label[i] : "web", &err) < 0)
			return die(&err);
	if (nssm_mamba2_cfg_init(&card.cfg, 48, 2, 2, 16, 16, 4, (int)card.vocab.n_tokens, 16, 32, &err) != 0)
		return die(&err);
	card.iat = calloc(card.vocab.n_labels, sizeof *card.iat);
	float *params = calloc(nssm_mamba2_param_floats(&card.cfg), sizeof *params);
	if (card.iat == NULL || params == NULL)
		return 1;
	nssm_mamba2_init(params, &card.cfg, seed);
	int rc = nssm_checkpoint_save(dir, &card, params, dtype_of(dtype), NULL, NULL, 0, &err);
	free(params);
	nssm_model_card_free(&card);
	return rc == 0 ? 0 : die(&err);
}

static int copy(const char *dir, const char *out, const char *dtype)
{
	struct nssm_err err = {0};
	struct nssm_model_card card = {0};
	float *params = NULL;
	int rc = nssm_checkpoint_load_card(&card, dir, &err);
	if (rc == 0) {
		params = calloc(nssm_mamba2_param_floats(&card.cfg), sizeof *params);
		rc = params == NULL ? NSSM_ENOMEM : nssm_checkpoint_load_weights(params, &card, dir, &err);
	}
	if (rc == 0)
		rc = nssm_checkpoint_save(out, &card, params, dtype_of(dtype), NULL, NULL, 0, &err);
	free(params);
	nssm_model_card_free(&card);
	return rc == 0 ? 0 : die(&err);
}

/* conditions: bytes with commas, "-": none; tokens: id:context. */
static int logits(const char *path, const char *conditions, char **tokens, int n)
{
	struct nssm_err err = {0};
	char dir[4096];
	struct nssm_model_card card = {0};
	struct nssm_mamba2 *m = NULL;
	if (nssm_checkpoint_find(dir, path, &err) != 0 || nssm_checkpoint_load_card(&card, dir, &err) != 0 ||
		nssm_mamba2_open(&m, &card.cfg, nssm_kernels_get(NULL), NSSM_WEIGHTS_F32, false, &err) != 0 ||
		nssm_checkpoint_load_weights(nssm_mamba2_params(m), &card, dir, &err) != 0)
		return die(&err);
	nssm_mamba2_pack(m, NULL);
	size_t st = nssm_mamba2_state_floats(&card.cfg) * sizeof(float), sc = nssm_mamba2_step_floats(&card.cfg, 1) * sizeof(float);
	float *state = aligned_alloc(64, (st + 63) / 64 * 64), *scratch = aligned_alloc(64, (sc + 63) / 64 * 64);
	float *row = calloc((size_t)card.cfg.Vpad, sizeof *row);
	if (state == NULL || scratch == NULL || row == NULL)
		return 1;
	memset(state, 0, st);
	uint8_t cond[NSSM_N_CONDITIONS] = {0};
	for (int k = 0; k < card.cfg.n_cond && k < NSSM_N_CONDITIONS && conditions != NULL; k++) {
		cond[k] = (uint8_t)atoi(conditions);
		conditions = strchr(conditions, ',');
		conditions = conditions != NULL ? conditions + 1 : NULL;
	}
	nssm_mamba2_tell(state, &card.cfg, cond);
	for (int i = 0; i < n; i++) {
		const char *colon = strchr(tokens[i], ':');
		uint16_t tok = (uint16_t)atoi(tokens[i]), context = (uint16_t)(colon != NULL ? atoi(colon + 1) : 0);
		nssm_mamba2_step(row, &state, &tok, &context, 1, m, scratch);
		for (int v = 0; v < card.cfg.V; v++)
			printf("%.9g%c", (double)row[v], v + 1 < card.cfg.V ? ' ' : '\n');
	}
	free(state);
	free(scratch);
	free(row);
	nssm_mamba2_close(&m);
	nssm_model_card_free(&card);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 5 && strcmp(argv[1], "make") == 0)
		return make(argv[2], argv[3], (uint64_t)atoll(argv[4]), argv + 5, argc - 5);
	if (argc == 5 && strcmp(argv[1], "copy") == 0)
		return copy(argv[2], argv[3], argv[4]);
	if (argc >= 5 && strcmp(argv[1], "logits") == 0)
		return logits(argv[2], argv[3], argv + 4, argc - 4);
	fprintf(stderr, "usage: ckpt_tool make DIR DTYPE SEED [LABEL...] | ckpt_tool copy DIR OUT DTYPE |\n"
			"       ckpt_tool logits DIR CONDITIONS|- TOKEN[:CONTEXT]...\n");
	return 2;
}
