"""Secrets as test_commands.py has them without a cluster: `make` prints one as kubectl would, `mount FOLDER` puts its files there."""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys

import yaml

# As /etc/proxima-tls of the pods holds them: `tls` of the values that the example's Terraform writes.
PLACES = {"proxima-tls": "", "proxima-operators": "operators"}


def make(arguments):
    """By kubectl itself where it is here; else what it would print."""
    if shutil.which("kubectl"):
        return subprocess.run(["kubectl", *arguments], check=False).returncode
    data = {}
    for argument in arguments:
        flag, _, place = argument.partition("=")
        if flag == "--from-file":
            files = sorted(pathlib.Path(place).iterdir()) if os.path.isdir(place) else [pathlib.Path(place)]
            data |= {file.name: base64.b64encode(file.read_bytes()).decode() for file in files}
    name = arguments[arguments.index("generic") + 1]
    print(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "proxima"}, "data": data}))
    return 0


def mount(folder):
    """As the kubelet does: each file is the old one or the new one, never half of it."""
    secret = yaml.safe_load(sys.stdin)
    metadata = secret["metadata"]
    place = pathlib.Path(folder) / PLACES[metadata["name"]]
    place.mkdir(parents=True, exist_ok=True)
    for name, content in secret["data"].items():
        (place / f".{name}").write_bytes(base64.b64decode(content))
        (place / f".{name}").rename(place / name)
    print(f"secret/{metadata['name']} of {metadata['namespace']} configured")
    return 0


if __name__ == "__main__":
    sys.exit(make(sys.argv[2:]) if sys.argv[1] == "make" else mount(sys.argv[2]))
