#!/usr/bin/env bash
# Removes what docker/test/run.sh keeps: images, containers, tools, logs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work="${IMAGE_TEST_WORK:-$PWD/build/image-test}"
if [[ ! -d $work ]]; then exit 0; fi
if command -v podman >/dev/null && [[ -d $work/storage ]]; then
  podman --root "$work/storage" --runroot "$work/run" --tmpdir "$work/tmp" --storage-driver overlay \
    --cgroup-manager cgroupfs rm --all --force >/dev/null 2>&1 || true
fi
# The store is mounted on itself while it is in use.
awk -v work="$work/" 'index($2, work) == 1 {print $2}' /proc/mounts | sort -r |
  xargs --no-run-if-empty umount || true
rm -rf "$work"
