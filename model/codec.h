/* codec — sessions to tokens and back. Nothing above this interface asks which codec is in use.
 *
 * A session's tokens: <|label|> …packets… <|endoftext|>. What stands between is the codec's. Where a codec has conditions (flow may)
 * their bytes stand after the label: what the session was like as a whole, or is to be like (conditions.h; 0: unknown).
 *   raw   the paper's: per TCP/UDP packet its headers as captured (UDP: + 12 payload bytes), zero-padded to pkt_len bytes;
 *         <|pkt|> between packets. See codec_raw.c for the published preprocessor's defects and `compat_paper`.
 *   flow  every packet, <|pkt|> in front, as what a receiver that keeps the session's state could not foretell. See codec_flow.h.
 * An encoder and a decoder hold one session's state each and allocate nothing after open.                        */
#ifndef NSSM_CODEC_H
#define NSSM_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"
#include "model/conditions.h"
#include "model/packet.h"
#include "model/secure_ports.h"
#include "model/vocab.h"

#define NSSM_RAW_PKT_LEN     128
#define NSSM_RAW_PKT_LEN_MAX 256
#define NSSM_CODEC_CAPLEN_MAX 262144 /* longest captured packet that an encoder is given */
#define NSSM_FRAME_MAX       (NSSM_CODEC_CAPLEN_MAX + 64) /* longest frame a decoder gives */

enum nssm_codec_kind { NSSM_CODEC_RAW = 0, NSSM_CODEC_FLOW };
/* Payload that is kept: none; of UDP's the first bytes; all that was captured. */
enum nssm_payload { NSSM_PAYLOAD_NONE, NSSM_PAYLOAD_PREFIX, NSSM_PAYLOAD_FULL };
/* Addresses as they were captured; or numbered by first appearance, and drawn from pools when they are decoded. */
enum nssm_identity { NSSM_IDENTITY_KEEP, NSSM_IDENTITY_POOL };

struct nssm_codec_cfg {
	enum nssm_codec_kind kind;
	uint32_t version;     /* of the token layout; raw: 1; flow: NSSM_FLOW_VERSION */
	uint32_t pkt_len;     /* raw: bytes a packet, 54..NSSM_RAW_PKT_LEN_MAX */
	bool compat_paper;    /* raw: the published preprocessor's bytes, no <|endoftext|> */
	enum nssm_payload payload;   /* flow */
	uint32_t prefix;             /* flow: bytes, 1..255 with NSSM_PAYLOAD_PREFIX, else 0; at most 12 with NSSM_IDENTITY_POOL */
	enum nssm_identity identity; /* flow; POOL not with NSSM_PAYLOAD_FULL */
	uint32_t conditions;         /* flow: bytes after the label, 0 or NSSM_N_CONDITIONS */
};
/* The kind of a name ("raw", "flow"), or -1; of "none", "prefix", "full"; of "keep", "pool". */
int nssm_codec_kind_find(const char *name);
int nssm_payload_find(const char *name);
int nssm_identity_find(const char *name);
const char *nssm_codec_kind_name(const struct nssm_codec_cfg *cfg);
/* Most that describe one: "raw, 128 bytes a packet"; "flow, 12 bytes of UDP payload, addresses kept". */
void nssm_codec_describe(char *text, size_t bytes, const struct nssm_codec_cfg *cfg);
/* 0, or why there is no such codec: an error of what `where` says. */
int nssm_codec_cfg_check(const struct nssm_codec_cfg *cfg, const char *where, struct nssm_err *err);
/* As it stands in corpora and checkpoints: {"kind":"raw","version":1,"pkt_len":128,"compat":"none"|"paper"},
 * {"kind":"flow","version":1,"payload":"none"|"prefix"|"full","prefix":12,"identity":"keep"|"pool","conditions":0|5}; without
 * "conditions": 0. */
json_t *nssm_codec_cfg_to_json(const struct nssm_codec_cfg *cfg);
int nssm_codec_cfg_from_json(struct nssm_codec_cfg *cfg, const json_t *j, const char *where, struct nssm_err *err);
bool nssm_codec_cfg_same(const struct nssm_codec_cfg *a, const struct nssm_codec_cfg *b);
/* What a session begins with: the label and, where there are some, the condition bytes (NULL: all unknown). Returns the number of
 * tokens written, at most NSSM_CODEC_HEAD_MAX. */
#define NSSM_CODEC_HEAD_MAX (1 + NSSM_N_CONDITIONS)
size_t nssm_codec_head(uint16_t *out, const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab, uint32_t label_idx,
	const uint8_t *conditions);

/* --- encoder ------------------------------------------------------------------------------------------------- */

struct nssm_encoder;
int nssm_encoder_open(struct nssm_encoder **e, const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab,
	struct nssm_err *err);
void nssm_encoder_close(struct nssm_encoder **e);
/* Most tokens that one call below writes. */
size_t nssm_encoder_max_tokens(const struct nssm_encoder *e);
/* Starts a session; returns the number of tokens written to out: those of nssm_codec_head. */
size_t nssm_encoder_begin(struct nssm_encoder *e, uint16_t *out, uint32_t label_idx, const uint8_t *conditions);
/* One packet; returns the tokens written, 0 if it is not taken; *reason says why (NSSM_PKT_OK when taken), *cut how many
 * header bytes did not fit into pkt_len. */
