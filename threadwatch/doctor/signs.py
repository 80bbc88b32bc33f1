"""Reads the signs that a process shows: its Python, its options, whether it was asked to publish. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_INJECT: Final = "/threadwatch/inject"
"""The end of the directory that ``threadwatch run`` puts on PYTHONPATH."""
_OFF: Final = frozenset({"", "0", "false", "no", "off"})
_VERSION = re.compile(r"/(?:lib)?python([23]\.\d+)")
_EXECUTABLE = re.compile(r"(?:platform-)?(?:python|pypy)[0-9.]*[a-z]{0,2}(?:-dbg)?")


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence of a process that has no table of its own. None: it cannot be read."""

    cmdline: tuple[str, ...]
    exe: str | None
    """The path of its program."""
    files: frozenset[str] | None
    """The files that it has mapped."""
    environ: Mapping[str, str] | None
    """Its environment at the start, unless the program has overwritten that."""
    asked_above: int | None
    """The nearest ancestor that was started to publish."""
    age_s: float
    filtered: bool
    """Whether it has a filter of system calls (seccomp(2))."""
    most_files: int | None = None
    """Its limit of open files; also None without a limit."""
    most_bytes: int | None = None
    """Its limit of a file's size; also None without a limit."""
    table_of: int | None = None
    """The PID in the table that it holds, as that process sees itself."""
    is_own_number: bool = False
    """Whether that is its own PID."""
    is_of_ancestor: bool = False
    """Whether that is the PID of an ancestor."""


def was_asked(environ: Mapping[str, str]) -> bool:
    """Return whether a Python that starts with this environment publishes."""
    value = environ.get("THREADWATCH")
    return is_injected(environ) if value is None else value.strip().lower() not in _OFF


def before_ours(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the directories before ours on PYTHONPATH."""
    for path in environ.get("PYTHONPATH", "").split(":"):
        if path.rstrip("/").endswith(_INJECT):
            return
        if path:
            yield path


def is_injected(environ: Mapping[str, str]) -> bool:
    """Return whether PYTHONPATH has the directory that ``threadwatch run`` puts there."""
    paths = environ.get("PYTHONPATH", "").split(":")
    return any(path.rstrip("/").endswith(_INJECT) for path in paths)


def is_frozen(evidence: Evidence) -> bool:
    """Return whether it has a libpython beside its program, or where PyInstaller's programs unpack."""
    exe = evidence.exe or ""
    beside = exe.rpartition("/")[0] + "/"
    libraries = [path for path in evidence.files or () if "/libpython" in path]
    return not is_interpreter(exe) and any(
        "/_MEI" in path or path.startswith(beside) for path in libraries
    )


def is_pex(evidence: Evidence) -> bool:
    """Return whether it is a PEX, which starts Python anew, out of reach of ``threadwatch run``."""
    return any("/unzipped_pexes/" in word or word.endswith(".pex") for word in evidence.cmdline)


def python_of(evidence: Evidence) -> str | None:
    """Return ``3.8``, ``PyPy``; empty: there is no Python in it; None: unknown."""
    paths: Collection[str] = evidence.files or ()
    exe = (evidence.exe or "").removesuffix(" (deleted)")
    if "pypy" in exe.rpartition("/")[2] or any("/libpypy" in path for path in paths):
        return "PyPy"
    versions = {match[1] for path in (exe, *paths) for match in _VERSION.finditer(path)}
    if len(versions) == 1:
        return versions.pop()
    if versions or evidence.files is None or is_interpreter(exe):
        return None
    return None if evidence.environ and was_asked(evidence.environ) else ""


def is_interpreter(path: str) -> bool:
    """Return whether a program is called as interpreters are: ``python3.12``."""
    name = path.removesuffix(" (deleted)").rpartition("/")[2]
    return _EXECUTABLE.fullmatch(name) is not None


def flags_of(cmdline: Sequence[str]) -> frozenset[str]:
    """Return the one-letter options of an interpreter (Python/getopt.c)."""
    letters: set[str] = set()
    value = False
    for argument in cmdline[1:] if cmdline and is_interpreter(cmdline[0]) else ():
        if value:
            value = False
        elif argument.startswith("--") and len(argument) > 2:
            value = argument == "--check-hash-based-pycs"
        elif not argument.startswith("-") or argument in ("-", "--"):
            break
        else:
            for place, letter in enumerate(argument[1:], start=2):
                letters.add(letter)
                if letter in "cmWXQ":
                    value = letter in "WXQ" and not argument[place:]
                    break
            if letters & {"c", "m"}:
                break
    return frozenset(letters)
