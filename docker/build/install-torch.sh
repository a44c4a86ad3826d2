#!/usr/bin/env bash
# Installs torch, torchvision and torchaudio in the versions of the build arguments and checks that
# they are what was asked for. With `--with FILE` it installs FILE's requirements beside them, and
# they stay as they are.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
pins=/opt/venv/torch-pins.txt

# No compilers here: --only-binary makes a package without a wheel an error that names it.
pip_install() { pip install --only-binary :all: "$@"; }

: "${TORCH_VERSION:?}" "${CUDA_VERSION:?}"

if [[ ${1:-} == --with ]]; then
  pip_install --constraint "$here/constraints.txt" --constraint "$pins" --requirement "$2"
  python "$here/check_torch.py"
  exit
fi

wanted=("torch==$TORCH_VERSION")
if [[ -n ${TORCHVISION_VERSION:-} ]]; then wanted+=("torchvision==$TORCHVISION_VERSION"); fi
if [[ -n ${TORCHAUDIO_VERSION:-} ]]; then wanted+=("torchaudio==$TORCHAUDIO_VERSION"); fi
# Two builds of one version differ in their local part (2.6.0+cu118), and pip takes the one that
# has one. So an extra index is enough, and the dependencies still come from the usual one.
index=()
if [[ -n ${PYTORCH_INDEX_URL:-} ]]; then index=(--extra-index-url "$PYTORCH_INDEX_URL"); fi
pip_install "${index[@]}" "${wanted[@]}"
pip freeze | grep -iE '^(torch|torchvision|torchaudio)==' > "$pins"
python "$here/check_torch.py"
