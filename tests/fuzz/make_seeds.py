"""Makes the binary seeds of the fuzzers: make_seeds.py FOLDER (writes FOLDER/NAME/…). The same bytes every time."""
import json
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


def reader_seeds():
    """Two captures of the same length, and how they are read."""
    for i, (name, data) in enumerate(capture_seeds()):
        yield name, data + data + bytes([i * 37 & 0xFF])


def corpus(n_tokens, want_even):
    """The layout that model/corpus.c describes, two sessions, written without it."""
    names = [str(i) for i in range(256)] + ["<|unk|>", "<|endoftext|>", "<|padding|>", "<|pkt|>", "<|web|>"]
    special = [{"id": i, "content": t, "special": True} for i, t in enumerate(names) if i >= 256]
    tokenizer = {"version": "1.0", "added_tokens": special,
                 "model": {"type": "WordLevel", "vocab": {t: i for i, t in enumerate(names)}, "unk_token": "<|unk|>"}}
    label = {"label": "web", "sessions": 2, "packets": 2, "flows": 1, "tokens": n_tokens, "cut": 0, "time_back": 0,
             "skipped": {"not_ip": 3}, "iat": [1, 0, 2]}
    text = json.dumps({"codec": {"kind": "raw", "version": 1, "pkt_len": 128, "compat": "none"}, "tokenizer": tokenizer,
                       "labels": [label], "made_by": {"netssm": "seed"}}, separators=(",", ":")).encode()
    text += b" " * ((len(text) % 2 == 0) != want_even)
    tokens = [260] + [i % 256 for i in range(n_tokens - 2)] + [257]
    raw = struct.pack(f"<{n_tokens}H", *tokens)
    rows = b"".join(struct.pack("<QQQQIIII", first, n, 1, 2, 0, 1, 1, 0) for first, n in ((0, 5), (5, n_tokens - 5)))
    counts = struct.pack(f"<{len(names)}Q", *(tokens.count(i) for i in range(len(names))))
    blocks = [(raw, 2), (struct.pack("<I", zlib.crc32(raw)), 4), (rows, 48), (counts, 8), (text, 1)]
    body, table = b"", b""
    for i, (data, each) in enumerate(blocks):
        gap = -(192 + len(body)) % 64
        body += b"\0" * gap
        table += struct.pack("<QQII", 192 + len(body), len(data) // each, zlib.crc32(data) if i else 0, 0)
        body += data
    head = lambda crc: b"NSSMCORP" + struct.pack("<IIQ", 1, crc, 192 + len(body)) + table + bytes(8)
    return head(zlib.crc32(head(0))).ljust(192, b"\0") + body


def corpus_seeds():
    """Of even length: fuzz_corpus.c makes the checksums right after every change; of odd length it leaves them."""
    yield "even", corpus(40, True)
    yield "odd", corpus(41, False)


def token_seeds():
    tcp = bytes.fromhex("4500003c00014000400600000102030405060708" "12340050000000010000000" "2a01200000000000002")
    tcp += bytes.fromhex("0405b4" "0402" "080a0000000900000000" "01" "030307")
    for name, frame in {"ip4": FRAMES[0], "ip6": FRAMES[1], "tcp": ETH + b"\x08\x00" + tcp}.items():
        yield name, b"\x4a\x00" + frame
        yield name + "-paper", b"\x4a\x03" + frame + bytes(54) + b"\xff\x03" + frame


def summed(data, sum16):
    """data with its checksum at offset 2: the inverted sum of itself and sum16."""
    total = sum16 + sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return data[:2] + struct.pack(">H", 0xFFFF ^ total) + data[4:]


def neigh_seeds():
    """As fuzz_neigh.c reads them: flags, then frames behind their lengths."""
    us, dut = bytes.fromhex("020000000002"), bytes.fromhex("0200000000bb")
    net = bytes.fromhex("20010db8" + "00" * 11)
    router = bytes.fromhex("fe80" + "00" * 13 + "01")

    def arp(op, spa, tha, tpa, dst, tags=b""):
        return dst + dut + tags + bytes.fromhex("08060001080006040000")[:-1] + bytes([op]) + dut + spa + tha + tpa

    def icmp6(src, dst, body, hop=255):
        words = lambda b: sum(struct.unpack(f">{len(b) // 2}H", b))
        body = summed(body, words(src + dst) + 58 + len(body))
        return us + dut + b"\x86\xdd" + struct.pack(">IHBB", 0x60000000, len(body), 58, hop) + src + dst + body

    gateway, client, self4, none = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 77]), bytes([10, 0, 0, 9]), bytes(6)
    echo = summed(bytes([8, 0, 0, 0, 0, 1, 0, 1]) + b"ping", 0)
    ip4 = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(echo), 1, 0, 64, 1, 0) + gateway + self4
    ip4 = ip4[:8] + summed(ip4[8:10] + b"\0\0" + ip4[:8] + ip4[12:], 0)[:4] + ip4[12:]
    mac_option = bytes([1, 1]) + dut
    frames = {
        "arp": [arp(1, gateway, none, client, b"\xff" * 6), arp(2, gateway, us, client, us)],
        "nd": [icmp6(net + b"\5", net + b"\7", bytes([135, 0]) + bytes(6) + net + b"\7" + mac_option),
               icmp6(router, net + b"\1", bytes([136, 0, 0, 0, 0x60, 0, 0, 0]) + router + b"\2" + mac_option[1:])],
        "probe": [icmp6(bytes(16), bytes.fromhex("ff02" + "00" * 9 + "01ff000007"),
                        bytes([135, 0]) + bytes(6) + net + b"\7")],
        "echo": [us + dut + b"\x08\x00" + ip4 + echo, icmp6(net + b"\5", net + b"\1", bytes([128, 0, 0, 0, 0, 1, 0, 1]), 64)],
    }
    for name, list_of in frames.items():
        yield name, b"\x3c" + b"".join(struct.pack(">H", len(f)) + f for f in list_of)
    tags = bytes.fromhex("88a8000581000006")
    tagged = arp(1, gateway, none, client, b"\xff" * 6, tags)
    yield "tags", b"\x02" + struct.pack(">H", len(tagged)) + tagged


