/* stats — what a run counts, as one snapshot that everyone who shows it reads: the terminal view, the metrics page, telemetry,
 * JSON. Each engine writes its own struct nssm_counters with relaxed stores; nssm_stats_add sums them up.
 * Conservation: made = sent + sum(dropped) at every moment but for the burst in hand; left is what was known and never became due. */
#ifndef NSSM_STATS_H
#define NSSM_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "replay/hist.h"
#include "replay/tx.h"

#define NSSM_PORTS_MAX 2

/* One engine's (lcore's). Written by it alone. */
struct nssm_counters {
	uint64_t made;               /* packets that became due */
	uint64_t sent, sent_bytes;   /* wire lengths without FCS */
	uint64_t dropped[NSSM_DROP_N];
	uint64_t left;               /* at the end: in tapes and rings, never due */
	uint64_t port_sent[NSSM_PORTS_MAX], port_bytes[NSSM_PORTS_MAX], port_received[NSSM_PORTS_MAX];
	uint64_t sessions_begun, sessions_done;   /* of the model or the capture */
	uint64_t session_packets;                 /* those sessions' packets that were made: "model packets" */
	uint64_t session_flows;
	uint64_t clones_begun, clones_done, clones_alive, clones_waiting; /* waiting: no free slot */
	uint64_t flows_begun;                     /* all plays */
	uint64_t starved;            /* times a session's next packet was not there in time */
	uint64_t starved_ns;
	uint64_t time_back;          /* packets of a capture whose stamp went back; sent in file order */
	uint64_t untracked;          /* packets sent unrewritten for want of table space */
	uint64_t opaque_flows;       /* flows whose contents could not be rewritten */
	uint64_t folded;             /* plays that needed more endpoints or sockets than a slot has */
	uint64_t ring_used, ring_size;
	uint64_t arena_used, arena_bytes, spilled_bytes, bank_sessions, bank_bytes, bank_evicted;
	struct nssm_hist late;       /* due to handed over, ns */
};

/* A source's: generator or capture reader. */
struct nssm_source_counters {
	uint64_t tokens, packets, bytes;
	uint64_t rejected, repaired; /* of what the model spelled */
	uint64_t filtered;           /* --filter */
	uint64_t too_long, truncated; /* --mtu drop, truncate */
	uint64_t waits, waits_ns;    /* back-pressure: the ring was full */
	uint64_t parked;             /* lanes that ran out of credit */
	uint64_t sessions_begun, sessions_done;
	bool done;
};

/* What came back, with --measure. */
struct nssm_measure_counters {
	uint64_t matched, lost, duplicate, reordered, unmatched;
	struct nssm_hist latency;
};

struct nssm_stats {
	double elapsed_s;
	bool live;                   /* wall clock */
	bool paused, stopping;
	char rate[32];
	char source[64];             /* "model/pretrained", "a.pcap and 3 more" */
	uint32_t n_engines, n_ports;
	struct nssm_counters all;
	struct nssm_source_counters src;
	bool measuring;
	struct nssm_measure_counters back;
	struct { char name[32]; bool up; uint64_t line_bps; uint64_t arp_replies, nd_replies; } port[NSSM_PORTS_MAX];
};

void nssm_counters_add(struct nssm_counters *into, const struct nssm_counters *from);
uint64_t nssm_dropped(const struct nssm_counters *c);
/* Everything as JSON, with rates over the whole run and percentiles; new reference. */
json_t *nssm_stats_json(const struct nssm_stats *s);

#endif
