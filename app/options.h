/* options — what several commands read from the same keys in the same way. */
#ifndef NSSM_OPTIONS_H
#define NSSM_OPTIONS_H

#include "base/err.h"
#include "conf/conf.h"
#include "model/codec.h"
#include "model/mamba2.h"
#include "model/secure_ports.h"

/* run.threads; 0 becomes the CPUs that this process may use. At least 1. */
int nssm_opt_threads(const struct nssm_conf *conf);
/* run.level. */
int nssm_opt_kernels(const struct nssm_kernels **kern, const struct nssm_conf *conf, struct nssm_err *err);
/* run.weights, for this level. */
enum nssm_weights nssm_opt_weights(const struct nssm_conf *conf, const struct nssm_kernels *kern);
/* train.precision; auto: bf16 where the level's products are faster in it. */
enum nssm_weights nssm_opt_precision(const struct nssm_conf *conf, const struct nssm_kernels *kern);
/* run.backend: an error if it is not there. */
int nssm_opt_backend(const struct nssm_conf *conf, struct nssm_err *err);
/* The model.* keys, for a vocabulary of V tokens. */
int nssm_opt_mamba2(struct nssm_mamba2_cfg *cfg, const struct nssm_conf *conf, int V, struct nssm_err *err);
/* A key zeros|random|tls for what path holds. An error where its codec has no such thing; a line on stderr where its ports are guessed. */
int nssm_opt_fill(enum nssm_fill *fill, const struct nssm_conf *conf, enum nssm_key_id key, const struct nssm_codec_cfg *codec,
	const struct nssm_secure_ports *ports, const char *path, struct nssm_err *err);

#endif
