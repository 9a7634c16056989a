#include "replay/stream_end.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/measure.h"

#define HOST_BYTES 256
#define BACKLOG    8
#define CONNECT_NS 5000000000u

/* --- addresses --- */

struct where {
	bool listen;
	char host[HOST_BYTES], port[8];
};

static int parse_port(const char *text, bool zero)
{
	int v = 0, n = 0;
	for (; text[n] >= '0' && text[n] <= '9' && n < 6; n++)
		v = v * 10 + (text[n] - '0');
	return n > 0 && text[n] == '\0' && v <= UINT16_MAX && (v > 0 || zero) ? v : -1;
}

/* Where host and port lie in what follows "listen:" or "connect:"; false: nowhere. */
static bool split(const char *text, const char **host, size_t *n_host, const char **port)
{
	const char *colon = strrchr(text, ':');
	*host = text;
	*n_host = 0;
	*port = text;
	if (text[0] == '[') {
		const char *close = strchr(text, ']');
		*host = text + 1;
		if (close == NULL || close[1] != ':' || close == *host)
			return false;
		*n_host = (size_t)(close - *host);
		*port = close + 2;
	} else if (colon != NULL) {
		*n_host = (size_t)(colon - text);
		*port = colon + 1;
		if (*n_host == 0 || memchr(text, ':', *n_host) != NULL)
			return false;
	}
	return *n_host < HOST_BYTES;
}

static int parse(struct where *w, const char *where, struct nssm_err *err)
{
	const char *host, *port, *rest = strchr(where, ':');
	size_t n_host;
	w->listen = strncmp(where, "listen:", 7) == 0;
	if ((!w->listen && strncmp(where, "connect:", 8) != 0) || !split(rest + 1, &host, &n_host, &port) ||
	        (!w->listen && n_host == 0))
		return nssm_err_set(err, NSSM_EARG,
		        "%.300s: expected listen:PORT, listen:ADDRESS:PORT or connect:HOST:PORT, IPv6 "
		        "addresses in brackets",
		        where);
	int v = parse_port(port, w->listen);
	if (v < 0)
		return nssm_err_set(err, NSSM_EARG, "%.300s: port '%.40s': expected a number %s 65535", where,
		        port, w->listen ? "up to" : "from 1 to");
	snprintf(w->port, sizeof w->port, "%d", v);
	snprintf(w->host, sizeof w->host, "%.*s", n_host > 0 ? (int)n_host : 9,
	        n_host > 0 ? host : "127.0.0.1");
	return 0;
}

