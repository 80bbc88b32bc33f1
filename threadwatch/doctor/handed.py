"""Tells which tables have been sent to a daemon's socket, and which tables a daemon has."""

from __future__ import annotations

from contextlib import suppress

from threadwatch.errors import Gone, Malformed, ReadError
from threadwatch.procfs import TABLE_LINK, ProcessDir, find_tables, parse_fdinfo
from threadwatch.targets.process import Process


def was_sent(watched: Process) -> bool:
    """Return whether the process has sent its table to a socket.

    A publisher locks a table before it sends it (:mod:`threadwatch.publisher.handover`). The kernel lists
    the lock beside the descriptor, so that nothing has to be locked here to find that out.

    :raises Gone: the process has ended.
    :raises ReadError: its descriptors cannot be seen.
    """
    for fd in find_tables(watched.dir):
        with suppress(Gone, Malformed), watched.dir.open_table(fd) as file:
            if watched.tables.follows(file.inode):
                return parse_fdinfo(watched.dir.read(f"fdinfo/{fd}", "fdinfo")).locked
    return False


def tables_of(daemon: ProcessDir) -> frozenset[int] | None:
    """Return the inodes of the tables that a daemon has open; None: its descriptors cannot be seen."""
    found: set[int] = set()
    try:
        for fd in daemon.fds():
            with suppress(Gone, Malformed):  # closed since the list was read, or no table
                if daemon.fd_link(fd) == TABLE_LINK:
                    with daemon.open_table(fd) as file:
                        found.add(file.inode)
    except (Gone, ReadError):
        return None
    return frozenset(found)
