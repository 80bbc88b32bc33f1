"""Parses ``/proc/PID/fdinfo/FD`` (proc_pid_fdinfo(5))."""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.errors import Malformed
from threadwatch.procfs.fields import line, number


@dataclass(frozen=True, slots=True)
class FdInfo:
    """The facts about an open file descriptor that the kernel tells without touching the file itself."""

    mnt_id: int
    """The mount that the file is on; the kernel's own mounts (memfds, pipes) have one too."""
    flags: int
    """The ``O_*`` flags that it was opened with."""
    locked: bool = False
    """Whether there is a lock of the open file (flock(2)) or of the process (fcntl(2)) on it."""


def parse_fdinfo(data: bytes) -> FdInfo:
    """Return the mount, the flags and whether it is locked, or :class:`Malformed`."""
    flags = line(data, b"flags:\t", "fdinfo")
    if not flags.isdigit() or len(flags) > 12 or flags.strip(b"01234567"):
        raise Malformed("fdinfo", f"flags should be an octal number, not {flags[:40]!r}")
    return FdInfo(
        mnt_id=number(line(data, b"mnt_id:\t", "fdinfo"), "fdinfo", "mnt_id"),
        flags=int(flags, 8),
        locked=b"\nlock:\t" in data,
    )
