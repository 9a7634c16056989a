#include "replay/neigh.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/packet.h"
#include "replay/addrset.h"

#define SECOND_NS 1000000000ull
#define ASK_NS    (1 * SECOND_NS)
#define ASK_FAST  5u /* questions in a row before it goes slower */
#define ASK_LATER (5 * SECOND_NS)
#define RENEW_NS  (30 * SECOND_NS)
#define OWN_MAX   (1u << 26)
#define FRAME_MIN 60u /* without FCS; not every device pads */

#define ETH_LEN    14u
#define ARP_LEN    28u
#define IP4_LEN    20u
#define IP6_LEN    40u
#define ND_LEN     24u /* solicitation or advertisement before its options */
#define ND_OPT_LEN 8u  /* a link-layer address option */

enum { TYPE_ARP = 0x0806, TYPE_IP4 = 0x0800, TYPE_IP6 = 0x86dd };
enum { ARP_REQUEST = 1, ARP_REPLY = 2 };
enum { ICMP_ECHO = 8, ICMP6_ECHO = 128, ICMP6_ECHO_REPLY = 129 };
enum { ND_ROUTER_SOLICIT = 133, ND_SOLICIT = 135, ND_ADVERT = 136, ND_REDIRECT = 137 };
enum { OPT_SOURCE_MAC = 1, OPT_TARGET_MAC = 2 };
enum { PROTO_ICMP = 1, PROTO_ICMP6 = 58 };
enum { V4, V6 };

/* Ethernet, IPv4, 6 and 4 bytes of address: how every ARP packet here begins. */
static const uint8_t arp_begin[6] = {0, 1, 8, 0, 6, 4};
static const uint8_t solicited_node[13] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
static const uint8_t all_nodes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
static const uint8_t all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
static const uint8_t zeros[16];

struct gateway {
	uint8_t addr[16];
	bool set, known;
	uint8_t mac[6];
	uint32_t n_asked; /* without an answer, up to ASK_FAST */
	uint64_t due_ns;  /* of the next question */
};

struct nssm_neigh {
	struct nssm_neigh_cfg cfg;
	struct nssm_neigh_stats stats;
	struct gateway gateway[2];
	bool self_set[2];
	uint8_t local6[16]; /* link-local, made of src_mac */

	struct nssm_addrset *own; /* NULL: own_max is 0 */
};

/* A received frame's link layer. */
struct in {
	const uint8_t *frame, *l3;
	uint32_t l3_off, l3_len, n_tags;
	uint16_t ethertype;
};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static bool is_zero(const uint8_t *p, size_t n)
{
	return memcmp(p, zeros, n) == 0;
}

/* A MAC that one station can have. */
static bool station(const uint8_t *mac)
{
	return (mac[0] & 1) == 0 && !is_zero(mac, 6);
}

/* An address that one host on a link can have. */
static bool unicast(const uint8_t *addr, int v)
{
	if (v == V4)
		return addr[0] != 0 && addr[0] != 127 && addr[0] < 224;
	return addr[0] != 0xff && !(is_zero(addr, 15) && addr[15] <= 1);
}

static uint32_t malformed(struct nssm_neigh *n)
{
	n->stats.malformed++;
	return 0;
}

/* --- the addresses played --- */

void nssm_neigh_own(struct nssm_neigh *n, const uint8_t *addr, int ip_version)
{
	assert(ip_version == 4 || ip_version == 6);
	int v = ip_version == 6;
	if (!unicast(addr, v) || memcmp(addr, n->gateway[v].addr, v == V4 ? 4 : 16) == 0)
		return;
	uint8_t whole[16] = {0};
	memcpy(whole, addr, v == V4 ? 4 : 16);
	if (n->own == NULL || !nssm_addrset_add(n->own, whole, ip_version))
		__atomic_fetch_add(&n->stats.own_full, 1, __ATOMIC_RELAXED);
}

static const uint8_t *self(const struct nssm_neigh *n, int v)
{
	return v == V4 ? n->cfg.self4 : n->cfg.self6;
}

