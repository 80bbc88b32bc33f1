# The daemon in an image. It watches the host's processes when it is run with --pid=host (README.md).
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY . .
# pip stays behind in its own environment: what runs in the end has none.
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /opt/wheels . \
 && python3 -m venv --without-pip /opt/threadwatch \
 && /opt/build/bin/pip --python /opt/threadwatch/bin/python install --no-cache-dir \
      "prometheus-threadwatch[daemon] @ file://$(echo /opt/wheels/*.whl)"

FROM ${BASE}
LABEL org.opencontainers.image.title="threadwatch" \
      org.opencontainers.image.description="Metrics of Python processes by thread name, for Prometheus" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/threadwatch /opt/threadwatch
ENV PATH=/opt/threadwatch/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# By number, so that Kubernetes can tell that it is not root; a number that no service of the host has.
USER 65532:65532
EXPOSE 9749
# -I -S: no site-packages to read, so it is over in a hundredth of a second. Any answer shows that the daemon
# serves: with a password it is 401, with TLS it is 400, in HTTP. Change it if you serve on another port.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python3", "-I", "-S", "-c", "import socket as s; c = s.create_connection(('127.0.0.1', 9749), 3); c.sendall(b'GET /-/healthy HTTP/1.0\\r\\n\\r\\n'); assert c.recv(64)[9:12] in (b'200', b'400', b'401')"]
ENTRYPOINT ["threadwatch"]
CMD ["serve", "--web.listen-address=0.0.0.0:9749"]
