"""A model that is asked for a round trip and a loss gives it: trained on made-up sessions whose round trip and loss are known.

usage: steering.py NETSSM"""
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile

NETSSM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else sys.exit(__doc__)
SESSIONS = 400
EACH = 96  # made for each value asked: a session has some 16 segments, so one's loss says little
CLIENT, SERVER = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 3])
FIN, SYN, PSH, ACK = 1, 2, 8, 16


def checksum(data):
    data += bytes(len(data) % 2)
    s = sum(struct.unpack(f">{len(data) // 2}H", data))
    s = (s & 0xFFFF) + (s >> 16)
    return ~((s & 0xFFFF) + (s >> 16)) & 0xFFFF


def frame(up, port, seq, ack, flags, size):
    src, dst = (CLIENT, SERVER) if up else (SERVER, CLIENT)
    ports = (port, 80) if up else (80, port)

    def tcp(check):
        return struct.pack(">HHIIBBHHH", *ports, seq, ack, 0x50, flags, 500, check, 0) + bytes(size)

    def ip(check):
        return struct.pack(">BBHHHBBH", 0x45, 0, 40 + size, 0, 0x4000, 64, 6, check) + src + dst
    macs = (b"\x02\0\0\0\0\x03", b"\x02\0\0\0\0\x02")
    check = checksum(src + dst + struct.pack(">HH", 6, 20 + size) + tcp(0))
    return b"".join(macs if up else macs[::-1]) + b"\x08\0" + ip(checksum(ip(0))) + tcp(check)


def session(path, rng):
    """A connection that sends up to 20 segments and waits for each; what is lost comes again two round trips later."""
    rtt, loss = 0.005 * 64 ** rng.random(), rng.choice((0, 0.1, 0.3))
    port, now, packets = rng.randrange(30000, 60000), 0.0, []

    def put(gap, *what):
        nonlocal now
        now += gap
        packets.append((now, frame(what[0], port, *what[1:])))

    def far():
        return rtt * (1 + 0.05 * rng.random())
    seq, their = rng.randrange(1 << 31), rng.randrange(1 << 31)
    put(0, True, seq, 0, SYN, 0)
    put(far(), False, their, seq + 1, SYN | ACK, 0)
    seq, their = seq + 1, their + 1
    put(5e-5, True, seq, their, ACK, 0)
    for _ in range(rng.randrange(12, 21)):
        put(1e-4, True, seq, their, PSH | ACK, 100)
        if rng.random() < loss:
            put(2 * far(), True, seq, their, PSH | ACK, 100)
        seq += 100
        put(far(), False, their, seq, ACK, 0)
    put(1e-4, True, seq, their, FIN | ACK, 0)
    put(far(), False, their, seq + 1, FIN | ACK, 0)
    put(5e-5, True, seq + 1, their + 1, ACK, 0)
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
        for at, data in packets:
            f.write(struct.pack("<IIII", int(at), int(at % 1 * 1e9), len(data), len(data)) + data)


def netssm(*args):
    return subprocess.run([NETSSM, *args], check=True, capture_output=True, text=True).stdout


def measured(tmp, flag, values, key, middle):
    out = []
    for v in values:
        folder = os.path.join(tmp, f"{flag}{v}")
        netssm("generate", "--model", os.path.join(tmp, "model"), "--sessions", str(EACH), "--packets", "100", "--seed", "1", "--progress", "none",
               flag, v, "--out-dir", folder)
        got = [json.loads(netssm("info", "--json", os.path.join(folder, f)))["measures"][key] for f in os.listdir(folder) if ".pcap" in f]
        got = [g for g in got if g is not None]
        assert len(got) >= EACH * 2 // 3, f"{flag} {v}: {len(got)} of {EACH} sessions can be measured"
        out.append(middle(got))
        print(f"{flag} {v}: {middle.__name__} {out[-1]:.4g} of {len(got)} sessions")
    return out


def main():
    with tempfile.TemporaryDirectory() as tmp:
        rng = random.Random(1)
        captures = os.path.join(tmp, "captures")
        os.mkdir(captures)
        for i in range(SESSIONS):
            session(os.path.join(captures, f"{i:03d}.pcap"), rng)
        corpus = os.path.join(tmp, "c.nssm")
        netssm("prepare", "--captures", captures, "--label", "made", "--payload", "none", "--identity", "pool", "--conditions",
               "--out", corpus, "--progress", "none")
        print(netssm("info", corpus))
        netssm("train", "--corpus", corpus, "--d-model", "48", "--n-layer", "2", "--d-state", "16", "--headdim", "16", "--batch", "4",
               "--seq-tokens", "256", "--lr", "5e-3", "--condition-dropout", "0.5", "--steps", "2500", "--out", os.path.join(tmp, "model"),
               "--progress", "none")
        rtt = measured(tmp, "--rtt", ["10ms", "50ms", "250ms"], "rtt_s", statistics.median)
        loss = measured(tmp, "--loss", ["0%", "10%", "30%"], "loss", statistics.mean)
    for asked, got in zip((0.01, 0.05, 0.25), rtt):
        assert asked / 1.5 <= got <= asked * 1.5, (asked, got)
    # Of 16 segments and as many acknowledgements; 0.09 and 0.23 of the segments are sent again.
    assert loss[0] < 0.06 and loss[0] + 0.04 < loss[1] < loss[2] - 0.04, loss


if __name__ == "__main__":
    main()
