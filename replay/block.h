/* block — what travels on a ring from a source (generator, capture reader) to an engine: some of one session's packets, as tokens
 * or as frames. Blocks come from a pool that the pipeline fills at its start, and go back to it on a second ring.             */
#ifndef NSSM_BLOCK_H
#define NSSM_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define NSSM_BLOCK_BYTES (320u << 10) /* the longest captured packet fits */

enum nssm_block_kind { NSSM_BLOCK_TOKENS, NSSM_BLOCK_FRAMES };

/* In front of each frame in data; padded so that the next one is 8-byte aligned. */
struct nssm_block_frame {
	uint64_t t_ns;       /* since the session's start */
	uint32_t len, wirelen;
};

struct nssm_block {
	uint64_t session;    /* index, ascending; block 0 of a session comes after block 0 of every earlier one */
	uint64_t start_ns;   /* stream time; never decreases with session */
	uint32_t label_idx;
	uint32_t seq;        /* in the session, from 0 */
	uint8_t kind;        /* enum nssm_block_kind */
	uint8_t end;         /* enum nssm_end_reason; NONE: more blocks come */
	uint32_t n;          /* tokens or frames */
	uint32_t used, cap;  /* bytes of data */
	uint8_t *data;       /* tokens as uint16_t, or frames */
};

#endif
