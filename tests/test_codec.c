/* Codec raw: tokens of hand-made packets known by hand, what is not taken, and back again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "frames.h"
#include "model/codec.h"
#include "model/codec_flow.h"
#include "vocab_fixture.h"

static struct nssm_vocab vocab;
static const struct nssm_codec_cfg raw128 = {.kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = 128};
static const struct nssm_codec_cfg paper = {
        .kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = 128, .compat_paper = true};

static const struct nssm_codec_cfg conditioned = {
        .kind = NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .identity = NSSM_IDENTITY_KEEP, .conditions = NSSM_N_CONDITIONS};

struct tokens {
	uint16_t t[4096];
	size_t n;
};

/* Tokens of one packet, encoded as the first of a session. */
static size_t spell(uint16_t *out, const struct nssm_codec_cfg *cfg, const uint8_t *frame, uint32_t n,
        int *reason, uint32_t *cut)
{
	struct nssm_encoder *e;
	struct nssm_err err;
	assert_int_equal(nssm_encoder_open(&e, cfg, &vocab, &err), 0);
	assert_int_equal(nssm_encoder_begin(e, out, 0, NULL), 1);
	struct nssm_pkt pkt = {.data = frame, .caplen = n, .wirelen = n};
	size_t k = nssm_encoder_packet(e, out, &pkt, reason, cut);
	assert_true(k <= nssm_encoder_max_tokens(e));
	nssm_encoder_close(&e);
	assert_null(e);
	return k;
}

static void expect_bytes(const uint16_t *got, const uint8_t *want, uint32_t n, uint32_t pkt_len)
{
	for (uint32_t i = 0; i < pkt_len; i++)
		assert_int_equal(got[i], vocab.byte_id[i < n ? want[i] : 0]);
}

static void headers_then_zeros(void **state)
{
	uint16_t t[300];
	int reason;
	uint32_t cut;
	assert_int_equal(spell(t, &raw128, frame_syn, 74, &reason, &cut), 128);
	assert_int_equal(reason, NSSM_PKT_OK);
	assert_int_equal(cut, 0);
	expect_bytes(t, frame_syn, 74, 128);
	/* VLAN tag kept; five payload bytes; the Ethernet padding behind them is not the packet's. */
	assert_int_equal(spell(t, &raw128, frame_vlan_udp, 64, &reason, &cut), 128);
	expect_bytes(t, frame_vlan_udp, 51, 128);
	/* Extension header kept; 12 of 16 payload bytes. */
	assert_int_equal(spell(t, &raw128, frame_ip6_udp, 86, &reason, &cut), 128);
	expect_bytes(t, frame_ip6_udp, 82, 128);
	/* A snaplen inside the payload. */
	assert_int_equal(spell(t, &raw128, frame_ip6_udp, 73, &reason, &cut), 128);
	expect_bytes(t, frame_ip6_udp, 73, 128);

	struct nssm_codec_cfg small = raw128;
	small.pkt_len = 54;
	assert_int_equal(spell(t, &small, frame_syn, 74, &reason, &cut), 54);
	assert_int_equal(cut, 20);
	expect_bytes(t, frame_syn, 74, 54);
	assert_int_equal(spell(t, &small, frame_vlan_udp, 64, &reason, &cut), 54);
	assert_int_equal(cut, 0);
	assert_int_equal(spell(t, &raw128, frame_syn, 60, &reason, &cut), 0);
	assert_int_equal(reason, NSSM_PKT_CUT);
}

static void paper_bytes(void **state)
{
	uint16_t t[300];
	int reason;
	uint32_t cut;
	assert_int_equal(spell(t, &paper, frame_syn, 74, &reason, &cut), 128);
	expect_bytes(t, frame_syn, 74, 128);
	/* Without the tag, and "abcd": the last byte is lost. */
	uint8_t want[128] = {0};
	memcpy(want, frame_vlan_udp, 14);
	memcpy(want + 14, frame_vlan_udp + 18, 32);
	assert_int_equal(spell(t, &paper, frame_vlan_udp, 64, &reason, &cut), 128);
	expect_bytes(t, want, 46, 128);
	/* Without the hop-by-hop header. */
	memcpy(want, frame_ip6_udp, 54);
	memcpy(want + 54, frame_ip6_udp + 62, 20);
	assert_int_equal(spell(t, &paper, frame_ip6_udp, 86, &reason, &cut), 128);
	expect_bytes(t, want, 74, 128);
}

