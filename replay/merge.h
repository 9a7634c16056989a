/* merge — packets of many open sessions into one stream in time order.
 * Order  : (due, session, number in the session): total, and the same however the pushes of different sessions interleave.
 * How    : a queue a session (its packets come in time order) and a heap over the queues. An open session whose queue is
 *          empty stands in the heap with the time of its last packet: it may still give one that is due then, so nothing
 *          behind it is let out. The session that begins next stands behind all with its start time, in the same way.
 * Memory : what is held is what lies behind the slowest open session; with all sessions starting at once (and file order
 *          asked for) that is everything. Trailing zero bytes of a packet are not stored.
 * Checked: tests/test_render.c                                                                                        */
#ifndef NSSM_MERGE_H
#define NSSM_MERGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct nssm_out_pkt {
	uint64_t due_ns, session;
	uint32_t len;        /* bytes at data */
	uint32_t wirelen;    /* >= len */
	const uint8_t *data; /* borrowed during the call */
};
/* 0, or a negative NSSM_E* with err written. */
typedef int nssm_out_fn(void *ctx, const struct nssm_out_pkt *pkt, struct nssm_err *err);

/* --- packets of one session, first in first out ----------------------------------------------------------------- */

struct nssm_pktq {
	uint8_t *buf;
	size_t head, tail, cap; /* bytes */
	uint64_t n;             /* packets held */
};
int nssm_pktq_push(struct nssm_pktq *q, const struct nssm_out_pkt *pkt, struct nssm_err *err);
/* The first one's due time; n > 0. */
uint64_t nssm_pktq_due(const struct nssm_pktq *q);
/* Takes the first one; its bytes are put together in frame [NSSM_FRAME_MAX]. session is the caller's to set. */
void nssm_pktq_pop(struct nssm_pktq *q, struct nssm_out_pkt *pkt, uint8_t *frame);
void nssm_pktq_free(struct nssm_pktq *q);

/* --- the merge -------------------------------------------------------------------------------------------------------- */

struct nssm_merge;
struct nssm_merge_lane; /* an open session */

int nssm_merge_open(struct nssm_merge **m, nssm_out_fn *out, void *ctx, struct nssm_err *err);
void nssm_merge_close(struct nssm_merge **m);

/* Sessions begin in ascending order of session and of start. NULL: no memory. */
struct nssm_merge_lane *nssm_merge_begin(struct nssm_merge *m, uint64_t session, uint64_t start_ns, struct nssm_err *err);
/* due never before the session's start nor its last packet. */
int nssm_merge_push(struct nssm_merge *m, struct nssm_merge_lane *lane, const struct nssm_out_pkt *pkt,
	struct nssm_err *err);
/* The session gives no more packets; lane is not used again. */
void nssm_merge_end(struct nssm_merge *m, struct nssm_merge_lane *lane);
/* No session will begin before this time; UINT64_MAX: none will begin at all. Beginning one says so for its start, too. */
void nssm_merge_next_start(struct nssm_merge *m, uint64_t start_ns);
/* Lets out what can be. Returns 0 or what `out` returned. */
int nssm_merge_release(struct nssm_merge *m, struct nssm_err *err);

/* Packets and bytes held now, and the most that ever were. */
struct nssm_merge_held {
	uint64_t packets, bytes, max_packets, max_bytes;
};
struct nssm_merge_held nssm_merge_held(const struct nssm_merge *m);

#endif
