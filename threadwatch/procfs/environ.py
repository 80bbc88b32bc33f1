"""``/proc/PID/environ`` (proc_pid_environ(5)): the environment that a program was started with."""

from __future__ import annotations


def parse_environ(data: bytes) -> dict[str, str] | None:
    """The variables by name; where one is given twice, the first, which is what getenv(3) gives.

    None for what is no environment: a program may write anything over it, as setproctitle does. Any bytes
    are one or the other.
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
