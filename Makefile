# The one entry point to this project, for people and for CI. Long recipes live in scripts/.

# Build results live outside the tree: on a machine that has built before, a fresh clone builds
# quickly.
export EBB_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ebb
export CARGO_TARGET_DIR ?= $(EBB_CACHE)/target

RELEASE := $(CARGO_TARGET_DIR)/release

# The packages of local mode and its examples, and the daemons of a cluster. Each builds no more than
# it needs: the benchmark and the test programs take minutes. docs/building.md has the figures.
LOCAL := ebb-local ebb-onnx ebb-chat
DAEMONS := ebb-activator ebb-autoscaler ebb-controller ebb-fetch

# The compiler of rust-toolchain.toml, where it is installed under another name.
toolchain := $(shell scripts/toolchain)
ifneq ($(toolchain),)
export RUSTUP_TOOLCHAIN := $(toolchain)
endif

.DEFAULT_GOAL := help
.PHONY: help build daemons run run-llm test test-all load simulate difference defects fuzz h2spec browser sklearn room unit e2e lint bench generate train deny clean \
  images release cluster cluster-down cluster-test soak conformance conformance-table \
  knative-e2e knative-e2e-table bench-cluster

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

build: ## Build ebb and the example models, optimised
	@scripts/need cargo cc
	@scripts/claim-cache
	cargo build --locked --release --bins $(LOCAL:%=--package %)
	@scripts/place-models $(RELEASE)

run: build ## Build, start Ebb with the examples, and print what to try next
	@scripts/run $(RELEASE)

run-llm: build ## Fetch a real LLM (127 MB), start Ebb with it, and print what to try next
	@scripts/run-llm $(RELEASE)

test: lint ## Run all the tests, and the linters
	@scripts/need cargo cc kubectl curl
	cargo build --locked --workspace --bins --tests
	@scripts/place-models $(CARGO_TARGET_DIR)/debug
	@scripts/fetch-example llm $(CARGO_TARGET_DIR)/debug
	@scripts/fetch-example embeddings $(CARGO_TARGET_DIR)/debug
	@scripts/fetch-sdks $(CARGO_TARGET_DIR)/debug >/dev/null
	cargo test --locked --workspace
	cargo test --locked --package ebb-api --features schema --lib schema
	@tests/difference/run
	@tests/cluster/test $(CARGO_TARGET_DIR)/debug

test-all: ## Run all the tests, then the long ones; a run that was stopped goes on where it was
	@scripts/test-all

load: build ## Hold out against too many clients, in a control group of 128 MiB (needs root)
	EBB_LOAD_TESTS=required cargo test --locked --release --package ebb-tests --test load -- --nocapture --test-threads=1

SEEDS ?= 0..20000

simulate: ## Live through SEEDS=0..20000 of the simulation; a stopped run goes on where it was
	@scripts/need cargo cc
	@scripts/claim-cache
	cargo build --locked --profile simulation --package ebb-simulation
	@mkdir -p target
	$(CARGO_TARGET_DIR)/simulation/ebb-simulation run --seeds $(SEEDS) --resume target/simulate.txt

EPISODES ?= 0..400

difference: ## Compare the embedded API with a real API server over EPISODES=0..400
	@scripts/need cargo cc
	@scripts/claim-cache
	@EBB_DIFFERENCE_SEEDS=$(EPISODES) tests/difference/run

defects: ## Put known defects back, one by one, and see that the simulation finds each
	@scripts/need cargo cc git
	@scripts/claim-cache
	@simulation/defects/find

fuzz: ## Fuzz each target for SECONDS=60, or TARGET alone: docs/fuzzing.md
	@scripts/need cargo cc c++
	@scripts/fuzz $(or $(SECONDS),60) $(TARGET)

h2spec: build ## Hold the door for clients to HTTP/2's rules with h2spec
	@tests/h2spec $(RELEASE)

browser: build ## Open a sleeping model in Chromium: the page that waits turns into the model's own
	@tests/browser/run $(RELEASE)

sklearn: ## Serve a scikit-learn model with MLServer, of which it fetches 105 MB, and test it
	@scripts/need cargo cc kubectl
	@scripts/claim-cache
	cargo build --locked --bins $(LOCAL:%=--package %) --package ebb-tests
	@scripts/fetch-example sklearn $(CARGO_TARGET_DIR)/debug >/dev/null
	cargo test --locked --package ebb-tests --test e2e -- --ignored local::sklearn

room: ## Give ten models the room of three, SECONDS=600 with each of two rules, and compare the waits
	@scripts/need cargo cc kubectl
	@scripts/claim-cache
	cargo build --locked --bins $(LOCAL:%=--package %) --package ebb-tests
	SECONDS_EACH=$(or $(SECONDS),600) cargo test --locked --package ebb-tests --test e2e -- --ignored --nocapture room::the_rule

