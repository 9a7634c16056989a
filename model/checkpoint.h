/* checkpoint — a model in a folder: config.json (the reference's keys), model.safetensors, tokenizer.json, netssm.json.
 * netssm.json holds what the reference has no place for: the codec, per-label inter-arrival histograms, which ports are encrypted, and
 * "condition_rows": whether the weights have rows for the codec's conditions (mamba2.h).
 * A folder in the reference's names and shapes without netssm.json loads too (codec raw with compat_paper, since the
 * published preprocessor made its training data; no times).
 * Writing: to a temporary folder, every file synced, exchanged with the old one in one step.
 * Checked: tests/test_checkpoint.c, tests/golden (PyTorch reads it and gives the same logits)                         */
#ifndef NSSM_CHECKPOINT_H
#define NSSM_CHECKPOINT_H

#include <jansson.h>

#include "base/err.h"
#include "model/codec.h"
#include "model/iat.h"
#include "model/mamba2.h"
#include "model/safetensors.h"
#include "model/secure_ports.h"
#include "model/vocab.h"

/* Everything beside the weights. */
struct nssm_model_card {
	struct nssm_mamba2_cfg cfg;
	struct nssm_codec_cfg codec;
	struct nssm_vocab vocab;
	struct nssm_iat_hist *iat; /* [vocab.n_labels], owned */
	struct nssm_secure_ports secure;
	uint64_t hash;             /* of the safetensors file: names this model in manifests; 0 until load_weights sets it */
};
void nssm_model_card_free(struct nssm_model_card *card);

/* Finds the checkpoint folder that a user means by path: itself if it holds config.json, else path/best, else path/last.
 * Error lists what was looked for. out: PATH_MAX bytes. */
int nssm_checkpoint_find(char *out, const char *path, struct nssm_err *err);
/* Reads the card (weights untouched). cfg.V is config.json's vocab_size, or the tokenizer's number of tokens where that is
 * larger and still fits into the padded rows (the reference does not bar those). It may exceed vocab.n_tokens. On error
 * nothing is left to free. */
int nssm_checkpoint_load_card(struct nssm_model_card *card, const char *dir, struct nssm_err *err);
/* Reads the weights into a parameter block of card->cfg (fp32, bf16 or fp16 in the file), every tensor by name and shape. */
int nssm_checkpoint_load_weights(float *params, struct nssm_model_card *card, const char *dir, struct nssm_err *err);

/* One more tensor to store beside the weights (optimizer state, lane states), in optimizer.safetensors. */
struct nssm_extra {
	const char *name;
	float *data;
	size_t n;
};
/* Saves a whole checkpoint at dir, in place of the one that may be there; a folder that holds anything else is refused,
 * because it would be deleted. training: goes to training.json (NULL: none). extra: to optimizer.safetensors as fp32
 * (n_extra 0: none). */
int nssm_checkpoint_save(const char *dir, const struct nssm_model_card *card, const float *params, enum nssm_dtype dtype,
	const json_t *training, const struct nssm_extra *extra, int n_extra, struct nssm_err *err);
/* training.json of a checkpoint: new reference. */
int nssm_checkpoint_load_training(json_t **training, const char *dir, struct nssm_err *err);
/* Fills data of every extra by name; sizes must match. */
int nssm_checkpoint_load_extra(const char *dir, const struct nssm_extra *extra, int n_extra, struct nssm_err *err);

#endif
