#include "kernels/vec/vec.h"

#define TEXT_(level) #level
#define TEXT(level)  TEXT_(level)

#define TABLE_(level) nssm_kernels_##level
#define TABLE(level)  TABLE_(level)

const struct nssm_kernels TABLE(NSSM_LEVEL) = {.name = TEXT(NSSM_LEVEL),
        .bf16_pays = NSSM_BF16_PAYS,
#define X(op) .op = VEC(op),
        NSSM_KERNEL_OPS(X)
#undef X
};
