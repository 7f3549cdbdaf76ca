#!/usr/bin/env bash
# Builds the image and runs it as Kubernetes would: scripts/image.sh [--prebuilt FILE] [--tag NAME]
#
# Without --prebuilt the binary is compiled in the image (minutes). With it FILE is taken as it is, as CI does with
# target/release/proxima; then no registry is needed either: where debootstrap is installed, the builder is a Debian made by it.
#
# Where no registry is reachable and BUILDER names nothing that is there, nothing can be compiled: that is said, and skipped, too.
#
# Needs buildah and podman (apt: buildah podman runc debootstrap), python3, cargo and curl. What is missing is said, and skipped
# (exit 0); with PROXIMA_REQUIRE_TOOLS set it is a failure. BUILDER and BASE override those of the Dockerfile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

prebuilt='' tag=localhost/proxima:$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
while [ $# -gt 0 ]; do
    case $1 in
    --prebuilt) prebuilt=$2 ;;
    --tag) tag=$2 ;;
    *)
        echo "usage: scripts/image.sh [--prebuilt FILE] [--tag NAME]" >&2
        exit 2
        ;;
    esac
    shift 2
done

say() { printf 'image: %s\n' "$*"; }
skip() {
    say "SKIPPED: $*"
    [ -z "${PROXIMA_REQUIRE_TOOLS:-}" ] || exit 1
    exit 0
}

if [ -x target/chart/bin/hadolint ]; then
    target/chart/bin/hadolint Dockerfile
else
    say "SKIPPED: hadolint: scripts/setup.sh chart installs it"
fi
for program in buildah podman runc python3 cargo curl; do
    command -v "$program" >/dev/null || skip "$program is missing; sudo apt-get install buildah podman runc python3 curl"
done
[ "$(id -u)" = 0 ] || skip "it needs root for debootstrap and runc: sudo scripts/image.sh"
unshare --mount --pid --fork --mount-proc true || skip "no container can be made within this one (unshare is refused)"
[ -z "$prebuilt" ] || [ -x "$prebuilt" ] || skip "there is no $prebuilt; cargo build --release --no-default-features"

