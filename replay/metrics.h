/* metrics — a run's figures for machines: an OpenMetrics page on 127.0.0.1.
 * Source : OpenMetrics 1.0 (text), libmicrohttpd. Counters end in _total, times are seconds, histograms are cumulative with at most
 *          24 buckets; names begin with netssm_. GET /metrics, everything else is 404; one thread of the library's, 16 connections, idle ones
 *          closed after 10 s. A port in use is an error.
 * Checked: tests/test_metrics.c, tests/metrics.py, tests/test_telemetry.c                                                  */
#ifndef NSSM_METRICS_H
#define NSSM_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/stats.h"

/* Fills *s, which is zero, with the figures of now; called from other threads than the run's. */
typedef void nssm_stats_fn(void *ctx, struct nssm_stats *s);

/* The page; malloc'd, NUL-terminated; NULL out of memory. */
char *nssm_metrics_text(const struct nssm_stats *s);

struct nssm_metrics;
/* port 0: any free one. */
int nssm_metrics_open(struct nssm_metrics **m, uint16_t port, nssm_stats_fn *get, void *ctx, struct nssm_err *err);
uint16_t nssm_metrics_port(const struct nssm_metrics *m);
void nssm_metrics_close(struct nssm_metrics **m);

/* The same as DPDK telemetry commands (telemetry_dpdk.c), for dpdk-telemetry.py and whoever else speaks to EAL's socket:
 *   /netssm/stats     every number of nssm_stats_fields as group_key, drops as dropped_REASON, pps, bps_l2 (the whole run)
 *   /netssm/lateness  count, min, mean, p50, p99, p999, max in ns; while measuring the same with latency_ in front
 *   /netssm/ports     port0_name, port0_up, …
 * Called again, it takes the place of what was given before; get NULL: the commands answer with nothing. get is called from
 * telemetry's threads, one call at a time, and never after it was replaced. */
int nssm_telemetry_register(nssm_stats_fn *get, void *ctx, struct nssm_err *err);

#endif
