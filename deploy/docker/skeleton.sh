#!/bin/sh
# Copies what decides on dependencies: skeleton.sh TO, from the root of the workspace. Every manifest, the lock
# file, and an empty stand-in for each target that the manifests name or imply, so that cargo accepts them.
#
# cargo-chef does this for any workspace; for this one it takes a page, and no tool to fetch,
# compile and trust.
set -eu
to=$1

mkdir -p "$to"
cp -r Cargo.toml Cargo.lock rust-toolchain.toml .cargo "$to/"

# The stand-in for one source file, where there is such a file.
stand_in() {
    [ -e "$1" ] || return 0
    mkdir -p "$to/$(dirname "$1")"
    # The workspace refuses crates without documentation.
    printf '//! Stands in for the real one.\n%s\n' "$2" >"$to/$1"
}

for manifest in crates/*/Cargo.toml xtask/Cargo.toml; do
    folder=$(dirname "$manifest")
    mkdir -p "$to/$folder"
    cp "$manifest" "$to/$folder/"
    stand_in "$folder/src/lib.rs" ""
    stand_in "$folder/src/main.rs" "fn main() {}"
    stand_in "$folder/build.rs" "fn main() {}"
    for bench in "$folder"/benches/*.rs; do
        stand_in "$bench" "fn main() {}"
    done
done
