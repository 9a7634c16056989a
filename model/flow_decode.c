/* The second half of the `flow` codec's decoder: absolute values to a frame. */
#include "model/flow_decode_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/iat.h"
#include "model/packet_impl.h"

#define GAP_MAX   (1ull << 62)
/* Between packets of a connection that is made to end. */
#define TEARDOWN_GAP_NS 1000000u
/* So far apart are the names of neighbouring sessions' hosts, so that sessions that run at the same time seldom share one. */
#define NAMES_OF_SESSION 16u

/* --- the frame ---------------------------------------------------------------------------------------------------------------------------- */

static void set_csum(struct flow_decoder *d, const struct flow_pkt *p, const struct flow_built *b)
{
	if (b->csum == 0 || p->l4_mode == FLOW_CSUM_LITERAL || p->l4_mode == FLOW_CSUM_ZERO)
		return;
	uint8_t *f = d->frame;
	uint32_t n = b->end - b->l4, sum = csum_pseudo(f + b->l3, p->ver, p->proto, n);
	uint16_t c = (uint16_t)~nssm_csum_fold(sum);
	if (p->l4_mode == FLOW_CSUM_RIGHT) {
		/* Zeros add nothing. */
		uint32_t known = b->payload + p->n_prefix - b->l4;
		c = nssm_csum_fold(nssm_csum_add(sum, f + b->l4, d->fill.how == NSSM_FILL_ZERO ? known : n));
		if (p->kind == FLOW_UDP && c == 0)
			c = 0xffff;
	}
	put16(f + b->csum, c);
}

static uint32_t wire_length(const struct flow_decoder *d, const struct extra *x, uint32_t end)
{
	bool pads = end < 60 && d->state.mac_pads[x->smac];
	if (x->cap & 2)
		return end + least(x->trailer, NSSM_FRAME_MAX);
	if (x->cap & 4)
		return least(x->wlen, end);
	return pads ? 60 : end;
}

static void build(struct flow_decoder *d, struct flow_pkt *p, const struct extra *x, struct nssm_frame *frame)
{
	struct flow_built b;
	uint32_t fixed = p->kind == FLOW_TCP ? TCP_LEN + p->n_opt : p->kind <= FLOW_ECHO ? 8 : 0;
	fixed += p->kind == FLOW_ETHER || p->kind == FLOW_ARP ? 0 : p->ver == 4 ? 20 + p->n_ipopt : p->n_ipopt;
	/* A length that IP's field has no room for needs a field that says another (RFC 2675), or a frame without IP. */
	bool bounded = p->kind != FLOW_ETHER && !p->ip_len_bad;
	uint32_t link = 14 + 4u * p->vlan.n + (p->kind != FLOW_ETHER && p->ver == 6 ? IP6_LEN : 0);
	p->len = least(p->len, bounded ? 65535 - fixed : NSSM_FRAME_MAX - link - fixed);
	p->n_lit = least(p->n_lit, p->len);
	flow_build(d->frame, p, &b);
	uint32_t at = b.hdr;
	if (p->kind <= FLOW_ECHO) {
		p->n_prefix = least(p->n_prefix, p->len);
		memcpy(d->frame + at, p->prefix, p->n_prefix);
		at += p->n_prefix;
	}
	/* A literal may be longer than the length that was said. */
	flow_fill_packet(&d->fill, &d->state, p, d->frame + b.hdr, at - b.hdr, b.end > at ? b.end - b.hdr : at - b.hdr);
	set_csum(d, p, &b);
	uint32_t wire = least(wire_length(d, x, b.end), NSSM_FRAME_MAX);
	if (wire > b.end)
		memset(d->frame + b.end, 0, wire - b.end);
	if (wire > b.end && p->n_trailer > 0)
		memcpy(d->frame + b.end, p->trailer, least(p->n_trailer, wire - b.end));
	*frame = (struct nssm_frame){.data = d->frame, .len = wire, .n_known = least(at, wire), .has_gap = true};
	frame->escaped = p->kind == FLOW_OTHER || p->kind == FLOW_ETHER;
	frame->caplen = least(wire, d->state.snap);
}

static uint64_t draw_gap(struct flow_decoder *d, unsigned step, unsigned gapx)
{
	if (gapx == 0)
		return nssm_iat_dither(step, &d->time);
	uint64_t lo, hi;
	nssm_iat_range(step, &lo, &hi);
	double ns = (double)lo * exp2((gapx + nssm_rng_unit(&d->time)) / 8);
	return ns < (double)GAP_MAX ? (uint64_t)ns : GAP_MAX;
}

