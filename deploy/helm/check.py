"""Checks the Helm chart: `make chart`; `deploy/helm/check.py --bless` writes the golden files anew.

Every folder of `cases` is rendered and compared with its file in `golden`, linted, read by `proxima check`,
validated against the API of Kubernetes 1.28 to the newest that the validator knows, and scanned by checkov. What an
upgrade renders is validated, too; `golden/CASE.upgrade.diff` is how it differs from an install.
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
import jsonschema
import kubernetes_validate as kubernetes
import yaml

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE / "proxima"
OLDEST = (1, 28)
# Not Kubernetes' own, so the validator has no schema of them; these say where they are from.
FOREIGN = {"PodMonitor": json.loads((HERE / "podmonitor.schema.json").read_text())}

# Every finding of checkov that is left out: the check, where (a pattern of "file resource"), and why.
SKIPPED = [
    ("CKV_K8S_11", "DaemonSet|Job|Pod", "no limit of CPU: a throttled edge is latency for everybody; the request is what counts under pressure"),
    ("CKV_K8S_15", "DaemonSet|Job|Pod", "tags are not reused: IfNotPresent starts while the registry is away, and `image.pullPolicy` is a value"),
    ("CKV_K8S_43", "(host|minimal|instance).*(DaemonSet|Job|Pod)", "the image is the user's own: `image.digest` is for those who pin it, as the case aws does"),
    ("CKV_K8S_8", "Pod", "the test ends by itself; the edge has all three probes"),
    ("CKV_K8S_9", "Pod", "the test ends by itself; the edge has all three probes"),
    ("CKV_K8S_26", "host-port.*DaemonSet", "hostPort is what `network: hostPort` asks for; the default has none"),
    ("CKV_K8S_19", "(host-network|instance).*DaemonSet", "hostNetwork is what `network: hostNetwork` asks for; the default has not"),
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
    ("minimal", {"zone": {"fromLabel": "no label"}}, [], "at '/zone/fromLabel'"),
    ("minimal", {"check": {"files": True}}, [], "at '/check/files'"),
    ("minimal", {}, [("[admin]", '[archive]\ns3 = "s3://bucket/archive"\n\n[admin]')], "aws.identity: the configuration has [archive], which needs credentials"),
    ("aws", {"aws": {"identity": "none"}}, [], "aws.identity: the configuration has [dns], which needs credentials"),
    ("aws", {"extraEnv": [{"name": "PROXIMA_ZONE", "value": "eu-west-1a"}]}, [], "zone.fromLabel: extraEnv has PROXIMA_ZONE, too"),
    ("instance", {}, [('"node"', '"web_identity"')], "aws.identity: the configuration has [archive], which needs credentials"),
    ("instance", {"extraEnv": [{"name": "PROXIMA_AWS_CREDENTIALS", "value": "profile"}]}, [], "[archive], which needs credentials"),
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
    ("bucket", {"aws": {"identity": "none"}}, [("[aws]", '[aws]\ncredentials = "node"')], "PROXIMA_AWS_CREDENTIALS=node in extraEnv"),
    ("bucket", {}, [("[admin]", "[admin")], "configFrom.outline is not TOML"),
    ("bucket", {}, [("0.0.0.0:9901", "127.0.0.1:9901")], "the kubelet's probes cannot reach it"),
    ("bucket", {"stateDir": {"hostPath": "var/lib"}}, [], "at '/stateDir/hostPath'"),
    ("bucket", {"stateDir": {"sizeLimit": "16MB"}}, [], "at '/stateDir/sizeLimit'"),
    ("minimal", {"stateDir": {"hostPath": "/var/lib/proxima"}}, [], "stateDir.hostPath: only with configFrom.s3"),
]

# case, changes of its values, edits of its TOML, whether an instance may be asked: by AWS_EC2_METADATA_DISABLED of the edge.
ASKED = [
    ("minimal", {}, [], False),
    ("minimal", {}, [("[edge]", '[edge]\nzone = "imds"')], True),
    ("minimal", {}, [("[edge]", '[edge]\nregion = "imds"')], False),  # PROXIMA_REGION wins.
    ("minimal", {}, [("[edge]", '[aws]\ncredentials = "node"\n\n[edge]')], True),
    ("minimal", {}, [("[edge]", '[aws]\ncredentials = "pod_identity"\n\n[edge]')], False),
    ("minimal", {"extraEnv": [{"name": "PROXIMA_ZONE", "value": "imds"}]}, [], True),
    ("minimal", {"extraEnv": [{"name": "PROXIMA_AWS_CREDENTIALS", "value": "node"}]}, [], True),
    ("aws", {"aws": {"identity": "none"}, "extraEnv": [{"name": "PROXIMA_AWS_CREDENTIALS", "value": "node"}]}, [], True),
    ("bucket", {"aws": {"identity": "none"}, "extraEnv": [{"name": "PROXIMA_AWS_CREDENTIALS", "value": "node"}]}, [], True),
    ("bucket", {}, [], False),
]

# case, edits of its TOML, whether pods are replaced for it (the others take it up as they run).
REPLACED = [
    ("minimal", [("[[routes]]", '[[routes]]\npath = "/web"')], False),
    ("minimal", [("0.0.0.0:8080", "0.0.0.0:8081")], True),
    ("minimal", [("[admin]", '[journal]\npath = "/var/lib/proxima/journal"\n\n[admin]')], True),
    ("aws", [("[[routes]]", '[[routes]]\npath = "/web"')], True),
    ("bucket", [("0.0.0.0:9901", "0.0.0.0:9902")], True),
]

# case, changes of its values, edits of its TOML, what the hook's job says; nothing: it lets the upgrade go on.
HOOKS = [
    ("minimal", {}, [], None),
    ("instance", {}, [], None),
    ("minimal", {}, [('service = "web"', 'service = "wob"')], "there is no service `wob`"),
    ("minimal", {"region": "eu-west-1"}, [("[regions.eu-west-1]", "[regions.eu-west-2]")], "eu-west-1"),
    # What the configuration names is not there: the secret lacks it.
    ("aws", {"check": {"files": "always"}}, [], "/etc/proxima-tls"),
    ("aws", {"check": {"files": "never"}}, [], None),
]

# `check.files`, whether it is an upgrade, whether the job then reads the files that the configuration names.
FILES = [("upgrade", False, False), ("upgrade", True, True), ("always", False, True), ("always", True, True), ("never", False, False), ("never", True, False)]

# What the schema of a PodMonitor must refuse: the place, and what stands there.
NO_POD_MONITORS = [
    (["spec", "podMetricsEndpoints", 0, "interval"], "soon"),
    (["spec", "podMetricsEndpoints", 0, "scheme"], "tls"),
    (["spec", "podMetricsEndpoints", 0, "tlsConfig"], {"insecureSkipVerify": "yes"}),
    (["spec", "podMetricsEndpoint"], []),
    (["spec", "selector", "labels"], {}),
    (["apiVersion"], "monitoring.coreos.com/v1alpha1"),
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


def edited(values, edits):
    for old, new in edits:
        assert old in text_of(values), old
        values = with_text(values, text_of(values).replace(old, new, 1))
    return values


def rendered(chart, values, upgrade):
    return chart.render(values, name="proxima", namespace="proxima", is_install=not upgrade, is_upgrade=upgrade)


def notes(chart, values, upgrade=False):
    """What people are told at the end."""
    [text] = [text for path, text in rendered(chart, values, upgrade).items() if path.endswith("NOTES.txt")]
    return text.strip() + "\n"


def render(chart, values, upgrade=False):
    """The manifests in one text, in the order of their files, without NOTES and empty ones."""
    parts = []
    for path, text in sorted(rendered(chart, values, upgrade).items()):
        if not path.endswith("NOTES.txt") and text.strip():
            body = text.strip().removeprefix("---").strip()
            parts.append(f"---\n# Source: {path}\n{body}\n")
    return "".join(parts)


def documents(text):
    return [one for one in yaml.safe_load_all(text) if one]


def difference(before, after):
    """By line, without places: those would change with every line above them."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=1, lineterm="")
    return "".join(f"{line.rstrip()}\n" if not line.startswith("@@") else "@@\n" for line in list(lines)[2:])


