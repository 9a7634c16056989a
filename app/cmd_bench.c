/* netssm bench — what this machine does, as medians of several runs with the load average beside them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/bench_model.h"
#include "app/bench_net.h"
#include "app/bench_prepare.h"
#include "app/cmd.h"

/* Those of a model and of its corpus: rows. */
static int rows(const struct nssm_conf *conf, const char *what, const char *const *captures, size_t n, struct nssm_err *err)
{
	struct nssm_bench_rows r;
	json_t *peaks = NULL;
	nssm_bench_rows_begin(&r, nssm_conf_bool(conf, NSSM_K_BENCH_JSON));
	int rc = strcmp(what, "prepare") == 0 ? nssm_bench_prepare(&r, conf, captures, n, err) : nssm_bench_model(&r, &peaks, conf, what, err);
	if (rc == 0)
		nssm_bench_rows_end(&r, peaks);
	json_decref(rc == 0 ? NULL : peaks);
	json_decref(rc == 0 ? NULL : r.rows);
	return rc;
}

static bool is_one_of(const char *what, const char *const *names)
{
	while (*names != NULL && strcmp(what, *names) != 0)
		names++;
	return *names != NULL;
}

static int run(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err)
{
	static const char *const of_model[] = {"model", "decode", "prefill", "train", NULL}, *const of_captures[] = {"prepare", "wire", "pcap", NULL};
	const char *what = n_pos > 0 ? pos[0] : "model";
	const char *const *captures = pos + 1;
	size_t n = n_pos > 1 ? (size_t)n_pos - 1 : 0;
	bool has_rows = is_one_of(what, of_model) || strcmp(what, "prepare") == 0;
	if (!has_rows && !is_one_of(what, of_captures) && strcmp(what, "pace") != 0)
		return nssm_err_set(err, NSSM_EARG,
			"bench: expected model, decode, prefill, train, prepare, wire, pace or pcap (a veth pair: scripts/bench_veth), found %.60s", what);
	if (n > 0 && !is_one_of(what, of_captures))
		return nssm_err_set(err, NSSM_EARG, "bench %.40s: takes no captures, found %.100s", what, captures[0]);
	if (!has_rows && nssm_conf_bool(conf, NSSM_K_BENCH_JSON))
		return nssm_err_set(err, NSSM_EARG, "bench %.40s: has no --json", what);
	if (has_rows)
		return rows(conf, what, captures, n, err);
	if (strcmp(what, "wire") == 0)
		return nssm_bench_wire(captures, n, err);
	if (strcmp(what, "pcap") == 0)
		return nssm_bench_pcap(captures, n, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", err);
	return nssm_bench_pace(err);
}

const struct nssm_cmd nssm_cmd_bench = {
	.name = "bench",
	.usage = "bench [WHAT] [CAPTURE…] [flags]",
	.summary = "measure how fast this machine trains, generates and sends",
	.details = "  model    all of decode, prefill and train (the default)\n"
		   "  decode   tokens generated: one a lane and step, sampling not counted\n"
		   "  prefill  tokens read: forward only\n"
		   "  train    forward and backward\n"
		   "  prepare  packets to tokens with both codecs, of the captures that are named\n"
		   "           or of samples/\n"
		   "  wire     one lcore into net_null at top speed: a loop that only copies packets\n"
		   "           and patches addresses, ports, numbers and checksums, then the whole\n"
		   "           pipeline with 1,000 and 1,000,000 clones alive\n"
		   "  pace     100,000 packets a second with exponential gaps: how late they leave\n"
		   "  pcap     clones into a capture on a tmpfs\n"
		   "\n"
		   "The model has random weights; only sizes matter. First the machine's peaks are\n"
		   "measured: the dot products of each CPU level with its own instructions, and\n"
		   "memory at the sizes that are worked on. `share` is the rate measured over the\n"
		   "rate that these peaks allow (the roofline; app/bench_model.h has the counts).\n"
		   "Without flags: the best level with every type of weights, 1 to 256 lanes and one\n"
		   "thread up to one a core, the other levels with their fastest type, 16 lanes and\n"
		   "one thread. --level, --weights, --lanes and --threads narrow it down; `ref` must\n"
		   "be named. --batch and --seq-tokens are the sizes of prefill and train.\n"
		   "\n"
		   "wire and pcap take their packets from the captures that are named, or make\n"
		   "some up: 66 to 1,514 bytes, 1,090 on average. scripts/bench_veth compares\n"
		   "af_packet and af_xdp with tcpreplay on a veth pair, scripts/bench_peers the\n"
		   "model with PyTorch. The flags below are not for wire, pace and pcap.\n"
		   "\n"
		   "Each figure is the median of 5 runs, with the slowest and the fastest and the\n"
		   "machine's load average beside it: what else runs here slows it down.\n"
		   "\n"
		   "  netssm bench --config conf/small.yaml\n"
		   "  netssm bench decode --weights int8 --lanes 16 --json\n"
		   "  netssm bench train --config conf/paper.yaml --batch 1 --seq-tokens 2048\n"
		   "  netssm bench prepare my/*.pcap\n"
		   "  netssm bench wire samples/web-*.pcap.gz\n",
	.bit = NSSM_CMD_BENCH,
	.max_pos = INT32_MAX,
	.run = run,
};
