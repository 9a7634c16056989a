/* block — what travels on a ring from a source to an engine. Blocks come from a pool that the pipeline fills at its start and go
 * back to it on a second ring.
 *   TOKENS some of one session's tokens, from a generator
 *   FRAMES packets of any sessions in the order of the stream, from captures: after it the engine knows that no packet comes that is
 *          earlier than `stream_ns`, and that sessions below `done_below` get no more                                          */
#ifndef NSSM_BLOCK_H
#define NSSM_BLOCK_H

#include <stdint.h>

#define NSSM_BLOCK_BYTES (320u << 10) /* the longest captured packet fits (capture.h: 256 KiB) */

enum nssm_block_kind { NSSM_BLOCK_TOKENS, NSSM_BLOCK_FRAMES };

/* In front of each frame in data; frames are padded so that the next one starts at a multiple of 8. */
struct nssm_block_frame {
	uint64_t session, start_ns; /* start_ns: of the session */
	uint64_t t_ns;              /* stream time */
	uint32_t label_idx, len, wirelen, reserved;
};

struct nssm_block {
	uint8_t kind;        /* enum nssm_block_kind */
	uint32_t n;          /* tokens or frames */
	uint32_t used;       /* bytes of data */
	/* TOKENS */
	uint64_t session, start_ns;
	uint64_t next_start_ns; /* no session after this one starts before this time; UINT64_MAX: none starts at all */
	uint32_t label_idx, seq;
	uint32_t credit;     /* which of the pipeline's credit slots is this session's; UINT32_MAX: none */
	uint8_t end;         /* enum nssm_end_reason; NONE: more blocks come */
	/* FRAMES */
	uint64_t stream_ns, done_below;
	/* On the last block: what the whole source came to, 0 before. Stream time is from the first packet to the last. */
	uint64_t sessions_total, loop_period_ns, loop_packets;
	_Alignas(64) uint8_t data[NSSM_BLOCK_BYTES];
};

#endif
