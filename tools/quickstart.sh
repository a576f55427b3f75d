#!/usr/bin/env bash
# From a clean clone to sentence embeddings: fetches all-MiniLM-L6-v2, builds, compares a few
# sentences on the best device (a GPU, else the CPU) and checks that device against the reference.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

need_rust
quiet_drivers
tools/get_minilm.sh
say "building (the first time takes some minutes)"
cargo build --locked --release
tilewright=${CARGO_TARGET_DIR:-target}/release/tilewright
model=models/all-MiniLM-L6-v2

# step COMMAND...: shows the command as one would type it, then runs it.
step() {
  local word line=
  for word in "$@"; do
    if [[ $word == *" "* ]]; then word="\"$word\""; fi
    line+=" $word"
  done
  printf '\n$%s\n' "$line"
  "$@"
}

step "$tilewright" devices
step "$tilewright" embed --model "$model" --similarity \
  "A cat sleeps on the warm windowsill." \
  "The kitten is napping in the sun." \
  "Quarterly revenue rose by eight percent." \
  "The company earned more this quarter." \
  "How do I multiply two matrices on a GPU?"
step "$tilewright" verify model --model "$model"
