"""Every command of RUNBOOK.md that one machine can run: blocks that begin with "# tested", in order, in one shell.

Between them, `<!-- run: … -->` is what people do by hand (tests/aws/commands.sh); a block "# tested: name"
can be called there again. Blocks that cannot run here begin with "# not run there: why" and are only parsed; one without
either is a failure. Two blocks of docs/deploy.md run here as well. Edges are real, the configuration is the one that the example's Terraform writes, Route 53 is our zone
server (it runs health checks and answers DNS, ministack does neither), S3 is ministack.
"""

import http.server
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import threading
import unittest

import config
from world import PROXIMA, ROOT, REGION, World, free_port, listens, wait

PARTS = re.compile(r"^ *<!-- run: (?P<hidden>.*?) -->$|^(?P<indent> *)```sh\n(?P<shown>.*?)^ *```$", re.M | re.S)
TAG = re.compile(r"# (?:(?P<tested>tested)(?:: (?P<name>[a-z_]+))?|not run there: .+)$")
WHOLE_WITHIN_S = 400
REGIONS = {"eu-west-1": "127.0.0.11", "us-east-1": "127.0.0.12", "ap-northeast-1": "127.0.0.13"}
NAMES = {"www.example.com": "global", "shop.example.com": "global"}

# What this machine's Route 53, and a test that shall end, need of a configuration that is else as Terraform writes it.
OF_A_NAME = '\nttl = "1s"'
OF_A_REGION = "\nhealth_port = {health}"
OF_ALL = """
endpoint = "http://127.0.0.1:{route53}"
poll = "500ms"
insync_poll = "100ms"
insync_allowance = "1s"
servers = ["127.0.0.1:{dns}"]
[probes]
interval = "200ms"
timeout = "150ms"
[failover]
down_after = "1s"
view_fresh = "2s"
max_shift = 1.0
hold_down = "3s"
max_changes_per_hour = 1000
"""


def script(text):
    """The document's commands as one script that says where it is. The problems are its blocks that cannot be used."""
    functions, lines, problems = [], [], []
    for part in PARTS.finditer(text):
        line = text.count("\n", 0, part.start()) + 1
        if part["hidden"]:
            lines += [f"at={line}; echo '== line {line}'", part["hidden"]]
            continue
        body = re.sub(f"^{part['indent']}", "", part["shown"], flags=re.M)
        first, _, body = body.partition("\n")
        tag = TAG.match(first)
        if not tag:
            problems.append(f"line {line}: a block begins with neither '# tested' nor '# not run there: why': {first}")
        elif not tag["tested"]:
            parsed = subprocess.run(["bash", "-n"], input=body, text=True, capture_output=True)
            problems += [f"line {line}: {parsed.stderr}"] if parsed.returncode else []
        else:
            if tag["name"]:
                functions.append(f"{tag['name']}() {{\n{body}}}")
            lines += [f"at={line}; echo '== line {line}'", tag["name"] or body]
    return "\n".join(["set -euo pipefail", *functions, *lines]), problems


def of_deploy(part):
    """The one block of docs/deploy.md that holds this."""
    found = [block for block in re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs/deploy.md").read_text(), re.M | re.S) if part in block]
    assert len(found) == 1, f"{len(found)} blocks of docs/deploy.md hold {part}"
    return found[0]


def faults_of_steps(text):
    """Steps that do not say what they cost and how they are undone, and blocks that bash does not understand."""
    _, *steps = re.split(r"^## (?=\d)", text, flags=re.M)
    faults = [f"{step.splitlines()[0]}: no word of '{word}'" for step in steps for word in ("cost", "undo") if word not in step.lower()]
    for block in re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.M | re.S):
        parsed = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True)
        faults += [f"{block.splitlines()[0]}: {parsed.stderr}"] if parsed.returncode else []
    return len(steps), faults


class Deploy(unittest.TestCase):
    def test_every_step_says_what_it_costs_and_how_it_is_undone_and_is_understood_by_bash(self):
        steps, faults = faults_of_steps((ROOT / "docs/deploy.md").read_text())
        self.assertEqual((steps, faults), (11, []))
        _, faults = faults_of_steps("## 1. First\nCosts nothing.\n```sh\nif true\n```\n")
        self.assertEqual(len(faults), 2, "a step without a way back, and a block that is none")


