#!/usr/bin/python3
"""A checkpoint saved by netssm, read by an independent reader, run by an independent Mamba-2: the same logits.

usage: torch_logits.py CKPT_TOOL [MODEL...]     (MODEL: checkpoints to check besides freshly made ones)
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
except ImportError as e:
    print(f"SKIP: {e}")
    sys.exit(77)

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden"))
import mamba2_torch

TOOL = sys.argv[1]


def read_safetensors(path):
    blob = open(path, "rb").read()
    (n,) = struct.unpack("<Q", blob[:8])
    out = {}
    for name, t in json.loads(blob[8:8 + n]).items():
        if name == "__metadata__":
            continue
        a, b = t["data_offsets"]
        raw = np.frombuffer(blob[8 + n + a:8 + n + b], {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[t["dtype"]])
        if t["dtype"] == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        out[name] = torch.tensor(raw.astype(np.float64)).reshape(t["shape"])
    return out


def check(folder, tokens):
    j = json.load(open(os.path.join(folder, "config.json")))
    s = j["ssm_cfg"]
    c = mamba2_torch.config(j["d_model"], j["n_layer"], s["expand"], s["headdim"], s["d_state"], s["d_conv"], j["vocab_size"],
                            j["pad_vocab_size_multiple"])
    rng = np.random.default_rng(2)
    about = json.load(open(os.path.join(folder, "netssm.json"))) if os.path.exists(os.path.join(folder, "netssm.json")) else {}
    c["n_context"] = j.get("n_context", 0)
    c["n_cond"] = about["codec"].get("conditions", 0) if about.get("condition_rows") else 0
    contexts = rng.integers(0, c["n_context"], len(tokens)).tolist() if c["n_context"] else None
    conditions = [int(v) for v in rng.integers(0, 256, c["n_cond"])]
    conditions[:1] = [0] * len(conditions[:1])  # one is unknown
    params = read_safetensors(os.path.join(folder, "model.safetensors"))
    assert sorted(params) == sorted(n for n, _ in mamba2_torch.tensors(c)), "tensor names"
    with torch.no_grad():
        want = mamba2_torch.forward(params, c, tokens, [0] * len(tokens), contexts, conditions).numpy()
    text = subprocess.run([TOOL, "logits", folder, ",".join(map(str, conditions)) or "-"] +
                          [f"{t}:{x}" for t, x in zip(tokens, contexts or [0] * len(tokens))], check=True, capture_output=True, text=True).stdout
    got = np.array([[float(x) for x in line.split()] for line in text.splitlines()])
    assert got.shape == want.shape, (got.shape, want.shape)
    err = np.abs(got - want).max() / np.abs(want).max()
    print(f"{folder}: {len(tokens)} tokens, largest difference {err:.2e} of the largest logit")
    return bool(err <= 5e-5)


def main():
    rng = np.random.default_rng(1)
    ok = True
    with tempfile.TemporaryDirectory() as tmp:
        for dtype in ("fp32", "bf16", "fp16"):
            folder = os.path.join(tmp, dtype)
            subprocess.run([TOOL, "make", folder, dtype, "5"], check=True)
            ok &= check(folder, [260] + rng.integers(0, 260, 40).tolist())
    for folder in sys.argv[2:]:
        if not os.path.isdir(folder):
            print(f"{folder}: not there")
            sys.exit(77)
        ok &= check(folder, [260] + rng.integers(0, 256, 60).tolist())
    sys.exit(0 if ok else 1)


main()
