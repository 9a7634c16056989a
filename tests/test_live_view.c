/* live_view: what it shows at every size, with figures of every kind, and how it gets there on a pseudo-terminal.
 * usage: test_live_view [--show SECONDS [MODE]]: a made-up run, to look at */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <fcntl.h>
#include <math.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "app/live_view.h"
#include "base/utf8.h"

static struct nssm_stats now, before;
static char text[NSSM_VIEW_BYTES];

/* t seconds of a run at 100 kpps. */
static void typical(struct nssm_stats *s, double t)
{
	memset(s, 0, sizeof *s);
	uint64_t n = (uint64_t)(t * 100000);
	s->elapsed_s = t;
	s->live = s->measuring = true;
	s->n_ports = 2;
	s->n_engines = 2;
	strcpy(s->rate, "100 kpps");
	strcpy(s->source, "a.pcap and 3 more");
	strcpy(s->port[0].name, "af_packet:veth0");
	strcpy(s->port[1].name, "af_packet:veth1");
	s->port[0].up = true;
	s->all = (struct nssm_counters){
	        .made = n,
	        .sent = n - 1020,
	        .dropped = {[NSSM_DROP_QUEUE] = 1000, [NSSM_DROP_LINK] = 12},
	        .sent_bytes = (n - 1020) * 511,
	        .port_sent = {n / 2, n / 2 - 1020},
	        .port_bytes = {n / 2 * 511, (n / 2 - 1020) * 511},
	        .port_received = {n / 2 - 2000, n / 2},
	        .sessions_begun = 210,
	        .sessions_done = 180,
	        .session_packets = n / 50,
	        .session_flows = 1234,
	        .flows_begun = 61700,
	        .clones_begun = 10000,
	        .clones_alive = 1234,
	        .clones_done = 8766,
	        .clones_waiting = 3,
	        .starved = 12,
	        .starved_ns = 1500000000,
	        .ring_used = 460,
	        .ring_size = 1024,
	        .arena_used = 90000000,
	        .arena_bytes = 268435456,
	        .bank_sessions = 180,
	        .bank_bytes = 12000000,
	};
	s->src = (struct nssm_source_counters){
	        .tokens = n * 10, .packets = n / 50, .rejected = 35, .waits = 40, .waits_ns = 2300000000};
	s->back = (struct nssm_measure_counters){
	        .matched = n - 2000, .lost = 1000, .duplicate = 4, .reordered = 17};
	for (uint64_t i = 1; i <= 1000; i++) {
		nssm_hist_add(&s->all.late, i < 990 ? 80 : 3100 * (i - 989));
		nssm_hist_add(&s->back.latency, 12000 + i * 31);
	}
}

/* clang-format off */
static const char WANT[] =
        "netssm replay  a.pcap and 3 more                                           0:12\n"
        "rate       100 kpps  2 engines\n"
        "\n"
        "packets    now 100 kpps      average 99.9 kpps      sent 1.20 M\n"
        "bits (L2)  now 412 Mbps      average 412 Mbps       sent 613 MB\n"
        "port 0     up    50.0 kpps  206 Mbps   sent 600 k  recv 598 k  af_packet:veth0\n"
        "port 1     DOWN  50.0 kpps  206 Mbps   sent 599 k  recv 600 k  af_packet:veth1\n"
        "dropped    1.01 k  queue_full 1.00 k  link_down 12\n"
        "late       p50 80 ns    p99 3.10 µs  max 34.1 µs  now p50 0 ns     p99 0 ns\n"
        "came back  lost 1.00 k (0.0834 %)    matched 1.20 M  reordered 17      dup 4\n"
        "latency    p50 27.4 µs   p99 42.5 µs   p99.9 42.5 µs   max 43.0 µs\n"
        "\n"
        "sessions   begun 210     done 180      flows 61.7 k  without clones 1.23 k\n"
        "clones     alive 1.23 k  done 8.77 k   wait 3        factor 50.0\n"
        "generator  1.00 M tokens/s   2.00 k packets/s       made 24.0 k  rejected 35\n"
        "ring       [========            ] 44 %  starved 12       source waited 2.30 s\n"
        "arena      [======              ] 33 %  of 268 MB   bank 180 sessions\n"
        "balance    made 1.20 M = sent 1.20 M + dropped 1.01 k + in hand 8\n"
        "\n"
        "^C drains, again stops at once\n";
/* clang-format on */

static void picture(void **state)
{
	typical(&before, 11);
	typical(&now, 12);
	int n = nssm_view_render(text, sizeof text, "netssm replay", &now, &before, 1, 80, 24);
	assert_string_equal(text, WANT);
	assert_true(n <= 23);
}

