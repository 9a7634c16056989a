/* The wheel against a sorted model: whatever is added when, what comes out is the least (due, tie, id) of what is in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/philox.h"
#include "replay/wheel.h"

static struct nssm_err err;

/* --- the model: a binary search tree in arrays, whose order is checked by walking it ------------------------- */

/* A treap: its priorities are random, so no order of adding makes it deep. */
struct node {
	uint64_t due, tie;
	uint32_t prio, left, right; /* ids + 1; 0: none */
};
struct model {
	struct node *node; /* by id */
	uint32_t root, n;
	struct nssm_rng rng;
};

static bool less(const struct model *m, uint32_t a, uint32_t b)
{
	const struct node *x = &m->node[a], *y = &m->node[b];
	return x->due != y->due ? x->due < y->due : x->tie != y->tie ? x->tie < y->tie : a < b;
}

static uint32_t insert(struct model *m, uint32_t t, uint32_t id)
{
	if (t == 0)
		return id + 1;
	struct node *p = &m->node[t - 1];
	if (less(m, id, t - 1)) {
		uint32_t c = p->left = insert(m, p->left, id);
		if (m->node[c - 1].prio > p->prio) {
			p->left = m->node[c - 1].right;
			m->node[c - 1].right = t;
			return c;
		}
	} else {
		uint32_t c = p->right = insert(m, p->right, id);
		if (m->node[c - 1].prio > p->prio) {
			p->right = m->node[c - 1].left;
			m->node[c - 1].left = t;
			return c;
		}
	}
	return t;
}

static void model_add(struct model *m, uint32_t id, uint64_t due, uint64_t tie)
{
	m->node[id] = (struct node){.due = due, .tie = tie, .prio = nssm_rng_u32(&m->rng)};
	m->root = insert(m, m->root, id);
	m->n++;
}

static uint32_t model_pop(struct model *m)
{
	uint32_t *at = &m->root;
	while (m->node[*at - 1].left != 0)
		at = &m->node[*at - 1].left;
	uint32_t id = *at - 1;
	*at = m->node[id].right;
	m->n--;
	return id;
}

/* --- both at once ---------------------------------------------------------------------------------------------- */

struct pair {
	struct nssm_wheel *w;
	struct model m;
	uint32_t n_max;
	uint32_t *idle, n_idle; /* ids that are in neither */
	struct nssm_rng rng;
	uint64_t now; /* due of the last one out */
};

static void pair_open(struct pair *p, uint32_t n_max, uint64_t seed)
{
	*p = (struct pair){.n_max = n_max, .n_idle = n_max};
	assert_int_equal(nssm_wheel_open(&p->w, n_max, &err), 0);
	p->m.node = calloc(n_max, sizeof *p->m.node);
	p->idle = calloc(n_max, sizeof *p->idle);
	assert_true(p->m.node != NULL && p->idle != NULL);
	for (uint32_t i = 0; i < n_max; i++)
		p->idle[i] = n_max - 1 - i;
	nssm_rng_init(&p->rng, seed, 0, 1);
	nssm_rng_init(&p->m.rng, seed, 0, 2);
}

static void pair_close(struct pair *p)
{
	nssm_wheel_close(&p->w);
	assert_null(p->w);
	free(p->m.node);
	free(p->idle);
}

static void pair_add(struct pair *p, uint64_t due, uint64_t tie)
{
	uint32_t id = p->idle[--p->n_idle];
	nssm_wheel_add(p->w, id, due, tie);
	model_add(&p->m, id, due, tie);
	assert_int_equal(nssm_wheel_count(p->w), p->m.n);
}

static void pair_peek(struct pair *p)
{
	uint32_t id, first = 0;
	uint64_t due;
	if (p->m.n == 0) {
		assert_false(nssm_wheel_peek(p->w, &id, &due));
		return;
	}
	for (uint32_t t = p->m.root; t != 0; t = p->m.node[t - 1].left)
		first = t - 1;
	assert_true(nssm_wheel_peek(p->w, &id, &due));
	assert_int_equal(id, first);
	assert_int_equal(due, p->m.node[first].due);
}

static void pair_pop(struct pair *p)
{
	pair_peek(p);
	nssm_wheel_pop(p->w);
	uint32_t id = model_pop(&p->m);
	p->now = p->m.node[id].due;
	p->idle[p->n_idle++] = id;
	assert_int_equal(nssm_wheel_count(p->w), p->m.n);
}

static void pair_drain(struct pair *p)
{
	while (p->m.n > 0)
		pair_pop(p);
	pair_peek(p);
}

static uint64_t rnd(struct pair *p)
{
	uint64_t hi = nssm_rng_u32(&p->rng);
	return hi << 32 | nssm_rng_u32(&p->rng);
}

