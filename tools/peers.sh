#!/usr/bin/env bash
# Measures the machine's own OpenBLAS and memory copy through numpy (benches/peers/bench_numpy.py)
# and prints JSON. A python3 that lacks numpy gets a private environment in target/peers.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

python=python3
if ! python3 -c "import numpy" 2>/dev/null; then
  env=${CARGO_TARGET_DIR:-target}/peers
  python=$env/bin/python
  if ! "$python" -c "import numpy" 2>/dev/null; then
    need_python ensurepip python3-venv
    say "numpy: installing it from PyPI into $env"
    python3 -m venv "$env" >&2
    "$python" -m pip install --quiet --disable-pip-version-check numpy >&2
  fi
fi
exec "$python" benches/peers/bench_numpy.py "$@"
