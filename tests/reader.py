"""Runs reader_dump over captures from elsewhere.

reader.py hostile DUMP CAPTURE_DUMP   over every file of the folder NETSSM_HOSTILE (malformed captures): it ends by itself
                                      with as many packets, and the same bytes, as capture_dump gives, in every split.
reader.py corpus DUMP CAPTURE_DUMP    over every capture of the folder NETSSM_CORPUS: packets and bytes agree with
                                      capinfos; filters leave as many packets as tcpdump's; merged files come in
                                      mergecap's order; packets over the MTU are as many as tshark finds.
Exit 77: the folder's variable is unset, or a program to compare with is missing (what was checked is said).
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

TIMEOUT_S = 20
SKIP = 77
HOW = [["-s", "file"], ["-s", "client"], ["-s", "gap=1s"], ["-n", "4"], ["-s", "client", "-m", "-z", "-t", "60"]]
FILTERS = ["tcp", "udp port 53", "tcp[tcpflags] & tcp-syn != 0", "less 100", "ip6 or arp",
           "vlan or host 192.168.1.1", "not ip", "icmp or icmp6", "greater 1000 and tcp port 443"]


class Run:
    """One run of a dump program."""

    def __init__(self, args):
        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False)
        self.code = done.returncode
        self.err = done.stderr.decode(errors="replace")
        lines = done.stdout.decode().splitlines()
        self.packets = [line.split() for line in lines[:-1]]
        self.counts = dict(field.split("=") for field in lines[-1].split()) if lines else {}

    def number(self, key):
        return int(self.counts[key])


def captures(folder):
    found = []
    for base, _, names in os.walk(folder):
        found += [os.path.join(base, n) for n in names if re.search(r"\.(pcap|pcapng|cap)(\.gz)?$", n)]
    return sorted(found)


def judge_hostile(dump, path, plain):
    """What is wrong with how the reader takes a file that capture_dump took so."""
    for options in HOW:
        run = Run([dump] + options + [path])
        what = " ".join(options)
        if run.code not in (0, 1) or (run.code == 1 and path not in run.err):
            return f"{what}: exit {run.code}: {run.err[-2000:]}"
        if not plain.counts:
            if run.counts:
                return f"{what}: read what capture_dump refuses"
            continue
        n = run.number("packets") + run.number("no_session")
        if n != plain.number("packets"):
            return f"{what}: {n} packets, capture_dump gives {plain.number('packets')}"
        empty = run.number("packets") == 0
        if run.code != (1 if plain.code == 1 or empty else 0):
            return f"{what}: exit {run.code}, capture_dump's is {plain.code}"
        if "client" not in options and run.counts["crc"] != plain.counts["crc"]:
            return f"{what}: other bytes than capture_dump's"
    return None


def hostile(dump, capture_dump, folder):
    paths = captures(folder)
    if not paths:
        return [f"{folder}: no captures"], False
    wrong, n_read = [], 0
    for path in paths:
        plain = Run([capture_dump, path])
        n_read += plain.code == 0
        complaint = judge_hostile(dump, path, plain)
        if complaint is not None:
            wrong.append(f"{path}: {complaint}")
    together = Run([dump, "-k"] + paths)
    merged = Run([dump, "-k", "-m"] + paths)
    if together.code or merged.code or together.counts["packets"] != merged.counts["packets"]:
        wrong.append(f"all in one go: {together.err}{together.counts}; merged: {merged.err}{merged.counts}")
    print(f"{len(paths)} files, {n_read} of them readable; {together.counts.get('packets')} packets in one go")
    return wrong, False


def capinfos(paths):
    """path -> (packets, data bytes)."""
    text = subprocess.run(["capinfos", "-T", "-M", "-r", "-c", "-d"] + paths, env=dict(os.environ, LC_ALL="C"),
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout.decode()
    rows = [line.split("\t") for line in text.splitlines()]
    return {row[0]: (int(row[1]), int(row[2])) for row in rows if len(row) == 3}


def lines_of(args):
    out = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    return out.decode(errors="replace").splitlines()


def check_counts(dump, paths, infos):
    wrong = []
    for path in paths:
        run = Run([dump, path])
        got = (run.number("packets"), run.number("bytes"), run.number("sessions")) if run.counts else run.err
        if got != (*infos[path], 1):
            wrong.append(f"{path}: {got}, capinfos: {infos[path]}")
    run = Run([dump] + paths)
    want = (sum(infos[p][0] for p in paths), sum(infos[p][1] for p in paths), len(paths))
    if run.code or (run.number("packets"), run.number("bytes"), run.number("sessions")) != want:
        wrong.append(f"all in one go: {run.counts} {run.err}, capinfos: {want}")
    return wrong


def check_filters(dump, paths):
    wrong = []
    for path in paths:
        for text in FILTERS:
            want = len(lines_of(["tcpdump", "-n", "-tt", "-q", "-r", path, text]))
            run = Run([dump, "-f", text, path])
            if run.number("packets") != want or run.code != (0 if want else 1):
                wrong.append(f"{path}: {text}: {run.counts} {run.err}; tcpdump: {want}")
            elif want == 0 and (text not in run.err or path not in run.err):
                wrong.append(f"{path}: {text}: no packet left, and the error does not say so: {run.err}")
    return wrong


def check_merge(dump, groups):
    """Wire lengths and times in the order of mergecap's file. Ties are in the order of the files in both."""
    wrong = []
    for paths in groups:
        with tempfile.NamedTemporaryFile(suffix=".pcapng") as out:
            subprocess.run(["mergecap", "-w", out.name] + paths, check=True, stdout=subprocess.DEVNULL)
            rows = lines_of(["tshark", "-n", "-r", out.name, "-T", "fields", "-e", "frame.time_epoch", "-e",
                             "frame.len"])
        theirs = []
        for row in rows:
            stamp, length = row.split("\t")
            s, _, frac = stamp.partition(".")
            theirs.append((int(s) * 10**9 + int(frac.ljust(9, "0")[:9]), int(length)))
        run = Run([dump, "-p", "-m"] + paths)
        first = theirs[0][0]
        ours = [(int(p[3]), int(p[4])) for p in run.packets]
        if ours != [(t - first, n) for t, n in theirs]:
            wrong.append(f"merged {paths}: not mergecap's order")
    return wrong


