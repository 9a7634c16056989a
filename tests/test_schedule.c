/* When packets are due: 30 days of every kind of rate against 128-bit arithmetic from the start and against Python's fractions;
 * ramps, caps, shares, changes while it runs, pauses, loops; and the text of rates. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "replay/schedule.h"

__extension__ typedef unsigned __int128 u128;

#define S  1000000000ull
#define MS 1000000ull

static struct nssm_err err;
static const uint32_t SIZES[7] = {60, 1514, 576, 40, 9014, 1518, 66}; /* as in golden/schedule.py */

static struct nssm_sched sched(enum nssm_rate_kind kind, uint64_t num, uint64_t den)
{
	struct nssm_sched s = {0};
	assert_int_equal(nssm_sched_init(&s, &(struct nssm_rate){kind, num, den}, &err), 0);
	return s;
}

static struct nssm_sched capped(
        enum nssm_rate_kind kind, uint64_t num, uint64_t den, uint64_t max_pps, uint64_t max_bps)
{
	struct nssm_sched s = {.max_pps = max_pps, .max_bps = max_bps};
	assert_int_equal(nssm_sched_init(&s, &(struct nssm_rate){kind, num, den}, &err), 0);
	return s;
}

static void change(struct nssm_sched *s, enum nssm_rate_kind kind, uint64_t num, uint64_t den, uint64_t now,
        uint64_t stream)
{
	assert_int_equal(nssm_sched_change(s, &(struct nssm_rate){kind, num, den}, now, stream, &err), 0);
}

/* --- exactness --------------------------------------------------------------------------------------------------- */

struct direct {
	u128 a, b; /* ns a unit */
	uint64_t bytes_extra;
	bool by_bytes;
};

static struct direct direct_of(const struct nssm_sched *s)
{
	const struct nssm_rate *r = &s->rate;
	uint64_t share_num = s->share_den != 0 ? s->share_num : 1,
	         share_den = s->share_den != 0 ? s->share_den : 1;
	struct direct d = {.a = r->den, .b = r->num};
	if (r->kind == NSSM_RATE_SPEED)
		return d;
	d.a *= S * share_den;
	d.b *= share_num;
	if (r->kind == NSSM_RATE_PPS)
		return d;
	d.by_bytes = true;
	d.bytes_extra = r->kind == NSSM_RATE_BPS_L2 ? 4 : 24;
	d.a *= 8;
	if (r->kind == NSSM_RATE_PERCENT)
		d.b *= s->line_bps;
	return d;
}

/* Position of packet n whose wire lengths go through SIZES: all from n, nothing carried on. */
static u128 position(const struct direct *d, enum nssm_rate_kind kind, uint64_t n, uint64_t stream_ns)
{
	if (kind == NSSM_RATE_SPEED)
		return stream_ns;
	if (!d->by_bytes)
		return n;
	uint64_t sum[8] = {0};
	for (int i = 0; i < 7; i++)
		sum[i + 1] = sum[i] + (SIZES[i] < 60 ? 60 : SIZES[i]) + d->bytes_extra;
	return (u128)(n / 7) * sum[7] + sum[n % 7];
}

/* due is floor(sqrt(2*ramp*w)) or floor(w + ramp/2) for w = pos*a/b. */
static bool ramp_is(uint64_t due, uint64_t ramp, const struct direct *d, u128 pos)
{
	u128 w = pos * d->a;
	if (2 * w >= ramp * d->b)
		return due == (uint64_t)((2 * w + ramp * d->b) / (2 * d->b));
	/* t^2 <= x is the same as t^2 <= floor(x) */
	u128 x = 2 * ramp * w / d->b;
	return (u128)due * due <= x && (u128)(due + 1) * (due + 1) > x;
}

struct golden {
	FILE *f;
	char line[256];
};

static bool golden_line(struct golden *g)
{
	return fgets(g->line, sizeof g->line, g->f) != NULL;
}

static void golden_case(struct golden *g)
{
	unsigned kind;
	uint64_t num, den, step, n = 0, last = 0, at, want;
	struct nssm_sched s = {0};
	assert_int_equal(
	        sscanf(g->line,
	                "case %u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
	                " %" SCNu64,
	                &kind, &num, &den, &s.share_num, &s.share_den, &s.line_bps, &s.ramp_ns, &step),
	        8);
	assert_int_equal(
	        nssm_sched_init(&s, &(struct nssm_rate){(enum nssm_rate_kind)kind, num, den}, &err), 0);
	struct direct d = direct_of(&s);
	uint64_t ramp = s.ramp_ns;
	/* Of the ramps that do not fit 128 bits here only what Python wrote is compared. */
	bool ramp_fits = d.b < 1ull << 40;
	int n_checked = 0;
	while (golden_line(g) && sscanf(g->line, "%" SCNu64 " %" SCNu64, &at, &want) == 2) {
		for (; n <= at; n++) {
			uint64_t stream = n * step + n % 3, look = nssm_sched_peek(&s, stream);
			uint64_t due = nssm_sched_next(&s, stream, SIZES[n % 7]);
			u128 pos = position(&d, s.rate.kind, n, stream);
			if (due < last || look != due || (ramp == 0 && due != (uint64_t)(pos * d.a / d.b)) ||
			        (ramp != 0 && ramp_fits && !ramp_is(due, ramp, &d, pos)))
				fail_msg("kind %u rate %" PRIu64 "/%" PRIu64 " packet %" PRIu64
				         " due %" PRIu64,
				        kind, num, den, n, due);
			last = due;
		}
		if (last != want)
			fail_msg("kind %u rate %" PRIu64 "/%" PRIu64 " packet %" PRIu64 " due %" PRIu64
			         ", golden %" PRIu64,
			        kind, num, den, at, last, want);
		n_checked++;
	}
	assert_true(n_checked >= 40);
	assert_true(last >= 30 * 86400 * S);
}

