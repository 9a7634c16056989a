/* kern_check — every level that this CPU has x every operation x awkward shapes against `ref`; gemm against a
 * sum in double. Tolerances are multiples of float's epsilon times the sum of magnitudes where an operation
 * sums. */
#include "tests/kern_util.h"

#define EPS 1.2e-7

static const struct nssm_kernels *ref;

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* --- matrix product ------------------------------------------------------------------------------------------- */

static void expect_product(const char *name, const float *C, size_t ldc, const float *C0, const float *A,
        size_t a_row, size_t a_col, const float *B, size_t b_row, size_t b_col, int M, int N, int K)
{
	for (int i = 0; i < M; i++)
		for (size_t j = 0; j < ldc; j++) {
			size_t at = (size_t)i * ldc + j;
			if (j >= (size_t)N) {
				assert_true(C[at] == C0[at]);
				continue;
			}
			double sum = 0, mag = 0;
			for (int k = 0; k < K; k++) {
				double term = (double)A[i * a_row + k * a_col] * B[k * b_row + j * b_col];
				sum += term;
				mag += fabs(term);
			}
			bool add = strstr(name, "+=") != NULL;
			sum += add ? (double)C0[at] : 0;
			mag += add ? fabs((double)C0[at]) : 0;
			/* K sequential roundings at worst; random signs give far less */
			if (!(fabs(C[at] - sum) <= (4 + sqrt(K)) * EPS * mag))
				fail_msg("%s: %s M=%d N=%d K=%d at (%d,%zu): expected %.9g, found %.9g", what,
				        name, M, N, K, i, j, sum, (double)C[at]);
		}
}

static void gemm_shape(const struct nssm_kernels *k, int M, int N, int K)
{
	size_t lda = (size_t)K + 3, ldat = (size_t)M + 1, ldb = (size_t)N + 2, ldbt = (size_t)K + 5,
	       ldc = (size_t)N + 1;
	float *A = rnd((size_t)M * lda, -1, 1), *At = rnd((size_t)K * ldat, -1, 1);
	float *B = rnd((size_t)K * ldb, -1, 1), *Bt = rnd((size_t)N * ldbt, -1, 1);
	float *C0 = rnd((size_t)M * ldc, -1, 1), *scratch = scratch_of(k->gemm_scratch_floats(M, N, K));
	/* every second mode, so that shapes take turns with = and +=: half the time, the same coverage */
	for (int mode = (M + N + K) % 2; mode < 12; mode += 2) {
		bool add = mode & 1, bt = mode & 2, packed = mode >= 8, at = !packed && (mode & 4);
		char name[64];
		float *C = copy_of(C0);
		snprintf(name, sizeof name, "%s C%s%s*%s", packed ? "gemm_packed" : "gemm", add ? "+=" : "=",
		        at ? "At" : "A", bt ? "Bt" : "B");
		if (packed) {
			float *P = scratch_of(k->pack_floats(K, N));
			k->pack(P, bt ? Bt : B, bt ? ldbt : ldb, bt, K, N);
			k->gemm_packed(C, ldc, A, lda, P, add, M, N, K);
		} else {
			k->gemm(C, ldc, at ? At : A, at ? ldat : lda, at, bt ? Bt : B, bt ? ldbt : ldb, bt,
			        add, M, N, K, scratch);
		}
		expect_product(name, C, ldc, C0, at ? At : A, at ? 1 : lda, at ? ldat : 1, bt ? Bt : B,
		        bt ? 1 : ldb, bt ? ldbt : 1, M, N, K);
	}
	bufs_done();
}

static void gemm(const struct nssm_kernels *k)
{
	static const int Ms[] = {1, 2, 7, 17, 70}, Ns[] = {1, 5, 16, 31, 33, 272, 520},
	                 Ks[] = {1, 15, 16, 17, 255, 256, 257, 300};
	for (int m = 0; m < COUNT(Ms); m++)
		for (int n = 0; n < COUNT(Ns); n++)
			for (int l = 0; l < COUNT(Ks); l++)
				if (Ms[m] != 70 || Ks[l] == 17 || Ks[l] == 300)
					gemm_shape(k, Ms[m], Ns[n], Ks[l]);
}

/* A row alone, and columns under another N, have the bits they have among others. */
static void gemm_rows(const struct nssm_kernels *k)
{
	enum { M = 17, N = 83, K = 600 };
	float *A = rnd(M * K, -1, 1), *B = rnd(K * N, -1, 1), *P = scratch_of(k->pack_floats(K, N));
	float *C = rnd(M * N, 0, 1), *one = rnd(N, 0, 1), *part = rnd(M * 37, 0, 1);
	float *T = rnd(K * M, 0, 1), *Ct = rnd(M * N, 0, 1),
	      *scratch = scratch_of(k->gemm_scratch_floats(M, N, K));
	k->pack(P, B, N, false, K, N);
	k->gemm_packed(C, N, A, K, P, false, M, N, K);
	for (int i = 0; i < M; i++) {
		k->gemm_packed(one, N, A + i * K, K, P, false, 1, N, K);
		expect_same_bits("row alone", one, C + i * N, N);
	}
	k->pack(P, B, N, false, K, 37);
	k->gemm_packed(part, 37, A, K, P, false, M, 37, K);
	for (int i = 0; i < M; i++)
		expect_same_bits("columns of a narrower B", part + i * 37, C + i * N, 37);
	for (int i = 0; i < M; i++)
		for (int l = 0; l < K; l++)
			T[l * M + i] = A[i * K + l];
	k->gemm(Ct, N, T, M, true, B, N, false, false, M, N, K, scratch);
	expect_same_bits("A stored transposed", Ct, C, M * N);
	bufs_done();
}

