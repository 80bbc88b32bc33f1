"""The kernels on which the checks run: which package of Debian's has each, and which release boots on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel, and the machine that it runs in."""

    name: str
    package: str
    suite: str
    """The release of Debian that has the package."""
    userland: str
    """The release of Debian that is booted: its systemd and its Python."""
    parameters: str = ""
    """More of the kernel's command line."""


_CLOUD: Final = "linux-image-cloud-amd64"
KERNELS: Final = {
    kernel.name: kernel
    for kernel in (
        Kernel("6.1", _CLOUD, "bookworm", "bookworm"),
        Kernel("6.12", _CLOUD, "trixie", "trixie"),
        Kernel(
            "6.1-cgroup-v1",
            _CLOUD,
            "bookworm",
            "bookworm",
            parameters="systemd.unified_cgroup_hierarchy=0",
        ),
    )
}
"""By the names that ``./dev kernels`` takes."""
PYTHONS: Final = {"bookworm": "3.11", "trixie": "3.13"}
"""The release of CPython that each of Debian's releases has."""
