#include "replay/flowset.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define CAP_FIRST 256

_Static_assert(sizeof(struct nssm_flow_key) == 38, "a hole in the flow key");

static uint64_t mix(uint64_t h, uint64_t w, uint64_t key)
{
	h = (h ^ w) * 0xff51afd7ed558ccdu + key;
	return h ^ h >> 32;
}

static uint64_t hash(const struct nssm_flow_set *s, uint32_t session, const struct nssm_flow_key *flow)
{
	uint8_t bytes[40] = {0};
	memcpy(bytes, flow, sizeof *flow);
	uint64_t h = mix(s->key[0], session, s->key[1]);
	for (size_t i = 0; i < sizeof bytes; i += 8) {
		uint64_t w;
		memcpy(&w, bytes + i, 8);
		h = mix(h, w, s->key[i / 8 & 1]);
	}
	h = mix(mix(h, 0, s->key[0]), 0, s->key[1]);
	return h ? h : 1;
}

static bool put(struct nssm_flow_set *s, uint64_t h)
{
	size_t i = h & (s->cap - 1);
	while (s->slot[i] != 0 && s->slot[i] != h)
		i = (i + 1) & (s->cap - 1);
	bool fresh = s->slot[i] == 0;
	s->slot[i] = h;
	return fresh;
}

static int grow(struct nssm_flow_set *s, struct nssm_err *err)
{
	struct nssm_flow_set big = *s;
	big.cap = s->cap ? s->cap * 2 : CAP_FIRST;
	big.slot = calloc(big.cap, sizeof *big.slot);
	if (big.slot == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a table of %zu flows", big.cap);
	if (s->cap == 0 && getrandom(big.key, sizeof big.key, GRND_NONBLOCK) != (ssize_t)sizeof big.key)
		big.key[0] = 0x9e3779b97f4a7c15u; /* no entropy: slower against a capture made to be slow,
		                                     nothing else */
	for (size_t i = 0; i < s->cap; i++)
		if (s->slot[i] != 0)
			put(&big, s->slot[i]);
	free(s->slot);
	*s = big;
	return 0;
}

int nssm_flow_set_add(
        struct nssm_flow_set *s, uint32_t session, const struct nssm_flow_key *flow, struct nssm_err *err)
{
	if (s->n * 2 >= s->cap) {
		int rc = grow(s, err);
		if (rc != 0)
			return rc;
	}
	bool fresh = put(s, hash(s, session, flow));
	s->n += fresh;
	return fresh;
}

void nssm_flow_set_clear(struct nssm_flow_set *s)
{
	if (s->cap > 16 * (s->n + CAP_FIRST))
		nssm_flow_set_free(s);
	else if (s->n > 0)
		memset(s->slot, 0, s->cap * sizeof *s->slot);
	s->n = 0;
}

void nssm_flow_set_free(struct nssm_flow_set *s)
{
	free(s->slot);
	*s = (struct nssm_flow_set){0};
}
