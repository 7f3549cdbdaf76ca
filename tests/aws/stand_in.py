"""ministack with what it lacks for Route 53's IAM, as AWS's documentation has it.

ministack with AUTH=true checks signatures, actions and the ARN of a hosted zone. It knows neither ARNs of
changes and health checks (a policy that names them would deny everything) nor the condition keys of
ChangeResourceRecordSets (a condition with ForAllValues would allow everything). Both are told to its
evaluator here; what the evaluator makes of a policy is its own.

Sources: Service Authorization Reference, "Amazon Route 53"; developer guide, "Using IAM policy conditions for
fine-grained access control".

PROXIMA_CALLS names a file: one JSON line for each call that was judged, with the program that made it.
"""

import contextvars
import json
import os
import re
import xml.etree.ElementTree as ElementTree

from ministack.core import iam_actions, iam_evaluator

KEY = "route53:ChangeResourceRecordSets"
PLAIN = re.compile(r"[a-z0-9_.-]")

known_arn = iam_actions.extract_resource_arn
known_context = iam_actions.request_tag_context
known_enforce = iam_evaluator.enforce
known_pin = iam_evaluator.pin_request_caller

program = contextvars.ContextVar("program", default="")


def resource_arn(service, method, path, *rest):
    """The ARN of a change or a health check; of anything else what ministack says."""
    found = re.match(r"/2013-04-01/(change|healthcheck)/([^/]+)", path) if service == "route53" else None
    return f"arn:aws:route53:::{found[1]}/{found[2]}" if found else known_arn(service, method, path, *rest)


def normalized(name):
    """Lower case, no final dot, everything unusual as an octal escape."""
    name = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), name).lower().rstrip(".")
    return "".join(c if PLAIN.match(c) else f"\\{ord(c):03o}" for c in name)


def context(service, action, body, params):
    """Condition keys of a request."""
    keys = known_context(service, action, body, params)
    if action != KEY:
        return keys
    texts = {"Name": [], "Type": [], "Action": []}
    for change in ElementTree.fromstring(body).iter():
        if change.tag.split("}")[-1] != "Change":
            continue
        for part in list(change) + [part for child in change for part in child]:
            texts.get(part.tag.split("}")[-1], []).append(part.text)
    names = sorted({normalized(name) for name in texts["Name"]})
    found = {"NormalizedRecordNames": names, "RecordTypes": texts["Type"], "Actions": texts["Action"]}
    return {**keys, **{KEY + key: values for key, values in found.items()}}


def pin_request_caller(headers, *rest):
    """Called first with each request: its program is "aws-sdk-rust" of Proxima, "aws-cli" of people and tests."""
    program.set(headers.get("user-agent", "").split("/")[0])
    known_pin(headers, *rest)


def enforce(access_key, action, service, region, resource_arn="*", service_context=None):
    """Judges as ministack does, and writes it down."""
    denied = known_enforce(access_key, action, service, region, resource_arn, service_context)
    with open(os.environ["PROXIMA_CALLS"], "a", encoding="utf-8") as calls:
        call = {"key": access_key, "program": program.get(), "action": action, "resource": resource_arn, "allowed": denied is None}
        calls.write(json.dumps(call) + "\n")
    return denied


iam_actions.extract_resource_arn = resource_arn
iam_actions.request_tag_context = context
iam_evaluator.enforce = enforce
iam_evaluator.pin_request_caller = pin_request_caller

if __name__ == "__main__":
    from ministack.app import main

    main()
