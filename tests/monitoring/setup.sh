#!/bin/sh
# Makes .cache/venvs/monitoring: a YAML reader, and
# the schema of compose files, which comes with the package docker-compose.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
sh "$here/../../scripts/venv.sh" monitoring "$here/requirements.txt"
compose="$here/../../.cache/venvs/monitoring/bin"
[ -x "$compose/docker-compose" ] ||
    "$compose/python" -m pip install --quiet --disable-pip-version-check --no-deps docker-compose==1.29.2
