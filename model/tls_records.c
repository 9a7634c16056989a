#include "model/tls_records.h"

#include <string.h>

#include "model/packet_impl.h"
#include "model/secure_ports.h"

#define HEAD        5u
#define LEAST       (HEAD + 1)
#define PLAIN_MAX   (HEAD + 16384)
#define CCS_LEN     (HEAD + 1)
#define SERVER_LEN  127u /* a ServerHello of version 1.3 with x25519 */
#define HOLE_MAX    (NSSM_TLS_RECORDS * NSSM_TLS_RECORD_MAX / 2)
#define CLIENT_BODY 41u /* least bytes of a hello's body */
#define SERVER_BODY 38u

enum phase { HELLO, CCS, DATA };
/* HELLO: a handshake's that is written here, not one whose header is known. */
enum { TYPE_HELLO = 0, TYPE_CCS = 20, TYPE_HANDSHAKE = 22, TYPE_DATA = 23 };

static bool after(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

/* --- hellos ------------------------------------------------------------------------------------------------------ */

#define RANDOM (-1)
#define HELLO_MAX 288

/* A record's first bytes, RANDOM those that stay as they are; the rest of it are zeros. */
struct text {
	uint32_t n;
	int16_t b[HELLO_MAX];
};

static void say(struct text *t, const uint8_t *bytes, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		t->b[t->n++] = bytes[i];
}

static void say16(struct text *t, uint32_t v)
{
	t->b[t->n++] = (int16_t)(v >> 8 & 255);
	t->b[t->n++] = (int16_t)(v & 255);
}

static void say_random(struct text *t, uint32_t n)
{
	while (n-- > 0)
		t->b[t->n++] = RANDOM;
}

/* The extension whose head is given, and n_random bytes, if they fit into *left bytes with one for padding behind them, or to the
 * last. */
static void say_extension(struct text *t, uint32_t *left, const uint8_t *head, uint32_t n, uint32_t n_random)
{
	uint32_t len = n + n_random;
	if (len != *left && len + 4 > *left)
		return;
	say(t, head, n);
	say_random(t, n_random);
	*left -= len;
}

/* left bytes of extensions; what is over is the padding of RFC 7685. */
static void say_extensions(struct text *t, bool client, uint32_t left)
{
	static const uint8_t client_versions[] = {0, 43, 0, 5, 4, 3, 4, 3, 3}, groups[] = {0, 10, 0, 6, 0, 4, 0, 29, 0, 23},
	                     signatures[] = {0, 13, 0, 10, 0, 8, 4, 3, 8, 4, 4, 1, 8, 5},
	                     client_share[] = {0, 51, 0, 38, 0, 36, 0, 29, 0, 32}, versions[] = {0, 43, 0, 2, 3, 4},
	                     share[] = {0, 51, 0, 36, 0, 29, 0, 32};
	if (client) {
		say_extension(t, &left, client_versions, sizeof client_versions, 0);
		say_extension(t, &left, groups, sizeof groups, 0);
		say_extension(t, &left, signatures, sizeof signatures, 0);
		say_extension(t, &left, client_share, sizeof client_share, 32);
	} else {
		say_extension(t, &left, versions, sizeof versions, 0);
		say_extension(t, &left, share, sizeof share, 32);
	}
	if (left > 0) {
		say16(t, 21);
		say16(t, left - 4);
	}
}

static void hello(struct text *t, const struct nssm_tls_stream *s, const struct nssm_tls_record *r)
{
	static const uint8_t suites[] = {0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30};
	uint32_t body = r->len - HEAD - 4, n_suites = body >= 91 ? sizeof suites : 2;
	uint32_t fixed = s->client ? CLIENT_BODY - 2 + n_suites : SERVER_BODY, sid = body - fixed;
	sid = sid < NSSM_TLS_SID_BYTES ? sid : NSSM_TLS_SID_BYTES;
	/* No extensions, or room for one. */
	uint32_t rest = body - fixed - sid;
	if (rest > 0 && rest < 6) {
		sid -= 6 - rest;
		rest = 6;
	}
	t->n = 0;
	say(t, (const uint8_t[]){TYPE_HANDSHAKE, 3, r->minor}, 3);
	say16(t, r->len - HEAD);
	say(t, (const uint8_t[]){s->client ? 1 : 2, 0}, 2);
	say16(t, body);
	say16(t, 0x0303);
	say_random(t, 32);
	say(t, (const uint8_t[]){(uint8_t)sid}, 1);
	if (s->client)
		say_random(t, sid);
	else
		say(t, s->sid, sid);
	if (s->client) {
		say16(t, n_suites);
		say(t, suites, n_suites);
		say(t, (const uint8_t[]){1, 0}, 2); /* no compression */
	} else {
		say(t, (const uint8_t[]){0x13, 1, 0}, 3);
	}
	if (rest > 0) {
		say16(t, rest - 2);
		say_extensions(t, s->client, rest - 2);
	}
}

/* --- cutting ------------------------------------------------------------------------------------------------------- */

void nssm_tls_begin(struct nssm_tls_stream *t, uint32_t seq, bool client, bool fresh)
{
	t->begun = true;
	t->lost = false;
	t->client = client;
	t->phase = fresh ? HELLO : DATA;
	t->flight = 0;
	t->next = seq;
	t->n = 0;
}

static void push(struct nssm_tls_stream *t, uint32_t len, uint8_t type, uint8_t minor)
{
	t->record[t->n++ % NSSM_TLS_RECORDS] = (struct nssm_tls_record){t->next, (uint16_t)len, type, minor};
	t->next += len;
}

/* All of so many bytes, or as many as leave room for another record. */
static uint32_t fit(uint32_t avail, uint32_t max)
{
	return avail <= max ? avail : avail - max >= LEAST ? max : avail - LEAST;
}

/* Multiplied by 2^32 / golden ratio: spread over its high bits. */
static uint32_t spread(uint32_t at)
{
	return at * 2654435769u >> 16;
}

/* The next record, of avail bytes that belong to the segment that begins or brings it; goes_on: len more at a time may follow. */
static void cut(struct nssm_tls_stream *t, uint32_t avail, bool goes_on, uint32_t len)
{
	uint32_t body = avail < HEAD + 4 ? 0 : avail - HEAD - 4;
	if (t->phase == HELLO && body >= (t->client ? CLIENT_BODY : SERVER_BODY)) {
		bool more = !t->client && avail >= SERVER_LEN + CCS_LEN + LEAST;
		t->phase = CCS;
		push(t, more ? SERVER_LEN : fit(avail, PLAIN_MAX), TYPE_HELLO, t->client ? 1 : 3);
		return;
	}
	if (t->phase == CCS && (avail == CCS_LEN || avail >= CCS_LEN + LEAST)) {
		t->phase = DATA;
		push(t, CCS_LEN, TYPE_CCS, 3);
		return;
	}
	t->phase = DATA;
	if (avail < LEAST)
		avail = 29 + (spread(t->next) & 63);
	else if (avail > NSSM_TLS_RECORD_MAX)
		avail = fit(avail, NSSM_TLS_RECORD_MAX);
	else if (goes_on) {
		uint32_t k = spread(t->next) % (t->flight / 4u + 1), room = (NSSM_TLS_RECORD_MAX - avail) / len;
		avail += (k < room ? k : room) * len;
	}
	push(t, avail, TYPE_DATA, 3);
}

/* What stands in the stream where the next record begins. */
static void cut_known(struct nssm_tls_stream *t, const uint8_t *h, uint32_t n)
{
	if (n < HEAD || !nssm_tls_header(h)) {
		t->lost = true;
		return;
	}
	t->phase = DATA;
	push(t, HEAD + get16(h + 3), h[0], h[2]);
}

static void cut_hole(struct nssm_tls_stream *t, const struct nssm_tls_segment *s)
{
	/* What is known may not begin with a record, but a guess would be none the better. */
	if (s->n_known > 0 || s->seq - t->next > HOLE_MAX) {
		t->next = s->seq;
		t->phase = DATA;
	}
	while (s->seq - t->next >= LEAST)
		cut(t, s->seq - t->next, false, 0);
}

static void cut_segment(struct nssm_tls_stream *t, const uint8_t *payload, const struct nssm_tls_segment *s)
{
	uint32_t end = s->seq + s->len;
	if (after(s->seq, t->next))
		cut_hole(t, s);
	bool is_new = after(end, t->next), goes_on = s->longest && !s->push;
	while (!t->lost && after(end, t->next)) {
		uint32_t off = t->next - s->seq;
		if (!after(s->seq, t->next) && off < s->n_known)
			cut_known(t, payload + off, s->n_known - off);
		else
			cut(t, end - t->next, goes_on, s->len);
	}
	if (is_new)
		t->flight = !goes_on ? 0 : t->flight < UINT16_MAX ? t->flight + 1u : UINT16_MAX;
}

/* --- writing ------------------------------------------------------------------------------------------------------- */

/* Of a record, the bytes that are in the segment and not known. */
static void write_record(const struct nssm_tls_stream *t, const struct nssm_tls_record *r, uint8_t *payload, const struct nssm_tls_segment *s)
{
	struct text text;
	text.n = 0;
	uint32_t n = HEAD;
	if (r->type == TYPE_HELLO) {
		hello(&text, t, r);
		n = r->len;
	} else {
		say(&text, (const uint8_t[]){r->type, 3, r->minor}, 3);
		say16(&text, r->len - HEAD);
		if (r->type == TYPE_CCS && r->len == CCS_LEN) {
			say(&text, (const uint8_t[]){1}, 1);
			n = CCS_LEN;
		}
	}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = r->at + i - s->seq; /* beyond len: before the segment, too */
		int v = i < text.n ? text.b[i] : 0;
		if (at < s->len && at >= s->n_known && v != RANDOM)
			payload[at] = (uint8_t)v;
	}
}

void nssm_tls_segment(struct nssm_tls_stream *t, uint8_t *payload, const struct nssm_tls_segment *s)
{
	if (t->lost || s->len == 0)
		return;
	cut_segment(t, payload, s);
	uint32_t oldest = t->n > NSSM_TLS_RECORDS ? t->n - NSSM_TLS_RECORDS : 0;
	for (uint32_t i = t->n; i-- > oldest;) {
		const struct nssm_tls_record *r = &t->record[i % NSSM_TLS_RECORDS];
		if (!after(r->at + r->len, s->seq))
			break;
		if (after(s->seq + s->len, r->at))
			write_record(t, r, payload, s);
	}
}
