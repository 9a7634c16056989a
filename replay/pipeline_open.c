#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/measure.h"
#include "replay/pipeline_priv.h"

#define ARENA_BYTES    (256u << 20)
#define PLAYS_MAX      65536u
#define PLAYS_MOST     (1u << 20)
#define FLOWS_MAX      (1u << 18)
#define OWN_MAX        (1u << 18)
#define ETH_LEN        14u
#define VLAN_LEN       4u
#define FRAME_LEN_MAX  9728u /* jumbo frames of all common devices */

uint64_t pipeline_clock(void *ctx)
{
	return nssm_now_ns();
}

/* --- sinks --- */

/* What grows in place begins empty: a capture that is still to be read would be lost. */
static int not_a_capture(const struct nssm_pipeline *p, const char *path, struct nssm_err *err)
{
	const struct nssm_reader_cfg *r = p->cfg.reader;
	struct stat out, in;
	if (!p->live || r == NULL || path == NULL || stat(path, &out) != 0 || !S_ISREG(out.st_mode))
		return 0;
	for (uint32_t i = 0; i < r->n_paths; i++)
		if (stat(r->path[i], &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
			return nssm_err_set(err, NSSM_EARG, "%s: is one of the captures that are replayed (%.200s); expected another name",
				path, r->path[i]);
	return 0;
}

/* Files first in their order, for the first one decides what was sent; opened last, for opening empties them. */
static int open_sinks(struct nssm_pipeline *p, const struct nssm_sink_cfg *s, struct nssm_err *err)
{
	const struct nssm_pipeline_cfg *c = &p->cfg;
	uint32_t n = (c->pcap_out != NULL) + (c->pcapng_out != NULL);
	int rc = 0;
	if (c->fifo != NULL)
		rc = nssm_sink_fifo(&p->sink[n++], c->fifo, s, err);
	for (size_t i = 0; rc == 0 && i < c->n_pcap_over_ip; i++)
		rc = nssm_sink_pcap_over_ip(&p->sink[n++], c->pcap_over_ip[i], s, err);
	if (rc == 0 && c->pcap_out != NULL)
		rc = nssm_sink_pcap(&p->sink[0], c->pcap_out, s, err);
	if (rc == 0 && c->pcapng_out != NULL)
		rc = nssm_sink_pcapng(&p->sink[c->pcap_out != NULL], c->pcapng_out, s, err);
	p->n_sinks = n;
	return rc;
}

int pipeline_open_outputs(struct nssm_pipeline *p, struct nssm_err *err)
{
	const struct nssm_pipeline_cfg *c = &p->cfg;
	const struct nssm_sink_cfg s = {.label = p->label,
		.n_labels = p->n_labels,
		.us = c->us,
		.snaplen = c->snaplen,
		.in_place = p->live,
		.comments = c->comments,
		.wait_for_reader = c->wait_for_reader};
	const struct nssm_folder_cfg f = {.path = c->out_dir,
		.label = p->label,
		.n_labels = p->n_labels,
		.seed = c->seed,
		.epoch_ns = c->epoch_ns,
		.us = c->us,
		.snaplen = c->snaplen};
	int rc = 0;
	if (3 + c->n_pcap_over_ip > SINKS_MAX)
		return nssm_err_set(err, NSSM_EARG, "--pcap-over-ip: at most %d, found %zu", SINKS_MAX - 3, c->n_pcap_over_ip);
	if ((rc = not_a_capture(p, c->pcap_out, err)) || (rc = not_a_capture(p, c->pcapng_out, err)) ||
		(rc = not_a_capture(p, c->truth, err)))
		return rc;
	if (c->out_dir != NULL)
		rc = nssm_folder_open(&p->folder, &f, err);
	if (rc == 0)
		rc = open_sinks(p, &s, err);
	if (rc == 0 && c->truth != NULL)
		rc = nssm_truth_open(&p->truth, c->truth, p->label, p->n_labels, p->live, err);
	return rc;
}

/* --- ports --- */

static bool is_zero(const uint8_t *b, size_t n)
{
	while (n > 0 && *b == 0) {
		b++;
		n--;
	}
	return n == 0;
}

/* Some devices have none (ring). */
static void port_mac(uint8_t mac[6], const struct nssm_pipeline *p, uint32_t port)
{
	const uint8_t own[6] = {0x02, 'n', 's', 's', 'm', (uint8_t)port};
	const uint8_t *wanted = p->cfg.live.src_mac[port], *device = nssm_port_info(p->port[port])->mac;
	memcpy(mac, !is_zero(wanted, 6) ? wanted : !is_zero(device, 6) ? device : own, 6);
}

static uint64_t mac_number(const uint8_t mac[6])
{
	uint64_t v = 0;
	for (int i = 0; i < 6; i++)
		v = v << 8 | mac[i];
	return v;
}

/* Behind a gateway, or if the user says so, frames carry the port's MAC as their source and the next hop's as destination; else
 * they keep those of the capture, or the clones'. */
static void set_macs(struct nssm_pipeline *p)
{
	const struct nssm_live_cfg *l = &p->cfg.live;
	for (uint32_t side = 0; side < 2; side++) {
		uint32_t port = side < p->n_ports ? side : p->n_ports - 1;
		bool routed = !is_zero(l->gateway4[port], 4) || !is_zero(l->gateway6[port], 16) || !is_zero(l->dst_mac[port], 6);
		uint8_t mac[6];
		port_mac(mac, p, port);
		if (routed || !is_zero(l->src_mac[port], 6)) {
			p->cfg.clone.mac_base[side] = mac_number(mac);
			p->cfg.clone.n_macs[side] = 1;
		}
		if (!is_zero(l->dst_mac[port], 6))
			memcpy(p->cfg.clone.next_hop[side], l->dst_mac[port], 6);
	}
}

static int open_neigh(struct nssm_pipeline *p, uint32_t i, struct nssm_err *err)
{
	const struct nssm_live_cfg *l = &p->cfg.live;
	const struct nssm_clone_cfg *c = &p->cfg.clone;
	struct nssm_neigh_cfg n = {.own_max = OWN_MAX};
	bool gateway = !is_zero(l->gateway4[i], 4) || !is_zero(l->gateway6[i], 16);
	if (!l->answer && !gateway)
		return 0;
	port_mac(n.src_mac, p, i);
	for (int v = 0; c->rewrite && l->answer && v < 2; v++) {
		if (i == 0 && c->clients[v].n_addrs > 0)
			n.pool[n.n_pools++] = &c->clients[v];
		if ((i == 1 || p->n_ports == 1) && c->servers[v].n_addrs > 0)
			n.pool[n.n_pools++] = &c->servers[v];
	}
	memcpy(n.self4, l->self4[i], 4);
	memcpy(n.self6, l->self6[i], 16);
	memcpy(n.gateway4, l->gateway4[i], 4);
	memcpy(n.gateway6, l->gateway6[i], 16);
	n.n_vlan = c->n_tags;
	for (uint32_t t = 0; t < c->n_tags; t++)
		n.vlan[t] = c->tag[t].tci;
	return nssm_neigh_open(&p->neigh[i], &n, err);
}

uint32_t pipeline_n_ports(const struct nssm_live_cfg *l)
{
	return (l->dev[0] != NULL) + (l->dev[1] != NULL);
}

static int start_ports(struct nssm_dev *dev, const struct nssm_live_cfg *l, struct nssm_err *err)
{
	uint32_t n = pipeline_n_ports(l);
	for (uint32_t i = 0; i < n; i++) {
		int rc = nssm_dev_parse(&dev[i], l->dev[i], (int)i, err);
		if (rc == 0 && !l->force)
			rc = nssm_dev_guard(&dev[i], "/proc", getenv("SSH_CONNECTION"), err);
		if (rc != 0)
			return rc;
	}
	const struct nssm_eal_cfg eal = {.dev = dev, .n_dev = (int)n, .mem_mb = l->mem_mb, .extra = l->eal, .telemetry = true};
	return nssm_eal_start(&eal, err);
}

int nssm_pipeline_prepare(const struct nssm_pipeline_cfg *cfg, struct nssm_err *err)
{
	struct nssm_dev dev[NSSM_PORTS_MAX];
	int rc = pipeline_check(cfg, err);
	return rc != 0 || cfg->live.dev[0] == NULL ? rc : start_ports(dev, &cfg->live, err);
}

int pipeline_open_ports(struct nssm_pipeline *p, struct nssm_err *err)
{
	const struct nssm_live_cfg *l = &p->cfg.live;
	int rc = start_ports(p->dev, l, err);
	uint32_t mtu = 0;
	p->send_on_time = true;
	uint64_t line = l->line_bps;
	for (uint32_t i = 0; rc == 0 && i < p->n_ports; i++) {
		const struct nssm_port_cfg c = {.n_queues = p->n_engines, .mtu = l->port_mtu, .promiscuous = true, .timestamps = true};
		rc = nssm_port_open(&p->port[i], &p->dev[i], &c, err);
		if (rc != 0)
			break;
		const struct nssm_port_info *info = nssm_port_info(p->port[i]);
		p->send_on_time &= info->send_on_time;
		p->mtu[i] = info->mtu;
		mtu = info->mtu > mtu ? info->mtu : mtu;
		if (l->line_bps == 0 && (line == 0 || (info->line_bps > 0 && info->line_bps < line)))
			line = info->line_bps;
		rc = open_neigh(p, i, err);
	}
	if (rc != 0)
		return rc;
	p->line_bps = line;
	if (line == 0 && p->cfg.rate.kind == NSSM_RATE_PERCENT)
		return nssm_err_set(err, NSSM_EARG, "rate: port %s does not say its line rate: give --line-rate", nssm_port_info(p->port[0])->name);
	p->frame_max = mtu + ETH_LEN + NSSM_VLAN_TAGS_MAX * VLAN_LEN;
	p->frame_max = p->frame_max < FRAME_LEN_MAX ? p->frame_max : FRAME_LEN_MAX;
	set_macs(p);
	for (uint32_t e = 0; rc == 0 && e < p->n_engines; e++)
		rc = nssm_frames_open(&p->frames[e], p->cfg.card != NULL ? POOL_FIRST : POOL_FRAMES, p->frame_max + 128, err);
	if (rc == 0 && l->measure) {
		const struct nssm_measure_cfg m = {.n_labels = p->n_labels, .signature = l->signature};
		rc = nssm_measure_open(&p->measure, &m, err);
	}
	return rc;
}

/* --- engines --- */

/* "2,4-6": the CPUs in order; every one must be among those that the process may use. */
static int parse_cpus(int *cpu, uint32_t n, const char *text, const cpu_set_t *may, struct nssm_err *err)
{
	uint32_t found = 0;
	const char *s = text;
	while (*s != '\0') {
		char *end;
		long lo = strtol(s, &end, 10), hi = lo;
		bool ok = end != s && lo >= 0;
		if (ok && *end == '-') {
			s = end + 1;
			hi = strtol(s, &end, 10);
			ok = end != s && hi >= lo;
		}
		if (!ok || (*end != ',' && *end != '\0') || hi >= CPU_SETSIZE)
			return nssm_err_set(err, NSSM_EARG, "--cpus: expected a list such as 1 or 2,4-6, found '%.60s'", text);
		for (long c = lo; c <= hi; c++) {
			if (!CPU_ISSET(c, may))
				return nssm_err_set(err, NSSM_EARG, "--cpus %.60s: this process may not use CPU %ld", text, c);
			if (found < n)
				cpu[found] = (int)c;
			found++;
		}
		s = *end == ',' ? end + 1 : end;
	}
	if (found != n)
		return nssm_err_set(err, NSSM_EARG, "--cpus %.60s: expected one CPU for each of %u lcores, found %u", text, n, found);
	return 0;
}

/* Engines that spin get the last CPUs, one each; the rest of the threads stay off them if there is a rest. */
static int choose_cpus(struct nssm_pipeline *p, struct nssm_err *err)
{
	int cpu[ENGINES_MAX];
	for (uint32_t e = 0; e < p->n_engines; e++)
		cpu[e] = -1;
	sched_getaffinity(0, sizeof p->cpus_before, &p->cpus_before);
	p->cpus_rest = p->cpus_before;
	if (p->cfg.cpus != NULL) {
		int rc = parse_cpus(cpu, p->n_engines, p->cfg.cpus, &p->cpus_before, err);
		if (rc != 0)
			return rc;
	} else if (p->spins && (uint32_t)CPU_COUNT(&p->cpus_before) > p->n_engines) {
		uint32_t e = p->n_engines;
		for (int c = CPU_SETSIZE - 1; e > 0 && c >= 0; c--)
			if (CPU_ISSET(c, &p->cpus_before))
				cpu[--e] = c;
	}
	for (uint32_t e = 0; e < p->n_engines; e++) {
		p->out[e].cpu = cpu[e];
		if (cpu[e] >= 0)
			CPU_CLR(cpu[e], &p->cpus_rest);
	}
	if (CPU_COUNT(&p->cpus_rest) == 0)
		p->cpus_rest = p->cpus_before;
	return 0;
}

static int open_rings(struct nssm_pipeline *p, struct nssm_err *err)
{
	size_t n = (size_t)p->n_engines * BLOCKS;
	p->blocks = aligned_alloc(64, n * sizeof *p->blocks);
	if (p->blocks == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for %zu blocks", n);
	for (uint32_t e = 0; e < p->n_engines; e++) {
		int rc = nssm_ring_open(&p->out[e].in, BLOCKS, err);
		if (rc == 0)
			rc = nssm_ring_open(&p->out[e].back, BLOCKS, err);
		if (rc != 0)
			return rc;
		for (uint32_t i = 0; i < BLOCKS; i++)
			nssm_ring_put(p->out[e].back, &p->blocks[e * BLOCKS + i]);
	}
	return 0;
}

static int open_credits(struct nssm_pipeline *p, struct nssm_err *err)
{
	if (!p->live || p->cfg.card == NULL)
		return 0;
	p->n_credits = 2 * ((uint32_t)p->cfg.gen->n_lanes + (uint32_t)p->cfg.gen->n_parked_max) + 1;
	size_t n = (size_t)p->n_engines * p->n_credits;
	p->credit = calloc(n, sizeof *p->credit);
	p->run.credit = calloc(n, sizeof *p->run.credit);
	p->run.tight = calloc(p->n_engines, sizeof *p->run.tight);
	if (p->credit == NULL || p->run.credit == NULL || p->run.tight == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for %zu open sessions", n);
	return 0;
}

/* Spilled packets lie where the output does: there must be room for them anyway. */
static const char *spill_dir(struct nssm_pipeline *p)
{
	const struct nssm_pipeline_cfg *c = &p->cfg;
	if (p->live)
		return NULL;
	if (c->spill_dir != NULL)
		return c->spill_dir;
	if (c->out_dir != NULL)
		return c->out_dir;
	const char *out = c->pcap_out != NULL ? c->pcap_out : c->pcapng_out, *tmp = getenv("TMPDIR");
	struct stat st;
	/* Beside stdout and devices there is no room. */
	if (out == NULL || strcmp(out, "-") == 0 || (stat(out, &st) == 0 && !S_ISREG(st.st_mode)))
		return tmp != NULL ? tmp : "/tmp";
	snprintf(p->spill, sizeof p->spill, "%s", out);
	char *slash = strrchr(p->spill, '/');
	if (slash == NULL)
		return ".";
	slash[slash == p->spill] = '\0';
	return p->spill;
}

/* A model's clones may have half of them (engine_play.c). In virtual time a model's sessions may all be open at once: one that is long
 * holds the time while those behind it are made. */
static uint32_t plays_max(const struct nssm_pipeline *p)
{
	const struct nssm_pipeline_cfg *c = &p->cfg;
	uint64_t n = c->plays_max, half = c->card != NULL ? 2 : 1, want = 0;
	if (n == 0)
		n = p->live ? PLAYS_MAX : 4 * PLAYS_MAX;
	if (c->plays_max == 0 && c->mode == NSSM_PLAY_CONCURRENCY)
		want = c->n_plays / p->n_engines + 1;
	if (c->plays_max == 0 && c->card != NULL && !p->live && c->gen->n_sessions != UINT64_MAX && c->gen->n_sessions > want)
		want = c->gen->n_sessions;
	want = want < PLAYS_MOST ? half * want : PLAYS_MOST;
	n = n > want ? n : want;
	return (uint32_t)(n < PLAYS_MOST ? n : PLAYS_MOST);
}

int pipeline_open_engines(struct nssm_pipeline *p, struct nssm_err *err)
{
	const struct nssm_pipeline_cfg *c = &p->cfg;
	bool model = c->card != NULL;
	int rc = choose_cpus(p, err);
	if (rc == 0)
		rc = open_rings(p, err);
	if (rc == 0)
		rc = open_credits(p, err);
	if (rc == 0)
		rc = nssm_cloner_open(&p->cloner, &p->cfg.clone, err);
	for (uint32_t e = 0; rc == 0 && e < p->n_engines; e++) {
		struct nssm_engine_cfg ec = {.idx = e,
			.n_engines = p->n_engines,
			.pipe = c,
			.run = &p->run,
			.clock = p->live ? pipeline_clock : NULL,
			.keep = p->keep,
			.sched = {.line_bps = p->line_bps,
				.share_num = 1,
				.share_den = p->n_engines,
				.max_pps = c->max_pps,
				.max_bps = c->max_bps,
				.ramp_ns = c->ramp_ns},
			.cloner = p->cloner,
			.arena = {.bytes = c->arena_bytes > 0 ? c->arena_bytes : ARENA_BYTES, .spill_dir = spill_dir(p), .lazy = !p->live || model},
			.plays_max = plays_max(p),
			.tapes_max = 4 * PLAYS_MAX,
			.flows_max = FLOWS_MAX,
			.n_decodes = model ? (uint32_t)c->gen->n_lanes + (uint32_t)c->gen->n_parked_max : 0,
			.n_labels = p->n_labels,
			.n_credits = p->n_engines * p->n_credits,
			.frame_max = p->frame_max,
			.mtu = {p->mtu[0], p->mtu[1]},
			.in = p->out[e].in,
			.back = p->out[e].back,
			.sink = p->sink,
			.n_sinks = p->n_sinks,
			.port = p->port,
			.n_ports = p->n_ports,
			.queue = e,
			.send_on_time = p->n_ports > 0 && p->send_on_time,
			.frames = p->frames[e],
			.neigh = e == 0 && p->n_ports > 0 ? p->neigh : NULL,
			.truth = p->truth,
			.folder = p->folder,
			.measure = p->measure};
		rc = nssm_engine_open(&p->out[e].engine, &ec, err);
	}
	return rc;
}
