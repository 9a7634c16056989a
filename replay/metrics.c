#include "replay/metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/utf8.h"
#include "version.h"

#define CONTENT_TYPE    "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define CONNECTIONS_MAX 16u
#define TIMEOUT_S       10u

struct nssm_metrics {
	struct MHD_Daemon *daemon;
	uint16_t port;
	nssm_stats_fn *get;
	void *ctx;
	struct nssm_stats now; /* of the library's one thread */
};

/* --- the page --- */

/* A label's value: safe to show, then escaped as OpenMetrics has it. */
static void put_label(FILE *f, const char *name, const char *text, size_t cap)
{
	char copy[128], shown[512];
	snprintf(copy, sizeof copy, "%.*s", (int)cap, text);
	nssm_utf8_show(shown, sizeof shown, copy, sizeof copy);
	fprintf(f, "%s=\"", name);
	for (const char *s = shown; *s != '\0'; s++) {
		if (*s == '"' || *s == '\\')
			fputc('\\', f);
		fputc(*s, f);
	}
	fputc('"', f);
}

/* Exact, and the same in every locale. */
static void put_seconds(FILE *f, uint64_t ns)
{
	fprintf(f, "%" PRIu64 ".%09" PRIu64 "\n", ns / 1000000000u, ns % 1000000000u);
}

static bool ends_in(const char *s, const char *tail)
{
	size_t n = strlen(s), k = strlen(tail);
	return n >= k && strcmp(s + n - k, tail) == 0;
}

static void put_family(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# TYPE netssm_%s %s\n", name, type);
	if (ends_in(name, "_seconds"))
		fprintf(f, "# UNIT netssm_%s seconds\n", name);
	else if (ends_in(name, "_bytes"))
		fprintf(f, "# UNIT netssm_%s bytes\n", name);
	fprintf(f, "# HELP netssm_%s %s.\n", name, help);
}

static void put_fields(FILE *f, const struct nssm_stats *s)
{
	size_t n;
	const struct nssm_stat_field *field = nssm_stats_fields(&n);
	for (size_t i = 0; i < n; i++) {
		if (!s->measuring && strcmp(field[i].group, "measure") == 0)
			continue;
		bool gauge = field[i].kind == NSSM_STAT_GAUGE;
		uint64_t v = nssm_stats_value(s, &field[i]);
		put_family(f, field[i].metric, gauge ? "gauge" : "counter", field[i].help);
		fprintf(f, "netssm_%s%s ", field[i].metric, gauge ? "" : "_total");
		if (field[i].kind == NSSM_STAT_COUNTER_NS)
			put_seconds(f, v);
		else
			fprintf(f, "%" PRIu64 "\n", v);
	}
}

static void put_dropped(FILE *f, const struct nssm_stats *s)
{
	put_family(f, "packets_dropped", "counter", "Packets that were due and did not leave");
	for (int i = 0; i < NSSM_DROP_N; i++)
		fprintf(f, "netssm_packets_dropped_total{reason=\"%s\"} %" PRIu64 "\n", nssm_drop_name(i),
		        s->all.dropped[i]);
}

static void put_gauge(FILE *f, const char *name, const char *help, uint64_t v)
{
	put_family(f, name, "gauge", help);
	fprintf(f, "netssm_%s %" PRIu64 "\n", name, v);
}

static void put_run(FILE *f, const struct nssm_stats *s)
{
	put_family(f, "run", "info", "What is running");
	fputs("netssm_run_info{version=\"" NSSM_VERSION "\",", f);
	put_label(f, "source", s->source, sizeof s->source);
	fputc(',', f);
	put_label(f, "rate", s->rate, sizeof s->rate);
	fputs("} 1\n", f);
	put_family(f, "elapsed_seconds", "gauge", "Time since the start");
	double ns = s->elapsed_s * 1e9;
	fputs("netssm_elapsed_seconds ", f);
	put_seconds(f, ns > 0 && ns < 1e19 ? (uint64_t)ns : 0);
	put_gauge(f, "live", "1 if the wall clock is kept, 0 if time is virtual", s->live);
	put_gauge(f, "paused", "1 while the run is paused", s->paused);
	put_gauge(f, "stopping", "1 once the run was told to stop", s->stopping);
	put_gauge(f, "feed_done", "1 once the source has no more", s->src.done);
	put_gauge(f, "engines", "Threads that send", s->n_engines);
}

