"""Signals, sockets and profiles: ^C once, twice and three times, in files and live; names in use; keys and values that are wrong;
two runs that want the same file.

usage: steering.py NETSSM"""
import json
import os
import signal
import socket
import stat
import time

from faults import MODEL, ROOT, S, Faults, ask, free_port, main, make_pcap, read_pcap, steady

SAMPLE = os.path.join(ROOT, "samples", "dns-001.pcap.gz")


class Signals(Faults):
    def live(self, *args):
        self.control = self.at("control")
        r = self.start("replay", self.pcap, "--port", "null", "--control", self.control, "--manifest", self.at("m.json"), *args)
        self.wait_stats(r, "packets", lambda s: s["packets"]["sent"] > 100)
        return r

    def setUp(self):
        super().setUp()
        self.pcap = make_pcap(self.at("a.pcap"), steady(20000))

    def test_live(self):
        """What is due goes out, the rest is left; files, rows and figures are there and agree; the status says that it was stopped."""
        for signals in ([signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGINT]):
            r = self.live("--rate", "5kpps", "--pcap-out", self.at("o.pcap"), "--pcapng-out", self.at("o.pcapng"), "--truth",
                          self.at("t.csv"))
            for s in signals:
                r.signal(s)
            t0 = time.monotonic()
            s = self.balance(r.end(130, limit=30), "feed")
            self.assertLess(time.monotonic() - t0, 10)
            self.assertGreater(s["packets"]["left"], 0)
            self.assertEqual(len(read_pcap(self.at("o.pcap"))), s["packets"]["sent"])
            rows = self.truth(self.at("t.csv"), sent=s["packets"]["sent"], dropped=0)
            self.assertEqual({x["state"] for x in rows}, {"cut"})
            with open(self.at("m.json"), encoding="utf-8") as f:
                m = json.load(f)
            self.assertEqual((m["ended"], m["complete"], m["counts"]["left"]), ("stopped", False, s["packets"]["left"]))
            self.assertFalse(os.path.exists(self.control))

    def test_three(self):
        """The third ends the process whatever it does; files are as after a kill."""
        r = self.live("--rate", "5kpps", "--pcap-out", self.at("o.pcap"))
        for _ in range(3):
            r.signal(signal.SIGINT)
        r.end((130, -signal.SIGINT), limit=20)
        read_pcap(self.at("o.pcap"), whole=False)

    def test_paused(self):
        r = self.live("--rate", "5kpps")
        self.assertTrue(ask(self.control, "pause")["ok"])
        r.signal(signal.SIGINT)
        self.balance(r.end(130, limit=20), "feed")

    def test_file(self):
        """In virtual time: the file is put in place, whole packets in the order of time."""
        paths = [make_pcap(self.at("long.pcap"), steady(40000))] * 6
        for n in (1, 2):
            out = self.at(f"o{n}.pcap")
            r = self.start("replay", *paths, "--clones", 20, "--pcap-out", out, "--truth", self.at("t.csv"), "--manifest", self.at("m.json"))
            self.wait_for("the beginning", lambda: r.gone() or
                          any(f.startswith(f"o{n}.pcap.tmp") and os.path.getsize(self.at(f)) > 1 << 20 for f in os.listdir(self.folder.name)))
            for _ in range(n):
                r.signal(signal.SIGINT)
            s = self.balance(r.end(130, limit=60))
            packets = read_pcap(out)
            self.assertEqual(len(packets), s["packets"]["sent"])
            self.assertTrue(all(a[0] <= b[0] for a, b in zip(packets, packets[1:])))
            self.truth(self.at("t.csv"), sent=s["packets"]["sent"])
            self.assertFalse([f for f in os.listdir(self.folder.name) if ".tmp" in f])

    def test_model(self):
        for n, out in ((1, ["--pcap-out", self.at("o.pcap")]), (2, ["--pcap-out", self.at("o.pcap")]), (1, ["--port", "null"]),
                       (2, ["--port", "null"])):
            r = self.start("generate", "--model", MODEL, "--label", "web", "--sessions", 20000 if "--pcap-out" in out else 0, "--top-p", 0.9,
                           "--packets", 20, "--truth", self.at("t.csv"), *out)
            time.sleep(4)
            self.assertFalse(r.gone(), r.stderr())
            for _ in range(n):
                r.signal(signal.SIGINT)
                time.sleep(0.1)
            # The recorded hosts offload segmentation: some of what the model learned from them is longer than a port's MTU.
            s = self.balance(r.end(130, limit=100), too_long=(0, 10**6))
            # What the model says in ARP is of no flow.
            in_flows = sum(int(row["packets_fwd"]) + int(row["packets_rev"]) for row in self.truth(self.at("t.csv")))
            self.assertGreater(in_flows, 0)
            self.assertLessEqual(in_flows, s["packets"]["sent"])
            if "--pcap-out" in out:
                frames = read_pcap(self.at("o.pcap"))
                self.assertEqual(len(frames), s["packets"]["sent"])
                self.assertEqual(sum(f[-1][12:14] != b"\x08\x06" for f in frames), in_flows)


