#include "replay/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NONE UINT32_MAX

/* Ports above 1023 that servers listen on, sorted: what client captures hold most (IANA, and common
 * practice). */
static const uint16_t SERVER_PORTS[] = {
        1194,  /* OpenVPN */
        1433,  /* SQL Server */
        1521,  /* Oracle */
        1883,  /* MQTT */
        1900,  /* SSDP */
        1935,  /* RTMP */
        2049,  /* NFS */
        3128,  /* proxy */
        3306,  /* MySQL */
        3389,  /* RDP */
        3478,  /* STUN */
        4500,  /* IPsec behind NAT */
        5060,  /* SIP */
        5061,  /* SIP over TLS */
        5222,  /* XMPP */
        5228,  /* Google push */
        5353,  /* mDNS */
        5355,  /* LLMNR */
        5432,  /* PostgreSQL */
        5671,  /* AMQP over TLS */
        5672,  /* AMQP */
        5900,  /* VNC */
        6379,  /* Redis */
        6443,  /* Kubernetes */
        8000,  /* HTTP */
        8008,  /* HTTP */
        8080,  /* HTTP */
        8081,  /* HTTP */
        8443,  /* HTTPS */
        8801,  /* Zoom */
        8883,  /* MQTT over TLS */
        8888,  /* HTTP */
        9200,  /* Elasticsearch */
        19302, /* Google STUN */
        27017, /* MongoDB */
        51820, /* WireGuard */
};

struct addr {
	uint8_t bytes[16]; /* IPv4: the first 4 */
	uint8_t ip_version;
};

/* A row of the flow table: in a hash chain, and in a list by when it was last seen. */
struct flow {
	struct nssm_flow_key key;
	uint8_t client_end;
	uint32_t chain;        /* next row of the same bucket */
	uint32_t older, newer; /* by last packet */
};

struct client {
	struct addr addr;
	uint32_t session, chain;
};

struct nssm_splitter {
	struct nssm_split_cfg cfg;
	struct nssm_split_counts counts;
	uint32_t n_sessions, n_done;
	uint64_t last_ns;
	uint64_t hash_key;

	struct flow *flows;
	uint32_t n_flows, flows_cap;
	uint32_t newest, oldest;
	uint32_t *flow_heads; /* one a power of two >= flows_cap buckets */

	struct client *clients;
	uint32_t n_clients, clients_cap;
	uint32_t *client_heads;
};

/* --- the option's text --- */

static const struct {
	const char *name;
	double ns;
} UNITS[] = {
        {"", 1e9},
        {"ns", 1},
        {"us", 1e3},
        {"ms", 1e6},
        {"s", 1e9},
        {"m", 60e9},
        {"min", 60e9},
        {"h", 3600e9},
        {"d", 86400e9},
};

static int parse_gap(uint64_t *ns, const char *text, const char *all, struct nssm_err *err)
{
	size_t n = strspn(text, "0123456789.");
	char *end = NULL;
	double v = n > 0 ? strtod(text, &end) : 0;
	/* "0x1" and "1e3" end elsewhere than the digits do. */
	if (n == 0 || end != text + n)
		return nssm_err_set(err, NSSM_EARG,
		        "session split \"%.100s\": \"%.50s\" is no time such as 60s or 500ms", all, text);
	for (size_t i = 0; i < sizeof UNITS / sizeof UNITS[0]; i++) {
		if (strcmp(end, UNITS[i].name) != 0)
			continue;
		v *= UNITS[i].ns;
		if (!(v >= 1 && v <= 3650 * 86400e9))
			return nssm_err_set(err, NSSM_ERANGE,
			        "session split \"%.100s\": a gap is from 1 ns to 3650 days", all);
		*ns = (uint64_t)(v + 0.5);
		return 0;
	}
	return nssm_err_set(err, NSSM_EARG,
	        "session split \"%.100s\": unit \"%.50s\" is none of ns us ms s m min h d", all, end);
}

int nssm_split_parse(struct nssm_split_cfg *cfg, const char *text, struct nssm_err *err)
{
	struct nssm_split_cfg c = {.flows_max = NSSM_SPLIT_FLOWS_MAX, .clients_max = NSSM_SPLIT_CLIENTS_MAX};
	int rc = 0;
	if (strcmp(text, "file") == 0)
		c.kind = NSSM_SPLIT_FILE;
	else if (strcmp(text, "client") == 0)
		c.kind = NSSM_SPLIT_CLIENT;
	else if (strncmp(text, "gap=", 4) == 0) {
		c.kind = NSSM_SPLIT_GAP;
		rc = parse_gap(&c.gap_ns, text + 4, text, err);
	} else
		rc = nssm_err_set(
		        err, NSSM_EARG, "session split \"%.100s\" is none of file, client, gap=TIME", text);
	if (rc == 0)
		*cfg = c;
	return rc;
}

