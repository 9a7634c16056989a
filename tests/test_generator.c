/* The generator over a scripted model: a lane's state is a hash of the tokens it was fed, and the logits come
 * from it, so a token fed twice, left out or given to the wrong lane changes all that follows. The model's
 * step and the codec's mask are defined here instead of linked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "model/generator.h"
#include "tests/alloc_count.h"

enum { N_TOK = 40, EOT = 30, PAD = 31, PKT = 32, LABEL0 = 33, N_LABELS = 3 };

/* --- the scripted model --------------------------------------------------------------------------------------- */

static bool give_nan, with_context;
static double eot_bias, pkt_bias;
static const uint64_t *to_begin; /* while it is below 150, steps of fewer than 16 lanes are counted */
static int n_not_full;

size_t nssm_mamba2_step_floats(const struct nssm_mamba2_cfg *cfg, int n_lanes)
{
	return (size_t)n_lanes;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 31;
	x *= 0x9e3779b97f4a7c15u;
	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9u;
	return x ^ x >> 32;
}

static void script(float *logits, uint64_t hash, int Vpad)
{
	for (int v = 0; v < Vpad; v++)
		logits[v] = v < N_TOK ? (float)(mix(hash + (uint64_t)v) % 1000) / 200.f : -INFINITY;
	logits[EOT] += (float)eot_bias;
	logits[PKT] += (float)pkt_bias;
	if (give_nan)
		for (int v = 0; v < N_TOK; v++)
			logits[v] = NAN;
}

void nssm_mamba2_step(float *logits, float *const *state, const uint16_t *token, const uint16_t *context, int n,
        const struct nssm_mamba2 *m, float *scratch)
{
	assert_in_range(n, 1, 16);
	if (to_begin != NULL && *to_begin < 150 && n < 16)
		n_not_full++;
	for (int i = 0; i < n; i++) {
		scratch[i] = 0; /* its size is part of the contract */
		uint64_t hash;
		memcpy(&hash, state[i], sizeof hash);
		hash = mix(hash ^ (uint64_t)(token[i] + 1));
		memcpy(state[i], &hash, sizeof hash);
		/* A token's context is what the codec says after it and all before it, the head's too. */
		uint32_t fed;
		memcpy(&fed, state[i] + 2, sizeof fed);
		fed++;
		memcpy(state[i] + 2, &fed, sizeof fed);
		if (with_context)
			assert_int_equal(context[i], fed);
		script(logits + (size_t)i * 48, hash, 48);
	}
}

/* --- the scripted codec --------------------------------------------------------------------------------------- */

static bool masked, pkt_closes = true;
static const uint64_t even = 0x5555555555555555u | 1ull << LABEL0;

size_t nssm_codec_mask_bytes(const struct nssm_codec_cfg *cfg)
{
	return masked ? 4 : 0;
}

/* With a mask: after three tokens only even ones, before that all. */
bool nssm_codec_mask(uint64_t legal[NSSM_MASK_WORDS], const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab,
        enum nssm_mask mask, const void *state)
{
	if (!masked)
		return false;
	uint32_t n;
	memcpy(&n, state, 4);
	legal[0] = even;
	return n >= 3;
}

void nssm_codec_mask_next(
        const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab, void *state, uint16_t token)
{
	uint32_t n;
	memcpy(&n, state, 4);
	n++;
	memcpy(state, &n, 4);
}

/* How many tokens the lane has seen. */
unsigned nssm_codec_context(const struct nssm_codec_cfg *cfg, const void *state)
{
	uint32_t n;
	memcpy(&n, state, 4);
	return n;
}

void nssm_codec_mask_gap(uint64_t legal[NSSM_MASK_WORDS], const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab,
        const void *state, unsigned most_step)
{
}

/* Bytes are their own ids. */
size_t nssm_codec_head(uint16_t *out, const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab, uint32_t label_idx,
        const uint8_t *conditions)
{
	out[0] = vocab->label[label_idx].id;
	for (uint32_t i = 0; i < cfg->conditions; i++)
		out[1 + i] = conditions != NULL ? conditions[i] : 0;
	return 1 + cfg->conditions;
}

