#!/bin/sh
# Makes the Python environments that tests and checks use, in .cache/venvs:
#   scripts/venvs.sh        all of them
#   scripts/venvs.sh tools  only the programs of scripts/requirements.txt
# Each tests/<name>/setup.sh makes its own, and does nothing where it is up to date.
set -eu
cd "$(dirname "$0")/.."

no_venv() {
    echo "python3 cannot make virtual environments, which tests need. Debian: apt-get install python3-venv" >&2
    exit 1
}

tools() {
    venv=.cache/venvs/tools
    cmp -s scripts/requirements.txt "$venv/requirements.txt" && return
    rm -rf "$venv"
    python3 -m venv "$venv" || no_venv
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --require-hashes --only-binary :all: --requirement scripts/requirements.txt
    # Last, so that an interrupted run is done again.
    cp scripts/requirements.txt "$venv/requirements.txt"
}

command -v python3 >/dev/null || no_venv
tools
[ "${1:-all}" = all ] || exit 0
for setup in tests/*/setup.sh; do
    [ -e "$setup" ] || continue
    echo "$setup"
    sh "$setup"
done
