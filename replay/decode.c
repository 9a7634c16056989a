#include "replay/decode.h"

#include <assert.h>
#include <stdlib.h>

#include "base/philox.h"
#include "model/codec.h"
#include "model/iat.h"

struct nssm_decode {
	const struct nssm_model_card *card;
	struct nssm_decoder *dec;
	struct nssm_rng time;
	uint64_t t_ns;
	uint32_t label_idx;
	bool clean, has_frame, has_packet;
};

/* Others read while this thread counts. */
static void add(uint64_t *c, uint64_t n)
{
	__atomic_store_n(c, *c + n, __ATOMIC_RELAXED);
}

const char *nssm_end_name(enum nssm_end_reason end)
{
	static const char *const name[NSSM_END_N] = {"none", "eot", "packets", "tokens", "stopped"};
	assert((unsigned)end < NSSM_END_N);
	return name[end];
}

int nssm_decode_open(struct nssm_decode **dp, const struct nssm_model_card *card, enum nssm_fill fill,
        enum nssm_mask mask, struct nssm_err *err)
{
	struct nssm_decode *d = calloc(1, sizeof *d);
	*dp = d;
	if (d == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a decoder");
	d->card = card;
	d->clean = mask == NSSM_MASK_CLEAN;
	int rc = nssm_decoder_open(&d->dec, &card->codec, &card->vocab, fill, err);
	if (rc == 0)
		nssm_decoder_secure(d->dec, &card->secure);
	else
		nssm_decode_close(dp);
	return rc;
}

void nssm_decode_close(struct nssm_decode **dp)
{
	if (*dp == NULL)
		return;
	nssm_decoder_close(&(*dp)->dec);
	free(*dp);
	*dp = NULL;
}

void nssm_decode_begin(struct nssm_decode *d, uint64_t seed, uint64_t session, uint32_t label_idx)
{
	nssm_decoder_begin(d->dec, seed, session);
	nssm_rng_init(&d->time, seed, session, NSSM_RNG_TIME);
	d->t_ns = 0;
	d->label_idx = label_idx;
	d->has_frame = d->has_packet = false;
}

static void wait_gap(struct nssm_decode *d, const struct nssm_frame *f, bool is_packet)
{
	uint64_t gap = 0;
	if (d->has_frame && f->has_gap)
		gap = f->gap_ns;
	else if (d->has_packet && is_packet && d->card->iat != NULL)
		gap = nssm_iat_draw(&d->card->iat[d->label_idx], &d->time);
	d->t_ns = gap > NSSM_STREAM_MAX_NS - d->t_ns ? NSSM_STREAM_MAX_NS : d->t_ns + gap;
	d->has_frame = true;
	d->has_packet |= is_packet;
}

/* True: a packet. */
static bool take(struct nssm_decode *d, enum nssm_dec_event ev, const struct nssm_frame *f, uint64_t *t_ns,
        struct nssm_label_stats *s)
{
	if (ev != NSSM_DEC_PACKET && ev != NSSM_DEC_REJECT)
		return false;
	int reason = ev == NSSM_DEC_REJECT ? f->reason : d->clean && f->escaped ? NSSM_PKT_ESCAPED : NSSM_PKT_OK;
	add(&s->made, 1);
	wait_gap(d, f, reason == NSSM_PKT_OK);
	*t_ns = d->t_ns;
	if (reason != NSSM_PKT_OK) {
		assert(reason > NSSM_PKT_OK && reason < NSSM_PKT_N_REASONS);
		add(&s->rejected[reason], 1);
		return false;
	}
	add(&s->packets, 1);
	add(&s->bytes, f->len);
	for (int b = 0; b < NSSM_REPAIR_N_BITS; b++)
		if (f->repaired >> b & 1)
			add(&s->repaired[b], 1);
	return true;
}

int nssm_decode_next(struct nssm_decode *d, const uint16_t **token, const uint16_t *end, struct nssm_frame *f,
        uint64_t *t_ns, struct nssm_label_stats *s)
{
	const uint16_t *from = *token;
	bool whole = false;
	while (!whole && *token < end)
		whole = take(d, nssm_decoder_token(d->dec, *(*token)++, f), f, t_ns, s);
	add(&s->tokens, (uint64_t)(*token - from));
	return whole;
}

int nssm_decode_flush(struct nssm_decode *d, bool close, struct nssm_frame *f, uint64_t *t_ns, struct nssm_label_stats *s)
{
	enum nssm_dec_event ev;
	while ((ev = nssm_decoder_flush(d->dec, f)) == NSSM_DEC_PACKET || ev == NSSM_DEC_REJECT)
		if (take(d, ev, f, t_ns, s))
			return 1;
	return close && take(d, nssm_decoder_teardown(d->dec, f), f, t_ns, s);
}