def golden(name, text, bless):
    path = HERE / "golden" / name
    if bless:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        if not text:
            path.unlink()
        return []
    before = path.read_text() if path.exists() else ""
    lines = list(difflib.unified_diff(before.splitlines(), text.splitlines(), str(path.relative_to(HERE)), "rendered now", lineterm=""))
    return [f"{name}: not as in golden (deploy/helm/check.py --bless, if it is meant):\n" + "\n".join(lines)] if lines else []


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
                continue  # Not the cluster's version decides about those: foreign().
            try:
                kubernetes.validate(one, version, strict=True)
            except kubernetes.ValidationError as error:
                problems.append(f"{case}: {one['kind']} {one['metadata']['name']} in Kubernetes {version}: {error.message}")
    return problems


def foreign(case, text):
    """Objects of others by their own schemas; a PodMonitor names a port that there is."""
    problems, found = [], documents(text)
    ports = {port["name"] for one in found if one["kind"] == "DaemonSet" for port in one["spec"]["template"]["spec"]["containers"][0]["ports"]}
    for one in found:
        if one["kind"] not in FOREIGN:
            continue
        for error in jsonschema.Draft7Validator(FOREIGN[one["kind"]]).iter_errors(one):
            problems.append(f"{case}: {one['kind']}: {error.json_path}: {error.message}")
        named = {endpoint["port"] for endpoint in one["spec"]["podMetricsEndpoints"]}
        problems += [f"{case}: {one['kind']}: no port of the pods is named {port}" for port in sorted(named - ports)]
    return problems


