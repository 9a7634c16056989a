#include "replay/arena.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES    (2u << 20)
#define SEGMENT_BYTES ((size_t)16 << 20) /* by which the spill grows */

/* A chunk that nobody has, in its own first bytes. */
struct free_chunk {
	struct free_chunk *next;
};

struct nssm_arena {
	struct nssm_arena_stats stats;
	void *map;
	size_t map_bytes;
	uint8_t *mem;     /* chunks, aligned */
	uint64_t untaken; /* chunks mem[untaken..] were never given out */
	struct free_chunk *free, *free_spill;

	int fd; /* -1: no spill */
	char *dir;
	uint64_t spill_max, spill_bytes;
	uint8_t **segment;
	uint64_t n_segments, segments_cap;
	uint64_t segment_taken; /* chunks of the last segment */
};

/* The whole of it is touched, since the first touch of a page costs 50 times what the second does. */
static int map_memory(struct nssm_arena *a, size_t bytes, bool lazy, struct nssm_err *err)
{
	size_t n = bytes / NSSM_CHUNK_BYTES + (bytes % NSSM_CHUNK_BYTES != 0);
	size_t align = bytes >= 2 * (size_t)HUGE_BYTES ? HUGE_BYTES : NSSM_CHUNK_BYTES;
	if (n > (SIZE_MAX - align) / NSSM_CHUNK_BYTES)
		return nssm_err_set(
		        err, NSSM_ENOMEM, "arena of %zu bytes: more than can be addressed", bytes);
	a->map_bytes = n * NSSM_CHUNK_BYTES + align;
	a->map = mmap(NULL, a->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (a->map == MAP_FAILED) {
		a->map = NULL;
		return nssm_err_set(
		        err, NSSM_ENOMEM, "arena: no %zu bytes of memory: %s", bytes, strerror(errno));
	}
	a->mem = (uint8_t *)(((uintptr_t)a->map + align - 1) / align * align);
	a->stats.chunks = n;
	/* Fewer TLB misses where the kernel has huge pages to give; where not, nothing is lost. */
	(void)madvise(a->mem, n * NSSM_CHUNK_BYTES, MADV_HUGEPAGE);
	for (size_t at = 0; !lazy && at < n * NSSM_CHUNK_BYTES; at += 4096)
		((volatile uint8_t *)a->mem)[at] = 0;
	return 0;
}

/* Whoever has a chunk may be writing to it, so pages are asked for and not written to. */
bool nssm_arena_touch(const struct nssm_arena *a, size_t *at)
{
	size_t n = a->stats.chunks * NSSM_CHUNK_BYTES, from = *at < n ? *at : n, left = n - from;
	left = left < HUGE_BYTES ? left : HUGE_BYTES;
	*at = from + left;
	return left > 0 && madvise(a->mem + from, left, MADV_POPULATE_WRITE) == 0;
}

static int open_spill(struct nssm_arena *a, const char *dir, struct nssm_err *err)
{
	char path[4096];
	int n = snprintf(path, sizeof path, "%s/.netssm-spill-XXXXXX", dir);
	if (n < 0 || (size_t)n >= sizeof path)
		return nssm_err_set(err, NSSM_EARG, "spill folder %.200s: the name is too long", dir);
	a->fd = mkostemp(path, O_CLOEXEC);
	if (a->fd < 0)
		return nssm_err_set(err, NSSM_EIO, "spill folder %.200s: no file can be made there: %s", dir,
		        strerror(errno));
	(void)unlink(path);
	a->dir = strdup(dir);
	return a->dir != NULL ? 0 : nssm_err_set(err, NSSM_ENOMEM, "arena: no memory for a name");
}

int nssm_arena_open(struct nssm_arena **out, const struct nssm_arena_cfg *cfg, struct nssm_err *err)
{
	struct nssm_arena *a = calloc(1, sizeof *a);
	if (a == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "arena: no memory");
	a->fd = -1;
	a->spill_max = cfg->spill_bytes != 0 ? cfg->spill_bytes : UINT64_MAX;
	int rc = map_memory(a, cfg->bytes, cfg->lazy, err);
	if (rc == 0 && cfg->spill_dir != NULL)
		rc = open_spill(a, cfg->spill_dir, err);
	if (rc != 0)
		nssm_arena_close(&a);
	else
		*out = a;
	return rc;
}

void nssm_arena_close(struct nssm_arena **pa)
{
	struct nssm_arena *a = *pa;
	if (a == NULL)
		return;
	for (uint64_t i = 0; i < a->n_segments; i++)
		munmap(a->segment[i], SEGMENT_BYTES);
	free(a->segment);
	free(a->dir);
	if (a->fd >= 0)
		close(a->fd);
	if (a->map != NULL)
		munmap(a->map, a->map_bytes);
	free(a);
	*pa = NULL;
}

static bool in_memory(const struct nssm_arena *a, const void *chunk)
{
	return (uintptr_t)chunk - (uintptr_t)a->mem < a->stats.chunks * NSSM_CHUNK_BYTES;
}

/* A segment of the file at an address that chunks may have: mmap itself aligns to pages only. NULL: errno. */
static uint8_t *map_aligned(int fd, off_t at)
{
	size_t room = SEGMENT_BYTES + NSSM_CHUNK_BYTES;
	uint8_t *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	size_t before = -(uintptr_t)p % NSSM_CHUNK_BYTES;
	void *q = mmap(p + before, SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, at);
	if (q == MAP_FAILED) {
		int why = errno;
		munmap(p, room);
		errno = why;
		return NULL;
	}
	if (before > 0)
		munmap(p, before);
	munmap(p + before + SEGMENT_BYTES, NSSM_CHUNK_BYTES - before);
	return q;
}

/* One more segment of the file. Its room on the disk is taken now: a page that finds none later would be a SIGBUS. */
static int grow_spill(struct nssm_arena *a, struct nssm_err *err)
{
	if (a->n_segments == a->segments_cap) {
		uint64_t cap = a->segments_cap != 0 ? 2 * a->segments_cap : 16;
		uint8_t **more = realloc(a->segment, cap * sizeof *more);
		if (more == NULL)
			return nssm_err_set(err, NSSM_ENOMEM, "arena: no memory for %llu spill segments",
			        (unsigned long long)cap);
		a->segment = more;
		a->segments_cap = cap;
	}
	off_t at = (off_t)(a->n_segments * SEGMENT_BYTES);
	int rc;
	do
		rc = posix_fallocate(a->fd, at, (off_t)SEGMENT_BYTES);
	while (rc == EINTR);
	if (rc != 0) {
		/* Others may need what little there was. */
		(void)!ftruncate(a->fd, at);
		return nssm_err_set(err, NSSM_EIO,
		        "spill file in %.200s: no room for %zu bytes after %lld: %s", a->dir, SEGMENT_BYTES,
		        (long long)at, strerror(rc));
	}
	uint8_t *p = map_aligned(a->fd, at);
	if (p == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "spill file in %.200s: cannot be mapped at %lld: %s",
		        a->dir, (long long)at, strerror(errno));
	a->segment[a->n_segments++] = p;
	a->segment_taken = 0;
	return 0;
}

static void *get_spilled(struct nssm_arena *a, struct nssm_err *err)
{
	if (a->fd < 0 || a->stats.spill_used + NSSM_CHUNK_BYTES > a->spill_max)
		return NULL;
	void *chunk = a->free_spill;
	if (chunk != NULL) {
		a->free_spill = a->free_spill->next;
	} else {
		if ((a->n_segments == 0 || a->segment_taken == SEGMENT_BYTES / NSSM_CHUNK_BYTES) &&
		        grow_spill(a, err) != 0)
			return NULL;
		chunk = a->segment[a->n_segments - 1] + a->segment_taken++ * NSSM_CHUNK_BYTES;
	}
	a->stats.spill_used += NSSM_CHUNK_BYTES;
	if (a->stats.spill_used > a->stats.spill_used_max)
		a->stats.spill_used_max = a->stats.spill_used;
	return chunk;
}

void *nssm_arena_get(struct nssm_arena *a, struct nssm_err *err)
{
	void *chunk = a->free;
	if (chunk != NULL)
		a->free = a->free->next;
	else if (a->untaken < a->stats.chunks)
		chunk = a->mem + a->untaken++ * NSSM_CHUNK_BYTES;
	else
		return get_spilled(a, err);
	if (++a->stats.chunks_used > a->stats.chunks_used_max)
		a->stats.chunks_used_max = a->stats.chunks_used;
	return chunk;
}

void nssm_arena_put(struct nssm_arena *a, void *chunk)
{
	assert((uintptr_t)chunk % NSSM_CHUNK_BYTES == 0);
	struct free_chunk *f = chunk;
	if (in_memory(a, chunk)) {
		assert(a->stats.chunks_used > 0);
		f->next = a->free;
		a->free = f;
		a->stats.chunks_used--;
	} else {
		assert(a->stats.spill_used >= NSSM_CHUNK_BYTES);
		f->next = a->free_spill;
		a->free_spill = f;
		a->stats.spill_used -= NSSM_CHUNK_BYTES;
	}
}

uint64_t nssm_arena_left(const struct nssm_arena *a)
{
	return a->stats.chunks - a->stats.chunks_used;
}

void nssm_arena_cold(struct nssm_arena *a, void *chunk)
{
	/* The file keeps what was written: only the mapping forgets the pages, and the kernel may write and drop them. */
	if (!in_memory(a, chunk))
		(void)madvise(chunk, NSSM_CHUNK_BYTES, MADV_DONTNEED);
}

const struct nssm_arena_stats *nssm_arena_stats(const struct nssm_arena *a)
{
	return &a->stats;
}
