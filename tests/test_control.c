/* control: each command, the socket's file, and clients that mean no good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/measure.h"
#include "base/philox.h"
#include "replay/control.h"
#include "scratch.h"

struct run {
	pthread_mutex_t lock;
	int n[NSSM_CONTROL_STOP_NOW + 1];
	struct nssm_rate rate;
	int fail;
};

static int handle(void *ctx, enum nssm_control_what what, const struct nssm_rate *rate, struct nssm_err *err)
{
	struct run *r = ctx;
	pthread_mutex_lock(&r->lock);
	r->n[what]++;
	int fail = r->fail;
	if ((rate != NULL) != (what == NSSM_CONTROL_RATE))
		fail = NSSM_EUNSUP;
	if (rate != NULL)
		r->rate = *rate;
	pthread_mutex_unlock(&r->lock);
	return fail != 0 ? nssm_err_set(err, fail, "not \"now\" \xff") : 0;
}

static void stats(void *ctx, struct nssm_stats *s)
{
	s->all.made = 42;
	s->elapsed_s = 1.5;
}

static struct nssm_control *start(struct run *r, const char *path)
{
	*r = (struct run){.lock = PTHREAD_MUTEX_INITIALIZER};
	struct nssm_control_cfg cfg = {.path = path, .handle = handle, .stats = stats, .ctx = r};
	struct nssm_control *c;
	struct nssm_err err = {0};
	if (nssm_control_open(&c, &cfg, &err) != 0)
		fail_msg("%s", err.msg);
	return c;
}

static int count(struct run *r, enum nssm_control_what what)
{
	pthread_mutex_lock(&r->lock);
	int n = r->n[what];
	pthread_mutex_unlock(&r->lock);
	return n;
}

static int try_dial(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path);
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
		return fd;
	close(fd);
	return -1;
}

static int dial(const char *path)
{
	int fd = try_dial(path);
	assert_true(fd >= 0);
	struct timeval tv = {.tv_sec = 10};
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	return fd;
}

static void say(int fd, const void *data, size_t n)
{
	assert_int_equal(send(fd, data, n, MSG_NOSIGNAL), n);
}

/* One line as JSON; NULL at the end. */
static json_t *hear(int fd)
{
	char line[16384];
	size_t n = 0;
	while (n < sizeof line - 1) {
		ssize_t k = recv(fd, line + n, 1, 0);
		assert_true(k >= 0);
		if (k == 0) {
			assert_int_equal(n, 0);
			return NULL;
		}
		if (line[n++] == '\n')
			break;
	}
	json_error_t why;
	json_t *o = json_loadb(line, n, 0, &why);
	if (o == NULL)
		fail_msg("%s in %.*s", why.text, (int)n, line);
	assert_true(json_is_boolean(json_object_get(o, "ok")));
	return o;
}

static json_t *ask(int fd, const char *line)
{
	say(fd, line, strlen(line));
	say(fd, "\n", 1);
	json_t *o = hear(fd);
	assert_non_null(o);
	return o;
}

static bool is_ok(json_t *o)
{
	return json_is_true(json_object_get(o, "ok"));
}

