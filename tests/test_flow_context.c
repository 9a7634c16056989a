/* What the codec tells a model of the next token: phases of connections, and numbers that no two fields share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "flow_rig.h"
#include "model/flow_context.h"
#include "model/flow_state.h"
#include "model/mamba2.h"

#define TOP(kind) (uint8_t)((kind) << 4)

/* A packet of a known flow, or (rank -1) of a new one whose hosts and ports are spelled in bytes that nobody looks at here. */
static void packet(struct flow_memory *m, int rank, unsigned dir, uint8_t top)
{
	struct flow_gram g = {.field = F_FLOW};
	flow_memory_byte(m, &g, (uint8_t)(rank < 0 ? NSSM_FLOW_CODE_NEW : 2 * rank + (int)dir));
	g.field = F_SRC;
	flow_memory_byte(m, &g, 0x55);
	g.field = F_TOP;
	flow_memory_byte(m, &g, top);
}

static void phases_of_a_connection(void **state)
{
	struct flow_memory m;
	flow_memory_begin(&m);
	packet(&m, -1, 0, TOP(FLOW_TOP_SYN));
	assert_int_equal(m.phase[0], FLOW_PH_SYN);
	packet(&m, 0, 1, TOP(FLOW_TOP_SYNACK));
	assert_int_equal(m.phase[0], FLOW_PH_SYNACK);
	packet(&m, 0, 0, TOP(0));
	assert_int_equal(m.phase[0], FLOW_PH_OPEN);
	packet(&m, 0, 0, TOP(4)); /* PSH ACK with a length */
	assert_int_equal(m.phase[0], FLOW_PH_OPEN + 1);
	packet(&m, 0, 1, TOP(2)); /* data answer data */
	assert_int_equal(m.phase[0], FLOW_PH_OPEN + 2);
	packet(&m, 0, 1, TOP(0));
	assert_int_equal(m.phase[0], FLOW_PH_OPEN + 2);
	packet(&m, 0, 0, TOP(0));
	assert_int_equal(m.phase[0], FLOW_PH_OPEN);
	packet(&m, 0, 1, TOP(5));
	assert_int_equal(m.phase[0], FLOW_PH_FIN1);
	packet(&m, 0, 0, TOP(0));
	assert_int_equal(m.phase[0], FLOW_PH_FIN1);
	packet(&m, 0, 0, TOP(5));
	assert_int_equal(m.phase[0], FLOW_PH_FINS);
	packet(&m, 0, 1, TOP(0));
	assert_int_equal(m.phase[0], FLOW_PH_CLOSED);
	packet(&m, 0, 1, TOP(7));
	assert_int_equal(m.phase[0], FLOW_PH_RST);
}

/* Ranks move to the front; a flow from beyond those that are known of comes as unknown; FLAGS spell what TOP does not. */
static void ranks(void **state)
{
	struct flow_memory m;
	flow_memory_begin(&m);
	for (int i = 0; i < FLOW_CTX_FLOWS + 8; i++)
		packet(&m, -1, 0, TOP(i % 2 ? FLOW_TOP_SYN : 0));
	assert_int_equal(m.n, FLOW_CTX_FLOWS);
	assert_int_equal(m.phase[0], FLOW_PH_SYN);
	assert_int_equal(m.phase[1], FLOW_PH_OPEN);
	packet(&m, 3, 1, TOP(7));
	assert_int_equal(m.phase[0], FLOW_PH_RST);
	assert_int_equal(m.phase[1], FLOW_PH_SYN);
	assert_int_equal(m.phase[2], FLOW_PH_OPEN);
	assert_int_equal(m.phase[3], FLOW_PH_SYN);
	assert_int_equal(m.phase[4], FLOW_PH_SYN); /* where it was there is none any more */
	assert_int_equal(m.phase[5], FLOW_PH_OPEN);
	struct flow_gram g = {.field = F_FLOW};
	flow_memory_byte(&m, &g, 2 * (FLOW_CTX_FLOWS + 2) + 1);
	assert_int_equal(m.phase[0], FLOW_PH_UNKNOWN);
	assert_int_equal(m.dir, 1);
	g.field = F_TOP;
	flow_memory_byte(&m, &g, TOP(FLOW_TOP_FLAGS));
	assert_int_equal(m.phase[0], FLOW_PH_UNKNOWN);
	g.field = F_FLAGS;
	flow_memory_byte(&m, &g, FLOW_FIN);
	assert_int_equal(m.phase[0], FLOW_PH_FIN1);
}

