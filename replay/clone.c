#include "replay/clone_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/philox.h"

/* --- opening --- */

static void set_side(struct nssm_side *s, const struct nssm_pool *p, uint32_t per_slot)
{
	*s = (struct nssm_side){.n = p->n_addrs, .per_slot = per_slot};
	if (s->n == 0)
		return;
	const uint8_t *base = p->net[0].base;
	s->inverse = UINT64_MAX / s->n;
	if (p->ip_version == 4) {
		s->base_lo = nssm_get32(base);
	} else {
		memcpy(&s->base_hi, base, 8);
		s->base_lo = (uint64_t)nssm_get32(base + 8) << 32 | nssm_get32(base + 12);
	}
}

/* See clone.h, MACs. False: they are more than one, and counted round. */
static bool set_macs(struct nssm_side *s, const struct nssm_clone_cfg *cfg, int server)
{
	if (cfg->n_macs[server] == 0) {
		s->mac_base = (uint64_t)(server ? 0x020001 : 0x020000) << 24;
		s->mac_mask = 0xffffff;
	} else {
		s->mac_base = cfg->mac_base[server];
		s->mac_mask = 0;
	}
	return cfg->n_macs[server] <= 1;
}

static int check_pools(const struct nssm_clone_cfg *cfg, struct nssm_err *err)
{
	for (int v = 0; v < 2; v++) {
		for (int side = 0; side < 2; side++) {
			const struct nssm_pool *p = side == 0 ? &cfg->clients[v] : &cfg->servers[v];
			if (p->n_addrs != 0 && p->ip_version != (v == 0 ? 4 : 6))
				return nssm_err_set(err, NSSM_EARG,
				        "clones: the pool of %s %s holds IPv%d addresses",
				        v == 0 ? "IPv4" : "IPv6", side == 0 ? "clients" : "servers",
				        p->ip_version);
		}
		if (cfg->clients[v].n_addrs != 0 && nssm_pool_overlap(&cfg->clients[v], &cfg->servers[v]))
			return nssm_err_set(err, NSSM_EARG, "clones: %s clients and servers share addresses",
			        v == 0 ? "IPv4" : "IPv6");
	}
	return 0;
}

static int check_numbers(const struct nssm_clone_cfg *cfg, struct nssm_err *err)
{
	if (cfg->port_lo == 0 || cfg->port_hi < cfg->port_lo)
		return nssm_err_set(err, NSSM_EARG,
		        "clones: client ports from %u to %u; 1 <= from <= to is expected", cfg->port_lo,
		        cfg->port_hi);
	if (cfg->endpoints_max == 0 || cfg->sockets_max == 0 || cfg->servers_max == 0)
		return nssm_err_set(err, NSSM_ERANGE,
		        "clones: %u endpoints, %u sockets, %u servers a session; at least one each",
		        cfg->endpoints_max, cfg->sockets_max, cfg->servers_max);
	uint32_t ports = cfg->port_hi - cfg->port_lo + 1u;
	if (cfg->sockets_max > ports)
		return nssm_err_set(err, NSSM_ERANGE,
		        "clones: a client of a session has %u sockets, but there are only %u ports",
		        cfg->sockets_max, ports);
	return 0;
}

static int check_macs(const struct nssm_clone_cfg *cfg, struct nssm_err *err)
{
	for (int i = 0; i < 2; i++) {
		uint64_t base = cfg->mac_base[i], n = cfg->n_macs[i], end = (uint64_t)1 << 48;
		if (n == 0)
			continue;
		/* The group bit is the lowest of the first byte. */
		if (base >= end || n > end - base || (base >> 40 & 1) != 0 ||
		        base >> 40 != (base + n - 1) >> 40)
			return nssm_err_set(err, NSSM_ERANGE,
			        "clones: %llu MAC addresses from %012llx on are not all addresses of hosts",
			        (unsigned long long)n, (unsigned long long)base);
	}
	if (cfg->n_tags > NSSM_VLAN_TAGS_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "clones: %u VLAN tags; at most %d", cfg->n_tags,
		        NSSM_VLAN_TAGS_MAX);
	return 0;
}

static int count_slots(struct nssm_cloner *c, struct nssm_err *err)
{
	const struct nssm_clone_cfg *cfg = &c->cfg;
	uint32_t n_blocks = (cfg->port_hi - cfg->port_lo + 1u) / cfg->sockets_max;
	c->n_slots = UINT64_MAX;
	for (int v = 0; v < 2; v++) {
		uint64_t n = c->side[v][0].n;
		if (n == 0)
			continue;
		uint64_t slots = n * n_blocks / cfg->endpoints_max;
		if (slots == 0)
			return nssm_err_set(err, NSSM_ERANGE,
			        "clones: %llu IPv%d client addresses with %u blocks of %u ports hold no "
			        "session of %u clients",
			        (unsigned long long)n, v == 0 ? 4 : 6, n_blocks, cfg->sockets_max,
			        cfg->endpoints_max);
		c->n_slots = slots < c->n_slots ? slots : c->n_slots;
	}
	return 0;
}

