#include "replay/capture_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define FILE_BUF (256u << 10)
#define GZ_BUF   (64u << 10)

enum { KIND_UNKNOWN, KIND_CLASSIC, KIND_PCAPNG };
#define MAGIC_NS  0xa1b23c4du
#define BLOCK_SHB 0x0a0d0d0au /* the same in either byte order */
#define BLOCK_IDB 1u

struct nssm_capture_stream {
	gzFile gz;
	const char *name;
	uint64_t pos;     /* uncompressed bytes given */
	uint64_t raw_pos; /* bytes read from the file; 0 for pipes */
	uint64_t file_bytes;
	bool regular;
	char error[160]; /* "" while all is well; else what came before it may still be in the buffer */
	int code;        /* of error */
	bool failed;     /* the reader met the error */

	/* What the bytes say, gathered as they pass. */
	int kind;
	bool swapped; /* the file's byte order is big-endian */
	bool ns;
	uint32_t snaplen;
	uint8_t head[12];  /* the first bytes of the pcapng block that the reading is in */
	uint64_t block_at; /* bytes of the block seen */
	uint64_t block_len;
	uint32_t n_ifaces;

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

/* The first read asks for more than a magic: less is a file that ends there. */
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

static ssize_t fail_read(struct nssm_capture_stream *s)
{
	s->failed = true;
	errno = EIO;
	return -1;
}

static ssize_t stream_read(void *cookie, char *dst, size_t n)
{
	struct nssm_capture_stream *s = cookie;
	if (s->error[0] != '\0')
		return fail_read(s);
	errno = 0;
	int got = gzread(s->gz, dst, n < FILE_BUF ? (unsigned)n : FILE_BUF);
	if (got <= 0 || (size_t)got < n) {
		int z = Z_OK;
		const char *why = gzerror(s->gz, &z);
		s->code = z == Z_ERRNO ? NSSM_EIO : NSSM_EFORMAT;
		/* A short read that is no end is an error after what was read: zlib gives a gz cut in the
		 * middle so. */
		if (z == Z_ERRNO)
			snprintf(s->error, sizeof s->error, "read error: %s", strerror(errno));
		else if (z != Z_OK && z != Z_STREAM_END)
			snprintf(s->error, sizeof s->error, "gz stream broken at its byte %lld: %.100s",
			        (long long)gzoffset(s->gz), z == Z_BUF_ERROR ? "it ends too early" : why);
		if (got < 0 || (got == 0 && s->error[0] != '\0'))
			return fail_read(s);
	}
	if (got > 0 && !see(s, (uint8_t *)dst, (size_t)got)) {
		s->code = NSSM_EFORMAT;
		snprintf(s->error, sizeof s->error, "more than %d interfaces", NSSM_CAPTURE_IFACES_MAX);
		return fail_read(s);
	}
	s->pos += (uint64_t)got;
	z_off_t off = s->regular ? gzoffset(s->gz) : 0;
	s->raw_pos = off > 0 ? (uint64_t)off : 0;
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

int nssm_capture_stream_open(
        struct nssm_capture_stream **sp, FILE **f, const char *path, const char *name, struct nssm_err *err)
{
	struct nssm_capture_stream *s = calloc(1, sizeof *s);
	*sp = s;
	*f = NULL;
	if (s == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a read buffer", name);
	s->name = name;
	int fd = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
	                                : open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int rc;
	if (fd < 0 || fstat(fd, &st) != 0) {
		rc = nssm_err_set(err, NSSM_EIO, "%s: cannot open: %s", name, strerror(errno));
		goto fail;
	}
	if (S_ISDIR(st.st_mode)) {
		rc = nssm_err_set(err, NSSM_EIO, "%s: is a folder, expected a capture file", name);
		goto fail;
	}
	s->regular = S_ISREG(st.st_mode);
	s->file_bytes = s->regular ? (uint64_t)st.st_size : 0;
	/* gzdopen reads gz where the first bytes say so, anything else as it is; pipes too. */
	s->gz = gzdopen(fd, "r");
	if (s->gz == NULL || gzbuffer(s->gz, GZ_BUF) != 0) {
		rc = nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for zlib", name);
		goto fail;
	}
	fd = -1;
	*f = fopencookie(s, "r", (cookie_io_functions_t){.read = stream_read, .seek = stream_seek});
	if (*f == NULL) {
		rc = nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a stream", name);
		goto fail;
	}
	setvbuf(*f, s->buf, _IOFBF, sizeof s->buf);
	return 0;
fail:
	if (fd >= 0 && s->gz == NULL)
		close(fd);
	nssm_capture_stream_close(sp);
	return rc;
}

void nssm_capture_stream_close(struct nssm_capture_stream **sp)
{
	if (*sp == NULL)
		return;
	if ((*sp)->gz != NULL)
		gzclose((*sp)->gz);
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
	return s->raw_pos;
}

bool nssm_capture_stream_classic(const struct nssm_capture_stream *s)
{
	return s->kind == KIND_CLASSIC;
}

void nssm_capture_stream_info(const struct nssm_capture_stream *s, struct nssm_capture_info *info)
{
	info->file_bytes = s->file_bytes;
	info->gz = gzdirect(s->gz) == 0;
	if (s->kind == KIND_CLASSIC) {
		info->ns = s->ns;
		info->snaplen = s->snaplen;
	}
}
