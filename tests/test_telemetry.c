/* telemetry: our commands asked over DPDK's own socket, as dpdk-telemetry.py does. Skips where DPDK does not start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "replay/metrics.h"
#include "replay/port.h"
#include "scratch.h"

static void fill(void *ctx, struct nssm_stats *s)
{
	s->elapsed_s = 2;
	s->measuring = *(bool *)ctx;
	s->n_ports = 1;
	memset(s->port[0].name, '\xff', sizeof s->port[0].name);
	s->all.sent = 1000;
	s->all.sent_bytes = 60000;
	s->all.dropped[NSSM_DROP_QUEUE] = INT64_MAX;
	s->all.port_received[0] = 77;
	for (uint64_t i = 1; i <= 100; i++) {
		nssm_hist_add(&s->all.late, i);
		nssm_hist_add(&s->back.latency, 1000 * i);
	}
}

static int fd = -1;

/* The object that a command answers with; a reference to be given back. */
static json_t *ask(const char *cmd)
{
	static char got[65536];
	assert_int_equal(send(fd, cmd, strlen(cmd), 0), strlen(cmd));
	ssize_t n = recv(fd, got, sizeof got, 0);
	assert_true(n > 0);
	json_t *all = json_loadb(got, (size_t)n, 0, NULL);
	assert_non_null(all);
	json_t *o = json_incref(json_object_get(all, cmd));
	json_decref(all);
	return o;
}

static json_int_t number(json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);
	if (!json_is_integer(v))
		fail_msg("no number %s", key);
	return json_integer_value(v);
}

static void commands(void **state)
{
	bool measuring = true;
	struct nssm_err err;
	assert_int_equal(nssm_telemetry_register(fill, &measuring, &err), 0);
	json_t *o = ask("/netssm/stats");
	assert_int_equal(number(o, "packets_sent"), 1000);
	assert_int_equal(number(o, "pps"), 500);
	assert_int_equal(number(o, "bps_l2"), 500 * 64 * 8);
	assert_int_equal(number(o, "measure_lost"), 0);
	assert_true(number(o, "dropped_queue_full") == INT64_MAX);
	size_t n;
	nssm_stats_fields(&n);
	assert_int_equal(json_object_size(o), n + NSSM_DROP_N + 3);
	json_decref(o);
	o = ask("/netssm/lateness");
	assert_int_equal(number(o, "count"), 100);
	assert_in_range(number(o, "p50"), 48, 52);
	assert_int_equal(number(o, "max"), 100);
	assert_in_range(number(o, "latency_p99"), 96000, 100000);
	json_decref(o);
	o = ask("/netssm/ports");
	assert_int_equal(number(o, "port0_received"), 77);
	assert_non_null(json_string_value(json_object_get(o, "port0_name")));
	json_decref(o);
	measuring = false;
	o = ask("/netssm/lateness");
	assert_null(json_object_get(o, "latency_p99"));
	json_decref(o);
	/* The run is over, the process is not. */
	assert_int_equal(nssm_telemetry_register(NULL, NULL, &err), 0);
	o = ask("/netssm/stats");
	assert_int_equal(json_object_size(o), 0);
	json_decref(o);
}

/* EAL's runtime folder: $RUNTIME_DIRECTORY, for root /var/run, else $XDG_RUNTIME_DIR; the first one is ours. */
static int setup(void **state)
{
	if (scratch_open(state) != 0 || setenv("RUNTIME_DIRECTORY", scratch_dir, 1) != 0)
		return -1;
	struct nssm_eal_cfg cfg = {.mem_mb = 64, .telemetry = true, .extra = "--no-huge"};
	struct nssm_err err = {0};
	if (nssm_eal_start(&cfg, &err) != 0) {
		fprintf(stderr, "skipped: %s\n", err.msg);
		exit(77);
	}
	char path[2 * PATH_MAX];
	snprintf(path, sizeof path, "%s/dpdk/netssm-%d/dpdk_telemetry.v2", scratch_dir, (int)getpid());
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof sa.sun_path)
		return -1;
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0) {
		perror(path);
		return -1;
	}
	char hello[1024]; /* version and limits */
	return recv(fd, hello, sizeof hello, 0) > 0 ? 0 : -1;
}

static int teardown(void **state)
{
	close(fd);
	nssm_eal_stop();
	return scratch_close(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(commands)};
	return cmocka_run_group_tests(tests, setup, teardown);
}
