"""Runs capture_dump over captures from elsewhere.

hostile.py hostile DUMP   over every file of the folder NETSSM_HOSTILE (malformed captures): it ends by itself within
                          10 s with 0, or with 1 and a message that names the file, in memory that the file's size
                          bounds; what it reads to the end has as many packets as capinfos finds.
hostile.py corpus DUMP    over every capture of the folder NETSSM_CORPUS: packets, bytes and times agree with capinfos,
                          and of a sample of files each packet with tshark.
Exit 77: the folder's variable is unset, or a program to compare with is missing (what was checked is said).
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zlib

TIMEOUT_S = 10
RSS_SLACK = 64 << 20
RSS_PER_BYTE = 10
N_TSHARK = 6
SKIP = 77


class Run:
    """One run of capture_dump: how it ended, what it said, how much memory it took."""

    def __init__(self, dump, path, each=False):
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            proc = subprocess.Popen([dump] + (["-p"] if each else []) + [path], stdout=out, stderr=err)
            deadline = time.monotonic() + TIMEOUT_S
            self.timed_out = False
            while True:
                pid, status, usage = os.wait4(proc.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline and not self.timed_out:
                    self.timed_out = True
                    proc.kill()
                time.sleep(0.002)
            proc.returncode = os.waitstatus_to_exitcode(status)
            self.code = proc.returncode
            self.rss = usage.ru_maxrss * 1024
            out.seek(0)
            err.seek(0)
            self.out = out.read().decode()
            self.err = err.read().decode(errors="replace")
        lines = self.out.splitlines()
        self.packets = [line.split() for line in lines[:-1]]
        self.counts = dict(field.split("=") for field in lines[-1].split()) if lines else {}

    def number(self, key):
        return int(self.counts[key])


def captures(folder):
    found = []
    for base, _, names in os.walk(folder):
        found += [os.path.join(base, n) for n in names if re.search(r"\.(pcap|pcapng|cap)(\.gz)?$", n)]
    return sorted(found)


def capinfos(paths):
    """path -> (packets, data bytes, start, end), of those that capinfos reads; None without capinfos."""
    if shutil.which("capinfos") is None:
        return None
    env = dict(os.environ, TZ="UTC", LC_ALL="C")
    text = subprocess.run(["capinfos", "-T", "-M", "-S", "-r", "-c", "-d", "-a", "-e"] + paths, env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout.decode()
    rows = [line.split("\t") for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) == 5}


def judge(run, path):
    """What is wrong with how capture_dump took this file; None if nothing is."""
    if run.timed_out:
        return f"still running after {TIMEOUT_S} s"
    if run.code not in (0, 1):
        return f"exit {run.code}: {run.err[-2000:]}"
    if run.code == 1 and path not in run.err:
        return f"exit 1 without a message that names the file: {run.err!r}"
    if run.code == 0 and (run.err or not run.counts):
        return f"exit 0, but stderr {run.err!r} and counters {run.counts}"
    bound = RSS_PER_BYTE * os.path.getsize(path) + RSS_SLACK
    if not os.environ.get("NSSM_SANITIZED") and run.rss > bound:
        return f"{run.rss} bytes of memory, more than {bound}"
    return None


def hostile(dump, folder):
    paths = captures(folder)
    if not paths:
        return [f"{folder}: no captures"], False
    infos = capinfos(paths)
    wrong, rss, n_read, n_compared = [], 0, 0, 0
    for path in paths:
        run = Run(dump, path)
        complaint = judge(run, path)
        rss = max(rss, run.rss)
        if complaint is None and run.code == 0:
            n_read += 1
            if infos is not None and path in infos:
                n_compared += 1
                n = run.number("packets") + run.number("short_link")
                if n != int(infos[path][0]):
                    complaint = f"{n} packets, capinfos finds {infos[path][0]}"
        if complaint is not None:
            wrong.append(f"{path}: {complaint}")
    print(f"{len(paths)} files: {n_read} read to the end, {len(paths) - n_read} refused; "
          f"{n_compared} compared with capinfos; at most {rss >> 10} KiB of memory")
    return wrong, infos is None


def to_ns(text):
    """Decimal seconds, exactly."""
    s, _, frac = text.partition(".")
    return int(s) * 10**9 + int(frac.ljust(9, "0")[:9])


def check_totals(run, info):
    n, wire, first, last = info
    # capinfos gives the earliest and the latest stamp, whatever the order.
    stamps = sorted(to_ns(p[1]) for p in run.packets)
    if run.number("packets") != int(n) or run.number("wire_bytes") != int(wire):
        return f"{run.number('packets')} packets, {run.number('wire_bytes')} bytes; capinfos: {n}, {wire}"
    if (stamps[0], stamps[-1]) != (to_ns(first), to_ns(last)):
        return f"from {stamps[0]} to {stamps[-1]} ns; capinfos: {first}, {last}"
    return None


def check_packets(run, path):
    """Stamp, wire length, captured length and bytes of every packet against tshark's."""
    fields = ["-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.cap_len"]
    text = subprocess.run(["tshark", "-n", "-r", path, "-T", "fields"] + fields, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=True).stdout.decode()
    theirs = [(to_ns(t), int(w), int(c)) for t, w, c in (line.split("\t") for line in text.splitlines())]
    ours = [(to_ns(p[1]), int(p[2]), int(p[3])) for p in run.packets]
    if theirs != ours:
        at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
        return f"packet {at + 1} of {len(ours)}: {ours[at:at + 1]}, tshark: {theirs[at:at + 1]} of {len(theirs)}"
    return check_bytes(run, path)


