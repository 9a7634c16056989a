/* clone_util — what the tests of clones share: a configuration, and one frame written into room that ends where it must. */
#ifndef NSSM_TESTS_CLONE_UTIL_H
#define NSSM_TESTS_CLONE_UTIL_H

#include <cmocka.h>

#include "clone_oracle.h"

static inline const uint8_t *A4(uint32_t n)
{
	static uint8_t a[8][16];
	static int i;
	i = (i + 1) % 8;
	u_addr(a[i], 4, n);
	return a[i];
}

static inline void pool(struct nssm_pool *p, const char *text)
{
	struct nssm_err err = {0};
	if (nssm_pool_add(p, text, &err) != 0)
		fail_msg("%s", err.msg);
}

static inline struct nssm_clone_cfg plain_cfg(void)
{
	struct nssm_clone_cfg cfg = {.rewrite = true,
		.port_lo = 10000,
		.port_hi = 59999,
		.endpoints_max = 64,
		.sockets_max = 500,
		.servers_max = 256};
	pool(&cfg.clients[0], "198.18.0.0/16");
	pool(&cfg.servers[0], "198.19.0.0/16");
	pool(&cfg.clients[1], "2001:db8:1::/64");
	pool(&cfg.servers[1], "2001:db8:2::/64");
	return cfg;
}

/* --- one tape cloned into a buffer that ends where writing must end --- */

struct clone {
	uint8_t *buf;
	uint32_t len, wirelen;
};

static inline struct clone clone_one(const struct nssm_cloner *c, const struct nssm_tape *t,
        const struct nssm_rec *rec, const struct nssm_play_id *id)
{
	struct clone k = {0};
	uint32_t room = nssm_clone_len_max(rec) + 64;
	k.buf = malloc(room + 1);
	assert_non_null(k.buf);
	memset(k.buf, 0xa5, room + 1);
	k.len = nssm_clone_write(c, k.buf, &k.wirelen, t, rec, id);
	assert_true(k.len <= nssm_clone_len_max(rec));
	assert_int_equal(k.buf[room], 0xa5);
	return k;
}

/* Free with free(). The oracle has looked at it. */
static inline struct clone clone_checked(
	const struct nssm_cloner *c, const struct rig *r, const struct nssm_rec *rec, const struct frame *f, const struct nssm_play_id *id)
{
	struct clone k = clone_one(c, r->tape, rec, id);
	if (!oracle_frame(f->d, f->len, k.buf, k.len, 0, false, false))
		fail_msg("frame of %u bytes", f->len);
	return k;
}

static inline struct nssm_cloner *open_cloner(const struct nssm_clone_cfg *cfg)
{
	struct nssm_cloner *c = NULL;
	struct nssm_err err = {0};
	if (nssm_cloner_open(&c, cfg, &err) != 0)
		fail_msg("%s", err.msg);
	return c;
}

#endif
