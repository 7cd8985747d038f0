#!/bin/sh
# Makes .cache/venvs/schemathesis, which the test `schemathesis` of the weir crate runs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" schemathesis "$here/requirements.txt"
