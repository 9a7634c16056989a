#include "replay/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <rte_telemetry.h>
#include <rte_version.h>

#include "base/utf8.h"

#if RTE_VERSION < RTE_VERSION_NUM(23, 3, 0, 0)
#define rte_tel_data_add_dict_uint rte_tel_data_add_dict_u64
#endif

/* Telemetry's callbacks are given nothing of ours, and its commands cannot be taken back: so this is the process's. */
static struct {
	pthread_mutex_t lock;
	bool registered;
	nssm_stats_fn *get;
	void *ctx;
	struct nssm_stats now;
} source = {.lock = PTHREAD_MUTEX_INITIALIZER};

typedef void fill_fn(struct rte_tel_data *d, const struct nssm_stats *s);

/* A name that does not fit, or a dictionary that is full, costs that entry only. */
static void put(struct rte_tel_data *d, const char *prefix, const char *key, uint64_t v)
{
	char name[RTE_TEL_MAX_STRING_LEN];
	snprintf(name, sizeof name, "%s%s", prefix, key);
	(void)rte_tel_data_add_dict_uint(d, name, v);
}

static uint64_t whole(double v)
{
	return v >= 0 && v < 1e19 ? (uint64_t)v : 0;
}

static void fill_stats(struct rte_tel_data *d, const struct nssm_stats *s)
{
	size_t n;
	const struct nssm_stat_field *f = nssm_stats_fields(&n);
	char prefix[32];
	for (size_t i = 0; i < n; i++) {
		if (!s->measuring && strcmp(f[i].group, "measure") == 0)
			continue;
		snprintf(prefix, sizeof prefix, "%s_", f[i].group);
		put(d, prefix, f[i].key, nssm_stats_value(s, &f[i]));
	}
	for (int i = 0; i < NSSM_DROP_N; i++)
		put(d, "dropped_", nssm_drop_name(i), s->all.dropped[i]);
	put(d, "", "pps", whole(nssm_per_s(s->all.sent, s->elapsed_s)));
	put(d, "", "bps_l2", whole(nssm_l2_bps(s->all.sent_bytes, s->all.sent, s->elapsed_s)));
	put(d, "", "paused", s->paused);
}

static void fill_hist(struct rte_tel_data *d, const char *prefix, const struct nssm_hist *h)
{
	put(d, prefix, "count", h->count);
	put(d, prefix, "min", h->count > 0 ? h->min_ns : 0);
	put(d, prefix, "mean", whole(nssm_hist_mean(h)));
	put(d, prefix, "p50", nssm_hist_quantile(h, 0.5));
	put(d, prefix, "p99", nssm_hist_quantile(h, 0.99));
	put(d, prefix, "p999", nssm_hist_quantile(h, 0.999));
	put(d, prefix, "max", h->count > 0 ? h->max_ns : 0);
}

static void fill_lateness(struct rte_tel_data *d, const struct nssm_stats *s)
{
	fill_hist(d, "", &s->all.late);
	if (s->measuring)
		fill_hist(d, "latency_", &s->back.latency);
}

static void fill_ports(struct rte_tel_data *d, const struct nssm_stats *s)
{
	for (uint32_t i = 0; i < s->n_ports && i < NSSM_PORTS_MAX; i++) {
		char prefix[16], key[32], text[sizeof s->port[i].name + 1], name[4 * sizeof text];
		snprintf(prefix, sizeof prefix, "port%u_", i);
		snprintf(key, sizeof key, "%sname", prefix);
		snprintf(text, sizeof text, "%.*s", (int)sizeof s->port[i].name, s->port[i].name);
		nssm_utf8_show(name, sizeof name, text, sizeof text);
		(void)rte_tel_data_add_dict_string(d, key, name);
		put(d, prefix, "up", s->port[i].up);
		put(d, prefix, "line_bps", s->port[i].line_bps);
		put(d, prefix, "sent", s->all.port_sent[i]);
		put(d, prefix, "bytes", s->all.port_bytes[i]);
		put(d, prefix, "received", s->all.port_received[i]);
		put(d, prefix, "arp_replies", s->port[i].arp_replies);
		put(d, prefix, "nd_replies", s->port[i].nd_replies);
	}
}

static int answer(struct rte_tel_data *d, fill_fn *fill)
{
	rte_tel_data_start_dict(d);
	pthread_mutex_lock(&source.lock);
	if (source.get != NULL) {
		memset(&source.now, 0, sizeof source.now);
		source.get(source.ctx, &source.now);
		fill(d, &source.now);
	}
	pthread_mutex_unlock(&source.lock);
	return 0;
}

static int on_stats(const char *cmd, const char *params, struct rte_tel_data *d)
{
	return answer(d, fill_stats);
}

static int on_lateness(const char *cmd, const char *params, struct rte_tel_data *d)
{
	return answer(d, fill_lateness);
}

static int on_ports(const char *cmd, const char *params, struct rte_tel_data *d)
{
	return answer(d, fill_ports);
}

int nssm_telemetry_register(nssm_stats_fn *get, void *ctx, struct nssm_err *err)
{
	static const struct {
		const char *cmd, *help;
		telemetry_cb fn;
	} commands[] = {
	        {"/netssm/stats", "Counters of the run and its rates. No parameters.", on_stats},
	        {"/netssm/lateness", "How late packets left, in ns. No parameters.", on_lateness},
	        {"/netssm/ports", "Ports and their counters. No parameters.", on_ports},
	};
	pthread_mutex_lock(&source.lock);
	int rc = 0;
	for (size_t i = 0; i < sizeof commands / sizeof commands[0] && !source.registered && rc == 0; i++)
		rc = rte_telemetry_register_cmd(commands[i].cmd, commands[i].fn, commands[i].help);
	if (rc == 0) {
		source.registered = true;
		source.get = get;
		source.ctx = ctx;
	}
	pthread_mutex_unlock(&source.lock);
	return rc == 0 ? 0
	               : nssm_err_set(err, NSSM_EUNSUP, "telemetry: cannot add commands: %s", strerror(-rc));
}
