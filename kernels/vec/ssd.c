/* ssd — the chunk as small matrix products; the derivation of the gradient stands in kernels/ref/ssd.c.
 * Dskip·x_i is the diagonal of M: Y = (M + Dskip·I)·X + …, and dx = (M + Dskip·I)ᵀ·dY + … */
#include "kernels/vec/vmath.h"

#include <assert.h>

static int round_up(int n)
{
	return (n + VL - 1) / VL * VL;
}

void VEC(ssd_dt)(float *dt, float *s, const float *raw, size_t ldraw, const float *dt_bias,
        const float *A_log, int Q, int H)
{
	assert(Q <= NSSM_CHUNK_MAX);
	for (int h = 0; h < H; h += VL) {
		int n = H - h;
		vf A = -vexp(load_n(A_log + h, n)), bias = load_n(dt_bias + h, n), sum = {0};
		for (int j = 0; j < Q; j++) {
			vf d = vsoftplus(load_n(raw + (size_t)j * ldraw + h, n) + bias);
			sum += d * A;
			store_n(dt + (size_t)j * H + h, d, n);
			store_n(s + (size_t)j * H + h, sum, n);
		}
	}
}

void VEC(softplus_bwd)(float *draw, size_t lddraw, float *dbias, const float *ddt, const float *raw,
        size_t ldraw, const float *dt_bias, int Q, int H)
{
	for (int h = 0; h < H; h += VL) {
		int n = H - h;
		vf bias = load_n(dt_bias + h, n), sum = {0};
		for (int j = 0; j < Q; j++) {
			vf v = load_n(raw + (size_t)j * ldraw + h, n) + bias;
			vf d = load_n(ddt + (size_t)j * H + h, n) * pick(v > 20.0f, splat(1), vsigmoid(v));
			store_n(draw + (size_t)j * lddraw + h, d, n);
			sum += d;
		}
		store_n(dbias + h, load_n(dbias + h, n) + sum, n);
	}
}

/* --- one head, one chunk -------------------------------------------------------------------------------------- */

enum { BLOCKS_MAX = NSSM_CHUNK_MAX / NSSM_VL };

/* What both directions need of a head's dt and s, as contiguous rows padded with zeros.
 * L_ij = e^{s_i−s_j} is wanted for all j <= i: Q²/2 exponentials. Columns are taken VL at a time; with m the last of a
 * block's, a row i behind the block has L_ij = e^{s_i−s_m}·e^{s_m−s_j}: both exponents are <= 0 (s falls), so neither
 * factor overflows, and where their product underflows L does. That leaves exponentials for Q·VL elements on the
 * diagonal and Q²/(2·VL) factors: 74 vectors of them instead of 160 for Q 64, 376 instead of 2176 for Q 256. */
struct decay {
	_Alignas(64) float dt[NSSM_CHUNK_MAX], s[NSSM_CHUNK_MAX];
	_Alignas(64) float in[NSSM_CHUNK_MAX];  /* e^{s_i}: from the state before the chunk to row i */
	_Alignas(64) float out[NSSM_CHUNK_MAX]; /* e^{s_Q−s_j}: from row j to the state after the chunk */
	_Alignas(64) float to_end[NSSM_CHUNK_MAX];              /* e^{s_m−s_j}·dt_j, m the last of j's block */
	_Alignas(64) float from_end[BLOCKS_MAX][NSSM_CHUNK_MAX]; /* [block][i] e^{s_i−s_m}, i behind the block */
	float whole;                                            /* e^{s_Q} */
};

_Static_assert(NSSM_CHUNK_MAX % NSSM_VL == 0, "whole vectors");

static void decay_of(struct decay *d, const float *dt, const float *s, size_t lds, int Q)
{
	assert(Q >= 1 && Q <= NSSM_CHUNK_MAX);
	int padded = round_up(Q);
	for (int i = 0; i < padded; i++) {
		d->dt[i] = i < Q ? dt[i * lds] : 0;
		d->s[i] = i < Q ? s[i * lds] : 0;
	}
	float s_Q = d->s[Q - 1];
	for (int i = 0; i < padded; i += VL) {
		vf v = load(d->s + i);
		store(d->in + i, vexp(v));
		store(d->out + i, vexp(s_Q - v));
		float s_m = d->s[i + VL <= Q ? i + VL - 1 : Q - 1];
		store(d->to_end + i, vexp(s_m - v) * load(d->dt + i));
		for (int k = i + VL; k < padded; k += VL)
			store(d->from_end[i / VL] + k, vexp(load(d->s + k) - s_m));
	}
	d->whole = d->in[Q - 1];
}

