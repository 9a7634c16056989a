/* play_text — what people write for addresses, tags, ports and times, as numbers. where begins a message ("--vlan", "clone.vlan").
 * Everything returns 0 or NSSM_EARG with "WHERE: expected …, found '…'"; what is written to is then not to be used.
 * Checked: tests/test_play.c                                                                                              */
#ifndef NSSM_PLAY_TEXT_H
#define NSSM_PLAY_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/clone.h"
#include "replay/reader.h"

/* "02:00:00:00:00:01" */
int nssm_text_mac(uint8_t mac[6], const char *text, const char *where, struct nssm_err *err);
/* The same, or "02:00:00:00:00:01/N": N of them, counted up from this one; of one device each, so not multicast. N <= 2^24. */
int nssm_text_mac_pool(uint64_t *base, uint64_t *n, const char *text, const char *where, struct nssm_err *err);
/* "1024-65535" or "5000"; from 1. */
int nssm_text_port_range(uint16_t *lo, uint16_t *hi, const char *text, const char *where, struct nssm_err *err);
/* [TPID:]VID[/PCP] separated by commas, outer first; several items go on. Without TPID the inner or only tag is 0x8100 (802.1Q),
 * the outer of two 0x88a8 (802.1ad). */
int nssm_text_vlan(struct nssm_vlan_tag tag[NSSM_VLAN_TAGS_MAX], uint32_t *n_tags, const char *const *item, size_t n,
	const char *where, struct nssm_err *err);
/* "3", "2,4-6": how many CPUs; each below 1024 and named once. */
int nssm_text_cpus(uint32_t *n, const char *text, const char *where, struct nssm_err *err);
/* Seconds since 1970, or YYYY-MM-DDTHH:MM:SSZ; before 2106, because of pcap. */
int nssm_text_time(uint64_t *ns, const char *text, const char *where, struct nssm_err *err);
/* "truncate", "drop", "1400", "1400,drop"; bytes is left as it is where none are given. */
int nssm_text_mtu(enum nssm_mtu_mode *mode, uint32_t *bytes, const char *text, const char *where, struct nssm_err *err);

/* Something of a port's, "X" or "PORT:X": *port becomes 0 or 1, or -1 where none is said. MAC: X as above. ADDR: IPv4 or IPv6, the
 * latter behind PORT in brackets ("1:[2001:db8::1]"), since 1:2001:db8::1 is an address itself; *ip_version 4 or 6. */
int nssm_text_port_mac(int *port, uint8_t mac[6], const char *text, const char *where, struct nssm_err *err);
int nssm_text_port_addr(int *port, uint8_t addr[16], int *ip_version, const char *text, const char *where, struct nssm_err *err);

#endif
