#!/usr/bin/env python3
"""`netssm prepare` against an independent reading of the same captures (scapy).

usage: check_raw_codec.py NETSSM CORPUS_DUMP
Two rules, each written here from its description, not from netssm's code: what codec raw says it does, and what the published
NetSSM preprocessor does (compat paper). Captures from the folder NETSSM_CORPUS (labels.csv), plus odd packets made here.
Exit 77 without scapy; without NETSSM_CORPUS the made packets alone are compared, and it says so."""
import csv
import os
import subprocess
import sys
import tempfile

try:
    import logging
    logging.getLogger("scapy").setLevel(logging.ERROR)
    from scapy.all import (ARP, Dot1AD, Dot1Q, Ether, GRE, ICMP, IP, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment,
                           IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN, Raw, RawPcapReader, TCP, UDP, wrpcap)
except ImportError:
    print("SKIP: no scapy")
    sys.exit(77)

LENGTH = 128
EXTENSIONS = (IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting, IPv6ExtHdrFragment)
PER_LABEL = 2  # sessions of each label: scapy is slow


class Found:
    """Header bytes of one frame, layer by layer as scapy finds them, each cut from the frame itself."""

    def __init__(self, data):
        self.link = self.tags = self.network = self.extensions = self.transport = self.payload = b""
        self.udp = self.first_fragment = False
        self.whole = self.walk(data)

    def walk(self, data):
        self.link = data[:14]
        layer = Ether(data)
        at = 14
        if len(data) < 14 or type(layer) is not Ether:
            return False
        layer = layer.payload
        while isinstance(layer, (Dot1Q, Dot1AD)):
            self.tags += data[at:at + 4]
            at += 4
            layer = layer.payload
        if isinstance(layer, IP):
            n = (layer.ihl or 0) * 4
            total = layer.len or len(data) - at
            if layer.version != 4 or n < 20 or total < n or layer.frag:
                return False
            self.first_fragment = bool(layer.flags.MF)
            proto = layer.proto
        elif isinstance(layer, IPv6):
            n = 40
            total = 40 + layer.plen if layer.plen else len(data) - at
            proto = layer.nh
        else:
            return False
        end = min(len(data), at + total)
        self.network = data[at:at + n]
        at += n
        layer = layer.payload
        while isinstance(layer, EXTENSIONS):
            if isinstance(layer, IPv6ExtHdrFragment):
                if layer.offset:
                    return False
                self.first_fragment = self.first_fragment or bool(layer.m)
                n = 8
            else:
                n = (data[at + 1] + 1) * 8
            self.extensions += data[at:at + n]
            at += n
            proto = layer.nh
            layer = layer.payload
        if proto == 6 and at + 20 <= end:
            n = (data[at + 12] >> 4) * 4
            if n < 20:
                return False
        elif proto == 17:
            self.udp = True
            n = 8
        else:
            return False
        if at + n > end:
            return False
        self.transport = data[at:at + n]
        if self.udp:
            length = int.from_bytes(self.transport[4:6], "big")
            if 0 < length < 8:
                return False
            stop = min(end, at + length) if length else end
            self.payload = data[at + 8:stop]
        return True


def pad(data):
    return list(data[:LENGTH].ljust(LENGTH, b"\0"))


def ours(f):
    return pad(f.link + f.tags + f.network + f.extensions + f.transport + f.payload[:12])


def papers(f):
    if f.first_fragment:
        return None
    if not f.udp:
        return pad(f.link + f.tags + f.network + f.extensions + f.transport)
    payload = f.payload[:12] if len(f.payload) >= 12 else f.payload[:max(0, len(f.payload) - 1)]
    return pad(f.link + f.network + f.transport + payload)


def expected(path, label, rule, end):
    packets = []
    for data, _ in RawPcapReader(path):
        f = Found(data)
        spelled = rule(f) if f.whole else None
        if spelled is not None:
            packets.append(" ".join(map(str, spelled)))
    return f"<|{label}|> " + " <|pkt|> ".join(packets) + end if packets else None


