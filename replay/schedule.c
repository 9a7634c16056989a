#include "replay/schedule.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

__extension__ typedef unsigned __int128 u128;

#define END_NS   NSSM_SCHED_END_NS
#define NS_PER_S 1000000000u
#define FRAC_ONE 1000000000u /* nine digits behind the point */

#define MIN_FRAME   60u
#define FCS_BYTES   4u
#define L1_OVERHEAD 20u /* preamble 7, start delimiter 1, gap 12 (IEEE 802.3) */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static u128 gcd(u128 a, u128 b)
{
	while (b != 0) {
		u128 r = a % b;
		a = b;
		b = r;
	}
	return a;
}

/* --- text --- */

static const struct unit {
	const char *name;
	enum nssm_rate_kind kind;
	bool suffix; /* takes k, M, G */
	uint64_t max;
} UNITS[] = {
        {"x", NSSM_RATE_SPEED, false, 1000000000},
        {"pps", NSSM_RATE_PPS, true, 1000000000000},
        {"bps", NSSM_RATE_BPS_L2, true, 1000000000000000},
        {"bps L1", NSSM_RATE_BPS_L1, true, 1000000000000000},
        {"bps L2", NSSM_RATE_BPS_L2, true, 1000000000000000},
        {"%", NSSM_RATE_PERCENT, false, 100},
};
#define N_UNITS (sizeof UNITS / sizeof UNITS[0])

static const struct suffix {
	char letter;
	uint64_t factor;
} SUFFIXES[] = {{'G', 1000000000}, {'M', 1000000}, {'k', 1000}};
#define N_SUFFIXES (sizeof SUFFIXES / sizeof SUFFIXES[0])

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Equal but for blanks in text where name has one, or none. */
static bool unit_is(const char *text, const char *name)
{
	for (; *name != '\0'; name++) {
		if (*name == ' ') {
			text += strspn(text, " ");
			continue;
		}
		if (*text++ != *name)
			return false;
	}
	return *text == '\0';
}

static const struct unit *find_unit(const char *text, uint64_t *factor)
{
	*factor = 1;
	for (size_t s = 0; s < N_SUFFIXES; s++)
		if (*text == SUFFIXES[s].letter) {
			*factor = SUFFIXES[s].factor;
			text++;
			break;
		}
	for (size_t i = 0; i < N_UNITS; i++)
		if (unit_is(text, UNITS[i].name) && (*factor == 1 || UNITS[i].suffix))
			return &UNITS[i];
	return NULL;
}

/* The number in billionths; *end behind it. */
static int parse_number(u128 *value, const char **end, const char *text, const char *all, const char *where,
        struct nssm_err *err)
{
	u128 v = 0;
	const char *p = text;
	int places = 0;
	while (*p == '0')
		p++;
	for (int n = 0; digit(*p); p++, n++) {
		if (n == 18)
			return nssm_err_set(err, NSSM_ERANGE,
			        "%s \"%.60s\": expected at most 18 digits before the point", where, all);
		v = 10 * v + (unsigned)(*p - '0');
	}
	if (*p == '.') {
		if (!digit(*++p))
			return nssm_err_set(err, NSSM_EARG,
			        "%s \"%.60s\": expected a digit behind the point, found \"%.20s\"", where,
			        all, p);
		for (; digit(*p); p++, places++) {
			if (places == 9)
				return nssm_err_set(err, NSSM_ERANGE,
				        "%s \"%.60s\": expected at most nine digits behind the point", where,
				        all);
			v = 10 * v + (unsigned)(*p - '0');
		}
	}
	for (; places < 9; places++)
		v *= 10;
	*value = v;
	*end = p;
	return 0;
}

