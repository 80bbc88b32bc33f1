"""``/proc/PID/maps`` (proc_pid_maps(5)): which files a process has mapped."""

from __future__ import annotations

_PATH = 5
"""The fields in front of a path: addresses, rights, offset, device, inode."""


def parse_maps(data: bytes) -> frozenset[str]:
    """The mapped files, with `` (deleted)`` behind what has no name any more. Any bytes are a list of them.

    A newline in a name is ``\\012`` there, and stays so.
    """
    lines = (line.split(None, _PATH) for line in data.split(b"\n"))
    paths = (fields[_PATH] for fields in lines if len(fields) > _PATH)
    return frozenset(path.decode("utf-8", "replace") for path in paths if path.startswith(b"/"))
