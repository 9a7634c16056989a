/* render — blocks of tokens to packets with due times, and those into captures: one file in time order, a folder with one
 * file a session, or both.
 * Time   : a session's first packet is due at its start. After that the gap is the codec's, or else drawn from the label's
 *          histogram with the stream (seed, session, NSSM_RNG_TIME). A rejected packet takes no time of its own.
 * Folder : 000017-web.pcap for session 17 with label web, written when the session ends, and labels.csv with the columns
 *          File,Label,Seed,Session,Packets,End in the order of the sessions, so that `prepare` reads it back.
 * Counts : made = written + rejected, by reason, for each label; nssm_render_finish asserts it against what was written.
 * Memory : a decoder a session that is open; what merge.h holds; a folder's session until it ends. 24 bytes a session for
 *          labels.csv.
 * Checked: tests/test_render.c                                                                                           */
#ifndef NSSM_RENDER_H
#define NSSM_RENDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/generator.h"
#include "model/packet.h"
#include "replay/decode.h"
#include "replay/merge.h"


struct nssm_render_cfg {
	const struct nssm_model_card *card;     /* borrowed until close */
	const struct nssm_generator_cfg *gen;   /* borrowed until close; seed, first_session, n_sessions and starts are used */
	enum nssm_fill fill;
	uint32_t snaplen;    /* 0: whole frames; else cut here, the wire length is kept */
	uint64_t epoch_ns;   /* time of the run's start */
	bool us;             /* microsecond stamps */
	const char *pcap_out; /* NULL: none; "-": stdout */
	const char *out_dir;  /* NULL: none; made if it is not there, must be empty */
};

struct nssm_render_stats {
	uint64_t sessions, flows, tokens;
	uint64_t made;    /* what the decoder gave: packets + all rejected */
	uint64_t packets; /* good ones */
	uint64_t bytes;   /* of those on the wire */
	uint64_t cut;     /* of those, shortened by snaplen */
	uint64_t rejected[NSSM_PKT_N_REASONS];
	uint64_t repaired[NSSM_REPAIR_N_BITS]; /* packets that needed it; one packet may count under several */
	uint64_t end[NSSM_END_N];
	uint64_t last_ns; /* due time of the latest packet */
};

struct nssm_render;
int nssm_render_open(struct nssm_render **r, const struct nssm_render_cfg *cfg, struct nssm_err *err);
/* A generator's emit; ctx is the render. Non-zero: nssm_render_error says why. */
int nssm_render_emit(void *ctx, const struct nssm_token_block *block);
const struct nssm_err *nssm_render_error(const struct nssm_render *r);
/* No more blocks come: lets out what is held and puts the files in place. Every session that began must have ended. */
int nssm_render_finish(struct nssm_render *r, struct nssm_err *err);
/* Without finish: the file in time order is dropped; a folder keeps the sessions that were whole. */
void nssm_render_close(struct nssm_render **r);

/* One label's; valid until close. */
const struct nssm_render_stats *nssm_render_label_stats(const struct nssm_render *r, uint32_t label_idx);
/* Over all labels. */
struct nssm_render_stats nssm_render_total(const struct nssm_render *r);
uint64_t nssm_render_rejected(const struct nssm_render_stats *s);
/* The most that was held for time order. */
struct nssm_merge_held nssm_render_held(const struct nssm_render *r);

#endif
