/* train_impl — what train.c (batches, steps) and train_state.c (save, resume) share. Not for others. */
#ifndef NSSM_TRAIN_IMPL_H
#define NSSM_TRAIN_IMPL_H

#include "model/train.h"

/* Where a lane is: session (index over all corpora, or -1: none yet), the next token to feed, and the epoch that it began in. */
struct lane {
	int64_t session;
	uint64_t off, epoch;
	uint64_t walked; /* tokens that its automaton has seen */
};

/* The sessions of some corpora as one list, with the id maps into the card's vocabulary. */
struct source {
	struct nssm_corpus *const *corpus;
	int n_corpora;
	uint32_t n_sessions;
	uint32_t *first;      /* [n_corpora+1] */
	uint16_t *map;        /* [n_corpora][NSSM_VOCAB_MAX] */
	uint64_t n_scored;
	uint32_t n_conditions; /* tokens behind a session's label */
	uint16_t unknown;      /* byte 0 */
};

struct nssm_trainer {
	struct nssm_train_cfg cfg;
	struct nssm_model_card card;
	const struct nssm_kernels *kern;
	struct nssm_team *team;
	struct nssm_mamba2 *model;
	struct nssm_mamba2_work *work;
	struct source src, val;
	uint32_t val_unknown;
	struct nssm_corpus *val_corpus;
	size_t n_params;
	int n_tensors;
	struct nssm_tensor *tensor;
	float *grad, *m, *v, *lane_block; /* lane_block [2B][state]: training lanes, then validation's or measuring's */
	float **state;                    /* [2B] */
	void *block;
	size_t block_bytes;
	uint16_t *token, *context;
	int32_t *target;
	uint8_t *reset;
	uint8_t *cond; /* [B,T,n_cond] */
	struct lane *lane;
	uint8_t *walk;                    /* [2B][walk_bytes] the codec's automaton of each lane, training's then validation's, … */
	size_t walk_bytes;                /* … 0: the model is given no contexts */
	uint32_t *order;                  /* permutation of this epoch */
	uint32_t *val_order;              /* a fixed one, so that a part of it stands for all labels */
	uint64_t epoch, order_pos;
	int64_t step;
	uint64_t tokens, started;
	double ema, best_ema, first_loss;
	int64_t bad_steps;
};

void nssm_trainer_shuffle(struct nssm_trainer *t);
/* Ids of table `from` to those of table v that mean the same; 0xffff: v has none. */
void nssm_train_id_map(uint16_t map[NSSM_VOCAB_MAX], const struct nssm_vocab *from, const struct nssm_vocab *v);

#endif