static void paper_crash_is_counted(void **state)
{
	struct nssm_encoder *e;
	uint16_t t[300];
	int reason;
	uint32_t cut;
	assert_int_equal(nssm_encoder_open(&e, &paper, &vocab, NULL), 0);
	nssm_encoder_begin(e, t, 1, NULL);
	uint8_t f[64];
	memcpy(f, frame_vlan_udp, 64);
	f[43] = 8; /* UDP with nothing in it */
	struct nssm_pkt pkt = {.data = f, .caplen = 64, .wirelen = 64};
	assert_int_equal(nssm_encoder_packet(e, t, &pkt, &reason, &cut), 128);
	assert_int_equal(nssm_encoder_n_beyond_paper(e), 1);
	assert_int_equal(nssm_encoder_end(e, t), 0);
	nssm_encoder_begin(e, t, 1, NULL);
	assert_int_equal(nssm_encoder_n_beyond_paper(e), 0);
	nssm_encoder_close(&e);
}

/* A session of the three frames. */
static void session(struct tokens *s, const struct nssm_codec_cfg *cfg)
{
	struct nssm_encoder *e;
	assert_int_equal(nssm_encoder_open(&e, cfg, &vocab, NULL), 0);
	const struct nssm_pkt pkts[3] = {{.data = frame_syn, .caplen = 74, .wirelen = 74},
	        {.data = frame_vlan_udp, .caplen = 64, .wirelen = 64},
	        {.data = frame_ip6_udp, .caplen = 86, .wirelen = 86}};
	s->n = nssm_encoder_begin(e, s->t, 1, NULL);
	for (int i = 0; i < 3; i++) {
		int reason;
		uint32_t cut;
		s->n += nssm_encoder_packet(e, s->t + s->n, &pkts[i], &reason, &cut);
		assert_int_equal(reason, NSSM_PKT_OK);
	}
	s->n += nssm_encoder_end(e, s->t + s->n);
	nssm_encoder_close(&e);
}

static void a_session_reads_as_the_paper_says(void **state)
{
	struct tokens s;
	session(&s, &raw128);
	assert_int_equal(s.n, 1 + 128 + 1 + 128 + 1 + 128 + 1);
	assert_int_equal(s.t[0], vocab.label[1].id);
	assert_int_equal(s.t[129], vocab.pkt);
	assert_int_equal(s.t[258], vocab.pkt);
	assert_int_equal(s.t[387], vocab.eot);
	session(&s, &paper);
	assert_int_equal(s.n, 1 + 128 + 1 + 128 + 1 + 128);
}

static void decodes_what_it_encoded(void **state)
{
	static const struct {
		const uint8_t *frame;
		uint32_t len;
	} want[3] = {{frame_syn, 74}, {frame_vlan_udp, 51}, {frame_ip6_udp, 86}};
	struct tokens s;
	session(&s, &raw128);
	struct nssm_decoder *d;
	assert_int_equal(nssm_decoder_open(&d, &raw128, &vocab, NSSM_FILL_ZERO, NULL), 0);
	for (int round = 0; round < 2; round++) { /* with and without the end token */
		nssm_decoder_begin(d, 1, 2);
		struct nssm_frame f;
		int got = 0;
		for (size_t i = 0; i < s.n - (size_t)round; i++) {
			enum nssm_dec_event ev = nssm_decoder_token(d, s.t[i], &f);
			if (ev == NSSM_DEC_NONE)
				continue;
			assert_int_equal(ev, NSSM_DEC_PACKET);
			assert_true(got < 3);
			assert_int_equal(f.len, want[got].len);
			/* ip6: bytes 12..15 of the payload were not modelled, so they are zero and the
			 * checksum differs. */
			uint32_t same = got == 2 ? 68 : want[got].len;
			assert_memory_equal(f.data, want[got].frame, same);
			assert_int_equal(f.repaired, got == 2 ? NSSM_REPAIR_L4_CSUM : 0);
			assert_int_equal(f.n_known, got == 2 ? 82 : want[got].len);
			assert_false(f.has_gap);
			got++;
		}
		if (round == 1) {
			assert_int_equal(nssm_decoder_flush(d, &f), NSSM_DEC_PACKET);
			got++;
		}
		assert_int_equal(got, 3);
		assert_int_equal(nssm_decoder_flush(d, &f), NSSM_DEC_END);
		assert_int_equal(nssm_decoder_token(d, s.t[1], &f), NSSM_DEC_END);
	}
	nssm_decoder_close(&d);
}

