/* test_kern_ref — what `ref` itself stands on: each backward against finite differences of a forward that is
 * written here a second time, in double; known answers worked out by hand; and the identities that tie chunk,
 * step and convolution together (these for every level). */
#include "tests/kern_util.h"

static const struct nssm_kernels *ref;

static double *dbl(const float *x, int n)
{
	double *d = malloc((size_t)n * sizeof *d);
	assert_non_null(d);
	for (int i = 0; i < n; i++)
		d[i] = x[i];
	return d;
}

/* d f/d v[i] by central differences for every i, compared with grad − before. ctx holds v. */
static void expect_gradient(const char *name, const float *grad, float before, double *v, int n,
        double (*f)(const void *ctx), const void *ctx)
{
	const double h = 1e-5;
	for (int i = 0; i < n; i++) {
		double keep = v[i];
		v[i] = keep + h;
		double up = f(ctx);
		v[i] = keep - h;
		double down = f(ctx);
		v[i] = keep;
		double expected = (up - down) / (2 * h), found = (double)grad[i] - before;
		if (!(fabs(found - expected) <= 2e-5 * (1 + fabs(expected))))
			fail_msg("%s[%d]: finite difference %.9g, gradient %.9g", name, i, expected, found);
	}
}

static double sigmoid(double x)
{
	return 1 / (1 + exp(-x));
}

/* --- norms ---------------------------------------------------------------------------------------------------- */

struct norm {
	int R, D;
	double *x, *z, *w, *dy;
};

/* Σ dy·y of rmsnorm (z NULL) or gated_rmsnorm. */
static double norm_loss(const void *ctx)
{
	const struct norm *c = ctx;
	double loss = 0;
	for (int r = 0; r < c->R; r++) {
		double sum = 0;
		for (int pass = 0; pass < 2; pass++) {
			double rstd = 1 / sqrt(sum / c->D + 1e-5);
			for (int d = 0; d < c->D; d++) {
				int at = r * c->D + d;
				double g = c->x[at] * (c->z ? c->z[at] * sigmoid(c->z[at]) : 1);
				if (pass == 0)
					sum += g * g;
				else
					loss += c->dy[at] * c->w[d] * g * rstd;
			}
		}
	}
	return loss;
}

static void norm_gradients(void **state)
{
	enum { R = 3, D = 7 };
	(void)state;
	float *x = rnd(R * D, -2, 2), *z = rnd(R * D, -3, 3), *w = rnd(D, 0.5, 1.5), *dy = rnd(R * D, -1, 1);
	float *y = rnd(R * D, 0, 0), *rstd = rnd(R, 0, 0), *dx = rnd(R * D, 0.5, 0.5), *dw = rnd(D, 0.5, 0.5);
	float *dz = rnd(R * D, 0, 0);
	struct norm c = {R, D, dbl(x, R * D), NULL, dbl(w, D), dbl(dy, R * D)};

	ref->rmsnorm(y, D, rstd, x, D, w, 1e-5f, R, D);
	ref->rmsnorm_bwd(dx, D, dw, dy, D, x, D, rstd, w, R, D);
	expect_gradient("rmsnorm dx", dx, 0.5f, c.x, R * D, norm_loss, &c);
	expect_gradient("rmsnorm dw", dw, 0.5f, c.w, D, norm_loss, &c);

	c.z = dbl(z, R * D);
	for (int d = 0; d < D; d++)
		dw[d] = 0.5f;
	ref->gated_rmsnorm(y, D, rstd, x, D, z, D, w, 1e-5f, R, D);
	ref->gated_rmsnorm_bwd(dx, D, dz, D, dw, dy, D, x, D, z, D, rstd, w, R, D);
	expect_gradient("gated dy", dx, 0, c.x, R * D, norm_loss, &c);
	expect_gradient("gated dz", dz, 0, c.z, R * D, norm_loss, &c);
	expect_gradient("gated dw", dw, 0.5f, c.w, D, norm_loss, &c);
	double sum = 0;
	for (int i = 0; i < R * D; i++)
		sum += (double)dy[i] * y[i];
	assert_true(fabs(sum - norm_loss(&c)) <= 1e-4);
	free(c.x), free(c.z), free(c.w), free(c.dy);
	bufs_done();
}

