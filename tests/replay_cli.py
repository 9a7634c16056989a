"""netssm replay into files, from the outside: the captures' own bytes and gaps, every rate, loops, limits, clones; what is counted
where, judged by programs that are not ours.

usage: replay_cli.py NETSSM CAPTURE_DUMP
samples/ is replayed file by file, and every capture of the folder NETSSM_CORPUS where it is set. tshark counts checksums, streams
and comments. Exit 77 where one of these is missing; the rest was checked then."""
import csv
import glob
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib
from fractions import Fraction

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DUMP = os.path.abspath(sys.argv.pop(2)) if len(sys.argv) > 2 else sys.exit(__doc__)
NETSSM = os.path.abspath(sys.argv.pop(1))
SAMPLES = sorted(glob.glob(os.path.join(ROOT, "samples", "*.pcap.gz")))
WEB, DNS = (os.path.join(ROOT, "samples", f"{name}-001.pcap.gz") for name in ("web", "dns"))
START_NS = 1767225600 * 10**9  # --start's default
S = 10**9
missing = set()


def run_it(*args, code=0, **how):
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120} | how
    r = subprocess.run([NETSSM, *map(str, args)], **how)
    if r.returncode != code:
        raise AssertionError(f"{args}: exit {r.returncode}, expected {code}\n{r.stdout}\n{r.stderr}")
    return r


def replay(*args, code=0, **how):
    return run_it("replay", "--progress", "none", *args, code=code, **how)


def read_pcap(path):
    """[(ns, wire length, frame)] of a classic pcap, read on its own."""
    with open(path, "rb") as f:
        data = f.read()
    magic = struct.unpack_from("<I", data)[0]
    unit = {0xA1B23C4D: 1, 0xA1B2C3D4: 1000}[magic]
    at, out = 24, []
    while at < len(data):
        sec, frac, caplen, wirelen = struct.unpack_from("<IIII", data, at)
        at += 16
        assert at + caplen <= len(data), f"{path}: ends inside a packet"
        out.append((sec * S + frac * unit, wirelen, data[at:at + caplen]))
        at += caplen
    return out


def dumped(path):
    """[(ns, wire length, captured length, CRC)], with what is not Ethernet made so, as all readers here do."""
    r = subprocess.run([DUMP, "-p", path], capture_output=True, text=True, timeout=60)
    out = []
    for line in r.stdout.splitlines()[:-1]:
        _, t, wire, cap, crc = line.split()
        sec, frac = t.split(".")
        out.append((int(sec) * S + int(frac), int(wire), int(cap), int(crc, 16)))
    return out


def own_times(packets):
    """Times since the first packet; one that goes back gets its predecessor's."""
    out, last = [], 0
    for p in packets:
        last = max(last, p[0] - packets[0][0])
        out.append(last)
    return out


def tshark(path, *fields, what="", options=()):
    if shutil.which("tshark") is None:
        missing.add("tshark")
        return None
    cmd = ["tshark", "-r", path, "-T", "fields", "-E", "occurrence=f"]
    for o in ("tcp.check_checksum:TRUE", "udp.check_checksum:TRUE", "ip.check_checksum:TRUE", *options):
        cmd += ["-o", o]
    for field in fields:
        cmd += ["-e", field]
    r = subprocess.run(cmd + (["-Y", what] if what else []), capture_output=True, text=True, timeout=120)
    return [line.split("\t") for line in r.stdout.splitlines()]


def tuples(frames):
    """Flows of IPv4/IPv6 TCP and UDP frames without VLAN tags, as {unordered ends: packets}."""
    flows = {}
    for f in frames:
        kind, at = struct.unpack_from(">H", f, 12)[0], 14
        if kind == 0x0800:
            proto, src, dst, l4 = f[at + 9], f[at + 12:at + 16], f[at + 16:at + 20], at + 4 * (f[at] & 15)
        elif kind == 0x86DD:
            proto, src, dst, l4 = f[at + 6], f[at + 8:at + 24], f[at + 24:at + 40], at + 40
        else:
            continue
        if proto not in (6, 17):
            continue
        sport, dport = struct.unpack_from(">HH", f, l4)
        key = (proto, *sorted([(src, sport), (dst, dport)]))
        flows[key] = flows.get(key, 0) + 1
    return flows


