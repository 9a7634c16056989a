/* kernels — the table of operations that the model is made of, and their formulae.
 *
 * Shape letters (DESIGN): B batch, T time, D model width, E inner width, H heads, P head width, N state,
 * K conv taps, V vocabulary, Q chunk; R rows. Everything is fp32, row-major; `ld*` is a row stride in floats.
 * Arguments: outputs, inputs, weights, sizes. Gradients are called d<name> and are ADDED to unless said
 * otherwise. No pointer may alias another unless said. Nothing allocates; nothing keeps a pointer.
 *
 * Sums: every reduction has one fixed order that depends on the sizes only, never on a thread count or on how
 * many rows a call has; row r of a call gives the same bits alone or among others. `gemm` sums each element
 * of C over k in ascending blocks of NSSM_GEMM_KC, sequentially inside a block.
 *
 * `ref` is the specification (plain loops). `generic`, `avx2`, `avx512` are one source in vectors of 4, 8, 16
 * floats (kernels/vec/), compiled for what their name says; `avx512bf16` is avx512 for CPUs that have AVX512_BF16 and
 * AVX512_VNNI as well.
 * Checked: tests/kern_check.c, every level x operation x awkward shape against `ref`. */
#ifndef NSSM_KERNELS_H
#define NSSM_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NSSM_GEMM_KC   256 /* k block of gemm; part of the result's definition */
#define NSSM_INT8_KC   1024 /* k block of int8_gemm_packed */
#define NSSM_CHUNK_MAX 256

struct nssm_kernels {
	const char *name; /* "ref", "generic", "avx2", "avx512", "avx512bf16" */
	bool bf16_pays;   /* the CPU multiplies bfloat16: bf16_gemm is faster than gemm */

	/* --- matrix product --------------------------------------------------------------------------------
	 */

	/* A matrix B[K,N] (or its transpose as stored) laid out for gemm's inner loop. pack_floats: size of
	 * dst. */
	size_t (*pack_floats)(int K, int N);
	/* transposed == false: B is stored [K,N], ldb >= N; true: B is stored [N,K] (a weight W[out,in]), ldb
	 * >= K. */
	void (*pack)(float *dst, const float *B, size_t ldb, bool transposed, int K, int N);
	/* C[M,N] = A[M,K]·B, or C += A·B if accumulate. packed: what `pack` made of B with the same K, N. */
	void (*gemm_packed)(float *C, size_t ldc, const float *A, size_t lda, const float *packed,
	        bool accumulate, int M, int N, int K);
	/* The same with both operands as stored. a_transposed: A is stored [K,M], lda >= M.
	 * scratch: gemm_scratch_floats(M, N, K) floats, 64-byte aligned. */
	size_t (*gemm_scratch_floats)(int M, int N, int K);
	void (*gemm)(float *C, size_t ldc, const float *A, size_t lda, bool a_transposed, const float *B,
	        size_t ldb, bool b_transposed, bool accumulate, int M, int N, int K, float *scratch);

	/* --- matrix product, operands rounded to bfloat16
	 * ----------------------------------------------------- */

	/* The five above with every element of A and B rounded to bfloat16 (nearest even; a subnormal may count as
	 * 0) before it is multiplied; products and sums are fp32. Arguments, and what holds for sums, are the same:
	 * an element's order depends on K only; a level may add products in pairs. What bf16_pack made is
	 * bf16_gemm_packed's only; its size still counts floats. A is rounded on the way, whatever M is. */
	size_t (*bf16_pack_floats)(int K, int N);
	void (*bf16_pack)(float *dst, const float *B, size_t ldb, bool transposed, int K, int N);
	void (*bf16_gemm_packed)(float *C, size_t ldc, const float *A, size_t lda, const float *packed,
	        bool accumulate, int M, int N, int K);
	size_t (*bf16_gemm_scratch_floats)(int M, int N, int K);
	void (*bf16_gemm)(float *C, size_t ldc, const float *A, size_t lda, bool a_transposed, const float *B,
	        size_t ldb, bool b_transposed, bool accumulate, int M, int N, int K, float *scratch);

	/* --- matrix product, operands rounded to 8 bits
	 * ------------------------------------------------------- */

	/* pack gives every column of B a scale, the largest magnitude / 127, and rounds it to whole multiples of that,
	 * nearest even; gemm does the same with every row of A, over all of K. Their products are summed exactly over
	 * blocks of NSSM_INT8_KC and scaled; blocks are added in fp32, ascending. So the sums are the same numbers on
	 * every level; only an element that lies within a rounding of a half may be quantised the other way. A NaN or
	 * an infinity in a row makes the row NaN. */
	size_t (*int8_pack_floats)(int K, int N);
	void (*int8_pack)(float *dst, const float *B, size_t ldb, bool transposed, int K, int N);
	void (*int8_gemm_packed)(float *C, size_t ldc, const float *A, size_t lda, const float *packed,
	        bool accumulate, int M, int N, int K);

	/* --- norms
	 * ------------------------------------------------------------------------------------------ */

