#include "replay/capture_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define FILE_BUF (256u << 10)
#define IN_BUF   (64u << 10)
#define IDLE_MS  50

enum { KIND_UNKNOWN, KIND_CLASSIC, KIND_PCAPNG };
#define MAGIC_NS  0xa1b23c4du
#define BLOCK_SHB 0x0a0d0d0au /* the same in either byte order */
#define BLOCK_IDB 1u

enum { FORM_UNKNOWN, FORM_PLAIN, FORM_GZ };

struct nssm_capture_stream {
	int fd;
	const char *name;
	struct nssm_capture_idle idle;
	uint64_t pos;     /* uncompressed bytes given */
	uint64_t raw_pos; /* bytes read from fd */
	uint64_t file_bytes;
	bool regular;

	/* Read and not yet given, or not yet inflated. */
	int form;
	uint32_t in_at, in_end;
	bool eof;
	z_stream z;
	bool z_open, between; /* behind the end of a gz member */
	char error[160];      /* "" while all is well; else what came before it may still be in the buffer */
	int code;             /* of error */
	bool failed;          /* the reader met the error */

	/* What the bytes say, gathered as they pass. */
	int kind;
	bool swapped; /* the file's byte order is big-endian */
	bool ns;
	uint32_t snaplen;
	uint8_t head[12];  /* the first bytes of the pcapng block that the reading is in */
	uint64_t block_at; /* bytes of the block seen */
	uint64_t block_len;
	uint32_t n_ifaces;

	uint8_t in[IN_BUF];
	char buf[FILE_BUF];
};

static uint32_t get32(const struct nssm_capture_stream *s, const uint8_t *p)
{
	if (s->swapped)
		return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static void see_magic(struct nssm_capture_stream *s, const uint8_t *p)
{
	uint32_t magic = get32(s, p);
	s->kind = magic == BLOCK_SHB ? KIND_PCAPNG : KIND_CLASSIC;
	s->swapped = p[0] == 0xa1;
	s->ns = get32(s, p) == MAGIC_NS;
}

/* Bytes 16 to 19 of a classic header are its snaplen: noted, then set to 0, which means no bound. */
static void see_classic(struct nssm_capture_stream *s, uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n && s->pos + i < 20; i++) {
		uint64_t at = s->pos + i;
		if (at < 16)
			continue;
		uint32_t shift = (uint32_t)(s->swapped ? 19 - at : at - 16) * 8;
		s->snaplen |= (uint32_t)p[i] << shift;
		p[i] = 0;
	}
}

/* Walks the blocks by their lengths and counts interfaces. A length that cannot be ends the walk: libpcap
 * refuses it too. */
static bool see_pcapng(struct nssm_capture_stream *s, const uint8_t *p, size_t n)
{
	while (n > 0) {
		if (s->block_at < sizeof s->head) {
			s->head[s->block_at++] = *p++;
			n--;
			if (s->block_at < sizeof s->head)
				continue;
			/* The section header's length is in the byte order that its third field tells. */
			bool section = get32(s, s->head) == BLOCK_SHB;
			if (section)
				s->swapped = s->head[8] == 0x1a;
			s->block_len = get32(s, s->head + 4);
			if (s->block_len < sizeof s->head)
				s->block_len = UINT64_MAX;
			s->n_ifaces += !section && get32(s, s->head) == BLOCK_IDB;
			if (s->n_ifaces > NSSM_CAPTURE_IFACES_MAX)
				return false;
		} else {
			uint64_t left = s->block_len - s->block_at;
			size_t k = left < n ? (size_t)left : n;
			s->block_at += k;
			p += k;
			n -= k;
		}
		if (s->block_at >= sizeof s->head && s->block_at == s->block_len)
			s->block_at = 0;
	}
	return true;
}

static bool see(struct nssm_capture_stream *s, uint8_t *p, size_t n)
{
	if (s->pos == 0 && n >= 4)
		see_magic(s, p);
	if (s->kind == KIND_PCAPNG)
		return see_pcapng(s, p, n);
	if (s->kind == KIND_CLASSIC)
		see_classic(s, p, n);
	return true;
}

/* --- bytes as they are in the file ------------------------------------------------------------------------------ */

/* False: s->error is set. */
static bool fail_with(struct nssm_capture_stream *s, int code, const char *what, const char *why)
{
	s->code = code;
	snprintf(s->error, sizeof s->error, "%s%.120s", what, why);
	return false;
}

