# A stand-in for the official Rust image: Debian, a C compiler, and the toolchain that is the context.
FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# The authorities of the machine that builds, also for its network's own registry mirror.
RUN --mount=type=secret,id=certificates cp /run/secrets/certificates /etc/ssl/certs/ca-certificates.crt
ENV CARGO_HOME=/usr/local/cargo \
    CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt
COPY bin /usr/local/bin
COPY lib /usr/local/lib
