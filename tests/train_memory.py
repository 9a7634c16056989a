#!/usr/bin/python3
"""conf/small.yaml trains on sessions of 100,000 tokens, one at a time, within 8 GiB.

usage: train_memory.py NETSSM
"""
import os
import resource
import subprocess
import sys
import tempfile

NETSSM = sys.argv[1]
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIMIT = 8 << 30


def main():
    if os.environ.get("NSSM_SANITIZED"):
        print("SKIP: a sanitizer's own memory would be measured")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as tmp:
        corpus = os.path.join(tmp, "c.nssm")
        run = [NETSSM, "prepare", "--captures", f"{ROOT}/samples", "--labels", f"{ROOT}/samples/labels.csv", "--out", corpus,
               "--progress", "none"]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        run = [NETSSM, "train", "--config", f"{ROOT}/conf/small.yaml", "--corpus", corpus, "--batch", "1", "--seq-tokens",
               "100000", "--steps", "2", "--out", os.path.join(tmp, "m"), "--progress", "none"]
        out = subprocess.run(run, check=True, capture_output=True, text=True).stdout
        print(out, end="")
        rss = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        rows = open(os.path.join(tmp, "m", "log.csv")).read().splitlines()[1:]
        print(f"peak memory {rss / 2**30:.2f} GiB, allowed {LIMIT / 2**30:.0f} GiB")
        assert len(rows) == 2 and rows[1].split(",")[1] == "200000", rows
        assert rss <= LIMIT


main()
