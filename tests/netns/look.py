"""What the tests in network namespaces look at: captures, truth and figures, without a line of netssm's.

usage: look.py figures JSON                one a line: measure.lost 12
       look.py ask SOCKET COMMAND           the same of what netssm --control answers
       look.py equal ONE TWO                both captures hold the same packets in the same order
       look.py same ONE TWO TRUTH           both captures hold the same packets, in order a session; MACs apart
       look.py alive TRUTH                  no two flows of the same addresses and ports at a time
       look.py share N OF P                 N of OF is what chance P gives, within the 99.9 % interval"""

import csv
import json
import math
import socket
import struct
import sys
from collections import Counter, defaultdict

TCP, UDP = 6, 17


def captured(path):
    """(wire length, frame) of each packet of a pcap in this machine's byte order."""
    with open(path, "rb") as f:
        data = f.read()
    magic, link = struct.unpack_from("<I", data)[0], struct.unpack_from("<I", data, 20)[0]
    if magic not in (0xA1B2C3D4, 0xA1B23C4D) or link != 1:
        sys.exit(f"{path}: no pcap of Ethernet in this byte order")
    at = 24
    while at < len(data):
        n, wire = struct.unpack_from("<II", data, at + 8)
        frame = data[at + 16 : at + 16 + n]
        if len(frame) != n:
            sys.exit(f"{path}: ends inside a packet")
        yield wire, frame
        at += 16 + n


def ends(frame):
    """(protocol, source, source port, destination, destination port), or None."""
    kind, at = struct.unpack_from(">H", frame, 12)[0], 14
    if kind == 0x0800:
        proto, src, dst, l4 = frame[23], frame[26:30], frame[30:34], at + 4 * (frame[14] & 15)
        if struct.unpack_from(">H", frame, 20)[0] & 0x1FFF:
            return proto, src, 0, dst, 0
    elif kind == 0x86DD:
        proto, src, dst, l4 = frame[20], frame[22:38], frame[38:54], 54
    else:
        return None
    sport, dport = struct.unpack_from(">HH", frame, l4) if proto in (TCP, UDP) else (0, 0)
    return proto, src, sport, dst, dport


def flow(frame):
    e = ends(frame)
    return frame[12:14] if e is None else (e[0], *sorted([(e[1], e[2]), (e[3], e[4])]))


def address(text):
    if ":" not in text:
        return bytes(int(b) for b in text.split("."))
    head, _, tail = text.partition("::")
    words = [[int(w, 16) for w in part.split(":")] if part else [] for part in (head, tail)]
    words = words[0] + [0] * (8 - len(words[0]) - len(words[1])) + words[1]
    return struct.pack(">8H", *words)


def rows(path):
    with open(path, newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def row_flow(row):
    a, b = [(address(row[f"{side}_ip"]), int(row[f"{side}_port"] or 0)) for side in ("src", "dst")]
    return (int(row["proto"]), *sorted([a, b]))


def ns(seconds):
    whole, _, part = seconds.partition(".")
    return int(whole) * 10**9 + int(part.ljust(9, "0"))


def show(v, name=""):
    if isinstance(v, (dict, list)):
        for k, w in v.items() if isinstance(v, dict) else enumerate(v):
            show(w, f"{name}.{k}" if name else str(k))
    else:
        print(name, v)


def figures(path):
    with open(path, encoding="utf-8") as f:
        show(json.load(f))


def ask(path, command):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(command.encode() + b"\n")
        show(json.loads(s.makefile().readline()))


def equal(one, two):
    a, b = [list(captured(path)) for path in (one, two)]
    if a != b or not a:
        first = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        sys.exit(f"{len(a)} packets in {one}, {len(b)} in {two}, different from packet {first} on")
    print(f"the same {len(a)} packets in the same order")


def same(one, two, truth):
    """What two sessions sent with the same addresses and ports, in no order that says whose it is, is compared without order."""
    session = {}
    for row in rows(truth):
        key = row_flow(row)
        who = row["session"], row["clone"]
        session[key] = key if session.get(key, who) != who else who
    found = []
    for path in (one, two):
        by = defaultdict(list)
        for _, frame in captured(path):
            key = flow(frame)
            by[session.get(key, key)].append(frame[12:])
        found.append(by)
    a, b = found
    if not a:
        sys.exit(f"{one}: no packets")
    whole = [who for who in a if isinstance(who[0], str)]
    for who in a.keys() | b.keys():
        if (a[who] if who in whole else sorted(a[who])) != (b[who] if who in whole else sorted(b[who])):
            first = next((i for i, (x, y) in enumerate(zip(a[who], b[who])) if x != y), min(len(a[who]), len(b[who])))
            how = "in another order" if Counter(a[who]) == Counter(b[who]) else "different"
            sys.exit(f"session {who}: {len(a[who])} packets in {one}, {len(b[who])} in {two}, {how} from packet {first} on")
    n = sum(len(a[who]) for who in whole)
    print(f"the same {n} packets in the same order in {len(whole)} sessions, and {sum(map(len, a.values())) - n} of no session's alone")


def alive(truth):
    """A host that asks for its address (DHCP) has none that could be its own."""
    by = defaultdict(list)
    for row in rows(truth):
        if int(row["proto"]) in (TCP, UDP) and any(address(row["src_ip"])):
            by[row_flow(row)].append((ns(row["first_due"]), ns(row["last_due"]), row["session"], row["clone"]))
    n = again = 0
    for key, lives in by.items():
        lives.sort()
        n += len(lives)
        again += len(lives) > 1
        for (_, end, *who), (begin, _, *other) in zip(lives, lives[1:]):
            if begin <= end:
                sys.exit(f"{key}: session, clone {who} until {end}, and {other} from {begin} on")
    if not n:
        sys.exit(f"{truth}: no flows")
    print(f"{n} flows, {again} times addresses and ports used again, never while alive")


def share(n, of, p):
    """Exact tails of the binomial distribution, 0.05 % each."""
    n, of, p = int(n), int(of), float(p)

    def log_chance(k):
        return math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) + k * math.log(p) + (of - k) * math.log1p(-p)

    below = math.fsum(math.exp(log_chance(k)) for k in range(n + 1))
    above = 1 - below + math.exp(log_chance(n))
    print(f"{n} of {of} is {100 * n / of:.3f} %, expected {100 * p:g} %; that few {below:.4f}, that many {above:.4f}")
    if not (below > 0.0005 and above > 0.0005):
        sys.exit(1)


if __name__ == "__main__":
    what = {f.__name__: f for f in (figures, ask, equal, same, alive, share)}
    if len(sys.argv) < 3 or sys.argv[1] not in what:
        sys.exit(__doc__)
    what[sys.argv[1]](*sys.argv[2:])