def measure_seeds():
    """As fuzz_measure.c reads them: a first byte, then steps. The frame last sent comes back, twice, and is taken back."""
    sent, received, unsent, expire = 4 << 2, 1, 2, 3
    tcp = bytes.fromhex("45000040000140004006000001020304050607081234005000000001000000025010200000000000") + bytes(range(24))
    udp6 = bytes.fromhex("6000000000251140" + "20010db8" + "00" * 11 + "01" + "20010db8" + "00" * 11 + "02"
                         + "1234003500250001") + bytes(range(29))
    ping = bytes.fromhex("4500002400010000400100000102030405060708" "0800f7fe00010001") + b"12345678"
    frames = {"tcp": ETH + b"\x08\x00" + tcp, "udp6": ETH + b"\x81\x00\x00\x07\x86\xdd" + udp6,
              "ping": ETH + b"\x08\x00" + ping}
    last = b"\xff\xff"
    for name, frame in frames.items():
        steps = [bytes([sent, 0]) + struct.pack(">H", len(frame)) + frame, bytes([received, 0]) + last, bytes([received, 0]) + last,
                 bytes([sent, 1]) + last, bytes([unsent, 0]) + last, bytes([sent, 1]) + last, bytes([expire | 28, 0, 0, 0])]
        for flags, suffix in ((1, ""), (12, "-signed")):
            yield name + suffix, bytes([flags]) + b"".join(steps)


