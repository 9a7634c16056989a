/* metrics: the page's text, and the server that gives it out.
 * usage: test_metrics [--serve]: serves made-up figures until standard input ends, for metrics.py; prints the port first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "replay/metrics.h"

static void fill(void *ctx, struct nssm_stats *s)
{
	unsigned *calls = ctx;
	(*calls)++;
	s->elapsed_s = 12.5;
	s->live = s->measuring = true;
	s->n_ports = 2;
	s->n_engines = 1;
	strcpy(s->rate, "100 kpps");
	strcpy(s->source, "a \"quoted\\\" name\nof caf\xc3\xa9 \xff");
	strcpy(s->port[0].name, "veth0");
	strcpy(s->port[1].name, "veth0");
	s->port[0].up = true;
	size_t n;
	const struct nssm_stat_field *f = nssm_stats_fields(&n);
	for (size_t i = 0; i < n; i++) {
		uint64_t v = 1500000000 + i;
		memcpy((char *)s + f[i].offset, &v, sizeof v);
	}
	s->all.sent = *calls;
	s->all.dropped[NSSM_DROP_LINK] = 7;
	s->all.port_bytes[1] = UINT64_MAX;
	for (uint64_t ns = 1; ns <= 5000000000; ns *= 2)
		nssm_hist_add(&s->all.late, ns - 1);
}

static bool has_line(const char *text, const char *line)
{
	size_t n = strlen(line);
	for (const char *s = text; (s = strstr(s, line)) != NULL; s += n)
		if ((s == text || s[-1] == '\n') && s[n] == '\n')
			return true;
	return false;
}

static void page(void **state)
{
	static struct nssm_stats s;
	memset(&s, 0, sizeof s);
	unsigned calls = 0;
	fill(&calls, &s);
	char *text = nssm_metrics_text(&s);
	assert_non_null(text);
	static const char *const want[] = {
	        "# TYPE netssm_packets_sent counter",
	        "# HELP netssm_packets_sent Packets that left.",
	        "netssm_packets_sent_total 1",
	        "netssm_packets_dropped_total{reason=\"queue_full\"} 0",
	        "netssm_packets_dropped_total{reason=\"link_down\"} 7",
	        "# UNIT netssm_starved_seconds seconds",
	        "netssm_elapsed_seconds 12.500000000",
	        "netssm_live 1",
	        "netssm_paused 0",
	        "netssm_port_up{port=\"0\",device=\"veth0\"} 1",
	        "netssm_port_up{port=\"1\",device=\"veth0\"} 0",
	        "netssm_port_sent_bytes_total{port=\"1\",device=\"veth0\"} 18446744073709551615",
	        /* 0, 1, 3, … 2^k-1: each on its bound. */
	        "netssm_late_seconds_bucket{le=\"0.000000063\"} 7",
	        "netssm_late_seconds_bucket{le=\"0.000001023\"} 11",
	        "netssm_late_seconds_bucket{le=\"2.147483647\"} 32",
	        "netssm_late_seconds_bucket{le=\"+Inf\"} 33",
	        "netssm_late_seconds_count 33",
	        "netssm_late_seconds_sum 8.589934558",
	        "netssm_latency_seconds_count 0",
	        "# UNIT netssm_latency_seconds seconds",
	};
	for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
		if (!has_line(text, want[i]))
			fail_msg("no line \"%s\"", want[i]);
	assert_non_null(strstr(
	        text, ",source=\"a \\\"quoted\\\\\\\" name of caf\xc3\xa9 ?\",rate=\"100 kpps\"} 1\n"));
	size_t n = strlen(text);
	assert_string_equal(text + n - 7, "\n# EOF\n");
	int buckets = 0;
	for (const char *b = text; (b = strstr(b, "netssm_late_seconds_bucket")) != NULL; b++)
		buckets++;
	assert_in_range(buckets, 1, 24);
	free(text);

	/* A run without ports that measures nothing, and has not begun. */
	memset(&s, 0, sizeof s);
	s.elapsed_s = NAN;
	text = nssm_metrics_text(&s);
	assert_true(has_line(text, "netssm_elapsed_seconds 0.000000000"));
	assert_null(strstr(text, "returned"));
	assert_null(strstr(text, "netssm_port_"));
	assert_null(strstr(text, "nan"));
	free(text);
	memset(&s, 0xff, sizeof s);
	s.live = s.paused = s.stopping = s.measuring = s.src.done = s.port[0].up = s.port[1].up = true;
	s.elapsed_s = INFINITY;
	text = nssm_metrics_text(&s);
	assert_non_null(text);
	assert_null(strchr(text, '\xff'));
	free(text);
}

static int connect_to(uint32_t addr, uint16_t port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in sa = {
	        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(addr)};
	assert_true(fd >= 0);
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
		return fd;
	close(fd);
	return -1;
}

static int n_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void server(void **state)
{
	int fds = n_fds();
	struct nssm_metrics *m, *second;
	struct nssm_err err;
	unsigned calls = 0;
	assert_int_equal(nssm_metrics_open(&m, 0, fill, &calls, &err), 0);
	uint16_t port = nssm_metrics_port(m);
	assert_int_not_equal(port, 0);
	int fd = connect_to(INADDR_LOOPBACK, port);
	assert_true(fd >= 0);
	/* Nobody else's address: 127.0.0.2 is this machine too. */
	assert_int_equal(connect_to(INADDR_LOOPBACK + 1, port), -1);
	static const char ask[] = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
	assert_int_equal(send(fd, ask, sizeof ask - 1, 0), sizeof ask - 1);
	char got[65536];
	size_t n = 0;
	ssize_t k;
	while ((k = recv(fd, got + n, sizeof got - 1 - n, 0)) > 0)
		n += (size_t)k;
	got[n] = '\0';
	close(fd);
	assert_memory_equal(got, "HTTP/1.1 200 ", 13);
	assert_non_null(
	        strstr(got, "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
	assert_string_equal(got + n - 7, "\n# EOF\n");
	assert_int_equal(calls, 1);

	assert_int_equal(nssm_metrics_open(&second, port, fill, &calls, &err), NSSM_EIO);
	assert_null(second);
	char where[64];
	snprintf(where, sizeof where, "127.0.0.1 port %u: Address already in use", port);
	assert_non_null(strstr(err.msg, where));

	/* A connection that is open and says nothing does not hold the end up; the port is free again. */
	fd = connect_to(INADDR_LOOPBACK, port);
	nssm_metrics_close(&m);
	assert_null(m);
	close(fd);
	assert_int_equal(connect_to(INADDR_LOOPBACK, port), -1);
	assert_int_equal(nssm_metrics_open(&m, port, fill, &calls, &err), 0);
	nssm_metrics_close(&m);
	nssm_metrics_close(&m);
	assert_int_equal(n_fds(), fds);
}

static int serve(void)
{
	struct nssm_metrics *m;
	struct nssm_err err;
	unsigned calls = 0;
	if (nssm_metrics_open(&m, 0, fill, &calls, &err) != 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	printf("%u\n", nssm_metrics_port(m));
	fflush(stdout);
	while (getchar() != EOF)
		;
	nssm_metrics_close(&m);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--serve") == 0)
		return serve();
	const struct CMUnitTest tests[] = {cmocka_unit_test(page), cmocka_unit_test(server)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
