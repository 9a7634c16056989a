/* score — the loss of a model over the sessions of a corpus, by the steps that generate: what its weights' type costs.
 * A session of n tokens gives n−1 predictions, less its conditions, as in training (train.h). Sessions whose label the model
 * does not know are left out.
 * Checked: tests/weights.py (against what training reported of the same corpus)                                          */
#ifndef NSSM_SCORE_H
#define NSSM_SCORE_H

#include "model/checkpoint.h"
#include "model/corpus.h"

struct nssm_score {
	double nats; /* a scored token, on average */
	uint64_t n_scored;
	uint32_t n_sessions, n_unknown; /* scored; left out */
};

/* The corpus must be of the card's codec; what is not is an error that says so. `where`: its path, for messages. */
int nssm_score(struct nssm_score *out, const struct nssm_mamba2 *m, const struct nssm_model_card *card,
	struct nssm_corpus *corpus, const char *where, struct nssm_err *err);

#endif
