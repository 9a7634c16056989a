/* play: what people write for addresses, tags and ports; flags and profiles to the pipeline's settings; what makes no sense
 * together; signals, report, manifest and JSON over a pipeline that only says what it was told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "app/play.h"
#include "app/play_options.h"
#include "app/play_text.h"
#include "replay/control.h"
#include "replay/metrics.h"
#include "tests/scratch.h"

static struct nssm_err err;

/* --- the pipeline that only says what it was told ------------------------------------------------------------- */

struct nssm_pipeline {
	const struct nssm_pipeline_cfg *cfg;
};
static struct nssm_pipeline fake;
static struct {
	int open_rc, run_rc;
	int raise_at_open, raise_in_run; /* how many SIGINT */
	int n_drain, n_now;
	bool closed;
	struct nssm_stats stats;
} told;

int nssm_pipeline_open(struct nssm_pipeline **p, const struct nssm_pipeline_cfg *cfg, struct nssm_err *e)
{
	*p = NULL;
	for (int i = 0; i < told.raise_at_open; i++)
		raise(SIGINT);
	if (told.open_rc != 0)
		return nssm_err_set(e, told.open_rc, "out.pcap: cannot be opened");
	fake.cfg = cfg;
	*p = &fake;
	return 0;
}

int nssm_pipeline_run(struct nssm_pipeline *p, void (*tick)(void *ctx), void *ctx, struct nssm_err *e)
{
	assert_ptr_equal(p, &fake);
	tick(ctx);
	for (int i = 0; i < told.raise_in_run; i++)
		raise(SIGINT);
	if (told.run_rc != 0)
		nssm_err_set(e, told.run_rc, "stopped after 7 packets");
	return told.run_rc;
}

void nssm_pipeline_close(struct nssm_pipeline **p)
{
	told.closed = told.closed || *p != NULL;
	*p = NULL;
}

void nssm_pipeline_stop(struct nssm_pipeline *p, bool now)
{
	told.n_drain += !now;
	told.n_now += now;
}

int nssm_pipeline_set_rate(struct nssm_pipeline *p, const struct nssm_rate *rate, struct nssm_err *e)
{
	return 0;
}

int nssm_pipeline_pause(struct nssm_pipeline *p, bool pause, struct nssm_err *e)
{
	return 0;
}

void nssm_pipeline_stats(struct nssm_pipeline *p, struct nssm_stats *s)
{
	*s = told.stats;
}

uint32_t nssm_pipeline_n_labels(const struct nssm_pipeline *p)
{
	return 3;
}

const char *nssm_pipeline_label(const struct nssm_pipeline *p, uint32_t l)
{
	static const char *const name[] = {"web", "dns", "unused"};
	return name[l];
}

void nssm_pipeline_label_stats(const struct nssm_pipeline *p, uint32_t l, struct nssm_label_stats *s)
{
	*s = (struct nssm_label_stats){0};
	if (l < 2)
		*s = (struct nssm_label_stats){.sessions = 2 - l,
		        .flows = 10,
		        .made = 107,
		        .packets = 100,
		        .sent = 5000,
		        .rejected[NSSM_PKT_SHORT] = 7,
		        .end[NSSM_END_EOT] = 2 - l};
}

const struct nssm_measure_counters *nssm_pipeline_label_measured(const struct nssm_pipeline *p, uint32_t l)
{
	static struct nssm_measure_counters m = {.matched = 99, .lost = 1};
	return told.stats.measuring ? &m : NULL;
}

/* --- helpers -------------------------------------------------------------------------------------------------- */

static struct nssm_conf *conf;
static struct nssm_pipeline_cfg cfg;
static const struct nssm_cmd cmd = {.name = "replay", .bit = NSSM_CMD_REPLAY};

static int fresh(void **state)
{
	memset(&err, 0, sizeof err);
	memset(&told, 0, sizeof told);
	memset(&cfg, 0, sizeof cfg);
	return nssm_conf_open(&conf, &err);
}

static int done(void **state)
{
	nssm_conf_close(&conf);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	return 0;
}

