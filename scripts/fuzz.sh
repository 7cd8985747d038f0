#!/bin/sh
# Runs fuzz targets: scripts/fuzz.sh SECONDS [TARGET…], a minute each and all of them by default.
# A finding is a file in fuzz/artifacts/TARGET: copy it into the corpus of the crate it
# belongs to (crates/*/tests/corpus), where an ordinary test replays it for ever.
#
# Builds with the pinned compiler and RUSTC_BOOTSTRAP, which lets it take the sanitizer's and
# libFuzzer's flags: nightly Rust would be one more toolchain that changes every day.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- row_decoder manifest server_config onnx_gate config_pbtxt mlmodel v2_json v2_binary grpc_infer \
    embeddings http1_heads http2_frames remote_answers cache_value \
    model_archive

version=0.13.2
tool=.cache/cargo-fuzz/bin/cargo-fuzz
[ "$("$tool" --version 2>/dev/null)" = "cargo-fuzz $version" ] ||
    cargo install --quiet --locked --version $version --root .cache/cargo-fuzz cargo-fuzz

# What the crates replay as ordinary tests; what a run finds goes into fuzz/corpus.
seeds() {
    case $1 in
        row_decoder) echo fuzz/seeds/row_decoder crates/weir-codec/tests/corpus ;;
        manifest) echo crates/weir-artifact/tests/corpus/manifest ;;
        server_config) echo config examples ;;
        onnx_gate) echo crates/weir-artifact/tests/corpus/onnx ;;
        config_pbtxt | mlmodel) echo "fuzz/seeds/$1" "crates/weir-artifact/tests/corpus/$1" ;;
        v2_json | v2_binary | grpc_infer | embeddings | http1_heads | http2_frames)
            echo "crates/weir-api/tests/corpus/$1"
            ;;
        remote_answers) echo crates/weir-codec/tests/remote_answers ;;
        cache_value) echo crates/weir-serving/tests/corpus/cache_value ;;
        model_archive) echo crates/weir-artifact/tests/corpus/model_archive ;;
    esac
}

# A time limit is wall time: an input that takes 0.4 s took 5 on a machine with a load of 16.
logs=.cache/fuzz
mkdir -p $logs
failed=
for target in "$@"; do
    echo "== $target: $seconds s, log in $logs/$target.log" >&2
    mkdir -p "fuzz/corpus/$target"
    # shellcheck disable=SC2046 # the folders have no spaces in their names
    RUSTC_BOOTSTRAP=1 "$tool" fuzz run --fuzz-dir fuzz "$target" "fuzz/corpus/$target" $(seeds "$target") -- \
        -max_total_time="$seconds" -rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=20 -max_len=65536 \
        -print_final_stats=1 >"$logs/$target.log" 2>&1 || {
        tail -n 40 "$logs/$target.log" >&2
        failed="$failed $target"
    }
    # `cov` is how many edges of the control flow were reached, `corp` how many inputs it takes.
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$target.log")
    reached=$(sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\) corp: \([0-9]*\).*/\1 edges, \2 features, \3 inputs/p' \
        "$logs/$target.log" | tail -n 1)
    echo "$target: ${runs:-no} executions, ${reached:-nothing reached}"
done
[ -z "$failed" ] || {
    echo "findings or failures:$failed (fuzz/artifacts)" >&2
    exit 1
}
