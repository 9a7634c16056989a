/* clone_oracle — what a rewritten frame must be, by a reading of both frames that shares nothing with the cloner:
 *   - every checksum is as wrong as it was (0: right), to the number;
 *   - nothing but what the contract names has changed;
 *   - over a whole tape: addresses, ports and identifiers are mapped by a function that can be undone; sequence numbers,
 *     acknowledgements, SACK edges and timestamps have moved by one offset a flow and direction. */
#ifndef NSSM_TESTS_CLONE_ORACLE_H
#define NSSM_TESTS_CLONE_ORACLE_H

#include "replay/clone.h"
#include "tape_util.h"

/* One IP packet inside a frame: the frame's own, or one that an ICMP error quotes. */
struct view {
	int v;             /* 4, 6; 0: none */
	uint32_t l3, l4, addr, alen;
	uint32_t there;    /* bytes of the frame */
	uint32_t end;      /* of the packet, by its length, or there */
	uint8_t proto;
	bool later, routed, quote;
	uint32_t n_vlan, ethertype;
};

static inline void view_ip(struct view *w, const uint8_t *d, uint32_t at, uint32_t len, uint32_t type)
{
	w->l3 = at;
	w->end = w->there = len;
	if ((type == 0x0800 || type == 0) && at + 20 <= len && d[at] >> 4 == 4 && (d[at] & 15) >= 5) {
		w->v = 4;
		w->alen = 4;
		w->addr = at + 12;
		w->proto = d[at + 9];
		w->l4 = at + (d[at] & 15u) * 4;
		w->later = (u_get16(d + at + 6) & 0x1fff) != 0;
		uint32_t n = u_get16(d + at + 2);
		if (!w->quote && n != 0 && at + n < len)
			w->end = at + n;
	} else if ((type == 0x86dd || type == 0) && at + 40 <= len && d[at] >> 4 == 6) {
		w->v = 6;
		w->alen = 16;
		w->addr = at + 8;
		w->proto = d[at + 6];
		w->l4 = at + 40;
		uint32_t n = u_get16(d + at + 4);
		bool jumbo = n == 0;
		if (!w->quote && !jumbo && at + 40 + n < len)
			w->end = at + 40 + n;
		for (int k = 0; !w->quote && k < 16; k++) {
			uint8_t p = w->proto;
			if (p != 0 && p != 43 && p != 44 && p != 51 && p != 60)
				break;
			if (w->l4 + 8 > len) {
				w->proto = 255;
				break;
			}
			const uint8_t *x = d + w->l4;
			w->routed |= p == 43 && x[3] != 0;
			w->proto = x[0];
			w->l4 += p == 44 ? 8 : p == 51 ? (x[1] + 2u) * 4 : (x[1] + 1u) * 8;
			if (p == 44 && u_get16(x + 2) >> 3 != 0) {
				w->later = true;
				break;
			}
		}
	}
}

static inline void view_frame(struct view *w, const uint8_t *d, uint32_t len)
{
	*w = (struct view){0};
	uint32_t at = 12;
	while (at + 2 <= len) {
		w->ethertype = u_get16(d + at);
		if (w->ethertype != 0x8100 && w->ethertype != 0x88a8 && w->ethertype != 0x9100)
			break;
		if (at + 6 > len || w->n_vlan == 8) {
			w->ethertype = 0;
			break;
		}
		w->n_vlan++;
		at += 4;
	}
	if (w->ethertype == 0x0800 || w->ethertype == 0x86dd)
		view_ip(w, d, at + 2, len, w->ethertype);
}

static inline bool view_icmp(const struct view *w)
{
	return !w->later && w->proto == (w->v == 4 ? U_ICMP : U_ICMP6) && w->l4 + 4 <= w->end;
}

static inline bool view_quote(struct view *q, const struct view *w, const uint8_t *d)
{
	*q = (struct view){.quote = true};
	if (!view_icmp(w))
		return false;
	uint8_t type = d[w->l4];
	bool err = w->v == 4 ? type == 3 || type == 4 || type == 5 || type == 11 || type == 12 : type < 128;
	if (err && w->l4 + 8 < w->end)
		view_ip(q, d, w->l4 + 8, w->end, 0);
	return q->v != 0;
}

