#include "replay/measure_key.h"

#include <string.h>

#include "model/packet.h"

#define HASHED_BYTES 64u
#define VERSION      1

enum { TYPE_IP4 = 0x0800, TYPE_IP6 = 0x86dd };
enum {
	PROTO_HBH = 0,
	PROTO_ICMP = 1,
	PROTO_TCP = 6,
	PROTO_UDP = 17,
	PROTO_ROUTE = 43,
	PROTO_FRAG = 44,
	PROTO_ICMP6 = 58,
	PROTO_DEST = 60
};
enum { IP4_LEN = 20, IP6_LEN = 40, TCP_LEN = 20, UDP_LEN = 8, ICMP_LEN = 8 };

static const uint8_t magic[4] = {'n', 'S', 'S', 'm'};

__extension__ typedef unsigned __int128 u128;

static uint32_t get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v = 0;
	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
}

/* --- headers --- */

/* To all on the link, or from or to an address of the link only (RFC 919, 7; RFC 5771, 4; RFC 3927, 7). */
static bool stays_on_link4(const uint8_t *ip)
{
	uint32_t src = get16(ip + 12), dst = get16(ip + 16);
	bool all_ones = dst == 0xffff && get16(ip + 18) == 0xffff, local_group = dst == 0xe000 && ip[18] == 0;
	return all_ones || local_group || src == 0xa9fe || dst == 0xa9fe;
}

/* The same of IPv6 (RFC 4291, 2.5.6 and 2.7). */
static bool stays_on_link6(const uint8_t *ip)
{
	bool local_group = ip[24] == 0xff && (ip[25] & 15) <= 2;
	return local_group || (get16(ip + 8) & 0xffc0) == 0xfe80 || (get16(ip + 24) & 0xffc0) == 0xfe80;
}

static bool view_ip4(struct nssm_view *v, const uint8_t *frame, uint32_t len)
{
	const uint8_t *ip = frame + v->l3_off;
	if (v->l3_off + IP4_LEN > len || ip[0] >> 4 != 4 || stays_on_link4(ip))
		return false;
	uint32_t hlen = (ip[0] & 15u) * 4, total = get16(ip + 2), frag = get16(ip + 6);
	/* 0: left to the card by segmentation offload. */
	if (total == 0)
		total = len - v->l3_off;
	if (hlen < IP4_LEN || v->l3_off + hlen > len || total < hlen)
		return false;
	v->ip_version = 4;
	v->proto = ip[9];
	v->ip_id = (uint16_t)get16(ip + 4);
	v->fragment = (frag & 0x3fff) != 0;
	v->frag_off = frag & 0x1fff;
	v->l4_off = v->l3_off + hlen;
	v->l4_len = total - hlen;
	return true;
}

static bool view_ip6(struct nssm_view *v, const uint8_t *frame, uint32_t len)
{
	const uint8_t *ip = frame + v->l3_off;
	if (v->l3_off + IP6_LEN > len || ip[0] >> 4 != 6 || stays_on_link6(ip))
		return false;
	uint32_t payload = get16(ip + 4), off = v->l3_off + IP6_LEN;
	uint32_t end = payload != 0 ? off + payload : len; /* 0: a jumbogram, or offload as above */
	v->ip_version = 6;
	v->proto = ip[6];
	while (v->frag_off == 0 && (v->proto == PROTO_HBH || v->proto == PROTO_ROUTE ||
	                                   v->proto == PROTO_FRAG || v->proto == PROTO_DEST)) {
		if (off + 8 > len || off + 8 > end)
			return false;
		const uint8_t *ext = frame + off;
		if (v->proto == PROTO_FRAG) {
			v->fragment = (get16(ext + 2) & 0xfff9) != 0;
			v->frag_off = (uint16_t)(get16(ext + 2) >> 3);
		}
		off += v->proto == PROTO_FRAG ? 8 : (ext[1] + 1u) * 8;
		v->proto = ext[0];
	}
	if (off > len || off > end)
		return false;
	v->l4_off = off;
	v->l4_len = end - off;
	return true;
}

