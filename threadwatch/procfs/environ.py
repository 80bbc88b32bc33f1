"""Parses ``/proc/PID/environ`` (proc_pid_environ(5)): the environment that a program was started with."""

from __future__ import annotations


def parse_environ(data: bytes) -> dict[str, str] | None:
    """Return the variables by name; of two with the same name the first, as getenv(3) does.

    Return None for bytes that are not an environment: a program may write anything over it, as
    setproctitle does. Any bytes are one or the other.
    """
    if not data:
        return {}
    entries = data.decode("utf-8", "replace").rstrip("\0").split("\0")
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not (name and equals):
            return None
        found.setdefault(name, value)
    return found
