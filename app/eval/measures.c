#include "app/eval/measures.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const struct nssm_measure_info nssm_measure_info[NSSM_N_MEASURES] = {
        [NSSM_M_ETHERTYPE] = {"ethertype", NSSM_BINS_CATEGORY, false},
        [NSSM_M_IP_LENGTH] = {"ip_length", NSSM_BINS_EXACT, false},
        [NSSM_M_IP_TTL] = {"ip_ttl", NSSM_BINS_EXACT, false},
        [NSSM_M_IP_TOS] = {"ip_tos", NSSM_BINS_CATEGORY, false},
        [NSSM_M_IP_PROTO] = {"ip_proto", NSSM_BINS_CATEGORY, false},
        [NSSM_M_IP_FLAGS] = {"ip_flags", NSSM_BINS_CATEGORY, false},
        [NSSM_M_TCP_SRC_PORT] = {"tcp_src_port", NSSM_BINS_CATEGORY, true},
        [NSSM_M_TCP_DST_PORT] = {"tcp_dst_port", NSSM_BINS_CATEGORY, true},
        [NSSM_M_TCP_FLAGS] = {"tcp_flags", NSSM_BINS_CATEGORY, false},
        [NSSM_M_TCP_WINDOW] = {"tcp_window", NSSM_BINS_EXACT, false},
        [NSSM_M_TCP_HEADER_LENGTH] = {"tcp_header_length", NSSM_BINS_EXACT, false},
        [NSSM_M_TCP_OPTIONS] = {"tcp_options", NSSM_BINS_CATEGORY, false},
        [NSSM_M_UDP_SRC_PORT] = {"udp_src_port", NSSM_BINS_CATEGORY, true},
        [NSSM_M_UDP_DST_PORT] = {"udp_dst_port", NSSM_BINS_CATEGORY, true},
        [NSSM_M_UDP_LENGTH] = {"udp_length", NSSM_BINS_EXACT, false},
        [NSSM_M_SIZE] = {"size", NSSM_BINS_EXACT, false},
        [NSSM_M_IAT] = {"iat", NSSM_BINS_LOG, false},
        [NSSM_M_FLOW_IAT] = {"flow_iat", NSSM_BINS_LOG, false},
        [NSSM_M_DIRECTION] = {"direction", NSSM_BINS_CATEGORY, false},
        [NSSM_M_FLOW_PACKETS] = {"flow_packets", NSSM_BINS_LOG, false},
        [NSSM_M_FLOW_DURATION] = {"flow_duration", NSSM_BINS_LOG, false},
        [NSSM_M_FLOW_BYTES] = {"flow_bytes", NSSM_BINS_LOG, false},
        [NSSM_M_FLOWS_PER_SESSION] = {"flows_per_session", NSSM_BINS_LOG, false},
        [NSSM_M_CONCURRENCY] = {"concurrency", NSSM_BINS_LOG, false},
        [NSSM_M_SESSION_PACKETS] = {"session_packets", NSSM_BINS_LOG, false},
        [NSSM_M_SESSION_DURATION] = {"session_duration", NSSM_BINS_LOG, false},
};

uint64_t nssm_log_bin(uint64_t v)
{
	if (v < 4)
		return v;
	unsigned e = 63 - (unsigned)__builtin_clzll(v);
	return 4 * (e - 1) + (v >> (e - 2) & 3);
}

static int no_memory(struct nssm_err *err)
{
	return nssm_err_set(err, NSSM_ENOMEM, "eval: no memory for counts");
}

/* Adds to *failed, so that a row of additions is looked at once. */
static void count(struct nssm_counts *c, enum nssm_measure m, uint64_t v, int *failed)
{
	if (nssm_measure_info[m].bins == NSSM_BINS_LOG)
		v = nssm_log_bin(v);
	*failed |= nssm_tally_add(&c->tally[m], v, 1);
}

/* --- packets -------------------------------------------------------------------------------------------------- */

/* FNV-1a. */
static uint64_t hash(uint64_t h, const void *data, size_t n)
{
	const uint8_t *p = data;
	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h;
}
#define HASH_START 0xcbf29ce484222325u

static uint32_t get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

/* The kinds of a TCP header's options in their order, as one number. */
static uint64_t option_kinds(const uint8_t *opt, uint32_t n)
{
	uint64_t h = HASH_START;
	for (uint32_t i = 0; i < n;) {
		h = hash(h, &opt[i], 1);
		if (opt[i] == 0)
			break; /* the end of the list; padding behind it */
		uint32_t len = opt[i] == 1 ? 1 : i + 1 < n ? opt[i + 1] : 0;
		if (len == 0 || (opt[i] != 1 && len < 2))
			break;
		i += len;
	}
	return h;
}

