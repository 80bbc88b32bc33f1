"""A program that has a hard time behaves, to the byte, as without a publisher: condition × interpreter."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import harness, testbed
from tests.harness import TARGETS
from threadwatch.commands import run as launch

CLOSED = 'exec "$@" 0<&- 1>&- 2>&-'
HIDE_PROC = 'mount -t tmpfs none "$1"/proc && shift && exec "$@"'
FORKS = ("-W", "ignore:This process:DeprecationWarning")
"""That a process with threads is forked is said with its PID."""
MODES = ("plain", "publish", "run")


@dataclass(frozen=True, slots=True)
class Hardship:
    """What a program goes through. ``published``: whether there is a table at its end, if that is sure."""

    name: str
    body: Sequence[str]
    published: bool | None = True
    prefix: Sequence[str] = ()
    """Before the interpreter's command; ROOT is the root directory that this runs in."""
    options: Sequence[str] = ()
    deny: Sequence[str] = ()
    """A system call that fails, and how."""


HARDSHIPS = (
    Hardship("strict", ["life"], options=("-bb", "-W", "error", "-X", "dev")),
    # the program needs each of them at one moment
    Hardship("few files", ["life"], False, prefix=("prlimit", "--nofile=7")),
    Hardship("no memfd", ["life"], False, deny=("memfd_create", "EPERM")),
    Hardship(
        "no /proc",
        ["life"],
        False,
        prefix=("unshare", "--mount", "sh", "-c", HIDE_PROC, "sh", "ROOT"),
    ),
    Hardship("no standard files", ["numbers", "none"], prefix=("sh", "-c", CLOSED, "sh")),
    Hardship("all files closed", ["numbers", "all"]),
    Hardship("last words", ["last_words"]),
    Hardship("no memory", ["memory"], False),
    Hardship("forks in threads", ["forks"]),
    Hardship("programs", ["spawns"]),
    Hardship("shutdown", ["shutdown"], None),
    Hardship("on and off", ["cycles"], False),
    Hardship("signals", ["signals"]),
)


@pytest.mark.parametrize("hardship", HARDSHIPS, ids=lambda hardship: hardship.name)
def test_hardship(hardship: Hardship, tmp_path: Path) -> None:
    """What it prints, what it writes on stderr and how it ends are the same, on each interpreter."""
    wrong = []
    for interpreter in [testbed.require(*version) for version in testbed.MATRIX]:
        directories = {mode: tmp_path / f"{interpreter}-{mode}" for mode in MODES}
        running = {
            mode: _begin(hardship, interpreter, mode, directory)
            for mode, directory in directories.items()
        }
        ends = {mode: _end(process, directories[mode]) for mode, process in running.items()}
        for mode in MODES[1:]:
            if ends[mode] != ends["plain"]:
                wrong.append(f"{interpreter} {mode}: {ends[mode]}, without us {ends['plain']}")
            says = (directories[mode] / "says").read_text()
            if hardship.published not in {None, says == "published"}:
                wrong.append(f"{interpreter} {mode}: {says}")
    assert not wrong, "\n".join(wrong)


def _begin(
    hardship: Hardship, interpreter: testbed.Interpreter, mode: str, directory: Path
) -> subprocess.Popen[bytes]:
    """Start the program; what it says goes into files of the directory."""
    directory.mkdir()
    environment = harness.environ(mode, {"HARDSHIP_SAYS": str(directory / "says")})
    environment["HARDSHIP_OUT"] = str(directory / "out")
    if mode == "run":
        environment = launch.environment(environment)
    executable = interpreter.command[-1]
    deny = [str(TARGETS / "deny.py"), *hardship.deny, executable] if hardship.deny else []
    root = str(interpreter.root)
    with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
        return subprocess.Popen(
            [
                *(root if word == "ROOT" else word for word in hardship.prefix),
                *(*interpreter.command, *deny, *hardship.options, *FORKS),
                *(str(TARGETS / "hardship.py"), *hardship.body),
            ],
            cwd=testbed.CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def _end(process: subprocess.Popen[bytes], directory: Path) -> tuple[int, str, str]:
    """Return how it has ended: its status, its output and its errors."""
    try:
        status = process.wait(harness.DEADLINE)
    finally:
        process.kill()
        process.wait()
    out, err = ((directory / name).read_text() for name in ("out", "err"))
    return status, out.replace(str(directory), ""), err.replace(str(directory), "")