def refused_foreign(text):
    """The schema of PodMonitors refuses what is none."""
    [good] = [one for one in documents(text) if one["kind"] == "PodMonitor"]
    problems = []
    for place, wrong in NO_POD_MONITORS:
        one = copy.deepcopy(good)
        inner = one
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = wrong
        if jsonschema.Draft7Validator(FOREIGN["PodMonitor"]).is_valid(one):
            problems.append(f"podmonitor.schema.json takes {wrong!r} at {place}")
    return problems


def container(text, kind):
    """The one container of the one object of this kind."""
    [found] = [one for one in documents(text) if one["kind"] == kind]
    return found["spec"]["template"]["spec"]["containers"][0]


def asked(chart):
    problems = []
    for case, changes, edits, may in ASKED:
        env = {one["name"]: one.get("value") for one in container(render(chart, edited(merged(values_of(case), changes), edits)), "DaemonSet")["env"]}
        if (env.get("AWS_EC2_METADATA_DISABLED") != "true") != may:
            problems.append(f"{case} with {changes} {edits}: the instance {'may' if may else 'must not'} be asked")
    return problems


def job_network(chart):
    """The job that reads a bucket by the node's role has the edges' network; other jobs have their own."""
    node = {"aws": {"identity": "none"}, "network": "hostNetwork", "extraEnv": [{"name": "PROXIMA_AWS_CREDENTIALS", "value": "node"}]}
    loopback = [("0.0.0.0:9901", "127.0.0.1:9901")]
    problems = []
    rows = [("bucket", node, loopback, True), ("bucket", {"network": "hostNetwork"}, loopback, False), ("bucket", {}, [], False), ("instance", {}, [], False)]
    for case, changes, edits, has in rows:
        text = render(chart, edited(merged(values_of(case), changes), edits))
        [job] = [one for one in documents(text) if one["kind"] == "Job"]
        if job["spec"]["template"]["spec"].get("hostNetwork", False) != has:
            problems.append(f"{case} with {changes}: the job {'has not' if has else 'has'} the node's network")
    return problems


def files_read(chart):
    """With --files the job has what the edge has at the same places, and waits for no secret."""
    problems = []
    for files, upgrade, reads in FILES:
        text = render(chart, merged(values_of("aws"), {"check": {"files": files}}), upgrade)
        job, edge = container(text, "Job"), container(text, "DaemonSet")
        same = all(one in job["volumeMounts"] for one in edge["volumeMounts"])
        if ("--files" in job["args"], same) != (reads, reads):
            problems.append(f"check.files: {files}, upgrade {upgrade}: {job['args']} with {job['volumeMounts']}")
        [volumes] = [one["spec"]["template"]["spec"]["volumes"] for one in documents(text) if one["kind"] == "Job"]
        secrets = [source["secret"] for volume in volumes for source in volume.get("projected", {}).get("sources", [])]
        problems += [f"check.files: {files}: the job waits for {one['name']}" for one in secrets if not one.get("optional")]
    return problems


