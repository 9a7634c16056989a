#include "replay/tape_impl.h"

#include "replay/session.h"

enum { PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_UDP = 17, PROTO_ICMP6 = 58 };
enum { EXT_HOP = 0, EXT_ROUTE = 43, EXT_FRAGMENT = 44, EXT_AUTH = 51, EXT_DEST = 60 };
#define IP6_LEN   40u
#define ARP_LEN   28u
#define EXTS_MAX  16u
#define MORE_FRAG 0x2000u

bool nssm_addr_fixed(const uint8_t *a, int ip_version)
{
	if (ip_version == 4) {
		uint32_t v = nssm_get32(a);
		return v == 0 || v == UINT32_MAX || a[0] == 127 || (a[0] & 0xf0) == 224;
	}
	static const uint8_t zeros[15] = {0};
	return a[0] == 0xff || (memcmp(a, zeros, 15) == 0 && a[15] <= 1);
}

/* An ARP packet for IPv4 over Ethernet, whole. */
static bool is_arp(const struct nssm_hdrs *h, const uint8_t *frame, uint32_t len)
{
	static const uint8_t head[6] = {0, 1, 8, 0, 6, 4};
	return h->ethertype == 0x0806 && h->l3_off != 0 && h->l3_off + ARP_LEN <= len &&
	       memcmp(frame + h->l3_off, head, sizeof head) == 0;
}

static void parse_ip4(struct nssm_layout *l, const uint8_t *frame)
{
	const uint8_t *ip = frame + l->h.l3_off;
	uint32_t frag = nssm_get16(ip + 6);
	l->later_frag = (frag & 0x1fff) != 0;
	l->first_frag = !l->later_frag && (frag & MORE_FRAG) != 0;
	l->frag_id = nssm_get16(ip + 4);
	l->l4_off = (uint16_t)(l->h.l3_off + (ip[0] & 15u) * 4);
}

/* What nssm_pkt_parse does not tell: the fragment's number, a route that is not at its end. */
static void parse_ip6(struct nssm_layout *l, const uint8_t *frame, uint32_t len)
{
	uint32_t off = l->h.l3_off + IP6_LEN;
	uint8_t proto = frame[l->h.l3_off + 6];
	for (unsigned k = 0; k < EXTS_MAX && off + 8 <= len; k++) {
		const uint8_t *ext = frame + off;
		uint32_t n = proto == EXT_AUTH ? (ext[1] + 2u) * 4 : (ext[1] + 1u) * 8;
		if (proto == EXT_FRAGMENT) {
			n = 8;
			uint32_t frag = nssm_get16(ext + 2);
			l->later_frag = frag >> 3 != 0;
			l->first_frag = !l->later_frag && (frag & 1) != 0;
			l->frag_id = nssm_get32(ext + 4);
		} else if (proto == EXT_ROUTE) {
			if (ext[3] != 0)
				l->flags |= NSSM_REC_ROUTED;
		} else if (proto != EXT_HOP && proto != EXT_AUTH && proto != EXT_DEST) {
			break;
		}
		if (l->later_frag)
			break;
		proto = ext[0];
		off += n;
	}
	l->l4_off = l->h.l4_off;
}

static void parse_tcp_options(struct nssm_layout *l, const uint8_t *frame)
{
	enum { END = 0, NOP = 1, SACK = 5, TIMESTAMPS = 8 };
	for (uint32_t at = l->l4_off + 20u, end = l->h.payload_off; at + 1 < end;) {
		uint8_t kind = frame[at], n = frame[at + 1];
		if (kind == END)
			return;
		if (kind == NOP) {
			at++;
			continue;
		}
		if (n < 2 || at + n > end)
			return;
		if (kind == TIMESTAMPS && n == 10 && l->ts_off == 0) {
			l->ts_off = (uint16_t)(at + 2);
		} else if (kind == SACK && n >= 10 && n % 8 == 2 && l->sack_off == 0) {
			l->sack_off = (uint16_t)(at + 2);
			l->n_sack = (uint8_t)(n / 8);
		}
		at += n;
	}
}

/* Who opens a flow whose first packet this is: see session.h, client. */
static uint8_t opener(const struct nssm_layout *l)
{
	enum { SYN = 2, ACK = 16 };
	if (l->tcp_flags & SYN)
		return (l->tcp_flags & ACK) != 0;
	if (l->kind == NSSM_REC_ICMP)
		return l->has_ports && (l->icmp_type == 0 || l->icmp_type == 129);
	if (nssm_addr_fixed(l->addr[1], l->h.ip_version))
		return 0; /* groups open nothing */
	bool from = nssm_split_server_port(l->port[0]), to = nssm_split_server_port(l->port[1]);
	return l->has_ports && from && !to;
}