static int parse_value(
        struct nssm_rate *r, const char *text, const char *all, const char *where, struct nssm_err *err)
{
	u128 value = 0;
	uint64_t factor;
	const char *p = text;
	int rc = parse_number(&value, &p, text, all, where, err);
	if (rc != 0)
		return rc;
	p += strspn(p, " ");
	if (*p == '\0')
		return nssm_err_set(err, NSSM_EARG,
		        "%s \"%.60s\": expected a unit (x, pps, bps, bpsL1, %%) behind the number, found "
		        "none",
		        where, all);
	const struct unit *u = find_unit(p, &factor);
	if (u == NULL)
		return nssm_err_set(err, NSSM_EARG,
		        "%s \"%.60s\": expected a unit (x, pps, kpps, Mpps, bps, kbps, Mbps, Gbps, GbpsL1, "
		        "%%), found \"%.20s\"",
		        where, all, p);
	if (value == 0)
		return nssm_err_set(err, NSSM_ERANGE,
		        "%s \"%.60s\": expected a rate above 0 (to pause is not a rate)", where, all);
	value *= factor; /* below 10^36 */
	if (value > (u128)u->max * FRAC_ONE)
		return nssm_err_set(err, NSSM_ERANGE, "%s \"%.60s\": expected at most %" PRIu64 " %s", where,
		        all, u->max, u->name);
	u128 den = u->kind == NSSM_RATE_PERCENT ? (u128)100 * FRAC_ONE : FRAC_ONE, g = gcd(value, den);
	if (value / g > UINT64_MAX)
		return nssm_err_set(err, NSSM_ERANGE,
		        "%s \"%.60s\": expected fewer digits, found more than 64 bits hold", where, all);
	*r = (struct nssm_rate){.kind = u->kind, .num = (uint64_t)(value / g), .den = (uint64_t)(den / g)};
	return 0;
}

int nssm_rate_parse(struct nssm_rate *r, const char *text, const char *where, struct nssm_err *err)
{
	if (strcmp(text, "original") == 0) {
		*r = (struct nssm_rate){.kind = NSSM_RATE_SPEED, .num = 1, .den = 1};
		return 0;
	}
	if (strcmp(text, "top") == 0) {
		*r = (struct nssm_rate){.kind = NSSM_RATE_TOP, .num = 1, .den = 1};
		return 0;
	}
	const char *p = text + strspn(text, " ");
	if (*p == '-')
		return nssm_err_set(err, NSSM_ERANGE, "%s \"%.60s\": expected a rate above 0", where, text);
	if (!digit(*p))
		return nssm_err_set(err, NSSM_EARG,
		        "%s \"%.60s\": expected original, top, or a number and its unit (2.5x, 100kpps, "
		        "1.2Gbps, "
		        "1.2GbpsL1, 80%%)",
		        where, text);
	return parse_value(r, p, text, where, err);
}

char *nssm_rate_print(char buf[32], const struct nssm_rate *r)
{
	const char *unit = "x";
	char letter[2] = "";
	u128 num = r->num;
	uint64_t den = r->den;
	if (r->kind == NSSM_RATE_TOP || (r->kind == NSSM_RATE_SPEED && r->num == r->den))
		return strcpy(buf, r->kind == NSSM_RATE_TOP ? "top" : "original");
	for (size_t i = 0; i < N_UNITS; i++)
		if (UNITS[i].kind == r->kind)
			unit = UNITS[i].name;
	if (r->kind == NSSM_RATE_BPS_L2)
		unit = "bps";
	if (r->kind == NSSM_RATE_PERCENT)
		num *= 100;
	bool spaced = r->kind != NSSM_RATE_SPEED && r->kind != NSSM_RATE_PERCENT;
	num *= FRAC_ONE;
	/* A suffix only where it loses no digit. */
	for (size_t s = 0; s < N_SUFFIXES && spaced; s++) {
		u128 scale = (u128)den * SUFFIXES[s].factor;
		if (num >= scale * FRAC_ONE && num % scale == 0) {
			letter[0] = SUFFIXES[s].letter;
			num /= SUFFIXES[s].factor;
			break;
		}
	}
	num /= den;
	uint64_t whole = (uint64_t)(num / FRAC_ONE), frac = (uint64_t)(num % FRAC_ONE);
	int places = frac != 0 ? 9 : 0;
	for (; places > 0 && frac % 10 == 0; places--)
		frac /= 10;
	char point[24] = "";
	if (places > 0)
		snprintf(point, sizeof point, ".%0*" PRIu64, places, frac);
	snprintf(buf, 32, "%" PRIu64 "%s%s%s%s", whole, point, spaced ? " " : "", letter, unit);
	return buf;
}

