#include "replay/pipeline.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/measure.h"
#include "replay/pipeline_priv.h"

#define NAP_NS        200000u
#define NAP_LIVE_NS   50000u
#define SPIN_BELOW_NS 1000000u /* a port's engine sleeps only if nothing is due for longer */
#define TICK_NS       100000000u
#define GATEWAY_WAIT_S 10u
#define LINK_WAIT_S    10u /* negotiating 10GBASE-T takes a card up to 5 */
#define NAP_CONTROL_NS 10000000u
#define NAP_VIRTUAL_NS 2000000u
#define COMPLETE_AFTER_NS 1000000000u
#define COMPLETE_PIECES   4 /* of 2 MB, each time control wakes up: some ms */

/* --- open --- */

int pipeline_check(const struct nssm_pipeline_cfg *c, struct nssm_err *err)
{
	bool file = c->pcap_out != NULL || c->pcapng_out != NULL || c->out_dir != NULL;
	if (!file && c->fifo == NULL && c->n_pcap_over_ip == 0 && c->live.dev[0] == NULL && c->truth == NULL)
		return nssm_err_set(err, NSSM_EARG,
			"nowhere to send packets to: give --port, --pcap-out, --pcapng-out, --out-dir, --pcap-over-ip or --fifo");
	if (c->live.dev[0] == NULL && c->live.dev[1] != NULL)
		return nssm_err_set(err, NSSM_EARG, "a second --port without a first");
	if ((c->live.measure || c->live.signature) && c->live.dev[0] == NULL)
		return nssm_err_set(err, NSSM_EARG, "--measure needs a --port for what comes back");
	if (c->live.measure && c->n_engines > 1)
		return nssm_err_set(err, NSSM_EUNSUP, "--measure works with one lcore, found --lcores %u", c->n_engines);
	if (c->n_engines > ENGINES_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "--lcores: expected at most %d, found %u", ENGINES_MAX, c->n_engines);
	if (c->mode == NSSM_PLAY_RATE && !(c->flows_per_s > 0))
		return nssm_err_set(err, NSSM_EARG, "--flows-per-second: expected a rate above 0");
	if ((c->mode == NSSM_PLAY_RATE || c->mode == NSSM_PLAY_CONCURRENCY) && c->live.dev[0] == NULL && c->fifo == NULL &&
		c->n_pcap_over_ip == 0 && c->duration_ns == 0 && c->max_packets == 0)
		return nssm_err_set(err, NSSM_EARG,
			"--flows-per-second and --concurrency go on without end: a file needs --duration or --limit");
	if (c->reader != NULL && c->n_loops == 0 && c->mode <= NSSM_PLAY_COUNT && c->live.dev[0] == NULL && c->fifo == NULL &&
		c->n_pcap_over_ip == 0 && c->duration_ns == 0 && c->max_packets == 0)
		return nssm_err_set(err, NSSM_EARG, "loops without end: a file needs --duration or --limit");
	for (uint32_t i = 0; c->reader != NULL && i < c->reader->n_paths; i++)
		if (strcmp(c->reader->path[i], "-") == 0 && c->n_loops != 1 && c->mode == NSSM_PLAY_ONCE && !c->preload)
			return nssm_err_set(err, NSSM_EARG, "standard input cannot be read again: to loop it needs --preload");
	return 0;
}

