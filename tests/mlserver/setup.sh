#!/bin/sh
# Makes .cache/venvs/mlserver: a server of the Open Inference Protocol that nobody here wrote,
# which the test `remote` of the weir crate puts behind Weir.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" mlserver "$here/requirements.txt"
