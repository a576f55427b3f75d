#!/usr/bin/env bash
# Unpacks the Mesa of Debian's sid into .drivers/mesa/: its lavapipe has cooperative matrices, which
# that of stable distributions lacks. Prints where it is:
#
#   vars=$(tools/mesa.sh) && eval "$vars"        # TILEWRIGHT_MESA_ICD, TILEWRIGHT_MESA_RUN
#   export VK_DRIVER_FILES=$TILEWRIGHT_MESA_ICD VK_ICD_FILENAMES=$TILEWRIGHT_MESA_ICD
#   $TILEWRIGHT_MESA_RUN target/debug/tilewright devices
#   CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$TILEWRIGHT_MESA_RUN cargo test
#
# The driver asks for a newer libc than the system's, so it comes with all libraries that it needs,
# libc among them, and a program runs on it through their loader, which is what `run` there does.
# The system's own packages are not touched. Debian and Ubuntu on x86-64; 100 MB are downloaded.
# To take a newer Mesa than the one that is there, remove .drivers/mesa.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh
. tools/debian.sh

[ "$(uname -sm)" = "Linux x86_64" ] || die "Debian's newest Mesa is set up on x86-64 Linux only"
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
  die "Debian's newest Mesa is set up where apt is (Debian, Ubuntu)"

tmp=
trap '[ -z "$tmp" ] || rm -rf "$tmp"' EXIT
home=$PWD/.drivers/mesa

get_mesa() {
  local libs=usr/lib/x86_64-linux-gnu deb missing
  mkdir -p .drivers
  tmp=$(mktemp -d "$PWD/.drivers/.mesa.XXXXXX")
  say "Mesa: downloading the driver of Debian's sid with its libraries (100 MB)"
  debian_release "$tmp/apt" sid >&2
  debian_get install --download-only --yes mesa-vulkan-drivers libvulkan1 >&2
  mkdir "$tmp/unpacked" "$tmp/mesa"
  for deb in "$tmp"/apt/cache/archives/*.deb; do
    dpkg-deb -x "$deb" "$tmp/unpacked"
  done
  mv "$tmp/unpacked/$libs" "$tmp/mesa/lib"
  # Other vendors' drivers are not what this is for.
  find "$tmp/mesa/lib" -name 'libvulkan_*.so' ! -name libvulkan_lvp.so -delete
  missing=$("$tmp/mesa/lib/ld-linux-x86-64.so.2" --library-path "$tmp/mesa/lib" \
    --list "$tmp/mesa/lib/libvulkan_lvp.so" | grep 'not found' || true)
  [ -z "$missing" ] || die "Mesa: libraries are missing:" $missing
  deb=$(cd "$tmp/apt/cache/archives" && echo mesa-vulkan-drivers_*.deb)
  deb=${deb#*_}
  echo "${deb%%-*}" >"$tmp/mesa/version"
  cp "$tmp"/unpacked/usr/share/vulkan/icd.d/lvp_icd*.json "$tmp/mesa/packaged_icd.json"
  rm -rf "$home"
  mv "$tmp/mesa" "$home"
  say "Mesa: $(cat "$home/version") unpacked into .drivers/mesa"
}

[ -f "$home/version" ] || get_mesa

# Made anew each time, for the clone may have been moved.
sed "s#\"library_path\": *\"[^\"]*\"#\"library_path\": \"$home/lib/libvulkan_lvp.so\"#" \
  "$home/packaged_icd.json" >"$home/lvp_icd.json"
printf '#!/bin/sh\nexec "%s" --library-path "%s" "$@"\n' "$home/lib/ld-linux-x86-64.so.2" "$home/lib" \
  >"$home/run"
chmod +x "$home/run"

printf 'export TILEWRIGHT_MESA_ICD=%q\n' "$home/lvp_icd.json"
printf 'export TILEWRIGHT_MESA_RUN=%q\n' "$home/run"
