#include "replay/control.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/measure.h"
#include "base/utf8.h"

#define CLIENTS_MAX   16u
#define LINE_MAX_LEN  256u
#define STUCK_NS      1000000000u
#define ACCEPT_GAP_NS 100000000u /* after a lack of descriptors or memory */
#define NO_MEMORY     "{\"ok\":false,\"error\":\"out of memory\"}"
#define TOO_MANY      "{\"ok\":false,\"error\":\"16 clients are connected already\"}\n"

struct client {
	int fd;
	bool eof;      /* nothing more comes in */
	bool deaf;     /* nothing more goes out */
	bool skipping; /* the rest of a line that was too long */
	size_t n_in;
	char in[LINE_MAX_LEN + 1];
	char *out; /* the answer on its way, malloc'd; NULL: none */
	size_t out_len, out_done;
	uint64_t moved_ns; /* when it last took a byte of the answer */
};

struct nssm_control {
	struct nssm_control_cfg cfg;
	int listen_fd, wake_fd;
	bool started;
	pthread_t thread;
	uint64_t accept_after_ns;
	dev_t dev; /* of the socket's file; ino 0: not in place */
	ino_t ino;
	uint32_t n_clients;
	struct client client[CLIENTS_MAX];
	struct nssm_stats now;
	char path[NSSM_CONTROL_PATH_MAX + 1];
};

/* --- commands --- */

static const struct {
	const char *word, *args, *help;
} COMMANDS[] = {
        {"rate", " WHAT", "as --rate: original, 2.5x, 100kpps, 1.2Gbps, 80%, top"},
        {"pause", "", "send nothing until resume"},
        {"resume", "", "go on"},
        {"stop", "", "send what is due, then end"},
        {"stop now", "", "end at once"},
        {"stats", "", "all figures"},
        {"help", "", "this"},
};

static json_t *shown_string(const char *text)
{
	char clean[1024];
	nssm_utf8_show(clean, sizeof clean, text, sizeof clean);
	return json_string(clean);
}

static json_t *refuse(const char *why)
{
	return json_pack("{s:b, s:o}", "ok", 0, "error", shown_string(why));
}

static json_t *do_help(void)
{
	json_t *list = json_array();
	for (size_t i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++)
		json_array_append_new(list, json_pack("{s:s+, s:s}", "command", COMMANDS[i].word,
		                                    COMMANDS[i].args, "help", COMMANDS[i].help));
	return json_pack("{s:b, s:o}", "ok", 1, "commands", list);
}

static json_t *do_stats(struct nssm_control *c)
{
	memset(&c->now, 0, sizeof c->now);
	c->cfg.stats(c->cfg.ctx, &c->now);
	return json_pack("{s:b, s:o}", "ok", 1, "stats", nssm_stats_json(&c->now));
}

static json_t *do_rate(struct nssm_control *c, const char *what)
{
	struct nssm_rate rate;
	struct nssm_err err = {0};
	char text[32];
	if (nssm_rate_parse(&rate, what, "rate", &err) != 0 ||
	        c->cfg.handle(c->cfg.ctx, NSSM_CONTROL_RATE, &rate, &err) != 0)
		return refuse(err.msg);
	return json_pack("{s:b, s:o}", "ok", 1, "rate", shown_string(nssm_rate_print(text, &rate)));
}

static json_t *do_simple(struct nssm_control *c, enum nssm_control_what what, const char *key, bool value)
{
	struct nssm_err err = {0};
	if (c->cfg.handle(c->cfg.ctx, what, NULL, &err) != 0)
		return refuse(err.msg);
	return json_pack("{s:b, s:b}", "ok", 1, key, value);
}

/* NULL: out of memory. */
static json_t *do_line(struct nssm_control *c, const char *line)
{
	if (strncmp(line, "rate ", 5) == 0)
		return do_rate(c, line + 5 + strspn(line + 5, " \t"));
	if (strcmp(line, "rate") == 0)
		return refuse("rate: needs a rate such as 100kpps, 2.5x or top");
	if (strcmp(line, "pause") == 0)
		return do_simple(c, NSSM_CONTROL_PAUSE, "paused", true);
	if (strcmp(line, "resume") == 0)
		return do_simple(c, NSSM_CONTROL_RESUME, "paused", false);
	if (strcmp(line, "stop") == 0)
		return do_simple(c, NSSM_CONTROL_STOP, "stopping", true);
	if (strcmp(line, "stop now") == 0)
		return do_simple(c, NSSM_CONTROL_STOP_NOW, "stopping", true);
	if (strcmp(line, "stats") == 0)
		return do_stats(c);
	if (strcmp(line, "help") == 0)
		return do_help();
	char why[LINE_MAX_LEN + 64];
	snprintf(why, sizeof why, "unknown command \"%s\"; \"help\" lists them", line);
	return refuse(why);
}

