#!/usr/bin/env python3
"""app/eval's forest beside scikit-learn's RandomForestClassifier: accuracy, out-of-bag score, probabilities and importances on made
data are what scikit-learn's own seeds spread around. Its metrics are scikit-learn's to the last digits.

With NETSSM_CORPUS the same on the session features of its tier iot: trained on split train, judged on val, and in 5 folds.

usage: forest_sklearn.py FOREST_TOOL     exit 77 without scikit-learn"""
import csv
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from scipy.stats import binom
    from sklearn.datasets import make_blobs, make_moons
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, roc_auc_score
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(77)

TOOL = sys.argv[1]
TREES = 100
SEEDS = 10
failed = []


def check(ok, what):
    print(("ok   " if ok else "FAIL ") + what)
    if not ok:
        failed.append(what)


def blobs(rng, n):
    x, y = make_blobs(n, n_features=12, centers=np.random.RandomState(5).uniform(-2, 2, (5, 12)), cluster_std=2.5, random_state=rng)
    return x, y


def moons(rng, n):
    x, y = make_moons(n, noise=0.35, random_state=rng)
    return np.hstack([x, rng.normal(size=(n, 3))]), y


def xor(rng, n):
    x = rng.normal(size=(n, 6))
    y = (x[:, 0] > 0) ^ (x[:, 1] > 0) ^ (rng.uniform(size=n) < 0.1)
    return x, y.astype(int)


def coarse(rng, n):
    """Few values, many ties, classes of unlike size, a column that never changes."""
    x = rng.integers(0, 4, size=(n, 9)).astype(float)
    x[:, 8] = 7
    y = np.where(x[:, 0] + x[:, 1] > 4, 2, np.where(x[:, 2] == 3, 1, 0))
    noisy = rng.uniform(size=n) < 0.15
    y[noisy] = rng.integers(0, 3, size=noisy.sum())
    return x, y


def write(path, x, y):
    with open(path, "w") as f:
        for row, c in zip(x, y):
            f.write(",".join(f"{v:.9g}" for v in row) + f",{c}\n")


def ours(folder, seed):
    out = subprocess.run([TOOL, "fit", str(TREES), str(seed), f"{folder}/train.csv", f"{folder}/test.csv"], check=True,
                         capture_output=True, text=True).stdout.splitlines()
    oob = float(out[0].split(",")[0])
    return oob, np.array(out[1].split(","), float), np.array([r.split(",") for r in out[2:]], float)


def close(name, a, b, floor):
    """Two means over seeds: within 3.5 standard errors of their difference."""
    a, b = np.array(a), np.array(b)
    tol = 3.5 * np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)) + floor
    check(abs(a.mean() - b.mean()) <= tol,
          f"{name}: {a.mean():.4f} ({a.min():.4f}-{a.max():.4f}), scikit-learn {b.mean():.4f} ({b.min():.4f}-{b.max():.4f}), tolerance {tol:.4f}")


def compare(name, xt, yt, xv, yv):
    xt, xv = xt.astype(np.float32), xv.astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        write(os.path.join(folder, "train.csv"), xt, yt)
        write(os.path.join(folder, "test.csv"), xv, yv)
        mine = [ours(folder, s) for s in range(SEEDS)]
    theirs = []
    for s in range(SEEDS):
        m = RandomForestClassifier(TREES, oob_score=True, random_state=s).fit(xt, yt)
        theirs.append((m.oob_score_, m.feature_importances_, m.predict_proba(xv)))
    # A tie on a coarse test set goes either way with one seed: 1 row of the set is nothing to fail for.
    row = 1 / len(yv)
    close(name + ", accuracy", [(p.argmax(1) == yv).mean() for _, _, p in mine], [(p.argmax(1) == yv).mean() for _, _, p in theirs], row)
    close(name + ", out of bag", [m[0] for m in mine], [t[0] for t in theirs], 1 / len(yt))
    for k in range(xt.shape[1]) if xt.shape[1] < 20 else ():
        close(f"{name}, importance of {k}", [m[1][k] for m in mine], [t[1][k] for t in theirs], 5e-4)

    def corr(a, b):
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]
    own = [corr(a[2], b[2]) for i, a in enumerate(theirs) for b in theirs[:i]]
    cross = [corr(a[2], b[2]) for a in mine for b in theirs]
    check(np.mean(cross) >= min(own), f"{name}, probabilities: correlation {np.mean(cross):.5f}, scikit-learn's seeds {min(own):.5f}-{max(own):.5f}")
    mean = np.abs(np.mean([m[2] for m in mine], 0) - np.mean([t[2] for t in theirs], 0)).max()
    check(mean < 0.12, f"{name}, probabilities: means over the seeds differ by {mean:.4f} at most")


