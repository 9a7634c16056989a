/* flow_decode_impl — what the two halves of the `flow` codec's decoder share: bytes to absolute values (flow_hear.c), and those to a
 * frame (flow_decode.c). Not for others. */
#ifndef NSSM_FLOW_DECODE_IMPL_H
#define NSSM_FLOW_DECODE_IMPL_H

#include "base/philox.h"
#include "model/flow_codec.h"
#include "model/flow_fill.h"
#include "model/flow_state.h"

/* The grammar's numbers of bytes that follow are smaller. */
#define BYTES_MAX (12480u + 4 * 65536)
#define SAID_MAX  (FLOW_SAID_MAX + 2 * BYTES_MAX)

struct flow_decoder {
	struct flow_state state;
	struct flow_gram gram;
	struct nssm_codec_cfg cfg;
	struct flow_fill fill;
	struct nssm_rng time, identity;
	uint32_t first_name; /* pool: sessions number their hosts and MACs from different numbers on */
	uint32_t n_said, at; /* at: next byte to read */
	uint8_t said[SAID_MAX];
	uint8_t opt[40];
	uint8_t ipopt[FLOW_IPOPT_MAX];
	uint8_t prefix[BYTES_MAX];
	uint8_t addr[2][16];
	uint8_t frame[NSSM_FRAME_MAX + FLOW_HDR_MAX];
};

/* What X said. */
struct extra {
	uint8_t x, iph, cap, link, bad, seq_code, id_code, ecr_code, smac;
	uint16_t id;
	uint32_t seq_diff, tse, trailer, wlen, clen, pav;
	unsigned layout;
};

/* The packet whose bytes are in d->said, d->n_said of them, that the grammar found whole. What they tell of hosts, MACs, ports and
 * the clock is in the state after it; flow_update is the caller's. p and x point into *d. */
void flow_hear(struct flow_decoder *d, struct flow_pkt *p, struct extra *x);

static inline uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

#endif
