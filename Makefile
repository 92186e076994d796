# `make` lists what there is. Nothing here needs root, a container or a cluster.

CARGO ?= cargo
TARGET = $(or $(CARGO_TARGET_DIR),target)
FUZZ_CASES = $(or $(CLIENTGRANT_FUZZ_CASES),1000000)

.DEFAULT_GOAL := help
.PHONY: help build tools demo test fuzz chaos endure seeded bench image generate lint
export ONCE

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

build: ## Build the operator and the test bed
	$(CARGO) build --workspace

tools: build ## Build the real servers that tests and demo run on; nothing is built twice
	$(TARGET)/debug/testbed tools

demo: build ## Walk through the story on real servers, then stay up (ONCE=1: exit after the story)
	$(TARGET)/debug/testbed demo --operator $(TARGET)/debug/clientgrant

test: tools ## Run every test, those on real servers included
	$(CARGO) test --workspace

fuzz: ## Run the generated cases of the pure core, a million of each (CLIENTGRANT_FUZZ_CASES)
	CLIENTGRANT_FUZZ_CASES=$(FUZZ_CASES) $(CARGO) test --release --package clientgrant --test pure fuzz

chaos: tools ## Break every call of every workload in every way, one at a time, and print what came of it
	CLIENTGRANT_CHAOS=full $(CARGO) test --package clientgrant --test real chaos -- --nocapture

endure: tools ## Take the API server away for ten minutes, and freeze a leader a hundred times
	CLIENTGRANT_OUTAGE_SECONDS=600 $(CARGO) test --package clientgrant --test real replicas::without_the -- --nocapture
	CLIENTGRANT_FREEZES=100 $(CARGO) test --package clientgrant --test real replicas::a_leader -- --nocapture

seeded: tools ## Put one deliberate bug after the other into a copy, and tell which tests noticed it
	tests/seeded/run

bench: tools ## Measure a release build (PART=latency, scale, hot, sharing or maester: that alone; maester compares)
	$(CARGO) build --release --workspace
	$(TARGET)/release/testbed bench --operator $(TARGET)/release/clientgrant $(addprefix --part ,$(PART))
	$(if $(filter-out sharing,$(PART)),,$(CARGO) bench --package clientgrant --bench sharing)

image: ## Write a static binary as an OCI image to target/image, and run it in an empty root (docs/image.md)
	$(CARGO) run --package clientgrant-testbed -- image --to $(TARGET)/image --check

generate: ## Write CRDs, JSON schemas and the tables of documents anew
	$(CARGO) run -- crds --directory crds
	$(CARGO) run -- crds --directory charts/clientgrant/files/crds
	$(CARGO) run -- crds --json-schemas schemas
	CLIENTGRANT_WRITE=1 $(CARGO) test --package clientgrant --test chart documents::the_table
	CLIENTGRANT_WRITE=1 $(CARGO) test --package clientgrant --test documents
	CLIENTGRANT_WRITE=1 $(CARGO) test --package clientgrant --test gitops generated
	$(CARGO) run -- explain --all > docs/sharing.md

lint: ## Check format, lints, documentation, generated files, licences and sources
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps
	dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(CARGO) run -- crds --directory "$$dir" && \
	for crds in crds charts/clientgrant/files/crds; do \
	  diff -ru $$crds "$$dir" || { echo "$$crds is out of date: run \`make generate\`" >&2; exit 1; }; \
	done
	$(CARGO) run -- explain --all | diff -u docs/sharing.md - || { echo 'docs/sharing.md is out of date: run `make generate`' >&2; exit 1; }
	tests/seeded/run --check
	@command -v cargo-deny >/dev/null || { echo 'missing: cargo install --locked cargo-deny' >&2; exit 1; }
	$(CARGO) deny check bans licenses sources