static int open_labels(struct nssm_pipeline *p, struct nssm_err *err)
{
	if (p->cfg.card == NULL) {
		p->label = nssm_reader_labels(p->reader, &p->n_labels);
		return 0;
	}
	const struct nssm_vocab *v = &p->cfg.card->vocab;
	p->n_labels = v->n_labels;
	p->label_own = calloc(v->n_labels > 0 ? v->n_labels : 1, sizeof *p->label_own);
	if (p->label_own == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for %u labels", v->n_labels);
	for (uint32_t i = 0; i < v->n_labels; i++)
		p->label_own[i] = v->label[i].name;
	p->label = p->label_own;
	return 0;
}

static uint64_t wall_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int nssm_pipeline_open(struct nssm_pipeline **pp, const struct nssm_pipeline_cfg *cfg, struct nssm_err *err)
{
	*pp = NULL;
	assert((cfg->card != NULL) != (cfg->reader != NULL));
	int rc = pipeline_check(cfg, err);
	if (rc != 0)
		return rc;
	struct nssm_pipeline *p = calloc(1, sizeof *p);
	if (p == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a pipeline");
	*pp = p;
	p->cfg = *cfg;
	p->n_ports = pipeline_n_ports(&cfg->live);
	p->spins = p->n_ports > 0;
	p->live = p->n_ports > 0 || cfg->fifo != NULL || cfg->n_pcap_over_ip > 0;
	p->n_engines = p->live && cfg->n_engines > 1 ? cfg->n_engines : 1;
	p->keep = cfg->preload || cfg->mode != NSSM_PLAY_ONCE;
	pthread_mutex_init(&p->run.lock, NULL);
	p->run.wall_ns = p->live ? wall_ns() - nssm_now_ns() : cfg->epoch_ns;
	p->run.rate = cfg->rate;
	p->line_bps = cfg->live.line_bps;
	p->clock0_ns = nssm_now_ns();
	if (cfg->reader != NULL) {
		struct nssm_reader_cfg reader = *cfg->reader;
		reader.idle = (struct nssm_capture_idle){pipeline_source_idle, p};
		rc = nssm_reader_open(&p->reader, &reader, err);
	}
	if (rc == 0)
		rc = open_labels(p, err);
	if (rc == 0 && p->n_ports > 0)
		rc = pipeline_open_ports(p, err);
	bool has_neigh = false;
	for (uint32_t i = 0; rc == 0 && i < p->n_ports; i++) {
		has_neigh |= p->neigh[i] != NULL;
		atomic_store(&p->run.port_up[i], nssm_port_info(p->port[i])->up);
	}
	atomic_store(&p->run.net_known, !has_neigh);
	atomic_store(&p->run.net_ready, p->n_ports == 0);
	if (rc == 0)
		rc = pipeline_open_outputs(p, err);
	if (rc == 0)
		rc = pipeline_open_engines(p, err);
	if (rc != 0)
		nssm_pipeline_close(pp);
	return rc;
}

void nssm_pipeline_close(struct nssm_pipeline **pp)
{
	struct nssm_pipeline *p = *pp;
	if (p == NULL)
		return;
	for (uint32_t e = 0; e < p->n_engines; e++) {
		nssm_engine_close(&p->out[e].engine);
		nssm_ring_close(&p->out[e].in);
		nssm_ring_close(&p->out[e].back);
	}
	for (uint32_t i = 0; i < SINKS_MAX; i++)
		nssm_sink_close(&p->sink[i]);
	nssm_truth_close(&p->truth);
	nssm_folder_close(&p->folder);
	nssm_measure_close(&p->measure);
	for (uint32_t i = 0; i < NSSM_PORTS_MAX; i++) {
		nssm_neigh_close(&p->neigh[i]);
		nssm_port_close(&p->port[i]);
	}
	/* Ports may hold frames until they are closed. */
	for (uint32_t e = 0; e < p->n_engines; e++)
		nssm_frames_close(&p->frames[e]);
	nssm_cloner_close(&p->cloner);
	nssm_reader_close(&p->reader);
	free(p->blocks);
	free(p->credit);
	free(p->run.credit);
	free(p->run.tight);
	free(p->label_own);
	pthread_mutex_destroy(&p->run.lock);
	free(p);
	*pp = NULL;
}

/* --- engines' threads --- */

static void nap(uint64_t ns)
{
	const struct timespec t = {.tv_nsec = (long)ns};
	nanosleep(&t, NULL);
}

static void wait_for_work(const struct nssm_pipeline *p, uint64_t wake_ns)
{
	if (!p->live) {
		nap(NAP_NS);
		return;
	}
	uint64_t now = nssm_now_ns(), left = wake_ns > now ? wake_ns - now : 0;
	if (p->spins && left < SPIN_BELOW_NS && wake_ns != UINT64_MAX) {
		__builtin_ia32_pause();
		return;
	}
	/* Without a known time a block may come at any moment. */
	uint64_t most = p->spins ? NAP_LIVE_NS : NAP_NS;
	nap(wake_ns == UINT64_MAX || left > most ? most : left);
}

/* An engine whose work is done does not leave the others alone: the source must not wait for its ring, and the first engine looks
 * after the neighbours and the outputs of all. */
static int wait_for_others(struct nssm_pipeline *p, struct nssm_engine *e, struct nssm_err *err)
{
	int rc = 0;
	atomic_fetch_add(&p->n_done, 1);
	while (rc == 0 && atomic_load(&p->n_done) < p->n_engines && atomic_load(&p->run.stop) < 2) {
		rc = nssm_engine_listen(e, err);
		nap(NAP_LIVE_NS);
	}
	return rc;
}

static bool all_came_back(const struct nssm_pipeline *p)
{
	return nssm_measure_waiting(p->measure) == 0 && nssm_measure_all(p->measure)->lost == 0;
}

/* What still comes back is waited for, also if it was given up already: it counts as late then, and no more as lost. */
static int listen_on(struct nssm_pipeline *p, struct nssm_engine *e, struct nssm_err *err)
{
	uint64_t until = nssm_now_ns() + p->cfg.live.measure_wait_ns;
	int rc = 0;
	while (rc == 0 && nssm_now_ns() < until && !all_came_back(p) && atomic_load(&p->run.stop) < 2)
		rc = nssm_engine_listen(e, err);
	nssm_measure_expire(p->measure, UINT64_MAX);
	return rc;
}

static void to_own_cpu(const struct nssm_pipeline *p, int cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	if (cpu >= 0)
		CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, cpu >= 0 ? &set : &p->cpus_before);
}

static void *engine_thread(void *ctx)
{
	struct lane_out *o = ctx;
	struct nssm_pipeline *p = o->pipeline;
	to_own_cpu(p, o->cpu);
	if (p->n_ports > 0)
		o->code = nssm_eal_thread(&o->err);
	enum nssm_engine_state state = NSSM_ENGINE_GOES;
	while (o->code == 0 && state != NSSM_ENGINE_DONE) {
		uint64_t wake;
		o->code = nssm_engine_turn(o->engine, &state, &wake, &o->err);
		if (o->code == 0 && state == NSSM_ENGINE_WAITS)
			wait_for_work(p, wake);
	}
	o->done_ns = nssm_now_ns();
	nssm_engine_note_cpu(o->engine);
	if (o->code == 0)
		o->code = wait_for_others(p, o->engine, &o->err);
	if (o->code == 0 && o->engine == p->out[0].engine && p->measure != NULL)
		o->code = listen_on(p, o->engine, &o->err);
	if (o->code != 0)
		nssm_pipeline_stop(p, true);
	atomic_fetch_add(&p->n_over, 1);
	return NULL;
}

/* --- run --- */

static int start(struct nssm_pipeline *p, struct nssm_err *err)
{
	for (uint32_t e = 0; e < p->n_engines; e++) {
		p->out[e].pipeline = p;
		if (pthread_create(&p->out[e].thread, NULL, engine_thread, &p->out[e]) != 0)
			return nssm_err_set(err, NSSM_ENOMEM, "cannot start the thread of lcore %u", e);
		p->out[e].started = true;
	}
	if (pthread_create(&p->source, NULL, pipeline_source, p) != 0)
		return nssm_err_set(err, NSSM_ENOMEM, "cannot start the source's thread");
	p->source_started = true;
	return 0;
}

/* Gateways that have answered: from now on frames go to them. The first packet waits for that, and for links that are not up yet; one
 * that stays down is not waited for without end, and what goes there is dropped. */
static void follow_net(struct nssm_pipeline *p, uint64_t since_ns)
{
	bool known = atomic_load(&p->run.net_known), linked = true;
	for (uint32_t i = 0; i < p->n_ports; i++) {
		bool up = nssm_port_link(p->port[i]);
		atomic_store(&p->run.port_up[i], up);
		linked &= up;
	}
	for (uint32_t side = 0; side < 2 && p->n_ports > 0; side++) {
		struct nssm_neigh *n = p->neigh[side < p->n_ports ? side : p->n_ports - 1];
		uint8_t mac[6];
		if (n != NULL && (nssm_neigh_gateway(n, 4, mac) || nssm_neigh_gateway(n, 6, mac)))
			nssm_cloner_set_next_hop(p->cloner, (int)side, mac);
	}
	if (known && (linked || since_ns > LINK_WAIT_S * 1000000000ull))
		atomic_store(&p->run.net_ready, true);
}

/* A run that waits for a router that is not there would wait for ever. */
static int missing_gateway(struct nssm_pipeline *p, struct nssm_err *err)
{
	for (uint32_t i = 0; i < p->n_ports; i++)
		if (p->neigh[i] != NULL && !nssm_neigh_resolved(p->neigh[i]))
			return nssm_err_set(err, NSSM_EIO,
				"port %u (%s): --gateway did not answer ARP or ND within %u s; expected it on the same link, and --self in its network",
				i, nssm_port_info(p->port[i])->name, GATEWAY_WAIT_S);
	return 0;
}

static bool has_sent(const struct nssm_pipeline *p)
{
	uint64_t sent = 0;
	for (uint32_t e = 0; e < p->n_engines; e++)
		sent += __atomic_load_n(&nssm_engine_counters(p->out[e].engine)->sent, __ATOMIC_RELAXED);
	return sent > 0;
}

/* What was left out at open so that a model's first packet leaves early comes when that is out, or does not come soon: frames, then the
 * engines' memory, piece by piece. A model fills neither as fast. */
static int complete(struct nssm_pipeline *p, uint64_t since_ns, struct nssm_err *err)
{
	int rc = 0;
	if (!p->live || p->cfg.card == NULL || p->complete || !(has_sent(p) || since_ns > COMPLETE_AFTER_NS))
		return 0;
	for (uint32_t e = 0; rc == 0 && p->n_ports > 0 && !p->has_more_frames && e < p->n_engines; e++)
		rc = nssm_frames_more(p->frames[e], POOL_FRAMES - POOL_FIRST, err);
	p->has_more_frames = true;
	p->complete = true;
	for (uint32_t e = 0; e < p->n_engines; e++)
		for (int i = 0; i < COMPLETE_PIECES; i++)
			if (nssm_engine_touch(p->out[e].engine))
				p->complete = false;
	return rc;
}

static int watch(struct nssm_pipeline *p, void (*tick)(void *ctx), void *ctx, struct nssm_err *err)
{
	uint64_t next = 0, began = nssm_now_ns();
	int rc = 0;
	while (atomic_load(&p->n_over) < p->n_engines) {
		uint64_t now = nssm_now_ns();
		follow_net(p, now - began);
		if (rc == 0 && (rc = complete(p, now - began, err)) != 0)
			nssm_pipeline_stop(p, true);
		if (rc == 0 && now - began > GATEWAY_WAIT_S * 1000000000ull && !atomic_load(&p->run.net_ready) &&
			(rc = missing_gateway(p, err)) != 0)
			nssm_pipeline_stop(p, true);
		if (now >= next && tick != NULL) {
			tick(ctx);
			next = now + TICK_NS;
		}
		nap(p->live ? NAP_CONTROL_NS : NAP_VIRTUAL_NS);
	}
	return rc;
}

static void keep_first(int *rc, struct nssm_err *err, int code, const struct nssm_err *why)
{
	if (*rc != 0 || code == 0)
		return;
	*rc = code;
	if (err != NULL)
		*err = *why;
}

/* What the first sink said in the end, where it decides what was sent (engine_out.c). */
static void settle_with_sink(struct nssm_pipeline *p)
{
	if (p->n_ports > 0 || p->n_sinks == 0)
		return;
	struct nssm_counters all = {0};
	for (uint32_t e = 0; e < p->n_engines; e++)
		nssm_counters_add(&all, nssm_engine_counters(p->out[e].engine));
	const struct nssm_sink_stats *said = nssm_sink_stats(p->sink[0]);
	uint64_t more[NSSM_DROP_N];
	for (int r = 0; r < NSSM_DROP_N; r++)
		more[r] = said->dropped[r] > all.dropped[r] ? said->dropped[r] - all.dropped[r] : 0;
	nssm_engine_unsent(p->out[0].engine, more, all.sent_bytes > said->bytes ? all.sent_bytes - said->bytes : 0);
}

/* Where something failed files are put in place only if they grew in place. A capture that breaks off is no such failure: what came
 * before is there. */
static int finish(struct nssm_pipeline *p, bool whole, int rc, struct nssm_err *err)
{
	struct nssm_err why = {0};
	for (uint32_t e = 0; e < p->n_engines; e++) {
		/* What was read last and never handed over is left, too. */
		if (p->out[e].filling != NULL && nssm_ring_put(p->out[e].in, p->out[e].filling))
			p->out[e].filling = NULL;
		int code = nssm_engine_finish(p->out[e].engine, &why);
		whole &= code == 0;
		keep_first(&rc, err, code, &why);
	}
	whole |= p->live;
	for (uint32_t i = 0; whole && i < p->n_sinks; i++)
		keep_first(&rc, err, nssm_sink_finish(p->sink[i], &why), &why);
	settle_with_sink(p);
	if (whole && p->folder != NULL)
		keep_first(&rc, err, nssm_folder_finish(p->folder, &why), &why);
	if (whole && p->truth != NULL)
		keep_first(&rc, err, nssm_truth_finish(p->truth, &why), &why);
	return rc;
}

/* Nobody takes blocks any more. A source that still runs then met a limit, and is told to stop. */
static bool end_source(struct nssm_pipeline *p)
{
	atomic_store(&p->engines_over, true);
	bool by_limit = !atomic_load(&p->run.source_done) && atomic_load(&p->run.stop) == 0;
	__atomic_store_n(&p->generator_stop, 1, __ATOMIC_RELAXED);
	if (p->source_started)
		pthread_join(p->source, NULL);
	return by_limit;
}

int nssm_pipeline_run(struct nssm_pipeline *p, void (*tick)(void *ctx), void *ctx, struct nssm_err *err)
{
	int rc = start(p, err);
	if (rc != 0)
		nssm_pipeline_stop(p, true);
	sched_setaffinity(0, sizeof p->cpus_rest, &p->cpus_rest);
	if (rc == 0)
		rc = watch(p, tick, ctx, err);
	for (uint32_t e = 0; e < p->n_engines; e++) {
		if (!p->out[e].started)
			continue;
		pthread_join(p->out[e].thread, NULL);
		/* Rates are those of sending: neither the wait for what comes back nor the source's end is part of it. */
		p->ended_ns = p->out[e].done_ns > p->ended_ns ? p->out[e].done_ns : p->ended_ns;
	}
	bool by_limit = end_source(p);
	sched_setaffinity(0, sizeof p->cpus_before, &p->cpus_before);
	atomic_store(&p->ended, true);
	for (uint32_t e = 0; e < p->n_engines; e++)
		keep_first(&rc, err, p->out[e].code, &p->out[e].err);
	bool source_whole = p->source_code == 0 || p->source_code == NSSM_EINTR || (p->reader != NULL && !p->keep && p->src.packets > 0);
	bool whole = rc == 0 && source_whole;
	if (p->source_code != NSSM_EINTR)
		keep_first(&rc, err, p->source_code, &p->source_err);
	if (rc == 0 && (atomic_load(&p->asked_to_stop) || (p->source_code == NSSM_EINTR && !by_limit)))
		rc = nssm_err_set(err, NSSM_EINTR, "%s", p->source_err.code == NSSM_EINTR ? p->source_err.msg : "stopped");
	rc = finish(p, whole, rc, err);
	if (tick != NULL)
		tick(ctx);
	return rc;
}

/* --- steering --- */

void pipeline_raise_stop(struct nssm_pipeline *p, int to)
{
	int is = atomic_load(&p->run.stop);
	while (is < to && !atomic_compare_exchange_weak(&p->run.stop, &is, to))
		;
}

void nssm_pipeline_stop(struct nssm_pipeline *p, bool now)
{
	atomic_store(&p->asked_to_stop, true);
	pipeline_raise_stop(p, now ? 2 : 1);
	__atomic_store_n(&p->generator_stop, 1, __ATOMIC_RELAXED);
}

int nssm_pipeline_set_rate(struct nssm_pipeline *p, const struct nssm_rate *rate, struct nssm_err *err)
{
	if (!p->live)
		return nssm_err_set(err, NSSM_EUNSUP, "rate: a file has no wall clock; give --rate at the start");
	if (rate->kind == NSSM_RATE_PERCENT && p->line_bps == 0)
		return nssm_err_set(err, NSSM_EARG, "rate: the line rate of this port is unknown; give --line-rate at the start");
	/* What an engine could not do is refused here: there it would end the run. */
	struct nssm_sched try = {.line_bps = p->line_bps, .share_num = 1, .share_den = p->n_engines};
	int rc = nssm_sched_init(&try, rate, err);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&p->run.lock);
	p->run.rate = *rate;
	pthread_mutex_unlock(&p->run.lock);
	atomic_fetch_add(&p->run.rate_version, 1);
	return 0;
}

