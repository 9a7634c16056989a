#!/usr/bin/python3
"""Golden figures for tests/test_eval.c: pairs of random tallies and how far SciPy finds them apart.

    tests/golden/divergence.py > tests/golden/divergence.txt
Three lines a case: `a value:count …`, `b …`, `= jsd jsd_sqrt tv hellinger emd ks` as in app/eval/divergence.h.
"""
import math
import random

from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance


def figures(a, b):
    values = sorted(a.keys() | b.keys())
    na, nb = sum(a.values()), sum(b.values())
    p, q = [a.get(v, 0) / na for v in values], [b.get(v, 0) / nb for v in values]
    root = jensenshannon(p, q, base=2)
    area = wasserstein_distance(list(a), list(b), list(a.values()), list(b.values()))
    samples = [[v for v, n in x.items() for _ in range(n)] for x in (a, b)]
    return (root**2, root, sum(abs(x - y) for x, y in zip(p, q)) / 2,
            math.sqrt(sum((math.sqrt(x) - math.sqrt(y))**2 for x, y in zip(p, q)) / 2),
            area / (values[-1] - values[0]), ks_2samp(*samples, mode="asymp").statistic)


def main():
    rng = random.Random(1)
    for case in range(24):
        span = rng.choice((3, 20, 1500, 65536))
        sides = []
        for _ in range(2):
            few = [rng.randrange(span) for _ in range(rng.randint(1, 40))]
            sides.append({v: rng.randint(1, 60) for v in sorted(set(few))})
        if case % 3 == 0:  # near each other
            sides[1] = {v: n + rng.randrange(3) for v, n in sides[0].items()} | {span: 1}
        if len(sides[0].keys() | sides[1].keys()) < 2:
            continue
        for name, side in zip("ab", sides):
            print(name, *(f"{v}:{n}" for v, n in side.items()))
        print("=", *(f"{x:.15g}" for x in figures(*sides)))


main()
