/* mamba2_impl — what mamba2.c (weights, step) and the files on whole sequences (mamba2_work.h) share. Not for others. */
#ifndef NSSM_MAMBA2_IMPL_H
#define NSSM_MAMBA2_IMPL_H

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
	int C; /* convolution channels, E + 2N */
	int Z; /* rows of in_proj, E + C + H */
	float *params;
	struct layer_pack *layer;
	float *head_fwd, *head_bwd;
	struct nssm_tensor *tensor; /* [2 + 9L] */
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
static inline float *nssm_mamba2_norm_f(const struct nssm_mamba2 *m, float *flat)
{
	return flat + m->tensor[1 + 9 * m->cfg.L].offset;
}

/* Zeroed memory in huge pages where the kernel gives them; NULL: none. */
void *nssm_block_alloc(size_t bytes);
void nssm_block_free(void *p, size_t bytes);

#endif
