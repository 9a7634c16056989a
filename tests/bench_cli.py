#!/usr/bin/env python3
"""usage: bench_cli.py NETSSM

netssm bench decode|prefill|train|prepare: JSON and table are what was asked for, figures are possible, errors are clear. No figure is
judged: a timing is a benchmark, never a test."""
import glob
import json
import math
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
netssm = os.path.abspath(sys.argv[1])
SMALL = ["--d-model", "64", "--n-layer", "2", "--headdim", "16", "--d-state", "16", "--batch", "2", "--seq-tokens", "64", "--run", "5ms"]


def run(*args, rc=0, cwd=ROOT):
    p = subprocess.run([netssm, "bench", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)
    assert p.returncode == rc, (args, p.returncode, p.stdout, p.stderr)
    return p.stdout if rc == 0 else p.stderr


def good(v):
    return isinstance(v, (int, float)) and math.isfinite(v) and v > 0


def rows(*args):
    j = json.loads(run(*args, "--json"))
    for r in j["rows"]:
        assert all(good(r[k]) for k in ("tokens_per_s", "min", "max", "threads")), r
        assert r["min"] <= r["tokens_per_s"] <= r["max"] and r["load_average"] >= 0, r
    return j


def model_rows(*args):
    j = rows(*args)
    assert all(good(v) for level in j["peaks"]["dot_per_core"].values() for v in level.values()), j["peaks"]
    assert all(good(m["read"]) and good(m["update"]) for m in j["peaks"]["memory"]), j["peaks"]
    for r in j["rows"]:
        assert good(r["flops_per_s"]) and good(r["bytes_per_s"]), r
        assert 0 < r["share_of_peak"] <= 1.2, r
    return j


levels = list(json.loads(run("decode", *SMALL, "--level", "generic", "--lanes", "1", "--threads", "1", "--json"))["peaks"]["dot_per_core"])
cores = len(os.sched_getaffinity(0))

# What flags name is all there is.
j = model_rows("decode", *SMALL, "--level", "generic", "--weights", "bf16", "--lanes", "3", "--threads", "2")
assert [(r["op"], r["level"], r["weights"], r["lanes"], r["threads"]) for r in j["rows"]] == [("decode", "generic", "bf16", 3, 2)], j["rows"]
j = model_rows("decode", *SMALL, "--level", "ref", "--lanes", "2", "--threads", "1")
assert [r["weights"] for r in j["rows"]] == ["f32", "bf16", "int8"] and {r["level"] for r in j["rows"]} == {"ref"}, j["rows"]

# Everything: the best level with all types, lanes and threads, the others once.
best, others = levels[0], [v for v in levels[1:] if v != "ref"]
d = model_rows("decode", *SMALL)["rows"]
for w in ("f32", "bf16", "int8"):
    for lanes in (1, 4, 16, 64, 256):
        for threads in {1, cores}:
            n = sum((r["level"], r["weights"], r["lanes"], r["threads"]) == (best, w, lanes, threads) for r in d)
            assert n == (threads <= lanes), (w, lanes, threads, n)
assert [r["level"] for r in d if r["level"] != best] == others, d
for op in ("prefill", "train"):
    r = model_rows(op, *SMALL, "--threads", "1")["rows"]
    assert {x["op"] for x in r} == {op} and {x["lanes"] for x in r} == {2}, r
    assert {x["weights"] for x in r if x["level"] == best} == {"f32", "bf16"} | ({"int8"} if op == "prefill" else set()), r

# The table says the same.
t = run("train", *SMALL, "--level", "generic", "--weights", "f32", "--threads", "1")
line = [v for v in t.splitlines() if v.startswith("train ")]
assert len(line) == 1 and line[0].split()[1:5] == ["generic", "f32", "2", "1"] and "%" in line[0], t
t = run(*SMALL, "--level", "generic", "--weights", "f32", "--threads", "1", "--lanes", "1")
assert [v.split()[0] for v in t.splitlines() if " generic " in v and "%" in v] == ["decode", "prefill", "train"], t

samples = sorted(glob.glob(os.path.join(ROOT, "samples", "*.pcap.gz")))[:3]
for args in ([], samples):
    r = rows("prepare", *args, "--run", "5ms")["rows"]
    assert [(x["op"], x["codec"]) for x in r] == [("prepare", "flow"), ("prepare", "raw")], r
    assert all(good(x["packets_per_s"]) and good(x["bytes_per_s"]) for x in r), r

for args, said in ((["nothing"], "expected model, decode"),
                   (["decode", "a.pcap"], "takes no captures, found a.pcap"),
                   (["wire", "--json"], "bench wire: has no --json"),
                   (["train", *SMALL, "--weights", "int8"], "expected f32 or bf16, found int8"),
                   (["decode", "--lanes", "0"], "--lanes"),
                   (["decode", "--weights", "fp8"], "--weights"),
                   (["decode", "--threads", "100", "--lanes", "1"], "at most 64 threads, found 100"),
                   (["decode", "--d-model", "100"], "d_model"),
                   (["prepare", "/nonexistent.pcap"], "/nonexistent.pcap")):
    p = subprocess.run([netssm, "bench", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert p.returncode != 0 and said in p.stderr, (args, p.returncode, p.stderr)
p = subprocess.run([netssm, "bench", "prepare"], stderr=subprocess.PIPE, text=True, cwd="/")
assert p.returncode != 0 and "no captures are named" in p.stderr, p.stderr
print("ok")
