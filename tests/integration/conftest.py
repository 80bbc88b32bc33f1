"""Targets that end with their test, packages for them, and the matrix of what ran."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Target
from tests.testbed import CHECKOUT, Interpreter

CACHE = CHECKOUT / ".cache-tests"
"""What the tests install from the package index; git-ignored, and kept between runs."""

_MATRIX: dict[tuple[int, ...], dict[str, int]] = defaultdict(dict)
"""What ran: the number of steps of each scenario, by the interpreter's release."""


class Fleet:
    """The targets of one test."""

    def __init__(self) -> None:
        self.targets: list[Target] = []

    def start(
        self, interpreter: Interpreter, program: str, *arguments: str, **options: Any
    ) -> Target:
        """Start a target; see :class:`tests.harness.Target`."""
        target = Target(interpreter, program, *arguments, **options)
        self.targets.append(target)
        return target


@pytest.fixture
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Starts targets, ends them with the test, and notes what they ran."""
    fleet = Fleet()
    yield fleet
    for target in fleet.targets:
        target.close()
        ran = _MATRIX[tuple(map(int, target.interpreter.release.split(".")))]
        ran[request.node.name] = ran.get(request.node.name, 0) + len(target.steps)


@pytest.fixture(scope="session")
def packages() -> Callable[[Interpreter, str], Path]:
    """Gives a directory for PYTHONPATH with a package from the index, as wheels for an interpreter."""

    def install(interpreter: Interpreter, package: str) -> Path:
        directory = CACHE / f"{package}-{interpreter}"
        done = directory / "complete"
        if not done.exists():
            platforms = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
            machine = f"_{platform.machine()}"
            subprocess.run(
                [
                    *(sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts"),
                    *("--target", str(directory), "--upgrade", "--only-binary=:all:"),
                    *("--implementation", "cp", "--python-version", str(interpreter)),
                    *(word for name in platforms for word in ("--platform", name + machine)),
                    package,
                ],
                check=True,
            )
            done.touch()
        return directory

    return install


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix that ran: how many steps each scenario took on each interpreter."""
    if not _MATRIX:
        return
    terminalreporter.section("scenarios × interpreters: steps compared")
    releases = sorted(_MATRIX)
    rows = [("", [".".join(map(str, release)) for release in releases])]
    rows += [
        (scenario, [str(_MATRIX[release].get(scenario, "-")) for release in releases])
        for scenario in dict.fromkeys(name for ran in _MATRIX.values() for name in ran)
    ]
    rows.append(("all", [str(sum(_MATRIX[release].values())) for release in releases]))
    width = max(len(name) for name, _ in rows)
    for name, cells in rows:
        line = "".join(f"{cell:>9}" for cell in cells)
        terminalreporter.write_line(f"{name.removeprefix('test_'):<{width}}{line}")
