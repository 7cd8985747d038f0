#!/bin/sh
# Makes .cache/venvs/silero, where the test `sequences` of the weir crate finds a recurrent model
# that people use. Without its dependencies (torch), which its ONNX files do not need.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" silero "$here/requirements.txt" --no-deps --require-hashes --only-binary :all:
