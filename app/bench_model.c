#include "app/bench_model.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/bench_peaks.h"
#include "app/options.h"
#include "app/progress.h"
#include "base/measure.h"
#include "base/philox.h"
#include "model/mamba2.h"

#define VOCAB   272
#define GROUP   16 /* lanes of a step, and the steps of one group before the next has its turn: as the generator does */
#define STRETCH 64

/* One model and what it is measured with. */
struct bench {
	struct nssm_mamba2_cfg cfg;
	const struct nssm_kernels *kern;
	enum nssm_weights weights;
	struct nssm_team *team;
	struct nssm_mamba2 *m;
	double run_s;
	uint16_t *token;
	float **state, *states;
	/* decode: member t has lanes first[t] .. first[t+1]-1 */
	int lanes, steps, *first;
	float *logits, *scratch;
	size_t scratch_floats;
	/* train, prefill */
	bool train;
	int batch, seq;
	struct nssm_mamba2_work *w;
	int32_t *target;
	uint8_t *reset;
	float *grad;
};

/* --- what a token takes (bench_model.h) --- */

static double product_weights(const struct nssm_mamba2_cfg *c)
{
	double Z = 2.0 * c->E + 2.0 * c->N + c->H;
	return c->L * (c->D * Z + (double)c->E * c->D) + (double)c->D * c->Vpad;
}

static double weight_bytes(const struct bench *b)
{
	static const double width[NSSM_N_WEIGHTS] = {4, 2, 1};
	return product_weights(&b->cfg) * width[b->weights];
}

static double conv_width(const struct nssm_mamba2_cfg *c)
{
	return c->E + 2.0 * c->N;
}

static int group_of(const struct bench *b)
{
	int most = (b->lanes + nssm_team_size(b->team) - 1) / nssm_team_size(b->team);
	return most < GROUP ? most : GROUP;
}

/* Seconds at least, for all threads together. */
static void roof(struct nssm_bench_row *r, const struct bench *b, double product, double scan, double seconds_of_memory)
{
	double n = nssm_team_size(b->team);
	double compute = product / (n * nssm_peak_dot(b->kern, b->weights)) + scan / (n * nssm_peak_dot(b->kern, NSSM_WEIGHTS_F32));
	r->flops = product + scan;
	r->roof_s = compute > seconds_of_memory ? compute : seconds_of_memory;
}

static int decode_roof(struct nssm_bench_row *r, const struct bench *b, struct nssm_err *err)
{
	const struct nssm_mamba2_cfg *c = &b->cfg;
	double C = conv_width(c), EN = (double)c->E * c->N, group = group_of(b);
	double state = 4.0 * c->L * (EN + (c->K - 1) * C), weights = weight_bytes(b) / group;
	struct nssm_bandwidth bw;
	int rc = nssm_peak_memory(&bw, (size_t)(weight_bytes(b) + group * state), b->team, err);
	if (rc != 0)
		return rc;
	r->bytes = weights + 2 * state;
	roof(r, b, 2 * product_weights(c), c->L * (5 * EN + 2 * c->K * C), weights / bw.read + 2 * state / bw.update);
	return 0;
}

static int batch_roof(struct nssm_bench_row *r, const struct bench *b, struct nssm_err *err)
{
	const struct nssm_mamba2_cfg *c = &b->cfg;
	double C = conv_width(c), EN = (double)c->E * c->N, Z = c->E + C + c->H, times = b->train ? 3 : 1;
	double row = 4 * (2.0 * c->D + Z + C + 3.0 * c->E), tokens = (double)b->batch * b->seq;
	double weights = times * weight_bytes(b) / tokens, grads = b->train ? 4 * product_weights(c) / tokens : 0;
	struct nssm_bandwidth bw;
	int rc = nssm_peak_memory(&bw, (size_t)(512 * row), b->team, err);
	if (rc != 0)
		return rc;
	r->bytes = weights + 2 * grads + times * 2 * c->L * row;
	roof(r, b, times * 2 * product_weights(c), times * c->L * (2.0 * c->Q * c->N + 2.0 * c->Q * c->E + 4 * EN + 2 * c->K * C),
	        weights / bw.read + (r->bytes - weights) / bw.update);
	return 0;
}

/* --- runs --- */

static void decode_member(void *ctx, int t, int member)
{
	struct bench *b = ctx;
	(void)member;
	for (int lane = b->first[t]; lane < b->first[t + 1]; lane += GROUP) {
		int n = b->first[t + 1] - lane < GROUP ? b->first[t + 1] - lane : GROUP;
		for (int s = 0; s < b->steps; s++)
			nssm_mamba2_step(b->logits + (size_t)t * GROUP * (size_t)b->cfg.Vpad, b->state + lane, b->token + lane, NULL, n, b->m,
			        b->scratch + (size_t)t * b->scratch_floats);
	}
}

