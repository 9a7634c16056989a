/* flow_codec — encoder and decoder of codec `flow`, for codec.c only: a packet to the bytes behind <|pkt|>, and back. The bytes are
 * specified in codec_flow.h.
 * Checked: tests/test_flow_codec.c */
#ifndef NSSM_FLOW_CODEC_H
#define NSSM_FLOW_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "model/codec.h"
#include "model/flow_grammar.h"

/* Bytes that one packet takes at most, without payload that is kept. */
#define FLOW_SAID_MAX 4096u

struct flow_encoder;
struct flow_encoder *flow_encoder_open(const struct nssm_codec_cfg *cfg); /* NULL: no memory */
void flow_encoder_close(struct flow_encoder *e);
void flow_encoder_begin(struct flow_encoder *e);
/* Every packet is taken. Returns the bytes written: at most FLOW_SAID_MAX, and the payload kept. */
size_t flow_encode(struct flow_encoder *e, uint8_t *out, const struct nssm_pkt *pkt);
/* Packets of the session that were stamped before their predecessor. */
uint64_t flow_encoder_time_back(const struct flow_encoder *e);

struct flow_decoder;
struct flow_decoder *flow_decoder_open(const struct nssm_codec_cfg *cfg, enum nssm_fill fill); /* NULL: no memory */
void flow_decoder_close(struct flow_decoder *d);
void flow_decoder_secure(struct flow_decoder *d, const struct nssm_secure_ports *ports);
void flow_decoder_begin(struct flow_decoder *d, uint64_t seed, uint64_t session);
/* <|pkt|>: a packet begins; what was not whole is forgotten. */
void flow_decoder_packet(struct flow_decoder *d);
/* Whether a packet has begun and is not whole. */
bool flow_decoder_within(const struct flow_decoder *d);
/* The next packet that ends an open TCP connection properly; false: none is open. */
bool flow_decoder_teardown(struct flow_decoder *d, struct nssm_frame *frame);
/* A byte of a packet. FLOW_GRAM_WHOLE: *frame is it, until the next call; ILLEGAL: the packet cannot go on. */
enum flow_gram_event flow_decoder_byte(struct flow_decoder *d, uint8_t b, struct nssm_frame *frame);

#endif
