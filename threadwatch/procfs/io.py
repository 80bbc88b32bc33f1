"""Parses ``/proc/PID/task/TID/io`` (proc_pid_io(5))."""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.procfs.fields import line, number


@dataclass(frozen=True, slots=True)
class Io:
    """Bytes that a thread made the storage layer read and write (not what the page cache served)."""

    read_bytes: int
    write_bytes: int


def parse_io(data: bytes) -> Io:
    """Return the two counts, or :class:`Malformed`."""
    return Io(
        read_bytes=number(line(data, b"read_bytes: ", "io"), "io", "read_bytes"),
        write_bytes=number(line(data, b"write_bytes: ", "io"), "io", "write_bytes"),
    )
