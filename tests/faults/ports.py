"""Live ports and what happens to them in the midst of a run: links that go down and come back, interfaces and peers that vanish,
queues that stay full, frames that do not fit, users who may not, interfaces that must not be used.

usage: ports.py NETSSM
Runs in a network namespace of its own; everything in it goes with it."""
import ctypes
import fcntl
import os
import signal
import socket
import struct
import tempfile
import threading
import time

from faults import S, Faults, alone, ask, ip, main, make_pcap, missing, read_pcap, skip, steady, udp

alone("-n", "-m")
SYSFS = ctypes.CDLL(None).mount(b"sysfs", b"/sys", b"sysfs", 0, None) == 0
# Until a lost link is noticed its queue is one that takes nothing.
SOON = (0, 200)


class Wire:
    """Counts the frames of our captures that arrive at an interface, and keeps the lengths of the last ones."""

    def __init__(self, iface):
        self.s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.s.bind((iface, 0))
        self.s.settimeout(0.1)
        self.frames, self.over = [], False
        self.t = threading.Thread(target=self.run)
        self.t.start()

    def run(self):
        while True:
            try:
                frame, where = self.s.recvfrom(70000)
            except socket.timeout:
                if self.over:
                    return
                continue
            except OSError:
                if self.over:
                    return
                continue  # down: it may come back
            # Not what the kernel says of itself (ND, IGMP), nor what goes out there.
            ours = frame[6:12] == udp()[6:12] or (frame[12:14] == b"\x08\0" and frame[36:38] == b"\0\x09")
            if where[2] != 4 and ours:
                self.frames.append(frame)

    def end(self):
        time.sleep(0.2)
        self.over = True
        self.t.join()
        self.s.close()
        return self.frames


