#include "app/eval/nprint.h"

#include <string.h>

enum { PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_UDP = 17 };
enum { IP6_LEN = 40, UDP_LEN = 8, ICMP_LEN = 8 };

const uint16_t nssm_nprint_at[NSSM_NPRINT_N_HEADERS + 1] = {0, 60, 100, 160, 168, NSSM_NPRINT_BYTES};

const struct nssm_nprint_field nssm_nprint_field[] = {
        {"ipv4_ver", 4, false}, {"ipv4_hl", 4, false}, {"ipv4_tos", 8, false}, {"ipv4_tl", 16, false}, {"ipv4_id", 16, false},
        {"ipv4_rbit", 1, false}, {"ipv4_dfbit", 1, false}, {"ipv4_mfbit", 1, false}, {"ipv4_foff", 13, false},
        {"ipv4_ttl", 8, false}, {"ipv4_proto", 8, false}, {"ipv4_cksum", 16, true}, {"ipv4_src", 32, true},
        {"ipv4_dst", 32, true}, {"ipv4_opt", 320, false},
        {"ipv6_ver", 4, false}, {"ipv6_tc", 8, false}, {"ipv6_fl", 20, false}, {"ipv6_len", 16, false}, {"ipv6_nh", 8, false},
        {"ipv6_hl", 8, false}, {"ipv6_src", 128, true}, {"ipv6_dst", 128, true},
        {"tcp_sprt", 16, true}, {"tcp_dprt", 16, true}, {"tcp_seq", 32, true}, {"tcp_ackn", 32, true}, {"tcp_doff", 4, false},
        {"tcp_res", 3, false}, {"tcp_ns", 1, false}, {"tcp_cwr", 1, false}, {"tcp_ece", 1, false}, {"tcp_urg", 1, false},
        {"tcp_ackf", 1, false}, {"tcp_psh", 1, false}, {"tcp_rst", 1, false}, {"tcp_syn", 1, false}, {"tcp_fin", 1, false},
        {"tcp_wsize", 16, false}, {"tcp_cksum", 16, true}, {"tcp_urp", 16, false}, {"tcp_opt", 320, false},
        {"udp_sport", 16, true}, {"udp_dport", 16, true}, {"udp_len", 16, false}, {"udp_cksum", 16, true},
        {"icmp_type", 8, false}, {"icmp_code", 8, false}, {"icmp_cksum", 16, true}, {"icmp_roh", 32, false},
};
const int nssm_nprint_n_fields = sizeof nssm_nprint_field / sizeof *nssm_nprint_field;

const char *nssm_nprint_header_name(enum nssm_nprint_header h)
{
	static const char *const name[NSSM_NPRINT_N_HEADERS] = {"ipv4", "ipv6", "tcp", "udp", "icmp"};
	return name[h];
}

/* len bytes at off, as far as they were captured. */
static void put(struct nssm_nprint *np, enum nssm_nprint_header h, const uint8_t *data, uint32_t caplen, uint32_t off, uint32_t len)
{
	if (off >= caplen)
		return;
	uint32_t n = len < caplen - off ? len : caplen - off;
	memcpy(np->byte + nssm_nprint_at[h], data + off, n);
	np->n[h] = (uint8_t)n;
}

enum nssm_nprint_header nssm_nprint(struct nssm_nprint *np, const struct nssm_hdrs *h, int parsed, const uint8_t *data, uint32_t caplen)
{
	memset(np, 0, sizeof *np);
	if (h->ip_version == 0)
		return NSSM_NPRINT_N_HEADERS;
	enum nssm_nprint_header ip = h->ip_version == 4 ? NSSM_NPRINT_IPV4 : NSSM_NPRINT_IPV6;
	uint32_t l4 = h->l4_off;
	bool later_fragment = parsed == NSSM_PKT_FRAGMENT;
	if (ip == NSSM_NPRINT_IPV4) {
		const uint8_t *p = data + h->l3_off;
		uint32_t len = (p[0] & 15u) * 4;
		put(np, ip, data, caplen, h->l3_off, len);
		l4 = h->l3_off + len; /* parse leaves it at 0 for ICMP */
		later_fragment = (p[6] & 0x1f) != 0 || p[7] != 0;
	} else {
		put(np, ip, data, caplen, h->l3_off, IP6_LEN);
		later_fragment = later_fragment || (h->proto == PROTO_ICMP && h->fragment);
	}
	if (later_fragment || l4 == 0)
		return ip;
	if (h->proto == PROTO_TCP)
		put(np, NSSM_NPRINT_TCP, data, caplen, l4, l4 + 13 <= caplen ? (data[l4 + 12] >> 4) * 4u : 13);
	else if (h->proto == PROTO_UDP)
		put(np, NSSM_NPRINT_UDP, data, caplen, l4, UDP_LEN);
	else if (h->proto == PROTO_ICMP)
		put(np, NSSM_NPRINT_ICMP, data, caplen, l4, ICMP_LEN);
	return ip;
}

int nssm_nprint_bit(const struct nssm_nprint *np, int bit)
{
	int i = bit / 8, h = 0;
	while (i >= nssm_nprint_at[h + 1])
		h++;
	if (i - nssm_nprint_at[h] >= np->n[h])
		return -1;
	return np->byte[i] >> (7 - bit % 8) & 1;
}
