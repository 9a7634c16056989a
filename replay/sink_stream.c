/* Live streams as sinks: a ring of whole records between bursts and a reader that may be slow, absent or replaced. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/measure.h"
#include "replay/capture.h"
#include "replay/capture_format.h"
#include "replay/sink_ops.h"
#include "replay/stream_end.h"

#define RING_BYTES  (4u << 20) /* a power of two; must hold the longest record */
#define BATCH_BYTES (256u << 10)
#define AGE_NS      5000000u /* how old a byte gets between ticks; the contract is 10 ms */
#define RETRY_NS    1000000u /* after the reader took nothing */
#define DRAIN_NS    2000000000u

struct sink_stream {
	struct nssm_sink s;
	struct nssm_end end;
	/* Bytes [head, tail) wait; record is where the oldest record that was not sent whole begins: before head if a part of
	 * it was, behind it while the file header waits. All count from the reader's first byte; a place in buf is the count modulo RING_BYTES. */
	uint64_t head, tail, record;
	uint64_t due_ns;   /* when a burst is to send, if any byte waits */
	uint64_t taken_ns; /* when the reader last took a byte or had none to take */
	bool blocked;      /* the last write took less than there was */
	uint8_t buf[RING_BYTES];
};
_Static_assert(NSSM_CAPTURE_CAPLEN_MAX + NSSM_PCAP_RECORD_BYTES < RING_BYTES, "a record must fit");

static void ring_put(struct sink_stream *t, const uint8_t *p, uint32_t n)
{
	uint32_t at = (uint32_t)(t->tail % RING_BYTES), first = RING_BYTES - at;
	if (first > n)
		first = n;
	memcpy(t->buf + at, p, first);
	memcpy(t->buf, p + first, n - first);
	t->tail += n;
}

/* The 32 bits at byte pos. */
static uint32_t ring_get32(const struct sink_stream *t, uint64_t pos)
{
	uint32_t v = 0;
	for (uint32_t i = 0; i < 4; i++)
		v |= (uint32_t)t->buf[(pos + i) % RING_BYTES] << (8 * i);
	return v;
}

/* Counts the records that lie wholly before end; borders are read from the records themselves. */
static void count_to(struct sink_stream *t, uint64_t end, uint64_t *n, uint64_t *bytes)
{
	while (t->record < t->tail) {
		uint64_t next = t->record + NSSM_PCAP_RECORD_BYTES + ring_get32(t, t->record + 8);
		if (next > end)
			break;
		++*n;
		*bytes += ring_get32(t, t->record + 12);
		t->s.stats.queued--;
		t->record = next;
	}
}

/* What waits will not be read. */
static void discard(struct sink_stream *t)
{
	uint64_t bytes = 0;
	count_to(t, t->tail, &t->s.stats.dropped[NSSM_DROP_NO_READER], &bytes);
	assert(t->s.stats.queued == 0);
	t->head = t->record = t->tail;
}

/* A record that was sent in part stays whole in the ring, for its header to be read. */
static bool has_room(const struct sink_stream *t, uint32_t n)
{
	return t->tail - (t->head < t->record ? t->head : t->record) + n <= RING_BYTES;
}

/* The stream of a new reader begins with a header; what is left of the one before is not for him. */
static void begin(struct sink_stream *t)
{
	uint8_t head[NSSM_PCAP_HEAD_BYTES];
	uint32_t snaplen = t->s.cfg.snaplen;
	discard(t);
	t->head = t->tail = 0;
	t->record = NSSM_PCAP_HEAD_BYTES;
	nssm_pcap_head(head, false, snaplen != 0 ? snaplen : NSSM_CAPTURE_CAPLEN_MAX);
	ring_put(t, head, sizeof head);
	t->blocked = false;
	t->due_ns = t->taken_ns = nssm_now_ns();
	t->s.stats.n_readers = t->end.n_readers;
}

static int send_waiting(struct sink_stream *t, uint64_t now_ns, struct nssm_err *err)
{
	t->blocked = false;
	while (t->end.fd >= 0 && t->head < t->tail && !t->blocked) {
		uint64_t n = t->tail - t->head;
		uint32_t at = (uint32_t)(t->head % RING_BYTES), first = RING_BYTES - at;
		if (first > n)
			first = (uint32_t)n;
		struct iovec iov[2] = {{t->buf + at, first}, {t->buf, (size_t)n - first}};
		ssize_t k = nssm_end_write(&t->end, iov, iov[1].iov_len > 0 ? 2 : 1, err);
		if (k == -2)
			return err->code;
		if (k > 0) {
			t->head += (uint64_t)k;
			t->taken_ns = now_ns;
			count_to(t, t->head, &t->s.stats.sent, &t->s.stats.bytes);
		}
		t->blocked = k == 0;
	}
	if (t->end.fd < 0)
		discard(t);
	t->due_ns = now_ns + (t->blocked ? RETRY_NS : AGE_NS);
	return 0;
}

static uint32_t kept_bytes(const struct sink_stream *t, const struct nssm_tx *p)
{
	uint32_t snaplen = t->s.cfg.snaplen;
	return snaplen != 0 && p->len > snaplen ? snaplen : p->len;
}

