#!/bin/sh
# Makes the Rust image able to compile for an architecture: toolchain.sh amd64|arm64.
set -eu
# shellcheck source=deploy/docker/target.sh
. "$(dirname "$0")/target.sh"
target "$1"

[ -d "$(rustc --print sysroot)/lib/rustlib/$triple" ] || rustup target add "$triple"
[ "$1" = "$(dpkg --print-architecture)" ] || {
    apt-get update
    apt-get install --yes --no-install-recommends "gcc-$package" "libc6-dev-$1-cross"
    rm -rf /var/lib/apt/lists/*
}