def check_bytes(run, path):
    """CRCs of the frames, read from the classic little-endian file by hand."""
    with open(path, "rb") as f:
        data = f.read()
    if data[:4] not in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
        return None
    at = 24
    for packet in run.packets:
        caplen = int.from_bytes(data[at + 8:at + 12], "little")
        if f"{zlib.crc32(data[at + 16:at + 16 + caplen]):08x}" != packet[4]:
            return f"packet {packet[0]}: its bytes are not the file's"
        at += 16 + caplen
    return None


def corpus(dump, folder):
    paths = captures(folder)
    if not paths:
        return [f"{folder}: no captures"], False
    infos = capinfos(paths)
    tshark = shutil.which("tshark") is not None
    sample = set(paths[::max(1, len(paths) // N_TSHARK)])
    wrong, n_totals, n_tshark = [], 0, 0
    for path in paths:
        run = Run(dump, path, each=True)
        complaint = judge(run, path)
        if complaint is None and run.code == 1:
            complaint = run.err
        if complaint is None and infos is not None and path in infos and run.packets:
            n_totals += 1
            complaint = check_totals(run, infos[path])
        if complaint is None and tshark and path in sample:
            n_tshark += 1
            complaint = check_packets(run, path)
        if complaint is not None:
            wrong.append(f"{path}: {complaint}")
    print(f"{len(paths)} files; {n_totals} compared with capinfos, {n_tshark} packet by packet with tshark")
    if infos is not None and n_totals == 0:
        wrong.append("capinfos gave no figures to compare with")
    return wrong, infos is None or not tshark


def main():
    what, dump = sys.argv[1], sys.argv[2]
    variable = {"hostile": "NETSSM_HOSTILE", "corpus": "NETSSM_CORPUS"}[what]
    folder = os.environ.get(variable)
    if not folder:
        print(f"SKIP: {variable} is not set")
        return SKIP
    wrong, partial = {"hostile": hostile, "corpus": corpus}[what](dump, folder)
    for line in wrong:
        print("FAIL:", line)
    if wrong:
        return 1
    if partial:
        print("SKIP: capinfos or tshark is missing; what needs none of them was checked")
        return SKIP
    return 0


sys.exit(main())
