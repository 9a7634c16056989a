#!/usr/bin/python3
"""--payload tls from outside: payload that no token says stands in TLS records and QUIC packets on the ports that spoke them in the captures,
and what is sent again is the same. Streams are put together here without netssm's code; tshark reads them, too.

usage: tls_fill.py NETSSM CORPUS_MAKE
Exit 77 where tshark or NETSSM_CORPUS is missing; the rest was checked then."""
import collections
import glob
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

CORPUS_MAKE = os.path.abspath(sys.argv.pop()) if len(sys.argv) == 3 else sys.exit(__doc__)
NETSSM = os.path.abspath(sys.argv.pop())
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SAMPLES = os.path.join(ROOT, "samples")
FLOW = '{"kind":"flow","version":2,"payload":"none","prefix":0,"identity":"keep"}'
TINY = ["--d-model", "16", "--n-layer", "1", "--d-state", "16", "--headdim", "16", "--chunk-size", "16", "--batch", "2",
    "--seq-tokens", "32", "--threads", "1", "--progress", "none"]
FIN, SYN, PSH, ACK = 1, 2, 8, 16
CLIENT, SERVER = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
skipped = []


def netssm(*args, **how):
    return subprocess.run([NETSSM, *args], **{"capture_output": True, "text": True, "timeout": 300} | how)


def done(*args):
    r = netssm(*args)
    assert r.returncode == 0, (args, r.stderr)
    return r


# --- captures --------------------------------------------------------------------------------------------------------------


def checksum(data):
    s = sum(struct.unpack(f">{len(data + bytes(len(data) % 2)) // 2}H", data + bytes(len(data) % 2)))
    while s >> 16:
        s = (s & 0xFFFF) + (s >> 16)
    return ~s & 0xFFFF


def frame(src, dst, proto, segment, at):
    pseudo = src + dst + struct.pack(">BBH", 0, proto, len(segment))
    c = struct.pack(">H", checksum(pseudo + segment) or 0xFFFF)
    segment = segment[:at] + c + segment[at + 2:]
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 7, 0x4000, 64, proto, 0) + src + dst
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    return bytes([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]) + head + segment


class Tcp:
    """A connection whose packets are appended to out."""

    def __init__(self, out, sport, dport):
        self.out, self.port, self.nxt = out, (sport, dport), [0xFFFFFE00, 5000]  # the client's numbers wrap
        self.send(0, b"", SYN)
        self.send(1, b"", SYN | ACK)
        self.send(0, b"", ACK)

    def send(self, side, payload, flags=ACK, seq=None):
        where = self.nxt[side] if seq is None else seq
        seg = struct.pack(">HHIIBBHHH", self.port[side], self.port[1 - side], where % 2**32,
            self.nxt[1 - side] % 2**32 if flags & ACK else 0, 0x50, flags, 500, 0, 0) + payload
        self.out.append(frame(*((CLIENT, SERVER), (SERVER, CLIENT))[side], 6, seg, 16))
        if seq is None:
            self.nxt[side] += len(payload) + bool(flags & (SYN | FIN))
        return where


def udp(out, side, sport, dport, payload):
    ports = ((sport, dport), (dport, sport))[side]
    out.append(frame(*((CLIENT, SERVER), (SERVER, CLIENT))[side], 17, struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload, 6))


HELLO = bytes([22, 3, 1, 2, 0, 1]) + bytes(511)


def connection(out, sport, dport, first):
    t = Tcp(out, sport, dport)
    t.send(0, first, PSH | ACK)
    t.send(1, bytes(1448))
    again = t.send(1, bytes(1448))
    t.send(1, bytes(700), PSH | ACK)
    t.send(1, bytes(1448), seq=again)
    t.send(1, bytes(1000), seq=again + 900)  # in other pieces
    t.send(0, bytes(64), PSH | ACK)
    t.send(0, bytes(3), PSH | ACK)  # too short for a record
    t.send(0, bytes(300), PSH | ACK)
    for i in range(60):
        if i == 40:  # late
            late = t.nxt[1]
            t.nxt[1] += 1448
        else:
            t.send(1, bytes(1448))
    t.send(1, bytes(1448), seq=late)
    t.send(1, bytes(44), PSH | ACK)
    t.send(0, bytes(300), PSH | ACK, seq=t.nxt[0] - 300)
    t.send(0, b"", FIN | ACK)
    t.send(1, b"", FIN | ACK)
    t.send(0, b"", ACK)


