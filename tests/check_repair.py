#!/usr/bin/env python3
"""Random model bytes through nssm_pkt_repair, the survivors through tshark: no malformed header, no bad checksum.

usage: check_repair.py TEST_REPAIR [FRAMES]    exit 77 without tshark
Every dissector above TCP and UDP is off, so that what tshark says is about the headers. Severities error and warning count,
but for what a receiver must accept and what speaks of content (RST text, order of segments)."""
import collections
import os
import shutil
import subprocess
import sys
import tempfile

KEEP = {"frame", "eth", "ethertype", "vlan", "ieee8021ad", "ip", "ipv6", "ah", "tcp", "udp", "mptcp", "data"}
KEEP_UNDER = ("_ws.", "ip.options", "ipv6.", "tcp.options")
ALLOWED = {
    "Connection reset (RST)",
    "Trailing stray characters",  # the text of a RST
    "D-SACK Sequence",
    "Window scale shift exceeds 14",  # RFC 7323, section 2.3: the receiver uses 14
    "The non-SYN packet does contain a MSS option",
    "4 NOP in a row - a router may have removed some options",
    "Unsupported algorithm",  # MPTCP's choice of a hash
    "Router Alert must use a hop-by-hop options header",
}
OWN_BUG = "DISSECTOR_ASSERT_NOT_REACHED"  # tshark's, at an MP_JOIN beside other MPTCP options
WARNING = 6291456
STATUS = {"ip.checksum.status": {"1"}, "tcp.checksum.status": {"1"}, "udp.checksum.status": {"1", "3"}}  # 1 good, 3 absent


def run_tshark(pcap, config):
    protocols = subprocess.run(["tshark", "-G", "protocols"], capture_output=True, text=True, check=True).stdout
    names = [line.split("\t")[2] for line in protocols.splitlines()]
    with open(os.path.join(config, "disabled_protos"), "w") as f:
        f.writelines(n + "\n" for n in names if n not in KEEP and not n.startswith(KEEP_UNDER))
    fields = ["frame.number", "frame.protocols", "_ws.expert.severity", "_ws.expert.message", *STATUS]
    cmd = ["tshark", "-r", pcap, "-T", "fields", "-E", "aggregator=|"]
    for option in ("tcp.check_checksum:TRUE", "ip.check_checksum:TRUE", "udp.check_checksum:TRUE",
                   "tcp.analyze_sequence_numbers:FALSE", "ip.defragment:FALSE"):
        cmd += ["-o", option]
    for field in fields:
        cmd += ["-e", field]
    env = dict(os.environ, WIRESHARK_CONFIG_DIR=config)
    out = subprocess.run(cmd, capture_output=True, text=True, check=True, env=env).stdout
    return [dict(zip(fields, line.split("\t"))) for line in out.splitlines()]


def main():
    if shutil.which("tshark") is None:
        print("SKIP: no tshark")
        return 77
    n_frames = int(sys.argv[2]) if len(sys.argv) > 2 else 20000
    with tempfile.TemporaryDirectory() as tmp:
        pcap = os.path.join(tmp, "repaired.pcap")
        subprocess.run([sys.argv[1], pcap, str(n_frames)], check=True)
        rows = run_tshark(pcap, tmp)
    found = collections.Counter()
    example = {}
    status = collections.Counter()
    for row in rows:
        if not ("tcp" in row["frame.protocols"] or "udp" in row["frame.protocols"]):
            found["neither TCP nor UDP"] += 1
        for severity, message in zip(row["_ws.expert.severity"].split("|"), row["_ws.expert.message"].split("|")):
            if severity and int(severity) >= WARNING and message not in ALLOWED and OWN_BUG not in message:
                found[message] += 1
                example[message] = row["frame.number"]
        for field, good in STATUS.items():
            if row[field]:
                status[field, row[field]] += 1
                if row[field] not in good:
                    found[f"{field} {row[field]}"] += 1
    for (field, value), n in sorted(status.items()):
        print(f"{n:7d} frames with {field} {value}")
    for message, n in found.most_common():
        print(f"BAD {n:6d} {message} (frame {example.get(message, '?')})")
    if len(rows) != n_frames:
        print(f"BAD tshark read {len(rows)} frames of {n_frames}")
        return 1
    if not all(status[field, "1"] > n_frames // 10 for field in STATUS):
        print("BAD tshark did not check the checksums")
        return 1
    return 1 if found else 0


sys.exit(main())
