/* measures — what is counted of sessions, so that two sets of them can be compared: the bits of every IP packet's headers
 * (nprint.h), header fields, and what only time, flows and sessions show.
 * Flow   : TCP or UDP between two (address, port) pairs in one session; its first packet's sender is forward.
 * Bins   : EXACT the number itself; LOG four bins an octave (2^k, 1.25, 1.5, 1.75 * 2^k; below 4 exact), times in us; CATEGORY has no
 *          order.
 * Times  : ascending; what stamps that go back count as is the caller's.
 * Checked: tests/test_eval.c, tests/eval_cli.py                                                                        */
#ifndef NSSM_EVAL_MEASURES_H
#define NSSM_EVAL_MEASURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/eval/divergence.h"
#include "app/eval/nprint.h"
#include "base/err.h"
#include "model/packet.h"

enum nssm_measure {
	NSSM_M_ETHERTYPE, /* of packets alone: order and time do not matter */
	NSSM_M_IP_LENGTH,
	NSSM_M_IP_TTL,
	NSSM_M_IP_TOS,
	NSSM_M_IP_PROTO,
	NSSM_M_IP_FLAGS, /* IPv4 */
	NSSM_M_TCP_SRC_PORT,
	NSSM_M_TCP_DST_PORT,
	NSSM_M_TCP_FLAGS,
	NSSM_M_TCP_WINDOW,
	NSSM_M_TCP_HEADER_LENGTH,
	NSSM_M_TCP_OPTIONS, /* which, in which order */
	NSSM_M_UDP_SRC_PORT,
	NSSM_M_UDP_DST_PORT,
	NSSM_M_UDP_LENGTH,
	NSSM_M_SIZE, /* of sessions, from here on */
	NSSM_M_IAT,
	NSSM_M_FLOW_IAT,
	NSSM_M_DIRECTION,
	NSSM_M_FLOW_PACKETS,
	NSSM_M_FLOW_DURATION,
	NSSM_M_FLOW_BYTES,
	NSSM_M_FLOWS_PER_SESSION,
	NSSM_M_CONCURRENCY, /* flows between their first and last packet, at each packet */
	NSSM_M_SESSION_PACKETS,
	NSSM_M_SESSION_DURATION,
	NSSM_N_MEASURES
};
#define NSSM_M_FIRST_OF_SESSIONS NSSM_M_SIZE

enum nssm_bins { NSSM_BINS_EXACT, NSSM_BINS_LOG, NSSM_BINS_CATEGORY };
struct nssm_measure_info {
	const char *key;
	enum nssm_bins bins;
	bool is_identifier; /* as in nprint.h */
};
extern const struct nssm_measure_info nssm_measure_info[NSSM_N_MEASURES];
/* LOG's bin of v. */
uint64_t nssm_log_bin(uint64_t v);

/* A packet as far as a session's measures need it. */
struct nssm_record {
	uint64_t t_ns; /* ascending */
	uint64_t flow; /* 0: none */
	uint32_t size; /* on the wire */
	uint8_t end;   /* which end of the flow sent it */
};

/* Of any number of sessions; all zeros: none. Counts are whole numbers, so that their sums depend on no order. */
struct nssm_counts {
	uint64_t n_sessions, n_packets, n_ip;
	uint32_t (*byte)[256]; /* [NSSM_NPRINT_BYTES]: how often each byte that is there has each value; NULL: no packet yet */
	struct nssm_tally tally[NSSM_N_MEASURES];
};
/* Counts the packet, fills in r but for t_ns. */
int nssm_counts_packet(struct nssm_counts *c, struct nssm_record *r, const struct nssm_pkt *pkt, struct nssm_err *err);
int nssm_counts_session(struct nssm_counts *c, const struct nssm_record *r, size_t n, struct nssm_err *err);
/* What from has, of packets alone or of sessions too, is added. */
int nssm_counts_merge(struct nssm_counts *c, const struct nssm_counts *from, bool packets_only, struct nssm_err *err);
/* How often the bit was −1, 0 and 1. */
void nssm_counts_bit(uint64_t n[3], const struct nssm_counts *c, int bit);
void nssm_counts_free(struct nssm_counts *c);

#endif
