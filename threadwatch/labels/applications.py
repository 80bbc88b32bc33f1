"""Derives a process's application, and whether it is Python, from what the kernel shows of it.

A command line reads ``python3 /opt/venv/bin/gunicorn -w 4 shop.wsgi:application``; a person calls
that *shop*. So this module skips the interpreter's options as CPython reads them, looks through
tools that run another program (pdb, coverage, ``threadwatch run``), and takes from a launcher the
application that it serves. A program that writes a title over its arguments (setproctitle) gets the
same name from either.

Pure functions. Their input comes from targets and may be anything. The name that they return is
short, printable and not empty, at a cost that is bounded by :data:`MAX_ARGUMENTS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from threadwatch.labels.called import MAX_ARGUMENT, basename, called, is_interpreter, is_loader
from threadwatch.labels.discretion import without_secrets
from threadwatch.labels.launchers import application_in_title, launched_by, titled_by_python

NAME_LENGTH: Final = 100
UNKNOWN: Final = "(unknown)"
"""The name of a process that shows nothing to take a name from."""

_EXTENSION = re.compile(r"\.(?:py[cwz]?|pex)$")
# PEX unpacks an application below PEX_ROOT, into a directory named by a hash of the contents.
_PEX = re.compile(
    r".*/(?:unzipped_pexes/[0-9]+/[0-9a-f]{40}|venvs/[0-9]+/.*/pex)(?:/__main__\.py)?"
)
_UNNAMED: Final = {"code": "python -c", "stdin": "python -"}
_STANDARD_INPUT: Final = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")

# Processes that multiprocessing, its kin (billiard is celery's, loky joblib's) and their helpers run as
_CHILD_CODE = re.compile(
    r"(?:import sys; ?)?from (?:multiprocessing|multiprocess|billiard|(?:joblib\.externals\.)?loky\.backend)"
    r"\.(?:spawn|forkserver|resource_tracker|semaphore_tracker) import "
)
_CHILD_MODULE = re.compile(r"(?:joblib\.externals\.)?loky\.backend\.popen_loky_posix")
_CHILD_TITLE = re.compile(r"\[celeryd: [^\]]*PoolWorker-[0-9]+\]", re.DOTALL)


def application_name(
    *, exe: str | None, cmdline: Sequence[str], comm: str, pex: str | None = None
) -> str:
    """Return the application that a process runs, at most :data:`NAME_LENGTH` printable characters.

    ``exe`` is the target of ``/proc/PID/exe``, None where it cannot be read; ``cmdline`` the
    arguments, none for a kernel thread or a zombie; ``comm`` the kernel's name for the process; ``pex`` the
    file of an unpacked PEX (see :func:`is_unpacked_pex`), where it can be read.
    """
    call = called(cmdline)
    program = basename(exe) if exe else ""
    if program and not is_interpreter(program) and not is_loader(program):
        name = launched_by(program, call.words[1:]) or program  # uWSGI embeds Python
    elif not call.words:
        name = comm
    elif call.title:
        name = application_in_title(cmdline[0][:MAX_ARGUMENT]) or comm
    elif is_unpacked_pex(cmdline):
        name = _script(pex)[0] if pex else "pex"
    else:
        name = _run_by([call.words[0].removeprefix("-"), *call.words[1:]])  # "-": a login shell's
    chosen = tidy(name) or tidy(comm) or ("python" if program else "")
    return f"'{chosen}'" if chosen == UNKNOWN else chosen or UNKNOWN


def is_python(exe: str | None, cmdline: Sequence[str], comm: str) -> bool:
    """Return whether a process is a Python interpreter: by its program, or else by its names."""
    if exe and not is_loader(exe):
        return is_interpreter(exe)
    call = called(cmdline)
    if not call.words:
        return is_interpreter(comm)
    return is_interpreter(call.words[0]) or titled_by_python(cmdline[0][:MAX_ARGUMENT])


def is_unpacked_pex(cmdline: Sequence[str]) -> bool:
    """Return whether a process runs an unpacked PEX, whose path is a hash that does not name the application.

    The file that it came from stands in the process's environment as ``PEX``.
    """
    call = called(cmdline)
    if not call.words or call.title or not is_interpreter(call.words[0]):
        return False
    kind, rest = _target(call.words[1:], _INTERPRETER)
    return kind == "script" and _PEX.fullmatch(rest[0]) is not None


def is_multiprocessing_child(cmdline: Sequence[str]) -> bool:
    """Return whether a process was started by multiprocessing or its kin, and so belongs to its parent.

    True for the workers and helpers whose command line names no application: those of the start
    methods spawn and forkserver, resource trackers, joblib's and celery's workers. A child by fork
    has its parent's command line, and cannot be distinguished.
    """
    call = called(cmdline)
    if not call.words:
        return False
    if "--multiprocessing-fork" in call.words or _CHILD_TITLE.match(cmdline[0][:MAX_ARGUMENT]):
        return True
    kind, rest = _target(call.words[1:], _INTERPRETER)
    if kind == "code":
        return _CHILD_CODE.match(" ".join(rest) if call.joined else rest[0]) is not None
    return kind == "module" and _CHILD_MODULE.fullmatch(rest[0]) is not None


def without_arguments(cmdline: Sequence[str]) -> tuple[str, ...]:
    """Return a command line up to the script or module that it runs: later arguments and code may be secret.

    The code that multiprocessing runs names the kind of process, and stays. In a title, which is
    the program's own text, everything behind a word like an option is left out.
    """
    call = called(cmdline)
    if not call.words:
        return ()
    program, *arguments = call.words
    if call.title:
        kept = [program, *takewhile(lambda word: not word.startswith(("-", "(")), arguments)]
    elif not is_interpreter(program):
        kept = [program]
    else:
        kind, rest = _target(arguments, _INTERPRETER)
        if kind == "stdin":
            kept = [program, "-"]
        elif kind == "code" and not is_multiprocessing_child(cmdline):
            kept = [program, "-c"]
        elif kind == "code" and call.joined:
            kept = [program, "-c", *takewhile(lambda word: not word.startswith("-"), rest)]
        else:
            kept = [program, *arguments[: len(arguments) - max(len(rest) - 1, 0)]]
    return without_secrets((" ".join(kept),) if call.joined else tuple(kept))


def tidy(name: str) -> str:
    """Return a name without unprintable characters and outer blanks, at most :data:`NAME_LENGTH` long."""
    name = name[:MAX_ARGUMENT].strip()[:NAME_LENGTH].rstrip()
    if name.isprintable():
        return name
    return "".join(character if character.isprintable() else "?" for character in name)


@dataclass(frozen=True, slots=True)
class _Options:
    """The options that a program which runs Python code accepts before that code's name."""

    valued: str = ""
    """Letters that take a value."""
    long_valued: frozenset[str] = frozenset()
    code: str = ""
    """The letter before code: ``-c``."""
    command: str = ""
    """The subcommand that runs code, of a program that has others, too."""


