"""What the programs of others make of what sinks write: tshark and tcpdump read live streams to their end, capinfos and tshark
read pcapng with comments; each packet is held against the capture that was sent.

usage: sink_stream.py SINK_TOOL
Exit 77: tshark, dumpcap, capinfos or tcpdump is missing, or may not capture here.
"""
import gzip
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

TOOL = os.path.abspath(sys.argv[1])
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SAMPLE = os.path.join(ROOT, "samples", "dns-001.pcap.gz")
TIMES = 20
TIMEOUT_S = 60
SKIP = 77


def records(blob):
    """(second, fraction, captured, wire, bytes) of a classic little-endian pcap, and its magic number."""
    at, out = 24, []
    while at < len(blob):
        s, frac, cap, wire = struct.unpack_from("<IIII", blob, at)
        assert len(blob) - at >= 16 + cap, f"half a record at {at} of {len(blob)}"
        out.append((s, frac, cap, wire, blob[at + 16:at + 16 + cap]))
        at += 16 + cap
    return struct.unpack_from("<I", blob)[0], out


with gzip.open(SAMPLE) as sample:
    MAGIC, PACKETS = records(sample.read())
assert MAGIC == 0xa1b23c4d and len(PACKETS) > 20, "the sample has ns stamps"
SENT = PACKETS * TIMES