/* Columns of the first n bytes, which must be whole characters that show. */
static int columns(const char *s, size_t n)
{
	int cols = 0;
	for (size_t i = 0; i < n;) {
		uint32_t cp;
		int k = nssm_utf8_char(&cp, s + i);
		assert_true(k > 0 && cp >= 0x20 && cp != 0x7f);
		cols += nssm_utf8_columns(cp);
		i += (size_t)k;
	}
	return cols;
}

static void check(int n, int cols, int rows)
{
	int lines = 0;
	for (const char *s = text; *s != '\0'; lines++) {
		size_t len = strcspn(s, "\n");
		assert_int_equal(s[len], '\n');
		int width = columns(s, len);
		if (width > (cols > 1 ? cols - 1 : 0))
			fail_msg("%d columns of %d: %.*s", width, cols, (int)len, s);
		s += len + 1;
	}
	assert_int_equal(lines, n);
	assert_true(n >= 1 && n <= (rows > 2 ? rows - 1 : 1));
	assert_null(strstr(text, "nan"));
	assert_null(strstr(text, "inf"));
	for (const char *s = text; (s = strchr(s, '-')) != NULL; s++)
		assert_false(isdigit((unsigned char)s[1]));
}

static void sizes(void **state)
{
	static const double elapsed[] = {0, NAN, INFINITY, -1, 1e300, 12};
	static const double window[] = {1, 0, NAN, -1, 1e-300};
	for (int kind = 0; kind < 6; kind++) {
		if (kind == 0) {
			typical(&before, 11);
			typical(&now, 12);
		} else if (kind == 1) { /* counters that seem to go back */
			typical(&before, 12);
			typical(&now, 11);
		} else {
			memset(&now, kind < 4 ? 0xff : 0, sizeof now);
			memset(&before, kind % 2 ? 0xff : 0, sizeof before);
			now.live = now.paused = now.stopping = now.measuring = now.src.done = kind != 4;
			now.port[0].up = now.port[1].up = false;
			now.n_ports = kind < 4 ? UINT32_MAX : 0;
			now.elapsed_s = elapsed[kind];
		}
		if (kind == 5)
			memcpy(now.source, "漢漢漢漢漢漢漢漢漢漢\033[2J\xff\n", 36);
		for (int cols = 1; cols <= 200; cols += cols < 100 ? 1 : 13)
			for (int rows = 1; rows <= 30; rows += rows < 26 ? 1 : 4)
				check(nssm_view_render(text, sizeof text, "netssm replay", &now,
				              kind == 3 ? NULL : &before, window[(cols + rows) % 5], cols,
				              rows),
				        cols, rows);
		nssm_view_plain(text, sizeof text, &now, &before, 1);
		strcat(text, "\n");
		check(1, 501, 3);
	}
	typical(&now, 12);
	check(nssm_view_render(text, sizeof text, "t", &now, NULL, 0, 100000, 100000), 501, 100);
	char tiny[40]; /* what does not fit is left out, not cut */
	int n = nssm_view_render(tiny, sizeof tiny, "t", &now, NULL, 0, 20, 24);
	assert_true(n >= 1 && strlen(tiny) < sizeof tiny && tiny[strlen(tiny) - 1] == '\n');
}

/* What stays when room is short. */
static void ranks(void **state)
{
	typical(&before, 11);
	typical(&now, 12);
	nssm_view_render(text, sizeof text, "netssm replay", &now, &before, 1, 80, 6);
	assert_non_null(strstr(text, "netssm replay"));
	assert_non_null(strstr(text, "now 100 kpps"));
	assert_non_null(strstr(text, "now 412 Mbps"));
	assert_non_null(strstr(text, "queue_full 1.00 k"));
	assert_non_null(strstr(text, "lost 1.00 k"));
	assert_null(strstr(text, "arena"));
	nssm_view_render(text, sizeof text, "netssm replay", &now, &before, 1, 30, 2);
	assert_string_equal(text, "netssm replay  a.pcap …  0:12\n");
	now.paused = true;
	now.measuring = now.live = false;
	nssm_view_render(text, sizeof text, "netssm replay", &now, &before, 1, 80, 24);
	assert_non_null(strstr(text, "PAUSED  virtual time"));
	assert_null(strstr(text, "late"));
	assert_null(strstr(text, "lost"));
}

static void plain_line(void **state)
{
	typical(&before, 2);
	typical(&now, 12);
	nssm_view_plain(text, sizeof text, &now, &before, 10);
	assert_string_equal(text,
	        "[0:12]  100 kpps  412 Mbps  sent 1.20 M  flows 61.7 k  dropped 1.01 k  late p50 0 ns  p99 0 ns  "
	        "1.00 M tokens/s  "
	        "ring 44 %  clones 1.23 k  lost 1.00 k (0.0834 %)");
}

