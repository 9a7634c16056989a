/* bench_peaks — what this machine's silicon can do, measured: the dot products of each CPU level with the instructions that its
 * kernels use, and memory read, or read and written, at a working set's size. These are the roofs that `netssm bench` measures against.
 * Compute: twelve chains of multiply-adds in registers, one core; mul and add are two operations, also where one instruction does both.
 *          ref, generic: SSE2 multiply and add; avx2: 8-wide FMA; avx512: 16-wide FMA; avx512bf16: VDPBF16PS and VPDPBUSD for bf16 and
 *          int8. Other levels widen bf16 and int8 to floats and multiply those, so their peak is that of f32.
 * Memory : every thread has a buffer of its own; the sum of all. One CPU's caches are not shared out by hand: what is measured is what
 *          so many threads with so many bytes each get.                                                                          */
#ifndef NSSM_BENCH_PEAKS_H
#define NSSM_BENCH_PEAKS_H

#include <stddef.h>

#include "base/err.h"
#include "kernels/kernels.h"
#include "kernels/team.h"

/* Operations a second of one core. Measured once a process. */
double nssm_peak_dot(const struct nssm_kernels *kern, enum nssm_weights weights);

struct nssm_bandwidth {
	double read, update; /* bytes a second of all threads; update counts what is read and what is written */
};
/* For a working set of `bytes` a thread, rounded up to a power of two from 64 KiB to 256 MiB. Measured once for each. */
int nssm_peak_memory(struct nssm_bandwidth *bw, size_t bytes, struct nssm_team *team, struct nssm_err *err);

#endif
