#include "app/play.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "app/live_view.h"
#include "app/play_options.h"
#include "app/play_report.h"
#include "base/file.h"
#include "replay/control.h"
#include "replay/metrics.h"

int nssm_play_init(struct nssm_play *p, const struct nssm_conf *conf, const struct nssm_cmd *cmd, bool model,
        struct nssm_err *err)
{
	*p = (struct nssm_play){.conf = conf, .cmd = cmd};
	p->report = nssm_play_takes_stdout(conf) ? stderr : stdout;
	return nssm_play_options(&p->cfg, conf, cmd->name, model, err);
}

void nssm_play_free(struct nssm_play *p)
{
	json_decref(p->source);
	p->source = NULL;
}

/* --- signals -------------------------------------------------------------------------------------------------- */

/* The one pipeline that signals mean; NULL before and after it runs. */
static struct nssm_pipeline *volatile running;
static volatile sig_atomic_t n_signals;

static void on_signal(int sig)
{
	n_signals++;
	/* The third is not ours any more: it ends a program that does not come to an end. */
	if (n_signals >= 2)
		signal(sig, SIG_DFL);
	if (running != NULL)
		nssm_pipeline_stop(running, n_signals >= 2);
}

static void watch_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	sigemptyset(&sa.sa_mask);
	/* One at a time: each counts. */
	sigaddset(&sa.sa_mask, SIGINT);
	sigaddset(&sa.sa_mask, SIGTERM);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

/* --- those who look on ---------------------------------------------------------------------------------------- */

struct watchers {
	struct nssm_play *play;
	struct nssm_pipeline *pipeline;
	struct nssm_view *view;
	struct nssm_metrics *metrics;
	struct nssm_control *control;
};

static void get_stats(void *ctx, struct nssm_stats *s)
{
	nssm_pipeline_stats(ctx, s);
}

static int steer(void *ctx, enum nssm_control_what what, const struct nssm_rate *rate, struct nssm_err *err)
{
	switch (what) {
	case NSSM_CONTROL_RATE:
		return nssm_pipeline_set_rate(ctx, rate, err);
	case NSSM_CONTROL_PAUSE:
	case NSSM_CONTROL_RESUME:
		return nssm_pipeline_pause(ctx, what == NSSM_CONTROL_PAUSE, err);
	case NSSM_CONTROL_STOP:
	case NSSM_CONTROL_STOP_NOW:
		nssm_pipeline_stop(ctx, what == NSSM_CONTROL_STOP_NOW);
		return 0;
	}
	return nssm_err_set(err, NSSM_EARG, "control: unknown request %d", (int)what);
}

static int open_watchers(struct watchers *w, struct nssm_err *err)
{
	const struct nssm_conf *c = w->play->conf;
	const char *path = nssm_conf_str(c, NSSM_K_CONTROL);
	char title[32];
	snprintf(title, sizeof title, "netssm %s", w->play->cmd->name);
	if (!nssm_view_open(&w->view, stderr, nssm_conf_str(c, NSSM_K_PROGRESS), title))
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for the view", w->play->cmd->name);
	int rc = 0;
	if (nssm_conf_is_set(c, NSSM_K_METRICS)) {
		rc = nssm_metrics_open(&w->metrics, (uint16_t)nssm_conf_int(c, NSSM_K_METRICS), get_stats, w->pipeline, err);
		if (rc == 0)
			fprintf(w->play->report, "metrics: http://127.0.0.1:%u/metrics\n", nssm_metrics_port(w->metrics));
	}
	if (rc == 0 && path != NULL) {
		struct nssm_control_cfg cfg = {.path = path, .handle = steer, .stats = get_stats, .ctx = w->pipeline};
		rc = nssm_control_open(&w->control, &cfg, err);
	}
	if (rc == 0 && nssm_eal_running())
		rc = nssm_telemetry_register(get_stats, w->pipeline, err);
	fflush(w->play->report);
	return rc;
}

static void close_watchers(struct watchers *w)
{
	if (nssm_eal_running())
		nssm_telemetry_register(NULL, NULL, NULL);
	nssm_control_close(&w->control);
	nssm_metrics_close(&w->metrics);
	nssm_view_close(&w->view);
}

static void tick(void *ctx)
{
	struct watchers *w = ctx;
	struct nssm_stats s = {0};
	if (!nssm_view_due(w->view))
		return;
	nssm_pipeline_stats(w->pipeline, &s);
	nssm_view_draw(w->view, &s);
}

/* --- the run -------------------------------------------------------------------------------------------------- */

/* The first error is the one that is told. */
static int keep_first(int rc, int next, struct nssm_err *err, const struct nssm_err *why)
{
	if (rc != 0 || next == 0)
		return rc;
	if (err != NULL)
		*err = *why;
	return next;
}

static int wind_up(const struct watchers *w, int run_rc, struct nssm_err *err)
{
	const struct nssm_play *p = w->play;
	struct nssm_stats stats = {0};
	struct nssm_err why = *err, again = {0};
	nssm_pipeline_stats(w->pipeline, &stats);
	struct nssm_play_result r = {.pipeline = w->pipeline,
	        .stats = &stats,
	        .why = run_rc != 0 ? why.msg : NULL,
	        .end = run_rc == 0            ? NSSM_PLAY_COMPLETE
	               : run_rc == NSSM_EINTR ? NSSM_PLAY_STOPPED
	                                      : NSSM_PLAY_FAILED};
	nssm_play_report(p->report, p, &r);
	fflush(p->report);
	/* Someone's wish through the control socket is no failure. */
	int rc = run_rc == NSSM_EINTR && n_signals == 0 ? 0 : run_rc;
	rc = keep_first(rc, nssm_play_manifest(p, &r, &again), err, &again);
	return keep_first(rc, nssm_play_stats_json(p, &r, &again), err, &again);
}

/* What is written at the end must not fail for a reason that was there at the start. */
static int try_file(const struct nssm_play *p, enum nssm_key_id id, struct nssm_err *err)
{
	const char *path = nssm_conf_str(p->conf, id);
	struct nssm_outfile *of;
	if (path == NULL || strcmp(path, "-") == 0)
		return 0;
	int rc = nssm_outfile_open(&of, path, err);
	nssm_outfile_abort(&of);
	return rc;
}

int nssm_play_run(struct nssm_play *p, struct nssm_err *err)
{
	struct watchers w = {.play = p};
	int rc;
	if ((rc = nssm_play_check(&p->cfg, p->cmd->name, err)) || (rc = try_file(p, NSSM_K_MANIFEST, err)) ||
	        (rc = try_file(p, NSSM_K_STATS_JSON, err)))
		return rc;
	n_signals = 0;
	watch_signals();
	rc = nssm_pipeline_open(&w.pipeline, &p->cfg, err);
	if (rc != 0)
		return rc;
	running = w.pipeline;
	if (n_signals > 0) /* came while it was opened */
		nssm_pipeline_stop(w.pipeline, n_signals > 1);
	rc = open_watchers(&w, err);
	if (rc == 0) {
		rc = nssm_pipeline_run(w.pipeline, tick, &w, err);
		running = NULL;
		nssm_view_close(&w.view);
		rc = wind_up(&w, rc, err);
	}
	running = NULL;
	close_watchers(&w);
	nssm_pipeline_close(&w.pipeline);
	return rc;
}