/* Flags in one string, at blanks; what nssm_play_options makes of them. */
static int options(const char *line)
{
	static char words[4096];
	char *argv[64], *save;
	int argc = 0, n_pos;
	const char *pos[4];
	nssm_conf_close(&conf);
	assert_int_equal(nssm_conf_open(&conf, &err), 0);
	memset(&cfg, 0, sizeof cfg);
	snprintf(words, sizeof words, "%s", line);
	for (char *w = strtok_r(words, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	if (nssm_conf_args(conf, NSSM_CMD_REPLAY, argc, argv, 4, pos, &n_pos, &err) != 0)
		fail_msg("%s: %s", line, err.msg);
	return nssm_play_options(&cfg, conf, "replay", false, &err);
}

static void good(const char *line)
{
	if (options(line) != 0)
		fail_msg("%s\n-- refused: %s", line, err.msg);
}

static void bad(const char *line, const char *msg)
{
	int rc = options(line);
	if (rc != NSSM_EARG || err.code != NSSM_EARG || strcmp(err.msg, msg) != 0)
		fail_msg("%s: expected '%s', found %d '%s'", line, msg, rc, err.msg);
}

/* As bad, where the rest of the message is another room's. */
static void bad_begins(const char *line, const char *msg)
{
	int rc = options(line);
	if (rc >= 0 || strncmp(err.msg, msg, strlen(msg)) != 0 || strlen(err.msg) == strlen(msg))
		fail_msg("%s: expected '%s…', found %d '%s'", line, msg, rc, err.msg);
}

#define TO " --port null"

/* --- texts ---------------------------------------------------------------------------------------------------- */

static void mac(void **state)
{
	uint8_t m[6];
	assert_int_equal(nssm_text_mac(m, "02:00:aB:0:0:1", "x", &err), NSSM_EARG);
	assert_int_equal(nssm_text_mac(m, "02:00:aB:cd:EF:01", "x", &err), 0);
	assert_memory_equal(m, "\x02\x00\xab\xcd\xef\x01", 6);
	static const char *const wrong[] = {"", "02", "02:00:00:00:00",
	        "02:00:00:00:00:01:", "02-00-00-00-00-01", "02:00:00:00:00:0g", " 02:00:00:00:00:01",
	        "02:00:00:00:00:01 "};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_int_equal(nssm_text_mac(m, wrong[i], "x", &err), NSSM_EARG);
	assert_string_equal(
	        err.msg, "x: expected a MAC address (02:00:00:00:00:01), found '02:00:00:00:00:01 '");

	uint64_t base, n;
	assert_int_equal(nssm_text_mac_pool(&base, &n, "02:00:00:00:00:ff", "x", &err), 0);
	assert_true(base == 0x0200000000ff && n == 1);
	assert_int_equal(nssm_text_mac_pool(&base, &n, "02:00:00:00:00:01/16777216", "x", &err), 0);
	assert_true(n == 16777216);
	static const char *const no_pool[] = {"02:00:00:00:00:01/0", "02:00:00:00:00:01/16777217",
	        "02:00:00:00:00:01/", "02:00:00:00:00:01/-1", "02:00:00:00:00:01/1x", "01:00:00:00:00:01",
	        "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "02:ff:ff:ff:ff:ff/2"};
	for (size_t i = 0; i < sizeof no_pool / sizeof *no_pool; i++)
		assert_int_equal(nssm_text_mac_pool(&base, &n, no_pool[i], "x", &err), NSSM_EARG);
}

static void port_range(void **state)
{
	uint16_t lo, hi;
	assert_int_equal(nssm_text_port_range(&lo, &hi, "1024-65535", "x", &err), 0);
	assert_true(lo == 1024 && hi == 65535);
	assert_int_equal(nssm_text_port_range(&lo, &hi, "7", "x", &err), 0);
	assert_true(lo == 7 && hi == 7);
	static const char *const wrong[] = {
	        "", "0-5", "5-4", "1-65536", "1-", "-1", "1-2-3", "1 -2", "99999999999999999999999"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_int_equal(nssm_text_port_range(&lo, &hi, wrong[i], "x", &err), NSSM_EARG);
}

static void vlan(void **state)
{
	static const struct {
		const char *item[3];
		uint32_t n;
		struct nssm_vlan_tag tag[2];
	} ok[] = {
	        {{0}, 0, {{0, 0}}},
	        {{"100"}, 1, {{0x8100, 100}}},
	        {{"0"}, 1, {{0x8100, 0}}},
	        {{"4094/7"}, 1, {{0x8100, 0xeffe}}},
	        {{"200,100"}, 2, {{0x88a8, 200}, {0x8100, 100}}},
	        {{"200", "100/3"}, 2, {{0x88a8, 200}, {0x8100, 0x6064}}},
	        {{"0x88a8:200,100"}, 2, {{0x88a8, 200}, {0x8100, 100}}},
	        {{"0x9100:200/1,0x8100:100"}, 2, {{0x9100, 0x20c8}, {0x8100, 100}}},
	        {{"33024:5"}, 1, {{0x8100, 5}}},
	};
	struct nssm_vlan_tag tag[NSSM_VLAN_TAGS_MAX];
	uint32_t n;
	for (size_t i = 0; i < sizeof ok / sizeof *ok; i++) {
		size_t n_items = 0;
		while (ok[i].item[n_items] != NULL)
			n_items++;
		if (nssm_text_vlan(tag, &n, ok[i].item, n_items, "x", &err) != 0)
			fail_msg("%s", err.msg);
		assert_int_equal(n, ok[i].n);
		assert_memory_equal(tag, ok[i].tag, n * sizeof *tag);
	}
	static const char *const wrong[] = {"", "4095", "100/8", "100/", "1,2,3", "1,", ",1", "0x88a8",
	        "0x5ff:1", "0x10000:1", "x", "1 ", "0x88a8:", ":1", "99999999999999999999:1", "0x:1"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		if (nssm_text_vlan(tag, &n, &wrong[i], 1, "x", &err) != NSSM_EARG)
			fail_msg("taken: '%s'", wrong[i]);
	static const char *const three[] = {"1", "2", "3"};
	assert_int_equal(nssm_text_vlan(tag, &n, three, 3, "x", &err), NSSM_EARG);
}

static void cpus(void **state)
{
	uint32_t n;
	static const struct {
		const char *text;
		uint32_t n;
	} ok[] = {{"3", 1}, {"0-3", 4}, {"2,4-6", 4}, {"1023", 1}, {"6,4,5", 3}};
	for (size_t i = 0; i < sizeof ok / sizeof *ok; i++) {
		assert_int_equal(nssm_text_cpus(&n, ok[i].text, "x", &err), 0);
		assert_int_equal(n, ok[i].n);
	}
	static const char *const wrong[] = {
	        "", "1024", "3-2", "1,1", "1-3,2", "1,", "-1", "a", "1;2", "1--2", "0x1"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		if (nssm_text_cpus(&n, wrong[i], "x", &err) != NSSM_EARG)
			fail_msg("taken: '%s'", wrong[i]);
}

static void start_time(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} ok[] = {{"0", 0}, {"1700000000.5", 1700000000500000000}, {"1.000000001", 1000000001},
	        {"1.0000000019", 1000000001}, {"2026-01-01T00:00:00Z", 1767225600000000000},
	        {"4294967295", 4294967295000000000}, {"5.", 5000000000}};
	uint64_t ns;
	for (size_t i = 0; i < sizeof ok / sizeof *ok; i++) {
		if (nssm_text_time(&ns, ok[i].text, "x", &err) != 0)
			fail_msg("%s", err.msg);
		assert_true(ns == ok[i].ns);
	}
	static const char *const wrong[] = {"", "yesterday", "2026-02-31T00:00:00Z", "2026-01-01", "-1",
	        "4294967296", "1.5s", "+1", "2106-02-07T06:28:16Z", "1969-12-31T23:59:59Z",
	        "2026-01-01T00:00:00Z "};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		if (nssm_text_time(&ns, wrong[i], "x", &err) != NSSM_EARG)
			fail_msg("taken: '%s'", wrong[i]);
}

static void mtu(void **state)
{
	static const struct {
		const char *text;
		enum nssm_mtu_mode mode;
		uint32_t bytes;
	} ok[] = {{"truncate", NSSM_MTU_TRUNCATE, 1500}, {"drop", NSSM_MTU_DROP, 1500},
	        {"1400", NSSM_MTU_TRUNCATE, 1400}, {"9000,drop", NSSM_MTU_DROP, 9000},
	        {"68,truncate", NSSM_MTU_TRUNCATE, 68}};
	enum nssm_mtu_mode mode;
	uint32_t bytes;
	for (size_t i = 0; i < sizeof ok / sizeof *ok; i++) {
		bytes = 1500;
		assert_int_equal(nssm_text_mtu(&mode, &bytes, ok[i].text, "x", &err), 0);
		assert_true(mode == ok[i].mode && bytes == ok[i].bytes);
	}
	static const char *const wrong[] = {
	        "", "67", "262145", "1400,", "1400,cut", "1400drop", ",drop", "Drop", "1400,drop,"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		if (nssm_text_mtu(&mode, &bytes, wrong[i], "x", &err) != NSSM_EARG)
			fail_msg("taken: '%s'", wrong[i]);
}

static void of_ports(void **state)
{
	static const struct {
		const char *text;
		int port, version;
		const char *addr;
	} ok[] = {{"10.0.0.1", -1, 4, "\x0a\0\0\1"}, {"0:10.0.0.1", 0, 4, "\x0a\0\0\1"},
	        {"1:10.1.0.1", 1, 4, "\x0a\1\0\1"},
	        {"2001:db8::1", -1, 6, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"},
	        {"1:[2001:db8::1]", 1, 6, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"}};
	uint8_t a[16];
	int port, version;
	for (size_t i = 0; i < sizeof ok / sizeof *ok; i++) {
		if (nssm_text_port_addr(&port, a, &version, ok[i].text, "x", &err) != 0)
			fail_msg("%s", err.msg);
		assert_int_equal(port, ok[i].port);
		assert_int_equal(version, ok[i].version);
		assert_memory_equal(a, ok[i].addr, version == 4 ? 4 : 16);
	}
	static const char *const wrong[] = {"", "2:10.0.0.1", "1:2001:db8::1", "0:", "0:[", "0:[]",
	        "0:[10.0.0.1]", "1:[::1", "[::1]", "10.0.0", "10.0.0.1/24", "1:10.0.0.1 ", "0:0:10.0.0.1",
	        "1:[2001:0db8:0000:0000:0000:0000:0000:00000000000000000000000000000001]"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		if (nssm_text_port_addr(&port, a, &version, wrong[i], "x", &err) != NSSM_EARG)
			fail_msg("taken: '%s'", wrong[i]);
	uint8_t m[6];
	assert_int_equal(nssm_text_port_mac(&port, m, "1:02:00:00:00:00:01", "x", &err), 0);
	assert_int_equal(port, 1);
	assert_memory_equal(m, "\2\0\0\0\0\1", 6);
	assert_int_equal(nssm_text_port_mac(&port, m, "00:01:02:03:04:05", "x", &err), 0);
	assert_int_equal(port, -1);
	assert_int_equal(nssm_text_port_mac(&port, m, "2:02:00:00:00:00:01", "x", &err), NSSM_EARG);
}

/* A message shows what was found, but no terminal obeys it, however long it is. */
static void shown(void **state)
{
	char text[600];
	memset(text, 'a', sizeof text);
	memcpy(text, "\x1b[31m\n", 6);
	text[sizeof text - 1] = '\0';
	uint8_t m[6];
	assert_int_equal(nssm_text_mac(m, text, "x", &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "found '?[31m?aaa"));
	assert_true(strlen(err.msg) < 200);
}

/* --- settings ------------------------------------------------------------------------------------------------- */

static void defaults(void **state)
{
	good("--pcap-out a.pcap");
	assert_string_equal(cfg.pcap_out, "a.pcap");
	assert_null(cfg.live.dev[0]);
	assert_true(cfg.mode == NSSM_PLAY_ONCE && cfg.n_plays == 1 && cfg.phase == NSSM_PHASE_UNIFORM);
	assert_true(cfg.rate.kind == NSSM_RATE_SPEED && cfg.rate.num == cfg.rate.den);
	assert_true(cfg.epoch_ns == 1767225600000000000 && !nssm_play_starts_original(conf));
	assert_true(!cfg.clone.rewrite && cfg.clone.n_tags == 0 && cfg.clone.n_macs[0] == 0);
	assert_true(cfg.clone.port_lo == 1024 && cfg.clone.port_hi == 65535);
	assert_true(cfg.clone.endpoints_max == 0 && cfg.n_engines == 0 && cfg.cpus == NULL);
	assert_true(cfg.live.answer && !cfg.live.measure && cfg.live.measure_wait_ns == 2000000000);
	assert_true(cfg.clone.clients[0].n_addrs == 65534 && cfg.clone.servers[0].n_addrs == 65534);
	uint8_t a[16];
	nssm_pool_addr(a, &cfg.clone.clients[0], 0);
	assert_memory_equal(a, "\xc6\x12\0\1", 4); /* 198.18.0.1 */
	nssm_pool_addr(a, &cfg.clone.servers[1], 0);
	assert_memory_equal(a, "\x20\x01\0\2\0\0\0\1\0\0\0\0\0\0\0\1", 15 - 8);
	assert_true(cfg.client_nets[0].n_nets == 0 && cfg.server_nets[1].n_nets == 0);

	/* What a model makes cannot be counted before. */
	memset(&cfg, 0, sizeof cfg);
	assert_int_equal(nssm_play_options(&cfg, conf, "generate", true, &err), 0);
	assert_true(
	        cfg.clone.endpoints_max == 8 && cfg.clone.sockets_max == 64 && cfg.clone.servers_max == 64);
}

static void outputs(void **state)
{
	good("--port af_packet:eth1 --port null --pcap-out a --pcapng-out b --out-dir c --fifo d "
	     "--pcap-over-ip listen:1 "
	     "--pcap-over-ip connect:h:2 --us --comments --snaplen 96 --truth t --wait-for-reader "
	     "--spill-dir /s --start 5");
	assert_string_equal(cfg.live.dev[0], "af_packet:eth1");
	assert_string_equal(cfg.live.dev[1], "null");
	assert_string_equal(cfg.pcapng_out, "b");
	assert_string_equal(cfg.out_dir, "c");
	assert_string_equal(cfg.fifo, "d");
	assert_int_equal(cfg.n_pcap_over_ip, 2);
	assert_string_equal(cfg.pcap_over_ip[1], "connect:h:2");
	assert_string_equal(cfg.truth, "t");
	assert_string_equal(cfg.spill_dir, "/s");
	assert_true(cfg.us && cfg.comments && cfg.wait_for_reader && cfg.snaplen == 96 &&
	            cfg.epoch_ns == 5000000000);
	good("--port null --port null");

	bad("", "replay: nowhere to put packets: give --port DEV, --pcap-out FILE, --pcapng-out FILE, "
	        "--out-dir DIR, "
	        "--pcap-over-ip WHERE or --fifo PATH");
	bad("--truth t --manifest m",
	        "replay: nowhere to put packets: give --port DEV, --pcap-out FILE, --pcapng-out FILE, "
	        "--out-dir DIR, --pcap-over-ip WHERE or --fifo PATH");
	bad("--port a --port b --port c",
	        "--port: expected one or two ports (client side, server side), found 3");
	bad("--pcap-out a --comments", "--comments: needs --pcapng-out; pcap has no comments");
	bad("--pcap-out a --pcapng-out a", "--pcap-out and --pcapng-out: both go to a");
	bad("--pcap-out - --fifo -", "--pcap-out and --fifo: both go to stdout");
	bad("--pcap-out - --stats-json -", "--pcap-out and --stats-json: both go to stdout");
	bad("--pcap-out a --truth t --manifest t", "--truth and --manifest: both go to t");
	bad("--pcapng-out -",
	        "--pcapng-out: expected a path, found '-'; stdout is for --pcap-out, --fifo or --stats-json");
	bad("--pcap-out a --start x",
	        "--start: expected seconds since 1970 or YYYY-MM-DDTHH:MM:SSZ, before 2106, found 'x'");
}

static void when(void **state)
{
	good("--rate 100kpps --ramp 30s --duration 500ms --limit 1M --max-pps 2M --max-bps 10G --force "
	     "--port-mtu 9000 --line-rate 10G "
	     "--mem 512 --eal=--iova-mode" TO);
	assert_true(cfg.rate.kind == NSSM_RATE_PPS && cfg.rate.num == 100000 * cfg.rate.den);
	assert_true(cfg.ramp_ns == 30000000000 && cfg.duration_ns == 500000000 && cfg.max_packets == 1000000);
	assert_true(cfg.max_pps == 2000000 && cfg.max_bps == 10000000000 && cfg.live.line_bps == 10000000000);
	assert_true(cfg.live.force && cfg.live.port_mtu == 9000 && cfg.live.mem_mb == 512);
	assert_string_equal(cfg.live.eal, "--iova-mode");
	good("--cpus 2,4-6" TO);
	assert_true(cfg.n_engines == 4);
	good("--lcores 3 --cpus 2,4-6" TO);
	assert_true(cfg.n_engines == 3);
	good("--lcores 2" TO);
	assert_true(cfg.n_engines == 2 && cfg.cpus == NULL);
	good("--rate 80%" TO);
	good("--rate 80% --line-rate 1G --pcap-out a");

	bad("--rate 80% --pcap-out a",
	        "--rate: a share of the line rate needs a --port, or --line-rate where there is none");
	bad("--cpus 2,2" TO, "--cpus: expected CPU numbers below 1024, each once (3 or 2,4-6), found '2,2'");
	bad("--lcores 2 --cpus 1" TO, "--cpus: expected a CPU for each of 2 lcores, found 1");
	bad_begins("--rate fast" TO, "--rate");
	bad_begins("--rate 0kpps" TO, "--rate");
}

static void clones(void **state)
{
	good("--clones 50" TO);
	assert_true(cfg.mode == NSSM_PLAY_COUNT && cfg.n_plays == 50 && cfg.clone.rewrite);
	good("--flows-per-second 100.5 --phase locked" TO);
	assert_true(cfg.mode == NSSM_PLAY_RATE && cfg.flows_per_s == 100.5 &&
	            cfg.phase == NSSM_PHASE_LOCKED && cfg.clone.rewrite);
	good("--concurrency 1000 --phase poisson" TO);
	assert_true(
	        cfg.mode == NSSM_PLAY_CONCURRENCY && cfg.n_plays == 1000 && cfg.phase == NSSM_PHASE_POISSON);
	good("--clones 2 --no-rewrite" TO);
	assert_false(cfg.clone.rewrite);
	good("--rewrite" TO);
	assert_true(cfg.clone.rewrite && cfg.mode == NSSM_PLAY_ONCE);

	/* IPv4 and IPv6 in one list; what is not named keeps its default. */
	good("--clients 10.0.0.0/8 --clients 2001:db8::/32 --clients 172.16.0.0/12 --servers "
	     "2001:db8:1::5" TO);
	assert_true(
	        cfg.clone.rewrite && cfg.clone.clients[0].n_nets == 2 && cfg.clone.clients[1].n_nets == 1);
	assert_true(cfg.clone.servers[0].n_addrs == 65534 && cfg.clone.servers[1].n_addrs == 1);
	good("--client-ports 40000-40063" TO);
	assert_true(cfg.clone.rewrite && cfg.clone.port_lo == 40000 && cfg.clone.port_hi == 40063);

	/* One MAC for all is no reason to rewrite, many are. */
	good("--client-mac 02:00:00:00:00:01 --vlan 0x88a8:200,100 --strip-vlan" TO);
	assert_true(
	        !cfg.clone.rewrite && cfg.clone.mac_base[0] == 0x020000000001 && cfg.clone.n_macs[0] == 1);
	assert_true(cfg.clone.n_tags == 2 && cfg.clone.tag[0].tpid == 0x88a8 && cfg.clone.tag[1].tci == 100 &&
	            cfg.clone.strip_tags);
	good("--server-mac 02:00:00:00:00:01/1000 --bank 1G --endpoints-max 4 --sockets-max 5 --servers-max "
	     "6" TO);
	assert_true(cfg.clone.rewrite && cfg.clone.n_macs[1] == 1000 && cfg.arena_bytes == 1000000000);
	assert_true(cfg.clone.endpoints_max == 4 && cfg.clone.sockets_max == 5 && cfg.clone.servers_max == 6);

	bad("--clones 2 --concurrency 3" TO, "replay: expected one of --clones, --flows-per-second and "
	                                     "--concurrency, found more than one");
	bad("--client-mac 02:00:00:00:00:01/5 --no-rewrite" TO,
	        "--client-mac: several MAC addresses need --rewrite, which gives each address its own");
	bad("--vlan 5000" TO, "--vlan: expected [TPID:]VID[/PCP] with VID 0-4094 and PCP 0-7 "
	                      "(0x88a8:200,100), found '5000'");
	bad("--client-ports 9-1" TO, "--client-ports: expected ports LO-HI within 1-65535, found '9-1'");
	bad("--server-mac 01:00:00:00:00:01" TO, "--server-mac: expected MAC addresses of single devices "
	                                         "(02:00:00:00:00:01), found '01:00:00:00:00:01'");
	bad_begins("--clients 10.0.0.0/33" TO, "--clients: ");
	bad_begins("--servers example.org" TO, "--servers: ");
	bad_begins("--client-nets 1.2.3" TO, "--client-nets: ");
}

static void network(void **state)
{
	good("--src-mac 1:02:00:00:00:00:01 --src-mac 02:00:00:00:00:02 --dst-mac ff:ff:ff:ff:ff:ff "
	     "--gateway 0:10.0.0.1 --gateway "
	     "1:10.1.0.1 --gateway 2001:db8::1 --gateway 2001:db8::2 --self 10.0.0.2 --client-nets "
	     "10.0.0.0/8 --measure --signature "
	     "--measure-wait 10ms --no-answer" TO);
	assert_memory_equal(cfg.live.src_mac[0], "\2\0\0\0\0\2", 6);
	assert_memory_equal(cfg.live.src_mac[1], "\2\0\0\0\0\1", 6);
	assert_memory_equal(cfg.live.dst_mac[0], "\xff\xff\xff\xff\xff\xff", 6);
	assert_memory_equal(cfg.live.gateway4[0], "\x0a\0\0\1", 4);
	assert_memory_equal(cfg.live.gateway4[1], "\x0a\1\0\1", 4);
	assert_int_equal(cfg.live.gateway6[0][15], 1);
	assert_int_equal(cfg.live.gateway6[1][15], 2);
	assert_memory_equal(cfg.live.self4[0], "\x0a\0\0\2", 4);
	assert_int_equal(cfg.client_nets[0].n_nets, 1);
	assert_true(cfg.live.measure && cfg.live.signature && cfg.live.measure_wait_ns == 10000000 &&
	            !cfg.live.answer);

	/* No clone gets a router's address. */
	uint64_t number;
	good("--clones 2 --gateway 0:198.18.0.1 --gateway 1:198.19.0.9 --gateway 0:[2001:2:0:1::5]" TO);
	assert_int_equal(cfg.clone.clients[0].n_addrs, 65533);
	assert_int_equal(cfg.clone.servers[0].n_addrs, 65533);
	assert_false(nssm_pool_number(&number, &cfg.clone.clients[0], (const uint8_t[]){198, 18, 0, 1}));
	assert_false(nssm_pool_number(&number, &cfg.clone.servers[0], (const uint8_t[]){198, 19, 0, 9}));
	assert_int_equal(cfg.clone.clients[1].n_nets, 2);
	assert_int_equal(cfg.clone.servers[1].n_nets, 1);

	bad("--gateway 10.0.0.1 --gateway 10.0.0.2 --gateway 10.0.0.3" TO,
	        "--gateway: expected one for each port, found another for port 1: '10.0.0.3'");
	bad("--gateway 0:10.0.0.1 --gateway 0:10.0.0.2" TO,
	        "--gateway: expected one for each port, found another for port 0: '0:10.0.0.2'");
	bad("--gateway 1:2001:db8::1" TO,
	        "--gateway: expected ADDR or PORT:ADDR, PORT being 0 or 1 (10.0.0.1, 0:10.0.0.1, "
	        "1:[2001:db8::1]), found '1:2001:db8::1'");
	bad("--self 0.0.0.0" TO, "--self: expected the address of a device, found '0.0.0.0'");
	bad("--src-mac 01:00:00:00:00:01" TO,
	        "--src-mac: expected the MAC address of a device, found '01:00:00:00:00:01'");
	bad("--dst-mac 00:00:00:00:00:00" TO,
	        "--dst-mac: expected the MAC address of a device, found '00:00:00:00:00:00'");
	bad("--measure --pcap-out a", "--measure: needs a --port where something can come back");
	bad("--signature" TO, "--signature: needs --measure, which looks for it in what comes back");
}

/* A value from a profile is called by the profile's name for it. */
static void from_profile(void **state)
{
	static const char text[] = "output: {port: [a, b, c]}\n",
	                  vlan_text[] = "output: {port: a}\nclone: {vlan: [100, 5000]}\n";
	assert_int_equal(nssm_conf_load_mem(conf, text, strlen(text), "p.yaml", &err), 0);
	assert_int_equal(nssm_play_options(&cfg, conf, "run", false, &err), NSSM_EARG);
	assert_string_equal(
	        err.msg, "output.port: expected one or two ports (client side, server side), found 3");
	assert_int_equal(nssm_conf_load_mem(conf, vlan_text, strlen(vlan_text), "p.yaml", &err), 0);
	assert_int_equal(nssm_play_options(&cfg, conf, "run", false, &err), NSSM_EARG);
	assert_int_equal(strncmp(err.msg, "clone.vlan: expected ", 21), 0);
}

/* "    # key: value" → "    key: value"; other comments stay. */
static void uncomment(char *yaml)
{
	for (char *line = yaml; line != NULL;
	        line = strchr(line, '\n') != NULL ? strchr(line, '\n') + 1 : NULL) {
		size_t n =
		        strncmp(line, "    # ", 6) == 0 ? strspn(line + 6, "abcdefghijklmnopqrstuvwxyz_") : 0;
		if (n > 0 && line[6 + n] == ':')
			memmove(line + 4, line + 6, strlen(line + 6) + 1);
	}
}

/* The profiles that come along make sense, in what is commented out, too. */
static void shipped(void **state)
{
	static const char *const path[] = {"../conf/appliance.yaml", "../conf/replay.yaml"};
	for (int i = 0; i < 4; i++) {
		size_t n;
		char *yaml = scratch_read(path[i / 2], &n);
		assert_non_null(yaml);
		if (i % 2 == 1)
			uncomment(yaml);
		nssm_conf_close(&conf);
		assert_int_equal(nssm_conf_open(&conf, &err), 0);
		memset(&cfg, 0, sizeof cfg);
		if (nssm_conf_load_mem(conf, yaml, strlen(yaml), path[i / 2], &err) != 0 ||
		        nssm_play_options(&cfg, conf, "run", i < 2, &err) != 0)
			fail_msg("%s", err.msg);
		free(yaml);
		if (i == 0)
			assert_true(cfg.mode == NSSM_PLAY_CONCURRENCY && cfg.live.dev[1] != NULL &&
			            cfg.max_pps == 100000);
		if (i == 1)
			assert_true(cfg.clone.n_tags == 1 && cfg.live.gateway4[1][0] == 198);
	}
}

static void endless(void **state)
{
	static const char what[] =
	        "replay: this goes on without end and would fill the disk; give --duration or --limit";
	struct nssm_reader_cfg reader = {0};
	static const struct {
		const char *line;
		uint64_t n_loops;
		bool ok;
	} c[] = {{"--pcap-out a", 1, true}, {"--pcap-out a", 0, false}, {"--pcap-out a --limit 5", 0, true},
	        {"--pcap-out -", 0, true}, {"--pcap-out a --port null", 0, true},
	        {"--out-dir a --concurrency 5", 1, false},
	        {"--pcapng-out a --flows-per-second 5 --duration 1s", 1, true},
	        {"--fifo f --concurrency 5", 1, true}};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		good(c[i].line);
		cfg.reader = &reader;
		cfg.n_loops = c[i].n_loops;
		int rc = nssm_play_check(&cfg, "replay", &err);
		if (c[i].ok)
			assert_int_equal(rc, 0);
		else
			assert_true(rc == NSSM_EARG && strcmp(err.msg, what) == 0);
	}
	struct nssm_generator_cfg gen = {.n_sessions = UINT64_MAX};
	good("--pcap-out a");
	cfg.gen = &gen;
	assert_int_equal(nssm_play_check(&cfg, "replay", &err), NSSM_EARG);
}

/* --- a run ---------------------------------------------------------------------------------------------------- */

static struct nssm_play play;
static char *text; /* of the report */
static size_t text_len;
static struct nssm_reader_cfg reader;

/* Runs with these flags; the report goes to text. */
static int run(const char *line)
{
	good(line);
	assert_int_equal(nssm_play_init(&play, conf, &cmd, false, &err), 0);
	play.cfg.reader = &reader;
	play.cfg.n_loops = 1;
	play.cfg.seed = 7;
	play.source = json_pack("{ss}", "kind", "captures");
	free(text);
	text = NULL;
	play.report = open_memstream(&text, &text_len);
	memset(&err, 0, sizeof err);
	int rc = nssm_play_run(&play, &err);
	fclose(play.report);
	nssm_play_free(&play);
	return rc;
}

static void some_figures(void)
{
	told.stats = (struct nssm_stats){.elapsed_s = 2,
	        .live = true,
	        .n_ports = 1,
	        .port[0].name = "null0",
	        .all = {.made = 10000,
	                .sent = 9990,
	                .sent_bytes = 999000,
	                .dropped[NSSM_DROP_QUEUE] = 7,
	                .dropped[NSSM_DROP_LINK] = 3,
	                .left = 4,
	                .session_packets = 200,
	                .session_flows = 20,
	                .flows_begun = 1000,
	                .opaque_flows = 2,
	                .port_sent[0] = 9990},
	        .src = {.packets = 200, .filtered = 11}};
}

static void expect(const char *what)
{
	if (strstr(text, what) == NULL)
		fail_msg("expected '%s' in\n%s", what, text);
}

static void report(void **state)
{
	some_figures();
	assert_int_equal(run("--pcap-out a.pcap --port null --filter tcp --progress none"), 0);
	assert_true(told.closed);
	expect("web                              2        100          7        10       50.0\n");
	expect("all                              3        200         14        20       66.7\n");
	assert_null(strstr(text, "unused"));
	expect("made 10000 = sent 9990 + dropped 10 (queue_full 7, link_down 3); left 4\n");
	expect("captures: 20 flows, 100 packets/s; clone factor 50\n"
	       "out: 1000 flows, 5.00 k packets/s, 4.16 Mbit/s, in 0:02\n");
	expect("note: 2 flows whose contents");
	expect("port 0, null0: 9990 packets out, 0 in\n");
	assert_null(strstr(text, "back, "));
	assert_null(strstr(text, "late: "));

	told.stats.measuring = true;
	told.stats.back = (struct nssm_measure_counters){.matched = 198, .lost = 2};
	nssm_hist_clear(&told.stats.all.late);
	nssm_hist_add(&told.stats.all.late, 850);
	assert_int_equal(run("--port null --measure --progress none"), 0);
	expect("back, dns: 99 matched, 1 lost (1 %), 0 duplicate, 0 reordered, 0 unmatched\n");
	expect("back, all: 198 matched, 2 lost (1 %)");
	expect(", max 850 ns\n");
}

static json_t *json_file(const char *path)
{
	json_error_t why;
	json_t *j = json_load_file(path, 0, &why);
	if (j == NULL)
		fail_msg("%s: %s", path, why.text);
	return j;
}

static const char *member(const json_t *j, const char *name)
{
	return json_string_value(json_object_get(j, name));
}

static void manifest(void **state)
{
	char line[2 * PATH_MAX];
	const char *m = scratch("m.json"), *s = scratch("s.json");
	some_figures();
	snprintf(line, sizeof line, "--port null --manifest %s --stats-json %s --vlan 5 --progress none", m,
	        s);
	assert_int_equal(run(line), 0);
	json_t *j = json_file(m);
	assert_string_equal(member(j, "ended"), "complete");
	assert_true(json_is_true(json_object_get(j, "complete")));
	assert_string_equal(member(j, "command"), "replay");
	assert_true(strlen(member(j, "dpdk")) > 3);
	assert_int_equal(json_integer_value(json_object_get(j, "seed")), 7);
	assert_string_equal(member(json_object_get(j, "source"), "kind"), "captures");
	const json_t *options = json_object_get(j, "options"), *counts = json_object_get(j, "counts");
	assert_string_equal(
	        json_string_value(json_array_get(json_object_get(options, "clone.vlan"), 0)), "5");
	assert_true(json_is_null(json_object_get(options, "clone.rewrite")));
	assert_null(json_object_get(options, "train.lr"));
	assert_int_equal(json_integer_value(json_object_get(counts, "left")), 4);
	assert_int_equal(
	        json_integer_value(json_object_get(json_object_get(counts, "dropped"), "queue_full")), 7);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "all"), "sessions")), 3);
	assert_int_equal(json_object_size(json_object_get(j, "labels")), 2);
	json_decref(j);
	json_decref(json_file(s));

	/* A failure is told there, too, and stays the run's error. */
	told.run_rc = NSSM_EIO;
	assert_int_equal(run(line), NSSM_EIO);
	assert_string_equal(err.msg, "stopped after 7 packets");
	j = json_file(m);
	assert_string_equal(member(j, "ended"), "failed");
	assert_string_equal(member(j, "why"), "stopped after 7 packets");
	json_decref(j);

	told.run_rc = 0;
	snprintf(line, sizeof line, "--port null --manifest %s/none/m.json --progress none", scratch_dir);
	assert_int_equal(run(line), NSSM_EIO);
	assert_non_null(strstr(err.msg, "none/m.json"));
}

static void signals(void **state)
{
	told.raise_in_run = 1;
	told.run_rc = NSSM_EINTR;
	assert_int_equal(run("--port null --progress none"), NSSM_EINTR);
	assert_true(told.n_drain == 1 && told.n_now == 0);
	assert_int_equal(err.code, NSSM_EINTR);

	/* The second stops at once; after it the signal is the system's again. */
	told.raise_in_run = 2;
	told.n_drain = 0;
	assert_int_equal(run("--port null --progress none"), NSSM_EINTR);
	assert_true(told.n_drain == 1 && told.n_now == 1);
	assert_true(signal(SIGINT, SIG_DFL) == SIG_DFL);

	/* One that came before there was something to stop. */
	told.raise_in_run = 0;
	told.raise_at_open = 1;
	told.n_drain = told.n_now = 0;
	assert_int_equal(run("--port null --progress none"), NSSM_EINTR);
	assert_true(told.n_drain == 1 && told.n_now == 0);

	/* Stopped by someone else (the control socket): an end as good as another. */
	told.raise_at_open = 0;
	assert_int_equal(run("--port null --progress none"), 0);
}

static void cannot_open(void **state)
{
	told.open_rc = NSSM_EIO;
	assert_int_equal(run("--port null --progress none"), NSSM_EIO);
	assert_string_equal(err.msg, "out.pcap: cannot be opened");
	assert_false(told.closed);
	assert_int_equal(text_len, 0);
}

static void watched(void **state)
{
	char line[PATH_MAX];
	snprintf(line, sizeof line, "--port null --progress none --metrics 0 --control %s",
	        scratch("control.sock"));
	assert_int_equal(run(line), 0);
	expect("metrics: http://127.0.0.1:");
	assert_int_not_equal(access(scratch("control.sock"), F_OK), 0);
	/* A path that is no socket is not taken away. */
	scratch_write(scratch("file"), "x", 1);
	snprintf(line, sizeof line, "--port null --progress none --control %s", scratch("file"));
	assert_true(run(line) < 0);
	assert_true(told.closed);
	assert_int_equal(access(scratch("file"), F_OK), 0);
}

static void where_reports_go(void **state)
{
	static const struct {
		const char *line;
		bool to_stderr;
	} c[] = {{"--pcap-out a", false}, {"--pcap-out -", true}, {"--fifo -", true},
	        {"--port null --stats-json -", true}};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		good(c[i].line);
		assert_int_equal(nssm_play_init(&play, conf, &cmd, false, &err), 0);
		assert_ptr_equal(play.report, c[i].to_stderr ? stderr : stdout);
	}
}

static int last(void **state)
{
	free(text);
	return scratch_close(state);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, fresh, done)

int main(void)
{
	const struct CMUnitTest tests[] = {CASE(mac), CASE(port_range), CASE(vlan), CASE(cpus),
	        CASE(start_time), CASE(mtu), CASE(of_ports), CASE(shown), CASE(defaults), CASE(outputs),
	        CASE(when), CASE(clones), CASE(network), CASE(from_profile), CASE(shipped), CASE(endless),
	        CASE(report), CASE(manifest), CASE(signals), CASE(cannot_open), CASE(watched),
	        CASE(where_reports_go)};
	return cmocka_run_group_tests(tests, scratch_open, last);
}
