/* measure — what came back: received frames are matched to sent ones; loss, duplicates, reordering, latency; per label and in all.
 * Signature: where a frame's modelled payload leaves room (>= 24 bytes of payload that were filled or that the user allows to be
 *          overwritten), its last 24 bytes become  magic "nSSm" | version 1 | stream (label) 2 B | reserved 1 B | sequence 8 B |
 *          send time 8 B (big-endian), and the transport checksum is corrected. Survives NAT and routing. Sequences count up by
 *          one within a stream, but for frames that were taken back.
 * Without: a key of what NAT and routers leave alone (measure_key.h). Frames with the same key (bare ACKs repeated, the same
 *          datagram from two clones) are told apart by their IPv4 ID if it comes back as it was and is among the next few, else
 *          they match in the order sent: counts are right then, while which of them was lost, and so a latency, may be
 *          another's. A NAT that changes payload, TCP sequence numbers or, by fragmenting, lengths, makes frames unmatched and
 *          lost.
 * Window : a sent frame waits for its match for `timeout_ns`, then it is lost; one that comes later is matched all the same, taken
 *          back from lost and counted (late). A match that comes again is a duplicate.
 * Counts : remembered = matched + lost + waiting, in all and for each label. What has no key (not IP, Neighbor Discovery, link-local) is
 *          neither remembered nor counted when it comes. unmatched: came, but is none of those remembered (in all only).
 * Reordering: RFC 4737 type-P-reordered, within a flow and direction: matched after one of its flow that was sent later. Flows
 *          are told apart by 16 bits of a hash of label, addresses, protocol and ports as sent.
 * Memory : all at open: the last window_max frames sent are remembered, matched or not (40 to 80 bytes each). One that is pushed
 *          out before it matched or its time was up is lost and counted (overflow): never if window_max >= rate * timeout_ns.
 * Time   : O(1) a frame, but for one step for each frame that was lost. now_ns never goes back.
 * Threads: one.
 * Checked: tests/test_measure.c, tests/test_measure_ring.c, tests/fuzz/fuzz_measure.c, tests/bench_measure.c,
 *          tests/netns/router.sh                                                                                             */
#ifndef NSSM_MEASURE_H
#define NSSM_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/stats.h"

#define NSSM_SIGNATURE_BYTES    24
#define NSSM_MEASURE_LABELS_MAX 65536u
#define NSSM_MEASURE_WINDOW_MAX (1u << 28)

struct nssm_measure_cfg {
	uint32_t n_labels;      /* up to NSSM_MEASURE_LABELS_MAX; 0: 1 */
	uint32_t window_max;    /* 0: 1 << 21, good for 1 Mpps and the default timeout */
	uint64_t timeout_ns;    /* 0: 2 s */
	bool signature;
};
/* What the counters do not say. */
struct nssm_measure_extra {
	uint64_t remembered;    /* frames sent that have a key */
	uint64_t marked;        /* of those, with a signature */
	uint64_t late;          /* matched after they had been given up */
	uint64_t overflow;      /* lost because the window was too small */
};
struct nssm_measure;
int nssm_measure_open(struct nssm_measure **m, const struct nssm_measure_cfg *cfg, struct nssm_err *err);
void nssm_measure_close(struct nssm_measure **m);
/* Before sending: writes the signature if asked for and if there is room; remembers the frame.
 * may_overwrite: bytes at the frame's end that are filled, not modelled. */
void nssm_measure_sent(struct nssm_measure *m, uint8_t *frame, uint32_t len, uint32_t may_overwrite, uint32_t label_idx,
	uint64_t now_ns);
/* A frame that was not sent after all, as nssm_measure_sent left it; before it can come back. */
void nssm_measure_unsent(struct nssm_measure *m, const uint8_t *frame, uint32_t len);
/* A received one that is not ARP/ND. True: matched, for the first time. */
bool nssm_measure_received(struct nssm_measure *m, const uint8_t *frame, uint32_t len, uint64_t now_ns);
/* The same for up to NSSM_BURST at a time, which is several times as fast where many are in flight: the memory is waited for
 * once. How many matched. */
uint32_t nssm_measure_received_burst(struct nssm_measure *m, const uint8_t *const *frame, const uint32_t *len, uint32_t n,
	uint64_t now_ns);
/* Gives up what has waited too long; UINT64_MAX: everything. */
void nssm_measure_expire(struct nssm_measure *m, uint64_t now_ns);
uint64_t nssm_measure_waiting(const struct nssm_measure *m);
const struct nssm_measure_counters *nssm_measure_all(const struct nssm_measure *m);
const struct nssm_measure_counters *nssm_measure_label(const struct nssm_measure *m, uint32_t label_idx);
const struct nssm_measure_extra *nssm_measure_extra(const struct nssm_measure *m);

#endif
