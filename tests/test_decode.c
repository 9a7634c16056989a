/* Tokens to frames with times: what mask clean does not send takes its time and is counted; with full it comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "model/codec_flow.h"
#include "replay/decode.h"
#include "tests/frames.h"

#define MS 1000000ull

static struct nssm_model_card card;
static uint16_t tokens[4096];
static size_t n_tokens;

/* A TCP packet, 100 ms later an EAPOL frame, 200 ms after that the TCP packet again. */
static int setup(void **state)
{
	static const uint8_t eapol[60] = {1, 0x80, 0xc2, 0, 0, 3, 2, 0, 0, 0, 0, 1, 0x88, 0x8e, 1, 1};
	const struct nssm_pkt pkt[3] = {{1000 * MS, 74, 74, frame_syn}, {1100 * MS, 60, 60, eapol}, {1300 * MS, 74, 74, frame_syn}};
	struct nssm_encoder *e;
	card.codec = (struct nssm_codec_cfg){.kind = NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION};
	nssm_vocab_init(&card.vocab);
	assert_int_equal(nssm_vocab_add_label(&card.vocab, "x", NULL), 0);
	assert_int_equal(nssm_encoder_open(&e, &card.codec, &card.vocab, NULL), 0);
	n_tokens = nssm_encoder_begin(e, tokens, 0, NULL);
	for (int i = 0; i < 3; i++) {
		int reason;
		uint32_t cut;
		n_tokens += nssm_encoder_packet(e, tokens + n_tokens, &pkt[i], &reason, &cut);
	}
	nssm_encoder_close(&e);
	return 0;
}

static unsigned decoded(enum nssm_mask mask, uint64_t t_ns[4], struct nssm_label_stats *s)
{
	struct nssm_decode *d;
	struct nssm_frame f;
	const uint16_t *at = tokens;
	unsigned n = 0;
	memset(s, 0, sizeof *s);
	assert_int_equal(nssm_decode_open(&d, &card, NSSM_FILL_ZERO, mask, NULL), 0);
	nssm_decode_begin(d, 1, 0, 0);
	while (nssm_decode_next(d, &at, tokens + n_tokens, &f, &t_ns[n], s) == 1)
		n++;
	assert_int_equal(nssm_decode_flush(d, false, &f, &t_ns[n], s), 0);
	nssm_decode_close(&d);
	assert_int_equal(s->made, 3);
	assert_int_equal(s->packets, n);
	return n;
}

static bool about(uint64_t t, uint64_t want)
{
	return t > want - want / 10 && t < want + want / 10;
}

static void escaped(void **state)
{
	(void)state;
	uint64_t t[4];
	struct nssm_label_stats s;
	assert_int_equal(decoded(NSSM_MASK_CLEAN, t, &s), 2);
	assert_int_equal(s.rejected[NSSM_PKT_ESCAPED], 1);
	assert_int_equal(t[0], 0);
	assert_true(about(t[1], 300 * MS));
	assert_int_equal(decoded(NSSM_MASK_FULL, t, &s), 3);
	assert_int_equal(s.rejected[NSSM_PKT_ESCAPED], 0);
	assert_true(about(t[1], 100 * MS) && about(t[2], 300 * MS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(escaped)};
	return cmocka_run_group_tests_name("decode", tests, setup, NULL);
}