/* Every packet of 30 days. */
static void test_30_days(void **unused)
{
	struct golden g = {.f = fopen("golden/schedule.txt", "r")};
	int cases = 0;
	assert_non_null(g.f);
	assert_true(golden_line(&g));
	for (; !feof(g.f); cases++)
		golden_case(&g);
	assert_int_equal(cases, 23);
	fclose(g.f);
}

/* At high rates the remainder comes back to where it was after a whole period, with nothing else changed but the time: so periods
 * may be left out, and every packet of the first and of the 30th day's last seconds is compared. */
static void test_high_rates(void **unused)
{
	static const struct {
		enum nssm_rate_kind kind;
		uint64_t num, den, share_num, share_den, line_bps, period;
	} c[] = {
	        {NSSM_RATE_PPS, 14880000, 1, 0, 0, 0, 93},
	        {NSSM_RATE_PPS, 3000000, 1, 1, 7, 0, 3},
	        {NSSM_RATE_PPS, 1488095, 1, 0, 0, 0, 297619},
	        {NSSM_RATE_PPS, 100000000, 3, 5, 11, 0, 50},
	        {NSSM_RATE_BPS_L2, 1200000000, 1, 0, 0, 0, 21},
	        {NSSM_RATE_BPS_L1, 999900000, 1, 2, 3, 0, 7 * 3333},
	        {NSSM_RATE_BPS_L2, 97000000007, 1, 0, 0, 0, 0},
	        {NSSM_RATE_PERCENT, 4, 5, 0, 0, 25 * S, 35},
	        {NSSM_RATE_PERCENT, 1, 3, 1, 2, 100 * S, 175},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct nssm_sched s = {
		        .share_num = c[i].share_num, .share_den = c[i].share_den, .line_bps = c[i].line_bps};
		assert_int_equal(
		        nssm_sched_init(&s, &(struct nssm_rate){c[i].kind, c[i].num, c[i].den}, &err), 0);
		struct direct d = direct_of(&s);
		struct nssm_sched_clock begin = s.work;
		uint64_t n = 0, last = 0;
		for (int part = 0; part < 2; part++) {
			for (uint64_t end = n + 400000; n < end; n++) {
				if (n == c[i].period && n > 0) { /* never in the second part */
					assert_int_equal(s.work.rem, begin.rem);
					begin.ns = s.work.ns - begin.ns; /* a period's length */
				}
				uint64_t due = nssm_sched_next(&s, 0, SIZES[n % 7]);
				if (due < last ||
				        due != (uint64_t)(position(&d, c[i].kind, n, 0) * d.a / d.b))
					fail_msg("rate %zu packet %" PRIu64 " due %" PRIu64, i, n, due);
				last = due;
			}
			if (c[i].period == 0)
				break;
			uint64_t periods = 30 * 86400 * S / begin.ns;
			s.work.ns += periods * begin.ns;
			n += periods * c[i].period;
		}
		assert_true(c[i].period == 0 || last > 30 * 86400 * S);
	}
}

static void test_far(void **unused)
{
	static const struct nssm_rate r[] = {{NSSM_RATE_PPS, 1, UINT64_MAX}, {NSSM_RATE_PPS, 1, 1000000000},
	        {NSSM_RATE_BPS_L1, 1, 1000000000}, {NSSM_RATE_SPEED, 1, 1000000000}, {NSSM_RATE_SPEED, 1, 1},
	        {NSSM_RATE_PPS, (1ull << 63) - 25, UINT64_MAX}};
	for (size_t i = 0; i < sizeof r / sizeof *r; i++)
		for (int ramp = 0; ramp < 2; ramp++) {
			struct nssm_sched s = {.max_pps = 1000, .ramp_ns = ramp ? 1ull << 60 : 0};
			assert_int_equal(nssm_sched_init(&s, &r[i], &err), 0);
			uint64_t last = 0;
			for (uint64_t n = 0; n < 64; n++) {
				uint64_t due = nssm_sched_next(&s, n << 58 | n, UINT32_MAX);
				assert_true(due >= last && due <= NSSM_SCHED_END_NS);
				last = due;
			}
			if (i != 5)
				assert_true(last == NSSM_SCHED_END_NS);
			nssm_sched_shift(&s, UINT64_MAX);
			change(&s, NSSM_RATE_PPS, 7, 3, 5, UINT64_MAX);
			change(&s, NSSM_RATE_SPEED, 7, 3, UINT64_MAX, UINT64_MAX);
			change(&s, NSSM_RATE_SPEED, 1, UINT64_MAX, UINT64_MAX, UINT64_MAX);
			change(&s, NSSM_RATE_BPS_L2, 7, 3, UINT64_MAX, UINT64_MAX);
			assert_true(nssm_sched_next(&s, UINT64_MAX, 100) == NSSM_SCHED_END_NS);
		}
}

/* --- ramps ------------------------------------------------------------------------------------------------------- */