# Python/initconfig.c and Python/getopt.c; --jit is PyPy's
_INTERPRETER: Final = _Options(
    valued="WXQ", long_valued=frozenset(("--check-hash-based-pycs", "--jit")), code="c"
)
_RUNNERS: Final[Mapping[str, _Options]] = {
    "cProfile": _Options(valued="os", long_valued=frozenset(("--outfile", "--sort"))),
    "profile": _Options(valued="os", long_valued=frozenset(("--outfile", "--sort"))),
    "coverage": _Options(
        long_valued=frozenset(
            f"--{name}" for name in (
                "concurrency", "context", "data-file", "include", "omit", "rcfile", "save-signal", "source",
            )
        ),
        command="run",
    ),
    "debugpy": _Options(
        long_valued=frozenset(
            f"--{name}" for name in (
                "adapter-access-token", "configure-qt", "configure-subProcess", "connect", "listen",
                "log-to", "parent-session-pid",
            )
        ),
        code="c",
    ),
    "pdb": _Options(valued="c", long_valued=frozenset(("--command",))),
    "threadwatch": _Options(command="run"),
}  # fmt: skip


def _target(arguments: Sequence[str], options: _Options) -> tuple[str, list[str]]:
    """Return what is run: its kind (script, module, code, stdin or nothing), and its name and arguments."""
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        index += 1
        if argument == "--":
            break
        if argument == "-":
            return "stdin", []
        if not argument.startswith("-"):
            return "script", [argument, *arguments[index:]]
        if argument.startswith("--"):
            index += argument in options.long_valued
            continue
        # One-letter options can be written together: -um pkg, -Xdev.
        for place, letter in enumerate(argument[1:], start=2):
            if letter == "m" or letter in options.code:
                rest = [argument[place:]] if argument[place:] else []
                rest += arguments[index:]
                return ("module" if letter == "m" else "code"), rest or [""]
            if letter in options.valued:
                index += not argument[place:]
                break
    rest = list(arguments[index:])
    return ("script" if rest else "nothing"), rest


def _run_by(arguments: list[str]) -> str:
    """Return the application of a command: a Python interpreter with its arguments, or any program."""
    kind, rest, name = "script", arguments, ""
    for _ in range(8):  # runners can run runners; 8 levels are enough
        if kind in _UNNAMED or not rest or not rest[0]:
            return _UNNAMED.get(kind, name)
        program, rest = rest[0], rest[1:]
        tool = True
        if kind == "module":
            name = program.removesuffix(".__main__")
        elif program.startswith(_STANDARD_INPUT):
            return _UNNAMED["stdin"]
        elif is_interpreter(program):
            name = "python"
            kind, rest = _target(rest, _INTERPRETER)
            continue
        else:
            name, tool = _script(program)
        options = _RUNNERS.get(name) if tool else None
        if options is None or (options.command and options.command not in rest[:1]):
            return (launched_by(name, rest) if tool else None) or name
        kind, rest = _target(rest[1:] if options.command else rest, options)
    return name


def _script(path: str) -> tuple[str, bool]:
    """Return a script's name, and whether it can be an installed tool (``./flask.py`` is not flask)."""
    name = basename(path)
    directory = basename(path.rstrip("/").rpartition("/")[0])
    if directory in {".", ".."}:
        directory = ""
    if name in {"__main__.py", ".", ".."}:
        return directory or "__main__", True
    if name == "manage.py":  # Django's: every project has one
        return directory or "manage", False
    return _EXTENSION.sub("", name), _EXTENSION.search(name) is None
