#!/usr/bin/python3
"""Mamba-2 written down a second time, token by token in float64, straight from the formulae: no chunks, no kernels.

As a module: forward(params, cfg, tokens, resets) -> logits. As a program: writes the golden vectors that
tests/test_mamba2.c compares with (tests/golden/mamba2.bin), from a fixed seed:
    tests/golden/mamba2_torch.py tests/golden/mamba2.bin
File: little-endian; int32 magic 0x3247414d, cases; per case int32 D L expand P N K V multiple B T, int64 number of
parameters, then float32 parameters (in the order of `tensors`), int32 tokens [B,T], targets [B,T], resets [B,T],
float32 logits [B,T,Vpad], float64 loss sum, float32 gradients (as the parameters).
"""
import math
import struct
import sys

import numpy as np
import torch


def tensors(c):
    """Names and shapes, in the order of model/mamba2_cfg.c."""
    E, C, H = c["E"], c["E"] + 2 * c["N"], c["H"]
    out = [("backbone.embedding.weight", (c["Vpad"], c["D"]))]
    for i in range(c["L"]):
        p = f"backbone.layers.{i}."
        out += [
            (p + "norm.weight", (c["D"],)),
            (p + "mixer.dt_bias", (H,)),
            (p + "mixer.A_log", (H,)),
            (p + "mixer.D", (H,)),
            (p + "mixer.in_proj.weight", (E + C + H, c["D"])),
            (p + "mixer.conv1d.weight", (C, 1, c["K"])),
            (p + "mixer.conv1d.bias", (C,)),
            (p + "mixer.norm.weight", (E,)),
            (p + "mixer.out_proj.weight", (c["D"], E)),
        ]
    out.append(("backbone.norm_f.weight", (c["D"],)))
    if c.get("n_context", 0):
        out.append(("backbone.context_embedding.weight", (c["n_context"], c["D"])))
    if c.get("n_cond", 0):
        out.append(("backbone.conditions.weight", (256 * c["n_cond"], c["D"])))
    return out


def config(D, L, expand, P, N, K, V, multiple):
    E = D * expand
    return dict(D=D, L=L, E=E, H=E // P, P=P, N=N, K=K, V=V, Vpad=(V + multiple - 1) // multiple * multiple)


def rmsnorm(x, w):
    return w * x / torch.sqrt((x * x).mean() + 1e-5)


def silu(x):
    return x * torch.sigmoid(x)


def forward(params, c, tokens, resets, contexts=None, conditions=()):
    """tokens, resets: one sequence; contexts: where the model has an embedding of them; conditions: of the sequence, 0: unknown. Returns
    logits [T, V]."""
    emb = params["backbone.embedding.weight"]
    E, N, H, P, K = c["E"], c["N"], c["H"], c["P"], c["K"]
    C = E + 2 * N
    state = None
    out = []
    for tok, reset, context in zip(tokens, resets, contexts or [None] * len(tokens)):
        if reset or state is None:
            state = [(torch.zeros(H, P, N, dtype=torch.float64), [torch.zeros(C, dtype=torch.float64)] * (K - 1))
                     for _ in range(c["L"])]
        r = emb[tok]
        if context is not None:
            r = r + params["backbone.context_embedding.weight"][context]
        for k, value in enumerate(conditions):
            if value > 0:
                r = r + params["backbone.conditions.weight"][256 * k + value]
        for i in range(c["L"]):
            p = f"backbone.layers.{i}."
            S, past = state[i]
            u = params[p + "mixer.in_proj.weight"] @ rmsnorm(r, params[p + "norm.weight"])
            z, xBC, dt = u[:E], u[E:E + C], u[E + C:]
            window = past + [xBC]
            w = params[p + "mixer.conv1d.weight"][:, 0, :]
            conv = params[p + "mixer.conv1d.bias"] + sum(w[:, k] * window[k] for k in range(K))
            conv = silu(conv)
            x, Bm, Cm = conv[:E].view(H, P), conv[E:E + N], conv[E + N:]
            delta = torch.nn.functional.softplus(dt + params[p + "mixer.dt_bias"])
            A = -torch.exp(params[p + "mixer.A_log"])
            S = torch.exp(delta * A)[:, None, None] * S + (delta[:, None] * x)[:, :, None] * Bm[None, None, :]
            y = (S * Cm[None, None, :]).sum(-1) + params[p + "mixer.D"][:, None] * x
            g = rmsnorm(y.reshape(E) * silu(z), params[p + "mixer.norm.weight"])
            r = r + params[p + "mixer.out_proj.weight"] @ g
            state[i] = (S, window[1:])
        out.append(emb[:c["V"]] @ rmsnorm(r, params["backbone.norm_f.weight"]))
    return torch.stack(out)


def random_params(c, rng):
    """Not an initialisation: every tensor far enough from its special values to show in the result."""
    out = {}
    for name, shape in tensors(c):
        v = rng.standard_normal(shape)
        if name.endswith("A_log"):
            v = np.log(rng.uniform(0.5, 8, shape))
        elif name.endswith("dt_bias"):
            v = rng.uniform(-4, 1, shape)
        elif name.endswith("norm.weight") or name.endswith("norm_f.weight") or name.endswith("mixer.D"):
            v = 1 + 0.2 * v
        elif name.endswith("embedding.weight"):
            v = 0.3 * v
            v[c["V"]:] = 0
        else:
            v = v * 0.8 / math.sqrt(shape[-1])
        out[name] = torch.tensor(v.astype(np.float32).astype(np.float64), requires_grad=True)
    return out


def write_case(f, rng, D, L, expand, P, N, K, V, multiple, B, T, borders):
    c = config(D, L, expand, P, N, K, V, multiple)
    params = random_params(c, rng)
    tokens = rng.integers(0, V, (B, T))
    targets = rng.integers(0, V, (B, T))
    targets[:, 5] = -1
    resets = np.zeros((B, T), dtype=np.int64)
    for b, t in borders:
        resets[b, t] = 1
    logits = torch.stack([forward(params, c, tokens[b], resets[b]) for b in range(B)])
    scored = torch.tensor(targets.reshape(-1))
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), scored, ignore_index=-1, reduction="sum")
    loss.backward()
    full = np.full((B, T, c["Vpad"]), -np.inf, dtype=np.float32)
    full[:, :, :V] = logits.detach().numpy()
    flat = [params[n].detach().numpy().astype("<f4").tobytes() for n, _ in tensors(c)]
    grads = [params[n].grad.numpy().astype("<f4").tobytes() for n, _ in tensors(c)]
    f.write(struct.pack("<10i", D, L, expand, P, N, K, V, multiple, B, T))
    f.write(struct.pack("<q", sum(len(b) // 4 for b in flat)))
    for block in flat + [tokens.astype("<i4").tobytes(), targets.astype("<i4").tobytes(), resets.astype("<i4").tobytes(),
                         full.astype("<f4").tobytes(), struct.pack("<d", loss.item())] + grads:
        f.write(block)


def main():
    rng = np.random.default_rng(20260101)
    with open(sys.argv[1], "wb") as f:
        f.write(struct.pack("<2i", 0x3247414D, 2))
        write_case(f, rng, 32, 2, 2, 16, 16, 4, 21, 16, 2, 53, [(0, 0), (1, 0), (1, 1), (1, 17), (0, 52)])
        write_case(f, rng, 16, 1, 4, 32, 32, 3, 10, 8, 1, 70, [(0, 0)])


if __name__ == "__main__":
    main()
