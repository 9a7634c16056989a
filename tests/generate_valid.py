#!/usr/bin/env python3
"""netssm generate from the outside: same bytes for any lanes and threads, captures that other programs accept, counts that
agree everywhere, an orderly end on SIGINT.

usage: generate_valid.py NETSSM CKPT_TOOL RENDER_TOOL     exit 77 without tshark, capinfos or scapy
A small model with random weights spells next to no packet, so two more sources stand beside it: a prompt, and a
session's tokens with some replaced at random (RENDER_TOOL; real ones where NETSSM_CORPUS is set). A trained model is tried too
where NETSSM_MODEL names one.
Every dissector above TCP and UDP is off, so that what tshark says is about the headers."""
import collections
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

NETSSM, CKPT_TOOL, RENDER_TOOL = (os.path.abspath(p) for p in sys.argv[1:4])
KEEP = {"frame", "eth", "ethertype", "vlan", "arp", "ip", "ipv6", "icmp", "icmpv6", "tcp", "udp", "data"}
KNOWN = {"arp", "icmp", "icmpv6", "tcp", "udp"}
KEEP_UNDER = ("_ws.", "ip.options", "ipv6.", "tcp.options")
ERROR = 8388608
BAD_CHECKSUM = "0"


def check(ok, what):
    if not ok:
        sys.exit(f"FAILED: {what}")


def run(*args, code=0):
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    check(p.returncode == code, f"{' '.join(map(str, args))}: exit {p.returncode}, expected {code}\n{p.stdout}{p.stderr}")
    return p


def generate(*args, code=0):
    return run(NETSSM, "generate", "--progress", "none", *args, code=code)


def content(path):
    with open(path, "rb") as f:
        return f.read()


def n_packets(path):
    out = run("capinfos", "-TMrc", path).stdout.split("\t")
    return int(out[-1])


def tshark_accepts(path, expected, config, what):
    """No error of dissection, no wrong checksum, times that do not go back."""
    disabled = os.path.join(config, "disabled_protos")
    if not os.path.exists(disabled):
        names = [line.split("\t")[2] for line in run("tshark", "-G", "protocols").stdout.splitlines()]
        with open(disabled, "w") as f:
            f.writelines(n + "\n" for n in names if n not in KEEP and not n.startswith(KEEP_UNDER))
    fields = ["frame.number", "frame.time_epoch", "frame.protocols", "_ws.malformed", "_ws.expert.severity",
              "_ws.expert.message", "ip.checksum.status", "tcp.checksum.status", "udp.checksum.status"]
    cmd = ["tshark", "-r", path, "-T", "fields", "-E", "aggregator=|"]
    for o in ("tcp.check_checksum:TRUE", "udp.check_checksum:TRUE", "ip.check_checksum:TRUE", "ip.defragment:FALSE",
              "tcp.analyze_sequence_numbers:FALSE"):
        cmd += ["-o", o]
    for field in fields:
        cmd += ["-e", field]
    p = subprocess.run(cmd, capture_output=True, text=True, check=True, env=dict(os.environ, WIRESHARK_CONFIG_DIR=config))
    rows = [dict(zip(fields, line.split("\t"))) for line in p.stdout.splitlines()]
    check(len(rows) == expected == n_packets(path), f"{what}: tshark sees {len(rows)} packets, capinfos {n_packets(path)}, "
          f"expected {expected}")
    checked = collections.Counter()
    last = ""
    for row in rows:
        where = f"{what}: frame {row['frame.number']}: "
        check(KNOWN & set(row["frame.protocols"].split(":")), where + row["frame.protocols"])
        check(not row["_ws.malformed"], where + "malformed")
        for severity, message in zip(row["_ws.expert.severity"].split("|"), row["_ws.expert.message"].split("|")):
            check(not severity or int(severity) < ERROR, where + message)
        for proto in ("ip", "tcp", "udp"):
            status = row[proto + ".checksum.status"]
            check(BAD_CHECKSUM not in status.split("|"), f"{where}{proto} checksum is wrong")
            checked[proto] += status == "1"
        t = row["frame.time_epoch"].rjust(24)
        check(t >= last, where + "earlier than the one before")
        last = t
    check(not rows or checked["tcp"] + checked["udp"] > len(rows) // 2, f"{what}: tshark verified only {dict(checked)}")
    return rows


def write_session(path):
    """A small session of two flows: IPv4 TCP with options behind a VLAN tag, IPv6 UDP."""
    from scapy.all import Dot1Q, Ether, IP, IPv6, Raw, TCP, UDP, wrpcap
    packets = []
    for i in range(30):
        eth = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        if i % 3 == 2:
            p = eth / IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=4000, dport=443) / Raw(bytes(40 + i))
        else:
            p = eth / Dot1Q(vlan=5) / IP(src="192.0.2.1", dst="198.51.100.2", id=i) / TCP(
                sport=4660, dport=80, seq=1000 * i, flags="S" if i == 0 else "PA",
                options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (i, 0)), ("NOP", None), ("WScale", 7)]) / Raw(
                bytes(100 if i else 0))
        p.time = 1700000000 + i * 0.01
        packets.append(p)
    wrpcap(path, packets)


