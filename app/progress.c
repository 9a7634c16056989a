#include "app/progress.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/measure.h"

#define LINE_BYTES 1024

/* Asked anew at every drawing: terminals are resized. */
static int width_of(FILE *out)
{
	struct winsize w;
	if (ioctl(fileno(out), TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
		return w.ws_col;
	return 80;
}

/* Length of the UTF-8 character at s, 0 if it is none. */
static int utf8_char(uint32_t *cp, const unsigned char *s)
{
	if (s[0] < 0x80) {
		*cp = s[0];
		return 1;
	}
	int n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	*cp = s[0] & (0xffu >> (n + 1));
	for (int i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		*cp = *cp << 6 | (s[i] & 0x3f);
	}
	bool overlong = (n == 3 && *cp < 0x800) || (n == 4 && *cp < 0x10000);
	return overlong || *cp > 0x10ffff || (*cp >= 0xd800 && *cp < 0xe000) ? 0 : n;
}

/* Columns of a character. wcwidth would need a locale; the wide blocks of Unicode's EastAsianWidth are enough
 * here, and calling a narrow one wide only cuts a line a little early. */
static int char_columns(uint32_t c)
{
	static const uint32_t wide[][2] = {{0x1100, 0x115f}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3},
	        {0xf900, 0xfaff}, {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1faff},
	        {0x20000, 0x3fffd}};
	for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
		if (c >= wide[i][0] && c <= wide[i][1])
			return 2;
	return c >= 0x300 && c < 0x370 ? 0 : 1;
}

/* Copies text that is safe to show: whole characters, at most max_cols columns (… where it was cut), neither
 * control characters nor broken UTF-8. Returns the columns. */
static int show(char *dst, size_t cap, const char *text, int max_cols)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t n = 0, n_cut = 0; /* n_cut: where the … goes if not all fits */
	int cols = 0, cut_cols = 0;
	while (*s != '\0') {
		uint32_t cp = 0;
		int k = utf8_char(&cp, s);
		bool plain = k > 0 && cp >= 0x20 && (cp < 0x7f || cp >= 0xa0);
		int w = plain ? char_columns(cp) : 1;
		if (cols + w > max_cols || n + 4 + sizeof "…" > cap) {
			n = n_cut;
			cols = cut_cols;
			if (cols < max_cols) {
				memcpy(dst + n, "…", sizeof "…" - 1);
				n += sizeof "…" - 1;
				cols++;
			}
			break;
		}
		if (plain)
			memcpy(dst + n, s, (size_t)k);
		else
			dst[n] = k > 0 ? ' ' : '?';
		n += plain ? (size_t)k : 1;
		s += k > 0 ? k : 1;
		cols += w;
		if (cols < max_cols) {
			n_cut = n;
			cut_cols = cols;
		}
	}
	dst[n] = '\0';
	return cols;
}

void nssm_progress_init(struct nssm_progress *p, const char *mode)
{
	*p = (struct nssm_progress){.out = stderr, .start_s = nssm_now_s()};
	const char *term = getenv("TERM");
	bool terminal = isatty(STDERR_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
	if (strcmp(mode, "none") == 0)
		p->mode = NSSM_PROGRESS_NONE;
	else if (strcmp(mode, "live") == 0 || (strcmp(mode, "auto") == 0 && terminal))
		p->mode = NSSM_PROGRESS_LIVE;
	else
		p->mode = NSSM_PROGRESS_PLAIN;
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
		show(shown, sizeof shown, text, LINE_BYTES);
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
	show(shown, sizeof shown, text, fixed < width ? width - fixed : 0);
	snprintf(line, sizeof line, "%s%s%s", head, shown, tail);
	char cut[LINE_BYTES];
	int cols = show(cut, sizeof cut, line, width > 0 ? width : 0);
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