static bool answers_for(const struct nssm_neigh *n, const uint8_t *addr, int v)
{
	uint8_t whole[16] = {0};
	memcpy(whole, addr, v == V4 ? 4 : 16);
	if (!unicast(whole, v) || memcmp(whole, n->gateway[v].addr, 16) == 0)
		return false;
	if (n->self_set[v] && memcmp(addr, self(n, v), v == V4 ? 4 : 16) == 0)
		return true;
	if (v == V6 && memcmp(addr, n->local6, 16) == 0)
		return true;
	for (int i = 0; i < n->cfg.n_pools; i++) {
		uint64_t number;
		if (n->cfg.pool[i]->ip_version == (v == V4 ? 4 : 6) &&
		        nssm_pool_number(&number, n->cfg.pool[i], addr))
			return true;
	}
	return n->own != NULL && nssm_addrset_has(n->own, whole, v == V4 ? 4 : 6);
}

/* --- frames in --- */

static bool is_tag(uint16_t ethertype)
{
	return ethertype == 0x8100 || ethertype == 0x88a8 || ethertype == 0x9100;
}

/* False: too short, or more tags than an answer could carry. */
static bool walk_link(struct in *in, const uint8_t *frame, uint32_t len)
{
	*in = (struct in){.frame = frame, .l3_off = ETH_LEN};
	if (len < ETH_LEN)
		return false;
	in->ethertype = get16(frame + 12);
	while (is_tag(in->ethertype)) {
		if (in->n_tags == NSSM_NEIGH_TAGS_MAX || in->l3_off + 4 > len)
			return false;
		in->ethertype = get16(frame + in->l3_off + 2);
		in->n_tags++;
		in->l3_off += 4;
	}
	in->l3 = frame + in->l3_off;
	in->l3_len = len - in->l3_off;
	return true;
}

/* To us or to a group, from another station, in our VLAN. */
static bool for_us(const struct nssm_neigh *n, const struct in *in)
{
	const uint8_t *dst = in->frame, *src = in->frame + 6;
	if ((dst[0] & 1) == 0 && memcmp(dst, n->cfg.src_mac, 6) != 0)
		return false;
	if (!station(src) || memcmp(src, n->cfg.src_mac, 6) == 0 || in->n_tags < n->cfg.n_vlan)
		return false;
	for (uint32_t i = 0; i < n->cfg.n_vlan; i++)
		if (((get16(in->frame + ETH_LEN + 4 * i) ^ n->cfg.vlan[i]) & 0xfff) != 0)
			return false;
	return true;
}

/* The link layer of an answer, with the question's tags. Returns where the rest goes. */
static uint8_t *answer_link(const struct nssm_neigh *n, uint8_t *out, const struct in *in, const uint8_t *dst)
{
	memcpy(out, dst, 6);
	memcpy(out + 6, n->cfg.src_mac, 6);
	memcpy(out + 12, in->frame + 12, in->l3_off - 12);
	return out + in->l3_off;
}

/* The link layer of a question of our own. */
static uint8_t *question_link(
        const struct nssm_neigh *n, uint8_t *out, const uint8_t *dst, uint16_t ethertype)
{
	memcpy(out, dst, 6);
	memcpy(out + 6, n->cfg.src_mac, 6);
	uint8_t *p = out + 12;
	for (uint32_t i = 0; i < n->cfg.n_vlan; i++, p += 4) {
		uint16_t usual = n->cfg.n_vlan == 2 && i == 0 ? 0x88a8 : 0x8100;
		put16(p, n->cfg.tpid[i] != 0 ? n->cfg.tpid[i] : usual);
		put16(p + 2, n->cfg.vlan[i]);
	}
	put16(p, ethertype);
	return p + 2;
}

/* Ends a frame: its length, padded. */
static uint32_t finish(uint8_t *out, const uint8_t *end)
{
	uint32_t len = (uint32_t)(end - out);
	if (len >= FRAME_MIN)
		return len;
	memset(out + len, 0, FRAME_MIN - len);
	return FRAME_MIN;
}

static void learn(struct nssm_neigh *n, int v, const uint8_t *mac, uint64_t now_ns)
{
	struct gateway *g = &n->gateway[v];
	memmove(g->mac, mac, 6);
	g->known = true;
	g->n_asked = 0;
	g->due_ns = now_ns + RENEW_NS;
}

/* --- ARP --- */

static uint8_t *put_arp(
        uint8_t *a, int op, const uint8_t *sha, const uint8_t *spa, const uint8_t *tha, const uint8_t *tpa)
{
	memcpy(a, arp_begin, 6);
	put16(a + 6, (uint32_t)op);
	memcpy(a + 8, sha, 6);
	memcpy(a + 14, spa, 4);
	memcpy(a + 18, tha, 6);
	memcpy(a + 24, tpa, 4);
	return a + ARP_LEN;
}

