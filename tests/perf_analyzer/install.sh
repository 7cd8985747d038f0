#!/bin/sh
# Puts perf_analyzer, Triton's load tester, into .cache/perf-analyzer, with the libraries of
# Debian 13 beside it: its wheel is built for a newer C library than that of Debian 12.
# They are unpacked, not installed, and need no root. Needs apt (for the signed package lists
# and the mirror in use), so Debian or Ubuntu on x86-64 or arm64. Prints the folder.
# Idempotent: does nothing when it was made from these requirements.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
place=$(cd "$here/../.." && pwd)/.cache/perf-analyzer
echo "$place"
if cmp -s "$here/requirements.txt" "$place/requirements.txt"; then
    exit 0
fi
keys=/usr/share/keyrings/debian-archive-keyring.gpg
command -v apt-get >/dev/null && [ -e $keys ] || {
    echo "perf_analyzer needs Debian's apt, and the package debian-archive-keyring" >&2
    exit 1
}
# shellcheck disable=SC2016 # it is apt that fills the name in
mirror=$(apt-get indextargets 'Origin: Debian' --format '$(REPO_URI)' | grep '/debian/$' | head -n 1)
[ -n "$mirror" ] || {
    echo "apt knows no mirror of Debian: apt-get update" >&2
    exit 1
}
rm -rf "$place"
mkdir -p "$place/apt/lists/partial" "$place/apt/archives/partial" "$place/debs" "$place/root"

# An apt of its own: other lists, nothing installed, nothing of the system's touched.
echo "deb [signed-by=$keys] $mirror trixie main" >"$place/apt/sources.list"
own_apt() {
    apt-get --quiet=2 -o Dir::State="$place/apt" -o Dir::State::status=/dev/null -o Dir::Cache="$place/apt" \
        -o Dir::Etc::sourcelist="$place/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o APT::Sandbox::User= "$@" >&2
}
own_apt update
(cd "$place/debs" && own_apt download libc6 libgcc-s1 libssl3t64 libstdc++6 zlib1g)
for package in "$place"/debs/*.deb; do
    dpkg-deb --extract "$package" "$place/root"
done

sh "$here/../../scripts/venvs.sh" tools
"$here/../../.cache/venvs/tools/bin/python" -m pip install --quiet --disable-pip-version-check \
    --platform "manylinux_2_38_$(uname -m)" --only-binary :all: --no-deps --require-hashes \
    --target "$place/wheel" --requirement "$here/requirements.txt" >&2
rm -rf "$place/apt" "$place/debs"
# Last, so that an interrupted run is done again.
cp "$here/requirements.txt" "$place/requirements.txt"
