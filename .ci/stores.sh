#!/usr/bin/env bash
# Installs what the tests of file transfers and of the embedded store run against, at pinned versions: Azurite, which speaks the
# protocol of Azure's blobs, moto's server, which speaks S3, and Azure's own client for blobs. A second run does nothing.
#
#   .ci/stores.sh           install and print where
#   .ci/stores.sh --where   only print where
#
# Exit codes: 0 they are there, 1 they are not or could not be installed, 2 wrong usage.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=launcher/files/tests/stores
version=$(cat "$requirements"/* | sha256sum | cut -c1-12)
place=/var/cache/muster-test-stores/$version

case ${1-} in
    --where) echo "$place"; [ -e "$place/.installed" ]; exit ;;
    '') [ $# -eq 0 ] || exit 2 ;;
    *) echo "stores: usage: .ci/stores.sh [--where]" >&2; exit 2 ;;
esac

if [ ! -e "$place/.installed" ]; then
    echo "stores: installing Azurite and moto into $place" >&2
    rm -rf "$place"
    mkdir -p "$place/azurite"
    cp "$requirements/package.json" "$requirements/package-lock.json" "$place/azurite/"
    npm ci --prefix "$place/azurite" --no-audit --no-fund --ignore-scripts --silent >&2
    python3 -m venv "$place/python"
    "$place/python/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$requirements/requirements.txt"
    touch "$place/.installed"
fi
echo "$place"
