"""Parses ``/proc/PID/limits`` (proc_pid_limits(5)): a process's limits."""

from __future__ import annotations

from threadwatch.errors import Malformed
from threadwatch.procfs.fields import find_line, number

_FILES = b"Max open files "
_FILE_SIZE = b"Max file size "


def parse_file_limits(data: bytes) -> tuple[int | None, int | None]:
    """Return the limits of open files and of a file's bytes (RLIMIT_NOFILE, RLIMIT_FSIZE; soft).

    None: there is no limit. Raise :class:`Malformed` if a line is missing.
    """
    return _soft(data, _FILES), _soft(data, _FILE_SIZE)


def _soft(data: bytes, key: bytes) -> int | None:
    what = key.decode("ascii").strip()
    rest = find_line(data, key)
    fields = rest.split() if rest is not None else []
    if not fields:
        raise Malformed("limits", f"has no line {what}")
    return None if fields[0] == b"unlimited" else number(fields[0], "limits", what)
