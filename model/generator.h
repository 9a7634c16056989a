/* generator — many sessions at once: lanes stepped in groups, sampled, handed out as blocks of tokens.
 * Same (seed, session index) gives the same tokens whatever the number of lanes and threads: a lane's numbers do not
 * depend on its neighbours, and each session has its own random streams.
 * It knows no packets, files or rings: blocks go to `emit`.
 * Lanes  : each thread has its own, in groups of at most 16 a step; a lane whose session ends takes the next index at once.
 *          Of several groups each has some steps in turn, so that its states stay in the caches.
 *          Threads wait for each other only where blocks are handed out. Nothing is allocated after the start.
 * Parking: a session that `ready` holds back after a block is parked: its state stays where it is, and another session takes its
 *          place in the steps, a parked one that is ready before a new one. Parked lanes are asked again when a place is free, at
 *          most once a millisecond. When all lanes are parked, the thread sleeps. Tokens do not depend on it.
 * Order  : first blocks come in the order of the sessions' indices, and so of their starts: when block 0 of session i is
 *          there, no session before i is still to begin. Within a session blocks come in order of seq.
 * Checked: tests/test_generator.c                                                                                    */
#ifndef NSSM_GENERATOR_H
#define NSSM_GENERATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/checkpoint.h"
#include "model/codec.h"
#include "model/mamba2.h"
#include "model/sampler.h"

enum nssm_end_reason {
	NSSM_END_NONE,    /* not the last block */
	NSSM_END_EOT,     /* the model ended the session */
	NSSM_END_PACKETS, /* --packets */
	NSSM_END_TOKENS,  /* --tokens */
	NSSM_END_STOPPED, /* nssm_generator_stop, or cfg.stop */
};

struct nssm_token_block {
	uint64_t session;     /* index, from 0 */
	uint32_t label_idx;
	uint64_t start_ns;    /* when the session starts, from 0; never decreases with the session index */
	uint32_t seq;         /* block number in the session, from 0 */
	enum nssm_end_reason end;
	uint32_t n_tokens;     /* a session's last block may have none */
	const uint16_t *token; /* borrowed during the call; block 0 is label, conditions and prompt, nothing else */
};

struct nssm_generator_cfg {
	uint64_t seed;
	uint64_t n_sessions;          /* UINT64_MAX: without end, until stopped */
	uint64_t first_session;       /* index of the first one: splits a run over machines */
	const uint32_t *label_idx;    /* [n_mix] which labels, with weights: session i draws its label from (seed, i) */
	const double *label_weight;
	int n_mix;
	uint64_t max_packets;         /* a session, those of the prompt included; 0: none */
	uint64_t min_packets;         /* a session does not end by itself before it has so many; 0: whenever it likes */
	uint64_t max_tokens;          /* a session, label, conditions and prompt included; 0: none */
	double sessions_per_s;        /* Poisson arrivals, session 0 at time 0; 0: all at time 0 */
	int n_lanes;                  /* >= 1; no more are used than there are sessions */
	int n_threads;                /* >= 1; no more are used than there are lanes */
	uint32_t block_packets;       /* most packets a block: fewer are there sooner; 0: 64 */
	struct nssm_sampler_cfg sampler;
	enum nssm_mask mask;          /* what sessions may hold, where the codec has a grammar */
	const uint8_t *conditions;    /* of every session, as many as the codec has; NULL: all unknown */
	const uint16_t *prompt;       /* tokens after label and conditions that every session starts with; NULL: none */
	size_t n_prompt;
	/* Called under a lock, blocks of one session in order. Non-zero ends the run with that code at once: emit is not called
	 * again, and sessions that had begun get no last block. */
	int (*emit)(void *ctx, const struct nssm_token_block *block);
	void *emit_ctx;
	/* May be NULL. Asked before a lane goes on to another block of its session, by any thread, not under the lock: may the
	 * session, of which so many <|pkt|> tokens were handed out, go on? */
	bool (*ready)(void *ctx, uint64_t session, uint64_t packets_made);
	void *ready_ctx;
	int n_parked_max;             /* with ready: sessions that may be parked while n_lanes others run; memory is taken at the start */
	uint64_t *n_parkings;         /* may be NULL; counts while the run goes (relaxed atomic adds) */
	/* May be NULL. Another thread makes it non-zero (an atomic store): this run stops as all do after nssm_generator_stop. */
	const int *stop;
	/* Called under the same lock about 10 times a second; may be NULL. */
	void (*progress)(void *ctx, uint64_t n_tokens, uint64_t sessions_done);
	void *progress_ctx;
};

/* Label and start of a session: pure functions of (cfg, index). start_ns sums exponential gaps, so it walks from the first;
 * prev is the start of session idx−1 (0 for the first). */
uint32_t nssm_generator_label(const struct nssm_generator_cfg *cfg, uint64_t idx);
uint64_t nssm_generator_start(const struct nssm_generator_cfg *cfg, uint64_t idx, uint64_t prev_ns);

/* Runs to the end. Returns 0; NSSM_EINTR after a stop if sessions are left (those that had begun, parked ones too, got a last
 * block with NSSM_END_STOPPED); NSSM_ENUM if the model gives NaN; another negative NSSM_E*; or what emit returned, negative or
 * positive (err is then untouched). After a failure nothing more is handed out. */
int nssm_generator_run(const struct nssm_generator_cfg *cfg, const struct nssm_model_card *card,
	const struct nssm_mamba2 *model, struct nssm_err *err);
/* Asks every generator that runs now to stop at the next token; async-signal-safe. A run that starts later does not see it. */
void nssm_generator_stop(void);

#endif
