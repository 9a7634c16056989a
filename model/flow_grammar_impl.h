/* flow_grammar_impl — what the automaton (flow_grammar.c) and its masks (flow_legal.c) share. Not for others. */
#ifndef NSSM_FLOW_GRAMMAR_IMPL_H
#define NSSM_FLOW_GRAMMAR_IMPL_H

#include "model/flow_grammar.h"
#include "model/flow_state.h"

/* V: a number, LITS: a number of bytes and the bytes, UNITS: a byte u and head + 4·u bytes. */
enum type { FIX, V, LITS, UNITS, MAC, HOST, OWN };

struct gram_field {
	uint8_t type, n; /* n: bytes of FIX */
};
extern const struct gram_field gram_field[F_N_FIELDS];

/* Steps within MAC, HOST and OWN fields: 0 is their first byte. */
enum { FIRST, BYTES, EDGES, UNITS_SAID, CLASS, ADDRESS, HOST_MAC, NUMBER, NUMBER_TAIL };

/* Of the first byte: where as many bytes follow as the number says it must have an end. */
static inline unsigned most_of_number(const struct flow_gram *g, const struct nssm_codec_cfg *cfg)
{
	return g->field == F_LIT || (g->field == F_LEN && cfg->payload == NSSM_PAYLOAD_FULL) ? 243 : 254;
}

static inline bool in_number(const struct flow_gram *g)
{
	return g->step == NUMBER || g->step == NUMBER_TAIL;
}

/* Bytes that operations may be, and X and CAP. */
static inline bool legal_top(const struct nssm_codec_cfg *cfg, unsigned kind)
{
	unsigned len = flow_top[kind].len;
	return cfg->payload != NSSM_PAYLOAD_FULL || len == FLOW_LEN_0 || len == FLOW_LEN_SAID;
}

static inline bool legal_uop(const struct nssm_codec_cfg *cfg, uint8_t b)
{
	return b < 6 * FLOW_N_RUNS && (cfg->payload != NSSM_PAYLOAD_NONE || b < 6) &&
	       (cfg->payload != NSSM_PAYLOAD_FULL || b % 6 < 2);
}

static inline uint8_t legal_x(const struct flow_gram *g)
{
	switch (g->kind) {
	case FLOW_TCP:
		return 0xff;
	case FLOW_UDP:
		return 0xff & ~(2 | 8);
	case FLOW_ARP:
	case FLOW_ETHER:
		return 32 | 64;
	default:
		return 0xff & ~(1 | 2 | 8);
	}
}

static inline bool pad_bits(const struct flow_gram *g, uint8_t b)
{
	return b != 0 && b < 32 && ((b & 16) == 0 || g->kind == FLOW_UDP || g->kind == FLOW_TCP || g->kind == FLOW_ECHO);
}

#endif
