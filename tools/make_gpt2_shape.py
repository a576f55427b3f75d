#!/usr/bin/env python3
"""Writes a model folder of GPT-2's shape with random f32 weights, for benches of speed and memory.

    tools/make_gpt2_shape.py FOLDER [--layers 12] [--width 768] [--heads 12] [--vocab 50257]

The defaults are GPT-2 small: 124 million weights, 498 MB. What it generates means nothing; what it
costs to generate is what the real model costs. Standard library only.
"""

import argparse
import array
import json
import random
import struct
import sys
from pathlib import Path

# Values drawn; tensors walk around this ring. A prime, so that no two rows of a table are alike.
RING = 1_048_573


def tensors(args):
    """Names, shapes and kinds of all tensors, in GPT-2's Conv1D layout."""
    n = args.width
    yield "wte.weight", [args.vocab, n], "random"
    yield "wpe.weight", [args.positions, n], "random"
    for layer in range(args.layers):
        at = f"h.{layer}"
        for norm in ("ln_1", "ln_2"):
            yield f"{at}.{norm}.weight", [n], "one"
            yield f"{at}.{norm}.bias", [n], "zero"
        for name, rows, columns in [
            ("attn.c_attn", n, 3 * n),
            ("attn.c_proj", n, n),
            ("mlp.c_fc", n, 4 * n),
            ("mlp.c_proj", 4 * n, n),
        ]:
            yield f"{at}.{name}.weight", [rows, columns], "random"
            yield f"{at}.{name}.bias", [columns], "zero"
    yield "ln_f.weight", [n], "one"
    yield "ln_f.bias", [n], "zero"


def count(shape):
    product = 1
    for size in shape:
        product *= size
    return product


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--vocab", type=int, default=50257)
    parser.add_argument("--positions", type=int, default=1024)
    args = parser.parse_args()
    if args.width % args.heads:
        sys.exit(f"error: --width {args.width} is not a multiple of --heads {args.heads}")
    args.folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": args.vocab,
        "n_positions": args.positions,
        "n_embd": args.width,
        "n_layer": args.layers,
        "n_head": args.heads,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "eos_token_id": None,
    }
    (args.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    header, end = {}, 0
    for name, shape, _ in tensors(args):
        size = 4 * count(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    draw = random.Random(1)
    ring = array.array("f", (draw.gauss(0.0, 0.02) for _ in range(RING)))
    if sys.byteorder == "big":
        ring.byteswap()
    ring = ring.tobytes()
    one = struct.pack("<f", 1.0)
    at = 0
    with open(args.folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape, kind in tensors(args):
            left = 4 * count(shape)
            if kind != "random":
                file.write((one if kind == "one" else bytes(4)) * (left // 4))
                continue
            while left:
                piece = ring[at : at + left]
                file.write(piece)
                left -= len(piece)
                at = (at + len(piece)) % len(ring)
    print(f"{args.folder}: {end // 4:,} weights, {end / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
