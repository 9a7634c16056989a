"""netssm prepare from outside: what it takes, skips, warns of and refuses, counted here without its code.

usage: prepare_cli.py NETSSM
Captures are made here. With NETSSM_HOSTILE: every file of that folder is read or named in a warning. With NETSSM_CORPUS and
tshark: totals of some labels agree with tshark's count. Exit 77 where one of these is missing; the rest was checked then."""
import csv
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

NETSSM = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else sys.exit(__doc__)
ETH = bytes.fromhex("020000000002020000000001")
SERVER = bytes([198, 51, 100, 2])


def ip(proto, src, dst, payload, frag=0):
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, frag, 64, proto, 0) + src + dst
    return ETH + b"\x08\x00" + head + payload


def udp(src, sport, dst, dport, n=20):
    return ip(17, src, dst, struct.pack(">HHHH", sport, dport, 8 + n, 0) + bytes(n))


def tcp(src, sport, dst, dport, flags=0x10):
    return ip(6, src, dst, struct.pack(">HHIIBBHHH", sport, dport, 1, 1, 0x50, flags, 1000, 0, 0))


def icmp(src, dst):
    return ip(1, src, dst, b"\x08\x00" + bytes(6))


ARP = ETH + b"\x08\x06" + bytes(28)


def client(k):
    return bytes([192, 0, 2, k])


