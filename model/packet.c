#include "model/packet.h"

#include <assert.h>
#include <string.h>

#include "model/packet_impl.h"

#define VLAN_MAX  8u  /* tags; real stacks have two */
#define EXT_MAX   16u /* IPv6 extension headers; RFC 8200 knows six kinds */
#define OPT_JUMBO 0xc2u

/* --- names ---------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name, *help;
} reason_text[NSSM_PKT_N_REASONS] = {
        [NSSM_PKT_OK] = {"ok", "taken"},
        [NSSM_PKT_NOT_IP] = {"not_ip", "neither IPv4 nor IPv6 (ARP, LLDP, 802.3 ...)"},
        [NSSM_PKT_NOT_TCP_UDP] = {"not_tcp_udp", "IP, but neither TCP nor UDP (ICMP, IGMP, tunnels ...)"},
        [NSSM_PKT_FRAGMENT] = {"fragment", "a later IP fragment, which has no transport header"},
        [NSSM_PKT_CUT] = {"cut", "the capture ends inside a header"},
        [NSSM_PKT_BAD_IP] = {"bad_ip", "IP version, header length or total length that cannot be"},
        [NSSM_PKT_BAD_TRANSPORT] = {"bad_transport", "TCP or UDP header length that cannot be"},
        [NSSM_PKT_STRAY_TOKEN] = {"stray_token", "a special token inside a generated packet"},
        [NSSM_PKT_SHORT] = {"short", "a generated packet that ends before its headers do"},
        [NSSM_PKT_NO_SESSION] = {"no_session", "of a client beyond the number that are told apart"},
        [NSSM_PKT_BAD_TOKEN] = {"bad_token", "a token that the codec's grammar does not allow there"},
        [NSSM_PKT_ESCAPED] = {"escaped", "spelled byte by byte, which --mask clean does not send (EAPOL, IGMP, ICMP errors ...)"},
};

const char *nssm_pkt_reason_name(int reason)
{
	return reason >= 0 && reason < NSSM_PKT_N_REASONS ? reason_text[reason].name : "unknown";
}

const char *nssm_pkt_reason_help(int reason)
{
	return reason >= 0 && reason < NSSM_PKT_N_REASONS ? reason_text[reason].help : "unknown";
}

const char *nssm_pkt_repair_name(int bit_idx)
{
	static const char *const name[NSSM_REPAIR_N_BITS] = {"ip_length", "udp_length", "ip_checksum",
	        "l4_checksum", "ip_options", "tcp_options", "fragment", "reserved_bits", "source_mac"};
	return bit_idx >= 0 && bit_idx < NSSM_REPAIR_N_BITS ? name[bit_idx] : "unknown";
}

/* --- checksums ------------------------------------------------------------------------------------------------ */

uint32_t nssm_csum_add(uint32_t sum, const void *data, size_t n)
{
	/* Summed as native 32-bit halves in 64 bits: a ones' complement sum may be taken in any word size and
	 * byte order and swapped at the end (RFC 1071, section 2). 2^32 additions would be needed to
	 * overflow. */
	const uint8_t *p = data;
	uint64_t acc = 0;
	while (n >= 8) {
		uint64_t w;
		memcpy(&w, p, 8);
		acc += (w & 0xffffffffu) + (w >> 32);
		p += 8;
		n -= 8;
	}
	uint8_t tail[8] = {0};
	memcpy(tail, p, n);
	uint64_t w;
	memcpy(&w, tail, 8);
	acc += (w & 0xffffffffu) + (w >> 32);
	while (acc >> 16 != 0)
		acc = (acc & 0xffff) + (acc >> 16);
	uint16_t native = (uint16_t)acc;
	uint8_t b[2];
	memcpy(b, &native, 2);
	/* Folded before adding, so that sum stays far from 32 bits however often this is called. */
	return (sum & 0xffff) + (sum >> 16) + get16(b);
}

