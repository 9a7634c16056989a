#include "replay/spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_TOKENS 32768

struct extent {
	uint64_t off;
	size_t n; /* tokens */
};

struct item {
	uint16_t *buf;
	size_t n, cap;
	struct extent *extent;
	size_t n_extents, extents_cap;
};

struct nssm_spool {
	struct item *item;
	uint32_t n_items, items_cap;
	size_t held, budget; /* bytes */
	int fd;              /* −1: nothing was spilled yet */
	uint64_t spilled;    /* bytes given to the file, those in piece included */
	size_t fill;         /* tokens of piece that wait to be written */
	uint16_t piece[PIECE_TOKENS];
	char path[];
};

int nssm_spool_open(struct nssm_spool **sp, const char *path, size_t budget_bytes, struct nssm_err *err)
{
	struct nssm_spool *s = *sp = calloc(1, sizeof *s + strlen(path) + 16);
	if (s == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a spool", path);
	sprintf(s->path, "%s.spool.XXXXXX", path);
	s->budget = budget_bytes;
	s->fd = -1;
	return 0;
}

void nssm_spool_close(struct nssm_spool **sp)
{
	struct nssm_spool *s = *sp;
	if (s == NULL)
		return;
	for (uint32_t i = 0; i < s->n_items; i++) {
		free(s->item[i].buf);
		free(s->item[i].extent);
	}
	free(s->item);
	if (s->fd >= 0)
		close(s->fd); /* unlinked: nothing to lose */
	free(s);
	*sp = NULL;
}

static int no_memory(const struct nssm_spool *s, struct nssm_err *err)
{
	return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for %u open sessions", s->path, s->n_items);
}

static int write_at(struct nssm_spool *s, uint64_t off, const void *data, size_t n, struct nssm_err *err)
{
	for (const uint8_t *p = data; n > 0;) {
		ssize_t k = pwrite(s->fd, p, n, (off_t)off);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return nssm_err_set(err, NSSM_EIO, "%s: cannot write at offset %llu: %s", s->path,
			        (unsigned long long)off, strerror(k < 0 ? errno : ENOSPC));
		p += k;
		off += (uint64_t)k;
		n -= (size_t)k;
	}
	return 0;
}

static int flush(struct nssm_spool *s, struct nssm_err *err)
{
	size_t n = s->fill * sizeof *s->piece;
	s->fill = 0;
	return write_at(s, s->spilled - n, s->piece, n, err);
}

/* Sessions may be many and short: what they hold is gathered before it is written. */
static int put(struct nssm_spool *s, const uint16_t *tokens, size_t n, struct nssm_err *err)
{
	int rc = s->fill + n > PIECE_TOKENS ? flush(s, err) : 0;
	if (rc == 0 && n > PIECE_TOKENS) {
		rc = write_at(s, s->spilled, tokens, n * sizeof *tokens, err);
	} else if (rc == 0) {
		memcpy(s->piece + s->fill, tokens, n * sizeof *tokens);
		s->fill += n;
	}
	s->spilled += n * sizeof *tokens;
	return rc;
}

static int spill_item(struct nssm_spool *s, struct item *it, struct nssm_err *err)
{
	if (it->n == 0)
		return 0;
	if (it->n_extents == it->extents_cap) {
		size_t cap = it->extents_cap ? it->extents_cap * 2 : 4;
		struct extent *e = realloc(it->extent, cap * sizeof *e);
		if (e == NULL)
			return no_memory(s, err);
		it->extent = e;
		it->extents_cap = cap;
	}
	it->extent[it->n_extents++] = (struct extent){.off = s->spilled, .n = it->n};
	int rc = put(s, it->buf, it->n, err);
	if (rc != 0)
		return rc;
	s->held -= it->cap * sizeof *it->buf;
	free(it->buf);
	it->buf = NULL;
	it->n = it->cap = 0;
	return 0;
}

static int spill(struct nssm_spool *s, struct nssm_err *err)
{
	if (s->fd < 0) {
		s->fd = mkostemp(s->path, O_CLOEXEC);
		if (s->fd < 0)
			return nssm_err_set(err, NSSM_EIO, "%s: cannot create a temporary file: %s", s->path,
			        strerror(errno));
		unlink(s->path);
	}
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < s->n_items; i++)
		rc = spill_item(s, &s->item[i], err);
	return rc == 0 ? flush(s, err) : rc;
}

