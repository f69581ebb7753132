# bellwether in a container: one binary, no root, nothing writable but /data.
#
#   docker build --build-arg BELLWETHER_REVISION="$(git rev-parse --short=12 HEAD)" -t bellwether .
#   docker run --rm --read-only --cap-drop ALL -p 127.0.0.1:8000:8000 -v bellwether-data:/data bellwether
#
# Pin both bases by digest where builds must be repeatable.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# `bellwether version` says it; the context has no .git to ask.
ARG BELLWETHER_REVISION=unknown
# The caches keep crates and objects between builds without becoming part of a layer, so the binary is taken out of there.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin bellwether \
    && install -D -m 755 target/release/bellwether /out/usr/local/bin/bellwether \
    && install -d -m 700 -o 65532 -g 65532 /out/data

# The same Debian as the build's, so that the C library fits.
FROM debian:bookworm-slim
# Whom to trust: TLS to data providers and error reporting is checked against the system's certificates.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# With its owner: a new volume takes owner and mode from here.
COPY --from=build /out/ /

# Inside the container only; what is reachable from outside is said by whoever publishes ports.
ENV STATE_DIRECTORY=/data \
    BELLWETHER_LISTEN=0.0.0.0:8000 \
    BELLWETHER_METRICS_LISTEN=0.0.0.0:9000 \
    JSON_LOGS=true
# What was freed goes back to the host: see the same line in systemd/bellwether.service.
ENV MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=131072 MALLOC_TRIM_THRESHOLD_=262144
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8000 9000
# The command itself gives up after 5 s. Migrations run before the daemon is ready.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 CMD ["bellwether", "healthcheck"]
# SIGTERM, the default, drains, for a minute and more at worst: stop with --time 90.
ENTRYPOINT ["bellwether"]
CMD ["serve"]
