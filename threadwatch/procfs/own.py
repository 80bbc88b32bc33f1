"""What the kernel says of this very process, and its settings: files that keep nobody waiting."""

from __future__ import annotations

import os
import resource

from threadwatch.procfs.handles import MAX_FILE

_OWN = "/proc/self"
"""Always our own ``/proc``, wherever the one is mounted that shows the targets."""


def read_own(name: str) -> bytes:
    """A file of this process; empty where it is not to be had."""
    return _read(f"{_OWN}/{name}")


def own_link(name: str) -> str:
    """What a link of this process leads to; empty where it is not to be had."""
    return _link(f"{_OWN}/{name}")


def own_pid(root: str) -> int | None:
    """The PID of this process in the procfs at ``root``; None if that does not show it."""
    link = _link(f"{root}/self")
    return int(link) if link.isdecimal() else None


def is_ready(tid: int) -> bool:
    """Whether a thread of this process runs or would run, rather than wait for something."""
    # comm, which can have any bytes in it, ends at the last parenthesis
    return _read(f"{_OWN}/task/{tid}/stat").rpartition(b")")[2][1:2] == b"R"


def raise_file_limit() -> None:
    """Let this process open as many files as it may: it keeps one or two of each process that it watches."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def read_setting(root: str, name: str) -> bytes:
    """A file of the procfs at ``root`` that is no process's; empty where it is not to be had."""
    return _read(f"{root}/{name}")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_FILE)
    except OSError:
        return b""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