static uint32_t in_arp(struct nssm_neigh *n, const struct in *in, uint64_t now_ns, uint8_t *out)
{
	if (!for_us(n, in))
		return 0;
	const uint8_t *a = in->l3, *sha = a + 8, *spa = a + 14, *tha = a + 18, *tpa = a + 24;
	if (in->l3_len < ARP_LEN || memcmp(a, arp_begin, 6) != 0 || !station(sha))
		return malformed(n);
	switch (get16(a + 6)) {
	case ARP_REQUEST:
		n->stats.arp_requests++;
		/* An announcement (RFC 5227, section 2.3) asks nothing. A probe's sender is 0.0.0.0, and it is
		 * answered. */
		if (memcmp(spa, tpa, 4) == 0 || !answers_for(n, tpa, V4))
			return 0;
		n->stats.arp_replies++;
		return finish(
		        out, put_arp(answer_link(n, out, in, sha), ARP_REPLY, n->cfg.src_mac, tpa, sha, spa));
	case ARP_REPLY:
		if (n->gateway[V4].set && memcmp(spa, n->gateway[V4].addr, 4) == 0 &&
		        memcmp(in->frame, n->cfg.src_mac, 6) == 0 && memcmp(tha, n->cfg.src_mac, 6) == 0)
			learn(n, V4, sha, now_ns);
		return 0;
	default:
		return 0;
	}
}

/* --- Neighbor Discovery --- */

static uint16_t icmp6_csum(const uint8_t *ip, const uint8_t *icmp, uint32_t len)
{
	uint32_t sum = nssm_csum_add(PROTO_ICMP6 + len, ip + 8, 32);
	return nssm_csum_fold(nssm_csum_add(sum, icmp, len));
}

/* The IPv6 header in front of len bytes of ICMPv6, and their checksum. Returns their end. */
static uint8_t *put_ip6(uint8_t *ip, const uint8_t *src, const uint8_t *dst, uint32_t len, uint8_t hop_limit)
{
	memset(ip, 0, 8);
	ip[0] = 0x60;
	put16(ip + 4, len);
	ip[6] = PROTO_ICMP6;
	ip[7] = hop_limit;
	memcpy(ip + 8, src, 16);
	memcpy(ip + 24, dst, 16);
	uint8_t *icmp = ip + IP6_LEN;
	put16(icmp + 2, 0);
	put16(icmp + 2, icmp6_csum(ip, icmp, len));
	return icmp + len;
}

/* A solicitation or advertisement with one option: our MAC. Returns its end. */
static uint8_t *put_nd(uint8_t *ip, const struct nssm_neigh *n, int type, const uint8_t *target,
        const uint8_t *src, const uint8_t *dst, uint8_t flags)
{
	uint8_t *icmp = ip + IP6_LEN, *opt = icmp + ND_LEN;
	memset(icmp, 0, 8);
	icmp[0] = (uint8_t)type;
	icmp[4] = flags;
	memcpy(icmp + 8, target, 16);
	opt[0] = type == ND_SOLICIT ? OPT_SOURCE_MAC : OPT_TARGET_MAC;
	opt[1] = ND_OPT_LEN / 8;
	memcpy(opt + 2, n->cfg.src_mac, 6);
	return put_ip6(ip, src, dst, ND_LEN + ND_OPT_LEN, 255);
}

/* RFC 4861, section 4.6: type, length in units of 8 bytes. False: the list is broken, or the MAC is no station's. *mac: the
 * first of the wanted type, NULL where there is none. */
static bool nd_option(const uint8_t **mac, const uint8_t *opt, uint32_t len, uint8_t want)
{
	*mac = NULL;
	while (len > 0) {
		uint32_t n = len >= 2 ? opt[1] * 8u : 0;
		if (n == 0 || n > len)
			return false;
		if (opt[0] == want && *mac == NULL)
			*mac = opt + 2;
		opt += n;
		len -= n;
	}
	return *mac == NULL || station(*mac);
}

