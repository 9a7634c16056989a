"""Generates with conditions and measures what came out; the table that scripts/steer prints.

usage: steer.py --netssm FILE --model DIR --out DIR [--sessions N] [--packets N]
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess

RTT_MS = [5, 10, 20, 40, 80, 160, 320]
LOSS_PERCENT = [0, 1, 3, 8, 20]


def generate(args, flags, seed):
    """Measures of the sessions that were generated, as `netssm info` takes them of their captures."""
    shutil.rmtree(args.out, ignore_errors=True)
    subprocess.run([args.netssm, "generate", "--model", args.model, "--sessions", str(args.sessions), "--packets", str(args.packets),
                    "--seed", str(seed), "--progress", "none", "--out-dir", args.out, *flags], check=True, stdout=subprocess.DEVNULL)
    found = []
    for name in sorted(os.listdir(args.out)):
        if ".pcap" in name:
            text = subprocess.run([args.netssm, "info", "--json", os.path.join(args.out, name)], check=True, capture_output=True, text=True)
            found.append(json.loads(text.stdout)["measures"])
    return found


def ranks(values):
    """Of each value its rank; those that are alike share the mean."""
    order = sorted(range(len(values)), key=values.__getitem__)
    rank, at = [0.0] * len(values), 0
    while at < len(order):
        end = at
        while end < len(order) and values[order[end]] == values[order[at]]:
            end += 1
        for i in order[at:end]:
            rank[i] = (at + end - 1) / 2
        at = end
    return rank


def spearman(pairs):
    x, y = ranks([a for a, _ in pairs]), ranks([b for _, b in pairs])
    mx, my = statistics.mean(x), statistics.mean(y)
    top = sum((a - mx) * (b - my) for a, b in zip(x, y))
    bottom = (sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y)) ** 0.5
    return top / bottom if bottom > 0 else 0.0


def series(args, title, unit, flag, more, values, key, scale, seed):
    pairs = []
    print(f"{title:<12} {'sessions':>8} {'median':>10} {'quartiles':>20}")
    for i, v in enumerate(values):
        got = [m[key] * scale for m in generate(args, [flag, f"{v}{unit}", *more], seed + i) if m[key] is not None]
        pairs += [(v, g) for g in got]
        if len(got) < 2:
            print(f"{v:>8} {unit:<3} {len(got):>8}")
            continue
        lo, _, hi = statistics.quantiles(got, n=4)
        print(f"{v:>8} {unit:<3} {len(got):>8} {statistics.median(got):>10.3g} {lo:>9.3g}–{hi:<9.3g}")
    print(f"Spearman {spearman(pairs):.2f} over {len(pairs)} sessions\n", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--netssm", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--packets", type=int, default=300)
    args = parser.parse_args()
    # A round trip is the shortest of few gaps, so the unlikeliest gaps are left out; retransmissions are unlikely, so nothing is; of few
    # packets a share of lost ones can't be measured, so sessions are to have some.
    series(args, "--rtt", "ms", "--rtt", ["--top-p", "0.8"], RTT_MS, "rtt_s", 1e3, 100)
    series(args, "--loss", "%", "--loss", ["--session-packets", "128"], LOSS_PERCENT, "loss", 100, 200)


if __name__ == "__main__":
    main()