def quic_first(n):
    return bytes([0xC3, 0, 0, 0, 1, 8]) + bytes(range(8)) + bytes([0, 0, 0x44, 0x80]) + bytes(n - 18)


def made():
    out = []
    connection(out, 40000, 9999, HELLO)
    connection(out, 40001, 443, HELLO)
    connection(out, 40002, 8443, b"GET / HTTP/1.1" + bytes(400))  # well-known, but not here
    connection(out, 40003, 443, bytes([22, 3, 1, 0, 0x2D, 1]) + bytes(44))
    for sport, dport in ((50000, 443), (50001, 4433)):
        udp(out, 0, sport, dport, quic_first(1200))
        for first in (bytes([0xC1, 0, 0, 0, 1, 0, 8]) + bytes(8) + bytes([0, 0x44, 0x90]), bytes([0xE1, 0, 0, 0, 1, 0, 8])):
            udp(out, 1, sport, dport, first + bytes(1200 - len(first)))
        if dport == 4433:  # a client with an id of its own, longer than the prefix
            udp(out, 1, sport, dport, bytes([0xE1, 0, 0, 0, 1, 20]) + bytes(1194))
        udp(out, 0, sport, dport, bytes([0xE0, 0, 0, 0, 1, 8]) + bytes(1194))
        for i in range(6):
            udp(out, i % 2, sport, dport, bytes([0x41]) + bytes(80 + 200 * i))
    udp(out, 0, 50002, 5000, bytes(1200))
    return out


