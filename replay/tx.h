/* tx — one packet on its way out, as engines hand it to sinks, and where a sink's packets went.
 * Times  : stream time is ns since the run's start as captures and models have it; due time is ns since the run's start as
 *          the rate wants it; time_ns is the epoch time that a file shows.
 * Counts : every packet that a sink was handed is sent or dropped under one reason: handed = sent + sum(dropped).          */
#ifndef NSSM_TX_H
#define NSSM_TX_H

#include <stdint.h>

#include "base/err.h"

#define NSSM_BURST 32 /* packets a burst at most */

/* Why a packet that was due did not leave. Each has a name and a counter. */
enum nssm_drop {
	NSSM_DROP_QUEUE,     /* the transmit queue stayed full */
	NSSM_DROP_LINK,      /* link down, interface gone */
	NSSM_DROP_TOO_LONG,  /* longer than the port's MTU or the file format takes */
	NSSM_DROP_NO_READER, /* stream without a reader, or one too slow */
	NSSM_DROP_ERROR,     /* a device's or file's error; the sink's err says which */
	NSSM_DROP_N
};
const char *nssm_drop_name(int reason); /* "queue_full", "link_down", "too_long", "no_reader", "error" */

struct nssm_tx {
	uint8_t *data;       /* len bytes; borrowed during the call */
	uint32_t len;        /* bytes there are, >= 14 */
	uint32_t wirelen;    /* bytes on the wire without FCS, >= len; more where a capture was cut */
	uint64_t due_ns;     /* since the run's start */
	uint64_t time_ns;    /* since the epoch */
	uint64_t session;    /* index of the base session */
	uint32_t clone;      /* 0: the first play */
	uint32_t label_idx;
	uint8_t dir;         /* 0: from the flow's initiator (client side), 1: from the responder */
	uint8_t port;        /* 0 or 1: which live port it belongs to */
};

#endif
