#!/usr/bin/env python3
"""Runs the README's examples and writes what they print where it belongs.

    tools/examples.py [--device NAME] [--binary PATH]

Each section of README.md between markers such as `<!-- tasks:begin -->` is made anew from the commands
below, with the shipped models and all-MiniLM-L6-v2 (tools/get_minilm.sh). Standard library only.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"

MINILM = "models/all-MiniLM-L6-v2"

SECTIONS = {
    "demo": [["demo"]],
    "tasks": [
        ["classify", "--model", "sentiment", "the plot was not boring at all."],
        ["tag", "--model", "entities", "anna tormin works for kelven bank in lake selford."],
        ["fill-mask", "--model", "reader", "--top-k", "3", "the food was [MASK], but the service was terrible."],
        ["answer", "--model", "answers", "--question", "who leads kelven bank?",
         "--context", "anna tormin, who comes from lake selford, leads kelven bank. it snowed on monday."],
        ["translate", "--model", "translator", "to talu: will they need a red ring in a village?"],
        ["summarize", "--model", "summarizer",
         "on monday a fire broke out in the bakery in tamfield. ten people were injured. the cause is not yet known."],
        ["generate", "--model", "storyteller", "--max-new-tokens", "40", "--temperature", "0.7", "--seed", "1",
         "--prompt", "Once upon a time"],
        ["score", "--model", "storyteller", "Once upon a time there was a fox named Max.",
         "Max fox a named time was upon there Once a."],
        ["embed", "--model", MINILM, "--similarity", "A cat sleeps on the sill.",
         "The kitten naps by the window.", "Interest rates rose."],
        ["plan", "--model", "storyteller", "--batch", "4", "--tokens", "128"],
    ],
    "held-out": [["demo", "--held-out"]],
}


def run(command, program, device):
    """What a command prints: its answer, and what it says besides."""
    done = subprocess.run(
        [program, *command, "--device", device],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    if done.returncode:
        sys.exit(f"error: `tilewright {shlex.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout.rstrip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="as the program's --device")
    parser.add_argument("--binary", help="a built tilewright (default: build it)")
    args = parser.parse_args()
    binary = args.binary
    if binary is None:
        subprocess.run(["cargo", "build", "--locked", "--release"], cwd=ROOT, check=True)
        binary = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "tilewright"
    if not (ROOT / MINILM / "config.json").exists():
        subprocess.run(["tools/get_minilm.sh"], cwd=ROOT, check=True)
    text = README.read_text(encoding="utf-8")
    for name, commands in SECTIONS.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            sys.exit(f"error: README.md needs {begin} and {end}, once each")
        parts = [f"$ tilewright {shlex.join(c)}\n{run(c, str(binary), args.device)}" for c in commands]
        head, rest = text.split(begin)
        tail = rest.split(end)[1]
        body = "\n\n".join(parts)
        # A table shows as one; everything else as a terminal does.
        block = body.split("\n", 1)[1] if name == "held-out" else f"```\n{body}\n```"
        text = f"{head}{begin}\n{block}\n{end}{tail}"
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