/* The transport header's length; false: not there whole, or of no use. */
static bool view_l4(struct nssm_view *v, const uint8_t *l4)
{
	v->hdr_len = 0;
	if (v->frag_off != 0)
		return true;
	switch (v->proto) {
	case PROTO_TCP:
		if (v->there < TCP_LEN)
			return false;
		v->hdr_len = (l4[12] >> 4) * 4u;
		return v->hdr_len >= TCP_LEN && v->hdr_len <= v->there;
	case PROTO_UDP:
		v->hdr_len = UDP_LEN;
		return v->there >= UDP_LEN;
	case PROTO_ICMP:
	case PROTO_ICMP6:
		v->hdr_len = ICMP_LEN;
		/* Neighbor Discovery is answered, not measured (neigh.h). */
		return v->there >= ICMP_LEN && !(v->proto == PROTO_ICMP6 && l4[0] >= 133 && l4[0] <= 137);
	default:
		return true;
	}
}

bool nssm_view(struct nssm_view *v, const uint8_t *frame, uint32_t len)
{
	*v = (struct nssm_view){.l3_off = 14};
	if (len < 14)
		return false;
	uint32_t type = get16(frame + 12);
	while (type == 0x8100 || type == 0x88a8 || type == 0x9100) {
		if (v->l3_off + 4 > len)
			return false;
		type = get16(frame + v->l3_off + 2);
		v->l3_off += 4;
	}
	if (!(type == TYPE_IP4 ? view_ip4(v, frame, len) : type == TYPE_IP6 && view_ip6(v, frame, len)))
		return false;
	uint32_t rest = len - v->l4_off;
	v->there = rest < v->l4_len ? rest : v->l4_len;
	return view_l4(v, frame + v->l4_off);
}

/* --- keys --- */

