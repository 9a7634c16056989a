/* capture_dump — reads one capture through nssm_capture and says what came out: a line a packet with -p,
 * always the counters. For tests/hostile.py; not installed. Exit: 0 read to its end, 1 an error (stderr), 2
 * usage. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "replay/capture.h"

static int dump(struct nssm_capture *c, bool each, struct nssm_err *err)
{
	struct nssm_pkt pkt;
	uint64_t wire_bytes = 0;
	uLong all = crc32(0, NULL, 0);
	int rc;
	while ((rc = nssm_capture_next(c, &pkt, err)) == 1) {
		uint64_t n = nssm_capture_info(c)->n_packets;
		all = crc32(all, pkt.data, pkt.caplen);
		if (each)
			printf("%" PRIu64 " %" PRIu64 ".%09" PRIu64 " %" PRIu32 " %" PRIu32 " %08lx\n", n,
			        pkt.ts_ns / 1000000000, pkt.ts_ns % 1000000000, pkt.wirelen, pkt.caplen,
			        crc32(crc32(0, NULL, 0), pkt.data, pkt.caplen));
		wire_bytes += pkt.wirelen;
	}
	const struct nssm_capture_info *i = nssm_capture_info(c);
	printf("link_type=%d snaplen=%" PRIu32 " ns=%d gz=%d file_bytes=%" PRIu64 " packets=%" PRIu64
	       " bytes=%" PRIu64 " wire_bytes=%" PRIu64 " normalised=%" PRIu64 " no_ethertype=%" PRIu64
	       " short_link=%" PRIu64 " wirelen_raised=%" PRIu64 " bad_time=%" PRIu64 " crc=%08lx\n",
	        i->link_type, i->snaplen, i->ns, i->gz, i->file_bytes, i->n_packets, i->n_bytes, wire_bytes,
	        i->n_normalised, i->n_no_ethertype, i->n_short_link, i->n_wirelen_raised, i->n_bad_time, all);
	return rc;
}

int main(int argc, char **argv)
{
	bool each = argc == 3 && strcmp(argv[1], "-p") == 0;
	if (argc != 2 && !each) {
		fprintf(stderr, "usage: capture_dump [-p] FILE|-\n");
		return 2;
	}
	struct nssm_err err;
	struct nssm_capture *c;
	int rc = nssm_capture_open(&c, argv[argc - 1], &err);
	if (rc == 0) {
		rc = dump(c, each, &err);
		nssm_capture_close(&c);
	}
	if (rc < 0)
		fprintf(stderr, "capture_dump: %s\n", err.msg);
	return rc < 0;
}
