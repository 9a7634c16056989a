"""netssm prepare on 1 GB of packets that it has not seen the end of: memory stays within what ingest.h says.

usage: prepare_memory.py NETSSM
One run with everything in one session (100 MB), one with 240,000 clients by turns (500 MB; their tokens are more than the
spool keeps in memory). The capture is made on the fly; only the corpus and the spool lie on disk (400 MB each)."""
import os
import shutil
import struct
import subprocess
import sys
import tempfile

NETSSM = os.path.abspath(sys.argv[1]) if len(sys.argv) == 2 else sys.exit(__doc__)
TOTAL = 10**9
FRAME = 700
CHUNK = 4000  # packets
TURNS = 60    # chunks until the same clients come again
RECORD = 16 + FRAME


def chunks():
    yield struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    body = bytearray()
    for i in range(CHUNK):
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, FRAME - 14, 0, 0, 64, 6, 0, bytes([10, 0, i >> 8, i & 255]), bytes([8] * 4))
        tcp = struct.pack(">HHIIBBHHH", 1000 + i, 443, 0, 0, 0x50, 0x10, 1000, 0, 0)
        frame = bytes(12) + b"\x08\x00" + ip + tcp
        body += struct.pack("<IIII", 10, i, FRAME, FRAME) + frame + bytes(FRAME - len(frame))
    for turn in range(-(-TOTAL // len(body))):
        body[16 + 14 + 13::RECORD] = bytes([turn % TURNS]) * CHUNK
        yield body


def run(folder, mode, limit):
    out = os.path.join(folder, "out.nssm")
    with tempfile.TemporaryFile() as said:
        p = subprocess.Popen([NETSSM, "prepare", "--captures", "-", "--label", "x", "--session-split", mode, "--out", out,
            "--progress", "none"], stdin=subprocess.PIPE, stdout=said)
        n = 0
        for chunk in chunks():
            p.stdin.write(chunk)
            n += len(chunk) // RECORD
        p.stdin.close()
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode()
    print(text + f"{mode}: {n} packets, {usage.ru_maxrss / 1000:.0f} MB of memory, at most {limit}", flush=True)
    if p.returncode != 0:
        sys.exit(f"exit code {p.returncode}")
    sessions = 1 if mode == "file" else CHUNK * TURNS
    for words in (f"{sessions} sessions, {n * 129 + sessions} tokens", *(["temporary file"] if mode == "client" else [])):
        if words not in text:
            sys.exit(f"expected: {words}")
    if not usage.ru_maxrss * 1024 <= limit * 10**6:
        sys.exit("too much memory")


def main():
    if os.environ.get("NSSM_SANITIZED"):
        print("SKIP: a sanitizer's own memory would be measured")
        return 77
    with tempfile.TemporaryDirectory(prefix="netssm-memory-") as folder:
        if shutil.disk_usage(folder).free < 2 * TOTAL:
            print(f"SKIP: {folder} has less than {2 * TOTAL / 1e9:.0f} GB free")
            return 77
        run(folder, "file", 100)
        run(folder, "client", 500)
    return 0


if __name__ == "__main__":
    sys.exit(main())
