#!/bin/sh
# Makes .cache/venvs/otlp: rotel, a receiver of OTLP in one binary,
# which the test `telemetry` of the weir crate sends traces to.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" otlp "$here/requirements.txt"
