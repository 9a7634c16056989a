#include "app/play_options.h"

#include <math.h>
#include <string.h>

#include "app/play_text.h"

#define DEFAULT_START "2026-01-01T00:00:00Z"

/* Networks set aside for measuring devices: RFC 2544 C.2.2 and RFC 5180 8. */
static const char *const client_pool[2] = {"198.18.0.0/16", "2001:2:0:1::/64"};
static const char *const server_pool[2] = {"198.19.0.0/16", "2001:2:0:2::/64"};

struct job {
	struct nssm_pipeline_cfg *cfg;
	const struct nssm_conf *conf;
	const char *cmd;
	struct nssm_err *err;
};

static const char *said(char buf[NSSM_FLAG_BYTES], const struct job *j, enum nssm_key_id id)
{
	return nssm_conf_said(buf, j->conf, id);
}

static int wrong(const struct job *j, enum nssm_key_id id, const char *what)
{
	char key[NSSM_FLAG_BYTES];
	return nssm_err_set(j->err, NSSM_EARG, "%s: %s", said(key, j, id), what);
}

static uint64_t u64(const struct job *j, enum nssm_key_id id)
{
	return (uint64_t)nssm_conf_int(j->conf, id);
}

static uint32_t u32(const struct job *j, enum nssm_key_id id)
{
	return (uint32_t)nssm_conf_int(j->conf, id);
}

uint64_t nssm_play_ns(double seconds)
{
	return (uint64_t)llround(seconds * 1e9);
}

static uint64_t time_ns(const struct job *j, enum nssm_key_id id)
{
	return nssm_play_ns(nssm_conf_float(j->conf, id));
}

/* --- where to ------------------------------------------------------------------------------------------------- */

static bool is_stdout(const char *path)
{
	return path != NULL && strcmp(path, "-") == 0;
}

bool nssm_play_takes_stdout(const struct nssm_conf *conf)
{
	return is_stdout(nssm_conf_str(conf, NSSM_K_PCAP_OUT)) ||
	       is_stdout(nssm_conf_str(conf, NSSM_K_FIFO)) ||
	       is_stdout(nssm_conf_str(conf, NSSM_K_STATS_JSON));
}

bool nssm_play_starts_original(const struct nssm_conf *conf)
{
	const char *start = nssm_conf_str(conf, NSSM_K_START_TIME);
	return start != NULL && strcmp(start, "original") == 0;
}

/* No two outputs may have one name; stdout is one, too. */
static int check_paths(const struct job *j)
{
	static const enum nssm_key_id id[] = {NSSM_K_PCAP_OUT, NSSM_K_PCAPNG_OUT, NSSM_K_OUT_DIR, NSSM_K_FIFO,
	        NSSM_K_TRUTH, NSSM_K_MANIFEST, NSSM_K_STATS_JSON};
	static const size_t n = sizeof id / sizeof *id;
	char a[NSSM_FLAG_BYTES], b[NSSM_FLAG_BYTES];
	for (size_t i = 0; i < n; i++) {
		const char *path = nssm_conf_str(j->conf, id[i]);
		bool may_be_stdout =
		        id[i] == NSSM_K_PCAP_OUT || id[i] == NSSM_K_FIFO || id[i] == NSSM_K_STATS_JSON;
		if (is_stdout(path) && !may_be_stdout)
			return wrong(j, id[i],
			        "expected a path, found '-'; stdout is for --pcap-out, --fifo or "
			        "--stats-json");
		for (size_t k = 0; path != NULL && k < i; k++) {
			const char *other = nssm_conf_str(j->conf, id[k]);
			if (other != NULL && strcmp(path, other) == 0)
				return nssm_err_set(j->err, NSSM_EARG, "%s and %s: both go to %.100s",
				        said(a, j, id[k]), said(b, j, id[i]),
				        is_stdout(path) ? "stdout" : path);
		}
	}
	return 0;
}