/* --- matrix product, operands rounded to bfloat16 ---------------------------------------------------------------- */

/* By another way than the kernels': the neighbour below is the value cut off, the nearer of the two is taken. */
static float nearest_bf16(float x)
{
	uint32_t bits;
	float below, above;
	memcpy(&bits, &x, sizeof bits);
	bits &= 0xffff0000u;
	memcpy(&below, &bits, sizeof below);
	bits += 0x10000;
	memcpy(&above, &bits, sizeof above);
	double to_below = fabs((double)x - below), to_above = fabs((double)above - x);
	if (to_below == to_above)
		return bits & 0x10000 ? below : above; /* bits is above's: even is the one whose last bit is 0 */
	return to_below < to_above ? below : above;
}

static float *rounded_copy(const float *src)
{
	float *p = copy_of(src);
	for (size_t i = 0; i < size_of(p); i++)
		p[i] = nearest_bf16(p[i]);
	return p;
}

static void bf16_shape(const struct nssm_kernels *k, int M, int N, int K)
{
	size_t lda = (size_t)K + 3, ldat = (size_t)M + 1, ldb = (size_t)N + 2, ldbt = (size_t)K + 5,
	       ldc = (size_t)N + 1;
	float *A = rnd((size_t)M * lda, -1, 1), *At = rnd((size_t)K * ldat, -1, 1);
	float *B = rnd((size_t)K * ldb, -1, 1), *Bt = rnd((size_t)N * ldbt, -1, 1);
	/* halves, to be rounded to even */
	for (int i = 0; i < K && i < 8; i++) {
		A[i] = 1 + (float)(2 * i + 1) / 256;
		Bt[i] = -1 - (float)(2 * i + 1) / 256;
	}
	float *rA = rounded_copy(A), *rAt = rounded_copy(At), *rB = rounded_copy(B), *rBt = rounded_copy(Bt);
	float *C0 = rnd((size_t)M * ldc, -1, 1), *scratch = scratch_of(k->bf16_gemm_scratch_floats(M, N, K));
	for (int mode = (M + N + K) % 2; mode < 12; mode += 2) {
		bool add = mode & 1, bt = mode & 2, packed = mode >= 8, at = !packed && (mode & 4);
		char name[64];
		float *C = copy_of(C0);
		snprintf(name, sizeof name, "%s C%s%s*%s", packed ? "bf16_gemm_packed" : "bf16_gemm",
		        add ? "+=" : "=", at ? "At" : "A", bt ? "Bt" : "B");
		if (packed) {
			float *P = scratch_of(k->bf16_pack_floats(K, N));
			k->bf16_pack(P, bt ? Bt : B, bt ? ldbt : ldb, bt, K, N);
			k->bf16_gemm_packed(C, ldc, A, lda, P, add, M, N, K);
		} else {
			k->bf16_gemm(C, ldc, at ? At : A, at ? ldat : lda, at, bt ? Bt : B, bt ? ldbt : ldb, bt,
			        add, M, N, K, scratch);
		}
		expect_product(name, C, ldc, C0, at ? rAt : rA, at ? 1 : lda, at ? ldat : 1, bt ? rBt : rB,
		        bt ? 1 : ldb, bt ? ldbt : 1, M, N, K);
	}
	bufs_done();
}

static void bf16(const struct nssm_kernels *k)
{
	static const int Ms[] = {1, 2, 7, 17, 70}, Ns[] = {1, 5, 16, 31, 33, 49, 272, 1100},
	                 Ks[] = {1, 2, 15, 17, 255, 256, 257, 300};
	for (int m = 0; m < COUNT(Ms); m++)
		for (int n = 0; n < COUNT(Ns); n++)
			for (int l = 0; l < COUNT(Ks); l++)
				if ((Ms[m] != 70 && Ns[n] != 1100) || Ks[l] == 17 || Ks[l] == 300)
					bf16_shape(k, Ms[m], Ns[n], Ks[l]);
	bf16_shape(k, 9, 40, 1031);
}

static void bf16_rows(const struct nssm_kernels *k)
{
	enum { M = 37, N = 83, K = 601 };
	float *A = rnd(M * K, -1, 1), *B = rnd(K * N, -1, 1), *P = scratch_of(k->bf16_pack_floats(K, N));
	float *C = rnd(M * N, 0, 1), *one = rnd(N, 0, 1), *part = rnd(M * 37, 0, 1);
	float *T = rnd(K * M, 0, 1), *Ct = rnd(M * N, 0, 1),
	      *scratch = scratch_of(k->bf16_gemm_scratch_floats(M, N, K));
	k->bf16_pack(P, B, N, false, K, N);
	k->bf16_gemm_packed(C, N, A, K, P, false, M, N, K);
	for (int i = 0; i < M; i++) {
		k->bf16_gemm_packed(one, N, A + i * K, K, P, false, 1, N, K);
		expect_same_bits("row alone", one, C + i * N, N);
	}
	k->bf16_pack(P, B, N, false, K, 37);
	k->bf16_gemm_packed(part, 37, A, K, P, false, M, 37, K);
	for (int i = 0; i < M; i++)
		expect_same_bits("columns of a narrower B", part + i * 37, C + i * N, 37);
	for (int i = 0; i < M; i++)
		for (int l = 0; l < K; l++)
			T[l * M + i] = A[i * K + l];
	k->bf16_gemm(Ct, N, T, M, true, B, N, false, false, M, N, K, scratch);
	expect_same_bits("A stored transposed", Ct, C, M * N);
	bufs_done();
}

