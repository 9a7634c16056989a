/* mamba2_work — the work area of whole sequences, shared by mamba2_work.c (memory, cutting), mamba2_fwd.c and mamba2_bwd.c.
 *
 * A batch is cut along time into segments of S tokens a lane (about 2,048 rows, 512 if there is no backward pass); a segment passes through all layers
 * before the next one starts, and S, the scan state, and the last K−1 rows before the convolution are handed on.
 * A segment's lanes are cut into chunks of at most Q tokens that never cross a session's border.
 * Training keeps each layer's input (T·D·L floats) and, while keep_bytes allow it, what the layer computed; beyond
 * that the backward pass recomputes a segment's layer from its input and the state that entered it.
 * Every phase is a list of tasks that write only their own rows; sums over tasks are made afterwards in task order,
 * so results do not depend on the number of threads.                                                              */
#ifndef NSSM_MAMBA2_WORK_H
#define NSSM_MAMBA2_WORK_H

#include "model/mamba2_impl.h"

#define BLOCK_ROWS 128 /* rows of one row task; half of it in a forward pass, whose segments are shorter */
#define HEAD_GROUP 4   /* heads whose dB, dC are summed by one task of the scan's backward */

struct chunk {
	int lane, t0, n;    /* tokens t0 .. t0+n−1 of the segment */
	bool reset;         /* a session starts at t0: state zero, no tail */
	int n_after;        /* rows of this session that follow in this segment, at most K−1 … */
	bool runs_on;       /* … and the session reaches the segment's end */
};

struct seg {
	int T;              /* tokens a lane */
	int rows;           /* B·T */
	int first_chunk, n_chunks;
	int *lane_chunk;    /* [B+1] chunks of lane b: lane_chunk[b] .. lane_chunk[b+1]−1, from first_chunk */
};

/* What a layer computes on a segment. */
struct act {
	float *n, *rstd1;   /* normed input [R,D], [R] */
	float *zx;          /* in_proj's output [R,ldz]: z, xBC, dt */
	float *xc;          /* after convolution and SiLU [R,C] */
	float *dt, *s;      /* [R,H] */
	float *CB;          /* [chunks][Q·Q] */
	float *Sc;          /* scan state before each chunk [chunks][H][N·P]; inference: NULL */
	float *y;           /* scan's output [R,E] */
	float *gn, *rstd2;  /* gated and normed [R,E], [R] */
};

struct nssm_mamba2_work {
	const struct nssm_mamba2 *m;
	struct nssm_team *team;
	int B, T, S, n_seg, block_rows;
	bool training, keep;
	size_t ldz, SP /* floats of one layer's scan state */, tail /* floats of one layer's convolution tail */;
	int max_rows, max_chunks, n_groups, n_members;
	void *block;
	size_t block_bytes;
	struct seg *seg;
	struct chunk *chunk;
	int *lane_chunk;
	/* [n_seg][L+1][max_rows·D] in training, one residual stream otherwise */
	float *r;
	float *S_in;        /* [n_seg+1][L][B][SP] */
	float *tail_in;     /* [n_seg+1][L][B][tail] */
	struct act *act;    /* [n_seg·L] if keep, else [1] */
	float *logits, *hn, *rstd_f, *loss; /* a segment's head */
	float *scratch;     /* [n_members][scratch_floats] */
	size_t scratch_floats;
	/* backward */
	float *dr, *dr2, *dgn, *dzx, *dxc, *dn, *dBC, *dCB, *ddt, *du, *dS, *du_head;
	int *du_head_n;     /* [L][B] rows of du_head that belong to the session that runs on */
	int *n_next;        /* [B] rows behind each lane of du, taken from the next segment */
	float *p_norm, *p_gnorm, *p_conv, *p_dt, *p_A, *p_D; /* partial sums, one a task */
	/* the phase under way */
	const struct nssm_batch *batch;
	int si, l, t_base;
	struct act *a;
	struct layer_view w, g;
	float *grad, *r_in, *r_out, *logits_all;
	float scale;
};

/* The plan of one batch: chunks of every segment, and what the phases read. */
void nssm_work_begin(struct nssm_mamba2_work *w, const struct nssm_batch *batch, float *const *state, float *grad, float scale);
int nssm_work_segments(const struct nssm_mamba2_work *w);
/* State of all lanes from (in) or to the caller's blocks, at a segment's start. */
void nssm_work_state(struct nssm_mamba2_work *w, int si, float *const *state, bool in);
void nssm_work_set_layer(struct nssm_mamba2_work *w, int l);
/* Forward of segment si through all layers; of the current layer only (r_out NULL: nothing but what backward needs). */
void nssm_work_segment_forward(struct nssm_mamba2_work *w, int si);
void nssm_work_layer_forward(struct nssm_mamba2_work *w);
/* Logits, losses and, with w->grad, the gradient of the segment's residual stream; adds the losses up. */
void nssm_work_head(struct nssm_mamba2_work *w, double *loss_sum, int64_t *n_scored);

static inline struct chunk *chunk_at(const struct nssm_mamba2_work *w, int i)
{
	return &w->chunk[w->seg[w->si].first_chunk + i];
}

static inline size_t row_of(const struct nssm_mamba2_work *w, const struct chunk *c)
{
	return (size_t)c->lane * (size_t)w->seg[w->si].T + (size_t)c->t0;
}

/* Scan state and convolution tail of (segment, layer, lane). Without training one place is used for all segments. */
static inline float *state_at(const struct nssm_mamba2_work *w, int si, int l, int b)
{
	size_t L = (size_t)w->m->cfg.L, s = w->training ? (size_t)si : 0;
	return w->S_in + ((s * L + (size_t)l) * (size_t)w->B + (size_t)b) * w->SP;
}

static inline float *tail_at(const struct nssm_mamba2_work *w, int si, int l, int b)
{
	size_t L = (size_t)w->m->cfg.L, s = w->training ? (size_t)si : 0;
	return w->tail_in + ((s * L + (size_t)l) * (size_t)w->B + (size_t)b) * w->tail;
}

/* The K−1 rows of xBC before a chunk. */
static inline const float *chunk_tail(const struct nssm_mamba2_work *w, const struct act *a, const struct chunk *c, size_t *ld)
{
	*ld = (size_t)w->m->C;
	if (c->reset)
		return NULL;
	if (c->t0 == 0)
		return tail_at(w, w->si, w->l, c->lane);
	*ld = w->ldz;
	/* A chunk that is no session's first has a whole chunk of Q >= K−1 rows before it, and a segment's first chunk is
	 * handled above. */
	return a->zx + (row_of(w, c) - (size_t)(w->m->cfg.K - 1)) * w->ldz + w->m->cfg.E;
}

static inline float *member_scratch(const struct nssm_mamba2_work *w, int member)
{
	return w->scratch + (size_t)member * w->scratch_floats;
}

struct rows {
	size_t at;
	int n;
};

static inline struct rows block_rows(const struct nssm_mamba2_work *w, int task)
{
	int at = task * w->block_rows, left = w->seg[w->si].rows - at;
	return (struct rows){.at = (size_t)at, .n = left < w->block_rows ? left : w->block_rows};
}

static inline int n_blocks(const struct nssm_mamba2_work *w)
{
	return (w->seg[w->si].rows + w->block_rows - 1) / w->block_rows;
}

static inline float *r_at(const struct nssm_mamba2_work *w, int si, int l)
{
	if (!w->training)
		return w->r;
	return w->r + ((size_t)si * (size_t)(w->m->cfg.L + 1) + (size_t)l) * (size_t)w->max_rows * (size_t)w->m->cfg.D;
}

#endif