/* The checksum field's place; 0: none that can be checked. */
static inline uint32_t view_csum(const struct view *w)
{
	if (w->v == 0 || w->later)
		return 0;
	uint32_t field = w->proto == U_TCP ? 16 : w->proto == U_UDP ? 6 : w->proto == (w->v == 4 ? U_ICMP : U_ICMP6) ? 2 : 0;
	return field != 0 && w->l4 + field + 2 <= w->end ? w->l4 + field : 0;
}

/* How wrong the transport checksum is over what there is. */
static inline uint32_t l4_error(const struct view *w, const uint8_t *d)
{
	uint32_t sum = w->proto == U_ICMP ? 0 : u_sum(w->proto, d + w->addr, w->routed ? w->alen : 2 * w->alen);
	return u_sum(sum, d + w->l4, w->end - w->l4);
}
static inline uint32_t ip_error(const struct view *w, const uint8_t *d)
{
	uint32_t n = w->l4 - w->l3;
	return u_sum(0, d + w->l3, w->l3 + n <= w->there ? n : w->there - w->l3);
}

#define ORACLE_FAIL(...) \
	do { \
		fprintf(stderr, __VA_ARGS__); \
		fprintf(stderr, "\n"); \
		return false; \
	} while (0)

static inline bool same_errors(const struct view *w, const uint8_t *a, const uint8_t *b, const char *what)
{
	if (w->v == 4 && w->l3 + 12 <= w->there && ip_error(w, a) != ip_error(w, b))
		ORACLE_FAIL("%s: IP checksum off by %u, was %u", what, ip_error(w, b), ip_error(w, a));
	uint32_t c = view_csum(w);
	if (c == 0)
		return true;
	if (w->proto == U_UDP && u_get16(a + c) == 0) {
		if (u_get16(b + c) != 0)
			ORACLE_FAIL("%s: UDP without a checksum got one", what);
		return true;
	}
	if (l4_error(w, a) != l4_error(w, b))
		ORACLE_FAIL("%s: checksum of protocol %u off by %u, was %u", what, w->proto, l4_error(w, b), l4_error(w, a));
	if (w->proto == U_UDP && u_get16(b + c) == 0)
		ORACLE_FAIL("%s: a UDP checksum became 0", what);
	return true;
}

/* --- what may change --- */

static inline void allow(uint8_t *may, uint32_t at, uint32_t n, uint32_t end)
{
	for (uint32_t i = at; i < at + n && i < end; i++)
		may[i] = 1;
}

