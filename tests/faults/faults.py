"""What the tests of faults share: captures made by hand, runs of the program under a time limit, and the accounts that must be
right whatever happened: every packet that a source gave was sent, dropped for a reason that is named, or left.

Each test script is called with the program (and what else it names) and exits 77 where something that it needs is missing."""
import csv
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NETSSM = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else sys.exit("usage: TEST.py NETSSM …")
MODEL = os.path.join(ROOT, "model", "pretrained")
S = 10**9
# Nothing here takes longer on a machine that does other things too; what takes longer hangs.
LIMIT_S = 120
missing = set()


# --- captures ---

def csum(b):
    b += b"\0" * (len(b) & 1)
    s = sum(struct.unpack(f">{len(b) // 2}H", b))
    while s >> 16:
        s = (s & 0xFFFF) + (s >> 16)
    return ~s & 0xFFFF


def udp(i=0, payload=b"x" * 40, src="10.1.0.1", dst="10.2.0.1", sport=4000, dport=9):
    """An Ethernet frame with correct checksums; i is its number, in the IP ID and in front of the payload."""
    body = struct.pack(">I", i) + payload
    a, b = socket.inet_aton(src), socket.inet_aton(dst)
    n = 8 + len(body)
    l4 = struct.pack(">HHHH", sport, dport, n & 0xFFFF, 0) + body
    l4 = l4[:6] + struct.pack(">H", csum(a + b + struct.pack(">HH", 17, n & 0xFFFF) + l4) or 0xFFFF) + l4[8:]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, (20 + n) & 0xFFFF, i & 0xFFFF, 0, 64, 17, 0) + a + b
    ip = ip[:10] + struct.pack(">H", csum(ip)) + ip[12:]
    return b"\2\0\0\0\0\2" + b"\2\0\0\0\0\1" + b"\x08\0" + ip + l4


def pcap_header(snaplen=262144, link=1):
    return struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, snaplen, link)


