#include "kernels/ops.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const struct nssm_kernels *levels[8];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* __builtin_cpu_supports asks CPUID and XGETBV, so a level that the system does not save registers for is not
 * named. The features are those that x86-64-v3 and -v4 add and the compiler may use. */
static void find_levels(void)
{
	int n = 0;
#if defined NSSM_HAVE_AVX512 || defined NSSM_HAVE_AVX2
	__builtin_cpu_init();
	bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
	          __builtin_cpu_supports("bmi2");
#endif
#ifdef NSSM_HAVE_AVX512
	bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
	          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	          __builtin_cpu_supports("avx512cd");
#ifdef NSSM_HAVE_AVX512BF16
	if (v4 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni"))
		levels[n++] = &nssm_kernels_avx512bf16;
#endif
	if (v4)
		levels[n++] = &nssm_kernels_avx512;
#endif
#ifdef NSSM_HAVE_AVX2
	if (v3)
		levels[n++] = &nssm_kernels_avx2;
#endif
#ifdef NSSM_HAVE_GENERIC
	levels[n++] = &nssm_kernels_generic;
#endif
	levels[n++] = &nssm_kernels_ref;
	levels[n] = NULL;
}

const struct nssm_kernels *const *nssm_kernels_list(void)
{
	pthread_once(&once, find_levels);
	return levels;
}

static bool is_auto(const char *name)
{
	return !name || !*name || strcmp(name, "auto") == 0;
}

const struct nssm_kernels *nssm_kernels_get(const char *name)
{
	const struct nssm_kernels *const *list = nssm_kernels_list();
	if (is_auto(name))
		name = getenv("NETSSM_LEVEL");
	if (is_auto(name))
		return list[0];
	for (; *list; list++)
		if (strcmp((*list)->name, name) == 0)
			return *list;
	return NULL;
}

struct nssm_product nssm_kernels_product(const struct nssm_kernels *k, enum nssm_weights weights)
{
	switch (weights) {
	case NSSM_WEIGHTS_BF16:
		return (struct nssm_product){
		        k->bf16_pack_floats, k->bf16_pack, k->bf16_gemm_packed, k->bf16_gemm_scratch_floats, k->bf16_gemm};
	case NSSM_WEIGHTS_INT8:
		return (struct nssm_product){k->int8_pack_floats, k->int8_pack, k->int8_gemm_packed, NULL, NULL};
	default:
		return (struct nssm_product){k->pack_floats, k->pack, k->gemm_packed, k->gemm_scratch_floats, k->gemm};
	}
}

const char *nssm_weights_name(enum nssm_weights weights)
{
	static const char *const name[NSSM_N_WEIGHTS] = {"f32", "bf16", "int8"};
	return name[weights];
}

enum nssm_weights nssm_weights_fastest(const struct nssm_kernels *k)
{
#ifdef NSSM_HAVE_AVX512BF16
	if (k == &nssm_kernels_avx512bf16)
		return NSSM_WEIGHTS_INT8;
#endif
	(void)k;
	return NSSM_WEIGHTS_F32;
}
