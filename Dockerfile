# The production image: the binary, the libraries it is linked to, root certificates. No shell, no demo, not root.
#   make image        builds it, and runs it as Kubernetes would
#
# BUILDER compiles (and needs network for it), or only packs where there is a binary already: `prebuilt/proxima` in the
# context is taken as it is, and BUILDER may then be any Debian of the release that it was linked on:
#   --build-arg BUILDER=debian:bookworm-slim
# By digest, so that it stays what it was: --build-arg BUILDER=rust:1.95.0-slim-bookworm@sha256:...
ARG BUILDER=docker.io/library/rust:1.95.0-slim-bookworm
# What the image stands on. Nothing is needed; a house's own base may be given.
ARG BASE=scratch

FROM ${BUILDER} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
COPY . .
# cmake and a C compiler build zlib, mimalloc and ring.
# hadolint ignore=DL3008
RUN if [ ! -f prebuilt/proxima ]; then \
      apt-get update; \
      apt-get install -y --no-install-recommends build-essential cmake; \
      cargo build --release --locked --no-default-features; \
      mkdir -p prebuilt; cp target/release/proxima prebuilt/proxima; \
    fi; \
    if [ ! -f /etc/ssl/certs/ca-certificates.crt ]; then \
      apt-get update; \
      apt-get install -y --no-install-recommends ca-certificates; \
    fi; \
    rm -rf /var/lib/apt/lists/*
# Of the system: what the binary is linked to, and what glibc reads at run time. status.d is where scanners look for the packages of
# images without dpkg; the binary's own parts are in the SBOM beside it.
RUN install -D -m 0755 prebuilt/proxima /image/usr/local/bin/proxima; \
    strip --strip-debug /image/usr/local/bin/proxima 2>/dev/null || true; \
    /image/usr/local/bin/proxima --version; \
    ldd /image/usr/local/bin/proxima | grep -o '/[^ ]*' | while read -r library; do \
      install -D -m 0755 "$(readlink -f "$library")" "/image$library"; \
    done; \
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt; \
    install -D -m 0644 /etc/os-release /image/etc/os-release; \
    printf 'proxima:x:65532:65532::/:/nonexistent\n' >/image/etc/passwd; \
    printf 'proxima:x:65532:\n' >/image/etc/group; \
    printf 'hosts: files dns\n' >/image/etc/nsswitch.conf; \
    mkdir -p /image/var/lib/dpkg/status.d; \
    for package in libc6 libgcc-s1 ca-certificates base-files; do \
      dpkg-query -s "$package" >"/image/var/lib/dpkg/status.d/$package"; \
    done; \
    if [ -f prebuilt/sbom.cdx.json ]; then \
      install -D -m 0644 prebuilt/sbom.cdx.json /image/usr/share/sbom/proxima.cdx.json; \
    fi

# hadolint ignore=DL3006
FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="proxima" \
      org.opencontainers.image.description="A global traffic-routing edge proxy" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=build /image /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/proxima"]
CMD ["run", "/etc/proxima/proxima.toml"]
