/* weights_loss — what each type of weights costs: the loss of a checkpoint over a corpus, as a table or as JSON. */
#ifndef NSSM_WEIGHTS_LOSS_H
#define NSSM_WEIGHTS_LOSS_H

#include <jansson.h>

#include "base/err.h"
#include "kernels/kernels.h"
#include "model/checkpoint.h"

/* {"corpus", "level", "sessions", "tokens", "weights": [{"type", "bits", "more"}, …]}; more: of f32's loss. New reference. */
int nssm_weights_loss(json_t **out, struct nssm_model_card *card, const char *dir, const char *corpus,
	const struct nssm_kernels *kern, struct nssm_err *err);
void nssm_weights_loss_print(const json_t *loss);

#endif
