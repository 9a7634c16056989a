/* engine_priv — what the files of the engine share.
 *   engine.c       open, close, the turn, figures
 *   engine_in.c    blocks from the ring to tapes
 *   engine_play.c  plays: under which identity, where they stand
 *   engine_plan.c  what is kept, and when it is played again
 *   engine_out.c   what is due to frames, frames to ports and sinks
 *   engine_net.c   what comes back: neighbours, measuring                                                                */
#ifndef NSSM_ENGINE_PRIV_H
#define NSSM_ENGINE_PRIV_H

#include "base/philox.h"
#include "replay/engine.h"
#include "replay/rows.h"
#include "replay/tape.h"
#include "replay/wheel.h"

#define NO_PLAY UINT32_MAX
#define SOON    8u

/* Where a play stands. */
enum play_state {
	PLAY_FREE,
	PLAY_WHEEL, /* its next record is known and stands in the wheel */
	PLAY_HOLDS, /* virtual time, model: no record is there, and it holds the time in the wheel */
	PLAY_WAITS, /* no record is there; not in the wheel */
	PLAY_QUEUED, /* it could begin, but has no place among those that are alive: the pool's addresses, or --concurrency */
	PLAY_ENDS,  /* all its records are staged or sent */
};

struct play {
	struct nssm_tape *tape;
	const struct nssm_rec *rec;  /* next; NULL: none yet */
	const struct nssm_rec *last; /* taken before it; NULL: none */
	uint64_t base_ns;            /* stream time of the tape's start in this play */
	struct nssm_play_id id;
	uint32_t clone;
	uint32_t n_done;             /* records sent or dropped */
	uint32_t credit;             /* where to tell the generator n_done; UINT32_MAX: nowhere */
	uint16_t staged;             /* records of it in the staging area */
	uint8_t state;
	uint8_t first : 1;           /* the tape's first play: counts as the source's own */
	uint8_t begun : 1;           /* its first packet was taken: it is alive, and the slot is its own */
};
_Static_assert(sizeof(struct play) == 64, "a play is a cache line");

/* A session whose blocks still come, or (model) whose first play is not over. */
struct stream {
	struct nssm_tape *tape; /* NULL: empty place */
	struct nssm_decode *decode;
	uint32_t play;          /* its first play; NO_PLAY: none (kept captures) */
	uint32_t n_known;       /* endpoints that the ports' neighbours have been told of */
};

/* A session that may be played again. */
struct kept {
	struct nssm_tape *tape;
	uint32_t n_clones; /* plays begun */
};

/* A model's session that is to be cloned a number of times; the clones after `next` wait for a play to become free. */
struct pending {
	struct nssm_tape *tape;
	uint64_t from_ns;
	uint64_t next;
};

/* A planned start; captures only. */
struct start {
	uint64_t at_ns;
	uint32_t kept_idx, clone;
};

/* A packet between the wheel and the wire. */
struct staged {
	uint64_t due_ns;
	const struct nssm_rec *rec;
	uint8_t *data;
	void *frame;     /* NULL: in the engine's own memory */
	uint32_t play, len, wirelen;
	uint8_t port;
	uint8_t outcome; /* enum staged_outcome */
	uint8_t own;     /* which of the engine's own frames, if it has no other */
};
enum staged_outcome { STAGED_WAITS, STAGED_SENT, STAGED_DROPPED /* + enum nssm_drop */ };

struct nssm_engine {
	struct nssm_engine_cfg cfg;
	struct nssm_counters n;
	struct nssm_label_stats *label;
	struct nssm_arena *arena;
	struct nssm_tape_builder *builder;
	struct nssm_wheel *wheel;
	struct nssm_rows *rows;        /* NULL: no truth is kept */
	struct nssm_row_seg **play_rows; /* [plays_max] with rows: each play's */
	struct nssm_sched sched;
	unsigned rate_version;
	uint64_t pos_ns;         /* stream time of the last packet taken from the wheel */
	uint64_t starved_to_ns;  /* captures: stream time up to which starved_ns counts */
	bool began;              /* something has been taken */
	bool over;               /* nothing more is taken from the wheel */
	bool closing;            /* what is played is cut: nothing comes in its place */

