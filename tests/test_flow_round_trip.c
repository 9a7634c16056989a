/* Every packet of real and hostile captures (folders as arguments; NETSSM_CORPUS, NETSSM_HOSTILE) to tokens of codec `flow` and back, with
 * each way to keep payload and both identities: the same header bytes, lengths, kept payload, gaps in the same step; with identity
 * pool the same but for what it renames. Prints tokens a packet and packets a second. Exit 77 without captures. */
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/measure.h"
#include "model/codec.h"
#include "model/codec_flow.h"
#include "model/iat.h"
#include "model/packet_impl.h"
#include "replay/capture.h"
#include "tests/flow_rig.h"

static uint64_t n_packets, n_tokens, n_wrong, n_files, n_skipped_csums;
static double encode_s, decode_s[3]; /* by what fills payload */

struct session {
	struct nssm_pkt *pkt;
	uint16_t *token;
	size_t *first; /* token of each packet; [n] the end */
	size_t n, cap;
};

static void wrong(const char *path, size_t n, const char *what, uint32_t got, uint32_t want)
{
	if (n_wrong++ < 20)
		fprintf(stderr, "%s: packet %zu: %s: %u, expected %u\n", path, n + 1, what, got, want);
}

static void load(struct session *s, const char *path)
{
	struct nssm_capture *c;
	struct nssm_err err;
	struct nssm_pkt p;
	s->n = 0;
	if (nssm_capture_open(&c, path, &err) != 0)
		return;
	while (nssm_capture_next(c, &p, &err) == 1) {
		if (s->n == s->cap) {
			s->cap = s->cap == 0 ? 1024 : 2 * s->cap;
			s->pkt = realloc(s->pkt, s->cap * sizeof *s->pkt);
			s->first = realloc(s->first, (s->cap + 1) * sizeof *s->first);
			if (s->pkt == NULL || s->first == NULL)
				abort();
		}
		uint8_t *copy = malloc(p.caplen + 1);
		if (copy == NULL)
			abort();
		memcpy(copy, p.data, p.caplen);
		p.data = copy;
		s->pkt[s->n++] = p;
	}
	nssm_capture_close(&c);
}

static void drop(struct session *s)
{
	for (size_t i = 0; i < s->n; i++)
		free((void *)(uintptr_t)s->pkt[i].data);
}

static void compare(const char *path, size_t n, const struct nssm_codec_cfg *cfg, const struct nssm_pkt *p, const struct nssm_frame *f,
        uint64_t gap_ns)
{
	bool full = cfg->payload == NSSM_PAYLOAD_FULL;
	uint32_t known = f->n_known < p->caplen ? f->n_known : p->caplen, csum = flow_rig_csum_at(p);
	struct nssm_hdrs h;
	if (f->len != p->wirelen)
		wrong(path, n, "length on the wire", f->len, p->wirelen);
	if (f->caplen != p->caplen)
		wrong(path, n, "captured length", f->caplen, p->caplen);
	uint64_t lo, hi;
	nssm_iat_range(255, &lo, &hi);
	if (gap_ns < hi && nssm_iat_step(f->gap_ns) != nssm_iat_step(gap_ns))
		wrong(path, n, "step of the gap", nssm_iat_step(f->gap_ns), nssm_iat_step(gap_ns));
	/* What a reader finds in the headers must be known, not filled. */
	if (nssm_pkt_parse(&h, p->data, p->caplen) == NSSM_PKT_OK && f->n_known < h.payload_off)
		wrong(path, n, "known bytes", f->n_known, h.payload_off);
	bool whole = full && p->caplen >= p->wirelen;
	if (csum != 0 && !whole)
		n_skipped_csums++;
	for (uint32_t i = 0; i < known; i++) {
		if (!whole && csum != 0 && (i == csum || i == csum + 1))
			continue;
		if (f->data[i] != p->data[i]) {
			wrong(path, n, "byte", f->data[i], p->data[i]);
			fprintf(stderr, "  offset %u of %u known, %u captured\n", i, f->n_known, p->caplen);
			return;
		}
	}
	if (full && f->n_known < f->len && p->caplen > f->n_known + NSSM_FLOW_TRAILER_MAX)
		wrong(path, n, "known bytes of all", f->n_known, p->caplen);
}