class Runbook(World):
    def test_a_block_without_a_tag_is_noticed_and_one_that_bash_does_not_understand(self):
        for block, why in (("true", "neither"), ("# tested?\ntrue", "neither"), ("# not run there:\ntrue", "neither"),
                           ("# not run there: no cluster\nif true", "syntax error")):
            _, problems = script(f"```sh\n{block}\n```\n")
            self.assertEqual(len(problems), 1, block)
            self.assertIn(why, problems[0])

    @unittest.skipUnless(shutil.which("terraform"), "no terraform, which writes the configuration: scripts/test-aws.sh says why")
    def test_every_command_that_can_run_here_does_what_it_says(self):
        commands, problems = script((ROOT / "deploy/RUNBOOK.md").read_text())
        self.assertEqual(problems, [])
        self.assertGreater(commands.count("== line"), 60, "the blocks of the runbook are not found")
        names = ("health", "peer", "admin", "service", "route53", "dns")
        ports = dict(zip(names, (free_port() for _ in names)))
        self.service(ports["service"])
        zone_id, zone_server = self.route53(ports)
        self.deployed(zone_id, ports)
        self.aws("s3api", "create-bucket", "--bucket", "backup", "--create-bucket-configuration", f"LocationConstraint={REGION}")
        self.aws("s3api", "put-bucket-versioning", "--bucket", "backup", "--versioning-configuration", "Status=Enabled")

        run = self.folder / "run.sh"
        here = pathlib.Path(__file__).parent
        run.write_text(f"source {shlex.quote(str(here / 'commands.sh'))}\n"
                       f"trap 'echo \"stopped at line $at of RUNBOOK.md: $BASH_COMMAND\"' ERR\n{commands}\n")
        env = self.root | {
            "PATH": f"{PROXIMA.parent.resolve()}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            "ADMIN_PORT": str(ports["admin"]), "PEER_PORT": str(ports["peer"]), "HEALTH_PORT": str(ports["health"]),
            "SERVICE_PORT": str(ports["service"]), "ZONE_SERVER_PID": str(zone_server.pid), "TESTS": str(here),
            "CURL_HOME": str(self.folder), "KUBECONFIG": str(self.folder / "kubeconfig"),
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

    def test_the_bucket_is_emptied_with_its_versions_before_terraform_deletes_it(self):
        self.aws("s3api", "create-bucket", "--bucket", "full", "--create-bucket-configuration", f"LocationConstraint={REGION}")
        self.aws("s3api", "put-bucket-versioning", "--bucket", "full", "--versioning-configuration", "Status=Enabled")
        for version in ("one", "two"):
            (self.folder / "object").write_text(version)
            self.aws("s3", "cp", "object", "s3://full/config/proxima.toml")
            self.aws("s3", "cp", "object", "s3://full/backups/records.json")
        self.aws("s3", "rm", "s3://full/config/proxima.toml")
        self.bash('terraform() { echo full; }\n' + of_deploy("delete-objects"))
        self.aws("s3api", "delete-bucket", "--bucket", "full")

    def bash(self, commands, **variables):
        env = self.root | variables | {"PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=self.folder, env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)

    def deployed(self, zone_id, ports):
        """What docs/deploy.md leaves in its folder when there is one region, and what Terraform would say with more of them."""
        for folder in ("terraform", "mounted", "edges"):
            (self.folder / folder).mkdir()
        for n in range(1, len(REGIONS) + 1):
            regions = {region: [address] for region, address in list(REGIONS.items())[:n]}
            text = config.example(regions, NAMES, zone_id=zone_id)
            text = text.replace('form = "global"', 'form = "global"' + OF_A_NAME)
            text = re.sub(r"^addresses = .*$", lambda found: found[0] + OF_A_REGION.format(**ports), text, flags=re.M)
            (self.folder / f"terraform/{n}.toml").write_text(text.rstrip() + OF_ALL.format(**ports))
            (self.folder / f"terraform/{n}.json").write_text(json.dumps({region: json.dumps({"region": region}) for region in regions}))
        shutil.copy(self.folder / "terraform/1.toml", self.folder / "proxima.toml")
        for kind in ("toml", "json"):
            shutil.copy(self.folder / f"terraform/1.{kind}", self.folder / f"terraform/applied.{kind}")
        (self.folder / "values-eu-west-1.yaml").write_text(json.dumps({"region": "eu-west-1", "image": {"repository": "proxima", "tag": "0.1.0"}}))
        certificates = of_deploy("-out ca/peer-ca.pem") + of_deploy("> tokens/alice").splitlines()[0]
        self.bash(certificates, DOMAIN="example.com", REGIONS="eu-west-1")
        # The load balancers, at port 80 of their addresses.
        (self.folder / ".curlrc").write_text("".join(
            f'connect-to = "{address}:80:{address}:{ports["health"]}"\n' for address in REGIONS.values()))
        (self.folder / "kubeconfig").write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
            "users": [{"name": "none", "user": {"token": "none"}}],
            "contexts": [{"name": f"proxima-{region}", "context": {"cluster": "none", "user": "none"}} for region in REGIONS]}))

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
        """Our zone server with somebody else's records in the zone, one below a moved name; the zone's id, and its process."""
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
        batch = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": {"Name": name, "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "203.0.113.99"}]}}
                             for name in ("mail.example.com", "notes.shop.example.com")]}
        self.aws("route53", "change-resource-record-sets", "--hosted-zone-id", zone_id, "--change-batch", json.dumps(batch), who=env)
        return zone_id, process


if __name__ == "__main__":
    unittest.main()