struct automaton {
	struct flow_gram gram;
	struct flow_memory memory;
};

/* Legal walks, and any tokens at all: every number is below the count, says which field it stands for, and moves within that. */
static void numbers(void **state)
{
	unsigned n_contexts = flow_n_contexts(), n_seen = 0;
	assert_true(n_contexts > 300 && n_contexts <= NSSM_CONTEXT_MAX);
	uint8_t *field = calloc(n_contexts, 1); /* 1 + the field it was seen in */
	assert_non_null(field);
	for (int c = 0; c < FLOW_RIG_CFGS; c++) {
		struct flow_rig r;
		flow_rig_open(&r, &flow_rig_cfg[c]);
		assert_int_equal(nssm_codec_n_contexts(&r.cfg), n_contexts);
		struct flow_walk w;
		flow_walk_begin(&w, &r, NSSM_MASK_FULL, 7, 400);
		const struct automaton *a = (const struct automaton *)w.state;
		for (int i = 0; i < 200000; i++) {
			flow_walk_token(&w);
			unsigned x = nssm_codec_context(&r.cfg, w.state), f = 1u + a->gram.field;
			assert_true(x < n_contexts);
			if (!a->gram.begun) {
				assert_int_equal(x, 0);
				continue;
			}
			assert_true(field[x] == 0 || field[x] == f);
			n_seen += field[x] == 0;
			field[x] = (uint8_t)f;
		}
		struct nssm_rng rng;
		nssm_rng_init(&rng, 11, 0, NSSM_RNG_SAMPLE);
		for (int i = 0; i < 200000; i++) {
			nssm_codec_mask_next(&r.cfg, &r.vocab, w.state, (uint16_t)nssm_rng_below(&rng, r.vocab.n_tokens));
			assert_true(nssm_codec_context(&r.cfg, w.state) < n_contexts);
		}
		flow_rig_close(&r);
	}
	assert_true(n_seen > n_contexts / 2);
	free(field);
}

/* A payload byte's number is its place in the payload, wherever UOP's run stands. */
static void places_in_payload(void **state)
{
	struct flow_memory m;
	flow_memory_begin(&m);
	struct nssm_codec_cfg cfg = flow_rig_cfg[1];
	unsigned from, n, first = 0;
	for (unsigned run = 0; run < FLOW_N_RUNS; run++) {
		flow_run(run, &from, &n);
		struct flow_gram g = {.field = F_PAY, .begun = 1, .kind = FLOW_UDP, .len = 100, .avail = UINT32_MAX, .run = (uint8_t)run,
		        .left = 12 - n};
		for (unsigned at = 0; at < 12; at++) {
			if (at >= from && at < from + n)
				continue;
			unsigned x = flow_context(&m, &g, &cfg);
			if (run == 0 && at == 0)
				first = x;
			assert_int_equal(x, first + at);
			g.left--;
		}
		assert_int_equal(g.left, 0);
	}
}

/* Steps beyond the longest are barred where a gap comes, and nowhere else. */
static void long_gaps_are_barred(void **state)
{
	struct flow_rig r;
	flow_rig_open(&r, &flow_rig_cfg[1]);
	struct flow_walk w;
	flow_walk_begin(&w, &r, NSSM_MASK_CLEAN, 3, 50);
	const struct automaton *a = (const struct automaton *)w.state;
	unsigned n_gaps = 0;
	for (int i = 0; i < 20000; i++) {
		uint64_t all[NSSM_MASK_WORDS] = {0}, some[NSSM_MASK_WORDS];
		assert_true(nssm_codec_mask(all, &r.cfg, &r.vocab, NSSM_MASK_CLEAN, w.state));
		memcpy(some, all, sizeof some);
		nssm_codec_mask_gap(some, &r.cfg, &r.vocab, w.state, 100);
		bool gap = a->gram.begun && a->gram.field == F_GAP;
		n_gaps += gap;
		for (unsigned b = 0; b < 256; b++) {
			uint16_t id = r.vocab.byte_id[b];
			bool was = (all[id / 64] >> id % 64 & 1) != 0, is = (some[id / 64] >> id % 64 & 1) != 0;
			assert_int_equal(is, was && !(gap && b > 100));
		}
		flow_walk_token(&w);
	}
	assert_true(n_gaps > 100);
	flow_rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(phases_of_a_connection),
	        cmocka_unit_test(ranks),
	        cmocka_unit_test(numbers),
	        cmocka_unit_test(places_in_payload),
	        cmocka_unit_test(long_gaps_are_barred),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