static void put_ports(FILE *f, const struct nssm_stats *s)
{
	static const char *const name[][2] = {
	        {"port_packets_sent", "Packets that left by a port"},
	        {"port_sent_bytes", "Bytes that left by a port, without FCS"},
	        {"port_packets_received", "Packets that a port received"},
	        {"port_arp_replies", "ARP requests that a port answered"},
	        {"port_nd_replies", "Neighbour solicitations that a port answered"},
	        {"port_up", "1 while a port's link is up"},
	        {"port_line_rate_bits_per_second", "A port's line rate; 0: unknown"},
	};
	enum { N_COUNTERS = 5 };
	uint32_t n_ports = s->n_ports < NSSM_PORTS_MAX ? s->n_ports : NSSM_PORTS_MAX;
	for (size_t k = 0; k < sizeof name / sizeof name[0] && n_ports > 0; k++) {
		put_family(f, name[k][0], k < N_COUNTERS ? "counter" : "gauge", name[k][1]);
		for (uint32_t i = 0; i < n_ports; i++) {
			uint64_t v[] = {s->all.port_sent[i], s->all.port_bytes[i], s->all.port_received[i],
			        s->port[i].arp_replies, s->port[i].nd_replies, s->port[i].up,
			        s->port[i].line_bps};
			/* The number too: two ports may bear one name. */
			fprintf(f, "netssm_%s%s{port=\"%u\",", name[k][0], k < N_COUNTERS ? "_total" : "", i);
			put_label(f, "device", s->port[i].name, sizeof s->port[i].name);
			fprintf(f, "} %" PRIu64 "\n", v[k]);
		}
	}
}

/* Bounds are powers of two less one: they fall between two buckets of the histogram, so the counts are exact. 23 and +Inf. */
static void put_hist(FILE *f, const char *name, const char *help, const struct nssm_hist *h)
{
	static const uint8_t log2_ns[] = {
	        6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 27, 29, 31};
	put_family(f, name, "histogram", help);
	uint64_t seen = 0;
	uint32_t b = 0;
	for (size_t i = 0; i < sizeof log2_ns; i++) {
		uint64_t above = UINT64_C(1) << log2_ns[i];
		for (; b < NSSM_HIST_BUCKETS && nssm_hist_floor(b) < above; b++)
			seen += h->bucket[b];
		fprintf(f, "netssm_%s_bucket{le=\"%" PRIu64 ".%09" PRIu64 "\"} %" PRIu64 "\n", name,
		        (above - 1) / 1000000000u, (above - 1) % 1000000000u, seen);
	}
	for (; b < NSSM_HIST_BUCKETS; b++)
		seen += h->bucket[b];
	fprintf(f, "netssm_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, seen);
	fprintf(f, "netssm_%s_count %" PRIu64 "\nnetssm_%s_sum ", name, seen, name);
	put_seconds(f, h->sum_ns);
}

char *nssm_metrics_text(const struct nssm_stats *s)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	if (f == NULL)
		return NULL;
	put_run(f, s);
	put_fields(f, s);
	put_dropped(f, s);
	put_hist(f, "late_seconds", "From when a packet was due to when it was handed over", &s->all.late);
	put_ports(f, s);
	if (s->measuring)
		put_hist(f, "latency_seconds", "From sending a packet to its coming back", &s->back.latency);
	fputs("# EOF\n", f);
	bool failed = ferror(f) != 0;
	if (fclose(f) != 0 || failed) {
		free(text);
		return NULL;
	}
	return text;
}