/* --- clocks --- */

/* A step of a/b. */
static int clock_set(struct nssm_sched_clock *c, u128 a, u128 b, struct nssm_err *err)
{
	u128 g = gcd(a, b);
	a /= g;
	b /= g;
	if (b > 1ull << 63)
		return nssm_err_set(err, NSSM_ERANGE,
		        "rate: its numerator and the share's are too large for 64 bits together");
	*c = (struct nssm_sched_clock){.whole = a / b < END_NS ? (uint64_t)(a / b) : END_NS,
	        .frac = (uint64_t)(a % b),
	        .div = (uint64_t)b};
	return 0;
}

static void clock_to(struct nssm_sched_clock *c, uint64_t ns)
{
	c->ns = min_u64(ns, END_NS);
	c->rem = 0;
}

/* One unit. */
static inline void clock_tick(struct nssm_sched_clock *c)
{
	uint64_t rem = c->rem + c->frac, carry = rem >= c->div;
	c->rem = rem - (carry ? c->div : 0);
	c->ns = min_u64(c->ns + c->whole + carry, END_NS);
}

static void __attribute__((noinline)) clock_go_wide(struct nssm_sched_clock *c, uint64_t units)
{
	u128 part = (u128)units * c->frac + c->rem, ns = (u128)units * c->whole + part / c->div + c->ns;
	c->rem = (uint64_t)(part % c->div);
	c->ns = ns < END_NS ? (uint64_t)ns : END_NS;
}

static inline void clock_go(struct nssm_sched_clock *c, uint64_t units)
{
	uint64_t whole, part;
	bool wide = __builtin_mul_overflow(units, c->whole, &whole) | (whole > END_NS) |
	            __builtin_mul_overflow(units, c->frac, &part) |
	            __builtin_add_overflow(part, c->rem, &part);
	if (__builtin_expect(wide, 0)) {
		clock_go_wide(c, units);
		return;
	}
	if (part >= c->div) {
		whole += part / c->div;
		part %= c->div;
	}
	c->rem = part;
	c->ns = min_u64(c->ns + whole, END_NS);
}

/* What a frame counts for a rate that is not SPEED or TOP. */
static inline uint64_t units_of(enum nssm_rate_kind kind, uint32_t wirelen)
{
	uint64_t frame = wirelen > MIN_FRAME ? wirelen : MIN_FRAME;
	if (kind == NSSM_RATE_PPS)
		return 1;
	return frame + FCS_BYTES + (kind == NSSM_RATE_BPS_L2 ? 0 : L1_OVERHEAD);
}

static bool counts(enum nssm_rate_kind kind)
{
	return kind != NSSM_RATE_SPEED && kind != NSSM_RATE_TOP;
}

/* a *= b; false where it does not fit. */
static bool times(u128 *a, uint64_t b)
{
	return !__builtin_mul_overflow(*a, b, a);
}

static int rate_clock(struct nssm_sched_clock *c, const struct nssm_sched *s, const struct nssm_rate *r,
        struct nssm_err *err)
{
	u128 a = 1, b = 1;
	bool fits = true;
	if (r->num == 0 || r->den == 0)
		return nssm_err_set(err, NSSM_EARG, "rate: expected more than 0, found %" PRIu64 "/%" PRIu64,
		        r->num, r->den);
	if (r->kind == NSSM_RATE_PERCENT && s->line_bps == 0)
		return nssm_err_set(err, NSSM_EARG,
		        "rate: a %% needs a line rate, and this output has none; expected pps or bps");
	if (r->kind == NSSM_RATE_TOP)
		return clock_set(c, 1, 1, err);
	fits = times(&a, r->den) && times(&b, r->num);
	if (r->kind != NSSM_RATE_SPEED) {
		fits = fits && times(&a, NS_PER_S) && times(&a, r->kind == NSSM_RATE_PPS ? 1 : 8);
		if (s->share_den != 0)
			fits = fits && times(&a, s->share_den) && times(&b, s->share_num);
		if (r->kind == NSSM_RATE_PERCENT)
			fits = fits && times(&b, s->line_bps);
	}
	if (!fits)
		return nssm_err_set(err, NSSM_ERANGE,
		        "rate: expected a fraction of smaller numbers, found %" PRIu64 "/%" PRIu64, r->num,
		        r->den);
	return clock_set(c, a, b, err);
}