/* RFC 4861, sections 7.1.1 and 7.2.3, 7.2.4. */
static uint32_t in_solicit(struct nssm_neigh *n, const struct in *in, uint32_t len, uint8_t *out)
{
	enum { SOLICITED = 0x40, OVERRIDE = 0x20 };
	const uint8_t *ip = in->l3, *src = ip + 8, *dst = ip + 24, *icmp = ip + IP6_LEN, *target = icmp + 8,
	              *mac;
	bool probe = is_zero(src, 16); /* for a duplicate address */
	if (!nd_option(&mac, icmp + ND_LEN, len - ND_LEN, OPT_SOURCE_MAC) || target[0] == 0xff ||
	        src[0] == 0xff ||
	        (probe && (mac != NULL || memcmp(dst, solicited_node, sizeof solicited_node) != 0)))
		return malformed(n);
	n->stats.nd_requests++;
	if (!answers_for(n, target, V6) || memcmp(src, target, 16) == 0)
		return 0;
	n->stats.nd_replies++;
	const uint8_t *to_mac = probe ? all_nodes_mac : mac != NULL ? mac : in->frame + 6;
	uint8_t *end = put_nd(answer_link(n, out, in, to_mac), n, ND_ADVERT, target, target,
	        probe ? all_nodes : src, probe ? OVERRIDE : SOLICITED | OVERRIDE);
	return finish(out, end);
}

/* RFC 4861, sections 7.1.2 and 7.2.5. */
static uint32_t in_advert(struct nssm_neigh *n, const struct in *in, uint32_t len, uint64_t now_ns)
{
	const uint8_t *ip = in->l3, *dst = ip + 24, *icmp = ip + IP6_LEN, *target = icmp + 8, *mac;
	bool solicited = (icmp[4] & 0x40) != 0;
	if (!nd_option(&mac, icmp + ND_LEN, len - ND_LEN, OPT_TARGET_MAC) || target[0] == 0xff ||
	        (solicited && dst[0] == 0xff))
		return malformed(n);
	struct gateway *g = &n->gateway[V6];
	if (!g->set || !solicited || memcmp(target, g->addr, 16) != 0 ||
	        memcmp(in->frame, n->cfg.src_mac, 6) != 0)
		return 0;
	/* Without the option it only says that the gateway is still there. */
	if (mac == NULL && g->known)
		mac = g->mac;
	if (mac != NULL)
		learn(n, V6, mac, now_ns);
	return 0;
}

/* --- echo --- */

static uint32_t in_echo6(struct nssm_neigh *n, const struct in *in, uint32_t len, uint8_t *out)
{
	const uint8_t *ip = in->l3, *src = ip + 8;
	if (!unicast(src, V6))
		return malformed(n);
	if (in->l3_off + IP6_LEN + len > NSSM_NEIGH_OUT_BYTES)
		return 0;
	uint8_t *to = answer_link(n, out, in, in->frame + 6);
	memcpy(to + IP6_LEN, ip + IP6_LEN, len);
	to[IP6_LEN] = ICMP6_ECHO_REPLY;
	n->stats.echo_replies++;
	return finish(out, put_ip6(to, n->cfg.self6, src, len, 64));
}

static uint32_t in_ip6(struct nssm_neigh *n, const struct in *in, uint64_t now_ns, uint8_t *out, bool *mine)
{
	const uint8_t *ip = in->l3, *icmp = ip + IP6_LEN;
	/* No header may stand between: none is sent there, and RFC 6980 forbids the fragment header. */
	if (in->l3_len < IP6_LEN + 4 || ip[0] >> 4 != 6 || ip[6] != PROTO_ICMP6)
		return 0;
	uint8_t type = icmp[0];
	bool nd = type >= ND_ROUTER_SOLICIT && type <= ND_REDIRECT;
	bool echo = type == ICMP6_ECHO && n->self_set[V6] && memcmp(ip + 24, n->cfg.self6, 16) == 0;
	*mine = nd || echo;
	if (!*mine || !for_us(n, in) || (nd && type != ND_SOLICIT && type != ND_ADVERT))
		return 0;
	uint32_t len = get16(ip + 4);
	if (len > in->l3_len - IP6_LEN || len < (echo ? 8 : ND_LEN) || icmp[1] != 0 || (nd && ip[7] != 255) ||
	        icmp6_csum(ip, icmp, len) != 0)
		return malformed(n);
	if (echo)
		return in_echo6(n, in, len, out);
	return type == ND_SOLICIT ? in_solicit(n, in, len, out) : in_advert(n, in, len, now_ns);
}

