"""The global module, applied: Terraform and Proxima keep out of each other's way, and everything goes again."""

import json
import os
import shutil
import subprocess
import unittest

import config
from world import ROOT, World

NO_CHANGES, CHANGES = 0, 2


@unittest.skipUnless(os.environ.get("PROXIMA_TERRAFORM"), "no terraform with its AWS provider: scripts/test-aws.sh says why")
class Global(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # A copy, so that no state or provider lies about in the sources; as deep, since the module is named by its place.
        for part in ("tests/aws/global", "deploy/terraform/modules/global"):
            shutil.copytree(ROOT / part, cls.folder / part, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        cls.here = cls.folder / "tests/aws/global"
        cls.terraform("init", "-input=false", *filter(None, os.environ["PROXIMA_TERRAFORM"].split()))

    @classmethod
    def terraform(cls, verb, *arguments, code=0):
        variables = [f"-var=endpoint={cls.endpoint}"] if verb in ("plan", "apply", "destroy") else []
        done = subprocess.run(["terraform", verb, "-no-color", *variables, *arguments], cwd=cls.here, text=True,
                              env=cls.root, capture_output=True, timeout=300)
        if done.returncode != code:
            raise AssertionError(f"terraform {verb}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def plan(self, code, *arguments):
        return self.terraform("plan", "-detailed-exitcode", "-input=false", *arguments, code=code)

    def test_terraform_and_proxima_share_a_zone_and_never_a_record(self):
        self.terraform("apply", "-auto-approve", "-input=false")
        self.plan(NO_CHANGES)
        made = {name: one["value"] for name, one in json.loads(self.terraform("output", "-json")).items()}
        mine = {(record["Name"], record["Type"]) for record in self.records(made["zone_id"])}
        self.assertEqual(mine, {("peer.eu-west-1.example.com.", "A"), ("peer.us-east-1.example.com.", "A")})

        # By the right that the module made, and no other.
        operator = self.user("operator", json.loads(made["policies"]["operate"]))
        file = self.folder / "proxima.toml"
        file.write_text(config.text(made["zone_id"], self.endpoint))
        code, said = self.proxima(operator, "dns", "bootstrap", "--yes", "--config", file)
        self.assertEqual(code, 0, said)
        self.plan(NO_CHANGES)

        # Further names lead where a moved one leads, and Proxima has nothing against it.
        aliases = '-var=aliases={"example.com"="www.example.com"}'
        self.terraform("apply", "-auto-approve", "-input=false", aliases)
        alias = next(r for r in self.records(made["zone_id"]) if r["Name"] == "example.com.")
        self.assertEqual((alias["AliasTarget"]["DNSName"].rstrip("."), alias["AliasTarget"]["EvaluateTargetHealth"]), ("www.example.com", True))
        self.assertEqual(self.proxima(operator, "dns", "plan", "--config", file)[0], 0)
        self.plan(NO_CHANGES, aliases)

        self.encrypted_and_closed(made["bucket"])

        # A zone with users in it is not given up by mistake.
        self.assertIn("HostedZoneNotEmpty", self.terraform("destroy", "-auto-approve", "-input=false", code=1))
        self.assertNotEqual(self.records(made["zone_id"]), [])
        code, said = self.proxima(operator, "dns", "remove", "--yes", "--config", file)
        self.assertEqual(code, 0, said)
        self.terraform("destroy", "-auto-approve", "-input=false")
        self.assertEqual(self.aws("route53", "list-hosted-zones")["HostedZones"], [])
        self.assertEqual(self.aws("s3api", "list-buckets").get("Buckets", []), [])
        self.assertEqual(self.aws("iam", "list-policies", "--scope", "Local").get("Policies", []), [])

    def encrypted_and_closed(self, bucket):
        rule = self.aws("s3api", "get-bucket-encryption", "--bucket", bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
        self.assertEqual(rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"], "aws:kms")
        self.assertEqual(self.aws("s3api", "get-bucket-versioning", "--bucket", bucket)["Status"], "Enabled")
        closed = self.aws("s3api", "get-public-access-block", "--bucket", bucket)["PublicAccessBlockConfiguration"]
        self.assertTrue(all(closed.values()), closed)


if __name__ == "__main__":
    unittest.main()