size_t nssm_encoder_packet(struct nssm_encoder *e, uint16_t *out, const struct nssm_pkt *pkt, int *reason, uint32_t *cut);
size_t nssm_encoder_end(struct nssm_encoder *e, uint16_t *out);
/* compat_paper: packets of this session at which the published preprocessor crashes; they were taken by the same rule, with the
 * payload bytes that there are (none). */
uint32_t nssm_encoder_n_beyond_paper(const struct nssm_encoder *e);
/* flow: packets of this session stamped before their predecessor: their order is kept, their gap is 0. */
uint64_t nssm_encoder_n_time_back(const struct nssm_encoder *e);

/* --- decoder ------------------------------------------------------------------------------------------------- */

enum nssm_dec_event {
	NSSM_DEC_NONE,    /* more tokens needed */
	NSSM_DEC_PACKET,  /* *frame is a packet */
	NSSM_DEC_REJECT,  /* what the tokens spelled is not a packet: frame->reason, and frame->at_token where it ends */
	NSSM_DEC_END,     /* the session is over */
};

struct nssm_frame {
	const uint8_t *data;  /* borrowed until the decoder's next call; valid frame, checksums right */
	uint32_t len;         /* wire length */
	uint32_t caplen;      /* bytes of it that were captured, where the codec knows (flow), else len; data has len bytes */
	uint32_t n_known;     /* leading bytes that the model made; the rest is filled payload */
	int reason;           /* enum nssm_pkt_reason */
	unsigned repaired;    /* enum nssm_pkt_repair_bit */
	uint64_t at_token;    /* of the session's tokens: the one that made the packet whole, or that cannot be */
	bool escaped;         /* flow: spelled as it is (other IP, Ethernet): nothing makes its headers well-formed */
	bool has_gap;         /* the codec knows the inter-arrival time (raw: false) */
	uint64_t gap_ns;
};

/* How payload that no model made is filled: zeros; random bytes; random bytes in TLS records and QUIC packets where the ports are such
 * (codec flow only; flow_fill.h). With codec flow a TCP byte follows from its sequence number: what is sent again is the same. */
enum nssm_fill { NSSM_FILL_ZERO, NSSM_FILL_RANDOM, NSSM_FILL_TLS };
/* Of "zeros", "random", "tls", or -1. */
int nssm_fill_find(const char *name);

struct nssm_decoder;
int nssm_decoder_open(struct nssm_decoder **d, const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab,
	enum nssm_fill fill, struct nssm_err *err);
void nssm_decoder_close(struct nssm_decoder **d);
/* The ports that NSSM_FILL_TLS goes by, for all sessions from the next on; without: the well-known ones. */
void nssm_decoder_secure(struct nssm_decoder *d, const struct nssm_secure_ports *ports);
/* Starts a session: filled payload comes from (seed, session, NSSM_RNG_PAYLOAD). The first token given then is the label. Condition
 * bytes after it are passed over; where some are missing that is a REJECT. */
void nssm_decoder_begin(struct nssm_decoder *d, uint64_t seed, uint64_t session);
/* The token that ends the session may complete its last packet: then it gives PACKET or REJECT, and every later call END. */
enum nssm_dec_event nssm_decoder_token(struct nssm_decoder *d, uint16_t token, struct nssm_frame *frame);
/* The tokens ended without <|endoftext|> (a limit): what is complete is given (PACKET or REJECT), else END. An empty
 * rest is no packet. */
enum nssm_dec_event nssm_decoder_flush(struct nssm_decoder *d, struct nssm_frame *frame);
/* After the session's end: a packet more (PACKET) of how its TCP connections that are open would end properly, FIN from both sides and
 * the last ACK; END when there is none, at once with raw. */
enum nssm_dec_event nssm_decoder_teardown(struct nssm_decoder *d, struct nssm_frame *frame);

/* --- what may come next ---------------------------------------------------------------------------------------- */

/* What a session may hold: all that the encoder spells, or (clean) nothing whose packets would have a malformed header or a wrong
 * checksum, but for those that the decoder marks as escaped: a model that could not spell them would go astray where captures have
 * them, and who sends packets leaves them out. */
enum nssm_mask { NSSM_MASK_FULL, NSSM_MASK_CLEAN };
#define NSSM_MASK_WORDS (NSSM_VOCAB_MAX / 64)

/* A lane's state: so many bytes (raw: 0), zeroed before a session, moved on by each token, the label first. */
size_t nssm_codec_mask_bytes(const struct nssm_codec_cfg *cfg);
void nssm_codec_mask_next(const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab, void *state, uint16_t token);
/* Legal tokens as a bit set over ids, the words that cover vocab's n_tokens; false: all are legal (raw), nothing is written. */
bool nssm_codec_mask(uint64_t legal[NSSM_MASK_WORDS], const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab,
	enum nssm_mask mask, const void *state);
/* Where a gap's step (iat.h) comes: takes those beyond most_step out of legal. */
void nssm_codec_mask_gap(uint64_t legal[NSSM_MASK_WORDS], const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab,
	const void *state, unsigned most_step);
/* What the codec knows of the token that comes, as a number (flow_context.h): a model may be given it beside each token. How many numbers
 * there are; raw: 0. */
unsigned nssm_codec_n_contexts(const struct nssm_codec_cfg *cfg);
unsigned nssm_codec_context(const struct nssm_codec_cfg *cfg, const void *state);
/* Whether the session's n-th <|pkt|> (n from 1) closes packet n (raw) or opens it. */
bool nssm_codec_pkt_closes(const struct nssm_codec_cfg *cfg);

#endif
