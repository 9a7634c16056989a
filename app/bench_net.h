/* bench_net — how fast packets go: `netssm bench wire|pace|pcap`. Each figure comes from a process of its own (EAL starts once a
 * process), the alternatives of a comparison take turns, and the median of the runs is printed with the range and the load. */
#ifndef NSSM_BENCH_NET_H
#define NSSM_BENCH_NET_H

#include <stddef.h>

#include "base/err.h"

/* captures: what is sent; none: 1,000 packets of mixed sizes made up here. */
int nssm_bench_wire(const char *const *captures, size_t n, struct nssm_err *err);
int nssm_bench_pace(struct nssm_err *err);
/* dir: a folder for the file that is written, best on a tmpfs. */
int nssm_bench_pcap(const char *const *captures, size_t n, const char *dir, struct nssm_err *err);

#endif