/* dst [Q,N] = f_i · src_i; g NULL or a second factor. */
static void scale_rows(float *dst, const float *src, size_t lds, const float *f, const float *g, int Q, int N)
{
	for (int i = 0; i < Q; i++) {
		float factor = g ? f[i] * g[i] : f[i];
		for (int n = 0; n < N; n += VL)
			store_n(dst + (size_t)i * N + n, load_n(src + (size_t)i * lds + n, N - n) * factor,
			        N - n);
	}
}

/* L_ij·dt_j of row i, columns j .. j+VL−1, 0 above the diagonal. */
INLINE vf decay_row(const struct decay *d, int i, int j)
{
	if (j + VL <= i)
		return d->from_end[j / VL][i] * load(d->to_end + j);
	return pick(lane_numbers() <= i - j, vexp(d->s[i] - load(d->s + j)) * load(d->dt + j), splat(0));
}

/* Columns of a row of M that products read: up to its own, in whole blocks, and zeros where the rows of one tile need
 * more. */
static void zeros(float *m, int from, int to)
{
	for (int j = from; j < to; j += VL)
		store(m + j, splat(0));
}

static void scale(float *S, float factor, size_t n)
{
	for (size_t i = 0; i < n; i++)
		S[i] *= factor;
}

size_t VEC(ssd_scratch_floats)(int Q, int P, int N)
{
	size_t q = (size_t)round_up(Q), n = (size_t)round_up(N), p = (size_t)P;
	size_t forward = q * q + q * n;
	size_t backward = 2 * q * q + p * q + p * n + 2 * q * n;
	return forward > backward ? forward : backward;
}

void VEC(ssd_chunk)(float *y, size_t ldy, float *S, const float *x, size_t ldx, const float *Bm, size_t ldb,
        const float *Cm, size_t ldc, const float *CB, const float *dt, const float *s, size_t lds,
        float Dskip, int Q, int P, int N, float *scratch)
{
	int ldm = round_up(Q);
	float *M = scratch, *rows = M + (size_t)Q * ldm;
	struct decay d;
	decay_of(&d, dt, s, lds, Q);

	for (int i = 0; i < Q; i++) {
		float *m = M + (size_t)i * ldm;
		int j = 0;
		for (; j <= i; j += VL)
			store(m + j, load_n(CB + (size_t)i * Q + j, Q - j) * decay_row(&d, i, j));
		m[i] += Dskip;
		zeros(m, j, ldm);
	}
	VEC(gemm_in_place)(y, ldy, M, (size_t)ldm, 1, x, ldx, false, Q, P, Q, VEC_K_UP_TO_ROW);
	scale_rows(rows, Cm, ldc, d.in, NULL, Q, N);
	VEC(gemm_in_place)(y, ldy, rows, (size_t)N, 1, S, (size_t)P, true, Q, P, N, VEC_ALL);

	scale(S, d.whole, (size_t)N * P);
	scale_rows(rows, Bm, ldb, d.out, d.dt, Q, N);
	VEC(gemm_in_place)(S, (size_t)P, rows, 1, (size_t)N, x, ldx, true, N, P, Q, VEC_ALL);
}

/* M + Dskip·I from dM, adding what goes to dCB, and, below the diagonal (where it cancels), the sums of W over rows and
 * columns. */
