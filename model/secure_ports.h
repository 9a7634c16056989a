/* secure_ports — which server ports speak TLS or QUIC, as captures showed it: learned by `prepare`, kept in corpora and checkpoints,
 * asked when payload is filled (NSSM_FILL_TLS).
 * Source : RFC 8446 and 5246 (records), RFC 8999 and 9000 (QUIC's invariants, long headers)
 * Rule   : a port speaks what most of its flows did whose first payload bytes were captured. Of a port that nothing was learned of
 *          the well-known ones count: TCP 443, 465, 636, 853, 993, 995, 5061, 8443 (TLS), UDP 443 (QUIC).
 * JSON   : {"version":1,"tcp":[[port, flows that were TLS, others],…],"udp":[[port, flows that were QUIC, others],…]}
 * Checked: tests/test_secure_ports.c                                                                                        */
#ifndef NSSM_SECURE_PORTS_H
#define NSSM_SECURE_PORTS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"
#include "model/packet.h"

#define NSSM_SECURE_PORTS_MAX 64 /* those with the most flows */
#define NSSM_SECURE_WELL_KNOWN "TCP 443, 465, 636, 853, 993, 995, 5061, 8443 and UDP 443"

struct nssm_secure_port {
	uint16_t port;
	bool udp;
	uint32_t n_secure, n_other; /* flows */
};
/* All zeros: nothing is known, as of a corpus or a checkpoint that is older than this. */
struct nssm_secure_ports {
	bool learned;
	uint32_t n;
	struct nssm_secure_port port[NSSM_SECURE_PORTS_MAX]; /* TCP first, then by number */
};
/* TCP: TLS; UDP: QUIC. */
bool nssm_secure_port(const struct nssm_secure_ports *p, bool udp, uint16_t port);
/* from's flows are added. */
void nssm_secure_merge(struct nssm_secure_ports *to, const struct nssm_secure_ports *from);
json_t *nssm_secure_to_json(const struct nssm_secure_ports *p);
/* NULL: all zeros. where begins the message. */
int nssm_secure_from_json(struct nssm_secure_ports *p, const json_t *j, const char *where, struct nssm_err *err);

/* Whether payload, the first n of the n_wire bytes that a flow began with, is of TLS (UDP: QUIC): 1 or 0; -1: too little of it was
 * captured, or it may be either. */
int nssm_secure_look(bool udp, const uint8_t *payload, uint32_t n, uint32_t n_wire);
/* A record's header (5 bytes) that may stand in a stream. */
bool nssm_tls_header(const uint8_t *h);

/* --- learning ------------------------------------------------------------------------------------------------------ */

struct nssm_secure_learner;
int nssm_secure_learner_open(struct nssm_secure_learner **l, struct nssm_err *err);
void nssm_secure_learner_close(struct nssm_secure_learner **l);
/* Flows that wait for their first payload are forgotten. */
void nssm_secure_learner_clear(struct nssm_secure_learner *l);
/* A packet of a flow (nssm_pkt_parse and nssm_flow_key of it); fresh: the flow's first. Flows that wait are held in a table of fixed
 * size, where a new one may take another's place: of that one nothing is learned. */
void nssm_secure_learn(struct nssm_secure_learner *l, uint32_t session, const struct nssm_flow_key *key, bool fresh, const struct nssm_hdrs *h,
	const struct nssm_pkt *pkt);
void nssm_secure_learned(struct nssm_secure_ports *p, const struct nssm_secure_learner *l);

#endif