class Ports(Faults):
    def setUp(self):
        super().setUp()
        r = ip("link", "add", "name", "n0", "type", "veth", "peer", "name", "n1", check=False)
        if r.returncode != 0:
            skip("veth interfaces")
        for i in ("lo", "n0", "n1"):
            ip("link", "set", i, "up")
        self.wait_for("the link", lambda: "LOWER_UP" in ip("link", "show", "n0").stdout)
        self.wires = []
        self.control = self.at("control")

    def tearDown(self):
        for w in self.wires:
            if not w.over:
                w.end()
        super().tearDown()
        ip("link", "del", "n0", check=False)

    def listen(self, iface="n1"):
        self.wires.append(Wire(iface))
        return self.wires[-1]

    def replay(self, *args, **how):
        return self.start("replay", *args, "--control", self.control, **how)

    def pcap(self, n=10000, **how):
        return make_pcap(self.at(f"{n}.pcap"), steady(n, **how))

    # --- links ---

    def down_and_up(self, dev, peer):
        """peer: which end is taken down."""
        wire = self.listen()
        r = self.replay(self.pcap(), "--port", f"{dev}:n0", "--rate", "2kpps", "--truth", self.at("t.csv"))
        self.wait_stats(r, "packets", lambda s: s["packets"]["sent"] > 1000)
        ip("link", "set", peer, "down")
        s = self.wait_stats(r, "drops", lambda s: s["dropped"]["link_down"] > 1000)
        self.assertFalse(s["ports"][0]["up"])
        ip("link", "set", peer, "up")
        before = s["packets"]["sent"]
        s = self.wait_stats(r, "packets again", lambda s: s["packets"]["sent"] > before + 1000)
        self.assertTrue(s["ports"][0]["up"])
        s = self.balance(r.end(), 10000, link_down=True, queue_full=SOON)
        self.truth(self.at("t.csv"), sent=s["packets"]["sent"], dropped=10000 - s["packets"]["sent"])
        self.assertIn("link_down", r.out.decode())
        # What was under way when it went down is lost: a burst or two at most.
        got = len(wire.end())
        self.assertLessEqual(got, s["packets"]["sent"])
        self.assertGreaterEqual(got, s["packets"]["sent"] - 64)
        # Kept in time: no backlog builds up behind a link that is down.
        self.assertLess(s["elapsed_s"], 10)

    def test_af_packet_down_and_up(self):
        for peer in ("n1", "n0"):
            self.down_and_up("af_packet", peer)

    def test_af_xdp_down_and_up(self):
        self.down_and_up("af_xdp", "n1")

    def test_down_from_the_start(self):
        ip("link", "set", "n1", "down")
        for dev in ("af_packet:n0", "af_xdp:n0"):
            r = self.run_it("replay", self.pcap(500), "--port", dev)
            s = self.balance(r, 500, link_down=(500, 500))
            self.assertFalse(s["ports"][0]["up"])

    def test_vanishes(self):
        """It stays down, also if one of its name is made anew; the run goes on to its end, or a signal's."""
        for dev in ("af_packet", "af_xdp"):
            r = self.replay(self.pcap(), "--port", f"{dev}:n0", "--rate", "2kpps", "--pcap-out", self.at("o.pcap"))
            self.wait_stats(r, "packets", lambda s: s["packets"]["sent"] > 500)
            ip("link", "del", "n0")
            self.wait_stats(r, "drops", lambda s: s["dropped"]["link_down"] > 500)
            ip("link", "add", "name", "n0", "type", "veth", "peer", "name", "n1")
            for i in ("n0", "n1"):
                ip("link", "set", i, "up")
            s = self.balance(r.end(), 10000, link_down=True, queue_full=SOON)
            self.assertFalse(s["ports"][0]["up"])
            # The file beside it has all of them.
            self.assertEqual(len(read_pcap(self.at("o.pcap"))), 10000)
        r = self.replay(self.pcap(), "--port", "af_packet:n0", "--loop", 0)
        self.wait_stats(r, "packets", lambda s: s["packets"]["sent"] > 500)
        ip("link", "del", "n0")
        self.wait_stats(r, "drops", lambda s: s["dropped"]["link_down"] > 500)
        r.signal(signal.SIGINT)
        self.balance(r.end(130, limit=20), link_down=True, queue_full=SOON)

    def test_one_of_two_ports_vanishes(self):
        """The other one keeps its pace."""
        packets = steady(8000)
        both = [p if i % 2 else (p[0], udp(i, src="10.2.0.1", dst="10.1.0.1", sport=9, dport=4000 + (i - 1) % 8))
                for i, p in enumerate(packets)]
        path = make_pcap(self.at("b.pcap"), both)
        r = self.replay(path, "--port", "null", "--port", "af_packet:n0", "--rate", "2kpps")
        self.wait_stats(r, "packets", lambda s: s["ports"][1]["sent"] > 300)
        ip("link", "del", "n0")
        s = self.balance(r.end(), 8000, link_down=True, queue_full=SOON)
        self.assertTrue(4000 - 10 <= s["ports"][0]["sent"] <= 4000 + 10, s["ports"])
        self.assertLess(s["elapsed_s"], 8)

    def test_not_there(self):
        for dev, says in (("af_packet:nowhere", "nowhere"), ("af_xdp:nowhere", "nowhere"), ("0000:ff:1f.7", "0000:ff:1f.7"),
                          ("net_nothing0", "net_nothing0"), ("memif:role=client", "socket"), ("wlan0", "wlan0")):
            r = self.run_it("replay", self.pcap(10), "--port", dev, code=1, says=says)
            self.assertTrue(r.stderr().startswith("netssm: error: "), r.stderr())

    # --- queues ---

    def tap(self, name="t0"):
        """An interface whose frames nobody takes until somebody reads the descriptor."""
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))  # TUNSETIFF: IFF_TAP | IFF_NO_PI
        with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w", encoding="ascii") as f:
            f.write("1")
        ip("link", "set", name, "up")
        os.set_blocking(fd, False)
        return fd

    @staticmethod
    def drain(fd):
        n = 0
        while True:
            try:
                n += os.read(fd, 70000)[12:14] == b"\x08\0"
            except BlockingIOError:
                return n

    def test_queue_full(self):
        """A queue that takes nothing: what is due is dropped after 10 ms, the run keeps its schedule and comes to its end."""
        if not os.path.exists("/dev/net/tun"):
            missing.add("/dev/net/tun")
            return
        fd = self.tap()
        r = self.replay(self.pcap(8000), "--port", "af_packet:t0", "--rate", "4kpps", "--truth", self.at("t.csv"))
        self.wait_stats(r, "drops", lambda s: s["dropped"]["queue_full"] > 1000)
        got = self.drain(fd)
        s = self.wait_stats(r, "packets again", lambda s: s["packets"]["sent"] > got + 100)
        s = self.balance(r.end(), 8000, queue_full=True)
        self.assertEqual(got + self.drain(fd), s["packets"]["sent"])
        self.truth(self.at("t.csv"), sent=s["packets"]["sent"], dropped=s["dropped"]["queue_full"])
        self.assertLess(s["elapsed_s"], 4)
        # It kept its time while the queue was full.
        self.assertLess(s["late_ns"]["p50"], 100 * 10**6)
        # Endless and stuck: two signals, one signal.
        for n in (1, 2):
            r = self.replay(self.pcap(8000), "--port", "af_packet:t0", "--rate", "top", "--loop", 0)
            self.wait_stats(r, "drops", lambda s: s["dropped"]["queue_full"] > 100)
            for _ in range(n):
                r.signal(signal.SIGINT)
            self.balance(r.end(130, limit=10), queue_full=True)
        os.close(fd)

    def test_slow_queue(self):
        """One that takes less than is offered, but goes on taking: at top speed nothing is dropped."""
        if not os.path.exists("/dev/net/tun"):
            missing.add("/dev/net/tun")
            return
        fd = self.tap()
        r = self.replay(self.pcap(6000), "--port", "af_packet:t0", "--rate", "top")
        got = 0
        while not r.gone():
            for _ in range(5):
                try:
                    got += os.read(fd, 70000)[12:14] == b"\x08\0"
                except BlockingIOError:
                    break
            time.sleep(0.001)
        s = self.balance(r.end(), 6000)
        self.assertEqual(got + self.drain(fd), s["packets"]["sent"])
        os.close(fd)

    def test_memif_peer_stands_still(self):
        """A full queue of DPDK's, until the peer goes on."""
        where = f"socket={self.at('memif')}"
        a = self.replay(self.pcap(16000), "--port", f"memif:role=server,{where}", "--rate", "4kpps")
        b = self.start("replay", self.pcap(32000), "--port", f"memif:role=client,{where}", "--rate", "4kpps")
        self.wait_stats(a, "packets both ways", lambda s: s["packets"]["sent"] > 500 and s["ports"][0]["received"] > 500)
        b.signal(signal.SIGSTOP)
        s = self.wait_stats(a, "drops", lambda s: s["dropped"]["queue_full"] > 500)
        b.signal(signal.SIGCONT)
        sent = s["packets"]["sent"]
        self.wait_stats(a, "packets again", lambda s: s["packets"]["sent"] > sent + 500)
        s = self.balance(a.end(), 16000, link_down=(0, 16000), queue_full=True)
        self.assertLess(s["elapsed_s"], 7)

    def test_memif_peer_killed(self):
        """The one that is left counts, and goes on when another comes."""
        where = f"socket={self.at('memif')}"
        a = self.replay(self.pcap(16000), "--port", f"memif:role=server,{where}", "--rate", "2kpps")
        b = self.start("replay", self.pcap(16000), "--port", f"memif:role=client,{where}", "--rate", "2kpps")
        self.wait_stats(a, "packets both ways", lambda s: s["packets"]["sent"] > 500 and s["ports"][0]["received"] > 500)
        b.signal(signal.SIGKILL)
        b.end(-signal.SIGKILL)
        before = a.live_stats()["dropped"]
        s = self.wait_stats(a, "drops", lambda s: s["dropped"]["link_down"] + s["dropped"]["queue_full"] >
                            before["link_down"] + before["queue_full"] + 500)
        self.assertFalse(s["ports"][0]["up"])
        c = self.start("replay", self.pcap(1000), "--port", f"memif:role=client,{where}", "--rate", "1kpps")
        sent, received = s["packets"]["sent"], s["ports"][0]["received"]
        self.wait_stats(a, "packets again", lambda s: s["packets"]["sent"] > sent + 100 and s["ports"][0]["received"] > received + 100)
        c.end()
        s = self.balance(a.end(), 16000, link_down=(0, 16000), queue_full=(0, 16000))
        self.assertLess(s["elapsed_s"], 12)

    # --- frames ---

    def test_lengths(self):
        """Shorter than Ethernet has them, as long as fits, longer."""
        frames = [udp(0)[:n] for n in (14, 20, 42, 59, 60)] + [udp(i, bytes(n)) for i, n in enumerate((1468, 1469, 1472, 1473, 9000, 60000))]
        tag = b"\x81\0\0\7"
        frames += [f[:12] + k * tag + f[12:] for f in frames[5:7] for k in (1, 2)]
        path = make_pcap(self.at("a.pcap"), [(1700000000 * S + i, f) for i, f in enumerate(frames)])
        for dev in ("af_packet", "af_xdp"):
            wire = self.listen()
            s = self.balance(self.run_it("replay", path, "--port", f"{dev}:n0", "--rate", "100pps", "--truth", self.at("t.csv")), len(frames),
                             too_long=7, error=(0, 1))
            got = wire.end()
            # A full frame with two tags is more than the kernel takes for af_packet, and what veth drops unseen for af_xdp.
            self.assertEqual(s["dropped"]["error"], dev == "af_packet")
            self.assertEqual(len(got), s["packets"]["sent"] - (dev == "af_xdp"), (dev, [len(f) for f in got]))
            # The kernel takes the outer tag off what it hands over.
            plain = [f for f in got if f[12:14] == b"\x08\0"]
            self.assertEqual([len(f) for f in plain], [14, 20, 42, 59, 60, 1514, 1514], dev)
            self.assertTrue(all(f in frames for f in plain))
            self.truth(self.at("t.csv"))
        # Jumbo frames where the link takes them.
        for i in ("n0", "n1"):
            ip("link", "set", i, "mtu", "9500")
        wire = self.listen()
        s = self.balance(self.run_it("replay", path, "--port", "af_packet:n0", "--rate", "100pps"), len(frames), too_long=1, error=(0, 0))
        self.assertEqual(len(wire.end()), len(frames) - 1)

    def test_mtu_shrinks(self):
        """In the midst of a run: what the kernel refuses is no packet that was sent."""
        wire = self.listen()
        r = self.replay(self.pcap(6000, payload=bytes(1000)), "--port", "af_packet:n0", "--rate", "2kpps", "--truth", self.at("t.csv"))
        self.wait_stats(r, "packets", lambda s: s["packets"]["sent"] > 500)
        ip("link", "set", "n0", "mtu", "600")
        self.wait_stats(r, "drops", lambda s: s["dropped"]["error"] + s["dropped"]["too_long"] > 300)
        ip("link", "set", "n0", "mtu", "1500")
        s = self.balance(r.end(), 6000, error=True)
        self.assertEqual(len(wire.end()), s["packets"]["sent"])
        self.truth(self.at("t.csv"), sent=s["packets"]["sent"], dropped=s["dropped"]["error"])

    # --- who may, and where ---

    def test_no_root(self):
        """af_packet, af_xdp and tap say what they need; files, streams and null need nothing."""
        if os.environ["NSSM_FAULTS_INSIDE"] != "root":
            missing.add("root to become nobody")
            return
        self.folder.cleanup()
        self.folder = tempfile.TemporaryDirectory(prefix="netssm-faults-")
        os.chmod(self.folder.name, 0o777)
        path = self.pcap(100)
        os.chmod(path, 0o644)

        def nobody():
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        for dev, says in (("af_packet:n0", "needs root"), ("af_xdp:n0", "needs root"), ("tap:x0", "")):
            r = self.run_it("replay", path, "--port", dev, code=1, says=["port", says], preexec_fn=nobody)
            self.assertTrue(r.stderr().startswith("netssm: error: "), r.stderr())
        for args in (["--port", "null"], ["--pcap-out", self.at("o.pcap")], ["--port", "ring", "--pcapng-out", self.at("o.pcapng")]):
            s = self.balance(self.run_it("replay", path, *args, preexec_fn=nobody), 100)
            self.assertEqual(s["packets"]["sent"], 100)

    def test_default_route(self):
        """Refused with its reason unless --force; nothing is sent before, and no other port is opened either."""
        path = self.pcap(50)
        ip("addr", "add", "192.0.2.2/24", "dev", "n0")
        ip("addr", "add", "2001:db8::2/64", "dev", "n0", "nodad")

        def refused(dev, *says, env=None):
            wire = self.listen()
            for args in (["--port", dev], ["--port", "null", "--port", dev]):
                self.run_it("replay", path, *args, code=1, says=["--force", *says], env=env)
            self.assertEqual(len(wire.end()), 0)

        def taken(dev, *flags, env=None):
            wire = self.listen()
            s = self.balance(self.run_it("replay", path, "--port", dev, *flags, env=env), 50)
            self.assertEqual((s["packets"]["sent"], len(wire.end())), (50, 50))
        taken("af_packet:n0", env={"SSH_CONNECTION": "203.0.113.1 5000 203.0.113.2 22"})
        refused("af_packet:n0", "n0", env={"SSH_CONNECTION": "192.0.2.1 5000 203.0.113.2 22"})
        refused("af_packet:n0", "n0", env={"SSH_CONNECTION": "192.0.2.1 5000 192.0.2.2 22"})
        refused("af_xdp:n0", "n0", env={"SSH_CONNECTION": "2001:db8::1 5000 2001:db8::2 22"})
        for v, via in (("-4", "192.0.2.1"), ("-6", "2001:db8::1")):
            ip(v, "route", "add", "default", "via", via, "dev", "n0")
            for dev in ("af_packet:n0", "af_xdp:n0", "net_af_packet0,iface=n0"):
                refused(dev, "n0", "default IPv")
            taken("af_packet:n0", "--force")
            ip(v, "route", "del", "default")
        if not SYSFS:
            missing.add("a sysfs of this namespace")
            return
        # Through a bridge above it.
        ip("link", "add", "name", "b0", "type", "bridge")
        ip("link", "set", "n0", "master", "b0")
        ip("link", "set", "b0", "up")
        ip("addr", "flush", "dev", "n0")
        ip("addr", "add", "192.0.2.2/24", "dev", "b0")
        ip("route", "add", "default", "via", "192.0.2.1", "dev", "b0")
        refused("af_packet:n0", "default IPv")
        ip("link", "del", "b0")

    def test_gateway_silent(self):
        """A router that does not answer: said, and nothing was sent."""
        wire = self.listen()
        r = self.run_it("replay", self.pcap(50), "--port", "af_packet:n0", "--gateway", "192.0.2.1", "--self", "192.0.2.2", code=1,
                        says=["af_packet:n0", "--gateway did not answer"], limit=60)
        self.assertEqual(len(wire.end()), 0)
        if os.path.exists(r.stats_path):
            self.assertEqual(self.balance(r)["packets"]["made"], 0)

    def test_caps(self):
        """Whatever is asked for, at the start or later, by one port or two."""
        for ports in (["--port", "null"], ["--port", "null", "--port", "af_packet:n0"]):
            r = self.replay(self.pcap(500), *ports, "--rate", "top", "--loop", 0, "--max-pps", 3000, "--duration", "4s")
            self.wait_stats(r, "packets", lambda s: s["packets"]["sent"] > 100)
            for rate in ("top", "1Mpps", "1000000x", "10Gbps"):
                self.assertTrue(ask(self.control, f"rate {rate}")["ok"])
                time.sleep(0.2)
            s = self.balance(r.end())
            self.assertTrue(6000 < s["packets"]["sent"] < 3000 * 4 * 1.02 + 32, s["packets"])
        r = self.run_it("replay", self.pcap(500, payload=bytes(1000)), "--port", "null", "--rate", "top", "--loop", 0, "--max-bps", "8M",
                        "--duration", "3s")
        s = self.balance(r)
        bits = 8 * (s["bytes"]["sent"] + 4 * s["packets"]["sent"])
        self.assertTrue(8e6 * 2 < bits < 8e6 * 3 * 1.02 + 8 * 1100 * 32, bits)
        # Clones as fast as it goes, too; and a pause is not caught up with.
        r = self.replay(self.pcap(500), "--port", "null", "--rate", "top", "--concurrency", 100, "--max-pps", "2k", "--duration", "4s")
        self.wait_stats(r, "packets", lambda s: s["packets"]["sent"] > 100)
        ask(self.control, "pause")
        time.sleep(1)
        ask(self.control, "resume")
        s = self.balance(r.end())
        self.assertLess(s["packets"]["sent"], 2000 * 4 * 1.02 + 32)

    def test_two_at_a_time(self):
        """Own file prefixes, rings and runtime folders; one's end does not disturb the other."""
        wires = self.listen("n0"), self.listen("n1")
        path = self.pcap(4000)
        runs = [self.start("replay", path, "--port", f"af_packet:{i}", "--rate", "1kpps") for i in ("n0", "n1")]
        runs += [self.start("replay", path, "--port", "null", "--rate", "2kpps") for _ in range(2)]
        time.sleep(2)
        runs[3].signal(signal.SIGKILL)
        for r in runs[:3]:
            s = self.balance(r.end(), 4000)
            self.assertEqual(s["packets"]["sent"], 4000)
        for w in wires:
            self.assertEqual(len(w.end()), 4000)


if __name__ == "__main__":
    main()