def packet(v, src, dst, proto, body, frag=0, ext=b"", tags=b""):
    """A frame whose IP header has a right checksum; the transport's field is filled by the protocol."""
    field = {6: 16, 17: 6, 1: 2, 58: 2}.get(proto)
    if field is not None and len(body) > field + 1:
        even = body + b"\0" * (len(body) % 2)
        pseudo = src + dst if proto != 1 else b""
        total = sum(struct.unpack(f">{len(pseudo + even) // 2}H", pseudo + even)) + (proto + len(body) if proto != 1 else 0)
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        body = body[:field] + struct.pack(">H", 0xFFFF ^ total) + body[field + 2:]
    if v == 4:
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 7, frag, 64, proto, 0) + src + dst
        ip = ip[:8] + summed(ip[8:10] + b"\0\0" + ip[:8] + ip[12:], 0)[:4] + ip[12:]
        return ETH + tags + b"\x08\x00" + ip + body
    first = {b"": proto}.get(ext, ext[:1] and ext[0])
    ip = struct.pack(">IHBB", 0x60000000, len(ext[1:]) + len(body), first, 64) + src + dst
    return ETH + tags + b"\x86\xdd" + ip + ext[1:] + body


def tape_seeds():
    """As fuzz_tape.c reads them: a choice, then frames behind their lengths."""
    ends = {4: (bytes([10, 0, 0, 5]), bytes([10, 0, 0, 9])), 6: (bytes.fromhex("fd" + "00" * 14 + "05"), bytes.fromhex("fd" + "00" * 14 + "09"))}

    def tcp(flags, seq, ack, options=b"", data=b"", ports=(40000, 443)):
        return struct.pack(">HHIIBBHHH", *ports, seq, ack, (20 + len(options)) // 4 << 4, flags, 9000, 0, 0) + options + data

    def udp(data, ports=(40000, 53)):
        return struct.pack(">HHHH", *ports, 8 + len(data), 0) + data

    times = bytes.fromhex("0101080a0000000500000003")
    sack = bytes.fromhex("0101050a0000100000002000")
    odd = bytes.fromhex("01080a00000005000000030101010101")
    hello = lambda kind: bytes.fromhex("16030100530100004f0303"[:10]) + bytes([kind]) + bytes.fromhex("00004f0303") + bytes(range(32)) + b"\x20" + bytes(range(64, 96)) + bytes(14)
    retry = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
    dns = struct.pack(">HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + b"\3abc\0\0\1\0\1"
    for v, (a, b) in ends.items():
        icmp = 1 if v == 4 else 58
        echo = bytes([8 if v == 4 else 128, 0, 0, 0, 0, 7, 0, 1]) + b"ping"
        yield f"tcp{v}", [packet(v, a, b, 6, tcp(2, 0xFFFFFFFF, 0, times)), packet(v, b, a, 6, tcp(18, 5, 0, times, b"", (443, 40000))),
                          packet(v, a, b, 6, tcp(16, 0, 6, sack)), packet(v, a, b, 6, tcp(16, 0, 6, odd, b"x")),
                          packet(v, a, b, 6, tcp(4, 0, 0)), packet(v, b, a, 6, tcp(2, 9, 0, b"", b"", (443, 40000)))]
        server = hello(2)
        yield f"tls{v}", [packet(v, a, b, 6, tcp(24, 1, 1, b"", hello(1))), packet(v, a, b, 6, tcp(24, 8, 1, b"", hello(1)[7:50])),
                          packet(v, b, a, 6, tcp(24, 1, 89, b"", b"\x14\3\3\0\1\1" + server, (443, 40000))),
                          packet(v, b, a, 6, tcp(24, 1, 89, b"", server[:11] + retry + server[43:], (443, 40000))),
                          packet(v, b, a, 6, tcp(24, 1, 89, b"", server[:35] + b"DOWNGRD\1" + server[43:], (443, 40000)))]
        ask = packet(v, a, b, 17, udp(dns))
        error = bytes([3, 3] if v == 4 else [1, 4]) + bytes(6)
        yield f"udp{v}", [ask, packet(v, b, a, 17, udp(dns, (53, 40000))), packet(v, b, a, icmp, error + ask[14:]),
                          packet(v, b, a, icmp, error + packet(v, a, b, 6, tcp(16, 1, 2, times))[14:])]
        yield f"icmp{v}", [packet(v, a, b, icmp, echo), packet(v, b, a, icmp, error + packet(v, a, b, icmp, echo)[14:])]
        yield f"vlan{v}", [packet(v, a, b, 17, udp(dns), tags=bytes.fromhex("88a8000581000006"))]
    a, b = ends[4]
    yield "frag4", [packet(4, a, b, 17, udp(dns), 0x2000), packet(4, a, b, 17, b"the rest", 3), packet(4, a, b, 1, b"the rest", 3)]
    mac = ETH[6:]
    yield "arp", [b"\xff" * 6 + mac + bytes.fromhex("0806000108000604" "0001") + mac + a + bytes(6) + b,
                  ETH + bytes.fromhex("0806000108000604" "0002") + mac + b + mac + a]
    a, b = ends[6]
    nd = lambda kind: bytes([kind, 0]) + bytes(6) + b + bytes([1, 1]) + mac + bytes([2, 1]) + mac
    yield "nd", [packet(6, a, bytes.fromhex("ff02" + "00" * 9 + "01ff000009"), 58, nd(135)), packet(6, b, a, 58, nd(136)),
                 packet(6, b, a, 58, bytes([134, 0]) + bytes(14) + bytes([1, 1]) + mac),
                 packet(6, b, a, 58, bytes([137, 0]) + bytes(6) + b + a + bytes([2, 1]) + mac)]
    route = bytes([43, 17, 2, 0, 1, 0, 0, 0, 0]) + b
    yield "ext6", [packet(6, a, b, 17, udp(dns), ext=bytes([0, 17, 0, 1, 4, 0, 0, 0, 0])), packet(6, a, b, 17, udp(dns), ext=route),
                   packet(6, a, b, 17, udp(dns), ext=bytes([44, 17, 0, 0, 1, 0, 0, 0, 7])),
                   packet(6, a, b, 17, b"the rest", ext=bytes([44, 17, 0, 0, 8, 0, 0, 0, 7]))]


def tape_files():
    for i, (name, frames) in enumerate(tape_seeds()):
        yield name, bytes([i * 37 % 256]) + b"".join(struct.pack(">H", len(f)) + f for f in frames)


EXAMPLE = [  # of model/codec_flow.h
    "00d4 ff0a000001ff020000000001 ff0a000002ff020000000002 9c40ff0050 a7 11223344faf0c710 0c031c460905b407",
    "580197 99aabbccfe88e650 0c020905b407", "50000401f6"]


def flow_seeds():
    """fuzz_flow.c: the example's tokens, and every tape's frames as packets, in turn with each configuration."""
    yield "example", b"\0" + b"".join(b"\xfa\x03" + bytes.fromhex(p).replace(b"\xfa", b"\xfa\xfa") for p in EXAMPLE) + b"\xfa\x01"
    for i, (name, frames) in enumerate(tape_seeds()):
        rows = [struct.pack(">HQI", 0x8000 | len(f), 10 ** (k % 13), 7 * (k % 3)) + f for k, f in enumerate(frames)]
        yield name, bytes([2 * (i % 7) + 1]) + b"".join(rows)


def main():
    for name, seeds in {"capture": capture_seeds, "corpus": corpus_seeds, "tokens": token_seeds, "neigh": neigh_seeds,
                        "reader": reader_seeds, "flow": flow_seeds,
                        "measure": measure_seeds,
                        "tape": tape_files}.items():
        folder = os.path.join(sys.argv[1], name)
        os.makedirs(folder, exist_ok=True)
        for file, data in seeds():
            with open(os.path.join(folder, file), "wb") as f:
                f.write(data)


main()
