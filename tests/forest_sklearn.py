#!/usr/bin/env python3
"""app/eval's forest beside scikit-learn's RandomForestClassifier: accuracy, out-of-bag score, probabilities and importances on made
data are what scikit-learn's own seeds spread around.

usage: forest_sklearn.py FOREST_TOOL     exit 77 without scikit-learn"""
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from sklearn.datasets import make_blobs, make_moons
    from sklearn.ensemble import RandomForestClassifier
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


for i, make in enumerate((blobs, moons, xor, coarse)):
    rng = np.random.RandomState(100 + i) if make in (blobs, moons) else np.random.default_rng(100 + i)
    compare(make.__name__, *make(rng, 400), *make(rng, 1500))
sys.exit(1 if failed else 0)
