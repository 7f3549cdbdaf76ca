#!/usr/bin/env bash
# Every lint, cheapest first; prints the seconds each took.
#
# clippy, doc and the production check share the dependencies' metadata, which a
# test build does not give: they come last and together.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/target/tools/bin:$PATH"

stage() {
    local name=$1 start=$SECONDS
    shift
    printf '== %s\n' "$name"
    "$@"
    printf '== %s: %d s\n' "$name" "$((SECONDS - start))"
}

stage fmt cargo fmt --check
stage shellcheck shellcheck scripts/*.sh tests/aws/*.sh .ci/run
stage deny scripts/deny.sh
stage clippy cargo clippy --locked --all-targets -- -D warnings
stage doc env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
stage production cargo clippy --locked --no-default-features -- -D warnings