/* --- matrix product, operands rounded to 8 bits ----------------------------------------------------------------- */

/* Halves of whole numbers up to 127, one of them 127, times a power of two: the scale is that power, so every level
 * must quantise alike, halves to even. n elements that lie `step` apart. */
static void make_halves(float *x, size_t step, int n, double unit)
{
	for (int k = 0; k < n; k++)
		x[(size_t)k * step] = (float)(((double)nssm_rng_below(&rng, 509) / 2 - 127) * unit);
	x[(size_t)(nssm_rng_below(&rng, (uint32_t)n)) * step] = (float)(127 * unit);
}

static void int8_shape(const struct nssm_kernels *k, int M, int N, int K, bool halves)
{
	size_t lda = (size_t)K + 3, ldb = (size_t)N + 2, ldbt = (size_t)K + 5, ldc = (size_t)N + 1;
	float *A = rnd((size_t)M * lda, -1, 1), *B = rnd((size_t)K * ldb, -2, 2), *Bt = rnd((size_t)N * ldbt, -2, 2);
	float *C0 = rnd((size_t)M * ldc, -1, 1);
	for (int i = 0; halves && i < M; i++)
		make_halves(A + (size_t)i * lda, 1, K, ldexp(1, i % 5 - 6));
	for (int j = 0; halves && j < N; j++) {
		make_halves(B + j, ldb, K, ldexp(1, j % 4 - 6));
		make_halves(Bt + (size_t)j * ldbt, 1, K, ldexp(1, j % 4 - 6));
	}
	float *P = scratch_of(k->int8_pack_floats(K, N)), *Pref = scratch_of(ref->int8_pack_floats(K, N));
	for (int mode = 0; mode < 4; mode++) {
		bool add = mode & 1, bt = mode & 2;
		float *C = copy_of(C0), *want = copy_of(C0), *mag = copy_of(C0);
		k->int8_pack(P, bt ? Bt : B, bt ? ldbt : ldb, bt, K, N);
		k->int8_gemm_packed(C, ldc, A, lda, P, add, M, N, K);
		ref->int8_pack(Pref, bt ? Bt : B, bt ? ldbt : ldb, bt, K, N);
		ref->int8_gemm_packed(want, ldc, A, lda, Pref, add, M, N, K);
		/* One element of A, of at most 1, that falls on the other side of a half is off by 1/127 of it times one
		 * of B. Halves leave the roundings of the last steps. */
		for (size_t i = 0; i < size_of(mag); i++)
			mag[i] = halves ? fabsf(want[i]) + 1 : 1;
		expect_close(bt ? "int8_gemm_packed A*Bt" : "int8_gemm_packed A*B", C, want, mag, halves ? 4 * EPS : 2.1 / 127);
	}
	bufs_done();
}

static void int8(const struct nssm_kernels *k)
{
	static const int Ms[] = {1, 2, 7, 17, 35}, Ns[] = {1, 5, 16, 31, 33, 49, 100}, Ks[] = {1, 3, 16, 18, 257, 1025, 2051};
	for (int m = 0; m < COUNT(Ms); m++)
		for (int n = 0; n < COUNT(Ns); n++)
			for (int l = 0; l < COUNT(Ks); l++)
				if (Ms[m] <= 2 || Ks[l] < 1000)
					for (int halves = 0; halves < 2; halves++)
						int8_shape(k, Ms[m], Ns[n], Ks[l], halves != 0);
}

/* Rounded operands are near the operands, and a row has its bits whatever stands beside it. */
static void int8_rows(const struct nssm_kernels *k)
{
	enum { M = 37, N = 83, K = 1300 };
	float *A = rnd(M * K, -1, 1), *B = rnd(K * N, -1, 1), *P = scratch_of(k->int8_pack_floats(K, N));
	float *C = rnd(M * N, 0, 1), *one = rnd(N, 0, 1);
	for (int j = 0; j < N; j++)
		B[5 * N + j] = 0;
	memset(A + 3 * K, 0, K * sizeof *A);
	k->int8_pack(P, B, N, false, K, N);
	k->int8_gemm_packed(C, N, A, K, P, false, M, N, K);
	for (int i = 0; i < M; i++) {
		k->int8_gemm_packed(one, N, A + i * K, K, P, false, 1, N, K);
		expect_same_bits("row alone", one, C + i * N, N);
		for (int j = 0; j < N; j++) {
			double sum = 0;
			for (int l = 0; l < K; l++)
				sum += (double)A[i * K + l] * B[l * N + j];
			/* each product is off by up to half a step of 1/127 in both: a standard deviation of 0.0046·0.58 */
			if (!(fabs(C[i * N + j] - sum) <= 6 * 0.0027 * sqrt(K)))
				fail_msg("%s: at (%d,%d): expected %.9g, found %.9g", what, i, j, sum, (double)C[i * N + j]);
		}
	}
	bufs_done();
}