/* --- convolution ---------------------------------------------------------------------------------------------- */

struct conv {
	int T, C, K;
	double *x, *tail, *w, *bias, *dy;
};

static double conv_loss(const void *ctx)
{
	const struct conv *c = ctx;
	double loss = 0;
	for (int t = 0; t < c->T; t++)
		for (int ch = 0; ch < c->C; ch++) {
			double u = c->bias[ch];
			for (int k = 0; k < c->K; k++) {
				int at = t - (c->K - 1) + k;
				double in =
				        at >= 0 ? c->x[at * c->C + ch] : c->tail[(at + c->K - 1) * c->C + ch];
				u += c->w[ch * c->K + k] * in;
			}
			loss += c->dy[t * c->C + ch] * u * sigmoid(u);
		}
	return loss;
}

static void conv_gradients(void **state)
{
	enum { T = 9, C = 3, K = 4, CUT = 5 };
	(void)state;
	float *x = rnd(T * C, -1, 1), *tail = rnd((K - 1) * C, -1, 1), *w = rnd(C * K, -1, 1),
	      *bias = rnd(C, -1, 1);
	float *dy = rnd(T * C, -1, 1), *du = rnd(T * C, 0, 0), *dx = rnd(T * C, 0, 0),
	      *dw = rnd(C * K, 0.5, 0.5);
	float *db = rnd(C, 0.5, 0.5);
	struct conv c = {
	        T, C, K, dbl(x, T * C), dbl(tail, (K - 1) * C), dbl(w, C * K), dbl(bias, C), dbl(dy, T * C)};
	ref->conv_silu_bwd_pre(du, C, dy, C, x, C, tail, C, w, bias, T, C, K);
	/* in two pieces: the first sees K-1 rows of the second, the second sees the first through its tail */
	ref->conv_bwd(dx, C, dw, db, du, C, K - 1, x, C, tail, C, w, CUT, C, K);
	ref->conv_bwd(dx + CUT * C, C, dw, db, du + CUT * C, C, 0, x + CUT * C, C, x + (CUT - (K - 1)) * C, C,
	        w, T - CUT, C, K);
	expect_gradient("conv dx", dx, 0, c.x, T * C, conv_loss, &c);
	expect_gradient("conv dw", dw, 0.5f, c.w, C * K, conv_loss, &c);
	expect_gradient("conv dbias", db, 0.5f, c.bias, C, conv_loss, &c);
	free(c.x), free(c.tail), free(c.w), free(c.bias), free(c.dy);
	bufs_done();
}

/* --- scan
 * -----------------------------------------------------------------------------------------------------------
 */

struct scan {
	int Q, P, N;
	double *x, *B, *C, *CB, *dt, *A, *S, *D, *dy, *dS;
};

/* Σ dy·Y + Σ dS·S_out from the formula, s made from dt and A here, so that a = dt·A is differentiated too. */
static double scan_loss(const void *ctx)
{
	const struct scan *c = ctx;
	double s[64], loss = 0;
	for (int i = 0; i < c->Q; i++)
		s[i] = (i ? s[i - 1] : 0) + c->dt[i] * *c->A;
	for (int p = 0; p < c->P; p++) {
		for (int i = 0; i < c->Q; i++) {
			double y = *c->D * c->x[i * c->P + p];
			for (int j = 0; j <= i; j++)
				y += c->CB[i * c->Q + j] * exp(s[i] - s[j]) * c->dt[j] * c->x[j * c->P + p];
			for (int n = 0; n < c->N; n++)
				y += exp(s[i]) * c->C[i * c->N + n] * c->S[n * c->P + p];
			loss += c->dy[i * c->P + p] * y;
		}
		for (int n = 0; n < c->N; n++) {
			double out = exp(s[c->Q - 1]) * c->S[n * c->P + p];
			for (int j = 0; j < c->Q; j++)
				out += exp(s[c->Q - 1] - s[j]) * c->dt[j] * c->x[j * c->P + p] *
				       c->B[j * c->N + n];
			loss += c->dS[n * c->P + p] * out;
		}
	}
	return loss;
}