def write_pcap(path, frames):
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for i, x in enumerate(frames):
            f.write(struct.pack("<IIII", 1700000000 + i // 1000, i % 1000 * 1000, len(x), len(x)) + x)


def read_pcap(path):
    with open(path, "rb") as f:
        blob = f.read()
    at, out = 24, []
    while at < len(blob):
        (cap,) = struct.unpack_from("<I", blob, at + 8)
        out.append(blob[at + 16:at + 16 + cap])
        at += 16 + cap
    return out


def transport(f):
    """(proto, (address, port) of the source, of the destination, transport header and payload), or None"""
    if f[12:14] == b"\x08\x00" and len(f) >= 34:
        at, n, proto, a, b = 14 + (f[14] & 15) * 4, struct.unpack_from(">H", f, 16)[0], f[23], f[26:30], f[30:34]
        l4 = f[at:14 + n]
        if struct.unpack_from(">H", f, 20)[0] & 0x3FFF:
            return None
    elif f[12:14] == b"\x86\xdd" and len(f) >= 54:
        proto, a, b, l4 = f[20], f[22:38], f[38:54], f[54:54 + struct.unpack_from(">H", f, 18)[0]]
    else:
        return None
    if proto not in (6, 17) or len(l4) < (20 if proto == 6 else 8):
        return None
    sport, dport = struct.unpack_from(">HH", l4)
    return proto, (a, sport), (b, dport), l4


class Stream:
    """One direction of a connection, from its SYN on."""

    def __init__(self, isn):
        self.isn, self.byte, self.n_again = isn, {}, 0

    def take(self, seq, payload, same):
        at = (seq - self.isn - 1) % 2**32
        if at > 2**31:
            return
        for i, b in enumerate(payload, at):
            if i in self.byte:
                self.n_again += 1
                same(self.byte[i], b)
            self.byte[i] = b

    def bytes(self):
        """What of it there is without a hole from its begin on."""
        out = bytearray()
        while len(out) in self.byte:
            out.append(self.byte[len(out)])
        return bytes(out)


def streams(frames, same):
    """{(source, destination): Stream} of connections seen from their SYN on; ports that are used anew are told apart."""
    now, all_of = {}, []
    for f in frames:
        t = transport(f)
        if t is None or t[0] != 6:
            continue
        _, a, b, l4 = t
        seq, flags = struct.unpack_from(">I", l4, 4)[0], l4[13]
        if flags & SYN and ((a, b) not in now or now[a, b].isn != seq):
            now[a, b] = Stream(seq)
            all_of.append((a, b, bool(flags & ACK), now[a, b]))
        if (a, b) in now:
            now[a, b].take(seq + bool(flags & SYN), l4[(l4[12] >> 4) * 4:], same)
    return all_of


def records(data):
    """[(type, version, length)], and how many bytes of the last one are still to come."""
    out, at = [], 0
    while at + 5 <= len(data):
        out.append(struct.unpack_from(">BHH", data, at))
        at += 5 + out[-1][2]
    return out, at - len(data)


# --- tests -----------------------------------------------------------------------------------------------------------------


class TlsFill(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="netssm-tls-")
        cls.addClassCleanup(shutil.rmtree, cls.dir, True)
        write_pcap(cls.path("made.pcap"), made())
        for name, *args in (("none", "--payload", "none"), ("prefix",), ("full", "--payload", "full"),
                ("pool", "--identity", "pool")):
            done("prepare", "--captures", cls.path("made.pcap"), "--label", "x", "--out", cls.path(name + ".nssm"), *args)
        cls.web = cls.path("web.nssm")
        os.mkdir(cls.path("web"))
        for i in range(1, 13):  # whole frames: decode writes what was captured
            done("replay", f"{SAMPLES}/web-{i:03}.pcap.gz", "--pad", "--pcap-out", cls.path("web", f"{i:03}.pcap"))
        done("prepare", "--captures", cls.path("web"), "--label", "web", "--out", cls.web)

    @classmethod
    def path(cls, *names):
        return os.path.join(cls.dir, *names)

    def decode(self, corpus, *more, fill="tls", name="out.pcap"):
        done("decode", corpus, "--pcap-out", self.path(name), "--payload", fill, *more)
        return self.path(name)

    def same(self, old, new):
        self.assertEqual(old, new, "sent again, with other bytes")

    def check_records(self, data, answers, hello=True):
        got, rest = records(data)
        for kind, version, length in got:
            self.assertIn(kind, (20, 22, 23))
            self.assertIn(version, (0x0301, 0x0303))
            self.assertTrue(0 < length <= 16384 + 256, length)
        if hello and len(data) > 0:
            self.assertEqual((got[0][0], data[5]), (22, 2 if answers else 1))
            self.assertEqual([k for k, *_ in got[1:] if k == 22], [])
            if len(got) > 1:
                self.assertEqual([k for k, *_ in got[1:2]], [20])
        return rest

    def test_ports_are_learned(self):
        j = json.loads(done("info", "--json", self.path("none.nssm")).stdout)
        self.assertEqual(j["encrypted"],
            {"version": 1, "tcp": [[443, 2, 0], [8443, 0, 1], [9999, 1, 0]], "udp": [[443, 1, 0], [4433, 1, 0]]})
        text = done("info", self.path("none.nssm")).stdout
        self.assertIn("TLS 443 (2 of 2 flows), not 8443 (0 of 1 flows), 9999 (1 of 1 flows); QUIC 443 (1 of 1 flows), 4433", text)

    def test_streams_are_records(self):
        for corpus in ("none", "prefix", "pool"):
            n_tls = 0
            for a, b, answers, s in streams(read_pcap(self.decode(self.path(corpus + ".nssm"))), self.same):
                data, port = s.bytes(), (a if answers else b)[1]
                self.assertEqual(len(data), len(s.byte), "no hole")
                self.assertGreater(s.n_again, 0)
                if port == 8443:
                    self.assertNotEqual(data[:2], b"\x16\x03")
                    continue
                n_tls += 1
                rest = self.check_records(data, answers)
                if answers:
                    self.assertGreater(max(n for *_, n in records(data)[0]), 1448, "a long flight has long records")
                else:
                    self.assertLess(rest, 100, "all but what 3 bytes began")
            self.assertEqual(n_tls, 6)

    def test_a_server_repeats_the_session_id(self):
        s = {(a[1], b[1]): x.bytes() for a, b, _, x in streams(read_pcap(self.decode(self.path("none.nssm"))), self.same)}
        self.assertEqual(s[443, 40001][44:76], s[40001, 443][44:76])
        self.assertNotEqual(s[443, 40001][44:76], s[9999, 40000][44:76])

    def test_what_is_kept_stays(self):
        want, got = read_pcap(self.path("made.pcap")), read_pcap(self.decode(self.path("full.nssm")))
        self.assertEqual(want, got)
        for w, g in zip(want, read_pcap(self.decode(self.path("prefix.nssm")))):
            if w[23] == 17:
                self.assertEqual(w[42:54], g[42:54])

    def test_quic(self):
        seen = collections.defaultdict(list)
        for f in read_pcap(self.decode(self.path("none.nssm"))):
            if f[23] == 17:
                _, a, b, l4 = transport(f)
                seen[a[1], b[1]].append(l4[8:])
        for sport, port in ((50000, 443), (50001, 4433)):
            up, down = seen[sport, port], seen[port, sport]
            self.assertEqual([p[0] >> 4 for p in up[:2]], [0xC, 0xE])
            self.assertEqual([p[0] >> 4 for p in down[:2]], [0xC, 0xE])
            self.assertEqual(up[0][1:6], b"\0\0\0\1\x08")
            self.assertEqual(up[0][14:16] + up[0][16:18], b"\0\0" + struct.pack(">H", 0x4000 | 1200 - 18))
            self.assertEqual(down[0][1:7], b"\0\0\0\1\0\x08")
            ident = down[0][7:15]
            self.assertEqual(up[1][6:14], ident, "the server's own id")
            self.assertEqual({p[0] >> 6 for p in up[2:] + down[2:]}, {1})
            self.assertEqual({p[1:9] for p in up[2:]}, {ident})
        self.assertNotEqual(seen[50002, 5000][0][0] >> 4, 0xC)
        # Where the prefix tells the lengths, what it leaves open follows from them.
        up = [transport(f)[3][8:] for f in read_pcap(self.decode(self.path("prefix.nssm"))) if f[23] == 17][0]
        self.assertEqual(up[:12], quic_first(1200)[:12])
        self.assertEqual(up[14:18], b"\0\0" + struct.pack(">H", 0x4000 | 1200 - 18))
        (down,) = (p for p in (transport(f)[3][8:] for f in read_pcap(self.path("out.pcap")) if f[23] == 17) if p[5] == 20)
        self.assertEqual((down[:6], down[26]), (bytes([0xE1, 0, 0, 0, 1, 20]), 8))

    def test_random_is_the_same_again_too(self):
        found = streams(read_pcap(self.decode(self.path("none.nssm"), fill="random")), self.same)
        self.assertEqual(len({s.bytes()[:64] for *_, s in found}), 8, "each direction its own")

    def test_samples(self):
        n = n_again = 0
        for a, b, answers, s in streams(read_pcap(self.decode(self.web)), self.same):
            data = s.bytes()
            n_again += s.n_again
            if (a if answers else b)[1] == 443 and len(data) > 0:
                n += 1
                self.assertEqual(self.check_records(data, answers), 0, "it ends with a record")
        self.assertGreater(n, 40)
        self.assertGreater(n_again, 1000)

    def test_samples_by_tshark(self):
        if shutil.which("tshark") is None:
            skipped.append("no tshark")
            return
        self.by_tshark(self.decode(self.web), exact=True)

    def by_tshark(self, path, exact):
        """No malformed TLS; the lengths of the records that tshark finds are the payload."""
        r = subprocess.run(["tshark", "-n", "-r", path, "-Y", "tcp.port==443 && tcp.len>0", "-T", "fields", "-e", "tcp.stream", "-e",
            "tcp.srcport", "-e", "tcp.len", "-e", "tls.record.length", "-e", "tls.record.opaque_type", "-e", "_ws.malformed", "-e",
            "tcp.analysis.retransmission", "-e", "tcp.analysis.spurious_retransmission", "-e", "_ws.expert.severity"],
            capture_output=True, text=True, timeout=600, check=True)
        sent, found, n = collections.Counter(), collections.Counter(), 0
        for line in r.stdout.splitlines():
            stream, sport, length, lengths, _, malformed, again, spurious, severity = line.split("\t")
            self.assertEqual(malformed, "", line)
            self.assertNotIn("8388608", severity.split(","), line)  # an error
            n += 1
            got = [int(x) for x in lengths.split(",") if x]
            if exact:
                found[stream, sport == "443"] += sum(x + 5 for x in got)
                sent[stream, sport == "443"] += int(length) if not again and not spurious else 0
        self.assertGreater(n, 100)
        if exact:
            off = {k: (found[k], sent[k]) for k in sent if found[k] != sent[k]}
            self.assertLessEqual(len(off), len(sent) // 50, off)
        return n

    def test_same_seed_same_bytes(self):
        def blob(path):
            with open(path, "rb") as f:
                return f.read()

        first = blob(self.decode(self.web, name="1.pcap"))
        self.assertEqual(first, blob(self.decode(self.web, name="2.pcap")))
        self.assertNotEqual(first, blob(self.decode(self.web, "--seed", "2", name="2.pcap")))
        done("decode", self.web, "--out-dir", self.path("d"), "--payload", "tls")
        alone = collections.Counter(f for p in glob.glob(self.path("d", "*.pcap")) for f in read_pcap(p))
        self.assertEqual(alone, collections.Counter(read_pcap(self.path("1.pcap"))), "alone and among others")

    def test_it_comes_with_the_model(self):
        model = self.path("m")
        done("train", "--corpus", self.path("none.nssm"), "--corpus", self.path("none.nssm"), "--steps", "2", "--save-every", "0", *TINY,
            "--out", model)
        rows = json.loads(done("info", "--json", model).stdout)["encrypted"]
        self.assertEqual(rows["tcp"], [[443, 4, 0], [8443, 0, 2], [9999, 2, 0]], "two corpora's flows")
        got = []
        for threads, lanes in ((1, 1), (2, 4)):
            r = done("generate", "--model", model, "--label", "x", "--sessions", "4", "--packets", "40", "--tokens", "20000", "--seed", "3",
                "--payload", "tls", "--threads", str(threads), "--lanes", str(lanes), "--pcap-out", self.path("g.pcap"))
            self.assertNotIn("encrypted", r.stderr)
            with open(self.path("g.pcap"), "rb") as f:
                got.append(f.read())
        self.assertEqual(got[0], got[1], "whatever threads and lanes")

    def test_what_is_older(self):
        old = self.path("old.nssm")
        subprocess.run([CORPUS_MAKE, old, FLOW, self.path("made.pcap") + "=x"], check=True, timeout=60)
        self.assertIn("which are encrypted was not learned", done("info", old).stdout)
        r = done("decode", old, "--payload", "tls", "--pcap-out", self.path("old.pcap"))
        self.assertEqual(r.stderr.count("\n"), 1)
        self.assertIn(f"--payload: tls: {old} does not say which ports are encrypted", r.stderr)
        self.assertEqual(done("decode", old, "--payload", "random", "--pcap-out", self.path("old2.pcap")).stderr, "")
        kind = {(a if answers else b)[1]: s.bytes()[:2] == b"\x16\x03" for a, b, answers, s in
            streams(read_pcap(self.path("old.pcap")), self.same)}
        self.assertEqual(kind, {443: True, 8443: True, 9999: False})

    def test_raw_has_none(self):
        done("prepare", "--captures", self.path("made.pcap"), "--label", "x", "--codec", "raw", "--out", self.path("raw.nssm"))
        r = netssm("decode", self.path("raw.nssm"), "--payload", "tls", "--pcap-out", self.path("raw.pcap"))
        self.assertEqual(r.returncode, 1, r.stderr)
        self.assertRegex(r.stderr, r"--payload: tls: .*raw\.nssm is of codec raw, which knows no flows; expected zeros or random")
        self.assertFalse(os.path.exists(self.path("raw.pcap")))

    def test_corpus(self):
        folder = os.environ.get("NETSSM_CORPUS")
        if not folder or shutil.which("tshark") is None:
            skipped.append("NETSSM_CORPUS is unset or there is no tshark")
            return
        out = self.path("corpus.nssm")
        done("prepare", "--captures", os.path.join(folder, "pcaps"), "--labels", os.path.join(folder, "labels.csv"), "--out", out)
        n = self.by_tshark(self.decode(out, name="corpus.pcap"), exact=False)
        # A session at a time: several have the same addresses and ports.
        n_again = n_streams = n_whole = 0
        done("decode", out, "--out-dir", self.path("corpus"), "--payload", "tls")
        for path in glob.glob(self.path("corpus", "*.pcap")):
            for a, b, answers, s in streams(read_pcap(path), self.same):
                data = s.bytes()
                n_again += s.n_again
                if (a if answers else b)[1] == 443 and len(data) == len(s.byte) > 0:
                    n_streams += 1
                    n_whole += self.check_records(data, answers, hello=len(data) >= 50) == 0
        self.assertGreater(n_again, 50000)
        self.assertGreater(n_streams, 100)
        print(f"{n} segments of real captures' TLS flows, none malformed; {n_again} bytes sent again, all the same; of {n_streams} "
            f"whole streams {n_whole} end with a record")


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    for why in skipped:
        print("SKIP:", why)
    sys.exit(1 if not result.wasSuccessful() else 77 if skipped else 0)