/* --- norms ---------------------------------------------------------------------------------------------------- */

static const int Rs[] = {1, 2, 7, 17}, Ds[] = {1, 5, 15, 16, 17, 31, 33, 256, 272};

static void norms_shape(const struct nssm_kernels *k, int R, int D, double top)
{
	size_t ld = (size_t)D + 3, n = (size_t)R * ld;
	float *x = rnd(n, -top, top), *z = rnd(n, -top, top), *w = rnd((size_t)D, 0.5, 1.5),
	      *dy = rnd(n, -1, 1);
	float *y0 = rnd(n, -1, 1), *y1 = copy_of(y0), *r0 = rnd((size_t)R, 0, 1), *r1 = copy_of(r0);
	ref->rmsnorm(y0, ld, r0, x, ld, w, 1e-5f, R, D);
	k->rmsnorm(y1, ld, r1, x, ld, w, 1e-5f, R, D);
	expect_close("rmsnorm y", y1, y0, NULL, 20 * EPS);
	expect_close("rmsnorm rstd", r1, r0, NULL, 20 * EPS);
	float *in_place = copy_of(x);
	k->rmsnorm(in_place, ld, NULL, in_place, ld, w, 1e-5f, R, D);
	for (int r = 0; r < R; r++) {
		expect_same_bits("rmsnorm in place", in_place + r * ld, y1 + r * ld, (size_t)D);
		k->rmsnorm(y0, ld, NULL, x + r * ld, ld, w, 1e-5f, 1, D);
		expect_same_bits("rmsnorm of one row", y0, y1 + r * ld, (size_t)D);
	}

	float *dx0 = rnd(n, -1, 1), *dx1 = copy_of(dx0), *dw0 = rnd((size_t)D, -1, 1), *dw1 = copy_of(dw0);
	ref->rmsnorm_bwd(dx0, ld, dw0, dy, ld, x, ld, r0, w, R, D);
	k->rmsnorm_bwd(dx1, ld, dw1, dy, ld, x, ld, r0, w, R, D);
	for (int pass = 0; pass < 2;
	        pass++) /* a few percent of an element may cancel: measured by the largest */
		expect_close(
		        pass ? "rmsnorm dw" : "rmsnorm dx", pass ? dw1 : dx1, pass ? dw0 : dx0, NULL, 5e-5);

	float *o0 = rnd(n, -1, 1), *o1 = copy_of(o0);
	ref->gated_rmsnorm(o0, ld, r0, x, ld, z, ld, w, 1e-5f, R, D);
	k->gated_rmsnorm(o1, ld, r1, x, ld, z, ld, w, 1e-5f, R, D);
	expect_close("gated_rmsnorm out", o1, o0, NULL, 40 * EPS);
	expect_close("gated_rmsnorm rstd", r1, r0, NULL, 40 * EPS);
	in_place = copy_of(x);
	k->gated_rmsnorm(in_place, ld, NULL, in_place, ld, z, ld, w, 1e-5f, R, D);
	for (int r = 0; r < R; r++)
		expect_same_bits("gated_rmsnorm in place", in_place + r * ld, o1 + r * ld, (size_t)D);

	float *dout = copy_of(dy), *dz = copy_of(z), *dz0 = copy_of(z);
	float *dy0 = copy_of(dy);
	dw1 = copy_of(dw0);
	ref->gated_rmsnorm_bwd(dy0, ld, dz0, ld, dw0, dy, ld, x, ld, z, ld, r0, w, R, D);
	k->gated_rmsnorm_bwd(dout, ld, dz, ld, dw1, dout, ld, x, ld, dz, ld, r0, w, R, D); /* both in place */
	expect_close("gated_rmsnorm dy", dout, dy0, NULL, 1e-4);
	expect_close("gated_rmsnorm dz", dz, dz0, NULL, 1e-4);
	expect_close("gated_rmsnorm dw", dw1, dw0, NULL, 1e-4);
	bufs_done();
}

static void norms(const struct nssm_kernels *k)
{
	for (int r = 0; r < COUNT(Rs); r++)
		for (int d = 0; d < COUNT(Ds); d++) {
			norms_shape(k, Rs[r], Ds[d], 1);
			norms_shape(k, Rs[r], Ds[d], 60);
		}
}

/* --- convolution ---------------------------------------------------------------------------------------------- */

