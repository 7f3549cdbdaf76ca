#!/usr/bin/env bash
# Dependency policy (deny.toml), with the newest advisory database to be had:
# a git bundle beside the checkout, else the one cargo-deny fetches. Without
# either, the rest of the policy is checked and the gap is said.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/target/tools/bin:$PATH"

bundle=${PROXIMA_ADVISORY_BUNDLE:-../shared/data/rustsec-advisory-db.bundle}
# The name is cargo-deny's own for the RustSec database: a hash of its address.
databases=target/tools/advisory-dbs
database=$databases/advisory-db-3157b0e258782691

if [ -f "$bundle" ]; then
    key=$(sha256sum <"$bundle")
    if [ "$(cat "$databases/bundle" 2>/dev/null)" != "$key" ]; then
        rm -rf "$databases"
        git clone --quiet "$bundle" "$database"
        git -C "$database" fetch --quiet # leaves the FETCH_HEAD that cargo-deny reads the age from
        printf '%s\n' "$key" >"$databases/bundle"
    fi
    exec cargo deny --offline --locked check
fi
if cargo deny fetch db; then
    exec cargo deny --locked check
fi
echo "WARNING: no advisory database (no bundle, no network): advisories are NOT checked" >&2
exec cargo deny --locked check bans licenses sources
