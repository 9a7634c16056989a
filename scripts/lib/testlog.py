"""Reads Meson's testlog.json and counts.

testlog.py read NAME TESTLOG.JSON   one line a test: OK|FAIL|SKIP <tab> NAME: test <tab> reason
testlog.py sum RESULTS              lists failures and skips, prints 'N passed, N failed[, N skipped]';
                                    exit code 0 only if tests ran and none failed
"""
import json
import re
import sys

STATUS = {"OK": "OK", "EXPECTEDFAIL": "OK", "SKIP": "SKIP"}  # whatever else Meson says is a failure


def reason_of(test):
    """The line that says why: the last one about skipping, else the last one."""
    text = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    about = [line for line in lines if re.search(r"skip", line, re.I) and not line.startswith("[  SKIPPED ]")]
    return (about or lines or ["no reason given"])[-1]


def read(name, path):
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            tests = [json.loads(line) for line in log if line.strip()]
    except FileNotFoundError:
        tests = []
    for test in tests:
        status = STATUS.get(test["result"], "FAIL")
        if status == "FAIL":
            why = f"{test['result']}, exit code {test.get('returncode')}"
        elif status == "SKIP":
            why = reason_of(test)
        else:
            # Cases that a cmocka test left out by itself.
            left_out = sorted(set(re.findall(r"\[  SKIPPED \] (\w+)$", test.get("stdout") or "", re.M)))
            why = "left out: " + ", ".join(left_out) if left_out else ""
        print(status, f"{name}: {test['name']}", re.sub(r"\s+", " ", why), sep="\t")


def total(path):
    count = {"OK": 0, "FAIL": 0, "SKIP": 0}
    listed = {"OK": [], "FAIL": [], "SKIP": []}
    with open(path, encoding="utf-8") as results:
        for line in results:
            status, name, why = line.rstrip("\n").split("\t", 2)
            count[status] += 1
            if why or status != "OK":
                listed[status].append(f"  {name}: {why}" if why else f"  {name}")
    for status, title in (("OK", "passed, with remarks"), ("SKIP", "skipped"), ("FAIL", "failed")):
        if listed[status]:
            print(f"{title}:", *listed[status], sep="\n")
    if not count["OK"] and not count["FAIL"]:
        print("no test ran")
    line = f"{count['OK']} passed, {count['FAIL']} failed"
    print(line + (f", {count['SKIP']} skipped" if count["SKIP"] else ""))
    return 1 if count["FAIL"] or not count["OK"] else 0


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "read":
        read(sys.argv[2], sys.argv[3])
    elif len(sys.argv) == 3 and sys.argv[1] == "sum":
        sys.exit(total(sys.argv[2]))
    else:
        sys.exit(__doc__)