static void hear(struct flow_decoder *d, struct nssm_frame *frame)
{
	struct flow_pkt p;
	struct extra x;
	flow_hear(d, &p, &x);
	build(d, &p, &x, frame);
	flow_update(&d->state, &p);
	frame->gap_ns = draw_gap(d, p.step, p.gapx);
}

/* Both ends have sent something, and it is not over. */
static bool is_open(const struct flow *f)
{
	return f->kind == FLOW_TCP && !f->closed && f->end[0].open && f->end[1].open;
}

/* What is still to be said in an open connection: who has sent no FIN sends one, the initiator first; then what the other said last
 * is acknowledged. Returns TOP's kind, or -1: nothing. */
static int last_words(const struct flow *f, int *dir)
{
	const struct flow_end *e = f->end;
	for (*dir = 0; *dir < 2; ++*dir)
		if (is_open(f) && (f->fins >> *dir & 1) == 0)
			return 5;
	for (*dir = 0; *dir < 2; ++*dir)
		if (f->fins == 3 && f->torn && e[*dir].ack != e[!*dir].nxt)
			return 0;
	return -1;
}

bool flow_decoder_teardown(struct flow_decoder *d, struct nssm_frame *frame)
{
	struct flow_state *s = &d->state;
	const struct flow_list *l = &s->order[FLOW_TCP];
	for (unsigned r = l->n; r-- > 0;) {
		struct flow *f = &s->flow[l->slot[r]];
		int dir, kind = last_words(f, &dir);
		if (kind < 0)
			continue;
		f->torn = true;
		d->n_said = 0;
		d->said[d->n_said++] = (uint8_t)nssm_iat_step(TEARDOWN_GAP_NS);
		if (r < NSSM_FLOW_TCP_NEAR) {
			d->said[d->n_said++] = (uint8_t)(2 * r + (unsigned)dir);
		} else {
			d->said[d->n_said++] = (uint8_t)(NSSM_FLOW_CODE_FAR + dir);
			d->said[d->n_said++] = (uint8_t)(r - NSSM_FLOW_TCP_NEAR);
		}
		d->said[d->n_said++] = (uint8_t)(kind << 4);
		hear(d, frame);
		return true;
	}
	return false;
}

enum flow_gram_event flow_decoder_byte(struct flow_decoder *d, uint8_t b, struct nssm_frame *frame)
{
	if (d->n_said == SAID_MAX)
		return FLOW_GRAM_ILLEGAL;
	enum flow_gram_event ev = flow_gram_byte(&d->gram, &d->cfg, b);
	d->said[d->n_said++] = b;
	if (ev == FLOW_GRAM_WHOLE)
		hear(d, frame);
	return ev;
}

void flow_decoder_packet(struct flow_decoder *d)
{
	flow_gram_packet(&d->gram);
	d->n_said = 0;
}

bool flow_decoder_within(const struct flow_decoder *d)
{
	return !flow_gram_between(&d->gram);
}

void flow_decoder_begin(struct flow_decoder *d, uint64_t seed, uint64_t session)
{
	flow_state_begin(&d->state, &d->cfg);
	flow_gram_begin(&d->gram);
	nssm_rng_init(&d->time, seed, session, NSSM_RNG_TIME);
	flow_fill_begin(&d->fill, seed, session);
	nssm_rng_init(&d->identity, seed, session, NSSM_RNG_IDENTITY);
	d->first_name = (uint32_t)(session * NAMES_OF_SESSION);
	d->n_said = 0;
}

struct flow_decoder *flow_decoder_open(const struct nssm_codec_cfg *cfg, enum nssm_fill fill)
{
	struct flow_decoder *d = malloc(sizeof *d);
	if (d != NULL) {
		d->cfg = *cfg;
		if (flow_fill_open(&d->fill, fill) != 0) {
			free(d);
			return NULL;
		}
		flow_decoder_begin(d, 0, 0);
	}
	return d;
}

void flow_decoder_secure(struct flow_decoder *d, const struct nssm_secure_ports *ports)
{
	d->fill.ports = *ports;
}

void flow_decoder_close(struct flow_decoder *d)
{
	if (d != NULL)
		flow_fill_close(&d->fill);
	free(d);
}
