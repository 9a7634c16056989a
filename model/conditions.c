#include "model/conditions.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WAYS        4
#define UNDER_WAY   32 /* segments of a direction whose acknowledgement gives a time */
#define GAPS        8
#define REORDER_NS  3000000u
#define FINE        8 /* histogram of round trips: steps an octave, from 1 µs */
#define FINE_STEPS  256

#define TCP_FIN 0x01u
#define TCP_SYN 0x02u
#define TCP_RST 0x04u
#define TCP_ACK 0x10u

/* --- steps ------------------------------------------------------------------------------------------------------ */

static const struct {
	const char *name;
	double base;
	int first; /* step of the base */
} scale[NSSM_N_CONDITIONS] = {
        [NSSM_COND_RTT] = {"rtt", 1e-6, 1},
        [NSSM_COND_LOSS] = {"loss", 1e-5, 2},
        [NSSM_COND_THROUGHPUT] = {"throughput", 1, 1},
        [NSSM_COND_DURATION] = {"duration", 1e-6, 1},
        [NSSM_COND_PACKETS] = {"packets", 1, 1},
};

const char *nssm_condition_name(enum nssm_condition c)
{
	return scale[c].name;
}

uint8_t nssm_condition_step(enum nssm_condition c, double v)
{
	assert(v >= 0);
	if (v == 0)
		return 1;
	double step = scale[c].first + round(2 * log2(v / scale[c].base));
	return (uint8_t)(step < scale[c].first ? scale[c].first : step > 255 ? 255 : step);
}

double nssm_condition_value(enum nssm_condition c, uint8_t step)
{
	assert(step > 0);
	return step < scale[c].first ? 0 : scale[c].base * exp2((step - scale[c].first) / 2.0);
}

void nssm_conditions_of(uint8_t step[NSSM_N_CONDITIONS], const struct nssm_measures *m)
{
	memset(step, 0, NSSM_N_CONDITIONS);
	if (m->n_packets == 0)
		return;
	double s = (double)m->duration_ns / 1e9;
	if (m->n_rtt > 0)
		step[NSSM_COND_RTT] = nssm_condition_step(NSSM_COND_RTT, m->rtt_s);
	if (m->n_data > 0)
		step[NSSM_COND_LOSS] = nssm_condition_step(NSSM_COND_LOSS, (double)m->n_again / (double)m->n_data);
	if (m->duration_ns > 0)
		step[NSSM_COND_THROUGHPUT] = nssm_condition_step(NSSM_COND_THROUGHPUT, 8 * (double)m->n_bytes / s);
	step[NSSM_COND_DURATION] = nssm_condition_step(NSSM_COND_DURATION, s);
	step[NSSM_COND_PACKETS] = nssm_condition_step(NSSM_COND_PACKETS, (double)m->n_packets);
}

/* --- state ------------------------------------------------------------------------------------------------------ */

/* What one end of a flow sent. Sequence numbers ascend in `sent`. */
struct end {
	bool known;
	uint8_t n_sent, n_gaps;
	uint32_t nxt;     /* behind the highest byte seen */
	bool has_half;
	uint64_t half_ns; /* shortest time from a segment of this end to its acknowledgement */
	struct {
		uint32_t end;
		uint64_t ns;
	} sent[UNDER_WAY];
	struct {
		uint32_t begin, end;
		uint64_t ns;
	} gap[GAPS];
};

struct meter_flow {
	bool used;
	uint64_t seen; /* packet number */
	struct nssm_flow_key key;
	struct end end[2]; /* of the key */
};

struct nssm_meter {
	uint64_t n_packets, n_bytes, n_data, n_again, n_rtt;
	uint64_t first_ns, now_ns;
	uint64_t rtt[FINE_STEPS];
	struct meter_flow flow[NSSM_METER_FLOWS];
};

int nssm_meter_open(struct nssm_meter **m, struct nssm_err *err)
{
	*m = calloc(1, sizeof **m);
	return *m != NULL ? 0 : nssm_err_set(err, NSSM_ENOMEM, "no memory to measure a session");
}

void nssm_meter_close(struct nssm_meter **m)
{
	free(*m);
	*m = NULL;
}

