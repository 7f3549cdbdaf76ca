#!/usr/bin/env bash
# Makes a Debian or Ubuntu machine ready: scripts/setup.sh GROUP...
#
#   build   a C compiler, cmake, make, cargo: all that `make demo` needs
#   test    nginx, h2load, nghttp, dig, curl, promtool; ministack in target/venv
#   conformance  nginx, haproxy, h2load, slowhttptest, curl; grpcio, websockets, sslyze in target/peers
#   bench   nginx, haproxy, h2load: what `make bench` measures against, and with
#   aws     ministack, AWS's command line and checkov in target/aws; curl, jq, openssl
#   kube    a real kube-apiserver and etcd: those of KUBEBUILDER_ASSETS, or how to get them; curl
#   chart   Helm, the schemas of Kubernetes, checkov and hadolint in target/chart
#   image   buildah, podman, runc, debootstrap, curl; python3; hadolint as above
#   lint    shellcheck, cargo-deny
#
# What is there already is used. Build tools are installed with apt (as root or
# by sudo). Test tools are *unpacked* under target/tools from Debian's packages,
# never installed: installing nginx or prometheus would leave a service running
# on this machine, and unpacking needs no root.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=$PWD/target/tools
stamps=$PWD/target/setup
cargo_deny_version=0.20.2
export PATH="$tools/bin:$PATH:/usr/sbin:/sbin"

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}
trap 'say "stopped by an unexpected failure in ${BASH_SOURCE[0]}:$LINENO: $BASH_COMMAND"' ERR
have() { command -v "$1" >/dev/null 2>&1; }

# Package lists, once a run: a fresh container has none.
apt_lists_ready=
apt_refresh() {
    [ -z "$apt_lists_ready" ] || return 0
    apt_lists_ready=1
    # Without root an old list still serves.
    as_root apt-get update -qq || say "apt-get update did not succeed; going on with the package lists that are here"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        DEBIAN_FRONTEND=noninteractive "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo -n DEBIAN_FRONTEND=noninteractive "$@"
    elif have sudo && [ -t 0 ]; then
        sudo DEBIAN_FRONTEND=noninteractive "$@"
    else
        return 77
    fi
}

# install PACKAGE...: with apt, for what the build itself needs.
install() {
    have apt-get || die "please install: $*"
    say "installing $*"
    apt_refresh
    # What fails is told on the standard error; the rest is a line for each step of each package.
    as_root apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        die "could not install; please run: sudo apt-get install $*"
}

setup_build() {
    have cargo || die "Rust is missing; install it with rustup (Rust $(rust_version) or newer), then run this again"
    local found
    found=$(rustc --version | cut -d' ' -f2)
    [ "$(printf '%s\n%s\n' "$(rust_version)" "$found" | sort -V | head -n 1)" = "$(rust_version)" ] ||
        die "Rust $found is too old; Proxima needs $(rust_version) or newer: rustup update"
    have cc || install build-essential
    have cmake || install cmake
    have make || install make
}

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }

