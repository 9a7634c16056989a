"""Files that cannot be written to their end, and runs that are killed: what is there afterwards is whole.
 - A full disk is a small tmpfs in a mount namespace of the test's own, a file size limit, or /dev/full. The message names the file;
   the exit status is 1. In virtual time nothing half-written stays; live, what was written before stays, by whole records.
 - kill -9 at random moments: a live run's files are read by programs that are not ours; the old file of a run in virtual time is
   as it was.

usage: files.py NETSSM [SECONDS]
SECONDS: how long runs are killed, 20 unless given."""
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time

from faults import S, Faults, Tcp, alone, count_with, free_port, main, make_pcap, mount_tmpfs, read_pcap, steady, umount

SECONDS = float(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 20
FULL = "No space left on device"
alone("-m")


def pcapng_packets(path):
    """Packets of a pcapng that ends behind a whole block."""
    with open(path, "rb") as f:
        data = f.read()
    at = n = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length >= 12 and length % 4 == 0 and at + length <= len(data), f"{path}: ends inside a block at {at}"
        assert struct.unpack_from("<I", data, at + length - 4)[0] == length
        n += kind == 6
        at += length
    return n


class Full(Faults):
    """2 MiB of room, and 3.3 MB of packets."""

    def setUp(self):
        super().setUp()
        self.pcap = make_pcap(self.at("a.pcap"), steady(3000, payload=bytes(1000)))
        self.disk = self.at("disk")
        mount_tmpfs(self.disk, 2 << 20)

    def tearDown(self):
        umount(self.disk)
        super().tearDown()

    def on_disk(self, name):
        return os.path.join(self.disk, name)

    def left_on_disk(self):
        return sorted(os.listdir(self.disk))

    def fill(self, leave=0):
        with open(self.on_disk("filler"), "wb") as f:
            v = os.statvfs(self.disk)
            f.write(bytes(v.f_bavail * v.f_frsize - leave))

    def test_virtual(self):
        """Each kind of output: a message that names it, and nothing left."""
        for flag, name in (("--pcap-out", "o.pcap"), ("--pcapng-out", "o.pcapng"), ("--out-dir", "dir")):
            r = self.run_it("replay", self.pcap, flag, self.on_disk(name), code=1, says=[self.on_disk(name), FULL])
            self.balance(r, error=(0, 3000))
            self.assertEqual(self.left_on_disk(), [], flag)
        # What was there before stays.
        self.fill(100 << 10)
        old = make_pcap(self.on_disk("o.pcap"), steady(10))
        with open(old, "rb") as f:
            before = f.read()
        self.run_it("replay", self.pcap, "--pcap-out", old, code=1, says=[old, FULL])
        with open(old, "rb") as f:
            self.assertEqual(f.read(), before)
        self.assertEqual(self.left_on_disk(), ["filler", "o.pcap"])

    def test_small_files(self):
        """Truth, manifest and figures have no room, the packets do."""
        self.fill()
        for flag in ("--truth", "--manifest", "--stats-json"):
            path = self.on_disk("small")
            self.run_it("replay", self.pcap, "--pcap-out", self.at("o.pcap"), flag, path, code=1, says=[path, FULL],
                        stats=flag != "--stats-json")
            self.assertEqual(self.left_on_disk(), ["filler"], flag)
        # One of two outputs: neither is put in place, or each is whole.
        self.run_it("replay", self.pcap, "--pcap-out", self.at("p.pcap"), "--pcapng-out", self.on_disk("o.pcapng"), code=1,
                    says=self.on_disk("o.pcapng"))
        if os.path.exists(self.at("p.pcap")):
            self.assertEqual(len(read_pcap(self.at("p.pcap"))), 3000)
        self.assertEqual(self.left_on_disk(), ["filler"])

    def test_spill(self):
        """Packets that wait for their turn have no room on the disk."""
        self.fill(300 << 10)
        r = self.run_it("replay", *[self.pcap] * 3, "--clones", 8, "--bank", "1M", "--pcap-out", self.at("o.pcap"), "--spill-dir",
                        self.disk, code=1, says=[self.disk, FULL])
        self.balance(r)
        self.assertEqual(self.left_on_disk(), ["filler"])
        self.assertFalse(os.path.exists(self.at("o.pcap")))

    def live(self, *args, **how):
        """Wall clock without a port: a stream that nobody reads."""
        return self.run_it("replay", self.pcap, "--port", "null", "--rate", "top", *args, **how)

    def test_live(self):
        """What was written before is there, by whole packets, and as many are counted."""
        for flag, name, count in (("--pcap-out", "o.pcap", lambda p: len(read_pcap(p))),
                                  ("--pcapng-out", "o.pcapng", pcapng_packets)):
            path = self.on_disk(name)
            r = self.live(flag, path, "--truth", self.at("t.csv"), code=1, says=[path, FULL])
            s = self.balance(r, error=(0, 64))
            n = count(path)
            self.assertGreater(n, 0)
            self.assertLessEqual(n, s["packets"]["made"])
            for tool in ("capinfos", "tshark"):
                self.assertIn(count_with(tool, path), (n, None))
            self.truth(self.at("t.csv"), sent=s["packets"]["sent"])
            os.unlink(path)
        self.fill(8 << 10)
        r = self.live("--loop", 40, "--pcap-out", self.at("o.pcap"), "--truth", self.on_disk("t.csv"), code=1,
                      says=[self.on_disk("t.csv"), FULL])
        s = self.balance(r)
        self.assertLessEqual(s["packets"]["sent"], len(read_pcap(self.at("o.pcap"))))
        self.truth(self.on_disk("t.csv"))

    def test_live_stream(self):
        """A stream decides what was sent; the file beside it fills the disk."""
        path, port = self.on_disk("o.pcap"), free_port()
        r = self.start("replay", self.pcap, "--pcap-over-ip", f"listen:{port}", "--wait-for-reader", "--rate", "top", "--pcap-out", path)
        reader = Tcp(port)
        reader.rest()
        reader.close()
        self.balance(r.end(1, [path, FULL]), error=(0, 3000), no_reader=(0, 3000))
        read_pcap(path)

    def test_file_size_limit(self):
        """ulimit -f: the same, and no signal ends the process."""
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500000, 1500000))
        path = self.at("o.pcap")
        self.balance(self.run_it("replay", self.pcap, "--pcap-out", path, preexec_fn=limit, code=1, says=[path, "File too large"]),
                     error=(0, 3000))
        self.assertFalse(os.path.exists(path))
        r = self.live("--pcap-out", path, preexec_fn=limit, code=1, says=[path, "File too large"])
        self.balance(r, error=(0, 64))
        self.assertGreater(len(read_pcap(path)), 0)

    def test_dev_full(self):
        for where, flag in (("/dev/full", "--pcap-out"), ("-", "--pcap-out"), ("-", "--fifo")):
            with open("/dev/full", "wb") as full:
                self.run_it("replay", self.pcap, flag, where, "--rate", "top", stdout=full, code=1, says=FULL)
        with open("/dev/full", "wb") as full:
            self.run_it("replay", self.pcap, "--port", "null", "--rate", "top", stdout=full, code=1,
                        says="cannot write to standard output")
        self.run_it("replay", self.pcap, "--port", "null", "--rate", "top", "--pcap-out", "/dev/full", code=1, says=["/dev/full", FULL])

    def test_no_folder(self):
        """What cannot be opened is said before a packet goes anywhere."""
        for flag in ("--pcap-out", "--pcapng-out", "--truth", "--manifest", "--fifo", "--control"):
            args = [] if flag in ("--pcap-out", "--pcapng-out", "--fifo") else ["--pcap-out", self.at("o.pcap")]
            self.run_it("replay", self.pcap, flag, "/nowhere/at/all", *args, code=1, says="/nowhere/at/all", stats=False)
            self.assertFalse(os.path.exists(self.at("o.pcap")), flag)


