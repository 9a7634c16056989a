"""A cable with a length: hands Ethernet frames between two interfaces with delay, jitter, a bit rate, a queue and loss.

Kernels without netem and tbf have no other way to give two programs on one machine a round-trip time. Frames are never
reordered. The random numbers (jitter, loss) come from --seed; they are drawn in the order in which frames arrive.

usage: wire.py --a IFACE --b IFACE --ready FILE [--delay-ms N] [--jitter-ms N] [--mbit N] [--loss P] [--seed N]
"""
import argparse
import collections
import random
import select
import signal
import socket
import sys
import time

ETH_P_ALL = 3
QUEUE_BYTES = 128 * 1024  # what a home router holds; more is dropped at the tail


class Direction:
    def __init__(self, args, seed, out):
        self.args = args
        self.random = random.Random(seed)
        self.out = out
        self.waiting = collections.deque()  # (due, frame), due never decreases
        self.line_free = 0.0  # when the last accepted frame has left the line
        self.last_due = 0.0

    def take(self, frame, now):
        lost = self.random.random() < self.args.loss
        jitter = self.random.random() * self.args.jitter_ms / 1e3
        byte_s = 8 / (self.args.mbit * 1e6)
        start = max(now, self.line_free)
        if lost or (start - now) / byte_s > QUEUE_BYTES:
            return
        # 24: preamble, FCS and gap, which a real line carries too.
        self.line_free = start + (len(frame) + 24) * byte_s
        self.last_due = max(self.line_free + self.args.delay_ms / 1e3 + jitter, self.last_due)
        self.waiting.append((self.last_due, frame))

    def give(self, now):
        while self.waiting and self.waiting[0][0] <= now:
            frame = self.waiting.popleft()[1]
            try:
                self.out.send(frame)
            except OSError:
                pass  # the interface is going away: a cable that is pulled loses frames


def attach(name):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((name, 0))
    sock.setblocking(False)
    return sock


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--a", required=True)
    parser.add_argument("--b", required=True)
    parser.add_argument("--ready", required=True)
    parser.add_argument("--delay-ms", type=float, default=10)
    parser.add_argument("--jitter-ms", type=float, default=0)
    parser.add_argument("--mbit", type=float, default=100)
    parser.add_argument("--loss", type=float, default=0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    a, b = attach(args.a), attach(args.b)
    ways = {a: Direction(args, args.seed * 2, b), b: Direction(args, args.seed * 2 + 1, a)}
    with open(args.ready, "w", encoding="ascii"):
        pass

    while True:
        due = min((w.waiting[0][0] for w in ways.values() if w.waiting), default=None)
        wait = None if due is None else max(0.0, due - time.monotonic())
        readable, _, _ = select.select(list(ways), [], [], wait)
        for sock in readable:
            for _ in range(64):
                try:
                    frame, address = sock.recvfrom(65535)
                except OSError:
                    break
                if address[2] != socket.PACKET_OUTGOING:
                    ways[sock].take(frame, time.monotonic())
        now = time.monotonic()
        for way in ways.values():
            way.give(now)


if __name__ == "__main__":
    main()
