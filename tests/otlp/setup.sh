#!/bin/sh
# Makes .cache/venvs/otlp: rotel, a receiver of OTLP in one binary,
# which the test `telemetry` of the weir crate sends traces to.
# Idempotent: does nothing when the venv was made from these requirements.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="$here/../../.cache/venvs/otlp"
if cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    exit 0
fi
rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
# Last, so that an interrupted run is not taken for a finished one.
cp "$here/requirements.txt" "$venv/requirements.txt"
