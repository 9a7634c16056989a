#include "app/progress.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/measure.h"
#include "base/utf8.h"

#define LINE_BYTES 1024

/* Asked anew at every drawing: terminals are resized. */
static int width_of(FILE *out)
{
	struct winsize w;
	if (ioctl(fileno(out), TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
		return w.ws_col;
	return 80;
}

enum nssm_progress_mode nssm_progress_mode(const char *mode, FILE *out)
{
	const char *term = getenv("TERM");
	bool terminal = isatty(fileno(out)) && term != NULL && strcmp(term, "dumb") != 0;
	if (strcmp(mode, "none") == 0)
		return NSSM_PROGRESS_NONE;
	if (strcmp(mode, "live") == 0 || (strcmp(mode, "auto") == 0 && terminal))
		return NSSM_PROGRESS_LIVE;
	return NSSM_PROGRESS_PLAIN;
}

void nssm_progress_init(struct nssm_progress *p, const char *mode)
{
	*p = (struct nssm_progress){.out = stderr, .start_s = nssm_now_s()};
	p->mode = nssm_progress_mode(mode, p->out);
	p->min_gap_s = p->mode == NSSM_PROGRESS_LIVE ? 0.1 : 10;
	/* A live line is there at once, a plain one after the first gap: short runs stay quiet in a log. */
	p->last_s = p->mode == NSSM_PROGRESS_LIVE ? p->start_s - p->min_gap_s : p->start_s;
}

double nssm_progress_elapsed(const struct nssm_progress *p)
{
	return nssm_now_s() - p->start_s;
}

bool nssm_progress_due(struct nssm_progress *p, bool force)
{
	if (p->mode == NSSM_PROGRESS_NONE)
		return false;
	return force || nssm_now_s() - p->last_s >= p->min_gap_s;
}

/* "[=====>    ] " for lines wide enough. */
static int bar(char *dst, size_t cap, double done, int width)
{
	int cells = width >= 70 ? 20 : width >= 45 ? 10 : 0;
	if (cells == 0) {
		dst[0] = '\0';
		return 0;
	}
	int full = (int)(done * cells);
	char cell[24];
	for (int i = 0; i < cells; i++)
		cell[i] = i < full ? '=' : i == full ? '>' : ' ';
	return snprintf(dst, cap, "[%.*s] ", cells, cell);
}

/* Both ends of the line: what stands before the text and after it. */
static void ends(const struct nssm_progress *p, char head[64], char tail[32], double done, int width)
{
	head[0] = tail[0] = '\0';
	if (!(done >= 0))
		return;
	if (done > 1)
		done = 1;
	int n = p->mode == NSSM_PROGRESS_LIVE ? bar(head, 48, done, width) : 0;
	snprintf(head + n, 64 - (size_t)n, "%3d %%  ", (int)(done * 100));
	double gone = nssm_progress_elapsed(p);
	char eta[16];
	/* The first second says too little about the rest. */
	if (done > 0 && done < 1 && gone >= 1)
		snprintf(tail, 32, "  ETA %s", nssm_hms(eta, gone * (1 - done) / done));
}

void nssm_progress_line(struct nssm_progress *p, double done, const char *fmt, ...)
{
	if (p->mode == NSSM_PROGRESS_NONE)
		return;
	p->last_s = nssm_now_s();
	char text[LINE_BYTES], head[64], tail[32], line[LINE_BYTES + 128], shown[LINE_BYTES];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (p->mode == NSSM_PROGRESS_PLAIN) {
		ends(p, head, tail, done, 0);
		nssm_utf8_show(shown, sizeof shown, text, LINE_BYTES);
		fprintf(p->out, "%s%s%s\n", head, shown, tail);
		fflush(p->out);
		return;
	}
	/* The last column stays empty: many terminals wrap when it is written. */
	int width = width_of(p->out) - 1;
	if (width > 500)
		width = 500;
	ends(p, head, tail, done, width);
	int fixed = (int)(strlen(head) + strlen(tail));
	if (fixed + 10 > width) { /* a text that nobody can read is worth less than none */
		tail[0] = '\0';
		fixed = (int)strlen(head);
	}
	nssm_utf8_show(shown, sizeof shown, text, fixed < width ? width - fixed : 0);
	snprintf(line, sizeof line, "%s%s%s", head, shown, tail);
	char cut[LINE_BYTES];
	int cols = nssm_utf8_show(cut, sizeof cut, line, width > 0 ? width : 0);
	int blank = (p->drawn < width ? p->drawn : width) - cols;
	fprintf(p->out, "\r%s%*s", cut, blank > 0 ? blank : 0, "");
	fflush(p->out);
	p->drawn = cols;
}

void nssm_progress_end(struct nssm_progress *p)
{
	if (p->mode == NSSM_PROGRESS_LIVE && p->drawn > 0)
		fputc('\n', p->out);
	fflush(p->out);
	p->drawn = 0;
}

char *nssm_human(char buf[16], double v)
{
	static const char *const unit[] = {"", " k", " M", " G", " T", " P", " E"};
	double a = fabs(v);
	int u = 0;
	/* 999.5 is where three digits round to 1000. */
	for (; a >= 999.5 && u < 6; u++)
		a /= 1000;
	int decimals = u == 0      ? (a == floor(a)      ? 0
	                                     : a < 9.995 ? 2
	                                     : a < 99.95 ? 1
	                                                 : 0)
	               : a < 9.995 ? 2
	               : a < 99.95 ? 1
	                           : 0;
	if (!isfinite(v) || a >= 1e6)
		snprintf(buf, 16, "%.3g", v);
	else
		snprintf(buf, 16, "%s%.*f%s", v < 0 ? "-" : "", decimals, a, unit[u]);
	return buf;
}

char *nssm_hms(char buf[16], double s)
{
	if (!(s >= 0))
		s = 0;
	if (s > 99999.0 * 3600)
		s = 99999.0 * 3600;
	unsigned t = (unsigned)(s + 0.5), h = t / 3600, m = t / 60 % 60, sec = t % 60;
	if (h > 0)
		snprintf(buf, 16, "%u:%02u:%02u", h, m, sec);
	else
		snprintf(buf, 16, "%u:%02u", m, sec);
	return buf;
}