static void test_ramp(void **unused)
{
	for (int odd = 0; odd < 2; odd++) {
		struct nssm_sched s = {.ramp_ns = 10 * S + (uint64_t)odd};
		assert_int_equal(nssm_sched_init(&s, &(struct nssm_rate){NSSM_RATE_PPS, 1000, 1}, &err), 0);
		uint64_t due[20000];
		for (int n = 0; n < 20000; n++)
			due[n] = nssm_sched_next(&s, 0, 60);
		/* rate*ramp/2 packets at its end, and from there on the rate itself. */
		assert_int_equal(due[0], 0);
		assert_int_equal(due[5000], 10 * S);
		for (int n = 1; n < 5000; n++) /* gaps become shorter, to the ns that dues are rounded to */
			assert_true(due[n] > due[n - 1] &&
			            (n < 2 || due[n] - due[n - 1] <= due[n - 1] - due[n - 2] + 1));
		for (int n = 5001; n < 20000; n++)
			assert_int_equal(due[n], 10 * S + (uint64_t)(n - 5000) * MS);
	}
	/* The stream's clock rises: 5 s of it in the first 10 s; then it runs at its own speed. */
	struct nssm_sched s = {.ramp_ns = 10 * S};
	assert_int_equal(nssm_sched_init(&s, &(struct nssm_rate){NSSM_RATE_SPEED, 2, 1}, &err), 0);
	assert_int_equal(nssm_sched_next(&s, 0, 60), 0);
	assert_int_equal(nssm_sched_next(&s, S / 10, 60), S);
	assert_int_equal(nssm_sched_next(&s, 10 * S, 60), 10 * S);
	assert_int_equal(nssm_sched_next(&s, 12 * S, 60), 11 * S);
}

/* A change on the way goes on from where the ramp stood: by then half the rate. */
static void test_ramp_change(void **unused)
{
	struct nssm_sched s = {.ramp_ns = 10 * S};
	assert_int_equal(nssm_sched_init(&s, &(struct nssm_rate){NSSM_RATE_PPS, 1000, 1}, &err), 0);
	uint64_t due = 0;
	int n = 0;
	for (; due < 5 * S; n++)
		due = nssm_sched_next(&s, 0, 60);
	assert_int_equal(n, 1251); /* 1000*5^2/(2*10), which is due at 5 s itself */
	change(&s, NSSM_RATE_PPS, 4000, 1, 5 * S, 0);
	for (n = 0; due < 10 * S; n++)
		due = nssm_sched_next(&s, 0, 60);
	assert_true(n == 15000 || n == 15001); /* 4000*(10^2 - 5^2)/(2*10) */
	uint64_t next = nssm_sched_next(&s, 0, 60);
	assert_true(next - due == S / 4000);
	/* top ends it for good */
	assert_int_equal(nssm_sched_init(&s, &(struct nssm_rate){NSSM_RATE_PPS, 1000, 1}, &err), 0);
	assert_int_equal(nssm_sched_next(&s, 0, 60), 0);
	change(&s, NSSM_RATE_TOP, 1, 1, S, 0);
	assert_int_equal(nssm_sched_next(&s, 0, 60), S);
	change(&s, NSSM_RATE_PPS, 1000, 1, 2 * S, 0);
	assert_int_equal(nssm_sched_next(&s, 0, 60), 2 * S);
	assert_int_equal(nssm_sched_next(&s, 0, 60), 2 * S + MS);
}

/* --- changes ----------------------------------------------------------------------------------------------------- */

static void test_change_exact(void **unused)
{
	/* 1 pps to 1000 pps with 0.4 of a packet left: 0.4 ms. */
	struct nssm_sched s = sched(NSSM_RATE_PPS, 1, 1);
	assert_int_equal(nssm_sched_next(&s, 0, 60), 0);
	change(&s, NSSM_RATE_PPS, 1000, 1, 600 * MS, 0);
	for (uint64_t n = 0; n < 5; n++)
		assert_int_equal(nssm_sched_next(&s, 0, 60), 600 * MS + 400000 + n * MS);
	/* And back, with 0.25 of one left. */
	change(&s, NSSM_RATE_PPS, 1, 1, 605 * MS + 150000, 0);
	assert_int_equal(nssm_sched_next(&s, 0, 60), 605 * MS + 150000 + S / 4);
	assert_int_equal(nssm_sched_next(&s, 0, 60), 605 * MS + 150000 + S / 4 + S);
	/* To bits a second: the last frame's at the new rate, the same part of them. */
	change(&s, NSSM_RATE_BPS_L2, 64000, 1, 606 * MS + S / 4 + S - 350000,
	        0); /* 0.5 ms behind the last one, 0.9995 left */
	assert_int_equal(nssm_sched_next(&s, 0, 60), 606 * MS + S / 4 + S - 350000 + 7996000);

	/* x to x: the stream goes on from where it stood, in the midst of a silence. */
	s = sched(NSSM_RATE_SPEED, 1, 1);
	assert_int_equal(nssm_sched_next(&s, 0, 60), 0);
	struct nssm_sched slow = s;
	change(&s, NSSM_RATE_SPEED, 10, 1, 5 * S, 0);
	assert_int_equal(nssm_sched_next(&s, 10 * S, 60), 5 * S + S / 2);
	assert_int_equal(nssm_sched_next(&s, 20 * S, 60), 6 * S + S / 2);
	change(&slow, NSSM_RATE_SPEED, 1, 10, 5 * S, 0);
	assert_int_equal(nssm_sched_next(&slow, 10 * S, 60), 55 * S);
	/* x to pps and back: the gaps are those of the rate. */
	change(&s, NSSM_RATE_PPS, 10, 1, 6 * S + 520 * MS, 20 * S);
	assert_int_equal(nssm_sched_next(&s, 21 * S, 60), 6 * S + 600 * MS);
	change(&s, NSSM_RATE_SPEED, 1, 2, 6 * S + 650 * MS, 21 * S);
	assert_int_equal(nssm_sched_next(&s, 22 * S, 60), 8 * S + 600 * MS);
	assert_int_equal(nssm_sched_next(&s, 21 * S, 60), 8 * S + 600 * MS); /* backwards */
	assert_int_equal(nssm_sched_next(&s, 23 * S, 60), 10 * S + 600 * MS);
	/* After a silence longer than the new gap: at once, and no more than one. */
	change(&s, NSSM_RATE_PPS, 1000, 1, 20 * S, 23 * S);
	assert_int_equal(nssm_sched_next(&s, 24 * S, 60), 20 * S);
	assert_int_equal(nssm_sched_next(&s, 24 * S, 60), 20 * S + MS);
	/* top is at once; what comes after it takes its time from the last one. */
	change(&s, NSSM_RATE_TOP, 1, 1, 21 * S, 24 * S);
	for (int n = 0; n < 3; n++)
		assert_int_equal(nssm_sched_next(&s, 25 * S, 60), 21 * S);
	change(&s, NSSM_RATE_SPEED, 1, 1, 22 * S, 25 * S);
	assert_int_equal(nssm_sched_next(&s, 25 * S, 60), 22 * S);
	assert_int_equal(nssm_sched_next(&s, 26 * S, 60), 23 * S);
}