	/* y = w ⊙ x·rstd, rstd = 1/sqrt(mean(x²) + eps) per row. rstd[R] may be NULL. y may be x. */
	void (*rmsnorm)(float *y, size_t ldy, float *rstd, const float *x, size_t ldx, const float *w,
	        float eps, int R, int D);
	/* With n = x·rstd:  dx += rstd·(dy⊙w − n·mean(dy⊙w⊙n)),  dw += Σ_r dy⊙n.   (x, w, rstd as in the
	 * forward) */
	void (*rmsnorm_bwd)(float *dx, size_t lddx, float *dw, const float *dy, size_t lddy, const float *x,
	        size_t ldx, const float *rstd, const float *w, int R, int D);
	/* Gate, then norm: g = y⊙silu(z), out = w ⊙ g·rstd, rstd = 1/sqrt(mean(g²) + eps). out may be y.
	 * silu(z) = z/(1+e^{-z}). */
	void (*gated_rmsnorm)(float *out, size_t ldo, float *rstd, const float *y, size_t ldy, const float *z,
	        size_t ldz, const float *w, float eps, int R, int D);
	/* dy = …, dz = … (both SET, not added; dz may be z, dy may be dout), dw += …, by the chain rule. */
	void (*gated_rmsnorm_bwd)(float *dy, size_t lddy, float *dz, size_t lddz, float *dw,
	        const float *dout, size_t lddo, const float *y, size_t ldy, const float *z, size_t ldz,
	        const float *rstd, const float *w, int R, int D);

	/* --- causal depthwise convolution + SiLU
	 * -------------------------------------------------------------- */

	/* u_t[c] = bias[c] + Σ_{k<K} w[c*K+k]·x_{t−(K−1)+k}[c];  y = silu(u).   x,y [T,C].
	 * tail [K−1,C] (stride ldt): the rows before x_0, oldest first; NULL: zeros. x and y must not
	 * overlap. K <= 4. */
	void (*conv_silu)(float *y, size_t ldy, const float *x, size_t ldx, const float *tail, size_t ldt,
	        const float *w, const float *bias, int T, int C, int K);
	/* du_t = dy_t ⊙ silu'(u_t), u recomputed from x as above. du [T,C] is SET; du may be dy. */
	void (*conv_silu_bwd_pre)(float *du, size_t lddu, const float *dy, size_t lddy, const float *x,
	        size_t ldx, const float *tail, size_t ldt, const float *w, const float *bias, int T, int C,
	        int K);
	/* From du of rows 0..T−1 and of the n_after <= K−1 rows that follow in the same run (contiguous
	 * behind du): dx_t = Σ_k w[c,k]·du_{t+(K−1)−k}  (rows beyond T+n_after count as 0; SET), dw[c,k] +=
	 * Σ_{t<T} du_t·x_{t−(K−1)+k},  dbias += Σ_{t<T} du_t.   x, tail as in the forward. */
	void (*conv_bwd)(float *dx, size_t lddx, float *dw, float *dbias, const float *du, size_t lddu,
	        int n_after, const float *x, size_t ldx, const float *tail, size_t ldt, const float *w, int T,
	        int C, int K);

	/* --- state-space scan (Mamba-2 / SSD), one head, one chunk
	 * ------------------------------------------- */

