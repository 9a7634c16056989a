/* codec_raw — what codec `raw` makes of one packet. For codec.c only. */
#ifndef NSSM_CODEC_RAW_H
#define NSSM_CODEC_RAW_H

#include "model/codec.h"

#define NSSM_RAW_PKT_LEN_MIN 54 /* Ethernet + IPv4 + TCP without options */
#define NSSM_RAW_UDP_PAYLOAD 12 /* bytes of payload that follow a UDP header */

/* The packet's bytes, exactly cfg->pkt_len of them, zero-padded. Returns NSSM_PKT_OK or why it is not taken;
 * *cut: header bytes that did not fit; *beyond_paper: the published preprocessor would have crashed here
 * (compat_paper only). */
int nssm_raw_spell(uint8_t out[NSSM_RAW_PKT_LEN_MAX], const struct nssm_codec_cfg *cfg,
        const struct nssm_pkt *pkt, uint32_t *cut, bool *beyond_paper);
/* How many of the n bytes that a model made for one packet are not padding, once its headers can be found;
 * else n. */
uint32_t nssm_raw_known(const uint8_t *bytes, uint32_t n);

#endif
