#include "replay/needs.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "replay/arena.h"
#include "replay/tape.h"

#define ARENA_BYTES ((size_t)256 << 20)
#define TAPES_MAX   (1u << 18)
#define FLOWS_MAX   (1u << 18)

struct count {
	struct nssm_needs *needs;
	struct nssm_reader *reader;
	struct nssm_arena *arena;
	struct nssm_tape_builder *builder;
	/* Tapes of the sessions from `base` on; NULL: not begun, or over. */
	struct nssm_tape **tape;
	size_t n, cap;
	uint64_t base;
	bool full;
};

static uint32_t greatest(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static void end_session(struct count *c, struct nssm_tape **t)
{
	if (*t == NULL)
		return;
	struct nssm_needs *n = c->needs;
	for (int v = 0; v < 2; v++) {
		n->endpoints = greatest(n->endpoints, (*t)->n_clients[v]);
		n->servers = greatest(n->servers, (*t)->n_servers[v]);
	}
	n->sockets = greatest(n->sockets, (*t)->max_sockets);
	nssm_tape_finish(c->builder, *t);
	nssm_tape_free(c->builder, t);
}

static void end_below(struct count *c, uint64_t session)
{
	size_t k = 0;
	while (k < c->n && c->base + k < session)
		end_session(c, &c->tape[k++]);
	if (k == 0)
		return;
	c->n -= k;
	c->base += k;
	memmove(c->tape, c->tape + k, c->n * sizeof *c->tape);
}

/* Where the session's tape stands; NULL: no memory. */
static struct nssm_tape **place(struct count *c, uint64_t session)
{
	uint64_t k = session - c->base;
	if (k >= c->cap) {
		size_t cap = k < 512 ? 1024 : 2 * (size_t)k;
		struct nssm_tape **p = realloc(c->tape, cap * sizeof *p);
		if (p == NULL)
			return NULL;
		c->tape = p;
		c->cap = cap;
	}
	for (; c->n <= k; c->n++)
		c->tape[c->n] = NULL;
	return &c->tape[k];
}

static int take(struct count *c, const struct nssm_read_pkt *p, struct nssm_err *err)
{
	struct nssm_tape **t = place(c, p->session);
	if (t == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory to count what the captures' sessions need");
	if (*t == NULL)
		*t = nssm_tape_begin(c->builder, p->session, p->label_idx, p->start_ns);
	c->full = *t == NULL;
	if (c->full)
		return 0;
	int rc = nssm_tape_append(c->builder, *t, p->t_ns - p->start_ns, p->data, p->len, p->wirelen, err);
	c->full = rc == 0;
	/* Who is who is all that is wanted. */
	nssm_tape_trim(c->builder, *t, NULL);
	return rc < 0 ? rc : 0;
}

static int read_all(struct count *c, struct nssm_err *err)
{
	struct nssm_read_pkt p;
	int rc;
	while (!c->full && (rc = nssm_reader_next(c->reader, &p, err)) != 0) {
		if (rc > 0)
			rc = take(c, &p, err);
		if (rc < 0)
			return rc;
		end_below(c, nssm_reader_done_below(c->reader));
	}
	end_below(c, UINT64_MAX);
	return 0;
}

int nssm_needs_count(struct nssm_needs *n, const struct nssm_reader_cfg *cfg,
        const struct nssm_pool *client_nets, const struct nssm_pool *server_nets, size_t bytes,
        struct nssm_err *err)
{
	struct count c = {.needs = n};
	const struct nssm_arena_cfg arena = {.bytes = bytes > 0 ? bytes : ARENA_BYTES, .lazy = true};
	const struct nssm_tape_cfg tapes = {.tapes_max = TAPES_MAX,
	        .flows_max = FLOWS_MAX,
	        .client_nets = client_nets,
	        .server_nets = server_nets};
	*n = (struct nssm_needs){1, 1, 1};
	int rc = nssm_reader_open(&c.reader, cfg, err);
	if (rc == 0)
		rc = nssm_arena_open(&c.arena, &arena, err);
	if (rc == 0)
		rc = nssm_tape_builder_open(&c.builder, c.arena, &tapes, err);
	if (rc == 0)
		rc = read_all(&c, err);
	nssm_tape_builder_close(&c.builder);
	nssm_arena_close(&c.arena);
	nssm_reader_close(&c.reader);
	free(c.tape);
	return rc;
}
