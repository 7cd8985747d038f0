# An image with its models inside: what is deployed is one digest, and a pod needs nothing else to start.
#
#   docker build -f deploy/docker/baked.Dockerfile -t housing:dev examples/models
#
# The context is the folder of models. They belong to root and are read-only to the server.
ARG WEIR_IMAGE=weir:dev
FROM ${WEIR_IMAGE}
COPY housing/model.toml housing/model.onnx housing/samples.jsonl /models/housing/
