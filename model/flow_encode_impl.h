/* flow_encode_impl — what the two halves of the `flow` codec's encoder share: packets of each kind (flow_encode.c), and what they have in
 * common (flow_say.c). Not for others. */
#ifndef NSSM_FLOW_ENCODE_IMPL_H
#define NSSM_FLOW_ENCODE_IMPL_H

#include <string.h>

#include "model/flow_codec.h"
#include "model/flow_parse.h"

struct flow_encoder {
	struct flow_state state;
	struct nssm_codec_cfg cfg;
	uint64_t last_ns;
	bool begun;
	uint64_t n_time_back;
	struct flow_parser parser;
	uint8_t arp[128]; /* an ARP packet's hosts and MACs, said before what stands in front of them */
};

/* --- writing --- */

struct out {
	uint8_t *b;
	size_t n;
};

static inline void byte(struct out *o, unsigned v)
{
	o->b[o->n++] = (uint8_t)v;
}

static inline void bytes(struct out *o, const void *p, size_t n)
{
	if (n > 0)
		memcpy(o->b + o->n, p, n);
	o->n += n;
}

static inline void be(struct out *o, uint32_t v, int n)
{
	while (n-- > 0)
		byte(o, v >> 8 * n);
}

static inline void num(struct out *o, uint32_t v)
{
	if (v < 192) {
		byte(o, v);
	} else if (v < 12480) {
		byte(o, 192 + ((v - 192) >> 8));
		byte(o, v - 192);
	} else if (v < 12480 + 14 * 65536) {
		byte(o, 240 + ((v - 12480) >> 16));
		be(o, v - 12480, 2);
	} else {
		byte(o, 254);
		be(o, v, 4);
	}
}

static inline void zigzag(struct out *o, uint32_t diff)
{
	num(o, diff << 1 ^ (uint32_t)((int32_t)diff >> 31));
}

/* --- MACs, hosts, flows: by rank, or as new ones; MACs and hosts return their slots --- */

/* host: whose MAC it is, of IP version ver; NULL: of nobody that is known. */
unsigned flow_say_mac(struct flow_encoder *e, struct out *o, const uint8_t mac[6], int ver, const uint8_t *host);
unsigned flow_say_host(struct flow_encoder *e, struct out *o, int ver, const uint8_t *addr, const uint8_t mac[6]);
void flow_say_flow(struct flow_encoder *e, struct out *o, const struct flow *f, int dir);
void flow_say_new_flow(struct flow_encoder *e, struct out *o, struct flow_pkt *p);

/* --- X: what differs from what was foretold --- */

/* Bits of X with what follows it. */
struct extra {
	uint8_t x, iph, cap, link, bad;
	uint8_t seq_code, id_code, ecr_code;
	uint32_t seq_diff, tse, pav;
	unsigned layout;
};

/* Each sets the bits of what is not as foretold. */
void flow_expect_iph(struct extra *x, const struct flow_pkt *p, uint8_t ttl, uint8_t tos, bool df, uint32_t label);
void flow_expect_ipid(struct extra *x, const struct flow_state *s, const struct flow_pkt *p, const struct flow_end *end);
void flow_expect_bad(struct extra *x, const struct flow_pkt *p, bool no_csum);
void flow_expect_link(struct extra *x, const struct flow_state *s, const struct flow_pkt *p, const struct flow_link *l);
void flow_expect_cap(struct flow_encoder *e, struct extra *x, const struct flow_pkt *p, uint32_t end, uint32_t most_kept);
/* X and all that it calls for. What LINK and CAP change is changed here, LINK's first. end: of the IP packet. */
void flow_say_extra(struct flow_encoder *e, struct out *o, const struct extra *x, const struct flow_pkt *p, struct flow_link *link, uint32_t end);

#endif