def pcap_record(ns, frame, wirelen=None):
    return struct.pack("<IIII", ns // S, ns % S, len(frame), len(frame) if wirelen is None else wirelen) + frame


def make_pcap(path, packets, tail=b""):
    """packets: (ns, frame) or (ns, frame, wire length)."""
    with open(path, "wb") as f:
        f.write(pcap_header() + b"".join(pcap_record(*p) for p in packets) + tail)
    return path


def steady(n, gap_ns=S // 1000, t0=1700000000 * S, flows=8, payload=b"x" * 40):
    return [(t0 + i * gap_ns, udp(i, payload, sport=4000 + i % flows)) for i in range(n)]


def read_pcap(path, whole=True):
    """[(ns, wire length, frame)]; whole False: a last record that is cut is left out."""
    with open(path, "rb") as f:
        data = f.read()
    return parse_pcap(data, path, whole)


def parse_pcap(data, path="stream", whole=True):
    if not whole and len(data) < 24:
        return []
    unit = {0xA1B23C4D: 1, 0xA1B2C3D4: 1000}[struct.unpack_from("<I", data)[0]]
    at, out = 24, []
    while at < len(data):
        cut = at + 16 > len(data) or at + 16 + struct.unpack_from("<I", data, at + 8)[0] > len(data)
        if cut and not whole:
            break
        assert not cut, f"{path}: ends inside a packet"
        sec, frac, caplen, wirelen = struct.unpack_from("<IIII", data, at)
        out.append((sec * S + frac * unit, wirelen, data[at + 16:at + 16 + caplen]))
        at += 16 + caplen
    return out


def count_with(tool, path):
    """Packets as somebody else counts them; None where the tool is missing. It must find nothing wrong with the file."""
    if shutil.which(tool) is None:
        missing.add(tool)
        return None
    if tool == "capinfos":
        r = subprocess.run(["capinfos", "-TMrc", path], capture_output=True, text=True, timeout=LIMIT_S)
        if r.returncode != 0:
            raise AssertionError(f"capinfos {path}: {r.stderr}")
        return int(r.stdout.split()[-1])
    r = subprocess.run(["tshark", "-n", "-r", path, "-T", "fields", "-e", "frame.number"], capture_output=True, text=True,
                       timeout=LIMIT_S)
    said = [line for line in r.stderr.splitlines() if "Running as user" not in line and line.strip()]
    if r.returncode != 0 or said:
        raise AssertionError(f"tshark {path}: exit {r.returncode}: {said}")
    return len(r.stdout.splitlines())


# --- runs ---

class Run:
    """One run of the program. It is killed when the test ends, and by its time limit."""

    def __init__(self, test, *args, stats=True, env=None, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=None,
                 cwd=None, pass_fds=()):
        self.stats_path = os.path.join(test.folder.name, f"stats.{len(test.runs)}.json")
        self.args = [NETSSM, *map(str, args)]
        if args[0] in ("replay", "generate", "run"):
            self.args += ["--progress", "none"]
            if stats:
                self.args += ["--stats-json", self.stats_path]
        self.control = self.args[self.args.index("--control") + 1] if "--control" in self.args else None
        self.err = tempfile.TemporaryFile("w+")
        self.p = subprocess.Popen(self.args, stdin=stdin, stdout=stdout, stderr=self.err, cwd=cwd, pass_fds=pass_fds,
                                  preexec_fn=preexec_fn, env=None if env is None else {**os.environ, **env})
        self.out = None
        test.runs.append(self)

    def stderr(self):
        self.err.seek(0)
        return self.err.read()

    def signal(self, sig):
        self.p.send_signal(sig)

    def end(self, code=0, says=(), limit=LIMIT_S):
        """Waits; what it said and how it ended must be as expected."""
        try:
            self.out, _ = self.p.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.args}: hangs; stderr: {self.stderr()}") from None
        if self.p.returncode not in (code if isinstance(code, tuple) else (code,)):
            raise AssertionError(f"{self.args}: exit {self.p.returncode}, expected {code}\n{self.out}\n{self.stderr()}")
        for text in [says] if isinstance(says, str) else says:
            if text not in self.stderr():
                raise AssertionError(f"{self.args}: expected a message with '{text}', found\n{self.stderr()}")
        return self

    def stats(self):
        with open(self.stats_path, encoding="utf-8") as f:
            return json.load(f)

    def gone(self):
        return self.p.poll() is not None

    def live_stats(self):
        """Through its control socket; None as long as there is none."""
        try:
            return ask(self.control, "stats")["stats"]
        except (FileNotFoundError, ConnectionError):
            return None


class Faults(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="netssm-faults-")
        self.runs = []

    def tearDown(self):
        for r in self.runs:
            if not r.gone():
                r.p.kill()
            r.p.wait()
            if r.p.stdout is not None:
                r.p.stdout.close()
            r.err.close()
        self.folder.cleanup()

    def at(self, name):
        return os.path.join(self.folder.name, name)

    def start(self, *args, **how):
        return Run(self, *args, **how)

    def run_it(self, *args, code=0, says=(), limit=LIMIT_S, **how):
        return self.start(*args, **how).end(code, says, limit)

    def wait_for(self, what, condition, limit=LIMIT_S):
        end = time.monotonic() + limit
        while not condition():
            self.assertLess(time.monotonic(), end, f"waited in vain for {what}")
            time.sleep(0.01)

    def wait_stats(self, run, what, condition, limit=LIMIT_S):
        """Until what a run says through its control socket is so. It must not end before."""
        end = time.monotonic() + limit
        while True:
            s = run.live_stats()
            if s is not None and condition(s):
                return s
            if run.gone():
                raise AssertionError(f"ended before {what}: {run.p.returncode} {run.stderr()}")
            self.assertLess(time.monotonic(), end, f"waited in vain for {what}: {s}")
            time.sleep(0.02)

    def balance(self, run, source=None, **drops):
        """The accounts of a run: made = sent + dropped. source: the packets that the source gave must all have become made or
        left, "feed" those that it says. drops: reason=True (some), a number, or (least, most); what is not named must be 0."""
        s = run.stats()
        p, d = s["packets"], s["dropped"]
        self.assertEqual(p["made"], p["sent"] + sum(d.values()), s)
        self.assertEqual(p["in_hand"], 0, s)
        if source is not None:
            n = s["feed"]["packets"] if source == "feed" else source
            self.assertEqual(p["made"] + p["left"], n, s)
        for reason, n in d.items():
            want = drops.pop(reason, 0)
            if want is True:
                self.assertGreater(n, 0, (reason, s))
            elif isinstance(want, tuple):
                self.assertTrue(want[0] <= n <= want[1], (reason, n, want))
            else:
                self.assertEqual(n, want, (reason, s))
        self.assertEqual(drops, {})
        for k in s["ports"]:
            self.assertLessEqual(k["sent"], p["sent"])
        if s["ports"]:
            self.assertEqual(sum(k["sent"] for k in s["ports"]), p["sent"])
        return s

    def truth(self, path, sent=None, dropped=None, whole=True):
        """Reads as CSV, every row as long as its heading; with no packets outside flows its sums are the run's."""
        with open(path, newline="", encoding="utf-8") as f:
            text = f.read()
        if not whole and not text.endswith("\n"):
            raise AssertionError(f"{path}: ends inside a row: {text[-80:]!r}")
        rows = list(csv.DictReader(text.splitlines()))
        for r in rows:
            self.assertNotIn(None, r)
            self.assertNotIn(None, r.values())
        if sent is not None:
            self.assertEqual(sum(int(r["packets_fwd"]) + int(r["packets_rev"]) for r in rows), sent)
        if dropped is not None:
            self.assertEqual(sum(int(r["dropped"]) for r in rows), dropped)
        return rows

    def only(self, *names):
        """Nothing else lies in the folder: no temporary file of a run that failed."""
        self.assertEqual(sorted(n for n in os.listdir(self.folder.name) if not n.startswith("stats.")), sorted(names))


def ask(path, line):
    """A run's control socket: one line, one answer."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(LIMIT_S)
        s.connect(path)
        s.sendall(line.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            part = s.recv(65536)
            if not part:
                raise ConnectionError(f"{line}: no whole answer: {answer}")
            answer += part
    return json.loads(answer)


class Tcp:
    """A reader of pcap over IP."""

    def __init__(self, port, host="127.0.0.1", rcvbuf=None):
        end = time.monotonic() + 30
        while True:
            self.s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            if rcvbuf is not None:
                self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            self.s.settimeout(LIMIT_S)
            try:
                self.s.connect((host, port))
                break
            except ConnectionRefusedError:
                self.s.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def read(self, n):
        got = b""
        while len(got) < n:
            k = self.s.recv(min(65536, n - len(got)))
            if not k:
                break
            got += k
        return got

    def rest(self):
        return self.read(1 << 40)

    def close(self):
        self.s.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# --- namespaces ---

def alone(*flags):
    """Goes on in namespaces of the script's own (unshare's flags), as root there; what is made in them goes with them."""
    if "NSSM_FAULTS_INSIDE" in os.environ:
        return
    if shutil.which("unshare") is None:
        skip("unshare")
    as_root = [] if os.getuid() == 0 else ["-r"]
    if subprocess.run(["unshare", *as_root, *flags, "true"], capture_output=True, check=False).returncode != 0:
        skip("namespaces (root, or user namespaces that are allowed)")
    os.environ["NSSM_FAULTS_INSIDE"] = "user" if as_root else "root"
    os.execvp("unshare", ["unshare", *as_root, *flags, sys.executable, *sys.orig_argv[1:]])


def ip(*args, check=True):
    r = subprocess.run(["ip", *args], capture_output=True, text=True, check=False)
    if check and r.returncode != 0:
        raise AssertionError(f"ip {' '.join(args)}: {r.stderr}")
    return r


def mount_tmpfs(path, bytes_):
    os.makedirs(path, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", path.encode(), b"tmpfs", 0, f"size={bytes_}".encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")


def umount(path):
    ctypes.CDLL(None).umount2(path.encode(), 2)


def skip(*what):
    print(f"skipped: {', '.join(what)} missing", flush=True)
    sys.exit(77)


def main():
    """A test that lacks something says so, and the rest counts."""
    done = unittest.main(exit=False, argv=sys.argv)
    if not done.result.wasSuccessful():
        sys.exit(1)
    if missing:
        skip(*sorted(missing))
