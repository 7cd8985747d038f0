#!/bin/sh
# Makes the Python environments that tests and checks use, in .cache/venvs:
#   scripts/venvs.sh        all of them
#   scripts/venvs.sh tools  only the programs of scripts/requirements.txt
# Each tests/<name>/setup.sh makes its own, and does nothing where it is up to date.
set -eu
cd "$(dirname "$0")/.."

sh scripts/venv.sh tools scripts/requirements.txt --require-hashes --only-binary :all:
[ "${1:-all}" = all ] || exit 0
for setup in tests/*/setup.sh; do
    [ -e "$setup" ] || continue
    echo "$setup"
    sh "$setup"
done
