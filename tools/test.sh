#!/usr/bin/env bash
# The test command: the whole suite on lavapipe, then everything but the doc tests and examples
# again on SwiftShader, then what runs kernels on the newest Mesa's lavapipe. The drivers disagree
# about subgroup size, out-of-range reads, NaN and reduction order, and the last one alone has
# cooperative matrices, so passing on all says far more than passing on one. Nothing is skipped for
# want of an adapter: what is missing is installed, or the run fails and says what to do. Only the
# last driver cannot be had everywhere, and the summary says so.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

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

# on MANIFEST ADAPTER: points every Vulkan program at one driver. TILEWRIGHT_TEST_DRIVER is part of
# the name the adapter must have, so that tests fail rather than run on another one.
on() {
  # Loaders before 1.3.207 (Ubuntu 22.04) know only VK_ICD_FILENAMES; newer ones prefer the other.
  export VK_DRIVER_FILES=$1 VK_ICD_FILENAMES=$1 TILEWRIGHT_TEST_DRIVER=$2
  if ! cargo run --locked --quiet -- devices; then
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

# mesa: the rooms that run kernels, on the driver that brings a libc and a loader of its own. The
# program is started through them too (tests/cli), but only where it asks about devices.
mesa() {
  local version
  version=$(cat "$(dirname "$TILEWRIGHT_MESA_ICD")/version")
  export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$TILEWRIGHT_MESA_RUN
  export TILEWRIGHT_TEST_RUNNER=$TILEWRIGHT_MESA_RUN
  on "$TILEWRIGHT_MESA_ICD" llvmpipe
  # What only this driver can run; everything else ran on the others.
  pass "Mesa ${version%%.*}" cargo test --locked --no-fail-fast --test ops --test graph -- \
    kernels_for_matrix_units contract:: session::one_session scratch::
  pass "Mesa ${version%%.*} cli" cargo test --locked --no-fail-fast --test cli -- devices::
}

if is_linux; then
  vars=$(tools/drivers.sh)
  eval "$vars"
  on "$TILEWRIGHT_LAVAPIPE_ICD" llvmpipe
  pass lavapipe cargo test --locked --no-fail-fast
  pass examples examples
  on "$TILEWRIGHT_SWIFTSHADER_ICD" SwiftShader
  pass SwiftShader cargo test --locked --no-fail-fast --tests
  if [ -n "${TILEWRIGHT_MESA_RUN:-}" ]; then
    mesa
  else
    say "== the newest Mesa: NOT RUN; tools/mesa.sh says why"
    summary+="$(printf '%-12s %s' "newest Mesa" "NOT RUN: tools/mesa.sh says why")"$'\n'
  fi
else
  say "the software drivers are for Linux: testing on this system's first adapter alone"
  pass native cargo test --locked --no-fail-fast
  pass examples examples
fi

printf '\n%s' "$summary"
[ "$failed" -eq 0 ] || die "not everything passed; the full output is in $logs/"
echo "all tests passed"
