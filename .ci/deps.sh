#!/usr/bin/env bash
# Installs what building and testing Muster needs on Debian 12 and what is missing here. A second run does nothing.
#
#   .ci/deps.sh           install (Debian packages need root; MPICH goes to target/mpich and does not)
#   .ci/deps.sh --check   only say what is missing
#   .ci/deps.sh --demo    what the demo of the batch service renders with as well
#
# Exit codes: 0 all is there, 1 something is missing or could not be installed, 2 wrong usage.
set -euo pipefail
cd "$(dirname "$0")/.."

RUST_MIN=1.95

# build: a C toolchain, hwloc, OpenSSL for libssh2, libclang for bindgen, the protobuf compiler
# run:   sshd and ssh, ip, Open MPI, Python for its test programs and for pip; of Debian's MPICH only Hydra, with which
#        the agents' and the shim's tests start shells; PostgreSQL, of which tests start servers of their own; libfaketime
#        and strace, with which they set a controller's clock and make its disk slow; Slurm, with whose commands the faces are compared;
#        sudo, by which agents are brought to nodes without a login as root; skopeo and umoci, by which nodes bring images of containers;
#        LAMMPS, HPCC and mpi4py, whose answers are compared with those of plain mpirun
PACKAGES=(
    build-essential pkg-config libhwloc-dev libssl-dev libudev-dev libclang-dev protobuf-compiler
    openssh-server openssh-client iproute2 openmpi-bin libopenmpi-dev mpich python3 python3-venv
    postgresql libfaketime strace slurm-wlm munge sudo skopeo umoci
    lammps hpcc python3-mpi4py
    unzip curl ca-certificates git openssl
)

# MPICH comes from PyPI: the MPICH of Debian 12 (4.0.2 with UCX 1.13) hangs in MPI_Finalize when a job spans
# several hosts. The wheel is a prefix with bin, include and lib that works wherever it lies.
MPICH_VERSION=5.0.2
MPICH_HASHES=(
    sha256:8fed465ebff269ea2ebac179a25de02671ddf8df476e0f115be089015015cfd4 # x86_64
    sha256:992ae6ebb0da97d49d7a67000ae8112da9a3825da1bb1e6f1d196428a0410f2d # aarch64
)
MPICH_DIR=target/mpich
MPICH_STAMP=$MPICH_DIR/.installed

say() { echo "deps: $*" >&2; }

usage() {
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

missing_packages() {
    local installed package
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${PACKAGES[@]}" 2>/dev/null || true)
    for package in "${PACKAGES[@]}"; do
        grep -qx "$package installed" <<<"$installed" || echo "$package"
    done
    # pip only fetches MPIs, and any that `python3` finds will do; it need not be Debian's.
    { mpich_there && .ci/mpis.sh --where >/dev/null; } || python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
    # npm fetches Azurite, against which transfers of files are tested; any that is there will do.
    .ci/stores.sh --where >/dev/null || command -v npm >/dev/null || echo npm
}

mpich_there() { [ "$(cat "$MPICH_STAMP" 2>/dev/null || true)" = "$MPICH_VERSION" ]; }

# Whether cargo is there and new enough; says what to do if not.
check_rust() {
    local found
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
    if [ -n "$found" ] && [ "$(printf '%s\n' "$RUST_MIN" "$found" | sort -V | head -n1)" = "$RUST_MIN" ]; then
        return 0
    fi
    say "Rust $RUST_MIN or newer is needed and ${found:-none} is here; get it with:" \
        "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    return 1
}

install_packages() {
    say "installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

install_mpich() {
    say "installing MPICH $MPICH_VERSION from PyPI into $MPICH_DIR"
    mkdir -p target
    # Beside its place, so that the last step is one rename and an interrupted run leaves no half of it.
    work=$(mktemp -d target/mpich.XXXXXX)
    trap 'rm -rf "$work"' EXIT # the trap runs outside of this function, so the variable is global
    echo "mpich==$MPICH_VERSION $(printf -- '--hash=%s ' "${MPICH_HASHES[@]}")" >"$work/requirements"
    python3 -m pip download --quiet --no-deps --only-binary=:all: --require-hashes \
        --requirement "$work/requirements" --dest "$work"
    python3 -m zipfile -e "$work"/mpich-*.whl "$work/wheel"
    local prefix=$work/wheel/mpich-$MPICH_VERSION.data/data
    chmod +x "$prefix"/bin/*
    check_mpich "$prefix"
    echo "$MPICH_VERSION" >"$prefix/$(basename "$MPICH_STAMP")"
    rm -rf "$MPICH_DIR"
    mv "$prefix" "$MPICH_DIR"
}

# Compiles and runs a program, which shows that the prefix works where it lies.
check_mpich() {
    printf '%s\n' '#include <mpi.h>' \
        'int main(int n, char **a) { MPI_Init(&n, &a); MPI_Barrier(MPI_COMM_WORLD); return MPI_Finalize(); }' \
        >"$work/probe.c"
    "$1/bin/mpicc" "$work/probe.c" -o "$work/probe"
    "$1/bin/mpiexec.hydra" -n 2 "$work/probe"
}

check_only=no
case ${1-} in
    '') ;;
    --check) check_only=yes ;;
    --demo) PACKAGES+=(povray) ;;
    *) usage ;;
esac
[ $# -le 1 ] || usage

mapfile -t missing < <(missing_packages)
status=0
check_rust || status=1

if [ $check_only = yes ]; then
    [ ${#missing[@]} -eq 0 ] || { say "missing Debian packages: ${missing[*]}"; status=1; }
    mpich_there || { say "missing MPICH $MPICH_VERSION in $MPICH_DIR"; status=1; }
    exit $status
fi
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
        say "these Debian packages are missing and only root can install them: ${missing[*]}"
        exit 1
    fi
    install_packages "${missing[@]}"
fi
mpich_there || install_mpich
exit $status