/* --- one client --- */

static void drop(struct nssm_control *c, uint32_t i)
{
	close(c->client[i].fd);
	free(c->client[i].out);
	c->client[i] = c->client[--c->n_clients];
}

static void stop_writing(struct client *cl)
{
	free(cl->out);
	cl->out = NULL;
}

static void write_some(struct client *cl)
{
	if (cl->out == NULL)
		return;
	ssize_t k =
	        send(cl->fd, cl->out + cl->out_done, cl->out_len - cl->out_done, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (k > 0) {
		cl->out_done += (size_t)k;
		cl->moved_ns = nssm_now_ns();
		if (cl->out_done == cl->out_len)
			stop_writing(cl);
	} else if (k < 0 && errno != EAGAIN && errno != EINTR) {
		/* Gone; but what it said before that counts. */
		cl->deaf = true;
		stop_writing(cl);
	}
}

/* Takes answer over. */
static void reply(struct client *cl, json_t *answer)
{
	assert(cl->out == NULL);
	char *text = answer != NULL ? json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
	json_decref(answer);
	if (text == NULL)
		text = strdup(NO_MEMORY);
	if (text == NULL) { /* a client without its answer is worse than none */
		cl->deaf = cl->eof = true;
		cl->n_in = 0;
		return;
	}
	cl->out_len = strlen(text) + 1;
	text[cl->out_len - 1] = '\n'; /* in the NUL's place: what is sent has a length */
	cl->out = text;
	cl->out_done = 0;
	cl->moved_ns = nssm_now_ns();
	if (cl->deaf)
		stop_writing(cl);
	write_some(cl);
}

/* Length of the first line waiting, its newline not counted; -1: none that is whole. */
static int line_len(const struct client *cl)
{
	const char *end = memchr(cl->in, '\n', cl->n_in);
	if (end != NULL)
		return (int)(end - cl->in);
	if (cl->n_in == sizeof cl->in || (cl->eof && cl->n_in > 0))
		return (int)cl->n_in;
	return -1;
}

static bool has_work(const struct client *cl)
{
	return cl->out == NULL && line_len(cl) >= 0;
}

static void take_line(struct nssm_control *c, struct client *cl)
{
	size_t n = (size_t)line_len(cl);
	bool ended = n<cl->n_in, too_long = n> LINE_MAX_LEN;
	char line[LINE_MAX_LEN + 1];
	size_t len = too_long ? 0 : n;
	memcpy(line, cl->in, len);
	cl->n_in -= n + ended;
	memmove(cl->in, cl->in + n + ended, cl->n_in);
	bool skip = cl->skipping;
	cl->skipping = too_long && !ended;
	if (skip) {
		cl->skipping = !ended;
		return;
	}
	if (too_long) {
		reply(cl, refuse("a line has at most 256 bytes"));
		return;
	}
	if (memchr(line, '\0', len) != NULL) {
		reply(cl, refuse("a line holds a NUL byte"));
		return;
	}
	while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' ' || line[len - 1] == '\t'))
		len--;
	line[len] = '\0';
	reply(cl, do_line(c, line + strspn(line, " \t")));
}

static void read_some(struct client *cl)
{
	ssize_t k = recv(cl->fd, cl->in + cl->n_in, sizeof cl->in - cl->n_in, MSG_DONTWAIT);
	if (k > 0)
		cl->n_in += (size_t)k;
	else if (k == 0 || (errno != EAGAIN && errno != EINTR))
		cl->eof = true;
}

/* --- the loop --- */