/* --- tables --- */

/* Keyed, so that no capture can be made whose keys all fall into one bucket. What it gives orders nothing. */
static uint32_t hash(const struct nssm_splitter *s, const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t h = s->hash_key;
	for (; n > 0; n -= n < 8 ? n : 8) {
		uint64_t w = 0;
		memcpy(&w, b, n < 8 ? n : 8);
		b += 8;
		/* The mixing step of MurmurHash3's finaliser. */
		h = (h ^ w) * 0xff51afd7ed558ccdull;
		h ^= h >> 33;
		h = (h + s->hash_key) * 0xc4ceb9fe1a85ec53ull;
		h ^= h >> 29;
	}
	return (uint32_t)(h >> 32);
}

static uint32_t flow_hash(const struct nssm_splitter *s, const struct nssm_flow_key *k)
{
	return hash(s, k, sizeof *k);
}

static uint32_t client_hash(const struct nssm_splitter *s, const struct addr *a)
{
	return hash(s, a, sizeof *a);
}

/* nssm_flow_key clears its key first, and both structs are bytes and 16-bit fields without holes: they hash
 * and compare as memory. */
_Static_assert(sizeof(struct nssm_flow_key) == 38, "a hole in the flow key");
_Static_assert(sizeof(struct addr) == 17, "a hole in the address");

static int no_memory(struct nssm_err *err, const char *what, uint32_t n)
{
	return nssm_err_set(err, NSSM_ENOMEM, "session split: no memory for %u %s", n, what);
}

static uint32_t next_cap(uint32_t cap, uint32_t max)
{
	uint32_t want = cap == 0 ? 256 : cap > UINT32_MAX / 2 ? UINT32_MAX : 2 * cap;
	return want < max ? want : max;
}

/* Buckets for cap rows: a power of two. */
static uint32_t n_buckets(uint32_t cap)
{
	uint32_t n = 256;
	while (n < cap && n < 1u << 31)
		n *= 2;
	return n;
}

static uint32_t *new_heads(uint32_t cap)
{
	uint32_t *heads = malloc((size_t)n_buckets(cap) * sizeof *heads);
	if (heads != NULL)
		memset(heads, 0xff, (size_t)n_buckets(cap) * sizeof *heads);
	return heads;
}

static uint32_t *flow_bucket(struct nssm_splitter *s, const struct nssm_flow_key *k)
{
	return &s->flow_heads[flow_hash(s, k) & (n_buckets(s->flows_cap) - 1)];
}

static uint32_t *client_bucket(struct nssm_splitter *s, const struct addr *a)
{
	return &s->client_heads[client_hash(s, a) & (n_buckets(s->clients_cap) - 1)];
}

static int grow_flows(struct nssm_splitter *s, struct nssm_err *err)
{
	uint32_t cap = next_cap(s->flows_cap, s->cfg.flows_max);
	struct flow *rows = realloc(s->flows, (size_t)cap * sizeof *rows);
	if (rows != NULL)
		s->flows = rows;
	uint32_t *heads = rows != NULL ? new_heads(cap) : NULL;
	if (heads == NULL)
		return no_memory(err, "flows", cap);
	free(s->flow_heads);
	s->flow_heads = heads;
	s->flows_cap = cap;
	for (uint32_t i = 0; i < s->n_flows; i++) {
		uint32_t *head = flow_bucket(s, &s->flows[i].key);
		s->flows[i].chain = *head;
		*head = i;
	}
	return 0;
}

static int grow_clients(struct nssm_splitter *s, struct nssm_err *err)
{
	uint32_t cap = next_cap(s->clients_cap, s->cfg.clients_max);
	struct client *rows = realloc(s->clients, (size_t)cap * sizeof *rows);
	if (rows != NULL)
		s->clients = rows;
	uint32_t *heads = rows != NULL ? new_heads(cap) : NULL;
	if (heads == NULL)
		return no_memory(err, "clients", cap);
	free(s->client_heads);
	s->client_heads = heads;
	s->clients_cap = cap;
	for (uint32_t i = 0; i < s->n_clients; i++) {
		uint32_t *head = client_bucket(s, &s->clients[i].addr);
		s->clients[i].chain = *head;
		*head = i;
	}
	return 0;
}

static void age_unlink(struct nssm_splitter *s, uint32_t i)
{
	struct flow *f = &s->flows[i];
	*(f->older != NONE ? &s->flows[f->older].newer : &s->oldest) = f->newer;
	*(f->newer != NONE ? &s->flows[f->newer].older : &s->newest) = f->older;
}

