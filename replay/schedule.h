/* schedule — when each packet is due: pure arithmetic on numbers, no clock, no memory.
 * Rates  : original            due = anchor + (stream − stream at the anchor)
 *          2.5x, 0.1x          the same divided by an exact rational
 *          100kpps, 14.88Mpps  packet n is due at anchor + n/rate
 *          1.2Gbps [L1|L2]     due when the bits before it have passed; L2 (the default, as TRex counts): frame + 4 bytes FCS;
 *                              "1.2GbpsL1": + 20 bytes preamble and gap. Frames under 60 bytes count as 60.
 *          80%                 of the line rate, L1
 *          top                 at once
 *          Suffixes k M G (powers of 1000), fractions ("1.5Mpps") exact to nine digits.
 * Exact  : positions are counted from an anchor in integers, products in 128 bits; nothing accumulates. Anchors move only when
 *          the rate changes, on pause and at the end of a ramp. Exact (to the ns, rounded down) for 30 days and more.
 * Ramp   : the rate rises linearly from 0 to its value over ramp_ns; position p(t) = rate*t^2/(2*ramp) while t < ramp.
 *          For original and x the stream's own clock is what rises.
 * Share  : with several lcores each gets num/den of a pps, bps or % rate.
 * Loops  : nssm_loop_start: loop n of a capture of length d (first to last packet) starts at n*(d + gap).
 * Caps   : max_pps and max_bps hold whatever the rate is: a packet is not due before the cap has let through those before it.
 * Checked: tests/test_schedule.c (30 days of each rate against exact rational arithmetic)                                      */
#ifndef NSSM_SCHEDULE_H
#define NSSM_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum nssm_rate_kind { NSSM_RATE_SPEED, NSSM_RATE_PPS, NSSM_RATE_BPS_L1, NSSM_RATE_BPS_L2, NSSM_RATE_PERCENT, NSSM_RATE_TOP };

/* num/den: times the original, packets a second, bits a second, or share of the line rate (80% is 80/100). "original" is 1/1. */
struct nssm_rate {
	enum nssm_rate_kind kind;
	uint64_t num, den;
};
/* where: for messages ("--rate"). */
int nssm_rate_parse(struct nssm_rate *r, const char *text, const char *where, struct nssm_err *err);
/* "2.5x", "100 kpps"; returns buf. */
char *nssm_rate_print(char buf[32], const struct nssm_rate *r);

struct nssm_sched {
	struct nssm_rate rate;
	uint64_t line_bps;          /* for PERCENT; 0: unknown, PERCENT is then refused by nssm_sched_init */
	uint64_t share_num, share_den;
	uint64_t max_pps, max_bps;  /* 0: none; bps as L2 */
	uint64_t ramp_ns;
	/* state */
	uint64_t anchor_ns, anchor_stream_ns, last_due_ns;
	uint64_t n_packets;         /* since the anchor */
	unsigned __int128 n_bits;
	uint64_t ramp_left_ns;
	uint64_t cap_anchor_ns, cap_packets, cap_bits;
	bool started;
};
/* line_bps, share, caps and ramp of s are set by the caller; the rest is made here. */
int nssm_sched_init(struct nssm_sched *s, const struct nssm_rate *rate, struct nssm_err *err);
/* Due time (ns since the start) of the next packet in the order of the stream; counts it. Never decreases. */
uint64_t nssm_sched_next(struct nssm_sched *s, uint64_t stream_ns, uint32_t wirelen);
/* From now on another rate; what was due before stays. stream_ns: of the last packet given out. */
int nssm_sched_change(struct nssm_sched *s, const struct nssm_rate *rate, uint64_t now_ns, uint64_t stream_ns, struct nssm_err *err);
/* Time stood still from from_ns to to_ns: all that comes is that much later. */
void nssm_sched_shift(struct nssm_sched *s, uint64_t by_ns);

/* UINT64_MAX where it would not fit. */
uint64_t nssm_loop_start(uint64_t n, uint64_t duration_ns, uint64_t gap_ns);

#endif