bool nssm_codec_pkt_closes(const struct nssm_codec_cfg *cfg)
{
	return pkt_closes;
}

/* --- what came out -------------------------------------------------------------------------------------------- */

#define MAX_SESSIONS 200

struct got {
	uint64_t first, n_begun, n_ended;
	int n_blocks, fail_at, fail_code, stop_at, flag_at;
	int stop_flag;
	int last_progress_sessions, n_progress;
	uint64_t progress_tokens;
	struct {
		uint16_t *token;
		size_t n, cap;
		uint32_t label_idx, n_blocks;
		uint64_t start_ns;
		enum nssm_end_reason end;
	} s[MAX_SESSIONS];
};

static int collect(void *ctx, const struct nssm_token_block *b)
{
	struct got *g = ctx;
	assert_true(b->session - g->first < MAX_SESSIONS);
	size_t i = b->session - g->first;
	assert_int_equal(b->seq, g->s[i].n_blocks);
	g->s[i].n_blocks++;
	assert_int_equal(g->s[i].end, NSSM_END_NONE);
	if (b->seq == 0) {
		assert_int_equal(i, g->n_begun); /* sessions begin in the order of their indices */
		g->n_begun++;
		g->s[i].label_idx = b->label_idx;
		g->s[i].start_ns = b->start_ns;
		assert_true(i == 0 || b->start_ns >= g->s[i - 1].start_ns);
		assert_int_equal(b->token[0], LABEL0 + b->label_idx);
	} else {
		assert_true(b->n_tokens > 0 || b->end == NSSM_END_STOPPED || b->end == NSSM_END_PACKETS);
		assert_in_range(b->n_tokens, 0, 4096);
		int n_pkt = 0;
		for (uint32_t k = 0; k < b->n_tokens; k++)
			n_pkt += b->token[k] == PKT;
		assert_in_range(n_pkt, 0, 64);
	}
	assert_int_equal(b->label_idx, g->s[i].label_idx);
	assert_int_equal(b->start_ns, g->s[i].start_ns);
	if (g->s[i].n + b->n_tokens > g->s[i].cap) {
		g->s[i].cap = 2 * (g->s[i].n + b->n_tokens);
		g->s[i].token = __real_realloc(g->s[i].token, g->s[i].cap * 2);
	}
	memcpy(g->s[i].token + g->s[i].n, b->token, b->n_tokens * 2);
	g->s[i].n += b->n_tokens;
	g->s[i].end = b->end;
	g->n_ended += b->end != NSSM_END_NONE;
	g->n_blocks++;
	assert_true(g->fail_at == 0 || g->n_blocks <= g->fail_at);
	if (g->n_blocks == g->stop_at)
		nssm_generator_stop();
	if (g->n_blocks == g->flag_at)
		__atomic_store_n(&g->stop_flag, 1, __ATOMIC_RELAXED);
	return g->n_blocks != g->fail_at ? 0 : g->fail_code != 0 ? g->fail_code : -1234;
}

static void progress(void *ctx, uint64_t n_tokens, uint64_t sessions_done)
{
	struct got *g = ctx;
	assert_true(n_tokens >= g->progress_tokens);
	g->progress_tokens = n_tokens;
	g->last_progress_sessions = (int)sessions_done;
	g->n_progress++;
}

static void drop(struct got *g)
{
	for (int i = 0; i < MAX_SESSIONS; i++)
		free(g->s[i].token);
	memset(g, 0, sizeof *g);
}

static struct nssm_model_card card;
static const uint32_t labels[N_LABELS] = {2, 0, 1};
static const double weights[N_LABELS] = {3, 1, 0};

static int setup(void **state)
{
	memset(&card, 0, sizeof card);
	card.cfg = (struct nssm_mamba2_cfg){.D = 16,
	        .L = 1,
	        .E = 16,
	        .H = 1,
	        .P = 16,
	        .N = 16,
	        .G = 1,
	        .K = 4,
	        .V = N_TOK + 2,
	        .Vpad = 48};
	card.vocab.n_tokens = N_TOK;
	card.vocab.eot = EOT;
	card.vocab.pad = PAD;
	card.vocab.pkt = PKT;
	card.vocab.n_labels = N_LABELS;
	for (int i = 0; i < N_LABELS; i++)
		card.vocab.label[i].id = (uint16_t)(LABEL0 + i);
	masked = give_nan = with_context = false;
	pkt_closes = true;
	eot_bias = pkt_bias = 0;
	return 0;
}