static void expect_error(json_t *o, const char *part)
{
	assert_non_null(o);
	assert_false(is_ok(o));
	const char *why = json_string_value(json_object_get(o, "error"));
	assert_non_null(why);
	if (strstr(why, part) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", why, part);
	json_decref(o);
}

static void commands(void **state)
{
	const char *path = scratch("commands");
	struct run r;
	struct nssm_control *c = start(&r, path);
	int fd = dial(path);
	json_t *o = ask(fd, "rate 100kpps");
	assert_true(is_ok(o));
	struct nssm_rate want;
	char text[32];
	assert_int_equal(nssm_rate_parse(&want, "100kpps", "test", NULL), 0);
	assert_string_equal(json_string_value(json_object_get(o, "rate")), nssm_rate_print(text, &want));
	json_decref(o);
	assert_int_equal(r.rate.kind, NSSM_RATE_PPS);
	assert_true(r.rate.num == 100000 * r.rate.den);
	expect_error(ask(fd, "rate"), "rate");
	expect_error(ask(fd, "rate fast"), "fast");
	expect_error(ask(fd, "rate -1pps"), "-1pps");
	assert_int_equal(count(&r, NSSM_CONTROL_RATE), 1);
	static const struct {
		const char *line, *key;
		bool value;
		enum nssm_control_what what;
	} simple[] = {
	        {"pause", "paused", true, NSSM_CONTROL_PAUSE},
	        {"  resume \t\r", "paused", false, NSSM_CONTROL_RESUME},
	        {"stop", "stopping", true, NSSM_CONTROL_STOP},
	        {"stop now", "stopping", true, NSSM_CONTROL_STOP_NOW},
	};
	for (size_t i = 0; i < sizeof simple / sizeof simple[0]; i++) {
		o = ask(fd, simple[i].line);
		assert_true(is_ok(o));
		assert_int_equal(json_is_true(json_object_get(o, simple[i].key)), simple[i].value);
		assert_int_equal(count(&r, simple[i].what), 1);
		json_decref(o);
	}
	o = ask(fd, "stats");
	assert_true(is_ok(o));
	json_t *packets = json_object_get(json_object_get(o, "stats"), "packets");
	assert_int_equal(json_integer_value(json_object_get(packets, "made")), 42);
	json_decref(o);
	o = ask(fd, "help");
	assert_true(is_ok(o));
	assert_int_equal(json_array_size(json_object_get(o, "commands")), 7);
	json_decref(o);
	expect_error(ask(fd, "Stop"), "unknown command \"Stop\"");
	expect_error(ask(fd, "stop nowhere"), "unknown command");
	expect_error(ask(fd, ""), "unknown command \"\"");
	expect_error(ask(fd, "\x1b[2J\xff"), "unknown command \" [2J?\"");
	r.fail = NSSM_EUNSUP;
	expect_error(ask(fd, "pause"), "not \"now\" ?");
	expect_error(ask(fd, "rate top"), "not \"now\" ?");
	close(fd);

	/* printf 'pause\nresume' | nc: several lines at once, the last one without its newline, then the end. */
	r.fail = 0;
	fd = dial(path);
	say(fd, "pause\nresume", 12);
	shutdown(fd, SHUT_WR);
	for (int i = 0; i < 2; i++) {
		o = hear(fd);
		assert_true(is_ok(o));
		assert_int_equal(json_is_true(json_object_get(o, "paused")), i == 0);
		json_decref(o);
	}
	assert_null(hear(fd));
	close(fd);

	/* A client that does not stay for the answers is heard all the same. */
	int pauses = count(&r, NSSM_CONTROL_PAUSE);
	fd = dial(path);
	say(fd, "pause\npause\npause\n", 18);
	close(fd);
	for (int i = 0; i < 500 && count(&r, NSSM_CONTROL_PAUSE) < pauses + 3; i++)
		usleep(10000);
	assert_int_equal(count(&r, NSSM_CONTROL_PAUSE), pauses + 3);
	nssm_control_close(&c);
	assert_null(c);
	nssm_control_close(&c);
	assert_int_equal(access(path, F_OK), -1);
}

static int open_at(struct nssm_control **c, const char *path, struct nssm_err *err)
{
	static struct run r = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct nssm_control_cfg cfg = {.path = path, .handle = handle, .stats = stats, .ctx = &r};
	return nssm_control_open(c, &cfg, err);
}

static int n_files(void)
{
	DIR *d = opendir(scratch_dir);
	int n = 0;
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void files(void **state)
{
	struct nssm_control *c, *second;
	struct nssm_err err;
	struct stat st;
	int before = n_files();
	/* The mode, under any umask. */
	static const mode_t masks[] = {0, 022, 077};
	for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
		mode_t old = umask(masks[i]);
		assert_int_equal(open_at(&c, scratch("mode"), &err), 0);
		umask(old);
		assert_int_equal(stat(scratch("mode"), &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		nssm_control_close(&c);
	}
	/* A live one stays, and works on. */
	const char *path = scratch("live");
	struct run r;
	c = start(&r, path);
	assert_int_equal(open_at(&second, path, &err), NSSM_EIO);
	assert_null(second);
	assert_non_null(strstr(err.msg, "another run listens there"));
	int fd = dial(path);
	json_decref(ask(fd, "help"));
	close(fd);
	/* A socket that took the name since is not ours to remove. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(open_at(&second, path, &err), 0);
	nssm_control_close(&c);
	fd = dial(path);
	json_decref(ask(fd, "help"));
	close(fd);
	nssm_control_close(&second);
	/* A stale one. */
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path);
	assert_int_equal(bind(s, (struct sockaddr *)&sa, sizeof sa), 0);
	close(s);
	assert_int_equal(open_at(&c, path, &err), 0);
	fd = dial(path);
	json_decref(ask(fd, "help"));
	close(fd);
	nssm_control_close(&c);
	/* Other things. */
	const char *file = scratch("file"), *link = scratch("link");
	scratch_write(file, "precious", 8);
	assert_int_equal(symlink(file, link), 0);
	const char *const bad[] = {file, link, scratch_dir};
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(open_at(&c, bad[i], &err), NSSM_EIO);
		assert_null(c);
		assert_non_null(strstr(err.msg, "no socket"));
	}
	size_t n;
	char *text = scratch_read(file, &n);
	assert_string_equal(text, "precious");
	free(text);
	unlink(file);
	unlink(link);
	assert_int_equal(open_at(&c, scratch("no/such/folder"), &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "No such file"));
	char long_path[200];
	memset(long_path, 'x', sizeof long_path);
	long_path[NSSM_CONTROL_PATH_MAX + 1] = '\0';
	assert_int_equal(open_at(&c, long_path, &err), NSSM_EARG);
	assert_int_equal(open_at(&c, "", &err), NSSM_EARG);
	assert_int_equal(n_files(), before);
}

static void hostile_lines(void **state)
{
	const char *path = scratch("hostile");
	struct run r;
	struct nssm_control *c = start(&r, path);
	int fd = dial(path);
	static char line[300000];
	/* 256 bytes are a line, 257 none; what is behind it is heard. */
	memset(line, 'x', sizeof line);
	line[256] = '\n';
	say(fd, line, 257);
	expect_error(hear(fd), "unknown command");
	line[256] = 'x';
	line[257] = '\n';
	say(fd, line, 258);
	expect_error(hear(fd), "at most 256 bytes");
	expect_error(ask(fd, "y"), "unknown command \"y\"");
	line[257] = 'x';
	line[sizeof line - 1] = '\n';
	say(fd, line, sizeof line);
	expect_error(hear(fd), "at most 256 bytes");
	json_t *o = ask(fd, "pause");
	assert_true(is_ok(o));
	json_decref(o);
	say(fd, "pau\0se\n", 7);
	expect_error(hear(fd), "NUL");
	/* A byte at a time. */
	for (const char *s = "resume\n"; *s != '\0'; s++)
		say(fd, s, 1);
	o = hear(fd);
	assert_true(is_ok(o));
	json_decref(o);
	/* Junk: an answer to each line, and not one command more. */
	struct nssm_rng rng;
	nssm_rng_init(&rng, 1, 0, 0);
	uint8_t junk[4096];
	nssm_rng_bytes(&rng, junk, sizeof junk);
	junk[sizeof junk - 1] = '\n';
	int n_lines = 0;
	for (size_t i = 0; i < sizeof junk; i++)
		n_lines += junk[i] == '\n';
	say(fd, junk, sizeof junk);
	for (int i = 0; i < n_lines; i++)
		expect_error(hear(fd), "");
	assert_int_equal(count(&r, NSSM_CONTROL_PAUSE), 1);
	assert_int_equal(count(&r, NSSM_CONTROL_STOP), 0);
	close(fd);
	nssm_control_close(&c);
}

/* A client that asks and asks and never reads is dropped; others are served meanwhile. */
static void never_reads(void **state)
{
	const char *path = scratch("deaf");
	struct run r;
	struct nssm_control *c = start(&r, path);
	int deaf = dial(path), other = dial(path);
	int small = 1024;
	setsockopt(deaf, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	assert_int_equal(fcntl(deaf, F_SETFL, O_NONBLOCK), 0);
	double begun = nssm_now_s();
	bool gone = false;
	int n_asked = 0;
	while (!gone && nssm_now_s() - begun < 30) {
		ssize_t k = send(deaf, "stats\nstats\nstats\nstats\n", 24, MSG_NOSIGNAL);
		gone = k < 0 && errno == EPIPE;
		json_t *o = ask(other, "help");
		assert_true(is_ok(o));
		json_decref(o);
		n_asked++;
		usleep(k < 0 ? 20000 : 0);
	}
	assert_true(gone && nssm_now_s() - begun >= 1);
	assert_true(n_asked >= 5); /* within that second */
	close(deaf);
	close(other);
	nssm_control_close(&c);
}

static void many(void **state)
{
	const char *path = scratch("many");
	struct run r;
	struct nssm_control *c = start(&r, path);
	int fd[16];
	for (int i = 0; i < 16; i++) {
		fd[i] = dial(path);
		json_decref(ask(fd[i], "help")); /* so it is taken in */
	}
	for (int i = 0; i < 40; i++) {
		int more = dial(path);
		expect_error(hear(more), "16 clients");
		assert_null(hear(more));
		close(more);
	}
	close(fd[7]);
	json_t *o = NULL;
	for (int i = 0; i < 100 && o == NULL; i++) {
		fd[7] = dial(path);
		say(fd[7], "help\n", 5);
		o = hear(fd[7]);
		if (!is_ok(o)) { /* the one that left is not yet seen */
			json_decref(o);
			o = NULL;
			close(fd[7]);
			usleep(10000);
		}
	}
	assert_non_null(o);
	json_decref(o);
	/* All ask at once. */
	for (int i = 0; i < 16; i++)
		say(fd[i], "stats\nhelp\n", 11);
	for (int i = 0; i < 16; i++)
		for (int k = 0; k < 2; k++) {
			o = hear(fd[i]);
			assert_true(is_ok(o));
			json_decref(o);
		}
	/* Closed with all of them there. */
	nssm_control_close(&c);
	for (int i = 0; i < 16; i++) {
		assert_null(hear(fd[i]));
		close(fd[i]);
	}
	assert_int_equal(try_dial(path), -1);
}

/* Out of descriptors, the loop does not spin, and takes the client when there is one again. */
static void no_descriptors(void **state)
{
	const char *path = scratch("fds");
	struct run r;
	struct nssm_control *c = start(&r, path);
	int waiting = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct rlimit old, none;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = (rlim_t)waiting; /* the next one would have this number or a higher one */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path);
	assert_int_equal(connect(waiting, (struct sockaddr *)&sa, sizeof sa), 0);
	say(waiting, "help\n", 5);
	struct rusage use[2];
	getrusage(RUSAGE_SELF, &use[0]);
	struct pollfd p = {.fd = waiting, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 400), 0);
	getrusage(RUSAGE_SELF, &use[1]);
	int64_t us = (use[1].ru_utime.tv_sec - use[0].ru_utime.tv_sec + use[1].ru_stime.tv_sec -
	                     use[0].ru_stime.tv_sec) *
	                     (int64_t)1000000 +
	             use[1].ru_utime.tv_usec - use[0].ru_utime.tv_usec + use[1].ru_stime.tv_usec -
	             use[0].ru_stime.tv_usec;
	assert_in_range(us, 0, 100000);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	json_t *o = hear(waiting);
	assert_true(is_ok(o));
	json_decref(o);
	close(waiting);
	nssm_control_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(commands),
	        cmocka_unit_test(files),
	        cmocka_unit_test(hostile_lines),
	        cmocka_unit_test(never_reads),
	        cmocka_unit_test(many),
	        cmocka_unit_test(no_descriptors),
	};
	return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}