static double decode_once(struct bench *b)
{
	nssm_team_run(b->team, nssm_team_size(b->team), decode_member, b);
	return (double)b->lanes * b->steps;
}

static double batch_once(struct bench *b)
{
	struct nssm_batch batch = {.B = b->batch, .T = b->seq, .token = b->token, .target = b->target, .reset = b->reset};
	double loss;
	int64_t n;
	if (b->train)
		nssm_mamba2_backward(&loss, &n, b->grad, b->state, 1, &batch, b->m, b->w);
	else
		nssm_mamba2_forward(&loss, &n, NULL, b->state, &batch, b->m, b->w);
	return (double)b->batch * b->seq;
}

static void measure(struct nssm_bench_row *r, struct bench *b, double (*once)(struct bench *))
{
	once(b); /* first touch of the memory */
	for (int i = 0; i < NSSM_BENCH_RUNS; i++) {
		double n = 0, t0 = nssm_now_s(), t;
		do {
			n += once(b);
			t = nssm_now_s() - t0;
		} while (t < b->run_s);
		r->tokens[i] = n / t;
	}
}

/* --- open, close --- */

static void close_all(struct bench *b)
{
	nssm_mamba2_work_close(&b->w);
	nssm_mamba2_close(&b->m);
	nssm_team_close(&b->team);
	free(b->token);
	free(b->state);
	free(b->states);
	free(b->first);
	free(b->logits);
	free(b->scratch);
	free(b->target);
	free(b->reset);
	free(b->grad);
}

static void *floats(size_t n)
{
	size_t align = n >= 1u << 19 ? (size_t)2 << 20 : 64, bytes = (n * sizeof(float) + align - 1) / align * align;
	void *p = aligned_alloc(align, bytes);
	if (p != NULL)
		memset(p, 0, bytes);
	return p;
}

/* Lanes with states, and random tokens. */
static bool open_lanes(struct bench *b, size_t n_states, size_t n_tokens)
{
	size_t st = (nssm_mamba2_state_floats(&b->cfg) + 15) / 16 * 16;
	b->token = calloc(n_tokens, sizeof *b->token);
	b->state = calloc(n_states, sizeof *b->state);
	b->states = floats(n_states * st);
	if (b->token == NULL || b->state == NULL || b->states == NULL)
		return false;
	for (size_t i = 0; i < n_states; i++)
		b->state[i] = b->states + i * st;
	struct nssm_rng rng;
	nssm_rng_init(&rng, 1, 0, NSSM_RNG_SAMPLE);
	for (size_t i = 0; i < n_tokens; i++)
		b->token[i] = (uint16_t)nssm_rng_below(&rng, VOCAB);
	return true;
}

static bool open_decode(struct bench *b)
{
	int n = nssm_team_size(b->team);
	b->steps = b->lanes > n * GROUP ? STRETCH : 8;
	b->scratch_floats = (nssm_mamba2_step_floats(&b->cfg, GROUP) + 15) / 16 * 16;
	b->first = calloc((size_t)n + 1, sizeof *b->first);
	b->logits = floats((size_t)n * GROUP * (size_t)b->cfg.Vpad);
	b->scratch = floats((size_t)n * b->scratch_floats);
	if (b->first == NULL || b->logits == NULL || b->scratch == NULL)
		return false;
	for (int t = 0; t <= n; t++)
		b->first[t] = (int)((int64_t)b->lanes * t / n);
	return open_lanes(b, (size_t)b->lanes, (size_t)b->lanes);
}

static int open_batch(struct bench *b, struct nssm_err *err)
{
	size_t n = (size_t)b->batch * (size_t)b->seq;
	int rc = nssm_mamba2_work_open(&b->w, b->m, b->batch, b->seq, b->train, NSSM_KEEP_BYTES, b->team, err);
	if (rc != 0)
		return rc;
	b->target = calloc(n, sizeof *b->target);
	b->reset = calloc(n, 1);
	b->grad = b->train ? floats(nssm_mamba2_param_floats(&b->cfg)) : NULL;
	if (b->target == NULL || b->reset == NULL || (b->train && b->grad == NULL) || !open_lanes(b, (size_t)b->batch, n))
		return nssm_err_set(err, NSSM_ENOMEM, "bench: no memory for %d lanes x %d tokens", b->batch, b->seq);
	for (size_t i = 0; i < n; i++)
		b->target[i] = b->token[(i + 1) % n];
	return 0;
}

