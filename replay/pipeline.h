/* pipeline — one way for all packets: a source (a model's generator, or captures) → lock-free rings → engines (lcores) that
 * decode, clone, schedule and hand out → sinks (files, streams, live ports).
 * Threads: the caller's is control; one or more for the source; one for each engine. With live ports engines spin and each has a
 *          CPU of its own (the last ones that the process may use, or cfg.cpus); otherwise they sleep while there is nothing to do.
 * Time   : live (a port or a stream is among the sinks): wall clock. Else virtual: as fast as it goes, same seed, same bytes.
 * Start  : the first packet waits for gateways to answer (10 s, then it is an error) and for links to be up (10 s, then what goes to one
 *          that is not is dropped).
 * Memory : everything is allocated at open; spilled chunks are the exception (arena.h).
 * Checked: tests/test_pipeline.c, tests/replay_cli.py, tests/play_live.py, tests/netns/                                        */
#ifndef NSSM_PIPELINE_H
#define NSSM_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/generator.h"
#include "replay/clone.h"
#include "replay/decode.h"
#include "replay/measure.h"
#include "replay/neigh.h"
#include "replay/port.h"
#include "replay/reader.h"
#include "replay/schedule.h"
#include "replay/stats.h"

/* How often a session is played.
 *   ONCE        as it comes. Nothing is kept, captures of any size are streamed.
 *   COUNT       n_plays times. Captures (kept in memory; loops too): start times by `phase` within one period, which is the time
 *               from the first to the last packet plus loop_gap; loops repeat the period. Model: the session as it comes, then
 *               n_plays-1 clones after it is finished.
 *   RATE        kept sessions are begun so that flows_per_s flows start a second (the mean number of flows of those kept).
 *   CONCURRENCY n_plays are alive at any time: one ends, the next begins.
 * RATE and CONCURRENCY go on until a limit or a stop, choosing among what is kept by (seed, number of the play).             */
enum nssm_play_mode { NSSM_PLAY_ONCE, NSSM_PLAY_COUNT, NSSM_PLAY_RATE, NSSM_PLAY_CONCURRENCY };
/*   LOCKED  every clone starts when its session does
 *   UNIFORM at a random point of the period (wrapped around)
 *   POISSON sessions and clones in shuffled order, exponential gaps with the period's mean                                 */
enum nssm_phase { NSSM_PHASE_UNIFORM, NSSM_PHASE_LOCKED, NSSM_PHASE_POISSON };

struct nssm_live_cfg {           /* of the ports; [0] client side, [1] server side */
	const char *dev[NSSM_PORTS_MAX]; /* as nssm_dev_parse takes it; NULL: none */
	bool force;                  /* the guard's refusals do not count */
	uint32_t port_mtu;           /* 0: the device's */
	uint8_t src_mac[NSSM_PORTS_MAX][6], dst_mac[NSSM_PORTS_MAX][6]; /* zeros: the device's own; the gateway's, or as cloned */
	uint8_t gateway4[NSSM_PORTS_MAX][4], gateway6[NSSM_PORTS_MAX][16]; /* zeros: none */
	uint8_t self4[NSSM_PORTS_MAX][4], self6[NSSM_PORTS_MAX][16];       /* the port's own address towards the gateway */
	bool answer;                 /* ARP and ND for the addresses played (needs the port's receive side) */
	bool measure, signature;
	uint64_t measure_wait_ns;    /* after the last packet, for what still comes back */
	uint64_t line_bps;           /* for --rate N%; 0: what the device says */
	const char *eal;             /* further EAL arguments */
	uint32_t mem_mb;
};

struct nssm_pipeline_cfg {
	/* source: exactly one of the two */
	const struct nssm_model_card *card;   /* with model and gen; borrowed until close, as all pointers here */
	const struct nssm_mamba2 *model;
	const struct nssm_generator_cfg *gen; /* emit, progress, ready, stop and n_parkings are the pipeline's; n_sessions UINT64_MAX: without end */
	enum nssm_fill fill;
	bool close;                /* a session that a limit cuts off gets a proper end of its TCP connections */
	uint64_t lead_packets;                /* live: how far a session may be ahead of the wire; 0: 4096 */
	const struct nssm_reader_cfg *reader;
	bool fix_checksums;                   /* of captures: those that are wrong are put right, and counted as repaired */
	const char *source_name;              /* for people */
	uint64_t seed;

