/* flow_grammar — which byte may come next in the `flow` codec's tokens (codec_flow.h), as a finite automaton that knows no flows:
 * the field that is being spelled, how many bytes it has left, which fields are still to come, how many flows, hosts, MACs and ports
 * have been named. At most 64 bytes a lane.
 * Checked: tests/test_flow_codec.c (every byte: legal in `full` exactly where flow_gram_byte takes it; walks)             */
#ifndef NSSM_FLOW_GRAMMAR_H
#define NSSM_FLOW_GRAMMAR_H

#include <stdbool.h>
#include <stdint.h>

#include "model/codec.h"

/* In the order in which they stand. */
enum flow_field {
	F_GAP, F_GAPX, F_FLOW, F_RANK, F_ETYPE, F_MACS, F_MACD, F_ARPOP, F_ARP16, F_SRC, F_DST, F_AMACS, F_AMACT, F_AMACD, F_PROTO,
	F_SPORT, F_DPORT, F_TOP, F_UOP, F_EOP, F_OOP, F_FRAG, F_FLAGS, F_LEN, F_SEQ0, F_ACK0, F_SEQ16, F_ACK, F_WIN, F_TS, F_X, F_SEQ,
	F_TSE, F_IPID, F_OPT, F_IPH, F_TTL, F_TOS, F_LABEL, F_IPOPT, F_CAP, F_TRL, F_TRC, F_WLEN, F_CLEN, F_PAV, F_LINK, F_LMACS, F_LMACD,
	F_LVLAN, F_BAD, F_BIP, F_BL4, F_BLEN, F_BUDP, F_BURG, F_BRES, F_LIT, F_PAY, F_N_FIELDS
};
_Static_assert(F_N_FIELDS <= 64, "fields to come are a bit set");

struct flow_gram {
	uint64_t todo;    /* fields to come, by number */
	uint32_t left;    /* bytes that the field being spelled still has */
	uint32_t len;     /* LEN as far as it is known */
	uint32_t avail;   /* PAV, or UINT32_MAX */
	uint32_t value;   /* of the number being spelled */
	uint16_t n_flows[3];
	uint8_t n_hosts[2], n_macs, n_ports;
	/* The same after the last packet that was whole: the decoder knows no more where one ends before that. */
	uint8_t n_hosts_whole[2], n_macs_whole, n_ports_whole;
	uint16_t n_flows_whole[3];
	uint8_t field;    /* being spelled; F_N_FIELDS: between packets */
	uint8_t step;     /* within it */
	uint8_t kind, ver6, is_new, run, sacks, base, begun;
	uint8_t conditions; /* bytes after the label that are still to come */
};
_Static_assert(sizeof(struct flow_gram) <= 64, "a lane's automaton");

/* Before the first packet; codec.c sets begun and conditions. */
void flow_gram_begin(struct flow_gram *g);
/* <|pkt|>. */
void flow_gram_packet(struct flow_gram *g);
static inline bool flow_gram_between(const struct flow_gram *g)
{
	return g->field == F_N_FIELDS;
}
enum flow_gram_event { FLOW_GRAM_MORE, FLOW_GRAM_WHOLE, FLOW_GRAM_ILLEGAL };
/* Takes a byte of a packet. After ILLEGAL the packet cannot go on. */
enum flow_gram_event flow_gram_byte(struct flow_gram *g, const struct nssm_codec_cfg *cfg, uint8_t b);
/* Bytes that may come now, as a bit set. */
void flow_gram_legal(uint64_t legal[4], const struct flow_gram *g, const struct nssm_codec_cfg *cfg, bool clean);

/* First payload bytes that are spelled of a packet, of `len` on the wire and `avail` captured. */
uint32_t flow_payload_kept(const struct nssm_codec_cfg *cfg, int kind, uint32_t len, uint32_t avail);
/* UOP's r: bytes [*from, *from + *n) of the prefix are those of the reference; 0: none. */
#define FLOW_N_RUNS 42u
void flow_run(unsigned r, unsigned *from, unsigned *n);

/* TOP's kinds. */
struct flow_top {
	uint8_t flags;
	uint8_t len; /* enum flow_len */
};
enum flow_len { FLOW_LEN_0, FLOW_LEN_LAST, FLOW_LEN_MAX, FLOW_LEN_SAID };
extern const struct flow_top flow_top[16];
#define FLOW_TOP_SYNACK 9
#define FLOW_TOP_SYN    10
#define FLOW_TOP_FLAGS  14 /* and 15: FLAGS follows */

#endif
