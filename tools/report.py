#!/usr/bin/env python3
"""Measures the figures of the README and writes them where they belong.

    tools/report.py [--device NAME]     measure, then render
    tools/report.py --render            render what benches/results/ holds

The machine must be idle: on busy cores the host's own figures fall more than a GPU's and every
ratio would flatter, so the report refuses (--busy measures all the same, and says so in the table).

One run measures `tilewright bench` on one device and, right before it, the machine's own OpenBLAS
and memory copy (tools/peers.sh), because only ratios from one run can be compared. It is kept as
benches/results/<adapter>-<date>.json; README.md gets the newest result of every adapter, between
its figures markers. Standard library only.
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"

SQUARE = ["512", "1024", "2048"]
MNK = ["128x3072x768", "512x768x768"]
BATCH, TOKENS = 32, 64
MODEL = "models/all-MiniLM-L6-v2"
# Random weights in GPT-2 small's shape: a prompt's pass, and steps of generation behind it.
GPT2 = "models/gpt2-small-shape"
BENCHES = [
    ["matmul", "--size", ",".join(SQUARE)],
    ["matmul", "--mnk", ",".join(MNK)],
    ["attention", "--heads", "12", "--dim", "64", "--seq", "128,512,1024", "--causal", "both"],
    ["gemv", "--nk", "4096x4096"],
    ["norm", "--rows", "4096", "--cols", "768"],
    ["model", "--model", MODEL, "--batch", str(BATCH), "--tokens", str(TOKENS)],
    ["model", "--model", GPT2, "--batch", "1", "--tokens", "128"],
    ["model", "--model", GPT2, "--batch", "1", "--tokens", "128", "--new", "32"],
]


def run(command, **options):
    """The command's stdout; its stderr passes through. Ends the report when it fails."""
    print("$", *command, file=sys.stderr)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)
    if done.returncode:
        sys.exit(f"error: `{' '.join(map(str, command))}` failed with code {done.returncode}")
    return done.stdout


def measure(device, binary, busy):
    """One result: peers, then every bench on one device."""
    if not (ROOT / MODEL / "config.json").exists():
        run(["tools/get_minilm.sh"])
    if not (ROOT / GPT2 / "config.json").exists():
        run([sys.executable, "tools/make_gpt2_shape.py", GPT2])
    if binary is None:
        run(["cargo", "build", "--locked", "--release"])
        binary = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release" / "tilewright"
    shapes = ["x".join([size] * 3) for size in SQUARE] + MNK
    peers = json.loads(run(["tools/peers.sh", "--mnk", ",".join(shapes)]))
    if disturbed(peers) and not busy:
        sys.exit(
            f"error: other work is running: numpy got {largest(peers)['core_share']:.0%} of the "
            "cores' time, expected at least 90%; --busy measures all the same"
        )
    program = [str(binary), "--quiet", "--device", device]
    rows = []
    for bench in BENCHES:
        lines = run([*program, "bench", *bench, "-o", "jsonl"]).splitlines()
        rows += [{"bench": bench[0], **json.loads(line)} for line in lines if line.strip()]
    names = {row["device"] for row in rows}
    if len(names) != 1:
        sys.exit(f"error: expected every row to be from one device, found {sorted(names)}")
    name = names.pop()
    adapters = json.loads(run([*program, "--json", "devices"]))["adapters"]
    adapter = next((a for a in adapters if a["name"] == name), {})
    return {
        "date": datetime.date.today().isoformat(),
        "commit": run(["git", "describe", "--always", "--dirty"]).strip(),
        "device": name,
        "driver": adapter.get("driver", "the CPU path"),
        # On the host's own cores the host's BLAS and memory are the limits to compare with.
        "on_host": adapter.get("kind", "software") == "software",
        "system": platform.system(),
        "peers": peers,
        "rows": rows,
    }


def save(result):
    """Writes one result; a second run on the same day replaces the first."""
    adapter = re.sub(r"[^a-z0-9]+", "-", result["device"].split("(")[0].lower()).strip("-")
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{adapter}-{result['date']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(ROOT)}", file=sys.stderr)


