/* session_features — one session as a row of numbers that say how it went and not who it was: no address, port, MAC, absolute time,
 * checksum, sequence number or payload.
 * Names  : nssm_feature_name; PREFIX_{mean,sd,min,q10,q25,q50,q75,q90,max} describe a distribution (standard deviation with n
 *          below the line, quantiles between the nearest values, NumPy's). Sizes are wire lengths in bytes, times seconds,
 *          shares 0 to 1.
 *          size_*, iat_*       all packets; fwd: from the flow's client, rev: to it (TCP and UDP only); iat_fwd: to the last one of
 *                              that direction; iat_flow: to the last one of the same flow
 *          flow_*              a flow is an unordered pair of (address, port) and a protocol, TCP or UDP, for the whole session
 *          burst_*             packets with gaps up to NSSM_BURST_GAP_NS; burst_gap: the silences between (1 s: Taylor et al. 2016,
 *                              AppScanner)
 *          run_packets         TCP and UDP packets in one direction in a row
 *          tcp_*               shares of the TCP packets; tcp_syn counts SYN without ACK, tcp_synack with
 *          share_*             of all packets; share_unreadable: IP whose transport header is not there whole; share_fwd: of TCP
 *                              and UDP packets, share_fwd_bytes of their bytes
 * Client : of a flow's first packet: who sends a SYN without ACK or is sent one with ACK; else the end without a server's port, if only
 *          one has it (replay/session.h); else the sender.
 * Nothing to describe (no TCP, one packet and so no gap): 0. Never NaN, never infinite.
 * Memory : 24 bytes a packet, 80 a flow; kept for the next session.
 * Threads: one struct a thread.
 * Checked: tests/test_session_features.c (by hand), tests/features_numpy.py (scapy's packets, NumPy's figures)                  */
#ifndef NSSM_EVAL_FEATURES_H
#define NSSM_EVAL_FEATURES_H

#include <stdint.h>

#include "base/err.h"
#include "replay/reader.h"

#define NSSM_BURST_GAP_NS 1000000000ull

uint32_t nssm_feature_count(void);
/* Of features 0 to count - 1. */
const char *nssm_feature_name(uint32_t idx);
/* The feature of that name, or -1. */
int32_t nssm_feature_find(const char *name);

struct nssm_features;
int nssm_features_open(struct nssm_features **f, struct nssm_err *err);
void nssm_features_close(struct nssm_features **f);
/* A session's packets in their order; a time before its predecessor's counts as that. data is not kept. */
int nssm_features_add(struct nssm_features *f, uint64_t t_ns, const uint8_t *data, uint32_t len, uint32_t wirelen, struct nssm_err *err);
/* row [count] of the packets since open or the last end; then none. NSSM_EARG: there were none. */
int nssm_features_end(struct nssm_features *f, float *row, struct nssm_err *err);
/* A capture as one session. Errors are the reader's, of a capture that breaks off, too. */
int nssm_features_capture(struct nssm_features *f, float *row, const char *path, struct nssm_err *err);

#endif