/* A pipe may give nothing for as long as it likes: whoever reads has other things to do, and may want to end. */
static bool wait_for_bytes(struct nssm_capture_stream *s)
{
	struct pollfd p = {.fd = s->fd, .events = POLLIN};
	int ms = s->idle.idle != NULL ? 0 : -1;
	for (;;) {
		int n = poll(&p, 1, ms);
		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			return fail_with(s, NSSM_EIO, "cannot wait for it: ", strerror(errno));
		if (s->idle.idle == NULL)
			continue;
		if (s->idle.idle(s->idle.ctx) != 0)
			return fail_with(s, NSSM_EINTR, "stopped", "");
		ms = IDLE_MS;
	}
}

/* Bytes read, 0 at the end; < 0: s->error is set. Of a pipe what there is, which may be less than n. */
static ssize_t read_raw(struct nssm_capture_stream *s, void *dst, size_t n)
{
	ssize_t got;
	do {
		if (!s->regular && !wait_for_bytes(s))
			return -1;
		got = read(s->fd, dst, n);
	} while (got < 0 && (errno == EINTR || errno == EAGAIN));
	if (got < 0)
		fail_with(s, NSSM_EIO, "read error: ", strerror(errno));
	else
		s->raw_pos += (uint64_t)got;
	s->eof |= got == 0;
	return got;
}

/* At least n bytes in s->in, unless the end comes before. */
static bool have(struct nssm_capture_stream *s, uint32_t n)
{
	while (s->in_end - s->in_at < n && !s->eof) {
		memmove(s->in, s->in + s->in_at, s->in_end - s->in_at);
		s->in_end -= s->in_at;
		s->in_at = 0;
		ssize_t got = read_raw(s, s->in + s->in_end, IN_BUF - s->in_end);
		if (got < 0)
			return false;
		s->in_end += (uint32_t)got;
	}
	return true;
}

static bool at_gz(const struct nssm_capture_stream *s)
{
	return s->in_end - s->in_at >= 2 && s->in[s->in_at] == 0x1f && s->in[s->in_at + 1] == 0x8b;
}

static ssize_t read_plain(struct nssm_capture_stream *s, void *dst, size_t n)
{
	size_t k = s->in_end - s->in_at;
	if (k == 0)
		return s->eof ? 0 : read_raw(s, dst, n);
	k = k < n ? k : n;
	memcpy(dst, s->in + s->in_at, k);
	s->in_at += (uint32_t)k;
	return (ssize_t)k;
}

static ssize_t fail_gz(struct nssm_capture_stream *s, const char *why)
{
	s->code = NSSM_EFORMAT;
	snprintf(s->error, sizeof s->error, "gz stream broken at its byte %llu: %.100s",
	        (unsigned long long)(s->raw_pos - (s->in_end - s->in_at)), why);
	return -1;
}

/* One member after the other; what follows the last and is none is left alone, as gzip does. */
static ssize_t read_gz(struct nssm_capture_stream *s, void *dst, size_t n)
{
	for (;;) {
		if (!have(s, s->between ? 2 : 1))
			return -1;
		if (s->between && !at_gz(s))
			return 0;
		if (s->between && inflateReset(&s->z) != Z_OK)
			return fail_gz(s, "zlib's state");
		s->between = false;
		if (s->in_at == s->in_end)
			return fail_gz(s, "it ends too early");
		s->z.next_in = s->in + s->in_at;
		s->z.avail_in = s->in_end - s->in_at;
		s->z.next_out = dst;
		s->z.avail_out = (uInt)n;
		int rc = inflate(&s->z, Z_NO_FLUSH);
		s->in_at = s->in_end - s->z.avail_in;
		s->between = rc == Z_STREAM_END;
		if (s->z.avail_out < n)
			return (ssize_t)(n - s->z.avail_out);
		if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
			return fail_gz(s, s->z.msg != NULL ? s->z.msg : zError(rc));
	}
}

static bool pick_form(struct nssm_capture_stream *s)
{
	if (!have(s, 2))
		return false;
	s->form = at_gz(s) ? FORM_GZ : FORM_PLAIN;
	s->z_open = s->form == FORM_GZ && inflateInit2(&s->z, 16 + MAX_WBITS) == Z_OK;
	return s->form == FORM_PLAIN || s->z_open || fail_with(s, NSSM_ENOMEM, "no memory for zlib", "");
}