static void age_newest(struct nssm_splitter *s, uint32_t i)
{
	s->flows[i].newer = NONE;
	s->flows[i].older = s->newest;
	*(s->newest != NONE ? &s->flows[s->newest].newer : &s->oldest) = i;
	s->newest = i;
}

static uint32_t flow_find(struct nssm_splitter *s, const struct nssm_flow_key *k)
{
	if (s->flows_cap == 0)
		return NONE;
	uint32_t i = *flow_bucket(s, k);
	while (i != NONE && memcmp(&s->flows[i].key, k, sizeof *k) != 0)
		i = s->flows[i].chain;
	return i;
}

/* Takes the row of the flow that was seen longest ago out of its chain and the list. */
static uint32_t evict(struct nssm_splitter *s)
{
	uint32_t i = s->oldest, *link = flow_bucket(s, &s->flows[i].key);
	age_unlink(s, i);
	while (*link != i)
		link = &s->flows[*link].chain;
	*link = s->flows[i].chain;
	s->counts.n_evicted++;
	return i;
}

static int flow_add(
        struct nssm_splitter *s, uint32_t *row, const struct nssm_flow_key *k, struct nssm_err *err)
{
	uint32_t i;
	if (s->n_flows == s->cfg.flows_max) {
		i = evict(s);
	} else {
		int rc = s->n_flows == s->flows_cap ? grow_flows(s, err) : 0;
		if (rc != 0)
			return rc;
		i = s->n_flows++;
	}
	uint32_t *head = flow_bucket(s, k);
	s->flows[i] = (struct flow){.key = *k, .chain = *head};
	*head = i;
	age_newest(s, i);
	s->counts.n_flows++;
	*row = i;
	return 0;
}

static uint32_t client_find(struct nssm_splitter *s, const struct addr *a)
{
	if (s->clients_cap == 0)
		return NONE;
	uint32_t i = *client_bucket(s, a);
	while (i != NONE && memcmp(&s->clients[i].addr, a, sizeof *a) != 0)
		i = s->clients[i].chain;
	return i;
}

/* The session of an address, begun if need be. 1: *session; 0: there are too many clients. */
static int client_session(
        struct nssm_splitter *s, uint32_t *session, const struct addr *a, struct nssm_err *err)
{
	uint32_t i = client_find(s, a);
	if (i == NONE) {
		if (s->n_clients == s->cfg.clients_max) {
			s->counts.n_over++;
			return 0;
		}
		int rc = s->n_clients == s->clients_cap ? grow_clients(s, err) : 0;
		if (rc != 0)
			return rc;
		i = s->n_clients++;
		uint32_t *head = client_bucket(s, a);
		s->clients[i] = (struct client){.addr = *a, .session = s->n_sessions++, .chain = *head};
		*head = i;
	}
	*session = s->clients[i].session;
	return 1;
}

/* --- who is the client --- */

bool nssm_split_server_port(uint16_t port)
{
	/* DHCP's clients have a port below 1024, too (RFC 2131, section 4.1; RFC 8415, section 7.2). */
	if (port < 1024)
		return port != 68 && port != 546;
	for (size_t i = 0; i < sizeof SERVER_PORTS / sizeof SERVER_PORTS[0]; i++)
		if (SERVER_PORTS[i] == port)
			return true;
	return false;
}

/* Which end of the key a packet's TCP flags make the client; -1: they say nothing. */
static int client_by_syn(const struct nssm_hdrs *h, const uint8_t *data, int from)
{
	enum { TCP = 6, FLAGS = 13, SYN = 0x02, ACK = 0x10 };
	if (h->proto != TCP)
		return -1;
	uint8_t flags = data[h->l4_off + FLAGS];
	if ((flags & SYN) == 0)
		return -1;
	return (flags & ACK) != 0 ? !from : from;
}

static int client_by_port(const struct nssm_flow_key *k, int from)
{
	bool server[2] = {nssm_split_server_port(k->port[0]), nssm_split_server_port(k->port[1])};
	return server[0] == server[1] ? from : server[0] ? 1 : 0;
}