def same_for_any_lanes(model, label, tmp, options):
    first = None
    for lanes, threads in ((1, 1), (3, 2), (16, 2), (40, 3)):
        out = os.path.join(tmp, f"l{lanes}t{threads}.pcap")
        p = generate("--model", model, "--label", label, "--lanes", lanes, "--threads", threads, "--pcap-out", out,
                     "--manifest", out + ".json", *options)
        with open(out + ".json") as f:
            manifest = json.load(f)
        figures = manifest["all"]
        check(manifest["complete"] and figures["made"] == figures["packets"] + sum(figures["rejected"].values()),
              f"manifest does not add up: {figures}")
        check(sum(figures["ended_by"].values()) == figures["sessions"], f"ends: {figures}")
        check(f"packets: {figures['made']} = good {figures['packets']} + rejected" in p.stdout, p.stdout)
        check(f"made {figures['packets']} = sent {figures['packets']} + dropped 0; left 0" in p.stdout, p.stdout)
        if first is None:
            first = (content(out), figures)
        check(content(out) == first[0], f"{lanes} lanes, {threads} threads: other bytes than with 1 and 1")
        check(figures == first[1], f"{lanes} lanes, {threads} threads: other figures than with 1 and 1")
    return out, first[1]


def with_random_weights(tmp, session):
    model = os.path.join(tmp, "model")
    run(CKPT_TOOL, "make", model, "fp32", 3, "web", "dns", "a:2")
    check(generate("--model", model, "--list-labels").stdout == "web\ndns\na:2\n", "--list-labels")
    options = ["--sessions", 24, "--packets", 14, "--tokens", 2200, "--prompt", session, "--prompt-packets", 12]
    out, figures = same_for_any_lanes(model, "web:3,dns,a:2", tmp, options)
    check(figures["sessions"] == 24 and figures["packets"] >= 24 * 11, f"the prompt's packets are missing: {figures}")
    tshark_accepts(out, figures["packets"], tmp, "prompted")

    other = os.path.join(tmp, "other.pcap")
    base = ["--model", model, "--label", "web:3,dns,a:2", *options]
    generate(*base, "--seed", 2, "--pcap-out", other)
    check(content(other) != content(out), "another seed, the same bytes")
    p = subprocess.run([NETSSM, "generate", "--pcap-out", "-", *map(str, base)], capture_output=True)
    check(p.returncode == 0 and p.stdout == content(out), "--pcap-out - gives other bytes than a file")

    # A folder: the same packets, session by session, and a table that names them.
    folder = os.path.join(tmp, "folder")
    generate(*base, "--out-dir", folder, "--lanes", 5)
    with open(os.path.join(folder, "labels.csv")) as f:
        rows = [line.rstrip("\n").split(",") for line in f]
    check(rows[0] == ["File", "Label", "Seed", "Session", "Packets", "End"] and len(rows) == 25, f"labels.csv: {rows[0]}")
    check({r[1] for r in rows[1:]} == {"web", "dns", "a:2"}, "labels of the mix")
    check([int(r[3]) for r in rows[1:]] == list(range(24)), "sessions in order")
    for r in rows[1:]:
        check(n_packets(os.path.join(folder, r[0])) == int(r[4]), f"{r}: another number of packets in the file")
    check(sum(int(r[4]) for r in rows[1:]) == figures["packets"], "folder and file differ in packets")
    check(len(os.listdir(folder)) == 25, "files that labels.csv does not name")
    generate(*base, "--out-dir", folder, code=1)  # not empty any more

    # Cut frames keep their length, microseconds lose only digits.
    cut = os.path.join(tmp, "cut.pcap")
    generate(*base, "--snaplen", 60, "--us", "--start", "1700000000.5", "--pcap-out", cut)
    lens = run("tshark", "-r", cut, "-T", "fields", "-e", "frame.cap_len", "-e", "frame.len", "-e", "frame.time_epoch").stdout
    lens = [line.split("\t") for line in lens.splitlines()]
    check(len(lens) == figures["packets"] and all(int(c) == min(60, int(n)) for c, n, _ in lens), "--snaplen")
    check(lens[0][2].startswith("1700000000.500000") and any(int(c) < int(n) for c, n, _ in lens), "--start")
    return model


