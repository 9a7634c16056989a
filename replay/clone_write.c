#include "replay/clone_impl.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are swapped to network order");

#define likely(x) __builtin_expect(x, 1)

#define ETH_LEN 14u

/* --- any packet --- */

/* Adds a constant to a 32-bit number, at off in the frame; returns what that adds to a sum. */
static uint64_t add32(uint8_t *p, uint32_t offset, uint32_t off)
{
	uint32_t was = nssm_get32(p), is = was + offset;
	nssm_put32(p, is);
	uint64_t d = (uint64_t)is + (uint32_t)~was;
	/* Options may begin at any byte; one that is out of step with the 16-bit words counts swapped (RFC 1071, section 2 (B)). */
	return off & 1 ? __builtin_bswap16(nssm_sum_fold(d)) : d;
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
		uint64_t ts = nssm_ts_random(random);
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

static uint64_t write_dns(uint8_t *p, uint64_t random)
{
	uint32_t was = nssm_get16(p),
	         is = nssm_id_add(was, nssm_id_offset(nssm_purpose(random, NSSM_RANDOM_DNS)));
	nssm_put16(p, is);
	return is + (uint64_t)(uint16_t)~was;
}

/* What of the addresses counts for the IP header's checksum (*sum_ip) and for the transport's (returned). */
static uint64_t write_addrs(uint64_t *sum_ip, const struct nssm_cloner *c, uint8_t *addr,
        const struct nssm_rec *rec, const struct nssm_mapped m[2])
{
	const struct nssm_flow *f = rec->flow;
	bool v6 = f->ip_version == 6;
	uint32_t n = v6 ? 16 : 4;
	uint64_t sum = 0;
	for (int i = 0; i < 2; i++, addr += n) {
		int end = i ^ rec->dir;
		uint64_t d = 0;
		if (!nssm_is_mapped(c, v6, f->end_role[end]))
			continue;
		for (uint32_t k = 0; k < n; k += 4)
			d += (uint32_t)~nssm_get32(addr + k);
		nssm_clone_addr(addr, c, v6, f->end_role[end], m[end].number);
		for (uint32_t k = 0; k < n; k += 4)
			d += nssm_get32(addr + k);
		*sum_ip += d;
		if ((rec->flags & NSSM_REC_PSEUDO) != 0 && (i == 0 || (rec->flags & NSSM_REC_ROUTED) == 0))
			sum += d;
	}
	return sum;
}

/* IP and what lies behind it. */
static void write_ip(const struct nssm_cloner *c, uint8_t *dst, int shift, const struct nssm_rec *rec,
        const struct nssm_play_id *id, const struct nssm_mapped m[2])
{
	const struct nssm_flow *f = rec->flow;
	uint8_t *base = dst + shift, *ip = base + rec->l3_off;
	bool v6 = f->ip_version == 6;
	uint64_t sum_ip = 0, sum = write_addrs(&sum_ip, c, ip + (v6 ? 8 : 12), rec, m);
	if (!v6) {
		uint32_t was = nssm_get16(ip + 4), is = was;
		if (f->end_role[rec->dir] != NSSM_ROLE_FIXED)
			is = nssm_id_add(
			        was, nssm_ip_id_offset(id->key, f->end_role[rec->dir], f->end_idx[rec->dir]));
		nssm_put16(ip + 4, is);
		nssm_sum_apply(ip + 10, (uint16_t)nssm_get16(ip + 10), sum_ip + is + (uint16_t)~was, false);
	}
	if ((rec->flags & NSSM_REC_PORTS) != 0) {
		uint8_t *ports = base + rec->l4_off;
		sum += (uint32_t)~nssm_get32(ports);
		nssm_put16(ports, m[rec->dir].port);
		nssm_put16(ports + 2, m[!rec->dir].port);
		sum += nssm_get32(ports);
	}
	uint64_t random = nssm_flow_random(id->key, f->idx);
	if (rec->kind == NSSM_REC_TCP)
		sum += write_tcp(base, rec, random);
	if (rec->app == NSSM_APP_DNS)
		sum += write_dns(base + rec->app_off, random);
	if (nssm_rec_patches(rec) != NULL)
		sum += nssm_clone_patch(c, dst, shift, rec, id, false);
	if (rec->csum_off != 0) {
		uint8_t *csum = base + rec->csum_off;
		nssm_sum_apply(csum, (uint16_t)nssm_get16(csum), sum, f->proto == 17);
	}
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
	uint64_t to = nssm_mac_value(dst), from = nssm_mac_value(dst + 6), number[2] = {0};
	uint32_t role[2];
	for (int i = 0; i < 2; i++) {
		int end = i ^ rec->dir;
		uint32_t was = f != NULL ? f->end_role[end] : NSSM_ROLE_FIXED;
		role[i] = stand_in(was, end == 1);
		if (was != NSSM_ROLE_FIXED && c->rewrite) {
			number[i] = m[end].number;
		} else if (was != NSSM_ROLE_FIXED) {
			number[i] = f->end_idx[end];
		} else if (c->rewrite) {
			struct nssm_mapped first;
			nssm_map_endpoint(&first, c, f != NULL && f->ip_version == 6, role[i], 0, id->slot);
			number[i] = first.number;
		}
	}
	from = nssm_clone_mac(c, role[0], number[0], from);
	if ((dst[0] & 1) == 0)
		to = c->has_hop[rec->dir] ? c->hop[rec->dir] : nssm_clone_mac(c, role[1], number[1], to);
	nssm_put64(dst, to << 16 | from >> 32);
	nssm_put32(dst + 8, (uint32_t)from);
}

static __attribute__((noinline)) void write_slow(const struct nssm_cloner *c, uint8_t *dst, int shift,
        const struct nssm_rec *rec, const struct nssm_play_id *id)
{
	struct nssm_mapped m[2] = {0};
	if (c->rewrite && rec->flow != NULL)
		nssm_map_flow(m, c, rec->flow, id->slot);
	if (c->set_macs)
		write_macs(c, dst, rec, id, m);
	if (c->rewrite && rec->flow != NULL) {
		write_ip(c, dst, shift, rec, id, m);
	} else if (nssm_rec_patches(rec) != NULL && c->set_macs) {
		uint32_t sum = nssm_clone_patch(c, dst, shift, rec, id, !c->rewrite);
		uint8_t *csum = dst + shift + rec->csum_off;
		if (rec->csum_off != 0)
			nssm_sum_apply(csum, (uint16_t)nssm_get16(csum), sum,
			        false); /* MACs inside are Neighbor Discovery's */
	}
}

/* --- NSSM_REC_PLAIN packets: what write_slow does, without its choices -----------------------------------------------------
 * What is old is read from the record, so that nothing waits for the copy; what is new is written over it.                    */

/* *p = old + offset. A sum changes by offset, and by one less where it wraps, since 2^32 = 1 (mod 65535): wraps are returned. */
static inline uint64_t move32(uint8_t *restrict p, const uint8_t *was, uint32_t offset)
{
	uint64_t is = (uint64_t)nssm_get_be32(was) + offset;
	nssm_put32(p, (uint32_t)is);
	return is >> 32;
}

static inline uint64_t rotate(uint64_t x, uint32_t bits)
{
	return x >> bits | x << (-bits & 63);
}

/* Sequence numbers and timestamps. off, ts: in the lower half what is added to the sender's, in the upper half to the other's. */
static inline uint64_t move_tcp(
        uint8_t *restrict base, const uint8_t *was, const struct nssm_rec *rec, uint64_t off, uint64_t ts)
{
	uint32_t l4 = rec->l4_off, at = rec->ts_off, sack = rec->sack_off, n_edges = 2u * rec->n_sack;
	uint32_t own = (uint32_t)off, other = (uint32_t)(off >> 32);
	bool acks = (rec->flags & NSSM_REC_ACK) != 0;
	uint64_t sum = own, wraps = move32(base + l4 + 4, was + l4 + 4, own);
	if (likely(acks)) {
		wraps += move32(base + l4 + 8, was + l4 + 8, other);
		sum += other;
	}
	if (at != 0) {
		wraps += move32(base + at, was + at, (uint32_t)ts);
		sum += (uint32_t)ts;
		if (likely(acks)) {
			wraps += move32(base + at + 4, was + at + 4, (uint32_t)(ts >> 32));
			sum += ts >> 32;
		}
	}
	for (uint32_t i = 0; i < n_edges; i++, sack += 4) {
		wraps += move32(base + sack, was + sack, other);
		sum += other;
	}
	return sum - wraps;
}

static inline uint32_t sum64(uint64_t x)
{
	x = (x >> 32) + (uint32_t)x;
	return (uint32_t)(x >> 32) + (uint32_t)x;
}

/* Both ports as if end[0] had sent the packet. */
static inline uint32_t plain_ports(
        const struct nssm_cloner *c, const struct nssm_flow *f, bool v6, uint32_t block, uint32_t block2)
{
	bool simple = f->port_rule[0] == NSSM_PORT_CLIENT && f->port_rule[1] == NSSM_PORT_KEPT;
	if (likely(simple && !c->ports_by_flow[v6])) {
		uint32_t port =
		        c->port_lo + block * c->sockets_max + nssm_below(f->socket[0], c->sockets_max);
		return port << 16 | f->port[1];
	}
	return (uint32_t)nssm_map_port(c, f, 0, block) << 16 | nssm_map_port(c, f, 1, block2);
}

/* An address in host order (IPv6: the last 8 bytes, the first as they lie in *hi) where the pool has several networks. */
static __attribute__((noinline)) uint64_t addr_of_many(
        uint64_t *hi, const struct nssm_cloner *c, bool v6, uint32_t role, uint64_t number)
{
	uint8_t a[16];
	nssm_clone_addr(a, c, v6, role, number);
	if (!v6)
		return nssm_get_be32(a);
	memcpy(hi, a, 8);
	return (uint64_t)nssm_get_be32(a + 8) << 32 | nssm_get_be32(a + 12);
}

static inline __attribute__((always_inline)) void write_plain(const struct nssm_cloner *restrict c,
        uint8_t *restrict dst, int shift, const struct nssm_rec *restrict rec,
        const struct nssm_play_id *restrict id, bool v6, bool tcp)
{
	const struct nssm_flow *restrict f = rec->flow;
	const uint8_t *was = nssm_rec_head(rec);
	uint8_t *base = dst + shift;
	uint32_t back = rec->dir, l3 = rec->l3_off, l4 = rec->l4_off, half = back * 32;
	uint64_t slot = id->slot, key = id->key;
	const struct nssm_side *restrict s = &c->side[v6][f->end_role[0]],
	                                 *restrict s2 = &c->side[v6][f->end_role[1]];
	uint64_t n, n2,
	        block = nssm_divide(
	                &n, s, slot * s->per_slot + nssm_below(f->end_idx[0], (uint32_t)s->per_slot));
	uint64_t block2 =
	        nssm_divide(&n2, s2, slot * s2->per_slot + nssm_below(f->end_idx[1], (uint32_t)s2->per_slot));
	bool to_group = f->end_role[1] == NSSM_ROLE_FIXED;

	uint64_t mac = s->mac_base + (n & s->mac_mask), mac2 = s2->mac_base + (n2 & s2->mac_mask);
	uint64_t from = back ? mac2 : mac, to = back ? mac : mac2;
	if (c->has_hop[back])
		to = c->hop[back];
	if (to_group)
		to = nssm_mac_value(was);
	nssm_put64(dst, to << 16 | from >> 32);
	nssm_put32(dst + 8, (uint32_t)from);

	uint64_t a = s->base_lo + n, a2 = s2->base_lo + n2, hi = s->base_hi, hi2 = s2->base_hi, sum;
	if (c->many_nets[v6]) {
		a = addr_of_many(&hi, c, v6, f->end_role[0], n);
		if (!to_group)
			a2 = addr_of_many(&hi2, c, v6, f->end_role[1], n2);
	}
	if (v6) {
		uint8_t *at = base + l3 + (back ? 24 : 8), *at2 = base + l3 + (back ? 8 : 24);
		if (to_group) {
			memcpy(&hi2, was + l3 + 24, 8);
			a2 = (uint64_t)nssm_get_be32(was + l3 + 32) << 32 | nssm_get_be32(was + l3 + 36);
		}
		memcpy(at, &hi, 8);
		nssm_put64(at + 8, a);
		memcpy(at2, &hi2, 8);
		nssm_put64(at2 + 8, a2);
		sum = (uint64_t)sum64(a) + sum64(a2) + sum64(__builtin_bswap64(hi)) +
		      sum64(__builtin_bswap64(hi2));
	} else {
		if (to_group)
			a2 = nssm_get_be32(was + l3 + 16);
		nssm_put64(base + l3 + 12, rotate(a << 32 | a2, half));
		uint32_t is = nssm_id_add(nssm_get_be16(was + l3 + 4),
		        nssm_ip_id_offset(key, f->end_role[back], f->end_idx[back]));
		nssm_put16(base + l3 + 4, is);
		sum = a + a2;
		nssm_put16(base + l3 + 10, (uint16_t)~nssm_sum_fold(sum + is + rec->plain.base_ip));
	}
	uint32_t ports = plain_ports(c, f, v6, (uint32_t)block, (uint32_t)block2), quarter = back * 16;
	nssm_put32(base + l4, ports >> quarter | ports << (-quarter & 31));
	sum += (uint64_t)ports + rec->plain.base_l4;
	uint64_t random = nssm_flow_random(key, f->idx);
	if (tcp)
		sum += move_tcp(base, was, rec, rotate(random, half), rotate(nssm_ts_random(random), half));
	else if (rec->app == NSSM_APP_DNS)
		sum += write_dns(base + rec->app_off, random);
	uint16_t csum = (uint16_t)~nssm_sum_fold(sum);
	if (!tcp && csum == 0)
		csum = 0xffff;
	nssm_put16(base + l4 + (tcp ? 16 : 6), csum);
}

/* --- a packet --- */

static __attribute__((noinline)) void copy_long(uint8_t *dst, const struct nssm_rec *rec, int shift)
{
	nssm_rec_copy(dst + (shift > 0 ? shift : 0), rec);
	if (shift < 0)
		memmove(dst, dst - shift, rec->len - (uint32_t)-shift);
}

/* At least n bytes, up to 63 more: there is room for them on both sides. The compiler would make a string instruction of a memcpy
 * whose length it can bound, and that takes longer to start than a short frame takes to copy. */
static inline void copy(uint8_t *dst, const uint8_t *from, uint32_t n)
{
	if (n > 256) {
		size_t opaque = n;
		__asm__("" : "+r"(opaque));
		memcpy(dst, from, opaque);
		return;
	}
	for (uint32_t i = 0; i < n; i += 64)
		memcpy(dst + i, from + i, 64);
}

/* So that what stands behind the MACs comes to stand `shift` bytes further on. */
static inline void copy_frame(uint8_t *dst, const struct nssm_rec *rec, int shift)
{
	const uint8_t *from = nssm_rec_head(rec);
	uint32_t n = rec->stored, len = rec->len;
	if (n > NSSM_WHOLE_BYTES) {
		copy_long(dst, rec, shift);
		return;
	}
	if (shift >= 0) {
		dst += shift;
	} else {
		uint32_t skip = (uint32_t)-shift;
		from += skip;
		len -= skip;
		n = n > skip ? n - skip : 0;
	}
	copy(dst, from, n);
	if (n < len)
		memset(dst + n, 0, len - n);
}

static __attribute__((noinline)) void put_tags(
        const struct nssm_cloner *c, uint8_t *dst, const struct nssm_rec *rec)
{
	uint8_t macs[12] = {0};
	memcpy(macs, nssm_rec_head(rec), rec->stored < 12 ? rec->stored : 12);
	memcpy(dst, macs, 12);
	memcpy(dst + 12, c->tags, c->tag_bytes);
}

uint32_t nssm_clone_write(const struct nssm_cloner *c, uint8_t *dst, uint32_t *wirelen,
        const struct nssm_tape *t, const struct nssm_rec *rec, const struct nssm_play_id *id)
{
	(void)t;
	if (rec->len < ETH_LEN) {
		nssm_rec_copy(dst, rec);
		*wirelen = rec->wirelen;
		return rec->len;
	}
	int shift = (int)c->tag_bytes - (c->strip ? 4 * rec->n_vlan : 0);
	copy_frame(dst, rec, shift);
	if (shift != 0 || c->tag_bytes != 0)
		put_tags(c, dst, rec);
	bool v6 = (rec->flags & NSSM_REC_IP6) != 0, tcp = rec->kind == NSSM_REC_TCP;
	if (likely((rec->flags & NSSM_REC_PLAIN) != 0 && c->fast[v6])) {
		if (v6)
			tcp ? write_plain(c, dst, shift, rec, id, true, true)
			    : write_plain(c, dst, shift, rec, id, true, false);
		else
			tcp ? write_plain(c, dst, shift, rec, id, false, true)
			    : write_plain(c, dst, shift, rec, id, false, false);
	} else if (c->set_macs) {
		write_slow(c, dst, shift, rec, id);
	}
	*wirelen = (uint32_t)((int64_t)rec->wirelen + shift);
	return (uint32_t)((int64_t)rec->len + shift);
}
