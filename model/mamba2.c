#include "model/mamba2.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "model/mamba2_impl.h"

void *nssm_block_alloc(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	(void)madvise(p, bytes, MADV_HUGEPAGE); /* a hint: without it the pages are just smaller */
	return p;
}

void nssm_block_free(void *p, size_t bytes)
{
	if (p != NULL)
		munmap(p, bytes);
}

struct layer_view nssm_mamba2_layer(const struct nssm_mamba2 *m, float *flat, int l)
{
	const struct nssm_tensor *t = m->tensor + 1 + 9 * l;
	return (struct layer_view){.norm = flat + t[0].offset, .dt_bias = flat + t[1].offset, .A_log = flat + t[2].offset,
		.D = flat + t[3].offset, .in_proj = flat + t[4].offset, .conv_w = flat + t[5].offset,
		.conv_b = flat + t[6].offset, .gnorm = flat + t[7].offset, .out_proj = flat + t[8].offset};
}

static size_t carve(struct nssm_mamba2 *m, float *base, bool training)
{
	const struct nssm_mamba2_cfg *c = &m->cfg;
	size_t used = 0;
	m->params = nssm_take(base, &used, nssm_mamba2_param_floats(c));
	m->head_fwd = nssm_take(base, &used, m->fwd.pack_floats(c->D, c->Vpad));
	m->head_bwd = training ? nssm_take(base, &used, m->bwd.pack_floats(c->Vpad, c->D)) : NULL;
	for (int l = 0; l < c->L; l++) {
		struct layer_pack *p = &m->layer[l];
		p->in_fwd = nssm_take(base, &used, m->fwd.pack_floats(c->D, m->Z));
		p->out_fwd = nssm_take(base, &used, m->fwd.pack_floats(c->E, c->D));
		p->in_bwd = training ? nssm_take(base, &used, m->bwd.pack_floats(m->Z, c->D)) : NULL;
		p->out_bwd = training ? nssm_take(base, &used, m->bwd.pack_floats(c->D, c->E)) : NULL;
	}
	return used * sizeof(float);
}

