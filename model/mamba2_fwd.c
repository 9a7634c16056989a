/* mamba2_fwd — whole sequences forward: layers, head, losses. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "model/mamba2_work.h"

/* --- forward of one layer on one segment ---------------------------------------------------------------------- */

static void fwd_in(void *ctx, int task, int member)
{
	struct nssm_mamba2_work *w = ctx;
	const struct nssm_mamba2 *m = w->m;
	struct rows b = block_rows(w, task);
	size_t D = (size_t)m->cfg.D;
	struct act *a = w->a;
	m->kern->rmsnorm(a->n + b.at * D, D, a->rstd1 + b.at, w->r_in + b.at * D, D, w->w.norm, NORM_EPS, b.n, m->cfg.D);
	m->fwd.gemm_packed(a->zx + b.at * w->ldz, w->ldz, a->n + b.at * D, D, m->layer[w->l].in_fwd, false, b.n, m->Z,
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
	m->fwd.gemm_packed(w->r_out + b.at * D, D, a->gn + b.at * E, E, m->layer[w->l].out_fwd, true, b.n, m->cfg.D, m->cfg.E);
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

void nssm_work_layer_forward(struct nssm_mamba2_work *w)
{
	const struct seg *sg = &w->seg[w->si];
	nssm_team_run(w->team, n_blocks(w), fwd_in, w);
	nssm_team_run(w->team, sg->n_chunks, fwd_conv, w);
	nssm_team_run(w->team, w->B * w->m->cfg.H, fwd_scan, w);
	nssm_team_run(w->team, n_blocks(w), fwd_out, w);
	if (w->r_out != NULL)
		save_tails(w);
}

void nssm_work_set_layer(struct nssm_mamba2_work *w, int l)
{
	w->l = l;
	w->a = w->keep ? &w->act[(size_t)w->si * (size_t)w->m->cfg.L + (size_t)l] : &w->act[0];
	w->w = nssm_mamba2_layer(w->m, w->m->params, l);
	if (w->grad != NULL)
		w->g = nssm_mamba2_layer(w->m, w->grad, l);
}

/* What is known of the sequence of position `at` of the batch, added to r [D]. */
static void embed_conditions(const struct nssm_mamba2_work *w, float *r, size_t at)
{
	const struct nssm_mamba2_cfg *c = &w->m->cfg;
	for (size_t i = 0; w->batch->cond != NULL && i < (size_t)c->n_cond; i++)
		nssm_mamba2_add_condition(r, w->m, i, w->batch->cond[at * (size_t)c->n_cond + i]);
}

static void embed(struct nssm_mamba2_work *w)
{
	const struct seg *sg = &w->seg[w->si];
	size_t D = (size_t)w->m->cfg.D;
	float *r = r_at(w, w->si, 0);
	for (int b = 0; b < w->B; b++)
		for (int t = 0; t < sg->T; t++) {
			size_t at = (size_t)b * (size_t)w->batch->T + (size_t)(w->t_base + t);
			float *row = r + ((size_t)b * (size_t)sg->T + (size_t)t) * D;
			assert(w->batch->token[at] < w->m->cfg.Vpad);
			nssm_mamba2_embed(row, w->m, w->batch->token, w->batch->context, at);
			embed_conditions(w, row, at);
		}
}

void nssm_work_segment_forward(struct nssm_mamba2_work *w, int si)
{
	w->si = si;
	w->t_base = si * w->S;
	embed(w);
	for (int l = 0; l < w->m->cfg.L; l++) {
		nssm_work_set_layer(w, l);
		w->r_in = r_at(w, si, l);
		w->r_out = r_at(w, si, l + 1);
		nssm_work_layer_forward(w);
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
	m->fwd.gemm_packed(logits, V, hn, D, m->head_fwd, false, b.n, m->cfg.Vpad, m->cfg.D);
	int32_t target[BLOCK_ROWS];
	for (int i = 0; i < b.n; i++)
		target[i] = target_of(w, b.at + (size_t)i);
	if (w->logits_all != NULL)
		return;
	k->xent(w->loss + b.at, logits, V, target, w->scale, b.n, m->cfg.V, m->cfg.Vpad);
	if (w->grad == NULL)
		return;
	float *dn = w->dn + b.at * D, *dr = w->dr + b.at * D;
	m->bwd.gemm_packed(dn, D, logits, V, m->head_bwd, false, b.n, m->cfg.D, m->cfg.Vpad);
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

void nssm_work_head(struct nssm_mamba2_work *w, double *loss_sum, int64_t *n_scored)
{
	nssm_team_run(w->team, n_blocks(w), head_block, w);
	add_losses(w, loss_sum, n_scored);
}

static void lm_last_logits(struct nssm_mamba2_work *w, float *out)
{
	const struct nssm_mamba2 *m = w->m;
	size_t D = (size_t)m->cfg.D, V = (size_t)m->cfg.Vpad, T = (size_t)w->seg[w->si].T;
	for (int b = 0; b < w->B; b++) {
		const float *r = r_at(w, w->si, m->cfg.L) + ((size_t)b * T + T - 1) * D;
		m->kern->rmsnorm(w->hn, D, NULL, r, D, nssm_mamba2_norm_f(m, m->params), NORM_EPS, 1, m->cfg.D);
		m->fwd.gemm_packed(out + (size_t)b * V, V, w->hn, D, m->head_fwd, false, 1, m->cfg.Vpad, m->cfg.D);
		for (int v = m->cfg.V; v < m->cfg.Vpad; v++)
			out[(size_t)b * V + (size_t)v] = -INFINITY;
	}
}

void nssm_mamba2_forward(double *loss_sum, int64_t *n_scored, float *logits_last, float *const *state,
	const struct nssm_batch *batch, struct nssm_mamba2 *m, struct nssm_mamba2_work *w)
{
	assert(w->m == m);
	nssm_work_begin(w, batch, state, NULL, 0);
	*loss_sum = 0;
	*n_scored = 0;
	int n = nssm_work_segments(w);
	for (int si = 0; si < n; si++) {
		nssm_work_segment_forward(w, si);
		nssm_work_head(w, loss_sum, n_scored);
	}
	if (logits_last != NULL)
		lm_last_logits(w, logits_last);
	nssm_work_state(w, n, state, false);
}

void nssm_mamba2_logits(float *logits, float *const *state, const struct nssm_batch *batch, struct nssm_mamba2 *m,
	struct nssm_mamba2_work *w)
{
	assert(w->m == m);
	nssm_work_begin(w, batch, state, NULL, 0);
	w->logits_all = logits;
	size_t V = (size_t)m->cfg.Vpad;
	int n = nssm_work_segments(w);
	for (int si = 0; si < n; si++) {
		nssm_work_segment_forward(w, si);
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
	nssm_work_state(w, n, state, false);
}