def odd_packets():
    """Frames that the captures may lack."""
    eth, four, six = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02"), IP(src="192.0.2.1", dst="198.51.100.1"), None
    six = IPv6(src="2001:db8::1", dst="2001:db8::2")
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
    quad = [eth / Dot1Q(vlan=3) / four / TCP(flags="S", options=options), eth / Dot1AD(vlan=9) / Dot1Q(vlan=3) / six / UDP() / b"0123456"]
    udp = [eth / four / UDP(sport=1, dport=2) / (b"abcdefghijklmnop"[:n]) for n in (1, 2, 11, 12, 13, 16)]
    extended = [
        eth / six / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0\0")]) / TCP(flags="A") / b"payload",
        eth / six / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 10)]) / UDP(sport=7, dport=8) / b"0123456789abcdef",
        eth / six / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0\0")]) / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0\0")])
        / UDP() / b"0123456789abcdef",
        eth / six / IPv6ExtHdrFragment(offset=0, m=1, id=5) / UDP(len=2000) / (b"x" * 40),
        eth / six / IPv6ExtHdrFragment(offset=4, m=0, id=5) / (b"x" * 40),
    ]
    others = [
        eth / IP(src="192.0.2.1", dst="198.51.100.1", options=b"\x94\x04\0\0") / UDP() / b"0123456789abcdef",
        eth / IP(src="192.0.2.1", dst="198.51.100.1", flags="MF", id=9) / UDP(len=900) / (b"y" * 24),
        eth / IP(src="192.0.2.1", dst="198.51.100.1", frag=3, id=9) / (b"y" * 24),
        eth / four / ICMP(), eth / ARP(), eth / four / GRE() / four / TCP(),
        eth / four / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / b"0123456789abcdef",
        Raw(bytes(eth / four / UDP() / b"pad")[:45] + b"\xee" * 15),
        Raw(bytes(eth / four / TCP())[:50]),
        eth / IP(src="192.0.2.1", dst="198.51.100.1", len=19) / TCP(),
        eth / IP(src="192.0.2.1", dst="198.51.100.1", len=0) / TCP() / b"offloaded",
        eth / four / TCP(dataofs=4), eth / four / TCP(dataofs=15),
        eth / four / UDP(len=5) / b"0123456789abcdef", eth / four / UDP(len=4000) / b"0123456789abcdef",
    ]
    return quad + udp + extended + others


def choose(folder, tmp):
    """(path, label) of what is compared; the captures are named by links so that prepare sees no others."""
    made = os.path.join(tmp, "in", "000-made.pcap")
    wrpcap(made, [Ether(bytes(p)) if not isinstance(p, Raw) else p for p in odd_packets()], linktype=1)
    chosen = [("000-made.pcap", "made")]
    seen = {}
    if folder is None:
        return chosen
    with open(os.path.join(folder, "labels.csv"), newline="") as f:
        for row in csv.DictReader(f):
            seen[row["Label"]] = seen.get(row["Label"], 0) + 1
            if seen[row["Label"]] > PER_LABEL:
                continue
            name = row["File"].replace("/", "-")
            os.symlink(os.path.join(os.path.abspath(folder), row["File"]), os.path.join(tmp, "in", name))
            chosen.append((name, row["Label"]))
    return sorted(chosen)


def compare(netssm, dump, tmp, chosen, compat, rule, end):
    out = os.path.join(tmp, compat + ".nssm")
    subprocess.run([netssm, "prepare", "--captures", os.path.join(tmp, "in"), "--labels", os.path.join(tmp, "labels.csv"),
                    "--codec", "raw", "--compat", compat, "--out", out, "--progress", "none"], check=True, stdout=subprocess.DEVNULL)
    got = subprocess.run([dump, out], check=True, capture_output=True, text=True).stdout.splitlines()
    want = [(name, w) for name, label in chosen if (w := expected(os.path.join(tmp, "in", name), label, rule, end))]
    if len(got) != len(want):
        print(f"compat {compat}: {len(want)} sessions expected, {len(got)} found")
        return False
    n_packets = 0
    for (name, w), g in zip(want, got):
        if w == g:
            n_packets += w.count("<|pkt|>") + 1
            continue
        a, b = w.split(" <|pkt|> "), g.split(" <|pkt|> ")
        k = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        print(f"compat {compat}: {name}: {len(a)} packets expected, {len(b)} found; packet {k} differs")
        print("  expected", *a[k:k + 1], "\n  found   ", *b[k:k + 1])
        return False
    print(f"compat {compat}: {len(want)} sessions, {n_packets} packets the same")
    return True


def main():
    netssm, dump = sys.argv[1:3]
    folder = os.environ.get("NETSSM_CORPUS")
    if folder is None:
        print("NETSSM_CORPUS is not set: made packets only")
    with tempfile.TemporaryDirectory() as tmp:
        os.mkdir(os.path.join(tmp, "in"))
        chosen = choose(folder, tmp)
        with open(os.path.join(tmp, "labels.csv"), "w", newline="") as f:
            writer = csv.writer(f)
            writer.writerow(["Label", "File"])
            writer.writerows((label, name) for name, label in chosen)
        ok = compare(netssm, dump, tmp, chosen, "none", ours, " <|endoftext|>")
        ok = compare(netssm, dump, tmp, chosen, "paper", papers, "") and ok
    return 0 if ok else 1


sys.exit(main())
