/* flow_context — what the automaton (flow_grammar.h) knows of the next token, as a small number: the field that comes and where in it,
 * and, where a packet or an operation begins, how far the TCP connection at hand has got. A model that is given this number beside each
 * token need not count bytes, nor remember handshakes, to know where it stands.
 * Memory : phases of the TCP flows of the first FLOW_CTX_FLOWS ranks, moved as the decoder moves them, but from the tokens alone: a
 *          flow that the decoder forgets because its ends are used anew is not known of here.
 * The numbers are part of the codec's version: a model's context embedding has a row for each.
 * Checked: tests/test_flow_codec.c (a handshake's phases; every number below the count, each field's apart) */
#ifndef NSSM_FLOW_CONTEXT_H
#define NSSM_FLOW_CONTEXT_H

#include "model/flow_grammar.h"

#define FLOW_CTX_FLOWS 32

/* How far a connection is. OPEN + 1: direction 0 sent data that no packet of direction 1 followed, + 2: the other way. */
enum flow_phase {
	FLOW_PH_NEW, FLOW_PH_SYN, FLOW_PH_SYNACK, FLOW_PH_OPEN, FLOW_PH_FIN0 = FLOW_PH_OPEN + 4, FLOW_PH_FIN1, FLOW_PH_FINS, FLOW_PH_CLOSED,
	FLOW_PH_RST, FLOW_PH_UNKNOWN, FLOW_N_PHASES
};

struct flow_memory {
	uint8_t phase[FLOW_CTX_FLOWS]; /* by rank; enum flow_phase */
	uint8_t n;                     /* of them known */
	uint8_t dir;                   /* of the packet at hand, TCP and UDP */
	uint8_t kind;                  /* its kind, FLOW_N_KINDS: none yet */
	uint8_t top;                   /* TOP's kind, while FLAGS are to come */
};

void flow_memory_begin(struct flow_memory *m);
/* To be called with each byte of a packet before flow_gram_byte takes it. */
void flow_memory_byte(struct flow_memory *m, const struct flow_gram *g, uint8_t b);

unsigned flow_n_contexts(void);
/* Of the token that comes next; < flow_n_contexts(). 0: a session's label, and wherever nothing is known. */
unsigned flow_context(const struct flow_memory *m, const struct flow_gram *g, const struct nssm_codec_cfg *cfg);

#endif
