# The daemon in an image. It watches the host's processes when it is run with --pid=host (docs/containers.md).
# --target debug: for kubectl debug, with the live terminal view.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY . .
# pip stays behind in its own environment: what runs in the end has none.
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /opt/wheels . \
 && python3 -m venv --without-pip /opt/threadwatch \
 && /opt/build/bin/pip --python /opt/threadwatch/bin/python install --no-cache-dir \
      "prometheus-threadwatch[daemon] @ file://$(echo /opt/wheels/*.whl)" \
 && cp /opt/threadwatch/lib/python3*/site-packages/threadwatch/commands/healthcheck.py /opt/threadwatch/ \
 && /opt/threadwatch/bin/python packaging/sbom.py > /opt/threadwatch/sbom.cdx.json

FROM ${BASE} AS daemon
COPY --from=build /opt/threadwatch /opt/threadwatch
ENV PATH=/opt/threadwatch/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    THREADWATCH_LISTEN_ADDRESS=0.0.0.0:9749
# By number, so that Kubernetes can tell that it is not root; a number that no service of the host has.
USER 65532:65532
EXPOSE 9749
# -I -S: no site-packages to read. It asks at the address that the daemon's arguments, or its environment, say.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python3", "-I", "-S", "/opt/threadwatch/healthcheck.py"]
ENTRYPOINT ["threadwatch"]
CMD ["serve"]
# Last, because it differs with each commit. Of the commit, and of where it can be read, only the builder knows.
ARG VERSION=0.1.0
ARG REVISION=""
ARG SOURCE=""
ARG DOCUMENTATION=${SOURCE}
ENV THREADWATCH_REVISION=${REVISION}
LABEL org.opencontainers.image.title="threadwatch" \
      org.opencontainers.image.description="Metrics of Python processes by thread name, for Prometheus" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.documentation="${DOCUMENTATION}"

FROM build AS build-debug
RUN /opt/build/bin/pip --python /opt/threadwatch/bin/python install --no-cache-dir \
      "prometheus-threadwatch[top] @ file://$(echo /opt/wheels/*.whl)" \
 && /opt/threadwatch/bin/python packaging/sbom.py > /opt/threadwatch/sbom.cdx.json

# In a pod's PID namespace, as root with the engine's own capabilities and SYS_PTRACE (kubectl debug --profile=general).
FROM daemon AS debug
COPY --from=build-debug /opt/threadwatch /opt/threadwatch
USER 0:0
HEALTHCHECK NONE
CMD ["top"]

FROM daemon