def check_mtu(dump, paths):
    wrong = []
    for path in paths:
        # Untagged Ethernet only: 14 bytes before the network layer.
        want = len(lines_of(["tshark", "-n", "-r", path, "-Y", "frame.len > 614"]))
        if lines_of(["tshark", "-n", "-r", path, "-Y", "vlan"]):
            continue
        cut = Run([dump, "-t", "600", path])
        out = Run([dump, "-d", "600", path])
        if cut.number("truncated") != want or out.number("too_long") != want:
            wrong.append(f"{path}: {cut.counts}, {out.counts}; tshark: {want} longer")
    return wrong


def corpus(dump, capture_dump, folder):
    paths = captures(folder)
    if not paths:
        return [f"{folder}: no captures"], False
    if shutil.which("capinfos") is None:
        return [], True
    infos = capinfos(paths)
    sample = paths[::max(1, len(paths) // 8)]
    wrong = check_counts(dump, paths, infos)
    missing = [p for p in ("tcpdump", "mergecap", "tshark") if shutil.which(p) is None]
    if not missing:
        wrong += check_filters(dump, sample)
        # mergecap goes by the stamps where a file's own go back; the reader keeps the file's order.
        steady = [p for p in sample if Run([dump, p]).number("time_back") == 0]
        wrong += check_merge(dump, [steady[:2], steady[2:], steady])
        wrong += check_mtu(dump, sample)
        print(f"{len(steady)} of {len(sample)} captures merged")
    print(f"{len(paths)} captures compared with capinfos, {len(sample)} with {len(FILTERS)} filters of tcpdump's")
    return wrong, bool(missing)


def main():
    what, dump, capture_dump = sys.argv[1:]
    variable = {"hostile": "NETSSM_HOSTILE", "corpus": "NETSSM_CORPUS"}[what]
    folder = os.environ.get(variable)
    if not folder:
        print(f"SKIP: {variable} is not set")
        return SKIP
    wrong, partial = {"hostile": hostile, "corpus": corpus}[what](dump, capture_dump, folder)
    for line in wrong:
        print("FAIL:", line)
    if wrong:
        return 1
    if partial:
        print("SKIP: capinfos, tcpdump, mergecap or tshark is missing; what needs none of them was checked")
        return SKIP
    return 0


sys.exit(main())
