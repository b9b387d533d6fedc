# Both services, one target each. The build context is the repository's root.
#   docker build --target producer -t order-producer .
#   docker build --target consumer -t order-consumer .
# scripts/check-images.ts checks what the comments promise. Works with BuildKit and with the older builder.
ARG NODE_IMAGE=node:24.21.0-bookworm-slim

# This stage only produces files that are identical on every processor, so one build serves all platforms without
# emulation. The older builder does not report what it builds on.
FROM --platform=${BUILDPLATFORM:-linux/amd64} ${NODE_IMAGE} AS files
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /lock
COPY package.json package-lock.json ./
COPY shared/package.json shared/
COPY producer/package.json producer/
COPY consumer/package.json consumer/
# npm leaves out a missing workspace. The development tools are removed first: `npm ci --omit=dev` does not install
# them, but would still insist on lock entries for their builds for every platform. Node never loads the types, source
# maps and manuals of the installed packages: it refuses TypeScript under node_modules.
RUN npm pkg delete devDependencies; \
    for service in producer consumer; do \
      app="/dependencies/$service/app"; \
      mkdir -p "$app"; \
      cp -R package.json package-lock.json shared "$service" "$app"; \
      npm ci --prefix "$app" --omit=dev --ignore-scripts --no-audit --no-fund; \
      rm "$app/package.json" "$app/package-lock.json"; \
      find "$app" -path '*/node_modules/*' -type f \
        \( -name '*.ts' -o -name '*.cts' -o -name '*.mts' -o -name '*.map' -o -name '*.md' \) -delete; \
    done
COPY shared/src /sources/producer/app/shared/src
COPY shared/src /sources/consumer/app/shared/src
COPY producer/src /sources/producer/app/producer/src
COPY consumer/src /sources/consumer/app/consumer/src
# Node would strip the types at each start, with a WebAssembly module that then stays loaded: 20 MB and half of the
# startup time.
COPY scripts/images/strip-types.mjs /
RUN node --disable-warning=ExperimentalWarning /strip-types.mjs /dependencies /sources
# The same input gives the same layers: they contain neither the umask of a checkout nor the time of a build. Readable
# for everyone, writable for nobody.
RUN chmod -R a=rX /dependencies /sources; \
    find /dependencies /sources -exec touch --no-dereference --date=@0 {} +

FROM ${NODE_IMAGE} AS service
# The official image's entry point is a shell script. Nothing here needs a shell.
ENTRYPOINT []
ARG NODE_IMAGE
ARG SOURCE
ARG REVISION
ARG VERSION=dev
ARG CREATED
# One malloc arena instead of one per thread: saves about 10 MB and costs nothing, because one thread does the work.
# SIGUSR1 would open the debugger, which reads all memory.
ENV RELEASE_VERSION=${VERSION} \
    MALLOC_ARENA_MAX=1 \
    NODE_ENV=production \
    NODE_OPTIONS=--disable-sigusr1 \
    APP_ENV=production \
    HOST=0.0.0.0
LABEL org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/${NODE_IMAGE}"

# Dependencies and sources are separate layers: most releases change only the small one. The repository's folders are
# kept. Everything belongs to root. The health check is liveness, not readiness: some platforms replace an unhealthy
# container, and a new one would not repair SQS.
FROM service AS producer
COPY --from=files /dependencies/producer /
COPY --from=files /sources/producer /
WORKDIR /app
USER 1000:1000
EXPOSE 8080
LABEL org.opencontainers.image.title="order-producer" \
      org.opencontainers.image.description="Accepts orders over HTTP and publishes them to an SQS queue"
HEALTHCHECK --interval=10s --timeout=5s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PRODUCER_PORT || 8080}/livez`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "--max-semi-space-size=4", "--heap-growing-percent=20", "--max-old-space-size=256", "producer/src/main.js"]

FROM service AS consumer
COPY --from=files /dependencies/consumer /
COPY --from=files /sources/consumer /
WORKDIR /app
USER 1000:1000
EXPOSE 8081
LABEL org.opencontainers.image.title="order-consumer" \
      org.opencontainers.image.description="Receives orders from an SQS queue and stores each exactly once"
HEALTHCHECK --interval=10s --timeout=5s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.CONSUMER_PORT || 8081}/livez`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "--max-semi-space-size=4", "--heap-growing-percent=20", "--max-old-space-size=256", "consumer/src/main.js"]