static void rejects_say_why(void **state)
{
	struct tokens s;
	session(&s, &raw128);
	struct nssm_decoder *d;
	struct nssm_frame f;
	assert_int_equal(nssm_decoder_open(&d, &raw128, &vocab, NSSM_FILL_ZERO, NULL), 0);
	/* A label inside the first packet: it is rejected, the next is whole. */
	s.t[40] = vocab.label[0].id;
	int events[4], n = 0;
	for (size_t i = 0; i < s.n; i++)
		if (nssm_decoder_token(d, s.t[i], &f) != NSSM_DEC_NONE)
			events[n++] = f.reason;
	assert_int_equal(n, 3);
	assert_int_equal(events[0], NSSM_PKT_STRAY_TOKEN);
	assert_int_equal(events[1], NSSM_PKT_OK);
	/* Ids beyond the table, padding: stray as well. */
	for (int k = 0; k < 3; k++) {
		nssm_decoder_begin(d, 0, 0);
		nssm_decoder_token(d, vocab.label[0].id, &f);
		const uint16_t odd[3] = {60000, vocab.pad, vocab.unk};
		assert_int_equal(nssm_decoder_token(d, odd[k], &f), NSSM_DEC_NONE);
		assert_int_equal(nssm_decoder_token(d, vocab.pkt, &f), NSSM_DEC_REJECT);
		assert_int_equal(f.reason, NSSM_PKT_STRAY_TOKEN);
	}
	/* An empty packet, and one that ends in its headers. */
	assert_int_equal(nssm_decoder_token(d, vocab.pkt, &f), NSSM_DEC_REJECT);
	assert_int_equal(f.reason, NSSM_PKT_SHORT);
	for (size_t i = 1; i < 60; i++)
		assert_int_equal(nssm_decoder_token(d, vocab.byte_id[frame_syn[i - 1]], &f), NSSM_DEC_NONE);
	assert_int_equal(nssm_decoder_token(d, vocab.eot, &f), NSSM_DEC_REJECT);
	assert_int_equal(f.reason, NSSM_PKT_SHORT);
	assert_int_equal(nssm_decoder_token(d, vocab.eot, &f), NSSM_DEC_END);
	/* Nothing but a label. */
	nssm_decoder_begin(d, 0, 0);
	nssm_decoder_token(d, vocab.label[0].id, &f);
	assert_int_equal(nssm_decoder_token(d, vocab.eot, &f), NSSM_DEC_END);
	nssm_decoder_close(&d);
}

/* Decodes the SYN with its IP length raised to n. */
static void decode_long(struct nssm_decoder *d, uint32_t n, uint64_t session_idx, struct nssm_frame *f)
{
	uint8_t syn[128] = {0};
	memcpy(syn, frame_syn, 74);
	syn[16] = (uint8_t)(n >> 8);
	syn[17] = (uint8_t)n;
	nssm_decoder_begin(d, 5, session_idx);
	nssm_decoder_token(d, vocab.label[0].id, f);
	for (int i = 0; i < 1000; i++) /* runs on beyond pkt_len: the rest is dropped */
		assert_int_equal(
		        nssm_decoder_token(d, vocab.byte_id[i < 128 ? syn[i] : 0xaa], f), NSSM_DEC_NONE);
	assert_int_equal(nssm_decoder_token(d, vocab.pkt, f), NSSM_DEC_PACKET);
	assert_int_equal(f->len, 14 + n);
	assert_int_equal(f->n_known, 74);
	struct nssm_hdrs h;
	assert_int_equal(nssm_pkt_parse(&h, f->data, f->len), NSSM_PKT_OK);
	assert_int_equal(
	        nssm_csum_l4(f->data + 14, 4, 6, f->data + 34, n - 20), f->data[50] << 8 | f->data[51]);
}

