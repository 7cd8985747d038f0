#!/bin/sh
# Makes .cache/venvs/k6: Grafana's k6, which the test `k6` of the weir crate runs with the scripts of bench/k6.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" k6 "$here/../../bench/k6/requirements.txt"
