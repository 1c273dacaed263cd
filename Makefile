# Muster: what one does with it. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help deps build mpi-tasks demo batch-demo cluster cluster-down test test-unit violence lint fmt sim bench profile clean

NODES ?= 4
CPUS ?= 8
ROUNDS ?= 500
KILLS ?= 200
CLUSTER := target/release/muster-cluster

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install what is missing (Debian packages, MPICH from PyPI); does nothing twice.
	@.ci/deps.sh

build: ## Build the release binaries.
	@cargo build --release --locked --workspace --bins

mpi-tasks: ## Build the MPI programs, once for each MPI.
	@mpi-tasks/build.sh all

demo: ## Bring up 4 hosts over SSH and run MPI gangs next to independent tasks.
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory deps; fi
	@$(MAKE) --no-print-directory build mpi-tasks
	@target/release/muster-demo

batch-demo: ## Render a film and solve the heat equation by the batch service; pictures in target/batch-demo.
	@if [ "$$(id -u)" = 0 ]; then .ci/deps.sh --demo; fi
	@$(MAKE) --no-print-directory build mpi-tasks
	@target/release/muster-demo batch-demo --out target/batch-demo

cluster: ## Bring a virtual cluster up and leave it running (NODES=4 CPUS=8).
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory deps; fi
	@$(MAKE) --no-print-directory build
	@target/release/muster-demo cluster up --nodes $(NODES) --cpus $(CPUS) --env-file target/cluster/env

cluster-down: ## Remove the cluster of `make cluster` without a trace.
	@target/release/muster-demo cluster down --env-file target/cluster/env

# Tests run what is compiled in the profile `suite`, which is the release with less optimization.
test: ## Run the whole suite, from unit tests to end-to-end tests on real sshd and real MPI.
	@.ci/prepare.sh
	@MUSTER_TEST_BUILT=1 .ci/test.sh

test-unit: ## Run the tests that need neither root nor MPI.
	@MUSTER_TEST_SKIP_CLUSTER=1 .ci/test.sh

violence: ## Kill everything at random under real work, and at each stage of a start (ROUNDS=500 SEED=), some hour.
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory deps; fi
	@$(MAKE) --no-print-directory build mpi-tasks
	@MUSTER_VIOLENCE_ROUNDS=$(ROUNDS) $(if $(SEED),MUSTER_VIOLENCE_SEED=$(SEED)) \
		cargo test --release --locked -q -p muster-cluster-tests --test e2e -- --nocapture violence::
	@MUSTER_KILL_ROUNDS=$(KILLS) $(if $(SEED),MUSTER_KILL_SEED=$(SEED)) \
		cargo test --release --locked -q -p muster-cluster-tests --test e2e -- --nocapture kills::

lint: ## Check format, lints, documentation and licences.
	@cargo fmt --all --check
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	@cd mpi-tasks && cargo fmt --check && cargo clippy --locked --lib --no-default-features -- -D warnings
	@RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items --quiet
	@.ci/licences.py

fmt: ## Format everything.
	@cargo fmt --all && cd mpi-tasks && cargo fmt

sim: ## Run a thousand simulated worlds full of faults.
	@cargo run --release --locked -q -p muster-sim -- faults --seeds 1000

bench: ## Measure everything beside floors and peers, one report in target/bench (ONLY=swarm,peers QUICK=1), some hour.
	@$(MAKE) --no-print-directory build mpi-tasks
	@cargo test --release --locked -q --workspace --test e2e --test durability --test growth --no-run
	@if [ "$$(id -u)" = 0 ]; then .ci/batch-clients.sh >/dev/null; fi
	@target/release/muster-demo bench $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

profile: ## Draw flame graphs of the three hot paths into docs/profiles (perf; as root).
	@docs/profiles/make.sh

clean: ## Remove what was built.
	@rm -rf target mpi-tasks/target
