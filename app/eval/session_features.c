#include "app/eval/session_features.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "model/packet.h"

#define DISTRIBUTIONS(X)                                                                                                  \
	X(SIZE, "size") X(SIZE_FWD, "size_fwd") X(SIZE_REV, "size_rev") X(IAT, "iat") X(IAT_FWD, "iat_fwd") X(IAT_REV, "iat_rev") \
	X(IAT_FLOW, "iat_flow") X(FLOW_PACKETS, "flow_packets") X(FLOW_BYTES, "flow_bytes") X(FLOW_DURATION, "flow_duration")  \
	X(FLOW_START_GAP, "flow_start_gap") X(BURST_PACKETS, "burst_packets") X(BURST_BYTES, "burst_bytes")                   \
	X(BURST_DURATION, "burst_duration") X(BURST_GAP, "burst_gap") X(RUN_PACKETS, "run_packets")
#define SCALARS(X)                                                                                                        \
	X(PACKETS, "packets") X(BYTES, "bytes") X(DURATION, "duration") X(PACKET_RATE, "packets_per_s") X(BYTE_RATE, "bytes_per_s") \
	X(SHARE_FWD, "share_fwd") X(SHARE_FWD_BYTES, "share_fwd_bytes") X(SHARE_TCP, "share_tcp") X(SHARE_UDP, "share_udp")   \
	X(SHARE_ICMP, "share_icmp") X(SHARE_ICMP6, "share_icmp6") X(SHARE_IGMP, "share_igmp")                                 \
	X(SHARE_OTHER_IP, "share_other_ip") X(SHARE_UNREADABLE, "share_unreadable") X(SHARE_ARP, "share_arp")                 \
	X(SHARE_NOT_IP, "share_not_ip") X(SHARE_IP6, "share_ip6") X(TCP_SYN, "tcp_syn") X(TCP_SYNACK, "tcp_synack")           \
	X(TCP_FIN, "tcp_fin") X(TCP_RST, "tcp_rst") X(TCP_PSH, "tcp_psh") X(TCP_ACK, "tcp_ack") X(TCP_URG, "tcp_urg")         \
	X(TCP_ECE, "tcp_ece") X(TCP_CWR, "tcp_cwr") X(TCP_EMPTY, "tcp_empty") X(FLOWS, "flows") X(FLOWS_TCP, "flows_tcp")     \
	X(FLOWS_UDP, "flows_udp") X(FLOWS_ONE_WAY, "flows_one_way") X(FLOWS_ONE_PACKET, "flows_one_packet")                   \
	X(FLOWS_ALIVE_MAX, "flows_alive_max") X(FLOW_RATE, "flows_per_s") X(BURSTS, "bursts")

#define AS_DIST(id, name)    D_##id,
#define AS_SCALAR(id, name)  S_##id,
#define DIST_NAMES(id, name) name "_mean", name "_sd", name "_min", name "_q10", name "_q25", name "_q50", name "_q75", name "_q90", name "_max",
#define SCALAR_NAME(id, name) name,

enum { DISTRIBUTIONS(AS_DIST) N_DISTS };
enum { SCALARS(AS_SCALAR) N_SCALARS };
enum { STATS = 9 };
static const char *const names[] = {SCALARS(SCALAR_NAME) DISTRIBUTIONS(DIST_NAMES)};
#define N_FEATURES (N_SCALARS + N_DISTS * STATS)
_Static_assert(sizeof names / sizeof *names == N_FEATURES, "a name for each feature");

struct values {
	float *v;
	size_t n, cap;
};

struct flow {
	struct nssm_flow_key key;
	uint8_t client; /* which end of the key */
	uint64_t first_ns, last_ns, bytes;
	uint32_t packets[2]; /* fwd, rev */
};

struct nssm_features {
	struct values dist[N_DISTS];
	double count[N_SCALARS]; /* packets so far that a scalar is made of */
	struct flow *flow;
	uint32_t *slot; /* flow + 1; 0: free; twice cap_flows of them */
	uint32_t n_flows, cap_flows;
	uint64_t hash_key[2];
	uint64_t first_ns, last_ns, burst_ns, last_dir_ns[2], last_start_ns;
	uint64_t burst_packets, burst_bytes, run_packets;
	int run_dir; /* -1: none yet */
};