unit: ## Run the unit and property tests of every crate
	@scripts/need cargo cc
	@scripts/claim-cache
	cargo test --locked --workspace --lib --bins
	cargo test --locked --package ebb-api --features schema --lib schema

e2e: ## Run the real binary with real sockets and the real kubectl, and the simulations
	@scripts/need cargo cc kubectl curl
	@scripts/claim-cache
	cargo build --locked --workspace --bins --tests
	@scripts/place-models $(CARGO_TARGET_DIR)/debug
	@scripts/fetch-example llm $(CARGO_TARGET_DIR)/debug
	@scripts/fetch-example embeddings $(CARGO_TARGET_DIR)/debug
	@scripts/fetch-sdks $(CARGO_TARGET_DIR)/debug >/dev/null
	cargo test --locked --workspace --test house --test platform --test daemons --test e2e

daemons: build ## Build the processes of a cluster as well
	cargo build --locked --release --bins $(LOCAL:%=--package %) $(DAEMONS:%=--package %)

images: daemons ## Make OCI images of Ebb and the examples, without Docker; in target/images
	@scripts/need python3 strip ldd
	deploy/images/build --bin $(RELEASE) --out target/images \
	  ebb-activator ebb-autoscaler ebb-controller ebb-fetch ebb-onnx ebb-chat

release: ## Write target/release-VERSION: archives, chart, images, SBOMs, checksums
	@scripts/need cargo cc git python3 strip ldd objdump
	@scripts/claim-cache
	@scripts/release

cluster: daemons ## Install Ebb on a Kubernetes: brought up here (needs root), or given (README.md)
	@cluster/up
	@cluster/install $(RELEASE)

cluster-down: ## Take down the Kubernetes that was brought up, leaving nothing behind
	@cluster/down

cluster-test: ## Run the end-to-end tests on a Kubernetes that is brought up for them (needs root)
	@scripts/need cargo cc
	@scripts/claim-cache
	cargo build --locked --workspace --bins --tests
	@scripts/place-models $(CARGO_TARGET_DIR)/debug
	@scripts/fetch-example llm $(CARGO_TARGET_DIR)/debug
	@scripts/fetch-sdks $(CARGO_TARGET_DIR)/debug >/dev/null
	@EBB_CLUSTER_TESTS=required tests/cluster/test $(CARGO_TARGET_DIR)/debug

REQUESTS ?= 1000000

soak: ## Send REQUESTS=1000000 under each fault, or under FAULT=F13 alone, on such a Kubernetes; resumable
	@scripts/need cargo cc
	@scripts/claim-cache
	cargo build --locked --release --bins $(DAEMONS:%=--package %)
	cargo build --locked --release --package ebb-tests --bin ebb-backend --bin ebb-soak
	@EBB_CLUSTER_TESTS=$${EBB_CLUSTER_TESTS-required} tests/cluster/soak $(RELEASE) $(REQUESTS) $(FAULT)

conformance: ## Run Knative's conformance suites against the Ebb on that Kubernetes
	@tests/conformance/run --check

conformance-table: ## Run them and write docs/conformance.md
	@tests/conformance/run --write

knative-e2e: ## Run Knative's end-to-end suites beyond conformance against that Ebb
	@tests/conformance/e2e

knative-e2e-table: ## Run them and write docs/knative-e2e.md
	@tests/conformance/e2e --write

bench-cluster: cluster ## Measure on that Kubernetes, beside bare Deployments; writes target/bench-cluster.json
	@mkdir -p target
	cargo build --locked --release --workspace --bins
	@cluster/bench $(RELEASE) target/bench-cluster.json

lint: ## Check format, clippy, documentation, generated files and dependencies
	@scripts/need cargo cc
	@scripts/claim-cache
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	cargo clippy --locked --package ebb-tests --test cluster --test difference --test load --quiet -- -D warnings
	cargo clippy --locked --package ebb-api --features schema --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items --quiet
	scripts/generate --check
	"$$(scripts/cargo-tool cargo-deny)" --locked check -D unmatched-skip -D unnecessary-skip bans licenses sources

bench: ## Measure and print a table; writes target/bench.json and target/growth.svg
	@scripts/need cargo cc
	@scripts/claim-cache
	cargo build --locked --release --workspace --bins
	@scripts/place-models $(RELEASE)
	mkdir -p target
	$(RELEASE)/ebb-bench --out target/bench.json

generate: ## Write the generated files: CRDs, schemas of Kubernetes' kinds, plain manifests
	@scripts/need cargo cc helm
	@scripts/claim-cache
	scripts/generate

train: ## Train the digits model again (needs python3 with venv)
	scripts/train

deny: ## Check dependencies for known vulnerabilities (needs the network)
	@scripts/need cargo cc git
	"$$(scripts/cargo-tool cargo-deny)" --locked check advisories

clean: ## Remove build results, here and in the cache
	rm -rf target $(CARGO_TARGET_DIR)