def stream_of(packets, snaplen=0):
    """The µs pcap stream that they are."""
    out = [struct.pack("<IHHIIII", 0xa1b2c3d4, 2, 4, 0, 0, snaplen or 262144, 1)]
    for s, frac, cap, wire, data in packets:
        kept = min(cap, snaplen) if snaplen else cap
        out.append(struct.pack("<IIII", s, frac // 1000, kept, wire) + data[:kept])
    return b"".join(out)


class Tool:
    """A running sink_tool and what it says."""

    def __init__(self, kind, where, *args, **popen):
        self.proc = subprocess.Popen([TOOL, "-r", str(TIMES), *args, kind, where, SAMPLE], stderr=subprocess.PIPE,
                                     text=True, **popen)
        self.name = self.proc.stderr.readline().strip()

    def end(self, code=0):
        rest = self.proc.stderr.read()
        assert self.proc.wait(TIMEOUT_S) == code, (self.name, rest)
        self.counts = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", rest)}
        return rest

    def expect_all_sent(self):
        self.end()
        assert self.counts["handed"] == self.counts["sent"] == len(SENT), self.counts
        assert self.counts["bytes"] == sum(p[3] for p in SENT) and self.counts["queued"] == 0, self.counts


def fields(args, *names, stdin=None):
    cmd = ["tshark", *args, "-n", "-T", "fields"] + [x for n in names for x in ("-e", n)]
    r = subprocess.run(cmd, capture_output=True, text=True, timeout=TIMEOUT_S, stdin=stdin)
    assert r.returncode == 0, (cmd, r.stderr)
    return [line.split("\t") for line in r.stdout.splitlines()]


def expect_tshark(args, sent, ns, **kw):
    """tshark finds each packet that was sent: when, how long, how much of it, how it ends."""
    rows = fields(args, "frame.time_epoch", "frame.len", "frame.cap_len", **kw)
    assert len(rows) == len(sent), f"{args}: {len(rows)} packets, expected {len(sent)}"
    for row, (s, frac, cap, wire, _) in zip(rows, sent):
        whole = f"{s}.{frac if ns else frac // 1000 * 1000:09d}"
        assert row == [whole, str(wire), str(cap)], (args, row, whole, wire, cap)


def check_listen():
    """The stream of the issue's own words: tshark reads it to its end."""
    for host, at in (("127.0.0.1", "listen:0"), ("[::1]", "listen:[::1]:0")):
        tool = Tool("ip", at)
        if "ssign requested" in tool.name:
            print(f"no IPv6 here: {at} not checked")
            continue
        port = re.fullmatch(r"pcap-over-ip listen:" + re.escape(host) + r":(\d+)", tool.name).group(1)
        if host == "127.0.0.1":
            expect_tshark(["-i", f"TCP@127.0.0.1:{port}"], SENT, False)
        else:
            with socket.create_connection(("::1", int(port)), TIMEOUT_S) as c:
                assert b"".join(iter(lambda: c.recv(65536), b"")) == stream_of(SENT)
        tool.expect_all_sent()
        assert tool.counts["readers"] == 1


def check_connect():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        tool = Tool("ip", f"connect:localhost:{port}", "-s", "60")
        with server.accept()[0] as c:
            assert b"".join(iter(lambda: c.recv(4096), b"")) == stream_of(SENT, 60)
        tool.expect_all_sent()
        assert tool.counts["cut"] == sum(p[2] > 60 for p in SENT)
    tool = Tool("ip", f"connect:127.0.0.1:{port}")
    tool.end(1)
    assert tool.name.endswith(f"cannot connect to 127.0.0.1:{port}: Connection refused"), tool.name


def check_fifo(tmp):
    fifo, out = os.path.join(tmp, "live"), os.path.join(tmp, "out.pcap")
    tool = Tool("fifo", fifo)
    assert tool.name == f"fifo {fifo}"
    expect_tshark(["-i", fifo], SENT, False)
    tool.expect_all_sent()
    assert not os.path.exists(fifo), "made by the sink, removed by it"

    os.mkfifo(fifo)
    with subprocess.Popen(["tcpdump", "-r", fifo, "-w", out], stderr=subprocess.DEVNULL) as tcpdump:
        Tool("fifo", fifo).expect_all_sent()
        assert tcpdump.wait(TIMEOUT_S) == 0
    assert os.path.exists(fifo), "not made by the sink"
    expect_tshark(["-r", out], SENT, False)
    os.unlink(fifo)


def check_stdout(tmp):
    tool = Tool("fifo", "-", stdout=subprocess.PIPE)
    assert tool.name == "fifo stdout"
    expect_tshark(["-r", "-"], SENT, False, stdin=tool.proc.stdout)
    tool.expect_all_sent()
    out = os.path.join(tmp, "redirected.pcap")
    with open(out, "wb") as f:
        f.write(b"before")
        f.flush()
        Tool("fifo", "-", stdout=f).expect_all_sent()
    with open(out, "rb") as f:
        assert f.read() == b"before" + stream_of(SENT), "written on behind what was there"
    if os.path.exists("/dev/full"):
        with open("/dev/full", "wb") as f:
            tool = Tool("fifo", "-", stdout=f)
            assert "stdout: cannot write at offset 0: No space left on device" in tool.end(1)
            assert tool.counts["sent"] == tool.counts["queued"] == 0


def check_files(tmp):
    pcap, ng = os.path.join(tmp, "x.pcap"), os.path.join(tmp, "x.pcapng")
    Tool("pcap", pcap).expect_all_sent()
    expect_tshark(["-r", pcap], SENT, True)
    Tool("pcapng", ng, "-c").expect_all_sent()
    expect_tshark(["-r", ng], SENT, True)
    rows = fields(["-r", ng], "frame.comment", "frame.packet_flags_direction", "frame.interface_name")
    for i, row in enumerate(rows):
        comment = f"label={['web', 'dns'][i % 2]} session={i // 10} clone={i % 3} dir={['client', 'server'][i % 2]}"
        assert row[0] == comment and int(row[1], 0) == [2, 1][i % 2] and row[2] == "netssm", (i, row)
    info = subprocess.run(["capinfos", ng], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert info.returncode == 0, info.stderr
    for what in (f"Number of packets:   {len(SENT)}", "Capture oper-sys:    linux", "Capture application: netssm ",
                 "Encapsulation = Ethernet (1 - ether)", "Time precision = nanoseconds (9)", "Number of stat entries = 1"):
        assert what in info.stdout, (what, info.stdout)


def main():
    missing = [p for p in ("tshark", "dumpcap", "capinfos", "tcpdump") if not shutil.which(p)]
    if missing:
        print("skipped: without", ", ".join(missing))
        return SKIP
    if subprocess.run(["dumpcap", "-v"], capture_output=True).returncode != 0:
        print("skipped: dumpcap may not be run here")
        return SKIP
    with tempfile.TemporaryDirectory(prefix="netssm-sink-") as tmp:
        check_files(tmp)
        check_stdout(tmp)
        check_connect()
        check_listen()
        check_fifo(tmp)
    print(f"{len(SENT)} packets each: pcap, pcapng with comments, stdout, connect, listen, FIFO: all as sent")
    return 0


sys.exit(main())
