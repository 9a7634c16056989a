#include "replay/measure.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "replay/measure_key.h"

#define WINDOW_DEFAULT     (1u << 21)
#define TIMEOUT_DEFAULT_NS 2000000000ull
#define TIMEOUT_MAX_NS     (1ull << 62) /* added to a time without overflow */
#define FLOWS              65536u
#define HUGE_PAGE          ((size_t)2 << 20)
#define SAME_ID_STEPS      8  /* how far frames with one key are searched for the same IPv4 ID */
#define TAKE_BACK_STEPS    64 /* for the last of them that still waits; two bursts */

/* Frames lie in a ring in the order sent. A link names a frame by the low bits of its position, and is void once the frame has
 * been pushed out: nothing has to be unlinked then. 0: none. */
#define LINKED   0x80000000u
#define POSITION 0x7fffffffu

enum state { DONE, WAITING, LOST };

/* A bucket's chain holds the newest frame of each key, newest first; older frames of a key hang on one another, oldest first, and
 * are reached from the newest. */
struct slot {
	uint64_t time_state; /* sent_ns << 2 | state */
	uint32_t key_lo;
	uint16_t key_hi, label;
	uint32_t link; /* newest of its key: next in the chain; else: next frame of the key */
	uint32_t wait; /* newest: the first of the key that waits */
	uint32_t lost; /* newest, and lost ones: the last of the key before this one that was lost */
	uint16_t flow, ip_id;
};
_Static_assert(sizeof(struct slot) == 32, "two to a cache line");

struct nssm_measure {
	uint64_t timeout_ns;
	bool signature;
	uint32_t n_labels, window;
	uint32_t mask, bucket_mask;
	struct slot *slots;
	uint32_t *buckets;
	uint64_t next;      /* position of the next frame sent */
	uint64_t unlinked;  /* from it on, frames are in the ring but not yet in a chain */
	uint64_t unexpired; /* before it nothing waits */
	uint64_t waiting;
	uint64_t secret[4];
	uint64_t *flow_next; /* [FLOWS] position behind the latest that came */
	uint64_t *sequence;  /* [n_labels] */
	struct nssm_measure_counters all, *label;
	struct nssm_measure_extra extra;
};

/* --- the ring --- */

static uint32_t age(const struct nssm_measure *m, uint32_t link)
{
	return ((uint32_t)m->next - link) & POSITION;
}

static bool live(const struct nssm_measure *m, uint32_t link)
{
	return link != 0 && age(m, link) - 1 < m->window;
}

static struct slot *at(const struct nssm_measure *m, uint32_t link)
{
	return &m->slots[link & m->mask];
}

static uint32_t link_to(uint64_t position)
{
	return ((uint32_t)position & POSITION) | LINKED;
}

static enum state state(const struct slot *s)
{
	return (enum state)(s->time_state & 3);
}

static void set_state(struct slot *s, enum state to)
{
	s->time_state = (s->time_state & ~3ull) | to;
}

static uint64_t sent_ns(const struct slot *s)
{
	return s->time_state >> 2;
}

/* --- keys --- 48 bits of the hash are kept; the lower ones name the bucket. */

static uint32_t *bucket(const struct nssm_measure *m, uint32_t key_lo)
{
	return &m->buckets[key_lo & m->bucket_mask];
}

/* The link to the newest frame of a key: itself, so that it can be replaced; NULL: there is none. A bucket that nothing was put
 * into for 2^31 frames may seem live; then no frame of it is in the ring, and what its link leads to has other keys. */
static uint32_t *find(const struct nssm_measure *m, uint32_t key_lo, uint16_t key_hi)
{
	for (uint32_t *link = bucket(m, key_lo); live(m, *link); link = &at(m, *link)->link) {
		const struct slot *s = at(m, *link);
		if (s->key_lo == key_lo && s->key_hi == key_hi)
			return link;
	}
	return NULL;
}

/* The next frame of a key that waits, after one and up to the newest. */
static uint32_t next_waiting(const struct nssm_measure *m, uint32_t link, uint32_t newest)
{
	while (link != newest) {
		link = at(m, link)->link;
		if (state(at(m, link)) == WAITING)
			return link;
	}
	return 0;
}

/* The frame becomes the newest of its key. */
static void link_frame(struct nssm_measure *m, uint32_t new)
{
	struct slot *s = at(m, new);
	uint32_t wait = 0, lost = 0, *link = find(m, s->key_lo, s->key_hi);
	if (link != NULL) {
		uint32_t old = *link;
		struct slot *o = at(m, old);
		wait = o->wait;
		lost = state(o) == LOST ? old : o->lost;
		*link = o->link;
		o->link = new;
	}
	uint32_t *head = bucket(m, s->key_lo);
	s->link = *head;
	s->wait = wait != 0 ? wait : new;
	s->lost = live(m, lost) ? lost : 0;
	*head = new;
}

