/* measure — what came back: received frames are matched to sent ones; loss, duplicates, reordering, latency; per label and in all.
 * Signature: where a frame's modelled payload leaves room (>= 24 bytes of payload that were filled or that the user allows to be
 *          overwritten), its last 24 bytes become  magic "nSSm" | version 1 | stream (label) 2 B | reserved 1 B | sequence 8 B | send
 *          time 8 B (big-endian), and the transport checksum is corrected. Survives NAT and routing.
 * Without: a key of what NAT leaves alone: IP protocol, payload length, TCP seq/ack/flags or UDP length, and a hash of the first
 *          64 bytes of transport payload; IPv4 ID too when no NAT is declared. Frames with the same key match in order.
 * Window : a sent frame waits for its match for `timeout_ns`, then it is lost; one that comes later is `late` (counted as a
 *          duplicate of a lost one and taken back from lost).
 * Reordering: RFC 4737 type-P-reordered: sequence below the highest seen of its stream.
 * Memory : all at open, for window_max frames in flight; beyond, the oldest is given up as lost and counted (overflow).
 * Checked: tests/test_measure.c, tests/netns/router.sh                                                                      */
#ifndef NSSM_MEASURE_H
#define NSSM_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/stats.h"

#define NSSM_SIGNATURE_BYTES 24

struct nssm_measure_cfg {
	uint32_t n_labels;
	uint32_t window_max;    /* 0: 1 << 20 */
	uint64_t timeout_ns;    /* 0: 2 s */
	bool signature;
};
struct nssm_measure;
int nssm_measure_open(struct nssm_measure **m, const struct nssm_measure_cfg *cfg, struct nssm_err *err);
void nssm_measure_close(struct nssm_measure **m);
/* Before sending: writes the signature if asked for and if there is room (payload_off 0: none); remembers the frame.
 * may_overwrite: bytes at the frame's end that are filled, not modelled. */
void nssm_measure_sent(struct nssm_measure *m, uint8_t *frame, uint32_t len, uint32_t may_overwrite, uint32_t label_idx, uint64_t now_ns);
/* A frame that was not sent after all. */
void nssm_measure_unsent(struct nssm_measure *m, const uint8_t *frame, uint32_t len);
/* A received one that is not ARP/ND. True: matched. */
bool nssm_measure_received(struct nssm_measure *m, const uint8_t *frame, uint32_t len, uint64_t now_ns);
/* Gives up what has waited too long; UINT64_MAX: everything. */
void nssm_measure_expire(struct nssm_measure *m, uint64_t now_ns);
uint64_t nssm_measure_waiting(const struct nssm_measure *m);
const struct nssm_measure_counters *nssm_measure_all(const struct nssm_measure *m);
const struct nssm_measure_counters *nssm_measure_label(const struct nssm_measure *m, uint32_t label_idx);

#endif
