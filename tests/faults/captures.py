"""Captures that are not as they should be, replayed: time that goes back, frames too long and too short, empty and broken files.
What each becomes is defined in replay/reader.h; here it is seen from the outside, with the counters that tell it.

usage: captures.py NETSSM"""
import os
import struct
import unittest

from faults import Faults, MODEL, S, main, make_pcap, pcap_header, pcap_record, read_pcap, steady, udp

T0 = 1700000000 * S


class Captures(Faults):
    def replay(self, *args, code=0, **how):
        self.out = self.at("out.pcap")
        return self.run_it("replay", *args, "--pcap-out", self.out, code=code, **how)

    def frames(self):
        return [f for _, _, f in read_pcap(self.out)]

    def test_time_goes_back(self):
        """Order of the file, no packet before its predecessor, each counted; the run goes on."""
        t = [0, 5, 3, 4, 10, -900, 11, 12]
        path = make_pcap(self.at("a.pcap"), [(T0 + k * S // 1000, udp(i)) for i, k in enumerate(t)])
        s = self.balance(self.replay(path, "--truth", self.at("t.csv")), "feed")
        self.assertEqual(s["packets"]["sent"], len(t))
        self.assertEqual(s["engine"]["time_back"], 3)
        out = read_pcap(self.out)
        self.assertEqual(self.frames(), [udp(i) for i in range(len(t))])
        self.assertEqual([p[0] - out[0][0] for p in out], [k * S // 1000 for k in [0, 5, 5, 5, 10, 10, 11, 12]])
        self.truth(self.at("t.csv"), sent=len(t), dropped=0)

    def test_clock_was_set(self):
        """An hour back: the gaps go on. A year ahead is a gap, for nobody can know better."""
        t = [0, 1, 2, -3600 * 1000, -3600 * 1000 + 1, -3600 * 1000 + 2]
        path = make_pcap(self.at("a.pcap"), [(T0 + k * S // 1000, udp(i)) for i, k in enumerate(t)])
        s = self.balance(self.replay(path), "feed")
        out = read_pcap(self.out)
        self.assertGreaterEqual(s["engine"]["time_back"], 1)
        self.assertEqual([p[0] - out[0][0] for p in out], [k * S // 1000 for k in [0, 1, 2, 2, 3, 4]])
        path = make_pcap(self.at("b.pcap"), [(T0, udp(0)), (T0 + 365 * 86400 * S, udp(1))])
        self.replay(path)
        out = read_pcap(self.out)
        self.assertEqual(out[1][0] - out[0][0], 365 * 86400 * S)

    def test_lengths(self):
        """From nothing behind the header to 64 KiB and more, as they are; into a file they all go."""
        frames = [udp(0)[:n] for n in (14, 15, 33, 34, 41, 42, 45)] + [udp(1, b"")] + \
                 [udp(i, bytes(n)) for i, n in enumerate((1400, 1500, 8900, 9000, 16000, 65400))]
        frames += [udp(0)[:14] + bytes(65536 + 14), udp(0)[:14] + bytes(200000)]
        path = make_pcap(self.at("a.pcap"), [(T0 + i, f) for i, f in enumerate(frames)])
        self.balance(self.replay(path), len(frames))
        self.assertEqual(self.frames(), frames)
        # Twice, as clones of each other: as many again, of the same lengths.
        self.balance(self.replay(path, "--clones", 2), 2 * len(frames))
        self.assertEqual(sorted(map(len, self.frames())), sorted(2 * list(map(len, frames))))

    def test_mtu(self):
        frames = [udp(i, bytes(n)) for i, n in enumerate((100, 1468, 1469, 9000, 65400))]
        path = make_pcap(self.at("a.pcap"), [(T0 + i, f) for i, f in enumerate(frames)])
        s = self.balance(self.replay(path, "--mtu", "1500,drop"), 2)
        self.assertEqual((s["feed"]["too_long"], s["feed"]["truncated"]), (3, 0))
        self.assertEqual(self.frames(), frames[:2])
        s = self.balance(self.replay(path, "--mtu", "1500,truncate"), 5)
        self.assertEqual((s["feed"]["too_long"], s["feed"]["truncated"]), (0, 3))
        self.assertEqual(self.frames(), [f[:1514] for f in frames])
        # A port takes what its MTU allows. The file beside it has what went out and what did not.
        for way, sent, dropped in (((), 2, 3), (("--mtu", "truncate"), 5, 0), (("--mtu", "drop"), 2, 0),
                                   (("--port-mtu", "9100", "--mtu", "drop"), 4, 0)):
            run = self.run_it("replay", path, "--port", "null", "--rate", "top", "--truth", self.at("t.csv"), *way)
            s = self.balance(run, "feed", too_long=dropped)
            self.assertEqual(s["packets"]["sent"], sent, way)
            self.truth(self.at("t.csv"), sent=sent, dropped=dropped)
            if dropped:
                self.assertIn(f"too_long {dropped}", run.out.decode())

    def test_nothing_passes(self):
        """All filtered, all too long: an error that says where they went."""
        path = make_pcap(self.at("a.pcap"), steady(20, payload=bytes(200)))
        self.replay(path, "--filter", "tcp", code=1, says=["a.pcap", "20"])
        self.replay(path, "--mtu", "100,drop", code=1, says="20")
        self.only("a.pcap")

    def test_empty(self):
        files = {"none.pcap": b"", "header.pcap": pcap_header(), "half.pcap": pcap_header()[:11],
                 "no.pcapng": bytes.fromhex("0a0d0d0a1c0000004d3c2b1a01000000ffffffffffffffff1c000000"
                                        "01000000140000000100000000000400" "14000000")}
        for name, data in files.items():
            with open(self.at(name), "wb") as f:
                f.write(data)
        good = make_pcap(self.at("good.pcap"), steady(10))
        for name in files:
            r = self.replay(self.at(name), code=1, says=name)
            self.assertTrue(r.stderr().startswith("netssm: error: "), r.stderr())
            self.assertFalse(os.path.exists(self.out))
            self.run_it("replay", self.at(name), "--port", "null", code=1, says=name)
        # Among others: a capture without packets is none the less one; what is no capture is an error unless --keep-going.
        s = self.balance(self.replay(self.at("header.pcap"), good, self.at("no.pcapng")), "feed")
        self.assertEqual(s["packets"]["sent"], 10)
        self.replay(self.at("none.pcap"), good, code=1, says="none.pcap")
        s = self.balance(self.replay(self.at("none.pcap"), good, self.at("half.pcap"), "--keep-going"), "feed")
        self.assertEqual(s["packets"]["sent"], 10)

    def broken(self, name):
        """100 whole packets, then what no capture holds."""
        tails = {"cut": pcap_record(T0, udp(7))[:30], "cut_header": b"\0" * 5,
                 "huge": struct.pack("<IIII", 1, 1, 0x7FFFFFFF, 0x7FFFFFFF) + b"x" * 100}
        return make_pcap(self.at(name + ".pcap"), steady(100), tails[name])

    def test_breaks(self):
        """What came before goes out, into files too, as tcpdump -r does it; the message names file and place."""
        for name in ("cut", "cut_header", "huge"):
            path = self.broken(name)
            with open(self.at("out.pcap"), "wb") as f:
                f.write(b"what was there before")
            run = self.replay(path, code=1, says=[name + ".pcap"])
            self.assertEqual(self.balance(run, 100)["packets"]["sent"], 100)
            self.assertEqual(self.frames(), [f for _, f in steady(100)])
            os.unlink(self.out)
            # Live, beside a port that takes everything: what was read before it broke is sent and in the file.
            run = self.run_it("replay", path, "--port", "null", "--pcap-out", self.out, "--truth", self.at("t.csv"), code=1,
                              says=name + ".pcap")
            s = self.balance(run, 100)
            self.assertEqual(len(read_pcap(self.out)), s["packets"]["made"])
            self.truth(self.at("t.csv"), sent=s["packets"]["sent"])
            os.unlink(self.at("t.csv"))
            os.unlink(self.out)
            # With the others, if told to go on.
            s = self.balance(self.replay(path, make_pcap(self.at("good.pcap"), steady(50)), "--keep-going", "--truth",
                                         self.at("t.csv")), 150)
            self.assertEqual(s["packets"]["sent"], 150)
            self.assertEqual(self.frames(), [f for _, f in steady(100) + steady(50)])
            self.truth(self.at("t.csv"), sent=150)
            self.only(*{"good.pcap", "out.pcap", "t.csv"}, *{p for p in os.listdir(self.folder.name) if p[:-5] in
                                                             ("cut", "cut_header", "huge")})
            os.unlink(self.at("t.csv"))

    def test_breaks_while_kept(self):
        """Clones are made of whole captures: nothing goes out of one that breaks, unless told to go on."""
        path = self.broken("cut")
        self.replay(path, "--clones", 3, code=1, says="cut.pcap")
        self.only("cut.pcap")
        s = self.balance(self.replay(path, "--clones", 3, "--keep-going"), 300)
        self.assertEqual(s["packets"]["sent"], 300)
        self.run_it("replay", path, "--preload", "--port", "null", code=1, says="cut.pcap")
        self.run_it("replay", path, "--loop", 3, "--port", "null", "--rate", "top", code=1, says="cut.pcap")

    def test_prompt(self):
        """A broken capture as the beginning of what a model makes."""
        with open(self.at("none.pcap"), "wb") as f:
            f.write(b"not a capture")
        self.run_it("generate", "--model", MODEL, "--label", "web", "--prompt", self.at("none.pcap"), "--pcap-out",
                    self.at("o.pcap"), code=1, says="none.pcap")
        self.only("none.pcap")


if __name__ == "__main__":
    main()