/* ADDRESS:PORT as parse takes it. */
static void address_text(char *out, size_t n, const struct sockaddr *a, socklen_t len)
{
	char host[HOST_BYTES], port[8];
	if (getnameinfo(a, len, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		snprintf(out, n, "?");
	else
		snprintf(out, n, a->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* --- sockets --- */

/* Packets leave in batches already; a host that is switched off is noticed. Not having these is no reason to fail. */
static void tune(int fd)
{
	static const struct {
		int level, name, value;
	} opt[] = {
	        {IPPROTO_TCP, TCP_NODELAY, 1},
	        {SOL_SOCKET, SO_KEEPALIVE, 1},
	        {IPPROTO_TCP, TCP_KEEPIDLE, 10},
	        {IPPROTO_TCP, TCP_KEEPINTVL, 5},
	        {IPPROTO_TCP, TCP_KEEPCNT, 3},
	};
	for (size_t i = 0; i < sizeof opt / sizeof *opt; i++)
		(void)setsockopt(fd, opt[i].level, opt[i].name, &opt[i].value, sizeof opt[i].value);
}

static int listen_at(struct nssm_end *e, const struct addrinfo *a)
{
	int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
	if (fd < 0)
		return -errno;
	int one = 1;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	struct sockaddr_storage got;
	socklen_t len = sizeof got;
	if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0 ||
	        getsockname(fd, (struct sockaddr *)&got, &len) != 0) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	char text[HOST_BYTES + 16];
	address_text(text, sizeof text, (struct sockaddr *)&got, len);
	snprintf(e->name, sizeof e->name, "listen:%s", text);
	e->listen_fd = fd;
	return 0;
}

/* Until the connection is there or has failed. */
static int await_connection(int fd, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	for (;;) {
		uint64_t now = nssm_now_ns();
		if (now >= deadline_ns)
			return -ETIMEDOUT;
		int n = poll(&p, 1, (int)((deadline_ns - now + 999999) / 1000000));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			break;
	}
	int failed = 0;
	socklen_t len = sizeof failed;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &len) != 0 ? -errno : -failed;
}

static int connect_to(struct nssm_end *e, const struct addrinfo *a, uint64_t deadline_ns)
{
	int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
	if (fd < 0)
		return -errno;
	int rc = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : -errno;
	if (rc == -EINPROGRESS || rc == -EINTR)
		rc = await_connection(fd, deadline_ns);
	if (rc != 0) {
		close(fd);
		return rc;
	}
	tune(fd);
	e->fd = fd;
	e->n_readers = 1;
	return 0;
}

int nssm_end_open_ip(struct nssm_end *e, const char *where, struct nssm_err *err)
{
	struct where w;
	int rc = parse(&w, where, err);
	if (rc != 0)
		return rc;
	*e = (struct nssm_end){.kind = w.listen ? NSSM_END_LISTEN : NSSM_END_CONNECT,
	        .fd = -1,
	        .listen_fd = -1,
	        .socket = true};
	snprintf(e->name, sizeof e->name, "%s", where);
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = w.listen ? AI_PASSIVE : 0}, *list;
	int gai = getaddrinfo(w.host, w.port, &hints, &list);
	if (gai != 0)
		return nssm_err_set(err, NSSM_EIO, "%.300s: no address for '%s': %s", where, w.host,
		        gai == EAI_SYSTEM ? strerror(errno) : gai_strerror(gai));
	uint64_t deadline_ns = nssm_now_ns() + CONNECT_NS;
	rc = -EADDRNOTAVAIL;
	for (const struct addrinfo *a = list; a != NULL && rc != 0; a = a->ai_next) {
		rc = w.listen ? listen_at(e, a) : connect_to(e, a, deadline_ns);
		char text[HOST_BYTES + 16];
		if (rc != 0) {
			address_text(text, sizeof text, a->ai_addr, a->ai_addrlen);
			nssm_err_set(err, NSSM_EIO, "%.200s: cannot %s %s: %s", where,
			        w.listen ? "listen at" : "connect to", text, strerror(-rc));
		}
	}
	freeaddrinfo(list);
	return rc == 0 ? 0 : NSSM_EIO;
}

/* --- FIFO and stdout --- */

static int open_stdout(struct nssm_end *e, struct nssm_err *err)
{
	struct stat st;
	e->kind = NSSM_END_STDOUT;
	snprintf(e->name, sizeof e->name, "stdout");
	if (fstat(STDOUT_FILENO, &st) != 0)
		return nssm_err_set(err, NSSM_EIO, "stdout: cannot be written to: %s", strerror(errno));
	if (isatty(STDOUT_FILENO))
		return nssm_err_set(err, NSSM_EARG,
		        "stdout is a terminal, expected a pipe or a file: a capture is not text");
	e->socket = S_ISSOCK(st.st_mode);
	e->file = !e->socket && !S_ISFIFO(st.st_mode);
	/* Opened anew a pipe has flags of its own: O_NONBLOCK on the one that was inherited would also be that of whoever
	 * shares it, stderr for one. */
	if (S_ISFIFO(st.st_mode))
		e->fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (e->fd < 0) {
		e->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
		int flags = e->fd >= 0 ? fcntl(e->fd, F_GETFL) : -1;
		if (flags < 0)
			return nssm_err_set(
			        err, NSSM_EIO, "stdout: cannot be written to: %s", strerror(errno));
		e->set_nonblock = S_ISFIFO(st.st_mode) && (flags & O_NONBLOCK) == 0 &&
		                  fcntl(e->fd, F_SETFL, flags | O_NONBLOCK) == 0;
	}
	e->n_readers = 1;
	return 0;
}

int nssm_end_open_fifo(struct nssm_end *e, const char *path, struct nssm_err *err)
{
	*e = (struct nssm_end){.kind = NSSM_END_FIFO, .fd = -1, .listen_fd = -1};
	if (strcmp(path, "-") == 0)
		return open_stdout(e, err);
	if (strlen(path) >= PATH_MAX)
		return nssm_err_set(err, NSSM_EARG, "%.200s…: path too long", path);
	snprintf(e->name, sizeof e->name, "%s", path);
	e->made = mkfifo(path, 0644) == 0;
	if (!e->made && errno != EEXIST)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot make a FIFO: %s", path, strerror(errno));
	struct stat st;
	if (stat(path, &st) != 0)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot stat: %s", path, strerror(errno));
	if (!S_ISFIFO(st.st_mode))
		return nssm_err_set(err, NSSM_EARG, "%s: %s, expected a FIFO or nothing", path,
		        S_ISDIR(st.st_mode)   ? "is a folder"
		        : S_ISREG(st.st_mode) ? "is a regular file"
		                              : "is a device or a socket");
	return 0;
}

static int look_fifo(struct nssm_end *e, struct nssm_err *err)
{
	int fd = open(e->name, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	int why = errno;
	struct stat st;
	if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISFIFO(st.st_mode))) {
		close(fd);
		fd = -1;
		why = EEXIST;
	}
	if (fd < 0) {
		/* ENXIO: nobody has it open for reading. Once somebody had, that nobody can come again is no error. */
		if (why == ENXIO || why == EINTR || e->n_readers > 0)
			return 0;
		return nssm_err_set(
		        err, NSSM_EIO, "%s: the FIFO cannot be opened: %s", e->name, strerror(why));
	}
	/* Room for bursts; a user who has spent his share of pipe memory does without. */
	(void)fcntl(fd, F_SETPIPE_SZ, 1 << 20);
	e->fd = fd;
	e->n_readers++;
	return 1;
}

