#!/usr/bin/env bash
# What the devel target adds: compilers, build tools, git. Run as root by the Dockerfile.
set -euo pipefail
: "${PYTHON_VERSION:?}"
export DEBIAN_FRONTEND=noninteractive
packages=(build-essential cmake curl gdb git less ninja-build openssh-client)
# An interpreter that the base image brought has its headers beside it.
if [[ $(command -v "/usr/bin/python$PYTHON_VERSION") ]]; then packages+=("python$PYTHON_VERSION-dev"); fi
apt-get update -qq
apt-get install -qq -y --no-install-recommends "${packages[@]}"
rm -rf /var/lib/apt/lists/*
