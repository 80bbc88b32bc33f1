"""The container image, built from the Dockerfile by buildah, without a container engine."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed import CHECKOUT, IMAGE_BASE

BASE = "localhost/python:base"


@dataclass(frozen=True)
class Image:
    """The image in a store of its own."""

    store: Path
    name: str = "threadwatch"

    def buildah(self, *arguments: str) -> str:
        """Run buildah on the store; its standard output."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def command(self, *arguments: str) -> list[str]:
        """buildah's command line for the store. vfs and chroot work inside of containers too."""
        where = ("--root", str(self.store / "root"), "--runroot", str(self.store / "run"))
        return ["buildah", *where, "--storage-driver", "vfs", *arguments]

    def config(self) -> dict[str, Any]:
        """Return the image's configuration, as an engine would read it."""
        config: dict[str, Any] = json.loads(self.buildah("inspect", "--type", "image", self.name))
        return dict(config["Docker"]["config"])

    def archive(self, name: str, path: Path) -> Path:
        """Write an image of the store into a file that engines load."""
        self.buildah("push", name, f"docker-archive:{path}:{name}")
        return path


def base(store: Path) -> None:
    """Put the base into a store."""
    image = Image(store)
    container = image.buildah("from", "scratch")
    image.buildah("add", container, str(IMAGE_BASE), "/")
    image.buildah("commit", "--rm", container, BASE)


def build(store: Path, target: str, name: str, **arguments: str) -> Image:
    """Build a target of the Dockerfile on the base, with this machine's certificates and settings of pip.

    ``arguments`` are the build's. The last stage is ``daemon`` again, but this buildah would build all
    before it.
    """
    image = Image(store, name)
    settings = {
        name: value
        for name, value in os.environ.items()
        if name in {"PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"}
    }
    image.buildah(
        *("bud", "--isolation", "chroot", "--format", "docker", "--tag", name, "--target", target),
        *(
            word
            for key, value in {"BASE": BASE, **arguments}.items()
            for word in ("--build-arg", f"{key}={value}")
        ),
        *("--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"),
        *(word for key, value in settings.items() for word in ("--env", f"{key}={value}")),
        str(CHECKOUT),
    )
    return image
