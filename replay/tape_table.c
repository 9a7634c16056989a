#include "replay/tape_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>

/* A flow brings at most two endpoints and two sockets. */
#define ROWS_PER_FLOW 3u

int nssm_table_open(struct nssm_table *h, uint32_t flows_max, struct nssm_err *err)
{
	*h = (struct nssm_table){.left = flows_max};
	if (flows_max < 3 || flows_max > UINT32_MAX / 8)
		return nssm_err_set(err, NSSM_ERANGE, "tapes: a table of %u flows; 3 to %u can be had",
		        flows_max, UINT32_MAX / 8);
	uint32_t n = ROWS_PER_FLOW * flows_max;
	h->n_rows = n;
	h->n_buckets = 16;
	while (h->n_buckets < n)
		h->n_buckets *= 2;
	h->row = malloc((n + 1) * sizeof *h->row);
	h->bucket = calloc(h->n_buckets, sizeof *h->bucket);
	if (h->row == NULL || h->bucket == NULL) {
		nssm_table_close(h);
		return nssm_err_set(err, NSSM_ENOMEM, "tapes: no memory for a table of %u flows", flows_max);
	}
	h->fresh = 1;
	if (getrandom(&h->key, sizeof h->key, GRND_NONBLOCK) != (ssize_t)sizeof h->key)
		h->key =
		        0x9e3779b97f4a7c15u; /* no entropy: slower against a capture made to be slow, nothing else */
	return 0;
}

void nssm_table_close(struct nssm_table *h)
{
	free(h->row);
	free(h->bucket);
	*h = (struct nssm_table){0};
}

/* --- hashes: keyed, and what they give orders nothing --- */

static uint64_t mix(uint64_t h, uint64_t w, uint64_t key)
{
	h = (h ^ w) * 0xff51afd7ed558ccdu + key;
	return h ^ h >> 32;
}

static uint64_t hash_addr(const struct nssm_table *h, const uint8_t *addr, uint32_t len, uint64_t with)
{
	uint64_t w[2] = {0};
	memcpy(w, addr, len);
	return mix(mix(mix(h->key, with, h->key), w[0], h->key), w[1], h->key);
}

static uint32_t fold(const struct nssm_table *h, uint64_t a, const void *owner, uint64_t b)
{
	uint64_t x = mix(mix(mix(a, (uintptr_t)owner, h->key), b, h->key), 0, h->key);
	return (uint32_t)(x >> 32) & (h->n_buckets - 1);
}

static uint32_t endpoint_bucket(
        const struct nssm_table *h, const struct nssm_tape *t, const uint8_t *addr, int ip_version)
{
	return fold(h, hash_addr(h, addr, ip_version == 4 ? 4 : 16, 1), t, 0);
}

/* The same for both directions. */
static uint32_t flow_bucket(const struct nssm_table *h, const struct nssm_tape *t,
        const uint8_t *const addr[2], const uint16_t port[2], uint32_t addr_len, uint8_t proto)
{
	uint64_t a = hash_addr(h, addr[0], addr_len, (uint64_t)port[0] << 8),
	         b = hash_addr(h, addr[1], addr_len, (uint64_t)port[1] << 8);
	return fold(h, a + b, t, proto + 1u);
}

static uint32_t socket_bucket(
        const struct nssm_table *h, const struct nssm_endpoint *e, uint8_t proto, uint16_t port)
{
	return fold(h, h->key, e, (uint64_t)proto << 32 | 1u << 16 | port);
}

/* --- rows --- */

static struct nssm_row *add(struct nssm_table *h, struct nssm_tape *t, uint32_t bucket)
{
	uint32_t i = h->free != 0 ? h->free : h->fresh++;
	assert(i <= h->n_rows);
	struct nssm_row *r = &h->row[i];
	if (i == h->free)
		h->free = r->chain;
	*r = (struct nssm_row){.chain = h->bucket[bucket], .of_tape = t->rows, .bucket = bucket};
	h->bucket[bucket] = i;
	t->rows = i;
	return r;
}

