"""Interpreters that are run with other rights than the tests themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests import harness
from tests.testbed import Interpreter


def as_user(uid: int, interpreter: Interpreter) -> Interpreter:
    """Return the interpreter, run by another user, who may not see each directory that it is installed in."""
    become = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
    if interpreter.root != Path("/"):
        return replace(interpreter, command=harness.command(interpreter, *become))
    return _where_all_can_read(interpreter, become)


def as_nobody(interpreter: Interpreter) -> Interpreter:
    """Return an interpreter that runs as an unprivileged user."""
    return as_user(65534, interpreter)


def as_root(interpreter: Interpreter) -> Interpreter:
    """Return the interpreter, run by root, at a place where others can read it later."""
    if interpreter.root != Path("/"):
        return interpreter
    return _where_all_can_read(interpreter, ())


def in_user_namespace(interpreter: Interpreter) -> Interpreter:
    """Return the interpreter, run by root of a user namespace, who is an unknown user outside."""
    become = ("/usr/bin/python3", str(harness.TARGETS / "userns.py"))
    if interpreter.root != Path("/"):
        # only root makes a user namespace behind chroot, and only root of one may use that
        return replace(interpreter, command=(*become, *interpreter.command))
    return _where_all_can_read(interpreter, become)


def _where_all_can_read(interpreter: Interpreter, become: tuple[str, ...]) -> Interpreter:
    """Return the machine's interpreter at a place that every user can read, behind the command ``become``."""
    executable = Path(interpreter.command[-1])
    mount = 'mount --bind "$1" /mnt && shift && exec "$@"'
    elsewhere = Path("/mnt") / executable.relative_to(executable.parents[1])
    libraries = (
        "env",
        "LD_LIBRARY_PATH=/mnt/lib",
    )  # where a shared libpython says that it is, is no more
    return replace(
        interpreter,
        command=(
            *("unshare", "--mount", "sh", "-c", mount, "sh", str(executable.parents[1])),
            *(*become, *libraries, str(elsewhere)),
        ),
    )
