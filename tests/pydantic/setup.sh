#!/bin/sh
# Makes the virtual environment of the Pydantic oracle: .cache/venvs/pydantic. Does nothing
# where it stands already with these requirements.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="$here/../../.cache/venvs/pydantic"
if cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    exit 0
fi
rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
# Last, so that an installation that was cut off is made anew.
cp "$here/requirements.txt" "$venv/requirements.txt"
