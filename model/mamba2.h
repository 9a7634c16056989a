/* mamba2 — the Mamba-2 language model: configuration, weights, forward, backward, step.
 * Source : Dao & Gu 2024 (arXiv 2405.21060); layout of weights as in the reference `mamba_ssm` (DESIGN section 4).
 * Threads: a model (weights) is shared and read-only while it is used; a work area belongs to one caller.      */
#ifndef NSSM_MAMBA2_H
#define NSSM_MAMBA2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/kernels.h"
#include "kernels/team.h"

#define NSSM_CONTEXT_MAX 4096

struct nssm_mamba2_cfg {
	int D; /* d_model */
	int L; /* n_layer */
	int E; /* inner width, expand*D */
	int H; /* heads, E/P */
	int P; /* headdim */
	int N; /* d_state */
	int G; /* ngroups; 1 */
	int K; /* d_conv */
	int V; /* vocab_size */
	int Vpad; /* V rounded up to pad_vocab_size_multiple */
	int vocab_multiple; /* pad_vocab_size_multiple */
	int Q; /* chunk_size: how the scan is cut; does not change what is computed */
	int n_context; /* rows of the context embedding; 0: the reference's model, which has none */
	int n_cond; /* bytes that are known of a whole sequence, 0 after nssm_mamba2_cfg_init */
};

/* Fills in E, H, Vpad from the rest; checks every size. expand is E/D. */
int nssm_mamba2_cfg_init(struct nssm_mamba2_cfg *cfg, int D, int L, int expand, int P, int N, int K, int V,
	int vocab_multiple, int Q, struct nssm_err *err);

/* One tensor of the reference's state dict. */
struct nssm_tensor {
	char name[64];     /* "backbone.layers.3.mixer.in_proj.weight" */
	int n_dims, dim[3];
	size_t offset, n;  /* floats in the flat parameter block */
	bool decay;        /* weight decay applies */
};

/* The tensors in the order they have in the parameter block: embedding, layers 0.., norm_f, and up to two that the reference does not have:
 * backbone.context_embedding.weight [n_context, D]: row context is added to embedding[token], context being what the codec knows of the token
 * that comes next (codec.h);
 * backbone.conditions.weight [n_cond·256, D]: row 256·i + b is added, too, at every token of a sequence whose condition i is b > 0 (rows
 * of b = 0 are not used).
 * lm_head is tied to the embedding and has no entry. Returns their number, 2 + 9·L and those of the two; out may be NULL. */
int nssm_mamba2_tensors(const struct nssm_mamba2_cfg *cfg, struct nssm_tensor *out);
/* Floats in the parameter block (each tensor starts 64-byte aligned). 0: sizes overflow. */
size_t nssm_mamba2_param_floats(const struct nssm_mamba2_cfg *cfg);
/* Initial values of DESIGN section 4 from (seed, NSSM_RNG_INIT, tensor index). */
void nssm_mamba2_init(float *params, const struct nssm_mamba2_cfg *cfg, uint64_t seed);

/* Weights made ready for the kernels. Owns the parameter block and the packed copies. */
struct nssm_mamba2;

/* weights: what in_proj, out_proj and the head are packed as for products; the parameter block stays fp32, and so do the
 * embedding's look-up, convolution, scan and norms. for_training: room for the packed transposes that backward needs; both
 * operands of its products and of the weights' gradients are of that type too (f32 or bf16), gradients and all sums fp32. */
int nssm_mamba2_open(struct nssm_mamba2 **m, const struct nssm_mamba2_cfg *cfg, const struct nssm_kernels *kern,
	enum nssm_weights weights, bool for_training, struct nssm_err *err);
void nssm_mamba2_close(struct nssm_mamba2 **m);
/* Bytes of its weights and packed copies. */
size_t nssm_mamba2_bytes(const struct nssm_mamba2 *m);
/* The flat parameter block; after writing to it call nssm_mamba2_pack before anything else. */
float *nssm_mamba2_params(struct nssm_mamba2 *m);
void nssm_mamba2_pack(struct nssm_mamba2 *m, struct nssm_team *team);

