#!/bin/sh
# Makes the virtual environment of the Pydantic oracle: .cache/venvs/pydantic. Does nothing
# where it stands already with these requirements.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" pydantic "$here/requirements.txt"
