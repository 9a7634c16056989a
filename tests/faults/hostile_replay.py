"""Every capture of the folder NETSSM_HOSTILE through the whole pipeline: each packet that the reader gives comes out, byte for byte, or a
message says why not. Then as clones, with tags, cut and padded, merged, out of two ports and back with measuring: no crash, no
hang, right accounts, and files that other programs read.

usage: hostile_replay.py NETSSM CAPTURE_DUMP"""
import glob
import os
import subprocess
import sys
import zlib

DUMP = os.path.abspath(sys.argv.pop(2)) if len(sys.argv) > 2 else sys.exit(__doc__)

from faults import LIMIT_S, S, Faults, count_with, main, read_pcap, skip  # noqa: E402  (takes NETSSM out of sys.argv)

if not os.environ.get("NETSSM_HOSTILE"):
    skip("NETSSM_HOSTILE")
FILES = sorted(p for p in glob.glob(os.path.join(os.environ["NETSSM_HOSTILE"], "*")) if p.endswith((".pcap", ".pcapng")))


def dumped(path):
    """Whether it was read to its end, and [(ns, wire length, captured length, CRC)]."""
    r = subprocess.run([DUMP, "-p", path], capture_output=True, text=True, timeout=LIMIT_S)
    out = []
    for line in r.stdout.splitlines():
        if not line[:1].isdigit():
            continue
        _, t, wire, cap, crc = line.split()
        sec, frac = t.split(".")
        out.append((int(sec) * S + int(frac), int(wire), int(cap), int(crc, 16)))
    return r.returncode == 0, out


class Hostile(Faults):
    def setUp(self):
        super().setUp()
        self.out = self.at("o.pcap")
        self.out_ng = self.at("o.pcapng")  # some are centuries long, and a pcap ends in 2106

    def replay(self, *args, code=0, to=None, **how):
        out = ["--pcap-out", self.out] if to is None else ["--pcapng-out", to]
        return self.run_it("replay", *args, *out, "--truth", self.at("t.csv"), code=code, **how)

    def packets(self):
        return [(w, len(f), zlib.crc32(f)) for _, w, f in read_pcap(self.out)]

    def test_as_they_are(self):
        self.assertGreater(len(FILES), 50)
        n_whole = n_packets = 0
        for path in FILES:
            whole, want = dumped(path)
            r = self.replay(path, code=0 if whole and want else 1)
            if not (whole and want):
                self.assertTrue(r.stderr().startswith("netssm: error: "), (path, r.stderr()))
                self.assertIn(os.path.basename(path), r.stderr())
            if want:
                self.balance(r, len(want))
                self.assertEqual(self.packets(), [w[1:] for w in want], path)
                self.assertIn(count_with("capinfos", self.out), (len(want), None))
                self.truth(self.at("t.csv"), dropped=0)
                os.unlink(self.out)
                os.unlink(self.at("t.csv"))
            else:
                self.only()
            n_whole += whole
            n_packets += len(want)
        print(f"{len(FILES)} captures, {n_whole} read to the end, {n_packets} packets, all came out")

    def test_clones(self):
        for path in FILES:
            whole, want = dumped(path)
            if not want:
                continue
            # One that breaks is not cloned unless it may be taken as far as it goes.
            if not whole:
                self.replay(path, "--clones", 3, code=1, says=os.path.basename(path))
            s = self.balance(self.replay(path, "--clones", 3, "--keep-going", to=self.out_ng), 3 * len(want))
            self.assertEqual(s["packets"]["sent"], 3 * len(want))
            _, got = dumped(self.out_ng)
            self.assertEqual(sorted(g[1:3] for g in got), sorted(3 * [w[1:3] for w in want]), path)
            self.truth(self.at("t.csv"), dropped=0)
            self.assertIn(count_with("capinfos", self.out_ng), (3 * len(want), None))

    def test_all_at_once(self):
        """Every option that touches bytes, on all of them merged."""
        n = sum(len(dumped(p)[1]) for p in FILES)
        ways = ([], ["--clones", 4, "--phase", "poisson"], ["--session-split", "client", "--clones", 2], ["--session-split", "gap=1s"],
                ["--vlan", "200,100", "--clones", 2], ["--strip-vlan", "--vlan", "7"], ["--snaplen", 40], ["--pad"],
                ["--mtu", "100,truncate"], ["--mtu", "100,drop"], ["--filter", "ip or ip6"], ["--no-rewrite", "--clones", 2],
                ["--client-nets", "10.0.0.0/8", "--clones", 2], ["--rate", "2x"], ["--rate", "1kpps"])
        for way in ways:
            r = self.replay(*FILES, "--merge", "--keep-going", "--limit", 60000, *way, to=self.out_ng)
            s = self.balance(r)
            _, got = dumped(self.out_ng)
            self.assertEqual(len(got), s["packets"]["sent"], way)
            self.assertGreater(len(got), 100, way)
            if way in ([], ["--rate", "2x"], ["--rate", "1kpps"]):
                self.assertEqual(len(got), n)
            self.assertTrue(all(a[0] <= b[0] for a, b in zip(got, got[1:])), way)
            self.truth(self.at("t.csv"), dropped=0)

    def test_live(self):
        """Out of two ports, back through one, measured and signed."""
        for way in (["--port", "ring", "--measure", "--signature", "--measure-wait", "0.2s"],
                    ["--port", "null", "--port", "null", "--clones", 3],
                    ["--port", "null", "--port", "ring", "--lcores", 2, "--concurrency", 40, "--limit", 20000],
                    ["--port", "ring", "--port", "ring", "--measure", "--measure-wait", "0.2s", "--clones", 2, "--vlan", 5]):
            r = self.run_it("replay", *FILES, "--merge", "--keep-going", "--rate", "20kpps", *way)
            s = self.balance(r, too_long=(0, 10000))
            self.assertGreater(s["packets"]["sent"], 1000, way)


if __name__ == "__main__":
    main()
