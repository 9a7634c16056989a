"""The program's outside: help names every command and every flag of keys.def, misspelt words get a suggestion and
exit 2, errors exit 1 on standard error, a standard output that cannot be written is an error, the manual is clean roff.

usage: cli.py NETSSM"""

import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NETSSM = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else sys.exit(__doc__)
BITS = {"P": "prepare", "T": "train", "G": "generate", "I": "info", "B": "bench", "R": "replay", "U": "run", "D": "decode", "N": "nprint", "E": "eval"}


def run(*args, **how):
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, "text": True} | how
    return subprocess.run([NETSSM, *args], **how)


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return f.read()


def built_commands():
    return re.findall(r"'cmd_(\w+)\.c'", read("app", "meson.build"))


def flags():
    """{command: {flag: (type, choices)}} from keys.def, read on its own."""
    out = {name: {} for name in BITS.values()}
    row = re.compile(
        r'^KEY\(\w+,\s*"\w+\.(\w+)",\s*(\w+),.*?,\s*(NULL|"[^"]*"),\s*(0|[A-Z](?:\s*\|\s*[A-Z])*),\s*"', re.M | re.S)
    text = read("conf", "keys.def")
    rows = row.findall(text)
    assert len(rows) == len(re.findall(r"^KEY\(", text, re.M)), "a row of keys.def was not understood"
    for name, kind, choices, bits in rows:
        for bit in re.findall("[A-Z]", bits):
            out[BITS[bit]]["--" + name.replace("_", "-")] = (kind, choices.strip('"'))
    return out


def keys_of(bit):
    """{section: [key]} of the command with this letter in keys.def."""
    out = {}
    for section, key in re.findall(rf'^KEY\(\w+, "(\w+)\.(\w+)",.* {bit}\b[ |A-Z]*, "', read("conf", "keys.def"), re.M):
        out.setdefault(section, []).append(key)
    return out


def named_in(profile):
    """{section: [key]} of a profile, what is commented out, too."""
    out = {}
    for line in read("conf", profile).splitlines():
        section = re.match(r"(\w+):", line)
        key = re.match(r"    (?:# )?(\w+):(?: |$)", line)
        if section:
            keys = out.setdefault(section[1], [])
        elif key:
            keys.append(key[1])
    return out


