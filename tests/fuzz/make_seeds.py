"""Makes the binary seeds of the fuzzers: make_seeds.py FOLDER (writes FOLDER/NAME/…). The same bytes every time."""
import os
import struct
import sys
import zlib

ETH = bytes.fromhex("020000000001020000000002")
IP4 = bytes.fromhex("4500001c000100004011000001020304050607081234003500080000")
IP6 = bytes.fromhex("6000000000081140" + "20010db8" + "00" * 11 + "01" + "20010db8" + "00" * 11 + "02"
                    + "1234003500080000")
FRAMES = [ETH + b"\x08\x00" + IP4, ETH + b"\x81\x00\x00\x07\x86\xdd" + IP6]
SLL = bytes.fromhex("0000000100060200000000020000")
SLL2_TAIL = bytes.fromhex("000000000002000104060200000000020000")


def pcap(order, magic, linktype, packets):
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    for i, p in enumerate(packets):
        out += struct.pack(order + "IIII", 1700000000 + i, 999 * i, len(p), len(p) + 10 * i) + p
    return out


def block(order, kind, body):
    n = 12 + len(body)
    return struct.pack(order + "II", kind, n) + body + struct.pack(order + "I", n)


def pcapng(order, packets):
    out = block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    for tsresol in (6, 9, 0x8A):
        options = struct.pack(order + "HHB3xHHqI", 9, 1, tsresol, 14, 8, 0, 0)
        out += block(order, 1, struct.pack(order + "HHI", 1, 0, 65535) + options)
    for i, p in enumerate(packets):
        body = struct.pack(order + "IIIII", i % 3, 396, 12345 + i, len(p), len(p)) + p + b"\0" * (-len(p) % 4)
        out += block(order, 6, body)
    out += block(order, 3, struct.pack(order + "I", len(packets[0])) + packets[0] + b"\0" * (-len(packets[0]) % 4))
    return out


def gz(data):
    z = zlib.compressobj(9, zlib.DEFLATED, 31)
    return z.compress(data) + z.flush()


def capture_seeds():
    yield "us-le.pcap", pcap("<", 0xA1B2C3D4, 1, FRAMES)
    yield "ns-le.pcap", pcap("<", 0xA1B23C4D, 1, FRAMES)
    yield "us-be.pcap", pcap(">", 0xA1B2C3D4, 1, FRAMES)
    yield "ns-be.pcap", pcap(">", 0xA1B23C4D, 1, FRAMES)
    yield "fcs.pcap", pcap("<", 0xA1B2C3D4, 1 | 0x24000000, [f + b"\0\0\0\0" for f in FRAMES])
    yield "le.pcapng", pcapng("<", FRAMES)
    yield "be.pcapng", pcapng(">", FRAMES)
    yield "us-le.pcap.gz", gz(pcap("<", 0xA1B2C3D4, 1, FRAMES))
    yield "le.pcapng.gz", gz(pcapng("<", FRAMES))
    yield "sll.pcap", pcap("<", 0xA1B2C3D4, 113, [SLL + b"\x08\x00" + IP4, b"\0\4" + SLL[2:] + b"\x86\xdd" + IP6])
    yield "sll2.pcap", pcap("<", 0xA1B2C3D4, 276, [b"\x08\x00" + SLL2_TAIL + IP4])
    yield "raw.pcap", pcap("<", 0xA1B2C3D4, 101, [IP4, IP6])
    yield "ip4.pcap", pcap("<", 0xA1B2C3D4, 228, [IP4])
    yield "ip6.pcap", pcap("<", 0xA1B2C3D4, 229, [IP6])
    yield "null.pcap", pcap("<", 0xA1B2C3D4, 0, [b"\2\0\0\0" + IP4, b"\x1e\0\0\0" + IP6])
    yield "loop.pcap", pcap(">", 0xA1B2C3D4, 108, [b"\0\0\0\2" + IP4, b"\0\0\0\x18" + IP6])


def main():
    for name, seeds in {"capture": capture_seeds}.items():
        folder = os.path.join(sys.argv[1], name)
        os.makedirs(folder, exist_ok=True)
        for file, data in seeds():
            with open(os.path.join(folder, file), "wb") as f:
                f.write(data)


main()
