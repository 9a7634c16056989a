/* scripted_model — a model that spells packets: sessions of 1 to 60 TCP packets between one client and one server, whose addresses and
 * ports are drawn by the sampler, so that they hang on (seed, session) as a real model's do. The step is defined here instead of
 * linked: for executables that have one such test. After cmocka.h. */
#ifndef NSSM_TESTS_SCRIPTED_MODEL_H
#define NSSM_TESTS_SCRIPTED_MODEL_H

#include <math.h>
#include <string.h>

#include "model/checkpoint.h"
#include "model/generator.h"
#include "tests/frames.h"
#include "tests/vocab_fixture.h"

static struct nssm_model_card card;
static struct nssm_iat_hist card_iat[2];
static int model_nan_after; /* > 0: the logits are NaN after so many steps */
static int model_slow_ns;   /* a step takes so long */

static inline void scripted_card(void)
{
	memset(&card, 0, sizeof card);
	card.codec = (struct nssm_codec_cfg){.kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = NSSM_RAW_PKT_LEN};
	vocab_fixture(&card.vocab);
	card.cfg = (struct nssm_mamba2_cfg){.D = 16, .L = 1, .E = 16, .H = 1, .P = 16, .N = 16, .G = 1, .K = 4, .V = 262, .Vpad = 272};
	card.iat = card_iat;
	memset(card_iat, 0, sizeof card_iat);
	for (int i = 0; i < 50; i++) {
		nssm_iat_add(&card_iat[0], (uint64_t)i * 100000);
		nssm_iat_add(&card_iat[1], 0); /* packets at the same instant */
	}
}

struct scripted {
	uint32_t n_fed, at, n_left; /* tokens; of them, of this packet; packets */
	uint8_t drawn[4];           /* client's address, server's, client's port, length */
};

size_t nssm_mamba2_step_floats(const struct nssm_mamba2_cfg *cfg, int n_lanes)
{
	return (size_t)n_lanes;
}

/* What stands at a place of a packet; -1: the model does not care. */
static inline int scripted_byte(const struct scripted *s, uint32_t at, bool first)
{
	static const uint8_t place[4] = {28, 32, 35, 17};
	for (int i = 0; i < 4; i++)
		if (at == place[i])
			return !first ? s->drawn[i] : i == 3 ? 60 : -1;
	if (at == 47) /* SYN first, ACK then */
		return first ? 0x02 : 0x10;
	return at < sizeof frame_syn ? frame_syn[at] : 0;
}

static inline void scripted_step(float *logits, float *state, uint16_t token)
{
	struct scripted s;
	memcpy(&s, state, sizeof s);
	bool first = s.n_left == 0;
	if (s.n_fed++ > 0 && card.vocab.kind[token] == NSSM_TOK_BYTE) {
		uint8_t b = (uint8_t)card.vocab.value[token];
		if (first && s.at == 28)
			s.drawn[0] = b;
		else if (first && s.at == 32)
			s.drawn[1] = b;
		else if (first && s.at == 35)
			s.drawn[2] = b;
		s.drawn[3] = 60;
		s.at++;
	} else if (token == card.vocab.pkt) {
		s.at = 0;
		s.n_left = first ? 1 + (s.drawn[0] + 3u * s.drawn[2]) % 60 : s.n_left - 1;
		if (s.n_left == 0)
			s.n_left = UINT32_MAX; /* the end is said next */
	}
	memset(logits, 0, 272 * sizeof *logits);
	first = s.n_left == 0;
	int want = s.at < NSSM_RAW_PKT_LEN ? scripted_byte(&s, s.at, first) : 256;
	if (s.n_left == UINT32_MAX)
		logits[card.vocab.eot] = 1000;
	else if (want == 256)
		logits[card.vocab.pkt] = 1000;
	else if (want >= 0)
		logits[card.vocab.byte_id[want]] = 1000;
	else
		for (int b = 0; b < 256; b++)
			logits[card.vocab.byte_id[b]] = 1000;
	for (int v = 262; v < 272; v++)
		logits[v] = -INFINITY;
	memcpy(state, &s, sizeof s);
}

void nssm_mamba2_step(float *logits, float *const *state, const uint16_t *token, const uint16_t *context, int n, const struct nssm_mamba2 *m, float *scratch)
{
	static int steps;
	for (int i = 0; i < n; i++) {
		scripted_step(logits + (size_t)i * 272, state[i], token[i]);
		if (model_nan_after > 0 && __atomic_add_fetch(&steps, 1, __ATOMIC_RELAXED) > model_nan_after)
			for (int v = 0; v < 262; v++)
				logits[(size_t)i * 272 + (size_t)v] = NAN;
	}
	if (model_nan_after == 0)
		__atomic_store_n(&steps, 0, __ATOMIC_RELAXED);
	if (model_slow_ns > 0)
		nanosleep(&(struct timespec){.tv_nsec = model_slow_ns}, NULL);
}

static const uint32_t scripted_label[2] = {0, 1};
static const double scripted_weight[2] = {2, 1};

static inline struct nssm_generator_cfg scripted_gen(uint64_t n_sessions, int lanes, int threads)
{
	return (struct nssm_generator_cfg){.seed = 11,
		.n_sessions = n_sessions,
		.label_idx = scripted_label,
		.label_weight = scripted_weight,
		.n_mix = 2,
		.sessions_per_s = 100,
		.n_lanes = lanes,
		.n_threads = threads,
		.sampler = {.temperature = 1, .top_p = 1, .repetition_penalty = 1}};
}

#endif
