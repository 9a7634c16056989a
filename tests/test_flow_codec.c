/* Codec `flow` token by token: the specification's example, the grammar against its masks, random walks through the masks, tokens that
 * may not be, allocation. Sessions of packets: test_flow_sessions.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "model/flow_grammar.h"
#include "model/flow_state.h"
#include "model/packet_impl.h"
#include "tests/alloc_count.h"
#include "tests/flow_rig.h"

/* --- the specification's example --------------------------------------------------------------------------------- */

static const uint8_t client[6] = {0x02, 0, 0, 0, 0, 0x01}, server[6] = {0x02, 0, 0, 0, 0, 0x02};

/* A TCP segment without payload between 10.0.0.1:40000 and 10.0.0.2:80. */
static uint32_t segment(uint8_t *f, int dir, uint16_t id, uint32_t seq, uint32_t ack, uint8_t flags, uint16_t win, const uint8_t *opt,
        uint32_t n_opt)
{
	memset(f, 0, 14 + 20 + 20 + n_opt);
	memcpy(f, dir == 0 ? server : client, 6);
	memcpy(f + 6, dir == 0 ? client : server, 6);
	put16(f + 12, 0x0800);
	uint8_t *ip = f + 14, *tcp = f + 34;
	ip[0] = 0x45;
	put16(ip + 2, 40 + n_opt);
	put16(ip + 4, id);
	put16(ip + 6, 0x4000);
	ip[8] = 64;
	ip[9] = PROTO_TCP;
	for (int i = 0; i < 2; i++) {
		ip[12 + 4 * i] = 10;
		ip[15 + 4 * i] = (uint8_t)(1 + (i ^ dir));
		put16(tcp + 2 * i, (i ^ dir) == 0 ? 40000 : 80);
	}
	put16(ip + 10, nssm_csum_fold(nssm_csum_add(0, ip, 20)));
	put16(tcp + 4, seq >> 16);
	put16(tcp + 6, seq);
	put16(tcp + 8, ack >> 16);
	put16(tcp + 10, ack);
	tcp[12] = (uint8_t)((20 + n_opt) / 4 << 4);
	tcp[13] = flags;
	put16(tcp + 14, win);
	if (n_opt > 0)
		memcpy(tcp + 20, opt, n_opt);
	put16(tcp + 16, nssm_csum_l4(ip, 4, PROTO_TCP, tcp, 20 + n_opt));
	return 54 + n_opt;
}

