/* bench_sink [FOLDER] [MB] — how fast file sinks take packets of about 500 bytes, against plain writes of as many bytes from
 * memory, in turn, median of 5. FOLDER: /dev/shm unless given. Built, not run by the tests.                               */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/measure.h"
#include "replay/sink.h"

enum { RUNS = 5, FRAMES = 1024, WRITE_BYTES = 1 << 20 };

static uint8_t frame[FRAMES][1024];
static uint32_t frame_len[FRAMES];
static uint8_t block[WRITE_BYTES];
static char path[PATH_MAX];
static uint64_t total;

static int fail(const char *what)
{
	fprintf(stderr, "bench_sink: %s\n", what);
	exit(1);
}

static double plain(void)
{
	double start = nssm_now_s();
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		fail(path);
	for (uint64_t n = 0; n < total; n += WRITE_BYTES)
		if (write(fd, block, WRITE_BYTES) != WRITE_BYTES)
			fail("short write");
	close(fd);
	return nssm_now_s() - start;
}

/* Seconds for as many bytes of frames. */
static double sink(const char *kind, bool comments, bool in_place)
{
	static const char *const label[2] = {"web", "dns"};
	struct nssm_sink_cfg cfg = {
	        .label = label, .n_labels = 2, .comments = comments, .in_place = in_place};
	struct nssm_sink *s;
	struct nssm_err err;
	double start = nssm_now_s();
	int rc = strcmp(kind, "pcap") == 0 ? nssm_sink_pcap(&s, path, &cfg, &err)
	                                   : nssm_sink_pcapng(&s, path, &cfg, &err);
	uint64_t n = 0;
	for (uint32_t at = 0; rc == 0 && n < total; at = (at + NSSM_BURST) % FRAMES) {
		struct nssm_tx pkt[NSSM_BURST];
		for (uint32_t i = 0; i < NSSM_BURST; i++) {
			uint32_t len = frame_len[at + i];
			pkt[i] = (struct nssm_tx){.data = frame[at + i],
			        .len = len,
			        .wirelen = len,
			        .time_ns = 1700000000000000000u + n * 8,
			        .session = n >> 20,
			        .clone = i,
			        .label_idx = i % 2,
			        .dir = i % 2};
			n += len;
		}
		rc = nssm_sink_burst(s, pkt, NSSM_BURST, &err);
	}
	if (rc == 0)
		rc = nssm_sink_finish(s, &err);
	if (rc != 0)
		fail(err.msg);
	nssm_sink_close(&s);
	return nssm_now_s() - start;
}

int main(int argc, char **argv)
{
	snprintf(path, sizeof path, "%s/bench_sink.%ld", argc > 1 ? argv[1] : "/dev/shm", (long)getpid());
	total = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1000) * 1000000;
	memset(block, 0x5a, sizeof block);
	for (uint32_t i = 0; i < FRAMES; i++) {
		frame_len[i] = 60 + i * 97 % 881; /* mean 500 */
		memset(frame[i], (int)i, sizeof frame[i]);
	}
	static const struct {
		const char *name, *kind;
		bool comments, in_place;
	} row[] = {
	        {"pcap", "pcap", false, false},
	        {"pcap, in place", "pcap", false, true},
	        {"pcapng", "pcapng", false, false},
	        {"pcapng, comments", "pcapng", true, false},
	};
	enum { N = sizeof row / sizeof *row };
	double t[N + 1][RUNS];
	for (int r = 0; r < RUNS; r++) {
		for (int i = 0; i <= N; i++) {
			t[i][r] = i == N ? plain() : sink(row[i].kind, row[i].comments, row[i].in_place);
			unlink(path);
		}
	}
	double bare = (double)total / nssm_median(t[N], RUNS) * 1e-9;
	printf("%-18s %6.2f GB/s\n", "plain write", bare);
	for (int i = 0; i < N; i++) {
		double rate = (double)total / nssm_median(t[i], RUNS) * 1e-9;
		printf("%-18s %6.2f GB/s of frames, %5.2f Mpps, %.2f of plain\n", row[i].name, rate, rate * 2,
		        rate / bare);
	}
	return 0;
}
