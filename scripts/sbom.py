"""The parts of the shipped binary, as a CycloneDX 1.5 document on standard output: scripts/sbom.py <TARGET>

What `cargo metadata` resolves for that target without default features: normal dependencies only, since neither build scripts
nor tests are in the binary. The same Cargo.lock gives the same document.
"""

import json
import subprocess
import sys
from urllib.parse import quote


def resolved(target):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--no-default-features", "--filter-platform", target]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def linked(metadata):
    """The identifiers of what the root depends on, through normal dependencies, and on what each depends."""
    nodes = {one["id"]: one for one in metadata["resolve"]["nodes"]}
    edges, waiting = {}, [metadata["resolve"]["root"]]
    while waiting:
        one = waiting.pop()
        if one not in edges:
            normal = [d["pkg"] for d in nodes[one]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]
            edges[one] = sorted(normal)
            waiting += normal
    return edges


def component(package, checksum):
    purl = f"pkg:cargo/{quote(package['name'])}@{quote(package['version'], safe='.-')}"
    result = {"type": "library", "bom-ref": purl, "name": package["name"], "version": package["version"], "purl": purl}
    if package.get("license"):
        result["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum:
        result["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("repository"):
        result["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return result


def checksums():
    """By name and version, from Cargo.lock."""
    found, name, version = {}, None, None
    with open("Cargo.lock", encoding="utf-8") as lock:
        for line in lock:
            key, _, value = line.strip().partition(" = ")
            value = value.strip('"')
            if key == "name":
                name = value
            elif key == "version":
                version = value
            elif key == "checksum":
                found[name, version] = value
    return found


def document(target):
    metadata, sums = resolved(target), checksums()
    edges = linked(metadata)
    packages = {one["id"]: one for one in metadata["packages"]}
    parts = {key: component(packages[key], sums.get((packages[key]["name"], packages[key]["version"]))) for key in edges}
    root = parts.pop(metadata["resolve"]["root"])
    root["type"] = "application"
    refs = {key: part["bom-ref"] for key, part in parts.items()} | {metadata["resolve"]["root"]: root["bom-ref"]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": root, "properties": [{"name": "target", "value": target}, {"name": "features", "value": "none"}]},
        "components": sorted(parts.values(), key=lambda part: part["bom-ref"]),
        "dependencies": sorted(
            ({"ref": refs[key], "dependsOn": sorted(refs[d] for d in depends)} for key, depends in edges.items()),
            key=lambda one: one["ref"],
        ),
    }


if __name__ == "__main__":
    json.dump(document(sys.argv[1]), sys.stdout, indent=1)
    print()