/* --- state of one sequence ------------------------------------------------------------------------------------
 * One block a lane: per layer S [H][N][P], then the last K−1 rows of xBC from before the convolution [K−1][E+2GN],
 * oldest first; then n_cond floats, the conditions of nssm_mamba2_step. All zeros is the state before the first token, with conditions
 * unknown. 64-byte aligned. */
size_t nssm_mamba2_state_floats(const struct nssm_mamba2_cfg *cfg);
/* The sequence's condition bytes [n_cond]. */
void nssm_mamba2_tell(float *state, const struct nssm_mamba2_cfg *cfg, const uint8_t *conditions);

/* --- stepping: generation ----------------------------------------------------------------------------------- */

/* Scratch for nssm_mamba2_step with up to n lanes, in floats; 64-byte aligned. */
size_t nssm_mamba2_step_floats(const struct nssm_mamba2_cfg *cfg, int n_lanes);
/* One token on each lane: state[i] moves on by token[i] (and context[i], below n_context; not read where that is 0), logits[i*Vpad ..] are those of the next token; columns
 * >= V are −infinity. A lane's numbers do not depend on n or on the other lanes. */
void nssm_mamba2_step(float *logits, float *const *state, const uint16_t *token, const uint16_t *context, int n,
	const struct nssm_mamba2 *m, float *scratch);

/* --- whole sequences: prefill, validation, training --------------------------------------------------------- */

/* A work area for batches of up to B lanes × T tokens. Training keeps the residual stream of every layer, T·D·L floats a lane,
 * and everything else that a layer computed if that takes at most keep_bytes; else backward recomputes it, segment by
 * segment, with the same result. */
struct nssm_mamba2_work;
#define NSSM_KEEP_BYTES (1ull << 30)

int nssm_mamba2_work_open(struct nssm_mamba2_work **w, const struct nssm_mamba2 *m, int B, int T, bool for_training,
	size_t keep_bytes, struct nssm_team *team, struct nssm_err *err);
void nssm_mamba2_work_close(struct nssm_mamba2_work **w);
/* Bytes such a work area takes. */
size_t nssm_mamba2_work_bytes(const struct nssm_mamba2 *m, int B, int T, bool for_training, size_t keep_bytes,
	int n_threads);
/* A batch is cut along time into segments of this many tokens a lane, from its first token on; … */
int nssm_mamba2_seg_tokens(const struct nssm_mamba2_work *w);
/* … and a lane may have at most this many session starts (reset) in one segment. */
int nssm_mamba2_max_borders(int seg_tokens);

/* A batch: B lanes of T tokens each, lane-major. reset[b*T+t] != 0: a new session starts with this token, so the lane's
 * state is zeroed before it. target < 0: this position is not scored. */
struct nssm_batch {
	int B, T;
	const uint16_t *token;  /* [B,T] */
	const uint16_t *context; /* [B,T], below n_context; not read where that is 0 */
	const int32_t *target;  /* [B,T] */
	const uint8_t *reset;   /* [B,T] */
	const uint8_t *cond;    /* [B,T,n_cond]: each position's conditions (those in `state` are not used), or NULL: unknown */
};

/* Forward over the batch. state[b]: in, state before; out, state after. loss_sum, n_scored: summed over all scored
 * positions, in nats. logits_last [B,Vpad] (or NULL): those after each lane's last token. */
void nssm_mamba2_forward(double *loss_sum, int64_t *n_scored, float *logits_last, float *const *state,
	const struct nssm_batch *batch, struct nssm_mamba2 *m, struct nssm_mamba2_work *w);
/* All logits [B,T,Vpad], for tests and evaluation. */
void nssm_mamba2_logits(float *logits, float *const *state, const struct nssm_batch *batch, struct nssm_mamba2 *m,
	struct nssm_mamba2_work *w);
/* Forward and backward: grad (flat, as the parameter block) += d(loss_sum·scale)/d(params). The gradient stops at the
 * batch's first token (truncated backpropagation); state moves on as in forward. */
void nssm_mamba2_backward(double *loss_sum, int64_t *n_scored, float *grad, float *const *state, float scale,
	const struct nssm_batch *batch, struct nssm_mamba2 *m, struct nssm_mamba2_work *w);

#endif