	/* dt = softplus(raw + bias) (identity above 20), a = dt·A, A = −e^{A_log}; s = inclusive running sum
	 * of a. raw [Q,H] stride ldraw; dt, s [Q,H] stride H. Q <= NSSM_CHUNK_MAX. */
	void (*ssd_dt)(float *dt, float *s, const float *raw, size_t ldraw, const float *dt_bias,
	        const float *A_log, int Q, int H);
	/* Y_i = Σ_{j≤i} (C_i·B_j)·e^{s_i−s_j}·dt_j·x_j + e^{s_i}·C_i·S + Dskip·x_i
	 * S  ← e^{s_Q}·S + Σ_j e^{s_Q−s_j}·dt_j·x_j⊗B_j               (s_Q: the chunk's last s)
	 * y,x [Q,P]; Cm,Bm [Q,N]; S [N,P] (n-major: the step streams P), 64-byte aligned; CB [Q,Q] stride Q =
	 * Cm·Bmᵀ, given; dt,s: column of one head, stride lds. Exponents are s_i−s_j <= 0 for j <= i, never
	 * e^{s_i}/e^{s_j}. scratch: ssd_scratch_floats(Q,P,N). Q <= NSSM_CHUNK_MAX. */
	size_t (*ssd_scratch_floats)(int Q, int P, int N);
	void (*ssd_chunk)(float *y, size_t ldy, float *S, const float *x, size_t ldx, const float *Bm,
	        size_t ldb, const float *Cm, size_t ldc, const float *CB, const float *dt, const float *s,
	        size_t lds, float Dskip, int Q, int P, int N, float *scratch);
	/* The gradient of ssd_chunk. In: dy; S_in (state before the chunk); dS [N,P] holds dL/dS_out and
	 * becomes dL/dS_in. Out: dx [Q,P] SET; dBm,dCm [Q,N] (stride lddbc) and dCB [Q,Q] (stride Q) ADDED,
	 * they sum over heads: the terms through CB go to dCB only (caller: dC += dCB·B, dB += dCBᵀ·C, once
	 * for all heads); ddt [Q] (stride lddt) SET: dL/d dt_j, including the part through a = dt·A; dA
	 * ADDED: dL/dA of this head = Σ_j dL/da_j·dt_j;  dDskip ADDED. A: this head's A = −e^{A_log}. */
	void (*ssd_chunk_bwd)(float *dx, size_t lddx, float *dBm, float *dCm, size_t lddbc, float *dCB,
	        float *ddt, size_t lddt, float *dA, float *dDskip, float *dS, const float *dy, size_t lddy,
	        const float *S_in, const float *x, size_t ldx, const float *Bm, size_t ldb, const float *Cm,
	        size_t ldc, const float *CB, const float *dt, const float *s, size_t lds, float A,
	        float Dskip, int Q, int P, int N, float *scratch);
	/* One token, R lanes: conv step. x [R,C] is this token's input; state [R][(K−1)*C] oldest row first,
	 * shifted; y [R,C] = silu(bias + …), y may be x. Same sum order as conv_silu. */
	void (*conv_silu_step)(float *y, size_t ldy, float *const *state, const float *x, size_t ldx,
	        const float *w, const float *bias, int R, int C, int K);
	/* One token, one lane, all heads: S[h][N][P] ← e^{dt_h·A_h}·S + dt_h·x[h,p]·B[n];
	 * y[h,p] = Σ_n C[n]·S[h][n][p] + Dskip_h·x[h,p];  dt_raw [H] before bias and softplus. y may be x. */
	void (*ssm_step)(float *y, float *S, const float *x, const float *Bm, const float *Cm,
	        const float *dt_raw, const float *dt_bias, const float *A_log, const float *Dskip, int H,
	        int P, int N);
	/* draw_j = ddt_j · σ(raw_j + bias) (1 above 20) SET;  dbias[H] += Σ_j draw_j.   [Q,H] */
	void (*softplus_bwd)(float *draw, size_t lddraw, float *dbias, const float *ddt, const float *raw,
	        size_t ldraw, const float *dt_bias, int Q, int H);

	/* --- head and optimizer
	 * -------------------------------------------------------------------------------- */

	/* Per row: loss[r] = logsumexp(logits[r, :V]) − logits[r, target[r]]; then, if scale != 0, logits
	 * becomes its gradient: (softmax − onehot)·scale, columns V..Vpad−1 set to 0. target < 0: loss 0 and
	 * a zero gradient row. */
	void (*xent)(float *loss, float *logits, size_t ldl, const int32_t *target, float scale, int R, int V,
	        int Vpad);
	/* AdamW, decoupled decay: m ← b1·m+(1−b1)·g; v ← b2·v+(1−b2)·g²;
	 * p ← p − lr·(m/c1/(sqrt(v/c2)+eps) + wd·p), g = grad·gscale; c1 = 1−b1^t, c2 = 1−b2^t. */
	void (*adamw)(float *p, float *m, float *v, const float *grad, float gscale, float lr, float b1,
	        float b2, float eps, float wd, float c1, float c2, size_t n);
	/* Σ x² in double, in blocks of fixed size. */
	double (*sumsq)(const float *x, size_t n);
};

/* What the weights of products Y = X·Wᵀ are stored as, and the operations of that type. */
enum nssm_weights { NSSM_WEIGHTS_F32, NSSM_WEIGHTS_BF16, NSSM_WEIGHTS_INT8, NSSM_N_WEIGHTS };
struct nssm_product {
	__typeof__(((struct nssm_kernels *)0)->pack_floats) pack_floats;
	__typeof__(((struct nssm_kernels *)0)->pack) pack;
	__typeof__(((struct nssm_kernels *)0)->gemm_packed) gemm_packed;
	__typeof__(((struct nssm_kernels *)0)->gemm_scratch_floats) gemm_scratch_floats; /* this and gemm: NULL for int8 */
	__typeof__(((struct nssm_kernels *)0)->gemm) gemm;
};
struct nssm_product nssm_kernels_product(const struct nssm_kernels *kern, enum nssm_weights weights);
/* "f32", "bf16", "int8" */
const char *nssm_weights_name(enum nssm_weights weights);
/* The type whose products are fastest on this level: int8 where it has VNNI; f32 elsewhere, because widening costs more than
 * the smaller weights save as soon as several rows are multiplied. */
enum nssm_weights nssm_weights_fastest(const struct nssm_kernels *kern);

/* Best first. nssm_kernels_list: every level built in AND supported by this CPU, NULL-terminated. */
const struct nssm_kernels *const *nssm_kernels_list(void);
/* name NULL or "auto": what the environment variable NETSSM_LEVEL names, else the best. Unknown or
 * unsupported: NULL. */
const struct nssm_kernels *nssm_kernels_get(const char *name);

#endif
