# Helpers shared by the scripts of this folder, which source it; it runs nothing by itself.
# shellcheck shell=bash
# Written for bash 3.2 too, which is what macOS ships.

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

is_linux() { [ "$(uname -s)" = Linux ]; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "root is needed for: $*"
  fi
}

# apt_install PACKAGE...: for what a bare Debian or Ubuntu lacks. Only apt's complaints are shown.
apt_install() {
  command -v apt-get >/dev/null || die "please install: $* (only apt systems are set up by script)"
  say "installing $* with apt"
  as_root apt-get update -qq >/dev/null
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# need_rust: cargo of at least Cargo.toml's rust-version, and a C compiler to link with.
need_rust() {
  # A fresh rustup is not on PATH until the next login.
  command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  command -v cargo >/dev/null || die "Rust is missing: install it from https://rustup.rs"
  local want have
  want=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
  have=$(cargo --version | awk '{print $2}')
  [ "$(printf '%s\n' "$want" "$have" | sort -V | head -n 1)" = "$want" ] ||
    die "Rust $want or newer is needed, found $have: \`rustup update\`, or https://rustup.rs"
  command -v cc >/dev/null || apt_install gcc libc6-dev
}

# need_python MODULE PACKAGE: python3 that can import MODULE; on apt systems PACKAGE brings it.
need_python() {
  python3 -c "import $1" 2>/dev/null || {
    command -v apt-get >/dev/null || die "python3 with the module $1 is needed: please install it"
    apt_install "$2"
  }
}

# quiet_drivers: where no desktop runs, Mesa's device-select layer looks for one and has libwayland
# write "error: XDG_RUNTIME_DIR is invalid or not set" into every program's stderr.
quiet_drivers() { export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"; }

# want_chromium: a browser that opens the pages which the program writes. On Debian it is a package
# like any other; elsewhere the tests say that pages are checked by their structure alone.
want_chromium() {
  local name
  for name in chromium chromium-browser google-chrome; do
    ! command -v "$name" >/dev/null || return 0
  done
  if [ -r /etc/os-release ] && grep -qx 'ID=debian' /etc/os-release; then
    apt_install chromium
  else
    say "no Chromium: the pages that the program writes are not opened in a browser"
  fi
}