static void payload_is_filled_from_the_session(void **state)
{
	struct nssm_decoder *d;
	struct nssm_frame f;
	assert_int_equal(nssm_decoder_open(&d, &raw128, &vocab, NSSM_FILL_RANDOM, NULL), 0);
	uint8_t a[1500], b[1500];
	decode_long(d, 1500, 3, &f);
	memcpy(a, f.data + 74, 1440);
	decode_long(d, 1500, 4, &f);
	memcpy(b, f.data + 74, 1440);
	assert_memory_not_equal(a, b, 1440);
	decode_long(d, 1500, 3, &f);
	assert_memory_equal(a, f.data + 74, 1440);
	decode_long(d, 65535, 3, &f);
	nssm_decoder_close(&d);
	assert_int_equal(nssm_decoder_open(&d, &raw128, &vocab, NSSM_FILL_ZERO, NULL), 0);
	decode_long(d, 1500, 3, &f);
	for (int i = 74; i < 1514; i++)
		assert_int_equal(f.data[i], 0);
	nssm_decoder_close(&d);
}

static void configuration_travels(void **state)
{
	struct nssm_codec_cfg in = {.kind = NSSM_CODEC_RAW,
	                              .version = 1,
	                              .pkt_len = 106,
	                              .compat_paper = true},
	                      out;
	struct nssm_err err;
	json_t *j = nssm_codec_cfg_to_json(&in);
	assert_int_equal(nssm_codec_cfg_from_json(&out, j, "x.json", &err), 0);
	assert_int_equal(out.pkt_len, 106);
	assert_true(out.compat_paper);
	json_decref(j);
	static const struct {
		const char *text;
		int code;
		const char *word;
	} bad[] = {
	        {"[]", NSSM_EFORMAT, "codec"},
	        {"{\"kind\":\"row\",\"version\":1,\"pkt_len\":128}", NSSM_EUNSUP, "row"},
	        {"{\"kind\":\"flow\",\"version\":2,\"pkt_len\":128}", NSSM_EFORMAT, "payload"},
	        {"{\"kind\":\"flow\",\"version\":9,\"payload\":\"none\",\"prefix\":0,\"identity\":\"keep\"}", NSSM_EUNSUP, "version 9"},
	        {"{\"kind\":\"flow\",\"version\":2,\"payload\":\"prefix\",\"prefix\":0,\"identity\":\"keep\"}", NSSM_ERANGE, "prefix 0"},
	        {"{\"kind\":\"flow\",\"version\":2,\"payload\":\"none\",\"prefix\":12,\"identity\":\"keep\"}", NSSM_ERANGE, "prefix 12"},
	        {"{\"kind\":\"flow\",\"version\":2,\"payload\":\"full\",\"prefix\":0,\"identity\":\"pool\"}", NSSM_ERANGE, "pool"},
	        {"{\"kind\":\"flow\",\"version\":2,\"payload\":\"none\",\"prefix\":0,\"identity\":\"mine\"}", NSSM_EFORMAT, "identity"},
	        {"{\"kind\":\"flow\",\"version\":2,\"payload\":\"none\",\"prefix\":0,\"identity\":\"keep\",\"conditions\":3}", NSSM_ERANGE,
	                "conditions 3"},
	        {"{\"kind\":\"flow\",\"version\":2,\"payload\":\"none\",\"prefix\":0,\"identity\":\"keep\",\"conditions\":\"5\"}", NSSM_EFORMAT,
	                "conditions"},
	        {"{\"kind\":\"raw\",\"version\":2,\"pkt_len\":128}", NSSM_EUNSUP, "version"},
	        {"{\"kind\":\"raw\",\"version\":1,\"pkt_len\":53}", NSSM_ERANGE, "pkt_len"},
	        {"{\"kind\":\"raw\",\"version\":1,\"pkt_len\":257}", NSSM_ERANGE, "pkt_len"},
	        {"{\"kind\":\"raw\",\"version\":1,\"pkt_len\":-1}", NSSM_ERANGE, "pkt_len"},
	        {"{\"kind\":\"raw\",\"version\":1,\"pkt_len\":4294967424}", NSSM_ERANGE, "pkt_len"},
	        {"{\"kind\":\"raw\",\"version\":1}", NSSM_EFORMAT, "pkt_len"},
	        {"{\"kind\":\"raw\",\"version\":1,\"pkt_len\":128,\"compat\":\"x\"}", NSSM_EFORMAT, "compat"},
	        {"{\"kind\":1,\"version\":1,\"pkt_len\":128}", NSSM_EFORMAT, "kind"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		j = json_loads(bad[i].text, 0, NULL);
		assert_non_null(j);
		assert_int_equal(nssm_codec_cfg_from_json(&out, j, "x.json", &err), bad[i].code);
		assert_non_null(strstr(err.msg, "x.json"));
		assert_non_null(strstr(err.msg, bad[i].word));
		json_decref(j);
	}
	j = nssm_codec_cfg_to_json(&conditioned);
	assert_int_equal(nssm_codec_cfg_from_json(&out, j, "x.json", &err), 0);
	assert_true(nssm_codec_cfg_same(&conditioned, &out));
	json_object_del(j, "conditions"); /* as written before there were any */
	assert_int_equal(nssm_codec_cfg_from_json(&out, j, "x.json", &err), 0);
	assert_int_equal(out.conditions, 0);
	json_decref(j);
	struct nssm_encoder *e;
	in.conditions = NSSM_N_CONDITIONS;
	assert_int_equal(nssm_encoder_open(&e, &in, &vocab, &err), NSSM_ERANGE);
	in.conditions = 0;
	in.pkt_len = 10;
	assert_int_equal(nssm_encoder_open(&e, &in, &vocab, &err), NSSM_ERANGE);
	assert_int_equal(nssm_codec_mask_bytes(&raw128), 0);
	assert_false(nssm_codec_mask(NULL, &raw128, &vocab, NSSM_MASK_CLEAN, NULL));
	assert_true(nssm_codec_pkt_closes(&raw128));
}

/* Condition bytes stand after the label, and the packets are those of a session without. */
static void conditions_stand_after_the_label(void **state)
{
	static const uint8_t cond[NSSM_N_CONDITIONS] = {34, 1, 0, 255, 7};
	struct nssm_codec_cfg plain = conditioned;
	plain.conditions = 0;
	assert_false(nssm_codec_cfg_same(&plain, &conditioned));
	const struct nssm_pkt pkt = {.data = frame_syn, .caplen = 74, .wirelen = 74};
	uint16_t with[600], without[600];
	size_t n[2];
	for (int i = 0; i < 2; i++) {
		struct nssm_encoder *e;
		uint16_t *t = i == 0 ? without : with;
		int reason;
		uint32_t cut;
		assert_int_equal(nssm_encoder_open(&e, i == 0 ? &plain : &conditioned, &vocab, NULL), 0);
		assert_int_equal(nssm_encoder_begin(e, t, 1, NULL), i == 0 ? 1 : 1 + NSSM_N_CONDITIONS);
		for (int k = 1; i == 1 && k <= NSSM_N_CONDITIONS; k++)
			assert_int_equal(t[k], vocab.byte_id[0]);
		n[i] = nssm_encoder_begin(e, t, 1, cond);
		n[i] += nssm_encoder_packet(e, t + n[i], &pkt, &reason, &cut);
		n[i] += nssm_encoder_end(e, t + n[i]);
		nssm_encoder_close(&e);
	}
	assert_int_equal(n[1], n[0] + NSSM_N_CONDITIONS);
	assert_int_equal(with[0], without[0]);
	for (int k = 0; k < NSSM_N_CONDITIONS; k++)
		assert_int_equal(with[1 + k], vocab.byte_id[cond[k]]);
	assert_memory_equal(with + 1 + NSSM_N_CONDITIONS, without + 1, (n[0] - 1) * sizeof *with);

	struct nssm_decoder *d;
	struct nssm_frame f;
	assert_int_equal(nssm_decoder_open(&d, &conditioned, &vocab, NSSM_FILL_ZERO, NULL), 0);
	for (int round = 0; round < 2; round++) {
		nssm_decoder_begin(d, 1, 2);
		int packets = 0;
		for (size_t i = 0; i < n[1]; i++) {
			enum nssm_dec_event ev = nssm_decoder_token(d, with[i], &f);
			packets += ev == NSSM_DEC_PACKET;
			assert_true(ev != NSSM_DEC_REJECT);
			if (ev == NSSM_DEC_PACKET)
				assert_memory_equal(f.data, frame_syn, 74);
		}
		assert_int_equal(packets, 1);
	}
	/* One is missing: that is said, and the packet is there all the same. One too many is no packet. */
	nssm_decoder_begin(d, 1, 2);
	for (int i = 0; i < NSSM_N_CONDITIONS; i++)
		assert_int_equal(nssm_decoder_token(d, with[i], &f), NSSM_DEC_NONE);
	assert_int_equal(nssm_decoder_token(d, vocab.pkt, &f), NSSM_DEC_REJECT);
	assert_int_equal(f.reason, NSSM_PKT_SHORT);
	assert_int_equal(f.at_token, 1 + NSSM_N_CONDITIONS);
	for (size_t i = 2 + NSSM_N_CONDITIONS; i < n[1] - 1; i++)
		assert_int_equal(nssm_decoder_token(d, with[i], &f), i + 2 == n[1] ? NSSM_DEC_PACKET : NSSM_DEC_NONE);
	nssm_decoder_begin(d, 1, 2);
	for (int i = 0; i <= NSSM_N_CONDITIONS; i++)
		assert_int_equal(nssm_decoder_token(d, with[i], &f), NSSM_DEC_NONE);
	assert_int_equal(nssm_decoder_token(d, with[1], &f), NSSM_DEC_REJECT);
	assert_int_equal(f.reason, NSSM_PKT_BAD_TOKEN);
	nssm_decoder_begin(d, 1, 2);
	nssm_decoder_token(d, with[0], &f);
	assert_int_equal(nssm_decoder_token(d, vocab.eot, &f), NSSM_DEC_REJECT);
	nssm_decoder_begin(d, 1, 2);
	nssm_decoder_token(d, with[0], &f);
	assert_int_equal(nssm_decoder_flush(d, &f), NSSM_DEC_END);
	nssm_decoder_close(&d);
}

static bool is_legal(const uint64_t *legal, uint16_t id)
{
	return (legal[id / 64] >> id % 64 & 1) != 0;
}

/* After the label bytes are legal, as many as there are conditions, and nothing else; then a packet or the end. */
static void conditions_in_the_grammar(void **state)
{
	_Alignas(8) uint8_t lane[128] = {0};
	assert_true(nssm_codec_mask_bytes(&conditioned) <= sizeof lane);
	uint64_t legal[NSSM_MASK_WORDS];
	for (int i = 0; i < 2 + NSSM_N_CONDITIONS; i++) {
		assert_true(nssm_codec_mask(legal, &conditioned, &vocab, i % 2 == 0 ? NSSM_MASK_CLEAN : NSSM_MASK_FULL, lane));
		bool at_label = i == 0, at_cond = i > 0 && i <= NSSM_N_CONDITIONS;
		for (int b = 0; b < 256; b++)
			assert_int_equal(is_legal(legal, vocab.byte_id[b]), at_cond);
		assert_int_equal(is_legal(legal, vocab.label[1].id), at_label);
		assert_int_equal(is_legal(legal, vocab.pkt), !at_label && !at_cond);
		assert_int_equal(is_legal(legal, vocab.eot), !at_label && !at_cond);
		nssm_codec_mask_next(&conditioned, &vocab, lane,
		        at_label ? vocab.label[1].id : at_cond ? vocab.byte_id[37 * i] : vocab.pkt);
	}
	nssm_codec_mask(legal, &conditioned, &vocab, NSSM_MASK_CLEAN, lane);
	assert_true(is_legal(legal, vocab.byte_id[0]));
	assert_false(is_legal(legal, vocab.pkt));
}

static int setup(void **state)
{
	vocab_fixture(&vocab);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(headers_then_zeros),
	        cmocka_unit_test(paper_bytes),
	        cmocka_unit_test(paper_crash_is_counted),
	        cmocka_unit_test(a_session_reads_as_the_paper_says),
	        cmocka_unit_test(decodes_what_it_encoded),
	        cmocka_unit_test(rejects_say_why),
	        cmocka_unit_test(payload_is_filled_from_the_session),
	        cmocka_unit_test(configuration_travels),
	        cmocka_unit_test(conditions_stand_after_the_label),
	        cmocka_unit_test(conditions_in_the_grammar),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