static void conv_shape(const struct nssm_kernels *k, int T, int C, int K, bool with_tail, double top)
{
	size_t ld = (size_t)C + 2, n = (size_t)T * ld;
	float *x = rnd(n, -top, top), *tail = with_tail && K > 1 ? rnd((size_t)(K - 1) * ld, -1, 1) : NULL;
	float *w = rnd((size_t)C * K, -1, 1), *bias = rnd((size_t)C, -1, 1);
	float *y0 = rnd(n, 0, 1), *y1 = copy_of(y0);
	ref->conv_silu(y0, ld, x, ld, tail, ld, w, bias, T, C, K);
	k->conv_silu(y1, ld, x, ld, tail, ld, w, bias, T, C, K);
	expect_close("conv_silu", y1, y0, NULL, 5e-5 * (top + 1));

	int n_after = T % K;
	float *dy0 = rnd((size_t)(T + n_after) * ld, -1, 1), *dy1 = copy_of(dy0);
	ref->conv_silu_bwd_pre(dy0, ld, dy0, ld, x, ld, tail, ld, w, bias, T, C, K);
	k->conv_silu_bwd_pre(dy1, ld, dy1, ld, x, ld, tail, ld, w, bias, T, C, K);
	expect_close("conv_silu_bwd_pre", dy1, dy0, NULL, 5e-5 * (top + 1));

	float *dx0 = rnd(n, 0, 1), *dx1 = copy_of(dx0), *dw0 = rnd((size_t)C * K, -1, 1), *dw1 = copy_of(dw0);
	float *db0 = rnd((size_t)C, -1, 1), *db1 = copy_of(db0);
	ref->conv_bwd(dx0, ld, dw0, db0, dy0, ld, n_after, x, ld, tail, ld, w, T, C, K);
	k->conv_bwd(dx1, ld, dw1, db1, dy0, ld, n_after, x, ld, tail, ld, w, T, C, K);
	expect_close("conv_bwd dx", dx1, dx0, NULL, 5e-4);
	expect_close("conv_bwd dw", dw1, dw0, NULL, 5e-4);
	expect_close("conv_bwd dbias", db1, db0, NULL, 5e-4);

	/* the step, one lane among three, row by row; and the whole in two pieces */
	if (top <= 2) {
		size_t len = (size_t)(K - 1) * C;
		float *st = rnd(len + 1, 0, 0), *other = rnd(len + 1, 0, 0), *third = rnd(len + 1, 0, 0);
		float *const state[3] = {other, st, third};
		float *in = rnd(3 * ld, -1, 1);
		for (int r = 0; r < K - 1; r++)
			for (int c = 0; c < C; c++)
				st[r * C + c] = tail ? tail[r * ld + c] : 0;
		for (int t = 0; t < T; t++) {
			memcpy(in + ld, x + t * ld, (size_t)C * sizeof *in);
			k->conv_silu_step(in, ld, state, in, ld, w, bias, 3, C, K);
			expect_same_bits("conv_silu_step", in + ld, y1 + t * ld, (size_t)C);
		}
		for (int cut = 1; cut < T; cut++) {
			float *y2 = copy_of(y0), *joint = rnd((size_t)(K + cut) * ld, 0, 0);
			for (int r = 0; r < K - 1; r++)
				for (int c = 0; tail && c < C; c++)
					joint[r * ld + c] = tail[r * ld + c];
			memcpy(joint + (K - 1) * ld, x, (size_t)cut * ld * sizeof *joint);
			k->conv_silu(y2, ld, x, ld, tail, ld, w, bias, cut, C, K);
			k->conv_silu(y2 + cut * ld, ld, x + cut * ld, ld, joint + cut * ld, ld, w, bias,
			        T - cut, C, K);
			for (int t = 0; t < T; t++)
				expect_same_bits(
				        "conv_silu in two pieces", y2 + t * ld, y1 + t * ld, (size_t)C);
		}
	}
	bufs_done();
}

static void conv(const struct nssm_kernels *k)
{
	static const int Ts[] = {1, 3, 4, 33, 70}, Cs[] = {1, 5, 16, 31, 33, 272};
	for (int t = 0; t < COUNT(Ts); t++)
		for (int c = 0; c < COUNT(Cs); c++)
			for (int K = 1; K <= 4; K++) {
				conv_shape(k, Ts[t], Cs[c], K, true, 1);
				conv_shape(k, Ts[t], Cs[c], K, false, 1);
				conv_shape(k, Ts[t], Cs[c], K, true, 100);
			}
}

/* --- scan
 * ---------------------------------------------------------------------------------------------------------
 */

static const int Qs[] = {1, 2, 15, 16, 17, 63, 64};

static void dt_shape(const struct nssm_kernels *k, int Q, int H, double lo, double hi)
{
	size_t ld = (size_t)H + 3, n = (size_t)Q * H;
	float *raw = rnd((size_t)Q * ld, lo, hi), *bias = rnd((size_t)H, -1, 1),
	      *A_log = rnd((size_t)H, 0, 2.8);
	float *dt0 = rnd(n, 0, 1), *dt1 = copy_of(dt0), *s0 = rnd(n, 0, 1), *s1 = copy_of(s0);
	ref->ssd_dt(dt0, s0, raw, ld, bias, A_log, Q, H);
	k->ssd_dt(dt1, s1, raw, ld, bias, A_log, Q, H);
	expect_close("ssd_dt dt", dt1, dt0, dt0, 1e-6);
	expect_close("ssd_dt s", s1, s0, s0, 1e-5);
	float *ddt = rnd(n, -1, 1), *d0 = rnd((size_t)Q * ld, 0, 1), *d1 = copy_of(d0);
	float *db0 = rnd((size_t)H, -1, 1), *db1 = copy_of(db0);
	ref->softplus_bwd(d0, ld, db0, ddt, raw, ld, bias, Q, H);
	k->softplus_bwd(d1, ld, db1, ddt, raw, ld, bias, Q, H);
	expect_close("softplus_bwd draw", d1, d0, d0, 1e-6);
	expect_close("softplus_bwd dbias", db1, db0, NULL, 1e-3);
	bufs_done();
}