/* The bytes below stand in codec_flow.h, too. */
static void worked_example(void **state)
{
	(void)state;
	static const uint8_t syn_opt[] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 3, 0xe8, 0, 0, 0, 0, 1, 3, 3, 7};
	static const uint8_t ack_opt[] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0x13, 0x88, 0, 0, 3, 0xe8, 1, 3, 3, 9};
	static const uint8_t ts_opt[] = {1, 1, 8, 10, 0, 0, 3, 0xe8, 0, 0, 0x13, 0x88};
	static const uint8_t want[3][64] = {
	        {0x00, 0xd4,                                               /* GAP, FLOW: new, TCP over IPv4 */
	                0xff, 10, 0, 0, 1, 0xff, 0x02, 0, 0, 0, 0, 0x01,   /* SRC: new, its address; MAC: new */
	                0xff, 10, 0, 0, 2, 0xff, 0x02, 0, 0, 0, 0, 0x02,   /* DST */
	                0x9c, 0x40, 0x50,                                  /* SPORT, DPORT: 80 */
	                0xa3,                                              /* TOP: 16·10 (SYN) + 2 (TS) + 1 (X) */
	                0x11, 0x22, 0x33, 0x44, 0xc7, 0x10,                /* SEQ0, TS: 192 + 256·7 + 16 = 2·1000 */
	                0x04, 0x5c, 0x46},                                 /* X: IPID; 7238 */
	        {0x58, 0x01, 0x97,                                         /* 200 µs; rank 0, back; 16·9 (SYN/ACK) + WIN + TS + X */
	                0x99, 0xaa, 0xbb, 0xcc, 0xff, 0x72, 0x10, 0xe6, 0x50, /* SEQ0, WIN, TS: 192 + 256·38 + 80 = 2·5000 */
	                0x0c, 0x02, 0x09, 0x05, 0xb4, 0x09},               /* X: IPID stands still; layout, MSS, scale */
	        {0x50, 0x00, 0x04, 0xc9, 0xf6},                            /* 100 µs; rank 0; 0 (ACK) + WIN; WIN: 256·1 + 246 */
	};
	static const size_t n_want[3] = {39, 18, 5};
	uint8_t frame[3][128];
	const struct nssm_pkt pkt[3] = {
	        {1000000000, 74, 74, frame[0]}, {1000200000, 74, 74, frame[1]}, {1000300000, 66, 66, frame[2]}};
	assert_int_equal(segment(frame[0], 0, 7238, 0x11223344, 0, 0x02, 64240, syn_opt, 20), 74);
	assert_int_equal(segment(frame[1], 1, 0, 0x99aabbcc, 0x11223345, 0x12, 29200, ack_opt, 20), 74);
	assert_int_equal(segment(frame[2], 0, 7239, 0x11223345, 0x99aabbcd, 0x10, 502, ts_opt, 12), 66);
	struct flow_rig r;
	flow_rig_open(&r, &flow_rig_cfg[0]);
	uint16_t *t = malloc(nssm_encoder_max_tokens(r.enc) * sizeof *t), label, end;
	assert_non_null(t);
	assert_int_equal(nssm_encoder_begin(r.enc, &label, 0, NULL), 1);
	assert_int_equal(label, r.vocab.label[0].id);
	nssm_decoder_begin(r.dec, 1, 2);
	struct nssm_frame f;
	assert_int_equal(nssm_decoder_token(r.dec, label, &f), NSSM_DEC_NONE);
	for (int i = 0; i < 3; i++) {
		int reason;
		uint32_t cut;
		size_t n = nssm_encoder_packet(r.enc, t, &pkt[i], &reason, &cut);
		assert_int_equal(n, 1 + n_want[i]);
		assert_int_equal(t[0], r.vocab.pkt);
		for (size_t k = 0; k < n_want[i]; k++)
			assert_int_equal(t[1 + k], r.vocab.byte_id[want[i][k]]);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(nssm_decoder_token(r.dec, t[k], &f), k + 1 < n ? NSSM_DEC_NONE : NSSM_DEC_PACKET);
		assert_int_equal(f.len, pkt[i].wirelen);
		assert_memory_equal(f.data, frame[i], f.len);
	}
	assert_int_equal(nssm_encoder_end(r.enc, &end), 1);
	assert_int_equal(end, r.vocab.eot);
	assert_int_equal(nssm_decoder_token(r.dec, end, &f), NSSM_DEC_END);
	free(t);
	flow_rig_close(&r);
}

/* --- grammar and masks ---------------------------------------------------------------------------------------------- */

static bool has(const uint64_t set[4], unsigned b)
{
	return (set[b / 64] >> b % 64 & 1) != 0;
}

static unsigned n_holes; /* numbers of SEQ that were looked at */

/* Holes in a flow's numbers, and what fills them, are what loss leaves: clean takes them as far as a window goes; no jumps of ACK. */
static void check_jumps(const struct flow_gram *g, const uint64_t full[4], const uint64_t clean[4])
{
	if (g->field == F_ACK && g->step == 0)
		assert_true(has(full, 253) && !has(clean, 253) && !has(clean, 254));
	if (g->field != F_SEQ)
		return;
	if (g->step == 0) {
		assert_true(has(clean, 102) && has(clean, 103));
	} else if (!has(full, 255)) {
		n_holes++;
		assert_true(has(clean, 0) && has(clean, 241) && !has(clean, 242) && has(full, 254));
	}
}

static void check_state(const struct flow_gram *g, const struct nssm_codec_cfg *cfg)
{
	uint64_t full[4], clean[4];
	flow_gram_legal(full, g, cfg, false);
	flow_gram_legal(clean, g, cfg, true);
	assert_true((clean[0] | clean[1] | clean[2] | clean[3]) != 0);
	check_jumps(g, full, clean);
	for (unsigned b = 0; b < 256; b++) {
		struct flow_gram copy = *g;
		bool taken = flow_gram_byte(&copy, cfg, (uint8_t)b) != FLOW_GRAM_ILLEGAL;
		if (taken != has(full, b) || (has(clean, b) && !taken))
			fail_msg("field %u, step %u, left %u, kind %u: byte %u is %s, full says %d, clean %d", g->field, g->step, g->left,
			        g->kind, b, taken ? "taken" : "not taken", has(full, b), has(clean, b));
	}
}

