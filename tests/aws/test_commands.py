"""Every command of RUNBOOK.md that one machine can run: blocks that begin with "# tested", in order, in one shell.

Between them, `<!-- run: … -->` is what people do by hand (tests/aws/commands.sh). Edges are real, Route 53 is our zone
server (it runs health checks and answers DNS, ministack does neither), S3 is ministack.
"""

import http.server
import os
import pathlib
import re
import shlex
import subprocess
import sys
import threading
import unittest

from world import PROXIMA, ROOT, REGION, World, free_port, listens, wait

PARTS = re.compile(r"^ *<!-- run: (?P<hidden>.*?) -->$|^(?P<indent> *)```sh\n *# tested\n(?P<shown>.*?)^ *```$", re.M | re.S)
WHOLE_WITHIN_S = 240

CONFIG = """
[edge]
drain_notice = "0s"
[[listeners]]
name = "http"
address = "0.0.0.0:{health}"
[peer]
address = "0.0.0.0:{peer}"
certificate = "tls/peer.pem"
key = "tls/peer.key"
ca = "tls/peer-ca.pem"
[admin]
address = "0.0.0.0:{admin}"
[[admin.operators]]
name = "alice"
token_file = "tokens/alice"
[probes]
interval = "200ms"
timeout = "150ms"
[services.web]
endpoints.eu-west-1 = ["127.0.0.1:{service}"]
[[routes]]
name = "web"
service = "web"
[names."www.example.com"]
services = ["web"]
ttl = "1s"
[failover]
down_after = "1s"
view_fresh = "2s"
max_shift = 1.0
hold_down = "3s"
max_changes_per_hour = 1000
[dns]
mode = "act"
zone_id = "{zone_id}"
endpoint = "http://127.0.0.1:{route53}"
poll = "500ms"
insync_poll = "100ms"
insync_allowance = "1s"
servers = ["127.0.0.1:{dns}"]
[regions.eu-west-1]
peer = "127.0.0.11:{peer}"
server_name = "peer.eu-west-1.example.com"
addresses = ["127.0.0.11"]
health_port = {health}
"""


def script(text):
    """The document's commands as one script that says where it is."""
    lines = ["set -euo pipefail"]
    for part in PARTS.finditer(text):
        line = text.count("\n", 0, part.start()) + 1
        body = part["hidden"] if part["hidden"] else re.sub(f"^{part['indent']}", "", part["shown"], flags=re.M)
        lines += [f"at={line}; echo '== line {line}'", body]
    return "\n".join(lines)


class Runbook(World):
    def test_every_command_that_can_run_here_does_what_it_says(self):
        names = ("health", "peer", "admin", "service", "route53", "dns")
        ports = dict(zip(names, (free_port() for _ in names)))
        self.service(ports["service"])
        zone_id, zone_server = self.route53(ports)
        self.peer_certificates(*[f"peer.{region}.example.com" for region in ("eu-west-1", "us-east-1", "ap-northeast-1")])
        for folder, files in {"tls": ("peer.pem", "peer.key", "peer-ca.pem"), "ca": ("peer-ca.key",), "tokens": (), "edges": ()}.items():
            (self.folder / folder).mkdir()
            for file in files:
                (self.folder / file).rename(self.folder / folder / file)
        (self.folder / "tokens/alice").write_text("0123456789abcdef0123456789abcdef")
        (self.folder / "proxima.toml").write_text(CONFIG.format(zone_id=zone_id, **ports))
        self.aws("s3api", "create-bucket", "--bucket", "backup", "--create-bucket-configuration", f"LocationConstraint={REGION}")
        self.aws("s3api", "put-bucket-versioning", "--bucket", "backup", "--versioning-configuration", "Status=Enabled")

        text = (ROOT / "deploy/RUNBOOK.md").read_text()
        self.assertGreater(len(PARTS.findall(text)), 30, "the blocks of the runbook are not found")
        run = self.folder / "run.sh"
        prelude = pathlib.Path(__file__).with_name("commands.sh")
        run.write_text(f"source {shlex.quote(str(prelude))}\ntrap 'echo \"stopped at line $at of RUNBOOK.md\"' ERR\n"
                       f"start_edge eu-west-1\n{script(text)}\n")
        env = self.root | {
            "PATH": f"{PROXIMA.parent.resolve()}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            "ADMIN_PORT": str(ports["admin"]), "PEER_PORT": str(ports["peer"]), "HEALTH_PORT": str(ports["health"]),
            "SERVICE_PORT": str(ports["service"]), "ZONE_SERVER_PID": str(zone_server.pid), "BUCKET": "backup",
            "AWS_ENDPOINT_URL_ROUTE_53": f"http://127.0.0.1:{ports['route53']}",
        }
        try:
            done = subprocess.run(["bash", "-E", run], cwd=self.folder, env=env, text=True, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=WHOLE_WITHIN_S)
            code, said = done.returncode, done.stdout
        except subprocess.TimeoutExpired as late:
            code, said = "no end", (late.stdout or b"").decode()
        finally:
            for file in (self.folder / "edges").glob("*.pid"):
                subprocess.run(["kill", "-9", file.read_text().strip()], check=False)
        logs = "".join(f"== {file.name}\n{file.read_text()[-3000:]}" for file in sorted((self.folder / "edges").glob("*.log")))
        self.assertEqual(code, 0, said[-6000:] + logs)
        if os.environ.get("PROXIMA_SHOW"):
            print(said)

    def service(self, port):
        class Well(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Well)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)

    def route53(self, ports):
        """Our zone server with somebody else's record in the zone; the zone's id, and its process."""
        places = [part for n, region in ((1, "eu-west-1"), (2, "us-east-1"), (3, "ap-northeast-1"))
                  for part in ("--place", f"127.0.{n}.0/24={region}")]
        log = open(self.folder / "zone-server.log", "w+b")
        self.addCleanup(log.close)
        process = subprocess.Popen(
            [PROXIMA, "zone-server", "--zone", "example.com", "--api", f"127.0.0.1:{ports['route53']}",
             "--dns", f"127.0.0.1:{ports['dns']}", "--health-interval", "300ms", *places],
            env=self.root, stdout=log, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait("the zone server", lambda: listens(ports["route53"]), process)

        def found():
            return re.search(r"id=(Z[A-Z0-9]+)", (self.folder / "zone-server.log").read_text())

        wait("the zone", found, process)
        zone_id = found()[1]
        env = self.root | {"AWS_ENDPOINT_URL_ROUTE_53": f"http://127.0.0.1:{ports['route53']}"}
        batch = '{"Changes":[{"Action":"CREATE","ResourceRecordSet":{"Name":"mail.example.com","Type":"A","TTL":60,"ResourceRecords":[{"Value":"203.0.113.99"}]}}]}'
        self.aws("route53", "change-resource-record-sets", "--hosted-zone-id", zone_id, "--change-batch", batch, who=env)
        return zone_id, process


if __name__ == "__main__":
    unittest.main()