static inline void allow_ip(uint8_t *may, const struct view *w, const uint8_t *d)
{
	if (w->v == 0)
		return;
	allow(may, w->addr, 2 * w->alen, w->there);
	if (w->v == 4) {
		allow(may, w->l3 + 4, 2, w->there);
		allow(may, w->l3 + 10, 2, w->there);
	}
	if (w->later || w->l4 >= w->end)
		return;
	uint32_t n = w->end - w->l4, c = view_csum(w);
	const uint8_t *p = d + w->l4;
	if (c != 0)
		allow(may, c, 2, w->end);
	if ((w->proto == U_TCP || w->proto == U_UDP) && n >= 4)
		allow(may, w->l4, 4, w->end);
	if (w->proto == U_UDP && n >= 10 && (u_get16(p) == 53 || u_get16(p + 2) == 53))
		allow(may, w->l4 + 8, 2, w->end);
	if (view_icmp(w) && n >= 6 && (w->v == 4 ? p[0] == 0 || p[0] == 8 : p[0] == 128 || p[0] == 129))
		allow(may, w->l4 + 4, 2, w->end);
	if (w->proto != U_TCP || n < 8)
		return;
	allow(may, w->l4 + 4, 4, w->end);
	if (n >= 14 && (p[13] & U_ACK))
		allow(may, w->l4 + 8, 4, w->end);
	if (n < 20)
		return;
	uint32_t hl = (p[12] >> 4) * 4u;
	for (uint32_t i = 20; i + 1 < hl && hl <= n;) {
		if (p[i] == 0)
			break;
		if (p[i] == 1) {
			i++;
			continue;
		}
		if (p[i + 1] < 2)
			break;
		if (p[i] == 8 && p[i + 1] == 10)
			allow(may, w->l4 + i + 2, p[13] & U_ACK ? 8 : 4, w->end);
		if (p[i] == 5)
			allow(may, w->l4 + i + 2, p[i + 1] - 2u, w->end);
		i += p[i + 1];
	}
	/* TLS hellos: a handshake record with one at the front or behind a few others. */
	for (uint32_t i = hl, k = 0; hl >= 20 && k < 4 && i + 11 <= n && p[i] >= 20 && p[i] <= 23 && p[i + 1] == 3; k++) {
		if (p[i] == 22 && (p[i + 5] == 1 || p[i + 5] == 2)) {
			uint32_t sid = i + 44 <= n && p[i + 43] <= 32 ? p[i + 43] : 0;
			allow(may, w->l4 + i + 11, 32, w->end);
			allow(may, w->l4 + i + 44, sid, w->end);
			break;
		}
		i += 5 + u_get16(p + i + 3);
	}
}

static inline void allow_frame(uint8_t *may, const struct view *w, const uint8_t *d, uint32_t len)
{
	allow(may, 0, 12, len);
	if (w->ethertype == 0x0806) {
		uint32_t at = 14 + 4 * w->n_vlan;
		allow(may, at + 8, 20, len);
	}
	allow_ip(may, w, d);
	struct view q;
	if (view_icmp(w) && w->v == 4 && d[w->l4] == 5)
		allow(may, w->l4 + 4, 4, w->end);
	if (view_quote(&q, w, d))
		allow_ip(may, &q, d);
	if (view_icmp(w) && w->v == 6 && d[w->l4] >= 133 && d[w->l4] <= 137)
		allow(may, w->l4 + 8, w->end - w->l4 - 8, w->end);
}

/* --- a frame and its clone; the clone has `shift` bytes more between the MACs and l3 --- */

static inline bool oracle_frame(const uint8_t *a, uint32_t len, const uint8_t *clone, uint32_t clone_len, int tag_bytes, bool strip,
	bool payload_too)
{
	struct view w;
	view_frame(&w, a, len);
	int shift = len < 14 ? 0 : tag_bytes - (strip ? 4 * (int)w.n_vlan : 0);
	if ((int64_t)clone_len != (int64_t)len + shift)
		ORACLE_FAIL("length %u, was %u, %d expected", clone_len, len, shift);
	/* The clone brought back into the original's layout. */
	uint8_t *b = calloc(1, len + 1), *may = calloc(1, len + 1);
	if (b == NULL || may == NULL)
		abort();
	uint32_t from = strip ? 12 + 4 * w.n_vlan : 12;
	memcpy(b, clone, len < 12 ? len : 12);
	if (len > 12)
		memcpy(b + 12, a + 12, (from < len ? from : len) - 12);
	if (len > from)
		memcpy(b + from, clone + from + shift, len - from);
	bool ok = same_errors(&w, a, b, "packet");
	struct view q;
	if (ok && view_quote(&q, &w, a))
		ok = same_errors(&q, a, b, "quoted packet");
	allow_frame(may, &w, a, len);
	if (payload_too && w.v != 0 && w.proto == U_TCP && w.l4 + 20 <= w.end)
		allow(may, w.l4 + 20, len, w.end); /* a part of a TLS hello sent again */
	for (uint32_t i = 0; ok && i < len; i++) {
		if (a[i] != b[i] && !may[i]) {
			fprintf(stderr, "byte %u changed from %02x to %02x\n", i, a[i], b[i]);
			ok = false;
		}
	}
	free(b);
	free(may);
	return ok;
}

#endif
