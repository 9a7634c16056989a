#!/usr/bin/python3
"""Round trips and loss of real captures as `netssm info` measures them, beside tshark's tcp.analysis.

usage: conditions_tshark.py NETSSM [FOLDER …]     folders default to samples/ and $NETSSM_CORPUS; exit 77 without tshark

Of each capture that opens with at most MOST packets:
  round trip  tshark's ack_rtt of each half put together by the same rule (conditions.h) where both halves are known; its median and
              netssm's must lie within a factor of 1.42 (a step of the condition) or 1 ms of each other.
  loss        netssm's segments sent again and tshark's retransmissions (fast and spurious ones are among them, out-of-order ones are not)
              with data must differ by at most 2, or 1 % of the segments, or a quarter of what tshark found.
At least 95 % of the captures must agree in each, and half of the segments that tshark finds sent again must be in captures that do.
tshark does not follow Karn and tells reordering from loss by other times, hence the tolerance.
"""
import collections
import json
import os
import shutil
import statistics
import subprocess
import sys

MOST = 20000
FIELDS = ["tcp.stream", "ip.src", "ipv6.src", "tcp.srcport", "tcp.len", "tcp.analysis.ack_rtt", "tcp.analysis.retransmission",
          "tcp.analysis.keep_alive", "frame.number"]


def tshark(path):
    """(ack_rtt round trips, segments with data, of these sent again)"""
    args = ["tshark", "-n", "-r", path, "-o", "tcp.desegment_tcp_streams:FALSE", "-Y", "tcp && !icmp && !icmpv6", "-T", "fields",
            "-E", "occurrence=f"]
    for f in FIELDS:
        args += ["-e", f]
    out = subprocess.run(args, capture_output=True, text=True, check=True).stdout
    best, times, data, again = collections.defaultdict(dict), [], 0, 0
    for line in out.splitlines():
        stream, v4, v6, port, length, rtt, retransmission, keep_alive, _ = line.split("\t")
        if length and int(length) > 0 and not keep_alive:
            data += 1
            again += bool(retransmission)
        if rtt:
            halves, me, t = best[stream], (v4 or v6, port), float(rtt)
            halves[me] = min(halves.get(me, t), t)
            other = [v for k, v in halves.items() if k != me]
            if other:
                times.append(t + other[0])
    return times, data, again


def captures(folders):
    for folder in folders:
        for root, dirs, files in os.walk(folder):
            dirs.sort()
            for name in sorted(files):
                if name.endswith((".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz", ".cap.gz")):
                    yield os.path.join(root, name)


def main():
    if not shutil.which("tshark"):
        print("no tshark: skipped")
        return 77
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folders = sys.argv[2:] or [os.path.join(root, "samples")] + [f for f in [os.environ.get("NETSSM_CORPUS")] if f]
    n_rtt = n_rtt_near = n_loss = n_loss_near = again_all = again_near = 0
    ratios = []
    for path in captures(folders):
        got = subprocess.run([sys.argv[1], "info", "--json", path], capture_output=True, text=True)
        if got.returncode != 0:
            continue
        capture = json.loads(got.stdout)
        m = capture["measures"]
        if capture["tcp"] == 0 or capture["packets"] > MOST:
            continue
        times, data, again = tshark(path)
        if len(times) >= 3 and m["rtt_s"] is not None:
            want = statistics.median_low(times)
            n_rtt += 1
            near = abs(m["rtt_s"] - want) <= 1e-3 or 1 / 1.42 <= m["rtt_s"] / want <= 1.42
            n_rtt_near += near
            ratios.append(m["rtt_s"] / max(want, 1e-6))
            if not near:
                print(f"{path}: round trip {m['rtt_s'] * 1e3:.3f} ms of {m['rtt_times']}, tshark {want * 1e3:.3f} ms of {len(times)}")
        if data > 0:
            n_loss += 1
            near = abs(m["sent_again"] - again) <= max(2, 0.01 * data, 0.25 * again)
            n_loss_near += near
            again_all += again
            again_near += again if near else 0
            if not near:
                print(f"{path}: {m['sent_again']} of {m['data_segments']} sent again, tshark {again} of {data}")
    print(f"round trip: {n_rtt_near} of {n_rtt} captures agree; ratio to tshark's: median {statistics.median(ratios):.3f}")
    print(f"sent again: {n_loss_near} of {n_loss} captures agree, with {again_near} of {again_all} segments")
    assert n_rtt >= 20 and n_rtt_near >= 0.95 * n_rtt
    assert n_loss >= 20 and n_loss_near >= 0.95 * n_loss and again_near >= 0.5 * again_all
    return 0


if __name__ == "__main__":
    sys.exit(main())
