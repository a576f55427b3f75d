#!/usr/bin/env bash
# Lints crate, tests and benches for Windows and macOS, on any machine that rustup runs on: what is
# wrong with the Rust code there shows here. Nothing is linked, so the C parts of dependencies are
# stubbed out, and no compiler or SDK of those systems is needed.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

need_rust
command -v rustup >/dev/null || die "rustup is needed: it has the standard libraries of other systems"

stubs=$(mktemp -d)
trap 'rm -rf "$stubs"' EXIT
# As a compiler: an empty object where one is asked for. As an archiver: an empty archive.
cat >"$stubs/cc" <<'STUB'
#!/bin/sh
while [ $# -gt 0 ]; do
  [ "$1" != -o ] || : >"$2"
  shift
done
STUB
cat >"$stubs/ar" <<'STUB'
#!/bin/sh
for name; do
  case $name in *.a | *.lib) printf '!<arch>\n' >"$name" ;; esac
done
STUB
chmod +x "$stubs/cc" "$stubs/ar"

for target in x86_64-pc-windows-gnu aarch64-apple-darwin; do
  # On such a system itself the tests say more.
  [ "$target" != "$(rustc -vV | sed -n 's/^host: //p')" ] || continue
  rustup target add "$target"
  name=${target//-/_}
  env "CC_$name=$stubs/cc" "CXX_$name=$stubs/cc" "AR_$name=$stubs/ar" \
    cargo clippy --locked --all-targets --target "$target" -- -D warnings
done
