#include "app/options.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

int nssm_opt_threads(const struct nssm_conf *conf)
{
	int n = (int)nssm_conf_int(conf, NSSM_K_THREADS);
	cpu_set_t set;
	if (n == 0 && sched_getaffinity(0, sizeof set, &set) == 0)
		n = CPU_COUNT(&set);
	return n > 0 ? n : 1;
}

int nssm_opt_kernels(const struct nssm_kernels **kern, const struct nssm_conf *conf, struct nssm_err *err)
{
	const char *level = nssm_conf_str(conf, NSSM_K_LEVEL);
	*kern = nssm_kernels_get(level);
	if (*kern == NULL)
		return nssm_err_set(err, NSSM_EUNSUP, "--level %s: this CPU or build does not have it", level);
	return 0;
}

enum nssm_weights nssm_opt_weights(const struct nssm_conf *conf, const struct nssm_kernels *kern)
{
	const char *name = nssm_conf_str(conf, NSSM_K_WEIGHTS);
	for (int i = 0; i < NSSM_N_WEIGHTS; i++)
		if (strcmp(name, nssm_weights_name((enum nssm_weights)i)) == 0)
			return (enum nssm_weights)i;
	return nssm_weights_fastest(kern);
}

enum nssm_weights nssm_opt_precision(const struct nssm_conf *conf, const struct nssm_kernels *kern)
{
	const char *name = nssm_conf_str(conf, NSSM_K_PRECISION);
	bool bf16 = strcmp(name, "auto") == 0 ? kern->bf16_pays : strcmp(name, "bf16") == 0;
	return bf16 ? NSSM_WEIGHTS_BF16 : NSSM_WEIGHTS_F32;
}

int nssm_opt_backend(const struct nssm_conf *conf, struct nssm_err *err)
{
	const char *backend = nssm_conf_str(conf, NSSM_K_BACKEND);
	if (strcmp(backend, "cuda") == 0)
		return nssm_err_set(err, NSSM_EUNSUP, "--backend cuda: this build has no CUDA back end; expected auto or cpu");
	return 0;
}

static int opt(const struct nssm_conf *conf, enum nssm_key_id id)
{
	return (int)nssm_conf_int(conf, id);
}

int nssm_opt_mamba2(struct nssm_mamba2_cfg *cfg, const struct nssm_conf *conf, int V, struct nssm_err *err)
{
	return nssm_mamba2_cfg_init(cfg, opt(conf, NSSM_K_D_MODEL), opt(conf, NSSM_K_N_LAYER), opt(conf, NSSM_K_EXPAND),
		opt(conf, NSSM_K_HEADDIM), opt(conf, NSSM_K_D_STATE), opt(conf, NSSM_K_D_CONV), V, opt(conf, NSSM_K_VOCAB_MULTIPLE),
		opt(conf, NSSM_K_CHUNK), err);
}

int nssm_opt_fill(enum nssm_fill *fill, const struct nssm_conf *conf, enum nssm_key_id key, const struct nssm_codec_cfg *codec,
        const struct nssm_secure_ports *ports, const char *path, struct nssm_err *err)
{
	char said[NSSM_FLAG_BYTES];
	*fill = (enum nssm_fill)nssm_fill_find(nssm_conf_str(conf, key));
	if (*fill != NSSM_FILL_TLS)
		return 0;
	if (codec->kind != NSSM_CODEC_FLOW)
		return nssm_err_set(err, NSSM_EARG, "%s: tls: %.300s is of codec %s, which knows no flows; expected zeros or random",
		        nssm_conf_said(said, conf, key), path, nssm_codec_kind_name(codec));
	if (!ports->learned)
		fprintf(stderr, "netssm: %s: tls: %s does not say which ports are encrypted (it is older than that): taking " NSSM_SECURE_WELL_KNOWN "\n",
		        nssm_conf_said(said, conf, key), path);
	return 0;
}
