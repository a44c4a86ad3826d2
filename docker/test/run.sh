#!/usr/bin/env bash
# Builds the image's cpu target from its own Dockerfile and tests it: `make image-test`.
#
# No Docker, no image registry: the base is a Debian made with debootstrap, buildah builds, podman
# with runc runs. Everything is kept in build/image-test (about 3 GB) and used again by the next
# run; with CI=true, or by `docker/test/clean.sh`, it is removed.
#
#   PYTHON             the interpreter with pytest (.venv/bin/python)
#   PYTORCH_INDEX_URL  an index with torch's CPU builds, if pip's own configuration has none
#   IMAGE_TEST_TORCH, IMAGE_TEST_TORCHVISION, IMAGE_TEST_TORCHAUDIO
#                      the versions to build with; by default the torch of the development
#                      environment and no torchvision or torchaudio, and then not the extras that
#                      need them either
#   IMAGE_TEST_WORK    the folder for all that (build/image-test)
#   PYTEST_ARGS        more arguments for pytest
#
# Exit status: pytest's; 77 where this machine cannot build images (the reason is printed).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null

work="${IMAGE_TEST_WORK:-$PWD/build/image-test}"
python="${PYTHON:-.venv/bin/python}"
store=(--root "$work/storage" --runroot "$work/run" --storage-driver overlay)
base=localhost/torchgauge-test-base
image=localhost/torchgauge-test:cpu

not_here() {
  printf 'image-test: NOT RUN, not possible on this machine: %s\n' "$*" >&2
  exit 77
}
step() { printf 'image-test: %4d s  %s\n' "$SECONDS" "$*"; }

# ------------------------------------------------------------------ what it needs
declare -A package_of=([buildah]=buildah [podman]=podman [runc]=runc [debootstrap]=debootstrap
  [shellcheck]=shellcheck [ssh]=openssh-client [docker-compose]=docker-compose)
missing=()
for tool in "${!package_of[@]}"; do
  command -v "$tool" >/dev/null || missing+=("${package_of[$tool]}")
done
((EUID == 0)) || not_here "building a base image with debootstrap needs root"
[[ $(uname -s) == Linux ]] || not_here "containers need Linux, this is $(uname -s)"
if ((${#missing[@]})); then
  command -v apt-get >/dev/null || not_here "missing ${missing[*]}, and there is no apt-get"
  step "installing ${missing[*]}"
  apt-get update -qq || true # another source of this machine may be out of order
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" \
    >/dev/null || not_here "apt-get could not install ${missing[*]}"
fi
mkdir -p "$work"
if [[ ! -x $work/tools/bin/hadolint || docker/test/requirements.txt -nt $work/tools/.stamp ]]; then
  step 'installing hadolint and check-jsonschema'
  "$python" -m venv "$work/tools"
  "$work/tools/bin/pip" install --quiet --quiet --requirement docker/test/requirements.txt
  touch "$work/tools/.stamp"
fi

if [[ ${CI:-} == true ]]; then trap docker/test/clean.sh EXIT; fi

# ------------------------------------------------------------------ the base
if ! buildah "${store[@]}" inspect --type image "$base" >/dev/null 2>&1; then
  step 'making a Debian base with debootstrap'
  mirror="$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d/ 2>/dev/null |
    head -n 1 || true)"
  rm -rf "$work/rootfs"
  # shellcheck disable=SC2086 # without a mirror there is no argument
  debootstrap --variant=minbase bookworm "$work/rootfs" ${mirror% } >"$work/debootstrap.log" 2>&1 || {
    tail -n 20 "$work/debootstrap.log" >&2
    exit 1
  }
  tar -C "$work/rootfs" -cf "$work/base.tar" .
  container="$(buildah "${store[@]}" from scratch)"
  buildah "${store[@]}" add -q "$container" "$work/base.tar" / >/dev/null
  buildah "${store[@]}" config --cmd /bin/bash "$container"
  buildah "${store[@]}" commit -q "$container" "$base" >/dev/null
  buildah "${store[@]}" rm "$container" >/dev/null
  rm -rf "$work/rootfs" "$work/base.tar"
fi

# ------------------------------------------------------------------ the image
revision="$(git rev-parse HEAD 2>/dev/null || true)" # none in an unpacked archive
created="$(date --utc +%Y-%m-%dT%H:%M:%SZ)"
torch="${IMAGE_TEST_TORCH:-$(sed -n 's/^torch==//p' requirements/constraints-dev.txt)}"
extras=hf,notebook,serve
if [[ -n ${IMAGE_TEST_TORCHVISION:-} ]]; then extras=vision,timm,hf,graph,notebook,serve,onnx; fi
# pip's settings of this machine (indexes, folders of wheels, certificates) hold while building and
# are not in the image.
mapfile -t volumes < <("$python" docker/test/host_pip.py "$work/pip.conf")
arguments=(--build-arg BASE_IMAGE="$base" --build-arg TORCH_VERSION="$torch"
  --build-arg TORCHVISION_VERSION="${IMAGE_TEST_TORCHVISION:-}"
  --build-arg TORCHAUDIO_VERSION="${IMAGE_TEST_TORCHAUDIO:-}"
  --build-arg TORCHGAUGE_EXTRAS="$extras")
if [[ -n ${PYTORCH_INDEX_URL:-} ]]; then arguments+=(--build-arg PYTORCH_INDEX_URL); fi
arguments+=(--build-arg VCS_REF="$revision" --build-arg CREATED="$created")
step "building docker/Dockerfile, target cpu, torch $torch, extras $extras"
started=$SECONDS
# --format docker: OCI's format knows no HEALTHCHECK.
buildah "${store[@]}" bud --isolation chroot --pull=false --layers --format docker \
  --file docker/Dockerfile --target cpu --tag "$image" "${volumes[@]}" "${arguments[@]}" . \
  >"$work/build.log" 2>&1 || {
  tail -n 40 "$work/build.log" >&2
  printf 'image-test: the build failed; all of its output: %s\n' "$work/build.log" >&2
  exit 1
}
figures="image built in $((SECONDS - started)) s"
step "$figures"

# ------------------------------------------------------------------ the tests
status=0
# shellcheck disable=SC2086 # several arguments
IMAGE_TEST_WORK="$work" IMAGE_TEST_IMAGE="$image" IMAGE_TEST_FIGURES="$figures" \
  IMAGE_TEST_REVISION="$revision" IMAGE_TEST_CREATED="$created" "$python" -m pytest docker/test \
  -p no:cacheprovider ${PYTEST_ARGS:-} || status=$?
step 'done'
exit "$status"
