# The production image: no demo, no zone server, not root.
#   docker build -t proxima .
FROM rust:1.95-slim-bookworm AS build
# cmake and a C compiler build zlib and ring.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential cmake \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --no-default-features

FROM debian:bookworm-slim
# Root certificates, to speak with AWS and with HTTPS upstreams.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/proxima /usr/local/bin/proxima
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/proxima"]
CMD ["run", "/etc/proxima/proxima.toml"]