static void masks_are_the_grammar(void **state)
{
	(void)state;
	for (unsigned c = 0; c < FLOW_RIG_CFGS; c++)
		for (int m = NSSM_MASK_FULL; m <= NSSM_MASK_CLEAN; m++) {
			struct flow_rig r;
			struct flow_walk w;
			flow_rig_open(&r, &flow_rig_cfg[c]);
			flow_walk_begin(&w, &r, (enum nssm_mask)m, 10 + c, 2000);
			uint64_t seen = 0;
			uint32_t n_packets = 0;
			for (uint32_t n = 0; n_packets < 4000; n++) {
				const struct flow_gram *g = (const struct flow_gram *)w.state;
				/* Long runs of bytes are all alike. */
				if (g->begun && !flow_gram_between(g) && (g->left < 2 || n % 32 == 0)) {
					seen |= 1ull << g->field;
					check_state(g, &r.cfg);
				}
				n_packets += flow_walk_token(&w) == r.vocab.pkt;
			}
			/* A walk through full comes by every field that the configuration has. */
			bool keep = r.cfg.identity == NSSM_IDENTITY_KEEP, pay = r.cfg.payload != NSSM_PAYLOAD_NONE;
			uint64_t all = (1ull << F_N_FIELDS) - 1;
			all &= ~(keep ? 0 : 1ull << F_SEQ0 | 1ull << F_ACK0) & ~(pay ? 0 : 1ull << F_PAY);
			if (m == NSSM_MASK_FULL)
				assert_int_equal(seen, all);
			flow_rig_close(&r);
		}
	assert_true(n_holes > 0);
}

/* A header's options are words. */
static void layouts_are_words(void **state)
{
	(void)state;
	static const uint8_t bytes_of[128] = {['N'] = 1, ['E'] = 1, ['M'] = 4, ['W'] = 3, ['P'] = 2, ['T'] = 10, ['1'] = 10, ['2'] = 18,
	        ['3'] = 26, ['4'] = 34};
	for (unsigned i = 0; i < FLOW_N_LAYOUTS; i++) {
		unsigned n = 0;
		for (const char *c = flow_layout[i]; *c != '\0'; c++) {
			assert_true(bytes_of[(unsigned char)*c] > 0);
			n += bytes_of[(unsigned char)*c];
		}
		if (n % 4 != 0 || n > 40)
			fail_msg("layout %u, %s: %u bytes", i, flow_layout[i], n);
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(flow_layout[i], flow_layout[k]);
	}
}

/* --- walks decode ------------------------------------------------------------------------------------------------------ */

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

struct frames {
	uint8_t *data;
	size_t n_bytes, room;
	struct nssm_pkt pkt[400];
	bool escaped[400];
	size_t at[400];
	unsigned n;
};

static void keep_frame(struct frames *s, const struct nssm_frame *f)
{
	if (s->n_bytes + f->len > s->room) {
		s->room = 2 * s->room + f->len;
		s->data = realloc(s->data, s->room);
		assert_non_null(s->data);
	}
	memcpy(s->data + s->n_bytes, f->data, f->len);
	uint64_t last = s->n > 0 ? s->pkt[s->n - 1].ts_ns : 0;
	uint64_t ts = f->gap_ns > INT64_MAX - last ? INT64_MAX : last + f->gap_ns;
	s->at[s->n] = s->n_bytes;
	s->escaped[s->n] = f->escaped;
	s->pkt[s->n++] = (struct nssm_pkt){.ts_ns = ts, .wirelen = f->len, .caplen = least(f->caplen, NSSM_CODEC_CAPLEN_MAX)};
	s->n_bytes += f->len;
}

static void dump(const struct nssm_pkt *p, const struct nssm_frame *f)
{
	for (uint32_t k = 0; k < p->caplen && k < 160; k++)
		fprintf(stderr, "%02x%s", p->data[k], k % 16 == 15 ? "\n" : k < f->len && f->data[k] != p->data[k] ? "!" : " ");
	fprintf(stderr, "\n");
}