static struct nssm_generator_cfg base_cfg(struct got *g)
{
	return (struct nssm_generator_cfg){.seed = 11,
	        .n_sessions = 100,
	        .label_idx = labels,
	        .label_weight = weights,
	        .n_mix = N_LABELS,
	        .max_tokens = 700,
	        .sessions_per_s = 10,
	        .n_lanes = 16,
	        .n_threads = 1,
	        .sampler = {.temperature = 1,
	                .top_p = 0.95f,
	                .repetition_penalty = 1.1f,
	                .repetition_window = 5},
	        .emit = collect,
	        .emit_ctx = g,
	        .progress = progress,
	        .progress_ctx = g};
}

/* One session, as plainly as it can be written. */
static void expect_session(const struct got *g, size_t i, const struct nssm_generator_cfg *cfg)
{
	uint64_t idx = g->first + i, hash = 0;
	uint32_t n_cond = card.codec.conditions;
	struct nssm_rng rng;
	nssm_rng_init(&rng, cfg->seed, idx, NSSM_RNG_SAMPLE);
	assert_true(g->s[i].n > n_cond + cfg->n_prompt);
	uint16_t *t = g->s[i].token;
	assert_int_equal(t[0], LABEL0 + nssm_generator_label(cfg, idx));
	uint64_t n_pkt = 0;
	for (size_t k = 0; k < g->s[i].n; k++) {
		n_pkt += t[k] == PKT;
		hash = mix(hash ^ (uint64_t)(t[k] + 1));
		if (k < n_cond) {
			assert_int_equal(t[k + 1], cfg->conditions != NULL ? cfg->conditions[k] : 0);
			continue;
		}
		if (k < n_cond + cfg->n_prompt) {
			assert_int_equal(t[k + 1], cfg->prompt[k - n_cond]);
			continue;
		}
		bool last = k + 1 == g->s[i].n;
		if (last && (g->s[i].end != NSSM_END_PACKETS || pkt_closes))
			break;
		float logits[48], scratch[48];
		script(logits, hash, 48);
		const uint64_t *legal = masked && k >= 2 ? &even : NULL;
		uint16_t want =
		        nssm_sample(logits, N_TOK, &cfg->sampler, legal, t, (int)k + 1, &rng, scratch);
		if (last)
			assert_int_equal(want, PKT); /* one too many, not handed out */
		else if (want != t[k + 1])
			fail_msg("session %zu token %zu: %u, expected %u", i, k + 1, t[k + 1], want);
	}
	switch (g->s[i].end) {
	case NSSM_END_EOT:
		assert_int_equal(t[g->s[i].n - 1], EOT);
		break;
	case NSSM_END_PACKETS:
		assert_int_equal(n_pkt, cfg->max_packets);
		break;
	case NSSM_END_TOKENS:
		assert_int_equal(g->s[i].n, cfg->max_tokens);
		break;
	default:
		fail_msg("session %zu has no end", i);
	}
	assert_true(cfg->max_tokens == 0 || g->s[i].n <= cfg->max_tokens);
	assert_true(cfg->max_packets == 0 || n_pkt <= cfg->max_packets);
}

static int run(const struct nssm_generator_cfg *cfg)
{
	struct nssm_err err = {0};
	int rc = nssm_generator_run(cfg, &card, NULL, &err);
	assert_true(rc == 0 || rc == -1234 || rc > 0 || err.code == rc);
	return rc;
}