def newest():
    """The newest result of every adapter: file names are <adapter>-<year>-<month>-<day>.json."""
    by_adapter = {p.stem[: -len("-2000-01-01")]: p for p in sorted(RESULTS.glob("*.json"))}
    return [json.loads(p.read_text(encoding="utf-8")) for p in by_adapter.values()]


def span(ns):
    """A duration with three significant digits."""
    scales = {"s": 1e9, "ms": 1e6, "µs": 1e3}
    unit = next((unit for unit, scale in scales.items() if ns >= scale), "µs")
    value = ns / scales[unit]
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def time_of(row):
    return f"{span(row['median_ns'])} | {span(row['min_ns'])} to {span(row['max_ns'])}"


def rate_of(row):
    if row["bench"] == "model":
        batch, tokens = (int(n) for n in re.findall(r"\d+", row["shape"])[:2])
        if row["op"] == "decode":
            return f"{batch * 1e9 / row['median_ns']:.1f} tokens/s"
        if row["variant"] == "gpt2":
            return f"{batch * tokens * 1e9 / row['median_ns']:.0f} tokens/s"
        return f"{batch * 1e9 / row['median_ns']:.1f} sentences/s"
    if row["bench"] in ("gemv", "norm"):
        return f"{row['gbytes_per_s']:.2f} GB/s"
    return f"{row['gflops']:.1f} GFLOP/s"


def share_of(row, peers):
    """The rate as a share of what the host's BLAS reaches on the same product, or its copy."""
    if row["bench"] in ("gemv", "norm"):
        return f"{row['gbytes_per_s'] / peers['copy']['gbytes_per_s']:.0%} of copy"
    same = re.search(r"\d+x\d+x\d+", str(row["shape"])) if row["bench"] == "matmul" else None
    if same and same[0] in peers["sgemm"]:
        return f"{row['gflops'] / peers['sgemm'][same[0]]['gflops']:.1%} of OpenBLAS"
    return ""


def table(result):
    """One adapter's figures in Markdown."""
    peers, host = result["peers"], result["on_host"]
    lines = [
        f"**{result['device']}** ({result['driver']}), {peers['cpu']} with {peers['cores']} cores, "
        f"{result['system']}, {result['date']}, revision {result['commit']}",
        "",
        "| work | variant | median | fastest to slowest | rate | of its roofline |"
        + (" of the host |" if host else ""),
        "|---|---|--:|--:|--:|--:|" + ("--:|" if host else ""),
    ]
    for row in result["rows"]:
        roofline = "" if row.get("roofline") is None else f"{row['roofline']:.1%}"
        cells = [f"{row['op']} {row['shape']} {row['dtype']}", str(row["variant"]), time_of(row)]
        cells += [rate_of(row), roofline] + ([share_of(row, peers)] if host else [])
        lines.append("| " + " | ".join(cells) + " |")
    square = ", ".join(f"{peers['sgemm'][f'{n}x{n}x{n}']['gflops']:.0f}" for n in SQUARE)
    lines += [
        "",
        f"The host in the same run: {peers['blas']} sgemm {' / '.join(SQUARE)}: {square} GFLOP/s; "
        f"copy {peers['copy']['gbytes_per_s']:.1f} GB/s."
        + (" **Other work was running; these ratios flatter.**" if disturbed(peers) else ""),
    ]
    return "\n".join(lines)


def largest(peers):
    return peers["sgemm"]["x".join([SQUARE[-1]] * 3)]


def disturbed(peers):
    """Whether other work took a tenth of the cores from the largest product."""
    return largest(peers)["core_share"] < 0.9


def render():
    """Splices the tables into README.md."""
    text = README.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"error: README.md needs {BEGIN} and {END}, once each")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    body = "\n\n".join(table(result) for result in newest())
    README.write_text(f"{head}{BEGIN}\n{body}\n{END}{tail}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="as the program's --device")
    parser.add_argument("--binary", help="a built tilewright (default: build it)")
    parser.add_argument("--busy", action="store_true", help="measure although the machine is busy")
    parser.add_argument("--render", action="store_true", help="measure nothing, only render")
    args = parser.parse_args()
    if not args.render:
        save(measure(args.device, args.binary, args.busy))
    render()


if __name__ == "__main__":
    main()
