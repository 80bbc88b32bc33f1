"""Parses ``/proc/PID/cmdline`` (proc_pid_cmdline(5))."""

from __future__ import annotations


def parse_cmdline(data: bytes) -> tuple[str, ...]:
    """Return the arguments; empty for kernel threads and zombies. Any bytes are a command line.

    A program may write anything over its arguments. A title written there (setproctitle) has no NUL
    inside, and becomes one element, without the NULs or blanks that fill the old space. A
    consequence: empty arguments at the very end are lost.
    """
    text = data.rstrip(b"\0").decode("utf-8", "replace")
    if "\0" not in text:
        text = text.rstrip(" ")
    return tuple(text.split("\0")) if text else ()
