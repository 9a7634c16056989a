#include "model/mamba2.h"

#include <alloca.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/philox.h"
#include "model/mamba2_impl.h"

#define ALIGN_FLOATS 16 /* 64 bytes */

static int check(const char *what, int v, int lo, int hi, int multiple, struct nssm_err *err)
{
	if (v < lo || v > hi || v % multiple != 0)
		return nssm_err_set(err, NSSM_ERANGE, "%s: %d; expected %d..%d, a multiple of %d", what, v, lo, hi, multiple);
	return 0;
}

int nssm_mamba2_cfg_init(struct nssm_mamba2_cfg *cfg, int D, int L, int expand, int P, int N, int K, int V,
	int vocab_multiple, int Q, struct nssm_err *err)
{
	int rc;
	if ((rc = check("d_model", D, 16, 16384, 16, err)) || (rc = check("n_layer", L, 1, 1024, 1, err)) ||
		(rc = check("expand", expand, 1, 16, 1, err)) || (rc = check("headdim", P, 16, 256, 16, err)) ||
		(rc = check("d_state", N, 16, 512, 16, err)) || (rc = check("d_conv", K, 2, 4, 1, err)) ||
		(rc = check("vocab_size", V, 2, 65535, 1, err)) ||
		(rc = check("pad_vocab_size_multiple", vocab_multiple, 1, 65536, 1, err)) ||
		(rc = check("chunk_size", Q, 16, NSSM_CHUNK_MAX, 16, err)))
		return rc;
	if (D * expand % P != 0)
		return nssm_err_set(err, NSSM_ERANGE, "d_model*expand = %d is not a multiple of headdim %d", D * expand, P);
	int Vpad = (V + vocab_multiple - 1) / vocab_multiple * vocab_multiple;
	*cfg = (struct nssm_mamba2_cfg){.D = D, .L = L, .E = D * expand, .H = D * expand / P, .P = P, .N = N, .G = 1, .K = K,
		.V = V, .Vpad = Vpad, .vocab_multiple = vocab_multiple, .Q = Q};
	return 0;
}

/* The walk over all tensors: one place that knows names, shapes and order. */
struct walk {
	struct nssm_tensor *out;
	int n;
	size_t offset;
};

static void add(struct walk *w, bool decay, int d0, int d1, int d2, const char *suffix, int layer)
{
	struct nssm_tensor t = {.offset = w->offset, .decay = decay, .dim = {d0, d1, d2}};
	t.n_dims = d2 ? 3 : d1 ? 2 : 1;
	t.n = (size_t)d0 * (d1 ? d1 : 1) * (d2 ? d2 : 1);
	if (layer < 0)
		snprintf(t.name, sizeof t.name, "backbone.%s", suffix);
	else
		snprintf(t.name, sizeof t.name, "backbone.layers.%d.%s", layer, suffix);
	w->offset += (t.n + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
	if (w->out != NULL)
		w->out[w->n] = t;
	w->n++;
}

static struct walk walk_all(const struct nssm_mamba2_cfg *c, struct nssm_tensor *out)
{
	struct walk w = {.out = out};
	int C = c->E + 2 * c->G * c->N;
	add(&w, true, c->Vpad, c->D, 0, "embedding.weight", -1);
	for (int l = 0; l < c->L; l++) {
		add(&w, false, c->D, 0, 0, "norm.weight", l);
		add(&w, false, c->H, 0, 0, "mixer.dt_bias", l);
		add(&w, false, c->H, 0, 0, "mixer.A_log", l);
		add(&w, false, c->H, 0, 0, "mixer.D", l);
		add(&w, true, c->E + C + c->H, c->D, 0, "mixer.in_proj.weight", l);
		add(&w, true, C, 1, c->K, "mixer.conv1d.weight", l);
		add(&w, false, C, 0, 0, "mixer.conv1d.bias", l);
		add(&w, false, c->E, 0, 0, "mixer.norm.weight", l);
		add(&w, true, c->D, c->E, 0, "mixer.out_proj.weight", l);
	}
	add(&w, false, c->D, 0, 0, "norm_f.weight", -1);
	if (c->n_context > 0)
		add(&w, true, c->n_context, c->D, 0, "context_embedding.weight", -1);
	if (c->n_cond > 0)
		add(&w, true, 256 * c->n_cond, c->D, 0, "conditions.weight", -1);
	return w;
}

int nssm_mamba2_tensors(const struct nssm_mamba2_cfg *cfg, struct nssm_tensor *out)
{
	return walk_all(cfg, out).n;
}

size_t nssm_mamba2_param_floats(const struct nssm_mamba2_cfg *cfg)
{
	return walk_all(cfg, NULL).offset;
}

size_t nssm_mamba2_state_floats(const struct nssm_mamba2_cfg *c)
{
	return (size_t)c->L * nssm_mamba2_layer_floats(c) + (size_t)c->n_cond;
}

void nssm_mamba2_tell(float *state, const struct nssm_mamba2_cfg *c, const uint8_t *conditions)
{
	for (int i = 0; i < c->n_cond; i++)
		state[(size_t)c->L * nssm_mamba2_layer_floats(c) + (size_t)i] = conditions[i];
}

static bool ends_with(const char *s, const char *tail)
{
	size_t n = strlen(s), k = strlen(tail);
	return n >= k && strcmp(s + n - k, tail) == 0;
}

/* One value of DESIGN section 4's table. */
static double draw(const struct nssm_tensor *t, const struct nssm_mamba2_cfg *c, struct nssm_rng *rng)
{
	double u = nssm_rng_unit(rng);
	if (ends_with(t->name, "conditions.weight"))
		return 0; /* nothing known of them yet */
	if (ends_with(t->name, "embedding.weight"))
		return 0.02 * nssm_rng_normal(rng);
	if (ends_with(t->name, "in_proj.weight"))
		return (2 * u - 1) / sqrt(c->D);
	if (ends_with(t->name, "conv1d.weight") || ends_with(t->name, "conv1d.bias"))
		return (2 * u - 1) / sqrt(c->K);
	if (ends_with(t->name, "out_proj.weight"))
		return (2 * u - 1) / sqrt(c->E) / sqrt(c->L);
	if (ends_with(t->name, "A_log"))
		return log(1 + 15 * u);
	if (ends_with(t->name, "dt_bias")) {
		double tau = exp(log(1e-3) + u * (log(1e-1) - log(1e-3)));
		tau = tau < 1e-4 ? 1e-4 : tau;
		return tau + log(-expm1(-tau));
	}
	return 1; /* norms and D */
}

void nssm_mamba2_init(float *params, const struct nssm_mamba2_cfg *cfg, uint64_t seed)
{
	memset(params, 0, nssm_mamba2_param_floats(cfg) * sizeof *params);
	int n = nssm_mamba2_tensors(cfg, NULL);
	struct nssm_tensor *all = alloca((size_t)n * sizeof *all);
	nssm_mamba2_tensors(cfg, all);
	for (int i = 0; i < n; i++) {
		struct nssm_rng rng;
		nssm_rng_init(&rng, seed, (uint64_t)i, NSSM_RNG_INIT);
		for (size_t k = 0; k < all[i].n; k++)
			params[all[i].offset + k] = (float)draw(&all[i], cfg, &rng);
	}
}
