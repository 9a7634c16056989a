#include "model/secure_ports.h"

#include <stdlib.h>
#include <string.h>

#include "model/jsonfile.h"
#include "model/packet_impl.h"

#define VERSION 1
#define WAITING 4096u /* flows: a power of two */

static bool well_known(bool udp, uint16_t port)
{
	static const uint16_t tls[] = {443, 465, 636, 853, 993, 995, 5061, 8443};
	for (size_t i = 0; !udp && i < sizeof tls / sizeof *tls; i++)
		if (tls[i] == port)
			return true;
	return udp && port == 443;
}

static bool most(const struct nssm_secure_port *r)
{
	return r->n_secure > r->n_other;
}

bool nssm_secure_port(const struct nssm_secure_ports *p, bool udp, uint16_t port)
{
	for (uint32_t i = 0; i < p->n; i++)
		if (p->port[i].port == port && p->port[i].udp == udp)
			return most(&p->port[i]);
	return well_known(udp, port);
}

static bool stands_before(const struct nssm_secure_port *a, const struct nssm_secure_port *b)
{
	return a->udp != b->udp ? b->udp : a->port < b->port;
}

static uint64_t flows(const struct nssm_secure_port *r)
{
	return (uint64_t)r->n_secure + r->n_other;
}

/* In its place; where there is no room, the row with the fewest flows goes, of those the last. */
static void insert(struct nssm_secure_ports *p, const struct nssm_secure_port *row)
{
	if (p->n == NSSM_SECURE_PORTS_MAX) {
		uint32_t least = p->n - 1;
		for (uint32_t i = p->n - 1; i-- > 0;)
			if (flows(&p->port[i]) < flows(&p->port[least]))
				least = i;
		if (flows(row) <= flows(&p->port[least]))
			return;
		memmove(&p->port[least], &p->port[least + 1], (--p->n - least) * sizeof *row);
	}
	uint32_t at = p->n++;
	for (; at > 0 && stands_before(row, &p->port[at - 1]); at--)
		p->port[at] = p->port[at - 1];
	p->port[at] = *row;
}

static uint32_t sum(uint32_t a, uint32_t b)
{
	return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

void nssm_secure_merge(struct nssm_secure_ports *to, const struct nssm_secure_ports *from)
{
	to->learned |= from->learned;
	for (uint32_t k = 0; k < from->n; k++) {
		const struct nssm_secure_port *row = &from->port[k];
		uint32_t i = 0;
		while (i < to->n && (to->port[i].port != row->port || to->port[i].udp != row->udp))
			i++;
		if (i < to->n) {
			to->port[i].n_secure = sum(to->port[i].n_secure, row->n_secure);
			to->port[i].n_other = sum(to->port[i].n_other, row->n_other);
		} else {
			insert(to, row);
		}
	}
}

/* --- JSON --------------------------------------------------------------------------------------------------------- */

json_t *nssm_secure_to_json(const struct nssm_secure_ports *p)
{
	json_t *of[2] = {json_array(), json_array()};
	for (uint32_t i = 0; i < p->n; i++) {
		const struct nssm_secure_port *r = &p->port[i];
		json_array_append_new(of[r->udp], json_pack("[i,I,I]", r->port, (json_int_t)r->n_secure, (json_int_t)r->n_other));
	}
	return json_pack("{s:i,s:o,s:o}", "version", VERSION, "tcp", of[0], "udp", of[1]);
}

static int read_row(struct nssm_secure_port *r, const json_t *j)
{
	json_int_t v[3];
	for (size_t i = 0; i < 3; i++) {
		const json_t *x = json_array_get(j, i);
		v[i] = json_is_integer(x) ? json_integer_value(x) : -1;
		if (v[i] < 0 || v[i] > (i == 0 ? UINT16_MAX : UINT32_MAX))
			return -1;
	}
	r->port = (uint16_t)v[0];
	r->n_secure = (uint32_t)v[1];
	r->n_other = (uint32_t)v[2];
	return json_array_size(j) == 3 && v[1] + v[2] > 0 ? 0 : -1;
}

int nssm_secure_from_json(struct nssm_secure_ports *p, const json_t *j, const char *where, struct nssm_err *err)
{
	static const char *const name[] = {"tcp", "udp"};
	memset(p, 0, sizeof *p);
	if (j == NULL)
		return 0;
	const json_t *version = json_object_get(j, "version");
	if (!json_is_integer(version))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: encrypted.version: expected a whole number, found %s", where,
		        nssm_json_what(version));
	if (json_integer_value(version) != VERSION)
		return nssm_err_set(err, NSSM_EUNSUP, "%s: encrypted.version: expected %d, found %" JSON_INTEGER_FORMAT, where, VERSION,
		        json_integer_value(version));
	for (int udp = 0; udp < 2; udp++) {
		const json_t *rows = json_object_get(j, name[udp]);
		if (!json_is_array(rows) || json_array_size(rows) + p->n > NSSM_SECURE_PORTS_MAX)
			return nssm_err_set(err, NSSM_EFORMAT, "%s: encrypted.%s: expected an array, with the other at most %d rows, found %s of %zu",
			        where, name[udp], NSSM_SECURE_PORTS_MAX, nssm_json_what(rows), json_array_size(rows));
		for (size_t i = 0; i < json_array_size(rows); i++) {
			struct nssm_secure_port r = {.udp = udp};
			if (read_row(&r, json_array_get(rows, i)) != 0 || (p->n > 0 && !stands_before(&p->port[p->n - 1], &r)))
				return nssm_err_set(err, NSSM_EFORMAT, "%s: encrypted.%s[%zu]: expected [port, flows, flows], by port", where,
				        name[udp], i);
			p->port[p->n++] = r;
		}
	}
	p->learned = true;
	return 0;
}

