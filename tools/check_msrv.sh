#!/usr/bin/env bash
# Checks the minimum supported Rust version, `rust-version` in Cargo.toml. With that toolchain
# installed the crate is type-checked by it. Always: no package in the dependency graph may ask for
# a newer Rust. (Newer standard-library calls in our own code are clippy's incompatible_msrv.)
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

need_python json python3
cargo metadata --quiet --locked --format-version 1 | python3 -c '
import json, sys

def version(text):
    return tuple(int(part) for part in (text.split("-")[0] + ".0.0").split(".")[:3])

meta = json.load(sys.stdin)
root = next(p for p in meta["packages"] if p["id"] == meta["resolve"]["root"])
newer = [p for p in meta["packages"] if version(p["rust_version"] or "1") > version(root["rust_version"])]
for p in newer:
    print("error: {name} {version} needs Rust {rust_version}".format(**p), file=sys.stderr)
if newer:
    sys.exit(1)
print("rust-version {}: none of {} packages asks for more".format(root["rust_version"], len(meta["packages"])))
'

msrv=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
# `stable` and `nightly` do not count: only a toolchain of that very version does.
toolchain=$(rustup toolchain list 2>/dev/null | awk -v v="$msrv" 'index($1, v) == 1 { print $1; exit }' || true)
if [ -n "$toolchain" ]; then
  # Its own folder: sharing one would rebuild everything at each change of compiler.
  CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/msrv cargo "+$toolchain" check --locked --all-targets
  echo "rust-version $msrv: checked with $toolchain"
else
  echo "rust-version $msrv: not compiled with it; \`rustup toolchain install $msrv\` would let this check do so"
fi
