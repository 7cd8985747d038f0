# An image with its models inside: what is deployed is one digest, and a pod needs nothing else to start.
#
#   docker build -f deploy/docker/baked.Dockerfile -t housing:dev FOLDER
#
# FOLDER is the context: one folder a model, and nothing that need not be served. What `weir package` writes unpacks
# to that. The files belong to root; the server cannot change what it serves.
ARG WEIR_IMAGE=weir:dev
FROM ${WEIR_IMAGE}
COPY . /models/
