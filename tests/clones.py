"""Real sessions, each cloned many times: what programs that are not ours find in the clones is what they find in the originals, times
the number of clones, and no flow has the addresses and ports of another that is alive.

usage: clones.py NETSSM [CLONES [SESSIONS]]
CLONES (50) of SESSIONS (200) of the 200 smallest captures of the folder NETSSM_CORPUS, evenly by size; without it, of the samples.
connections; tshark checksums, connections, DNS answers, TLS handshakes, retransmissions and acknowledgements of nothing. Exit 77
where one of them is missing."""
import csv
import glob
import gzip
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHECKSUMS = ("ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status")
SAME = ("dns.response_to", "tcp.analysis.retransmission", "tcp.analysis.ack_lost_segment", "tcp.analysis.duplicate_ack",
        "tcp.analysis.reused_ports", "tcp.analysis.lost_segment")
TLS = "tls.handshake.type"
# What TCP carries is told by what it says, and by a port only where that says nothing. Told by ports first, as tshark does unless it is
# asked, a connection to port 8443 from a client's port 4730 is Gearman's, not TLS; clones have other client ports than the originals.
PREFERENCES = ("tcp.try_heuristic_first:TRUE", "ip.check_checksum:TRUE", "tcp.check_checksum:TRUE", "udp.check_checksum:TRUE")
NOBODY = {"0.0.0.0", "255.255.255.255", "::"}


def replay(netssm, captures, out, *args):
    r = subprocess.run([netssm, "replay", *captures, "--merge", "--fix-checksums", "--progress", "none", "--us", "--pcap-out", out, *args],
                       capture_output=True, text=True)
    if r.returncode != 0:
        sys.exit(f"replay {args}: exit {r.returncode}: {r.stderr}")


def complete_connections(path):
    out = subprocess.run(["tcptrace", "-n", path], capture_output=True, text=True, errors="replace").stdout
    return sum(line.rstrip().endswith("(complete)") or "  (complete)" in line for line in out.splitlines())


