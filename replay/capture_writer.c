#include "replay/capture.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define MAGIC_US       0xa1b2c3d4u
#define MAGIC_NS       0xa1b23c4du
#define PIPE_BUF_BYTES (64u << 10)

enum { LINKTYPE_ETHERNET = 1, FILE_HDR_BYTES = 24, REC_HDR_BYTES = 16 };

/* Either a file (of) or something that cannot be renamed into place (fd with buf): stdout, a pipe, a device.
 */
struct nssm_capture_writer {
	struct nssm_outfile *of;
	int fd;
	bool ns;
	uint32_t snaplen;
	uint64_t n_packets;
	int code; /* first error */
	struct nssm_err first;
	char name[256];
	size_t fill;
	uint64_t written;
	uint8_t buf[PIPE_BUF_BYTES];
};

static void put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
	p[2] = (uint8_t)(v >> 16);
	p[3] = (uint8_t)(v >> 24);
}

static int fail(struct nssm_capture_writer *w, struct nssm_err *err)
{
	w->code = w->first.code;
	if (err != NULL)
		*err = w->first;
	return w->code;
}

static int fd_put(struct nssm_capture_writer *w, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t k = write(w->fd, p, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return nssm_err_set(&w->first, NSSM_EIO, "%s: cannot write at offset %llu: %s",
			        w->name, (unsigned long long)w->written,
			        k < 0 ? strerror(errno) : "nothing was taken");
		p += k;
		n -= (size_t)k;
		w->written += (uint64_t)k;
	}
	return 0;
}

static int put(struct nssm_capture_writer *w, const uint8_t *p, size_t n)
{
	if (w->of != NULL)
		return nssm_outfile_write(w->of, p, n, &w->first);
	if (w->fill + n > sizeof w->buf) {
		size_t k = w->fill;
		w->fill = 0;
		int rc = fd_put(w, w->buf, k);
		if (rc != 0)
			return rc;
	}
	if (n > sizeof w->buf)
		return fd_put(w, p, n);
	memcpy(w->buf + w->fill, p, n);
	w->fill += n;
	return 0;
}

static int open_out(struct nssm_capture_writer *w, const char *path, struct nssm_err *err)
{
	struct stat st;
	if (strcmp(path, "-") == 0) {
		w->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	} else if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		w->fd = open(path, O_WRONLY | O_CLOEXEC);
	} else {
		return nssm_outfile_open(&w->of, path, err);
	}
	if (w->fd < 0)
		return nssm_err_set(
		        err, NSSM_EIO, "%s: cannot open for writing: %s", w->name, strerror(errno));
	return 0;
}

int nssm_capture_create(
        struct nssm_capture_writer **wp, const char *path, bool ns, uint32_t snaplen, struct nssm_err *err)
{
	*wp = NULL;
	struct nssm_capture_writer *w = calloc(1, sizeof *w);
	if (w == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a capture writer", path);
	size_t n = strlen(path);
	snprintf(w->name, sizeof w->name, "%s%s", n < 200 ? "" : "…",
	        strcmp(path, "-") == 0 ? "stdout" : path + (n < 200 ? 0 : n - 199));
	w->fd = -1;
	w->ns = ns;
	w->snaplen = snaplen == 0 || snaplen > NSSM_CAPTURE_CAPLEN_MAX ? NSSM_CAPTURE_CAPLEN_MAX : snaplen;
	int rc = open_out(w, path, err);
	if (rc != 0) {
		nssm_capture_abort(&w);
		return rc;
	}
	uint8_t h[FILE_HDR_BYTES] = {0};
	put32(h, ns ? MAGIC_NS : MAGIC_US);
	h[4] = 2; /* version 2.4 */
	h[6] = 4;
	put32(h + 16, w->snaplen);
	put32(h + 20, LINKTYPE_ETHERNET);
	rc = put(w, h, sizeof h);
	if (rc != 0) {
		fail(w, err);
		nssm_capture_abort(&w);
		return rc;
	}
	*wp = w;
	return 0;
}

int nssm_capture_write(struct nssm_capture_writer *w, uint64_t ts_ns, const void *frame, uint32_t len,
        uint32_t wirelen, struct nssm_err *err)
{
	assert(wirelen >= len);
	if (w->code != 0)
		return fail(w, err);
	uint64_t s = ts_ns / 1000000000, frac = ts_ns % 1000000000;
	if (len > NSSM_CAPTURE_CAPLEN_MAX || s > UINT32_MAX) {
		nssm_err_set(&w->first, NSSM_ERANGE,
		        "%s: packet %llu: %u bytes at second %llu; a pcap takes up to %u bytes and second %u",
		        w->name, (unsigned long long)w->n_packets + 1, len, (unsigned long long)s,
		        NSSM_CAPTURE_CAPLEN_MAX, UINT32_MAX);
		return fail(w, err);
	}
	uint32_t kept = len < w->snaplen ? len : w->snaplen;
	uint8_t h[REC_HDR_BYTES];
	put32(h, (uint32_t)s);
	put32(h + 4, (uint32_t)(w->ns ? frac : frac / 1000));
	put32(h + 8, kept);
	put32(h + 12, wirelen);
	if (put(w, h, sizeof h) != 0 || put(w, frame, kept) != 0)
		return fail(w, err);
	w->n_packets++;
	return 0;
}

int nssm_capture_commit(struct nssm_capture_writer **wp, struct nssm_err *err)
{
	struct nssm_capture_writer *w = *wp;
	int rc = w->code != 0 ? fail(w, err) : 0;
	if (rc == 0 && w->of != NULL)
		rc = nssm_outfile_commit(&w->of, err);
	else if (rc == 0 && fd_put(w, w->buf, w->fill) != 0)
		rc = fail(w, err);
	if (rc == 0 && w->fd >= 0) {
		int fd = w->fd;
		w->fd = -1;
		if (close(fd) != 0)
			rc = nssm_err_set(err, NSSM_EIO, "%s: cannot close: %s", w->name, strerror(errno));
	}
	nssm_capture_abort(wp);
	return rc;
}

void nssm_capture_abort(struct nssm_capture_writer **wp)
{
	if (*wp == NULL)
		return;
	nssm_outfile_abort(&(*wp)->of);
	if ((*wp)->fd >= 0)
		close((*wp)->fd);
	free(*wp);
	*wp = NULL;
}
