/* Every packet of real captures (NETSSM_CORPUS) to tokens and back: the same header bytes but for what repair
 * reports, the right length, the modelled payload. Exit 77 without the captures. */
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/codec.h"
#include "replay/capture.h"

static struct {
	uint64_t packets, taken, repaired[NSSM_REPAIR_N_BITS], differ;
} sums;

static int wrong(const char *path, uint64_t n, const char *what)
{
	fprintf(stderr, "%s: packet %llu: %s\n", path, (unsigned long long)n, what);
	sums.differ++;
	return 1;
}

/* h: of the captured packet. Bytes that repair may have touched are left out where it says that it did. */
static int compare(const char *path, uint64_t n, const struct nssm_pkt *pkt, const struct nssm_hdrs *h,
        const struct nssm_frame *f)
{
	if (f->len != h->l3_off + h->ip_len)
		return wrong(path, n, "another length");
	uint8_t skip[NSSM_RAW_PKT_LEN_MAX] = {0};
	uint32_t csum = h->l4_off + (h->proto == 17 ? 6u : 16u);
	if (f->repaired & NSSM_REPAIR_L4_CSUM)
		skip[csum] = skip[csum + 1] = 1;
	if (f->repaired & NSSM_REPAIR_IP_CSUM)
		skip[h->l3_off + 10] = skip[h->l3_off + 11] = 1;
	if (f->repaired & NSSM_REPAIR_UDP_LEN)
		skip[h->l4_off + 4] = skip[h->l4_off + 5] = 1;
	if (f->repaired & NSSM_REPAIR_FRAGMENT)
		skip[h->l3_off + 6] = skip[h->l3_off + 7] = 1;
	if (f->repaired & NSSM_REPAIR_TCP_FLAGS)
		skip[h->l4_off + 12] = 1;
	if (f->repaired & NSSM_REPAIR_TCP_OPTIONS)
		memset(skip + h->l4_off + 20, 1, h->payload_off - h->l4_off - 20u);
	for (uint32_t i = 0; i < h->payload_off; i++)
		if (!skip[i] && f->data[i] != pkt->data[i])
			return wrong(path, n, "another header byte");
	uint32_t end = f->len < pkt->caplen ? f->len : pkt->caplen;
	for (uint32_t i = h->payload_off; h->proto == 17 && i < end && i < h->payload_off + 12u; i++)
		if (f->data[i] != pkt->data[i])
			return wrong(path, n, "another payload byte");
	return 0;
}

static void file(const char *path, struct nssm_encoder *e, struct nssm_decoder *d)
{
	struct nssm_capture *c;
	struct nssm_err err;
	if (nssm_capture_open(&c, path, &err) != 0) {
		fprintf(stderr, "%s\n", err.msg);
		sums.differ++;
		return;
	}
	struct nssm_pkt pkt;
	uint16_t t[2 + NSSM_RAW_PKT_LEN_MAX];
	while (nssm_capture_next(c, &pkt, &err) > 0) {
		int reason;
		uint32_t cut;
		struct nssm_hdrs h;
		struct nssm_frame f;
		sums.packets++;
		size_t n = nssm_encoder_begin(e, t, 0, NULL);
		n += nssm_encoder_packet(e, t + n, &pkt, &reason, &cut);
		if (n == 1 || cut > 0 || nssm_pkt_parse(&h, pkt.data, pkt.caplen) != NSSM_PKT_OK)
			continue;
		sums.taken++;
		nssm_decoder_begin(d, 1, sums.taken);
		for (size_t i = 0; i < n; i++)
			if (nssm_decoder_token(d, t[i], &f) != NSSM_DEC_NONE)
				wrong(path, sums.packets, "ended early");
		if (nssm_decoder_flush(d, &f) != NSSM_DEC_PACKET) {
			wrong(path, sums.packets, nssm_pkt_reason_name(f.reason));
			continue;
		}
		for (int b = 0; b < NSSM_REPAIR_N_BITS; b++)
			sums.repaired[b] += f.repaired >> b & 1;
		compare(path, sums.packets, &pkt, &h, &f);
	}
	nssm_capture_close(&c);
}

int main(void)
{
	char *dir = getenv("NETSSM_CORPUS");
	if (dir == NULL) {
		puts("SKIP: NETSSM_CORPUS is not set");
		return 77;
	}
	static struct nssm_vocab vocab;
	nssm_vocab_init(&vocab);
	struct nssm_codec_cfg cfg = {.kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = 128};
	struct nssm_encoder *e;
	struct nssm_decoder *d;
	char *paths[] = {dir, NULL};
	FTS *fts = fts_open(paths, FTS_LOGICAL | FTS_NOCHDIR, NULL);
	if (fts == NULL || nssm_vocab_add_label(&vocab, "x", NULL) != 0 ||
	        nssm_encoder_open(&e, &cfg, &vocab, NULL) != 0 ||
	        nssm_decoder_open(&d, &cfg, &vocab, NSSM_FILL_ZERO, NULL) != 0)
		return 1;
	for (FTSENT *f; (f = fts_read(fts)) != NULL;)
		if (f->fts_info == FTS_F && strstr(f->fts_name, ".pcap") != NULL)
			file(f->fts_path, e, d);
	fts_close(fts);
	nssm_encoder_close(&e);
	nssm_decoder_close(&d);
	printf("%llu packets, %llu taken, %llu differ;", (unsigned long long)sums.packets,
	        (unsigned long long)sums.taken, (unsigned long long)sums.differ);
	for (int b = 0; b < NSSM_REPAIR_N_BITS; b++)
		printf(" %s %llu", nssm_pkt_repair_name(b), (unsigned long long)sums.repaired[b]);
	putchar('\n');
	/* What real stacks sent is well-formed: checksums aside (payload is not modelled), next to nothing
	 * may be changed. */
	uint64_t changed = 0;
	for (int b = 0; b < NSSM_REPAIR_N_BITS; b++)
		changed += (1 << b & (NSSM_REPAIR_IP_CSUM | NSSM_REPAIR_L4_CSUM)) ? 0 : sums.repaired[b];
	return sums.taken > 1000 && sums.differ == 0 && changed * 1000 <= sums.taken ? 0 : 1;
}