/* --- bytes as libpcap sees them ------------------------------------------------------------------------------- */

static ssize_t fail_read(struct nssm_capture_stream *s)
{
	s->failed = true;
	errno = EIO;
	return -1;
}

static ssize_t stream_read(void *cookie, char *dst, size_t n)
{
	struct nssm_capture_stream *s = cookie;
	n = n < FILE_BUF ? n : FILE_BUF;
	if (s->error[0] != '\0' || (s->form == FORM_UNKNOWN && !pick_form(s)))
		return fail_read(s);
	ssize_t got = s->form == FORM_GZ ? read_gz(s, dst, n) : read_plain(s, dst, n);
	if (got < 0)
		return fail_read(s);
	if (got > 0 && !see(s, (uint8_t *)dst, (size_t)got)) {
		s->code = NSSM_EFORMAT;
		snprintf(s->error, sizeof s->error, "more than %d interfaces", NSSM_CAPTURE_IFACES_MAX);
		return fail_read(s);
	}
	s->pos += (uint64_t)got;
	return got;
}

/* Only where it stands: what ftello asks. libpcap reads forward. */
static int stream_seek(void *cookie, off64_t *pos, int whence)
{
	const struct nssm_capture_stream *s = cookie;
	if (whence != SEEK_CUR || *pos != 0) {
		errno = ESPIPE;
		return -1;
	}
	*pos = (off64_t)s->pos;
	return 0;
}

int nssm_capture_stream_open(struct nssm_capture_stream **sp, FILE **f, const char *path, const char *name,
        const struct nssm_capture_idle *idle, struct nssm_err *err)
{
	struct nssm_capture_stream *s = calloc(1, sizeof *s);
	*sp = s;
	*f = NULL;
	if (s == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a read buffer", name);
	s->name = name;
	if (idle != NULL)
		s->idle = *idle;
	/* A FIFO that nobody writes yet is waited for like one that gives nothing. */
	s->fd = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
	                               : open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int rc;
	if (s->fd < 0 || fstat(s->fd, &st) != 0) {
		rc = nssm_err_set(err, NSSM_EIO, "%s: cannot open: %s", name, strerror(errno));
		goto fail;
	}
	if (S_ISDIR(st.st_mode)) {
		rc = nssm_err_set(err, NSSM_EIO, "%s: is a folder, expected a capture file", name);
		goto fail;
	}
	s->regular = S_ISREG(st.st_mode);
	s->file_bytes = s->regular ? (uint64_t)st.st_size : 0;
	*f = fopencookie(s, "r", (cookie_io_functions_t){.read = stream_read, .seek = stream_seek});
	if (*f == NULL) {
		rc = nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a stream", name);
		goto fail;
	}
	setvbuf(*f, s->buf, _IOFBF, sizeof s->buf);
	return 0;
fail:
	nssm_capture_stream_close(sp);
	return rc;
}

void nssm_capture_stream_close(struct nssm_capture_stream **sp)
{
	if (*sp == NULL)
		return;
	if ((*sp)->z_open)
		inflateEnd(&(*sp)->z);
	if ((*sp)->fd >= 0)
		close((*sp)->fd);
	free(*sp);
	*sp = NULL;
}

const char *nssm_capture_stream_error(const struct nssm_capture_stream *s, int *code)
{
	if (s->failed)
		*code = s->code;
	return s->failed ? s->error : NULL;
}

uint64_t nssm_capture_stream_tell(const struct nssm_capture_stream *s, FILE *f)
{
	off_t at = ftello(f);
	return at >= 0 ? (uint64_t)at : s->pos;
}

uint64_t nssm_capture_stream_read_bytes(const struct nssm_capture_stream *s)
{
	return s->regular ? s->raw_pos - (s->in_end - s->in_at) : 0;
}

bool nssm_capture_stream_classic(const struct nssm_capture_stream *s)
{
	return s->kind == KIND_CLASSIC;
}

void nssm_capture_stream_info(const struct nssm_capture_stream *s, struct nssm_capture_info *info)
{
	info->file_bytes = s->file_bytes;
	info->gz = s->form == FORM_GZ;
	if (s->kind == KIND_CLASSIC) {
		info->ns = s->ns;
		info->snaplen = s->snaplen;
	}
}
