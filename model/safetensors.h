/* safetensors — the Hugging Face tensor file: 8-byte little-endian header length, JSON header, raw tensors.
 * Source : the format's published description. Every offset, shape and byte count is checked; overlaps and gaps refused.
 * Checked: tests/test_safetensors.c, fuzz_safetensors.c                                                               */
#ifndef NSSM_SAFETENSORS_H
#define NSSM_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum nssm_dtype { NSSM_F32, NSSM_BF16, NSSM_F16 };
const char *nssm_dtype_name(enum nssm_dtype t); /* "fp32", "bf16", "fp16" */

struct nssm_st_file;
struct nssm_st_view {
	const char *name;
	int dtype; /* enum nssm_dtype */
	int n_dims;
	uint64_t dim[8];
	uint64_t n;       /* elements */
	const void *data; /* borrowed from the mapping; not aligned beyond 1 byte */
};

/* Of dtypes F32, BF16 and F16; a file that holds another one is NSSM_EUNSUP. */
int nssm_st_open(struct nssm_st_file **f, const char *path, struct nssm_err *err);
/* From memory that outlives the file; where is for messages. */
int nssm_st_open_mem(struct nssm_st_file **f, const void *data, size_t len, const char *where, struct nssm_err *err);
void nssm_st_close(struct nssm_st_file **f);
int nssm_st_count(const struct nssm_st_file *f);
/* In the order of their bytes in the file. */
const struct nssm_st_view *nssm_st_at(const struct nssm_st_file *f, int idx);
/* NULL: not there. */
const struct nssm_st_view *nssm_st_find(const struct nssm_st_file *f, const char *name);
/* 64-bit hash of the file's bytes: tells files apart, not against forgery. h = 0; for each little-endian 8-byte word w
 * (the last one zero-padded): h = mix(h ^ w); then h = mix(h ^ length). mix: the finaliser of splitmix64 (Steele, Lea,
 * Flood 2014). Two files that differ in one word never have the same hash. */
uint64_t nssm_st_hash(const struct nssm_st_file *f);
/* Elements to fp32. */
void nssm_st_to_f32(float *dst, const struct nssm_st_view *v);

/* One tensor to write; data is fp32 and is rounded (nearest even; NaN stays NaN) to dtype. */
struct nssm_st_out {
	const char *name;
	int n_dims;
	uint64_t dim[8];
	const float *data;
};
/* metadata: string pairs for "__metadata__" {key, value, key, value, …, NULL}, may be NULL. */
int nssm_st_write(const char *path, const struct nssm_st_out *t, int n, int dtype, const char *const *metadata,
	struct nssm_err *err);

#endif