uint16_t nssm_csum_fold(uint32_t sum)
{
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

uint16_t nssm_csum_l4(const uint8_t *l3, int ip_version, uint8_t proto, const uint8_t *l4, size_t l4_len)
{
	assert(l4_len >= (proto == PROTO_UDP ? UDP_LEN : TCP_LEN));
	uint32_t sum = csum_pseudo(l3, ip_version, proto, (uint32_t)l4_len);
	size_t field = proto == PROTO_UDP ? 6 : 16;
	sum = nssm_csum_add(sum, l4, field);
	sum = nssm_csum_add(sum, l4 + field + 2, l4_len - field - 2);
	uint16_t c = nssm_csum_fold(sum);
	return proto == PROTO_UDP && c == 0 ? 0xffff : c;
}

/* --- walking the headers -------------------------------------------------------------------------------------- */

/* Ethernet and its VLAN tags. */
static int walk_link(struct nssm_hdrs *h, const uint8_t *data, uint32_t n)
{
	if (n < ETH_LEN)
		return NSSM_PKT_CUT;
	uint32_t off = ETH_LEN;
	h->ethertype = (uint16_t)get16(data + 12);
	while (h->ethertype == 0x8100 || h->ethertype == 0x88a8 || h->ethertype == 0x9100) {
		if (h->n_vlan == VLAN_MAX)
			return NSSM_PKT_NOT_IP;
		if (off + 4 > n)
			return NSSM_PKT_CUT;
		h->ethertype = (uint16_t)get16(data + off + 2);
		h->n_vlan++;
		off += 4;
	}
	h->l3_off = (uint16_t)off;
	return h->ethertype == 0x0800 || h->ethertype == 0x86dd ? NSSM_PKT_OK : NSSM_PKT_NOT_IP;
}

static bool taken_proto(uint8_t proto)
{
	return proto == PROTO_TCP || proto == PROTO_UDP;
}

static int walk_ip4(struct nssm_hdrs *h, const uint8_t *data, uint32_t n, bool past_fragment)
{
	uint32_t l3 = h->l3_off;
	if (l3 + 20 > n)
		return NSSM_PKT_CUT;
	const uint8_t *ip = data + l3;
	uint32_t hlen = (ip[0] & 15u) * 4;
	if (ip[0] >> 4 != 4 || hlen < 20)
		return NSSM_PKT_BAD_IP;
	h->ip_version = 4;
	h->proto = ip[9];
	h->ip_len = get16(ip + 2);
	if (h->ip_len == 0)
		h->ip_len = n - l3;
	uint32_t frag = get16(ip + 6);
	h->fragment = (frag & 0x3fff) != 0;
	if (!taken_proto(h->proto))
		return NSSM_PKT_NOT_TCP_UDP;
	if ((frag & 0x1fff) != 0 && !past_fragment)
		return NSSM_PKT_FRAGMENT;
	h->l4_off = (uint16_t)(l3 + hlen);
	return l3 + hlen > n ? NSSM_PKT_CUT : NSSM_PKT_OK;
}

/* The jumbo payload option's length (RFC 2675) in a hop-by-hop header, or 0. */
static uint32_t jumbo_len(const uint8_t *opt, uint32_t n)
{
	for (uint32_t i = 2; i < n;) {
		if (opt[i] == 0) {
			i++;
			continue;
		}
		if (i + 2 > n || i + 2u + opt[i + 1] > n)
			return 0;
		if (opt[i] == OPT_JUMBO)
			return opt[i + 1] == 4 ? get32(opt + i + 2) : 0;
		i += 2u + opt[i + 1];
	}
	return 0;
}

static bool is_ext(uint8_t proto)
{
	return proto == PROTO_HBH || proto == PROTO_ROUTE || proto == PROTO_FRAG || proto == PROTO_DEST ||
	       proto == PROTO_AH;
}

/* Length of an extension header by its own second byte. */
static uint32_t ext_len(uint8_t proto, const uint8_t *ext)
{
	return proto == PROTO_FRAG ? 8 : proto == PROTO_AH ? (ext[1] + 2u) * 4 : (ext[1] + 1u) * 8;
}

static int walk_ip6(struct nssm_hdrs *h, const uint8_t *data, uint32_t n, bool past_fragment)
{
	uint32_t l3 = h->l3_off;
	if (l3 + IP6_LEN > n)
		return NSSM_PKT_CUT;
	const uint8_t *ip = data + l3;
	if (ip[0] >> 4 != 6)
		return NSSM_PKT_BAD_IP;
	h->ip_version = 6;
	h->proto = ip[6];
	uint32_t payload = get16(ip + 4), jumbo = 0;
	h->ip_len = payload != 0 ? IP6_LEN + payload : n - l3;
	uint32_t off = l3 + IP6_LEN;
	for (unsigned k = 0; is_ext(h->proto); k++) {
		if (k == EXT_MAX)
			return NSSM_PKT_BAD_IP;
		if (off + 8 > n)
			return NSSM_PKT_CUT;
		uint32_t len = ext_len(h->proto, data + off);
		if (h->proto == PROTO_FRAG) {
			uint32_t frag = get16(data + off + 2);
			h->fragment = (frag & 0xfff9) != 0;
			if (frag >> 3 != 0 && !past_fragment) {
				h->proto = data[off];
				return taken_proto(h->proto) || is_ext(h->proto) ? NSSM_PKT_FRAGMENT
				                                                 : NSSM_PKT_NOT_TCP_UDP;
			}
		}
		h->l4_off = (uint16_t)(off + len); /* or behind it; so that a length that cannot be is seen
		                                      though it is cut */
		if (off + len > n)
			return NSSM_PKT_CUT;
		if (h->proto == PROTO_HBH && k == 0 && payload == 0 && jumbo == 0)
			jumbo = jumbo_len(data + off, len);
		h->proto = data[off];
		off += len;
	}
	if (jumbo != 0)
		h->ip_len = jumbo > UINT32_MAX - IP6_LEN ? UINT32_MAX : IP6_LEN + jumbo;
	h->l4_off = (uint16_t)off;
	return taken_proto(h->proto) ? NSSM_PKT_OK : NSSM_PKT_NOT_TCP_UDP;
}

/* All headers; length fields of IP and UDP are not compared with anything yet. past_fragment: a later
 * fragment is taken for a whole packet, as repair does. */
static int walk(struct nssm_hdrs *h, const uint8_t *data, uint32_t n, bool past_fragment)
{
	*h = (struct nssm_hdrs){0};
	int rc = walk_link(h, data, n);
	if (rc != NSSM_PKT_OK)
		return rc;
	rc = h->ethertype == 0x0800 ? walk_ip4(h, data, n, past_fragment)
	                            : walk_ip6(h, data, n, past_fragment);
	if (rc != NSSM_PKT_OK)
		return rc;
	uint32_t l4 = h->l4_off, hlen = UDP_LEN;
	if (h->proto == PROTO_TCP) {
		if (l4 + 13 > n)
			return NSSM_PKT_CUT;
		hlen = (uint32_t)(data[l4 + 12] >> 4) * 4;
		if (hlen < TCP_LEN)
			return NSSM_PKT_BAD_TRANSPORT;
	}
	h->payload_off = (uint16_t)(l4 + hlen);
	return l4 + hlen > n ? NSSM_PKT_CUT : NSSM_PKT_OK;
}

int nssm_pkt_parse(struct nssm_hdrs *h, const uint8_t *data, uint32_t caplen)
{
	int rc = walk(h, data, caplen, false);
	if (rc != NSSM_PKT_OK && rc != NSSM_PKT_CUT)
		return rc;
	/* What the lengths make impossible is bad however much of it was captured. */
	if (h->l4_off != 0 && h->ip_len < (uint32_t)h->l4_off - h->l3_off)
		return NSSM_PKT_BAD_IP;
	if (h->payload_off != 0 && h->ip_len < (uint32_t)h->payload_off - h->l3_off)
		return NSSM_PKT_BAD_TRANSPORT;
	if (rc == NSSM_PKT_OK && h->proto == PROTO_UDP) {
		uint32_t len = get16(data + h->l4_off + 4);
		/* 0 is how UDP says "longer than I can tell" (RFC 2675, section 4), and how offloading leaves
		 * it. */
		if (len != 0 && len < UDP_LEN)
			return NSSM_PKT_BAD_TRANSPORT;
	}
	return rc;
}

int nssm_pkt_walk(struct nssm_hdrs *h, const uint8_t *data, uint32_t n)
{
	return walk(h, data, n, true);
}

int nssm_flow_key(struct nssm_flow_key *key, const struct nssm_hdrs *h, const uint8_t *data)
{
	memset(key, 0, sizeof *key);
	const uint8_t *ip = data + h->l3_off, *l4 = data + h->l4_off;
	size_t n = h->ip_version == 4 ? 4 : 16;
	const uint8_t *src = ip + (h->ip_version == 4 ? 12 : 8), *dst = src + n;
	uint16_t sport = (uint16_t)get16(l4), dport = (uint16_t)get16(l4 + 2);
	int order = memcmp(src, dst, n);
	int end = order > 0 || (order == 0 && sport > dport);
	memcpy(key->addr[end], src, n);
	memcpy(key->addr[!end], dst, n);
	key->port[end] = sport;
	key->port[!end] = dport;
	key->proto = h->proto;
	key->ip_version = h->ip_version;
	return end;
}
