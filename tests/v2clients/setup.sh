#!/bin/sh
# Makes .cache/venvs/v2clients: clients of the Open Inference Protocol that nobody here wrote,
# which the test `v2clients` of the weir crate runs, and `onnx` for make_models.py.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" v2clients "$here/requirements.txt"