struct scan {
	int Q, P, N;
	size_t ldx, ldb, lds;
	float *x, *B, *C, *CB, *dt, *s, *S, *dy, *dS;
	float A, D;
};

static void scan_make(struct scan *c, int Q, int P, int N, double dt_lo, double dt_hi)
{
	*c = (struct scan){.Q = Q,
	        .P = P,
	        .N = N,
	        .ldx = (size_t)P + 3,
	        .ldb = (size_t)N + 1,
	        .lds = 2,
	        .A = -1.7f,
	        .D = 0.6f};
	c->x = rnd((size_t)Q * c->ldx, -1, 1);
	c->dy = rnd((size_t)Q * c->ldx, -1, 1);
	c->B = rnd((size_t)Q * c->ldb, -1, 1);
	c->C = rnd((size_t)Q * c->ldb, -1, 1);
	c->CB = rnd((size_t)Q * Q, -1, 1);
	c->dt = rnd((size_t)Q * c->lds, log(dt_lo), log(dt_hi));
	c->s = rnd((size_t)Q * c->lds, 0, 0);
	c->S = rnd_aligned((size_t)N * P, -1, 1);
	c->dS = rnd_aligned((size_t)N * P, -1, 1);
	for (int i = 0; i < Q; i++) {
		float *dt = &c->dt[i * c->lds];
		*dt = expf(*dt);
		c->s[i * c->lds] = (i ? c->s[(i - 1) * c->lds] : 0) + *dt * c->A;
	}
}

static struct scan scan_abs(const struct scan *c)
{
	struct scan a = *c;
	a.x = abs_of(c->x), a.dy = abs_of(c->dy), a.B = abs_of(c->B), a.C = abs_of(c->C),
	a.CB = abs_of(c->CB);
	a.S = abs_of(c->S), a.dS = abs_of(c->dS);
	return a;
}

static float *scan_fwd(const struct nssm_kernels *k, const struct scan *c, float *S)
{
	float *y = rnd((size_t)c->Q * c->ldx, 0, 0);
	k->ssd_chunk(y, c->ldx, S, c->x, c->ldx, c->B, c->ldb, c->C, c->ldb, c->CB, c->dt, c->s, c->lds, c->D,
	        c->Q, c->P, c->N, scratch_of(k->ssd_scratch_floats(c->Q, c->P, c->N)));
	return y;
}

struct scan_grad {
	float *dx, *dB, *dC, *dCB, *ddt, *dA_dD, *dS;
};

static struct scan_grad scan_bwd(const struct nssm_kernels *k, const struct scan *c)
{
	struct scan_grad g = {.dx = rnd((size_t)c->Q * c->ldx, 0, 0),
	        .dB = rnd((size_t)c->Q * c->ldb, 0.25, 0.25),
	        .dC = rnd((size_t)c->Q * c->ldb, 0.25, 0.25),
	        .dCB = rnd((size_t)c->Q * c->Q, 0.25, 0.25),
	        .ddt = rnd((size_t)c->Q * 3, 0, 0),
	        .dA_dD = rnd(2, 0.25, 0.25),
	        .dS = copy_of(c->dS)};
	k->ssd_chunk_bwd(g.dx, c->ldx, g.dB, g.dC, c->ldb, g.dCB, g.ddt, 3, &g.dA_dD[0], &g.dA_dD[1], g.dS,
	        c->dy, c->ldx, c->S, c->x, c->ldx, c->B, c->ldb, c->C, c->ldb, c->CB, c->dt, c->s, c->lds,
	        c->A, c->D, c->Q, c->P, c->N, scratch_of(k->ssd_scratch_floats(c->Q, c->P, c->N)));
	return g;
}

static void scan_shape(const struct nssm_kernels *k, int Q, int P, int N, double dt_lo, double dt_hi)
{
	struct scan c;
	snprintf(what, sizeof what, "%s scan Q=%d P=%d N=%d dt %g..%g", k->name, Q, P, N, dt_lo, dt_hi);
	scan_make(&c, Q, P, N, dt_lo, dt_hi);
	struct scan a = scan_abs(&c);
	struct scan_grad g0 = scan_bwd(ref, &c), g1 = scan_bwd(k, &c), mag = scan_bwd(ref, &a);
	expect_close("dx", g1.dx, g0.dx, mag.dx, 4e-6);
	expect_close("dB", g1.dB, g0.dB, mag.dB, 4e-6);
	expect_close("dC", g1.dC, g0.dC, mag.dC, 4e-6);
	expect_close("dCB", g1.dCB, g0.dCB, mag.dCB, 4e-6);
	expect_close("dS", g1.dS, g0.dS, mag.dS, 4e-6);
	/* sums of sums with both signs: measured by the largest of the gradient */
	expect_close("ddt", g1.ddt, g0.ddt, NULL, 2e-3);
	expect_close("dA, dD", g1.dA_dD, g0.dA_dD, NULL, 2e-3);

	float *S0 = copy_of(c.S), *S1 = copy_of(c.S), *Sa = copy_of(a.S);
	float *y0 = scan_fwd(ref, &c, S0), *y1 = scan_fwd(k, &c, S1), *ya = scan_fwd(ref, &a, Sa);
	expect_close("y", y1, y0, ya, 4e-6);
	expect_close("S", S1, S0, Sa, 4e-6);
	bufs_done();
}