static void inside_chunk(float *M, float *dCB, float *row_sum, float *column_sum, const float *dM, int ldm, const float *CB,
        const struct decay *d, float Dskip, int Q)
{
	for (int i = 0; i < Q; i++) {
		float *m = M + (size_t)i * ldm;
		vf sum = {0};
		int j = 0;
		for (; j <= i; j += VL) {
			size_t at = (size_t)i * Q + j;
			int n = Q - j;
			vf Ldt = decay_row(d, i, j), v = load_n(CB + at, n) * Ldt;
			/* dM above the diagonal is not all made: what lies there may be a NaN. */
			vf g = pick(lane_numbers() <= i - j, load(dM + (size_t)i * ldm + j), splat(0));
			vf W = pick(lane_numbers() < i - j, g * v, splat(0));
			store_n(dCB + at, load_n(dCB + at, n) + g * Ldt, n);
			store(m + j, v);
			sum += W;
			store(column_sum + j, load(column_sum + j) + W);
		}
		row_sum[i] = hsum(sum);
		m[i] += Dskip;
		zeros(m, j, ldm);
	}
}

/* dst_i += f_i·src_i, and returns in dot[i] = src_i·with_i; src [Q] rows of stride lds. */
static void add_rows(float *dst, size_t ldd, float *dot, const float *src, size_t lds, const float *with,
        size_t ldw, const float *f, const float *g, int Q, int N)
{
	for (int i = 0; i < Q; i++) {
		float factor = g ? f[i] * g[i] : f[i];
		vf sum = {0};
		for (int n = 0; n < N; n += VL) {
			int left = N - n;
			float *out = dst + (size_t)i * ldd + n;
			vf v = load_n(src + (size_t)i * lds + n, left);
			sum += v * load_n(with + (size_t)i * ldw + n, left);
			store_n(out, load_n(out, left) + v * factor, left);
		}
		dot[i] = hsum(sum);
	}
}

static float dot_of(const float *a, const float *b, size_t n)
{
	vf sum = {0};
	for (size_t i = 0; i < n; i += VL) {
		int left = n - i < VL ? (int)(n - i) : VL;
		sum += load_n(a + i, left) * load_n(b + i, left);
	}
	return hsum(sum);
}

/* W_ij = dM_ij·M_ij has dt_j as a factor, so the direct part of ddt_j is column j's sum over dt_j, and the diagonal. dt_j
 * 0 (its raw value below −100) has none from there: softplus is flat. */
void VEC(ssd_chunk_bwd)(float *dx, size_t lddx, float *dBm, float *dCm, size_t lddbc, float *dCB, float *ddt,
        size_t lddt, float *dA, float *dDskip, float *dS, const float *dy, size_t lddy, const float *S_in,
        const float *x, size_t ldx, const float *Bm, size_t ldb, const float *Cm, size_t ldc, const float *CB,
        const float *dt, const float *s, size_t lds, float A, float Dskip, int Q, int P, int N,
        float *scratch)
{
	int ldm = round_up(Q), ldn = round_up(N);
	float *M = scratch, *dM = M + (size_t)Q * ldm, *xt = dM + (size_t)Q * ldm, *St = xt + (size_t)P * ldm;
	float *prod = St + (size_t)P * ldn, *rows = prod + (size_t)Q * ldn;
	_Alignas(64) float ds[NSSM_CHUNK_MAX], columns[NSSM_CHUNK_MAX] = {0}, direct[NSSM_CHUNK_MAX], dot[NSSM_CHUNK_MAX];
	struct decay d;
	decay_of(&d, dt, s, lds, Q);

	/* inside the chunk */
	VEC(transpose)(xt, (size_t)ldm, x, ldx, Q, P, ldm);
	VEC(gemm_in_place)
	(dM, (size_t)ldm, dy, lddy, 1, xt, (size_t)ldm, false, Q, ldm, P, VEC_COLS_UP_TO_ROW);
	inside_chunk(M, dCB, ds, columns, dM, ldm, CB, &d, Dskip, Q);
	VEC(gemm_in_place)(dx, lddx, M, 1, (size_t)ldm, dy, lddy, false, Q, P, Q, VEC_K_FROM_ROW);

	/* from the state before */
	VEC(transpose)(St, (size_t)ldn, S_in, (size_t)P, N, P, ldn);
	VEC(gemm_in_place)(prod, (size_t)ldn, dy, lddy, 1, St, (size_t)ldn, false, Q, ldn, P, VEC_ALL);
	add_rows(dCm, lddbc, dot, prod, (size_t)ldn, Cm, ldc, d.in, NULL, Q, N);
	for (int i = 0; i < Q; i++)
		ds[i] += d.in[i] * dot[i];

	/* to the state after */
	VEC(transpose)(St, (size_t)ldn, dS, (size_t)P, N, P, ldn);
	VEC(gemm_in_place)(prod, (size_t)ldn, x, ldx, 1, St, (size_t)ldn, false, Q, ldn, P, VEC_ALL);
	add_rows(dBm, lddbc, dot, prod, (size_t)ldn, Bm, ldb, d.out, d.dt, Q, N);
	double total = (double)d.whole * dot_of(dS, S_in, (size_t)N * P), skip = 0;
	for (int j = 0; j < Q; j++) {
		float u = d.out[j] * dot[j], dM_jj = dM[(size_t)j * ldm + j];
		total += u * d.dt[j];
		skip += dM_jj;
		ds[j] -= columns[j] + u * d.dt[j];
		direct[j] = (d.dt[j] > 0 ? columns[j] / d.dt[j] : 0) + dM_jj * CB[(size_t)j * Q + j] + u;
	}
	*dDskip += (float)skip;
	scale_rows(rows, Bm, ldb, d.out, d.dt, Q, N);
	VEC(gemm_in_place)(dx, lddx, rows, (size_t)N, 1, dS, (size_t)P, true, Q, P, N, VEC_ALL);
	scale(dS, d.whole, (size_t)N * P);
	scale_rows(rows, Cm, ldc, d.in, NULL, Q, N);
	VEC(gemm_in_place)(dS, (size_t)P, rows, 1, (size_t)N, dy, lddy, true, N, P, Q, VEC_ALL);

	/* a = dt·A, s its running sum */
	double da = total, dA_sum = 0;
	for (int t = Q - 1; t >= 0; t--) {
		da += ds[t];
		ddt[t * lddt] = (float)(direct[t] + da * A);
		dA_sum += da * d.dt[t];
	}
	*dA += (float)dA_sum;
}

