#include "app/live_view.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "app/progress.h"
#include "base/measure.h"
#include "base/utf8.h"

#define LIVE_GAP_S  0.25
#define PLAIN_GAP_S 10
#define N_KEPT      5 /* drawings that are remembered: a second's */
#define WINDOW_S    1.5
#define COLS_MAX    500
#define LINES_MAX   24
#define LABEL_COLS  11

struct nssm_view {
	FILE *out;
	enum nssm_progress_mode mode;
	double gap_s, last_s;
	char title[64];
	int lines, cols, rows; /* of the last drawing; lines 0: none yet */
	uint32_t n_kept, newest;
	struct {
		double at_s;
		struct nssm_stats stats;
	} kept[N_KEPT];
	char text[NSSM_VIEW_BYTES];
};

/* --- numbers --- */

/* "1.20 M packets/s": words stand apart. */
static char *put_words(char buf[32], double v, const char *unit)
{
	char n[16];
	snprintf(buf, 32, "%s %s", nssm_human(n, v), unit);
	return buf;
}

/* "100 kpps", "12 pps". */
static char *put_unit(char buf[32], double v, const char *unit)
{
	char n[16];
	nssm_human(n, v);
	snprintf(buf, 32, "%s%s%s", n, strchr(n, ' ') != NULL ? "" : " ", unit);
	return buf;
}

static char *put_count(char buf[32], uint64_t v)
{
	return nssm_human(buf, (double)v);
}

/* Three digits, as nssm_human has them. */
static char *put_ns(char buf[32], uint64_t ns)
{
	double v = (double)ns;
	const char *unit = "ns";
	if (ns >= 999500000)
		return put_unit(buf, v / 1e9, "s");
	if (ns >= 999500) {
		v /= 1e6;
		unit = "ms";
	} else if (ns >= 1000) {
		v /= 1e3;
		unit = "µs";
	}
	int decimals = ns < 1000 ? 0 : v < 9.995 ? 2 : v < 99.95 ? 1 : 0;
	snprintf(buf, 32, "%.*f %s", decimals, v, unit);
	return buf;
}

static unsigned percent(uint64_t part, uint64_t of)
{
	return of == 0 ? 0 : part >= of ? 100 : (unsigned)((double)part / (double)of * 100);
}

/* What was counted since, a second. A snapshot may catch a counter a little late: never negative. */
struct window {
	const struct nssm_stats *now, *before;
	double s;
};

static uint64_t since(const struct window *w, const uint64_t *counter)
{
	size_t off = (size_t)((const char *)counter - (const char *)w->now);
	uint64_t then = 0;
	memcpy(&then, (const char *)w->before + off, sizeof then);
	return *counter > then ? *counter - then : 0;
}

static double pps_now(const struct window *w, const uint64_t *packets)
{
	return w->before == NULL ? nssm_per_s(*packets, w->now->elapsed_s)
	                         : nssm_per_s(since(w, packets), w->s);
}

static double bps_now(const struct window *w, const uint64_t *bytes, const uint64_t *packets)
{
	return w->before == NULL ? nssm_l2_bps(*bytes, *packets, w->now->elapsed_s)
	                         : nssm_l2_bps(since(w, bytes), since(w, packets), w->s);
}

/* Lateness of the window; out of the run where there is none. */
static void late_now(struct nssm_hist *h, const struct window *w)
{
	if (w->before == NULL)
		*h = w->now->all.late;
	else
		nssm_hist_since(h, &w->now->all.late, &w->before->all.late);
}

/* --- lines --- */

struct line {
	int rank; /* the higher, the sooner it is left out */
	int cols, max_cols;
	bool full;
	size_t n;
	char text[4 * COLS_MAX + 1];
};

struct screen {
	int n, max_cols;
	struct line line[LINES_MAX];
};

