#!/usr/bin/env bash
# Builds the image and runs it as Kubernetes would: scripts/image.sh [--prebuilt FILE] [--tag NAME]
#
# Without --prebuilt the binary is compiled in the image (minutes). With it FILE is taken as it is, as CI does with
# target/release/proxima; then no registry is needed either: where debootstrap is installed, the builder is a Debian made by it.
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

build() {
    local arguments=(
        --build-arg "VERSION=${tag##*:}"
        --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
        --build-arg "CREATED=$(date -u -d "@$(git log -1 --format=%ct 2>/dev/null || echo 0)" +%Y-%m-%dT%H:%M:%SZ)"
    )
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

# The flags are what the chart's pod has; a Unix socket is how a request gets in without a network.
run_it() {
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
    holds "the SBOM is in it, and is JSON" python3 -m json.tool "$mounted/usr/share/sbom/proxima.cdx.json"
    holds "root certificates are in it" test -s "$mounted/etc/ssl/certs/ca-certificates.crt"
    holds "nothing in it is set-uid or writable for all" no grep -q . <(find "$mounted" -xdev \( -perm -4000 -o -perm -2000 -o \( -perm -0002 ! -type l \) \))
    if "$mounted/usr/local/bin/proxima" zone-server --help >/dev/null 2>&1; then
        [ -n "$prebuilt" ] || holds "the demo feature is off" false
        say "NOTE: $prebuilt was built with the demo feature; ship one of --no-default-features"
    else
        say "held: the demo feature is off"
    fi
    podman "${options[@]}" image umount "$tag" >/dev/null
}

build
contents
run_it
