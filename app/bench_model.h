/* bench_model — how fast the model trains, prefills and generates: `netssm bench decode|train|prefill|model`.
 * Random weights and tokens: only sizes matter. Sampling and packet work are not in it.
 * Share of peak: measured rate / the roofline's, which is what the machine's measured peaks (bench_peaks.h) allow. A token's roof is
 *   max(Σ_kinds flops / peak of the kind, bytes / bandwidth), counted as follows (letters as in DESIGN; Z = 2E+2N+H, C = E+2N).
 *   products, a token: 2·(L·(D·Z + E·D) + D·Vpad), at the peak of the weights' type; three times that in training.
 *   decode: scan and convolution L·(5·E·N + 2·K·C), at the peak of f32. Bytes: every group of lanes reads the weights once a step (4, 2 or
 *     1 bytes each), and each lane reads and writes its state, L·(E·N + (K−1)·C) floats.
 *   prefill, train: scan, cut in chunks of Q, L·(2·Q·N + 2·Q·E + 4·E·N + 2·K·C), three times that in training. Bytes: the weights once
 *     a batch (three times, gradients written, in training), and each layer's rows of 2·D + Z + C + 3·E floats written and read, three times
 *     that in training.
 *   Bandwidth is that of the working set: of a group's weights and states; of the rows of 512 tokens a thread.                 */
#ifndef NSSM_BENCH_MODEL_H
#define NSSM_BENCH_MODEL_H

#include "app/bench_rows.h"
#include "base/err.h"
#include "conf/conf.h"

/* op: one of the above; model: train, prefill and decode. */
int nssm_bench_model(struct nssm_bench_rows *rows, json_t **peaks, const struct nssm_conf *conf, const char *op, struct nssm_err *err);

#endif
