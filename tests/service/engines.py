"""The manifests, the compose file and the images, run by real engines: ``./dev test-engines``.

A dockerd without bridge and packet filter, and podman, both with data of their own; ``tests/setup-engines``
installs them. No part of a normal run, because it takes minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import images, kubernetes, programs
from tests.harness import until
from tests.testbed import CHECKOUT, require

DAEMON, DEBUG = "localhost/threadwatch:here", "localhost/threadwatch-debug:here"
APPLICATION = (
    "exec threadwatch run -- python3"
    " /opt/threadwatch/lib/python3*/site-packages/threadwatch/commands/demo_app.py"
)
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()) and "not CycloneDX 1.6")
"""
ASK = "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1], timeout=60).read().decode())"


class Engine:
    """A container engine's command line."""

    def __init__(self, *command: str, **environment: str) -> None:
        self._command = command
        self._environment = {**os.environ, **environment}

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Run it; what it prints."""
        done = subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def metrics(self, container: str, path: str = ":9749/metrics") -> str:
        """Return what a port of the container's network answers; empty if it does not yet."""
        return self("exec", container, "python3", "-c", ASK, f"http://127.0.0.1{path}", check=False)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both images and their base, as files."""
    store, files = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("archives")
    images.base(store)
    for target, name in (("daemon", DAEMON), ("debug", DEBUG)):
        images.build(store, target, name)
    return [
        images.Image(store).archive(name, files / f"{number}.tar")
        for number, name in enumerate((images.BASE, DAEMON, DEBUG))
    ]


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory, archives: list[Path]) -> Iterator[Engine]:
    """Yield a Docker engine that has the images."""
    place = tmp_path_factory.mktemp("docker")
    socket = f"unix://{place}/socket"
    with (place / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [
                *("/usr/sbin/dockerd", f"--host={socket}", f"--data-root={place}/data"),
                *(f"--exec-root={place}/exec", f"--pidfile={place}/pid", "--bridge=none"),
                *("--iptables=false", "--ip6tables=false", "--storage-driver=overlay2"),
            ],
            stdout=log,
            stderr=log,
        )
    engine = Engine("/usr/bin/docker", f"--host={socket}")
    try:
        until(lambda: "Server Version" in engine("info", check=False), "dockerd answers")
        for archive in archives:
            engine("load", "--quiet", "--input", str(archive))
        yield engine
        for container in engine("ps", "--all", "--quiet").split():
            engine("rm", "--force", container)
    finally:
        daemon.terminate()
        daemon.wait(60)


@pytest.fixture
def demo(docker: Engine) -> Iterator[str]:
    """Run the demo's application in a container; yield its group's name."""
    identity = docker("run", "-d", "--network=none", "--entrypoint=sh", DAEMON, "-c", APPLICATION)
    yield f"demo_app@{identity[:12]}"
    docker("rm", "--force", identity.strip())


def test_every_version_of_kubernetes() -> None:
    """All objects fit the schemas of each version from 1.28 to 1.37."""
    objects = [
        *kubernetes.kustomize("complete"),
        *kubernetes.kustomize("example"),
        *kubernetes.template("--set=prometheus.podMonitor.enabled=true"),
    ]
    assert kubernetes.faults([objects], *kubernetes.VERSIONS) == [[]]


def test_the_bill_of_materials_is_valid(docker: Engine) -> None:
    """CycloneDX's own library accepts the list that each image has, strictly; the debug image's has more."""
    lists = [
        docker(
            "run",
            "--rm",
            "--network=none",
            "--entrypoint=cat",
            image,
            "/opt/threadwatch/sbom.cdx.json",
        )
        for image in (DAEMON, DEBUG)
    ]
    interpreter = require(3, 11)
    library = programs.environment(interpreter, "cyclonedx-python-lib[json-validation]==11.12.0")
    for text in lists:
        said = subprocess.run(
            [*programs.python(interpreter, library), "-c", VALIDATE],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (said.returncode, said.stderr) == (0, ""), said.stderr
    daemon, debug = ({each["name"] for each in json.loads(text)["components"]} for text in lists)
    assert "textual" in debug - daemon


def test_the_daemon_set(docker: Engine, demo: str, tmp_path: Path) -> None:
    """The DaemonSet's container, with its rights, names threads, and takes a new ConfigMap."""
    (daemon_set,) = (each for each in kubernetes.kustomize("base") if each["kind"] == "DaemonSet")
    pod = daemon_set["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    rights = container["securityContext"]
    assert pod["hostPID"]
    assert rights["readOnlyRootFilesystem"]

    config = (CHECKOUT / "config/kubernetes/base/threadwatch.yml").read_text()
    kubernetes.put_config(tmp_path, config)
    identity = docker(
        *("run", "-d", "--pid=host", "--network=none", "--read-only"),
        f"--user={rights['runAsUser']}:{rights['runAsGroup']}",
        "--security-opt=no-new-privileges",
        *(f"--cap-drop={name}" for name in rights["capabilities"]["drop"]),
        *(f"--cap-add={name}" for name in rights["capabilities"]["add"]),
        *(f"--env={each['name']}={each['value']}" for each in container["env"]),
        f"--volume={tmp_path}:{container['volumeMounts'][0]['mountPath']}:ro",
        DAEMON,
        *container["args"],
    ).strip()
    series = (
        f'threadwatch_thread_cpu_seconds_total{{group="{demo}",mode="user",thread="price-engine"}}'
    )
    until(lambda: series in docker.metrics(identity), "the application's threads have names")
    assert "healthy" in docker.metrics(identity, ":9749/-/healthy")
    kubernetes.put_config(tmp_path, "groups: [{name: shop, match: {cmdline: demo_app}}]\n")
    until(
        lambda: series.replace(demo, "shop") in docker.metrics(identity),
        "the new ConfigMap is in force",
    )
    docker("rm", "--force", identity)


def test_the_debug_image(docker: Engine, demo: str) -> None:
    """As kubectl debug --profile=general runs it, it shows a container's threads, and has a live view."""
    (identity,) = docker("ps", "--quiet", "--filter", f"id={demo.partition('@')[2]}").split()
    run = ("run", "--rm", "--network=none", f"--pid=container:{identity}", "--cap-add=SYS_PTRACE")
    # it fails as long as the application has not begun
    until(lambda: "price-engine" in docker(*run, DEBUG, "ps", check=False), "ps names threads")
    assert "price-engine" in docker(*run, DEBUG, "top", "--once")
    docker(*run, "--entrypoint=python3", DEBUG, "-c", "import textual")


def test_compose(docker: Engine, tmp_path: Path) -> None:
    """The compose file's application is in the metrics that its Prometheus scrapes, with the alerts loaded.

    Grafana is left out, and Prometheus is Debian's. Without a bridge all share a network that leads
    nowhere.
    """
    compose: dict[str, Any] = yaml.safe_load((CHECKOUT / "config/compose/compose.yaml").read_text())
    services, volumes = compose["services"], compose["volumes"]
    del services["grafana"], volumes["grafana"], compose["name"]
    for name in ("shop", "threadwatch"):
        services[name] = {**services[name], "image": DAEMON}
        del services[name]["build"]
    prometheus = services["prometheus"]
    del prometheus["ports"]
    prometheus |= {
        "image": images.BASE,
        "network_mode": "none",
        "entrypoint": [
            "/usr/bin/prometheus",
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
        ],
        "volumes": [
            f"{CHECKOUT}/config/prometheus:/etc/prometheus:ro",
            "prometheus:/prometheus",
            "/usr/bin/prometheus:/usr/bin/prometheus:ro",
        ],
    }
    file = tmp_path / "compose.yaml"
    # docker-compose 1.29 wants a version of the old format, and knows mem_limit only in 2.
    file.write_text(json.dumps({"version": "2.4", **compose}))
    socket = docker("context", "inspect", "--format={{.Endpoints.docker.Host}}").strip()
    command = Engine("docker-compose", "-p", "engines", "-f", str(file), DOCKER_HOST=socket)
    command("up", "--detach")
    try:
        daemon = "engines_threadwatch_1"
        query = (
            ':9090/api/v1/query?query=threadwatch_thread_cpu_seconds_total{thread="price-engine"}'
        )
        until(lambda: "demo_app@" in docker.metrics(daemon, query), "Prometheus has the thread")
        rules = json.loads(docker.metrics(daemon, ":9090/api/v1/rules"))["data"]["groups"]
        assert "threadwatch" in {group["name"] for group in rules}
        health = ("inspect", "--format={{.State.Health.Status}}", daemon)
        until(lambda: docker(*health).strip() == "healthy", "the health check")
    finally:
        command("down", "--volumes", "--timeout=2")


def test_the_example_pod(archives: list[Path], tmp_path: Path) -> None:
    """podman plays the example: an application that publishes by a copy, and a sidecar without capability.

    podman 4.3 wants a bridge for ports, and removes an init container before it has seen its end: so the
    ports are left out, and what it has not started is started by hand.
    """
    (tmp_path / "containers.conf").write_text(
        '[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=1024:1024"]\n'
    )
    # podman takes no longer path than 50 characters
    with tempfile.TemporaryDirectory(prefix="engines") as place:
        where = (f"--root={place}/root", f"--runroot={place}/run", "--storage-driver=vfs")
        podman = Engine(
            *("podman", *where, "--runtime=runc", "--cgroup-manager=cgroupfs"),
            CONTAINERS_CONF=str(tmp_path / "containers.conf"),
        )
        for archive in archives[:2]:
            podman("load", "--quiet", "--input", str(archive))
        _play_the_example(podman, tmp_path)


def _play_the_example(podman: Engine, tmp_path: Path) -> None:
    (deployment,) = kubernetes.kustomize("example")
    pod = deployment["spec"]["template"]["spec"]
    for container in pod["initContainers"] + pod["containers"]:
        container.pop("ports", None)
        container.pop("livenessProbe", None)
        ours = container["image"].startswith("threadwatch")
        container["image"] = DAEMON if ours else images.BASE
    (application,) = (each for each in pod["containers"] if each["name"] == "app")
    application["command"][0] = "/usr/bin/python3"  # the base has no PATH
    manifest = tmp_path / "example.yaml"
    manifest.write_text(json.dumps(deployment))
    sidecar = "shop-pod-0-threadwatch"
    try:
        podman("kube", "play", "--network=none", str(manifest), check=False)
        podman("start", "shop-pod-0-app", sidecar)
        thread = 'thread="price-engine"'
        until(lambda: thread in podman.metrics(sidecar), "the application's threads have names")
        gil = "threadwatch_gil_held_seconds_total{"
        until(lambda: gil in podman.metrics(sidecar), "the GIL is known, by a sample")
        assert "CapBnd:\t0000000000000000" in podman("exec", sidecar, "cat", "/proc/self/status")
    finally:
        podman("pod", "rm", "--force", "--all", check=False)