static void any_lanes_any_threads(void **state)
{
	static const int lanes[] = {1, 2, 7, 16, 40, 150};
	for (int m = 0; m < 2; m++) {
		masked = with_context = m == 1;
		card.cfg.n_context = m == 1 ? 1000 : 0;
		for (size_t l = 0; l < sizeof lanes / sizeof *lanes; l++) {
			for (int threads = 1; threads <= 3; threads++) {
				static struct got g;
				struct nssm_generator_cfg cfg = base_cfg(&g);
				cfg.n_lanes = lanes[l];
				cfg.n_threads = threads;
				assert_int_equal(run(&cfg), 0);
				assert_int_equal(g.n_ended, 100);
				assert_int_equal(g.last_progress_sessions, 100);
				size_t n = 0, n_eot = 0;
				for (size_t i = 0; i < 100; i++) {
					expect_session(&g, i, &cfg);
					n += g.s[i].n;
					n_eot += g.s[i].end == NSSM_END_EOT;
				}
				assert_true(n > 2000 && n_eot > 10);
				/* Each token but a session's last is fed once. */
				assert_int_equal(g.progress_tokens, n - 100);
				drop(&g);
			}
		}
	}
}

static void limits(void **state)
{
	eot_bias = -20;
	for (int closes = 0; closes < 2; closes++) {
		pkt_closes = closes != 0;
		static struct got g;
		struct nssm_generator_cfg cfg = base_cfg(&g);
		cfg.n_sessions = 20;
		cfg.max_packets = 7;
		cfg.max_tokens = 0;
		assert_int_equal(run(&cfg), 0);
		for (size_t i = 0; i < 20; i++) {
			expect_session(&g, i, &cfg);
			assert_int_equal(g.s[i].end, NSSM_END_PACKETS);
			if (closes)
				assert_int_equal(g.s[i].token[g.s[i].n - 1], PKT);
		}
		drop(&g);
		cfg.max_packets = 0;
		cfg.max_tokens = 20000;
		cfg.n_sessions = 2;
		assert_int_equal(run(&cfg), 0);
		for (size_t i = 0; i < 2; i++) {
			expect_session(&g, i, &cfg);
			assert_int_equal(g.s[i].end, NSSM_END_TOKENS);
			assert_true(g.s[i].n_blocks > 5);
		}
		drop(&g);
		/* No packet ends: blocks are cut by their tokens. */
		pkt_bias = -20;
		assert_int_equal(run(&cfg), 0);
		for (size_t i = 0; i < 2; i++) {
			expect_session(&g, i, &cfg);
			assert_int_equal(g.s[i].n_blocks, 1 + 5); /* 1 label; 4 x 4096 and 3615 tokens */
		}
		drop(&g);
		pkt_bias = 0;
	}
}

static uint64_t fewest_packets(const struct got *g, size_t n)
{
	uint64_t fewest = UINT64_MAX;
	for (size_t i = 0; i < n; i++) {
		uint64_t n_pkt = 0;
		for (size_t k = 0; k < g->s[i].n; k++)
			n_pkt += g->s[i].token[k] == PKT;
		assert_int_equal(g->s[i].end, NSSM_END_EOT);
		fewest = n_pkt < fewest ? n_pkt : fewest;
	}
	return fewest;
}

/* A model that would end soon may not, with a grammar and without. */
static void least_packets(void **state)
{
	for (int with_mask = 0; with_mask < 2; with_mask++) {
		static struct got g;
		struct nssm_generator_cfg cfg = base_cfg(&g);
		masked = with_mask != 0;
		cfg.n_sessions = 50;
		cfg.max_tokens = 0;
		assert_int_equal(run(&cfg), 0);
		assert_true(fewest_packets(&g, 50) < 3);
		drop(&g);
		cfg.min_packets = 9;
		assert_int_equal(run(&cfg), 0);
		assert_true(fewest_packets(&g, 50) >= 9);
		drop(&g);
	}
}

