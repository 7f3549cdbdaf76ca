#!/usr/bin/env bash
# Dependency policy (deny.toml), with an advisory database: the git bundle that
# PROXIMA_ADVISORY_BUNDLE names, else the one that cargo-deny fetches. Without
# either, the rest of the policy is checked and the gap is said.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/target/tools/bin:$PATH"

bundle=${PROXIMA_ADVISORY_BUNDLE:-}
# The name is cargo-deny's own for the RustSec database: a hash of its address.
databases=target/tools/advisory-dbs
database=$databases/advisory-db-3157b0e258782691

if [ -n "$bundle" ]; then
    if [ ! -f "$bundle" ]; then
        echo "deny: PROXIMA_ADVISORY_BUNDLE names no file: $bundle" >&2
        exit 1
    fi
    key=$(sha256sum <"$bundle")
    if [ "$(cat "$databases/bundle" 2>/dev/null)" != "$key" ]; then
        rm -rf "$databases"
        git clone --quiet "$bundle" "$database"
        git -C "$database" fetch --quiet # leaves the FETCH_HEAD that cargo-deny reads the age from
        printf '%s\n' "$key" >"$databases/bundle"
    fi
    # Offline it looks at every package of every platform, also at those that no build here needs.
    cargo fetch --quiet --locked
    exec cargo deny --offline --locked check
fi
if cargo deny fetch db; then
    exec cargo deny --locked check
fi
cargo deny --locked check bans licenses sources
# Last, where it is seen.
echo "WARNING: no advisory database: none could be fetched, and PROXIMA_ADVISORY_BUNDLE names none." >&2
echo "WARNING: advisories were SKIPPED; licenses, bans and sources were checked." >&2
