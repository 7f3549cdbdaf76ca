"""Checks the Helm chart: `make chart`; `deploy/helm/check.py --bless` writes the golden files anew.

Every folder of `cases` is rendered and compared with its file in `golden`, linted, read by `proxima check`,
validated against the API of Kubernetes 1.28 to the newest that the validator knows, and scanned by checkov.
`REFUSALS` and `BEHIND_SCHEMA` are values that must not render, with what the chart says then.
"""

import argparse
import copy
import difflib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import helm_python as helm
import kubernetes_validate as kubernetes
import yaml

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE / "proxima"
OLDEST = (1, 28)
# Not Kubernetes' own, so the validator has no schema of them.
FOREIGN = {"PodMonitor"}

# Every finding of checkov that is left out: the check, where (a pattern of "file resource"), and why.
SKIPPED = [
    ("CKV_K8S_11", "DaemonSet|Job|Pod", "no limit of CPU: a throttled edge is latency for everybody; the request is what counts under pressure"),
    ("CKV_K8S_15", "DaemonSet|Job|Pod", "tags are not reused: IfNotPresent starts while the registry is away, and `image.pullPolicy` is a value"),
    ("CKV_K8S_43", "(host|minimal).*(DaemonSet|Job|Pod)", "the image is the user's own: `image.digest` is for those who pin it, as the case aws does"),
    ("CKV_K8S_8", "Pod", "the test ends by itself; the edge has all three probes"),
    ("CKV_K8S_9", "Pod", "the test ends by itself; the edge has all three probes"),
    ("CKV_K8S_26", "host-port.*DaemonSet", "hostPort is what `network: hostPort` asks for; the default has none"),
    ("CKV_K8S_19", "host-network.*DaemonSet", "hostNetwork is what `network: hostNetwork` asks for; the default has not"),
    ("CKV_K8S_35", "host-network.*DaemonSet", "`aws.identity: secret` is for where neither Pod Identity nor IRSA can be had: the SDK reads the environment"),
    ("CKV_K8S_38", "aws.*DaemonSet", "only with [kubernetes]: the token is then what the edge reads EndpointSlices with"),
    ("CKV2_K8S_6", "Job|Pod|host-network", "the edge has a NetworkPolicy (which would not hold on the nodes' network); job and test live for seconds"),
]

