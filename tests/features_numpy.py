#!/usr/bin/env python3
"""app/eval's session features beside the same figures by other means: scapy reads packets and headers, NumPy describes them. On samples/
and, with NETSSM_CORPUS, on sessions of each label of it.

usage: features_numpy.py FOREST_TOOL SAMPLES     exit 77 without scapy or numpy"""
import glob
import os
import re
import subprocess
import sys

try:
    import numpy as np
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import ARP, Ether
    from scapy.utils import PcapReader
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(77)

TOOL, SAMPLES = sys.argv[1:3]
STATS = ("mean", "sd", "min", "q10", "q25", "q50", "q75", "q90", "max")
with open(os.path.join(os.path.dirname(__file__), "../replay/session.c")) as f:
    SERVER = {int(p) for p in re.findall(r"\d+", re.sub(r"/\*.*?\*/", "", re.search(r"SERVER_PORTS\[\] = \{(.*?)\};", f.read(), re.S)[1], flags=re.S))}


def is_server(port):
    return port not in (68, 546) if port < 1024 else port in SERVER


def stats(out, name, v):
    v = np.array(v, float)
    out.update({f"{name}_{s}": 0.0 for s in STATS})
    if len(v):
        out.update({f"{name}_mean": v.mean(), f"{name}_sd": v.std(), f"{name}_min": v.min(), f"{name}_max": v.max()})
        out.update({f"{name}_q{q}": np.percentile(v, q) for q in (10, 25, 50, 75, 90)})


def by_numpy(path):
    """None: the capture holds what this does not read (fragments, other links, cut headers)."""
    size, time, direction, flow = [], [], [], []
    kinds = dict.fromkeys(("tcp", "udp", "icmp", "arp"), 0)
    flags, empty, client, ip6 = [], 0, {}, 0
    with PcapReader(path) as reader:
        for p in reader:
            size.append(p.wirelen)
            time.append(int(p.time * 10**9))
            if not isinstance(p, Ether):
                return None
            ip = p.getlayer(IP) or p.getlayer(IPv6)
            if isinstance(ip, IP) and (ip.frag or ip.flags.MF):
                return None
            t = ip and (ip.payload if isinstance(ip.payload, (TCP, UDP)) else None)
            if isinstance(t, TCP) and len(t.original) < 4 * t.dataofs:
                return None
            if t is None:
                if ARP in p:
                    kinds["arp"] += 1
                elif isinstance(ip, IP) and ip.proto == 1 and ICMP in p:
                    kinds["icmp"] += 1
                else:
                    return None
                direction.append(None)
                flow.append(None)
                continue
            ip6 += isinstance(ip, IPv6)
            me, other = (ip.src, t.sport), (ip.dst, t.dport)
            key = (isinstance(t, TCP), *sorted((me, other)))
            syn = isinstance(t, TCP) and t.flags.S
            if key not in client:
                if syn:
                    client[key] = other if t.flags.A else me
                elif is_server(me[1]) != is_server(other[1]):
                    client[key] = other if is_server(me[1]) else me
                else:
                    client[key] = me
            direction.append(int(me != client[key]))
            flow.append(key)
            kinds["tcp" if isinstance(t, TCP) else "udp"] += 1
            if isinstance(t, TCP):
                flags.append(int(t.flags))
                length = ip.len - 4 * ip.ihl if isinstance(ip, IP) else ip.plen
                empty += length == 4 * t.dataofs
    return figures(np.array(size), np.array(time), direction, flow, kinds, np.array(flags, int), empty, ip6)