/* max of it a second, in units of 1/per. 0: none. */
static int cap_clock(struct nssm_sched_clock *c, const struct nssm_sched *s, uint64_t max, uint64_t per,
        const char *what, struct nssm_err *err)
{
	u128 part = max;
	*c = (struct nssm_sched_clock){.div = 1};
	if (max == 0)
		return 0;
	if (s->share_den != 0)
		part = part * s->share_num / s->share_den;
	if (part == 0)
		return nssm_err_set(err, NSSM_EARG,
		        "%s %" PRIu64 ": expected at least one a second for each of those that share it",
		        what, max);
	return clock_set(c, (u128)per * NS_PER_S, part, err);
}

/* --- the ramp: work is time at full rate; t^2/(2*ramp) of it are done t after the start --- */

static uint64_t __attribute__((noinline)) root(u128 x)
{
	uint64_t r = (uint64_t)__builtin_sqrt((double)x);
	/* 53 bits of it are right; one step of Newton's gives the rest but for the last. */
	__extension__ __int128 off = (__int128)(x - (u128)r * r);
	if (r > 0)
		r += (uint64_t)(int64_t)((double)off / (2.0 * (double)r));
	while ((u128)r * r > x)
		r--;
	while ((u128)(r + 1) * (r + 1) <= x)
		r++;
	return r;
}

static uint64_t __attribute__((noinline))
ramp_due(const struct nssm_sched *s, const struct nssm_sched_clock *work)
{
	uint64_t twice = 2 * work->ns, odd = s->ramp_ns & 1;
	/* rem/div of 1/2 or more; rem < div <= 2^63 */
	bool half = odd && work->rem >= work->div - work->rem;
	if (twice + half >= s->ramp_ns)
		return s->start_ns + work->ns + s->ramp_ns / 2 + half;
	u128 part = work->rem == 0 ? 0 : (u128)2 * s->ramp_ns * work->rem / work->div;
	return s->start_ns + root((u128)s->ramp_ns * twice + part);
}

/* Due time of where a work clock stands. */
static inline uint64_t work_due(const struct nssm_sched *s, const struct nssm_sched_clock *work)
{
	uint64_t due = __builtin_expect(s->ramping, 0) ? ramp_due(s, work) : s->start_ns + work->ns;
	return min_u64(due, END_NS);
}

/* A ramp that is over moves into the anchor, where no half of a nanosecond would be lost by that. */
static void ramp_over(struct nssm_sched *s)
{
	if (2 * s->work.ns < s->ramp_ns || (s->ramp_ns & 1) != 0)
		return;
	s->ramping = false;
	s->start_ns += s->ramp_ns / 2;
}

/* Work done at a time, rounded up. */
static uint64_t work_at(const struct nssm_sched *s, uint64_t ns)
{
	uint64_t t = ns > s->start_ns ? ns - s->start_ns : 0;
	if (!s->ramping)
		return t;
	if (t >= s->ramp_ns)
		return t - s->ramp_ns / 2;
	return (uint64_t)(((u128)t * t + 2 * (u128)s->ramp_ns - 1) / (2 * (u128)s->ramp_ns));
}

/* --- packets --- */