static void same_frame(const struct flow_rig *r, const struct nssm_pkt *p, const struct nssm_frame *f, bool clean, unsigned i)
{
	if (f->len != p->wirelen || f->caplen != p->caplen) {
		dump(p, f);
		fail_msg("frame %u: %u bytes, %u captured; expected %u, %u", i, f->len, f->caplen, p->wirelen, p->caplen);
	}
	if (r->cfg.identity == NSSM_IDENTITY_POOL)
		return;
	/* Walks spell literals longer than the encoder does, and leave payload out that would be kept; the checksum of a cut frame is
	 * that of what fills it. */
	bool exact = clean && p->caplen == p->wirelen;
	uint32_t csum = exact ? 0 : flow_rig_csum_at(p), n = exact ? p->caplen : f->n_known < p->caplen ? f->n_known : p->caplen;
	for (uint32_t k = 0; k < n; k++)
		if (f->data[k] != p->data[k] && !(csum != 0 && (k == csum || k == csum + 1))) {
			dump(p, f);
			fail_msg("frame %u: byte %u of %u: %02x, expected %02x", i, k, n, f->data[k], p->data[k]);
		}
}

static void encode_again(struct flow_rig *r, struct frames *s, uint16_t *t, enum nssm_mask mask)
{
	struct nssm_frame f;
	nssm_encoder_begin(r->enc, t, 0, NULL);
	nssm_decoder_begin(r->dec, 3, 4);
	assert_int_equal(nssm_decoder_token(r->dec, t[0], &f), NSSM_DEC_NONE);
	for (unsigned i = 0; i < s->n; i++) {
		int reason;
		uint32_t cut;
		/* On the heap, with nothing behind it. */
		uint8_t *copy = malloc(s->pkt[i].caplen + (s->pkt[i].caplen == 0));
		assert_non_null(copy);
		memcpy(copy, s->data + s->at[i], s->pkt[i].caplen);
		s->pkt[i].data = copy;
		size_t n = nssm_encoder_packet(r->enc, t, &s->pkt[i], &reason, &cut);
		assert_true(n > 1 && n <= nssm_encoder_max_tokens(r->enc));
		for (size_t k = 0; k < n; k++)
			assert_int_equal(nssm_decoder_token(r->dec, t[k], &f), k + 1 < n ? NSSM_DEC_NONE : NSSM_DEC_PACKET);
		same_frame(r, &s->pkt[i], &f, mask == NSSM_MASK_CLEAN && !s->escaped[i], i);
		free(copy);
	}
}

static void walks_decode(void **state)
{
	(void)state;
	static struct frames s;
	for (unsigned c = 0; c < FLOW_RIG_CFGS; c++)
		for (int m = NSSM_MASK_FULL; m <= NSSM_MASK_CLEAN; m++) {
			struct flow_rig r;
			struct flow_walk w;
			flow_rig_open(&r, &flow_rig_cfg[c]);
			uint16_t *t = malloc((nssm_encoder_max_tokens(r.enc) + 1) * sizeof *t);
			assert_non_null(t);
			for (uint64_t seed = 0; seed < 12; seed++) {
				struct nssm_frame f;
				flow_walk_begin(&w, &r, (enum nssm_mask)m, 100 * c + seed, 0);
				nssm_decoder_begin(r.dec, seed, 0);
				s.n = 0;
				s.n_bytes = 0;
				for (uint64_t k = 1; s.n < 400; k++) {
					uint16_t token = flow_walk_token(&w);
					enum nssm_dec_event ev = nssm_decoder_token(r.dec, token, &f);
					if (ev == NSSM_DEC_NONE)
						continue;
					assert_int_equal(ev, NSSM_DEC_PACKET);
					assert_true(f.len <= NSSM_FRAME_MAX && f.n_known <= f.len && f.caplen <= f.len);
					assert_int_equal(f.at_token, k);
					keep_frame(&s, &f);
				}
				encode_again(&r, &s, t, (enum nssm_mask)m);
			}
			free(t);
			flow_rig_close(&r);
		}
	free(s.data);
	s = (struct frames){0};
}

/* --- tokens that may not be ----------------------------------------------------------------------------------------------- */

