/* mamba2_seq — whole sequences, forward and backward.
 *
 * A batch is cut along time into segments of S tokens a lane (about 2,048 rows); a segment passes through all layers
 * before the next one starts, and S, the scan state, and the last K−1 rows before the convolution are handed on.
 * A segment's lanes are cut into chunks of at most Q tokens that never cross a session's border.
 * Training keeps each layer's input (T·D·L floats) and, while keep_bytes allow it, what the layer computed; beyond
 * that the backward pass recomputes a segment's layer from its input and the state that entered it.
 * Every phase is a list of tasks that write only their own rows; sums over tasks are made afterwards in task order,
 * so results do not depend on the number of threads.                                                              */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/mamba2_impl.h"

#define SEG_ROWS   2048
#define BLOCK_ROWS 128           /* rows of one row task */
#define HEAD_GROUP 4             /* heads whose dB, dC are summed by one task of the scan's backward */

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
	int B, T, S, n_seg;
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

static float *take(float *base, size_t *used, size_t n)
{
	float *p = base ? base + *used : NULL;
	*used += nssm_round_up(n, 16);
	return p;
}

static size_t zmax(size_t a, size_t b)
{
	return a > b ? a : b;
}

static void carve_act(struct nssm_mamba2_work *w, struct act *a, float *base, size_t *used)
{
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	size_t R = (size_t)w->max_rows, D = (size_t)c->D, E = (size_t)c->E, H = (size_t)c->H, nc = (size_t)w->max_chunks;
	a->n = take(base, used, R * D);
	a->rstd1 = take(base, used, R);
	a->zx = take(base, used, R * w->ldz);
	a->xc = take(base, used, R * (size_t)w->m->C);
	a->dt = take(base, used, R * H);
	a->s = take(base, used, R * H);
	a->CB = take(base, used, nc * (size_t)c->Q * (size_t)c->Q);
	a->Sc = w->training ? take(base, used, nc * w->SP) : NULL;
	a->y = take(base, used, R * E);
	a->gn = take(base, used, R * E);
	a->rstd2 = take(base, used, R);
}

static void carve_backward(struct nssm_mamba2_work *w, float *base, size_t *used)
{
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	size_t R = (size_t)w->max_rows, D = (size_t)c->D, E = (size_t)c->E, H = (size_t)c->H, N = (size_t)c->N;
	size_t C = (size_t)w->m->C, nc = (size_t)w->max_chunks, B = (size_t)w->B, L = (size_t)c->L, K1 = (size_t)c->K - 1;
	size_t G = (size_t)w->n_groups, nb = R / BLOCK_ROWS + 1, Q2 = (size_t)c->Q * (size_t)c->Q;
	w->dr = take(base, used, R * D);
	w->dr2 = take(base, used, R * D);
	w->dgn = take(base, used, R * E);
	w->dzx = take(base, used, R * w->ldz);
	w->dxc = take(base, used, R * C);
	w->dn = take(base, used, R * D);
	w->dBC = take(base, used, G * R * 2 * N);
	w->dCB = take(base, used, G * nc * Q2);
	w->ddt = take(base, used, R * H);
	w->du = take(base, used, (R + B * K1) * C);
	w->dS = take(base, used, L * B * w->SP);
	w->du_head = take(base, used, L * B * K1 * C);
	w->p_norm = take(base, used, nb * D);
	w->p_gnorm = take(base, used, nb * E);
	w->p_conv = take(base, used, nc * C * ((size_t)c->K + 1));
	w->p_dt = take(base, used, nc * H);
	w->p_A = take(base, used, B * H);
	w->p_D = take(base, used, B * H);
}

static size_t scratch_floats(const struct nssm_mamba2_work *w)
{
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	const struct nssm_kernels *k = w->m->kern;
	size_t n = k->ssd_scratch_floats(c->Q, c->P, c->N);
	n = zmax(n, k->gemm_scratch_floats(c->Q, c->Q, c->N));
	n = zmax(n, k->gemm_scratch_floats(c->Q, c->N, c->Q));
	if (w->training) {
		n = zmax(n, k->gemm_scratch_floats(w->m->Z, c->D, w->max_rows));
		n = zmax(n, k->gemm_scratch_floats(c->D, c->E, w->max_rows));
		n = zmax(n, k->gemm_scratch_floats(c->Vpad, c->D, w->max_rows));
	}
	return nssm_round_up(n, 16);
}

static size_t carve(struct nssm_mamba2_work *w, float *base)
{
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	size_t used = 0, R = (size_t)w->max_rows, L = (size_t)c->L, B = (size_t)w->B, ns = (size_t)w->n_seg;
	w->r = take(base, &used, (w->training ? ns * (L + 1) : 1) * R * (size_t)c->D);
	w->S_in = take(base, &used, (w->training ? ns + 1 : 1) * L * B * w->SP);
	w->tail_in = take(base, &used, (w->training ? ns + 1 : 1) * L * B * w->tail);
	w->logits = take(base, &used, R * (size_t)c->Vpad);
	w->hn = take(base, &used, R * (size_t)c->D);
	w->rstd_f = take(base, &used, R);
	w->loss = take(base, &used, R);
	w->scratch_floats = scratch_floats(w);
	w->scratch = take(base, &used, w->scratch_floats * (size_t)w->n_members);
	if (w->training)
		carve_backward(w, base, &used);
	size_t n_act = w->keep ? ns * L : 1;
	for (size_t i = 0; i < n_act; i++)
		carve_act(w, base ? &w->act[i] : &(struct act){0}, base, &used);
	return used * sizeof(float);
}

