"""The values that the example's Terraform writes, through the chart: deploy/helm/terraform.py OUTPUTS.jsonl

OUTPUTS.jsonl is what `terraform test -json -verbose` prints in deploy/terraform/examples/three-regions. Of every run
and region the values and the configuration are rendered together as docs/deploy.md says (steps 8 and after), are valid for
Kubernetes, and every file that the configuration names is in a volume of the edge.
"""

import json
import pathlib
import sys
import tomllib

import helm_python as helm

import check

IMAGE = {"image": {"repository": "111122223333.dkr.ecr.eu-west-1.amazonaws.com/proxima", "tag": "0.1.0"}}


def outputs(path):
    """By run: what Terraform would tell."""
    events = (json.loads(line) for line in pathlib.Path(path).read_text().splitlines())
    states = ((event["@testrun"], event["test_state"]["outputs"]) for event in events if event["type"] == "test_state")
    return {run: {name: output["value"] for name, output in told.items()} for run, told in states if "values" in told}


def identified(values):
    """With AWS' form of what a mocked provider makes up: any letters."""
    service = values["service"]
    forms = {"eipAllocations": "eipalloc", "subnets": "subnet"}
    return check.merged(values, {"service": {key: [f"{form}-{one.encode().hex()}" for one in service[key]] for key, form in forms.items()}})


def files(setting):
    """Absolute paths anywhere in a configuration but for those of requests."""
    if isinstance(setting, dict):
        return {path for key, value in setting.items() if key not in ("routes", "health") for path in files(value)}
    if isinstance(setting, list):
        return {path for value in setting for path in files(value)}
    return {setting} if isinstance(setting, str) and setting.startswith("/") else set()


def problems_of(chart, where, told, region):
    values = identified(helm.values_from_yaml(told["values"][region]))
    values = check.with_text(check.merged(values, IMAGE), told["configuration"])
    if not values["configFrom"]["s3"]:
        values = check.merged(values, {"configFrom": {"outline": ""}, "config": told["configuration"]})
    chart.validate_schema(values)
    text = check.render(chart, values)
    edge = check.container(text, "DaemonSet")
    problems = check.validate(where, text)
    mounted = [one["mountPath"] for one in edge["volumeMounts"]]
    for path in files(tomllib.loads(told["configuration"])):
        if not any(path.startswith(f"{place}/") for place in mounted):
            problems.append(f"{where}: {path} of the configuration is in no volume: {mounted}")
    environment = {one["name"]: one.get("value") for one in edge["env"]}
    if environment["PROXIMA_REGION"] != region:
        problems.append(f"{where}: the edge is told {environment['PROXIMA_REGION']}")
    [service] = [one for one in check.documents(text) if one["kind"] == "Service" and one["spec"].get("type") == "LoadBalancer"]
    said = service["metadata"]["annotations"]
    for key, stated in (("eip-allocations", "eipAllocations"), ("subnets", "subnets")):
        if said[f"service.beta.kubernetes.io/aws-load-balancer-{key}"] != ",".join(values["service"][stated]):
            problems.append(f"{where}: {key}: {said}")
    return problems


def main():
    problems, rendered = [], 0
    with helm.Chart.load(check.CHART) as chart:
        for run, told in outputs(sys.argv[1]).items():
            for region in told["values"]:
                try:
                    problems += problems_of(chart, f"{run}, {region}", told, region)
                except helm.HelmError as error:
                    problems.append(f"{run}, {region}: {error}")
                rendered += 1
    if not rendered:
        problems.append(f"{sys.argv[1]} has no outputs")
    for one in problems:
        print(f"chart: {one}", file=sys.stderr)
    print(f"chart: values of Terraform for {rendered} installs: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
