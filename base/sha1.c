#include "base/sha1.h"

#include <string.h>

#define BLOCK 64

static uint32_t rol(uint32_t v, int n)
{
	return v << n | v >> (32 - n);
}

static void put_be32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* Word t of the schedule, kept in a ring of 16. In a loop of its own the compiler pairs words up that hang on each other,
 * which takes three times as long. */
static uint32_t word(uint32_t w[16], int t)
{
	if (t >= 16)
		w[t & 15] = rol(w[(t - 3) & 15] ^ w[(t - 8) & 15] ^ w[(t - 14) & 15] ^ w[t & 15], 1);
	return w[t & 15];
}

#define CHOOSE(b, c, d)   ((d) ^ ((b) & ((c) ^ (d))))
#define PARITY(b, c, d)   ((b) ^ (c) ^ (d))
#define MAJORITY(b, c, d) (((b) & (c)) | ((d) & ((b) | (c))))
#define ROUND(a, b, c, d, e, F, k, t)                                                                        \
	do {                                                                                                 \
		(e) += rol(a, 5) + F(b, c, d) + (k) + word(w, t);                                            \
		(b) = rol(b, 30);                                                                            \
	} while (0)
/* After five rounds each of a..e is in its own place again: no moves. */
#define ROUNDS_20(first, F, k)                                                                               \
	for (int t = (first); t < (first) + 20; t += 5) {                                                    \
		ROUND(a, b, c, d, e, F, k, t);                                                               \
		ROUND(e, a, b, c, d, F, k, t + 1);                                                           \
		ROUND(d, e, a, b, c, F, k, t + 2);                                                           \
		ROUND(c, d, e, a, b, F, k, t + 3);                                                           \
		ROUND(b, c, d, e, a, F, k, t + 4);                                                           \
	}

static void block(uint32_t h[5], const uint8_t *p)
{
	uint32_t w[16];
	for (int t = 0; t < 16; t++, p += 4)
		w[t] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
	ROUNDS_20(0, CHOOSE, 0x5a827999)
	ROUNDS_20(20, PARITY, 0x6ed9eba1)
	ROUNDS_20(40, MAJORITY, 0x8f1bbcdc)
	ROUNDS_20(60, PARITY, 0xca62c1d6)
	h[0] += a;
	h[1] += b;
	h[2] += c;
	h[3] += d;
	h[4] += e;
}

void nssm_sha1(uint8_t out[NSSM_SHA1_BYTES], const void *data, size_t n)
{
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	const uint8_t *p = data;
	size_t left = n;
	for (; left >= BLOCK; left -= BLOCK, p += BLOCK)
		block(h, p);
	uint8_t tail[2 * BLOCK] = {0};
	if (left > 0) /* data may be NULL otherwise */
		memcpy(tail, p, left);
	tail[left] = 0x80;
	size_t tail_len = left + 9 <= BLOCK ? BLOCK : 2 * BLOCK;
	uint64_t bits = (uint64_t)n * 8;
	put_be32(tail + tail_len - 8, (uint32_t)(bits >> 32));
	put_be32(tail + tail_len - 4, (uint32_t)bits);
	for (size_t off = 0; off < tail_len; off += BLOCK)
		block(h, tail + off);
	for (int i = 0; i < 5; i++)
		put_be32(out + 4 * i, h[i]);
}
