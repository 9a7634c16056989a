/* nprint — a packet as the bits of its headers, each at its own place whatever the packet holds: IPv4 480, IPv6 320, TCP 480, UDP 64,
 * ICMP 64; −1 where the packet has no such bit.
 * Source : Holland, Schmitt, Feamster, Mittal 2021, "New Directions in Automated Traffic Analysis" (nPrint); columns, their order and
 *          names are those that nprint 1.2 writes with -4 -6 -t -u -i -F -1.
 * Present: the bytes of a header that were captured, as long as it says it is: IPv4 and TCP with their options, at most 60 bytes.
 *          As in nprint, ICMP is protocol 1 alone, not ICMPv6.
 * Other  : where nprint reads what is not there, this says −1: behind the end of a cut capture, and for the transport header of a later
 *          fragment. Behind VLAN tags and IPv6 extension headers, where nprint sees no packet or no transport header, this finds them.
 * Checked: tests/test_eval.c (packets made by hand), tests/nprint_cli.py (a decoder of its own, on captures)              */
#ifndef NSSM_EVAL_NPRINT_H
#define NSSM_EVAL_NPRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "model/packet.h"

enum nssm_nprint_header { NSSM_NPRINT_IPV4, NSSM_NPRINT_IPV6, NSSM_NPRINT_TCP, NSSM_NPRINT_UDP, NSSM_NPRINT_ICMP, NSSM_NPRINT_N_HEADERS };

#define NSSM_NPRINT_BYTES 176
#define NSSM_NPRINT_BITS  (8 * NSSM_NPRINT_BYTES)

/* Where each header's bytes begin; [N_HEADERS]: their end. */
extern const uint16_t nssm_nprint_at[NSSM_NPRINT_N_HEADERS + 1];
/* "ipv4", … */
const char *nssm_nprint_header_name(enum nssm_nprint_header h);

/* A field's bits are columns NAME_0 … NAME_(n_bits−1). */
struct nssm_nprint_field {
	const char *name;
	uint16_t n_bits;
	bool is_identifier; /* address, port, sequence number or checksum: says who and which, not how */
};
extern const struct nssm_nprint_field nssm_nprint_field[];
extern const int nssm_nprint_n_fields;

struct nssm_nprint {
	uint8_t byte[NSSM_NPRINT_BYTES];        /* bit b: byte[b / 8] >> (7 − b % 8) & 1 */
	uint8_t n[NSSM_NPRINT_N_HEADERS];       /* of each header the first n bytes are there, the rest is −1 */
};

/* NSSM_NPRINT_N_HEADERS where the packet is not IP (n all 0), else its IP header. h: what nssm_pkt_parse made of it. */
enum nssm_nprint_header nssm_nprint(struct nssm_nprint *np, const struct nssm_hdrs *h, int parsed, const uint8_t *data, uint32_t caplen);
/* −1, 0 or 1. */
int nssm_nprint_bit(const struct nssm_nprint *np, int bit);

#endif
