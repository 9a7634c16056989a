/* arena — fixed-size chunks for the packets of sessions that are playing or kept. One arena an engine (one thread), so no lock.
 * Memory : `bytes` are mapped and, unless lazy, touched at open (first touch is 50 times slower than the second); or later, by
 *          nssm_arena_touch. With a spill folder, more
 *          chunks come from an unlinked temporary file there (reserved with posix_fallocate before use, so a full disk is an
 *          error and no SIGBUS; mapped shared; nssm_arena_cold lets their pages go), up to spill_bytes.
 * Nothing is allocated from the heap after open but the spill's mappings.                                                   */
#ifndef NSSM_ARENA_H
#define NSSM_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define NSSM_CHUNK_BYTES 16384u

struct nssm_arena_cfg {
	size_t bytes;             /* in memory; rounded up to a chunk */
	bool lazy;                /* not touched at open: for virtual time, where no wire waits and most runs need little */
	const char *spill_dir;    /* NULL: none */
	uint64_t spill_bytes;     /* 0: no bound */
};

struct nssm_arena_stats {
	uint64_t chunks, chunks_used, chunks_used_max; /* in memory */
	uint64_t spill_used, spill_used_max;           /* bytes in the file */
};

struct nssm_arena;
int nssm_arena_open(struct nssm_arena **a, const struct nssm_arena_cfg *cfg, struct nssm_err *err);
void nssm_arena_close(struct nssm_arena **a);
/* Asks for the pages of the next 2 MB from *at on (begin with 0), the way chunks are given out, and moves it. By any thread while the
 * arena is in use. False: nothing is left to ask for, or the kernel cannot be asked (before 5.14). */
bool nssm_arena_touch(const struct nssm_arena *a, size_t *at);
/* A chunk of NSSM_CHUNK_BYTES, aligned to them, or NULL: full (no spill folder), or the spill failed (err is written;
 * err->code stays 0 if it is only full). */
void *nssm_arena_get(struct nssm_arena *a, struct nssm_err *err);
void nssm_arena_put(struct nssm_arena *a, void *chunk);
/* Chunks that nssm_arena_get can still give without spilling. */
uint64_t nssm_arena_left(const struct nssm_arena *a);
/* The chunk will not be looked at soon: if it is spilled, its pages may leave memory. */
void nssm_arena_cold(struct nssm_arena *a, void *chunk);
const struct nssm_arena_stats *nssm_arena_stats(const struct nssm_arena *a);

#endif
