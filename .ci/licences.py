#!/usr/bin/env python3
"""Checks every dependency's licence against a list, and that no crate is there in two versions without a reason.

Reads `cargo metadata` and the lock file only: it needs no network. Advisories need the advisory database, which
`cargo deny check advisories` fetches where that is possible.
"""

import json
import re
import subprocess
import sys

ALLOWED = {
    "Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "0BSD", "Unlicense", "CC0-1.0",
    "Unicode-3.0", "BSL-1.0", "MIT-0", "Apache-2.0 WITH LLVM-exception", "CDLA-Permissive-2.0", "blessing",
}

# Two versions that are there because a dependency has not moved on yet; nothing of ours names the older one.
DUPLICATES_ALLOWED = set(json.load(open(".ci/duplicates-allowed.json")))


def allowed(expression):
    """Whether an SPDX expression can be met with allowed licences alone."""
    expression = expression.replace("/", " OR ").replace("(", " ").replace(")", " ")
    alternatives = re.split(r"\s+OR\s+", expression.strip())
    return any(all(part.strip() in ALLOWED for part in re.split(r"\s+AND\s+", a)) for a in alternatives)


def main():
    output = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"],
        check=True, capture_output=True, text=True).stdout
    packages = [p for p in json.loads(output)["packages"] if p["source"]]
    problems = [
        f"{p['name']} {p['version']}: licence {p['license']!r} is not on the list"
        for p in packages if not allowed(p["license"] or "")
    ]
    versions = {}
    for package in packages:
        versions.setdefault(package["name"], set()).add(package["version"])
    for name, found in sorted(versions.items()):
        if len(found) > 1 and name not in DUPLICATES_ALLOWED:
            problems.append(f"{name} is there in versions {', '.join(sorted(found))}")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"licences: {len(packages)} packages, all on the list")


main()
