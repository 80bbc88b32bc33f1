"""Makes what QEMU boots: an initramfs that mounts a disk, and that disk: Debian, the checkout, the checks."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.kernels.kernels import PYTHONS, Kernel
from tests.kernels.trees import PLACE, kernel_tree, modules_of, userland
from tests.service.systemd.steps import steps
from tests.testbed import CHECKOUT

SOURCE: Final = "srv/threadwatch"
"""Where the disk has the checkout."""
WHEELS: Final = "srv/wheels"
"""Where the disk has what the package and its build need, for there is no network in QEMU."""
_SIZE: Final = "2G"
_MODULES: Final = ("virtio_pci", "virtio_blk", "ext4", "virtio_console")
"""What it takes to find the disk, and the port to which the checks write; the disk has no modules."""
_INIT: Final = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
for module in $($b cat /modules/order); do $b insmod /modules/$module; done
while ! [ -b /dev/vda ]; do $b usleep 50000; done
$b mount -t ext4 /dev/vda /new
$b mount --move /dev /new/dev
exec $b switch_root /new /sbin/init
"""
_UNIT: Final = f"""[Unit]
Description=What holds on this kernel
[Service]
Type=exec
WorkingDirectory=/{SOURCE}
Environment=THREADWATCH_TEST_DEADLINE=900 PIP_NO_INDEX=1 PIP_FIND_LINKS=/{WHEELS} PIP_ROOT_USER_ACTION=ignore
ExecStart=/usr/bin/python3 -u -m tests.kernels.guest "{{words}}"
StandardOutput=journal+console
"""
_PATIENCE: Final = "[Manager]\nDefaultTimeoutStartSec=30min\nDefaultTimeoutStopSec=30min\n"
"""No check depends on time, and an emulated CPU beside other work is slow."""
_MASKED: Final = (
    "apparmor.service",
    "e2scrub_reap.service",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
)
"""Units of Debian's that take a minute on an emulated CPU, and that no check needs."""
_NO_INDEX: Final = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"/{WHEELS}"}
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def initramfs(kernel: Kernel, file: Path) -> None:
    """Write the initramfs: busybox, and the modules in the order in which they are loaded."""
    tree = kernel_tree(kernel)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for directory in ("bin", "modules", "dev", "new"):
            (root / directory).mkdir()
        shutil.copy(tree / "usr/bin/busybox", root / "bin/busybox")
        (root / "init").write_text(_INIT)
        (root / "init").chmod(0o755)
        order = []
        for module in _modules(tree):
            data = module.read_bytes()
            order.append(module.name.removesuffix(".xz"))
            (root / "modules" / order[-1]).write_bytes(
                lzma.decompress(data) if module.suffix == ".xz" else data
            )
        (root / "modules/order").write_text("\n".join(order))
        files = "\0".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        with file.open("wb") as archive:
            subprocess.run(
                ["cpio", "--quiet", "--create", "--null", "--format=newc"],
                cwd=root,
                input=files.encode(),
                stdout=archive,
                check=True,
            )


def _modules(tree: Path) -> list[Path]:
    """Return the files of :data:`_MODULES` and those that they need first; what is built in has none."""
    directory = modules_of(tree)
    needs = {}
    for line in (directory / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[Path(path).name.partition(".")[0]] = [*reversed(others.split()), path]
    return [
        directory / path for path in dict.fromkeys(p for m in _MODULES for p in needs.get(m, ()))
    ]


def disk(kernel: Kernel, file: Path, words: str) -> None:
    """Write the disk, for the checks that the words choose.

    What docs/systemd.md has pip do is done here, in the same tree, where it is fast.
    """
    with _writable(userland(kernel)) as root:
        _copy_checkout(root / SOURCE)
        shutil.copytree(_wheels(kernel), root / WHEELS)
        (root / "etc/hostname").write_text("kernels\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost kernels\n")
        (root / "etc/machine-id").write_text(hashlib.md5(b"kernels").hexdigest())  # noqa: S324 - any 128 bits
        manager = root / "etc/systemd/system.conf.d/patience.conf"
        manager.parent.mkdir(exist_ok=True)
        manager.write_text(_PATIENCE)
        for name in _MASKED:
            (root / "etc/systemd/system" / name).symlink_to("/dev/null")
        unit = root / "etc/systemd/system/kernels.service"
        unit.write_text(_UNIT.format(words=words))
        wants = root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / unit.name).symlink_to(unit.relative_to(root))
        subprocess.run(["useradd", "--prefix", root, "--create-home", "shop"], check=True)
        for command in _pip_steps():
            subprocess.run(
                ["chroot", root, "sh", "-c", f"cd /{SOURCE} && {command}"],
                env={"PATH": _PATH, "HOME": "/root", **_NO_INDEX},
                stdout=subprocess.DEVNULL,
                check=True,
            )
        subprocess.run(
            ["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", root, file, _SIZE],
            stdout=subprocess.DEVNULL,
            check=True,
        )


def _pip_steps() -> list[str]:
    return [step for step in steps()["Install it, in a minute"] if "pip" in step or "venv" in step]


@contextlib.contextmanager
def _writable(tree: Path) -> Iterator[Path]:
    """Yield the tree, with what is written to it elsewhere. Needs a mount namespace of its own."""
    with tempfile.TemporaryDirectory() as name:
        upper, work, root = (Path(name) / part for part in ("upper", "work", "root"))
        for directory in (upper, work, root):
            directory.mkdir()
        options = f"lowerdir={tree},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, root], check=True)
        try:
            yield root
        finally:
            # lazy: a command may still run in it where SIGTERM has ended us
            subprocess.run(["umount", "--lazy", root], check=True)


def _copy_checkout(where: Path) -> None:
    """Copy the files that are in version control, or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    ).stdout
    for name in map(os.fsdecode, filter(None, listed.split(b"\0"))):
        if (CHECKOUT / name).exists():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, where / name, follow_symlinks=False)


def _wheels(kernel: Kernel) -> Path:
    """Return a directory with the wheels that the daemon and its build need, by pip's index."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    needs = [
        *project["build-system"]["requires"],
        *project["project"]["optional-dependencies"]["daemon"],
    ]
    version, processor = PYTHONS[kernel.userland], kernel.processor.wheels
    state = hashlib.sha256(repr((needs, version)).encode()).hexdigest()[:12]
    directory = PLACE / f"wheels-{version}-{processor}-{state}"
    if not directory.exists():
        partial = directory.with_name(f"{directory.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        platforms = (f"--platform=manylinux_2_{minor}_{processor}" for minor in (17, 28, 34))
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"),
                *(f"--python-version={version}", *platforms, "--dest", str(partial), *needs),
            ],
            check=True,
        )
        partial.rename(directory)
    return directory