static void prompt(void **state)
{
	static const uint16_t p[] = {1, 2, 3, PKT, 5, 6, PKT, 8};
	static struct got g;
	struct nssm_generator_cfg cfg = base_cfg(&g);
	cfg.prompt = p;
	cfg.n_prompt = 8;
	cfg.max_packets = 4;
	for (int m = 0; m < 2; m++) {
		masked = with_context = m == 1;
		card.cfg.n_context = m == 1 ? 1000 : 0;
		cfg.n_threads = 1 + m;
		assert_int_equal(run(&cfg), 0);
		for (size_t i = 0; i < 100; i++)
			expect_session(&g, i, &cfg);
		drop(&g);
	}
	/* Limits that the prompt alone reaches are refused, one more is not. */
	cfg.max_packets = 2;
	assert_int_equal(run(&cfg), NSSM_EARG);
	cfg.max_packets = 3;
	cfg.max_tokens = 9;
	assert_int_equal(run(&cfg), NSSM_EARG);
	cfg.max_tokens = 10;
	assert_int_equal(g.n_blocks, 0);
	assert_int_equal(run(&cfg), 0);
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(g.s[i].n, 10);
	drop(&g);
}

/* Between the label and the prompt, fed to the model, in block 0. */
static void conditions(void **state)
{
	static const uint16_t p[] = {1, 2, PKT, 5};
	static const uint8_t told[NSSM_N_CONDITIONS] = {7, 0, 3, 1, 9};
	static struct got g;
	for (int m = 0; m < 4; m++) {
		struct nssm_generator_cfg cfg = base_cfg(&g);
		card.codec.conditions = NSSM_N_CONDITIONS;
		cfg.conditions = m % 2 == 0 ? told : NULL;
		cfg.prompt = p;
		cfg.n_prompt = m < 2 ? 4 : 0;
		masked = with_context = m == 1;
		card.cfg.n_context = m == 1 ? 1000 : 0;
		assert_int_equal(run(&cfg), 0);
		for (size_t i = 0; i < 100; i++)
			expect_session(&g, i, &cfg);
		drop(&g);
		cfg.max_tokens = 1 + NSSM_N_CONDITIONS + cfg.n_prompt;
		assert_int_equal(run(&cfg), NSSM_EARG);
		cfg.max_tokens++;
		assert_int_equal(run(&cfg), 0);
		for (size_t i = 0; i < 100; i++)
			assert_int_equal(g.s[i].n, cfg.max_tokens);
		drop(&g);
	}
}

static void parts_of_a_run(void **state)
{
	static struct got all, part;
	struct nssm_generator_cfg cfg = base_cfg(&all);
	assert_int_equal(run(&cfg), 0);
	cfg.first_session = part.first = 60;
	cfg.n_sessions = 40;
	cfg.emit_ctx = cfg.progress_ctx = &part;
	assert_int_equal(run(&cfg), 0);
	for (size_t i = 0; i < 40; i++) {
		assert_int_equal(part.s[i].start_ns, all.s[60 + i].start_ns);
		assert_int_equal(part.s[i].n, all.s[60 + i].n);
		assert_memory_equal(part.s[i].token, all.s[60 + i].token, part.s[i].n * 2);
	}
	drop(&all);
	drop(&part);
}

static void labels_and_starts(void **state)
{
	struct nssm_generator_cfg cfg = base_cfg(NULL);
	int seen[N_LABELS] = {0};
	uint64_t t = 0;
	enum { N = 20000 };
	for (uint64_t i = 0; i < N; i++) {
		seen[nssm_generator_label(&cfg, i)]++;
		uint64_t next = nssm_generator_start(&cfg, i, t);
		assert_true(i == 0 ? next == 0 : next >= t);
		t = next;
	}
	/* Weights: label 2: 3, label 0: 1, label 1: 0. Five standard deviations. */
	assert_int_equal(seen[1], 0);
	assert_in_range(seen[2], 15000 - 306, 15000 + 306);
	assert_int_equal(seen[0] + seen[2], N);
	/* N−1 gaps of 0.1 s on average; their sum's standard deviation is 0.1 s·sqrt(N). */
	double mean = (double)t / 1e9 / (N - 1);
	if (!(fabs(mean - 0.1) < 5 * 0.1 / sqrt(N)))
		fail_msg("mean gap %g s, expected 0.1", mean);
	cfg.sessions_per_s = 0;
	assert_int_equal(nssm_generator_start(&cfg, 5, 0), 0);
	/* A rate so small that times would overflow: they stand still, they do not wrap. */
	cfg.sessions_per_s = 1e-300;
	t = 0;
	for (uint64_t i = 0; i < 5; i++) {
		uint64_t next = nssm_generator_start(&cfg, i, t);
		assert_true(next >= t && next <= 1ull << 62);
		t = next;
	}
}

