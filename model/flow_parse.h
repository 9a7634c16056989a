/* flow_parse — a frame to what the `flow` codec knows of it (flow_state.h: struct flow_pkt). What it has no rule for, or what would
 * not come back byte for byte from flow_build, becomes an Ethernet frame as it is.
 * Checked: tests/test_flow_codec.c, tests/fuzz/fuzz_flow.c                                                                   */
#ifndef NSSM_FLOW_PARSE_H
#define NSSM_FLOW_PARSE_H

#include "model/flow_state.h"

struct flow_parser {
	const struct nssm_codec_cfg *cfg;
	struct flow_state *state;
	uint8_t hdr[512];            /* headers with zeros where the capture ends inside them */
	uint8_t ext[FLOW_IPOPT_MAX]; /* IPv6 extension headers behind their first one's number */
	uint8_t blank[FLOW_IPOPT_MAX + 40];
	uint8_t built[FLOW_HDR_MAX + NSSM_CODEC_CAPLEN_MAX];
};

/* *p: zeros but for the gap. It points into in->data and *e. b: where things are when it is built. */
void flow_parse(struct flow_parser *e, struct flow_pkt *p, struct flow_built *b, const struct nssm_pkt *in);

#endif