# case, changes of its values, edits of its TOML, what must be said.
REFUSALS = [
    ("minimal", {"config": ""}, [], "give the text of proxima.toml"),
    ("minimal", {"region": ""}, [], "say which of [regions] this cluster is in"),
    ("minimal", {"region": "us-east-1"}, [], '"us-east-1" is none of [regions] of the configuration: eu-west-1'),
    ("minimal", {}, [("[admin]", "[admin")], "config is not TOML"),
    ("minimal", {}, [("0.0.0.0:9901", "127.0.0.1:9901")], "the kubelet's probes cannot reach it"),
    ("minimal", {}, [("0.0.0.0:8080", "unix:/run/x.sock")], "no [[listeners]] that listens at a port"),
    ("minimal", {}, [('"15s"', '"5s"')], 'set drain_notice = "15s"'),
    ("minimal", {}, [('"15s"', '"soon"')], '"soon" is no duration'),
    ("minimal", {"terminationGracePeriodSeconds": 35}, [], "is not above edge.drain_notice + edge.drain_deadline (15 s + 20 s)"),
    ("minimal", {"hostPorts": {"http": 80}}, [], "hostPorts: only with `network: hostPort`"),
    ("minimal", {"network": "hostPort"}, [], "`network: hostPort` needs them"),
    ("minimal", {"network": "hostPort", "hostPorts": {"web": 80}}, [], 'hostPorts: "web" is no listener'),
    ("minimal", {"service": {"ports": {"web": 80}}}, [], 'service.ports: "web" is no listener'),
    ("minimal", {"service": {"ports": {"http": 0}}}, [], "minimum"),
    ("minimal", {"service": {"healthCheck": {"intervalSeconds": 5, "timeoutSeconds": 6}}}, [], "which the load balancer refuses"),
    ("minimal", {"image": {"tag": "latest"}}, [], "image"),
    ("minimal", {"replicas": 3}, [], "additional properties 'replicas' not allowed"),
    ("minimal", {"network": "hostNetwork"}, [], "no NetworkPolicy holds"),
    ("aws", {"aws": {"identity": "none"}}, [], "aws.identity: the configuration has [dns], which needs credentials"),
    ("aws", {"aws": {"identity": "irsa"}}, [], "aws.roleArn: irsa needs the role"),
    ("aws", {"aws": {"identity": "secret"}}, [], "aws.secretName"),
    ("aws", {"service": {"scheme": "internal"}}, [], "service.eipAllocations: only with `scheme: internet-facing`"),
    ("aws", {"service": {"subnets": ["subnet-1"]}}, [], "2 for 1 subnets; one for each is needed"),
    ("aws", {}, [('lease = "proxima"', 'namespace = "edge"')], 'kubernetes.namespace is "edge", but the pods are in "proxima"'),
    ("aws", {}, [('lease = "proxima"', 'kubeconfig = "kubeconfig.yaml"')], "in a pod the service account is the way to the API"),
    ("aws", {"serviceAccount": {"create": False}}, [], "name one that exists"),
    ("host-network", {}, [("0.0.0.0:8080", "0.0.0.0:80")], "listen at 8080 and let the load balancer"),
    ("host-network", {"podMonitor": {"enabled": True}}, [], "where Prometheus cannot reach it"),
    ("host-network", {"service": {"subnets": []}}, [], "1 for 0 subnets; one for each is needed"),
    ("bucket", {"config": "[edge]"}, [], "at '/config': value must be ''"),
    ("bucket", {"onConfigChange": "restart"}, [], "at '/onConfigChange': value must be 'reload'"),
    ("bucket", {"configFrom": {"outline": ""}}, [], "give the text that is at configFrom.s3"),
    ("bucket", {"configFrom": {"s3": ""}, "config": "[edge]"}, [], "configFrom.outline: only with configFrom.s3"),
    ("bucket", {"configFrom": {"s3": "s3://Bucket/key"}}, [], "at '/configFrom/s3'"),
    ("bucket", {"configFrom": {"s3": "s3://bucket/"}}, [], "at '/configFrom/s3'"),
    ("bucket", {"aws": {"identity": "none"}}, [], "aws.identity: the configuration is in a bucket, which needs credentials"),
    ("bucket", {}, [("[admin]", "[admin")], "configFrom.outline is not TOML"),
    ("bucket", {}, [("0.0.0.0:9901", "127.0.0.1:9901")], "the kubelet's probes cannot reach it"),
    ("bucket", {"stateDir": {"hostPath": "var/lib"}}, [], "at '/stateDir/hostPath'"),
    ("bucket", {"stateDir": {"sizeLimit": "16MB"}}, [], "at '/stateDir/sizeLimit'"),
    ("minimal", {"stateDir": {"hostPath": "/var/lib/proxima"}}, [], "stateDir.hostPath: only with configFrom.s3"),
]

# The same, where the schema refuses them first: what the chart says with `--skip-schema-validation`, or by a tool that knows no schema.
BEHIND_SCHEMA = [
    ("bucket", {"config": "[edge]"}, [], "the pods run either this text or what is at configFrom.s3"),
    ("bucket", {"onConfigChange": "restart"}, [], "edges follow it by themselves: leave it at reload"),
]


def merged(base, changes):
    result = copy.deepcopy(base)
    for key, value in changes.items():
        deeper = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if deeper else value
    return result


def values_of(case):
    values = helm.values_from_yaml((HERE / "cases" / case / "values.yaml").read_text())
    return with_text(values, (HERE / "cases" / case / "proxima.toml").read_text())


def with_text(values, text):
    """The text where the chart reads it: of a configuration in a bucket it is the outline."""
    return merged(values, {"configFrom": {"outline": text}} if values.get("configFrom") else {"config": text})


def text_of(values):
    return values["configFrom"]["outline"] if values.get("configFrom") else values["config"]


def render(chart, values):
    """The manifests in one text, in the order of their files, without NOTES and empty ones."""
    files = chart.render(values, name="proxima", namespace="proxima", is_install=True)
    parts = []
    for path, text in sorted(files.items()):
        if path.endswith("NOTES.txt"):
            assert "rollout status" in text, "NOTES.txt says how to go on"
        elif text.strip():
            body = text.strip().removeprefix("---").strip()
            parts.append(f"---\n# Source: {path}\n{body}\n")
    return "".join(parts)


def documents(text):
    return [one for one in yaml.safe_load_all(text) if one]


def golden(case, text, bless):
    path = HERE / "golden" / f"{case}.yaml"
    if bless:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return []
    before = path.read_text() if path.exists() else ""
    difference = difflib.unified_diff(before.splitlines(), text.splitlines(), str(path.relative_to(HERE)), "rendered now", lineterm="")
    lines = list(difference)
    return [f"{case}: not as in golden (deploy/helm/check.py --bless, if it is meant):\n" + "\n".join(lines)] if lines else []