/* --- one token ------------------------------------------------------------------------------------------------ */

/* nv vectors of one head's P; the last one has n_last floats. */
INLINE void step_columns(float *y, float *S, const float *x, const float *Bm, const float *Cm, float dt,
        float decay, float Dskip, int P, int N, const int nv, int n_last)
{
	vf sum[4], xs[4], xdt[4];
	UNROLL
	for (int v = 0; v < nv; v++) {
		xs[v] = load_n(x + v * VL, v == nv - 1 ? n_last : VL);
		xdt[v] = xs[v] * dt;
		sum[v] = splat(0);
	}
	for (int n = 0; n < N; n++, S += P) {
		vf b = in_register(splat(Bm[n])), c = in_register(splat(Cm[n]));
		UNROLL
		for (int v = 0; v < nv; v++) {
			int left = v == nv - 1 ? n_last : VL;
			vf e = decay * load_n(S + v * VL, left) + xdt[v] * b;
			store_n(S + v * VL, e, left);
			sum[v] += c * e;
		}
	}
	UNROLL
	for (int v = 0; v < nv; v++)
		store_n(y + v * VL, sum[v] + Dskip * xs[v], v == nv - 1 ? n_last : VL);
}

void VEC(ssm_step)(float *y, float *S, const float *x, const float *Bm, const float *Cm, const float *dt_raw,
        const float *dt_bias, const float *A_log, const float *Dskip, int H, int P, int N)
{
	for (int h0 = 0; h0 < H; h0 += VL) {
		int heads = H - h0;
		vf dt = vsoftplus(load_n(dt_raw + h0, heads) + load_n(dt_bias + h0, heads));
		vf decay = vexp(dt * -vexp(load_n(A_log + h0, heads)));
		for (int l = 0; l < VL && l < heads; l++) {
			size_t h = (size_t)(h0 + l);
			float *Sh = S + h * N * P, *yh = y + h * P;
			const float *xh = x + h * P;
			int p = 0;
			for (; p + 4 * VL <= P; p += 4 * VL)
				step_columns(yh + p, Sh + p, xh + p, Bm, Cm, dt[l], decay[l], Dskip[h], P, N,
				        4, VL);
			for (; p < P; p += VL)
				step_columns(yh + p, Sh + p, xh + p, Bm, Cm, dt[l], decay[l], Dskip[h], P, N,
				        1, P - p);
		}
	}
}
