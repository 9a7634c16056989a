/* stats — what a run counts, as one snapshot that everyone who shows it reads: the terminal view, the metrics page, telemetry,
 * JSON. Each engine writes its own struct nssm_counters with relaxed stores; nssm_counters_add sums them up (relaxed
 * loads: from any thread).
 * Conservation: made = sent + sum(dropped) at every moment but for the burst in hand; left is what was known and never became due.
 * Checked: tests/test_stats.c                                                                                               */
#ifndef NSSM_STATS_H
#define NSSM_STATS_H

#include <stdbool.h>
#include <stddef.h>
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
	uint64_t flows_begun;                     /* all plays: flows of which a packet was made */
	uint64_t starved;            /* times a session's next packet was not there in time */
	uint64_t starved_ns;
	uint64_t time_back;          /* packets of a capture whose stamp went back; sent in file order */
	uint64_t untracked;          /* packets sent unrewritten for want of table space */
	uint64_t opaque_flows;       /* flows whose contents could not be rewritten */
	uint64_t folded;             /* plays that needed more endpoints or sockets than a slot has */
	uint64_t truth_lost;         /* packets that no row of the truth file counts, for want of memory */
	uint64_t lost_ns;            /* ports: the CPU was elsewhere, seen as gaps above 5 us between readings of the clock */
	uint64_t cpu_ns;             /* that the engine's thread used, at the end of its run */
	uint64_t ring_used, ring_size;
	uint64_t arena_used, arena_bytes, spilled_bytes, bank_sessions, bank_bytes, bank_evicted;
	struct nssm_hist late;       /* due to handed over, ns; at top speed without a cap nothing is due */
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
	struct { char name[64]; bool up; uint64_t line_bps; uint64_t arp_replies, nd_replies; } port[NSSM_PORTS_MAX];
};

/* One number of struct nssm_stats: for whoever shows them all. What is here is in the JSON, on the metrics page and in telemetry. */
enum nssm_stat_kind { NSSM_STAT_COUNTER, NSSM_STAT_COUNTER_NS, NSSM_STAT_GAUGE };
struct nssm_stat_field {
	const char *group, *key; /* JSON: .group.key */
	const char *metric;      /* OpenMetrics: netssm_<metric>[_total]; ends in _seconds for ns, in _bytes for bytes */
	const char *help;        /* a sentence without its dot */
	enum nssm_stat_kind kind;
	size_t offset;           /* of the uint64_t in struct nssm_stats */
};
/* Those of a group stand together. Those of group "measure" mean something only if s->measuring. */
const struct nssm_stat_field *nssm_stats_fields(size_t *n);
uint64_t nssm_stats_value(const struct nssm_stats *s, const struct nssm_stat_field *f);

void nssm_counters_add(struct nssm_counters *into, const struct nssm_counters *from);
uint64_t nssm_dropped(const struct nssm_counters *c);
/* made - sent - dropped: the burst in hand; 0 where the snapshot caught a counter too early. */
uint64_t nssm_in_hand(const struct nssm_counters *c);
/* Events a second; 0 for no time. */
double nssm_per_s(uint64_t n, double s);
/* Bits a second on layer 2 (frame + 4 bytes FCS) and 1 (+ 20 bytes preamble and gap). */
double nssm_l2_bps(uint64_t bytes, uint64_t packets, double s);
double nssm_l1_bps(uint64_t bytes, uint64_t packets, double s);
/* Packets sent for each packet of a session; 0 before the first. */
double nssm_clone_factor(const struct nssm_counters *c);
/* Lost of those whose fate is known; 0 if there are none. */
double nssm_loss_share(const struct nssm_measure_counters *c);

/* Everything as JSON; new reference, NULL out of memory. Every key is always there, in this order; no number is NaN or infinite.
 *   source, rate, live, paused, stopping, elapsed_s, engines
 *   packets   {made, sent, dropped, left, in_hand}       made = sent + dropped + in_hand
 *   bytes     {sent}                                     wire lengths without FCS
 *   dropped   {queue_full, link_down, too_long, no_reader, error}   (nssm_drop_name)
 *   rates     {pps, bps_l2, bps_l1}                      sent, over the whole run
 *   late_ns   {count, min, mean, p50, p99, p999, max}    zeros if count is 0
 *   sessions  {begun, done, packets, flows}              of the model or the captures
 *   clones    {begun, done, alive, waiting, flows, factor}
 *   engine    {starved, starved_ns, time_back, untracked, opaque_flows, folded, truth_lost, lost_ns, cpu_ns, ring_used,
 *             ring_size}
 *   arena     {used, bytes, spilled_bytes, bank_sessions, bank_bytes, bank_evicted}
 *   feed      {tokens, packets, bytes, rejected, repaired, filtered, too_long, truncated, waits, waits_ns, parked, sessions_begun,
 *              sessions_done, done, tokens_per_s, packets_per_s}
 *   ports     [{name, up, line_bps, sent, bytes, received, pps, bps_l2, arp_replies, nd_replies}]
 *   measure   null, or {matched, lost, duplicate, reordered, unmatched, loss_share, latency_ns {as late_ns}}
 * What is no UTF-8 in names is replaced. Counts above 2^63-1 are shown as that.                                               */
json_t *nssm_stats_json(const struct nssm_stats *s);

#endif
