/* Any frames appended to tapes that are played while they grow, trimmed, finished, and cloned under several configurations. No step
 * beyond a frame or a buffer; and what a clone changes is what it may change, with every checksum as right or wrong as before.
 * Input: a byte that chooses, then frames, each with two bytes of length before it. */
#include <stdlib.h>
#include <string.h>

#include "clone_oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_CLONERS = 5 };
static struct nssm_cloner *cloner[N_CLONERS];
static const int tag_bytes[N_CLONERS] = {0, 8, 4, 0, 4};
static const bool strips[N_CLONERS] = {false, false, true, false, true};

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void open_cloners(void)
{
	struct nssm_clone_cfg cfg = {.rewrite = true,
	        .port_lo = 1024,
	        .port_hi = 65535,
	        .endpoints_max = 4,
	        .sockets_max = 16,
	        .servers_max = 8};
	require(nssm_pool_add(&cfg.clients[0], "198.18.0.0/24", NULL) == 0 &&
	        nssm_pool_add(&cfg.clients[0], "198.18.4.0/22", NULL) == 0);
	require(nssm_pool_add(&cfg.clients[1], "2001:db8:1::/64", NULL) == 0);
	require(nssm_pool_add(&cfg.servers[0], "203.0.113.1", NULL) == 0 &&
	        nssm_pool_add(&cfg.servers[1], "2001:db8:2::/120", NULL) == 0);
	require(nssm_cloner_open(&cloner[0], &cfg, NULL) == 0);
	cfg.n_tags = 2;
	cfg.tag[0] = cfg.tag[1] = (struct nssm_vlan_tag){0x8100, 5};
	cfg.n_macs[0] = 7;
	cfg.mac_base[0] = 0x020000000000;
	require(nssm_cloner_open(&cloner[1], &cfg, NULL) == 0);
	cfg.n_tags = 1;
	cfg.strip_tags = true;
	cfg.clients[1] = cfg.servers[1] = (struct nssm_pool){0};
	memset(cfg.next_hop[0], 2, 6);
	require(nssm_cloner_open(&cloner[2], &cfg, NULL) == 0);
	struct nssm_clone_cfg none = {0};
	require(nssm_cloner_open(&cloner[3], &none, NULL) == 0);
	none.n_tags = 1;
	none.strip_tags = true;
	none.n_macs[1] = 1;
	none.mac_base[1] = 0x060000000001;
	require(nssm_cloner_open(&cloner[4], &none, NULL) == 0);
}

static void check(const struct nssm_tape *t, const struct nssm_rec *rec, const uint8_t *frame, uint32_t len,
        int i, uint64_t slot)
{
	struct nssm_play_id id = {.key = nssm_clone_key(1, 2, (uint32_t)slot), .slot = slot};
	uint32_t room = nssm_clone_len_max(rec) + 64, wirelen;
	uint8_t *dst = malloc(room);
	require(dst != NULL);
	memset(dst, 0x5a, room);
	uint32_t n = nssm_clone_write(cloner[i], dst, &wirelen, t, rec, &id);
	require(n <= nssm_clone_len_max(rec) && wirelen >= n);
	/* A piece of a TLS hello may lie anywhere in a flow that has had one. */
	bool tls = rec->kind == NSSM_REC_TCP && rec->patches != NULL;
	require(oracle_frame(frame, len, dst, n, tag_bytes[i], strips[i], tls));
	if (i == 3)
		require(memcmp(dst, frame, len) == 0);
	if (rec->flow != NULL) {
		struct nssm_tuple tuple;
		nssm_clone_tuple(&tuple, cloner[i], t, rec->flow, &id);
		require(tuple.proto == rec->flow->proto);
	}
	free(dst);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rig r;
	if (cloner[0] == NULL) {
		open_cloners();
		require(rig_open(&r, 256 << 10, 40) == 0);
		nssm_tape_free(r.builder, &r.tape);
	}
	if (size == 0)
		return 0;
	uint8_t choice = data[0];
	r.tape = nssm_tape_begin(r.builder, 1, 0, 0);
	require(r.tape != NULL);
	for (size_t at = 1; at + 2 < size;) {
		uint32_t len = (uint32_t)data[at] << 8 | data[at + 1];
		at += 2;
		if (len > size - at)
			len = (uint32_t)(size - at);
		uint8_t *frame = malloc(len + (len == 0));
		require(frame != NULL);
		memcpy(frame, data + at, len);
		at += len;
		if (nssm_tape_append(r.builder, r.tape, at, frame, len, len + (choice & 1), NULL) == 1) {
			const struct nssm_rec *rec = r.tape->last;
			require(rec->len == len && nssm_rec_next(rec) == NULL);
			for (int i = 0; i < N_CLONERS; i++)
				check(r.tape, rec, frame, len, i, (uint64_t)choice * 1000 + at % 2);
			if (choice & 2)
				nssm_tape_trim(r.builder, r.tape, rec);
		} else {
			require(nssm_arena_left(r.arena) < 20);
			nssm_tape_trim(r.builder, r.tape, r.tape->last);
		}
		free(frame);
	}
	if (choice & 4)
		nssm_tape_finish(r.builder, r.tape);
	nssm_tape_free(r.builder, &r.tape);
	require(nssm_arena_stats(r.arena)->chunks_used == 0);
	return 0;
}
