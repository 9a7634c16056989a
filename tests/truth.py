"""The truth's CSV read by a second program: random rows come back as they went in, with Community IDs computed here; and for
captures (NETSSM_CORPUS, samples/) the IDs that tshark shows.

usage: truth.py TEST_TRUTH"""

import base64
import csv
import glob
import hashlib
import ipaddress
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else sys.exit(__doc__)

COUNTER = {
    1: {8: 0, 13: 14, 15: 16, 10: 9, 17: 18},
    58: {128: 129, 130: 131, 133: 134, 135: 136, 139: 140, 144: 145},
}
for table in COUNTER.values():
    table.update({b: a for a, b in table.items()})


def community_id(proto, src, dst, sport, dport):
    ends = [(src, sport), (dst, dport)]
    if proto in COUNTER:
        counter = COUNTER[proto].get(sport)
        if counter is not None:
            ends = sorted([(src, sport), (dst, counter)])
    elif proto in (6, 17, 132):
        ends.sort()
    else:
        ends = sorted([(src, None), (dst, None)], key=lambda e: e[0])
    data = b"\0\0" + ends[0][0] + ends[1][0] + bytes([proto, 0])
    if ends[0][1] is not None:
        data += struct.pack(">HH", ends[0][1], ends[1][1])
    return "1:" + base64.b64encode(hashlib.sha1(data).digest()).decode()


def seconds(ns):
    return f"{ns // 10**9}.{ns % 10**9:09}"


class Truth(unittest.TestCase):
    def test_rows(self):
        with tempfile.TemporaryDirectory() as scratch:
            path = os.path.join(scratch, "truth.csv")
            out = subprocess.run([TOOL, "--write", path, "5000", "7"], check=True, stdout=subprocess.PIPE, text=True).stdout
            with open(path, newline="", encoding="utf-8") as f:
                got = list(csv.DictReader(f))
        made = [line.split(" ") for line in out.splitlines()]
        self.assertEqual(len(got), 5000)
        self.assertEqual(len(made), 5000)
        for row, m in zip(got, made):
            proto, (src, dst, label) = int(m[0]), map(bytes.fromhex, m[1:4])
            sport, dport, clone, complete, session, *rest = map(int, m[4:])
            first_due, last_due, first_sent, last_sent, *counts = rest
            sent = counts[0] or counts[1]
            want = {
                "community_id": community_id(proto, src, dst, sport, dport),
                "proto": str(proto),
                "src_port": str(sport),
                "dst_port": str(dport),
                "label": label.decode(),
                "session": str(session),
                "clone": str(clone),
                "first_due": seconds(first_due),
                "last_due": seconds(last_due),
                "first_sent": seconds(first_sent) if sent else "",
                "last_sent": seconds(last_sent) if sent else "",
                "state": "complete" if complete else "cut",
            }
            want |= dict(zip(["packets_fwd", "packets_rev", "bytes_fwd", "bytes_rev", "dropped"], map(str, counts)))
            for end, addr in (("src_ip", src), ("dst_ip", dst)):
                self.assertEqual(ipaddress.ip_address(row[end]).packed, addr)
                want[end] = row[end]
            self.assertEqual(row, want)

    def test_tshark(self):
        if shutil.which("tshark") is None:
            self.skipTest("no tshark")
        captures = sorted(glob.glob(os.path.join(ROOT, "samples", "**", "*.pcap*"), recursive=True))[::8]
        corpus = os.environ.get("NETSSM_CORPUS")
        if corpus:
            captures += sorted(glob.glob(os.path.join(corpus, "pcaps", "**", "*.pcap*"), recursive=True))[::40]
        fields = ["ip.proto", "ip.src", "ip.dst", "ipv6.nxt", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport", "udp.srcport",
                  "udp.dstport", "icmp.type", "icmp.code", "icmpv6.type", "icmpv6.code", "communityid"]
        n_checked = 0
        for capture in captures:
            out = subprocess.run(
                ["tshark", "-n", "-r", capture, "-c", "2000", "--enable-protocol", "communityid", "-T", "fields",
                 "-Y", "communityid && !ip.flags.mf == 1 && !(ip.frag_offset > 0)"]
                + [a for f in fields for a in ("-e", f)], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
            ask, want = [], []
            for line in out.splitlines():
                p, src, dst, nxt, src6, dst6, tsp, tdp, usp, udp, t4, c4, t6, c6, cid = line.split("\t")
                # Quoted packets and tunnels show a field twice, extension headers the next header's.
                if "," in line or (nxt and nxt not in ("6", "17", "58")):
                    continue
                ask.append(" ".join([p or nxt, src or src6, tsp or usp or t4 or t6 or "0", dst or dst6, tdp or udp or c4 or c6 or "0"]))
                want.append(cid)
            got = subprocess.run([TOOL, "--ids"], input="\n".join(ask) + "\n", check=True, stdout=subprocess.PIPE, text=True).stdout.split()
            self.assertEqual(len(got), len(want))
            for a, g, w in zip(ask, got, want):
                self.assertEqual(g, w, f"{capture}: {a}")
            n_checked += len(got)
        print(f"{n_checked} packets of {len(captures)} captures have tshark's Community IDs", file=sys.stderr)
        self.assertGreater(n_checked, 100)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