static int outputs(const struct job *j)
{
	struct nssm_pipeline_cfg *c = j->cfg;
	char key[NSSM_FLAG_BYTES];
	const char *const *dev;
	size_t n_dev = nssm_conf_list(j->conf, NSSM_K_PORT, &dev);
	if (n_dev > NSSM_PORTS_MAX)
		return nssm_err_set(j->err, NSSM_EARG,
		        "%s: expected one or two ports (client side, server side), found %zu",
		        said(key, j, NSSM_K_PORT), n_dev);
	for (size_t i = 0; i < n_dev; i++)
		c->live.dev[i] = dev[i];
	c->pcap_out = nssm_conf_str(j->conf, NSSM_K_PCAP_OUT);
	c->pcapng_out = nssm_conf_str(j->conf, NSSM_K_PCAPNG_OUT);
	c->out_dir = nssm_conf_str(j->conf, NSSM_K_OUT_DIR);
	c->fifo = nssm_conf_str(j->conf, NSSM_K_FIFO);
	c->n_pcap_over_ip = nssm_conf_list(j->conf, NSSM_K_PCAP_OVER_IP, &c->pcap_over_ip);
	c->us = nssm_conf_bool(j->conf, NSSM_K_PCAP_US);
	c->comments = nssm_conf_bool(j->conf, NSSM_K_COMMENTS);
	c->wait_for_reader = nssm_conf_bool(j->conf, NSSM_K_WAIT_FOR_READER);
	c->snaplen = u32(j, NSSM_K_SNAPLEN);
	c->truth = nssm_conf_str(j->conf, NSSM_K_TRUTH);
	c->spill_dir = nssm_conf_str(j->conf, NSSM_K_SPILL_DIR);
	if (n_dev == 0 && c->pcap_out == NULL && c->pcapng_out == NULL && c->out_dir == NULL &&
	        c->fifo == NULL && c->n_pcap_over_ip == 0)
		return nssm_err_set(j->err, NSSM_EARG,
		        "%s: nowhere to put packets: give --port DEV, --pcap-out FILE, --pcapng-out FILE, "
		        "--out-dir DIR, "
		        "--pcap-over-ip WHERE or --fifo PATH",
		        j->cmd);
	if (c->comments && c->pcapng_out == NULL)
		return wrong(j, NSSM_K_COMMENTS, "needs --pcapng-out; pcap has no comments");
	const char *start = nssm_conf_str(j->conf, NSSM_K_START_TIME);
	int rc = nssm_play_starts_original(j->conf)
	                 ? 0
	                 : nssm_text_time(&c->epoch_ns, start != NULL ? start : DEFAULT_START,
	                           said(key, j, NSSM_K_START_TIME), j->err);
	return rc != 0 ? rc : check_paths(j);
}

/* --- when, and on which machine ------------------------------------------------------------------------------- */

static int live(const struct job *j)
{
	struct nssm_pipeline_cfg *c = j->cfg;
	char key[NSSM_FLAG_BYTES];
	int rc = nssm_rate_parse(
	        &c->rate, nssm_conf_str(j->conf, NSSM_K_RATE), said(key, j, NSSM_K_RATE), j->err);
	if (rc != 0)
		return rc;
	c->ramp_ns = time_ns(j, NSSM_K_RAMP);
	c->duration_ns = time_ns(j, NSSM_K_DURATION);
	c->max_packets = u64(j, NSSM_K_LIMIT);
	c->max_pps = u64(j, NSSM_K_MAX_PPS);
	c->max_bps = u64(j, NSSM_K_MAX_BPS);
	c->lead_packets = u64(j, NSSM_K_LEAD);
	c->cpus = nssm_conf_str(j->conf, NSSM_K_CPUS);
	c->n_engines = u32(j, NSSM_K_LCORES);
	c->live.eal = nssm_conf_str(j->conf, NSSM_K_EAL);
	c->live.mem_mb = u32(j, NSSM_K_MEM);
	c->live.force = nssm_conf_bool(j->conf, NSSM_K_FORCE);
	c->live.port_mtu = u32(j, NSSM_K_PORT_MTU);
	c->live.line_bps = u64(j, NSSM_K_LINE_RATE);
	if (c->rate.kind == NSSM_RATE_PERCENT && c->live.dev[0] == NULL && c->live.line_bps == 0)
		return wrong(j, NSSM_K_RATE,
		        "a share of the line rate needs a --port, or --line-rate where there is none");
	if (c->cpus == NULL)
		return 0;
	uint32_t n_cpus;
	rc = nssm_text_cpus(&n_cpus, c->cpus, said(key, j, NSSM_K_CPUS), j->err);
	if (rc != 0)
		return rc;
	if (c->n_engines > n_cpus)
		return nssm_err_set(j->err, NSSM_EARG, "%s: expected a CPU for each of %u lcores, found %u",
		        said(key, j, NSSM_K_CPUS), c->n_engines, n_cpus);
	if (c->n_engines == 0)
		c->n_engines = n_cpus;
	return 0;
}