/* --- readers --- */

static void drop_reader(struct nssm_end *e)
{
	if (e->fd < 0)
		return;
	if (e->set_nonblock)
		(void)fcntl(e->fd, F_SETFL, fcntl(e->fd, F_GETFL) & ~O_NONBLOCK);
	e->set_nonblock = false;
	close(e->fd);
	e->fd = -1;
	e->half_closed = false;
}

int nssm_end_look(struct nssm_end *e, bool stalled, struct nssm_err *err)
{
	if (e->kind == NSSM_END_FIFO)
		return e->fd < 0 ? look_fifo(e, err) : 0;
	if (e->kind != NSSM_END_LISTEN || (e->fd >= 0 && !stalled && !e->half_closed))
		return 0;
	/* Whatever stops accept now (a connection gone again, no descriptors left) may be over at the next look. */
	int fd = accept4(e->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return 0;
	tune(fd);
	bool took_place = e->fd >= 0;
	drop_reader(e);
	e->fd = fd;
	e->n_readers++;
	return took_place ? 2 : 1;
}

ssize_t nssm_end_write(struct nssm_end *e, const struct iovec *iov, int n, struct nssm_err *err)
{
	assert(e->fd >= 0);
	struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
	ssize_t k;
	do
		k = e->socket ? sendmsg(e->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) : writev(e->fd, iov, n);
	while (k < 0 && errno == EINTR);
	if (k >= 0) {
		e->written += (uint64_t)k;
		return k;
	}
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
		return 0;
	if (e->file) {
		nssm_err_set(err, NSSM_EIO, "%s: cannot write at offset %llu: %s", e->name,
		        (unsigned long long)e->written, strerror(errno));
		return -2;
	}
	drop_reader(e);
	return -1;
}

bool nssm_end_alive(struct nssm_end *e)
{
	if (e->fd < 0)
		return false;
	struct pollfd p = {.fd = e->fd, .events = POLLOUT};
	if (e->file || poll(&p, 1, 0) < 0)
		return true;
	bool gone = (p.revents & POLLERR) != 0;
	/* Not on stdout: what comes there is stdin's. */
	if (e->kind != NSSM_END_STDOUT && e->socket && !gone) {
		/* Both directions closed: a reset; one of them may be a reader that only reads. */
		char sink[4096];
		ssize_t k = e->half_closed ? 1 : recv(e->fd, sink, sizeof sink, MSG_DONTWAIT);
		e->half_closed |= k == 0;
		gone = (p.revents & POLLHUP) != 0 || (k < 0 && errno != EAGAIN && errno != EINTR);
	}
	if (gone)
		drop_reader(e);
	return !gone;
}

void nssm_end_wait(const struct nssm_end *e, int ms)
{
	struct pollfd p = {.fd = e->fd, .events = POLLOUT};
	(void)poll(&p, 1, ms);
}

void nssm_end_hang_up(struct nssm_end *e)
{
	if (e->fd < 0)
		return;
	if (e->kind != NSSM_END_STDOUT && e->socket) {
		/* Closing with something unread would reset the connection, and what is under way would be lost. */
		char sink[4096];
		(void)shutdown(e->fd, SHUT_WR);
		for (int i = 0; i < 256 && recv(e->fd, sink, sizeof sink, MSG_DONTWAIT) > 0; i++)
			;
	}
	drop_reader(e);
}

void nssm_end_close(struct nssm_end *e)
{
	drop_reader(e);
	if (e->listen_fd >= 0)
		close(e->listen_fd);
	e->listen_fd = -1;
	struct stat st;
	if (e->made && lstat(e->name, &st) == 0 && S_ISFIFO(st.st_mode))
		unlink(e->name);
	e->made = false;
}
