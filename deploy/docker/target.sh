# What Rust, GNU's tools and Debian's packages call an architecture of Docker's.
# Read by the other scripts (`. target.sh; target amd64`).
# shellcheck shell=sh disable=SC2034 # who reads it uses what it sets
target() {
    case $1 in
        amd64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu package=x86-64-linux-gnu wheel=x86_64 ;;
        arm64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu package=aarch64-linux-gnu wheel=aarch64 ;;
        *)
            echo "there is no image for the architecture \`$1\`: amd64 and arm64 are known" >&2
            exit 1
            ;;
    esac
}