static void parse_l4(struct nssm_layout *l, int rc, const uint8_t *frame)
{
	uint32_t l4 = l->l4_off;
	uint8_t proto = l->h.proto;
	l->kind = NSSM_REC_IP;
	if (l4 == 0 || l4 >= l->end)
		return;
	uint32_t there = l->end - l4;
	const uint8_t *p = frame + l4;
	if (proto == PROTO_TCP || proto == PROTO_UDP) {
		bool tcp = proto == PROTO_TCP;
		l->cut = rc != NSSM_PKT_OK;
		l->has_ports = there >= 4;
		l->flags |= NSSM_REC_PSEUDO;
		if (there >= (tcp ? 18u : 8u))
			l->csum_off = (uint16_t)(l4 + (tcp ? 16 : 6));
		if (l->has_ports) {
			l->port[0] = (uint16_t)nssm_get16(p);
			l->port[1] = (uint16_t)nssm_get16(p + 2);
		}
		if (!l->cut) {
			l->kind = tcp ? NSSM_REC_TCP : NSSM_REC_UDP;
			l->flags |= NSSM_REC_PORTS;
		}
		if (!l->cut && tcp) {
			l->tcp_flags = p[13];
			parse_tcp_options(l, frame);
		}
	} else if ((proto == PROTO_ICMP && l->addr_len == 4) || (proto == PROTO_ICMP6 && l->addr_len == 16)) {
		if (there < 4)
			return;
		l->kind = NSSM_REC_ICMP;
		l->icmp_type = p[0];
		l->icmp_code = p[1];
		l->csum_off = (uint16_t)(l4 + 2);
		if (l->addr_len == 16)
			l->flags |= NSSM_REC_PSEUDO;
		l->serves = l->addr_len == 4 ? p[0] == 3 || p[0] == 4 || p[0] == 5 || p[0] == 9 ||
		                                       p[0] == 11 || p[0] == 12
		                             : p[0] < 128 || p[0] == 134 || p[0] == 136 || p[0] == 137;
		bool echo = l->addr_len == 4 ? p[0] == 8 || p[0] == 0 : p[0] == 128 || p[0] == 129;
		l->has_ports = echo && there >= 6;
		if (l->has_ports)
			l->port[0] = l->port[1] = (uint16_t)nssm_get16(p + 4);
	}
}

void nssm_layout_parse(struct nssm_layout *l, const uint8_t *frame, uint32_t len)
{
	*l = (struct nssm_layout){0};
	int rc = nssm_pkt_parse(&l->h, frame, len);
	if (is_arp(&l->h, frame, len))
		l->kind = NSSM_REC_ARP;
	if (l->h.ip_version == 0)
		return;
	uint32_t l3 = l->h.l3_off;
	l->addr_len = l->h.ip_version == 4 ? 4 : 16;
	l->addr[0] = frame + l3 + (l->addr_len == 4 ? 12 : 8);
	l->addr[1] = l->addr[0] + l->addr_len;
	l->end = l->h.ip_len < len - l3 ? l3 + l->h.ip_len : len;
	if (l->addr_len == 4)
		parse_ip4(l, frame);
	else
		parse_ip6(l, frame, len);
	if (l->later_frag)
		l->kind = NSSM_REC_FRAGMENT;
	else
		parse_l4(l, rc, frame);
	l->init = opener(l);
}

bool nssm_layout_quoted(struct nssm_layout *l, const uint8_t *frame, uint32_t at, uint32_t end)
{
	*l = (struct nssm_layout){.end = end};
	if (at + 20 > end)
		return false;
	uint8_t version = frame[at] >> 4;
	if (version == 4 && (frame[at] & 15) >= 5) {
		l->addr_len = 4;
		l->h.proto = frame[at + 9];
	} else if (version == 6 && at + IP6_LEN <= end) {
		l->addr_len = 16;
		l->h.proto = frame[at + 6]; /* behind extension headers nothing is looked for */
	} else {
		return false;
	}
	l->h.ip_version = version;
	l->h.l3_off = (uint16_t)at;
	l->addr[0] = frame + at + (version == 4 ? 12 : 8);
	l->addr[1] = l->addr[0] + l->addr_len;
	l->kind = NSSM_REC_IP;
	l->l4_off = (uint16_t)(at + IP6_LEN);
	if (version == 4)
		parse_ip4(l, frame);
	if (l->later_frag)
		return true;
	bool whole_tcp = l->h.proto == PROTO_TCP && l->l4_off + 20u <= end &&
	                 frame[l->l4_off + 12] >> 4 >= 5 &&
	                 l->l4_off + (frame[l->l4_off + 12] >> 4) * 4u <= end;
	if (whole_tcp)
		l->h.payload_off = (uint16_t)(l->l4_off + (frame[l->l4_off + 12] >> 4) * 4u);
	parse_l4(l, whole_tcp ? NSSM_PKT_OK : NSSM_PKT_CUT, frame);
	return true;
}