/* --- drawing --- */

struct captured {
	char text[1 << 20];
	size_t n;
};

static void drain(struct captured *c, int fd)
{
	ssize_t k;
	c->n = 0;
	while (c->n < sizeof c->text - 1 && (k = read(fd, c->text + c->n, sizeof c->text - 1 - c->n)) > 0)
		c->n += (size_t)k;
	c->text[c->n] = '\0';
}

static int count(const char *s, const char *part)
{
	int n = 0;
	for (; (s = strstr(s, part)) != NULL; s++)
		n++;
	return n;
}

static void terminal(void **state)
{
	static struct captured c;
	int master, slave;
	struct winsize size = {.ws_col = 80, .ws_row = 24};
	assert_int_equal(openpty(&master, &slave, NULL, NULL, &size), 0);
	assert_int_equal(fcntl(master, F_SETFL, O_NONBLOCK), 0);
	setenv("TERM", "xterm", 1);
	FILE *out = fdopen(slave, "w");
	struct nssm_view *v;
	assert_true(nssm_view_open(&v, out, "auto", "netssm replay"));
	assert_true(nssm_view_due(v));
	typical(&now, 11);
	nssm_view_draw(v, &now);
	drain(&c, master);
	int lines = count(c.text, "\033[K\r\n");
	assert_in_range(lines, 15, 23);
	assert_null(strstr(c.text, "A\r"));
	assert_null(strstr(c.text, "\033[?")); /* no mode is changed that a kill would leave changed */
	/* In place. */
	typical(&now, 12);
	nssm_view_draw(v, &now);
	drain(&c, master);
	char up[16];
	snprintf(up, sizeof up, "\033[%dA\r", lines);
	assert_memory_equal(c.text, up, strlen(up));
	assert_int_equal(count(c.text, "\033[K\r\n"), lines);
	assert_memory_equal(c.text + c.n - 3, "\033[J", 3);
	/* Another size: from the top of an empty screen. */
	size.ws_row = 5;
	assert_int_equal(ioctl(slave, TIOCSWINSZ, &size), 0);
	nssm_view_draw(v, &now);
	drain(&c, master);
	assert_memory_equal(c.text, "\033[H\033[J", 6);
	assert_int_equal(count(c.text, "\033[K\r\n"), 4);
	usleep(300000);
	assert_true(nssm_view_due(v));
	nssm_view_close(&v);
	assert_null(v);
	nssm_view_close(&v);
	drain(&c, master);
	assert_int_equal(c.n, 0);
	fclose(out);
	close(master);
}

static void elsewhere(void **state)
{
	static struct captured c;
	int ends[2];
	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	FILE *out = fdopen(ends[1], "w");
	struct nssm_view *v;
	typical(&now, 12);
	assert_true(nssm_view_open(&v, out, "auto", "netssm replay"));
	assert_false(nssm_view_due(v)); /* a short run stays quiet */
	nssm_view_draw(v, &now);
	nssm_view_draw(v, &now);
	nssm_view_close(&v);
	drain(&c, ends[0]);
	assert_int_equal(count(c.text, "\n"), 2);
	assert_memory_equal(c.text, "[0:12]  99.9 kpps", 17);
	assert_null(strchr(c.text, '\033'));
	/* Between the two nothing was sent. */
	assert_non_null(strstr(c.text, "\n[0:12]  0 pps  0 bps  sent 1.20 M"));
	assert_true(nssm_view_open(&v, out, "none", "netssm replay"));
	assert_false(nssm_view_due(v));
	nssm_view_draw(v, &now);
	nssm_view_close(&v);
	drain(&c, ends[0]);
	assert_int_equal(c.n, 0);
	fclose(out);
	close(ends[0]);
}

static int show(double seconds, const char *mode)
{
	struct nssm_view *v;
	if (!nssm_view_open(&v, stderr, mode, "netssm replay"))
		return 1;
	for (double t = 0; t < seconds; t += 0.05) {
		typical(&now, 1 + t);
		for (int i = 0; i < (int)(t * 1000); i++)
			nssm_hist_add(&now.all.late, (uint64_t)(100 + i % 1000));
		if (nssm_view_due(v))
			nssm_view_draw(v, &now);
		usleep(50000);
	}
	now.stopping = true;
	nssm_view_draw(v, &now);
	nssm_view_close(&v);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 3 && strcmp(argv[1], "--show") == 0)
		return show(atof(argv[2]), argc > 3 ? argv[3] : "auto");
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(picture),
	        cmocka_unit_test(sizes),
	        cmocka_unit_test(ranks),
	        cmocka_unit_test(plain_line),
	        cmocka_unit_test(terminal),
	        cmocka_unit_test(elsewhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
