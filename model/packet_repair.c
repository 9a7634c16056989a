/* What nssm_pkt_repair changes, and why so little: the model's bytes stay wherever a receiver could accept
 * them, so that what is measured later is the model's work. Length fields follow the IP length; only what
 * contradicts it or the header lengths is rewritten. */
#include <assert.h>
#include <string.h>

#include "model/packet_impl.h"

/* --- option lists --------------------------------------------------------------------------------------------- */

/* Multipath TCP (RFC 8684, section 3): lengths each subtype may have; bit n stands for length n. */
static bool mptcp_ok(const uint8_t *o, uint32_t len)
{
	if (len < 3)
		return false;
	switch (o[2] >> 4) {
	case 0: /* MP_CAPABLE: SYN 4 or 12, ACK 20, with data 22 or 24 */
		return (o[2] & 15) == 0 ? len == 12 || len == 20
		                        : (o[2] & 15) == 1 && (len == 4 || len == 12 || len == 20 ||
		                                                      len == 22 || len == 24);
	case 1: /* MP_JOIN: SYN, SYN/ACK, ACK */
		return len == 12 || len == 16 || len == 24;
	case 2: { /* DSS: what its flags announce, with or without a checksum */
		if (len < 4)
			return false;
		uint32_t want = 4 + ((o[3] & 1) ? ((o[3] & 2) ? 8 : 4) : 0) +
		                ((o[3] & 4) ? ((o[3] & 8) ? 14 : 10) : 0);
		return len == want || ((o[3] & 4) != 0 && len == want + 2);
	}
	case 3: /* ADD_ADDR */
		return len == 8 || len == 10 || len == 16 || len == 18 || len == 20 || len == 22 ||
		       len == 28 || len == 30;
	case 4: /* REMOVE_ADDR */
		return len >= 4;
	case 5: /* MP_PRIO */
		return len == 3 || len == 4;
	case 6: /* MP_FAIL */
	case 7: /* MP_FASTCLOSE */
		return len == 12;
	case 8: /* MP_TCPRST */
		return len == 4;
	default:
		return false;
	}
}

static bool tcp_option_ok(const uint8_t *o, uint32_t len)
{
	switch (o[0]) {
	case 2:  /* MSS */
	case 28: /* user timeout, RFC 5482 */
		return len == 4;
	case 3:  /* window scale */
	case 10: /* POS service profile */
	case 14: /* alternate checksum request */
		return len == 3;
	case 4: /* SACK permitted */
	case 9: /* POC permitted */
		return len == 2;
	case 5: /* SACK: one to four blocks */
		return len >= 10 && (len - 2) % 8 == 0;
	case 6: /* echo, echo reply; connection counts */
	case 7:
	case 11:
	case 12:
	case 13:
		return len == 6;
	case 8: /* timestamps */
		return len == 10;
	case 19: /* MD5, RFC 2385 */
		return len == 18;
	case 27: /* quick start, RFC 4782 */
		return len == 8;
	case 29: /* TCP-AO, RFC 5925 */
		return len >= 4;
	case 30:
		return mptcp_ok(o, len);
	case 34: /* fast open, RFC 7413: no cookie or 4 to 16 bytes, even */
		return len == 2 || (len >= 6 && len <= 18 && len % 2 == 0);
	case 76: /* Riverbed's probe: its forms are not published */
		return false;
	case 78:
		return len == 16;
	case 253: /* experiments carry an identifier, RFC 6994 */
	case 254:
		return len >= 4;
	default:
		return len >= 2;
	}
}

/* Commercial security option (draft-ietf-cipso-ipsecurity-01): tags of type, length, at least an alignment
 * and a level. */
static bool cipso_ok(const uint8_t *o, uint32_t len)
{
	if (len < 10)
		return false;
	uint32_t i = 6;
	while (i + 4 <= len && o[i + 1] >= 4 && o[i + 1] <= len - i)
		i += o[i + 1];
	return i == len;
}