/* What is late, or was put off by a cap, is not made up for after a change. */
static void test_change_late(void **unused)
{
	struct nssm_sched s = sched(NSSM_RATE_SPEED, 1, 1);
	for (uint64_t n = 0; n <= 1000; n++)
		nssm_sched_next(&s, n * MS, 60);
	change(&s, NSSM_RATE_SPEED, 2, 1, 100 * S, 1000 * MS); /* 99 s behind */
	for (uint64_t n = 0; n < 10; n++)
		assert_int_equal(nssm_sched_next(&s, (1001 + n) * MS, 60), 100 * S + n * MS / 2);

	s = sched(NSSM_RATE_PPS, 1000000, 1);
	for (uint64_t n = 0; n < 1000; n++)
		nssm_sched_next(&s, 0, 60);
	change(&s, NSSM_RATE_PPS, 1000, 1, 100 * S, 0);
	for (uint64_t n = 0; n < 10; n++)
		assert_int_equal(nssm_sched_next(&s, 0, 60), 100 * S + n * MS);

	s = capped(NSSM_RATE_SPEED, 1, 1, 100, 0);
	uint64_t due = 0;
	for (uint64_t n = 0; n <= 1000; n++)
		due = nssm_sched_next(&s, n * MS, 60);
	assert_int_equal(due, 10 * S);
	change(&s, NSSM_RATE_SPEED, 1, 100, due, 1000 * MS);
	assert_int_equal(nssm_sched_next(&s, 1001 * MS, 60), due + 10 * MS); /* the cap */
	assert_int_equal(nssm_sched_next(&s, 1002 * MS, 60), due + 100 * MS);
	assert_int_equal(nssm_sched_next(&s, 1003 * MS, 60), due + 200 * MS);
}

/* A packet that was given out ahead of time stays; one that was only looked at comes at the new rate. */
static void test_change_held(void **unused)
{
	struct nssm_sched s = sched(NSSM_RATE_PPS, 1, 100);
	assert_int_equal(nssm_sched_next(&s, 0, 60), 0);
	struct nssm_sched copy = s;
	assert_int_equal(nssm_sched_peek(&copy, 0), 100 * S);
	assert_int_equal(nssm_sched_next(&s, 0, 60), 100 * S);
	change(&s, NSSM_RATE_PPS, 1000, 1, 50 * S, 0);
	assert_int_equal(nssm_sched_next(&s, 0, 60), 100 * S + MS);
	change(&copy, NSSM_RATE_PPS, 1000, 1, 50 * S, 0);
	assert_int_equal(nssm_sched_next(&copy, 0, 60), 50 * S + MS / 2);
}

/* Many changes of every kind at random times: a packet behind another is never nearer than the rates allow, and those given out are
 * as many as the rates make. It looks first, as a caller with its eyes on the clock does. */
