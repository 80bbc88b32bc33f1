"""Runs ``threadwatch attach`` and ``threadwatch detach``: has a running process publish, or cease to."""

from __future__ import annotations

import pwd
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadwatch.attach import session
from threadwatch.attach.subject import Subject
from threadwatch.errors import Unusable
from threadwatch.labels.discretion import without_secrets
from threadwatch.procfs import parse_cmdline
from threadwatch.words.text import cut, printable

_COLUMNS = 60
"""Characters of a command line that are shown."""

_ATTACHES = """\
This changes that process: one of its own threads will run a script of threadwatch, some 20 ms long, between
two lines of its own code (PEP 768). From then on it publishes the names of its threads, until it ends or you
`threadwatch detach {pid}`; the publisher's modules stay loaded in it even then."""
_FILTERED = """\
Process {pid} has a seccomp filter. If that kills for the system call memfd_create, THE PROCESS DIES: what a
filter does cannot be seen from outside. Those of container engines and of systemd allow the call unless they
have been told otherwise."""


def attach(pid: int, *, yes: bool, timeout: float) -> int:
    """Have a process publish its threads; return the exit code.

    :raises Unusable: it cannot, or does not; in one line, why not.
    """
    with _attention(), Subject(pid) as subject:
        with subject.explained():
            if subject.publishes():
                print(f"Process {pid} publishes its threads already; nothing has been done.")
                return 0
            _tell(_introduction(subject))
        _tell(_ATTACHES.format(pid=pid))
        if subject.is_filtered:
            _tell(_FILTERED.format(pid=pid))
        if not yes:
            _ask("Attach?")
        try:
            session.attach(subject, timeout, _waiting)
        except Unusable as error:
            if subject.is_filtered and _has_ended(subject):
                raise Unusable(f"{error}: its seccomp filter may have killed it") from None
            raise
    print(f"Process {pid} publishes its threads: threadwatch ps {pid}")
    return 0


def detach(pid: int, *, timeout: float) -> int:
    """Have a process cease to publish; return the exit code.

    :raises Unusable: it cannot, or does not; in one line, why not.
    """
    with _attention(), Subject(pid) as subject:
        with subject.explained():
            if not subject.publishes():
                print(f"Process {pid} does not publish its threads; nothing has been done.")
                return 0
        session.detach(subject, timeout, _waiting)
    print(f"Process {pid} publishes its threads no more.")
    return 0


def _introduction(subject: Subject) -> str:
    """Describe the process, so that a wrong PID is noticed."""
    cmdline = without_secrets(parse_cmdline(subject.process.read_cmdline()))
    shown = cut(printable(" ".join(cmdline)), _COLUMNS)
    python = ".".join(map(str, subject.version))
    return f"Process {subject.pid} of {_user(subject.uid)} on CPython {python}: {shown}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _ask(question: str) -> None:
    """Ask the user. Raises :class:`Unusable` unless the answer is yes."""
    if not sys.stdin or not sys.stdin.isatty():
        raise Unusable(
            "standard input is no terminal to ask on: add --yes to attach without a question"
        )
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Unusable("not confirmed; nothing has been done")


def _has_ended(subject: Subject) -> bool:
    try:
        with subject.explained():
            subject.see_that_it_lives()
    except Unusable:
        return True
    return False


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _waiting(what: str) -> None:
    _tell(f"Waiting: {what}. Ctrl-C takes the request back.")


@contextmanager
def _attention() -> Iterator[None]:
    """Take SIGTERM and SIGHUP inside as Ctrl-C, so that they leave no request in the process."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