class InUse(Faults):
    def setUp(self):
        super().setUp()
        self.pcap = make_pcap(self.at("a.pcap"), steady(3000))

    def test_control_socket(self):
        """A live one stays the other run's, which notices nothing; one that nobody listens to is replaced; what is no socket stays."""
        path = self.at("control")
        a = self.start("replay", self.pcap, "--port", "null", "--control", path, "--loop", 0, "--rate", "1kpps")
        self.wait_stats(a, "packets", lambda s: s["packets"]["sent"] > 0)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.run_it("replay", self.pcap, "--port", "null", "--control", path, code=1, says=path)
        self.assertTrue(ask(path, "stats")["ok"])
        a.signal(signal.SIGKILL)
        a.end(-signal.SIGKILL)
        self.assertTrue(os.path.exists(path))
        b = self.start("replay", self.pcap, "--port", "null", "--control", path, "--rate", "1kpps")
        self.wait_stats(b, "packets", lambda s: s["packets"]["sent"] > 0)
        self.balance(b.end(), 3000)
        with open(path, "w", encoding="utf-8") as f:
            f.write("mine")
        self.run_it("replay", self.pcap, "--port", "null", "--control", path, code=1, says=path)
        with open(path, encoding="utf-8") as f:
            self.assertEqual(f.read(), "mine")
        self.run_it("replay", self.pcap, "--port", "null", "--control", self.at("x" * 120), code=1, says="95")

    def test_metrics_port(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            port = s.getsockname()[1]
            self.run_it("replay", self.pcap, "--port", "null", "--metrics", port, code=1, says=[str(port), "in use"])
        self.balance(self.run_it("replay", self.pcap, "--port", "null", "--rate", "top", "--metrics", port), 3000)
        if os.getuid() != 0:
            self.run_it("replay", self.pcap, "--port", "null", "--metrics", 1, code=1, says="1")

    def test_same_file(self):
        """Live: the second is refused and the first's file is whole. In virtual time each has its own until it is put in place."""
        path, port = self.at("o.pcap"), free_port()
        a = self.start("replay", self.pcap, "--port", "null", "--rate", "1kpps", "--pcap-out", path, "--truth", self.at("t.csv"))
        self.wait_for("the file", lambda: os.path.exists(path) and os.path.getsize(path) > 0)
        for flags in (["--pcap-out", path], ["--pcapng-out", path], ["--pcap-out", self.at("p.pcap"), "--truth", self.at("t.csv")]):
            self.run_it("replay", self.pcap, "--pcap-over-ip", f"listen:{port}", *flags, code=1, says="another run is writing it")
        self.balance(a.end(), 3000)
        self.assertEqual(len(read_pcap(path)), 3000)
        self.truth(self.at("t.csv"), sent=3000)
        runs = [self.start("replay", self.pcap, "--clones", 5, "--pcap-out", path) for _ in range(3)]
        for r in runs:
            r.end()
        self.assertEqual(len(read_pcap(path)), 15000)
        # A capture that is read and written at once.
        self.run_it("replay", self.pcap, "--pcap-out", self.pcap)
        self.assertEqual(len(read_pcap(self.pcap)), 3000)
        os.link(self.pcap, self.at("b.pcap"))
        for flag in ("--pcap-out", "--pcapng-out", "--truth"):
            self.run_it("replay", self.pcap, "--port", "null", flag, self.at("b.pcap"), code=1, says=[self.pcap, "b.pcap"])
        self.assertEqual(len(read_pcap(self.pcap)), 3000)


class Profiles(Faults):
    def profile(self, text):
        path = self.at("p.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def test_profiles(self):
        """File, line, key, what was expected and found, and the nearest key there is."""
        good = f"replay: {{pcap: [{SAMPLE}]}}\noutput: {{pcap_out: o.pcap}}\n"
        for text, says in (
                ("live:\n  raet: 2x\n", [":4: live.raet: unknown key", "live.rate"]),
                ("lvie:\n  rate: 2x\n", ["lvie", "live"]),
                ("live:\n  rate: quick\n", ["live.rate", "expected original", "quick"]),
                ("live:\n  max_pps: many\n", [":4: live.max_pps", "expected", "found 'many'"]),
                ("live:\n  max_pps: -5\n", [":4: live.max_pps", "found '-5'"]),
                ("live:\n  ramp: 10 parsecs\n", [":4: live.ramp", "expected", "10 parsecs"]),
                ("live:\n  force: maybe\n", [":4: live.force", "expected", "maybe"]),
                ("clone:\n  clones: 0\n", [":4: clone.clones", "1", "found '0'"]),
                ("clone:\n  phase: moon\n", [":4: clone.phase", "uniform", "locked", "poisson", "found 'moon'"]),
                ("clone:\n  clients: [10.0.0.0/8, 10.300.0.0/16]\n", ["clone.clients", "10.300.0.0/16"]),
                ("clone:\n  client_ports: 9000-80\n", ["clone.client_ports", "9000-80"]),
                ("net:\n  gateway: here\n", ["net.gateway", "here"]),
                ("net:\n  src_mac: 02:00:00:00:00\n", ["net.src_mac", "02:00:00:00:00"]),
                ("live: [1, 2]\n", [":3:", "live"]),
                ("live:\n  rate: {kind: top}\n", [":4:", "live.rate"]),
                ("live:\n  rate: [2x\n", ["p.yaml:"]),
                ("live:\n\trate: 2x\n", ["p.yaml:4"]),
                ("live:\n  rate: 2x\n  rate: 3x\n", ["live.rate"]),
                ("\0\1\2", ["p.yaml"]),
                ("train:\n  lr: 1e99\n", [":4: train.lr", "1e99"])):
            for command in (["run"], ["replay", SAMPLE, "--config"]):
                r = self.run_it(*command, self.profile(good + text), code=(1, 2), says=says,
                                cwd=self.folder.name)
                self.assertTrue(r.stderr().startswith("netssm: error: "), r.stderr())
                self.only("p.yaml")

    def test_flags(self):
        for flags, says in ((["--raet", "2x"], ["--raet: unknown flag", "--rate"]), (["--rate"], ["--rate"]),
                            (["--max-pps", "many"], ["--max-pps", "expected", "found 'many'"]),
                            (["--metrics", "70000"], ["--metrics", "65535", "found '70000'"]),
                            (["--lcores", "1000"], ["--lcores", "128"]),
                            (["--pcap-over-ip", "listen"], ["listen"]), (["--pcap-over-ip", "listen:99999"], ["99999"]),
                            (["--pcap-over-ip", "connect:9"], ["connect:9"]), (["--cpus", "900"], ["--cpus", "900"]),
                            (["--port", "null", "--eal", "--no-such-flag"], ["no-such-flag"]),
                            (["--port", "null", "--mem", "900000"], ["mem"]),
                            (["--mtu", "10,drop"], ["--mtu", "10,drop"]), (["--filter", "tcp and ("], ["filter", "tcp and ("])):
            r = self.run_it("replay", SAMPLE, "--pcap-out", self.at("o.pcap"), *flags, code=(1, 2), says=says)
            self.assertTrue(r.stderr().startswith("netssm: error: "), r.stderr())
            self.only()

    def test_profile_is_no_file(self):
        for path in ("/nowhere.yaml", self.folder.name, "/dev/null"):
            r = self.run_it("run", path, code=(1, 2), says="")
            self.assertTrue(r.stderr().startswith("netssm: error: "), r.stderr())


if __name__ == "__main__":
    main()
