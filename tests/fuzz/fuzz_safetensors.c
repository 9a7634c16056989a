/* Any bytes as a safetensors file: refused with a message, or tensors that lie in the file side by side. */
#include <stdlib.h>
#include <string.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nssm_err err = {0};
	struct nssm_st_file *f;
	if (nssm_st_open_mem(&f, data, size, "fuzz", &err) != 0) {
		require(f == NULL && err.code < 0 && strncmp(err.msg, "fuzz: ", 6) == 0);
		return 0;
	}
	const uint8_t *at = NULL;
	for (int i = 0; i < nssm_st_count(f); i++) {
		const struct nssm_st_view *v = nssm_st_at(f, i);
		require(nssm_st_find(f, v->name) == v);
		size_t bytes = v->n * (v->dtype == NSSM_F32 ? 4 : 2);
		require(v->n <= size && (at == NULL || at == v->data));
		at = (const uint8_t *)v->data + bytes;
		require((const uint8_t *)v->data >= data + 8 && at <= data + size);
		float *x = malloc(v->n * sizeof *x + 1);
		require(x != NULL);
		nssm_st_to_f32(x, v);
		free(x);
	}
	require(at == NULL || at == data + size);
	(void)nssm_st_hash(f);
	nssm_st_close(&f);
	return 0;
}