static void prohibited_tokens(void **state)
{
	(void)state;
	struct flow_rig r;
	struct nssm_frame f;
	flow_rig_open(&r, &flow_rig_cfg[0]);
	const uint16_t *b = r.vocab.byte_id, pkt = r.vocab.pkt, label = r.vocab.label[0].id;
	const struct {
		uint16_t token;
		enum nssm_dec_event ev;
		int reason;
	} t[] = {
	        {label, NSSM_DEC_NONE, 0}, {b[0], NSSM_DEC_REJECT, NSSM_PKT_BAD_TOKEN}, /* no packet has begun */
	        {b[1], NSSM_DEC_NONE, 0}, {label, NSSM_DEC_NONE, 0},                    /* of what was told already */
	        {pkt, NSSM_DEC_NONE, 0}, {b[0], NSSM_DEC_NONE, 0}, {b[0], NSSM_DEC_REJECT, NSSM_PKT_BAD_TOKEN}, /* no flow is known */
	        {b[0], NSSM_DEC_NONE, 0}, {pkt, NSSM_DEC_NONE, 0}, {b[0], NSSM_DEC_NONE, 0},
	        {pkt, NSSM_DEC_REJECT, NSSM_PKT_SHORT}, /* and opens the next */
	        {b[0], NSSM_DEC_NONE, 0}, {label, NSSM_DEC_REJECT, NSSM_PKT_STRAY_TOKEN}, {b[7], NSSM_DEC_NONE, 0},
	        {pkt, NSSM_DEC_NONE, 0}, {r.vocab.unk, NSSM_DEC_REJECT, NSSM_PKT_STRAY_TOKEN}, {pkt, NSSM_DEC_NONE, 0},
	        {NSSM_VOCAB_MAX - 1, NSSM_DEC_REJECT, NSSM_PKT_STRAY_TOKEN}, {pkt, NSSM_DEC_NONE, 0}, {b[0], NSSM_DEC_NONE, 0},
	        {b[222], NSSM_DEC_REJECT, NSSM_PKT_BAD_TOKEN}, {pkt, NSSM_DEC_NONE, 0}, {b[9], NSSM_DEC_NONE, 0},
	        /* An Ethernet frame of no bytes is whole; what stands behind it is too much. */
	        {b[221], NSSM_DEC_NONE, 0}, {b[0x88], NSSM_DEC_NONE, 0}, {b[0xb5], NSSM_DEC_NONE, 0},
	        {b[0], NSSM_DEC_REJECT, NSSM_PKT_BAD_TOKEN}, /* no MAC is known */
	        {pkt, NSSM_DEC_NONE, 0}, {b[9], NSSM_DEC_NONE, 0}, {b[221], NSSM_DEC_NONE, 0}, {b[0x88], NSSM_DEC_NONE, 0},
	        {b[0xb5], NSSM_DEC_NONE, 0}, {b[255], NSSM_DEC_NONE, 0}, {b[2], NSSM_DEC_NONE, 0}, {b[0], NSSM_DEC_NONE, 0},
	        {b[0], NSSM_DEC_NONE, 0}, {b[0], NSSM_DEC_NONE, 0}, {b[0], NSSM_DEC_NONE, 0}, {b[5], NSSM_DEC_NONE, 0},
	        {b[0], NSSM_DEC_NONE, 0}, {b[0], NSSM_DEC_NONE, 0}, {b[0], NSSM_DEC_NONE, 0}, {b[0], NSSM_DEC_PACKET, 0},
	        {b[0], NSSM_DEC_REJECT, NSSM_PKT_BAD_TOKEN}, {b[0], NSSM_DEC_NONE, 0}, {pkt, NSSM_DEC_NONE, 0},
	        {b[0], NSSM_DEC_NONE, 0}, {r.vocab.eot, NSSM_DEC_REJECT, NSSM_PKT_SHORT}, {pkt, NSSM_DEC_END, 0}, {b[0], NSSM_DEC_END, 0}};
	nssm_decoder_begin(r.dec, 1, 1);
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		enum nssm_dec_event ev = nssm_decoder_token(r.dec, t[i].token, &f);
		if (ev != t[i].ev || (ev == NSSM_DEC_REJECT && (f.reason != t[i].reason || f.at_token != i + 1)))
			fail_msg("token %zu: event %d, reason %d at %llu; expected %d, %d", i + 1, (int)ev, f.reason,
			        (unsigned long long)f.at_token, (int)t[i].ev, t[i].reason);
	}
	assert_int_equal(nssm_decoder_flush(r.dec, &f), NSSM_DEC_END);
	flow_rig_close(&r);
}