	size_t touched, rows_touched; /* bytes of arena and rows; control's */
	struct play *play;       /* [plays_max] */
	size_t play_bytes;       /* mapped */
	uint32_t *spare_play, n_spare;
	uint32_t n_alive;        /* of those that are not spare: begun */
	uint32_t n_ready;        /* in the wheel with a record */
	uint32_t n_clones_open, clones_max; /* not the tapes' first plays; a model's sessions must never lack a play for want of these */
	uint32_t *queue, queue_head, n_queue; /* ring of plays that wait for a place */
	bool ended_one;          /* a play that ends is settled before anything else is taken: what follows from it has its place in time */
	/* The two ids behind the plays' stand for the plan's next start and for what the source may still begin. */
	uint32_t id_plan, id_source;
	bool plan_in_wheel, source_in_wheel;
	uint64_t source_ns;

	struct stream *stream;   /* open addressing by session */
	uint32_t stream_mask, n_streams;
	struct nssm_decode **decode; /* stack of unused ones */
	uint32_t n_decode;
	uint64_t done_below;
	struct nssm_block *block; /* in hand */
	uint32_t block_pos, block_n;
	bool stuck;              /* the block in hand does not go in */
	uint32_t n_stuck;        /* turns in virtual time since which nothing moved */
	bool has_frame;          /* decoded, and still to be appended */
	struct nssm_frame frame;
	uint64_t frame_t_ns;
	struct kept *kept;       /* ring of tapes_max, oldest first */
	uint32_t kept_head, n_kept;
	uint32_t n_leaving;      /* taken from it, but still playing */
	struct pending *pending; /* ring of tapes_max */
	uint32_t pending_head, n_pending;
	uint64_t mean_flows_sum, mean_ns_sum;
	/* plan */
	struct start *start;
	uint64_t n_start, next_start, loop, loop_period_ns, loop_packets;
	uint64_t plan_next_ns, plan_k;
	uint64_t sessions_total; /* captures: once the source is done */
	bool plan_ready, plan_over, plan_waits;
	bool fixed_slots;
	uint64_t target_alive, n_begun_at_first; /* target: 0: any number */
	double start_every_ns;
	struct nssm_rng plan_rng;
	uint32_t drawn;          /* for the next play that is begun */
	bool has_drawn;
	uint64_t left;           /* known, and not to be played any more */
	uint64_t *slot;          /* ring of free slots */
	uint64_t slot_head, n_slot_free, slot_cap;
	uint64_t *slot_busy;     /* fixed slots: a bit each */

	struct staged staged[NSSM_BURST];
	uint32_t n_staged, n_rendered; /* taken from the wheel; of these, written as frames */
	uint32_t n_handed;       /* of these, given to the sinks */
	uint32_t soon[SOON], n_soon; /* plays that come next, as far as the wheel knows */
	uint64_t n_taken;        /* from the wheel */
	uint64_t stuck_since[NSSM_PORTS_MAX]; /* clock, while the port takes nothing; 0: it does */
	uint64_t paused_since, next_tick_ns, next_flush_ns, idle_ns, n_turns;
	uint8_t *own;            /* frames' memory without ports: [NSSM_BURST][own_frame_bytes] */
	uint32_t own_frame_bytes;
	uint8_t own_free[NSSM_BURST], n_own_free;
	uint32_t *credit_owner;  /* which play a credit slot belongs to */
	uint32_t *credit_seen;   /* packets of its session that came, good or not */
};

static inline bool is_virtual(const struct nssm_engine *e)
{
	return e->cfg.clock == NULL;
}
static inline bool is_model(const struct nssm_engine *e)
{
	return e->cfg.pipe->card != NULL;
}
/* Virtual time: a model's session that may be played again begins when it is whole, so that it is known at one moment of the
 * stream from when on, whatever the threads do. */
static inline bool begins_whole(const struct nssm_engine *e)
{
	return is_virtual(e) && is_model(e) && e->cfg.keep;
}
/* ns since the run's start; live only, and 0 before it. */
uint64_t engine_now(const struct nssm_engine *e);
void engine_watch_gap(struct nssm_engine *e, uint64_t now_ns);
/* What stream time it is now. */
uint64_t engine_stream_now(const struct nssm_engine *e);
static inline uint64_t play_tie(const struct play *p)
{
	return (p->tape->session + 1) << 24 | (p->clone & 0xffffff);
}
/* What the source may still begin stands among packets of the same time: a model's next session behind those that began, captures
 * before all, as more of any session may come. */
