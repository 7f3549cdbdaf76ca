"""Proxima's configuration for the tests: two regions on loopback, one name in the global form."""

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