static void scan_gradients(void **state)
{
	enum { Q = 6, P = 3, N = 4 };
	(void)state;
	for (int round = 0; round < 3; round++) {
		float *x = rnd(Q * P, -1, 1), *B = rnd(Q * N, -1, 1), *C = rnd(Q * N, -1, 1),
		      *CB = rnd(Q * Q, -1, 1);
		float *dt = rnd(Q, 0.01, round == 2 ? 3 : 0.3), *s = rnd(Q, 0, 0),
		      *S = rnd_aligned(N * P, -1, 1);
		float *dy = rnd(Q * P, -1, 1), *dS = rnd_aligned(N * P, -1, 1), A = -1.5f, D = 0.7f;
		float *dx = rnd(Q * P, 0, 0), *dB = rnd(Q * N, 0.5, 0.5), *dC = rnd(Q * N, 0.5, 0.5);
		float *dCB = rnd(Q * Q, 0.5, 0.5), *ddt = rnd(Q, 0, 0), dA = 0.5f, dD = 0.5f;
		double dA_in = A, dD_in = D;
		struct scan c = {Q, P, N, dbl(x, Q * P), dbl(B, Q * N), dbl(C, Q * N), dbl(CB, Q * Q),
		        dbl(dt, Q), &dA_in, dbl(S, N * P), &dD_in, dbl(dy, Q * P), dbl(dS, N * P)};
		for (int i = 0; i < Q; i++)
			s[i] = (i ? s[i - 1] : 0) + dt[i] * A;
		ref->ssd_chunk_bwd(dx, P, dB, dC, N, dCB, ddt, 1, &dA, &dD, dS, dy, P, S, x, P, B, N, C, N,
		        CB, dt, s, 1, A, D, Q, P, N, NULL);
		expect_gradient("scan dx", dx, 0, c.x, Q * P, scan_loss, &c);
		expect_gradient("scan dB", dB, 0.5f, c.B, Q * N, scan_loss, &c);
		expect_gradient("scan dC", dC, 0.5f, c.C, Q * N, scan_loss, &c);
		expect_gradient("scan dCB", dCB, 0.5f, c.CB, Q * Q, scan_loss, &c);
		expect_gradient("scan ddt", ddt, 0, c.dt, Q, scan_loss, &c);
		expect_gradient("scan dA", &dA, 0.5f, c.A, 1, scan_loss, &c);
		expect_gradient("scan dDskip", &dD, 0.5f, c.D, 1, scan_loss, &c);
		expect_gradient("scan dS_in", dS, 0, c.S, N * P, scan_loss, &c);
		free(c.x), free(c.B), free(c.C), free(c.CB), free(c.dt), free(c.S), free(c.dy), free(c.dS);
		bufs_done();
	}
}

/* --- softplus, cross-entropy ---------------------------------------------------------------------------------- */

struct rows {
	int R, V;
	double *v, *g;
	const int32_t *target;
};

static double softplus_loss(const void *ctx)
{
	const struct rows *c = ctx;
	double loss = 0;
	for (int i = 0; i < c->R * c->V; i++)
		loss += c->g[i] * log1p(exp(c->v[i] + 0.25));
	return loss;
}

static double xent_loss(const void *ctx)
{
	const struct rows *c = ctx;
	double loss = 0;
	for (int r = 0; r < c->R; r++) {
		double sum = 0;
		for (int v = 0; v < c->V; v++)
			sum += exp(c->v[r * c->V + v]);
		if (c->target[r] >= 0)
			loss += 0.3 * (log(sum) - c->v[r * c->V + c->target[r]]);
	}
	return loss;
}

static void softplus_and_xent_gradients(void **state)
{
	enum { R = 4, V = 6 };
	(void)state;
	static const int32_t target[R] = {0, 5, -1, 2};
	float *v = rnd(R * V, -4, 4), *g = rnd(R * V, -1, 1), *draw = rnd(R * V, 0, 0), *db = rnd(V, 0, 0);
	float *bias = rnd(V, 0.25, 0.25), *loss = rnd(R, 0, 0);
	struct rows c = {R, V, dbl(v, R * V), dbl(g, R * V), target};
	ref->softplus_bwd(draw, V, db, g, v, V, bias, R, V);
	expect_gradient("softplus draw", draw, 0, c.v, R * V, softplus_loss, &c);
	for (int h = 0; h < V; h++) {
		double sum = 0;
		for (int r = 0; r < R; r++)
			sum += draw[r * V + h];
		assert_true(fabs(sum - db[h]) <= 1e-6);
	}
	ref->xent(loss, v, V, target, 0.3f, R, V, V);
	expect_gradient("xent dlogits", v, 0, c.v, R * V, xent_loss, &c);
	double sum = 0;
	for (int r = 0; r < R; r++)
		sum += 0.3 * loss[r];
	assert_true(fabs(sum - xent_loss(&c)) <= 1e-5);
	free(c.v), free(c.g);
	bufs_done();
}