class Cli(unittest.TestCase):
    def test_help(self):
        texts = {run(*args).stdout for args in (["--help"], ["-h"], ["help"])}
        self.assertEqual(len(texts), 1)
        r = run("--help")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        listed = re.findall(r"^  (\w+) +\S.*$", r.stdout.split("commands:")[1].split("\n\n")[0], re.M)
        self.assertEqual(sorted(listed), sorted(built_commands()))
        lines = r.stdout.splitlines()
        self.assertLessEqual(len(lines), 24)
        self.assertLessEqual(max(map(len, lines)), 80)
        for step in ("netssm prepare --", "netssm train --", "netssm generate --", "netssm replay "):
            self.assertIn("  " + step, r.stdout)

    def test_examples_use_real_flags(self):
        all_flags = flags()
        texts = [run("--help").stdout] + [run("help", c).stdout for c in built_commands()]
        for line in "\n".join(texts).splitlines():
            m = re.match(r"\s*(?:usage: )?netssm (\w+) (.*--.*)", line)
            if m and m[1] in all_flags:
                for flag in re.findall(r"(?<!\S)\[?(--[a-z][a-z0-9-]*)", m[2]):
                    if flag not in ("--config", "--help"):
                        self.assertIn(flag.replace("--no-", "--"), all_flags[m[1]], line)

    def test_command_help(self):
        for name in built_commands():
            with self.subTest(name):
                r = run(name, "--help")
                for line in r.stdout.splitlines():
                    self.assertLessEqual(len(line), 80, line)
                self.assertEqual((r.returncode, r.stderr), (0, ""))
                self.assertEqual(r.stdout, run("help", name).stdout)
                self.assertEqual(r.stdout, run(name, "-h").stdout)
                for flag, (_, choices) in flags()[name].items():
                    self.assertRegex(r.stdout, r"(?m)^  " + re.escape(flag) + r"( |$)")
                    if choices != "NULL":
                        self.assertIn(choices, r.stdout)
                shown = set(re.findall(r"(?m)^  (--[a-z0-9-]+)", r.stdout))
                self.assertEqual(shown - {"--config", "--help"}, set(flags()[name]))

    def test_flags_are_taken(self):
        """Each flag of help is known to the parser: given a value that cannot be, it is the value that is refused. What several
        commands share is tried with one of them."""
        tried = set()
        for name in built_commands():
            for flag, (kind, _) in flags()[name].items():
                if (flag, kind) in tried:
                    continue
                tried.add((flag, kind))
                if kind in ("STR", "LIST"):
                    r = run(name, flag)
                    self.assertIn(f"{flag}: needs a value", r.stderr)
                else:
                    r = run(name, flag + "=?")
                    self.assertRegex(r.stderr, "^netssm: error: " + re.escape(flag) + r": expected .*, found '\?'")
                self.assertEqual((r.returncode, r.stdout), (2, ""))

    def test_other_commands_flags(self):
        all_flags = flags()
        for name in built_commands():
            for other in all_flags:
                for flag in sorted(all_flags[other].keys() - all_flags[name].keys())[:3]:
                    r = run(name, flag, "1")
                    self.assertEqual(r.returncode, 2)
                    self.assertRegex(r.stderr, f"{flag}: not a flag of {name}; it belongs to: .*{other}")

    def test_misspelt(self):
        tried = set()
        for name in built_commands():
            r = run(name[:-2] + name[-1] + name[-2])
            self.assertEqual((r.returncode, r.stdout), (2, ""))
            self.assertIn(f"did you mean {name}?", r.stderr)
            for flag in list(flags()[name])[::3]:
                if len(flag) < 9 or flag.startswith("--no-") or flag in tried:
                    continue
                tried.add(flag)
                wrong = flag[:4] + "x" + flag[4:]
                r = run(name, wrong, "1")
                self.assertEqual((r.returncode, r.stdout), (2, ""))
                self.assertIn(f"{wrong}: unknown flag; did you mean --", r.stderr)
        for word in ("xyzzy", "--zzz", ""):
            r = run(word)
            self.assertEqual((r.returncode, r.stdout), (2, ""))
            self.assertIn("unknown command; see netssm --help", r.stderr)
        self.assertEqual(run("help", "xyzzy").returncode, 2)
        r = run()
        self.assertEqual((r.returncode, r.stdout), (2, ""))
        self.assertIn("usage:", r.stderr)

    def test_profile_errors(self):
        with tempfile.TemporaryDirectory() as d:
            bad = os.path.join(d, "bad.yaml")
            with open(bad, "w", encoding="utf-8") as f:
                f.write("model:\n    d_stat: 16\n")
            for name in built_commands():
                r = run(name, "--config", bad)
                self.assertEqual((r.returncode, r.stdout), (1, ""))
                self.assertEqual(r.stderr,
                    f"netssm: error: {bad}:2: model.d_stat: unknown key; did you mean model.d_state?\n")
                r = run(name, "--config", os.path.join(d, "none.yaml"))
                self.assertEqual(r.returncode, 1)
                self.assertIn("none.yaml: cannot open", r.stderr)

    def test_profiles(self):
        """Each profile that comes along is read without complaint, and the complete ones name every key."""
        names = sorted(f for f in os.listdir(os.path.join(ROOT, "conf")) if f.endswith(".yaml"))
        self.assertIn("appliance.yaml", names)
        for name in names:
            r = run("info", "--config", os.path.join(ROOT, "conf", name), os.path.join(ROOT, "samples", "dns-001.pcap.gz"))
            self.assertEqual((r.returncode, r.stderr), (0, ""), name)
        want, named = keys_of("G"), named_in("appliance.yaml")
        self.assertEqual(set(want), {"run", "generate", "output", "live", "clone", "net"})
        for section, keys in want.items():
            self.assertEqual(sorted(named[section]), sorted(keys), section)
        self.assertEqual(sorted(named_in("replay.yaml")["replay"]), sorted(keys_of("R")["replay"]))

    def test_version(self):
        r = run("--version")
        version = re.search(r"version: '([^']+)'", read("meson.build"))[1]
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, f"netssm {version}\n", ""))

    def test_stdout_lost(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            r = run("--help", stdout=full)
        self.assertEqual(r.returncode, 1)
        self.assertIn("cannot write to standard output: No space left on device", r.stderr)
        reader, writer = os.pipe()
        os.close(reader)
        r = run("help", "--man", stdout=writer)
        os.close(writer)
        self.assertEqual(r.returncode, 1)
        self.assertIn("cannot write to standard output", r.stderr)
        r = subprocess.run(["sh", "-c", '"$0" --version >&-', NETSSM], stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual(r.returncode, 1)
        self.assertIn("cannot write to standard output: Bad file descriptor", r.stderr)
        r = subprocess.run(["sh", "-c", '"$0" xyzzy >&- 2>&- <&-', NETSSM], timeout=60)
        self.assertEqual(r.returncode, 2)

    def test_closed_descriptors(self):
        """No message ends up in a file that was given the number of a closed standard descriptor."""
        if "prepare" not in built_commands():
            print("SKIP: no prepare, nothing here writes a file")
            self.skipTest("no prepare")
        frame = bytes.fromhex("020000000001" "020000000002" "0800" "4500001c000000004011" "0000" "0a0000010a000002"
            "0035c00000080000")
        with tempfile.TemporaryDirectory() as d:
            with open(os.path.join(d, "a.pcap"), "wb") as f:
                f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
                f.write(struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame)
            command = '"$0" prepare --captures a.pcap --label x --out corpus.nssm --progress live'
            found = []
            for closed in ("", " >&-", " 2>&-", " >&- 2>&-", " <&- >&- 2>&-"):
                subprocess.run(["sh", "-c", command + closed, NETSSM], cwd=d, capture_output=True, timeout=60)
                with open(os.path.join(d, "corpus.nssm"), "rb") as f:
                    found.append(f.read())
                os.remove(os.path.join(d, "corpus.nssm"))
            self.assertEqual(found, found[:1] * len(found))

    def test_manual(self):
        r = run("help", "--man")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertTrue(r.stdout.isascii())
        for name in built_commands():
            self.assertIn(f".SS netssm {name}\n", r.stdout)
            for flag in flags()[name]:
                self.assertIn(flag.replace("-", r"\-"), r.stdout)
        if shutil.which("groff") is None:
            print("SKIP: no groff, the manual was not rendered")
            self.skipTest("no groff")
        g = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-rLL=100n"], input=r.stdout, capture_output=True, text=True,
            timeout=60)
        self.assertEqual((g.returncode, g.stderr), (0, ""))
        page = re.sub("\x1b\\[[0-9;]*m|.\b", "", g.stdout)
        for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "COMMON FLAGS", "PROFILES", "EXIT STATUS"):
            self.assertRegex(page, f"(?m)^{section}$")


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    sys.exit(1 if not result.wasSuccessful() else 77 if result.skipped else 0)