static int reserve_item(struct nssm_spool *s, uint32_t session, struct nssm_err *err)
{
	assert(session <= s->n_items);
	if (session < s->n_items)
		return 0;
	if (s->n_items == s->items_cap) {
		uint32_t cap = s->items_cap ? s->items_cap * 2 : 64;
		struct item *it = realloc(s->item, cap * sizeof *it);
		if (it == NULL)
			return no_memory(s, err);
		s->item = it;
		s->items_cap = cap;
	}
	s->item[s->n_items++] = (struct item){0};
	return 0;
}

int nssm_spool_add(
        struct nssm_spool *s, uint32_t session, const uint16_t *tokens, size_t n, struct nssm_err *err)
{
	int rc = reserve_item(s, session, err);
	if (rc != 0)
		return rc;
	struct item *it = &s->item[session];
	if (n > it->cap - it->n) {
		size_t cap = it->cap ? it->cap : 256;
		while (cap - it->n < n)
			cap *= 2;
		uint16_t *buf = realloc(it->buf, cap * sizeof *buf);
		if (buf == NULL)
			return no_memory(s, err);
		s->held += (cap - it->cap) * sizeof *buf;
		it->buf = buf;
		it->cap = cap;
	}
	if (n > 0)
		memcpy(it->buf + it->n, tokens, n * sizeof *tokens);
	it->n += n;
	return s->held > s->budget ? spill(s, err) : 0;
}

static int read_at(struct nssm_spool *s, uint64_t off, void *data, size_t n, struct nssm_err *err)
{
	for (uint8_t *p = data; n > 0;) {
		ssize_t k = pread(s->fd, p, n, (off_t)off);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return nssm_err_set(err, NSSM_EIO, "%s: cannot read back at offset %llu: %s", s->path,
			        (unsigned long long)off, k < 0 ? strerror(errno) : "the file ends there");
		p += k;
		off += (uint64_t)k;
		n -= (size_t)k;
	}
	return 0;
}

static int drain_file(struct nssm_spool *s, const struct item *it,
        int (*take)(void *ctx, const uint16_t *tokens, size_t n, struct nssm_err *err), void *ctx,
        struct nssm_err *err)
{
	for (size_t i = 0; i < it->n_extents; i++)
		for (size_t at = 0; at < it->extent[i].n;) {
			size_t left = it->extent[i].n - at, n = left < PIECE_TOKENS ? left : PIECE_TOKENS;
			int rc = read_at(s, it->extent[i].off + at * sizeof *s->piece, s->piece,
			        n * sizeof *s->piece, err);
			if (rc == 0)
				rc = take(ctx, s->piece, n, err);
			if (rc != 0)
				return rc;
			at += n;
		}
	return 0;
}

int nssm_spool_drain(struct nssm_spool *s, uint32_t session,
        int (*take)(void *ctx, const uint16_t *tokens, size_t n, struct nssm_err *err), void *ctx,
        struct nssm_err *err)
{
	assert(session < s->n_items);
	struct item *it = &s->item[session];
	int rc = drain_file(s, it, take, ctx, err);
	if (rc == 0 && it->n > 0)
		rc = take(ctx, it->buf, it->n, err);
	s->held -= it->cap * sizeof *it->buf;
	free(it->buf);
	free(it->extent);
	*it = (struct item){0};
	return rc;
}

uint64_t nssm_spool_spilled(const struct nssm_spool *s)
{
	return s->spilled;
}
