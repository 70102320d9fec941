# syntax=docker/dockerfile:1
# Two stages: the first has npm and the compiler, the second nothing but Node, the packages and the compiled program.
# A release pins both bases by digest (`FROM image:tag@sha256:…`); the tags alone may move.
ARG NODE_VERSION=24.21.0

FROM node:${NODE_VERSION}-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN node_modules/.bin/tsc -p tsconfig.build.json
RUN npm ci --ignore-scripts --omit=dev

FROM gcr.io/distroless/nodejs24-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="gmsa-account-provider" \
      org.opencontainers.image.description="Hands gMSA impersonation credentials to Windows nodes over mutual TLS, from the secret store you already have" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
# One malloc arena and a small young generation keep the resident set flat under many new connections.
ENV NODE_ENV=production MALLOC_ARENA_MAX=1
# Shown by --version and in the metric build_info.
ENV GMSA_PROVIDER_COMMIT=${REVISION}
WORKDIR /app
COPY --from=build /app/package.json ./package.json
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY LICENSE ./LICENSE
USER 65532:65532
EXPOSE 8443 9464
ENTRYPOINT ["/nodejs/bin/node", "--max-semi-space-size=2", "/app/dist/cli/main.js"]
CMD ["run"]