def pcap(packets, link=1):
    """packets: (time in µs, frame)"""
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, link)]
    for us, frame in packets:
        out.append(struct.pack("<IIII", us // 10**6, us % 10**6, len(frame), len(frame)) + frame)
    return b"".join(out)


SMALL = pcap([(i * 1000, tcp(client(1), 1000, SERVER, 80)) for i in range(3)])


class Prepare(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="netssm-prepare-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.out = self.path("out.nssm")

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, data):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        return self.path(name)

    def prepare(self, *args, **how):
        how = {"capture_output": True, "timeout": 120} | how
        codec = [] if "--codec" in args else ["--codec", "raw"]
        r = subprocess.run([NETSSM, "prepare", "--out", self.out, "--progress", "none", *codec, *args], **how)
        r.stderr = (r.stderr or b"").decode(errors="replace")
        self.assertNotRegex(r.stderr, "Sanitizer|runtime error")
        left = [n for n in os.listdir(self.dir) if ".tmp." in n or ".spool." in n]
        self.assertEqual(left, [])
        return r

    def corpus(self):
        r = subprocess.run([NETSSM, "info", "--json", "--verify", self.out], capture_output=True, timeout=60, check=True)
        return json.loads(r.stdout)

    def taken(self, *args, **how):
        r = self.prepare(*args, **how)
        self.assertEqual(r.returncode, 0, r.stderr)
        return self.corpus(), r

    def refused(self, words, *args, kept=None, **how):
        """Exit 1 with words; the output is as it was: kept's bytes, or not there."""
        r = self.prepare(*args, **how)
        self.assertEqual(r.returncode, 1, r.stderr)
        self.assertRegex(r.stderr, words)
        self.assertEqual(r.stderr.count("netssm: error: "), 1)
        if kept is None:
            self.assertFalse(os.path.lexists(self.out))
        else:
            with open(self.out, "rb") as f:
                self.assertEqual(f.read(), kept)

    def test_every_packet_is_counted_once(self):
        for seed in range(4):
            rng = random.Random(seed)
            at, packets = 10**9, []
            want = {"taken": 0, "not_ip": 0, "not_tcp_udp": 0, "fragment": 0, "cut": 0, "bad_ip": 0}
            flows, gaps, times = set(), 1, []
            for _ in range(1500):
                at += rng.choice((0, 10, 1000, 100000, 3 * 10**6))
                src, port = client(rng.randrange(1, 12)), rng.randrange(2000, 2006)
                kind = rng.choices(list(want), (20, 2, 2, 1, 1, 1))[0]
                if kind == "taken":
                    make = rng.choice((tcp, udp))
                    there = rng.random() < 0.5
                    frame = make(src, port, SERVER, 53) if there else make(SERVER, 53, src, port)
                    flows.add((make, src, port))
                elif kind == "not_ip":
                    frame = ARP
                elif kind == "not_tcp_udp":
                    frame = icmp(src, SERVER)
                elif kind == "fragment":
                    frame = ip(17, src, SERVER, bytes(40), frag=5)
                elif kind == "cut":
                    frame = tcp(src, port, SERVER, 53)[:14 + 20 + 7]
                else:
                    frame = bytearray(tcp(src, port, SERVER, 53))
                    frame[14] = 0x42
                want[kind] += 1
                packets.append((at, bytes(frame)))
                gaps += bool(times) and at - times[-1] > 10**6
                times.append(at)
            capture = self.write("a.pcap", pcap(packets))
            for mode in ("file", "gap=1s", "client"):
                c, _ = self.taken("--captures", capture, "--label", "x", "--session-split", mode)
                label = c["labels"][0]
                self.assertEqual(label["packets"] + sum(label["skipped"].values()), len(packets), mode)
                self.assertEqual(label["packets"], want["taken"])
                for why in set(want) - {"taken"}:
                    self.assertEqual(label["skipped"].get(why, 0), want[why], (mode, why))
                self.assertEqual(c["tokens"], label["packets"] * 129 + c["sessions"])
                if mode == "file":
                    self.assertEqual((c["sessions"], c["flows"]), (1, len(flows)))
                elif mode == "client":
                    self.assertEqual((c["sessions"], c["flows"]), (len({f[1] for f in flows}), len(flows)))
                else:
                    self.assertLessEqual(c["sessions"], gaps)
                    empty = re.search(rb"not written: (\d+)", _.stdout)
                    self.assertEqual(c["sessions"] + int(empty[1] if empty else 0), gaps)

    def test_nothing_to_read(self):
        os.mkdir(self.path("in"))
        self.write("in/notes.txt", "no capture")
        self.refused("no captures to read.*folders are searched for", "--captures", self.path("in"), "--label", "x")
        self.refused("nowhere: cannot open: No such file", "--captures", self.path("nowhere"), "--label", "x")
        self.write("in/arp.pcap", pcap([(1, ARP)]))
        self.write("in/none.pcap", pcap([]))
        self.refused("2 captures hold no packet", "--captures", self.path("in"), "--label", "x")

    def test_command_line(self):
        a = self.write("a.pcap", SMALL)
        labels = self.write("l.csv", "File,Label,Split\na.pcap,x,train\n")
        self.refused("--captures is missing", "--label", "x")
        self.refused("either --labels.*or one --label", "--captures", a)
        self.refused("either --labels.*or one --label", "--captures", a, "--label", "x", "--labels", labels)
        self.refused("--split train needs a CSV", "--captures", a, "--label", "x", "--split", "train")
        self.refused("--only x needs a CSV", "--captures", a, "--label", "x", "--only", "x")
        self.refused('l.csv: no row has the label "xx"', "--captures", a, "--labels", labels, "--only", "x", "--only", "xx")
        self.refused("no captures to read: 0 .* 1 of another split", "--captures", a, "--labels", labels, "--split", "val")
        self.refused("session.split.*gap", "--captures", a, "--label", "x", "--session-split", "gap=")
        self.refused('label "a b"', "--captures", a, "--label", "a b")
        self.refused("endoftext.*is a special token", "--captures", a, "--label", "endoftext")
        self.refused("a.pcap: holds a zero byte: no CSV", "--captures", a, "--labels", a)
        c, _ = self.taken("--captures", a, "--labels", labels, "--split", "train", "--only", "x")
        self.assertEqual(c["labels"][0]["label"], "x")
        self.assertEqual(c["made_by"]["split"], "train")

    def test_broken_captures(self):
        self.write("in/a.pcap", SMALL[:-10])
        self.write("in/b.pcap", SMALL)
        self.write("in/c.pcap", pcap([(1, b"\x08\x00" + bytes(30))], link=105))
        self.write("in/d.pcap", b"")
        os.chmod(self.write("in/e.pcap", SMALL), 0)
        unreadable = not os.access(self.path("in/e.pcap"), os.R_OK)
        c, r = self.taken("--captures", self.path("in"), "--label", "x")
        self.assertEqual(c["packets"], 2 + 3 + (0 if unreadable else 3))
        self.assertRegex(r.stderr, r"warning: .*/a.pcap: .*; the 2 packets before it are kept")
        self.assertRegex(r.stderr, r"warning: .*/c.pcap: .*802.11")
        self.assertRegex(r.stderr, r"warning: .*/d.pcap: ")
        self.assertIn(b"captures that end in an error (see above; what came before it is kept): %d\n" % (3 + unreadable),
            r.stdout)
        with open(self.out, "rb") as f:
            kept = f.read()
        self.refused("in/a.pcap: ", "--captures", self.path("in"), "--label", "x", "--strict", kept=kept)
        self.refused("1 captures hold no packet", "--captures", self.path("in", "c.pcap"), "--label", "x", kept=kept)

    def test_links(self):
        self.write("in/a.pcap", SMALL)
        self.write("else/b.pcap", SMALL)
        os.symlink("a.pcap", self.path("in", "again.pcap"))
        os.symlink("../else", self.path("in", "folder"))
        os.symlink(".", self.path("in", "loop"))
        os.symlink("gone", self.path("in", "lost.pcap"))
        os.symlink("gone", self.path("in", "notes.txt"))
        os.mkfifo(self.path("in", "fifo.pcap"))
        c, r = self.taken("--captures", self.path("in"), "--captures", self.path("else", "b.pcap"), "--label", "x")
        self.assertEqual((c["sessions"], c["packets"]), (2, 6))
        self.assertRegex(r.stderr, "in/again.pcap: the same file as .*in/a.pcap, read once")
        self.assertRegex(r.stderr, "else/b.pcap: the same file as .*in/folder/b.pcap, read once")
        self.assertRegex(r.stderr, "in/lost.pcap: a symbolic link to nothing")
        self.assertRegex(r.stderr, "in/loop: a symbolic link to a folder that holds it")
        self.assertNotIn("notes.txt", r.stderr)
        os.remove(self.out)
        labels = self.write("l.csv", "File,Label\na.pcap,x\nagain.pcap,y\n")
        self.refused("a.pcap, labelled x, and .*again.pcap, labelled y, are the same file", "--captures", self.path("in"),
            "--labels", labels)

    def test_names_that_a_terminal_obeys(self):
        self.write("in/a.pcap", SMALL)
        self.write("in/\x1b[2J\nb.pcap", b"none")
        _, r = self.taken("--captures", self.path("in"), "--label", "x")
        self.assertIn("?[2J?b.pcap", r.stderr)
        self.assertNotIn("\x1b", r.stderr)

    def test_out_takes_no_other_file_s_place(self):
        a = self.write("a.pcap", SMALL)
        labels = self.write("l.csv", "File,Label\na.pcap,x\n")
        for self.out, words in ((a, "is no corpus"), (labels, "is no corpus")):
            with open(self.out, "rb") as f:
                kept = f.read()
            self.refused(words, "--captures", a, "--labels", labels, kept=kept)
        for self.out, words in ((self.path("folder"), "is a folder"), (self.path("fifo"), "is a device or a pipe"),
                (self.path("nowhere", "c.nssm"), "No such file or directory")):
            if self.out.endswith("folder"):
                os.mkdir(self.out)
            elif self.out.endswith("fifo"):
                os.mkfifo(self.out)
                # A reader that opens a pipe without a writer would wait for ever.
                keep = os.open(self.out, os.O_RDWR | os.O_NONBLOCK)
                self.addCleanup(os.close, keep)
            r = self.prepare("--captures", a, "--label", "x")
            self.assertEqual(r.returncode, 1)
            self.assertRegex(r.stderr, words)
        self.out = self.write("out.nssm", b"")
        self.taken("--captures", a, "--label", "x")
        c, _ = self.taken("--captures", a, "--label", "y")
        self.assertEqual(c["labels"][0]["label"], "y")

    def fifo(self):
        """prepare, reading from a pipe: listing is over when the pipe is open."""
        os.mkfifo(self.path("fifo"))
        p = subprocess.Popen([NETSSM, "prepare", "--out", self.out, "--progress", "none", "--label", "x", "--captures",
            self.path("fifo"), "--captures", self.path("in")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(p.communicate)
        self.addCleanup(p.kill)
        return p, open(self.path("fifo"), "wb", buffering=0)

    def test_a_file_that_vanishes(self):
        self.write("in/a.pcap", SMALL)
        self.write("in/b.pcap", SMALL)
        p, pipe = self.fifo()
        os.remove(self.path("in", "a.pcap"))
        pipe.write(SMALL)
        pipe.close()
        _, stderr = p.communicate(timeout=60)
        self.assertEqual(p.returncode, 0, stderr)
        self.assertRegex(stderr.decode(), "warning: .*in/a.pcap: cannot open: No such file")
        self.assertEqual(self.corpus()["sessions"], 2)

    def test_signals(self):
        self.write("in/b.pcap", SMALL)
        self.taken("--captures", self.path("in"), "--label", "x")
        with open(self.out, "rb") as f:
            kept = f.read()
        for sig in (signal.SIGINT, signal.SIGTERM):
            p, pipe = self.fifo()
            # More than pipe and buffers hold: when it is all written, most of it was read.
            pipe.write(pcap([(i, tcp(client(1), 1, SERVER, 80)) for i in range(20000)]))
            p.send_signal(sig)
            for i in range(40):
                try:
                    pipe.write(pcap([(i, ARP) for i in range(5000)])[24:])
                except BrokenPipeError:
                    break
            pipe.close()
            _, stderr = p.communicate(timeout=60)
            self.assertEqual(p.returncode, 130, stderr)
            self.assertIn("stopped; nothing was written", stderr.decode())
            with open(self.out, "rb") as f:
                self.assertEqual(f.read(), kept)
            self.assertEqual(sorted(os.listdir(self.dir)), ["fifo", "in", "out.nssm"])
            os.remove(self.path("fifo"))

    def test_standard_input(self):
        r = self.prepare("--captures", "-", "--label", "x", input=SMALL)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(self.corpus()["packets"], 3)

    def test_full_disk(self):
        a = self.write("a.pcap", pcap([(i, tcp(client(i % 9), 1, SERVER, 80)) for i in range(9000)]))
        self.taken("--captures", self.write("b.pcap", SMALL), "--label", "x")
        with open(self.out, "rb") as f:
            kept = f.read()
        for mode in ("file", "client"):
            for limit in (1000, 1 << 20, 9000 * 258):
                self.refused("out.nssm: cannot write at offset .*File too large", "--captures", a, "--label", "x",
                    "--session-split", mode, kept=kept,
                    preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.taken("--captures", a, "--label", "x")

    def test_hostile(self):
        folder = os.environ.get("NETSSM_HOSTILE")
        if not folder:
            print("SKIP: NETSSM_HOSTILE is unset")
            self.skipTest("NETSSM_HOSTILE is unset")
        names = [os.path.join(base, n) for base, _, found in os.walk(folder) for n in found
            if re.search(r"\.(pcap|pcapng|cap)(\.gz)?$", n, re.I)]
        self.assertGreater(len(names), 20)
        for mode in ("file", "client", "gap=1ms"):
            c, r = self.taken("--captures", folder, "--label", "x", "--session-split", mode, timeout=300)
            read = int(re.search(rb"captures read: (\d+)", r.stdout)[1])
            self.assertEqual(read, len(names))
            bad = int(re.search(rb"captures that end in an error \(.*\): (\d+)", r.stdout)[1])
            warned = {n for n in names if n in r.stderr}
            self.assertEqual(len(warned), bad)
        # One by one: the same sessions in all, and a message where there is none.
        sessions = 0
        for name in names:
            r = self.prepare("--captures", name, "--label", "x", "--session-split", "gap=1ms")
            self.assertIn(r.returncode, (0, 1), name)
            self.assertEqual("netssm: error: " in r.stderr, r.returncode == 1)
            sessions += self.corpus()["sessions"] if r.returncode == 0 else 0
            self.assertEqual(r.returncode == 0 or name in r.stderr or "hold no packet" in r.stderr, True)
        self.assertEqual(sessions, c["sessions"])

    def test_corpus_agrees_with_tshark(self):
        folder = os.environ.get("NETSSM_CORPUS")
        if not folder or shutil.which("tshark") is None:
            print("SKIP: NETSSM_CORPUS is unset or there is no tshark")
            self.skipTest("no corpus or no tshark")
        labels = ("wemo-insight", "lightify", "telegram")
        with open(os.path.join(folder, "labels.csv"), newline="", encoding="utf-8") as f:
            rows = [r for r in csv.DictReader(f) if r["Label"] in labels and r["Split"] == "val"]
        c, _ = self.taken("--captures", folder, "--labels", os.path.join(folder, "labels.csv"), "--split", "val",
            *[x for label in labels for x in ("--only", label)])
        self.assertEqual(c["sessions"], len(rows))
        for label in c["labels"]:
            taken = total = flows = 0
            for row in rows:
                if row["Label"] != label["label"]:
                    continue
                out = subprocess.run(["tshark", "-n", "-r", os.path.join(folder, row["File"]), "-o", "tcp.desegment_tcp_streams:FALSE",
                    "-T", "fields", "-e", "frame.protocols", "-e", "tcp.stream", "-e", "udp.stream"],
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=300, check=True).stdout
                streams = set()
                for line in out.splitlines():
                    protocols, t, u = line.split("\t")
                    names = protocols.split(":")
                    total += 1
                    if "icmp" not in names and "icmpv6" not in names and ("tcp" in names or "udp" in names):
                        taken += 1
                        streams.add(("t", t) if "tcp" in names else ("u", u))
                flows += len(streams)
            self.assertEqual(label["packets"], taken, label)
            self.assertEqual(sum(label["skipped"].values()), total - taken, label)
            # tshark begins a new stream where a port is used again.
            self.assertLessEqual(label["flows"], flows)
            self.assertGreaterEqual(label["flows"], 0.9 * flows)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    sys.exit(1 if not result.wasSuccessful() else 77 if result.skipped else 0)
