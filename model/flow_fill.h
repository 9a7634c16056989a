/* flow_fill — payload that no token says, for codec `flow`'s decoder. The bytes come from (seed, session) and nothing else.
 * TCP    : a byte is a function of flow, direction and sequence number, so what is sent again is the same (NSSM_FILL_RANDOM, TLS).
 * TLS    : (NSSM_FILL_TLS) flows of a port that speaks it (secure_ports.h) are cut into records (tls_records.h); QUIC's packets get first
 *          bytes: a long header the first of each direction, and the second if it is long, of flows that begin with 1200 bytes or more;
 *          a short one all others. Where the first bytes are spelled (payload prefix) they stay, and what they leave open of the header
 *          follows from them. All other payload is random.
 * State  : of fixed size: a few bytes a flow, and with TLS 1 KB a TCP flow.
 * Checked: tests/tls_fill.py                                                                                             */
#ifndef NSSM_FLOW_FILL_H
#define NSSM_FLOW_FILL_H

#include "base/philox.h"
#include "model/flow_state.h"
#include "model/secure_ports.h"
#include "model/tls_records.h"

struct flow_fill_flow {
	uint32_t number; /* of the session's flows */
	bool secure;     /* TLS or QUIC */
	bool fresh;      /* it began with a handshake */
	uint8_t client;  /* its direction */
	uint8_t sent[2]; /* QUIC: packets, up to 2 */
};

struct flow_fill {
	enum nssm_fill how;
	struct nssm_rng rng; /* what is of no TCP flow, in its order */
	struct nssm_secure_ports ports;
	uint32_t n_flows;
	struct flow_fill_flow flow[FLOW_SLOTS];
	struct nssm_tls_stream (*tls)[2]; /* [NSSM_FLOW_TCP_MAX]; NULL unless how is NSSM_FILL_TLS */
};

/* 0, or -1: no memory. */
int flow_fill_open(struct flow_fill *f, enum nssm_fill how);
void flow_fill_close(struct flow_fill *f);
void flow_fill_begin(struct flow_fill *f, uint64_t seed, uint64_t session);
/* The packet's payload (or what stands in a literal's place) from byte `known` on, before flow_update; also where there is none. */
void flow_fill_packet(struct flow_fill *f, const struct flow_state *s, const struct flow_pkt *p, uint8_t *payload, uint32_t known,
	uint32_t len);

#endif