static int flow_packet(struct nssm_splitter *s, uint32_t *session, const struct nssm_hdrs *h,
        const uint8_t *data, struct nssm_err *err)
{
	struct nssm_flow_key key;
	int from = nssm_flow_key(&key, h, data), by_syn = client_by_syn(h, data, from);
	uint32_t i = flow_find(s, &key);
	if (i == NONE) {
		int rc = flow_add(s, &i, &key, err);
		if (rc != 0)
			return rc;
		s->flows[i].client_end = (uint8_t)client_by_port(&key, from);
	} else if (i != s->newest) {
		age_unlink(s, i);
		age_newest(s, i);
	}
	if (by_syn >= 0)
		s->flows[i].client_end = (uint8_t)by_syn;
	struct addr a = {.ip_version = key.ip_version};
	memcpy(a.bytes, key.addr[s->flows[i].client_end], sizeof a.bytes);
	return client_session(s, session, &a, err);
}

/* IP without a readable TCP or UDP header: to whom it belongs by its addresses. */
static int other_ip(
        struct nssm_splitter *s, uint32_t *session, const struct nssm_hdrs *h, const struct nssm_pkt *pkt)
{
	uint32_t len = h->ip_version == 4 ? 4 : 16, src = h->l3_off + (h->ip_version == 4 ? 12u : 8u);
	if (src + 2 * len <= pkt->caplen) {
		for (uint32_t end = 0; end < 2; end++) {
			struct addr a = {.ip_version = h->ip_version};
			memcpy(a.bytes, pkt->data + src + end * len, len);
			uint32_t i = client_find(s, &a);
			if (i != NONE) {
				*session = s->clients[i].session;
				return 1;
			}
		}
	}
	s->counts.n_unassigned++;
	return 0;
}

static int by_client(
        struct nssm_splitter *s, uint32_t *session, const struct nssm_pkt *pkt, struct nssm_err *err)
{
	struct nssm_hdrs h;
	int reason = nssm_pkt_parse(&h, pkt->data, pkt->caplen);
	if (reason == NSSM_PKT_OK)
		return flow_packet(s, session, &h, pkt->data, err);
	if (h.ip_version != 0)
		return other_ip(s, session, &h, pkt);
	s->counts.n_not_ip++;
	return 0;
}

static void by_gap(struct nssm_splitter *s, uint32_t *session, const struct nssm_pkt *pkt)
{
	bool first = s->n_sessions == 0, back = !first && pkt->ts_ns < s->last_ns;
	s->counts.n_time_back += back;
	if (first || (!back && pkt->ts_ns - s->last_ns > s->cfg.gap_ns))
		s->n_done = s->n_sessions++;
	s->last_ns = pkt->ts_ns;
	*session = s->n_sessions - 1;
}

/* --- the splitter --- */

int nssm_splitter_open(struct nssm_splitter **sp, const struct nssm_split_cfg *cfg, struct nssm_err *err)
{
	assert(cfg->kind != NSSM_SPLIT_GAP || cfg->gap_ns > 0);
	assert(cfg->kind != NSSM_SPLIT_CLIENT || (cfg->flows_max >= 1 && cfg->clients_max >= 1));
	struct nssm_splitter *s = calloc(1, sizeof *s);
	*sp = s;
	if (s == NULL)
		return no_memory(err, "splitter", 1);
	s->cfg = *cfg;
	s->newest = s->oldest = NONE;
	/* Without entropy the key is a constant: slower against a capture made to be slow, and nothing else.
	 */
	if (getrandom(&s->hash_key, sizeof s->hash_key, GRND_NONBLOCK) != (ssize_t)sizeof s->hash_key)
		s->hash_key = 0x9e3779b97f4a7c15ull;
	return 0;
}

void nssm_splitter_close(struct nssm_splitter **sp)
{
	if (*sp == NULL)
		return;
	free((*sp)->flows);
	free((*sp)->flow_heads);
	free((*sp)->clients);
	free((*sp)->client_heads);
	free(*sp);
	*sp = NULL;
}

int nssm_splitter_packet(
        struct nssm_splitter *s, const struct nssm_pkt *pkt, uint32_t *session, struct nssm_err *err)
{
	s->counts.n_packets++;
	switch (s->cfg.kind) {
	case NSSM_SPLIT_FILE:
		s->n_sessions = 1;
		*session = 0;
		return 1;
	case NSSM_SPLIT_GAP:
		by_gap(s, session, pkt);
		return 1;
	case NSSM_SPLIT_CLIENT:
		return by_client(s, session, pkt, err);
	}
	assert(!"split kind");
	return 0;
}

void nssm_splitter_end(struct nssm_splitter *s)
{
	s->n_done = s->n_sessions;
}

uint32_t nssm_splitter_n_sessions(const struct nssm_splitter *s)
{
	return s->n_sessions;
}

uint32_t nssm_splitter_n_done(const struct nssm_splitter *s)
{
	return s->n_done;
}

const struct nssm_split_counts *nssm_splitter_counts(const struct nssm_splitter *s)
{
	return &s->counts;
}