/* What one row is about. */
struct point {
	const char *op;
	const struct nssm_kernels *kern;
	enum nssm_weights weights;
	int lanes, threads;
};

static int one(struct nssm_bench_rows *rows, const struct nssm_conf *conf, const struct point *p, struct nssm_err *err)
{
	bool decode = strcmp(p->op, "decode") == 0;
	struct bench b = {.kern = p->kern, .weights = p->weights, .lanes = p->lanes, .train = strcmp(p->op, "train") == 0,
	        .batch = p->lanes, .seq = (int)nssm_conf_int(conf, NSSM_K_SEQ_TOKENS), .run_s = nssm_conf_float(conf, NSSM_K_BENCH_RUN)};
	struct nssm_bench_row r = {.op = p->op, .level = p->kern->name, .weights = nssm_weights_name(p->weights), .lanes = p->lanes,
	        .threads = p->threads};
	int rc;
	if ((rc = nssm_opt_mamba2(&b.cfg, conf, VOCAB, err)) || (rc = nssm_team_open(&b.team, p->threads, err)) ||
	        (rc = nssm_mamba2_open(&b.m, &b.cfg, b.kern, b.weights, b.train, err)))
		goto out;
	nssm_mamba2_init(nssm_mamba2_params(b.m), &b.cfg, 1);
	nssm_mamba2_pack(b.m, b.team);
	if (decode && !open_decode(&b))
		rc = nssm_err_set(err, NSSM_ENOMEM, "bench: no memory for %d lanes", b.lanes);
	else if (!decode)
		rc = open_batch(&b, err);
	if (rc == 0)
		rc = decode ? decode_roof(&r, &b, err) : batch_roof(&r, &b, err);
	if (rc == 0) {
		measure(&r, &b, decode ? decode_once : batch_once);
		nssm_bench_row(rows, &r);
	}
out:
	close_all(&b);
	return rc;
}

/* --- which rows --- */

/* Without flags: the best level with every type, number of lanes and of threads; the other vector levels with their fastest type, 16
 * lanes and one thread. What a flag names is all there is of it. `ref` is a specification: only if it is named. */
struct choice {
	const struct nssm_conf *conf;
	const struct nssm_kernels *only, *best;
	int weights; /* -1: all */
	int lanes, threads, cores; /* 0: all */
};

static int choose(struct choice *c, const struct nssm_conf *conf, struct nssm_err *err)
{
	*c = (struct choice){.conf = conf, .weights = -1, .cores = nssm_opt_threads(conf)};
	int rc = nssm_opt_kernels(&c->best, conf, err);
	if (rc != 0)
		return rc;
	if (nssm_conf_is_set(conf, NSSM_K_LEVEL) || getenv("NETSSM_LEVEL") != NULL)
		c->only = c->best;
	if (nssm_conf_is_set(conf, NSSM_K_WEIGHTS) && strcmp(nssm_conf_str(conf, NSSM_K_WEIGHTS), "auto") != 0)
		c->weights = (int)nssm_opt_weights(conf, c->best);
	if (nssm_conf_is_set(conf, NSSM_K_LANES))
		c->lanes = (int)nssm_conf_int(conf, NSSM_K_LANES);
	if (nssm_conf_is_set(conf, NSSM_K_THREADS))
		c->threads = c->cores;
	return 0;
}

static bool has_type(const struct choice *c, const struct nssm_kernels *kern, const char *op, int weights)
{
	bool all = kern == c->best;
	return (c->weights < 0 ? all || weights == (int)nssm_weights_fastest(kern) : c->weights == weights) && !(strcmp(op, "train") == 0 && weights == NSSM_WEIGHTS_INT8);
}

static int lanes_rows(struct nssm_bench_rows *rows, const struct choice *c, struct point p, bool all, struct nssm_err *err)
{
	static const int every[] = {1, 4, 16, 64, 256, 0}, middle[] = {16, 0};
	int named[] = {c->lanes, 0}, batch[] = {(int)nssm_conf_int(c->conf, NSSM_K_BATCH), 0}, rc = 0;
	bool decode = strcmp(p.op, "decode") == 0;
	for (const int *n = !decode ? batch : c->lanes > 0 ? named : all ? every : middle; rc == 0 && *n > 0; n++) {
		p.lanes = *n;
		/* A thread without a lane has nothing to do. */
		if (!decode || p.threads <= p.lanes || c->threads > 0)
			rc = one(rows, c->conf, &p, err);
	}
	return rc;
}

