/* train — next-token training over corpora: an optimizer, a stream of batches, checkpoints that resume exactly.
 *
 * Data  : B lanes; each takes sessions from a shuffled order (a new permutation an epoch) and walks through them in pieces of
 *         seq_tokens, the scan state handed from piece to piece (truncated backpropagation), so no token is left out.
 *         A session of n tokens gives n−1 predictions. A lane starts its next session in the same piece.
 *         Conditions (codec.h) are told, not predicted: they score nothing. Each is hidden (0, unknown) with the probability
 *         condition_dropout, and not independently: a session where most are hidden is drawn with that probability first, so that
 *         one condition alone, and none, are seen often enough to be asked for. Drawn from (seed, epoch, session); validation hides
 *         none.
 *         Where the model has rows for them (mamba2.h) the conditions that are not hidden reach every token of their session besides.
 * Step  : grad_accum pieces, mean loss over all scored tokens, global norm clipped, AdamW (decay on matrices only), learning
 *         rate warmed up linearly, then cosine to lr_min.
 * Resume: a checkpoint taken after step k continues with the losses the uninterrupted run would have had, bit for bit, with
 *         the same binary, CPU level and precision (any number of threads); the plan is compared key by key. dtype is not in it:
 *         it says how weights are stored, and the masters are stored beside those that are rounded.
 * Checked: tests/test_train.c, tests/train_resume.sh                                                                     */
#ifndef NSSM_TRAIN_H
#define NSSM_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/checkpoint.h"
#include "model/corpus.h"
#include "model/mamba2.h"

struct nssm_train_cfg {
	int batch, seq_tokens, grad_accum;
	int64_t steps; /* of the whole run; > 0 before the first step (see nssm_trainer_set_steps) */
	int64_t warmup;
	uint64_t seed;
	float lr, lr_min, weight_decay, beta1, beta2, adam_eps, clip;
	float condition_dropout; /* 0..1 */
	uint64_t val_tokens; /* a validation; 0: all */
	enum nssm_dtype dtype;
	enum nssm_weights precision; /* of the products, f32 or bf16; not in the plan: a run may go on in another, with losses of its own */
};

struct nssm_trainer;

struct nssm_train_stats {
	int64_t step;     /* steps done */
	uint64_t tokens;  /* scored since the run began */
	double loss;      /* nats a token, this step */
	double loss_ema;
	double grad_norm; /* before clipping */
	double lr;
	double epoch;     /* sessions started / sessions in the corpora */
};

/* card: model configuration, codec, vocabulary (merged over the corpora) and times; its ownership moves to the trainer on
 * success. corpora are borrowed and must outlive it; their token ids are mapped to the card's vocabulary by name.
 * val may be NULL; its codec must be the card's. Weights: initial values from the seed; nssm_trainer_params to overwrite them. */
int nssm_trainer_open(struct nssm_trainer **t, const struct nssm_train_cfg *cfg, struct nssm_model_card *card,
	struct nssm_corpus *const *corpora, int n_corpora, struct nssm_corpus *val, const struct nssm_kernels *kern,
	struct nssm_team *team, struct nssm_err *err);
void nssm_trainer_close(struct nssm_trainer **t);

/* A card for corpora: vocabulary merged (labels in order of first appearance; the corpora must agree on everything else and on
 * the codec), inter-arrival histograms added. cfg is filled from the sizes given later. */
int nssm_train_card(struct nssm_model_card *card, struct nssm_corpus *const *corpora, const char *const *paths, int n,
	struct nssm_err *err);

const struct nssm_model_card *nssm_trainer_card(const struct nssm_trainer *t);
float *nssm_trainer_params(struct nssm_trainer *t, size_t *n);
/* Starts from the weights of another checkpoint of the same sizes and codec. Rows of the embedding go over by what their tokens
 * mean (byte, special token, a label's name); rows of labels that it lacks keep their initial values: n_new of them. */
int nssm_trainer_init_from(struct nssm_trainer *t, const char *dir, uint32_t *n_new, struct nssm_err *err);
/* Tokens of one optimizer step; scored positions in all corpora; bytes of memory held. */
uint64_t nssm_trainer_step_tokens(const struct nssm_trainer *t);
uint64_t nssm_trainer_epoch_tokens(const struct nssm_trainer *t);
size_t nssm_trainer_bytes(const struct nssm_trainer *t);
/* Sessions of the validation corpus left out because training has no such label. */
uint32_t nssm_trainer_val_unknown(const struct nssm_trainer *t);

/* Seconds one step takes here: the median of some, taken without moving the run. */
int nssm_trainer_measure(struct nssm_trainer *t, double *step_s, struct nssm_err *err);
void nssm_trainer_set_steps(struct nssm_trainer *t, int64_t steps);
int64_t nssm_trainer_steps(const struct nssm_trainer *t);

/* One optimizer step. NSSM_ENUM: the loss or gradient is not finite, or the loss diverged; the weights are then those of the
 * step before and must not be saved over a good checkpoint. */
int nssm_trainer_step(struct nssm_trainer *t, struct nssm_train_stats *stats, struct nssm_err *err);
/* Mean loss in nats over the validation corpus (val_tokens of it, sessions in a fixed mixed order, always the same), of the
 * fp32 masters: what save and export write at another dtype is rounded after it. */
int nssm_trainer_validate(struct nssm_trainer *t, double *loss, uint64_t *n_scored, struct nssm_err *err);

/* A whole checkpoint; extra_json (borrowed, may be NULL): the caller's own values, given back by resume. */
int nssm_trainer_save(struct nssm_trainer *t, const char *dir, const json_t *extra_json, struct nssm_err *err);
/* The weights alone, for use: no optimizer state. about (borrowed, may be NULL) becomes training.json. */
int nssm_trainer_export(struct nssm_trainer *t, const char *dir, const json_t *about, struct nssm_err *err);
/* "fp32" or "bf16". */
const char *nssm_train_precision_name(enum nssm_weights precision);
/* The precision that a checkpoint's last step was taken in (training.json; fp32 where it is not said). */
const char *nssm_trainer_stored_precision(const json_t *training);
/* The step count that a training was begun with, from its training.json. */
int nssm_trainer_stored_steps(const json_t *training, int64_t *steps, const char *dir, struct nssm_err *err);
/* Takes up a checkpoint of the same plan. extra_json: new reference or NULL. */
int nssm_trainer_resume(struct nssm_trainer *t, const char *dir, json_t **extra_json, struct nssm_err *err);

#endif
