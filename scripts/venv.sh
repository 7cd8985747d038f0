#!/bin/sh
# Makes the Python environment .cache/venvs/NAME, unless it was made from these requirements already:
#   scripts/venv.sh NAME REQUIREMENTS [OPTION OF PIP]…
set -eu
name=$1
requirements=$2
shift 2
venv=$(cd "$(dirname "$0")/.." && pwd)/.cache/venvs/$name
cmp -s "$requirements" "$venv/requirements.txt" && exit 0
rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv" || {
    echo "python3 cannot make virtual environments, which tests need. Debian: apt-get install python3-venv" >&2
    exit 1
}
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" --requirement "$requirements"
# Last, so that an interrupted run is not taken for a finished one.
cp "$requirements" "$venv/requirements.txt"
