"""What the tests here share: the stand-in for AWS, users with policies, Proxima's own binary."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
IAM = ROOT / "deploy/iam"
PROXIMA = pathlib.Path(os.environ.get("PROXIMA_BIN", ROOT / "target/debug/proxima"))
AWS = pathlib.Path(sys.executable).parent / "aws"
REGION = "eu-west-1"
READY_WITHIN_S = 60


def free_port():
    """A port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(what, holds, process=None):
    """Until `holds()`; a failure with `what` after a minute, or when the process ends first."""
    deadline = time.monotonic() + READY_WITHIN_S
    while not holds():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{what}: the process ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {READY_WITHIN_S} s")
        time.sleep(0.05)


def listens(port):
    """Whether somebody accepts there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def environment(endpoint, key, secret):
    """Of a program that shall meet the stand-in and nothing else of AWS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PROXIMA_"))}
    return kept | {
        "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint, "AWS_EC2_METADATA_DISABLED": "true", "AWS_PAGER": "",
        "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }


class World(unittest.TestCase):
    """A stand-in for AWS, begun for the class and ended after it."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="proxima-aws-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.calls_file = cls.folder / "calls.jsonl"
        cls.calls_file.touch()
        port = free_port()
        cls.endpoint = f"http://127.0.0.1:{port}"
        settings = {
            "AUTH": "true", "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port),
            "PROXIMA_CALLS": str(cls.calls_file), "PATH": os.environ["PATH"], "HOME": str(cls.folder),
        }
        log = open(cls.folder / "stand-in.log", "wb")
        cls.addClassCleanup(log.close)
        stand_in = subprocess.Popen([sys.executable, pathlib.Path(__file__).with_name("stand_in.py")],
                                    env=settings, cwd=cls.folder, stdout=log, stderr=log)
        cls.addClassCleanup(stand_in.wait)
        cls.addClassCleanup(stand_in.terminate)
        wait("the stand-in for AWS", lambda: listens(port), stand_in)
        cls.root = environment(cls.endpoint, "test", "test")

    @classmethod
    def aws(cls, *arguments, who=None, code=0):
        """AWS's command line; what it printed, as data where it is."""
        done = subprocess.run([AWS, *arguments], env=who or cls.root, capture_output=True, text=True, cwd=cls.folder)
        if code is not None and done.returncode != code:
            raise AssertionError(f"aws {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
        if code is None:
            return done
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    @classmethod
    def user(cls, name, *documents):
        """The environment of a user who may do what these policies say, and nothing else."""
        cls.aws("iam", "create-user", "--user-name", name)
        for number, document in enumerate(documents):
            cls.aws("iam", "put-user-policy", "--user-name", name, "--policy-name", f"p{number}",
                    "--policy-document", json.dumps(document))
        key = cls.aws("iam", "create-access-key", "--user-name", name)["AccessKey"]
        return environment(cls.endpoint, key["AccessKeyId"], key["SecretAccessKey"])

    @classmethod
    def calls(cls, who):
        """(action, allowed) of every call of Proxima's own that was judged under a user's key; tests call by AWS's command line."""
        lines = [json.loads(line) for line in cls.calls_file.read_text().splitlines()]
        return [(call["action"], call["allowed"]) for call in lines
                if call["program"] == "aws-sdk-rust" and call["key"] == who["AWS_ACCESS_KEY_ID"]]

    @classmethod
    def proxima(cls, who, *arguments):
        """Exit code and everything that was said."""
        done = subprocess.run([PROXIMA, *arguments], env=who, capture_output=True, text=True, cwd=cls.folder, timeout=120)
        return done.returncode, done.stdout + done.stderr

    @classmethod
    def peer_certificates(cls, *names):
        """peer-ca.pem, and peer.pem with peer.key for these names, in the folder of the test."""
        pem = cls.folder / "names.txt"
        pem.write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names) + "\nextendedKeyUsage=serverAuth,clientAuth\n")
        new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj"]
        for command in (
            [*new, "/CN=peers", "-x509", "-days", "2", "-keyout", "peer-ca.key", "-out", "peer-ca.pem"],
            [*new, "/CN=peer", "-keyout", "peer.key", "-out", "peer.csr"],
            ["openssl", "x509", "-req", "-in", "peer.csr", "-CA", "peer-ca.pem", "-CAkey", "peer-ca.key", "-CAcreateserial",
             "-days", "2", "-extfile", "names.txt", "-out", "peer.pem"],
        ):
            subprocess.run(command, cwd=cls.folder, check=True, capture_output=True)

    @classmethod
    def zone(cls, domain):
        """A new hosted zone; its id."""
        made = cls.aws("route53", "create-hosted-zone", "--name", domain, "--caller-reference", f"{domain}-{time.time()}")
        return made["HostedZone"]["Id"].removeprefix("/hostedzone/")

    @classmethod
    def records(cls, zone_id):
        """All record sets of a zone but its SOA and NS."""
        listed = cls.aws("route53", "list-resource-record-sets", "--hosted-zone-id", zone_id)["ResourceRecordSets"]
        return [record for record in listed if record["Type"] not in ("SOA", "NS")]
