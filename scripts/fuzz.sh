#!/bin/sh
# Runs fuzz targets: scripts/fuzz.sh SECONDS [TARGET…], all of them by default.
# A finding is a file in fuzz/artifacts/TARGET: copy it into the corpus of the crate it
# belongs to (crates/*/tests/corpus), where an ordinary test replays it for ever.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- row_decoder manifest server_config onnx_gate config_pbtxt mlmodel v2_json v2_binary grpc_infer

command -v cargo-fuzz >/dev/null || {
    echo "cargo-fuzz is not installed: cargo install cargo-fuzz --locked" >&2
    exit 1
}

# What the crates replay as ordinary tests; what a run finds goes into fuzz/corpus.
seeds() {
    case $1 in
        row_decoder) echo fuzz/seeds/row_decoder crates/weir-codec/tests/corpus ;;
        manifest) echo crates/weir-artifact/tests/corpus/manifest ;;
        server_config) echo config examples ;;
        onnx_gate) echo crates/weir-artifact/tests/corpus/onnx ;;
    esac
}

for target in "$@"; do
    echo "== $target: $seconds s"
    mkdir -p "fuzz/corpus/$target"
    # shellcheck disable=SC2046 # the folders have no spaces in their names
    cargo +nightly fuzz run --fuzz-dir fuzz "$target" "fuzz/corpus/$target" $(seeds "$target") -- \
        -max_total_time="$seconds" -rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=5 -max_len=65536 -print_final_stats=1
done
