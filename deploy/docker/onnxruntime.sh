#!/bin/sh
# Takes the ONNX Runtime library and its licences out of the wheel: onnxruntime.sh ARCHITECTURE TO.
set -eu
# shellcheck source=deploy/docker/target.sh
. "$(dirname "$0")/target.sh"
target "$1"
to=$2

apt-get update
apt-get install --yes --no-install-recommends python3-pip ca-certificates
rm -rf /var/lib/apt/lists/*
[ ! -e /run/secrets/certificates ] || export PIP_CERT=/run/secrets/certificates
# The Python named is that of the wheel; none of it runs.
python3 -m pip download --no-cache-dir --no-deps --require-hashes --only-binary :all: \
    --implementation cp --python-version 3.11 --platform "manylinux_2_28_$wheel" \
    --dest /wheel --requirement "$(dirname "$0")/onnxruntime.txt"
python3 -m zipfile -e /wheel/*.whl /wheel/unpacked
mkdir -p "$to/licences"
# The name has the version in it; the engine asks for whichever is there.
cp /wheel/unpacked/onnxruntime/capi/libonnxruntime.so.1.* "$to/libonnxruntime.so"
cp /wheel/unpacked/onnxruntime/LICENSE /wheel/unpacked/onnxruntime/ThirdPartyNotices.txt "$to/licences/"
rm -rf /wheel
