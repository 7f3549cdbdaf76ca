"""deploy/iam/*.json: what each role must be able to do it can, everything else it cannot, and no right is unused."""

import json
import subprocess
import unittest

import config
from world import IAM, PROXIMA, World, free_port, listens, wait

SET = f"eu-west-1.{config.NAME}"
CONTROL = f"_proxima.{config.NAME}"


def batch(*changes):
    """A ChangeBatch of (action, name, type, value[, set identifier, weight])."""
    made = []
    for action, name, kind, value, *weighted in changes:
        record = {"Name": name, "Type": kind, "TTL": 60, "ResourceRecords": [{"Value": value}]}
        if weighted:
            record |= {"SetIdentifier": weighted[0], "Weight": weighted[1]}
        made.append({"Action": action, "ResourceRecordSet": record})
    return json.dumps({"Changes": made})


CHECK = {"Type": "HTTP", "IPAddress": "203.0.113.10", "Port": 80, "ResourcePath": "/", "RequestInterval": 30, "FailureThreshold": 3}


class Policies(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.zone_id, cls.other = cls.zone("example.com"), cls.zone("example.org")
        cls.aws("s3api", "create-bucket", "--bucket", "proxima-111122223333",
                "--create-bucket-configuration", "LocationConstraint=eu-west-1")
        for key in ("config/proxima.toml", "archive/journal"):
            (cls.folder / "object").write_text(config.text(cls.zone_id, cls.endpoint))
            cls.aws("s3api", "put-object", "--bucket", "proxima-111122223333", "--key", key, "--body", "object")

        # The files name three regions; the third is the one that a test adds and takes away.
        cls.three = config.REGIONS | {"ap-northeast-1": "203.0.113.30"}
        cls.roles = {}
        for role in ("read", "edge", "operate", "config", "archive"):
            document = json.loads((IAM / f"{role}.json").read_text().replace("Z0000000000000EXAMPLE", cls.zone_id))
            cls.roles[role] = cls.user(role, document)
        cls.file = cls.folder / "proxima.toml"
        cls.file.write_text(config.text(cls.zone_id, cls.endpoint))
        cls.peer_certificates(*[f"peer.{region}.example.com" for region in config.REGIONS])
        cls.wider = cls.folder / "three.toml"
        cls.wider.write_text(config.text(cls.zone_id, cls.endpoint, cls.three))

    def says(self, role, code, *arguments, holds=""):
        found, said = self.proxima(self.roles[role], *arguments)
        self.assertEqual(found, code, f"{role}: proxima {' '.join(arguments)}\n{said}")
        self.assertIn(holds, said)

    def test_1_who_only_looks_and_edges_cannot_make_records(self):
        for role in ("read", "edge"):
            self.says(role, 2, "dns", "plan", "--config", str(self.file), holds="+ _proxima.www.example.com TXT")
            self.says(role, 1, "dns", "bootstrap", "--yes", "--config", str(self.file), holds="AccessDenied")
        self.assertEqual(self.records(self.zone_id), [])
        self.assertEqual(self.aws("route53", "list-health-checks")["HealthChecks"], [])

    def test_2_who_operates_makes_changes_and_extends_them(self):
        self.says("operate", 0, "dns", "bootstrap", "--yes", "--config", str(self.file), holds="INSYNC")
        self.says("operate", 0, "dns", "plan", "--config", str(self.file))
        self.says("operate", 0, "dns", "bootstrap", "--yes", "--config", str(self.wider), holds="created")
        # A region leaves: its records go, then its checks.
        self.says("operate", 0, "dns", "apply", "--yes", "--config", str(self.file))
        self.says("operate", 0, "dns", "show", "--config", str(self.file), holds="eu-west-1=100")
        # Nobody's server answers for this zone: who it should be is asked for all the same.
        self.says("operate", 1, "dns", "verify", "--config", str(self.file))

    def test_3_who_looks_sees_everything_and_changes_nothing(self):
        self.says("read", 0, "dns", "plan", "--config", str(self.file))
        self.says("read", 0, "dns", "show", "--config", str(self.file), holds="eu-west-1=100")
        self.says("read", 1, "dns", "remove", "--yes", "--config", str(self.file), holds="AccessDenied")
        self.says("read", 1, "freeze", "--all", "--reason", "x", "--direct", "--config", str(self.file), holds="AccessDenied")

    def test_4_an_edge_writes_the_control_record_and_moves_weights(self):
        self.says("edge", 0, "freeze", "--all", "--reason", "test", "--direct", "--config", str(self.file))
        self.says("edge", 0, "thaw", "--all", "--direct", "--config", str(self.file))
        check = next(r for r in self.records(self.zone_id) if r["Name"] == f"{SET}.")
        moved = dict(check, Weight=50)
        changes = [{"Action": "DELETE", "ResourceRecordSet": check}, {"Action": "CREATE", "ResourceRecordSet": moved}]
        changed = self.aws("route53", "change-resource-record-sets", "--hosted-zone-id", self.zone_id,
                           "--change-batch", json.dumps({"Changes": changes}), who=self.roles["edge"])
        self.aws("route53", "get-change", "--id", changed["ChangeInfo"]["Id"], who=self.roles["edge"])
        self.says("read", 0, "dns", "show", "--config", str(self.file), "--change",
                  changed["ChangeInfo"]["Id"].removeprefix("/change/"))
        self.assertIn(50, [r.get("Weight") for r in self.records(self.zone_id)])

    def test_4_the_doctor_tells_who_may_write_by_the_names_in_the_policy_and_changes_nothing(self):
        file, before = self.folder / "act.toml", self.records(self.zone_id)
        file.write_text(config.text(self.zone_id, self.endpoint, more='mode = "act"'))
        for role in ("edge", "operate"):
            self.says(role, 0, "doctor", "--config", str(file), holds="ChangeResourceRecordSets www.example.com  ok")
        self.says("read", 1, "doctor", "--config", str(file), holds="AccessDenied")
        self.says("read", 0, "doctor", "--config", str(self.file), holds="(not needed)")
        self.assertEqual(self.records(self.zone_id), before)

    def test_5_a_running_edge_reads_records_and_asks_witnesses(self):
        for role in ("read", "edge"):
            ports = [free_port() for _ in range(3)]
            file = self.folder / f"edge-{role}.toml"
            file.write_text(config.text(self.zone_id, self.endpoint, more='mode = "observe"', ports=ports))
            log = open(self.folder / f"edge-{role}.log", "wb")
            self.addCleanup(log.close)
            edge = subprocess.Popen([PROXIMA, "run", file], env=self.roles[role], stdout=log, stderr=log)
            self.addCleanup(edge.wait)
            self.addCleanup(edge.kill)
            wanted = {f"route53:{action}" for action in ("ListResourceRecordSets", "ListHealthChecks", "GetHealthCheckStatus")}
            wait("an edge that reads", lambda: listens(ports[2]), edge)
            wait(f"{role} asks for {wanted}",
                 lambda: wanted <= {action for action, allowed in self.calls(self.roles[role]) if allowed}, edge)

    def test_6_nothing_else_is_allowed(self):
        change = ("route53", "change-resource-record-sets", "--hosted-zone-id")
        ours, other = (*change, self.zone_id, "--change-batch"), (*change, self.other, "--change-batch")
        check = self.aws("route53", "list-health-checks")["HealthChecks"][0]["Id"]
        make = ("route53", "create-health-check", "--caller-reference", "x", "--health-check-config", json.dumps(CHECK))
        get = ("s3api", "get-object", "--bucket", "proxima-111122223333", "--key")
        good = ("CREATE", SET, "A", "203.0.113.10", "another", 1)
        rows = [
            ("edge", "overwrite a record silently", (*ours, batch(("UPSERT", *good[1:])))),
            ("edge", "write at the name itself, where the latency aliases are", (*ours, batch(("CREATE", config.NAME, "A", "203.0.113.66")))),
            ("edge", "write another name of the zone", (*ours, batch(("CREATE", "mail.example.com", "A", "203.0.113.66")))),
            ("edge", "write at the zone's apex", (*ours, batch(("CREATE", "example.com", "A", "203.0.113.66")))),
            ("edge", "hide another name behind one of its own", (*ours, batch(good, ("CREATE", "mail.example.com", "A", "203.0.113.66")))),
            ("edge", "write a control record of another name", (*ours, batch(("CREATE", "_proxima.mail.example.com", "TXT", '"x"')))),
            ("edge", "prove control of a name to a certificate authority", (*ours, batch(("CREATE", f"_acme-challenge.{config.NAME}", "TXT", '"x"')))),
            ("edge", "delegate a name", (*ours, batch(("CREATE", SET, "NS", "ns.example.org")))),
            ("edge", "write another zone", (*other, batch(good))),
            ("edge", "read another zone", ("route53", "list-resource-record-sets", "--hosted-zone-id", self.other)),
            ("edge", "list zones", ("route53", "list-hosted-zones")),
            ("edge", "make a health check", make),
            ("edge", "give up a health check", ("route53", "delete-health-check", "--health-check-id", check)),
            ("edge", "disable a health check", ("route53", "update-health-check", "--health-check-id", check, "--disabled")),
            ("edge", "read the bucket without the policy for it", (*get, "config/proxima.toml", "got")),
            ("edge", "take another role", ("sts", "assume-role", "--role-arn", "arn:aws:iam::000000000000:role/x", "--role-session-name", "edge")),
            ("read", "write a record of Proxima's", (*ours, batch(good))),
            ("read", "make a health check", make),
            ("operate", "overwrite a record silently", (*ours, batch(("UPSERT", *good[1:])))),
            ("operate", "write another name of the zone", (*ours, batch(("CREATE", "mail.example.com", "A", "203.0.113.66")))),
            ("operate", "write mail exchangers at the name", (*ours, batch(("CREATE", config.NAME, "MX", "1 mail.example.org")))),
            ("operate", "write another zone", (*other, batch(good))),
            ("operate", "give up the zone", ("route53", "delete-hosted-zone", "--id", self.zone_id)),
            ("operate", "make a zone", ("route53", "create-hosted-zone", "--name", "example.net", "--caller-reference", "x")),
            ("config", "read the archive", (*get, "archive/journal", "got")),
            ("config", "read a version of the configuration that was replaced", (*get, "config/proxima.toml", "--version-id", "null", "got")),
            ("config", "change the configuration", ("s3api", "put-object", "--bucket", "proxima-111122223333", "--key", "config/proxima.toml", "--body", "object")),
            ("config", "list the bucket", ("s3api", "list-objects-v2", "--bucket", "proxima-111122223333")),
            ("archive", "read the archive", (*get, "archive/journal", "got")),
            ("archive", "overwrite the configuration", ("s3api", "put-object", "--bucket", "proxima-111122223333", "--key", "config/proxima.toml", "--body", "object")),
            ("archive", "delete what is archived", ("s3api", "delete-object", "--bucket", "proxima-111122223333", "--key", "archive/journal")),
            ("archive", "list the bucket", ("s3api", "list-objects-v2", "--bucket", "proxima-111122223333")),
            ("config", "read records", ("route53", "list-resource-record-sets", "--hosted-zone-id", self.zone_id)),
        ]
        before = self.records(self.zone_id), self.records(self.other)
        for role, what, call in rows:
            with self.subTest(role=role, what=what):
                done = self.aws(*call, who=self.roles[role], code=None)
                self.assertNotEqual(done.returncode, 0, f"{role} may {what}")
                self.assertIn("AccessDenied", done.stderr, f"{role}, {what}: failed for another reason")
        self.assertEqual((self.records(self.zone_id), self.records(self.other)), before)
        # The control: the very change that `read` may not make is one that an edge may.
        self.aws(*ours, batch(good), who=self.roles["edge"])
        self.aws(*ours, batch(("DELETE", *good[1:])), who=self.roles["edge"])

    def test_7_the_configuration_is_read_by_who_may_and_nobody_else(self):
        self.says("config", 0, "check", "s3://proxima-111122223333/config/proxima.toml", holds="ETag")
        self.says("edge", 1, "check", "s3://proxima-111122223333/config/proxima.toml", holds="denied")

    def test_7_the_doctor_and_an_edge_store_in_the_archive_and_nowhere_else(self):
        file = self.folder / "archiving.toml"
        ports = [free_port() for _ in range(3)]
        text = config.text(self.zone_id, self.endpoint, {"eu-west-1": "203.0.113.10"}, ports=ports)
        for prefix, code in (("archive", 0), ("config", 1)):
            file.write_text(f'{text}[journal]\npath = "journal"\n[archive]\ns3 = "s3://proxima-111122223333/{prefix}"\n')
            found, said = self.proxima(self.roles["archive"], "doctor", "--config", str(file), "--json")
            put = next(f for f in json.loads(said)["findings"] if f["what"].startswith("PutObject"))
            self.assertEqual(put["state"], "failed" if code else "ok", put)
        file.write_text(f'{text}[journal]\npath = "journal"\n[archive]\ns3 = "s3://proxima-111122223333/archive"\n')
        # The second start closes the first one's journal.
        for start in range(2):
            log = open(self.folder / f"archiving-{start}.log", "wb")
            self.addCleanup(log.close)
            edge = subprocess.Popen([PROXIMA, "run", file], env=self.roles["archive"], stdout=log, stderr=log)
            self.addCleanup(edge.wait)
            self.addCleanup(edge.kill)
            wait("an edge with a journal", lambda: listens(ports[2]), edge)
            if start == 0:
                wait("its journal", lambda: list((self.folder / "journal").glob("*.journal")), edge)
                edge.kill()
                edge.wait()
        wait("the archive", lambda: "archive/eu-west-1/journal/" in json.dumps(self.aws(
            "s3api", "list-objects-v2", "--bucket", "proxima-111122223333")), edge)

    def test_8_who_operates_gives_everything_up_again(self):
        # Changed since it was made, by an edge, as it may: what is there is deleted.
        self.says("operate", 0, "dns", "remove", "--yes", "--config", str(self.file))
        self.assertEqual(self.records(self.zone_id), [])

    def test_9_no_right_is_there_that_proxima_did_not_use(self):
        # Not to be seen here: ministack decrypts without asking, and answers UpdateHealthCheck with a document that
        # AWS's SDK cannot read (that test is on our own zone server: tests/dns_plan.rs).
        elsewhere = {("config", "kms:Decrypt"), ("archive", "kms:GenerateDataKey"), ("operate", "route53:UpdateHealthCheck")}
        unused = set()
        for role, who in self.roles.items():
            granted = set()
            for statement in json.loads((IAM / f"{role}.json").read_text())["Statement"]:
                actions = statement["Action"]
                granted.update([actions] if isinstance(actions, str) else actions)
            used = {action for action, allowed in self.calls(who) if allowed}
            unused |= {(role, action) for action in granted - used}
        self.assertEqual(unused, elsewhere)


if __name__ == "__main__":
    unittest.main()