int nssm_sched_init(struct nssm_sched *s, const struct nssm_rate *rate, struct nssm_err *err)
{
	assert(s->share_den != 0 ? s->share_num >= 1 && s->share_num <= s->share_den : s->share_num == 0);
	struct nssm_sched t = {
	        .rate = *rate,
	        .line_bps = s->line_bps,
	        .share_num = s->share_num,
	        .share_den = s->share_den,
	        .max_pps = s->max_pps,
	        .max_bps = s->max_bps,
	        .ramp_ns = s->ramp_ns,
	        .capped = s->max_pps != 0 || s->max_bps != 0,
	        .ramping = s->ramp_ns != 0,
	};
	if (rate->kind == NSSM_RATE_TOP && s->ramp_ns != 0)
		return nssm_err_set(err, NSSM_EARG, "ramp: expected a rate to rise to, found top");
	if (s->ramp_ns > END_NS)
		return nssm_err_set(err, NSSM_ERANGE,
		        "ramp: expected at most 146 years, found %" PRIu64 " ns", s->ramp_ns);
	int rc = rate_clock(&t.work, s, rate, err);
	if (rc == 0)
		rc = cap_clock(&t.cap_pps, s, s->max_pps, 1, "max_pps", err);
	if (rc == 0)
		rc = cap_clock(&t.cap_bps, s, s->max_bps, 8, "max_bps", err);
	if (rc == 0)
		*s = t;
	return rc;
}

/* A packet at stream_ns is the next: moves the work clock there. */
static inline void follow_stream(
        const struct nssm_sched *s, struct nssm_sched_clock *work, uint64_t stream_ns)
{
	clock_go(work, stream_ns > s->stream_ns ? stream_ns - s->stream_ns : 0);
	if (__builtin_expect(s->resumed, 0) && work->ns < s->resume_ns)
		clock_to(work, s->resume_ns);
}

static inline uint64_t due_of(const struct nssm_sched *s, const struct nssm_sched_clock *work)
{
	uint64_t due = s->last_due_ns;
	if (s->rate.kind != NSSM_RATE_TOP)
		due = max_u64(due, work_due(s, work));
	/* A cap that there is not stands at the last due. */
	return max_u64(due, max_u64(s->cap_pps.ns, s->cap_bps.ns));
}

uint64_t nssm_sched_peek(const struct nssm_sched *s, uint64_t stream_ns)
{
	if (s->rate.kind != NSSM_RATE_SPEED)
		return due_of(s, &s->work);
	struct nssm_sched_clock work = s->work;
	follow_stream(s, &work, stream_ns);
	return due_of(s, &work);
}

static void __attribute__((noinline)) count_for_caps(struct nssm_sched *s, uint64_t due, uint32_t wirelen)
{
	/* After an idle time a cap begins anew. */
	if (due > s->cap_pps.ns)
		clock_to(&s->cap_pps, due);
	if (due > s->cap_bps.ns)
		clock_to(&s->cap_bps, due);
	clock_tick(&s->cap_pps);
	clock_go(&s->cap_bps, units_of(NSSM_RATE_BPS_L2, wirelen));
}

uint64_t nssm_sched_next(struct nssm_sched *s, uint64_t stream_ns, uint32_t wirelen)
{
	enum nssm_rate_kind kind = s->rate.kind;
	if (kind == NSSM_RATE_SPEED) {
		follow_stream(s, &s->work, stream_ns);
		s->stream_ns = max_u64(stream_ns, s->resumed ? s->resume_stream_ns : s->stream_ns);
		s->resumed = false;
	}
	uint64_t due = due_of(s, &s->work);
	if (__builtin_expect(s->ramping, 0))
		ramp_over(s);
	if (kind == NSSM_RATE_PPS)
		clock_tick(&s->work);
	else if (counts(kind))
		clock_go(&s->work, units_of(kind, wirelen));
	if (__builtin_expect(s->capped, 0))
		count_for_caps(s, due, wirelen);
	s->last_wirelen = wirelen;
	s->started = true;
	return s->last_due_ns = due;
}

/* --- changes --- */