static void accept_one(struct nssm_control *c)
{
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		/* Else the connection that cannot be taken would wake the loop for ever. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			c->accept_after_ns = nssm_now_ns() + ACCEPT_GAP_NS;
		return;
	}
	if (c->n_clients == CLIENTS_MAX) {
		(void)!send(fd, TOO_MANY, sizeof TOO_MANY - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	struct client *cl = &c->client[c->n_clients++];
	memset(cl, 0, sizeof *cl);
	cl->fd = fd;
}

/* Milliseconds that poll may sleep. */
static int sleep_ms(const struct nssm_control *c, uint64_t now)
{
	uint64_t until = c->accept_after_ns > now ? c->accept_after_ns : UINT64_MAX;
	for (uint32_t i = 0; i < c->n_clients; i++) {
		const struct client *cl = &c->client[i];
		if (has_work(cl))
			return 0;
		if (cl->out != NULL && cl->moved_ns + STUCK_NS < until)
			until = cl->moved_ns + STUCK_NS;
	}
	if (until == UINT64_MAX)
		return -1;
	return until > now ? (int)((until - now) / 1000000u) + 1 : 0;
}

static void serve_client(struct nssm_control *c, struct client *cl, short events)
{
	if (cl->out != NULL && (events & (POLLOUT | POLLHUP | POLLERR)) != 0)
		write_some(cl);
	if (cl->out == NULL && !has_work(cl) && !cl->eof && (events & (POLLIN | POLLHUP | POLLERR)) != 0)
		read_some(cl);
	if (has_work(cl)) /* one line a turn: no client keeps the others waiting */
		take_line(c, cl);
}

static void *loop(void *ctx)
{
	struct nssm_control *c = ctx;
	for (;;) {
		uint64_t now = nssm_now_ns();
		struct pollfd p[2 + CLIENTS_MAX] = {{.fd = c->wake_fd, .events = POLLIN},
		        {.fd = c->accept_after_ns > now ? -1 : c->listen_fd, .events = POLLIN}};
		uint32_t n = c->n_clients;
		for (uint32_t i = 0; i < n; i++) {
			struct client *cl = &c->client[i];
			/* While a line waits, its client is not asked for more. */
			p[2 + i].fd = cl->fd;
			p[2 + i].events = cl->out != NULL ? POLLOUT : has_work(cl) ? 0 : POLLIN;
		}
		if (poll(p, 2 + n, sleep_ms(c, now)) < 0 && errno != EINTR)
			break; /* out of kernel memory: nothing more can be heard */
		if (p[0].revents != 0)
			break;
		for (uint32_t i = 0; i < n; i++)
			serve_client(c, &c->client[i], p[2 + i].revents);
		now = nssm_now_ns();
		for (uint32_t i = n; i-- > 0;) { /* backwards: drop moves the last one here */
			struct client *cl = &c->client[i];
			bool stuck = cl->out != NULL && now - cl->moved_ns > STUCK_NS;
			if (stuck || (cl->eof && cl->out == NULL && !has_work(cl)))
				drop(c, i);
		}
		if (p[1].revents != 0)
			accept_one(c);
	}
	while (c->n_clients > 0)
		drop(c, c->n_clients - 1);
	return NULL;
}

/* --- the socket's file --- */

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	assert(strlen(path) < sizeof sa.sun_path);
	strcpy(sa.sun_path, path);
	return sa;
}

