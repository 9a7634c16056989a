#include "replay/rows.h"

#include <stdlib.h>
#include <string.h>

#define SEG_LOG2_MAX 7u /* 128 rows and a header fit a chunk */

_Static_assert(sizeof(struct nssm_flow_row) == 64, "a row is a cache line");

struct nssm_row_seg {
	struct nssm_row_seg *next;
	uint32_t log2, n;
	uint8_t pad[48];
	struct nssm_flow_row row[];
};
_Static_assert(sizeof(struct nssm_row_seg) == 64, "rows stay aligned");
_Static_assert(64 + (64u << SEG_LOG2_MAX) <= NSSM_CHUNK_BYTES, "the largest segment fits a chunk");

struct nssm_rows {
	struct nssm_arena *arena;
	struct nssm_row_seg *spare[SEG_LOG2_MAX + 1];
	uint8_t *chunk; /* being cut up */
	size_t used;
};

int nssm_rows_open(struct nssm_rows **rp, size_t bytes, bool lazy, struct nssm_err *err)
{
	struct nssm_rows *r = calloc(1, sizeof *r);
	*rp = r;
	if (r == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for rows");
	int rc = nssm_arena_open(&r->arena, &(struct nssm_arena_cfg){.bytes = bytes, .lazy = lazy}, err);
	if (rc != 0)
		nssm_rows_close(rp);
	return rc;
}

void nssm_rows_close(struct nssm_rows **rp)
{
	if (*rp == NULL)
		return;
	nssm_arena_close(&(*rp)->arena);
	free(*rp);
	*rp = NULL;
}

static struct nssm_row_seg *new_seg(struct nssm_rows *r, uint32_t log2)
{
	struct nssm_row_seg *s = r->spare[log2];
	size_t bytes = 64 + (64u << log2);
	if (s != NULL) {
		r->spare[log2] = s->next;
	} else {
		if (r->chunk == NULL || r->used + bytes > NSSM_CHUNK_BYTES) {
			uint8_t *chunk = nssm_arena_get(r->arena, NULL);
			if (chunk == NULL)
				return NULL;
			r->chunk = chunk;
			r->used = 0;
		}
		s = (struct nssm_row_seg *)(r->chunk + r->used);
		r->used += bytes;
	}
	memset(s, 0, bytes);
	s->log2 = log2;
	s->n = 1u << log2;
	return s;
}

struct nssm_flow_row *nssm_rows_get(struct nssm_rows *r, struct nssm_row_seg **list, uint32_t idx)
{
	uint32_t log2 = 0;
	for (struct nssm_row_seg **at = list;; at = &(*at)->next) {
		if (*at == NULL && (*at = new_seg(r, log2)) == NULL)
			return NULL;
		if (idx < (*at)->n)
			return &(*at)->row[idx];
		idx -= (*at)->n;
		log2 = (*at)->log2 < SEG_LOG2_MAX ? (*at)->log2 + 1 : SEG_LOG2_MAX;
	}
}

void nssm_rows_put(struct nssm_rows *r, struct nssm_row_seg **list)
{
	while (*list != NULL) {
		struct nssm_row_seg *s = *list;
		*list = s->next;
		s->next = r->spare[s->log2];
		r->spare[s->log2] = s;
	}
}
