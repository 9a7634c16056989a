#!/usr/bin/python3
"""netssm decode from outside: what a corpus holds of captures, held against the captures themselves, read here without its code.

usage: decode_cli.py NETSSM CORPUS_MAKE
Exit 77 where tshark is missing; the rest was checked then."""
import csv
import glob
import gzip
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

CORPUS_MAKE = os.path.abspath(sys.argv.pop()) if len(sys.argv) == 3 else sys.exit(__doc__)
NETSSM = os.path.abspath(sys.argv.pop())
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SAMPLES = os.path.join(ROOT, "samples")
SOME = ("dns-001", "dns-002", "video-001", "web-001", "web-002")  # as prepare orders them
RAW = '{"kind":"raw","version":1,"pkt_len":128,"compat":"none"}'
FLOW = '{"kind":"flow","version":2,"payload":"%s","prefix":%d,"identity":"%s"}'
STEP = 2 ** (1 / 8)  # of a time byte
HEADERS = ("eth.src eth.dst eth.type arp.opcode arp.src.proto_ipv4 arp.dst.proto_ipv4 ip.src ip.dst ip.len ip.id ip.flags ip.ttl "
    "ip.dsfield ip.checksum ipv6.src ipv6.dst ipv6.plen ipv6.hlim ipv6.flow udp.srcport udp.dstport udp.length tcp.srcport "
    "tcp.dstport tcp.seq_raw tcp.ack_raw tcp.flags tcp.window_size_value tcp.hdr_len tcp.options icmp.type icmp.code "
    "icmpv6.type frame.len frame.cap_len").split()
skipped = []


def read_pcap(path):
    """[(ns, frame, length on the wire)]"""
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
        return parse_pcap(f.read())


def parse_pcap(blob):
    magic, *_, link = struct.unpack_from("<IHHiIII", blob)
    unit = {0xA1B23C4D: 1, 0xA1B2C3D4: 1000}[magic]
    assert link == 1
    out, at = [], 24
    while at < len(blob):
        s, frac, cap, wire = struct.unpack_from("<IIII", blob, at)
        frame = blob[at + 16:at + 16 + cap]
        assert len(frame) == cap, "a record is cut"
        out.append((s * 10**9 + frac * unit, frame, wire))
        at += 16 + cap
    return out


def read_pcapng(path):
    """[(ns, frame, length on the wire, comment)]"""
    with open(path, "rb") as f:
        blob = f.read()
    out, at = [], 0
    while at < len(blob):
        kind, n = struct.unpack_from("<II", blob, at)
        assert struct.unpack_from("<I", blob, at + n - 4)[0] == n
        if kind == 6:
            _, hi, lo, cap, wire = struct.unpack_from("<IIIII", blob, at + 8)
            opt, comment = at + 28 + (cap + 3) // 4 * 4, None
            while opt < at + n - 4:
                code, size = struct.unpack_from("<HH", blob, opt)
                if code == 1:
                    comment = blob[opt + 4:opt + 4 + size].decode()
                opt += 4 + (size + 3) // 4 * 4
            out.append((hi << 32 | lo, blob[at + 28:at + 28 + cap], wire, comment))
        at += n
    return out


def transport(frame):
    """(end of the TCP or UDP header, offset of its checksum, end of the IP packet) or None where there is no such header."""
    kind, at = frame[12:14], 14
    while kind in (b"\x81\x00", b"\x88\xa8"):
        kind, at = frame[at + 2:at + 4], at + 4
    if kind == b"\x08\x00":
        proto, l4 = frame[at + 9], at + (frame[at] & 15) * 4
        end = at + struct.unpack_from(">H", frame, at + 2)[0]
        if struct.unpack_from(">H", frame, at + 6)[0] & 0x1FFF:
            return None
    elif kind == b"\x86\xdd":
        proto, l4 = frame[at + 6], at + 40
        end = l4 + struct.unpack_from(">H", frame, at + 4)[0]
    else:
        return None
    if proto == 6 and len(frame) >= l4 + 20:
        return l4 + (frame[l4 + 12] >> 4) * 4, l4 + 16, end
    if proto == 17 and len(frame) >= l4 + 8:
        return l4 + 8, l4 + 6, end
    return None