/* A decoder, and the time it takes for the session. */
static struct nssm_decoder *decoder(const struct session *s, uint16_t label, const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab,
        enum nssm_fill fill)
{
	struct nssm_decoder *d;
	struct nssm_err err;
	struct nssm_frame f;
	if (nssm_decoder_open(&d, cfg, vocab, fill, &err) != 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
	nssm_decoder_begin(d, 1, 0);
	nssm_decoder_token(d, label, &f);
	double t0 = nssm_now_s();
	for (size_t k = 0; k < s->first[s->n]; k++)
		nssm_decoder_token(d, s->token[k], &f);
	decode_s[fill] += nssm_now_s() - t0;
	return d;
}

static void round_trip(const char *path, struct session *s, const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab)
{
	struct nssm_encoder *e;
	struct nssm_decoder *d;
	struct nssm_err err;
	if (nssm_encoder_open(&e, cfg, vocab, &err) != 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
	size_t most = nssm_encoder_max_tokens(e), room = 0, at = 0;
	uint16_t label;
	nssm_encoder_begin(e, &label, 0, NULL);
	double t0 = nssm_now_s();
	for (size_t i = 0; i < s->n; i++) {
		int reason;
		uint32_t cut;
		if (at + most > room) {
			room = 2 * room + most;
			s->token = realloc(s->token, room * sizeof *s->token);
			if (s->token == NULL)
				abort();
		}
		s->first[i] = at;
		size_t n = nssm_encoder_packet(e, s->token + at, &s->pkt[i], &reason, &cut);
		if (n == 0 || n > most)
			wrong(path, i, "tokens", (uint32_t)n, (uint32_t)most);
		at += n;
	}
	s->first[s->n] = at;
	double t1 = nssm_now_s();
	/* What comes is looked at where payload is filled with most. */
	struct nssm_frame f;
	d = decoder(s, label, cfg, vocab, NSSM_FILL_ZERO);
	nssm_decoder_close(&d);
	d = decoder(s, label, cfg, vocab, NSSM_FILL_RANDOM);
	nssm_decoder_close(&d);
	d = decoder(s, label, cfg, vocab, NSSM_FILL_TLS);
	nssm_decoder_begin(d, 1, 0);
	if (nssm_decoder_token(d, label, &f) != NSSM_DEC_NONE)
		wrong(path, 0, "event of the label", 1, 0);
	for (size_t i = 0; i < s->n; i++) {
		enum nssm_dec_event ev = NSSM_DEC_NONE;
		for (size_t k = s->first[i]; k < s->first[i + 1]; k++) {
			ev = nssm_decoder_token(d, s->token[k], &f);
			if ((ev != NSSM_DEC_NONE) != (k + 1 == s->first[i + 1])) {
				wrong(path, i, "token at which the packet is whole", (uint32_t)(k - s->first[i]),
				        (uint32_t)(s->first[i + 1] - s->first[i] - 1));
				goto out;
			}
		}
		if (ev != NSSM_DEC_PACKET) {
			wrong(path, i, "event", (uint32_t)ev, NSSM_DEC_PACKET);
			break;
		}
		uint64_t before = i > 0 ? s->pkt[i - 1].ts_ns : s->pkt[0].ts_ns;
		if (cfg->identity == NSSM_IDENTITY_KEEP)
			compare(path, i, cfg, &s->pkt[i], &f, s->pkt[i].ts_ns > before ? s->pkt[i].ts_ns - before : 0);
		else if (f.len != s->pkt[i].wirelen)
			wrong(path, i, "length on the wire", f.len, s->pkt[i].wirelen);
	}
out:
	n_packets += s->n;
	n_tokens += at;
	encode_s += t1 - t0;
	nssm_encoder_close(&e);
	nssm_decoder_close(&d);
}

static void folder(const char *path, const struct nssm_codec_cfg *cfg, const struct nssm_vocab *vocab)
{
	struct session s = {0};
	char *const paths[] = {(char *)(uintptr_t)path, NULL};
	FTS *fts = fts_open(paths, FTS_PHYSICAL, NULL);
	for (FTSENT *e; fts != NULL && (e = fts_read(fts)) != NULL;) {
		if (e->fts_info != FTS_F || strstr(e->fts_name, ".pcap") == NULL)
			continue;
		load(&s, e->fts_path);
		n_files += s.n > 0;
		if (s.n > 0)
			round_trip(e->fts_path, &s, cfg, vocab);
		drop(&s);
	}
	fts_close(fts);
	free(s.pkt);
	free(s.token);
	free(s.first);
}

int main(int argc, char **argv)
{
	static struct nssm_vocab vocab;
	struct nssm_err err;
	const char *path[16];
	int n = 0;
	for (int i = 1; i < argc && n < 16; i++)
		path[n++] = argv[i];
	static const char *const env[] = {"NETSSM_CORPUS", "NETSSM_HOSTILE"};
	for (int i = 0; i < 2 && argc == 1; i++)
		if (getenv(env[i]) != NULL)
			path[n++] = getenv(env[i]);
	if (n == 0) {
		puts("SKIP: no captures: NETSSM_CORPUS and NETSSM_HOSTILE are not set");
		return 77;
	}
	nssm_vocab_init(&vocab);
	if (nssm_vocab_add_label(&vocab, "x", &err) < 0)
		return 1;
	static const struct nssm_codec_cfg cfg[] = {
	        {NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .payload = NSSM_PAYLOAD_NONE},
	        {NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .payload = NSSM_PAYLOAD_PREFIX, .prefix = 12},
	        {NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .payload = NSSM_PAYLOAD_FULL},
	        {NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .payload = NSSM_PAYLOAD_PREFIX, .prefix = 12,
	                .identity = NSSM_IDENTITY_POOL}};
	for (size_t c = 0; c < sizeof cfg / sizeof *cfg; c++) {
		char what[128];
		n_packets = n_tokens = n_files = n_skipped_csums = 0;
		encode_s = decode_s[0] = decode_s[1] = decode_s[2] = 0;
		for (int i = 0; i < n; i++)
			folder(path[i], &cfg[c], &vocab);
		nssm_codec_describe(what, sizeof what, &cfg[c]);
		printf("%s: %llu captures, %llu packets, %.2f tokens a packet; %.2f M packets/s encoded, %.2f M decoded (%.2f M with "
		       "random payload, %.2f M with TLS records)\n",
		        what,
		        (unsigned long long)n_files, (unsigned long long)n_packets, (double)n_tokens / (double)n_packets,
		        (double)n_packets / encode_s / 1e6, (double)n_packets / decode_s[NSSM_FILL_ZERO] / 1e6,
		        (double)n_packets / decode_s[NSSM_FILL_RANDOM] / 1e6, (double)n_packets / decode_s[NSSM_FILL_TLS] / 1e6);
	}
	if (n_files == 0) {
		puts("SKIP: no captures there");
		return 77;
	}
	printf("%llu wrong\n", (unsigned long long)n_wrong);
	return n_wrong != 0;
}