def tshark(path):
    """How often tshark sees what, and how many packets have a wrong checksum, of their own or in what an ICMP error quotes."""
    fields = (*SAME, TLS, "tcp.port", "tcp.stream", *CHECKSUMS)
    options = [x for preference in PREFERENCES for x in ("-o", preference)]
    p = subprocess.Popen(["tshark", "-n", "-r", path, *options, "-T", "fields", "-E", "separator=|", "-E", "occurrence=a",
                          *(x for f in fields for x in ("-e", f))], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found, streams = Counter(), set()
    for line in p.stdout:
        v = dict(zip(fields, line.rstrip("\n").split("|")))
        found["packets"] += 1
        for name in SAME:
            found[name] += v[name] != ""
        found["TLS"] += v[TLS] != "" and v["tcp.port"] != ""
        found["wrong checksums"] += any("0" in v[name].split(",") for name in CHECKSUMS)
        if v["tcp.stream"]:
            streams.update(v["tcp.stream"].split(","))
    if p.wait() != 0:
        sys.exit(f"tshark {path}: exit {p.returncode}")
    found["TCP streams"] = len(streams)
    return found


def packets(path):
    """(ns, protocol, source, destination) of the TCP and UDP packets of a pcap that are no later fragments; ends as (address, port)."""
    with open(path, "rb") as f:
        data = f.read()
    assert data[:4] == b"\xd4\xc3\xb2\xa1", "a pcap with microseconds"
    at, view = 24, memoryview(data)
    while at < len(data):
        sec, us, caplen, _ = struct.unpack_from("<IIII", data, at)
        f = view[at + 16:at + 16 + caplen]
        at += 16 + caplen
        l3 = 14
        while f[l3 - 2:l3] in (b"\x81\x00", b"\x88\xa8"):
            l3 += 4
        kind = bytes(f[l3 - 2:l3])
        if kind == b"\x08\x00":
            proto, n, src, dst = f[l3 + 9], (f[l3] & 15) * 4, f[l3 + 12:l3 + 16], f[l3 + 16:l3 + 20]
            if (f[l3 + 6] & 31) != 0 or f[l3 + 7] != 0:
                continue
        elif kind == b"\x86\xdd":
            proto, n, src, dst = f[l3 + 6], 40, f[l3 + 8:l3 + 24], f[l3 + 24:l3 + 40]
        else:
            continue
        if proto in (6, 17) and len(f) >= l3 + n + 4:
            sport, dport = struct.unpack_from("!HH", f, l3 + n)
            yield (sec * 10**9 + us * 1000, proto, (bytes(src), sport), (bytes(dst), dport))


def ns(text):
    whole, _, frac = text.partition(".")
    return int(whole) * 10**9 + int(frac.ljust(9, "0"))


def check_alive(path, truth):
    """Flows of the same ends follow each other, and every packet falls into exactly one of them."""
    raw = lambda a: socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a)
    flows = defaultdict(list)
    n_rows = 0
    with open(truth, newline="", encoding="utf-8") as f:
        for r in csv.DictReader(f):
            n_rows += 1
            # What nobody's address sends to everybody stays as it is: a DHCP client's call, say.
            if r["proto"] not in ("6", "17") or (r["src_ip"] in NOBODY and r["dst_ip"] in NOBODY):
                continue
            ends = sorted([(raw(r["src_ip"]), int(r["src_port"])), (raw(r["dst_ip"]), int(r["dst_port"]))])
            # In microseconds, as the pcap has them.
            flows[(int(r["proto"]), *ends)].append([ns(r["first_sent"]) // 1000 * 1000, ns(r["last_sent"]) // 1000 * 1000,
                                                    int(r["packets_fwd"]) + int(r["packets_rev"])])
    n_again = 0
    for key, rows in flows.items():
        rows.sort()
        for a, b in zip(rows, rows[1:]):
            n_again += 1
            if b[0] < a[1]:
                sys.exit(f"{key}: a flow begins at {b[0]}, another with these ends is alive until {a[1]}")
    n = 0
    for t, proto, src, dst in packets(path):
        rows = flows.get((proto, *sorted([src, dst])))
        if rows is None:
            if socket.inet_ntop(socket.AF_INET if len(src[0]) == 4 else socket.AF_INET6, src[0]) in NOBODY:
                continue
            sys.exit(f"a packet from {src} to {dst} is of no flow of the truth")
        row = next((r for r in rows if r[0] <= t <= r[1] and r[2] > 0), None)
        if row is None:
            sys.exit(f"a packet from {src} to {dst} at {t} is outside of its flows {rows}")
        row[2] -= 1
        n += 1
    if any(r[2] != 0 for rows in flows.values() for r in rows):
        sys.exit("the truth has packets that the pcap has not")
    print(f"{n_rows} flows, {n_again} times ends were used again after their flow was over; {n} packets in their flows")


def main():
    netssm = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else sys.exit(__doc__)
    n_clones = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    n_sessions = int(sys.argv[3]) if len(sys.argv) > 3 else 200
    for tool in ("tcptrace", "tshark"):
        if shutil.which(tool) is None:
            print(f"SKIP: no {tool}")
            return 77
    corpus = os.environ.get("NETSSM_CORPUS")
    if corpus is not None:
        captures = sorted(glob.glob(os.path.join(corpus, "**", "*.pcap"), recursive=True), key=lambda p: (os.path.getsize(p), p))
    else:
        captures = sorted(glob.glob(os.path.join(ROOT, "samples", "*.pcap.gz")))
    captures = captures[:200]
    captures = captures[::max(1, len(captures) // n_sessions)][:n_sessions]
    if not captures:
        print("SKIP: no captures")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        out, truth = os.path.join(folder, "out.pcap"), os.path.join(folder, "truth.csv")
        # Each session by itself: captures of the same hosts would run together.
        want = Counter()
        for capture in captures:
            replay(netssm, [capture], out)
            want.update(tshark(out))
            want["complete"] += complete_connections(out)
        replay(netssm, captures, out, "--clones", str(n_clones), "--truth", truth)
        got = tshark(out)
        got["complete"] = complete_connections(out)
        print(f"{len(captures)} sessions x {n_clones}: {got['packets']} packets, {got['complete']} complete connections")
        wrong = [f"{name}: {got[name]} in the clones, {n_clones} x {n} in the originals" for name, n in sorted(want.items())
                 if got[name] != n_clones * n and name != "wrong checksums"]
        if got["wrong checksums"] != 0:
            wrong.append(f"{got['wrong checksums']} packets with wrong checksums")
        if want["complete"] == 0:
            wrong.append("no complete connection to look at")
        if wrong:
            sys.exit("\n".join(wrong))
        check_alive(out, truth)
    return 0


if __name__ == "__main__":
    sys.exit(main())
