/* flow_rig — what the tests of codec `flow` share: configurations, an encoder with its decoder, random walks through the masks. */
#ifndef FLOW_RIG_H
#define FLOW_RIG_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "model/codec.h"
#include "model/codec_flow.h"
#include "model/flow_grammar.h"
#include "model/packet_impl.h"

#define FLOW_RIG_CFGS 7
static const struct nssm_codec_cfg flow_rig_cfg[FLOW_RIG_CFGS] = {
        {NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .payload = NSSM_PAYLOAD_NONE},
        {NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .payload = NSSM_PAYLOAD_PREFIX, .prefix = 12},
        {NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .payload = NSSM_PAYLOAD_PREFIX, .prefix = 255},
        {NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .payload = NSSM_PAYLOAD_PREFIX, .prefix = 3},
        {NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .payload = NSSM_PAYLOAD_FULL},
        {NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .payload = NSSM_PAYLOAD_NONE, .identity = NSSM_IDENTITY_POOL},
        {NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .payload = NSSM_PAYLOAD_PREFIX, .prefix = 12, .identity = NSSM_IDENTITY_POOL}};

struct flow_rig {
	struct nssm_vocab vocab;
	struct nssm_codec_cfg cfg;
	struct nssm_encoder *enc;
	struct nssm_decoder *dec;
};

static inline void flow_rig_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}
#define flow_rig_require(ok) ((ok) ? (void)0 : flow_rig_fail(__FILE__, __LINE__, #ok))

static inline void flow_rig_open_fill(struct flow_rig *r, const struct nssm_codec_cfg *cfg, enum nssm_fill fill)
{
	r->cfg = *cfg;
	nssm_vocab_init(&r->vocab);
	flow_rig_require(nssm_vocab_add_label(&r->vocab, "x", NULL) == 0);
	flow_rig_require(nssm_encoder_open(&r->enc, cfg, &r->vocab, NULL) == 0);
	flow_rig_require(nssm_decoder_open(&r->dec, cfg, &r->vocab, fill, NULL) == 0);
}

static inline void flow_rig_open(struct flow_rig *r, const struct nssm_codec_cfg *cfg)
{
	flow_rig_open_fill(r, cfg, NSSM_FILL_ZERO);
}

static inline void flow_rig_close(struct flow_rig *r)
{
	nssm_encoder_close(&r->enc);
	nssm_decoder_close(&r->dec);
}

/* Where the transport checksum of a packet stands, or 0. */
static inline uint32_t flow_rig_csum_at(const struct nssm_pkt *p)
{
	struct nssm_hdrs h;
	int rc = nssm_pkt_walk(&h, p->data, p->caplen);
	if ((rc == NSSM_PKT_OK || rc == NSSM_PKT_CUT) && h.payload_off != 0)
		return h.l4_off + (h.proto == PROTO_UDP ? 6u : 16u);
	if (rc != NSSM_PKT_NOT_TCP_UDP || (h.proto != 1 && h.proto != 58))
		return 0;
	return (h.ip_version == 4 ? h.l3_off + (p->data[h.l3_off] & 15u) * 4 : h.l4_off) + 2u;
}

/* --- random walks ----------------------------------------------------------------------------------------------------- */

struct flow_walk {
	const struct flow_rig *rig;
	enum nssm_mask mask;
	struct nssm_rng rng;
	uint64_t state[16]; /* the mask's */
	uint64_t legal[NSSM_MASK_WORDS];
	uint32_t end_in;    /* a session ends at one border of so many; 0: never */
};

static inline void flow_walk_begin(struct flow_walk *w, const struct flow_rig *rig, enum nssm_mask mask, uint64_t seed, uint32_t end_in)
{
	flow_rig_require(nssm_codec_mask_bytes(&rig->cfg) <= sizeof w->state);
	*w = (struct flow_walk){.rig = rig, .mask = mask, .end_in = end_in};
	nssm_rng_init(&w->rng, seed, 0, NSSM_RNG_SAMPLE);
}

/* A legal token; the mask moves on. Each is as likely as another, but for the end, and new flows: a fourth of all, so that tables fill,
 * and lengths of more than 191 bytes: seldom. After <|endoftext|> a new session begins. */
static inline uint16_t flow_walk_token(struct flow_walk *w)
{
	const struct nssm_vocab *v = &w->rig->vocab;
	uint32_t words = (v->n_tokens + 63) / 64, n = 0;
	flow_rig_require(nssm_codec_mask(w->legal, &w->rig->cfg, v, w->mask, w->state));
	for (uint32_t i = 0; i < words; i++)
		n += (uint32_t)__builtin_popcountll(w->legal[i]);
	flow_rig_require(n > 0);
	const struct flow_gram *g = (const struct flow_gram *)w->state;
	uint16_t token = v->pkt;
	if ((w->legal[v->pkt / 64] >> v->pkt % 64 & 1) != 0) {
		if (w->end_in > 0 && nssm_rng_below(&w->rng, w->end_in) == 0)
			token = v->eot;
	} else if (g->field == F_FLOW && g->begun && nssm_rng_below(&w->rng, 4) == 0) {
		token = v->byte_id[NSSM_FLOW_CODE_NEW + nssm_rng_below(&w->rng, 6)];
	} else {
		uint32_t k = nssm_rng_below(&w->rng, n), i = 0, c;
		while (k >= (c = (uint32_t)__builtin_popcountll(w->legal[i]))) {
			k -= c;
			i++;
		}
		uint64_t m = w->legal[i];
		while (k-- > 0)
			m &= m - 1;
		token = (uint16_t)(64 * i + (uint32_t)__builtin_ctzll(m));
		if ((g->field == F_LIT || g->field == F_LEN) && g->step == 0 && nssm_rng_below(&w->rng, 16) > 0)
			token = v->byte_id[nssm_rng_below(&w->rng, 192)];
	}
	if (token == v->eot)
		memset(w->state, 0, sizeof w->state);
	else
		nssm_codec_mask_next(&w->rig->cfg, v, w->state, token);
	return token;
}

#endif