/* Any tokens: every <|pkt|> opens a packet, which is over once. */
static void any_tokens(void **state)
{
	(void)state;
	for (unsigned c = 0; c < FLOW_RIG_CFGS; c++) {
		struct flow_rig r;
		struct flow_walk w;
		struct nssm_frame f;
		flow_rig_open_fill(&r, &flow_rig_cfg[c], NSSM_FILL_TLS);
		flow_walk_begin(&w, &r, NSSM_MASK_FULL, c, 0);
		nssm_decoder_begin(r.dec, c, 1);
		uint64_t n_open = 0, n_over = 0, n_good = 0;
		for (uint32_t i = 0; i < 300000; i++) {
			uint16_t token = flow_walk_token(&w);
			if (i > 0 && nssm_rng_below(&w.rng, 1000) == 0) {
				token = (uint16_t)nssm_rng_below(&w.rng, r.vocab.n_tokens);
				token = token == r.vocab.eot ? r.vocab.pkt : token;
			}
			enum nssm_dec_event ev = nssm_decoder_token(r.dec, token, &f);
			n_open += token == r.vocab.pkt;
			n_over += ev == NSSM_DEC_PACKET || ev == NSSM_DEC_REJECT;
			n_good += ev == NSSM_DEC_PACKET;
			assert_true(ev != NSSM_DEC_END);
			if (ev == NSSM_DEC_PACKET)
				assert_true(f.len <= NSSM_FRAME_MAX && f.n_known <= f.len && f.caplen <= f.len);
			if (ev == NSSM_DEC_REJECT)
				assert_true(f.at_token == i + 1 && f.reason > NSSM_PKT_OK && f.reason < NSSM_PKT_N_REASONS);
		}
		/* A packet that is whole may be followed by more that cannot be. */
		if (n_over + 1 < n_open || n_over > n_open + n_good || n_good < 50)
			fail_msg("%llu packets begun, %llu over, %llu good", (unsigned long long)n_open, (unsigned long long)n_over,
			        (unsigned long long)n_good);
		flow_rig_close(&r);
	}
}

/* --- allocation --------------------------------------------------------------------------------------------------------------- */

static void nothing_allocated(void **state)
{
	(void)state;
	for (unsigned c = 0; c < FLOW_RIG_CFGS; c++) {
		struct flow_rig r;
		struct flow_walk w;
		struct nssm_frame f;
		int reason;
		uint32_t cut, n_packets = 0;
		flow_rig_open_fill(&r, &flow_rig_cfg[c], NSSM_FILL_TLS);
		uint16_t *t = malloc(nssm_encoder_max_tokens(r.enc) * sizeof *t);
		assert_non_null(t);
		flow_walk_begin(&w, &r, NSSM_MASK_FULL, 50 + c, 300);
		uint64_t before = n_allocs;
		nssm_encoder_begin(r.enc, t, 0, NULL);
		nssm_decoder_begin(r.dec, 1, 1);
		for (uint32_t i = 0; i < 200000; i++) {
			uint16_t token = flow_walk_token(&w);
			enum nssm_dec_event ev = nssm_decoder_token(r.dec, token, &f);
			if (ev == NSSM_DEC_END) {
				nssm_decoder_begin(r.dec, 1, i);
				nssm_encoder_begin(r.enc, t, 0, NULL);
			} else if (ev == NSSM_DEC_PACKET) {
				const struct nssm_pkt p = {.ts_ns = i, .wirelen = f.len, .caplen = least(f.caplen, NSSM_CODEC_CAPLEN_MAX), .data = f.data};
				flow_rig_require(nssm_encoder_packet(r.enc, t, &p, &reason, &cut) > 1);
				n_packets++;
			}
		}
		assert_int_equal(n_allocs, before);
		assert_true(n_packets > 200);
		free(t);
		flow_rig_close(&r);
	}
}

/* --- connections that are made to end ------------------------------------------------------------------------------ */

struct said {
	int dir;
	uint32_t seq, ack;
	uint8_t flags;
};

