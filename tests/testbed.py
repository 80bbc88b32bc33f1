"""Where the real things that the tests run against are: Python interpreters and the testbed tree.

``tests/setup-testbed`` builds the tree: a root directory of Debian with the newest CPythons,
Prometheus and systemd. Programs in it run by chroot. So that they see the checkout, the tests'
temporary files and ``/proc`` under the paths that the tests use, :func:`enter` bind-mounts those
into the tree, in a mount namespace of its own: the mounts are the test process's and its children's
alone, and end with them. Left in the machine's own namespace, a later ``rm -r`` of the tree would
remove the checkout through them.

``python -m tests.testbed`` prints what is there; ``python -m tests.testbed -- CMD…`` runs a command
inside the namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
TESTBED = Path(os.environ.get("THREADWATCH_TESTBED", "/var/cache/threadwatch-testbed"))
TREE = TESTBED / "forky"
IMAGE_BASE = TESTBED / "image-base.tar"
"""The root directory, as a tar file, that the tests build the container image on."""
PROGRAMS = TESTBED / "programs"
"""Environments with other people's packages (:mod:`tests.programs`), seen in the tree as well."""
MATRIX: tuple[tuple[int, int], ...] = tuple((3, minor) for minor in range(9, 16))
"""The versions of CPython that the publisher supports: each is tested, one interpreter per version."""

# <linux/mount.h>, <linux/sched.h>
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_CLONE_NEWNS = 0x20000

_PROBE = (
    "import sys, sysconfig; print(sys.implementation.name, sysconfig.get_config_var('Py_GIL_DISABLED') or 0, "
    "'%d.%d.%d' % sys.version_info[:3], sys.executable)"
)


class TestbedError(Exception):
    """Something that the tests need is not on this machine; says what, and how to get it."""

    __test__ = False  # not a test class, whatever its name begins with


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One CPython that targets can run on."""

    version: tuple[int, int]
    release: str
    """The version in full: ``3.12.1``."""
    command: tuple[str, ...]
    """What to put before a script's path and arguments; runs as the same process (exec)."""
    root: Path
    """The root directory that it runs in."""

    def __str__(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"


def enter() -> None:
    """Move this process into a mount namespace where the tree sees the checkout, temporary files and /proc.

    Does nothing where there is no tree, or where it has been done (by this process or a parent).
    Must run before the process starts threads: a namespace is the calling thread's.
    Raises :class:`TestbedError` without the right to mount (CAP_SYS_ADMIN).
    """
    if not TREE.is_dir() or (TREE / "proc/self").exists():
        return
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result:
            raise TestbedError(
                f"{what}: {os.strerror(ctypes.get_errno())}: the tests that run programs in {TREE} need root"
            )

    check(libc.unshare(_CLONE_NEWNS), "unshare the mount namespace")
    check(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
    paths = {Path(p).resolve() for p in ("/proc", "/sys", "/dev", "/tmp", tempfile.gettempdir())}  # noqa: S108  # the very directory is meant: it is mounted into the tree
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    for path in (*sorted(paths), CHECKOUT, PROGRAMS):
        if any(path.is_relative_to(other) for other in paths - {path}):
            continue  # comes with the other one
        inside = TREE / path.relative_to("/")
        inside.mkdir(parents=True, exist_ok=True)
        check(
            libc.mount(os.fsencode(path), os.fsencode(inside), None, _MS_BIND | _MS_REC, None),
            f"mount {path} into the tree",
        )


@functools.cache
def interpreters() -> tuple[Interpreter, ...]:
    """Return a CPython with the GIL for each version of :data:`MATRIX` that is here, oldest first."""
    found = (_find(version) for version in MATRIX)
    return tuple(interpreter for interpreter in found if interpreter is not None)


def require(major: int, minor: int) -> Interpreter:
    """Return the interpreter of that version; :class:`TestbedError` where there is none."""
    for interpreter in interpreters():
        if interpreter.version == (major, minor):
            return interpreter
    raise TestbedError(f"no CPython {major}.{minor} on this machine: {how_to_get((major, minor))}")


def debug_build() -> Interpreter:
    """Return Debian's debug build of its own CPython; :class:`TestbedError` where there is none."""
    path = shutil.which("python3-dbg")
    for version in MATRIX if path else ():
        if path and (found := _probe(version, (path,), Path("/"))):
            return found
    raise TestbedError("no debug build of CPython on this machine: run tests/setup-testbed as root")


def how_to_get(version: tuple[int, int]) -> str:
    """Return what to do where that version is missing."""
    if version >= (3, 13):
        return "run tests/setup-testbed as root"
    return f"install it with pyenv, or as python{version[0]}.{version[1]} on the PATH"


def matrix() -> str:
    """Return one line that says which interpreters there are, and which are missing."""
    there = {i.version: i.release for i in interpreters()}
    return "CPython " + ", ".join(there.get(v, f"{v[0]}.{v[1]} (missing)") for v in MATRIX)


def _find(version: tuple[int, int]) -> Interpreter | None:
    name = f"python{version[0]}.{version[1]}"
    for candidate in _pyenv(name):
        if found := _probe(version, (str(candidate),), Path("/")):
            return found
    if (on_path := shutil.which(name)) and (found := _probe(version, (on_path,), Path("/"))):
        return found
    if (TREE / "usr/bin" / name).exists():
        return _probe(version, ("chroot", str(TREE), f"/usr/bin/{name}"), TREE)
    return None


def _pyenv(name: str) -> list[Path]:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    with contextlib.suppress(OSError):
        return sorted(root.glob(f"versions/*/bin/{name}"), reverse=True)
    return []


def _probe(version: tuple[int, int], command: tuple[str, ...], root: Path) -> Interpreter | None:
    """Ask an interpreter what it is; None unless it is a CPython of that version with a GIL."""
    try:
        done = subprocess.run(
            [*command, "-I", "-S", "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        implementation, free_threaded, release, executable = done.stdout.split(maxsplit=3)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None  # a pyenv shim of a version that is not active, or half removed
    if (
        implementation != "cpython"
        or free_threaded != "0"
        or not release.startswith(f"{version[0]}.{version[1]}.")
    ):
        return None
    # its own path for itself: a shim would start a shell first
    own = (*command[:-1], executable.strip())
    return Interpreter(version, release, own, root)


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes below ``pid``, parents first. Any of a process's threads may have the children."""
    pending = [pid]
    while pending:
        parent = pending.pop()
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                found = [int(word) for word in children.read_text().split()]
                yield from found
                pending += found


def main(arguments: list[str]) -> int:
    """Print the matrix, or run the command after ``--`` inside the namespace."""
    enter()
    if arguments[:1] == ["--"] and arguments[1:]:
        os.execvp(arguments[1], arguments[1:])  # noqa: S606  # running the caller's command is the purpose
    print(matrix())
    for interpreter in interpreters():
        print(f"{interpreter!s:>5}  {interpreter.release:<8} {' '.join(interpreter.command)}")
    return 0 if len(interpreters()) == len(MATRIX) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except TestbedError as error:
        sys.exit(str(error))