uint32_t nssm_feature_count(void)
{
	return N_FEATURES;
}

const char *nssm_feature_name(uint32_t idx)
{
	return names[idx];
}

int32_t nssm_feature_find(const char *name)
{
	for (int32_t i = 0; i < N_FEATURES; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

static void start_over(struct nssm_features *f)
{
	for (int i = 0; i < N_DISTS; i++)
		f->dist[i].n = 0;
	memset(f->count, 0, sizeof f->count);
	if (f->slot)
		memset(f->slot, 0, 2 * (size_t)f->cap_flows * sizeof *f->slot);
	f->n_flows = 0;
	f->burst_packets = f->burst_bytes = f->run_packets = 0;
	f->run_dir = -1;
}

int nssm_features_open(struct nssm_features **out, struct nssm_err *err)
{
	struct nssm_features *f = calloc(1, sizeof *f);
	if (!f)
		return nssm_err_set(err, NSSM_ENOMEM, "features: no memory");
	/* Against captures made to be slow; no result depends on it. */
	if (getrandom(f->hash_key, sizeof f->hash_key, GRND_NONBLOCK) != (ssize_t)sizeof f->hash_key)
		f->hash_key[0] = 0x9e3779b97f4a7c15;
	start_over(f);
	*out = f;
	return 0;
}

void nssm_features_close(struct nssm_features **features)
{
	struct nssm_features *f = *features;
	if (!f)
		return;
	for (int i = 0; i < N_DISTS; i++)
		free(f->dist[i].v);
	free(f->flow);
	free(f->slot);
	free(f);
	*features = NULL;
}

static bool push(struct nssm_features *f, int dist, double v)
{
	struct values *d = &f->dist[dist];
	if (d->n == d->cap) {
		size_t cap = d->cap ? d->cap * 2 : 256;
		float *grown = realloc(d->v, cap * sizeof *grown);
		if (!grown)
			return false;
		d->v = grown;
		d->cap = cap;
	}
	d->v[d->n++] = (float)v;
	return true;
}

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

static uint32_t *find_slot(const struct nssm_features *f, const struct nssm_flow_key *key)
{
	uint8_t bytes[40] = {0};
	uint64_t h = f->hash_key[0];
	memcpy(bytes, key, sizeof *key);
	for (size_t i = 0; i < sizeof bytes; i += 8) {
		uint64_t w;
		memcpy(&w, bytes + i, 8);
		h = (h ^ w) * 0xff51afd7ed558ccd + f->hash_key[i / 8 & 1];
		h ^= h >> 32;
	}
	size_t mask = 2 * (size_t)f->cap_flows - 1, at = h & mask;
	while (f->slot[at] && memcmp(&f->flow[f->slot[at] - 1].key, key, sizeof *key) != 0)
		at = (at + 1) & mask;
	return &f->slot[at];
}

static bool room_for_flow(struct nssm_features *f)
{
	if (f->n_flows < f->cap_flows)
		return true;
	uint32_t cap = f->cap_flows ? f->cap_flows * 2 : 64;
	struct flow *flow = realloc(f->flow, cap * sizeof *flow);
	if (flow)
		f->flow = flow;
	uint32_t *slot = calloc(2 * (size_t)cap, sizeof *slot);
	if (!flow || !slot) {
		free(slot);
		return false;
	}
	free(f->slot);
	f->slot = slot;
	f->cap_flows = cap;
	for (uint32_t i = 0; i < f->n_flows; i++)
		*find_slot(f, &f->flow[i].key) = i + 1;
	return true;
}

static uint8_t client_of(const struct nssm_flow_key *key, uint8_t sender, uint8_t tcp_flags)
{
	if (tcp_flags & 2)
		return tcp_flags & 16 ? !sender : sender;
	bool server0 = nssm_split_server_port(key->port[0]), server1 = nssm_split_server_port(key->port[1]);
	return server0 == server1 ? sender : server0;
}

/* The packet's flow, begun if it is new; NULL: no memory. */
static struct flow *flow_of(struct nssm_features *f, const struct nssm_flow_key *key, uint8_t sender, uint8_t tcp_flags, uint64_t t_ns)
{
	if (!room_for_flow(f))
		return NULL;
	uint32_t *slot = find_slot(f, key);
	if (*slot) {
		struct flow *flow = &f->flow[*slot - 1];
		if (!push(f, D_IAT_FLOW, seconds(t_ns - flow->last_ns)))
			return NULL;
		flow->last_ns = t_ns;
		return flow;
	}
	if (f->n_flows > 0 && !push(f, D_FLOW_START_GAP, seconds(t_ns - f->last_start_ns)))
		return NULL;
	f->last_start_ns = t_ns;
	struct flow *flow = &f->flow[f->n_flows++];
	*slot = f->n_flows;
	*flow = (struct flow){.key = *key, .client = client_of(key, sender, tcp_flags), .first_ns = t_ns, .last_ns = t_ns};
	f->count[key->proto == 6 ? S_FLOWS_TCP : S_FLOWS_UDP]++;
	return flow;
}

static void count_tcp(struct nssm_features *f, const struct nssm_hdrs *h, uint8_t flags)
{
	static const int by_bit[] = {S_TCP_FIN, -1, S_TCP_RST, S_TCP_PSH, S_TCP_ACK, S_TCP_URG, S_TCP_ECE, S_TCP_CWR};
	for (int bit = 0; bit < 8; bit++)
		if (by_bit[bit] >= 0)
			f->count[by_bit[bit]] += flags >> bit & 1;
	f->count[S_TCP_SYN] += (flags & 18) == 2;
	f->count[S_TCP_SYNACK] += (flags & 18) == 18;
	f->count[S_TCP_EMPTY] += h->ip_len <= (uint32_t)(h->payload_off - h->l3_off);
}

/* A packet with a whole TCP or UDP header. */
static bool add_transport(struct nssm_features *f, const struct nssm_hdrs *h, const uint8_t *data, uint32_t wirelen, uint64_t t_ns)
{
	struct nssm_flow_key key = {0};
	uint8_t sender = (uint8_t)nssm_flow_key(&key, h, data), flags = h->proto == 6 ? data[h->l4_off + 13] : 0;
	struct flow *flow = flow_of(f, &key, sender, flags, t_ns);
	if (!flow)
		return false;
	int dir = sender != flow->client;
	flow->packets[dir]++;
	flow->bytes += wirelen;
	f->count[h->proto == 6 ? S_SHARE_TCP : S_SHARE_UDP]++;
	if (h->proto == 6)
		count_tcp(f, h, flags);
	if (f->dist[D_SIZE_FWD + dir].n > 0 && !push(f, D_IAT_FWD + dir, seconds(t_ns - f->last_dir_ns[dir])))
		return false;
	f->last_dir_ns[dir] = t_ns;
	if (dir == 0) {
		f->count[S_SHARE_FWD]++;
		f->count[S_SHARE_FWD_BYTES] += wirelen;
	}
	if (f->run_dir != dir && f->run_packets > 0) {
		if (!push(f, D_RUN_PACKETS, (double)f->run_packets))
			return false;
		f->run_packets = 0;
	}
	f->run_dir = dir;
	f->run_packets++;
	return push(f, D_SIZE_FWD + dir, wirelen);
}

static int other_kind(int reason, const struct nssm_hdrs *h)
{
	if (reason == NSSM_PKT_NOT_IP)
		return h->ethertype == 0x0806 ? S_SHARE_ARP : S_SHARE_NOT_IP;
	if (reason != NSSM_PKT_NOT_TCP_UDP)
		return S_SHARE_UNREADABLE;
	return h->proto == 1 ? S_SHARE_ICMP : h->proto == 58 ? S_SHARE_ICMP6 : h->proto == 2 ? S_SHARE_IGMP : S_SHARE_OTHER_IP;
}

static bool end_burst(struct nssm_features *f)
{
	return push(f, D_BURST_PACKETS, (double)f->burst_packets) && push(f, D_BURST_BYTES, (double)f->burst_bytes)
		&& push(f, D_BURST_DURATION, seconds(f->last_ns - f->burst_ns));
}

static bool add(struct nssm_features *f, uint64_t t_ns, const uint8_t *data, uint32_t len, uint32_t wirelen)
{
	bool first = f->count[S_PACKETS] == 0;
	if (first)
		f->first_ns = f->last_ns = f->burst_ns = t_ns;
	if (t_ns < f->last_ns)
		t_ns = f->last_ns;
	uint64_t gap = t_ns - f->last_ns;
	if (!first && !push(f, D_IAT, seconds(gap)))
		return false;
	if (gap > NSSM_BURST_GAP_NS) {
		if (!end_burst(f) || !push(f, D_BURST_GAP, seconds(gap)))
			return false;
		f->burst_ns = t_ns;
		f->burst_packets = f->burst_bytes = 0;
	}
	f->last_ns = t_ns;
	f->burst_packets++;
	f->burst_bytes += wirelen;
	f->count[S_PACKETS]++;
	f->count[S_BYTES] += wirelen;
	struct nssm_hdrs h = {0};
	int reason = nssm_pkt_parse(&h, data, len);
	f->count[S_SHARE_IP6] += h.ip_version == 6;
	if (reason == NSSM_PKT_OK) {
		if (!add_transport(f, &h, data, wirelen, t_ns))
			return false;
	} else {
		f->count[other_kind(reason, &h)]++;
	}
	return push(f, D_SIZE, wirelen);
}

int nssm_features_add(struct nssm_features *f, uint64_t t_ns, const uint8_t *data, uint32_t len, uint32_t wirelen, struct nssm_err *err)
{
	if (f->count[S_PACKETS] >= UINT32_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "features: a session of more than %u packets", UINT32_MAX);
	if (!add(f, t_ns, data, len, wirelen))
		return nssm_err_set(err, NSSM_ENOMEM, "features: no memory for packet %.0f", f->count[S_PACKETS]);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

/* mean, sd, min, five quantiles, max; sorts. */
static void describe(float *out, struct values *d)
{
	static const double at[] = {0, 0.1, 0.25, 0.5, 0.75, 0.9, 1};
	double sum = 0, sq = 0;
	memset(out, 0, STATS * sizeof *out);
	if (d->n == 0)
		return;
	qsort(d->v, d->n, sizeof *d->v, by_value);
	for (size_t i = 0; i < d->n; i++)
		sum += (double)d->v[i];
	double mean = sum / (double)d->n;
	for (size_t i = 0; i < d->n; i++)
		sq += ((double)d->v[i] - mean) * ((double)d->v[i] - mean);
	out[0] = (float)mean;
	out[1] = (float)sqrt(sq / (double)d->n);
	for (size_t q = 0; q < sizeof at / sizeof *at; q++) {
		double pos = at[q] * (double)(d->n - 1), low = floor(pos);
		size_t i = (size_t)low, next = i + 1 < d->n ? i + 1 : i;
		out[2 + q] = (float)((double)d->v[i] + (pos - low) * ((double)d->v[next] - (double)d->v[i]));
	}
}

struct edge {
	uint64_t t_ns;
	int step;
};

/* What ends now was alive with what begins now. */
static int by_time(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;
	return x->t_ns != y->t_ns ? (x->t_ns > y->t_ns) - (x->t_ns < y->t_ns) : y->step - x->step;
}

static bool add_flows(struct nssm_features *f, uint32_t *alive_max)
{
	struct edge *edge = malloc(((size_t)f->n_flows * 2 + 1) * sizeof *edge);
	bool ok = edge != NULL;
	for (uint32_t i = 0; ok && i < f->n_flows; i++) {
		const struct flow *flow = &f->flow[i];
		double packets = (double)flow->packets[0] + flow->packets[1];
		edge[2 * i] = (struct edge){flow->first_ns, 1};
		edge[2 * i + 1] = (struct edge){flow->last_ns, -1};
		f->count[S_FLOWS_ONE_WAY] += flow->packets[0] == 0 || flow->packets[1] == 0;
		f->count[S_FLOWS_ONE_PACKET] += packets == 1;
		ok = push(f, D_FLOW_PACKETS, packets) && push(f, D_FLOW_BYTES, (double)flow->bytes)
			&& push(f, D_FLOW_DURATION, seconds(flow->last_ns - flow->first_ns));
	}
	*alive_max = 0;
	if (ok)
		qsort(edge, 2 * (size_t)f->n_flows, sizeof *edge, by_time);
	for (size_t i = 0, alive = 0; ok && i < 2 * (size_t)f->n_flows; i++) {
		alive += (size_t)(ssize_t)edge[i].step;
		*alive_max = alive > *alive_max ? (uint32_t)alive : *alive_max;
	}
	free(edge);
	return ok;
}

static double per(double a, double b)
{
	return b > 0 ? a / b : 0;
}

static void scalars(const struct nssm_features *f, float *row, uint32_t alive_max)
{
	double n = f->count[S_PACKETS], tcp = f->count[S_SHARE_TCP], dirs = tcp + f->count[S_SHARE_UDP], dir_bytes = 0;
	double duration = seconds(f->last_ns - f->first_ns);
	for (uint32_t i = 0; i < f->n_flows; i++)
		dir_bytes += (double)f->flow[i].bytes;
	for (int i = 0; i < N_SCALARS; i++)
		row[i] = (float)f->count[i];
	for (int i = S_SHARE_TCP; i <= S_SHARE_IP6; i++)
		row[i] = (float)per(f->count[i], n);
	for (int i = S_TCP_SYN; i <= S_TCP_EMPTY; i++)
		row[i] = (float)per(f->count[i], tcp);
	row[S_DURATION] = (float)duration;
	row[S_PACKET_RATE] = (float)per(n, duration);
	row[S_BYTE_RATE] = (float)per(f->count[S_BYTES], duration);
	row[S_SHARE_FWD] = (float)per(f->count[S_SHARE_FWD], dirs);
	row[S_SHARE_FWD_BYTES] = (float)per(f->count[S_SHARE_FWD_BYTES], dir_bytes);
	row[S_FLOWS] = (float)f->n_flows;
	row[S_FLOWS_ONE_WAY] = (float)per(f->count[S_FLOWS_ONE_WAY], f->n_flows);
	row[S_FLOWS_ONE_PACKET] = (float)per(f->count[S_FLOWS_ONE_PACKET], f->n_flows);
	row[S_FLOWS_ALIVE_MAX] = (float)alive_max;
	row[S_FLOW_RATE] = (float)per(f->n_flows, duration);
	row[S_BURSTS] = (float)f->dist[D_BURST_PACKETS].n;
}

int nssm_features_end(struct nssm_features *f, float *row, struct nssm_err *err)
{
	uint32_t alive_max;
	if (f->count[S_PACKETS] == 0)
		return nssm_err_set(err, NSSM_EARG, "features: a session without packets");
	bool ok = end_burst(f) && add_flows(f, &alive_max) && (f->run_packets == 0 || push(f, D_RUN_PACKETS, (double)f->run_packets));
	if (ok) {
		scalars(f, row, alive_max);
		for (int i = 0; i < N_DISTS; i++)
			describe(row + N_SCALARS + i * STATS, &f->dist[i]);
	}
	start_over(f);
	return ok ? 0 : nssm_err_set(err, NSSM_ENOMEM, "features: no memory for a session's flows");
}

int nssm_features_capture(struct nssm_features *f, float *row, const char *path, struct nssm_err *err)
{
	struct nssm_reader *r;
	struct nssm_reader_cfg cfg = {.path = &path, .n_paths = 1, .split.kind = NSSM_SPLIT_FILE, .label = "x"};
	struct nssm_read_pkt p;
	start_over(f);
	int rc = nssm_reader_open(&r, &cfg, err);
	if (rc)
		return rc;
	while ((rc = nssm_reader_next(r, &p, err)) == 1)
		if ((rc = nssm_features_add(f, p.t_ns, p.data, p.len, p.wirelen, err)))
			break;
	nssm_reader_close(&r);
	if (rc == 0)
		return nssm_features_end(f, row, err);
	start_over(f);
	return rc;
}