static void test_change_random(void **unused)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 8, 0, 99);
	for (int run = 0; run < 20; run++) {
		bool ramp = run % 2 == 1;
		struct nssm_sched s = {.ramp_ns = ramp ? 20 * S : 0};
		/* Frames of 121 bytes: 1000 bits in L2; packets of the stream every 1 ms. All rates are packets a second. */
		double rate = 1000, want = 0, changes = 0;
		assert_int_equal(nssm_sched_init(&s, &(struct nssm_rate){NSSM_RATE_PPS, 1000, 1}, &err), 0);
		uint64_t now = 0, n = 0, last = 0;
		for (; now < 60 * S; changes++) {
			uint64_t until = now + nssm_rng_below(&rng, 500 * MS);
			for (;;) {
				uint64_t due = nssm_sched_peek(&s, n * MS);
				assert_true(due >= last);
				if (due > until)
					break;
				/* In whole gaps of the fastest rate, but for rounding. */
				assert_true(n == 0 || due - last >= 333333 - 1);
				assert_int_equal(nssm_sched_next(&s, n * MS, 121), due);
				last = due;
				n++;
			}
			for (uint64_t t = now; t < until;) { /* the area under the rate */
				uint64_t e = ramp && t < 20 * S && until > 20 * S ? 20 * S : until;
				double mid = (double)(t + e) / 2;
				want += rate * (double)(e - t) / 1e9 * (ramp && mid < 20e9 ? mid / 20e9 : 1);
				t = e;
			}
			now = until;
			uint64_t r = 1 + nssm_rng_below(&rng, 3000);
			rate = (double)r;
			enum nssm_rate_kind kind = (enum nssm_rate_kind)nssm_rng_below(&rng, 4);
			if (kind == NSSM_RATE_SPEED)
				change(&s, kind, r, 1000, now, n > 0 ? (n - 1) * MS : 0);
			else if (kind == NSSM_RATE_PPS)
				change(&s, kind, r, 1, now, (n - 1) * MS);
			else
				change(&s, kind, (kind == NSSM_RATE_BPS_L2 ? 1000 : 1160) * r, 1, now,
				        (n - 1) * MS);
		}
		/* Between x and the others what is left is not known; it is less than a packet each time, and both ways alike. */
		assert_true(n > 10000);
		assert_true(fabs((double)n - want) <= 2 + changes * 0.5);
	}
}

/* The same among rates that count packets or bits: then nothing is lost at all. */
static void test_change_counts(void **unused)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 9, 0, 99);
	struct nssm_sched s = sched(NSSM_RATE_PPS, 1000, 1);
	double rate = 1000, want = 0;
	uint64_t now = 0, n = 0;
	for (int changes = 0; changes < 20000; changes++) {
		uint64_t until = now + nssm_rng_below(&rng, 20 * MS);
		for (; nssm_sched_peek(&s, 0) <= until; n++)
			nssm_sched_next(&s, 0, 121);
		want += rate * (double)(until - now) / 1e9;
		now = until;
		uint64_t r = 1 + nssm_rng_below(&rng, 3000);
		rate = (double)r;
		if (nssm_rng_below(&rng, 2) == 0)
			change(&s, NSSM_RATE_PPS, r, 1, now, 0);
		else
			change(&s, NSSM_RATE_BPS_L2, 1000 * r, 1, now, 0);
	}
	assert_true(n > 200000);
	assert_true(fabs((double)n - want) <= 1.5);
}

/* --- caps -------------------------------------------------------------------------------------------------------- */

/* Dues of packets with random lengths and idle times. */
static void run_capped(struct nssm_sched *s, uint64_t *due, uint64_t *bits, int n, uint64_t seed,
        uint64_t max_pps, uint64_t max_bps)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, seed, 0, 99);
	uint64_t stream = 0;
	for (int i = 0; i < n; i++) {
		uint32_t len = 40 + nssm_rng_below(&rng, 1475);
		if (nssm_rng_below(&rng, 3) == 0)
			stream += (uint64_t)nssm_rng_below(&rng, 4 * (uint32_t)MS);
		if (nssm_rng_below(&rng, 2000) == 0)
			stream += 10 * S;
		if (nssm_rng_below(&rng, 5000) == 0)
			nssm_sched_shift(s, nssm_rng_below(&rng, (uint32_t)S));
		uint64_t look = nssm_sched_peek(s, stream);
		due[i] = nssm_sched_next(s, stream, len);
		assert_int_equal(look, due[i]);
		bits[i] = 8 * (uint64_t)((len < 60 ? 60 : len) + 4);
		assert_true(i == 0 || due[i] >= due[i - 1]);
	}
	uint64_t in_window = 0;
	for (int lo = 0, hi = 0; hi < n; hi++) {
		while (due[hi] - due[lo] >= S)
			in_window -= bits[lo++];
		/* Half open windows that end behind packet hi. */
		assert_true(max_pps == 0 || (uint64_t)(hi - lo + 1) <= max_pps);
		assert_true(max_bps == 0 || in_window <= max_bps);
		in_window += bits[hi];
		/* And no burst: a packet behind another waits for it. */
		if (hi > 0 && max_pps != 0)
			assert_true(due[hi] - due[hi - 1] >= S / max_pps);
		if (hi > 0 && max_bps != 0)
			assert_true(due[hi] - due[hi - 1] >= bits[hi - 1] * S / max_bps - 1);
	}
}