static int op_rows(struct nssm_bench_rows *rows, const struct choice *c, const char *op, struct nssm_err *err)
{
	int rc = 0;
	for (const struct nssm_kernels *const *k = nssm_kernels_list(); rc == 0 && *k != NULL; k++) {
		bool all = *k == c->best;
		if (c->only != NULL ? *k != c->only : strcmp((*k)->name, "ref") == 0)
			continue;
		for (int w = 0; rc == 0 && w < NSSM_N_WEIGHTS; w++) {
			if (!has_type(c, *k, op, w))
				continue;
			int first = c->threads > 0 ? c->threads : 1, last = all && c->threads == 0 ? c->cores : first;
			for (int t = first; rc == 0 && t <= last; t = t < last && 2 * t > last ? last : 2 * t)
				rc = lanes_rows(rows, c, (struct point){.op = op, .kern = *k, .weights = (enum nssm_weights)w, .threads = t}, all, err);
		}
	}
	return rc;
}

/* --- peaks --- */

static int show_peaks(json_t **out, const struct nssm_bench_rows *rows, const struct choice *c, struct nssm_err *err)
{
	static const size_t sizes[] = {512u << 10, 8u << 20, 64u << 20};
	struct nssm_team *team;
	*out = json_object();
	json_t *dots = json_object(), *memory = json_array();
	json_object_set_new(*out, "dot_per_core", dots);
	json_object_set_new(*out, "memory", memory);
	for (const struct nssm_kernels *const *k = nssm_kernels_list(); *k != NULL; k++) {
		double v[NSSM_N_WEIGHTS];
		for (int w = 0; w < NSSM_N_WEIGHTS; w++)
			v[w] = nssm_peak_dot(*k, (enum nssm_weights)w);
		json_object_set_new(dots, (*k)->name, json_pack("{sf sf sf}", "f32", v[0], "bf16", v[1], "int8", v[2]));
		if (!rows->json && (c->only != NULL ? *k == c->only : strcmp((*k)->name, "ref") != 0))
			printf("peak of a core, %-10s  f32 %6.1f, bf16 %6.1f, int8 %6.1f GF/s\n", (*k)->name, v[0] / 1e9, v[1] / 1e9, v[2] / 1e9);
	}
	int rc = nssm_team_open(&team, 1, err);
	for (size_t i = 0; rc == 0 && i < sizeof sizes / sizeof *sizes; i++) {
		struct nssm_bandwidth bw;
		if ((rc = nssm_peak_memory(&bw, sizes[i], team, err)) != 0)
			break;
		json_array_append_new(memory, json_pack("{sI sf sf}", "bytes", (json_int_t)sizes[i], "read", bw.read, "update", bw.update));
		if (!rows->json)
			printf("memory of a core, %6zu KiB   read %6.1f, read and write %6.1f GB/s\n", sizes[i] >> 10, bw.read / 1e9,
			        bw.update / 1e9);
	}
	nssm_team_close(&team);
	return rc;
}

int nssm_bench_model(struct nssm_bench_rows *rows, json_t **peaks, const struct nssm_conf *conf, const char *op, struct nssm_err *err)
{
	static const char *const every[] = {"decode", "prefill", "train"};
	struct choice c;
	struct nssm_mamba2_cfg cfg;
	char p[16];
	int rc;
	if ((rc = choose(&c, conf, err)) || (rc = nssm_opt_mamba2(&cfg, conf, VOCAB, err)))
		return rc;
	if (c.weights == NSSM_WEIGHTS_INT8 && strcmp(op, "train") == 0)
		return nssm_err_set(err, NSSM_EARG, "bench train: --weights: expected f32 or bf16, found int8 (training has no such products)");
	if (!rows->json)
		printf("D %d, L %d, N %d: %s parameters; prefill and train: %d lanes x %d tokens\n", cfg.D, cfg.L, cfg.N,
		        nssm_human(p, (double)nssm_mamba2_param_floats(&cfg)), (int)nssm_conf_int(conf, NSSM_K_BATCH),
		        (int)nssm_conf_int(conf, NSSM_K_SEQ_TOKENS));
	rc = show_peaks(peaks, rows, &c, err);
	for (size_t i = 0; rc == 0 && i < sizeof every / sizeof *every; i++)
		if (strcmp(op, "model") == 0 || strcmp(op, every[i]) == 0)
			rc = op_rows(rows, &c, every[i], err);
	return rc;
}