void nssm_meter_begin(struct nssm_meter *m)
{
	/* Only what the session before used is touched: most are of few flows. */
	m->n_packets = m->n_bytes = m->n_data = m->n_again = m->n_rtt = 0;
	m->first_ns = m->now_ns = 0;
	memset(m->rtt, 0, sizeof m->rtt);
	for (int i = 0; i < NSSM_METER_FLOWS; i++)
		m->flow[i].used = false;
}

static struct meter_flow *flow_of(struct nssm_meter *m, const struct nssm_flow_key *key)
{
	/* FNV-1a over the key's bytes (it has no padding: 32 + 4 + 2). */
	_Static_assert(sizeof *key == 38, "every byte of a key is said");
	uint32_t h = 2166136261u;
	const uint8_t *byte = (const uint8_t *)key;
	for (size_t i = 0; i < sizeof *key; i++)
		h = (h ^ byte[i]) * 16777619u;
	struct meter_flow *set = m->flow + (h ^ h >> 16) % (NSSM_METER_FLOWS / WAYS) * WAYS, *old = set;
	for (int i = 0; i < WAYS; i++) {
		if (set[i].used && memcmp(&set[i].key, key, sizeof *key) == 0) {
			set[i].seen = m->n_packets;
			return &set[i];
		}
		if (old->used && (!set[i].used || set[i].seen < old->seen))
			old = &set[i];
	}
	*old = (struct meter_flow){.used = true, .seen = m->n_packets, .key = *key};
	return old;
}

/* --- round trips -------------------------------------------------------------------------------------------------- */

/* A segment of end d of the flow was acknowledged after this time. */
static void count_half(struct nssm_meter *m, struct meter_flow *f, int d, uint64_t ns)
{
	struct end *e = &f->end[d], *other = &f->end[!d];
	if (!e->has_half || ns < e->half_ns)
		e->half_ns = ns;
	e->has_half = true;
	if (!other->has_half)
		return;
	double us = (double)(ns + other->half_ns) / 1e3;
	long step = us > 1 ? lround(FINE * log2(us)) : 0;
	m->rtt[step < FINE_STEPS ? step : FINE_STEPS - 1]++;
	m->n_rtt++;
}

static void acknowledge(struct nssm_meter *m, struct meter_flow *f, int d, uint32_t ack)
{
	struct end *e = &f->end[d];
	int n = 0;
	while (n < e->n_sent && (int32_t)(ack - e->sent[n].end) >= 0)
		n++;
	if (n > 0 && e->sent[n - 1].end == ack)
		count_half(m, f, d, m->now_ns - e->sent[n - 1].ns);
	e->n_sent -= (uint8_t)n;
	memmove(e->sent, e->sent + n, e->n_sent * sizeof *e->sent);
}

/* --- what was sent again -------------------------------------------------------------------------------------------- */

static void open_gap(struct nssm_meter *m, struct end *e, uint32_t begin, uint32_t end)
{
	if (e->n_gaps == GAPS)
		memmove(e->gap, e->gap + 1, --e->n_gaps * sizeof *e->gap);
	e->gap[e->n_gaps].begin = begin;
	e->gap[e->n_gaps].end = end;
	e->gap[e->n_gaps++].ns = m->now_ns;
}

/* [seq, seq + n) lies where something is missing: since when? False: all that is known of was there. */
static bool fill_gap(struct end *e, uint32_t seq, uint32_t n, uint64_t *since_ns)
{
	int i = 0;
	while (i < e->n_gaps && !((int32_t)(seq - e->gap[i].begin) >= 0 && (int32_t)(seq - e->gap[i].end) < 0))
		i++;
	if (i == e->n_gaps)
		return false;
	*since_ns = e->gap[i].ns;
	uint32_t end = e->gap[i].end, to = seq + n;
	bool left = seq != e->gap[i].begin, right = (int32_t)(end - to) > 0;
	if (left)
		e->gap[i].end = seq;
	else if (right)
		e->gap[i].begin = to;
	else
		memmove(e->gap + i, e->gap + i + 1, (size_t)(--e->n_gaps - i) * sizeof *e->gap);
	if (left && right && e->n_gaps < GAPS) {
		e->gap[e->n_gaps].begin = to;
		e->gap[e->n_gaps].end = end;
		e->gap[e->n_gaps++].ns = *since_ns;
	}
	return true;
}