/* Decodes the segments, and then what ends their connection, into got. Returns how many packets that are. */
static unsigned torn_down(const struct nssm_codec_cfg *cfg, const struct said *seg, unsigned n_seg, struct said got[8])
{
	struct flow_rig r;
	struct nssm_frame f;
	unsigned n = 0;
	flow_rig_open(&r, cfg);
	uint16_t *t = malloc(nssm_encoder_max_tokens(r.enc) * sizeof *t), label;
	assert_non_null(t);
	nssm_encoder_begin(r.enc, &label, 0, NULL);
	nssm_decoder_begin(r.dec, 1, 2);
	assert_int_equal(nssm_decoder_token(r.dec, label, &f), NSSM_DEC_NONE);
	for (unsigned i = 0; i < n_seg; i++) {
		uint8_t frame[128];
		int reason;
		uint32_t cut, len = segment(frame, seg[i].dir, (uint16_t)i, seg[i].seq, seg[i].ack, seg[i].flags, 1000, NULL, 0);
		const struct nssm_pkt pkt = {1000000 * i, len, len, frame};
		size_t k = nssm_encoder_packet(r.enc, t, &pkt, &reason, &cut);
		for (size_t j = 0; j < k; j++)
			assert_int_equal(nssm_decoder_token(r.dec, t[j], &f), j + 1 < k ? NSSM_DEC_NONE : NSSM_DEC_PACKET);
	}
	assert_int_equal(nssm_decoder_flush(r.dec, &f), NSSM_DEC_END);
	for (; nssm_decoder_teardown(r.dec, &f) == NSSM_DEC_PACKET; n++) {
		const uint8_t *ip = f.data + 14, *tcp = f.data + 34;
		assert_true(n < 8 && f.len == 54 && f.has_gap && f.gap_ns > 900000 && f.gap_ns < 1100000);
		assert_int_equal(nssm_csum_fold(nssm_csum_add(0, ip, 20)), 0);
		assert_int_equal(get16(tcp + 16), nssm_csum_l4(ip, 4, PROTO_TCP, tcp, 20));
		got[n] = (struct said){get16(tcp) != 40000, get32(tcp + 4), get32(tcp + 8), tcp[13]};
	}
	assert_int_equal(nssm_decoder_teardown(r.dec, &f), NSSM_DEC_END);
	free(t);
	flow_rig_close(&r);
	return n;
}

static void torn_down_properly(void **state)
{
	(void)state;
	static const struct said open[] = {{0, 1000, 0, 0x02}, {1, 5000, 1001, 0x12}, {0, 1001, 5001, 0x10}, {1, 5001, 1001, 0x11}, {0, 1001, 5001, 0x14}};
	struct said got[8];
	for (unsigned c = 0; c < FLOW_RIG_CFGS; c++) {
		bool pool = flow_rig_cfg[c].identity == NSSM_IDENTITY_POOL;
		assert_int_equal(torn_down(&flow_rig_cfg[c], open, 1, got), 0); /* nobody answered: nothing to end */
		assert_int_equal(torn_down(&flow_rig_cfg[c], open, 3, got), 3);
		uint32_t a = pool ? got[0].seq : 1001, b = pool ? got[0].ack : 5001;
		const struct said want[3] = {{0, a, b, 0x11}, {1, b, a + 1, 0x11}, {0, a + 1, b + 1, 0x10}};
		for (int i = 0; i < 3; i++)
			assert_true(got[i].dir == want[i].dir && got[i].seq == want[i].seq && got[i].ack == want[i].ack && got[i].flags == want[i].flags);
		/* The server's FIN was there already. */
		assert_int_equal(torn_down(&flow_rig_cfg[c], open, 4, got), 2);
		assert_true(got[0].dir == 0 && got[0].flags == 0x11 && got[1].dir == 1 && got[1].flags == 0x10 && got[1].ack == got[0].seq + 1);
		/* One that was reset is over. */
		const struct said reset[4] = {open[0], open[1], open[2], open[4]};
		assert_int_equal(torn_down(&flow_rig_cfg[c], reset, 4, got), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(worked_example),
	        cmocka_unit_test(masks_are_the_grammar),
	        cmocka_unit_test(layouts_are_words),
	        cmocka_unit_test(walks_decode),
	        cmocka_unit_test(prohibited_tokens),
	        cmocka_unit_test(any_tokens),
	        cmocka_unit_test(nothing_allocated),
	        cmocka_unit_test(torn_down_properly),
	};
	return cmocka_run_group_tests_name("flow_codec", tests, NULL, NULL);
}
