#include "base/philox.h"

#include <math.h>
#include <string.h>

void nssm_philox4x32(uint32_t out[4], const uint32_t ctr[4], const uint32_t key[2])
{
	uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3], k0 = key[0], k1 = key[1];
	for (int round = 0; round < 10; round++) {
		uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
		uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c1 = (uint32_t)p1;
		c3 = (uint32_t)p0;
		c0 = n0;
		c2 = n2;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}

void nssm_rng_init(struct nssm_rng *r, uint64_t seed, uint64_t session, uint32_t purpose)
{
	*r = (struct nssm_rng){.seed = seed, .session = session, .purpose = purpose, .used = 4};
}

uint32_t nssm_rng_u32(struct nssm_rng *r)
{
	if (r->used == 4) {
		uint32_t ctr[4] = {r->block++, r->purpose, (uint32_t)r->session, (uint32_t)(r->session >> 32)};
		uint32_t key[2] = {(uint32_t)r->seed, (uint32_t)(r->seed >> 32)};
		nssm_philox4x32(r->out, ctr, key);
		r->used = 0;
	}
	return r->out[r->used++];
}

uint32_t nssm_rng_below(struct nssm_rng *r, uint32_t n)
{
	/* Lemire 2019: multiply, reject the short first interval. */
	uint64_t m = (uint64_t)nssm_rng_u32(r) * n;
	if ((uint32_t)m < n) {
		uint32_t floor = -n % n;
		while ((uint32_t)m < floor)
			m = (uint64_t)nssm_rng_u32(r) * n;
	}
	return (uint32_t)(m >> 32);
}

double nssm_rng_unit(struct nssm_rng *r)
{
	uint64_t hi = nssm_rng_u32(r), lo = nssm_rng_u32(r);
	return ((double)((hi << 32 | lo) >> 12) + 0.5) * 0x1p-52;
}

double nssm_rng_normal(struct nssm_rng *r)
{
	double u = nssm_rng_unit(r), v = nssm_rng_unit(r);
	return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

void nssm_rng_bytes(struct nssm_rng *r, void *dst, uint32_t n)
{
	uint8_t *p = dst;
	while (n > 0) {
		uint32_t w = nssm_rng_u32(r), k = n < 4 ? n : 4;
		memcpy(p, &w, k);
		p += k;
		n -= k;
	}
}

void nssm_rng_bytes_at(const struct nssm_rng *r, uint32_t off, void *dst, uint32_t n)
{
	const uint32_t key[2] = {(uint32_t)r->seed, (uint32_t)(r->seed >> 32)};
	uint8_t *p = dst;
	while (n > 0) {
		uint32_t ctr[4] = {off / 16, r->purpose, (uint32_t)r->session, (uint32_t)(r->session >> 32)}, out[4];
		uint32_t from = off % 16, k = n < 16 - from ? n : 16 - from;
		nssm_philox4x32(out, ctr, key);
		memcpy(p, (const uint8_t *)out + from, k);
		p += k;
		off += k;
		n -= k;
	}
}
