/* render_tool IN.pcap OUT.pcap SESSIONS SEED PER_MILLE — a stand-in for a model that has learnt something:
 * the capture's tokens, with some replaced at random, played as a generator's blocks would be. Prints: made
 * packets rejected. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/philox.h"
#include "replay/capture.h"
#include "tests/engine_fixture.h"

static struct nssm_model_card card;

static int die(const struct nssm_err *err)
{
	fprintf(stderr, "render_tool: %s\n", err->msg);
	return 1;
}

static uint16_t *tokens_of(const char *path, size_t *n_out, struct nssm_err *err)
{
	struct nssm_capture *cap;
	struct nssm_encoder *enc;
	if (nssm_capture_open(&cap, path, err) != 0 ||
	        nssm_encoder_open(&enc, &card.codec, &card.vocab, err) != 0)
		return NULL;
	size_t most = nssm_encoder_max_tokens(enc), n = 0, room = 1 << 20;
	uint16_t *t = calloc(room, sizeof *t);
	struct nssm_pkt pkt;
	if (t == NULL)
		return NULL;
	n += nssm_encoder_begin(enc, t, 0, NULL);
	while (n + 2 * most < room && nssm_capture_next(cap, &pkt, err) == 1) {
		int reason;
		uint32_t cut;
		n += nssm_encoder_packet(enc, t + n, &pkt, &reason, &cut);
	}
	n += nssm_encoder_end(enc, t + n);
	nssm_encoder_close(&enc);
	nssm_capture_close(&cap);
	*n_out = n;
	return err->code == 0 ? t : NULL;
}

static int render(struct engine_fixture *x, const struct nssm_generator_cfg *gen, const uint16_t *clean, size_t n,
        uint32_t per_mille, struct nssm_err *err)
{
	uint16_t *t = calloc(n, sizeof *t);
	uint64_t start = 0;
	int rc = t == NULL ? NSSM_ENOMEM : 0;
	for (uint64_t s = 0; rc == 0 && s < gen->n_sessions; s++) {
		struct nssm_rng rng;
		nssm_rng_init(&rng, gen->seed, s, NSSM_RNG_SAMPLE);
		start = nssm_generator_start(gen, s, start);
		for (size_t i = 0; i < n; i++) {
			uint16_t other = (uint16_t)nssm_rng_below(&rng, card.vocab.n_tokens);
			bool replace = i > 0 && i + 1 < n && nssm_rng_below(&rng, 1000) < per_mille;
			/* An early end would leave nothing to look at. */
			t[i] = replace && other != card.vocab.eot ? other : clean[i];
		}
		uint32_t seq = 0;
		for (size_t i = 0; rc == 0 && i < n;) {
			size_t k = i == 0 ? 1 : n - i < 1000 ? n - i : 1000;
			const struct nssm_token_block b = {.session = s,
			        .start_ns = start,
			        .seq = seq++,
			        .n_tokens = (uint32_t)k,
			        .token = t + i,
			        .end = i + k == n ? NSSM_END_EOT : NSSM_END_NONE};
			uint64_t next = s + 1 < gen->n_sessions ? nssm_generator_start(gen, s + 1, start) : UINT64_MAX;
			rc = fx_tokens(x, &b, next, err);
			i += k;
		}
	}
	free(t);
	return rc;
}

int main(int argc, char **argv)
{
	struct nssm_err err = {0};
	if (argc != 6) {
		fprintf(stderr, "usage: render_tool IN.pcap OUT.pcap SESSIONS SEED PER_MILLE\n");
		return 2;
	}
	card.codec =
	        (struct nssm_codec_cfg){.kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = NSSM_RAW_PKT_LEN};
	nssm_vocab_init(&card.vocab);
	if (nssm_vocab_add_label(&card.vocab, "web", &err) < 0)
		return die(&err);
	size_t n;
	uint16_t *t = tokens_of(argv[1], &n, &err);
	if (t == NULL)
		return die(&err);
	const uint32_t label = 0;
	const double weight = 1;
	const struct nssm_generator_cfg gen = {.seed = strtoull(argv[4], NULL, 10),
	        .n_sessions = strtoull(argv[3], NULL, 10),
	        .label_idx = &label,
	        .label_weight = &weight,
	        .n_mix = 1,
	        .sessions_per_s = 1};
	static const char *const label_name[1] = {"web"};
	struct engine_fixture x = {.pipe = {.card = &card,
	                                   .gen = &gen,
	                                   .seed = gen.seed,
	                                   .n_plays = 1,
	                                   .fill = NSSM_FILL_RANDOM,
	                                   .epoch_ns = 1700000000000000000u,
	                                   .pcap_out = argv[2]},
	        .label = label_name,
	        .n_labels = 1,
	        .n_decodes = 2,
	        .arena = {.bytes = 256u << 20}};
	if (fx_open(&x, &err) != 0 || render(&x, &gen, t, n, (uint32_t)atoi(argv[5]), &err) != 0 || fx_finish(&x, &err) != 0)
		return die(&err);
	const struct nssm_label_stats *s = nssm_engine_label(x.engine, 0);
	uint64_t rejected = 0;
	for (int i = 0; i < NSSM_PKT_N_REASONS; i++)
		rejected += s->rejected[i];
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", s->made, s->sent, rejected);
	fx_close(&x);
	free(t);
	return 0;
}
