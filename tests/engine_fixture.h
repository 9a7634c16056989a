/* An engine on its own, in virtual time, with blocks handed to it from the test's own thread: what a pipeline does with threads. */
#ifndef NSSM_TESTS_ENGINE_FIXTURE_H
#define NSSM_TESTS_ENGINE_FIXTURE_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "replay/engine.h"

#define FX_BLOCKS 64u

struct engine_fixture {
	struct nssm_pipeline_cfg pipe; /* set before fx_open */
	struct nssm_clone_cfg clone;
	struct nssm_sink_cfg sink_cfg;
	const char *const *label;
	uint32_t n_labels, n_decodes, plays_max, n_credits; /* run.credit has n_credits words */
	bool keep;
	uint64_t (*clock)(void *ctx);
	void *clock_ctx;
	struct nssm_arena_cfg arena;
	/* made by fx_open */
	struct nssm_run run;
	struct nssm_ring *in, *back;
	struct nssm_block *blocks;
	struct nssm_cloner *cloner;
	struct nssm_sink *sink[2];
	uint32_t n_sinks;
	struct nssm_folder *folder;
	struct nssm_truth *truth;
	struct nssm_engine *engine;
	enum nssm_engine_state state;
	uint64_t wake_ns;
	int rc;
};

static inline int fx_open(struct engine_fixture *x, struct nssm_err *err)
{
	if (x->pipe.rate.den == 0)
		x->pipe.rate = (struct nssm_rate){.kind = NSSM_RATE_SPEED, .num = 1, .den = 1};
	x->sink_cfg.label = x->label;
	x->sink_cfg.n_labels = x->n_labels;
	x->sink_cfg.snaplen = x->pipe.snaplen;
	x->sink_cfg.us = x->pipe.us;
	atomic_store(&x->run.net_ready, true);
	x->run.wall_ns = x->pipe.epoch_ns;
	x->run.rate = x->pipe.rate;
	pthread_mutex_init(&x->run.lock, NULL);
	const struct nssm_folder_cfg folder = {.path = x->pipe.out_dir,
		.label = x->label,
		.n_labels = x->n_labels,
		.seed = x->pipe.seed,
		.epoch_ns = x->pipe.epoch_ns,
		.us = x->pipe.us,
		.snaplen = x->pipe.snaplen};
	int rc = x->pipe.out_dir != NULL ? nssm_folder_open(&x->folder, &folder, err) : 0;
	if (rc == 0 && x->pipe.pcap_out != NULL) {
		rc = nssm_sink_pcap(&x->sink[0], x->pipe.pcap_out, &x->sink_cfg, err);
		x->n_sinks += rc == 0;
	}
	if (rc == 0 && x->pipe.truth != NULL)
		rc = nssm_truth_open(&x->truth, x->pipe.truth, x->label, x->n_labels, false, err);
	if (rc == 0)
		rc = nssm_ring_open(&x->in, FX_BLOCKS, err);
	if (rc == 0)
		rc = nssm_ring_open(&x->back, FX_BLOCKS, err);
	if (rc == 0)
		rc = nssm_cloner_open(&x->cloner, &x->pipe.clone, err);
	if (rc != 0)
		return rc;
	x->blocks = aligned_alloc(64, FX_BLOCKS * sizeof *x->blocks);
	assert(x->blocks != NULL);
	for (uint32_t i = 0; i < FX_BLOCKS; i++)
		nssm_ring_put(x->back, &x->blocks[i]);
	if (x->arena.bytes == 0)
		x->arena.bytes = 16u << 20;
	const struct nssm_engine_cfg cfg = {.n_engines = 1,
		.pipe = &x->pipe,
		.run = &x->run,
		.clock = x->clock,
		.clock_ctx = x->clock_ctx,
		.keep = x->keep,
		.sched = {.share_num = 1, .share_den = 1, .max_pps = x->pipe.max_pps, .max_bps = x->pipe.max_bps, .ramp_ns = x->pipe.ramp_ns},
		.cloner = x->cloner,
		.arena = x->arena,
		.plays_max = x->plays_max > 0 ? x->plays_max : 1024,
		.tapes_max = 1024,
		.flows_max = 1 << 14,
		.n_decodes = x->n_decodes,
		.n_labels = x->n_labels,
		.n_credits = x->n_credits,
		.in = x->in,
		.back = x->back,
		.sink = x->sink,
		.n_sinks = x->n_sinks,
		.truth = x->truth,
		.folder = x->folder};
	return nssm_engine_open(&x->engine, &cfg, err);
}

/* Turns until it waits for a block, is done or fails. */
static inline int fx_turn(struct engine_fixture *x, struct nssm_err *err)
{
	do
		x->rc = x->rc != 0 ? x->rc : nssm_engine_turn(x->engine, &x->state, &x->wake_ns, err);
	while (x->rc == 0 && x->state == NSSM_ENGINE_GOES);
	return x->rc;
}

/* An empty block; the engine is turned until it gives one back. */
static inline struct nssm_block *fx_block(struct engine_fixture *x, struct nssm_err *err)
{
	struct nssm_block *b;
	while ((b = nssm_ring_get(x->back)) == NULL)
		if (fx_turn(x, err) != 0)
			return NULL;
	return b;
}

static inline int fx_tokens(struct engine_fixture *x, const struct nssm_token_block *t, uint64_t next_start_ns, struct nssm_err *err)
{
	struct nssm_block *b = fx_block(x, err);
	if (b == NULL)
		return x->rc;
	b->kind = NSSM_BLOCK_TOKENS;
	b->n = t->n_tokens;
	b->session = t->session;
	b->start_ns = t->start_ns;
	b->next_start_ns = next_start_ns;
	b->label_idx = t->label_idx;
	b->seq = t->seq;
	b->credit = UINT32_MAX;
	b->end = (uint8_t)t->end;
	memcpy(b->data, t->token, t->n_tokens * sizeof *t->token);
	nssm_ring_put(x->in, b);
	return fx_turn(x, err);
}

/* The source is done: turns to the end, puts the files in place. */
static inline int fx_finish(struct engine_fixture *x, struct nssm_err *err)
{
	atomic_store(&x->run.source_done, true);
	while (x->rc == 0 && x->state != NSSM_ENGINE_DONE)
		fx_turn(x, err);
	int rc = x->rc != 0 ? x->rc : nssm_engine_finish(x->engine, err);
	for (uint32_t i = 0; rc == 0 && i < x->n_sinks; i++)
		rc = nssm_sink_finish(x->sink[i], err);
	if (rc == 0 && x->folder != NULL)
		rc = nssm_folder_finish(x->folder, err);
	if (rc == 0 && x->truth != NULL)
		rc = nssm_truth_finish(x->truth, err);
	return rc;
}

static inline void fx_close(struct engine_fixture *x)
{
	nssm_engine_close(&x->engine);
	for (uint32_t i = 0; i < 2; i++)
		nssm_sink_close(&x->sink[i]);
	nssm_folder_close(&x->folder);
	nssm_truth_close(&x->truth);
	nssm_cloner_close(&x->cloner);
	nssm_ring_close(&x->in);
	nssm_ring_close(&x->back);
	free(x->blocks);
	pthread_mutex_destroy(&x->run.lock);
	memset(x, 0, sizeof *x);
}

#endif
