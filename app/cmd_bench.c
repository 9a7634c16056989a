/* netssm bench — how fast this machine trains and generates: medians of several runs, whatever else the machine does shown
 * beside them (load average). Random weights and tokens: only sizes matter. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/bench_net.h"
#include "app/cmd.h"
#include "app/options.h"
#include "app/progress.h"
#include "base/measure.h"
#include "base/philox.h"
#include "model/mamba2.h"

#define RUNS       5
#define VOCAB      272
#define MIN_RUN_S  0.5

struct bench {
	struct nssm_mamba2_cfg cfg;
	const struct nssm_kernels *kern;
	struct nssm_team *team;
	struct nssm_mamba2 *m;
	int batch, seq, lanes;
	/* training */
	struct nssm_mamba2_work *w;
	uint16_t *token;
	int32_t *target;
	uint8_t *reset;
	float *grad;
	/* generating: every member has its own group of lanes */
	float **state;
	float *logits, *scratch;
	size_t scratch_floats;
	int steps;
};

static void train_once(struct bench *b)
{
	struct nssm_batch batch = {.B = b->batch, .T = b->seq, .token = b->token, .target = b->target, .reset = b->reset};
	double loss;
	int64_t n;
	nssm_mamba2_backward(&loss, &n, b->grad, b->state, 1, &batch, b->m, b->w);
}

static void decode_member(void *ctx, int task, int member)
{
	struct bench *b = ctx;
	uint16_t *tok = b->token; /* any tokens do */
	for (int s = 0; s < b->steps; s++)
		nssm_mamba2_step(b->logits + (size_t)task * (size_t)b->lanes * (size_t)b->cfg.Vpad,
			b->state + (size_t)task * (size_t)b->lanes, tok, NULL, b->lanes, b->m,
			b->scratch + (size_t)task * b->scratch_floats);
}

static void decode_once(struct bench *b)
{
	nssm_team_run(b->team, nssm_team_size(b->team), decode_member, b);
}

/* Runs fn until MIN_RUN_S have passed, RUNS times; prints the median rate. work: tokens of one call. */
static void measure(struct bench *b, const char *what, double work, void (*fn)(struct bench *))
{
	double rate[RUNS], load[1] = {0};
	char lo[16], mid[16], hi[16];
	fn(b); /* first touch of the memory */
	for (int i = 0; i < RUNS; i++) {
		double t0 = nssm_now_s(), t;
		int n = 0;
		do {
			fn(b);
			n++;
			t = nssm_now_s() - t0;
		} while (t < MIN_RUN_S);
		rate[i] = n * work / t;
	}
	if (getloadavg(load, 1) != 1)
		load[0] = -1;
	double median = nssm_median(rate, RUNS);
	printf("%-9s %10s tokens/s   (%s..%s of %d runs, load average %.2f)\n", what, nssm_human(mid, median),
		nssm_human(lo, rate[0]), nssm_human(hi, rate[RUNS - 1]), RUNS, load[0]);
	fflush(stdout);
}

static int alloc_all(struct bench *b, struct nssm_err *err)
{
	int threads = nssm_team_size(b->team);
	size_t n_states = (size_t)(threads * b->lanes > b->batch ? threads * b->lanes : b->batch);
	size_t BT = (size_t)b->batch * (size_t)b->seq, st = nssm_mamba2_state_floats(&b->cfg), n_tok = BT > n_states ? BT : n_states;
	size_t align = 64 / sizeof(float);
	b->scratch_floats = (nssm_mamba2_step_floats(&b->cfg, b->lanes) + align - 1) / align * align;
	st = (st + align - 1) / align * align;
	b->token = calloc(n_tok, sizeof *b->token);
	b->target = calloc(n_tok, sizeof *b->target);
	b->reset = calloc(n_tok, 1);
	b->grad = calloc(nssm_mamba2_param_floats(&b->cfg), sizeof *b->grad);
	b->state = calloc(n_states, sizeof *b->state);
	b->logits = calloc((size_t)(threads * b->lanes) * (size_t)b->cfg.Vpad, sizeof *b->logits);
	b->scratch = aligned_alloc(64, b->scratch_floats * (size_t)threads * sizeof(float));
	float *states = aligned_alloc(64, n_states * st * sizeof(float));
	if (!b->token || !b->target || !b->reset || !b->grad || !b->state || !b->logits || !b->scratch || !states) {
		free(states);
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a benchmark of %d lanes x %d tokens", b->batch, b->seq);
	}
	memset(states, 0, n_states * st * sizeof(float));
	for (size_t i = 0; i < n_states; i++)
		b->state[i] = states + i * st;
	struct nssm_rng rng;
	nssm_rng_init(&rng, 1, 0, NSSM_RNG_SAMPLE);
	for (size_t i = 0; i < n_tok; i++) {
		b->token[i] = (uint16_t)nssm_rng_below(&rng, VOCAB);
		b->target[i] = (int32_t)nssm_rng_below(&rng, VOCAB);
	}
	return 0;
}

