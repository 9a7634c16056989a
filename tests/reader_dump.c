/* reader_dump — reads captures through nssm_reader and says what came out: a line a packet with -p (session, seq,
 * shard, t_ns, wire length, length, CRC), always the counters; with -b how fast they came instead of a CRC. For
 * tests/reader.py; not installed. Exit: 0 read to its end, 1 an error (stderr), 2 usage. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/measure.h"
#include "replay/reader.h"

static int race(struct nssm_reader *r, struct nssm_err *err)
{
	struct nssm_read_pkt p;
	uint64_t t0 = nssm_now_ns(), at = 0;
	int rc;
	/* One byte of each packet, as whoever takes them touches them all. */
	while ((rc = nssm_reader_next(r, &p, err)) == 1)
		at += p.data[p.len - 1];
	double s = (double)(nssm_now_ns() - t0) / 1e9;
	const struct nssm_source_counters *c = nssm_reader_counters(r);
	printf("%.2f M packets/s, %.2f GB/s (%" PRIu64 " packets, sum %" PRIu64 ")\n",
	        (double)c->packets / s / 1e6, (double)c->bytes / s / 1e9, c->packets, at);
	return rc;
}

static int dump(struct nssm_reader *r, bool each, struct nssm_err *err)
{
	struct nssm_read_pkt p;
	uLong all = crc32(0, NULL, 0);
	int rc;
	while ((rc = nssm_reader_next(r, &p, err)) == 1) {
		all = crc32(all, p.data, p.len);
		if (each)
			printf("%" PRIu64 " %" PRIu64 " %" PRIu32 " %" PRIu64 " %" PRIu32 " %" PRIu32
			       " %08lx\n",
			        p.session, p.seq, p.shard, p.t_ns, p.wirelen, p.len,
			        crc32(crc32(0, NULL, 0), p.data, p.len));
	}
	const struct nssm_source_counters *c = nssm_reader_counters(r);
	printf("packets=%" PRIu64 " bytes=%" PRIu64 " filtered=%" PRIu64 " too_long=%" PRIu64
	       " truncated=%" PRIu64 " no_session=%" PRIu64 " time_back=%" PRIu64 " sessions=%" PRIu64
	       " duration_ns=%" PRIu64 " crc=%08lx\n",
	        c->packets, c->bytes, c->filtered, c->too_long, c->truncated, nssm_reader_no_session(r),
	        nssm_reader_time_back(r), c->sessions_begun, nssm_reader_duration(r), all);
	return rc;
}

int main(int argc, char **argv)
{
	struct nssm_reader_cfg cfg = {.split.kind = NSSM_SPLIT_FILE, .label = "x"};
	struct nssm_err err;
	bool each = false, time_it = false;
	int opt, rc = 0;
	while ((opt = getopt(argc, argv, "bpmkzf:s:n:t:d:")) != -1) {
		switch (opt) {
		case 'p':
			each = true;
			break;
		case 'b':
			time_it = true;
			break;
		case 'm':
			cfg.merge = true;
			break;
		case 'k':
			cfg.keep_going = true;
			break;
		case 'z':
			cfg.pad = true;
			break;
		case 'f':
			cfg.filter = optarg;
			break;
		case 's':
			rc = nssm_split_parse(&cfg.split, optarg, &err);
			break;
		case 'n':
			cfg.n_shards = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 't':
		case 'd':
			cfg.mtu_mode = opt == 't' ? NSSM_MTU_TRUNCATE : NSSM_MTU_DROP;
			cfg.mtu = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		default:
			fprintf(stderr,
			        "usage: reader_dump [-bpmkz] [-f FILTER] [-s SPLIT] [-n SHARDS] [-t MTU] "
			        "[-d MTU] FILE...\n");
			return 2;
		}
	}
	cfg.path = (const char *const *)argv + optind;
	cfg.n_paths = (uint32_t)(argc - optind);
	struct nssm_reader *r = NULL;
	if (rc == 0)
		rc = nssm_reader_open(&r, &cfg, &err);
	if (rc == 0)
		rc = time_it ? race(r, &err) : dump(r, each, &err);
	nssm_reader_close(&r);
	if (rc < 0)
		fprintf(stderr, "reader_dump: %s\n", err.msg);
	return rc < 0;
}
