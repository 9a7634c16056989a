#include "app/bench_prepare.h"

#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/progress.h"
#include "base/measure.h"
#include "model/codec.h"
#include "model/codec_flow.h"
#include "model/vocab.h"
#include "replay/capture.h"

#define BYTES_MAX   (256u << 20)
#define PACKETS_MAX (4u << 20)
#define SAMPLES     "samples/*.pcap.gz"

struct packets {
	struct nssm_pkt *pkt;
	bool *first; /* of a capture */
	size_t n, room;
	uint8_t *bytes;
	size_t n_bytes;
};

static int grow(struct packets *p, struct nssm_err *err)
{
	if (p->n < p->room)
		return 0;
	size_t room = p->room > 0 ? 2 * p->room : 4096;
	struct nssm_pkt *pkt = realloc(p->pkt, room * sizeof *pkt);
	p->pkt = pkt != NULL ? pkt : p->pkt;
	bool *first = realloc(p->first, room * sizeof *first);
	p->first = first != NULL ? first : p->first;
	if (pkt == NULL || first == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "bench prepare: no memory for %zu packets", room);
	p->room = room;
	return 0;
}

static int read_capture(struct packets *p, const char *path, struct nssm_err *err)
{
	struct nssm_capture *c;
	struct nssm_pkt k;
	int rc = nssm_capture_open(&c, path, err);
	if (rc != 0)
		return rc;
	bool first = true;
	while (p->n < PACKETS_MAX && (rc = nssm_capture_next(c, &k, err)) == 1) {
		rc = 0;
		if (p->n_bytes + k.caplen > BYTES_MAX || (rc = grow(p, err)) != 0)
			break;
		memcpy(p->bytes + p->n_bytes, k.data, k.caplen);
		k.data = p->bytes + p->n_bytes;
		p->n_bytes += k.caplen;
		p->first[p->n] = first;
		p->pkt[p->n++] = k;
		first = false;
	}
	nssm_capture_close(&c);
	return rc < 0 ? rc : 0;
}

/* Tokens of all packets. */
static uint64_t encode(struct nssm_encoder *enc, uint16_t *out, const struct packets *p)
{
	uint64_t tokens = 0;
	for (size_t i = 0; i < p->n; i++) {
		int reason;
		uint32_t cut;
		if (p->first[i])
			tokens += (i > 0 ? nssm_encoder_end(enc, out) : 0) + nssm_encoder_begin(enc, out, 0, NULL);
		tokens += nssm_encoder_packet(enc, out, &p->pkt[i], &reason, &cut);
	}
	return tokens + nssm_encoder_end(enc, out);
}

static int one(struct nssm_bench_rows *rows, const struct packets *p, const struct nssm_codec_cfg *cfg, double run_s,
	struct nssm_err *err)
{
	struct nssm_bench_row r = {.op = "prepare", .codec = nssm_codec_kind_name(cfg), .threads = 1};
	struct nssm_vocab vocab;
	struct nssm_encoder *enc = NULL;
	uint16_t *out = NULL;
	nssm_vocab_init(&vocab);
	int rc = nssm_vocab_add_label(&vocab, "bench", err);
	rc = rc < 0 ? rc : nssm_encoder_open(&enc, cfg, &vocab, err);
	if (rc == 0 && (out = calloc(nssm_encoder_max_tokens(enc) + NSSM_CODEC_HEAD_MAX + 1, sizeof *out)) == NULL)
		rc = nssm_err_set(err, NSSM_ENOMEM, "bench prepare: no memory for tokens");
	if (rc == 0) {
		uint64_t all = encode(enc, out, p);
		for (int i = 0; i < NSSM_BENCH_RUNS; i++) {
			double n = 0, t0 = nssm_now_s(), t;
			do {
				n += (double)encode(enc, out, p);
				t = nssm_now_s() - t0;
			} while (t < run_s);
			r.tokens[i] = n / t;
		}
		r.packets = (double)p->n / (double)all;
		r.capture_bytes = (double)p->n_bytes / (double)all;
		nssm_bench_row(rows, &r);
	}
	free(out);
	nssm_encoder_close(&enc);
	return rc;
}

int nssm_bench_prepare(struct nssm_bench_rows *rows, const struct nssm_conf *conf, const char *const *captures, size_t n,
	struct nssm_err *err)
{
	const struct nssm_codec_cfg cfg[2] = {{.kind = NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION, .payload = NSSM_PAYLOAD_PREFIX, .prefix = 12},
		{.kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = 128}};
	glob_t found = {0};
	struct packets p = {0};
	int rc = 0;
	if (n == 0 && glob(SAMPLES, 0, NULL, &found) == 0) {
		captures = (const char *const *)found.gl_pathv;
		n = found.gl_pathc;
	}
	if (n == 0)
		rc = nssm_err_set(err, NSSM_EARG, "bench prepare: no captures are named, and there are none at " SAMPLES);
	p.bytes = rc == 0 ? malloc(BYTES_MAX) : NULL;
	if (rc == 0 && p.bytes == NULL)
		rc = nssm_err_set(err, NSSM_ENOMEM, "bench prepare: no memory for %u bytes of packets", BYTES_MAX);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = read_capture(&p, captures[i], err);
	if (rc == 0 && p.n == 0)
		rc = nssm_err_set(err, NSSM_EARG, "bench prepare: no packet in %s%s", captures[0], n > 1 ? " and the others" : "");
	if (rc == 0 && !rows->json)
		printf("%zu packets, %.1f MB, of %zu capture%s; one thread\n", p.n, (double)p.n_bytes / 1e6, n, n == 1 ? "" : "s");
	for (int i = 0; rc == 0 && i < 2; i++)
		rc = one(rows, &p, &cfg[i], nssm_conf_float(conf, NSSM_K_BENCH_RUN), err);
	free(p.bytes);
	free(p.pkt);
	free(p.first);
	globfree(&found);
	return rc;
}