/* Puts text at column `at`, or two columns behind what is there, if it fits whole; nothing follows what did not. */
__attribute__((format(printf, 3, 4))) static void put(struct line *l, int at, const char *fmt, ...)
{
	char raw[256], shown[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(raw, sizeof raw, fmt, ap);
	va_end(ap);
	int cols = nssm_utf8_show(shown, sizeof shown, raw, COLS_MAX);
	int from = l->cols == 0 ? at : at > l->cols + 1 ? at : l->cols + 2;
	if (l->full || from + cols > l->max_cols) {
		l->full = true;
		return;
	}
	l->n += (size_t)snprintf(l->text + l->n, sizeof l->text - l->n, "%*s%s", from - l->cols, "", shown);
	l->cols = from + cols;
}

static struct line *begin(struct screen *s, int rank, const char *label)
{
	struct line *l = &s->line[s->n++];
	*l = (struct line){.rank = rank, .max_cols = s->max_cols};
	l->cols = nssm_utf8_show(l->text, sizeof l->text, label, s->max_cols);
	l->n = strlen(l->text);
	return l;
}

static void put_bar(struct line *l, int at, uint64_t used, uint64_t of)
{
	enum { CELLS = 20 };
	unsigned full = percent(used, of) * CELLS / 100;
	char bar[CELLS + 1] = "";
	memset(bar, ' ', CELLS);
	memset(bar, '=', full);
	put(l, at, "[%s] %u %%", bar, percent(used, of));
}

static void title_line(struct screen *s, const char *title, const struct nssm_stats *now)
{
	struct line *l = begin(s, 0, title);
	char elapsed[16], source[sizeof now->source + 1], room[4 * COLS_MAX];
	nssm_hms(elapsed, now->elapsed_s);
	snprintf(source, sizeof source, "%.*s", (int)sizeof now->source, now->source);
	int right = s->max_cols - (int)strlen(elapsed), left = right - 2 - l->cols - 2;
	if (left >= 8) {
		nssm_utf8_show(room, sizeof room, source, left);
		put(l, 0, "%s", room);
	}
	if (right > 0)
		put(l, right, "%s", elapsed);
}

static void state_line(struct screen *s, const struct nssm_stats *now)
{
	struct line *l = begin(s, 3, "rate");
	char rate[sizeof now->rate + 1];
	snprintf(rate, sizeof rate, "%.*s", (int)sizeof now->rate, now->rate);
	put(l, LABEL_COLS, "%s", rate);
	if (now->stopping)
		put(l, 0, "STOPPING");
	if (now->paused)
		put(l, 0, "PAUSED");
	if (!now->live)
		put(l, 0, "virtual time");
	put(l, 0, "%u %s", now->n_engines, now->n_engines == 1 ? "engine" : "engines");
}

static void rate_lines(struct screen *s, const struct window *w)
{
	const struct nssm_stats *now = w->now;
	char a[32], b[32], c[32];
	struct line *l = begin(s, 0, "packets");
	put(l, LABEL_COLS, "now %s", put_unit(a, pps_now(w, &now->all.sent), "pps"));
	put(l, 29, "average %s", put_unit(b, nssm_per_s(now->all.sent, now->elapsed_s), "pps"));
	put(l, 52, "sent %s", put_count(c, now->all.sent));
	l = begin(s, 1, "bits (L2)");
	put(l, LABEL_COLS, "now %s", put_unit(a, bps_now(w, &now->all.sent_bytes, &now->all.sent), "bps"));
	put(l, 29, "average %s",
	        put_unit(b, nssm_l2_bps(now->all.sent_bytes, now->all.sent, now->elapsed_s), "bps"));
	put(l, 52, "sent %s", put_unit(c, (double)now->all.sent_bytes, "B"));
}

static void port_lines(struct screen *s, const struct window *w)
{
	const struct nssm_stats *now = w->now;
	for (uint32_t i = 0; i < now->n_ports && i < NSSM_PORTS_MAX; i++) {
		char label[16], name[sizeof now->port[i].name + 1], shown[4 * 16], a[32], b[32], c[32], d[32];
		snprintf(label, sizeof label, "port %u", i);
		snprintf(name, sizeof name, "%.*s", (int)sizeof now->port[i].name, now->port[i].name);
		nssm_utf8_show(shown, sizeof shown, name, 16);
		const uint64_t *sent = &now->all.port_sent[i], *bytes = &now->all.port_bytes[i];
		struct line *l = begin(s, 5, label);
		put(l, LABEL_COLS, "%s", now->port[i].up ? "up" : "DOWN");
		put(l, 17, "%s", put_unit(a, pps_now(w, sent), "pps"));
		put(l, 28, "%s", put_unit(b, bps_now(w, bytes, sent), "bps"));
		put(l, 39, "sent %s", put_count(c, *sent));
		put(l, 51, "recv %s", put_count(d, now->all.port_received[i]));
		put(l, 63, "%s", shown);
	}
}

static void session_lines(struct screen *s, const struct nssm_stats *now)
{
	char a[32], b[32], c[32], d[32];
	struct line *l = begin(s, 6, "sessions");
	put(l, LABEL_COLS, "begun %s", put_count(a, now->all.sessions_begun));
	put(l, 25, "done %s", put_count(b, now->all.sessions_done));
	put(l, 39, "flows %s", put_count(c, now->all.flows_begun));
	put(l, 53, "without clones %s", put_count(d, now->all.session_flows));
	if (now->all.clones_begun == 0 && now->all.clones_waiting == 0)
		return;
	l = begin(s, 7, "clones");
	put(l, LABEL_COLS, "alive %s", put_count(a, now->all.clones_alive));
	put(l, 25, "done %s", put_count(b, now->all.clones_done));
	put(l, 39, "wait %s", put_count(c, now->all.clones_waiting));
	put(l, 53, "factor %s", nssm_human(d, nssm_clone_factor(&now->all)));
}

static void source_lines(struct screen *s, const struct window *w)
{
	const struct nssm_source_counters *src = &w->now->src;
	bool model = src->tokens > 0;
	char a[32], b[32], c[32], d[32];
	struct line *l = begin(s, 8, model ? "generator" : "source");
	double t = w->now->elapsed_s;
	/* A model hands over blocks that take it seconds: only averages stand still. */
	if (model && !src->done) {
		put(l, LABEL_COLS, "%s", put_words(a, nssm_per_s(src->tokens, t), "tokens/s"));
		put(l, 29, "%s", put_words(b, nssm_per_s(src->packets, t), "packets/s"));
	} else if (!src->done)
		put(l, LABEL_COLS, "%s", put_words(b, pps_now(w, &src->packets), "packets/s"));
	put(l, src->done ? LABEL_COLS : 52, "%s %s%s", src->done ? "ended after" : "made",
	        put_count(c, src->packets), src->done ? " packets" : "");
	if (src->rejected > 0)
		put(l, 0, "rejected %s", put_count(d, src->rejected));
	if (src->filtered > 0)
		put(l, 0, "filtered %s", put_count(d, src->filtered));
	l = begin(s, 9, "ring");
	put_bar(l, LABEL_COLS, w->now->all.ring_used, w->now->all.ring_size);
	put(l, 40, "starved %s", put_count(a, w->now->all.starved));
	put(l, 57, "source waited %s", put_ns(b, src->waits_ns));
}

static void late_line(struct screen *s, const struct window *w)
{
	const struct nssm_hist *all = &w->now->all.late;
	struct nssm_hist now;
	char a[32], b[32], c[32], d[32], e[32];
	if (all->count == 0) /* at top speed nothing is due */
		return;
	late_now(&now, w);
	struct line *l = begin(s, 4, "late");
	put(l, LABEL_COLS, "p50 %s", put_ns(a, nssm_hist_quantile(all, 0.5)));
	put(l, 24, "p99 %s", put_ns(b, nssm_hist_quantile(all, 0.99)));
	put(l, 37, "max %s", put_ns(c, all->max_ns));
	put(l, 50, "now p50 %s", put_ns(d, nssm_hist_quantile(&now, 0.5)));
	put(l, 67, "p99 %s", put_ns(e, nssm_hist_quantile(&now, 0.99)));
}

static void drop_line(struct screen *s, const struct nssm_stats *now)
{
	char a[32];
	struct line *l = begin(s, 2, "dropped");
	put(l, LABEL_COLS, "%s", put_count(a, nssm_dropped(&now->all)));
	for (int i = 0; i < NSSM_DROP_N; i++)
		if (now->all.dropped[i] > 0)
			put(l, 0, "%s %s", nssm_drop_name(i), put_count(a, now->all.dropped[i]));
}

static void measure_lines(struct screen *s, const struct nssm_stats *now)
{
	if (!now->measuring)
		return;
	const struct nssm_measure_counters *m = &now->back;
	char a[32], b[32], c[32], d[32];
	struct line *l = begin(s, 2, "came back");
	put(l, LABEL_COLS, "lost %s (%.4f %%)", put_count(a, m->lost), 100 * nssm_loss_share(m));
	put(l, 37, "matched %s", put_count(b, m->matched));
	put(l, 53, "reordered %s", put_count(c, m->reordered));
	put(l, 71, "dup %s", put_count(d, m->duplicate));
	if (m->latency.count == 0)
		return;
	l = begin(s, 4, "latency");
	put(l, LABEL_COLS, "p50 %s", put_ns(a, nssm_hist_quantile(&m->latency, 0.5)));
	put(l, 25, "p99 %s", put_ns(b, nssm_hist_quantile(&m->latency, 0.99)));
	put(l, 39, "p99.9 %s", put_ns(c, nssm_hist_quantile(&m->latency, 0.999)));
	put(l, 55, "max %s", put_ns(d, m->latency.max_ns));
}

static void memory_line(struct screen *s, const struct nssm_stats *now)
{
	char a[32], b[32], c[32];
	struct line *l = begin(s, 10, "arena");
	put_bar(l, LABEL_COLS, now->all.arena_used, now->all.arena_bytes);
	put(l, 40, "of %s", put_unit(a, (double)now->all.arena_bytes, "B"));
	put(l, 52, "bank %s sessions", put_count(b, now->all.bank_sessions));
	if (now->all.spilled_bytes > 0)
		put(l, 0, "spilled %s", put_unit(c, (double)now->all.spilled_bytes, "B"));
}

static void balance_line(struct screen *s, const struct nssm_stats *now)
{
	char a[32], b[32], c[32], d[32];
	struct line *l = begin(s, 11, "balance");
	put(l, LABEL_COLS, "made %s = sent %s + dropped %s + in hand %s", put_count(a, now->all.made),
	        put_count(b, now->all.sent), put_count(c, nssm_dropped(&now->all)),
	        put_count(d, nssm_in_hand(&now->all)));
}

int nssm_view_render(char *out, size_t cap, const char *title, const struct nssm_stats *now,
        const struct nssm_stats *before, double window_s, int cols, int rows)
{
	struct window w = {.now = now, .before = window_s > 0 ? before : NULL, .s = window_s};
	/* The last column stays empty: many terminals wrap when it is written. */
	struct screen s = {.max_cols = cols < 2 ? 0 : cols - 1 > COLS_MAX ? COLS_MAX : cols - 1};
	title_line(&s, title, now);
	state_line(&s, now);
	begin(&s, 12, "");
	rate_lines(&s, &w);
	port_lines(&s, &w);
	drop_line(&s, now);
	if (now->live)
		late_line(&s, &w);
	measure_lines(&s, now);
	begin(&s, 12, "");
	session_lines(&s, now);
	source_lines(&s, &w);
	memory_line(&s, now);
	balance_line(&s, now);
	begin(&s, 12, "");
	begin(&s, 4, now->stopping ? "stopping; ^C stops at once" : "^C drains, again stops at once");
	int left = s.n, lines = 0;
	for (; left > 1 && left > rows - 1; left--) {
		int worst = 0;
		for (int i = 0; i < s.n; i++)
			if (s.line[i].rank >= s.line[worst].rank)
				worst = i;
		s.line[worst].rank = -1;
	}
	size_t n = 0;
	out[0] = '\0';
	for (int i = 0; i < s.n; i++) {
		if (s.line[i].rank < 0 || n + s.line[i].n + 2 > cap)
			continue;
		n += (size_t)snprintf(out + n, cap - n, "%s\n", s.line[i].text);
		lines++;
	}
	return lines;
}

void nssm_view_plain(
        char *out, size_t cap, const struct nssm_stats *now, const struct nssm_stats *before, double window_s)
{
	struct window w = {.now = now, .before = window_s > 0 ? before : NULL, .s = window_s};
	struct line l = {.max_cols = COLS_MAX};
	struct nssm_hist late;
	char a[32];
	put(&l, 0, "[%s]", nssm_hms(a, now->elapsed_s));
	put(&l, 0, "%s", put_unit(a, pps_now(&w, &now->all.sent), "pps"));
	put(&l, 0, "%s", put_unit(a, bps_now(&w, &now->all.sent_bytes, &now->all.sent), "bps"));
	put(&l, 0, "sent %s", put_count(a, now->all.sent));
	put(&l, 0, "flows %s", put_count(a, now->all.flows_begun));
	put(&l, 0, "dropped %s", put_count(a, nssm_dropped(&now->all)));
	if (now->live && now->all.late.count > 0) {
		late_now(&late, &w);
		put(&l, 0, "late p50 %s", put_ns(a, nssm_hist_quantile(&late, 0.5)));
		put(&l, 0, "p99 %s", put_ns(a, nssm_hist_quantile(&late, 0.99)));
	}
	if (now->src.tokens > 0)
		put(&l, 0, "%s", put_words(a, pps_now(&w, &now->src.tokens), "tokens/s"));
	if (now->all.ring_size > 0)
		put(&l, 0, "ring %u %%", percent(now->all.ring_used, now->all.ring_size));
	if (now->all.clones_begun > 0)
		put(&l, 0, "clones %s", put_count(a, now->all.clones_alive));
	if (now->measuring)
		put(&l, 0, "lost %s (%.4f %%)", put_count(a, now->back.lost),
		        100 * nssm_loss_share(&now->back));
	if (now->paused)
		put(&l, 0, "paused");
	if (now->stopping)
		put(&l, 0, "stopping");
	snprintf(out, cap, "%s", l.text);
}

/* --- the terminal --- */

bool nssm_view_open(struct nssm_view **vp, FILE *out, const char *mode, const char *title)
{
	struct nssm_view *v = *vp = calloc(1, sizeof *v);
	if (v == NULL)
		return false;
	v->out = out;
	v->mode = nssm_progress_mode(mode, out);
	v->gap_s = v->mode == NSSM_PROGRESS_LIVE ? LIVE_GAP_S : PLAIN_GAP_S;
	/* Lines are there at once, a plain one after the first gap: short runs stay quiet in a log. */
	v->last_s = v->mode == NSSM_PROGRESS_LIVE ? nssm_now_s() - v->gap_s : nssm_now_s();
	snprintf(v->title, sizeof v->title, "%s", title);
	return true;
}

bool nssm_view_due(const struct nssm_view *v)
{
	return v->mode != NSSM_PROGRESS_NONE && nssm_now_s() - v->last_s >= v->gap_s;
}

/* Remembers now, and gives what was about a second ago (live) or at the last line (plain); NULL: nothing yet. */
static const struct nssm_stats *remember(const struct nssm_view *v, double at_s, double *window_s)
{
	const struct nssm_stats *before = NULL;
	*window_s = 0;
	for (uint32_t age = 1; age <= v->n_kept; age++) {
		uint32_t i = (v->newest + N_KEPT + 1 - age) % N_KEPT;
		double s = at_s - v->kept[i].at_s;
		if (before != NULL && (s > WINDOW_S || v->mode == NSSM_PROGRESS_PLAIN))
			break;
		before = &v->kept[i].stats;
		*window_s = s;
	}
	return before;
}

static void keep(struct nssm_view *v, const struct nssm_stats *now, double at_s)
{
	v->newest = (v->newest + 1) % N_KEPT;
	v->kept[v->newest].at_s = at_s;
	v->kept[v->newest].stats = *now;
	v->n_kept += v->n_kept < N_KEPT;
}

static void draw_live(
        struct nssm_view *v, const struct nssm_stats *now, const struct nssm_stats *before, double window_s)
{
	struct winsize w = {0};
	int cols = 80, rows = 24;
	if (ioctl(fileno(v->out), TIOCGWINSZ, &w) == 0 && w.ws_col > 0 && w.ws_row > 0) {
		cols = w.ws_col;
		rows = w.ws_row;
	}
	int lines = nssm_view_render(v->text, sizeof v->text, v->title, now, before, window_s, cols, rows);
	/* One write a drawing: no terminal shows half of it. */
	char *frame = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&frame, &n);
	if (f == NULL)
		return;
	if (v->lines > 0 && cols == v->cols && rows == v->rows)
		fprintf(f, "\033[%dA\r", v->lines);
	else if (v->lines > 0) /* resized: nobody knows where the lines are now */
		fputs("\033[H\033[J", f);
	for (const char *s = v->text; *s != '\0';) {
		size_t len = strcspn(s, "\n");
		fwrite(s, 1, len, f);
		fputs("\033[K\n", f);
		s += len + (s[len] != '\0');
	}
	fputs("\033[J", f); /* lines that are no more */
	if (fclose(f) == 0) {
		fwrite(frame, 1, n, v->out);
		fflush(v->out);
	}
	free(frame);
	v->lines = lines;
	v->cols = cols;
	v->rows = rows;
}

void nssm_view_draw(struct nssm_view *v, const struct nssm_stats *now)
{
	if (v->mode == NSSM_PROGRESS_NONE)
		return;
	double at_s = nssm_now_s(), window_s;
	const struct nssm_stats *before = remember(v, at_s, &window_s);
	if (v->mode == NSSM_PROGRESS_LIVE)
		draw_live(v, now, before, window_s);
	else {
		nssm_view_plain(v->text, sizeof v->text, now, before, window_s);
		fprintf(v->out, "%s\n", v->text);
		fflush(v->out);
	}
	keep(v, now, at_s);
	v->last_s = at_s;
}

void nssm_view_close(struct nssm_view **vp)
{
	free(*vp);
	*vp = NULL;
}
