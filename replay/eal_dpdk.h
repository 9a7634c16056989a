/* eal_dpdk — what port_dpdk.c needs of DPDK's start: its terminal output caught, and the last of it for error messages. */
#ifndef NSSM_EAL_DPDK_H
#define NSSM_EAL_DPDK_H

#include <stddef.h>

/* From here to nssm_eal_hush_end, stdio's stderr and stdout of this process lead to the log: EAL, drivers and libbpf write there
 * past rte_log. Also forgets what was logged before. One thread at a time: ports are opened by one. */
void nssm_eal_hush(void);
void nssm_eal_hush_end(void);
/* ": " and the last lines logged since nssm_eal_hush, on one line; "" if there are none. */
const char *nssm_eal_said(char *out, size_t cap);

#endif
