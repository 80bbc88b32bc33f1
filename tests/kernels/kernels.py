"""The kernels on which the checks run: which package of Debian's has each, and which release boots on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor that QEMU emulates, and what it takes to boot on it."""

    debian: str
    """Debian's name of it."""
    wheels: str
    """The name of it in tags of wheels."""
    qemu: tuple[str, ...]
    """The emulator, and the machine."""
    console: str
    """The kernel's name of the serial port."""


AMD64: Final = Processor(
    "amd64",
    "x86_64",
    ("qemu-system-x86_64", "-machine", "q35", "-cpu", "Nehalem"),
    "ttyS0",
)
ARM64: Final = Processor(
    "arm64",
    "aarch64",
    ("qemu-system-aarch64", "-machine", "virt", "-cpu", "neoverse-n1"),
    "ttyAMA0",
)


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
    processor: Processor = AMD64


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
        Kernel("5.10", _CLOUD, "bullseye", "bookworm"),
        Kernel("6.1-arm64", "linux-image-cloud-arm64", "bookworm", "bookworm", processor=ARM64),
    )
}
"""By the names that ``./dev kernels`` takes."""
PYTHONS: Final = {"bookworm": "3.11", "trixie": "3.13"}
"""The release of CPython that each of Debian's releases has."""
