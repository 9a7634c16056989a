#!/usr/bin/python3
"""Turns a checkpoint of the reference (mamba_ssm: pytorch_model.bin and config.json) into a folder that netssm reads.

Tensor names and shapes stay. Prefixes that training wrappers put before them (module., _orig_mod., model.) go, and so
does lm_head.weight, which is the embedding again. The pickle may build tensors and nothing else.
"""
import argparse
import json
import math
import os
import re
import shutil
import struct
import sys
import tempfile

try:
    import torch
except ImportError:
    sys.exit("convert_checkpoint.py: needs PyTorch (Debian: apt install python3-torch)")

DTYPES = {"fp32": ("F32", torch.float32), "bf16": ("BF16", torch.bfloat16), "fp16": ("F16", torch.float16)}
PREFIXES = ("module.", "_orig_mod.", "model.")
WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training frameworks keep the weights
EMBEDDING = "backbone.embedding.weight"
SPECIAL = ("unk", "endoftext", "padding", "pkt")


class Refused(Exception):
    pass


def read_json(path):
    try:
        with open(path, encoding="utf-8") as f:
            j = json.load(f)
    except (OSError, ValueError) as e:
        raise Refused(f"{path}: {e}") from None
    if not isinstance(j, dict):
        raise Refused(f"{path}: expected a JSON object")
    return j


def read_state(path):
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except TypeError:
        raise Refused(f"PyTorch {torch.__version__} cannot load weights safely; expected 1.13 or newer") from None
    except Exception as e:  # whatever a hostile pickle makes of it
        raise Refused(f"{path}: {e}") from None
    for key in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state:
        raise Refused(f"{path}: expected a dictionary of tensors, found {type(state).__name__}")
    return state


def strip(name):
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return name


def take_tensors(state, path):
    tensors = {}
    for key, t in state.items():
        name = strip(str(key))
        if not isinstance(t, torch.Tensor) or not t.is_floating_point():
            raise Refused(f"{path}: {key}: expected a tensor of floats, found "
                          + (str(t.dtype) if isinstance(t, torch.Tensor) else type(t).__name__))
        if name in tensors:
            raise Refused(f"{path}: {key}: a second tensor for {name}")
        if not name.startswith("backbone.") and name != "lm_head.weight":
            raise Refused(f"{path}: {key}: expected backbone.… or lm_head.weight")
        tensors[name] = t
    if EMBEDDING not in tensors:
        raise Refused(f"{path}: {EMBEDDING}: missing among {len(tensors)}")
    head = tensors.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, tensors[EMBEDDING]):
        raise Refused(f"{path}: lm_head.weight: expected the same as {EMBEDDING} (tied), found others")
    return tensors


def check_config(config, path):
    for key in ("d_model", "n_layer", "vocab_size"):
        if type(config.get(key)) is not int:
            raise Refused(f"{path}: {key}: expected an integer, found {config.get(key)!r}")
    if config.get("tie_embeddings", True) is not True:
        raise Refused(f"{path}: tie_embeddings: netssm can do true only")
    layer = (config.get("ssm_cfg") or {}).get("layer", "Mamba1")
    if layer != "Mamba2":
        raise Refused(f"{path}: ssm_cfg.layer: netssm can do Mamba2 only, found {layer}")


def new_tokenizer(labels):
    """The table of a new netssm model: bytes, special tokens, labels in their order."""
    for name in labels:
        if not re.fullmatch(r"[A-Za-z0-9_.:+-]{1,63}", name) or name in SPECIAL or labels.count(name) > 1:
            raise Refused(f"--labels: {name!r}: expected different names of 1..63 characters of [A-Za-z0-9_.:+-], "
                          f"none of {', '.join(SPECIAL)}")
    tokens = [str(b) for b in range(256)] + [f"<|{name}|>" for name in (*SPECIAL, *labels)]
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i, t in enumerate(tokens) if i >= 256]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
            "model": {"type": "WordLevel", "vocab": {t: i for i, t in enumerate(tokens)}, "unk_token": "<|unk|>"}}


def store(tensors, path, dtype):
    """model.safetensors: 8-byte header length, JSON header padded to 8 bytes, tensors in their order."""
    stored, torch_dtype = DTYPES[dtype]
    size = torch.empty(0, dtype=torch_dtype).element_size()
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, t in tensors.items():
        end = at + math.prod(t.shape) * size
        header[name] = {"dtype": stored, "shape": list(t.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, t in tensors.items():
            out = t.detach().to(torch_dtype).contiguous()
            if torch.isinf(out).sum() != torch.isinf(t).sum():
                raise Refused(f"{name}: values up to {t.abs().max().item():g} do not fit into {dtype}")
            # numpy has no bfloat16: the bits travel as integers.
            bits = torch.int32 if size == 4 else torch.int16
            f.write(out.view(bits).numpy().tobytes() if out.dim() else out.reshape(1).view(bits).numpy().tobytes())
        f.flush()
        os.fsync(f.fileno())


def dump(j, path):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(j, f, indent=1)


def convert(args):
    config_path = os.path.join(args.input, "config.json")
    config = read_json(config_path)
    check_config(config, config_path)
    given = os.path.join(args.input, "tokenizer.json")
    if os.path.exists(given) == (args.labels is not None):
        raise Refused(f"{given}: {'is there; leave out --labels' if args.labels else 'missing; name the labels: --labels a,b,c'}")
    tokenizer = read_json(given) if args.labels is None else new_tokenizer(args.labels.split(","))
    if os.path.isdir(args.output) and os.listdir(args.output) or os.path.isfile(args.output):
        raise Refused(f"{args.output}: exists already")
    state_path = os.path.join(args.input, "pytorch_model.bin")
    tensors = take_tensors(read_state(state_path), state_path)

    # All or nothing: filled beside the place where it belongs.
    parent, base = os.path.split(os.path.abspath(args.output))
    tmp = tempfile.mkdtemp(prefix=base + ".tmp.", dir=parent)
    try:
        os.chmod(tmp, 0o755)
        dump(config, os.path.join(tmp, "config.json"))
        dump(tokenizer, os.path.join(tmp, "tokenizer.json"))
        if args.pkt_len is not None or args.compat is not None:
            codec = {"kind": "raw", "version": 1, "pkt_len": args.pkt_len or 128, "compat": args.compat or "paper"}
            dump({"format": "netssm", "version": 1, "codec": codec, "iat": {}}, os.path.join(tmp, "netssm.json"))
        store(tensors, os.path.join(tmp, "model.safetensors"), args.dtype)
        os.rename(tmp, args.output)
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        raise
    count = sum(t.numel() for t in tensors.values())
    print(f"{args.output}: {len(tensors)} tensors, {count} parameters, {args.dtype}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("input", help="folder with pytorch_model.bin, config.json and perhaps tokenizer.json")
    p.add_argument("output", help="folder to make")
    p.add_argument("--dtype", choices=DTYPES, default="fp32", help="how weights are stored (default: %(default)s)")
    p.add_argument("--labels", metavar="A,B,C", help="make a tokenizer.json with these labels, where the input has none")
    p.add_argument("--pkt-len", type=int, metavar="N", help="bytes a packet in the training data (netssm takes 128 if not told)")
    p.add_argument("--compat", choices=("none", "paper"), help="which preprocessor made the training data "
                   "(netssm takes paper if not told)")
    try:
        convert(p.parse_args())
    except (Refused, OSError) as e:
        sys.exit(f"convert_checkpoint.py: {e}")


if __name__ == "__main__":
    main()
