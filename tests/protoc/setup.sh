#!/bin/sh
# Makes .cache/venvs/protoc, which `cargo xtask codegen` runs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" protoc "$here/requirements.txt" --only-binary :all: --no-deps