static void test_caps(void **unused)
{
	enum { N = 60000 };
	static uint64_t due[N], free_due[N], bits[N];
	static const struct nssm_rate r[] = {{NSSM_RATE_SPEED, 1, 1}, {NSSM_RATE_SPEED, 100, 3},
	        {NSSM_RATE_TOP, 1, 1}, {NSSM_RATE_PPS, 1234567, 1}, {NSSM_RATE_PPS, 900, 1},
	        {NSSM_RATE_BPS_L1, 100000007, 1}};
	static const uint64_t cap[][2] = {
	        {1000, 0}, {777, 0}, {0, 1000003}, {3001, 9000000}, {1, 0}, {1000000000, 0}};
	for (size_t i = 0; i < sizeof r / sizeof *r; i++)
		for (size_t c = 0; c < sizeof cap / sizeof *cap; c++) {
			struct nssm_sched s = capped(r[i].kind, r[i].num, r[i].den, cap[c][0], cap[c][1]);
			run_capped(&s, due, bits, N, 1, cap[c][0], cap[c][1]);
		}
	/* Above the rate they change nothing. */
	struct nssm_sched s = capped(NSSM_RATE_PPS, 3000000, 7, 428572, 10 * S),
	                  f = sched(NSSM_RATE_PPS, 3000000, 7);
	run_capped(&s, due, bits, N, 2, 0, 0);
	run_capped(&f, free_due, bits, N, 2, 0, 0);
	assert_memory_equal(due, free_due, sizeof due);
	/* At it they change nothing either, for however long: no remainder is lost. */
	s = capped(NSSM_RATE_PPS, 3, 1, 3, 0);
	for (uint64_t n = 0; n < 1000000; n++)
		assert_int_equal(nssm_sched_next(&s, 0, 60), n * S / 3);
	/* The engines' shares add up to no more. */
	uint64_t sum = 0;
	for (uint64_t e = 0; e < 3; e++) {
		s = (struct nssm_sched){.max_pps = 1000, .share_num = 1, .share_den = 3};
		assert_int_equal(nssm_sched_init(&s, &(struct nssm_rate){NSSM_RATE_TOP, 1, 1}, &err), 0);
		while (nssm_sched_next(&s, 0, 60) < S)
			sum++;
	}
	assert_int_equal(sum, 999);
	/* What a cap put off is caught up on, at the cap's rate. */
	s = capped(NSSM_RATE_SPEED, 1, 1, 1000, 0);
	for (uint64_t n = 0; n < 5000; n++)
		assert_int_equal(nssm_sched_next(&s, n * MS / 2, 60), n * MS);
	assert_int_equal(nssm_sched_next(&s, 10 * S, 60), 10 * S);
}

/* --- pauses, top, loops ------------------------------------------------------------------------------------------ */

static void test_shift(void **unused)
{
	static const struct nssm_rate r[] = {{NSSM_RATE_SPEED, 5, 2}, {NSSM_RATE_TOP, 1, 1},
	        {NSSM_RATE_PPS, 3000, 7}, {NSSM_RATE_BPS_L2, 1000003, 1}, {NSSM_RATE_BPS_L1, 1000003, 1}};
	for (size_t i = 0; i < sizeof r / sizeof *r; i++)
		for (int how = 0; how < 4; how++) {
			struct nssm_sched s = {.ramp_ns = how & 1 && r[i].kind != NSSM_RATE_TOP ? 3 * S : 0,
			                          .max_pps = how & 2 ? 400 : 0,
			                          .max_bps = how & 2 ? 900000 : 0},
			                  p;
			assert_int_equal(nssm_sched_init(&s, &r[i], &err), 0);
			p = s;
			uint64_t by = 0, stream = 0;
			for (uint32_t n = 0; n < 10000; n++) {
				if (n % 1000 == 999) {
					nssm_sched_shift(&p, n * 1001);
					by += n * 1001;
				}
				stream += n % 7 * MS;
				uint64_t due = nssm_sched_next(&s, stream, n % 1500);
				assert_int_equal(nssm_sched_next(&p, stream, n % 1500), due + by);
			}
		}
}

static void test_top(void **unused)
{
	struct nssm_sched s = sched(NSSM_RATE_TOP, 1, 1);
	for (uint64_t n = 0; n < 100; n++)
		assert_int_equal(nssm_sched_next(&s, n * S, 1514), 0);
	s = capped(NSSM_RATE_TOP, 1, 1, 1000, 0);
	for (uint64_t n = 0; n < 100; n++)
		assert_int_equal(nssm_sched_next(&s, 0, 1514), n * MS);
}

static void test_loops(void **unused)
{
	assert_int_equal(nssm_loop_start(0, 5, 7), 0);
	assert_int_equal(nssm_loop_start(3, 5, 7), 36);
	assert_true(nssm_loop_start(1ull << 32, (1ull << 31) - 1, 1) == 1ull << 63);
	assert_true(nssm_loop_start(1ull << 33, (1ull << 31) - 1, 1) == UINT64_MAX);
	assert_true(nssm_loop_start(2, UINT64_MAX, 0) == UINT64_MAX);
	assert_true(nssm_loop_start(1, UINT64_MAX, 1) == UINT64_MAX);
	assert_true(nssm_loop_start(0, UINT64_MAX, 1) == 0);
}