class Replay(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.out = self.at("out.pcap")

    def tearDown(self):
        self.folder.cleanup()

    def at(self, name):
        return os.path.join(self.folder.name, name)

    def to_file(self, *args):
        replay(*args, "--pcap-out", self.out)
        return read_pcap(self.out)

    def same_as_capture(self, path):
        want = dumped(path)
        if not want:
            return
        got = self.to_file(path)
        self.assertEqual(len(got), len(want), path)
        self.assertEqual([(w, len(f), zlib.crc32(f)) for _, w, f in got], [w[1:] for w in want], path)
        self.assertEqual([t - START_NS for t, _, _ in got], own_times(want), path)

    def test_samples_as_they_are(self):
        self.assertGreater(len(SAMPLES), 50)
        for path in SAMPLES[::6]:
            self.same_as_capture(path)

    def test_corpus_as_it_is(self):
        corpus = os.environ.get("NETSSM_CORPUS")
        if not corpus:
            missing.add("NETSSM_CORPUS")
            return
        paths = [p for p in glob.glob(os.path.join(corpus, "**", "*"), recursive=True)
                 if p.endswith((".pcap", ".pcapng", ".pcap.gz", ".cap"))]
        self.assertGreater(len(paths), 10)
        one = {os.path.dirname(p): p for p in sorted(paths)}  # of each kind, or all where there is time
        for path in sorted(paths) if os.environ.get("NSSM_ALL") else sorted(one.values()):
            self.same_as_capture(path)

    def test_several_captures(self):
        one, two = self.to_file(WEB), self.to_file(DNS)
        both = self.to_file(WEB, DNS)
        self.assertEqual([p[2] for p in both], [p[2] for p in one + two])
        gap = (one[-1][0] - one[0][0]) // (len(one) - 1)
        self.assertLessEqual(abs(both[len(one)][0] - one[-1][0] - gap), 1)
        self.assertEqual([p[2] for p in self.to_file("--pcap", WEB, "--pcap", DNS)], [p[2] for p in both])
        # Merged: each capture's stamps as they are.
        merged = self.to_file(WEB, DNS, "--merge")
        stamps = sorted(p[0] for path in (WEB, DNS) for p in dumped(path))
        self.assertEqual([p[0] - START_NS for p in merged], [t - stamps[0] for t in stamps])
        self.assertEqual(sorted(p[2] for p in merged), sorted(p[2] for p in both))

    def test_times(self):
        own = own_times(dumped(WEB))
        base = [p[2] for p in self.to_file(WEB)]
        wire = [max(p[1], 60) for p in read_pcap(self.out)]
        n = len(own)

        def check(rate, due, *more):
            got = self.to_file(WEB, "--rate", rate, *more)
            self.assertEqual([p[2] for p in got], base, rate)
            self.assertEqual([p[0] - START_NS for p in got], due, rate)

        check("original", own)
        check("2x", [t // 2 for t in own])
        check("0.3x", [t * 10 // 3 for t in own])
        check("1kpps", [i * 1000000 for i in range(n)])
        check("7pps", [i * S // 7 for i in range(n)])
        bits = [8 * sum(w + 4 for w in wire[:i]) for i in range(n)]
        check("1.5Mbps", [int(Fraction(b * S, 1500000)) for b in bits])
        bits = [8 * sum(w + 24 for w in wire[:i]) for i in range(n)]
        check("1.5MbpsL1", [int(Fraction(b * S, 1500000)) for b in bits])
        check("50%", [int(Fraction(b * S, 5000000)) for b in bits], "--line-rate", "10M")
        check("top", [i * S // 1000 for i in range(n)], "--max-pps", "1k")
        got = self.to_file(WEB, "--start", "1700000000.5", "--us")
        self.assertEqual([p[0] for p in got], [(1700000000500000000 + t) // 1000 * 1000 for t in own])

    def test_start_original(self):
        """Files have the captures' own time: of the first packet that is taken, of the earliest one when merged."""
        web, dns = dumped(WEB), dumped(DNS)
        got = self.to_file(WEB, "--start", "original")
        self.assertEqual([p[0] for p in got], [web[0][0] + t for t in own_times(web)])
        got = self.to_file(WEB, DNS, "--merge", "--start", "original")
        self.assertEqual([p[0] for p in got], sorted(p[0] for p in web + dns))
        got = self.to_file(DNS, WEB, "--start", "original")
        self.assertEqual([p[0] for p in got[:len(dns)]], [dns[0][0] + t for t in own_times(dns)])
        self.to_file(WEB, "--start", "original")
        port = [p for p in read_pcap(self.out) if p[2][12:14] == b"\x08\x00" and p[2][23] == 6]
        got = self.to_file(WEB, "--start", "original", "--filter", "ip proto 6")
        self.assertEqual([p[0] for p in got], [p[0] for p in port])
        with open(WEB, "rb") as f:
            r = replay("-", "--start", "original", "--pcap-out", self.out, code=1, stdin=f)
        self.assertIn(b"--start: original needs captures that are files", r.stderr)
        late = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 0xFFFFFFFF, 0, 60, 60) + bytes(60)
        with open(self.at("late.pcap"), "wb") as f:
            f.write(late)
        self.assertEqual([p[0] for p in self.to_file(self.at("late.pcap"), "--start", "original")], [0xFFFFFFFF * S])

    def test_loops(self):
        own, n = own_times(dumped(DNS)), len(dumped(DNS))
        for flags, gap in ((["--loop-gap", "1s"], S), (["--loop-gap", "0"], 0), ([], own[-1] // (n - 1))):
            got = self.to_file(DNS, "--loop", 3, *flags)
            want = [k * (own[-1] + gap) + t for k in range(3) for t in own]
            self.assertEqual(len(got), 3 * n)
            self.assertTrue(all(abs(p[0] - START_NS - w) <= 2 for p, w in zip(got, want)), flags)
            self.assertEqual([p[2] for p in got], [p[2] for p in got[:n]] * 3)

    def test_limits(self):
        all_of_it = self.to_file(WEB)
        got = self.to_file(WEB, "--limit", 10)
        self.assertEqual(got, all_of_it[:10])
        # Flows count once a packet of theirs is out, however far ahead the capture was read.
        got = self.to_file(DNS, "--loop", 0, "--limit", 1000, "--truth", self.at("t.csv"), "--manifest", self.at("m.json"))
        self.assertEqual(len(got), 1000)
        with open(self.at("m.json"), encoding="utf-8") as m, open(self.at("t.csv"), encoding="utf-8") as t:
            self.assertEqual(json.load(m)["counts"]["flows"], len(list(csv.DictReader(t))))
        middle = (all_of_it[-1][0] - all_of_it[0][0]) // 2
        got = self.to_file(WEB, "--duration", f"{middle}ns")
        self.assertEqual(got, [p for p in all_of_it if p[0] - all_of_it[0][0] <= middle])

    def test_filter_mtu_pad(self):
        whole = self.to_file(WEB)
        if shutil.which("tcpdump"):
            r = subprocess.run(["tcpdump", "-n", "-r", self.out, "-w", self.at("f.pcap"), "tcp port 80"], capture_output=True)
            self.assertEqual(r.returncode, 0, r.stderr)
            want = [p[2] for p in read_pcap(self.at("f.pcap"))]
            self.assertEqual([p[2] for p in self.to_file(WEB, "--filter", "tcp port 80")], want)
        else:
            missing.add("tcpdump")
        self.assertGreater(sum(p[1] > 614 for p in whole), 3)
        got = self.to_file(WEB, "--mtu", "600,drop")
        self.assertEqual([p[2] for p in got], [p[2] for p in whole if p[1] <= 614])
        got = self.to_file(WEB, "--mtu", "100")
        self.assertEqual([(p[1], p[2]) for p in got], [(min(p[1], 114), p[2][:114]) for p in whole])
        self.assertEqual(self.to_file(WEB, "--mtu", "drop"), whole)
        # What a capture cut, --pad makes whole.
        replay(WEB, "--snaplen", 80, "--pcap-out", self.at("cut.pcap"))
        cut = read_pcap(self.at("cut.pcap"))
        self.assertEqual([(p[1], p[2]) for p in cut], [(p[1], p[2][:80]) for p in whole])
        self.assertEqual(self.to_file(self.at("cut.pcap")), cut)
        got = self.to_file(self.at("cut.pcap"), "--pad")
        self.assertEqual([(p[1], p[2]) for p in got], [(p[1], p[2].ljust(p[1], b"\0")) for p in cut])

    def test_clones(self):
        once = self.to_file(WEB, DNS, "--merge")
        flows = tuples(p[2] for p in once)
        self.assertGreater(len(flows), 3)
        truth, manifest = self.at("flows.csv"), self.at("manifest.json")
        got = self.to_file(WEB, DNS, "--merge", "--clones", 20, "--truth", truth, "--manifest", manifest)
        self.assertEqual(len(got), 20 * len(once))
        self.assertEqual([p[0] for p in got], sorted(p[0] for p in got))
        found = tuples(p[2] for p in got)
        self.assertEqual(sorted(found.values()), sorted(20 * list(flows.values())))
        rows = tshark(self.out, "ip.checksum.status", "tcp.checksum.status", "udp.checksum.status")
        if rows is not None:
            self.assertEqual(len(rows), len(got))
            self.assertFalse([r for r in rows if "0" in r], "wrong checksums")
            streams = tshark(self.out, "tcp.stream", what="tcp.flags.syn==1 && tcp.flags.ack==0")
            self.assertEqual(len({r[0] for r in streams}), sum(20 for key in flows if key[0] == 6))
        with open(truth, newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        self.assertEqual(sum(int(r["packets_fwd"]) + int(r["packets_rev"]) for r in rows if r["proto"] in ("6", "17", "tcp", "udp")),
                         sum(found.values()))
        self.assertEqual({r["state"] for r in rows}, {"complete"})
        with open(manifest, encoding="utf-8") as f:
            m = json.load(f)
        counts = m["counts"]
        self.assertEqual((m["ended"], m["complete"]), ("complete", True))
        self.assertEqual(counts["made"], counts["sent"] + sum(counts["dropped"].values()))
        self.assertEqual((counts["sent"], counts["left"], counts["source_packets"]), (len(got), 0, len(once)))
        self.assertEqual([f["bytes"] for f in m["source"]["files"]], [os.path.getsize(p) for p in (WEB, DNS)])

        # Same seed, same bytes; another, others.
        with open(self.out, "rb") as f:
            first = f.read()
        for seed, same in ((1, True), (2, False)):
            self.to_file(WEB, DNS, "--merge", "--clones", 20, "--seed", seed)
            with open(self.out, "rb") as f:
                self.assertEqual(f.read() == first, same)

    def test_pools_and_tags(self):
        got = self.to_file(WEB, "--clones", 4, "--clients", "10.9.0.0/24", "--servers", "192.0.2.8", "--client-ports", "40000-49999",
                           "--client-mac", "02:aa:00:00:00:01", "--vlan", "200/5,100")
        self.assertTrue(all(p[2][12:20] == bytes.fromhex("88a8a0c881000064") for p in got))
        rows = tshark(self.out, "ip.src", "ip.dst", "tcp.srcport", "eth.src", what="tcp.flags.syn==1 && tcp.flags.ack==0 && ip")
        if rows is not None:
            self.assertGreater(len(rows), 0)
            for src, dst, sport, mac in rows:
                self.assertTrue(src.startswith("10.9.0.") and dst == "192.0.2.8" and 40000 <= int(sport) <= 49999)
                self.assertEqual(mac, "02:aa:00:00:00:01")
        whole = self.to_file(WEB)
        self.assertEqual([p[2] for p in self.to_file(self.out, "--strip-vlan")], [p[2] for p in whole])

    def test_large_sessions(self):
        """A session of more clients, servers and ports than any table foresees: no two flows of any play fall together."""
        packets = []
        for i in range(2000):
            client, server = bytes([10, 0, i % 250, 1]), bytes([192, 0, 2 + i % 3, 1 + i % 90])
            udp = struct.pack(">HHHH", 20000 + i, 53, 20, 0) + bytes(12)
            ip = struct.pack(">BBHHHBBH", 0x45, 0, 40, i, 0, 64, 17, 0) + client + server
            packets.append(bytes.fromhex("020000000002" "020000000001" "0800") + ip + udp)
        with open(self.at("in.pcap"), "wb") as f:
            f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
            for i, p in enumerate(packets):
                f.write(struct.pack("<IIII", 1, i, len(p), len(p)) + p)
        manifest = self.at("m.json")
        got = self.to_file(self.at("in.pcap"), "--clones", 30, "--manifest", manifest)
        flows = tuples(p[2] for p in got)
        self.assertEqual((len(flows), set(flows.values())), (60000, {1}))
        r = replay(self.at("in.pcap"), "--clones", 30, "--endpoints-max", 9, "--pcap-out", self.out)
        self.assertIn(b"note: 30 plays wanted more addresses or ports", r.stdout)

    def test_endless_clones(self):
        """A rate of flows, or a number alive, for a given time."""
        got = self.to_file(WEB, DNS, "--merge", "--session-split", "client", "--flows-per-second", 20, "--duration", "200s")
        self.assertLessEqual(got[-1][0] - START_NS, 200 * S)
        starts = {}
        for t, _, f in got:
            for key in tuples([f]):
                starts.setdefault(key, t)
        n = sum(1 for t in starts.values() if t - START_NS >= 100 * S)  # long sessions are under way by then
        self.assertTrue(1600 <= n <= 2400, n)
        got = self.to_file(DNS, "--concurrency", 10, "--limit", 5000)
        self.assertEqual(len(got), 5000)

    def test_streams(self):
        self.to_file(WEB)
        with open(self.out, "rb") as f:
            want = f.read()
        r = replay(WEB, "--pcap-out", "-")
        self.assertEqual(r.stdout, want)
        self.assertIn(b"made ", r.stderr)
        # From a pipe into a pipe.
        with open(WEB, "rb") as f:
            r = replay("-", "--pcap-out", "-", stdin=f)
        self.assertEqual(r.stdout, want)
        r = replay(DNS, "--rate", "top", "--fifo", "-")
        n = len(dumped(DNS))
        with open(self.at("fifo.pcap"), "wb") as f:
            f.write(r.stdout)
        self.assertEqual(len(read_pcap(self.at("fifo.pcap"))), n)
        r = replay(DNS, "--pcap-out", self.out, "--stats-json", "-")
        self.assertIsInstance(json.loads(r.stdout), dict)
        self.assertIn(b"made ", r.stderr)

    def test_several_files(self):
        ng, folder = self.at("out.pcapng"), self.at("sessions")
        got = self.to_file(WEB, DNS, "--labels", os.path.join(ROOT, "samples", "labels.csv"), "--pcapng-out", ng, "--comments",
                           "--out-dir", folder)
        rows = tshark(ng, "frame.time_epoch", "frame.len", "frame.comment")
        if rows is not None:
            self.assertEqual([(int(t.replace(".", "")), int(n)) for t, n, _ in rows], [(p[0], p[1]) for p in got])
            self.assertTrue(all("label=" in r[2] for r in rows))
        with open(os.path.join(folder, "labels.csv"), newline="", encoding="utf-8") as f:
            table = list(csv.DictReader(f))
        self.assertEqual([r["Label"] for r in table], ["web", "dns"])
        self.assertEqual(sum(len(read_pcap(os.path.join(folder, r["File"]))) for r in table), len(got))

    def test_broken_capture(self):
        self.to_file(WEB)
        with open(self.out, "rb") as f:
            data = f.read()
        broken = self.at("broken.pcap")
        with open(broken, "wb") as f:
            f.write(data[:-5])
        # What came before the damage is there, as with tcpdump -r; the file behind it was not read.
        r = replay(broken, DNS, "--pcap-out", self.at("before.pcap"), code=1)
        self.assertIn(b"broken.pcap", r.stderr)
        self.assertEqual([p[1:] for p in read_pcap(self.at("before.pcap"))], [p[1:] for p in read_pcap(self.out)[:-1]])
        n = len(read_pcap(self.out)) - 1 + len(dumped(DNS))
        self.assertEqual(len(self.to_file(broken, DNS, "--keep-going")), n)

    def test_stopped(self):
        manifest = self.at("m.json")
        p = subprocess.Popen([NETSSM, "replay", WEB, "--clones", "1000000", "--progress", "live", "--pcap-out", self.out,
                              "--manifest", manifest], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stderr.read(1)  # the first drawing: it runs
        p.send_signal(signal.SIGINT)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        self.assertEqual(p.returncode, 130, err)
        with open(manifest, encoding="utf-8") as f:
            m = json.load(f)
        self.assertEqual((m["ended"], m["complete"]), ("stopped", False))
        self.assertEqual(m["counts"]["sent"], len(read_pcap(self.out)))
        self.assertEqual(m["counts"]["made"], m["counts"]["sent"] + sum(m["counts"]["dropped"].values()))
        self.assertIn(b"made ", out)

    def test_run(self):
        profile = self.at("p.yaml")
        with open(profile, "w", encoding="utf-8") as f:
            f.write(f"replay:\n    pcap: {DNS}\n    loop: 2\noutput:\n    pcap_out: {self.out}\n")
        run_it("run", profile, "--rate", "100pps")
        got = read_pcap(self.out)
        self.assertEqual([p[0] - START_NS for p in got], [i * S // 100 for i in range(2 * len(dumped(DNS)))])


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    if missing:
        print(f"SKIP: no {', '.join(sorted(missing))}; the rest was checked")
    sys.exit(1 if not result.wasSuccessful() else 77 if missing else 0)