static void count_ip(struct nssm_counts *c, const struct nssm_hdrs *h, const uint8_t *ip, int *failed)
{
	bool v4 = h->ip_version == 4;
	count(c, NSSM_M_IP_LENGTH, h->ip_len, failed);
	count(c, NSSM_M_IP_TTL, v4 ? ip[8] : ip[7], failed);
	count(c, NSSM_M_IP_TOS, v4 ? ip[1] : (get16(ip) >> 4 & 255), failed);
	count(c, NSSM_M_IP_PROTO, h->proto, failed);
	if (v4)
		count(c, NSSM_M_IP_FLAGS, ip[6] >> 5, failed);
}

static void count_transport(struct nssm_counts *c, const struct nssm_hdrs *h, const uint8_t *l4, int *failed)
{
	bool tcp = h->proto == 6;
	count(c, tcp ? NSSM_M_TCP_SRC_PORT : NSSM_M_UDP_SRC_PORT, get16(l4), failed);
	count(c, tcp ? NSSM_M_TCP_DST_PORT : NSSM_M_UDP_DST_PORT, get16(l4 + 2), failed);
	if (!tcp) {
		count(c, NSSM_M_UDP_LENGTH, get16(l4 + 4), failed);
		return;
	}
	uint32_t len = (uint32_t)(l4[12] >> 4) * 4;
	count(c, NSSM_M_TCP_FLAGS, get16(l4 + 12) & 0x1ff, failed);
	count(c, NSSM_M_TCP_WINDOW, get16(l4 + 14), failed);
	count(c, NSSM_M_TCP_HEADER_LENGTH, len, failed);
	count(c, NSSM_M_TCP_OPTIONS, option_kinds(l4 + 20, len - 20), failed);
}

static void count_bytes(struct nssm_counts *c, const struct nssm_nprint *np)
{
	for (int h = 0; h < NSSM_NPRINT_N_HEADERS; h++)
		for (int i = nssm_nprint_at[h]; i < nssm_nprint_at[h] + np->n[h]; i++)
			c->byte[i][np->byte[i]]++;
}

int nssm_counts_packet(struct nssm_counts *c, struct nssm_record *r, const struct nssm_pkt *pkt, struct nssm_err *err)
{
	struct nssm_hdrs h;
	struct nssm_nprint np;
	int failed = 0;
	if (c->byte == NULL && (c->byte = calloc(NSSM_NPRINT_BYTES, sizeof *c->byte)) == NULL)
		return no_memory(err);
	int parsed = nssm_pkt_parse(&h, pkt->data, pkt->caplen);
	r->size = pkt->wirelen;
	r->flow = 0;
	r->end = 0;
	c->n_packets++;
	count(c, NSSM_M_ETHERTYPE, h.ethertype < 0x600 ? 0 : h.ethertype, &failed); /* below it is a length (IEEE 802.3) */
	if (nssm_nprint(&np, &h, parsed, pkt->data, pkt->caplen) != NSSM_NPRINT_N_HEADERS) {
		c->n_ip++;
		count_bytes(c, &np);
		count_ip(c, &h, pkt->data + h.l3_off, &failed);
	}
	if (parsed == NSSM_PKT_OK) {
		struct nssm_flow_key key;
		r->end = (uint8_t)nssm_flow_key(&key, &h, pkt->data);
		uint64_t flow = hash(HASH_START, &key, sizeof key);
		r->flow = flow != 0 ? flow : 1;
		count_transport(c, &h, pkt->data + h.l4_off, &failed);
	}
	return failed ? no_memory(err) : 0;
}

/* --- sessions ------------------------------------------------------------------------------------------------- */

struct flow {
	uint64_t id; /* 0: free */
	uint64_t packets, bytes, first_ns, last_ns;
	size_t last; /* record */
	uint8_t forward;
};

static struct flow *find(struct flow *table, size_t cap, uint64_t id)
{
	size_t i = (id ^ id >> 32) & (cap - 1);
	while (table[i].id != 0 && table[i].id != id)
		i = (i + 1) & (cap - 1);
	return &table[i];
}

