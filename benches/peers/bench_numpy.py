#!/usr/bin/env python3
"""What this machine's own BLAS and memory reach: the yardsticks beside Tilewright's figures.

Prints one JSON object: f32 matrix products through numpy (OpenBLAS in the PyPI wheels) in GFLOP/s,
and a copy of 256 MiB by all cores in GB/s, bytes read plus bytes written. Median, fastest and
slowest run after a warm-up.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def timed(run, repeats, cores):
    """Wall times of run() in nanoseconds: `repeats` runs, more when they are short, so that one
    interruption by the system does not decide the median. `core_share` is the part of the cores'
    time this process got: well below 1 when other work was running."""
    run()
    samples = []
    began = time.perf_counter_ns(), time.process_time_ns()
    while len(samples) < repeats or (sum(samples) < 0.5e9 and len(samples) < 500):
        start = time.perf_counter_ns()
        run()
        samples.append(time.perf_counter_ns() - start)
    wall, busy = time.perf_counter_ns() - began[0], time.process_time_ns() - began[1]
    return {
        "median_ns": round(statistics.median(samples)),
        "min_ns": min(samples),
        "max_ns": max(samples),
        "samples": len(samples),
        "core_share": round(busy / (wall * cores), 2),
    }


def sgemm(m, n, k, repeats, cores):
    rng = np.random.default_rng(20170612)
    a = rng.standard_normal((m, k), dtype=np.float32)
    b = rng.standard_normal((k, n), dtype=np.float32)
    out = np.empty((m, n), dtype=np.float32)
    row = timed(lambda: np.matmul(a, b, out=out), repeats, cores)
    row["gflops"] = round(2 * m * n * k / row["median_ns"], 1)
    return row


def copy(bytes_, repeats, cores):
    # One contiguous share per core; numpy releases the interpreter lock while it copies.
    source = np.ones(bytes_ // 4, dtype=np.float32)
    target = np.empty_like(source)
    shares = list(zip(np.array_split(target, cores), np.array_split(source, cores)))
    with ThreadPoolExecutor(cores) as pool:
        run = lambda: list(pool.map(lambda share: np.copyto(*share), shares))
        row = timed(run, repeats, cores)
    row["gbytes_per_s"] = round(2 * bytes_ / row["median_ns"], 1)
    return row


def cpu_name():
    """The processor's name where the system tells it, else its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def blas():
    """Name and version of the BLAS numpy was built with (old numpy versions do not tell)."""
    try:
        found = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{found['name']} {found['version']}"
    except (TypeError, KeyError):
        return "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnk", default="512x512x512,1024x1024x1024,2048x2048x2048")
    parser.add_argument("--repeats", type=int, default=9, help="timed runs of each, at least")
    args = parser.parse_args()
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    json.dump(
        {
            "cpu": cpu_name(),
            "cores": cores,
            "numpy": np.__version__,
            "blas": blas(),
            "copy": copy(256 << 20, args.repeats, cores),
            "sgemm": {
                mnk: sgemm(*map(int, mnk.split("x")), args.repeats, cores)
                for mnk in args.mnk.split(",")
            },
        },
        sys.stdout,
        indent=1,
    )
    print()


if __name__ == "__main__":
    main()
