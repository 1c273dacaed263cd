#!/usr/bin/env bash
# Runs the workspace's tests with cargo-nextest where it is installed, else with cargo test. The end-to-end tests
# share two cores with whole clusters of real processes and therefore run one at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
(cd mpi-tasks && cargo test --quiet --release --locked --lib --no-default-features --target-dir target/unit)
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --cargo-profile suite --locked --workspace --no-fail-fast
fi
exec cargo test --profile suite --locked --workspace --no-fail-fast -- --test-threads=1
