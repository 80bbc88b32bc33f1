"""The container image, built from the Dockerfile and run for real, without a container engine.

buildah builds it on a base that ``tests/setup-testbed`` has made, and runs it in a network namespace of
its own, so that the port and the health check are the ones that the image says.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import images
from tests.harness import DEADLINE, until
from tests.images import Image
from tests.testbed import descendants
from threadwatch import __version__

REVISION = "0123456789abcdef0123456789abcdef01234567"

_GET = "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1], timeout=10).read().decode())"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Yield the image, built as a builder would who knows the commit and the place of the source."""
    store = tmp_path_factory.mktemp("image")
    images.base(store)
    yield images.build(
        *(store, "daemon", "threadwatch"),
        REVISION=REVISION,
        SOURCE="https://example.org/threadwatch",
    )
    shutil.rmtree(store)  # some hundred megabytes


@pytest.fixture(scope="module")
def container(image: Image) -> str:
    """Return a container of the image."""
    return image.buildah("from", "threadwatch")


def test_image_says_what_it_is(image: Image) -> None:
    """The image runs the daemon as a numbered user, listening on all interfaces."""
    config = image.config()
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["threadwatch"]
    assert config["Cmd"] == ["serve"]
    assert list(config["ExposedPorts"]) == ["9749/tcp"]
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
    }
    assert labels["title"] == "threadwatch"
    assert labels["version"] == __version__
    assert labels["revision"] == REVISION
    assert labels["source"] == labels["documentation"] == "https://example.org/threadwatch"
    assert config["Healthcheck"]["Test"][0] == "CMD"


def test_image_holds_no_build_tools(image: Image, container: str) -> None:
    """pip, the sources and the wheels stay in the build stage, and nothing in it is its user's to change."""
    look = "ls /opt /opt/threadwatch/bin /opt/threadwatch/lib/python3*/site-packages; find /opt -uid 65532"
    listed = image.buildah(
        "run", "--isolation", "chroot", container, "--", "sh", "-c", look
    ).split()
    assert "threadwatch" in listed
    assert "prometheus_client" in listed
    assert not {"pip", "wheels", "build", "src", "hatchling"} & set(listed)


def test_the_bill_of_materials_is_complete(image: Image, container: str) -> None:
    """The SBOM in the image has each package, Python's and Debian's, with its version, and no other."""
    run = ("run", "--isolation", "chroot", container, "--", "sh", "-c")
    found = json.loads(image.buildah(*run, "cat /opt/threadwatch/sbom.cdx.json"))
    python = image.buildah(
        *run, "cd /opt/threadwatch/lib/python3*/site-packages; ls -d *.dist-info"
    )
    debian = image.buildah(*run, "dpkg-query -W -f '${Package} ${Version}\\n'")
    listed = {
        kind: {
            (component["name"].lower().replace("-", "_"), component["version"])
            for component in found["components"]
            if component["purl"].startswith(f"pkg:{kind}/")
        }
        for kind in ("pypi", "deb")
    }
    assert listed["pypi"] == {
        tuple(name.removesuffix(".dist-info").lower().split("-")) for name in python.split()
    }
    assert listed["deb"] == {
        (name.replace("-", "_"), version)
        for name, version in (line.split() for line in debian.splitlines())
    }
    assert len(listed["deb"]) > 50
    assert ("prometheus_threadwatch", __version__) in listed["pypi"]


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        ([], "127.0.0.2:9749"),
        (["serve", "--log.level=debug"], "127.0.0.2:9749"),
        (["serve", "--web.listen-address=127.0.0.1:9750"], "127.0.0.1:9750"),
    ],
    ids=["as it is", "arguments", "another port"],
)
def test_image_serves(
    image: Image, container: str, tmp_path: Path, arguments: list[str], address: str
) -> None:
    """The image serves, on all interfaces unless told otherwise, is healthy, and ends at SIGTERM with 0.

    127.0.0.2 is answered only by a server that listens on all.
    """
    config = image.config()
    inside = image.command("run", "--isolation", "chroot", container, "--")
    log = tmp_path / "log"
    with log.open("wb") as output:
        serve = subprocess.Popen(
            [
                *("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "-"),
                *(*inside, *config["Entrypoint"], *(arguments or config["Cmd"])),
            ],
            stdout=output,
            stderr=output,
        )

    def in_network(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--net=/proc/{serve.pid}/ns/net", *command],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def get(path: str) -> str | None:
        assert serve.poll() is None, log.read_text()
        done = in_network("python3", "-c", _GET, f"http://{address}{path}")
        return done.stdout if done.returncode == 0 else None

    try:
        until(lambda: get("/-/ready"), "answer at /-/ready")
        metrics = get("/metrics")
        assert metrics is not None
        build = next(line for line in metrics.splitlines() if "threadwatch_build_info{" in line)
        assert f'revision="{REVISION}"' in build
        healthy = in_network(*inside, *config["Healthcheck"]["Test"][1:])
        assert (healthy.returncode, healthy.stderr) == (0, "")
        daemon = _daemon(serve.pid)
        assert daemon is not None
        os.kill(daemon, signal.SIGTERM)
        assert serve.wait(DEADLINE) == 0, log.read_text()
        check = [*inside, *config["Healthcheck"]["Test"][1:]]
        ended = subprocess.run(check, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert "no threadwatch serve runs" in ended.stderr
        assert ended.returncode != 0
    finally:
        if serve.poll() is None:
            os.kill(_daemon(serve.pid) or serve.pid, signal.SIGKILL)
            serve.kill()
            serve.wait()


def _daemon(ancestor: int) -> int | None:
    """Return the daemon's PID: of the processes below ``ancestor`` that run as the image's user, the last.

    The ones before it are buildah's own, which starts the command only after it has changed the user.
    """
    found = None
    for pid in descendants(ancestor):
        with contextlib.suppress(OSError):
            if "\nUid:\t65532\t65532\t" in Path(f"/proc/{pid}/status").read_text():
                found = pid
    return found
