#!/usr/bin/env bash
# The system part of the image: Python, tini, OpenSSH and the user. Run as root by the Dockerfile.
set -euo pipefail
: "${PYTHON_VERSION:?}" "${USER_UID:?}" "${USER_GID:?}"
export DEBIAN_FRONTEND=noninteractive

if [[ $USER_UID -eq 0 ]]; then
  echo "USER_UID=0: this image has no root user; leave USER_UID out or give your own id" >&2
  exit 2
fi

if [[ -n ${APT_MIRROR:-} ]]; then
  find /etc/apt \( -name '*.list' -o -name '*.sources' \) \
    -exec sed -i -E "s#https?://[^/ ]+/(debian|ubuntu)#${APT_MIRROR%/}/\1#" {} +
fi

packages=(ca-certificates openssh-server tini)
# Images such as python:3.13-slim bring their own Python.
if ! command -v "python$PYTHON_VERSION" >/dev/null; then
  packages+=("python$PYTHON_VERSION" "python$PYTHON_VERSION-venv")
fi
apt-get update -qq
if ! apt-get install -qq -y --no-install-recommends "${packages[@]}"; then
  echo "The base image ($(grep -oP '^PRETTY_NAME="\K[^"]+' /etc/os-release)) cannot install ${packages[*]}." >&2
  echo "If python$PYTHON_VERSION is what it lacks, choose another BASE_IMAGE or PYTHON_VERSION." >&2
  exit 1
fi
rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/debconf/*-old
# The package made host keys while it was installed: an image must hold no secret. Each container
# makes its own at its first start.
rm -f /etc/ssh/ssh_host_*
mkdir -p /run/sshd

# Some bases have a first user with the same id (ubuntu:24.04 does).
if taken="$(getent passwd "$USER_UID" | cut -d: -f1)" && [[ -n $taken ]]; then userdel -r "$taken"; fi
getent group "$USER_GID" >/dev/null || groupadd --gid "$USER_GID" gauge
# The password "*" is none that can be typed, and unlike "!" it doesn't lock the account for keys.
useradd --uid "$USER_UID" --gid "$USER_GID" --create-home --shell /bin/bash --password '*' gauge
install -d -o "$USER_UID" -g "$USER_GID" /opt/venv /workspace
