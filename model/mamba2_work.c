/* mamba2_work — memory of a batch and how it is cut; see mamba2_work.h. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/mamba2_work.h"

/* Rows of a segment. A backward pass packs operands and adds gradients once a segment: more rows, fewer times. A forward
 * pass alone uses one layer's memory again for the next, 4 (E + D) floats and more a row: 512 rows of D 256 are 6 MB, which
 * the third-level cache holds and 2048 would not. */
#define SEG_ROWS_TRAINING 2048
#define SEG_ROWS_FORWARD  512

static size_t zmax(size_t a, size_t b)
{
	return a > b ? a : b;
}

static void carve_act(struct nssm_mamba2_work *w, struct act *a, float *base, size_t *used)
{
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	size_t R = (size_t)w->max_rows, D = (size_t)c->D, E = (size_t)c->E, H = (size_t)c->H, nc = (size_t)w->max_chunks;
	a->n = nssm_take(base, used, R * D);
	a->rstd1 = nssm_take(base, used, R);
	a->zx = nssm_take(base, used, R * w->ldz);
	a->xc = nssm_take(base, used, R * (size_t)w->m->C);
	a->dt = nssm_take(base, used, R * H);
	a->s = nssm_take(base, used, R * H);
	a->CB = nssm_take(base, used, nc * (size_t)c->Q * (size_t)c->Q);
	a->Sc = w->training ? nssm_take(base, used, nc * w->SP) : NULL;
	a->y = nssm_take(base, used, R * E);
	a->gn = nssm_take(base, used, R * E);
	a->rstd2 = nssm_take(base, used, R);
}

static void carve_backward(struct nssm_mamba2_work *w, float *base, size_t *used)
{
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	size_t R = (size_t)w->max_rows, D = (size_t)c->D, E = (size_t)c->E, H = (size_t)c->H, N = (size_t)c->N;
	size_t C = (size_t)w->m->C, nc = (size_t)w->max_chunks, B = (size_t)w->B, L = (size_t)c->L, K1 = (size_t)c->K - 1;
	size_t G = (size_t)w->n_groups, nb = R / BLOCK_ROWS + 1, Q2 = (size_t)c->Q * (size_t)c->Q;
	w->dr = nssm_take(base, used, R * D);
	w->dr2 = nssm_take(base, used, R * D);
	w->dgn = nssm_take(base, used, R * E);
	w->dzx = nssm_take(base, used, R * w->ldz);
	w->dxc = nssm_take(base, used, R * C);
	w->dn = nssm_take(base, used, R * D);
	w->dBC = nssm_take(base, used, G * R * 2 * N);
	w->dCB = nssm_take(base, used, G * nc * Q2);
	w->ddt = nssm_take(base, used, R * H);
	w->du = nssm_take(base, used, (R + B * K1) * C);
	w->dS = nssm_take(base, used, L * B * w->SP);
	w->du_head = nssm_take(base, used, L * B * K1 * C);
	w->p_norm = nssm_take(base, used, nb * D);
	w->p_gnorm = nssm_take(base, used, nb * E);
	w->p_conv = nssm_take(base, used, nc * C * ((size_t)c->K + 1));
	w->p_dt = nssm_take(base, used, nc * H);
	w->p_A = nssm_take(base, used, B * H);
	w->p_D = nssm_take(base, used, B * H);
}

static size_t scratch_floats(const struct nssm_mamba2_work *w)
{
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	const struct nssm_kernels *k = w->m->kern;
	size_t n = k->ssd_scratch_floats(c->Q, c->P, c->N);
	n = zmax(n, k->gemm_scratch_floats(c->Q, c->Q, c->N));
	n = zmax(n, k->gemm_scratch_floats(c->Q, c->N, c->Q));
	if (w->training) {
		n = zmax(n, w->m->bwd.gemm_scratch_floats(w->m->Z, c->D, w->max_rows));
		n = zmax(n, w->m->bwd.gemm_scratch_floats(c->D, c->E, w->max_rows));
		n = zmax(n, w->m->bwd.gemm_scratch_floats(c->Vpad, c->D, w->max_rows));
	}
	return nssm_round_up(n, 16);
}

static size_t carve(struct nssm_mamba2_work *w, float *base)
{
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	size_t used = 0, R = (size_t)w->max_rows, L = (size_t)c->L, B = (size_t)w->B, ns = (size_t)w->n_seg;
	w->r = nssm_take(base, &used, (w->training ? ns * (L + 1) : 1) * R * (size_t)c->D);
	w->S_in = nssm_take(base, &used, (w->training ? ns + 1 : 1) * L * B * w->SP);
	w->tail_in = nssm_take(base, &used, (w->training ? ns + 1 : 1) * L * B * w->tail);
	w->logits = nssm_take(base, &used, R * (size_t)c->Vpad);
	w->hn = nssm_take(base, &used, R * (size_t)c->D);
	w->rstd_f = nssm_take(base, &used, R);
	w->loss = nssm_take(base, &used, R);
	w->scratch_floats = scratch_floats(w);
	w->scratch = nssm_take(base, &used, w->scratch_floats * (size_t)w->n_members);
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
	int per_lane = (training ? SEG_ROWS_TRAINING : SEG_ROWS_FORWARD) / B / c->Q * c->Q;
	w->block_rows = training ? BLOCK_ROWS : BLOCK_ROWS / 2;
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

/* --- state in and out ----------------------------------------------------------------------------------------- */

void nssm_work_state(struct nssm_mamba2_work *w, int si, float *const *state, bool in)
{
	for (int b = 0; b < w->B; b++)
		for (int l = 0; l < w->m->cfg.L; l++) {
			float *u = state[b] + (size_t)l * (w->SP + w->tail), *S = state_at(w, si, l, b), *t = tail_at(w, si, l, b);
			memcpy(in ? S : u, in ? u : S, w->SP * sizeof(float));
			memcpy(in ? t : u + w->SP, in ? u + w->SP : t, w->tail * sizeof(float));
		}
}

int nssm_work_segments(const struct nssm_mamba2_work *w)
{
	return (w->batch->T + w->S - 1) / w->S;
}

void nssm_work_begin(struct nssm_mamba2_work *w, const struct nssm_batch *batch, float *const *state, float *grad, float scale)
{
	cut(w, batch);
	w->grad = grad;
	w->scale = scale;
	w->logits_all = NULL;
	nssm_work_state(w, 0, state, true);
}