def wrong_options(model, tmp, session):
    out = os.path.join(tmp, "never.pcap")
    for args, says in (
            (["--label", "web"], "--pcap-out"),
            (["--pcap-out", out], "a:2"),
            (["--label", "mail", "--pcap-out", out], "web, dns, a:2"),
            (["--label", "web:-1", "--pcap-out", out], "weight"),
            (["--label", "web:", "--pcap-out", out], "weight"),
            (["--label", "web", "--start", "2026-02-31T00:00:00Z", "--pcap-out", out], "--start"),
            (["--label", "web", "--start", "yesterday", "--pcap-out", out], "--start"),
            (["--label", "web", "--packets", 5, "--prompt", session, "--pcap-out", out], "prompt"),
            (["--label", "web", "--prompt", model + "/config.json", "--pcap-out", out], "config.json")):
        p = generate("--model", model, *args, code=1)
        check(says in p.stderr, f"{args}: expected a message with {says}, found {p.stderr}")
        check(not os.path.exists(out), f"{args}: left a file behind")
    check("--model" in generate("--label", "web", "--pcap-out", out, code=1).stderr, "--model")


def interrupted(model, tmp, session):
    out = os.path.join(tmp, "stopped.pcap")
    p = subprocess.Popen([NETSSM, "generate", "--model", model, "--label", "web", "--sessions", "1000000", "--lanes", "8",
                          "--prompt", session, "--pcap-out", out, "--manifest", out + ".json", "--progress", "live"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    drawn = b""
    while re.search(rb"begun [1-9]", drawn) is None:
        more = os.read(p.stderr.fileno(), 4096)
        check(more != b"", f"SIGINT: it ended before a session began: {drawn.decode()[-300:]}")
        drawn += more
    p.send_signal(signal.SIGINT)
    stdout, stderr = p.communicate()
    check(p.returncode == 130 and b"stopped after" in stderr, f"SIGINT: exit {p.returncode}: {stderr.decode()[-300:]}")
    with open(out + ".json") as f:
        manifest = json.load(f)
    figures = manifest["all"]
    check(not manifest["complete"] and figures["ended_by"].get("stopped", 0) > 0, f"SIGINT: {manifest}")
    check(sum(figures["ended_by"].values()) == figures["sessions"], f"SIGINT: ends of sessions: {figures}")
    check(f"wrote {figures['packets']} packets" in stdout.decode(), stdout.decode())
    tshark_accepts(out, figures["packets"], tmp, "stopped")


def replaced_tokens(tmp, session, n):
    for per_mille in (0, 5, 50):
        out = os.path.join(tmp, f"replaced{per_mille}.pcap")
        made, packets, rejected = map(int, run(RENDER_TOOL, session, out, n, 7, per_mille).stdout.split())
        check(made == packets + rejected and packets > 0, f"{made} made, {packets} written, {rejected} rejected")
        check(per_mille > 0 or rejected == 0, f"{rejected} packets of a good session were rejected")
        tshark_accepts(out, packets, tmp, f"{per_mille} in 1000 tokens replaced")
        print(f"{per_mille:3d} in 1000 tokens of {os.path.basename(session)} replaced: {packets} packets written, {rejected} rejected")


def real_sessions(n):
    """One capture each of the first n labels of NETSSM_CORPUS."""
    corpus = os.environ.get("NETSSM_CORPUS")
    if not corpus:
        print("NETSSM_CORPUS is not set: no real capture's tokens were tried")
        return []
    first = {}
    with open(os.path.join(corpus, "labels.csv")) as f:
        for line in f.read().splitlines()[1:]:
            name, label = line.split(",")[:2]
            first.setdefault(label, os.path.join(corpus, name))
    return sorted(first.values())[:n]


def main():
    missing = [tool for tool in ("tshark", "capinfos") if shutil.which(tool) is None]
    try:
        import scapy  # noqa: F401
    except ImportError:
        missing.append("scapy")
    if missing:
        print(f"SKIP: no {', '.join(missing)}")
        return 77
    with tempfile.TemporaryDirectory() as tmp:
        session = os.path.join(tmp, "session.pcap")
        write_session(session)
        replaced_tokens(tmp, session, 40)
        for capture in real_sessions(4):
            replaced_tokens(tmp, capture, 2)
        model = with_random_weights(tmp, session)
        wrong_options(model, tmp, session)
        interrupted(model, tmp, session)
        trained = os.environ.get("NETSSM_MODEL")
        if trained:
            label = generate("--model", trained, "--list-labels").stdout.split("\n")[0]
            out, figures = same_for_any_lanes(trained, label, tmp, ["--sessions", 6, "--packets", 20])
            tshark_accepts(out, figures["packets"], tmp, "trained")
            print(f"{trained}: {figures['packets']} packets written, rejected {figures['rejected']}")
        else:
            print("NETSSM_MODEL is not set: no trained model was tried")
    return 0


sys.exit(main())
