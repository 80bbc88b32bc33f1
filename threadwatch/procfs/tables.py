"""Finds the thread tables among a process's open files, by the kernel's text for each file."""

from __future__ import annotations

from contextlib import suppress

from threadwatch.errors import Gone
from threadwatch.procfs.reader import TABLE_LINK, ProcessDir

MAX_TABLES = 64
"""Thread tables that are examined in one process: one for each subinterpreter."""


def find_tables(process: ProcessDir) -> list[int]:
    """Return the descriptors with the name of thread tables: at most :data:`MAX_TABLES`."""
    return find_some_tables(process, 0, None)[0]


def find_some_tables(process: ProcessDir, first: int, part: int | None) -> tuple[list[int], int]:
    """Do the same for ``part`` descriptors from ``first`` on; also return the next one, 0 at the end."""
    found: list[int] = []
    fds = process.fds(part, first=first)
    for fd in fds:
        with suppress(Gone):  # closed since the list was read
            if process.fd_link(fd) == TABLE_LINK:
                found.append(fd)
                if len(found) == MAX_TABLES:
                    return found, 0
    return found, (fds[-1] + 1 if len(fds) == part else 0)