static bool ip_option_ok(const uint8_t *o, uint32_t len)
{
	switch (o[0]) {
	case 7: /* record route: pointer to a slot or just behind the last */
		return len >= 7 && (len - 3) % 4 == 0 && o[2] >= 4 && o[2] % 4 == 0 && o[2] <= len + 1u;
	case 131: /* source routes: used up, or the checksum's destination is another than the header's */
	case 137:
		return len >= 7 && (len - 3) % 4 == 0 && o[2] == len + 1u;
	case 68: { /* timestamp: plain stamps, or pairs with addresses */
		uint32_t slot = (len >= 4 && (o[3] & 15) != 0) ? 8 : 4;
		return len >= 4 + slot && (len - 4) % slot == 0 && o[2] >= 5 && (o[2] - 5u) % slot == 0 &&
		       o[2] <= len + 1u && ((o[3] & 15) == 0 || (o[3] & 15) == 1 || (o[3] & 15) == 3);
	}
	case 136: /* stream id */
	case 148: /* router alert */
	case 11:  /* MTU probe and reply */
	case 12:
		return len == 4;
	case 82: /* traceroute, RFC 1393 */
		return len == 12;
	case 130: /* security, RFC 1108: the low bit of an authority byte says that another follows */
		for (uint32_t i = 3; i < len; i++)
			if ((o[i] & 1) != (i + 1 < len))
				return false;
		return len >= 3;
	case 133: /* extended security: a format code at least */
		return len >= 3;
	case 134: /* CIPSO: a 4-byte domain, then tags with lengths of their own */
		return cipso_ok(o, len);
	case 25: /* quick start */
		return len == 8;
	default:
		return len >= 2;
	}
}

/* Walks kind/length options; from the first that cannot be, the rest becomes no-ops (1). Returns whether it
 * did. */
static bool mend_options(uint8_t *o, uint32_t n, bool (*ok)(const uint8_t *, uint32_t))
{
	for (uint32_t i = 0; i < n;) {
		if (o[i] == 0) { /* what follows must be zero, RFC 9293 section 3.1 */
			uint32_t dirty = 0;
			for (; i < n; i++) {
				dirty |= o[i];
				o[i] = 0;
			}
			return dirty != 0;
		}
		if (o[i] == 1) {
			i++;
			continue;
		}
		uint32_t len = i + 1 < n ? o[i + 1] : 0;
		if (len < 2 || len > n - i || !ok(o + i, len)) {
			memset(o + i, 0, n - i);
			return true;
		}
		i += len;
	}
	return false;
}

/* Padding of n bytes in a hop-by-hop or destination header: Pad1, or PadN's (RFC 8200, section 4.2). */
static void pad6(uint8_t *o, uint32_t n)
{
	if (n == 1) {
		o[0] = 0;
		return;
	}
	while (n >= 2) {
		uint32_t k = n > 257 ? 255 : n; /* never leaves a single byte behind: 258 would */
		o[0] = 1;
		o[1] = (uint8_t)(k - 2);
		memset(o + 2, 0, k - 2);
		o += k;
		n -= k;
	}
}

/* The options of one IPv6 hop-by-hop or destination header. A jumbo payload length contradicts the 16-bit one
 * that a generated packet always has, and a home address would change the checksum's addresses. */
static bool mend_options6(uint8_t *o, uint32_t n)
{
	for (uint32_t i = 0; i < n;) {
		if (o[i] == 0) {
			i++;
			continue;
		}
		uint32_t len = i + 1 < n ? o[i + 1] + 2u : 0;
		bool fits = len >= 2 && len <= n - i;
		bool known = fits && (o[i] == 1 || (o[i] == 5 && len == 4)); /* PadN, router alert */
		if (!known) {
			pad6(o + i, n - i);
			return true;
		}
		if (o[i] == 1)
			memset(o + i + 2, 0, len - 2);
		i += len;
	}
	return false;
}

/* --- headers -------------------------------------------------------------------------------------------------- */

/* IPv6 extension headers in [off, end); *next names the first. A fragment header becomes an atomic one (RFC
 * 6946). A routing header, and a hop-by-hop header that is not the first, become destination options with
 * nothing in them: the former would make the checksum's destination another one, the latter must not be (RFC
 * 8200, section 4.1). */
static void mend_ext(uint8_t *frame, uint32_t off, uint32_t end, uint8_t *next, unsigned *bits)
{
	for (bool first = true; off < end; first = false) {
		uint8_t *e = frame + off;
		uint32_t len = *next == PROTO_FRAG ? 8 : *next == PROTO_AH ? (e[1] + 2u) * 4 : (e[1] + 1u) * 8;
		if (*next == PROTO_FRAG) {
			if (e[1] != 0 || get16(e + 2) != 0)
				*bits |= NSSM_REPAIR_FRAGMENT;
			e[1] = e[2] = e[3] = 0;
		} else if (*next == PROTO_ROUTE || (*next == PROTO_HBH && !first)) {
			*next = PROTO_DEST;
			pad6(e + 2, len - 2);
			*bits |= NSSM_REPAIR_IP_OPTIONS;
		} else if (*next != PROTO_AH && mend_options6(e + 2, len - 2))
			*bits |= NSSM_REPAIR_IP_OPTIONS;
		next = e;
		off += len;
	}
}