class Killed(Faults):
    def test_live(self):
        """Files grow in place: after a kill at any time they hold whole packets and rows but for the last, and others read them."""
        rng = random.Random(1)
        path = make_pcap(self.at("a.pcap"), steady(500, payload=bytes(300)))
        end, n_killed, n_packets = time.monotonic() + SECONDS / 2, 0, 0
        while time.monotonic() < end or n_killed < 3:
            out, ng, truth = (self.at(f"o{n_killed % 4}.{e}") for e in ("pcap", "pcapng", "csv"))
            r = self.start("replay", path, "--session-split", "gap=0.05s", "--port", "null", "--rate", rng.choice(["top", "20kpps"]), "--loop", 0,
                           "--pcap-out", out, "--pcapng-out", ng, "--truth", truth, "--comments")
            self.wait_for("the first packets", lambda: r.gone() or os.path.exists(out) and os.path.getsize(out) > 24)
            time.sleep(rng.random() * 0.7)
            r.signal(signal.SIGKILL)
            r.end(-signal.SIGKILL)
            packets = read_pcap(out, whole=False)
            n_packets += len(packets)
            # As every reader takes it: whole packets, and at most one cut behind them.
            self.assertLess(os.path.getsize(out) - 24 - sum(16 + len(p[2]) for p in packets), 16 + 400)
            n = count_cut(self, out)
            self.assertIn(n, (len(packets), None))
            count_cut(self, ng)
            with open(truth, encoding="utf-8") as f:
                text = f.read()
            whole = text[:text.rfind("\n") + 1]
            with open(truth, "w", encoding="utf-8") as f:
                f.write(whole)
            if whole:
                self.truth(truth)
            self.assertLess(len(text) - len(whole), 400)
            for p in (out, ng, truth):
                os.unlink(p)
            n_killed += 1
        self.assertGreater(n_packets, 0)
        print(f"{n_killed} live runs killed, {n_packets} packets in their files")

    def test_virtual(self):
        """The old files stay to the byte until the new ones are put in their place, whole."""
        rng = random.Random(2)
        pcap = make_pcap(self.at("a.pcap"), steady(20000, payload=bytes(300)))
        names = ["o.pcap", "o.pcapng", "t.csv"]
        old = {n: f"{n} before".encode() for n in names}
        end, n_killed, n_whole, longest = time.monotonic() + SECONDS / 2, 0, 0, 0.8
        while time.monotonic() < end or n_killed < 3:
            for n, data in old.items():
                with open(self.at(n), "wb") as f:
                    f.write(data)
            r = self.start("replay", pcap, "--clones", 3, "--pcap-out", self.at("o.pcap"), "--pcapng-out", self.at("o.pcapng"),
                           "--truth", self.at("t.csv"))
            time.sleep(rng.random() * longest)
            r.signal(signal.SIGKILL)
            r.end((-signal.SIGKILL, 0))
            longest = min(5, longest * (0.9 if r.p.returncode == 0 else 1.1))
            for n in names:
                with open(self.at(n), "rb") as f:
                    data = f.read()
                if data != old[n]:
                    n_whole += 1
                    self.assertEqual({"o.pcap": lambda p: len(read_pcap(p)), "o.pcapng": pcapng_packets,
                                      "t.csv": lambda p: sum(int(x["packets_fwd"]) for x in self.truth(p))}[n](self.at(n)), 60000)
            for n in os.listdir(self.folder.name):
                if ".tmp" in n:
                    os.unlink(self.at(n))
            n_killed += 1
        print(f"{n_killed} runs into files killed, {n_whole} files were in place by then")


def count_cut(test, path):
    """capinfos' count of a capture whose last packet may be cut: it says so, and counts those before it."""
    try:
        return count_with("capinfos", path)
    except AssertionError as e:
        test.assertRegex(str(e), "cut short|appears to have been cut")
        r = subprocess.run(["capinfos", "-TMrc", path], capture_output=True, text=True, check=False)
        return int(r.stdout.split()[-1])


if __name__ == "__main__":
    main()