def figures(size, time, direction, flow, kinds, flags, empty, ip6):
    out, n = {}, len(size)
    time = np.maximum.accumulate(time)
    t = (time - time[0]) / 1e9
    gap = np.diff(time) / 1e9
    fwd, rev = ([i for i, d in enumerate(direction) if d == k] for k in (0, 1))
    members = {}
    for i, k in enumerate(flow):
        if k is not None:
            members.setdefault(k, []).append(i)
    out.update(packets=n, bytes=size.sum(), duration=t[-1], flows=len(members), flows_tcp=sum(k[0] for k in members),
               flows_udp=sum(not k[0] for k in members), share_ip6=ip6 / n)
    for name, v in (("packets_per_s", n), ("bytes_per_s", size.sum()), ("flows_per_s", len(members))):
        out[name] = v / t[-1] if t[-1] > 0 else 0
    out.update({f"share_{k}": v / n for k, v in kinds.items()})
    both = fwd + rev
    out["share_fwd"] = len(fwd) / len(both) if both else 0
    out["share_fwd_bytes"] = size[fwd].sum() / size[both].sum() if both else 0
    for bit, name in enumerate(("fin", None, "rst", "psh", "ack", "urg", "ece", "cwr")):
        if name:
            out["tcp_" + name] = (flags >> bit & 1).mean() if len(flags) else 0
    out["tcp_syn"] = ((flags & 18) == 2).mean() if len(flags) else 0
    out["tcp_synack"] = ((flags & 18) == 18).mean() if len(flags) else 0
    out["tcp_empty"] = empty / len(flags) if len(flags) else 0
    for name, idx in (("", range(n)), ("_fwd", fwd), ("_rev", rev)):
        idx = list(idx)
        stats(out, "size" + name, size[idx])
        stats(out, "iat" + name, np.diff(time[idx]) / 1e9)
    stats(out, "iat_flow", [g for m in members.values() for g in np.diff(time[m]) / 1e9])
    stats(out, "flow_packets", [len(m) for m in members.values()])
    stats(out, "flow_bytes", [size[m].sum() for m in members.values()])
    stats(out, "flow_duration", [(time[m[-1]] - time[m[0]]) / 1e9 for m in members.values()])
    starts = np.array(sorted(time[m[0]] for m in members.values()))
    stats(out, "flow_start_gap", np.diff(starts) / 1e9)
    one_way = [len({direction[i] for i in m}) == 1 for m in members.values()]
    out["flows_one_way"] = np.mean(one_way) if members else 0
    out["flows_one_packet"] = np.mean([len(m) == 1 for m in members.values()]) if members else 0
    out["flows_alive_max"] = max((sum(time[m[0]] <= s <= time[m[-1]] for m in members.values()) for s in starts), default=0)
    bursts = np.split(np.arange(n), np.where(gap > 1)[0] + 1)
    out["bursts"] = len(bursts)
    stats(out, "burst_packets", [len(b) for b in bursts])
    stats(out, "burst_bytes", [size[b].sum() for b in bursts])
    stats(out, "burst_duration", [t[b[-1]] - t[b[0]] for b in bursts])
    stats(out, "burst_gap", gap[gap > 1])
    ways = np.array([d for d in direction if d is not None])
    stats(out, "run_packets", [len(r) for r in np.split(ways, np.where(np.diff(ways))[0] + 1)] if len(ways) else [])
    return out


paths = sorted(glob.glob(os.path.join(SAMPLES, "*.pcap.gz")))[::6]
if "NETSSM_CORPUS" in os.environ:
    for label in sorted(glob.glob(os.path.join(os.environ["NETSSM_CORPUS"], "pcaps", "*"))):
        paths += sorted(glob.glob(label + "/*.pcap"), key=os.path.getsize)[:2]
lines = subprocess.run([TOOL, "features", *paths], check=True, capture_output=True, text=True).stdout.splitlines()
names = lines[0].split(",")
compared = bad = 0
for path, line in zip(paths, lines[1:]):
    want = by_numpy(path)
    if want is None:
        continue
    compared += 1
    for name, v in zip(names, map(float, line.split(","))):
        # What by_numpy gives up at is 0 here. A mean of floats is good to 6 digits of the largest of them.
        largest = want.get(name.rsplit("_", 1)[0] + "_max", 0)
        if not abs(v - want.get(name, 0)) <= 2e-6 * (abs(want.get(name, 0)) + largest) + 1e-8:
            bad += 1
            print(f"{path}: {name} is {v}, expected {want.get(name, 0)}")
    missing = set(want) - set(names)
    if missing:
        bad += 1
        print("not among the features:", *sorted(missing))
print(f"{compared} of {len(paths)} captures compared, {len(names)} features each; {bad} differ")
sys.exit(1 if bad or compared < 8 else 0)