static void step_shape(const struct nssm_kernels *k, int H, int P, int N, double raw_top)
{
	size_t n = (size_t)H * P;
	float *x = rnd(n, -1, 1), *B = rnd((size_t)N, -1, 1), *C = rnd((size_t)N, -1, 1),
	      *raw = rnd((size_t)H, -raw_top, raw_top);
	float *bias = rnd((size_t)H, -1, 1), *A_log = rnd((size_t)H, 0, 2.8), *D = rnd((size_t)H, -1, 1);
	float *S0 = rnd_aligned(n * N, -1, 1), *S1 = copy_of(S0), *Sa = abs_of(S0);
	float *y0 = rnd(n, 0, 0), *ya = rnd(n, 0, 0), *y1 = copy_of(x);
	ref->ssm_step(y0, S0, x, B, C, raw, bias, A_log, D, H, P, N);
	k->ssm_step(y1, S1, y1, B, C, raw, bias, A_log, D, H, P, N); /* in place */
	ref->ssm_step(ya, Sa, abs_of(x), abs_of(B), abs_of(C), raw, bias, A_log, abs_of(D), H, P, N);
	expect_close("ssm_step S", S1, S0, Sa, 4e-6 + 1e-7 * raw_top);
	expect_close("ssm_step y", y1, y0, ya, 4e-6 + 1e-7 * raw_top);
	bufs_done();
}

static void scan(const struct nssm_kernels *k)
{
	for (int q = 0; q < COUNT(Qs); q++) {
		scan_shape(k, Qs[q], 64, 64, 1e-3, 0.1);
		scan_shape(k, Qs[q], 16, 31, 1e-3, 1);
		scan_shape(k, Qs[q], 5, 1, 1e-4, 0.1);
		scan_shape(k, Qs[q], 1, 33, 1, 20); /* s runs to -1000: only neighbours are seen */
		snprintf(what, sizeof what, "%s dt Q=%d", k->name, Qs[q]);
		for (int H = 1; H <= 24; H += H < 4 ? 1 : 4) {
			dt_shape(k, Qs[q], H, -3, 3);
			dt_shape(k, Qs[q], H, -100, 40);
			dt_shape(k, Qs[q], H, 15, 25);
		}
	}
	scan_shape(k, NSSM_CHUNK_MAX, 20, 16, 1e-3, 0.1);
	snprintf(what, sizeof what, "%s ssm_step", k->name);
	static const int Ps[] = {1, 5, 16, 64, 70}, Ns[] = {1, 16, 33};
	for (int p = 0; p < COUNT(Ps); p++)
		for (int n = 0; n < COUNT(Ns); n++)
			for (int H = 1; H <= 18; H += 17) {
				step_shape(k, H, Ps[p], Ns[n], 2);
				step_shape(k, H, Ps[p], Ns[n], 60);
			}
}

/* --- head and optimizer --------------------------------------------------------------------------------------- */

static void xent_shape(const struct nssm_kernels *k, int R, int V, double top, float scale)
{
	int pad = (V + 15) / 16 * 16;
	size_t ld = (size_t)pad + 1;
	float *l0 = rnd((size_t)R * ld, -top, top), *l1 = copy_of(l0), *before = copy_of(l0);
	float *loss0 = rnd((size_t)R, 0, 0), *loss1 = rnd((size_t)R, 0, 0);
	int32_t target[32];
	for (int r = 0; r < R; r++)
		target[r] = r % 3 == 1 ? -1 : (int32_t)nssm_rng_below(&rng, (uint32_t)V);
	ref->xent(loss0, l0, ld, target, scale, R, V, pad);
	k->xent(loss1, l1, ld, target, scale, R, V, pad);
	for (int r = 0; r < R; r++)
		if (!(fabs(loss0[r] - loss1[r]) <= 1e-6 * (top + log(V) + 1)))
			fail_msg("%s: loss %d: expected %.9g, found %.9g", what, r, (double)loss0[r],
			        (double)loss1[r]);
	float *mag = rnd((size_t)R * ld, fabs((double)scale), fabs((double)scale));
	expect_close("xent gradient", l1, l0, mag, 4e-6);
	if (scale == 0)
		expect_same_bits("xent without gradient", l1, before, (size_t)R * ld);
	bufs_done();
}

