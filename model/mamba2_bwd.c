/* mamba2_bwd — whole sequences backward: the chain rule through head, layers and embedding, last segment first. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "model/mamba2_work.h"

/* --- backward of one layer on one segment --------------------------------------------------------------------- */

static void bwd_out(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2 *m = w->m;
	struct rows b = block_rows(w, task);
	size_t D = (size_t)m->cfg.D, E = (size_t)m->cfg.E;
	struct act *a = w->a;
	float *dgn = w->dgn + b.at * E, *part = w->p_gnorm + (size_t)task * E;
	m->bwd.gemm_packed(dgn, E, w->dr + b.at * D, D, m->layer[w->l].out_bwd, false, b.n, m->cfg.E, m->cfg.D);
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
	m->bwd.gemm_packed(dn, D, w->dzx + b.at * w->ldz, w->ldz, m->layer[w->l].in_bwd, false, b.n, m->cfg.D, m->Z);
	memcpy(dr2, w->dr + b.at * D, (size_t)b.n * D * sizeof(float));
	memset(part, 0, D * sizeof(float));
	m->kern->rmsnorm_bwd(dr2, D, part, dn, D, w->r_in + b.at * D, D, w->a->rstd1 + b.at, w->w.norm, b.n, m->cfg.D);
}

/* Weight gradients: a product's rows are split among the members; how does not change a bit of them. */
static void weight_rows(float *dW, size_t ldw, const float *dY, size_t ldy, const float *X, size_t ldx, int M, int N, int R,
	int part, int n_parts, const struct nssm_product *mul, float *scratch)
{
	int per = (M / n_parts / 8 + 1) * 8, m0 = part * per, m1 = m0 + per < M ? m0 + per : M;
	if (m0 < m1)
		mul->gemm(dW + (size_t)m0 * ldw, ldw, dY + m0, ldy, true, X, ldx, false, true, m1 - m0, N, R, scratch);
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
		weight_rows(w->g.in_proj, D, w->dzx, w->ldz, w->a->n, D, w->m->Z, c->D, sg->rows, task, np, &w->m->bwd, scratch);
	} else if (task < 2 * np) {
		weight_rows(w->g.out_proj, E, w->dr, D, w->a->gn, E, c->D, c->E, sg->rows, task - np, np, &w->m->bwd, scratch);
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
		nssm_work_layer_forward(w);
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
			c->Vpad, c->D, rows, task, w->n_members, &w->m->bwd, member_scratch(w, member));
}

/* A task owns a stretch of columns, so rows of one token may come from anywhere. */
static void embed_bwd(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct seg *sg = &w->seg[w->si];
	size_t D = (size_t)w->m->cfg.D, c0 = D * (size_t)task / (size_t)w->n_members;
	size_t c1 = D * ((size_t)task + 1) / (size_t)w->n_members;
	float *dE = nssm_mamba2_embedding(w->m, w->grad), *dX = nssm_mamba2_context_embedding(w->m, w->grad);
	for (int b = 0; b < w->B; b++)
		for (int t = 0; t < sg->T; t++) {
			size_t at = (size_t)b * (size_t)w->batch->T + (size_t)(w->t_base + t), n_cond = (size_t)w->m->cfg.n_cond;
			const float *dr = w->dr + ((size_t)b * (size_t)sg->T + (size_t)t) * D;
			for (size_t j = c0; j < c1; j++)
				dE[w->batch->token[at] * D + j] += dr[j];
			for (size_t j = c0; dX != NULL && j < c1; j++)
				dX[w->batch->context[at] * D + j] += dr[j];
			for (size_t i = 0; w->batch->cond != NULL && i < n_cond; i++) {
				size_t value = w->batch->cond[at * n_cond + i];
				float *dC = nssm_mamba2_condition_rows(w->m, w->grad) + (256 * i + value) * D;
				for (size_t j = c0; value > 0 && j < c1; j++)
					dC[j] += dr[j];
			}
		}
}

static void segment_backward(struct nssm_mamba2_work *w, int si, double *loss_sum, int64_t *n_scored)
{
	w->si = si;
	w->t_base = si * w->S;
	nssm_work_head(w, loss_sum, n_scored);
	nssm_team_run(w->team, w->n_members + 1, head_weights, w);
	for (int l = w->m->cfg.L - 1; l >= 0; l--) {
		nssm_work_set_layer(w, l);
		w->r_in = r_at(w, si, l);
		layer_backward(w);
	}
	nssm_team_run(w->team, w->n_members, embed_bwd, w);
}

void nssm_mamba2_backward(double *loss_sum, int64_t *n_scored, float *grad, float *const *state, float scale,
	const struct nssm_batch *batch, struct nssm_mamba2 *m, struct nssm_mamba2_work *w)
{
	assert(w->m == m && w->training && m->head_bwd != NULL);
	nssm_work_begin(w, batch, state, grad, scale);
	*loss_sum = 0;
	*n_scored = 0;
	int n = nssm_work_segments(w);
	for (int si = 0; si < n; si++)
		nssm_work_segment_forward(w, si);
	size_t LB = (size_t)m->cfg.L * (size_t)w->B;
	memset(w->dS, 0, LB * w->SP * sizeof(float));
	memset(w->du_head_n, 0, LB * sizeof *w->du_head_n);
	for (int si = n - 1; si >= 0; si--)
		segment_backward(w, si, loss_sum, n_scored);
	nssm_work_state(w, n, state, false);
}
