#!/usr/bin/env bash
# Makes everything ready for the tests: Debian's packages first, then, while the compiler works, the clients, MPIs and
# stores that only tests need, and the MPI programs. A second run does nothing twice.
set -euo pipefail
cd "$(dirname "$0")/.."

beside() {
    if [ "$(id -u)" = 0 ]; then
        .ci/clients.sh
        .ci/batch-clients.sh
        .ci/mpis.sh
        .ci/stores.sh
    fi
    mpi-tasks/build.sh all
}

if [ "$(id -u)" = 0 ]; then
    .ci/deps.sh
fi
# In a process group of its own, so that a failure ends all of it.
set -m
beside &
beside=$!
set +m
trap 'kill -- "-$beside" 2>/dev/null || true' EXIT
cargo build --profile suite --locked --workspace --bins
wait "$beside"
trap - EXIT
