#!/usr/bin/env bash
# Installs the Python clients that the tests run through Slurm's commands (cluster-tests/clients/requirements.txt), at
# pinned versions, where every user can read them: a clone may lie where only root may look. A second run does nothing.
#
#   .ci/clients.sh           install and print where
#   .ci/clients.sh --where   only print where
#
# Exit codes: 0 they are there, 1 they are not or could not be installed, 2 wrong usage.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=cluster-tests/clients/requirements.txt
version=$(sha256sum "$requirements" | cut -c1-12)
place=/var/cache/muster-test-clients/$version

case ${1-} in
    --where) echo "$place"; [ -e "$place/.installed" ]; exit ;;
    '') [ $# -eq 0 ] || exit 2 ;;
    *) echo "clients: usage: .ci/clients.sh [--where]" >&2; exit 2 ;;
esac

if [ ! -e "$place/.installed" ]; then
    echo "clients: installing Python clients of Slurm's commands into $place" >&2
    rm -rf "$place"
    mkdir -p "$(dirname "$place")"
    # Debian's own python3, which every host of the virtual cluster has.
    /usr/bin/python3 -m venv "$place"
    "$place/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$requirements"
    # Compiled once here, and not by each user's first run; files for other versions of Python fail, and are never read.
    "$place/bin/python" -m compileall -q "$place/lib" || true
    touch "$place/.installed"
fi
echo "$place"
