#!/bin/sh
# Makes .cache/venvs/rolling: Envoy, which the test `rolling` of the weir crate puts before real replicas.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" rolling "$here/requirements.txt"
