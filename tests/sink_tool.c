/* sink_tool — sends a capture through one sink and says what became of it: sink_stream.py runs it.
 *   sink_tool [-c] [-d] [-s SNAPLEN] [-r TIMES] pcap|pcapng|ip|fifo WHERE CAPTURE
 * -c comments, labels "web" and "dns" in turn; -d: does not wait for a slow reader, so that packets get lost; -r: the capture so many times.
 * "NAME" and what came out go to stderr, a line each. Waits up to 20 s for a reader.                                       */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/measure.h"
#include "replay/capture.h"
#include "replay/sink.h"

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static int open_sink(struct nssm_sink **s, const char *kind, const char *where,
        const struct nssm_sink_cfg *cfg, struct nssm_err *err)
{
	static const struct {
		const char *kind;
		int (*open)(
		        struct nssm_sink **, const char *, const struct nssm_sink_cfg *, struct nssm_err *);
	} table[] = {
	        {"pcap", nssm_sink_pcap},
	        {"pcapng", nssm_sink_pcapng},
	        {"ip", nssm_sink_pcap_over_ip},
	        {"fifo", nssm_sink_fifo},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (strcmp(kind, table[i].kind) == 0)
			return table[i].open(s, where, cfg, err);
	return nssm_err_set(err, NSSM_EARG, "unknown kind of sink '%s'", kind);
}

static int wait_for_reader(struct nssm_sink *s, struct nssm_err *err)
{
	for (int i = 0; i < 20000 && !nssm_sink_ready(s); i++) {
		int rc = nssm_sink_tick(s, nssm_now_ns(), err);
		if (rc != 0)
			return rc;
		nap();
	}
	return nssm_sink_ready(s) ? 0 : nssm_err_set(err, NSSM_EIO, "no reader came");
}

static int send_capture(
        struct nssm_sink *s, const char *path, uint64_t *n_sent, bool may_lose, struct nssm_err *err)
{
	struct nssm_capture *c;
	struct nssm_pkt p;
	int rc = nssm_capture_open(&c, path, err), got = 0;
	while (rc == 0 && (got = nssm_capture_next(c, &p, err)) > 0) {
		struct nssm_tx tx = {.data = (uint8_t *)p.data,
		        .len = p.caplen,
		        .wirelen = p.wirelen,
		        .time_ns = p.ts_ns,
		        .session = *n_sent / 10,
		        .clone = (uint32_t)(*n_sent % 3),
		        .label_idx = (uint32_t)(*n_sent % 2),
		        .dir = (uint8_t)(*n_sent % 2)};
		rc = nssm_sink_burst(s, &tx, 1, err);
		if (rc == 0 && ++*n_sent % 16 == 0)
			rc = nssm_sink_tick(s, nssm_now_ns(), err);
		while (rc == 0 && !may_lose && nssm_sink_stats(s)->queued > 500) {
			nap();
			rc = nssm_sink_tick(s, nssm_now_ns(), err);
		}
	}
	nssm_capture_close(&c);
	return rc != 0 ? rc : got;
}

int main(int argc, char **argv)
{
	static const char *const label[2] = {"web", "dns"};
	struct nssm_sink_cfg cfg = {.label = label, .n_labels = 2, .wait_for_reader = true};
	bool may_lose = false;
	int times = 1;
	for (int o; (o = getopt(argc, argv, "cds:r:")) != -1;) {
		if (o == 'c')
			cfg.comments = true;
		else if (o == 'd')
			may_lose = true;
		else if (o == 's')
			cfg.snaplen = (uint32_t)atoi(optarg);
		else if (o == 'r')
			times = atoi(optarg);
		else
			return 2;
	}
	if (argc - optind != 3)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	struct nssm_sink *s;
	struct nssm_err err = {0};
	int rc = open_sink(&s, argv[optind], argv[optind + 1], &cfg, &err);
	if (rc != 0) {
		fprintf(stderr, "sink_tool: %s\n", err.msg);
		return 1;
	}
	fprintf(stderr, "%s\n", nssm_sink_name(s));
	uint64_t n_sent = 0;
	rc = wait_for_reader(s, &err);
	for (int i = 0; rc == 0 && i < times; i++)
		rc = send_capture(s, argv[optind + 2], &n_sent, may_lose, &err);
	if (rc == 0)
		rc = nssm_sink_finish(s, &err);
	if (rc != 0)
		fprintf(stderr, "sink_tool: %s\n", err.msg);
	const struct nssm_sink_stats *st = nssm_sink_stats(s);
	fprintf(stderr, "handed=%llu sent=%llu bytes=%llu cut=%llu no_reader=%llu queued=%llu readers=%llu\n",
	        (unsigned long long)n_sent, (unsigned long long)st->sent, (unsigned long long)st->bytes,
	        (unsigned long long)st->cut, (unsigned long long)st->dropped[NSSM_DROP_NO_READER],
	        (unsigned long long)st->queued, (unsigned long long)st->n_readers);
	nssm_sink_close(&s);
	return rc != 0;
}