def lint(case, values):
    report = helm.lint(CHART, values, strict=True)
    return [f"{case}: lint: {one['path']}: {one['error']}" for one in report["messages"] if one["severity"] > 1]


def versions():
    """From OLDEST to the newest that the validator knows."""
    major, newest = map(int, kubernetes.latest_version().split(".")[:2])
    return [f"{major}.{minor}" for minor in range(OLDEST[1], newest + 1)]


def validate(case, text):
    problems = []
    for version in versions():
        for one in documents(text):
            if one["kind"] in FOREIGN:
                continue
            try:
                kubernetes.validate(one, version, strict=True)
            except kubernetes.ValidationError as error:
                problems.append(f"{case}: {one['kind']} {one['metadata']['name']} in Kubernetes {version}: {error.message}")
    return problems


def configuration(case, proxima):
    """The TOML of the case is one that the binary takes."""
    command = [proxima, "check", HERE / "cases" / case / "proxima.toml"]
    environment = dict(os.environ, PROXIMA_REGION="eu-west-1")
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return [f"{case}: {run.stdout}{run.stderr}"] if run.returncode else []


def scan(texts):
    """checkov on everything rendered; whatever it finds must be in SKIPPED, and what is there must still be found."""
    with tempfile.TemporaryDirectory() as folder:
        for case, text in texts.items():
            (pathlib.Path(folder) / f"{case}.yaml").write_text(text)
        checkov = pathlib.Path(sys.executable).parent / "checkov"
        command = [checkov, "--framework", "kubernetes", "--skip-download", "--compact", "--quiet", "--output", "json", "--directory", folder]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if not run.stdout.strip():
        return [f"checkov said nothing: {run.stderr}"]
    report = json.loads(run.stdout)
    failed = (report if isinstance(report, dict) else report[0])["results"]["failed_checks"]
    problems, used = [], set()
    for one in failed:
        place = f"{one['file_path']} {one['resource']}"
        reasons = [skip for skip in SKIPPED if skip[0] == one["check_id"] and re.search(skip[1], place)]
        used.update(reasons)
        problems += [] if reasons else [f"checkov: {one['check_id']} {one['check_name']}: {place}"]
    return problems + [f"checkov: {one[0]} is in SKIPPED, but nothing fails it any more" for one in SKIPPED if one not in used]


def refusals(chart, cases):
    problems = []
    for case, changes, edits, said in cases:
        values = merged(values_of(case), changes)
        for old, new in edits:
            assert old in text_of(values), f"{case}: {old}"
            values = with_text(values, text_of(values).replace(old, new, 1))
        try:
            chart.validate_schema(values)
            render(chart, values)
            problems.append(f"{case} with {changes} {edits}: rendered, but should say {said!r}")
        except helm.HelmError as error:
            if said not in str(error):
                problems.append(f"{case} with {changes} {edits}: should say {said!r}, said: {error}")
    return problems


def main():
    parser = argparse.ArgumentParser(description="Checks the Helm chart.")
    parser.add_argument("--bless", action="store_true", help="write the golden files anew")
    parser.add_argument("--proxima", help="the binary that reads the cases' configurations")
    arguments = parser.parse_args()
    cases = sorted(one.name for one in (HERE / "cases").iterdir())
    problems, texts = [], {}
    with helm.Chart.load(CHART) as chart:
        for case in cases:
            values = values_of(case)
            chart.validate_schema(values)
            texts[case] = render(chart, values)
            problems += golden(case, texts[case], arguments.bless) + lint(case, values) + validate(case, texts[case])
            problems += configuration(case, arguments.proxima) if arguments.proxima else []
        problems += refusals(chart, REFUSALS)
    with tempfile.TemporaryDirectory() as folder:
        without_schema = shutil.copytree(CHART, pathlib.Path(folder) / CHART.name, ignore=shutil.ignore_patterns("values.schema.json"))
        with helm.Chart.load(without_schema) as chart:
            problems += refusals(chart, BEHIND_SCHEMA)
    if not arguments.proxima:
        print("chart: SKIPPED: `proxima check` of the cases: no binary; build one, or give --proxima FILE")
    problems += scan(texts)
    for one in problems:
        print(f"chart: {one}", file=sys.stderr)
    known = versions()
    print(f"chart: {len(cases)} cases, {len(REFUSALS) + len(BEHIND_SCHEMA)} refusals, Kubernetes {known[0]} to {known[-1]}, Helm {helm.helm_sdk_version()}: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
