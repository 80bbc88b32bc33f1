"""Other people's packages for targets: an environment for an interpreter and what to install in it.

Environments are kept in the testbed between runs, one for each interpreter and set of requirements. An
interpreter on the machine gets a virtual environment, by pip; one in the tree gets one whose packages the
machine's pip unpacks into it, so it takes wheels alone (the tree has no compiler).
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from tests.testbed import PROGRAMS, Interpreter

_PLATFORMS = ("manylinux1", "manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")


def environment(interpreter: Interpreter, *requirements: str) -> Path:
    """Return the root of an environment with these requirements (pip's words), made at the first call.

    ``bin/python`` in it runs on the interpreter: behind ``chroot`` where that is in the tree; see
    :func:`python`. Raises :class:`subprocess.CalledProcessError` where something cannot be installed.
    """
    state = repr((interpreter.release, sorted(requirements)))
    directory = (
        PROGRAMS / f"{interpreter.release}-{hashlib.sha256(state.encode()).hexdigest()[:12]}"
    )
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    with (PROGRAMS / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = directory / "complete"
        if not (complete.exists() and complete.read_text() == state):
            shutil.rmtree(directory, ignore_errors=True)
            _make(interpreter, directory, requirements)
            complete.write_text(state)
    return directory


def python(interpreter: Interpreter, directory: Path) -> tuple[str, ...]:
    """Return the command of the environment's Python, to go before a script. Runs as the same process."""
    return (*interpreter.command[:-1], str(directory / "bin/python"))


def _make(interpreter: Interpreter, directory: Path, requirements: tuple[str, ...]) -> None:
    in_tree = interpreter.root != Path("/")
    pip = ["--without-pip"] if in_tree else []
    subprocess.run([*interpreter.command, "-m", "venv", *pip, str(directory)], check=True)
    if not in_tree:
        command = [str(directory / "bin/python"), "-m", "pip", "install", "--quiet", *requirements]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return
    version = f"{interpreter.version[0]}.{interpreter.version[1]}"
    platforms = [f"--platform={name}_{platform.machine()}" for name in _PLATFORMS]
    site = directory / f"lib/python{version}/site-packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
    command = [
        *install,
        f"--python-version={version}",
        *platforms,
        f"--target={site}",
        *requirements,
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
