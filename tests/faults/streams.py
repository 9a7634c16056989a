"""Those at both ends of a stream: readers that leave, come again, are slow or never come; sources that are slower than their
packets' time or stop in the midst.

usage: streams.py NETSSM"""
import gzip
import os
import signal
import socket
import subprocess
import threading
import time

from faults import (LIMIT_S, MODEL, NETSSM, S, Faults, Tcp, free_port, main, make_pcap, parse_pcap, pcap_header, pcap_record,
                    read_pcap, steady)

T0 = 1700000000 * S


class Readers(Faults):
    def setUp(self):
        super().setUp()
        self.pcap = make_pcap(self.at("a.pcap"), steady(4000))
        self.port = free_port()

    def stream(self, *args, **how):
        return self.start("replay", self.pcap, "--pcap-over-ip", f"listen:{self.port}", *args, **how)

    def test_one_leaves_another_comes(self):
        """2 kpps for 2 s: what goes out while nobody reads is counted; both readers get whole packets."""
        r = self.stream("--wait-for-reader", "--rate", "2kpps", "--truth", self.at("t.csv"))
        one = Tcp(self.port)
        head = one.read(24 + 200 * 102)
        one.close()
        time.sleep(0.5)
        two = Tcp(self.port)
        tail = two.rest()
        two.close()
        s = self.balance(r.end(), 4000, no_reader=True)
        first, second = parse_pcap(head, whole=False), parse_pcap(tail)
        self.assertGreater(len(first), 150)
        self.assertGreater(len(second), 100)
        # What was on its way to the one that left counts as sent.
        self.assertGreaterEqual(s["packets"]["sent"], len(first) + len(second))
        self.assertEqual([p[2] for p in second], [f for _, f in steady(4000)][-len(second):])
        self.truth(self.at("t.csv"))

    def test_nobody_comes(self):
        s = self.balance(self.stream("--rate", "top").end(), 4000, no_reader=(4000, 4000))
        self.assertEqual(s["packets"]["sent"], 0)
        # One that is waited for in vain: only a signal ends it, at once, and nothing has become due.
        r = self.stream("--wait-for-reader")
        time.sleep(1)
        self.assertFalse(r.gone())
        r.signal(signal.SIGINT)
        s = self.balance(r.end(130, limit=30), "feed")
        self.assertEqual(s["packets"]["made"], 0)

    def test_leaves_for_good(self):
        """The run goes on to its end."""
        r = self.stream("--wait-for-reader", "--rate", "4kpps")
        one = Tcp(self.port)
        one.read(1000)
        one.close()
        self.balance(r.end(), 4000, no_reader=True)

    def test_slow(self):
        """One that takes nothing: its queue fills, what finds no room is counted, the end is waited for no longer than 2 s; what it
        takes in the end are whole packets."""
        big = make_pcap(self.at("big.pcap"), steady(40000, payload=bytes(1000)))
        r = self.start("replay", big, "--pcap-over-ip", f"listen:{self.port}", "--wait-for-reader", "--rate", "top", "--truth",
                       self.at("t.csv"))
        one = Tcp(self.port, rcvbuf=4096)
        t0 = time.monotonic()
        r.end(limit=60)
        self.assertLess(time.monotonic() - t0, 40)
        s = self.balance(r, 40000, no_reader=True)
        got = parse_pcap(one.rest(), whole=False)
        one.close()
        self.assertLessEqual(len(got), s["packets"]["sent"])
        self.assertLess(s["packets"]["sent"], 40000)

    def test_beside_a_port(self):
        """A slow reader takes nothing away from a port."""
        big = make_pcap(self.at("big.pcap"), steady(20000, payload=bytes(1000)))
        r = self.start("replay", big, "--pcap-over-ip", f"listen:{self.port}", "--wait-for-reader", "--rate", "top", "--port", "null")
        one = Tcp(self.port, rcvbuf=4096)
        s = self.balance(r.end(), 20000)
        self.assertEqual(s["packets"]["sent"], 20000)
        one.close()

    def test_connect(self):
        """connect: nobody listens; the one that listens closes in the midst; he takes the connection and reads nothing."""
        self.run_it("replay", self.pcap, "--pcap-over-ip", f"connect:127.0.0.1:{self.port}", code=1,
                    says=[f"connect:127.0.0.1:{self.port}", "Connection refused"])
        self.run_it("replay", self.pcap, "--pcap-over-ip", "connect:nowhere.invalid:9", code=1, says="nowhere.invalid")
        with socket.socket() as s:
            s.bind(("127.0.0.1", self.port))
            s.listen()
            r = self.start("replay", self.pcap, "--pcap-over-ip", f"connect:127.0.0.1:{self.port}", "--rate", "4kpps")
            c, _ = s.accept()
            c.recv(1000)
            c.close()
            self.balance(r.end(), 4000, no_reader=True)

    def test_port_in_use(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", self.port))
            s.listen()
            for flag in (["--pcap-over-ip", f"listen:{self.port}"], ["--port", "null", "--metrics", self.port]):
                self.run_it("replay", self.pcap, *flag, code=1, says=[str(self.port), "in use"])

    def test_fifo(self):
        """Readers come and go; each gets a file header first."""
        path = self.at("fifo")
        r = self.start("replay", self.pcap, "--fifo", path, "--rate", "2kpps", "--wait-for-reader")
        self.wait_for("the FIFO", lambda: os.path.exists(path))
        n = 0
        for k in range(3):
            with open(path, "rb") as f:
                got = f.read(24 + 102 * 200) if k < 2 else f.read()
            n += len(parse_pcap(got, whole=k == 2))
            time.sleep(0.2)  # until the first is seen to have gone, the next would get the rest of his stream
        s = self.balance(r.end(), 4000, no_reader=(0, 4000))
        self.assertGreater(n, 400)
        self.assertGreaterEqual(s["packets"]["sent"], n)
        self.assertFalse(os.path.exists(path))
        # None: as without a reader.
        self.balance(self.run_it("replay", self.pcap, "--fifo", path, "--rate", "top"), 4000, no_reader=(4000, 4000))
        # What is no FIFO is left alone.
        with open(path, "w", encoding="utf-8") as f:
            f.write("mine")
        self.run_it("replay", self.pcap, "--fifo", path, code=1, says=[path, "is a regular file"])
        with open(path, encoding="utf-8") as f:
            self.assertEqual(f.read(), "mine")

    def test_stdout_closed(self):
        """… | head -c 1000: no signal, no hang; into a file it is an error, a stream's reader may leave."""
        for flag, code in (("--fifo", 0), ("--pcap-out", 1)):
            a, b = os.pipe()
            r = self.start("replay", self.pcap, flag, "-", "--rate", "2kpps", stdout=b)
            os.close(b)
            with open(a, "rb") as f:
                f.read(1000)
            if code == 0:
                self.balance(r.end(), 4000, no_reader=True)
            else:
                self.balance(r.end(1, "Broken pipe"), error=(0, 4000))
        shell = f"'{NETSSM}' replay '{self.pcap}' --fifo - --rate 2kpps --progress none | head -c 1000 | wc -c"
        out = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual((out.stdout.strip(), out.returncode), ("1000", 0), out.stderr)
        # No stdout at all.
        shell = f"'{NETSSM}' replay '{self.pcap}' --fifo - --progress none >&-"
        out = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(out.returncode, 1)
        self.assertIn("netssm: error: ", out.stderr)

    def test_stdout_slow(self):
        """A pipe that nobody empties and nobody closes."""
        a, b = os.pipe()
        big = make_pcap(self.at("big.pcap"), steady(20000, payload=bytes(1000)))
        r = self.start("replay", big, "--fifo", "-", "--rate", "top", stdout=b)
        os.close(b)
        s = self.balance(r.end(limit=60), 20000, no_reader=True)
        os.set_blocking(a, False)
        got = os.read(a, 1 << 20)
        self.assertLessEqual(len(parse_pcap(got, whole=False)), s["packets"]["sent"])
        os.close(a)

    def test_signals_while_readers_stand_still(self):
        big = make_pcap(self.at("big.pcap"), steady(40000, payload=bytes(1000)))
        for n, most in ((1, 20), (2, 5)):
            r = self.start("replay", big, "--pcap-over-ip", f"listen:{self.port}", "--wait-for-reader", "--loop", 0)
            one = Tcp(self.port, rcvbuf=4096)
            one.read(100)
            time.sleep(0.3)
            t0 = time.monotonic()
            for _ in range(n):
                r.signal(signal.SIGINT)
                time.sleep(0.2)
            r.end(130, limit=60)
            self.assertLess(time.monotonic() - t0, most)
            self.balance(r, no_reader=(0, 1 << 40))
            one.close()


class Sources(Faults):
    def feed(self, run_args, chunks, **how):
        """Writes chunks (bytes, or seconds to wait) into the run's stdin."""
        r = self.start(*run_args, stdin=subprocess.PIPE, **how)

        def write():
            try:
                for c in chunks:
                    if isinstance(c, bytes):
                        r.p.stdin.write(c)
                        r.p.stdin.flush()
                    else:
                        time.sleep(c)
                r.p.stdin.close()
            except BrokenPipeError:
                pass
        t = threading.Thread(target=write)
        t.start()
        self.addCleanup(t.join)
        self.writer = t
        return r

    def end(self, r, code=0, says=()):
        self.writer.join()
        r.p.stdin = None
        return r.end(code, says)

    def chunks(self, n, gap_s, packets_gap_ns):
        out = [pcap_header()]
        for ns, f in steady(n, packets_gap_ns):
            out += [pcap_record(ns, f), gap_s]
        return out

    def test_slow_capture(self):
        """Packets 10 ms apart in the capture and 60 ms on the pipe: each goes out soon after it is there, the late ones are counted
        as starvation, and none is lost."""
        r = self.feed(["replay", "-", "--port", "null", "--pcap-out", self.at("o.pcap")], self.chunks(100, 0.06, 10 * S // 1000))
        s = self.balance(self.end(r), 100)
        self.assertEqual(s["packets"]["sent"], 100)
        self.assertGreater(s["engine"]["starved"], 10)
        t = [p[0] for p in read_pcap(self.at("o.pcap"))]
        # What came while the program started was there in time; of the rest the wire waited for each.
        took = t[-1] - t[0]
        self.assertGreater(took, 1.5 * S)
        self.assertTrue(0.3 * took < s["engine"]["starved_ns"] < took, (took, s))

    def test_fast_pipe(self):
        """Enough in the pipe: the capture's own times, and nothing counts as starved but the end."""
        r = self.feed(["replay", "-", "--port", "null", "--pcap-out", self.at("o.pcap")], self.chunks(100, 0, 10 * S // 1000))
        s = self.balance(self.end(r), 100)
        self.assertLessEqual(s["engine"]["starved"], 1)
        t = [p[0] for p in read_pcap(self.at("o.pcap"))]
        self.assertAlmostEqual((t[-1] - t[0]) / S, 0.99, delta=0.4)

    def test_pipe_stops(self):
        """Ends in the midst of a packet; stands still and is interrupted; never begins."""
        half = [pcap_header()] + [pcap_record(*p) for p in steady(10)] + [pcap_record(T0, b"x" * 60)[:40]]
        r = self.feed(["replay", "-", "--port", "null", "--pcap-out", self.at("o.pcap")], half)
        s = self.balance(self.end(r, 1, "stdin"), 10)
        self.assertEqual(len(read_pcap(self.at("o.pcap"))), s["packets"]["made"])
        r = self.feed(["replay", "-", "--port", "null", "--keep-going"], half)
        self.assertEqual(self.balance(self.end(r), 10)["packets"]["sent"], 10)
        for chunks in (half[:5], [], half[:1], [half[0][:10]]):
            a, b = os.pipe()
            os.write(b, b"".join(chunks))
            r = self.start("replay", "-", "--port", "null", "--pcap-out", self.at("o.pcap"), stdin=a)
            os.close(a)
            time.sleep(1.5)
            self.assertFalse(r.gone(), r.stderr())
            r.signal(signal.SIGINT)
            time.sleep(0.3)
            r.signal(signal.SIGTERM)
            r.end(130, limit=10)
            os.close(b)
            if os.path.exists(r.stats_path):
                s = self.balance(r, "feed")
                self.assertEqual(len(read_pcap(self.at("o.pcap"))), s["packets"]["made"])

    def test_gz_pipe(self):
        """Several members in odd pieces, rubbish behind the last; one that is cut."""
        packets = steady(60)
        data = pcap_header() + b"".join(pcap_record(*p) for p in packets)
        gz = b"".join(gzip.compress(data[i:i + 1500]) for i in range(0, len(data), 1500))
        for raw in (gz, gz + bytes(30), data):
            pieces = [raw[i:i + 97] for i in range(0, len(raw), 97)]
            r = self.feed(["replay", "-", "--pcap-out", self.at("o.pcap")], [raw[:1], 0.1, raw[1:3], 0.1, raw[3:97], *pieces[1:]])
            self.balance(self.end(r), 60)
            self.assertEqual([p[2] for p in read_pcap(self.at("o.pcap"))], [f for _, f in packets])
            r.p.stdin = None
        r = self.feed(["replay", "-", "--pcap-out", self.at("cut.pcap")], [gz[:-30]])
        self.end(r, 1, ["stdin", "gz stream broken", "ends too early"])
        r = self.feed(["replay", "-", "--pcap-out", self.at("cut.pcap")], [gz[:100] + bytes(50) + gz[150:]])
        self.end(r, 1, "stdin: ")

    def test_fifo_as_capture(self):
        """Named pipes are waited for: until somebody writes, and while he writes nothing; one that never comes ends with a signal."""
        path = self.at("in.pcap")
        os.mkfifo(path)
        r = self.start("replay", path, "--pcap-out", self.at("o.pcap"))
        time.sleep(1)
        self.assertFalse(r.gone(), r.stderr())
        with open(path, "wb") as f:
            f.write(pcap_header())
            f.flush()
            time.sleep(0.3)
            f.write(b"".join(pcap_record(*p) for p in steady(10)))
        self.balance(r.end(), 10)
        r = self.start("replay", path, "--port", "null")
        time.sleep(2)
        self.assertFalse(r.gone(), r.stderr())
        r.signal(signal.SIGINT)
        r.end(130, limit=10)

    def test_one_signal_while_the_source_stands_still(self):
        """A read that never ends does not hold up the end."""
        a, b = os.pipe()
        os.write(b, pcap_header() + b"".join(pcap_record(*p) for p in steady(10)))
        for out in (["--port", "null"], ["--pcap-out", self.at("o.pcap")]):
            r = self.start("replay", "-", *out, stdin=a)
            time.sleep(1.5)
            self.assertFalse(r.gone(), r.stderr())
            r.signal(signal.SIGTERM)
            r.end(130, limit=10)
        os.close(a)
        os.close(b)

    def test_model_slower_than_its_schedule(self):
        """Two CPUs and a speed of 100x: sessions wait for the model, which is counted; every packet that it made goes out, or is too long for the port."""
        r = self.run_it("generate", "--model", MODEL, "--label", "web", "--sessions", 4, "--packets", 60, "--tokens", "12k", "--rate",
                        "1000x", "--sessions-per-s", 0, "--port", "null", "--pcap-out", self.at("o.pcap"), "--truth", self.at("t.csv"))
        # Some of what the model learned from hosts that offload segmentation is longer than the port's MTU; the file has it.
        s = self.balance(r, "feed", too_long=(0, 10**6))
        self.assertGreater(s["packets"]["sent"], 0)
        self.assertGreater(s["engine"]["starved"], 0)
        self.assertEqual(len(read_pcap(self.at("o.pcap"))), s["packets"]["made"])
        self.assertEqual(s["sessions"]["done"], 4)


if __name__ == "__main__":
    main()