def replaced(chart):
    """Pods are replaced for what only a start takes up, and for nothing else."""
    problems = []
    for case, edits, are in REPLACED:
        values = values_of(case)
        sums = []
        for text in (render(chart, values), render(chart, edited(values, edits))):
            [edge] = [one for one in documents(text) if one["kind"] == "DaemonSet"]
            sums.append(json.dumps(edge["spec"]["template"], sort_keys=True))
        if (sums[0] != sums[1]) != are:
            problems.append(f"{case} with {edits}: pods are {'not ' if are else ''}replaced")
    return problems


def namespaces(chart):
    """One right to read endpoints for each namespace that services are in, however many of them are in it."""
    more = "".join(f'[services.{name}]\nkubernetes = "{name}/{name}:http"\n\n' for name in ("api", "mail"))
    more += '[services.more]\nkubernetes = "shop/more:http"\n\n[kubernetes]'
    text = render(chart, edited(values_of("aws"), [("[kubernetes]", more)]))
    problems = []
    for kind in ("Role", "RoleBinding"):
        found = sorted(one["metadata"]["namespace"] for one in documents(text) if one["kind"] == kind and one["metadata"]["name"].endswith("-endpoints"))
        if found != ["api", "mail", "shop"]:
            problems.append(f"services in shop, api and mail: {kind} in {found}")
    return problems


def hooks(chart, proxima):
    """The hook's job, run as it is rendered: what it reads is that of its own ConfigMap."""
    problems = []
    for case, changes, edits, said in HOOKS:
        values = merged(values_of(case), changes)
        # Behind the chart's back, which refuses some of it as well.
        text = render(chart, values)
        job = container(text, "Job")
        [config] = [one for one in documents(text) if one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("-check")]
        [(name, toml)] = config["data"].items()
        for old, new in edits:
            assert old in toml, old
            toml = toml.replace(old, new, 1)
        [mounted] = [one["mountPath"] for one in job["volumeMounts"] if one["name"] == "config"]
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / name).write_text(toml)
            arguments = [one.replace(mounted, folder) for one in job["args"]]
            environment = {one["name"]: one.get("value", "") for one in job["env"]}
            run = subprocess.run([proxima, *arguments], env=environment, capture_output=True, text=True, check=False)
        told = run.stdout + run.stderr
        if (run.returncode == 0) != (said is None) or (said or "") not in told:
            problems.append(f"{case} with {changes} {edits}: the hook should say {said!r}, ended with {run.returncode} and said: {told}")
    return problems


def configuration(case, proxima):
    """The TOML of the case is one that the binary takes."""
    command = [proxima, "check", HERE / "cases" / case / "proxima.toml"]
    environment = dict(os.environ, PROXIMA_REGION="eu-west-1", AWS_EC2_METADATA_DISABLED="true")
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
        values = edited(merged(values_of(case), changes), edits)
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
            upgrade = render(chart, values, upgrade=True)
            problems += golden(f"{case}.yaml", texts[case], arguments.bless) + lint(case, values) + validate(case, texts[case]) + foreign(case, texts[case])
            if upgrade != texts[case]:
                problems += validate(f"{case}, upgraded", upgrade)
            problems += golden(f"{case}.notes.txt", notes(chart, values), arguments.bless)
            problems += golden(f"{case}.upgrade.diff", difference(texts[case], upgrade), arguments.bless)
            problems += configuration(case, arguments.proxima) if arguments.proxima else []
        problems += hooks(chart, arguments.proxima) if arguments.proxima else []
        problems += replaced(chart) + namespaces(chart)
        problems += refusals(chart, REFUSALS) + asked(chart) + job_network(chart) + files_read(chart)
    problems += refused_foreign(texts["aws"])
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
