#!/usr/bin/python3
"""A checkpoint as mamba_ssm saves it, through scripts/convert_checkpoint.py and through netssm, read by a reader of its own.

usage: convert_checkpoint.py CKPT_TOOL CONVERTER
"""
import collections
import contextlib
import importlib.util
import io
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

TOOL, CONVERTER = sys.argv[1:3]
D, L, E, H, N, K, V, VPAD = 32, 2, 64, 4, 16, 4, 262, 272
CONFIG = {"d_model": D, "d_intermediate": 0, "n_layer": L, "vocab_size": V,
          "ssm_cfg": {"layer": "Mamba2", "d_state": N, "headdim": 16}, "attn_layer_idx": [], "attn_cfg": {},
          "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 16,
          "tie_embeddings": True}


def read(path):
    """name -> (dtype, array of raw numbers)"""
    blob = open(path, "rb").read()
    (n,) = struct.unpack("<Q", blob[:8])
    assert n % 8 == 0
    out = {}
    for name, t in json.loads(blob[8:8 + n]).items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            kind = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[t["dtype"]]
            out[name] = t["dtype"], np.frombuffer(blob[8 + n + a:8 + n + b], kind).reshape(t["shape"])
    return out


def rounded(x, dtype):
    """fp32 to the stored numbers, without PyTorch."""
    if dtype == "fp32":
        return "F32", x
    if dtype == "fp16":
        return "F16", x.astype(np.float16)
    u = x.view(np.uint32).astype(np.uint64)
    return "BF16", ((u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)


def state_dict():
    torch.manual_seed(5)
    s = collections.OrderedDict()
    s["backbone.embedding.weight"] = torch.randn(VPAD, D) * 0.02
    s["backbone.embedding.weight"][V:] = 0
    for i in range(L):
        p = f"backbone.layers.{i}."
        s[p + "mixer.dt_bias"] = torch.randn(H)
        s[p + "mixer.A_log"] = torch.rand(H)
        s[p + "mixer.D"] = torch.ones(H)
        s[p + "mixer.in_proj.weight"] = torch.randn(2 * E + 2 * N + H, D)
        s[p + "mixer.conv1d.weight"] = torch.randn(E + 2 * N, 1, K)
        s[p + "mixer.conv1d.bias"] = torch.randn(E + 2 * N)
        s[p + "mixer.norm.weight"] = torch.randn(E) * 1e-6  # fp16 denormals
        s[p + "mixer.out_proj.weight"] = torch.randn(E, D).t()  # not contiguous
        s[p + "norm.weight"] = torch.randn(D)
    s["backbone.norm_f.weight"] = torch.randn(D)
    s["lm_head.weight"] = s["backbone.embedding.weight"]
    return s


def make(folder, state, config=None):
    os.makedirs(folder)
    torch.save(state, os.path.join(folder, "pytorch_model.bin"))
    json.dump(config or CONFIG, open(os.path.join(folder, "config.json"), "w"))
    return folder


def run(*args):
    return subprocess.run(args, capture_output=True, text=True)


def script(*args):
    """The converter's main in this process (PyTorch takes seconds to load): what it exits with, None for success."""
    sys.argv = [CONVERTER, *args]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            converter.main()
    except SystemExit as e:
        return e.code
    return None


def convert(*args):
    code = script(*args)
    assert code is None, code
    return args[1]


def refused(names, *args):
    code = script(*args)
    assert isinstance(code, str) and names in code, (names, code)
    assert not os.path.exists(args[1]) and not [f for f in os.listdir(tmp) if ".tmp." in f], args[1]


def same(path, state, dtype):
    got = read(os.path.join(path, "model.safetensors"))
    want = {k: v for k, v in state.items() if k != "lm_head.weight"}
    assert set(got) == set(want), set(got) ^ set(want)
    for name, t in want.items():
        stored, x = rounded(np.ascontiguousarray(t.float().numpy()), dtype)
        assert got[name][0] == stored, name
        assert got[name][1].shape == x.shape and got[name][1].tobytes() == x.tobytes(), (dtype, name)


sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("converter", CONVERTER)
converter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(converter)


class Hostile:
    def __reduce__(self):
        return os.mkdir, (os.path.join(tmp, "owned"),)


with tempfile.TemporaryDirectory(prefix="netssm-test-") as tmp:
    at = lambda name: os.path.join(tmp, name)  # noqa: E731
    state = state_dict()
    src = make(at("src"), state)
    for dtype in ("fp32", "bf16", "fp16"):
        out = convert(src, at(dtype), "--dtype", dtype, "--labels", "web,dns")
        same(out, state, dtype)
        # netssm loads it and saves it again in the same type: not one bit changes.
        r = run(TOOL, "copy", out, at(dtype + "-again"), dtype)
        assert r.returncode == 0, r.stderr
        same(at(dtype + "-again"), state, dtype)
        # The tokenizer that the script makes is the one that netssm makes.
        a, b = (json.load(open(os.path.join(d, "tokenizer.json"))) for d in (out, at(dtype + "-again")))
        assert a == b
        assert json.load(open(at(dtype + "-again/netssm.json")))["codec"] == {
            "kind": "raw", "version": 1, "pkt_len": 128, "compat": "paper"}
    # netssm rounds as the script does.
    r = run(TOOL, "copy", at("fp32"), at("bf16-c"), "bf16")
    assert r.returncode == 0, r.stderr
    same(at("bf16-c"), state, "bf16")

    # Wrapped and prefixed, half on disk, with a tokenizer of its own, and what the codec was.
    half = {"_orig_mod.module." + k: v.bfloat16() for k, v in state.items()}
    src2 = make(at("src2"), {"state_dict": half, "step": 3})
    json.dump(json.load(open(at("fp32/tokenizer.json"))), open(os.path.join(src2, "tokenizer.json"), "w"), indent=3)
    convert(src2, at("out2"), "--pkt-len", "106", "--compat", "none")
    same(at("out2"), {k: v.bfloat16() for k, v in state.items()}, "fp32")
    r = run(TOOL, "copy", at("out2"), at("out2-again"), "fp32")
    assert r.returncode == 0, r.stderr
    assert json.load(open(at("out2-again/netssm.json")))["codec"]["pkt_len"] == 106

    # A state_dict of a real module carries version metadata beside its tensors.
    m = torch.nn.Module()
    m.backbone = torch.nn.Module()
    m.backbone.embedding = torch.nn.Embedding(VPAD, D)
    convert(make(at("src3"), m.state_dict()), at("out3"), "--labels", "a")
    same(at("out3"), m.state_dict(), "fp32")

    refused("leave out --labels", src2, at("no"), "--labels", "a")
    refused("name the labels", src, at("no"))
    refused("'pkt'", src, at("no"), "--labels", "a,pkt")
    refused("'a'", src, at("no"), "--labels", "a,a")
    refused("config.json", at("nowhere"), at("no"), "--labels", "a")
    head = dict(state, **{"lm_head.weight": state["lm_head.weight"] + 1})
    refused("lm_head.weight", make(at("b1"), head), at("no"), "--labels", "a")
    refused("other.weight", make(at("b2"), dict(state, **{"other.weight": torch.ones(2)})), at("no"), "--labels", "a")
    refused("a second tensor", make(at("b3"), dict(state, **{"module.backbone.norm_f.weight": torch.ones(D)})), at("no"),
            "--labels", "a")
    refused("torch.int64", make(at("b4"), dict(state, **{"backbone.n": torch.ones(2, dtype=torch.int64)})), at("no"),
            "--labels", "a")
    refused("backbone.embedding.weight: missing", make(at("b5"), {"backbone.x": torch.ones(2)}), at("no"), "--labels", "a")
    refused("do not fit into fp16", make(at("b6"), dict(state, **{"backbone.norm_f.weight": torch.full((D,), 7e4)})),
            at("no"), "--labels", "a", "--dtype", "fp16")
    refused("Mamba1", make(at("b7"), state, dict(CONFIG, ssm_cfg={})), at("no"), "--labels", "a")
    refused("tie_embeddings", make(at("b8"), state, dict(CONFIG, tie_embeddings=False)), at("no"), "--labels", "a")
    refused("pytorch_model.bin", make(at("b9"), {"backbone.embedding.weight": Hostile()}), at("no"), "--labels", "a")
    assert not os.path.exists(at("owned"))
    open(os.path.join(at("b9"), "pytorch_model.bin"), "wb").write(b"junk")
    refused("pytorch_model.bin", at("b9"), at("no"), "--labels", "a")
    r = run(sys.executable, CONVERTER, src, at("fp32"), "--labels", "a")
    assert r.returncode == 1 and "exists already" in r.stderr and "Traceback" not in r.stderr, r.stderr
print("ok: fp32, bf16, fp16")