static void stop_and_failure(void **state)
{
	eot_bias = -20;
	for (int threads = 1; threads <= 2; threads++) {
		static struct got g;
		struct nssm_generator_cfg cfg = base_cfg(&g);
		cfg.n_threads = threads;
		cfg.max_tokens = 0;
		g.stop_at = 40;
		assert_int_equal(run(&cfg), NSSM_EINTR);
		assert_true(g.n_begun == 16 && g.n_ended == 16);
		for (size_t i = 0; i < 16; i++)
			assert_int_equal(g.s[i].end, NSSM_END_STOPPED);
		assert_int_equal(g.last_progress_sessions, 0);
		drop(&g);
		g.fail_at = 25;
		assert_int_equal(run(&cfg), -1234);
		assert_int_equal(g.n_blocks, 25);
		drop(&g);
		give_nan = true;
		assert_int_equal(run(&cfg), NSSM_ENUM);
		give_nan = false;
		drop(&g);
		/* A stop ends only the runs of its time. */
		nssm_generator_stop();
		cfg.max_tokens = 50;
		assert_int_equal(run(&cfg), 0);
		drop(&g);
		cfg.n_sessions = 0;
		assert_int_equal(run(&cfg), 0);
		assert_int_equal(g.n_blocks, 0);
	}
	card.cfg.V = N_TOK - 1;
	struct nssm_generator_cfg cfg = base_cfg(NULL);
	assert_int_equal(run(&cfg), NSSM_EFORMAT);
}

static atomic_uint n_asked;

static bool now_and_then(void *ctx, uint64_t session, uint64_t packets_made)
{
	return mix(atomic_fetch_add(&n_asked, 1)) % 2 == 0;
}

static void nothing_allocated_in_the_loop(void **state)
{
	eot_bias = -20;
	int n[2];
	for (int k = 0; k < 2; k++) {
		static struct got g;
		struct nssm_generator_cfg cfg = base_cfg(&g);
		cfg.n_threads = 2;
		cfg.n_sessions = k == 0 ? 20 : 150;
		cfg.max_tokens = k == 0 ? 10 : 6000;
		cfg.ready = now_and_then;
		cfg.n_parked_max = 3;
		unsigned long before = n_allocs;
		assert_int_equal(run(&cfg), 0);
		n[k] = (int)(n_allocs - before);
		drop(&g);
	}
	assert_in_range(n[0], 1, 1); /* that one is seen at all shows that the count works */
	assert_int_equal(n[0], n[1]);
}

/* --- parking -------------------------------------------------------------------------------------------------- */

static void parked_tokens_are_the_same(void **state)
{
	static const int lanes[] = {1, 2, 7, 16, 17, 40}, parked[] = {0, 1, 5, 60};
	static const uint16_t p[] = {1, PKT, 2};
	uint64_t n_parkings = 0;
	for (size_t l = 0; l < 6 * 4; l++) {
		static struct got g;
		struct nssm_generator_cfg cfg = base_cfg(&g);
		cfg.n_lanes = lanes[l / 4];
		cfg.n_parked_max = parked[l % 4];
		cfg.n_threads = 1 + (int)(l % 3);
		cfg.max_tokens = 350;
		eot_bias = l % 3 == 0 ? -3 : -20;
		pkt_bias = 4;
		masked = l % 2 == 1;
		if (l % 5 == 1) {
			cfg.prompt = p;
			cfg.n_prompt = 3;
		}
		cfg.ready = now_and_then;
		cfg.n_parkings = &n_parkings;
		uint64_t before = n_parkings;
		assert_int_equal(run(&cfg), 0);
		assert_int_equal(g.n_ended, 100);
		size_t n = 0, n_blocks = 0;
		for (size_t i = 0; i < 100; i++) {
			expect_session(&g, i, &cfg);
			n += g.s[i].n;
			n_blocks += g.s[i].n_blocks;
		}
		assert_true(n_blocks > 300);
		assert_int_equal(g.progress_tokens, n - 100);
		assert_true(n_parkings - before > 20 && n_parkings - before <= n_blocks - 100);
		drop(&g);
	}
}