static inline uint64_t source_tie(const struct nssm_engine *e)
{
	return is_model(e) ? UINT64_MAX : 0;
}
static inline uint64_t play_at(const struct play *p, const struct nssm_rec *rec)
{
	uint64_t t = p->base_ns + rec->t_ns;
	return t < p->base_ns ? UINT64_MAX : t;
}

/* engine_in.c */
int engine_take_blocks(struct nssm_engine *e, struct nssm_err *err);
struct stream *engine_stream(struct nssm_engine *e, uint64_t session);
bool engine_in_idle(const struct nssm_engine *e);
/* Sessions whose last block will never come are over. */
int engine_end_streams(struct nssm_engine *e, struct nssm_err *err);
/* A block that cannot go in, and nothing under way that would make room for it, is an error. worked: something moved in this turn. */
int engine_check_stuck(struct nssm_engine *e, bool worked, struct nssm_err *err);
/* What the wire has seen of a play's session, for the generator. */
void engine_tell_credit(struct nssm_engine *e, const struct play *p);

/* engine_play.c */
int engine_plays_open(struct nssm_engine *e, struct nssm_err *err);
void engine_plays_close(struct nssm_engine *e);
/* A play of the tape, from at_ns on. False: none is free. */
bool engine_play_new(struct nssm_engine *e, struct nssm_tape *t, uint32_t clone, uint64_t at_ns, bool first, uint32_t *idx);
/* Its first packet is to be taken, so it needs a place among those alive. False: there is none, and it stands in the queue; it is
 * not in the wheel. */
bool engine_play_begin(struct nssm_engine *e, uint32_t idx);
/* Whether engine_play_begin would find a place. */
bool engine_has_place(const struct nssm_engine *e, const struct nssm_tape *t, uint32_t clone);
/* A record was appended to the tape of a play that had none, or the tape was finished. */
void engine_play_wake(struct nssm_engine *e, uint32_t idx);
/* After a record was taken: where the play goes next. */
void engine_play_advance(struct nssm_engine *e, uint32_t idx, const struct nssm_rec *rec);
int engine_play_end(struct nssm_engine *e, uint32_t idx, bool complete, struct nssm_err *err);
/* Nothing plays it, and nothing will. */
void engine_tape_unused(struct nssm_engine *e, struct nssm_tape *t);

/* engine_plan.c */
/* Plays of a session before a loop is over. */
uint64_t engine_plays_a_loop(const struct nssm_engine *e);
int engine_plan_open(struct nssm_engine *e, struct nssm_err *err);
void engine_plan_close(struct nssm_engine *e);
/* The tape is whole; its first play (if it has one) starts at base_ns. */
int engine_keep(struct nssm_engine *e, struct nssm_tape *t, uint64_t base_ns, struct nssm_err *err);
/* Memory from what is kept. False: nothing became free, now. */
bool engine_evict(struct nssm_engine *e);
/* The source is done and everything is kept: when does what start? */
int engine_plan(struct nssm_engine *e, struct nssm_err *err);
/* The plan's id came out of the wheel. */
int engine_plan_next(struct nssm_engine *e, struct nssm_err *err);
/* A play ended: what waited for that? */
void engine_plan_retry(struct nssm_engine *e);
/* Nothing that was not begun begins any more. Returns the packets that were known to come. */
uint64_t engine_plan_stop(struct nssm_engine *e);

/* engine_out.c */
int engine_out_open(struct nssm_engine *e, struct nssm_err *err);
void engine_out_close(struct nssm_engine *e);
/* From the wheel to the wire what is due now. *wake_ns: when the next is, as far as known. */
int engine_out(struct nssm_engine *e, bool *worked, uint64_t *wake_ns, struct nssm_err *err);

/* engine_net.c */
void engine_net_poll(struct nssm_engine *e);

/* Relaxed: others read while this thread counts. */
static inline void count(uint64_t *c, uint64_t n)
{
	__atomic_store_n(c, __atomic_load_n(c, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}
static inline void set(uint64_t *c, uint64_t v)
{
	__atomic_store_n(c, v, __ATOMIC_RELAXED);
}

#endif
