#!/bin/sh
# Makes .cache/venvs/onnxruntime, where the engine tests find libonnxruntime.so.
# Idempotent: does nothing when the venv was made from these requirements.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="$here/../../.cache/venvs/onnxruntime"
stamp="$venv/.requirements"
if [ -f "$stamp" ] && cmp -s "$here/requirements.txt" "$stamp"; then
    exit 0
fi
python=${PYTHON:-python3}
if ! "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "onnxruntime tests: need Python 3.11 or newer with venv; set PYTHON=/path/to/python3" >&2
    exit 1
fi
rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
# Last, so that an interrupted run is not taken for a finished one.
cp "$here/requirements.txt" "$stamp"