/* A gap of up to 2^bits ns. */
static uint64_t gap(struct pair *p, unsigned bits)
{
	return bits == 0 ? 0 : rnd(p) >> (64 - bits);
}

/* --- tests ------------------------------------------------------------------------------------------------------ */

static void test_empty(void **unused)
{
	struct pair p;
	pair_open(&p, 1, 1);
	pair_peek(&p);
	for (unsigned bits = 0; bits <= 64; bits += 4) {
		pair_add(&p, bits == 0 ? 0 : UINT64_MAX >> (64 - bits), 7);
		pair_pop(&p);
		pair_peek(&p);
	}
	pair_close(&p);
	nssm_wheel_close(&p.w);
}

/* Steady: each cursor that comes out goes in again after a random gap; of every length at once, so every level is used. */
static void test_random(void **unused)
{
	static const unsigned bits[] = {4, 12, 18, 22, 28, 33, 41, 52};
	for (size_t b = 0; b < sizeof bits / sizeof *bits; b++) {
		struct pair p;
		pair_open(&p, 3000, 10 + b);
		for (uint32_t i = 0; i < p.n_max; i++)
			pair_add(&p, gap(&p, bits[b]), i % 5);
		for (uint32_t i = 0; i < 50000; i++) {
			pair_pop(&p);
			pair_add(&p, p.now + gap(&p, 1 + (unsigned)(rnd(&p) % bits[b])), rnd(&p) % 5);
		}
		pair_drain(&p);
		pair_close(&p);
	}
}

/* Adds and pops in bursts, gaps from 0 to 2^61 ns, some before the last one out; looks between that must not disturb. */
static void test_bursts(void **unused)
{
	struct pair p;
	pair_open(&p, 20000, 20);
	for (uint32_t ops = 0; ops < 1000000;) {
		uint32_t n = nssm_rng_below(&p.rng, 400);
		unsigned bits = nssm_rng_below(&p.rng, 62), back = nssm_rng_below(&p.rng, 8);
		bool in = nssm_rng_below(&p.rng, 2) == 0;
		if (p.now > 1ull << 62) { /* begin anew: time may go back when all are out */
			pair_drain(&p);
			p.now = 0;
		}
		for (uint32_t i = 0; i < n; i++, ops++) {
			uint64_t g = gap(&p, bits);
			if (in && p.n_idle > 0)
				pair_add(&p, back == 0 && g < p.now ? p.now - g : p.now + g, rnd(&p) % 100);
			else if (!in && p.m.n > 0)
				pair_pop(&p);
			else
				break;
			if (i % 16 == 0)
				pair_peek(&p);
		}
	}
	pair_drain(&p);
	pair_close(&p);
}

/* All due at one instant, with ties in every order, and coming back there: nothing may become quadratic. */
static void test_one_instant(void **unused)
{
	enum { N = 100000 };
	for (int order = 0; order < 4; order++) {
		struct pair p;
		pair_open(&p, N, 30);
		for (uint32_t i = 0; i < N; i++)
			pair_add(&p, 0, order == 0 ? i : order == 1 ? N - i : order == 2 ? 5 : rnd(&p));
		for (uint32_t i = 0; i < N; i++) {
			pair_pop(&p);
			pair_add(&p, 0, order == 0 ? N + i : order == 1 ? 0 : order == 2 ? 5 : rnd(&p));
		}
		pair_drain(&p);
		pair_close(&p);
	}
}

static void test_orders(void **unused)
{
	enum { N = 50000 };
	static const uint64_t step[] = {1, 100, 1023, 1024, 1025, 1 << 20, 12345678, 1ull << 30, 1ull << 46};
	for (size_t s = 0; s < sizeof step / sizeof *step; s++) {
		struct pair p;
		pair_open(&p, N, 40);
		for (uint32_t i = 0; i < N; i++) /* descending, with a look at each new first one */
			pair_add(&p, (N - i) * step[s], i);
		pair_drain(&p);
		for (uint32_t i = 0; i < N; i++) { /* descending, all before the last one out */
			pair_add(&p, (N - i) * step[s], i);
			if (i % 8 == 0)
				pair_peek(&p);
		}
		pair_drain(&p);
		for (uint32_t i = 0; i < N; i++)
			pair_add(&p, N * step[s] + i * step[s], i);
		pair_drain(&p);
		pair_close(&p);
	}
}

