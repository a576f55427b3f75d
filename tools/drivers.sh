#!/usr/bin/env bash
# Makes sure of the software Vulkan drivers that the tests run on, and prints where they are:
#
#   vars=$(tools/drivers.sh) && eval "$vars"     # TILEWRIGHT_LAVAPIPE_ICD, TILEWRIGHT_SWIFTSHADER_ICD
#
# Either variable, when already set, is taken as it is: the path of an ICD manifest (.json).
# TILEWRIGHT_MESA_ICD and TILEWRIGHT_MESA_RUN follow where tools/mesa.sh can set up its driver.
# lavapipe is Mesa's and comes from apt. SwiftShader is Chromium's: no distribution packages it
# alone, so two files are taken out of Debian's chromium-common into .drivers/swiftshader/.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh
. tools/debian.sh

is_linux || die "the software drivers are set up on Linux only; elsewhere the tests run on the \
system's own adapter (tools/test.sh does that)"

# find_lavapipe: prints Mesa's manifest for this architecture (its name varies between releases).
find_lavapipe() {
  local dir name
  for dir in /etc/vulkan/icd.d /usr/local/share/vulkan/icd.d /usr/share/vulkan/icd.d; do
    for name in "lvp_icd.$(uname -m).json" lvp_icd.json; do
      if [ -f "$dir/$name" ]; then
        echo "$dir/$name"
        return
      fi
    done
  done
  return 1
}

# grep without -q reads to the end: a closed pipe would fail ldconfig, and with it the pipeline.
has_loader() { PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep 'libvulkan\.so\.1 ' >/dev/null; }

tmp=
trap '[ -z "$tmp" ] || rm -rf "$tmp"' EXIT

# download_chromium_common: leaves the .deb in the working directory.
download_chromium_common() {
  # APT::Sandbox::User: root's temporary folder is closed to apt's download user, which only warns.
  if apt-get -qq -o APT::Sandbox::User=root download chromium-common 2>/dev/null; then
    return
  fi
  # No package lists yet, or Ubuntu, whose Chromium is a snap. Bookworm's SwiftShader asks for
  # libgcc and a glibc >= 2.34 and nothing else, so it runs on Ubuntu 22.04 and later.
  debian_release "$tmp/apt" bookworm && debian_get download chromium-common
}

get_swiftshader() {
  local lib=./usr/lib/chromium
  mkdir -p .drivers
  tmp=$(mktemp -d "$PWD/.drivers/.download.XXXXXX")
  say "SwiftShader: downloading Debian's chromium-common (32 MB)"
  (cd "$tmp" && download_chromium_common) >&2 || return 1
  mkdir "$tmp/out"
  dpkg-deb --fsys-tarfile "$tmp"/chromium-common_*.deb |
    tar -x -C "$tmp/out" "$lib/libvk_swiftshader.so" "$lib/vk_swiftshader_icd.json" || return 1
  # With a slash in front the Vulkan loader resolves the library against the manifest's folder.
  grep -q '"library_path": *"\./libvk_swiftshader.so"' "$tmp/out/$lib/vk_swiftshader_icd.json" ||
    return 1
  rm -rf .drivers/swiftshader
  mv "$tmp/out/$lib" .drivers/swiftshader
  say "SwiftShader: unpacked into .drivers/swiftshader"
}

# --- lavapipe -----------------------------------------------------------------------------------
lavapipe=${TILEWRIGHT_LAVAPIPE_ICD:-$(find_lavapipe || true)}
if [ -z "$lavapipe" ] || ! has_loader; then
  apt_install libvulkan1 mesa-vulkan-drivers
  lavapipe=${TILEWRIGHT_LAVAPIPE_ICD:-$(find_lavapipe || true)}
fi
[ -f "$lavapipe" ] || die "no lavapipe manifest (lvp_icd.*.json) was found${lavapipe:+ at $lavapipe}; \
install Mesa's Vulkan drivers, or set TILEWRIGHT_LAVAPIPE_ICD to the manifest's path"

# --- SwiftShader --------------------------------------------------------------------------------
swiftshader=${TILEWRIGHT_SWIFTSHADER_ICD:-$PWD/.drivers/swiftshader/vk_swiftshader_icd.json}
if [ -z "${TILEWRIGHT_SWIFTSHADER_ICD:-}" ] && [ ! -f "$swiftshader" ]; then
  if ! command -v apt-get >/dev/null || ! get_swiftshader; then
    die "SwiftShader could not be had through apt. Any Chrome, Chromium or Electron folder holds \
one (libvk_swiftshader.so beside vk_swiftshader_icd.json); then set
  TILEWRIGHT_SWIFTSHADER_ICD=/path/to/vk_swiftshader_icd.json"
  fi
fi
[ -f "$swiftshader" ] || die "TILEWRIGHT_SWIFTSHADER_ICD: there is no file $swiftshader"

printf 'export TILEWRIGHT_LAVAPIPE_ICD=%q\n' "$lavapipe"
printf 'export TILEWRIGHT_SWIFTSHADER_ICD=%q\n' "$swiftshader"

# --- Mesa of Debian's sid: a driver beside the two, not a condition ------------------------------
tools/mesa.sh || say "the newest Mesa is not there; its tests will not run"