static void head(const struct nssm_kernels *k)
{
	static const int Vs[] = {1, 2, 15, 16, 17, 260, 272};
	for (int v = 0; v < COUNT(Vs); v++)
		for (int r = 0; r < COUNT(Rs); r++)
			for (int i = 0; i < 3; i++) {
				float scale = (float[]){1, 0, -0.125f}[i];
				xent_shape(k, Rs[r], Vs[v], 4, scale);
				xent_shape(k, Rs[r], Vs[v], 1e4, scale);
			}
	static const size_t sizes[] = {1, 2, 15, 16, 17, 300, 4096, 4097, 10001};
	for (int i = 0; i < COUNT(sizes); i++) {
		size_t n = sizes[i];
		float *p0 = rnd(n, -1, 1), *m0 = rnd(n, -1, 1), *v0 = rnd(n, 0, 1), *g = rnd(n, -3, 3);
		float *p1 = copy_of(p0), *m1 = copy_of(m0), *v1 = copy_of(v0), *one = rnd(n, 1, 1);
		ref->adamw(p0, m0, v0, g, 0.5f, 1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.19f, 0.0975f, n);
		k->adamw(p1, m1, v1, g, 0.5f, 1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.19f, 0.0975f, n);
		expect_close("adamw p", p1, p0, one, 4 * EPS);
		expect_close("adamw m", m1, m0, one, 4 * EPS);
		expect_close("adamw v", v1, v0, one, 8 * EPS);
		double s0 = ref->sumsq(g, n), s1 = k->sumsq(g, n);
		if (!(fabs(s0 - s1) <= 1e-12 * s0))
			fail_msg("%s: sumsq of %zu: expected %.17g, found %.17g", what, n, s0, s1);
		bufs_done();
	}
}

/* A NaN or an infinity that training runs into must come through, not be clamped to a number. */
static void not_a_number(const struct nssm_kernels *k)
{
	float *logits = rnd(40, -1, 1), *loss = rnd(1, 0, 0), *x = rnd(40, -1, 1), *y = rnd(40, 0, 0);
	float *one = rnd(40, 1, 1), *dt = rnd(3, 0, 0), *s = rnd(3, 0, 0);
	int32_t target = 3;
	logits[20] = NAN;
	k->xent(loss, logits, 40, &target, 0, 1, 40, 40);
	assert_true(isnan(loss[0]));
	float *product = rnd(1, 0, 0), *packed = scratch_of(k->bf16_pack_floats(3, 1));
	uint32_t low_payload = 0x7f800001u; /* a NaN that cutting off 16 bits would make an infinity */
	k->bf16_pack(packed, one, 1, false, 3, 1);
	memcpy(&x[1], &low_payload, sizeof low_payload);
	k->bf16_gemm_packed(product, 1, x, 3, packed, false, 1, 1, 3);
	assert_true(isnan(product[0]));
	x[1] = INFINITY;
	k->bf16_gemm_packed(product, 1, x, 3, packed, false, 1, 1, 3);
	assert_true(isinf(product[0]));
	k->int8_pack(packed = scratch_of(k->int8_pack_floats(3, 1)), one, 1, false, 3, 1);
	k->int8_gemm_packed(product, 1, x, 3, packed, false, 1, 1, 3);
	assert_true(isnan(product[0]));
	x[1] = NAN;
	k->int8_gemm_packed(product, 1, x, 3, packed, false, 1, 1, 3);
	assert_true(isnan(product[0]));
	x[7] = NAN;
	k->gated_rmsnorm(y, 40, NULL, one, 40, x, 40, one, 1e-5f, 1, 40);
	assert_true(isnan(y[0]));
	k->ssd_dt(dt, s, (const float[]){0, NAN, INFINITY}, 3, one, one, 1, 3);
	assert_true(isfinite(dt[0]) && isnan(dt[1]) && isinf(dt[2]));
	bufs_done();
}

static void run_all(void **state)
{
	static const struct {
		const char *name;
		void (*run)(const struct nssm_kernels *k);
	} checks[] = {{"gemm", gemm}, {"gemm rows", gemm_rows}, {"norms", norms}, {"conv", conv},
	        {"scan", scan}, {"head", head}, {"not a number", not_a_number},
	        {"bf16", bf16}, {"bf16 rows", bf16_rows}, {"int8", int8}, {"int8 rows", int8_rows}};
	(void)state;
	ref = nssm_kernels_get("ref");
	assert_non_null(ref);
	print_message("seed %d\n", SEED);
	for (const struct nssm_kernels *const *k = nssm_kernels_list(); *k; k++)
		for (int i = 0; i < COUNT(checks); i++) {
			nssm_rng_init(&rng, SEED, (uint64_t)i, NSSM_RNG_INIT);
			snprintf(what, sizeof what, "%s %s", (*k)->name, checks[i].name);
			checks[i].run(*k);
			print_message("%s %s: as ref\n", (*k)->name, checks[i].name);
		}
}

static void dispatch(void **state)
{
	(void)state;
	unsetenv("NETSSM_LEVEL");
	assert_ptr_equal(nssm_kernels_get(NULL), nssm_kernels_list()[0]);
	assert_ptr_equal(nssm_kernels_get("auto"), nssm_kernels_list()[0]);
	assert_string_equal(nssm_kernels_get("ref")->name, "ref");
	assert_string_equal(nssm_kernels_get("generic")->name, "generic");
	assert_null(nssm_kernels_get("avx3"));
	setenv("NETSSM_LEVEL", "ref", 1);
	assert_string_equal(nssm_kernels_get(NULL)->name, "ref");
	assert_string_equal(nssm_kernels_get("generic")->name, "generic");
	setenv("NETSSM_LEVEL", "nonsense", 1);
	assert_null(nssm_kernels_get("auto"));
	unsetenv("NETSSM_LEVEL");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(dispatch), cmocka_unit_test(run_all)};
	return cmocka_run_group_tests_name("kern_check", tests, NULL, NULL);
}
