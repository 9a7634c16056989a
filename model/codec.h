/* codec — sessions to tokens and back. Nothing above this interface asks which codec is in use.
 *
 * A session's tokens: <|label|> …packets… <|endoftext|>. What stands between is the codec's.
 *   raw   the paper's: per TCP/UDP packet its headers as captured (UDP: + 12 payload bytes), zero-padded to pkt_len bytes;
 *         <|pkt|> between packets. See codec_raw.c for the published preprocessor's defects and `compat_paper`.
 * An encoder and a decoder hold one session's state each and allocate nothing after open.                        */
#ifndef NSSM_CODEC_H
#define NSSM_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"
#include "model/packet.h"
#include "model/vocab.h"

#define NSSM_RAW_PKT_LEN     128
#define NSSM_RAW_PKT_LEN_MAX 256
#define NSSM_FRAME_MAX       (65535 + 64) /* longest frame a decoder gives: 64 KiB of IP behind Ethernet and VLAN tags */

enum nssm_codec_kind { NSSM_CODEC_RAW = 0 };

struct nssm_codec_cfg {
	enum nssm_codec_kind kind;
	uint32_t version;     /* of the token layout; raw: 1 */
	uint32_t pkt_len;     /* raw: bytes a packet, 54..NSSM_RAW_PKT_LEN_MAX */
	bool compat_paper;    /* raw: the published preprocessor's bytes, no <|endoftext|> */
};
/* The kind of a name ("raw"), or -1. */
int nssm_codec_kind_find(const char *name);
/* As it stands in corpora and checkpoints: {"kind":"raw","version":1,"pkt_len":128,"compat":"none"|"paper"}. */
json_t *nssm_codec_cfg_to_json(const struct nssm_codec_cfg *cfg);
int nssm_codec_cfg_from_json(struct nssm_codec_cfg *cfg, const json_t *j, const char *where, struct nssm_err *err);

/* --- encoder ------------------------------------------------------------------------------------------------- */

struct nssm_encoder;
int nssm_encoder_open(struct nssm_encoder **e, const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab,
	struct nssm_err *err);
void nssm_encoder_close(struct nssm_encoder **e);
/* Most tokens that one call below writes. */
size_t nssm_encoder_max_tokens(const struct nssm_encoder *e);
/* Starts a session with a label index; returns the number of tokens written to out. */
size_t nssm_encoder_begin(struct nssm_encoder *e, uint16_t *out, uint32_t label_idx);
/* One packet; returns the tokens written, 0 if it is not taken; *reason says why (NSSM_PKT_OK when taken), *cut how many
 * header bytes did not fit into pkt_len. */
size_t nssm_encoder_packet(struct nssm_encoder *e, uint16_t *out, const struct nssm_pkt *pkt, int *reason, uint32_t *cut);
size_t nssm_encoder_end(struct nssm_encoder *e, uint16_t *out);
/* compat_paper: packets of this session at which the published preprocessor crashes; they were taken by the same rule, with the
 * payload bytes that there are (none). */
uint32_t nssm_encoder_n_beyond_paper(const struct nssm_encoder *e);

/* --- decoder ------------------------------------------------------------------------------------------------- */

enum nssm_dec_event {
	NSSM_DEC_NONE,    /* more tokens needed */
	NSSM_DEC_PACKET,  /* *frame is a packet */
	NSSM_DEC_REJECT,  /* what the tokens spelled is not a packet: frame->reason */
	NSSM_DEC_END,     /* the session is over */
};

struct nssm_frame {
	const uint8_t *data;  /* borrowed until the decoder's next call; valid frame, checksums right */
	uint32_t len;         /* wire length */
	uint32_t n_known;     /* leading bytes that the model made; the rest is filled payload */
	int reason;           /* enum nssm_pkt_reason */
	unsigned repaired;    /* enum nssm_pkt_repair_bit */
	bool has_gap;         /* the codec knows the inter-arrival time (raw: false) */
	uint64_t gap_ns;
};

/* How payload that no model made is filled. */
enum nssm_fill { NSSM_FILL_ZERO, NSSM_FILL_RANDOM };

struct nssm_decoder;
int nssm_decoder_open(struct nssm_decoder **d, const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab,
	enum nssm_fill fill, struct nssm_err *err);
void nssm_decoder_close(struct nssm_decoder **d);
/* Starts a session: filled payload comes from (seed, session, NSSM_RNG_PAYLOAD). The first token given then is the label. */
void nssm_decoder_begin(struct nssm_decoder *d, uint64_t seed, uint64_t session);
/* The token that ends the session may complete its last packet: then it gives PACKET or REJECT, and every later call END. */
enum nssm_dec_event nssm_decoder_token(struct nssm_decoder *d, uint16_t token, struct nssm_frame *frame);
/* The tokens ended without <|endoftext|> (a limit): what is complete is given (PACKET or REJECT), else END. An empty
 * rest is no packet. */
enum nssm_dec_event nssm_decoder_flush(struct nssm_decoder *d, struct nssm_frame *frame);

/* --- what may come next ---------------------------------------------------------------------------------------- */

/* Legal tokens as a bit set of 64-bit words over ids, or NULL: all are legal (raw). state: nssm_codec_mask_bytes() of it a
 * lane, zeroed before a session, moved on by nssm_codec_mask_next. */
size_t nssm_codec_mask_bytes(const struct nssm_codec_cfg *cfg);
const uint64_t *nssm_codec_mask(const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab, const void *state);
void nssm_codec_mask_next(const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab, void *state, uint16_t token);
/* Whether the session's n-th <|pkt|> (n from 1) closes packet n (raw) or opens it. */
bool nssm_codec_pkt_closes(const struct nssm_codec_cfg *cfg);

#endif
