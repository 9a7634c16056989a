#!/usr/bin/env python3
"""Due times by exact rational arithmetic, for tests/test_schedule.c.

    python3 tests/golden/schedule.py > tests/golden/schedule.txt

Packet n has SIZES[n % 7] bytes and stands at n*step + n % 3 ns of the stream. Each case runs for 30 days or more of its schedule.
A line "case KIND NUM DEN SHARE_NUM SHARE_DEN LINE_BPS RAMP_NS STEP_NS" is followed by lines "N DUE_NS", N rising.
"""
import random
from fractions import Fraction
from math import isqrt

SIZES = [60, 1514, 576, 40, 9014, 1518, 66]
DAYS_30 = 30 * 86400 * 10**9
# enum nssm_rate_kind
SPEED, PPS, BPS_L1, BPS_L2, PERCENT = range(5)


def bytes_before(n, extra):
    units = [max(s, 60) + extra for s in SIZES]
    return n // 7 * sum(units) + sum(units[: n % 7])


def work(kind, rate, n, step):
    """Time at full rate of packet n, in ns."""
    if kind == SPEED:
        return Fraction(n * step + n % 3) / rate
    if kind == PPS:
        return n * 10**9 / rate
    return 8 * bytes_before(n, 4 if kind == BPS_L2 else 24) * 10**9 / rate


def due(kind, rate, n, step, ramp):
    w = work(kind, rate, n, step)
    if ramp == 0:
        return int(w)
    if w >= Fraction(ramp, 2):
        return int(w + Fraction(ramp, 2))
    return isqrt(int(2 * ramp * w))  # floor(sqrt(x)) = isqrt(floor(x))


def case(kind, num, den, share=(1, 1), line=0, ramp=0, step=10**9):
    rate = Fraction(num, den)
    if kind == PERCENT:
        rate *= line
    if kind != SPEED:
        rate *= Fraction(*share)
    print("case", kind, num, den, *share, line, ramp, step)
    end = 1
    while due(kind, rate, end, step, ramp) < DAYS_30:
        end *= 2
    lo = end // 2
    while lo < end:  # first packet behind the 30 days
        mid = (lo + end) // 2
        lo, end = (mid + 1, end) if due(kind, rate, mid, step, ramp) < DAYS_30 else (lo, mid)
    rng = random.Random(f"{kind} {num} {den}")
    picks = set(range(12)) | {end + i for i in range(-6, 6)} | {rng.randrange(end) for _ in range(24)}
    if ramp:  # its end, to the packet
        lo, hi = 0, end
        while lo < hi:
            mid = (lo + hi) // 2
            lo, hi = (mid + 1, hi) if work(kind, rate, mid, step) * 2 < ramp else (lo, mid)
        picks |= {n for n in range(lo - 6, lo + 6) if n >= 0} | {rng.randrange(lo) for _ in range(12)}
    for n in sorted(picks):
        print(n, due(kind, rate, n, step, ramp))


case(SPEED, 1, 1, step=999999937)
case(SPEED, 1, 3, step=333333333)
case(SPEED, 5, 2, step=3 * 10**9 + 1)
case(SPEED, 1, 10, step=123456789)
case(SPEED, 1123456789, 10**9, step=1234567890)
case(SPEED, 999999999999999989, 888888888888888883, step=2 * 10**9 + 7)
case(SPEED, 7, 3, step=2 * 10**9 + 7, ramp=3600 * 10**9)
case(PPS, 7, 8)
case(PPS, 3, 1, (1, 7))
case(PPS, 1000000007, 10**9, (2, 3))
case(PPS, 999999999999999989, 888888888888888883)
case(PPS, 1, 1, ramp=86400 * 10**9)
case(PPS, 10, 9, (5, 7), ramp=86400 * 10**9 + 1)
case(PPS, 3, 2, ramp=40 * 86400 * 10**9)  # it does not end in time
case(BPS_L1, 14000, 1)
case(BPS_L1, 2305843009213693951, 10**14 + 31)
case(BPS_L1, 33333, 2, (1, 3), ramp=30 * 10**9)
case(BPS_L2, 9999999, 1000)
case(BPS_L2, 10007, 1, (3, 7))
case(BPS_L2, 12345, 1, ramp=7 * 86400 * 10**9)
case(PERCENT, 4, 5, line=17777)
case(PERCENT, 1, 3, (2, 3), line=49999)
case(PERCENT, 999999937, 10**9, line=10007, ramp=3600 * 10**9)