int nssm_pipeline_pause(struct nssm_pipeline *p, bool pause, struct nssm_err *err)
{
	if (!p->live)
		return nssm_err_set(err, NSSM_EUNSUP, "pause: a file has no wall clock");
	atomic_store(&p->run.paused_at, pause ? nssm_now_ns() : 0);
	return 0;
}

/* --- figures --- */

static void port_stats(struct nssm_pipeline *p, struct nssm_stats *s)
{
	s->n_ports = p->n_ports;
	for (uint32_t i = 0; i < p->n_ports; i++) {
		const struct nssm_port_info *info = nssm_port_info(p->port[i]);
		snprintf(s->port[i].name, sizeof s->port[i].name, "%.*s", (int)sizeof s->port[i].name - 1, info->name);
		s->port[i].up = atomic_load(&p->run.port_up[i]);
		s->port[i].line_bps = info->line_bps;
		if (p->neigh[i] == NULL)
			continue;
		const struct nssm_neigh_stats *n = nssm_neigh_stats(p->neigh[i]);
		s->port[i].arp_replies = n->arp_replies;
		s->port[i].nd_replies = n->nd_replies;
	}
}

static uint64_t load(const uint64_t *c)
{
	return __atomic_load_n(c, __ATOMIC_RELAXED);
}

