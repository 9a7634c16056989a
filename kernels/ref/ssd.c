#include "kernels/ref/ref.h"

#include <assert.h>
#include <math.h>

static float softplus(float x)
{
	return x > 20 ? x : log1pf(expf(x));
}

void nssm_ref_ssd_dt(float *dt, float *s, const float *raw, size_t ldraw, const float *dt_bias,
        const float *A_log, int Q, int H)
{
	assert(Q <= NSSM_CHUNK_MAX);
	for (int h = 0; h < H; h++) {
		float A = -expf(A_log[h]), sum = 0;
		for (int j = 0; j < Q; j++) {
			float d = softplus(raw[(size_t)j * ldraw + h] + dt_bias[h]);
			sum += d * A;
			dt[(size_t)j * H + h] = d;
			s[(size_t)j * H + h] = sum;
		}
	}
}

size_t nssm_ref_ssd_scratch_floats(int Q, int P, int N)
{
	(void)Q, (void)P, (void)N;
	return 16; /* nothing is needed; a size that can be allocated */
}

void nssm_ref_ssd_chunk(float *y, size_t ldy, float *S, const float *x, size_t ldx, const float *Bm,
        size_t ldb, const float *Cm, size_t ldc, const float *CB, const float *dt, const float *s, size_t lds,
        float Dskip, int Q, int P, int N, float *scratch)
{
	(void)scratch;
	assert(Q <= NSSM_CHUNK_MAX);
	for (int i = 0; i < Q; i++)
		for (int p = 0; p < P; p++) {
			double within = 0, state = 0;
			for (int j = 0; j <= i; j++)
				within += CB[i * Q + j] * expf(s[i * lds] - s[j * lds]) * dt[j * lds] *
				          x[j * ldx + p];
			for (int n = 0; n < N; n++)
				state += Cm[i * ldc + n] * S[(size_t)n * P + p];
			y[i * ldy + p] = (float)(within + expf(s[i * lds]) * state + Dskip * x[i * ldx + p]);
		}
	float s_Q = s[(Q - 1) * lds];
	for (int n = 0; n < N; n++)
		for (int p = 0; p < P; p++) {
			double sum = expf(s_Q) * S[(size_t)n * P + p];
			for (int j = 0; j < Q; j++)
				sum += expf(s_Q - s[j * lds]) * dt[j * lds] * x[j * ldx + p] *
				       Bm[j * ldb + n];
			S[(size_t)n * P + p] = (float)sum;
		}
}

/* The gradient. With G_ij = CB_ij, L_ij = e^{s_i−s_j} (j <= i), M_ij = G_ij·L_ij·dt_j the forward is
 *   Y_i = Σ_{j≤i} M_ij·x_j + e^{s_i}·C_i·S + Dskip·x_i,   S_out = e^{s_Q}·S + Σ_j e^{s_Q−s_j}·dt_j·B_j⊗x_j.
 * Let dM_ij = dy_i·x_j (j <= i) and v_j = B_j·dS_out·x_j. Then
 *   dCB_ij  = dM_ij·L_ij·dt_j
 *   dx_j    = Σ_{i≥j} M_ij·dy_i + e^{s_Q−s_j}·dt_j·(B_j·dS_out) + Dskip·dy_j,    dDskip = Σ_i dy_i·x_i
 *   dC_i    = e^{s_i}·(S·dy_i),     dB_j = e^{s_Q−s_j}·dt_j·(dS_out·x_j)
 *   dS_in   = e^{s_Q}·dS_out + Σ_i e^{s_i}·C_i⊗dy_i
 *   ddt_j   = Σ_{i≥j} dM_ij·G_ij·L_ij + e^{s_Q−s_j}·v_j         (direct part)
 * and through the exponents, with W_ij = dM_ij·M_ij and u_j = e^{s_Q−s_j}·dt_j·v_j,
 *   ds_i    = Σ_j W_ij − Σ_k W_ki + e^{s_i}·C_i·(S·dy_i) − u_i,
 *   ds_Q   += Σ_j u_j + e^{s_Q}·<dS_out, S>.
 * s is the running sum of a = dt·A, so da_t = Σ_{i≥t} ds_i, and ddt_t += da_t·A, dA = Σ_t da_t·dt_t. */