static uint32_t in_ip4(struct nssm_neigh *n, const struct in *in, uint8_t *out, bool *mine)
{
	const uint8_t *ip = in->l3;
	if (!n->self_set[V4] || in->l3_len < IP4_LEN || ip[0] >> 4 != 4 || ip[9] != PROTO_ICMP ||
	        memcmp(ip + 16, n->cfg.self4, 4) != 0)
		return 0;
	uint32_t hlen = (ip[0] & 15u) * 4, total = get16(ip + 2);
	bool fragment = (get16(ip + 6) & 0x3fff) != 0;
	if (hlen < IP4_LEN || hlen + 8 > in->l3_len || ip[hlen] != ICMP_ECHO || fragment)
		return 0;
	*mine = true;
	if (!for_us(n, in))
		return 0;
	uint32_t len = total - hlen;
	if (total < hlen + 8 || total > in->l3_len || ip[hlen + 1] != 0 || !unicast(ip + 12, V4) ||
	        nssm_csum_fold(nssm_csum_add(0, ip, hlen)) != 0 ||
	        nssm_csum_fold(nssm_csum_add(0, ip + hlen, len)) != 0)
		return malformed(n);
	if (in->l3_off + IP4_LEN + len > NSSM_NEIGH_OUT_BYTES)
		return 0;
	uint8_t *to = answer_link(n, out, in, in->frame + 6), *icmp = to + IP4_LEN;
	memset(to, 0, IP4_LEN);
	to[0] = 0x45;
	put16(to + 2, IP4_LEN + len);
	to[6] = 0x40; /* whole, so that its ID may be anything (RFC 6864, section 4.1) */
	to[8] = 64;
	to[9] = PROTO_ICMP;
	memcpy(to + 12, ip + 16, 4);
	memcpy(to + 16, ip + 12, 4);
	put16(to + 10, nssm_csum_fold(nssm_csum_add(0, to, IP4_LEN)));
	memcpy(icmp, ip + hlen, len);
	icmp[0] = 0;
	put16(icmp + 2, 0);
	put16(icmp + 2, nssm_csum_fold(nssm_csum_add(0, icmp, len)));
	n->stats.echo_replies++;
	return finish(out, icmp + len);
}

uint32_t nssm_neigh_frame(
        struct nssm_neigh *n, const uint8_t *frame, uint32_t len, uint64_t now_ns, uint8_t *out, bool *mine)
{
	struct in in;
	*mine = false;
	if (!walk_link(&in, frame, len))
		return 0;
	switch (in.ethertype) {
	case TYPE_ARP:
		*mine = true;
		return in_arp(n, &in, now_ns, out);
	case TYPE_IP4:
		return in_ip4(n, &in, out, mine);
	case TYPE_IP6:
		return in_ip6(n, &in, now_ns, out, mine);
	default:
		return 0;
	}
}

/* --- the gateway --- */

/* Whom a question comes from; NULL: nobody is known. */
static const uint8_t *asker(const struct nssm_neigh *n, int v, uint8_t room[16])
{
	if (n->self_set[v])
		return self(n, v);
	for (int i = 0; i < n->cfg.n_pools; i++) {
		const struct nssm_pool *p = n->cfg.pool[i];
		/* The first, or the second if the first is the gateway's. */
		for (uint64_t k = 0; p->ip_version == (v == V4 ? 4 : 6) && k < 2 && k < p->n_addrs; k++) {
			nssm_pool_addr(room, p, k);
			if (answers_for(n, room, v))
				return room;
		}
	}
	return n->own != NULL ? nssm_addrset_first(n->own, v == V4 ? 4 : 6) : NULL;
}

static uint32_t ask(struct nssm_neigh *n, int v, uint8_t *out)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	const uint8_t *addr = n->gateway[v].addr;
	uint8_t room[16];
	const uint8_t *from = asker(n, v, room);
	n->stats.asked++;
	if (v == V4) {
		uint8_t *to = question_link(n, out, broadcast, TYPE_ARP);
		return finish(out,
		        put_arp(to, ARP_REQUEST, n->cfg.src_mac, from != NULL ? from : zeros, zeros, addr));
	}
	uint8_t dst[16], mac[6] = {0x33, 0x33, 0xff, addr[13], addr[14], addr[15]};
	memcpy(dst, solicited_node, sizeof solicited_node);
	memcpy(dst + 13, addr + 13, 3);
	uint8_t *to = question_link(n, out, mac, TYPE_IP6);
	return finish(out, put_nd(to, n, ND_SOLICIT, addr, from != NULL ? from : n->local6, dst, 0));
}

