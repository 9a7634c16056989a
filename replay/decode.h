/* decode — one session's tokens to frames with times.
 * Time   : a session's first packet is due at its start. After that the gap is the codec's, or else drawn from the label's
 *          histogram with the stream (seed, session, NSSM_RNG_TIME). A rejected packet takes no time of its own.
 * Mask   : with clean, packets that were spelled byte by byte are rejected (escaped): they take their time and are not sent.
 * Counts : made = packets + rejected, by reason.
 * Nothing is allocated after open.
 * Checked: tests/generate_valid.py (with render_tool), tests/test_decode.c, tests/test_engine.c                                               */
#ifndef NSSM_DECODE_H
#define NSSM_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/checkpoint.h"
#include "model/codec.h"
#include "model/generator.h"
#include "model/packet.h"

#define NSSM_STREAM_MAX_NS (1ull << 62) /* 146 years: sums stop here instead of wrapping */

#define NSSM_END_N (NSSM_END_STOPPED + 1)
/* "eot", "packets", "tokens", "stopped" */
const char *nssm_end_name(enum nssm_end_reason end);

/* What one label's sessions came to. One thread counts (relaxed stores), others may read. */
struct nssm_label_stats {
	uint64_t sessions, flows, tokens;
	uint64_t made;                        /* of the source: packets + all rejected */
	uint64_t packets, bytes;              /* good ones, played once or more */
	uint64_t sent, sent_bytes;            /* all plays */
	uint64_t cut;                         /* of those, shortened by snaplen */
	uint64_t rejected[NSSM_PKT_N_REASONS];
	uint64_t repaired[NSSM_REPAIR_N_BITS];
	uint64_t end[NSSM_END_N];
};
struct nssm_decode;
int nssm_decode_open(struct nssm_decode **d, const struct nssm_model_card *card, enum nssm_fill fill, enum nssm_mask mask, struct nssm_err *err);
void nssm_decode_close(struct nssm_decode **d);
void nssm_decode_begin(struct nssm_decode *d, uint64_t seed, uint64_t session, uint32_t label_idx);

/* Takes tokens from *token on, up to end, until a packet is whole: 1, and *f with its time since the session's start. 0: all taken.
 * Rejected packets are counted in s and passed over. The packet's data is valid until the next call. */
int nssm_decode_next(struct nssm_decode *d, const uint16_t **token, const uint16_t *end, struct nssm_frame *f, uint64_t *t_ns,
	struct nssm_label_stats *s);
/* The same for what the session's last tokens left, and with close for a proper end of its open TCP connections; call until it gives
 * 0. */
int nssm_decode_flush(struct nssm_decode *d, bool close, struct nssm_frame *f, uint64_t *t_ns, struct nssm_label_stats *s);

#endif
