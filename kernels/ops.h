/* ops — every entry of struct nssm_kernels by name, once, so that a level declares and lists its functions
 * without repeating their types. X(op) is expanded for each. */
#ifndef NSSM_KERNELS_OPS_H
#define NSSM_KERNELS_OPS_H

#include "kernels/kernels.h"

/* clang-format off */
#define NSSM_KERNEL_OPS(X) \
	X(pack_floats) X(pack) X(gemm_packed) X(gemm_scratch_floats) X(gemm) \
	X(bf16_pack_floats) X(bf16_pack) X(bf16_gemm_packed) X(bf16_gemm_scratch_floats) X(bf16_gemm) \
	X(int8_pack_floats) X(int8_pack) X(int8_gemm_packed) \
	X(rmsnorm) X(rmsnorm_bwd) X(gated_rmsnorm) X(gated_rmsnorm_bwd) \
	X(conv_silu) X(conv_silu_bwd_pre) X(conv_bwd) X(conv_silu_step) \
	X(ssd_dt) X(ssd_scratch_floats) X(ssd_chunk) X(ssd_chunk_bwd) X(ssm_step) X(softplus_bwd) \
	X(xent) X(adamw) X(sumsq)
/* clang-format on */

/* Declares `function` with the type that entry `op` of the table points to. */
#define NSSM_KERNEL_DECLARE(op, function) __typeof__(*((struct nssm_kernels *)0)->op) function

/* The tables; the vector levels exist where meson.build could compile them (NSSM_HAVE_...). */
extern const struct nssm_kernels nssm_kernels_ref, nssm_kernels_generic, nssm_kernels_avx2,
        nssm_kernels_avx512, nssm_kernels_avx512bf16;

#endif
