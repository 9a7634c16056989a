#include "replay/reader_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ETH_LEN 14u
/* A stamp further back than this is a clock that was set, not packets that overtook one another between a card's
 * queues. */
#define CLOCK_SET_NS 1000000000u

uint64_t nssm_reader_time_add(uint64_t a, uint64_t b)
{
	uint64_t sum;
	return __builtin_add_overflow(a, b, &sum) || sum > NSSM_READER_TIME_MAX ? NSSM_READER_TIME_MAX : sum;
}

/* --- which packets, and when ---------------------------------------------------------------------------------- */

static bool wanted(const struct nssm_reader *r, const struct nssm_pkt *pkt)
{
	if (!r->filtering)
		return true;
	/* A filter looks at lengths and bytes only. */
	const struct pcap_pkthdr h = {.caplen = pkt->caplen, .len = pkt->wirelen};
	return pcap_offline_filter(&r->filter, &h, pkt->data) != 0;
}

/* Ethernet and its VLAN tags, which no MTU counts. */
static uint32_t link_len(const struct nssm_pkt *pkt)
{
	uint32_t off = ETH_LEN;
	while (off + 4 <= pkt->caplen) {
		unsigned type = (unsigned)pkt->data[off - 2] << 8 | pkt->data[off - 1];
		if (type != 0x8100 && type != 0x88a8 && type != 0x9100)
			break;
		off += 4;
	}
	return off;
}

/* False: the packet is left out. */
static bool fit(struct nssm_reader *r, struct nssm_pkt *pkt)
{
	uint32_t mtu = r->cfg.mtu;
	if (r->cfg.mtu_mode == NSSM_MTU_NONE || pkt->wirelen - ETH_LEN <= mtu)
		return true;
	uint32_t link = link_len(pkt);
	if (pkt->wirelen - link <= mtu)
		return true;
	if (r->cfg.mtu_mode == NSSM_MTU_DROP)
		return false;
	pkt->wirelen = link + mtu;
	if (pkt->caplen > pkt->wirelen)
		pkt->caplen = pkt->wirelen;
	r->counters.truncated++;
	return true;
}

/* The time of a packet stamped ts. A clock that was set back stays shifted, so that the gaps after it are the
 * capture's, until its stamps reach those before it again. */
static uint64_t forward(struct nssm_reader *r, struct nssm_feed *f, uint64_t ts)
{
	if (ts >= f->last_ns)
		f->shift_ns = 0;
	uint64_t t;
	if (__builtin_add_overflow(ts, f->shift_ns, &t))
		t = UINT64_MAX;
	if (f->any && t < f->last_ns) {
		r->time_back++;
		if (f->last_ns - t > CLOCK_SET_NS)
			f->shift_ns = f->last_ns - ts;
		t = f->last_ns;
	}
	f->any = true;
	f->last_ns = t;
	return t;
}

int nssm_feed_fetch(struct nssm_reader *r, struct nssm_feed *f, struct nssm_err *err)
{
	int rc;
	while ((rc = nssm_capture_next(f->capture, &f->pkt, err)) == 1) {
		r->pass_read++;
		if (!wanted(r, &f->pkt)) {
			r->pass_filtered++;
			r->counters.filtered++;
		} else if (!fit(r, &f->pkt)) {
			r->pass_too_long++;
			r->counters.too_long++;
		} else {
			f->t_ns = forward(r, f, f->pkt.ts_ns);
			break;
		}
	}
	return rc;
}

/* --- shards --------------------------------------------------------------------------------------------------- */

/* The mixing step of MurmurHash3's finaliser over the key's words. The key is a constant: the same capture has the
 * same shards everywhere. */