/* 0: a socket that nobody listens on, in *st. */
static int check_stale(const char *path, struct stat *st, struct nssm_err *err)
{
	if (lstat(path, st) != 0)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot stat: %s", path, strerror(errno));
	if (!S_ISSOCK(st->st_mode))
		return nssm_err_set(err, NSSM_EIO,
		        "%s: is there and no socket, expected a control socket or nothing", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sa = address(path);
	int e = fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0 ? errno : 0;
	if (fd >= 0)
		close(fd);
	if (e == ECONNREFUSED)
		return 0;
	if (e != 0 && e != EAGAIN) /* EAGAIN: alive, and its queue is full */
		return nssm_err_set(err, NSSM_EIO,
		        "%s: a socket is there, cannot see whether it is in use: %s", path, strerror(e));
	return nssm_err_set(err, NSSM_EIO, "%s: another run listens there", path);
}

/* Takes the stale file away; if another run was quicker, its file is put back. */
static int remove_stale(const char *path, const struct stat *stale, struct nssm_err *err)
{
	char aside[NSSM_CONTROL_PATH_MAX + 32];
	struct stat st;
	snprintf(aside, sizeof aside, "%s.old.%ld", path, (long)getpid());
	if (rename(path, aside) != 0)
		return errno == ENOENT
		               ? 0
		               : nssm_err_set(err, NSSM_EIO, "%s: cannot replace: %s", path, strerror(errno));
	if (lstat(aside, &st) == 0 && (st.st_dev != stale->st_dev || st.st_ino != stale->st_ino)) {
		(void)!renameat2(AT_FDCWD, aside, AT_FDCWD, path, RENAME_NOREPLACE);
		return nssm_err_set(err, NSSM_EIO, "%s: another run has just begun to listen there", path);
	}
	unlink(aside);
	return 0;
}

/* Gives the listening socket at tmp its name. */
static int publish(struct nssm_control *c, const char *tmp, struct nssm_err *err)
{
	for (int tries = 0; tries < 3; tries++) {
		if (renameat2(AT_FDCWD, tmp, AT_FDCWD, c->path, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			break;
		struct stat st;
		int rc = check_stale(c->path, &st, err);
		if (rc == 0)
			rc = remove_stale(c->path, &st, err);
		if (rc != 0)
			return rc;
	}
	return nssm_err_set(
	        err, NSSM_EIO, "%s: cannot put the socket in place: %s", c->path, strerror(errno));
}

static int listen_at(struct nssm_control *c, struct nssm_err *err)
{
	char tmp[NSSM_CONTROL_PATH_MAX + 32];
	struct stat st;
	snprintf(tmp, sizeof tmp, "%s.tmp.%ld", c->path, (long)getpid());
	unlink(tmp); /* of a process with this number that was killed */
	c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sa = address(tmp);
	/* Linux gives the file the mode that the socket has at bind (less the umask): it never has another. */
	if (c->listen_fd < 0 || fchmod(c->listen_fd, 0600) != 0 ||
	        bind(c->listen_fd, (struct sockaddr *)&sa, sizeof sa) != 0)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot make a socket: %s", c->path, strerror(errno));
	int rc = 0;
	if (listen(c->listen_fd, CLIENTS_MAX) != 0 || lstat(tmp, &st) != 0)
		rc = nssm_err_set(err, NSSM_EIO, "%s: cannot listen: %s", c->path, strerror(errno));
	if (rc == 0)
		rc = publish(c, tmp, err);
	if (rc != 0) {
		unlink(tmp);
		return rc;
	}
	c->dev = st.st_dev;
	c->ino = st.st_ino;
	return 0;
}

static int start(struct nssm_control *c, struct nssm_err *err)
{
	c->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (c->wake_fd < 0)
		return nssm_err_set(
		        err, NSSM_EIO, "%s: cannot make an eventfd: %s", c->path, strerror(errno));
	/* Signals are the main thread's. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&c->thread, NULL, loop, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: cannot start a thread: %s", c->path, strerror(rc));
	c->started = true;
	return 0;
}

int nssm_control_open(struct nssm_control **cp, const struct nssm_control_cfg *cfg, struct nssm_err *err)
{
	*cp = NULL;
	if (cfg->path[0] == '\0' || strlen(cfg->path) > NSSM_CONTROL_PATH_MAX)
		return nssm_err_set(err, NSSM_EARG, "control socket \"%.100s\": a path has 1 to %d bytes",
		        cfg->path, NSSM_CONTROL_PATH_MAX);
	struct nssm_control *c = calloc(1, sizeof *c);
	if (c == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory", cfg->path);
	c->cfg = *cfg;
	c->listen_fd = c->wake_fd = -1;
	strcpy(c->path, cfg->path);
	c->cfg.path = c->path;
	int rc = listen_at(c, err);
	if (rc == 0)
		rc = start(c, err);
	if (rc != 0)
		nssm_control_close(&c);
	*cp = c;
	return rc;
}

void nssm_control_close(struct nssm_control **cp)
{
	struct nssm_control *c = *cp;
	if (c == NULL)
		return;
	if (c->started) {
		uint64_t one = 1;
		(void)!write(c->wake_fd, &one, sizeof one);
		pthread_join(c->thread, NULL);
	}
	struct stat st;
	if (c->ino != 0 && lstat(c->path, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino)
		unlink(c->path);
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	free(c);
	*cp = NULL;
}
