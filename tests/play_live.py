"""generate, replay and run with ports that go nowhere: steered through the control socket, watched on the metrics page, stopped by
signals and limits, and the profile that comes along.

usage: play_live.py NETSSM"""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NETSSM = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else sys.exit(__doc__)
WEB = os.path.join(ROOT, "samples", "web-001.pcap.gz")
DNS = os.path.join(ROOT, "samples", "dns-001.pcap.gz")
MODEL = os.path.join(ROOT, "model", "pretrained")
WAIT_S = 60


class Live(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.process = None

    def tearDown(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.folder.cleanup()

    def at(self, name):
        return os.path.join(self.folder.name, name)

    def start(self, *args):
        self.process = subprocess.Popen([NETSSM, *map(str, args), "--control", self.at("control"), "--manifest", self.at("m.json"),
                                         "--stats-json", self.at("s.json")], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        cwd=ROOT)

    def end(self, code):
        out, err = self.process.communicate(timeout=WAIT_S)
        self.assertEqual(self.process.returncode, code, out.decode() + err.decode())
        with open(self.at("m.json"), encoding="utf-8") as f:
            self.manifest = json.load(f)
        with open(self.at("s.json"), encoding="utf-8") as f:
            stats = json.load(f)
        c = self.manifest["counts"]
        self.assertEqual(c["made"], c["sent"] + sum(c["dropped"].values()))
        self.assertEqual([stats["packets"][k] for k in ("made", "sent", "left", "in_hand")], [c["made"], c["sent"], c["left"], 0])
        self.assertIn(f"made {c['made']} = sent {c['sent']} + dropped ", out.decode())
        self.assertEqual(sum(label["sent"] for label in self.manifest["labels"].values()), c["sent"])
        self.assertEqual(self.manifest["all"]["sent"], c["sent"])
        if self.manifest["command"] == "replay" and self.manifest["options"]["clone.clones"] == 1:
            self.assertEqual(stats["feed"]["packets"], c["made"] + c["left"])
        return out.decode()

    def ask(self, line):
        """One line to the control socket, its answer."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(WAIT_S)
            s.connect(self.at("control"))
            s.sendall(line.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                part = s.recv(65536)
                self.assertTrue(part, f"{line}: no whole answer: {answer}")
                answer += part
        return json.loads(answer)

    def sent(self):
        answer = self.ask("stats")
        while "packets" not in answer:
            answer = next(v for v in answer.values() if isinstance(v, dict))
        return answer["packets"]["sent"]

    def runs(self, packets=1):
        """Waits until it listens and has sent so many."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.sent() >= packets:
                    return
            except (FileNotFoundError, ConnectionRefusedError):
                pass
            time.sleep(0.02)
        self.fail(f"never sent: {self.process.poll()} {self.process.communicate()}")

    def test_steered(self):
        self.start("replay", WEB, "--loop", 0, "--rate", "2kpps", "--port", "null", "--metrics", 0, "--progress", "none")
        url = re.search(r"http://\S+", self.process.stdout.readline().decode())[0]
        self.runs()
        page = urllib.request.urlopen(url, timeout=WAIT_S).read().decode()
        self.assertTrue(page.endswith("# EOF\n"))
        self.assertRegex(page, r"(?m)^netssm_\w*sent\w*_total\S* [1-9]")
        self.assertEqual(self.ask("pause")["ok"], True)
        time.sleep(0.2)
        before = self.sent()
        time.sleep(0.5)
        self.assertEqual(self.sent(), before)
        self.assertEqual(self.ask("resume")["ok"], True)
        self.assertEqual(self.ask("rate 200kpps")["ok"], True)
        time.sleep(1)
        self.assertGreater(self.sent() - before, 10000)
        self.assertEqual(self.ask("rate fast")["ok"], False)
        self.assertEqual(self.ask("stop")["ok"], True)
        # Somebody wanted it so: no failure.
        self.end(0)
        self.assertEqual((self.manifest["ended"], self.manifest["complete"]), ("stopped", False))
        self.assertFalse(os.path.exists(self.at("control")))

    def test_signals(self):
        for n in (1, 2):
            self.start("replay", WEB, "--clones", 1000, "--rate", "5kpps", "--port", "null", "--port", "null",
                       "--progress", "none")
            self.runs(200)
            for _ in range(n):
                self.process.send_signal(signal.SIGINT)
                time.sleep(0.05)
            out = self.end(130)
            self.assertEqual(self.manifest["ended"], "stopped")
            self.assertGreater(self.manifest["counts"]["left"], 0)
            self.assertRegex(out, r"(?m)^port 0, .*: [1-9]\d* packets out, 0 in$")
            self.assertRegex(out, r"(?m)^port 1, .*: [1-9]\d* packets out, 0 in$")

    def test_limits(self):
        self.start("replay", WEB, "--loop", 0, "--rate", "1Mbps", "--duration", "1s", "--port", "null", "--progress", "none")
        self.end(0)
        self.assertEqual(self.manifest["ended"], "complete")
        bits = 8 * (self.manifest["all"]["sent_bytes"] + 4 * self.manifest["all"]["sent"])
        self.assertTrue(900000 < bits < 1100000, bits)
        # Blocks of many sizes are still on their way when it ends.
        self.start("replay", WEB, DNS, "--merge", "--loop", 0, "--rate", "20kpps", "--duration", "1s", "--port", "null", "--progress",
                   "none")
        self.end(0)
        self.assertGreater(self.manifest["counts"]["left"], 0)
        self.start("replay", WEB, "--loop", 0, "--rate", "top", "--limit", 12345, "--max-pps", "50k", "--port", "null", "--progress",
                   "none")
        self.end(0)
        self.assertEqual(self.manifest["counts"]["sent"], 12345)
        self.assertGreater(self.manifest["seconds"], 0.24)

    def test_rates(self):
        """What comes back is waited for, but no part of the time that rates are told for."""
        self.start("replay", WEB, "--loop", 0, "--rate", "5kpps", "--duration", "1s", "--port", "null", "--port", "null", "--measure",
                   "--measure-wait", "3s", "--progress", "none")
        began = time.monotonic()
        out = self.end(0)
        self.assertIn(" lost (100 %)", out)
        self.assertGreater(time.monotonic() - began, 3.5)
        self.assertTrue(0.9 < self.manifest["seconds"] < 2.5, self.manifest["seconds"])

    def test_generated(self):
        self.start("generate", "--model", MODEL, "--label", "web", "--sessions", 0, "--packets", 30, "--sessions-per-s", 0,
                   "--top-p", 0.9, "--concurrency", 50, "--port", "null", "--progress", "plain", "--duration", "6s")
        out = self.end(0)
        self.assertIn("web ", out)
        counts = self.manifest["counts"]
        self.assertGreater(counts["sent"], 0)
        self.assertGreaterEqual(counts["sent"], counts["source_packets"])

    def test_appliance(self):
        """The profile as it stands, but for its cables."""
        self.start("run", "conf/appliance.yaml", "--port", "null", "--port", "null", "--duration", "4s", "--ramp", "1s")
        out = self.end(0)
        self.assertGreater(self.manifest["counts"]["sent"], 0, out)
        self.assertEqual(self.manifest["command"], "generate")
        self.assertEqual(self.manifest["options"]["live.max_pps"], 100000)


if __name__ == "__main__":
    unittest.main()