def metrics(name, y, pred, score):
    k = int(max(y.max(), pred.max())) + 1
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rows.csv")
        write(path, np.stack([pred, score], 1), y)
        out = subprocess.run([TOOL, "metrics", str(k), path], check=True, capture_output=True, text=True).stdout.splitlines()
    got = np.array([r.split(",") for r in out[1:]], float)
    p, r, f1, _ = precision_recall_fscore_support(y, pred, labels=range(k), zero_division=0)
    check(np.allclose(got[:, :3], np.stack([p, r, f1], 1), atol=1e-12), f"{name}: precision, recall, F1 of {k} classes")
    accuracy, macro, auc, lo, hi = np.array(out[0].split(","), float)
    check(abs(accuracy - accuracy_score(y, pred)) < 1e-12, f"{name}: accuracy {accuracy:.4f}")
    check(abs(macro - f1_score(y, pred, average="macro", zero_division=0)) < 1e-12, f"{name}: macro F1 {macro:.4f}")
    check(abs(auc - roc_auc_score(y == 1, score)) < 1e-12, f"{name}: ROC-AUC {auc:.4f}")
    # Hits in a resample are binomial. 4,000 resamples find the percentiles to a row or a tenth of the spread.
    want = binom.ppf([0.025, 0.975], len(y), accuracy) / len(y)
    tol = 1 / len(y) + 0.1 * np.sqrt(accuracy * (1 - accuracy) / len(y))
    check(max(abs(lo - want[0]), abs(hi - want[1])) <= tol, f"{name}: bootstrap interval {lo:.4f}-{hi:.4f}, binomial {want[0]:.4f}-{want[1]:.4f}")


def all_metrics():
    rng = np.random.default_rng(9)
    for n, k in ((50, 2), (400, 3), (3000, 7)):
        y = rng.integers(0, k, n)
        pred = np.where(rng.uniform(size=n) < 0.6, y, rng.integers(0, k, n))
        # Float32 scores, as many as there are and then a few that tie often.
        score = (rng.normal(size=n) + (y == 1)).astype(np.float32)
        metrics(f"{n} rows, {k} classes", y, pred, score)
        metrics(f"{n} rows, {k} classes, ties", y, pred, np.round(score * 2))
    # Class 2 is never predicted, class 3 never true.
    y = rng.choice([0, 1, 2], 200)
    metrics("classes that do not occur", y, np.where(rng.uniform(size=200) < 0.5, np.minimum(y, 1), 3), rng.normal(size=200).astype(np.float32))


def corpus(folder):
    with open(os.path.join(folder, "tiers.csv")) as f:
        iot = {r["Label"] for r in csv.DictReader(f) if r["Tier"] == "iot"}
    with open(os.path.join(folder, "labels.csv")) as f:
        rows = [r for r in csv.DictReader(f) if r["Label"] in iot]
    files = [os.path.join(folder, r["File"]) for r in rows]
    files = [p if os.path.exists(p) else os.path.join(folder, "pcaps", r["File"]) for p, r in zip(files, rows)]
    out = subprocess.run([TOOL, "features", *files], check=True, capture_output=True, text=True).stdout.splitlines()
    names, x = out[0].split(","), np.array([r.split(",") for r in out[1:]], np.float32)
    y = np.unique([r["Label"] for r in rows], return_inverse=True)[1]
    val = np.array([r["Split"] == "val" for r in rows])
    check(np.isfinite(x).all(), f"{x.shape[0]} sessions of tier iot, {x.shape[1]} features, all finite")
    compare("iot, train to val", x[~val], y[~val], x[val], y[val])
    with tempfile.TemporaryDirectory() as tmp:
        right = 0
        importance = np.zeros(len(names))
        for k in range(5):
            held = np.arange(len(y)) % 5 == k
            write(os.path.join(tmp, "train.csv"), x[~held], y[~held])
            write(os.path.join(tmp, "test.csv"), x[held], y[held])
            _, i, p = ours(tmp, 1)
            right += (p.argmax(1) == y[held]).sum()
            importance += i / 5
    check(right >= 0.97 * len(y), f"iot, 5 folds: {right} of {len(y)} sessions right")
    print("     most important: " + ", ".join(f"{names[i]} {importance[i]:.3f}" for i in np.argsort(-importance)[:8]))


all_metrics()
for i, make in enumerate((blobs, moons, xor, coarse)):
    rng = np.random.RandomState(100 + i) if make in (blobs, moons) else np.random.default_rng(100 + i)
    compare(make.__name__, *make(rng, 400), *make(rng, 1500))
if "NETSSM_CORPUS" in os.environ:
    corpus(os.environ["NETSSM_CORPUS"])
else:
    print("skipped: the sessions of tier iot, NETSSM_CORPUS is not set")
sys.exit(1 if failed else 0)