# Nothing of the user's own images and containers is touched.
work=$(mktemp -d)
store=$PWD/target/image
mkdir -p "$store"
# A store remembers its runroot, whose path podman wants short.
runroot=${TMPDIR:-/tmp}/proxima-image-$(printf '%s' "$store" | sha256sum | cut -c1-12)
options=(--storage-driver vfs --root "$store/root" --runroot "$runroot")
container=''
finish() {
    [ -z "$container" ] || podman "${options[@]}" rm --force --time 0 "$container" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT
printf '{"default":[{"type":"insecureAcceptAnything"}]}\n' >"$work/policy.json"
cat >"$work/containers.conf" <<'CONF'
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
export CONTAINERS_CONF=$work/containers.conf

# debian: a builder without a registry, imported once.
debian() {
    local image=localhost/debian:bookworm-slim
    if ! buildah "${options[@]}" inspect --type image "$image" >/dev/null 2>&1; then
        say "a Debian by debootstrap (half a minute)" >&2
        debootstrap --variant=minbase --include=ca-certificates,binutils bookworm "$work/debian" >"$work/debootstrap.log" 2>&1 || return 1
        tar -C "$work/debian" -c . | podman "${options[@]}" import --quiet - "$image" >/dev/null
        rm -rf "$work/debian"
    fi
    printf '%s\n' "$image"
}

# pulled: the builder of the Dockerfile is in the store, or can be had.
pulled() {
    local builder
    builder=$(sed -n 's/^ARG BUILDER=//p' Dockerfile)
    podman "${options[@]}" image exists "$builder" && return 0
    say "pulling $builder"
    timeout 900 podman "${options[@]}" pull --quiet --signature-policy "$work/policy.json" "$builder" >"$work/pull.log" 2>&1 && return 0
    tail -n 3 "$work/pull.log" >&2
    {
        say "*** NOTHING WAS BUILT, NOTHING WAS RUN: $builder could not be pulled. Do one of:"
        say "***   make image BUILDER=IMAGE              with a builder that can be had here: Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer on Debian bookworm"
        say "***   cargo build --release --no-default-features && scripts/image.sh --prebuilt target/release/proxima"
        say "***                                         with debootstrap, which needs a Debian mirror only"
    } >&2
    return 1
}

version=${tag##*:}
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
created=$(date -u -d "@$(git log -1 --format=%ct 2>/dev/null || echo 0)" +%Y-%m-%dT%H:%M:%SZ)

build() {
    local arguments=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "CREATED=$created")
    mkdir -p "$work/context/prebuilt"
    cp -r Cargo.toml Cargo.lock src benches Dockerfile .dockerignore "$work/context/"
    python3 scripts/sbom.py "$(rustc -vV | sed -n 's/^host: //p')" >"$work/context/prebuilt/sbom.cdx.json"
    [ -z "$prebuilt" ] || cp "$prebuilt" "$work/context/prebuilt/proxima"
    if [ -n "${BUILDER:-}" ]; then
        arguments+=(--build-arg "BUILDER=$BUILDER")
    elif [ -n "$prebuilt" ] && command -v debootstrap >/dev/null; then
        local builder
        builder=$(debian) || skip "debootstrap did not succeed; BUILDER=IMAGE names another builder"
        arguments+=(--build-arg "BUILDER=$builder")
    else
        pulled || skip "no registry is reachable; see above"
    fi
    [ -z "${BASE:-}" ] || arguments+=(--build-arg "BASE=$BASE")
    # shellcheck disable=SC2086 # IMAGE_OPTIONS is a list of options, such as --volume of a cargo cache
    buildah "${options[@]}" bud --signature-policy "$work/policy.json" --isolation chroot --format oci --timestamp 0 \
        ${IMAGE_OPTIONS:-} "${arguments[@]}" --tag "$tag" "$work/context" >"$work/build.log" 2>&1 || {
        tail -n 40 "$work/build.log" >&2
        say "the build failed"
        exit 1
    }
    local size compressed
    size=$(podman "${options[@]}" image inspect --format '{{.Size}}' "$tag")
    compressed=$(podman "${options[@]}" save --quiet --format oci-archive "$tag" | gzip -6 | wc -c)
    say "$tag: $((size / 1000)) kB, compressed $((compressed / 1000)) kB"
}

# holds CLAIM COMMAND...: fails with the claim where the command does.
holds() {
    local claim=$1
    shift
    if "$@" >"$work/held" 2>&1; then
        say "held: $claim"
    else
        cat "$work/held" >&2
        say "BROKEN: $claim"
        exit 1
    fi
}

until_it() {
    local left=100
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.1
    done
}

none=0000000000000000
user=("Uid=65532 65532 65532 65532" "Gid=65532 65532 65532 65532")

# process_is NAME=VALUE...: of the container's process, as the kernel has it, such as CapEff=0000000000000000.
process_is() {
    local pid stated wanted wrong=0
    pid=$(podman "${options[@]}" inspect --format '{{.State.Pid}}' "$container")
    stated=$(sed 's/:[[:space:]]*/=/; s/[[:space:]]\+/ /g' "/proc/$pid/status")
    for wanted in "$@"; do
        grep -qxF "$wanted" <<<"$stated" || {
            printf 'not %s but %s\n' "$wanted" "$(grep "^${wanted%%=*}=" <<<"$stated")"
            wrong=1
        }
    done
    return "$wrong"
}

# Nobody says who it is, and nothing is taken from it: what the image itself says must be enough.
run_bare() {
    container=proxima-bare-$$
    podman "${options[@]}" --runtime runc run --detach --name "$container" --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
        --pull never --volume "$work/config:/etc/proxima:ro" --volume "$work/sockets:/run/proxima" "$tag" >/dev/null
    until_it test -S "$work/sockets/edge.sock" || {
        podman "${options[@]}" logs "$container" >&2
        say "BROKEN: without --user: no socket after ten seconds"
        exit 1
    }
    holds "without --user it is user and group 65532 by the image's own USER" process_is "${user[@]}"
    holds "without --cap-drop it has no capability" process_is "CapPrm=$none" "CapEff=$none" "CapAmb=$none"
    holds "without any flag SIGTERM drains, and the exit is 0" stopped
    podman "${options[@]}" rm --force --time 0 "$container" >/dev/null
    rm -f "$work/sockets/edge.sock"
    container=''
}

configuration() {
    mkdir -p "$work/config" "$work/sockets"
    chmod 0777 "$work/sockets"
    cat >"$work/config/proxima.toml" <<'TOML'
[edge]
region = "eu-west-1"
drain_notice = "1s"

[[listeners]]
name = "local"
address = "unix:/run/proxima/edge.sock"
mode = "0666"

[regions.eu-west-1]

[services.web]
endpoints.eu-west-1 = ["127.0.0.1:8081"]

[[routes]]
name = "hello"
respond = { status = 200, text = "from the container\n" }
TOML
}

# The flags are what the chart's pod has; a Unix socket is how a request gets in without a network.
run_it() {
    container=proxima-$$
    podman "${options[@]}" --runtime runc run --detach --name "$container" --network none --user 65532:65532 --read-only \
        --cap-drop ALL --security-opt no-new-privileges --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --pull never \
        --volume "$work/config:/etc/proxima:ro" --volume "$work/sockets:/run/proxima" "$tag" >/dev/null
    socket=$work/sockets/edge.sock
    inside=(podman "${options[@]}" --runtime runc exec "$container")
    holds "the container runs" running
    holds "the configuration is checked by the image itself" "${inside[@]}" /usr/local/bin/proxima check /etc/proxima/proxima.toml
    until_it test -S "$socket" || {
        podman "${options[@]}" logs "$container" >&2
        say "BROKEN: no socket after ten seconds"
        exit 1
    }
    holds "a request is served from the container, not root, read-only, without a capability" \
        grep -qx 'from the container' <(curl --silent --show-error --max-time 5 --unix-socket "$socket" http://www.example.com/)
    holds "the process is user and group 65532" process_is "${user[@]}"
    holds "the process has no capability, and can get none" \
        process_is "CapInh=$none" "CapPrm=$none" "CapEff=$none" "CapBnd=$none" "CapAmb=$none" NoNewPrivs=1
    holds "the admin listener explains it, as the chart's test asks" \
        "${inside[@]}" /usr/local/bin/proxima explain --live http://127.0.0.1:9901 --host www.example.com --path /
    holds "there is no shell" no "${inside[@]}" /bin/sh -c true
    holds "SIGTERM drains, and the exit is 0" stopped
}

no() { ! "$@"; }

running() {
    [ "$(podman "${options[@]}" inspect --format '{{.State.Running}}' "$container")" = true ] || {
        podman "${options[@]}" logs "$container"
        return 1
    }
}

stopped() {
    podman "${options[@]}" --runtime runc stop --time 30 "$container" >/dev/null &&
        [ "$(podman "${options[@]}" inspect --format '{{.State.ExitCode}}' "$container")" = 0 ]
}

contents() {
    local mounted
    mounted=$(podman "${options[@]}" image mount "$tag")
    podman "${options[@]}" image inspect "$tag" >"$work/image.json"
    holds "its user is 65532:65532, its labels are title, licenses, version, revision and date" \
        python3 - "$work/image.json" "$version" "$revision" "$created" <<'PYTHON'
import json, sys
[image] = json.load(open(sys.argv[1], encoding="utf-8"))
wanted = dict(title="proxima", licenses="Apache-2.0", version=sys.argv[2], revision=sys.argv[3], created=sys.argv[4])
labels, user = image["Labels"] or {}, image["Config"].get("User")
wrong = [f"{key}: {labels.get(f'org.opencontainers.image.{key}')!r}, not {value!r}" for key, value in wanted.items()
         if labels.get(f"org.opencontainers.image.{key}") != value]
sys.exit("\n".join(wrong) or (None if user == "65532:65532" else f"User: {user!r}"))
PYTHON
    holds "the SBOM has what Cargo.lock pins of the binary, and neither tests' nor the demo's crates" \
        python3 - "$mounted/usr/share/sbom/proxima.cdx.json" <<'PYTHON'
import json, re, sys
bom = json.load(open(sys.argv[1], encoding="utf-8"))
lock = open("Cargo.lock", encoding="utf-8").read()
wrong = [] if (bom["bomFormat"], bom["metadata"]["component"]["name"]) == ("CycloneDX", "proxima") else ["no CycloneDX of proxima"]
parts = {(one["name"], one["version"]): one for one in bom["components"]}
for name in ("pingora-core", "rustls", "tokio", "aws-sdk-route53"):
    pinned = re.search(rf'name = "{name}"\nversion = "(.+)"\n(?:source = .+\n)?checksum = "(.+)"', lock)
    part = parts.get((name, pinned[1]), {}) if pinned else {}
    if part.get("purl") != f"pkg:cargo/{name}@{pinned and pinned[1]}" or part["hashes"] != [{"alg": "SHA-256", "content": pinned[2]}]:
        wrong.append(f"{name} {pinned and pinned.groups()}: {part}")
wrong += [f"{name} is no part of the binary" for name in ("bolero", "hickory-server", "rcgen") if any(name == part for part, _ in parts)]
sys.exit("\n".join(wrong) or None)
PYTHON
    holds "root certificates are in it" test -s "$mounted/etc/ssl/certs/ca-certificates.crt"
    holds "nothing in it is set-uid or writable for all" no grep -q . <(find "$mounted" -xdev \( -perm -4000 -o -perm -2000 -o \( -perm -0002 ! -type l \) \))
    if "$mounted/usr/local/bin/proxima" zone-server --help >/dev/null 2>&1; then
        [ -n "$prebuilt" ] || holds "the demo feature is off" false
        say "NOT HELD: the demo feature is off: $prebuilt was built with it; ship one of --no-default-features"
    else
        say "held: the demo feature is off"
    fi
    podman "${options[@]}" image umount "$tag" >/dev/null
}

build
contents
configuration
run_bare
run_it
