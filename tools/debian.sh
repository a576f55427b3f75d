# Packages out of Debian's archive into a folder, for the scripts of this folder, which source it
# after lib.sh. apt works on lists of its own: no root is needed, the system's packages and sources
# stay as they are, and Debian's signatures are checked as ever.
# shellcheck shell=bash

debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# debian_mirror: the mirror that this machine's apt has for Debian, else Debian's own address.
debian_mirror() {
  local found
  # shellcheck disable=SC2016 # apt expands this, not the shell
  found=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 2>/dev/null |
    sort -u | head -n 1) || true
  echo "${found:-http://deb.debian.org/debian}"
}

# debian_apt FOLDER RELEASE: makes `debian_get` work on a release, with its state in the folder.
debian_apt() {
  mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
  echo "deb [arch=$(dpkg --print-architecture) signed-by=$debian_keyring] $(debian_mirror) $2 main" \
    >"$1/sources.list"
  # An empty status: dependencies are resolved as on a machine that has nothing yet.
  : >"$1/status"
  # APT::Sandbox::User: root's temporary folder is closed to apt's download user, which only warns.
  debian_options=(-qq -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any -o Acquire::Languages=none -o Debug::NoLocking=1
    -o APT::Install-Recommends=0 -o APT::Get::List-Cleanup=0
    -o Dir::Etc::SourceList="$1/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::State::Lists="$1/lists" -o Dir::State::Status="$1/status" -o Dir::Cache="$1/cache")
  apt-get "${debian_options[@]}" update
}

# debian_release FOLDER RELEASE: as debian_apt. Where this machine's keys are too old for the
# release, the keyrings of the releases between are fetched, each checked by the one before it.
debian_release() {
  local release
  [ -f "$debian_keyring" ] || apt_install debian-archive-keyring
  ! debian_apt "$1" "$2" 2>/dev/null || return 0
  for release in bullseye bookworm trixie; do
    debian_apt "$1" "$release" 2>/dev/null || continue
    (cd "$1" && rm -f debian-archive-keyring_*.deb &&
      apt-get "${debian_options[@]}" download debian-archive-keyring) || continue
    dpkg-deb -x "$1"/debian-archive-keyring_*.deb "$1/keyring"
    # .gpg is a link to .pgp in newer packages.
    debian_keyring=$(cd "$1/keyring/usr/share/keyrings" && realpath debian-archive-keyring.gpg)
    ! debian_apt "$1" "$2" 2>/dev/null || return 0
  done
  debian_apt "$1" "$2"
}

# debian_get COMMAND...: apt-get on that release.
debian_get() { apt-get "${debian_options[@]}" "$@"; }