static void test_init_errors(void **unused)
{
	static const struct {
		struct nssm_rate r;
		struct nssm_sched s;
		int code;
		const char *says;
	} c[] = {
	        {{NSSM_RATE_PERCENT, 4, 5}, {.line_bps = 0}, NSSM_EARG, "line rate"},
	        {{NSSM_RATE_PPS, 0, 5}, {.line_bps = 0}, NSSM_EARG, "0/5"},
	        {{NSSM_RATE_SPEED, 3, 0}, {.line_bps = 0}, NSSM_EARG, "3/0"},
	        {{NSSM_RATE_TOP, 1, 1}, {.ramp_ns = 5}, NSSM_EARG, "ramp"},
	        {{NSSM_RATE_PPS, 1, 1}, {.ramp_ns = UINT64_MAX}, NSSM_ERANGE, "ramp"},
	        {{NSSM_RATE_PPS, 1, 1}, {.max_pps = 2, .share_num = 1, .share_den = 3}, NSSM_EARG,
	                "max_pps 2"},
	        {{NSSM_RATE_PPS, 1, 1}, {.max_bps = 2, .share_num = 1, .share_den = 3}, NSSM_EARG,
	                "max_bps 2"},
	        {{NSSM_RATE_PPS, UINT64_MAX - 58, 7}, {.line_bps = 0}, NSSM_ERANGE, "64 bits"},
	        {{NSSM_RATE_PPS, 5, UINT64_MAX}, {.share_num = 1, .share_den = UINT64_MAX}, NSSM_ERANGE,
	                "5/18446744073709551615"},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct nssm_sched s = c[i].s;
		memset(&err, 0, sizeof err);
		assert_int_equal(nssm_sched_init(&s, &c[i].r, &err), c[i].code);
		assert_int_equal(err.code, c[i].code);
		assert_non_null(strstr(err.msg, c[i].says));
	}
	/* A change that cannot be leaves all as it was. */
	struct nssm_sched s = sched(NSSM_RATE_PPS, 5, 1), was = s;
	assert_int_equal(
	        nssm_sched_change(&s, &(struct nssm_rate){NSSM_RATE_PERCENT, 1, 2}, 7, 7, &err), NSSM_EARG);
	assert_memory_equal(&s, &was, sizeof s);
}

/* --- text -------------------------------------------------------------------------------------------------------- */

static void test_parse(void **unused)
{
	static const struct {
		const char *text;
		struct nssm_rate r;
		const char *print;
	} c[] = {
	        {"original", {NSSM_RATE_SPEED, 1, 1}, "original"},
	        {"1x", {NSSM_RATE_SPEED, 1, 1}, "original"},
	        {"top", {NSSM_RATE_TOP, 1, 1}, "top"},
	        {"2.5x", {NSSM_RATE_SPEED, 5, 2}, "2.5x"},
	        {"0.1x", {NSSM_RATE_SPEED, 1, 10}, "0.1x"},
	        {"0.000000001x", {NSSM_RATE_SPEED, 1, 1000000000}, "0.000000001x"},
	        {"1.123456789 x", {NSSM_RATE_SPEED, 1123456789, 1000000000}, "1.123456789x"},
	        {"100kpps", {NSSM_RATE_PPS, 100000, 1}, "100 kpps"},
	        {"14.88Mpps", {NSSM_RATE_PPS, 14880000, 1}, "14.88 Mpps"},
	        {"14880952.380952381pps", {NSSM_RATE_PPS, 14880952380952381, 1000000000},
	                "14880952.380952381 pps"},
	        {"0.5pps", {NSSM_RATE_PPS, 1, 2}, "0.5 pps"},
	        {"1pps", {NSSM_RATE_PPS, 1, 1}, "1 pps"},
	        {"0.5kpps", {NSSM_RATE_PPS, 500, 1}, "500 pps"},
	        {"0001.50Mpps", {NSSM_RATE_PPS, 1500000, 1}, "1.5 Mpps"},
	        {"1.2Gbps", {NSSM_RATE_BPS_L2, 1200000000, 1}, "1.2 Gbps"},
	        {"1.2GbpsL2", {NSSM_RATE_BPS_L2, 1200000000, 1}, "1.2 Gbps"},
	        {"1.2GbpsL1", {NSSM_RATE_BPS_L1, 1200000000, 1}, "1.2 Gbps L1"},
	        {"1.2 Gbps  L1", {NSSM_RATE_BPS_L1, 1200000000, 1}, "1.2 Gbps L1"},
	        {"500 kbps", {NSSM_RATE_BPS_L2, 500000, 1}, "500 kbps"},
	        {"1.000000001Gbps", {NSSM_RATE_BPS_L2, 1000000001, 1}, "1.000000001 Gbps"},
	        {"1000000Gbps", {NSSM_RATE_BPS_L2, 1000000000000000, 1}, "1000000 Gbps"},
	        {"80%", {NSSM_RATE_PERCENT, 4, 5}, "80%"},
	        {"33.3 %", {NSSM_RATE_PERCENT, 333, 1000}, "33.3%"},
	        {"100%", {NSSM_RATE_PERCENT, 1, 1}, "100%"},
	        {"0.000000001%", {NSSM_RATE_PERCENT, 1, 100000000000}, "0.000000001%"},
	};
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		struct nssm_rate r = {0}, again = {0};
		char buf[32];
		if (nssm_rate_parse(&r, c[i].text, "--rate", &err) != 0)
			fail_msg("%s", err.msg);
		assert_int_equal(r.kind, c[i].r.kind);
		assert_int_equal(r.num, c[i].r.num);
		assert_int_equal(r.den, c[i].r.den);
		assert_string_equal(nssm_rate_print(buf, &r), c[i].print);
		assert_int_equal(nssm_rate_parse(&again, buf, "--rate", &err), 0);
		assert_memory_equal(&again, &r, sizeof r);
	}
	char buf[32];
	assert_string_equal(
	        nssm_rate_print(buf, &(struct nssm_rate){NSSM_RATE_PPS, 3000000, 7}), "428571.428571428 pps");
	for (int k = 0; k < 6; k++) /* of any size: it fits */
		for (uint64_t den = 1; den != 0; den *= 6)
			assert_true(strlen(nssm_rate_print(buf, &(struct nssm_rate){(enum nssm_rate_kind)k,
			                                                UINT64_MAX, den})) < 32);
}

