/* pipeline_priv — what the files of the pipeline share.
 *   pipeline.c        open, run, stop, figures
 *   pipeline_open.c   ports, sinks, engines
 *   pipeline_source.c the source's thread: a generator or a capture reader fills blocks                                     */
#ifndef NSSM_PIPELINE_PRIV_H
#define NSSM_PIPELINE_PRIV_H

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "replay/engine.h"
#include "replay/pipeline.h"

#define SINKS_MAX   16
#define ENGINES_MAX 64
/* Frames of a port's engine. A model's first packets need few of them, and wait for no more. */
#define POOL_FRAMES 8191u
#define POOL_FIRST  1023u
#define BLOCKS      64u /* for each engine */
#define LEAD_PACKETS 4096u

struct nssm_pipeline;
struct lane_out {
	struct nssm_pipeline *pipeline;
	struct nssm_engine *engine;
	struct nssm_ring *in, *back;
	struct nssm_block *filling; /* reader: not yet handed out */
	pthread_t thread;
	bool started;
	int cpu; /* -1: any */
	uint64_t done_ns; /* its last packet had gone then; what comes back was waited for after it */
	int code;
	struct nssm_err err;
};

struct nssm_pipeline {
	struct nssm_pipeline_cfg cfg;
	struct nssm_generator_cfg gen; /* the caller's with our callbacks */
	struct nssm_run run;
	bool live, spins, keep;
	uint32_t n_engines;
	struct lane_out out[ENGINES_MAX];
	struct nssm_block *blocks; /* [n_engines * BLOCKS] */
	cpu_set_t cpus_before, cpus_rest;

	struct nssm_reader *reader;
	pthread_t source;
	bool source_started;
	int source_code, generator_stop;
	struct nssm_err source_err;
	struct nssm_source_counters src; /* written by the source's thread (relaxed) */
	uint64_t time_back;
	uint64_t n_unplaced;      /* packets that were read when the run was over: 1 or 0 */
	uint64_t read_ns;         /* stream time of the last packet that was read */
	uint64_t shift_ns;        /* of this pass over the captures */
	/* Sessions that a generator has open, + 1, by engine: [n_engines * n_credits]; run.credit beside it is what the wire has seen. */
	atomic_uint_fast64_t *credit;
	uint32_t n_credits; /* of each engine */

	struct nssm_sink *sink[SINKS_MAX];
	uint32_t n_sinks;
	struct nssm_truth *truth;
	struct nssm_folder *folder;
	struct nssm_cloner *cloner;
	struct nssm_measure *measure;

	struct nssm_dev dev[NSSM_PORTS_MAX];
	struct nssm_port *port[NSSM_PORTS_MAX];
	struct nssm_neigh *neigh[NSSM_PORTS_MAX];
	struct nssm_frames *frames[ENGINES_MAX];
	uint32_t n_ports, frame_max, mtu[NSSM_PORTS_MAX];
	bool send_on_time;
	bool has_more_frames, complete; /* control's */
	uint64_t line_bps;
	char spill[PATH_MAX];

	const char *const *label;
	const char **label_own; /* the model's */
	uint32_t n_labels;
	uint64_t clock0_ns, ended_ns;
	atomic_bool ended, engines_over, asked_to_stop;
	atomic_uint n_done, n_over; /* engines whose work is done; whose threads end */
};

uint64_t pipeline_clock(void *ctx);
uint32_t pipeline_n_ports(const struct nssm_live_cfg *l);
int pipeline_check(const struct nssm_pipeline_cfg *c, struct nssm_err *err);
int pipeline_open_outputs(struct nssm_pipeline *p, struct nssm_err *err);
int pipeline_open_ports(struct nssm_pipeline *p, struct nssm_err *err);
int pipeline_open_engines(struct nssm_pipeline *p, struct nssm_err *err);
/* 1: drain, 2: at once; never back. */
void pipeline_raise_stop(struct nssm_pipeline *p, int to);
/* The source's thread. */
void *pipeline_source(void *ctx);
/* Called in it while a pipe gives nothing: what was read goes out. Not 0: the run is over. */
int pipeline_source_idle(void *ctx);
/* Generator: may a lane go on? */
bool pipeline_ready(void *ctx, uint64_t session, uint64_t packets_made);

#endif