/* One packet into the ring, or counted. */
static int take(struct sink_stream *t, const struct nssm_tx *p, uint64_t now_ns, struct nssm_err *err)
{
	struct nssm_sink_stats *st = &t->s.stats;
	if (p->len > NSSM_CAPTURE_CAPLEN_MAX) {
		st->dropped[NSSM_DROP_TOO_LONG]++;
		return 0;
	}
	uint32_t kept = kept_bytes(t, p), n = NSSM_PCAP_RECORD_BYTES + kept;
	uint8_t h[NSSM_PCAP_RECORD_BYTES];
	if (!nssm_pcap_record(h, false, p->time_ns, kept, p->wirelen))
		return nssm_err_set(err, NSSM_ERANGE,
		        "%s: a packet at second %llu; a pcap goes up to second %u", t->s.name,
		        (unsigned long long)(p->time_ns / 1000000000), NSSM_PCAP_SECONDS_MAX);
	if (t->end.fd >= 0 && !has_room(t, n) && (!t->blocked || now_ns >= t->due_ns)) {
		int rc = send_waiting(t, now_ns, err);
		if (rc != 0)
			return rc;
	}
	if (t->end.fd < 0 || !has_room(t, n)) {
		st->dropped[NSSM_DROP_NO_READER]++;
		return 0;
	}
	if (t->head == t->tail)
		t->due_ns = now_ns + AGE_NS;
	ring_put(t, h, sizeof h);
	ring_put(t, p->data, kept);
	st->queued++;
	st->cut += kept < p->len;
	return 0;
}

static int stream_burst(struct nssm_sink *s, const struct nssm_tx *pkt, uint32_t n, struct nssm_err *err)
{
	struct sink_stream *t = (struct sink_stream *)s;
	uint64_t now_ns = t->end.fd >= 0 ? nssm_now_ns() : 0;
	for (uint32_t i = 0; i < n; i++) {
		int rc = take(t, &pkt[i], now_ns, err);
		if (rc != 0)
			return rc;
	}
	if (t->end.fd < 0 || t->head == t->tail)
		return 0;
	if (now_ns >= t->due_ns || (!t->blocked && t->tail - t->head >= BATCH_BYTES))
		return send_waiting(t, now_ns, err);
	return 0;
}

/* The clock that is passed in may be another's (a test's, the run's): ages are measured on this module's own. */
static int stream_tick(struct nssm_sink *s, uint64_t unused_ns, struct nssm_err *err)
{
	(void)unused_ns;
	struct sink_stream *t = (struct sink_stream *)s;
	uint64_t now_ns = nssm_now_ns();
	if (t->end.fd >= 0 && !nssm_end_alive(&t->end))
		discard(t);
	if (t->head == t->tail)
		t->taken_ns = now_ns;
	int came = nssm_end_look(&t->end, now_ns - t->taken_ns >= NSSM_STALL_NS, err);
	if (came < 0)
		return came;
	if (came > 0)
		begin(t);
	return t->end.fd >= 0 ? send_waiting(t, now_ns, err) : 0;
}

static bool stream_ready(const struct nssm_sink *s)
{
	return !s->cfg.wait_for_reader || s->stats.n_readers > 0;
}

static int stream_finish(struct nssm_sink *s, struct nssm_err *err)
{
	struct sink_stream *t = (struct sink_stream *)s;
	uint64_t now_ns = nssm_now_ns(), end_ns = now_ns + DRAIN_NS;
	int rc = 0;
	while (t->end.fd >= 0 && t->head < t->tail && now_ns < end_ns) {
		rc = send_waiting(t, now_ns, err);
		if (rc != 0)
			return rc;
		if (t->blocked)
			nssm_end_wait(&t->end, 10);
		now_ns = nssm_now_ns();
	}
	discard(t);
	nssm_end_hang_up(&t->end);
	return 0;
}

static void stream_close(struct nssm_sink *s)
{
	struct sink_stream *t = (struct sink_stream *)s;
	nssm_end_close(&t->end);
	free(t);
}

static const struct nssm_sink_ops stream_ops = {
        .burst = stream_burst,
        .tick = stream_tick,
        .ready = stream_ready,
        .finish = stream_finish,
        .close = stream_close,
        .live = true,
};

static int stream_open(struct nssm_sink **s, const char *kind, const char *where,
        int (*open_end)(struct nssm_end *, const char *, struct nssm_err *), const struct nssm_sink_cfg *cfg,
        struct nssm_err *err)
{
	*s = NULL;
	struct sink_stream *t = calloc(1, sizeof *t);
	if (t == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a stream's buffer", where);
	t->s.ops = &stream_ops;
	t->s.cfg = *cfg;
	if (t->s.cfg.snaplen > NSSM_CAPTURE_CAPLEN_MAX)
		t->s.cfg.snaplen = 0;
	t->end.fd = t->end.listen_fd = -1;
	int rc = open_end(&t->end, where, err);
	if (rc != 0) {
		stream_close(&t->s);
		return rc;
	}
	/* Pages now, not in the middle of a run. */
	memset(t->buf, 1, sizeof t->buf);
	nssm_sink_set_name(&t->s, kind, t->end.name);
	if (t->end.fd >= 0)
		begin(t);
	*s = &t->s;
	return 0;
}

int nssm_sink_pcap_over_ip(
        struct nssm_sink **s, const char *where, const struct nssm_sink_cfg *cfg, struct nssm_err *err)
{
	return stream_open(s, "pcap-over-ip", where, nssm_end_open_ip, cfg, err);
}

int nssm_sink_fifo(
        struct nssm_sink **s, const char *path, const struct nssm_sink_cfg *cfg, struct nssm_err *err)
{
	return stream_open(s, "fifo", path, nssm_end_open_fifo, cfg, err);
}
