#!/usr/bin/env bash
# The test command: the whole suite on lavapipe, then the rooms that run kernels again on
# SwiftShader, then what the newest Mesa's lavapipe alone can run. The drivers disagree about
# subgroup size, out-of-range reads, NaN and reduction order, and the last one alone has cooperative
# matrices, so passing on all says far more than passing on one. Nothing is skipped for want of an
# adapter: what is missing is installed, or the run fails and says what to do. Only the last driver
# cannot be had everywhere, and the summary says so. The compilers of DX12 and Vulkan read every
# kernel too (tests/backends).
#
#   tools/test.sh          what CI runs: about an hour on two cores
#   tools/test.sh --all    every test on every driver: two hours
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

all=
case ${1:-} in
  '') ;;
  --all)
    all=yes
    export TILEWRIGHT_EVERY_TEXT=1
    ;;
  *) die "usage: tools/test.sh [--all]" ;;
esac

need_rust
want_chromium
tools/get_minilm.sh

say "== building the tests"
cargo test --locked --no-run
# A choice of device made for other work must not redirect the tests.
unset TILEWRIGHT_DEVICE WGPU_BACKEND WGPU_ADAPTER_NAME WGPU_POWER_PREF
quiet_drivers

logs=${CARGO_TARGET_DIR:-target}/test-logs
mkdir -p "$logs"
summary=
failed=0

# pass NAME COMMAND...: runs the tests under a heading and notes what came out.
pass() {
  local name=$1 outcome=passed start=$SECONDS counts
  shift
  say "== $name: ${VK_DRIVER_FILES:-the adapters of the system}"
  "$@" 2>&1 | tee "$logs/$name.log" || outcome=FAILED
  [ "$outcome" = passed ] || failed=1
  counts=$(awk '/^test result:/ { n++; ok += $4; bad += $6; off += $8 }
    END { if (n) printf ": %d passed, %d failed, %d ignored", ok, bad, off }' "$logs/$name.log")
  summary+="$(printf '%-12s %s%s (%d s)' "$name" "$outcome" "$counts" $((SECONDS - start)))"$'\n'
}

# tests NAME ARGUMENT...: a pass of cargo's tests, every one of them whatever fails.
tests() {
  local name=$1
  shift
  pass "$name" cargo test --locked --no-fail-fast "$@"
}

# on MANIFEST ADAPTER: points every Vulkan program at one driver. TILEWRIGHT_TEST_DRIVER is part of
# the name the adapter must have, so that tests fail rather than run on another one.
on() {
  # Loaders before 1.3.207 (Ubuntu 22.04) know only VK_ICD_FILENAMES; newer ones prefer the other.
  export VK_DRIVER_FILES=$1 VK_ICD_FILENAMES=$1 TILEWRIGHT_TEST_DRIVER=$2
  # As the tests were built: `cargo run` would build wgpu anew, without the features of theirs.
  if ! ${TILEWRIGHT_TEST_RUNNER:-} "${CARGO_TARGET_DIR:-target}/debug/tilewright" devices; then
    say "error: \`tilewright devices\` failed on $2"
    failed=1
  fi
}

examples() {
  local file
  for file in examples/*.rs; do
    [ ! -f "$file" ] || cargo run --locked --quiet --example "$(basename "$file" .rs)" || return 1
  done
}

# SwiftShader compiles under one lock, a program at a time, and that is most of what its tests cost:
# two halves side by side take the time of one. The program itself (tests/cli) is started there only
# where it asks about devices: what it prints is the same on every driver.
swiftshader() {
  on "$TILEWRIGHT_SWIFTSHADER_ICD" SwiftShader
  if [ -n "$all" ]; then
    tests SwiftShader --tests -- --skip every_text
    return
  fi
  local half=$logs/second_half.summary
  (
    summary=
    tests "SwiftShader 2" --test engine --test models --test tasks >/dev/null 2>&1
    printf '%s' "$summary" >"$half"
    [ "$failed" -eq 0 ]
  ) &
  # Run-time checks are naga's text, the same for every driver: lavapipe has run them.
  tests "SwiftShader 1" --test gpu --test graph --test ops --test regressions -- --skip with_checks_on
  tests "SwiftShader cli" --test cli -- devices::
  wait $! || failed=1
  cat "$logs/SwiftShader 2.log"
  summary+=$(cat "$half")$'\n'
}

# mesa: it brings a libc and a loader of its own, which every program is started through.
mesa() {
  local version
  version=$(cat "$(dirname "$TILEWRIGHT_MESA_ICD")/version")
  export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$TILEWRIGHT_MESA_RUN
  export TILEWRIGHT_TEST_RUNNER=$TILEWRIGHT_MESA_RUN
  on "$TILEWRIGHT_MESA_ICD" llvmpipe
  if [ -n "$all" ]; then
    tests "Mesa ${version%%.*}" --tests -- --skip every_text
    return
  fi
  # What only this driver can run; everything else ran on the others.
  tests "Mesa ${version%%.*}" --test ops --test graph -- \
    kernels_for_matrix_units contract:: session::one_session scratch::
  tests "Mesa ${version%%.*} cli" --test cli -- devices::
}

if is_linux; then
  vars=$(tools/drivers.sh)
  eval "$vars"
  if [ "$(uname -m)" = x86_64 ]; then
    vars=$(tools/compilers.sh)
    eval "$vars"
  fi
  on "$TILEWRIGHT_LAVAPIPE_ICD" llvmpipe
  tests lavapipe
  pass examples examples
  swiftshader
  if [ -n "${TILEWRIGHT_MESA_RUN:-}" ]; then
    mesa
  else
    say "== the newest Mesa: NOT RUN; tools/mesa.sh says why"
    summary+="$(printf '%-12s %s' "newest Mesa" "NOT RUN: tools/mesa.sh says why")"$'\n'
  fi
else
  say "the software drivers are for Linux: testing on this system's first adapter alone"
  tests native
  pass examples examples
fi

printf '\n%s' "$summary"
[ "$failed" -eq 0 ] || die "not everything passed; the full output is in $logs/"
echo "all tests passed"
