#!/usr/bin/env python3
"""Random walks through the masks of codec `flow`: packets of `clean` have headers and checksums that tshark finds nothing wrong with,
and no walk through either mask spells what the decoder rejects.

usage: flow_walks.py FLOW_TOOL PACKETS     exit 77 without tshark
Every dissector above TCP, UDP and ICMP is off, so that what tshark says is about the headers."""
import collections
import os
import shutil
import subprocess
import sys
import tempfile

TOOL, PACKETS = os.path.abspath(sys.argv[1]), int(sys.argv[2])
BATCH = 50000
KEEP = {"frame", "eth", "ethertype", "vlan", "ieee8021ad", "arp", "ip", "ipv6", "icmp", "icmpv6", "tcp", "udp", "data"}
KEEP_UNDER = ("_ws.", "ip.options", "ipv6.", "tcp.options")
CHECKED = ("ip", "tcp", "udp", "icmp", "icmpv6")
FIELDS = ["frame.number", "frame.protocols", "_ws.malformed", "_ws.expert.severity", "_ws.expert.message"] + [p + ".checksum.status" for p in CHECKED]
ERROR = 8388608
BAD_CHECKSUM = "0"
# What is kept, and whose addresses; with `full` payload a walk's packets are long.
KINDS = (("none", "keep", 1), ("12", "keep", 1), ("full", "keep", 10), ("none", "pool", 1), ("12", "pool", 1))


def check(ok, what):
    if not ok:
        sys.exit(f"FAILED: {what}")


def tshark_options(config):
    out = subprocess.run(["tshark", "-G", "protocols"], capture_output=True, text=True, check=True).stdout
    names = [line.split("\t")[2] for line in out.splitlines()]
    with open(os.path.join(config, "disabled_protos"), "w") as f:
        f.writelines(n + "\n" for n in names if n not in KEEP and not n.startswith(KEEP_UNDER))
    options = []
    for o in ("ip.check_checksum:TRUE", "tcp.check_checksum:TRUE", "udp.check_checksum:TRUE", "ip.defragment:FALSE",
              "tcp.analyze_sequence_numbers:FALSE"):
        options += ["-o", o]
    for f in FIELDS:
        options += ["-e", f]
    return options


def clean_walk(options, config, payload, identity, n, seed):
    """n packets through tshark; how many checksums of each protocol it found right."""
    what = f"clean, payload {payload}, identity {identity}, seed {seed}"
    with tempfile.TemporaryFile() as says:
        walk = subprocess.Popen([TOOL, "clean", payload, identity, str(n), str(seed), "-"], stdout=subprocess.PIPE, stderr=says)
        shark = subprocess.Popen(["tshark", "-r", "-", "-T", "fields", "-E", "aggregator=|", *options], stdin=walk.stdout,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 env=dict(os.environ, WIRESHARK_CONFIG_DIR=config))
        walk.stdout.close()
        right, rows = collections.Counter(), 0
        for line in shark.stdout:
            row = dict(zip(FIELDS, line.rstrip("\n").split("\t")))
            where = f"{what}: frame {row['frame.number']} ({row['frame.protocols']}): "
            rows += 1
            check(not row["_ws.malformed"], where + "malformed")
            for severity, message in zip(row["_ws.expert.severity"].split("|"), row["_ws.expert.message"].split("|")):
                check(not severity or int(severity) < ERROR, where + message)
            for p in CHECKED:
                status = row[p + ".checksum.status"].split("|")
                check(BAD_CHECKSUM not in status, f"{where}{p} checksum is wrong")
                right[p] += status == ["1"]
        err = shark.stderr.read()
        check(shark.wait() == 0, f"{what}: tshark: {err}")
        says.seek(0)
        check(walk.wait() == 0, f"{what}: {says.read().decode()}")
    check(rows == n, f"{what}: tshark saw {rows} packets of {n}")
    return right


def main():
    if shutil.which("tshark") is None:
        print("SKIP: no tshark")
        return 77
    right = collections.Counter()
    with tempfile.TemporaryDirectory() as config:
        options = tshark_options(config)
        for i, (payload, identity, cost) in enumerate(KINDS):
            left, seed = PACKETS // len(KINDS), 1000 * i
            while left > 0:
                n = min(left, BATCH // cost)
                right.update(clean_walk(options, config, payload, identity, n, seed))
                left -= n
                seed += 1
    print(f"clean: {PACKETS} packets, none malformed, no checksum wrong; right: {dict(right)}")
    for p in CHECKED:
        check(right[p] > PACKETS // 100, f"tshark verified only {right[p]} checksums of {p}")
    for payload, identity, cost in KINDS:
        p = subprocess.run([TOOL, "full", payload, identity, str(PACKETS // len(KINDS) // cost), "7", "/dev/null"],
                           capture_output=True, text=True)
        check(p.returncode == 0, f"full, payload {payload}, identity {identity}: {p.stderr}")
        print(f"full, payload {payload}, identity {identity}: none rejected: {p.stderr.strip()}")
    return 0


sys.exit(main())