/* From the last packet to the next, in work; rounded up. */
static uint64_t gap_after_last(
        const struct nssm_sched *s, const struct nssm_sched_clock *step, enum nssm_rate_kind kind)
{
	struct nssm_sched_clock c = *step;
	clock_to(&c, 0);
	if (s->started)
		clock_go(&c, units_of(kind, s->last_wirelen));
	return c.ns + (c.rem != 0);
}

/* Where the stream stands at a point of the work clock, which runs on from the last packet. */
static uint64_t stream_at(const struct nssm_sched *s, uint64_t work_ns)
{
	uint64_t from = s->work.ns + (s->work.rem != 0), on = work_ns > from ? work_ns - from : 0;
	u128 stream = s->stream_ns + (u128)on * s->rate.num / s->rate.den;
	return stream < UINT64_MAX ? (uint64_t)stream : UINT64_MAX;
}

/* When the next packet may go, in work, if what is left of its waiting is scaled. */
static uint64_t next_work(const struct nssm_sched *s, const struct nssm_sched_clock *step,
        enum nssm_rate_kind kind, uint64_t now_work, uint64_t last_work)
{
	uint64_t gap = gap_after_last(s, step, kind);
	if (!counts(s->rate.kind))
		return max_u64(now_work, last_work + gap);
	uint64_t was = gap_after_last(s, &s->work, s->rate.kind);
	uint64_t left = min_u64(s->work.ns > now_work ? s->work.ns - now_work : 0, was);
	return now_work + (was == 0 ? 0 : (uint64_t)(((u128)gap * left + was - 1) / was));
}

int nssm_sched_change(struct nssm_sched *s, const struct nssm_rate *rate, uint64_t now_ns, uint64_t stream_ns,
        struct nssm_err *err)
{
	struct nssm_sched_clock work;
	int rc = rate_clock(&work, s, rate, err);
	if (rc != 0)
		return rc;
	uint64_t now = min_u64(max_u64(now_ns, s->last_due_ns), END_NS),
	         last = s->started ? s->last_due_ns : now;
	uint64_t now_work = work_at(s, now), last_work = work_at(s, last);
	if (rate->kind == NSSM_RATE_TOP) {
		/* The ramp has no rate to go on to. */
		s->ramping = false;
		s->start_ns = s->last_due_ns = now;
		clock_to(&work, 0);
	} else if (rate->kind != NSSM_RATE_SPEED) {
		clock_to(&work, next_work(s, &work, rate->kind, now_work, last_work));
	} else if (s->rate.kind == NSSM_RATE_SPEED) {
		s->stream_ns = stream_at(s, now_work);
		clock_to(&work, now_work);
	} else {
		s->stream_ns = stream_ns;
		clock_to(&work, last_work);
	}
	s->resume_ns = now_work;
	s->resume_stream_ns = stream_ns;
	s->resumed = rate->kind == NSSM_RATE_SPEED;
	s->work = work;
	s->rate = *rate;
	return 0;
}

uint64_t nssm_sched_stream_at(const struct nssm_sched *s, uint64_t now_ns)
{
	return s->rate.kind == NSSM_RATE_SPEED ? stream_at(s, work_at(s, now_ns)) : s->stream_ns;
}

static void put_off(uint64_t *ns, uint64_t by_ns)
{
	*ns = *ns < END_NS && by_ns < END_NS - *ns ? *ns + by_ns : END_NS;
}

void nssm_sched_shift(struct nssm_sched *s, uint64_t by_ns)
{
	put_off(&s->start_ns, by_ns);
	put_off(&s->last_due_ns, by_ns);
	put_off(&s->cap_pps.ns, by_ns);
	put_off(&s->cap_bps.ns, by_ns);
}

uint64_t nssm_loop_start(uint64_t n, uint64_t duration_ns, uint64_t gap_ns)
{
	uint64_t period, start;
	if (__builtin_add_overflow(duration_ns, gap_ns, &period))
		return n == 0 ? 0 : UINT64_MAX;
	return __builtin_mul_overflow(n, period, &start) ? UINT64_MAX : start;
}