int nssm_cloner_open(struct nssm_cloner **out, const struct nssm_clone_cfg *cfg, struct nssm_err *err)
{
	int rc = check_macs(cfg, err);
	if (rc == 0 && cfg->rewrite)
		rc = check_pools(cfg, err);
	if (rc == 0 && cfg->rewrite)
		rc = check_numbers(cfg, err);
	if (rc != 0)
		return rc;
	struct nssm_cloner *c = calloc(1, sizeof *c);
	if (c == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "clones: no memory");
	c->cfg = *cfg;
	c->rewrite = cfg->rewrite;
	c->strip = cfg->strip_tags;
	c->port_lo = cfg->port_lo;
	c->sockets_max = cfg->sockets_max;
	c->n_slots = UINT64_MAX;
	for (int v = 0; v < 2; v++) {
		set_side(&c->side[v][0], &c->cfg.clients[v], cfg->endpoints_max);
		set_side(&c->side[v][1], &c->cfg.servers[v], cfg->servers_max);
		c->ports_by_flow[v] = c->side[v][1].n != 0 && c->side[v][1].n < cfg->servers_max;
		c->fast[v] = cfg->rewrite && cfg->clients[v].n_nets > 0 && cfg->servers[v].n_nets > 0;
		c->many_nets[v] = cfg->clients[v].n_nets > 1 || cfg->servers[v].n_nets > 1;
		for (int server = 0; server < 2; server++)
			c->fast[v] &= set_macs(&c->side[v][server], cfg, server);
		/* Anything that can be divided by. */
		c->side[v][NSSM_ROLE_FIXED].per_slot = 1;
	}
	for (int side = 0; side < 2; side++)
		nssm_cloner_set_next_hop(c, side, cfg->next_hop[side]);
	c->tag_bytes = 4 * cfg->n_tags;
	for (uint32_t i = 0; i < cfg->n_tags; i++) {
		nssm_put16(c->tags + 4 * i, cfg->tag[i].tpid);
		nssm_put16(c->tags + 4 * i + 2, cfg->tag[i].tci);
	}
	if (cfg->rewrite)
		rc = count_slots(c, err);
	if (rc != 0)
		nssm_cloner_close(&c);
	else
		*out = c;
	return rc;
}

void nssm_cloner_close(struct nssm_cloner **c)
{
	free(*c);
	*c = NULL;
}

void nssm_cloner_set_next_hop(struct nssm_cloner *c, int side, const uint8_t mac[6])
{
	c->hop[side] = nssm_mac_value(mac);
	c->has_hop[side] = c->hop[side] != 0;
	c->set_macs = c->cfg.rewrite || c->cfg.n_macs[0] != 0 || c->cfg.n_macs[1] != 0 || c->has_hop[0] ||
	              c->has_hop[1];
}

uint64_t nssm_cloner_slots(const struct nssm_cloner *c)
{
	return c->n_slots;
}

uint64_t nssm_clone_key(uint64_t seed, uint64_t session, uint32_t clone)
{
	uint32_t out[4], ctr[4] = {clone, (uint32_t)session, (uint32_t)(session >> 32), 0x636c6f6e},
	                 key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
	nssm_philox4x32(out, ctr, key);
	return (uint64_t)out[0] << 32 | out[1];
}

/* --- addresses --- */

void nssm_clone_addr(uint8_t *addr, const struct nssm_cloner *c, bool v6, uint32_t role, uint64_t number)
{
	const struct nssm_pool *p = role == NSSM_ROLE_CLIENT ? &c->cfg.clients[v6] : &c->cfg.servers[v6];
	uint8_t a[16];
	nssm_pool_addr(a, p, number);
	memcpy(addr, a, v6 ? 16 : 4);
}

uint64_t nssm_clone_mac(const struct nssm_cloner *c, uint32_t role, uint64_t number, uint64_t captured)
{
	bool server = role == NSSM_ROLE_SERVER;
	uint64_t n = c->cfg.n_macs[server], base = c->cfg.mac_base[server];
	if (n == 0)
		return c->cfg.rewrite ? (server ? (uint64_t)0x020001 << 24 : (uint64_t)0x020000 << 24) |
		                                (number & 0xffffff)
		                      : captured;
	return n == 1 ? base : base + number % n;
}

void nssm_clone_tuple(struct nssm_tuple *tuple, const struct nssm_cloner *c, const struct nssm_tape *t,
        const struct nssm_flow *f, const struct nssm_play_id *id)
{
	(void)t;
	*tuple = (struct nssm_tuple){
	        .port = {f->port[0], f->port[1]}, .proto = f->proto, .ip_version = f->ip_version};
	bool v6 = f->ip_version == 6, icmp = f->proto == (v6 ? 58 : 1);
	struct nssm_mapped m[2];
	if (c->cfg.rewrite)
		nssm_map_flow(m, c, f, id->slot);
	for (int i = 0; i < 2; i++) {
		memcpy(tuple->addr[i], f->end[i]->addr, 16);
		if (c->cfg.rewrite) {
			if (nssm_is_mapped(c, v6, f->end_role[i]))
				nssm_clone_addr(tuple->addr[i], c, v6, f->end_role[i], m[i].number);
			tuple->port[i] = m[i].port;
		}
		if (icmp)
			tuple->port[i] = i == 0 ? f->icmp_type : f->icmp_code;
	}
}
