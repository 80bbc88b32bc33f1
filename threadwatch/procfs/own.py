"""Reads what the kernel says of this very process, and its settings: files that never make us wait."""

from __future__ import annotations

import os
import resource

from threadwatch.errors import Malformed
from threadwatch.procfs.handles import MAX_FILE
from threadwatch.procfs.schedstat import parse_schedstat

_OWN = "/proc/self"
"""Our own ``/proc``, wherever the procfs is mounted that shows the targets."""


def read_own(name: str) -> bytes:
    """Return a file of this process; empty if it cannot be read."""
    return _read(f"{_OWN}/{name}")


def own_link(name: str) -> str:
    """Return the target of a link of this process; empty if it cannot be read."""
    return _link(f"{_OWN}/{name}")


def own_pid(root: str) -> int | None:
    """Return the PID of this process in the procfs at ``root``; None if that does not show this process."""
    link = _link(f"{root}/self")
    return int(link) if link.isdecimal() else None


def is_ready(tid: int) -> bool:
    """Return whether a thread of this process runs or is ready to run."""
    # comm, which can contain any bytes, ends at the last parenthesis.
    return _read(f"{_OWN}/task/{tid}/stat").rpartition(b")")[2][1:2] == b"R"


def has_schedstat() -> bool:
    """Return whether the kernel counts run times: without CONFIG_SCHED_INFO they are zero or absent."""
    try:
        return parse_schedstat(read_own("schedstat"))[0] > 0
    except Malformed:
        return False


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one: a watched process takes one or two descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def read_setting(root: str, name: str) -> bytes:
    """Return a file of the procfs at ``root`` outside of processes; empty if it cannot be read."""
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
