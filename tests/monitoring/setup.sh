#!/bin/sh
# Makes .cache/venvs/monitoring: a YAML reader, and
# the schema of compose files, which comes with the package docker-compose.
# Idempotent: does nothing when the venv was made from these requirements.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="$here/../../.cache/venvs/monitoring"
if cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    exit 0
fi
rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
# Of docker-compose only the schema is used; what it would run with is old and does not install.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps docker-compose==1.29.2
# Last, so that an interrupted run is not taken for a finished one.
cp "$here/requirements.txt" "$venv/requirements.txt"