/* --- known answers, every level ------------------------------------------------------------------------------- */

static void near(const char *name, double found, double expected)
{
	if (!(fabs(found - expected) <= 2e-6 * (1 + fabs(expected))))
		fail_msg("%s: %s: expected %.9g, found %.9g", what, name, expected, found);
}

static void known(const struct nssm_kernels *k)
{
	_Alignas(64) float scratch[4096], S[2] = {10, 20};
	float C[4] = {1, 1, 1, 1}, y[4], rstd, loss[3];

	/* (1 2; 3 4)·(5 6; 7 8) */
	k->gemm(C, 2, (float[]){1, 2, 3, 4}, 2, false, (float[]){5, 6, 7, 8}, 2, false, true, 2, 2, 2,
	        scratch);
	near("gemm", C[0], 20), near("gemm", C[1], 23), near("gemm", C[2], 44), near("gemm", C[3], 51);

	/* mean of squares 12.5 */
	k->rmsnorm(y, 2, &rstd, (float[]){3, 4}, 2, (float[]){1, 2}, 0, 1, 2);
	near("rstd", rstd, 1 / sqrt(12.5)), near("rmsnorm", y[0], 3 / sqrt(12.5)),
	        near("rmsnorm", y[1], 8 / sqrt(12.5));

	/* silu(ln 3) = ln 3·3/4; a gate of equal values leaves ±1 */
	k->gated_rmsnorm(
	        y, 2, &rstd, (float[]){1, -1}, 2, (float[]){logf(3), logf(3)}, 2, (float[]){1, 1}, 0, 1, 2);
	near("gate", 1 / rstd, log(3) * 0.75), near("gated", y[0], 1), near("gated", y[1], -1);

	/* u = 0.5 + 2·1 + 3·x: the last tap sees the current row */
	k->conv_silu(y, 1, (float[]){2}, 1, (float[]){1}, 1, (float[]){2, 3}, (float[]){0.5f}, 1, 1, 2);
	near("conv", y[0], 8.5 / (1 + exp(-8.5)));

	/* softplus(0) = ln 2, above 20 the identity, far below e^x; A = -e^0 */
	float dt[5], s[5];
	k->ssd_dt(dt, s, (float[]){0, 19.999f, 21, -80, 1e4f}, 1, (float[]){0}, (float[]){0}, 5, 1);
	near("softplus", dt[0], log(2)), near("softplus", dt[1], 19.999 + exp(-19.999)),
	        near("softplus", dt[2], 21);
	near("softplus", dt[3] * 1e35, exp(-80) * 1e35), near("softplus", dt[4], 1e4);
	near("s", s[2], -(log(2) + 19.999 + 21));

	/* Q=1 P=2 N=1: dt=2, s=ln(1/2): y = CB·2·x + C·S/2 + D·x; S = S/2 + 2·x·B */
	k->ssd_chunk(y, 2, S, (float[]){1, 3}, 2, (float[]){5}, 1, (float[]){7}, 1, (float[]){35},
	        (float[]){2}, (float[]){logf(0.5f)}, 1, 0.5f, 1, 2, 1, scratch);
	near("chunk", y[0], 70 + 35 + 0.5), near("chunk", y[1], 210 + 70 + 1.5);
	near("state", S[0], 5 + 10), near("state", S[1], 10 + 30);

	/* uniform: ln 4; target −1: nothing; far apart: 0 and 2·10^4 */
	float logits[3 * 4] = {7, 7, 7, 7, 1, 2, 3, 4, 1e4f, -1e4f, -1e4f, -1e4f};
	k->xent(loss, logits, 4, (int32_t[]){1, -1, 1}, 4, 3, 4, 4);
	near("xent", loss[0], log(4)), near("xent", loss[1], 0), near("xent", loss[2], 2e4);
	near("dxent", logits[0], 1), near("dxent", logits[1], -3), near("dxent", logits[5], 0);
	near("dxent", logits[8], 4), near("dxent", logits[9], -4), near("dxent", logits[10], 0);

	/* first step: m/c1 = g, sqrt(v/c2) = |g| */
	float p = 1, m = 0, v = 0;
	k->adamw(&p, &m, &v, (float[]){-8}, 0.5f, 0.1f, 0.9f, 0.99f, 0, 0.5f, 0.1f, 0.01f, 1);
	near("adamw m", m, -0.4), near("adamw v", v, 0.16), near("adamw p", p, 1 - 0.1 * (-1 + 0.5));
	assert_true(k->sumsq((float[]){1e20f, 3}, 2) > 0.99e40);
}