/* The source's thread counts; what a generator's packets came to, the engines know. */
static void source_stats(struct nssm_pipeline *p, struct nssm_stats *s)
{
	const struct nssm_source_counters *c = &p->src;
	s->src = (struct nssm_source_counters){.tokens = load(&c->tokens),
		.packets = load(&c->packets),
		.bytes = load(&c->bytes),
		.filtered = load(&c->filtered),
		.too_long = load(&c->too_long),
		.truncated = load(&c->truncated),
		.waits = load(&c->waits),
		.waits_ns = load(&c->waits_ns),
		.parked = load(&c->parked),
		.repaired = load(&c->repaired),
		.sessions_begun = load(&c->sessions_begun),
		.sessions_done = load(&c->sessions_done),
		.done = __atomic_load_n(&c->done, __ATOMIC_RELAXED)};
	s->all.time_back = load(&p->time_back);
	for (uint32_t e = 0; e < p->n_engines && p->reader == NULL; e++) {
		for (uint32_t l = 0; l < p->n_labels; l++) {
			const struct nssm_label_stats *x = nssm_engine_label(p->out[e].engine, l);
			s->src.packets += load(&x->packets);
			s->src.bytes += load(&x->bytes);
			for (int r = 0; r < NSSM_PKT_N_REASONS; r++)
				s->src.rejected += load(&x->rejected[r]);
			for (int b = 0; b < NSSM_REPAIR_N_BITS; b++)
				s->src.repaired += 1u << b == NSSM_REPAIR_L4_CSUM ? 0 : load(&x->repaired[b]);
		}
	}
}