/* Every flow whole, so that the second pass knows where it ends. */
static size_t find_flows(struct flow *table, size_t cap, const struct nssm_record *r, size_t n)
{
	size_t n_flows = 0;
	for (size_t i = 0; i < n; i++) {
		if (r[i].flow == 0)
			continue;
		struct flow *f = find(table, cap, r[i].flow);
		if (f->id == 0) {
			*f = (struct flow){.id = r[i].flow, .first_ns = r[i].t_ns, .forward = r[i].end};
			n_flows++;
		}
		f->packets++;
		f->bytes += r[i].size;
		f->last_ns = r[i].t_ns;
		f->last = i;
	}
	return n_flows;
}

static void count_flow(struct nssm_counts *c, const struct flow *f, int *failed)
{
	count(c, NSSM_M_FLOW_PACKETS, f->packets, failed);
	count(c, NSSM_M_FLOW_BYTES, f->bytes, failed);
	count(c, NSSM_M_FLOW_DURATION, (f->last_ns - f->first_ns) / 1000, failed);
}

/* packets of a flow count up again: what was seen of it so far, and last_ns is its packet before. */
static void count_in_order(struct nssm_counts *c, struct flow *table, size_t cap, const struct nssm_record *r, size_t n, int *failed)
{
	uint64_t alive = 0;
	for (size_t i = 0; i < n; i++) {
		count(c, NSSM_M_SIZE, r[i].size, failed);
		if (i > 0)
			count(c, NSSM_M_IAT, (r[i].t_ns - r[i - 1].t_ns) / 1000, failed);
		struct flow *f = r[i].flow != 0 ? find(table, cap, r[i].flow) : NULL;
		if (f != NULL) {
			count(c, NSSM_M_DIRECTION, r[i].end != f->forward, failed);
			if (f->packets > 0)
				count(c, NSSM_M_FLOW_IAT, (r[i].t_ns - f->last_ns) / 1000, failed);
			alive += f->packets++ == 0;
			f->last_ns = r[i].t_ns;
		}
		count(c, NSSM_M_CONCURRENCY, alive, failed);
		alive -= f != NULL && f->last == i;
	}
}

int nssm_counts_session(struct nssm_counts *c, const struct nssm_record *r, size_t n, struct nssm_err *err)
{
	size_t cap = 16;
	int failed = 0;
	while (cap < 2 * n)
		cap *= 2;
	struct flow *table = calloc(cap, sizeof *table);
	if (table == NULL)
		return no_memory(err);
	size_t n_flows = find_flows(table, cap, r, n);
	for (size_t i = 0; i < cap; i++) {
		if (table[i].id == 0)
			continue;
		count_flow(c, &table[i], &failed);
		table[i].packets = 0;
	}
	count_in_order(c, table, cap, r, n, &failed);
	count(c, NSSM_M_FLOWS_PER_SESSION, n_flows, &failed);
	count(c, NSSM_M_SESSION_PACKETS, n, &failed);
	count(c, NSSM_M_SESSION_DURATION, n > 0 ? (r[n - 1].t_ns - r[0].t_ns) / 1000 : 0, &failed);
	c->n_sessions++;
	free(table);
	return failed ? no_memory(err) : 0;
}

/* --- sums ----------------------------------------------------------------------------------------------------- */

int nssm_counts_merge(struct nssm_counts *c, const struct nssm_counts *from, bool packets_only, struct nssm_err *err)
{
	if (from->byte != NULL) {
		if (c->byte == NULL && (c->byte = calloc(NSSM_NPRINT_BYTES, sizeof *c->byte)) == NULL)
			return no_memory(err);
		for (int i = 0; i < NSSM_NPRINT_BYTES; i++)
			for (int v = 0; v < 256; v++)
				c->byte[i][v] += from->byte[i][v];
	}
	c->n_packets += from->n_packets;
	c->n_ip += from->n_ip;
	c->n_sessions += packets_only ? 0 : from->n_sessions;
	int end = packets_only ? NSSM_M_FIRST_OF_SESSIONS : NSSM_N_MEASURES;
	for (int m = 0; m < end; m++)
		if (nssm_tally_merge(&c->tally[m], &from->tally[m]) != 0)
			return no_memory(err);
	return 0;
}

void nssm_counts_bit(uint64_t n[3], const struct nssm_counts *c, int bit)
{
	n[0] = c->n_ip;
	n[1] = n[2] = 0;
	if (c->byte == NULL)
		return;
	for (int v = 0; v < 256; v++)
		n[1 + (v >> (7 - bit % 8) & 1)] += c->byte[bit / 8][v];
	n[0] -= n[1] + n[2];
}

void nssm_counts_free(struct nssm_counts *c)
{
	free(c->byte);
	for (int m = 0; m < NSSM_N_MEASURES; m++)
		nssm_tally_free(&c->tally[m]);
	*c = (struct nssm_counts){0};
}