/* --- identities, every level ---------------------------------------------------------------------------------- */

/* One chunk of 32 = two of 16 = 32 steps: outputs and state, two heads, from a state that is not zero. */
static void chunk_is_steps(const struct nssm_kernels *k)
{
	enum { T = 32, H = 2, P = 20, N = 18 };
	float *x = rnd(T * H * P, -1, 1), *B = rnd(T * N, -1, 1), *C = rnd(T * N, -1, 1),
	      *raw = rnd(T * H, -4, 1);
	float *bias = rnd(H, -1, 1), *A_log = rnd(H, 0, 2), *D = rnd(H, -1, 1),
	      *S0 = rnd_aligned(H * N * P, -1, 1);
	float *mag = rnd_aligned(H * N * P, 10, 10), *ymag = rnd(T * H * P, 40, 40);
	float *Ss[3], *ys[3];
	for (int way = 0; way < 3; way++) {
		Ss[way] = copy_of(S0), ys[way] = rnd(T * H * P, 0, 0);
		int Q = way == 0 ? 32 : 16;
		if (way == 2) {
			for (int t = 0; t < T; t++)
				k->ssm_step(ys[2] + t * H * P, Ss[2], x + t * H * P, B + t * N, C + t * N,
				        raw + t * H, bias, A_log, D, H, P, N);
			break;
		}
		float *dt = rnd((size_t)Q * H, 0, 0), *s = rnd((size_t)Q * H, 0, 0),
		      *CB = rnd((size_t)Q * Q, 0, 0);
		float *gs = scratch_of(k->gemm_scratch_floats(Q, Q, N)),
		      *scratch = scratch_of(k->ssd_scratch_floats(Q, P, N));
		for (int t = 0; t < T; t += Q) {
			k->ssd_dt(dt, s, raw + t * H, H, bias, A_log, Q, H);
			k->gemm(CB, (size_t)Q, C + t * N, N, false, B + t * N, N, true, false, Q, Q, N, gs);
			for (int h = 0; h < H; h++)
				k->ssd_chunk(ys[way] + (t * H + h) * P, H * P, Ss[way] + h * N * P,
				        x + (t * H + h) * P, H * P, B + t * N, N, C + t * N, N, CB, dt + h,
				        s + h, H, D[h], Q, P, N, scratch);
		}
	}
	expect_close("two chunks: y", ys[1], ys[0], ymag, 1e-6);
	expect_close("two chunks: S", Ss[1], Ss[0], mag, 1e-6);
	expect_close("steps: y", ys[2], ys[0], ymag, 1e-6);
	expect_close("steps: S", Ss[2], Ss[0], mag, 1e-6);
	bufs_done();
}

static void every_level(void **state)
{
	(void)state;
	for (const struct nssm_kernels *const *k = nssm_kernels_list(); *k; k++) {
		snprintf(what, sizeof what, "%s", (*k)->name);
		known(*k);
		chunk_is_steps(*k);
	}
}

static int setup(void **state)
{
	(void)state;
	print_message("seed %d\n", SEED);
	nssm_rng_init(&rng, SEED, 0, NSSM_RNG_INIT);
	ref = nssm_kernels_get("ref");
	return ref ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(norm_gradients), cmocka_unit_test(conv_gradients),
	        cmocka_unit_test(scan_gradients), cmocka_unit_test(softplus_and_xent_gradients),
	        cmocka_unit_test(every_level)};
	return cmocka_run_group_tests_name("kern_ref", tests, setup, NULL);
}