void nssm_pipeline_stats(struct nssm_pipeline *p, struct nssm_stats *s)
{
	*s = (struct nssm_stats){.live = p->live, .n_engines = p->n_engines};
	uint64_t t0 = atomic_load(&p->run.t0_ns), end = atomic_load(&p->ended) ? p->ended_ns : nssm_now_ns();
	if (t0 == 0)
		t0 = p->clock0_ns;
	s->elapsed_s = end > t0 ? (double)(end - t0) / 1e9 : 0;
	s->paused = atomic_load(&p->run.paused_at) != 0;
	s->stopping = atomic_load(&p->asked_to_stop);
	pthread_mutex_lock(&p->run.lock);
	nssm_rate_print(s->rate, &p->run.rate);
	pthread_mutex_unlock(&p->run.lock);
	snprintf(s->source, sizeof s->source, "%s", p->cfg.source_name != NULL ? p->cfg.source_name : "");
	for (uint32_t e = 0; e < p->n_engines; e++)
		nssm_counters_add(&s->all, nssm_engine_counters(p->out[e].engine));
	if (atomic_load(&p->ended))
		s->all.left += p->n_unplaced;
	source_stats(p, s);
	port_stats(p, s);
	s->measuring = p->measure != NULL;
	if (s->measuring)
		s->back = *nssm_measure_all(p->measure);
}

