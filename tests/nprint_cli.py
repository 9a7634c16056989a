#!/usr/bin/python3
"""`netssm nprint` against a decoder that shares nothing with it, packet for packet: the samples, and NETSSM_CORPUS if it is set.
The column names are written out here as nprint prints them.

usage: nprint_cli.py NETSSM
"""
import csv
import glob
import gzip
import os
import socket
import struct
import subprocess
import sys
import tempfile

NETSSM = sys.argv[1]
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COLUMNS = """ipv4_ver 4 ipv4_hl 4 ipv4_tos 8 ipv4_tl 16 ipv4_id 16 ipv4_rbit 1 ipv4_dfbit 1 ipv4_mfbit 1 ipv4_foff 13 ipv4_ttl 8
ipv4_proto 8 ipv4_cksum 16 ipv4_src 32 ipv4_dst 32 ipv4_opt 320
ipv6_ver 4 ipv6_tc 8 ipv6_fl 20 ipv6_len 16 ipv6_nh 8 ipv6_hl 8 ipv6_src 128 ipv6_dst 128
tcp_sprt 16 tcp_dprt 16 tcp_seq 32 tcp_ackn 32 tcp_doff 4 tcp_res 3 tcp_ns 1 tcp_cwr 1 tcp_ece 1 tcp_urg 1 tcp_ackf 1 tcp_psh 1
tcp_rst 1 tcp_syn 1 tcp_fin 1 tcp_wsize 16 tcp_cksum 16 tcp_urp 16 tcp_opt 320
udp_sport 16 udp_dport 16 udp_len 16 udp_cksum 16 icmp_type 8 icmp_code 8 icmp_cksum 16 icmp_roh 32""".split()
HEAD = ["src_ip"] + [f"{n}_{i}" for n, k in zip(COLUMNS[::2], COLUMNS[1::2]) for i in range(int(k))]


def run(*args):
    return subprocess.run([NETSSM, "nprint", "--progress", "none", *args], capture_output=True, text=True)


def frames(path):
    """The frames of a classic little-endian pcap of Ethernet."""
    blob = (gzip.open if path.endswith(".gz") else open)(path, "rb").read()
    assert struct.unpack_from("<I", blob)[0] in (0xA1B2C3D4, 0xA1B23C4D) and struct.unpack_from("<I", blob, 20)[0] == 1, path
    at = 24
    while at < len(blob):
        cap = struct.unpack_from("<I", blob, at + 8)[0]
        yield blob[at + 16:at + 16 + cap]
        at += 16 + cap


def bits(header, n_bytes):
    """0 and 1 of the bytes that are there, -1 for the rest of n_bytes."""
    text = "".join(f"{b:08b}" for b in header[:n_bytes])
    return list(text) + ["-1"] * (8 * n_bytes - len(text))


def expected(frame):
    """The row; None where there is none."""
    at, kind = 14, frame[12:14]
    while kind in (b"\x81\x00", b"\x88\xa8"):
        kind = frame[at + 2:at + 4]
        at += 4
    ip = frame[at:]
    h = {"4": b"", "6": b"", "tcp": b"", "udp": b"", "icmp": b""}
    if kind == b"\x08\x00" and ip[0] >> 4 == 4:
        n = ip[0] % 16 * 4
        h["4"], proto, l4 = ip[:n], ip[9], ip[n:]
        src = socket.inet_ntop(socket.AF_INET, ip[12:16])
        if (ip[6] & 31) * 256 + ip[7]:
            l4 = b""
    elif kind == b"\x86\xdd" and ip[0] >> 4 == 6:
        h["6"], proto, l4 = ip[:40], ip[6], ip[40:]
        src = socket.inet_ntop(socket.AF_INET6, ip[8:24])
        while proto in (0, 43, 60):
            proto, l4 = l4[0], l4[(l4[1] + 1) * 8:]
    else:
        return None
    if proto == 6:
        h["tcp"] = l4[:(l4[12] >> 4) * 4] if len(l4) > 12 else l4
    elif proto == 17:
        h["udp"] = l4[:8]
    elif proto == 1:
        h["icmp"] = l4[:8]
    else:
        return None
    return [src] + bits(h["4"], 60) + bits(h["6"], 40) + bits(h["tcp"], 60) + bits(h["udp"], 8) + bits(h["icmp"], 8)


def check(paths, most):
    """All rows of these captures, most a capture."""
    n, seen = 0, set()
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "bits.csv")
        for path in paths:
            r = run(path, "--out", out, "--limit", str(most))
            assert r.returncode == 0 and r.stdout == "", r
            with open(out, encoding="ascii", newline="") as f:
                got = list(csv.reader(f))
            assert got[0] == HEAD
            want = [e for e in map(expected, frames(path)) if e is not None][:most]
            assert len(got) == len(want) + 1, (path, len(got), len(want))
            for i, (a, b) in enumerate(zip(got[1:], want)):
                assert a == b, (path, i, [(c, x, y) for c, x, y in zip(HEAD, a, b) if x != y][:5])
                seen |= {name for name, at in (("ipv4", 1), ("ipv6", 481), ("tcp", 801), ("udp", 1281), ("icmp", 1345)) if b[at] != "-1"}
            n += len(want)
    return n, seen


def check_refusals():
    sample = os.path.join(ROOT, "samples", "dns-001.pcap.gz")
    for args, rc, text in (((), 1, "at least one capture"), ((sample,), 1, "--out"), ((sample, "--out", sample), 1, "another file"),
                           (("/no/such.pcap", "--out", "-"), 1, "/no/such.pcap")):
        r = run(*args)
        assert r.returncode == rc and text in r.stderr, (args, r)
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "bits.csv")
        assert run("/no/such.pcap", "--out", out).returncode == 1 and not os.listdir(tmp)
        # Two captures are one table, and - is stdout.
        r = run(sample, sample, "--out", "-")
        rows = r.stdout.splitlines()
        assert len(rows) % 2 == 1 and rows[1:len(rows) // 2 + 1] == rows[len(rows) // 2 + 1:]


def main():
    assert len(HEAD) == 1 + 480 + 320 + 480 + 64 + 64
    check_refusals()
    samples = sorted(glob.glob(os.path.join(ROOT, "samples", "*.pcap.gz")))
    n, seen = check(samples, 100)
    assert n >= 1000, n
    print(f"samples: {n} packets, {' '.join(sorted(seen))}")
    corpus = os.environ.get("NETSSM_CORPUS")
    if corpus:
        n, seen = check(sorted(glob.glob(os.path.join(corpus, "pcaps", "*", "*.pcap")))[::4], 80)
        assert n >= 1000 and seen == {"ipv4", "ipv6", "tcp", "udp", "icmp"}, (n, seen)
        print(f"corpus: {n} packets, {' '.join(sorted(seen))}")
    else:
        print("NETSSM_CORPUS is not set: the samples alone")


main()
