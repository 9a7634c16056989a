/* mamba2_impl — what mamba2.c (weights, step) and the files on whole sequences (mamba2_work.h) share. Not for others. */
#ifndef NSSM_MAMBA2_IMPL_H
#define NSSM_MAMBA2_IMPL_H

#include <assert.h>
#include <string.h>

#include "model/mamba2.h"

#define NORM_EPS 1e-5f

/* The tensors of one layer inside a flat block (parameters, or gradients of the same shape). */
struct layer_view {
	float *norm, *dt_bias, *A_log, *D, *in_proj, *conv_w, *conv_b, *gnorm, *out_proj;
};

struct layer_pack {
	float *in_fwd, *out_fwd; /* Y = X·Wᵀ */
	float *in_bwd, *out_bwd; /* dX = dY·W, NULL unless for training */
};

struct nssm_mamba2 {
	struct nssm_mamba2_cfg cfg;
	const struct nssm_kernels *kern;
	struct nssm_product fwd; /* of the packed copies called ..._fwd */
	struct nssm_product bwd; /* of those called ..._bwd, and of the gradients of weights */
	int C; /* convolution channels, E + 2N */
	int Z; /* rows of in_proj, E + C + H */
	float *params;
	struct layer_pack *layer;
	float *head_fwd, *head_bwd;
	struct nssm_tensor *tensor; /* [2 + 9L], and up to 2 */
	void *block;
	size_t block_bytes;
};

static inline size_t nssm_round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

/* Hands out n floats of a block, rounded up to 64 bytes, or only counts them while base is NULL. */
static inline float *nssm_take(float *base, size_t *used, size_t n)
{
	float *p = base ? base + *used : NULL;
	*used += nssm_round_up(n, 16);
	return p;
}

struct layer_view nssm_mamba2_layer(const struct nssm_mamba2 *m, float *flat, int l);
static inline float *nssm_mamba2_embedding(const struct nssm_mamba2 *m, float *flat)
{
	return flat + m->tensor[0].offset;
}
/* NULL: the model has none. */
static inline float *nssm_mamba2_context_embedding(const struct nssm_mamba2 *m, float *flat)
{
	return m->cfg.n_context > 0 ? flat + m->tensor[2 + 9 * m->cfg.L].offset : NULL;
}
/* What the first layer is given for token and context number i: out [D]. */
static inline void nssm_mamba2_embed(float *out, const struct nssm_mamba2 *m, const uint16_t *token, const uint16_t *context, size_t i)
{
	size_t D = (size_t)m->cfg.D;
	const float *e = nssm_mamba2_embedding(m, m->params) + token[i] * D, *x = nssm_mamba2_context_embedding(m, m->params);
	if (x == NULL) {
		memcpy(out, e, D * sizeof *out);
		return;
	}
	assert(context[i] < m->cfg.n_context);
	for (size_t j = 0; j < D; j++)
		out[j] = e[j] + x[context[i] * D + j];
}
static inline float *nssm_mamba2_norm_f(const struct nssm_mamba2 *m, float *flat)
{
	return flat + m->tensor[1 + 9 * m->cfg.L].offset;
}

/* Only where there are conditions. */
static inline float *nssm_mamba2_condition_rows(const struct nssm_mamba2 *m, float *flat)
{
	return flat + m->tensor[2 + 9 * m->cfg.L + (m->cfg.n_context > 0)].offset;
}
/* Adds the row of condition k's value to r [D]; 0: unknown, none. */
static inline void nssm_mamba2_add_condition(float *r, const struct nssm_mamba2 *m, size_t k, size_t value)
{
	size_t D = (size_t)m->cfg.D;
	const float *row = nssm_mamba2_condition_rows(m, m->params) + (256 * k + value) * D;
	for (size_t j = 0; value > 0 && j < D; j++)
		r[j] += row[j];
}
/* Of a state: one layer's. */
static inline size_t nssm_mamba2_layer_floats(const struct nssm_mamba2_cfg *c)
{
	return (size_t)c->H * c->N * c->P + (size_t)(c->K - 1) * (c->E + 2 * c->N);
}

/* Zeroed memory in huge pages where the kernel gives them; NULL: none. */
void *nssm_block_alloc(size_t bytes);
void nssm_block_free(void *p, size_t bytes);

#endif