int nssm_mamba2_open(struct nssm_mamba2 **mp, const struct nssm_mamba2_cfg *cfg, const struct nssm_kernels *kern,
	enum nssm_weights weights, bool for_training, struct nssm_err *err)
{
	*mp = NULL;
	struct nssm_mamba2 *m = calloc(1, sizeof *m);
	if (m == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a model");
	m->cfg = *cfg;
	m->kern = kern;
	assert(!for_training || weights != NSSM_WEIGHTS_INT8);
	m->fwd = m->bwd = nssm_kernels_product(kern, weights);
	m->C = cfg->E + 2 * cfg->N;
	m->Z = cfg->E + m->C + cfg->H;
	m->layer = calloc((size_t)cfg->L, sizeof *m->layer);
	m->tensor = calloc((size_t)nssm_mamba2_tensors(cfg, NULL), sizeof *m->tensor);
	if (m->layer != NULL && m->tensor != NULL) {
		nssm_mamba2_tensors(cfg, m->tensor);
		m->block_bytes = carve(m, NULL, for_training);
		m->block = nssm_block_alloc(m->block_bytes);
	}
	if (m->block == NULL) {
		int rc = nssm_err_set(err, NSSM_ENOMEM, "no memory for the model's weights (%zu MiB)", m->block_bytes >> 20);
		nssm_mamba2_close(&m);
		return rc;
	}
	carve(m, m->block, for_training);
	*mp = m;
	return 0;
}

void nssm_mamba2_close(struct nssm_mamba2 **mp)
{
	struct nssm_mamba2 *m = *mp;
	if (m == NULL)
		return;
	nssm_block_free(m->block, m->block_bytes);
	free(m->layer);
	free(m->tensor);
	free(m);
	*mp = NULL;
}

size_t nssm_mamba2_bytes(const struct nssm_mamba2 *m)
{
	return m->block_bytes;
}

float *nssm_mamba2_params(struct nssm_mamba2 *m)
{
	return m->params;
}

static void pack_task(void *ctx, int l, int member)
{
	struct nssm_mamba2 *m = ctx;
	const struct nssm_mamba2_cfg *c = &m->cfg;
	if (l == c->L) {
		const float *E = nssm_mamba2_embedding(m, m->params);
		m->fwd.pack(m->head_fwd, E, (size_t)c->D, true, c->D, c->Vpad);
		if (m->head_bwd)
			m->bwd.pack(m->head_bwd, E, (size_t)c->D, false, c->Vpad, c->D);
		return;
	}
	struct layer_view w = nssm_mamba2_layer(m, m->params, l);
	struct layer_pack *p = &m->layer[l];
	m->fwd.pack(p->in_fwd, w.in_proj, (size_t)c->D, true, c->D, m->Z);
	m->fwd.pack(p->out_fwd, w.out_proj, (size_t)c->E, true, c->E, c->D);
	if (p->in_bwd) {
		m->bwd.pack(p->in_bwd, w.in_proj, (size_t)c->D, false, m->Z, c->D);
		m->bwd.pack(p->out_bwd, w.out_proj, (size_t)c->E, false, c->D, c->E);
	}
}

void nssm_mamba2_pack(struct nssm_mamba2 *m, struct nssm_team *team)
{
	if (team != NULL) {
		nssm_team_run(team, m->cfg.L + 1, pack_task, m);
		return;
	}
	for (int l = 0; l <= m->cfg.L; l++)
		pack_task(m, l, 0);
}

/* --- one token ----------------------------------------------------------------------------------------------- */

struct step_bufs {
	float *r, *n, *zx, *xc, *y;
	size_t ldz;
	size_t floats;
};

static struct step_bufs step_carve(const struct nssm_mamba2_cfg *c, int n_lanes, float *base)
{
	size_t n = (size_t)n_lanes, C = (size_t)c->E + 2 * (size_t)c->N, used = 0;
	struct step_bufs b = {.ldz = nssm_round_up((size_t)c->E + C + (size_t)c->H, 16)};
	b.r = nssm_take(base, &used, n * (size_t)c->D);
	b.n = nssm_take(base, &used, n * (size_t)c->D);
	b.zx = nssm_take(base, &used, n * b.ldz);
	b.xc = nssm_take(base, &used, n * C);
	b.y = nssm_take(base, &used, n * (size_t)c->E);
	b.floats = used;
	return b;
}

size_t nssm_mamba2_step_floats(const struct nssm_mamba2_cfg *cfg, int n_lanes)
{
	return step_carve(cfg, n_lanes, NULL).floats;
}

/* Convolution and scan, LANES lanes at a time: enough to share the convolution's taps, few enough for the first-level
 * cache to hold what the scan reads beside the states (8 x 2.5 KiB of xBC for `small`). */
static void step_mix(const struct nssm_mamba2 *m, struct layer_view w, const struct step_bufs *b, float *const *state,
	size_t layer_off, int n)
{
	enum { LANES = 8 };
	const struct nssm_mamba2_cfg *c = &m->cfg;
	size_t s_floats = (size_t)c->H * c->N * c->P, C = (size_t)m->C, E = (size_t)c->E;
	for (int i0 = 0; i0 < n; i0 += LANES) {
		int i1 = n - i0 < LANES ? n : i0 + LANES;
		float *conv[LANES], *xbc = b->zx + (size_t)i0 * b->ldz + E;
		for (int i = i0; i < i1; i++)
			conv[i - i0] = state[i] + layer_off + s_floats;
		m->kern->conv_silu_step(b->xc + (size_t)i0 * C, C, conv, xbc, b->ldz, w.conv_w, w.conv_b, i1 - i0, m->C, c->K);
		for (int i = i0; i < i1; i++) {
			const float *x = b->xc + (size_t)i * C, *dt = b->zx + (size_t)i * b->ldz + E + C;
			m->kern->ssm_step(b->y + (size_t)i * E, state[i] + layer_off, x, x + E, x + E + c->N, dt, w.dt_bias, w.A_log,
				w.D, c->H, c->P, c->N);
		}
	}
}

static void step_conditions(const struct nssm_mamba2 *m, float *r, float *const *state, int n)
{
	const struct nssm_mamba2_cfg *c = &m->cfg;
	size_t at = (size_t)c->L * nssm_mamba2_layer_floats(c);
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < (size_t)c->n_cond; k++)
			nssm_mamba2_add_condition(r + (size_t)i * (size_t)c->D, m, k, (size_t)state[i][at + k]);
}

void nssm_mamba2_step(float *logits, float *const *state, const uint16_t *token, const uint16_t *context, int n,
	const struct nssm_mamba2 *m, float *scratch)
{
	const struct nssm_mamba2_cfg *c = &m->cfg;
	const struct nssm_kernels *k = m->kern;
	struct step_bufs b = step_carve(c, n, scratch);
	size_t D = (size_t)c->D, E = (size_t)c->E, per_layer = nssm_mamba2_layer_floats(c);
	for (int i = 0; i < n; i++)
		nssm_mamba2_embed(b.r + (size_t)i * D, m, token, context, (size_t)i);
	step_conditions(m, b.r, state, n);
	for (int l = 0; l < c->L; l++) {
		struct layer_view w = nssm_mamba2_layer(m, m->params, l);
		k->rmsnorm(b.n, D, NULL, b.r, D, w.norm, NORM_EPS, n, c->D);
		m->fwd.gemm_packed(b.zx, b.ldz, b.n, D, m->layer[l].in_fwd, false, n, m->Z, c->D);
		step_mix(m, w, &b, state, (size_t)l * per_layer, n);
		k->gated_rmsnorm(b.y, E, NULL, b.y, E, b.zx, b.ldz, w.gnorm, NORM_EPS, n, c->E);
		m->fwd.gemm_packed(b.r, D, b.y, E, m->layer[l].out_fwd, true, n, c->D, c->E);
	}
	k->rmsnorm(b.n, D, NULL, b.r, D, nssm_mamba2_norm_f(m, m->params), NORM_EPS, n, c->D);
	m->fwd.gemm_packed(logits, (size_t)c->Vpad, b.n, D, m->head_fwd, false, n, c->Vpad, c->D);
	for (int i = 0; i < n; i++)
		for (int v = c->V; v < c->Vpad; v++)
			logits[(size_t)i * c->Vpad + v] = -INFINITY;
}
