#!/bin/sh
# Makes .cache/venvs/delivery: what the test `delivery` of the weir crate reads workflows with.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" delivery "$here/requirements.txt"