/* What a bucket's link leads to, fetched ahead. */
static void prefetch_newest(const struct nssm_measure *m, uint32_t key_lo)
{
	uint32_t link = *bucket(m, key_lo);
	if (live(m, link))
		__builtin_prefetch(at(m, link), 1);
}

/* Links what was sent lately. Its buckets were fetched then, and their frames are now, so that the memory is waited for once and
 * not by each. */
static void link_all(struct nssm_measure *m)
{
	if (m->unlinked == m->next)
		return;
	for (uint64_t p = m->unlinked; p < m->next; p++)
		prefetch_newest(m, at(m, link_to(p))->key_lo);
	for (; m->unlinked < m->next; m->unlinked++)
		link_frame(m, link_to(m->unlinked));
}

/* The frame that has waited longest is lost. */
static void give_up(struct nssm_measure *m, uint64_t position)
{
	uint32_t link = link_to(position);
	struct slot *s = at(m, link);
	const uint32_t *found = find(m, s->key_lo, s->key_hi);
	assert(found != NULL);
	uint32_t newest = *found;
	struct slot *n = at(m, newest);
	assert(n->wait == link);
	set_state(s, LOST);
	n->wait = next_waiting(m, link, newest);
	if (link != newest) {
		s->lost = n->lost;
		n->lost = link;
	}
	m->waiting--;
	m->all.lost++;
	m->label[s->label].lost++;
}

/* Makes room for one more. */
static void push_out(struct nssm_measure *m, uint64_t now_ns)
{
	if (m->next < m->window)
		return;
	uint64_t oldest = m->next - m->window;
	if (m->unexpired > oldest)
		return;
	const struct slot *s = at(m, link_to(oldest));
	if (state(s) == WAITING) {
		link_all(m);
		m->extra.overflow += !(now_ns >= sent_ns(s) + m->timeout_ns);
		give_up(m, oldest);
	}
	m->unexpired = oldest + 1;
}

void nssm_measure_expire(struct nssm_measure *m, uint64_t now_ns)
{
	link_all(m);
	for (; m->unexpired < m->next; m->unexpired++) {
		const struct slot *s = at(m, link_to(m->unexpired));
		if (state(s) != WAITING)
			continue;
		if (now_ns < sent_ns(s) + m->timeout_ns)
			return;
		give_up(m, m->unexpired);
	}
}

/* --- frames --- */

void nssm_measure_sent(struct nssm_measure *m, uint8_t *frame, uint32_t len, uint32_t may_overwrite,
        uint32_t label_idx, uint64_t now_ns)
{
	assert(label_idx < m->n_labels);
	struct nssm_view v;
	if (!nssm_view(&v, frame, len))
		return;
	struct nssm_signature sig = {(uint16_t)label_idx, m->sequence[label_idx], now_ns};
	uint64_t key;
	if (m->signature && nssm_signature_put(frame, len, &v, may_overwrite, &sig)) {
		key = nssm_signature_key(&sig, m->secret);
		m->sequence[label_idx]++;
		m->extra.marked++;
	} else {
		key = nssm_view_key(&v, frame, m->secret);
	}
	push_out(m, now_ns);
	struct slot *s = at(m, link_to(m->next));
	*s = (struct slot){.time_state = now_ns << 2 | WAITING,
	        .key_lo = (uint32_t)key,
	        .key_hi = (uint16_t)(key >> 32),
	        .label = (uint16_t)label_idx,
	        .flow = (uint16_t)nssm_view_flow(&v, frame, label_idx, m->secret),
	        .ip_id = v.ip_id};
	__builtin_prefetch(bucket(m, s->key_lo), 1);
	m->next++;
	m->waiting++;
	m->extra.remembered++;
	if (m->next - m->unlinked == NSSM_BURST)
		link_all(m);
}

/* A frame that is looked for. */
struct sought {
	struct nssm_view v;
	bool has_key, marked; /* marked: key is a signature's */
	uint64_t key;
};

static void seek(struct sought *f, const struct nssm_measure *m, const uint8_t *frame, uint32_t len)
{
	struct nssm_signature sig;
	f->has_key = nssm_view(&f->v, frame, len);
	if (!f->has_key)
		return;
	f->marked = m->signature && nssm_signature_get(&sig, frame, &f->v);
	f->key = f->marked ? nssm_signature_key(&sig, m->secret) : nssm_view_key(&f->v, frame, m->secret);
	__builtin_prefetch(bucket(m, (uint32_t)f->key));
}