def without(frame, at):
    """With 0 for the two bytes of a checksum: it covers payload that was not kept."""
    return frame[:at] + b"\0\0"[:max(0, len(frame) - at)] + frame[at + 2:]


def udp(n=4):
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 28 + n, 0, 0, 64, 17, 0) + bytes([192, 0, 2, 1, 192, 0, 2, 2])
    return bytes.fromhex("0200000000020200000000010800") + ip + struct.pack(">HHHH", 5000, 6000, 8 + n, 0) + bytes(n)


class Decode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.mkdtemp(prefix="netssm-decode-")
        cls.raw = os.path.join(cls.shared, "raw.nssm")
        cls.prepare(cls.raw, "--captures", SAMPLES, "--labels", os.path.join(SAMPLES, "labels.csv"), "--codec", "raw")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared, True)

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="netssm-decode-")
        self.addCleanup(shutil.rmtree, self.dir, True)

    @staticmethod
    def prepare(out, *args):
        subprocess.run([NETSSM, "prepare", "--out", out, "--progress", "none", *args], check=True, capture_output=True, timeout=120)
        return out

    def prepare_some(self, name, *codec):
        with open(self.path("some.csv"), "w", encoding="utf-8") as f:
            f.write("File,Label\n" + "".join(f"{n}.pcap.gz,{n[:-4]}\n" for n in SOME))
        args = [a for n in SOME for a in ("--captures", f"{SAMPLES}/{n}.pcap.gz")]
        return self.prepare(self.path(name), *args, "--labels", self.path("some.csv"), "--codec", "flow", *codec)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def decode(self, *args, code=0, **how):
        how = {"capture_output": True, "timeout": 120} | how
        r = subprocess.run([NETSSM, "decode", "--progress", "none", *args], **how)
        r.stderr = r.stderr.decode(errors="replace")
        self.assertEqual(r.returncode, code, r.stderr)
        self.assertNotRegex(r.stderr, "Sanitizer|runtime error")
        self.assertEqual([n for n in os.listdir(self.dir) if "tmp" in n or "spill" in n], [])
        return r

    def summary(self, *args):
        return json.loads(self.decode("--json", *args).stdout)

    def make(self, name, codec, *captures, text=None):
        out = self.path(name)
        args = ["-"] if text is not None else [f"{SAMPLES}/{c}.pcap.gz={c[:-4]}" for c in captures]
        r = subprocess.run([CORPUS_MAKE, out, codec, *args], input=text, text=True, capture_output=True, timeout=120)
        self.assertEqual(r.returncode, 0, r.stderr)
        return out

    def refused(self, *args, says, code=1):
        r = self.decode(*args, code=code)
        self.assertEqual(r.stdout, b"")
        for what in (says,) if isinstance(says, str) else says:
            self.assertIn(what, r.stderr)

    # --- codec flow -------------------------------------------------------------------------------------------------------

    def check_flow(self, name, got, known):
        want = read_pcap(f"{SAMPLES}/{name}.pcap.gz")
        self.assertEqual([len(f) for _, f, _ in got], [len(f) for _, f, _ in want], "captured lengths")
        self.assertEqual([w for *_, w in got], [w for *_, w in want], "lengths on the wire")
        self.assertEqual(got[0][0], want[0][0], "starts when it did")
        for i, ((_, g, _), (_, w, _)) in enumerate(zip(got, want)):
            head = transport(w)
            n = min(known[i], len(w))
            if head is not None:
                self.assertGreaterEqual(n, min(head[0], len(w)), "headers are known")
                g, w = without(g, head[1]), without(w, head[1])
            self.assertEqual(g[:n], w[:n], f"packet {i + 1} of {name}")
            if i > 0:
                a, b = got[i][0] - got[i - 1][0], max(0, want[i][0] - want[i - 1][0])
                if a > 60 or b > 60:  # around the first step: 0 or 100 ns
                    self.assertTrue(b / STEP / 1.01 - 60 <= a <= b * STEP * 1.01 + 60, f"gap {i}: {a} for {b} ns")

    def test_flow(self):
        for payload in ("none", "prefix", "full"):
            corpus = self.prepare_some(payload, "--payload", payload)
            ng, folder = self.path(payload + ".pcapng"), self.path(payload + ".d")
            j = self.summary(corpus, "--pcapng-out", ng, "--comments")
            self.assertEqual((j["times"], j["rejected"], j["sessions"], j["complete"]), ("codec", {}, len(SOME), True))
            self.decode(corpus, "--out-dir", folder)
            merged = read_pcapng(ng)
            self.assertEqual([p[0] for p in merged], sorted(p[0] for p in merged))
            for i, name in enumerate(SOME):
                mine = [p for p in merged if f" session={i} " in p[3]]
                self.assertTrue(all(p[3].startswith(f"label={name[:-4]} session={i} token=") for p in mine))
                got = read_pcap(f"{folder}/{name[:-4]}-{i:06}.pcap")
                self.assertEqual([p[:3] for p in mine], got, "alone and among others")
                self.check_flow(name, got, [int(re.search(r"known=(\d+)", p[3])[1]) for p in mine])

    def test_flow_by_tshark(self):
        if shutil.which("tshark") is None:
            skipped.append("no tshark")
            return
        corpus = self.prepare_some("c")
        self.decode(corpus, "--out-dir", self.path("d"))
        args = ["tshark", "-n", "-T", "fields", *(a for h in HEADERS for a in ("-e", h))]
        for i, name in enumerate(SOME):
            want, got = (subprocess.run([*args, "-r", f], capture_output=True, check=True, timeout=120).stdout.splitlines()
                for f in (f"{SAMPLES}/{name}.pcap.gz", self.path("d", f"{name[:-4]}-{i:06}.pcap")))
            self.assertGreater(len(want), 50)
            self.assertEqual(got, want, name)

    def test_pool_and_seed(self):
        corpus = self.make("c", FLOW % ("none", 0, "pool"), "web-001")
        got = []
        for k, more in enumerate(((), (), ("--seed", "2"), ("--payload", "random"))):
            self.decode(corpus, "--pcap-out", self.path(f"{k}.pcap"), *more)
            got.append(read_pcap(self.path(f"{k}.pcap")))
        self.assertEqual(got[0], got[1])
        self.assertNotEqual(got[0], got[2])
        self.assertEqual([(t, len(f), w) for t, f, w in got[0]], [(t, len(f), w) for t, f, w in got[3]])
        self.assertNotEqual(got[0], got[3], "payload")
        want = read_pcap(f"{SAMPLES}/web-001.pcap.gz")
        self.assertEqual([w for *_, w in got[0]], [w for *_, w in want])

    # --- codec raw --------------------------------------------------------------------------------------------------------

    def test_raw(self):
        with open(f"{SAMPLES}/labels.csv", newline="", encoding="utf-8") as f:
            labels = {r["File"]: r["Label"] for r in csv.DictReader(f)}
        self.decode(self.raw, "--out-dir", self.path("d"))
        with open(self.path("d", "labels.csv"), newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        self.assertEqual(len(rows), len(labels))
        self.assertEqual({r["File"] for r in rows} | {"labels.csv"}, set(os.listdir(self.path("d"))))
        sources = {}
        for name in labels:
            packets = [(t, f, w) for t, f, w in read_pcap(f"{SAMPLES}/{name}") if transport(f) is not None]
            sources[labels[name], packets[0][0]] = packets
        for r in rows:
            got = read_pcap(self.path("d", r["File"]))
            want = sources.pop((r["Label"], got[0][0]))  # starts when it did
            self.assertEqual((len(got), r["Packets"]), (len(want), str(len(want))))
            self.assertEqual(r["File"], f"{r['Label']}-{int(r['Session']):06}.pcap")
            for i, ((_, g, wire), (_, w, _)) in enumerate(zip(got, want)):
                head, csum, end = transport(w)
                self.assertEqual((len(g), wire), (end, end), f"packet {i + 1} of {r['File']}")
                self.assertEqual(without(g[:head], csum), without(w[:head], csum), f"packet {i + 1} of {r['File']}")
        self.assertEqual(sources, {})
        # What was decoded is a corpus again, with the same headers.
        self.prepare(self.path("again"), "--captures", self.path("d"), "--labels", self.path("d", "labels.csv"), "--codec", "raw")
        one, two = (json.loads(subprocess.run([NETSSM, "info", "--json", c], capture_output=True, check=True).stdout)
            for c in (self.raw, self.path("again")))
        self.assertEqual([(x["label"], x["packets"], x["flows"], x["tokens"]) for x in one["labels"]],
            [(x["label"], x["packets"], x["flows"], x["tokens"]) for x in two["labels"]])

    def test_raw_times(self):
        pick = ("--session", "1-2", "--session", "30")
        j = self.summary(self.raw, "--pcap-out", self.path("a"), *pick)
        self.assertEqual((j["times"], j["sessions"]), ("drawn", 3))
        self.decode(self.raw, "--pcap-out", self.path("b"), *pick)
        self.decode(self.raw, "--pcap-out", self.path("c"), "--seed", "9", *pick)
        a, b, c = (read_pcap(self.path(n)) for n in "abc")
        self.assertEqual(a, b)
        self.assertNotEqual([p[0] for p in a], [p[0] for p in c])
        self.assertEqual([p[0] for p in a], sorted(p[0] for p in a))
        j = self.summary(self.raw, "--pcap-out", self.path("d"), "--gap", "2ms", "--session", "5")
        t = [p[0] for p in read_pcap(self.path("d"))]
        self.assertEqual((j["times"], {y - x for x, y in zip(t, t[1:])}), ("fixed", {2000000}))
        self.decode(self.raw, "--pcap-out", self.path("e"), "--us", "--snaplen", "60", "--session", "5")
        self.assertTrue(all(p[0] % 1000 == 0 and len(p[1]) == min(60, p[2]) for p in read_pcap(self.path("e"))))

    # --- which, and how many ----------------------------------------------------------------------------------------------

    def test_choice(self):
        j = self.summary(self.raw, "--pcap-out", self.path("a"), "--label", "dns,web", "--sessions", "30")
        self.assertEqual([(x["label"], x["sessions"]) for x in j["labels"]], [("dns", 24), ("web", 6)])
        j = self.summary(self.raw, "--pcap-out", self.path("a"), "--label", "web", "--label", "video", "--session", "0-30")
        self.assertEqual([(x["label"], x["sessions"]) for x in j["labels"]], [("video", 7)])
        j = self.summary(self.raw, "--pcap-out", self.path("a"), "--limit", "1000")
        self.assertEqual((j["packets"], j["complete"], len(read_pcap(self.path("a")))), (1000, False, 1000))
        self.decode(self.raw, "--out-dir", self.path("d"), "--limit", "300")
        with open(self.path("d", "labels.csv"), newline="", encoding="utf-8") as f:
            self.assertEqual(sum(int(r["Packets"]) for r in csv.DictReader(f)), 300)
        self.assertEqual(sum(len(read_pcap(f)) for f in glob.glob(self.path("d", "*.pcap"))), 300)
        r = self.decode(self.raw, "--pcap-out", "-", "--session", "3")
        self.assertEqual(len(parse_pcap(r.stdout)), self.summary(self.raw, "--pcap-out", self.path("a"), "--session", "3")["packets"])
        self.assertIn("to - in", r.stderr)

    def test_many_at_a_time(self):
        """More sessions side by side than are decoded side by side: the others wait in a file, and nothing is out of order."""
        ng = self.path("all.pcapng")
        many = self.make("m", FLOW % ("prefix", 12, "keep"), *["web-001"] * 100)
        j = self.summary(many, "--pcapng-out", ng, "--comments", "--payload", "random")
        self.assertEqual((j["sessions"], j["spilled_sessions"]), (100, 36))
        self.assertGreater(j["spilled_bytes"], 36 * 16842)
        merged = read_pcapng(ng)
        self.assertEqual([p[0] for p in merged], sorted(p[0] for p in merged))
        self.decode(many, "--out-dir", self.path("d"), "--payload", "random")
        of = {}
        for *packet, note in merged:
            of.setdefault(int(re.search(r" session=(\d+)", note)[1]), []).append(tuple(packet))
        for i in range(100):
            self.assertEqual(of[i], read_pcap(self.path("d", f"web-{i:06}.pcap")))

    # --- what is no packet ------------------------------------------------------------------------------------------------

    def test_rejected(self):
        good = " ".join(map(str, udp()))
        raw = self.make("r", RAW, text=f"x 1000 =x {good} pkt 1 2 3 pkt =x {good} pkt {good} eot\n"
            f"x 2000 =x 1 2 3 pkt unk pkt {good} eot 4 5 6\n")
        j = self.summary(raw, "--pcap-out", self.path("a"))
        n = len(udp())
        self.assertEqual(j["packets"], 3)
        self.assertEqual(j["rejected"], {
            "stray_token": {"packets": 2, "first_session": 0, "first_token": 1 + n + 1 + 3 + 1 + 1 + n + 1},
            "short": {"packets": 2, "first_session": 0, "first_token": 1 + n + 1 + 3 + 1}})
        self.assertEqual(j["tokens_after_end"], 3)
        r = self.decode(raw, "--pcap-out", self.path("a"))
        self.assertIn(f"rejected: short 2, first in session 0 at token {n + 6} (".encode(), r.stdout)
        self.assertIn(b"passed over: 3\n", r.stdout)
        # The first place is the lowest one, whichever session began earlier.
        raw = self.make("r", RAW, text=f"x 2000 =x 1 pkt eot\nx 1000 =x 1 2 pkt {good} eot\n")
        j = self.summary(raw, "--pcap-out", self.path("a"))
        self.assertEqual(j["rejected"], {"short": {"packets": 2, "first_session": 0, "first_token": 3}})
        flow = self.make("f", FLOW % ("none", 0, "keep"), text="y 0 =y 7 pkt pkt 0 240 pkt eot\n")
        j = self.summary(flow, "--pcap-out", self.path("a"))
        self.assertEqual(j["packets"], 0)
        self.assertEqual(j["rejected"]["bad_token"]["first_token"], 2)
        self.assertEqual(j["rejected"]["short"]["first_token"], 4)
        self.assertEqual(read_pcap(self.path("a")), [])

    def test_too_late(self):
        good = " ".join(map(str, udp()))
        late = 5 * 10**18  # 2128
        c = self.make("c", RAW, text=f"x 7 =x {good} eot\nx {late} =x {good} eot\n")
        j = self.summary(c, "--pcap-out", self.path("a"))
        self.assertEqual((j["packets"], j["too_late"], [p[0] for p in read_pcap(self.path("a"))]), (1, 1, [7]))
        j = self.summary(c, "--pcapng-out", self.path("b"))
        self.assertEqual((j["packets"], j["too_late"], [p[0] for p in read_pcapng(self.path("b"))]), (2, 0, [7, late]))

    # --- refused ----------------------------------------------------------------------------------------------------------

    def test_refused(self):
        out = self.path("x")
        self.refused("--pcap-out", out, says="name one corpus")
        self.refused(self.raw, says="give one of --pcap-out FILE, --pcapng-out FILE and --out-dir DIR, found none")
        self.refused(self.raw, "--pcap-out", out, "--out-dir", out, says="found more than one")
        self.refused("/nonexistent.nssm", "--pcap-out", out, says="/nonexistent.nssm: cannot open")
        self.refused(f"{SAMPLES}/dns-001.pcap.gz", "--pcap-out", out, says="not a netssm corpus")
        self.refused(self.raw, "--pcap-out", self.raw, says="is the corpus itself")
        self.refused(self.raw, "--pcap-out", out, "--label", "wbe", says=["--label", "dns, video, web", "found wbe"])
        self.refused(self.raw, "--pcap-out", out, "--session", "3,72", says=["--session", "from 0 to 71", "found 72"])
        for text in ("x", "3-", "5-3", "-1", "1,,2", "1 2", "99999999999999999999"):
            self.refused(self.raw, "--pcap-out", out, f"--session={text}", says="such as 3,7-9")
        self.refused(self.raw, "--pcap-out", out, "--session", "0", "--label", "web", says="no session is what")
        self.refused(self.raw, "--pcap-out", "-", "--json", says="both go to stdout")
        self.refused(self.raw, "--pcapng-out", "-", says="stdout is for --pcap-out")
        self.refused(self.raw, "--pcap-out", out, "--comments", says="--comments: needs --pcapng-out")
        self.refused(self.raw, "--pcap-out", out, "--payload", "ones", says="--payload", code=2)
        self.refused(self.raw, "--pcap-out", self.path("no", "x"), says=self.path("no", "x"))
        self.refused(self.raw, "--pcap-out", "/dev/full", says="/dev/full")
        os.mkdir(out)
        with open(self.path("x", "old"), "w", encoding="utf-8"):
            pass
        self.refused(self.raw, "--out-dir", out, says=[out, "expected an empty or new folder, found old in it"])
        self.refused(self.raw, "--pcap-out", out, says=out)
        self.assertEqual(os.listdir(self.dir), ["x"])

    def test_broken_corpus(self):
        with open(self.raw, "rb") as f:
            blob = f.read()
        bad = self.path("bad.nssm")
        for where, what in ((10, "bad.nssm"), (192 + 3 * 2**20, "CRC")):
            with open(bad, "wb") as f:
                f.write(blob[:where] + bytes([blob[where] ^ 1]) + blob[where + 1:])
            self.refused(bad, "--pcap-out", self.path("x"), says=["bad.nssm", what])
            self.assertEqual(os.listdir(self.dir), ["bad.nssm"])
        # The sessions before the broken place are there.
        self.refused(bad, "--out-dir", self.path("d"), says=["bad.nssm", "CRC"])
        with open(self.path("d", "labels.csv"), newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        self.assertTrue(0 < len(rows) < 72)
        self.assertEqual({r["File"] for r in rows} | {"labels.csv"}, set(os.listdir(self.path("d"))))
        with open(bad, "wb") as f:
            f.write(blob[:len(blob) // 2])
        self.refused(bad, "--pcap-out", self.path("x"), says="bad.nssm")

    # --- stopped ----------------------------------------------------------------------------------------------------------

    def start(self, *args, **how):
        p = subprocess.Popen([NETSSM, "decode", "--progress", "none", *args], stderr=subprocess.PIPE, **how)
        self.addCleanup(p.stderr.close)
        self.addCleanup(p.kill)
        return p

    def wait_for(self, what):
        for _ in range(6000):
            found = what()
            if found:
                return found
            time.sleep(0.005)
        return self.fail("nothing began")

    def end(self, p):
        rc = p.wait(timeout=60)
        self.assertIn("stopped by a signal", p.stderr.read().decode())
        self.assertEqual(rc, 130)

    def test_stopped_pipe(self):
        for sig in (signal.SIGINT, signal.SIGTERM):
            p = self.start(self.raw, "--pcap-out", "-", stdout=subprocess.PIPE)
            head = p.stdout.read(1000)  # the rest does not fit into the pipe
            p.send_signal(sig)
            packets = parse_pcap(head + p.stdout.read())
            p.stdout.close()
            self.end(p)
            self.assertTrue(0 < len(packets) < 17316)

    def test_stopped_file(self):
        c = self.make("c", FLOW % ("prefix", 12, "keep"), *SOME * 120)
        total = json.loads(subprocess.run([NETSSM, "info", "--json", c], capture_output=True, check=True).stdout)["packets"]
        p = self.start(c, "--pcapng-out", self.path("a"), stdout=subprocess.DEVNULL)
        self.wait_for(lambda: [n for n in os.listdir(self.dir) if n.startswith("a.") and os.path.getsize(self.path(n)) > 0])
        p.send_signal(signal.SIGINT)
        self.end(p)
        self.assertTrue(0 < len(read_pcapng(self.path("a"))) < total)
        p = self.start(c, "--out-dir", self.path("d"), "--json", stdout=subprocess.PIPE)
        self.wait_for(lambda: glob.glob(self.path("d", "*.pcap")))
        p.send_signal(signal.SIGINT)
        j = json.loads(p.stdout.read())
        p.stdout.close()
        self.end(p)
        with open(self.path("d", "labels.csv"), newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        self.assertTrue(0 < len(rows) < 600)
        self.assertEqual({r["File"] for r in rows} | {"labels.csv"}, set(os.listdir(self.path("d"))))
        for r in rows:
            self.assertEqual(len(read_pcap(self.path("d", r["File"]))), int(r["Packets"]))
        self.assertEqual((j["complete"], j["packets"], j["sessions"]), (False, sum(int(r["Packets"]) for r in rows), len(rows)))


result = unittest.main(exit=False).result
if skipped:
    print("SKIP:", *skipped)
sys.exit(not result.wasSuccessful() or (77 if skipped else 0))