	/* what is played */
	enum nssm_play_mode mode;
	enum nssm_phase phase;
	uint64_t n_plays;
	double flows_per_s;
	uint64_t n_loops;                     /* of captures; 0: without end */
	int64_t loop_gap_ns;                  /* from the last packet to the first of the next loop; negative: the mean gap */
	bool preload;                         /* captures are read whole before the first packet goes out */
	struct nssm_clone_cfg clone;
	struct nssm_pool client_nets[2], server_nets[2]; /* overrides which side an address belongs to */

	/* when */
	struct nssm_rate rate;
	uint64_t ramp_ns, duration_ns, max_packets; /* 0: none */
	uint64_t max_pps, max_bps;
	uint64_t epoch_ns;                    /* virtual time: of the first packet's stamp base; live: the wall clock is used */

	/* where to; all may be NULL or empty, but not all of them */
	const char *pcap_out, *pcapng_out, *fifo, *out_dir;
	const char *const *pcap_over_ip;
	size_t n_pcap_over_ip;
	bool us, comments, wait_for_reader;
	uint32_t snaplen;
	const char *truth;
	struct nssm_live_cfg live;

	/* machine */
	const char *cpus;                     /* "1", "2,4-6": engines' CPUs; NULL: chosen */
	uint32_t n_engines;                   /* 0: 1. Virtual time has one. */
	size_t arena_bytes;                   /* 0: 256 MiB an engine: sessions playing and kept (the bank) */
	const char *spill_dir;                /* virtual time; NULL: the output's folder */
	uint64_t plays_max;                   /* cursors; 0: 65536, or what n_plays needs up to 1 << 20 */
};

/* The part of opening that takes longest and needs neither model nor captures: with ports, the check of their names and DPDK's start
 * (150 to 250 ms, 100 of them asleep). Optional: nssm_pipeline_open does what was not done. card, model and reader are not looked at. */
int nssm_pipeline_prepare(const struct nssm_pipeline_cfg *cfg, struct nssm_err *err);

struct nssm_pipeline;
/* Checks and opens everything; no packet is sent. */
int nssm_pipeline_open(struct nssm_pipeline **p, const struct nssm_pipeline_cfg *cfg, struct nssm_err *err);
/* Runs to the end; tick is called from the calling thread 10 times a second. Returns 0; NSSM_EINTR after a stop (everything is
 * flushed and in place then, too); another negative code if something failed: what had been written before stays where outputs
 * grow in place, and is dropped where they are put in place at the end. Captures that are played once, as they come, are played as
 * far as they go, and outputs are put in place; the code is the reader's error. */
int nssm_pipeline_run(struct nssm_pipeline *p, void (*tick)(void *ctx), void *ctx, struct nssm_err *err);
void nssm_pipeline_close(struct nssm_pipeline **p);

/* From any thread, and from signal handlers. First: the source stops; virtual time: sessions that have begun are written to their
 * end; live: what is due goes out, the rest is `left`. now: at once. */
void nssm_pipeline_stop(struct nssm_pipeline *p, bool now);
/* From any thread. */
int nssm_pipeline_set_rate(struct nssm_pipeline *p, const struct nssm_rate *rate, struct nssm_err *err);
int nssm_pipeline_pause(struct nssm_pipeline *p, bool pause, struct nssm_err *err);
void nssm_pipeline_stats(struct nssm_pipeline *p, struct nssm_stats *s);

/* Figures by label (decode.h); after the run. */
uint32_t nssm_pipeline_n_labels(const struct nssm_pipeline *p);
const char *nssm_pipeline_label(const struct nssm_pipeline *p, uint32_t label_idx);
void nssm_pipeline_label_stats(const struct nssm_pipeline *p, uint32_t label_idx, struct nssm_label_stats *s);
const struct nssm_measure_counters *nssm_pipeline_label_measured(const struct nssm_pipeline *p, uint32_t label_idx); /* NULL: not measured */
/* Of out_dir: labels.csv is written by the pipeline. */

#endif