void nssm_ref_ssd_chunk_bwd(float *dx, size_t lddx, float *dBm, float *dCm, size_t lddbc, float *dCB,
        float *ddt, size_t lddt, float *dA, float *dDskip, float *dS, const float *dy, size_t lddy,
        const float *S_in, const float *x, size_t ldx, const float *Bm, size_t ldb, const float *Cm,
        size_t ldc, const float *CB, const float *dt, const float *s, size_t lds, float A, float Dskip, int Q,
        int P, int N, float *scratch)
{
	double ds[NSSM_CHUNK_MAX] = {0}, ddirect[NSSM_CHUNK_MAX] = {0};
	(void)scratch;
	assert(Q <= NSSM_CHUNK_MAX);
	float s_Q = s[(Q - 1) * lds];

	for (int i = 0; i < Q; i++)
		for (int p = 0; p < P; p++)
			dx[i * lddx + p] = Dskip * dy[i * lddy + p];

	/* inside the chunk */
	for (int i = 0; i < Q; i++)
		for (int j = 0; j <= i; j++) {
			double dM = 0;
			for (int p = 0; p < P; p++)
				dM += dy[i * lddy + p] * x[j * ldx + p];
			float L = expf(s[i * lds] - s[j * lds]), M = CB[i * Q + j] * L * dt[j * lds];
			dCB[i * Q + j] += (float)(dM * L * dt[j * lds]);
			for (int p = 0; p < P; p++)
				dx[j * lddx + p] += M * dy[i * lddy + p];
			ddirect[j] += dM * CB[i * Q + j] * L;
			ds[i] += dM * M;
			ds[j] -= dM * M;
		}

	/* from and to the state */
	double skip = 0;
	for (int i = 0; i < Q; i++) {
		float decay_in = expf(s[i * lds]), decay_out = expf(s_Q - s[i * lds]), dti = dt[i * lds];
		double through_in = 0, v = 0;
		for (int n = 0; n < N; n++) {
			double S_dy = 0, dS_x = 0;
			for (int p = 0; p < P; p++) {
				S_dy += S_in[(size_t)n * P + p] * dy[i * lddy + p];
				dS_x += dS[(size_t)n * P + p] * x[i * ldx + p];
				dx[i * lddx + p] += decay_out * dti * Bm[i * ldb + n] * dS[(size_t)n * P + p];
			}
			dCm[i * lddbc + n] += (float)(decay_in * S_dy);
			dBm[i * lddbc + n] += (float)(decay_out * dti * dS_x);
			through_in += Cm[i * ldc + n] * S_dy;
			v += Bm[i * ldb + n] * dS_x;
		}
		ddirect[i] += decay_out * v;
		ds[i] += decay_in * through_in - decay_out * dti * v;
		ds[Q - 1] += decay_out * dti * v;
		for (int p = 0; p < P; p++)
			skip += dy[i * lddy + p] * x[i * ldx + p];
	}
	*dDskip += (float)skip;

	double dS_S = 0;
	for (int n = 0; n < N; n++)
		for (int p = 0; p < P; p++) {
			float *d = &dS[(size_t)n * P + p];
			dS_S += (double)*d * S_in[(size_t)n * P + p];
			double sum = expf(s_Q) * *d;
			for (int i = 0; i < Q; i++)
				sum += expf(s[i * lds]) * Cm[i * ldc + n] * dy[i * lddy + p];
			*d = (float)sum;
		}
	ds[Q - 1] += expf(s_Q) * dS_S;

	double da = 0, dA_sum = 0;
	for (int t = Q - 1; t >= 0; t--) {
		da += ds[t];
		ddt[t * lddt] = (float)(ddirect[t] + da * A);
		dA_sum += da * dt[t * lds];
	}
	*dA += (float)dA_sum;
}

void nssm_ref_ssm_step(float *y, float *S, const float *x, const float *Bm, const float *Cm,
        const float *dt_raw, const float *dt_bias, const float *A_log, const float *Dskip, int H, int P,
        int N)
{
	for (int h = 0; h < H; h++) {
		float dt = softplus(dt_raw[h] + dt_bias[h]), decay = expf(dt * -expf(A_log[h]));
		for (int p = 0; p < P; p++) {
			float xp = x[(size_t)h * P + p];
			double sum = 0;
			for (int n = 0; n < N; n++) {
				float *e = &S[((size_t)h * N + n) * P + p];
				*e = decay * *e + dt * xp * Bm[n];
				sum += Cm[n] * *e;
			}
			y[(size_t)h * P + p] = (float)(sum + Dskip[h] * xp);
		}
	}
}

void nssm_ref_softplus_bwd(float *draw, size_t lddraw, float *dbias, const float *ddt, const float *raw,
        size_t ldraw, const float *dt_bias, int Q, int H)
{
	for (int h = 0; h < H; h++) {
		double sum = 0;
		for (int j = 0; j < Q; j++) {
			float v = raw[j * ldraw + h] + dt_bias[h];
			float d = ddt[(size_t)j * H + h] * (v > 20 ? 1 : 1 / (1 + expf(-v)));
			draw[j * lddraw + h] = d;
			sum += d;
		}
		dbias[h] += (float)sum;
	}
}
