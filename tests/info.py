#!/usr/bin/python3
"""`netssm info` on a corpus, a checkpoint and a capture, held against independent counts; damage is found and named.

usage: info.py NETSSM
"""
import gzip
import json
import math
import os
import struct
import subprocess
import sys
import tempfile

NETSSM = sys.argv[1]
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SAMPLE = os.path.join(ROOT, "samples", "dns-001.pcap.gz")


def run(*args):
    return subprocess.run([NETSSM, *args], capture_output=True, text=True)


def info(*args):
    r = run("info", "--json", *args)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def packets(path):
    """(captured, wire) lengths of a classic little-endian pcap, read by hand."""
    blob, at = gzip.open(path).read(), 24
    while at < len(blob):
        cap, wire = struct.unpack_from("<II", blob, at + 8)
        yield cap, wire
        at += 16 + cap


def check_capture():
    rows, j = list(packets(SAMPLE)), info(SAMPLE)
    assert j["kind"] == "capture" and j["link_type"] == 1 and j["gz"] and j["ns"]
    assert j["packets"] == len(rows)
    assert j["captured_bytes"] == sum(c for c, _ in rows) and j["wire_bytes"] == sum(w for _, w in rows)
    assert j["shorter_than_wire"] == sum(c < w for c, w in rows)
    assert j["tcp"] + j["udp"] + sum(j["skipped"].values()) == len(rows)
    return j


def check_broken_capture(tmp):
    cut = os.path.join(tmp, "cut.pcap")
    with open(cut, "wb") as f:
        f.write(gzip.open(SAMPLE).read()[:-3])
    r = run("info", cut)
    assert r.returncode == 1 and cut in r.stderr and "packet" in r.stderr, r


def check_corpus(tmp, capture):
    path = os.path.join(tmp, "c.nssm")
    r = run("prepare", "--captures", SAMPLE, "--label", "dns", "--codec", "raw", "--out", path, "--progress", "none")
    assert r.returncode == 0, r.stderr
    j = info(path, "--verify")
    assert j["kind"] == "corpus" and j["verified"] and j["sessions"] == 1
    assert j["packets"] == capture["tcp"] + capture["udp"]
    assert j["tokens"] == 1 + j["packets"] * 129, "label, 128 bytes a packet, separators, end"
    assert j["labels"][0]["skipped"] == capture["skipped"]
    blob = bytearray(open(path, "rb").read())
    blob[192 + 2000] ^= 1  # a bit of a token: behind the header of 192 bytes
    with open(path, "wb") as f:
        f.write(blob)
    assert run("info", path).returncode == 0, "tables are whole; tokens are looked at with --verify"
    r = run("info", "--verify", path)
    assert r.returncode == 1 and path in r.stderr and "CRC" in r.stderr, r


def half_octave(value, base, first=1):
    return base * 2 ** (max(round(2 * math.log2(value / base)), 0) / 2) if value > 0 else 0


def check_conditions(tmp):
    """The distribution of what sessions were like is that of the captures' own measures, in half octaves."""
    folder = os.path.join(ROOT, "samples")
    names = [f"web-{i:03}.pcap.gz" for i in range(1, 8)]
    path = os.path.join(tmp, "conditions.nssm")
    r = run("prepare", *(a for n in names for a in ("--captures", os.path.join(folder, n))), "--label", "web", "--codec", "flow",
            "--conditions", "--out", path, "--progress", "none")
    assert r.returncode == 0, r.stderr
    captures = [info(os.path.join(folder, n)) for n in names]
    for c in captures:
        m = c["measures"]
        assert abs(m["throughput_bps"] * c["duration_s"] / 8 / c["wire_bytes"] - 1) < 1e-6
        assert m["loss"] == m["sent_again"] / m["data_segments"] and m["rtt_times"] > 0
    want = {
        "rtt": [half_octave(c["measures"]["rtt_s"], 1e-6) for c in captures],
        "loss": [half_octave(c["measures"]["loss"], 1e-5) for c in captures],
        "throughput": [half_octave(c["measures"]["throughput_bps"], 1) for c in captures],
        "duration": [half_octave(c["duration_s"], 1e-6) for c in captures],
        "packets": [half_octave(c["packets"], 1) for c in captures],
    }
    found = info(path)["labels"][0]["conditions"]
    for name, values in want.items():
        values.sort()
        row = found[name]
        assert row["known"] == len(names)
        for key, value in (("min", values[0]), ("median", values[3]), ("max", values[-1])):
            assert abs(row[key] - value) <= 1e-6 * value, (name, key, row, value)
    # HTTP in the clear, on port 80, is not named.
    rows = info(path)["encrypted"]
    assert rows["version"] == 1 and rows["udp"] == [] and [r[0] for r in rows["tcp"]] == [443] and rows["tcp"][0][2] == 0, rows
    text = run("info", path).stdout
    assert f"TLS 443 ({rows['tcp'][0][1]} of {rows['tcp'][0][1]} flows); QUIC none" in text, text
    assert "throughput" in text and "Mbit/s" in text or "kbit/s" in text, text


def check_checkpoint():
    folder = os.path.join(ROOT, "model", "pretrained")
    j = info(folder)
    blob = open(os.path.join(folder, "model.safetensors"), "rb").read()
    (n,) = struct.unpack_from("<Q", blob)
    head = json.loads(blob[8:8 + n])
    count = 0
    for name, t in head.items():
        if name != "__metadata__":
            elements = 1
            for d in t["shape"]:
                elements *= d
            count += elements
    assert j["kind"] == "checkpoint" and j["parameters"] == count and j["dtype"] == "bf16"
    assert [x["label"] for x in j["labels"]] == run("generate", "--model", folder, "--list-labels").stdout.split()


def main():
    with tempfile.TemporaryDirectory() as tmp:
        capture = check_capture()
        check_broken_capture(tmp)
        check_corpus(tmp, capture)
        check_conditions(tmp)
    check_checkpoint()
    nothing = run("info", "/nonexistent/x")
    assert nothing.returncode == 1 and "/nonexistent/x" in nothing.stderr


main()
