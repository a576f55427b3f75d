#!/usr/bin/env python3
"""Compares two builds of the program on one device, in one run.

    tools/paired.py OLD NEW [--device NAME] [--rounds N]

OLD and NEW are binaries, say of two commits. Every bench of tools/report.py is run by both in turn,
OLD NEW NEW OLD and so on, and each row keeps the least of its medians: what else the machine does
slows both, and the least is the least disturbed. Then a cold start of each: the program's cache and
Mesa's are empty, and a text is embedded, a prompt is continued. Rows that are more than 3 % slower
are marked. Standard library only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from report import BENCHES, GPT2, MODEL, ROOT

SLOWER = 1.03
COLD = {
    "embed a text": ["embed", "--model", MODEL, "A cat sleeps on the sill."],
    "16 tokens of a new GPT-2": ["bench", "model", "--model", GPT2, "--batch", "1", "--tokens", "16"],
}


def start(binary, device, arguments, cache):
    """Standard output and seconds of one run."""
    environment = dict(os.environ, TILEWRIGHT_CACHE=cache, MESA_SHADER_CACHE_DISABLE="true")
    # Else Mesa looks for a desktop and complains.
    environment.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    command = [binary, "--quiet", "--device", device, *arguments]
    begin = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: `{' '.join(command)}` failed with code {done.returncode}")
    return done.stdout, time.monotonic() - begin


def show(name, old, new, unit):
    slower = "  SLOWER" if new > SLOWER * old else ""
    print(f"{name:<58} {old:10.3f} {new:10.3f} {unit}  x{new / old:.3f}{slower}", flush=True)


def benches(arguments):
    caches = [tempfile.mkdtemp(), tempfile.mkdtemp()]
    for bench in BENCHES:
        best = [{}, {}]
        for n in range(arguments.rounds):
            for which in (0, 1) if n % 2 == 0 else (1, 0):
                binary = (arguments.old, arguments.new)[which]
                what = ["bench", *bench, "-o", "jsonl"]
                for line in start(binary, arguments.device, what, caches[which])[0].splitlines():
                    row = json.loads(line)
                    key = f"{row['op']} {row['shape']}"
                    best[which][key] = min(best[which].get(key, 1e18), row["median_ns"])
        for key, old in best[0].items():
            show(key, old / 1e6, best[1][key] / 1e6, "ms")


def cold_starts(arguments):
    for name, what in COLD.items():
        best = [1e18, 1e18]
        for n in range(arguments.rounds):
            for which in (0, 1) if n % 2 == 0 else (1, 0):
                binary = (arguments.old, arguments.new)[which]
                with tempfile.TemporaryDirectory() as cache:
                    best[which] = min(best[which], start(binary, arguments.device, what, cache)[1])
        show(f"cold start: {name}", *best, "s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--device", default="auto", help="as the program's --device")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each build (default: 3)")
    arguments = parser.parse_args()
    arguments.old, arguments.new = map(os.path.abspath, (arguments.old, arguments.new))
    print(f"{'row':<58} {'old':>10} {'new':>10}")
    benches(arguments)
    cold_starts(arguments)


if __name__ == "__main__":
    main()
