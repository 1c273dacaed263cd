#!/usr/bin/env python3
"""Makes an image of containers, as an OCI archive, of programs of this machine and the libraries that they need: no network.

    image.py OUT.tar [--program FILE]... [--file PATH=TEXT]... [--link PATH=TARGET]... [--setuid PATH=PROGRAM]...
                     [--device PATH=MAJOR:MINOR]... [--env NAME=VALUE]... [--entrypoint WORD]... [--workdir PATH]

With --layout the archive's contents are left in the folder OUT.tar instead, as a registry has them.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def needs(program):
    """A program's libraries, as the loader finds them."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return re.findall(r"(?:=> )?(/\S+) \(0x", said)


def layer(arguments):
    """The one layer: a tar with everything that was asked for."""
    out = io.BytesIO()
    seen = set()
    with tarfile.open(fileobj=out, mode="w") as tar:

        def add(path, kind=tarfile.REGTYPE, mode=0o644, data=b"", **more):
            if path in seen:
                return
            seen.add(path)
            about = tarfile.TarInfo(path.lstrip("/"))
            about.type, about.mode, about.size = kind, mode, len(data)
            for name, value in more.items():
                setattr(about, name, value)
            tar.addfile(about, io.BytesIO(data))

        def copy(path, to=None, mode=0o755):
            with open(path, "rb") as file:
                add(to or path, mode=mode, data=file.read())

        for pair in arguments.link:
            path, target = pair.split("=", 1)
            add(path, kind=tarfile.SYMTYPE, linkname=target)
        for program in arguments.program:
            copy(program)
        for pair in arguments.setuid:
            path, program = pair.split("=", 1)
            copy(program, path, 0o4755)
        for program in arguments.program + [pair.split("=", 1)[1] for pair in arguments.setuid]:
            for library in needs(program):
                copy(library)
        for pair in arguments.file:
            path, text = pair.split("=", 1)
            add(path, data=text.encode())
        for pair in arguments.device:
            path, numbers = pair.split("=", 1)
            major, minor = map(int, numbers.split(":"))
            add(path, kind=tarfile.CHRTYPE, mode=0o666, devmajor=major, devminor=minor)
    return out.getvalue()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--layout", action="store_true")
    for name in ("program", "file", "link", "setuid", "device", "env", "entrypoint"):
        parser.add_argument(f"--{name}", action="append", default=[])
    parser.add_argument("--workdir", default="")
    arguments = parser.parse_args()
    plain = layer(arguments)
    files = {"oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode()}

    def blob(kind, data):
        digest = hashlib.sha256(data).hexdigest()
        files[f"blobs/sha256/{digest}"] = data
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    about = {"Env": arguments.env, "WorkingDir": arguments.workdir}
    if arguments.entrypoint:
        about["Entrypoint"] = arguments.entrypoint
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": about,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(CONFIG, json.dumps(config).encode()),
        "layers": [blob(LAYER, gzip.compress(plain, 1))],
    }
    entry = blob(MANIFEST, json.dumps(manifest).encode())
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    if arguments.layout:
        for path, data in files.items():
            os.makedirs(os.path.dirname(os.path.join(arguments.out, path)), exist_ok=True)
            with open(os.path.join(arguments.out, path), "wb") as file:
                file.write(data)
        print(entry["digest"])
        return
    with tarfile.open(arguments.out, "w") as tar:
        for path, data in files.items():
            about = tarfile.TarInfo(path)
            about.size, about.mode = len(data), 0o644
            tar.addfile(about, io.BytesIO(data))


main()