/* IP header fields but length and checksum. */
static void mend_ip(uint8_t *frame, const struct nssm_hdrs *h, unsigned *bits)
{
	uint8_t *ip = frame + h->l3_off;
	if (h->ip_version == 6) {
		mend_ext(frame, h->l3_off + IP6_LEN, h->l4_off, ip + 6, bits);
		return;
	}
	uint32_t frag = get16(ip + 6);
	if ((frag & 0x3fff) != 0)
		*bits |= NSSM_REPAIR_FRAGMENT;
	if ((frag & 0x8000) != 0)
		*bits |= NSSM_REPAIR_TCP_FLAGS;
	put16(ip + 6, frag & 0x4000);
	if (mend_options(ip + 20, h->l4_off - h->l3_off - 20u, ip_option_ok))
		*bits |= NSSM_REPAIR_IP_OPTIONS;
}

/* Length of the IP packet: what its header says where that can be. */
static uint32_t mend_ip_len(uint8_t *frame, uint32_t cap, const struct nssm_hdrs *h, unsigned *bits)
{
	uint8_t *ip = frame + h->l3_off;
	uint32_t least = (uint32_t)h->payload_off - h->l3_off;
	uint32_t most = cap - h->l3_off, field_max = h->ip_version == 4 ? 65535 : IP6_LEN + 65535;
	most = most < field_max ? most : field_max;
	uint32_t said = h->ip_version == 4 ? get16(ip + 2) : IP6_LEN + get16(ip + 4);
	uint32_t len = said < least ? least : said > most ? most : said;
	if (len != said)
		*bits |= NSSM_REPAIR_IP_LEN;
	if (h->ip_version == 4)
		put16(ip + 2, len);
	else
		put16(ip + 4, len - IP6_LEN);
	return len;
}

static void mend_transport(uint8_t *frame, const struct nssm_hdrs *h, uint32_t ip_len, unsigned *bits)
{
	uint8_t *l4 = frame + h->l4_off;
	if (h->proto == PROTO_UDP) {
		uint32_t len = ip_len - (h->l4_off - h->l3_off);
		if (get16(l4 + 4) != len)
			*bits |= NSSM_REPAIR_UDP_LEN;
		put16(l4 + 4, len);
		return;
	}
	/* The three bits between data offset and CWR; the last was ECN-nonce, now accurate ECN's: left alone.
	 */
	if ((l4[12] & 0x0e) != 0)
		*bits |= NSSM_REPAIR_TCP_FLAGS;
	l4[12] &= 0xf1;
	if (mend_options(l4 + 20, h->payload_off - h->l4_off - 20u, tcp_option_ok))
		*bits |= NSSM_REPAIR_TCP_OPTIONS;
}

static void checksums(uint8_t *frame, const struct nssm_hdrs *h, uint32_t ip_len, unsigned *bits)
{
	uint8_t *ip = frame + h->l3_off, *l4 = frame + h->l4_off;
	if (h->ip_version == 4) {
		uint32_t was = get16(ip + 10);
		put16(ip + 10, 0);
		uint16_t is = nssm_csum_fold(nssm_csum_add(0, ip, h->l4_off - h->l3_off));
		if (is != was)
			*bits |= NSSM_REPAIR_IP_CSUM;
		put16(ip + 10, is);
	}
	uint8_t *field = l4 + (h->proto == PROTO_UDP ? 6 : 16);
	if (h->proto == PROTO_UDP && h->ip_version == 4 && get16(field) == 0)
		return;
	uint16_t is = nssm_csum_l4(ip, h->ip_version, h->proto, l4, ip_len - (h->l4_off - h->l3_off));
	if (is != get16(field))
		*bits |= NSSM_REPAIR_L4_CSUM;
	put16(field, is);
}

int nssm_pkt_repair(uint8_t *frame, uint32_t cap, uint32_t n_known, uint32_t *frame_len, unsigned *repaired,
        void (*fill)(void *ctx, uint8_t *dst, uint32_t n), void *fill_ctx)
{
	assert(n_known <= cap);
	struct nssm_hdrs h;
	*frame_len = 0;
	*repaired = 0;
	int rc = nssm_pkt_walk(&h, frame, n_known);
	if (rc != NSSM_PKT_OK)
		return rc == NSSM_PKT_CUT ? NSSM_PKT_SHORT : rc;
	if ((frame[6] & 1) != 0)
		*repaired |= NSSM_REPAIR_SRC_MAC;
	frame[6] &= 0xfe;
	mend_ip(frame, &h, repaired);
	uint32_t ip_len = mend_ip_len(frame, cap, &h, repaired);
	uint32_t len = h.l3_off + ip_len;
	mend_transport(frame, &h, ip_len, repaired);
	if (len > n_known) {
		if (fill != NULL)
			fill(fill_ctx, frame + n_known, len - n_known);
		else
			memset(frame + n_known, 0, len - n_known);
	}
	checksums(frame, &h, ip_len, repaired);
	*frame_len = len;
	return NSSM_PKT_OK;
}
