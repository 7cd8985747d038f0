#!/bin/sh
# Makes .cache/venvs/objectstore: SeaweedFS, a real object store that speaks S3, for the test
# `fetch` of the weir crate. Idempotent: does nothing when the venv was made from these requirements.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../scripts/venv.sh" objectstore "$here/requirements.txt" --require-hashes --only-binary :all:
