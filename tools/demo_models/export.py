"""Writes a demo model as a Hugging Face folder with f16 weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

LIMIT = 2_000_000


def write_json(path, value):
    """One JSON file, as Hugging Face lays them out."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_lines(path, rows):
    """One JSON object per line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_weights(path, state, leave_out):
    """Stores a state dict in f16, without the tensors that are another's twin."""
    kept = {name: tensor for name, tensor in state.items() if name not in leave_out}
    half = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in kept.items()}
    for name, tensor in half.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} does not fit f16")
    save_file(half, path, metadata={"format": "pt"})
    path.chmod(0o644)


def write_tokenizer(folder, tokenizer, settings):
    """`tokenizer.json` and `tokenizer_config.json`."""
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", settings)


def fresh(folder):
    """The folder, made where it is missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_size(folder):
    """The folder's bytes, which must stay under the limit."""
    size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    if size >= LIMIT:
        raise ValueError(f"{folder} has {size} bytes; under {LIMIT} are wanted")
    return size
