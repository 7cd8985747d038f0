#!/bin/sh
# Makes .cache/venvs/openai: the Python client of OpenAI,
# which the test `openai` of the weir crate aims at /v1/embeddings.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" openai "$here/requirements.txt"
