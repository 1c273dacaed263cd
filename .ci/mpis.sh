#!/usr/bin/env bash
# Unpacks the MPIs that only tests need (cluster-tests/mpis/requirements.txt), at pinned versions with their hashes, where
# every user can read them: a clone may lie where only root may look. A second run does nothing.
#
#   .ci/mpis.sh           unpack and print where
#   .ci/mpis.sh --where   only print where
#
# There, `openmpi` and `impi-rt` are prefixes with bin and lib; Intel MPI (`impi-rt`) is there on x86_64 only.
# Exit codes: 0 they are there, 1 they are not or could not be fetched, 2 wrong usage.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=cluster-tests/mpis/requirements.txt
version=$(sha256sum "$requirements" | cut -c1-12)
place=/var/cache/muster-test-mpis/$version

case ${1-} in
    --where) echo "$place"; [ -e "$place/.installed" ]; exit ;;
    '') [ $# -eq 0 ] || exit 2 ;;
    *) echo "mpis: usage: .ci/mpis.sh [--where]" >&2; exit 2 ;;
esac

if [ ! -e "$place/.installed" ]; then
    echo "mpis: fetching Open MPI 5 and Intel MPI from PyPI into $place" >&2
    rm -rf "$place"
    mkdir -p "$place"
    work=$(mktemp -d "$place/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --requirement "$requirements" --dest "$work"
    for wheel in "$work"/*.whl; do
        python3 -m zipfile -e "$wheel" "$work/unpacked"
        rm "$wheel"
    done
    for data in "$work"/unpacked/*.data/data; do
        name=$(basename "${data%.data/data}")
        name=${name%-*}
        mv "$data" "$place/${name//_/-}"
    done
    chmod -R a+rX "$place"
    chmod a+x "$place"/*/bin/*
    touch "$place/.installed"
fi
echo "$place"
