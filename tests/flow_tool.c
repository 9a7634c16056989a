/* flow_tool MASK PAYLOAD IDENTITY PACKETS SEED OUT.pcap — random walks through a mask of codec `flow` (full, clean) until they spelled so
 * many packets, sessions of 5000 on average, written as a capture (-: to stdout). PAYLOAD: none, full, or bytes of the prefix.
 * Prints tokens and sessions to stderr. Exit 1 where a walk's packet is rejected. */
#include <inttypes.h>
#include <stdio.h>

#include "tests/flow_rig.h"

static int usage(void)
{
	fputs("usage: flow_tool full|clean none|full|PREFIX keep|pool PACKETS SEED OUT.pcap|-\n", stderr);
	return 2;
}

static void write_u32(FILE *out, uint32_t v)
{
	fwrite(&v, sizeof v, 1, out);
}

static void write_packet(FILE *out, const struct nssm_frame *f, uint64_t ts)
{
	write_u32(out, (uint32_t)(ts / 1000000000));
	write_u32(out, (uint32_t)(ts % 1000000000));
	write_u32(out, f->len);
	write_u32(out, f->len);
	fwrite(f->data, 1, f->len, out);
}

int main(int argc, char **argv)
{
	if (argc != 7)
		return usage();
	struct nssm_codec_cfg cfg = {.kind = NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION};
	int payload = nssm_payload_find(argv[2]), identity = nssm_identity_find(argv[3]);
	cfg.payload = payload >= 0 ? (enum nssm_payload)payload : NSSM_PAYLOAD_PREFIX;
	cfg.prefix = payload >= 0 ? 0 : (uint32_t)strtoul(argv[2], NULL, 10);
	cfg.identity = (enum nssm_identity)(identity < 0 ? 0 : identity);
	bool clean = strcmp(argv[1], "clean") == 0;
	struct nssm_err err;
	if ((!clean && strcmp(argv[1], "full") != 0) || identity < 0)
		return usage();
	if (nssm_codec_cfg_check(&cfg, "flow_tool", &err) != 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 2;
	}
	uint64_t n = strtoull(argv[4], NULL, 10), seed = strtoull(argv[5], NULL, 10), n_tokens = 0, n_sessions = 0, made = 0, ts = 0;
	FILE *out = strcmp(argv[6], "-") == 0 ? stdout : fopen(argv[6], "wb");
	if (out == NULL) {
		perror(argv[6]);
		return 2;
	}
	static const uint32_t head[6] = {0xa1b23c4d, 2 | 4 << 16, 0, 0, NSSM_FRAME_MAX, 1};
	fwrite(head, sizeof head, 1, out);
	struct flow_rig rig;
	struct flow_walk w;
	struct nssm_frame f;
	flow_rig_open(&rig, &cfg);
	flow_walk_begin(&w, &rig, clean ? NSSM_MASK_CLEAN : NSSM_MASK_FULL, seed, 5000);
	nssm_decoder_begin(rig.dec, seed, n_sessions++);
	while (made < n) {
		uint16_t token = flow_walk_token(&w);
		enum nssm_dec_event ev = nssm_decoder_token(rig.dec, token, &f);
		n_tokens++;
		if (ev == NSSM_DEC_REJECT || (ev == NSSM_DEC_END) != (token == rig.vocab.eot)) {
			fprintf(stderr, "flow_tool: session %" PRIu64 ", token %" PRIu64 ": rejected: %s\n", n_sessions, f.at_token,
			        nssm_pkt_reason_name(f.reason));
			return 1;
		}
		if (ev == NSSM_DEC_END)
			nssm_decoder_begin(rig.dec, seed, n_sessions++);
		/* Those that were spelled byte by byte are left out, as by who sends packets. */
		if (ev == NSSM_DEC_PACKET && !(clean && f.escaped)) {
			/* Times of a capture have 32 bits of seconds. */
			ts += f.gap_ns < 1000000000 ? f.gap_ns : 1000000000;
			write_packet(out, &f, ts);
			made++;
		}
	}
	if (fclose(out) != 0) {
		perror(argv[6]);
		return 2;
	}
	fprintf(stderr, "%" PRIu64 " packets, %" PRIu64 " tokens, %" PRIu64 " sessions\n", made, n_tokens, n_sessions);
	flow_rig_close(&rig);
	return 0;
}
