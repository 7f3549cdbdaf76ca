"""Proxima's configurations for the tests: two regions on loopback, and what the example's Terraform writes."""

import json
import pathlib
import subprocess
import sys
import tempfile

TEMPLATE = pathlib.Path(__file__).resolve().parents[2] / "deploy/terraform/examples/three-regions/proxima.toml.tftpl"

REGIONS = {"eu-west-1": "203.0.113.10", "us-east-1": "203.0.113.20"}
NAME = "www.example.com"


def text(zone_id, endpoint, regions=REGIONS, more="", own="eu-west-1", ports=(0, 0, 0)):
    """As TOML. One region alone has no peer listener."""
    http, peer, admin = ports
    lines = [
        f'[edge]\nregion = "{own}"',
        f'[[listeners]]\nname = "http"\naddress = "127.0.0.1:{http or 8080}"',
        f'[admin]\naddress = "127.0.0.1:{admin or 9901}"',
        '[services.web]', *[f'endpoints.{region} = ["127.0.0.1:8081"]' for region in regions],
        '[[routes]]\nname = "web"\nservice = "web"',
        f'[names."{NAME}"]\nservices = ["web"]',
        f'[dns]\nzone_id = "{zone_id}"\nendpoint = "{endpoint}"\npoll = "1s"\ninsync_poll = "100ms"\n{more}',
    ]
    if len(regions) > 1:
        lines.append(f'[peer]\naddress = "127.0.0.1:{peer or 8443}"\ncertificate = "peer.pem"\nkey = "peer.key"\nca = "peer-ca.pem"')
    for number, (region, address) in enumerate(regions.items()):
        lines.append(f'[regions.{region}]\naddresses = ["{address}"]')
        if len(regions) > 1:
            lines.append(f'peer = "peer.{region}.example.com:8443"')
    return "\n".join(lines) + "\n"


def example(regions, names, zone_id="Z0000000000000EXAMPLE", mode="act", operators=("alice",), archive=""):
    """proxima.toml as the example's Terraform writes it: its template, for these addresses by region and forms by name."""
    values = {
        "mode": mode, "zone_id": zone_id, "names": names, "networks": json.dumps(["10.10.0.0/16"]), "operators": list(operators),
        "archive": archive,
        "regions": {region: {"peer": f"peer.{region}.example.com:8443", "addresses": json.dumps(list(addresses))}
                    for region, addresses in regions.items()},
    }
    # JSON is an expression of Terraform's but for its two kinds of templates, which none of these texts has.
    expression = f'jsonencode(templatefile("{TEMPLATE}", jsondecode({json.dumps(json.dumps(values))})))'
    with tempfile.TemporaryDirectory(prefix="proxima-example-") as empty:
        done = subprocess.run(["terraform", "console"], cwd=empty, input=expression, text=True, capture_output=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError(f"terraform console: {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(json.loads(done.stdout))


if __name__ == "__main__":
    everywhere = {region: [f"203.0.113.{n}0", f"203.0.113.{n}1"]
                  for n, region in enumerate(("eu-west-1", "us-east-1", "ap-northeast-1"), 1)}
    print(example(everywhere, {"www.example.com": "global", "api.example.com": "simple"}, archive=sys.argv[1] if sys.argv[1:] else ""), end="")