/* Session 0 waits until ten others have ended: nobody waits behind it. */
static bool after_ten(void *ctx, uint64_t session, uint64_t packets_made)
{
	const struct got *g = ctx;
	if (session != 0)
		return true;
	assert_true(packets_made == 0 || packets_made == 64);
	return packets_made == 0 || g->n_ended >= 10;
}

static void others_take_its_place(void **state)
{
	static struct got g;
	struct nssm_generator_cfg cfg = base_cfg(&g);
	uint64_t n_parkings = 0;
	eot_bias = -20;
	cfg.n_sessions = 20;
	cfg.max_packets = 100;
	cfg.max_tokens = 0;
	cfg.n_lanes = 1;
	cfg.ready = after_ten;
	cfg.ready_ctx = &g;
	cfg.n_parkings = &n_parkings;
	cfg.n_parked_max = 1;
	assert_int_equal(run(&cfg), 0);
	for (size_t i = 0; i < 20; i++)
		expect_session(&g, i, &cfg);
	assert_int_equal(n_parkings, 1);
	drop(&g);
}

/* The first 16 are held after their first block of packets: while others are left to begin, steps are full. */
static bool the_later_ones(void *ctx, uint64_t session, uint64_t packets_made)
{
	const struct got *g = ctx;
	return session >= 16 || packets_made < 64 || g->n_ended >= 4;
}

static void steps_stay_full(void **state)
{
	static struct got g;
	struct nssm_generator_cfg cfg = base_cfg(&g);
	eot_bias = -20;
	pkt_bias = 4;
	cfg.n_sessions = 150;
	cfg.max_packets = 150;
	cfg.max_tokens = 0;
	cfg.n_parked_max = 16;
	cfg.ready = the_later_ones;
	cfg.ready_ctx = &g;
	to_begin = &g.n_begun;
	n_not_full = 0;
	assert_int_equal(run(&cfg), 0);
	to_begin = NULL;
	assert_int_equal(n_not_full, 0);
	for (size_t i = 0; i < 150; i++)
		expect_session(&g, i, &cfg);
	drop(&g);
}

static bool never(void *ctx, uint64_t session, uint64_t packets_made)
{
	return packets_made == 0;
}

static bool not_even_once(void *ctx, uint64_t session, uint64_t packets_made)
{
	return false;
}

static void *stop_when_all_wait(void *ctx)
{
	const uint64_t *n_parkings = ctx;
	while (__atomic_load_n(n_parkings, __ATOMIC_RELAXED) < 28)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	nssm_generator_stop();
	return NULL;
}

static void stopped_while_parked(void **state)
{
	eot_bias = -20;
	for (int k = 0; k < 4; k++) {
		static struct got g;
		struct nssm_generator_cfg cfg = base_cfg(&g);
		uint64_t n_parkings = 0;
		cfg.max_tokens = 0;
		cfg.n_threads = 1 + k % 2;
		cfg.n_parked_max = 12;
		cfg.ready = k < 2 ? never : not_even_once;
		cfg.n_parkings = &n_parkings;
		pthread_t t;
		assert_int_equal(pthread_create(&t, NULL, stop_when_all_wait, &n_parkings), 0);
		assert_int_equal(run(&cfg), NSSM_EINTR);
		pthread_join(t, NULL);
		assert_int_equal(n_parkings, 28);
		assert_true(g.n_begun == 28 && g.n_ended == 28);
		for (size_t i = 0; i < 28; i++) {
			assert_int_equal(g.s[i].end, NSSM_END_STOPPED);
			assert_int_equal(g.s[i].n_blocks, k < 2 ? 3 : 2);
		}
		drop(&g);
	}
}

/* One run is stopped, the one beside it is not. */
static void *run_other(void *ctx)
{
	const struct nssm_generator_cfg *cfg = ctx;
	struct nssm_err err;
	int rc = nssm_generator_run(cfg, &card, NULL, &err);
	return rc == 0 ? NULL : ctx;
}

