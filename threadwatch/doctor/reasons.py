"""Derives why a process does not publish, from what it shows. Pure.

Rules:

* A reason is given only with evidence: a flag in the command line, a variable in the environment, a
mapped file. The nearest cause comes first: if the interpreter cannot publish at all, it does not
matter whether it was asked to.
* Without any evidence, the reason says so, and names the remaining possibilities.
* A remedy is one that works there: no ``threadwatch run`` for a process that ignores it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from threadwatch.doctor.signs import (
    Evidence,
    before_ours,
    flags_of,
    is_frozen,
    is_injected,
    is_interpreter,
    is_pex,
    python_of,
    was_asked,
)


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way to grant something."""

    where: str
    lines: tuple[str, ...]
    """Lines to copy as they are."""


_OLDEST: Final = (3, 9)
_FEWEST_FILES: Final = 64
"""The open files that a process must be allowed so that its publisher takes one (publisher/memfd.py)."""
_TABLE_BYTES: Final = 8 << 20
"""The size of a table: the process must be allowed a file of this size."""
_YOUNG_S: Final = 2.0
_TABLE_FILE: Final = "/memfd:threadwatch (deleted)"
_ASK: Final = (
    Remedy("start it by", ("threadwatch run -- COMMAND",)),
    Remedy("or by", ("THREADWATCH=1 COMMAND",)),
    Remedy("or in its code", ("import threadwatch; threadwatch.publish()",)),
)
_ATTACHABLE: Final = (3, 14)
_ATTACH: Final = Remedy("or as it runs", ("threadwatch attach PID",))
_CAN_BE_ATTACHED_TO: Final = frozenset(
    {"not-published", "environment-reset", "isolated", "no-site", "not-installed"}
)
"""The kinds of reasons that have to do with a process's start alone."""
_IN_CODE: Final = (Remedy("in its code", ("import threadwatch; threadwatch.publish()",)),)


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason why threads are not published."""

    kind: str
    """A short word for programs."""
    why: str
    """A sentence about a process, or several, without their names and without its full stop."""
    ways: tuple[Remedy, ...] = _ASK


def reason(evidence: Evidence, table: str) -> Reason:
    """Return why it does not publish; ``table`` is the state of its table."""
    found = (
        _of_program(evidence)
        or _of_table(evidence, table)
        or _of_limits(evidence)
        or _of_start(evidence)
    )
    found = found or _unexplained(evidence)
    if found.kind in _CAN_BE_ATTACHED_TO and _version(evidence) >= _ATTACHABLE:
        return replace(found, ways=(*found.ways, _ATTACH))
    return found


def _version(evidence: Evidence) -> tuple[int, ...]:
    """Return the version of its CPython, as far as it is known; else nothing."""
    python = python_of(evidence)
    return tuple(map(int, python.split("."))) if python and python[0].isdecimal() else ()


def _of_program(evidence: Evidence) -> Reason | None:
    python = python_of(evidence)
    if python is None:
        return None
    if python == "":
        return Reason("no-python", "It is not a Python process, as far as can be seen", ())
    if python.startswith("PyPy"):
        return Reason("unsupported", "On PyPy: only CPython can publish", ())
    if _version(evidence) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        return Reason("unsupported", f"On Python {python}: {oldest} and later can publish", ())
    return None


def _of_table(evidence: Evidence, table: str) -> Reason | None:
    if table == "closed":
        return Reason(
            "withdrawn", "Its code has ended publishing (threadwatch.unpublish())", _IN_CODE
        )
    if table == "another's":
        return _of_anothers_table(evidence)
    if table == "unfinished":
        return Reason("starting", "Publishing is just about to begin", ())
    if evidence.files and _TABLE_FILE in evidence.files:
        return Reason(
            "closed-files",
            "It has closed all its files, the table among them, as programs do that become a daemon. "
            "It makes another table when its next thread starts",
            (Remedy("in its code", ("import threadwatch; threadwatch.publish()  # behind that",)),),
        )
    return None


def _of_anothers_table(evidence: Evidence) -> Reason:
    if evidence.is_own_number:
        return Reason("anothers-table", "The only table is of an earlier process with this PID")
    if evidence.is_of_ancestor:
        return Reason(
            "forked",
            f"Only its parent's table is there (of PID {evidence.table_of}), as after a fork that was not "
            "made by os.fork: C code that forks runs none of Python's hooks",
            (
                Remedy("uWSGI's option", ("py-call-osafterfork = true",)),
                Remedy(
                    "or in its code",
                    ("import threadwatch; threadwatch.publish()  # behind the fork",),
                ),
            ),
        )
    return Reason(
        "anothers-table",
        f"The only table is of another process, PID {evidence.table_of}",
    )


def _of_limits(evidence: Evidence) -> Reason | None:
    if evidence.most_files is not None and evidence.most_files < _FEWEST_FILES:
        return Reason(
            "few-files",
            f"Only {evidence.most_files} open files are allowed there: the publisher takes one where "
            f"{_FEWEST_FILES} are",
            (
                Remedy("unit of systemd", ("LimitNOFILE=1024",)),
                Remedy("shell", ("ulimit -n 1024",)),
            ),
        )
    if evidence.most_bytes is not None and evidence.most_bytes < _TABLE_BYTES:
        return Reason(
            "file-size",
            f"Only files of {evidence.most_bytes:,} bytes may be written there, and a table counts as one of "
            "8 MiB",
            (Remedy("unit of systemd", ("LimitFSIZE=9M",)), Remedy("shell", ("ulimit -f 9216",))),
        )
    return None


def _of_start(evidence: Evidence) -> Reason | None:
    environ = evidence.environ
    if environ is None:
        return Reason(
            "not-published",
            "It is unknown whether anything has asked for it: the environment is hidden, or the program has "
            "written over it",
        )
    if is_frozen(evidence):
        return Reason(
            "frozen",
            "The program has a Python of its own that ignores the environment, as PyInstaller's programs do",
            _IN_CODE,
        )
    if not was_asked(environ):
        return _not_asked(evidence, environ)
    flags = flags_of(evidence.cmdline)
    if "S" in flags:
        return Reason(
            "no-site",
            "It was started with -S, so Python reads no start-up file, and so does not begin to publish",
            _IN_CODE,
        )
    if ignoring := flags & {"E", "I"}:
        said = " and ".join(f"-{letter}" for letter in sorted(ignoring))
        return Reason(
            "isolated",
            f"It was started with {said}, so Python ignores PYTHONPATH, by which `threadwatch run` reaches "
            "it. Installed in its own environment, prometheus-threadwatch needs THREADWATCH=1 alone",
            _install(evidence),
        )
    if evidence.age_s < _YOUNG_S:
        return Reason("starting", "It has only just started", ())
    if not is_injected(environ):
        path = environ.get("PYTHONPATH", "")
        run = Remedy(
            "or behind that" if path else "or start it by", ("threadwatch run -- COMMAND",)
        )
        put = f", and PYTHONPATH={shlex.quote(path)} lacks what `threadwatch run` puts there"
        return Reason(
            "not-installed",
            "It was started with THREADWATCH=1, but its Python has no prometheus-threadwatch installed"
            + put * bool(path),
            _install(evidence) if is_pex(evidence) else (*_install(evidence)[:1], run),
        )
    return None


def _not_asked(evidence: Evidence, environ: Mapping[str, str]) -> Reason:
    if "THREADWATCH" in environ:
        said = shlex.quote(f"THREADWATCH={environ['THREADWATCH']}")
        return Reason("switched-off", f"It was started with {said}, which forbids publishing")
    if evidence.asked_above is not None:
        return Reason(
            "environment-reset",
            f"Its ancestor, PID {evidence.asked_above}, was started to publish, but a process in between has "
            "made a new environment, as sudo, env -i and service managers do",
            (
                Remedy("behind that", ("sudo threadwatch run -- COMMAND",)),
                _ASK[2],
            ),
        )
    return Reason("not-published", "Neither its environment nor, as it seems, its code asks for it")


def _unexplained(evidence: Evidence) -> Reason:
    left, ways = [], [Remedy("to see why", ("THREADWATCH_DEBUG=1 threadwatch run -- COMMAND",))]
    if in_front := list(before_ours(evidence.environ or {})):
        places = " or ".join(in_front)
        left.append(f"a sitecustomize.py in {places} comes first and hides threadwatch's")
        ways.append(Remedy("or inside it", ("TOOL threadwatch run -- COMMAND",)))
    if evidence.exe is not None and not is_interpreter(evidence.exe):
        program = evidence.exe.rpartition("/")[2]
        left.append(f"{program} has Python built in, and does not run what starts publishing")
    if evidence.filtered:
        left.append("its filter of system calls (seccomp) refuses memfd_create")
    left.append("its code has ended publishing")
    left.append("the publisher has failed, and says why with THREADWATCH_DEBUG=1")
    return Reason(
        "unexplained",
        f"It was asked for, and nothing shows why it does not happen. Possible: {'; '.join(left)}",
        (*ways, _ASK[2]),
    )


def _install(evidence: Evidence) -> tuple[Remedy, ...]:
    if is_pex(evidence):
        build = Remedy("build it with", ("pex … CHECKOUT",))
        return build, Remedy("and start by", ("THREADWATCH=1 COMMAND",))
    first = evidence.cmdline[0] if evidence.cmdline else ""
    # A virtual environment's python is a link: only the name by which it was called names the
    # environment.
    called = first if first.startswith("/") and is_interpreter(first) else "python3"
    return (
        Remedy(
            "install there",
            (f"{shlex.quote(called)} -m pip install CHECKOUT",),
        ),
        Remedy("and start by", ("THREADWATCH=1 COMMAND",)),
    )