/* At the borders of ticks, slots and stretches, to either side, from every distance. */
static void test_borders(void **unused)
{
	struct pair p;
	pair_open(&p, 4096, 50);
	for (unsigned from = 0; from < 62; from += 3) {
		pair_add(&p, 1ull << from, 0);
		pair_drain(&p);
		for (unsigned b = 9; b < 63; b++)
			for (int d = -2; d <= 2; d++) {
				uint64_t border = ((p.now >> b) + 1 + rnd(&p) % 3) << b;
				pair_add(&p, border + (uint64_t)(int64_t)d, rnd(&p) % 3);
			}
		for (uint32_t i = 0; i < 200; i++)
			pair_pop(&p);
		pair_add(&p, UINT64_MAX - rnd(&p) % 3, 1);
		pair_add(&p, UINT64_MAX, 0);
		pair_drain(&p);
	}
	pair_close(&p);
}

/* Slots with one entry each over all levels need the most blocks; filling up to n_max must not run out of them. */
static void test_scattered(void **unused)
{
	enum { N = 20000 };
	struct pair p;
	pair_open(&p, N, 60);
	for (uint32_t i = 0; i < N; i++) {
		unsigned level = i % 5;
		uint64_t slot = 2 + i / 5 % 2046;
		pair_add(&p, (slot << (10 + 10 * level)) + gap(&p, 10), i);
	}
	for (uint32_t i = 0; i < 200000; i++) {
		pair_pop(&p);
		unsigned level = nssm_rng_below(&p.rng, 5);
		pair_add(&p, p.now + ((uint64_t)nssm_rng_below(&p.rng, 2047) << (10 + 10 * level)), i);
		if (p.now > 1ull << 61)
			break;
	}
	pair_drain(&p);
	pair_close(&p);
}

/* A look at what is far off must not send what is added before it through the heap; it must come out first all the same. */
static void test_far_look(void **unused)
{
	struct pair p;
	pair_open(&p, 10000, 70);
	pair_add(&p, 3600ull * 1000000000, 1);
	pair_peek(&p);
	for (uint32_t i = 0; i < 5000; i++)
		pair_add(&p, 1000000 + gap(&p, 30), i);
	for (uint32_t i = 0; i < 100000; i++) {
		pair_pop(&p);
		pair_add(&p, p.now + gap(&p, 20 + i % 12), 0);
		pair_peek(&p);
		if (p.n_idle > 0 && i % 100 == 0) /* nearer than all that are there */
			pair_add(&p, p.now, 0);
	}
	pair_drain(&p);
	/* Two of them, one added while the other is being looked at, in the same tick. */
	pair_add(&p, p.now + 5000000000, 9);
	pair_peek(&p);
	pair_add(&p, p.now + 5000000000, 8);
	pair_peek(&p);
	pair_add(&p, p.now + 500, 3);
	pair_add(&p, p.now + 1500000, 3);
	pair_add(&p, p.now, 3);
	pair_drain(&p);
	pair_close(&p);
}

static void test_ahead(void **unused)
{
	struct nssm_wheel *w;
	assert_int_equal(nssm_wheel_open(&w, 1000, &err), 0);
	for (uint32_t i = 0; i < 1000; i++)
		nssm_wheel_add(w, i, 1000 + 50 * (uint64_t)i, 0);
	uint32_t ids[16], id;
	uint64_t due;
	for (uint32_t i = 0; i < 1000; i++) {
		assert_true(nssm_wheel_peek(w, &id, &due));
		assert_int_equal(id, i);
		uint32_t n = nssm_wheel_ahead(w, ids, 15), want = 999 - i < 15 ? 999 - i : 15;
		assert_int_equal(n, want);
		for (uint32_t k = 0; k < n; k++)
			assert_int_equal(ids[k], i + 1 + k);
		nssm_wheel_pop(w);
	}
	assert_false(nssm_wheel_peek(w, &id, &due));
	assert_int_equal(nssm_wheel_ahead(w, ids, 16), 0);
	nssm_wheel_close(&w);
}

static void test_no_memory(void **unused)
{
#ifdef __SANITIZE_ADDRESS__
	skip(); /* it needs more addresses than the limit */
#endif
	struct nssm_wheel *w = (struct nssm_wheel *)&err;
	struct rlimit old, low;
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	low = (struct rlimit){.rlim_cur = 64u << 20, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_AS, &low), 0);
	int rc = nssm_wheel_open(&w, 1000000, &err);
	assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
	assert_int_equal(rc, NSSM_ENOMEM);
	assert_null(w);
	assert_non_null(strstr(err.msg, "1000000 cursors"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_empty),
	        cmocka_unit_test(test_random),
	        cmocka_unit_test(test_bursts),
	        cmocka_unit_test(test_one_instant),
	        cmocka_unit_test(test_orders),
	        cmocka_unit_test(test_borders),
	        cmocka_unit_test(test_scattered),
	        cmocka_unit_test(test_far_look),
	        cmocka_unit_test(test_ahead),
	        cmocka_unit_test(test_no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
