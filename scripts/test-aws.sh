#!/usr/bin/env bash
# What deploy/ says about AWS, against stand-ins: `make test-aws`.
#
# Terraform is formatted, valid, does what its tests claim (mocked provider), and passes checkov with every skip
# explained; the global module is applied and destroyed; deploy/iam/*.json allow what Proxima does and deny the rest;
# the runbook's commands run. What cannot be had here is skipped, aloud, and told again at the end.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD
modules=(deploy/terraform/modules/global deploy/terraform/modules/regional deploy/terraform/examples/three-regions)
python=$root/target/aws/bin/python
work=$(mktemp -d "${TMPDIR:-/tmp}/proxima-test-aws.XXXXXX")
trap 'rm -rf "$work"' EXIT
skipped=()

say() { printf 'test-aws: %s\n' "$*"; }
skip() {
    skipped+=("$1")
    say "SKIPPED: $1"
}
stage() {
    local start=$SECONDS
    "${@:2}" || {
        say "$1 FAILED"
        exit 1
    }
    say "$1: $((SECONDS - start)) s"
}

# A folder with the AWS provider unpacked, as `terraform init -plugin-dir` wants it; nothing where there is none.
provider_folder() {
    local found
    found=$(find /opt /usr/local /usr/share "$HOME" -maxdepth 5 -type d -path '*registry.terraform.io/hashicorp/aws' -print -quit 2>/dev/null) || true
    echo "${found%/registry.terraform.io/hashicorp/aws}"
}

# Copies the sources, so that no provider and no lock file lies about in them, and makes the example's modules ready.
ready_terraform() {
    command -v terraform >/dev/null || {
        skip "terraform is not here (https://developer.hashicorp.com/terraform/install): nothing is validated, tested or applied"
        return 1
    }
    [ ! -v TF_CLI_CONFIG_FILE ] || [ -e "$TF_CLI_CONFIG_FILE" ] || unset TF_CLI_CONFIG_FILE
    local folder
    folder=$(provider_folder)
    export PROXIMA_TERRAFORM="-no-color${folder:+ -plugin-dir=$folder}"
    mkdir -p "$work/deploy"
    cp -r deploy/terraform deploy/iam "$work/deploy/"
    find "$work" -name '.terraform*' ! -name .terraformignore -prune -exec rm -rf {} +
    local module
    for module in "${modules[@]}"; do
        # shellcheck disable=SC2086 # several arguments
        (cd "$work/$module" && terraform init -input=false -backend=false $PROXIMA_TERRAFORM) >"$work/init.log" 2>&1 || {
            cat "$work/init.log"
            unset PROXIMA_TERRAFORM
            skip "the AWS provider 5.100 is not here and could not be downloaded: nothing is validated, tested or applied"
            return 1
        }
    done
}

formatted() { terraform fmt -check -recursive -diff deploy/terraform tests/aws; }
valid() {
    local module
    for module in "${modules[@]}"; do (cd "$work/$module" && terraform validate -no-color) || return 1; done
}
# Says what people read of it, and keeps the outputs of every run of the example.
claims() {
    local module
    for module in "${modules[@]}"; do
        (cd "$work/$module" && terraform test -json -verbose) >"$work/$(basename "$module").jsonl" || {
            (cd "$work/$module" && terraform test -no-color)
            return 1
        }
        "$python" -c 'import json, sys; print(json.loads(sys.stdin.readlines()[-1])["@message"])' <"$work/$(basename "$module").jsonl"
    done
}
through_the_chart() { target/chart/bin/python deploy/helm/terraform.py "$work/three-regions.jsonl"; }

# A skip without a reason would be silence.
scanned() {
    local bare
    bare=$(grep -rnE 'checkov:skip=[A-Z0-9_]+(:.{0,30})?$' deploy/terraform --include='*.tf' || true)
    [ -z "$bare" ] || {
        printf '%s\n' "$bare"
        say "a checkov:skip needs a reason of a sentence"
        return 1
    }
    target/aws/bin/checkov --framework terraform --skip-download --compact --quiet --directory deploy/terraform
}

# What Terraform hands to people as proxima.toml is a configuration that Proxima takes, with the archive and without.
configuration() {
    local archive
    for archive in "" s3://proxima-111122223333/archive; do
        "$python" -B tests/aws/config.py "$archive" >"$work/proxima.toml" || return 1
        PROXIMA_REGION=eu-west-1 "$PROXIMA_BIN" check "$work/proxima.toml" || return 1
    done
}

# They mostly wait for INSYNC, so they run at once, each with AWS and Route 53 of its own.
against_stand_ins() {
    local test jobs=() failed=
    for test in test_iam test_global test_commands; do
        (cd tests/aws && exec timeout --kill-after=10s 15m "$python" -B -m unittest -v "$test") >"$work/$test.log" 2>&1 &
        jobs+=("$!:$test")
    done
    for test in "${jobs[@]}"; do
        wait "${test%%:*}" || failed=1
        cat "$work/${test#*:}.log"
    done
    [ -z "$failed" ]
}

export PROXIMA_BIN=${PROXIMA_BIN:-$root/target/debug/proxima}
[ -x "$PROXIMA_BIN" ] || {
    say "there is no $PROXIMA_BIN; run: make test-aws"
    exit 1
}
[ -x "$python" ] || {
    say "there is no target/aws; run: scripts/setup.sh aws"
    exit 1
}
if ready_terraform; then
    stage "terraform fmt" formatted
    stage "terraform validate" valid
    stage "terraform test" claims
    stage "the example's configuration" configuration
    if [ -x target/chart/bin/python ]; then
        stage "the example's values through the chart" through_the_chart
    else
        skip "target/chart is missing (scripts/setup.sh chart says why): the values that Terraform writes do not go through the chart"
    fi
fi
stage "checkov" scanned
stage "IAM, global module, runbook" against_stand_ins
for reason in "${skipped[@]}"; do say "SKIPPED: $reason"; done
say "passed in $SECONDS s"