/* The mixing step of wyhash: a 128-bit product, folded. */
static uint64_t mix(uint64_t a, uint64_t b)
{
	u128 p = (u128)a * b;
	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

/* n >= 16 and a multiple of 16. */
static uint64_t mix_bytes(uint64_t h, const uint8_t *p, uint32_t n, const uint64_t secret[4])
{
	for (; n > 0; n -= 16, p += 16) {
		uint64_t w[2];
		memcpy(w, p, 16);
		h = mix(w[0] ^ secret[1], w[1] ^ secret[2] ^ h);
	}
	return h;
}

/* ICMP messages that are questions and answers; the others are errors and quote a packet. */
static bool icmp_query(uint8_t proto, uint8_t type)
{
	return proto == PROTO_ICMP ? type == 0 || type == 8 || type > 12 : type >= 128;
}

uint64_t nssm_view_key(const struct nssm_view *v, const uint8_t *frame, const uint64_t secret[4])
{
	const uint8_t *l4 = frame + v->l4_off, *payload = l4 + v->hdr_len;
	uint32_t len = v->l4_len - v->hdr_len, n = v->there - v->hdr_len;
	uint64_t fields[2] = {0, 0};
	if (v->hdr_len > 0 && v->proto == PROTO_TCP) {
		memcpy(&fields[0], l4 + 4, 8);
		fields[1] = l4[13] & 0x3f;
	} else if (v->hdr_len > 0 && v->proto != PROTO_UDP) {
		fields[1] = get16(l4);
		if (icmp_query(v->proto, l4[0]))
			fields[0] = get16(l4 + 6);
		else
			n = 0;
	}
	uint64_t h = mix((uint64_t)len << 32 | (uint32_t)v->frag_off << 8 | v->proto, secret[0]);
	h = mix(fields[0] ^ secret[1], fields[1] ^ secret[2] ^ h);
	if (n >= HASHED_BYTES) {
		h = mix_bytes(h, payload, HASHED_BYTES, secret);
	} else if (n > 0) {
		uint8_t padded[HASHED_BYTES] = {0};
		memcpy(padded, payload, n);
		h = mix_bytes(h, padded, HASHED_BYTES, secret);
	}
	return mix(h ^ secret[3], secret[0]);
}

uint64_t nssm_view_flow(
        const struct nssm_view *v, const uint8_t *frame, uint32_t label_idx, const uint64_t secret[4])
{
	const uint8_t *ip = frame + v->l3_off, *l4 = frame + v->l4_off;
	uint8_t addrs[32] = {0};
	if (v->ip_version == 4)
		memcpy(addrs, ip + 12, 8);
	else
		memcpy(addrs, ip + 8, 32);
	uint32_t ports = 0;
	if (v->hdr_len > 0 && (v->proto == PROTO_TCP || v->proto == PROTO_UDP))
		memcpy(&ports, l4, 4);
	uint64_t h = mix(((uint64_t)label_idx << 32 | ports) ^ secret[3], v->proto ^ secret[0]);
	return mix(mix_bytes(h, addrs, sizeof addrs, secret) ^ secret[3], secret[0]);
}

/* --- signature --- */

/* Where it is, or would be; NULL: no room. */
static const uint8_t *signature_at(const uint8_t *frame, const struct nssm_view *v)
{
	if (v->fragment || (v->proto != PROTO_TCP && v->proto != PROTO_UDP) || v->there < v->l4_len ||
	        v->l4_len < v->hdr_len + NSSM_SIGNATURE_BYTES)
		return NULL;
	if (v->proto == PROTO_UDP && get16(frame + v->l4_off + 4) != v->l4_len)
		return NULL;
	return frame + v->l4_off + v->l4_len - NSSM_SIGNATURE_BYTES;
}

/* RFC 1624, equation 3, for bytes that are summed as 16-bit words from their first on; odd: that first one is the lower half of a
 * word of the checksum's, so that sums are swapped (RFC 1071, section 2). */
static void correct(uint8_t *csum, uint32_t before, uint32_t after, bool odd, bool udp)
{
	if (udp && csum[0] == 0 && csum[1] == 0)
		return;
	uint32_t minus = nssm_csum_fold(before), plus = (uint16_t)~nssm_csum_fold(after);
	if (odd) {
		minus = (minus >> 8 | minus << 8) & 0xffff;
		plus = (plus >> 8 | plus << 8) & 0xffff;
	}
	uint16_t c = nssm_csum_fold((uint16_t)~get16(csum) + minus + plus);
	put16(csum, udp && c == 0 ? 0xffff : c);
}

bool nssm_signature_put(uint8_t *frame, uint32_t len, const struct nssm_view *v, uint32_t may_overwrite,
        const struct nssm_signature *s)
{
	const uint8_t *at = signature_at(frame, v);
	/* An IP length of 0 is to be filled in by a card that also cuts the packet into pieces. */
	if (at == NULL || get16(frame + v->l3_off + (v->ip_version == 4 ? 2 : 4)) == 0)
		return false;
	uint32_t off = (uint32_t)(at - frame);
	if (may_overwrite < len - off)
		return false;
	uint8_t *p = frame + off, *l4 = frame + v->l4_off;
	uint32_t before = nssm_csum_add(0, p, NSSM_SIGNATURE_BYTES);
	memcpy(p, magic, 4);
	p[4] = VERSION;
	put16(p + 5, s->stream);
	p[7] = 0;
	put64(p + 8, s->sequence);
	put64(p + 16, s->sent_ns);
	uint32_t after = nssm_csum_add(0, p, NSSM_SIGNATURE_BYTES);
	bool udp = v->proto == PROTO_UDP;
	correct(l4 + (udp ? 6 : 16), before, after, (off - v->l4_off) % 2 != 0, udp);
	return true;
}

bool nssm_signature_get(struct nssm_signature *s, const uint8_t *frame, const struct nssm_view *v)
{
	const uint8_t *p = signature_at(frame, v);
	if (p == NULL || memcmp(p, magic, 4) != 0 || p[4] != VERSION || p[7] != 0)
		return false;
	*s = (struct nssm_signature){
	        .stream = (uint16_t)get16(p + 5), .sequence = get64(p + 8), .sent_ns = get64(p + 16)};
	return true;
}

uint64_t nssm_signature_key(const struct nssm_signature *s, const uint64_t secret[4])
{
	uint64_t h = mix(s->sequence ^ secret[1], s->sent_ns ^ secret[2]);
	h = mix(h ^ secret[3], s->stream ^ secret[0]);
	return mix(h ^ secret[3], secret[0]);
}
