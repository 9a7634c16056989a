/* Any frames, one after the other, into a port's neighbour: answers within their room, to stations only, that are never
 * answered themselves. First byte: VLAN tags (2 bits), self set, gateways set, checksums made right, addresses owned.
 * Then frames: two bytes of length each. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "model/packet.h"
#include "replay/neigh.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SELF = 4, GATEWAYS = 8, SUMS = 16, OWNED = 32 };

static void require(int ok)
{
	if (!ok)
		abort();
}

static struct nssm_neigh *open_with(uint8_t flags)
{
	static struct nssm_pool pool[2];
	struct nssm_neigh_cfg cfg = {
	        .src_mac = {2, 0, 0, 0, 0, 2}, .pool = {&pool[0], &pool[1]}, .n_pools = 2};
	static const uint8_t first4[4] = {10, 0, 0, 1}, first6[16] = {0x20, 1, 0x0d, 0xb8, [15] = 1};
	struct nssm_err err;
	if (pool[0].n_nets == 0)
		require(nssm_pool_add(&pool[0], "10.0.0.0/24", &err) == 0 &&
		        nssm_pool_add(&pool[1], "2001:db8::/120", &err) == 0);
	if ((flags & SELF) != 0) {
		memcpy(cfg.self4, (uint8_t[]){10, 0, 0, 9}, 4);
		memcpy(cfg.self6, first6, 16);
	}
	if ((flags & GATEWAYS) != 0) {
		memcpy(cfg.gateway4, first4, 4);
		memcpy(cfg.gateway6, (uint8_t[16]){0xfe, 0x80, [15] = 1}, 16);
	}
	cfg.n_vlan = flags & 3u;
	if (cfg.n_vlan > NSSM_VLAN_TAGS_MAX)
		cfg.n_vlan = 0;
	cfg.vlan[0] = 5;
	cfg.vlan[1] = 6;
	cfg.own_max = (flags & OWNED) != 0 ? 3 : 0;
	struct nssm_neigh *n;
	require(nssm_neigh_open(&n, &cfg, &err) == 0);
	return n;
}

/* Makes the checksum right that stands behind n_tags tags, so that what lies behind it is reached. */
static void make_sums(uint8_t *f, uint32_t len, uint32_t n_tags)
{
	if (len < 14 + 4 * n_tags + 48)
		return;
	uint8_t *ip = f + 14 + 4 * n_tags;
	uint32_t room = len - (uint32_t)(ip - f), n = (uint32_t)ip[4] << 8 | ip[5],
	         total = (uint32_t)ip[2] << 8 | ip[3];
	if (ip[0] >> 4 == 6 && n >= 4 && n <= room - 40) {
		memset(ip + 42, 0, 2);
		uint16_t c = nssm_csum_fold(nssm_csum_add(nssm_csum_add(58 + n, ip + 8, 32), ip + 40, n));
		ip[42] = (uint8_t)(c >> 8);
		ip[43] = (uint8_t)c;
	} else if (ip[0] == 0x45 && total >= 28 && total <= room) {
		memset(ip + 10, 0, 2);
		memset(ip + 22, 0, 2);
		uint16_t c = nssm_csum_fold(nssm_csum_add(0, ip, 20));
		ip[10] = (uint8_t)(c >> 8);
		ip[11] = (uint8_t)c;
		c = nssm_csum_fold(nssm_csum_add(0, ip + 20, total - 20));
		ip[22] = (uint8_t)(c >> 8);
		ip[23] = (uint8_t)c;
	}
}

static void check_answer(struct nssm_neigh *peer, const uint8_t *out, uint32_t len)
{
	static const uint8_t src[6] = {2, 0, 0, 0, 0, 2}, all_nodes[6] = {0x33, 0x33, 0, 0, 0, 1};
	require(len >= 60 && len <= NSSM_NEIGH_OUT_BYTES);
	require(memcmp(out + 6, src, 6) == 0);
	require((out[0] & 1) == 0 || memcmp(out, all_nodes, 6) == 0);
	/* Played by a neighbour that has another MAC and the same addresses: no answer to an answer. */
	uint8_t back[NSSM_NEIGH_OUT_BYTES], again[NSSM_NEIGH_OUT_BYTES];
	memcpy(back, out, len);
	memcpy(back, (uint8_t[]){2, 0, 0, 0, 0, 2}, 6);
	memcpy(back + 6, (uint8_t[]){2, 0, 0, 0, 0, 3}, 6);
	bool mine;
	require(nssm_neigh_frame(peer, back, len, 0, again, &mine) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	uint8_t flags = data[0];
	static struct nssm_neigh *peer;
	struct nssm_neigh *n = open_with(flags);
	if (peer == NULL)
		peer = open_with(SELF);
	uint64_t now_ns = 0;
	size_t at = 1;
	while (at + 2 <= size) {
		uint32_t len = (uint32_t)data[at] << 8 | data[at + 1];
		at += 2;
		len = len < size - at ? len : (uint32_t)(size - at);
		/* Exact copies: the sanitizer sees reads and writes beyond them. */
		uint8_t *frame = malloc(len + (len == 0)), *out = malloc(NSSM_NEIGH_OUT_BYTES);
		require(frame != NULL && out != NULL);
		memcpy(frame, data + at, len);
		at += len;
		if ((flags & SUMS) != 0)
			make_sums(frame, len, flags & 3u);
		if ((flags & OWNED) != 0 && len >= 54)
			nssm_neigh_own(n, frame + 22, (frame[14] & 1) != 0 ? 4 : 6);
		bool mine = false;
		uint32_t answer = nssm_neigh_frame(n, frame, len, now_ns, out, &mine);
		require(answer == 0 || mine);
		if (answer > 0)
			check_answer(peer, out, answer);
		for (int i = 0; (answer = nssm_neigh_poll(n, now_ns, out)) > 0; i++)
			require(i < 2 && answer >= 60 && answer <= NSSM_NEIGH_OUT_BYTES);
		now_ns += 700000000;
		free(frame);
		free(out);
	}
	const struct nssm_neigh_stats *st = nssm_neigh_stats(n);
	require(st->arp_replies <= st->arp_requests && st->nd_replies <= st->nd_requests);
	nssm_neigh_close(&n);
	return 0;
}
