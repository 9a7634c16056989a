#!/usr/bin/python3
"""`netssm eval`, part "statistical": figures worked out again from the captures by code that shares nothing with it; equal sets give 0,
sets with nothing in common 1; threads change nothing, the seed what it says; what is missing, broken or in one set only is said.

usage: eval_cli.py NETSSM
"""
import collections
import csv
import glob
import gzip
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile

NETSSM = sys.argv[1]
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SAMPLES = os.path.join(ROOT, "samples", "labels.csv")
COLUMNS, FIGURES = ("synthetic", "real", "shuffled"), ("jsd", "jsd_sqrt", "tv", "hellinger", "emd", "ks")
CATEGORIES = {"ethertype", "ip_tos", "ip_proto", "ip_flags", "tcp_src_port", "tcp_dst_port", "tcp_flags", "tcp_options", "udp_src_port",
              "udp_dst_port", "direction"}


def run(*args):
    return subprocess.run([NETSSM, "eval", "--progress", "none", *args], capture_output=True, text=True)


def evaluate(tmp, *args):
    out = os.path.join(tmp, "eval.json")
    r = run("--json", out, *args)
    assert r.returncode == 0, r.stderr
    assert "nan" not in r.stdout.lower() and "inf" not in r.stdout.lower(), r.stdout
    with open(out, encoding="utf-8") as f:
        text = f.read()
    def refuse(what):
        raise AssertionError(f"{what} in the JSON")
    return json.loads(text, parse_constant=refuse), r


def rows(path):
    """(ns, wire length, frame) of a classic little-endian pcap."""
    blob, at = gzip.open(path).read(), 24
    unit = 1 if struct.unpack_from("<I", blob)[0] == 0xA1B23C4D else 1000
    while at < len(blob):
        s, frac, cap, wire = struct.unpack_from("<IIII", blob, at)
        yield s * 10**9 + frac * unit, wire, blob[at + 16:at + 16 + cap]
        at += 16 + cap


def samples(label, split):
    with open(SAMPLES, encoding="utf-8") as f:
        return [os.path.join(ROOT, "samples", r["File"]) for r in csv.DictReader(f) if r["Label"] == label and r["Split"] == split]


def log_bin(v):
    """The largest b whose first value is not above v."""
    if v < 4:
        return v
    e = v.bit_length() - 1
    return 4 * (e - 1) + math.floor((v / 2**e - 1) * 4)


def flow(frame):
    """(sender, receiver) of a TCP or UDP packet over IPv4 or plain IPv6, else None."""
    if frame[12:14] == b"\x08\x00" and frame[23] in (6, 17) and not (frame[20] & 31 or frame[21]):
        l4 = 14 + frame[14] % 16 * 4
        return (frame[26:30], frame[l4:l4 + 2]), (frame[30:34], frame[l4 + 2:l4 + 4]), frame[23]
    if frame[12:14] == b"\x86\xdd" and frame[20] in (6, 17):
        return (frame[22:38], frame[54:56]), (frame[38:54], frame[56:58]), frame[20]
    return None