/* Data, SYN or FIN below nxt. */
static void below(struct nssm_meter *m, struct meter_flow *f, struct end *e, uint32_t seq, uint32_t n, bool data)
{
	bool known = f->end[0].has_half && f->end[1].has_half;
	uint64_t since_ns, limit_ns = known ? (f->end[0].half_ns + f->end[1].half_ns) / 2 : REORDER_NS;
	if (!fill_gap(e, seq, n, &since_ns) || m->now_ns - since_ns >= limit_ns) {
		m->n_again += data;
		e->n_sent = 0;
	}
	if ((int32_t)(seq + n - e->nxt) > 0)
		e->nxt = seq + n;
}

static void send(struct nssm_meter *m, struct meter_flow *f, int d, uint32_t seq, uint32_t len, unsigned flags)
{
	struct end *e = &f->end[d];
	uint32_t n = len + ((flags & TCP_SYN) != 0) + ((flags & TCP_FIN) != 0);
	int32_t ahead = e->known ? (int32_t)(seq - e->nxt) : 0;
	if (n == 0 || (ahead == -1 && n == 1 && len == 1))
		return; /* an acknowledgement, a keep-alive */
	m->n_data += len > 0;
	if (ahead < 0) {
		below(m, f, e, seq, n, len > 0);
		return;
	}
	if (ahead > 0)
		open_gap(m, e, e->nxt, seq);
	e->known = true;
	e->nxt = seq + n;
	if (e->n_sent < UNDER_WAY) {
		e->sent[e->n_sent].end = e->nxt;
		e->sent[e->n_sent++].ns = m->now_ns;
	}
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void nssm_meter_packet(struct nssm_meter *m, const struct nssm_pkt *pkt)
{
	if (m->n_packets++ == 0)
		m->first_ns = m->now_ns = pkt->ts_ns;
	m->n_bytes += pkt->wirelen;
	if (pkt->ts_ns > m->now_ns)
		m->now_ns = pkt->ts_ns;
	struct nssm_hdrs h;
	if (nssm_pkt_parse(&h, pkt->data, pkt->caplen) != NSSM_PKT_OK || h.proto != 6 || h.fragment)
		return;
	struct nssm_flow_key key;
	int d = nssm_flow_key(&key, &h, pkt->data);
	struct meter_flow *f = flow_of(m, &key);
	const uint8_t *tcp = pkt->data + h.l4_off;
	unsigned flags = tcp[13];
	uint32_t seq = be32(tcp + 4);
	/* Segmentation offload leaves the length field 0: then the packet ends where the frame does. */
	const uint8_t *ip_len = pkt->data + h.l3_off + (h.ip_version == 4 ? 2 : 4);
	bool said = ip_len[0] != 0 || ip_len[1] != 0;
	uint32_t end = said && h.ip_len < pkt->wirelen - h.l3_off ? h.l3_off + h.ip_len : pkt->wirelen;
	uint32_t len = end > h.payload_off ? end - h.payload_off : 0;
	/* Ports used again: another initial number is another connection. */
	if ((flags & TCP_SYN) != 0 && f->end[d].known && f->end[d].nxt - seq > 1u << 16)
		memset(&f->end[(flags & TCP_ACK) == 0 ? 0 : d], 0, ((flags & TCP_ACK) == 0 ? 2 : 1) * sizeof *f->end);
	if ((flags & TCP_RST) != 0)
		return;
	if ((flags & TCP_ACK) != 0)
		acknowledge(m, f, !d, be32(tcp + 8));
	send(m, f, d, seq, len, flags);
}

void nssm_meter_read(const struct nssm_meter *m, struct nssm_measures *out)
{
	*out = (struct nssm_measures){.n_packets = m->n_packets, .n_bytes = m->n_bytes, .duration_ns = m->now_ns - m->first_ns,
	        .n_data = m->n_data, .n_again = m->n_again, .n_rtt = m->n_rtt};
	uint64_t below = 0;
	int step = 0;
	while (m->n_rtt > 0 && (below += m->rtt[step]) < (m->n_rtt + 1) / 2)
		step++;
	if (m->n_rtt > 0)
		out->rtt_s = 1e-6 * exp2((double)step / FINE);
}
