#include "replay/clone_impl.h"

/* One patch at work. */
struct work {
	const struct nssm_cloner *c;
	const struct nssm_play_id *id;
	uint32_t side; /* which the packet leaves from */
};

static void xor_stream(uint8_t *dst, const uint8_t *src, uint32_t n, uint64_t random, uint32_t at)
{
	for (uint32_t i = 0; i < n; i++, at++)
		dst[i] = src[i] ^ (uint8_t)(nssm_purpose(random, at / 8 + 1) >> 8 * (at % 8));
}

static void end_mac(uint8_t *dst, const struct work *w, const struct nssm_endpoint *e)
{
	struct nssm_mapped m = {.number = e->idx};
	if (w->c->cfg.rewrite)
		nssm_map_endpoint(&m, w->c, e->ip_version == 6, e->role, e->idx, w->id->slot);
	uint64_t mac = nssm_clone_mac(w->c, e->role, m.number, nssm_mac_value(dst));
	nssm_put16(dst, (uint32_t)(mac >> 32));
	nssm_put32(dst + 2, (uint32_t)mac);
}

/* The new bytes; is holds the old ones. */
static void patched(uint8_t *is, const struct work *w, const struct nssm_patch *p)
{
	const struct nssm_flow *f = p->ref;
	const struct nssm_endpoint *e = p->ref;
	struct nssm_mapped m[2];
	uint64_t random = 0;
	if (p->what != NSSM_PATCH_ADDR && p->what != NSSM_PATCH_MAC && p->what != NSSM_PATCH_IP_ID &&
	        p->what != NSSM_PATCH_SID)
		random = nssm_flow_random(w->id->key, f->idx);
	switch (p->what) {
	case NSSM_PATCH_ADDR:
		nssm_map_endpoint(m, w->c, p->n == 16, e->role, e->idx, w->id->slot);
		if (nssm_is_mapped(w->c, p->n == 16, e->role))
			nssm_clone_addr(is, w->c, p->n == 16, e->role, m[0].number);
		break;
	case NSSM_PATCH_MAC:
		end_mac(is, w, e);
		break;
	case NSSM_PATCH_PORT:
		nssm_map_flow(m, w->c, f, w->id->slot);
		nssm_put16(is, m[p->at].port);
		break;
	case NSSM_PATCH_ECHO:
		nssm_map_flow(m, w->c, f, w->id->slot);
		nssm_put16(is, nssm_map_echo(f, m));
		break;
	case NSSM_PATCH_IP_ID:
		nssm_put16(is, nssm_id_add(nssm_get16(is), nssm_ip_id_offset(w->id->key, e->role, e->idx)));
		break;
	case NSSM_PATCH_SEQ:
		nssm_put32(is, nssm_get32(is) + (uint32_t)(p->at ? random >> 32 : random));
		break;
	case NSSM_PATCH_TS:
		random = nssm_ts_random(random);
		nssm_put32(is, nssm_get32(is) + (uint32_t)(p->at ? random >> 32 : random));
		break;
	case NSSM_PATCH_DNS:
		nssm_put16(is,
		        nssm_id_add(nssm_get16(is), nssm_id_offset(nssm_purpose(random, NSSM_RANDOM_DNS))));
		break;
	case NSSM_PATCH_RANDOM:
		xor_stream(is, is, p->n, nssm_purpose(random, NSSM_RANDOM_TLS + (p->at >> 8)), p->at & 255);
		break;
	case NSSM_PATCH_SID:
		/* The same for all flows: a client that resumes offers on one what it was given on another. */
		xor_stream(is, is, p->n, nssm_purpose(w->id->key, NSSM_RANDOM_SID), p->at & 255);
		break;
	default:
		break;
	}
}

/* new + ~old over n bytes. off: where they lie, from an even byte on. */
static uint32_t difference(const uint8_t *is, const uint8_t *was, uint32_t n, uint32_t off)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < n; i++) {
		/* The other half of the word is 0 + ~0, which counts for nothing. */
		unsigned up = (off + i) & 1 ? 0 : 8;
		sum += ((uint32_t)is[i] << up) + (uint16_t) ~((uint32_t)was[i] << up);
	}
	return nssm_sum_fold(sum);
}

uint32_t nssm_clone_patch(const struct nssm_cloner *c, uint8_t *dst, int shift, const struct nssm_rec *rec,
        const struct nssm_play_id *id, bool macs_only)
{
	struct work w = {.c = c, .id = id, .side = rec->dir};
	uint64_t sum = 0, inner_l4 = 0, inner_ip = 0;
	const struct nssm_patches *all = nssm_rec_patches(rec);
	for (uint32_t i = 0; all != NULL && i < all->n; i++) {
		const struct nssm_patch *p = &all->patch[i];
		uint8_t *at = p->off < 12 ? dst + p->off : dst + shift + p->off, was[64];
		if ((macs_only && p->what != NSSM_PATCH_MAC) ||
		        (p->what == NSSM_PATCH_MAC && p->at == 1 && c->has_hop[w.side]))
			continue;
		memcpy(was, at, p->n);
		if (p->what == NSSM_PATCH_CSUM)
			nssm_sum_apply(at, (uint16_t)nssm_get16(at),
			        p->sum == NSSM_SUM_INNER_IP ? inner_ip : inner_l4, p->at == 1);
		else
			patched(at, &w, p);
		uint32_t d = difference(at, was, p->n, p->off);
		if (p->what == NSSM_PATCH_CSUM || (p->sum & NSSM_SUM_L4) != 0)
			sum += d;
		if (p->what == NSSM_PATCH_CSUM)
			continue;
		if (p->sum & NSSM_SUM_INNER_L4)
			inner_l4 += d;
		if (p->sum & NSSM_SUM_INNER_IP)
			inner_ip += d;
	}
	return nssm_sum_fold(sum);
}
