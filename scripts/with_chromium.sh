#!/usr/bin/env bash
# Runs a command on a machine with Chromium: `scripts/with_chromium.sh NAME COMMAND…`. Debian's is
# installed where it is missing and that is possible. Exit status: the command's; 77 where there is
# no Chromium (the reason is printed, after the NAME of what was not run).
set -euo pipefail

name="$1"
shift

not_here() {
  printf '%s: NOT RUN, Chromium is missing on this machine: %s\n' "$name" "$*" >&2
  exit 77
}

there() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

if ! there >/dev/null; then
  command -v apt-get >/dev/null || not_here 'there is no apt-get'
  ((EUID == 0)) || not_here 'installing it with apt-get needs root'
  printf '%s: installing chromium\n' "$name"
  apt-get update -qq || true # another source of this machine may be out of order
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium \
    >/dev/null || not_here 'apt-get could not install it'
fi
exec "$@"