/* --- what payload looks like ---------------------------------------------------------------------------------------- */

bool nssm_tls_header(const uint8_t *h)
{
	uint32_t len = get16(h + 3);
	return h[0] >= 20 && h[0] <= 23 && h[1] == 3 && h[2] <= 4 && len > 0 && len <= (1u << 14) + 2048; /* RFC 5246, 6.2.3 */
}

static bool quic_version(uint32_t v)
{
	return v == 1 || v == 0x6b3343cf /* 2 */ || v >> 8 == 0xff0000 /* drafts */ || v >> 4 == 0xfaceb00 /* mvfst */ ||
	       v >> 24 == 'T' /* Google's over TLS */ || (v & 0x0f0f0f0f) == 0x0a0a0a0a /* greased */;
}

int nssm_secure_look(bool udp, const uint8_t *payload, uint32_t n, uint32_t n_wire)
{
	if (n < (udp ? 6 : 5))
		return n < n_wire ? -1 : 0;
	if (!udp)
		return nssm_tls_header(payload);
	if ((payload[0] & 0xc0) == 0x40)
		return -1; /* a short header, if it is QUIC */
	if ((payload[0] & 0xc0) != 0xc0)
		return 0;
	/* Google's own had the lengths of both ids in one byte for a time. */
	return payload[1] == 'Q' || (quic_version(get32(payload + 1)) && payload[5] <= 20);
}

/* --- learning ------------------------------------------------------------------------------------------------------- */

struct waiting {
	uint64_t hash; /* 0: free */
	uint16_t port;
};

struct nssm_secure_learner {
	struct waiting waiting[WAITING];
	uint32_t n[2][2][65536]; /* UDP or TCP, secure or not, port */
};

int nssm_secure_learner_open(struct nssm_secure_learner **l, struct nssm_err *err)
{
	*l = calloc(1, sizeof **l);
	return *l != NULL ? 0 : nssm_err_set(err, NSSM_ENOMEM, "no memory for counts of ports");
}

void nssm_secure_learner_close(struct nssm_secure_learner **l)
{
	free(*l);
	*l = NULL;
}

void nssm_secure_learner_clear(struct nssm_secure_learner *l)
{
	memset(l->waiting, 0, sizeof l->waiting);
}

/* Not keyed: the same captures must give the same corpus. */
static uint64_t hash_of(uint32_t session, const struct nssm_flow_key *key)
{
	uint64_t w[5] = {0}, h = session;
	memcpy(w, key, sizeof *key);
	for (int i = 0; i < 5; i++) {
		h = (h ^ w[i]) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	return h | 1;
}

static uint16_t server_port(const struct nssm_hdrs *h, const struct nssm_pkt *pkt)
{
	const uint8_t *l4 = pkt->data + h->l4_off;
	uint16_t src = (uint16_t)get16(l4), dst = (uint16_t)get16(l4 + 2);
	if (h->proto == PROTO_UDP || (l4[13] & 0x12) == 0x02)
		return dst;
	if ((l4[13] & 0x12) == 0x12)
		return src;
	return src < dst ? src : dst;
}

void nssm_secure_learn(struct nssm_secure_learner *l, uint32_t session, const struct nssm_flow_key *key, bool fresh,
        const struct nssm_hdrs *h, const struct nssm_pkt *pkt)
{
	uint64_t hash = hash_of(session, key);
	struct waiting *w = &l->waiting[(hash >> 40) & (WAITING - 1)];
	if (fresh)
		*w = (struct waiting){.hash = hash, .port = server_port(h, pkt)};
	uint32_t ip_end = h->l3_off + h->ip_len;
	if (w->hash != hash || ip_end <= h->payload_off)
		return;
	bool udp = h->proto == PROTO_UDP;
	uint32_t end = ip_end < pkt->caplen ? ip_end : pkt->caplen;
	int is = nssm_secure_look(udp, pkt->data + h->payload_off, end > h->payload_off ? end - h->payload_off : 0, ip_end - h->payload_off);
	w->hash = 0;
	if (is >= 0)
		l->n[udp][is][w->port] = sum(l->n[udp][is][w->port], 1);
}

void nssm_secure_learned(struct nssm_secure_ports *p, const struct nssm_secure_learner *l)
{
	*p = (struct nssm_secure_ports){.learned = true};
	for (int udp = 0; udp < 2; udp++)
		for (uint32_t port = 0; port < 65536; port++) {
			struct nssm_secure_port r = {(uint16_t)port, udp, l->n[udp][1][port], l->n[udp][0][port]};
			if (most(&r) || (flows(&r) > 0 && well_known(udp, r.port)))
				insert(p, &r);
		}
}
