/* schedule — when each packet is due: pure arithmetic on numbers, no clock, no memory.
 * Rates  : original            due = stream time; the stream's 0 is due at 0
 *          2.5x, 0.1x          the same divided by an exact rational
 *          100kpps, 14.88Mpps  packet n (from 0) is due at n/rate
 *          1.2Gbps [L1|L2]     due when the bits before it have passed; L2 (the default, as TRex counts): frame + 4 bytes FCS;
 *                              "1.2GbpsL1": + 20 bytes preamble and gap. Frames under 60 bytes count as 60.
 *          80%                 of the line rate, L1
 *          top                 at once
 *          Suffixes k M G (powers of 1000), fractions ("1.5Mpps") exact to nine digits. A blank may stand before the unit.
 * Exact  : a rate is a step of whole + frac/div ns a unit (packet, byte, ns of the stream), and a clock stands at ns + rem/div:
 *          nothing is ever rounded but what is given out, down to the ns. So it is exact for any length of run; a packet costs
 *          an addition (x1, pps) or one 64-bit division (bytes, other x). Anchors are whole ns and move only when the rate changes.
 * Ramp   : the rate rises linearly from 0 to its value over ramp_ns: position p(t) = rate*t^2/(2*ramp) while t < ramp, and lags
 *          by ramp/2 from then on. For original and x the stream's own clock is what rises. A change of rate on the way keeps the
 *          ramp: the new rate rises from where the old one stood. top knows none.
 * Share  : with several lcores each gets num/den of a pps, bps or % rate, and of the caps.
 * Change : the new rate holds from T = max(now, the last due given out). No burst and no gap: of what was left to wait for the next
 *          packet, the same fraction is left in the new rate (x to x: the stream goes on from where it stood at T). What was put off
 *          by a cap, or is late, is not made up for: the next packet is due at T at the earliest, and those after it follow it.
 *          A caller looks with nssm_sched_peek and takes a packet only once it is due, so that a change finds none in its hands.
 * Loops  : nssm_loop_start: loop n of a capture of length d (first to last packet) starts at n*(d + gap).
 * Caps   : max_pps and max_bps (L2) hold whatever the rate is: a packet is not due before those before it have passed at the cap's
 *          rate. Nothing is saved up while idle: any window of 1 s, half open, has at most max_pps packets, and at most
 *          max_bps bits besides its last packet's. What a cap has put off is caught up on at the cap's rate. A share of a cap is
 *          rounded down to a whole packet or bit a second, so that the sum over lcores holds it.
 * Range  : dues end at NSSM_SCHED_END_NS (146 years); what would be later is due then.
 * Checked: tests/test_schedule.c (30 days of each rate against 128-bit arithmetic from the start, and tests/golden/schedule.txt) */
#ifndef NSSM_SCHEDULE_H
#define NSSM_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum nssm_rate_kind { NSSM_RATE_SPEED, NSSM_RATE_PPS, NSSM_RATE_BPS_L1, NSSM_RATE_BPS_L2, NSSM_RATE_PERCENT, NSSM_RATE_TOP };

/* num/den > 0: times the original, packets a second, bits a second, or share of the line rate (80% is 80/100). "original" is
 * 1/1. */
struct nssm_rate {
	enum nssm_rate_kind kind;
	uint64_t num, den;
};
/* In lowest terms. Up to 10^9 x, 10^12 pps, 10^15 bps, 100 %. where: for messages ("--rate"). */
int nssm_rate_parse(struct nssm_rate *r, const char *text, const char *where, struct nssm_err *err);
/* "2.5x", "100 kpps", "1.2 Gbps L1"; returns buf. What nssm_rate_parse gave comes back the same when parsed again; any other
 * fraction is cut at nine digits. */
char *nssm_rate_print(char buf[32], const struct nssm_rate *r);

#define NSSM_SCHED_END_NS (1ull << 62)

/* Stands at ns + rem/div and goes on by whole + frac/div a unit; rem, frac < div <= 2^63. */
struct nssm_sched_clock {
	uint64_t ns, rem;
	uint64_t whole, frac, div;
};

struct nssm_sched {
	struct nssm_rate rate;
	uint64_t line_bps;             /* for PERCENT; 0: unknown, PERCENT is then refused */
	uint64_t share_num, share_den; /* 0/0: all */
	uint64_t max_pps, max_bps;     /* 0: none; bps as L2 */
	uint64_t ramp_ns;              /* 0: none */
	/* state */
	struct nssm_sched_clock work;  /* time at full rate: of the next packet (pps, bps), of stream_ns (x) */
	struct nssm_sched_clock cap_pps, cap_bps; /* when the caps let the next packet through */
	uint64_t start_ns;             /* where the work clock's 0 is */
	uint64_t stream_ns;            /* furthest that the stream has come */
	uint64_t last_due_ns;
	uint64_t resume_ns;            /* work clock at the last change: the next packet is not due before it */
	uint64_t resume_stream_ns;     /* the last packet's at that time */
	uint32_t last_wirelen;
	bool started;                  /* a packet was given out */
	bool capped, ramping, resumed;
};
/* line_bps, share, caps and ramp of s are set by the caller; the rest is made here. Errors: NSSM_EARG (no line rate, a cap that
 * is too small to share, a ramp for top), NSSM_ERANGE (num, den and share too large for 64 bits together). */
int nssm_sched_init(struct nssm_sched *s, const struct nssm_rate *rate, struct nssm_err *err);
/* Due time (ns since the start) of the next packet in the order of the stream; counts it. Never decreases. A stream_ns before the
 * one of the last packet counts as that. wirelen: without FCS. */
uint64_t nssm_sched_next(struct nssm_sched *s, uint64_t stream_ns, uint32_t wirelen);
/* What nssm_sched_next would say; nothing is counted. */
uint64_t nssm_sched_peek(const struct nssm_sched *s, uint64_t stream_ns);
/* From now on another rate; what was due before stays. stream_ns: of the last packet given out. On an error nothing changes. */
int nssm_sched_change(struct nssm_sched *s, const struct nssm_rate *rate, uint64_t now_ns, uint64_t stream_ns, struct nssm_err *err);
/* Time stood still for by_ns: all that comes is that much later. */
void nssm_sched_shift(struct nssm_sched *s, uint64_t by_ns);
/* Where the stream stands at now_ns: with original and x by the clock, never before the last packet given out; else the last
 * packet's. */
uint64_t nssm_sched_stream_at(const struct nssm_sched *s, uint64_t now_ns);

/* UINT64_MAX where it would not fit. */
uint64_t nssm_loop_start(uint64_t n, uint64_t duration_ns, uint64_t gap_ns);

#endif