static void plan(struct nssm_mamba2_work *w, const struct nssm_mamba2 *m, int B, int T, bool training, size_t keep_bytes,
	int n_members)
{
	const struct nssm_mamba2_cfg *c = &m->cfg;
	*w = (struct nssm_mamba2_work){.m = m, .B = B, .T = T, .training = training, .n_members = n_members};
	int per_lane = SEG_ROWS / B / c->Q * c->Q;
	w->S = per_lane < c->Q ? c->Q : per_lane;
	if (w->S > T)
		w->S = T;
	w->n_seg = (T + w->S - 1) / w->S;
	w->max_rows = B * w->S;
	w->ldz = nssm_round_up((size_t)m->Z, 16);
	w->SP = (size_t)c->H * (size_t)c->N * (size_t)c->P;
	w->tail = (size_t)(c->K - 1) * (size_t)m->C;
	w->n_groups = (c->H + HEAD_GROUP - 1) / HEAD_GROUP;
	w->max_chunks = B * ((w->S + c->Q - 1) / c->Q + nssm_mamba2_max_borders(w->S)); /* a border adds at most a chunk */
	if (training) {
		w->keep = true;
		size_t used = 0;
		struct act a;
		carve_act(w, &a, NULL, &used);
		w->keep = used * sizeof(float) * (size_t)w->n_seg * (size_t)c->L <= keep_bytes;
	}
}

