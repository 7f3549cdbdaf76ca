#!/usr/bin/env bash
# Checks the Helm chart (deploy/helm/check.py): scripts/chart.sh [--bless]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ ! -x target/chart/bin/python ]; then
    echo "chart: SKIPPED: target/chart is missing; scripts/setup.sh chart says why" >&2
    [ -z "${PROXIMA_REQUIRE_TOOLS:-}" ] || exit 1
    exit 0
fi
arguments=("$@")
for binary in target/debug/proxima target/release/proxima; do
    if [ -x "$binary" ]; then
        arguments+=(--proxima "$binary")
        break
    fi
done
target/chart/bin/python deploy/helm/check.py "${arguments[@]}"