/* --- clones --------------------------------------------------------------------------------------------------- */

static int one_net(const struct job *j, struct nssm_pool pool[2], const char *text, const char *where)
{
	struct nssm_err why = {0};
	int rc = nssm_pool_add(&pool[strchr(text, ':') != NULL], text, &why);
	return rc != 0 ? nssm_err_set(j->err, rc, "%s: %.400s", where, why.msg) : 0;
}

/* pool: IPv4, IPv6. An IP version that the list does not name gets its default, if there is one. */
static int nets(const struct job *j, struct nssm_pool pool[2], enum nssm_key_id id, const char *const def[2])
{
	char key[NSSM_FLAG_BYTES];
	const char *const *item;
	size_t n = nssm_conf_list(j->conf, id, &item);
	int rc = 0;
	said(key, j, id);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = one_net(j, pool, item[i], key);
	for (int v = 0; v < 2 && rc == 0 && def != NULL; v++)
		if (pool[v].n_nets == 0)
			rc = one_net(j, pool, def[v], key);
	return rc;
}

static int how_often(const struct job *j)
{
	struct nssm_pipeline_cfg *c = j->cfg;
	uint64_t clones = u64(j, NSSM_K_CLONES), alive = u64(j, NSSM_K_CONCURRENCY);
	c->flows_per_s = nssm_conf_float(j->conf, NSSM_K_FLOWS_PER_SECOND);
	if ((clones > 1) + (alive > 0) + (c->flows_per_s > 0) > 1)
		return nssm_err_set(j->err, NSSM_EARG,
		        "%s: expected one of --clones, --flows-per-second and --concurrency, found more than "
		        "one",
		        j->cmd);
	c->mode = c->flows_per_s > 0 ? NSSM_PLAY_RATE
	          : alive > 0        ? NSSM_PLAY_CONCURRENCY
	          : clones > 1       ? NSSM_PLAY_COUNT
	                             : NSSM_PLAY_ONCE;
	c->n_plays = alive > 0 ? alive : clones;
	const char *phase = nssm_conf_str(j->conf, NSSM_K_PHASE);
	c->phase = strcmp(phase, "locked") == 0    ? NSSM_PHASE_LOCKED
	           : strcmp(phase, "poisson") == 0 ? NSSM_PHASE_POISSON
	                                           : NSSM_PHASE_UNIFORM;
	return 0;
}

