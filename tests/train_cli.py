"""netssm train from outside: what it refuses, and that what was refused or failed leaves things as they were.

usage: train_cli.py NETSSM"""
import csv
import json
import math
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

NETSSM = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else sys.exit(__doc__)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TINY = ["--d-model", "16", "--n-layer", "1", "--d-state", "16", "--headdim", "16", "--chunk-size", "16", "--batch", "2",
    "--seq-tokens", "32", "--threads", "1", "--progress", "none"]
COLUMNS = ["step", "tokens", "loss", "loss_smoothed", "grad_norm", "lr", "val_loss", "seconds"]


def netssm(*args, **how):
    return subprocess.run([NETSSM, *args], **{"capture_output": True, "text": True, "timeout": 120} | how)


def capture(path, n):
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for i in range(n):
            frame = bytes(12) + b"\x08\x00" + struct.pack(">BBHHHBBH", 0x45, 0, 40, i, 0, 64, 6, 0) + bytes(
                [192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack(">HHIIBBHHH", 1000, 80, i, 0, 0x50, 0x10, 500, 0, 0)
            f.write(struct.pack("<IIII", i, 0, len(frame), len(frame)) + frame)


def tree(folder):
    """{path: bytes} of everything below a folder."""
    out = {}
    for base, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(base, name), "rb") as f:
                out[os.path.relpath(os.path.join(base, name), folder)] = f.read()
    return out


class Train(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="netssm-train-")
        cls.addClassCleanup(shutil.rmtree, cls.dir, True)
        capture(cls.path("a.pcap"), 8)
        for name, label, more in (("train", "web", []), ("val", "web", []), ("other", "dns", []),
                ("wide", "web", ["--packet-len", "80"])):
            netssm("prepare", "--captures", cls.path("a.pcap"), "--label", label, "--out", cls.path(name + ".nssm"),
                "--progress", "none", "--codec", "raw", "--packet-len", "64", *more, check=True)
        cls.done = cls.path("done")
        r = netssm("train", *cls.args(), "--val", cls.path("val.nssm"), "--val-every", "2", "--out", cls.done)
        assert r.returncode == 0, r.stderr

    @classmethod
    def path(cls, *names):
        return os.path.join(cls.dir, *names)

    @classmethod
    def args(cls, corpus="train", steps="4"):
        return ["--corpus", cls.path(corpus + ".nssm"), "--steps", steps, "--save-every", "0", *TINY]

    def refused(self, words, *args, code=1, **how):
        r = netssm("train", *args, **how)
        self.assertEqual(r.returncode, code, r.stderr)
        self.assertNotRegex(r.stderr, "Sanitizer|runtime error")
        self.assertRegex(r.stderr, words)
        self.assertEqual(r.stderr.count("netssm: error: "), 1)
        return r

    def copy(self, name):
        shutil.rmtree(self.path(name), True)
        shutil.copytree(self.done, self.path(name))
        return self.path(name)

    def test_log(self):
        with open(os.path.join(self.done, "log.csv"), newline="", encoding="ascii") as f:
            rows = list(csv.DictReader(f))
        self.assertEqual(list(rows[0]), COLUMNS)
        self.assertEqual([r["step"] for r in rows], ["1", "2", "3", "4"])
        self.assertEqual([bool(r["val_loss"]) for r in rows], [False, True, False, True])
        for k, r in enumerate(rows):
            self.assertEqual(int(r["tokens"]), (k + 1) * 2 * 32)
            for name in ("loss", "loss_smoothed", "grad_norm", "lr"):
                self.assertTrue(math.isfinite(float(r[name])) and float(r[name]) > 0)
            self.assertGreaterEqual(float(r["seconds"]), float(rows[k - 1]["seconds"]) if k else 0)
        # Before anything is learned, a token costs what guessing among all of them costs.
        self.assertAlmostEqual(float(rows[0]["loss"]), math.log(261), delta=0.5)

    def test_corpora(self):
        out = self.path("no-corpus")
        with open(self.path("train.nssm"), "rb") as f:
            good = f.read()
        version = bytearray(good)
        version[8] += 1
        token = bytearray(good)
        token[200] ^= 1
        for name, data in (("version", version), ("cut", good[:-1]), ("none", b""), ("text", b"a" * 500), ("token", token)):
            with open(self.path(name + ".nssm"), "wb") as f:
                f.write(data)
        for words, args in (
                ("--corpus is missing", ["--steps", "4", *TINY]),
                ("gone.nssm: cannot open: No such file", self.args("gone")),
                (r"version.nssm: offset 8: corpus version \d+, this program reads version \d+: make it again", self.args("version")),
                ("cut.nssm: .*the file is cut", self.args("cut")),
                ("none.nssm: 0 bytes: too short", self.args("none")),
                ("text.nssm: .*not a netssm corpus", self.args("text")),
                ("a.pcap: .*not a netssm corpus", ["--corpus", self.path("a.pcap"), "--steps", "4", *TINY]),
                ("wide.nssm: .*(packet_len|pkt_len|packets of|codec)", [*self.args(), "--corpus", self.path("wide.nssm")]),
                ("gone.nssm: cannot open: No such file", [*self.args(), "--val", self.path("gone.nssm")]),
                ("other.nssm: none of its sessions has a label that .*train.nssm has",
                    [*self.args(), "--val", self.path("other.nssm")]),
                ("validation corpus.*codec|codec.*validation corpus", [*self.args(), "--val", self.path("wide.nssm")])):
            self.refused(words, *args, "--out", out)
            self.assertEqual(tree(out) if os.path.isdir(out) else {}, {}, words)
        # Damaged tokens are found when they are read; nothing is saved.
        self.refused("token.nssm: .*CRC-32.*the file is damaged", *self.args("token"), "--out", out)
        self.assertFalse(os.path.exists(os.path.join(out, "last")))

    def test_out(self):
        self.refused("--out is missing", *self.args())
        with open(self.path("file"), "wb") as f:
            f.write(b"mine")
        self.refused("file: is no folder", *self.args(), "--out", self.path("file"))
        self.refused("no/such/folder: cannot create: No such file", *self.args(), "--out", self.path("no", "such", "folder"))
        self.refused("done/last: holds a training already; --resume", *self.args(), "--out", self.done)
        os.makedirs(self.path("taken", "log.csv"))
        self.refused("taken/log.csv: cannot write: Is a directory", *self.args(), "--out", self.path("taken"))
        if os.getuid() != 0:
            os.mkdir(self.path("locked"), 0o500)
            self.refused("locked/log.csv: cannot write: Permission denied", *self.args(), "--out", self.path("locked"))
        os.makedirs(self.path("mine", "best"))
        with open(self.path("mine", "best", "thesis.tex"), "wb") as f:
            f.write(b"years")
        self.refused("mine/best: .*found thesis.tex in it, which would be deleted", *self.args(), "--val", self.path("val.nssm"),
            "--out", self.path("mine"))
        self.assertEqual(tree(self.path("mine", "best")), {"thesis.tex": b"years"})

    def test_resume(self):
        gone = self.path("nothing")
        self.refused("nothing/last: No such file or directory: --resume", *self.args(), "--out", gone, "--resume")
        self.assertFalse(os.path.exists(gone))
        before = tree(self.done)
        self.refused("begun with train.steps 4, now it is 8", *self.args(steps="8"), "--out", self.done, "--resume")
        self.refused("begun with train.lr 0.00100000005, now it is", *self.args(), "--lr", "1e-2", "--out", self.done, "--resume")
        self.refused(r"begun with corpus 0 \(CRC-32\) \w+, now it is", *self.args("other"), "--out", self.done, "--resume")
        self.refused("model.d_model 16, now it is 32", *self.args(), "--d-model", "32", "--out", self.done, "--resume")
        r = netssm("train", *self.args(), "--out", self.done, "--resume")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("this training is finished: 4 of 4 steps", r.stdout)
        self.assertEqual(tree(self.done), before)

    def test_precision(self):
        out = self.path("bf16")
        r = netssm("train", *self.args(), "--out", out, "--precision", "bf16", "--threads", "1")
        self.assertEqual((r.returncode, "note:" in r.stderr), (0, False), r.stderr)
        self.assertIn(", bf16, 1 thread", r.stdout)
        with open(os.path.join(out, "last", "training.json"), encoding="utf-8") as f:
            self.assertEqual(json.load(f)["precision"], "bf16")
        r = netssm("train", *self.args(), "--out", out, "--precision", "fp32", "--resume")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("so far in precision bf16, from here on in fp32: losses will differ (--precision bf16 keeps them)", r.stderr)
        self.refused("--precision: expected one of auto.fp32.bf16, found .fp16.", *self.args(), "--out", out, "--precision", "fp16", code=2)

    def test_damaged_checkpoints(self):
        names = ["training.json", "model.safetensors", "optimizer.safetensors"]
        for name in names:
            with open(os.path.join(self.done, "last", name), "rb") as f:
                good = f.read()
            for what, data in (("gone", None), ("empty", b""), ("half", good[:len(good) // 2]), ("garbage", b"\xff" * 1000),
                    ("more", good + b"x")):
                out = self.copy("damaged")
                path = os.path.join(out, "last", name)
                os.remove(path)
                if data is not None:
                    with open(path, "wb") as f:
                        f.write(data)
                before = tree(out)
                self.refused("damaged/last/" + re.escape(name), *self.args(), "--out", out, "--resume")
                self.assertEqual(tree(out), before, (name, what))

    def test_damaged_values(self):
        with open(os.path.join(self.done, "last", "training.json"), encoding="utf-8") as f:
            good = json.load(f)
        for where, value in ((("format",), "x"), (("version",), 99), (("plan",), {}), (("plan", "train.steps"), "many"),
                (("plan", "train.steps"), ""), (("progress",), None), (("progress", "step"), 5), (("progress", "step"), -1),
                (("progress", "tokens"), "4"), (("progress", "order_pos"), 10**9), (("progress", "loss_smoothed"), "x"),
                (("progress", "lanes"), []), (("progress", "lanes"), [[0, -1], [0, 0]]), (("progress", "lanes"), [[7, 0], [0, 0]]),
                (("extra", "best_val"), "x"), (("plan", "corpus 1 (CRC-32)"), "00000000")):
            out = self.copy("values")
            bad = json.loads(json.dumps(good))
            at = bad
            for key in where[:-1]:
                at = at[key]
            at[where[-1]] = value
            with open(os.path.join(out, "last", "training.json"), "w", encoding="utf-8") as f:
                json.dump(bad, f)
            before = tree(out)
            self.refused("values/last/training.json: ", *self.args(), "--out", out, "--resume")
            self.assertEqual(tree(out), before, where)

    def test_other_sizes_of_state(self):
        """An optimizer of another model: its tensors have other sizes."""
        wide = self.path("wide-run")
        r = netssm("train", *self.args(), "--d-model", "32", "--out", wide)
        self.assertEqual(r.returncode, 0, r.stderr)
        for name, words in (("optimizer.safetensors", 'tensor "exp_avg": expected'), ("model.safetensors", "tensor .*expected")):
            out = self.copy("sizes")
            shutil.copy(os.path.join(wide, "last", name), os.path.join(out, "last", name))
            self.refused(f"sizes/last/{name}: {words}", *self.args(), "--out", out, "--resume")

    def test_config(self):
        config = self.path("c.yaml")
        out = self.path("config")
        for text, words in (("model: {d_modell: 16}\n", r"c.yaml:1: model.d_modell: unknown key; did you mean model.d_model\?"),
                ("modle: {d_model: 16}\n", "c.yaml:1: .*unknown"), ("train:\n  lr: fast\n", "c.yaml:2: train.lr: .*fast"),
                ("train: {lr: 11}\n", "c.yaml:1: train.lr: .*0..10"), ("train: [\n", "c.yaml"), ("\xff", "c.yaml")):
            with open(config, "w", encoding="latin-1") as f:
                f.write(text)
            self.refused(words, *self.args(), "--config", config, "--out", out)
        self.refused("gone.yaml: cannot open", *self.args(), "--config", self.path("gone.yaml"), "--out", out)
        self.refused("--lr: .*11", *self.args(), "--lr", "11", "--out", out, code=2)
        self.refused("headdim|d_model", *self.args(), "--headdim", "48", "--out", out)
        self.assertFalse(os.path.exists(out))
        # A profile is taken, flags win over it.
        r = netssm("train", *self.args(), "--config", os.path.join(ROOT, "conf", "tiny.yaml"), "--out", out)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("D 16, L 1, N 16", r.stdout)

    def test_init(self):
        self.refused("gone", *self.args(), "--init", self.path("gone"), "--out", self.path("init"))
        self.refused("config.json: d_model: this training has 32, found 16", *self.args(), "--d-model", "32", "--init", self.done,
            "--out", self.path("init"))
        self.assertFalse(os.path.exists(self.path("init", "last")))
        r = netssm("train", *self.args(), "--init", self.done, "--out", self.path("init2"))
        self.assertEqual(r.returncode, 0, r.stderr)

    def test_conditions(self):
        """From prepare --conditions to generate --rtt, and who refuses what."""
        samples = os.path.join(ROOT, "samples")
        captures = [a for i in range(1, 5) for a in ("--captures", os.path.join(samples, f"web-00{i}.pcap.gz"))]
        prepare = ["prepare", *captures, "--label", "web", "--progress", "none", "--out"]
        r = netssm(*prepare, self.path("x.nssm"), "--codec", "raw", "--conditions")
        self.assertEqual(r.returncode, 1)
        self.assertIn("--conditions: codec raw has no such thing", r.stderr)
        models = {}
        for name, more in (("plain", []), ("told", ["--conditions"])):
            netssm(*prepare, self.path(name + ".nssm"), "--codec", "flow", *more, check=True)
            models[name] = self.path("m-" + name)
            netssm("train", "--corpus", self.path(name + ".nssm"), *TINY, "--steps", "4", "--out", models[name], check=True)
        r = netssm("train", "--corpus", self.path("told.nssm"), "--val", self.path("plain.nssm"), *TINY, "--steps", "4", "--out",
            self.path("m-mixed"))
        self.assertEqual(r.returncode, 1)
        self.assertIn('"conditions":5', r.stderr)
        r = netssm("train", "--corpus", self.path("told.nssm"), *TINY, "--steps", "4", "--resume", "--condition-dropout", "0.5", "--out",
            models["told"])
        self.assertEqual(r.returncode, 1)
        self.assertIn("train.condition_dropout 0.3", r.stderr)

        def generate(model, *more):
            return netssm("generate", "--model", model, "--sessions", "2", "--packets", "20", "--progress", "none", "--pcap-out",
                self.path("g.pcap"), "--manifest", self.path("g.json"), *more)
        r = generate(models["plain"], "--rtt", "80ms")
        self.assertEqual(r.returncode, 1)
        self.assertIn("--rtt: " + models["plain"], r.stderr)
        self.assertIn("without conditions", r.stderr)
        for flags, word in ((("--loss", "3"), "a share"), (("--loss", "2x"), "a share"), (("--throughput", "100pps"), "bits a second")):
            r = generate(models["told"], *flags)
            self.assertEqual(r.returncode, 1, flags)
            self.assertIn(flags[0] + ": expected " + word, r.stderr)
        out = []
        for flags in ([], ["--rtt", "80ms", "--loss", "2%"], ["--throughput", "5Mbps", "--session-seconds", "30", "--session-packets", "500"]):
            r = generate(models["told"], *flags)
            self.assertEqual(r.returncode, 0, r.stderr)
            with open(self.path("g.json"), encoding="utf-8") as f:
                out.append(json.load(f)["source"]["conditions"])
        self.assertEqual(out[0], {})
        self.assertEqual(sorted(out[1]), ["loss", "rtt"])
        self.assertAlmostEqual(out[1]["rtt"], 0.08, delta=0.08 * 0.2)
        self.assertAlmostEqual(out[1]["loss"], 0.02, delta=0.02 * 0.2)
        self.assertEqual(sorted(out[2]), ["duration", "packets", "throughput"])

    def test_full_disk(self):
        part = self.path("part")
        with open(self.path("part.err"), "wb") as said:
            p = subprocess.Popen([NETSSM, "train", *self.args(steps="20000"), "--out", part], stdout=subprocess.DEVNULL, stderr=said)
        while not os.path.exists(os.path.join(part, "last")) and p.poll() is None:
            time.sleep(0.01)
        p.terminate()
        self.assertEqual(p.wait(timeout=60), 130)
        before = tree(os.path.join(part, "last"))
        size = len(before["optimizer.safetensors"])
        for limit, name in ((size // 2, "optimizer.safetensors"), (len(before["model.safetensors"]) // 2, "model.safetensors")):
            r = self.refused(f"part/last.tmp.*{name}: cannot write at offset .*File too large",
                *self.args(steps="20000"), "--out", part, "--resume",
                preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
            self.assertIn("the last good checkpoint is kept in " + os.path.join(part, "last"), r.stderr)
            self.assertEqual(tree(os.path.join(part, "last")), before)
            self.assertEqual(sorted(os.listdir(part)), ["last", "log.csv"])

    def test_plans(self):
        out = self.path("minutes")
        args = ["--corpus", self.path("train.nssm"), *TINY]
        r = netssm("train", *args, "--minutes", "0.003", "--out", out)
        self.assertEqual(r.returncode, 0, r.stderr)
        said = re.search(r"a step takes ([\d.]+) s here: 0.003 minutes are (\d+) steps", r.stdout)
        with open(os.path.join(out, "log.csv"), encoding="ascii") as f:
            rows = len(f.readlines()) - 1
        self.assertEqual(int(said[2]), rows)
        # The plan is kept: it is not measured again.
        r = netssm("train", *args, "--minutes", "0.003", "--out", out, "--resume")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn(f"finished: {rows} of {rows} steps", r.stdout)
        # Steps come before epochs, epochs before minutes; an epoch has as many steps as its tokens need.
        for more, steps in ((["--epochs", "2"], None), (["--epochs", "2", "--minutes", "1000"], None),
                (["--steps", "3", "--epochs", "9"], 3)):
            out = self.path("plan")
            shutil.rmtree(out, True)
            r = netssm("train", *args, *more, "--out", out)
            self.assertEqual(r.returncode, 0, r.stderr)
            epoch = 1 + 8 * 64 + 7 + 1 - 1  # label, packets, what stands between them, end; the first is not predicted
            with open(os.path.join(out, "log.csv"), encoding="ascii") as f:
                self.assertEqual(len(f.readlines()) - 1, steps or math.ceil(2 * epoch / 64))


if __name__ == "__main__":
    unittest.main()
