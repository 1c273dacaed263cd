#!/bin/bash
# Builds the MPI programs, once for every MPI: build.sh [ompi|mpich|all]   (default: all)
#
# Each MPI has a target folder of its own, because the `mpi` crate does not notice a change of MPICC.
# The programs are put into target/bin/ompi and target/bin/mpich; MUSTER_MPI_TASKS names target/bin to job scripts.
#   OMPI_CC     the wrapper of Open MPI   (default: mpicc.openmpi)
#   MPICH_HOME  the prefix of MPICH       (default: ../target/mpich)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
programs=(rank-report ping-pong allreduce stencil pi-map pi-reduce misbehave)

build() {
    local name=$1 compiler=$2
    local into="$here/target/$name" bin="$here/target/bin/$name"
    if ! command -v "$compiler" >/dev/null; then
        echo "build.sh: $compiler is not there: install libopenmpi-dev for ompi, or unpack the mpich wheel into $here/../target/mpich (or name its prefix in MPICH_HOME)" >&2
        exit 2
    fi
    # The wrapper's answers name its prefix and its version: another MPI must never be mixed with what was built for the
    # first.
    local mark version
    version=$("$compiler" -v 2>/dev/null | head -n 1) # only MPICH's wrapper says it here
    mark="$compiler $("$compiler" -show)${version:+ $version}"
    if [ -d "$into" ] && [ "$(cat "$into/.mpi" 2>/dev/null)" != "$mark" ]; then
        rm -rf "$into"
    fi
    mkdir -p "$into" "$bin"
    printf '%s\n' "$mark" >"$into/.mpi"
    echo "build.sh: ${#programs[@]} programs for $name with $compiler -> $bin" >&2
    (cd "$here" && env -u CARGO_TARGET_DIR CARGO_INCREMENTAL=0 MPICC="$compiler" \
        cargo build --locked --quiet --release --target-dir "$into")
    local program
    for program in "${programs[@]}"; do
        # A rename, so that a program that is running now keeps its old file.
        if ! cmp -s "$into/release/$program" "$bin/$program"; then
            cp "$into/release/$program" "$bin/.$program.new"
            mv "$bin/.$program.new" "$bin/$program"
        fi
    done
}

ompi() { build ompi "${OMPI_CC:-mpicc.openmpi}"; }
mpich() {
    local home=${MPICH_HOME:-$here/../target/mpich}
    [ -d "$home" ] && home=$(cd "$home" && pwd)
    build mpich "$home/bin/mpicc"
}

case ${1:-all} in
ompi) ompi ;;
mpich) mpich ;;
all) ompi && mpich ;;
*)
    echo "usage: build.sh [ompi|mpich|all]" >&2
    exit 2
    ;;
esac