int nssm_mamba2_work_open(struct nssm_mamba2_work **wp, const struct nssm_mamba2 *m, int B, int T, bool for_training,
	size_t keep_bytes, struct nssm_team *team, struct nssm_err *err)
{
	assert(B >= 1 && T >= 1);
	*wp = NULL;
	struct nssm_mamba2_work *w = malloc(sizeof *w);
	if (w == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a work area");
	plan(w, m, B, T, for_training, keep_bytes, nssm_team_size(team));
	w->team = team;
	w->act = calloc(w->keep ? (size_t)w->n_seg * (size_t)m->cfg.L : 1, sizeof *w->act);
	w->seg = calloc((size_t)w->n_seg, sizeof *w->seg);
	w->chunk = calloc((size_t)w->n_seg * (size_t)w->max_chunks, sizeof *w->chunk);
	w->lane_chunk = calloc((size_t)w->n_seg * (size_t)(B + 1), sizeof *w->lane_chunk);
	w->du_head_n = calloc((size_t)m->cfg.L * (size_t)B, sizeof *w->du_head_n);
	w->n_next = calloc((size_t)B, sizeof *w->n_next);
	w->block_bytes = carve(w, NULL);
	if (w->act && w->seg && w->chunk && w->lane_chunk && w->du_head_n && w->n_next)
		w->block = nssm_block_alloc(w->block_bytes);
	if (w->block == NULL) {
		int rc = nssm_err_set(err, NSSM_ENOMEM, "no memory for a batch of %d lanes x %d tokens (%zu MiB)", B, T,
			w->block_bytes >> 20);
		nssm_mamba2_work_close(&w);
		return rc;
	}
	carve(w, w->block);
	*wp = w;
	return 0;
}

int nssm_mamba2_max_borders(int seg_tokens)
{
	return seg_tokens / 32 + 1;
}

int nssm_mamba2_seg_tokens(const struct nssm_mamba2_work *w)
{
	return w->S;
}

void nssm_mamba2_work_close(struct nssm_mamba2_work **wp)
{
	struct nssm_mamba2_work *w = *wp;
	if (w == NULL)
		return;
	nssm_block_free(w->block, w->block_bytes);
	free(w->act);
	free(w->seg);
	free(w->chunk);
	free(w->lane_chunk);
	free(w->du_head_n);
	free(w->n_next);
	free(w);
	*wp = NULL;
}

size_t nssm_mamba2_work_bytes(const struct nssm_mamba2 *m, int B, int T, bool for_training, size_t keep_bytes,
	int n_threads)
{
	struct nssm_mamba2_work w;
	plan(&w, m, B, T, for_training, keep_bytes, n_threads);
	return carve(&w, NULL);
}

/* --- the plan of one batch ------------------------------------------------------------------------------------ */

/* Chunks of one lane of one segment. Returns how many. */
static int cut_lane(struct nssm_mamba2_work *w, struct chunk *out, const uint8_t *reset, int b, int T)
{
	int n = 0, Q = w->m->cfg.Q, K1 = w->m->cfg.K - 1;
	for (int run = 0; run < T;) {
		int end = run + 1;
		while (end < T && !reset[end])
			end++;
		for (int t = run; t < end; t += Q) {
			int len = end - t < Q ? end - t : Q, after = end - t - len;
			out[n++] = (struct chunk){.lane = b, .t0 = t, .n = len, .reset = t == run && reset[run] != 0,
				.n_after = after < K1 ? after : K1, .runs_on = end == T};
		}
		run = end;
	}
	return n;
}

static void cut(struct nssm_mamba2_work *w, const struct nssm_batch *batch)
{
	assert(batch->B == w->B && batch->T <= w->T);
	w->batch = batch;
	int need = 0;
	for (int si = 0; si < w->n_seg; si++) {
		struct seg *s = &w->seg[si];
		int t0 = si * w->S, left = batch->T - t0;
		s->T = left < 0 ? 0 : left < w->S ? left : w->S;
		s->rows = w->B * s->T;
		s->first_chunk = si * w->max_chunks;
		s->lane_chunk = w->lane_chunk + (size_t)si * (size_t)(w->B + 1);
		s->n_chunks = 0;
		for (int b = 0; b < w->B; b++) {
			s->lane_chunk[b] = s->n_chunks;
			if (s->T > 0)
				s->n_chunks += cut_lane(w, w->chunk + s->first_chunk + s->n_chunks,
					batch->reset + (size_t)b * (size_t)batch->T + t0, b, s->T);
		}
		s->lane_chunk[w->B] = s->n_chunks;
		need = s->n_chunks > need ? s->n_chunks : need;
	}
	assert(need <= w->max_chunks);
}

static struct chunk *chunk_at(const struct nssm_mamba2_work *w, int i)
{
	return &w->chunk[w->seg[w->si].first_chunk + i];
}

static size_t row_of(const struct nssm_mamba2_work *w, const struct chunk *c)
{
	return (size_t)c->lane * (size_t)w->seg[w->si].T + (size_t)c->t0;
}

/* Scan state and convolution tail of (segment, layer, lane). Without training one place is used for all segments. */
static float *state_at(const struct nssm_mamba2_work *w, int si, int l, int b)
{
	size_t L = (size_t)w->m->cfg.L, s = w->training ? (size_t)si : 0;
	return w->S_in + ((s * L + (size_t)l) * (size_t)w->B + (size_t)b) * w->SP;
}

static float *tail_at(const struct nssm_mamba2_work *w, int si, int l, int b)
{
	size_t L = (size_t)w->m->cfg.L, s = w->training ? (size_t)si : 0;
	return w->tail_in + ((s * L + (size_t)l) * (size_t)w->B + (size_t)b) * w->tail;
}

/* The K−1 rows of xBC before a chunk. */
static const float *chunk_tail(const struct nssm_mamba2_work *w, const struct act *a, const struct chunk *c, size_t *ld)
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

static float *member_scratch(const struct nssm_mamba2_work *w, int member)
{
	return w->scratch + (size_t)member * w->scratch_floats;
}

struct rows {
	size_t at;
	int n;
};

static struct rows block_rows(const struct nssm_mamba2_work *w, int task)
{
	int at = task * BLOCK_ROWS, left = w->seg[w->si].rows - at;
	return (struct rows){.at = (size_t)at, .n = left < BLOCK_ROWS ? left : BLOCK_ROWS};
}

static int n_blocks(const struct nssm_mamba2_work *w)
{
	return (w->seg[w->si].rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
}

/* --- forward of one layer on one segment ---------------------------------------------------------------------- */

static void fwd_in(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2 *m = w->m;
	struct rows b = block_rows(w, task);
	size_t D = (size_t)m->cfg.D;
	struct act *a = w->a;
	m->kern->rmsnorm(a->n + b.at * D, D, a->rstd1 + b.at, w->r_in + b.at * D, D, w->w.norm, NORM_EPS, b.n, m->cfg.D);
	m->kern->gemm_packed(a->zx + b.at * w->ldz, w->ldz, a->n + b.at * D, D, m->layer[w->l].in_fwd, false, b.n, m->Z,
		m->cfg.D);
}

static void fwd_conv(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	const struct nssm_kernels *k = w->m->kern;
	struct act *a = w->a;
	const struct chunk *ch = chunk_at(w, task);
	size_t row = row_of(w, ch), ldt, C = (size_t)w->m->C;
	const float *tail = chunk_tail(w, a, ch, &ldt);
	float *zx = a->zx + row * w->ldz, *xc = a->xc + row * C;
	k->conv_silu(xc, C, zx + c->E, w->ldz, tail, ldt, w->w.conv_w, w->w.conv_b, ch->n, w->m->C, c->K);
	k->ssd_dt(a->dt + row * (size_t)c->H, a->s + row * (size_t)c->H, zx + c->E + w->m->C, w->ldz, w->w.dt_bias, w->w.A_log,
		ch->n, c->H);
	/* C·Bᵀ once for all heads */
	k->gemm(a->CB + (size_t)task * (size_t)(c->Q * c->Q), (size_t)ch->n, xc + c->E + c->N, C, false, xc + c->E, C, true, false,
		ch->n, ch->n, c->N, member_scratch(w, member));
}

static void fwd_scan(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	struct act *a = w->a;
	const struct seg *sg = &w->seg[w->si];
	int b = task / c->H, h = task % c->H;
	size_t NP = (size_t)c->N * (size_t)c->P, H = (size_t)c->H, E = (size_t)c->E, C = (size_t)w->m->C;
	float *S_next = state_at(w, w->si + 1, w->l, b) + (size_t)h * NP;
	if (w->training)
		memcpy(S_next, state_at(w, w->si, w->l, b) + (size_t)h * NP, NP * sizeof(float));
	for (int i = sg->lane_chunk[b]; i < sg->lane_chunk[b + 1]; i++) {
		const struct chunk *ch = chunk_at(w, i);
		size_t row = row_of(w, ch);
		if (ch->reset)
			memset(S_next, 0, NP * sizeof(float));
		if (a->Sc)
			memcpy(a->Sc + ((size_t)i * H + (size_t)h) * NP, S_next, NP * sizeof(float));
		const float *xc = a->xc + row * C;
		w->m->kern->ssd_chunk(a->y + row * E + (size_t)h * (size_t)c->P, E, S_next, xc + (size_t)h * (size_t)c->P, C, xc + E,
			C, xc + E + c->N, C, a->CB + (size_t)i * (size_t)(c->Q * c->Q), a->dt + row * H + h, a->s + row * H + h,
			H, w->w.D[h], ch->n, c->P, c->N, member_scratch(w, member));
	}
}

static void fwd_out(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2 *m = w->m;
	struct rows b = block_rows(w, task);
	size_t D = (size_t)m->cfg.D, E = (size_t)m->cfg.E;
	struct act *a = w->a;
	m->kern->gated_rmsnorm(a->gn + b.at * E, E, a->rstd2 + b.at, a->y + b.at * E, E, a->zx + b.at * w->ldz, w->ldz, w->w.gnorm,
		NORM_EPS, b.n, m->cfg.E);
	if (w->r_out == NULL)
		return; /* recomputing for the backward pass */
	if (w->r_out != w->r_in)
		memcpy(w->r_out + b.at * D, w->r_in + b.at * D, (size_t)b.n * D * sizeof(float));
	m->kern->gemm_packed(w->r_out + b.at * D, D, a->gn + b.at * E, E, m->layer[w->l].out_fwd, true, b.n, m->cfg.D, m->cfg.E);
}

/* The rows before the convolution that the next segment needs. */
static void save_tails(struct nssm_mamba2_work *w)
{
	const struct seg *sg = &w->seg[w->si];
	size_t C = (size_t)w->m->C;
	int K1 = w->m->cfg.K - 1;
	for (int b = 0; b < w->B; b++) {
		float *to = tail_at(w, w->si + 1, w->l, b);
		const float *from = tail_at(w, w->si, w->l, b);
		/* The session that is under way at the segment's end: its tokens in this segment, and whether it began here. */
		int i = sg->lane_chunk[b + 1] - 1, have = chunk_at(w, i)->n;
		while (!chunk_at(w, i)->reset && i > sg->lane_chunk[b])
			have += chunk_at(w, --i)->n;
		bool began = chunk_at(w, i)->reset;
		const float *rows = w->a->zx + ((size_t)b * (size_t)sg->T) * w->ldz + w->m->cfg.E;
		for (int k = 0; k < K1; k++) {
			int t = sg->T - K1 + k, back = K1 - k;
			float *dst = to + (size_t)k * C;
			if (back <= have)
				memcpy(dst, rows + (size_t)t * w->ldz, C * sizeof(float));
			else if (began)
				memset(dst, 0, C * sizeof(float));
			else
				memmove(dst, from + (size_t)(k + sg->T) * C, C * sizeof(float));
		}
	}
}

static void layer_forward(struct nssm_mamba2_work *w)
{
	const struct seg *sg = &w->seg[w->si];
	nssm_team_run(w->team, n_blocks(w), fwd_in, w);
	nssm_team_run(w->team, sg->n_chunks, fwd_conv, w);
	nssm_team_run(w->team, w->B * w->m->cfg.H, fwd_scan, w);
	nssm_team_run(w->team, n_blocks(w), fwd_out, w);
	if (w->r_out != NULL)
		save_tails(w);
}

static float *r_at(const struct nssm_mamba2_work *w, int si, int l)
{
	if (!w->training)
		return w->r;
	return w->r + ((size_t)si * (size_t)(w->m->cfg.L + 1) + (size_t)l) * (size_t)w->max_rows * (size_t)w->m->cfg.D;
}

static void set_layer(struct nssm_mamba2_work *w, int l)
{
	w->l = l;
	w->a = w->keep ? &w->act[(size_t)w->si * (size_t)w->m->cfg.L + (size_t)l] : &w->act[0];
	w->w = nssm_mamba2_layer(w->m, w->m->params, l);
	if (w->grad != NULL)
		w->g = nssm_mamba2_layer(w->m, w->grad, l);
}

static void embed(struct nssm_mamba2_work *w)
{
	const struct seg *sg = &w->seg[w->si];
	size_t D = (size_t)w->m->cfg.D;
	const float *emb = nssm_mamba2_embedding(w->m, w->m->params);
	float *r = r_at(w, w->si, 0);
	for (int b = 0; b < w->B; b++)
		for (int t = 0; t < sg->T; t++) {
			uint16_t tok = w->batch->token[(size_t)b * (size_t)w->batch->T + (size_t)(w->t_base + t)];
			assert(tok < w->m->cfg.Vpad);
			memcpy(r + ((size_t)b * (size_t)sg->T + (size_t)t) * D, emb + (size_t)tok * D, D * sizeof(float));
		}
}

static void segment_forward(struct nssm_mamba2_work *w, int si)
{
	w->si = si;
	w->t_base = si * w->S;
	embed(w);
	for (int l = 0; l < w->m->cfg.L; l++) {
		set_layer(w, l);
		w->r_in = r_at(w, si, l);
		w->r_out = r_at(w, si, l + 1);
		layer_forward(w);
	}
}

/* --- head ---------------------------------------------------------------------------------------------------- */

static int32_t target_of(const struct nssm_mamba2_work *w, size_t row)
{
	size_t T = (size_t)w->seg[w->si].T, b = row / T, t = row % T;
	return w->batch->target[b * (size_t)w->batch->T + (size_t)w->t_base + t];
}

static void head_block(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2 *m = w->m;
	const struct nssm_kernels *k = m->kern;
	struct rows b = block_rows(w, task);
	size_t D = (size_t)m->cfg.D, V = (size_t)m->cfg.Vpad;
	const float *r = r_at(w, w->si, m->cfg.L) + b.at * D, *nf = nssm_mamba2_norm_f(m, m->params);
	float *logits = w->logits + b.at * V, *hn = w->hn + b.at * D;
	k->rmsnorm(hn, D, w->rstd_f + b.at, r, D, nf, NORM_EPS, b.n, m->cfg.D);
	k->gemm_packed(logits, V, hn, D, m->head_fwd, false, b.n, m->cfg.Vpad, m->cfg.D);
	int32_t target[BLOCK_ROWS];
	for (int i = 0; i < b.n; i++)
		target[i] = target_of(w, b.at + (size_t)i);
	if (w->logits_all != NULL)
		return;
	k->xent(w->loss + b.at, logits, V, target, w->scale, b.n, m->cfg.V, m->cfg.Vpad);
	if (w->grad == NULL)
		return;
	float *dn = w->dn + b.at * D, *dr = w->dr + b.at * D;
	k->gemm_packed(dn, D, logits, V, m->head_bwd, false, b.n, m->cfg.D, m->cfg.Vpad);
	memset(dr, 0, (size_t)b.n * D * sizeof(float));
	float *part = w->p_norm + (size_t)task * D;
	memset(part, 0, D * sizeof(float));
	k->rmsnorm_bwd(dr, D, part, dn, D, r, D, w->rstd_f + b.at, nf, b.n, m->cfg.D);
}

static void add_losses(const struct nssm_mamba2_work *w, double *loss_sum, int64_t *n_scored)
{
	for (size_t i = 0; i < (size_t)w->seg[w->si].rows; i++)
		if (target_of(w, i) >= 0) {
			*loss_sum += (double)w->loss[i];
			++*n_scored;
		}
}

/* --- state in and out ----------------------------------------------------------------------------------------- */

static void state_copy(struct nssm_mamba2_work *w, int si, float *const *state, bool in)
{
	for (int b = 0; b < w->B; b++)
		for (int l = 0; l < w->m->cfg.L; l++) {
			float *u = state[b] + (size_t)l * (w->SP + w->tail), *S = state_at(w, si, l, b), *t = tail_at(w, si, l, b);
			memcpy(in ? S : u, in ? u : S, w->SP * sizeof(float));
			memcpy(in ? t : u + w->SP, in ? u + w->SP : t, w->tail * sizeof(float));
		}
}

static int n_used_segs(const struct nssm_mamba2_work *w)
{
	return (w->batch->T + w->S - 1) / w->S;
}

static void begin(struct nssm_mamba2_work *w, const struct nssm_batch *batch, float *const *state, float *grad, float scale)
{
	cut(w, batch);
	w->grad = grad;
	w->scale = scale;
	w->logits_all = NULL;
	state_copy(w, 0, state, true);
}

static void lm_last_logits(struct nssm_mamba2_work *w, float *out)
{
	const struct nssm_mamba2 *m = w->m;
	size_t D = (size_t)m->cfg.D, V = (size_t)m->cfg.Vpad, T = (size_t)w->seg[w->si].T;
	for (int b = 0; b < w->B; b++) {
		const float *r = r_at(w, w->si, m->cfg.L) + ((size_t)b * T + T - 1) * D;
		m->kern->rmsnorm(w->hn, D, NULL, r, D, nssm_mamba2_norm_f(m, m->params), NORM_EPS, 1, m->cfg.D);
		m->kern->gemm_packed(out + (size_t)b * V, V, w->hn, D, m->head_fwd, false, 1, m->cfg.Vpad, m->cfg.D);
		for (int v = m->cfg.V; v < m->cfg.Vpad; v++)
			out[(size_t)b * V + (size_t)v] = -INFINITY;
	}
}

void nssm_mamba2_forward(double *loss_sum, int64_t *n_scored, float *logits_last, float *const *state,
	const struct nssm_batch *batch, struct nssm_mamba2 *m, struct nssm_mamba2_work *w)
{
	assert(w->m == m);
	begin(w, batch, state, NULL, 0);
	*loss_sum = 0;
	*n_scored = 0;
	int n = n_used_segs(w);
	for (int si = 0; si < n; si++) {
		segment_forward(w, si);
		nssm_team_run(w->team, n_blocks(w), head_block, w);
		add_losses(w, loss_sum, n_scored);
	}
	if (logits_last != NULL)
		lm_last_logits(w, logits_last);
	state_copy(w, n, state, false);
}

void nssm_mamba2_logits(float *logits, float *const *state, const struct nssm_batch *batch, struct nssm_mamba2 *m,
	struct nssm_mamba2_work *w)
{
	assert(w->m == m);
	begin(w, batch, state, NULL, 0);
	w->logits_all = logits;
	size_t V = (size_t)m->cfg.Vpad;
	int n = n_used_segs(w);
	for (int si = 0; si < n; si++) {
		segment_forward(w, si);
		nssm_team_run(w->team, n_blocks(w), head_block, w);
		size_t T = (size_t)w->seg[si].T;
		for (size_t b = 0; b < (size_t)w->B; b++)
			for (size_t t = 0; t < T; t++) {
				float *to = logits + (b * (size_t)batch->T + (size_t)w->t_base + t) * V;
				memcpy(to, w->logits + (b * T + t) * V, V * sizeof(float));
				for (int v = m->cfg.V; v < m->cfg.Vpad; v++)
					to[v] = -INFINITY;
			}
	}
	state_copy(w, n, state, false);
}

/* --- backward of one layer on one segment --------------------------------------------------------------------- */

static void bwd_out(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2 *m = w->m;
	struct rows b = block_rows(w, task);
	size_t D = (size_t)m->cfg.D, E = (size_t)m->cfg.E;
	struct act *a = w->a;
	float *dgn = w->dgn + b.at * E, *part = w->p_gnorm + (size_t)task * E;
	m->kern->gemm_packed(dgn, E, w->dr + b.at * D, D, m->layer[w->l].out_bwd, false, b.n, m->cfg.E, m->cfg.D);
	memset(part, 0, E * sizeof(float));
	/* dgn becomes dy in place */
	m->kern->gated_rmsnorm_bwd(dgn, E, w->dzx + b.at * w->ldz, w->ldz, part, dgn, E, a->y + b.at * E, E, a->zx + b.at * w->ldz,
		w->ldz, a->rstd2 + b.at, w->w.gnorm, b.n, m->cfg.E);
}

/* One lane, one group of heads: the scan backwards through the segment's chunks. */
static void bwd_scan(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	const struct act *a = w->a;
	const struct seg *sg = &w->seg[w->si];
	int b = task / w->n_groups, grp = task % w->n_groups;
	size_t NP = (size_t)c->N * (size_t)c->P, H = (size_t)c->H, E = (size_t)c->E, C = (size_t)w->m->C, N = (size_t)c->N;
	size_t Q2 = (size_t)c->Q * (size_t)c->Q, P = (size_t)c->P;
	for (int i = sg->lane_chunk[b + 1] - 1; i >= sg->lane_chunk[b]; i--) {
		const struct chunk *ch = chunk_at(w, i);
		size_t row = row_of(w, ch);
		float *dBC = w->dBC + ((size_t)grp * (size_t)w->max_rows + row) * 2 * N;
		float *dCB = w->dCB + ((size_t)grp * (size_t)w->max_chunks + (size_t)i) * Q2;
		memset(dBC, 0, (size_t)ch->n * 2 * N * sizeof(float));
		memset(dCB, 0, Q2 * sizeof(float));
		const float *xc = a->xc + row * C;
		for (size_t h = (size_t)grp * HEAD_GROUP; h < H && h < (size_t)(grp + 1) * HEAD_GROUP; h++) {
			float *dS = w->dS + ((size_t)w->l * (size_t)w->B + (size_t)b) * w->SP + h * NP;
			w->m->kern->ssd_chunk_bwd(w->dxc + row * C + h * P, C, dBC, dBC + N, 2 * N, dCB, w->ddt + row * H + h, H,
				w->p_A + (size_t)b * H + h, w->p_D + (size_t)b * H + h, dS, w->dgn + row * E + h * P, E,
				a->Sc + ((size_t)i * H + h) * NP, xc + h * P, C, xc + E, C, xc + E + N, C,
				a->CB + (size_t)i * Q2, a->dt + row * H + h, a->s + row * H + h, H, -expf(w->w.A_log[h]),
				w->w.D[h], ch->n, c->P, c->N, member_scratch(w, member));
			if (ch->reset)
				memset(dS, 0, NP * sizeof(float));
		}
	}
}

/* The row of du (which has K−1 more rows a lane, for what follows in the next segment) where a chunk starts. */
static float *du_at(const struct nssm_mamba2_work *w, const struct chunk *c)
{
	size_t per_lane = (size_t)(w->seg[w->si].T + w->m->cfg.K - 1);
	return w->du + ((size_t)c->lane * per_lane + (size_t)c->t0) * (size_t)w->m->C;
}

static void bwd_pre(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	const struct nssm_kernels *k = w->m->kern;
	const struct act *a = w->a;
	const struct chunk *ch = chunk_at(w, task);
	size_t row = row_of(w, ch), N = (size_t)c->N, C = (size_t)w->m->C, E = (size_t)c->E, H = (size_t)c->H;
	size_t Q2 = (size_t)c->Q * (size_t)c->Q, n = (size_t)ch->n, ldt;
	float *dxc = w->dxc + row * C, *dCB = w->dCB + (size_t)task * Q2;
	for (size_t t = 0; t < n; t++)
		memcpy(dxc + t * C + E, w->dBC + (row + t) * 2 * N, 2 * N * sizeof(float));
	for (int grp = 1; grp < w->n_groups; grp++) {
		const float *from = w->dBC + ((size_t)grp * (size_t)w->max_rows + row) * 2 * N;
		const float *cb = w->dCB + ((size_t)grp * (size_t)w->max_chunks + (size_t)task) * Q2;
		for (size_t t = 0; t < n; t++)
			for (size_t j = 0; j < 2 * N; j++)
				dxc[t * C + E + j] += from[t * 2 * N + j];
		for (size_t j = 0; j < n * n; j++)
			dCB[j] += cb[j];
	}
	const float *Bm = a->xc + row * C + E, *Cm = Bm + N;
	float *scratch = member_scratch(w, member);
	k->gemm(dxc + E, C, dCB, n, true, Cm, C, false, true, ch->n, c->N, ch->n, scratch);
	k->gemm(dxc + E + N, C, dCB, n, false, Bm, C, false, true, ch->n, c->N, ch->n, scratch);
	const float *zx = a->zx + row * w->ldz, *tail = chunk_tail(w, a, ch, &ldt);
	k->conv_silu_bwd_pre(du_at(w, ch), C, dxc, C, zx + E, w->ldz, tail, ldt, w->w.conv_w, w->w.conv_b, ch->n, w->m->C, c->K);
	float *p_dt = w->p_dt + (size_t)task * H;
	memset(p_dt, 0, H * sizeof(float));
	k->softplus_bwd(w->dzx + row * w->ldz + E + C, w->ldz, p_dt, w->ddt + row * H, zx + E + C, w->ldz, w->w.dt_bias, ch->n,
		c->H);
}

/* Puts the next segment's first du rows behind each lane, then keeps this segment's first ones for the one before. */
static void swap_du_heads(struct nssm_mamba2_work *w)
{
	const struct seg *sg = &w->seg[w->si];
	int K1 = w->m->cfg.K - 1;
	size_t C = (size_t)w->m->C;
	for (int b = 0; b < w->B; b++) {
		size_t at = (size_t)w->l * (size_t)w->B + (size_t)b;
		float *head = w->du_head + at * (size_t)K1 * C, *lane = w->du + (size_t)b * (size_t)(sg->T + K1) * C;
		int *n_head = &w->du_head_n[at];
		w->n_next[b] = *n_head;
		memcpy(lane + (size_t)sg->T * C, head, (size_t)*n_head * C * sizeof(float));
		int n = 0; /* rows of this segment that belong to the session that entered it */
		const uint8_t *reset = w->batch->reset + (size_t)b * (size_t)w->batch->T + (size_t)w->t_base;
		while (n < K1 && n < sg->T && !reset[n])
			n++;
		/* A session that enters and leaves a segment shorter than K−1 tokens goes on with the rows behind it. */
		int more = n == sg->T ? K1 - n : 0;
		if (more > *n_head)
			more = *n_head;
		memcpy(head, lane, (size_t)(n + more) * C * sizeof(float));
		*n_head = n + more;
	}
}

static void bwd_conv(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	const struct act *a = w->a;
	const struct chunk *ch = chunk_at(w, task);
	size_t row = row_of(w, ch), C = (size_t)w->m->C, ldt;
	const float *tail = chunk_tail(w, a, ch, &ldt);
	int K1 = c->K - 1, after = ch->n_after;
	if (ch->runs_on && after < K1) {
		after += w->n_next[ch->lane];
		after = after < K1 ? after : K1;
	}
	float *dw = w->p_conv + (size_t)task * C * (size_t)(c->K + 1), *db = dw + C * (size_t)c->K;
	memset(dw, 0, C * (size_t)(c->K + 1) * sizeof(float));
	w->m->kern->conv_bwd(w->dzx + row * w->ldz + c->E, w->ldz, dw, db, du_at(w, ch), C, after, a->zx + row * w->ldz + c->E,
		w->ldz, tail, ldt, w->w.conv_w, ch->n, w->m->C, c->K);
}

static void bwd_in(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2 *m = w->m;
	struct rows b = block_rows(w, task);
	size_t D = (size_t)m->cfg.D;
	float *dn = w->dn + b.at * D, *dr2 = w->dr2 + b.at * D, *part = w->p_norm + (size_t)task * D;
	m->kern->gemm_packed(dn, D, w->dzx + b.at * w->ldz, w->ldz, m->layer[w->l].in_bwd, false, b.n, m->cfg.D, m->Z);
	memcpy(dr2, w->dr + b.at * D, (size_t)b.n * D * sizeof(float));
	memset(part, 0, D * sizeof(float));
	m->kern->rmsnorm_bwd(dr2, D, part, dn, D, w->r_in + b.at * D, D, w->a->rstd1 + b.at, w->w.norm, b.n, m->cfg.D);
}

/* Weight gradients: a product's rows are split among the members; how does not change a bit of them. */
static void weight_rows(float *dW, size_t ldw, const float *dY, size_t ldy, const float *X, size_t ldx, int M, int N, int R,
	int part, int n_parts, const struct nssm_kernels *k, float *scratch)
{
	int per = (M / n_parts / 8 + 1) * 8, m0 = part * per, m1 = m0 + per < M ? m0 + per : M;
	if (m0 < m1)
		k->gemm(dW + (size_t)m0 * ldw, ldw, dY + m0, ldy, true, X, ldx, false, true, m1 - m0, N, R, scratch);
}

static void add_partials(float *g, const float *part, size_t n, size_t stride, int count)
{
	for (int i = 0; i < count; i++)
		for (size_t j = 0; j < n; j++)
			g[j] += part[(size_t)i * stride + j];
}

static void bwd_weights(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	const struct seg *sg = &w->seg[w->si];
	size_t D = (size_t)c->D, E = (size_t)c->E, C = (size_t)w->m->C, H = (size_t)c->H, K = (size_t)c->K;
	float *scratch = member_scratch(w, member);
	int np = w->n_members;
	if (task < np) {
		weight_rows(w->g.in_proj, D, w->dzx, w->ldz, w->a->n, D, w->m->Z, c->D, sg->rows, task, np, w->m->kern, scratch);
	} else if (task < 2 * np) {
		weight_rows(w->g.out_proj, E, w->dr, D, w->a->gn, E, c->D, c->E, sg->rows, task - np, np, w->m->kern, scratch);
	} else {
		add_partials(w->g.norm, w->p_norm, D, D, n_blocks(w));
		add_partials(w->g.gnorm, w->p_gnorm, E, E, n_blocks(w));
		add_partials(w->g.conv_w, w->p_conv, C * K, C * (K + 1), sg->n_chunks);
		add_partials(w->g.conv_b, w->p_conv + C * K, C, C * (K + 1), sg->n_chunks);
		add_partials(w->g.dt_bias, w->p_dt, H, H, sg->n_chunks);
		add_partials(w->g.D, w->p_D, H, H, w->B);
		for (size_t b = 0; b < (size_t)w->B; b++)
			for (size_t h = 0; h < H; h++) /* dA/dA_log = A */
				w->g.A_log[h] += w->p_A[b * H + h] * -expf(w->w.A_log[h]);
	}
}

static void layer_backward(struct nssm_mamba2_work *w)
{
	const struct seg *sg = &w->seg[w->si];
	size_t BH = (size_t)w->B * (size_t)w->m->cfg.H;
	if (!w->keep) {
		w->r_out = NULL;
		layer_forward(w);
	}
	nssm_team_run(w->team, n_blocks(w), bwd_out, w);
	memset(w->p_A, 0, BH * sizeof(float));
	memset(w->p_D, 0, BH * sizeof(float));
	nssm_team_run(w->team, w->B * w->n_groups, bwd_scan, w);
	nssm_team_run(w->team, sg->n_chunks, bwd_pre, w);
	swap_du_heads(w);
	nssm_team_run(w->team, sg->n_chunks, bwd_conv, w);
	nssm_team_run(w->team, n_blocks(w), bwd_in, w);
	nssm_team_run(w->team, 2 * w->n_members + 1, bwd_weights, w);
	float *t = w->dr;
	w->dr = w->dr2;
	w->dr2 = t;
}

/* --- backward of head and embedding ---------------------------------------------------------------------------- */

static void head_weights(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	int rows = w->seg[w->si].rows;
	if (task == w->n_members)
		add_partials(nssm_mamba2_norm_f(w->m, w->grad), w->p_norm, (size_t)c->D, (size_t)c->D, n_blocks(w));
	else
		weight_rows(nssm_mamba2_embedding(w->m, w->grad), (size_t)c->D, w->logits, (size_t)c->Vpad, w->hn, (size_t)c->D,
			c->Vpad, c->D, rows, task, w->n_members, w->m->kern, member_scratch(w, member));
}

/* A task owns a stretch of columns, so rows of one token may come from anywhere. */
static void embed_bwd(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct seg *sg = &w->seg[w->si];
	size_t D = (size_t)w->m->cfg.D, c0 = D * (size_t)task / (size_t)w->n_members;
	size_t c1 = D * ((size_t)task + 1) / (size_t)w->n_members;
	float *dE = nssm_mamba2_embedding(w->m, w->grad);
	for (int b = 0; b < w->B; b++)
		for (int t = 0; t < sg->T; t++) {
			uint16_t tok = w->batch->token[(size_t)b * (size_t)w->batch->T + (size_t)(w->t_base + t)];
			const float *dr = w->dr + ((size_t)b * (size_t)sg->T + (size_t)t) * D;
			for (size_t j = c0; j < c1; j++)
				dE[(size_t)tok * D + j] += dr[j];
		}
}

static void segment_backward(struct nssm_mamba2_work *w, int si, double *loss_sum, int64_t *n_scored)
{
	w->si = si;
	w->t_base = si * w->S;
	nssm_team_run(w->team, n_blocks(w), head_block, w);
	add_losses(w, loss_sum, n_scored);
	nssm_team_run(w->team, w->n_members + 1, head_weights, w);
	for (int l = w->m->cfg.L - 1; l >= 0; l--) {
		set_layer(w, l);
		w->r_in = r_at(w, si, l);
		layer_backward(w);
	}
	nssm_team_run(w->team, w->n_members, embed_bwd, w);
}

void nssm_mamba2_backward(double *loss_sum, int64_t *n_scored, float *grad, float *const *state, float scale,
	const struct nssm_batch *batch, struct nssm_mamba2 *m, struct nssm_mamba2_work *w)
{
	assert(w->m == m && w->training && m->head_bwd != NULL);
	begin(w, batch, state, grad, scale);
	*loss_sum = 0;
	*n_scored = 0;
	int n = n_used_segs(w);
	for (int si = 0; si < n; si++)
		segment_forward(w, si);
	size_t LB = (size_t)m->cfg.L * (size_t)w->B;
	memset(w->dS, 0, LB * w->SP * sizeof(float));
	memset(w->du_head_n, 0, LB * sizeof *w->du_head_n);
	for (int si = n - 1; si >= 0; si--)
		segment_backward(w, si, loss_sum, n_scored);
	state_copy(w, n, state, false);
}
