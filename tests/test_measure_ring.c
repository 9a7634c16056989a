/* Measuring against a plain model of it, from any position of the ring on: random frames sent, lost, repeated, late, taken
 * back. The module itself is included, so that its position can be set to where the counters of links wrap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/philox.h"
#include "measure_frames.h"
#include "replay/measure.c"

#define TIMEOUT 1000ull

enum { N_OPS = 25000, N_LABELS = 3 };

/* All frames ever sent. */
struct plain {
	uint32_t what;
	uint16_t id;
	uint32_t label;
	uint64_t sent_ns;
	enum state state;
};

struct model {
	struct plain *sent;
	uint32_t n, unexpired, window;
	struct nssm_measure_counters all, label[N_LABELS];
	struct nssm_measure_extra extra;
	uint64_t waiting;
	uint32_t highest[N_LABELS]; /* one flow a label */
};

static void model_lose(struct model *p, uint32_t i)
{
	p->sent[i].state = LOST;
	p->waiting--;
	p->all.lost++;
	p->label[p->sent[i].label].lost++;
}

static void model_sent(struct model *p, uint32_t what, uint16_t id, uint32_t label, uint64_t now)
{
	if (p->n >= p->window && p->unexpired <= p->n - p->window) {
		struct plain *s = &p->sent[p->n - p->window];
		if (s->state == WAITING) {
			p->extra.overflow += now < s->sent_ns + TIMEOUT;
			model_lose(p, p->n - p->window);
		}
		p->unexpired = p->n - p->window + 1;
	}
	p->sent[p->n++] = (struct plain){what, id, label, now, WAITING};
	p->waiting++;
	p->extra.remembered++;
}

static void model_expire(struct model *p, uint64_t now)
{
	for (; p->unexpired < p->n; p->unexpired++) {
		struct plain *s = &p->sent[p->unexpired];
		if (s->state != WAITING)
			continue;
		if (now < s->sent_ns + TIMEOUT)
			return;
		model_lose(p, p->unexpired);
	}
}

static uint32_t model_first(const struct model *p)
{
	return p->n > p->window ? p->n - p->window : 0;
}

static void model_match(struct model *p, uint32_t i)
{
	struct plain *s = &p->sent[i];
	bool behind = i + 1 < p->highest[s->label];
	s->state = DONE;
	p->all.matched++;
	p->label[s->label].matched++;
	p->all.reordered += behind;
	p->label[s->label].reordered += behind;
	if (!behind)
		p->highest[s->label] = i + 1;
}

static bool model_received(struct model *p, uint32_t what, uint16_t id)
{
	enum { NONE = UINT32_MAX };
	uint32_t first = NONE, same_id = NONE, lost = NONE, newest = NONE;
	int steps = 0; /* from the first that waits */
	for (uint32_t i = model_first(p); i < p->n; i++) {
		const struct plain *s = &p->sent[i];
		if (s->what != what)
			continue;
		newest = i;
		if (s->state == LOST)
			lost = i;
		if (s->state == WAITING && first == NONE)
			first = i;
		if (first != NONE && steps++ <= SAME_ID_STEPS && s->state == WAITING && s->id == id &&
		        same_id == NONE)
			same_id = i;
	}
	if (first != NONE) {
		p->waiting--;
		model_match(p, same_id != NONE ? same_id : first);
		return true;
	}
	if (lost != NONE) {
		p->all.lost--;
		p->label[p->sent[lost].label].lost--;
		p->extra.late++;
		model_match(p, lost);
		return true;
	}
	if (newest != NONE) {
		p->all.duplicate++;
		p->label[p->sent[newest].label].duplicate++;
	} else {
		p->all.unmatched++;
	}
	return false;
}

static void model_unsent(struct model *p, uint32_t what)
{
	for (uint32_t i = p->n; i-- > model_first(p);) {
		if (p->sent[i].what != what || p->sent[i].state != WAITING)
			continue;
		p->sent[i].state = DONE;
		p->waiting--;
		p->extra.remembered--;
		return;
	}
}

static void same_counters(
        const struct nssm_measure_counters *got, const struct nssm_measure_counters *want, bool reordered)
{
	assert_int_equal(got->matched, want->matched);
	assert_int_equal(got->lost, want->lost);
	assert_int_equal(got->duplicate, want->duplicate);
	assert_int_equal(got->unmatched, want->unmatched);
	assert_int_equal(got->latency.count, want->matched);
	if (reordered)
		assert_int_equal(got->reordered, want->reordered);
}

/* The label follows from the content, and a flow has one label only. */
static struct frame content(uint32_t what, uint16_t id)
{
	struct spec s = {.ip = 4,
	        .proto = TCP,
	        .flags = ACK,
	        .seq = what,
	        .id = id,
	        .n_payload = what % 3 * 40,
	        .src = (uint8_t)(1 + what % N_LABELS)};
	return make(&s);
}

