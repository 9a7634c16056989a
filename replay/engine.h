/* engine — one lcore's work: blocks from a ring become tapes, plays of tapes stand in a wheel, what is due is written as frames and
 * handed to ports and sinks. Knows no threads and no clock of its own; the pipeline gives it both.
 * Order  : stream time, then session, then clone; within a play the tape's order. In virtual time this is the order of the file: the
 *          engine goes no further than what is sure (a session of a model that is open and has no packet there holds the time at
 *          its last packet's; captures, at the last packet read).
 *          A model's sessions that are kept begin when they are whole, so that what is kept at a time does not hang on threads.
 * Live   : a frame is written before it is due and handed over when the clock says so. A model's session whose packets come too
 *          late is shifted as a whole (its gaps are never squeezed) and counted as starved; a capture's are sent late.
 * Alive  : a play is alive from its first packet to its last. One that finds no free slot (clone.h), or as many alive as
 *          --concurrency says, waits in a queue, first come, first served, and all its packets are that much later.
 * Full   : a quarter of the arena is kept free of the bank: the oldest kept session is not played again, and forgotten when nothing
 *          plays it. Where that is not enough sessions are played without being kept, and no more blocks are taken until packets
 *          have left. If none are on their way the run ends with an error.
 * Truth  : with truth, each play keeps a row a flow (rows.h) from its begin to its end.
 * Counts : made = sent + dropped but for what is in hand; left is set by nssm_engine_finish: packets that were read, decoded or
 *          planned and never became due (plans without end count what they have begun). Tokens are no packets yet.
 * Checked: tests/test_engine.c                                                                                             */
#ifndef NSSM_ENGINE_H
#define NSSM_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/arena.h"
#include "replay/block.h"
#include "replay/clone.h"
#include "replay/decode.h"
#include "replay/folder.h"
#include "replay/measure.h"
#include "replay/neigh.h"
#include "replay/pipeline.h"
#include "replay/port.h"
#include "replay/ring.h"
#include "replay/schedule.h"
#include "replay/sink.h"
#include "replay/stats.h"
#include "replay/truth.h"

/* What all engines of a run look at. */
struct nssm_run {
	atomic_uint_fast64_t t0_ns;     /* the clock when the stream began; 0: not yet */
	atomic_uint_fast64_t paused_at; /* 0: goes */
	atomic_int stop;                /* 0, 1: drain, 2: now */
	atomic_bool source_done;        /* after its last block */
	atomic_bool source_failed;      /* before that: it broke off */
	atomic_uint_fast64_t n_taken;   /* packets of all engines, where there is a limit to them and several engines */
	atomic_bool net_known;          /* gateways have answered */
	atomic_bool net_ready;          /* and frames go to them: packets may leave */
	atomic_bool port_up[NSSM_PORTS_MAX]; /* as control sees the links */
	atomic_uint rate_version;
	struct nssm_rate rate;          /* under lock */
	pthread_mutex_t lock;           /* rate; sinks and truth where there are several engines */
	uint64_t wall_ns;               /* live: epoch time at clock 0; virtual: of stream time 0 */
	/* Of an open session: its number's low half << 32 | packets that the generator made of it and that are played, or were no good. */
	atomic_uint_fast64_t *credit;
	/* By engine: there is little memory left for sessions that are ahead of the wire. */
	atomic_bool *tight;
};

struct nssm_engine_cfg {
	uint32_t idx, n_engines;
	const struct nssm_pipeline_cfg *pipe; /* modes, limits; borrowed */
	struct nssm_run *run;
	uint64_t (*clock)(void *ctx);         /* ns; NULL: virtual time */
	void *clock_ctx;
	bool keep;                            /* tapes are kept; captures: nothing plays before the source is done */
	struct nssm_sched sched;              /* set up but for nssm_sched_init */
	const struct nssm_cloner *cloner;
	struct nssm_arena_cfg arena;
	uint32_t plays_max, tapes_max, flows_max, n_decodes;
	uint32_t n_labels, n_credits;
	uint32_t frame_max;                   /* ports: the longest frame that memory is there for, without FCS */
	uint32_t mtu[NSSM_PORTS_MAX];         /* ports: longest IP packet; VLAN tags come on top */
	struct nssm_ring *in, *back;
	struct nssm_sink *const *sink;
	uint32_t n_sinks;
	struct nssm_port *const *port;        /* [n_ports] */
	uint32_t n_ports, queue;
	bool send_on_time;                    /* every port does */
	struct nssm_frames *frames;
	struct nssm_neigh *const *neigh;      /* [n_ports] or NULL: another engine's work */
	struct nssm_truth *truth;
	struct nssm_folder *folder;
	struct nssm_measure *measure;
};

/* wake_ns: with WAIT, until when there is nothing to do unless a block comes. */
enum nssm_engine_state { NSSM_ENGINE_GOES, NSSM_ENGINE_WAITS, NSSM_ENGINE_DONE };

struct nssm_engine;
int nssm_engine_open(struct nssm_engine **e, const struct nssm_engine_cfg *cfg, struct nssm_err *err);
void nssm_engine_close(struct nssm_engine **e);
/* By control while the engine runs: the next 2 MB of memory that was not touched at open (arena.lazy). False: all is there. */
bool nssm_engine_touch(struct nssm_engine *e);
/* Some work; *state says what next. A negative code ends the run. */
int nssm_engine_turn(struct nssm_engine *e, enum nssm_engine_state *state, uint64_t *wake_ns, struct nssm_err *err);
/* How much CPU time this thread has used so far goes to the figures. */
void nssm_engine_note_cpu(struct nssm_engine *e);
/* After the last turn, while something may still come back, or other engines play on: blocks of its ring are given back (what is in
 * them is left), what is received and outputs are looked after. */
int nssm_engine_listen(struct nssm_engine *e, struct nssm_err *err);
/* After the last turn: rows of plays that were cut, and what is left. */
int nssm_engine_finish(struct nssm_engine *e, struct nssm_err *err);
/* Without ports: packets that a sink held and that nobody took in the end were counted as sent; they were dropped. */
void nssm_engine_unsent(struct nssm_engine *e, const uint64_t n[NSSM_DROP_N], uint64_t bytes);
/* Written by the engine while others read. */
const struct nssm_counters *nssm_engine_counters(const struct nssm_engine *e);
const struct nssm_label_stats *nssm_engine_label(const struct nssm_engine *e, uint32_t label_idx);

#endif