static void test_parse_errors(void **unused)
{
	static const struct {
		const char *text;
		int code;
		const char *says;
	} c[] = {
	        {"", NSSM_EARG, "expected original, top"},
	        {" ", NSSM_EARG, "expected original, top"},
	        {"x", NSSM_EARG, "expected original, top"},
	        {"NaN", NSSM_EARG, "expected original, top"},
	        {"nanx", NSSM_EARG, "expected original, top"},
	        {"inf", NSSM_EARG, "expected original, top"},
	        {"infx", NSSM_EARG, "expected original, top"},
	        {"Original", NSSM_EARG, "expected original, top"},
	        {"originals", NSSM_EARG, "expected original, top"},
	        {"top ", NSSM_EARG, "expected original, top"},
	        {"+5pps", NSSM_EARG, "expected original, top"},
	        {".5x", NSSM_EARG, "expected original, top"},
	        {"-5pps", NSSM_ERANGE, "above 0"},
	        {"-0x", NSSM_ERANGE, "above 0"},
	        {"0pps", NSSM_ERANGE, "above 0"},
	        {"0.000x", NSSM_ERANGE, "above 0"},
	        {"0%", NSSM_ERANGE, "above 0"},
	        {"100", NSSM_EARG, "expected a unit"},
	        {"1.5 ", NSSM_EARG, "expected a unit"},
	        {"1.", NSSM_EARG, "behind the point"},
	        {"1.x", NSSM_EARG, "behind the point"},
	        {"1..5x", NSSM_EARG, "behind the point"},
	        {"1.2.3x", NSSM_EARG, "found \".3x\""},
	        {"1,000pps", NSSM_EARG, "found \",000pps\""},
	        {"1e3pps", NSSM_EARG, "found \"e3pps\""},
	        {"0x10pps", NSSM_EARG, "found \"x10pps\""},
	        {"5mpps", NSSM_EARG, "found \"mpps\""},
	        {"5Kpps", NSSM_EARG, "found \"Kpps\""},
	        {"5kx", NSSM_EARG, "found \"kx\""},
	        {"5M%", NSSM_EARG, "found \"M%\""},
	        {"5ppsx", NSSM_EARG, "found \"ppsx\""},
	        {"5pps L1", NSSM_EARG, "found \"pps L1\""},
	        {"5GbpsL3", NSSM_EARG, "found \"GbpsL3\""},
	        {"5Gbps L1 ", NSSM_EARG, "found \"Gbps L1 \""},
	        {"5 G bps", NSSM_EARG, "found \"G bps\""},
	        {"5x\n", NSSM_EARG, "found \"x\n\""},
	        {"5Gb", NSSM_EARG, "found \"Gb\""},
	        {"101%", NSSM_ERANGE, "at most 100 %"},
	        {"100.000000001%", NSSM_ERANGE, "at most 100 %"},
	        {"1000000001x", NSSM_ERANGE, "at most 1000000000 x"},
	        {"1001Gpps", NSSM_ERANGE, "at most 1000000000000 pps"},
	        {"1000001GbpsL1", NSSM_ERANGE, "at most 1000000000000000 bps L1"},
	        {"999999999999999999Gbps", NSSM_ERANGE, "at most"},
	        {"9999999999999999999pps", NSSM_ERANGE, "18 digits"},
	        {"18446744073709551617x", NSSM_ERANGE, "18 digits"},
	        {"1.0000000000x", NSSM_ERANGE, "nine digits"},
	        {"999999999999.123456789pps", NSSM_ERANGE, "64 bits"},
	};
	struct nssm_rate r = {NSSM_RATE_PPS, 77, 3}, was = r;
	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		memset(&err, 0, sizeof err);
		if (nssm_rate_parse(&r, c[i].text, "--rate", &err) != c[i].code)
			fail_msg("\"%s\": code %d, %s", c[i].text, err.code, err.msg);
		if (strstr(err.msg, c[i].says) == NULL || strncmp(err.msg, "--rate \"", 8) != 0)
			fail_msg("\"%s\": %s", c[i].text, err.msg);
		assert_int_equal(err.code, c[i].code);
		assert_memory_equal(&r, &was, sizeof r);
	}
	/* Of any length. */
	char text[5000];
	for (size_t len = 1; len < sizeof text; len = 2 * len + 1)
		for (const char *fill = "0123456789.xpGb% L-"; *fill != '\0'; fill++) {
			memset(text, *fill, len);
			text[len] = '\0';
			assert_true(nssm_rate_parse(&r, text, "--rate", &err) < 0);
			memcpy(text, "1.5", len < 3 ? len : 3);
			(void)nssm_rate_parse(&r, text, "--rate", &err);
			r = was;
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_30_days),
	        cmocka_unit_test(test_high_rates),
	        cmocka_unit_test(test_far),
	        cmocka_unit_test(test_ramp),
	        cmocka_unit_test(test_ramp_change),
	        cmocka_unit_test(test_change_exact),
	        cmocka_unit_test(test_change_late),
	        cmocka_unit_test(test_change_held),
	        cmocka_unit_test(test_change_random),
	        cmocka_unit_test(test_change_counts),
	        cmocka_unit_test(test_caps),
	        cmocka_unit_test(test_shift),
	        cmocka_unit_test(test_top),
	        cmocka_unit_test(test_loops),
	        cmocka_unit_test(test_init_errors),
	        cmocka_unit_test(test_parse),
	        cmocka_unit_test(test_parse_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
