#include "replay/rows.h"

#include <stdlib.h>
#include <string.h>

#define LEAF_LOG2_MAX 7u /* 128 rows and a head fit a chunk */
#define NODE_LOG2     5u /* a node has the room of so many rows */
#define CHILD_BITS    8u
#define CHILDREN      (1u << CHILD_BITS)

_Static_assert(sizeof(struct nssm_flow_row) == 64, "a row is a cache line");
_Static_assert(CHILDREN * sizeof(void *) == sizeof(struct nssm_flow_row) << NODE_LOG2, "a node has the room of its rows");

struct nssm_row_seg {
	struct nssm_row_seg *next; /* in the free list */
	uint32_t log2;             /* room for so many rows */
	uint32_t level;            /* 0: a leaf of rows; else of children of the level below */
	uint8_t pad[48];
	union {
		struct nssm_flow_row row[1u << LEAF_LOG2_MAX]; /* 1 << log2 of them */
		struct nssm_row_seg *child[CHILDREN];
	};
};
#define HEAD offsetof(struct nssm_row_seg, row)
_Static_assert(HEAD == 64, "rows stay aligned");
_Static_assert(sizeof(struct nssm_row_seg) <= NSSM_CHUNK_BYTES, "the largest leaf fits a chunk");

struct nssm_rows {
	struct nssm_arena *arena;
	struct nssm_row_seg *spare[LEAF_LOG2_MAX + 1];
	uint8_t *chunk; /* being cut up */
	size_t used;
};

int nssm_rows_open(struct nssm_rows **rp, const struct nssm_arena_cfg *arena, struct nssm_err *err)
{
	struct nssm_rows *r = calloc(1, sizeof *r);
	*rp = r;
	if (r == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for rows");
	int rc = nssm_arena_open(&r->arena, arena, err);
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

bool nssm_rows_touch(const struct nssm_rows *r, size_t *at)
{
	return nssm_arena_touch(r->arena, at);
}

static struct nssm_row_seg *new_seg(struct nssm_rows *r, uint32_t log2, uint32_t level)
{
	struct nssm_row_seg *s = r->spare[log2];
	size_t bytes = HEAD + (sizeof s->row[0] << log2);
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
	s->level = level;
	return s;
}

static void spare_seg(struct nssm_rows *r, struct nssm_row_seg *s)
{
	s->next = r->spare[s->log2];
	r->spare[s->log2] = s;
}

/* How many rows there may be below it. */
static uint64_t span(const struct nssm_row_seg *s)
{
	return s->level == 0 ? 1ull << s->log2 : 1ull << (LEAF_LOG2_MAX + CHILD_BITS * s->level);
}

static uint32_t child_of(const struct nssm_row_seg *s, uint32_t idx)
{
	return (uint32_t)((uint64_t)idx >> (LEAF_LOG2_MAX + CHILD_BITS * (s->level - 1))) % CHILDREN;
}

/* A root with more room. */
static bool grow(struct nssm_rows *r, struct nssm_row_seg **root)
{
	struct nssm_row_seg *old = *root;
	bool leaf = old->level == 0 && old->log2 < LEAF_LOG2_MAX;
	struct nssm_row_seg *s = leaf ? new_seg(r, old->log2 + 1, 0) : new_seg(r, NODE_LOG2, old->level + 1);
	if (s == NULL)
		return false;
	if (leaf) {
		memcpy(s->row, old->row, sizeof old->row[0] << old->log2);
		spare_seg(r, old);
	} else {
		s->child[0] = old;
	}
	*root = s;
	return true;
}

struct nssm_flow_row *nssm_rows_get(struct nssm_rows *r, struct nssm_row_seg **root, uint32_t idx)
{
	if (*root == NULL && (*root = new_seg(r, 0, 0)) == NULL)
		return NULL;
	while (idx >= span(*root))
		if (!grow(r, root))
			return NULL;
	struct nssm_row_seg *s = *root;
	while (s->level > 0) {
		struct nssm_row_seg **at = &s->child[child_of(s, idx)];
		if (*at == NULL)
			*at = s->level == 1 ? new_seg(r, LEAF_LOG2_MAX, 0) : new_seg(r, NODE_LOG2, s->level - 1);
		if (*at == NULL)
			return NULL;
		s = *at;
	}
	return &s->row[idx & ((1u << s->log2) - 1)];
}

const struct nssm_flow_row *nssm_rows_find(const struct nssm_row_seg *s, uint32_t idx)
{
	if (s == NULL || idx >= span(s))
		return NULL;
	while (s != NULL && s->level > 0)
		s = s->child[child_of(s, idx)];
	return s != NULL ? &s->row[idx & ((1u << s->log2) - 1)] : NULL;
}

/* As deep as there are levels: four at most. */
static void put_seg(struct nssm_rows *r, struct nssm_row_seg *s)
{
	for (uint32_t i = 0; s->level > 0 && i < CHILDREN; i++)
		if (s->child[i] != NULL)
			put_seg(r, s->child[i]);
	spare_seg(r, s);
}

void nssm_rows_put(struct nssm_rows *r, struct nssm_row_seg **root)
{
	if (*root != NULL)
		put_seg(r, *root);
	*root = NULL;
}