static int macs(const struct job *j)
{
	static const enum nssm_key_id id[2] = {NSSM_K_CLIENT_MAC, NSSM_K_SERVER_MAC};
	struct nssm_clone_cfg *k = &j->cfg->clone;
	for (int side = 0; side < 2; side++) {
		char key[NSSM_FLAG_BYTES];
		const char *text = nssm_conf_str(j->conf, id[side]);
		if (text == NULL)
			continue;
		int rc = nssm_text_mac_pool(
		        &k->mac_base[side], &k->n_macs[side], text, said(key, j, id[side]), j->err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int clones(const struct job *j, bool model)
{
	struct nssm_pipeline_cfg *c = j->cfg;
	struct nssm_clone_cfg *k = &c->clone;
	char key[NSSM_FLAG_BYTES];
	const char *const *tag;
	int rc = how_often(j);
	if (rc == 0)
		rc = macs(j);
	size_t n_tags = nssm_conf_list(j->conf, NSSM_K_VLAN, &tag);
	if (rc == 0)
		rc = nssm_text_vlan(k->tag, &k->n_tags, tag, n_tags, said(key, j, NSSM_K_VLAN), j->err);
	if (rc == 0)
		rc = nssm_text_port_range(&k->port_lo, &k->port_hi,
		        nssm_conf_str(j->conf, NSSM_K_CLIENT_PORTS), said(key, j, NSSM_K_CLIENT_PORTS),
		        j->err);
	if (rc != 0)
		return rc;
	bool many_macs = k->n_macs[0] > 1 || k->n_macs[1] > 1;
	k->rewrite = c->mode != NSSM_PLAY_ONCE || many_macs || nssm_conf_is_set(j->conf, NSSM_K_CLIENTS) ||
	             nssm_conf_is_set(j->conf, NSSM_K_SERVERS) ||
	             nssm_conf_is_set(j->conf, NSSM_K_CLIENT_PORTS);
	if (nssm_conf_is_set(j->conf, NSSM_K_REWRITE))
		k->rewrite = nssm_conf_bool(j->conf, NSSM_K_REWRITE);
	if (!k->rewrite && many_macs)
		return wrong(j, k->n_macs[0] > 1 ? NSSM_K_CLIENT_MAC : NSSM_K_SERVER_MAC,
		        "several MAC addresses need --rewrite, which gives each address its own");
	k->strip_tags = nssm_conf_bool(j->conf, NSSM_K_STRIP_VLAN);
	k->endpoints_max = u32(j, NSSM_K_ENDPOINTS_MAX);
	k->sockets_max = u32(j, NSSM_K_SOCKETS_MAX);
	k->servers_max = u32(j, NSSM_K_SERVERS_MAX);
	if (model) { /* what it will make is not known before */
		k->endpoints_max = k->endpoints_max != 0 ? k->endpoints_max : 8;
		k->sockets_max = k->sockets_max != 0 ? k->sockets_max : 64;
		k->servers_max = k->servers_max != 0 ? k->servers_max : 64;
	}
	c->arena_bytes = (size_t)u64(j, NSSM_K_BANK);
	/* What is misspelt is said even where it is not used. */
	rc = nets(j, k->clients, NSSM_K_CLIENTS, client_pool);
	return rc != 0 ? rc : nets(j, k->servers, NSSM_K_SERVERS, server_pool);
}

/* --- the network around the ports ----------------------------------------------------------------------------- */

/* Which of the two places an item is for: the one it names, or else the first that is free. */
static int place(const struct job *j, int port, bool taken[NSSM_PORTS_MAX], enum nssm_key_id id,
        const char *text, int *out)
{
	char key[NSSM_FLAG_BYTES];
	if (port < 0)
		port = taken[0] ? 1 : 0;
	if (taken[port])
		return nssm_err_set(j->err, NSSM_EARG,
		        "%s: expected one for each port, found another for port %d: '%.60s'",
		        said(key, j, id), port, text);
	taken[port] = true;
	*out = port;
	return 0;
}

static int port_macs(const struct job *j, uint8_t mac[NSSM_PORTS_MAX][6], enum nssm_key_id id)
{
	bool taken[NSSM_PORTS_MAX] = {false};
	char key[NSSM_FLAG_BYTES];
	const char *const *item;
	size_t n = nssm_conf_list(j->conf, id, &item);
	int rc = 0;
	for (size_t i = 0; i < n && rc == 0; i++) {
		static const uint8_t none[6];
		uint8_t m[6];
		int port;
		rc = nssm_text_port_mac(&port, m, item[i], said(key, j, id), j->err);
		if (rc == 0 && (memcmp(m, none, 6) == 0 || (id == NSSM_K_SRC_MAC && (m[0] & 1))))
			rc = nssm_err_set(j->err, NSSM_EARG,
			        "%s: expected the MAC address of a device, found '%.60s'", key, item[i]);
		if (rc == 0)
			rc = place(j, port, taken, id, item[i], &port);
		if (rc == 0)
			memcpy(mac[port], m, 6);
	}
	return rc;
}

static int port_addrs(const struct job *j, uint8_t addr4[NSSM_PORTS_MAX][4],
        uint8_t addr6[NSSM_PORTS_MAX][16], enum nssm_key_id id)
{
	bool taken[2][NSSM_PORTS_MAX] = {{false}};
	char key[NSSM_FLAG_BYTES];
	const char *const *item;
	size_t n = nssm_conf_list(j->conf, id, &item);
	for (size_t i = 0; i < n; i++) {
		static const uint8_t none[16];
		uint8_t a[16];
		int port, version;
		int rc = nssm_text_port_addr(&port, a, &version, item[i], said(key, j, id), j->err);
		if (rc == 0 && memcmp(a, none, 16) == 0)
			rc = nssm_err_set(j->err, NSSM_EARG,
			        "%s: expected the address of a device, found '%.60s'", key, item[i]);
		if (rc == 0)
			rc = place(j, port, taken[version == 6], id, item[i], &port);
		if (rc != 0)
			return rc;
		if (version == 4)
			memcpy(addr4[port], a, 4);
		else
			memcpy(addr6[port], a, 16);
	}
	return 0;
}

/* A clone with its router's own address would be taken for an attack. */
static void keep_gateways_free(const struct job *j)
{
	const struct nssm_live_cfg *l = &j->cfg->live;
	struct nssm_clone_cfg *k = &j->cfg->clone;
	for (int port = 0; port < NSSM_PORTS_MAX; port++) {
		struct nssm_pool *pool[2] = {k->clients, k->servers};
		for (int side = 0; side < 2; side++) {
			nssm_pool_remove(&pool[side][0], l->gateway4[port]);
			nssm_pool_remove(&pool[side][1], l->gateway6[port]);
		}
	}
}

static int network(const struct job *j)
{
	struct nssm_live_cfg *l = &j->cfg->live;
	l->answer = nssm_conf_bool(j->conf, NSSM_K_ANSWER);
	l->measure = nssm_conf_bool(j->conf, NSSM_K_MEASURE);
	l->signature = nssm_conf_bool(j->conf, NSSM_K_SIGNATURE);
	l->measure_wait_ns = time_ns(j, NSSM_K_MEASURE_WAIT);
	if (l->measure && l->dev[0] == NULL)
		return wrong(j, NSSM_K_MEASURE, "needs a --port where something can come back");
	if (l->signature && !l->measure)
		return wrong(j, NSSM_K_SIGNATURE, "needs --measure, which looks for it in what comes back");
	int rc = port_macs(j, l->src_mac, NSSM_K_SRC_MAC);
	if (rc == 0)
		rc = port_macs(j, l->dst_mac, NSSM_K_DST_MAC);
	if (rc == 0)
		rc = port_addrs(j, l->gateway4, l->gateway6, NSSM_K_GATEWAY);
	if (rc == 0)
		rc = port_addrs(j, l->self4, l->self6, NSSM_K_SELF);
	if (rc == 0)
		keep_gateways_free(j);
	if (rc == 0)
		rc = nets(j, j->cfg->client_nets, NSSM_K_CLIENT_NETS, NULL);
	return rc != 0 ? rc : nets(j, j->cfg->server_nets, NSSM_K_SERVER_NETS, NULL);
}

int nssm_play_options(struct nssm_pipeline_cfg *cfg, const struct nssm_conf *conf, const char *cmd,
        bool model, struct nssm_err *err)
{
	struct job j = {.cfg = cfg, .conf = conf, .cmd = cmd, .err = err};
	int rc = outputs(&j);
	if (rc == 0 && model && nssm_play_starts_original(conf))
		rc = wrong(&j, NSSM_K_START_TIME,
		        "only captures have a time of their own, a model's sessions have none");
	if (rc == 0)
		rc = live(&j);
	if (rc == 0)
		rc = clones(&j, model);
	return rc != 0 ? rc : network(&j);
}

bool nssm_play_is_live(const struct nssm_pipeline_cfg *cfg)
{
	return cfg->live.dev[0] != NULL || cfg->fifo != NULL || cfg->n_pcap_over_ip > 0;
}

int nssm_play_check(const struct nssm_pipeline_cfg *c, const char *cmd, struct nssm_err *err)
{
	bool endless = c->mode == NSSM_PLAY_RATE || c->mode == NSSM_PLAY_CONCURRENCY;
	if (c->gen != NULL && c->gen->n_sessions == UINT64_MAX)
		endless = true;
	if (c->reader != NULL && c->n_loops == 0)
		endless = true;
	if (endless && !nssm_play_is_live(c) && !is_stdout(c->pcap_out) && c->duration_ns == 0 &&
	        c->max_packets == 0)
		return nssm_err_set(err, NSSM_EARG,
		        "%s: this goes on without end and would fill the disk; give --duration or --limit",
		        cmd);
	return 0;
}