# unpack COMMANDS PACKAGE [alone]: PACKAGE and those of its dependencies that
# this machine lacks go under target/tools/root, each command gets a wrapper in
# target/tools/bin. "alone": the program is static, its dependencies are a web
# page's. Nothing of the package's own scripts runs.
unpack() {
    local commands=$1 package=$2 alone=${3:-} command missing=
    for command in $commands; do have "$command" || missing=1; done
    [ -n "$missing" ] || return 0
    { have apt-get && have dpkg; } || die "please install the programs: $commands"
    apt_refresh
    say "unpacking $package into target/tools"
    local packages=$package
    if [ -z "$alone" ]; then
        packages=$(apt-get install -s --no-install-recommends "$package" | sed -n 's/^Inst \([^ ]*\).*/\1/p') ||
            die "apt does not know $package; please run: sudo apt-get install $package"
        # A tool outside PATH is installed already: its package is still fetched.
        grep -qx "$package" <<<"$packages" || packages="$packages $package"
    fi
    mkdir -p "$tools/bin" "$tools/root" "$tools/deb"
    # shellcheck disable=SC2086 # a list of package names
    (
        cd "$tools/deb"
        # As root apt warns that its own user cannot write here; what failed shows below.
        apt-get download -qq $packages 2>&1 | sed '/^W: Download is performed unsandboxed/d' >&2
    ) || die "could not download $package; please run: sudo apt-get install $package"
    local file
    for file in "$tools"/deb/*.deb; do
        dpkg -x "$file" "$tools/root"
        rm "$file"
    done
    for command in $commands; do wrap "$command" "$package"; done
}

wrap() {
    local command=$1 package=$2 program='' folder
    for folder in sbin bin usr/sbin usr/bin; do
        [ ! -x "$tools/root/$folder/$command" ] || program=$folder/$command
    done
    [ -n "$program" ] || die "$package holds no $command; please run: sudo apt-get install $package"
    cat >"$tools/bin/$command" <<WRAPPER
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/../root
LD_LIBRARY_PATH=\$root/usr/lib/$(uname -m)-linux-gnu:\$root/lib/$(uname -m)-linux-gnu exec "\$root/$program" "\$@"
WRAPPER
    chmod +x "$tools/bin/$command"
}

setup_test() {
    have curl || install curl
    unpack nginx nginx
    unpack "h2load nghttp" nghttp2-client
    unpack dig bind9-dnsutils
    unpack promtool prometheus alone
    python_environment venv tests/requirements.txt
}

setup_conformance() {
    have curl || install curl
    unpack nginx nginx
    unpack haproxy haproxy
    unpack h2load nghttp2-client
    unpack slowhttptest slowhttptest
    python_environment peers tests/conformance/requirements.txt
}

# Terraform is not Debian's: scripts/test-aws.sh says what is left out without it.
setup_aws() {
    local program
    for program in curl jq openssl; do have "$program" || install "$program"; done
    python_environment aws tests/aws/requirements.txt
}

# Not Debian's in a version of today, and nothing that a set-up should fetch unasked: see docs/kubernetes.md.
setup_kube() {
    have curl || install curl
    local program
    for program in etcd kube-apiserver; do
        [ -x "${KUBEBUILDER_ASSETS:-}/$program" ] && continue
        say "SKIPPED: no $program in KUBEBUILDER_ASSETS (${KUBEBUILDER_ASSETS:-not set}): the tests against a real API server are left out"
        say "to get one: go install sigs.k8s.io/controller-runtime/tools/setup-envtest@latest"
        # shellcheck disable=SC2016 # for the reader's shell
        say '    export KUBEBUILDER_ASSETS=$(setup-envtest use -p path)'
        return 0
    done
}

# A peer that cannot be had is a row with the reason, not a failure.
setup_bench() {
    local program package
    for program in nginx haproxy h2load; do
        package=$program
        [ "$program" != h2load ] || package=nghttp2-client
        (unpack "$program" "$package") || say "$program is missing: its rows will say so"
    done
}

# What cannot be had here (there is no Helm library for every processor) is skipped by scripts/chart.sh, loudly.
setup_chart() {
    (python_environment chart deploy/helm/requirements.txt) || say "the chart cannot be checked here: see above"
}

setup_image() {
    local program
    setup_chart
    for program in buildah podman runc debootstrap curl python3; do
        have "$program" || (install "$program") || say "$program is missing: the image is not built here"
    done
}

# python_environment NAME REQUIREMENTS: target/NAME, remade when the file or the interpreter changes.
python_environment() {
    local name=$1 requirements=$2 key
    have python3 || install python3 python3-venv
    key=$({ cat "$requirements"; python3 --version; pwd; } | sha256sum | cut -d' ' -f1)
    [ "$(cat "$stamps/$name" 2>/dev/null)" != "$key" ] || [ ! -x "target/$name/bin/python" ] || return 0
    python3 -c 'import ensurepip, venv' 2>/dev/null || install python3-venv
    say "Python test tools into target/$name"
    rm -rf "target/$name"
    python3 -m venv "target/$name"
    "target/$name/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" || {
        # Half of it would be taken for the whole.
        rm -rf "target/$name"
        die "pip could not install $requirements into target/$name; see above"
    }
    mkdir -p "$stamps"
    printf '%s\n' "$key" >"$stamps/$name"
}

# cargo-deny takes minutes to build, so it is kept outside the checkout, by version.
setup_lint() {
    unpack shellcheck shellcheck
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/proxima/cargo-deny-$cargo_deny_version
    if [ ! -x "$cache/bin/cargo-deny" ]; then
        say "building cargo-deny $cargo_deny_version (minutes, once)"
        cargo install cargo-deny --version "$cargo_deny_version" --locked --root "$cache" >&2 ||
            die "could not build cargo-deny; please run: cargo install cargo-deny --locked"
    fi
    mkdir -p "$tools/bin"
    ln -sf "$cache/bin/cargo-deny" "$tools/bin/cargo-deny"
}

[ $# -gt 0 ] || die "usage: scripts/setup.sh build|test|conformance|bench|chart|kube|image|aws|lint..."
for group in "$@"; do
    case $group in
    build | test | conformance | bench | chart | kube | image | aws | lint) "setup_$group" ;;
    *) die "unknown group $group: build, test, conformance, bench, chart, kube, image, aws or lint" ;;
    esac
done
