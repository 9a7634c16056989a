"""generate, replay and run from the outside, as far as it goes before a packet is sent: what is missing, what cannot be, and
which key of which file or flag says so.

usage: play_cli.py NETSSM"""

import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NETSSM = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else sys.exit(__doc__)
SAMPLE = os.path.join(ROOT, "samples", "dns-001.pcap.gz")
MODEL = os.path.join(ROOT, "model", "pretrained")


class Play(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.out = os.path.join(self.folder.name, "out.pcap")

    def tearDown(self):
        self.folder.cleanup()

    def run_it(self, *args):
        return subprocess.run([NETSSM, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60,
                              cwd=self.folder.name)

    def profile(self, text):
        path = os.path.join(self.folder.name, "p.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def refused(self, args, *says, code=1):
        r = self.run_it(*args)
        self.assertEqual((r.returncode, r.stdout), (code, ""), (args, r.stderr))
        self.assertTrue(r.stderr.startswith("netssm: error: "), r.stderr)
        for text in says:
            self.assertIn(text, r.stderr)
        self.assertEqual([n for n in os.listdir(self.folder.name) if n != "p.yaml"], [], args)

    def test_source(self):
        self.refused(["replay", "--pcap-out", self.out], "replay: no capture")
        self.refused(["replay", "-", "--pcap", "-", "--pcap-out", self.out], "stdin (-) can be read once only")
        self.refused(["replay", "none.pcap", "--pcap-out", self.out], "none.pcap")
        self.refused(["replay", os.path.join(ROOT, "README.md"), "--pcap-out", self.out], "README.md")
        self.refused(["replay", SAMPLE, "--session-split", "gap=x", "--pcap-out", self.out], "gap")
        self.refused(["replay", SAMPLE, "--mtu", "cut", "--pcap-out", self.out],
                     "--mtu: expected truncate, drop, or 68..262144 bytes with either (1400,drop), found 'cut'")
        self.refused(["replay", SAMPLE, "--filter", "tcp prot 80", "--pcap-out", self.out], "filter")
        self.refused(["generate", "--pcap-out", self.out], "--model is missing")

    def test_no_output(self):
        for args in (["replay", SAMPLE], ["replay", SAMPLE, "--truth", self.out], ["generate", "--model", MODEL, "--label", "web"]):
            self.refused(args, f"{args[0]}: nowhere to put packets", "--port DEV", "--pcap-out FILE")

    def test_settings(self):
        for flags, says in (
                (["--rate", "fast"], "--rate"),
                (["--rate", "80%"], "--rate: a share of the line rate needs a --port"),
                (["--vlan", "4095"], "--vlan: expected [TPID:]VID[/PCP]"),
                (["--clients", "10.0.0.0/33"], "--clients: "),
                (["--clients", "10.0.0.0/33", "--no-rewrite"], "--clients: "),
                (["--cpus", "0,0"], "--cpus: expected CPU numbers"),
                (["--start", "now"], "--start: expected seconds since 1970"),
                (["--clones", "2", "--concurrency", "2"], "expected one of --clones, --flows-per-second and --concurrency"),
                (["--pcapng-out", self.out], "--pcap-out and --pcapng-out: both go to"),
                (["--measure"], "--measure: needs a --port"),
                (["--port", "a", "--port", "b", "--port", "c"], "--port: expected one or two ports"),
                (["--concurrency", "5"], "goes on without end"),
        ):
            for command in (["replay", SAMPLE], ["generate", "--model", MODEL, "--label", "web"]):
                self.refused(command + ["--pcap-out", self.out] + flags, says)
        self.refused(["generate", "--model", MODEL, "--label", "web", "--pcap-out", self.out, "--start", "original"],
                     "--start: only captures have a time of their own")
        self.refused(["replay", SAMPLE, "--loop", "0", "--pcap-out", self.out], "goes on without end")
        self.refused(["generate", "--model", MODEL, "--label", "web", "--sessions", "0", "--pcap-out", self.out],
                     "goes on without end")
        self.refused(["replay", SAMPLE, "--pcap-out", self.out, "--limit", "-1"], "--limit: expected an integer", code=2)
        self.refused(["replay", SAMPLE, "--pcap-out", self.out, "--phase", "random"], "--phase: expected one of uniform", code=2)
        self.refused(["replay", SAMPLE, "--pcap-out", self.out, "--multiplier", "2"], "--multiplier: unknown flag", code=2)
        self.refused(["replay", SAMPLE, "--pcap-out", self.out, "--lead", "2"], "--lead: not a flag of replay", code=2)

    def test_ports(self):
        """A device that is none ends the run with a message, whatever else was asked for."""
        for dev, says in (("nonsense", "nonsense"), ("af_packet:nssm-none", "nssm-none"), ("af_packet:", "af_packet"),
                          ("0000:ff:1f.7", "0000:ff:1f.7")):
            self.refused(["replay", SAMPLE, "--port", dev, "--progress", "none"], says)
            self.refused(["replay", SAMPLE, "--port", "null", "--port", dev, "--truth", self.out], says)

    def test_line_rate(self):
        self.refused(["replay", SAMPLE, "--port", "null", "--rate", "80%"], "port null does not say its line rate: give --line-rate")

    def test_run(self):
        self.refused(["run"], "run: expected a profile with generate.model")
        self.refused(["run", "none.yaml"], "none.yaml: cannot open")
        path = self.profile("live: {rate: 2x}\n")
        self.refused(["run", path], f"{path}: expected a profile with generate.model", "found neither")
        path = self.profile(f"generate: {{model: {MODEL}}}\nreplay: {{pcap: [a.pcap]}}\n")
        self.refused(["run", path], f"{path}: expected one source, found both generate.model and replay.pcap")
        path = self.profile("replay:\n  pcap: a.pcap\n  lop: 3\n")
        self.refused(["run", path], f"{path}:3: replay.lop: unknown key; did you mean replay.loop?")
        path = self.profile(f"replay: {{pcap: {SAMPLE}}}\noutput: {{pcap_out: out.pcap}}\nclone: {{vlan: [7, 5000]}}\n")
        self.refused(["run", path], "clone.vlan: expected [TPID:]VID[/PCP]", "found '5000'")
        # A flag wins over the profile wherever it stands, and a list takes the place of the profile's.
        self.refused(["run", "--vlan", "6000", path], "--vlan: expected", "found '6000'")
        self.refused(["run", path, "--vlan", "7", "--rate", "80%"], "--rate: a share of the line rate")
        self.refused(["run", path, "--config", path, "--vlan", "7", "--vlan", "8", "--vlan", "9"], "--vlan: expected at most two tags")
        # What belongs to one of the two alone is not run's.
        self.refused(["run", path, "--loop", "3"], "--loop: not a flag of run; it belongs to: replay", code=2)

    def test_many_captures(self):
        """More words than a table of fixed size would hold."""
        self.refused(["replay", *["x.pcap"] * 3000, "--vlan", "x", "--pcap-out", self.out], "--vlan: expected")


if __name__ == "__main__":
    unittest.main()