struct nssm_row *nssm_table_endpoint(
        struct nssm_table *h, const struct nssm_tape *t, const uint8_t *addr, int ip_version)
{
	size_t n = ip_version == 4 ? 4 : 16;
	for (uint32_t i = h->bucket[endpoint_bucket(h, t, addr, ip_version)]; i != 0; i = h->row[i].chain) {
		struct nssm_row *r = &h->row[i];
		const struct nssm_endpoint *e = r->obj;
		if (r->kind == NSSM_ROW_ENDPOINT && r->owner == t && e->ip_version == ip_version &&
		        memcmp(e->addr, addr, n) == 0)
			return r;
	}
	return NULL;
}

static bool same_ends(const struct nssm_flow *f, int dir, const struct nssm_layout *l)
{
	return f->port[dir] == l->port[0] && f->port[!dir] == l->port[1] &&
	       memcmp(f->end[dir]->addr, l->addr[0], l->addr_len) == 0 &&
	       memcmp(f->end[!dir]->addr, l->addr[1], l->addr_len) == 0;
}

struct nssm_row *nssm_table_flow(
        struct nssm_table *h, const struct nssm_tape *t, int *dir, const struct nssm_layout *l)
{
	uint32_t bucket = flow_bucket(h, t, l->addr, l->port, l->addr_len, l->h.proto);
	for (uint32_t i = h->bucket[bucket]; i != 0; i = h->row[i].chain) {
		struct nssm_row *r = &h->row[i];
		const struct nssm_flow *f = r->obj;
		if (r->kind != NSSM_ROW_FLOW || r->owner != t || f->proto != l->h.proto ||
		        f->ip_version != l->h.ip_version)
			continue;
		for (*dir = 0; *dir < 2; ++*dir)
			if (same_ends(f, *dir, l))
				return r;
	}
	return NULL;
}

void nssm_table_add_endpoint(struct nssm_table *h, struct nssm_tape *t, struct nssm_endpoint *e, bool guessed)
{
	assert(h->left > 0);
	h->left--;
	struct nssm_row *r = add(h, t, endpoint_bucket(h, t, e->addr, e->ip_version));
	r->kind = NSSM_ROW_ENDPOINT;
	r->port = guessed;
	r->owner = t;
	r->obj = e;
}

void nssm_table_add_flow(struct nssm_table *h, struct nssm_tape *t, struct nssm_flow *f)
{
	assert(h->left > 0);
	h->left--;
	const uint8_t *addr[2] = {f->end[0]->addr, f->end[1]->addr};
	struct nssm_row *r =
	        add(h, t, flow_bucket(h, t, addr, f->port, f->ip_version == 4 ? 4 : 16, f->proto));
	r->kind = NSSM_ROW_FLOW;
	r->owner = t;
	r->obj = f;
}

uint32_t nssm_table_socket(
        struct nssm_table *h, struct nssm_tape *t, struct nssm_endpoint *e, uint8_t proto, uint16_t port)
{
	uint32_t bucket = socket_bucket(h, e, proto, port);
	for (uint32_t i = h->bucket[bucket]; i != 0; i = h->row[i].chain) {
		const struct nssm_row *r = &h->row[i];
		if (r->kind == NSSM_ROW_SOCKET && r->owner == e && r->proto == proto && r->port == port)
			return (uint32_t)(uintptr_t)r->obj;
	}
	struct nssm_row *r = add(h, t, bucket);
	r->kind = NSSM_ROW_SOCKET;
	r->proto = proto;
	r->port = port;
	r->owner = e;
	uint32_t number = e->n_sockets++;
	r->obj = (void *)(uintptr_t)number;
	if (e->n_sockets > t->max_sockets)
		t->max_sockets = e->n_sockets;
	return number;
}

void nssm_table_drop(struct nssm_table *h, struct nssm_tape *t)
{
	for (uint32_t i = t->rows, next; i != 0; i = next) {
		struct nssm_row *r = &h->row[i];
		uint32_t *link = &h->bucket[r->bucket];
		while (*link != i)
			link = &h->row[*link].chain;
		*link = r->chain;
		h->left += r->kind != NSSM_ROW_SOCKET;
		next = r->of_tape;
		r->chain = h->free;
		h->free = i;
	}
	t->rows = 0;
}
