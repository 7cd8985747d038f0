#!/bin/sh
# Compiles the weir of the current folder: compile.sh ARCHITECTURE PROFILE [TO].
set -eu
# shellcheck source=deploy/docker/target.sh
. "$(dirname "$0")/target.sh"
target "$1"
profile=$2

# What a C compiler for the target is called, also where that is this machine: one way for both.
upper=$(echo "$triple" | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${upper}_LINKER=$gnu-gcc" "CC_$(echo "$triple" | tr - _)=$gnu-gcc"
# The toolchain of the image is the one to use; the file asks for formatter and linter too.
rm -f rust-toolchain.toml
cargo build --locked --package weir --target "$triple" --profile "$profile"

# Cargo keeps the profile `dev` in a folder of another name.
[ "$profile" != dev ] || profile=debug
[ $# -lt 3 ] || cp "target/$triple/$profile/weir" "$3"