/* The newest frame that this one may be; 0: none. A signature that is not ours is a payload like any other. */
static uint32_t lookup(const struct nssm_measure *m, struct sought *f, const uint8_t *frame)
{
	const uint32_t *link = find(m, (uint32_t)f->key, (uint16_t)(f->key >> 32));
	if (link == NULL && f->marked) {
		f->marked = false;
		f->key = nssm_view_key(&f->v, frame, m->secret);
		link = find(m, (uint32_t)f->key, (uint16_t)(f->key >> 32));
	}
	return link != NULL ? *link : 0;
}

void nssm_measure_unsent(struct nssm_measure *m, const uint8_t *frame, uint32_t len)
{
	struct sought f;
	link_all(m);
	seek(&f, m, frame, len);
	uint32_t newest = f.has_key ? lookup(m, &f, frame) : 0;
	if (newest == 0 || at(m, newest)->wait == 0)
		return;
	struct slot *n = at(m, newest);
	/* The last that waits. */
	uint32_t last = state(n) == WAITING ? newest : n->wait;
	uint32_t link = last;
	for (int i = 0; i < TAKE_BACK_STEPS && link != newest; i++) {
		link = at(m, link)->link;
		if (state(at(m, link)) == WAITING)
			last = link;
	}
	set_state(at(m, last), DONE);
	if (last == n->wait)
		n->wait = next_waiting(m, last, newest);
	m->waiting--;
	m->extra.remembered--;
	m->extra.marked -= f.marked;
}

static void count_match(struct nssm_measure *m, uint32_t link, uint64_t now_ns)
{
	struct slot *s = at(m, link);
	struct nssm_measure_counters *l = &m->label[s->label];
	uint64_t behind = m->next - age(m, link) + 1, sent = sent_ns(s),
	         ns = now_ns > sent ? now_ns - sent : 0;
	set_state(s, DONE);
	m->all.matched++;
	l->matched++;
	nssm_hist_add(&m->all.latency, ns);
	nssm_hist_add(&l->latency, ns);
	if (behind < m->flow_next[s->flow]) {
		m->all.reordered++;
		l->reordered++;
	} else {
		m->flow_next[s->flow] = behind;
	}
}

static void match_waiting(struct nssm_measure *m, uint32_t newest, uint16_t ip_id, uint64_t now_ns)
{
	struct slot *n = at(m, newest);
	uint32_t first = n->wait, link = first;
	/* Steps are counted, not frames that wait: behind one that was lost, all may have come. */
	for (int i = 0; state(at(m, link)) != WAITING || at(m, link)->ip_id != ip_id; i++) {
		if (i == SAME_ID_STEPS || link == newest) {
			link = first;
			break;
		}
		link = at(m, link)->link;
	}
	if (link == first)
		n->wait = next_waiting(m, first, newest);
	count_match(m, link, now_ns);
	m->waiting--;
}

/* The last of those that were given up: it is the least late. */
static void match_lost(struct nssm_measure *m, uint32_t newest, uint32_t link, uint64_t now_ns)
{
	struct slot *s = at(m, link);
	if (link != newest)
		at(m, newest)->lost = s->lost;
	m->all.lost--;
	m->label[s->label].lost--;
	m->extra.late++;
	count_match(m, link, now_ns);
}

static bool match(struct nssm_measure *m, struct sought *f, const uint8_t *frame, uint64_t now_ns)
{
	uint32_t newest = lookup(m, f, frame);
	if (newest == 0) {
		m->all.unmatched++;
		return false;
	}
	const struct slot *n = at(m, newest);
	uint32_t lost = state(n) == LOST ? newest : n->lost;
	if (n->wait != 0) {
		match_waiting(m, newest, f->v.ip_id, now_ns);
		return true;
	}
	if (live(m, lost)) {
		match_lost(m, newest, lost, now_ns);
		return true;
	}
	m->all.duplicate++;
	m->label[n->label].duplicate++;
	return false;
}

bool nssm_measure_received(struct nssm_measure *m, const uint8_t *frame, uint32_t len, uint64_t now_ns)
{
	return nssm_measure_received_burst(m, &frame, &len, 1, now_ns) == 1;
}

