#include "replay/clone_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/philox.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are swapped to network order");

#define ETH_LEN 14u

/* --- opening --- */

static uint64_t mac_value(const uint8_t mac[6])
{
	return (uint64_t)nssm_get16(mac) << 32 | nssm_get32(mac + 2);
}

static void set_side(struct nssm_side *s, const struct nssm_pool *p, uint32_t per_slot)
{
	*s = (struct nssm_side){.n = p->n_addrs, .per_slot = per_slot, .pool = p, .one_net = p->n_nets == 1};
	if (s->n == 0)
		return;
	s->inverse = UINT64_MAX / s->n;
	s->base4 = nssm_get32(p->net[0].base);
	memcpy(&s->base_hi, p->net[0].base, 8);
	s->base_lo = (uint64_t)nssm_get32(p->net[0].base + 8) << 32 | nssm_get32(p->net[0].base + 12);
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
	c->n_slots = UINT64_MAX;
	for (int v = 0; v < 2; v++) {
		uint64_t n = c->side[v][0].n;
		if (n == 0)
			continue;
		uint64_t slots = n * c->n_blocks / cfg->endpoints_max;
		if (slots == 0)
			return nssm_err_set(err, NSSM_ERANGE,
			        "clones: %llu IPv%d client addresses with %u blocks of %u ports hold no "
			        "session of %u clients",
			        (unsigned long long)n, v == 0 ? 4 : 6, c->n_blocks, cfg->sockets_max,
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
	c->n_slots = UINT64_MAX;
	for (int v = 0; v < 2; v++) {
		set_side(&c->side[v][0], &c->cfg.clients[v], cfg->endpoints_max);
		set_side(&c->side[v][1], &c->cfg.servers[v], cfg->servers_max);
		c->ports_by_flow[v] = c->side[v][1].n != 0 && c->side[v][1].n < cfg->servers_max;
	}
	for (int side = 0; side < 2; side++)
		nssm_cloner_set_next_hop(c, side, cfg->next_hop[side]);
	c->tag_bytes = 4 * cfg->n_tags;
	for (uint32_t i = 0; i < cfg->n_tags; i++) {
		nssm_put16(c->tags + 4 * i, cfg->tag[i].tpid);
		nssm_put16(c->tags + 4 * i + 2, cfg->tag[i].tci);
	}
	if (cfg->rewrite) {
		c->n_blocks = (cfg->port_hi - cfg->port_lo + 1u) / cfg->sockets_max;
		rc = count_slots(c, err);
	}
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
	c->hop[side] = mac_value(mac);
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

void nssm_side_addr(uint8_t *addr, const struct nssm_side *s, bool v6, uint64_t number)
{
	if (!s->one_net) {
		uint8_t a[16];
		nssm_pool_addr(a, s->pool, number);
		memcpy(addr, a, v6 ? 16 : 4);
	} else if (v6) {
		uint64_t lo = __builtin_bswap64(s->base_lo + number);
		memcpy(addr, &s->base_hi, 8);
		memcpy(addr + 8, &lo, 8);
	} else {
		nssm_put32(addr, s->base4 + (uint32_t)number);
	}
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
				nssm_side_addr(tuple->addr[i],
				        &c->side[v6][f->end_role[i] == NSSM_ROLE_SERVER], v6, m[i].number);
			tuple->port[i] = m[i].port;
		}
		if (icmp)
			tuple->port[i] = i == 0 ? f->icmp_type : f->icmp_code;
	}
}

/* --- the packet loop --- */

static inline uint32_t get_raw32(const uint8_t *p)
{
	uint32_t w;
	memcpy(&w, p, 4);
	return w;
}

/* Adds a constant to a 32-bit number; what that does to the sum is new + ~old. */
static inline uint64_t add32(uint8_t *p, uint32_t offset, uint32_t off)
{
	uint32_t was = get_raw32(p), is = __builtin_bswap32(__builtin_bswap32(was) + offset);
	memcpy(p, &is, 4);
	uint64_t d = (uint64_t)is + (uint32_t)~was;
	/* Options may begin at any byte; one that is out of step with the 16-bit words counts swapped (RFC 1071, section 2 (B)). */
	return off & 1 ? __builtin_bswap16((uint16_t)nssm_sum_fold(d)) : d;
}

static uint64_t write_tcp(uint8_t *base, const struct nssm_rec *rec, uint64_t random)
{
	enum { ACK = 16 };
	uint8_t *l4 = base + rec->l4_off;
	uint32_t own = rec->dir ? (uint32_t)(random >> 32) : (uint32_t)random,
	         other = rec->dir ? (uint32_t)random : (uint32_t)(random >> 32);
	bool acks = (l4[13] & ACK) != 0;
	uint64_t sum = add32(l4 + 4, own, 0);
	if (acks)
		sum += add32(l4 + 8, other, 0);
	if (rec->ts_off != 0) {
		uint64_t ts = nssm_purpose(random, NSSM_RANDOM_TS);
		uint32_t ts_own = rec->dir ? (uint32_t)(ts >> 32) : (uint32_t)ts,
		         ts_other = rec->dir ? (uint32_t)ts : (uint32_t)(ts >> 32);
		sum += add32(base + rec->ts_off, ts_own, rec->ts_off);
		/* Without ACK the echo means nothing and is 0 (RFC 7323, section 3.2). */
		if (acks)
			sum += add32(base + rec->ts_off + 4, ts_other, rec->ts_off);
	}
	for (uint32_t i = 0; i < 2u * rec->n_sack; i++)
		sum += add32(base + rec->sack_off + 4 * i, other, rec->sack_off);
	return sum;
}

/* IP and what lies behind it. base: where offsets of the captured frame count from. */
static void write_ip(const struct nssm_cloner *c, uint8_t *dst, int shift, const struct nssm_rec *rec,
        const struct nssm_play_id *id, const struct nssm_mapped m[2])
{
	const struct nssm_flow *f = rec->flow;
	uint8_t *base = dst + shift, *ip = base + rec->l3_off;
	bool v6 = f->ip_version == 6;
	uint32_t n = v6 ? 16 : 4, at = v6 ? 8 : 12;
	uint64_t sum = 0, sum_ip = 0;
	for (int i = 0; i < 2; i++) {
		int end = i ^ rec->dir;
		uint8_t *addr = ip + at + (uint32_t)i * n;
		uint64_t d = 0;
		if (!nssm_is_mapped(c, v6, f->end_role[end]))
			continue;
		for (uint32_t k = 0; k < n; k += 4)
			d += (uint32_t)~get_raw32(addr + k);
		nssm_side_addr(addr, &c->side[v6][f->end_role[end] == NSSM_ROLE_SERVER], v6, m[end].number);
		for (uint32_t k = 0; k < n; k += 4)
			d += get_raw32(addr + k);
		sum_ip += d;
		if ((rec->flags & NSSM_REC_PSEUDO) != 0 && (i == 0 || (rec->flags & NSSM_REC_ROUTED) == 0))
			sum += d;
	}
	if (!v6) {
		uint32_t id16 = nssm_get16(ip + 4);
		if (f->end_role[rec->dir] != NSSM_ROLE_FIXED) {
			uint32_t is = nssm_id_add(id16,
			        nssm_ip_id_offset(id->key, f->end_role[rec->dir], f->end_idx[rec->dir]));
			nssm_put16(ip + 4, is);
			sum_ip += __builtin_bswap16((uint16_t)is) +
			          (uint32_t)__builtin_bswap16((uint16_t)~id16);
		}
		nssm_sum_apply(ip + 10, sum_ip, false);
	}
	if ((rec->flags & NSSM_REC_PORTS) != 0) {
		uint8_t *ports = base + rec->l4_off;
		sum += (uint32_t)~get_raw32(ports);
		nssm_put16(ports, m[rec->dir].port);
		nssm_put16(ports + 2, m[!rec->dir].port);
		sum += get_raw32(ports);
	}
	uint64_t random = nssm_flow_random(id->key, f->idx);
	if (rec->kind == NSSM_REC_TCP)
		sum += write_tcp(base, rec, random);
	if (rec->app == NSSM_APP_DNS) {
		uint8_t *p = base + rec->app_off;
		uint32_t was = nssm_get16(p),
		         is = nssm_id_add(was, nssm_id_offset(nssm_purpose(random, NSSM_RANDOM_DNS)));
		nssm_put16(p, is);
		sum += __builtin_bswap16((uint16_t)is) + (uint32_t)__builtin_bswap16((uint16_t)~was);
	}
	if (rec->patches != NULL)
		sum += nssm_clone_patch(c, dst, shift, rec, id, false);
	if (rec->csum_off != 0)
		nssm_sum_apply(base + rec->csum_off, sum, f->proto == 17);
}

/* The role that stands in for whom a frame does not name: clients' packets come from the initiator's side. */
static uint32_t stand_in(uint32_t role, bool server)
{
	return role != NSSM_ROLE_FIXED ? role : server ? NSSM_ROLE_SERVER : NSSM_ROLE_CLIENT;
}

static void write_macs(const struct nssm_cloner *c, uint8_t *dst, const struct nssm_rec *rec,
        const struct nssm_play_id *id, const struct nssm_mapped m[2])
{
	const struct nssm_flow *f = rec->flow;
	uint64_t to = mac_value(dst), from = mac_value(dst + 6);
	uint32_t role[2];
	uint64_t number[2];
	for (int i = 0; i < 2; i++) {
		int end = i ^ rec->dir;
		uint32_t was = f != NULL ? f->end_role[end] : NSSM_ROLE_FIXED;
		role[i] = stand_in(was, end == 1);
		number[i] = 0;
		if (was != NSSM_ROLE_FIXED && c->cfg.rewrite) {
			number[i] = m[end].number;
		} else if (was != NSSM_ROLE_FIXED) {
			number[i] = f->end_idx[end];
		} else if (c->cfg.rewrite) {
			struct nssm_mapped first;
			nssm_map_endpoint(&first, c, f != NULL && f->ip_version == 6, role[i], 0, id->slot);
			number[i] = first.number;
		}
	}
	from = nssm_clone_mac(c, role[0], number[0], from);
	if ((dst[0] & 1) == 0)
		to = c->has_hop[rec->dir] ? c->hop[rec->dir] : nssm_clone_mac(c, role[1], number[1], to);
	nssm_put32(dst, (uint32_t)(to >> 16));
	nssm_put16(dst + 4, (uint32_t)to);
	nssm_put32(dst + 6, (uint32_t)(from >> 16));
	nssm_put16(dst + 10, (uint32_t)from);
}

static void copy_frame(uint8_t *dst, const struct nssm_rec *rec, int shift)
{
	if (__builtin_expect(rec->stored > NSSM_WHOLE_BYTES, 0)) {
		if (shift >= 0) {
			nssm_rec_copy(dst + shift, rec);
		} else {
			nssm_rec_copy(dst, rec);
			memmove(dst, dst - shift, rec->len - (uint32_t)-shift);
		}
		return;
	}
	const uint8_t *from = nssm_rec_head(rec);
	uint32_t n = rec->stored, len = rec->len;
	if (shift >= 0) {
		dst += shift;
	} else {
		uint32_t skip = (uint32_t)-shift;
		from += skip;
		len -= skip;
		n = n > skip ? n - skip : 0;
	}
	memcpy(dst, from, n);
	if (n < len)
		memset(dst + n, 0, len - n);
}

uint32_t nssm_clone_write(const struct nssm_cloner *c, uint8_t *dst, uint32_t *wirelen,
        const struct nssm_tape *t, const struct nssm_rec *rec, const struct nssm_play_id *id)
{
	(void)t;
	if (__builtin_expect(rec->len < ETH_LEN, 0)) {
		nssm_rec_copy(dst, rec);
		*wirelen = rec->wirelen;
		return rec->len;
	}
	int shift = (int)c->tag_bytes - (c->cfg.strip_tags ? 4 * rec->n_vlan : 0);
	copy_frame(dst, rec, shift);
	*wirelen = (uint32_t)((int64_t)rec->wirelen + shift);
	if (shift != 0 || c->tag_bytes != 0) {
		uint8_t macs[12] = {0};
		memcpy(macs, nssm_rec_head(rec), rec->stored < 12 ? rec->stored : 12);
		memcpy(dst, macs, 12);
		memcpy(dst + 12, c->tags, c->tag_bytes);
	}
	struct nssm_mapped m[2];
	bool rewrite = c->cfg.rewrite;
	if (rewrite && rec->flow != NULL)
		nssm_map_flow(m, c, rec->flow, id->slot);
	if (c->set_macs)
		write_macs(c, dst, rec, id, m);
	if (rewrite && rec->flow != NULL)
		write_ip(c, dst, shift, rec, id, m);
	else if (rec->patches != NULL && c->set_macs) {
		uint32_t sum = nssm_clone_patch(c, dst, shift, rec, id, !rewrite);
		if (rec->csum_off != 0)
			nssm_sum_apply(dst + shift + rec->csum_off, sum,
			        false); /* MACs inside are Neighbor Discovery's */
	}
	return (uint32_t)((int64_t)rec->len + shift);
}