def tallies(paths):
    t = collections.defaultdict(collections.Counter)
    for path in paths:
        last, flows, n_flows = None, {}, 0
        for ns, wire, frame in rows(path):
            t["size"][wire] += 1
            if last is not None:
                t["iat"][log_bin(max(ns - last, 0) // 1000)] += 1
            last = max(ns, last or 0)
            if frame[12:14] == b"\x08\x00":
                t["ip_ttl"][frame[22]] += 1
            elif frame[12:14] == b"\x86\xdd":
                t["ip_ttl"][frame[21]] += 1
            if frame[12:14] in (b"\x08\x00", b"\x86\xdd"):
                t["df"][-1 if frame[12] == 0x86 else frame[20] >> 6 & 1] += 1
            ends = flow(frame)
            if ends:
                f = flows.setdefault((frozenset(ends[:2]), ends[2]), {"n": 0, "bytes": 0, "by": ends[0]})
                f["n"] += 1
                f["bytes"] += wire
                t["direction"][int(f["by"] != ends[0])] += 1
        for f in flows.values():
            t["flow_packets"][log_bin(f["n"])] += 1
            t["flow_bytes"][log_bin(f["bytes"])] += 1
        t["flows_per_session"][log_bin(len(flows))] += 1
    return t


def figures(a, b):
    na, nb, values = sum(a.values()), sum(b.values()), sorted(a.keys() | b.keys())
    p, q = [a[v] / na for v in values], [b[v] / nb for v in values]
    kl = lambda x, m: sum(u * math.log2(u / v) for u, v in zip(x, m) if u)
    m = [(x + y) / 2 for x, y in zip(p, q)]
    cdf = [(sum(p[:i + 1]), sum(q[:i + 1])) for i in range(len(values))]
    jsd = (kl(p, m) + kl(q, m)) / 2
    area = sum(abs(x - y) * (v - u) for (x, y), u, v in zip(cdf, values, values[1:]))
    return {"jsd": jsd, "jsd_sqrt": math.sqrt(max(jsd, 0)), "tv": sum(abs(x - y) for x, y in zip(p, q)) / 2,
            "hellinger": math.sqrt(sum((math.sqrt(x) - math.sqrt(y))**2 for x, y in zip(p, q)) / 2),
            "emd": area / ((values[-1] - values[0]) or 1), "ks": max(abs(x - y) for x, y in cdf)}


def near(got, want, what):
    assert got is not None and abs(got - want) < 1e-8, (what, got, want)


def check_against_python(tmp):
    """Training set against validation set of the samples, in the columns real (train, val) and synthetic (all, val)."""
    j, _ = evaluate(tmp, "--real", SAMPLES, "--split", "val", "--train-split", "train", "--synthetic", SAMPLES)
    stat = j["statistical"]
    assert stat["real_against"] == "train" and [c["label"] for c in stat["labels"]] == ["dns", "video", "web"]
    bit = stat["bit_names"].index("ipv4_dfbit_0")
    for cmp in stat["labels"]:
        train, val = (samples(cmp["label"], s) for s in ("train", "val"))
        a, b, both = tallies(train), tallies(val), tallies(train + val)
        assert cmp["sessions"]["real"] == [len(train), len(val)] and cmp["sessions"]["synthetic"] == [len(train + val), len(val)]
        assert cmp["packets"]["real"] == [sum(a["size"].values()), sum(b["size"].values())]
        for column, side in (("real", a), ("synthetic", both)):
            for name in set(a) - {"df"}:
                for figure, want in figures(side[name], b[name]).items():
                    got = cmp["measures"][name][figure][column]
                    if figure in ("emd", "ks") and name in CATEGORIES:
                        assert got is None
                    else:
                        near(got, want, (cmp["label"], column, name, figure))
            for figure, want in figures(side["df"], b["df"]).items():
                near(cmp["bits"][column][figure][bit], want, (cmp["label"], column, "df", figure))
        # What does not know order is what it was; the sizes change their places only.
        for name in ("size", "iat", "ip_ttl", "session_packets", "session_duration", "tcp_flags"):
            assert cmp["measures"][name]["jsd"]["shuffled"] == cmp["measures"][name]["jsd"]["real"], name
        assert cmp["bits"]["shuffled"] == cmp["bits"]["real"]
    check_means(stat)
    assert stat["mean"]["measures"]["flows_per_session"]["jsd"]["shuffled"] > 0.5 > stat["mean"]["measures"]["flows_per_session"]["jsd"]["real"]
    return j


def check_means(stat):
    ids = ("src", "dst", "cksum", "sprt", "dprt", "seq", "ackn", "sport", "dport")
    plain = [i for i, n in enumerate(stat["bit_names"]) if n.split("_")[1] not in ids]
    assert len(stat["bit_names"]) == 1408 and len(plain) == 1408 - 80 - 256 - 112 - 48 - 16
    for column in COLUMNS:
        for figure in FIGURES:
            means = []
            for cmp in stat["labels"] + [stat["pooled"]]:
                v = cmp["bits"][column][figure]
                near(cmp["bits_mean"][figure][column], sum(v) / 1408, "bits_mean")
                near(cmp["bits_mean_without_identifiers"][figure][column], sum(v[i] for i in plain) / len(plain), "without")
                m = {k: x[figure][column] for k, x in cmp["measures"].items() if x[figure][column] is not None}
                near(cmp["measures_mean"][figure][column], sum(m.values()) / len(m), "measures_mean")
                m = [v for k, v in m.items() if not k.endswith("port")]
                near(cmp["measures_mean_without_identifiers"][figure][column], sum(m) / len(m), "measures without")
                means.append(cmp["bits_mean"][figure][column])
            near(stat["mean"]["bits_mean"][figure][column], sum(means[:-1]) / (len(means) - 1), "mean of labels")
        assert stat["jsd_bits_mean"][column] == stat["mean"]["bits_mean"]["jsd"][column]


def check_equal_and_disjoint(tmp):
    j, r = evaluate(tmp, "--real", SAMPLES, "--synthetic", SAMPLES)
    assert j["statistical"]["real_against"] == "halves of the real set" and "half" in r.stdout
    for cmp in j["statistical"]["labels"] + [j["statistical"]["pooled"]]:
        for name, figs in cmp["measures"].items():
            for figure in FIGURES:
                assert figs[figure]["synthetic"] in (0, None), (name, figure)
        assert not any(any(v) for v in cmp["bits"]["synthetic"].values())
        n = cmp["sessions"]
        if cmp["label"] != "all":
            assert n["real"] == [n["synthetic"][0] // 2, n["synthetic"][0] - n["synthetic"][0] // 2]
    # A set made by hand that meets the samples in none of these; its datagrams are shorter than all of theirs.
    made = os.path.join(tmp, "made")
    os.mkdir(made)
    hdr = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 29, 0, 0, 7, 17, 0, b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02")
    frame = bytes(12) + b"\x08\x00" + ip + struct.pack(">HHHH", 9, 9, 9, 0) + b"x"
    with open(os.path.join(made, "a.pcap"), "wb") as f:
        f.write(hdr + b"".join(struct.pack("<IIII", 1 + i, 0, len(frame), len(frame)) + frame for i in range(3)))
    with open(os.path.join(made, "labels.csv"), "w", encoding="utf-8") as f:
        f.write("File,Label\na.pcap,dns\n")
    j, r = evaluate(tmp, "--real", SAMPLES, "--synthetic", made)
    stat = j["statistical"]
    assert [c["label"] for c in stat["labels"]] == ["dns"] and stat["labels_only_real"] == ["video", "web"] and "video, web" in r.stdout
    m = stat["labels"][0]["measures"]
    for name in ("size", "ip_ttl", "udp_length", "udp_src_port", "flow_iat", "ip_length"):
        for figure in ("jsd", "jsd_sqrt", "tv", "hellinger"):
            near(m[name][figure]["synthetic"], 1, name)
    near(m["udp_length"]["ks"]["synthetic"], 1, "ks")
    # TCP on the real side only: 1, too; on neither side of any column: no figure.
    assert all(v in (1, None) for f in m["tcp_window"].values() for c, v in f.items() if c == "synthetic")
    j, _ = evaluate(tmp, "--real", made, "--synthetic", made)
    m = j["statistical"]["labels"][0]
    assert all(v is None for f in m["measures"]["tcp_window"].values() for v in f.values())
    assert m["measures"]["size"]["jsd"] == {"synthetic": 0, "real": None, "shuffled": None}  # one session has no halves
    assert j["statistical"]["labels_in_mean"] == {"synthetic": 1, "real": 0, "shuffled": 0}


def check_same(tmp):
    args = ("--real", SAMPLES, "--synthetic", SAMPLES, "--only", "web")
    one, r1 = evaluate(tmp, *args, "--threads", "1")
    many, r2 = evaluate(tmp, *args, "--threads", "5")
    other, _ = evaluate(tmp, *args, "--seed", "2")
    assert one == many and r1.stdout == r2.stdout and one != other
    r = run(*args, "--json", "-")
    assert json.loads(r.stdout) == one


def check_bad_input(tmp):
    bad = os.path.join(tmp, "bad")
    os.mkdir(bad)
    first = samples("dns", "train")[0]
    shutil.copy(first, os.path.join(bad, "good.pcap.gz"))
    with open(os.path.join(bad, "cut.pcap"), "wb") as f:
        f.write(gzip.open(first).read()[:-3])
    with open(os.path.join(bad, "none.pcap"), "wb") as f:
        f.write(b"this is no capture")
    r = run("--real", bad, "--synthetic", SAMPLES)
    assert r.returncode == 1 and "--real: expected a labels.csv" in r.stderr and bad in r.stderr, r.stderr
    with open(os.path.join(bad, "labels.csv"), "w", encoding="utf-8") as f:
        f.write("File,Label\ngood.pcap.gz,dns\ncut.pcap,dns\nnone.pcap,dns\ngone.pcap,dns\n")
    j, r = evaluate(tmp, "--real", bad, "--synthetic", SAMPLES)
    assert j["real"]["missing"] == 1 and [os.path.basename(b["file"]) for b in j["real"]["broken"]] == ["cut.pcap", "none.pcap"]
    assert "gone.pcap" in r.stderr and "2 of 3 captures broken" in r.stderr, r.stderr
    n = sum(1 for _ in rows(first))
    assert j["statistical"]["labels"][0]["packets"]["synthetic"][1] == 2 * n - 1
    for args, text in (
        ((), "--real: expected a folder"),
        (("--real", SAMPLES), "--synthetic: expected a folder"),
        (("--real", "/no/such", "--synthetic", SAMPLES), "--real: /no/such: cannot open"),
        (("--real", bad, "--split", "val", "--synthetic", SAMPLES), "expected a column Split"),
        (("--real", SAMPLES, "--split", "no", "--synthetic", SAMPLES), "expected captures to compare with Split no"),
        (("--real", SAMPLES, "--only", "video", "--synthetic", bad), "--synthetic: " + bad),
    ):
        r = run(*args)
        assert r.returncode == 1 and text in r.stderr and r.stdout == "", (args, r)
    with open(os.path.join(bad, "labels.csv"), "w", encoding="utf-8") as f:
        f.write("File,Label\ngood.pcap.gz,other\n")
    r = run("--real", SAMPLES, "--synthetic", bad)
    assert r.returncode == 1 and "a label that the real set has" in r.stderr and "other" in r.stderr, r.stderr
    with open(os.path.join(bad, "labels.csv"), "w", encoding="utf-8") as f:
        f.write("File,Label\ngood.pcap.gz,dns\n./good.pcap.gz,web\n")
    r = run("--real", SAMPLES, "--synthetic", bad)
    assert r.returncode == 1 and "has the label web" in r.stderr, r.stderr
    r = run("--real", SAMPLES, "--train", SAMPLES, "--synthetic", SAMPLES)
    assert r.returncode == 0 and "72 of the real set's 72 captures" in r.stderr, r.stderr


def main():
    for check in (check_against_python, check_equal_and_disjoint, check_same, check_bad_input):
        with tempfile.TemporaryDirectory() as tmp:
            check(tmp)
        print(check.__name__, "ok")


assert glob.glob(os.path.join(ROOT, "samples", "*.pcap.gz"))
main()
