/* ref — the specification: plain loops that follow the formulae of kernels.h line by line. Sums of one row or
 * column run in double where the order is not part of the contract, so that `ref` is the more exact side of a
 * comparison. */
#ifndef NSSM_KERNELS_REF_H
#define NSSM_KERNELS_REF_H

#include "kernels/ops.h"

#define X(op) NSSM_KERNEL_DECLARE(op, nssm_ref_##op);
NSSM_KERNEL_OPS(X)
#undef X

#endif
