#include "kernels/ref/ref.h"

const struct nssm_kernels nssm_kernels_ref = {.name = "ref",
#define X(op) .op = nssm_ref_##op,
        NSSM_KERNEL_OPS(X)
#undef X
};