/* --- the server --- */

static enum MHD_Result answer(
        struct MHD_Connection *conn, unsigned status, struct MHD_Response *r, const char *type)
{
	if (r == NULL)
		return MHD_NO;
	enum MHD_Result ok = MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	if (ok == MHD_YES)
		ok = MHD_queue_response(conn, status, r);
	MHD_destroy_response(r);
	return ok;
}

static enum MHD_Result plain(struct MHD_Connection *conn, unsigned status, const char *text)
{
	struct MHD_Response *r =
	        MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_PERSISTENT);
	return answer(conn, status, r, "text/plain; charset=utf-8");
}

static enum MHD_Result serve(void *ctx, struct MHD_Connection *conn, const char *url, const char *method,
        const char *version, const char *upload, size_t *upload_len, void **seen)
{
	struct nssm_metrics *m = ctx;
	/* The first call shows the header only; what is uploaded is thrown away. */
	if (*seen == NULL) {
		*seen = m;
		return MHD_YES;
	}
	if (*upload_len > 0) {
		*upload_len = 0;
		return MHD_YES;
	}
	bool get = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
	if (!get || strcmp(url, "/metrics") != 0)
		return plain(conn, MHD_HTTP_NOT_FOUND, "Only GET /metrics is here.\n");
	memset(&m->now, 0, sizeof m->now);
	m->get(m->ctx, &m->now);
	char *text = nssm_metrics_text(&m->now);
	if (text == NULL)
		return plain(conn, MHD_HTTP_INTERNAL_SERVER_ERROR, "Out of memory.\n");
	struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
	if (r == NULL)
		free(text);
	return answer(conn, MHD_HTTP_OK, r, CONTENT_TYPE);
}

static int listen_on(uint16_t *port, struct nssm_err *err)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), yes = 1;
	if (fd < 0)
		return nssm_err_set(err, NSSM_EIO, "metrics: cannot make a socket: %s", strerror(errno));
	/* A run right after another one must not wait for that one's connections to time out. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	struct sockaddr_in sa = {
	        .sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof sa;
	if (bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0 || listen(fd, CONNECTIONS_MAX) != 0 ||
	        getsockname(fd, (struct sockaddr *)&sa, &len) != 0) {
		int e = errno;
		close(fd);
		return nssm_err_set(err, NSSM_EIO, "metrics: cannot listen on 127.0.0.1 port %u: %s%s", *port,
		        strerror(e), e == EADDRINUSE ? "; choose another port, or 0 for any" : "");
	}
	*port = ntohs(sa.sin_port);
	return fd;
}

int nssm_metrics_open(
        struct nssm_metrics **mp, uint16_t port, nssm_stats_fn *get, void *ctx, struct nssm_err *err)
{
	*mp = NULL;
	struct nssm_metrics *m = calloc(1, sizeof *m);
	if (m == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "metrics: no memory");
	m->port = port;
	m->get = get;
	m->ctx = ctx;
	int fd = listen_on(&m->port, err);
	if (fd < 0) {
		free(m);
		return fd;
	}
	/* Signals are the main thread's. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	m->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL,
	        NULL, serve, m, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
	        MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_S, MHD_OPTION_END);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (m->daemon == NULL) {
		free(m); /* and fd is the library's, which does not say whether it closed it */
		return nssm_err_set(
		        err, NSSM_EIO, "metrics: the web server on 127.0.0.1 port %u does not start", port);
	}
	*mp = m;
	return 0;
}

uint16_t nssm_metrics_port(const struct nssm_metrics *m)
{
	return m->port;
}

void nssm_metrics_close(struct nssm_metrics **mp)
{
	if (*mp == NULL)
		return;
	MHD_stop_daemon((*mp)->daemon);
	free(*mp);
	*mp = NULL;
}
