/* playback — sessions of a corpus as frames with times: one session, or several merged by time.
 * Time   : a session's first packet stands at the session's first_ns. After that the gap is the codec's; where it knows none (raw),
 *          cfg.gap_ns, or else drawn from the label's histogram with the stream (seed, session, NSSM_RNG_TIME), as decode.h does.
 * Order  : by time; at one time by session, and within a session as it was captured.
 * Memory : a session is opened when its time has come. NSSM_PLAYBACK_OPEN_MAX are decoded side by side (codec flow: 2 MB each); one
 *          more is decoded at once into a temporary file (unlinked, in cfg.spill_dir), and its frames are read from there.
 * Counts : spelled = packets + rejected, by reason; of each reason the first place (lowest session, then token).
 * Checked: tests/decode_cli.py                                                                                              */
#ifndef NSSM_PLAYBACK_H
#define NSSM_PLAYBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/codec.h"
#include "model/corpus.h"
#include "model/packet.h"

#define NSSM_PLAYBACK_OPEN_MAX 64

struct nssm_playback_cfg {
	enum nssm_fill fill;
	uint64_t seed;
	bool has_gap;          /* gap_ns stands between packets of a codec without time, instead of what is drawn */
	uint64_t gap_ns;
	const char *spill_dir; /* borrowed */
};

struct nssm_playback_packet {
	struct nssm_frame frame; /* data borrowed until the next call; caplen bytes of it */
	uint64_t time_ns;        /* since the epoch */
	uint32_t session, label_idx;
};

struct nssm_playback_place {
	uint32_t session;
	uint64_t token; /* of the session, from 1 */
};

struct nssm_playback_sums {
	uint64_t n_tokens;                    /* decoded */
	uint64_t n_packets;                   /* that they spelled */
	uint64_t n_after_end;                 /* tokens behind a session's end, passed over */
	uint64_t rejected[NSSM_PKT_N_REASONS];
	struct nssm_playback_place first[NSSM_PKT_N_REASONS]; /* of those with rejected > 0 */
	uint64_t repaired[NSSM_REPAIR_N_BITS];
	uint64_t n_spilled, spilled_bytes;    /* sessions, frames and their heads */
};

struct nssm_playback;
/* c is borrowed. */
int nssm_playback_open(struct nssm_playback **p, struct nssm_corpus *c, const struct nssm_playback_cfg *cfg, struct nssm_err *err);
void nssm_playback_close(struct nssm_playback **p);
/* Starts with these sessions, borrowed, each once, in any order. What was begun before is dropped; sums go on. */
int nssm_playback_begin(struct nssm_playback *p, const uint32_t *session, uint32_t n, struct nssm_err *err);
/* 1: *pkt is the next; 0: that was all; < 0: error (a stripe of the corpus is broken, no room). An error stays until begin. */
int nssm_playback_next(struct nssm_playback *p, struct nssm_playback_packet *pkt, struct nssm_err *err);
const struct nssm_playback_sums *nssm_playback_sums(const struct nssm_playback *p);

#endif
