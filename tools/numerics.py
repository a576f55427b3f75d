#!/usr/bin/env python3
"""Writes docs/numerics.md: how far each kernel is from its op's reference.

    tools/numerics.py [--device NAME]

`tilewright verify ops` runs every case of every op on every kernel; the page keeps, by op and kernel,
the largest errors of them all. Sections of other devices stay. Standard library only.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "numerics.md"
HEAD = """# How far kernels are from their reference

Every op has a reference in plain loops with f64 sums, and cases with a bound each: its length of sums,
its built-in functions and its storage say how much f32 may lose (`src/ops/*.rs` gives the reasons).
`tilewright verify ops` runs all cases on all kernels of a device. The largest errors of a kernel over its
cases are below: of the whole result, relative, the mean squared error over the mean square (NMSE), and
of an element, absolute. Kernels whose precision is fast multiply f16; their bounds are wider by its unit
roundoff. Written by `tools/numerics.py`.
"""


def section(device):
    program = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "tilewright"
    subprocess.run(["cargo", "build", "--locked", "--release"], cwd=ROOT, check=True)
    command = [program, "--quiet", "--device", device, "verify", "ops", "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if not done.stdout:
        sys.exit("error: `tilewright verify ops` gave no answer")
    found = json.loads(done.stdout)
    if found["failures"]:
        sys.exit(f"error: {found['failures']} cases failed on {found['device']}")
    lines = [
        f"## {found['device']}",
        "",
        f"{datetime.date.today().isoformat()}, {found['passed']} cases.",
        "",
        "| op | kernel | cases | NMSE | absolute |",
        "|---|---|--:|--:|--:|",
    ]
    for row in found["variants"]:
        if row["passed"]:
            errors = f"{row['max_nmse']:.1e} | {row['max_abs']:.1e}"
            lines.append(f"| {row['op']} | {row['variant']} | {row['passed']} | {errors} |")
    return found["device"], "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="as the program's --device")
    name, text = section(parser.parse_args().device)
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    kept = [part for part in re.split(r"(?m)^(?=## )", old)[1:] if not part.startswith(f"## {name}\n")]
    kept = [part.rstrip("\n") + "\n" for part in kept]
    PAGE.write_text("\n".join([HEAD, *sorted([text, *kept])]), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
