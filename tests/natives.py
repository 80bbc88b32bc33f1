"""C code of the tests, compiled where they run."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.harness import DEADLINE, TARGETS


def visitors(directory: Path) -> Path:
    """Compile ``tests/targets/visitor.c`` into ``directory``; gives the library."""
    return library_of("visitor", directory)


def library_of(name: str, directory: Path) -> Path:
    """Compile a file of C of ``tests/targets`` into ``directory``; gives the library."""
    library = directory / f"lib{name}.so"
    options = ("-shared", "-fPIC", "-O1", "-pthread", "-Wall", "-Werror")
    source = str(TARGETS / f"{name}.c")
    subprocess.run(["gcc", *options, "-o", str(library), source], check=True, timeout=DEADLINE)
    return library


def waiters(directory: Path, compiler: str) -> Path:
    """Compile ``tests/targets/musl_waiters.c`` into ``directory``; gives the program."""
    program = directory / f"waiters-{compiler}"
    options = ("-O1", "-pthread", "-Wall", "-Werror")
    source = str(TARGETS / "musl_waiters.c")
    subprocess.run([compiler, *options, "-o", str(program), source], check=True, timeout=DEADLINE)
    return program
