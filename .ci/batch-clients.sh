#!/usr/bin/env bash
# Installs both generations of the batch service's Python SDK (cluster-tests/clients/batch/sdk14.txt and sdk15.txt) and a validator of
# OpenAPI documents (openapi.txt), each in an environment of its own, at pinned versions, where every user can read them. A second run
# does nothing.
#
#   .ci/batch-clients.sh           install and print where
#   .ci/batch-clients.sh --where   only print where
#
# Exit codes: 0 they are there, 1 they are not or could not be installed, 2 wrong usage.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(cat cluster-tests/clients/batch/{sdk14,sdk15,openapi}.txt | sha256sum | cut -c1-12)
place=/var/cache/muster-test-batch-clients/$version

case ${1-} in
    --where) echo "$place"; [ -e "$place/.installed" ]; exit ;;
    '') [ $# -eq 0 ] || exit 2 ;;
    *) echo "batch-clients: usage: .ci/batch-clients.sh [--where]" >&2; exit 2 ;;
esac

if [ ! -e "$place/.installed" ]; then
    echo "batch-clients: installing the SDKs and the validator into $place" >&2
    rm -rf "$place"
    mkdir -p "$place"
    for sdk in sdk14 sdk15 openapi; do
        # Debian's own python3, which every host of the virtual cluster has.
        /usr/bin/python3 -m venv "$place/$sdk"
        "$place/$sdk/bin/pip" install --quiet --disable-pip-version-check --no-deps \
            --requirement "cluster-tests/clients/batch/$sdk.txt"
        # Compiled once here, and not by each user's first run; files for other versions of Python fail, and are never read.
        "$place/$sdk/bin/python" -m compileall -q "$place/$sdk/lib" || true
    done
    touch "$place/.installed"
fi
echo "$place"