uint32_t nssm_pipeline_n_labels(const struct nssm_pipeline *p)
{
	return p->n_labels;
}

const char *nssm_pipeline_label(const struct nssm_pipeline *p, uint32_t label_idx)
{
	return p->label[label_idx];
}

void nssm_pipeline_label_stats(const struct nssm_pipeline *p, uint32_t label_idx, struct nssm_label_stats *s)
{
	*s = (struct nssm_label_stats){0};
	for (uint32_t e = 0; e < p->n_engines; e++) {
		const struct nssm_label_stats *x = nssm_engine_label(p->out[e].engine, label_idx);
		s->sessions += x->sessions;
		s->flows += x->flows;
		s->tokens += x->tokens;
		s->made += x->made;
		s->packets += x->packets;
		s->bytes += x->bytes;
		s->sent += x->sent;
		s->sent_bytes += x->sent_bytes;
		s->cut += x->cut;
		for (int i = 0; i < NSSM_PKT_N_REASONS; i++)
			s->rejected[i] += x->rejected[i];
		for (int i = 0; i < NSSM_REPAIR_N_BITS; i++)
			s->repaired[i] += x->repaired[i];
		for (int i = 0; i < NSSM_END_N; i++)
			s->end[i] += x->end[i];
	}
}

const struct nssm_measure_counters *nssm_pipeline_label_measured(const struct nssm_pipeline *p, uint32_t label_idx)
{
	return p->measure != NULL ? nssm_measure_label(p->measure, label_idx) : NULL;
}