uint32_t nssm_measure_received_burst(
        struct nssm_measure *m, const uint8_t *const *frame, const uint32_t *len, uint32_t n, uint64_t now_ns)
{
	struct sought f[NSSM_BURST];
	assert(n <= NSSM_BURST);
	uint32_t n_matched = 0;
	link_all(m);
	for (uint32_t i = 0; i < n; i++)
		seek(&f[i], m, frame[i], len[i]);
	for (uint32_t i = 0; i < n; i++)
		if (f[i].has_key)
			prefetch_newest(m, (uint32_t)f[i].key);
	for (uint32_t i = 0; i < n; i++)
		n_matched += f[i].has_key && match(m, &f[i], frame[i], now_ns);
	return n_matched;
}

uint64_t nssm_measure_waiting(const struct nssm_measure *m)
{
	return m->waiting;
}

const struct nssm_measure_counters *nssm_measure_all(const struct nssm_measure *m)
{
	return &m->all;
}

const struct nssm_measure_counters *nssm_measure_label(const struct nssm_measure *m, uint32_t label_idx)
{
	assert(label_idx < m->n_labels);
	return &m->label[label_idx];
}

const struct nssm_measure_extra *nssm_measure_extra(const struct nssm_measure *m)
{
	return &m->extra;
}

/* --- open and close --- */

/* Places in it are looked up at random: with 4 KiB pages each look-up would also miss the TLB. */
static void *alloc_huge(size_t bytes)
{
	if (bytes < HUGE_PAGE)
		return malloc(bytes);
	void *p = aligned_alloc(HUGE_PAGE, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
	if (p != NULL)
		(void)madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

static bool alloc_all(struct nssm_measure *m)
{
	size_t n_slots = (size_t)m->mask + 1, n_buckets = (size_t)m->bucket_mask + 1;
	m->slots = alloc_huge(n_slots * sizeof *m->slots);
	m->buckets = alloc_huge(n_buckets * sizeof *m->buckets);
	m->flow_next = calloc(FLOWS, sizeof *m->flow_next);
	m->sequence = calloc(m->n_labels, sizeof *m->sequence);
	m->label = calloc(m->n_labels, sizeof *m->label);
	if (m->slots == NULL || m->buckets == NULL || m->flow_next == NULL || m->sequence == NULL ||
	        m->label == NULL)
		return false;
	memset(m->buckets, 0, n_buckets * sizeof *m->buckets);
	return true;
}

int nssm_measure_open(struct nssm_measure **mp, const struct nssm_measure_cfg *cfg, struct nssm_err *err)
{
	*mp = NULL;
	if (cfg->n_labels > NSSM_MEASURE_LABELS_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "measuring %u labels: at most %u", cfg->n_labels,
		        NSSM_MEASURE_LABELS_MAX);
	if (cfg->window_max > NSSM_MEASURE_WINDOW_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "measuring a window of %u frames: at most %u",
		        cfg->window_max, NSSM_MEASURE_WINDOW_MAX);
	struct nssm_measure *m = calloc(1, sizeof *m);
	if (m == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for measuring");
	m->signature = cfg->signature;
	m->n_labels = cfg->n_labels > 0 ? cfg->n_labels : 1;
	m->window = cfg->window_max > 0 ? cfg->window_max : WINDOW_DEFAULT;
	m->timeout_ns = cfg->timeout_ns > 0 ? cfg->timeout_ns : TIMEOUT_DEFAULT_NS;
	if (m->timeout_ns > TIMEOUT_MAX_NS)
		m->timeout_ns = TIMEOUT_MAX_NS;
	while (m->mask + 1 < m->window)
		m->mask = 2 * m->mask + 1;
	m->bucket_mask = 2 * m->mask + 1;
	/* Without entropy the secret is a constant: slower against a capture made to be slow, and nothing else. */
	if (getrandom(m->secret, sizeof m->secret, GRND_NONBLOCK) != (ssize_t)sizeof m->secret)
		memcpy(m->secret,
		        (uint64_t[]){0xa0761d6478bd642full, 0xe7037ed1a0b428dbull, 0x8ebc6af09c88c6e3ull,
		                0x589965cc75374cc3ull},
		        sizeof m->secret);
	if (!alloc_all(m)) {
		nssm_measure_close(&m);
		return nssm_err_set(err, NSSM_ENOMEM,
		        "no memory for measuring a window of %u frames and %u labels", cfg->window_max,
		        cfg->n_labels);
	}
	*mp = m;
	return 0;
}

void nssm_measure_close(struct nssm_measure **m)
{
	if (*m == NULL)
		return;
	free((*m)->slots);
	free((*m)->buckets);
	free((*m)->flow_next);
	free((*m)->sequence);
	free((*m)->label);
	free(*m);
	*m = NULL;
}
