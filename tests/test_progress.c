/* progress: numbers as text, plain lines into a pipe, and the live line on a pseudo-terminal of every width.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "app/progress.h"

static void human(void **state)
{
	static const struct {
		double v;
		const char *text;
	} want[] = {{0, "0"}, {7, "7"}, {999, "999"}, {1000, "1.00 k"}, {1234567, "1.23 M"},
	        {12345678, "12.3 M"}, {123456789, "123 M"}, {999499, "999 k"}, {999999, "1.00 M"},
	        {9995, "10.0 k"}, {0.5, "0.50"}, {12.34, "12.3"}, {-1500, "-1.50 k"}, {1e18, "1.00 E"},
	        {1e300, "1e+300"}, {-1e300, "-1e+300"}, {INFINITY, "inf"}, {999.7, "1.00 k"}};
	char buf[16];
	for (size_t i = 0; i < sizeof want / sizeof *want; i++)
		assert_string_equal(nssm_human(buf, want[i].v), want[i].text);
	assert_non_null(strstr(nssm_human(buf, NAN), "nan"));
}

static void hms(void **state)
{
	char buf[16];
	assert_string_equal(nssm_hms(buf, 0), "0:00");
	assert_string_equal(nssm_hms(buf, 123), "2:03");
	assert_string_equal(nssm_hms(buf, 59.6), "1:00");
	assert_string_equal(nssm_hms(buf, 3723), "1:02:03");
	assert_string_equal(nssm_hms(buf, 90000), "25:00:00");
	assert_string_equal(nssm_hms(buf, 1e300), "99999:00:00");
	assert_string_equal(nssm_hms(buf, -5), "0:00");
	assert_string_equal(nssm_hms(buf, NAN), "0:00");
}

/* Runs draw with standard error on a pipe or terminal and gives back what arrived there. */
struct captured {
	char text[65536];
	size_t n;
};

static void drain(struct captured *c, int fd)
{
	ssize_t k;
	while (c->n < sizeof c->text - 1 && (k = read(fd, c->text + c->n, sizeof c->text - 1 - c->n)) > 0)
		c->n += (size_t)k;
	c->text[c->n] = '\0';
}

