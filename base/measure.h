/* measure — the clock and the medians that timings are made of. */
#ifndef NSSM_BASE_MEASURE_H
#define NSSM_BASE_MEASURE_H

#include <stddef.h>
#include <stdint.h>

/* A clock that never goes back; its zero means nothing. */
uint64_t nssm_now_ns(void);
double nssm_now_s(void);
/* Sorts v in place and gives its middle; of two middles the upper. n >= 1. */
double nssm_median(double *v, size_t n);

#endif