static uint64_t hash_key(const struct nssm_flow_key *key)
{
	uint64_t h = 0x9e3779b97f4a7c15u, w;
	const uint8_t *b = (const uint8_t *)key;
	for (size_t n = sizeof *key; n > 0; n -= n < 8 ? n : 8, b += 8) {
		w = 0;
		memcpy(&w, b, n < 8 ? n : 8);
		h = (h ^ w) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	return h;
}

/* A fragment has no ports but in its first part, so the parts go together by their addresses alone, as they do on
 * network cards. */
static uint32_t shard_of(const struct nssm_pkt *pkt, uint32_t n_shards)
{
	struct nssm_hdrs h;
	struct nssm_flow_key key;
	if (nssm_pkt_parse(&h, pkt->data, pkt->caplen) == NSSM_PKT_OK && !h.fragment) {
		nssm_flow_key(&key, &h, pkt->data);
		return (uint32_t)(hash_key(&key) % n_shards);
	}
	uint32_t len = h.ip_version == 4 ? 4 : 16, src = h.l3_off + (h.ip_version == 4 ? 12u : 8u);
	if (h.ip_version == 0 || src + 2 * len > pkt->caplen)
		return 0;
	memset(&key, 0, sizeof key);
	int first = memcmp(pkt->data + src, pkt->data + src + len, len) > 0;
	memcpy(key.addr[first], pkt->data + src, len);
	memcpy(key.addr[!first], pkt->data + src + len, len);
	key.ip_version = h.ip_version;
	return (uint32_t)(hash_key(&key) % n_shards);
}

/* --- sessions ------------------------------------------------------------------------------------------------- */

static int grow(struct nssm_feed *f, uint32_t n, struct nssm_err *err)
{
	if (n > f->sessions_cap) {
		uint32_t cap = f->sessions_cap == 0 ? n : 2 * f->sessions_cap;
		cap = cap < n ? n : cap;
		struct nssm_reader_session *s = realloc(f->session, cap * sizeof *s);
		if (s == NULL)
			return nssm_err_set(err, NSSM_ENOMEM, "no memory for %u sessions", cap);
		f->session = s;
		f->sessions_cap = cap;
	}
	while (f->n_sessions < n)
		f->session[f->n_sessions++] = (struct nssm_reader_session){0};
	return 0;
}

static void begin(struct nssm_reader *r, struct nssm_feed *f, struct nssm_reader_session *s, uint64_t t_ns)
{
	*s = (struct nssm_reader_session){.number = r->next_session++, .start_ns = t_ns};
	r->counters.sessions_begun++;
	f->n_open++;
	if (f->lowest == UINT64_MAX)
		f->lowest = s->number;
}

/* The session of silence before this packet gets no more. */
static void end_gap(struct nssm_reader *r, struct nssm_feed *f)
{
	f->session[0].n_packets = 0;
	f->lowest = UINT64_MAX;
	r->counters.sessions_done += f->n_open;
	f->n_open = 0;
}

/* 1: *s; 0: it has none. */
static int find_session(struct nssm_reader *r, struct nssm_feed *f, struct nssm_reader_session **s,
        uint32_t *shard, struct nssm_err *err)
{
	uint32_t local, slot = 0;
	int rc = nssm_splitter_packet(f->splitter, &f->pkt, &local, err);
	if (rc <= 0)
		return rc;
	bool sharded = r->cfg.n_shards > 1 && !r->cfg.strict_order;
	switch (r->cfg.split.kind) {
	case NSSM_SPLIT_FILE:
		if (sharded)
			slot = *shard = shard_of(&f->pkt, r->cfg.n_shards);
		break;
	case NSSM_SPLIT_GAP:
		if (local != f->local && f->n_sessions > 0)
			end_gap(r, f);
		f->local = local;
		break;
	case NSSM_SPLIT_CLIENT:
		slot = local;
		break;
	}
	if (slot >= f->n_sessions) {
		rc = grow(f, slot + 1, err);
		if (rc != 0)
			return rc;
	}
	*s = &f->session[slot];
	if (sharded && r->cfg.split.kind != NSSM_SPLIT_FILE) {
		uint64_t number = (*s)->n_packets > 0 ? (*s)->number : r->next_session;
		*shard = (uint32_t)(number % r->cfg.n_shards);
	}
	return 1;
}

/* Where the frame was cut, zeros stand for what is not known. */
static void make_whole(struct nssm_reader *r, struct nssm_read_pkt *p)
{
	uint32_t n = p->wirelen < NSSM_CAPTURE_CAPLEN_MAX ? p->wirelen : NSSM_CAPTURE_CAPLEN_MAX;
	if (r->pad == NULL || p->len >= n)
		return;
	memcpy(r->pad, p->data, p->len);
	memset(r->pad + p->len, 0, n - p->len);
	p->data = r->pad;
	p->len = n;
}

int nssm_feed_give(struct nssm_reader *r, struct nssm_feed *f, struct nssm_read_pkt *p, struct nssm_err *err)
{
	struct nssm_reader_session *s = NULL;
	uint32_t shard = 0;
	uint64_t was_lowest = f->lowest;
	int rc = find_session(r, f, &s, &shard, err);
	if (rc == 0) {
		r->no_session++;
		r->pass_no_session++;
	}
	if (rc <= 0)
		return rc;
	if (r->rebase) {
		r->base_ns = f->t_ns;
		r->base_at_ns = r->next_at_ns;
		r->rebase = false;
		if (r->pass_packets == 0)
			r->first_ns = f->t_ns;
	}
	assert(f->t_ns >= r->base_ns);
	uint64_t t_ns = nssm_reader_time_add(r->base_at_ns, f->t_ns - r->base_ns);
	if (s->n_packets == 0)
		begin(r, f, s, t_ns);
	if (f->lowest != was_lowest)
		nssm_reader_see_done(r);
	*p = (struct nssm_read_pkt){
	        .session = s->number,
	        .start_ns = s->start_ns,
	        .t_ns = t_ns,
	        .label_idx = f->label_idx,
	        .shard = shard,
	        .seq = s->n_packets++,
	        .data = f->pkt.data,
	        .len = f->pkt.caplen,
	        .wirelen = f->pkt.wirelen,
	};
	make_whole(r, p);
	if (f->n_given++ == 0)
		f->first_given_ns = t_ns;
	f->last_given_ns = t_ns;
	return 1;
}

/* --- a file --------------------------------------------------------------------------------------------------- */

int nssm_feed_open(struct nssm_reader *r, struct nssm_feed *f, uint32_t file, struct nssm_err *err)
{
	*f = (struct nssm_feed){
	        .file = file,
	        .label_idx = r->file[file].label_idx,
	        .session = f->session,
	        .sessions_cap = f->sessions_cap,
	        .lowest = UINT64_MAX,
	};
	int rc = nssm_capture_open_idle(&f->capture, r->cfg.path[file], &r->cfg.idle, err);
	if (rc == 0)
		rc = nssm_splitter_open(&f->splitter, &r->cfg.split, err);
	return rc != 0 ? rc : nssm_feed_fetch(r, f, err);
}

void nssm_feed_close(struct nssm_reader *r, struct nssm_feed *f)
{
	/* The next file of a sequence starts the mean gap of this one after its last packet. */
	if (f->n_given > 0) {
		uint64_t gap_ns =
		        f->n_given > 1 ? (f->last_given_ns - f->first_given_ns) / (f->n_given - 1) : 0;
		r->next_at_ns = nssm_reader_time_add(f->last_given_ns, gap_ns);
	}
	r->counters.sessions_done += f->n_open;
	r->done_bytes += r->file[f->file].bytes;
	f->n_open = 0;
	f->lowest = UINT64_MAX;
	nssm_splitter_close(&f->splitter);
	nssm_capture_close(&f->capture);
}
