/* Any bytes as a packet: parsed, spelled as tokens, decoded again; and as tokens of any kind. What a decoder
 * gives is valid. */
#include <stdlib.h>
#include <string.h>

#include "model/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static void check_frame(const struct nssm_frame *f, enum nssm_dec_event ev)
{
	if (ev == NSSM_DEC_REJECT)
		require(f->reason != NSSM_PKT_OK && f->reason < NSSM_PKT_N_REASONS);
	if (ev != NSSM_DEC_PACKET)
		return;
	struct nssm_hdrs h;
	require(f->n_known <= f->len && f->len <= NSSM_FRAME_MAX);
	require(nssm_pkt_parse(&h, f->data, f->len) == NSSM_PKT_OK && !h.fragment);
	require(h.l3_off + h.ip_len == f->len);
	const uint8_t *l3 = f->data + h.l3_off, *l4 = f->data + h.l4_off,
	              *sum = l4 + (h.proto == 17 ? 6 : 16);
	uint32_t said = (uint32_t)sum[0] << 8 | sum[1];
	require(h.ip_version == 6 || nssm_csum_fold(nssm_csum_add(0, l3, h.l4_off - h.l3_off)) == 0);
	require((h.ip_version == 4 && h.proto == 17 && said == 0) ||
	        said == nssm_csum_l4(l3, h.ip_version, h.proto, l4, f->len - h.l4_off));
	struct nssm_flow_key key;
	require(nssm_flow_key(&key, &h, f->data) < 2);
}

static void decode(struct nssm_decoder *d, const uint16_t *t, size_t n)
{
	struct nssm_frame f;
	for (size_t i = 0; i < n; i++)
		check_frame(&f, nssm_decoder_token(d, t[i], &f));
	check_frame(&f, nssm_decoder_flush(d, &f));
	require(nssm_decoder_flush(d, &f) == NSSM_DEC_END);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	static struct nssm_vocab vocab;
	nssm_vocab_init(&vocab);
	require(nssm_vocab_add_label(&vocab, "x", NULL) == 0);
	struct nssm_codec_cfg cfg = {.kind = NSSM_CODEC_RAW,
	        .version = 1,
	        .pkt_len = 54 + data[0] % 203u,
	        .compat_paper = data[1] & 1};
	enum nssm_fill fill = data[1] & 2 ? NSSM_FILL_RANDOM : NSSM_FILL_ZERO;
	struct nssm_encoder *e;
	struct nssm_decoder *d;
	require(nssm_encoder_open(&e, &cfg, &vocab, NULL) == 0 &&
	        nssm_decoder_open(&d, &cfg, &vocab, fill, NULL) == 0);

	/* Exactly its bytes on the heap, so that the sanitizer sees a step beyond. */
	uint32_t n = (uint32_t)size - 2;
	uint8_t *frame = malloc(n ? n : 1);
	uint16_t *t = malloc((3 * nssm_encoder_max_tokens(e) + size) * sizeof *t);
	require(frame != NULL && t != NULL);
	memcpy(frame, data + 2, n);
	struct nssm_pkt pkt = {.data = frame, .caplen = n, .wirelen = n};
	size_t k = nssm_encoder_begin(e, t, 0, NULL);
	for (int i = 0; i < 2; i++) {
		int reason;
		uint32_t cut;
		size_t got = nssm_encoder_packet(e, t + k, &pkt, &reason, &cut);
		require((got == 0) == (reason != NSSM_PKT_OK) && got <= nssm_encoder_max_tokens(e));
		k += got;
	}
	k += nssm_encoder_end(e, t + k);
	decode(d, t, k);

	nssm_decoder_begin(d, 1, 1);
	for (size_t i = 2; i < size; i++)
		t[i - 2] = data[i] < 250 || i + 1 == size ? data[i] : (uint16_t)(256 + data[i + 1] % 8);
	decode(d, t, size - 2);
	free(t);
	free(frame);
	nssm_encoder_close(&e);
	nssm_decoder_close(&d);
	return 0;
}