static void stopped_alone(void **state)
{
	static struct got g, other;
	for (int k = 0; k < 2; k++) {
		struct nssm_generator_cfg cfg = base_cfg(&g), cfg2 = base_cfg(&other);
		eot_bias = -20;
		cfg.n_sessions = k == 0 ? 100 : UINT64_MAX;
		cfg.max_tokens = k == 0 ? 0 : 50;
		cfg.stop = &g.stop_flag;
		g.flag_at = 120;
		cfg2.max_tokens = 3000;
		pthread_t t;
		assert_int_equal(pthread_create(&t, NULL, run_other, &cfg2), 0);
		assert_int_equal(run(&cfg), NSSM_EINTR);
		void *failed;
		assert_int_equal(pthread_join(t, &failed), 0);
		assert_null(failed);
		assert_int_equal(other.n_ended, 100);
		assert_int_equal(g.n_ended, g.n_begun);
		drop(&g);
		drop(&other);
	}
}

static void ended_by_emit(void **state)
{
	static struct got g;
	eot_bias = -20;
	for (int threads = 1; threads <= 2; threads++) {
		struct nssm_generator_cfg cfg = base_cfg(&g);
		struct nssm_err err = {.code = 77};
		cfg.n_threads = threads;
		cfg.max_tokens = 0;
		cfg.ready = now_and_then;
		cfg.n_parked_max = 5;
		g.fail_at = 60;
		g.fail_code = 5;
		assert_int_equal(nssm_generator_run(&cfg, &card, NULL, &err), 5);
		assert_int_equal(err.code, 77);
		assert_int_equal(g.n_blocks, 60);
		assert_int_equal(g.n_ended, 0);
		drop(&g);
	}
}

static void without_end(void **state)
{
	static struct got g;
	struct nssm_generator_cfg cfg = base_cfg(&g);
	struct nssm_err err;
	cfg.n_sessions = UINT64_MAX;
	cfg.first_session = g.first = 7;
	cfg.max_tokens = 100;
	cfg.n_parked_max = 10;
	cfg.ready = now_and_then;
	g.stop_at = 250;
	assert_int_equal(nssm_generator_run(&cfg, &card, NULL, &err), NSSM_EINTR);
	assert_true(g.n_begun > 100 && g.n_ended == g.n_begun);
	for (size_t i = 0; i < g.n_begun; i++)
		if (g.s[i].end != NSSM_END_STOPPED)
			expect_session(&g, i, &cfg);
	assert_null(strstr(err.msg, "18446744073709551615"));
	drop(&g);
	/* The last indices there are. */
	cfg.sessions_per_s = 0;
	cfg.first_session = g.first = UINT64_MAX - 5;
	cfg.n_sessions = 6;
	assert_int_equal(run(&cfg), NSSM_EARG);
	cfg.n_sessions = 5;
	assert_int_equal(run(&cfg), 0);
	for (size_t i = 0; i < 5; i++)
		expect_session(&g, i, &cfg);
	drop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup(any_lanes_any_threads, setup),
	        cmocka_unit_test_setup(limits, setup),
	        cmocka_unit_test_setup(least_packets, setup),
	        cmocka_unit_test_setup(prompt, setup),
	        cmocka_unit_test_setup(conditions, setup),
	        cmocka_unit_test_setup(parts_of_a_run, setup),
	        cmocka_unit_test_setup(labels_and_starts, setup),
	        cmocka_unit_test_setup(stop_and_failure, setup),
	        cmocka_unit_test_setup(nothing_allocated_in_the_loop, setup),
	        cmocka_unit_test_setup(parked_tokens_are_the_same, setup),
	        cmocka_unit_test_setup(others_take_its_place, setup),
	        cmocka_unit_test_setup(steps_stay_full, setup),
	        cmocka_unit_test_setup(stopped_while_parked, setup),
	        cmocka_unit_test_setup(stopped_alone, setup),
	        cmocka_unit_test_setup(ended_by_emit, setup),
	        cmocka_unit_test_setup(without_end, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
