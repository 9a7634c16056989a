#!/usr/bin/env python3
"""usage: startup.py NETSSM MODEL [RUNS]

How long generate takes from exec to its first packet: in a capture (the instant at which the finished file of one short session got
its name) and on a wire (net_null; the instant in the truth file at which the first packet was sent). Prints the medians; fails
where the fastest run took longer than BOUND_MS, times what each CPU has to do at the moment if that is more than one thing."""
import csv
import os
import subprocess
import sys
import tempfile
import time

BOUND_MS = 1000

netssm, model = sys.argv[1:3]
runs = int(sys.argv[3]) if len(sys.argv) > 3 else 5
model_args = [netssm, "generate", "--model", model, "--label", "web", "--seed", "1"]


def run(args):
    """The wall clock just before exec, in ns."""
    began = time.time_ns()
    p = subprocess.run(model_args + args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert p.returncode == 0, (args, p.stdout)
    return began


def to_capture(tmp):
    out = os.path.join(tmp, "out.pcap")
    began = run(["--sessions", "1", "--packets", "5", "--pcap-out", out])
    ms = (os.stat(out).st_ctime_ns - began) / 1e6
    assert os.stat(out).st_size > 24, "no packet in the capture"
    os.unlink(out)
    return ms


def to_wire(tmp):
    truth = os.path.join(tmp, "truth.csv")
    began = run(["--sessions", "0", "--port", "null", "--truth", truth, "--duration", "200ms"])
    with open(truth) as f:
        sent = [row["first_sent"] for row in csv.DictReader(f) if int(row["packets_fwd"]) + int(row["packets_rev"]) > 0]
    assert sent, "no flow was sent"
    # Decimal digits beyond a double's: seconds and nanoseconds apart.
    whole, part = min(sent).split(".")
    return (int(whole) * 10**9 + int(part.ljust(9, "0")) - began) / 1e6


failed = False
with tempfile.TemporaryDirectory() as tmp:
    took = {"a capture": [], "a wire": []}
    for _ in range(runs):
        took["a capture"].append(to_capture(tmp))
        took["a wire"].append(to_wire(tmp))
for what, ms in took.items():
    ms.sort()
    assert ms[0] > 0, ms
    print(f"first packet to {what}: {ms[len(ms) // 2]:.0f} ms after exec ({ms[0]:.0f}..{ms[-1]:.0f} of {len(ms)} runs, "
          f"load {os.getloadavg()[0]:.2f})")
    bound = BOUND_MS * max(1, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
    if ms[0] > bound:
        print(f"FAILED: expected at most {bound:.0f} ms at best")
        failed = True
sys.exit(failed)