static int open_model(struct bench *b, const struct nssm_conf *conf, struct nssm_err *err)
{
	int rc;
	b->batch = (int)nssm_conf_int(conf, NSSM_K_BATCH);
	b->seq = (int)nssm_conf_int(conf, NSSM_K_SEQ_TOKENS);
	b->lanes = (int)nssm_conf_int(conf, NSSM_K_LANES);
	b->steps = 20;
	if ((rc = nssm_opt_kernels(&b->kern, conf, err)) || (rc = nssm_team_open(&b->team, nssm_opt_threads(conf), err)) ||
		(rc = nssm_opt_mamba2(&b->cfg, conf, VOCAB, err)) ||
		(rc = nssm_mamba2_open(&b->m, &b->cfg, b->kern, nssm_opt_precision(conf, b->kern), true, err)) ||
		(rc = nssm_mamba2_work_open(&b->w, b->m, b->batch, b->seq, true, NSSM_KEEP_BYTES, b->team, err)))
		return rc;
	nssm_mamba2_init(nssm_mamba2_params(b->m), &b->cfg, 1);
	nssm_mamba2_pack(b->m, b->team);
	return alloc_all(b, err);
}

static int bench_model(const struct nssm_conf *conf, struct nssm_err *err)
{
	struct bench b = {0};
	int rc = open_model(&b, conf, err);
	if (rc == 0) {
		int threads = nssm_team_size(b.team);
		char p[16];
		printf("D %d, L %d, N %d: %s parameters; level %s, %d thread%s; training %d lanes x %d tokens, generating %d lanes a thread\n",
			b.cfg.D, b.cfg.L, b.cfg.N, nssm_human(p, (double)nssm_mamba2_param_floats(&b.cfg)), b.kern->name, threads,
			threads == 1 ? "" : "s", b.batch, b.seq, b.lanes);
		measure(&b, "train", (double)b.batch * b.seq, train_once);
		measure(&b, "generate", (double)threads * b.lanes * b.steps, decode_once);
	}
	nssm_mamba2_work_close(&b.w);
	nssm_mamba2_close(&b.m);
	nssm_team_close(&b.team);
	free(b.token);
	free(b.target);
	free(b.reset);
	free(b.grad);
	free(b.state ? b.state[0] : NULL);
	free(b.state);
	free(b.logits);
	free(b.scratch);
	return rc;
}

static int run(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err)
{
	const char *what = n_pos > 0 ? pos[0] : "model";
	const char *const *captures = pos + 1;
	size_t n = n_pos > 1 ? (size_t)n_pos - 1 : 0;
	if (strcmp(what, "wire") == 0)
		return nssm_bench_wire(captures, n, err);
	if (strcmp(what, "pcap") == 0)
		return nssm_bench_pcap(captures, n, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", err);
	if (n > 0)
		return nssm_err_set(err, NSSM_EARG, "bench %.40s: takes no captures, found %.100s", what, captures[0]);
	if (strcmp(what, "pace") == 0)
		return nssm_bench_pace(err);
	if (strcmp(what, "model") == 0)
		return bench_model(conf, err);
	return nssm_err_set(err, NSSM_EARG, "bench: expected model, wire, pace or pcap (a veth pair: scripts/bench_veth), found %.60s", what);
}

const struct nssm_cmd nssm_cmd_bench = {
	.name = "bench",
	.usage = "bench [model | wire [CAPTURE…] | pace | pcap [CAPTURE…]] [flags]",
	.summary = "measure how fast this machine trains, generates and sends",
	.details = "  model  training and generation (the default)\n"
		   "  wire   one lcore into net_null at top speed: a loop that only copies packets\n"
		   "         and patches addresses, ports, numbers and checksums, then the whole\n"
		   "         pipeline with 1,000 and 1,000,000 clones alive\n"
		   "  pace   100,000 packets a second with exponential gaps: how late they leave\n"
		   "  pcap   clones into a capture on a tmpfs\n"
		   "\n"
		   "wire and pcap take their packets from the captures that are named, or make\n"
		   "some up: 66 to 1,514 bytes, 1,090 on average. scripts/bench_veth compares\n"
		   "af_packet and af_xdp with tcpreplay on a veth pair.\n"
		   "\n"
		   "model takes random weights and tokens of the sizes given; sampling and packet\n"
		   "work are not in it. The flags below are for model; the others have none.\n"
		   "\n"
		   "Each figure is the median of 5 runs, with the slowest and the fastest and the\n"
		   "machine's load average beside it: what else runs here slows it down.\n"
		   "\n"
		   "  netssm bench --config conf/small.yaml\n"
		   "  netssm bench --config conf/paper.yaml --batch 1 --seq-tokens 2048\n"
		   "  netssm bench wire samples/web-*.pcap.gz\n",
	.bit = NSSM_CMD_BENCH,
	.max_pos = INT32_MAX,
	.run = run,
};
