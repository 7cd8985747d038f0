#!/bin/sh
# Makes .cache/venvs/sbom: what `cargo xtask release` and its tests check the bill of materials with.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" sbom "$here/requirements.txt" --require-hashes --only-binary :all:
