/* Codec `flow`. First byte: configuration, and whether what follows are tokens or packets.
 * Tokens: any bytes; 250 b: special token 256 + b, or byte b from 8 on. What the mask allows is not rejected, and is whole where the
 * mask says so.
 * Packets: 2 bytes length, then with the length's top bit a gap (8 bytes) and wire bytes beyond (4), then the bytes. They come back. */
#include <stdlib.h>
#include <string.h>

#include "model/flow_grammar.h"
#include "model/packet_impl.h"
#include "tests/flow_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MOST_PACKETS 512

static struct flow_rig rig[FLOW_RIG_CFGS];
static uint16_t *out;

static void check_frame(const struct nssm_frame *f, enum nssm_dec_event ev)
{
	if (ev == NSSM_DEC_REJECT)
		flow_rig_require(f->reason != NSSM_PKT_OK && f->reason < NSSM_PKT_N_REASONS);
	if (ev != NSSM_DEC_PACKET)
		return;
	flow_rig_require(f->n_known <= f->len && f->caplen <= f->len && f->len <= NSSM_FRAME_MAX && f->has_gap);
	/* All of it is there. */
	volatile uint8_t sum = 0;
	for (uint32_t i = 0; i < f->len; i++)
		sum = (uint8_t)(sum + f->data[i]);
}

static void tokens(struct flow_rig *r, const uint8_t *data, size_t size)
{
	uint64_t state[16] = {0}, legal[NSSM_MASK_WORDS];
	const struct flow_gram *g = (const struct flow_gram *)state;
	struct nssm_frame f;
	enum nssm_dec_event ev;
	uint16_t token = r->vocab.label[0].id;
	flow_rig_require(nssm_codec_mask_bytes(&r->cfg) <= sizeof state);
	nssm_decoder_begin(r->dec, size, 1);
	flow_rig_require(nssm_decoder_token(r->dec, token, &f) == NSSM_DEC_NONE);
	nssm_codec_mask_next(&r->cfg, &r->vocab, state, token);
	for (size_t i = 0; i < size; i++) {
		token = data[i] != 250 || i + 1 == size ? data[i] : data[++i] < 8 ? (uint16_t)(256 + data[i]) : data[i];
		if (token < 256)
			token = r->vocab.byte_id[token];
		flow_rig_require(nssm_codec_mask(legal, &r->cfg, &r->vocab, NSSM_MASK_FULL, state));
		bool may = token < r->vocab.n_tokens && (legal[token / 64] >> token % 64 & 1) != 0, within = !flow_gram_between(g);
		ev = nssm_decoder_token(r->dec, token, &f);
		check_frame(&f, ev);
		if (ev == NSSM_DEC_END)
			return;
		nssm_codec_mask_next(&r->cfg, &r->vocab, state, token < r->vocab.n_tokens ? token : r->vocab.unk);
		flow_rig_require(!may || ev != NSSM_DEC_REJECT);
		flow_rig_require((ev == NSSM_DEC_PACKET) == (may && within && flow_gram_between(g)));
	}
	ev = nssm_decoder_flush(r->dec, &f);
	flow_rig_require(ev == (flow_gram_between(g) ? NSSM_DEC_END : NSSM_DEC_REJECT));
	flow_rig_require(nssm_decoder_flush(r->dec, &f) == NSSM_DEC_END);
}

static void same(const struct flow_rig *r, const struct nssm_pkt *p, const struct nssm_frame *f)
{
	flow_rig_require(f->len == p->wirelen && f->caplen == p->caplen);
	if (r->cfg.identity == NSSM_IDENTITY_POOL)
		return;
	bool whole = r->cfg.payload == NSSM_PAYLOAD_FULL && p->caplen >= p->wirelen;
	uint32_t csum = whole ? 0 : flow_rig_csum_at(p), n = f->n_known < p->caplen ? f->n_known : p->caplen;
	for (uint32_t i = 0; i < n; i++)
		flow_rig_require(f->data[i] == p->data[i] || (csum != 0 && (i == csum || i == csum + 1)));
	struct nssm_hdrs h;
	flow_rig_require(nssm_pkt_parse(&h, p->data, p->caplen) != NSSM_PKT_OK || f->n_known >= h.payload_off);
}

static void packets(struct flow_rig *r, const uint8_t *data, size_t size)
{
	struct nssm_frame f;
	uint64_t ts = 1;
	nssm_encoder_begin(r->enc, out, 0, NULL);
	nssm_decoder_begin(r->dec, 5, 6);
	flow_rig_require(nssm_decoder_token(r->dec, out[0], &f) == NSSM_DEC_NONE);
	for (unsigned k = 0; size >= 2 && k < MOST_PACKETS; k++) {
		uint32_t n = get16(data) & 0x7fff, beyond = 0;
		bool more = data[0] >> 7;
		data += 2;
		size -= 2;
		if (more && size >= 12) {
			uint64_t gap = 0;
			for (int i = 0; i < 8; i++)
				gap = gap << 8 | data[i];
			ts += gap;
			beyond = get32(data + 8);
			data += 12;
			size -= 12;
		}
		n = n < size ? n : (uint32_t)size;
		/* Wire bytes beyond what a frame holds are not known to anybody. */
		beyond = beyond < NSSM_FRAME_MAX - n ? beyond : beyond % (NSSM_FRAME_MAX - n);
		uint8_t *copy = malloc(n + (n == 0)); /* with nothing behind it */
		flow_rig_require(copy != NULL);
		memcpy(copy, data, n);
		data += n;
		size -= n;
		const struct nssm_pkt p = {.ts_ns = ts, .data = copy, .caplen = n, .wirelen = n + beyond};
		int reason;
		uint32_t cut;
		size_t got = nssm_encoder_packet(r->enc, out, &p, &reason, &cut);
		flow_rig_require(got > 1 && got <= nssm_encoder_max_tokens(r->enc));
		for (size_t i = 0; i < got; i++) {
			enum nssm_dec_event ev = nssm_decoder_token(r->dec, out[i], &f);
			flow_rig_require(ev == (i + 1 < got ? NSSM_DEC_NONE : NSSM_DEC_PACKET));
			check_frame(&f, ev);
		}
		same(r, &p, &f);
		free(copy);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (out == NULL) {
		for (unsigned i = 0; i < FLOW_RIG_CFGS; i++)
			flow_rig_open_fill(&rig[i], &flow_rig_cfg[i], NSSM_FILL_TLS);
		out = malloc((1 + FLOW_RIG_CFGS * 4096ul + 2 * NSSM_CODEC_CAPLEN_MAX) * sizeof *out);
		flow_rig_require(out != NULL);
	}
	if (size < 2)
		return 0;
	struct flow_rig *r = &rig[data[0] / 2 % FLOW_RIG_CFGS];
	if (data[0] & 1)
		packets(r, data + 1, size - 1);
	else
		tokens(r, data + 1, size - 1);
	return 0;
}
