# make demo · make test · make bench · make dist
#
# Each installs what it needs on a bare Debian 12 machine (apt, as root or by sudo; a no-op where
# everything is there) and then does its job. Rust itself is the one thing that must be there before.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test lint workflows check vectors deny compare interop bench dist check-dist fuzz docs fmt clean

target   := target/x86_64-unknown-linux-gnu
debug    := $(target)/debug/debvisor
vectors  := ../shared/vectors
# All families of vectors; `make vectors sets=merkle,vex` runs two of them.
sets     :=
# `make bench bench-flags=--quick` only sees that it runs.
bench-flags :=
# How long `make fuzz` spends on each target, and how many run beside each other.
seconds  := 60
jobs     := $(shell nproc)

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## Seal a release, change a byte, gate it; boot a machine, change a byte, see it refused (root)
	@scripts/needs.sh build demo
	@cargo build --locked --quiet
	@scripts/demo.sh $(debug)
	@scripts/demo-vm.sh $(debug)

test: ## Everything that CI runs: format, lints, tests, shared vectors, dependencies
	@scripts/needs.sh build test
	@$(MAKE) --no-print-directory lint workflows check vectors deny

lint: ## Formatting and lints, warnings denied
	cargo fmt --all -- --check
	cargo clippy --locked --all-targets -- --deny warnings

workflows: ## zizmor and actionlint over every workflow and the action: nothing may be found
	@scripts/needs.sh deny
	@scripts/lint-workflows.sh

check: ## The tests of the library and of the real binary
	cargo test --locked

vectors: ## The shared vectors, where their folder stands beside this one
	@if [[ -x $(vectors)/run ]]; then \
	    cargo build --locked --quiet && $(vectors)/run --debvisor $(debug) --only '$(sets)'; \
	else \
	    echo "vectors: skipped, there is no $(vectors)"; \
	fi

deny: ## Licences, bans and sources of every dependency
	@scripts/needs.sh build deny
	target/tools/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources

compare: ## Overwrite the stored image of a machine and start it, under libvirt and under DebVisor
	@scripts/needs.sh build compare
	@cargo build --locked --quiet
	@scripts/compare-boot.sh $(debug)

interop: ## Let other clients judge our bundles, and seal real projects (from PyPI, npm, crates.io and Debian)
	@scripts/needs.sh build interop
	@scripts/interop.sh
	@cargo build --locked --quiet
	@scripts/real-projects.sh $(debug)

bench: ## Measure ours and the peers in one run; writes docs/BENCHMARKS.md
	@scripts/needs.sh build bench
	@scripts/bench.py $(bench-flags)

dist: ## One static, stripped, reproducible binary with man pages, completions and a Debian package, in dist/
	@scripts/needs.sh build dist
	@scripts/dist.sh dist
	@scripts/check-dist.sh dist

check-dist: ## Build it a second time in another folder: the same SHA-256, or a failure
	@scripts/check-dist.sh --reproducible dist

fuzz: ## Run every fuzz target for `seconds=60` each, `jobs=2` at once (nightly toolchain)
	@scripts/needs.sh build fuzz
	@scripts/fuzz.sh $(seconds) $(jobs)

docs: ## Rewrite the reference documents that are generated from the code
	@scripts/needs.sh build
	DEBVISOR_UPDATE_DOCS=1 cargo test --locked --quiet --test it reference
	DEBVISOR_UPDATE_DOCS=1 cargo test --locked --quiet --lib matrix
	$(debug) explain --reference > docs/reference/reason-codes.md
	$(debug) openapi > docs/openapi.json

fmt: ## Format the sources
	cargo fmt --all

clean: ## Remove everything that was built
	rm -rf target dist fuzz/target