uint32_t nssm_neigh_poll(struct nssm_neigh *n, uint64_t now_ns, uint8_t *out)
{
	for (int v = V4; v <= V6; v++) {
		struct gateway *g = &n->gateway[v];
		if (!g->set || now_ns < g->due_ns)
			continue;
		if (g->n_asked < ASK_FAST)
			g->n_asked++;
		g->due_ns = now_ns + (g->n_asked < ASK_FAST ? ASK_NS : ASK_LATER);
		return ask(n, v, out);
	}
	return 0;
}

bool nssm_neigh_gateway(const struct nssm_neigh *n, int ip_version, uint8_t mac[6])
{
	assert(ip_version == 4 || ip_version == 6);
	const struct gateway *g = &n->gateway[ip_version == 6];
	if (g->known)
		memcpy(mac, g->mac, 6);
	return g->known;
}

bool nssm_neigh_resolved(const struct nssm_neigh *n)
{
	return (!n->gateway[V4].set || n->gateway[V4].known) && (!n->gateway[V6].set || n->gateway[V6].known);
}

const struct nssm_neigh_stats *nssm_neigh_stats(const struct nssm_neigh *n)
{
	return &n->stats;
}

/* --- open and close --- */

/* RFC 4291, appendix A: fe80::/64 and the MAC as modified EUI-64. */
static void link_local(uint8_t addr[16], const uint8_t mac[6])
{
	const uint8_t made[16] = {
	        0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
	memcpy(addr, made, 16);
}

static int check_cfg(const struct nssm_neigh_cfg *cfg, struct nssm_err *err)
{
	assert(cfg->n_pools >= 0 && cfg->n_pools <= 4 && cfg->n_vlan <= NSSM_VLAN_TAGS_MAX);
	const uint8_t *m = cfg->src_mac, *g = cfg->gateway4, *g6 = cfg->gateway6;
	if (!station(m))
		return nssm_err_set(err, NSSM_EARG,
		        "source MAC %02x:%02x:%02x:%02x:%02x:%02x: a port needs one that is neither zero nor "
		        "a group's",
		        m[0], m[1], m[2], m[3], m[4], m[5]);
	if (!is_zero(g, 4) && !unicast(g, V4))
		return nssm_err_set(
		        err, NSSM_EARG, "gateway %d.%d.%d.%d: not a host's address", g[0], g[1], g[2], g[3]);
	if (!is_zero(g, 4) && memcmp(g, cfg->self4, 4) == 0)
		return nssm_err_set(err, NSSM_EARG, "gateway %d.%d.%d.%d: is the port's own address", g[0],
		        g[1], g[2], g[3]);
	if (!is_zero(g6, 16) && (!unicast(g6, V6) || memcmp(g6, cfg->self6, 16) == 0))
		return nssm_err_set(err, NSSM_EARG, "IPv6 gateway …%02x%02x: %s", g6[14], g6[15],
		        unicast(g6, V6) ? "is the port's own address" : "not a host's address");
	return 0;
}

int nssm_neigh_open(struct nssm_neigh **np, const struct nssm_neigh_cfg *cfg, struct nssm_err *err)
{
	*np = NULL;
	int rc = check_cfg(cfg, err);
	if (rc != 0)
		return rc;
	struct nssm_neigh *n = calloc(1, sizeof *n);
	if (n == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a port's neighbour");
	if (cfg->own_max > 0 && (rc = nssm_addrset_open(&n->own, cfg->own_max, err)) != 0) {
		free(n);
		return rc;
	}
	n->cfg = *cfg;
	memcpy(n->gateway[V4].addr, cfg->gateway4, 4);
	memcpy(n->gateway[V6].addr, cfg->gateway6, 16);
	for (int v = V4; v <= V6; v++)
		n->gateway[v].set = !is_zero(n->gateway[v].addr, 16);
	n->self_set[V4] = !is_zero(cfg->self4, 4);
	n->self_set[V6] = !is_zero(cfg->self6, 16);
	link_local(n->local6, cfg->src_mac);
	*np = n;
	return 0;
}

void nssm_neigh_close(struct nssm_neigh **n)
{
	if (*n == NULL)
		return;
	nssm_addrset_close(&(*n)->own);
	free(*n);
	*n = NULL;
}
