"""The metrics page as a scraper sees it: headers, other paths and methods, many clients at once, and the text against the grammar
of OpenMetrics 1.0 (families whole and in one piece, metadata first, names and units, label escapes, buckets that never fall).

usage: metrics.py TEST_METRICS"""

import concurrent.futures
import os
import re
import socket
import subprocess
import sys
import unittest
import urllib.error
import urllib.request

TOOL = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else sys.exit(__doc__)

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? (\S+)$")
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$")
SUFFIXES = {"counter": {"_total": "v"}, "gauge": {"": "v"}, "info": {"_info": "v"},
            "histogram": {"_bucket": "b", "_count": "c", "_sum": "s"}}


def parse(text):
    """{family: {"type", "unit", "help", "samples": [(suffix, {label: value}, number)]}}; raises on what the grammar forbids."""
    assert text.endswith("# EOF\n"), "no # EOF at the end"
    lines = text[: -len("# EOF\n")].split("\n")
    assert lines.pop() == "", "last line has no newline"
    families, current = {}, None
    for line in lines:
        assert line == line.strip() and line and "\r" not in line, f"blank or blanks: {line!r}"
        if line.startswith("#"):
            m = re.match(rf"# (TYPE|UNIT|HELP) ({NAME}) (.*)$", line)
            assert m, f"no metadata: {line!r}"
            what, name, rest = m.groups()
            if name != current:
                assert name not in families, f"family {name} is in two pieces"
                families[name] = {"samples": []}
                current = name
            f = families[name]
            assert not f["samples"], f"metadata after samples: {line!r}"
            assert what.lower() not in f, f"twice: {line!r}"
            f[what.lower()] = rest
            if what == "TYPE":
                assert rest in SUFFIXES, f"type {rest}"
            if what == "UNIT":
                assert name.endswith("_" + rest), f"{name} does not end in its unit {rest}"
            if what == "HELP":
                assert not re.search(r'(?<!\\)"', rest), f"quote in {line!r}"
            continue
        m = SAMPLE.match(line)
        assert m, f"no sample: {line!r}"
        name, labels, number = m.group(1), m.group(2) or "", m.groups()[-1]
        assert NUMBER.match(number), f"number {number!r}"
        assert current and name.startswith(current), f"sample outside its family: {line!r}"
        f = families[current]
        suffix = name[len(current):]
        assert suffix in SUFFIXES[f["type"]], f"suffix {suffix!r} of a {f['type']}"
        pairs = re.findall(LABEL, labels)
        assert len(dict(pairs)) == len(pairs), f"label twice: {line!r}"
        f["samples"].append((suffix, dict(pairs), float(number)))
    for name, f in families.items():
        assert {"type", "help", "samples"} <= set(f) and f["samples"], f"{name} lacks something"
        keys = [(s, tuple(sorted(labels.items()))) for s, labels, _ in f["samples"]]
        assert len(set(keys)) == len(keys), f"{name}: a sample twice"
        if f["type"] in ("counter", "histogram"):
            assert all(v >= 0 for _, _, v in f["samples"]), name
        if f["type"] == "info":
            assert all(v == 1 for _, _, v in f["samples"]), name
        if f["type"] == "histogram":
            buckets = [(float(labels["le"]), v) for s, labels, v in f["samples"] if s == "_bucket"]
            assert buckets == sorted(buckets) and [v for _, v in buckets] == sorted(v for _, v in buckets), name
            assert buckets[-1][0] == float("inf") and len(buckets) <= 24, name
            (count,) = [v for s, _, v in f["samples"] if s == "_count"]
            assert count == buckets[-1][1] and sum(s == "_sum" for s, _, _ in f["samples"]) == 1, name
    # No family's samples may have the name of another's.
    names = [n + s for n, f in families.items() for s in SUFFIXES[f["type"]]]
    assert len(set(names)) == len(names)
    return families


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = subprocess.Popen([TOOL, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        cls.port = int(cls.server.stdout.readline())
        cls.url = f"http://127.0.0.1:{cls.port}"

    @classmethod
    def tearDownClass(cls):
        cls.server.communicate(timeout=20)
        assert cls.server.returncode == 0

    def get(self, path="/metrics", **how):
        with urllib.request.urlopen(urllib.request.Request(self.url + path, **how), timeout=20) as r:
            return r.headers, r.read().decode()

    def test_the_parser_sees_faults(self):
        good = '# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds x.\na_seconds_total{l="\\"\\\\\\n"} 1\n# EOF\n'
        self.assertEqual(parse(good)["a_seconds"]["samples"], [("_total", {"l": '\\"\\\\\\n'}, 1.0)])
        for old, new in (("# EOF\n", ""), ("_total{", "{"), (" 1\n", " nan\n"), ("UNIT a_seconds seconds", "UNIT a_seconds bytes"),
                         ("counter", "sum"), (" 1\n", "  1\n"), ('\\"', '"'), (" 1\n", " -1\n"), ("\n# HELP", "\n\n# HELP")):
            with self.assertRaises((AssertionError, KeyError), msg=repr((old, new))):
                parse(good.replace(old, new, 1))

    def test_page(self):
        headers, text = self.get()
        self.assertEqual(headers["Content-Type"], "application/openmetrics-text; version=1.0.0; charset=utf-8")
        families = parse(text)
        self.assertGreater(len(families), 50)
        self.assertTrue(all(name.startswith("netssm_") for name in families))
        (info,) = families["netssm_run"]["samples"]
        self.assertEqual(info[1]["source"], r'a \"quoted\\\" name of café ?')
        first = families["netssm_packets_sent"]["samples"][0][2]
        self.assertEqual(parse(self.get()[1])["netssm_packets_sent"]["samples"][0][2], first + 1)
        self.assertEqual(parse(self.get("/metrics?x=y")[1]).keys(), families.keys())

    def test_reference_parser(self):
        try:
            from prometheus_client.openmetrics.parser import text_string_to_metric_families
        except ImportError:
            self.skipTest("no python3-prometheus-client")
        _, text = self.get()
        theirs = {f.name: f for f in text_string_to_metric_families(text)}
        ours = parse(text)
        self.assertEqual(theirs.keys(), ours.keys())
        for name, f in ours.items():
            self.assertEqual([(s.name, float(s.value)) for s in theirs[name].samples], [(name + s, v) for s, _, v in f["samples"]])

    def test_others_are_404(self):
        for path, how in (("/", {}), ("/metrics/", {}), ("/metrics", {"method": "POST", "data": b"x" * 100000}),
                          ("/metrics", {"method": "DELETE"}), ("/../etc/passwd", {}), ("/" + "x" * 5000, {})):
            with self.assertRaises(urllib.error.HTTPError) as e:
                self.get(path, **how)
            self.assertEqual(e.exception.code, 404, path[:20])
            e.exception.close()
        headers, body = self.get(method="HEAD")
        self.assertEqual(body, "")
        self.assertGreater(int(headers["Content-Length"]), 1000)

    def test_hostile_clients(self):
        junk = [b"\0" * 100, b"GET " + b"x" * 100000, b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 20000, b"\xff\xfe\r\n\r\n"]
        open_ones = []
        for data in junk * 3:
            s = socket.create_connection(("127.0.0.1", self.port), timeout=20)
            try:
                s.sendall(data)
            except OSError:
                pass
            open_ones.append(s)
        for s in open_ones[::2]:
            s.close()
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            for _, text in pool.map(lambda _: self.get(), range(40)):
                parse(text)
        for s in open_ones:
            s.close()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