/* n_whats: how many contents there are; few of them: long queues of the same. */
static void stress(uint64_t start, uint32_t window, uint32_t n_whats, uint32_t n_ids, uint64_t seed)
{
	const struct nssm_measure_cfg cfg = {
	        .n_labels = N_LABELS, .window_max = window, .timeout_ns = TIMEOUT};
	struct nssm_measure *m;
	struct nssm_err err;
	assert_int_equal(nssm_measure_open(&m, &cfg, &err), 0);
	m->next = m->unlinked = m->unexpired = start;
	/* The three flows, once in 20,000 times, share a place: then their order cannot be compared. */
	bool apart = true;
	uint16_t flow[N_LABELS];
	for (uint32_t i = 0; i < N_LABELS; i++) {
		struct frame f = content(i, 0);
		struct nssm_view v;
		assert_true(nssm_view(&v, f.data, f.len));
		flow[i] = (uint16_t)nssm_view_flow(&v, f.data, i, m->secret);
		for (uint32_t k = 0; k < i; k++)
			apart = apart && flow[k] != flow[i];
	}
	struct model p = {.window = window, .sent = calloc((size_t)N_OPS * NSSM_BURST, sizeof *p.sent)};
	assert_non_null(p.sent);
	struct nssm_rng rng;
	nssm_rng_init(&rng, seed, start, 1);
	uint64_t now = 1;
	for (int op = 0; op < N_OPS; op++) {
		now += nssm_rng_below(&rng, 20);
		uint32_t kind = nssm_rng_below(&rng, 100),
		         n = nssm_rng_below(&rng, 20) == 0 ? 1 + nssm_rng_below(&rng, 32) : 1;
		uint32_t what[NSSM_BURST], matched = 0;
		uint16_t id[NSSM_BURST];
		struct frame f[NSSM_BURST];
		const uint8_t *data[NSSM_BURST];
		uint32_t len[NSSM_BURST];
		for (uint32_t i = 0; i < n; i++) {
			what[i] = nssm_rng_below(&rng, n_whats);
			id[i] = (uint16_t)nssm_rng_below(&rng, n_ids);
			f[i] = content(what[i], id[i]);
			data[i] = f[i].data;
			len[i] = f[i].len;
		}
		for (uint32_t i = 0; i < n; i++) {
			uint32_t label = what[i] % N_LABELS;
			if (kind < 50) {
				nssm_measure_sent(m, f[i].data, f[i].len, 0, label, now);
				model_sent(&p, what[i], id[i], label, now);
			} else if (kind < 94) {
				matched += model_received(&p, what[i], id[i]);
			} else if (kind < 97) {
				nssm_measure_unsent(m, f[i].data, f[i].len);
				model_unsent(&p, what[i]);
			}
		}
		if (kind >= 50 && kind < 94 && n == 1)
			assert_int_equal(nssm_measure_received(m, data[0], len[0], now), matched);
		else if (kind >= 50 && kind < 94)
			assert_int_equal(nssm_measure_received_burst(m, data, len, n, now), matched);
		if (kind >= 97) {
			nssm_measure_expire(m, now);
			model_expire(&p, now);
		}
		assert_int_equal(m->waiting, p.waiting);
	}
	for (int last = 0; last < 2; last++) {
		same_counters(&m->all, &p.all, apart);
		for (uint32_t i = 0; i < N_LABELS; i++)
			same_counters(&m->label[i], &p.label[i], apart);
		assert_memory_equal(&m->extra, &p.extra, sizeof p.extra);
		assert_int_equal(p.extra.remembered, p.all.matched + p.all.lost + p.waiting);
		nssm_measure_expire(m, UINT64_MAX);
		model_expire(&p, UINT64_MAX);
	}
	assert_int_equal(m->waiting, 0);
	assert_true(p.all.matched > 1000);
	free(p.sent);
	nssm_measure_close(&m);
}

static void test_stress(void **state)
{
	(void)state;
	static const uint64_t starts[] = {
	        0, 5, (1ull << 31) - 20000, (1ull << 32) - 20000, (3ull << 31) - 40, 1ull << 40};
	for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
		stress(starts[i], 64, 100, 3, 1);
		stress(starts[i], 100, 3, 2, 2);
		stress(starts[i], 61, 1, 40000, 3);
		stress(starts[i], 1000, 400, 1, 4);
		stress(starts[i], 1, 2, 2, 5);
		stress(starts[i], 2, 3, 2, 6);
	}
}

/* Buckets whose links are older than 2^31 frames: they look alive again, and nothing of theirs may be found. */
static void test_links_come_round(void **state)
{
	(void)state;
	const struct nssm_measure_cfg cfg = {.n_labels = 1, .window_max = 32, .timeout_ns = TIMEOUT};
	struct nssm_measure *m;
	struct nssm_err err;
	assert_int_equal(nssm_measure_open(&m, &cfg, &err), 0);
	for (int round = 0; round < 50; round++) {
		for (uint32_t i = 0; i < 32; i++) {
			struct frame f = content(i, 0);
			nssm_measure_sent(m, f.data, f.len, 0, 0, 1);
		}
		/* As if 2^31 frames of other buckets had come and gone. */
		nssm_measure_expire(m, UINT64_MAX);
		m->next = m->unlinked = m->unexpired = m->next + (1ull << 31) - 32;
		uint64_t before = m->all.unmatched, lost = m->all.lost;
		for (uint32_t i = 1000; i < 1032; i++) {
			struct frame f = content(i, 0);
			nssm_measure_sent(m, f.data, f.len, 0, 0, 2);
		}
		for (uint32_t i = 0; i < 32; i++) {
			struct frame f = content(i, 0);
			assert_false(nssm_measure_received(m, f.data, f.len, 3));
		}
		assert_int_equal(m->all.unmatched, before + 32);
		for (uint32_t i = 1000; i < 1032; i++) {
			struct frame f = content(i, 0);
			assert_true(nssm_measure_received(m, f.data, f.len, 3));
		}
		assert_int_equal(m->all.lost, lost);
	}
	nssm_measure_close(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_stress), cmocka_unit_test(test_links_come_round)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
