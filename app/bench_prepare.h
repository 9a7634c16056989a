/* bench_prepare — how fast packets become tokens: `netssm bench prepare`, with each codec, one thread, packets in memory. */
#ifndef NSSM_BENCH_PREPARE_H
#define NSSM_BENCH_PREPARE_H

#include <stddef.h>

#include "app/bench_rows.h"
#include "base/err.h"
#include "conf/conf.h"

/* A capture is a session. captures: none: those of samples/ in the working folder. At most 256 MiB of their packets. */
int nssm_bench_prepare(struct nssm_bench_rows *rows, const struct nssm_conf *conf, const char *const *captures, size_t n,
	struct nssm_err *err);

#endif
