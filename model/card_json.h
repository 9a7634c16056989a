/* card_json — the card's two JSON files: config.json in the reference's keys, netssm.json in ours. Inside checkpoint.c's
 * module; path is for messages.
 * config.json: a missing key means the reference's default (MambaConfig, Mamba2), and so does null. What this model cannot
 *              do is NSSM_EUNSUP: a layer other than Mamba2 (a missing one is Mamba1 there), attention layers,
 *              d_intermediate, ngroups other than 1, no rms_norm, untied embeddings, and any key of ssm_cfg that changes
 *              what is computed. Other keys at the top are let be.
 *              One key is ours: n_context, rows of the context embedding (mamba2.h); missing: none, the reference's model.
 * netssm.json: {"format":"netssm","version":1,"codec":{...},"iat":{label:[256 counts]},"encrypted":{...}}; a label may be missing, and
 *              "encrypted" (secure_ports.h) of a checkpoint whose corpora did not say it.
 * Checked: tests/test_checkpoint.c                                                                                      */
#ifndef NSSM_CARD_JSON_H
#define NSSM_CARD_JSON_H

#include <jansson.h>

#include "base/err.h"
#include "model/checkpoint.h"

int nssm_card_read_config(struct nssm_mamba2_cfg *cfg, const json_t *root, const char *path, struct nssm_err *err);
/* Needs card->vocab, and card->iat zeroed. */
int nssm_card_read_netssm(struct nssm_model_card *card, const json_t *root, const char *path, struct nssm_err *err);
/* New references, NULL out of memory. */
json_t *nssm_card_config_json(const struct nssm_mamba2_cfg *c);
json_t *nssm_card_netssm_json(const struct nssm_model_card *card);

#endif