static void nonblocking(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static void modes(void **state)
{
	struct nssm_progress p;
	nssm_progress_init(&p, "none");
	assert_int_equal(p.mode, NSSM_PROGRESS_NONE);
	assert_false(nssm_progress_due(&p, true));
	nssm_progress_init(&p, "plain");
	assert_int_equal(p.mode, NSSM_PROGRESS_PLAIN);
	assert_true(p.out == stderr && p.min_gap_s == 10);
	assert_false(nssm_progress_due(&p, false)); /* a short run stays quiet */
	assert_true(nssm_progress_due(&p, true));
	p.last_s -= 11;
	assert_true(nssm_progress_due(&p, false));
	nssm_progress_init(&p, "live");
	assert_int_equal(p.mode, NSSM_PROGRESS_LIVE);
	assert_true(nssm_progress_due(&p, false)); /* there at once */
	/* auto looks at standard error. */
	int saved = dup(STDERR_FILENO), ends[2], master, slave;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	assert_int_equal(setenv("TERM", "xterm", 1), 0);
	dup2(ends[1], STDERR_FILENO);
	nssm_progress_init(&p, "auto");
	enum nssm_progress_mode on_pipe = p.mode;
	dup2(slave, STDERR_FILENO);
	nssm_progress_init(&p, "auto");
	enum nssm_progress_mode on_terminal = p.mode;
	setenv("TERM", "dumb", 1);
	nssm_progress_init(&p, "auto");
	enum nssm_progress_mode on_dumb = p.mode;
	dup2(saved, STDERR_FILENO);
	assert_int_equal(on_pipe, NSSM_PROGRESS_PLAIN);
	assert_int_equal(on_terminal, NSSM_PROGRESS_LIVE);
	assert_int_equal(on_dumb, NSSM_PROGRESS_PLAIN);
	close(saved);
	close(ends[0]);
	close(ends[1]);
	close(master);
	close(slave);
}

static void plain(void **state)
{
	struct nssm_progress p;
	struct captured c = {.n = 0};
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	nonblocking(ends[0]);
	nssm_progress_init(&p, "plain");
	p.out = fdopen(ends[1], "w");
	nssm_progress_line(&p, 0.42, "step %d", 7);
	nssm_progress_line(&p, -1, "label %s\nnext\033[31m", "caf\xc3\xa9 \xff");
	p.start_s -= 100;
	nssm_progress_line(&p, 0.5, "half");
	nssm_progress_line(&p, 7, "done");
	nssm_progress_line(&p, NAN, "unknown");
	nssm_progress_end(&p);
	drain(&c, ends[0]);
	assert_string_equal(c.text, " 42 %  step 7\nlabel caf\xc3\xa9 ? next [31m\n 50 %  half  ETA "
	                            "1:40\n100 %  done\nunknown\n");
	fclose(p.out);
	close(ends[0]);
}

/* Columns of one drawing: bytes that do not continue a character, the two wide ones of this test counted
 * twice. Fails on what is no whole character. */
static int columns(const char *s, size_t n)
{
	int cols = 0;
	for (size_t i = 0; i < n;) {
		unsigned char b = (unsigned char)s[i];
		int k = b < 0x80 ? 1 : b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : 2;
		assert_true(b < 0x80 || b >= 0xc2);
		assert_true(b >= 0x20);
		assert_true(i + (size_t)k <= n);
		for (int j = 1; j < k; j++)
			assert_true(((unsigned char)s[i + (size_t)j] & 0xc0) == 0x80);
		bool wide = k == 3 && memcmp(s + i, "漢", 3) == 0;
		cols += wide ? 2 : 1;
		i += (size_t)k;
	}
	return cols;
}

static void live(void **state)
{
	static const char *const text[] = {"short",
	        "a text that is too long for any narrow terminal, and says nothing",
	        "üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüü",
	        "漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢", "x\xff\xc3(\xe6\xbc",
	        "tab\tnew\nline\033[2J"};
	int master, slave;
	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	nonblocking(master);
	struct nssm_progress p;
	nssm_progress_init(&p, "live");
	p.out = fdopen(slave, "w");
	p.start_s -= 1000;
	for (int width = 130; width >= 1; width--) {
		struct winsize w = {.ws_col = (unsigned short)width, .ws_row = 24};
		assert_int_equal(ioctl(slave, TIOCSWINSZ, &w), 0);
		for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
			struct captured c = {.n = 0};
			nssm_progress_line(&p, i == 0 ? -1 : (double)i / 6, "%s", text[i]);
			drain(&c, master);
			assert_true(c.n >= 1 && c.text[0] == '\r');
			assert_true(columns(c.text + 1, c.n - 1) < width || (width == 1 && c.n == 1));
			if (width == 130 && i == 1)
				assert_non_null(strstr(c.text,
				        "[===>                ]  16 %  a text that is too long for any "
				        "narrow terminal, and says nothing  ETA "));
			if (width == 60 && i == 1) {
				assert_non_null(strstr(c.text, "[=>        ]  16 %  a text"));
				/* 1:23:20, and five seconds more for each that this test has taken. */
				assert_non_null(strstr(c.text, "…  ETA 1:2"));
			}
		}
	}
	fclose(p.out);
	close(master);
}

/* A shorter text leaves nothing of a longer one, and the end gives a line of its own to what follows. */
static void erased(void **state)
{
	int master, slave;
	struct captured c = {.n = 0};
	struct winsize w = {.ws_col = 40, .ws_row = 24};
	assert_int_equal(openpty(&master, &slave, NULL, NULL, &w), 0);
	nonblocking(master);
	struct nssm_progress p;
	nssm_progress_init(&p, "live");
	p.out = fdopen(slave, "w");
	nssm_progress_line(&p, -1, "1234567890");
	nssm_progress_line(&p, -1, "abc");
	nssm_progress_line(&p, -1, "ab");
	nssm_progress_end(&p);
	nssm_progress_end(&p);
	drain(&c, master);
	assert_string_equal(c.text, "\r1234567890\rabc       \rab \r\n");
	fclose(p.out);
	close(master);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(human), cmocka_unit_test(hms),
	        cmocka_unit_test(modes), cmocka_unit_test(plain), cmocka_unit_test(live),
	        cmocka_unit_test(erased)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
