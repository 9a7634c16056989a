/* truth — what was sent, for whoever labels or scores: one row a flow, as CSV.
 * Columns: community_id,proto,src_ip,src_port,dst_ip,dst_port,label,session,clone,first_due,last_due,first_sent,last_sent,
 *          packets_fwd,packets_rev,bytes_fwd,bytes_rev,dropped,state
 *          src is the initiator as sent; times are epoch seconds with nine digits; packets and bytes are those that left;
 *          dropped those that did not; state is complete (every packet of the flow was due) or cut. proto is IP's number. The
 *          sent times of a flow of which nothing left are empty. IPv6 as inet_ntop writes it. A label is quoted where RFC 4180
 *          asks for it; empty if label_idx names none. Rows end with \n.
 * Community ID: version 1, seed 0 (github.com/corelight/community-id-spec): base64 of SHA1 over seed, ordered endpoints, protocol;
 *          ICMP and ICMPv6 by type and code as there; protocols but TCP, UDP and SCTP without ports.
 * Files  : as in sink.h, whole or in place (base/file.h: "-" is stdout). Rows are buffered and handed to the kernel as whole
 *          rows. A kill between two calls leaves whole rows; one within a call may leave the beginning of one more, which lacks
 *          its newline. A disk that is full leaves whole rows.
 * Threads: one at a time.
 * Checked: tests/test_truth.c (the specification's examples), tests/truth.py (a second implementation, tshark)              */
#ifndef NSSM_TRUTH_H
#define NSSM_TRUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/clone.h"

#define NSSM_COMMUNITY_ID_BYTES 32 /* "1:" + 28 base64 characters + NUL, rounded up */
/* ICMP: port[0] and port[1] of the tuple hold type and code of the flow's first packet. */
void nssm_community_id(char out[NSSM_COMMUNITY_ID_BYTES], const struct nssm_tuple *t);

struct nssm_truth_row {
	struct nssm_tuple tuple;
	uint32_t label_idx, clone;
	uint64_t session;
	uint64_t first_due_ns, last_due_ns, first_sent_ns, last_sent_ns; /* since the epoch */
	uint64_t packets[2], bytes[2], dropped;
	bool complete;
};

struct nssm_truth;
/* label: [n_labels], each at most 4096 bytes; copied. */
int nssm_truth_open(struct nssm_truth **t, const char *path, const char *const *label, uint32_t n_labels, bool in_place, struct nssm_err *err);
/* The first error stays and is what finish returns. */
int nssm_truth_row(struct nssm_truth *t, const struct nssm_truth_row *row, struct nssm_err *err);
/* Taken so far. */
uint64_t nssm_truth_rows(const struct nssm_truth *t);
/* In place: what was taken is in the file. Whole: no promise before finish. */
int nssm_truth_flush(struct nssm_truth *t, struct nssm_err *err);
/* Flushed, synced, put in place. Only close may follow. */
int nssm_truth_finish(struct nssm_truth *t, struct nssm_err *err);
/* Without finish: a file under a temporary name is removed. Takes NULL. */
void nssm_truth_close(struct nssm_truth **t);

#endif
