"""Root directories from Debian's packages, kept in the testbed: releases that boot, and kernels.

A directory is called by the release and the processor, and has the packages in its name, so that a change of
these makes another one. It is whole, or not there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.kernels.kernels import Kernel, Processor
from tests.testbed import CHECKOUT, TESTBED

PLACE: Final = TESTBED / "kernels"
_USERLAND: Final = (
    *("apparmor", "curl", "dbus", "dbus-user-session", "libpam-systemd", "procps"),
    *("python3", "python3-venv", "systemd", "systemd-sysv"),
)


def userland(kernel: Kernel) -> Path:
    """Return the root directory of the release that boots on the kernel."""
    return _tree("minbase", kernel.userland, kernel.processor, _USERLAND)


def kernel_tree(kernel: Kernel) -> Path:
    """Return a directory that has the kernel, its modules, and a busybox without libraries."""
    packages = (kernel.package, "busybox-static")
    tree = _tree("extract", kernel.suite, kernel.processor, packages)
    modules = modules_of(tree)
    if not (modules / "modules.dep").exists():
        subprocess.run(["depmod", "-b", modules.parents[2], modules.name], check=True)
    return tree


def modules_of(tree: Path) -> Path:
    """Return the directory of the kernel's modules, which has the kernel's version as its name."""
    (modules,) = (tree / "usr/lib/modules").iterdir()
    return modules


def _tree(variant: str, suite: str, processor: Processor, packages: tuple[str, ...]) -> Path:
    state = hashlib.sha256(repr((variant, sorted(packages))).encode()).hexdigest()[:12]
    tree = PLACE / f"{suite}-{processor.debian}-{state}"
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.exists():
            what = f"{suite}, {processor.debian}: {', '.join(packages)}"
            print(f"… {what}", file=sys.stderr, flush=True)
            partial = tree.with_name(f"{tree.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            subprocess.run(
                [CHECKOUT / "tests/debian-tree", variant, suite, partial, *packages],
                env=os.environ | {"ARCHITECTURE": processor.debian},
                stdout=subprocess.DEVNULL,
                check=True,
            )
            partial.rename(tree)
    return tree
